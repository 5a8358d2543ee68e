//! The suite that every backend must pass: each sentence of the traits' documentation, as a check
//! on any `&dyn Catalog`; and what the archive of this machine promises. Every check makes
//! identifiers of its own, so that all of them may run on one store, one after the other or at once.

pub mod events;
mod webhooks;

use super::*;
use crate::access::{DeviceRole, MAX_SHARES_OF_DEVICE, MAX_SHARES_WITH_USER};
use crate::account::{Identity, RetentionMode, Role};
use crate::audit::{AuditAction, KEPT_MS};
use crate::device::{CredentialKind, DeviceState, MAX_CREDENTIALS_OF_DEVICE, Turn};
use crate::keeping::MAX_HOLDS;
use crate::segment::RecordingTrigger;

/// When the checks take place.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn at(offset_ms: i64) -> Timestamp {
    NOW.plus_millis(offset_ms)
}

fn range(from_ms: i64, to_ms: i64) -> TimeRange {
    TimeRange { start: at(from_ms), end: at(to_ms) }
}

/// A fragment of one video track whose body is `fill`, three times over in two parts.
pub fn fragment(
    archive: &EmbeddedArchive,
    stream: StreamId,
    start: Timestamp,
    duration_ms: u32,
    fill: &[u8],
) -> NewFragment {
    let mut body = Payload::new();
    body.push(Bytes::copy_from_slice(fill));
    body.push(Bytes::from(fill.repeat(2)));
    let len = fill.len() as u32 * 3;
    let mut payload_hash = [0; 16];
    for (slot, byte) in payload_hash.iter_mut().zip(fill) {
        *slot = *byte;
    }
    let arrived_at = start.plus_millis(i64::from(duration_ms));
    NewFragment {
        stream,
        number: archive.next_number(stream, arrived_at),
        start,
        duration_ms,
        capture_start: start.plus_millis(-7),
        arrived_at,
        payload_hash,
        tracks: vec![TrackSpan {
            init: InitId(0xabc),
            is_video: true,
            key: true,
            decode_time: start.as_millis() as u64 * 90,
            duration: u64::from(duration_ms) * 90,
            timescale: 90_000,
            offset: 0,
            len,
        }]
        .into(),
        inits: vec![(InitId(0xabc), Bytes::from_static(b"an init"))],
        body,
        chunk_lens: vec![len],
        metadata: Bytes::from(format!("tags of {start}")),
    }
}

async fn store(archive: &EmbeddedArchive, fragment: NewFragment) -> FragmentNumber {
    match archive.append(fragment).await.expect("append") {
        Appended::Stored(number) => number,
        Appended::Duplicate(number) => panic!("{number} is a duplicate"),
    }
}

async fn starts(archive: &EmbeddedArchive, stream: StreamId, query: FragmentQuery) -> Vec<i64> {
    let found = archive.fragments(stream, &query).await.expect("fragments");
    found.iter().map(|record| record.start.millis_since(NOW)).collect()
}

/// Everything that the archive of this machine promises.
pub async fn check_local_archive(archive: &EmbeddedArchive) {
    numbers_rise(archive).await;
    what_is_appended_is_read(archive).await;
    a_fragment_is_kept_once(archive).await;
    the_newer_of_two_with_one_start_is_read(archive).await;
    queries_answer_what_overlaps(archive).await;
    fragments_are_found_by_number_and_arrival(archive).await;
    runs_join_across_the_tolerance(archive).await;
    watchers_wake(archive).await;
    expiry_takes_whole_files(archive).await;
    expiry_leaves_what_is_spared(archive).await;
    deletion_takes_what_overlaps(archive).await;
    what_goes_twice_at_once_goes_once(archive).await;
    streams_are_listed_while_they_have_media(archive).await;
    unknown_streams_are_empty(archive).await;
}

async fn numbers_rise(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let mut last = archive.next_number(stream, at(1_000));
    // The clock may stand still, and go back.
    for now in [at(1_000), at(0), at(2_000), at(-50_000)] {
        let next = archive.next_number(stream, now);
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}

async fn what_is_appended_is_read(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let new = fragment(archive, stream, at(0), 1_000, b"abcdef");
    let number = store(archive, new.clone()).await;
    assert_eq!(number, new.number);
    let record = archive.newest(stream).await.expect("newest").expect("there is one");
    let expected = FragmentRecord {
        number,
        start: new.start,
        duration_ms: new.duration_ms,
        capture_start: new.capture_start,
        arrived_at: new.arrived_at,
        tracks: new.tracks.clone(),
        location: record.location,
    };
    assert_eq!(record, expected);
    assert_eq!(record.location.len, 18);
    let by_number = archive.fragment(stream, at(0), number).await.expect("fragment");
    assert_eq!(by_number, Some(record.clone()));
    assert_eq!(archive.fragment(stream, at(1), number).await.expect("fragment"), None);

    for (offset, len, bytes) in
        [(0, 18, &b"abcdefabcdefabcdef"[..]), (4, 4, b"efab"), (17, 1, b"f"), (18, 0, b"")]
    {
        let read = archive.read(stream, record.location, offset, len).await.expect("read");
        assert_eq!(read, bytes, "{len} bytes at {offset}");
    }
    assert!(archive.read(stream, record.location, 10, 9).await.is_err(), "beyond the body");
    let metadata = archive.metadata(stream, record.location).await.expect("metadata");
    assert_eq!(metadata, new.metadata);
    let init = archive.init(stream, InitId(0xabc)).await.expect("init");
    assert_eq!(init.as_deref(), Some(&b"an init"[..]));
    assert_eq!(archive.init(stream, InitId(0xabd)).await.expect("init"), None);
}

async fn a_fragment_is_kept_once(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let first = store(archive, fragment(archive, stream, at(0), 1_000, b"same")).await;
    let again = archive.append(fragment(archive, stream, at(0), 1_000, b"same")).await;
    assert_eq!(again.expect("append"), Appended::Duplicate(first));

    // Sent at once on many connections: one is stored, the others get its number.
    let copies =
        (0..20).map(|_| archive.append(fragment(archive, stream, at(5_000), 900, b"at once")));
    let answers = futures_util::future::join_all(copies).await;
    let mut stored = Vec::new();
    let mut duplicates = Vec::new();
    for answer in answers {
        match answer.expect("append") {
            Appended::Stored(number) => stored.push(number),
            Appended::Duplicate(number) => duplicates.push(number),
        }
    }
    assert_eq!(stored.len(), 1);
    assert!(duplicates.iter().all(|number| *number == stored[0]), "{duplicates:?} of {stored:?}");
    let query = |limit| FragmentQuery {
        by: RangeBy::Timeline,
        range: range(0, 10_000),
        order: TimeOrder::OldestFirst,
        limit,
    };
    assert_eq!(starts(archive, stream, query(10)).await, [0, 5_000]);
}

async fn the_newer_of_two_with_one_start_is_read(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    store(archive, fragment(archive, stream, at(-1_000), 1_000, b"before")).await;
    let older = store(archive, fragment(archive, stream, at(0), 500, b"cut short")).await;
    let newer = store(archive, fragment(archive, stream, at(0), 1_000, b"whole")).await;
    for order in [TimeOrder::OldestFirst, TimeOrder::NewestFirst] {
        let query =
            FragmentQuery { by: RangeBy::Timeline, range: range(0, 2_000), order, limit: 10 };
        let found = archive.fragments(stream, &query).await.expect("fragments");
        let numbers: Vec<_> = found.iter().map(|record| record.number).collect();
        assert_eq!(numbers, [newer], "{order:?}");
    }
    let newest = archive.newest(stream).await.expect("newest");
    assert_eq!(newest.map(|record| record.number), Some(newer));
    // Both are kept.
    assert!(archive.fragment(stream, at(0), older).await.expect("fragment").is_some());
}

async fn queries_answer_what_overlaps(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    // Arrives out of order; a hole from 3 s to 5 s; one long fragment.
    for (start, duration) in [(2_000, 1_000), (0, 1_000), (1_000, 1_000), (5_000, 4_000)] {
        store(archive, fragment(archive, stream, at(start), duration, &start.to_le_bytes())).await;
    }
    use TimeOrder::{NewestFirst, OldestFirst};
    for (from, to, order, limit, expected) in [
        (0, 10_000, OldestFirst, 10, &[0, 1_000, 2_000, 5_000][..]),
        (0, 10_000, NewestFirst, 10, &[5_000, 2_000, 1_000, 0]),
        (0, 10_000, OldestFirst, 2, &[0, 1_000]),
        (0, 10_000, NewestFirst, 2, &[5_000, 2_000]),
        (0, 10_000, OldestFirst, 0, &[]),
        // Ends are not in a span.
        (1_000, 2_000, OldestFirst, 10, &[1_000]),
        (999, 2_001, OldestFirst, 10, &[0, 1_000, 2_000]),
        (3_000, 5_000, OldestFirst, 10, &[]),
        (8_999, 9_000, OldestFirst, 10, &[5_000]),
        (9_000, 20_000, NewestFirst, 10, &[]),
        (-20_000, 0, NewestFirst, 10, &[]),
    ] {
        let query = FragmentQuery { by: RangeBy::Timeline, range: range(from, to), order, limit };
        assert_eq!(
            starts(archive, stream, query).await,
            expected,
            "{from}..{to} {order:?} {limit}"
        );
    }
    let other = StreamId::new(NOW);
    let extents = archive.extents(&[stream, other, stream]).await.expect("extents");
    assert_eq!(extents, [Some(range(0, 9_000)), None, Some(range(0, 9_000))]);
}

async fn fragments_are_found_by_number_and_arrival(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    // The last two arrive after the clock was set back by 6 s; the third supersedes the first.
    let arrivals = [(0, 10_000), (9_000, 11_000), (0, 12_000), (20_000, 6_000), (21_000, 11_500)];
    let mut numbers = Vec::new();
    for (position, (start, arrived)) in arrivals.into_iter().enumerate() {
        let mut new = fragment(archive, stream, at(start), 1_000, &[position as u8; 5]);
        new.arrived_at = at(arrived);
        new.number = archive.next_number(stream, at(arrived));
        numbers.push(store(archive, new).await);
    }
    let position = |number| numbers.iter().position(|known| *known == number);
    use TimeOrder::{NewestFirst, OldestFirst};
    for (from, to, order, after, limit, expected) in [
        (0, 60_000, OldestFirst, None, 10, &[0, 1, 2, 3, 4][..]),
        (0, 60_000, NewestFirst, None, 10, &[4, 3, 2, 1, 0]),
        (0, 60_000, OldestFirst, None, 2, &[0, 1]),
        (0, 60_000, OldestFirst, Some(1), 2, &[2, 3]),
        (0, 60_000, NewestFirst, Some(2), 10, &[1, 0]),
        (0, 60_000, OldestFirst, Some(4), 10, &[]),
        (0, 60_000, NewestFirst, Some(0), 10, &[]),
        (11_000, 12_000, OldestFirst, None, 10, &[1, 4]),
        (11_000, 12_001, OldestFirst, None, 10, &[1, 2, 4]),
        (11_000, 12_001, NewestFirst, Some(4), 10, &[2, 1]),
        (0, 10_000, OldestFirst, None, 10, &[3]),
        (12_001, 60_000, OldestFirst, None, 10, &[]),
        (11_000, 12_001, OldestFirst, Some(0), 0, &[]),
    ] {
        let after = after.map(|after: usize| numbers[after]);
        let by = RangeBy::Arrival { after };
        let query = FragmentQuery { by, range: range(from, to), order, limit };
        let found = archive.fragments(stream, &query).await.expect("fragments");
        let found: Vec<_> = found.iter().filter_map(|record| position(record.number)).collect();
        assert_eq!(found, expected, "{query:?}");
    }
    let missing = FragmentNumber(numbers[0].0 - 1);
    let asked = [numbers[4], missing, numbers[0], numbers[4]];
    let found = archive.fragments_by_number(stream, &asked).await.expect("fragments_by_number");
    let found: Vec<_> =
        found.iter().map(|record| record.as_ref().and_then(|r| position(r.number))).collect();
    assert_eq!(found, [Some(4), None, Some(0), Some(4)]);
    let other = archive.fragments_by_number(StreamId::new(NOW), &asked[..1]).await;
    assert_eq!(other.expect("fragments_by_number"), [None]);
    expire(archive, stream, at(60_000), &[]).await;
    let gone = archive.fragments_by_number(stream, &asked[..1]).await;
    assert_eq!(gone.expect("fragments_by_number"), [None]);
}

async fn runs_join_across_the_tolerance(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let append = async |start: i64, duration: u32| {
        store(archive, fragment(archive, stream, at(start), duration, &start.to_le_bytes())).await;
    };
    let runs = async |from: i64, to: i64, limit: usize| -> Vec<(i64, i64, u64, u64)> {
        let found = archive.runs(stream, range(from, to), limit).await.expect("runs");
        let ends = |run: &Run| (run.range.start.millis_since(NOW), run.range.end.millis_since(NOW));
        found.iter().map(|run| (ends(run).0, ends(run).1, run.fragments, run.bytes)).collect()
    };
    append(0, 1_000).await;
    append(1_000 + RUN_TOLERANCE_MS, 1_000).await;
    assert_eq!(runs(0, 10_000, 10).await, [(0, 2_100, 2, 48)]);
    append(5_000, 1_000).await;
    append(2_100 + RUN_TOLERANCE_MS + 1, 100).await;
    assert_eq!(
        runs(0, 10_000, 10).await,
        [(0, 2_100, 2, 48), (2_201, 2_301, 1, 24), (5_000, 6_000, 1, 24)]
    );
    assert_eq!(runs(0, 10_000, 2).await.len(), 2);
    assert_eq!(runs(2_100, 2_201, 10).await, []);
    assert_eq!(runs(2_099, 2_202, 10).await.len(), 2);
    assert_eq!(runs(5_500, 5_501, 1).await, [(5_000, 6_000, 1, 24)]);
    // One that arrives late joins what is on both sides.
    append(2_301, 2_650).await;
    assert_eq!(runs(0, 10_000, 10).await, [(0, 2_100, 2, 48), (2_201, 6_000, 3, 72)]);
    append(2_050, 151).await;
    assert_eq!(runs(0, 10_000, 10).await, [(0, 6_000, 6, 144)]);
    let whole = archive.runs(stream, range(100, 200), 1).await.expect("runs");
    assert_eq!(whole[0].arrived_at, at(6_000));
}

async fn watchers_wake(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let mut follower = archive.watch(stream);
    let other = archive.watch(StreamId::new(NOW));
    follower.mark_unchanged();
    let number = store(archive, fragment(archive, stream, at(0), 1_000, b"wake")).await;
    follower.changed().await.expect("the archive is open");
    assert_eq!(*follower.borrow_and_update(), number);
    assert!(!other.has_changed().expect("the archive is open"));
}

/// Lets go what arrived before an instant, as retention does; answers how many fragments that were.
async fn expire(
    archive: &EmbeddedArchive,
    stream: StreamId,
    before: Timestamp,
    spare: &[TimeRange],
) -> u64 {
    let mut gone = 0;
    for file in archive.chunk_files(stream, before).await.expect("chunk_files") {
        assert!(file.newest_arrival < before);
        gone += archive.expire(stream, file.number, spare).await.expect("expire");
    }
    gone
}

async fn expiry_takes_whole_files(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    for start in [0, 1_000, 2_000] {
        store(archive, fragment(archive, stream, at(start), 1_000, &start.to_le_bytes())).await;
    }
    // The newest arrived at 3 s: nothing of its file goes before.
    assert_eq!(expire(archive, stream, at(3_000), &[]).await, 0);
    assert_eq!(all_starts(archive, stream).await, [0, 1_000, 2_000]);
    assert_eq!(expire(archive, stream, at(3_001), &[]).await, 3);
    assert_eq!(all_starts(archive, stream).await, [0i64; 0]);
    assert_eq!(archive.extents(&[stream]).await.expect("extents"), [None]);
    assert_eq!(archive.runs(stream, range(0, 9_000), 10).await.expect("runs"), []);
    assert_eq!(archive.newest(stream).await.expect("newest"), None);
    assert_eq!(archive.init(stream, InitId(0xabc)).await.expect("init"), None);
    assert_eq!(expire(archive, stream, at(3_001), &[]).await, 0);
    // What went may come again, and is stored as anything else is.
    store(archive, fragment(archive, stream, at(0), 1_000, &0i32.to_le_bytes())).await;
    assert_eq!(all_starts(archive, stream).await, [0]);
}

/// Starts of all of a stream's fragments, in milliseconds from [`NOW`].
pub async fn all_starts(archive: &EmbeddedArchive, stream: StreamId) -> Vec<i64> {
    let (by, range) = (RangeBy::Timeline, range(-100_000, 100_000));
    let query = FragmentQuery { by, range, order: TimeOrder::OldestFirst, limit: 100 };
    starts(archive, stream, query).await
}

async fn expiry_leaves_what_is_spared(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    for start in [0, 1_000, 2_000, 3_000] {
        store(archive, fragment(archive, stream, at(start), 1_000, &start.to_le_bytes())).await;
    }
    // Spans are half-open: the fragments before and behind are not touched by it.
    let spare = [range(1_000, 2_000)];
    assert_eq!(expire(archive, stream, at(9_000), &spare).await, 3);
    assert_eq!(all_starts(archive, stream).await, [1_000]);
    assert_eq!(archive.stored_bytes(&[stream]).await.expect("stored_bytes"), [24]);
    let left = archive.newest(stream).await.expect("newest").expect("it was spared");
    let body = archive.read(stream, left.location, 0, 24).await.expect("read");
    assert_eq!(body, 1_000i64.to_le_bytes().repeat(3));
    assert!(archive.init(stream, InitId(0xabc)).await.expect("init").is_some());
    assert_eq!(expire(archive, stream, at(9_000), &spare).await, 0);
    assert_eq!(expire(archive, stream, at(9_000), &[]).await, 1);
    assert_eq!(archive.stored_bytes(&[stream]).await.expect("stored_bytes"), [0]);
}

async fn deletion_takes_what_overlaps(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let mut numbers = Vec::new();
    for start in [0, 1_000, 2_000, 3_000, 4_000] {
        let new = fragment(archive, stream, at(start), 1_000, &start.to_le_bytes());
        numbers.push(store(archive, new).await);
    }
    let delete = async |from, to, last, spare: &[TimeRange]| {
        archive.delete(stream, range(from, to), last, spare).await.expect("delete")
    };
    let newest = numbers[4];
    // Only what was there when it was asked for, and nothing that is held.
    assert_eq!(delete(-5_000, 0, newest, &[]).await, Removed::default());
    assert_eq!(delete(4_000, 5_000, numbers[3], &[]).await, Removed::default());
    assert_eq!(delete(0, 1_000, newest, &[range(500, 501)]).await, Removed::default());
    let removed = delete(1_999, 2_001, newest, &[]).await;
    assert_eq!(removed, Removed { fragments: 2, range: Some(range(1_000, 3_000)) });
    assert_eq!(all_starts(archive, stream).await, [0, 3_000, 4_000]);
    let runs = archive.runs(stream, range(0, 9_000), 10).await.expect("runs");
    assert_eq!(runs.len(), 2);
    // The rest goes with its file.
    assert_eq!(delete(-9_000, 9_000, newest, &[]).await.fragments, 3);
    assert_eq!(all_starts(archive, stream).await, [0i64; 0]);
    assert_eq!(archive.fragments_by_number(stream, &numbers).await.expect("found"), vec![None; 5]);
}

async fn what_goes_twice_at_once_goes_once(archive: &EmbeddedArchive) {
    const FRAGMENTS: i64 = 60;
    const ASKING: i64 = 8;
    for _ in 0..10 {
        let stream = StreamId::new(NOW);
        let mut last = FragmentNumber(0);
        for start in (0..FRAGMENTS).map(|second| second * 1_000) {
            let new = fragment(archive, stream, at(start), 1_000, &start.to_le_bytes());
            last = store(archive, new).await;
        }
        // All but the first and the last one, each of them several times.
        let deletions = (0..ASKING).map(|place| {
            let end = (FRAGMENTS - 1 - place) * 1_000;
            archive.delete(stream, range(1_000, end), last, &[])
        });
        let removed = futures_util::future::join_all(deletions).await;
        let removed: u64 =
            removed.into_iter().map(|removed| removed.expect("delete").fragments).sum();
        assert_eq!(removed, FRAGMENTS as u64 - 2);
        let left = [range(0, 1_000), range((FRAGMENTS - 1) * 1_000, FRAGMENTS * 1_000)];
        let runs = archive.runs(stream, range(0, FRAGMENTS * 1_000), 10).await.expect("runs");
        let runs: Vec<_> = runs.iter().map(|run| (run.range, run.bytes, run.fragments)).collect();
        assert_eq!(runs, left.map(|range| (range, 24, 1)));
        assert_eq!(archive.stored_bytes(&[stream]).await.expect("stored_bytes"), [48]);
    }
}

async fn streams_are_listed_while_they_have_media(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let listed = async || archive.streams().await.expect("streams").contains(&stream);
    assert!(!listed().await);
    store(archive, fragment(archive, stream, at(0), 1_000, b"listed")).await;
    assert!(listed().await);
    expire(archive, stream, at(60_000), &[]).await;
    assert!(!listed().await);
}

async fn unknown_streams_are_empty(archive: &EmbeddedArchive) {
    let stream = StreamId::new(NOW);
    let query = FragmentQuery {
        by: RangeBy::Timeline,
        range: range(0, 1),
        order: TimeOrder::NewestFirst,
        limit: 1,
    };
    assert_eq!(archive.fragments(stream, &query).await.expect("fragments"), []);
    assert_eq!(archive.newest(stream).await.expect("newest"), None);
    assert_eq!(archive.runs(stream, range(0, 1), 1).await.expect("runs"), []);
    assert_eq!(expire(archive, stream, at(0), &[]).await, 0);
    assert_eq!(archive.stored_bytes(&[stream]).await.expect("stored_bytes"), [0]);
    let nowhere = Location { file: 1, offset: 0, len: 1 };
    assert!(archive.read(stream, nowhere, 0, 1).await.is_err());
}

/// Everything that a catalog promises.
pub async fn check_catalog(catalog: &dyn Catalog) {
    accounts_are_made_once(catalog).await;
    users_have_unique_names(catalog).await;
    users_are_changed_value_by_value(catalog).await;
    users_are_paged_by_name(catalog).await;
    users_follow_the_newest_token_of_their_issuer(catalog).await;
    a_device_is_shared_with_a_user_once(catalog).await;
    shares_end(catalog).await;
    the_audit_log_is_paged_from_its_end(catalog).await;
    sign_ins_rotate_once(catalog).await;
    one_plan_is_the_default(catalog).await;
    a_device_comes_with_its_streams(catalog).await;
    registrations_are_idempotent(catalog).await;
    devices_are_changed_value_by_value(catalog).await;
    retired_devices_are_revived(catalog).await;
    names_in_use_are_refused(catalog).await;
    devices_are_paged_by_name(catalog).await;
    devices_are_seen(catalog).await;
    credentials_are_kept(catalog).await;
    media_settings_change_one_by_one(catalog).await;
    media_streams_are_paged_by_name(catalog).await;
    unclaimed_media_streams_are_adopted(catalog).await;
    media_streams_are_deleted(catalog).await;
    webhooks::check(catalog).await;
    check_timeline(catalog).await;
}

/// Of the catalog's checks those of streams' and devices' footage and events.
pub async fn check_timeline(catalog: &dyn Catalog) {
    arrivals_are_counted_by_day(catalog).await;
    segments_are_stored_once(catalog).await;
    segments_are_judged(catalog).await;
    segments_are_paged(catalog).await;
    segments_expire(catalog).await;
    segments_are_spared_and_deleted(catalog).await;
    shorter_plans_wait(catalog).await;
    holds_are_kept(catalog).await;
    deletions_are_remembered(catalog).await;
    events::check(catalog).await;
}

/// A name that no other check uses.
fn unique(what: &str) -> String {
    format!("{what}-{}", AccountId::new(NOW).0)
}

async fn new_account(catalog: &dyn Catalog) -> Account {
    catalog.ensure_account(&unique("account"), NOW).await.expect("ensure_account")
}

async fn accounts_are_made_once(catalog: &dyn Catalog) {
    let name = unique("account");
    assert_eq!(catalog.account_by_name(&name).await.expect("account_by_name"), None);
    let both =
        futures_util::future::join_all((0..8).map(|_| catalog.ensure_account(&name, NOW))).await;
    let accounts: Vec<_> = both.into_iter().map(|account| account.expect("account")).collect();
    assert!(accounts.iter().all(|account| *account == accounts[0]), "{accounts:?}");
    let account = &accounts[0];
    assert_eq!((account.name.as_str(), account.created_at), (name.as_str(), NOW));
    assert_eq!(catalog.account(account.id).await.expect("account").as_ref(), Some(account));
    let by_name = catalog.account_by_name(&name).await.expect("account_by_name");
    assert_eq!(by_name.as_ref(), Some(account));
    assert_eq!(catalog.account(AccountId::new(NOW)).await.expect("account"), None);
    let plans = catalog.plans(account.id).await.expect("plans");
    assert_eq!(plans.len(), 1);
    assert!(plans[0].is_default && plans[0].days == 7, "{plans:?}");
}

pub fn new_user(account: AccountId, name: &str) -> User {
    User {
        id: UserId::new(NOW),
        account,
        name: name.into(),
        display_name: "Ann".into(),
        role: Role::Viewer,
        password_hash: Some("$argon2id$…".into()),
        identity: None,
        time_zone: Some("Europe/Zurich".into()),
        disabled: false,
        created_at: NOW,
    }
}

async fn users_have_unique_names(catalog: &dyn Catalog) {
    let (account, other) = (new_account(catalog).await.id, new_account(catalog).await.id);
    let ann = new_user(account, "ann");
    catalog.create_user(ann.clone()).await.expect("create_user");
    let refused = catalog.create_user(new_user(account, "ann")).await;
    assert!(matches!(refused, Err(CreateError::Taken { field: "name" })), "{refused:?}");
    catalog.create_user(new_user(other, "ann")).await.expect("another account");
    assert_eq!(catalog.user(ann.id).await.expect("user"), Some(ann.clone()));
    assert_eq!(catalog.user_by_name(account, "ann").await.expect("user_by_name"), Some(ann));
    assert_eq!(catalog.user_by_name(account, "bob").await.expect("user_by_name"), None);
}

async fn users_are_changed_value_by_value(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let ann = new_user(account, "ann");
    catalog.create_user(ann.clone()).await.expect("create_user");
    let disable = UserChange { disabled: Some(true), ..UserChange::default() };
    let rename = UserChange { display_name: Some("A".into()), ..UserChange::default() };
    let promote = UserChange { role: Some(Role::Admin), ..UserChange::default() };
    let changes = [disable, rename, promote].map(|change| catalog.change_user(ann.id, change));
    for changed in futures_util::future::join_all(changes).await {
        assert!(changed.expect("change_user").is_some());
    }
    let expected =
        User { disabled: true, display_name: "A".into(), role: Role::Admin, ..ann.clone() };
    assert_eq!(catalog.user(ann.id).await.expect("user"), Some(expected.clone()));
    let nobody = UserId::new(NOW);
    let changed = catalog.change_user(nobody, UserChange::default()).await;
    assert_eq!(changed.expect("change_user"), None);
    let found = catalog.users_by_id(&[nobody, ann.id]).await.expect("users_by_id");
    assert_eq!(found, [None, Some(expected)]);
}

async fn users_are_paged_by_name(catalog: &dyn Catalog) {
    let (account, other) = (new_account(catalog).await.id, new_account(catalog).await.id);
    for name in ["d", "a", "ab", "c"] {
        catalog.create_user(new_user(account, name)).await.expect("create_user");
    }
    catalog.create_user(new_user(other, "b")).await.expect("create_user");
    for (after, limit, expected) in [
        (None, 10, &["a", "ab", "c", "d"][..]),
        (None, 2, &["a", "ab"]),
        (Some("ab"), 2, &["c", "d"]),
        (Some("b"), 1, &["c"]),
        (Some("d"), 10, &[]),
    ] {
        let query = UserQuery { after: after.map(str::to_owned), limit };
        let found = catalog.users(account, &query).await.expect("users");
        let names: Vec<_> = found.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, expected, "{query:?}");
    }
}

async fn users_follow_the_newest_token_of_their_issuer(catalog: &dyn Catalog) {
    let (account, other) = (new_account(catalog).await.id, new_account(catalog).await.id);
    let (issuer, subject) = ("https://issuer.example/realms/a", "x".repeat(255));
    let known = |account, name, subject: &str| {
        let identity = Some(Identity::new(issuer.to_owned(), subject.to_owned(), None));
        User { identity, password_hash: None, ..new_user(account, name) }
    };
    let ann = known(account, "ann", &subject);
    catalog.create_user(ann.clone()).await.expect("create_user");
    let refused = catalog.create_user(known(account, "ann's twin", &subject)).await;
    assert!(matches!(refused, Err(CreateError::Taken { field: "identity" })), "{refused:?}");
    let abroad = known(other, "ann", &subject);
    catalog.create_user(abroad.clone()).await.expect("another account");
    catalog.create_user(known(account, "bob", "y")).await.expect("another subject");
    for (account, issuer, subject, expected) in [
        (account, issuer, &*subject, Some(ann.id)),
        (other, issuer, &*subject, Some(abroad.id)),
        (other, issuer, "y", None),
        (account, "https://issuer.example", &*subject, None),
        (account, issuer, &subject[1..], None),
    ] {
        let found = catalog.user_by_identity(account, issuer, subject).await;
        assert_eq!(found.expect("user_by_identity").map(|user| user.id), expected, "{issuer}");
    }
    let claims =
        |role, at| UserChange { role: Some(role), claimed_at: Some(at), ..UserChange::default() };
    let nothing = |at| UserChange { claimed_at: Some(at), shut_out: true, ..UserChange::default() };
    for (change, expected) in [
        (claims(Role::Manager, at(20)), (Role::Manager, true)),
        (claims(Role::Admin, at(10)), (Role::Manager, true)),
        (claims(Role::Member, at(20)), (Role::Member, true)),
        (nothing(at(10)), (Role::Member, true)),
        (nothing(at(30)), (Role::Member, false)),
        (claims(Role::Admin, at(20)), (Role::Member, false)),
        (UserChange { role: Some(Role::Viewer), ..UserChange::default() }, (Role::Viewer, false)),
        (claims(Role::Viewer, at(40)), (Role::Viewer, true)),
    ] {
        catalog.change_user(ann.id, change).await.expect("change_user");
        let found = catalog.user(ann.id).await.expect("user").expect("ann");
        assert_eq!((found.role, found.may_come_in()), expected);
    }
}

fn new_share(device: DeviceId, user: UserId) -> Share {
    Share {
        id: ShareId::new(NOW),
        account: AccountId::new(NOW),
        device,
        user,
        role: DeviceRole::Viewer,
        expires_at: None,
        created_at: NOW,
    }
}

async fn share(catalog: &dyn Catalog, share: Share) -> Share {
    catalog.put_share(share, NOW).await.expect("put_share").expect("there is room")
}

async fn a_device_is_shared_with_a_user_once(catalog: &dyn Catalog) {
    let (ann, bob) = (UserId::new(NOW), UserId::new(NOW));
    let (door, yard) = (DeviceId::new(NOW), DeviceId::new(NOW));
    let first = share(catalog, new_share(door, ann)).await;
    let with_bob = Share { created_at: at(1), ..new_share(door, bob) };
    let with_bob = share(catalog, with_bob).await;
    let of_yard = Share { created_at: at(2), ..new_share(yard, ann) };
    let of_yard = share(catalog, of_yard).await;
    let more = Share {
        role: DeviceRole::Manager,
        expires_at: Some(at(5_000)),
        created_at: at(3),
        ..new_share(door, ann)
    };
    let replaced = share(catalog, more.clone()).await;
    assert_eq!(replaced, Share { id: first.id, created_at: first.created_at, ..more });
    assert_eq!(catalog.share(first.id).await.expect("share"), Some(replaced.clone()));
    let nowhere = DeviceId::new(NOW);
    let found = catalog.shares_of(&[door, nowhere, yard]).await.expect("shares_of");
    assert_eq!(found, [vec![replaced.clone(), with_bob], Vec::new(), vec![of_yard.clone()]]);
    let found = catalog.shares_with(ann).await.expect("shares_with");
    assert_eq!(found, [replaced, of_yard.clone()]);
    for _ in 0..2 {
        catalog.delete_share(first.id).await.expect("delete_share");
    }
    assert_eq!(catalog.share(first.id).await.expect("share"), None);
    assert_eq!(catalog.shares_with(ann).await.expect("shares_with"), [of_yard]);
    let anew = share(catalog, new_share(door, ann)).await;
    assert_ne!(anew.id, first.id, "what ended is not taken up again");
}

async fn shares_end(catalog: &dyn Catalog) {
    let ending = |device, user| Share { expires_at: Some(at(1)), ..new_share(device, user) };
    let (door, ann) = (DeviceId::new(NOW), UserId::new(NOW));
    let of_door = (0..MAX_SHARES_OF_DEVICE).map(|_| ending(door, UserId::new(NOW)));
    let with_ann = (0..MAX_SHARES_WITH_USER).map(|_| ending(DeviceId::new(NOW), ann));
    futures_util::future::join_all(of_door.chain(with_ann).map(|new| share(catalog, new))).await;
    let one_more = |share, now| catalog.put_share(share, now);
    let of_door = one_more(new_share(door, UserId::new(NOW)), NOW).await;
    assert_eq!(of_door.expect("put_share"), None);
    let with_ann = one_more(new_share(DeviceId::new(NOW), ann), NOW).await;
    assert_eq!(with_ann.expect("put_share"), None);
    let later = one_more(new_share(door, ann), at(1)).await.expect("put_share");
    let later = vec![later.expect("the others have ended")];
    assert_eq!(catalog.shares_of(&[door]).await.expect("shares_of")[0], later);
    assert_eq!(catalog.shares_with(ann).await.expect("shares_with"), later);
}

async fn the_audit_log_is_paged_from_its_end(catalog: &dyn Catalog) {
    let (account, other) = (new_account(catalog).await.id, new_account(catalog).await.id);
    let line = |account, offset_ms: i64, target: &str| AuditEntry {
        id: AuditId::new(at(offset_ms)),
        account,
        at: at(offset_ms),
        actor: Some("somebody".into()),
        action: AuditAction::Change,
        target: Some(target.into()),
        address: Some([192, 0, 2, 1].into()),
    };
    catalog.append_audit(line(other, 20, "elsewhere")).await.expect("append_audit");
    let lines: Vec<_> = (0..4).map(|n: i64| line(account, 10 * n, &n.to_string())).collect();
    for line in &lines {
        catalog.append_audit(line.clone()).await.expect("append_audit");
    }
    let all = range(-KEPT_MS, KEPT_MS * 2);
    for (range, after, limit, expected) in [
        (all, None, 10, &["3", "2", "1", "0"][..]),
        (all, None, 2, &["3", "2"]),
        (all, Some(2), 10, &["1", "0"]),
        (all, Some(0), 10, &[]),
        (range(10, 30), None, 10, &["2", "1"]),
        (range(10, 30), Some(3), 10, &["2", "1"]),
        (range(10, 30), Some(1), 10, &[]),
        (range(31, 40), None, 10, &[]),
    ] {
        let after = after.map(|n: usize| lines[n].id);
        let query = AuditQuery { range, after, limit };
        let found = catalog.audit_log(account, &query).await.expect("audit_log");
        let targets: Vec<_> = found.iter().filter_map(|line| line.target.as_deref()).collect();
        assert_eq!(targets, expected, "{query:?}");
        assert!(found.iter().all(|line| lines.contains(line)), "{found:?}");
    }
    // What is past keeping has gone when the next line comes.
    catalog.append_audit(line(account, KEPT_MS + 15, "4")).await.expect("append_audit");
    let query = AuditQuery { range: all, after: None, limit: 10 };
    let found = catalog.audit_log(account, &query).await.expect("audit_log");
    let targets: Vec<_> = found.iter().filter_map(|line| line.target.as_deref()).collect();
    assert_eq!(targets, ["4", "3", "2"]);
}

async fn sign_ins_rotate_once(catalog: &dyn Catalog) {
    let sign_in = SignIn {
        id: SignInId::new(NOW),
        user: UserId::new(NOW),
        current: [1; 32],
        previous: None,
        rotated_at: NOW,
        expires_at: at(1_000_000),
        ends_at: None,
    };
    catalog.put_sign_in(sign_in.clone()).await.expect("put_sign_in");
    let tabs = (2..6).map(|tab| {
        let next = SignIn { current: [tab; 32], previous: Some([1; 32]), ..sign_in.clone() };
        catalog.rotate_sign_in([1; 32], next)
    });
    let rotated = futures_util::future::join_all(tabs).await;
    let rotated: Vec<_> = rotated.into_iter().map(|done| done.expect("rotate_sign_in")).collect();
    assert_eq!(rotated.iter().filter(|done| **done).count(), 1, "{rotated:?}");
    let stored = catalog.sign_in(sign_in.id).await.expect("sign_in").expect("is there");
    assert_eq!(stored.previous, Some([1; 32]));
    catalog.delete_sign_in(sign_in.id).await.expect("delete_sign_in");
    assert_eq!(catalog.sign_in(sign_in.id).await.expect("sign_in"), None);
    assert!(!catalog.rotate_sign_in(stored.current, sign_in).await.expect("rotate_sign_in"));
}

async fn one_plan_is_the_default(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let plan = |name: &str, is_default| RetentionPlan {
        id: PlanId::new(NOW),
        account,
        name: name.into(),
        mode: RetentionMode::EventOnly,
        days: 30,
        pre_roll_s: 5,
        post_roll_s: 6,
        storage_quota_bytes: Some(u64::MAX),
        is_default,
    };
    let (long, aside) = (plan("30 days", true), plan("1 day, aside", false));
    catalog.put_plan(long.clone()).await.expect("put_plan");
    catalog.put_plan(aside.clone()).await.expect("put_plan");
    let plans = catalog.plans(account).await.expect("plans");
    let names: Vec<_> = plans.iter().map(|plan| (plan.name.as_str(), plan.is_default)).collect();
    assert_eq!(names, [("1 day, aside", false), ("30 days", true), ("7 days", false)]);
    let by_id = catalog.plans_by_id(&[aside.id, PlanId::new(NOW), long.id]).await.expect("plans");
    assert_eq!(by_id, [Some(aside), None, Some(long)]);
}

/// A registration of one device with the streams `main` and `sub`.
pub fn registration(account: AccountId, external_id: &str, name: &str) -> Registration {
    let device = DeviceId::new(NOW);
    let stream = |name: &str, position| Stream {
        id: StreamId::new(NOW),
        device,
        account,
        name: name.into(),
        position,
        media_stream_name: format!("{device}-{name}"),
        created_at: NOW,
    };
    Registration {
        device: Device {
            id: device,
            account,
            external_id: external_id.into(),
            name: name.into(),
            model: Some("model".into()),
            firmware_version: None,
            state: DeviceState::Provisioned,
            time_zone: "Europe/Zurich".into(),
            plan: PlanId::new(NOW),
            created_at: NOW,
            last_seen_at: None,
            clock_skew_ms: None,
        },
        streams: vec![stream("main", 0), stream("sub", 1)],
        credential: DeviceCredential {
            id: CredentialId::new(NOW),
            account,
            device,
            kind: CredentialKind::Token,
            created_at: NOW,
            expires_at: Some(at(1_000)),
            revoked_at: None,
            last_used_at: None,
        },
        idempotency: None,
    }
}

async fn register(catalog: &dyn Catalog, registration: Registration) -> Registered {
    catalog.register_device(registration, NOW).await.expect("register_device")
}

async fn a_device_comes_with_its_streams(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let asked = registration(account, "SN-1", "Door");
    let made = register(catalog, asked.clone()).await;
    assert_eq!(made.device, asked.device);
    assert_eq!(made.streams, asked.streams);
    assert_eq!(made.credential, asked.credential);
    let id = made.device.id;
    let unknown = DeviceId::new(NOW);
    let found = catalog.devices_by_id(&[unknown, id]).await.expect("devices_by_id");
    assert_eq!(found, [None, Some(asked.device.clone())]);
    let streams = catalog.streams_of(&[id, unknown]).await.expect("streams_of");
    assert_eq!(streams, [asked.streams.clone(), vec![]]);
    let [main, sub] = &asked.streams[..] else { panic!("two streams") };
    let found = catalog.streams_by_id(&[sub.id, StreamId::new(NOW), main.id]).await;
    assert_eq!(found.expect("streams_by_id"), [Some(sub.clone()), None, Some(main.clone())]);
    let found = catalog.stream_by_media_name(account, &sub.media_stream_name).await;
    assert_eq!(found.expect("stream_by_media_name"), Some(sub.clone()));
    let other = new_account(catalog).await.id;
    let found = catalog.stream_by_media_name(other, &sub.media_stream_name).await;
    assert_eq!(found.expect("stream_by_media_name"), None);
    let found = catalog.device_by_external_id(account, "SN-1").await;
    assert_eq!(found.expect("device_by_external_id"), Some(asked.device.clone()));
    let found = catalog.device_by_external_id(other, "SN-1").await;
    assert_eq!(found.expect("device_by_external_id"), None);
}

fn turned(turn: Turn) -> DeviceChange {
    DeviceChange { turn: Some(turn), ..DeviceChange::default() }
}

/// Whatever is changed at the same time, nothing of it is lost.
async fn devices_are_changed_value_by_value(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let device = register(catalog, registration(account, "SN-1", "Door")).await.device;
    let plan = PlanId::new(NOW);
    let changes = [
        DeviceChange { name: Some("Gate".into()), ..DeviceChange::default() },
        DeviceChange { time_zone: Some("Asia/Kolkata".into()), ..DeviceChange::default() },
        DeviceChange { firmware_version: Some("1.2".into()), ..DeviceChange::default() },
        DeviceChange { plan: Some(plan), ..DeviceChange::default() },
        turned(Turn::Suspend),
    ];
    let changed = changes.map(|change| catalog.change_device(device.id, change));
    for changed in futures_util::future::join_all(changed).await {
        assert!(changed.expect("change_device").is_some());
    }
    let expected = Device {
        name: "Gate".into(),
        time_zone: "Asia/Kolkata".into(),
        firmware_version: Some("1.2".into()),
        plan,
        state: DeviceState::Suspended,
        ..device.clone()
    };
    let found = catalog.devices_by_id(&[device.id]).await.expect("devices_by_id");
    assert_eq!(found, [Some(expected.clone())]);
    let retired = catalog.change_device(device.id, turned(Turn::Retire)).await;
    let expected = Device { state: DeviceState::Retired, ..expected };
    assert_eq!(retired.expect("change_device"), Some(expected.clone()));
    // All of a change that cannot be made is left.
    let resumed = DeviceChange { name: Some("Yard".into()), ..turned(Turn::Resume) };
    let refused = catalog.change_device(device.id, resumed).await;
    assert_eq!(refused.expect("change_device"), None);
    let found = catalog.devices_by_id(&[device.id]).await.expect("devices_by_id");
    assert_eq!(found, [Some(expected)]);
    let nobody = catalog.change_device(DeviceId::new(NOW), DeviceChange::default()).await;
    assert_eq!(nobody.expect("change_device"), None);
}

async fn registrations_are_idempotent(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let with_key = |digest, external_id: &str| Registration {
        idempotency: Some(("key".into(), [digest; 32])),
        ..registration(account, external_id, "Door")
    };
    let first = register(catalog, with_key(1, "SN-1")).await;
    let again = register(catalog, with_key(1, "SN-1")).await;
    assert_eq!((again.device.id, &again.streams), (first.device.id, &first.streams));
    assert_ne!(again.credential.id, first.credential.id);
    assert_eq!(again.credential.device, first.device.id);
    let earlier = catalog.credential(first.credential.id).await.expect("credential");
    assert_eq!(earlier.expect("is there").revoked_at, Some(NOW));
    let in_force = catalog.credential(again.credential.id).await.expect("credential");
    assert_eq!(in_force.expect("is there").revoked_at, None);
    let other = catalog.register_device(with_key(2, "SN-2"), NOW).await;
    assert!(matches!(other, Err(CreateError::IdempotencyConflict)), "{other:?}");
    // One that was retired since is revived.
    catalog.change_device(again.device.id, turned(Turn::Retire)).await.expect("change_device");
    let other = catalog.register_device(with_key(2, "SN-2"), NOW).await;
    assert!(matches!(other, Err(CreateError::IdempotencyConflict)), "{other:?}");
    let revived = register(catalog, with_key(1, "SN-1")).await;
    assert_eq!((revived.device.id, &revived.streams), (first.device.id, &first.streams));
    assert_eq!(revived.device.state, DeviceState::Provisioned);
    let earlier = catalog.credential(again.credential.id).await.expect("credential");
    assert_eq!(earlier.expect("is there").revoked_at, Some(NOW));
    let in_force = catalog.credential(revived.credential.id).await.expect("credential");
    assert_eq!(in_force.expect("is there").revoked_at, None);
    // A day later the key is a new one.
    let day = 24 * 3600 * 1000;
    let later = catalog.register_device(with_key(2, "SN-2"), at(day)).await.expect("a new device");
    assert_ne!(later.device.id, first.device.id);
}

async fn retired_devices_are_revived(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let first = register(catalog, registration(account, "SN-1", "Door")).await;
    catalog.change_device(first.device.id, turned(Turn::Retire)).await.expect("change_device");
    let revived = register(catalog, registration(account, "SN-1", "Back door")).await;
    assert_eq!(revived.device.id, first.device.id);
    assert_eq!(revived.device.state, DeviceState::Provisioned);
    assert_eq!(revived.device.name, "Back door");
    assert_eq!(revived.streams, first.streams, "footage stays where it is");
    assert_eq!(revived.credential.device, first.device.id);
    let page = catalog.devices(account, &DeviceQuery { limit: 10, ..DeviceQuery::default() }).await;
    assert_eq!(page.expect("devices"), [revived.device]);
    // With the two that it has.
    catalog.change_device(first.device.id, turned(Turn::Retire)).await.expect("change_device");
    for (more, is_refused) in [(7, true), (6, false)] {
        let stream = |n: u8| Stream {
            id: StreamId::new(NOW),
            name: format!("more-{n}"),
            media_stream_name: unique("more"),
            ..first.streams[0].clone()
        };
        let mut asked = registration(account, "SN-1", "Door");
        asked.streams = (0..more).map(stream).collect();
        match catalog.register_device(asked, NOW).await {
            Err(CreateError::TooManyStreams(9)) if is_refused => {}
            Ok(revived) if !is_refused => assert_eq!(revived.streams.len(), MAX_STREAMS),
            other => panic!("{more} more: {other:?}"),
        }
    }
}

async fn names_in_use_are_refused(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let first = register(catalog, registration(account, "SN-1", "Door")).await;
    let refused = catalog.register_device(registration(account, "SN-1", "Door"), NOW).await;
    assert!(matches!(refused, Err(CreateError::Taken { field: "externalId" })), "{refused:?}");
    let mut same_media = registration(account, "SN-2", "Door");
    same_media.streams[1].media_stream_name = first.streams[0].media_stream_name.clone();
    let refused = catalog.register_device(same_media.clone(), NOW).await;
    assert!(matches!(refused, Err(CreateError::Taken { field: "mediaStreamName" })), "{refused:?}");
    // All or nothing: no device, no stream, no credential of it is there.
    let found = catalog.device_by_external_id(account, "SN-2").await;
    assert_eq!(found.expect("device_by_external_id"), None);
    let found = catalog.streams_by_id(&[same_media.streams[0].id]).await;
    assert_eq!(found.expect("streams_by_id"), [None]);
    let found = catalog.credential(same_media.credential.id).await;
    assert_eq!(found.expect("credential"), None);
}

async fn devices_are_paged_by_name(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let names = ["garage", "Door", "door 2", "Zoo", "DOOR"];
    for (number, name) in names.iter().enumerate() {
        register(catalog, registration(account, &format!("SN-{number}"), name)).await;
    }
    let other = new_account(catalog).await.id;
    register(catalog, registration(other, "SN-9", "Door")).await;
    let all = |query: DeviceQuery| async move {
        let (mut query, mut names) = (query, Vec::new());
        loop {
            let page = catalog.devices(account, &query).await.expect("devices");
            assert!(page.len() <= query.limit);
            let Some(last) = page.last() else { return names };
            query.after = Some((last.name.clone(), last.id));
            names.extend(page.iter().map(|device| device.name.to_lowercase()));
        }
    };
    for limit in [1, 2, 10] {
        let query = DeviceQuery { limit, ..DeviceQuery::default() };
        assert_eq!(all(query).await, ["door", "door", "door 2", "garage", "zoo"], "limit {limit}");
        let prefix = Some("dOOr".to_lowercase());
        let query = DeviceQuery { limit, name_prefix: prefix, ..DeviceQuery::default() };
        assert_eq!(all(query).await, ["door", "door", "door 2"], "limit {limit}");
    }
    // A name is searched to its end, however long it is.
    let long = "\u{1f4f7}".repeat(128);
    register(catalog, registration(other, "SN-10", &long)).await;
    for (prefix, count) in [(long.clone(), 1), (format!("{long}x"), 0), ("\u{1f4f7}".into(), 1)] {
        let query = DeviceQuery { limit: 10, name_prefix: Some(prefix), after: None };
        let found = catalog.devices(other, &query).await.expect("devices");
        assert_eq!(found.len(), count, "{query:?}");
    }
    // A name that changes moves its device.
    let query = DeviceQuery { limit: 10, ..DeviceQuery::default() };
    let zoo = catalog.devices(account, &query).await.expect("devices").pop().expect("the last");
    let renamed = DeviceChange { name: Some("Aviary".into()), ..DeviceChange::default() };
    catalog.change_device(zoo.id, renamed).await.expect("change_device");
    assert_eq!(all(query).await, ["aviary", "door", "door", "door 2", "garage"]);
}

async fn devices_are_seen(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let id = register(catalog, registration(account, "SN-1", "Door")).await.device.id;
    let device = async || {
        let found = catalog.devices_by_id(&[id]).await.expect("devices_by_id");
        found.into_iter().next().flatten().expect("is there")
    };
    catalog.note_seen(id, at(5), Some(-40)).await.expect("note_seen");
    let seen = device().await;
    assert_eq!(seen.state, DeviceState::Active);
    assert_eq!((seen.last_seen_at, seen.clock_skew_ms), (Some(at(5)), Some(-40)));
    catalog.note_seen(id, at(9), None).await.expect("note_seen");
    let seen = device().await;
    assert_eq!((seen.last_seen_at, seen.clock_skew_ms), (Some(at(9)), Some(-40)));
    // Reads by any way say the same.
    let by_name = catalog.device_by_external_id(account, "SN-1").await;
    assert_eq!(by_name.expect("device_by_external_id"), Some(seen.clone()));
    // Only the first one makes it active.
    let suspended = catalog.change_device(id, turned(Turn::Suspend)).await;
    let expected = Device { state: DeviceState::Suspended, ..seen };
    assert_eq!(suspended.expect("change_device"), Some(expected));
    catalog.note_seen(id, at(10), None).await.expect("note_seen");
    assert_eq!(device().await.state, DeviceState::Suspended);
    catalog.note_seen(DeviceId::new(NOW), NOW, None).await.expect("an unknown device is no fault");
    catalog.close().await.expect("close");
    assert_eq!(device().await.last_seen_at, Some(at(10)));
}

async fn arrivals_are_counted_by_day(catalog: &dyn Catalog) {
    let (stream, other) = (StreamId::new(NOW), StreamId::new(NOW));
    let today = utc_day(NOW);
    let midnight = start_of_utc_day(today + 1);
    for (stream, at, bytes) in [
        (stream, midnight.plus_millis(-1), 1),
        (other, NOW, 2),
        (stream, midnight, 4),
        (stream, midnight.plus_millis(-1), 8),
        (stream, midnight.plus_millis(4 * 3_600_000), 16),
        (stream, start_of_utc_day(today + 3), 32),
    ] {
        catalog.note_arrived(stream, at, bytes).await.expect("note_arrived");
    }
    for (first, last, expected) in [
        (today, today, [9, 2]),
        (today, today + 1, [29, 2]),
        (today + 2, today + 2, [0, 0]),
        (today - 9, today + 9, [61, 2]),
        (today + 1, today, [0, 0]),
    ] {
        let found = catalog.arrived_bytes(&[stream, other], first, last).await;
        assert_eq!(found.expect("arrived_bytes"), expected, "{first} to {last}");
    }
}

async fn credentials_are_kept(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let made = register(catalog, registration(account, "SN-1", "Door")).await;
    let second = DeviceCredential {
        id: CredentialId::new(at(1)),
        kind: CredentialKind::AccessKey,
        expires_at: None,
        ..made.credential.clone()
    };
    catalog.put_credential(second.clone()).await.expect("put_credential");
    let revoked = DeviceCredential { revoked_at: Some(at(2)), ..made.credential };
    catalog.put_credential(revoked.clone()).await.expect("put_credential");
    let mut of_device = catalog.credentials_of(made.device.id).await.expect("credentials_of");
    of_device.sort_by_key(|credential| credential.id);
    assert_eq!(of_device, [revoked.clone(), second.clone()]);
    // Its use is noted to the hour, and takes nothing back of what was written meanwhile.
    let hour_ms = 3_600_000;
    let on_the_hour = NOW.as_millis().div_euclid(hour_ms) * hour_ms;
    for (used_ms, noted_ms) in [(10, 0), (hour_ms + 5, hour_ms), (20, hour_ms)] {
        let at = |offset_ms: i64| Timestamp::from_millis(on_the_hour + offset_ms);
        catalog.note_credential_used(revoked.id, at(used_ms)).await.expect("note_credential_used");
        let found = catalog.credential(revoked.id).await.expect("credential");
        let noted = DeviceCredential { last_used_at: Some(at(noted_ms)), ..revoked.clone() };
        assert_eq!(found, Some(noted), "{used_ms}");
    }
    assert_eq!(catalog.credential(second.id).await.expect("credential"), Some(second.clone()));
    // Those that have ended make room; those that have not are never too many to be listed.
    let further = || DeviceCredential { id: CredentialId::new(at(3)), ..second.clone() };
    let add = async || catalog.add_credential(further(), at(3)).await.expect("add_credential");
    for n in 2..=MAX_CREDENTIALS_OF_DEVICE {
        assert!(add().await, "{n}");
    }
    assert_eq!(catalog.credential(revoked.id).await.expect("credential"), None);
    assert!(!add().await);
    let of_device = catalog.credentials_of(made.device.id).await.expect("credentials_of");
    assert_eq!(of_device.len(), MAX_CREDENTIALS_OF_DEVICE);
    assert!(of_device.iter().all(|credential| credential.is_valid(at(3))));
    assert!(of_device.iter().any(|credential| credential.id == second.id));
    catalog.note_credential_used(CredentialId::new(NOW), NOW).await.expect("no such credential");
    assert_eq!(catalog.credentials_of(DeviceId::new(NOW)).await.expect("credentials_of"), []);
    assert_eq!(catalog.credential(CredentialId::new(NOW)).await.expect("credential"), None);
}

/// A media stream as `CreateStream` makes one, with the device that stands in.
fn unclaimed(account: AccountId, name: &str) -> (Device, Stream, MediaSettings) {
    let Registration { mut device, mut streams, .. } = registration(account, name, name);
    device.external_id = name.into();
    let mut stream = streams.remove(0);
    stream.media_stream_name = name.into();
    let settings =
        MediaSettings { unclaimed: true, retention_hours: Some(2), ..MediaSettings::default() };
    (device, stream, settings)
}

async fn media_settings_change_one_by_one(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let read = async || catalog.media_settings(&[stream]).await.expect("media_settings").remove(0);
    let put = async |settings: &MediaSettings| {
        catalog.put_media_settings(stream, settings.clone()).await.expect("put_media_settings")
    };
    let first = read().await;
    assert_eq!(first, MediaSettings::default());
    let second = MediaSettings { changes: 1, device_name: Some("a".into()), ..first.clone() };
    let third = MediaSettings { changes: 2, device_name: Some("b".into()), ..first.clone() };
    let versions = [&first, &second, &third].map(|settings| settings.version(stream));
    assert!(versions[0] != versions[1] && versions[1] != versions[2]);
    for (settings, expected) in
        [(&first, false), (&third, false), (&second, true), (&second, false), (&third, true)]
    {
        assert_eq!(put(settings).await, expected, "{settings:?}");
    }
    assert_eq!(read().await, third);
}

async fn media_streams_are_paged_by_name(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let long = |end: char| format!("b{}{end}", "x".repeat(254));
    let mut names = vec!["a".to_owned(), "b-1".into(), "b-2".into(), "c".into()];
    names.extend([long('y'), long('z')]);
    for name in &names {
        let (device, stream, settings) = unclaimed(account, name);
        catalog.create_media_stream(device, stream, settings).await.expect("create_media_stream");
    }
    let page = async |prefix: &str, after: Option<String>, limit| {
        let query = MediaStreamQuery { name_prefix: Some(prefix.into()), after, limit };
        let found = catalog.media_streams(account, &query).await.expect("media_streams");
        found.into_iter().map(|stream| stream.media_stream_name).collect::<Vec<_>>()
    };
    let mut paged = Vec::new();
    loop {
        let found = page("", paged.last().cloned(), 2).await;
        if found.is_empty() {
            break;
        }
        paged.extend(found);
    }
    paged.sort();
    names.sort();
    assert_eq!(paged, names);
    assert_eq!(page("b-", None, 10).await, ["b-1", "b-2"]);
    assert_eq!(page("b-", Some("b-1".into()), 10).await, ["b-2"]);
    assert_eq!(page("b-", Some("a".into()), 1).await, ["b-1"]);
    assert_eq!(page(&long('z'), None, 10).await, [long('z')]);
    let elsewhere = new_account(catalog).await.id;
    let nothing = MediaStreamQuery { limit: 10, ..MediaStreamQuery::default() };
    assert_eq!(catalog.media_streams(elsewhere, &nothing).await.expect("media_streams"), []);
}

async fn unclaimed_media_streams_are_adopted(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let (stand_in, stream, settings) = unclaimed(account, "cam");
    let create = async |device: Device, stream: Stream| {
        catalog.create_media_stream(device, stream, settings.clone()).await
    };
    create(stand_in.clone(), stream.clone()).await.expect("create_media_stream");
    let taken = create(stand_in.clone(), stream.clone()).await;
    assert!(matches!(taken, Err(CreateError::Taken { field: "mediaStreamName" })), "{taken:?}");
    let devices = async |ids: &[DeviceId]| catalog.devices_by_id(ids).await.expect("devices_by_id");
    assert_eq!(devices(&[stand_in.id]).await, [Some(stand_in.clone())]);

    // The external identifier of the device that stands in is free for the one that comes.
    let mut registration = registration(account, "cam", "Door");
    registration.streams.truncate(1);
    registration.streams[0].media_stream_name = "cam".into();
    let made = register(catalog, registration).await;
    let adopted = Stream {
        device: made.device.id,
        name: made.streams[0].name.clone(),
        position: 0,
        ..stream.clone()
    };
    assert_eq!(made.streams, std::slice::from_ref(&adopted));
    assert_eq!(devices(&[stand_in.id]).await, [None]);
    let of_devices = catalog.streams_of(&[stand_in.id, made.device.id]).await.expect("streams_of");
    assert_eq!(of_devices, [vec![], vec![adopted.clone()]]);
    let by_name = catalog.stream_by_media_name(account, "cam").await;
    assert_eq!(by_name.expect("stream_by_media_name"), Some(adopted));
    let settings = catalog.media_settings(&[stream.id]).await.expect("media_settings").remove(0);
    assert_eq!((settings.unclaimed, settings.retention_hours, settings.changes), (false, None, 1));

    // What a device has is nobody else's to take, nor is what was given a key of its own.
    let (stand_in, stream, settings) = unclaimed(account, "other");
    let credential = DeviceCredential { device: stand_in.id, ..made.credential };
    catalog.create_media_stream(stand_in, stream, settings).await.expect("create_media_stream");
    catalog.put_credential(credential).await.expect("put_credential");
    for name in ["cam", "other"] {
        let mut registration = self::registration(account, "SN-2", "Gate");
        registration.streams[0].media_stream_name = name.into();
        let taken = catalog.register_device(registration, NOW).await;
        assert!(matches!(taken, Err(CreateError::Taken { .. })), "{name}: {taken:?}");
    }
}

/// Page by page, each stream once.
async fn all_streams(catalog: &dyn Catalog) -> Vec<StreamId> {
    let mut all: Vec<StreamId> = Vec::new();
    loop {
        let page = catalog.all_streams(all.last().copied(), 7).await.expect("all_streams");
        assert!(page.iter().all(|stream| !all.contains(stream)));
        all.extend(&page);
        if page.len() < 7 {
            return all;
        }
    }
}

async fn media_streams_are_deleted(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let (stand_in, stream, settings) = unclaimed(account, "cam");
    catalog
        .create_media_stream(stand_in.clone(), stream.clone(), settings)
        .await
        .expect("create_media_stream");
    let registered = register(catalog, registration(account, "SN-1", "Door")).await;
    let owned = &registered.streams[0];
    let all = all_streams(catalog).await;
    assert!(registered.streams.iter().chain([&stream]).all(|stream| all.contains(&stream.id)));
    for (stream, device_left) in [(&stream, false), (owned, true)] {
        for _ in ["once", "what is gone may be taken away again"] {
            catalog.delete_media_stream(stream.id).await.expect("delete_media_stream");
        }
        let name = &stream.media_stream_name;
        let by_name = catalog.stream_by_media_name(account, name).await;
        assert_eq!(by_name.expect("stream_by_media_name"), None);
        let by_id = catalog.streams_by_id(&[stream.id]).await;
        assert_eq!(by_id.expect("streams_by_id"), [None]);
        assert!(!all_streams(catalog).await.contains(&stream.id));
        let device = catalog.devices_by_id(&[stream.device]).await.expect("devices_by_id");
        assert_eq!(device[0].is_some(), device_left, "{name}");
    }
    let external_id = catalog.device_by_external_id(account, "cam").await;
    assert_eq!(external_id.expect("device_by_external_id"), None);
    let (again, stream, settings) = unclaimed(account, "cam");
    catalog.create_media_stream(again, stream, settings).await.expect("its name is free again");
}

fn new_segment(id: &str, from_ms: i64, to_ms: i64) -> NewSegment {
    NewSegment {
        client_segment_id: id.into(),
        range: range(from_ms, to_ms),
        trigger: RecordingTrigger::Event,
        codecs: Some("avc1.4d4032".into()),
        width: Some(1920),
        height: Some(1080),
        size_bytes: Some(12_345_678_901),
    }
}

async fn announce(
    catalog: &dyn Catalog,
    stream: StreamId,
    segments: &[NewSegment],
) -> Vec<Announced> {
    catalog.announce(stream, segments, NOW).await.expect("announce")
}

async fn segments_are_stored_once(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let copies = (0..20).map(|_| async {
        announce(catalog, stream, &[new_segment("a", 0, 20_000)]).await.remove(0)
    });
    let answers = futures_util::future::join_all(copies).await;
    let stored: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Announced::Stored { segment, .. } => Some(segment.clone()),
            _ => None,
        })
        .collect();
    let [segment] = &stored[..] else { panic!("{} were stored", stored.len()) };
    for answer in &answers {
        let same = matches!(answer, Announced::Duplicate(known) if known == segment);
        assert!(same || matches!(answer, Announced::Stored { .. }), "{answer:?}");
    }
    let asked = new_segment("a", 0, 20_000);
    assert_eq!(segment.client_segment_id, asked.client_segment_id);
    assert_eq!((segment.range, segment.ingested_at), (asked.range, NOW));
    assert_eq!((segment.trigger, segment.size_bytes), (asked.trigger, asked.size_bytes));
    assert_eq!(catalog.segment(segment.id).await.expect("segment").as_ref(), Some(segment));

    // Another span under the same identifier; one answer each, in order.
    let answers = announce(
        catalog,
        stream,
        &[new_segment("a", 0, 21_000), new_segment("b", 20_000, 40_000), asked.clone()],
    )
    .await;
    assert_eq!(answers[0], Announced::Conflict(segment.clone()));
    assert!(matches!(answers[1], Announced::Stored { .. }), "{:?}", answers[1]);
    assert_eq!(answers[2], Announced::Duplicate(segment.clone()));
    // Other streams, and other five minutes, have identifiers of their own.
    let window = crate::segment::WINDOW_MS;
    let later = new_segment("a", window * 2, window * 2 + 20_000);
    assert!(matches!(announce(catalog, stream, &[later]).await[0], Announced::Stored { .. }));
    let other = StreamId::new(NOW);
    assert!(matches!(announce(catalog, other, &[asked]).await[0], Announced::Stored { .. }));
}

async fn segments_are_judged(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let other = StreamId::new(NOW);
    announce(catalog, other, &[new_segment("x", 0, 900_000)]).await;
    for (id, from, to, overlaps, out_of_order) in [
        ("a", 20_000, 40_000, false, false),
        ("b", 39_500, 60_000, false, false),
        ("c", 59_499, 80_000, true, false),
        ("d", 0, 20_000, false, true),
        ("e", 79_000, 79_400, false, false),
        ("f", 0, 100_000, true, true),
        ("g", 100_000, 120_000, false, false),
    ] {
        match announce(catalog, stream, &[new_segment(id, from, to)]).await.remove(0) {
            Announced::Stored { overlaps: o, out_of_order: u, .. } => {
                assert_eq!((o, u), (overlaps, out_of_order), "{id}");
            }
            other => panic!("{id}: {other:?}"),
        }
    }
    let newest = catalog.newest_announced(&[stream, StreamId::new(NOW), other]).await;
    assert_eq!(newest.expect("newest_announced"), [Some(at(120_000)), None, Some(at(900_000))]);
}

async fn segments_are_paged(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let spans = [(0, 20_000), (20_000, 40_000), (20_000, 41_000), (60_000, 80_000)];
    for (number, (from, to)) in spans.into_iter().enumerate() {
        announce(catalog, stream, &[new_segment(&format!("s{number}"), from, to)]).await;
    }
    let all = |range: TimeRange, order, limit| async move {
        let mut query = SegmentQuery { range, order, after: None, limit };
        let mut found: Vec<(i64, i64)> = Vec::new();
        loop {
            let page = catalog.segments(stream, &query).await.expect("segments");
            assert!(page.len() <= limit);
            let spans = catalog.segment_spans(stream, &query).await.expect("segment_spans");
            assert_eq!(spans, page.iter().map(SegmentSpan::from).collect::<Vec<_>>());
            let Some(last) = page.last() else { return found };
            query.after = Some((last.range.start, last.id));
            found.extend(page.iter().map(|segment| {
                (segment.range.start.millis_since(NOW), segment.range.end.millis_since(NOW))
            }));
        }
    };
    for limit in [1, 2, 10] {
        let mut oldest = all(range(0, 90_000), TimeOrder::OldestFirst, limit).await;
        let mut newest = all(range(0, 90_000), TimeOrder::NewestFirst, limit).await;
        newest.reverse();
        assert_eq!(oldest, newest, "limit {limit}");
        oldest.sort_unstable();
        assert_eq!(oldest, spans, "limit {limit}");
    }
    for (from, to, count) in [(19_999, 20_000, 1), (40_000, 60_000, 1), (41_000, 60_000, 0)] {
        let found = all(range(from, to), TimeOrder::OldestFirst, 10).await;
        assert_eq!(found.len(), count, "{from}..{to}: {found:?}");
    }
}

async fn segments_expire(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let announce_at = async |id: &str, from: i64, now: i64| {
        let segment = new_segment(id, from, from + 20_000);
        catalog.announce(stream, &[segment], at(now)).await.expect("announce");
    };
    announce_at("a", 0, 1_000).await;
    announce_at("b", 100_000, 2_000).await;
    announce_at("late", 50_000, 3_000).await;
    let newest = async || catalog.newest_announced(&[stream]).await.expect("newest_announced");
    let expire = async |before: i64, limit: usize| {
        catalog.expire_segments(stream, at(before), &[], limit).await.expect("expire_segments")
    };
    assert_eq!(expire(1_000, 10).await, 0, "ingested at it is not before it");
    assert_eq!(expire(3_000, 1).await, 1);
    assert_eq!(newest().await, [Some(at(120_000))]);
    assert_eq!(expire(3_000, 10).await, 1);
    assert_eq!(newest().await, [Some(at(70_000))]);
    let query = SegmentQuery {
        range: range(-1_000_000, 1_000_000),
        order: TimeOrder::OldestFirst,
        after: None,
        limit: 10,
    };
    let left = catalog.segments(stream, &query).await.expect("segments");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].client_segment_id, "late");
    assert_eq!(expire(10_000, 10).await, 1);
    assert_eq!(newest().await, [None]);
    let listed = async || catalog.announced_streams().await.expect("announced_streams");
    assert!(!listed().await.contains(&stream));
    // Its identifier may be used again.
    announce_at("a", 0, 11_000).await;
    assert_eq!(newest().await, [Some(at(20_000))]);
    assert!(listed().await.contains(&stream));
}

async fn segments_are_spared_and_deleted(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let segments: Vec<_> = (0..10)
        .map(|place| new_segment(&format!("{place}"), place * 20_000, (place + 1) * 20_000))
        .collect();
    catalog.announce(stream, &segments, at(5_000)).await.expect("announce");
    let spare = [range(40_000, 60_001)];
    let delete = async |from, to, before: i64, limit| {
        let range = range(from, to);
        catalog.delete_segments(stream, range, at(before), &spare, limit).await.expect("deleted")
    };
    assert_eq!(delete(0, 200_000, 5_000, 10).await, 0, "ingested at it is not before it");
    assert_eq!(delete(1, 19_999, 9_000, 10).await, 0, "only what lies in it whole");
    assert_eq!(delete(0, 100_000, 9_000, 2).await, 2);
    assert_eq!(delete(0, 100_000, 9_000, 10).await, 1);
    let expire = async |spare: &[TimeRange], limit| {
        catalog.expire_segments(stream, at(6_000), spare, limit).await.expect("expired")
    };
    assert_eq!(expire(&spare, 2).await, 2);
    assert_eq!(expire(&spare, 10).await, 3);
    assert_eq!(expire(&spare, 10).await, 0);
    assert_eq!(catalog.newest_announced(&[stream]).await.expect("newest"), [Some(at(80_000))]);
    assert_eq!(expire(&[], 10).await, 2);
    assert_eq!(catalog.newest_announced(&[stream]).await.expect("newest"), [None]);
}

async fn shorter_plans_wait(catalog: &dyn Catalog) {
    use RetentionMode::{Continuous, EventOnly};
    let stream = StreamId::new(NOW);
    for (wanted, at_hours, in_force) in [
        ((168, Continuous), 0, (168, Continuous)),
        ((168, Continuous), 1, (168, Continuous)),
        ((72, Continuous), 2, (168, Continuous)),
        ((72, Continuous), 25, (168, Continuous)),
        ((72, Continuous), 26, (72, Continuous)),
        ((216, Continuous), 27, (216, Continuous)),
        ((72, Continuous), 28, (216, Continuous)),
        // Another shorter time waits anew, and a longer one makes all that wait void.
        ((48, Continuous), 40, (216, Continuous)),
        ((48, Continuous), 63, (216, Continuous)),
        ((216, Continuous), 64, (216, Continuous)),
        ((48, Continuous), 65, (216, Continuous)),
        ((48, Continuous), 89, (48, Continuous)),
        // What keeps longer in one way and less in the other.
        ((240, EventOnly), 90, (240, Continuous)),
        ((240, EventOnly), 113, (240, Continuous)),
        ((240, EventOnly), 114, (240, EventOnly)),
        ((24, Continuous), 115, (240, Continuous)),
        // The clock is set back: it counts from there.
        ((24, Continuous), 15, (240, Continuous)),
        ((24, Continuous), 39, (24, Continuous)),
    ] {
        let keeping = |(hours, mode)| Keeping { hours, mode };
        let now = at(at_hours * 3600 * 1000);
        let answer = catalog.keeping_in_force(stream, keeping(wanted), now).await;
        let answer = answer.expect("keeping_in_force");
        assert_eq!(answer, keeping(in_force), "{wanted:?} at {at_hours} h");
    }
}

fn new_hold(stream: StreamId, from_ms: i64, to_ms: i64) -> Hold {
    Hold {
        id: HoldId::new(NOW),
        stream,
        range: range(from_ms, to_ms),
        reason: Some("police report 7".into()),
        until: None,
        created_at: NOW,
    }
}

async fn holds_are_kept(catalog: &dyn Catalog) {
    let (stream, other) = (StreamId::new(NOW), StreamId::new(NOW));
    let late = new_hold(stream, 5_000, 6_000);
    let early = Hold { until: Some(at(7)), ..new_hold(stream, -1_000, 5_000) };
    for hold in [&late, &early, &new_hold(other, 0, 9_000)] {
        assert!(catalog.put_hold(hold.clone()).await.expect("put_hold"));
    }
    let found = async |from, to| catalog.holds(stream, range(from, to)).await.expect("holds");
    assert_eq!(found(-9_000, 9_000).await, [early.clone(), late.clone()]);
    assert_eq!(found(4_999, 5_000).await, std::slice::from_ref(&early));
    assert_eq!(found(5_000, 5_001).await, std::slice::from_ref(&late));
    assert_eq!(found(6_000, 9_000).await, []);
    assert_eq!(catalog.hold(late.id).await.expect("hold"), Some(late.clone()));
    catalog.delete_hold(late.id).await.expect("delete_hold");
    catalog.delete_hold(late.id).await.expect("there is none");
    assert_eq!(catalog.hold(late.id).await.expect("hold"), None);
    assert_eq!(found(-9_000, 9_000).await, std::slice::from_ref(&early));

    // One is ended already when the last one finds no room: then there is.
    let placing = (1..MAX_HOLDS as i64).map(|at| catalog.put_hold(new_hold(stream, at, at + 1)));
    for placed in futures_util::future::join_all(placing).await {
        assert!(placed.expect("put_hold"));
    }
    let one_more = Hold { created_at: at(6), ..new_hold(stream, 0, 1) };
    assert!(!catalog.put_hold(one_more.clone()).await.expect("put_hold"));
    let one_more = Hold { created_at: at(7), ..one_more };
    assert!(catalog.put_hold(one_more).await.expect("put_hold"));
    assert_eq!(catalog.hold(early.id).await.expect("hold"), None);
}

async fn deletions_are_remembered(catalog: &dyn Catalog) {
    let stream = StreamId::new(NOW);
    let deletion = |last, from, to, is_done| Deletion {
        stream,
        range: range(from, to),
        last: FragmentNumber(last),
        is_done,
    };
    let put = async |deletion: Deletion| catalog.put_deletion(deletion).await.expect("put");
    let spans = async || -> Vec<(i64, i64, bool)> {
        let found = catalog.deletions(stream, range(-100, 10_000)).await.expect("deletions");
        let ms = |at: Timestamp| at.millis_since(NOW);
        found.iter().map(|one| (ms(one.range.start), ms(one.range.end), one.is_done)).collect()
    };
    let is_open = async || {
        let open = catalog.open_deletions(usize::MAX).await.expect("open_deletions");
        open.iter().any(|open| open.stream == stream)
    };
    put(deletion(1, 0, 10, false)).await;
    put(deletion(2, 0, 10, false)).await;
    assert!(is_open().await);
    put(deletion(1, 0, 10, true)).await;
    put(deletion(3, 20, 30, true)).await;
    assert_eq!(spans().await, [(0, 10, true), (0, 10, false), (20, 30, true)]);
    put(deletion(2, 5, 20, true)).await;
    assert_eq!(spans().await, [(0, 30, true)]);
    assert!(!is_open().await);
    put(deletion(4, 40, 50, true)).await;
    catalog.forget_deletions(stream, at(30)).await.expect("forget_deletions");
    assert_eq!(spans().await.len(), 2);
    catalog.forget_deletions(stream, at(31)).await.expect("forget_deletions");
    assert_eq!(spans().await, [(40, 50, true)]);
}
