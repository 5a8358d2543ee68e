//! `CalendarDay`.

use super::scalar::LocalDate;
use super::time_range::{TimeRange, seconds};
use crate::playback::timeline;
use async_graphql::SimpleObject;

/// A civil day in some zone.
#[derive(Clone, Debug, SimpleObject)]
pub struct CalendarDay {
    date: LocalDate,
    /// The instants it spans: 24 hours, or 23 to 25 where clocks change; a day that a zone skips is left out.
    range: TimeRange,
    covered_seconds: f64,
    event_count: i32,
}

impl From<timeline::Day> for CalendarDay {
    fn from(day: timeline::Day) -> Self {
        Self {
            date: LocalDate(day.date),
            range: day.range.into(),
            covered_seconds: seconds(day.covered_ms),
            event_count: i32::try_from(day.events).unwrap_or(i32::MAX),
        }
    }
}
