//! Shares: users' access to devices. Each is written three times, in one step: by its identifier,
//! among its device's and among its user's, so that each question is one request.

use super::changes::{Changes, Tries};
use super::keys::{self, Places};
use super::store::Store;
use crate::access::{MAX_SHARES_OF_DEVICE, MAX_SHARES_WITH_USER, Share};
use crate::id::{DeviceId, ShareId, UserId};
use crate::storage::Result;
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;

pub async fn of_devices(store: &Store, devices: &[DeviceId]) -> Result<Vec<Vec<Share>>> {
    try_join_all(devices.iter().map(|device| of_device(store, *device))).await
}

pub async fn of_device(store: &Store, device: DeviceId) -> Result<Vec<Share>> {
    listed(store, keys::shares_of(device)).await
}

pub async fn with_user(store: &Store, user: UserId) -> Result<Vec<Share>> {
    listed(store, keys::shares_with(user)).await
}

async fn listed(store: &Store, partition: String) -> Result<Vec<Share>> {
    let mut shares: Vec<Share> = store.list_records(&Places::all(partition), usize::MAX).await?;
    shares.sort_by_key(|share| (share.created_at, share.id));
    Ok(shares)
}

/// Shares given at the same moment may be a few more than there is room for.
pub async fn put(store: &Store, new: &Share, now: Timestamp) -> Result<Option<Share>> {
    let mut of_device = of_device(store, new.device).await?;
    let mut with_user = with_user(store, new.user).await?;
    // Beforehand: there may be more than fit into one step, and they open nothing.
    for ended in of_device.iter().chain(&with_user).filter(|share| !share.is_in_force(now)) {
        delete(store, ended.id).await?;
    }
    of_device.retain(|share| share.is_in_force(now));
    with_user.retain(|share| share.is_in_force(now));
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::share_of(new.device, new.user);
        let share = match changes.get::<Share>(&key).await? {
            Some(replaced) => {
                Share { id: replaced.id, created_at: replaced.created_at, ..new.clone() }
            }
            None if of_device.len() >= MAX_SHARES_OF_DEVICE => return Ok(None),
            None if with_user.len() >= MAX_SHARES_WITH_USER => return Ok(None),
            None => new.clone(),
        };
        changes.put(key, &share)?;
        changes.put(keys::share_with(share.user, share.device), &share)?;
        changes.put(keys::share(share.id), &share)?;
        if changes.commit().await? {
            return Ok(Some(share));
        }
    }
}

pub async fn delete(store: &Store, id: ShareId) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let Some(share) = changes.get::<Share>(&keys::share(id)).await? else { return Ok(()) };
        remove(&mut changes, &share);
        if changes.commit().await? {
            return Ok(());
        }
    }
}

pub fn remove(changes: &mut Changes<'_>, share: &Share) {
    changes.delete(keys::share_of(share.device, share.user));
    changes.delete(keys::share_with(share.user, share.device));
    changes.delete(keys::share(share.id));
}
