//! Media that lies in Kinesis Video Streams and is made here, as players fetch it: statuses, types and
//! headers. DynamoDB is moto, and a second server of ours is Kinesis.

use crate::both_backends::OnAws;
use crate::camera::{self, Registered, Upload};
use crate::footage::{self, FRAGMENT_MS, an_hour_ago, rfc3339};
use crate::server::{Answer, Server};
use bytes::Bytes;
use lookback_wire::matroska::writer;
use lookback_wire::{Track, UploadHeader};
use serde_json::{Value, json};

/// H.265 of 1920 x 1080 pixels, as x265 describes it.
const HVCC: &str = "01016000000090000000000078f000fcfdf8f800000f03200001001840010c01ffff01600000030090\
    0000030000030078959809210001002a420101016000000300900000030000030078a003c08010e596566924caf016808\
    0000003000000c8422000100074401c172b46240";
/// Fragments of each of three settings.
const EACH: u64 = 3;

/// Pictures of 320 x 180 pixels, the same by another level of H.264, and H.265.
fn settings() -> [UploadHeader; 3] {
    let plain = camera::header();
    let of = |change: &dyn Fn(&mut Track)| {
        let mut header = plain.clone();
        header.tracks.iter_mut().for_each(change);
        header
    };
    let level = of(&|track| {
        let mut record = track.codec_private.to_vec();
        record[3] = 13;
        track.codec_private = record.into();
    });
    let h265 = of(&|track| {
        let hex = |n: usize| u8::from_str_radix(&HVCC[2 * n..2 * n + 2], 16).unwrap();
        track.codec_id = "V_MPEGH/ISO/HEVC".into();
        track.codec_private = (0..HVCC.len() / 2).map(hex).collect::<Vec<u8>>().into();
    });
    [plain.clone(), level, h265]
}

/// A camera of the service whose footage of all three settings lies over there, one after the other.
fn recorded(aws: &OnAws, start_ms: u64) -> Registered {
    let camera = camera::register(&aws.server, "door");
    let token = aws.kinesis.token(&["--role", "admin"]);
    let mut n = 0;
    for header in settings() {
        let address = aws.kinesis.address;
        let mut upload = Upload::open(address, &token, &camera.media_stream, &[]).unwrap();
        upload.send(&writer::header(&header)).unwrap();
        for _ in 0..EACH {
            footage::persist(&mut upload, start_ms + n * FRAGMENT_MS, n).unwrap();
            n += 1;
        }
        upload.finish().unwrap();
    }
    let segment = |n: u64, fragments: u64, codecs: &str| {
        let from_ms = start_ms + n * FRAGMENT_MS;
        json!({
            "clientSegmentId": n.to_string(),
            "start": rfc3339(from_ms),
            "end": rfc3339(from_ms + fragments * FRAGMENT_MS),
            "codecs": codecs,
        })
    };
    let segments =
        [segment(0, 2 * EACH, "avc1.42c00c"), segment(2 * EACH, EACH, "hvc1.1.6.L120.90")];
    let query = "mutation($segments: [SegmentInput!]!, $now: DateTime!) {
        ingestSegments(input: { sentAt: $now, segments: $segments }) { results { status } } }";
    let now = rfc3339(an_hour_ago() + 3_600_000);
    let variables = json!({ "segments": segments, "now": now });
    let told = aws.server.graphql(Some(&camera.token), query, variables);
    let stored = json!([{ "status": "STORED" }, { "status": "STORED" }]);
    assert_eq!(told["data"]["ingestSegments"]["results"], stored, "{told}");
    camera
}

/// What a viewer is answered who asks for a session.
fn session(
    server: &Server,
    camera: &Registered,
    protocol: &str,
    start_ms: u64,
    fragments: u64,
) -> Value {
    let query = "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
        ... on PlaybackSession { url codecs } ... on MediaUnavailable { code nearest { start end } }
    } }";
    let input = json!({
        "streamId": camera.stream,
        "protocol": protocol,
        "start": rfc3339(start_ms),
        "end": rfc3339(start_ms + fragments * FRAGMENT_MS),
        "fileName": "front door",
    });
    let viewer = server.token(&["--role", "viewer"]);
    let answer = server.graphql(Some(&viewer), query, json!({ "input": input }));
    answer["data"]["playbackSession"].clone()
}

/// The path of a URL of the server, up to its last part, and that.
fn place(server: &Server, session: &Value) -> (String, String) {
    let url = session["url"].as_str().unwrap_or_else(|| panic!("no url in {session}"));
    let path = url.strip_prefix(&server.url()).unwrap_or_else(|| panic!("{url} is elsewhere"));
    let (folder, name) = path.rsplit_once('/').unwrap();
    (folder.to_owned(), name.to_owned())
}

fn check(answer: &Answer, status: u16, content_type: &str, cache: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some(content_type), "{answer:?}");
    let cached = answer.header("cache-control").unwrap();
    assert!(cached.contains(cache), "{cached}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{answer:?}");
}

#[test]
fn media_of_kinesis_as_players_fetch_it() {
    let aws = OnAws::start();
    let server = &aws.server;
    let start_ms = an_hour_ago();
    let camera = recorded(&aws, start_ms);
    let get = |path: &str| server.get(path, &[]);

    // Ours, since the codec changes.
    let whole = session(server, &camera, "HLS", start_ms, 3 * EACH);
    assert_eq!(whole["codecs"], "avc1.42c00c,avc1.42c00d,hvc1.1.6.L120.90");
    let (folder, main) = place(server, &whole);
    assert_eq!((&folder[..10], &main[..]), ("/hls/v1/s/", "main.m3u8"));
    let main = get(&format!("{folder}/{main}"));
    check(&main, 200, "application/vnd.apple.mpegurl", "immutable");
    assert!(main.text().contains("avc1.42c00c,avc1.42c00d,hvc1.1.6.L120.90"), "{}", main.text());
    let playlist = get(&format!("{folder}/video.m3u8"));
    check(&playlist, 200, "application/vnd.apple.mpegurl", "immutable");
    let playlist = playlist.text();
    let maps: Vec<&str> = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"'))
        .collect();
    let names: Vec<&str> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
    let breaks = playlist.matches("#EXT-X-DISCONTINUITY\n").count();
    assert_eq!((names.len() as u64, maps.len(), breaks), (3 * EACH, 3, 2), "{playlist}");
    for map in maps {
        let init = get(&format!("{folder}/{map}"));
        check(&init, 200, "video/mp4", "immutable");
        assert_eq!(&init.body[4..8], b"ftyp");
    }
    for (name, seed) in names.iter().zip(0..) {
        let segment = get(&format!("{folder}/{name}"));
        check(&segment, 200, "video/iso.segment", "immutable");
        assert!(footage::is_of(&segment.body, seed), "{name}");
    }
    let first = format!("{folder}/{}", names[0]);
    let part = server.get(&first, &[("range", "bytes=4-7")]);
    check(&part, 206, "video/iso.segment", "immutable");
    assert_eq!(part.body, b"moof");
    let head = server.request("HEAD", &first, &[], b"");
    check(&head, 200, "video/iso.segment", "immutable");
    for name in ["0.m4s", "99999.ts", "x.m4s", "audio.m3u8", "7.mp4", "", "-1.init.mp4"] {
        let path = format!("{folder}/{name}");
        check(&get(&path), 404, "text/plain; charset=utf-8", "no-store");
    }
    let ruined = format!("{}x/video.m3u8", folder);
    check(&get(&ruined), 403, "text/plain; charset=utf-8", "no-store");

    // A file that is written while it is read, since the level changes.
    let two = session(server, &camera, "MP4", start_ms, 2 * EACH);
    assert_eq!(two["codecs"], "avc1.42c00c,avc1.42c00d");
    let (two_folder, name) = place(server, &two);
    let path = format!("{two_folder}/{name}");
    let file = get(&path);
    check(&file, 200, "video/mp4", "no-store");
    assert_eq!(file.header("accept-ranges"), Some("none"));
    assert_eq!(file.header("content-length"), None);
    let disposition = file.header("content-disposition").unwrap();
    assert!(disposition.contains("front door.mp4"), "{disposition}");
    let mut rest = &file.body[..];
    for frame in (0..2 * EACH).flat_map(|n| camera::frames(n, 20, 2_000)) {
        rest = after(rest, &frame);
    }
    let head = server.request("HEAD", &path, &[], b"");
    check(&head, 200, "video/mp4", "no-store");
    check(&get(&format!("{two_folder}/front")), 404, "text/plain; charset=utf-8", "no-store");
    let ruined = format!("{two_folder}x/{name}");
    check(&get(&ruined), 403, "text/plain; charset=utf-8", "no-store");

    // Its token opens the same span by other ways, and nothing beyond it.
    let folder = two_folder.replace("/mp4/", "/hls/");
    let transport = get(&format!("{folder}/ts.m3u8"));
    check(&transport, 200, "application/vnd.apple.mpegurl", "immutable");
    let name = transport.text().lines().find(|line| line.ends_with(".ts")).unwrap().to_owned();
    let segment = get(&format!("{folder}/{name}"));
    check(&segment, 200, "video/mp2t", "immutable");
    assert!(segment.body.len().is_multiple_of(188) && segment.body[0] == 0x47);
    let beyond = format!("{folder}/{}", names[names.len() - 1]);
    check(&get(&beyond), 403, "text/plain; charset=utf-8", "no-store");

    // One that Kinesis made, of a length that is known.
    let one = session(server, &camera, "MP4", start_ms, EACH);
    let (folder, name) = place(server, &one);
    let clip = get(&format!("{folder}/{name}"));
    check(&clip, 200, "video/mp4", "no-store");
    assert_eq!(clip.header("content-length"), Some(clip.body.len().to_string().as_str()));

    let until = |fragments: u64| rfc3339(start_ms + fragments * FRAGMENT_MS);
    for protocol in ["MP4", "DASH"] {
        let refused = session(server, &camera, protocol, start_ms, 3 * EACH);
        assert_eq!(refused["code"], "MIXED_CODECS", "{protocol}: {refused}");
        let changes_at = if protocol == "MP4" { 2 * EACH } else { EACH };
        let end = refused["nearest"]["end"].as_str().unwrap();
        assert_eq!(end.parse::<chrono::DateTime<chrono::Utc>>(), until(changes_at).parse());
    }
}

/// What follows a frame.
fn after<'a>(bytes: &'a [u8], frame: &Bytes) -> &'a [u8] {
    let place = bytes.windows(frame.len()).position(|window| window == &frame[..]);
    &bytes[place.unwrap_or_else(|| panic!("a frame is missing")) + frame.len()..]
}
