//! Media read back through the Kinesis Video Streams API: GetMedia, ListFragments and
//! GetMediaForFragmentList. Media is sent fragment by fragment as the client takes it.

use super::call::{Answer, Call, admit};
use super::error::KinesisError;
use super::select::{Selected, StreamSelector};
use super::streams::check_kept_at;
use crate::access::{Action, Decision, Principal};
use crate::audit::AuditAction;
use crate::id::{DeviceId, StreamId};
use crate::playback::follow::{Followed, Follower, Start};
use crate::playback::fragment_list::{Selection, SelectorType};
use crate::playback::matroska::{self, Asked};
use crate::rights;
use crate::service::Service;
use crate::storage::StorageError;
use crate::throttle::{MediaPace, Reading};
use actix_web::HttpResponse;
use actix_web::web::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream as Pieces, stream};
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{self, Instant};

const GET_MEDIA: &str = "GetMedia";
const LIST_FRAGMENTS: &str = "ListFragments";
const GET_MEDIA_FOR_FRAGMENT_LIST: &str = "GetMediaForFragmentList";

/// As the service's documentation names it.
const CONTENT_TYPE: &str = "video/webm";
/// Smaller parts of a document are joined up to this: each piece is an HTTP chunk.
const PIECE_BYTES: usize = 32 << 10;
/// How often the right to read is looked up again while somebody reads.
const RIGHTS_EVERY: Duration = Duration::from_secs(3);
/// A reader to whom nothing could be sent for so long may have been gone for as long.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

const DEFAULT_MAX_RESULTS: i64 = 100;
const MAX_RESULTS: i64 = 1_000;
const MAX_FRAGMENTS: usize = 1_000;
const MAX_NUMBER_DIGITS: usize = 128;
const MAX_TOKEN_CHARS: usize = 4_096;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetMedia {
    #[serde(flatten)]
    stream: StreamSelector,
    start_selector: StartSelector,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartSelector {
    start_selector_type: StartSelectorType,
    after_fragment_number: Option<String>,
    start_timestamp: Option<f64>,
    continuation_token: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum StartSelectorType {
    FragmentNumber,
    ServerTimestamp,
    ProducerTimestamp,
    Now,
    Earliest,
    ContinuationToken,
}

impl StartSelector {
    fn start(&self) -> Result<Start, KinesisError> {
        let at = || {
            let seconds = self.start_timestamp;
            let seconds = seconds.ok_or_else(|| missing("StartSelector.StartTimestamp"))?;
            timestamp("StartSelector.StartTimestamp", seconds)
        };
        let after = |name, number: &Option<String>| {
            let number = number.as_deref().ok_or_else(|| missing(name))?;
            // Continuation tokens are numbers here, too.
            fragment_number(name, number).map(Start::After)
        };
        match self.start_selector_type {
            StartSelectorType::Now => Ok(Start::Now),
            StartSelectorType::Earliest => Ok(Start::Earliest),
            StartSelectorType::ServerTimestamp => at().map(Start::ArrivedFrom),
            StartSelectorType::ProducerTimestamp => at().map(Start::StartsFrom),
            StartSelectorType::FragmentNumber => {
                after("StartSelector.AfterFragmentNumber", &self.after_fragment_number)
            }
            StartSelectorType::ContinuationToken => {
                after("StartSelector.ContinuationToken", &self.continuation_token)
            }
        }
    }
}

/// `POST /getMedia`: does not end by itself.
pub async fn get_media(call: Call) -> Result<HttpResponse, KinesisError> {
    let input: GetMedia = call.input()?;
    let start = input.start_selector.start()?;
    let (reader, stream) = Reader::open(call, &input.stream, GET_MEDIA).await?;
    let follower = reader.service.playback.follow(stream, start).await?;
    Ok(answer(reader, Source::Follow(follower)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetMediaForFragmentList {
    #[serde(flatten)]
    stream: StreamSelector,
    fragments: Vec<String>,
}

/// `POST /getMediaForFragmentList`: in the order asked for.
pub async fn get_media_for_fragment_list(call: Call) -> Result<HttpResponse, KinesisError> {
    let input: GetMediaForFragmentList = call.input()?;
    if !(1..=MAX_FRAGMENTS).contains(&input.fragments.len()) {
        let message = format!("Fragments has to name 1 to {MAX_FRAGMENTS} fragments");
        return Err(KinesisError::invalid(message));
    }
    for number in &input.fragments {
        check_number("Fragments", number)?;
    }
    let (reader, _) = Reader::open(call, &input.stream, GET_MEDIA_FOR_FRAGMENT_LIST).await?;
    Ok(answer(reader, Source::List(input.fragments.into())))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListFragments {
    #[serde(flatten)]
    stream: StreamSelector,
    max_results: Option<i64>,
    next_token: Option<String>,
    fragment_selector: Option<FragmentSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FragmentSelector {
    fragment_selector_type: SelectorType,
    timestamp_range: TimestampRange,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimestampRange {
    start_timestamp: f64,
    end_timestamp: f64,
}

impl ListFragments {
    /// What is asked for; a token holds all of it.
    fn selection(&self) -> Result<Selection, KinesisError> {
        match (&self.next_token, &self.fragment_selector) {
            (Some(token), _) => read_token(token),
            (None, Some(selector)) => selector.selection(),
            (None, None) => Err(missing("FragmentSelector")),
        }
    }
}

impl FragmentSelector {
    fn selection(&self) -> Result<Selection, KinesisError> {
        let TimestampRange { start_timestamp, end_timestamp } = self.timestamp_range;
        let from = timestamp("TimestampRange.StartTimestamp", start_timestamp)?;
        let to = timestamp("TimestampRange.EndTimestamp", end_timestamp)?;
        if to < from {
            return Err(KinesisError::invalid(
                "TimestampRange.EndTimestamp is before TimestampRange.StartTimestamp",
            ));
        }
        Ok(Selection {
            by: self.fragment_selector_type,
            from_ms: from.as_millis(),
            to_ms: to.as_millis(),
            after: None,
        })
    }
}

/// `POST /listFragments`
pub async fn list_fragments(call: Call) -> Answer {
    let input: ListFragments = call.input()?;
    let limit = input.max_results.unwrap_or(DEFAULT_MAX_RESULTS);
    let limit = usize::try_from(limit)
        .ok()
        .filter(|_| (1..=MAX_RESULTS).contains(&limit))
        .ok_or_else(|| {
            KinesisError::invalid(format!(
                "MaxResults is {limit}, and has to be 1 to {MAX_RESULTS}"
            ))
        })?;
    let selection = input.selection()?;
    let selected = call.select(&input.stream, Action::ReadBack).await?;
    let stream = &selected.stream;
    admit(&call.service, stream, LIST_FRAGMENTS)?;
    let page = call.service.playback.list_fragments(stream.id, selection, limit).await?;
    if page.fragments.is_empty() && selection.by == SelectorType::ServerTimestamp {
        check_kept_at(&call, &selected, Timestamp::from_millis(selection.to_ms)).await?;
    }
    let fragments = page.fragments.iter().map(|fragment| {
        json!({
            "FragmentNumber": fragment.number.to_string(),
            "FragmentSizeInBytes": fragment.location.len,
            "ProducerTimestamp": epoch_seconds(fragment.start),
            "ServerTimestamp": epoch_seconds(fragment.arrived_at),
            "FragmentLengthInMilliseconds": fragment.duration_ms,
        })
    });
    let mut answer = json!({ "Fragments": fragments.collect::<Vec<_>>() });
    if let (Some(rest), Some(answer)) = (page.rest, answer.as_object_mut()) {
        answer.insert("NextToken".into(), write_token(&rest).into());
    }
    Ok(Json(answer))
}

fn write_token(rest: &Selection) -> String {
    // Names and integers: writing them as JSON cannot fail.
    BASE64.encode(serde_json::to_vec(rest).unwrap_or_default())
}

fn read_token(token: &str) -> Result<Selection, KinesisError> {
    let json = Some(token).filter(|token| token.len() <= MAX_TOKEN_CHARS);
    json.and_then(|token| BASE64.decode(token).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| KinesisError::invalid("NextToken is none that ListFragments answered"))
}

fn missing(name: &str) -> KinesisError {
    KinesisError::invalid(format!("{name} is missing"))
}

/// KVS API, `FragmentNumberString`: 1 to 128 digits. Those of the service have 47, ours 20.
fn check_number(name: &str, number: &str) -> Result<(), KinesisError> {
    let is_number = (1..=MAX_NUMBER_DIGITS).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit());
    let cause = || format!("{name} has to be 1 to {MAX_NUMBER_DIGITS} digits");
    if is_number { Ok(()) } else { Err(KinesisError::invalid(cause())) }
}

fn fragment_number(name: &str, number: &str) -> Result<FragmentNumber, KinesisError> {
    check_number(name, number)?;
    let number = number.parse().map(FragmentNumber);
    number.map_err(|_| KinesisError::invalid(format!("{name} is the number of no fragment")))
}

/// Epoch seconds with a fraction, to the millisecond.
pub(super) fn timestamp(name: &str, seconds: f64) -> Result<Timestamp, KinesisError> {
    // The year 9999.
    const MAX_SECONDS: f64 = 253_402_300_800.0;
    if !(0.0..MAX_SECONDS).contains(&seconds) {
        let message = format!("{name} is {seconds}, and has to be seconds since 1970");
        return Err(KinesisError::invalid(message));
    }
    Ok(Timestamp::from_millis((seconds * 1_000.0).round() as i64))
}

pub(super) fn epoch_seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

/// Who reads media over a connection of its own.
struct Reader {
    service: Arc<Service>,
    principal: Principal,
    device: DeviceId,
    stream: StreamId,
    /// When the right to read is looked up again.
    rights_due: Instant,
    pace: Option<MediaPace>,
    /// Counts it for as long as it reads.
    _reading: Reading,
}

/// Which fragments it reads.
enum Source {
    Follow(Follower),
    List(VecDeque<String>),
    /// None any more: their order cannot be read.
    Ended,
}

impl Reader {
    async fn open(
        call: Call,
        selector: &StreamSelector,
        operation: &'static str,
    ) -> Result<(Self, StreamId), KinesisError> {
        let Selected { device, stream } = call.select(selector, Action::ReadBack).await?;
        admit(&call.service, &stream, operation)?;
        let reading = call.service.throttle.open_reader(stream.id, operation);
        let reading =
            reading.ok_or_else(|| KinesisError::too_many_connections(&stream.media_stream_name))?;
        call.note(AuditAction::Export, stream.id).await;
        let Call { service, principal, .. } = call;
        let pace = service.throttle.read();
        let (device, stream) = (device.id, stream.id);
        let rights_due = Instant::now() + RIGHTS_EVERY;
        let _reading = reading;
        Ok((Self { service, principal, device, stream, rights_due, pace, _reading }, stream))
    }

    /// The next document; `None` at the end.
    async fn next(&mut self, source: &mut Source) -> Option<Payload> {
        if self.rights_due <= Instant::now() && !self.may_read().await {
            return None;
        }
        match source {
            Source::Ended => None,
            Source::List(numbers) => {
                let number = numbers.pop_front()?;
                Some(self.listed(&number).await)
            }
            Source::Follow(follower) => loop {
                let followed = match self.wait(follower).await? {
                    Ok(followed) => followed,
                    Err(error) => {
                        *source = Source::Ended;
                        return Some(self.failed(&error));
                    }
                };
                let Followed { fragment, behind_ms, continue_after } = followed;
                let asked = Asked::InTurn { behind_ms, continue_after };
                match self.service.playback.matroska(self.stream, &fragment, asked).await {
                    Ok(Some(document)) => return Some(document),
                    // Its time was up while the reader was on its way to it.
                    Ok(None) => {}
                    Err(error) => return Some(self.failed(&error)),
                }
            },
        }
    }

    /// The next fragment, once there is one; `None` where there is to be no more.
    async fn wait(&mut self, follower: &mut Follower) -> Option<Result<Followed, StorageError>> {
        let end = time::sleep(MAX_WAIT);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                _ = self.service.stopping() => return None,
                followed = follower.next() => return Some(followed),
                _ = time::sleep_until(self.rights_due) => {
                    if !self.may_read().await {
                        return None;
                    }
                }
                _ = &mut end => return None,
            }
        }
    }

    async fn listed(&self, number: &str) -> Payload {
        let playback = &self.service.playback;
        let found = match number.parse().map(FragmentNumber) {
            Ok(number) => playback.fragment_by_number(self.stream, number).await,
            Err(_) => Ok(None),
        };
        let document = match found {
            Ok(Some(fragment)) => playback.matroska(self.stream, &fragment, Asked::ByNumber).await,
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match document {
            Ok(Some(document)) => document,
            Ok(None) => matroska::exception(number, false).into(),
            Err(error) => {
                tracing::error!(stream = %self.stream, %error, "a fragment was not read");
                matroska::exception(number, true).into()
            }
        }
    }

    fn failed(&self, error: &StorageError) -> Payload {
        tracing::error!(stream = %self.stream, %error, "a fragment was not read");
        matroska::failure().into()
    }

    async fn may_read(&mut self) -> bool {
        self.rights_due = Instant::now() + RIGHTS_EVERY;
        let now = self.service.clock.now();
        if now >= self.principal.expires_at {
            return false;
        }
        let catalog = self.service.storage.catalog.as_ref();
        let decided =
            rights::on_device(catalog, &self.principal, Action::ReadBack, self.device, now).await;
        // A store that does not answer revokes nothing.
        decided.map_or(true, |decision| decision == Decision::Allow)
    }
}

/// Sends documents as the client takes them: one is in memory at a time.
fn answer(reader: Reader, source: Source) -> HttpResponse {
    HttpResponse::Ok().content_type(CONTENT_TYPE).streaming(pieces(reader, source))
}

fn pieces(reader: Reader, source: Source) -> impl Pieces<Item = Result<Bytes, io::Error>> {
    let parts = VecDeque::<Bytes>::new();
    stream::unfold((reader, source, parts), |(mut reader, mut source, mut parts)| async move {
        if parts.is_empty() {
            parts = reader.next(&mut source).await?.into_parts().into();
            if let Some(pace) = &mut reader.pace {
                time::sleep(pace.spend(0, 1, reader.service.clock.now())).await;
            }
        }
        let piece = take_piece(&mut parts);
        let len = piece.len() as u64;
        if let Some(pace) = &mut reader.pace {
            time::sleep(pace.spend(len, 0, reader.service.clock.now())).await;
        }
        reader.service.metrics.bytes_served.add(len);
        Some((Ok(piece), (reader, source, parts)))
    })
}

/// The next part, or the next ones joined where they are small.
fn take_piece(parts: &mut VecDeque<Bytes>) -> Bytes {
    let first = parts.pop_front().unwrap_or_default();
    if first.len() >= PIECE_BYTES {
        return first;
    }
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    piece.extend_from_slice(&first);
    while let Some(next) = parts.pop_front_if(|next| piece.len() + next.len() <= PIECE_BYTES) {
        piece.extend_from_slice(&next);
    }
    piece.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_joined_and_large_ones_handed_on() {
        let sizes = [10, 16 << 10, 20 << 10, 1 << 20, 5, 5, 32 << 10];
        let mut parts: VecDeque<Bytes> =
            sizes.iter().map(|size| Bytes::from(vec![0; *size])).collect();
        let mut pieces = Vec::new();
        while !parts.is_empty() {
            pieces.push(take_piece(&mut parts).len());
        }
        assert_eq!(pieces, [10 + (16 << 10), 20 << 10, 1 << 20, 10, 32 << 10]);
    }

    #[test]
    fn tokens_come_back() {
        let selection = Selection {
            by: SelectorType::ServerTimestamp,
            from_ms: 1,
            to_ms: i64::MAX,
            after: Some(u64::MAX),
        };
        let token = write_token(&selection);
        assert_eq!(read_token(&token).unwrap(), selection);
        for token in ["", "!", "AAAA", &"A".repeat(5_000)] {
            assert!(read_token(token).is_err(), "{token}");
        }
    }
}
