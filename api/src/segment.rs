//! Segments: what a camera announces, about 20 s long; and the half-open spans everything is asked by.

use crate::id::{ParseIdError, StreamId};
use aws_lc_rs::digest;
use lookback_wire::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A half-open span: `start` is in it, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange {
        start: Timestamp::from_millis(i64::MIN),
        end: Timestamp::from_millis(i64::MAX),
    };

    /// `None` unless `end` is after `start`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (end > start).then_some(Self { start, end })
    }

    pub fn millis(&self) -> i64 {
        self.end.millis_since(self.start)
    }

    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What both cover.
    pub fn intersection(&self, other: &TimeRange) -> Option<TimeRange> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// With this much more on both sides.
    pub fn widened(&self, millis: i64) -> TimeRange {
        TimeRange { start: self.start.plus_millis(-millis), end: self.end.plus_millis(millis) }
    }

    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// Why a segment was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum RecordingTrigger {
    #[default]
    Continuous,
    Event,
    Manual,
}

/// Segments of a stream that begin in the same window share one space of client identifiers.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;

/// How many segments as long as `newest`, of which each begins where the one before it ends, begin
/// after it in the window in which it ends; at least one, and the last of them ends in the next one.
pub fn count_to_window_end(newest: TimeRange) -> i64 {
    let length_ms = newest.millis().max(1);
    let left_ms = WINDOW_MS - newest.end.as_millis().rem_euclid(WINDOW_MS);
    (left_ms + length_ms - 1) / length_ms
}

/// A segment's identifier says where it is kept: its stream, the five-minute window that it begins
/// in, and a hash of the client's own identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    pub stream: StreamId,
    /// Window number: start divided by [`WINDOW_MS`].
    pub window: u32,
    /// The first 8 bytes of SHA-256 over the client's identifier.
    pub key: u64,
}

/// What a camera says of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSegment {
    pub client_segment_id: String,
    pub range: TimeRange,
    pub trigger: RecordingTrigger,
    pub codecs: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub size_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub id: SegmentId,
    pub client_segment_id: String,
    /// By the camera's clock.
    pub range: TimeRange,
    pub ingested_at: Timestamp,
    pub trigger: RecordingTrigger,
    pub codecs: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub size_bytes: Option<u64>,
}

/// Where a segment lies, and why it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    pub id: SegmentId,
    pub range: TimeRange,
    pub trigger: RecordingTrigger,
}

impl From<&Segment> for SegmentSpan {
    fn from(segment: &Segment) -> Self {
        Self { id: segment.id, range: segment.range, trigger: segment.trigger }
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seg_{}{:08x}{:016x}", self.stream.0, self.window, self.key)
    }
}

impl SegmentId {
    /// Where the segment of that start and client identifier is kept.
    pub fn of(stream: StreamId, start: Timestamp, client_segment_id: &str) -> Self {
        let (window, key) = window_and_key(start, client_segment_id);
        Self { stream, window, key }
    }
}

/// The number of the window that something begins in, and the first 8 bytes of SHA-256 over the
/// client's identifier.
pub fn window_and_key(start: Timestamp, client_id: &str) -> (u32, u64) {
    let window = start.as_millis().div_euclid(WINDOW_MS);
    let digest = digest::digest(&digest::SHA256, client_id.as_bytes());
    let key = digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let window = u32::try_from(window).unwrap_or(if window < 0 { 0 } else { u32::MAX });
    (window, key)
}

/// Both, from 8 and 16 lower-case hexadecimal digits.
pub fn parse_window_and_key(text: &str) -> Result<(u32, u64), ParseIdError> {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 8 + 16 || !text.bytes().all(lower_hex) {
        return Err(ParseIdError);
    }
    let window = u32::from_str_radix(&text[..8], 16).map_err(|_| ParseIdError)?;
    let key = u64::from_str_radix(&text[8..], 16).map_err(|_| ParseIdError)?;
    Ok((window, key))
}

impl Serialize for SegmentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for SegmentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let rest = text.strip_prefix("seg_").ok_or(ParseIdError)?;
        let (stream, rest) = rest.split_at_checked(26).ok_or(ParseIdError)?;
        let (window, key) = parse_window_and_key(rest)?;
        Ok(Self { stream: StreamId(stream.parse()?), window, key })
    }
}
