//! Fragments that wait to be sent or to be acknowledged PERSISTED, oldest first, bounded by bytes
//! and by duration.

use crate::config::BufferLimits;
use bytes::Bytes;
use lookback_wire::{Timestamp, UploadHeader};
use std::collections::VecDeque;
use std::sync::Arc;

/// What can be told of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// The first frame's capture time: the cluster's timecode.
    pub start: Timestamp,
    /// The last frame's capture time plus its duration.
    pub end: Timestamp,
    /// As it is sent, the upload's header left out.
    pub bytes: u64,
    /// Whether it was marked as alarm footage.
    pub alarm: bool,
}

/// One cluster and the tags after it, as they are sent.
#[derive(Debug)]
pub struct Fragment {
    /// Rises from fragment to fragment; never used again.
    pub id: u64,
    pub info: FragmentInfo,
    /// What the upload that carries it begins with; known once it is `sendable`.
    pub header: Arc<UploadHeader>,
    /// Whether sending may begin: each track of the header is in it.
    pub sendable: bool,
    /// Whether it is whole.
    pub ended: bool,
    pub pieces: Vec<Bytes>,
}

impl Fragment {
    fn duration_ms(&self) -> u64 {
        u64::try_from(self.info.end.millis_since(self.info.start)).unwrap_or(0)
    }
}

/// Which fragments a connection has begun to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    None,
    /// Those with ids from `first` up to `current`, of which `current` is not yet sent whole.
    Range {
        first: u64,
        current: u64,
    },
}

/// The fragments. The newest one may still be open.
#[derive(Debug)]
pub struct Buffer {
    limits: BufferLimits,
    fragments: VecDeque<Fragment>,
    bytes: usize,
    next_id: u64,
}

impl Buffer {
    pub fn new(limits: BufferLimits) -> Self {
        Self { limits, fragments: VecDeque::new(), bytes: 0, next_id: 0 }
    }

    /// Opens a fragment, which becomes the newest.
    pub fn open(&mut self, header: Arc<UploadHeader>, start: Timestamp, alarm: bool) {
        let info = FragmentInfo { start, end: start, bytes: 0, alarm };
        self.fragments.push_back(Fragment {
            id: self.next_id,
            info,
            header,
            sendable: false,
            ended: false,
            pieces: Vec::new(),
        });
        self.next_id = self.next_id.saturating_add(1);
    }

    /// The fragment that is still open.
    pub fn open_fragment(&mut self) -> Option<&mut Fragment> {
        self.fragments.back_mut().filter(|fragment| !fragment.ended)
    }

    /// Adds bytes to the open fragment, which now lasts until `end`.
    pub fn append(&mut self, pieces: impl IntoIterator<Item = Bytes>, end: Timestamp) {
        let Some(fragment) = self.fragments.back_mut().filter(|fragment| !fragment.ended) else {
            return;
        };
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            self.bytes = self.bytes.saturating_add(piece.len());
            fragment.info.bytes = fragment.info.bytes.saturating_add(piece.len() as u64);
            fragment.pieces.push(piece);
        }
        fragment.info.end = fragment.info.end.max(end);
    }

    pub fn get(&self, id: u64) -> Option<&Fragment> {
        self.fragments.get(self.position(id)).filter(|fragment| fragment.id == id)
    }

    /// The oldest fragment with this id or a later one.
    pub fn at_or_after(&self, id: u64) -> Option<&Fragment> {
        self.fragments.get(self.position(id))
    }

    pub fn remove(&mut self, id: u64) -> Option<Fragment> {
        let position = self.position(id);
        if self.fragments.get(position)?.id != id {
            return None;
        }
        let fragment = self.fragments.remove(position)?;
        self.bytes = self.bytes.saturating_sub(fragment.info.bytes as usize);
        Some(fragment)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fragment> {
        self.fragments.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    pub fn len(&self) -> usize {
        self.fragments.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sum of the fragments' durations.
    pub fn duration_ms(&self) -> u64 {
        self.fragments.iter().map(Fragment::duration_ms).sum()
    }

    pub fn is_over(&self) -> bool {
        self.bytes > self.limits.bytes || self.duration_ms() > self.limit_ms()
    }

    /// Whether a quarter of the room is free: a source that can wait waits until then.
    pub fn has_room(&self) -> bool {
        self.bytes <= self.limits.bytes / 4 * 3 && self.duration_ms() <= self.limit_ms() / 4 * 3
    }

    /// Which fragment to drop when there is no room: the oldest that is whole, was not begun to be
    /// sent and is no alarm; where there is none, an alarm; then what is in flight, at last the one
    /// that is being sent, since dropping that costs the connection. The open fragment stands last
    /// of all.
    pub fn victim(&self, in_flight: InFlight) -> Option<u64> {
        let cost = |fragment: &Fragment| {
            let flight = match in_flight {
                InFlight::Range { current, .. } if fragment.id == current => 2,
                InFlight::Range { first, current } if (first..current).contains(&fragment.id) => 1,
                _ => 0,
            };
            (!fragment.ended, flight, fragment.info.alarm, fragment.id)
        };
        self.fragments.iter().min_by_key(|fragment| cost(fragment)).map(|fragment| fragment.id)
    }

    fn limit_ms(&self) -> u64 {
        u64::try_from(self.limits.duration.as_millis()).unwrap_or(u64::MAX)
    }

    fn position(&self, id: u64) -> usize {
        self.fragments.partition_point(|fragment| fragment.id < id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn buffer(alarms: &[bool]) -> Buffer {
        let limits = BufferLimits { bytes: 1000, duration: Duration::from_secs(10) };
        let mut buffer = Buffer::new(limits);
        let header =
            UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![] };
        let header = Arc::new(header);
        for (n, alarm) in alarms.iter().enumerate() {
            let start = Timestamp::from_millis(n as i64 * 1000);
            buffer.open(header.clone(), start, *alarm);
            buffer.append([Bytes::from_static(&[0; 100])], start.plus_millis(1000));
            if let Some(fragment) = buffer.open_fragment() {
                fragment.ended = n + 1 < alarms.len();
            }
        }
        buffer
    }

    #[test]
    fn victims_go_by_age_then_alarm_then_flight() {
        let check = |alarms: &[bool], in_flight, expected: &[u64]| {
            let mut buffer = buffer(alarms);
            let mut dropped = Vec::new();
            while let Some(id) = buffer.victim(in_flight) {
                buffer.remove(id);
                dropped.push(id);
            }
            assert_eq!(dropped, expected, "{alarms:?} {in_flight:?}");
            assert_eq!((buffer.bytes(), buffer.duration_ms()), (0, 0));
        };
        let no = false;
        check(&[no, no, no], InFlight::None, &[0, 1, 2]);
        check(&[true, no, no, no], InFlight::None, &[1, 2, 0, 3]);
        let flight = InFlight::Range { first: 0, current: 1 };
        check(&[no, no, no, true, no], flight, &[2, 3, 0, 1, 4]);
        check(&[no, no], InFlight::Range { first: 0, current: 1 }, &[0, 1]);
    }

    #[test]
    fn room_is_counted_in_bytes_and_in_footage() {
        assert!(buffer(&[false; 7]).has_room());
        assert!(!buffer(&[false; 8]).has_room());
        assert!(!buffer(&[false; 10]).is_over());
        assert!(buffer(&[false; 11]).is_over());
    }
}
