//! What happens to every request at the edge: its line in the log, headers that make browsers
//! careful, which other origins may call, and the end of uploads that nobody wants.

use super::caller;
use crate::service::Service;
use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::middleware::{DefaultHeaders, Next};
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse};
use futures_util::Stream;
use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Headers for whatever answers; a handler may say otherwise.
pub fn security_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add(("cross-origin-opener-policy", "same-origin"))
}

/// Counts the answer and logs it. Queries are never logged, and paths without their tokens.
pub async fn record<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let service = request.app_data::<Data<Arc<Service>>>().cloned();
    let method = request.method().clone();
    let path = redacted(request.path()).into_owned();
    let started = Instant::now();
    let answer = next.call(request).await;
    let status = match &answer {
        Ok(response) => response.status(),
        Err(e) => e.as_response_error().status_code(),
    };
    if let Some(service) = service {
        service.metrics.responded(status.as_u16());
    }
    let millis = started.elapsed().as_millis() as u64;
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), millis, "request");
    } else {
        tracing::debug!(%method, path, status = status.as_u16(), millis, "request");
    }
    answer
}

/// A path without the session token of media: `/hls/v1/s/TOKEN/…`. What stands before it may come
/// percent-encoded and is found all the same, so only the token's place counts.
fn redacted(path: &str) -> Cow<'_, str> {
    let mut parts = path.splitn(6, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some(protocol), Some(version), Some(session), Some(_)) => {
            let rest = parts.next().map(|rest| format!("/{rest}")).unwrap_or_default();
            format!("/{protocol}/{version}/{session}/REDACTED{rest}").into()
        }
        _ => path.into(),
    }
}

/// Ends the connection of a chunked upload that was answered before its end. Where a handler lets
/// go of such a body, actix-web reads on for as long as the client sends; where the body is still
/// held when the answer is out, it closes after a moment.
pub async fn end_unread_uploads<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Holding>, Error> {
    let upload = if request.chunked()? {
        let upload = SharedPayload(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(upload.clone()) });
        Some(upload)
    } else {
        None
    };
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(response.map_body(|_, body| Holding { body, _upload: upload }))
}

/// A request's body that its handler does not own alone.
#[derive(Clone)]
struct SharedPayload(Rc<RefCell<Payload>>);

impl Stream for SharedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// An answer that holds the request's body until it has been sent.
pub struct Holding {
    body: BoxBody,
    _upload: Option<SharedPayload>,
}

impl MessageBody for Holding {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Whether a page sent the request that came neither from here nor from an allowed origin (RFC 6454).
pub fn is_of_other_origin(service: &Service, request: &HttpRequest) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return false };
    !origin.to_str().is_ok_and(|origin| {
        service.config.allowed_origins.iter().any(|allowed| allowed == origin)
            || origin == caller::base_url(service, request)
            || is_same_host(origin, request)
    })
}

/// Whether a page of `origin` came from the host that this request is for.
fn is_same_host(origin: &str, request: &HttpRequest) -> bool {
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    origin
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.authority().map(|a| a.as_str().as_bytes() == host.unwrap_or_default()))
        .unwrap_or(false)
}

/// Lets pages of the allowed origins call, and of no others (Fetch §3.2).
pub async fn cors<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let allowed = request.headers().get(header::ORIGIN).cloned().filter(|origin| {
        request.app_data::<Data<Arc<Service>>>().is_some_and(|service| {
            service.config.allowed_origins.iter().any(|o| o.as_bytes() == origin.as_bytes())
        })
    });
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        request.into_response(HttpResponse::NoContent().finish()).map_into_right_body()
    } else {
        next.call(request).await?.map_into_left_body()
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        allow(headers, origin, preflight);
    }
    Ok(response)
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, preflight: bool) {
    let fixed = HeaderValue::from_static;
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, fixed("true"));
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, POST"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("authorization, content-type"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, fixed("600"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_reach_the_log() {
        let cases = [
            ("/", "/"),
            ("/graphql", "/graphql"),
            ("/hls/v1/s/secret/main.m3u8", "/hls/v1/s/REDACTED/main.m3u8"),
            ("/hls/v1/s/secret/a/b/c", "/hls/v1/s/REDACTED/a/b/c"),
            ("/images/v1/s/secret", "/images/v1/s/REDACTED"),
            ("/hls/v1/s/", "/hls/v1/s/REDACTED"),
            ("/hls/v1/%73/secret/main.m3u8", "/hls/v1/%73/REDACTED/main.m3u8"),
            ("/hl%73/%761/s/secret/main.m3u8", "/hl%73/%761/s/REDACTED/main.m3u8"),
            ("/hls/v1/getHLSMasterPlaylist.m3u8", "/hls/v1/getHLSMasterPlaylist.m3u8"),
        ];
        for (path, expected) in cases {
            assert_eq!(redacted(path), expected);
        }
    }
}
