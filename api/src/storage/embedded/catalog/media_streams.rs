//! Media streams: their settings, those that no device was registered with, and their end.

use super::arrivals;
use super::devices::{self, external_id_key};
use super::sightings::Sightings;
use super::tables::{Tables, get, key, put, text};
use crate::device::{Device, DeviceState, Stream};
use crate::id::{AccountId, StreamId};
use crate::media_stream::MediaSettings;
use crate::storage::{CreateError, MediaStreamQuery, Result};
use heed::{RoTxn, RwTxn};
use std::ops::Bound;

/// Longer names are cut in keys; so long a beginning is the name's own.
const MAX_PREFIX: usize = 160;

pub fn settings(tables: &Tables, txn: &RoTxn, stream: StreamId) -> Result<MediaSettings> {
    Ok(get(txn, tables.media_settings, &stream.0.to_be_bytes())?.unwrap_or_default())
}

pub fn put_settings(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    new: &MediaSettings,
) -> Result<bool> {
    if new.changes != settings(tables, txn, stream)?.changes + 1 {
        return Ok(false);
    }
    put(txn, tables.media_settings, &stream.0.to_be_bytes(), new)?;
    Ok(true)
}

pub fn create(
    tables: &Tables,
    txn: &mut RwTxn,
    mut device: Device,
    stream: &Stream,
    settings: &MediaSettings,
) -> Result<(), CreateError> {
    let name = name_key(stream.account, &stream.media_stream_name);
    if get::<StreamId>(txn, tables.media_names, &name)?.is_some() {
        return Err(CreateError::Taken { field: "mediaStreamName" });
    }
    if devices::by_external_id(tables, txn, device.account, &device.external_id)?.is_some() {
        device.external_id = device.id.to_string();
    }
    devices::put_named(tables, txn, &device)?;
    put(txn, tables.external_ids, &external_id_key(&device), &device.id)?;
    put(txn, tables.media_names, &name, &stream.id)?;
    devices::put_stream(tables, txn, stream)?;
    put(txn, tables.media_settings, &stream.id.0.to_be_bytes(), settings)?;
    Ok(())
}

/// Takes from the devices that stand in for the one to come those of `listed` that `device` does not
/// have by name; they are the new device's with all their footage, and its plan holds for them.
pub fn adopt(
    tables: &Tables,
    txn: &mut RwTxn,
    sightings: &Sightings,
    device: &Device,
    listed: &[Stream],
) -> Result<Vec<Stream>> {
    let earlier = devices::by_external_id(tables, txn, device.account, &device.external_id)?
        .filter(|earlier| earlier.state == DeviceState::Retired);
    let own = match earlier {
        Some(earlier) => devices::streams_of(tables, txn, earlier.id)?,
        None => Vec::new(),
    };
    let mut adopted = Vec::new();
    for wanted in listed.iter().filter(|wanted| !own.iter().any(|own| own.name == wanted.name)) {
        let name = &wanted.media_stream_name;
        let Some(stream) = devices::stream_by_media_name(tables, txn, device.account, name)? else {
            continue;
        };
        let mut settings = settings(tables, txn, stream.id)?;
        if !settings.unclaimed || !devices::credentials_of(tables, txn, stream.device)?.is_empty() {
            continue;
        }
        settings.unclaimed = false;
        settings.retention_hours = None;
        settings.changes += 1;
        put(txn, tables.media_settings, &stream.id.0.to_be_bytes(), &settings)?;
        devices::remove_stream(tables, txn, &stream)?;
        devices::remove(tables, txn, sightings, stream.device)?;
        adopted.push(Stream { name: wanted.name.clone(), device: device.id, ..stream });
    }
    Ok(adopted)
}

pub fn delete(
    tables: &Tables,
    txn: &mut RwTxn,
    sightings: &Sightings,
    stream: StreamId,
) -> Result<()> {
    let Some(stream) = devices::stream(tables, txn, stream)? else { return Ok(()) };
    devices::remove_stream(tables, txn, &stream)?;
    tables.media_names.delete(txn, &name_key(stream.account, &stream.media_stream_name))?;
    if settings(tables, txn, stream.id)?.unclaimed {
        devices::remove(tables, txn, sightings, stream.device)?;
    }
    tables.media_settings.delete(txn, &stream.id.0.to_be_bytes())?;
    arrivals::forget(tables, txn, stream.id, i64::MAX)
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    query: &MediaStreamQuery,
) -> Result<Vec<Stream>> {
    let wanted = query.name_prefix.as_deref().unwrap_or_default();
    let start = wanted.as_bytes().get(..MAX_PREFIX).unwrap_or(wanted.as_bytes());
    let prefix = key(&[&account.0.to_be_bytes(), start]);
    let after = query.after.as_ref().map(|name| name_key(account, name));
    let from = match &after {
        Some(after) if *after >= prefix => Bound::Excluded(&after[..]),
        _ => Bound::Included(&prefix[..]),
    };
    let mut found = Vec::new();
    for entry in tables.media_names.range(txn, &(from, Bound::Unbounded))? {
        let (name, id) = entry?;
        if found.len() >= query.limit || !name.starts_with(&prefix) {
            break;
        }
        let stream = devices::stream(tables, txn, super::tables::decode(id)?)?;
        found.extend(stream.filter(|stream| stream.media_stream_name.starts_with(wanted)));
    }
    Ok(found)
}

fn name_key(account: AccountId, name: &str) -> Vec<u8> {
    key(&[&account.0.to_be_bytes(), &text(name)])
}
