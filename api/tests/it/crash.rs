//! Kills of the real process while cameras upload: what was acknowledged PERSISTED plays back
//! whole afterwards.

use crate::camera::{self, Registered, Upload};
use crate::server::Server;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CAMERAS: usize = 8;
const KILLS: usize = 60;
/// Below a second, so that each fragment is one chunk and its samples are the end of it.
const FRAMES: usize = 20;
const FRAGMENT_MS: u64 = 800;
const FRAME_BYTES: usize = 2_000;
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
    let start_ms = now_ms() - 3_600_000;
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
        whole += check_plays(&server, camera, start_ms, persisted);
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
        let _ = connection(address, camera, |upload| {
            while !stop.load(Ordering::SeqCst) {
                let timecode_ms = start_ms + next * FRAGMENT_MS;
                let seed = number << 32 | next;
                let frames = camera::frames(seed, FRAMES, FRAME_BYTES);
                upload.send(&camera::fragment(timecode_ms, &frames))?;
                upload.send(&camera::end_of_fragment())?;
                upload.persisted(timecode_ms)?;
                persisted.insert(timecode_ms, seed);
                next += 1;
            }
            Ok(())
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    persisted
}

fn connection(
    address: SocketAddr,
    camera: &Registered,
    footage: impl FnOnce(&mut Upload) -> io::Result<()>,
) -> io::Result<()> {
    let mut upload = Upload::open(address, &camera.token, &camera.media_stream, &[])?;
    if upload.status != 200 {
        return Err(io::Error::other(format!("status {}", upload.status)));
    }
    upload.send(&lookback_wire::matroska::writer::header(&camera::header()))?;
    footage(&mut upload)?;
    upload.finish()
}

/// Plays the camera's footage and compares each acknowledged fragment with what was sent.
fn check_plays(
    server: &Server,
    camera: &Registered,
    start_ms: u64,
    persisted: &BTreeMap<u64, u64>,
) -> usize {
    let end_ms = persisted.last_key_value().unwrap().0 + FRAGMENT_MS;
    let viewer = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let answer = server.post_json(
        "/graphql",
        &[("authorization", &viewer)],
        &json!({
            "query": "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
                ... on PlaybackSession { url } ... on MediaUnavailable { message } } }",
            "variables": {"input": {
                "streamId": camera.stream, "start": rfc3339(start_ms), "end": rfc3339(end_ms),
            }},
        }),
    );
    let answer = answer.json();
    let url = answer["data"]["playbackSession"]["url"].as_str();
    let url = url.unwrap_or_else(|| panic!("no session: {answer}"));
    let folder = url.strip_prefix(&server.url()).unwrap().rsplit_once('/').unwrap().0;
    let playlist = server.get(&format!("{folder}/video.m3u8"), &[]);
    assert_eq!(playlist.status, 200, "{playlist:?}");

    let mut played = BTreeMap::new();
    for name in playlist.text().lines().filter(|line| !line.starts_with('#')) {
        let at: u64 = name.split('-').next().unwrap().parse().unwrap();
        played.insert(at, name.to_owned());
    }
    for (timecode_ms, seed) in persisted {
        let name = played
            .get(timecode_ms)
            .unwrap_or_else(|| panic!("{timecode_ms} was acknowledged and is not listed"));
        let segment = server.get(&format!("{folder}/{name}"), &[]);
        assert_eq!(segment.status, 200, "{name}: {segment:?}");
        let samples = camera::frames(*seed, FRAMES, FRAME_BYTES).concat();
        assert!(segment.body.ends_with(&samples), "{name} is not what was sent");
    }
    persisted.len()
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

fn rfc3339(ms: u64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
