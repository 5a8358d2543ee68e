//! Stops at arbitrary points, and what damage does: on real directories, through the archive's own
//! door.

use super::check::{Damage as Wrong, Finding, check};
use super::writer::{Rotation, file_path, stream_dir};
use super::{ArchiveOptions, EmbeddedArchive};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::contract::{self, NOW};
use crate::storage::{
    Appended, Archive, FragmentQuery, FragmentRecord, InitId, Location, RangeBy, StorageError,
    TimeOrder,
};
use lookback_wire::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files of a few fragments each.
const SMALL: ArchiveOptions = ArchiveOptions {
    rotation: Rotation { max_bytes: 12_000, max_age: Duration::from_secs(3600) },
    min_free_bytes: None,
};

fn open(root: &Path) -> EmbeddedArchive {
    EmbeddedArchive::open(root, SMALL, None).unwrap()
}

fn start(number: usize) -> Timestamp {
    NOW.plus_millis(number as i64 * 1_000)
}

/// 3 to 4 kB that are like no other fragment's.
fn fill(number: usize) -> Vec<u8> {
    let mut fill: Vec<u8> = (number as u64).to_le_bytes().to_vec();
    fill.resize(1_000 + number * 37, number as u8);
    fill
}

async fn append(archive: &EmbeddedArchive, stream: StreamId, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let new = contract::fragment(archive, stream, start(number), 1_000, &fill(number));
        let appended = archive.append(new).await.unwrap();
        assert!(matches!(appended, Appended::Stored(_)), "{appended:?}");
    }
}

async fn records(archive: &EmbeddedArchive, stream: StreamId) -> Vec<FragmentRecord> {
    let range = TimeRange { start: NOW, end: NOW.plus_millis(1_000_000) };
    let query =
        FragmentQuery { by: RangeBy::Timeline, range, order: TimeOrder::OldestFirst, limit: 1_000 };
    archive.fragments(stream, &query).await.unwrap()
}

/// The numbers of the fragments that are there, and read as they were written.
async fn readable(archive: &EmbeddedArchive, stream: StreamId) -> Vec<usize> {
    let mut numbers = Vec::new();
    for record in records(archive, stream).await {
        let number = (record.start.millis_since(NOW) / 1_000) as usize;
        match archive.read(stream, record.location, 0, record.location.len).await {
            Ok(body) => {
                assert_eq!(body, fill(number).repeat(3), "fragment {number}");
                numbers.push(number);
            }
            Err(StorageError::Damaged(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    numbers
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn chunk_files(root: &Path, stream: StreamId) -> Vec<PathBuf> {
    let dir = root.join(stream.0.to_string());
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// A store of ten fragments in several files, as a kill leaves it.
struct Killed {
    dir: tempfile::TempDir,
    stream: StreamId,
    records: Vec<FragmentRecord>,
}

impl Killed {
    async fn new() -> Self {
        let (work, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let stream = StreamId::new(NOW);
        let archive = open(work.path());
        append(&archive, stream, 0..10).await;
        copy(work.path(), dir.path());
        assert!(chunk_files(dir.path(), stream).len() > 2);
        Self { dir, stream, records: records(&archive, stream).await }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn file_of(&self, number: usize) -> PathBuf {
        file_path(self.root(), self.stream, self.records[number].location.file)
    }
}

#[tokio::test]
async fn a_kill_after_any_append_loses_none() {
    let (work, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = StreamId::new(NOW);
    let archive = open(work.path());
    for count in 1..10 {
        append(&archive, stream, count - 1..count).await;
        let root = copies.path().join(count.to_string());
        copy(work.path(), &root);
        let restarted = open(&root);
        assert_eq!(readable(&restarted, stream).await, (0..count).collect::<Vec<_>>());
        let last = records(&restarted, stream).await.last().unwrap().number;
        assert!(restarted.next_number(stream, Timestamp::from_millis(0)) > last);
        append(&restarted, stream, count..count + 2).await;
        restarted.close().await.unwrap();
        drop(restarted);
        assert_eq!(check(&root, false).unwrap().findings, []);
        let again = open(&root);
        assert_eq!(readable(&again, stream).await, (0..count + 2).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_tail_that_is_no_record_is_cut_off() {
    let killed = Killed::new().await;
    let last = killed.file_of(9);
    let indexed = std::fs::read(&last).unwrap();
    for cut in (1..indexed.len()).step_by(97) {
        let dir = tempfile::tempdir().unwrap();
        copy(killed.root(), dir.path());
        // Records of this file in the wrong place, torn and whole ones: none of them is taken in.
        let path = file_path(dir.path(), killed.stream, killed.records[9].location.file);
        let mut bytes = indexed.clone();
        bytes.extend_from_slice(&indexed[..cut]);
        std::fs::write(&path, bytes).unwrap();
        let archive = open(dir.path());
        assert_eq!(readable(&archive, killed.stream).await, (0..10).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), indexed.len() as u64, "cut {cut}");
    }
}

#[tokio::test]
async fn a_lost_index_is_made_again() {
    let killed = Killed::new().await;
    let index = |root: &Path| root.join("index").join("data.mdb");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("removed", |data| std::fs::remove_dir_all(data.parent().unwrap()).unwrap()),
        ("emptied", |data| std::fs::write(data, b"").unwrap()),
        ("no database", |data| std::fs::write(data, vec![7; 40_960]).unwrap()),
        ("cut short", |data| {
            let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
            file.set_len(3 * 4096).unwrap();
        }),
        ("removed, beside a stray lock", |data| std::fs::remove_file(data).unwrap()),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        copy(killed.root(), dir.path());
        damage(&index(dir.path()));
        let archive = open(dir.path());
        assert_eq!(records(&archive, killed.stream).await, killed.records, "{what}");
        assert_eq!(readable(&archive, killed.stream).await.len(), 10, "{what}");
        let init = archive.init(killed.stream, InitId(0xabc)).await.unwrap();
        assert_eq!(init.as_deref(), Some(&b"an init"[..]), "{what}");
        let runs =
            archive.runs(killed.stream, TimeRange { start: NOW, end: start(99) }, 9).await.unwrap();
        assert_eq!(runs.len(), 1, "{what}");
        assert_eq!(runs[0].fragments, 10, "{what}");
        archive.close().await.unwrap();
        drop(archive);
        assert_eq!(check(dir.path(), false).unwrap().findings, [], "{what}");
    }
}

#[tokio::test]
async fn damage_is_refused_named_and_set_aside() {
    type Damage = fn(&Path, &FragmentRecord);
    let damages: [(&str, Damage); 3] = [
        ("body", |path, record| flip(path, record.location.offset + 100)),
        ("head", |path, record| flip(path, record.location.offset - 20)),
        ("magic", |path, record| {
            let bytes = std::fs::read(path).unwrap();
            let before = &bytes[..record.location.offset as usize];
            let head = before.windows(4).rposition(|w| w == b"LBKR").unwrap();
            flip(path, head as u64);
        }),
    ];
    for (what, damage) in damages {
        for number in [0, 4, 9] {
            let killed = Killed::new().await;
            let stream = killed.stream;
            let record = killed.records[number].clone();
            damage(&killed.file_of(number), &record);
            let others: Vec<usize> = (0..10).filter(|other| *other != number).collect();
            {
                let archive = open(killed.root());
                // A sealed file was closed in good order; only `check` looks at its bodies.
                if killed.records[9].location.file == record.location.file {
                    assert_eq!(readable(&archive, stream).await, others, "{what} of {number}");
                }
                archive.close().await.unwrap();
            }
            let damage = if what == "body" { Wrong::Body } else { Wrong::Head };
            let path = killed.file_of(number);
            let finding =
                Finding::Fragment { path, stream, record: Box::new(record.clone()), damage };
            let findings = check(killed.root(), false).unwrap().findings;
            assert_eq!(findings, [finding], "{what} of {number}");
            assert_eq!(check(killed.root(), true).unwrap().findings.len(), 1);
            assert_eq!(check(killed.root(), false).unwrap().findings, [], "{what} of {number}");
            let Location { file, offset, len } = record.location;
            let aside = stream_dir(&killed.root().join("quarantine"), stream);
            let kept = std::fs::read(aside.join(format!("{file:016x}-{offset}.record"))).unwrap();
            assert!(kept.len() > len as usize, "its head is there, too");
            {
                let archive = open(killed.root());
                assert_eq!(readable(&archive, stream).await, others, "{what} of {number}");
            }
            // Without the index, what comes after the damage in its file is found all the same.
            std::fs::remove_dir_all(killed.root().join("index")).unwrap();
            let archive = open(killed.root());
            assert_eq!(readable(&archive, stream).await, others, "{what} of {number}");
        }
    }
}

#[tokio::test]
async fn repair_takes_in_what_the_index_forgot() {
    let killed = Killed::new().await;
    open(killed.root()).close().await.unwrap();
    {
        use crate::storage::embedded::lmdb::Durability;
        let index = super::Index::open(&killed.root().join("index"), Durability::None).unwrap();
        let file = killed.records[3].location.file;
        index.remove_from_file(killed.stream, file, &killed.records[3..4], false).unwrap();
    }
    let FragmentRecord { number, location, .. } = killed.records[3];
    let (path, stream) = (killed.file_of(3), killed.stream);
    let finding = Finding::FragmentNotIndexed { path, stream, number, offset: location.offset };
    assert_eq!(check(killed.root(), true).unwrap().findings, [finding]);
    assert_eq!(check(killed.root(), false).unwrap().findings, []);
    let archive = open(killed.root());
    assert_eq!(records(&archive, killed.stream).await, killed.records);
}

#[tokio::test]
async fn a_missing_file_is_named_and_the_rest_plays() {
    let killed = Killed::new().await;
    let gone = killed.records[0].location.file;
    std::fs::remove_file(killed.file_of(0)).unwrap();
    let archive = open(killed.root());
    let left: Vec<usize> =
        (0..10).filter(|number| killed.records[*number].location.file != gone).collect();
    assert_eq!(readable(&archive, killed.stream).await, left);
    archive.close().await.unwrap();
    drop(archive);
    let finding = Finding::FileMissing {
        path: killed.file_of(0),
        stream: killed.stream,
        fragments: 10 - left.len() as u64,
        range: Some(TimeRange { start: NOW, end: start(left[0]) }),
    };
    assert_eq!(check(killed.root(), true).unwrap().findings, [finding]);
    assert_eq!(check(killed.root(), false).unwrap().findings, []);
}
