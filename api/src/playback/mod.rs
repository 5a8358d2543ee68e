//! From a time range to what players ask for. No HTTP.

pub mod dash;
pub mod describe;
pub mod file_name;
pub mod follow;
pub mod footage;
pub mod fragment_list;
pub mod hls;
pub mod kinesis;
pub mod listing;
pub mod live;
pub mod matroska;
pub mod mp4;
pub mod picture;
pub mod reload;
pub mod remote;
pub mod segments;
pub mod session;
mod sound;
pub mod timeline;
pub mod token;
pub mod transport;

use crate::access::{Action, Decision};
use crate::arriving::Arriving;
use crate::clock::Clock;
use crate::id::{AccountId, SessionId, StreamId};
use crate::rights;
use crate::segment::TimeRange;
use crate::storage::{InitId, Storage, StorageError};
use bytes::Bytes;
use follow::{Follower, Start};
use lookback_packaging::TrackInit;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use picture::Pictures;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use token::{Holder, MediaToken, Signer, Span};
use tokio::sync::Semaphore;

/// How long a holder's rights are believed before the catalog is asked again: below the 5 s after
/// which a revoked session must be dead.
const RIGHTS_MAX_AGE_MS: i64 = 3_000;
/// Holders remembered; each is asked for again where the memory is full.
const MAX_RIGHTS: usize = 20_000;
/// A stream that a live session asked for within this is watched: players ask every few seconds.
const WATCHED_MS: i64 = 30_000;
/// Watched streams remembered; one that is forgotten is remembered again within seconds.
const MAX_WATCHED: usize = 100_000;
/// How long footage that is not to be kept can be read: as long as Kinesis Video Streams buffers it.
const UNARCHIVED_MS: i64 = 5 * 60 * 1_000;
/// Initialization segments remembered, about 1.5 KB each.
const MAX_INITS: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Hls,
    /// HLS with MPEG transport streams.
    HlsTs,
    Dash,
    /// One file of a finished range, cut to the frame.
    Mp4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    OnDemand(TimeRange),
    /// From an instant in the past and on into live.
    LiveReplay(Timestamp),
    Live,
}

/// What a caller asks to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub mode: Mode,
    pub protocol: Protocol,
    /// 300 to 43,200; others are brought into that range, and the configuration may cap them lower.
    pub expires_in_s: u32,
    /// What a browser saves an MP4 file under.
    pub file_name: Option<String>,
}

/// A signed way to play something.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub protocol: Protocol,
    pub address: Address,
    pub mime_type: &'static str,
    /// The span that it really plays, widened to key frames; of a live replay, what is there of it
    /// now; none for live.
    pub range: Option<TimeRange>,
    /// Seconds from the first picture that it plays to the instant asked for.
    pub start_offset_s: f64,
    /// Holes inside.
    pub gaps: Vec<TimeRange>,
    /// RFC 6381.
    pub codecs: Option<String>,
    pub expires_at: Timestamp,
}

/// Where a session's manifest or file is; a bearer secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Path and file below the service's own address, without a slash before it.
    Here(String),
    /// Wherever the media is served from.
    Elsewhere(String),
}

impl Session {
    /// As a player is told it, of a service that is reached at `base_url`.
    pub fn url(&self, base_url: &str) -> String {
        match &self.address {
            Address::Here(path) => format!("{base_url}/{path}"),
            Address::Elsewhere(url) => url.clone(),
        }
    }
}

/// Why media cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub code: UnavailableCode,
    pub message: String,
    /// The nearest footage, where there is some.
    pub nearest: Option<TimeRange>,
}

/// See the contract's `MediaUnavailableCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableCode {
    NoMedia,
    Expired,
    RangeTooLong,
    CodecNotSupported,
    MixedCodecs,
    NotSupported,
    /// It may be had later.
    BackendUnavailable,
}

/// Why there is no session.
#[derive(Clone, Debug)]
pub enum SessionError {
    Unavailable(Unavailable),
    Storage(StorageError),
}

impl From<Unavailable> for SessionError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<StorageError> for SessionError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Why a media request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The token is not ours, has expired, its holder lost the right, or it does not open this.
    #[error("the session does not open this or has ended")]
    Refused,
    /// The session may ask for it, and it is not there (any more).
    #[error("the session has no such file")]
    NotFound,
    /// Too much is asked for at once; later it may be there.
    #[error("too much is asked for at once")]
    Busy,
    /// The footage is there, and no picture can be made of it: why.
    #[error("no picture can be made of this footage: {0}")]
    NoPicture(String),
    /// The request contradicts itself, or what is there: a message for whoever wrote the player.
    #[error("{0}")]
    Malformed(&'static str),
    /// It did not come in the time that a player waits for it.
    #[error("nothing newer has arrived")]
    NotYet,
    /// The store failed: a message for the log.
    #[error("{0}")]
    Storage(String),
}

impl From<token::Refused> for MediaError {
    fn from(_: token::Refused) -> Self {
        Self::Refused
    }
}

impl From<StorageError> for MediaError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// A playlist or manifest. All who ask for the same of a live session share one.
#[derive(Debug)]
pub struct Text {
    pub plain: Bytes,
    /// The same in gzip, once somebody took it so.
    pub packed: OnceLock<Bytes>,
}

impl Text {
    pub fn shared(text: String) -> Arc<Self> {
        Arc::new(Self { plain: text.into(), packed: OnceLock::new() })
    }
}

/// What of a stream's fragments a playlist or segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rendition {
    Video,
    Audio,
}

/// Mints playback sessions and serves them.
#[derive(Debug)]
pub struct Playback {
    storage: Storage,
    arriving: Arc<Arriving>,
    clock: Arc<Clock>,
    signer: Signer,
    /// The longest life of a session, whatever was asked for.
    max_session_s: u32,
    rights: Mutex<HashMap<(Holder, StreamId), Rights>>,
    inits: Mutex<HashMap<(StreamId, InitId), Arc<TrackInit>>>,
    layouts: mp4::Layouts,
    live: live::Windows,
    /// Turns at making FLAC.
    encoders: Semaphore,
    /// When a live session last asked for a stream.
    watched: Mutex<HashMap<StreamId, Timestamp>>,
    pictures: Pictures,
    kinesis_windows: kinesis::Windows,
    listings: remote::Listings,
}

/// Whether a holder may watch a stream, as the catalog said then.
#[derive(Clone, Copy, Debug)]
struct Rights {
    may_view: bool,
    checked_at: Timestamp,
}

impl Playback {
    /// `secret` is used for nothing else.
    pub fn new(
        storage: Storage,
        arriving: Arc<Arriving>,
        clock: Arc<Clock>,
        secret: &[u8; 32],
        max_session_s: u32,
        pictures: Pictures,
    ) -> Self {
        Self {
            storage,
            arriving,
            clock,
            signer: Signer::new(secret),
            max_session_s,
            rights: Mutex::default(),
            inits: Mutex::default(),
            layouts: mp4::Layouts::default(),
            live: live::Windows::default(),
            encoders: Semaphore::new(sound::ENCODERS),
            watched: Mutex::default(),
            pictures,
            kinesis_windows: kinesis::Windows::default(),
            listings: remote::Listings::default(),
        }
    }

    /// A reader of a stream's fragments in the order of their arrival. Where nothing is to be kept it
    /// begins with those of the last minutes at most.
    pub async fn follow(&self, stream: StreamId, start: Start) -> Result<Follower, StorageError> {
        let is_archived = self.is_archived(stream).await?;
        let now = self.clock.now();
        let oldest = if is_archived { None } else { Some(now.plus_millis(-UNARCHIVED_MS)) };
        Follower::new(self.storage.local()?.clone(), stream, start, oldest).await
    }

    /// What a token opens, if it is ours, has not expired and its holder may still watch.
    pub async fn open(&self, token: &str) -> Result<MediaToken, MediaError> {
        let now = self.clock.now();
        let token = self.signer.read(token, now)?;
        self.check_rights(token.holder, token.account, token.stream).await?;
        if matches!(token.span, Span::Live { .. } | Span::LiveReplay { .. }) {
            remember(&self.watched, MAX_WATCHED, token.stream, now);
        }
        Ok(token)
    }

    /// Whether what a session began to fetch may go on: its holder may still watch.
    pub async fn may_go_on(&self, token: &MediaToken) -> Result<(), MediaError> {
        self.check_rights(token.holder, token.account, token.stream).await
    }

    /// Whether a session's holder may still watch: refused at most 5 s after it may not.
    async fn check_rights(
        &self,
        holder: Holder,
        account: AccountId,
        stream: StreamId,
    ) -> Result<(), MediaError> {
        let now = self.clock.now();
        let key = (holder, stream);
        let known = self.rights.lock().get(&key).copied();
        let may_view = match known {
            Some(rights) if now.millis_since(rights.checked_at).abs() < RIGHTS_MAX_AGE_MS => {
                rights.may_view
            }
            _ => {
                let may_view = self.may_view(holder, account, stream).await?;
                remember(&self.rights, MAX_RIGHTS, key, Rights { may_view, checked_at: now });
                may_view
            }
        };
        if may_view { Ok(()) } else { Err(MediaError::Refused) }
    }

    /// Whether somebody watches the stream live.
    pub fn is_watched_live(&self, stream: StreamId) -> bool {
        let asked_at = self.watched.lock().get(&stream).copied();
        asked_at.is_some_and(|at| self.clock.now().millis_since(at) < WATCHED_MS)
    }

    /// Asks the catalog whether a session's holder may still view its stream.
    async fn may_view(
        &self,
        holder: Holder,
        account: AccountId,
        stream: StreamId,
    ) -> Result<bool, StorageError> {
        let catalog = &self.storage.catalog;
        let Some(stream) = catalog.streams_by_id(&[stream]).await?.pop().flatten() else {
            return Ok(false);
        };
        let now = self.clock.now();
        if let Holder::Share(_, id) = holder
            && !catalog.share(id).await?.is_some_and(|share| share.is_in_force(now))
        {
            return Ok(false);
        }
        let principal = holder.principal(account, now);
        let decision =
            rights::on_device(catalog.as_ref(), &principal, Action::View, stream.device, now)
                .await?;
        Ok(decision == Decision::Allow)
    }

    /// An initialization segment and what playlists say of it.
    async fn track_init(
        &self,
        stream: StreamId,
        id: InitId,
    ) -> Result<Option<Arc<TrackInit>>, StorageError> {
        let key = (stream, id);
        if let Some(init) = self.inits.lock().get(&key) {
            return Ok(Some(init.clone()));
        }
        let Some(bytes) = self.storage.local()?.init(stream, id).await? else { return Ok(None) };
        let init = TrackInit::decode(&bytes).map(Arc::new).ok_or_else(|| {
            StorageError::Damaged(format!("initialization segment {:016x} of {stream}", id.0))
        })?;
        remember(&self.inits, MAX_INITS, key, init.clone());
        Ok(Some(init))
    }
}

/// Keeps a value; a full memory is emptied first, for everything in it can be had again.
fn remember<K: Hash + Eq, V>(memory: &Mutex<HashMap<K, V>>, limit: usize, key: K, value: V) {
    let mut memory = memory.lock();
    if memory.len() >= limit {
        memory.clear();
    }
    memory.insert(key, value);
}
