//! The index beside a model that looks at everything: random appends and expiries, then every
//! question is asked of both.

use super::disk::Disk;
use super::index::Index;
use super::removal::{Removal, files_before};
use super::simulated_disk::SimulatedDisk;
use super::writer::{Rotation, Writer};
use crate::id::{StreamId, Ulid};
use crate::segment::TimeRange;
use crate::storage::embedded::lmdb::Durability;
use crate::storage::{
    Appended, FragmentQuery, NewFragment, RUN_TOLERANCE_MS, RangeBy, Run, TimeOrder,
    first_number_at,
};
use bytes::Bytes;
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    /// Of one of two streams, in units of 50 ms, which makes holes on both sides of the tolerance.
    Append {
        stream: u8,
        start: i16,
        duration: u8,
        payload: u8,
    },
    /// But for what is held.
    Expire {
        stream: u8,
        age: u8,
        held: (i16, i16),
    },
    Delete {
        stream: u8,
        start: i16,
        length: u8,
        held: (i16, i16),
    },
}

/// What the model keeps: all of it, in no order.
#[derive(Clone, Debug)]
struct Kept {
    stream: StreamId,
    start: i64,
    end: i64,
    number: u64,
    payload: u8,
    arrived: i64,
    file: u64,
}

const UNIT_MS: i64 = 50;
const FRAGMENTS_PER_FILE: u64 = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append =
        (0..2u8, 0..60i16, 0..12u8, 0..3u8).prop_map(|(stream, start, duration, payload)| {
            Step::Append { stream, start, duration, payload }
        });
    let held = || prop_oneof![1 => Just((0, 0)), 1 => (0..60i16, 0..60i16)];
    let expire = (0..2u8, 0..30u8, held()).prop_map(|(stream, age, held)| Step::Expire {
        stream,
        age,
        held,
    });
    let delete = (0..2u8, 0..60i16, 1..30u8, held())
        .prop_map(|(stream, start, length, held)| Step::Delete { stream, start, length, held });
    proptest::collection::vec(prop_oneof![12 => append, 2 => expire, 1 => delete], 1..60)
}

fn stream(number: u8) -> StreamId {
    StreamId(Ulid(u128::from(number) << 64 | 7))
}

fn millis(value: i64) -> Timestamp {
    Timestamp::from_millis(value)
}

impl Kept {
    fn touches(&self, span: &TimeRange) -> bool {
        self.start < span.end.as_millis() && span.start.as_millis() < self.end.max(self.start + 1)
    }
}

fn units(from: i16, to: i16) -> TimeRange {
    TimeRange { start: millis(i64::from(from) * UNIT_MS), end: millis(i64::from(to) * UNIT_MS) }
}

struct Model {
    kept: Vec<Kept>,
    /// When the last one came to each file, gone or not.
    newest_arrival: BTreeMap<(StreamId, u64), i64>,
}

impl Model {
    fn of(&self, stream: StreamId) -> Vec<&Kept> {
        let mut of_stream: Vec<_> = self.kept.iter().filter(|f| f.stream == stream).collect();
        of_stream.sort_by_key(|f| (f.start, f.number));
        of_stream
    }

    fn read(&self, stream: StreamId, range: TimeRange) -> Vec<u64> {
        let of_stream = self.of(stream);
        let is_newest =
            |f: &Kept| of_stream.iter().all(|o| o.start != f.start || o.number <= f.number);
        let overlaps =
            |f: &Kept| TimeRange { start: millis(f.start), end: millis(f.end) }.overlaps(&range);
        of_stream.iter().filter(|f| is_newest(f) && overlaps(f)).map(|f| f.number).collect()
    }

    fn arrived(&self, stream: StreamId, range: TimeRange) -> Vec<u64> {
        let arrived = |f: &&Kept| range.start <= millis(f.arrived) && millis(f.arrived) < range.end;
        let of_stream = self.kept.iter().filter(|f| f.stream == stream);
        let mut numbers: Vec<_> = of_stream.filter(arrived).map(|f| f.number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn runs(&self, stream: StreamId) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for f in self.of(stream) {
            match runs.last_mut() {
                Some(run) if f.start <= run.range.end.as_millis() + RUN_TOLERANCE_MS => {
                    run.range.end = run.range.end.max(millis(f.end));
                    run.bytes += u64::from(f.payload);
                    run.fragments += 1;
                    run.arrived_at = run.arrived_at.max(millis(f.arrived));
                }
                _ => runs.push(Run {
                    range: TimeRange { start: millis(f.start), end: millis(f.end) },
                    bytes: u64::from(f.payload),
                    fragments: 1,
                    arrived_at: millis(f.arrived),
                }),
            }
        }
        runs
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_the_model_does(
        steps in steps(),
        from in 0..70i64,
        span in 1..40i64,
        limit in 0..6usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = Arc::new(Index::open(dir.path(), Durability::None).unwrap());
        let disk = Arc::new(SimulatedDisk::default());
        let root = Path::new("archive");
        disk.create_dir(root).unwrap();
        // Files end by their age: one fragment arrives each second.
        let rotation =
            Rotation { max_bytes: u64::MAX, max_age: Duration::from_secs(FRAGMENTS_PER_FILE) };
        let mut writer =
            Writer::new(disk.clone(), index.clone(), root.to_owned(), rotation, 0, 0);
        let mut model = Model { kept: Vec::new(), newest_arrival: BTreeMap::new() };
        let mut now_ms = 1_000_000;
        for step in &steps {
            now_ms += 1_000;
            match step {
                Step::Append { stream: of, start, duration, payload } => {
                    let start = i64::from(*start) * UNIT_MS;
                    let fragment = NewFragment {
                        stream: stream(*of),
                        number: first_number_at(millis(now_ms)),
                        start: millis(start),
                        duration_ms: u32::from(*duration) * UNIT_MS as u32,
                        capture_start: millis(start),
                        arrived_at: millis(now_ms),
                        payload_hash: [*payload; 16],
                        tracks: Default::default(),
                        inits: Vec::new(),
                        body: Payload::from(vec![*payload; usize::from(*payload)]),
                        chunk_lens: Vec::new(),
                        metadata: Bytes::new(),
                    };
                    let written = writer.write(vec![fragment.clone()]);
                    let answer = writer.publish(written).remove(0).unwrap();
                    let same = model.kept.iter().find(|f| {
                        f.stream == fragment.stream && f.start == start && f.payload == *payload
                    });
                    match same {
                        Some(same) => {
                            prop_assert_eq!(answer, Appended::Duplicate(FragmentNumber(same.number)));
                        }
                        None => {
                            prop_assert_eq!(answer, Appended::Stored(fragment.number));
                            let row = index.fragment(fragment.stream, fragment.start, fragment.number);
                            let file = row.unwrap().unwrap().record.location.file;
                            model.newest_arrival.insert((fragment.stream, file), now_ms);
                            model.kept.push(Kept {
                                stream: fragment.stream,
                                start,
                                end: start + i64::from(*duration) * UNIT_MS,
                                number: fragment.number.0,
                                payload: *payload,
                                arrived: now_ms,
                                file,
                            });
                        }
                    }
                }
                Step::Expire { stream: of, age, held } => {
                    let (stream, before) = (stream(*of), now_ms - i64::from(*age) * 1_000);
                    writer.seal_due(stream, millis(before)).unwrap();
                    let removal = Removal { disk: disk.as_ref(), root, index: &index, gone: &|_, _| {} };
                    let held = units(held.0, held.1);
                    let mut gone = 0;
                    for file in files_before(&index, stream, millis(before)).unwrap() {
                        gone += removal.expire(stream, file.number, &[held]).unwrap();
                    }
                    let count = model.kept.len();
                    let Model { kept, newest_arrival } = &mut model;
                    kept.retain(|f| {
                        f.stream != stream
                            || newest_arrival[&(stream, f.file)] >= before
                            || f.touches(&held)
                    });
                    prop_assert_eq!(gone as usize, count - model.kept.len());
                }
                Step::Delete { stream: of, start, length, held } => {
                    let removal = Removal { disk: disk.as_ref(), root, index: &index, gone: &|_, _| {} };
                    let stream = stream(*of);
                    let (span, held) =
                        (units(*start, *start + i16::from(*length)), units(held.0, held.1));
                    let last = FragmentNumber(u64::MAX);
                    let gone = removal.delete(stream, span, last, &[held]).unwrap();
                    let before = model.kept.len();
                    model.kept.retain(|f| {
                        f.stream != stream || !f.touches(&span) || f.touches(&held)
                    });
                    prop_assert_eq!(gone.fragments as usize, before - model.kept.len());
                }
            }
        }
        let range = TimeRange { start: millis(from * UNIT_MS), end: millis((from + span) * UNIT_MS) };
        let arrived = |steps: i64| millis(1_000_000 + steps * 1_000);
        let arrivals = TimeRange { start: arrived(from), end: arrived(from + span) };
        let mut with_media = Vec::new();
        for stream in [stream(0), stream(1)] {
            let runs = model.runs(stream);
            let (found, expected) = index.runs_with_expected(stream).unwrap();
            prop_assert_eq!(&found, &runs);
            prop_assert_eq!(&expected, &runs);
            let overlapping: Vec<_> =
                runs.iter().filter(|run| run.range.overlaps(&range)).take(limit).copied().collect();
            prop_assert_eq!(index.runs(stream, range, limit).unwrap(), overlapping);
            for order in [TimeOrder::OldestFirst, TimeOrder::NewestFirst] {
                let mut expected = model.read(stream, range);
                if order == TimeOrder::NewestFirst {
                    expected.reverse();
                }
                expected.truncate(limit);
                let query = FragmentQuery { by: RangeBy::Timeline, range, order, limit };
                let found = index.fragments(stream, &query).unwrap();
                let found: Vec<_> = found.iter().map(|record| record.number.0).collect();
                prop_assert_eq!(found, expected);

                let mut expected = model.arrived(stream, arrivals);
                if order == TimeOrder::NewestFirst {
                    expected.reverse();
                }
                expected.truncate(limit);
                let by = RangeBy::Arrival { after: None };
                let query = FragmentQuery { by, range: arrivals, order, limit };
                let found = index.fragments(stream, &query).unwrap();
                let found: Vec<_> = found.iter().map(|record| record.number.0).collect();
                prop_assert_eq!(found, expected);
            }
            let newest = index.newest(stream).unwrap().map(|record| record.number.0);
            prop_assert_eq!(newest, model.of(stream).last().map(|f| f.number));
            let extent = runs.first().zip(runs.last()).map(|(first, last)| TimeRange {
                start: first.range.start,
                end: last.range.end,
            });
            prop_assert_eq!(index.extent(stream).unwrap(), extent);
            with_media.extend((!runs.is_empty()).then_some(stream));
        }
        prop_assert_eq!(index.streams().unwrap(), with_media);
    }
}
