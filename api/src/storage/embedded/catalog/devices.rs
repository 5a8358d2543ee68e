//! Devices, their streams and credentials.

use super::media_streams;
use super::shares;
use super::sightings::Sightings;
use super::tables::{NOTHING, Tables, get, key, text, text_prefix};
use super::users::first_keys;
use crate::device::{
    Device, DeviceChange, DeviceCredential, DeviceState, MAX_CREDENTIALS_OF_DEVICE, MAX_STREAMS,
    Stream,
};
use crate::id::{AccountId, CredentialId, DeviceId, StreamId, Ulid};
use crate::storage::embedded::lmdb::time_key;
use crate::storage::{CreateError, DeviceQuery, Registered, Registration, Result, StorageError};
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// See the trait: a repeated registration is known for this long.
const REGISTRATION_MS: i64 = 24 * 3600 * 1000;
/// Registrations that are too old are taken out a few at a time, whenever one is made.
const PURGED_REGISTRATIONS: usize = 100;
/// Of one device; the newest are of use.
const MAX_CREDENTIALS: usize = 1000;

/// What an idempotency key stands for.
#[derive(Serialize, Deserialize)]
struct Remembered {
    digest: [u8; 32],
    device: DeviceId,
    /// The one given out last.
    credential: CredentialId,
    at: Timestamp,
}

pub fn device(tables: &Tables, txn: &RoTxn, id: DeviceId) -> Result<Option<Device>> {
    get(txn, tables.devices, &id.0.to_be_bytes())
}

pub fn put(tables: &Tables, txn: &mut RwTxn, device: &Device) -> Result<()> {
    super::tables::put(txn, tables.devices, &device.id.0.to_be_bytes(), device)
}

pub fn by_external_id(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    external_id: &str,
) -> Result<Option<Device>> {
    match get(txn, tables.external_ids, &key(&[&account.0.to_be_bytes(), &text(external_id)]))? {
        Some(id) => device(tables, txn, id),
        None => Ok(None),
    }
}

pub fn external_id_key(device: &Device) -> Vec<u8> {
    key(&[&device.account.0.to_be_bytes(), &text(&device.external_id)])
}

pub fn name_key(account: AccountId, name: &str, id: DeviceId) -> Vec<u8> {
    let name = text(&name.to_lowercase());
    key(&[&account.0.to_be_bytes(), &name, &id.0.to_be_bytes()])
}

pub fn register(
    tables: &Tables,
    txn: &mut RwTxn,
    sightings: &Sightings,
    registration: Registration,
    now: Timestamp,
) -> Result<Registered, CreateError> {
    let account = registration.device.account;
    let idempotency = registration.idempotency.clone();
    let remembered_key =
        idempotency.map(|(name, digest)| (key(&[&account.0.to_be_bytes(), &text(&name)]), digest));
    purge_registrations(tables, txn, now)?;
    let Some((remembered_key, digest)) = remembered_key else {
        return register_new(tables, txn, sightings, registration, now);
    };
    let remembered: Option<Remembered> = get(txn, tables.registrations, &remembered_key)?;
    let remembered = remembered.filter(|past| now.millis_since(past.at) < REGISTRATION_MS);
    let known = remembered.as_ref().map(|past| device(tables, txn, past.device)).transpose()?;
    let in_service = known.flatten().is_none_or(|known| known.state != DeviceState::Retired);
    let (registered, at) = match remembered {
        Some(past) if past.digest != digest => return Err(CreateError::IdempotencyConflict),
        Some(past) if in_service => {
            if let Some(mut earlier) = credential(tables, txn, past.credential)? {
                earlier.revoked_at = earlier.revoked_at.or(Some(now));
                put_credential(tables, txn, &earlier)?;
            }
            (register_again(tables, txn, past.device, registration)?, past.at)
        }
        past => {
            let at = past.map_or(now, |past| past.at);
            (register_new(tables, txn, sightings, registration, now)?, at)
        }
    };
    let remembered = Remembered {
        digest,
        device: registered.device.id,
        credential: registered.credential.id,
        at,
    };
    super::tables::put(txn, tables.registrations, &remembered_key, &remembered)?;
    let time = key(&[&time_key(at.as_millis()), &remembered_key]);
    tables.registration_times.put(txn, &time, NOTHING).map_err(StorageError::from)?;
    Ok(registered)
}

fn register_again(
    tables: &Tables,
    txn: &mut RwTxn,
    id: DeviceId,
    registration: Registration,
) -> Result<Registered> {
    let device = device(tables, txn, id)?
        .ok_or_else(|| StorageError::Damaged(format!("{id} was registered and is not there")))?;
    let credential = DeviceCredential { device: id, ..registration.credential };
    put_credential(tables, txn, &credential)?;
    Ok(Registered { device, streams: streams_of(tables, txn, id)?, credential })
}

fn register_new(
    tables: &Tables,
    txn: &mut RwTxn,
    sightings: &Sightings,
    registration: Registration,
    now: Timestamp,
) -> Result<Registered, CreateError> {
    let Registration { mut device, streams, mut credential, .. } = registration;
    let mut adopted = media_streams::adopt(tables, txn, sightings, &device, &streams)?;
    let earlier = by_external_id(tables, txn, device.account, &device.external_id)?;
    if let Some(earlier) = &earlier {
        if earlier.state != DeviceState::Retired {
            return Err(CreateError::Taken { field: "externalId" });
        }
        device.id = earlier.id;
        device.created_at = earlier.created_at;
        sightings.forget(earlier.id);
        for mut old in credentials_of(tables, txn, earlier.id)? {
            if old.revoked_at.is_none() {
                old.revoked_at = Some(now);
                put_credential(tables, txn, &old)?;
            }
        }
    }
    put_named(tables, txn, &device)?;
    super::tables::put(txn, tables.external_ids, &external_id_key(&device), &device.id)?;
    let streams = put_streams(tables, txn, &device, streams, &mut adopted)?;
    credential.device = device.id;
    put_credential(tables, txn, &credential)?;
    Ok(Registered { device, streams, credential })
}

/// Adds the streams that the device does not have by name; those it has keep their identifiers, and
/// with them their footage, and come after the listed ones where they are not listed.
fn put_streams(
    tables: &Tables,
    txn: &mut RwTxn,
    device: &Device,
    listed: Vec<Stream>,
    adopted: &mut Vec<Stream>,
) -> Result<Vec<Stream>, CreateError> {
    let mut kept = streams_of(tables, txn, device.id)?;
    for stream in &kept {
        tables.device_streams.delete(txn, &stream_key(stream)).map_err(StorageError::from)?;
    }
    let mut streams: Vec<Stream> = Vec::with_capacity(listed.len() + kept.len());
    for stream in listed {
        if streams.iter().any(|earlier| earlier.name == stream.name) {
            return Err(CreateError::Taken { field: "name" });
        }
        let found = |known: &[Stream]| known.iter().position(|known| known.name == stream.name);
        match (found(&kept), found(adopted)) {
            (Some(position), _) => streams.push(kept.remove(position)),
            (None, Some(position)) => {
                streams.push(Stream { device: device.id, ..adopted.remove(position) });
            }
            (None, None) => {
                let name =
                    key(&[&device.account.0.to_be_bytes(), &text(&stream.media_stream_name)]);
                if get::<StreamId>(txn, tables.media_names, &name)?.is_some() {
                    return Err(CreateError::Taken { field: "mediaStreamName" });
                }
                super::tables::put(txn, tables.media_names, &name, &stream.id)?;
                streams.push(Stream { device: device.id, ..stream });
            }
        }
    }
    streams.append(&mut kept);
    if streams.len() > MAX_STREAMS {
        return Err(CreateError::TooManyStreams(streams.len()));
    }
    for (position, stream) in streams.iter_mut().enumerate() {
        stream.position = u8::try_from(position).unwrap_or(u8::MAX);
        put_stream(tables, txn, stream)?;
    }
    Ok(streams)
}

pub fn put_stream(tables: &Tables, txn: &mut RwTxn, stream: &Stream) -> Result<()> {
    tables.device_streams.put(txn, &stream_key(stream), NOTHING)?;
    super::tables::put(txn, tables.streams, &stream.id.0.to_be_bytes(), stream)
}

/// Takes a stream from its device; its media stream's name stays taken.
pub fn remove_stream(tables: &Tables, txn: &mut RwTxn, stream: &Stream) -> Result<()> {
    tables.device_streams.delete(txn, &stream_key(stream))?;
    tables.streams.delete(txn, &stream.id.0.to_be_bytes())?;
    Ok(())
}

pub fn stream_key(stream: &Stream) -> Vec<u8> {
    key(&[&stream.device.0.to_be_bytes(), &[stream.position], &stream.id.0.to_be_bytes()])
}

fn purge_registrations(tables: &Tables, txn: &mut RwTxn, now: Timestamp) -> Result<()> {
    let oldest_kept = time_key(now.plus_millis(-REGISTRATION_MS).as_millis());
    for time in first_keys(txn, tables.registration_times, &[], PURGED_REGISTRATIONS)? {
        let Some((at, remembered_key)) = time.split_first_chunk::<8>() else { continue };
        if *at > oldest_kept {
            break;
        }
        tables.registrations.delete(txn, remembered_key)?;
        tables.registration_times.delete(txn, &time)?;
    }
    Ok(())
}

/// Adds or replaces a device, with its place among the account's names.
pub fn put_named(tables: &Tables, txn: &mut RwTxn, new: &Device) -> Result<()> {
    if let Some(old) = device(tables, txn, new.id)? {
        tables.device_names.delete(txn, &name_key(old.account, &old.name, old.id))?;
    }
    tables.device_names.put(txn, &name_key(new.account, &new.name, new.id), NOTHING)?;
    put(tables, txn, new)
}

pub fn change(
    tables: &Tables,
    txn: &mut RwTxn,
    sightings: &Sightings,
    id: DeviceId,
    change: DeviceChange,
) -> Result<Option<Device>> {
    let Some(mut device) = device(tables, txn, id)? else { return Ok(None) };
    // One that was heard of is not merely provisioned, whatever its record says yet.
    sightings.apply(&mut device);
    if !change.apply(&mut device) {
        return Ok(None);
    }
    put_named(tables, txn, &device)?;
    Ok(Some(device))
}

/// Takes a device away that has no streams left, with its credentials and shares.
pub fn remove(tables: &Tables, txn: &mut RwTxn, sightings: &Sightings, id: DeviceId) -> Result<()> {
    let Some(device) = device(tables, txn, id)? else { return Ok(()) };
    for credential in credentials_of(tables, txn, id)? {
        delete_credential(tables, txn, &credential)?;
    }
    shares::remove_device(tables, txn, id)?;
    tables.device_names.delete(txn, &name_key(device.account, &device.name, id))?;
    tables.external_ids.delete(txn, &external_id_key(&device))?;
    tables.devices.delete(txn, &id.0.to_be_bytes())?;
    sightings.forget(id);
    Ok(())
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    query: &DeviceQuery,
) -> Result<Vec<Device>> {
    let begin = query.name_prefix.as_deref().unwrap_or_default().to_lowercase();
    let prefix = key(&[&account.0.to_be_bytes(), text_prefix(&begin)]);
    let after = query.after.as_ref().map(|(name, id)| name_key(account, name, *id));
    let from = match &after {
        Some(after) if *after >= prefix => Bound::Excluded(&after[..]),
        _ => Bound::Included(&prefix[..]),
    };
    let mut found = Vec::new();
    for entry in tables.device_names.range(txn, &(from, Bound::Unbounded))? {
        let (name, _) = entry?;
        if found.len() >= query.limit || !name.starts_with(&prefix) {
            break;
        }
        if let Some(id) = name.last_chunk::<16>() {
            let device = get::<Device>(txn, tables.devices, id)?;
            found.extend(device.filter(|device| device.name.to_lowercase().starts_with(&begin)));
        }
    }
    Ok(found)
}

pub fn stream(tables: &Tables, txn: &RoTxn, id: StreamId) -> Result<Option<Stream>> {
    get(txn, tables.streams, &id.0.to_be_bytes())
}

pub fn streams_of(tables: &Tables, txn: &RoTxn, device: DeviceId) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for key in first_keys(txn, tables.device_streams, &device.0.to_be_bytes(), MAX_STREAMS)? {
        if let Some(id) = key.last_chunk::<16>() {
            streams.extend(get::<Stream>(txn, tables.streams, id)?);
        }
    }
    Ok(streams)
}

pub fn all_streams(
    tables: &Tables,
    txn: &RoTxn,
    after: Option<StreamId>,
    limit: usize,
) -> Result<Vec<StreamId>> {
    let after = after.map(|stream| stream.0.to_be_bytes());
    let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(&after[..]));
    let mut streams = Vec::new();
    for entry in tables.streams.range(txn, &(from, Bound::Unbounded))?.take(limit) {
        let (id, _) = entry?;
        streams.extend(id.first_chunk().map(|id| StreamId(Ulid::from_be_bytes(*id))));
    }
    Ok(streams)
}

pub fn stream_by_media_name(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    name: &str,
) -> Result<Option<Stream>> {
    let name = key(&[&account.0.to_be_bytes(), &text(name)]);
    match get(txn, tables.media_names, &name)? {
        Some(id) => stream(tables, txn, id),
        None => Ok(None),
    }
}

pub fn put_credential(
    tables: &Tables,
    txn: &mut RwTxn,
    credential: &DeviceCredential,
) -> Result<()> {
    let id = credential.id.0.to_be_bytes();
    let of_device = key(&[&credential.device.0.to_be_bytes(), &id]);
    tables.device_credentials.put(txn, &of_device, NOTHING)?;
    super::tables::put(txn, tables.credentials, &id, credential)
}

pub fn add_credential(
    tables: &Tables,
    txn: &mut RwTxn,
    new: &DeviceCredential,
    now: Timestamp,
) -> Result<bool> {
    let (valid, ended): (Vec<_>, Vec<_>) = credentials_of(tables, txn, new.device)?
        .into_iter()
        .partition(|credential| credential.is_valid(now));
    if valid.len() >= MAX_CREDENTIALS_OF_DEVICE {
        return Ok(false);
    }
    if valid.len() + ended.len() >= MAX_CREDENTIALS_OF_DEVICE {
        for credential in &ended {
            delete_credential(tables, txn, credential)?;
        }
    }
    put_credential(tables, txn, new)?;
    Ok(true)
}

fn delete_credential(
    tables: &Tables,
    txn: &mut RwTxn,
    credential: &DeviceCredential,
) -> Result<()> {
    let id = credential.id.0.to_be_bytes();
    tables.device_credentials.delete(txn, &key(&[&credential.device.0.to_be_bytes(), &id]))?;
    tables.credentials.delete(txn, &id)?;
    Ok(())
}

pub fn credential(
    tables: &Tables,
    txn: &RoTxn,
    id: CredentialId,
) -> Result<Option<DeviceCredential>> {
    get(txn, tables.credentials, &id.0.to_be_bytes())
}

pub fn note_credential_used(
    tables: &Tables,
    txn: &mut RwTxn,
    id: CredentialId,
    at: Timestamp,
) -> Result<()> {
    match credential(tables, txn, id)? {
        Some(credential) if credential.is_news(at) => {
            put_credential(tables, txn, &credential.used(at))
        }
        _ => Ok(()),
    }
}

pub fn credentials_of(
    tables: &Tables,
    txn: &RoTxn,
    device: DeviceId,
) -> Result<Vec<DeviceCredential>> {
    let mut credentials = Vec::new();
    let prefix = device.0.to_be_bytes();
    for key in first_keys(txn, tables.device_credentials, &prefix, MAX_CREDENTIALS)? {
        if let Some(id) = key.last_chunk::<16>() {
            credentials.extend(get::<DeviceCredential>(txn, tables.credentials, id)?);
        }
    }
    Ok(credentials)
}
