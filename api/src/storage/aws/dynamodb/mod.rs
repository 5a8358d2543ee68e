//! Records in DynamoDB. Every request is by key: nothing scans a table.

mod arrivals;
mod audit;
#[cfg(test)]
mod capacity;
mod changes;
mod day;
mod devices;
mod events;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod front;
mod keys;
mod listed;
mod media_streams;
mod retention;
mod segments;
mod shares;
mod sightings;
mod store;
mod tables;
#[cfg(test)]
mod test_server;
mod users;
mod webhooks;
mod window;

pub use tables::DEFAULT_PREFIX;

use super::{AwsOptions, sdk_config};
use crate::access::Share;
use crate::account::{Account, RetentionPlan, SignIn, User, UserChange};
use crate::audit::AuditEntry;
use crate::device::{Device, DeviceChange, DeviceCredential, Stream};
use crate::event::{Event, EventId, NewEvent, Watcher};
use crate::id::{
    AccountId, CredentialId, DeviceId, HoldId, PlanId, ShareId, SignInId, StreamId, UserId,
    WebhookId,
};
use crate::keeping::{Deletion, Hold, Keeping, KnownGap};
use crate::media_stream::MediaSettings;
use crate::segment::{NewSegment, Segment, SegmentId, SegmentSpan, TimeRange};
use crate::storage::{
    Announced, AuditQuery, Catalog, CreateError, DeviceQuery, EventPage, EventQuery,
    MediaStreamQuery, Registered, Registration, Reported, Result, SegmentQuery, UserQuery,
};
use crate::webhook::{Delivery, Webhook, WebhookState};
use arrivals::Arrivals;
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use bytes::Bytes;
use listed::Listed;
use lookback_wire::Timestamp;
use segments::{Going, Known};
use sightings::Sightings;
use store::Store;
use tables::Tables;
use webhooks::Webhooks;

/// The catalog in tables of DynamoDB, which several servers share.
///
/// It departs from the trait's contract in three ways. Announced segments that another server stored
/// are read up to about a second late; this server's own at once. When the last time that a device
/// was heard of is known to other servers, and survives the end of this one, lags by a quarter of an hour;
/// what arrived on a day, by an hour.
/// Webhooks that another server added or took away are known up to five seconds late: until then
/// events do not become due to them, or are left over and go after a day and an hour.
#[derive(Debug)]
pub struct DynamoCatalog {
    store: Store,
    sightings: Sightings,
    arrivals: Arrivals,
    known: Known,
    eventful: Listed<DeviceId>,
    webhooks: Webhooks,
}

impl DynamoCatalog {
    /// The catalog in the tables whose names begin with `table_prefix`. Asks for nothing yet.
    pub async fn new(options: &AwsOptions, table_prefix: &str) -> Self {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&sdk_config(options).await);
        if let Some(url) = &options.dynamodb_endpoint_url {
            config = config.endpoint_url(url);
        }
        let client = Client::from_conf(config.build());
        Self {
            store: Store::new(client, Tables::new(table_prefix)),
            sightings: Sightings::default(),
            arrivals: Arrivals::default(),
            known: Known::default(),
            eventful: Listed::default(),
            webhooks: Webhooks::default(),
        }
    }

    /// Makes the tables that are not there; answers the names of all.
    pub async fn create_tables(&self) -> Result<[&str; 2]> {
        tables::create(&self.store).await?;
        Ok([&self.store.tables.core, &self.store.tables.timeline])
    }
}

#[async_trait]
impl Catalog for DynamoCatalog {
    async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        self.store.record(&keys::account(id)).await
    }

    async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        users::account_by_name(&self.store, name).await
    }

    async fn ensure_account(&self, name: &str, now: Timestamp) -> Result<Account> {
        users::ensure_account(&self.store, name, now).await
    }

    async fn create_user(&self, user: User) -> Result<(), CreateError> {
        users::create_user(&self.store, &user).await
    }

    async fn change_user(&self, id: UserId, change: UserChange) -> Result<Option<User>> {
        users::change_user(&self.store, id, &change).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.store.record(&keys::user(id)).await
    }

    async fn user_by_name(&self, account: AccountId, name: &str) -> Result<Option<User>> {
        users::user_by_name(&self.store, account, name).await
    }

    async fn user_by_identity(
        &self,
        account: AccountId,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<User>> {
        users::user_by_identity(&self.store, account, issuer, subject).await
    }

    async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        users::users_by_id(&self.store, ids).await
    }

    async fn users(&self, account: AccountId, query: &UserQuery) -> Result<Vec<User>> {
        users::page(&self.store, account, query).await
    }

    async fn put_share(&self, share: Share, now: Timestamp) -> Result<Option<Share>> {
        shares::put(&self.store, &share, now).await
    }

    async fn share(&self, id: ShareId) -> Result<Option<Share>> {
        self.store.record(&keys::share(id)).await
    }

    async fn shares_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Share>>> {
        shares::of_devices(&self.store, devices).await
    }

    async fn shares_with(&self, user: UserId) -> Result<Vec<Share>> {
        shares::with_user(&self.store, user).await
    }

    async fn delete_share(&self, id: ShareId) -> Result<()> {
        shares::delete(&self.store, id).await
    }

    async fn append_audit(&self, entry: AuditEntry) -> Result<()> {
        audit::append(&self.store, &entry).await
    }

    async fn audit_log(&self, account: AccountId, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        audit::page(&self.store, account, query).await
    }

    async fn put_sign_in(&self, sign_in: SignIn) -> Result<()> {
        users::put_sign_in(&self.store, &sign_in).await
    }

    async fn rotate_sign_in(&self, expected: [u8; 32], sign_in: SignIn) -> Result<bool> {
        users::rotate_sign_in(&self.store, expected, &sign_in).await
    }

    async fn sign_in(&self, id: SignInId) -> Result<Option<SignIn>> {
        self.store.record(&keys::sign_in(id)).await
    }

    async fn delete_sign_in(&self, id: SignInId) -> Result<()> {
        self.store.delete(&keys::sign_in(id)).await
    }

    async fn plans(&self, account: AccountId) -> Result<Vec<RetentionPlan>> {
        users::plans(&self.store, account).await
    }

    async fn plans_by_id(&self, ids: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>> {
        users::plans_by_id(&self.store, ids).await
    }

    async fn put_plan(&self, plan: RetentionPlan) -> Result<()> {
        users::replace_plan(&self.store, &plan).await
    }

    async fn register_device(
        &self,
        registration: Registration,
        now: Timestamp,
    ) -> Result<Registered, CreateError> {
        devices::register(&self.store, &self.sightings, &registration, now).await
    }

    async fn change_device(&self, id: DeviceId, change: DeviceChange) -> Result<Option<Device>> {
        devices::change(&self.store, &self.sightings, id, &change).await
    }

    async fn devices_by_id(&self, ids: &[DeviceId]) -> Result<Vec<Option<Device>>> {
        devices::devices_by_id(&self.store, &self.sightings, ids).await
    }

    async fn device_by_external_id(
        &self,
        account: AccountId,
        external_id: &str,
    ) -> Result<Option<Device>> {
        devices::by_external_id(&self.store, &self.sightings, account, external_id).await
    }

    async fn devices(&self, account: AccountId, query: &DeviceQuery) -> Result<Vec<Device>> {
        devices::page(&self.store, &self.sightings, account, query).await
    }

    async fn note_seen(
        &self,
        device: DeviceId,
        at: Timestamp,
        clock_skew_ms: Option<i64>,
    ) -> Result<()> {
        sightings::note(&self.store, &self.sightings, device, at, clock_skew_ms).await
    }

    async fn note_arrived(&self, stream: StreamId, at: Timestamp, bytes: u64) -> Result<()> {
        arrivals::note(&self.store, &self.arrivals, stream, at, bytes).await
    }

    async fn arrived_bytes(&self, streams: &[StreamId], first: i64, last: i64) -> Result<Vec<u64>> {
        arrivals::totals(&self.store, &self.arrivals, streams, first, last).await
    }

    async fn streams_by_id(&self, ids: &[StreamId]) -> Result<Vec<Option<Stream>>> {
        devices::streams_by_id(&self.store, ids).await
    }

    async fn streams_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Stream>>> {
        devices::streams_of(&self.store, devices).await
    }

    async fn stream_by_media_name(&self, account: AccountId, name: &str) -> Result<Option<Stream>> {
        devices::stream_by_media_name(&self.store, account, name).await
    }

    async fn all_streams(&self, after: Option<StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        devices::all_streams(&self.store, after, limit).await
    }

    async fn media_streams(
        &self,
        account: AccountId,
        query: &MediaStreamQuery,
    ) -> Result<Vec<Stream>> {
        media_streams::page(&self.store, account, query).await
    }

    async fn media_settings(&self, streams: &[StreamId]) -> Result<Vec<MediaSettings>> {
        media_streams::settings(&self.store, streams).await
    }

    async fn put_media_settings(&self, stream: StreamId, settings: MediaSettings) -> Result<bool> {
        media_streams::put_settings(&self.store, stream, &settings).await
    }

    async fn create_media_stream(
        &self,
        device: Device,
        stream: Stream,
        settings: MediaSettings,
    ) -> Result<(), CreateError> {
        media_streams::create(&self.store, &self.sightings, &device, &stream, &settings).await
    }

    async fn delete_media_stream(&self, stream: StreamId) -> Result<()> {
        media_streams::delete(&self.store, &self.sightings, stream).await
    }

    async fn put_credential(&self, credential: DeviceCredential) -> Result<()> {
        devices::put_credential(&self.store, &self.sightings, &credential).await
    }

    async fn add_credential(&self, credential: DeviceCredential, now: Timestamp) -> Result<bool> {
        devices::add_credential(&self.store, &self.sightings, &credential, now).await
    }

    async fn note_credential_used(&self, id: CredentialId, at: Timestamp) -> Result<()> {
        devices::note_credential_used(&self.store, id, at).await
    }

    async fn credential(&self, id: CredentialId) -> Result<Option<DeviceCredential>> {
        self.store.record(&keys::credential(id)).await
    }

    async fn credentials_of(&self, device: DeviceId) -> Result<Vec<DeviceCredential>> {
        devices::credentials_of(&self.store, device).await
    }

    async fn announce(
        &self,
        stream: StreamId,
        segments: &[NewSegment],
        now: Timestamp,
    ) -> Result<Vec<Announced>> {
        segments::announce(&self.store, &self.known, stream, segments, now).await
    }

    fn charges_by_write(&self) -> bool {
        true
    }

    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>> {
        segments::segment(&self.store, id).await
    }

    async fn segments(&self, stream: StreamId, query: &SegmentQuery) -> Result<Vec<Segment>> {
        segments::page(&self.store, &self.known, stream, query).await
    }

    async fn segment_spans(
        &self,
        stream: StreamId,
        query: &SegmentQuery,
    ) -> Result<Vec<SegmentSpan>> {
        Ok(self.segments(stream, query).await?.iter().map(Into::into).collect())
    }

    async fn newest_announced(&self, streams: &[StreamId]) -> Result<Vec<Option<Timestamp>>> {
        segments::newest_ends(&self.store, streams).await
    }

    async fn expire_segments(
        &self,
        stream: StreamId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let going = Going { stream, inside: None, ingested_before: before, spare, limit };
        segments::remove(&self.store, &self.known, going).await
    }

    async fn delete_segments(
        &self,
        stream: StreamId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let going = Going { stream, inside: Some(range), ingested_before: before, spare, limit };
        segments::remove(&self.store, &self.known, going).await
    }

    async fn announced_streams(&self) -> Result<Vec<StreamId>> {
        segments::streams(&self.store).await
    }

    async fn report_events(
        &self,
        device: DeviceId,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<Vec<Reported>> {
        events::report(&self.store, &self.eventful, &self.webhooks, device, events, now).await
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        events::events_by_id(&self.store, ids).await
    }

    async fn event_picture(&self, id: EventId) -> Result<Option<Bytes>> {
        events::picture(&self.store, id).await
    }

    async fn events_of(&self, devices: &[DeviceId], query: &EventQuery) -> Result<Vec<EventPage>> {
        events::pages(&self.store, devices, query).await
    }

    async fn event_counts(&self, device: DeviceId, bounds: &[Timestamp]) -> Result<Vec<u64>> {
        events::counts(&self.store, device, bounds).await
    }

    async fn mark_seen(&self, by: Watcher, events: &[EventId], seen: bool) -> Result<()> {
        events::mark_seen(&self.store, by, events, seen).await
    }

    async fn seen(&self, by: Watcher, events: &[EventId]) -> Result<Vec<bool>> {
        events::seen(&self.store, by, events).await
    }

    async fn expire_events(
        &self,
        device: DeviceId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        events::expire(&self.store, device, before, spare, limit).await
    }

    async fn delete_events(
        &self,
        device: DeviceId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        events::delete(&self.store, device, range, before, spare, limit).await
    }

    async fn eventful_devices(&self) -> Result<Vec<DeviceId>> {
        events::devices(&self.store).await
    }

    async fn put_webhook(&self, webhook: Webhook) -> Result<bool> {
        webhooks::put(&self.store, &self.webhooks, &webhook).await
    }

    async fn webhooks(&self, account: AccountId) -> Result<Vec<Webhook>> {
        self.webhooks.of_account(&self.store, account).await
    }

    async fn delete_webhook(&self, account: AccountId, id: WebhookId) -> Result<()> {
        webhooks::delete(&self.store, &self.webhooks, account, id).await
    }

    async fn accounts_with_webhooks(&self) -> Result<Vec<AccountId>> {
        listed::all(&self.store, keys::accounts_with_webhooks).await
    }

    async fn webhook_state(&self, id: WebhookId) -> Result<WebhookState> {
        Ok(self.store.record(&keys::webhook_state(id)).await?.unwrap_or_default())
    }

    async fn put_webhook_state(&self, id: WebhookId, state: WebhookState) -> Result<bool> {
        webhooks::put_state(&self.store, id, &state).await
    }

    async fn deliveries(&self, webhook: WebhookId, limit: usize) -> Result<Vec<Delivery>> {
        webhooks::deliveries(&self.store, webhook, limit).await
    }

    async fn change_deliveries(
        &self,
        webhook: WebhookId,
        added: &[Delivery],
        gone: &[Delivery],
    ) -> Result<()> {
        webhooks::change_deliveries(&self.store, webhook, added, gone).await
    }

    async fn put_known_gaps(&self, stream: StreamId, gaps: &[KnownGap]) -> Result<()> {
        retention::put_known_gaps(&self.store, stream, gaps).await
    }

    async fn known_gaps(&self, stream: StreamId, range: TimeRange) -> Result<Vec<KnownGap>> {
        retention::known_gaps(&self.store, stream, range).await
    }

    async fn forget_known_gaps(&self, stream: StreamId, before: Timestamp) -> Result<()> {
        retention::forget_known_gaps(&self.store, stream, before).await
    }

    async fn keeping_in_force(
        &self,
        stream: StreamId,
        keeping: Keeping,
        now: Timestamp,
    ) -> Result<Keeping> {
        retention::keeping_in_force(&self.store, stream, keeping, now).await
    }

    async fn put_hold(&self, hold: Hold) -> Result<bool> {
        retention::put_hold(&self.store, &hold).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<Hold>> {
        retention::hold(&self.store, id).await
    }

    async fn holds(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Hold>> {
        retention::holds(&self.store, stream, range).await
    }

    async fn delete_hold(&self, id: HoldId) -> Result<()> {
        retention::delete_hold(&self.store, id).await
    }

    async fn put_deletion(&self, deletion: Deletion) -> Result<()> {
        retention::put_deletion(&self.store, deletion).await
    }

    async fn deletions(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Deletion>> {
        retention::deletions(&self.store, stream, range).await
    }

    async fn open_deletions(&self, limit: usize) -> Result<Vec<Deletion>> {
        retention::open_deletions(&self.store, limit).await
    }

    async fn forget_deletions(&self, stream: StreamId, before: Timestamp) -> Result<()> {
        retention::forget_deletions(&self.store, stream, before).await
    }

    async fn close(&self) -> Result<()> {
        sightings::flush(&self.store, &self.sightings).await?;
        arrivals::flush(&self.store, &self.arrivals).await
    }
}

#[cfg(test)]
mod tests {
    use super::front::Front;
    use super::test_server::TestServer;
    use crate::storage::contract;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_catalog_keeps_the_contract() {
        let server = TestServer::start().await;
        let front = Front::start(&server).await;
        let catalog = server.catalog_through(&front.url).await;
        contract::check_catalog(&catalog).await;
        // Nothing is scanned, and everything is allowed: a transaction by the rights to its parts.
        let template = include_str!("../../../../../deploy/aws/lookback.yaml");
        let of_tables = ["CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTimeToLive"];
        for operation in front.requests.lock().seen.keys() {
            assert_ne!(operation, "Scan");
            let is_allowed = template.contains(&format!("dynamodb:{operation}\n"));
            let is_else =
                operation == "TransactWriteItems" || of_tables.contains(&operation.as_str());
            assert!(is_allowed || is_else, "{operation} is not in deploy/aws/lookback.yaml");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_needs_no_transactions_is_kept_without_them() {
        let server = TestServer::start_counting().await;
        let front = Front::start(&server).await;
        let catalog = server.catalog_through(&front.url).await;
        contract::check_timeline(&catalog).await;
        assert_eq!(front.count("Scan"), 0);
    }
}
