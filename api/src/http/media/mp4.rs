//! MP4 files of playback sessions: `GET /mp4/v1/s/{token}/{name}.mp4`, resumable by byte range
//! (RFC 9110 §14), with the name that a browser saves it under.

use super::{Part, part, refuse, with_cors};
use crate::playback::remote::Download;
use crate::playback::token::MediaToken;
use crate::playback::{MediaError, file_name};
use crate::service::Service;
use crate::storage::StorageError;
use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt};
use std::sync::Arc;

/// `GET` and `HEAD /mp4/v1/s/{token}/{file}`
pub async fn serve(
    service: Data<Arc<Service>>,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> HttpResponse {
    let (token, name) = path.into_inner();
    match download(service.get_ref(), &request, &token, &name).await {
        Ok(response) => response,
        Err(error) => refuse(error),
    }
}

async fn download(
    service: &Arc<Service>,
    request: &HttpRequest,
    token: &str,
    name: &str,
) -> Result<HttpResponse, MediaError> {
    let token = service.playback.open(token).await?;
    let name = name.strip_suffix(".mp4").ok_or(MediaError::NotFound)?;
    if let Some(made) = service.playback.download(&token).await? {
        return Ok(send(service, request, token, name, made));
    }
    let mp4 = service.playback.mp4(&token).await?;
    let etag = format!("\"{}\"", mp4.digest());
    let mut response = HttpResponse::Ok();
    with_cors(&mut response)
        .content_type("video/mp4")
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::ETAG, etag.as_str()))
        // Footage may still arrive late in the span, or go: the entity tag tells.
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::CONTENT_DISPOSITION, file_name::content_disposition(name)));
    let is_known = |value: &HeaderValue| {
        let tags = value.to_str().unwrap_or_default();
        tags.split(',').any(|tag| matches!(tag.trim(), tag if tag == etag || tag == "*"))
    };
    if request.headers().get_all(header::IF_NONE_MATCH).any(is_known) {
        return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
    }
    let range = match part(request.headers(), mp4.len(), Some(&etag)) {
        Part::All => 0..mp4.len(),
        Part::Range { first, last } => {
            response.status(StatusCode::PARTIAL_CONTENT).insert_header((
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{}", mp4.len()),
            ));
            first..last.saturating_add(1)
        }
        Part::Unsatisfiable => {
            return Ok(response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .insert_header((header::CONTENT_RANGE, format!("bytes */{}", mp4.len())))
                .finish());
        }
    };
    let len = range.end - range.start;
    if request.method() == Method::HEAD {
        return Ok(response.body(SizedStream::new(len, stream::empty::<Result<_, StorageError>>())));
    }
    let bytes = watched(service.clone(), token, mp4.read(range).map_err(MediaError::from));
    Ok(response.body(SizedStream::new(len, Box::pin(bytes))))
}

/// A file that is written while it is sent: no part of it can be asked for.
fn send(
    service: &Arc<Service>,
    request: &HttpRequest,
    token: MediaToken,
    name: &str,
    made: Download,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    with_cors(&mut response)
        .content_type("video/mp4")
        .insert_header((header::ACCEPT_RANGES, "none"))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .insert_header((header::CONTENT_DISPOSITION, file_name::content_disposition(name)));
    if request.method() == Method::HEAD {
        return response.finish();
    }
    let bytes = Box::pin(watched(service.clone(), token, made.bytes));
    match made.len {
        Some(len) => response.body(SizedStream::new(len, bytes)),
        None => response.streaming(bytes),
    }
}

/// Media as long as the session's holder may watch, counted.
fn watched(
    service: Arc<Service>,
    token: MediaToken,
    bytes: impl Stream<Item = Result<Bytes, MediaError>>,
) -> impl Stream<Item = Result<Bytes, MediaError>> {
    let (counting, holding) = (service.clone(), service);
    bytes
        .and_then(move |bytes| {
            let (service, token) = (holding.clone(), token.clone());
            async move { service.playback.may_go_on(&token).await.map(|()| bytes) }
        })
        .inspect_ok(move |bytes| counting.metrics.bytes_served.add(bytes.len() as u64))
        .inspect_err(|error| tracing::error!(%error, "a download was cut short"))
}
