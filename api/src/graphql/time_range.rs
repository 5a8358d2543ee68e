//! `TimeRange`, its input, and the order along time.

use super::fault::Fault;
use super::scalar::DateTime;
use crate::config::Limits;
use crate::{segment, storage};
use async_graphql::{Enum, InputObject, SimpleObject};

pub const DAY_MS: i64 = 86_400_000;

/// A half-open span of time.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct TimeRange {
    start: DateTime,
    end: DateTime,
    /// `end - start`, in seconds with millisecond resolution.
    duration_seconds: f64,
}

impl From<segment::TimeRange> for TimeRange {
    fn from(range: segment::TimeRange) -> Self {
        Self {
            start: DateTime(range.start),
            end: DateTime(range.end),
            duration_seconds: seconds(range.millis()),
        }
    }
}

pub fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// A half-open span of time to ask for; `end` must be after `start`.
#[derive(Clone, Copy, Debug, InputObject)]
pub struct TimeRangeInput {
    start: DateTime,
    end: DateTime,
}

impl TimeRangeInput {
    /// The span, where it is one.
    pub fn span(self) -> Option<segment::TimeRange> {
        segment::TimeRange::new(self.start.0, self.end.0)
    }

    /// The span, where it is one and no longer than one question may be about.
    pub fn check(self, limits: &Limits) -> Result<segment::TimeRange, Fault> {
        let range = self
            .span()
            .ok_or_else(|| Fault::BadInput("range.end must be after range.start".into()))?;
        let days = limits.query_range_days;
        if range.millis() > i64::from(days) * DAY_MS {
            let message = format!(
                "range is {} s long; at most {days} days are answered at once",
                seconds(range.millis())
            );
            return Err(Fault::BadInput(message));
        }
        Ok(range)
    }
}

/// Order along time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "storage::TimeOrder")]
pub enum TimeOrder {
    OldestFirst,
    NewestFirst,
}
