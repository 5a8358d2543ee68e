//! Kills of the real process while cameras upload, footage is held and deleted, and a repair runs
//! now and then: what was acknowledged PERSISTED plays back whole afterwards, and nothing that was
//! deleted comes back.

use crate::camera::{self, Registered};
use crate::footage::{self, FRAGMENT_MS};
use crate::server::{Server, lookback, outcome};
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
        std::thread::sleep(Duration::from_secs(1));
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
}

/// A kill leaves nothing that is damaged.
fn check_nothing_to_repair(data_dir: &Path) {
    let checked = outcome(lookback().args(["check", "--repair", "--data-dir"]).arg(data_dir));
    assert!(checked.status.success(), "{checked:?}");
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
