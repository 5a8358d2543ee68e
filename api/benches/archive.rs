//! The embedded archive: how long its index takes to answer 300 fragments out of millions, how fast
//! it opens on them, and what it appends, alone and beside deletion.
//!
//! `LOOKBACK_BENCH_FRAGMENTS` sets how many millions (default 1), `LOOKBACK_BENCH_DIR` where.

// A bench that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use lookback_api::id::{StreamId, Ulid};
use lookback_api::segment::TimeRange;
use lookback_api::storage::embedded::archive::index::{FileState, FileUpdate, Index, Row};
use lookback_api::storage::embedded::archive::writer::{file_path, stream_dir};
use lookback_api::storage::embedded::archive::{ArchiveOptions, EmbeddedArchive};
use lookback_api::storage::embedded::lmdb::Durability;
use lookback_api::storage::{
    Archive, FragmentQuery, FragmentRecord, InitId, Location, NewFragment, RangeBy, TimeOrder,
    TrackSpan, TrackSpans,
};
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const STREAMS: u64 = 100;
const FRAGMENTS_PER_FILE: u64 = 1800;
const QUERIES: u64 = 20_000;
const SEGMENTS: usize = 300;
const START_MS: i64 = 1_700_000_000_000;

fn main() {
    let dir = match std::env::var_os("LOOKBACK_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    index(&dir.path().join("index"));
    for cameras in [1, 8, 200] {
        append(&dir.path().join(format!("append-{cameras}")), cameras);
    }
    append_beside_deletion(&dir.path().join("deletion"));
}

fn stream(number: u64) -> StreamId {
    StreamId(Ulid(u128::from(number) << 64 | 1))
}

fn tracks(start_ms: i64) -> TrackSpans {
    let track = |timescale: u32, is_video, offset, len| TrackSpan {
        init: InitId(u64::from(timescale)),
        is_video,
        key: is_video,
        decode_time: start_ms as u64 * u64::from(timescale) / 1000,
        duration: u64::from(timescale),
        timescale,
        offset,
        len,
    };
    [track(90_000, true, 0, 240_000), track(48_000, false, 240_000, 16_000)].into()
}

/// Rows as two years of ingestion would have left them, and queries for 300 in a row anywhere.
fn index(root: &Path) {
    let millions: u64 =
        std::env::var("LOOKBACK_BENCH_FRAGMENTS").map_or(1, |text| text.parse().unwrap());
    let per_stream = millions * 1_000_000 / STREAMS;
    let began = Instant::now();
    {
        let index = Index::open(&root.join("index"), Durability::None).unwrap();
        let mut numbers = 0;
        for first in (0..per_stream).step_by(FRAGMENTS_PER_FILE as usize) {
            let updates: Vec<_> = (0..STREAMS)
                .map(|of| {
                    let (stream, file) = (stream(of), first + 1);
                    std::fs::create_dir_all(stream_dir(root, stream)).unwrap();
                    std::fs::write(file_path(root, stream, file), b"").unwrap();
                    let mut update = FileUpdate::of(stream, file, FRAGMENTS_PER_FILE * 256_500);
                    update.state = FileState::Sealed;
                    let last = per_stream.min(first + FRAGMENTS_PER_FILE);
                    update.rows = (first..last)
                        .map(|at| {
                            numbers += 1;
                            row(file, at - first, START_MS + at as i64 * 1000, numbers)
                        })
                        .collect();
                    update
                })
                .collect();
            index.commit(&updates).unwrap();
        }
        index.mark_complete().unwrap();
    }
    let size = std::fs::metadata(root.join("index").join("data.mdb")).unwrap().len();
    println!(
        "index of {millions} M fragments: built in {:.1?}, {} bytes a fragment",
        began.elapsed(),
        size / (millions * 1_000_000)
    );
    let began = Instant::now();
    let archive = EmbeddedArchive::open(root, ArchiveOptions::default(), None).unwrap();
    println!("opened in {:.1?}", began.elapsed());
    drop(archive);

    let index = Index::open(&root.join("index"), Durability::None).unwrap();
    let mut took: Vec<Duration> = (0..QUERIES)
        .map(|query| {
            // Spread by a number that shares no factor with what it is spread over.
            let spread = query * 7_919;
            let at = spread % (per_stream - SEGMENTS as u64 - 1);
            let start = Timestamp::from_millis(START_MS + at as i64 * 1000);
            let query = FragmentQuery {
                by: RangeBy::Timeline,
                range: TimeRange { start, end: start.plus_millis(SEGMENTS as i64 * 1000) },
                order: TimeOrder::OldestFirst,
                limit: SEGMENTS,
            };
            let began = Instant::now();
            let found = index.fragments(stream(spread % STREAMS), &query).unwrap();
            let took = began.elapsed();
            assert_eq!(found.len(), SEGMENTS);
            took
        })
        .collect();
    print_quantiles(&format!("{SEGMENTS} fragments of {millions} M"), &mut took);
}

fn row(file: u64, place: u64, start_ms: i64, number: u64) -> Row {
    let start = Timestamp::from_millis(start_ms);
    let record = FragmentRecord {
        number: FragmentNumber((start_ms as u64) << 12),
        start,
        duration_ms: 1000,
        capture_start: start,
        arrived_at: start.plus_millis(1_234),
        tracks: tracks(start_ms),
        location: Location { file, offset: place * 256_500 + 400, len: 256_000 },
    };
    Row { record, payload_hash: u128::from(number).wrapping_mul(0x9e37_79b9).to_le_bytes() }
}

const BODY: usize = 256_000;

/// What cameras append that each send the next fragment as soon as the last one is durable.
fn append(root: &Path, cameras: u64) {
    let archive = Arc::new(EmbeddedArchive::open(root, ArchiveOptions::default(), None).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut took, rate) = runtime.block_on(send(&archive, cameras, 0..(2_000 / cameras).max(10)));
    print_quantiles(&format!("append, {cameras} cameras: {rate:.0} MB/s;"), &mut took);
    runtime.block_on(archive.close()).unwrap();
}

/// Sends each camera's fragments of these places; answers how long each took, and the megabytes a
/// second of all.
async fn send(
    archive: &Arc<EmbeddedArchive>,
    cameras: u64,
    places: std::ops::Range<u64>,
) -> (Vec<Duration>, f64) {
    let part = Bytes::from(vec![7; BODY / 16]);
    let began = Instant::now();
    let sending = (0..cameras).map(|camera| {
        let (archive, part, places) = (archive.clone(), part.clone(), places.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            for at in places {
                let start = Timestamp::from_millis(START_MS + at as i64 * 1000);
                let mut body = Payload::new();
                (0..16).for_each(|_| body.push(part.clone()));
                let fragment = NewFragment {
                    stream: stream(camera),
                    number: archive.next_number(stream(camera), start),
                    start,
                    duration_ms: 1000,
                    capture_start: start,
                    arrived_at: start.plus_millis(1000),
                    payload_hash: [at as u8; 16],
                    tracks: tracks(START_MS),
                    inits: vec![(InitId(90_000), Bytes::from_static(&[1; 900]))],
                    body,
                    chunk_lens: vec![240_000, 16_000],
                    metadata: Bytes::new(),
                };
                let began = Instant::now();
                archive.append(fragment).await.unwrap();
                took.push(began.elapsed());
            }
            took
        })
    });
    let mut took = Vec::new();
    for sent in futures_util::future::join_all(sending).await {
        took.extend(sent.unwrap());
    }
    let bytes = (took.len() * BODY) as f64;
    let rate = bytes / 1e6 / began.elapsed().as_secs_f64();
    (took, rate)
}

/// What cameras append alone, and beside retention that lets eight chunk files of half an hour go
/// each second.
fn append_beside_deletion(root: &Path) {
    const CAMERAS: u64 = 8;
    const EACH: u64 = 250;
    const ROUNDS: u64 = 3;
    const PAUSE: Duration = Duration::from_millis(125);
    /// Enough for half a minute.
    const FILES: u64 = 240;
    let old = stream(STREAMS);
    {
        let index = Index::open(&root.join("index"), Durability::None).unwrap();
        std::fs::create_dir_all(stream_dir(root, old)).unwrap();
        for file in 1..=FILES {
            std::fs::write(file_path(root, old, file), vec![7; 4 << 20]).unwrap();
            let mut update = FileUpdate::of(old, file, FRAGMENTS_PER_FILE * 256_500);
            update.state = FileState::Sealed;
            let first_ms = START_MS - (FILES - file + 1) as i64 * FRAGMENTS_PER_FILE as i64 * 1000;
            update.rows = (0..FRAGMENTS_PER_FILE)
                .map(|at| row(file, at, first_ms + at as i64 * 1000, file * 10_000 + at))
                .collect();
            index.commit([&update]).unwrap();
        }
        index.mark_complete().unwrap();
    }
    let archive = Arc::new(EmbeddedArchive::open(root, ArchiveOptions::default(), None).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    // In turns, so that a disk that gets slower does so for both.
    for round in 0..ROUNDS {
        let places = |half: u64| (2 * round + half) * EACH..(2 * round + half + 1) * EACH;
        alone.push(runtime.block_on(send(&archive, CAMERAS, places(0))).1);
        let deleting = archive.clone();
        let deletion = runtime.spawn(async move {
            let all = Timestamp::from_millis(START_MS);
            for file in deleting.chunk_files(old, all).await.unwrap() {
                deleting.expire(old, file.number, &[]).await.unwrap();
                tokio::time::sleep(PAUSE).await;
            }
        });
        beside.push(runtime.block_on(send(&archive, CAMERAS, places(1))).1);
        assert!(!deletion.is_finished(), "there were too few files to delete");
        deletion.abort();
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    println!(
        "append, {CAMERAS} cameras: alone {:.0} MB/s, beside deletion {:.0} MB/s, {:.0} %",
        mean(&alone),
        mean(&beside),
        mean(&beside) / mean(&alone) * 100.0
    );
    runtime.block_on(archive.close()).unwrap();
}

fn print_quantiles(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |of_hundred: usize| took[(took.len() - 1) * of_hundred / 100];
    println!("{what}: p50 {:.1?}, p99 {:.1?}, max {:.1?}", at(50), at(99), at(100));
}
