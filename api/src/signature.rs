//! AWS Signature Version 4: which access key a request is signed with, and whether the signature is
//! that key's over this request. No clock and no keys of its own.
//!
//! A request is verified as it was received: Amazon's producers leave the port out of `Host`, sign
//! hop-by-hop headers, and send a security token that they do not sign. Both places of a signature
//! are known: the `Authorization` header, and the query of a presigned URL.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use chrono::NaiveDateTime;
use lookback_wire::Timestamp;
use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The scope names it for the control plane, PutMedia and all that is read back alike.
const SERVICE: &str = "kinesisvideo";
const DATE_FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// How far the clocks of the two sides may be apart.
const MAX_SKEW_MS: i64 = 15 * 60 * 1000;
/// How long a presigned request may be valid.
const MAX_EXPIRES_S: i64 = 7 * 24 * 3600;
const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";
const MEANING_PREFIX: &str = "x-amzn-";
/// Added on the way, and left unsigned by the SDKs.
const TRACE_HEADER: &str = "x-amzn-trace-id";
/// SHA-256 of nothing: what producers sign in place of a body without end.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Why a signature proves nothing; the texts are the ones that AWS answers with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the request's signature is incomplete: {0}")]
    Incomplete(&'static str),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error("Signature expired: {signed_at} is now earlier than {earliest}")]
    Expired { signed_at: String, earliest: String },
    #[error("Signature not yet current: {signed_at} is still later than {latest}")]
    NotYet { signed_at: String, latest: String },
    #[error("Credential should be scoped to correct service: '{SERVICE}'.")]
    Scope,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method."
    )]
    Mismatch,
}

/// A request, as it was received.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// With its percent-encoding.
    pub path: &'a str,
    /// Without the question mark, with its percent-encoding.
    pub query: &'a str,
    /// Every line: a name in any case, and its value.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// What a signature may say about the body.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Whole(&'a [u8]),
    /// PutMedia's, which has no end; no client hashes it.
    Streamed,
}

/// A signature that a request carries, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub access_key_id: String,
    /// `date/region/service/aws4_request`
    scope: String,
    region: String,
    /// In lower case and each once, as they were listed.
    signed_headers: Vec<String>,
    signature: String,
    signed_at: Timestamp,
    signed_at_text: String,
    /// Of a presigned request: how long it is valid.
    expires_s: Option<i64>,
}

impl Signature {
    /// The signature of a request; `None` where it carries none of this kind.
    pub fn read(request: &Request) -> Result<Option<Self>, Refused> {
        let mut authorizations = request.header_lines("authorization");
        let parameters = match (authorizations.next(), authorizations.next()) {
            (Some(_), Some(_)) => return Err(Refused::Incomplete("Authorization comes twice")),
            (Some(line), None) => {
                let line = std::str::from_utf8(line).unwrap_or_default().trim();
                let Some(parameters) = line.strip_prefix(ALGORITHM) else { return Ok(None) };
                Parameters::of_header(parameters, request)?
            }
            (None, _) => match Parameters::of_query(request)? {
                Some(parameters) => parameters,
                None => return Ok(None),
            },
        };
        parameters.read().map(Some)
    }

    /// Whether it is the signature of `secret` over this request and body, made near `now`.
    pub fn verify(
        &self,
        request: &Request,
        body: Body,
        secret: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.check_time(now)?;
        self.check_meaning_is_signed(request)?;
        let canonical = self.canonical_request(request, &payload_hash(request, body)?)?;
        let to_sign = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            self.signed_at_text,
            self.scope,
            hex(digest(&SHA256, &canonical).as_ref())
        );
        let signed_at_s = self.signed_at.as_millis().div_euclid(1000);
        let signed_at_s = u64::try_from(signed_at_s).map_err(|_| Refused::Mismatch)?;
        let signed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(signed_at_s);
        let key = generate_signing_key(secret, signed_at, &self.region, SERVICE);
        let expected = calculate_signature(key, to_sign.as_bytes());
        verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes())
            .map_err(|_| Refused::Mismatch)
    }

    /// The headers that say what PutMedia is to do have to be the signer's.
    fn check_meaning_is_signed(&self, request: &Request) -> Result<(), Refused> {
        let all_signed = request.headers.iter().all(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !name.starts_with(MEANING_PREFIX)
                || name == TRACE_HEADER
                || self.signed_headers.contains(&name)
        });
        let unsigned = Refused::Incomplete("an x-amzn- header is not signed");
        if all_signed { Ok(()) } else { Err(unsigned) }
    }

    fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        let signed_at = || self.signed_at_text.clone();
        let life_ms = self.expires_s.map_or(MAX_SKEW_MS, |seconds| seconds * 1000);
        let (earliest, latest) = (now.plus_millis(-life_ms), now.plus_millis(MAX_SKEW_MS));
        if self.signed_at < earliest {
            let earliest = date_text(earliest);
            return Err(Refused::Expired { signed_at: signed_at(), earliest });
        }
        if self.signed_at > latest {
            return Err(Refused::NotYet { signed_at: signed_at(), latest: date_text(latest) });
        }
        Ok(())
    }

    /// The request in the one form that both sides hash.
    fn canonical_request(
        &self,
        request: &Request,
        payload_hash: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let mut text = format!("{}\n", request.method).into_bytes();
        let path = if request.path.is_empty() { "/" } else { request.path };
        text.extend(encoded(path.as_bytes(), b"/").bytes());
        text.push(b'\n');
        text.extend(self.canonical_query(request.query).bytes());
        text.push(b'\n');
        for name in &self.signed_headers {
            let mut lines = request.header_lines(name).peekable();
            if lines.peek().is_none() {
                return Err(Refused::Incomplete("a signed header is not there"));
            }
            text.extend(name.bytes());
            for (place, line) in lines.enumerate() {
                text.push(if place == 0 { b':' } else { b',' });
                text.extend(without_runs_of_spaces(line.trim_ascii()));
            }
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend(self.signed_headers.join(";").bytes());
        text.push(b'\n');
        text.extend(payload_hash);
        Ok(text)
    }

    fn canonical_query(&self, query: &str) -> String {
        let mut pairs: Vec<(String, String)> = pairs(query)
            .filter(|(name, _)| self.expires_s.is_none() || name != b"X-Amz-Signature")
            .map(|(name, value)| (encoded(&name, b""), encoded(&value, b"")))
            .collect();
        pairs.sort();
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// A signature's parts, from wherever they stand.
#[derive(Default)]
struct Parameters {
    credential: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    date: Option<String>,
    /// Only in a query.
    expires: Option<String>,
}

impl Parameters {
    fn of_header(text: &str, request: &Request) -> Result<Self, Refused> {
        let mut parameters = Self::default();
        for pair in text.split(',') {
            let (name, value) = pair.trim().split_once('=').unwrap_or_default();
            let place = match name {
                "Credential" => &mut parameters.credential,
                "SignedHeaders" => &mut parameters.signed_headers,
                "Signature" => &mut parameters.signature,
                _ => return Err(Refused::Incomplete("Authorization has an unknown part")),
            };
            set_once(place, value.to_owned())?;
        }
        for line in request.header_lines("x-amz-date") {
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            set_once(&mut parameters.date, line)?;
        }
        Ok(parameters)
    }

    fn of_query(request: &Request) -> Result<Option<Self>, Refused> {
        let mut parameters = Self::default();
        let mut algorithm = None;
        for (name, value) in pairs(request.query) {
            let place = match name.as_slice() {
                b"X-Amz-Algorithm" => &mut algorithm,
                b"X-Amz-Credential" => &mut parameters.credential,
                b"X-Amz-SignedHeaders" => &mut parameters.signed_headers,
                b"X-Amz-Signature" => &mut parameters.signature,
                b"X-Amz-Date" => &mut parameters.date,
                b"X-Amz-Expires" => &mut parameters.expires,
                _ => continue,
            };
            set_once(place, String::from_utf8_lossy(&value).into_owned())?;
        }
        match algorithm.as_deref() {
            None => Ok(None),
            Some(ALGORITHM) if parameters.expires.is_some() => Ok(Some(parameters)),
            Some(ALGORITHM) => Err(Refused::Incomplete("X-Amz-Expires is missing")),
            Some(_) => Err(Refused::Incomplete("X-Amz-Algorithm is not AWS4-HMAC-SHA256")),
        }
    }

    fn read(self) -> Result<Signature, Refused> {
        let missing = |what| move || Refused::Incomplete(what);
        let credential = self.credential.ok_or_else(missing("Credential is missing"))?;
        let signed_headers = self.signed_headers.ok_or_else(missing("SignedHeaders is missing"))?;
        let signature = self.signature.ok_or_else(missing("Signature is missing"))?;
        let date = self.date.ok_or_else(missing("X-Amz-Date is missing"))?;
        let signed_at = parse_date(&date).ok_or_else(missing("X-Amz-Date is no date"))?;

        let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
        if !signed_headers.iter().any(|name| name == "host") {
            return Err(Refused::Incomplete("'host' has to be signed"));
        }
        // Each value is hashed as often as its name stands there: once, whoever asks for it.
        if signed_headers.iter().collect::<HashSet<_>>().len() < signed_headers.len() {
            return Err(Refused::Incomplete("a header is signed twice"));
        }
        if signed_headers.iter().any(|name| name.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err(Refused::Incomplete("SignedHeaders is not in lower case"));
        }
        let (access_key_id, scope) =
            credential.split_once('/').ok_or_else(missing("Credential has no scope"))?;
        let parts: Vec<&str> = scope.split('/').collect();
        let [day, region, service, "aws4_request"] = parts[..] else {
            return Err(Refused::Incomplete("Credential's scope has another form"));
        };
        if service != SERVICE {
            return Err(Refused::Scope);
        }
        if date.get(..8) != Some(day) {
            return Err(Refused::Incomplete("Credential's date is not the one of X-Amz-Date"));
        }
        let expires_s = match self.expires {
            None => None,
            Some(text) => {
                let seconds = text.parse().ok().filter(|s| (1..=MAX_EXPIRES_S).contains(s));
                Some(seconds.ok_or_else(missing("X-Amz-Expires is not 1 to 604800"))?)
            }
        };
        Ok(Signature {
            access_key_id: access_key_id.to_owned(),
            scope: scope.to_owned(),
            region: region.to_owned(),
            signed_headers,
            signature,
            signed_at,
            signed_at_text: date,
            expires_s,
        })
    }
}

impl Request<'_> {
    fn header_lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |(given, _): &&(&str, &[u8])| given.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| *value)
    }
}

/// What stands for the body. Of a body without end whatever the client put there is taken: nothing
/// (C and Go), `UNSIGNED-PAYLOAD` or `STREAMING-…` (Java).
fn payload_hash(request: &Request, body: Body) -> Result<Vec<u8>, Refused> {
    let given = request.header_lines("x-amz-content-sha256").next();
    match (body, given) {
        (Body::Streamed, None) => Ok(EMPTY_SHA256.into()),
        (_, Some(UNSIGNED_PAYLOAD)) => Ok(UNSIGNED_PAYLOAD.into()),
        (Body::Streamed, Some(given)) => Ok(given.into()),
        (Body::Whole(body), given) => {
            let hash = hex(digest(&SHA256, body).as_ref()).into_bytes();
            if given.is_some_and(|given| given != hash) { Err(Refused::Mismatch) } else { Ok(hash) }
        }
    }
}

fn set_once(place: &mut Option<String>, value: String) -> Result<(), Refused> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refused::Incomplete("a part of the signature comes twice")),
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let at = NaiveDateTime::parse_from_str(text, DATE_FORMAT).ok()?;
    Some(Timestamp::from_millis(at.and_utc().timestamp_millis()))
}

fn date_text(at: Timestamp) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.as_millis()).unwrap_or_default();
    at.format(DATE_FORMAT).to_string()
}

/// The names and values of a query, decoded.
fn pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Percent-decoding (RFC 3986 §2.1); what is no escape stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Percent-encoding of all but the unreserved characters and `kept`.
fn encoded(bytes: &[u8], kept: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn without_runs_of_spaces(value: &[u8]) -> impl Iterator<Item = u8> {
    let mut last = 0;
    value
        .iter()
        .copied()
        .filter(move |&byte| std::mem::replace(&mut last, byte) != b' ' || byte != b' ')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
