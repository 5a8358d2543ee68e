//! The GraphQL API over HTTP: who is answered what, how announcements are judged, how much a request
//! may be, and the audits of GraphQL over HTTP.

use crate::camera::{self, Upload};
use crate::server::{Answer, PATIENCE, Server};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

impl Server {
    pub fn graphql(&self, token: Option<&str>, query: &str, variables: Value) -> Value {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let body = json!({"query": query, "variables": variables});
        self.post_json("/graphql", &headers, &body).json()
    }
}

/// The code of an answer's only error.
fn code(answer: &Value) -> &str {
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["errors"][0]["extensions"]["code"].as_str().unwrap()
}

const REGISTER: &str = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
    device { id externalId name model state timeZone connectivity lastSeenAt viewerRole
      retentionPlan { id name days isDefault } streams { id name mediaStreamName }
      credentials { id kind createdAt expiresAt revokedAt } }
    credential { token credential { id } } userErrors { code path message } } }";

const INGEST: &str = "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
    results { clientSegmentId status warnings segment { id range { start end durationSeconds } stream { device { state connectivity } } }
      rejection { code retryable } }
    advice { serverTime clockSkewSeconds batchSize flushSeconds heartbeatSeconds liveWanted
      retentionPlan { days } }
    userErrors { code path } } }";

fn rfc3339(millis: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// A segment of 20 s that ended `ago_s` seconds ago.
fn segment(id: &str, ago_s: i64) -> Value {
    let end = now() / 1000 * 1000 - ago_s * 1000;
    json!({"clientSegmentId": id, "start": rfc3339(end - 20_000), "end": rfc3339(end)})
}

fn ingest(server: &Server, token: &str, segments: &[Value]) -> Value {
    let input = json!({"sentAt": rfc3339(now()), "segments": segments});
    let answer = server.graphql(Some(token), INGEST, json!({"input": input}));
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"]["ingestSegments"].clone()
}

const ISSUE: &str = "mutation($input: IssueDeviceCredentialInput!) {
  issueDeviceCredential(input: $input) {
    credential { token accessKeyId secretAccessKey credential { id kind createdAt expiresAt } }
    userErrors { code path } } }";

const REVOKE: &str = "mutation($id: ID!) { revokeDeviceCredential(id: $id) {
    credential { id revokedAt lastUsedAt } userErrors { code path } } }";

#[test]
fn credentials_are_issued_and_revoked() {
    let server = Server::start();
    let manager = server.token(&["--role", "manager"]);
    let viewer = server.token(&["--role", "viewer"]);
    let elsewhere = server.token(&["--role", "admin", "--account", "elsewhere"]);
    let camera = camera::register(&server, "cam");
    let device = &camera.device;
    let issue =
        |token: Option<&str>, input: Value| server.graphql(token, ISSUE, json!({"input": input}));
    let renamed = server.graphql(
        Some(&manager),
        "mutation { updateDevice(input: { id: \"dev_x\" }) { userErrors { message path } } }",
        json!({}),
    );
    let expected = json!([{"message": "there is no such device", "path": ["input", "id"]}]);
    assert_eq!(renamed["data"]["updateDevice"]["userErrors"], expected);
    let revoke = |token: Option<&str>, id: &Value| server.graphql(token, REVOKE, json!({"id": id}));
    let key = json!({"deviceId": device, "kind": "ACCESS_KEY", "validDays": 2});
    assert_eq!(code(&issue(None, key.clone())), "UNAUTHENTICATED");
    for (token, input, code, field) in [
        (&viewer, key.clone(), "FORBIDDEN", "deviceId"),
        (&camera.token, key.clone(), "FORBIDDEN", "deviceId"),
        (&elsewhere, key.clone(), "NOT_FOUND", "deviceId"),
        (&manager, json!({"deviceId": "dev_x", "kind": "TOKEN"}), "NOT_FOUND", "deviceId"),
        (
            &manager,
            json!({"deviceId": device, "kind": "TOKEN", "validDays": 0}),
            "INVALID",
            "validDays",
        ),
        (
            &manager,
            json!({"deviceId": device, "kind": "TOKEN", "validDays": 3651}),
            "INVALID",
            "validDays",
        ),
    ] {
        let payload = issue(Some(token), input)["data"]["issueDeviceCredential"].clone();
        let expected =
            json!({"credential": null, "userErrors": [{"code": code, "path": ["input", field]}]});
        assert_eq!(payload, expected);
    }

    let issued = issue(Some(&manager), key)["data"]["issueDeviceCredential"]["credential"].clone();
    assert!(issued["token"].is_null() && issued["secretAccessKey"].is_string(), "{issued}");
    assert!(issued["accessKeyId"].as_str().unwrap().starts_with("LKIA"), "{issued}");
    assert_eq!(issued["credential"]["kind"], "ACCESS_KEY");
    let days = |from: &Value, to: &Value| {
        let at =
            |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
        (at(to) - at(from)).num_days()
    };
    let credential = &issued["credential"];
    assert_eq!(days(&credential["createdAt"], &credential["expiresAt"]), 2);
    let token = issue(Some(&manager), json!({"deviceId": device, "kind": "TOKEN"}));
    let token = token["data"]["issueDeviceCredential"]["credential"].clone();
    assert_eq!(days(&token["credential"]["createdAt"], &token["credential"]["expiresAt"]), 365);
    let status = || {
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let body = json!({"query": "{ viewer { id } }"});
        server.post_json("/graphql", &[("authorization", &bearer)], &body).status
    };
    assert_eq!(status(), 200);

    let id = &token["credential"]["id"];
    assert_eq!(code(&revoke(None, id)), "UNAUTHENTICATED");
    for (token, id) in [(&elsewhere, id), (&viewer, id), (&manager, &json!("cred_x"))] {
        let payload = revoke(Some(token), id)["data"]["revokeDeviceCredential"].clone();
        assert_eq!(payload["userErrors"], json!([{"code": "NOT_FOUND", "path": ["id"]}]));
    }
    assert_eq!(status(), 200);
    let revoked = revoke(Some(&manager), id)["data"]["revokeDeviceCredential"].clone();
    assert!(revoked["credential"]["revokedAt"].is_string(), "{revoked}");
    assert!(revoked["credential"]["lastUsedAt"].is_string(), "{revoked}");
    assert_eq!(status(), 401);
    let again = revoke(Some(&manager), id)["data"]["revokeDeviceCredential"].clone();
    assert_eq!(again, revoked, "it was revoked when it was");
}

#[test]
fn registering_a_device() {
    let server = Server::start();
    let manager = server.token(&["--role", "manager"]);
    let viewer = server.token(&["--role", "viewer"]);
    let register = |token: Option<&str>, changes: Value| {
        let mut input = json!({"externalId": "cam", "name": "Hof", "timeZone": "Asia/Kolkata"});
        for (name, value) in changes.as_object().unwrap() {
            input[name] = value.clone();
        }
        server.graphql(token, REGISTER, json!({"input": input}))
    };
    assert_eq!(code(&register(None, json!({}))), "UNAUTHENTICATED");
    assert_eq!(code(&register(Some(&viewer), json!({}))), "FORBIDDEN");

    let key = json!({"idempotencyKey": "k", "streams": ["main", "sub"], "model": "M"});
    let first = register(Some(&manager), key.clone())["data"]["registerDevice"].clone();
    let device = &first["device"];
    assert_eq!(first["userErrors"], json!([]), "{first}");
    assert_eq!(device["state"], "PROVISIONED");
    assert_eq!(device["connectivity"], "UNKNOWN");
    assert_eq!(device["viewerRole"], "MANAGER");
    assert_eq!(device["timeZone"], "Asia/Kolkata");
    assert_eq!(device["retentionPlan"]["days"], 7);
    let id = device["id"].as_str().unwrap();
    assert_eq!(device["streams"][0]["mediaStreamName"], format!("{id}-main"));
    assert_eq!(device["streams"][1]["name"], "sub");

    let again = register(Some(&manager), key)["data"]["registerDevice"].clone();
    assert_eq!(again["device"]["id"], device["id"]);
    assert_ne!(again["credential"]["credential"]["id"], first["credential"]["credential"]["id"]);
    let credentials = again["device"]["credentials"].as_array().unwrap();
    let revoked = credentials.iter().filter(|c| !c["revokedAt"].is_null()).count();
    assert_eq!((credentials.len(), revoked), (2, 1), "{credentials:?}");
    let old = first["credential"]["token"].as_str().unwrap();
    let bearer = format!("Bearer {old}");
    let body = json!({"query": "{ viewer { id } }"});
    let refused = server.post_json("/graphql", &[("authorization", &bearer)], &body);
    assert_eq!(refused.status, 401, "a revoked token");

    let other_key = register(Some(&manager), json!({"idempotencyKey": "k", "name": "Other"}));
    let mistakes = |answer: &Value| {
        let payload = &answer["data"]["registerDevice"];
        assert!(payload["device"].is_null() && payload["credential"].is_null(), "{answer}");
        let mistake = &payload["userErrors"][0];
        (mistake["code"].as_str().unwrap().to_owned(), mistake["path"].clone())
    };
    for (answer, code, path) in [
        (other_key, "IDEMPOTENCY_CONFLICT", json!(["input", "idempotencyKey"])),
        (register(Some(&manager), json!({})), "TAKEN", json!(["input", "externalId"])),
        (
            register(
                Some(&manager),
                json!({"externalId": "b", "mediaStreamNames": [format!("{id}-main")]}),
            ),
            "TAKEN",
            json!(["input", "mediaStreamNames"]),
        ),
        (
            register(Some(&manager), json!({"externalId": "c", "retentionPlanId": "plan_x"})),
            "NOT_FOUND",
            json!(["input", "retentionPlanId"]),
        ),
        (register(Some(&manager), json!({"name": ""})), "INVALID", json!(["input", "name"])),
    ] {
        assert_eq!(mistakes(&answer), (code.to_owned(), path));
    }
    let zone = register(Some(&manager), json!({"timeZone": "+05:30"}));
    assert_eq!(code(&zone), "GRAPHQL_VALIDATION_FAILED");
    let form = "input.timeZone\", expected type \"TimeZone\": the name of an IANA zone";
    assert!(zone["errors"][0]["message"].as_str().unwrap().contains(form), "{zone}");
}

#[test]
fn devices_are_listed_by_name_page_by_page() {
    let server = Server::start();
    let viewer = server.token(&["--role", "viewer"]);
    for name in ["d", "B", "a", "C", "Be"] {
        camera::register(&server, name);
    }
    let list = |arguments: &str| {
        let query = format!(
            "{{ devices{arguments} {{ nodes {{ name }} pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"
        );
        server.graphql(Some(&viewer), &query, json!({}))
    };
    let mut names = Vec::new();
    let mut arguments = "(first: 2)".to_owned();
    loop {
        let answer = list(&arguments);
        let page = &answer["data"]["devices"];
        for node in page["nodes"].as_array().unwrap() {
            names.push(node["name"].as_str().unwrap().to_owned());
        }
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        arguments = format!("(first: 2, after: {})", page["pageInfo"]["endCursor"]);
    }
    assert_eq!(names, ["a", "B", "Be", "C", "d"]);
    for (arguments, expected) in [
        ("(filter: {search: \"b\"})", json!(["B", "Be"])),
        ("(filter: {search: \"bE\"})", json!(["Be"])),
        ("(filter: {states: [ACTIVE]})", json!([])),
        ("(filter: {states: [PROVISIONED], search: \"a\"})", json!(["a"])),
        ("(filter: {connectivity: ONLINE})", json!([])),
        ("(filter: {connectivity: UNKNOWN, search: \"c\"}, first: null)", json!(["C"])),
    ] {
        let answer = list(arguments);
        let nodes = answer["data"]["devices"]["nodes"].as_array().unwrap();
        let names: Vec<_> = nodes.iter().map(|node| node["name"].clone()).collect();
        assert_eq!(json!(names), expected, "{arguments}");
    }
    assert_eq!(code(&list("(first: 101)")), "PAGE_LIMIT");
    assert_eq!(code(&list("(after: \"x\")")), "BAD_USER_INPUT");
}

#[test]
fn one_segment_announced_100_times_over_8_connections_is_stored_once() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let the_one = segment("the-one", 100);
    let mut seed = 0x5EED_u64;
    println!("seed {seed}");
    let results: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                // Shuffled: the one stands anywhere among others of its batch.
                let batches: Vec<Vec<Value>> = (thread..100)
                    .step_by(8)
                    .map(|n| {
                        let mut batch: Vec<_> = (0..3)
                            .map(|i| segment(&format!("other-{n}-{i}"), 200 + 30 * (i + 3 * n)))
                            .collect();
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        batch.insert((seed >> 33) as usize % 4, the_one.clone());
                        batch
                    })
                    .collect();
                let (server, token) = (&server, &camera.token);
                scope.spawn(move || {
                    let answers = batches.iter().map(|batch| ingest(server, token, batch));
                    answers
                        .flat_map(|answer| answer["results"].as_array().unwrap().clone())
                        .collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<Value> { thread.join().unwrap() }).collect()
    });
    let mut count: HashMap<&str, usize> = HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for result in results.iter().filter(|result| result["clientSegmentId"] == "the-one") {
        *count.entry(result["status"].as_str().unwrap()).or_default() += 1;
        ids.insert(result["segment"]["id"].as_str().unwrap());
    }
    assert_eq!(count, HashMap::from([("STORED", 1), ("DUPLICATE", 99)]));
    assert_eq!(ids.len(), 1);
    let others = results.iter().filter(|result| result["clientSegmentId"] != "the-one");
    assert!(others.clone().all(|result| result["status"] == "STORED"));
    assert_eq!(others.count(), 300);
}

#[test]
fn a_batch_is_judged_item_by_item_in_order() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let mut batch: Vec<_> = (0..100).map(|n| segment(&format!("s{n}"), 3000 - 20 * n)).collect();
    batch[7]["end"] = batch[7]["start"].clone();
    batch[42]["stream"] = json!("nowhere");
    batch[99]["clientSegmentId"] = json!("s98");
    let answer = ingest(&server, &camera.token, &batch);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 100);
    for (n, (result, input)) in results.iter().zip(&batch).enumerate() {
        let code = match n {
            7 => json!("INVALID_RANGE"),
            42 => json!("UNKNOWN_STREAM"),
            99 => json!("DUPLICATE_IN_BATCH"),
            _ => Value::Null,
        };
        let status = if code.is_null() { "STORED" } else { "REJECTED" };
        assert_eq!(result["clientSegmentId"], input["clientSegmentId"]);
        assert_eq!(result["status"], status, "{n}: {result}");
        assert_eq!(result["rejection"]["code"], code, "{n}: {result}");
        assert_eq!(result["segment"].is_null(), status == "REJECTED");
        assert_eq!(result["warnings"], json!([]), "{n}");
    }
    let device = &results[0]["segment"]["stream"]["device"];
    assert_eq!(device, &json!({"state": "ACTIVE", "connectivity": "ONLINE"}));
    let advice = &answer["advice"];
    assert!(advice["clockSkewSeconds"].as_f64().unwrap().abs() < 5.0, "{advice}");
    assert_eq!(advice["retentionPlan"]["days"], 7);
    assert_eq!(advice["liveWanted"], false);

    let mut other_times = segment("s0", 3010);
    other_times["start"] = batch[0]["start"].clone();
    let statuses = |answer: &Value| {
        let result = &answer["results"][0];
        (result["status"].clone(), result["rejection"]["code"].clone(), result["warnings"].clone())
    };
    for (segment, status, code, warnings) in [
        (batch[1].clone(), "DUPLICATE", Value::Null, json!([])),
        (other_times, "REJECTED", json!("IDEMPOTENCY_CONFLICT"), json!([])),
        (segment("late", 3500), "STORED", Value::Null, json!(["OUT_OF_ORDER"])),
        (segment("over", 3491), "STORED", Value::Null, json!(["OUT_OF_ORDER", "OVERLAP"])),
        (segment("ahead", -119), "STORED", Value::Null, json!([])),
        (segment("far", -200), "REJECTED", json!("CLOCK_AHEAD"), json!([])),
        (segment("old", 8 * 86_400), "REJECTED", json!("OUTSIDE_RETENTION"), json!([])),
    ] {
        let answer = ingest(&server, &camera.token, std::slice::from_ref(&segment));
        let expected = (json!(status), code, warnings);
        assert_eq!(statuses(&answer), expected, "{segment}");
    }

    for (count, code) in [(0, "INVALID"), (101, "LIMIT_REACHED")] {
        let batch: Vec<_> = (0..count).map(|n| segment(&format!("t{n}"), 3000)).collect();
        let refused = ingest(&server, &camera.token, &batch);
        assert_eq!(refused["results"], json!([]));
        assert_eq!(refused["userErrors"][0]["code"], code);
        assert_eq!(refused["userErrors"][0]["path"], json!(["input", "segments"]));
    }
    let skewed = json!({"sentAt": rfc3339(now() + 60_000), "segments": [segment("skewed", -20)]});
    let answer = server.graphql(Some(&camera.token), INGEST, json!({"input": skewed}));
    let result = &answer["data"]["ingestSegments"]["results"][0];
    assert_eq!(result["warnings"], json!(["OUT_OF_ORDER", "CLOCK_SKEW"]));

    let viewer = server.token(&["--role", "admin"]);
    let input = json!({"input": {"sentAt": rfc3339(now()), "segments": []}});
    assert_eq!(code(&server.graphql(Some(&viewer), INGEST, input)), "FORBIDDEN");
    let query = "query($id: ID!) { node(id: $id) { ... on Device { connectivity state clockSkewSeconds } } }";
    let answer = server.graphql(Some(&viewer), query, json!({"id": camera.device}));
    let device = &answer["data"]["node"];
    assert_eq!((&device["connectivity"], &device["state"]), (&json!("ONLINE"), &json!("ACTIVE")));
}

/// Footage goes in by PutMedia and comes out as every answer that players and timelines need.
#[test]
fn footage_shows_in_every_answer() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let base = now() / 1000 * 1000 - 600_000;
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload.send(&lookback_wire::matroska::writer::header(&camera::header())).unwrap();
    // Ten seconds, a hole of forty, five more.
    let starts: Vec<u64> = (0..10).chain(50..55).map(|s| base as u64 + s * 1000).collect();
    for &start in &starts {
        let frames = camera::frames(start, 25, 500);
        upload.send(&camera::fragment(start, &frames)).unwrap();
        upload.send(&camera::end_of_fragment()).unwrap();
        upload.persisted(start).unwrap();
    }
    let announced = json!({
        "clientSegmentId": "event", "trigger": "EVENT", "size": "123",
        "start": rfc3339(base + 50_000), "end": rfc3339(base + 55_000),
    });
    let lost = json!({
        "clientSegmentId": "lost",
        "start": rfc3339(base + 20_000), "end": rfc3339(base + 40_000),
    });
    ingest(&server, &camera.token, &[announced, lost]);

    let viewer = server.token(&["--role", "viewer"]);
    let query = "query($id: ID!, $range: TimeRangeInput!, $start: DateTime!, $end: DateTime!, $day: LocalDate!) {
        node(id: $id) { ... on Stream { codecs resolution { width height } earliest latest
          clips(range: $range) { nodes { range { start end durationSeconds } mediaSeconds size growing triggers } }
          events: clips(range: $range, triggers: [EVENT]) { nodes { range { start end } triggers } }
          newest: clips(range: $range, order: NEWEST_FIRST, first: 1) { nodes { range { start } } pageInfo { hasNextPage } }
          segments(range: $range) { nodes { range { start } trigger size retainUntil ingestedAt } }
          coverage(range: $range, bucketSeconds: 30) { coveredSeconds totalCoveredSeconds gaps { range { start end } reason } }
          calendar(from: $day, to: $day, timeZone: \"UTC\") { date range { durationSeconds } coveredSeconds }
          device { usage(from: $day, to: $day) { range { start durationSeconds } storedBytes storedHours ingestedBytes } } } }
        playbackSession(input: {streamId: $id, start: $start, end: $end}) {
          ... on PlaybackSession { url mimeType range { start end } startOffsetSeconds gaps { range { start end } reason } codecs }
          ... on MediaUnavailable { code } }
        live: playbackSession(input: {streamId: $id, mode: LIVE}) {
          ... on PlaybackSession { url range { start } } ... on MediaUnavailable { code } } }";
    let (start, end) = (rfc3339(base), rfc3339(base + 60_000));
    let day = &rfc3339(base)[..10];
    let variables = json!({
        "id": camera.stream, "range": {"start": start, "end": end},
        "start": start, "end": end, "day": day,
    });
    let answer = server.graphql(Some(&viewer), query, variables);
    assert!(answer["errors"].is_null(), "{answer:#}");
    let stream = &answer["data"]["node"];
    let at = |s: i64| json!(rfc3339(base + s * 1000));
    assert_eq!(stream["resolution"], json!({"width": 320, "height": 180}));
    assert!(stream["codecs"].as_str().unwrap().starts_with("avc1.42c00c"), "{stream}");
    assert_eq!((&stream["earliest"], &stream["latest"]), (&at(0), &at(55)));
    let clips = stream["clips"]["nodes"].as_array().unwrap();
    assert_eq!(clips.len(), 2, "{clips:#?}");
    assert_eq!(clips[0]["range"], json!({"start": at(0), "end": at(10), "durationSeconds": 10.0}));
    assert_eq!(clips[1]["range"], json!({"start": at(50), "end": at(55), "durationSeconds": 5.0}));
    assert_eq!(
        (&clips[0]["triggers"], &clips[1]["triggers"]),
        (&json!(["CONTINUOUS"]), &json!(["EVENT"]))
    );
    assert_eq!((&clips[0]["mediaSeconds"], &clips[0]["growing"]), (&json!(10.0), &json!(true)));
    assert!(clips[0]["size"].as_str().unwrap().parse::<u64>().unwrap() > 10 * 25 * 500);
    assert_eq!(stream["events"]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(stream["newest"]["nodes"][0]["range"]["start"], at(50));
    assert_eq!(stream["newest"]["pageInfo"]["hasNextPage"], true);
    let segments = stream["segments"]["nodes"].as_array().unwrap();
    assert_eq!(segments.len(), 2);
    assert_eq!((&segments[1]["trigger"], &segments[1]["size"]), (&json!("EVENT"), &json!("123")));
    let coverage = &stream["coverage"];
    assert_eq!(coverage["coveredSeconds"], json!([10.0, 5.0]));
    assert_eq!(coverage["totalCoveredSeconds"], 15.0);
    let gap = |from, to, reason: &str| json!({"range": {"start": at(from), "end": at(to)}, "reason": reason});
    let gaps = json!([
        gap(10, 20, "UNKNOWN"),
        gap(20, 40, "PENDING"),
        gap(40, 50, "UNKNOWN"),
        gap(55, 60, "UNKNOWN"),
    ]);
    assert_eq!(coverage["gaps"], gaps);
    assert_eq!(stream["calendar"][0]["date"], json!(day));
    assert_eq!(stream["calendar"][0]["range"]["durationSeconds"], 86_400.0);
    let usage = &stream["device"]["usage"];
    let size = |clip: &Value| clip["size"].as_str().unwrap().parse::<u64>().unwrap();
    let stored: u64 = clips.iter().map(size).sum();
    assert_eq!(usage["storedBytes"], json!(stored.to_string()));
    assert_eq!(usage["ingestedBytes"], json!(stored.to_string()));
    assert_eq!(usage["storedHours"], json!(15.0 / 3_600.0));
    assert_eq!(usage["range"]["durationSeconds"], 86_400.0);
    let session = &answer["data"]["playbackSession"];
    let url = session["url"].as_str().unwrap_or_else(|| panic!("{session}"));
    let path = url.strip_prefix(&server.url()).unwrap();
    assert!(path.starts_with("/hls/v1/s/"), "{url}");
    assert_eq!(session["range"], json!({"start": at(0), "end": at(55)}));
    assert_eq!(session["startOffsetSeconds"], 0.0);
    assert_eq!(server.get(path, &[]).status, 200);

    let live = &answer["data"]["live"];
    let path = live["url"].as_str().unwrap_or_else(|| panic!("{live}"));
    assert!(live["range"].is_null(), "{live}");
    assert_eq!(server.get(path.strip_prefix(&server.url()).unwrap(), &[]).status, 200);
    let advice = ingest(&server, &camera.token, &[segment("watched", 60)])["advice"].clone();
    assert_eq!((&advice["liveWanted"], &advice["batchSize"]), (&json!(true), &json!(1)));

    for (query, code) in [
        ("clips(range: {start: $end, end: $start}) { nodes { size } }", "BAD_USER_INPUT"),
        (
            "clips(range: {start: $start, end: $end}, maxGapSeconds: 61) { nodes { size } }",
            "BAD_USER_INPUT",
        ),
        ("clips(range: {start: $start, end: $end}, first: 501) { nodes { size } }", "PAGE_LIMIT"),
        (
            "coverage(range: {start: $start, end: $end}, bucketSeconds: 0) { bucketSeconds }",
            "BAD_USER_INPUT",
        ),
        (
            "clips(range: {start: \"2026-01-01T00:00:00Z\", end: \"2026-02-01T00:00:01Z\"}) { nodes { size } }",
            "BAD_USER_INPUT",
        ),
        ("calendar(from: \"2026-01-01\", to: \"2027-01-02\") { date }", "BAD_USER_INPUT"),
        (
            "device { usage(from: \"2026-01-02\", to: \"2026-01-01\") { storedBytes } }",
            "BAD_USER_INPUT",
        ),
        (
            "device { usage(from: \"2026-01-01\", to: \"2026-02-01\") { storedBytes } }",
            "BAD_USER_INPUT",
        ),
    ] {
        let text = format!(
            "query($id: ID!, $start: DateTime, $end: DateTime) {{ node(id: $id) {{ id ... on Stream {{ {query} }} }} }}"
        );
        let text = if query.contains("$start") {
            text.replace("DateTime,", "DateTime!,").replace("DateTime)", "DateTime!)")
        } else {
            text.replace(", $start: DateTime, $end: DateTime", "")
        };
        let variables = json!({"id": camera.stream, "start": start, "end": end});
        let answer = server.graphql(Some(&viewer), &text, variables);
        assert_eq!(self::code(&answer), code, "{query}: {answer}");
        assert_eq!(answer["data"]["node"]["id"], json!(camera.stream), "{query}");
    }
}

/// The schema as introspection tells it.
struct Introspected(Value);

impl Introspected {
    fn of(server: &Server) -> Self {
        let query = "{ __schema { queryType { name } types { name kind possibleTypes { name } inputFields { name }
            fields { name args { name type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
              type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } }";
        let token = server.token(&["--role", "viewer"]);
        Self(server.graphql(Some(&token), query, json!({}))["data"]["__schema"]["types"].clone())
    }

    fn named(&self, name: &str) -> &Value {
        self.0.as_array().unwrap().iter().find(|ty| ty["name"] == name).unwrap()
    }

    fn inner<'a>(&self, mut ty: &'a Value) -> &'a str {
        while !ty["ofType"].is_null() {
            ty = &ty["ofType"];
        }
        ty["name"].as_str().unwrap()
    }

    /// Everything below a type, `depth` fields deep. Lists are asked for at most three items.
    fn selection(&self, type_name: &str, depth: usize) -> String {
        let ty = self.named(type_name);
        match ty["kind"].as_str().unwrap() {
            "SCALAR" | "ENUM" => String::new(),
            "INTERFACE" | "UNION" => {
                let members = ty["possibleTypes"].as_array().unwrap();
                let member = |member: &Value| {
                    let name = member["name"].as_str().unwrap();
                    format!("... on {name} {}", self.selection(name, depth))
                };
                let members: Vec<_> = members.iter().map(member).collect();
                format!("{{ __typename {} }}", members.join(" "))
            }
            _ => {
                let fields = ty["fields"].as_array().unwrap().iter().filter_map(|field| {
                    let inner = self.inner(&field["type"]);
                    let leaf =
                        matches!(self.named(inner)["kind"].as_str(), Some("SCALAR" | "ENUM"));
                    (leaf || depth > 1).then(|| self.field(field, depth - 1))
                });
                format!("{{ __typename {} }}", fields.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn field(&self, field: &Value, depth: usize) -> String {
        let arguments: Vec<_> = field["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|argument| {
                let value = match self.inner(&argument["type"]) {
                    "TimeRangeInput" => "$range",
                    "LocalDate" => "$day",
                    _ if argument["name"] == "first" => "3",
                    _ => return None,
                };
                Some(format!("{}: {value}", argument["name"].as_str().unwrap()))
            })
            .collect();
        let arguments = if arguments.is_empty() {
            String::new()
        } else {
            format!("({})", arguments.join(", "))
        };
        let name = field["name"].as_str().unwrap();
        let inner = self.inner(&field["type"]);
        // Members of a union may give one name other nullability, hence an alias for each type.
        format!("{name}{arguments} {}", self.selection(inner, depth))
    }
}

#[test]
fn nothing_leaks_to_anonymous_callers_or_strangers() {
    let server = Server::start();
    let add_stranger = server.add_user(
        "stranger",
        "a long password",
        &["--role", "admin", "--account", "elsewhere"],
    );
    assert!(add_stranger.starts_with("usr_"));
    let camera = camera::register(&server, "secret-camera");
    let owner = server.token(&["--role", "admin"]);
    let stored = ingest(&server, &camera.token, &[segment("secret-segment", 60)]);
    let known = server.graphql(
        Some(&owner),
        "query($id: ID!) { viewer { accountId } node(id: $id) { ... on Device { retentionPlan { id }
           credentials { id } streams { id mediaStreamName } } } }",
        json!({"id": camera.device}),
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let held = server.graphql(
        Some(&owner),
        "mutation($input: PlaceHoldInput!) { placeHold(input: $input) { hold { id } } }",
        json!({"input": {"streamId": camera.stream, "reason": "secret-reason",
            "range": {"start": rfc3339(now() - 90_000), "end": rfc3339(now())}}}),
    );
    let posted = server.graphql(
        Some(&owner),
        "mutation($input: CreateWebhookInput!) { createWebhook(input: $input) { webhook { id } } }",
        json!({"input": {"url": "https://secret-receiver.example/"}}),
    );
    let ids = [
        camera.device.clone(),
        camera.stream.clone(),
        text(&posted["data"]["createWebhook"]["webhook"]["id"]),
        text(&stored["results"][0]["segment"]["id"]),
        text(&known["data"]["node"]["retentionPlan"]["id"]),
        text(&known["data"]["node"]["credentials"][0]["id"]),
        text(&held["data"]["placeHold"]["hold"]["id"]),
    ];
    let account = text(&known["data"]["viewer"]["accountId"]);
    let secrets: Vec<&str> = ids
        .iter()
        .map(String::as_str)
        .chain([
            account.as_str(),
            "secret-camera",
            "secret-segment",
            "secret-reason",
            "secret-receiver",
            camera.media_stream.as_str(),
        ])
        .collect();
    let elsewhere = ["--account", "elsewhere"];
    let callers: Vec<(String, Option<String>)> = std::iter::once(("anonymous".to_owned(), None))
        .chain(["admin", "manager", "viewer"].map(|role| {
            let flags = [&["--role", role][..], &elsewhere].concat();
            (format!("a stranger: {role}"), Some(server.token(&flags)))
        }))
        .collect();

    let schema = Introspected::of(&server);
    let end = now();
    let variables = |id: &str| {
        json!({
            "id": id, "range": {"start": rfc3339(end - 86_400_000), "end": rfc3339(end)},
            "day": &rfc3339(end)[..10], "start": rfc3339(end - 3_600_000), "end": rfc3339(end),
        })
    };
    let declared = "$range: TimeRangeInput!, $day: LocalDate!";
    let used = "unused: nodes(ids: []) { ... on Stream { clips(range: $range) { nodes { growing } } calendar(from: $day, to: $day) { date } } }";
    let roots = schema.named("Query")["fields"].as_array().unwrap();
    let (mut asked, mut shown_to_owner) = (0, 0);
    for root in roots {
        let name = root["name"].as_str().unwrap();
        let selection = schema.selection(schema.inner(&root["type"]), 3);
        for id in &ids {
            let (declared, arguments) = match name {
                "viewer" | "service" | "webhooks" => (declared.to_owned(), ""),
                "devices" | "users" => (declared.to_owned(), "(first: 3)"),
                "events" | "auditLog" => (declared.to_owned(), "(first: 3, range: $range)"),
                "node" => (format!("$id: ID!, {declared}"), "(id: $id)"),
                "nodes" => (format!("$id: ID!, {declared}"), "(ids: [$id])"),
                "device" => (format!("$id: ID!, {declared}"), "(ref: {id: $id})"),
                "playbackSession" => (
                    format!("$id: ID!, {declared}, $start: DateTime!, $end: DateTime!"),
                    "(input: {streamId: $id, start: $start, end: $end})",
                ),
                other => panic!("{other}: how is it asked for something of somebody else?"),
            };
            let query =
                format!("query({declared}) {{ asked: {name}{arguments} {selection} {used} }}");
            let of_owner = server.graphql(Some(&owner), &query, variables(id));
            assert!(of_owner["errors"].is_null(), "{query}\n{of_owner}");
            shown_to_owner += usize::from(of_owner.to_string().contains(id));
            for (who, token) in &callers {
                let answer = server.graphql(token.as_deref(), &query, variables(id));
                let shown = answer.to_string();
                for secret in &secrets {
                    assert!(!shown.contains(secret), "{who} sees {secret} by {query}\n{shown}");
                }
                let is_open = matches!(name, "viewer" | "service");
                if token.is_none() {
                    let codes = answer["errors"].as_array().unwrap();
                    let protected: Vec<_> =
                        codes.iter().filter(|error| error["path"] == json!(["asked"])).collect();
                    assert_eq!(protected.len(), usize::from(!is_open), "{name}: {shown}");
                    assert!(codes.iter().all(|e| e["extensions"]["code"] == "UNAUTHENTICATED"));
                } else {
                    assert!(answer["errors"].is_null(), "{who} by {name}: {shown}");
                }
                if matches!(name, "node" | "nodes" | "device" | "playbackSession") {
                    let hidden = [Value::Null, json!([null])];
                    assert!(hidden.contains(&answer["data"]["asked"]), "{who} by {name}: {shown}");
                }
                asked += 1;
            }
        }
        let external = "{ device(ref: {externalId: \"secret-camera\"}) { id } }";
        for (_, token) in callers.iter().filter(|(_, token)| token.is_some()) {
            let answer = server.graphql(token.as_deref(), external, json!({}));
            assert_eq!(answer, json!({"data": {"device": null}}));
        }
    }
    assert!(asked >= 7 * 5 * 4, "{asked}");
    // Without this, questions that show nothing to anybody would pass for safe ones.
    assert!(shown_to_owner >= 15, "{shown_to_owner}");

    let grant =
        "mutation { createUploadGrant(input: {}) { grant { endpoint region expiresAt accessKeyId
        streams { id mediaStreamName } } userErrors { code } } }";
    assert_eq!(code(&server.graphql(None, grant, json!({}))), "UNAUTHENTICATED");
    for (_, token) in callers.iter().filter(|(_, token)| token.is_some()) {
        assert_eq!(code(&server.graphql(token.as_deref(), grant, json!({}))), "FORBIDDEN");
    }
    let granted = server.graphql(Some(&camera.token), grant, json!({}));
    let granted = &granted["data"]["createUploadGrant"]["grant"];
    assert_eq!(granted["endpoint"], json!(server.url()));
    assert_eq!(granted["streams"][0]["mediaStreamName"], json!(camera.media_stream));
}

#[test]
fn requests_are_bounded_before_they_cost_anything() {
    let server = Server::start();
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        let headers = [&[("content-type", "application/json")], headers].concat();
        server.request("POST", "/graphql", &headers, body)
    };
    let first_code = |answer: &Answer| answer.json()["errors"][0]["extensions"]["code"].clone();
    let query = |text: &str| json!({"query": text}).to_string();
    assert_eq!(post(&[], query("{ __typename }").as_bytes()).status, 200);

    let big = query(&format!("{{ __typename }} # {}", "x".repeat(600_000)));
    assert_eq!(post(&[], big.as_bytes()).status, 413);
    let encoded = post(&[("content-encoding", "gzip")], b"\x1f\x8b");
    assert_eq!(encoded.status, 415);
    let batch = post(&[], br#"[{"query":"{ __typename }"}]"#);
    assert_eq!(batch.status, 400);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let headers = [("content-type", content_type)];
        let answer =
            server.request("POST", "/graphql", &headers, query("{ __typename }").as_bytes());
        assert_eq!(answer.status, 415, "{content_type}");
    }
    assert_eq!(server.request("PUT", "/graphql", &[], b"").status, 405);
    let bad_token =
        post(&[("authorization", "Bearer nonsense")], query("{ __typename }").as_bytes());
    assert_eq!(bad_token.status, 401);
    assert!(bad_token.header("www-authenticate").is_some());

    let by_get = "/graphql?query=mutation%7BcreateUploadGrant(input%3A%7B%7D)%7B__typename%7D%7D";
    let refused = server.get(by_get, &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
    let read = server.get("/graphql?query=%7Bservice%7Bversion%7D%7D", &[]);
    assert_eq!(read.status, 200);
    assert_eq!(read.header("cache-control"), Some("no-store"));

    for (text, code) in [
        ("{ service {".to_owned(), "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        (format!("{{ {} }}", "viewer { id } ".repeat(600)), "TOKEN_LIMIT"),
        (format!("{}id{}", "{ viewer ".repeat(13), "}".repeat(13)), "DEPTH_LIMIT"),
        (
            "{ devices(first: 100) { nodes { streams { clips(first: 500) { nodes { size } } } } } }".into(),
            "COST_LIMIT",
        ),
        (
            (0..16).map(|n| format!("a{n}: viewer {{ id }} ")).fold("{ ".into(), |all: String, one| all + &one) + "}",
            "ALIAS_LIMIT",
        ),
    ] {
        let strict = [("accept", "application/graphql-response+json")];
        let answer = post(&strict, query(&text).as_bytes());
        assert_eq!((answer.status, first_code(&answer)), (400, json!(code)), "{text:.80}");
        assert!(answer.json().get("data").is_none());
        let plain = post(&[], query(&text).as_bytes());
        assert_eq!((plain.status, first_code(&plain)), (200, json!(code)), "{text:.80}");
    }
    let mistakes = format!("{{ {} }}", (0..20).map(|n| format!("x{n} ")).collect::<String>());
    let many = (0..100).map(|n| format!("x{n} ")).collect::<String>();
    let flood = post(&[], query(&format!("{{ viewer {{ {many} }} }}")).as_bytes()).json();
    assert_eq!(flood["errors"].as_array().unwrap().len(), 20);
    assert_eq!(flood["extensions"]["truncated"], true);
    assert!(post(&[], query(&mistakes).as_bytes()).json()["extensions"].is_null());
}

/// 30 MB that announce their length, then 30 MB that do not.
#[test]
fn a_large_body_is_refused_and_not_kept() {
    let server = Server::start();
    let warm = server.post_json("/graphql", &[], &json!({"query": "{ __typename }"}));
    assert_eq!(warm.status, 200);
    let before = resident_kib(&server);
    for head in
        [format!("content-length: {}\r\n", 30 << 20), "transfer-encoding: chunked\r\n".to_owned()]
    {
        let chunked = head.starts_with("transfer");
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{head}\r\n",
            server.address
        );
        socket.write_all(head.as_bytes()).unwrap();
        let reading = socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let part = vec![b' '; 64 << 10];
            for _ in 0..(30 << 20) / part.len() {
                let size = format!("{:x}\r\n", part.len());
                let sent = if chunked {
                    socket
                        .write_all(size.as_bytes())
                        .and_then(|()| socket.write_all(&part))
                        .and_then(|()| socket.write_all(b"\r\n"))
                } else {
                    socket.write_all(&part)
                };
                // The server may have closed the connection by now.
                if sent.is_err() {
                    break;
                }
            }
        });
        let answer = Answer::read(&mut BufReader::new(reading), false);
        assert_eq!(answer.status, 413, "chunked: {chunked}");
        writing.join().unwrap();
    }
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < 8 * 1024, "the server grew by {grown} KiB");
}

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_mutation_goes_on_after_the_caller_has_hung_up() {
    let server = Server::start();
    let manager = server.token(&["--role", "manager"]);
    let input = json!({"externalId": "left", "name": "Left", "timeZone": "UTC"});
    let body = json!({"query": REGISTER, "variables": {"input": input}}).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer {manager}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    drop(socket);
    let begun = Instant::now();
    let query = "{ device(ref: {externalId: \"left\"}) { name } }";
    while server.graphql(Some(&manager), query, json!({}))["data"]["device"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "the device was not registered");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The audits of graphql-http, which `npm ci` in `web/` installs.
#[test]
fn the_audits_of_graphql_over_http() {
    let server = Server::start();
    let web = concat!(env!("CARGO_MANIFEST_DIR"), "/../web");
    let output = Command::new("node")
        .args(["tests/graphql-http.mjs", &format!("{}/graphql", server.url())])
        .current_dir(web)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    println!("{shown}");
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
}
