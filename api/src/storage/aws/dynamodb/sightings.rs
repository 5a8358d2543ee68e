//! When devices were last heard of: every fragment says it, so most of it is kept in memory, and the
//! device's item is told every few minutes. Another server knows as much as the item says.

use super::keys;
use super::store::{Item, Store, fault};
use super::tables::PARTITION;
use crate::device::{Device, DeviceState};
use crate::id::DeviceId;
use crate::storage::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;

/// How far an item may lag behind what was heard of its device: each write costs as much as one of a
/// window.
const WRITE_EVERY_MS: i64 = 15 * 60 * 1000;

/// When the device was last heard of, in milliseconds since the epoch.
const SEEN: &str = "seen";
const CLOCK_SKEW: &str = "skew";

/// What was heard since this server began; at most one entry for each device.
#[derive(Debug, Default)]
pub struct Sightings {
    newest: Mutex<HashMap<DeviceId, Noted>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    at: Timestamp,
    clock_skew_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    newest: Sighting,
    /// What the item was last told.
    written: Option<Timestamp>,
}

impl Sightings {
    /// Notes one; answers what the item is to be told of, if it is time.
    fn note(&self, device: DeviceId, at: Timestamp, skew_ms: Option<i64>) -> Option<Sighting> {
        let mut newest = self.newest.lock();
        let first = Noted { newest: Sighting { at, clock_skew_ms: skew_ms }, written: None };
        let noted = newest.entry(device).or_insert(first);
        noted.newest.at = noted.newest.at.max(at);
        noted.newest.clock_skew_ms = skew_ms.or(noted.newest.clock_skew_ms);
        let is_due = noted
            .written
            .is_none_or(|written| noted.newest.at.millis_since(written) >= WRITE_EVERY_MS);
        is_due.then_some(noted.newest)
    }

    fn written(&self, device: DeviceId, at: Timestamp) {
        if let Some(noted) = self.newest.lock().get_mut(&device) {
            noted.written = noted.written.max(Some(at));
        }
    }

    /// What the items do not know yet.
    fn unwritten(&self) -> Vec<(DeviceId, Sighting)> {
        let newest = self.newest.lock();
        let unwritten = newest.iter().filter(|(_, noted)| noted.written < Some(noted.newest.at));
        unwritten.map(|(device, noted)| (*device, noted.newest)).collect()
    }

    /// Forgets what was noted of a device that is gone or begins anew.
    pub fn forget(&self, device: DeviceId) {
        self.newest.lock().remove(&device);
    }

    /// Adds to a device what its item and this server know of it.
    pub fn apply(&self, device: &mut Device, item: &Item) {
        let number = |name| item.get(name)?.as_n().ok()?.parse().ok();
        let from_item = number(SEEN).map(|at| Sighting {
            at: Timestamp::from_millis(at),
            clock_skew_ms: number(CLOCK_SKEW),
        });
        let noted = self.newest.lock().get(&device.id).map(|noted| noted.newest);
        for sighting in [from_item, noted].into_iter().flatten() {
            sighting.apply(device);
        }
    }
}

impl Sighting {
    fn apply(self, device: &mut Device) {
        device.last_seen_at = device.last_seen_at.max(Some(self.at));
        device.clock_skew_ms = self.clock_skew_ms.or(device.clock_skew_ms);
        if device.state == DeviceState::Provisioned {
            device.state = DeviceState::Active;
        }
    }
}

pub async fn note(
    store: &Store,
    sightings: &Sightings,
    device: DeviceId,
    at: Timestamp,
    clock_skew_ms: Option<i64>,
) -> Result<()> {
    match sightings.note(device, at, clock_skew_ms) {
        Some(sighting) => write(store, sightings, device, sighting).await,
        None => Ok(()),
    }
}

/// Tells the items what they do not know yet.
pub async fn flush(store: &Store, sightings: &Sightings) -> Result<()> {
    for (device, sighting) in sightings.unwritten() {
        write(store, sightings, device, sighting).await?;
    }
    Ok(())
}

/// A device that is not there is forgotten. The item keeps its version: whoever changes the device
/// meanwhile read all that there is to read.
async fn write(
    store: &Store,
    sightings: &Sightings,
    device: DeviceId,
    sighting: Sighting,
) -> Result<()> {
    let table = &store.tables.core;
    let number = |value: i64| AttributeValue::N(value.to_string());
    let mut request = store
        .client
        .update_item()
        .table_name(table)
        .set_key(Some(keys::device(device).attributes()))
        .condition_expression(format!("attribute_exists({PARTITION})"))
        .expression_attribute_values(":at", number(sighting.at.as_millis()));
    let mut update = format!("SET {SEEN} = :at");
    if let Some(skew_ms) = sighting.clock_skew_ms {
        update.push_str(&format!(", {CLOCK_SKEW} = :skew"));
        request = request.expression_attribute_values(":skew", number(skew_ms));
    }
    let answer = {
        let _request = store.request().await?;
        request.update_expression(update).send().await
    };
    match answer {
        Ok(_) => sightings.written(device, sighting.at),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
        {
            sightings.forget(device);
        }
        Err(error) => return Err(fault("UpdateItem", table, &error)),
    }
    Ok(())
}
