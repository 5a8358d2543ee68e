//! Changes of several records in one step: what was read is remembered with its version, what is to
//! be written is gathered, and all of it is written if nothing that was read has changed since.
//!
//! One record goes by a conditional PutItem or DeleteItem, several by TransactWriteItems, which
//! costs twice as much.

use super::keys::Key;
use super::store::{
    Item, MAX_ROUNDS, Store, VERSION, decode, encode, fault, invalid, item_of, new_version, pause,
    record,
};
use super::tables::PARTITION;
use crate::storage::{Result, StorageError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem,
};
use lookback_wire::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};

/// What one TransactWriteItems takes.
const MAX_ITEMS: usize = 100;

/// Why a transaction may be tried again as it is or with what is there now.
const TRANSIENT: [&str; 4] = [
    "ConditionalCheckFailed",
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
];

/// The tries of one change.
#[derive(Debug)]
pub struct Tries<'a> {
    store: &'a Store,
    made: u32,
}

impl<'a> Tries<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self { store, made: 0 }
    }

    /// Begins the next try; waits before it unless it is the first.
    pub async fn next(&mut self) -> Result<Changes<'a>> {
        if let Some(round) = self.made.checked_sub(1) {
            if round >= MAX_ROUNDS {
                let table = &self.store.tables.core;
                return Err(StorageError::Unavailable(format!(
                    "records of {table} were changed by others {MAX_ROUNDS} times while this \
                     change was made"
                )));
            }
            pause(round).await;
        }
        self.made += 1;
        Ok(Changes { store: self.store, seen: HashMap::new(), wanted: BTreeMap::new() })
    }
}

/// One try of a change.
#[derive(Debug)]
pub struct Changes<'a> {
    store: &'a Store,
    /// The version of each item that was read; none where there was no item.
    seen: HashMap<Key, Option<AttributeValue>>,
    wanted: BTreeMap<Key, Wanted>,
}

#[derive(Debug)]
enum Wanted {
    Put { record: String, expires: Option<Timestamp> },
    Delete,
}

impl Changes<'_> {
    /// The record under `key`, as this change has it.
    pub async fn get<T: DeserializeOwned>(&mut self, key: &Key) -> Result<Option<T>> {
        if let Some(wanted) = self.wanted.get(key) {
            return wanted.record();
        }
        let item = self.store.item(key).await?;
        self.note(key, item.as_ref());
        item.as_ref().map(record).transpose()
    }

    /// One answer for each key, in order.
    pub async fn get_each<T: DeserializeOwned>(&mut self, keys: &[Key]) -> Result<Vec<Option<T>>> {
        let items = self.store.items(keys).await?;
        let mut found = Vec::with_capacity(keys.len());
        for (key, item) in keys.iter().zip(&items) {
            found.push(match self.wanted.get(key) {
                Some(wanted) => wanted.record()?,
                None => {
                    self.note(key, item.as_ref());
                    item.as_ref().map(record).transpose()?
                }
            });
        }
        Ok(found)
    }

    /// What was read first holds: a later reading that differs shows when it is written.
    fn note(&mut self, key: &Key, item: Option<&Item>) {
        let version = item.map(|item| {
            item.get(VERSION).cloned().unwrap_or_else(|| AttributeValue::N("0".into()))
        });
        self.seen.entry(key.clone()).or_insert(version);
    }

    /// Adds or replaces a record.
    pub fn put<T: Serialize>(&mut self, key: Key, record: &T) -> Result<()> {
        self.wanted.insert(key, Wanted::Put { record: encode(record)?, expires: None });
        Ok(())
    }

    /// Adds or replaces a record that DynamoDB may delete after `expires`.
    pub fn put_until<T: Serialize>(
        &mut self,
        key: Key,
        record: &T,
        expires: Timestamp,
    ) -> Result<()> {
        let record = encode(record)?;
        self.wanted.insert(key, Wanted::Put { record, expires: Some(expires) });
        Ok(())
    }

    pub fn delete(&mut self, key: Key) {
        self.wanted.insert(key, Wanted::Delete);
    }

    /// Writes all or nothing; answers false where something that was read has changed: then the next
    /// try reads what is there now.
    pub async fn commit(mut self) -> Result<bool> {
        let version = new_version()?;
        let reads_else = self.seen.keys().any(|key| !self.wanted.contains_key(key));
        let wanted = std::mem::take(&mut self.wanted);
        let mut wanted = wanted.into_iter();
        match (wanted.next(), wanted.len()) {
            (None, _) => Ok(true),
            (Some((key, Wanted::Put { record, expires })), 0) if !reads_else => {
                self.put_one(&key, item_of(&key, record, expires, &version), &version).await
            }
            (Some((key, Wanted::Delete)), 0) if !reads_else => self.delete_one(&key).await,
            (Some(first), _) => {
                self.write_all(std::iter::once(first).chain(wanted).collect(), &version).await
            }
        }
    }

    /// What must hold of the item under `key` for it to be as it was read, and the version that the
    /// expression names.
    fn condition(&self, key: &Key) -> Condition {
        match self.seen.get(key) {
            None => (None, None),
            Some(None) => (Some(format!("attribute_not_exists({PARTITION})")), None),
            Some(Some(version)) => {
                let versions = HashMap::from([(":v".to_owned(), version.clone())]);
                (Some(format!("{VERSION} = :v")), Some(versions))
            }
        }
    }

    async fn put_one(&self, key: &Key, item: Item, version: &str) -> Result<bool> {
        let table = &self.store.tables.core;
        let (condition, values) = self.condition(key);
        let answer = {
            let _request = self.store.request().await?;
            let request = self.store.client.put_item().table_name(table).set_item(Some(item));
            request
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .send()
                .await
        };
        let Err(error) = answer else { return Ok(true) };
        let service_error = error.as_service_error();
        if service_error.is_some_and(|e| e.is_transaction_conflict_exception()) {
            return Ok(false);
        }
        match service_error {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                // Where the answer to an earlier try was lost, what is there is this very change.
                let there = failed.item().and_then(|item| item.get(VERSION));
                Ok(there == Some(&AttributeValue::N(version.to_owned())))
            }
            _ => Err(fault("PutItem", table, &error)),
        }
    }

    async fn delete_one(&self, key: &Key) -> Result<bool> {
        let table = &self.store.tables.core;
        let (condition, values) = self.condition(key);
        let answer = {
            let _request = self.store.request().await?;
            let request = self.store.client.delete_item().table_name(table);
            request
                .set_key(Some(key.attributes()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .send()
                .await
        };
        let Err(error) = answer else { return Ok(true) };
        let has_changed = error.as_service_error().is_some_and(|error| {
            error.is_conditional_check_failed_exception()
                || error.is_transaction_conflict_exception()
        });
        if has_changed { Ok(false) } else { Err(fault("DeleteItem", table, &error)) }
    }

    async fn write_all(&self, wanted: BTreeMap<Key, Wanted>, version: &str) -> Result<bool> {
        let table = &self.store.tables.core;
        let invalid = |error| invalid("TransactWriteItems", table, &error);
        let mut items = Vec::with_capacity(wanted.len());
        let mut written = wanted.iter().filter(|(_, wanted)| matches!(wanted, Wanted::Put { .. }));
        let written = written.next().map(|(key, _)| key.clone());
        for key in self.seen.keys().filter(|key| !wanted.contains_key(key)) {
            let (condition, values) = self.condition(key);
            let check = ConditionCheck::builder().table_name(table);
            let check = check
                .set_key(Some(key.attributes()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .build()
                .map_err(invalid)?;
            items.push(TransactWriteItem::builder().condition_check(check).build());
        }
        for (key, wanted) in wanted {
            let (condition, values) = self.condition(&key);
            let item = TransactWriteItem::builder();
            items.push(match wanted {
                Wanted::Put { record, expires } => {
                    let put = Put::builder()
                        .table_name(table)
                        .set_item(Some(item_of(&key, record, expires, version)))
                        .set_condition_expression(condition)
                        .set_expression_attribute_values(values)
                        .build()
                        .map_err(invalid)?;
                    item.put(put).build()
                }
                Wanted::Delete => {
                    let delete = Delete::builder()
                        .table_name(table)
                        .set_key(Some(key.attributes()))
                        .set_condition_expression(condition)
                        .set_expression_attribute_values(values)
                        .build()
                        .map_err(invalid)?;
                    item.delete(delete).build()
                }
            });
        }
        if items.len() > MAX_ITEMS {
            return Err(StorageError::Unavailable(format!(
                "a change of {} items in {table}: one step takes {MAX_ITEMS}",
                items.len()
            )));
        }
        let answer = {
            let _request = self.store.request().await?;
            let request = self.store.client.transact_write_items();
            request.set_transact_items(Some(items)).send().await
        };
        let Err(error) = answer else { return Ok(true) };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
            error.as_service_error()
        else {
            return Err(fault("TransactWriteItems", table, &error));
        };
        let mut reasons = canceled.cancellation_reasons().iter().filter_map(|why| why.code());
        match reasons.find(|code| *code != "None" && !TRANSIENT.contains(code)) {
            Some(_) => Err(fault("TransactWriteItems", table, &error)),
            // Where the answer to an earlier try was lost, what is there is this very change.
            None => match written {
                Some(key) => {
                    let there = self.store.item(&key).await?;
                    let there = there.as_ref().and_then(|item| item.get(VERSION));
                    Ok(there == Some(&AttributeValue::N(version.to_owned())))
                }
                None => Ok(false),
            },
        }
    }
}

/// An expression, and the values that it names.
type Condition = (Option<String>, Option<HashMap<String, AttributeValue>>);

impl Wanted {
    fn record<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        match self {
            Self::Put { record, .. } => decode(record).map(Some),
            Self::Delete => Ok(None),
        }
    }
}
