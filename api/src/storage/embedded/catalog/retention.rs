//! For how long each stream is kept: what its plan said when retention last looked.

use super::tables::{Tables, get, put};
use crate::id::StreamId;
use crate::storage::Result;
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// See the trait: how long a shorter time waits.
const GRACE_MS: i64 = 24 * 3600 * 1000;

#[derive(Serialize, Deserialize)]
struct Kept {
    days: u32,
    /// A shorter time, and when it was first noted.
    shorter: Option<(u32, Timestamp)>,
}

/// The days in force, where noting `days` changes nothing.
pub fn days_in_force(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    days: u32,
) -> Result<Option<u32>> {
    let kept: Option<Kept> = get(txn, tables.kept, &stream.0.to_be_bytes())?;
    Ok(kept.filter(|kept| kept.shorter.is_none() && kept.days == days).map(|kept| kept.days))
}

pub fn note_days(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    days: u32,
    now: Timestamp,
) -> Result<u32> {
    let key = stream.0.to_be_bytes();
    let mut kept = get(txn, tables.kept, &key)?.unwrap_or(Kept { days, shorter: None });
    kept.shorter = match kept.shorter {
        _ if days >= kept.days => {
            kept.days = days;
            None
        }
        Some((noted, since)) if noted == days && now.millis_since(since) >= GRACE_MS => {
            kept.days = days;
            None
        }
        Some((noted, since)) if noted == days => Some((noted, since)),
        _ => Some((days, now)),
    };
    put(txn, tables.kept, &key, &kept)?;
    Ok(kept.days)
}
