//! Sessions of remote footage: Kinesis's own where it has what is asked for, else ours.

use super::fragments::{self, Packaged};
use super::listings::gaps;
use crate::access::Principal;
use crate::device::Stream;
use crate::id::{SessionId, StreamId};
use crate::playback::describe::describe;
use crate::playback::footage;
use crate::playback::session::{MAX_RANGE_MS, default_name, endless_file, too_long};
use crate::playback::token::{Holder, MediaToken, Span};
use crate::playback::{
    Address, MediaError, Mode, Playback, Protocol, Session, SessionError, SessionRequest,
    Unavailable, UnavailableCode, file_name,
};
use crate::segment::TimeRange;
use crate::storage::aws::kinesis_video::{Container, KinesisArchive, MAX_IN_SESSION, Playing};
use crate::storage::{ListedFragment, SegmentQuery, StorageError, TimeOrder};
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
    /// In the order of their starts; never empty.
    pub fragments: Arc<Vec<ListedFragment>>,
}

/// Where something is played, and what of it is known.
struct Played {
    address: Address,
    codecs: Option<String>,
    expires_at: Timestamp,
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
        let played = match (request.protocol, &footage, &token) {
            (Protocol::Mp4, Some((_, footage)), Some(token))
                if matches!(playing, Playing::OnDemand(_)) =>
            {
                self.remote_file(archive, stream, request, token, footage).await?
            }
            (Protocol::Mp4, ..) => return Err(endless_file().into()),
            (Protocol::Hls | Protocol::HlsTs, Some((_, footage)), Some(token))
                if matches!(playing, Playing::OnDemand(_))
                    && (life_s.is_none() || footage.fragments.len() > MAX_IN_SESSION) =>
            {
                self.long_playlist(archive, stream, request.protocol, token, footage).await?
            }
            (Protocol::Dash, Some((_, footage)), _) if footage.fragments.len() > MAX_IN_SESSION => {
                return Err(too_long_for_dash(footage).into());
            }
            (protocol, ..) => {
                let life_s = life_s.ok_or_else(too_short)?;
                let url = match protocol {
                    Protocol::Dash => archive.dash(stream, playing, life_s).await?,
                    Protocol::HlsTs => {
                        archive.hls(stream, playing, Container::TransportStream, life_s).await?
                    }
                    _ => archive.hls(stream, playing, Container::FragmentedMp4, life_s).await?,
                };
                let expires_at = now.plus_millis(i64::from(life_s) * 1_000);
                Played { address: Address::Elsewhere(url), codecs: None, expires_at }
            }
        };
        let (range, start_offset_ms, gaps) = match &footage {
            Some((asked, footage)) => {
                (Some(footage.range), offset_ms(*asked, footage.range), gaps(&footage.fragments))
            }
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
        let now = self.clock.now();
        if asked.millis() > MAX_RANGE_MS {
            return Err(too_long(asked, MAX_RANGE_MS).into());
        }
        let fragments = self.listings.list(self.storage.archive(), stream, asked, now).await?;
        let (Some(first), Some(last)) = (fragments.first(), fragments.last()) else {
            return Err(self.nothing_in(stream, asked, now).await?.into());
        };
        let end = last.range().end.max(first.start.plus_millis(1));
        let range = TimeRange { start: first.start, end };
        self.listings.also(stream.id, asked, range);
        Ok(Footage { range, fragments })
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

    async fn remote_file(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        request: &SessionRequest,
        token: &MediaToken,
        footage: &Footage,
    ) -> Result<Played, SessionError> {
        let codecs = if super::download::is_clip(&footage.fragments) {
            None
        } else {
            Some(self.same_tracks(archive, stream, footage).await?.codecs())
        };
        let name = request.file_name.as_deref().and_then(file_name::clean);
        let name = name.unwrap_or_else(|| default_name(stream, token));
        let name = file_name::percent_encode(&name);
        let path = format!("mp4/v1/s/{}/{name}.mp4", self.signer.sign(token));
        Ok(Played { address: Address::Here(path), codecs, expires_at: token.expires_at })
    }

    async fn long_playlist(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        protocol: Protocol,
        token: &MediaToken,
        footage: &Footage,
    ) -> Result<Played, SessionError> {
        let first = self.same_tracks(archive, stream, footage).await?;
        let all = first.codecs();
        let first = first.playable();
        let of_kind = |kind| first.tracks.iter().find(|init| init.kind == kind);
        let is_carried = !first.tracks.is_empty()
            && (protocol != Protocol::HlsTs
                || Muxer::new(of_kind(TrackKind::Video), of_kind(TrackKind::Audio)).is_ok());
        if !is_carried {
            return Err(Unavailable {
                code: UnavailableCode::CodecNotSupported,
                message: format!("HLS cannot carry {all}"),
                nearest: None,
            }
            .into());
        }
        let name = if protocol == Protocol::HlsTs { "ts.m3u8" } else { "main.m3u8" };
        let path = format!("hls/v1/s/{}/{name}", self.signer.sign(token));
        let (codecs, expires_at) = (Some(first.codecs()), token.expires_at);
        Ok(Played { address: Address::Here(path), codecs, expires_at })
    }

    /// The first fragment, where the last one has its tracks: what is between them is only read when
    /// it is played.
    async fn same_tracks(
        &self,
        archive: &KinesisArchive,
        stream: &Stream,
        footage: &Footage,
    ) -> Result<Packaged, SessionError> {
        let read = async |one: Option<&ListedFragment>| match one {
            Some(one) => fragments::read(archive, stream, &one.id).await.map_err(failed),
            None => Ok(None),
        };
        let first = read(footage.fragments.first()).await?;
        let last = read(footage.fragments.last()).await?;
        match first.zip(last) {
            Some((first, last)) if last.has(&first.tracks) => Ok(first),
            Some(_) => Err(Unavailable {
                code: UnavailableCode::MixedCodecs,
                message: "the codec or the resolution changes in the range".into(),
                nearest: None,
            }
            .into()),
            None => Err(self.nothing_in(stream, footage.range, self.clock.now()).await?.into()),
        }
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

/// From the first picture to what was asked for.
fn offset_ms(asked: TimeRange, played: TimeRange) -> u32 {
    u32::try_from(asked.start.millis_since(played.start).max(0)).unwrap_or(u32::MAX)
}

fn failed(error: MediaError) -> SessionError {
    StorageError::Unavailable(error.to_string()).into()
}

fn too_long_for_dash(footage: &Footage) -> Unavailable {
    let first = footage.fragments.first().map(|first| first.start);
    let end = footage.fragments.get(MAX_IN_SESSION - 1).map(|last| last.range().end);
    Unavailable {
        code: UnavailableCode::RangeTooLong,
        message: format!(
            "the range has {} fragments; a DASH session plays at most {MAX_IN_SESSION}",
            footage.fragments.len()
        ),
        nearest: first.zip(end).and_then(|(start, end)| TimeRange::new(start, end)),
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
