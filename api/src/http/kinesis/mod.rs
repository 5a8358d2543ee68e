//! The Kinesis Video Streams API at its own paths (KVS API, 2017-09-30): for now what a producer
//! calls before PutMedia. Errors are told as that API tells them.

use crate::access::{Action, Decision, Principal, Target, decide};
use crate::device::{Device, Stream};
use crate::http::caller::{self, Unauthorized};
use crate::service::Service;
use crate::storage::StorageError;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use lookback_wire::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// A request of this API holds a name and some tags.
const MAX_BODY_BYTES: usize = 64 << 10;
/// How long a refused client has to read why.
const REFUSAL_LINGER: Duration = Duration::from_millis(300);
/// What is read of a refused body meanwhile; a small one ends within it.
const MAX_REFUSED_BYTES: usize = 256 << 10;
const DAY_HOURS: u32 = 24;

/// An error as the API tells it: status, type and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl KinesisError {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgumentException", message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }

    /// The answer to a request whose body may have no end: the connection is closed where it goes
    /// on. Dropping the body instead would make the server read it for ever.
    pub fn refuse(self, body: Payload) -> HttpResponse {
        let text = Bytes::from(json!({ "Message": self.message }).to_string());
        let len = text.len() as u64;
        let linger = stream::once(ends_soon(body)).filter_map(async |ended| {
            (!ended).then_some(Err(std::io::Error::other("a refused upload went on")))
        });
        HttpResponse::build(self.status)
            .insert_header(("x-amzn-ErrorType", self.kind))
            .content_type("application/json")
            .no_chunking(len)
            .streaming(stream::once(async { Ok(text) }).chain(linger))
    }
}

/// Whether the body comes to an end soon. Holds it until then.
async fn ends_soon(mut body: Payload) -> bool {
    let end = async {
        let mut len = 0usize;
        while len <= MAX_REFUSED_BYTES {
            match body.next().await {
                Some(Ok(part)) => len = len.saturating_add(part.len()),
                Some(Err(_)) | None => return,
            }
        }
        std::future::pending().await
    };
    time::timeout(REFUSAL_LINGER, end).await.is_ok()
}

impl From<StorageError> for KinesisError {
    fn from(error: StorageError) -> Self {
        tracing::error!(%error, "a Kinesis call failed");
        Self::unavailable("try again later")
    }
}

impl From<Unauthorized> for KinesisError {
    fn from(error: Unauthorized) -> Self {
        match error {
            Unauthorized::Storage(error) => error.into(),
            error => {
                Self::new(StatusCode::UNAUTHORIZED, "NotAuthorizedException", error.to_string())
            }
        }
    }
}

/// A stream by the name or the ARN that a request gives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamSelector {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

/// A stream that the caller may do something with.
#[derive(Debug)]
pub struct Selected {
    pub principal: Principal,
    pub device: Device,
    pub stream: Stream,
}

impl StreamSelector {
    pub fn new(stream_name: Option<String>, stream_arn: Option<String>) -> Self {
        Self { stream_name, stream_arn }
    }

    /// Turns the name into the stream, if the caller may do `action` to its device.
    pub async fn select(
        &self,
        service: &Service,
        request: &HttpRequest,
        action: Action,
    ) -> Result<Selected, KinesisError> {
        let Some(principal) = caller::principal(service, request).await? else {
            let message = "the request has no authentication token";
            let status = StatusCode::UNAUTHORIZED;
            return Err(KinesisError::new(status, "NotAuthorizedException", message));
        };
        let (name, created_at) = match (&self.stream_name, &self.stream_arn) {
            (Some(name), None) => (name.as_str(), None),
            (None, Some(arn)) => {
                let (name, created_at) = parse_arn(arn)
                    .ok_or_else(|| KinesisError::invalid("StreamARN is no ARN of a stream"))?;
                (name, Some(created_at))
            }
            (Some(_), Some(_)) => {
                return Err(KinesisError::invalid("give StreamName or StreamARN, not both"));
            }
            (None, None) => {
                return Err(KinesisError::invalid("StreamName or StreamARN is missing"));
            }
        };
        if !is_name(name) {
            return Err(KinesisError::invalid(
                "StreamName has to be 1 to 256 letters, digits, '_', '.' or '-'",
            ));
        }
        let hidden = || {
            let message = format!("The requested stream {name} is not found or not active.");
            KinesisError::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
        };
        let catalog = &service.storage.catalog;
        let stream = catalog
            .stream_by_media_name(principal.account, name)
            .await?
            .filter(|stream| created_at.is_none_or(|at| at == stream.created_at))
            .ok_or_else(hidden)?;
        let device = catalog.devices_by_id(&[stream.device]).await?.pop().flatten();
        let device = device.ok_or_else(hidden)?;
        let target =
            Target::Device { account: device.account, device: device.id, state: device.state };
        match decide(Some(&principal), action, &target) {
            Decision::Allow => Ok(Selected { principal, device, stream }),
            Decision::Hide => Err(hidden()),
            Decision::Forbid => Err(KinesisError::new(
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                "the caller may not upload to this stream, or its device is not active",
            )),
        }
    }
}

/// `POST /describeStream`
pub async fn describe_stream(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    mut body: Payload,
) -> HttpResponse {
    match describe(&service, &request, &mut body).await {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => error.refuse(body),
    }
}

async fn describe(
    service: &Service,
    request: &HttpRequest,
    body: &mut Payload,
) -> Result<Value, KinesisError> {
    let selector: StreamSelector = read_json(body).await?;
    let Selected { device, stream, .. } = selector.select(service, request, Action::Upload).await?;
    let plan = service.storage.catalog.plans_by_id(&[device.plan]).await?.pop().flatten();
    let kept_hours = plan.map_or(0, |plan| plan.days.saturating_mul(DAY_HOURS));
    // Producers read at most 100 tokens, no escapes, and whole numbers only where they look.
    Ok(json!({ "StreamInfo": {
        "CreationTime": stream.created_at.as_millis() as f64 / 1_000.0,
        "DataRetentionInHours": kept_hours,
        "DeviceName": device.id.to_string(),
        "MediaType": "video/h264",
        "Status": "ACTIVE",
        "StreamARN": arn(&stream),
        "StreamName": stream.media_stream_name,
        "Version": stream.id.0.to_string(),
    } }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetDataEndpoint {
    #[serde(rename = "APIName")]
    api_name: String,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /getDataEndpoint`
pub async fn get_data_endpoint(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    mut body: Payload,
) -> HttpResponse {
    match data_endpoint(&service, &request, &mut body).await {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => error.refuse(body),
    }
}

async fn data_endpoint(
    service: &Service,
    request: &HttpRequest,
    body: &mut Payload,
) -> Result<Value, KinesisError> {
    let input: GetDataEndpoint = read_json(body).await?;
    input.stream.select(service, request, Action::Upload).await?;
    if input.api_name != "PUT_MEDIA" {
        let message = format!("APIName {:?} is not supported, PUT_MEDIA is", input.api_name);
        return Err(KinesisError::invalid(message));
    }
    Ok(json!({ "DataEndpoint": caller::base_url(service, request) }))
}

async fn read_json<T: DeserializeOwned>(body: &mut Payload) -> Result<T, KinesisError> {
    let mut bytes = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(|_| KinesisError::invalid("the body was cut off"))?;
        if bytes.len() + part.len() > MAX_BODY_BYTES {
            let message = format!("the body is longer than {MAX_BODY_BYTES} bytes");
            return Err(KinesisError::invalid(message));
        }
        bytes.extend_from_slice(&part);
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        KinesisError::invalid(format!("the body is not the JSON asked for: {error}"))
    })
}

/// KVS API, `StreamName`: 1 to 256 of `[a-zA-Z0-9_.-]`.
fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Region and account are placeholders in the form that the API's patterns ask for; the creation
/// time tells a stream from an earlier one of its name.
fn arn(stream: &Stream) -> String {
    format!(
        "arn:aws:kinesisvideo:us-east-1:000000000000:stream/{}/{}",
        stream.media_stream_name,
        stream.created_at.as_millis()
    )
}

/// The stream's name and creation time.
fn parse_arn(arn: &str) -> Option<(&str, Timestamp)> {
    let mut parts = arn.splitn(6, ':');
    let head = [parts.next()?, parts.next()?, parts.next()?];
    if head[0] != "arn" || head[2] != "kinesisvideo" {
        return None;
    }
    let resource = parts.nth(2)?.strip_prefix("stream/")?;
    let (name, created_at) = resource.split_once('/')?;
    Some((name, Timestamp::from_millis(created_at.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_streams() {
        let at = Timestamp::from_millis(1_551_924_009_774);
        let table = [
            ("arn:aws:kinesisvideo:us-east-1:400720404473:stream/test/1551924009774", Some("test")),
            ("arn:aws-cn:kinesisvideo:x:1:stream/a.b-c_1/1551924009774", Some("a.b-c_1")),
            ("arn:aws:kinesisvideo:us-east-1:1:channel/test/1551924009774", None),
            ("arn:aws:s3:us-east-1:1:stream/test/1551924009774", None),
            ("arn:aws:kinesisvideo:us-east-1:1:stream/test", None),
            ("arn:aws:kinesisvideo", None),
            ("", None),
        ];
        for (arn, name) in table {
            assert_eq!(parse_arn(arn), name.map(|name| (name, at)), "{arn}");
        }
    }
}
