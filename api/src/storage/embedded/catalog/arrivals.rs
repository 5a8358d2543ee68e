//! How much arrived for each stream on each UTC day: counted in memory, since every fragment adds to
//! it, and written every few minutes. A crash takes what was not written out of the count.

use super::tables::{Tables, get, key, put};
use super::users::first_keys;
use crate::id::StreamId;
use crate::storage::embedded::lmdb::{time_from_key, time_key};
use crate::storage::{ARRIVALS_KEPT_DAYS, Result};
use heed::{RoTxn, RwTxn};
use parking_lot::Mutex;
use std::collections::HashMap;

/// What is not in the table yet; at most one entry for each stream and day.
#[derive(Debug, Default)]
pub struct Arrivals {
    totals: Mutex<HashMap<(StreamId, i64), u64>>,
}

impl Arrivals {
    /// Adds to what arrived on a day; `stored` reads what the table says of it.
    pub fn note(
        &self,
        stream: StreamId,
        day: i64,
        bytes: u64,
        stored: impl FnOnce() -> Result<u64>,
    ) -> Result<()> {
        let mut totals = self.totals.lock();
        let known = match totals.get(&(stream, day)) {
            Some(known) => *known,
            None => stored()?,
        };
        totals.insert((stream, day), known.saturating_add(bytes));
        Ok(())
    }

    /// What arrived on a day, where the table may not know it. To be asked before the table is: what
    /// is no longer known here is there.
    pub fn total(&self, stream: StreamId, day: i64) -> Option<u64> {
        self.totals.lock().get(&(stream, day)).copied()
    }

    /// Writes all to the table, from which days go that are too old. What was written is forgotten
    /// by [`Arrivals::written`], once it is durable.
    pub fn write(&self, tables: &Tables, txn: &mut RwTxn) -> Result<Written> {
        let totals: Vec<_> = self.totals.lock().iter().map(|(of, total)| (*of, *total)).collect();
        for ((stream, day), total) in &totals {
            put(txn, tables.arrivals, &day_key(*stream, *day), total)?;
            forget(tables, txn, *stream, day.saturating_sub(ARRIVALS_KEPT_DAYS))?;
        }
        Ok(Written(totals))
    }

    pub fn written(&self, written: Written) {
        let mut totals = self.totals.lock();
        for (of, total) in written.0 {
            if totals.get(&of) == Some(&total) {
                totals.remove(&of);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.totals.lock().is_empty()
    }
}

/// What [`Arrivals::write`] put into a transaction.
pub struct Written(Vec<((StreamId, i64), u64)>);

pub fn stored(tables: &Tables, txn: &RoTxn, stream: StreamId, day: i64) -> Result<u64> {
    Ok(get(txn, tables.arrivals, &day_key(stream, day))?.unwrap_or(0))
}

/// Takes days before `before` out of the table.
pub fn forget(tables: &Tables, txn: &mut RwTxn, stream: StreamId, before: i64) -> Result<()> {
    let prefix = stream.0.to_be_bytes();
    while let Some(oldest) = first_keys(txn, tables.arrivals, &prefix, 1)?.first() {
        let day = oldest.get(16..).and_then(|day| day.try_into().ok()).map(time_from_key);
        if day.is_some_and(|day| day >= before) {
            break;
        }
        tables.arrivals.delete(txn, oldest)?;
    }
    Ok(())
}

fn day_key(stream: StreamId, day: i64) -> Vec<u8> {
    key(&[&stream.0.to_be_bytes(), &time_key(day)])
}

#[cfg(test)]
mod tests {
    use crate::id::{StreamId, Ulid};
    use crate::storage::embedded::catalog::EmbeddedCatalog;
    use crate::storage::{ARRIVALS_KEPT_DAYS, Catalog, start_of_utc_day};

    #[tokio::test]
    async fn counts_go_on_where_they_were_written_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let stream = StreamId(Ulid(7));
        for (day, bytes, first, total) in [
            (20_000, 1, 20_000, 1),
            (20_000, 2, 20_000, 3),
            (20_001, 4, 20_000, 7),
            (20_000 + ARRIVALS_KEPT_DAYS, 8, 20_000, 15),
            (20_001 + ARRIVALS_KEPT_DAYS, 16, 20_000, 28),
        ] {
            let open = || EmbeddedCatalog::open(dir.path()).unwrap();
            let catalog = open();
            catalog.note_arrived(stream, start_of_utc_day(day), bytes).await.unwrap();
            catalog.close().await.unwrap();
            drop(catalog);
            let found = open().arrived_bytes(&[stream], first, day).await.unwrap();
            assert_eq!(found, [total], "day {day}");
        }
    }
}
