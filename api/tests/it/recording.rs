//! What goes in comes out: recordings streamed by `lookback camera`, and uploads recorded from other
//! producers, play back as the same samples at the same times. ffmpeg is the judge of both sides.

use crate::camera::{self, Registered, Upload};
use crate::media::{Document, Viewer, documents};
use crate::server::{Server, lookback};
use bytes::Bytes;
use lookback_wire::Frame;
use lookback_wire::matroska::{Event, Limits, Reader};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tick of the uploaded timecodes; the sides may each round by half of one.
const TICK_MS: f64 = 1.0;

/// A packet: when it is shown, in milliseconds, and the digest of its bytes.
pub type Packet = (f64, String);

#[test]
fn a_recording_plays_back_as_it_was() {
    let work = tempfile::TempDir::new().unwrap();
    let cases: [(&str, &[&str]); 4] = [
        (
            "h264-aac-b-frames.mkv",
            &["-t", "120", "-c:v", "libx264", "-bf", "3", "-g", "60", "-c:a", "aac"],
        ),
        ("h264-aac.mp4", &["-t", "20", "-c:v", "libx264", "-bf", "2", "-g", "50", "-c:a", "aac"]),
        (
            "h265.mkv",
            &["-t", "12", "-c:v", "libx265", "-x265-params", "log-level=error:keyint=50", "-an"],
        ),
        ("h264-silent.mp4", &["-t", "12", "-c:v", "libx264", "-g", "25", "-an"]),
    ];
    let server = Server::start();
    for (name, encode) in cases {
        let file = work.path().join(name);
        ffmpeg(
            Command::new("ffmpeg")
                .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
                .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"])
                .args(["-preset", "ultrafast", "-pix_fmt", "yuv420p"])
                .args(encode)
                .arg(&file),
        );
        let device = name.replace('.', "-");
        let sent = lookback()
            .env("LOOKBACK_TOKEN", server.token(&["--role", "manager"]))
            .args(["camera", "--endpoint", &server.url(), "--device", &device, "--fast"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(sent.status.success(), "{name}: {sent:?}");
        let sent_packets = packets(&file.display().to_string());
        for protocol in ["HLS", "MP4"] {
            let what = format!("{name} by {protocol}");
            check_same(&what, &sent_packets, &played(&server, &device, protocol));
        }
        check_same(&format!("{name} read back"), &sent_packets, &read_back(&server, &device));
        let asked = session(&server, &device, "HLS_TS");
        if name == "h265.mkv" {
            assert_eq!(asked["code"], json!("CODEC_NOT_SUPPORTED"), "{asked}");
        } else {
            let sent = units(&file.display().to_string());
            let what = format!("{name} by HLS_TS");
            check_same(&what, &sent, &units(asked["url"].as_str().unwrap()));
        }
    }
}

#[test]
fn more_than_an_hour_plays_back_as_one_file() {
    let work = tempfile::TempDir::new().unwrap();
    let server = Server::start();
    let file = work.path().join("long.mkv");
    ffmpeg(
        Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=4"])
            .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=8000", "-t", "3700"])
            .args(["-c:v", "libx264", "-bf", "2", "-g", "32", "-pix_fmt", "yuv420p"])
            .args(["-c:a", "aac"])
            .arg(&file),
    );
    let sent = lookback()
        .env("LOOKBACK_TOKEN", server.token(&["--role", "manager"]))
        .args(["camera", "--endpoint", &server.url(), "--device", "long", "--fast"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let url = session_url(&server, "long", "MP4");
    check_same("long", &packets(&file.display().to_string()), &packets(&url));

    let probe = |entries: &str, interval: &str| {
        let probed = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-of", "csv=p=0", "-show_entries"])
            .args([entries, "-read_intervals", interval, &url])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&probed.stderr), "", "{interval}");
        let text = String::from_utf8(probed.stdout).unwrap();
        text.lines()
            .map(|line| line.trim_end_matches(',').parse::<f64>().unwrap())
            .collect::<Vec<_>>()
    };
    let lasts_s = probe("format=duration", "%+#1")[0];
    assert!((lasts_s - 3_700.0).abs() < 1.0, "{lasts_s} s");
    // The index leads to the fragment of any picture.
    for at_s in [0.0, 2_001.0, 3_699.0] {
        let near = probe("packet=pts_time", &format!("{at_s}%+#12"));
        assert!(
            near[0] <= at_s && near.last().is_some_and(|time| at_s - 8.0 <= *time),
            "{at_s} s: {near:?}"
        );
        assert!(near.iter().all(|time| (time - near[0]).abs() < 4.0), "{at_s} s: {near:?}");
    }
}

#[test]
fn g711_plays_back_as_the_samples_it_stands_for() {
    let work = tempfile::TempDir::new().unwrap();
    let server = Server::start();
    for (name, codec, hz) in [("mu", "pcm_mulaw", 8_000), ("a", "pcm_alaw", 16_000)] {
        let file = work.path().join(format!("{name}.mkv"));
        // A tone that swells, so that every byte occurs, and noise, which cannot be compressed.
        let sound =
            format!("aevalsrc=exprs='if(lt(t,20),sin(2*PI*440*t)*t/20,random(0)*2-1)':s={hz}:d=30");
        ffmpeg(
            Command::new("ffmpeg")
                .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
                .args(["-f", "lavfi", "-i", &sound, "-t", "30", "-g", "50"])
                .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
                .args(["-c:a", codec])
                .arg(&file),
        );
        let sent = lookback()
            .env("LOOKBACK_TOKEN", server.token(&["--role", "manager"]))
            .args(["camera", "--endpoint", &server.url(), "--device", name, "--fast"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(sent.status.success(), "{name}: {sent:?}");
        let main = session_url(&server, name, "HLS");
        let text = server.get(main.strip_prefix(&server.url()).unwrap(), &[]);
        assert!(text.text().contains("flac"), "{}", text.text());
        let audio = main.replace("main.m3u8", "audio.m3u8");
        let before = pcm(&file.display().to_string());
        assert_eq!(before.len(), 30 * hz * 2);
        let refused = session(&server, name, "HLS_TS");
        assert_eq!(refused["code"], json!("CODEC_NOT_SUPPORTED"), "{refused}");
        for played in [audio, session_url(&server, name, "MP4")] {
            let after = pcm(&played);
            let (sent, plays) = (before.len(), after.len());
            assert!(before == after, "{name}: {sent} bytes were sent, {plays} play of {played}");
        }
        let sent = packets(&file.display().to_string());
        check_same(&format!("{name} read back"), &sent, &read_back(&server, name));
    }
}

/// The first sound in a file or playlist, decoded.
fn pcm(input: &str) -> Vec<u8> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i", input, "-map", "0:a:0", "-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{decoded:?}");
    decoded.stdout
}

#[test]
fn recorded_uploads_of_other_producers_play_back_as_they_were() {
    let Some(vectors) = std::env::var_os("LOOKBACK_VECTORS").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "LOOKBACK_VECTORS is not set");
        println!("left out: LOOKBACK_VECTORS names no recorded uploads");
        return;
    };
    let server = Server::start();
    for name in ["c-video-only", "c-audio-video", "kvssink-audio-video"] {
        let folder = vectors.join(name);
        let body = std::fs::read(folder.join("putmedia-00.mkv")).unwrap();
        let file = folder.join("putmedia-00.mkv").display().to_string();
        let sent = packets(&file);
        let chunks = recorded_chunks(&folder, body.len());
        let cuts: [(&str, &dyn Fn(usize) -> usize); 4] = [
            ("as-recorded", &|at| chunks[&at]),
            ("whole", &|_| 64 * 1024),
            ("byte-by-byte", &|_| 1),
            ("random-cuts", &|at| 1 + (at.wrapping_mul(0x9E37_79B9) >> 7) % 5_000),
        ];
        for (cut, size) in cuts {
            let external_id = format!("{name}-{cut}");
            let registered = camera::register(&server, &external_id);
            replay(&server, &registered, &folder, &body, size);
            for protocol in ["HLS", "MP4"] {
                let what = format!("{external_id} by {protocol}");
                check_same(&what, &sent, &played(&server, &external_id, protocol));
            }
            let what = format!("{external_id} by HLS_TS");
            let url = session_url(&server, &external_id, "HLS_TS");
            check_same(&what, &units(&file), &units(&url));
            let read_back = Viewer::of(&server, &registered.media_stream).everything();
            check_read_back(&external_id, &body, &documents(&read_back));
        }
    }
}

/// The lengths of the HTTP chunks of a recorded upload, by where each begins.
fn recorded_chunks(folder: &Path, body_len: usize) -> BTreeMap<usize, usize> {
    let text = std::fs::read_to_string(folder.join("putmedia-00.chunks.txt")).unwrap();
    let mut chunks = BTreeMap::new();
    let mut at = 0;
    for line in text.lines() {
        let size = line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).unwrap();
        chunks.insert(at, size);
        at += size;
    }
    assert_eq!(at, body_len, "{text}");
    chunks
}

/// Frames of each track: when each is shown, and its bytes.
type Frames = BTreeMap<u64, Vec<(i64, Bytes)>>;

fn frames(all: impl IntoIterator<Item = Frame>) -> Frames {
    let mut frames = Frames::new();
    for frame in all {
        let of_track = frames.entry(frame.track).or_default();
        of_track.push((frame.timecode, frame.payload.to_bytes()));
    }
    frames
}

/// The frames that an upload holds are those that are read back, at the same times.
fn check_read_back(what: &str, upload: &[u8], documents: &[Document]) {
    let mut reader = Reader::new(Limits::default());
    reader.push(Bytes::copy_from_slice(upload));
    let mut events: Vec<Event> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    events.extend(reader.finish().unwrap());
    let header = events.iter().find_map(|event| match event {
        Event::Header(header) => Some(header.clone()),
        _ => None,
    });
    let tags = events.iter().filter(|event| matches!(event, Event::Tag(_))).count();
    let sent = frames(events.into_iter().filter_map(|event| match event {
        Event::Frame(frame) => Some(frame),
        _ => None,
    }));
    let got = frames(documents.iter().flat_map(|document| document.frames.clone()));
    for document in documents {
        let tracks = document.header.as_deref().map(|header| &header.tracks);
        assert_eq!(tracks, header.as_deref().map(|header| &header.tracks), "{what}");
    }
    assert_eq!(documents.iter().map(|document| document.user.len()).sum::<usize>(), tags, "{what}");
    assert_eq!(sent.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>(), "{what}");
    let first_ms = |frames: &Frames| frames.values().filter_map(|of| Some(of.first()?.0)).min();
    let shift_ms = first_ms(&got).unwrap() - first_ms(&sent).unwrap();
    for (track, sent) in &sent {
        let got = &got[track];
        assert_eq!(sent.len(), got.len(), "{what}: frames of track {track}");
        for (n, (sent, got)) in sent.iter().zip(got).enumerate() {
            assert!(sent.1 == got.1, "{what}: frame {n} of track {track} is another");
            let off_ms = got.0 - sent.0 - shift_ms;
            assert!(off_ms.abs() <= 1, "{what}: frame {n} of track {track} is {off_ms} ms off");
        }
    }
}

/// Sends a recorded body, cut by `size`, and reads acknowledgements until the answer ends.
fn replay(
    server: &Server,
    camera: &Registered,
    folder: &Path,
    body: &[u8],
    size: &dyn Fn(usize) -> usize,
) {
    let head = std::fs::read_to_string(folder.join("putmedia-00.head.txt")).unwrap();
    let header = |name: &str| {
        let of = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().find_map(of).unwrap_or_else(|| panic!("no {name} in {head}"))
    };
    let names = ["x-amzn-fragment-timecode-type", "x-amzn-producer-start-timestamp"];
    let values = names.map(header);
    let headers = [(names[0], values[0].as_str()), (names[1], values[1].as_str())];
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &headers).unwrap();
    assert_eq!(upload.status, 200);

    let mut reading = upload.reading().unwrap();
    let acks = std::thread::spawn(move || {
        let mut counts = BTreeMap::new();
        while let Some(ack) = reading.ack().unwrap() {
            let kind = format!("{ack:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts
    });
    upload.send_cut(body, size).unwrap();
    upload.finish().unwrap();
    let counts = acks.join().unwrap();
    assert_eq!(counts.get("Error"), None, "{counts:?}");
    assert!(counts["Persisted"] > 0, "{counts:?}");
    assert_eq!(counts["Persisted"], counts["Received"], "{counts:?}");
}

/// All that a device's main stream has, as ffmpeg plays it.
fn played(server: &Server, external_id: &str, protocol: &str) -> BTreeMap<String, Vec<Packet>> {
    packets(&session_url(server, external_id, protocol))
}

fn ask(server: &Server, query: &str, variables: serde_json::Value) -> serde_json::Value {
    let viewer = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let body = json!({"query": query, "variables": variables});
    server.post_json("/graphql", &[("authorization", &viewer)], &body).json()
}

/// The URL of a session over all that is kept of a camera, which has no gaps.
fn session_url(server: &Server, external_id: &str, protocol: &str) -> String {
    let session = session(server, external_id, protocol);
    assert_eq!(session["gaps"], json!([]), "{external_id}: {session}");
    session["url"].as_str().unwrap_or_else(|| panic!("{external_id}: {session}")).to_owned()
}

fn session(server: &Server, external_id: &str, protocol: &str) -> serde_json::Value {
    let found = ask(
        server,
        "query($ref: DeviceRef!) { device(ref: $ref) { stream { id earliest latest } } }",
        json!({"ref": {"externalId": external_id}}),
    );
    let stream = &found["data"]["device"]["stream"];
    assert!(stream["earliest"].is_string(), "{external_id}: {found}");
    let answer = ask(
        server,
        "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
            ... on PlaybackSession { url gaps { range { start end } } } ... on MediaUnavailable { code message } } }",
        json!({"input": {
            "streamId": stream["id"], "start": stream["earliest"], "end": stream["latest"],
            "protocol": protocol,
        }}),
    );
    answer["data"]["playbackSession"].clone()
}

/// The packets of H.264 and AAC as they are in a transport stream and out of it alike: pictures
/// without delimiters and parameter sets, sound without headers.
fn units(input: &str) -> BTreeMap<String, Vec<Packet>> {
    let is_stream = input.contains(".m3u8");
    let pictures = "filter_units=remove_types=7|8|9";
    let to_stream = format!("h264_mp4toannexb,{pictures}");
    let filters = if is_stream { [pictures, "aac_adtstoasc"] } else { [&to_stream, "null"] };
    filtered_packets(input, filters)
}

/// All that a device's main stream has, as ffmpeg reads the Matroska that the Kinesis API answers.
fn read_back(server: &Server, external_id: &str) -> BTreeMap<String, Vec<Packet>> {
    let found = ask(
        server,
        "query($ref: DeviceRef!) { device(ref: $ref) { stream { mediaStreamName } } }",
        json!({"ref": {"externalId": external_id}}),
    );
    let name = found["data"]["device"]["stream"]["mediaStreamName"].as_str();
    let name = name.unwrap_or_else(|| panic!("{external_id}: {found}"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&Viewer::of(server, name).everything()).unwrap();
    packets(&file.path().display().to_string())
}

/// The packets of each track of a file or playlist, by kind, without decoding them.
pub fn packets(input: &str) -> BTreeMap<String, Vec<Packet>> {
    filtered_packets(input, ["null", "null"])
}

/// The same after bitstream filters for pictures and sound.
fn filtered_packets(input: &str, filters: [&str; 2]) -> BTreeMap<String, Vec<Packet>> {
    let mut tracks = BTreeMap::new();
    for ((kind, without), filter) in [("v", "-an"), ("a", "-vn")].into_iter().zip(filters) {
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-copyts", "-i", input, without])
            .args(["-c", "copy", "-bsf", filter, "-f", "framemd5", "-"])
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        let none_of_it = complaints.contains("does not contain any stream");
        let is_matroska = complaints.contains("[matroska");
        assert!(complaints.is_empty() || none_of_it || is_matroska, "{input}: {complaints}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let time_base = text.lines().find_map(|line| line.strip_prefix("#tb 0: "));
        let Some((over, under)) = time_base.and_then(|base| base.split_once('/')) else { continue };
        let tick_ms = over.parse::<f64>().unwrap() / under.parse::<f64>().unwrap() * 1_000.0;
        let mut found: Vec<Packet> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let columns: Vec<&str> = line.split(',').map(str::trim).collect();
                (columns[2].parse::<f64>().unwrap() * tick_ms, columns[5].to_owned())
            })
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        tracks.insert(kind.to_owned(), found);
    }
    tracks
}

/// Same tracks, same packets, same times from the first picture on.
pub fn check_same(
    what: &str,
    sent: &BTreeMap<String, Vec<Packet>>,
    played: &BTreeMap<String, Vec<Packet>>,
) {
    assert!(!sent["v"].is_empty(), "{what}: no pictures were sent");
    let kinds = |tracks: &BTreeMap<String, Vec<Packet>>| {
        tracks.iter().map(|(kind, packets)| (kind.clone(), packets.len())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(sent), kinds(played), "{what}: packets of each track");
    let origins = (sent["v"][0].0, played["v"][0].0);
    for (kind, sent) in sent {
        for (n, (sent, played)) in sent.iter().zip(&played[kind]).enumerate() {
            assert_eq!(sent.1, played.1, "{what}: packet {n} of track {kind} is another");
            let off_ms = (played.0 - origins.1) - (sent.0 - origins.0);
            assert!(
                off_ms.abs() <= TICK_MS + 0.01,
                "{what}: packet {n} of {kind} is {off_ms} ms off"
            );
        }
    }
}

fn ffmpeg(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
