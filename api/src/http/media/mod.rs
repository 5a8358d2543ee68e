//! What all media answers have in common: any page may fetch them, caches keep them until the
//! session expires, and what a token does not open is refused alike.

pub mod dash;
pub mod hls;
pub mod image;
pub mod kinesis;
pub mod mp4;

use crate::playback::{MediaError, Text};
use crate::service::Service;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use lookback_wire::Timestamp;
use std::io::Write;
use std::sync::Arc;

/// Smaller texts gain nothing from being packed.
const MIN_PACKED_BYTES: usize = 1_024;

/// A file of a session.
pub enum File {
    /// A playlist or manifest; `settled` unless it changes while the session runs.
    Text {
        content_type: &'static str,
        text: Arc<Text>,
        settled: bool,
    },
    Media {
        content_type: &'static str,
        bytes: Bytes,
    },
}

/// `OPTIONS` of any media.
pub async fn preflight() -> HttpResponse {
    with_cors(&mut HttpResponse::NoContent()).finish()
}

/// A file of a session that ends at `expires_at`, or the part of it that was asked for.
pub fn answer(
    service: &Service,
    request: &HttpRequest,
    expires_at: Timestamp,
    file: File,
) -> HttpResponse {
    let left_s = expires_at.millis_since(service.clock.now()).max(0) / 1_000;
    let until_expiry = format!("private, max-age={left_s}, immutable");
    let mut response = HttpResponse::Ok();
    with_cors(&mut response);
    match file {
        File::Text { content_type, text, settled } => {
            response
                .content_type(content_type)
                .insert_header((header::VARY, "accept-encoding"))
                .insert_header((
                    header::CACHE_CONTROL,
                    if settled { until_expiry.as_str() } else { "no-cache" },
                ));
            match packed(request.headers(), &text) {
                Some(packed) => {
                    response.insert_header((header::CONTENT_ENCODING, "gzip")).body(packed.clone())
                }
                None => response.body(text.plain.clone()),
            }
        }
        File::Media { content_type, bytes } => {
            response
                .content_type(content_type)
                .insert_header((header::ACCEPT_RANGES, "bytes"))
                .insert_header((header::CACHE_CONTROL, until_expiry));
            let bytes = match part(request.headers(), bytes.len() as u64, None) {
                Part::All => bytes,
                Part::Range { first, last } => {
                    let whole = bytes.len();
                    response.status(StatusCode::PARTIAL_CONTENT).insert_header((
                        header::CONTENT_RANGE,
                        format!("bytes {first}-{last}/{whole}"),
                    ));
                    // Both lie within the bytes.
                    bytes.slice(first as usize..=last as usize)
                }
                Part::Unsatisfiable => {
                    return response
                        .status(StatusCode::RANGE_NOT_SATISFIABLE)
                        .insert_header((header::CONTENT_RANGE, format!("bytes */{}", bytes.len())))
                        .finish();
                }
            };
            service.metrics.bytes_served.add(bytes.len() as u64);
            response.body(bytes)
        }
    }
}

/// Why there is no file.
pub fn refuse(error: MediaError) -> HttpResponse {
    let (status, text) = match error {
        // KVS says this of every token that it does not take.
        MediaError::Refused => (StatusCode::FORBIDDEN, "Streaming session token is expired"),
        MediaError::NotFound => (StatusCode::NOT_FOUND, "the session has no such file"),
        MediaError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "try again later"),
        MediaError::NoPicture(cause) => {
            tracing::debug!(cause, "no picture");
            (StatusCode::NOT_FOUND, "no picture can be made of this footage")
        }
        MediaError::Malformed(why) => (StatusCode::BAD_REQUEST, why),
        MediaError::NotYet => (StatusCode::SERVICE_UNAVAILABLE, "nothing newer has arrived"),
        MediaError::Storage(error) => {
            tracing::error!(%error, "media was not served");
            (StatusCode::SERVICE_UNAVAILABLE, "try again later")
        }
    };
    with_cors(&mut HttpResponse::build(status))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body(text)
}

/// Players on any page may fetch: the token is the right, and no cookie counts.
fn with_cors(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "range"))
        .insert_header((
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "content-length, content-range, etag",
        ))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "86400"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
}

/// The text in gzip, where the client takes it and it helps.
fn packed<'a>(headers: &HeaderMap, text: &'a Text) -> Option<&'a Bytes> {
    let takes_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0));
            is_gzip && !refused
        });
    if !takes_gzip || text.plain.len() < MIN_PACKED_BYTES {
        return None;
    }
    Some(text.packed.get_or_init(|| pack(&text.plain)))
}

fn pack(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6), Compression::fast());
    // Writing to a Vec does not fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// First and last byte, as in Content-Range.
    Range {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

/// What a Range header asks for (RFC 9110 §14.2). One range is answered; a header that is malformed
/// or asks for several is passed over, and so is one that depends on another entity than `etag`.
fn part(headers: &HeaderMap, len: u64, etag: Option<&str>) -> Part {
    let is_same = |condition: &HeaderValue| etag.is_some_and(|etag| condition == etag);
    if headers.get(header::IF_RANGE).is_some_and(|condition| !is_same(condition)) {
        return Part::All;
    }
    headers.get(header::RANGE).map(HeaderValue::to_str).map_or(Part::All, |range| {
        range.ok().and_then(|range| parse_range(range, len)).unwrap_or(Part::All)
    })
}

fn parse_range(range: &str, len: u64) -> Option<Part> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let position = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than fit lie beyond every end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let end = len.checked_sub(1);
    let range = match (first, last) {
        ("", last) => {
            let suffix = position(last)?;
            end.filter(|_| suffix > 0).map(|end| (len.saturating_sub(suffix), end))
        }
        (first, "") => {
            let first = position(first)?;
            end.filter(|&end| first <= end).map(|end| (first, end))
        }
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            if last < first {
                return None;
            }
            end.filter(|&end| first <= end).map(|end| (first, last.min(end)))
        }
    };
    Some(range.map_or(Part::Unsatisfiable, |(first, last)| Part::Range { first, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |first, last| Part::Range { first, last };
        let table = [
            ("bytes=0-0", 10, range(0, 0)),
            ("bytes=2-", 10, range(2, 9)),
            ("bytes=-3", 10, range(7, 9)),
            ("bytes=-30", 10, range(0, 9)),
            ("bytes=5-99999999999999999999999", 10, range(5, 9)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=5-4", 10, Part::All),
            ("bytes=0-1,3-4", 10, Part::All),
            ("bytes=+1-2", 10, Part::All),
            ("bytes=-", 10, Part::All),
            ("frames=0-1", 10, Part::All),
        ];
        for (text, len, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            assert_eq!(part(&headers, len, None), expected, "{text}");
        }
        for (condition, etag, expected) in [
            ("\"a\"", Some("\"a\""), range(0, 0)),
            ("\"b\"", Some("\"a\""), Part::All),
            ("W/\"a\"", Some("\"a\""), Part::All),
            ("\"a\"", None, Part::All),
            ("Sun, 22 Nov 2026 08:00:00 GMT", Some("\"a\""), Part::All),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
            headers.insert(header::IF_RANGE, HeaderValue::from_static(condition));
            assert_eq!(part(&headers, 10, etag), expected, "{condition}");
        }
    }

    #[test]
    fn packs_where_it_is_taken() {
        let text = Text::shared("#EXTINF:1.000,\n".repeat(100));
        for (value, packed) in
            [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(super::packed(&headers, &text).is_some(), packed, "{value}");
        }
    }
}
