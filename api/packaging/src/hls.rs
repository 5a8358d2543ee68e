//! HLS playlists (RFC 8216; draft-pantos-hls-rfc8216bis).

use lookback_wire::Timestamp;

/// A media playlist (RFC 8216 §4.3.3).
#[derive(Clone, Debug)]
pub struct MediaPlaylist<'a> {
    /// Seconds; every segment's duration, rounded, is at most this.
    pub target_duration_s: u32,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub kind: PlaylistKind,
    /// EXT-X-START with PRECISE=YES, seconds from the first picture.
    pub start_offset_s: Option<f64>,
    pub segments: Vec<Segment<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Finished; EXT-X-ENDLIST.
    Vod,
    /// Only ever appended to.
    Event,
    /// A sliding window.
    Live,
}

/// One media segment and the tags before it.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub uri: std::borrow::Cow<'a, str>,
    /// In ticks of `timescale`: what its `trun`s add up to.
    pub duration: u64,
    pub timescale: u32,
    pub discontinuity: bool,
    /// EXT-X-MAP, where it differs from the segment's before.
    pub map_uri: Option<std::borrow::Cow<'a, str>>,
    pub program_date_time: Option<Timestamp>,
}

/// A multivariant playlist (RFC 8216 §4.3.4).
#[derive(Clone, Debug)]
pub struct MultivariantPlaylist<'a> {
    pub video: Option<Variant<'a>>,
    pub audio: Option<Rendition<'a>>,
}

#[derive(Clone, Debug)]
pub struct Variant<'a> {
    pub uri: std::borrow::Cow<'a, str>,
    pub bandwidth: u64,
    pub average_bandwidth: Option<u64>,
    pub codecs: String,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Rendition<'a> {
    pub uri: std::borrow::Cow<'a, str>,
    pub codecs: String,
    pub channels: u32,
}
