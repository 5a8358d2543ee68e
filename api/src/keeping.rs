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
