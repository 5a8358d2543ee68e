//! The whole service on both backends: the same operations, from a file, against a server that keeps
//! everything itself, and one on DynamoDB (moto) and Kinesis Video Streams (a third server of ours).
//! Their answers are compared field by field, once what has to differ is masked: identifiers, URLs,
//! secrets, clocks, and sizes, which the one measures and the other is told. What is NOT_SUPPORTED on
//! AWS is named in the file, and nothing else may be.

use crate::camera::{self, Registered};
use crate::footage::{self, rfc3339};
use crate::sdk::admin_keys;
use crate::server::{NO_RATES, Server, lookback, outcome};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The first start installs it.
const MOTO_PATIENCE: Duration = Duration::from_secs(300);
/// Fragments of footage, one after the other, and where each run of them begins, in milliseconds.
const RUNS: [(u64, u64); 2] = [(0, 50), (120_000, 25)];

/// DynamoDB and STS as moto speaks them; killed when it is dropped.
struct Moto {
    process: Child,
    url: String,
}

impl Moto {
    fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moto/run");
        let process = Command::new(script)
            .args(["127.0.0.1", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, url: format!("http://{address}") };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < MOTO_PATIENCE, "moto does not listen on {address}");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server on AWS, and what plays AWS.
pub struct OnAws {
    pub server: Server,
    pub kinesis: Server,
    environment: Vec<(String, String)>,
    _moto: Moto,
}

impl OnAws {
    pub fn start() -> Self {
        let kinesis = Server::start();
        let url = kinesis.url();
        Self::reaching(kinesis, &url, None)
    }

    /// One that reaches `kinesis` at `kinesis_url`, and STS at moto where there is no `sts_url`.
    pub fn reaching(kinesis: Server, kinesis_url: &str, sts_url: Option<&str>) -> Self {
        let moto = Moto::start();
        let (key_id, secret) = admin_keys(&kinesis);
        let data_dir = TempDir::new().unwrap();
        let config = data_dir.path().join("lookback.toml");
        let text = format!(
            "backend = 'aws'\n{NO_RATES}[aws]\nregion = 'us-east-1'\ndynamodb_endpoint_url = '{moto}'\n\
             sts_endpoint_url = '{sts}'\nkinesis_endpoint_url = '{kinesis_url}'\n\
             upload_role_arn = 'arn:aws:iam::123456789012:role/upload'\n\
             reconcile_requests_per_minute = 0\n",
            moto = moto.url,
            sts = sts_url.unwrap_or(&moto.url)
        );
        std::fs::write(&config, text).unwrap();
        let environment = [
            ("LOOKBACK_CONFIG", config.to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", &key_id),
            ("AWS_SECRET_ACCESS_KEY", &secret),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let made = outcome(lookback().args(["aws", "create-tables"]).envs(environment.clone()));
        assert!(made.status.success(), "{made:?}");
        let server = Server::start_in(&environment, data_dir);
        Self { server, kinesis, environment: environment.to_vec(), _moto: moto }
    }

    /// Kills the service and starts it again.
    pub fn restarted(self) -> Self {
        let data_dir = self.server.kill();
        Self { server: Server::start_in(&self.environment, data_dir), ..self }
    }
}

/// One operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    /// Who asks: admin, manager, viewer, camera, or nobody.
    #[serde(rename = "as")]
    caller: String,
    query: String,
    /// `$name` is what an earlier step saved; `@12.5` is so many seconds after the footage begins,
    /// `@day` the day that it begins on, `@now` the clock.
    #[serde(default)]
    variables: Value,
    /// Names, and where in `data` their values are.
    #[serde(default)]
    saves: HashMap<String, String>,
    /// Whether the AWS backend answers NOT_SUPPORTED.
    #[serde(default)]
    not_supported: bool,
}

/// A server in the course of the scenario.
struct Player<'a> {
    server: &'a Server,
    /// Where media goes, and the token that it goes with; else the camera's own.
    kinesis: Option<(&'a Server, String)>,
    tokens: HashMap<&'static str, String>,
    saved: HashMap<String, Value>,
    start_ms: u64,
}

impl<'a> Player<'a> {
    fn new(server: &'a Server, kinesis: Option<&'a Server>, start_ms: u64) -> Self {
        let token = |role| (role, server.token(&["--role", role]));
        server.add_user("ann", "correct horse", &["--role", "viewer"]);
        Self {
            server,
            kinesis: kinesis.map(|kinesis| (kinesis, kinesis.token(&["--role", "admin"]))),
            tokens: ["admin", "manager", "viewer"].map(token).into(),
            saved: HashMap::new(),
            start_ms,
        }
    }

    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.split_at_checked(1) {
                Some(("$", name)) => self.saved.get(name).cloned().unwrap_or_default(),
                Some(("@", "now")) => rfc3339(footage::an_hour_ago() + 3_600_000).into(),
                Some(("@", "day")) => rfc3339(self.start_ms)[..10].into(),
                Some(("@", seconds)) => {
                    let ms = (seconds.parse::<f64>().unwrap() * 1000.0) as i64;
                    rfc3339(self.start_ms.checked_add_signed(ms).unwrap()).into()
                }
                _ => value.clone(),
            },
            Value::Array(all) => all.iter().map(|value| self.fill(value)).collect(),
            Value::Object(all) => {
                all.iter().map(|(key, value)| (key.clone(), self.fill(value))).collect()
            }
            _ => value.clone(),
        }
    }

    /// The answer, and what it had to have and has not.
    fn play(&mut self, step: &Step) -> (Value, Vec<String>) {
        let token = match step.caller.as_str() {
            "nobody" => None,
            "camera" => self.saved["token"].as_str(),
            role => Some(self.tokens[role].as_str()),
        };
        let answer = self.server.graphql(token, &step.query, self.fill(&step.variables));
        let mut missing = Vec::new();
        for (name, place) in &step.saves {
            match answer["data"].pointer(place).filter(|value| !value.is_null()) {
                Some(value) => {
                    self.saved.insert(name.clone(), value.clone());
                }
                None => missing.push(format!("{}: no {place} in {answer}", step.name)),
            }
        }
        (answer, missing)
    }

    fn upload(&self) {
        let text = |name: &str| self.saved[name].as_str().unwrap().to_owned();
        let (server, token) = match &self.kinesis {
            Some((kinesis, token)) => (*kinesis, token.clone()),
            None => (self.server, text("token")),
        };
        let camera = Registered {
            device: text("device"),
            stream: text("stream"),
            media_stream: text("mediaStream"),
            token,
        };
        footage::connection(server.address, &camera, |upload| {
            for (from_ms, fragments) in RUNS {
                for n in 0..fragments {
                    let at_ms = self.start_ms + from_ms + n * footage::FRAGMENT_MS;
                    footage::persist(upload, at_ms, from_ms + n)?;
                }
            }
            Ok(())
        })
        .unwrap();
    }
}

/// What has to differ, by the field's name.
fn masked_field(name: &str) -> bool {
    const CLOCKS: &[&str] = &[
        "createdAt",
        "ingestedAt",
        "lastSeenAt",
        "lastUsedAt",
        "revokedAt",
        "expiresAt",
        "retainUntil",
        "serverTime",
        "time",
        "tokenExpiresAt",
        "clockSkewSeconds",
    ];
    const SECRETS: &[&str] = &["token", "accessKeyId", "secretAccessKey", "sessionToken"];
    const SIZES: &[&str] = &["size", "storedBytes", "ingestedBytes"];
    const PLACES: &[&str] = &["cursor", "startCursor", "endCursor", "traceId", "region"];
    // A catalog that charges for writes wants them together.
    const PACES: &[&str] = &["batchSize", "flushSeconds"];
    [CLOCKS, SECRETS, SIZES, PLACES, PACES].iter().any(|names| names.contains(&name))
}

/// The same with what has to differ masked.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(all) => all
            .iter()
            .map(|(name, value)| {
                let is_masked = masked_field(name) && !value.is_null();
                (name.clone(), if is_masked { json!("masked") } else { masked(value) })
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(all) => all.iter().map(masked).collect(),
        Value::String(text) if text.starts_with("http://") => json!("a URL"),
        Value::String(text) => json!(without_ids(text)),
        _ => value.clone(),
    }
}

/// The text with each identifier, a prefix and 26 characters, cut to its prefix.
fn without_ids(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = rest.find('_') {
        let (before, after) = rest.split_at(at + 1);
        plain += before;
        let run = after.bytes().take_while(u8::is_ascii_alphanumeric).count();
        rest = if run >= 26 { &after[run..] } else { after };
    }
    plain + rest
}

/// Where two answers differ, as paths.
fn differences(path: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a_all), Value::Object(b_all)) => {
            let names: BTreeSet<_> = a_all.keys().chain(b_all.keys()).collect();
            for name in names {
                differences(&format!("{path}/{name}"), &a[name.as_str()], &b[name.as_str()], found);
            }
        }
        (Value::Array(a_all), Value::Array(b_all)) if a_all.len() == b_all.len() => {
            for (n, (a, b)) in a_all.iter().zip(b_all).enumerate() {
                differences(&format!("{path}/{n}"), a, b, found);
            }
        }
        _ if a == b || is_of_a_picture(path, a, b) => {}
        _ => found.push(format!("{path}: embedded {a}, AWS {b}")),
    }
}

/// Kinesis shows the picture nearest to the instant that was asked for, of a size that is known when
/// it is made; embedded says exactly which.
fn is_of_a_picture(path: &str, a: &Value, b: &Value) -> bool {
    let is_size = path.ends_with("thumbnail/width") || path.ends_with("thumbnail/height");
    let millis = |at: &Value| {
        let at = chrono::DateTime::parse_from_rfc3339(at.as_str()?).ok()?;
        Some(at.timestamp_millis())
    };
    let are_near = || millis(a).zip(millis(b)).is_some_and(|(a, b)| (a - b).abs() <= 1_000);
    (is_size && b.is_null()) || (path.ends_with("/at") && are_near())
}

#[test]
fn answers_are_the_same() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/both_backends.json");
    let steps: Vec<Step> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let (embedded, aws) = (Server::start(), OnAws::start());
    let start_ms = footage::an_hour_ago() / 1000 * 1000;
    let mut players = [
        Player::new(&embedded, None, start_ms),
        Player::new(&aws.server, Some(&aws.kinesis), start_ms),
    ];
    let mut found = Vec::new();
    for step in &steps {
        if step.name == "footage" {
            players.iter().for_each(Player::upload);
        }
        let [(on_embedded, missing), (on_aws, missing_on_aws)] =
            players.each_mut().map(|player| player.play(step));
        found.extend(missing);
        let is_supported = |answer: &Value| !answer.to_string().contains("NOT_SUPPORTED");
        if !is_supported(&on_embedded) || is_supported(&on_aws) == step.not_supported {
            found.push(format!("{}: embedded {on_embedded}, AWS {on_aws}", step.name));
        } else if !step.not_supported {
            found.extend(missing_on_aws);
            differences(&step.name, &masked(&on_embedded), &masked(&on_aws), &mut found);
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn identifiers_are_masked_wherever_they_stand() {
    for (text, expected) in [
        ("dev_01JD8A7Z7WXYZ0123456789ABC", "dev_"),
        ("dev_01JD8A7Z7WXYZ0123456789ABC-main", "dev_-main"),
        ("stream str_01JD8A7Z7WXYZ0123456789ABC is gone", "stream str_ is gone"),
        ("NOT_FOUND", "NOT_FOUND"),
        ("a", "a"),
    ] {
        assert_eq!(without_ids(text), expected);
    }
}

/// What is on AWS alone.
#[test]
fn on_aws_uploads_go_past_the_service() {
    let aws = OnAws::start();
    let server = &aws.server;
    assert_eq!(server.get("/readyz", &[]).status, 200);
    // The API of Kinesis Video Streams is somebody else's.
    for path in ["/createStream", "/putMedia", "/getDataEndpoint"] {
        let answer = server.request("POST", path, &[], b"{}");
        assert!([404, 405].contains(&answer.status), "{path}: {answer:?}");
    }
    let camera = camera::register(server, "door");
    let query = "mutation { createUploadGrant(input: { durationSeconds: 900 }) {
        grant { endpoint region accessKeyId secretAccessKey sessionToken expiresAt
          streams { mediaStreamName } } userErrors { message } } }";
    let granted = server.graphql(Some(&camera.token), query, json!({}));
    let grant = &granted["data"]["createUploadGrant"]["grant"];
    assert_eq!(grant["endpoint"], aws.kinesis.url(), "{granted}");
    assert_eq!(grant["region"], "us-east-1");
    assert_eq!(grant["streams"][0]["mediaStreamName"], json!(camera.media_stream));
    for secret in ["accessKeyId", "secretAccessKey", "sessionToken"] {
        assert!(grant[secret].as_str().is_some_and(|secret| secret.len() >= 16), "{granted}");
    }
    let again = server.graphql(Some(&camera.token), query, json!({}));
    assert_eq!(again["data"]["createUploadGrant"]["grant"]["accessKeyId"], grant["accessKeyId"]);
    // The stream was made with the device, for as long as its plan keeps footage.
    let query = "{ devices { nodes { externalId streams { mediaStreamName } } } }";
    let kinesis = &aws.kinesis;
    let listed = kinesis.graphql(Some(&kinesis.token(&["--role", "admin"])), query, json!({}));
    assert!(listed.to_string().contains(&camera.media_stream), "{listed}");
}
