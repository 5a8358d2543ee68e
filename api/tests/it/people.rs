//! Users, what is shared with them, and the log of what they do.

use crate::camera::{self, Registered};
use crate::footage::rfc3339;
use crate::playback::{self, at_ms, now_ms, of_range};
use crate::server::Server;
use serde_json::{Value, json};
use std::time::Duration;

const PASSWORD: &str = "correct horse battery";

/// Somebody who is signed in.
struct Person {
    id: String,
    token: String,
}

fn person(server: &Server, name: &str, role: &str) -> Person {
    let id = server.add_user(name, PASSWORD, &["--role", role]);
    let login =
        server.post_json("/auth/login", &[], &json!({"name": name, "password": PASSWORD})).json();
    Person { id, token: login["accessToken"].as_str().unwrap().to_owned() }
}

/// What a mutation of one `input` answers.
fn mutate(server: &Server, token: &str, name: &str, input: Value, selection: &str) -> Value {
    let mut upper = name.to_owned();
    upper[..1].make_ascii_uppercase();
    let query = format!(
        "mutation($input: {upper}Input!) {{ {name}(input: $input) {{
           {selection} userErrors {{ code path }} }} }}"
    );
    let answer = server.graphql(Some(token), &query, json!({"input": input}));
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"][name].clone()
}

fn share(server: &Server, token: &str, input: Value) -> Value {
    let selection = "share { id role expiresAt user { id name role } device { id } }";
    mutate(server, token, "shareDevice", input, selection)
}

fn share_as(server: &Server, token: &str, camera: &Registered, user: &str, role: &str) -> Value {
    let input = json!({"deviceId": camera.device, "user": {"name": user}, "role": role});
    let payload = share(server, token, input);
    assert_eq!(payload["userErrors"], json!([]));
    payload["share"].clone()
}

fn update_user(server: &Server, token: &str, input: Value) -> Value {
    mutate(server, token, "updateUser", input, "user { displayName role disabled }")
}

fn revoke(server: &Server, token: &str, id: &Value) -> Value {
    let query = "mutation($id: ID!) { revokeShare(id: $id) {
        revokedShareId userErrors { code path } } }";
    server.graphql(Some(token), query, json!({"id": id}))["data"]["revokeShare"].clone()
}

fn mistakes(payload: &Value) -> Value {
    payload["userErrors"].clone()
}

/// The devices that somebody sees, by their makers' identifiers, and as what.
fn seen(server: &Server, token: &str) -> Value {
    let query = "{ devices { nodes { externalId viewerRole } } }";
    let answer = server.graphql(Some(token), query, json!({}));
    let nodes = answer["data"]["devices"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| json!([node["externalId"], node["viewerRole"]])).collect()
}

#[test]
fn users_are_listed_and_changed_by_administrators() {
    let server = Server::start();
    let ann = person(&server, "ann", "admin");
    let bob = person(&server, "bob", "member");
    let cleo = person(&server, "cleo", "manager");
    server.add_user("dan", PASSWORD, &["--role", "admin", "--account", "elsewhere"]);

    let list = |token: &str, arguments: &str| {
        let query = format!(
            "{{ users{arguments} {{ nodes {{ id name displayName role disabled }}
               pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        server.graphql(Some(token), &query, json!({}))["data"]["users"].clone()
    };
    assert_eq!(list(&cleo.token, ""), Value::Null);
    assert_eq!(list(&bob.token, ""), Value::Null);
    let first = list(&ann.token, "(first: 2)");
    let names = |page: &Value| {
        let nodes = page["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["name"].clone()).collect::<Value>()
    };
    assert_eq!(names(&first), json!(["ann", "bob"]));
    assert_eq!(first["nodes"][1]["role"], "MEMBER");
    let rest = format!("(first: 2, after: {})", first["pageInfo"]["endCursor"]);
    let rest = list(&ann.token, &rest);
    assert_eq!((names(&rest), &rest["pageInfo"]["hasNextPage"]), (json!(["cleo"]), &json!(false)));

    for (input, code, field) in [
        (json!({"id": "usr_x"}), "NOT_FOUND", "id"),
        (json!({"id": bob.id, "displayName": ""}), "INVALID", "displayName"),
        (json!({"id": bob.id, "role": "DEVICE"}), "INVALID", "role"),
        (json!({"id": ann.id, "role": "VIEWER"}), "WRONG_STATE", "role"),
        (json!({"id": ann.id, "disabled": true}), "WRONG_STATE", "disabled"),
    ] {
        let payload = update_user(&server, &ann.token, input);
        assert_eq!(mistakes(&payload), json!([{"code": code, "path": ["input", field]}]));
        assert_eq!(payload["user"], Value::Null);
    }
    let changed = json!({"id": bob.id, "displayName": "Bob", "role": "VIEWER"});
    let changed = update_user(&server, &ann.token, changed);
    assert_eq!(changed["user"], json!({"displayName": "Bob", "role": "VIEWER", "disabled": false}));
    camera::register(&server, "cam");
    assert_eq!(seen(&server, &bob.token), json!([["cam", "VIEWER"]]), "the new role at once");

    update_user(&server, &ann.token, json!({"id": bob.id, "disabled": true}));
    let bearer = format!("Bearer {}", bob.token);
    let body = json!({"query": "{ viewer { id } }"});
    let refused = server.post_json("/graphql", &[("authorization", &bearer)], &body);
    assert_eq!(refused.status, 401);
    let login = json!({"name": "bob", "password": PASSWORD});
    assert_eq!(server.post_json("/auth/login", &[], &login).status, 401);
    update_user(&server, &ann.token, json!({"id": bob.id, "disabled": false}));
    assert_eq!(server.post_json("/auth/login", &[], &login).status, 200);
}

#[test]
fn a_member_has_what_shares_give() {
    let server = Server::start();
    let manager = server.token(&["--role", "manager"]);
    let [door, yard] = ["door", "yard"].map(|name| camera::register(&server, name));
    let ann = person(&server, "ann", "member");
    let bob = person(&server, "bob", "member");
    server.add_user("far", PASSWORD, &["--role", "member", "--account", "elsewhere"]);
    assert_eq!(seen(&server, &ann.token), json!([]));

    let first = share_as(&server, &manager, &door, "ann", "VIEWER");
    assert_eq!(first["user"], json!({"id": ann.id, "name": "ann", "role": null}));
    assert_eq!(seen(&server, &ann.token), json!([["door", "VIEWER"]]));
    let input = |user: &str, role: &str, more: Value| {
        let mut input = json!({"deviceId": door.device, "user": {"name": user}, "role": role});
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    };
    let yesterday = json!({"expiresAt": rfc3339(now_ms() - 86_400_000)});
    for (token, input, code, field) in [
        (&ann.token, input("bob", "VIEWER", json!({})), "FORBIDDEN", "deviceId"),
        (&bob.token, input("bob", "VIEWER", json!({})), "NOT_FOUND", "deviceId"),
        (&manager, input("far", "VIEWER", json!({})), "NOT_FOUND", "user"),
        (&manager, input("", "VIEWER", json!({"user": {"id": "usr_x"}})), "NOT_FOUND", "user"),
        (&manager, input("bob", "VIEWER", yesterday), "INVALID", "expiresAt"),
    ] {
        let payload = share(&server, token, input);
        assert_eq!(mistakes(&payload), json!([{"code": code, "path": ["input", field]}]));
    }

    // Given again, it is the same share with more in it.
    let more = share_as(&server, &manager, &door, "ann", "MANAGER");
    assert_eq!(more["id"], first["id"]);
    assert_eq!(seen(&server, &ann.token), json!([["door", "MANAGER"]]));
    let rename = json!({"id": door.device, "name": "Vordertu\u{308}r"});
    let renamed = mutate(&server, &ann.token, "updateDevice", rename, "device { name }");
    assert_eq!(renamed["device"], json!({"name": "Vordert\u{fc}r"}));

    // Who has it for a while gives nothing for longer.
    let hour = |hours: u64| json!({"expiresAt": rfc3339(now_ms() + hours * 3_600_000)});
    share(&server, &manager, input("ann", "MANAGER", hour(2)));
    for (more, refused) in [(json!({}), true), (hour(3), true), (hour(1), false)] {
        let payload = share(&server, &ann.token, input("bob", "VIEWER", more.clone()));
        assert_eq!(payload["share"].is_null(), refused, "{more}: {payload}");
    }
    let issued = json!({"deviceId": door.device, "kind": "TOKEN", "validDays": 1});
    let issued =
        mutate(&server, &ann.token, "issueDeviceCredential", issued, "credential { token }");
    let outlasts = json!([{"code": "FORBIDDEN", "path": ["input", "validDays"]}]);
    assert_eq!((&issued["credential"], mistakes(&issued)), (&Value::Null, outlasts));
    assert_eq!(seen(&server, &bob.token), json!([["door", "VIEWER"]]));

    let shares = |token: &str| {
        let query = "query($ref: DeviceRef!) { device(ref: $ref) {
            shares { id user { name } role } } }";
        let answer = server.graphql(Some(token), query, json!({"ref": {"id": door.device}}));
        answer["data"]["device"]["shares"].clone()
    };
    let of_bob = shares(&ann.token)[1].clone();
    assert_eq!(of_bob["user"]["name"], "bob");
    assert_eq!(shares(&bob.token), Value::Null);
    assert_eq!(shares(&yard.token), Value::Null);

    let node = |token: &str, id: &Value| {
        let query = "query($id: ID!) { node(id: $id) { __typename id } }";
        server.graphql(Some(token), query, json!({"id": id}))["data"]["node"].clone()
    };
    let id = &of_bob["id"];
    for token in [&manager, &ann.token, &bob.token] {
        assert_eq!(node(token, id)["__typename"], "DeviceShare");
        assert_eq!(node(token, &json!(bob.id))["__typename"], "User");
    }
    assert_eq!(node(&bob.token, &json!(ann.id)), Value::Null);
    assert_eq!(mistakes(&revoke(&server, &bob.token, id))[0]["code"], "FORBIDDEN");
    assert_eq!(mistakes(&revoke(&server, &yard.token, id))[0]["code"], "NOT_FOUND");
    assert_eq!(revoke(&server, &ann.token, id)["revokedShareId"], *id);
    assert_eq!(mistakes(&revoke(&server, &manager, id))[0]["code"], "NOT_FOUND");
    assert_eq!(seen(&server, &bob.token), json!([]));
    assert_eq!(node(&manager, id), Value::Null);
    assert_eq!(node(&manager, &json!(bob.id)), Value::Null);
}

#[test]
fn a_session_ends_with_the_right_that_it_was_given_by() {
    let server = Server::start();
    let (admin, camera) = (server.token(&["--role", "admin"]), camera::register(&server, "cam"));
    let start_ms = now_ms() - 600_000;
    playback::upload(&server, &camera, [start_ms]);
    let session = |person: &Person| {
        let range = of_range(start_ms, start_ms + 1_000);
        playback::ask(&server, &person.token, &camera, range)
    };
    let opened = |session: &Value| {
        let path = playback::path(&server, session).replace("main.m3u8", "video.m3u8");
        assert_eq!(server.get(&path, &[]).status, 200);
        path
    };

    let [ann, bob, cleo] = [("ann", "member"), ("bob", "member"), ("cleo", "viewer")]
        .map(|(n, r)| person(&server, n, r));
    let given = share_as(&server, &admin, &camera, "ann", "VIEWER");
    let revoked = opened(&session(&ann));
    revoke(&server, &admin, &given["id"]);
    let again = share_as(&server, &admin, &camera, "ann", "VIEWER");
    assert_ne!(again["id"], given["id"]);
    let demoted = opened(&session(&cleo));
    update_user(&server, &admin, json!({"id": cleo.id, "role": "MEMBER"}));
    for path in [&revoked, &demoted] {
        playback::ends(&server, path, Duration::from_secs(5));
    }
    opened(&session(&ann));

    let expires_ms = now_ms() + 2_000;
    let input = json!({
        "deviceId": camera.device, "user": {"id": bob.id}, "role": "VIEWER",
        "expiresAt": rfc3339(expires_ms),
    });
    share(&server, &admin, input);
    let expiring = session(&bob);
    assert_eq!(at_ms(&expiring["expiresAt"]), expires_ms, "the session does not outlive the share");
    playback::ends(&server, &opened(&expiring), Duration::from_secs(5));
    assert_eq!(seen(&server, &bob.token), json!([]));
}

fn audit_log(server: &Server, token: &str, arguments: Value) -> Value {
    let query = "query($range: TimeRangeInput!, $first: Int, $after: String) {
        auditLog(range: $range, first: $first, after: $after) {
          nodes { at actorId action targetId address }
          pageInfo { hasNextPage endCursor } } }";
    server.graphql(Some(token), query, arguments)["data"]["auditLog"].clone()
}

#[test]
fn what_was_done_stands_in_the_log() {
    let server = Server::start();
    let ann = person(&server, "ann", "admin");
    let bob = person(&server, "bob", "member");
    let cleo = person(&server, "cleo", "viewer");
    let elsewhere = server.token(&["--role", "admin", "--account", "elsewhere"]);
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 600_000;
    playback::upload(&server, &camera, [start_ms]);
    for name in ["bob", "nobody"] {
        let login = json!({"name": name, "password": "wrong"});
        assert_eq!(server.post_json("/auth/login", &[], &login).status, 401);
    }
    let given = share_as(&server, &ann.token, &camera, "bob", "VIEWER");
    let mut range = of_range(start_ms, start_ms + 1_000);
    playback::ask(&server, &bob.token, &camera, range.clone());
    range["protocol"] = json!("MP4");
    playback::ask(&server, &bob.token, &camera, range);
    let pictures = "query($id: ID!, $range: TimeRangeInput!) { node(id: $id) { ... on Stream {
        snapshot { ... on Image { at } } thumbnails(range: $range) { at } } } }";
    let of_camera = json!({"id": camera.stream, "range": of_range(start_ms, start_ms + 1_000)});
    for token in [&cleo.token, &cleo.token, &ann.token] {
        let shown = server.graphql(Some(token), pictures, of_camera.clone());
        assert!(shown["data"]["node"]["snapshot"]["at"].is_string(), "{shown}");
        assert!(shown["data"]["node"]["thumbnails"][0]["at"].is_string(), "{shown}");
    }
    revoke(&server, &ann.token, &given["id"]);
    update_user(&server, &ann.token, json!({"id": bob.id, "disabled": true}));
    let delete = json!({"streamId": camera.stream, "range": of_range(start_ms, start_ms + 1)});
    mutate(&server, &ann.token, "deleteFootage", delete, "deletedSegments");

    let log = |token: &str, arguments: Value| audit_log(&server, token, arguments);
    let all = of_range(now_ms() - 3_600_000, now_ms() + 1_000);
    let script = json!("lookback-token");
    let expected = [
        (json!(ann.id), "SIGN_IN", Value::Null),
        (json!(bob.id), "SIGN_IN", Value::Null),
        (json!(cleo.id), "SIGN_IN", Value::Null),
        (script, "CHANGE", json!(camera.device)),
        (Value::Null, "SIGN_IN_REFUSED", json!(bob.id)),
        (json!(ann.id), "SHARE", given["id"].clone()),
        (json!(bob.id), "VIEW", json!(camera.stream)),
        (json!(bob.id), "EXPORT", json!(camera.stream)),
        (json!(cleo.id), "VIEW", json!(camera.stream)),
        (json!(ann.id), "VIEW", json!(camera.stream)),
        (json!(ann.id), "REVOKE", given["id"].clone()),
        (json!(ann.id), "CHANGE", json!(bob.id)),
        (json!(ann.id), "DELETE", json!(camera.stream)),
    ];
    let mut lines = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = log(&ann.token, json!({"range": all, "first": 3, "after": after}));
        lines.extend(page["nodes"].as_array().unwrap().clone());
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    lines.reverse();
    let said: Vec<Value> =
        lines.iter().map(|l| json!([l["actorId"], l["action"], l["targetId"]])).collect();
    let expected: Vec<Value> = expected.into_iter().map(|line| json!(line)).collect();
    assert_eq!(said, expected);
    assert!(lines.iter().all(|line| line["address"] == "127.0.0.1"), "{lines:?}");
    let past = of_range(now_ms() - 3_600_000, now_ms() - 1_800_000);
    assert_eq!(log(&ann.token, json!({"range": past}))["nodes"], json!([]));
    assert_eq!(log(&elsewhere, json!({"range": all}))["nodes"], json!([]));
    let manager = server.token(&["--role", "manager"]);
    assert_eq!(log(&manager, json!({"range": all})), Value::Null);
}

#[test]
fn what_the_kinesis_api_gave_and_took_stands_in_the_log() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin"]);
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 600_000;
    playback::upload(&server, &camera, [start_ms]);
    let name = json!({"StreamName": camera.media_stream});
    let call = |path: &str, more: Value| {
        let mut input = name.clone();
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        let bearer = format!("Bearer {admin}");
        let answer = server.post_json(path, &[("authorization", &bearer)], &input);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer
    };
    let described = call("/describeStream", json!({})).json();
    let range = json!({
        "StartTimestamp": start_ms as f64 / 1e3 - 1.0,
        "EndTimestamp": start_ms as f64 / 1e3 + 60.0,
    });
    let selector = json!({"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": range});
    let listed = call("/listFragments", json!({"FragmentSelector": selector})).json();
    let played = json!({"PlaybackMode": "ON_DEMAND", "HLSFragmentSelector": selector});
    call("/getHLSStreamingSessionURL", played);
    call("/getClip", json!({"ClipFragmentSelector": selector}));
    let fragments = json!({"Fragments": [listed["Fragments"][0]["FragmentNumber"]]});
    call("/getMediaForFragmentList", fragments);
    call("/deleteStream", json!({"StreamARN": described["StreamInfo"]["StreamARN"]}));

    let range = of_range(now_ms() - 3_600_000, now_ms() + 1_000);
    let lines = audit_log(&server, &admin, json!({"range": range}));
    let mut lines = lines["nodes"].as_array().unwrap().clone();
    lines.retain(|line| line["targetId"] == camera.stream);
    let said: Vec<&Value> = lines.iter().map(|line| &line["action"]).collect();
    assert_eq!(said, ["DELETE", "EXPORT", "EXPORT", "VIEW"]);
    assert!(lines.iter().all(|line| line["address"] == "127.0.0.1"), "{lines:?}");
}
