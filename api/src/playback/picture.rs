//! Still pictures of a stream: key frames, decoded and scaled when somebody fetches them.
//!
//! A link names an instant and a width; what it shows is the key frame at or just before that
//! instant, within the fragment that is there. Only H.264 is decoded. Pictures that were made are
//! kept in a small cache on disk, which is asked only about fragments that the archive still has.
//! Pictures that came with events are served beside them.

mod cache;
mod pool;
mod still;

pub use pool::Busy;
pub use still::Format;

use super::listing::opens;
use super::token::{Holder, MediaToken, Span};
use super::{MediaError, Playback, SessionError, Unavailable, UnavailableCode};
use crate::access::Principal;
use crate::device::Stream;
use crate::event::{Event, EventId};
use crate::id::{SessionId, StreamId};
use crate::segment::TimeRange;
use crate::storage::{
    FragmentQuery, FragmentRecord, Media, RangeBy, StorageError, TimeOrder, TrackSpan,
};
use crate::thumbnail::{self, size_within};
use bytes::Bytes;
use cache::Cache;
use lookback_packaging::TrackInit;
use lookback_packaging::mp4::{self, Sample};
use lookback_wire::codec::CodecConfig;
use lookback_wire::codec::h264::AvcConfig;
use lookback_wire::{FragmentNumber, Timestamp};
use pool::Pool;
use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Widths that may be asked for, in pixels; wider than its footage no picture gets.
pub const WIDTHS: std::ops::RangeInclusive<u32> = 16..=1_920;
/// Thumbnails of one question.
pub const MAX_THUMBNAILS: usize = 100;
/// Small, and no flaw is seen at the size of a thumbnail.
const JPEG_QUALITY: u8 = 80;
/// How far before an instant a picture is looked for.
pub(super) const MAX_BACK_MS: i64 = 24 * 3_600 * 1_000;
/// Fragments that may hold one instant: what a camera sent again, cut elsewhere.
const MAX_OVERLAPPING: usize = 4;
/// A picture outlives its footage by at most this, and the time that the sweep takes.
const SWEEP_EVERY: Duration = Duration::from_secs(20 * 60);

/// Makes pictures and keeps them for a while.
#[derive(Debug)]
pub struct Pictures {
    pool: Pool,
    cache: Cache,
    /// How long a link works.
    life_s: u32,
}

impl Pictures {
    /// Keeps at most `cap_bytes` of them in `dir`, which is made if absent; links work for `life_s`.
    pub fn open(dir: &Path, cap_bytes: u64, life_s: u32) -> io::Result<Self> {
        Ok(Self { pool: Pool::default(), cache: Cache::open(dir, cap_bytes)?, life_s })
    }
}

/// A signed link to a JPEG that is made when it is fetched.
#[derive(Clone, Debug)]
pub struct PictureLink {
    /// The instant that it shows.
    pub at: Timestamp,
    /// Below the service's own address, without a slash before it; a bearer secret.
    pub path: String,
    /// Width and height in pixels, where they are known before the picture is made.
    pub size: Option<(u32, u32)>,
    pub expires_at: Timestamp,
}

/// The name of a picture in a session: `{at_ms}-{width}.jpg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureName {
    pub at: Timestamp,
    pub width: u32,
}

impl fmt::Display for PictureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.jpg", self.at.as_millis(), self.width)
    }
}

/// The name of a picture that came with an event, in a session: `{event}-{width}.jpg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPictureName {
    pub event: EventId,
    pub width: u32,
}

impl fmt::Display for EventPictureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.jpg", self.event, self.width)
    }
}

impl FromStr for EventPictureName {
    type Err = NoPictureName;

    fn from_str(text: &str) -> Result<Self, NoPictureName> {
        let stem = text.strip_suffix(".jpg").ok_or(NoPictureName)?;
        let (event, width) = stem.split_once('-').ok_or(NoPictureName)?;
        let event = event.parse().map_err(|_| NoPictureName)?;
        let width = width.parse().ok().filter(|w| WIDTHS.contains(w)).ok_or(NoPictureName)?;
        let name = Self { event, width };
        if name.to_string() == text { Ok(name) } else { Err(NoPictureName) }
    }
}

/// Text that names no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPictureName;

impl FromStr for PictureName {
    type Err = NoPictureName;

    fn from_str(text: &str) -> Result<Self, NoPictureName> {
        let stem = text.strip_suffix(".jpg").ok_or(NoPictureName)?;
        let (at, width) = stem.split_once('-').ok_or(NoPictureName)?;
        let at = at.parse::<i64>().map_err(|_| NoPictureName)?;
        let width = width.parse().ok().filter(|w| WIDTHS.contains(w)).ok_or(NoPictureName)?;
        let name = Self { at: Timestamp::from_millis(at), width };
        // One spelling each, so that caches hold it once.
        if name.to_string() == text { Ok(name) } else { Err(NoPictureName) }
    }
}

/// What a picture was made of; its file's name in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PictureKey {
    stream: StreamId,
    /// The fragment's.
    start: Timestamp,
    number: FragmentNumber,
    at: Timestamp,
    width: u32,
}

impl fmt::Display for PictureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, at) = (self.start.as_millis(), self.at.as_millis());
        write!(f, "{}-{start}-{}-{at}-{}.jpg", self.stream, self.number.0, self.width)
    }
}

impl PictureKey {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(".jpg")?.split('-');
        let key = Self {
            stream: parts.next()?.parse().ok()?,
            start: Timestamp::from_millis(parts.next()?.parse().ok()?),
            number: FragmentNumber(parts.next()?.parse().ok()?),
            at: Timestamp::from_millis(parts.next()?.parse().ok()?),
            width: parts.next()?.parse().ok()?,
        };
        (key.to_string() == text).then_some(key)
    }
}

/// The video track of a fragment, and what is known of it.
struct Pictured {
    track: TrackSpan,
    init: Arc<TrackInit>,
}

impl Playback {
    /// A link to the picture at or just before `at`, or to the newest. The caller's right to view
    /// the stream has been decided.
    pub async fn snapshot(
        &self,
        caller: &Principal,
        stream: &Stream,
        at: Option<Timestamp>,
        max_width: u32,
    ) -> Result<PictureLink, SessionError> {
        if let Media::Remote(_) = &self.storage.media {
            return self.remote_snapshot(caller, stream, at, max_width).await;
        }
        let (at, fragment) = match at {
            Some(at) => (at, self.last_begun(stream.id, at).await?),
            None => {
                let newest = self.storage.local()?.newest(stream.id).await?;
                (newest.as_ref().map_or(self.clock.now(), |f| f.range().end), newest)
            }
        };
        let Some(fragment) = fragment else {
            return Err(self.no_picture(stream, at).await?.into());
        };
        let Some(pictured) = self.pictured(stream.id, &fragment).await? else {
            return Err(no_media("the footage has no pictures"));
        };
        decodable(&pictured.init).map_err(|codecs| {
            SessionError::from(Unavailable {
                code: UnavailableCode::CodecNotSupported,
                message: format!("no picture can be made of {codecs}"),
                nearest: None,
            })
        })?;
        let Some((sample, _)) = self.key_frame_in(stream.id, &fragment, &pictured, at).await?
        else {
            return Err(no_media("the footage has no key frame"));
        };
        let link = self.sign_pictures(caller, stream, fragment.range());
        Ok(link.of(&pictured.init, shown_at(&sample, pictured.track.timescale), max_width))
    }

    /// Links to the first pictures of at most `count` evenly distant parts of `range`, those without
    /// footage left out; at most [`MAX_THUMBNAILS`].
    pub async fn thumbnails(
        &self,
        caller: &Principal,
        stream: &Stream,
        range: TimeRange,
        count: usize,
        max_width: u32,
    ) -> Result<Vec<PictureLink>, StorageError> {
        let count = count.min(MAX_THUMBNAILS) as i64;
        if let Media::Remote(_) = &self.storage.media {
            return self.remote_thumbnails(caller, stream, range, count, max_width).await;
        }
        let part =
            |index: i64| range.start.plus_millis(range.millis().saturating_mul(index) / count);
        let mut fragments: Vec<FragmentRecord> = Vec::new();
        for index in 0..count {
            let Some(part) = TimeRange::new(part(index), part(index + 1)) else { continue };
            let first = self.one(stream.id, part, TimeOrder::OldestFirst).await?;
            fragments.extend(first.filter(|f| fragments.last().is_none_or(|l| l.start < f.start)));
        }
        let (Some(first), Some(last)) = (fragments.first(), fragments.last()) else {
            return Ok(Vec::new());
        };
        let span = TimeRange { start: first.start, end: last.range().end.max(first.range().end) };
        let link = self.sign_pictures(caller, stream, span);
        let mut links = Vec::with_capacity(fragments.len());
        for fragment in &fragments {
            let Some(pictured) = self.pictured(stream.id, fragment).await? else { continue };
            if decodable(&pictured.init).is_ok() {
                let at = ticks_to_time(pictured.track.decode_time, pictured.track.timescale);
                links.push(link.of(&pictured.init, at.max(fragment.start), max_width));
            }
        }
        Ok(links)
    }

    /// A link to the first picture of `footage`, which begins where there is some.
    pub async fn thumbnail(
        &self,
        caller: &Principal,
        stream: &Stream,
        footage: TimeRange,
        max_width: u32,
    ) -> Result<Option<PictureLink>, StorageError> {
        if let Media::Remote(_) = &self.storage.media {
            return Ok(Some(self.link_to(caller, stream, footage.start, max_width)));
        }
        Ok(self.thumbnails(caller, stream, footage, 1, max_width).await?.pop())
    }

    /// A link to the picture at the start of `range`, or to the first one in it; none where none of
    /// its footage can be shown.
    pub async fn first_picture(
        &self,
        caller: &Principal,
        stream: &Stream,
        range: TimeRange,
        max_width: u32,
    ) -> Result<Option<PictureLink>, StorageError> {
        if let Media::Remote(_) = &self.storage.media {
            return self.remote_first_picture(caller, stream, range, max_width).await;
        }
        let first = self.one(stream.id, range, TimeOrder::OldestFirst).await?;
        let Some(fragment) = first else { return Ok(None) };
        let Some(pictured) = self.pictured(stream.id, &fragment).await? else { return Ok(None) };
        if decodable(&pictured.init).is_err() {
            return Ok(None);
        }
        let at = range.start.max(fragment.start);
        let found = self.key_frame_in(stream.id, &fragment, &pictured, at).await?;
        Ok(found.map(|(sample, _)| {
            let link = self.sign_pictures(caller, stream, fragment.range());
            link.of(&pictured.init, shown_at(&sample, pictured.track.timescale), max_width)
        }))
    }

    /// A link to the picture that came with an event, by a session of one of its device's streams;
    /// none where none came.
    pub fn uploaded_picture(
        &self,
        caller: &Principal,
        stream: &Stream,
        event: &Event,
        max_width: u32,
    ) -> Option<PictureLink> {
        let picture = event.picture?;
        let at = event.start;
        let span = TimeRange { start: at, end: at.plus_millis(1) };
        let Signed { token, expires_at } = self.sign_pictures(caller, stream, span);
        let size = Some(size_within((picture.width, picture.height), max_width));
        let name = EventPictureName { event: event.id, width: max_width };
        Some(PictureLink { at, path: format!("images/v1/s/{token}/{name}"), size, expires_at })
    }

    /// The picture that came with an event in a session's span, as a JPEG.
    pub async fn event_picture(
        &self,
        token: &MediaToken,
        name: EventPictureName,
    ) -> Result<Bytes, MediaError> {
        let catalog = &self.storage.catalog;
        let stream = catalog.streams_by_id(&[token.stream]).await?.pop().flatten();
        let event = catalog.events_by_id(&[name.event]).await?.pop().flatten();
        let Some((stream, event)) = stream.zip(event) else { return Err(MediaError::NotFound) };
        let is_opened = match token.span {
            Span::OnDemand { range, .. } => range.contains(event.start),
            Span::Live { .. } | Span::LiveReplay { .. } => false,
        };
        if stream.device != event.id.device || !is_opened {
            return Err(MediaError::Refused);
        }
        let kept = catalog.event_picture(event.id).await?.ok_or(MediaError::NotFound)?;
        if event.picture.is_some_and(|picture| picture.width <= name.width) {
            return Ok(kept);
        }
        self.scaled(kept, name.width).await
    }

    /// A JPEG no wider than asked for.
    pub(super) async fn scaled(&self, jpeg: Bytes, width: u32) -> Result<Bytes, MediaError> {
        let is_busy = |Busy| MediaError::Busy;
        let work = move || thumbnail::scaled(&jpeg, width);
        let made = self.pictures.pool.turn().await.map_err(is_busy)?.run(work).await;
        let made = made.map_err(is_busy)?;
        made.map(|picture| picture.jpeg).map_err(|error| MediaError::NoPicture(error.to_string()))
    }

    /// A picture of a session, as a JPEG.
    pub async fn picture(
        &self,
        token: &MediaToken,
        name: PictureName,
    ) -> Result<Bytes, MediaError> {
        if let Media::Remote(archive) = &self.storage.media {
            return self.remote_picture(archive, token, name).await;
        }
        let PictureName { at, width } = name;
        let query = FragmentQuery {
            range: TimeRange { start: at, end: at.plus_millis(1) },
            by: RangeBy::Timeline,
            order: TimeOrder::NewestFirst,
            limit: MAX_OVERLAPPING,
        };
        let found = self.storage.local()?.fragments(token.stream, &query).await?;
        for fragment in found {
            if !opens(token.span, &fragment) {
                return Err(MediaError::Refused);
            }
            let (start, number) = (fragment.start, fragment.number);
            let key = PictureKey { stream: token.stream, start, number, at, width };
            if let Some(kept) = self.pictures.cache.get(&key) {
                return Ok(kept);
            }
            let format = Format::Jpeg { quality: JPEG_QUALITY };
            let size_of = |own| size_within(own, width);
            let jpeg = match self.render(token.stream, &fragment, at, size_of, format).await? {
                Ok(jpeg) => jpeg,
                Err(NoKeyFrame::Absent) => continue,
                Err(NoKeyFrame::Codec(codecs)) => {
                    return Err(MediaError::NoPicture(format!("none can be made of {codecs}")));
                }
            };
            self.pictures.cache.put(key, &jpeg);
            return Ok(jpeg);
        }
        Err(MediaError::NotFound)
    }

    /// The last key frame of a fragment that is shown at `at` or before, or its first, decoded and
    /// written in the pool, in the width and height that `size_of` makes of its own.
    pub(super) async fn render(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        at: Timestamp,
        size_of: impl FnOnce((u32, u32)) -> (u32, u32),
        format: Format,
    ) -> Result<Result<Bytes, NoKeyFrame>, MediaError> {
        // A fragment's pictures are megabytes: only those are read whose turn it is.
        let turn = self.pictures.pool.turn().await.map_err(|Busy| MediaError::Busy)?;
        let Some(pictured) = self.pictured(stream, fragment).await? else {
            return Ok(Err(NoKeyFrame::Absent));
        };
        let codec = match decodable(&pictured.init) {
            Ok(codec) => codec,
            Err(codecs) => return Ok(Err(NoKeyFrame::Codec(codecs))),
        };
        let found = self.key_frame_in(stream, fragment, &pictured, at).await?;
        let Some((_, frame)) = found else { return Ok(Err(NoKeyFrame::Absent)) };
        let size = size_of((codec.width, codec.height));
        let work = move || still::render(&codec, &frame, size, format);
        let made = turn.run(work).await.map_err(|Busy| MediaError::Busy)?;
        let made = made.map_err(|error| MediaError::NoPicture(error.to_string()))?;
        Ok(Ok(made.into()))
    }

    async fn key_frame_in(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        pictured: &Pictured,
        at: Timestamp,
    ) -> Result<Option<(Sample, Bytes)>, StorageError> {
        let track = &pictured.track;
        let bytes =
            self.storage.local()?.read(stream, fragment.location, track.offset, track.len).await?;
        let mut found = None;
        for chunk in mp4::split_chunks(&bytes) {
            let mut rest = chunk.samples;
            for sample in mp4::read_samples(chunk.head).unwrap_or_default() {
                let Some((frame, after)) = rest.split_at_checked(sample.size as usize) else {
                    break;
                };
                rest = after;
                if sample.key && found.is_some() && shown_at(&sample, track.timescale) > at {
                    return Ok(found);
                }
                if sample.key {
                    found = Some((sample, bytes.slice_ref(frame)));
                }
            }
        }
        Ok(found)
    }

    /// Why there is no footage that an instant's picture could be of.
    pub(super) async fn no_picture(
        &self,
        stream: &Stream,
        at: Timestamp,
    ) -> Result<Unavailable, StorageError> {
        let second = TimeRange { start: at, end: at.plus_millis(1_000) };
        let nothing = self.nothing_in(stream, second, self.clock.now()).await?;
        Ok(match nothing.code {
            UnavailableCode::NoMedia => {
                let message = "there is no footage at or in the day before it".into();
                Unavailable { message, ..nothing }
            }
            _ => nothing,
        })
    }

    async fn pictured(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
    ) -> Result<Option<Pictured>, StorageError> {
        let Some(track) = fragment.tracks.iter().find(|track| track.is_video) else {
            return Ok(None);
        };
        let init = self.track_init(stream, track.init).await?;
        Ok(init.map(|init| Pictured { track: *track, init }))
    }

    /// The fragment that begins at `at` or last before it.
    async fn last_begun(
        &self,
        stream: StreamId,
        at: Timestamp,
    ) -> Result<Option<FragmentRecord>, StorageError> {
        let range = TimeRange { start: at.plus_millis(-MAX_BACK_MS), end: at.plus_millis(1) };
        self.one(stream, range, TimeOrder::NewestFirst).await
    }

    pub(super) fn sign_pictures(
        &self,
        caller: &Principal,
        stream: &Stream,
        span: TimeRange,
    ) -> Signed {
        let now = self.clock.now();
        let life_s = self.pictures.life_s.min(self.max_session_s);
        let expires_at = now.plus_millis(i64::from(life_s) * 1_000);
        let (holder, expires_at) = Holder::of(caller, stream.device, expires_at);
        let token = MediaToken {
            session: SessionId::new(now),
            holder,
            account: caller.account,
            stream: stream.id,
            span: Span::OnDemand { range: span, start_offset_ms: 0 },
            expires_at,
        };
        Signed { token: self.signer.sign(&token), expires_at: token.expires_at }
    }

    /// Removes pictures of footage that is gone from the cache, again and again until it is dropped.
    pub async fn sweep_pictures(&self) {
        loop {
            if let Err(error) = self.remove_orphans().await {
                tracing::warn!(%error, "pictures of footage that is gone may be left");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    async fn remove_orphans(&self) -> Result<(), StorageError> {
        for key in self.pictures.cache.keys() {
            let archive = self.storage.local()?;
            if archive.fragment(key.stream, key.start, key.number).await?.is_none() {
                self.pictures.cache.remove(&key);
            }
        }
        Ok(())
    }
}

/// Why a fragment gives no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKeyFrame {
    /// It has no pictures at all.
    Absent,
    /// They are coded in this (RFC 6381), for which there is no decoder.
    Codec(String),
}

/// A token for pictures.
pub(super) struct Signed {
    token: String,
    expires_at: Timestamp,
}

impl Signed {
    fn of(&self, init: &TrackInit, at: Timestamp, max_width: u32) -> PictureLink {
        let size = Some(size_within((init.width, init.height), max_width));
        PictureLink { size, ..self.unsized_link(at, max_width) }
    }

    /// To a picture whose size is not known.
    pub(super) fn unsized_link(&self, at: Timestamp, max_width: u32) -> PictureLink {
        let name = PictureName { at, width: max_width };
        let path = format!("images/v1/s/{}/{name}", self.token);
        PictureLink { at, path, size: None, expires_at: self.expires_at }
    }
}

/// The record that a decoder needs, or the codec that there is none for.
fn decodable(init: &TrackInit) -> Result<AvcConfig, String> {
    match CodecConfig::of(&init.track) {
        Ok(CodecConfig::H264(codec)) => Ok(codec),
        _ => Err(init.codecs.clone()),
    }
}

fn shown_at(sample: &Sample, timescale: u32) -> Timestamp {
    ticks_to_time(sample.presentation_time, timescale)
}

/// Ticks since the Unix epoch, to the nearest millisecond.
fn ticks_to_time(ticks: u64, timescale: u32) -> Timestamp {
    let timescale = u128::from(timescale).max(1);
    let millis = (u128::from(ticks) * 1_000 + timescale / 2) / timescale;
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn no_media(message: &str) -> SessionError {
    Unavailable { code: UnavailableCode::NoMedia, message: message.into(), nearest: None }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let name = PictureName { at: Timestamp::from_millis(1_795_329_502_534), width: 320 };
        assert_eq!("1795329502534-320.jpg".parse(), Ok(name));
        assert_eq!(name.to_string(), "1795329502534-320.jpg");
        for other in [
            "",
            ".jpg",
            "1-15.jpg",
            "1-1921.jpg",
            "+1-320.jpg",
            "01-320.jpg",
            "1-0320.jpg",
            "1-320.png",
            "1-320.jpg.jpg",
            "99999999999999999999-320.jpg",
        ] {
            assert_eq!(other.parse::<PictureName>(), Err(NoPictureName), "{other}");
        }
    }
}
