//! Subscriptions as server-sent events, on a server in this process whose clock tests set. What
//! happens over sockets is tested with the clients that people use, in `web/tests`.

use crate::server::{PATIENCE, Server, request};
use lookback_api::access::{Principal, Subject};
use lookback_api::account::Role;
use lookback_api::clock::Clock;
use lookback_api::commands::serve::{Options, RunningServer, start};
use lookback_api::config::Config;
use lookback_api::feed::Change;
use lookback_api::id::AccountId;
use lookback_api::ingest::presence::ONLINE_MS;
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
/// How long the administrator's token lasts.
const ACCESS_MS: i64 = 15 * 60_000;

async fn serve(dir: &tempfile::TempDir) -> RunningServer {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: dir.path().into(),
        ..Config::default()
    };
    let clock = Arc::new(Clock::manual(NOW));
    start(config, Options { clock, with_sign_in_code: false }).await.unwrap()
}

fn administrator(server: &RunningServer, account: AccountId) -> String {
    let principal = Principal {
        subject: Subject::Service("script".into()),
        account,
        role: Role::Admin,
        shares: Vec::new(),
        expires_at: NOW.plus_millis(ACCESS_MS),
    };
    server.service.tokens.issue(&principal, NOW).unwrap().expose_secret().to_owned()
}

fn ask(to: SocketAddr, token: &str, query: &str, input: Value) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", &bearer)];
    let body = json!({"query": query, "variables": {"input": input}}).to_string();
    let answer = request(to, "POST", "/graphql", &headers, body.as_bytes()).json();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// Identifier and token of a new camera.
fn camera(to: SocketAddr, admin: &str, name: &str) -> (String, String) {
    let register = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
        device { id } credential { token } } }";
    let input = json!({"externalId": name, "name": name, "timeZone": "UTC"});
    let made = ask(to, admin, register, input)["registerDevice"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["device"]["id"]), text(&made["credential"]["token"]))
}

/// What each `next` of a subscription brings, until the stream ends.
fn subscribe(to: SocketAddr, token: &str, query: &str) -> Receiver<Value> {
    let mut stream = TcpStream::connect(to).unwrap();
    let body = json!({ "query": query }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {token}\r\n\
         accept: text/event-stream\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let (told, changes) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if told.send(serde_json::from_str(data).unwrap()).is_err() {
                return;
            }
        }
    });
    changes
}

/// A frame is refused for the length that its head says, before anything of it is collected.
#[test]
fn a_frame_of_a_gigabyte_is_not_waited_for() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let upgrade = format!(
        "GET /graphql HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: graphql-transport-ws\r\n\r\n",
        server.address
    );
    stream.write_all(upgrade.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
    }
    let gigabyte = (1u64 << 30).to_be_bytes();
    stream.write_all(&[&[0x81, 0xff][..], &gigabyte, &[0; 4]].concat()).unwrap();
    let mut close = [0; 4];
    reader.read_exact(&mut close).unwrap();
    let code = u16::from_be_bytes([close[2], close[3]]);
    assert_eq!((close[0], code), (0x88, 1009));
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_come_and_go() {
    let dir = tempfile::TempDir::new().unwrap();
    let server = serve(&dir).await;
    let service = &server.service;
    let account = service.storage.catalog.account_by_name("default").await.unwrap().unwrap().id;
    let admin = administrator(&server, account);
    let (watched, token) = camera(server.address, &admin, "watched");
    let (other, _) = camera(server.address, &admin, "other");
    let query = "subscription { deviceStatusChanged { id connectivity } }";
    let changes = subscribe(server.address, &admin, query);
    // What was published before it listens is not told; this is, once it does.
    let begun = Instant::now();
    let first = loop {
        assert!(begun.elapsed() < PATIENCE, "nothing is told");
        service.feed.publish(
            account,
            other.parse().unwrap(),
            Change::Device(other.parse().unwrap()),
        );
        if let Ok(first) = changes.recv_timeout(Duration::from_millis(100)) {
            break first;
        }
    };
    let told = |id: &str, connectivity: &str| json!({"data": {"deviceStatusChanged": {"id": id, "connectivity": connectivity}}});
    assert_eq!(first, told(&other, "UNKNOWN"));
    let next = || loop {
        let change = changes.recv_timeout(PATIENCE).unwrap();
        if change != first {
            return change;
        }
    };
    let report = "mutation($input: HeartbeatInput!) { reportHeartbeat(input: $input) {
        userErrors { message } } }";
    let mut now = NOW;
    for _ in 0..2 {
        let at = chrono::DateTime::from_timestamp_millis(now.as_millis()).unwrap();
        ask(server.address, &token, report, json!({"sentAt": at.to_rfc3339()}));
        assert_eq!(next(), told(&watched, "ONLINE"));
        now = now.plus_millis(ONLINE_MS + 1);
        service.clock.set(now);
        assert_eq!(next(), told(&watched, "OFFLINE"));
    }
    server.stop().await.unwrap();
}
