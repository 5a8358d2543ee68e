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

    /// Each table with its partition key and its sort key.
    fn keys(&self) -> [(&str, [(&'static str, ScalarAttributeType); 2]); 2] {
        use ScalarAttributeType::{B, N, S};
        [(&self.core, [(PARTITION, S), (SORT, S)]), (&self.timeline, [(PARTITION, B), (WINDOW, N)])]
    }
}

/// Makes the tables that are not there, and waits until all can be used. One that is there is left
/// as it is.
pub async fn create(store: &Store) -> Result<()> {
    make(store).await?;
    for table in [&store.tables.core, &store.tables.timeline] {
        let_expire(store, table).await?;
    }
    Ok(())
}

/// Makes the tables, in which nothing expires yet.
pub async fn make(store: &Store) -> Result<()> {
    let tables = &store.tables;
    for (table, keys) in tables.keys() {
        create_one(store, table, keys).await?;
    }
    for table in [&tables.core, &tables.timeline] {
        wait_until_active(store, table).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn the_template_makes_the_same_tables() {
        let template = include_str!("../../../../../deploy/aws/lookback.yaml");
        let tables = Tables::new("${Prefix}");
        for (table, keys) in tables.keys() {
            let mut expected =
                format!("TableName: !Sub {table}\n      BillingMode: PAY_PER_REQUEST\n");
            expected += "      AttributeDefinitions:\n";
            for (name, kind) in &keys {
                let kind = kind.as_str();
                writeln!(expected, "        - {{ AttributeName: {name}, AttributeType: {kind} }}")
                    .unwrap();
            }
            expected += "      KeySchema:\n";
            for ((name, _), place) in keys.iter().zip(["HASH", "RANGE"]) {
                writeln!(expected, "        - {{ AttributeName: {name}, KeyType: {place} }}")
                    .unwrap();
            }
            let expires = "TimeToLiveSpecification: { AttributeName: x, Enabled: true }";
            writeln!(expected, "      {}", expires.replace("x,", &format!("{EXPIRES},"))).unwrap();
            assert!(template.contains(&expected), "deploy/aws/lookback.yaml has not:\n{expected}");
        }
        assert_eq!(template.matches("AWS::DynamoDB::Table").count(), tables.keys().len());
        assert!(template.contains(&format!("Default: {DEFAULT_PREFIX}\n")));
    }
}
