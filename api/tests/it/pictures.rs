//! Snapshots and thumbnails: links, rights and bounds by GraphQL, and pictures that show what ffmpeg
//! sees in the same frames.

use crate::camera;
use crate::server::Server;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Key frames are this far apart in what is sent.
const KEY_EVERY_MS: i64 = 2_000;
const LENGTH_S: i64 = 20;

/// Encodes moving test pictures, and streams them as a device of that name.
fn send(server: &Server, folder: &Path, device: &str, encode: &[&str]) -> std::path::PathBuf {
    let file = folder.join(format!("{device}.mp4"));
    camera::record(server, &file, device, "1280x720", &[encode, &["-an"]].concat());
    file
}

/// What a viewer is answered about a device's main stream.
fn ask(server: &Server, device: &str, selection: &str) -> Value {
    let token = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let query =
        format!("query($ref: DeviceRef!) {{ device(ref: $ref) {{ stream {{ {selection} }} }} }}");
    let body = json!({ "query": query, "variables": { "ref": { "externalId": device } } });
    server.post_json("/graphql", &[("authorization", &token)], &body).json()
}

fn stream(server: &Server, device: &str, selection: &str) -> Value {
    let answer = ask(server, device, selection);
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["data"]["device"]["stream"].clone()
}

fn millis(time: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis()
}

/// The time `ms` after another.
fn later(time: &Value, ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(millis(time) + ms).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The path of a link.
fn path(server: &Server, image: &Value) -> String {
    image["url"].as_str().unwrap().strip_prefix(&server.url()).unwrap().to_owned()
}

/// A picture, or a frame of a recording, in 64 x 36 pixels of three bytes each.
fn pixels(input: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error"])
        .args(input)
        .args(["-frames:v", "1", "-vf", "scale=64:36:flags=area", "-f", "rawvideo"])
        .args(["-pix_fmt", "rgb24", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ffmpeg.stdin.take().unwrap();
    // Where the input is a file, nobody reads this.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    let output = ffmpeg.wait_with_output().unwrap();
    assert_eq!(output.stdout.len(), 64 * 36 * 3, "{output:?}");
    output.stdout
}

/// How far apart two pictures are, on average over their bytes.
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let sum: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    f64::from(sum) / a.len() as f64
}

#[test]
fn pictures_show_the_key_frame_at_or_before() {
    let (server, work) = (Server::start(), TempDir::new().unwrap());
    let recording = send(
        &server,
        work.path(),
        "h264",
        &[
            "-vf",
            "scale=out_color_matrix=bt709",
            "-colorspace",
            "bt709",
            "-c:v",
            "libx264",
            "-bf",
            "2",
        ],
    );
    let recording = recording.display().to_string();
    let extent = stream(&server, "h264", "earliest latest");
    let (earliest, latest) = (&extent["earliest"], &extent["latest"]);
    let image = "at url width height expiresAt";

    for (at_ms, key_ms) in [(0, 0), (1_999, 0), (2_000, 2_000), (13_337, 12_000), (60_000, 18_000)]
    {
        let at = later(earliest, at_ms);
        let selection =
            format!("snapshot(at: \"{at}\", maxWidth: 640) {{ ... on Image {{ {image} }} }}");
        let found = &stream(&server, "h264", &selection)["snapshot"];
        assert_eq!(millis(&found["at"]) - millis(earliest), key_ms, "{at_ms}: {found}");
        assert_eq!((&found["width"], &found["height"]), (&json!(640), &json!(360)));
        let path = path(&server, found);
        let answer = server.get(&path, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("image/jpeg"));
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        assert_eq!(server.get(&path, &[]).body, answer.body, "made again or kept, it is the same");
        let seek = format!("{}", key_ms / 1_000);
        let shown = pixels(&["-i", "-"], &answer.body);
        let sent = pixels(&["-ss", &seek, "-i", &recording], &[]);
        let other =
            pixels(&["-ss", &format!("{}", (key_ms / 1_000 + 9) % 18), "-i", &recording], &[]);
        let (off, far) = (distance(&shown, &sent), distance(&shown, &other));
        assert!(
            off < 4.0 && off < far / 2.0,
            "{at_ms}: {off} from what was sent, {far} from another"
        );
    }
    let newest = stream(&server, "h264", "snapshot { ... on Image { at } }");
    assert_eq!(millis(&newest["snapshot"]["at"]) - millis(earliest), 18_000);
    let none = format!(
        "snapshot(at: \"{}\") {{ ... on MediaUnavailable {{ code nearest {{ start }} }} }}",
        later(earliest, -1)
    );
    let none = &stream(&server, "h264", &none)["snapshot"];
    assert_eq!(none["code"], "NO_MEDIA");
    assert_eq!(&none["nearest"]["start"], earliest);
    // Its plan keeps a week.
    let old = later(earliest, -8 * 86_400_000);
    let old = format!("snapshot(at: \"{old}\") {{ ... on MediaUnavailable {{ code }} }}");
    assert_eq!(stream(&server, "h264", &old)["snapshot"]["code"], "EXPIRED");
    let found = stream(&server, "h264", &format!("snapshot {{ ... on Image {{ {image} }} }}"));
    let left_ms = millis(&found["snapshot"]["expiresAt"]) - chrono::Utc::now().timestamp_millis();
    assert!((1..=600_000).contains(&left_ms), "a link works for ten minutes: {left_ms} ms");

    let selection = format!(
        "thumbnails(range: {{ start: {earliest}, end: {latest} }}, count: 5, maxWidth: 160) {{ {image} }}
         clips(range: {{ start: {earliest}, end: {latest} }}) {{ nodes {{ thumbnail {{ {image} }} }} }}"
    );
    let found = stream(&server, "h264", &selection);
    let thumbnails = found["thumbnails"].as_array().unwrap();
    assert_eq!(thumbnails.len(), 5);
    for (index, thumbnail) in thumbnails.iter().enumerate() {
        let offset_ms = millis(&thumbnail["at"]) - millis(earliest);
        let wanted_ms = index as i64 * LENGTH_S * 1_000 / 5;
        assert!((wanted_ms - offset_ms).abs() <= KEY_EVERY_MS, "{index}: {offset_ms}");
        let jpeg = server.get(&path(&server, thumbnail), &[]);
        assert_eq!((jpeg.status, &jpeg.body[..2]), (200, &[0xFF, 0xD8][..]));
    }
    assert_eq!(&found["clips"]["nodes"][0]["thumbnail"]["at"], earliest);
    // A sparse range, and one without footage.
    for (start_ms, end_ms, count) in [(-1_000_000, 1_000_000, 1), (-20_000, -10_000, 0)] {
        let range = format!(
            "start: \"{}\", end: \"{}\"",
            later(earliest, start_ms),
            later(earliest, end_ms)
        );
        let selection = format!("thumbnails(range: {{ {range} }}, count: 10) {{ at }}");
        let found = stream(&server, "h264", &selection);
        assert_eq!(found["thumbnails"].as_array().unwrap().len(), count, "{found}");
    }
}

#[test]
fn what_a_link_opens_and_what_is_refused() {
    let (server, work) = (Server::start(), TempDir::new().unwrap());
    send(&server, work.path(), "h264", &["-c:v", "libx264"]);
    let hevc = ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=50", "-tag:v", "hvc1"];
    send(&server, work.path(), "h265", &hevc);
    let found = stream(&server, "h265", "snapshot { ... on MediaUnavailable { code message } }");
    assert_eq!(found["snapshot"]["code"], "CODEC_NOT_SUPPORTED", "{found}");
    let extent = stream(&server, "h265", "earliest latest");
    let range = format!("range: {{ start: {}, end: {} }}", extent["earliest"], extent["latest"]);
    let found = stream(&server, "h265", &format!("thumbnails({range}) {{ at }}"));
    assert_eq!(found["thumbnails"], json!([]));

    for (selection, complaint) in [
        ("snapshot(maxWidth: 15) { __typename }", "maxWidth is 15, and must be 16 to 1920"),
        ("snapshot(maxWidth: 1921) { __typename }", "maxWidth is 1921, and must be 16 to 1920"),
        (&format!("thumbnails({range}, count: 0) {{ at }}"), "count is 0, and must be 1 to 100"),
        (
            &format!("thumbnails({range}, count: 101) {{ at }}"),
            "count is 101, and must be 1 to 100",
        ),
    ] {
        let answer = ask(&server, "h265", selection);
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
        assert_eq!(answer["errors"][0]["message"], complaint);
    }

    let found = stream(&server, "h264", "earliest snapshot { ... on Image { at url } }");
    let path = path(&server, &found["snapshot"]);
    let (folder, name) = path.rsplit_once('/').unwrap();
    let (at, _) = name.split_once('-').unwrap();
    let earliest = millis(&found["earliest"]);
    for (path, status) in [
        (path.clone(), 200),
        (format!("{folder}/{at}-64.jpg"), 200),
        (format!("{folder}/{at}-15.jpg"), 404),
        (format!("{folder}/{at}-64.png"), 404),
        (format!("{folder}/0{at}-64.jpg"), 404),
        // Footage that the link is not about, and none at all.
        (format!("{folder}/{earliest}-64.jpg"), 403),
        (format!("{folder}/{}-64.jpg", earliest - 5_000), 404),
        (format!("{folder}A/{name}"), 403),
    ] {
        let answer = server.get(&path, &[]);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    assert_eq!(std::fs::read_dir(server.data_dir().join("pictures")).unwrap().count(), 2);
}
