//! The rates that Kinesis Video Streams holds its clients to ("Amazon Kinesis Video Streams quotas").
//! Off unless configured: a camera's backlog drains as fast as the link is here. Connections that
//! read media are counted always.

use crate::id::StreamId;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Calls of one operation on one stream.
const CALLS_PER_S: u32 = 5;
/// Media of one upload.
const UPLOADED_BYTES_PER_S: u32 = 12_500_000;
/// Media of one reading connection.
const READ_BYTES_PER_S: u32 = 25_000_000;
/// Fragments of one connection, either way.
const FRAGMENTS_PER_S: u32 = 5;
/// How long an upload may last.
const MAX_UPLOAD_MS: i64 = 45 * 60 * 1_000;
/// Streams and operations whose calls are counted. One that is forgotten begins anew.
const MAX_COUNTED: usize = 100_000;

/// Connections that may read one stream at once by one operation, as the service has it and as we do.
const READERS_BY_QUOTA: [(&str, usize); 2] = [("GetMedia", 3), ("GetMediaForFragmentList", 5)];
const MAX_READERS_PER_STREAM: usize = 32;
/// All of them together: each holds a fragment of up to 50 MB in memory.
const MAX_READERS: usize = 256;

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// So many units a second, of which a second's worth may come at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What one unit takes.
    unit_ns: i64,
    /// When all that was taken will have been earned.
    earned_ns: i64,
}

impl Pace {
    pub fn per_second(units: u32) -> Self {
        Self { unit_ns: NS_PER_S / i64::from(units.max(1)), earned_ns: i64::MIN }
    }

    /// Takes one unit, if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let after = self.after(1, now);
        let is_earned = after.saturating_sub(nanos(now)) <= NS_PER_S;
        if is_earned {
            self.earned_ns = after;
        }
        is_earned
    }

    /// Takes units that are there already; answers how long to wait before more of them.
    pub fn spend(&mut self, units: u64, now: Timestamp) -> Duration {
        self.earned_ns = self.after(units, now);
        let wait_ns = self.earned_ns.saturating_sub(nanos(now)).saturating_sub(NS_PER_S);
        Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(0))
    }

    fn after(&self, units: u64, now: Timestamp) -> i64 {
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        self.earned_ns.max(nanos(now)).saturating_add(units.saturating_mul(self.unit_ns))
    }
}

fn nanos(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(NS_PER_MS)
}

/// The rates of one connection that carries media.
#[derive(Clone, Copy, Debug)]
pub struct MediaPace {
    bytes: Pace,
    fragments: Pace,
}

impl MediaPace {
    /// Counts what went through; answers how long to wait before more.
    pub fn spend(&mut self, bytes: u64, fragments: u64, now: Timestamp) -> Duration {
        self.bytes.spend(bytes, now).max(self.fragments.spend(fragments, now))
    }
}

/// Holds callers to the rates, where it is on.
#[derive(Debug)]
pub struct Throttle {
    is_on: bool,
    calls: Mutex<HashMap<(StreamId, &'static str), Pace>>,
    readers: Arc<Mutex<HashMap<(StreamId, &'static str), usize>>>,
}

/// One connection that reads media, until it is dropped.
#[derive(Debug)]
pub struct Reading {
    readers: Arc<Mutex<HashMap<(StreamId, &'static str), usize>>>,
    key: (StreamId, &'static str),
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                readers.remove(&self.key);
            }
        }
    }
}

impl Throttle {
    pub fn new(is_on: bool) -> Self {
        Self { is_on, calls: Mutex::default(), readers: Arc::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether one more call of `operation` on the stream is within its rate.
    pub fn admits(&self, stream: StreamId, operation: &'static str, now: Timestamp) -> bool {
        if !self.is_on {
            return true;
        }
        let mut calls = self.calls.lock();
        if calls.len() >= MAX_COUNTED {
            calls.clear();
        }
        let pace = calls.entry((stream, operation));
        pace.or_insert_with(|| Pace::per_second(CALLS_PER_S)).take(now)
    }

    /// Counts a connection that reads the stream by `operation`; `None` where there are too many.
    pub fn open_reader(&self, stream: StreamId, operation: &'static str) -> Option<Reading> {
        let quota = READERS_BY_QUOTA.iter().find(|(name, _)| self.is_on && *name == operation);
        let most = quota.map_or(MAX_READERS_PER_STREAM, |(_, most)| *most);
        let key = (stream, operation);
        let mut readers = self.readers.lock();
        let open = readers.get(&key).copied().unwrap_or(0);
        if open >= most || readers.values().sum::<usize>() >= MAX_READERS {
            return None;
        }
        readers.insert(key, open + 1);
        Some(Reading { readers: self.readers.clone(), key })
    }

    /// The rates of a new upload.
    pub fn upload(&self) -> Option<MediaPace> {
        self.media(UPLOADED_BYTES_PER_S)
    }

    /// The rates of a connection that reads media.
    pub fn read(&self) -> Option<MediaPace> {
        self.media(READ_BYTES_PER_S)
    }

    /// How long an upload may last.
    pub fn max_upload_ms(&self) -> Option<i64> {
        self.is_on.then_some(MAX_UPLOAD_MS)
    }

    fn media(&self, bytes_per_s: u32) -> Option<MediaPace> {
        let fragments = Pace::per_second(FRAGMENTS_PER_S);
        self.is_on.then(|| MediaPace { bytes: Pace::per_second(bytes_per_s), fragments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_the_rest_at_its_pace() {
        let mut pace = Pace::per_second(5);
        let table =
            [(0, 5), (0, 0), (199, 0), (200, 1), (399, 0), (1_000, 4), (9_000, 5), (8_000, 0)];
        for (ms, admitted) in table {
            let got = std::iter::repeat_with(|| pace.take(at(ms))).take_while(|taken| *taken);
            assert_eq!(got.count(), admitted, "at {ms} ms");
        }
    }

    #[test]
    fn what_was_spent_is_waited_for() {
        let throttle = Throttle::new(true);
        let mut pace = throttle.upload().unwrap();
        let table = [
            (0, 12_500_000, 0, 0),
            (0, 1_250_000, 0, 100),
            (100, 0, 0, 0),
            (1_100, 12_500_000, 5, 0),
            (1_100, 0, 1, 200),
            (5_000, u64::MAX, 0, i64::MAX),
        ];
        for (ms, bytes, fragments, wait_ms) in table {
            let wait = pace.spend(bytes, fragments, at(ms));
            assert!(
                wait == Duration::from_millis(wait_ms as u64) || wait_ms == i64::MAX,
                "{ms}: {wait:?}"
            );
        }
    }

    #[test]
    fn calls_are_counted_by_stream_and_operation() {
        let (one, other) = (StreamId::new(at(0)), StreamId::new(at(0)));
        let count = |throttle: &Throttle, stream, operation| {
            (0..20).filter(|_| throttle.admits(stream, operation, at(0))).count()
        };
        let throttle = Throttle::new(true);
        assert_eq!(count(&throttle, one, "GetMedia"), 5);
        assert_eq!(count(&throttle, one, "PutMedia"), 5);
        assert_eq!(count(&throttle, other, "GetMedia"), 5);
        assert_eq!(count(&throttle, one, "GetMedia"), 0);
        let off = Throttle::new(false);
        assert_eq!(count(&off, one, "GetMedia"), 20);
        assert!(off.upload().is_none() && off.read().is_none());
    }

    #[test]
    fn readers_are_counted_until_they_leave() {
        let open = |throttle: &Throttle, stream, operation| -> Vec<Reading> {
            std::iter::from_fn(|| throttle.open_reader(stream, operation)).take(1_000).collect()
        };
        let stream = || StreamId::new(at(0));
        let (one, off) = (stream(), Throttle::new(false));
        let readers = open(&off, one, "GetMedia");
        assert_eq!(readers.len(), MAX_READERS_PER_STREAM);
        assert_eq!(open(&off, one, "GetMediaForFragmentList").len(), MAX_READERS_PER_STREAM);
        let others: Vec<_> = (0..100).map(|_| open(&off, stream(), "GetMedia")).collect();
        assert_eq!(readers.len() + others.iter().map(Vec::len).sum::<usize>(), MAX_READERS);
        drop(readers);
        assert_eq!(open(&off, one, "GetMedia").len(), MAX_READERS_PER_STREAM);

        let on = Throttle::new(true);
        let held = open(&on, one, "GetMedia");
        assert_eq!((held.len(), open(&on, one, "GetMediaForFragmentList").len()), (3, 5));
    }
}
