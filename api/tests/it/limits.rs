//! What a request may ask for, and how often: limits and rates by configuration, trusted documents,
//! and what somebody without a token is not told.

use crate::camera;
use crate::server::{Answer, PATIENCE, Server};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server with what `toml` sets.
fn start(toml: &str) -> (Server, TempDir) {
    start_on(TempDir::new().unwrap(), toml)
}

fn start_on(data_dir: TempDir, toml: &str) -> (Server, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lookback.toml");
    std::fs::write(&path, toml).unwrap();
    (Server::start_with(&["--config", path.to_str().unwrap()], data_dir), dir)
}

fn ask(server: &Server, token: Option<&str>, body: &Value) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    server.post_json("/graphql", &headers, body)
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_again() {
    let (server, _dir) = start(
        "[rates]\nuser_points = { per_second = 1, burst = 60 }\n\
         device_calls = { per_second = 1, burst = 4 }\n\
         anonymous_calls = { per_second = 1, burst = 2 }\n\
         playback_sessions = { per_second = 1, burst = 1 }\n",
    );
    let camera = camera::register(&server, "cam");
    let user = server.token(&["--role", "viewer"]);
    let version = json!({"query": "{ service { version } }"});
    let page = json!({"query": "{ devices(first: 29) { nodes { id } } }"});
    let broken = json!({"query": "{ service {"});
    for (token, body, least, most) in [
        // What cannot be read is counted, too.
        (None, &broken, 2, 4),
        (Some(&camera.token), &version, 4, 8),
        // 30 points of the 60, of which registering has taken some.
        (Some(&user), &page, 1, 2),
    ] {
        let token = token.map(String::as_str);
        let passed = (0..20).take_while(|_| ask(&server, token, body).status != 429).count();
        assert!((least..=most).contains(&passed), "{passed} of {body}");
        let refused = ask(&server, token, body);
        assert_eq!((refused.status, code(&refused.json())), (429, "RATE_LIMITED"), "{body}");
        let retry_after = refused.header("retry-after").unwrap().to_owned();
        let told = &refused.json()["errors"][0]["extensions"]["retryAfterSeconds"];
        assert_eq!(told.to_string(), retry_after);
        assert!(refused.json()["data"].is_null(), "{refused:?}");
    }
}

#[test]
fn what_costs_more_has_a_rate_of_its_own() {
    let (server, _dir) = start("[rates]\nplayback_sessions = { per_second = 1, burst = 1 }\n");
    let camera = camera::register(&server, "cam");
    let user = server.token(&["--role", "viewer"]);
    let query = "query($input: PlaybackSessionInput!) { a: playbackSession(input: $input)
        { __typename } b: playbackSession(input: $input) { __typename } service { version } }";
    let input = json!({"streamId": camera.stream, "mode": "LIVE"});
    let answer = ask(&server, Some(&user), &json!({"query": query, "variables": {"input": input}}));
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(code(&answer), "RATE_LIMITED");
    assert_eq!(answer["errors"][0]["extensions"]["retryAfterSeconds"], 1);
    let sessions = [&answer["data"]["a"], &answer["data"]["b"]];
    assert_eq!(sessions.iter().filter(|session| session.is_null()).count(), 1, "{answer}");
    assert!(answer["data"]["service"]["version"].is_string(), "{answer}");
}

#[test]
fn limits_are_what_is_configured() {
    let (server, _dir) = start("[limits]\ncost = 1000\ndepth = 10\npage_items = 60\n");
    let user = server.token(&["--role", "viewer"]);
    let limits = "{ service { limits { maxComplexity maxDepth maxPageSize } } }";
    let told = ask(&server, None, &json!({"query": limits})).json();
    let expected = json!({"maxComplexity": 1000, "maxDepth": 10, "maxPageSize": 60});
    assert_eq!(told["data"]["service"]["limits"], expected);
    for (query, expected) in [
        ("{ devices(first: 60) { nodes { id } } }", None),
        ("{ devices(first: 61) { nodes { id } } }", Some("PAGE_LIMIT")),
        (
            "{ devices(first: 60) { nodes { events(first: 20) { nodes { id } } } } }",
            Some("COST_LIMIT"),
        ),
        ("{a{a{a{a{a{a{a{a{a{a{a}}}}}}}}}}}", Some("DEPTH_LIMIT")),
    ] {
        let answer = ask(&server, Some(&user), &json!({"query": query})).json();
        assert_eq!(answer["errors"][0]["extensions"]["code"].as_str(), expected, "{answer}");
    }
}

#[test]
fn trusted_documents_are_run_by_name() {
    let text = "query Version { service { version } }";
    let bare = Command::new("sh")
        .args(["-c", &format!("printf %s '{text}' | sha256sum | cut -d' ' -f1")])
        .output()
        .unwrap();
    let id = format!("sha256:{}", String::from_utf8(bare.stdout).unwrap().trim());
    let manifest = TempDir::new().unwrap();
    let path = manifest.path().join("documents.json");
    std::fs::write(&path, json!({&id: text}).to_string()).unwrap();
    for required in [false, true] {
        let server = Server::start();
        let device = camera::register(&server, "cam").token;
        let viewer = server.token(&["--role", "viewer"]);
        let admin = server.token(&["--role", "admin"]);
        let (server, _dir) = start_on(
            server.kill(),
            &format!("[documents]\nmanifest = '{}'\nrequired = {required}\n", path.display()),
        );
        let refused = required.then_some("DOCUMENT_REQUIRED");
        let unknown = format!("sha256:{}", "0".repeat(64));
        let viewers: Value = serde_json::from_str(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../web/src/graphql/documents.json"
        )))
        .unwrap();
        let own = viewers.as_object().unwrap().values().find(|text| {
            text.as_str().is_some_and(|text| text.trim_start().starts_with("query Viewer {"))
        });
        for (token, body, expected) in [
            (Some(&viewer), json!({"query": own.unwrap()}), None),
            (None, json!({"documentId": id}), None),
            (None, json!({"documentId": unknown}), Some("DOCUMENT_NOT_FOUND")),
            (None, json!({"documentId": "x"}), Some("DOCUMENT_NOT_FOUND")),
            (None, json!({"query": text}), None),
            (None, json!({"query": format!("{text} ")}), refused),
            (Some(&viewer), json!({"query": "{ viewer { id } }"}), refused),
            (Some(&viewer), json!({"documentId": id, "operationName": "Version"}), None),
            (Some(&admin), json!({"query": "{ viewer { id } }"}), None),
            (Some(&device), json!({"query": "{ viewer { id } }"}), None),
        ] {
            let answer = ask(&server, token.map(String::as_str), &body).json();
            let got = answer["errors"][0]["extensions"]["code"].as_str();
            assert_eq!(got, expected, "{body} where required is {required}: {answer}");
        }
        let by_get = server.get(&format!("/graphql?documentId={id}"), &[]).json();
        assert!(by_get["data"]["service"]["version"].is_string(), "{by_get}");
    }
}

#[test]
fn strangers_are_told_nothing_of_the_schema() {
    let server = Server::start();
    let viewer = server.token(&["--role", "viewer"]);
    let introspection = [
        "{ __schema { types { name } } }",
        "{ service { version } ... { __schema { types { name } } } }",
        "{ ...f } fragment f on Query { t: __schema { types { name } } }",
    ];
    for query in introspection {
        let answer = ask(&server, None, &json!({"query": query})).json();
        assert_eq!(code(&answer), "UNAUTHENTICATED", "{query}");
        let answer = ask(&server, Some(&viewer), &json!({"query": query})).json();
        assert!(answer["errors"].is_null(), "{query}: {answer}");
    }
    let query = "query($name: String!) { __type(name: $name) { name } }";
    let body = json!({"query": query, "variables": {"name": "Device"}});
    assert_eq!(ask(&server, None, &body).json(), json!({"data": {"__type": null}}));
    let known = ask(&server, Some(&viewer), &body).json();
    assert_eq!(known, json!({"data": {"__type": {"name": "Device"}}}));
    let named = ask(&server, None, &json!({"query": "{ __typename service { __typename } }"}));
    let expected = json!({"__typename": "Query", "service": {"__typename": "ServiceInfo"}});
    assert_eq!(named.json()["data"], expected);
    // What tools that guess schemas send: names that are nearly right.
    for query in [
        "{ servce { version } }",
        "{ service { versio } }",
        "{ service { limits { maxDept } } }",
        "{ device(rf: {id: \"a\"}) { id } }",
        "{ device(ref: {i: \"a\"}) { id } }",
        "{ devices(filter: {states: [ACTIV]}) { nodes { id } } }",
        "{ service { version @skip(of: true) } }",
        "{ service { version @skp(if: true) } }",
        "query($a: Devic) { service { version } }",
        "mutation { registerDevic { device { id } } }",
        "{ nod(id: \"a\") { ... on Devic { id } } }",
    ] {
        let answer = ask(&server, None, &json!({"query": query})).text().to_owned();
        assert!(answer.contains("GRAPHQL_VALIDATION_FAILED"), "{query}: {answer}");
        assert!(!answer.contains("mean"), "{query}: {answer}");
    }
    let known = ask(&server, Some(&viewer), &json!({"query": "{ servce { version } }"}));
    assert!(known.text().contains("Did you mean"), "{known:?}");
}

/// It would hold its connection, and what is buffered there, for as long as it likes.
#[test]
fn who_reads_nothing_is_cut_off() {
    const ANSWERS: usize = 400;
    let (server, _dir) = start("[rates]\nenabled = false\n[limits]\nunread_seconds = 1\n");
    let admin = server.token(&["--role", "admin"]);
    let query = "{ __schema { types { name description fields { name description } } } }";
    let body = json!({ "query": query }).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let sent = stream.write_all(request.repeat(ANSWERS).as_bytes());
    assert!(sent.is_ok(), "{sent:?}");
    // Once the server has let go, whatever comes for it is refused.
    let begun = Instant::now();
    while !stream.write(b" ").is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
        assert!(begun.elapsed() < PATIENCE, "the connection is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}
