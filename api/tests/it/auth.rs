//! Signing in, staying signed in, and tokens that are refused, over HTTP.

use crate::server::{Answer, Server};
use serde_json::{Value, json};

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
    let cases: [(&[(&str, &str)], &str, u16); 8] = [
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
    assert_eq!(statuses[..10], [401; 10]);
    let refused = login(&server, "ann", PASSWORD);
    assert_eq!((refused.status, code(&refused)), (429, json!("TOO_MANY_ATTEMPTS")));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7).contains(&wait), "{wait}");
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
