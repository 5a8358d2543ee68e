//! Kills of the real process while cameras upload: what was acknowledged PERSISTED plays back
//! whole afterwards.

use crate::camera::{self, Registered};
use crate::footage;
use crate::server::Server;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CAMERAS: usize = 8;
const KILLS: usize = 60;
/// Ten times the goal of 2 s.
const READY_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn what_was_acknowledged_survives_sixty_kills() {
    let seed = std::env::var("LOOKBACK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("LOOKBACK_SEED={seed}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let mut server = Server::start_at(address, &[], TempDir::new().unwrap());
    let cameras: Vec<_> =
        (0..CAMERAS).map(|n| camera::register(&server, &format!("crash-{n}"))).collect();
    let start_ms = footage::an_hour_ago();
    let stop = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;

    let persisted = std::thread::scope(|scope| {
        let uploads: Vec<_> = cameras
            .iter()
            .enumerate()
            .map(|(n, camera)| {
                let stop = &stop;
                scope.spawn(move || upload(address, camera, n as u64, start_ms, stop))
            })
            .collect();
        let mut chance: u64 = seed;
        for _ in 0..KILLS {
            chance = (chance ^ (chance << 13)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (chance >> 7);
            std::thread::sleep(Duration::from_millis(30 + chance % 400));
            let began = Instant::now();
            server.kill_and_restart();
            slowest = slowest.max(began.elapsed());
        }
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::SeqCst);
        uploads.into_iter().map(|upload| upload.join().unwrap()).collect::<Vec<_>>()
    });
    println!("ready again after at most {slowest:?}");
    assert!(slowest < READY_WITHIN, "ready only after {slowest:?}");

    let mut whole = 0;
    for (camera, persisted) in cameras.iter().zip(&persisted) {
        assert!(persisted.len() > KILLS / 2, "only {} fragments were persisted", persisted.len());
        whole += check_plays(&server, camera, persisted);
    }
    println!("{whole} fragments were acknowledged, and play");

    server.signal("TERM");
    assert!(server.ended().success());
    let checked = server.beside(&["check"], &[]);
    assert!(checked.status.success(), "{checked:?}");
}

/// Uploads fragment after fragment until `stop`, over as many connections as it takes; answers the
/// acknowledged ones by their timecodes, with their seeds.
fn upload(
    address: SocketAddr,
    camera: &Registered,
    number: u64,
    start_ms: u64,
    stop: &AtomicBool,
) -> BTreeMap<u64, u64> {
    let mut persisted = BTreeMap::new();
    let mut next = 0;
    while !stop.load(Ordering::SeqCst) {
        // A server that was killed says nothing; whatever the error, the camera comes again.
        let _ = footage::connection(address, camera, |upload| {
            while !stop.load(Ordering::SeqCst) {
                let timecode_ms = start_ms + next * footage::FRAGMENT_MS;
                let seed = number << 32 | next;
                footage::persist(upload, timecode_ms, seed)?;
                persisted.insert(timecode_ms, seed);
                next += 1;
            }
            Ok(())
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    persisted
}

/// Plays the camera's footage and compares each acknowledged fragment with what was sent.
fn check_plays(server: &Server, camera: &Registered, persisted: &BTreeMap<u64, u64>) -> usize {
    let played = footage::played(server, camera);
    for (timecode_ms, seed) in persisted {
        let body = played
            .get(timecode_ms)
            .unwrap_or_else(|| panic!("{timecode_ms} was acknowledged and does not play"));
        assert!(footage::is_of(body, *seed), "{timecode_ms} is not what was sent");
    }
    persisted.len()
}
