//! Cuts the power at any moment, again and again: nothing acknowledged may be lost, and nothing
//! torn may be served.

use super::disk::{Disk, read_exact_at};
use super::index::{FileState, Index};
use super::recovery::{body_is_whole, head_before, recover};
use super::removal::{Removal, files_before};
use super::simulated_disk::{Chance, SimulatedDisk};
use super::writer::{Rotation, Writer, file_path};
use crate::id::{StreamId, Ulid};
use crate::segment::TimeRange;
use crate::storage::embedded::lmdb::Durability;
use crate::storage::{
    Appended, FragmentQuery, InitId, Location, NewFragment, RangeBy, StorageError, TimeOrder,
    TrackSpan,
};
use bytes::Bytes;
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const STREAMS: u64 = 3;
/// The simulated disk's root has nothing above it that could be lost.
const ROOT: &str = "archive";
const SMALL: Rotation = Rotation { max_bytes: 6_000, max_age: Duration::from_secs(20) };

/// One machine with its disk, its index and what its cameras know.
struct Machine {
    disk: Arc<SimulatedDisk>,
    index_dir: PathBuf,
    chance: Chance,
    now_ms: i64,
    last_number: u64,
    last_file: u64,
    bodies: BTreeMap<FragmentNumber, (NewFragment, Vec<u8>)>,
    acknowledged: BTreeSet<FragmentNumber>,
    /// Everything of the stream that arrived before may be gone.
    expired: BTreeMap<StreamId, Timestamp>,
    /// Deleted for good.
    deleted: BTreeSet<FragmentNumber>,
    /// Of deletions that were begun: may be gone.
    begun: BTreeSet<FragmentNumber>,
    index_was_lost: bool,
}

fn stream(number: u64) -> StreamId {
    StreamId(Ulid(u128::from(number) + 1))
}

impl Machine {
    fn new(seed: u64, index_dir: &Path) -> Self {
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new(ROOT)).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        Self {
            disk: Arc::new(disk),
            index_dir: index_dir.to_owned(),
            chance: Chance(seed),
            now_ms: 1_700_000_000_000,
            last_number: 0,
            last_file: 0,
            bodies: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            expired: BTreeMap::new(),
            deleted: BTreeSet::new(),
            begun: BTreeSet::new(),
            index_was_lost: false,
        }
    }

    fn index(&self) -> Arc<Index> {
        Arc::new(Index::open(&self.index_dir, Durability::None).unwrap())
    }

    /// Runs until the power goes; it may go before the start is done.
    fn run_until_cut(&mut self) {
        if self.chance.percent(15) {
            let _ = std::fs::remove_dir_all(&self.index_dir);
            self.index_was_lost = true;
        }
        self.disk.cut_after(self.chance.below(60));
        let index = self.index();
        let disk: Arc<dyn Disk> = self.disk.clone();
        let Ok(recovered) = recover(disk.as_ref(), Path::new(ROOT), &index) else {
            assert!(self.disk.is_off(), "a start fails only without power");
            return;
        };
        self.last_number = self.last_number.max(recovered.last_number);
        self.last_file = self.last_file.max(recovered.last_file);
        let last_file = recovered.last_file;
        let mut writer = Writer::new(disk.clone(), index.clone(), ROOT.into(), SMALL, 0, last_file);
        while !self.disk.is_off() {
            self.now_ms += self.chance.below(4_000) as i64;
            if self.chance.percent(10) {
                self.expire_some(&mut writer, &index);
                continue;
            }
            if self.chance.percent(10) {
                self.delete_some(&index);
                continue;
            }
            let group: Vec<_> = (0..1 + self.chance.below(5)).map(|_| self.fragment()).collect();
            let written = writer.write(group.clone());
            // The power may also go after the files are durable, before the index is.
            if self.disk.is_off() || self.chance.percent(2) {
                return;
            }
            for (fragment, answer) in group.iter().zip(writer.publish(written)) {
                match answer {
                    Ok(Appended::Stored(number)) => {
                        assert_eq!(number, fragment.number);
                        self.acknowledged.insert(number);
                    }
                    Ok(Appended::Duplicate(number)) => {
                        let (known, _) = &self.bodies[&number];
                        assert_eq!(known.payload_hash, fragment.payload_hash);
                        self.acknowledged.insert(number);
                    }
                    Err(error) => panic!("with power, an append does not fail: {error}"),
                }
            }
        }
    }

    fn fragment(&mut self) -> NewFragment {
        // Now and then one is sent again.
        if self.chance.percent(15)
            && let Some((_, (known, _))) =
                self.bodies.iter().nth(self.chance.below(self.bodies.len() as u64) as usize)
        {
            self.last_number += 1;
            let number = FragmentNumber(self.last_number);
            let body = self.bodies[&known.number].1.clone();
            let again = NewFragment {
                number,
                arrived_at: Timestamp::from_millis(self.now_ms),
                ..known.clone()
            };
            self.bodies.insert(number, (again.clone(), body));
            return again;
        }
        self.last_number += 1;
        let number = FragmentNumber(self.last_number);
        let len = self.chance.below(3_000) as usize;
        let body: Vec<u8> = (0..len).map(|_| self.chance.next() as u8).collect();
        let start = Timestamp::from_millis(self.now_ms - self.chance.below(5_000) as i64);
        let (first, second) = body.split_at(len / 2);
        let mut payload = Payload::new();
        payload.push(Bytes::copy_from_slice(first));
        payload.push(Bytes::copy_from_slice(second));
        let init = InitId(self.chance.below(2));
        let fragment = NewFragment {
            stream: stream(self.chance.below(STREAMS)),
            number,
            start,
            duration_ms: 1_000,
            capture_start: start,
            arrived_at: Timestamp::from_millis(self.now_ms),
            payload_hash: u128::from(number.0).to_be_bytes(),
            tracks: vec![TrackSpan {
                init,
                is_video: true,
                key: true,
                decode_time: 1,
                duration: 2,
                timescale: 3,
                offset: 0,
                len: len as u32,
            }]
            .into(),
            inits: vec![(init, Bytes::from(vec![init.0 as u8; 700]))],
            body: payload,
            chunk_lens: vec![len as u32],
            metadata: Bytes::new(),
        };
        self.bodies.insert(number, (fragment.clone(), body));
        fragment
    }

    fn expire_some(&mut self, writer: &mut Writer, index: &Index) {
        let stream = stream(self.chance.below(STREAMS));
        let before = Timestamp::from_millis(self.now_ms - self.chance.below(30_000) as i64);
        let known = self.expired.entry(stream).or_insert(before);
        *known = before.max(*known);
        writer.seal_due(stream, before).unwrap();
        let removal = self.removal(index);
        for file in files_before(index, stream, before).unwrap() {
            let done = removal.expire(stream, file.number, &[]);
            assert!(done.is_ok() || self.disk.is_off(), "{done:?}");
        }
    }

    fn removal<'a>(&'a self, index: &'a Index) -> Removal<'a> {
        Removal { disk: self.disk.as_ref(), root: Path::new(ROOT), index, gone: &|_, _| {} }
    }

    /// Deletes a few seconds somewhere; where that is answered, they must never be seen again.
    fn delete_some(&mut self, index: &Index) {
        let stream = stream(self.chance.below(STREAMS));
        let start = Timestamp::from_millis(self.now_ms - self.chance.below(30_000) as i64);
        let range = TimeRange { start, end: start.plus_millis(self.chance.below(8_000) as i64) };
        let last = FragmentNumber(self.last_number);
        let going = |known: &NewFragment| {
            let start = known.start;
            let footage = TimeRange { start, end: start.plus_millis(i64::from(known.duration_ms)) };
            known.stream == stream && footage.overlaps(&range)
        };
        let numbers: Vec<FragmentNumber> = self
            .bodies
            .iter()
            .filter(|(_, (known, _))| going(known))
            .map(|(number, _)| *number)
            .collect();
        self.begun.extend(&numbers);
        match self.removal(index).delete(stream, range, last, &[]) {
            Ok(_) => self.deleted.extend(numbers),
            Err(error) => assert!(self.disk.is_off(), "{error}"),
        }
    }

    /// What stopped it was a kill, or the power.
    fn stop(&mut self) {
        if self.chance.percent(30) {
            return self.disk.after_kill();
        }
        self.disk = Arc::new(self.disk.after_power_cut(&mut self.chance));
    }

    /// Starts once more, with power, and compares what is there with what must be.
    fn check(&mut self) {
        self.disk.never_cut();
        let index = self.index();
        recover(self.disk.as_ref(), Path::new(ROOT), &index).unwrap();
        let is_due = |number: &FragmentNumber| {
            let (fragment, _) = &self.bodies[number];
            let expired = self.expired.get(&fragment.stream);
            expired.is_some_and(|before| fragment.arrived_at < *before)
                || self.begun.contains(number)
        };
        for number in self.acknowledged.iter().filter(|number| !is_due(number)) {
            let (fragment, _) = &self.bodies[number];
            let row = index.fragment(fragment.stream, fragment.start, *number).unwrap();
            let row = row.unwrap_or_else(|| panic!("fragment {number} was acknowledged, and lost"));
            let body = self.read(fragment.stream, row.record.location);
            assert!(body.is_some(), "fragment {number} was acknowledged, and is torn");
            for track in &row.record.tracks {
                let init = index.init(fragment.stream, track.init).unwrap();
                let init = self.read(fragment.stream, init.expect("its init is there"));
                assert_eq!(init, Some(vec![track.init.0 as u8; 700]));
            }
        }
        let everything = FragmentQuery {
            by: RangeBy::Timeline,
            range: TimeRange {
                start: Timestamp::from_millis(0),
                end: Timestamp::from_millis(i64::MAX),
            },
            order: TimeOrder::OldestFirst,
            limit: usize::MAX,
        };
        for stream in index.streams().unwrap() {
            for record in index.fragments(stream, &everything).unwrap() {
                assert!(!self.deleted.contains(&record.number), "{} was deleted", record.number);
                let (fragment, body) = &self.bodies[&record.number];
                assert_eq!((fragment.start, fragment.stream), (record.start, stream));
                match self.read(stream, record.location) {
                    Some(read) => assert_eq!(read, *body, "fragment {}", record.number),
                    // Refused, not served. Only where the index was lost may it name such a one.
                    None => assert!(self.index_was_lost, "fragment {} is torn", record.number),
                }
            }
            let (runs, expected) = index.runs_with_expected(stream).unwrap();
            assert_eq!(runs, expected);
        }
        assert!(index.files().unwrap().iter().all(|(_, _, row)| row.state != FileState::Open));
    }

    /// A body as the archive serves it: checked first.
    fn read(&self, stream: StreamId, location: Location) -> Option<Vec<u8>> {
        let file = self.disk.open(&file_path(Path::new(ROOT), stream, location.file)).ok()?;
        let head = head_before(file.as_ref(), stream, location).unwrap()?;
        let whole = body_is_whole(file.as_ref(), &head).unwrap();
        let bytes =
            read_exact_at(file.as_ref(), location.offset, location.len as usize).unwrap()?;
        whole.then_some(bytes)
    }
}

fn check_seed(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(seed, &dir.path().join("index"));
    for _ in 0..1 + machine.chance.below(4) {
        machine.run_until_cut();
        machine.stop();
    }
    machine.check();
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    let seeds = if std::env::var_os("LOOKBACK_SOAK").is_some() { 10_000 } else { 1_000 };
    for seed in 0..seeds {
        if let Err(panic) = std::panic::catch_unwind(|| check_seed(seed)) {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_full_disk_keeps_nothing_half() {
    for seed in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(seed, dir.path());
        let index = machine.index();
        let disk: Arc<dyn Disk> = machine.disk.clone();
        let mut writer = Writer::new(disk, index.clone(), ROOT.into(), SMALL, 0, 0);
        let mut append = |machine: &mut Machine| {
            let group: Vec<_> = (0..4).map(|_| machine.fragment()).collect();
            let written = writer.write(group.clone());
            let answers = writer.publish(written);
            group.into_iter().zip(answers).collect::<Vec<_>>()
        };
        for (_, answer) in append(&mut machine) {
            answer.unwrap();
        }
        let room = machine.chance.below(4_000);
        machine.disk.limit(Some(room));
        let mut refused = Vec::new();
        for (fragment, answer) in append(&mut machine) {
            match answer {
                Ok(_) => {
                    machine.acknowledged.insert(fragment.number);
                }
                Err(StorageError::Full(_)) => refused.push(fragment),
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        for fragment in &refused {
            let row = index.fragment(fragment.stream, fragment.start, fragment.number).unwrap();
            assert_eq!(row, None, "seed {seed}");
        }
        // Nothing of it takes up room, either.
        let files = index.files().unwrap();
        let indexed: u64 = files.iter().map(|(_, _, row)| row.len).sum();
        let on_disk: usize = machine.disk.contents().values().sum();
        assert_eq!(on_disk as u64, indexed, "seed {seed}");
        // With room again, the service goes on.
        machine.disk.limit(None);
        for (fragment, answer) in append(&mut machine) {
            answer.unwrap();
            machine.acknowledged.insert(fragment.number);
        }
    }
}
