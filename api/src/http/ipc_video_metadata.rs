//! `/ipc-video-metadata`: the REST API that cameras were sold with before there was GraphQL, kept for
//! their generated SDK. `PUT` announces a segment; `GET` answers the HLS URL of a span.
//!
//! Both take `clientID`, `deviceID`, `streamName`, `begTime`, `endTime` and `duration`, in a JSON
//! object or, for `GET`, in the query. All are text: instants in milliseconds since the Unix epoch, the
//! duration in seconds. `deviceID` is a device's external identifier, `streamName` a stream's name or
//! its media stream's.

use super::body::{self, Unread};
use super::caller::{self, Unauthorized};
use crate::access::{Action, Decision, Principal, Subject, Target, decide};
use crate::audit::{self, AuditAction, Deed};
use crate::device::{Device, Stream};
use crate::ingest::announce::{self, Announcement, RejectionCode, Verdict};
use crate::playback::{Mode, Protocol, SessionError, SessionRequest, Unavailable, UnavailableCode};
use crate::rates::{Caller, TooOften};
use crate::segment::{RecordingTrigger, TimeRange};
use crate::service::Service;
use crate::storage::StorageError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use aws_lc_rs::digest;
use lookback_wire::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Six values of a few hundred bytes each, several times over.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Of a text in characters; the longest names are those of media streams.
const MAX_TEXT_CHARS: usize = 256;
/// Cameras round the duration to seconds, up or down.
const DURATION_TOLERANCE_MS: i64 = 1_000;
/// An hour, as a playback session's where nobody says.
const URL_LIFE_S: u32 = 3_600;

/// Why a request is not answered.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_s: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What is hidden from the caller is answered alike.
    fn no_stream() -> Self {
        Self::new(StatusCode::NOT_FOUND, "deviceID and streamName name no stream")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut builder = HttpResponse::build(self.status);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                builder.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                builder.insert_header((header::ALLOW, "GET, PUT"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after_s {
            builder.insert_header((header::RETRY_AFTER, seconds));
        }
        builder.json(json!({"message": self.message}))
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        Self::new(unread.status(), unread.to_string())
    }
}

impl From<Unauthorized> for Refusal {
    fn from(error: Unauthorized) -> Self {
        match error {
            Unauthorized::Storage(cause) => cause.into(),
            other => Self::new(StatusCode::UNAUTHORIZED, other.to_string()),
        }
    }
}

impl From<TooOften> for Refusal {
    fn from(TooOften { retry_after_s }: TooOften) -> Self {
        let message = format!("too often; try again in {retry_after_s} s");
        let retry_after_s = Some(retry_after_s);
        Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }
}

impl From<StorageError> for Refusal {
    fn from(cause: StorageError) -> Self {
        tracing::warn!(%cause, "a segment's metadata was not served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the backend did not answer; try again")
    }
}

impl From<announce::Rejection> for Refusal {
    fn from(announce::Rejection { code, message }: announce::Rejection) -> Self {
        use RejectionCode::*;
        let status = match code {
            InvalidRange | ClockAhead | OutsideRetention => {
                return Self::bad(format!("endTime: {message}"));
            }
            InvalidValue | DuplicateInBatch => StatusCode::BAD_REQUEST,
            IdempotencyConflict => {
                let message = "begTime was announced with another endTime";
                return Self::new(StatusCode::CONFLICT, message);
            }
            UnknownStream => return Self::no_stream(),
            DeviceNotActive | QuotaExceeded => StatusCode::FORBIDDEN,
            TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, message)
    }
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable.code {
            UnavailableCode::RangeTooLong => Self::bad(format!("endTime: {}", unavailable.message)),
            UnavailableCode::BackendUnavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, unavailable.message)
            }
            _ => Self::new(StatusCode::NOT_FOUND, unavailable.message),
        }
    }
}

/// Announces a segment of the device that calls.
pub async fn put(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Refusal> {
    let (caller, _) = principal(&service, &request).await?;
    if !body::is_json(request.headers()) {
        let message = "the body has to be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = body::read(body, request.headers(), MAX_BODY_BYTES).await?;
    let fields = parse_object(&body)?;
    if !matches!(caller.subject, Subject::Device { .. }) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "only a device announces its segments"));
    }
    let client_id = text(&fields, "clientID")?;
    let span = Span::read(&fields)?;
    check_duration(&fields, span.range)?;
    let (device, streams, stream) = find(&service, &caller, &span).await?;
    let announcement = Announcement {
        client_segment_id: client_segment_id(client_id, span.range.start),
        stream: Some(stream.name),
        start: span.range.start,
        end: span.range.end,
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: None,
    };
    let plan = service.storage.catalog.plans_by_id(&[device.plan]).await?.pop().flatten();
    let no_plan = || StorageError::Damaged(format!("{} has no plan", device.id));
    let days = plan.ok_or_else(no_plan)?.days;
    let outcomes =
        announce::receive(&service, &device, &streams, days, &[announcement], None).await?;
    for outcome in outcomes {
        if let Verdict::Rejected(rejection) = outcome.verdict {
            return Err(rejection.into());
        }
    }
    Ok(HttpResponse::Ok().json(json!({})))
}

/// Answers where a span plays.
pub async fn get(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Refusal> {
    let (caller, counted) = principal(&service, &request).await?;
    service.rates.playback_session(&counted)?;
    let body = body::read(body, request.headers(), MAX_BODY_BYTES).await?;
    let fields = if body.is_empty() {
        parse_query(request.query_string())?
    } else if body::is_json(request.headers()) {
        parse_object(&body)?
    } else {
        let message = "the body has to be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    };
    let span = Span::read(&fields)?;
    let (_, _, stream) = find(&service, &caller, &span).await?;
    let wanted = SessionRequest {
        mode: Mode::OnDemand(span.range),
        protocol: Protocol::Hls,
        expires_in_s: URL_LIFE_S,
        file_name: None,
    };
    let session =
        service.playback.session(&caller, &stream, wanted).await.map_err(|error| match error {
            SessionError::Unavailable(unavailable) => Refusal::from(unavailable),
            SessionError::Storage(error) => error.into(),
        })?;
    let deed = Deed {
        account: caller.account,
        actor: Some(caller.subject.id()),
        action: AuditAction::View,
        target: Some(stream.id.to_string()),
        address: caller::address(&service, &request),
    };
    audit::note(&*service.storage.catalog, deed, service.clock.now()).await;
    let url = session.url(&caller::base_url(&service, &request));
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(url))
}

/// Any other method.
pub async fn other() -> Result<HttpResponse, Refusal> {
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT"))
}

/// Who calls, and as whom the call was counted.
async fn principal(
    service: &Service,
    request: &HttpRequest,
) -> Result<(Principal, Caller), Refusal> {
    let nobody = || Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is required");
    let principal = caller::principal(service, request).await?.ok_or_else(nobody)?;
    let counted = Caller::of(Some(&principal), caller::address(service, request));
    service.rates.call(&counted, 1)?;
    Ok((principal, counted))
}

/// The device that a span is of, its streams, and the one that is meant, where the caller sees it.
async fn find(
    service: &Service,
    caller: &Principal,
    span: &Span<'_>,
) -> Result<(Device, Vec<Stream>, Stream), Refusal> {
    let catalog = &service.storage.catalog;
    let found = catalog.device_by_external_id(caller.account, span.device_id).await?;
    let is_seen = |device: &Device| {
        let Device { account, id, state, .. } = *device;
        let target = Target::Device { account, device: id, state };
        decide(Some(caller), Action::View, &target) == Decision::Allow
    };
    let device = found.filter(is_seen).ok_or_else(Refusal::no_stream)?;
    let streams = catalog.streams_of(&[device.id]).await?.pop().unwrap_or_default();
    let by_name = streams.iter().find(|stream| stream.name == span.stream_name);
    let by_media = || streams.iter().find(|stream| stream.media_stream_name == span.stream_name);
    let stream = by_name.or_else(by_media).cloned().ok_or_else(Refusal::no_stream)?;
    Ok((device, streams, stream))
}

/// A span of a stream, as both methods name it.
#[derive(Debug, PartialEq, Eq)]
struct Span<'a> {
    device_id: &'a str,
    stream_name: &'a str,
    range: TimeRange,
}

impl<'a> Span<'a> {
    fn read(fields: &'a Map<String, Value>) -> Result<Self, Refusal> {
        let (device_id, stream_name) = (text(fields, "deviceID")?, text(fields, "streamName")?);
        let (start, end) = (instant(fields, "begTime")?, instant(fields, "endTime")?);
        let range = TimeRange::new(start, end);
        let range = range.ok_or_else(|| Refusal::bad("endTime has to be after begTime"))?;
        Ok(Self { device_id, stream_name, range })
    }
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::bad("the body has to be a JSON object")),
        Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
    }
}

fn parse_query(query: &str) -> Result<Map<String, Value>, Refusal> {
    let given = Query::<HashMap<String, String>>::from_query(query);
    let given = given.map_err(|error| Refusal::bad(error.to_string()))?.into_inner();
    Ok(given.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Err(Refusal::bad(format!("{name} is missing"))),
        Some(Value::String(text)) if (1..=MAX_TEXT_CHARS).contains(&text.chars().count()) => {
            Ok(text)
        }
        Some(Value::String(_)) => {
            Err(Refusal::bad(format!("{name} has to have 1 to {MAX_TEXT_CHARS} characters")))
        }
        Some(_) => Err(Refusal::bad(format!("{name} has to be a string"))),
    }
}

/// Thirteen digits: with that many, instants as texts sort as they should.
fn instant(fields: &Map<String, Value>, name: &str) -> Result<Timestamp, Refusal> {
    let text = text(fields, name)?;
    let is_whole = text.len() == 13 && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = text.parse().ok().filter(|_| is_whole);
    millis.map(Timestamp::from_millis).ok_or_else(|| {
        Refusal::bad(format!("{name} has to be milliseconds since 1970 in 13 digits"))
    })
}

/// Holds the duration against the span: seconds, perhaps with a fraction.
fn check_duration(fields: &Map<String, Value>, range: TimeRange) -> Result<(), Refusal> {
    let text = text(fields, "duration")?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|_| is_decimal && text.len() <= 13);
    let millis = seconds.map(|seconds| (seconds * 1_000.0).round() as i64);
    let millis = millis.ok_or_else(|| Refusal::bad("duration has to be seconds in digits"))?;
    if millis.abs_diff(range.millis()) > DURATION_TOLERANCE_MS.unsigned_abs() {
        let span = range.millis();
        let message = format!("duration is {text} s where begTime and endTime are {span} ms apart");
        return Err(Refusal::bad(message));
    }
    Ok(())
}

/// The same for the same client and begin, so that a repeated `PUT` is known; device and stream are
/// what it is unique in.
fn client_segment_id(client_id: &str, start: Timestamp) -> String {
    let digest = digest::digest(&digest::SHA256, client_id.as_bytes());
    let client: String =
        digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("ipc:{client}:{}", start.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN_MS: i64 = 1_763_803_800_000;

    fn whole() -> Map<String, Value> {
        let fields = json!({
            "clientID": "client", "deviceID": "SN-1", "streamName": "main", "duration": "20",
            "begTime": "1763803800000", "endTime": "1763803820000",
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    /// What of the six fields is refused when one is changed: its name stands in the message.
    fn refused(name: &str, value: &Value) -> Option<String> {
        let mut fields = whole();
        fields.insert(name.into(), value.clone());
        let read = text(&fields, "clientID")
            .and_then(|_| Span::read(&fields))
            .and_then(|span| check_duration(&fields, span.range));
        read.err().map(|refusal| {
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            refusal.message
        })
    }

    #[test]
    fn values_are_held_to_the_model() {
        let long = |count| json!("x".repeat(count));
        for (name, value, is_refused) in [
            ("clientID", json!("é"), false),
            ("clientID", json!(""), true),
            ("clientID", long(MAX_TEXT_CHARS), false),
            ("clientID", long(MAX_TEXT_CHARS + 1), true),
            ("deviceID", json!(7), true),
            ("deviceID", Value::Null, true),
            ("streamName", json!(["main"]), true),
            ("begTime", json!(BEGIN_MS), true),
            ("begTime", json!("1763803800"), true),
            ("begTime", json!("01763803800000"), true),
            ("begTime", json!("+763803800000"), true),
            ("begTime", json!("-176380380000"), true),
            ("begTime", json!("176380380000x"), true),
            ("begTime", json!("１７６３８"), true),
            ("begTime", json!("1763803820000"), true),
            ("endTime", json!("1763803799999"), true),
            ("endTime", json!("1763803820.00"), true),
            ("duration", json!("20.000"), false),
            ("duration", json!("19"), false),
            ("duration", json!("21"), false),
            ("duration", json!("18.999"), true),
            ("duration", json!("21.001"), true),
            ("duration", json!("-20"), true),
            ("duration", json!("2e1"), true),
            ("duration", json!("inf"), true),
            ("duration", json!("."), true),
            ("duration", json!("99999999999999999999"), true),
            ("duration", json!(20), true),
            ("other", json!(7), false),
        ] {
            let message = refused(name, &value);
            assert_eq!(message.is_some(), is_refused, "{name} {value}: {message:?}");
            assert!(message.is_none_or(|message| message.contains(name)), "{name} {value}");
        }
        for name in ["clientID", "deviceID", "streamName", "begTime", "endTime", "duration"] {
            let message = refused(name, &Value::Null);
            assert_eq!(message, Some(format!("{name} is missing")));
        }
    }

    #[test]
    fn bodies_and_queries_say_the_same() {
        let query = "deviceID=SN-1&streamName=main&begTime=1763803800000&endTime=1763803820000";
        let expected = Span {
            device_id: "SN-1",
            stream_name: "main",
            range: TimeRange {
                start: Timestamp::from_millis(BEGIN_MS),
                end: Timestamp::from_millis(BEGIN_MS + 20_000),
            },
        };
        let fields = parse_query(query).unwrap();
        assert_eq!(Span::read(&fields).unwrap(), expected);
        assert_eq!(Span::read(&whole()).unwrap(), expected);
        for body in ["", "{", "[]", "\"text\"", "null"] {
            assert!(parse_object(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_client_and_a_begin_make_an_identifier() {
        let at = |ms| Timestamp::from_millis(BEGIN_MS + ms);
        let id = client_segment_id("client", at(0));
        assert_eq!(id, client_segment_id("client", at(0)));
        assert_ne!(id, client_segment_id("Client", at(0)));
        assert_ne!(id, client_segment_id("client", at(1)));
        assert!(id.len() <= 64, "{id}");
    }
}
