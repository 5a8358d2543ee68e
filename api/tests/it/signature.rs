//! Requests signed by others: the recorded ones of Amazon's producers and boto3, and those that the
//! Rust SDK's own signer signs, altered in every way.

use crate::camera;
use crate::server::{Answer, PATIENCE, Server};
use aws_sdk_kinesisvideo::config::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use lookback_api::signature::{Body, Refused, Request, Signature};
use lookback_wire::Timestamp;
use lookback_wire::matroska::writer;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const ID: &str = "AKIDEXAMPLEAKIDEXAMP";
const SECRET: &str = "SECRETKEYSECRETKEYSECRETKEYSECRETKEY1234";
const NOW_S: i64 = 1_795_330_630;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_S * 1000)
}

/// A request as it stands in a file or goes over a socket.
#[derive(Clone, Debug)]
pub struct Sent {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let mut request_line = lines.next().unwrap().split(' ');
        let (method, target) = (request_line.next().unwrap(), request_line.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        };
        Self {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: lines.filter(|line| !line.is_empty()).map(header).collect(),
            body: bytes.get(end + 4..).unwrap_or_default().to_vec(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: self.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect(),
        }
    }

    fn verify_at(&self, at: Timestamp, streamed: bool) -> Result<(), Refused> {
        let request = self.request();
        let signature = Signature::read(&request)?.expect("no signature");
        assert_eq!(signature.access_key_id, ID);
        let body = if streamed { Body::Streamed } else { Body::Whole(&self.body) };
        signature.verify(&request, body, SECRET, at)
    }

    /// As it goes over a socket.
    pub fn head(&self) -> String {
        let target = match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        };
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{} {target} HTTP/1.1\r\n{}\r\n", self.method, headers.collect::<String>())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        &found.unwrap().1
    }
}

/// What the payload hash is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload {
    Body,
    /// As the C and Go producers sign PutMedia.
    Nothing,
    /// As the Java producer does; its header is added after signing.
    Unsigned,
    /// As AWS' Java SDK does; its header is signed.
    Streaming,
}

fn signed(sent: Sent, payload: Payload, presigned: bool) -> Sent {
    signed_by((ID, SECRET), NOW_S as u64, sent, payload, presigned)
}

/// Signs as the Rust SDK does, by header or by query.
pub fn signed_by(
    (id, secret): (&str, &str),
    at_s: u64,
    mut sent: Sent,
    payload: Payload,
    presigned: bool,
) -> Sent {
    let streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    if payload == Payload::Streaming {
        sent.set("x-amz-content-sha256", streaming);
    }
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    settings.excluded_headers = None;
    if presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(600));
    }
    let identity = Credentials::new(id, secret, None, None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("kinesisvideo")
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(at_s))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let uri = match sent.query.as_str() {
        "" => format!("http://{}{}", sent.header("host"), sent.path),
        query => format!("http://{}{}?{query}", sent.header("host"), sent.path),
    };
    let headers = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = match payload {
        Payload::Body => SignableBody::Bytes(&sent.body),
        Payload::Nothing => SignableBody::Bytes(b""),
        Payload::Unsigned => SignableBody::UnsignedPayload,
        Payload::Streaming => SignableBody::Precomputed(streaming.into()),
    };
    let signable = SignableRequest::new(&sent.method, uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    let (headers, parameters) = instructions.into_parts();
    for header in headers {
        sent.set(header.name(), header.value());
    }
    for (name, value) in parameters {
        let value = value.replace('/', "%2F").replace(';', "%3B");
        let more = format!("{name}={value}");
        sent.query =
            [sent.query.as_str(), &more].join(if sent.query.is_empty() { "" } else { "&" });
    }
    if payload == Payload::Unsigned {
        sent.set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD");
    }
    sent
}

fn example() -> Sent {
    Sent::parse(
        b"POST /listTagsForStream?b=2&a=x%20y&a=%2F HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
          Content-Type: application/json\r\nX-Spaced:  a   b  c \r\n\r\n{\"StreamName\": \"cam\"}",
    )
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_amazons_clients_sent_verifies() {
    let Some(vectors) = std::env::var_os("LOOKBACK_VECTORS") else {
        println!("LOOKBACK_VECTORS names no recordings; nothing is replayed");
        return;
    };
    let mut verified = 0;
    for path in files(Path::new(&vectors)) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        if !name.ends_with(".txt") || !bytes.starts_with(b"POST ") {
            continue;
        }
        let sent = Sent::parse(&bytes);
        let text = sent.header("x-amz-date");
        let at = chrono::NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").unwrap();
        let at = Timestamp::from_millis(at.and_utc().timestamp_millis());
        let streamed = sent.path == "/putMedia";
        for (skew_s, expected) in
            [(0, true), (-900, true), (900, true), (-901, false), (901, false)]
        {
            let outcome = sent.verify_at(at.plus_millis(skew_s * 1000), streamed);
            assert_eq!(outcome.is_ok(), expected, "{path:?} at {skew_s} s: {outcome:?}");
        }
        verified += 1;
    }
    assert!(verified >= 30, "only {verified} requests");
}

#[test]
fn every_convention_verifies_and_only_as_long_as_it_may() {
    let table = [
        ("a whole body", Payload::Body, false, false, 900),
        ("a whole body, presigned", Payload::Body, true, false, 600),
        ("unsigned, whole", Payload::Unsigned, false, false, 900),
        ("C", Payload::Nothing, false, true, 900),
        ("Go", Payload::Nothing, true, true, 600),
        ("Java", Payload::Unsigned, false, true, 900),
        ("AWS' Java SDK", Payload::Streaming, false, true, 900),
    ];
    for (what, payload, presigned, streamed, life_s) in table {
        let sent = signed(example(), payload, presigned);
        let at = |offset_s: i64| sent.verify_at(now().plus_millis(offset_s * 1000), streamed);
        assert_eq!(at(0), Ok(()), "{what}: {sent:?}");
        assert_eq!(at(life_s), Ok(()), "{what}");
        assert!(matches!(at(life_s + 1), Err(Refused::Expired { .. })), "{what}");
        assert_eq!(at(-900), Ok(()), "{what}");
        assert!(matches!(at(-901), Err(Refused::NotYet { .. })), "{what}");
    }
    let mut wrong_hash = signed(example(), Payload::Body, false);
    wrong_hash.set("x-amz-content-sha256", &"0".repeat(64));
    assert_eq!(wrong_hash.verify_at(now(), false), Err(Refused::Mismatch));
    let bodies_end = signed(example(), Payload::Nothing, false).verify_at(now(), false);
    assert_eq!(bodies_end, Err(Refused::Mismatch), "a body that could be hashed was not");
}

/// An access key of the device: its credential's identifier and the pair.
pub fn access_key(server: &Server, device: &str) -> (String, String, String) {
    let query =
        "mutation($input: IssueDeviceCredentialInput!) { issueDeviceCredential(input: $input) {
        credential { accessKeyId secretAccessKey credential { id } } } }";
    let input = json!({"deviceId": device, "kind": "ACCESS_KEY"});
    let answer = manage(server, query, json!({"input": input}));
    let issued = &answer["issueDeviceCredential"]["credential"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&issued["credential"]["id"]),
        text(&issued["accessKeyId"]),
        text(&issued["secretAccessKey"]),
    )
}

fn manage(server: &Server, query: &str, variables: Value) -> Value {
    let bearer = format!("Bearer {}", server.token(&["--role", "manager"]));
    let body = json!({"query": query, "variables": variables});
    let answer = server.post_json("/graphql", &[("authorization", &bearer)], &body).json();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// PutMedia's head as producers send it: without the port, and with what belongs to the connection.
pub fn put_media(stream: &str) -> Sent {
    Sent::parse(
        format!(
            "POST /putMedia HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\
             connection: keep-alive\r\ntransfer-encoding: chunked\r\n\
             user-agent: AWS-PRODUCER-SDK-KVS/1.6.4 GCC/12.2.0 Linux/6.18.44 x86_64\r\n\
             x-amzn-fragment-timecode-type: ABSOLUTE\r\n\
             x-amzn-producer-start-timestamp: 1795330630.54\r\n\
             x-amzn-stream-name: {stream}\r\n\r\n"
        )
        .as_bytes(),
    )
}

#[test]
fn uploads_are_signed_in_every_convention() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let other = camera::register(&server, "other");
    let (credential, id, secret) = access_key(&server, &camera.device);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let sign = |sent, payload, presigned, age_s: u64| {
        signed_by((&id, &secret), now.as_secs() - age_s, sent, payload, presigned)
    };
    let conventions = [
        (Payload::Nothing, false),
        (Payload::Nothing, true),
        (Payload::Unsigned, false),
        (Payload::Streaming, false),
    ];
    for (n, (payload, presigned)) in conventions.into_iter().enumerate() {
        let sent = sign(put_media(&camera.media_stream), payload, presigned, 0);
        let mut upload = camera::Upload::request(server.address, &sent.head()).unwrap();
        assert_eq!(upload.status, 200, "{payload:?}: {sent:?}");
        let at_ms = now.as_millis() as u64 - 60_000 + 1_000 * n as u64;
        upload.send(&writer::header(&camera::header())).unwrap();
        upload.send(&camera::fragment(at_ms, &camera::frames(at_ms, 20, 500))).unwrap();
        upload.send(&camera::end_of_fragment()).unwrap();
        upload.persisted(at_ms).unwrap();
        upload.finish().unwrap();
    }

    let refused = |sent: &Sent| {
        let mut socket = std::net::TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(sent.head().as_bytes()).unwrap();
        let answer = Answer::read(&mut BufReader::new(socket), false);
        (answer.status, answer.header("x-amzn-errortype").unwrap().to_owned(), answer.json())
    };
    let good = sign(put_media(&camera.media_stream), Payload::Nothing, false, 0);
    let mut other_stream = good.clone();
    other_stream.set("x-amzn-stream-name", &other.media_stream);
    let late = sign(put_media(&camera.media_stream), Payload::Nothing, false, 16 * 60);
    for (sent, kind) in [
        (&other_stream, "InvalidSignatureException"),
        (&late, "InvalidSignatureException"),
        (&put_media(&camera.media_stream), "MissingAuthenticationTokenException"),
    ] {
        let (status, told, body) = refused(sent);
        assert_eq!((status, told.as_str()), (403, kind), "{body}");
        assert!(body["message"].is_string() && body["Message"].is_null(), "{body}");
    }
    let foreign = sign(put_media(&other.media_stream), Payload::Nothing, false, 0);
    assert_eq!(refused(&foreign).0, 404, "another device's stream does not exist for it");

    let revoke = "mutation($id: ID!) { revokeDeviceCredential(id: $id) { userErrors { code } } }";
    manage(&server, revoke, json!({"id": credential}));
    let (status, kind, _) = refused(&good);
    assert_eq!((status, kind.as_str()), (403, "UnrecognizedClientException"));
}

#[test]
fn amazons_producers_are_sent_to_the_port_that_they_leave_out() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let (_, id, secret) = access_key(&server, &camera.device);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let body = json!({ "StreamName": camera.media_stream, "APIName": "PUT_MEDIA" }).to_string();
    let host = "127.0.0.1";
    let whole = server.address.to_string();
    for (agent, host, expected) in [
        ("AWS-PRODUCER-SDK-KVS/1.6.4 GCC/12.2.0", host, server.url()),
        ("AWS-SDK-KVS-CPP-CLIENT/3.6.0/1.6.2", host, server.url()),
        ("AWS-PRODUCER-SDK-KVS/1.6.4 GCC/12.2.0", &whole, server.url()),
        // Whoever leaves it out on purpose is at the port of the scheme, whatever leads to ours.
        ("Boto3/1.44.5", host, format!("http://{host}")),
    ] {
        let asked = format!(
            "POST /getDataEndpoint HTTP/1.1\r\nHost: {host}\r\nuser-agent: {agent}\r\n\r\n{body}"
        );
        let sent = Sent::parse(asked.as_bytes());
        let mut sent = signed_by((&id, &secret), now.as_secs(), sent, Payload::Body, false);
        sent.set("content-length", &body.len().to_string());
        let mut socket = std::net::TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&[sent.head().as_bytes(), &sent.body].concat()).unwrap();
        let answer = Answer::read(&mut BufReader::new(socket), false);
        assert_eq!(answer.json()["DataEndpoint"], *expected, "{agent} {host}: {answer:?}");
    }
}

#[test]
fn a_security_token_may_be_signed_or_not() {
    let mut sent = example();
    sent.set("X-Amz-Security-Token", "FwoGZXIvYXdzTESTTOKEN//");
    assert_eq!(signed(sent, Payload::Body, false).verify_at(now(), false), Ok(()));
    let mut sent = signed(example(), Payload::Body, false);
    sent.set("x-amz-security-token", "FwoGZXIvYXdzTESTTOKEN//");
    assert_eq!(sent.verify_at(now(), false), Ok(()));
}

#[test]
fn what_says_what_to_do_is_signed() {
    let upload = |name: &str| {
        let mut sent = signed(put_media("cam"), Payload::Nothing, false);
        sent.set(name, "x");
        sent.verify_at(now(), true)
    };
    assert_eq!(upload("X-Amzn-Trace-Id"), Ok(()));
    for name in ["x-amzn-stream-arn", "X-Amzn-Fragment-Acknowledgment-Required"] {
        assert!(matches!(upload(name), Err(Refused::Incomplete(_))), "{name}");
    }
}

#[test]
fn what_is_no_signature_is_told_apart_from_a_bad_one() {
    let credential = "Credential=AKIDEXAMPLEAKIDEXAMP/20261122/us-west-2/kinesisvideo/aws4_request";
    let whole = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=00");
    let outcome = |authorizations: &[&str], date: &str, query: &str| {
        let mut sent = example();
        sent.query = query.into();
        for authorization in authorizations {
            sent.headers.push(("Authorization".into(), (*authorization).into()));
        }
        sent.headers.push(("X-Amz-Date".into(), date.into()));
        Signature::read(&sent.request()).map(|signature| signature.is_some())
    };
    let date = "20261122T063822Z";
    assert_eq!(outcome(&[&whole], date, ""), Ok(true));
    assert_eq!(outcome(&[], date, ""), Ok(false));
    assert_eq!(outcome(&["Bearer abc"], date, ""), Ok(false));
    assert_eq!(outcome(&[&whole.replace("kinesisvideo", "s3")], date, ""), Err(Refused::Scope));
    let incomplete = [
        (vec![whole.clone(), whole.clone()], date, ""),
        (vec![whole.replace("20261122", "20261121")], date, ""),
        (vec![whole.replace("SignedHeaders=host", "SignedHeaders=x-amz-date")], date, ""),
        (vec![whole.replace("=host", "=host;x-amz-date;host")], date, ""),
        (vec![whole.replace("=host", "=host;X-Amz-Date")], date, ""),
        (vec![whole.replace(", Signature=00", "")], date, ""),
        (vec![whole.replace("Signature=00", "Signature=00, Signature=00")], date, ""),
        (vec![whole.replace("/aws4_request", "")], date, ""),
        (vec![whole.clone()], "yesterday", ""),
        (vec!["AWS4-HMAC-SHA256".into()], date, ""),
        (vec![], date, "X-Amz-Algorithm=AWS4-HMAC-SHA256"),
        (vec![], date, "X-Amz-Algorithm=MD5"),
    ];
    for (authorizations, date, query) in incomplete {
        let lines: Vec<&str> = authorizations.iter().map(String::as_str).collect();
        let outcome = outcome(&lines, date, query);
        assert!(matches!(outcome, Err(Refused::Incomplete(_))), "{lines:?} {query}: {outcome:?}");
    }
}

/// Another letter or digit in place of one of a text's bytes.
fn altered(text: &str, place: usize) -> Option<String> {
    let at = place % text.len().max(1);
    let byte = *text.as_bytes().get(at)?;
    let other = if byte == b'7' { '8' } else { '7' };
    Some(format!("{}{other}{}", text.get(..at)?, text.get(at + 1..)?))
}

proptest! {
    #[test]
    fn an_altered_byte_is_refused(what in 0..6usize, which in 0..8usize, place in 0..2_000usize) {
        let mut sent = signed(example(), Payload::Body, which % 2 == 0);
        let text = match what {
            0 => &mut sent.method,
            1 => &mut sent.path,
            2 => &mut sent.query,
            3 => {
                let at = place % sent.body.len();
                sent.body[at] ^= 1 << which;
                prop_assert!(sent.verify_at(now(), false).is_err());
                return Ok(());
            }
            _ => {
                let count = sent.headers.len();
                &mut sent.headers[which % count].1
            }
        };
        // Runs of spaces count as one; a letter in place of any of them counts.
        let Some(other) = altered(text, place) else { return Ok(()) };
        *text = other;
        let request = sent.request();
        if let Ok(Some(signature)) = Signature::read(&request) {
            let outcome = signature.verify(&request, Body::Whole(&sent.body), SECRET, now());
            prop_assert!(outcome.is_err() || signature.access_key_id != ID, "{sent:?}");
        }
    }

    #[test]
    fn no_bytes_are_a_fault(
        names in prop::collection::vec("(Authorization|X-Amz-Date|Host|[a-z-]{1,8})", 0..6),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 6),
        parts in "(Credential=[!-~]{0,20}/20261122/r/kinesisvideo/aws4_request|[ -~]{0,40}|,|;|=){0,5}",
        path in "\\PC{0,20}",
        query in "(X-Amz-(Algorithm=AWS4-HMAC-SHA256|Date|Expires|Signature|Credential)|[!-~]{0,9}|&|%){0,8}",
        at in any::<i64>(),
    ) {
        let authorization = format!("AWS4-HMAC-SHA256 {parts}");
        let mut headers: Vec<(&str, &[u8])> =
            names.iter().zip(&values).map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        headers.push(("authorization", authorization.as_bytes()));
        headers.push(("x-amz-date", b"20261122T063822Z"));
        let request = Request { method: "POST", path: &path, query: &query, headers };
        if let Ok(Some(signature)) = Signature::read(&request) {
            let _ = signature.verify(&request, Body::Whole(b"x"), SECRET, Timestamp::from_millis(at));
        }
    }
}
