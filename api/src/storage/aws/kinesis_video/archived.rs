//! What a stream has, and how it is played (KVS archived media API).
//!
//! Ranges are by producer time, which is when footage was captured. A range of the service includes
//! both of its ends and goes by when fragments begin, so that one which begins before a range is not
//! of it: callers widen theirs.

use super::fault::{is_dead, refused};
use super::{KinesisArchive, Refused};
use crate::device::Stream;
use crate::segment::TimeRange;
use crate::storage::{
    FragmentPage, ListBy, ListQuery, ListedFragment, MAX_LISTED, StorageError, is_fragment_id,
};
use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesisvideoarchivedmedia::primitives::{ByteStream, DateTime};
use aws_sdk_kinesisvideoarchivedmedia::types::{
    ClipFragmentSelector, ClipFragmentSelectorType, ClipTimestampRange, ContainerFormat,
    DashFragmentSelector, DashFragmentSelectorType, DashPlaybackMode, DashTimestampRange, Format,
    Fragment, FragmentSelector, FragmentSelectorType, HlsDiscontinuityMode,
    HlsDisplayFragmentTimestamp, HlsFragmentSelector, HlsFragmentSelectorType, HlsPlaybackMode,
    HlsTimestampRange, ImageSelectorType, TimestampRange,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use lookback_wire::Timestamp;
use std::error::Error;

/// Fragments that a playlist or manifest of the service holds at most.
pub const MAX_IN_SESSION: usize = 5_000;
/// What an image may be at most, in base64.
const MAX_IMAGE_CHARS: usize = 6_291_456;

/// Media as it comes.
pub type MediaBytes = BoxStream<'static, Result<Bytes, StorageError>>;

/// What a session plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playing {
    Live,
    LiveReplay(Timestamp),
    OnDemand(TimeRange),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    FragmentedMp4,
    TransportStream,
}

/// An MP4 file that the service made.
pub struct Clip {
    /// In bytes, where it was said beforehand.
    pub len: Option<u64>,
    pub bytes: MediaBytes,
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millis())
}

/// The last instant of a range, which the service counts in.
fn last_of(range: TimeRange) -> DateTime {
    time(range.end.plus_millis(-1).max(range.start.plus_millis(1)))
}

/// A required value was left out: a fault of ours.
fn incomplete(error: impl Error) -> Refused {
    StorageError::Unavailable(format!("a request was not made: {error}")).into()
}

impl KinesisArchive {
    /// Reads an answer; an endpoint where nothing answers is asked for again next time.
    fn answered<T, E, R>(
        &self,
        operation: &'static str,
        stream: &str,
        api: &ApiName,
        answer: Result<T, SdkError<E, R>>,
    ) -> Result<T, Refused>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        answer.map_err(|error| {
            if is_dead(&error) {
                self.endpoints.forget(stream, api);
            }
            refused(operation, stream, &error)
        })
    }

    pub(super) async fn list_fragments(
        &self,
        stream: &Stream,
        query: &ListQuery,
    ) -> Result<FragmentPage, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::ListFragments);
        let by = match query.by {
            ListBy::Start => FragmentSelectorType::ProducerTimestamp,
            ListBy::Arrival => FragmentSelectorType::ServerTimestamp,
        };
        let range = TimestampRange::builder()
            .start_timestamp(time(query.range.start))
            .end_timestamp(last_of(query.range))
            .build()
            .map_err(incomplete)?;
        let selector = FragmentSelector::builder()
            .fragment_selector_type(by)
            .timestamp_range(range)
            .build()
            .map_err(incomplete)?;
        let client = self.client_for(name, api.clone()).await?;
        self.rates.turn("ListFragments", name).await?;
        let answer = client
            .list_fragments()
            .stream_name(name)
            .fragment_selector(selector)
            .max_results(query.limit.clamp(1, MAX_LISTED) as i64)
            .set_next_token(query.after.clone())
            .send()
            .await;
        let answer = self.answered("ListFragments", name, &api, answer)?;
        let fragments = answer.fragments().iter().filter_map(listed);
        // What the end's own millisecond let in.
        let within = |fragment: &ListedFragment| {
            query.range.contains(match query.by {
                ListBy::Start => fragment.start,
                ListBy::Arrival => fragment.arrived_at,
            })
        };
        Ok(FragmentPage { fragments: fragments.filter(within).collect(), next: answer.next_token })
    }

    /// The address of a playlist.
    pub async fn hls(
        &self,
        stream: &Stream,
        playing: Playing,
        container: Container,
        life_s: u32,
    ) -> Result<String, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::GetHlsStreamingSessionUrl);
        let range = match playing {
            Playing::Live => None,
            Playing::LiveReplay(start) => {
                Some(HlsTimestampRange::builder().start_timestamp(time(start)).build())
            }
            Playing::OnDemand(range) => Some(
                HlsTimestampRange::builder()
                    .start_timestamp(time(range.start))
                    .end_timestamp(last_of(range))
                    .build(),
            ),
        };
        let selector = HlsFragmentSelector::builder()
            .fragment_selector_type(HlsFragmentSelectorType::ProducerTimestamp)
            .set_timestamp_range(range)
            .build();
        let (mode, most) = match playing {
            Playing::Live => (HlsPlaybackMode::Live, None),
            Playing::LiveReplay(_) => (HlsPlaybackMode::LiveReplay, None),
            Playing::OnDemand(_) => (HlsPlaybackMode::OnDemand, Some(MAX_IN_SESSION as i64)),
        };
        let container = match container {
            Container::FragmentedMp4 => ContainerFormat::FragmentedMp4,
            Container::TransportStream => ContainerFormat::MpegTs,
        };
        let client = self.client_for(name, api.clone()).await?;
        self.rates.turn("GetHLSStreamingSessionURL", name).await?;
        let answer = client
            .get_hls_streaming_session_url()
            .stream_name(name)
            .playback_mode(mode)
            .hls_fragment_selector(selector)
            .container_format(container)
            .discontinuity_mode(HlsDiscontinuityMode::OnDiscontinuity)
            .display_fragment_timestamp(HlsDisplayFragmentTimestamp::Always)
            .expires(i32::try_from(life_s).unwrap_or(i32::MAX))
            .set_max_media_playlist_fragment_results(most)
            .send()
            .await;
        let answer = self.answered("GetHLSStreamingSessionURL", name, &api, answer)?;
        url(answer.hls_streaming_session_url)
    }

    /// The address of a manifest.
    pub async fn dash(
        &self,
        stream: &Stream,
        playing: Playing,
        life_s: u32,
    ) -> Result<String, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::GetDashStreamingSessionUrl);
        let range = match playing {
            Playing::Live => None,
            Playing::LiveReplay(start) => {
                Some(DashTimestampRange::builder().start_timestamp(time(start)).build())
            }
            Playing::OnDemand(range) => Some(
                DashTimestampRange::builder()
                    .start_timestamp(time(range.start))
                    .end_timestamp(last_of(range))
                    .build(),
            ),
        };
        let selector = DashFragmentSelector::builder()
            .fragment_selector_type(DashFragmentSelectorType::ProducerTimestamp)
            .set_timestamp_range(range)
            .build();
        let (mode, most) = match playing {
            Playing::Live => (DashPlaybackMode::Live, None),
            Playing::LiveReplay(_) => (DashPlaybackMode::LiveReplay, None),
            Playing::OnDemand(_) => (DashPlaybackMode::OnDemand, Some(MAX_IN_SESSION as i64)),
        };
        let client = self.client_for(name, api.clone()).await?;
        self.rates.turn("GetDASHStreamingSessionURL", name).await?;
        let answer = client
            .get_dash_streaming_session_url()
            .stream_name(name)
            .playback_mode(mode)
            .dash_fragment_selector(selector)
            .expires(i32::try_from(life_s).unwrap_or(i32::MAX))
            .set_max_manifest_fragment_results(most)
            .send()
            .await;
        let answer = self.answered("GetDASHStreamingSessionURL", name, &api, answer)?;
        url(answer.dash_streaming_session_url)
    }

    /// The fragments that begin in a range as one MP4 file: of long ranges the first 100 MB, or 200
    /// fragments.
    pub async fn clip(&self, stream: &Stream, range: TimeRange) -> Result<Clip, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::GetClip);
        let range = ClipTimestampRange::builder()
            .start_timestamp(time(range.start))
            .end_timestamp(last_of(range))
            .build()
            .map_err(incomplete)?;
        let selector = ClipFragmentSelector::builder()
            .fragment_selector_type(ClipFragmentSelectorType::ProducerTimestamp)
            .timestamp_range(range)
            .build()
            .map_err(incomplete)?;
        let client = self.client_for(name, api.clone()).await?;
        self.rates.turn("GetClip", name).await?;
        let asked = client.get_clip().stream_name(name).clip_fragment_selector(selector);
        let answer = self.answered("GetClip", name, &api, asked.send().await)?;
        let (least, most) = answer.payload.size_hint();
        let len = most.filter(|most| *most == least);
        Ok(Clip { len, bytes: media_bytes(answer.payload) })
    }

    /// Fragments as Matroska, as they were uploaded, each a document of its own.
    pub async fn read(&self, stream: &Stream, ids: &[String]) -> Result<MediaBytes, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::GetMediaForFragmentList);
        let client = self.client_for(name, api.clone()).await?;
        let asked = client.get_media_for_fragment_list().stream_name(name);
        let answer = asked.set_fragments(Some(ids.to_vec())).send().await;
        let answer = self.answered("GetMediaForFragmentList", name, &api, answer)?;
        Ok(media_bytes(answer.payload))
    }

    /// The picture that a stream shows at an instant, as a JPEG of its own size.
    pub async fn image(&self, stream: &Stream, at: Timestamp) -> Result<Option<Bytes>, Refused> {
        let (name, api) = (&stream.media_stream_name, ApiName::GetImages);
        let client = self.client_for(name, api.clone()).await?;
        self.rates.turn("GetImages", name).await?;
        let answer = client
            .get_images()
            .stream_name(name)
            .image_selector_type(ImageSelectorType::ProducerTimestamp)
            .start_timestamp(time(at))
            // Shorter than any interval: the picture at the start.
            .end_timestamp(time(at.plus_millis(1)))
            .sampling_interval(MIN_INTERVAL_MS)
            .format(Format::Jpeg)
            .max_results(1)
            .send()
            .await;
        let answer = self.answered("GetImages", name, &api, answer)?;
        let text = answer.images().first().and_then(|image| image.image_content());
        let text = text.filter(|text| text.len() <= MAX_IMAGE_CHARS);
        Ok(text.and_then(|text| STANDARD.decode(text).ok()).map(Bytes::from))
    }
}

/// The shortest time between two images of one answer.
const MIN_INTERVAL_MS: i32 = 200;

fn listed(fragment: &Fragment) -> Option<ListedFragment> {
    Some(ListedFragment {
        id: fragment.fragment_number().filter(|id| is_fragment_id(id))?.to_owned(),
        start: instant(fragment.producer_timestamp()?)?,
        arrived_at: instant(fragment.server_timestamp()?)?,
        duration_ms: u32::try_from(fragment.fragment_length_in_milliseconds()).unwrap_or(0),
        bytes: u64::try_from(fragment.fragment_size_in_bytes()).unwrap_or(0),
    })
}

/// To the nearest millisecond: it came as seconds in floating point, a little off.
fn instant(time: &DateTime) -> Option<Timestamp> {
    let ms = (time.as_nanos() + 500_000).div_euclid(1_000_000);
    i64::try_from(ms).ok().map(Timestamp::from_millis)
}

fn url(url: Option<String>) -> Result<String, Refused> {
    url.ok_or_else(|| StorageError::Unavailable("a session came without address".into()).into())
}

fn media_bytes(payload: ByteStream) -> MediaBytes {
    let unread = |error: aws_sdk_kinesisvideoarchivedmedia::primitives::ByteStreamError| {
        StorageError::Unavailable(format!("media broke off: {error}"))
    };
    stream::try_unfold(payload, move |mut payload| async move {
        Ok(payload.try_next().await.map_err(unread)?.map(|bytes| (bytes, payload)))
    })
    .boxed()
}
