//! A catalog that writes down what is asked of it, to see how many calls an answer takes.

use super::*;
use parking_lot::Mutex;

/// Hands every call on to `inner`.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Catalog>,
    calls: Mutex<Vec<&'static str>>,
}

impl Counted {
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The names of the calls since this was last asked.
    pub fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock())
    }
}

macro_rules! counted {
    ($(async fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Catalog for Counted {
            $(async fn $name(&self, $($argument: $type),*) -> $answer {
                self.calls.lock().push(stringify!($name));
                self.inner.$name($($argument),*).await
            })*

            fn charges_by_write(&self) -> bool {
                self.inner.charges_by_write()
            }
        }
    };
}

counted! {
    async fn account(id: AccountId) -> Result<Option<Account>>;
    async fn account_by_name(name: &str) -> Result<Option<Account>>;
    async fn ensure_account(name: &str, now: Timestamp) -> Result<Account>;
    async fn create_user(user: User) -> Result<(), CreateError>;
    async fn change_user(id: UserId, change: UserChange) -> Result<Option<User>>;
    async fn user(id: UserId) -> Result<Option<User>>;
    async fn users_by_id(ids: &[UserId]) -> Result<Vec<Option<User>>>;
    async fn user_by_name(account: AccountId, name: &str) -> Result<Option<User>>;
    async fn user_by_identity(account: AccountId, issuer: &str, subject: &str) -> Result<Option<User>>;
    async fn users(account: AccountId, query: &UserQuery) -> Result<Vec<User>>;
    async fn put_share(share: Share, now: Timestamp) -> Result<Option<Share>>;
    async fn share(id: ShareId) -> Result<Option<Share>>;
    async fn shares_of(devices: &[DeviceId]) -> Result<Vec<Vec<Share>>>;
    async fn shares_with(user: UserId) -> Result<Vec<Share>>;
    async fn delete_share(id: ShareId) -> Result<()>;
    async fn append_audit(entry: AuditEntry) -> Result<()>;
    async fn audit_log(account: AccountId, query: &AuditQuery) -> Result<Vec<AuditEntry>>;
    async fn put_sign_in(sign_in: SignIn) -> Result<()>;
    async fn rotate_sign_in(expected: [u8; 32], sign_in: SignIn) -> Result<bool>;
    async fn sign_in(id: SignInId) -> Result<Option<SignIn>>;
    async fn delete_sign_in(id: SignInId) -> Result<()>;
    async fn plans(account: AccountId) -> Result<Vec<RetentionPlan>>;
    async fn plans_by_id(ids: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>>;
    async fn put_plan(plan: RetentionPlan) -> Result<()>;
    async fn register_device(registration: Registration, now: Timestamp) -> Result<Registered, CreateError>;
    async fn change_device(id: DeviceId, change: DeviceChange) -> Result<Option<Device>>;
    async fn devices_by_id(ids: &[DeviceId]) -> Result<Vec<Option<Device>>>;
    async fn device_by_external_id(account: AccountId, external_id: &str) -> Result<Option<Device>>;
    async fn devices(account: AccountId, query: &DeviceQuery) -> Result<Vec<Device>>;
    async fn note_seen(device: DeviceId, at: Timestamp, clock_skew_ms: Option<i64>) -> Result<()>;
    async fn note_arrived(stream: StreamId, at: Timestamp, bytes: u64) -> Result<()>;
    async fn arrived_bytes(streams: &[StreamId], first: i64, last: i64) -> Result<Vec<u64>>;
    async fn streams_by_id(ids: &[StreamId]) -> Result<Vec<Option<Stream>>>;
    async fn streams_of(devices: &[DeviceId]) -> Result<Vec<Vec<Stream>>>;
    async fn stream_by_media_name(account: AccountId, name: &str) -> Result<Option<Stream>>;
    async fn all_streams(after: Option<StreamId>, limit: usize) -> Result<Vec<StreamId>>;
    async fn media_streams(account: AccountId, query: &MediaStreamQuery) -> Result<Vec<Stream>>;
    async fn media_settings(streams: &[StreamId]) -> Result<Vec<MediaSettings>>;
    async fn put_media_settings(stream: StreamId, settings: MediaSettings) -> Result<bool>;
    async fn create_media_stream(device: Device, stream: Stream, settings: MediaSettings) -> Result<(), CreateError>;
    async fn delete_media_stream(stream: StreamId) -> Result<()>;
    async fn put_credential(credential: DeviceCredential) -> Result<()>;
    async fn add_credential(credential: DeviceCredential, now: Timestamp) -> Result<bool>;
    async fn note_credential_used(id: CredentialId, at: Timestamp) -> Result<()>;
    async fn credential(id: CredentialId) -> Result<Option<DeviceCredential>>;
    async fn credentials_of(device: DeviceId) -> Result<Vec<DeviceCredential>>;
    async fn announce(stream: StreamId, segments: &[NewSegment], now: Timestamp) -> Result<Vec<Announced>>;
    async fn segment(id: SegmentId) -> Result<Option<Segment>>;
    async fn segments(stream: StreamId, query: &SegmentQuery) -> Result<Vec<Segment>>;
    async fn segment_spans(stream: StreamId, query: &SegmentQuery) -> Result<Vec<SegmentSpan>>;
    async fn newest_announced(streams: &[StreamId]) -> Result<Vec<Option<Timestamp>>>;
    async fn expire_segments(stream: StreamId, before: Timestamp, spare: &[TimeRange], limit: usize) -> Result<usize>;
    async fn delete_segments(stream: StreamId, range: TimeRange, before: Timestamp, spare: &[TimeRange], limit: usize) -> Result<usize>;
    async fn announced_streams() -> Result<Vec<StreamId>>;
    async fn report_events(device: DeviceId, events: &[NewEvent], now: Timestamp) -> Result<Vec<Reported>>;
    async fn events_by_id(ids: &[EventId]) -> Result<Vec<Option<Event>>>;
    async fn event_picture(id: EventId) -> Result<Option<Bytes>>;
    async fn events_of(devices: &[DeviceId], query: &EventQuery) -> Result<Vec<EventPage>>;
    async fn event_counts(device: DeviceId, bounds: &[Timestamp]) -> Result<Vec<u64>>;
    async fn mark_seen(by: Watcher, events: &[EventId], seen: bool) -> Result<()>;
    async fn seen(by: Watcher, events: &[EventId]) -> Result<Vec<bool>>;
    async fn expire_events(device: DeviceId, before: Timestamp, spare: &[TimeRange], limit: usize) -> Result<usize>;
    async fn delete_events(device: DeviceId, range: TimeRange, before: Timestamp, spare: &[TimeRange], limit: usize) -> Result<usize>;
    async fn eventful_devices() -> Result<Vec<DeviceId>>;
    async fn put_webhook(webhook: Webhook) -> Result<bool>;
    async fn webhooks(account: AccountId) -> Result<Vec<Webhook>>;
    async fn delete_webhook(account: AccountId, id: WebhookId) -> Result<()>;
    async fn accounts_with_webhooks() -> Result<Vec<AccountId>>;
    async fn webhook_state(id: WebhookId) -> Result<WebhookState>;
    async fn put_webhook_state(id: WebhookId, state: WebhookState) -> Result<bool>;
    async fn deliveries(webhook: WebhookId, limit: usize) -> Result<Vec<Delivery>>;
    async fn change_deliveries(webhook: WebhookId, added: &[Delivery], gone: &[Delivery]) -> Result<()>;
    async fn put_known_gaps(stream: StreamId, gaps: &[KnownGap]) -> Result<()>;
    async fn known_gaps(stream: StreamId, range: TimeRange) -> Result<Vec<KnownGap>>;
    async fn forget_known_gaps(stream: StreamId, before: Timestamp) -> Result<()>;
    async fn keeping_in_force(stream: StreamId, keeping: Keeping, now: Timestamp) -> Result<Keeping>;
    async fn put_hold(hold: Hold) -> Result<bool>;
    async fn hold(id: HoldId) -> Result<Option<Hold>>;
    async fn holds(stream: StreamId, range: TimeRange) -> Result<Vec<Hold>>;
    async fn delete_hold(id: HoldId) -> Result<()>;
    async fn put_deletion(deletion: Deletion) -> Result<()>;
    async fn deletions(stream: StreamId, range: TimeRange) -> Result<Vec<Deletion>>;
    async fn open_deletions(limit: usize) -> Result<Vec<Deletion>>;
    async fn forget_deletions(stream: StreamId, before: Timestamp) -> Result<()>;
    async fn close() -> Result<()>;
}
