//! Acknowledgements, as PutMedia's response carries them (KVS API, PutMedia, "Response Syntax"):
//! flat JSON objects, one an HTTP chunk, each ended by a newline.

use std::fmt;

/// A fragment's number: rises in the order of ingestion within a stream, never reused.
/// Written as 20 decimal digits, so that its text sorts as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentNumber(pub u64);

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

/// What went wrong with an upload, by KVS's error ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorId {
    StreamReadError,
    MaxFragmentSizeReached,
    MaxFragmentDurationReached,
    MaxConnectionDurationReached,
    FragmentTimecodeLesserThanPrevious,
    InvalidMkvData,
    InvalidProducerTimestamp,
    StreamNotActive,
    FragmentMetadataLimitReached,
    TrackNumberMismatch,
    FramesMissingForTrack,
    MoreThanAllowedTracksFound,
    StreamDeleted,
    InternalError,
    ArchivalError,
    /// One that this version does not know.
    Other(u32),
}

/// One acknowledgement. Timecodes are the cluster's own, in its units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    Buffering { timecode: u64, number: FragmentNumber },
    Received { timecode: u64, number: FragmentNumber },
    Persisted { timecode: u64, number: FragmentNumber },
    Error { timecode: Option<u64>, number: Option<FragmentNumber>, error: ErrorId },
    Idle,
}
