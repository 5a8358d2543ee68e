//! Signing in, staying signed in, and tokens that are refused, over HTTP.

use crate::server::{Answer, Headers, Server, request};
use lookback_api::access::{Principal, Subject};
use lookback_api::account::Role;
use lookback_api::clock::Clock;
use lookback_api::commands::serve::{Options, RunningServer, start};
use lookback_api::config::Config;
use lookback_api::device::{CredentialKind, Device, DeviceCredential, DeviceState, Stream};
use lookback_api::id::{CredentialId, DeviceId, StreamId};
use lookback_api::storage::Registration;
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;

const PASSWORD: &str = "correct horse battery";

fn login(server: &Server, name: &str, password: &str) -> Answer {
    server.post_json("/auth/login", &[], &json!({"name": name, "password": password}))
}

/// What a browser would send back.
fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    cookie.split(';').next().unwrap().to_owned()
}

fn refresh(server: &Server, cookie: &str) -> Answer {
    server.request("POST", "/auth/refresh", &[("cookie", cookie)], b"")
}

fn code(answer: &Answer) -> Value {
    answer.json()["error"]["code"].clone()
}

#[test]
fn a_user_signs_in_stays_and_leaves() {
    let server = Server::start();
    let id = server.add_user("ann", PASSWORD, &["--role", "viewer", "--time-zone", "Asia/Tokyo"]);
    assert!(id.starts_with("usr_"), "{id}");

    let first = login(&server, "ann", PASSWORD);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let attributes = first.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/auth", "Max-Age=2592000"] {
        assert!(attributes.contains(attribute), "{attribute} in {attributes}");
    }
    assert!(!attributes.contains("Secure"), "{attributes}");
    let given = first.json();
    assert_eq!(given["tokenType"], "Bearer");
    assert_eq!(given["expiresInSeconds"], 900);
    assert!(given["accessToken"].as_str().unwrap().split('.').count() == 3);

    let second = refresh(&server, &cookie(&first));
    assert_eq!(second.status, 200);
    assert_ne!(cookie(&first), cookie(&second));
    // The other tab, or an answer that was lost: the same one again.
    let again = refresh(&server, &cookie(&first));
    assert_eq!(again.status, 200);
    assert_eq!(cookie(&again), cookie(&second));

    let third = refresh(&server, &cookie(&second));
    assert_eq!(third.status, 200);
    // Two back is older than any tab can be: it ends them all.
    let stolen = refresh(&server, &cookie(&first));
    assert_eq!((stolen.status, code(&stolen)), (401, json!("SIGN_IN_ENDED")));
    assert_eq!(refresh(&server, &cookie(&third)).status, 401);

    let anew = login(&server, "ann", PASSWORD);
    let left = server.request("POST", "/auth/logout", &[("cookie", &cookie(&anew))], b"");
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(refresh(&server, &cookie(&anew)).status, 401);
    assert_eq!(server.request("POST", "/auth/logout", &[], b"").status, 204);
}

#[test]
fn refresh_tokens_that_are_none_are_refused() {
    let server = Server::start();
    server.add_user("ann", PASSWORD, &["--role", "viewer"]);
    let good = cookie(&login(&server, "ann", PASSWORD));
    let (id, _) = good.split_once('.').unwrap();
    let others = [
        String::new(),
        "lookback_refresh=".into(),
        "lookback_refresh=x.y".into(),
        "lookback_refresh=sign_00000000000000000000000000.y".into(),
        good.replace("lookback_refresh", "other"),
        "x".repeat(4000),
    ];
    for other in others {
        assert_eq!(refresh(&server, &other).status, 401, "{other}");
    }
    assert_eq!(refresh(&server, &good).status, 200);
    // A wrong secret under a known identifier may be anybody's guess of a stolen one.
    assert_eq!(refresh(&server, &format!("{id}.guess")).status, 401);
}

#[test]
fn what_is_wrong_is_not_told() {
    let server = Server::start();
    server.add_user("ann", PASSWORD, &["--role", "admin"]);
    server.add_user("bob", PASSWORD, &["--role", "admin", "--account", "elsewhere"]);
    let cases = [
        json!({"name": "ann", "password": "wrong"}),
        json!({"name": "ann", "password": ""}),
        json!({"name": "nobody", "password": PASSWORD}),
        json!({"name": "bob", "password": PASSWORD}),
        json!({"account": "nowhere", "name": "bob", "password": PASSWORD}),
        json!({"account": "elsewhere", "name": "ann", "password": PASSWORD}),
        json!({"name": "ann", "password": "x".repeat(2000)}),
        json!({"code": "demo"}),
    ];
    let mut said = Vec::new();
    for case in &cases {
        let answer = server.post_json("/auth/login", &[], case);
        assert_eq!(answer.status, 401, "{case}");
        said.push(answer.text().to_owned());
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
    let elsewhere = json!({"account": "elsewhere", "name": "bob", "password": PASSWORD});
    assert_eq!(server.post_json("/auth/login", &[], &elsewhere).status, 200);
}

#[test]
fn logins_that_are_malformed_are_refused() {
    let server = Server::start();
    let json = ("content-type", "application/json");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(20_000));
    let cases: [(Headers, &str, u16); 8] = [
        (&[json], "", 400),
        (&[json], "{}", 400),
        (&[json], "[]", 400),
        (&[json], r#"{"name": "a"}"#, 400),
        (&[json], r#"{"name": "a", "password": "b", "role": "ADMIN"}"#, 400),
        (&[form], "name=a&password=b", 415),
        (&[], "{}", 415),
        (&[json], &huge, 413),
    ];
    for (headers, body, expected) in cases {
        let answer = server.request("POST", "/auth/login", headers, body.as_bytes());
        assert_eq!(answer.status, expected, "{body:.80}: {answer:?}");
    }
    assert_eq!(server.get("/auth/login", &[]).status, 404);
}

#[test]
fn guessing_is_slowed_down() {
    let server = Server::start();
    server.add_user("ann", PASSWORD, &["--role", "viewer"]);
    let statuses: Vec<u16> = (0..12).map(|_| login(&server, "ann", "guess").status).collect();
    assert_eq!(statuses[..5], [401; 5]);
    let refused = login(&server, "ann", PASSWORD);
    assert_eq!((refused.status, code(&refused)), (429, json!("TOO_MANY_ATTEMPTS")));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=13).contains(&wait), "{wait}");
}

#[test]
fn pages_of_other_origins_may_call_only_where_allowed() {
    let dir = tempfile::TempDir::new().unwrap();
    let server = Server::start_with(&["--allowed-origins", "https://app.example"], dir);
    let own = server.url();
    // Who, whether it may call, whether its page may read the answer.
    let cases = [
        (own.as_str(), true, false),
        ("https://app.example", true, true),
        ("https://app.example.evil.example", false, false),
        ("http://app.example", false, false),
        ("null", false, false),
    ];
    for (origin, may_call, may_read) in cases {
        let headers = [("origin", origin)];
        let answer = server.request("POST", "/auth/refresh", &headers, b"");
        assert_eq!(answer.status, if may_call { 401 } else { 403 }, "{origin}");
        let read = answer.header("access-control-allow-origin");
        assert_eq!(read, may_read.then_some(origin));
        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        let preflight = server.request("OPTIONS", "/auth/refresh", &asked, b"");
        assert_eq!(preflight.status, 204, "{origin}");
        assert_eq!(preflight.header("access-control-allow-origin"), may_read.then_some(origin));
    }
}

#[test]
fn only_trusted_proxies_say_how_a_request_came() {
    for (proxies, secure) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let dir = tempfile::TempDir::new().unwrap();
        let server = Server::start_with(&["--trusted-proxies", proxies], dir);
        let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "cam.example")];
        let answer = server.request("POST", "/auth/logout", &forwarded, b"");
        let cookie = answer.header("set-cookie").unwrap();
        assert_eq!(cookie.ends_with("; Secure"), secure, "{proxies}: {cookie}");
        // Each guess claims another sender; only what a trusted proxy says counts.
        let statuses = (0..24).map(|n| {
            let sender = format!("203.0.113.{n}");
            let body = json!({"name": n.to_string(), "password": "guess"});
            server.post_json("/auth/login", &[("x-forwarded-for", &sender)], &body).status
        });
        let slowed = statuses.filter(|&status| status == 429).count();
        assert_eq!(slowed > 0, !secure, "{proxies}");
    }
}

#[test]
fn users_that_cannot_be_are_refused() {
    let server = Server::start();
    server.add_user("ann", PASSWORD, &["--role", "viewer"]);
    let cases: [(&str, &str, &[&str], &str); 5] = [
        ("ann", PASSWORD, &["--role", "viewer"], "already"),
        ("", PASSWORD, &["--role", "viewer"], "name"),
        ("cid", "short", &["--role", "viewer"], "password"),
        ("cid", PASSWORD, &["--role", "device"], "device"),
        ("cid", PASSWORD, &["--role", "viewer", "--time-zone", "Mars/Base"], "Mars/Base"),
    ];
    for (name, password, flags, expected) in cases {
        let output = server.try_add_user(name, password, flags);
        assert!(!output.status.success(), "{name} {flags:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    let output = server.beside(&["token"], &["--role", "device", "--device", "no-such"]);
    assert!(!output.status.success());
}

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
/// How long an access token lasts.
const ACCESS_MS: i64 = 15 * 60_000;

/// A server in this process, whose clock stands still until it is set.
async fn start_here(dir: &tempfile::TempDir) -> RunningServer {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: dir.path().into(),
        ..Config::default()
    };
    let clock = Arc::new(Clock::manual(NOW));
    start(config, Options { clock, with_sign_in_code: true }).await.unwrap()
}

/// The status of a request with this `Authorization`.
fn status_with(server: &RunningServer, authorization: &str) -> u16 {
    let headers = [("content-type", "application/json"), ("authorization", authorization)];
    request(server.address, "POST", "/graphql", &headers, br#"{"query": "{__typename}"}"#).status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_code_signs_in_from_loopback() {
    let dir = tempfile::TempDir::new().unwrap();
    let server = start_here(&dir).await;
    let json = [("content-type", "application/json")];
    let code = server.sign_in_code.as_ref().unwrap().expose_secret();
    for (code, expected) in [(code, 200), ("guess", 401), ("", 401), (code, 200)] {
        let body = json!({ "code": code }).to_string();
        let answer = request(server.address, "POST", "/auth/login", &json, body.as_bytes());
        assert_eq!(answer.status, expected);
        if expected == 200 {
            let token = answer.json()["accessToken"].as_str().unwrap().to_owned();
            assert_eq!(status_with(&server, &format!("Bearer {token}")), 200);
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_when_they_expire_or_are_withdrawn() {
    let dir = tempfile::TempDir::new().unwrap();
    let server = start_here(&dir).await;
    let service = &server.service;
    let catalog = &service.storage.catalog;
    let account = catalog.account_by_name("default").await.unwrap().unwrap().id;
    let issue = |subject, role| {
        let principal = Principal {
            subject,
            account,
            role,
            shares: Vec::new(),
            expires_at: NOW.plus_millis(ACCESS_MS),
        };
        let token = service.tokens.issue(&principal, NOW).unwrap();
        format!("Bearer {}", token.expose_secret())
    };

    let script = issue(Subject::Service("script".into()), Role::Admin);
    let token = script.strip_prefix("Bearer ").unwrap();
    assert_eq!(status_with(&server, &script), 200);
    assert_eq!(status_with(&server, &format!("bearer  {token}")), 200);
    for wrong in [token, "Bearer", "Bearer x", &format!("Basic {token}"), &format!("{script}x")] {
        assert_eq!(status_with(&server, wrong), 401, "{wrong}");
    }
    service.clock.set(NOW.plus_millis(ACCESS_MS + 29_000));
    assert_eq!(status_with(&server, &script), 200, "clocks may differ by 30 s");
    service.clock.set(NOW.plus_millis(ACCESS_MS + 30_000));
    assert_eq!(status_with(&server, &script), 401);
    service.clock.set(NOW);

    let plan = catalog.plans(account).await.unwrap().remove(0).id;
    let (device, stream) = (DeviceId::new(NOW), StreamId::new(NOW));
    let credential = DeviceCredential {
        id: CredentialId::new(NOW),
        account,
        device,
        kind: CredentialKind::Token,
        created_at: NOW,
        expires_at: Some(NOW.plus_millis(60_000)),
        revoked_at: None,
        last_used_at: None,
    };
    let registration = Registration {
        device: Device {
            id: device,
            account,
            external_id: "cam".into(),
            name: "Cam".into(),
            model: None,
            firmware_version: None,
            state: DeviceState::Provisioned,
            time_zone: "UTC".into(),
            plan,
            created_at: NOW,
            last_seen_at: None,
            clock_skew_ms: None,
        },
        streams: vec![Stream {
            id: stream,
            device,
            account,
            name: "main".into(),
            position: 0,
            media_stream_name: "cam-main".into(),
            created_at: NOW,
        }],
        credential: credential.clone(),
        idempotency: None,
    };
    catalog.register_device(registration, NOW).await.unwrap();
    let camera = issue(Subject::Device { device, credential: credential.id }, Role::Device);
    let unknown =
        issue(Subject::Device { device, credential: CredentialId::new(NOW) }, Role::Device);
    assert_eq!(status_with(&server, &camera), 200);
    assert_eq!(status_with(&server, &unknown), 401);
    service.clock.set(NOW.plus_millis(60_000));
    assert_eq!(status_with(&server, &camera), 401, "the credential ended before the token");
    service.clock.set(NOW);
    assert_eq!(status_with(&server, &camera), 200);
    let revoked = DeviceCredential { revoked_at: Some(NOW), ..credential };
    catalog.put_credential(revoked).await.unwrap();
    assert_eq!(status_with(&server, &camera), 401);
    server.stop().await.unwrap();
}
