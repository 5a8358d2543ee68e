//! What the catalog does when DynamoDB throttles, fails, answers in part or not at all: a front
//! between the SDK and the test server does that to it.

use super::test_server::TestServer;
use crate::id::{DeviceId, StreamId, UserId};
use crate::segment::{NewSegment, RecordingTrigger, TimeRange, WINDOW_MS};
use crate::storage::contract::{new_user, registration};
use crate::storage::{Announced, Catalog, CreateError, StorageError};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Throttled,
    ServerError,
    /// The request is carried out, and the connection closes without an answer.
    NoAnswer,
    /// A batch of which so many keys are looked at.
    Only(usize),
}

/// What becomes of the requests of an operation: of the first ones, or of all.
type Plan = HashMap<&'static str, (u32, Fault)>;

#[derive(Default)]
struct Requests {
    plan: Plan,
    /// Of each operation.
    seen: HashMap<String, u32>,
}

struct Front {
    url: String,
    requests: Arc<Mutex<Requests>>,
}

impl Front {
    async fn start(server: &TestServer) -> Self {
        let upstream = server.url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Requests::default()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, upstream.clone(), seen.clone()));
            }
        });
        Self { url, requests }
    }

    /// From now on.
    fn plan(&self, plan: impl IntoIterator<Item = (&'static str, (u32, Fault))>) {
        *self.requests.lock() = Requests { plan: plan.into_iter().collect(), seen: HashMap::new() };
    }

    fn count(&self, operation: &str) -> u32 {
        self.requests.lock().seen.get(operation).copied().unwrap_or(0)
    }
}

/// One request of a connection, which closes after it.
async fn pass(mut client: TcpStream, upstream: String, requests: Arc<Mutex<Requests>>) {
    let Some((head, mut body)) = read_request(&mut client).await else { return };
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let target = header("x-amz-target").unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let fault = {
        let mut requests = requests.lock();
        let seen = requests.seen.entry(operation.clone()).or_default();
        *seen += 1;
        let seen = *seen;
        let planned = requests.plan.get(operation.as_str());
        planned.filter(|(first, _)| seen <= *first).map(|(_, fault)| *fault)
    };
    let refused = |code: &str| {
        let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
        json!({"__type": kind, "message": "as planned"}).to_string()
    };
    let mut left_out = None;
    let answer = match fault {
        Some(Fault::Throttled) => {
            respond("400 Bad Request", &refused("ProvisionedThroughputExceededException"))
        }
        Some(Fault::ServerError) => {
            respond("500 Internal Server Error", &refused("InternalServerError"))
        }
        Some(Fault::Only(count)) => {
            left_out = Some(split(&mut body, count));
            if count == 0 {
                respond(
                    "200 OK",
                    &json!({"Responses": {}, "UnprocessedKeys": left_out}).to_string(),
                )
            } else {
                forward(&upstream, &head, &body).await
            }
        }
        Some(Fault::NoAnswer) => {
            forward(&upstream, &head, &body).await;
            return;
        }
        None => forward(&upstream, &head, &body).await,
    };
    let answer = match left_out {
        Some(left_out) => {
            let at = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let mut document: Value = serde_json::from_slice(&answer[at..]).unwrap();
            document["UnprocessedKeys"] = left_out;
            respond("200 OK", &document.to_string())
        }
        None => answer,
    };
    let _ = client.write_all(&answer).await;
}

async fn read_request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).ok()?;
            let is_length = |line: &&str| line.to_lowercase().starts_with("content-length:");
            let length: usize =
                head.lines().find(is_length)?.split_once(':')?.1.trim().parse().ok()?;
            let mut body = read.split_off(end + 4);
            while body.len() < length {
                client.read_buf(&mut body).await.ok().filter(|read| *read > 0)?;
            }
            return Some((head, body));
        }
        client.read_buf(&mut read).await.ok().filter(|read| *read > 0)?;
    }
}

async fn forward(upstream: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let mut server = TcpStream::connect(upstream).await.unwrap();
    let skipped = ["connection", "content-length"];
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !skipped.iter().any(|skipped| name.eq_ignore_ascii_case(skipped))
    });
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    let head = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    server.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    answer
}

fn respond(status: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Leaves `count` keys in a batch; answers the rest as DynamoDB would.
fn split(body: &mut Vec<u8>, count: usize) -> Value {
    let mut asked: Value = serde_json::from_slice(body).unwrap();
    let mut left_out = asked["RequestItems"].clone();
    let tables = asked["RequestItems"].as_object_mut().unwrap();
    let mut is_left = false;
    for (table, keys) in tables {
        let keys = keys["Keys"].as_array_mut().unwrap();
        let rest = keys.split_off(count.min(keys.len()));
        is_left |= !rest.is_empty();
        left_out[table]["Keys"] = rest.into();
    }
    *body = asked.to_string().into_bytes();
    if is_left { left_out } else { json!({}) }
}

fn segment(id: &str, start_ms: i64) -> NewSegment {
    let start =
        Timestamp::from_millis(NOW.as_millis().div_euclid(WINDOW_MS) * WINDOW_MS + start_ms);
    NewSegment {
        client_segment_id: id.into(),
        range: TimeRange { start, end: start.plus_millis(20_000) },
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: None,
    }
}

fn stored(answers: &[Announced]) -> Vec<bool> {
    answers.iter().map(|answer| matches!(answer, Announced::Stored { .. })).collect()
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StorageError>, cause: &str) {
    let Err(StorageError::Unavailable(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains(cause), "{text:?} does not say {cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_leave_nothing_half_written() {
    let server = TestServer::start().await;
    let front = Front::start(&server).await;
    let catalog = server.catalog_through(&front.url).await;
    let operations = [
        "GetItem",
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "Query",
        "BatchGetItem",
        "TransactWriteItems",
    ];

    // What passes by itself is not seen by the caller.
    for fault in [Fault::Throttled, Fault::ServerError, Fault::NoAnswer] {
        let always = || front.plan(operations.map(|operation| (operation, (1, fault))));
        always();
        let account = catalog.ensure_account(&format!("{fault:?}"), NOW).await.unwrap().id;
        always();
        let user = new_user(account, "ann");
        catalog.create_user(user.clone()).await.unwrap();
        let taken = catalog.create_user(new_user(account, "ann")).await;
        assert!(matches!(taken, Err(CreateError::Taken { .. })), "{fault:?}: {taken:?}");
        always();
        let made = catalog.register_device(registration(account, "SN", "Door"), NOW).await.unwrap();
        let stream = made.streams[0].id;
        assert_eq!(
            catalog.streams_by_id(&[stream]).await.unwrap(),
            [made.streams.first().cloned()]
        );
        always();
        catalog.announce(stream, &[segment("a", 0), segment("b", WINDOW_MS)], NOW).await.unwrap();
        assert!(front.count("UpdateItem") >= 3, "one of the two was tried again");
        let again =
            catalog.announce(stream, &[segment("a", 0), segment("b", WINDOW_MS)], NOW).await;
        assert_eq!(stored(&again.unwrap()), [false, false]);
        always();
        let before = NOW.plus_millis(1);
        let gone = catalog.expire_segments(stream, before, &[], 9).await.unwrap();
        let left = catalog.expire_segments(stream, before, &[], 9).await.unwrap();
        // Where an answer is lost, what went is not counted; it went all the same.
        assert!((gone + left == 2) || fault == Fault::NoAnswer, "{fault:?}: {gone}, {left}");
        assert_eq!(catalog.newest_announced(&[stream]).await.unwrap(), [None]);
    }

    // What does not pass is told, with nothing of it there.
    front.plan([]);
    let account = catalog.ensure_account("an account", NOW).await.unwrap().id;
    let throttled = "ProvisionedThroughputExceededException";
    front.plan([("TransactWriteItems", (u32::MAX, Fault::Throttled))]);
    let user = new_user(account, "ann");
    let refused = catalog.create_user(user.clone()).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.to_string().contains(throttled)),
        "{refused:?}"
    );
    let asked = registration(account, "SN", "Door");
    let refused = catalog.register_device(asked.clone(), NOW).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.to_string().contains(throttled)),
        "{refused:?}"
    );
    front.plan([]);
    assert_eq!(catalog.user(user.id).await.unwrap(), None);
    assert_eq!(catalog.user_by_name(account, "ann").await.unwrap(), None);
    assert_eq!(catalog.device_by_external_id(account, "SN").await.unwrap(), None);
    assert_eq!(catalog.streams_by_id(&[asked.streams[0].id]).await.unwrap(), [None]);
    catalog.create_user(user).await.unwrap();

    front.plan([("Query", (u32::MAX, Fault::ServerError))]);
    let stream = StreamId::new(NOW);
    unavailable(catalog.announce(stream, &[segment("a", 0)], NOW).await, "InternalServerError");

    // Windows are stored one after the other; the same call again stores the rest.
    let batch = [segment("a", 0), segment("b", WINDOW_MS), segment("c", 2 * WINDOW_MS)];
    front.plan([("UpdateItem", (u32::MAX, Fault::Throttled))]);
    unavailable(catalog.announce(stream, &batch, NOW).await, throttled);
    front.plan([]);
    assert_eq!(stored(&catalog.announce(stream, &batch[..1], NOW).await.unwrap()), [true]);
    assert_eq!(stored(&catalog.announce(stream, &batch, NOW).await.unwrap()), [false, true, true]);

    // What a batch leaves out is asked for again, for as long as there is hope.
    let mut devices = Vec::new();
    for number in 0..3 {
        let asked = registration(account, &format!("SN-{number}"), "Door");
        devices.push(catalog.register_device(asked, NOW).await.unwrap().device.id);
    }
    devices.push(DeviceId::new(NOW));
    front.plan([("BatchGetItem", (2, Fault::Only(1)))]);
    let found = catalog.devices_by_id(&devices).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(front.count("BatchGetItem"), 3);
    front.plan([("BatchGetItem", (u32::MAX, Fault::Only(0)))]);
    unavailable(catalog.devices_by_id(&devices).await, "left 4 of 4 items out");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_few_requests() {
    let server = TestServer::start().await;
    let front = Front::start(&server).await;
    let catalog = server.catalog_through(&front.url).await;
    let counts = |expected: &[(&str, u32)]| {
        let seen = front.requests.lock().seen.clone();
        let expected: HashMap<_, _> =
            expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(seen, expected);
    };
    let stream = StreamId::new(NOW);
    let batch: Vec<_> = (0..15).map(|n| segment(&format!("s{n}"), n * 20_000)).collect();
    front.plan([]);
    catalog.announce(stream, &batch, NOW).await.unwrap();
    counts(&[("Query", 1), ("PutItem", 1), ("UpdateItem", 1)]);
    let next: Vec<_> = (15..30).map(|n| segment(&format!("s{n}"), n * 20_000)).collect();
    front.plan([]);
    catalog.announce(stream, &next, NOW).await.unwrap();
    counts(&[("Query", 1), ("UpdateItem", 1)]);

    let account = catalog.ensure_account("an account", NOW).await.unwrap().id;
    let mut devices = Vec::new();
    for number in 0..5 {
        let asked = registration(account, &format!("SN-{number}"), "Door");
        devices.push(catalog.register_device(asked, NOW).await.unwrap().device.id);
    }
    front.plan([]);
    catalog.devices_by_id(&devices).await.unwrap();
    catalog.streams_of(&devices).await.unwrap();
    counts(&[("BatchGetItem", 3)]);
    front.plan([]);
    catalog.user(UserId::new(NOW)).await.unwrap();
    counts(&[("GetItem", 1)]);
}
