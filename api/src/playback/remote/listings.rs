//! What a stream has in a range, asked for page by page.

use super::MAX_FRAGMENT_MS;
use super::fragments::Unread;
use super::stretches::{self, Stretches};
use crate::clock::Clock;
use crate::device::Stream;
use crate::id::StreamId;
use crate::playback::{SessionError, Unavailable, UnavailableCode};
use crate::segment::TimeRange;
use crate::storage::aws::kinesis_video::KinesisArchive;
use crate::storage::{Archive, ListBy, ListQuery, ListedFragment, MAX_LISTED, RUN_TOLERANCE_MS};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// A day of fragments of 1 s, and re-sent ones.
const MAX_FRAGMENTS: usize = 100_000;
/// Pages of one list: ten times as many as full ones would be, since Kinesis may answer shorter ones.
const MAX_PAGES: usize = 10 * MAX_FRAGMENTS / MAX_LISTED;
/// What one call may take to list: requests have 10 s. Kinesis gives five pages a second, so that it
/// comes to a day of fragments of 2.5 s.
const MAX_LISTING_MS: i64 = 6_000;
/// Ranges remembered; a day of 2 s each takes some 5 MB.
const MAX_RANGES: usize = 16;
/// How long they are: footage may still arrive late, and go.
const REMEMBERED_MS: i64 = 60_000;

/// Ranges that were listed lately, or in part: a player asks for a file right after its session.
#[derive(Debug, Default)]
pub struct Listings(Mutex<HashMap<(StreamId, TimeRange), Remembered>>);

#[derive(Clone, Debug)]
struct Remembered {
    listing: Arc<tokio::sync::Mutex<Listing>>,
    begun_at: Timestamp,
}

/// A list as far as it was read. Whoever gave up leaves it to the next one, who goes on.
#[derive(Debug, Default)]
struct Listing {
    read: Vec<ListedFragment>,
    next: Option<String>,
    pages: usize,
    /// What is played, once all is read.
    way: Option<Arc<Way>>,
}

/// Fragments as they are played one after the other, in the order of their starts.
#[derive(Debug, Default)]
pub struct Way {
    pub fragments: Vec<ListedFragment>,
    stretches: OnceCell<Stretches>,
}

impl Way {
    /// Where their tracks change; looked for once.
    pub async fn stretches(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
    ) -> Result<&Stretches, Unread> {
        let find = || stretches::find(archive, stream, &self.fragments);
        self.stretches.get_or_try_init(find).await
    }
}

impl Listings {
    /// Fragments of which any footage is in `range`. A list that takes too long is refused; the next
    /// call goes on with it.
    pub async fn list(
        &self,
        archive: &dyn Archive,
        stream: &Stream,
        range: TimeRange,
        clock: &Clock,
    ) -> Result<Arc<Way>, SessionError> {
        let now = clock.now();
        let listing = self.remembered((stream.id, range), now);
        let mut listing = listing.lock().await;
        if let Some(way) = &listing.way {
            return Ok(way.clone());
        }
        let start = range.start.plus_millis(-MAX_FRAGMENT_MS);
        loop {
            if listing.read.len() > MAX_FRAGMENTS || listing.pages >= MAX_PAGES {
                return Err(too_many().into());
            }
            let query = ListQuery {
                by: ListBy::Start,
                range: TimeRange { start, end: range.end },
                after: listing.next.clone(),
                limit: MAX_LISTED,
            };
            let page = archive.list(stream, &query).await?;
            let possible = page.fragments.into_iter().map(|fragment| ListedFragment {
                duration_ms: fragment.duration_ms.min(MAX_FRAGMENT_MS as u32),
                ..fragment
            });
            listing.read.extend(possible.filter(|fragment| fragment.range().end > range.start));
            listing.pages += 1;
            listing.next = page.next;
            if listing.next.is_none() {
                break;
            }
            if clock.now().millis_since(now) >= MAX_LISTING_MS {
                return Err(still_listing(listing.read.len()).into());
            }
        }
        let fragments = way_through(std::mem::take(&mut listing.read));
        let way = Arc::new(Way { fragments, stretches: OnceCell::new() });
        listing.way = Some(way.clone());
        Ok(way)
    }

    /// Lets a list be found again by the range that its fragments really have.
    pub fn also(&self, stream: StreamId, asked: TimeRange, real: TimeRange) {
        let mut ranges = self.0.lock();
        if let Some(remembered) = ranges.get(&(stream, asked)).cloned() {
            make_room(&mut ranges, &(stream, real));
            ranges.insert((stream, real), remembered);
        }
    }

    fn remembered(
        &self,
        key: (StreamId, TimeRange),
        now: Timestamp,
    ) -> Arc<tokio::sync::Mutex<Listing>> {
        let mut ranges = self.0.lock();
        let is_fresh = |one: &Remembered| now.millis_since(one.begun_at).abs() < REMEMBERED_MS;
        ranges.retain(|_, one| is_fresh(one));
        make_room(&mut ranges, &key);
        let new = || Remembered { listing: Arc::default(), begun_at: now };
        ranges.entry(key).or_insert_with(new).listing.clone()
    }
}

/// Forgets the oldest range where one more would be too many.
fn make_room(ranges: &mut HashMap<(StreamId, TimeRange), Remembered>, key: &(StreamId, TimeRange)) {
    if ranges.len() >= MAX_RANGES && !ranges.contains_key(key) {
        let oldest = ranges.iter().min_by_key(|(_, one)| one.begun_at).map(|(key, _)| *key);
        oldest.and_then(|key| ranges.remove(&key));
    }
}

/// Fragments in any order into those that are played: of those that begin alike the newest, and none
/// that begins in what is played already, but for a joint.
fn way_through(mut fragments: Vec<ListedFragment>) -> Vec<ListedFragment> {
    // Numbers are too long for an integer; those of more digits are larger.
    let number = |fragment: &ListedFragment| (fragment.id.len(), fragment.id.clone());
    fragments.sort_by(|a, b| (a.start, number(b)).cmp(&(b.start, number(a))));
    let mut way: Vec<ListedFragment> = Vec::with_capacity(fragments.len());
    for fragment in fragments {
        let end = way.last().map(|last| last.range().end);
        if end.is_none_or(|end| end.millis_since(fragment.start) <= RUN_TOLERANCE_MS) {
            // One that begins with the one before, and is as good as over with it, is the same again.
            if way.last().is_none_or(|last| last.start < fragment.start) {
                way.push(fragment);
            }
        }
    }
    way
}

/// Holes between fragments that are played one after the other.
pub fn gaps(way: &[ListedFragment]) -> Vec<TimeRange> {
    way.windows(2)
        .filter_map(|pair| {
            let [before, after] = pair else { return None };
            TimeRange::new(before.range().end, after.start)
        })
        .filter(|gap| gap.millis() > RUN_TOLERANCE_MS)
        .collect()
}

fn too_many() -> Unavailable {
    Unavailable {
        code: UnavailableCode::RangeTooLong,
        message: format!("the range has more than {MAX_FRAGMENTS} fragments"),
        nearest: None,
    }
}

fn still_listing(count: usize) -> Unavailable {
    Unavailable {
        code: UnavailableCode::BackendUnavailable,
        message: format!(
            "the media backend lists the range's fragments, {count} so far and {MAX_LISTED} at a \
             time; try again, or ask for less"
        ),
        nearest: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, DeviceId};
    use crate::storage::{CreateError, FragmentPage, Result, StorageError, UploadGrant};
    use async_trait::async_trait;

    const NOW: Timestamp = Timestamp::from_millis(1_795_329_502_000);

    /// Pages of one fragment of a second each, which take 200 ms; the clock is the test's.
    #[derive(Debug)]
    struct Paced {
        clock: Clock,
        pages: i64,
    }

    #[async_trait]
    impl Archive for Paced {
        async fn list(&self, _: &Stream, query: &ListQuery) -> Result<FragmentPage> {
            self.clock.set(self.clock.now().plus_millis(200));
            let page: i64 = query.after.as_ref().map_or(0, |after| after.parse().unwrap());
            let start = NOW.plus_millis(page * 1_000);
            let (id, duration_ms) = (page.to_string(), 1_000);
            let fragment = ListedFragment { id, start, arrived_at: start, duration_ms, bytes: 1 };
            let next = (page + 1 < self.pages).then(|| (page + 1).to_string());
            Ok(FragmentPage { fragments: vec![fragment], next })
        }

        async fn prepare(&self, _: &Stream, _: u32) -> Result<(), CreateError> {
            Ok(())
        }

        async fn forget(&self, _: &Stream) -> Result<()> {
            Ok(())
        }

        async fn grant_upload(
            &self,
            _: DeviceId,
            _: &[Stream],
            _: u32,
            _: Timestamp,
        ) -> Result<Option<UploadGrant>> {
            Ok(None)
        }

        async fn room(&self) -> Result<u64> {
            Err(StorageError::NotSupported("nothing is kept"))
        }

        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_long_list_is_refused_in_time_and_gone_on_with() {
        let stream = Stream {
            id: StreamId::new(NOW),
            device: DeviceId::new(NOW),
            account: AccountId::new(NOW),
            name: "main".into(),
            position: 0,
            media_stream_name: "cam-main".into(),
            created_at: NOW,
        };
        let range = TimeRange { start: NOW, end: NOW.plus_millis(3_600_000) };
        for (pages, refusals) in [(1, 0), (30, 0), (31, 1), (60, 1), (100, 3)] {
            let listings = Listings::default();
            let archive = Paced { clock: Clock::manual(NOW), pages };
            for calls in 1..=refusals {
                let refused = listings.list(&archive, &stream, range, &archive.clock).await;
                let Err(SessionError::Unavailable(refused)) = refused else {
                    panic!("{pages} pages: {refused:?}")
                };
                assert_eq!(refused.code, UnavailableCode::BackendUnavailable);
                let expected = format!("{} so far", 30 * calls);
                assert!(refused.message.contains(&expected), "{}", refused.message);
            }
            let listed = listings.list(&archive, &stream, range, &archive.clock).await;
            assert_eq!(listed.unwrap().fragments.len(), pages as usize);
        }
    }

    #[test]
    fn a_way_through_what_was_listed_in_any_order() {
        // Start and length in s, number.
        type Cut = (i64, u32, &'static str);
        /// From and to, in s.
        type Hole = (i64, i64);
        let table: [(&[Cut], &str, &[Hole]); 5] = [
            (&[], "", &[]),
            (&[(4, 2, "3"), (0, 2, "1"), (2, 2, "2")], "1 2 3", &[]),
            // Sent again: the larger number plays, and ten is larger than nine.
            (&[(0, 2, "9"), (0, 2, "10"), (2, 2, "11")], "10 11", &[]),
            // Sent again, cut elsewhere.
            (&[(0, 2, "1"), (1, 2, "4"), (2, 2, "2")], "1 2", &[]),
            (&[(0, 2, "1"), (60, 2, "2")], "1 2", &[(2, 60)]),
        ];
        let at = |s: i64| Timestamp::from_millis(1_795_329_502_000 + s * 1_000);
        for (cuts, expected, holes) in table {
            let fragments = cuts.iter().map(|&(start_s, s, id)| ListedFragment {
                id: id.into(),
                start: at(start_s),
                arrived_at: at(start_s),
                duration_ms: s * 1_000,
                bytes: 1,
            });
            let way = way_through(fragments.collect());
            let ids: Vec<&str> = way.iter().map(|fragment| fragment.id.as_str()).collect();
            assert_eq!(ids.join(" "), expected);
            let holes: Vec<_> = holes
                .iter()
                .map(|&(from, to)| TimeRange { start: at(from), end: at(to) })
                .collect();
            assert_eq!(gaps(&way), holes);
        }
    }
}
