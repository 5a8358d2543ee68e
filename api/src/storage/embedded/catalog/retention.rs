//! How each stream is kept: what its plan said when retention last looked; what is held; what was
//! deleted, and what was never recorded.

use super::tables::{NOTHING, Tables, decode, get, key, put};
use super::users::first_keys;
use crate::account::RetentionMode;
use crate::id::{HoldId, StreamId, Ulid};
use crate::keeping::{Deletion, Hold, Keeping, Kept, KnownGap, MAX_HOLDS, MAX_KNOWN_GAPS};
use crate::segment::TimeRange;
use crate::storage::Result;
use crate::storage::embedded::lmdb::time_key;
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use serde::Deserialize;

/// What is in force, where noting `keeping` changes nothing.
pub fn keeping_in_force(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    keeping: Keeping,
) -> Result<Option<Keeping>> {
    let kept: Option<Kept> = get(txn, tables.kept, &stream.0.to_be_bytes())?;
    let unchanged = kept.filter(|kept| kept.less.is_none() && kept.keeping == keeping);
    Ok(unchanged.map(|kept| kept.keeping))
}

pub fn note_keeping(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    keeping: Keeping,
    now: Timestamp,
) -> Result<Keeping> {
    let key = stream.0.to_be_bytes();
    let mut kept = get(txn, tables.kept, &key)?.unwrap_or(Kept::new(keeping));
    kept.note(keeping, now);
    put(txn, tables.kept, &key, &kept)?;
    Ok(kept.keeping)
}

/// Before, days were noted, of everything.
pub fn count_in_hours(tables: &Tables, txn: &mut RwTxn) -> Result<()> {
    #[derive(Deserialize)]
    struct KeptDays {
        days: u32,
        shorter: Option<(u32, Timestamp)>,
    }
    let of_days =
        |days: u32| Keeping { hours: days.saturating_mul(24), mode: RetentionMode::Continuous };
    for stream in first_keys(txn, tables.kept, &[], usize::MAX)? {
        let Some(kept) = get::<KeptDays>(txn, tables.kept, &stream)? else { continue };
        let less = kept.shorter.map(|(days, since)| (of_days(days), since));
        put(txn, tables.kept, &stream, &Kept { keeping: of_days(kept.days), less })?;
    }
    Ok(())
}

pub fn hold_key(hold: &Hold) -> Vec<u8> {
    let start = time_key(hold.range.start.as_millis());
    key(&[&hold.stream.0.to_be_bytes(), &start, &hold.id.0.to_be_bytes()])
}

pub fn hold(tables: &Tables, txn: &RoTxn, id: HoldId) -> Result<Option<Hold>> {
    get(txn, tables.holds, &id.0.to_be_bytes())
}

pub fn put_hold(tables: &Tables, txn: &mut RwTxn, hold: &Hold) -> Result<bool> {
    let placed = first_keys(txn, tables.stream_holds, &hold.stream.0.to_be_bytes(), MAX_HOLDS)?;
    if placed.len() >= MAX_HOLDS {
        let mut ended = 0;
        for placed in holds_under(tables, txn, &placed)? {
            if !placed.is_in_force(hold.created_at) {
                delete_hold(tables, txn, placed.id)?;
                ended += 1;
            }
        }
        if ended == 0 {
            return Ok(false);
        }
    }
    tables.stream_holds.put(txn, &hold_key(hold), NOTHING)?;
    put(txn, tables.holds, &hold.id.0.to_be_bytes(), hold)?;
    Ok(true)
}

pub fn delete_hold(tables: &Tables, txn: &mut RwTxn, id: HoldId) -> Result<()> {
    if let Some(hold) = hold(tables, txn, id)? {
        tables.stream_holds.delete(txn, &hold_key(&hold))?;
        tables.holds.delete(txn, &id.0.to_be_bytes())?;
    }
    Ok(())
}

pub fn holds(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    range: TimeRange,
) -> Result<Vec<Hold>> {
    let placed = first_keys(txn, tables.stream_holds, &stream.0.to_be_bytes(), MAX_HOLDS)?;
    let mut holds = holds_under(tables, txn, &placed)?;
    holds.retain(|hold| hold.range.overlaps(&range));
    Ok(holds)
}

fn holds_under(tables: &Tables, txn: &RoTxn, keys: &[Vec<u8>]) -> Result<Vec<Hold>> {
    let mut holds = Vec::new();
    for id in keys.iter().filter_map(|key| key.last_chunk::<16>()) {
        holds.extend(hold(tables, txn, HoldId(Ulid::from_be_bytes(*id)))?);
    }
    Ok(holds)
}

pub fn deletion_key(deletion: &Deletion) -> Vec<u8> {
    key(&[&deletion.stream.0.to_be_bytes(), &deletion.last.0.to_be_bytes()])
}

pub fn put_deletion(tables: &Tables, txn: &mut RwTxn, mut deletion: Deletion) -> Result<()> {
    let key = deletion_key(&deletion);
    if !deletion.is_done {
        tables.open_deletions.put(txn, &key, NOTHING)?;
        return put(txn, tables.deletions, &key, &deletion);
    }
    tables.open_deletions.delete(txn, &key)?;
    for other in deletion.take_in(of_stream(tables, txn, deletion.stream)?) {
        tables.deletions.delete(txn, &deletion_key(&other))?;
    }
    put(txn, tables.deletions, &key, &deletion)
}

pub fn deletions(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    range: TimeRange,
) -> Result<Vec<Deletion>> {
    let mut deletions = of_stream(tables, txn, stream)?;
    deletions.retain(|deletion| deletion.range.overlaps(&range));
    Ok(deletions)
}

fn of_stream(tables: &Tables, txn: &RoTxn, stream: StreamId) -> Result<Vec<Deletion>> {
    let found = tables.deletions.prefix_iter(txn, &stream.0.to_be_bytes())?;
    found.map(|entry| decode(entry?.1)).collect()
}

pub fn open_deletions(tables: &Tables, txn: &RoTxn, limit: usize) -> Result<Vec<Deletion>> {
    let mut open = Vec::new();
    for key in first_keys(txn, tables.open_deletions, &[], limit)? {
        open.extend(get::<Deletion>(txn, tables.deletions, &key)?);
    }
    Ok(open)
}

pub fn forget_deletions(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    before: Timestamp,
) -> Result<()> {
    for deletion in of_stream(tables, txn, stream)? {
        if deletion.is_done && deletion.range.end < before {
            tables.deletions.delete(txn, &deletion_key(&deletion))?;
        }
    }
    Ok(())
}

fn known_gap_key(stream: StreamId, start: Timestamp) -> Vec<u8> {
    key(&[&stream.0.to_be_bytes(), &time_key(start.as_millis())])
}

pub fn put_known_gaps(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    gaps: &[KnownGap],
) -> Result<()> {
    for gap in gaps {
        put(txn, tables.known_gaps, &known_gap_key(stream, gap.range.start), gap)?;
    }
    let noted = first_keys(txn, tables.known_gaps, &stream.0.to_be_bytes(), usize::MAX)?;
    for oldest in noted.iter().take(noted.len().saturating_sub(MAX_KNOWN_GAPS)) {
        tables.known_gaps.delete(txn, oldest)?;
    }
    Ok(())
}

pub fn known_gaps(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    range: TimeRange,
) -> Result<Vec<KnownGap>> {
    let mut gaps = Vec::new();
    for entry in tables.known_gaps.prefix_iter(txn, &stream.0.to_be_bytes())? {
        let gap: KnownGap = decode(entry?.1)?;
        if gap.range.start >= range.end {
            break;
        }
        gaps.extend(Some(gap).filter(|gap| gap.range.overlaps(&range)));
    }
    Ok(gaps)
}

pub fn forget_known_gaps(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    before: Timestamp,
) -> Result<()> {
    for gap in known_gaps(tables, txn, stream, TimeRange::ALL)? {
        if gap.range.end < before {
            tables.known_gaps.delete(txn, &known_gap_key(stream, gap.range.start))?;
        }
    }
    Ok(())
}
