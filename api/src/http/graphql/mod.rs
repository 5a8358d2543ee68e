//! `/graphql`: GraphQL over HTTP, by its draft of 2025 as its audits check it. JSON in and out, no
//! batches, no mutation by GET. Subscriptions come as server-sent events, or over a socket.

mod events;
mod frame_length;
mod protocol;
pub mod socket;

use super::body::{self, Unread};
use super::caller::{self, Unauthorized};
use crate::access::Principal;
use crate::graphql::fault::new_trace;
use crate::graphql::loader::Loaders;
use crate::graphql::{Asked, Outcome, Prepared, Request, Subscriber, execute, prepare, subscribe};
use crate::rates::TooOften;
use crate::service::Service;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use async_graphql::{Response, Variables};
use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt, once};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

const EVENT_STREAM: &str = "text/event-stream";

/// The draft's own media type, and the one that older clients ask for. They differ in statuses:
/// where the answer is plain JSON, every request that reached GraphQL is a 200 (§6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    GraphqlResponse,
    Json,
    /// Each outcome of an operation as an event.
    Events,
}

impl MediaType {
    /// What the client prefers; plain JSON where it does not say.
    fn accepted(headers: &HeaderMap) -> Self {
        let mut best = (Self::Json, 0.0);
        let values = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/graphql-response+json" => Self::GraphqlResponse,
                "application/json" | "application/*" | "*/*" => Self::Json,
                EVENT_STREAM => Self::Events,
                _ => continue,
            };
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let rank = |media_type| match media_type {
                Self::Events => 0,
                Self::Json => 1,
                Self::GraphqlResponse => 2,
            };
            let wins_tie = rank(media_type) > rank(best.0);
            if quality > best.1 || (wins_tie && quality > 0.0 && quality == best.1) {
                best = (media_type, quality);
            }
        }
        best.0
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json | Self::Events => "application/json; charset=utf-8",
        }
    }

    fn status_of_refused(self) -> StatusCode {
        match self {
            Self::GraphqlResponse => StatusCode::BAD_REQUEST,
            Self::Json | Self::Events => StatusCode::OK,
        }
    }
}

/// Why a request never reached GraphQL.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Under which the log has the cause, where it is ours.
    trace: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: "BAD_REQUEST", message: message.into(), trace: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
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
            Unauthorized::Storage(cause) => {
                let trace = new_trace();
                tracing::warn!(trace, %cause, "the caller could not be looked up");
                Self {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    code: "BACKEND_UNAVAILABLE",
                    message: "the backend did not answer; try again".into(),
                    trace: Some(trace),
                }
            }
            other => Self {
                status: StatusCode::UNAUTHORIZED,
                code: "UNAUTHENTICATED",
                message: other.to_string(),
                trace: None,
            },
        }
    }
}

pub async fn post(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    let media_type = MediaType::accepted(request.headers());
    let answer = async {
        check_body_headers(request.headers())?;
        let principal = caller::principal(&service, &request).await?;
        let most = service.config.limits.graphql_body_bytes;
        let body = body::read(body, request.headers(), most).await?;
        let asked = asked(&service, &request, principal);
        run(parse_body(&body)?, asked, accepts_events(&request), |_| Ok(())).await
    };
    respond(media_type, answer.await)
}

/// GET carries a query in its parameters, and never changes anything.
pub async fn get(service: Data<Arc<Service>>, request: HttpRequest) -> HttpResponse {
    let media_type = MediaType::accepted(request.headers());
    let answer = async {
        let principal = caller::principal(&service, &request).await?;
        let asked = asked(&service, &request, principal);
        let only_queries = |prepared: &Prepared| match prepared.mutates {
            true => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "a mutation needs POST")),
            false => Ok(()),
        };
        let parameters = parse_parameters(request.query_string())?;
        run(parameters, asked, accepts_events(&request), only_queries).await
    };
    respond(media_type, answer.await)
}

fn asked(service: &Arc<Service>, request: &HttpRequest, principal: Option<Principal>) -> Asked {
    Asked {
        service: Arc::clone(service),
        principal,
        base_url: caller::base_url(service, request),
        address: caller::address(service, request),
        loaders: Loaders::new(&service.storage),
    }
}

/// Any other method.
pub async fn other() -> HttpResponse {
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "GET or POST");
    let mut response = respond(MediaType::Json, Err(refusal));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

/// Whether the client can read events, be it that it would rather have JSON: some say so with each
/// request, whether it subscribes or not.
fn accepts_events(request: &HttpRequest) -> bool {
    let values = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| range.split(';').next().unwrap_or_default().trim() == EVENT_STREAM)
}

/// What a request is answered with.
enum Answer {
    Once(Box<Outcome>),
    /// An outcome for each change, for as long as the subscriber's time lasts.
    Changes(BoxStream<'static, Outcome>, Arc<Subscriber>),
}

async fn run(
    request: Request,
    asked: Asked,
    accepts_events: bool,
    check: impl FnOnce(&Prepared) -> Result<(), Refusal>,
) -> Result<Answer, Refusal> {
    let prepared = match prepare(request, &asked) {
        Ok(prepared) => prepared,
        Err(refused) => return Ok(Answer::Once(refused)),
    };
    check(&prepared)?;
    if !(prepared.subscribes && accepts_events) {
        return Ok(Answer::Once(execute(prepared, asked).await.into()));
    }
    let most = asked.service.config.limits.sockets_per_user;
    let Asked { service, principal, base_url, address, .. } = asked;
    let subscriber =
        Subscriber::new(service, principal, base_url, address).ok_or_else(|| Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "LIMIT_REACHED",
            message: format!("{most} sockets and streams of this caller are open"),
            trace: None,
        })?;
    let subscriber = Arc::new(subscriber);
    Ok(Answer::Changes(subscribe(prepared, Arc::clone(&subscriber)), subscriber))
}

/// Only plain `application/json`: whatever else a browser sends without asking first could carry
/// another site's form.
fn check_body_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |what| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return refuse("the body has to be application/json");
    }
    let is_utf8 = |charset: &str| charset.trim_matches('"').eq_ignore_ascii_case("utf-8");
    let lower = |part: &str| part.to_ascii_lowercase();
    if !parts.map(lower).all(|part| part.strip_prefix("charset=").is_none_or(is_utf8)) {
        return refuse("the body has to be in UTF-8");
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refuse("the body has to come unencoded");
    }
    Ok(())
}

fn parse_body(body: &[u8]) -> Result<Request, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(parameters)) => parameters_of(parameters),
        Ok(Value::Array(_)) => Err(Refusal::bad("batches are not supported")),
        Ok(_) => Err(Refusal::bad("the body has to be a JSON object")),
        Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
    }
}

fn parse_parameters(query: &str) -> Result<Request, Refusal> {
    let given = Query::<HashMap<String, String>>::from_query(query)
        .map_err(|error| Refusal::bad(error.to_string()))?
        .into_inner();
    let mut parameters = Map::new();
    for (name, text) in given {
        let value = match name.as_str() {
            "variables" | "extensions" if !text.is_empty() => serde_json::from_str(&text)
                .map_err(|error| Refusal::bad(format!("{name} is not JSON: {error}")))?,
            "variables" | "extensions" => Value::Null,
            _ => Value::String(text),
        };
        parameters.insert(name, value);
    }
    parameters_of(parameters)
}

/// The request's parameters (§5); others than these are ignored.
fn parameters_of(mut parameters: Map<String, Value>) -> Result<Request, Refusal> {
    let mut take = |name: &str| parameters.remove(name).unwrap_or_default();
    let (query, document_id) = match (take("query"), take("documentId")) {
        (Value::String(query), Value::Null) => (query, None),
        (Value::Null, Value::String(id)) => (String::new(), Some(id)),
        (Value::String(_), Value::String(_)) => {
            return Err(Refusal::bad("query and documentId exclude each other"));
        }
        _ => return Err(Refusal::bad("query or documentId is missing or no string")),
    };
    let operation_name = match take("operationName") {
        Value::Null => None,
        Value::String(name) => Some(name),
        _ => return Err(Refusal::bad("operationName is no string")),
    };
    let variables = match take("variables") {
        Value::Null => Variables::default(),
        variables @ Value::Object(_) => Variables::from_json(variables),
        _ => return Err(Refusal::bad("variables is no object")),
    };
    if !matches!(take("extensions"), Value::Null | Value::Object(_)) {
        return Err(Refusal::bad("extensions is no object"));
    }
    Ok(Request { query, document_id, operation_name, variables })
}

fn respond(media_type: MediaType, answer: Result<Answer, Refusal>) -> HttpResponse {
    let answer = match answer {
        Ok(Answer::Changes(outcomes, subscriber)) => {
            return events::respond(outcomes, Some(subscriber));
        }
        Ok(Answer::Once(outcome)) if media_type == MediaType::Events => {
            return events::respond(once(ready(*outcome)).boxed(), None);
        }
        Ok(Answer::Once(outcome)) => Ok(*outcome),
        Err(refusal) => Err(refusal),
    };
    let (status, body) = match &answer {
        Ok(Outcome::Ran(response)) => (StatusCode::OK, serde_json::to_vec(response)),
        Ok(Outcome::Refused(response)) => {
            (media_type.status_of_refused(), serde_json::to_vec(&without_data(response)))
        }
        Ok(Outcome::TooOften(response, _)) => {
            (StatusCode::TOO_MANY_REQUESTS, serde_json::to_vec(&without_data(response)))
        }
        Err(Refusal { status, code, message, trace }) => {
            let mut error = json!({"message": message, "extensions": {"code": code}});
            if let Some(trace) = trace {
                error["extensions"]["traceId"] = json!(trace);
            }
            (*status, serde_json::to_vec(&json!({"errors": [error]})))
        }
    };
    let mut builder = HttpResponse::build(status);
    builder
        .insert_header((header::CONTENT_TYPE, media_type.content_type()))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    if let Ok(Outcome::TooOften(_, TooOften { retry_after_s })) = &answer {
        builder.insert_header((header::RETRY_AFTER, *retry_after_s));
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            builder.insert_header((header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            builder.insert_header((header::ALLOW, "POST"));
        }
        _ => {}
    }
    match body {
        Ok(body) => builder.body(body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn without_data(response: &Response) -> Value {
    let mut answer = json!({"errors": response.errors});
    if !response.extensions.is_empty() {
        answer["extensions"] = json!(response.extensions);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageError;
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;

    #[test]
    fn the_client_chooses_the_media_type() {
        use MediaType::{Events, GraphqlResponse, Json};
        for (accept, expected) in [
            (None, Json),
            (Some("*/*"), Json),
            (Some("application/json"), Json),
            (Some("application/json; charset=utf-8"), Json),
            (Some("application/graphql-response+json"), GraphqlResponse),
            (Some("application/graphql-response+json, application/json"), GraphqlResponse),
            (Some("application/json, application/graphql-response+json"), GraphqlResponse),
            (Some("application/json, application/graphql-response+json;q=0.9"), Json),
            (Some("application/graphql-response+json;q=0"), Json),
            (Some("text/html, */*;q=0.1"), Json),
            (Some("text/event-stream"), Events),
            (Some("text/event-stream, application/json"), Json),
            (Some("application/json;q=0.5, text/event-stream"), Events),
            (Some("application/graphql-response+json, text/event-stream"), GraphqlResponse),
        ] {
            let mut request = TestRequest::default();
            if let Some(accept) = accept {
                request = request.insert_header((header::ACCEPT, accept));
            }
            let request = request.to_http_request();
            assert_eq!(MediaType::accepted(request.headers()), expected, "{accept:?}");
        }
    }

    #[actix_web::test]
    async fn a_failure_of_ours_can_be_found_in_the_log() {
        let lost = || StorageError::Unavailable("the table is gone".into());
        for (refused, status, is_ours) in
            [(Unauthorized::Storage(lost()), 503, true), (Unauthorized::Withdrawn, 401, false)]
        {
            let answer = respond(MediaType::Json, Err(refused.into()));
            assert_eq!(answer.status(), status);
            let body = to_bytes(answer.into_body()).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let trace = body["errors"][0]["extensions"]["traceId"].as_str();
            assert_eq!(trace.map(str::len), is_ours.then_some(26), "{body}");
            assert!(!body.to_string().contains("table"), "{body}");
        }
    }

    #[test]
    fn only_plain_json_is_read() {
        for (content_type, encoding, accepted) in [
            ("application/json", None, true),
            ("Application/JSON; Charset=\"UTF-8\"", None, true),
            ("application/json", Some("identity"), true),
            ("application/json", Some("gzip"), false),
            ("application/json; charset=latin1", None, false),
            ("text/plain", None, false),
            ("application/x-www-form-urlencoded", None, false),
            ("multipart/form-data; boundary=x", None, false),
            ("application/graphql", None, false),
            ("", None, false),
        ] {
            let mut request = TestRequest::default().insert_header(("content-type", content_type));
            if let Some(encoding) = encoding {
                request = request.insert_header(("content-encoding", encoding));
            }
            let checked = check_body_headers(request.to_http_request().headers());
            assert_eq!(checked.is_ok(), accepted, "{content_type} {encoding:?}");
        }
    }

    #[test]
    fn parameters_have_types() {
        for (body, accepted) in [
            (r#"{"query":"{ a }"}"#, true),
            (r#"{"query":"{ a }","operationName":null,"variables":null,"extensions":null}"#, true),
            (r#"{"query":"{ a }","operationName":"A","variables":{},"extensions":{}}"#, true),
            (r#"{"query":"{ a }","other":1}"#, true),
            (r#"{"documentId":"sha256:0"}"#, true),
            (r#"{"query":null,"documentId":"sha256:0"}"#, true),
            (r#"{"query":"{ a }","documentId":"sha256:0"}"#, false),
            (r#"{"query":"{ a }","documentId":1}"#, false),
            (r#"{"documentId":1}"#, false),
            (r#"{"query":null}"#, false),
            (r#"{"query":1}"#, false),
            (r#"{}"#, false),
            (r#"{"query":"{ a }","operationName":1}"#, false),
            (r#"{"query":"{ a }","variables":[]}"#, false),
            (r#"{"query":"{ a }","variables":"{}"}"#, false),
            (r#"{"query":"{ a }","extensions":0}"#, false),
            (r#"[{"query":"{ a }"}]"#, false),
            (r#""{ a }""#, false),
            (r#"{"query""#, false),
            ("", false),
        ] {
            assert_eq!(parse_body(body.as_bytes()).is_ok(), accepted, "{body}");
        }
        for (query, accepted) in [
            ("query=%7Ba%7D", true),
            ("query=%7Ba%7D&variables=%7B%22a%22%3A1%7D&operationName=A", true),
            ("query=%7Ba%7D&variables=", true),
            ("query=%7Ba%7D&variables=1", false),
            ("documentId=sha256:0", true),
            ("query=%7Ba%7D&variables=%7B", false),
            ("", false),
        ] {
            assert_eq!(parse_parameters(query).is_ok(), accepted, "{query}");
        }
    }
}
