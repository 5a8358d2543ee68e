//! Footage that arrived without an announcement, where media goes past this service: what the
//! archive lists and no announcement covers is announced in the camera's place.
//!
//! Several servers may do this at once and write the same: what is announced depends on the
//! fragments alone, once all that belongs together has arrived.

use crate::clock::Clock;
use crate::device::Stream;
use crate::feed::{Change, Feed};
use crate::id::StreamId;
use crate::segment::{NewSegment, RecordingTrigger, Segment, TimeRange, WINDOW_MS};
use crate::storage::{
    Announced, ListBy, ListQuery, ListedFragment, MAX_LISTED, RUN_TOLERANCE_MS, Result, Storage,
};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// About as long as what cameras announce. Fragments go together that begin in the same such slot
/// of the clock, so that it does not matter where a list begins.
const SLOT_MS: i64 = 20_000;
/// Cameras announce within minutes of the footage; what is younger is left to them.
const SILENCE_MS: i64 = 10 * 60_000;
/// How far back a stream is looked at for the first time.
const FIRST_LOOK_MS: i64 = 24 * 3_600_000;
/// A stream is looked at no more often.
const LOOK_EVERY_MS: i64 = 5 * 60_000;
/// How much is listed on both sides of what is looked at, so that no slot is seen in part: a
/// fragment of 20 s arrives at its end.
const MARGIN_MS: i64 = 60_000;
/// Shorter holes between announcements are joints and lost pictures.
const MIN_HOLE_MS: i64 = 2_000;
/// Fragments of one look: a day of 2 s each. Where there are more, the rest has its turn later.
const MAX_FRAGMENTS: usize = 50_000;
/// Announcements of one look: a day of 1 s each.
const MAX_ANNOUNCED: usize = 90_000;
/// Streams whose records are read at once.
const STREAMS_PER_STEP: usize = 500;
/// Streams remembered; one that is forgotten is looked at as for the first time.
const MAX_REMEMBERED: usize = 1_000_000;
/// Between two rounds over all streams.
const ROUND_PAUSE: Duration = Duration::from_secs(60);
/// Between two streams, which cost reads of the catalog where they cost no request.
const STREAM_PAUSE: Duration = Duration::from_millis(20);
/// Segments that are announced in one step.
const MAX_STEP: usize = 100;
/// Another server may have announced a part of it a moment before.
const MAX_TRIES: usize = 3;

/// Announces what arrived unannounced.
#[derive(Debug)]
pub struct Reconciler {
    storage: Storage,
    clock: Arc<Clock>,
    feed: Arc<Feed>,
    /// Up to which arrival each stream was looked at.
    looked_at: Mutex<HashMap<StreamId, Timestamp>>,
}

/// What looking at a stream came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Pages of fragments that the archive was asked for.
    pub requests: u32,
    /// Segments announced in the camera's place.
    pub announced: usize,
}

impl Reconciler {
    /// Who listens to `feed` is told of what was found.
    pub fn new(storage: Storage, clock: Arc<Clock>, feed: Arc<Feed>) -> Self {
        Self { storage, clock, feed, looked_at: Mutex::default() }
    }

    /// Looks at all streams in turn until it is dropped, with at most `requests_per_minute` to the
    /// archive.
    pub async fn run(&self, requests_per_minute: u32) {
        let request_pause = Duration::from_secs(60) / requests_per_minute.max(1);
        loop {
            if let Err(error) = self.round(request_pause).await {
                tracing::warn!(%error, "what arrived unannounced was not looked for");
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    async fn round(&self, request_pause: Duration) -> Result<()> {
        let catalog = &self.storage.catalog;
        let mut after = None;
        loop {
            let ids = catalog.all_streams(after, STREAMS_PER_STEP).await?;
            for stream in catalog.streams_by_id(&ids).await?.into_iter().flatten() {
                let mut pause = STREAM_PAUSE;
                match self.reconcile(&stream).await {
                    Ok(Reconciled { requests, announced }) => {
                        pause += request_pause * requests;
                        if announced > 0 {
                            tracing::info!(stream = %stream.id, announced, "found footage");
                        }
                    }
                    Err(error) => {
                        pause += request_pause;
                        tracing::warn!(stream = %stream.id, %error, "a stream was not looked at");
                    }
                }
                tokio::time::sleep(pause).await;
            }
            after = ids.last().copied();
            if ids.len() < STREAMS_PER_STEP {
                return Ok(());
            }
        }
    }

    /// Announces what of a stream arrived since it was looked at last, and 10 minutes ago or earlier.
    /// Costs no request where announcements leave no hole.
    pub async fn reconcile(&self, stream: &Stream) -> Result<Reconciled> {
        let until = self.clock.now().plus_millis(-SILENCE_MS);
        let from = match self.looked_at.lock().get(&stream.id) {
            Some(last) if until.millis_since(*last) < LOOK_EVERY_MS => until,
            // What was left as too young is in it again.
            Some(last) => last.plus_millis(-MARGIN_MS),
            None => until.plus_millis(-FIRST_LOOK_MS).max(stream.created_at),
        };
        let Some(look) = TimeRange::new(from, until) else { return Ok(Reconciled::default()) };
        let (mut found, mut until) = (Reconciled::default(), until);
        let announced = self.storage.announced(stream.id, look, MAX_ANNOUNCED).await?;
        if has_hole(look, &announced) {
            let (fragments, requests) = self.list(stream, look.widened(MARGIN_MS)).await?;
            found.requests = requests;
            if fragments.len() >= MAX_FRAGMENTS {
                let newest = fragments.iter().map(|fragment| fragment.arrived_at).max();
                until = newest.map_or(until, |at| at.plus_millis(-MARGIN_MS)).max(from);
            }
            found.announced = self.announce(stream, &fragments, until).await?;
        }
        let mut looked_at = self.looked_at.lock();
        if looked_at.len() >= MAX_REMEMBERED {
            looked_at.clear();
        }
        looked_at.insert(stream.id, until);
        Ok(found)
    }

    /// What arrived in `range`, the oldest first, and how many requests that took.
    async fn list(&self, stream: &Stream, range: TimeRange) -> Result<(Vec<ListedFragment>, u32)> {
        let mut query = ListQuery { by: ListBy::Arrival, range, after: None, limit: MAX_LISTED };
        let (mut fragments, mut requests) = (Vec::new(), 0);
        loop {
            let page = self.storage.archive().list(stream, &query).await?;
            requests += 1;
            fragments.extend(page.fragments);
            query.after = page.next;
            if query.after.is_none() || fragments.len() >= MAX_FRAGMENTS {
                return Ok((fragments, requests));
            }
        }
    }

    async fn announce(
        &self,
        stream: &Stream,
        fragments: &[ListedFragment],
        until: Timestamp,
    ) -> Result<usize> {
        let catalog = &self.storage.catalog;
        let mut stored = 0;
        for _ in 0..MAX_TRIES {
            let mut missing = Vec::new();
            for fragments in neighbours(fragments) {
                let Some(span) = span_of(&fragments) else { continue };
                let announced = self.storage.announced(stream.id, span, MAX_ANNOUNCED).await?;
                missing.extend(unannounced(&fragments, &announced, until));
            }
            let now = self.clock.now();
            let mut is_raced = false;
            for missing in missing.chunks(MAX_STEP) {
                let mut bytes = 0u64;
                for answer in catalog.announce(stream.id, missing, now).await? {
                    match answer {
                        Announced::Stored { segment, .. } => {
                            stored += 1;
                            bytes = bytes.saturating_add(segment.size_bytes.unwrap_or_default());
                            let (range, bytes) = (segment.range, segment.size_bytes);
                            let change = Change::Footage { stream: stream.id, range, bytes };
                            self.feed.publish(stream.account, stream.device, change);
                        }
                        Announced::Conflict(_) => is_raced = true,
                        Announced::Duplicate(_) => {}
                    }
                }
                catalog.note_arrived(stream.id, now, bytes).await?;
            }
            if !is_raced {
                break;
            }
        }
        if let Some(arrived_at) = fragments.iter().map(|fragment| fragment.arrived_at).max() {
            catalog.note_seen(stream.device, arrived_at, None).await?;
        }
        Ok(stored)
    }
}

/// Whether announcements, by start, leave something of `range` open.
fn has_hole(range: TimeRange, announced: &[Segment]) -> bool {
    let mut at = range.start;
    for segment in announced {
        if segment.range.start.millis_since(at) > MIN_HOLE_MS {
            return true;
        }
        at = at.max(segment.range.end);
    }
    range.end.millis_since(at) > MIN_HOLE_MS
}

/// Fragments by start, in groups that lie apart: what a camera kept while it was offline arrives
/// together with what is new.
fn neighbours(fragments: &[ListedFragment]) -> Vec<Vec<ListedFragment>> {
    let mut by_start = fragments.to_vec();
    by_start.sort_unstable_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
    let apart = |a: &ListedFragment, b: &ListedFragment| b.start.millis_since(a.start) > WINDOW_MS;
    by_start.chunk_by(|a, b| !apart(a, b)).map(<[_]>::to_vec).collect()
}

fn span_of(fragments: &[ListedFragment]) -> Option<TimeRange> {
    let start = fragments.iter().map(|fragment| fragment.start).min()?;
    let end = fragments.iter().map(|fragment| fragment.range().end).max()?;
    TimeRange::new(start, end)
}

/// What is to be announced of `fragments`, which come by start: what no announcement covers, a
/// fragment where its middle is. What goes together with a fragment that arrived at `until` or later
/// is left for the next time.
fn unannounced(
    fragments: &[ListedFragment],
    announced: &[Segment],
    until: Timestamp,
) -> Vec<NewSegment> {
    let mut found: Vec<(NewSegment, Timestamp)> = Vec::new();
    let slot = |range: &TimeRange| range.start.as_millis().div_euclid(SLOT_MS);
    for fragment in fragments.iter().filter(|fragment| fragment.duration_ms > 0) {
        let range = fragment.range();
        if is_announced(range.start.plus_millis(range.millis() / 2), announced) {
            continue;
        }
        match found.last_mut() {
            // It was sent again: the same footage.
            Some((last, _)) if range.end <= last.range.end => {}
            Some((last, newest))
                if slot(&last.range) == slot(&range)
                    && range.start.millis_since(last.range.end) <= RUN_TOLERANCE_MS =>
            {
                last.range.end = range.end;
                last.size_bytes =
                    last.size_bytes.map(|so_far| so_far.saturating_add(fragment.bytes));
                *newest = fragment.arrived_at.max(*newest);
            }
            _ => {
                let segment = NewSegment {
                    client_segment_id: format!("found-{}", range.start.as_millis()),
                    range,
                    trigger: RecordingTrigger::Continuous,
                    codecs: None,
                    width: None,
                    height: None,
                    size_bytes: Some(fragment.bytes),
                };
                found.push((segment, fragment.arrived_at));
            }
        }
    }
    found.retain(|(_, newest)| *newest < until);
    // The camera codes it as what it announced itself.
    let profile = announced.iter().rfind(|segment| segment.codecs.is_some());
    for (segment, _) in &mut found {
        segment.codecs = profile.and_then(|profile| profile.codecs.clone());
        segment.width = profile.and_then(|profile| profile.width);
        segment.height = profile.and_then(|profile| profile.height);
    }
    found.into_iter().map(|(segment, _)| segment).collect()
}

/// Whether one of `announced`, which come by start and are at most [`WINDOW_MS`] long, has `at`.
fn is_announced(at: Timestamp, announced: &[Segment]) -> bool {
    let first = at.plus_millis(-WINDOW_MS);
    let from = announced.partition_point(|segment| segment.range.start < first);
    let about = announced.iter().skip(from).take_while(|segment| segment.range.start <= at);
    about.into_iter().any(|segment| segment.range.contains(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Kind, Scope};
    use crate::segment::SegmentId;
    use crate::storage::{contract, embedded};
    use futures_util::FutureExt;

    /// Seconds on the tests' own clock, which begins with a slot.
    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + (seconds * 1000.0) as i64)
    }

    fn fragment(start: f64, duration: f64, arrived: f64) -> ListedFragment {
        ListedFragment {
            id: format!("{:020}", at(arrived).as_millis()),
            start: at(start),
            arrived_at: at(arrived),
            duration_ms: (duration * 1000.0) as u32,
            bytes: 10,
        }
    }

    /// Fragments of 5 s that arrive a second after their end.
    fn fives(starts: &[f64]) -> Vec<ListedFragment> {
        starts.iter().map(|&start| fragment(start, 5.0, start + 6.0)).collect()
    }

    fn segment((start, end): (f64, f64)) -> Segment {
        Segment {
            id: SegmentId::of(StreamId(crate::id::Ulid(1)), at(start), "s"),
            client_segment_id: "s".into(),
            range: TimeRange { start: at(start), end: at(end) },
            ingested_at: at(end),
            trigger: RecordingTrigger::Event,
            codecs: Some("avc1.4d4032".into()),
            width: Some(1920),
            height: Some(1080),
            size_bytes: None,
        }
    }

    type Spans<'a> = &'a [(f64, f64)];

    fn check(fragments: &[ListedFragment], announced: Spans, until: f64, expected: Spans) {
        let announced: Vec<_> = announced.iter().copied().map(segment).collect();
        let found = unannounced(fragments, &announced, at(until));
        let spans: Vec<_> = found
            .iter()
            .map(|segment| {
                let seconds = |instant: Timestamp| instant.millis_since(at(0.0)) as f64 / 1000.0;
                (seconds(segment.range.start), seconds(segment.range.end))
            })
            .collect();
        assert_eq!(spans, expected);
        for segment in found {
            let named = format!("found-{}", segment.range.start.as_millis());
            assert_eq!(segment.client_segment_id, named);
            assert_eq!(segment.codecs.is_some(), !announced.is_empty());
        }
    }

    #[test]
    fn what_no_announcement_covers_is_found() {
        let six = &fives(&[0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        check(six, &[], 100.0, &[(0.0, 20.0), (20.0, 30.0)]);
        check(six, &[(0.0, 30.0)], 100.0, &[]);
        check(six, &[(0.0, 20.0)], 100.0, &[(20.0, 30.0)]);
        // A fragment is announced where its middle is.
        check(six, &[(5.1, 14.9)], 100.0, &[(0.0, 5.0), (15.0, 20.0), (20.0, 30.0)]);
        // What goes together with something too young is left whole.
        check(six, &[], 30.0, &[(0.0, 20.0)]);
        check(six, &[], 20.0, &[]);
        // A hole parts segments.
        check(&fives(&[0.0, 5.2, 15.0]), &[], 100.0, &[(0.0, 5.0), (5.2, 10.2), (15.0, 20.0)]);
        // The same fragment again.
        check(&fives(&[0.0, 0.0, 5.0]), &[], 100.0, &[(0.0, 10.0)]);
        // What is whole to one server is whole to the other, wherever its list begins.
        check(&six[1..], &[], 100.0, &[(5.0, 20.0), (20.0, 30.0)]);
        check(&six[4..], &[], 100.0, &[(20.0, 30.0)]);
    }

    #[test]
    fn holes_between_announcements_are_seen() {
        let range = TimeRange { start: at(0.0), end: at(60.0) };
        for (announced, expected) in [
            (&[][..], true),
            (&[(0.0, 60.0)], false),
            (&[(-20.0, 20.0), (21.0, 70.0)], false),
            (&[(0.0, 20.0), (23.0, 60.0)], true),
            (&[(3.0, 60.0)], true),
            (&[(0.0, 57.0)], true),
        ] {
            let announced: Vec<_> = announced.iter().copied().map(segment).collect();
            assert_eq!(has_hole(range, &announced), expected, "{announced:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_looked_at_once_for_what_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let storage = embedded::open(dir.path()).unwrap();
        let account = storage.catalog.ensure_account("default", at(0.0)).await.unwrap().id;
        let mut registration = contract::registration(account, "SN-1", "Door");
        for stream in &mut registration.streams {
            stream.created_at = at(-600.0);
        }
        let made = storage.catalog.register_device(registration, at(0.0)).await.unwrap();
        let stream = &made.streams[0];
        let archive = storage.local().unwrap();
        let append = async |start: f64| {
            let fill = start.to_le_bytes();
            let fragment = contract::fragment(archive, stream.id, at(start), 5_000, &fill);
            archive.append(fragment).await.unwrap();
        };
        for n in 0..12 {
            append(f64::from(n) * 5.0).await;
        }
        let clock = Arc::new(Clock::manual(at(300.0)));
        let feed = Arc::new(Feed::default());
        let mut told = feed.subscribe(Kind::Footage, 16, Arc::default());
        told.follow([Scope::Device(stream.device)].into());
        let new = |()| Reconciler::new(storage.clone(), clock.clone(), feed.clone());
        let reconcilers = [(), ()].map(new);
        let [one, other] = &reconcilers;
        let check = async |reconciler: &Reconciler, now: f64, requests, announced| {
            clock.set(at(now));
            let found = reconciler.reconcile(stream).await.unwrap();
            assert_eq!(found, Reconciled { requests, announced }, "at {now}");
        };
        // Nothing had arrived by then.
        check(one, 300.0, 1, 0).await;
        // Arrived by 35 s: the last slot is not complete.
        check(one, 635.5, 1, 1).await;
        check(one, 935.0, 0, 0).await;
        check(one, 936.0, 1, 2).await;
        check(other, 936.0, 1, 0).await;
        let all = TimeRange { start: at(0.0), end: at(60.0) };
        let announced = storage.announced(stream.id, all, 100).await.unwrap();
        assert!(!has_hole(all, &announced), "{announced:?}");
        // Footage that was kept while the camera was offline.
        clock.set(at(700.0));
        let fill = [1, 2, 3];
        let mut late = contract::fragment(archive, stream.id, at(-100.0), 5_000, &fill);
        late.arrived_at = at(700.0);
        late.number = archive.next_number(stream.id, at(700.0));
        archive.append(late).await.unwrap();
        check(one, 1_400.0, 1, 1).await;
        // Each was told once.
        let told = std::iter::from_fn(|| told.next().now_or_never());
        let ranges: Vec<_> = told
            .map(|change| match &*change {
                Change::Footage { range, .. } => (range.start, range.end),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(0.0, 20.0), (20.0, 40.0), (40.0, 60.0), (-100.0, -95.0)];
        assert_eq!(ranges, expected.map(|(start, end)| (at(start), at(end))));
    }
}
