//! Playback through the Kinesis API: sessions, their playlists and fragments, and images.

use crate::camera::{self, Registered, Upload};
use crate::playback::{disable, ends};
use crate::recording::{check_same, packets};
use crate::sdk::{admin_keys, archived_client};
use crate::server::{Answer, Server};
use aws_sdk_kinesisvideo::error::ProvideErrorMetadata;
use lookback_wire::matroska::writer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const FRAGMENT_MS: u64 = 800;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn seconds(ms: u64) -> Value {
    json!(ms as f64 / 1_000.0)
}

/// A recording that was streamed as a camera does, and when it begins and ends on the timeline.
struct Sent {
    file: PathBuf,
    media_stream: String,
    start_ms: u64,
    end_ms: u64,
}

/// Encodes test pictures and a tone, and streams them as a device of that name.
fn send(server: &Server, folder: &Path, device: &str, suffix: &str, encode: &[&str]) -> Sent {
    let file = folder.join(format!("{device}.{suffix}"));
    camera::record(server, &file, device, "640x360", encode);
    let viewer = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let body = json!({
        "query": "query($ref: DeviceRef!) { device(ref: $ref) { stream { mediaStreamName earliest latest } } }",
        "variables": { "ref": { "externalId": device } },
    });
    let found = server.post_json("/graphql", &[("authorization", &viewer)], &body).json();
    let stream = &found["data"]["device"]["stream"];
    let millis = |time: &Value| {
        let time = chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        time.timestamp_millis() as u64
    };
    Sent {
        file,
        media_stream: stream["mediaStreamName"].as_str().unwrap().to_owned(),
        start_ms: millis(&stream["earliest"]),
        end_ms: millis(&stream["latest"]),
    }
}

fn call(server: &Server, path: &str, input: Value) -> Answer {
    let admin = format!("Bearer {}", server.token(&["--role", "admin"]));
    server.post_json(path, &[("authorization", &admin)], &input)
}

/// The URL of a session.
fn session(server: &Server, input: Value) -> String {
    let answer = call(server, "/getHLSStreamingSessionURL", input);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["HLSStreamingSessionURL"].as_str().unwrap().to_owned()
}

/// The same for DASH; `input` is one for HLS.
fn dash_session(server: &Server, mut input: Value) -> String {
    let selector = input.as_object_mut().unwrap().remove("HLSFragmentSelector");
    input["DASHFragmentSelector"] = selector.unwrap_or_default();
    let answer = call(server, "/getDASHStreamingSessionURL", input);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["DASHStreamingSessionURL"].as_str().unwrap().to_owned()
}

fn clip_of(media_stream: &str, kind: &str, start_ms: u64, end_ms: u64) -> Value {
    json!({
        "StreamName": media_stream,
        "ClipFragmentSelector": {
            "FragmentSelectorType": kind,
            "TimestampRange": { "StartTimestamp": seconds(start_ms), "EndTimestamp": seconds(end_ms) },
        },
    })
}

fn on_demand(media_stream: &str, kind: &str, start_ms: u64, end_ms: u64) -> Value {
    json!({
        "StreamName": media_stream,
        "PlaybackMode": "ON_DEMAND",
        "HLSFragmentSelector": {
            "FragmentSelectorType": kind,
            "TimestampRange": { "StartTimestamp": seconds(start_ms), "EndTimestamp": seconds(end_ms) },
        },
    })
}

fn get(server: &Server, url: &str) -> Answer {
    let path = url.strip_prefix(&server.url()).unwrap_or(url);
    server.get(path, &[])
}

/// A session's media playlist of its first track.
fn playlist(server: &Server, url: &str) -> String {
    let answer =
        get(server, &url.replace("MasterPlaylist.m3u8?", "MediaPlaylist.m3u8?TrackNumber=1&"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    answer.text().to_owned()
}

/// The numbers of the fragments that a playlist lists.
fn numbers(playlist: &str) -> Vec<u64> {
    let number = |line: &str| line.split_once("FragmentNumber=")?.1.split('&').next()?.parse().ok();
    playlist.lines().filter_map(number).collect()
}

/// The digests of a file's pictures as they are shown.
fn decoded(input: &str) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", input, "-map", "0:v", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.filter_map(|line| line.rsplit_once(',')).map(|(_, md5)| md5.trim().to_owned()).collect()
}

/// Checks the error's status and name.
fn check_refused(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("x-amzn-errortype"), Some(name), "{answer:?}");
    assert!(answer.json()["Message"].is_string(), "{answer:?}");
}

#[test]
fn a_recording_plays_as_kinesis_would_play_it() {
    let (server, work) = (Server::start(), TempDir::new().unwrap());
    let begun_ms = now_ms();
    let codecs = ["-c:v", "libx264", "-bf", "2", "-c:a", "aac"];
    let sent = send(&server, work.path(), "av", "mp4", &codecs);
    let packets_sent = packets(&sent.file.display().to_string());

    let whole = on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", sent.start_ms, sent.end_ms);
    let url = session(&server, whole.clone());
    assert!(url.contains("/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken="), "{url}");
    assert!(url.ends_with('~'), "{url}");
    check_same("by producer's time", &packets_sent, &packets(&url));

    let master = get(&server, &url);
    let token = url.split_once('=').unwrap().1;
    let master = master.text().replace(token, "T");
    let (head, tail) = master.split_once("BANDWIDTH=").unwrap();
    let expected = "#EXTM3U\n#EXT-X-VERSION:1\n#EXT-X-MEDIA:AUTOSELECT=YES,TYPE=AUDIO,\
        URI=\"getHLSMediaPlaylist.m3u8?SessionToken=T&TrackNumber=2\",GROUP-ID=\"audio\",DEFAULT=NO,\
        NAME=\"audio\"\n#EXT-X-STREAM-INF:CODECS=\"avc1.";
    assert!(head.starts_with(expected), "{head}");
    assert!(head.ends_with(",mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=25,"), "{head}");
    let expected = ",AUDIO=\"audio\"\ngetHLSMediaPlaylist.m3u8?SessionToken=T&TrackNumber=1\n";
    assert!(tail.ends_with(expected), "{tail}");

    let text = playlist(&server, &url);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 0, "{text}");
    assert_eq!(text.matches("#EXT-X-MAP:").count(), 1, "{text}");
    assert!(!text.contains("DATE-TIME"), "{text}");
    let all = numbers(&text);
    assert_eq!(all.len(), 10, "{text}");

    // A fragment that begins before the range is left out, one that begins at its end is not.
    for (from_ms, to_ms, expected) in [
        (0, 4_000, &all[..3]),
        (1, 4_000, &all[1..3]),
        (1, 3_999, &all[1..2]),
        (18_001, 60_000, &[]),
    ] {
        let (start_ms, end_ms) = (sent.start_ms + from_ms, sent.start_ms + to_ms);
        let input = on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", start_ms, end_ms);
        if expected.is_empty() {
            let answer = call(&server, "/getHLSStreamingSessionURL", input);
            check_refused(&answer, 404, "ResourceNotFoundException");
            continue;
        }
        assert_eq!(numbers(&playlist(&server, &session(&server, input))), expected, "{from_ms}");
    }
    let mut few = whole.clone();
    few["MaxMediaPlaylistFragmentResults"] = json!(2);
    assert_eq!(numbers(&playlist(&server, &session(&server, few))), &all[..2]);

    let mut by_arrival = on_demand(&sent.media_stream, "SERVER_TIMESTAMP", begun_ms, now_ms() - 1);
    by_arrival["DisplayFragmentTimestamp"] = json!("ALWAYS");
    let url = session(&server, by_arrival);
    let text = playlist(&server, &url);
    assert_eq!(numbers(&text), all);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), all.len() + 1, "{text}");
    assert_eq!(text.matches("#EXT-X-PROGRAM-DATE-TIME:").count(), all.len(), "{text}");
    assert!(text.ends_with("#EXT-X-DISCONTINUITY\n#EXT-X-ENDLIST\n"), "{text}");
    check_same("by arrival", &packets_sent, &packets(&url));

    let mut in_ts = on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", sent.start_ms, sent.end_ms);
    in_ts["ContainerFormat"] = json!("MPEG_TS");
    let url = session(&server, in_ts);
    assert!(!get(&server, &url).text().contains("EXT-X-MEDIA"));
    let text = playlist(&server, &url);
    assert!(!text.contains("EXT-X-MAP") && text.contains("#EXT-X-VERSION:3\n"), "{text}");
    assert_eq!(numbers(&text), all);
    let parts = text.lines().filter(|line| !line.starts_with('#')).map(|file| {
        let answer = get(&server, &format!("/hls/v1/{file}"));
        assert_eq!(answer.header("content-type"), Some("video/mp2t"), "{answer:?}");
        answer.body
    });
    let file = work.path().join("all.ts");
    std::fs::write(&file, parts.collect::<Vec<_>>().concat()).unwrap();
    let shown = decoded(&file.display().to_string());
    assert_eq!(shown, decoded(&sent.file.display().to_string()), "pictures in MPEG-TS");

    let mut in_dash =
        on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", sent.start_ms, sent.end_ms);
    in_dash["DisplayFragmentTimestamp"] = json!("ALWAYS");
    in_dash["DisplayFragmentNumber"] = json!("ALWAYS");
    let url = dash_session(&server, in_dash);
    assert!(
        url.contains("/dash/v1/getDASHManifest.mpd?SessionToken=") && url.ends_with('~'),
        "{url}"
    );
    let manifest = get(&server, &url);
    assert_eq!(manifest.header("content-type"), Some("application/dash+xml"));
    let manifest = manifest.text();
    assert!(manifest.contains(" type=\"static\""), "{manifest}");
    assert_eq!(manifest.matches("<Period ").count(), 1, "{manifest}");
    assert_eq!(manifest.matches("<AdaptationSet ").count(), 2, "{manifest}");
    assert_eq!(manifest.matches(" kvs:ts=").count(), 2 * all.len(), "{manifest}");
    assert_eq!(manifest.matches(&format!(" kvs:fn=\"{:020}\"", all[0])).count(), 2, "{manifest}");
    check_same("DASH", &packets_sent, &packets(&url));

    for (kind, start_ms, end_ms) in [
        ("PRODUCER_TIMESTAMP", sent.start_ms, sent.end_ms),
        ("SERVER_TIMESTAMP", begun_ms, now_ms()),
    ] {
        let answer = call(&server, "/getClip", clip_of(&sent.media_stream, kind, start_ms, end_ms));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("video/mp4"));
        let file = work.path().join("clip.mp4");
        std::fs::write(&file, &answer.body).unwrap();
        check_same(kind, &packets_sent, &packets(&file.display().to_string()));
    }
    let day_ms = 24 * 3_600_000;
    for (start_ms, end_ms, status) in
        [(0, 0, 400), (0, day_ms + 1, 400), (sent.end_ms + 1, sent.end_ms + 2, 404)]
    {
        let input = clip_of(&sent.media_stream, "PRODUCER_TIMESTAMP", start_ms, end_ms);
        assert_eq!(call(&server, "/getClip", input).status, status, "{start_ms} to {end_ms}");
    }

    // The token opens what it lists, and only as it was given.
    let two =
        on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", sent.start_ms, sent.start_ms + 2_000);
    let url = session(&server, two);
    let fragment = |number: u64, track: u8| {
        let file = format!("getMP4MediaFragment.mp4?FragmentNumber={number}&TrackNumber={track}&");
        get(&server, &url.replace("getHLSMasterPlaylist.m3u8?", &file)).status
    };
    assert_eq!([fragment(all[0], 1), fragment(all[1], 2)], [200, 200]);
    assert_eq!([fragment(all[2], 1), fragment(all[0], 3), fragment(1, 1)], [403, 404, 404]);
    for changed in [url.trim_end_matches('~').to_owned(), url.replace("~", "A~")] {
        let answer = get(&server, &changed);
        assert_eq!((answer.status, answer.text()), (403, "Streaming session token is expired"));
    }
    for more in ["&TrackNumber=256", "&SequenceNumber=-1", "&SessionToken=A"] {
        let answer = get(&server, &format!("{url}{more}"));
        assert_eq!(answer.status, 400, "{more}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    }
}

#[test]
fn what_kinesis_cannot_play_is_refused_by_name() {
    let (server, work) = (Server::start(), TempDir::new().unwrap());
    let silent = send(
        &server,
        work.path(),
        "h265",
        "mp4",
        &["-c:v", "libx265", "-x265-params", "log-level=error:keyint=50", "-tag:v", "hvc1", "-an"],
    );
    let g711 = ["-c:v", "libx264", "-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"];
    let g711 = send(&server, work.path(), "g711", "mkv", &g711);
    let hls = |input: Value| call(&server, "/getHLSStreamingSessionURL", input);
    let span = |sent: &Sent| {
        on_demand(&sent.media_stream, "PRODUCER_TIMESTAMP", sent.start_ms, sent.end_ms)
    };
    let answer = hls(span(&g711));
    check_refused(&answer, 400, "UnsupportedStreamMediaTypeException");
    assert_eq!(
        answer.json()["Message"],
        "The type of the media is not supported or could not be determined from the media codec \
         ids: (track 1: V_MPEG4/ISO/AVC), (track 2: A_MS/ACM)."
    );
    let clip = clip_of(&g711.media_stream, "PRODUCER_TIMESTAMP", g711.start_ms, g711.end_ms);
    assert_eq!(call(&server, "/getClip", clip).status, 200);
    assert!(get(&server, &dash_session(&server, span(&g711))).text().contains("\"ulaw\""));
    let mut in_ts = span(&silent);
    in_ts["ContainerFormat"] = json!("MPEG_TS");
    check_refused(&hls(in_ts), 400, "UnsupportedStreamMediaTypeException");
    let url = session(&server, span(&silent));
    check_same("h265", &packets(&silent.file.display().to_string()), &packets(&url));

    // What lies before all that is kept is told apart by the service's clock, as Kinesis does.
    let long_ago = now_ms() - 8 * 24 * 3_600_000;
    for (kind, status, name) in [
        ("SERVER_TIMESTAMP", 400, "InvalidArgumentException"),
        ("PRODUCER_TIMESTAMP", 404, "ResourceNotFoundException"),
    ] {
        let span = on_demand(&silent.media_stream, kind, long_ago - 1_000, long_ago);
        check_refused(&hls(span), status, name);
        let clip = clip_of(&silent.media_stream, kind, long_ago - 1_000, long_ago);
        let answer = call(&server, "/getClip", clip);
        check_refused(&answer, status, name);
        let outside =
            format!("End timestamp {long_ago} is outside of the stream retention period.");
        assert_eq!(answer.json()["Message"] == *outside, status == 400, "{answer:?}");
    }
    let day_ms = 24 * 3_600_000;
    let within =
        on_demand(&silent.media_stream, "SERVER_TIMESTAMP", now_ms() - day_ms, now_ms() - 1);
    assert_eq!(hls(within).status, 200, "a range may begin before the footage does");

    check_refused(&hls(json!({ "StreamName": "nobody" })), 404, "ResourceNotFoundException");
    camera::register(&server, "idle");
    check_refused(&hls(json!({})), 400, "InvalidArgumentException");
    for changes in [
        json!({ "PlaybackMode": "SOMETIMES" }),
        json!({ "ContainerFormat": "MP4" }),
        json!({ "DiscontinuityMode": "MAYBE" }),
        json!({ "Expires": 299 }),
        json!({ "Expires": -1 }),
        json!({ "MaxMediaPlaylistFragmentResults": 5_001 }),
        json!({ "PlaybackMode": "LIVE" }),
    ] {
        let mut input = span(&silent);
        for (name, value) in changes.as_object().unwrap() {
            input[name] = value.clone();
        }
        check_refused(&hls(input), 400, "InvalidArgumentException");
    }
}

/// Uploads fragments that begin at these times, and waits until they are kept.
fn upload(server: &Server, camera: &Registered, starts: impl IntoIterator<Item = u64>) {
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

#[test]
fn live_lists_what_arrived_last_and_never_goes_back() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 60_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    let live = json!({ "StreamName": camera.media_stream });
    let answer = call(&server, "/getHLSStreamingSessionURL", live.clone());
    check_refused(&answer, 404, "ResourceNotFoundException");

    upload(&server, &camera, (0..7).map(at));
    let url = session(&server, live);
    let sequence = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
        line.unwrap().parse::<usize>().unwrap()
    };
    let first = playlist(&server, &url);
    assert_eq!((numbers(&first).len(), sequence(&first)), (5, 0), "{first}");
    assert!(!first.contains("ENDLIST") && !first.contains("VOD"), "{first}");

    // A hole, and what was missing in it: the hole stays.
    upload(&server, &camera, [at(9)]);
    upload(&server, &camera, [at(7)]);
    upload(&server, &camera, [at(10)]);
    let second = playlist(&server, &url);
    assert_eq!((numbers(&second).len(), sequence(&second)), (5, 2), "{second}");
    assert_eq!(&numbers(&second)[..3], &numbers(&first)[2..]);
    assert!(second.contains("#EXT-X-DISCONTINUITY-SEQUENCE:2\n"), "{second}");

    let manifest =
        get(&server, &dash_session(&server, json!({ "StreamName": camera.media_stream })));
    assert!(manifest.text().contains(" type=\"dynamic\""), "{}", manifest.text());
    // One of the last five came too late to be listed.
    assert_eq!(manifest.text().matches("<SegmentURL ").count(), 4, "{}", manifest.text());

    // Another process makes the same window.
    let mut server = server;
    server.signal("TERM");
    assert!(server.ended().success());
    let address = server.address;
    let server = Server::start_at(address, &[], server.kill());
    assert_eq!(playlist(&server, &url), second);

    let mut replay = on_demand(&camera.media_stream, "PRODUCER_TIMESTAMP", at(1), at(1));
    replay["PlaybackMode"] = json!("LIVE_REPLAY");
    replay["MaxMediaPlaylistFragmentResults"] = json!(3);
    replay["HLSFragmentSelector"]["TimestampRange"] = json!({ "StartTimestamp": seconds(at(1)) });
    let url = session(&server, replay);
    let shown = playlist(&server, &url);
    assert_eq!((numbers(&shown).len(), sequence(&shown)), (3, 0), "{shown}");
    let begun = std::time::Instant::now();
    let mut shown = shown;
    while sequence(&shown) < 2 {
        assert!(begun.elapsed() < crate::server::PATIENCE, "{shown}");
        std::thread::sleep(std::time::Duration::from_millis(100));
        shown = playlist(&server, &url);
    }
    assert!(begun.elapsed().as_millis() as u64 >= FRAGMENT_MS, "{shown}");
}

#[tokio::test]
async fn a_session_ends_with_the_key_or_the_user_that_asked_for_it() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    upload(&server, &camera, [now_ms() - 60_000]);
    let user = server.add_user("eve", "correct horse battery", &["--role", "viewer"]);
    let name = json!({ "name": "eve", "password": "correct horse battery" });
    let login = server.post_json("/auth/login", &[], &name).json();
    let eve = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let input = json!({ "StreamName": camera.media_stream });
    let answer = server.post_json("/getHLSStreamingSessionURL", &[("authorization", &eve)], &input);
    let of_user = answer.json()["HLSStreamingSessionURL"].as_str().unwrap().to_owned();

    let keys = [admin_keys(&server), admin_keys(&server)];
    let mint = async |keys| {
        let client = archived_client(&server, keys);
        let answer = client.get_hls_streaming_session_url().stream_name(&camera.media_stream);
        answer.send().await.map(|answer| answer.hls_streaming_session_url.unwrap())
    };
    let (of_key, of_other) = (mint(&keys[0]).await.unwrap(), mint(&keys[1]).await.unwrap());
    let path = |url: &str| url.strip_prefix(&server.url()).unwrap().to_owned();
    for url in [&of_user, &of_key, &of_other] {
        assert_eq!(get(&server, url).status, 200, "{url}");
    }

    disable(&server, &user).await;
    let revoked = server.beside(&["access-key"], &["--revoke", &keys[0].0]);
    assert!(revoked.status.success(), "{revoked:?}");
    let within = std::time::Duration::from_secs(5);
    ends(&server, &path(&of_user), within);
    ends(&server, &path(&of_key), within);
    assert_eq!(get(&server, &of_other).status, 200);
    let refused = mint(&keys[0]).await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(refused.code(), Some("UnrecognizedClientException"));
    let unknown = server.beside(&["access-key"], &["--revoke", "LKAA"]);
    assert!(!unknown.status.success(), "{unknown:?}");
}

#[test]
fn images_are_of_key_frames() {
    use base64::Engine;
    let (server, work) = (Server::start(), TempDir::new().unwrap());
    let sent = send(&server, work.path(), "cam", "mp4", &["-c:v", "libx264", "-an"]);
    let ask = |changes: Value| {
        let mut input = json!({
            "StreamName": sent.media_stream, "ImageSelectorType": "PRODUCER_TIMESTAMP",
            "StartTimestamp": seconds(sent.start_ms), "EndTimestamp": seconds(sent.end_ms + 4_000),
            "SamplingInterval": 2_000, "Format": "JPEG",
        });
        for (name, value) in changes.as_object().unwrap() {
            input[name] = value.clone();
        }
        call(&server, "/getImages", input)
    };
    let content = |image: &Value| {
        let text = image["ImageContent"].as_str().unwrap_or_else(|| panic!("{image}"));
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let found = ask(json!({})).json();
    let images = found["Images"].as_array().unwrap();
    assert_eq!((images.len(), &found["NextToken"]), (12, &Value::Null));
    for (index, image) in images.iter().enumerate() {
        assert_eq!(image["TimeStamp"], seconds(sent.start_ms + 2_000 * index as u64));
        if index < 10 {
            assert!(content(image).starts_with(&[0xFF, 0xD8]), "{index}");
        } else {
            assert_eq!(image["Error"], "NO_MEDIA");
        }
    }
    assert_ne!(content(&images[0]), content(&images[5]));
    let page = ask(json!({ "MaxResults": 5 })).json();
    let token = page["NextToken"].clone();
    assert_eq!(page["Images"].as_array().unwrap()[..], images[..5]);
    let page = ask(json!({ "MaxResults": 5, "NextToken": token })).json();
    assert_eq!(page["Images"].as_array().unwrap()[..], images[5..10]);

    let one = json!({
        "Format": "PNG", "WidthPixels": 100, "HeightPixels": 50, "SamplingInterval": 300_000,
    });
    let found = ask(one).json();
    let png = content(&found["Images"][0]);
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!((&png[16..20], &png[20..24]), (&100u32.to_be_bytes()[..], &50u32.to_be_bytes()[..]));
    let arrived = json!({
        "ImageSelectorType": "SERVER_TIMESTAMP", "MaxResults": 1,
        "StartTimestamp": seconds(now_ms() - 200_000), "EndTimestamp": seconds(now_ms()),
    });
    assert_eq!(ask(arrived).json()["Images"][0]["Error"], "NO_MEDIA");
    for changes in [
        json!({ "Format": "GIF" }),
        json!({ "Format": null }),
        json!({ "EndTimestamp": seconds(sent.start_ms + 300_001) }),
        json!({ "SamplingInterval": 199 }),
        json!({ "WidthPixels": 3_841, "HeightPixels": 10 }),
        json!({ "MaxResults": 101 }),
        json!({ "NextToken": "AAAA" }),
    ] {
        check_refused(&ask(changes), 400, "InvalidArgumentException");
    }
    let log = "query($range: TimeRangeInput!) { auditLog(range: $range) {
        nodes { action targetId } } }";
    let range = crate::playback::of_range(now_ms() - 600_000, now_ms() + 60_000);
    let admin = server.token(&["--role", "admin"]);
    let log = server.graphql(Some(&admin), log, json!({ "range": range }));
    let lines = log["data"]["auditLog"]["nodes"].as_array().unwrap();
    let looks = lines.iter().filter(|line| line["action"] == "VIEW").count();
    assert_eq!(looks, 1, "{lines:?}");
}

#[tokio::test]
async fn the_rust_sdk_plays_what_was_sent() {
    use aws_sdk_kinesisvideoarchivedmedia as sdk;
    use sdk::primitives::DateTime;
    use sdk::types as shapes;

    let (server, work) = (Server::start(), TempDir::new().unwrap());
    let sent =
        send(&server, work.path(), "sdk", "mp4", &["-c:v", "libx264", "-bf", "2", "-c:a", "aac"]);
    let packets_sent = packets(&sent.file.display().to_string());
    let client = archived_client(&server, &admin_keys(&server));
    let start = DateTime::from_millis(sent.start_ms as i64);
    let end = DateTime::from_millis(sent.end_ms as i64);

    let range = shapes::HlsTimestampRange::builder().start_timestamp(start).end_timestamp(end);
    let selector = shapes::HlsFragmentSelector::builder()
        .fragment_selector_type(shapes::HlsFragmentSelectorType::ProducerTimestamp)
        .timestamp_range(range.build())
        .build();
    let hls = client
        .get_hls_streaming_session_url()
        .stream_name(&sent.media_stream)
        .playback_mode(shapes::HlsPlaybackMode::OnDemand)
        .hls_fragment_selector(selector)
        .send()
        .await
        .unwrap();
    let url = hls.hls_streaming_session_url().unwrap();
    check_same("HLS", &packets_sent, &packets(url));

    let range = shapes::DashTimestampRange::builder().start_timestamp(start).end_timestamp(end);
    let selector = shapes::DashFragmentSelector::builder()
        .fragment_selector_type(shapes::DashFragmentSelectorType::ProducerTimestamp)
        .timestamp_range(range.build())
        .build();
    let dash = client
        .get_dash_streaming_session_url()
        .stream_name(&sent.media_stream)
        .playback_mode(shapes::DashPlaybackMode::OnDemand)
        .dash_fragment_selector(selector)
        .send()
        .await
        .unwrap();
    let url = dash.dash_streaming_session_url().unwrap();
    check_same("DASH", &packets_sent, &packets(url));

    let clip = async |start: DateTime, end: DateTime| {
        let range = shapes::ClipTimestampRange::builder().start_timestamp(start).end_timestamp(end);
        let selector = shapes::ClipFragmentSelector::builder()
            .fragment_selector_type(shapes::ClipFragmentSelectorType::ProducerTimestamp)
            .timestamp_range(range.build().unwrap())
            .build()
            .unwrap();
        let call = client.get_clip().stream_name(&sent.media_stream);
        call.clip_fragment_selector(selector).send().await
    };
    let answer = clip(start, end).await.unwrap();
    assert_eq!(answer.content_type(), Some("video/mp4"));
    let file = work.path().join("clip.mp4");
    std::fs::write(&file, answer.payload.collect().await.unwrap().into_bytes()).unwrap();
    check_same("clip", &packets_sent, &packets(&file.display().to_string()));
    let nothing = clip(DateTime::from_secs(1), DateTime::from_secs(2)).await.unwrap_err();
    assert!(nothing.into_service_error().is_resource_not_found_exception());
    let backwards = clip(end, start).await.unwrap_err();
    assert!(backwards.into_service_error().is_invalid_argument_exception());

    let images = client
        .get_images()
        .stream_name(&sent.media_stream)
        .image_selector_type(shapes::ImageSelectorType::ProducerTimestamp)
        .start_timestamp(start)
        .end_timestamp(end)
        .sampling_interval(2_000)
        .format(shapes::Format::Jpeg)
        .send()
        .await
        .unwrap();
    let made = images.images().iter().filter(|image| image.image_content().is_some()).count();
    assert_eq!(made, 10, "{images:?}");
}
