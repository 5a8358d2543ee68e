//! Shares: users' access to devices.

use super::tables::{Tables, decode, get, key, put};
use crate::access::{MAX_SHARES_OF_DEVICE, MAX_SHARES_WITH_USER, Share};
use crate::id::{DeviceId, ShareId, UserId};
use crate::storage::Result;
use crate::storage::embedded::lmdb::Table;
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;

pub fn share(tables: &Tables, txn: &RoTxn, id: ShareId) -> Result<Option<Share>> {
    get(txn, tables.shares, &id.0.to_be_bytes())
}

pub fn of_device(tables: &Tables, txn: &RoTxn, device: DeviceId) -> Result<Vec<Share>> {
    listed(tables, txn, tables.device_shares, device.0.to_be_bytes())
}

pub fn with_user(tables: &Tables, txn: &RoTxn, user: UserId) -> Result<Vec<Share>> {
    listed(tables, txn, tables.user_shares, user.0.to_be_bytes())
}

/// Those that a look-up table has under `prefix`, by age.
fn listed(tables: &Tables, txn: &RoTxn, table: Table, prefix: [u8; 16]) -> Result<Vec<Share>> {
    let mut shares = Vec::new();
    for entry in table.prefix_iter(txn, &prefix)? {
        shares.extend(share(tables, txn, decode(entry?.1)?)?);
    }
    shares.sort_by_key(|share: &Share| (share.created_at, share.id));
    Ok(shares)
}

pub fn put_share(
    tables: &Tables,
    txn: &mut RwTxn,
    mut new: Share,
    now: Timestamp,
) -> Result<Option<Share>> {
    let mut of_device = of_device(tables, txn, new.device)?;
    let mut with_user = with_user(tables, txn, new.user)?;
    for ended in of_device.iter().chain(&with_user).filter(|share| !share.is_in_force(now)) {
        remove(tables, txn, ended)?;
    }
    of_device.retain(|share| share.is_in_force(now));
    with_user.retain(|share| share.is_in_force(now));
    match of_device.iter().find(|share| share.user == new.user) {
        Some(replaced) => new = Share { id: replaced.id, created_at: replaced.created_at, ..new },
        None if of_device.len() >= MAX_SHARES_OF_DEVICE => return Ok(None),
        None if with_user.len() >= MAX_SHARES_WITH_USER => return Ok(None),
        None => {}
    }
    put(txn, tables.shares, &new.id.0.to_be_bytes(), &new)?;
    put(txn, tables.device_shares, &device_key(&new), &new.id)?;
    put(txn, tables.user_shares, &user_key(&new), &new.id)?;
    Ok(Some(new))
}

pub fn delete_share(tables: &Tables, txn: &mut RwTxn, id: ShareId) -> Result<()> {
    match share(tables, txn, id)? {
        Some(share) => remove(tables, txn, &share),
        None => Ok(()),
    }
}

/// Takes away all shares of a device that goes.
pub fn remove_device(tables: &Tables, txn: &mut RwTxn, device: DeviceId) -> Result<()> {
    of_device(tables, txn, device)?.iter().try_for_each(|share| remove(tables, txn, share))
}

fn remove(tables: &Tables, txn: &mut RwTxn, share: &Share) -> Result<()> {
    tables.device_shares.delete(txn, &device_key(share))?;
    tables.user_shares.delete(txn, &user_key(share))?;
    tables.shares.delete(txn, &share.id.0.to_be_bytes())?;
    Ok(())
}

pub fn device_key(share: &Share) -> Vec<u8> {
    key(&[&share.device.0.to_be_bytes(), &share.user.0.to_be_bytes()])
}

pub fn user_key(share: &Share) -> Vec<u8> {
    key(&[&share.user.0.to_be_bytes(), &share.device.0.to_be_bytes()])
}
