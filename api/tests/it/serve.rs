//! `lookback serve` as a process: what it starts with, how it ends, what it refuses.

use crate::server::{Answer, PATIENCE, Server, lookback, outcome};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What `serve` says as it refuses to start.
fn refusal(flags: &[&str], environment: &[(&str, &str)]) -> String {
    let dir = TempDir::new().unwrap();
    let output = outcome(
        lookback()
            .args(["serve", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(flags)
            .envs(environment.iter().copied()),
    );
    assert!(!output.status.success(), "{flags:?} {environment:?} started");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_would_be_unsafe_or_is_misspelled_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = |text: &str| {
        let path = dir.path().join("lookback.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |flags: &[&str], expected: &str| {
        let said = refusal(flags, &[]);
        assert!(said.contains(expected), "{flags:?}: {said}");
    };
    check(&["--listen", "0.0.0.0:0"], "beyond loopback");
    check(&["--listen", "[::]:0"], "beyond loopback");
    check(&["--workers", "0"], "workers");
    check(&["--public-url", "cam.example"], "public_url");
    check(&["--trusted-proxies", "everyone"], "everyone");
    check(&["--tls-cert", "cert.pem"], "--tls-key");
    check(&["--tls-cert", "no-such.pem", "--tls-key", "no-such.pem"], "no-such.pem");
    check(&["--config", "no-such-file.toml"], "no-such-file.toml");
    check(&["--config", &file("listn = '127.0.0.1:0'")], "listn");
    check(&["--config", &file("[limits]\ngraphql_body = 1")], "graphql_body");
    check(&["--config", &file("[tls]\ncert = 'a'\nkey = 'b'\npassword = 'c'")], "password");
    check(&["--config", &file("log = 'loud'")], "log");
    check(&["--log-filter", "lookback_api=loudest"], "log.filter");
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lookback.toml");
    std::fs::write(&path, "listen = '0.0.0.0:1001'").unwrap();
    let file: &[&str] = &["--config", path.to_str().unwrap()];
    let environment: &[(&str, &str)] = &[("LOOKBACK_LISTEN", "0.0.0.0:1002")];
    let flag: &[&str] = &["--listen", "0.0.0.0:1003"];
    // Each address is refused, and the refusal names it.
    let cases = [
        (file.to_vec(), &[][..], "0.0.0.0:1001"),
        (file.to_vec(), environment, "0.0.0.0:1002"),
        ([file, flag].concat(), environment, "0.0.0.0:1003"),
    ];
    for (flags, environment, expected) in cases {
        let said = refusal(&flags, environment);
        assert!(said.contains(expected), "{flags:?} {environment:?}: {said}");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start();
    let data_dir = server.data_dir().to_str().unwrap();
    let second =
        outcome(lookback().args(["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]));
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(data_dir), "{said}");
    assert_eq!(server.get("/livez", &[]).status, 200);
}

#[test]
fn signals_end_it_well() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        // Somebody who says nothing does not hold it up.
        let _silent = TcpStream::connect(server.address).unwrap();
        let begun = Instant::now();
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{signal}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{signal}: {:?}", begun.elapsed());
    }
}

#[test]
fn tokens_outlive_the_process_that_signed_them() {
    let server = Server::start();
    let token = server.token(&["--role", "admin"]);
    let keys = server.get("/.well-known/jwks.json", &[]).json();
    assert_eq!(keys["keys"][0]["alg"], "EdDSA");
    assert!(!token.is_empty());
    let server = Server::start_with(&[], server.kill());
    assert_eq!(server.get("/.well-known/jwks.json", &[]).json(), keys);
}

#[test]
fn what_watches_it_is_answered() {
    let server = Server::start();
    for path in ["/livez", "/readyz"] {
        let answer = server.get(path, &[]);
        assert_eq!((answer.status, answer.text()), (200, "ok\n"), "{path}");
    }
    let metrics = server.get("/metrics", &[]);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.text().contains("lookback_http_responses_total{class=\"2xx\"} 2"));
}

#[test]
fn an_upload_that_nobody_wants_is_ended() {
    let server = Server::start();
    for path in ["/nowhere", "/auth/login", "/livez"] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
        let begun = Instant::now();
        let mut sent = 0;
        // Writing fails once the server has closed the connection.
        while stream.write_all(&chunk).is_ok() {
            sent += chunk.len();
            assert!(begun.elapsed() < Duration::from_secs(10), "{path}: {sent} bytes taken");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        "POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let answer = Answer::read(&mut reader, false);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("connection"), Some("close"));
    let mut rest = Vec::new();
    assert_eq!(reader.read_to_end(&mut rest).unwrap(), 0);
}
