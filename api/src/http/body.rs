//! A request's body, read whole: bounded in bytes and in time, since whoever sends it may not be known
//! until all of it is there.

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use std::time::Duration;
use tokio::time;

/// The longest body takes half of it over a link of 128 kbit/s. Who takes longer holds memory and a
/// place for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("at most {0} bytes of body")]
    TooLong(usize),
    #[error("the body did not come within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("the body broke off: {0}")]
    BrokenOff(#[from] PayloadError),
}

impl Unread {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whether the body is said to be JSON (RFC 9110 §8.3.1).
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = media_type.and_then(|value| value.split(|&b| b == b';').next());
    essence.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}

type Part = Result<Bytes, PayloadError>;

/// The body, of `most` bytes at most.
pub async fn read(
    body: impl Stream<Item = Part> + Unpin,
    headers: &HeaderMap,
    most: usize,
) -> Result<Bytes, Unread> {
    read_within(PATIENCE, body, headers, most).await
}

async fn read_within(
    patience: Duration,
    mut body: impl Stream<Item = Part> + Unpin,
    headers: &HeaderMap,
    most: usize,
) -> Result<Bytes, Unread> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|len| len > most as u64) {
        return Err(Unread::TooLong(most));
    }
    let all = async {
        let mut read = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part?;
            if read.len().saturating_add(part.len()) > most {
                return Err(Unread::TooLong(most));
            }
            read.extend_from_slice(&part);
        }
        Ok(read.freeze())
    };
    time::timeout(patience, all).await.unwrap_or(Err(Unread::TooSlow(patience)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    const MOST: usize = 8;

    /// What comes of these parts, after which nothing comes unless the body `ends` there.
    async fn check(
        parts: &[&'static str],
        ends: bool,
        announced: Option<u32>,
        expected: Result<&str, StatusCode>,
    ) {
        let mut headers = HeaderMap::new();
        if let Some(len) = announced {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        let parts = stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))));
        let body = if ends { parts.boxed() } else { parts.chain(stream::pending()).boxed() };
        let read = read_within(Duration::ZERO, body, &headers, MOST).await;
        let expected = expected.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(read.map_err(|unread| unread.status()), expected);
    }

    #[tokio::test]
    async fn bodies_end_in_time_and_in_size() {
        check(&[], true, None, Ok("")).await;
        check(&["1234", "5678"], true, Some(8), Ok("12345678")).await;
        check(&["1234", "56789"], true, None, Err(StatusCode::PAYLOAD_TOO_LARGE)).await;
        check(&[], true, Some(9), Err(StatusCode::PAYLOAD_TOO_LARGE)).await;
        check(&["1234"], false, None, Err(StatusCode::REQUEST_TIMEOUT)).await;
        check(&[], false, Some(4), Err(StatusCode::REQUEST_TIMEOUT)).await;
        let broken = stream::iter([Err(PayloadError::Incomplete(None))]);
        let read = read_within(Duration::ZERO, broken, &HeaderMap::new(), MOST).await;
        assert_eq!(read.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
