//! When devices were last heard of: kept in memory, since every fragment says it, and written to
//! their records every few minutes.

use super::tables::Tables;
use crate::device::{Device, DeviceState};
use crate::id::DeviceId;
use crate::storage::Result;
use heed::RwTxn;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What is not in the devices' records yet; at most one entry for each device.
#[derive(Debug, Default)]
pub struct Sightings {
    newest: Mutex<HashMap<DeviceId, Sighting>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sighting {
    at: Timestamp,
    clock_skew_ms: Option<i64>,
}

impl Sightings {
    /// Notes one. Unless the device is `known`, answers false where nothing is noted of it yet.
    pub fn note(
        &self,
        device: DeviceId,
        at: Timestamp,
        clock_skew_ms: Option<i64>,
        known: bool,
    ) -> bool {
        let mut newest = self.newest.lock();
        let sighting = match newest.get_mut(&device) {
            Some(sighting) => sighting,
            None if known => newest.entry(device).or_insert(Sighting { at, clock_skew_ms }),
            None => return false,
        };
        sighting.at = sighting.at.max(at);
        sighting.clock_skew_ms = clock_skew_ms.or(sighting.clock_skew_ms);
        true
    }

    /// Adds to a device's record what was noted since it was written.
    pub fn apply(&self, device: &mut Device) {
        if let Some(sighting) = self.newest.lock().get(&device.id) {
            sighting.apply(device);
        }
    }

    /// Forgets what was noted of a device that begins anew.
    pub fn forget(&self, device: DeviceId) {
        self.newest.lock().remove(&device);
    }

    /// Writes all to the records. What is noted meanwhile waits for the next time; what was written
    /// is forgotten by [`Sightings::written`], once the records are durable.
    pub fn write(&self, tables: &Tables, txn: &mut RwTxn) -> Result<Written> {
        let noted: Vec<_> = self.newest.lock().iter().map(|(id, seen)| (*id, *seen)).collect();
        for (id, sighting) in &noted {
            if let Some(mut device) = super::devices::device(tables, txn, *id)? {
                sighting.apply(&mut device);
                super::devices::put(tables, txn, &device)?;
            }
        }
        Ok(Written(noted))
    }

    pub fn written(&self, written: Written) {
        let mut newest = self.newest.lock();
        for (id, sighting) in written.0 {
            if newest.get(&id) == Some(&sighting) {
                newest.remove(&id);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.newest.lock().is_empty()
    }
}

/// What [`Sightings::write`] put into a transaction.
pub struct Written(Vec<(DeviceId, Sighting)>);

impl Sighting {
    fn apply(&self, device: &mut Device) {
        device.last_seen_at = device.last_seen_at.max(Some(self.at));
        device.clock_skew_ms = self.clock_skew_ms.or(device.clock_skew_ms);
        if device.state == DeviceState::Provisioned {
            device.state = DeviceState::Active;
        }
    }
}
