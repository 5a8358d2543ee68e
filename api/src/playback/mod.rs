//! From a time range to what players ask for. No HTTP.

use crate::id::SessionId;
use crate::segment::TimeRange;
use lookback_wire::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Hls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    OnDemand(TimeRange),
    Live,
}

/// A signed way to play something.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub protocol: Protocol,
    /// Path and file below the service's own address; a bearer secret.
    pub path: String,
    pub mime_type: &'static str,
    /// The span that it really plays, widened to key frames; none for live.
    pub range: Option<TimeRange>,
    /// Seconds from the first picture that it plays to the instant asked for.
    pub start_offset_s: f64,
    /// Holes inside.
    pub gaps: Vec<TimeRange>,
    /// RFC 6381.
    pub codecs: Option<String>,
    pub expires_at: Timestamp,
}

/// Why media cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub code: UnavailableCode,
    pub message: String,
    /// The nearest footage, where there is some.
    pub nearest: Option<TimeRange>,
}

/// See the contract's `MediaUnavailableCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableCode {
    NoMedia,
    Expired,
    RangeTooLong,
    CodecNotSupported,
    MixedCodecs,
    NotSupported,
    BackendUnavailable,
}
