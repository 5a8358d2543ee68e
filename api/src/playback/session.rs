//! Minting a playback session: what is there to play, and a token that opens it.

use super::token::{Holder, MediaToken, Span};
use super::{
    Address, Mode, Playback, Protocol, Session, SessionError, SessionRequest, Unavailable,
    UnavailableCode, file_name, listing, live,
};
use crate::access::Principal;
use crate::device::Stream;
use crate::id::{SessionId, StreamId};
use crate::segment::TimeRange;
use crate::storage::{FragmentQuery, FragmentRecord, Media, RangeBy, StorageError, TimeOrder};
use chrono::DateTime;
use lookback_packaging::TrackInit;
use lookback_wire::{FragmentNumber, Timestamp, TrackKind};
use std::sync::Arc;

/// The media type of a playlist (RFC 8216 §10).
const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const MANIFEST: &str = "application/dash+xml";
/// What one session may span.
pub const MAX_RANGE_MS: i64 = 24 * 3_600 * 1_000;
/// Lives that may be asked for, in seconds.
pub const LIFE_S: std::ops::RangeInclusive<u32> = 300..=43_200;
/// Runs of footage looked at for the gaps between them: a gap every minute and a half, all day.
const MAX_RUNS: usize = super::timeline::MAX_GAPS + 1;
/// A camera whose last fragment arrived longer ago is not live.
const LIVE_MAX_AGE_MS: i64 = 30_000;
/// How far back the longest fragment is looked for.
const TARGET_DURATION_WINDOW_MS: i64 = 10 * 60 * 1_000;
/// Fragments looked at for it: 10 minutes of 1 s each, and then some.
const MAX_TARGET_DURATION_FRAGMENTS: usize = 1_000;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

impl Protocol {
    pub(super) fn mime_type(self) -> &'static str {
        match self {
            Self::Hls | Self::HlsTs => PLAYLIST,
            Self::Dash => MANIFEST,
            Self::Mp4 => "video/mp4",
        }
    }
}

impl Playback {
    /// Mints a session for a caller whose right to view the stream has been decided.
    pub async fn session(
        &self,
        caller: &Principal,
        stream: &Stream,
        request: SessionRequest,
    ) -> Result<Session, SessionError> {
        let now = self.clock.now();
        let life_s = request.expires_in_s.clamp(*LIFE_S.start(), *LIFE_S.end());
        let expires_at = now.plus_millis(i64::from(life_s.min(self.max_session_s)) * 1_000);
        if let Media::Remote(archive) = &self.storage.media {
            return self.remote_session(archive, caller, stream, &request, expires_at).await;
        }
        let (holder, expires_at) = Holder::of(caller, stream.device, expires_at);
        let found = match (request.protocol, request.mode) {
            (Protocol::Hls | Protocol::HlsTs | Protocol::Dash, Mode::OnDemand(range)) => {
                self.on_demand(stream, range, now).await?
            }
            (Protocol::Hls | Protocol::HlsTs | Protocol::Dash, Mode::LiveReplay(start)) => {
                self.live_replay(stream, start, now).await?
            }
            (Protocol::Hls | Protocol::HlsTs | Protocol::Dash, Mode::Live) => {
                self.live_now(stream, now).await?
            }
            (Protocol::Mp4, Mode::OnDemand(range)) => self.one_file(stream, range, now).await?,
            (Protocol::Mp4, Mode::LiveReplay(_) | Mode::Live) => return Err(endless_file().into()),
        };
        let token = MediaToken {
            session: SessionId::new(now),
            holder,
            account: caller.account,
            stream: stream.id,
            span: found.span,
            expires_at,
        };
        if request.protocol == Protocol::HlsTs
            && let Some(codecs) = self.not_carried(&token).await?
        {
            return Err(Unavailable {
                code: UnavailableCode::CodecNotSupported,
                message: format!("an MPEG transport stream cannot carry {codecs}"),
                nearest: None,
            }
            .into());
        }
        let signed = self.signer.sign(&token);
        let path = match request.protocol {
            Protocol::Hls => format!("hls/v1/s/{signed}/main.m3u8"),
            Protocol::HlsTs => format!("hls/v1/s/{signed}/ts.m3u8"),
            Protocol::Dash => format!("dash/v1/s/{signed}/manifest.mpd"),
            Protocol::Mp4 => {
                let name = request.file_name.as_deref().and_then(file_name::clean);
                let name = name.unwrap_or_else(|| default_name(stream, &token));
                let name = file_name::percent_encode(&name);
                format!("mp4/v1/s/{signed}/{name}.mp4")
            }
        };
        Ok(Session {
            id: token.session,
            protocol: request.protocol,
            address: Address::Here(path),
            mime_type: request.protocol.mime_type(),
            range: found.range,
            start_offset_s: found.start_offset_s,
            gaps: found.gaps,
            codecs: Some(found.codecs),
            expires_at,
        })
    }

    async fn on_demand(
        &self,
        stream: &Stream,
        asked: TimeRange,
        now: Timestamp,
    ) -> Result<Found, SessionError> {
        let footage = self.footage(stream, asked, MAX_RANGE_MS, now).await?;
        let codecs = self.playable_codecs(stream.id, &footage.fragments).await?;
        let span =
            Span::OnDemand { range: footage.range, start_offset_ms: footage.start_offset_ms };
        Ok(footage.found(span, codecs))
    }

    async fn live_replay(
        &self,
        stream: &Stream,
        start: Timestamp,
        now: Timestamp,
    ) -> Result<Found, SessionError> {
        let end = now.max(start.plus_millis(1));
        let footage = self.footage(stream, TimeRange { start, end }, MAX_RANGE_MS, now).await?;
        let fragments = &footage.fragments;
        let codecs = self.playable_codecs(stream.id, fragments).await?;
        let newest = fragments.iter().map(|f| f.number).max().unwrap_or(FragmentNumber(0));
        let longest_ms = fragments.iter().map(|f| f.duration_ms).max().unwrap_or(0);
        let is_joined = footage.range.millis() > listing::JOINED_BEYOND_MS;
        let joined_s = if is_joined { listing::JOINED_MS as u32 / 1_000 } else { 1 };
        let span = Span::LiveReplay {
            start: footage.range.start,
            start_offset_ms: footage.start_offset_ms,
            newest,
            target_duration_s: longest_ms.div_ceil(1_000).max(joined_s),
            is_joined,
        };
        Ok(footage.found(span, codecs))
    }

    /// A range that is played to the frame, as one file.
    async fn one_file(
        &self,
        stream: &Stream,
        asked: TimeRange,
        now: Timestamp,
    ) -> Result<Found, SessionError> {
        let footage = self.footage(stream, asked, MAX_RANGE_MS, now).await?;
        let range = footage.range.intersection(&asked).unwrap_or(footage.range);
        let listed = listing::arrange(footage.fragments);
        let (tracks, same) = self.file_tracks(stream.id, &listed).await?;
        if let Some(other) = listed.get(same) {
            return Err(Unavailable {
                code: UnavailableCode::MixedCodecs,
                message: "the codec or the resolution changes in the range".into(),
                nearest: TimeRange::new(range.start, other.fragment.start),
            }
            .into());
        }
        let Some(first) = listed.first() else {
            return Err(self.nothing_in(stream, asked, now).await?.into());
        };
        if tracks.is_empty() {
            return Err(self.not_supported(stream.id, &first.fragment, "MP4").await?.into());
        }
        let codecs: Vec<&str> = tracks.iter().map(|track| track.init.codecs.as_str()).collect();
        Ok(Found {
            span: Span::OnDemand { range, start_offset_ms: 0 },
            range: Some(range),
            start_offset_s: 0.0,
            gaps: footage.gaps.iter().filter_map(|gap| gap.intersection(&range)).collect(),
            codecs: codecs.join(","),
        })
    }

    /// What there is of a range, widened to whole fragments.
    async fn footage(
        &self,
        stream: &Stream,
        asked: TimeRange,
        max_range_ms: i64,
        now: Timestamp,
    ) -> Result<Footage, SessionError> {
        if asked.millis() > max_range_ms {
            return Err(too_long(asked, max_range_ms).into());
        }
        let query = FragmentQuery {
            by: RangeBy::Timeline,
            range: asked,
            order: TimeOrder::OldestFirst,
            limit: listing::MAX_FRAGMENTS,
        };
        let fragments = self.storage.local()?.fragments(stream.id, &query).await?;
        let (Some(first), Some(last)) = (fragments.first(), fragments.last()) else {
            return Err(self.nothing_in(stream, asked, now).await?.into());
        };
        let range = TimeRange { start: first.start, end: last.range().end.max(first.range().end) };
        let runs = self.storage.local()?.runs(stream.id, range, MAX_RUNS).await?;
        let gaps = runs
            .windows(2)
            .filter_map(|pair| TimeRange::new(pair[0].range.end, pair[1].range.start))
            .filter_map(|gap| gap.intersection(&range))
            .collect();
        let start_offset_ms = asked.start.millis_since(range.start).max(0);
        Ok(Footage {
            range,
            start_offset_ms: u32::try_from(start_offset_ms).unwrap_or(u32::MAX),
            gaps,
            fragments,
        })
    }

    async fn live_now(&self, stream: &Stream, now: Timestamp) -> Result<Found, SessionError> {
        let archive = self.storage.local()?;
        let newest = archive.newest(stream.id).await?;
        let Some(newest) =
            newest.filter(|f| now.millis_since(f.arrived_at).abs() <= LIVE_MAX_AGE_MS)
        else {
            let nearest = archive.extents(&[stream.id]).await?.pop().flatten();
            let nearest = match nearest {
                Some(extent) => self.run_at(stream.id, extent.end.plus_millis(-1)).await?,
                None => None,
            };
            return Err(Unavailable {
                code: UnavailableCode::NoMedia,
                message: format!("nothing arrived in the last {} s", LIVE_MAX_AGE_MS / 1_000),
                nearest,
            }
            .into());
        };
        let recent = FragmentQuery {
            by: RangeBy::Timeline,
            range: TimeRange {
                start: newest.start.plus_millis(-TARGET_DURATION_WINDOW_MS),
                end: newest.range().end,
            },
            order: TimeOrder::NewestFirst,
            limit: MAX_TARGET_DURATION_FRAGMENTS,
        };
        let recent = archive.fragments(stream.id, &recent).await?;
        let longest_ms = recent.iter().map(|f| f.duration_ms).max().unwrap_or(newest.duration_ms);
        let origin = live::origin(&recent).unwrap_or(&newest);
        let codecs = self.playable_codecs(stream.id, std::slice::from_ref(&newest)).await?;
        Ok(Found {
            span: Span::Live {
                origin: origin.start,
                number: origin.number,
                target_duration_s: longest_ms.div_ceil(1_000).max(1),
            },
            range: None,
            start_offset_s: 0.0,
            gaps: Vec::new(),
            codecs,
        })
    }

    /// Why a range has no footage, and where the nearest is.
    pub(super) async fn nothing_in(
        &self,
        stream: &Stream,
        asked: TimeRange,
        now: Timestamp,
    ) -> Result<Unavailable, StorageError> {
        let nearest = self.nearest(stream.id, asked).await?;
        let catalog = &self.storage.catalog;
        let device = catalog.devices_by_id(&[stream.device]).await?.pop().flatten();
        let plan = match device {
            Some(device) => catalog.plans_by_id(&[device.plan]).await?.pop().flatten(),
            None => None,
        };
        let expired = plan.as_ref().is_some_and(|plan| {
            asked.end <= now.plus_millis(-i64::from(plan.days).saturating_mul(DAY_MS))
        });
        Ok(if expired {
            Unavailable {
                code: UnavailableCode::Expired,
                message: "footage of that time is not kept any more".into(),
                nearest,
            }
        } else {
            Unavailable {
                code: UnavailableCode::NoMedia,
                message: "there is no footage in the range".into(),
                nearest,
            }
        })
    }

    /// The run of footage that is nearest to an empty range.
    pub(super) async fn nearest(
        &self,
        stream: StreamId,
        empty: TimeRange,
    ) -> Result<Option<TimeRange>, StorageError> {
        if let Media::Remote(_) = &self.storage.media {
            return self.nearest_announced(stream, empty).await;
        }
        let extent = self.storage.local()?.extents(&[stream]).await?.pop().flatten();
        let Some(extent) = extent else { return Ok(None) };
        let before = match TimeRange::new(extent.start, empty.start.min(extent.end)) {
            Some(range) => self.one(stream, range, TimeOrder::NewestFirst).await?,
            None => None,
        };
        let after = match TimeRange::new(empty.end.max(extent.start), extent.end) {
            Some(range) => self.one(stream, range, TimeOrder::OldestFirst).await?,
            None => None,
        };
        let nearest = match (before, after) {
            (Some(before), Some(after)) => {
                let back_ms = empty.start.millis_since(before.range().end);
                let ahead_ms = after.start.millis_since(empty.end);
                if back_ms <= ahead_ms { before } else { after }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(None),
        };
        self.run_at(stream, nearest.start).await
    }

    async fn run_at(
        &self,
        stream: StreamId,
        at: Timestamp,
    ) -> Result<Option<TimeRange>, StorageError> {
        let instant = TimeRange { start: at, end: at.plus_millis(1) };
        let runs = self.storage.local()?.runs(stream, instant, 1).await?;
        Ok(runs.first().map(|run| run.range))
    }

    pub(super) async fn one(
        &self,
        stream: StreamId,
        range: TimeRange,
        order: TimeOrder,
    ) -> Result<Option<FragmentRecord>, StorageError> {
        let query = FragmentQuery { by: RangeBy::Timeline, range, order, limit: 1 };
        Ok(self.storage.local()?.fragments(stream, &query).await?.pop())
    }

    /// The codecs of these fragments' tracks that players can be handed: each once, in the order of
    /// their use, video first.
    async fn playable_codecs(
        &self,
        stream: StreamId,
        fragments: &[FragmentRecord],
    ) -> Result<String, SessionError> {
        let mut tracks = Vec::new();
        for fragment in fragments {
            tracks.extend(fragment.tracks.iter().filter(|track| track.is_video));
            tracks.extend(fragment.tracks.iter().filter(|track| !track.is_video));
        }
        let inits = self.playable_inits(stream, tracks).await?;
        let mut codecs: Vec<&str> = Vec::new();
        for (_, init) in &inits.0 {
            if !codecs.contains(&init.codecs.as_str()) {
                codecs.push(&init.codecs);
            }
        }
        match fragments.first() {
            Some(first) if codecs.is_empty() => {
                Err(self.not_supported(stream, first, "HLS").await?.into())
            }
            _ => Ok(codecs.join(",")),
        }
    }

    /// Says of a fragment's codecs that a protocol cannot carry them.
    async fn not_supported(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        protocol: &str,
    ) -> Result<Unavailable, StorageError> {
        let inits = self.inits_of(stream, fragment).await?;
        let all: Vec<&str> = inits.iter().map(|init| init.codecs.as_str()).collect();
        Ok(Unavailable {
            code: UnavailableCode::CodecNotSupported,
            message: format!("{protocol} cannot carry {}", all.join(", ")),
            nearest: None,
        })
    }

    /// What is known of a fragment's tracks, video first.
    pub(super) async fn inits_of(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
    ) -> Result<Vec<Arc<TrackInit>>, StorageError> {
        let mut inits = Vec::with_capacity(fragment.tracks.len());
        for track in &fragment.tracks {
            inits.extend(self.track_init(stream, track.init).await?);
        }
        inits.sort_by_key(|init| init.kind != TrackKind::Video);
        Ok(inits)
    }
}

/// What there is of an asked range.
struct Footage {
    range: TimeRange,
    start_offset_ms: u32,
    gaps: Vec<TimeRange>,
    /// In the order of their starts; never empty.
    fragments: Vec<FragmentRecord>,
}

impl Footage {
    /// What plays of it, in `codecs`.
    fn found(self, span: Span, codecs: String) -> Found {
        Found {
            span,
            range: Some(self.range),
            start_offset_s: f64::from(self.start_offset_ms) / 1_000.0,
            gaps: self.gaps,
            codecs,
        }
    }
}

/// The name of a file that was given none: the stream's, and when it begins.
pub(super) fn default_name(stream: &Stream, token: &MediaToken) -> String {
    let start = match token.span {
        Span::OnDemand { range, .. } => range.start,
        Span::LiveReplay { start, .. } | Span::Live { origin: start, .. } => start,
    };
    let start = DateTime::from_timestamp_millis(start.as_millis()).unwrap_or_default();
    let name = format!("{} {}", stream.name, start.format("%Y-%m-%d %H.%M.%S"));
    file_name::clean(&name).unwrap_or_default()
}

pub(super) fn too_long(asked: TimeRange, max_range_ms: i64) -> Unavailable {
    Unavailable {
        code: UnavailableCode::RangeTooLong,
        message: format!(
            "the range is {} s long; one session plays at most {} s",
            asked.millis() / 1_000,
            max_range_ms / 1_000
        ),
        nearest: None,
    }
}

pub(super) fn endless_file() -> Unavailable {
    Unavailable {
        code: UnavailableCode::RangeTooLong,
        message: "an MP4 file holds a finished range".into(),
        nearest: None,
    }
}

/// What a session will play.
struct Found {
    span: Span,
    range: Option<TimeRange>,
    start_offset_s: f64,
    gaps: Vec<TimeRange>,
    codecs: String,
}
