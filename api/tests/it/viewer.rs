//! The embedded viewer: what a browser is told about it.

use crate::server::{Headers, Server};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[test]
fn paths_lead_to_the_viewer_or_nowhere() {
    let server = Server::start();
    let index = server.get("/", &[BROWSER]);
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    for path in ["/devices/dev_1", "/devices", "/sign-in"] {
        assert_eq!(server.get(path, &[BROWSER]).body, index.body, "{path}");
    }
    let nowhere: [(&str, &str, Headers); 7] = [
        ("GET", "/devices", &[("accept", "application/json")]),
        ("GET", "/devices", &[]),
        ("GET", "/assets/no-such-file.js", &[BROWSER]),
        ("GET", "/hls/v1/nothing", &[BROWSER]),
        ("GET", "/auth/nothing", &[BROWSER]),
        ("GET", "/../Cargo.toml", &[BROWSER]),
        ("POST", "/", &[BROWSER]),
    ];
    for (method, path, headers) in nowhere {
        let answer = server.request(method, path, headers, b"");
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_ne!(answer.body, index.body, "{method} {path}");
    }
}

#[test]
fn browsers_are_told_to_be_careful() {
    let server = Server::start();
    for path in ["/", "/livez", "/nowhere"] {
        let answer = server.get(path, &[BROWSER]);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
}

/// Only where the viewer was built; `make test` always builds it first.
#[test]
fn the_built_viewer_is_cached_and_compressed() {
    let server = Server::start();
    let index = server.get("/", &[BROWSER]);
    if index.status == 404 {
        assert!(index.text().contains("left out of this build"));
        assert!(std::env::var_os("CI").is_none(), "the viewer was not built");
        println!("left out: the viewer was not built");
        return;
    }
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    assert!(index.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let tag = index.header("etag").unwrap();
    let again = server.get("/", &[BROWSER, ("if-none-match", tag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));

    let script = index.text().split('"').find(|part| part.ends_with(".js")).unwrap();
    let plain = server.get(script, &[]);
    assert_eq!(plain.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    let packed = server.get(script, &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len() / 2);

    let graphiql = server.get("/graphiql", &[BROWSER]);
    assert_eq!(graphiql.status, 200);
    assert!(!graphiql.text().contains("://"), "{}", graphiql.text());
}
