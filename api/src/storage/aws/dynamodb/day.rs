//! Items of `timeline` that are about one stream's UTC day. Their place in the partition is the day's
//! number with a minus, which no window has.
//!
//! | attribute | what |
//! | --- | --- |
//! | `p`, `w` | the stream's ULID; minus the day's number |
//! | `a` and 8 characters | bytes that arrived on the day, as one server counted them: see `arrivals` |
//! | `x` | when DynamoDB may delete the item |

use super::store::{Item, Store, fault};
use super::tables::{PARTITION, WINDOW};
use super::window;
use crate::id::StreamId;
use crate::storage::{ARRIVALS_KEPT_DAYS, Result, start_of_utc_day};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;

/// The key of a stream's day.
pub fn key(stream: StreamId, day: i64) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (PARTITION.to_owned(), window::partition(stream)),
        (WINDOW.to_owned(), place(day)),
    ])
}

fn place(day: i64) -> AttributeValue {
    AttributeValue::N(day.saturating_neg().to_string())
}

/// When a day's item may go, for [`EXPIRES`](super::tables::EXPIRES).
pub fn expiry(day: i64) -> AttributeValue {
    let end = start_of_utc_day(day.saturating_add(ARRIVALS_KEPT_DAYS).saturating_add(1));
    AttributeValue::N((end.as_millis() / 1_000).to_string())
}

/// The items that there are of days from `first` to `last`, both included, with the days' numbers.
/// They may be up to a second old.
pub async fn read(
    store: &Store,
    stream: StreamId,
    first: i64,
    last: i64,
) -> Result<Vec<(i64, Item)>> {
    let table = &store.tables.timeline;
    let mut found = Vec::new();
    let mut start = None;
    if first > last {
        return Ok(found);
    }
    loop {
        let answer = {
            let _request = store.request().await?;
            store
                .client
                .query()
                .table_name(table)
                .key_condition_expression(format!(
                    "{PARTITION} = :p AND {WINDOW} BETWEEN :a AND :b"
                ))
                .expression_attribute_values(":p", window::partition(stream))
                .expression_attribute_values(":a", place(last))
                .expression_attribute_values(":b", place(first))
                .set_exclusive_start_key(start)
                .send()
                .await
        };
        let answer = answer.map_err(|error| fault("Query", table, &error))?;
        for item in answer.items.unwrap_or_default() {
            let place: Option<i64> = item.get(WINDOW).and_then(|w| w.as_n().ok()?.parse().ok());
            let place = place.ok_or_else(|| window::damaged(stream, "a day has no number"))?;
            found.push((place.saturating_neg(), item));
        }
        start = answer.last_evaluated_key;
        if start.is_none() {
            return Ok(found);
        }
    }
}
