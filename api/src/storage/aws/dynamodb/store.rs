//! Requests to DynamoDB: a bounded number at a time, pages and batches followed to their end, and
//! errors that name the request, the table and the cause.

use super::keys::{Key, Places};
use super::tables::{EXPIRES, PARTITION, SORT, Tables};
use crate::storage::{Result, StorageError, TimeOrder};
use aws_lc_rs::rand;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Select};
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests under way at once. Each holds a connection; more only wait elsewhere.
const MAX_REQUESTS: usize = 64;
/// What one BatchGetItem may ask for.
const MAX_BATCH: usize = 100;
/// How often DynamoDB is asked again for what it left out of a batch, or a change is tried again
/// that met another one.
pub const MAX_ROUNDS: u32 = 12;
/// The wait after the first round is up to this long; it doubles to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The attribute that holds a record as JSON.
pub const RECORD: &str = "r";
/// The attribute that is another one after each change of an item: chance.
pub const VERSION: &str = "v";

/// An item's attributes, its key with them.
pub type Item = HashMap<String, AttributeValue>;

#[derive(Debug)]
pub struct Store {
    pub client: Client,
    pub tables: Tables,
    requests: Semaphore,
}

impl Store {
    pub fn new(client: Client, tables: Tables) -> Self {
        Self { client, tables, requests: Semaphore::new(MAX_REQUESTS) }
    }

    /// To be held while a request is under way.
    pub async fn request(&self) -> Result<SemaphorePermit<'_>> {
        let closed = |_| StorageError::Unavailable("the catalog is closed".into());
        self.requests.acquire().await.map_err(closed)
    }

    /// The item of `core` under `key`, as the last write left it.
    pub async fn item(&self, key: &Key) -> Result<Option<Item>> {
        let _request = self.request().await?;
        let table = &self.tables.core;
        let request = self.client.get_item().table_name(table).consistent_read(true);
        let found = request.set_key(Some(key.attributes())).send().await;
        Ok(found.map_err(|error| fault("GetItem", table, &error))?.item)
    }

    /// The record under `key`.
    pub async fn record<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.item(key).await?.as_ref().map(record).transpose()
    }

    /// One answer for each key, in order.
    pub async fn items(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let batches = distinct.chunks(MAX_BATCH).map(|keys| self.batch(keys));
        let found: HashMap<Key, Item> =
            try_join_all(batches).await?.into_iter().flatten().collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    /// One answer for each key, in order.
    pub async fn records<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<Option<T>>> {
        let items = self.items(keys).await?;
        items.iter().map(|item| item.as_ref().map(record).transpose()).collect()
    }

    /// What there is under `keys`, at most [`MAX_BATCH`]. DynamoDB may leave some out, for size or
    /// for haste; those are asked for again.
    async fn batch(&self, keys: &[Key]) -> Result<Vec<(Key, Item)>> {
        let table = &self.tables.core;
        let mut wanted: Vec<_> = keys.iter().map(Key::attributes).collect();
        let mut found = Vec::with_capacity(keys.len());
        for round in 0..MAX_ROUNDS {
            if wanted.is_empty() {
                return Ok(found);
            }
            let asked = wanted.len();
            let all = KeysAndAttributes::builder().consistent_read(true).set_keys(Some(wanted));
            let all = all.build().map_err(|error| invalid("BatchGetItem", table, &error))?;
            let answer = {
                let _request = self.request().await?;
                self.client.batch_get_item().request_items(table, all).send().await
            };
            let answer = answer.map_err(|error| fault("BatchGetItem", table, &error))?;
            for item in answer.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                found.push((key_of(&item)?, item));
            }
            let left = answer.unprocessed_keys.into_iter().flatten();
            wanted = left.flat_map(|(_, left)| left.keys).collect();
            // Progress is not a reason to wait.
            if wanted.len() >= asked {
                pause(round).await;
            }
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        Err(StorageError::Unavailable(format!(
            "BatchGetItem of {table} left {} of {} items out {MAX_ROUNDS} times",
            wanted.len(),
            keys.len()
        )))
    }

    /// Items of `core` in the order of their places; at most `limit`.
    pub async fn list(&self, places: &Places, limit: usize) -> Result<Vec<Item>> {
        let mut found = Vec::new();
        let mut start = None;
        while found.len() < limit && places.first <= places.last {
            let items;
            (items, start) = self.page(places, limit - found.len(), start).await?;
            found.extend(items);
            if start.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// The next items of `core` in the order of their places, at most `limit`, and after which of
    /// them the next page begins; none at the end.
    pub async fn page(
        &self,
        places: &Places,
        limit: usize,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>)> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let request = self.neighbours(places).limit(limit).set_exclusive_start_key(start);
        let answer = {
            let _request = self.request().await?;
            request.send().await
        };
        let answer = answer.map_err(|error| fault("Query", &self.tables.core, &error))?;
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
    }

    /// Records of `core` in the order of their places; at most `limit`.
    pub async fn list_records<T: DeserializeOwned>(
        &self,
        places: &Places,
        limit: usize,
    ) -> Result<Vec<T>> {
        self.list(places, limit).await?.iter().map(record).collect()
    }

    /// How many items a partition of `core` has.
    pub async fn count(&self, partition: String) -> Result<usize> {
        let places = Places::all(partition);
        let mut count = 0usize;
        let mut start = None;
        loop {
            let request = self.neighbours(&places).select(Select::Count);
            let answer = {
                let _request = self.request().await?;
                request.set_exclusive_start_key(start).send().await
            };
            let answer = answer.map_err(|error| fault("Query", &self.tables.core, &error))?;
            count = count.saturating_add(usize::try_from(answer.count).unwrap_or(0));
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    fn neighbours(
        &self,
        places: &Places,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.core)
            .consistent_read(true)
            .scan_index_forward(places.order == TimeOrder::OldestFirst)
            .key_condition_expression(format!("{PARTITION} = :p AND {SORT} BETWEEN :a AND :b"))
            .expression_attribute_values(":p", AttributeValue::S(places.partition.clone()))
            .expression_attribute_values(":a", AttributeValue::S(places.first.clone()))
            .expression_attribute_values(":b", AttributeValue::S(places.last.clone()))
    }

    /// Writes a record, whatever was there.
    pub async fn put<T: Serialize>(&self, key: &Key, record: &T) -> Result<()> {
        self.put_item(item_of(key, encode(record)?, None, &new_version()?)).await
    }

    pub async fn put_item(&self, item: Item) -> Result<()> {
        let table = &self.tables.core;
        let _request = self.request().await?;
        let put = self.client.put_item().table_name(table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| fault("PutItem", table, &error))
    }

    /// Deletes an item, where there is one.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        let table = &self.tables.core;
        let _request = self.request().await?;
        let request = self.client.delete_item().table_name(table).set_key(Some(key.attributes()));
        request.send().await.map(|_| ()).map_err(|error| fault("DeleteItem", table, &error))
    }
}

/// The attributes of a record under `key`.
pub fn item_of(key: &Key, record: String, expires: Option<Timestamp>, version: &str) -> Item {
    let mut item = key.attributes();
    item.insert(RECORD.into(), AttributeValue::S(record));
    item.insert(VERSION.into(), AttributeValue::N(version.to_owned()));
    if let Some(at) = expires {
        let seconds = at.as_millis().div_euclid(1_000);
        item.insert(EXPIRES.into(), AttributeValue::N(seconds.to_string()));
    }
    item
}

/// A number that no change of the item had before.
pub fn new_version() -> Result<String> {
    let mut chance = [0u8; 8];
    rand::fill(&mut chance)
        .map_err(|_| StorageError::Unavailable("the system's random source failed".into()))?;
    Ok(u64::from_be_bytes(chance).to_string())
}

pub fn encode<T: Serialize>(record: &T) -> Result<String> {
    serde_json::to_string(record)
        .map_err(|error| StorageError::Damaged(format!("a record cannot be written: {error}")))
}

/// The record that an item holds.
pub fn record<T: DeserializeOwned>(item: &Item) -> Result<T> {
    let text = item.get(RECORD).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
    decode(text)
}

pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| StorageError::Damaged(format!("a record cannot be read: {error}")))
}

fn key_of(item: &Item) -> Result<Key> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    match (text(PARTITION), text(SORT)) {
        (Some(partition), Some(sort)) => Ok(Key { partition, sort }),
        _ => Err(StorageError::Damaged("an item has no key".into())),
    }
}

/// Waits after a round that came to nothing: twice as long each time, by chance, so that those who
/// met do not meet again.
pub async fn pause(round: u32) {
    let longest = FIRST_PAUSE.saturating_mul(1 << round.min(16)).min(MAX_PAUSE);
    let mut chance = [0u8; 4];
    // Without randomness all wait for as long.
    let share = rand::fill(&mut chance)
        .map_or(1.0, |()| f64::from(u32::from_be_bytes(chance)) / f64::from(u32::MAX));
    tokio::time::sleep(longest.mul_f64(share)).await;
}

/// What a request that failed for good, after the SDK's own tries, is to the caller.
pub fn fault<E>(request: &str, table: &str, error: &SdkError<E>) -> StorageError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let cause = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => DisplayErrorContext(error).to_string(),
    };
    StorageError::Unavailable(format!("{request} of {table}: {cause}"))
}

/// A request that the SDK does not take.
pub fn invalid(request: &str, table: &str, error: &dyn std::error::Error) -> StorageError {
    StorageError::Unavailable(format!("{request} of {table}: {error}"))
}
