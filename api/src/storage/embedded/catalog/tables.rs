//! The catalog's tables, their keys and the version of their form.
//!
//! Values are JSON, so that a field can be added without touching what is stored. Keys are
//! identifiers of 16 bytes, numbers big-endian, instants that sort as they should, and text of
//! limited length at the end.

use crate::storage::embedded::lmdb::{self, Durability, Table};
use crate::storage::{Result, StorageError};
use aws_lc_rs::digest;
use heed::{Env, RoTxn, RwTxn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// LMDB takes keys of 511 bytes; with up to three identifiers before it a text may have this many.
/// A longer one is cut and ends in its digest, which keeps it unique.
const MAX_TEXT: usize = 200;

/// The value where the key says all.
pub const NOTHING: &[u8] = &[];

#[derive(Clone, Copy, Debug)]
pub struct Tables {
    meta: Table,
    /// account → Account
    pub accounts: Table,
    /// name → account
    pub account_names: Table,
    /// user → User
    pub users: Table,
    /// account, name → user
    pub user_names: Table,
    /// sign-in → SignIn
    pub sign_ins: Table,
    /// expiry, sign-in → nothing
    pub sign_in_ends: Table,
    /// plan → RetentionPlan
    pub plans: Table,
    /// account, plan → nothing
    pub account_plans: Table,
    /// device → Device
    pub devices: Table,
    /// account, external identifier → device
    pub external_ids: Table,
    /// account, lower-cased name, 0, device → nothing
    pub device_names: Table,
    /// stream → Stream
    pub streams: Table,
    /// device, position, stream → nothing
    pub device_streams: Table,
    /// account, media stream name → stream
    pub media_names: Table,
    /// credential → DeviceCredential
    pub credentials: Table,
    /// device, credential → nothing
    pub device_credentials: Table,
    /// account, key → what the registration was
    pub registrations: Table,
    /// time, account, key → nothing
    pub registration_times: Table,
    /// stream, window, key → Segment
    pub segments: Table,
    /// stream, start, window, key → end
    pub segment_starts: Table,
    /// stream, time of ingestion, window, key → nothing
    pub segment_arrivals: Table,
    /// stream → what is known of all its segments
    pub announced: Table,
    /// stream → how long it is kept
    pub kept: Table,
}

/// Opens the tables, and brings what an earlier version wrote up to date.
pub fn open(dir: &Path, durability: Durability) -> Result<(Env, Tables)> {
    let names = [
        "meta",
        "accounts",
        "account_names",
        "users",
        "user_names",
        "sign_ins",
        "sign_in_ends",
        "plans",
        "account_plans",
        "devices",
        "external_ids",
        "device_names",
        "streams",
        "device_streams",
        "media_names",
        "credentials",
        "device_credentials",
        "registrations",
        "registration_times",
        "segments",
        "segment_starts",
        "segment_arrivals",
        "announced",
        "kept",
    ];
    let (env, tables) = lmdb::open(dir, names, durability)?;
    let [
        meta,
        accounts,
        account_names,
        users,
        user_names,
        sign_ins,
        sign_in_ends,
        plans,
        account_plans,
        devices,
        external_ids,
        device_names,
        streams,
        device_streams,
        media_names,
        credentials,
        device_credentials,
        registrations,
        registration_times,
        segments,
        segment_starts,
        segment_arrivals,
        announced,
        kept,
    ] = tables;
    let tables = Tables {
        meta,
        accounts,
        account_names,
        users,
        user_names,
        sign_ins,
        sign_in_ends,
        plans,
        account_plans,
        devices,
        external_ids,
        device_names,
        streams,
        device_streams,
        media_names,
        credentials,
        device_credentials,
        registrations,
        registration_times,
        segments,
        segment_starts,
        segment_arrivals,
        announced,
        kept,
    };
    tables.migrate(&env)?;
    Ok((env, tables))
}

/// Step `i` makes version `i + 1` of version `i`. Version 0 is an empty catalog.
const MIGRATIONS: [fn(&Tables, &mut RwTxn) -> Result<()>; 1] = [|_, _| Ok(())];

impl Tables {
    fn migrate(&self, env: &Env) -> Result<()> {
        let mut txn = env.write_txn()?;
        let found: usize = get(&txn, self.meta, b"version")?.unwrap_or(0);
        let Some(steps) = MIGRATIONS.get(found..) else {
            return Err(StorageError::Unavailable(format!(
                "the catalog is of version {found}; this server knows {} and older ones",
                MIGRATIONS.len()
            )));
        };
        for step in steps {
            step(self, &mut txn)?;
        }
        if !steps.is_empty() {
            put(&mut txn, self.meta, b"version", &MIGRATIONS.len())?;
            txn.commit()?;
        }
        Ok(())
    }
}

/// The record under `key`.
pub fn get<T: DeserializeOwned>(txn: &RoTxn, table: Table, key: &[u8]) -> Result<Option<T>> {
    table.get(txn, key)?.map(decode).transpose()
}

pub fn put<T: Serialize>(txn: &mut RwTxn, table: Table, key: &[u8], record: &T) -> Result<()> {
    let value = serde_json::to_vec(record)
        .map_err(|error| StorageError::Damaged(format!("a record cannot be written: {error}")))?;
    Ok(table.put(txn, key, &value)?)
}

pub fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value)
        .map_err(|error| StorageError::Damaged(format!("a record cannot be read: {error}")))
}

/// Parts of a key, one after the other.
pub fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A text as the end of a key.
pub fn text(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    match bytes.get(..MAX_TEXT - 32) {
        Some(cut) if bytes.len() > MAX_TEXT => {
            [cut, digest::digest(&digest::SHA256, bytes).as_ref()].concat()
        }
        // The empty key is not allowed, so every text ends in a zero.
        _ => [bytes, &[0]].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (env, tables) = open(dir.path(), Durability::None).unwrap();
            let mut txn = env.write_txn().unwrap();
            put(&mut txn, tables.meta, b"version", &(MIGRATIONS.len() + 1)).unwrap();
            txn.commit().unwrap();
        }
        let refused = open(dir.path(), Durability::None).unwrap_err();
        assert!(refused.to_string().contains("version 2"), "{refused}");
    }
}
