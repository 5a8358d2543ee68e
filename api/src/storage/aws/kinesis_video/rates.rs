//! The rates that Kinesis Video Streams holds its clients to ("Amazon Kinesis Video Streams
//! quotas"), kept on this side, so that its refusals are the exception.

use crate::clock::Clock;
use crate::storage::{Result, StorageError};
use crate::throttle::Pace;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Calls of one operation on one stream.
const CALLS_PER_S: u32 = 5;
/// Calls of CreateStream on one account.
const CREATED_PER_S: u32 = 50;
/// A call that would have to wait for longer is refused: whoever asked waits for 10 s at most, and
/// the call takes some of them.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Streams and operations whose calls are counted. One that is forgotten begins anew.
const MAX_COUNTED: usize = 100_000;

pub const CREATE_STREAM: &str = "CreateStream";

#[derive(Debug)]
pub struct Rates {
    clock: Arc<Clock>,
    calls: Mutex<HashMap<(&'static str, String), Pace>>,
}

impl Rates {
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, calls: Mutex::default() }
    }

    /// Waits for the turn of a call.
    pub async fn turn(&self, operation: &'static str, stream: &str) -> Result<()> {
        let wait = self.reserve(operation, stream).ok_or_else(|| {
            StorageError::Unavailable(format!(
                "{operation} of video stream {stream} is asked for more than {CALLS_PER_S} times a \
                 second"
            ))
        })?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How long to wait for a turn that is kept; none where that is too long.
    fn reserve(&self, operation: &'static str, stream: &str) -> Option<Duration> {
        let (key, per_s) = match operation {
            CREATE_STREAM => ((operation, String::new()), CREATED_PER_S),
            _ => ((operation, stream.to_owned()), CALLS_PER_S),
        };
        let mut calls = self.calls.lock();
        if calls.len() >= MAX_COUNTED {
            calls.clear();
        }
        let pace = calls.entry(key).or_insert_with(|| Pace::per_second(per_s));
        let mut taken = *pace;
        let wait = taken.spend(1, self.clock.now());
        let is_short = wait <= MAX_WAIT;
        if is_short {
            *pace = taken;
        }
        is_short.then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::Timestamp;

    #[test]
    fn calls_wait_for_their_turn_and_too_many_are_refused() {
        let clock = Arc::new(Clock::manual(Timestamp::from_millis(1_000_000)));
        let rates = Rates::new(clock.clone());
        let waits = |count: usize, operation, stream: &str| -> Vec<Option<u128>> {
            let wait = || rates.reserve(operation, stream).map(|wait| wait.as_millis());
            (0..count).map(|_| wait()).collect()
        };
        // A second's worth at once, then one in 200 ms, up to 4 s ahead.
        assert_eq!(waits(7, "GetClip", "a")[4..], [Some(0), Some(200), Some(400)]);
        assert_eq!(waits(20, "GetClip", "a")[17..], [Some(4_000), None, None]);
        // Neither another stream nor another operation waits for it.
        assert_eq!(waits(1, "GetClip", "b"), [Some(0)]);
        assert_eq!(waits(1, "GetImages", "a"), [Some(0)]);
        clock.set(Timestamp::from_millis(1_004_000));
        assert_eq!(waits(1, "GetClip", "a"), [Some(200)]);
        // Those that make streams wait for each other.
        assert_eq!(waits(50, CREATE_STREAM, "c")[49], Some(0));
        assert_eq!(waits(1, CREATE_STREAM, "d"), [Some(20)]);
    }
}
