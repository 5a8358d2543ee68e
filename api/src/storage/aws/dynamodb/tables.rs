//! The tables: what they are called, their keys, and making them.
//!
//! `core` has one item for each record, small and often read. `timeline` has one item for each
//! stream and five-minute window, see `window`, and one for each stream and day, see `day`. Both are
//! billed on demand.

use super::store::{Store, fault};
use crate::storage::{Result, StorageError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use std::time::Duration;

/// The tables' names begin with it unless told otherwise.
pub const DEFAULT_PREFIX: &str = "lookback-";

/// The partition key of both tables.
pub const PARTITION: &str = "p";
/// The sort key of `core`.
pub const SORT: &str = "s";
/// The sort key of `timeline`.
pub const WINDOW: &str = "w";
/// When DynamoDB may delete an item, in seconds since the epoch.
pub const EXPIRES: &str = "x";

/// How often a table that is being made is looked at, and for how long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS: u32 = 120;

/// Names of the tables in the account and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    pub core: String,
    pub timeline: String,
}

impl Tables {
    /// The tables whose names begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { core: format!("{prefix}core"), timeline: format!("{prefix}timeline") }
    }
}

/// Makes the tables that are not there, and waits until all can be used. One that is there is left
/// as it is.
pub async fn create(store: &Store) -> Result<()> {
    use ScalarAttributeType::{B, N, S};
    let tables = &store.tables;
    create_one(store, &tables.core, [(PARTITION, S), (SORT, S)]).await?;
    create_one(store, &tables.timeline, [(PARTITION, B), (WINDOW, N)]).await?;
    for table in [&tables.core, &tables.timeline] {
        wait_until_active(store, table).await?;
    }
    for table in [&tables.core, &tables.timeline] {
        let_expire(store, table).await?;
    }
    Ok(())
}

async fn create_one(
    store: &Store,
    table: &str,
    keys: [(&str, ScalarAttributeType); 2],
) -> Result<()> {
    let mut request =
        store.client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    for ((name, kind), place) in keys.into_iter().zip([KeyType::Hash, KeyType::Range]) {
        let invalid = |error| StorageError::Unavailable(format!("table {table}: {error}"));
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
        let key = KeySchemaElement::builder().attribute_name(name).key_type(place);
        request = request
            .attribute_definitions(attribute.build().map_err(invalid)?)
            .key_schema(key.build().map_err(invalid)?);
    }
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) =>
        {
            Ok(())
        }
        Err(error) => Err(fault("CreateTable", table, &error)),
    }
}

async fn wait_until_active(store: &Store, table: &str) -> Result<()> {
    for _ in 0..LOOKS {
        let described = store.client.describe_table().table_name(table).send().await;
        let described = described.map_err(|error| fault("DescribeTable", table, &error))?;
        let status = described.table().and_then(|table| table.table_status());
        if status == Some(&TableStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let waited = LOOK_EVERY.as_secs() * u64::from(LOOKS);
    Err(StorageError::Unavailable(format!("table {table} cannot be used after {waited} s")))
}

/// Has DynamoDB delete what is past its `EXPIRES`, where it does not already.
async fn let_expire(store: &Store, table: &str) -> Result<()> {
    let described = store.client.describe_time_to_live().table_name(table).send().await;
    let described = described.map_err(|error| fault("DescribeTimeToLive", table, &error))?;
    let status = described.time_to_live_description().and_then(|ttl| ttl.time_to_live_status());
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let on = TimeToLiveSpecification::builder().attribute_name(EXPIRES).enabled(true).build();
    let on = on.map_err(|error| StorageError::Unavailable(format!("table {table}: {error}")))?;
    let updated =
        store.client.update_time_to_live().table_name(table).time_to_live_specification(on);
    updated.send().await.map_err(|error| fault("UpdateTimeToLive", table, &error))?;
    Ok(())
}
