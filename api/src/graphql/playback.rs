//! `playbackSession` and what it answers.

use super::asked::Asked;
use super::coverage::{Gap, explain};
use super::fault::Fault;
use super::scalar::{DateTime, Url};
use super::time_range::TimeRange;
use crate::audit::AuditAction;
use crate::device;
use crate::id::StreamId;
use crate::playback::{self, Mode, SessionError, SessionRequest, Unavailable};
use crate::segment;
use crate::storage::StorageError;
use async_graphql::{Enum, ID, InputObject, SimpleObject, Union};

const DEFAULT_LIFE_S: i32 = 3600;
/// Joints that players bridge themselves are no gaps worth a reason.
const MIN_GAP_MS: i64 = 100;

/// What to play.
#[derive(Debug, InputObject)]
pub struct PlaybackSessionInput {
    stream_id: ID,
    #[graphql(default)]
    mode: PlaybackMode,
    /// Required, but refused for `LIVE`.
    start: Option<DateTime>,
    /// Required for `ON_DEMAND`, else refused.
    end: Option<DateTime>,
    #[graphql(default)]
    protocol: PlaybackProtocol,
    /// How long the URL works, 300 to 43200 s.
    #[graphql(default_with = "DEFAULT_LIFE_S")]
    expires_in_seconds: i32,
    /// For `MP4`: the name that a browser saves the file under.
    file_name: Option<String>,
}

/// How a player fetches media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[graphql(remote = "playback::Protocol")]
pub enum PlaybackProtocol {
    /// HTTP Live Streaming, fragmented MP4.
    #[default]
    Hls,
    /// HTTP Live Streaming, MPEG transport stream, for players that know nothing newer.
    HlsTs,
    /// MPEG-DASH, fragmented MP4.
    Dash,
    /// One MP4 file, resumable by byte range; a finished range only.
    Mp4,
}

/// Which part of a stream a session plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
pub enum PlaybackMode {
    /// A finished range.
    #[default]
    OnDemand,
    /// From now on.
    Live,
    /// From a point in the past and on into live.
    LiveReplay,
}

impl PlaybackSessionInput {
    fn mode(&self) -> Result<Mode, Fault> {
        let refuse = |what: &str| Err(Fault::BadInput(what.into()));
        match (self.mode, self.start, self.end) {
            (PlaybackMode::Live, None, None) => Ok(Mode::Live),
            (PlaybackMode::Live, ..) => refuse("start and end are refused for LIVE"),
            (PlaybackMode::LiveReplay, Some(start), None) => Ok(Mode::LiveReplay(start.0)),
            (PlaybackMode::LiveReplay, ..) => {
                refuse("start is required and end refused for LIVE_REPLAY")
            }
            (PlaybackMode::OnDemand, Some(start), Some(end)) => {
                match segment::TimeRange::new(start.0, end.0) {
                    Some(range) => Ok(Mode::OnDemand(range)),
                    None => refuse("end must be after start"),
                }
            }
            (PlaybackMode::OnDemand, ..) => refuse("start and end are required for ON_DEMAND"),
        }
    }

    fn request(&self) -> Result<SessionRequest, Fault> {
        let (min, max) = (playback::session::LIFE_S.start(), playback::session::LIFE_S.end());
        let expires_in_s = u32::try_from(self.expires_in_seconds)
            .ok()
            .filter(|life_s| playback::session::LIFE_S.contains(life_s))
            .ok_or_else(|| Fault::bounds("expiresInSeconds", self.expires_in_seconds, min, max))?;
        Ok(SessionRequest {
            mode: self.mode()?,
            protocol: self.protocol.into(),
            expires_in_s,
            file_name: self.file_name.clone(),
        })
    }
}

/// Mints a session; `None` where the stream does not exist for the caller.
pub async fn session(
    asked: &Asked,
    input: PlaybackSessionInput,
) -> Result<Option<PlaybackSessionResult>, Fault> {
    let caller = asked.principal()?;
    let request = input.request()?;
    let Ok(id) = input.stream_id.parse::<StreamId>() else { return Ok(None) };
    let Some(stream) = asked.stream(id).await? else { return Ok(None) };
    asked.service.rates.playback_session(&asked.caller())?;
    Ok(Some(match asked.service.playback.session(caller, &stream, request).await {
        Ok(session) => {
            let action = match session.protocol {
                playback::Protocol::Mp4 => AuditAction::Export,
                _ => AuditAction::View,
            };
            asked.note(action, stream.id).await;
            let session = PlaybackSession::of(asked, &stream, session).await?;
            PlaybackSessionResult::PlaybackSession(Box::new(session))
        }
        Err(error) => {
            PlaybackSessionResult::MediaUnavailable(MediaUnavailable::of(stream.id, error)?)
        }
    }))
}

/// A session, or why there is none.
#[derive(Union)]
pub enum PlaybackSessionResult {
    PlaybackSession(Box<PlaybackSession>),
    MediaUnavailable(MediaUnavailable),
}

/// A signed way to play something.
#[derive(Debug, SimpleObject)]
pub struct PlaybackSession {
    /// For logs and support; not a secret.
    session_id: ID,
    protocol: PlaybackProtocol,
    /// The manifest or file; a bearer secret.
    url: Url,
    mime_type: &'static str,
    /// The span that it really plays, widened to key frames; of a `LIVE_REPLAY`, what is there of it
    /// now; null for `LIVE`.
    range: Option<TimeRange>,
    /// Seconds from the first picture that it plays to the instant asked for.
    start_offset_seconds: f64,
    /// Holes inside, so that a player's clock can be mapped to wall time; the first 1,000.
    gaps: Vec<Gap>,
    /// RFC 6381; ask the player whether it can decode them before it tries.
    codecs: Option<String>,
    expires_at: DateTime,
}

impl PlaybackSession {
    async fn of(
        asked: &Asked,
        stream: &device::Stream,
        session: playback::Session,
    ) -> Result<Self, Fault> {
        Ok(Self {
            session_id: session.id.to_string().into(),
            protocol: session.protocol.into(),
            url: Url(session.url(&asked.base_url)),
            mime_type: session.mime_type,
            range: session.range.map(TimeRange::from),
            start_offset_seconds: session.start_offset_s,
            gaps: explain(asked, stream, &session.gaps, MIN_GAP_MS).await?,
            codecs: session.codecs,
            expires_at: DateTime(session.expires_at),
        })
    }
}

/// Why media cannot be had.
#[derive(Debug, SimpleObject)]
pub struct MediaUnavailable {
    code: MediaUnavailableCode,
    message: String,
    /// The nearest footage, where there is some.
    nearest: Option<TimeRange>,
}

impl From<Unavailable> for MediaUnavailable {
    fn from(unavailable: Unavailable) -> Self {
        use playback::UnavailableCode as Code;
        Self {
            code: match unavailable.code {
                Code::NoMedia => MediaUnavailableCode::NoMedia,
                Code::Expired => MediaUnavailableCode::Expired,
                Code::RangeTooLong => MediaUnavailableCode::RangeTooLong,
                Code::CodecNotSupported => MediaUnavailableCode::CodecNotSupported,
                Code::MixedCodecs => MediaUnavailableCode::MixedCodecs,
                Code::NotSupported => MediaUnavailableCode::NotSupported,
                Code::BackendUnavailable => MediaUnavailableCode::BackendUnavailable,
            },
            message: unavailable.message,
            nearest: unavailable.nearest.map(Into::into),
        }
    }
}

impl MediaUnavailable {
    /// Why media of a stream cannot be had, unless it is a fault of ours.
    pub fn of(stream: StreamId, error: SessionError) -> Result<Self, Fault> {
        match error {
            SessionError::Unavailable(unavailable) => Ok(unavailable.into()),
            SessionError::Storage(StorageError::Unavailable(cause)) => {
                tracing::warn!(%stream, %cause, "media cannot be had");
                Ok(Self {
                    code: MediaUnavailableCode::BackendUnavailable,
                    message: "the media backend did not answer; try again".into(),
                    nearest: None,
                })
            }
            SessionError::Storage(error) => Err(error.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum MediaUnavailableCode {
    /// No footage in the range; for `LIVE`: the camera is not sending.
    NoMedia,
    /// It is not kept any more.
    Expired,
    /// The range is longer than the protocol allows.
    RangeTooLong,
    /// The codec cannot be carried by this protocol.
    CodecNotSupported,
    /// The codec changes inside the range; ask per clip.
    MixedCodecs,
    /// This deployment's media backend cannot do this, now or later.
    NotSupported,
    /// The media backend did not answer or is throttling; try again.
    BackendUnavailable,
}
