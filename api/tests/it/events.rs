//! Events over GraphQL: what is taken in, how it is asked for, and what stands about it in timelines.

use crate::camera::{self, Registered};
use crate::footage;
use crate::server::{Answer, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType, Encoder};
use serde_json::{Value, json};

/// What is read of an event.
const EVENT: &str = "id type label severity start end confidence attributes seen device { id }";

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn rfc3339(millis: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// A device that reports.
struct Reporter<'a> {
    server: &'a Server,
    camera: Registered,
}

impl<'a> Reporter<'a> {
    fn new(server: &'a Server, name: &str) -> Self {
        Self { server, camera: camera::register(server, name) }
    }

    fn ingest(&self, events: &[Value]) -> Value {
        let query = format!(
            "mutation($input: IngestEventsInput!) {{ ingestEvents(input: $input) {{
               results {{ clientEventId status event {{ {EVENT} thumbnail {{ url width height }} }}
                 rejection {{ code retryable }} }}
               advice {{ heartbeatSeconds retentionPlan {{ days }} }} userErrors {{ code path }} }} }}"
        );
        let input = json!({"sentAt": rfc3339(now()), "events": events});
        let answer = self.server.graphql(Some(&self.camera.token), &query, json!({"input": input}));
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"]["ingestEvents"].clone()
    }

    /// Status and, of what was refused, the code.
    fn outcomes(&self, events: &[Value]) -> Vec<String> {
        let answer = self.ingest(events);
        assert_eq!(answer["userErrors"], json!([]));
        let outcome = |result: &Value| {
            assert_ne!(result["event"].is_null(), result["rejection"].is_null(), "{result}");
            let code = result["rejection"]["code"].as_str().unwrap_or_default();
            let status = result["status"].as_str().unwrap();
            if status == "REJECTED" { code.to_owned() } else { status.to_owned() }
        };
        answer["results"].as_array().unwrap().iter().map(outcome).collect()
    }
}

/// An event of an instant `ago_s` seconds ago, with changes.
fn event(id: &str, ago_s: i64, changes: Value) -> Value {
    let start = now() / 1000 * 1000 - ago_s * 1000;
    let mut event = json!({"clientEventId": id, "type": "MOTION", "start": rfc3339(start)});
    for (name, value) in changes.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

/// What a query of the root answers; without an error.
fn ask(server: &Server, token: &str, query: &str) -> Value {
    let answer = server.graphql(Some(token), query, json!({}));
    assert!(answer["errors"].is_null(), "{query}: {answer}");
    answer["data"].clone()
}

/// A field of each node.
fn each(connection: &Value, field: &str) -> Vec<String> {
    let nodes = connection["nodes"].as_array().unwrap_or_else(|| panic!("{connection}"));
    nodes.iter().map(|node| node[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn reports_are_judged_one_by_one() {
    let server = Server::start();
    let cam = Reporter::new(&server, "cam");
    let first = event("a", 30, json!({"attributes": {"zone": [1, {"n": 2.5}]}, "label": "gate"}));
    let ended = |id: &str, start: &Value, s: i64| {
        let begun = chrono::DateTime::parse_from_rfc3339(start.as_str().unwrap()).unwrap();
        let end = rfc3339(begun.timestamp_millis() + s * 1000);
        event(id, 0, json!({"start": start, "end": end, "label": "gate"}))
    };
    let moved = event("a", 29, json!({}));
    let start = &first["start"];
    for (events, expected) in [
        (vec![first.clone()], vec!["STORED"]),
        (vec![first.clone()], vec!["DUPLICATE"]),
        (vec![ended("a", start, 5)], vec!["UPDATED"]),
        (vec![ended("a", start, 5)], vec!["DUPLICATE"]),
        // The first report once more, late, does not make it last again.
        (vec![first.clone()], vec!["DUPLICATE"]),
        (vec![ended("a", start, 0)], vec!["INVALID_RANGE"]),
        (vec![event("ahead", -130, json!({}))], vec!["CLOCK_AHEAD"]),
        (vec![event("old", 8 * 86_400, json!({}))], vec!["OUTSIDE_RETENTION"]),
        (
            vec![
                event("b", 60, json!({})),
                event("b c", 60, json!({})),
                event("c", 60, json!({"confidence": 1.5})),
                event("b", 60, json!({})),
                event("d", 60, json!({"thumbnailBase64": "bm8gcGljdHVyZQ=="})),
                event("e", 60, json!({"severity": "ALERT", "type": "PERSON", "confidence": 0.5})),
            ],
            vec![
                "STORED",
                "INVALID_VALUE",
                "INVALID_VALUE",
                "DUPLICATE_IN_BATCH",
                "INVALID_VALUE",
                "STORED",
            ],
        ),
    ] {
        assert_eq!(cam.outcomes(&events), expected, "{events:?}");
    }
    // Another start under the same identifier, unless a border of the five minutes lies between.
    let conflict = cam.outcomes(std::slice::from_ref(&moved));
    let window = |event: &Value| {
        let at = chrono::DateTime::parse_from_rfc3339(event["start"].as_str().unwrap()).unwrap();
        at.timestamp_millis() / 300_000
    };
    let same_window = window(&first) == window(&moved);
    assert_eq!(conflict, [if same_window { "IDEMPOTENCY_CONFLICT" } else { "STORED" }]);

    // What became of it, by its identifier.
    let stored = cam.ingest(std::slice::from_ref(&first))["results"][0]["event"].clone();
    assert_eq!((&stored["label"], &stored["start"]), (&json!("gate"), start));
    assert_eq!(stored["attributes"], first["attributes"]);
    assert!(stored["end"].is_string() && stored["severity"] == "NOTICE", "{stored}");
    assert_eq!(stored["device"]["id"], json!(cam.camera.device));
    let viewer = server.token(&["--role", "viewer"]);
    let id = stored["id"].as_str().unwrap();
    let query = format!("{{ node(id: \"{id}\") {{ id ... on Event {{ label }} }} }}");
    assert_eq!(ask(&server, &viewer, &query)["node"]["label"], "gate");
    let stranger = server.token(&["--role", "admin", "--account", "elsewhere"]);
    assert!(ask(&server, &stranger, &query)["node"].is_null());

    // Whole calls are refused for their size.
    let many: Vec<Value> = (0..101).map(|n| event(&n.to_string(), 60, json!({}))).collect();
    for (events, code) in [(&many[..0], "INVALID"), (&many[..], "LIMIT_REACHED")] {
        let answer = cam.ingest(events);
        assert_eq!(answer["results"], json!([]));
        assert_eq!(answer["userErrors"], json!([{"code": code, "path": ["input", "events"]}]));
    }
    let accepted = cam.outcomes(&many[1..]);
    assert!(accepted.iter().all(|status| status == "STORED"), "{accepted:?}");

    // Only a device reports, and one that is suspended is told so.
    let input = json!({"input": {"sentAt": rfc3339(now()), "events": [event("x", 1, json!({}))]}});
    let mutation = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) { userErrors { code } } }";
    for (token, code) in [(None, "UNAUTHENTICATED"), (Some(viewer.as_str()), "FORBIDDEN")] {
        let answer = server.graphql(token, mutation, input.clone());
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{answer}");
    }
    let manager = server.token(&["--role", "manager"]);
    let suspend = format!(
        "mutation {{ updateDevice(input: {{id: \"{}\", suspended: true}}) {{ device {{ state }} }} }}",
        cam.camera.device
    );
    ask(&server, &manager, &suspend);
    assert_eq!(cam.outcomes(&[event("y", 1, json!({}))]), ["DEVICE_NOT_ACTIVE"]);
}

#[test]
fn events_are_paged_over_devices_filtered_and_marked() {
    let server = Server::start();
    let cams: Vec<Reporter> =
        ["north", "south", "west"].iter().map(|name| Reporter::new(&server, name)).collect();
    let mut newest_first = Vec::new();
    for n in 0..12i64 {
        let name = format!("{n:02}");
        let changes = match n % 4 {
            0 => json!({"label": name, "type": "PERSON", "severity": "ALERT"}),
            1 => json!({"label": name, "severity": "INFO"}),
            _ => json!({"label": name}),
        };
        let cam = &cams[n as usize % 3];
        assert_eq!(cam.outcomes(&[event(&name, 600 + n * 10, changes)]), ["STORED"]);
        newest_first.push(name);
    }
    let viewer = server.token(&["--role", "viewer"]);
    let events = |arguments: &str| {
        let query = format!(
            "{{ events{arguments} {{ nodes {{ id label seen }} pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        ask(&server, &viewer, &query)["events"].clone()
    };
    for size in [1, 5, 12] {
        let mut paged = Vec::new();
        let mut after = String::new();
        loop {
            let page = events(&format!("(first: {size}{after})"));
            paged.extend(each(&page, "label"));
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = format!(", after: {}", page["pageInfo"]["endCursor"]);
        }
        assert_eq!(paged, newest_first, "{size} at a time");
    }
    let of = |picked: &[usize]| {
        json!(picked.iter().map(|n| &cams[*n].camera.device).collect::<Vec<_>>())
    };
    for (arguments, expected) in [
        ("(filter: {types: [PERSON]})".to_owned(), vec!["00", "04", "08"]),
        ("(filter: {types: []})".into(), vec![]),
        ("(filter: {minSeverity: ALERT, types: [MOTION, PERSON]})".into(), vec!["00", "04", "08"]),
        ("(filter: {minSeverity: NOTICE}, first: 3)".into(), vec!["00", "02", "03"]),
        (format!("(deviceIds: {})", of(&[1])), vec!["01", "04", "07", "10"]),
        (format!("(deviceIds: {}, first: 3)", of(&[1, 2, 1])), vec!["01", "02", "04"]),
        ("(deviceIds: [\"dev_x\"])".into(), vec![]),
        ("(deviceIds: [])".into(), vec![]),
        (
            format!(
                "(range: {{start: \"{}\", end: \"{}\"}})",
                rfc3339(now() - 645_000),
                rfc3339(now() - 615_000)
            ),
            vec!["02", "03", "04"],
        ),
    ] {
        assert_eq!(each(&events(&arguments), "label"), expected, "{arguments}");
    }
    let one = "{ device(ref: {externalId: \"north\"}) {
        events(order: OLDEST_FIRST, first: 2) { nodes { label } } } }";
    let device = ask(&server, &viewer, one)["device"].clone();
    assert_eq!(each(&device["events"], "label"), ["09", "06"]);
    let stranger = server.token(&["--role", "viewer", "--account", "elsewhere"]);
    let abroad = format!("{{ events(deviceIds: {}) {{ nodes {{ id }} }} }}", of(&[0]));
    assert_eq!(each(&ask(&server, &stranger, &abroad)["events"], "id"), [""; 0]);

    // Seen by one is not seen by another.
    let all = each(&events(""), "id");
    let mark = |token: &str, ids: Value, seen: bool| {
        let query = format!(
            "mutation {{ markEventsSeen(input: {{eventIds: {ids}, seen: {seen}}}) {{
               events {{ id seen }} userErrors {{ code path }} }} }}"
        );
        ask(&server, token, &query)["markEventsSeen"].clone()
    };
    let marked = mark(&viewer, json!([all[3], "evt_x", all[1]]), true);
    let expected = json!([{"id": all[3], "seen": true}, null, {"id": all[1], "seen": true}]);
    assert_eq!(marked, json!({"events": expected, "userErrors": []}));
    assert_eq!(mark(&stranger, json!([all[0]]), true)["events"], json!([null]));
    mark(&viewer, json!([all[1]]), false);
    assert_eq!(each(&events("(filter: {seen: true})"), "label"), ["03"]);
    assert_eq!(
        each(&events("(filter: {seen: false}, first: 4)"), "label"),
        ["00", "01", "02", "04"]
    );
    assert_eq!(mark(&viewer, json!([]), true)["userErrors"][0]["code"], "INVALID");
    let manager = server.token(&["--role", "manager"]);
    let unseen = ask(&server, &manager, "{ events(filter: {seen: true}) { nodes { id } } }");
    let same_caller =
        ask(&server, &manager, "{ viewer { id } }") == ask(&server, &viewer, "{ viewer { id } }");
    assert_eq!(each(&unseen["events"], "id").len(), usize::from(same_caller));
}

#[test]
fn events_come_with_pictures_and_footage() {
    let server = Server::start();
    let cam = Reporter::new(&server, "cam");
    let begin = footage::an_hour_ago() / 1000 * 1000;
    footage::connection(server.address, &cam.camera, |upload| {
        (0..10).try_for_each(|n| footage::persist(upload, begin + n * footage::FRAGMENT_MS, n))
    })
    .unwrap();
    let at = |ms: i64| rfc3339(begin as i64 + ms);
    let mut jpeg = Vec::new();
    let pixels: Vec<u8> = (0..800 * 400).flat_map(|_| [220, 20, 20]).collect();
    Encoder::new(&mut jpeg, 60).encode(&pixels, 800, 400, ColorType::Rgb).unwrap();
    let report = |id: &str, start: i64, end: i64, changes: Value| {
        let mut event = event(id, 0, changes);
        (event["start"], event["end"]) = (json!(at(start)), json!(at(end)));
        event
    };
    let picture = json!({"thumbnailBase64": STANDARD.encode(&jpeg)});
    let answer = cam.ingest(&[
        report("inside", 2_000, 4_000, picture),
        report("beside", -60_000, -50_000, json!({})),
        report("before", -3_000, -1_000, json!({})),
    ]);
    let link = &answer["results"][0]["event"]["thumbnail"];
    assert_eq!((&link["width"], &link["height"]), (&json!(320), &json!(160)));
    let path = link["url"].as_str().unwrap().strip_prefix(&server.url()).unwrap();
    let fetched = server.get(path, &[]);
    assert_eq!(fetched.status, 200);
    assert_eq!(fetched.header("content-type"), Some("image/jpeg"));
    assert_eq!(&fetched.body[..3], [0xff, 0xd8, 0xff]);
    assert_eq!(size(&fetched), (320, 160));
    let elsewhere = path.replace("evt_", "evt_0");
    assert_eq!(server.get(&elsewhere, &[]).status, 404);

    let viewer = server.token(&["--role", "viewer"]);
    let query = "{ events { nodes { label clip { range { start end } stream { name } }
       exact: clip(preRollSeconds: 0, postRollSeconds: 0) { mediaSeconds range { start end } } } } }";
    let found = ask(&server, &viewer, query)["events"]["nodes"].clone();
    let inside = json!({"range": {"start": at(0), "end": at(8_000)}, "stream": {"name": "main"}});
    assert_eq!(found[0]["clip"], inside);
    let exact = json!({"mediaSeconds": 2.0, "range": {"start": at(2_000), "end": at(4_000)}});
    assert_eq!(found[0]["exact"], exact);
    assert_eq!(found[1]["clip"]["range"], json!({"start": at(0), "end": at(4_000)}));
    assert!(found[1]["exact"].is_null() && found[2]["clip"].is_null(), "{found}");
    let too_long = server.graphql(
        Some(&viewer),
        "{ events { nodes { clip(preRollSeconds: 601) { growing } } } }",
        json!({}),
    );
    assert_eq!(too_long["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

#[test]
fn timelines_count_events_and_say_what_the_camera_knows() {
    let server = Server::start();
    let cam = Reporter::new(&server, "cam");
    let viewer = server.token(&["--role", "viewer"]);
    let beat = |input: Value| {
        let mut input = input;
        input["sentAt"] = json!(rfc3339(now() + 30_000));
        let query = "mutation($input: HeartbeatInput!) { reportHeartbeat(input: $input) {
            advice { clockSkewSeconds } userErrors { code path } } }";
        let answer = server.graphql(Some(&cam.camera.token), query, json!({"input": input}));
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"]["reportHeartbeat"].clone()
    };
    let device = || {
        let query = "{ device(ref: {externalId: \"cam\"}) {
            connectivity firmwareVersion clockSkewSeconds lastSeenAt } }";
        ask(&server, &viewer, query)["device"].clone()
    };
    assert_eq!(device()["connectivity"], "UNKNOWN");
    let begin = now() / 1000 * 1000 - 600_000;
    let at = |s: i64| rfc3339(begin + s * 1000);
    let gap = |from: i64, to: i64, reason: &str| json!({"range": {"start": at(from), "end": at(to)}, "reason": reason});
    let elsewhere = json!({"stream": "attic", "range": {"start": at(0), "end": at(1)}, "reason": "DEVICE_OFFLINE"});
    let many: Vec<Value> = (0..21).map(|n| gap(n, n + 1, "DEVICE_OFFLINE")).collect();
    for (input, code, path) in [
        (json!({"firmwareVersion": ""}), "INVALID", json!(["input", "firmwareVersion"])),
        (json!({"knownGaps": many}), "LIMIT_REACHED", json!(["input", "knownGaps"])),
        (
            json!({"knownGaps": [gap(0, 1, "EXPIRED")]}),
            "INVALID",
            json!(["input", "knownGaps", "0", "reason"]),
        ),
        (
            json!({"knownGaps": [gap(0, 1, "NOT_SCHEDULED"), gap(1, 1, "NOT_SCHEDULED")]}),
            "INVALID",
            json!(["input", "knownGaps", "1", "range"]),
        ),
        (
            json!({"knownGaps": [gap(0, 900, "NOT_SCHEDULED")]}),
            "INVALID",
            json!(["input", "knownGaps", "0", "range"]),
        ),
        (
            json!({"knownGaps": [elsewhere]}),
            "NOT_FOUND",
            json!(["input", "knownGaps", "0", "stream"]),
        ),
    ] {
        assert_eq!(beat(input)["userErrors"], json!([{"code": code, "path": path}]));
    }
    assert_eq!(device()["connectivity"], "UNKNOWN", "what was refused changed nothing");

    let told = beat(json!({
        "firmwareVersion": "2.1.0",
        "knownGaps": [gap(60, 120, "NOT_SCHEDULED"), gap(200, 260, "DEVICE_OFFLINE")],
    }));
    assert_eq!(told["userErrors"], json!([]));
    let skew = told["advice"]["clockSkewSeconds"].as_f64().unwrap();
    assert!((0.0..=30.0).contains(&skew), "{skew}");
    let seen = device();
    assert_eq!(
        (&seen["connectivity"], &seen["firmwareVersion"]),
        (&json!("ONLINE"), &json!("2.1.0"))
    );
    assert!(seen["lastSeenAt"].is_string() && seen["clockSkewSeconds"].is_number(), "{seen}");

    for (id, s) in [("a", 0), ("b", 99), ("c", 100), ("d", 299), ("e", 300), ("f", -1)] {
        let event = event(id, 0, json!({"start": at(s)}));
        assert_eq!(cam.outcomes(&[event]), ["STORED"]);
    }
    let day = &at(0)[..10];
    let query = format!(
        "{{ device(ref: {{externalId: \"cam\"}}) {{ stream {{
           coverage(range: {{start: \"{}\", end: \"{}\"}}, bucketSeconds: 100) {{
             eventCounts gaps {{ reason range {{ start end }} }} }}
           calendar(from: \"2026-01-01\", to: \"2026-01-02\", timeZone: \"UTC\") {{ date }}
           today: calendar(from: \"{day}\", to: \"{day}\", timeZone: \"UTC\") {{ eventCount coveredSeconds }} }} }} }}",
        at(0),
        at(300)
    );
    let stream = ask(&server, &viewer, &query)["device"]["stream"].clone();
    assert_eq!(stream["coverage"]["eventCounts"], json!([2, 1, 1]));
    let gaps: Vec<_> = stream["coverage"]["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| (gap["reason"].as_str().unwrap(), gap["range"]["start"].clone()))
        .collect();
    let expected = [
        ("UNKNOWN", json!(at(0))),
        ("NOT_SCHEDULED", json!(at(60))),
        ("UNKNOWN", json!(at(120))),
        ("DEVICE_OFFLINE", json!(at(200))),
        ("UNKNOWN", json!(at(260))),
    ];
    assert_eq!(gaps, expected);
    assert_eq!(stream["calendar"], json!([]));
    // All of them, unless midnight lies between.
    let same_day = [-1, 0, 99, 100, 299, 300].iter().filter(|s| at(**s).starts_with(day)).count();
    assert_eq!(stream["today"], json!([{"eventCount": same_day, "coveredSeconds": 0.0}]));
}

/// Width and height of a JPEG, from its frame header (ITU-T T.81 §B.2.2).
fn size(answer: &Answer) -> (u16, u16) {
    let at = answer.body.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
    let side = |at: usize| u16::from_be_bytes([answer.body[at], answer.body[at + 1]]);
    (side(at + 7), side(at + 5))
}
