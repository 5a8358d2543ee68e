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

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy, Debug)]
        pub struct Tables {
            $($(#[$doc])* pub $name: Table,)*
        }

        impl Tables {
            fn open(dir: &Path, durability: Durability) -> Result<(Env, Self)> {
                let (env, [$($name),*]) =
                    lmdb::open(dir, [$(stringify!($name)),*], durability)?;
                Ok((env, Self { $($name),* }))
            }

            pub fn named(&self, name: &str) -> Option<Table> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

tables! {
    /// what is said of the whole catalog
    meta,
    /// account → Account
    accounts,
    /// name → account
    account_names,
    /// user → User
    users,
    /// account, name → user
    user_names,
    /// account, issuer and subject → user
    user_identities,
    /// share → Share
    shares,
    /// device, user → share
    device_shares,
    /// user, device → share
    user_shares,
    /// account, line → AuditEntry
    audit,
    /// sign-in → SignIn
    sign_ins,
    /// expiry, sign-in → nothing
    sign_in_ends,
    /// plan → RetentionPlan
    plans,
    /// account, plan → nothing
    account_plans,
    /// device → Device
    devices,
    /// account, external identifier → device
    external_ids,
    /// account, lower-cased name, 0, device → nothing
    device_names,
    /// stream → Stream
    streams,
    /// device, position, stream → nothing
    device_streams,
    /// stream, UTC day → bytes that arrived on it
    arrivals,
    /// account, media stream name → stream
    media_names,
    /// stream → MediaSettings
    media_settings,
    /// credential → DeviceCredential
    credentials,
    /// device, credential → nothing
    device_credentials,
    /// account, key → what the registration was
    registrations,
    /// time, account, key → nothing
    registration_times,
    /// stream, window, key → Segment
    segments,
    /// stream, start, window, key → end, why it was recorded
    segment_starts,
    /// stream, time of ingestion, window, key → nothing
    segment_arrivals,
    /// stream → what is known of all its segments
    announced,
    /// device, window, key → Event
    events,
    /// device, start, window, key → nothing
    event_starts,
    /// device, time of the first report, window, key → nothing
    event_arrivals,
    /// device, window, key → the JPEG that came with the event
    event_pictures,
    /// device, window, key, who saw the event → nothing
    seen,
    /// account, webhook → Webhook
    webhooks,
    /// webhook → WebhookState
    webhook_states,
    /// webhook, when it is due, delivery → Delivery
    deliveries,
    /// stream, start → KnownGap
    known_gaps,
    /// stream → how long it is kept
    kept,
    /// hold → Hold
    holds,
    /// stream, start, hold → nothing
    stream_holds,
    /// stream, number → Deletion
    deletions,
    /// stream, number → nothing; of those that are not done
    open_deletions,
}

/// Opens the tables, and brings what an earlier version wrote up to date.
pub fn open(dir: &Path, durability: Durability) -> Result<(Env, Tables)> {
    let (env, tables) = Tables::open(dir, durability)?;
    tables.migrate(&env)?;
    Ok((env, tables))
}

/// Step `i` makes version `i + 1` of version `i`. Version 0 is an empty catalog.
const MIGRATIONS: [fn(&Tables, &mut RwTxn) -> Result<()>; 3] =
    [|_, _| Ok(()), super::retention::count_in_hours, super::segments::note_triggers];

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
    Ok(table.put(txn, key, &encode(record)?)?)
}

pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record)
        .map_err(|error| StorageError::Damaged(format!("a record cannot be written: {error}")))
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

/// What keys of all texts begin with that begin with `text`: of a long one, as much as keys hold.
pub fn text_prefix(text: &str) -> &[u8] {
    let bytes = text.as_bytes();
    bytes.get(..MAX_TEXT - 32).unwrap_or(bytes)
}

/// What [`text`] was made of; of a long one, what is left of it.
pub fn text_of(end: &[u8]) -> String {
    let text = end.strip_suffix(&[0]).or(end.get(..MAX_TEXT - 32)).unwrap_or(end);
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::segments;
    use super::*;
    use crate::id::StreamId;
    use crate::segment::{NewSegment, RecordingTrigger, TimeRange};
    use crate::storage::{SegmentQuery, TimeOrder};
    use lookback_wire::Timestamp;

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
        assert!(refused.to_string().contains("version 4"), "{refused}");
    }

    #[test]
    fn why_older_segments_were_recorded_is_found_again() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let stream = StreamId::new(at);
        let triggers = [RecordingTrigger::Event, RecordingTrigger::Continuous];
        let segments = triggers.into_iter().zip(0..).map(|(trigger, number)| {
            let start = at.plus_millis(number * 20_000);
            NewSegment {
                client_segment_id: number.to_string(),
                range: TimeRange { start, end: start.plus_millis(20_000) },
                trigger,
                codecs: None,
                width: None,
                height: None,
                size_bytes: None,
            }
        });
        let dir = tempfile::tempdir().unwrap();
        {
            let (env, tables) = open(dir.path(), Durability::None).unwrap();
            let mut txn = env.write_txn().unwrap();
            segments::announce(&tables, &mut txn, stream, segments.collect(), at).unwrap();
            let starts: Vec<(Vec<u8>, Vec<u8>)> = tables
                .segment_starts
                .iter(&txn)
                .unwrap()
                .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
                .collect();
            for (key, value) in starts {
                tables.segment_starts.put(&mut txn, &key, &value[..8]).unwrap();
            }
            put(&mut txn, tables.meta, b"version", &2).unwrap();
            txn.commit().unwrap();
        }
        let (env, tables) = open(dir.path(), Durability::None).unwrap();
        let txn = env.read_txn().unwrap();
        let range = TimeRange { start: at, end: at.plus_millis(60_000) };
        let query = SegmentQuery { range, order: TimeOrder::OldestFirst, after: None, limit: 10 };
        let found = segments::spans(&tables, &txn, stream, &query).unwrap();
        assert_eq!(found.iter().map(|span| span.trigger).collect::<Vec<_>>(), triggers);
    }
}
