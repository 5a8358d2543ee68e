//! Low-Latency HLS over HTTP: what a player is told and handed while a fragment is still arriving.

use crate::camera::{self, Registered, Upload};
use crate::server::{Server, request};
use lookback_wire::matroska::writer;
use serde_json::json;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 20 frames of 40 ms: a part of 13, and one of 7.
const FRAMES: usize = 20;
const FRAGMENT_MS: u64 = 800;
/// How many of them make the first part known.
const FIRST_PART: usize = 15;
/// Nothing takes this long but what hangs.
const LIMIT: Duration = Duration::from_secs(10);

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A camera that has sent four fragments, and somebody who watches it.
struct Live {
    server: Server,
    camera: Registered,
    upload: Upload,
    /// When the next fragment begins.
    next_ms: u64,
    folder: String,
}

impl Live {
    fn start() -> Self {
        let server = Server::start();
        let camera = camera::register(&server, "cam");
        let upload = connect(&server, &camera);
        let next_ms = now_ms() - 4 * FRAGMENT_MS;
        let mut live = Self { server, camera, upload, next_ms, folder: String::new() };
        for _ in 0..4 {
            live.send(0, FRAMES);
            live.end();
        }
        let viewer = format!("Bearer {}", live.server.token(&["--role", "viewer"]));
        let input = json!({ "streamId": live.camera.stream, "mode": "LIVE" });
        let session = live.server.post_json(
            "/graphql",
            &[("authorization", &viewer)],
            &json!({
                "query": "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
                    ... on PlaybackSession { url } } }",
                "variables": { "input": input },
            }),
        );
        let url = session.json()["data"]["playbackSession"]["url"].as_str().unwrap().to_owned();
        let path = url.strip_prefix(&live.server.url()).unwrap();
        live.folder = path.rsplit_once('/').unwrap().0.to_owned();
        live
    }

    /// Sends some of the frames of the fragment that is open; the first opens it.
    fn send(&mut self, from: usize, to: usize) {
        let whole = camera::fragment(self.next_ms, &self.frames());
        let upto = |count: usize| {
            camera::fragment(self.next_ms, &self.frames()[..count]).len() * usize::from(count > 0)
        };
        self.upload.send(&whole[upto(from)..upto(to)]).unwrap();
    }

    fn frames(&self) -> Vec<bytes::Bytes> {
        camera::frames(self.next_ms, FRAMES, 500)
    }

    /// Ends the fragment that is open, and waits until it is kept.
    fn end(&mut self) {
        self.upload.send(&camera::end_of_fragment()).unwrap();
        self.upload.persisted(self.next_ms).unwrap();
        self.next_ms += FRAGMENT_MS;
    }

    fn status(&self, name: &str) -> u16 {
        self.server.get(&format!("{}/{name}", self.folder), &[]).status
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let answer = self.server.get(&format!("{}/{name}", self.folder), &[]);
        assert_eq!(answer.status, 200, "{name}");
        answer.body
    }

    fn playlist(&self, query: &str) -> String {
        String::from_utf8(self.bytes(&format!("video.m3u8{query}"))).unwrap()
    }

    /// A request that is answered later.
    fn ask(&self, name: &str) -> thread::JoinHandle<(u16, Vec<u8>, Instant)> {
        let (address, path) = (self.server.address, format!("{}/{name}", self.folder));
        thread::spawn(move || ask(address, &path))
    }
}

fn ask(address: SocketAddr, path: &str) -> (u16, Vec<u8>, Instant) {
    let answer = request(address, "GET", path, &[], b"");
    (answer.status, answer.body, Instant::now())
}

fn connect(server: &Server, camera: &Registered) -> Upload {
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    upload.send(&writer::header(&camera::header())).unwrap();
    upload
}

fn quoted<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
    rest.split_once('"').unwrap().0
}

fn lines<'a>(playlist: &'a str, tag: &str) -> Vec<&'a str> {
    playlist.lines().filter(|line| line.starts_with(tag)).collect()
}

fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn parts_are_handed_on_while_their_fragment_arrives() {
    let mut live = Live::start();
    let before = live.playlist("");
    assert!(before.contains("#EXT-X-PART-INF:PART-TARGET=0.54\n"), "{before}");
    assert!(
        before.contains(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=2.16,CAN-SKIP-UNTIL=6\n"
        ),
        "{before}"
    );
    assert_eq!(segments(&before).len(), 4);

    // The fifth segment, number 4: half of it.
    let first_part = live.ask("video.m3u8?_HLS_msn=4&_HLS_part=0");
    let whole = live.ask("video.m3u8?_HLS_msn=4");
    live.send(0, FIRST_PART);
    let (status, body, _) = first_part.join().unwrap();
    let arriving = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{arriving}");
    let parts = lines(&arriving, "#EXT-X-PART:");
    let newest = *parts.last().unwrap();
    assert!(newest.starts_with("#EXT-X-PART:DURATION=0.52,"), "{newest}");
    assert!(newest.ends_with(",INDEPENDENT=YES"), "{newest}");
    assert_eq!(segments(&arriving).len(), 4, "its segment is not listed");
    let hint = quoted(lines(&arriving, "#EXT-X-PRELOAD-HINT:TYPE=PART")[0], "URI").to_owned();
    let first = live.bytes(quoted(newest, "URI"));
    assert_eq!(&first[4..8], b"moof");
    assert!(first.ends_with(&live.frames()[..13].concat()));

    // Both wait: for the part that the hint names, and for the whole segment.
    let hinted = live.ask(&hint);
    thread::sleep(Duration::from_millis(300));
    assert!(!hinted.is_finished() && !whole.is_finished(), "nothing more has arrived");
    live.send(FIRST_PART, FRAMES);
    let frames = live.frames();
    live.end();
    let (status, second, _) = hinted.join().unwrap();
    assert_eq!(status, 200);
    assert!(second.ends_with(&frames[13..].concat()));
    let (status, body, _) = whole.join().unwrap();
    let after = String::from_utf8(body).unwrap();
    assert_eq!((status, segments(&after).len()), (200, 5), "{after}");
    // The segment is its parts, whose names still work.
    assert_eq!(live.bytes(segments(&after)[4]), [&first[..], &second].concat());
    assert_eq!(live.bytes(quoted(newest, "URI")), first);
    assert_eq!(live.bytes(&hint), second);
    let parts: Vec<_> = lines(&after, "#EXT-X-PART:").iter().map(|l| quoted(l, "URI")).collect();
    assert!(parts.ends_with(&[quoted(newest, "URI"), &hint]), "{after}");

    assert_eq!(live.status(&hint.replace(".1.", ".2.")), 404);

    // Between two segments the hint names the first part of the next, which is listed under it.
    let hint = quoted(lines(&after, "#EXT-X-PRELOAD-HINT:TYPE=PART")[0], "URI").to_owned();
    let next = live.ask(&hint);
    thread::sleep(Duration::from_millis(300));
    assert!(!next.is_finished(), "nothing of it has arrived");
    live.send(0, FIRST_PART);
    let (status, next, _) = next.join().unwrap();
    assert_eq!(status, 200);
    assert!(next.ends_with(&live.frames()[..13].concat()));
    let arriving = live.playlist("?_HLS_msn=5&_HLS_part=0");
    assert_eq!(quoted(lines(&arriving, "#EXT-X-PART:").last().unwrap(), "URI"), hint);
    assert_eq!(live.status("after-1.v.m4s"), 404, "no fragment of the session");

    // What nobody may wait for (draft-pantos-hls-rfc8216bis §6.2.5.2), and what nothing comes for.
    for (query, status) in [
        ("_HLS_part=0", 400),
        ("_HLS_msn=x", 400),
        ("_HLS_msn=8", 400),
        ("_HLS_msn=5&_HLS_part=7", 400),
        ("_HLS_msn=2&_HLS_part=77", 200),
        ("_HLS_msn=5", 503),
    ] {
        assert_eq!(live.status(&format!("video.m3u8?{query}")), status, "{query}");
    }
}

#[test]
fn a_player_that_has_the_rest_is_sent_the_end() {
    let mut live = Live::start();
    for _ in 0..8 {
        live.send(0, FRAMES);
        live.end();
    }
    let whole = live.playlist("");
    let delta = live.playlist("?_HLS_skip=YES");
    let skipped = lines(&delta, "#EXT-X-SKIP:SKIPPED-SEGMENTS=");
    // 12 segments of 0.8 s; those that end more than 6 s before the end.
    assert_eq!(skipped, ["#EXT-X-SKIP:SKIPPED-SEGMENTS=4"], "{delta}");
    assert_eq!(segments(&delta), segments(&whole)[4..]);
    assert!(delta.contains("#EXT-X-MAP:"), "{delta}");
    assert!(delta.contains("#EXT-X-MEDIA-SEQUENCE:0\n"), "{delta}");
}

#[test]
fn what_a_lost_connection_cut_short_keeps_its_place() {
    let mut live = Live::start();
    let announced = live.ask("video.m3u8?_HLS_msn=4&_HLS_part=0");
    live.send(0, FIRST_PART);
    let (_, body, _) = announced.join().unwrap();
    let announced = String::from_utf8(body).unwrap();
    let part = quoted(lines(&announced, "#EXT-X-PART:").last().unwrap(), "URI").to_owned();
    let first = live.bytes(&part);

    let cut = live.ask("video.m3u8?_HLS_msn=4");
    live.upload = connect(&live.server, &live.camera);
    // The camera sends again what was not acknowledged, and goes on.
    for _ in 0..3 {
        live.send(0, FRAMES);
        live.end();
    }
    let (status, body, _) = cut.join().unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let begun = Instant::now();
    let after = loop {
        let playlist = live.playlist("");
        if segments(&playlist).len() == 7 {
            break playlist;
        }
        assert!(begun.elapsed() < LIMIT, "{playlist}");
        thread::sleep(Duration::from_millis(50));
    };
    // Number 4 is what there was of it; the rest of its time is a hole.
    assert_eq!(live.bytes(segments(&after)[4]), first);
    assert_eq!(live.bytes(&part), first);
    assert!(after.contains("#EXTINF:0.52,\n"), "{after}");
    assert_eq!(lines(&after, "#EXT-X-DISCONTINUITY").len(), 2, "with its sequence: {after}");
}

#[test]
fn two_hundred_that_wait_are_all_told() {
    let mut live = Live::start();
    let asked: Vec<_> =
        (0..200).map(|_| live.ask("video.m3u8?_HLS_msn=4&_HLS_part=0&_HLS_skip=YES")).collect();
    // They have to be waiting, or they are told at once; either way all are answered.
    thread::sleep(Duration::from_millis(500));
    assert!(asked.iter().all(|asked| !asked.is_finished()), "nothing has arrived");
    let sent = Instant::now();
    live.send(0, FIRST_PART);
    let mut slowest = Duration::ZERO;
    for asked in asked {
        let (status, body, at) = asked.join().unwrap();
        assert_eq!(status, 200);
        let playlist = String::from_utf8(body).unwrap();
        assert!(playlist.contains("#EXT-X-PRELOAD-HINT:"), "{playlist}");
        slowest = slowest.max(at.saturating_duration_since(sent));
    }
    println!("200 readers: the last one was told {} ms after", slowest.as_millis());
    assert!(slowest < LIMIT, "{slowest:?}");
}
