//! Devices, their streams and credentials.

use super::changes::{Changes, Tries};
use super::keys::{self, Key, MAX_TEXT, Places};
use super::media_streams;
use super::shares;
use super::sightings::Sightings;
use super::store::{Item, Store, record};
use crate::device::{
    Device, DeviceChange, DeviceCredential, DeviceState, MAX_CREDENTIALS_OF_DEVICE, MAX_STREAMS,
    Stream,
};
use crate::id::{AccountId, CredentialId, DeviceId, StreamId};
use crate::storage::{CreateError, DeviceQuery, Registered, Registration, Result, StorageError};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// See the trait: a repeated registration is known for this long.
const REGISTRATION_MS: i64 = 24 * 3600 * 1000;
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

/// A change of devices, and those whose sightings are void once it is made.
#[derive(Debug)]
pub struct DeviceChanges<'a> {
    pub store: &'a Store,
    pub changes: Changes<'a>,
    forgotten: Vec<DeviceId>,
}

impl<'a> DeviceChanges<'a> {
    pub async fn next(store: &'a Store, tries: &mut Tries<'a>) -> Result<Self> {
        Ok(Self { store, changes: tries.next().await?, forgotten: Vec::new() })
    }

    /// See [`Changes::commit`].
    pub async fn commit(self, sightings: &Sightings) -> Result<bool> {
        let made = self.changes.commit().await?;
        if made {
            self.forgotten.into_iter().for_each(|device| sightings.forget(device));
        }
        Ok(made)
    }

    pub async fn by_external_id(
        &mut self,
        account: AccountId,
        external_id: &str,
    ) -> Result<Option<Device>> {
        match self.changes.get(&keys::external_id(account, external_id)).await? {
            Some(id) => self.changes.get(&keys::device(id)).await,
            None => Ok(None),
        }
    }

    pub async fn streams_of(&mut self, device: DeviceId) -> Result<Vec<Stream>> {
        let ids: Vec<StreamId> =
            self.changes.get(&keys::streams_of(device)).await?.unwrap_or_default();
        let streams = self.changes.get_each(&stream_keys(&ids)).await?;
        Ok(streams.into_iter().flatten().collect())
    }

    pub fn put_streams_of(&mut self, device: DeviceId, streams: &[Stream]) -> Result<()> {
        let ids: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        self.changes.put(keys::streams_of(device), &ids)
    }

    /// Adds or replaces a device, with its place among the account's names.
    pub async fn put_device(&mut self, device: &Device) -> Result<()> {
        let key = keys::device(device.id);
        let name = keys::device_name(device.account, &device.name, device.id);
        let old: Option<Device> = self.changes.get(&key).await?;
        let old_name = old.map(|old| keys::device_name(old.account, &old.name, old.id));
        if old_name.as_ref() != Some(&name) {
            if let Some(old_name) = old_name {
                self.changes.delete(old_name);
            }
            self.changes.put(name, &device.id)?;
        }
        self.changes.put(key, device)
    }

    /// Takes a device away that has no streams left, with its shares.
    pub async fn remove_device(&mut self, id: DeviceId) -> Result<()> {
        let Some(device) = self.changes.get::<Device>(&keys::device(id)).await? else {
            return Ok(());
        };
        for share in shares::of_device(self.store, id).await? {
            shares::remove(&mut self.changes, &share);
        }
        self.changes.delete(keys::device_name(device.account, &device.name, id));
        self.changes.delete(keys::external_id(device.account, &device.external_id));
        self.changes.delete(keys::streams_of(id));
        self.changes.delete(keys::device(id));
        self.forgotten.push(id);
        Ok(())
    }

    pub fn put_credential(&mut self, credential: &DeviceCredential) -> Result<()> {
        self.changes.put(keys::credential_of(credential.device, credential.id), &credential.id)?;
        self.changes.put(keys::credential(credential.id), credential)
    }

    async fn register(
        &mut self,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, CreateError> {
        let Some((key, digest)) = &registration.idempotency else {
            return self.register_new(registration, now).await;
        };
        let key = keys::registration(registration.device.account, key);
        let remembered: Option<Remembered> = self.changes.get(&key).await?;
        let remembered = remembered.filter(|past| now.millis_since(past.at) < REGISTRATION_MS);
        let known: Option<Device> = match &remembered {
            Some(past) => self.changes.get(&keys::device(past.device)).await?,
            None => None,
        };
        let in_service = known.is_none_or(|known| known.state != DeviceState::Retired);
        let (registered, at) = match remembered {
            Some(past) if past.digest != *digest => return Err(CreateError::IdempotencyConflict),
            Some(past) if in_service => {
                let earlier = keys::credential(past.credential);
                if let Some(mut earlier) = self.changes.get::<DeviceCredential>(&earlier).await? {
                    earlier.revoked_at = earlier.revoked_at.or(Some(now));
                    self.changes.put(keys::credential(earlier.id), &earlier)?;
                }
                (self.register_again(past.device, registration).await?, past.at)
            }
            past => {
                let at = past.map_or(now, |past| past.at);
                (self.register_new(registration, now).await?, at)
            }
        };
        let remembered = Remembered {
            digest: *digest,
            device: registered.device.id,
            credential: registered.credential.id,
            at,
        };
        self.changes.put_until(key, &remembered, at.plus_millis(REGISTRATION_MS))?;
        Ok(registered)
    }

    async fn register_again(
        &mut self,
        id: DeviceId,
        registration: &Registration,
    ) -> Result<Registered> {
        let device = self.changes.get(&keys::device(id)).await?.ok_or_else(|| {
            StorageError::Damaged(format!("{id} was registered and is not there"))
        })?;
        let credential = DeviceCredential { device: id, ..registration.credential.clone() };
        self.put_credential(&credential)?;
        Ok(Registered { device, streams: self.streams_of(id).await?, credential })
    }

    async fn register_new(
        &mut self,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, CreateError> {
        let mut device = registration.device.clone();
        let earlier = self.by_external_id(device.account, &device.external_id).await?;
        let mut kept = Vec::new();
        if let Some(earlier) = earlier.filter(|earlier| earlier.state == DeviceState::Retired) {
            device.id = earlier.id;
            device.created_at = earlier.created_at;
            self.forgotten.push(earlier.id);
            // One by one and beforehand: there may be more than fit into one step, and what a
            // retired device was given opens nothing.
            for old in credentials_of(self.store, earlier.id).await? {
                if old.revoked_at.is_none() {
                    revoke(self.store, old.id, now).await?;
                }
            }
            kept = self.streams_of(device.id).await?;
        }
        let adopted = media_streams::adopt(self, &device, &registration.streams, &kept).await?;
        // Asked after adoption: the device that stood in may have had the identifier.
        let in_force = self.by_external_id(device.account, &device.external_id).await?;
        if in_force.is_some_and(|in_force| in_force.state != DeviceState::Retired) {
            return Err(CreateError::Taken { field: "externalId" });
        }
        self.put_device(&device).await?;
        self.changes.put(keys::external_id(device.account, &device.external_id), &device.id)?;
        let streams = self.put_streams(&device, &registration.streams, kept, adopted).await?;
        let credential = DeviceCredential { device: device.id, ..registration.credential.clone() };
        self.put_credential(&credential)?;
        Ok(Registered { device, streams, credential })
    }

    /// Adds the streams that the device does not have by name; those it has keep their identifiers,
    /// and with them their footage, and come after the listed ones where they are not listed.
    async fn put_streams(
        &mut self,
        device: &Device,
        listed: &[Stream],
        mut kept: Vec<Stream>,
        mut adopted: Vec<Stream>,
    ) -> Result<Vec<Stream>, CreateError> {
        let mut streams: Vec<Stream> = Vec::with_capacity(listed.len() + kept.len());
        for stream in listed {
            if streams.iter().any(|earlier| earlier.name == stream.name) {
                return Err(CreateError::Taken { field: "name" });
            }
            let place = |known: &[Stream]| known.iter().position(|known| known.name == stream.name);
            match (place(&kept), place(&adopted)) {
                (Some(place), _) => streams.push(kept.remove(place)),
                (None, Some(place)) => {
                    streams.push(Stream { device: device.id, ..adopted.remove(place) });
                }
                (None, None) => {
                    let name = keys::media_name(device.account, &stream.media_stream_name);
                    if self.changes.get::<StreamId>(&name).await?.is_some() {
                        return Err(CreateError::Taken { field: "mediaStreamName" });
                    }
                    self.changes.put(name, &stream.id)?;
                    self.changes.put(keys::among_all(stream.id).1, &stream.id)?;
                    streams.push(Stream { device: device.id, ..stream.clone() });
                }
            }
        }
        streams.append(&mut kept);
        if streams.len() > MAX_STREAMS {
            return Err(CreateError::TooManyStreams(streams.len()));
        }
        for (position, stream) in streams.iter_mut().enumerate() {
            stream.position = u8::try_from(position).unwrap_or(u8::MAX);
            self.changes.put(keys::stream(stream.id), stream)?;
        }
        self.put_streams_of(device.id, &streams)?;
        Ok(streams)
    }
}

fn stream_keys(ids: &[StreamId]) -> Vec<Key> {
    ids.iter().map(|id| keys::stream(*id)).collect()
}

pub async fn register(
    store: &Store,
    sightings: &Sightings,
    registration: &Registration,
    now: Timestamp,
) -> Result<Registered, CreateError> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = DeviceChanges::next(store, &mut tries).await?;
        let mut registered = changes.register(registration, now).await?;
        if changes.commit(sightings).await? {
            let items = store.items(&[keys::device(registered.device.id)]).await?;
            if let Some(item) = items.into_iter().flatten().next() {
                sightings.apply(&mut registered.device, &item);
            }
            return Ok(registered);
        }
    }
}

pub async fn change(
    store: &Store,
    sightings: &Sightings,
    id: DeviceId,
    change: &DeviceChange,
) -> Result<Option<Device>> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = DeviceChanges::next(store, &mut tries).await?;
        if changes.changes.get::<Device>(&keys::device(id)).await?.is_none() {
            return Ok(None);
        }
        // The item that comes knows no sighting, so its record has to.
        let found = devices_by_id(store, sightings, &[id]).await?;
        let Some(mut device) = found.into_iter().flatten().next() else { return Ok(None) };
        if !change.clone().apply(&mut device) {
            return Ok(None);
        }
        changes.put_device(&device).await?;
        if changes.commit(sightings).await? {
            return Ok(Some(device));
        }
    }
}

/// The device of an item, as it was last heard of.
fn device_of(sightings: &Sightings, item: &Item) -> Result<Device> {
    let mut device = record(item)?;
    sightings.apply(&mut device, item);
    Ok(device)
}

pub async fn devices_by_id(
    store: &Store,
    sightings: &Sightings,
    ids: &[DeviceId],
) -> Result<Vec<Option<Device>>> {
    let keys: Vec<_> = ids.iter().map(|id| keys::device(*id)).collect();
    let items = store.items(&keys).await?;
    let devices = items.iter().map(|item| item.as_ref().map(|item| device_of(sightings, item)));
    devices.map(Option::transpose).collect()
}

pub async fn by_external_id(
    store: &Store,
    sightings: &Sightings,
    account: AccountId,
    external_id: &str,
) -> Result<Option<Device>> {
    let Some(id) = store.record(&keys::external_id(account, external_id)).await? else {
        return Ok(None);
    };
    Ok(devices_by_id(store, sightings, &[id]).await?.into_iter().flatten().next())
}

pub async fn page(
    store: &Store,
    sightings: &Sightings,
    account: AccountId,
    query: &DeviceQuery,
) -> Result<Vec<Device>> {
    let prefix = query.name_prefix.as_deref().unwrap_or_default().to_lowercase();
    if prefix.len() > MAX_TEXT {
        return Ok(Vec::new());
    }
    let after = query.after.as_ref().map(|(name, id)| keys::device_name(account, name, *id).sort);
    let places = Places::new(keys::device_names(account), &prefix, after);
    let ids: Vec<DeviceId> = store.list_records(&places, query.limit).await?;
    Ok(devices_by_id(store, sightings, &ids).await?.into_iter().flatten().collect())
}

pub async fn streams_by_id(store: &Store, ids: &[StreamId]) -> Result<Vec<Option<Stream>>> {
    store.records(&stream_keys(ids)).await
}

pub async fn streams_of(store: &Store, devices: &[DeviceId]) -> Result<Vec<Vec<Stream>>> {
    let lists: Vec<_> = devices.iter().map(|device| keys::streams_of(*device)).collect();
    let lists: Vec<Option<Vec<StreamId>>> = store.records(&lists).await?;
    let lists: Vec<Vec<StreamId>> = lists.into_iter().map(Option::unwrap_or_default).collect();
    let mut streams = streams_by_id(store, &lists.concat()).await?.into_iter();
    let of_device =
        |ids: &Vec<StreamId>| streams.by_ref().take(ids.len()).flatten().collect::<Vec<_>>();
    Ok(lists.iter().map(of_device).collect())
}

pub async fn all_streams(
    store: &Store,
    after: Option<StreamId>,
    limit: usize,
) -> Result<Vec<StreamId>> {
    let mut after = after.map(keys::among_all);
    let first = after.as_ref().map(|(shard, _)| *shard);
    let mut streams = Vec::new();
    for shard in keys::shards().skip_while(|shard| first.is_some_and(|first| *shard != first)) {
        let after = after.take().map(|(_, key)| key.sort);
        let places = Places::new(keys::all_streams(shard), "", after);
        streams.extend(store.list_records::<StreamId>(&places, limit - streams.len()).await?);
        if streams.len() >= limit {
            break;
        }
    }
    Ok(streams)
}

pub async fn stream_by_media_name(
    store: &Store,
    account: AccountId,
    name: &str,
) -> Result<Option<Stream>> {
    match store.record(&keys::media_name(account, name)).await? {
        Some(id) => store.record(&keys::stream(id)).await,
        None => Ok(None),
    }
}

pub async fn put_credential(
    store: &Store,
    sightings: &Sightings,
    credential: &DeviceCredential,
) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = DeviceChanges::next(store, &mut tries).await?;
        changes.put_credential(credential)?;
        if changes.commit(sightings).await? {
            return Ok(());
        }
    }
}

/// Credentials given at the same moment may be a few more than there is room for.
pub async fn add_credential(
    store: &Store,
    sightings: &Sightings,
    new: &DeviceCredential,
    now: Timestamp,
) -> Result<bool> {
    let (valid, ended): (Vec<_>, Vec<_>) = credentials_of(store, new.device)
        .await?
        .into_iter()
        .partition(|credential| credential.is_valid(now));
    if valid.len() >= MAX_CREDENTIALS_OF_DEVICE {
        return Ok(false);
    }
    if valid.len() + ended.len() >= MAX_CREDENTIALS_OF_DEVICE {
        for credential in &ended {
            delete_credential(store, credential.device, credential.id).await?;
        }
    }
    put_credential(store, sightings, new).await?;
    Ok(true)
}

async fn delete_credential(store: &Store, device: DeviceId, id: CredentialId) -> Result<()> {
    store.delete(&keys::credential(id)).await?;
    store.delete(&keys::credential_of(device, id)).await
}

pub async fn note_credential_used(store: &Store, id: CredentialId, at: Timestamp) -> Result<()> {
    change_credential(store, id, |credential| {
        if credential.is_news(at) { Some(credential.used(at)) } else { None }
    })
    .await
}

async fn revoke(store: &Store, id: CredentialId, at: Timestamp) -> Result<()> {
    change_credential(store, id, |credential| match credential.revoked_at {
        Some(_) => None,
        None => Some(DeviceCredential { revoked_at: Some(at), ..credential }),
    })
    .await
}

/// Replaces a credential by what `change` makes of it, if anything.
async fn change_credential(
    store: &Store,
    id: CredentialId,
    change: impl Fn(DeviceCredential) -> Option<DeviceCredential>,
) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::credential(id);
        let Some(changed) = changes.get(&key).await?.and_then(&change) else { return Ok(()) };
        changes.put(key, &changed)?;
        if changes.commit().await? {
            return Ok(());
        }
    }
}

pub async fn credentials_of(store: &Store, device: DeviceId) -> Result<Vec<DeviceCredential>> {
    let places = Places::all(keys::credentials_of(device));
    let ids: Vec<CredentialId> = store.list_records(&places, MAX_CREDENTIALS).await?;
    let keys: Vec<_> = ids.into_iter().map(keys::credential).collect();
    Ok(store.records(&keys).await?.into_iter().flatten().collect())
}

/// Takes the credentials and shares of a device away that is to go. One by one, as there may be more
/// than fit into one step: without its device none of them opens anything.
pub async fn close_device(store: &Store, device: DeviceId) -> Result<()> {
    for share in shares::of_device(store, device).await? {
        shares::delete(store, share.id).await?;
    }
    for credential in credentials_of(store, device).await? {
        delete_credential(store, device, credential.id).await?;
    }
    Ok(())
}
