//! Playback of what was archived (KVS archived media API, 2017-09-30): sessions for players, clips
//! and pictures.

use super::call::{Answer, Call};
use super::error::KinesisError;
use super::media::{epoch_seconds, timestamp};
use super::select::{Selected, StreamSelector};
use super::settings;
use super::streams::{check_kept_at, kept_hours_of};
use crate::access::Action;
use crate::audit::AuditAction;
use crate::playback::kinesis::images::{ImagesError, NoImage, Size};
use crate::playback::kinesis::token::{DiscontinuityMode, Protocol, Rules, TimestampType};
use crate::playback::kinesis::{Mode, NoSession, Request};
use crate::playback::picture::Format;
use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::web::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use lookback_wire::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// `Expires`, in seconds.
const EXPIRES_S: std::ops::RangeInclusive<u32> = 300..=43_200;
const DEFAULT_EXPIRES_S: u32 = 300;
/// `MaxMediaPlaylistFragmentResults` and `MaxManifestFragmentResults`.
const MAX_RESULTS: std::ops::RangeInclusive<u16> = 1..=5_000;
const DEFAULT_LIVE_RESULTS: u16 = 5;
const DEFAULT_ON_DEMAND_RESULTS: u16 = 1_000;
/// What the images of one question may span.
const MAX_IMAGES_RANGE_MS: i64 = 300 * 1_000;
const MIN_SAMPLING_INTERVAL_MS: i64 = 200;
/// Where none is given: as often as the first release of the API allowed at most.
const DEFAULT_SAMPLING_INTERVAL_MS: i64 = 3_000;
const MAX_IMAGES: std::ops::RangeInclusive<usize> = 1..=100;
/// What one answer holds at most, whatever was asked for.
const IMAGES_PAGE: usize = 25;
const MAX_IMAGE_WIDTH: u32 = 3_840;
const MAX_IMAGE_HEIGHT: u32 = 2_160;
/// Of one image, in base64.
const MAX_IMAGE_CHARS: usize = 6 << 20;
/// Of one answer, but for its last image: all of it is in memory at once.
const FULL_PAGE_CHARS: usize = 16 << 20;
const DEFAULT_JPEG_QUALITY: u8 = 80;
const MAX_TOKEN_CHARS: usize = 4_096;
/// What one session may span.
const MAX_RANGE_MS: i64 = 24 * 3_600 * 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetHlsStreamingSessionUrl {
    #[serde(flatten)]
    stream: StreamSelector,
    #[serde(default)]
    playback_mode: PlaybackMode,
    #[serde(rename = "HLSFragmentSelector")]
    fragment_selector: Option<FragmentSelector>,
    #[serde(default)]
    container_format: ContainerFormat,
    discontinuity_mode: Option<Discontinuities>,
    #[serde(default)]
    display_fragment_timestamp: Display,
    expires: Option<u32>,
    max_media_playlist_fragment_results: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum PlaybackMode {
    #[default]
    Live,
    LiveReplay,
    OnDemand,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ContainerFormat {
    #[default]
    #[serde(rename = "FRAGMENTED_MP4")]
    FragmentedMp4,
    MpegTs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Discontinuities {
    Always,
    Never,
    OnDiscontinuity,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Display {
    Always,
    #[default]
    Never,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FragmentSelector {
    fragment_selector_type: Option<SelectorType>,
    timestamp_range: Option<TimestampRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SelectorType {
    ServerTimestamp,
    ProducerTimestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimestampRange {
    start_timestamp: Option<f64>,
    end_timestamp: Option<f64>,
}

impl From<SelectorType> for TimestampType {
    fn from(selector: SelectorType) -> Self {
        match selector {
            SelectorType::ServerTimestamp => Self::Server,
            SelectorType::ProducerTimestamp => Self::Producer,
        }
    }
}

/// `POST /getHLSStreamingSessionURL`
pub async fn get_hls_streaming_session_url(call: Call) -> Answer {
    let input: GetHlsStreamingSessionUrl = call.input()?;
    let now = call.service.clock.now();
    let selector = input.fragment_selector.unwrap_or_default();
    let (mode, by) = selector.mode("HLSFragmentSelector", input.playback_mode, now)?;
    let discontinuities = match (input.discontinuity_mode, by) {
        (Some(Discontinuities::Always), _) | (None, TimestampType::Server) => {
            DiscontinuityMode::Always
        }
        (Some(Discontinuities::Never), _) | (None, TimestampType::Producer) => {
            DiscontinuityMode::Never
        }
        (Some(Discontinuities::OnDiscontinuity), _) => DiscontinuityMode::OnDiscontinuity,
    };
    let rules = Rules {
        protocol: match input.container_format {
            ContainerFormat::FragmentedMp4 => Protocol::HlsFragmentedMp4,
            ContainerFormat::MpegTs => Protocol::HlsMpegTs,
        },
        by,
        discontinuities,
        shows_timestamps: input.display_fragment_timestamp == Display::Always,
        shows_numbers: false,
        max_fragments: max_fragments(
            "MaxMediaPlaylistFragmentResults",
            input.max_media_playlist_fragment_results,
            mode,
        )?,
    };
    let request = Request { mode, rules, expires_in_s: expires_in_s(input.expires)? };
    let token = mint(&call, &input.stream, request).await?;
    let url = format!("{}/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken={token}", call.base_url);
    Ok(Json(json!({ "HLSStreamingSessionURL": url })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetDashStreamingSessionUrl {
    #[serde(flatten)]
    stream: StreamSelector,
    #[serde(default)]
    playback_mode: PlaybackMode,
    #[serde(rename = "DASHFragmentSelector")]
    fragment_selector: Option<FragmentSelector>,
    #[serde(default)]
    display_fragment_timestamp: Display,
    #[serde(default)]
    display_fragment_number: Display,
    expires: Option<u32>,
    max_manifest_fragment_results: Option<u16>,
}

/// `POST /getDASHStreamingSessionURL`
pub async fn get_dash_streaming_session_url(call: Call) -> Answer {
    let input: GetDashStreamingSessionUrl = call.input()?;
    let now = call.service.clock.now();
    let selector = input.fragment_selector.unwrap_or_default();
    let (mode, by) = selector.mode("DASHFragmentSelector", input.playback_mode, now)?;
    let asked = input.max_manifest_fragment_results;
    let rules = Rules {
        protocol: Protocol::Dash,
        by,
        discontinuities: DiscontinuityMode::OnDiscontinuity,
        shows_timestamps: input.display_fragment_timestamp == Display::Always,
        shows_numbers: input.display_fragment_number == Display::Always,
        max_fragments: max_fragments("MaxManifestFragmentResults", asked, mode)?,
    };
    let request = Request { mode, rules, expires_in_s: expires_in_s(input.expires)? };
    let token = mint(&call, &input.stream, request).await?;
    let url = format!("{}/dash/v1/getDASHManifest.mpd?SessionToken={token}", call.base_url);
    Ok(Json(json!({ "DASHStreamingSessionURL": url })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetClip {
    #[serde(flatten)]
    stream: StreamSelector,
    clip_fragment_selector: ClipFragmentSelector,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ClipFragmentSelector {
    fragment_selector_type: SelectorType,
    timestamp_range: ClipTimestampRange,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ClipTimestampRange {
    start_timestamp: f64,
    end_timestamp: f64,
}

/// `POST /getClip`: the file itself.
pub async fn get_clip(call: Call) -> Result<HttpResponse, KinesisError> {
    let input: GetClip = call.input()?;
    let selector = input.clip_fragment_selector;
    let range = selector.timestamp_range;
    let name = "ClipFragmentSelector.TimestampRange";
    let start = timestamp(&format!("{name}.StartTimestamp"), range.start_timestamp)?;
    let end = timestamp(&format!("{name}.EndTimestamp"), range.end_timestamp)?;
    check_range("ClipFragmentSelector", start, end)?;
    let selected = select_kept(&call, &input.stream).await?;
    let by = selector.fragment_selector_type.into();
    let service = call.service.clone();
    let clip = match service.playback.kinesis_clip(&selected.stream, by, start, end).await {
        Ok(clip) => clip,
        Err(error) => return Err(refusal(&call, &selected, by, Some(end), error).await),
    };
    call.note(AuditAction::Export, selected.stream.id).await;
    let bytes = clip
        .read(0..clip.len())
        .inspect_ok(move |bytes| service.metrics.bytes_served.add(bytes.len() as u64))
        .inspect_err(|error| tracing::error!(%error, "a clip was cut short"));
    Ok(HttpResponse::Ok()
        .content_type("video/mp4")
        .body(SizedStream::new(clip.len(), Box::pin(bytes))))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetImages {
    #[serde(flatten)]
    stream: StreamSelector,
    image_selector_type: SelectorType,
    start_timestamp: f64,
    end_timestamp: f64,
    sampling_interval: Option<i64>,
    format: ImageFormat,
    format_config: Option<HashMap<String, String>>,
    width_pixels: Option<u32>,
    height_pixels: Option<u32>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum ImageFormat {
    #[serde(rename = "JPEG")]
    Jpeg,
    #[serde(rename = "PNG")]
    Png,
}

/// Which instants a page of images is of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instants {
    page: Vec<Timestamp>,
    /// Where the next page begins.
    next: Option<Timestamp>,
}

/// `POST /getImages`
pub async fn get_images(call: Call) -> Answer {
    let input: GetImages = call.input()?;
    let format = input.format()?;
    let size = input.size()?;
    let instants = input.instants()?;
    let Selected { stream, .. } = select_kept(&call, &input.stream).await?;
    let playback = &call.service.playback;
    let mut images = Vec::with_capacity(instants.page.len());
    let mut next = instants.next;
    for at in instants.page {
        if is_full(&images) {
            next = Some(at);
            break;
        }
        let by = input.image_selector_type.into();
        let made = playback.image(stream.id, by, at, size, format).await?;
        let content = made.map(|image| STANDARD.encode(image));
        let seconds = epoch_seconds(at);
        images.push(match content {
            Ok(content) if content.len() <= MAX_IMAGE_CHARS => {
                json!({ "TimeStamp": seconds, "ImageContent": content })
            }
            Err(NoImage::NoMedia) => json!({ "TimeStamp": seconds, "Error": "NO_MEDIA" }),
            Ok(_) | Err(NoImage::MediaError) => {
                json!({ "TimeStamp": seconds, "Error": "MEDIA_ERROR" })
            }
        });
    }
    if images.iter().any(|image| image["ImageContent"].is_string()) {
        call.note_look(stream.id).await;
    }
    let mut answer = json!({ "Images": images });
    if let Some(next) = next {
        answer["NextToken"] = STANDARD.encode(next.as_millis().to_string()).into();
    }
    Ok(Json(answer))
}

/// Whether one answer holds no more pictures.
fn is_full(images: &[Value]) -> bool {
    let chars = |image: &Value| image["ImageContent"].as_str().map_or(0, str::len);
    images.iter().map(chars).sum::<usize>() >= FULL_PAGE_CHARS
}

impl GetImages {
    fn format(&self) -> Result<Format, KinesisError> {
        let mut quality = DEFAULT_JPEG_QUALITY;
        if self.format_config.as_ref().is_some_and(HashMap::is_empty) {
            return Err(KinesisError::invalid("FormatConfig is empty"));
        }
        for (name, value) in self.format_config.iter().flatten() {
            if name != "JPEGQuality" || self.format != ImageFormat::Jpeg {
                let message =
                    format!("FormatConfig has {name:?}, and may have JPEGQuality of a JPEG");
                return Err(KinesisError::invalid(message));
            }
            quality = value.parse().ok().filter(|q| (1..=100).contains(q)).ok_or_else(|| {
                KinesisError::invalid(format!("JPEGQuality is {value:?}, and has to be 1 to 100"))
            })?;
        }
        Ok(match self.format {
            ImageFormat::Jpeg => Format::Jpeg { quality },
            ImageFormat::Png => Format::Png,
        })
    }

    fn size(&self) -> Result<Size, KinesisError> {
        for (name, pixels, most) in [
            ("WidthPixels", self.width_pixels, MAX_IMAGE_WIDTH),
            ("HeightPixels", self.height_pixels, MAX_IMAGE_HEIGHT),
        ] {
            if let Some(pixels) = pixels.filter(|pixels| !(1..=most).contains(pixels)) {
                let message = format!("{name} is {pixels}, and has to be 1 to {most}");
                return Err(KinesisError::invalid(message));
            }
        }
        if self.width_pixels.is_some() && self.height_pixels.is_none() {
            return Err(KinesisError::invalid("WidthPixels needs HeightPixels beside it"));
        }
        Ok(Size { width: self.width_pixels, height: self.height_pixels })
    }

    fn instants(&self) -> Result<Instants, KinesisError> {
        let start = timestamp("StartTimestamp", self.start_timestamp)?;
        let end = timestamp("EndTimestamp", self.end_timestamp)?;
        let span_ms = end.millis_since(start);
        if span_ms <= 0 {
            return Err(KinesisError::invalid("EndTimestamp has to be after StartTimestamp"));
        }
        if span_ms > MAX_IMAGES_RANGE_MS {
            let most_s = MAX_IMAGES_RANGE_MS / 1_000;
            let message = format!("EndTimestamp is more than {most_s} s after StartTimestamp");
            return Err(KinesisError::invalid(message));
        }
        let step_ms = self.sampling_interval.unwrap_or(DEFAULT_SAMPLING_INTERVAL_MS);
        if step_ms < MIN_SAMPLING_INTERVAL_MS {
            let least = MIN_SAMPLING_INTERVAL_MS;
            let message = format!("SamplingInterval is {step_ms}, and has to be at least {least}");
            return Err(KinesisError::invalid(message));
        }
        let count = self.max_results.unwrap_or(IMAGES_PAGE);
        if !MAX_IMAGES.contains(&count) {
            let (min, max) = (MAX_IMAGES.start(), MAX_IMAGES.end());
            let message = format!("MaxResults is {count}, and has to be {min} to {max}");
            return Err(KinesisError::invalid(message));
        }
        let first = match &self.next_token {
            Some(token) => read_images_token(token)
                .filter(|at| {
                    let ahead_ms = at.millis_since(start);
                    (0..span_ms).contains(&ahead_ms) && ahead_ms % step_ms == 0
                })
                .ok_or_else(|| KinesisError::invalid("NextToken is not of this request"))?,
            None => start,
        };
        let at = |n: usize| first.plus_millis(step_ms.saturating_mul(n as i64));
        let page: Vec<Timestamp> =
            (0..count.min(IMAGES_PAGE)).map(at).take_while(|at| *at < end).collect();
        let next = Some(at(page.len())).filter(|next| *next < end);
        Ok(Instants { page, next })
    }
}

fn read_images_token(token: &str) -> Option<Timestamp> {
    if token.len() > MAX_TOKEN_CHARS {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    text.parse().ok().map(Timestamp::from_millis)
}

impl From<ImagesError> for KinesisError {
    fn from(error: ImagesError) -> Self {
        match error {
            ImagesError::Busy => Self::unavailable("too many pictures are being made"),
            ImagesError::Storage(error) => error.into(),
        }
    }
}

/// The stream that a request names, if its footage is kept at all.
async fn select_kept(call: &Call, stream: &StreamSelector) -> Result<Selected, KinesisError> {
    let selected = call.select(stream, Action::ReadBack).await?;
    let settings = settings::read(call, &selected.stream).await?;
    if kept_hours_of(call, &selected.device, &settings).await? == 0 {
        let message = "the stream's data retention is 0 hours";
        return Err(KinesisError::bad_request("NoDataRetentionException", message));
    }
    Ok(selected)
}

/// Why there is nothing to play of a range that ends at `end`.
async fn refusal(
    call: &Call,
    selected: &Selected,
    by: TimestampType,
    end: Option<Timestamp>,
    error: NoSession,
) -> KinesisError {
    if let (NoSession::NotFound(_), TimestampType::Server, Some(end)) = (&error, by, end)
        && let Err(outside) = check_kept_at(call, selected, end).await
    {
        return outside;
    }
    error.into()
}

async fn mint(
    call: &Call,
    stream: &StreamSelector,
    request: Request,
) -> Result<String, KinesisError> {
    let selected = select_kept(call, stream).await?;
    let playback = &call.service.playback;
    let minted = playback.kinesis_session(&call.principal, &selected.stream, request).await;
    let (by, end) = (request.rules.by, request.mode.end());
    match minted {
        Ok(token) => {
            call.note(AuditAction::View, selected.stream.id).await;
            Ok(token)
        }
        Err(error) => Err(refusal(call, &selected, by, end, error).await),
    }
}

impl FragmentSelector {
    /// What is to be played, and whose clock its times are of.
    fn mode(
        &self,
        name: &str,
        mode: PlaybackMode,
        now: Timestamp,
    ) -> Result<(Mode, TimestampType), KinesisError> {
        let range = self.timestamp_range.as_ref();
        if mode == PlaybackMode::Live {
            if range.is_some() {
                let message = format!("{name}.TimestampRange has to be left out for LIVE");
                return Err(KinesisError::invalid(message));
            }
            let by = self.fragment_selector_type.unwrap_or(SelectorType::ServerTimestamp);
            return Ok((Mode::Live, by.into()));
        }
        let required = |what: &str| {
            let mode = if mode == PlaybackMode::OnDemand { "ON_DEMAND" } else { "LIVE_REPLAY" };
            KinesisError::invalid(format!("{name}.{what} is required for {mode}"))
        };
        let by = self.fragment_selector_type.ok_or_else(|| required("FragmentSelectorType"))?;
        let range = range.ok_or_else(|| required("TimestampRange"))?;
        let part = |what: &'static str, seconds: Option<f64>| {
            seconds.map(|seconds| timestamp(&format!("{name}.TimestampRange.{what}"), seconds))
        };
        let start = part("StartTimestamp", range.start_timestamp)
            .ok_or_else(|| required("TimestampRange.StartTimestamp"))??;
        let end = part("EndTimestamp", range.end_timestamp).transpose()?;
        if let Some(end) = end {
            check_range(name, start, end)?;
            if by == SelectorType::ServerTimestamp && end > now {
                let message = format!("{name}.TimestampRange.EndTimestamp has to be in the past");
                return Err(KinesisError::invalid(message));
            }
        }
        let mode = match (mode, end) {
            (PlaybackMode::OnDemand, Some(end)) => Mode::OnDemand { start, end },
            (PlaybackMode::OnDemand, None) => return Err(required("TimestampRange.EndTimestamp")),
            _ => Mode::LiveReplay { start, end },
        };
        Ok((mode, by.into()))
    }
}

fn check_range(name: &str, start: Timestamp, end: Timestamp) -> Result<(), KinesisError> {
    let cause = match end.millis_since(start) {
        ..=0 => "EndTimestamp has to be after StartTimestamp",
        1..=MAX_RANGE_MS => return Ok(()),
        _ => "EndTimestamp has to be at most 24 hours after StartTimestamp",
    };
    Err(KinesisError::invalid(format!("{name}.TimestampRange: {cause}")))
}

fn expires_in_s(expires: Option<u32>) -> Result<u32, KinesisError> {
    let expires_s = expires.unwrap_or(DEFAULT_EXPIRES_S);
    if EXPIRES_S.contains(&expires_s) {
        return Ok(expires_s);
    }
    let (min, max) = (EXPIRES_S.start(), EXPIRES_S.end());
    Err(KinesisError::invalid(format!("Expires is {expires_s}, and has to be {min} to {max}")))
}

fn max_fragments(name: &str, asked: Option<u16>, mode: Mode) -> Result<u16, KinesisError> {
    let count = asked.unwrap_or(match mode {
        Mode::OnDemand { .. } => DEFAULT_ON_DEMAND_RESULTS,
        Mode::Live | Mode::LiveReplay { .. } => DEFAULT_LIVE_RESULTS,
    });
    if MAX_RESULTS.contains(&count) {
        return Ok(count);
    }
    let (min, max) = (MAX_RESULTS.start(), MAX_RESULTS.end());
    Err(KinesisError::invalid(format!("{name} is {count}, and has to be {min} to {max}")))
}

impl From<NoSession> for KinesisError {
    fn from(error: NoSession) -> Self {
        match error {
            NoSession::NotFound(message) => Self::not_found(message),
            NoSession::UnsupportedMedia(message) => {
                Self::bad_request("UnsupportedStreamMediaTypeException", message)
            }
            NoSession::MissingCodecPrivateData(message) => {
                Self::bad_request("MissingCodecPrivateDataException", message)
            }
            NoSession::InvalidCodecPrivateData(message) => {
                Self::bad_request("InvalidCodecPrivateDataException", message)
            }
            NoSession::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_329_502_534);

    /// What a request comes to, or the beginning of what it is told.
    fn check(input: Value, expected: Result<(Mode, TimestampType), &str>) {
        let input: GetHlsStreamingSessionUrl = serde_json::from_value(input).unwrap();
        let selector = input.fragment_selector.unwrap_or_default();
        match (selector.mode("S", input.playback_mode, NOW), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{error} for {expected}");
            }
            (found, expected) => panic!("{found:?} for {expected:?}"),
        }
    }

    #[test]
    fn what_is_to_be_played() {
        use TimestampType::{Producer, Server};
        let at = Timestamp::from_millis;
        let selector = |kind: &str, start: Value, end: Value| {
            json!({ "FragmentSelectorType": kind,
                    "TimestampRange": { "StartTimestamp": start, "EndTimestamp": end } })
        };
        let asked = |mode: &str, selector: Value| json!({ "StreamName": "s", "PlaybackMode": mode, "HLSFragmentSelector": selector });
        let server = |start, end| selector("SERVER_TIMESTAMP", start, end);
        let producer = |start, end| selector("PRODUCER_TIMESTAMP", start, end);
        check(json!({ "StreamName": "s" }), Ok((Mode::Live, Server)));
        check(
            asked("LIVE", json!({ "FragmentSelectorType": "PRODUCER_TIMESTAMP" })),
            Ok((Mode::Live, Producer)),
        );
        check(asked("LIVE", server(json!(1), json!(2))), Err("left out for LIVE"));
        let span = Mode::OnDemand { start: at(1_500), end: at(2_000) };
        check(asked("ON_DEMAND", server(json!(1.5), json!(2))), Ok((span, Server)));
        check(asked("ON_DEMAND", producer(json!(1.5), json!(2.0))), Ok((span, Producer)));
        check(asked("ON_DEMAND", Value::Null), Err("FragmentSelectorType is required"));
        check(
            asked("ON_DEMAND", json!({ "FragmentSelectorType": "SERVER_TIMESTAMP" })),
            Err("TimestampRange is required for ON_DEMAND"),
        );
        check(asked("ON_DEMAND", server(Value::Null, json!(2))), Err("StartTimestamp is required"));
        check(asked("ON_DEMAND", server(json!(1), Value::Null)), Err("EndTimestamp is required"));
        check(asked("ON_DEMAND", server(json!(2), json!(2))), Err("after StartTimestamp"));
        check(asked("ON_DEMAND", server(json!(0), json!(86_400.001))), Err("at most 24 hours"));
        let future_s = NOW.as_millis() as f64 / 1_000.0 + 1.0;
        let recent = json!(future_s - 60.0);
        check(asked("ON_DEMAND", server(recent.clone(), json!(future_s))), Err("in the past"));
        let (start, end) = (NOW.plus_millis(-59_000), NOW.plus_millis(1_000));
        check(
            asked("ON_DEMAND", producer(recent.clone(), json!(future_s))),
            Ok((Mode::OnDemand { start, end }, Producer)),
        );
        check(
            asked("LIVE_REPLAY", server(recent, Value::Null)),
            Ok((Mode::LiveReplay { start, end: None }, Server)),
        );
        check(asked("LIVE_REPLAY", Value::Null), Err("is required for LIVE_REPLAY"));
        check(asked("ON_DEMAND", server(json!(-1), json!(2))), Err("seconds since 1970"));
        check(asked("ON_DEMAND", server(json!(1e300), json!(2))), Err("seconds since 1970"));
    }

    #[test]
    fn instants_come_in_pages() {
        let at = Timestamp::from_millis;
        let base = || {
            json!({ "StreamName": "s", "ImageSelectorType": "SERVER_TIMESTAMP", "Format": "JPEG",
                    "StartTimestamp": 100, "EndTimestamp": 110, "SamplingInterval": 1_000 })
        };
        let with = |changes: Value| {
            let mut input = base();
            for (name, value) in changes.as_object().unwrap() {
                input[name] = value.clone();
            }
            serde_json::from_value::<GetImages>(input).unwrap()
        };
        let found = with(json!({})).instants().unwrap();
        assert_eq!((found.page.len(), found.next), (10, None));
        let found = with(json!({ "MaxResults": 4 })).instants().unwrap();
        assert_eq!((found.page[3], found.next), (at(103_000), Some(at(104_000))));
        let token = STANDARD.encode("108000");
        let found = with(json!({ "MaxResults": 4, "NextToken": token })).instants().unwrap();
        assert_eq!((found.page, found.next), (vec![at(108_000), at(109_000)], None));
        let found = with(json!({ "MaxResults": 100, "SamplingInterval": 200 })).instants().unwrap();
        assert_eq!((found.page.len(), found.next), (25, Some(at(105_000))));
        let found = with(json!({ "SamplingInterval": 60_000 })).instants().unwrap();
        assert_eq!((found.page, found.next), (vec![at(100_000)], None));
        for (changes, cause) in [
            (json!({ "EndTimestamp": 100 }), "after StartTimestamp"),
            (json!({ "EndTimestamp": 400.001 }), "more than 300 s"),
            (json!({ "SamplingInterval": 199 }), "at least 200"),
            (json!({ "MaxResults": 0 }), "1 to 100"),
            (json!({ "MaxResults": 101 }), "1 to 100"),
            (json!({ "NextToken": STANDARD.encode("108001") }), "not of this request"),
            (json!({ "NextToken": STANDARD.encode("110000") }), "not of this request"),
            (json!({ "NextToken": "?" }), "not of this request"),
        ] {
            let error = with(changes).instants().unwrap_err().to_string();
            assert!(error.contains(cause), "{error} for {cause}");
        }
        for (changes, cause) in [
            (json!({ "FormatConfig": { "JPEGQuality": "0" } }), "1 to 100"),
            (json!({ "FormatConfig": { "JPEGQuality": "101" } }), "1 to 100"),
            (json!({ "FormatConfig": { "Quality": "1" } }), "may have JPEGQuality"),
            (json!({ "Format": "PNG", "FormatConfig": { "JPEGQuality": "9" } }), "of a JPEG"),
        ] {
            let error = with(changes).format().unwrap_err().to_string();
            assert!(error.contains(cause), "{error} for {cause}");
        }
        for (changes, cause) in [
            (json!({ "WidthPixels": 100 }), "needs HeightPixels"),
            (json!({ "WidthPixels": 3_841, "HeightPixels": 1 }), "1 to 3840"),
            (json!({ "HeightPixels": 0 }), "1 to 2160"),
        ] {
            let error = with(changes).size().unwrap_err().to_string();
            assert!(error.contains(cause), "{error} for {cause}");
        }
    }

    #[test]
    fn an_answer_is_full_where_its_images_are_large() {
        let image = |chars: usize| json!({ "TimeStamp": 1.5, "ImageContent": "A".repeat(chars) });
        let empty = json!({ "TimeStamp": 1.5, "Error": "NO_MEDIA" });
        assert!(!is_full(&[]) && !is_full(&vec![empty.clone(); IMAGES_PAGE]));
        assert!(!is_full(&[image(MAX_IMAGE_CHARS), image(MAX_IMAGE_CHARS)]));
        assert!(is_full(&[image(MAX_IMAGE_CHARS), empty, image(10 << 20)]));
    }

    #[test]
    fn numbers_have_bounds() {
        for (expires, expected) in [
            (None, Some(300)),
            (Some(299), None),
            (Some(43_200), Some(43_200)),
            (Some(43_201), None),
        ] {
            assert_eq!(expires_in_s(expires).ok(), expected, "{expires:?}");
        }
        let on_demand = Mode::OnDemand { start: NOW, end: NOW };
        for (asked, mode, expected) in [
            (None, Mode::Live, Some(5)),
            (None, Mode::LiveReplay { start: NOW, end: None }, Some(5)),
            (None, on_demand, Some(1_000)),
            (Some(0), on_demand, None),
            (Some(5_000), on_demand, Some(5_000)),
            (Some(5_001), Mode::Live, None),
        ] {
            assert_eq!(max_fragments("M", asked, mode).ok(), expected, "{asked:?}");
        }
    }
}
