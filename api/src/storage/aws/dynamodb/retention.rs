//! How each stream is kept: what its plan said when retention last looked; what is held; what was
//! deleted.
//!
//! Holds and deletions are several items each, written one after the other without a transaction, in
//! an order in which whoever reads in between, or after a write that failed, sees nothing half.

use super::changes::Tries;
use super::keys::{self, Key, Places};
use super::store::{Store, record};
use crate::id::{HoldId, StreamId};
use crate::keeping::{Deletion, Hold, Keeping, Kept, KnownGap, MAX_HOLDS, MAX_KNOWN_GAPS};
use crate::segment::TimeRange;
use crate::storage::Result;
use futures_util::future::try_join_all;
use lookback_wire::{FragmentNumber, Timestamp};
use serde::{Deserialize, Serialize};

pub async fn keeping_in_force(
    store: &Store,
    stream: StreamId,
    keeping: Keeping,
    now: Timestamp,
) -> Result<Keeping> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::kept(stream);
        let stored: Option<Kept> = changes.get(&key).await?;
        let mut kept = stored.clone().unwrap_or(Kept::new(keeping));
        kept.note(keeping, now);
        if stored.as_ref() == Some(&kept) {
            return Ok(kept.keeping);
        }
        changes.put(key, &kept)?;
        if changes.commit().await? {
            return Ok(kept.keeping);
        }
    }
}

/// Where a hold is among its stream's.
#[derive(Serialize, Deserialize)]
struct HoldPlace {
    partition: String,
    sort: String,
}

/// The place first: one without a hold is none. Holds placed at the same moment may be a few more
/// than there is room for.
pub async fn put_hold(store: &Store, hold: &Hold) -> Result<bool> {
    if store.count(keys::holds_of(hold.stream)).await? >= MAX_HOLDS {
        let mut ended = holds(store, hold.stream, TimeRange::ALL).await?;
        ended.retain(|placed| !placed.is_in_force(hold.created_at));
        if ended.is_empty() {
            return Ok(false);
        }
        for hold in ended {
            delete(store, &hold).await?;
        }
    }
    let key = keys::hold(hold.stream, hold.range, hold.id);
    let place = HoldPlace { partition: key.partition.clone(), sort: key.sort.clone() };
    store.put(&keys::hold_place(hold.id), &place).await?;
    store.put(&key, hold).await?;
    Ok(true)
}

pub async fn hold(store: &Store, id: HoldId) -> Result<Option<Hold>> {
    match store.record::<HoldPlace>(&keys::hold_place(id)).await? {
        Some(HoldPlace { partition, sort }) => store.record(&Key { partition, sort }).await,
        None => Ok(None),
    }
}

pub async fn holds(store: &Store, stream: StreamId, range: TimeRange) -> Result<Vec<Hold>> {
    let places = Places::all(keys::holds_of(stream));
    let mut holds: Vec<Hold> = store.list_records(&places, MAX_HOLDS).await?;
    holds.retain(|hold| hold.range.overlaps(&range));
    Ok(holds)
}

pub async fn delete_hold(store: &Store, id: HoldId) -> Result<()> {
    match hold(store, id).await? {
        Some(hold) => delete(store, &hold).await,
        None => Ok(()),
    }
}

async fn delete(store: &Store, hold: &Hold) -> Result<()> {
    store.delete(&keys::hold(hold.stream, hold.range, hold.id)).await?;
    store.delete(&keys::hold_place(hold.id)).await
}

/// What one that is done takes in is deleted after it is written. That it is open is noted before it
/// is written, and forgotten after it is done.
pub async fn put_deletion(store: &Store, mut deletion: Deletion) -> Result<()> {
    let (stream, last) = (deletion.stream, deletion.last);
    let open = keys::open_deletion(stream, last);
    if !deletion.is_done {
        store.put(&open, &(stream, last.0)).await?;
        return store.put(&keys::deletion(stream, last), &deletion).await;
    }
    let gone = deletion.take_in(deletions(store, stream, TimeRange::ALL).await?);
    store.put(&keys::deletion(stream, last), &deletion).await?;
    for other in gone {
        store.delete(&keys::deletion(stream, other.last)).await?;
    }
    store.delete(&open).await
}

pub async fn deletions(store: &Store, stream: StreamId, range: TimeRange) -> Result<Vec<Deletion>> {
    let places = Places::all(keys::deletions_of(stream));
    let mut deletions: Vec<Deletion> = store.list_records(&places, usize::MAX).await?;
    deletions.retain(|deletion| deletion.range.overlaps(&range));
    Ok(deletions)
}

pub async fn open_deletions(store: &Store, limit: usize) -> Result<Vec<Deletion>> {
    let shards = keys::shards().map(|shard| {
        let places = Places::all(keys::open_deletions(shard));
        async move { store.list(&places, limit).await }
    });
    let mut open = Vec::new();
    for item in try_join_all(shards).await?.iter().flatten().take(limit) {
        let (stream, last) = record::<(StreamId, u64)>(item)?;
        open.push(keys::deletion(stream, FragmentNumber(last)));
    }
    let deletions: Vec<Option<Deletion>> = store.records(&open).await?;
    Ok(deletions.into_iter().flatten().filter(|deletion| !deletion.is_done).collect())
}

pub async fn forget_deletions(store: &Store, stream: StreamId, before: Timestamp) -> Result<()> {
    for deletion in deletions(store, stream, TimeRange::ALL).await? {
        if deletion.is_done && deletion.range.end < before {
            store.delete(&keys::deletion(stream, deletion.last)).await?;
        }
    }
    Ok(())
}

pub async fn put_known_gaps(store: &Store, stream: StreamId, gaps: &[KnownGap]) -> Result<()> {
    let puts = gaps.iter().map(|gap| {
        let key = keys::known_gap(stream, gap.range.start);
        async move { store.put(&key, gap).await }
    });
    try_join_all(puts).await?;
    let partition = keys::known_gaps_of(stream);
    let too_many = store.count(partition.clone()).await?.saturating_sub(MAX_KNOWN_GAPS);
    let oldest: Vec<KnownGap> = store.list_records(&Places::all(partition), too_many).await?;
    for gap in oldest {
        store.delete(&keys::known_gap(stream, gap.range.start)).await?;
    }
    Ok(())
}

pub async fn known_gaps(
    store: &Store,
    stream: StreamId,
    range: TimeRange,
) -> Result<Vec<KnownGap>> {
    let places = Places::all(keys::known_gaps_of(stream));
    let mut gaps: Vec<KnownGap> = store.list_records(&places, usize::MAX).await?;
    gaps.retain(|gap| gap.range.overlaps(&range));
    Ok(gaps)
}

pub async fn forget_known_gaps(store: &Store, stream: StreamId, before: Timestamp) -> Result<()> {
    for gap in known_gaps(store, stream, TimeRange::ALL).await? {
        if gap.range.end < before {
            store.delete(&keys::known_gap(stream, gap.range.start)).await?;
        }
    }
    Ok(())
}
