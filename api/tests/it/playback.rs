//! Playback over HTTP: what a session lists and opens, and what it does not.

use crate::camera::{self, Registered, Upload};
use crate::server::Server;
use lookback_api::account::UserChange;
use lookback_api::storage::embedded;
use lookback_wire::matroska::writer;
use serde_json::{Value, json};
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const FRAGMENT_MS: u64 = 800;

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn rfc3339(ms: u64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

pub fn at_ms(time: &Value) -> u64 {
    let time = chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
    time.timestamp_millis() as u64
}

/// Uploads fragments that begin at these times, and waits until they are kept.
pub fn upload(server: &Server, camera: &Registered, starts: impl IntoIterator<Item = u64>) {
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    upload.send(&writer::header(&camera::header())).unwrap();
    for at_ms in starts {
        upload.send(&camera::fragment(at_ms, &camera::frames(at_ms, 20, 500))).unwrap();
        upload.send(&camera::end_of_fragment()).unwrap();
        upload.persisted(at_ms).unwrap();
    }
    upload.finish().unwrap();
}

/// What `playbackSession` answers to `input`, asked by whoever holds `token`.
pub fn ask(server: &Server, token: &str, camera: &Registered, input: Value) -> Value {
    let mut input = input;
    input["streamId"] = json!(camera.stream);
    let answer = server.post_json(
        "/graphql",
        &[("authorization", &format!("Bearer {token}"))],
        &json!({
            "query": "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
                ... on PlaybackSession {
                    url mimeType expiresAt range { start end } startOffsetSeconds codecs
                    gaps { range { start end } } }
                ... on MediaUnavailable { code nearest { start end } } } }",
            "variables": { "input": input },
        }),
    );
    let answer = answer.json();
    let session = answer["data"]["playbackSession"].clone();
    assert!(session.is_object(), "{answer}");
    session
}

pub fn of_range(start_ms: u64, end_ms: u64) -> Value {
    json!({ "start": rfc3339(start_ms), "end": rfc3339(end_ms) })
}

/// The path of a session.
pub fn path(server: &Server, session: &Value) -> String {
    let url = session["url"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
    url.strip_prefix(&server.url()).unwrap().to_owned()
}

/// The path of a session, without its last part.
fn folder(server: &Server, session: &Value) -> String {
    path(server, session).rsplit_once('/').unwrap().0.to_owned()
}

fn playlist(server: &Server, folder: &str) -> String {
    let answer = server.get(&format!("{folder}/video.m3u8"), &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#')).collect()
}

/// When each fragment begins that a session over the range plays.
pub fn starts(server: &Server, camera: &Registered, start_ms: u64, end_ms: u64) -> Vec<u64> {
    let viewer = server.token(&["--role", "viewer"]);
    let session = ask(server, &viewer, camera, of_range(start_ms, end_ms));
    let text = playlist(server, &folder(server, &session));
    segments(&text).iter().map(|name| name.split('-').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_range_is_widened_to_fragments_and_tells_its_gaps() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    let after_gap_ms = start_ms + 40_000;
    let at = |base: u64| (0..5).map(move |n| base + n * FRAGMENT_MS);
    upload(&server, &camera, at(start_ms).chain(at(after_gap_ms)));

    let session = ask(&server, &viewer, &camera, of_range(start_ms + 1_000, after_gap_ms + 1_000));
    let run_ms = 5 * FRAGMENT_MS;
    assert_eq!(
        session["range"],
        json!({ "start": rfc3339(start_ms + 800), "end": rfc3339(after_gap_ms + 1_600) })
    );
    assert_eq!(session["startOffsetSeconds"], json!(0.2));
    assert_eq!(session["codecs"], json!("avc1.42c00c"));
    assert_eq!(session["mimeType"], json!("application/vnd.apple.mpegurl"));
    assert_eq!(session["gaps"], json!([{ "range": of_range(start_ms + run_ms, after_gap_ms) }]));
    let text = playlist(&server, &folder(&server, &session));
    assert_eq!(segments(&text).len(), 4 + 2);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert_eq!(text.matches("#EXT-X-PROGRAM-DATE-TIME:").count(), 2);
    assert!(text.contains("#EXT-X-START:TIME-OFFSET=0.200,PRECISE=YES\n"));
    assert!(text.ends_with("#EXT-X-ENDLIST\n"));

    let none = ask(&server, &viewer, &camera, of_range(start_ms + 10_000, start_ms + 20_000));
    assert_eq!(none["code"], json!("NO_MEDIA"));
    assert_eq!(none["nearest"], of_range(start_ms, start_ms + run_ms));
    let long = ask(&server, &viewer, &camera, of_range(start_ms - 86_400_000, start_ms + 1));
    assert_eq!(long["code"], json!("RANGE_TOO_LONG"));
    let not_live = camera::register(&server, "idle");
    let none = ask(&server, &viewer, &not_live, json!({ "mode": "LIVE" }));
    assert_eq!(none["code"], json!("NO_MEDIA"));
}

#[test]
fn files_are_served_as_players_want_them() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    upload(&server, &camera, (0..30).map(|n| start_ms + n * FRAGMENT_MS));
    let session = ask(&server, &viewer, &camera, of_range(start_ms, start_ms + 60_000));
    let folder = folder(&server, &session);

    let main = server.get(&format!("{folder}/main.m3u8"), &[]);
    assert_eq!(main.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert!(main.text().contains("RESOLUTION=320x180"), "{}", main.text());

    let plain = playlist(&server, &folder);
    let packed = server.get(&format!("{folder}/video.m3u8"), &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);

    let path = format!("{folder}/{}", segments(&plain)[3]);
    let whole = server.get(&path, &[]);
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("access-control-allow-origin"), Some("*"));
    assert_eq!(whole.header("referrer-policy"), Some("no-referrer"));
    let cache = whole.header("cache-control").unwrap();
    assert!(cache.starts_with("private, max-age=") && cache.ends_with(", immutable"), "{cache}");
    let sent = camera::frames(start_ms + 3 * FRAGMENT_MS, 20, 500);
    // Of its two chunks the second.
    assert!(whole.body.ends_with(&sent[13..].concat()));

    let part = server.get(&path, &[("range", "bytes=4-7")]);
    assert_eq!((part.status, &part.body[..]), (206, &b"moof"[..]));
    let len = whole.body.len();
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 4-7/{len}")));
    assert_eq!(server.get(&path, &[("range", "bytes=99999999-")]).status, 416);
    let head = server.request("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*len.to_string()));
    assert_eq!(server.request("OPTIONS", &path, &[], b"").status, 204);
    assert_eq!(server.request("POST", &path, &[], b"").status, 405);
    assert_eq!(server.get(&format!("{folder}/other.txt"), &[]).status, 404);
}

#[test]
fn a_token_opens_its_span_of_its_stream_and_no_more() {
    let server = Server::start();
    let cameras = ["one", "two"].map(|name| camera::register(&server, name));
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    let folders = cameras.each_ref().map(|camera| {
        upload(&server, camera, (0..10).map(|n| start_ms + n * FRAGMENT_MS));
        let all = ask(&server, &viewer, camera, of_range(start_ms, start_ms + 60_000));
        folder(&server, &all)
    });
    let lists = folders.each_ref().map(|folder| playlist(&server, folder));
    let status = |folder: &str, name: &str| server.get(&format!("{folder}/{name}"), &[]).status;
    assert_eq!(status(&folders[0], segments(&lists[0])[0]), 200);
    assert_eq!(status(&folders[0], segments(&lists[1])[0]), 403);
    assert_eq!(status(&folders[1], segments(&lists[0])[0]), 403);

    let narrow = ask(&server, &viewer, &cameras[0], of_range(start_ms, start_ms + 1_000));
    let narrow = folder(&server, &narrow);
    let opened: Vec<u16> = segments(&lists[0]).iter().map(|name| status(&narrow, name)).collect();
    assert_eq!(opened[..2], [200, 200]);
    assert!(opened[2..].iter().all(|&status| status == 403), "{opened:?}");

    let token = narrow.rsplit('/').next().unwrap();
    for i in 0..token.len() {
        let other = if token.as_bytes()[i] == b'A' { "B" } else { "A" };
        let changed = format!("{}{other}{}", &token[..i], &token[i + 1..]);
        assert_eq!(status(&format!("/hls/v1/s/{changed}"), "video.m3u8"), 403, "at {i}");
    }
    for made_up in ["x", "%00", &"A".repeat(5_000)] {
        assert_eq!(status(&format!("/hls/v1/s/{made_up}"), "main.m3u8"), 403);
    }
}

#[test]
fn a_session_ends_by_its_expiry() {
    let data_dir = TempDir::new().unwrap();
    let config = data_dir.path().join("config.toml");
    std::fs::write(&config, "[playback]\nmax_session_seconds = 2\n").unwrap();
    let server = Server::start_with(&["--config", config.to_str().unwrap()], data_dir);
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    upload(&server, &camera, [start_ms]);
    let session = ask(&server, &viewer, &camera, of_range(start_ms, start_ms + 1_000));
    let path = format!("{}/video.m3u8", folder(&server, &session));
    assert_eq!(server.get(&path, &[]).status, 200);
    ends(&server, &path, Duration::from_secs(3));
}

#[tokio::test]
async fn a_session_ends_with_its_user() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 600_000;
    upload(&server, &camera, [start_ms]);
    let user = server.add_user("eve", "correct horse battery", &["--role", "viewer"]);
    let login = server.post_json(
        "/auth/login",
        &[],
        &json!({ "name": "eve", "password": "correct horse battery" }),
    );
    let token = login.json()["accessToken"].as_str().unwrap().to_owned();
    let session = ask(&server, &token, &camera, of_range(start_ms, start_ms + 1_000));
    let path = format!("{}/video.m3u8", folder(&server, &session));
    assert_eq!(server.get(&path, &[]).status, 200);

    disable(&server, &user).await;
    ends(&server, &path, Duration::from_secs(5));
}

/// Disables a user beside the running server.
pub async fn disable(server: &Server, user: &str) {
    let catalog = embedded::open_catalog(server.data_dir()).unwrap();
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    catalog.change_user(user.parse().unwrap(), change).await.unwrap();
}

/// Waits until the file is refused, which has to be within `limit`.
pub fn ends(server: &Server, path: &str, limit: Duration) {
    let begun = Instant::now();
    while server.get(path, &[]).status == 200 {
        assert!(begun.elapsed() < limit, "still open after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get(path, &[]).status, 403);
}

#[test]
fn live_only_appends() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 50_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    upload(&server, &camera, (0..5).map(at));
    let session = ask(&server, &viewer, &camera, json!({ "mode": "LIVE" }));
    assert_eq!(session["range"], Value::Null);
    let folder = folder(&server, &session);
    let first = playlist(&server, &folder);
    assert_eq!(segments(&first).len(), 5);
    assert!(first.contains("#EXT-X-TARGETDURATION:1\n"), "{first}");
    assert!(!first.contains("ENDLIST"), "{first}");

    // A hole, then what was missing in it: the hole stays.
    upload(&server, &camera, [at(8), at(9)]);
    let second = playlist(&server, &folder);
    upload(&server, &camera, [at(5), at(6), at(7), at(10)]);
    let third = playlist(&server, &folder);
    assert_eq!(second.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    let whole = |text: &str| -> String {
        let of_parts = ["#EXT-X-PART:", "#EXT-X-PRELOAD-HINT:", "# between two segments"];
        let is_whole = |line: &&str| !of_parts.iter().any(|tag| line.starts_with(tag));
        text.lines().filter(is_whole).map(|line| format!("{line}\n")).collect()
    };
    assert!(whole(&second).starts_with(&whole(&first)));
    assert!(whole(&third).starts_with(&whole(&second)));
    assert_eq!(segments(&third).len(), 8);
    // Another process makes the same window.
    let mut server = server;
    let port = server.address;
    server.signal("TERM");
    assert!(server.ended().success());
    let data_dir = server.kill();
    let server = Server::start_at(port, &[], data_dir);
    assert_eq!(whole(&playlist(&server, &folder)), whole(&third));

    // It slides, and counts what left.
    upload(&server, &camera, (11..55).map(at));
    let slid = playlist(&server, &folder);
    let sequence: usize = slid
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"))
        .and_then(|number| number.parse().ok())
        .unwrap();
    assert_eq!(sequence + segments(&slid).len(), 8 + 44);
    assert!(slid.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{slid}");
}

#[test]
fn a_live_replay_grows_from_a_point_in_the_past() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 50_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    upload(&server, &camera, (0..5).chain(8..10).map(at));
    let input = json!({ "mode": "LIVE_REPLAY", "start": rfc3339(at(1) + 200) });
    let session = ask(&server, &viewer, &camera, input);
    assert_eq!(session["range"], of_range(at(1), at(10)));
    assert_eq!(session["startOffsetSeconds"], json!(0.2));
    let folder = folder(&server, &session);
    let first = playlist(&server, &folder);
    assert_eq!(segments(&first).len(), 4 + 2);
    assert!(first.contains("#EXT-X-PLAYLIST-TYPE:EVENT\n"), "{first}");
    assert!(first.contains("#EXT-X-START:TIME-OFFSET=0.200,PRECISE=YES\n"), "{first}");
    assert!(!first.contains("ENDLIST"), "{first}");

    // What lies before its end is left out.
    upload(&server, &camera, [at(5), at(10), at(11)]);
    let second = playlist(&server, &folder);
    assert!(second.starts_with(&first));
    assert_eq!(segments(&second).len(), 6 + 2);
    for name in segments(&second) {
        assert_eq!(server.get(&format!("{folder}/{name}"), &[]).status, 200, "{name}");
    }
    let before = segments(&second)[0].replace(&at(1).to_string(), &at(0).to_string());
    assert_eq!(server.get(&format!("{folder}/{before}"), &[]).status, 403);
}

#[test]
fn a_long_span_is_listed_in_longer_segments() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 8 * 3_600_000;
    let end_ms = start_ms + 7 * 3_600_000;
    upload(&server, &camera, (0..10).map(|n| start_ms + n * FRAGMENT_MS).chain([end_ms]));
    let short = ask(&server, &viewer, &camera, of_range(start_ms, start_ms + 10_000));
    let long = ask(&server, &viewer, &camera, of_range(start_ms, end_ms + 1));
    let [short, long] = [&short, &long].map(|session| folder(&server, session));
    let (each, joined) = (playlist(&server, &short), playlist(&server, &long));
    assert_eq!(segments(&joined).len(), 3, "{joined}");
    assert!(joined.contains("#EXT-X-TARGETDURATION:6\n"), "{joined}");
    let bytes = |folder: &str, names: &[&str]| {
        let body = |name: &&str| server.get(&format!("{folder}/{name}"), &[]).body;
        names.iter().flat_map(body).collect::<Vec<u8>>()
    };
    assert!(bytes(&short, &segments(&each)) == bytes(&long, &segments(&joined)[..2]));
    let more = segments(&joined)[0].replace("-8.v", "-11.v");
    assert_eq!(server.get(&format!("{long}/{more}"), &[]).status, 404);
}

#[test]
fn a_manifest_names_the_segments_of_hls() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 50_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    upload(&server, &camera, (0..5).chain(15..20).map(at));
    let of = |protocol: &str, input: Value| {
        let mut input = input;
        input["protocol"] = json!(protocol);
        ask(&server, &viewer, &camera, input)
    };
    let path = |session: &Value| {
        let url = session["url"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
        url.strip_prefix(&server.url()).unwrap().to_owned()
    };
    let span = of_range(at(1) + 300, at(16));
    let finished = of("DASH", span.clone());
    assert_eq!(finished["mimeType"], json!("application/dash+xml"));
    assert_eq!(finished["startOffsetSeconds"], json!(0.3));
    let answer = server.get(&path(&finished), &[]);
    assert_eq!(answer.header("content-type"), Some("application/dash+xml"));
    assert!(answer.header("cache-control").unwrap().ends_with("immutable"));
    let text = answer.text().to_owned();
    assert_eq!(text.matches("<Period ").count(), 2, "{text}");
    assert!(text.contains("mediaPresentationDuration=\"PT4.002S\""), "{text}");
    let attributes = |name: &str| {
        let before = format!(" {name}=\"");
        let values = text.split(&before).skip(1);
        values.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let hls = playlist(&server, &folder(&server, &of("HLS", span)));
    assert_eq!(attributes("media"), segments(&hls));
    let base = text.split("<BaseURL>").nth(1).unwrap().split('<').next().unwrap();
    let media = base.strip_prefix("../../../../").unwrap();
    for name in attributes("media").iter().chain(&attributes("sourceURL")) {
        assert_eq!(server.get(&format!("/{media}{name}"), &[]).status, 200, "{name}");
    }
    assert_eq!(server.get(&path(&finished).replace("manifest", "other"), &[]).status, 404);

    let replay = json!({ "mode": "LIVE_REPLAY", "start": rfc3339(at(0)) });
    for (input, next) in [(json!({ "mode": "LIVE" }), at(30)), (replay, at(40))] {
        let session = of("DASH", input);
        let first = server.get(&path(&session), &[]);
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let first = first.text().to_owned();
        assert!(first.contains("type=\"dynamic\"") && first.contains("<UTCTiming "), "{first}");
        upload(&server, &camera, [next]);
        let second = server.get(&path(&session), &[]).text().to_owned();
        assert!(second.contains(&format!("media=\"{next}-")), "{second}");
        let begins =
            |text: &str| text.split("availabilityStartTime=\"").nth(1).unwrap()[..24].to_owned();
        assert_eq!(begins(&first), begins(&second));
    }
}
