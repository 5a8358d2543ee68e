//! Webhooks as their receivers see them: the built binary posts to servers that these tests are.

use crate::camera::{self, Registered};
use crate::footage::rfc3339;
use crate::playback::now_ms;
use crate::server::{NO_RATES, PATIENCE, Server};
use crate::tls::make_certificate;
use aws_lc_rs::hmac;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answers(u16),
    /// With 200 where the body does not hold this, else with 422.
    Refuses(&'static str),
    /// Sends to another place.
    Redirects(SocketAddr),
    /// Takes the post and says nothing.
    Silent,
    /// Says 200, and then more than anybody wants to know.
    Endless,
}

/// What a receiver got.
#[derive(Clone, Debug)]
struct Post {
    /// Method and path.
    line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Post {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).1
    }

    fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["events"].as_array().unwrap().clone()
    }

    fn check_signature(&self, secret: &str) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = [self.header("lookback-timestamp").as_bytes(), b".", &self.body].concat();
        let tag = hmac::sign(&key, &signed);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.header("lookback-signature"), format!("v1={hex}"));
        let at_s: u64 = self.header("lookback-timestamp").parse().unwrap();
        assert!(at_s.abs_diff(now_ms() / 1000) < 300, "{at_s}");
        assert_eq!(self.line, "POST /hook?key=1 HTTP/1.1");
        assert_eq!(self.header("lookback-version"), "1");
        assert_eq!(self.header("content-type"), "application/json");
    }
}

/// A server that webhooks are posted to.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    fn start(mood: Mood) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), mood, None)
    }

    fn start_at(address: SocketAddr, mood: Mood, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(mood)),
            posts: Arc::default(),
        };
        let receives = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (receives, tls) = (receives.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        receives.serve(StreamOwned::new(connection, stream));
                    }
                    None => receives.serve(stream),
                });
            }
        });
        receiver
    }

    /// Answers what comes on one connection.
    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some(post) = read_post(&mut stream) {
            let holds = |what: &str| String::from_utf8_lossy(&post.body).contains(what);
            let mood = *self.mood.lock().unwrap();
            let answer = match mood {
                Mood::Answers(status) => (status, String::new()),
                Mood::Refuses(what) => (if holds(what) { 422 } else { 200 }, String::new()),
                Mood::Redirects(to) => (302, format!("location: http://{to}/\r\n")),
                Mood::Silent | Mood::Endless => (200, String::new()),
            };
            self.posts.lock().unwrap().push(post);
            let stream = stream.get_mut();
            match mood {
                Mood::Silent => std::thread::sleep(PATIENCE),
                Mood::Endless => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
                    let mut sent = stream.write_all(head.as_bytes());
                    while sent.is_ok() {
                        sent = stream.write_all(&[b'x'; 65_536]);
                    }
                    return;
                }
                _ => {}
            }
            let (status, more) = answer;
            let head = format!("HTTP/1.1 {status} So\r\n{more}content-length: 0\r\n\r\n");
            if stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?key=1", self.address)
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn wait_for_posts(&self, count: usize) -> Vec<Post> {
        wait(&format!("{count} posts"), || Some(self.posts()).filter(|posts| posts.len() >= count))
    }
}

fn read_post(stream: &mut impl BufRead) -> Option<Post> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let first = line.trim_end().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let len = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; len.map_or(0, |(_, len)| len.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Post { line: first, headers, body })
}

/// Tries until there is something; a receiver that failed is waited for, and a lease that nobody
/// gave back.
fn wait<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < 4 * PATIENCE, "{what} do not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server whose webhooks may lead to this machine.
struct Sender {
    server: Server,
    config: PathBuf,
    admin: String,
    _dir: TempDir,
}

impl Sender {
    fn start(webhooks: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("lookback.toml");
        std::fs::write(&config, format!("{NO_RATES}[webhooks]\n{webhooks}")).unwrap();
        let flags = ["--config", config.to_str().unwrap()];
        let server = Server::start_with(&flags, TempDir::new().unwrap());
        let admin = server.token(&["--role", "admin"]);
        Self { server, config, admin, _dir: dir }
    }

    fn to_this_machine() -> Self {
        Self::start("plain_http = true\nallow_private = true\n")
    }

    /// The same server killed and started again.
    fn restarted(self) -> Self {
        let flags = ["--config", self.config.to_str().unwrap()];
        let server = Server::start_with(&flags, self.server.kill());
        Self { server, ..self }
    }

    fn ask(&self, query: &str, variables: Value) -> Value {
        let answer = self.server.graphql(Some(&self.admin), query, variables);
        assert!(answer["errors"].is_null(), "{query}: {answer}");
        answer["data"].clone()
    }

    /// What `createWebhook` answers.
    fn create(&self, input: Value) -> Value {
        let create = "mutation($input: CreateWebhookInput!) { createWebhook(input: $input) {
            webhook { id url types minSeverity lastDeliveredAt failingSince } secret
            userErrors { code path } } }";
        self.ask(create, json!({"input": input}))["createWebhook"].clone()
    }

    /// Identifier and secret of a webhook that leads to a receiver.
    fn webhook(&self, to: &Receiver) -> (String, String) {
        let made = self.create(json!({"url": to.url()}));
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text(&made["webhook"]["id"]), text(&made["secret"]))
    }

    /// A field of a webhook's.
    fn field(&self, id: &str, field: &str) -> Value {
        let query =
            format!("query($id: ID!) {{ node(id: $id) {{ ... on Webhook {{ {field} }} }} }}");
        self.ask(&query, json!({"id": id}))["node"][field].clone()
    }

    fn replay(&self, id: &str, from_ms: u64, to_ms: u64) -> Value {
        let replay = "mutation($input: ReplayWebhookInput!) { replayWebhook(input: $input) {
            webhook { id } userErrors { code path } } }";
        let range = json!({"start": rfc3339(from_ms), "end": rfc3339(to_ms)});
        self.ask(replay, json!({"input": {"id": id, "range": range}}))["replayWebhook"].clone()
    }

    /// Reports events by their names and starts.
    fn report(&self, camera: &Registered, events: &[(String, u64)]) {
        let report = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
            results { status } } }";
        let events: Vec<Value> = events
            .iter()
            .map(|(name, start_ms)| {
                json!({"clientEventId": name, "type": "MOTION", "start": rfc3339(*start_ms)})
            })
            .collect();
        let expected = vec![json!({"status": "STORED"}); events.len()];
        let input = json!({"sentAt": rfc3339(now_ms()), "events": events});
        let answer = self.server.graphql(Some(&camera.token), report, json!({"input": input}));
        assert_eq!(answer["data"]["ingestEvents"]["results"], json!(expected), "{answer}");
    }
}

fn named(name: &str) -> Vec<(String, u64)> {
    vec![(name.to_owned(), now_ms() / 1000 * 1000 - 60_000)]
}

fn texts(events: &[Value], field: &str) -> Vec<String> {
    events.iter().map(|event| event[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nothing_is_lost_with_the_receiver_down_and_the_server_killed() {
    const EVENTS: usize = 10_000;
    // Nobody listens there yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sender = Sender::to_this_machine();
    let cameras = ["a", "b"].map(|name| camera::register(&sender.server, name));
    let made = sender.create(json!({"url": format!("http://{address}/hook?key=1")}));
    let id = made["webhook"]["id"].as_str().unwrap().to_owned();
    let secret = made["secret"].as_str().unwrap();
    let start_ms = now_ms() / 1000 * 1000 - 3_600_000;
    for batch in 0..EVENTS / 100 {
        let events: Vec<_> = (0..100)
            .map(|n| batch * 100 + n)
            .map(|n| (format!("event-{n:05}"), start_ms + n as u64))
            .collect();
        sender.report(&cameras[batch % 2], &events);
    }
    wait("failures", || sender.field(&id, "failingSince").as_str().map(str::to_owned));
    assert!(sender.field(&id, "lastDeliveredAt").is_null());
    let sender = sender.restarted();
    let receiver = Receiver::start_at(address, Mood::Answers(204), None);
    let mut told = HashSet::new();
    let mut in_order = Vec::new();
    let mut looked_at = 0;
    wait("10,000 events", || {
        let posts = receiver.posts();
        for event in posts[looked_at..].iter().flat_map(Post::events) {
            let name = event["clientEventId"].as_str().unwrap().to_owned();
            if told.insert(event["deliveryId"].as_str().unwrap().to_owned()) {
                in_order.push(name);
            }
        }
        looked_at = posts.len();
        (in_order.len() >= EVENTS).then_some(())
    });
    let expected: Vec<String> = (0..EVENTS).map(|n| format!("event-{n:05}")).collect();
    assert_eq!(in_order, expected);
    for post in receiver.posts() {
        post.check_signature(secret);
        assert_eq!(post.header("lookback-webhook"), id);
        assert!(post.events().len() <= 100);
    }
    wait("delivery", || sender.field(&id, "failingSince").is_null().then_some(()));
    assert!(sender.field(&id, "lastDeliveredAt").is_string());
    // What was delivered is not due any more.
    let posts = receiver.posts().len();
    sender.report(&cameras[0], &named("last"));
    let last = receiver.wait_for_posts(posts + 1).pop().unwrap().events();
    assert_eq!(texts(&last, "clientEventId"), ["last"]);
    let device = json!({"id": cameras[0].device, "externalId": "a"});
    assert_eq!((&last[0]["device"], &last[0]["notice"]), (&device, &json!("BEGAN")));
}

#[test]
fn receivers_that_misbehave_hold_up_nobody_else() {
    let sender = Sender::to_this_machine();
    let camera = camera::register(&sender.server, "cam");
    let well = Receiver::start(Mood::Answers(200));
    let failing = Receiver::start(Mood::Answers(500));
    let silent = Receiver::start(Mood::Silent);
    let endless = Receiver::start(Mood::Endless);
    let gone = Receiver::start(Mood::Answers(410));
    let elsewhere = Receiver::start(Mood::Answers(200));
    let redirecting = Receiver::start(Mood::Redirects(elsewhere.address));
    let deleted = Receiver::start(Mood::Answers(503));
    let all = [&well, &failing, &silent, &endless, &gone, &redirecting, &deleted];
    let made = all.map(|receiver| sender.webhook(receiver));
    let id_of = |receiver: &Receiver| {
        let place = all.iter().position(|one| one.address == receiver.address).unwrap();
        made[place].0.clone()
    };
    sender.report(&camera, &named("a"));
    for receiver in all {
        receiver.wait_for_posts(1);
    }
    let delete = "mutation($id: ID!) { deleteWebhook(id: $id) { deletedWebhookId } }";
    sender.ask(delete, json!({"id": id_of(&deleted)}));
    // One may be on its way.
    let most = deleted.posts().len() + 1;
    failing.turns(Mood::Answers(200));
    silent.turns(Mood::Answers(200));
    // The same post, whenever it is tried.
    for receiver in [&failing, &silent] {
        let posts = receiver.wait_for_posts(2);
        assert_eq!(posts[0].body, posts[1].body);
        let delivery = |post: &Post| post.header("lookback-delivery").to_owned();
        assert_eq!(delivery(&posts[0]), delivery(&posts[1]));
        wait("deliveries", || {
            sender.field(&id_of(receiver), "failingSince").is_null().then_some(())
        });
    }
    // Meanwhile the others had time to be tried again.
    assert_eq!([&well, &endless, &gone].map(|one| one.posts().len()), [1; 3]);
    assert_eq!(elsewhere.posts().len(), 0);
    for (receiver, fails) in
        [(&well, false), (&endless, false), (&gone, true), (&redirecting, true)]
    {
        assert_eq!(sender.field(&id_of(receiver), "failingSince").is_string(), fails);
    }
    // A later report of the event is another delivery, as it is known then.
    let end = json!({"clientEventId": "b", "type": "PERSON", "start": rfc3339(now_ms() - 5_000)});
    let report = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
        results { status } } }";
    for severity in ["INFO", "ALERT"] {
        let mut event = end.clone();
        event["severity"] = json!(severity);
        let input = json!({"sentAt": rfc3339(now_ms()), "events": [event]});
        sender.server.graphql(Some(&camera.token), report, json!({"input": input}));
        let told = || well.posts().iter().flat_map(Post::events).last();
        wait("events", || told().filter(|event| event["severity"] == severity));
    }
    let notices: Vec<Value> = well.posts().iter().flat_map(Post::events).collect();
    assert_eq!(texts(&notices, "notice"), ["BEGAN", "BEGAN", "CHANGED"]);
    assert_eq!(gone.posts().len(), 1);
    assert!(deleted.posts().len() <= most);
}

#[test]
fn a_span_is_delivered_once_more() {
    let sender = Sender::to_this_machine();
    let cameras = ["a", "b", "c"].map(|name| camera::register(&sender.server, name));
    let start_ms = now_ms() / 1000 * 1000 - 3_600_000;
    let mut expected = Vec::new();
    for (camera, name) in cameras.iter().zip(["a", "b", "c"]) {
        let events: Vec<_> =
            (0..75).map(|n| (format!("{name}-{n:03}"), start_ms + 1_000 * n)).collect();
        expected.extend(events[10..60].iter().map(|(name, _)| name.clone()));
        sender.report(camera, &events);
    }
    let receiver = Receiver::start(Mood::Answers(200));
    let (id, secret) = sender.webhook(&receiver);
    let (from, to) = (start_ms + 10_000, start_ms + 60_000);
    let done = json!({"webhook": {"id": id}, "userErrors": []});
    assert_eq!(sender.replay(&id, from, to), done);
    let told = || receiver.posts().iter().flat_map(Post::events).collect::<Vec<_>>();
    let replayed = wait("events", || Some(told()).filter(|told| told.len() >= expected.len()));
    assert_eq!(texts(&replayed, "clientEventId"), expected);
    assert!(texts(&replayed, "notice").iter().all(|notice| notice == "REPLAYED"));
    receiver.posts().iter().for_each(|post| post.check_signature(&secret));
    // Once more: the same events, other deliveries.
    let before = receiver.posts().len();
    let again = wait("the end of the first", || {
        Some(sender.replay(&id, from, from + 1_000)).filter(|answer| answer == &done)
    });
    assert_eq!(again, done);
    let again: Vec<Value> =
        receiver.wait_for_posts(before + 1)[before..].iter().flat_map(Post::events).collect();
    let first = replayed.iter().find(|event| event["id"] == again[0]["id"]).unwrap();
    assert_ne!(first["deliveryId"], again[0]["deliveryId"]);
    // One that the receiver refuses holds no other up.
    receiver.turns(Mood::Refuses("refused"));
    let before = receiver.posts().len();
    let three = ["x", "refused", "y"].map(|name| named(name).remove(0));
    sender.report(&cameras[0], &three);
    wait("those beside it", || {
        let posts = receiver.posts().into_iter().skip(before);
        let taken = posts.filter(|post| !String::from_utf8_lossy(&post.body).contains("refused"));
        let taken: Vec<Value> = taken.flat_map(|post| post.events()).collect();
        (texts(&taken, "clientEventId") == ["x", "y"]).then_some(())
    });
    for (id, from, to, code, field) in [
        (&id[..], to, from, "INVALID", "range"),
        (&id, from - 32 * 86_400_000, from, "INVALID", "range"),
        ("whk_00000000000000000000000000", from, to, "NOT_FOUND", "id"),
        ("x", from, to, "NOT_FOUND", "id"),
    ] {
        let mistake = json!([{"code": code, "path": ["input", field]}]);
        assert_eq!(sender.replay(id, from, to)["userErrors"], mistake, "{id}");
    }
}

#[test]
fn webhooks_are_an_administrators() {
    let sender = Sender::start("");
    let invalid = |path: &str| json!([{"code": "INVALID", "path": ["input", path]}]);
    for (input, expected) in [
        (json!({"url": "http://receiver.example/"}), invalid("url")),
        (json!({"url": "https://127.0.0.1/"}), invalid("url")),
        (json!({"url": "https://[::ffff:10.0.0.1]/"}), invalid("url")),
        (json!({"url": "https://a:b@receiver.example/"}), invalid("url")),
        (json!({"url": "https://receiver.example/", "types": []}), invalid("types")),
    ] {
        let answer = sender.create(input.clone());
        assert_eq!(answer["userErrors"], expected, "{input}");
        assert_eq!((&answer["webhook"], &answer["secret"]), (&Value::Null, &Value::Null));
    }
    let input = json!({
        "url": "https://receiver.invalid/a", "types": ["PERSON", "PERSON", "TAMPER"],
        "minSeverity": "ALERT",
    });
    let first = sender.create(input);
    let id = first["webhook"]["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "url": "https://receiver.invalid/a", "types": ["PERSON", "TAMPER"],
        "minSeverity": "ALERT", "lastDeliveredAt": null, "failingSince": null,
    });
    assert_eq!(first["webhook"], expected);
    assert_eq!(first["secret"].as_str().unwrap().len(), 49);
    for _ in 1..20 {
        let made = sender.create(json!({"url": "https://receiver.invalid/"}));
        assert_eq!(made["userErrors"], json!([]));
    }
    let one_more = sender.create(json!({"url": "https://receiver.invalid/"}));
    assert_eq!(one_more["userErrors"], json!([{"code": "LIMIT_REACHED", "path": null}]));
    let list = "{ webhooks { id types } }";
    let listed = sender.ask(list, json!({}))["webhooks"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 20);
    assert_eq!(listed[0], json!({"id": id, "types": ["PERSON", "TAMPER"]}));
    assert_eq!(listed[1]["types"], Value::Null);
    let manager = sender.server.token(&["--role", "manager"]);
    let abroad = sender.server.token(&["--role", "admin", "--account", "elsewhere"]);
    let answer = sender.server.graphql(Some(&manager), list, json!({}));
    assert_eq!(answer["data"]["webhooks"], Value::Null);
    let answer = sender.server.graphql(Some(&abroad), list, json!({}));
    assert_eq!(answer["data"]["webhooks"], json!([]));
    let delete =
        "mutation($id: ID!) { deleteWebhook(id: $id) { deletedWebhookId userErrors { code } } }";
    let forbidden = sender.server.graphql(Some(&manager), delete, json!({"id": id}));
    assert_eq!(forbidden["errors"][0]["extensions"]["code"], "FORBIDDEN", "{forbidden}");
    for (token, expected) in [
        (&abroad, json!({"deletedWebhookId": null, "userErrors": [{"code": "NOT_FOUND"}]})),
        (&sender.admin, json!({"deletedWebhookId": id, "userErrors": []})),
        (&sender.admin, json!({"deletedWebhookId": null, "userErrors": [{"code": "NOT_FOUND"}]})),
    ] {
        let answer = sender.server.graphql(Some(token), delete, json!({"id": id}));
        assert_eq!(answer["data"]["deleteWebhook"], expected);
    }
    let log = "query($range: TimeRangeInput!) { auditLog(range: $range, first: 100) {
        nodes { action targetId } } }";
    let range = json!({"start": rfc3339(now_ms() - 600_000), "end": rfc3339(now_ms() + 60_000)});
    let log = sender.ask(log, json!({"range": range}))["auditLog"]["nodes"].clone();
    let of_first = log.as_array().unwrap().iter().filter(|line| line["targetId"] == id);
    let actions: Vec<_> = of_first.map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["CHANGE", "CHANGE"]);
}

#[test]
fn receivers_of_ones_own_authority_are_believed() {
    let files = TempDir::new().unwrap();
    make_certificate(files.path());
    let pem = |name: &str| files.path().join(name);
    let certificate = CertificateDer::from_pem_file(pem("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let receiver = Receiver::start_at(address, Mood::Answers(200), Some(Arc::new(tls)));
    let url = format!("https://localhost:{}/hook?key=1", receiver.address.port());
    let ca = format!("ca = {:?}\n", pem("cert.pem"));
    // By its name, it leads to this machine, which is only seen as it is connected to.
    for (config, arrives) in [
        (format!("{ca}allowed_networks = ['127.0.0.0/8']"), true),
        ("allowed_networks = ['127.0.0.0/8']".to_owned(), false),
        (ca.clone(), false),
    ] {
        let sender = Sender::start(&config);
        let camera = camera::register(&sender.server, "cam");
        let made = sender.create(json!({"url": url}));
        let id = made["webhook"]["id"].as_str().unwrap_or_else(|| panic!("{made}"));
        let before = receiver.posts().len();
        sender.report(&camera, &named("a"));
        let at = if arrives { "lastDeliveredAt" } else { "failingSince" };
        wait(at, || sender.field(id, at).as_str().map(str::to_owned));
        assert_eq!(receiver.posts().len() - before, usize::from(arrives), "{config}");
    }
}

/// The example in the documentation takes what is signed as documented, and nothing else.
#[test]
fn the_documented_receiver_verifies() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("design/webhooks.md");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("an example");
    let sender = Sender::to_this_machine();
    let camera = camera::register(&sender.server, "cam");
    let receiver = Receiver::start(Mood::Answers(200));
    let (_, secret) = sender.webhook(&receiver);
    sender.report(&camera, &named("a"));
    let post = receiver.wait_for_posts(1).remove(0);
    let body = String::from_utf8(post.body.clone()).unwrap();
    let (at, signature) = (post.header("lookback-timestamp"), post.header("lookback-signature"));
    let stale = (at.parse::<u64>().unwrap() - 301).to_string();
    let verify = |secret: &str, at: &str, signature: &str, body: &str| {
        let call = "import sys\nprint(is_ours(*sys.argv[1:4], sys.argv[4].encode()))\n";
        let mut python = Command::new("python3");
        python.arg("-c").arg(format!("{example}\n{call}")).args([secret, at, signature, body]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim() == "True"
    };
    assert!(verify(&secret, at, signature, &body));
    assert!(!verify("whsec_other", at, signature, &body));
    assert!(!verify(&secret, &stale, signature, &body));
    assert!(!verify(&secret, at, "v1=00", &body));
    assert!(!verify(&secret, at, signature, &format!("{body} ")));
}
