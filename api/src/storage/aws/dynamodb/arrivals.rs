//! How much arrived for each stream on each UTC day. Every server counts by itself and writes its own
//! total into an attribute of its own, so that a request may be repeated and servers never meet; the
//! sum of the attributes is what arrived. Written every hour, as each write costs as much as one of a
//! window.

use super::day;
use super::store::{Store, fault};
use super::tables::EXPIRES;
use crate::id::{StreamId, Ulid};
use crate::storage::{Result, utc_day};
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// How far a day's item may lag behind.
const WRITE_EVERY_MS: i64 = 60 * 60 * 1000;
/// Attributes of servers begin with it.
const ARRIVED: char = 'a';
/// Of a server's name: 40 bits of chance.
const NAME_CHARS: usize = 8;

/// What arrived since this server began: for each stream on the last two days, and on days whose
/// items were not told yet.
#[derive(Debug)]
pub struct Arrivals {
    /// The attribute of this server.
    own: String,
    streams: Mutex<HashMap<StreamId, BTreeMap<i64, Counted>>>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    total: u64,
    /// Of `total`, what the item was told.
    written: u64,
    /// When the item was last told; at first, when the count began.
    written_at: Timestamp,
}

/// What an item is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    stream: StreamId,
    day: i64,
    total: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        let chance = Ulid::new(Timestamp::from_millis(0)).to_string();
        let name = chance.len().checked_sub(NAME_CHARS).and_then(|from| chance.get(from..));
        Self { own: format!("{ARRIVED}{}", name.unwrap_or(&chance)), streams: Mutex::default() }
    }
}

impl Arrivals {
    /// Counts; answers what it is time to write: of today every hour, of the days before at once.
    fn note(&self, stream: StreamId, at: Timestamp, bytes: u64) -> Vec<Due> {
        let today = utc_day(at);
        let mut streams = self.streams.lock();
        let days = streams.entry(stream).or_default();
        let begun = Counted { total: 0, written: 0, written_at: at };
        let counted = days.entry(today).or_insert(begun);
        counted.total = counted.total.saturating_add(bytes);
        days.retain(|day, counted| *day >= today - 1 || counted.written < counted.total);
        let mut due = Vec::new();
        for (day, counted) in days {
            let is_time = *day < today || at.millis_since(counted.written_at) >= WRITE_EVERY_MS;
            if is_time && counted.written < counted.total {
                counted.written_at = at;
                due.push(Due { stream, day: *day, total: counted.total });
            }
        }
        due
    }

    fn written(&self, due: Due) {
        let mut streams = self.streams.lock();
        let counted = streams.get_mut(&due.stream).and_then(|days| days.get_mut(&due.day));
        if let Some(counted) = counted {
            counted.written = counted.written.max(due.total);
        }
    }

    fn unwritten(&self) -> Vec<Due> {
        let streams = self.streams.lock();
        let days = streams.iter().flat_map(|(stream, days)| days.iter().map(|day| (*stream, day)));
        days.filter(|(_, (_, counted))| counted.written < counted.total)
            .map(|(stream, (day, counted))| Due { stream, day: *day, total: counted.total })
            .collect()
    }

    fn total(&self, stream: StreamId, day: i64) -> Option<u64> {
        let streams = self.streams.lock();
        streams.get(&stream)?.get(&day).map(|counted| counted.total)
    }
}

pub async fn note(
    store: &Store,
    arrivals: &Arrivals,
    stream: StreamId,
    at: Timestamp,
    bytes: u64,
) -> Result<()> {
    for due in arrivals.note(stream, at, bytes) {
        write(store, arrivals, due).await?;
    }
    Ok(())
}

/// Tells the items what they do not know yet.
pub async fn flush(store: &Store, arrivals: &Arrivals) -> Result<()> {
    let writes = arrivals.unwritten().into_iter().map(|due| write(store, arrivals, due));
    try_join_all(writes).await.map(|_| ())
}

async fn write(store: &Store, arrivals: &Arrivals, due: Due) -> Result<()> {
    let table = &store.tables.timeline;
    let request = store
        .client
        .update_item()
        .table_name(table)
        .set_key(Some(day::key(due.stream, due.day)))
        .update_expression(format!("SET #own = :total, {EXPIRES} = :expiry"))
        .expression_attribute_names("#own", &arrivals.own)
        .expression_attribute_values(":total", AttributeValue::N(due.total.to_string()))
        .expression_attribute_values(":expiry", day::expiry(due.day));
    let answer = {
        let _request = store.request().await?;
        request.send().await
    };
    answer.map_err(|error| fault("UpdateItem", table, &error))?;
    arrivals.written(due);
    Ok(())
}

/// The bytes that arrived for each stream on days from `first` to `last`, both included.
pub async fn totals(
    store: &Store,
    arrivals: &Arrivals,
    streams: &[StreamId],
    first: i64,
    last: i64,
) -> Result<Vec<u64>> {
    let totals = streams.iter().map(|stream| total(store, arrivals, *stream, first, last));
    try_join_all(totals).await
}

async fn total(
    store: &Store,
    arrivals: &Arrivals,
    stream: StreamId,
    first: i64,
    last: i64,
) -> Result<u64> {
    let mut sum = 0u64;
    let mut add = |bytes: u64| sum = sum.saturating_add(bytes);
    for (day, item) in day::read(store, stream, first, last).await? {
        let known_here = arrivals.total(stream, day).is_some();
        for (name, value) in item.iter().filter(|(name, _)| name.starts_with(ARRIVED)) {
            if !(known_here && *name == arrivals.own) {
                add(value.as_n().ok().and_then(|digits| digits.parse().ok()).unwrap_or(0));
            }
        }
    }
    (first..=last).filter_map(|day| arrivals.total(stream, day)).for_each(add);
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_due_by_the_hour_and_at_the_end_of_a_day() {
        const HOUR_MS: i64 = 3_600_000;
        let arrivals = Arrivals::default();
        let stream = StreamId(Ulid(7));
        let noon = Timestamp::from_millis(12 * HOUR_MS);
        let note = |hours: i64, bytes| {
            let due = arrivals.note(stream, noon.plus_millis(hours * HOUR_MS), bytes);
            due.iter().for_each(|due| arrivals.written(*due));
            due.iter().map(|due| (due.day, due.total)).collect::<Vec<_>>()
        };
        assert_eq!(note(0, 1), []);
        assert_eq!(note(1, 2), [(0, 3)]);
        assert_eq!(note(1, 4), []);
        assert_eq!(note(11, 8), [(0, 15)]);
        assert_eq!(note(11, 16), []);
        assert_eq!(note(12, 32), [(0, 31)], "what the hour had not told yet");
        assert_eq!(note(13, 64), [(1, 96)]);
        assert_eq!(arrivals.total(stream, 0), Some(31));
        assert_eq!(note(36, 0), []);
        assert_eq!(arrivals.total(stream, 0), None);
        assert_eq!(arrivals.unwritten(), []);
    }
}
