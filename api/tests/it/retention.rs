//! Plans, holds and deletion as a manager meets them: over GraphQL, with footage that a camera sent.

use crate::camera::{self, Registered, Upload};
use crate::server::{Server, lookback, outcome};
use serde_json::{Value, json};

const SECOND: i64 = 1_000;

/// A camera that sent fragments of one second, and when the first one began.
struct Sent {
    camera: Registered,
    start: i64,
}

fn rfc3339(millis: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl Sent {
    /// `count` fragments up to two minutes ago, all acknowledged and announced as one segment.
    fn new(server: &Server, count: i64) -> Self {
        let camera = camera::register(server, "cam");
        let start = chrono::Utc::now().timestamp_millis() - 120 * SECOND - count * SECOND;
        send(server, &camera, (0..count).map(|place| start + place * SECOND));
        let sent = Self { camera, start };
        let input = json!({"sentAt": rfc3339(chrono::Utc::now().timestamp_millis()), "segments":
            [{"clientSegmentId": "s", "start": sent.at(0), "end": sent.at(count)}]});
        let answer = server.graphql(
            Some(&sent.camera.token),
            "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
                results { status } } }",
            json!({"input": input}),
        );
        assert_eq!(answer["data"]["ingestSegments"]["results"][0]["status"], "STORED", "{answer}");
        sent
    }

    /// An instant so many seconds after the first fragment's start.
    fn at(&self, seconds: i64) -> String {
        rfc3339(self.start + seconds * SECOND)
    }

    fn range(&self, from: i64, to: i64) -> Value {
        json!({"start": self.at(from), "end": self.at(to)})
    }

    /// Clips, gaps and what else the timeline says of 30 s from a second before the first fragment.
    fn timeline(&self, server: &Server) -> Value {
        let query = "query($id: ID!, $range: TimeRangeInput!) { node(id: $id) { ... on Stream {
            clips(range: $range, maxGapSeconds: 0) { nodes { range { start end } held } }
            segments(range: $range) { nodes { retainUntil } }
            coverage(range: $range, maxGapSeconds: 0) { gaps { range { start end } reason } }
            holds(range: $range) { id reason } } } }";
        let viewer = server.token(&["--role", "viewer"]);
        let variables = json!({"id": self.camera.stream, "range": self.range(-1, 29)});
        let answer = server.graphql(Some(&viewer), query, variables);
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"]["node"].clone()
    }

    fn report(&self, server: &Server, id: &str, seconds: i64) {
        let event = json!({"clientEventId": id, "type": "MOTION", "start": self.at(seconds)});
        let input =
            json!({"sentAt": rfc3339(chrono::Utc::now().timestamp_millis()), "events": [event]});
        let query = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
            results { status } } }";
        let answer = server.graphql(Some(&self.camera.token), query, json!({"input": input}));
        assert_eq!(answer["data"]["ingestEvents"]["results"][0]["status"], "STORED", "{answer}");
    }

    /// Seconds at which the device's events begin.
    fn events(&self, server: &Server) -> Vec<i64> {
        let query = "query($id: ID!) { node(id: $id) { ... on Device {
            events(order: OLDEST_FIRST) { nodes { start } } } } }";
        let viewer = server.token(&["--role", "viewer"]);
        let answer = server.graphql(Some(&viewer), query, json!({"id": self.camera.device}));
        let events = answer["data"]["node"]["events"]["nodes"].as_array().unwrap().clone();
        events.iter().map(|event| self.seconds(&event["start"])).collect()
    }

    fn seconds(&self, time: &Value) -> i64 {
        let at = chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        (at.timestamp_millis() - self.start) / SECOND
    }

    /// From where to where footage lies, in seconds.
    fn clips(&self, server: &Server) -> Vec<(i64, i64)> {
        let clips = self.timeline(server)["clips"]["nodes"].as_array().unwrap().clone();
        let clips = clips.iter().map(|clip| &clip["range"]);
        clips.map(|range| (self.seconds(&range["start"]), self.seconds(&range["end"]))).collect()
    }
}

fn send(server: &Server, camera: &Registered, starts: impl Iterator<Item = i64>) {
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload.send(&lookback_wire::matroska::writer::header(&camera::header())).unwrap();
    for start in starts {
        let frames = camera::frames(start as u64, 25, 100);
        upload.send(&camera::fragment(start as u64, &frames)).unwrap();
        upload.send(&camera::end_of_fragment()).unwrap();
        upload.persisted(start as u64).unwrap();
    }
    upload.finish().unwrap();
}

/// Runs the mutation `name` on an input; answers its payload.
fn mutate(server: &Server, token: &str, name: &str, input: Value, selection: &str) -> Value {
    let kind = format!("{}{}Input", name[..1].to_uppercase(), &name[1..]);
    let query = format!(
        "mutation($input: {kind}!) {{ {name}(input: $input) {{ {selection} userErrors {{ code path message }} }} }}"
    );
    let answer = server.graphql(Some(token), &query, json!({"input": input}));
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"][name].clone()
}

fn refusal(payload: &Value) -> (&str, &Value) {
    (payload["userErrors"][0]["code"].as_str().unwrap_or("none"), &payload["userErrors"][0]["path"])
}

#[test]
fn held_footage_is_refused_and_deleted_footage_never_comes_back() {
    let server = Server::start();
    let sent = Sent::new(&server, 10);
    let manager = server.token(&["--role", "manager"]);
    let stream = &sent.camera.stream;
    assert_eq!(sent.clips(&server), [(0, 10)]);
    for (id, seconds) in [("a", 1), ("b", 3), ("c", 6)] {
        sent.report(&server, id, seconds);
    }

    let placed = mutate(
        &server,
        &manager,
        "placeHold",
        json!({"streamId": stream, "range": sent.range(6, 8), "reason": "report 7"}),
        "hold { id until range { durationSeconds } stream { id } }",
    );
    let hold = &placed["hold"];
    assert_eq!((&hold["until"], &hold["range"]["durationSeconds"]), (&Value::Null, &json!(2.0)));
    assert_eq!(hold["stream"]["id"], json!(stream));
    let timeline = sent.timeline(&server);
    assert_eq!(timeline["holds"], json!([{"id": hold["id"], "reason": "report 7"}]));
    assert_eq!(timeline["clips"]["nodes"][0]["held"], true);
    assert_eq!(timeline["segments"]["nodes"][0]["retainUntil"], Value::Null);

    let delete = |from, to| {
        let input = json!({"streamId": stream, "range": sent.range(from, to)});
        let selection = "deletedSegments deletedRange { start end }";
        mutate(&server, &manager, "deleteFootage", input, selection)
    };
    let refused = delete(2, 7);
    assert_eq!(refusal(&refused), ("WRONG_STATE", &json!(["input", "range"])));
    let message = refused["userErrors"][0]["message"].as_str().unwrap();
    assert!(message.contains(hold["id"].as_str().unwrap()), "{message}");
    assert_eq!(sent.clips(&server), [(0, 10)]);

    let deleted = delete(2, 6);
    assert_eq!(deleted["userErrors"], json!([]));
    assert_eq!(deleted["deletedRange"], sent.range(2, 6));
    assert_eq!(deleted["deletedSegments"], 0, "it tells of what is left, too");
    assert_eq!(sent.clips(&server), [(0, 2), (6, 10)]);
    assert_eq!(sent.events(&server), [1, 6]);
    let gaps = sent.timeline(&server)["coverage"]["gaps"].clone();
    assert_eq!(gaps[1], json!({"range": sent.range(2, 6), "reason": "DELETED"}), "{gaps}");

    let release = |id: &Value| {
        let query = "mutation($id: ID!) { releaseHold(id: $id) { releasedHoldId userErrors { code path } } }";
        server.graphql(Some(&manager), query, json!({"id": id}))["data"]["releaseHold"].clone()
    };
    assert_eq!(release(&hold["id"])["releasedHoldId"], hold["id"]);
    assert_eq!(refusal(&release(&hold["id"])), ("NOT_FOUND", &json!(["id"])));
    assert_eq!(sent.timeline(&server)["clips"]["nodes"][0]["held"], false);
    assert_eq!(delete(6, 8)["deletedRange"], sent.range(6, 8));

    // Neither a kill nor an index that is made again from the files brings it back.
    let data_dir = server.kill();
    std::fs::remove_dir_all(data_dir.path().join("archive").join("index")).unwrap();
    let server = Server::start_with(&[], data_dir);
    assert_eq!(sent.clips(&server), [(0, 2), (8, 10)]);
    let data_dir = server.kill();
    let check = outcome(lookback().args(["check", "--data-dir"]).arg(data_dir.path()));
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn only_who_manages_a_device_holds_and_deletes() {
    let server = Server::start();
    let sent = Sent::new(&server, 2);
    let input = json!({"streamId": sent.camera.stream, "range": sent.range(0, 2)});
    let elsewhere = ["--role", "admin", "--account", "elsewhere"];
    server.try_add_user("ann", "a long password", &elsewhere);
    for (who, token, expected) in [
        ("viewer", server.token(&["--role", "viewer"]), "FORBIDDEN"),
        ("the camera", sent.camera.token.clone(), "FORBIDDEN"),
        ("a stranger", server.token(&elsewhere), "NOT_FOUND"),
    ] {
        for mutation in ["placeHold", "deleteFootage"] {
            let payload = mutate(&server, &token, mutation, input.clone(), "");
            let path = json!(["input", "streamId"]);
            assert_eq!(refusal(&payload), (expected, &path), "{who}: {mutation}");
        }
        for mutation in ["updateDevice", "retireDevice"] {
            let input = json!({"id": sent.camera.device});
            let payload = mutate(&server, &token, mutation, input, "");
            assert_eq!(refusal(&payload), (expected, &json!(["input", "id"])), "{who}: {mutation}");
        }
    }
    let manager = server.token(&["--role", "manager"]);
    let day = 86_400;
    for (mutation, changes, field) in [
        ("placeHold", json!({"range": sent.range(0, day + 1)}), "range"),
        ("placeHold", json!({"range": sent.range(1, 1)}), "range"),
        ("placeHold", json!({"until": sent.at(0)}), "until"),
        ("placeHold", json!({"reason": ""}), "reason"),
        ("deleteFootage", json!({"range": sent.range(1, 0)}), "range"),
        ("deleteFootage", json!({"range": sent.range(0, 32 * day)}), "range"),
    ] {
        let mut input = input.clone();
        for (name, value) in changes.as_object().unwrap() {
            input[name] = value.clone();
        }
        let payload = mutate(&server, &manager, mutation, input, "");
        assert_eq!(refusal(&payload), ("INVALID", &json!(["input", field])), "{changes}");
    }
    assert_eq!(sent.clips(&server), [(0, 2)]);
}

#[test]
fn a_device_is_changed_suspended_and_retired_with_its_footage() {
    let server = Server::start();
    let sent = Sent::new(&server, 3);
    let (manager, admin) =
        (server.token(&["--role", "manager"]), server.token(&["--role", "admin"]));
    let plan = mutate(
        &server,
        &admin,
        "createRetentionPlan",
        json!({"name": "a month", "days": 30, "storageQuota": "1000000000"}),
        "plan { id name mode days preRollSeconds postRollSeconds storageQuota isDefault }",
    )["plan"]
        .clone();
    let expected = json!({"id": plan["id"], "name": "a month", "mode": "CONTINUOUS", "days": 30,
        "preRollSeconds": 10, "postRollSeconds": 20, "storageQuota": "1000000000", "isDefault": false});
    assert_eq!(plan, expected);
    let changed = mutate(
        &server,
        &admin,
        "updateRetentionPlan",
        json!({"id": plan["id"], "days": 60, "storageQuota": "0", "isDefault": true}),
        "plan { days storageQuota isDefault }",
    );
    assert_eq!(changed["plan"], json!({"days": 60, "storageQuota": null, "isDefault": true}));
    for (changes, field) in [
        (json!({"days": 0}), "days"),
        (json!({"days": 3651}), "days"),
        (json!({"preRollSeconds": -1}), "preRollSeconds"),
        (json!({"isDefault": false}), "isDefault"),
        (json!({"name": ""}), "name"),
    ] {
        let mut input = changes;
        input["id"] = plan["id"].clone();
        let refused = mutate(&server, &admin, "updateRetentionPlan", input.clone(), "plan { id }");
        assert_eq!(refusal(&refused), ("INVALID", &json!(["input", field])), "{input}");
    }

    let update = |changes: Value| {
        let mut input = changes;
        input["id"] = json!(sent.camera.device);
        let selection = "device { name state timeZone retentionPlan { days } }";
        mutate(&server, &manager, "updateDevice", input, selection)
    };
    let updated =
        update(json!({"name": "Hof", "timeZone": "Asia/Kolkata", "retentionPlanId": plan["id"]}));
    let expected = json!({"name": "Hof", "state": "ACTIVE", "timeZone": "Asia/Kolkata",
        "retentionPlan": {"days": 60}});
    assert_eq!(updated["device"], expected);
    assert_eq!(update(json!({"suspended": true}))["device"]["state"], "SUSPENDED");
    let refused = Upload::open(server.address, &sent.camera.token, &sent.camera.media_stream, &[]);
    assert_ne!(refused.unwrap().status, 200, "a suspended device uploads nothing");
    assert_eq!(update(json!({"suspended": false}))["device"]["state"], "ACTIVE");

    sent.report(&server, "a", 1);
    let hold = json!({"streamId": sent.camera.stream, "range": sent.range(1, 2)});
    let hold = mutate(&server, &manager, "placeHold", hold, "hold { id }")["hold"]["id"].clone();
    let retire = |delete: bool| {
        let input = json!({"id": sent.camera.device, "deleteFootage": delete});
        mutate(
            &server,
            &manager,
            "retireDevice",
            input,
            "device { state credentials { revokedAt } }",
        )
    };
    assert_eq!(refusal(&retire(true)), ("WRONG_STATE", &json!(["input", "deleteFootage"])));
    let retired = retire(false)["device"].clone();
    assert_eq!(retired["state"], "RETIRED");
    assert!(retired["credentials"][0]["revokedAt"].is_string(), "{retired}");
    assert_eq!(sent.clips(&server), [(0, 3)]);
    assert_eq!(refusal(&update(json!({"suspended": false}))).0, "WRONG_STATE");
    let release = "mutation($id: ID!) { releaseHold(id: $id) { releasedHoldId } }";
    server.graphql(Some(&manager), release, json!({"id": hold}));
    assert_eq!(retire(true)["device"]["state"], "RETIRED");
    assert_eq!(sent.clips(&server), []);
    assert_eq!(sent.events(&server), [0i64; 0]);
    let timeline = sent.timeline(&server);
    assert_eq!(timeline["segments"]["nodes"], json!([]));
    assert_eq!(timeline["coverage"]["gaps"][0]["reason"], "DELETED", "{timeline}");
}

#[test]
fn over_its_quota_a_device_is_refused_and_nothing_goes_to_make_room() {
    let server = Server::start();
    let sent = Sent::new(&server, 2);
    let admin = server.token(&["--role", "admin"]);
    let input = json!({"name": "small", "days": 7, "storageQuota": "10000"});
    let plan =
        mutate(&server, &admin, "createRetentionPlan", input, "plan { id }")["plan"]["id"].clone();
    let input = json!({"id": sent.camera.device, "retentionPlanId": plan});
    mutate(&server, &admin, "updateDevice", input, "");

    // 25 frames of some hundred bytes: a few of them fit.
    let camera = &sent.camera;
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload.send(&lookback_wire::matroska::writer::header(&camera::header())).unwrap();
    let mut kept = 2;
    let refused = loop {
        let start = (sent.start + kept * SECOND) as u64;
        upload.send(&camera::fragment(start, &camera::frames(start, 25, 100))).unwrap();
        upload.send(&camera::end_of_fragment()).unwrap();
        match upload.persisted(start) {
            Ok(()) => kept += 1,
            Err(refused) => break refused.to_string(),
        }
        assert!(kept < 20, "nothing is refused");
    };
    assert!(refused.contains("ArchivalError"), "{refused}");
    let again = Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(again.status, 400);
    let announced = |server: &Server| {
        let input = json!({"sentAt": rfc3339(chrono::Utc::now().timestamp_millis()), "segments":
            [{"clientSegmentId": "more", "start": sent.at(2), "end": sent.at(3)}]});
        let query = "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
            results { status rejection { code } } } }";
        let answer = server.graphql(Some(&camera.token), query, json!({"input": input}));
        answer["data"]["ingestSegments"]["results"][0].clone()
    };
    let expected = json!({"status": "REJECTED", "rejection": {"code": "QUOTA_EXCEEDED"}});
    assert_eq!(announced(&server), expected);
    assert_eq!(sent.clips(&server), [(0, kept)]);

    let input = json!({"id": plan, "storageQuota": "0"});
    mutate(&server, &admin, "updateRetentionPlan", input, "");
    send(&server, camera, std::iter::once(sent.start + kept * SECOND));
    assert_eq!(sent.clips(&server), [(0, kept + 1)]);
    assert_eq!(announced(&server)["status"], "STORED");
}

#[test]
fn a_full_disk_refuses_alarms_and_recovers() {
    let server = Server::start();
    let sent = Sent::new(&server, 2);
    let gauge = |server: &Server, name: &str| {
        let page = String::from_utf8(server.get("/metrics", &[]).body).unwrap();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap()
    };
    assert_eq!(gauge(&server, "lookback_full"), 0);
    assert!(gauge(&server, "lookback_room_bytes") > 0);

    // More than any disk has is to stay free.
    let all = u64::MAX.to_string();
    let server = Server::start_with(&["--min-free-bytes", &all], server.kill());
    let open = |server: &Server| {
        let camera = &sent.camera;
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap().status
    };
    assert_eq!(open(&server), 503);
    let ready = server.get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    assert!(String::from_utf8_lossy(&ready.body).contains("full"));
    assert_eq!(gauge(&server, "lookback_full"), 1);
    assert_eq!(sent.clips(&server), [(0, 2)]);

    let server = Server::start_with(&[], server.kill());
    assert_eq!(server.get("/readyz", &[]).status, 200);
    send(&server, &sent.camera, std::iter::once(sent.start + 2 * SECOND));
    assert_eq!(sent.clips(&server), [(0, 3)]);
}
