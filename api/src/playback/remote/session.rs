//! Sessions of remote footage: Kinesis's own where it has what is asked for, else ours.

use super::download::file_of;
use super::listings::{Way, gaps};
use super::stretches::{Stretch, Stretches};
use crate::access::Principal;
use crate::device::Stream;
use crate::id::{SessionId, StreamId};
use crate::playback::describe::describe;
use crate::playback::footage;
use crate::playback::session::{MAX_RANGE_MS, default_name, endless_file, too_long};
use crate::playback::token::{Holder, MediaToken, Span};
use crate::playback::{
    Address, Mode, Playback, Protocol, Session, SessionError, SessionRequest, Unavailable,
    UnavailableCode, file_name,
};
use crate::segment::{Segment, TimeRange};
use crate::storage::aws::kinesis_video::{
    Container, KinesisArchive, MAX_IN_SESSION, Playing, Refused,
};
use crate::storage::{SegmentQuery, StorageError, TimeOrder};
use lookback_packaging::TrackInit;
use lookback_packaging::ts::Muxer;
use lookback_wire::{Timestamp, TrackKind};
use std::sync::Arc;

/// Kinesis gives out no session for less.
const MIN_LIFE_S: i64 = 300;

/// How far about the nearest announcement its neighbours are looked for.
const NEIGHBOURS_MS: i64 = 10 * 60_000;

/// What there is of an asked range.
pub struct Footage {
    pub range: TimeRange,
    /// Never empty.
    pub way: Arc<Way>,
}

/// Where something is played, and what of it is known.
struct Played {
    address: Address,
    codecs: Option<String>,
    expires_at: Timestamp,
}

impl Played {
    /// By Kinesis.
    async fn there(
        archive: &KinesisArchive,
        stream: &Stream,
        protocol: Protocol,
        playing: Playing,
        life_s: u32,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let hls = |container| archive.hls(stream, playing, container, life_s);
        let url = match protocol {
            Protocol::Dash => archive.dash(stream, playing, life_s).await?,
            Protocol::HlsTs => hls(Container::TransportStream).await?,
            _ => hls(Container::FragmentedMp4).await?,
        };
        let expires_at = now.plus_millis(i64::from(life_s) * 1_000);
        Ok(Self { address: Address::Elsewhere(url), codecs: None, expires_at })
    }
}

impl Playback {
    /// As [`Playback::session`], of footage that lies in Kinesis Video Streams.
    pub(in crate::playback) async fn remote_session(
        &self,
        archive: &KinesisArchive,
        caller: &Principal,
        stream: &Stream,
        request: &SessionRequest,
        expires_at: Timestamp,
    ) -> Result<Session, SessionError> {
        let now = self.clock.now();
        let (holder, expires_at) = Holder::of(caller, stream.device, expires_at);
        let token = |span| MediaToken {
            session: SessionId::new(now),
            holder,
            account: caller.account,
            stream: stream.id,
            span,
            expires_at,
        };
        let life_s = life_s(holder, expires_at, now);
        let footage = match request.mode {
            Mode::OnDemand(asked) => Some((asked, self.remote_footage(stream, asked).await?)),
            Mode::LiveReplay(start) => {
                let asked = TimeRange { start, end: now.max(start.plus_millis(1)) };
                Some((asked, self.remote_footage(stream, asked).await?))
            }
            Mode::Live => None,
        };
        let playing = match (request.mode, &footage) {
            (Mode::OnDemand(_), Some((_, footage))) => Playing::OnDemand(footage.range),
            (_, Some((_, footage))) => Playing::LiveReplay(footage.range.start),
            (_, None) => Playing::Live,
        };
        let span = footage.as_ref().map(|(asked, footage)| Span::OnDemand {
            range: footage.range,
            start_offset_ms: offset_ms(*asked, footage.range),
        });
        let token = span.map(token);
        let played = match (&footage, &token) {
            (Some((_, footage)), Some(token)) if matches!(playing, Playing::OnDemand(_)) => {
                self.finished(archive, stream, request, footage, token, life_s).await?
            }
            _ if request.protocol == Protocol::Mp4 => return Err(endless_file().into()),
            _ => {
                let life_s = life_s.ok_or_else(too_short)?;
                Played::there(archive, stream, request.protocol, playing, life_s, now).await?
            }
        };
        let (range, start_offset_ms, gaps) = match &footage {
            Some((asked, footage)) => (
                Some(footage.range),
                offset_ms(*asked, footage.range),
                gaps(&footage.way.fragments),
            ),
            None => (None, 0, Vec::new()),
        };
        let codecs = match played.codecs {
            Some(codecs) => Some(codecs),
            None => self.announced_codecs(stream.id, range).await?,
        };
        Ok(Session {
            id: token.map_or_else(|| SessionId::new(now), |token| token.session),
            protocol: request.protocol,
            address: played.address,
            mime_type: request.protocol.mime_type(),
            range,
            start_offset_s: f64::from(start_offset_ms) / 1_000.0,
            gaps,
            codecs,
            expires_at: played.expires_at,
        })
    }

    /// What there is of a range, widened to whole fragments.
    async fn remote_footage(
        &self,
        stream: &Stream,
        asked: TimeRange,
    ) -> Result<Footage, SessionError> {
        if asked.millis() > MAX_RANGE_MS {
            return Err(too_long(asked, MAX_RANGE_MS).into());
        }
        let archive = self.storage.archive();
        let way = self.listings.list(archive, stream, asked, &self.clock).await?;
        let (Some(first), Some(last)) = (way.fragments.first(), way.fragments.last()) else {
            return Err(self.nothing_in(stream, asked, self.clock.now()).await?.into());
        };
        let end = last.range().end.max(first.start.plus_millis(1));
        let range = TimeRange { start: first.start, end };
        self.listings.also(stream.id, asked, range);
        Ok(Footage { range, way })
    }

    /// What was announced nearest to an empty range, in the days beside it.
    pub(in crate::playback) async fn nearest_announced(
        &self,
        stream: StreamId,
        empty: TimeRange,
    ) -> Result<Option<TimeRange>, StorageError> {
        let catalog = &self.storage.catalog;
        let one = async |range, order| {
            let query = SegmentQuery { range, order, after: None, limit: 1 };
            let found = catalog.segments(stream, &query).await?.pop();
            Ok::<_, StorageError>(found.map(|segment| segment.range))
        };
        let day_before =
            TimeRange { start: empty.start.plus_millis(-MAX_RANGE_MS), end: empty.start };
        let day_after = TimeRange { start: empty.end, end: empty.end.plus_millis(MAX_RANGE_MS) };
        let before = one(day_before, TimeOrder::NewestFirst).await?;
        let after = one(day_after, TimeOrder::OldestFirst).await?;
        let nearest = match (before, after) {
            (Some(before), Some(after)) => {
                let back_ms = empty.start.millis_since(before.end);
                let ahead_ms = after.start.millis_since(empty.end);
                if back_ms <= ahead_ms { before } else { after }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(None),
        };
        let about = footage::read(&self.storage, stream, nearest.widened(NEIGHBOURS_MS)).await?;
        let around = about.footage.iter().find(|footage| footage.range.overlaps(&nearest));
        Ok(Some(around.map_or(nearest, |footage| footage.range)))
    }

    /// What was announced of the codecs of a range, or of the newest footage.
    async fn announced_codecs(
        &self,
        stream: StreamId,
        range: Option<TimeRange>,
    ) -> Result<Option<String>, StorageError> {
        let Some(range) = range else {
            let described = describe(&self.storage, stream).await?;
            return Ok(described.map(|described| described.codecs));
        };
        let query = SegmentQuery { range, order: TimeOrder::OldestFirst, after: None, limit: 1 };
        let first = self.storage.catalog.segments(stream, &query).await?.pop();
        Ok(first.and_then(|segment| segment.codecs))
    }

    /// Whether Kinesis loses a part of the footage: what has another codec, and in DASH whatever is set
    /// up otherwise. Fragments are only asked where the first and the last announcement differ in that.
    async fn is_mixed(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        protocol: Protocol,
        footage: &Footage,
    ) -> Result<bool, SessionError> {
        let one = async |order| {
            let query = SegmentQuery { range: footage.range, order, after: None, limit: 1 };
            let found = self.storage.catalog.segments(stream.id, &query).await?.pop();
            Ok::<_, StorageError>(found)
        };
        let first = one(TimeOrder::OldestFirst).await?;
        let last = one(TimeOrder::NewestFirst).await?;
        let Some((first, last)) = first.zip(last) else { return Ok(false) };
        let setup = |segment: &Segment| (segment.codecs.clone(), segment.width, segment.height);
        let codecs = first.codecs.as_deref().zip(last.codecs.as_deref());
        let is_announced = match protocol {
            Protocol::Dash => setup(&first) != setup(&last),
            _ => {
                codecs.is_some_and(|(a, b)| !a.split(',').map(format).eq(b.split(',').map(format)))
            }
        };
        if !is_announced {
            return Ok(false);
        }
        let all = &footage.way.stretches(archive, stream).await?.all;
        let formats = |stretch: &Stretch| -> Vec<String> {
            stretch.tracks.iter().map(|init| format(&init.codecs).to_owned()).collect()
        };
        Ok(match protocol {
            Protocol::Dash => all.len() > 1,
            _ => all.iter().any(|stretch| Some(formats(stretch)) != all.first().map(formats)),
        })
    }

    /// Where footage is played that is all there, for `life_s` if Kinesis gives out sessions that short.
    async fn finished(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        request: &SessionRequest,
        footage: &Footage,
        token: &MediaToken,
        life_s: Option<u32>,
    ) -> Result<Played, SessionError> {
        let protocol = request.protocol;
        if protocol == Protocol::Mp4 {
            return self.remote_file(archive, stream, request, token, footage).await;
        }
        let is_too_much = footage.way.fragments.len() > MAX_IN_SESSION;
        let is_dash = protocol == Protocol::Dash;
        let life_s = match life_s {
            _ if is_dash && is_too_much => return Err(too_long_for_dash(footage).into()),
            Some(life_s) => life_s,
            None if is_dash => return Err(too_short().into()),
            None => return self.own_playlist(archive, stream, protocol, token, footage).await,
        };
        if !is_too_much && !self.is_mixed(archive, stream, protocol, footage).await? {
            let (playing, now) = (Playing::OnDemand(footage.range), self.clock.now());
            match Played::there(archive, stream, protocol, playing, life_s, now).await {
                Err(Refused::MixedCodecs) => {}
                played => return Ok(played?),
            }
        }
        if is_dash {
            return Err(until_change(archive, stream, footage).await);
        }
        self.own_playlist(archive, stream, protocol, token, footage).await
    }

    async fn remote_file(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        request: &SessionRequest,
        token: &MediaToken,
        footage: &Footage,
    ) -> Result<Played, SessionError> {
        let stretches = self.stretches(archive, stream, footage).await?;
        file_of(stretches).map_err(|other| mixed(footage, Some(other)))?;
        let name = request.file_name.as_deref().and_then(file_name::clean);
        let name = name.unwrap_or_else(|| default_name(stream, token));
        let name = file_name::percent_encode(&name);
        let path = format!("mp4/v1/s/{}/{name}.mp4", self.signer.sign(token));
        let (codecs, expires_at) = (Some(stretches.codecs(|_| true)), token.expires_at);
        Ok(Played { address: Address::Here(path), codecs, expires_at })
    }

    async fn own_playlist(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        protocol: Protocol,
        token: &MediaToken,
        footage: &Footage,
    ) -> Result<Played, SessionError> {
        let stretches = self.stretches(archive, stream, footage).await?;
        let mut kinds = None;
        for Stretch { first, tracks } in &stretches.all {
            let played: Vec<&TrackInit> = tracks.iter().filter(|init| init.playable).collect();
            let of_kind = |kind| played.iter().copied().find(|init| init.kind == kind);
            let (video, audio) = (of_kind(TrackKind::Video), of_kind(TrackKind::Audio));
            let is_carried = !played.is_empty()
                && (protocol != Protocol::HlsTs || Muxer::new(video, audio).is_ok());
            if !is_carried {
                let all: Vec<&str> = tracks.iter().map(|init| init.codecs.as_str()).collect();
                return Err(Unavailable {
                    code: UnavailableCode::CodecNotSupported,
                    message: format!("HLS cannot carry {}", all.join(",")),
                    nearest: until(footage, *first),
                }
                .into());
            }
            // No player takes sound that comes or goes among segments that hold it with the pictures.
            let own = (video.is_some(), audio.is_some());
            if *kinds.get_or_insert(own) != own {
                return Err(mixed(footage, Some(*first)).into());
            }
        }
        let name = if protocol == Protocol::HlsTs { "ts.m3u8" } else { "main.m3u8" };
        let path = format!("hls/v1/s/{}/{name}", self.signer.sign(token));
        let codecs = Some(stretches.codecs(|init| init.playable));
        Ok(Played { address: Address::Here(path), codecs, expires_at: token.expires_at })
    }

    /// How the tracks of footage change, where all of that is found.
    async fn stretches<'a>(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        footage: &'a Footage,
    ) -> Result<&'a Stretches, SessionError> {
        let stretches = footage.way.stretches(archive, stream).await?;
        if stretches.all.is_empty() {
            return Err(self.nothing_in(stream, footage.range, self.clock.now()).await?.into());
        }
        if stretches.covered < footage.way.fragments.len() {
            return Err(mixed(footage, Some(stretches.covered)).into());
        }
        Ok(stretches)
    }
}

/// How long a session of Kinesis's is to last, in seconds; `None` where it gives out none so short.
/// Nobody can take one back, so none outlives the caller's right, and where that is by a share or a
/// credential, which are revoked, it is the shortest there is.
fn life_s(holder: Holder, expires_at: Timestamp, now: Timestamp) -> Option<u32> {
    let left_s = expires_at.millis_since(now) / 1_000;
    let life_s = match holder {
        Holder::Share(..) | Holder::Device(..) => left_s.min(MIN_LIFE_S),
        Holder::User(_) | Holder::Service(_) => left_s,
    };
    u32::try_from(life_s).ok().filter(|_| life_s >= MIN_LIFE_S)
}

/// Says of footage that no manifest holds how much of it one does.
async fn until_change(
    archive: &KinesisArchive,
    stream: &Stream,
    footage: &Footage,
) -> SessionError {
    match footage.way.stretches(archive, stream).await {
        Ok(stretches) => mixed(footage, stretches.all.get(1).map(|other| other.first)).into(),
        Err(unread) => unread.into(),
    }
}

/// What a codec of RFC 6381 is named after, such as `avc1`.
fn format(codec: &str) -> &str {
    codec.split('.').next().unwrap_or(codec).trim()
}

/// Says that footage is not played as one, but until the fragment at a place, where that is known.
fn mixed(footage: &Footage, other: Option<usize>) -> Unavailable {
    Unavailable {
        code: UnavailableCode::MixedCodecs,
        message: "the codec or the resolution changes in the range".into(),
        nearest: other.and_then(|other| until(footage, other)),
    }
}

/// Footage until the fragment at a place.
fn until(footage: &Footage, place: usize) -> Option<TimeRange> {
    let other = footage.way.fragments.get(place)?;
    TimeRange::new(footage.range.start, other.start)
}

/// From the first picture to what was asked for.
fn offset_ms(asked: TimeRange, played: TimeRange) -> u32 {
    u32::try_from(asked.start.millis_since(played.start).max(0)).unwrap_or(u32::MAX)
}

fn too_long_for_dash(footage: &Footage) -> Unavailable {
    Unavailable {
        code: UnavailableCode::RangeTooLong,
        message: format!(
            "the range has {} fragments; a DASH session plays at most {MAX_IN_SESSION}",
            footage.way.fragments.len()
        ),
        nearest: until(footage, MAX_IN_SESSION),
    }
}

fn too_short() -> Unavailable {
    Unavailable {
        code: UnavailableCode::NotSupported,
        message: format!("the backend gives out no session of less than {MIN_LIFE_S} s"),
        nearest: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Role;
    use crate::id::{CredentialId, DeviceId, ShareId, UserId};

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    #[test]
    fn what_cannot_be_taken_back_ends_soon_where_its_right_can() {
        let user = UserId::new(NOW);
        let share = Holder::Share(user, ShareId::new(NOW));
        let device = Holder::Device(DeviceId::new(NOW), CredentialId::new(NOW));
        for (holder, left_s, expected) in [
            (Holder::User(user), 43_200, Some(43_200)),
            (Holder::Service(Role::Viewer), 3_600, Some(3_600)),
            (share, 43_200, Some(300)),
            (share, 300, Some(300)),
            (share, 299, None),
            (share, -1, None),
            (device, 3_600, Some(300)),
            (Holder::User(user), 299, None),
        ] {
            let ends_at = NOW.plus_millis(left_s * 1_000);
            assert_eq!(life_s(holder, ends_at, NOW), expected, "{holder:?} {left_s}");
        }
    }
}
