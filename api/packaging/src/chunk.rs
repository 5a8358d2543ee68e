//! Frames into chunks: at most 1 s of one track as `moof` + `mdat`, decode times absolute.

use crate::TrackInit;
use bytes::Bytes;
use lookback_wire::{Payload, UploadHeader, codec::CodecError};

/// A frame on the stream's timeline.
#[derive(Clone, Debug)]
pub struct TimedFrame {
    /// Index into [`Packager::inits`].
    pub track: usize,
    /// Presentation time, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub duration_ns: Option<u64>,
    pub key: bool,
    pub payload: Payload,
}

/// At most 1 s of one track: `moof` and `mdat`.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub track: usize,
    /// `tfdt`: in the track's timescale, since the Unix epoch.
    pub decode_time: u64,
    /// The sum of its samples' durations, in the track's timescale.
    pub duration: u64,
    /// Whether its first sample is a sync sample.
    pub key: bool,
    /// `moof` and the header of `mdat`.
    pub head: Bytes,
    /// The samples, as they came.
    pub samples: Vec<Payload>,
}

impl Chunk {
    /// Bytes of head and samples.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.samples.iter().map(|s| s.len() as u64).sum::<u64>()
    }
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Packages one upload. Feed it the frames of a fragment in decode order, then end the fragment.
#[derive(Debug)]
pub struct Packager;

impl Packager {
    pub fn new(_header: &UploadHeader) -> Result<Self, CodecError> {
        Ok(Self)
    }

    /// One per track of the header, in its order.
    pub fn inits(&self) -> &[TrackInit] {
        &[]
    }

    /// Adds a frame; answers the chunks that it completes.
    pub fn push(&mut self, _frame: TimedFrame) -> Vec<Chunk> {
        Vec::new()
    }

    /// Ends the fragment: the remaining chunks. `next_start_ns` is the next fragment's start where
    /// it is known, and bounds the last frames' durations.
    pub fn finish(&mut self, _next_start_ns: Option<i64>) -> Vec<Chunk> {
        Vec::new()
    }

    /// Forgets an unfinished fragment.
    pub fn abandon(&mut self) {}
}
