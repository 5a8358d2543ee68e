//! MP4 files of playback sessions: to the frame, by byte range, with their gaps closed.

use crate::camera::{self, Upload};
use crate::footage;
use crate::playback::{ask, at_ms, now_ms, of_range, path, upload};
use crate::server::Server;
use serde_json::{Value, json};
use std::process::Command;

const FRAME_MS: u64 = 40;
const FRAGMENT_MS: u64 = 800;

fn mp4(start_ms: u64, end_ms: u64, file_name: Option<&str>) -> Value {
    let mut input = of_range(start_ms, end_ms);
    input["protocol"] = json!("MP4");
    input["fileName"] = json!(file_name);
    input
}

/// Presentation times in milliseconds and sizes of the packets that a player shows, and how long
/// it takes them to last.
fn shown(file: &[u8]) -> (Vec<(i64, usize)>, i64) {
    let work = tempfile::TempDir::new().unwrap();
    let name = work.path().join("file.mp4");
    std::fs::write(&name, file).unwrap();
    let probed = Command::new("ffprobe")
        // What is in the frames is noise.
        .args(["-v", "quiet", "-of", "json", "-show_packets", "-show_streams", "-show_format"])
        .arg(&name)
        .output()
        .unwrap();
    assert!(probed.status.success(), "ffprobe takes it for no file");
    let probed: Value = serde_json::from_slice(&probed.stdout).unwrap();
    let ms =
        |value: &Value| (value.as_str().unwrap().parse::<f64>().unwrap() * 1_000.0).round() as i64;
    let packets = probed["packets"].as_array().unwrap();
    let shown = packets
        .iter()
        .filter(|packet| !packet["flags"].as_str().unwrap().contains('D'))
        .map(|packet| (ms(&packet["pts_time"]), packet["size"].as_str().unwrap().parse().unwrap()))
        .collect();
    (shown, ms(&probed["format"]["duration"]))
}

#[test]
fn any_span_is_a_file_to_the_frame() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    let second_ms = start_ms + 20_000;
    let run = |base: u64| (0..5).map(move |n| base + n * FRAGMENT_MS);
    upload(&server, &camera, run(start_ms).chain(run(second_ms)));
    let run_ms = 5 * FRAGMENT_MS;

    // From, to; when the first picture is shown that is, how many, how long, and how many gaps.
    let table = [
        (start_ms - 5_000, second_ms + 60_000, start_ms, 200, 2 * run_ms, 1),
        (start_ms, start_ms + run_ms, start_ms, 100, run_ms, 0),
        (start_ms + 1_000, start_ms + 2_000, start_ms + 1_000, 25, 1_000, 0),
        // Between two pictures: the first that begins in the span is the first that is shown.
        (start_ms + 1_010, start_ms + 1_130, start_ms + 1_040, 3, 90, 0),
        // No picture begins before the gap.
        (start_ms + 3_999, second_ms + 41, start_ms + 3_999, 2, 41, 1),
        (start_ms + 3_900, second_ms + 100, start_ms + 3_920, 2 + 3, 80 + 100, 1),
    ];
    for (from, to, first_ms, pictures, duration_ms, gaps) in table {
        let session = ask(&server, &viewer, &camera, mp4(from, to, None));
        let file = server.get(&path(&server, &session), &[]);
        assert_eq!(file.status, 200, "{session}");
        let (packets, lasts_ms) = shown(&file.body);
        let case = (from as i64 - start_ms as i64, to - start_ms);
        assert_eq!(packets.len(), pictures, "{case:?}");
        assert_eq!(packets[0].0, 0, "{case:?}");
        assert!((lasts_ms - duration_ms as i64).abs() <= 1, "{case:?}: {lasts_ms} ms");
        assert_eq!(session["gaps"].as_array().unwrap().len(), gaps, "{case:?}");
        assert_eq!(session["startOffsetSeconds"], json!(0.0));
        let begins = at_ms(&session["range"]["start"]);
        assert!(begins <= first_ms && first_ms - begins < FRAME_MS, "{case:?}: {session}");
    }

    let long = ask(&server, &viewer, &camera, mp4(start_ms - 86_400_000, start_ms + 1, None));
    assert_eq!(long["code"], json!("RANGE_TOO_LONG"));
    let live = ask(&server, &viewer, &camera, json!({ "mode": "LIVE", "protocol": "MP4" }));
    assert_eq!(live["code"], json!("RANGE_TOO_LONG"));
}

#[test]
fn files_are_resumed_by_byte_range() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let start_ms = now_ms() - 600_000;
    upload(&server, &camera, (0..10).map(|n| start_ms + n * FRAGMENT_MS));
    let input = mp4(start_ms + 100, start_ms + 60_000, Some("Tür \"3\".mp4"));
    let session = ask(&server, &viewer, &camera, input);
    let path = path(&server, &session);
    assert!(path.ends_with("/T%C3%BCr%20_3_.mp4"), "{path}");

    let whole = server.get(&path, &[]);
    assert_eq!(whole.status, 200);
    let len = whole.body.len();
    let header = |name: &str| whole.header(name).unwrap_or_default();
    assert_eq!(header("content-length"), len.to_string());
    assert_eq!(header("content-type"), "video/mp4");
    assert_eq!(header("accept-ranges"), "bytes");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"T_r _3_.mp4\"; filename*=UTF-8''T%C3%BCr%20_3_.mp4"
    );
    let etag = header("etag").to_owned();
    assert_eq!(server.get(&path, &[]).body, whole.body, "the same bytes on repeat");

    let head = server.request("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*len.to_string()));
    assert_eq!(head.header("etag"), Some(&*etag));

    let cuts = [(0, 0), (0, 99), (1_000, 4_321), (len / 2, len / 2 + 70_000), (len - 5, len - 1)];
    for (first, last) in cuts {
        let last = last.min(len - 1);
        let range = format!("bytes={first}-{last}");
        let part = server.get(&path, &[("range", &range), ("if-range", &etag)]);
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(&*format!("bytes {first}-{last}/{len}")));
        assert!(part.body == whole.body[first..=last], "{range}");
    }
    let part = server.get(&path, &[("range", "bytes=-7")]);
    assert!(part.status == 206 && part.body == whole.body[len - 7..]);
    let other = server.get(&path, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]);
    assert_eq!((other.status, other.body.len()), (200, len));
    assert_eq!(server.get(&path, &[("range", &format!("bytes={len}-"))]).status, 416);
    assert_eq!(server.get(&path, &[("if-none-match", &etag)]).status, 304);
    assert_eq!(server.request("OPTIONS", &path, &[], b"").status, 204);
    assert_eq!(server.get(&path.replace("/mp4/v1/s/", "/mp4/v1/s/A"), &[]).status, 403);
}

#[test]
fn longer_spans_are_fragmented() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let run_ms = 25 * FRAGMENT_MS;
    let second_ms = now_ms() - 600_000;
    let start_ms = second_ms - 4 * 3_600_000;
    let run = |base: u64| (0..25).map(move |n| base + n * FRAGMENT_MS);
    upload(&server, &camera, run(start_ms).chain(run(second_ms)));
    // More than is read at a time.
    let last_ms = second_ms + run_ms;
    let large = move |upload: &mut Upload| {
        upload.send(&camera::fragment(last_ms, &camera::frames(last_ms, 20, 120_000)))?;
        upload.send(&camera::end_of_fragment())?;
        upload.persisted(last_ms)
    };
    footage::connection(server.address, &camera, large).unwrap();

    // From, to; pictures that are shown, and for how long.
    let table = [
        (start_ms - 60_000, second_ms + 60_000, 1_020, 2 * run_ms + FRAGMENT_MS),
        (start_ms + 1_000, second_ms + 2_000, 500 - 25 + 50, run_ms + 1_000),
        // The first picture begins after the end of the first run but for a frame.
        (start_ms + run_ms - 40, second_ms + 80, 3, 120),
    ];
    for (from, to, pictures, duration_ms) in table {
        let session = ask(&server, &viewer, &camera, mp4(from, to, None));
        let path = path(&server, &session);
        let whole = server.get(&path, &[]);
        let case = (from as i64 - start_ms as i64, to as i64 - second_ms as i64);
        assert_eq!(whole.status, 200, "{case:?}: {session}");
        assert_eq!(session["gaps"].as_array().unwrap().len(), 1, "{case:?}");
        let times: Vec<_> = shown(&whole.body)
            .0
            .iter()
            .map(|(ms, _)| *ms)
            .filter(|ms| (0..duration_ms as i64).contains(ms))
            .collect();
        let expected: Vec<_> = (0..pictures).map(|n| (n * FRAME_MS) as i64).collect();
        assert_eq!(times, expected, "{case:?}");

        // Any part is what stands there, and each frame is where it was sent.
        let len = whole.body.len();
        assert_eq!(whole.header("content-length"), Some(&*len.to_string()), "{case:?}");
        let etag = whole.header("etag").unwrap().to_owned();
        let mut cuts: Vec<_> = (0..40).map(|n| (n * len / 40, 1 + n * 797 % 20_000)).collect();
        cuts.extend((len.saturating_sub(700)..len).step_by(50).map(|at| (at, 30)));
        for (first, count) in cuts {
            let last = (first + count).min(len) - 1;
            let range = format!("bytes={first}-{last}");
            let part = server.get(&path, &[("range", &range), ("if-range", &etag)]);
            assert_eq!(part.status, 206, "{case:?}: {range}");
            assert!(part.body == whole.body[first..=last], "{case:?}: {range}");
        }
    }
}
