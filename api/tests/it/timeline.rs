//! Timelines of a store with more footage than one read of it brings.

use lookback_api::clock::Clock;
use lookback_api::id::StreamId;
use lookback_api::playback::timeline::{Clip, ClipQuery, Kept, clips, coverage, kept};
use lookback_api::segment::TimeRange;
use lookback_api::storage::{InitId, NewFragment, Storage, TimeOrder, TrackSpan, embedded};
use lookback_wire::{Payload, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

/// More runs than are read at a time.
const RUNS: i64 = 2_300;
/// Each begins this long after the one before it, and is 1 s long.
const APART_MS: i64 = 5_000;

async fn filled(storage: &Storage) -> (StreamId, TimeRange) {
    let stream = StreamId::new(Clock::System.now());
    let appends = (0..RUNS).map(|n| storage.local().unwrap().append(fragment(storage, stream, n)));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    (stream, TimeRange { start: NOW, end: NOW.plus_millis(RUNS * APART_MS) })
}

fn fragment(storage: &Storage, stream: StreamId, place: i64) -> NewFragment {
    let start = NOW.plus_millis(place * APART_MS);
    let mut body = Payload::new();
    body.push(bytes::Bytes::from_static(b"frame"));
    let track = TrackSpan {
        init: InitId(1),
        is_video: true,
        key: true,
        decode_time: start.as_millis() as u64,
        duration: 1_000,
        timescale: 1_000,
        offset: 0,
        len: 5,
    };
    NewFragment {
        stream,
        number: storage.local().unwrap().next_number(stream, NOW),
        start,
        duration_ms: 1_000,
        capture_start: start,
        arrived_at: start,
        payload_hash: [0; 16],
        tracks: vec![track].into(),
        inits: vec![(InitId(1), bytes::Bytes::from_static(b"init"))],
        body,
        chunk_lens: vec![5],
        metadata: bytes::Bytes::new(),
    }
}

/// All clips, page by page.
async fn walk(storage: &Storage, stream: StreamId, mut query: ClipQuery) -> Vec<Clip> {
    let mut all = Vec::new();
    loop {
        let page = clips(storage, stream, &query, NOW).await.unwrap();
        assert!(page.clips.len() <= query.limit);
        all.extend(page.clips);
        assert!(all.len() as i64 <= RUNS, "a clip was shown twice");
        query.after = page.next;
        if query.after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn pages_show_every_clip_once_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let storage = embedded::open(dir.path()).unwrap();
    let (stream, range) = filled(&storage).await;
    for (order, limit, max_gap_ms, expected) in [
        (TimeOrder::OldestFirst, 500, 2_000, RUNS),
        (TimeOrder::NewestFirst, 500, 2_000, RUNS),
        (TimeOrder::NewestFirst, 7, 2_000, RUNS),
        (TimeOrder::OldestFirst, 50, 4_000, 1),
        (TimeOrder::NewestFirst, 50, 4_000, 1),
    ] {
        let query = ClipQuery { range, max_gap_ms, triggers: None, order, after: None, limit };
        let mut found = walk(&storage, stream, query).await;
        if order == TimeOrder::NewestFirst {
            found.reverse();
        }
        assert_eq!(found.len() as i64, expected, "{order:?} {limit}");
        assert!(found.is_sorted_by_key(|clip| clip.range.start), "{order:?} {limit}");
        assert_eq!(found.iter().map(|clip| clip.media_ms).sum::<i64>(), RUNS * 1_000);
        assert_eq!(found[0].range.start, NOW);
    }
    let covered = coverage(&storage, stream, range, 10_000, 2_000).await.unwrap();
    assert!(covered.covered_ms.iter().all(|&ms| ms == 2_000));
    assert_eq!(covered.gaps, None, "more than are listed");
}

#[tokio::test]
async fn what_is_kept_is_told_by_when_it_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let storage = embedded::open(dir.path()).unwrap();
    let stream = StreamId::new(Clock::System.now());
    // Two runs: from 0 s to 5 s, of 5, 10, 15 ... bytes; from 9 s to 10 s, of 30 bytes.
    for (second, times) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (9, 6)] {
        let start = NOW.plus_millis(second * 1_000);
        let mut fragment = NewFragment { start, ..fragment(&storage, stream, 0) };
        fragment.body = Payload::new();
        (0..times).for_each(|_| fragment.body.push(bytes::Bytes::from_static(b"frame")));
        fragment.chunk_lens = vec![5 * times];
        fragment.tracks[0].len = 5 * times;
        storage.local().unwrap().append(fragment).await.unwrap();
    }
    for (from_ms, to_ms, bytes, media_ms) in [
        (0, 10_000, 105, 6_000),
        (-5_000, 1_000, 5, 1_000),
        (1_000, 3_000, 25, 2_000),
        (1_500, 3_500, 35, 2_000),
        (3_000, 60_000, 75, 3_000),
        (5_000, 9_000, 0, 0),
        (9_500, 60_000, 0, 500),
    ] {
        let range = TimeRange { start: NOW.plus_millis(from_ms), end: NOW.plus_millis(to_ms) };
        let found = kept(&storage, stream, range).await.unwrap();
        assert_eq!(found, Kept { bytes, media_ms }, "{from_ms} to {to_ms}");
    }
}
