//! Where records and media are kept: the two traits and what every backend promises.
//!
//! A backend is chosen in `main`; everything above names only [`Catalog`] and [`Archive`]. The
//! suite in `contract` holds every backend to what is written here.

pub mod aws;
#[cfg(test)]
pub mod contract;
#[cfg(test)]
pub mod counted;
pub mod embedded;

use crate::access::Share;
use crate::account::{Account, RetentionPlan, SignIn, User, UserChange};
use crate::audit::AuditEntry;
use crate::device::{Device, DeviceChange, DeviceCredential, MAX_STREAMS, Stream};
use crate::event::{Event, EventId, EventSeverity, EventTypes, NewEvent, Watcher};
use crate::id::{
    AccountId, AuditId, CredentialId, DeviceId, HoldId, PlanId, ShareId, SignInId, StreamId,
    UserId, WebhookId,
};
use crate::keeping::{Deletion, Hold, Keeping, KnownGap};
use crate::media_stream::MediaSettings;
use crate::segment::{NewSegment, Segment, SegmentId, SegmentSpan, TimeRange};
use crate::webhook::{Delivery, Notice, Webhook, WebhookState};
use async_trait::async_trait;
use aws::kinesis_video::KinesisArchive;
use bytes::Bytes;
use embedded::archive::EmbeddedArchive;
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use secrecy::SecretString;
use smallvec::SmallVec;
use std::sync::Arc;

/// A fault of the store, not of what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// No room: nothing was kept of what this call was to keep.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What one device may store is used up; nothing was kept.
    #[error("over the quota: {0}")]
    OverQuota(String),
    /// It may work later.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// What was read is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Where media is kept, this cannot be had.
    #[error("not supported by this backend: {0}")]
    NotSupported(&'static str),
}

pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why a record was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A value that must be unique is in use: which.
    #[error("{field} is in use")]
    Taken { field: &'static str },
    /// The same idempotency key came with another input.
    #[error("the idempotency key was used with another input")]
    IdempotencyConflict,
    /// With those that the device had before it was retired, whose footage is still there.
    #[error("a device has at most {MAX_STREAMS} streams, and this one would have {0}")]
    TooManyStreams(usize),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeOrder {
    OldestFirst,
    NewestFirst,
}

/// A device to be made known, with all that comes with it, in one step.
#[derive(Clone, Debug)]
pub struct Registration {
    pub device: Device,
    /// The main one first; positions as they stand in the list.
    pub streams: Vec<Stream>,
    pub credential: DeviceCredential,
    /// The key, and a digest of the whole input.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// What a registration came to.
#[derive(Clone, Debug)]
pub struct Registered {
    pub device: Device,
    pub streams: Vec<Stream>,
    pub credential: DeviceCredential,
}

/// UTC days for which the catalog counts what arrived, before it forgets the oldest.
pub const ARRIVALS_KEPT_DAYS: i64 = 400;

const DAY_MS: i64 = 24 * 3_600_000;

/// The number of the UTC day that has `at`, from 1970 on.
pub fn utc_day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MS)
}

/// When a UTC day begins.
pub fn start_of_utc_day(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

/// What became of one announced segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// `overlaps` and `out_of_order` are judged against what was announced before.
    Stored { segment: Segment, overlaps: bool, out_of_order: bool },
    /// The same announcement was there; this is it.
    Duplicate(Segment),
    /// Another span is stored under this client identifier.
    Conflict(Segment),
}

/// A page of devices, by (name, id).
#[derive(Clone, Debug, Default)]
pub struct DeviceQuery {
    /// Only those whose lower-cased name begins with this.
    pub name_prefix: Option<String>,
    /// Only after this position.
    pub after: Option<(String, DeviceId)>,
    pub limit: usize,
}

/// A page of an account's users, by name.
#[derive(Clone, Debug, Default)]
pub struct UserQuery {
    /// Only after this name.
    pub after: Option<String>,
    pub limit: usize,
}

/// A page of an account's audit log, the newest line first.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    /// By when it was written.
    pub range: TimeRange,
    /// Only after this line, which is those before it in time.
    pub after: Option<AuditId>,
    pub limit: usize,
}

/// A page of an account's streams, by the name of their media stream.
#[derive(Clone, Debug, Default)]
pub struct MediaStreamQuery {
    /// Only those whose media stream's name begins with this.
    pub name_prefix: Option<String>,
    /// Only after this name.
    pub after: Option<String>,
    pub limit: usize,
}

/// A page of announced segments, by (start, id).
#[derive(Clone, Debug)]
pub struct SegmentQuery {
    /// Those that overlap it.
    pub range: TimeRange,
    pub order: TimeOrder,
    /// Only after this position in `order`.
    pub after: Option<(Timestamp, SegmentId)>,
    pub limit: usize,
}

/// What became of one reported event.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    Stored(Event),
    /// It was known; this is what is known of it now.
    Updated(Event),
    /// It was known, and the report says nothing new.
    Duplicate(Event),
    /// Another start is stored under this client identifier.
    Conflict(Event),
}

impl Reported {
    /// What receivers are told of it, and the event as it is now.
    pub fn notice(&self) -> Option<(&Event, Notice)> {
        match self {
            Self::Stored(event) => Some((event, Notice::Began)),
            Self::Updated(event) => Some((event, Notice::Changed)),
            Self::Duplicate(_) | Self::Conflict(_) => None,
        }
    }
}

/// A page of a device's events, by (start, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventQuery {
    /// Those that begin in it.
    pub range: TimeRange,
    pub types: EventTypes,
    /// Only those as grave as this, or graver.
    pub min_severity: EventSeverity,
    pub order: TimeOrder,
    /// Only after this position in `order`; the identifier may be another device's.
    pub after: Option<(Timestamp, EventId)>,
    pub limit: usize,
}

/// Events in a query's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    pub events: Vec<Event>,
    /// Where the next page begins; none at the end. What one page reads is bounded, so that it may
    /// come short, and even be empty.
    pub next: Option<(Timestamp, EventId)>,
}

/// Where records are kept.
///
/// # Contract
/// - Every write is all or nothing, and durable when it returns.
/// - A write is seen by every read that starts after it returned.
/// - Batched reads answer in the order asked for, `None` where there is nothing.
/// - Nothing blocks the caller's thread for longer than a local disk read.
#[async_trait]
pub trait Catalog: Send + Sync + std::fmt::Debug {
    async fn account(&self, id: AccountId) -> Result<Option<Account>>;
    async fn account_by_name(&self, name: &str) -> Result<Option<Account>>;
    /// The account of that name, made with a default plan of 7 days if absent. Two callers at once
    /// get the same one.
    async fn ensure_account(&self, name: &str, now: Timestamp) -> Result<Account>;

    /// Refuses a name or an identity taken in the account.
    async fn create_user(&self, user: User) -> Result<(), CreateError>;
    /// Changes what is given, each value by itself; answers the user as it is then, `None` where
    /// there is none.
    async fn change_user(&self, id: UserId, change: UserChange) -> Result<Option<User>>;
    async fn user(&self, id: UserId) -> Result<Option<User>>;
    async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<Option<User>>>;
    async fn user_by_name(&self, account: AccountId, name: &str) -> Result<Option<User>>;
    /// Who somebody is here whom `issuer` knows as `subject`.
    async fn user_by_identity(
        &self,
        account: AccountId,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<User>>;
    async fn users(&self, account: AccountId, query: &UserQuery) -> Result<Vec<User>>;

    /// Gives a share, and takes away those of its device and of its user whose time is over at `now`.
    /// One of the same user on the same device is replaced and lends its identifier. Answers it as it
    /// is stored; `None` where the device has
    /// [`MAX_SHARES_OF_DEVICE`](crate::access::MAX_SHARES_OF_DEVICE) or the user
    /// [`MAX_SHARES_WITH_USER`](crate::access::MAX_SHARES_WITH_USER).
    async fn put_share(&self, share: Share, now: Timestamp) -> Result<Option<Share>>;
    async fn share(&self, id: ShareId) -> Result<Option<Share>>;
    /// Each device's, in force or not, in the order in which they were first given. They go with
    /// their device.
    async fn shares_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Share>>>;
    /// A user's, likewise.
    async fn shares_with(&self, user: UserId) -> Result<Vec<Share>>;
    async fn delete_share(&self, id: ShareId) -> Result<()>;

    /// Adds a line to the account's audit log, from which lines go that are older than
    /// [`KEPT_MS`](crate::audit::KEPT_MS).
    async fn append_audit(&self, entry: AuditEntry) -> Result<()>;
    async fn audit_log(&self, account: AccountId, query: &AuditQuery) -> Result<Vec<AuditEntry>>;

    async fn put_sign_in(&self, sign_in: SignIn) -> Result<()>;
    /// Replaces it only where its `current` is still `expected`: two tabs rotate once.
    async fn rotate_sign_in(&self, expected: [u8; 32], sign_in: SignIn) -> Result<bool>;
    async fn sign_in(&self, id: SignInId) -> Result<Option<SignIn>>;
    async fn delete_sign_in(&self, id: SignInId) -> Result<()>;

    /// By name; at most 100.
    async fn plans(&self, account: AccountId) -> Result<Vec<RetentionPlan>>;
    async fn plans_by_id(&self, ids: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>>;
    /// Adds or replaces a plan; one that is the default ends the other's being so.
    async fn put_plan(&self, plan: RetentionPlan) -> Result<()>;

    /// Makes a device, its streams and its first credential. A `RETIRED` device of the same
    /// external identifier is revived under its old identifier with the new credential, and keeps the
    /// streams that it had; more than [`MAX_STREAMS`] are refused. A listed
    /// media stream that is unclaimed becomes the device's, with its footage and without its own
    /// retention; the device that stood in for it goes. With an
    /// idempotency key seen in the last 24 hours and the same digest: the same device, with the new
    /// credential, and the earlier first credential revoked; revived where it is `RETIRED` by then.
    async fn register_device(
        &self,
        registration: Registration,
        now: Timestamp,
    ) -> Result<Registered, CreateError>;
    /// Changes what is given, each value by itself; answers the device as it is then, `None` where
    /// there is none, or where it cannot take the turn ([`DeviceChange::apply`]).
    async fn change_device(&self, id: DeviceId, change: DeviceChange) -> Result<Option<Device>>;
    async fn devices_by_id(&self, ids: &[DeviceId]) -> Result<Vec<Option<Device>>>;
    async fn device_by_external_id(
        &self,
        account: AccountId,
        external_id: &str,
    ) -> Result<Option<Device>>;
    async fn devices(&self, account: AccountId, query: &DeviceQuery) -> Result<Vec<Device>>;
    /// Notes that a device was heard of. Cheap: may lag behind on disk by minutes, never in what
    /// reads answer. The first one makes a `PROVISIONED` device `ACTIVE`.
    async fn note_seen(
        &self,
        device: DeviceId,
        at: Timestamp,
        clock_skew_ms: Option<i64>,
    ) -> Result<()>;

    /// Counts media that arrived for a stream. Cheap, and as late on disk as
    /// [`Catalog::note_seen`]; the count outlives the media, for [`ARRIVALS_KEPT_DAYS`].
    async fn note_arrived(&self, stream: StreamId, at: Timestamp, bytes: u64) -> Result<()>;
    /// The bytes that arrived for each stream on UTC days from `first` to `last`, both included, as
    /// [`utc_day`] numbers them.
    async fn arrived_bytes(&self, streams: &[StreamId], first: i64, last: i64) -> Result<Vec<u64>>;

    async fn streams_by_id(&self, ids: &[StreamId]) -> Result<Vec<Option<Stream>>>;
    /// Each device's, the main one first.
    async fn streams_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Stream>>>;
    async fn stream_by_media_name(&self, account: AccountId, name: &str) -> Result<Option<Stream>>;
    /// Streams of all accounts, in an order of the catalog's own: at most `limit`, those behind `after`.
    async fn all_streams(&self, after: Option<StreamId>, limit: usize) -> Result<Vec<StreamId>>;

    async fn media_streams(
        &self,
        account: AccountId,
        query: &MediaStreamQuery,
    ) -> Result<Vec<Stream>>;
    /// Each stream's; the default ones where none were written.
    async fn media_settings(&self, streams: &[StreamId]) -> Result<Vec<MediaSettings>>;
    /// Replaces a stream's settings, where `changes` is one more than theirs; answers whether it did.
    async fn put_media_settings(&self, stream: StreamId, settings: MediaSettings) -> Result<bool>;
    /// Makes a media stream, and the device that stands in for the one to come. Where its external
    /// identifier is taken, that device gets its own identifier as one.
    async fn create_media_stream(
        &self,
        device: Device,
        stream: Stream,
        settings: MediaSettings,
    ) -> Result<(), CreateError>;
    /// Takes a media stream away, with the device that stands in where it is unclaimed. Its footage
    /// is somebody else's to delete.
    async fn delete_media_stream(&self, stream: StreamId) -> Result<()>;

    async fn put_credential(&self, credential: DeviceCredential) -> Result<()>;
    /// Gives a device a further credential, and takes those away that have ended where it has
    /// [`MAX_CREDENTIALS_OF_DEVICE`](crate::device::MAX_CREDENTIALS_OF_DEVICE). Nothing, and `false`,
    /// where so many are valid at `now`.
    async fn add_credential(&self, credential: DeviceCredential, now: Timestamp) -> Result<bool>;
    /// Notes that a credential was used, to the hour.
    async fn note_credential_used(&self, id: CredentialId, at: Timestamp) -> Result<()>;
    async fn credential(&self, id: CredentialId) -> Result<Option<DeviceCredential>>;
    async fn credentials_of(&self, device: DeviceId) -> Result<Vec<DeviceCredential>>;

    /// Stores what is new of `segments`, which are at most [`WINDOW_MS`](crate::segment::WINDOW_MS)
    /// long; one answer each, in order. Idempotent by client identifier among segments that begin in
    /// the same five minutes. Those of the same five minutes are stored in one step; where it fails,
    /// those of earlier ones may be stored, and the same call again answers that they are.
    async fn announce(
        &self,
        stream: StreamId,
        segments: &[NewSegment],
        now: Timestamp,
    ) -> Result<Vec<Announced>>;
    /// Whether each write has a price, so that it is better to announce all at once that begins in
    /// the same five minutes.
    fn charges_by_write(&self) -> bool;
    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>>;
    async fn segments(&self, stream: StreamId, query: &SegmentQuery) -> Result<Vec<Segment>>;
    /// As [`Catalog::segments`], for lists that need no more of them: a day has thousands.
    async fn segment_spans(
        &self,
        stream: StreamId,
        query: &SegmentQuery,
    ) -> Result<Vec<SegmentSpan>>;
    /// The newest announced end of each stream.
    async fn newest_announced(&self, streams: &[StreamId]) -> Result<Vec<Option<Timestamp>>>;
    /// Drops segments that were ingested before `before` and overlap none of `spare`; at most
    /// `limit`, answers how many.
    async fn expire_segments(
        &self,
        stream: StreamId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize>;
    /// Drops segments that lie in `range`, were ingested before `before` and overlap none of `spare`;
    /// at most `limit`, answers how many.
    async fn delete_segments(
        &self,
        stream: StreamId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize>;
    /// Streams that have segments.
    async fn announced_streams(&self) -> Result<Vec<StreamId>>;

    /// Stores what is new of `events` and adds to what is known, each event in one step; one answer
    /// each, in order. Idempotent by client identifier among events that begin in the same five
    /// minutes; after a failure, the same call again tells the rest. In the same step in which an
    /// event is stored or changed, it becomes due to those webhooks of the device's account that want
    /// it.
    async fn report_events(
        &self,
        device: DeviceId,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<Vec<Reported>>;
    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Option<Event>>>;
    /// The JPEG that came with an event.
    async fn event_picture(&self, id: EventId) -> Result<Option<Bytes>>;
    /// A page of each device's.
    async fn events_of(&self, devices: &[DeviceId], query: &EventQuery) -> Result<Vec<EventPage>>;
    /// How many events begin from each of `bounds`, which rise, to the next one: one fewer than them.
    async fn event_counts(&self, device: DeviceId, bounds: &[Timestamp]) -> Result<Vec<u64>>;
    /// Notes that events were seen by somebody, or takes that back; what is no event is left out.
    async fn mark_seen(&self, by: Watcher, events: &[EventId], seen: bool) -> Result<()>;
    async fn seen(&self, by: Watcher, events: &[EventId]) -> Result<Vec<bool>>;
    /// Drops events that were first reported before `before` and begin in none of `spare`, with their
    /// pictures and who saw them; at most `limit`, answers how many.
    async fn expire_events(
        &self,
        device: DeviceId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize>;
    /// Drops events that begin in `range` and in none of `spare` and were first reported before
    /// `before`, likewise.
    async fn delete_events(
        &self,
        device: DeviceId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize>;
    /// Devices that have events.
    async fn eventful_devices(&self) -> Result<Vec<DeviceId>>;

    /// Adds a webhook; answers whether there was room: an account has at most
    /// [`MAX_WEBHOOKS`](crate::webhook::MAX_WEBHOOKS).
    async fn put_webhook(&self, webhook: Webhook) -> Result<bool>;
    /// In the order in which they were added.
    async fn webhooks(&self, account: AccountId) -> Result<Vec<Webhook>>;
    /// Takes a webhook away, with all that is due to it.
    async fn delete_webhook(&self, account: AccountId, id: WebhookId) -> Result<()>;
    /// Accounts that have webhooks; some may have none any more.
    async fn accounts_with_webhooks(&self) -> Result<Vec<AccountId>>;
    /// The default one where nothing is known yet.
    async fn webhook_state(&self, id: WebhookId) -> Result<WebhookState>;
    /// Replaces a webhook's state, where `changes` is one more than its; answers whether it did. That
    /// of a webhook that was taken away is not.
    async fn put_webhook_state(&self, id: WebhookId, state: WebhookState) -> Result<bool>;
    /// The first deliveries in order, those that are not to be tried yet included.
    async fn deliveries(&self, webhook: WebhookId, limit: usize) -> Result<Vec<Delivery>>;
    /// Adds deliveries, then takes others away. Nothing becomes due to a webhook that is not there.
    async fn change_deliveries(
        &self,
        webhook: WebhookId,
        added: &[Delivery],
        gone: &[Delivery],
    ) -> Result<()>;

    /// Notes what a stream's camera says of its gaps; one that begins where a noted one does replaces
    /// it, and the oldest beyond [`MAX_KNOWN_GAPS`](crate::keeping::MAX_KNOWN_GAPS) are forgotten.
    async fn put_known_gaps(&self, stream: StreamId, gaps: &[KnownGap]) -> Result<()>;
    /// Those that overlap `range`, by start.
    async fn known_gaps(&self, stream: StreamId, range: TimeRange) -> Result<Vec<KnownGap>>;
    /// Forgets those that end before `before`.
    async fn forget_known_gaps(&self, stream: StreamId, before: Timestamp) -> Result<()>;

    /// Notes how a stream is to be kept now; answers what is in force. What keeps longer is at once,
    /// what keeps less 24 h after it was first noted and every time since.
    async fn keeping_in_force(
        &self,
        stream: StreamId,
        keeping: Keeping,
        now: Timestamp,
    ) -> Result<Keeping>;

    /// Adds a hold, which ends those whose time is over; answers whether there was room among the
    /// stream's [`MAX_HOLDS`](crate::keeping::MAX_HOLDS).
    async fn put_hold(&self, hold: Hold) -> Result<bool>;
    async fn hold(&self, id: HoldId) -> Result<Option<Hold>>;
    /// Those that overlap `range`, in force or not, by start.
    async fn holds(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Hold>>;
    async fn delete_hold(&self, id: HoldId) -> Result<()>;

    /// Adds or replaces a deletion. One that is done takes in those done that it touches, and the
    /// oldest beyond [`MAX_DELETIONS`](crate::keeping::MAX_DELETIONS) are forgotten.
    async fn put_deletion(&self, deletion: Deletion) -> Result<()>;
    /// Those that overlap `range`, in the order in which they were asked for.
    async fn deletions(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Deletion>>;
    /// Deletions of all streams that are not done; at most `limit`.
    async fn open_deletions(&self, limit: usize) -> Result<Vec<Deletion>>;
    /// Forgets those done that end before `before`.
    async fn forget_deletions(&self, stream: StreamId, before: Timestamp) -> Result<()>;

    /// Writes what is only in memory yet.
    async fn close(&self) -> Result<()>;
}

/// Names an initialization segment within a stream: the first 8 bytes of SHA-256 over what is
/// stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InitId(pub u64);

/// One track's part of a fragment: its chunks, one after the other in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackSpan {
    pub init: InitId,
    pub is_video: bool,
    /// Whether it begins with a key frame.
    pub key: bool,
    /// Of its first sample, in the init's timescale, since the Unix epoch.
    pub decode_time: u64,
    /// The sum of its samples' durations, in the init's timescale.
    pub duration: u64,
    /// The init's, kept here so that a playlist is made without reading inits.
    pub timescale: u32,
    /// In the body.
    pub offset: u32,
    pub len: u32,
}

impl TrackSpan {
    /// When it begins, on the timeline, to the nearest millisecond.
    pub fn start(&self) -> Timestamp {
        self.instant(self.decode_time)
    }

    /// When it ends, likewise.
    pub fn end(&self) -> Timestamp {
        self.instant(self.decode_time.saturating_add(self.duration))
    }

    fn instant(&self, ticks: u64) -> Timestamp {
        let timescale = u128::from(self.timescale.max(1));
        let millis = (u128::from(ticks) * 1_000 + timescale / 2) / timescale;
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// A fragment's tracks. Pictures and sound lie in the record itself: a playlist reads hundreds.
pub type TrackSpans = SmallVec<[TrackSpan; 2]>;

/// A fragment to keep.
#[derive(Clone, Debug)]
pub struct NewFragment {
    pub stream: StreamId,
    /// Chosen by the caller with [`EmbeddedArchive::next_number`] when it arrives.
    pub number: FragmentNumber,
    /// On the timeline: by the camera's clock, or by arrival where the camera's cannot be true.
    pub start: Timestamp,
    pub duration_ms: u32,
    /// By the camera's clock.
    pub capture_start: Timestamp,
    /// By the service's clock.
    pub arrived_at: Timestamp,
    /// Over the frames' payloads; tells a re-sent fragment from another one with the same start.
    pub payload_hash: [u8; 16],
    /// At most 3.
    pub tracks: TrackSpans,
    /// What `tracks` name, as `TrackInit::encode` wrote it.
    pub inits: Vec<(InitId, Bytes)>,
    /// The chunks of the first track, then of the second, …; opaque.
    pub body: Payload,
    /// The chunks' lengths in the order of the body; their sum is the body's.
    pub chunk_lens: Vec<u32>,
    /// Small things to be handed back with it, such as tags; opaque, at most 8 KiB.
    pub metadata: Bytes,
}

/// Where a fragment's body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub file: u64,
    pub offset: u64,
    pub len: u32,
}

/// A fragment that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentRecord {
    pub number: FragmentNumber,
    pub start: Timestamp,
    pub duration_ms: u32,
    pub capture_start: Timestamp,
    pub arrived_at: Timestamp,
    pub tracks: TrackSpans,
    pub location: Location,
}

impl FragmentRecord {
    pub fn range(&self) -> TimeRange {
        TimeRange { start: self.start, end: self.start.plus_millis(i64::from(self.duration_ms)) }
    }

    /// Whether any of its footage lies in `span`; a fragment without duration has its first instant.
    pub fn touches(&self, span: &TimeRange) -> bool {
        let end = self.range().end.max(self.start.plus_millis(1));
        self.start < span.end && span.start < end
    }
}

/// Fragments of a stream that are kept in one file, and go together unless some of them are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkFile {
    pub number: u64,
    /// On the timeline, all of its fragments and perhaps more.
    pub range: TimeRange,
    pub newest_arrival: Timestamp,
}

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub fragments: u64,
    /// From the start of the first one to the end of the last one; none where there were none.
    pub range: Option<TimeRange>,
}

impl Removed {
    pub fn note(&mut self, record: &FragmentRecord) {
        let range = record.range();
        self.fragments += 1;
        self.range = Some(match self.range {
            Some(so_far) => {
                TimeRange { start: so_far.start.min(range.start), end: so_far.end.max(range.end) }
            }
            None => range,
        });
    }
}

/// The first number that a fragment gets which arrives at `at`: 4,096 of them a millisecond.
pub fn first_number_at(at: Timestamp) -> FragmentNumber {
    FragmentNumber((at.as_millis().max(0) as u64).saturating_mul(1 << 12))
}

/// When a fragment of that number arrived, or later where the clock had been set back.
pub fn arrival_of(number: FragmentNumber) -> Timestamp {
    Timestamp::from_millis((number.0 >> 12) as i64)
}

/// What appending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Stored(FragmentNumber),
    /// The same start and payload were kept before, under this number.
    Duplicate(FragmentNumber),
}

/// Footage without a hole of more than [`RUN_TOLERANCE_MS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub range: TimeRange,
    pub bytes: u64,
    pub fragments: u64,
    /// When its newest fragment arrived.
    pub arrived_at: Timestamp,
}

/// Holes up to this are joints between fragments, not gaps (`packaging.md`: players bridge 0.1 s).
pub const RUN_TOLERANCE_MS: i64 = 100;

/// What a range is over, and with it the order of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeBy {
    /// Fragments whose footage overlaps it, by start; of those that begin alike, the newest.
    Timeline,
    /// Fragments that arrived in it, by number; also those that a newer one of the same start has
    /// taken the place of.
    Arrival {
        /// Only after this position in the query's order.
        after: Option<FragmentNumber>,
    },
}

#[derive(Clone, Debug)]
pub struct FragmentQuery {
    pub by: RangeBy,
    pub range: TimeRange,
    pub order: TimeOrder,
    pub limit: usize,
}

/// Where a device uploads to that does not send its media to this service itself, and with what.
#[derive(Clone, Debug)]
pub struct UploadGrant {
    /// Of the control plane, whose `GetDataEndpoint` names the media endpoint; without a slash at the
    /// end.
    pub endpoint: String,
    pub region: String,
    /// For the device's own streams alone; none where the device has credentials there.
    pub credentials: Option<UploadCredentials>,
}

/// Temporary AWS credentials.
#[derive(Clone, Debug)]
pub struct UploadCredentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    pub expires_at: Timestamp,
}

/// A fragment as every backend can tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFragment {
    /// The backend's own name of it: decimal digits, at most [`MAX_FRAGMENT_ID`].
    pub id: String,
    /// On the timeline.
    pub start: Timestamp,
    pub arrived_at: Timestamp,
    pub duration_ms: u32,
    /// As it is stored.
    pub bytes: u64,
}

impl ListedFragment {
    pub fn range(&self) -> TimeRange {
        TimeRange { start: self.start, end: self.start.plus_millis(i64::from(self.duration_ms)) }
    }
}

/// Characters of a fragment's name (KVS API, "FragmentNumberString").
pub const MAX_FRAGMENT_ID: usize = 128;

/// Whether a text may be a fragment's name: it stands in playlists and paths as it is.
pub fn is_fragment_id(text: &str) -> bool {
    (1..=MAX_FRAGMENT_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Which of a fragment's two times a list goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListBy {
    /// When it begins on the timeline.
    Start,
    Arrival,
}

/// A page of a stream's fragments.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub by: ListBy,
    /// Those that begin, or arrived, in it.
    pub range: TimeRange,
    /// Where the page before said that this one begins.
    pub after: Option<String>,
    /// At most [`MAX_LISTED`].
    pub limit: usize,
}

/// Fragments of one page (KVS API, ListFragments).
pub const MAX_LISTED: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub struct FragmentPage {
    pub fragments: Vec<ListedFragment>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// Where media is kept.
///
/// # Contract
/// - `prepare` may be called again and again; what it says holds from then on.
/// - A list is complete and holds each fragment once, in no promised order. What a stream has that
///   was never prepared is nothing, not an error.
/// - Throttling and silence are [`StorageError::Unavailable`], after the backend's own retries.
#[async_trait]
pub trait Archive: Send + Sync + std::fmt::Debug {
    /// Makes a place for the stream's media, which is kept for `keep_hours` after it arrives.
    /// Refused as taken where the name of the media stream is another stream's in that place.
    async fn prepare(&self, stream: &Stream, keep_hours: u32) -> Result<(), CreateError>;
    async fn list(&self, stream: &Stream, query: &ListQuery) -> Result<FragmentPage>;
    /// Deletes all of the stream's media for good, and its place; what is not there is no fault.
    async fn forget(&self, stream: &Stream) -> Result<()>;
    /// Where and with what a device uploads to `streams`, which are its own, for `life_s` or less.
    /// None where devices send their media to this service itself, with their own credentials.
    async fn grant_upload(
        &self,
        device: DeviceId,
        streams: &[Stream],
        life_s: u32,
        now: Timestamp,
    ) -> Result<Option<UploadGrant>>;
    /// Bytes of media that there is room for.
    async fn room(&self) -> Result<u64>;
    /// Finishes what is under way; nothing may be kept afterwards.
    async fn close(&self) -> Result<()>;
}

/// Who keeps media, as those see it who read it themselves: `playback`, and for what is on this
/// machine `ingest` and `retention`.
#[derive(Clone, Debug)]
pub enum Media {
    /// In files of this machine.
    Local(Arc<EmbeddedArchive>),
    /// In Kinesis Video Streams.
    Remote(Arc<KinesisArchive>),
}

/// Announcements asked of the catalog at a time: some days of 20 s each, so that a year takes few
/// calls.
const SEGMENTS_A_PAGE: usize = 20_000;

/// Both halves of a backend, as handed to the rest of the service.
#[derive(Clone, Debug)]
pub struct Storage {
    pub catalog: Arc<dyn Catalog>,
    pub media: Media,
}

impl Storage {
    /// What was announced in a span, oldest first; at most about `limit`.
    pub async fn announced(
        &self,
        stream: StreamId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Segment>> {
        let (order, page) = (TimeOrder::OldestFirst, limit.min(SEGMENTS_A_PAGE));
        let mut query = SegmentQuery { range, order, after: None, limit: page };
        let mut all: Vec<Segment> = Vec::new();
        while all.len() < limit {
            let page = self.catalog.segments(stream, &query).await?;
            let is_full = page.len() >= query.limit;
            all.extend(page);
            query.after = all.last().map(|segment| (segment.range.start, segment.id));
            if !is_full {
                break;
            }
        }
        Ok(all)
    }

    pub fn archive(&self) -> &dyn Archive {
        match &self.media {
            Media::Local(archive) => archive.as_ref(),
            Media::Remote(archive) => archive.as_ref(),
        }
    }

    /// The media of this machine; refused where it lies elsewhere.
    pub fn local(&self) -> Result<&Arc<EmbeddedArchive>> {
        match &self.media {
            Media::Local(archive) => Ok(archive),
            Media::Remote(_) => Err(StorageError::NotSupported("its media lies elsewhere")),
        }
    }
}
