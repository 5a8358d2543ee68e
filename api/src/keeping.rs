//! For how long footage is kept: what a plan says, what a hold says beyond it, and what is not
//! there: deleted on request, or never recorded.

use crate::account::{RetentionMode, RetentionPlan};
use crate::id::{HoldId, StreamId};
use crate::media_stream::MediaSettings;
use crate::segment::TimeRange;
use lookback_wire::{FragmentNumber, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest span of one hold.
pub const MAX_HOLD_MS: i64 = 24 * HOUR_MS;
/// Holds of one stream: all of them are looked at when footage is to go.
pub const MAX_HOLDS: usize = 1_000;
/// Deletions of one stream that are remembered, neighbours joined.
pub const MAX_DELETIONS: usize = 1_000;
/// Gaps of one stream that its camera explained: a month of them at one an hour.
pub const MAX_KNOWN_GAPS: usize = 1_000;
/// In a plan for events only, what no event has claimed by then goes.
pub const CLAIM_MS: i64 = HOUR_MS;
/// Whoever watches live needs this much, also where nothing is to be kept.
const LIVE_TAIL_MS: i64 = 5 * 60 * 1000;
const HOUR_MS: i64 = 3_600_000;

/// How a stream's footage is kept, counted from arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    pub hours: u32,
    pub mode: RetentionMode,
}

impl Keeping {
    /// What a plan says, or in place of its days what was set for the stream itself.
    pub fn of(plan: &RetentionPlan, stream: &MediaSettings) -> Self {
        let hours = stream.retention_hours.unwrap_or(plan.days.saturating_mul(24));
        Self { hours, mode: plan.mode }
    }

    pub fn kept_ms(self) -> i64 {
        i64::from(self.hours).saturating_mul(HOUR_MS).max(LIVE_TAIL_MS)
    }

    /// Whether this keeps all that `other` does.
    pub fn covers(self, other: Keeping) -> bool {
        self == self.or(other)
    }

    /// What keeps all that either does.
    pub fn or(self, other: Keeping) -> Keeping {
        let mode = match (self.mode, other.mode) {
            (RetentionMode::EventOnly, RetentionMode::EventOnly) => RetentionMode::EventOnly,
            _ => RetentionMode::Continuous,
        };
        Keeping { hours: self.hours.max(other.hours), mode }
    }
}

/// How long what keeps less waits until it is in force.
const GRACE_MS: i64 = 24 * HOUR_MS;

/// How a stream is kept, and how it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In force.
    pub keeping: Keeping,
    /// What keeps less, and when it was first noted.
    pub less: Option<(Keeping, Timestamp)>,
}

impl Kept {
    /// As it is first noted.
    pub fn new(keeping: Keeping) -> Self {
        Self { keeping, less: None }
    }

    /// Notes how it is to be kept now: what keeps longer is in force at once, what keeps less a day
    /// after it was first noted and every time since.
    pub fn note(&mut self, keeping: Keeping, now: Timestamp) {
        self.less = if keeping.covers(self.keeping) {
            self.keeping = keeping;
            None
        } else {
            self.keeping = self.keeping.or(keeping);
            match self.less {
                Some((noted, since)) if noted == keeping && now.millis_since(since) >= GRACE_MS => {
                    self.keeping = keeping;
                    None
                }
                // A clock that was set back does not make it wait for longer.
                Some((noted, since)) if noted == keeping => Some((noted, since.min(now))),
                _ => Some((keeping, now)),
            }
        };
    }
}

/// A span of a stream's footage that is kept beyond its retention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: HoldId,
    pub stream: StreamId,
    /// On the timeline.
    pub range: TimeRange,
    pub reason: Option<String>,
    /// By the service's clock; none until it is released.
    pub until: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl Hold {
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Why a camera has no footage of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KnownReason {
    /// It was set not to record.
    NotScheduled,
    DeviceOffline,
}

/// A span that a camera says it has no footage of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGap {
    pub range: TimeRange,
    pub reason: KnownReason,
}

/// A span of a stream's footage that was deleted on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub stream: StreamId,
    /// On the timeline.
    pub range: TimeRange,
    /// Fragments of larger numbers came later and are footage of their own. No two deletions of a
    /// stream have the same.
    #[serde(with = "fragment_number")]
    pub last: FragmentNumber,
    /// Whether all of it is gone.
    pub is_done: bool,
}

impl Deletion {
    /// Takes in those of `others`, the stream's other deletions, that are done and touch this one,
    /// which is done; answers them, with the oldest of the rest that are too many.
    pub fn take_in(&mut self, mut others: Vec<Deletion>) -> Vec<Deletion> {
        others.retain(|other| other.is_done && other.last != self.last);
        // Taking one in may make it touch the next.
        let touches =
            |one: &TimeRange, other: &TimeRange| one.start <= other.end && other.start <= one.end;
        let mut gone = Vec::new();
        while let Some(place) = others.iter().position(|o| touches(&o.range, &self.range)) {
            let other = others.swap_remove(place);
            self.range.start = self.range.start.min(other.range.start);
            self.range.end = self.range.end.max(other.range.end);
            gone.push(other);
        }
        others.sort_by_key(|other| other.last);
        let too_many = (others.len() + 1).saturating_sub(MAX_DELETIONS);
        gone.extend(others.drain(..too_many.min(others.len())));
        gone
    }
}

mod fragment_number {
    use lookback_wire::FragmentNumber;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &FragmentNumber, to: S) -> Result<S::Ok, S::Error> {
        number.0.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FragmentNumber, D::Error> {
        u64::deserialize(from).map(FragmentNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RetentionMode::{Continuous, EventOnly};

    #[test]
    fn the_longer_of_two_keeps_what_either_does() {
        let keeping = |hours, mode| Keeping { hours, mode };
        for (one, other, both) in [
            ((24, Continuous), (48, Continuous), (48, Continuous)),
            ((24, Continuous), (48, EventOnly), (48, Continuous)),
            ((24, EventOnly), (48, EventOnly), (48, EventOnly)),
        ] {
            let [one, other, both] = [one, other, both].map(|(hours, mode)| keeping(hours, mode));
            assert_eq!((one.or(other), other.or(one)), (both, both));
            assert!(both.covers(one) && both.covers(other));
            assert_eq!(one.covers(other), one == both);
        }
        assert_eq!(keeping(0, Continuous).kept_ms(), LIVE_TAIL_MS);
        assert_eq!(keeping(1, Continuous).kept_ms(), HOUR_MS);
    }
}
