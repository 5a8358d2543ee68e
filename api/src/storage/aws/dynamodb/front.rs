//! What stands between the SDK and the test server in tests: it counts what is asked for and what
//! that consumes, and does to it what a distant server may.

use super::test_server::TestServer;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Throttled,
    ServerError,
    /// The request is carried out, and the connection closes without an answer.
    NoAnswer,
    /// A batch of which so many keys are looked at.
    Only(usize),
}

/// What becomes of the requests of an operation: of the first ones, or of all.
pub type Plan = HashMap<&'static str, (u32, Fault)>;

#[derive(Debug, Default)]
pub struct Requests {
    plan: Plan,
    /// Of each operation.
    pub seen: HashMap<String, u32>,
    /// Capacity units that each operation consumed, where the server tells.
    pub units: HashMap<String, f64>,
}

#[derive(Debug)]
pub struct Front {
    pub url: String,
    pub requests: Arc<Mutex<Requests>>,
}

impl Front {
    pub async fn start(server: &TestServer) -> Self {
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
    pub fn plan(&self, plan: impl IntoIterator<Item = (&'static str, (u32, Fault))>) {
        *self.requests.lock() =
            Requests { plan: plan.into_iter().collect(), ..Requests::default() };
    }

    pub fn count(&self, operation: &str) -> u32 {
        self.requests.lock().seen.get(operation).copied().unwrap_or(0)
    }
}

/// Operations that can tell what they consumed.
const COUNTED: [&str; 8] = [
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "TransactWriteItems",
    "UpdateItem",
];

/// The capacity units that an answer tells of; of a batch, all tables' together.
fn consumed(answer: &[u8]) -> Option<f64> {
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let document: Value = serde_json::from_slice(answer.get(at..)?).ok()?;
    match &document["ConsumedCapacity"] {
        Value::Array(tables) => {
            Some(tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum())
        }
        table => table["CapacityUnits"].as_f64(),
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
    if COUNTED.contains(&operation.as_str())
        && let Ok(mut asked) = serde_json::from_slice::<Value>(&body)
    {
        asked["ReturnConsumedCapacity"] = "TOTAL".into();
        body = asked.to_string().into_bytes();
    }
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
    if let Some(units) = consumed(&answer) {
        *requests.lock().units.entry(operation).or_default() += units;
    }
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
