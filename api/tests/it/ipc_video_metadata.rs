//! The REST API of cameras that know no GraphQL, against the real server.

use crate::camera::{self, Registered};
use crate::playback::{now_ms, upload};
use crate::server::{Answer, Server};
use serde_json::{Value, json};

const PATH: &str = "/ipc-video-metadata";

fn fields(beg_ms: u64, end_ms: u64) -> Value {
    json!({
        "clientID": "client-1", "deviceID": "cam", "streamName": "main",
        "begTime": beg_ms.to_string(), "endTime": end_ms.to_string(),
        "duration": ((end_ms - beg_ms) / 1_000).to_string(),
    })
}

fn with(mut fields: Value, name: &str, value: Value) -> Value {
    fields[name] = value;
    fields
}

fn send(server: &Server, method: &str, token: Option<&str>, fields: &Value) -> Answer {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(token.map(|_| ("authorization", &bearer[..])));
    let body = fields.to_string();
    if method == "GET" {
        // A body with `GET` has to say its length, too.
        let len = body.len().to_string();
        headers.push(("content-length", &len));
        return server.request(method, PATH, &headers, body.as_bytes());
    }
    server.request(method, PATH, &headers, body.as_bytes())
}

fn message(answer: &Answer) -> String {
    let message = answer.json()["message"].clone();
    message.as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// What the catalog has of the camera's last hour.
fn announced(server: &Server, camera: &Registered) -> Value {
    let viewer = server.token(&["--role", "viewer"]);
    let query = "query($id: ID!, $range: TimeRangeInput!) { node(id: $id) { ... on Stream {
        segments(range: $range) { nodes { trigger range { durationSeconds } } } } } }";
    let range = json!({
        "start": crate::footage::rfc3339(now_ms() - 3_600_000),
        "end": crate::footage::rfc3339(now_ms()),
    });
    let variables = json!({"id": camera.stream, "range": range});
    server.graphql(Some(&viewer), query, variables)["data"]["node"]["segments"]["nodes"].clone()
}

#[test]
fn what_is_put_is_announced_once_and_plays() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let base = now_ms() / 1_000 * 1_000 - 600_000;
    upload(&server, &camera, (0..4).map(|second| base + second * 1_000));

    let span = fields(base, base + 4_000);
    for named in ["main", &camera.media_stream, "main"] {
        let span = with(span.clone(), "streamName", json!(named));
        let put = send(&server, "PUT", Some(&camera.token), &span);
        assert_eq!((put.status, put.json()), (200, json!({})), "{put:?}");
    }
    let one = json!([{"trigger": "CONTINUOUS", "range": {"durationSeconds": 4.0}}]);
    assert_eq!(announced(&server, &camera), one);
    // Another client's segment of the same time is another one.
    let other = with(span.clone(), "clientID", json!("client-2"));
    assert_eq!(send(&server, "PUT", Some(&camera.token), &other).status, 200);
    assert_eq!(announced(&server, &camera).as_array().unwrap().len(), 2);

    let query = format!(
        "{PATH}?deviceID=cam&streamName={}&begTime={base}&endTime={}",
        camera.media_stream,
        base + 4_000
    );
    let bearer = format!("Bearer {viewer}");
    let by_query = server.get(&query, &[("authorization", &bearer)]);
    let by_body = send(&server, "GET", Some(&viewer), &span);
    for answer in [by_query, by_body, send(&server, "GET", Some(&camera.token), &span)] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let url = answer.json();
        let path = url.as_str().and_then(|url| url.strip_prefix(&server.url())).unwrap();
        let playlist = server.get(path, &[]);
        assert_eq!(playlist.status, 200);
        let video = server.get(&path.replace("main.m3u8", "video.m3u8"), &[]);
        let segments = video.text().lines().filter(|line| line.starts_with("#EXTINF"));
        assert_eq!(segments.count(), 4, "{}", video.text());
    }
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let other = camera::register(&server, "other").token;
    let (viewer, manager) =
        (server.token(&["--role", "viewer"]), server.token(&["--role", "manager"]));
    let (camera, viewer) = (Some(&camera.token[..]), Some(&viewer[..]));
    let base = now_ms() - 60_000;
    let span = fields(base, base + 20_000);
    assert_eq!(send(&server, "PUT", camera, &span).status, 200);
    let week_ago = base - 8 * 86_400_000;
    let stream = "deviceID and streamName name no stream";
    for (method, token, fields, status, expected) in [
        ("PUT", None, span.clone(), 401, "bearer"),
        ("PUT", Some("x"), span.clone(), 401, ""),
        ("GET", None, span.clone(), 401, "bearer"),
        ("PUT", viewer, span.clone(), 403, "only a device"),
        ("PUT", Some(&manager), span.clone(), 403, "only a device"),
        ("PUT", Some(&other), span.clone(), 404, stream),
        ("GET", Some(&other), span.clone(), 404, stream),
        ("PUT", camera, with(span.clone(), "deviceID", json!("nobody")), 404, stream),
        ("PUT", camera, with(span.clone(), "streamName", json!("nothing")), 404, stream),
        ("GET", viewer, with(span.clone(), "deviceID", json!("nobody")), 404, stream),
        ("GET", viewer, with(span.clone(), "streamName", json!("nothing")), 404, stream),
        ("GET", viewer, span.clone(), 404, "no footage"),
        ("GET", viewer, fields(week_ago, week_ago + 20_000), 404, "not kept"),
        ("GET", viewer, fields(base - 90_000_000, base), 400, "endTime"),
        ("PUT", camera, with(span.clone(), "begTime", json!("yesterday")), 400, "begTime"),
        ("GET", viewer, with(span.clone(), "endTime", json!(7)), 400, "endTime"),
        ("PUT", camera, with(span.clone(), "duration", Value::Null), 400, "duration"),
        ("PUT", camera, json!([span]), 400, "object"),
        // The same begin with another end.
        ("PUT", camera, fields(base, base + 21_000), 409, "begTime"),
        ("PUT", camera, fields(base, base + 301_000), 400, "endTime"),
        ("PUT", camera, fields(base, base + 250_000), 400, "endTime"),
        ("PUT", camera, fields(week_ago, week_ago + 20_000), 400, "endTime"),
        ("PUT", camera, with(span.clone(), "clientID", json!("x".repeat(20_000))), 413, "bytes"),
        ("DELETE", camera, span.clone(), 405, "PUT"),
    ] {
        let answer = send(&server, method, token, &fields);
        assert_eq!(answer.status, status, "{method} {fields}: {answer:?}");
        let message = message(&answer);
        assert!(message.contains(expected), "{method} {fields}: {message}");
    }
    let bearer = format!("Bearer {}", camera.unwrap());
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("authorization", &bearer[..]), ("content-type", content_type)];
        let answer = server.request("PUT", PATH, &headers, span.to_string().as_bytes());
        assert_eq!(answer.status, 415, "{content_type}: {answer:?}");
    }
}

#[test]
fn calls_are_counted_with_those_of_graphql() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let rates = "[rates]\ndevice_calls = { per_second = 1, burst = 4 }\n";
    std::fs::write(config.path(), rates).unwrap();
    let flags = ["--config", config.path().to_str().unwrap()];
    let server = Server::start_with(&flags, tempfile::TempDir::new().unwrap());
    let token = camera::register(&server, "cam").token;
    let refused = (0..1_000)
        .map(|_| send(&server, "PUT", Some(&token), &json!({})))
        .find(|answer| answer.status != 400)
        .unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(message(&refused).contains(&format!("{seconds} s")), "{refused:?}");
}
