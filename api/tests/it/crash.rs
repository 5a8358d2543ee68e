//! Kills of the real process while cameras upload, old footage expires, footage is held and deleted,
//! and a repair runs now and then: what was acknowledged PERSISTED plays back whole afterwards, what
//! is held stays, and nothing that was deleted or is past its time comes back.

use crate::camera::{self, Registered};
use crate::footage::{self, FRAGMENT_MS};
use crate::server::{PATIENCE, Server, lookback, outcome};
use lookback_api::id::{HoldId, StreamId};
use lookback_api::keeping::Hold;
use lookback_api::segment::TimeRange;
use lookback_api::storage::embedded;
use lookback_api::storage::{FragmentQuery, NewFragment, RangeBy, TimeOrder};
use lookback_wire::{Payload, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CAMERAS: usize = 8;
const KILLS: usize = 60;
/// A repair comes after each of so many kills.
const REPAIR_EACH: usize = 12;
/// Ten times the goal of 2 s.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Fragments that are held or deleted at once.
const SPAN: usize = 3;
/// Of each camera's old footage. Each start takes some away, until the kill.
const OLD_FILES: i64 = 20;
const OLD_PER_FILE: i64 = 4;
/// A file is full after half an hour.
const OLD_FILE_MS: i64 = 31 * 60_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// What was done to one camera's footage, by timecodes.
#[derive(Default)]
struct Changed {
    deleted: BTreeSet<u64>,
    held: BTreeSet<u64>,
    /// The server was killed before it answered whether they were deleted.
    unsure: BTreeSet<u64>,
}

#[test]
fn what_was_acknowledged_survives_sixty_kills() {
    let seed = std::env::var("LOOKBACK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("LOOKBACK_SEED={seed}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let mut server = Server::start_at(address, &[], TempDir::new().unwrap());
    let admin = format!("Bearer {}", server.token(&["--role", "admin"]));
    let cameras: Vec<_> =
        (0..CAMERAS).map(|n| camera::register(&server, &format!("crash-{n}"))).collect();
    let mut changed: Vec<Changed> = cameras.iter().map(|_| Changed::default()).collect();
    // Timecodes and seeds.
    let persisted: Vec<Mutex<BTreeMap<u64, u64>>> =
        cameras.iter().map(|_| Mutex::default()).collect();
    let start_ms = footage::an_hour_ago();
    server.signal("TERM");
    assert!(server.ended().success());
    let streams: Vec<StreamId> = cameras.iter().map(|c| c.stream.parse().unwrap()).collect();
    // The plan keeps seven days.
    let old_ms = start_ms as i64 - 9 * DAY_MS;
    let kept = OldFootage::of(&streams, old_ms).store(server.data_dir());
    server.kill_and_restart(|_| {});
    let stop = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;

    std::thread::scope(|scope| {
        for (n, (camera, persisted)) in cameras.iter().zip(&persisted).enumerate() {
            let stop = &stop;
            scope.spawn(move || upload(address, camera, n as u64, start_ms, persisted, stop));
        }
        let mut chance: u64 = seed;
        for kill in 1..=KILLS {
            chance = (chance ^ (chance << 13)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (chance >> 7);
            std::thread::sleep(Duration::from_millis(30 + chance % 400));
            let n = kill % CAMERAS;
            let known: Vec<u64> = persisted[n].lock().unwrap().keys().copied().collect();
            change(&server, &admin, &cameras[n], &known, chance >> 9, &mut changed[n]);
            let began = Instant::now();
            let mut repair = Duration::ZERO;
            server.kill_and_restart(|data_dir| {
                if kill % REPAIR_EACH == 0 {
                    let began = Instant::now();
                    check_nothing_to_repair(data_dir);
                    repair = began.elapsed();
                }
            });
            slowest = slowest.max(began.elapsed() - repair);
        }
        kept.wait_for_the_rest_to_go(server.data_dir());
        stop.store(true, Ordering::SeqCst);
    });
    println!("ready again after at most {slowest:?}");
    assert!(slowest < READY_WITHIN, "ready only after {slowest:?}");

    let (mut whole, mut held, mut deleted) = (0, 0, 0);
    for ((camera, persisted), changed) in cameras.iter().zip(persisted).zip(&changed) {
        let persisted = persisted.into_inner().unwrap();
        assert!(persisted.len() > KILLS / 2, "only {} fragments were persisted", persisted.len());
        let played = footage::played(&server, camera);
        for (timecode_ms, seed) in &persisted {
            if changed.deleted.contains(timecode_ms) {
                assert!(!played.contains_key(timecode_ms), "{timecode_ms} was deleted and plays");
            } else if !changed.unsure.contains(timecode_ms) {
                let body = played.get(timecode_ms);
                let body =
                    body.unwrap_or_else(|| panic!("{timecode_ms} was acknowledged and is lost"));
                assert!(footage::is_of(body, *seed), "{timecode_ms} is not what was sent");
                whole += 1;
            }
        }
        held += changed.held.len();
        deleted += changed.deleted.len();
    }
    println!(
        "{whole} fragments were acknowledged, and play, {held} of them held; {deleted} are gone"
    );
    assert!(held > 0 && deleted > 0, "nothing was held or deleted");

    server.signal("TERM");
    assert!(server.ended().success());
    check_nothing_to_repair(server.data_dir());
    kept.require_just_that(server.data_dir());
}

/// A kill leaves nothing that is damaged.
fn check_nothing_to_repair(data_dir: &Path) {
    let checked = outcome(lookback().args(["check", "--repair", "--data-dir"]).arg(data_dir));
    assert!(checked.status.success(), "{checked:?}");
}

/// What arrived on streams longer ago than their plan keeps, from `start_ms` on.
struct OldFootage {
    streams: Vec<StreamId>,
    start_ms: i64,
}

impl OldFootage {
    fn of(streams: &[StreamId], start_ms: i64) -> Self {
        Self { streams: streams.to_vec(), start_ms }
    }

    fn at(&self, file: i64, place: i64) -> i64 {
        self.start_ms + file * OLD_FILE_MS + place * 1_000
    }

    /// What is held: a fragment amid a file, and all of another file.
    fn held(&self) -> [TimeRange; 2] {
        [(3, 1, 1), (11, 0, OLD_PER_FILE)].map(|(file, first, count)| TimeRange {
            start: Timestamp::from_millis(self.at(file, first)),
            end: Timestamp::from_millis(self.at(file, first + count)),
        })
    }

    fn is_held(&self, at_ms: i64) -> bool {
        self.held().iter().any(|span| span.contains(Timestamp::from_millis(at_ms)))
    }

    fn all(&self) -> impl Iterator<Item = i64> {
        let places = (0..OLD_FILES).flat_map(|file| (0..OLD_PER_FILE).map(move |at| (file, at)));
        places.map(|(file, place)| self.at(file, place))
    }

    fn body(stream: usize, at_ms: i64) -> Vec<u8> {
        (stream as i64 ^ at_ms).to_le_bytes().repeat(1_000)
    }

    /// Puts it into a data directory that no server has open.
    #[tokio::main]
    async fn store(self, data_dir: &Path) -> Self {
        let storage = embedded::open(data_dir).unwrap();
        for at_ms in self.all() {
            let at = Timestamp::from_millis(at_ms);
            let appends = self.streams.iter().enumerate().map(|(n, &stream)| {
                let body = Self::body(n, at_ms);
                storage.local().unwrap().append(NewFragment {
                    stream,
                    number: storage.local().unwrap().next_number(stream, at),
                    start: at,
                    duration_ms: 1_000,
                    capture_start: at,
                    arrived_at: at,
                    payload_hash: [n as u8; 16],
                    tracks: Default::default(),
                    inits: Vec::new(),
                    chunk_lens: vec![body.len() as u32],
                    body: Payload::from(body),
                    metadata: Default::default(),
                })
            });
            for appended in futures_util::future::join_all(appends).await {
                appended.unwrap();
            }
        }
        for (&stream, range) in self.streams.iter().flat_map(|s| self.held().map(|held| (s, held)))
        {
            let at = Timestamp::from_millis(self.start_ms);
            let (id, reason, until) = (HoldId::new(at), None, None);
            let hold = Hold { id, stream, range, reason, until, created_at: at };
            assert!(storage.catalog.put_hold(hold).await.unwrap());
        }
        storage.archive().close().await.unwrap();
        storage.catalog.close().await.unwrap();
        self
    }

    /// Waits until the running server has none of the files that nothing in is held.
    fn wait_for_the_rest_to_go(&self, data_dir: &Path) {
        let begun = Instant::now();
        let is_old = |name: &str| {
            let number = name.strip_suffix(".chunk").map(|name| i64::from_str_radix(name, 16));
            number.is_some_and(|number| number.unwrap() < self.start_ms + 2 * DAY_MS)
        };
        for stream in &self.streams {
            let dir = data_dir.join("archive").join(stream.0.to_string());
            let old = || {
                let names =
                    std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
                names.filter(|name| is_old(name.to_str().unwrap())).count()
            };
            while old() > self.held().len() {
                assert!(begun.elapsed() < PATIENCE, "{} old files of {stream}", old());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// What is held is there whole, and nothing else of it.
    #[tokio::main]
    async fn require_just_that(&self, data_dir: &Path) {
        let storage = embedded::open(data_dir).unwrap();
        let held: Vec<i64> = self.all().filter(|at_ms| self.is_held(*at_ms)).collect();
        let (start, end) = (self.start_ms, self.start_ms + 2 * DAY_MS);
        let [start, end] = [start, end].map(Timestamp::from_millis);
        let query = FragmentQuery {
            by: RangeBy::Timeline,
            range: TimeRange { start, end },
            order: TimeOrder::OldestFirst,
            limit: usize::MAX,
        };
        for (n, &stream) in self.streams.iter().enumerate() {
            let left = storage.local().unwrap().fragments(stream, &query).await.unwrap();
            let starts: Vec<_> = left.iter().map(|record| record.start.as_millis()).collect();
            assert_eq!(starts, held);
            for record in left {
                let len = record.location.len;
                let body =
                    storage.local().unwrap().read(stream, record.location, 0, len).await.unwrap();
                assert_eq!(body, Self::body(n, record.start.as_millis()));
            }
        }
    }
}

/// Uploads fragment after fragment until `stop`, over as many connections as it takes; notes the
/// acknowledged ones by their timecodes, with their seeds.
fn upload(
    address: SocketAddr,
    camera: &Registered,
    number: u64,
    start_ms: u64,
    persisted: &Mutex<BTreeMap<u64, u64>>,
    stop: &AtomicBool,
) {
    let mut next = 0;
    while !stop.load(Ordering::SeqCst) {
        // A server that was killed says nothing; whatever the error, the camera comes again.
        let _ = footage::connection(address, camera, |upload| {
            while !stop.load(Ordering::SeqCst) {
                let timecode_ms = start_ms + next * FRAGMENT_MS;
                let seed = number << 32 | next;
                footage::persist(upload, timecode_ms, seed)?;
                persisted.lock().unwrap().insert(timecode_ms, seed);
                next += 1;
            }
            Ok(())
        });
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Holds or deletes some of what a camera is `known` to have stored, or begins to delete it just
/// before the kill.
fn change(
    server: &Server,
    admin: &str,
    camera: &Registered,
    known: &[u64],
    chance: u64,
    changed: &mut Changed,
) {
    let Some(places) = known.len().checked_sub(SPAN).filter(|places| *places > 0) else { return };
    let first = (chance >> 4) as usize % places;
    let span = &known[first..first + SPAN];
    let range = json!({
        "start": footage::rfc3339(span[0]),
        "end": footage::rfc3339(span[SPAN - 1] + FRAGMENT_MS),
    });
    let ask = |field: &str, kind: &str| {
        json!({
            "query": format!(
                "mutation($input: {kind}!) {{ {field}(input: $input) {{ userErrors {{ code }} }} }}"
            ),
            "variables": {"input": {"streamId": camera.stream, "range": range}},
        })
    };
    let headers = [("authorization", admin)];
    let is_held = span.iter().any(|at| changed.held.contains(at));
    match chance % 3 {
        0 if !span.iter().any(|at| changed.deleted.contains(at) || changed.unsure.contains(at)) => {
            let answer =
                server.post_json("/graphql", &headers, &ask("placeHold", "PlaceHoldInput"));
            assert_eq!(answer.json()["data"]["placeHold"]["userErrors"], json!([]), "{answer:?}");
            changed.held.extend(span);
        }
        1 => {
            let ask = ask("deleteFootage", "DeleteFootageInput");
            let answer = server.post_json("/graphql", &headers, &ask).json();
            let errors = &answer["data"]["deleteFootage"]["userErrors"];
            if is_held {
                assert_eq!(errors[0]["code"], "WRONG_STATE", "{answer}");
            } else {
                assert_eq!(*errors, json!([]), "{answer}");
                changed.deleted.extend(span);
            }
        }
        _ => {
            send_only(server.address, admin, &ask("deleteFootage", "DeleteFootageInput"));
            std::thread::sleep(Duration::from_millis(chance % 12));
            if !is_held {
                changed.unsure.extend(span);
            }
        }
    }
}

/// Sends a request and does not wait for the answer.
fn send_only(address: SocketAddr, authorization: &str, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    TcpStream::connect(address).unwrap().write_all(request.as_bytes()).unwrap();
}
