//! OIDC issuers that change their keys, misbehave or are gone, and what the service makes of it.

use crate::server::{lookback, outcome, request};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lookback_api::account::Role;
use lookback_api::clock::Clock;
use lookback_api::commands::serve::{Options, RunningServer, start};
use lookback_api::config::Config;
use lookback_wire::Timestamp;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Whoever the issuer knows sees everything.
const OPEN: &str = "create_users = true\ndefault_role = 'VIEWER'\n";

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// How an issuer answers whoever asks for its keys.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    HangsUp,
    Fails,
    Moved,
    SaysTooMuch,
    SaysNothing,
    HasTenThousandKeys,
    /// Its metadata is somewhere else.
    HasMoved,
    /// Its metadata is another's.
    IsAnother,
}

/// An issuer on a port of its own.
#[derive(Clone)]
struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Vec<Value>,
    mood: Mood,
    asked: usize,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State { keys: Vec::new(), mood: Mood::Well, asked: 0 };
        let issuer =
            Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let serving = issuer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever hung up does not wait for an answer.
                let _ = serving.answer(stream.unwrap());
            }
        });
        issuer
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let mut metadata =
            json!({"issuer": self.url(), "jwks_uri": format!("{}/keys", self.url())});
        let mut state = self.state.lock().unwrap();
        let (status, body) = if head.starts_with(b"GET /keys ") {
            state.asked += 1;
            match state.mood {
                Mood::Well | Mood::HasMoved | Mood::IsAnother => {
                    ("200 OK", json!({"keys": state.keys}).to_string())
                }
                Mood::HangsUp => return Ok(()),
                Mood::Fails => ("500 Oh", String::new()),
                Mood::Moved => ("302 Found\r\nlocation: /elsewhere", String::new()),
                Mood::SaysTooMuch => ("200 OK", " ".repeat(256 * 1024 + 1)),
                Mood::SaysNothing => ("200 OK", "<html>".into()),
                Mood::HasTenThousandKeys => {
                    ("200 OK", json!({"keys": vec![json!({"kid": "key"}); 10_000]}).to_string())
                }
            }
        } else if matches!(state.mood, Mood::HasMoved) && !head.starts_with(b"GET /elsewhere ") {
            ("302 Found\r\nlocation: /elsewhere", String::new())
        } else {
            if matches!(state.mood, Mood::IsAnother) {
                metadata["issuer"] = json!("https://id.example");
            }
            ("200 OK", metadata.to_string())
        };
        drop(state);
        let len = body.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n")?;
        stream.write_all(body.as_bytes())
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    fn be(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// A new key, published with those before it.
    fn publish(&self, id: &'static str) -> Key {
        let (key, public) = Key::new(id);
        self.state.lock().unwrap().keys.push(public);
        key
    }
}

/// What an issuer signs with.
struct Key {
    id: &'static str,
    signing: EncodingKey,
}

impl Key {
    fn new(id: &'static str) -> (Self, Value) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let signing = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig"});
        (Self { id, signing }, public)
    }

    fn token(&self, issuer: &Issuer, now: Timestamp) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".into());
        header.kid = Some(self.id.into());
        let now_s = now.as_millis() / 1000;
        let claims = json!({
            "iss": issuer.url(), "aud": "lookback", "sub": "ann", "iat": now_s, "exp": now_s + 60,
        });
        jsonwebtoken::encode(&header, &claims, &self.signing).unwrap()
    }
}

/// A server that takes the issuer's tokens; `more` is set of it besides.
async fn serve(issuer: &Issuer, more: &str, dir: &TempDir) -> RunningServer {
    let config = format!(
        "listen = '127.0.0.1:0'\n[[issuers]]\nname = 'it'\nurl = '{}'\nplain_http = true\n{more}",
        issuer.url()
    );
    let config: Config = toml::from_str(&config).unwrap();
    let config = Config { data_dir: dir.path().into(), ..config };
    let clock = Arc::new(Clock::manual(NOW));
    start(config, Options { clock, with_sign_in_code: false }).await.unwrap()
}

fn status_with(address: SocketAddr, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", &bearer)];
    request(address, "POST", "/graphql", &headers, br#"{"query": "{ viewer { id } }"}"#).status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_asked_for_once_however_many_bring_it() {
    let dir = TempDir::new().unwrap();
    let issuer = Issuer::start();
    let first = issuer.publish("first");
    let server = serve(&issuer, OPEN, &dir).await;
    assert_eq!(status_with(server.address, &first.token(&issuer, NOW)), 200);
    let before = issuer.asked();

    let token = issuer.publish("second").token(&issuer, NOW);
    let address = server.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..16).map(|_| scope.spawn(|| status_with(address, &token))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 16]);
    assert_eq!(issuer.asked(), before + 1);

    // Anybody can make up keys; within the minute, and with known names, none is asked for.
    let (made_up, _) = Key::new("made up");
    let (forged, _) = Key::new("first");
    for key in [&made_up, &forged, &made_up] {
        assert_eq!(status_with(address, &key.token(&issuer, NOW)), 401);
    }
    assert_eq!(issuer.asked(), before + 1);
    server.service.clock.set(NOW.plus_millis(60_000));
    for _ in 0..3 {
        assert_eq!(status_with(address, &made_up.token(&issuer, NOW)), 401);
    }
    assert_eq!(issuer.asked(), before + 2);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_their_issuers_absence_for_a_day() {
    let dir = TempDir::new().unwrap();
    let issuer = Issuer::start();
    let key = issuer.publish("key");
    let server = serve(&issuer, OPEN, &dir).await;
    assert_eq!(status_with(server.address, &key.token(&issuer, NOW)), 200);

    let (made_up, _) = Key::new("made up");
    let moods = [
        (Mood::HangsUp, true),
        (Mood::Fails, true),
        (Mood::Moved, true),
        (Mood::SaysTooMuch, true),
        (Mood::SaysNothing, true),
        (Mood::HasTenThousandKeys, true),
        (Mood::HasMoved, false),
        (Mood::IsAnother, false),
    ];
    for (minute, (mood, is_asked_for_keys)) in (1..).zip(moods) {
        issuer.be(mood);
        let now = NOW.plus_millis(minute * 60_000);
        server.service.clock.set(now);
        let before = issuer.asked();
        assert_eq!(status_with(server.address, &made_up.token(&issuer, now)), 401, "{mood:?}");
        assert_eq!(issuer.asked() > before, is_asked_for_keys, "{mood:?}");
        assert_eq!(status_with(server.address, &key.token(&issuer, now)), 200, "{mood:?}");
    }

    let day_over = NOW.plus_millis(86_400_000);
    server.service.clock.set(day_over);
    assert_eq!(status_with(server.address, &key.token(&issuer, day_over)), 401);
    issuer.be(Mood::Well);
    let back = day_over.plus_millis(60_000);
    server.service.clock.set(back);
    assert_eq!(status_with(server.address, &key.token(&issuer, back)), 200);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_an_administrator_added_is_let_in() {
    let dir = TempDir::new().unwrap();
    let issuer = Issuer::start();
    let key = issuer.publish("key");
    let server = serve(&issuer, "default_role = 'ADMIN'\n", &dir).await;
    let token = key.token(&issuer, NOW);
    assert_eq!(status_with(server.address, &token), 401);
    let add = |name: &str, more: &[&str]| {
        let mut command = lookback();
        command.args(["user", "add", name, "--role", "member", "--data-dir"]).arg(dir.path());
        outcome(command.args(more)).status.success()
    };
    let url = issuer.url();
    assert!(!add("ann", &["--issuer", &url]), "it takes both");
    assert!(add("ann", &["--issuer", &url, "--subject", "ann"]));
    assert!(!add("ann again", &["--issuer", &url, "--subject", "ann"]));
    assert_eq!(status_with(server.address, &token), 200);
    let catalog = &server.service.storage.catalog;
    let account = catalog.account_by_name("default").await.unwrap().unwrap().id;
    let ann = catalog.user_by_name(account, "ann").await.unwrap().unwrap();
    assert_eq!(ann.role, Role::Member, "what was said here, not what others begin with");
    server.stop().await.unwrap();
}
