//! Media streams: their settings, those that no device was registered with, and their end.

use super::changes::Tries;
use super::devices::{self, DeviceChanges};
use super::keys::{self, MAX_TEXT, Places};
use super::sightings::Sightings;
use super::store::Store;
use crate::device::{Device, Stream};
use crate::id::{AccountId, StreamId};
use crate::media_stream::MediaSettings;
use crate::storage::{CreateError, MediaStreamQuery, Result};

pub async fn settings(store: &Store, streams: &[StreamId]) -> Result<Vec<MediaSettings>> {
    let keys: Vec<_> = streams.iter().map(|stream| keys::media_settings(*stream)).collect();
    let found: Vec<Option<MediaSettings>> = store.records(&keys).await?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

pub async fn put_settings(store: &Store, stream: StreamId, new: &MediaSettings) -> Result<bool> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::media_settings(stream);
        let old: MediaSettings = changes.get(&key).await?.unwrap_or_default();
        if old.changes.checked_add(1) != Some(new.changes) {
            return Ok(false);
        }
        changes.put(key, new)?;
        if changes.commit().await? {
            return Ok(true);
        }
    }
}

pub async fn create(
    store: &Store,
    sightings: &Sightings,
    device: &Device,
    stream: &Stream,
    settings: &MediaSettings,
) -> Result<(), CreateError> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = DeviceChanges::next(store, &mut tries).await?;
        let name = keys::media_name(stream.account, &stream.media_stream_name);
        if changes.changes.get::<StreamId>(&name).await?.is_some() {
            return Err(CreateError::Taken { field: "mediaStreamName" });
        }
        let mut device = device.clone();
        if changes.by_external_id(device.account, &device.external_id).await?.is_some() {
            device.external_id = device.id.to_string();
        }
        changes.put_device(&device).await?;
        let external_id = keys::external_id(device.account, &device.external_id);
        changes.changes.put(external_id, &device.id)?;
        changes.changes.put(name, &stream.id)?;
        changes.changes.put(keys::stream(stream.id), stream)?;
        changes.changes.put(keys::among_all(stream.id).1, &stream.id)?;
        changes.put_streams_of(device.id, std::slice::from_ref(stream))?;
        changes.changes.put(keys::media_settings(stream.id), settings)?;
        if changes.commit(sightings).await? {
            return Ok(());
        }
    }
}

/// Takes from the devices that stand in for the one to come those of `listed` that `device`, which
/// has `own`, does not have by name; they are the new device's with all their footage, and its plan
/// holds for them.
pub async fn adopt(
    changes: &mut DeviceChanges<'_>,
    device: &Device,
    listed: &[Stream],
    own: &[Stream],
) -> Result<Vec<Stream>> {
    let mut adopted = Vec::new();
    for wanted in listed.iter().filter(|wanted| !own.iter().any(|own| own.name == wanted.name)) {
        let name = keys::media_name(device.account, &wanted.media_stream_name);
        let Some(id) = changes.changes.get::<StreamId>(&name).await? else { continue };
        let Some(stream) = changes.changes.get::<Stream>(&keys::stream(id)).await? else {
            continue;
        };
        let key = keys::media_settings(stream.id);
        let mut settings: MediaSettings = changes.changes.get(&key).await?.unwrap_or_default();
        let is_free = settings.unclaimed
            && devices::credentials_of(changes.store, stream.device).await?.is_empty();
        if !is_free {
            continue;
        }
        settings.unclaimed = false;
        settings.retention_hours = None;
        settings.changes += 1;
        changes.changes.put(key, &settings)?;
        changes.remove_device(stream.device).await?;
        adopted.push(Stream { name: wanted.name.clone(), device: device.id, ..stream });
    }
    Ok(adopted)
}

pub async fn delete(store: &Store, sightings: &Sightings, stream: StreamId) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = DeviceChanges::next(store, &mut tries).await?;
        let key = keys::stream(stream);
        let Some(stream) = changes.changes.get::<Stream>(&key).await? else { return Ok(()) };
        let settings_key = keys::media_settings(stream.id);
        let settings: Option<MediaSettings> = changes.changes.get(&settings_key).await?;
        if settings.is_some_and(|settings| settings.unclaimed) {
            devices::close_device(store, stream.device).await?;
            changes.remove_device(stream.device).await?;
        } else {
            let mut left = changes.streams_of(stream.device).await?;
            left.retain(|other| other.id != stream.id);
            changes.put_streams_of(stream.device, &left)?;
        }
        changes.changes.delete(keys::media_name(stream.account, &stream.media_stream_name));
        changes.changes.delete(settings_key);
        changes.changes.delete(keys::among_all(stream.id).1);
        changes.changes.delete(key);
        if changes.commit(sightings).await? {
            return Ok(());
        }
    }
}

pub async fn page(
    store: &Store,
    account: AccountId,
    query: &MediaStreamQuery,
) -> Result<Vec<Stream>> {
    let prefix = query.name_prefix.as_deref().unwrap_or_default();
    if prefix.len() > MAX_TEXT {
        return Ok(Vec::new());
    }
    let after = query.after.as_ref().map(|name| keys::media_name(account, name).sort);
    let places = Places::new(keys::media_names(account), prefix, after);
    let ids: Vec<StreamId> = store.list_records(&places, query.limit).await?;
    Ok(devices::streams_by_id(store, &ids).await?.into_iter().flatten().collect())
}
