//! Records in LMDB: reads on the caller's thread, writes by one thread that commits whatever has
//! gathered in one transaction.

mod arrivals;
mod audit;
pub mod check;
mod devices;
mod events;
mod media_streams;
mod retention;
mod segments;
mod shares;
mod sightings;
mod tables;
mod users;
mod webhooks;
mod writer;

use super::lmdb::Durability;
use crate::access::Share;
use crate::account::{Account, RetentionPlan, SignIn, User, UserChange};
use crate::audit::AuditEntry;
use crate::device::{Device, DeviceChange, DeviceCredential, Stream};
use crate::event::{Event, EventId, NewEvent, Watcher};
use crate::id::{
    AccountId, CredentialId, DeviceId, HoldId, PlanId, ShareId, SignInId, StreamId, Ulid, UserId,
    WebhookId,
};
use crate::keeping::{Deletion, Hold, Keeping, KnownGap};
use crate::media_stream::MediaSettings;
use crate::segment::{NewSegment, Segment, SegmentId, SegmentSpan, TimeRange};
use crate::storage::{
    Announced, AuditQuery, Catalog, CreateError, DeviceQuery, EventPage, EventQuery,
    MediaStreamQuery, Registered, Registration, Reported, Result, SegmentQuery, StorageError,
    UserQuery, utc_day,
};
use crate::webhook::{Delivery, Webhook, WebhookState};
use arrivals::Arrivals;
use async_trait::async_trait;
use bytes::Bytes;
use heed::{CompactionOption, Env, RoTxn};
use lookback_wire::Timestamp;
use sightings::Sightings;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tables::Tables;
use writer::Writer;

/// Where `meta` says which archive the records are about.
const ARCHIVE: &[u8] = b"archive";

/// The catalog in `data_dir/catalog`.
#[derive(Debug)]
pub struct EmbeddedCatalog {
    env: Env,
    tables: Tables,
    sightings: Arc<Sightings>,
    arrivals: Arc<Arrivals>,
    writer: Writer,
}

impl EmbeddedCatalog {
    pub fn open(dir: &Path) -> Result<Self> {
        let (env, tables) = tables::open(dir, Durability::EachCommit)?;
        let sightings = Arc::new(Sightings::default());
        let arrivals = Arc::new(Arrivals::default());
        let writer = Writer::start(env.clone(), tables, sightings.clone(), arrivals.clone())?;
        Ok(Self { env, tables, sightings, arrivals, writer })
    }

    /// The archive that its records are about, where it ever had one.
    pub fn archive(&self) -> Result<Option<Ulid>> {
        let text: Option<String> =
            self.read(|tables, txn| tables::get(txn, tables.meta, ARCHIVE))?;
        let parse = |text: String| {
            text.parse().map_err(|_| StorageError::Damaged(format!("the archive's id is {text:?}")))
        };
        text.map(parse).transpose()
    }

    pub fn set_archive(&self, id: Ulid) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        tables::put(&mut txn, self.tables.meta, ARCHIVE, &id.to_string())?;
        Ok(txn.commit()?)
    }

    /// Writes what the catalog holds at one moment to an empty file.
    pub fn copy_to(&self, file: &mut File) -> Result<()> {
        Ok(self.env.copy_to_file(file, CompactionOption::Enabled)?)
    }

    fn read<T>(&self, read: impl FnOnce(&Tables, &RoTxn) -> Result<T>) -> Result<T> {
        read(&self.tables, &*self.env.read_txn()?)
    }

    /// One answer for each identifier, in order.
    fn read_each<I: Copy, T>(
        &self,
        ids: &[I],
        read: impl Fn(&Tables, &RoTxn, I) -> Result<T>,
    ) -> Result<Vec<T>> {
        let txn = self.env.read_txn()?;
        ids.iter().map(|id| read(&self.tables, &txn, *id)).collect()
    }

    /// What reads say of a device: its record with what was heard of it since.
    fn with_sighting(&self, device: Option<Device>) -> Option<Device> {
        device.map(|mut device| {
            self.sightings.apply(&mut device);
            device
        })
    }
}

#[async_trait]
impl Catalog for EmbeddedCatalog {
    async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        self.read(|tables, txn| users::account(tables, txn, id))
    }

    async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        self.read(|tables, txn| users::account_by_name(tables, txn, name))
    }

    async fn ensure_account(&self, name: &str, now: Timestamp) -> Result<Account> {
        if let Some(account) = self.account_by_name(name).await? {
            return Ok(account);
        }
        let name = name.to_owned();
        self.writer.write(move |tables, txn| users::ensure_account(tables, txn, &name, now)).await
    }

    async fn create_user(&self, user: User) -> Result<(), CreateError> {
        self.writer.write(move |tables, txn| users::create_user(tables, txn, &user)).await
    }

    async fn change_user(&self, id: UserId, change: UserChange) -> Result<Option<User>> {
        self.writer.write(move |tables, txn| users::change_user(tables, txn, id, change)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.read(|tables, txn| users::user(tables, txn, id))
    }

    async fn users_by_id(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        self.read_each(ids, users::user)
    }

    async fn user_by_name(&self, account: AccountId, name: &str) -> Result<Option<User>> {
        self.read(|tables, txn| users::user_by_name(tables, txn, account, name))
    }

    async fn user_by_identity(
        &self,
        account: AccountId,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<User>> {
        self.read(|tables, txn| users::user_by_identity(tables, txn, account, issuer, subject))
    }

    async fn users(&self, account: AccountId, query: &UserQuery) -> Result<Vec<User>> {
        self.read(|tables, txn| users::page(tables, txn, account, query))
    }

    async fn put_share(&self, share: Share, now: Timestamp) -> Result<Option<Share>> {
        self.writer.write(move |tables, txn| shares::put_share(tables, txn, share, now)).await
    }

    async fn share(&self, id: ShareId) -> Result<Option<Share>> {
        self.read(|tables, txn| shares::share(tables, txn, id))
    }

    async fn shares_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Share>>> {
        self.read_each(devices, shares::of_device)
    }

    async fn shares_with(&self, user: UserId) -> Result<Vec<Share>> {
        self.read(|tables, txn| shares::with_user(tables, txn, user))
    }

    async fn delete_share(&self, id: ShareId) -> Result<()> {
        self.writer.write(move |tables, txn| shares::delete_share(tables, txn, id)).await
    }

    async fn append_audit(&self, entry: AuditEntry) -> Result<()> {
        self.writer.write(move |tables, txn| audit::append(tables, txn, &entry)).await
    }

    async fn audit_log(&self, account: AccountId, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.read(|tables, txn| audit::page(tables, txn, account, query))
    }

    async fn put_sign_in(&self, sign_in: SignIn) -> Result<()> {
        self.writer.write(move |tables, txn| users::put_sign_in(tables, txn, &sign_in)).await
    }

    async fn rotate_sign_in(&self, expected: [u8; 32], sign_in: SignIn) -> Result<bool> {
        let rotate = move |tables: &Tables, txn: &mut heed::RwTxn| {
            users::rotate_sign_in(tables, txn, expected, &sign_in)
        };
        self.writer.write(rotate).await
    }

    async fn sign_in(&self, id: SignInId) -> Result<Option<SignIn>> {
        self.read(|tables, txn| users::sign_in(tables, txn, id))
    }

    async fn delete_sign_in(&self, id: SignInId) -> Result<()> {
        self.writer.write(move |tables, txn| users::delete_sign_in(tables, txn, id)).await
    }

    async fn plans(&self, account: AccountId) -> Result<Vec<RetentionPlan>> {
        self.read(|tables, txn| users::plans(tables, txn, account))
    }

    async fn plans_by_id(&self, ids: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>> {
        self.read_each(ids, users::plan)
    }

    async fn put_plan(&self, plan: RetentionPlan) -> Result<()> {
        self.writer.write(move |tables, txn| users::put_plan(tables, txn, &plan)).await
    }

    async fn register_device(
        &self,
        registration: Registration,
        now: Timestamp,
    ) -> Result<Registered, CreateError> {
        let sightings = self.sightings.clone();
        let register = move |tables: &Tables, txn: &mut heed::RwTxn| {
            devices::register(tables, txn, &sightings, registration, now)
        };
        self.writer.write(register).await
    }

    async fn change_device(&self, id: DeviceId, change: DeviceChange) -> Result<Option<Device>> {
        let sightings = self.sightings.clone();
        let make = move |tables: &Tables, txn: &mut heed::RwTxn| {
            devices::change(tables, txn, &sightings, id, change)
        };
        self.writer.write(make).await
    }

    async fn devices_by_id(&self, ids: &[DeviceId]) -> Result<Vec<Option<Device>>> {
        let found = self.read_each(ids, devices::device)?;
        Ok(found.into_iter().map(|device| self.with_sighting(device)).collect())
    }

    async fn device_by_external_id(
        &self,
        account: AccountId,
        external_id: &str,
    ) -> Result<Option<Device>> {
        let found =
            self.read(|tables, txn| devices::by_external_id(tables, txn, account, external_id))?;
        Ok(self.with_sighting(found))
    }

    async fn devices(&self, account: AccountId, query: &DeviceQuery) -> Result<Vec<Device>> {
        let found = self.read(|tables, txn| devices::page(tables, txn, account, query))?;
        Ok(found.into_iter().filter_map(|device| self.with_sighting(Some(device))).collect())
    }

    async fn note_seen(
        &self,
        device: DeviceId,
        at: Timestamp,
        clock_skew_ms: Option<i64>,
    ) -> Result<()> {
        if !self.sightings.note(device, at, clock_skew_ms, false)
            && self.read(|tables, txn| devices::device(tables, txn, device))?.is_some()
        {
            self.sightings.note(device, at, clock_skew_ms, true);
        }
        Ok(())
    }

    async fn note_arrived(&self, stream: StreamId, at: Timestamp, bytes: u64) -> Result<()> {
        let day = utc_day(at);
        let stored = || self.read(|tables, txn| arrivals::stored(tables, txn, stream, day));
        self.arrivals.note(stream, day, bytes, stored)
    }

    async fn arrived_bytes(&self, streams: &[StreamId], first: i64, last: i64) -> Result<Vec<u64>> {
        let total = |stream, day| match self.arrivals.total(stream, day) {
            Some(total) => Ok(total),
            None => self.read(|tables, txn| arrivals::stored(tables, txn, stream, day)),
        };
        let of_stream = |stream: &StreamId| {
            (first..=last).try_fold(0u64, |sum, day| Ok(sum.saturating_add(total(*stream, day)?)))
        };
        streams.iter().map(of_stream).collect()
    }

    async fn streams_by_id(&self, ids: &[StreamId]) -> Result<Vec<Option<Stream>>> {
        self.read_each(ids, devices::stream)
    }

    async fn streams_of(&self, devices: &[DeviceId]) -> Result<Vec<Vec<Stream>>> {
        self.read_each(devices, devices::streams_of)
    }

    async fn stream_by_media_name(&self, account: AccountId, name: &str) -> Result<Option<Stream>> {
        self.read(|tables, txn| devices::stream_by_media_name(tables, txn, account, name))
    }

    async fn all_streams(&self, after: Option<StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.read(|tables, txn| devices::all_streams(tables, txn, after, limit))
    }

    async fn media_streams(
        &self,
        account: AccountId,
        query: &MediaStreamQuery,
    ) -> Result<Vec<Stream>> {
        self.read(|tables, txn| media_streams::page(tables, txn, account, query))
    }

    async fn media_settings(&self, streams: &[StreamId]) -> Result<Vec<MediaSettings>> {
        self.read_each(streams, media_streams::settings)
    }

    async fn put_media_settings(&self, stream: StreamId, settings: MediaSettings) -> Result<bool> {
        let write = move |tables: &Tables, txn: &mut heed::RwTxn| {
            media_streams::put_settings(tables, txn, stream, &settings)
        };
        self.writer.write(write).await
    }

    async fn create_media_stream(
        &self,
        device: Device,
        stream: Stream,
        settings: MediaSettings,
    ) -> Result<(), CreateError> {
        let create = move |tables: &Tables, txn: &mut heed::RwTxn| {
            media_streams::create(tables, txn, device, &stream, &settings)
        };
        self.writer.write(create).await
    }

    async fn delete_media_stream(&self, stream: StreamId) -> Result<()> {
        let sightings = self.sightings.clone();
        let delete = move |tables: &Tables, txn: &mut heed::RwTxn| {
            media_streams::delete(tables, txn, &sightings, stream)
        };
        self.writer.write(delete).await
    }

    async fn put_credential(&self, credential: DeviceCredential) -> Result<()> {
        self.writer
            .write(move |tables, txn| devices::put_credential(tables, txn, &credential))
            .await
    }

    async fn add_credential(&self, credential: DeviceCredential, now: Timestamp) -> Result<bool> {
        self.writer
            .write(move |tables, txn| devices::add_credential(tables, txn, &credential, now))
            .await
    }

    async fn note_credential_used(&self, id: CredentialId, at: Timestamp) -> Result<()> {
        let known = self.credential(id).await?;
        if known.is_none_or(|credential| !credential.is_news(at)) {
            return Ok(());
        }
        self.writer
            .write(move |tables, txn| devices::note_credential_used(tables, txn, id, at))
            .await
    }

    async fn credential(&self, id: CredentialId) -> Result<Option<DeviceCredential>> {
        self.read(|tables, txn| devices::credential(tables, txn, id))
    }

    async fn credentials_of(&self, device: DeviceId) -> Result<Vec<DeviceCredential>> {
        self.read(|tables, txn| devices::credentials_of(tables, txn, device))
    }

    async fn announce(
        &self,
        stream: StreamId,
        segments: &[NewSegment],
        now: Timestamp,
    ) -> Result<Vec<Announced>> {
        let segments = segments.to_vec();
        let announce = move |tables: &Tables, txn: &mut heed::RwTxn| {
            segments::announce(tables, txn, stream, segments, now)
        };
        self.writer.write(announce).await
    }

    fn charges_by_write(&self) -> bool {
        false
    }

    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>> {
        self.read(|tables, txn| segments::segment(tables, txn, id))
    }

    async fn segments(&self, stream: StreamId, query: &SegmentQuery) -> Result<Vec<Segment>> {
        self.read(|tables, txn| segments::page(tables, txn, stream, query))
    }

    async fn segment_spans(
        &self,
        stream: StreamId,
        query: &SegmentQuery,
    ) -> Result<Vec<SegmentSpan>> {
        self.read(|tables, txn| segments::spans(tables, txn, stream, query))
    }

    async fn newest_announced(&self, streams: &[StreamId]) -> Result<Vec<Option<Timestamp>>> {
        self.read_each(streams, segments::newest_end)
    }

    async fn expire_segments(
        &self,
        stream: StreamId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let spare = spare.to_vec();
        let expire = move |tables: &Tables, txn: &mut heed::RwTxn| {
            segments::expire(tables, txn, stream, before, &spare, limit)
        };
        self.writer.write(expire).await
    }

    async fn delete_segments(
        &self,
        stream: StreamId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let spare = spare.to_vec();
        let delete = move |tables: &Tables, txn: &mut heed::RwTxn| {
            segments::delete(tables, txn, stream, range, before, &spare, limit)
        };
        self.writer.write(delete).await
    }

    async fn announced_streams(&self) -> Result<Vec<StreamId>> {
        self.read(segments::streams)
    }

    async fn report_events(
        &self,
        device: DeviceId,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<Vec<Reported>> {
        let events = events.to_vec();
        let report = move |tables: &Tables, txn: &mut heed::RwTxn| {
            events::report(tables, txn, device, &events, now)
        };
        self.writer.write(report).await
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.read_each(ids, events::event)
    }

    async fn event_picture(&self, id: EventId) -> Result<Option<Bytes>> {
        let found = self.read(|tables, txn| events::picture(tables, txn, id))?;
        Ok(found.map(Bytes::from))
    }

    async fn events_of(&self, devices: &[DeviceId], query: &EventQuery) -> Result<Vec<EventPage>> {
        self.read_each(devices, |tables, txn, device| events::page(tables, txn, device, query))
    }

    async fn event_counts(&self, device: DeviceId, bounds: &[Timestamp]) -> Result<Vec<u64>> {
        self.read(|tables, txn| events::counts(tables, txn, device, bounds))
    }

    async fn mark_seen(&self, by: Watcher, events: &[EventId], seen: bool) -> Result<()> {
        let events = events.to_vec();
        let mark = move |tables: &Tables, txn: &mut heed::RwTxn| {
            events::mark_seen(tables, txn, by, &events, seen)
        };
        self.writer.write(mark).await
    }

    async fn seen(&self, by: Watcher, events: &[EventId]) -> Result<Vec<bool>> {
        self.read_each(events, |tables, txn, id| events::is_seen(tables, txn, by, id))
    }

    async fn expire_events(
        &self,
        device: DeviceId,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let spare = spare.to_vec();
        let expire = move |tables: &Tables, txn: &mut heed::RwTxn| {
            events::expire(tables, txn, device, before, &spare, limit)
        };
        self.writer.write(expire).await
    }

    async fn delete_events(
        &self,
        device: DeviceId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
        limit: usize,
    ) -> Result<usize> {
        let spare = spare.to_vec();
        let delete = move |tables: &Tables, txn: &mut heed::RwTxn| {
            events::delete(tables, txn, device, range, before, &spare, limit)
        };
        self.writer.write(delete).await
    }

    async fn eventful_devices(&self) -> Result<Vec<DeviceId>> {
        self.read(events::devices)
    }

    async fn put_webhook(&self, webhook: Webhook) -> Result<bool> {
        self.writer.write(move |tables, txn| webhooks::put(tables, txn, &webhook)).await
    }

    async fn webhooks(&self, account: AccountId) -> Result<Vec<Webhook>> {
        self.read(|tables, txn| webhooks::of_account(tables, txn, account))
    }

    async fn delete_webhook(&self, account: AccountId, id: WebhookId) -> Result<()> {
        while !self
            .writer
            .write(move |tables, txn| webhooks::delete(tables, txn, account, id))
            .await?
        {}
        Ok(())
    }

    async fn accounts_with_webhooks(&self) -> Result<Vec<AccountId>> {
        self.read(webhooks::accounts)
    }

    async fn webhook_state(&self, id: WebhookId) -> Result<WebhookState> {
        self.read(|tables, txn| webhooks::state(tables, txn, id))
    }

    async fn put_webhook_state(&self, id: WebhookId, state: WebhookState) -> Result<bool> {
        self.writer.write(move |tables, txn| webhooks::put_state(tables, txn, id, &state)).await
    }

    async fn deliveries(&self, webhook: WebhookId, limit: usize) -> Result<Vec<Delivery>> {
        self.read(|tables, txn| webhooks::deliveries(tables, txn, webhook, limit))
    }

    async fn change_deliveries(
        &self,
        webhook: WebhookId,
        added: &[Delivery],
        gone: &[Delivery],
    ) -> Result<()> {
        let (added, gone) = (added.to_vec(), gone.to_vec());
        let change = move |tables: &Tables, txn: &mut heed::RwTxn| {
            webhooks::change_deliveries(tables, txn, webhook, &added, &gone)
        };
        self.writer.write(change).await
    }

    async fn put_known_gaps(&self, stream: StreamId, gaps: &[KnownGap]) -> Result<()> {
        let gaps = gaps.to_vec();
        let note = move |tables: &Tables, txn: &mut heed::RwTxn| {
            retention::put_known_gaps(tables, txn, stream, &gaps)
        };
        self.writer.write(note).await
    }

    async fn known_gaps(&self, stream: StreamId, range: TimeRange) -> Result<Vec<KnownGap>> {
        self.read(|tables, txn| retention::known_gaps(tables, txn, stream, range))
    }

    async fn forget_known_gaps(&self, stream: StreamId, before: Timestamp) -> Result<()> {
        if self.known_gaps(stream, TimeRange::ALL).await?.is_empty() {
            return Ok(());
        }
        let forget = move |tables: &Tables, txn: &mut heed::RwTxn| {
            retention::forget_known_gaps(tables, txn, stream, before)
        };
        self.writer.write(forget).await
    }

    async fn keeping_in_force(
        &self,
        stream: StreamId,
        keeping: Keeping,
        now: Timestamp,
    ) -> Result<Keeping> {
        let in_force =
            self.read(|tables, txn| retention::keeping_in_force(tables, txn, stream, keeping))?;
        if let Some(keeping) = in_force {
            return Ok(keeping);
        }
        let note = move |tables: &Tables, txn: &mut heed::RwTxn| {
            retention::note_keeping(tables, txn, stream, keeping, now)
        };
        self.writer.write(note).await
    }

    async fn put_hold(&self, hold: Hold) -> Result<bool> {
        self.writer.write(move |tables, txn| retention::put_hold(tables, txn, &hold)).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<Hold>> {
        self.read(|tables, txn| retention::hold(tables, txn, id))
    }

    async fn holds(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Hold>> {
        self.read(|tables, txn| retention::holds(tables, txn, stream, range))
    }

    async fn delete_hold(&self, id: HoldId) -> Result<()> {
        self.writer.write(move |tables, txn| retention::delete_hold(tables, txn, id)).await
    }

    async fn put_deletion(&self, deletion: Deletion) -> Result<()> {
        self.writer.write(move |tables, txn| retention::put_deletion(tables, txn, deletion)).await
    }

    async fn deletions(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Deletion>> {
        self.read(|tables, txn| retention::deletions(tables, txn, stream, range))
    }

    async fn open_deletions(&self, limit: usize) -> Result<Vec<Deletion>> {
        self.read(|tables, txn| retention::open_deletions(tables, txn, limit))
    }

    async fn forget_deletions(&self, stream: StreamId, before: Timestamp) -> Result<()> {
        if self.deletions(stream, TimeRange::ALL).await?.is_empty() {
            return Ok(());
        }
        let forget = move |tables: &Tables, txn: &mut heed::RwTxn| {
            retention::forget_deletions(tables, txn, stream, before)
        };
        self.writer.write(forget).await
    }

    async fn close(&self) -> Result<()> {
        self.writer.flush().await
    }
}
