//! `graphql-transport-ws`, the protocol of subscriptions over a WebSocket, as its server speaks it:
//! <https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverWebSocket.md>.
//!
//! Messages and the time go in, and what is to be done comes out; no socket is touched here. Time is
//! that of [`Clock::steady`](crate::clock::Clock::steady): setting a clock neither closes sockets nor
//! keeps them open.

use crate::config::Limits;
use crate::graphql::Request;
use async_graphql::{Response, ServerError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// What is negotiated as the socket's subprotocol.
pub const NAME: &str = "graphql-transport-ws";

/// Of a subscription's identifier, which clients choose; most send a UUID.
const MAX_ID_BYTES: usize = 128;
/// RFC 6455 §5.5: what is left of a control frame beside the code.
const MAX_REASON_BYTES: usize = 123;

/// What a socket is closed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// RFC 6455 §7.4, or this protocol's own.
    pub code: u16,
    pub reason: String,
}

impl Close {
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const INVALID_DATA: u16 = 1007;
    pub const TOO_LARGE: u16 = 1009;
    pub const TRY_AGAIN_LATER: u16 = 1013;
    pub const BAD_REQUEST: u16 = 4400;
    pub const UNAUTHORIZED: u16 = 4401;
    pub const FORBIDDEN: u16 = 4403;
    pub const INIT_TIMEOUT: u16 = 4408;
    pub const ID_IN_USE: u16 = 4409;
    pub const TOO_MANY: u16 = 4429;
    /// Ours.
    pub const TOO_SLOW: u16 = 4500;

    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let end = (0..=MAX_REASON_BYTES).rev().find(|&end| reason.is_char_boundary(end));
        reason.truncate(end.unwrap_or_default());
        Self { code, reason }
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send this message.
    Send(String),
    /// See who calls, by what an `Authorization` header would say; then acknowledge, or close.
    Authenticate(Option<String>),
    /// Run this, and send what it answers under its identifier.
    Start(String, Request),
    /// Run it no longer.
    Stop(String),
    /// Send a ping of the WebSocket's.
    Ping,
    Close(Close),
}

/// A client's message.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    ConnectionInit { payload: Option<Map<String, Value>> },
    Ping { payload: Option<Value> },
    Pong {},
    Subscribe { id: String, payload: Map<String, Value> },
    Complete { id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until this, `connection_init` has to have come.
    Opened {
        until: Duration,
    },
    Authenticating,
    Acknowledged,
}

/// One socket.
#[derive(Debug)]
pub struct Protocol {
    state: State,
    /// Of subscriptions that run.
    running: HashSet<String>,
    max_running: usize,
    ping_every: Duration,
    /// When the client was last heard of.
    heard_at: Duration,
    /// When it was asked whether it is there, if it has not said anything since.
    pinged_at: Option<Duration>,
}

impl Protocol {
    pub fn new(limits: &Limits, now: Duration) -> Self {
        let until = now + Duration::from_secs(limits.socket_init_seconds.into());
        Self {
            state: State::Opened { until },
            running: HashSet::new(),
            max_running: limits.socket_subscriptions,
            ping_every: Duration::from_secs(limits.socket_ping_seconds.into()),
            heard_at: now,
            pinged_at: None,
        }
    }

    /// Notes that anything came from the client.
    pub fn heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    /// Takes in a message.
    pub fn receive(&mut self, text: &str) -> Option<Output> {
        let message = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => return Some(bad(format!("no message of {NAME}: {error}"))),
        };
        match message {
            Message::ConnectionInit { payload } => Some(self.init(payload.unwrap_or_default())),
            Message::Ping { payload: None } => Some(send(json!({"type": "pong"}))),
            Message::Ping { payload } => Some(send(json!({"type": "pong", "payload": payload}))),
            Message::Pong {} => None,
            Message::Subscribe { id, payload } => Some(self.subscribe(id, payload)),
            Message::Complete { id } => self.running.remove(&id).then_some(Output::Stop(id)),
        }
    }

    fn init(&mut self, payload: Map<String, Value>) -> Output {
        if !matches!(self.state, State::Opened { .. }) {
            let reason = "Too many initialisation requests";
            return Output::Close(Close::new(Close::TOO_MANY, reason));
        }
        self.state = State::Authenticating;
        let named = |(name, value): (String, Value)| match value {
            Value::String(text) if name.eq_ignore_ascii_case("authorization") => Some(text),
            _ => None,
        };
        Output::Authenticate(payload.into_iter().find_map(named))
    }

    fn subscribe(&mut self, id: String, payload: Map<String, Value>) -> Output {
        if self.state != State::Acknowledged {
            return Output::Close(Close::new(Close::UNAUTHORIZED, "Unauthorized"));
        }
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return bad(format!("an id must be 1 to {MAX_ID_BYTES} bytes"));
        }
        if self.running.contains(&id) {
            let reason = format!("Subscriber for {id} already exists");
            return Output::Close(Close::new(Close::ID_IN_USE, reason));
        }
        let request = match super::parameters_of(payload) {
            Ok(request) => request,
            Err(refusal) => return bad(refusal.message),
        };
        if self.running.len() >= self.max_running {
            let message = format!("at most {} subscriptions on one socket", self.max_running);
            let error = json!({"message": message, "extensions": {"code": "LIMIT_REACHED"}});
            return send(json!({"id": id, "type": "error", "payload": [error]}));
        }
        self.running.insert(id.clone());
        Output::Start(id, request)
    }

    /// The caller is known: subscriptions may come.
    pub fn acknowledge(&mut self) -> Output {
        self.state = State::Acknowledged;
        send(json!({"type": "connection_ack"}))
    }

    /// What one change is answered with; nothing where the client has ended the subscription.
    pub fn next(&self, id: &str, response: &Response) -> Option<Output> {
        let message = json!({"id": id, "type": "next", "payload": response});
        self.running.contains(id).then(|| send(message))
    }

    /// The subscription has not begun.
    pub fn refuse(&mut self, id: &str, errors: &[ServerError]) -> Option<Output> {
        let message = json!({"id": id, "type": "error", "payload": errors});
        self.running.remove(id).then(|| send(message))
    }

    /// Nothing more will come.
    pub fn complete(&mut self, id: &str) -> Option<Output> {
        self.running.remove(id).then(|| send(json!({"id": id, "type": "complete"})))
    }

    /// When [`Protocol::tick`] has something to do.
    pub fn deadline(&self) -> Duration {
        let sign_of_life = self.pinged_at.unwrap_or(self.heard_at) + self.ping_every;
        match self.state {
            State::Opened { until } => until.min(sign_of_life),
            State::Authenticating | State::Acknowledged => sign_of_life,
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Option<Output> {
        if now < self.deadline() {
            return None;
        }
        if let State::Opened { until } = self.state
            && until <= now
        {
            let reason = "Connection initialisation timeout";
            return Some(Output::Close(Close::new(Close::INIT_TIMEOUT, reason)));
        }
        if self.pinged_at.is_some() {
            return Some(Output::Close(Close::new(Close::GOING_AWAY, "no pong came")));
        }
        self.pinged_at = Some(now);
        Some(Output::Ping)
    }
}

fn send(message: Value) -> Output {
    Output::Send(message.to_string())
}

fn bad(reason: String) -> Output {
    Output::Close(Close::new(Close::BAD_REQUEST, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    /// What comes of a message, in a word.
    fn shown(output: Option<Output>) -> String {
        match output {
            None => "nothing".into(),
            Some(Output::Send(text)) => text,
            Some(Output::Authenticate(token)) => format!("authenticate {token:?}"),
            Some(Output::Start(id, request)) => format!("start {id} {}", request.query),
            Some(Output::Stop(id)) => format!("stop {id}"),
            Some(Output::Ping) => "ping".into(),
            Some(Output::Close(Close { code, .. })) => format!("close {code}"),
        }
    }

    fn limits() -> Limits {
        Limits { socket_subscriptions: 2, ..Limits::default() }
    }

    /// Messages of a client, and what comes of each.
    fn check(messages: &[(&str, &str)]) {
        let mut protocol = Protocol::new(&limits(), NOW);
        for (message, expected) in messages {
            let output = protocol.receive(message);
            let authenticated = matches!(output, Some(Output::Authenticate(_)));
            assert_eq!(shown(output), *expected, "{message} of {messages:?}");
            if authenticated {
                let acknowledged = shown(Some(protocol.acknowledge()));
                assert_eq!(acknowledged, r#"{"type":"connection_ack"}"#);
            }
        }
    }

    const INIT: (&str, &str) = (r#"{"type":"connection_init"}"#, "authenticate None");

    fn subscribe(id: &str) -> String {
        json!({"type": "subscribe", "id": id, "payload": {"query": "{ a }"}}).to_string()
    }

    #[test]
    fn messages_and_what_comes_of_them() {
        let (a, b, c) = (subscribe("a"), subscribe("b"), subscribe("c"));
        let (complete, unknown) =
            (r#"{"type":"complete","id":"a"}"#, r#"{"type":"complete","id":"x"}"#);
        let too_many = r#"{"id":"c","payload":[{"extensions":{"code":"LIMIT_REACHED"},"message":"at most 2 subscriptions on one socket"}],"type":"error"}"#;
        let authorized =
            r#"{"type":"connection_init","payload":{"x":1,"Authorization":"Bearer t"}}"#;
        let long = subscribe(&"x".repeat(129));
        for messages in [
            vec![INIT, (&a, "start a { a }"), (&b, "start b { a }"), (&c, too_many)],
            vec![(authorized, r#"authenticate Some("Bearer t")"#)],
            vec![
                (r#"{"type":"connection_init","payload":null,"extra":1}"#, "authenticate None"),
                (r#"{"type":"connection_init"}"#, "close 4429"),
            ],
            vec![(&a, "close 4401")],
            vec![INIT, (&a, "start a { a }"), (&a, "close 4409")],
            vec![INIT, (&a, "start a { a }"), (complete, "stop a"), (&a, "start a { a }")],
            vec![INIT, (unknown, "nothing")],
            vec![(unknown, "nothing")],
            vec![(r#"{"type":"ping"}"#, r#"{"type":"pong"}"#)],
            vec![(r#"{"type":"ping","payload":{"a":1}}"#, r#"{"payload":{"a":1},"type":"pong"}"#)],
            vec![(r#"{"type":"pong","payload":{}}"#, "nothing")],
            vec![INIT, (&long, "close 4400")],
            vec![INIT, (r#"{"type":"subscribe","id":"","payload":{"query":""}}"#, "close 4400")],
            vec![INIT, (r#"{"type":"subscribe","id":"a","payload":{"query":1}}"#, "close 4400")],
            vec![INIT, (r#"{"type":"subscribe","id":"a"}"#, "close 4400")],
            vec![INIT, (r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#, "close 4400")],
            vec![INIT, (r#"{"type":"complete"}"#, "close 4400")],
            vec![(r#"{"type":"connection_init","payload":1}"#, "close 4400")],
            vec![(r#"{"type":"next","id":"a"}"#, "close 4400")],
            vec![(r#"{"type":1}"#, "close 4400")],
            vec![("[]", "close 4400")],
            vec![("junk", "close 4400")],
            vec![("", "close 4400")],
        ] {
            check(&messages);
        }
    }

    #[test]
    fn an_identifier_is_free_once_its_subscription_has_ended() {
        let mut protocol = Protocol::new(&limits(), NOW);
        protocol.receive(INIT.0);
        protocol.acknowledge();
        let response = Response::default();
        for id in ["a", "b"] {
            protocol.receive(&subscribe(id));
        }
        let next = r#"{"id":"a","payload":{"data":null},"type":"next"}"#;
        assert_eq!(shown(protocol.next("a", &response)), next);
        assert_eq!(shown(protocol.complete("a")), r#"{"id":"a","type":"complete"}"#);
        assert_eq!(shown(protocol.complete("a")), "nothing");
        assert_eq!(shown(protocol.next("a", &response)), "nothing");
        let refused = protocol.refuse("b", &[ServerError::new("no", None)]);
        let error = r#"{"id":"b","payload":[{"message":"no"}],"type":"error"}"#;
        assert_eq!(shown(refused), error);
        assert_eq!(shown(protocol.receive(&subscribe("a"))), "start a { a }");
        assert_eq!(shown(protocol.receive(&subscribe("b"))), "start b { a }");
    }

    #[test]
    fn time() {
        let at = |ms| NOW + Duration::from_millis(ms);
        let mut silent = Protocol::new(&limits(), NOW);
        assert_eq!(shown(silent.tick(at(2_999))), "nothing");
        assert_eq!(
            (silent.deadline(), shown(silent.tick(at(3_000)))),
            (at(3_000), "close 4408".into())
        );

        let mut protocol = Protocol::new(&limits(), NOW);
        protocol.receive(INIT.0);
        assert_eq!(shown(protocol.tick(at(3_000))), "nothing");
        protocol.acknowledge();
        protocol.heard(at(1_000));
        assert_eq!(shown(protocol.tick(at(30_999))), "nothing");
        assert_eq!(shown(protocol.tick(at(31_000))), "ping");
        assert_eq!(shown(protocol.tick(at(31_001))), "nothing");
        protocol.heard(at(32_000));
        assert_eq!(shown(protocol.tick(at(61_999))), "nothing");
        assert_eq!(shown(protocol.tick(at(62_000))), "ping");
        assert_eq!(shown(protocol.tick(at(92_000))), "close 1001");
    }

    #[test]
    fn reasons_fit_a_control_frame() {
        for (reason, len) in [("x".repeat(200), 123), ("é".repeat(100), 122), ("ok".into(), 2)] {
            assert_eq!(Close::new(4400, reason).reason.len(), len);
        }
    }
}
