//! Playback as Kinesis Video Streams does it (KVS archived media API, 2017-09-30), for programs that
//! were written for it: HLS sessions with its parameters, limits, addresses and playlists.
//!
//! A fragment is a segment. Its times are by the service's clock or the producer's, as the session
//! asks. Players that know us better use [`Playback::session`].

mod dash;
pub mod images;
pub mod token;
mod window;

use super::listing::Listed;
use super::mp4::{MAX_CLIP_FRAGMENTS, Mp4, Mp4Error};
use super::token::Holder;
use super::{MAX_WATCHED, MediaError, Playback, remember};
use crate::access::Principal;
use crate::device::Stream;
use crate::id::{SessionId, StreamId};
use crate::segment::TimeRange;
use crate::storage::{
    FragmentQuery, FragmentRecord, InitId, RangeBy, StorageError, TimeOrder, TrackSpan,
};
use bytes::Bytes;
use lookback_packaging::kinesis::{MediaPlaylist, MultivariantPlaylist, Segment};
use lookback_packaging::ts::Muxer;
use lookback_packaging::{TrackInit, mp4};
use lookback_wire::codec::CodecConfig;
use lookback_wire::{FragmentNumber, Timestamp, TrackKind};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use token::{KinesisToken, Protocol, Rules, Shape, Span, TimestampType};
use window::{Window, time_of};

/// Of the codec's private data, in one session.
const MAX_CODEC_CHANGES: usize = 500;
/// A stream is live if a fragment arrived within this.
const LIVE_MAX_AGE_MS: i64 = 30_000;
/// How far back a live session may begin.
const LIVE_WINDOW_MS: i64 = 24 * 3_600 * 1_000;
/// Fragments beyond those asked for that a range may have to pass over: ones that began before it.
const OVERLAPPING: usize = 16;
/// Windows in memory: of 5 fragments usually, and of 1.5 MB at the most.
const MAX_WINDOWS: usize = 512;

/// The windows of live sessions.
pub type Windows = Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<Window>>>>;

/// What a session is asked for, checked against the API's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub mode: Mode,
    pub rules: Rules,
    /// 300 to 43,200.
    pub expires_in_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Live,
    LiveReplay { start: Timestamp, end: Option<Timestamp> },
    OnDemand { start: Timestamp, end: Timestamp },
}

impl Mode {
    /// Where its range ends, if it does.
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::Live => None,
            Self::LiveReplay { end, .. } => end,
            Self::OnDemand { end, .. } => Some(end),
        }
    }
}

/// Why there is no session, clip or image, by the API's exceptions.
#[derive(Clone, Debug)]
pub enum NoSession {
    NotFound(String),
    UnsupportedMedia(String),
    MissingCodecPrivateData(String),
    InvalidCodecPrivateData(String),
    Storage(StorageError),
}

impl From<StorageError> for NoSession {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A session that a request opened, with the token as it came, which goes into playlists again.
#[derive(Debug)]
pub struct Opened {
    pub token: KinesisToken,
    text: String,
}

/// What a session lists now.
struct Listing {
    fragments: Vec<Listed>,
    sequence: u64,
    discontinuity_sequence: u64,
    on_demand: bool,
    finished: bool,
    /// Footage that slid out.
    slid_ms: u64,
    /// `LIVE_REPLAY`: footage that was listed from the beginning.
    lead_ms: u64,
}

impl Playback {
    /// Mints a session for a caller whose right to view the stream has been decided; answers its
    /// token.
    pub async fn kinesis_session(
        &self,
        caller: &Principal,
        stream: &Stream,
        request: Request,
    ) -> Result<String, NoSession> {
        let now = self.clock.now();
        let rules = request.rules;
        let (first, span) = match request.mode {
            Mode::Live => {
                let newest = self.newest_arrivals(stream.id, usize::from(rules.max_fragments), now);
                let newest = newest.await?;
                let is_live =
                    |f: &&FragmentRecord| now.millis_since(f.arrived_at) <= LIVE_MAX_AGE_MS;
                let last = newest.first().filter(is_live);
                let last = last.ok_or_else(|| {
                    NoSession::NotFound(format!(
                        "No fragments found in the stream {} in the last {} seconds",
                        stream.media_stream_name,
                        LIVE_MAX_AGE_MS / 1_000
                    ))
                })?;
                let origin = newest.last().unwrap_or(last).number;
                (last.clone(), Span::Live { origin })
            }
            Mode::LiveReplay { start, end } => {
                let until = end.unwrap_or_else(|| now.plus_millis(LIVE_WINDOW_MS));
                let first = self.first_in(stream, rules.by, start, until).await?;
                (first, Span::LiveReplay { start, end })
            }
            Mode::OnDemand { start, end } => {
                let first = self.first_in(stream, rules.by, start, end).await?;
                (first, Span::OnDemand { start, end })
            }
        };
        let shape = self.checked_shape(stream.id, &first, rules.protocol).await?;
        let life_s = request.expires_in_s.min(self.max_session_s);
        let expires_at = now.plus_millis(i64::from(life_s) * 1_000);
        let (holder, expires_at) = Holder::of(caller, stream.device, expires_at);
        let token = KinesisToken {
            session: SessionId::new(now),
            holder,
            account: caller.account,
            stream: stream.id,
            minted_at: now,
            expires_at,
            span,
            rules,
            shape,
        };
        Ok(token.sign(&self.signer))
    }

    /// What a session's token opens, if it is ours, has not expired and its holder may still watch.
    pub async fn open_kinesis(&self, text: &str) -> Result<Opened, MediaError> {
        let now = self.clock.now();
        let token = KinesisToken::read(&self.signer, text, now)?;
        self.check_rights(token.holder, token.account, token.stream).await?;
        if !matches!(token.span, Span::OnDemand { .. }) {
            remember(&self.watched, MAX_WATCHED, token.stream, now);
        }
        Ok(Opened { token, text: text.into() })
    }

    /// `getHLSMasterPlaylist.m3u8`
    pub async fn kinesis_master_playlist(&self, session: &Opened) -> Result<String, MediaError> {
        let token = &session.token;
        let listing = self.kinesis_listing(token).await?;
        let first = &listing.fragments.first().ok_or(MediaError::NotFound)?.fragment;
        let (mut codecs, mut resolution, mut frame_rate) = (Vec::new(), None, None);
        for number in 1..=2 {
            let Some(track) = track(token.shape, first, number) else { continue };
            let Some(init) = self.track_init(token.stream, track.init).await? else { continue };
            if track.is_video {
                resolution = Some((init.width, init.height));
                frame_rate = self.frame_rate(token.stream, first, track).await?;
            }
            codecs.push(init.codecs.clone());
        }
        let rate = |f: &FragmentRecord| {
            let bytes: u64 = f.tracks.iter().map(|track| u64::from(track.len)).sum();
            bytes.saturating_mul(8_000) / u64::from(f.duration_ms.max(1))
        };
        let bandwidth = listing.fragments.iter().map(|listed| rate(&listed.fragment)).max();
        let uri = |number: u8| {
            format!("getHLSMediaPlaylist.m3u8?SessionToken={}&TrackNumber={number}", session.text)
        };
        let is_muxed = token.rules.protocol == Protocol::HlsMpegTs;
        let has_two = token.shape.video.is_some() && token.shape.audio.is_some();
        let audio_uri = (has_two && !is_muxed).then(|| uri(2));
        let playlist = MultivariantPlaylist {
            uri: &uri(1),
            audio_uri: audio_uri.as_deref(),
            codecs: &codecs.join(","),
            resolution,
            frame_rate,
            bandwidth: bandwidth.unwrap_or(1).max(1),
        };
        Ok(playlist.write())
    }

    /// `getHLSMediaPlaylist.m3u8`
    pub async fn kinesis_media_playlist(
        &self,
        session: &Opened,
        track_number: u8,
    ) -> Result<String, MediaError> {
        let token = &session.token;
        let text = &session.text;
        let listing = self.kinesis_listing(token).await?;
        let mut last_init = None;
        let mut segments = Vec::with_capacity(listing.fragments.len());
        for Listed { fragment, discontinuity } in &listing.fragments {
            let Some(track) = track(token.shape, fragment, track_number) else { continue };
            let number = fragment.number;
            let is_mp4 = token.rules.protocol == Protocol::HlsFragmentedMp4;
            let has_new_map = is_mp4 && last_init != Some(track.init);
            last_init = Some(track.init);
            let timescale = u64::from(track.timescale.max(1));
            let shown = token.rules.shows_timestamps;
            segments.push(Segment {
                uri: if is_mp4 {
                    fragment_uri(text, number, track_number)
                } else {
                    format!(
                        "getTSFragment.ts?FragmentNumber={number}&SessionToken={text}\
                         &TrackNumber={track_number}"
                    )
                }
                .into(),
                duration_ms: (track.duration.saturating_mul(1_000) + timescale / 2) / timescale,
                discontinuity: *discontinuity,
                map_uri: has_new_map.then(|| init_uri(text, track.init, track_number).into()),
                program_date_time: shown.then(|| time_of(token.rules.by, fragment)),
            });
        }
        if segments.is_empty() {
            return Err(MediaError::NotFound);
        }
        let always = token.rules.discontinuities == token::DiscontinuityMode::Always;
        let playlist = MediaPlaylist {
            on_demand: listing.on_demand,
            finished: listing.finished,
            media_sequence: listing.sequence,
            discontinuity_sequence: listing.discontinuity_sequence,
            segments,
            discontinuous_end: always,
        };
        Ok(playlist.write())
    }

    /// `getMP4InitFragment.mp4`: a track's `ftyp` and `moov`, by what its address names.
    pub async fn kinesis_init_fragment(
        &self,
        session: &Opened,
        track_number: u8,
        sequence_number: u64,
    ) -> Result<Bytes, MediaError> {
        let token = &session.token;
        let init = self.track_init(token.stream, InitId(sequence_number)).await?;
        let init = init.ok_or(MediaError::NotFound)?;
        if track_number != number_of(token.shape, init.kind) {
            return Err(MediaError::NotFound);
        }
        Ok(init.segment.clone())
    }

    /// `getMP4MediaFragment.mp4`: a fragment's track.
    pub async fn kinesis_media_fragment(
        &self,
        session: &Opened,
        track_number: u8,
        fragment_number: FragmentNumber,
    ) -> Result<Bytes, MediaError> {
        let token = &session.token;
        let fragment = self.kinesis_fragment(token, fragment_number).await?;
        let track = track(token.shape, &fragment, track_number).ok_or(MediaError::NotFound)?;
        let archive = self.storage.local()?;
        Ok(archive.read(token.stream, fragment.location, track.offset, track.len).await?)
    }

    /// `getTSFragment.ts`: a fragment's tracks together, as an MPEG transport stream.
    pub async fn kinesis_ts_fragment(
        &self,
        session: &Opened,
        fragment_number: FragmentNumber,
    ) -> Result<Bytes, MediaError> {
        let token = &session.token;
        if token.rules.protocol != Protocol::HlsMpegTs {
            return Err(MediaError::NotFound);
        }
        let fragment = self.kinesis_fragment(token, fragment_number).await?;
        let mut parts = [(None, Bytes::new()), (None, Bytes::new())];
        for (part, is_video) in parts.iter_mut().zip([true, false]) {
            let Some(track) = fragment.tracks.iter().find(|t| t.is_video == is_video) else {
                continue;
            };
            let archive = self.storage.local()?;
            part.0 = self.track_init(token.stream, track.init).await?;
            part.1 = archive.read(token.stream, fragment.location, track.offset, track.len).await?;
        }
        let [(video, pictures), (audio, sound)] = parts;
        let muxer = Muxer::new(video.as_deref(), audio.as_deref());
        let muxer = muxer.map_err(|_| MediaError::NotFound)?;
        let segment = muxer
            .segment(&pictures, &sound)
            .ok_or_else(|| MediaError::Storage(format!("fragment {fragment_number} is damaged")))?;
        Ok(segment.into())
    }

    /// A fragment that a session plays.
    async fn kinesis_fragment(
        &self,
        token: &KinesisToken,
        number: FragmentNumber,
    ) -> Result<FragmentRecord, MediaError> {
        let archive = self.storage.local()?;
        let found = archive.fragments_by_number(token.stream, &[number]).await?.pop().flatten();
        let fragment = found.ok_or(MediaError::NotFound)?;
        let at = time_of(token.rules.by, &fragment);
        let is_open = match token.span {
            Span::Live { origin } => fragment.number >= origin,
            Span::LiveReplay { start, end } => at >= start && end.is_none_or(|end| at <= end),
            Span::OnDemand { start, end } => at >= start && at <= end,
        };
        if is_open { Ok(fragment) } else { Err(MediaError::Refused) }
    }

    async fn kinesis_listing(&self, token: &KinesisToken) -> Result<Listing, StorageError> {
        let archive = self.storage.local()?.as_ref();
        let most = usize::from(token.rules.max_fragments);
        if let Span::OnDemand { start, end } = token.span {
            let found =
                self.fragments_between(token.stream, token.rules.by, start, end, most).await?;
            let fragments = self.of_shape(token, found).await?;
            return Ok(Listing {
                fragments: window::list(token.rules, fragments),
                sequence: 0,
                discontinuity_sequence: 0,
                on_demand: true,
                finished: true,
                slid_ms: 0,
                lead_ms: 0,
            });
        }
        let now = self.clock.now();
        let window = self.kinesis_windows.lock().get(&token.session).cloned();
        let window = window.unwrap_or_else(|| {
            let made = Arc::<tokio::sync::Mutex<Window>>::default();
            remember(&self.kinesis_windows, MAX_WINDOWS, token.session, made.clone());
            made
        });
        let mut window = window.lock().await;
        loop {
            let found = window.next(archive, token, now).await?;
            let newest = found.last().cloned();
            let fragments = self.of_shape(token, found).await?;
            window.take(token, fragments, now);
            match newest {
                Some(newest) => window.note_seen(token, &newest),
                None => break,
            }
        }
        Ok(Listing {
            fragments: window.listed.iter().cloned().collect(),
            sequence: window.sequence,
            discontinuity_sequence: window.discontinuity_sequence,
            on_demand: false,
            finished: window.finished,
            slid_ms: window.slid_ms,
            lead_ms: window.lead_ms,
        })
    }

    /// Those whose tracks are of the kinds that the session began with. The others have no place in
    /// its playlists.
    async fn of_shape(
        &self,
        token: &KinesisToken,
        fragments: Vec<FragmentRecord>,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let mut kinds: HashMap<InitId, [u8; 4]> = HashMap::new();
        let mut kept = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            for track in &fragment.tracks {
                if let Entry::Vacant(entry) = kinds.entry(track.init) {
                    let init = self.track_init(token.stream, track.init).await?;
                    entry.insert(init.map_or([0; 4], |init| sample_entry(&init)));
                }
            }
            let kind = |track: &TrackSpan| kinds.get(&track.init).copied();
            let shape = Shape {
                video: fragment.tracks.iter().find(|t| t.is_video).and_then(kind),
                audio: fragment.tracks.iter().find(|t| !t.is_video).and_then(kind),
            };
            if shape == token.shape {
                kept.push(fragment);
            }
        }
        Ok(kept)
    }

    /// The newest by arrival, newest first.
    async fn newest_arrivals(
        &self,
        stream: StreamId,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let query = FragmentQuery {
            by: RangeBy::Arrival { after: None },
            range: TimeRange {
                start: now.plus_millis(-LIVE_WINDOW_MS),
                end: now.plus_millis(1_000),
            },
            order: TimeOrder::NewestFirst,
            limit,
        };
        self.storage.local()?.fragments(stream, &query).await
    }

    async fn first_in(
        &self,
        stream: &Stream,
        by: TimestampType,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<FragmentRecord, NoSession> {
        let found = self.fragments_between(stream.id, by, start, end, 1).await?;
        found.into_iter().next().ok_or_else(|| nothing_in(stream))
    }

    /// The oldest fragments that begin from `start` to `end`, both included, by one of the clocks.
    pub(super) async fn fragments_between(
        &self,
        stream: StreamId,
        by: TimestampType,
        start: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let Some(range) = TimeRange::new(start, end.plus_millis(1)) else { return Ok(Vec::new()) };
        let by = match by {
            TimestampType::Server => RangeBy::Arrival { after: None },
            TimestampType::Producer => RangeBy::Timeline,
        };
        let limit_read = limit.saturating_add(OVERLAPPING);
        let query = FragmentQuery { by, range, order: TimeOrder::OldestFirst, limit: limit_read };
        let mut found = self.storage.local()?.fragments(stream, &query).await?;
        if by == RangeBy::Timeline {
            found.retain(|fragment| fragment.start >= start);
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The fragments from `start` to `end`, as much as GetClip gives, as one MP4 file. The caller's
    /// right to view the stream has been decided.
    pub async fn kinesis_clip(
        &self,
        stream: &Stream,
        by: TimestampType,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Mp4, NoSession> {
        let limit = MAX_CLIP_FRAGMENTS;
        let mut found = self.fragments_between(stream.id, by, start, end, limit).await?;
        let first = found.first().ok_or_else(|| nothing_in(stream))?;
        self.checked_shape(stream.id, first, Protocol::Dash).await?;
        found.sort_by_key(|fragment| (fragment.start, std::cmp::Reverse(fragment.number)));
        found.dedup_by_key(|fragment| fragment.start);
        self.clip(stream.id, found).await.map_err(|error| match error {
            Mp4Error::Empty => nothing_in(stream),
            Mp4Error::MixedCodecs => NoSession::InvalidCodecPrivateData(
                "The codec private data changes within the time range.".into(),
            ),
            Mp4Error::Storage(error) => error.into(),
        })
    }

    /// The kinds of a fragment's tracks, if the protocol carries them.
    async fn checked_shape(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        protocol: Protocol,
    ) -> Result<Shape, NoSession> {
        let mut shape = Shape::default();
        let mut inits: Vec<Arc<TrackInit>> = Vec::new();
        for span in &fragment.tracks {
            let Some(init) = self.track_init(stream, span.init).await? else { continue };
            let place = if span.is_video { &mut shape.video } else { &mut shape.audio };
            place.get_or_insert(sample_entry(&init));
            inits.push(init);
        }
        let carries_video = match (protocol, shape.video.as_ref()) {
            (_, None | Some(b"avc1")) => true,
            (Protocol::HlsMpegTs, Some(_)) => false,
            (_, Some(kind)) => kind == b"hvc1",
        };
        let carries_audio = match (protocol, shape.audio.as_ref()) {
            (_, None | Some(b"mp4a")) => true,
            (Protocol::Dash, Some(kind)) => kind == b"ulaw" || kind == b"alaw",
            _ => false,
        };
        if !carries_video || !carries_audio || inits.is_empty() {
            let tracks: Vec<String> = inits
                .iter()
                .map(|init| format!("(track {}: {})", init.track.number, init.track.codec_id))
                .collect();
            return Err(NoSession::UnsupportedMedia(format!(
                "The type of the media is not supported or could not be determined from the media \
                 codec ids: {}.",
                tracks.join(", ")
            )));
        }
        for init in inits {
            let number = init.track.number;
            if init.track.codec_private.is_empty() {
                let message = format!("The codec private data of track {number} is missing.");
                return Err(NoSession::MissingCodecPrivateData(message));
            }
            if let Err(error) = CodecConfig::of(&init.track) {
                let message = format!("The codec private data of track {number}: {error}");
                return Err(NoSession::InvalidCodecPrivateData(message));
            }
        }
        Ok(shape)
    }

    /// Pictures a second in a fragment.
    async fn frame_rate(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        track: &TrackSpan,
    ) -> Result<Option<f64>, StorageError> {
        let archive = self.storage.local()?;
        let bytes = archive.read(stream, fragment.location, track.offset, track.len).await?;
        let count: usize = mp4::split_chunks(&bytes)
            .map(|chunk| mp4::read_samples(chunk.head).map_or(0, |samples| samples.len()))
            .sum();
        let seconds = track.duration as f64 / f64::from(track.timescale.max(1));
        Ok((seconds > 0.0).then(|| count as f64 / seconds))
    }
}

fn nothing_in(stream: &Stream) -> NoSession {
    let name = &stream.media_stream_name;
    NoSession::NotFound(format!("No fragments found in the stream {name} for the time range"))
}

fn fragment_uri(token: &str, number: FragmentNumber, track_number: u8) -> String {
    format!(
        "getMP4MediaFragment.mp4?FragmentNumber={number}&SessionToken={token}\
         &TrackNumber={track_number}"
    )
}

fn init_uri(token: &str, init: InitId, track_number: u8) -> String {
    format!(
        "getMP4InitFragment.mp4?SessionToken={token}&TrackNumber={track_number}&SequenceNumber={}",
        init.0
    )
}

/// The track of a fragment that the API calls by this number: 1 is the pictures, or the sound where
/// there are none.
fn track(shape: Shape, fragment: &FragmentRecord, number: u8) -> Option<&TrackSpan> {
    let is_video = match (number, shape.video.is_some()) {
        (1, has_video) => has_video,
        (2, true) => false,
        _ => return None,
    };
    fragment.tracks.iter().find(|track| track.is_video == is_video)
}

fn number_of(shape: Shape, kind: TrackKind) -> u8 {
    if kind == TrackKind::Audio && shape.video.is_some() { 2 } else { 1 }
}

/// The type of a track's sample entry, such as `avc1`.
fn sample_entry(init: &TrackInit) -> [u8; 4] {
    init.codecs.as_bytes().first_chunk().copied().unwrap_or_default()
}
