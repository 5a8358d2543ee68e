//! What a reader takes, and why no more.

/// What a reader refuses; each has its reason beside it in [`Limits::default`].
#[derive(Clone, Debug)]
pub struct Limits {
    pub source: Source,
    pub fragment_bytes: u64,
    pub fragment_ms: u64,
    pub tracks: usize,
    pub tags_per_fragment: usize,
    pub tag_name_bytes: usize,
    pub tag_value_bytes: usize,
    /// Any element that is kept whole while it is read: all but Segment, Cluster and blocks.
    pub element_bytes: u64,
    /// Any element that is left out.
    pub skipped_bytes: u64,
    pub codec_private_bytes: u64,
    /// SimpleTags within SimpleTags.
    pub depth: usize,
}

/// What the bytes are, and with that which rules hold beyond Matroska's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A live upload: fragments in order (4004), each begins with a key frame (4006), lasts no
    /// longer than it may (4002) and has a frame of every track (4011).
    Upload,
    /// A file as muxers write it, whose clusters begin anywhere. Tracks that are neither video nor
    /// audio are left out.
    Recording,
}

impl Default for Limits {
    /// For uploads: what Kinesis Video Streams accepts ("Amazon Kinesis Video Streams quotas"), so
    /// that no producer made for it is refused.
    fn default() -> Self {
        Self {
            source: Source::Upload,
            // The quota is 50 MB; the larger reading of it.
            fragment_bytes: 50 << 20,
            // The quota, between a fragment's earliest and latest frame.
            fragment_ms: 20_000,
            // The quota.
            tracks: 3,
            // The quota. AWS's own tags are counted apart, up to as many again.
            tags_per_fragment: 10,
            // The quotas.
            tag_name_bytes: 128,
            tag_value_bytes: 256,
            // Tracks with the largest codec privates fit, and 20 of the largest tags.
            element_bytes: 256 << 10,
            // Live muxers pad with a few KiB of Void; more is not footage.
            skipped_bytes: 1 << 20,
            // Parameter sets take below 1 KiB; 64 KiB leaves room for H.265 with SEI messages.
            codec_private_bytes: 64 << 10,
            // Live producers do not nest them at all.
            depth: 4,
        }
    }
}

impl Limits {
    /// For reading a recording from a file that its owner chose: bounded in memory, otherwise wide.
    pub fn recording() -> Self {
        Self {
            source: Source::Recording,
            // Only a block is held in memory at a time; muxers end clusters at some MB.
            fragment_bytes: 1 << 30,
            // Clusters are not fragments here.
            fragment_ms: u64::MAX,
            // Recordings have further languages and subtitles.
            tracks: 64,
            // Muxers write statistics of each track as tags.
            tags_per_fragment: 4096,
            tag_name_bytes: 1 << 10,
            tag_value_bytes: 1 << 20,
            element_bytes: 16 << 20,
            // Cues and attachments (fonts, covers) are as large as they are; skipping costs nothing.
            skipped_bytes: u64::MAX,
            codec_private_bytes: 1 << 20,
            depth: 8,
        }
    }
}
