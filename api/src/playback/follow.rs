//! A stream's fragments one by one in the order in which they arrived, and then as they arrive: what
//! GetMedia reads (KVS API, "StartSelector").

use super::fragment_list::MAX_OVERLAPPING;
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{
    FragmentQuery, FragmentRecord, RangeBy, StorageError, TimeOrder, first_number_at,
};
use lookback_wire::{FragmentNumber, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// Index rows asked for at once.
const BATCH: usize = 64;
/// Fragments are numbered when they begin and seen when they are whole, so that of two uploads one
/// may be seen after another with a larger number: it is still handed out unless so many went
/// before it.
const MAX_LATE: usize = 64;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the newest fragment.
    Now,
    /// With the oldest one that is kept.
    Earliest,
    /// With the one after this number, whether that is kept or not.
    After(FragmentNumber),
    /// With the first that arrived then or later.
    ArrivedFrom(Timestamp),
    /// With the first on the timeline that begins then or later.
    StartsFrom(Timestamp),
}

/// One reader's place in a stream.
#[derive(Debug)]
pub struct Follower {
    archive: Arc<EmbeddedArchive>,
    stream: StreamId,
    appended: watch::Receiver<FragmentNumber>,
    /// Nothing up to this number is handed out.
    floor: FragmentNumber,
    /// The largest numbers that were handed out, at most [`MAX_LATE`].
    handed_out: BTreeSet<FragmentNumber>,
    ahead: VecDeque<FragmentRecord>,
    /// When the stream's newest fragment arrived, as far as it is known.
    newest_arrival: Timestamp,
}

/// A fragment in its turn.
#[derive(Clone, Debug)]
pub struct Followed {
    pub fragment: FragmentRecord,
    /// How much later the stream's newest fragment arrived.
    pub behind_ms: i64,
    /// Where a later reader goes on.
    pub continue_after: FragmentNumber,
}

impl Follower {
    /// Nothing that arrived before `oldest` is handed out.
    pub async fn new(
        archive: Arc<EmbeddedArchive>,
        stream: StreamId,
        start: Start,
        oldest: Option<Timestamp>,
    ) -> Result<Self, StorageError> {
        let appended = archive.watch(stream);
        let floor = match start {
            Start::Earliest => FragmentNumber(0),
            Start::After(number) => number,
            Start::ArrivedFrom(at) => before(first_number_at(at)),
            Start::Now => {
                let newest = newest(archive.as_ref(), stream).await?;
                newest.map_or(FragmentNumber(0), |newest| before(newest.number))
            }
            Start::StartsFrom(at) => match starting_from(archive.as_ref(), stream, at).await? {
                Some(first) => before(first.number),
                // It is still to come.
                None => {
                    let newest = newest(archive.as_ref(), stream).await?;
                    newest.map_or(FragmentNumber(0), |newest| newest.number)
                }
            },
        };
        let oldest = oldest.map_or(FragmentNumber(0), |oldest| before(first_number_at(oldest)));
        Ok(Self {
            archive,
            stream,
            appended,
            floor: floor.max(oldest),
            handed_out: BTreeSet::new(),
            ahead: VecDeque::new(),
            newest_arrival: Timestamp::from_millis(0),
        })
    }

    /// The next fragment, once there is one. May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Followed, StorageError> {
        loop {
            if let Some(fragment) = self.ahead.pop_front() {
                return Ok(self.hand_out(fragment));
            }
            // What is appended from here on wakes it.
            self.appended.mark_unchanged();
            self.look_ahead().await?;
            if self.ahead.is_empty() {
                self.appended
                    .changed()
                    .await
                    .map_err(|_| StorageError::Unavailable("the archive is closed".into()))?;
            }
        }
    }

    fn hand_out(&mut self, fragment: FragmentRecord) -> Followed {
        self.handed_out.insert(fragment.number);
        if self.handed_out.len() > MAX_LATE
            && let Some(lowest) = self.handed_out.pop_first()
        {
            self.floor = self.floor.max(lowest);
        }
        let newest = self.handed_out.last().copied().unwrap_or(fragment.number);
        let behind_ms = self.newest_arrival.millis_since(fragment.arrived_at).max(0);
        Followed { fragment, behind_ms, continue_after: newest }
    }

    async fn look_ahead(&mut self) -> Result<(), StorageError> {
        let last = self.handed_out.last().copied().unwrap_or(self.floor);
        let mut found = self.after(last, BATCH).await?;
        if found.is_empty() && last > self.floor {
            found = self.after(self.floor, MAX_LATE + BATCH).await?;
            found.retain(|fragment| !self.handed_out.contains(&fragment.number));
        }
        if let Some(newest) = newest(self.archive.as_ref(), self.stream).await? {
            self.newest_arrival = newest.arrived_at;
        }
        self.ahead.extend(found);
        Ok(())
    }

    async fn after(
        &self,
        number: FragmentNumber,
        limit: usize,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let by = RangeBy::Arrival { after: Some(number) };
        let query = FragmentQuery { by, range: always(), order: TimeOrder::OldestFirst, limit };
        self.archive.fragments(self.stream, &query).await
    }
}

fn before(number: FragmentNumber) -> FragmentNumber {
    FragmentNumber(number.0.saturating_sub(1))
}

fn always() -> TimeRange {
    TimeRange { start: Timestamp::from_millis(0), end: Timestamp::from_millis(i64::MAX) }
}

/// The one with the largest number.
async fn newest(
    archive: &EmbeddedArchive,
    stream: StreamId,
) -> Result<Option<FragmentRecord>, StorageError> {
    let by = RangeBy::Arrival { after: None };
    let query = FragmentQuery { by, range: always(), order: TimeOrder::NewestFirst, limit: 1 };
    Ok(archive.fragments(stream, &query).await?.pop())
}

/// The first on the timeline that begins at `at` or later.
async fn starting_from(
    archive: &EmbeddedArchive,
    stream: StreamId,
    at: Timestamp,
) -> Result<Option<FragmentRecord>, StorageError> {
    let query = FragmentQuery {
        by: RangeBy::Timeline,
        range: TimeRange { start: at, ..always() },
        order: TimeOrder::OldestFirst,
        limit: MAX_OVERLAPPING,
    };
    let found = archive.fragments(stream, &query).await?;
    Ok(found.into_iter().find(|fragment| fragment.start >= at))
}
