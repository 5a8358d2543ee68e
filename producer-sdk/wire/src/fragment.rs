//! What an upload holds: a header with tracks, then fragments of frames and tags.

use crate::payload::Payload;
use bytes::Bytes;

/// What comes before the first fragment (RFC 9559 §5.1.2 Info and §5.1.4 Tracks).
#[derive(Clone, Debug, PartialEq)]
pub struct UploadHeader {
    /// The same on every connection of one producer session; absent from some muxers.
    pub segment_uid: Option<[u8; 16]>,
    /// Nanoseconds of one timecode unit; 1,000,000 unless the upload says otherwise.
    pub timecode_scale_ns: u64,
    /// 1 to 3.
    pub tracks: Vec<Track>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackKind {
    Video,
    Audio,
}

/// A TrackEntry (RFC 9559 §5.1.4.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub number: u64,
    pub uid: u64,
    pub kind: TrackKind,
    pub name: Option<String>,
    /// Such as `V_MPEG4/ISO/AVC`, `V_MPEGH/ISO/HEVC`, `A_AAC`, `A_MS/ACM`.
    pub codec_id: String,
    /// `avcC`, `hvcC`, AudioSpecificConfig or WAVEFORMATEX, as the codec id has it.
    pub codec_private: Bytes,
    pub default_duration_ns: Option<u64>,
    /// Video: as declared, 0 where it was not.
    pub width: u32,
    pub height: u32,
    /// Audio: as declared, 0 where it was not.
    pub sampling_hz: f64,
    pub channels: u32,
    pub bit_depth: u32,
}

/// One coded picture or audio packet, in decode order.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// [`Track::number`].
    pub track: u64,
    /// Presentation time: the cluster's timecode plus the block's own, in timecode units.
    pub timecode: i64,
    pub key: bool,
    /// BlockDuration where the muxer wrote one, in timecode units.
    pub duration: Option<u64>,
    pub payload: Payload,
}

/// A SimpleTag (RFC 9559 §5.1.8.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimpleTag {
    pub name: String,
    pub value: String,
}

/// The tag that ends a fragment before the next one begins.
pub const END_OF_FRAGMENT: &str = "AWS_KINESISVIDEO_END_OF_FRAGMENT";
