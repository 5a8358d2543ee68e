//! What disks do to a data directory, on real ones: damage is found by name, set aside, and the
//! neighbours play.

use crate::camera::{self, Registered};
use crate::footage::{self, FRAGMENT_MS};
use crate::server::{Server, lookback, outcome};
use lookback_api::id::StreamId;
use lookback_api::segment::TimeRange;
use lookback_api::storage::embedded::archive::index::{FileUpdate, Index, Row};
use lookback_api::storage::embedded::archive::writer::{file_path, stream_dir};
use lookback_api::storage::embedded::lmdb::Durability;
use lookback_api::storage::{FragmentQuery, FragmentRecord, RangeBy, TimeOrder};
use lookback_wire::{FragmentNumber, Timestamp};
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

const CAMERAS: usize = 2;
/// Of each camera, one for each time that the server ran.
const FILES: usize = 3;
const PER_FILE: usize = 4;
const PAGE: usize = 4096;

/// A data directory with footage, and what is known of it.
struct Stored {
    data_dir: TempDir,
    cameras: Vec<Registered>,
    start_ms: u64,
    /// Of the first camera.
    stream: StreamId,
    records: Vec<FragmentRecord>,
}

impl Stored {
    fn new() -> Self {
        let start_ms = footage::an_hour_ago();
        let mut server = Server::start();
        let cameras: Vec<_> =
            (0..CAMERAS).map(|n| camera::register(&server, &format!("disk-{n}"))).collect();
        for file in 0..FILES {
            for (camera, of) in cameras.iter().zip(0..) {
                send(&server, camera, start_ms, of, file * PER_FILE..(file + 1) * PER_FILE);
            }
            server = Server::start_with(&[], stop(server));
        }
        let data_dir = stop(server);
        let stream = cameras[0].stream.parse().unwrap();
        let index = index(data_dir.path());
        let all = FragmentQuery {
            by: RangeBy::Timeline,
            range: TimeRange {
                start: Timestamp::from_millis(0),
                end: Timestamp::from_millis(i64::MAX),
            },
            order: TimeOrder::OldestFirst,
            limit: usize::MAX,
        };
        let records = index.fragments(stream, &all).unwrap();
        assert_eq!(records.len(), FILES * PER_FILE);
        drop(index);
        Self { data_dir, cameras, start_ms, stream, records }
    }

    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_dir(self.data_dir.path(), copy.path());
        copy
    }

    fn file_of(&self, data_dir: &Path, number: usize) -> PathBuf {
        file_path(&data_dir.join("archive"), self.stream, self.records[number].location.file)
    }

    /// Which fragments of a camera play as they were sent; none may play otherwise.
    fn plays(&self, server: &Server, camera: usize) -> Vec<usize> {
        let played = footage::played(server, &self.cameras[camera]);
        let number = |at: u64| ((at - self.start_ms) / FRAGMENT_MS) as usize;
        for (at, body) in &played {
            assert!(footage::is_of(body, seed(camera, number(*at))), "{} of {camera}", number(*at));
        }
        played.into_keys().map(number).collect()
    }
}

fn seed(camera: usize, number: usize) -> u64 {
    (camera << 32 | number) as u64
}

fn stop(mut server: Server) -> TempDir {
    server.signal("TERM");
    assert!(server.ended().success());
    server.kill()
}

fn index(data_dir: &Path) -> Index {
    Index::open(&data_dir.join("archive").join("index"), Durability::EachCommit).unwrap()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn check(data_dir: &Path, flags: &[&str]) -> (Option<i32>, String) {
    run(data_dir, &[&["check"], flags].concat())
}

/// Runs a command on a data directory; answers how it ended and what it said.
fn run(data_dir: &Path, command: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        outcome(lookback().args(command).arg("--data-dir").arg(data_dir));
    let text = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (status.code(), text)
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Overwrites every page that has `text` in an entry.
fn garble(database: &Path, text: &[u8]) {
    let mut bytes = fs::read(database).unwrap();
    let mut garbled = 0;
    for page in bytes.chunks_mut(PAGE).skip(2) {
        // Before this is free space, with what earlier entries left in it.
        let entries = usize::from(u16::from_le_bytes([page[14], page[15]])).min(PAGE);
        if page[entries..].windows(text.len()).any(|window| window == text) {
            page.fill(0xa5);
            garbled += 1;
        }
    }
    assert!(garbled > 0, "no page holds {text:?}");
    fs::write(database, bytes).unwrap();
}

type Damage = fn(&Stored, &Path);

#[test]
fn damage_is_named_and_set_aside_and_the_neighbours_play() {
    const NONE: Range<usize> = 0..0;
    // What happens, what the repair must say, of which the first `check` the first, and which of the first camera's fragments are lost.
    let cases: [(&str, Damage, &[&str], Range<usize>); 16] = [
        ("nothing", |_, _| {}, &[], NONE),
        (
            "a missing file",
            |stored, dir| fs::remove_file(stored.file_of(dir, 0)).unwrap(),
            &[".chunk is missing: 4 fragments of str_"],
            0..4,
        ),
        (
            "a short file",
            |stored, dir| cut(&stored.file_of(dir, 6), stored.records[6].location.offset + 100),
            &[".chunk: fragment ", "the file ends before it does"],
            6..8,
        ),
        (
            "a bit in a body",
            |stored, dir| flip(&stored.file_of(dir, 5), stored.records[5].location.offset + 100),
            &["its body is damaged"],
            5..6,
        ),
        (
            "a bit in a head",
            |stored, dir| flip(&stored.file_of(dir, 5), stored.records[5].location.offset - 20),
            &["its head is damaged"],
            5..6,
        ),
        (
            "a row without a file",
            |stored, dir| {
                let mut record = stored.records[5].clone();
                record.number = FragmentNumber(record.number.0 + 1);
                record.location.file += 1;
                let mut update = FileUpdate::of(stored.stream, record.location.file, 1 << 40);
                update.rows.push(Row { record, payload_hash: [1; 16] });
                let index = index(dir);
                index.commit([&update]).unwrap();
                index.forget_file(stored.stream, update.file).unwrap();
            },
            &["index: fragment ", "has no file"],
            NONE,
        ),
        (
            "a row that is gone",
            |stored, dir| {
                let gone = &stored.records[3..4];
                let file = gone[0].location.file;
                index(dir).remove_from_file(stored.stream, file, gone, false).unwrap();
            },
            &["is not in the index"],
            NONE,
        ),
        (
            "a torn index",
            |_, dir| cut(&dir.join("archive/index/data.mdb"), 5 * PAGE as u64),
            &["index: page 5 of table meta: the file ends here"],
            NONE,
        ),
        (
            "a garbled index",
            |_, dir| fs::write(dir.join("archive/index/data.mdb"), [7; 10 * PAGE]).unwrap(),
            &["index: page 0 of table meta"],
            NONE,
        ),
        (
            "a garbled page of the index",
            |stored, dir| {
                let key = stored.stream.0.to_be_bytes();
                garble(&dir.join("archive/index/data.mdb"), &key);
            },
            &["of table fragments: "],
            NONE,
        ),
        (
            "a lost index",
            |_, dir| fs::remove_dir_all(dir.join("archive/index")).unwrap(),
            &["index: there is none"],
            NONE,
        ),
        (
            "a garbled page of names",
            |_, dir| garble(&dir.join("catalog/data.mdb"), b"default\0"),
            &["of table account_names: "],
            NONE,
        ),
        (
            "a garbled page of devices",
            |_, dir| garble(&dir.join("catalog/data.mdb"), b"firmware_version"),
            &["of table devices: ", "catalog: device \"disk-0\", dev_"],
            NONE,
        ),
        (
            "a garbled page of streams",
            |_, dir| garble(&dir.join("catalog/data.mdb"), b"media_stream_name"),
            &["of table streams: ", "-main\", str_"],
            NONE,
        ),
        (
            "a file of somebody else",
            |_, dir| fs::write(dir.join("archive/holiday.mkv"), b"beach").unwrap(),
            &["archive/holiday.mkv is no file of the archive"],
            NONE,
        ),
        (
            "a file of another camera",
            |stored, dir| {
                let other =
                    stream_dir(&dir.join("archive"), stored.cameras[1].stream.parse().unwrap());
                let file = fs::read_dir(other).unwrap().next().unwrap().unwrap().path();
                let to = stream_dir(&dir.join("archive"), stored.stream);
                fs::copy(file, to.join("0000000000000001.chunk")).unwrap();
            },
            &["0000000000000001.chunk is no file of the archive"],
            NONE,
        ),
    ];
    let stored = Stored::new();
    for (what, damage, named, lost) in cases {
        let copy = stored.copy();
        let dir = copy.path();
        damage(&stored, dir);
        let (code, text) = check(dir, &[]);
        assert_eq!(code, Some(i32::from(!named.is_empty())), "{what}: {text}");
        // Which records a lost page held shows once the others are in a sound database.
        let (code, repair) = check(dir, &["--repair"]);
        assert_eq!(code, Some(i32::from(!named.is_empty())), "{what}: {repair}");
        assert!(named.iter().take(1).all(|name| text.contains(name)), "{what}: {text}");
        assert!(named.iter().all(|name| repair.contains(name)), "{what}: {repair}");
        let (code, text) = check(dir, &[]);
        assert_eq!(code, Some(0), "{what}, repaired: {text}");
        // What was set aside stays so when the index is lost.
        fs::remove_dir_all(dir.join("archive/index")).unwrap();
        check(dir, &["--repair"]);
        let (code, text) = check(dir, &[]);
        assert_eq!(code, Some(0), "{what}, repaired and its index made again: {text}");

        let server = Server::start_with(&[], copy);
        let all = 0..FILES * PER_FILE;
        let left: Vec<_> = all.clone().filter(|number| !lost.contains(number)).collect();
        assert_eq!(stored.plays(&server, 0), left, "{what}");
        assert_eq!(stored.plays(&server, 1), all.collect::<Vec<_>>(), "{what}");
    }
}

/// LMDB ends the process on a page that it does not understand.
#[test]
fn no_server_dies_of_a_damaged_database() {
    const PAGES: usize = 12;
    let stored = Stored::new();
    for (database, may_refuse) in [("catalog", true), ("archive/index", false)] {
        let path = Path::new(database).join("data.mdb");
        let pages = fs::metadata(stored.data_dir.path().join(&path)).unwrap().len() as usize / PAGE;
        let mut refused = 0;
        for page in (0..pages).step_by(pages.div_ceil(PAGES)) {
            let copy = stored.copy();
            let path = copy.path().join(&path);
            let mut bytes = fs::read(&path).unwrap();
            bytes[page * PAGE..][..PAGE].fill(0xa5);
            fs::write(&path, bytes).unwrap();
            match Server::try_start_at(SocketAddr::from(([127, 0, 0, 1], 0)), &[], copy) {
                Ok(server) => {
                    let all: Vec<_> = (0..FILES * PER_FILE).collect();
                    assert_eq!(stored.plays(&server, 0), all, "page {page} of {database}");
                    assert_eq!(stored.plays(&server, 1), all, "page {page} of {database}");
                }
                Err(status) => {
                    assert_eq!(status.code(), Some(1), "page {page} of {database}: {status}");
                    refused += 1;
                }
            }
        }
        // An index is made again; records are for whoever runs the service to repair.
        assert_eq!(refused > 0, may_refuse, "{refused} pages of {database}");
    }
}

#[test]
fn a_running_server_is_not_checked() {
    let server = Server::start();
    for flags in [&[][..], &["--repair"]] {
        let (code, text) = check(server.data_dir(), flags);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("another server runs in"), "{text}");
    }
}

fn send(server: &Server, camera: &Registered, start_ms: u64, of: usize, numbers: Range<usize>) {
    footage::connection(server.address, camera, |upload| {
        numbers.clone().try_for_each(|number| {
            footage::persist(upload, start_ms + number as u64 * FRAGMENT_MS, seed(of, number))
        })
    })
    .unwrap();
}

/// A start that must be refused; answers why.
fn refused(data_dir: &Path) -> String {
    let (code, text) = run(data_dir, &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{text}");
    text
}

#[test]
fn a_backup_is_taken_beside_a_running_server_and_put_back_after_any_loss() {
    let stored = Stored::new();
    let backups = TempDir::new().unwrap();
    let backup = backups.path().join("monday");
    let path = backup.to_str().unwrap();
    let server = Server::start_with(&[], stored.copy());
    let (code, text) = run(server.data_dir(), &["backup", "--keys", path]);
    assert_eq!(code, Some(0), "{text}");
    for (name, mode) in
        [("", 0o700), ("catalog/data.mdb", 0o600), ("keys/master.key", 0o600), ("keys", 0o700)]
    {
        let found = fs::metadata(backup.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}: {found:o}");
    }
    assert_eq!(fs::read_dir(backups.path()).unwrap().count(), 1, "no draft is left");
    let (code, text) = run(server.data_dir(), &["backup", path]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is there already"), "{text}");

    // After the backup: more of the first camera, and a camera that the backup does not know.
    let later = FILES * PER_FILE..FILES * PER_FILE + 2;
    send(&server, &stored.cameras[0], stored.start_ms, 0, later.clone());
    let unknown = camera::register(&server, "after the backup");
    send(&server, &unknown, stored.start_ms, 9, 0..3);
    let (code, text) = run(server.data_dir(), &["restore", path]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another server runs in"), "{text}");
    let last = stop(server);

    // The catalog's disk is lost, the media's is not.
    let dir = TempDir::new().unwrap();
    copy_dir(&last.path().join("archive"), &dir.path().join("archive"));
    assert!(refused(dir.path()).contains("restore a backup"));
    assert_eq!(check(dir.path(), &[]).0, Some(1));
    let (code, text) = run(dir.path(), &["restore", path]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(dir.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    let kept = format!("kept: 3 fragments of {}, ", unknown.stream);
    assert!(text.contains(&kept), "{text}");
    let server = Server::start_with(&[], dir);
    assert_eq!(stored.plays(&server, 0), (0..later.end).collect::<Vec<_>>());
    assert_eq!(stored.plays(&server, 1), (0..FILES * PER_FILE).collect::<Vec<_>>());
    let dir = stop(server);
    let (_, text) = check(dir.path(), &[]);
    assert!(text.contains(&kept), "{text}");

    // The media's disk is lost: the records are there, the footage is not, and more may come. The
    // keys came back, too: cameras go on with the tokens that they have.
    let dir = TempDir::new().unwrap();
    let (code, text) = run(dir.path(), &["restore", path]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no media is there"), "{text}");
    let server = Server::start_with(&[], dir);
    assert_eq!(stored.plays(&server, 0), [0usize; 0]);
    send(&server, &stored.cameras[0], stored.start_ms, 0, 3..5);
    assert_eq!(stored.plays(&server, 0), [3, 4]);
    assert_eq!(check(stop(server).path(), &[]).0, Some(0));

    // In the place of a catalog that is there: it is set aside.
    let (code, text) = run(last.path(), &["restore", path]);
    assert_eq!(code, Some(0), "{text}");
    assert!(last.path().join("quarantine/catalog/data.mdb").exists(), "{text}");
    assert_eq!(check(last.path(), &[]).0, Some(0));
}

#[test]
fn media_that_is_missing_or_not_ones_own_is_refused() {
    let stored = Stored::new();
    let other = TempDir::new().unwrap();
    let server = Server::start_with(&[], TempDir::new().unwrap());
    let camera = camera::register(&server, "of another installation");
    send(&server, &camera, stored.start_ms, 0, 0..2);
    copy_dir(stop(server).path(), other.path());

    // Its disk is not mounted.
    let dir = stored.copy();
    let archive = dir.path().join("archive");
    let elsewhere = TempDir::new().unwrap();
    copy_dir(&archive, elsewhere.path());
    fs::remove_dir_all(&archive).unwrap();
    fs::create_dir(&archive).unwrap();
    assert!(refused(dir.path()).contains("mount its disk"));
    let (code, text) = check(dir.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("mount its disk"), "{text}");
    assert_eq!(fs::read_dir(&archive).unwrap().count(), 0, "nothing is begun there");
    copy_dir(elsewhere.path(), &archive);
    assert_eq!(check(dir.path(), &[]).0, Some(0));

    // Another one's disk is in its place: no repair touches that.
    fs::remove_dir_all(&archive).unwrap();
    copy_dir(&other.path().join("archive"), &archive);
    assert!(refused(dir.path()).contains("of another installation"));
    for flags in [&[][..], &["--repair"], &[]] {
        let (code, text) = check(dir.path(), flags);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("of another installation"), "{text}");
    }

    // It is lost for good, and whoever runs the service says so.
    fs::remove_dir_all(&archive).unwrap();
    assert_eq!(check(dir.path(), &["--repair"]).0, Some(1));
    assert_eq!(check(dir.path(), &[]).0, Some(0));
    let server = Server::start_with(&[], dir);
    assert_eq!(stored.plays(&server, 0), [0usize; 0]);
    send(&server, &stored.cameras[0], stored.start_ms, 0, 7..8);
    assert_eq!(stored.plays(&server, 0), [7]);
}
