//! Posts events to webhooks: what is due lies in the catalog, written in the step in which the event
//! was; here it is taken in its order, signed, posted, and taken away when the receiver has it. What
//! fails is tried again for 24 hours. So each event arrives at least once, whatever stops in between,
//! and nothing that waits is in memory.
//!
//! One post at a time goes to a webhook, from one server: whoever delivers holds the webhook's lease.

pub mod address;
mod body;
#[cfg(test)]
mod outage;
mod post;
mod schedule;
mod sign;

pub use post::PostError;

use crate::clock::Clock;
use crate::config;
use crate::id::{AccountId, ServerId, WebhookId};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::segment::TimeRange;
use crate::storage::{Catalog, DeviceQuery, EventQuery, Result, StorageError, TimeOrder};
use crate::webhook::{Delivery, DeliveryIds, Lease, Notice, Replay, Webhook, WebhookState};
use address::{Reachable, Refusal};
use aws_lc_rs::rand;
use body::Item;
use futures_util::FutureExt;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use post::{Post, Poster};
use schedule::{Batch, MAX_BATCH, MAX_WAIT_MS, PUT_OFF_MS};
use secrecy::SecretString;
use sign::Secrets;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Posts under way at once, to all webhooks.
const MAX_POSTS: usize = 64;
/// Webhooks that something is due to, and that are attended to at once; more wait for the next look.
const MAX_ATTENDED: usize = 10_000;
/// How often all accounts are looked at for what a server left that is no more.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Reports that come together are one look.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// What a lease lasts: twice as long as a post and what is written after it.
const LEASE_MS: i64 = 30_000;
/// How soon it is looked at again what another server delivers, or what the catalog did not answer.
const AGAIN_MS: i64 = 2_000;
/// Devices that one step of a replay looks at.
const REPLAYED_DEVICES: usize = 50;
/// How often a change is made anew that met another one.
const MAX_ROUNDS: usize = 8;

/// What a webhook needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// There is more to do.
    Now,
    At(Timestamp),
    /// Nothing is due.
    Idle,
}

/// Delivers what is due.
#[derive(Debug)]
pub struct Deliveries {
    catalog: Arc<dyn Catalog>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    secrets: Secrets,
    poster: Poster,
    posts: Semaphore,
    holder: ServerId,
    /// Accounts to which something may have become due.
    woken: Mutex<HashSet<AccountId>>,
    wake: Notify,
    /// Webhooks that are attended to, and how to tell that more is due.
    attended: Mutex<HashMap<WebhookId, Arc<Notify>>>,
}

impl Deliveries {
    pub fn new(
        catalog: Arc<dyn Catalog>,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        keys: &Keys,
        config: &config::Webhooks,
    ) -> Result<Self, PostError> {
        Ok(Self {
            holder: ServerId::new(clock.now()),
            catalog,
            clock,
            metrics,
            secrets: Secrets::new(keys),
            poster: Poster::new(config)?,
            posts: Semaphore::new(MAX_POSTS),
            woken: Mutex::default(),
            wake: Notify::new(),
            attended: Mutex::default(),
        })
    }

    /// What keys a webhook's signatures.
    pub fn secret(&self, id: WebhookId) -> SecretString {
        self.secrets.secret(id)
    }

    /// Whether a webhook may have this URL.
    pub fn check_url(&self, url: &str) -> Result<(), Refusal> {
        let reachable: &Reachable = &self.poster.reachable;
        reachable.check(url).map(|_| ())
    }

    /// To be told when events of an account were stored.
    pub fn wake(&self, account: AccountId) {
        self.woken.lock().insert(account);
        self.wake.notify_one();
    }

    /// Has the events of a span delivered once more; false while an earlier span still is. A receiver
    /// that was gone is tried again.
    pub async fn replay(&self, webhook: &Webhook, range: TimeRange) -> Result<bool> {
        for _ in 0..MAX_ROUNDS {
            let mut state = self.catalog.webhook_state(webhook.id).await?;
            if state.replay.is_some() {
                return Ok(false);
            }
            state.replay = Some(Replay::new(range));
            if state.is_gone {
                state.is_gone = false;
                state.next_try_at = None;
            }
            if self.put_state(webhook.id, state).await?.is_some() {
                self.wake(webhook.account);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Delivers until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        let mut look_at = Instant::now();
        loop {
            let accounts: Vec<AccountId> = tokio::select! {
                () = self.wake.notified() => std::mem::take(&mut *self.woken.lock()).into_iter().collect(),
                () = tokio::time::sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    self.catalog.accounts_with_webhooks().await.unwrap_or_else(|error| {
                        tracing::warn!(%error, "it is not known who has webhooks");
                        Vec::new()
                    })
                }
                Some(_) = workers.join_next() => continue,
            };
            for account in accounts {
                match self.catalog.webhooks(account).await {
                    Ok(webhooks) => {
                        for webhook in webhooks {
                            self.clone().attend(&mut workers, account, webhook.id);
                        }
                    }
                    Err(error) => tracing::warn!(%account, %error, "webhooks were not read"),
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Has somebody look at what is due to a webhook.
    fn attend(self: Arc<Self>, workers: &mut JoinSet<()>, account: AccountId, id: WebhookId) {
        let more = {
            let mut attended = self.attended.lock();
            if let Some(more) = attended.get(&id) {
                return more.notify_one();
            }
            if attended.len() >= MAX_ATTENDED {
                return;
            }
            attended.entry(id).or_default().clone()
        };
        workers.spawn(async move { self.work(account, id, &more).await });
    }

    /// Delivers to a webhook until nothing is due.
    async fn work(&self, account: AccountId, id: WebhookId, more: &Notify) {
        loop {
            let then = self.step(account, id).await.unwrap_or_else(|error| {
                tracing::warn!(webhook = %id, %error, "what is due is not delivered yet");
                Then::At(self.clock.now().plus_millis(AGAIN_MS))
            });
            match then {
                Then::Now => {}
                Then::At(at) => {
                    let wait_ms = at.millis_since(self.clock.now()).max(0).unsigned_abs();
                    let wait = tokio::time::sleep(Duration::from_millis(wait_ms));
                    tokio::select! {
                        () = wait => {}
                        // Whether it is time is seen in the next step.
                        () = more.notified() => tokio::time::sleep(LOOK_PAUSE).await,
                    }
                }
                Then::Idle => {
                    let mut attended = self.attended.lock();
                    if more.notified().now_or_never().is_none() {
                        attended.remove(&id);
                        return;
                    }
                }
            }
        }
    }

    /// One post to a webhook, or what has to come before.
    pub async fn step(&self, account: AccountId, id: WebhookId) -> Result<Then> {
        let now = self.clock.now();
        let webhooks = self.catalog.webhooks(account).await?;
        let Some(webhook) = webhooks.iter().find(|webhook| webhook.id == id) else {
            return Ok(Then::Idle);
        };
        let state = self.catalog.webhook_state(id).await?;
        if let Some(lease) = state.lease.filter(|lease| self.is_excluded_by(lease, now)) {
            return Ok(Then::At(lease.until.min(now.plus_millis(AGAIN_MS))));
        }
        let is_later = |at: &Timestamp| is_ahead(*at, now, MAX_WAIT_MS);
        if let Some(at) = state.next_try_at.filter(|at| is_later(at) && !state.is_gone) {
            return Ok(Then::At(at));
        }
        let due = self.catalog.deliveries(id, MAX_BATCH).await?;
        if due.is_empty() && state.replay.is_none() {
            return self.rest(id, state).await;
        }
        let Some(state) = self.claim(id, state, now).await? else {
            return Ok(Then::At(now.plus_millis(AGAIN_MS)));
        };
        // What has not been tried is, however late: this service may have been what was gone.
        let was_tried = |delivery: &Delivery| {
            state.failing_since.is_some() || delivery.due_at != delivery.since
        };
        let is_lost =
            |delivery: &Delivery| state.is_gone || (delivery.is_over(now) && was_tried(delivery));
        let (lost, due): (Vec<_>, Vec<_>) = due.into_iter().partition(is_lost);
        if !lost.is_empty() {
            self.metrics.deliveries_dropped.add(lost.len() as u64);
            tracing::warn!(webhook = %id, events = lost.len(), "events were given up on");
            self.catalog.change_deliveries(id, &[], &lost).await?;
            return Ok(Then::Now);
        }
        let first = due.first().map(|delivery| delivery.due_at);
        let limit = state.batch_limit.unwrap_or(MAX_BATCH);
        let is_due = |delivery: &Delivery| !is_ahead(delivery.due_at, now, PUT_OFF_MS);
        let due: Vec<Delivery> = due.into_iter().filter(is_due).take(limit).collect();
        if !due.is_empty() {
            return self.deliver(webhook, due, &state).await;
        }
        match state.replay.clone() {
            // Looking through many devices takes a while, and nothing new waits for that.
            Some(replay) => self.continue_replay(webhook, replay, state, now).await,
            None => Ok(first.map_or(Then::Now, Then::At)),
        }
    }

    /// Whether another server delivers. Its clock may be some seconds ahead.
    fn is_excluded_by(&self, lease: &Lease, now: Timestamp) -> bool {
        lease.holder != self.holder && is_ahead(lease.until, now, 2 * LEASE_MS)
    }

    /// Makes this server the one that delivers to a webhook; none where another one was faster.
    async fn claim(
        &self,
        id: WebhookId,
        mut state: WebhookState,
        now: Timestamp,
    ) -> Result<Option<WebhookState>> {
        let lasts = |lease: &Lease| is_ahead(lease.until, now.plus_millis(LEASE_MS / 2), LEASE_MS);
        if state.lease.as_ref().is_some_and(lasts) {
            return Ok(Some(state));
        }
        state.lease = Some(self.lease(now));
        self.put_state(id, state).await
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease { holder: self.holder, until: now.plus_millis(LEASE_MS) }
    }

    /// Leaves a webhook to which nothing is due to whoever comes first.
    async fn rest(&self, id: WebhookId, mut state: WebhookState) -> Result<Then> {
        if state.lease.take().is_some_and(|lease| lease.holder == self.holder) {
            // One that met another change ends by itself.
            self.put_state(id, state).await?;
        }
        Ok(Then::Idle)
    }

    /// The state as it is written; none where another change came first.
    async fn put_state(
        &self,
        id: WebhookId,
        mut state: WebhookState,
    ) -> Result<Option<WebhookState>> {
        state.changes = state.changes.saturating_add(1);
        let is_put = self.catalog.put_webhook_state(id, state.clone()).await?;
        Ok(is_put.then_some(state))
    }

    /// Posts `due`, and writes down how that went.
    async fn deliver(
        &self,
        webhook: &Webhook,
        due: Vec<Delivery>,
        state: &WebhookState,
    ) -> Result<Then> {
        let id = webhook.id;
        let (items, gone) = self.items(webhook, due).await?;
        if items.is_empty() {
            self.catalog.change_deliveries(id, &[], &gone).await?;
            return Ok(Then::Now);
        }
        let (outcome, cause) = {
            // It is never closed.
            let _permit = self.posts.acquire().await.ok();
            let post = self.post(webhook, &items)?;
            self.poster.post(&webhook.url, post).await
        };
        let now = self.clock.now();
        let chance = chance();
        let mut next = schedule::after(state, outcome, items.len(), now, chance);
        let posted: Vec<Delivery> = items.into_iter().map(|(delivery, ..)| delivery).collect();
        let events = posted.len();
        match next.batch {
            Batch::Delivered => {
                self.metrics.deliveries.add(events as u64);
                let gone = [gone, posted].concat();
                self.catalog.change_deliveries(id, &[], &gone).await?;
            }
            Batch::PutOff => {
                let due_at = now.plus_millis(PUT_OFF_MS);
                let later = posted.iter().map(|delivery| Delivery { due_at, ..delivery.clone() });
                let later: Vec<Delivery> = later.collect();
                let gone = [gone, posted].concat();
                self.catalog.change_deliveries(id, &later, &gone).await?;
            }
            Batch::Stays => self.catalog.change_deliveries(id, &[], &gone).await?,
        }
        if next.batch != Batch::Delivered {
            self.metrics.posts_failed.add(1);
            let failures = next.state.failures;
            tracing::warn!(webhook = %id, events, failures, cause, "a post failed");
        }
        for _ in 0..MAX_ROUNDS {
            next.state.lease = Some(self.lease(now));
            if self.put_state(id, next.state).await?.is_some() {
                break;
            }
            // A replay was asked for, or the webhook was deleted.
            let state = self.catalog.webhook_state(id).await?;
            next = schedule::after(&state, outcome, events, now, chance);
        }
        Ok(Then::Now)
    }

    /// What is known of the events that are due, and the deliveries of those that are no more.
    async fn items(
        &self,
        webhook: &Webhook,
        due: Vec<Delivery>,
    ) -> Result<(Vec<Item>, Vec<Delivery>)> {
        let ids: Vec<_> = due.iter().map(|delivery| delivery.event).collect();
        let events = self.catalog.events_by_id(&ids).await?;
        let devices: HashSet<_> = ids.iter().map(|event| event.device).collect();
        let devices: Vec<_> = devices.into_iter().collect();
        let found = self.catalog.devices_by_id(&devices).await?;
        let external_ids: HashMap<_, _> = found
            .into_iter()
            .flatten()
            .filter(|device| device.account == webhook.account)
            .map(|device| (device.id, device.external_id))
            .collect();
        let mut items = Vec::with_capacity(due.len());
        let mut gone = Vec::new();
        for (delivery, event) in due.into_iter().zip(events) {
            match event.zip(external_ids.get(&delivery.event.device)) {
                Some((event, external_id)) => items.push((delivery, event, external_id.clone())),
                None => gone.push(delivery),
            }
        }
        Ok((items, gone))
    }

    fn post(&self, webhook: &Webhook, items: &[Item]) -> Result<Post> {
        let unwritten = |error: serde_json::Error| {
            StorageError::Damaged(format!("events cannot be written: {error}"))
        };
        let body = body::body(webhook, items).map_err(unwritten)?;
        let at = self.clock.now();
        let secret = self.secret(webhook.id);
        let signature = sign::signature(&secret, at.as_millis().div_euclid(1_000), &body);
        let id = body::post_id(items);
        Ok(Post { id, webhook: webhook.id.to_string(), at, signature, body })
    }

    /// Makes the next events of a replay due: device by device, the oldest first. Where it stops
    /// half-way, some become due twice.
    async fn continue_replay(
        &self,
        webhook: &Webhook,
        mut replay: Replay,
        mut state: WebhookState,
        now: Timestamp,
    ) -> Result<Then> {
        let query = DeviceQuery {
            name_prefix: None,
            after: replay.device.clone(),
            limit: REPLAYED_DEVICES,
        };
        let devices = self.catalog.devices(webhook.account, &query).await?;
        let mut is_done = devices.len() < REPLAYED_DEVICES;
        let mut events = Vec::new();
        for device in devices {
            if events.len() >= MAX_BATCH {
                is_done = false;
                break;
            }
            let query = EventQuery {
                range: replay.range,
                types: webhook.types(),
                min_severity: webhook.min_severity(),
                order: TimeOrder::OldestFirst,
                // The device it is of may have another place by now, or be gone.
                after: replay.event.take().filter(|(_, event)| event.device == device.id),
                limit: MAX_BATCH,
            };
            let page =
                self.catalog.events_of(&[device.id], &query).await?.pop().unwrap_or_default();
            events.extend(page.events.into_iter().map(|event| event.id));
            if page.next.is_some() {
                replay.event = page.next;
                is_done = false;
                break;
            }
            replay.device = Some((device.name, device.id));
        }
        let ids = DeliveryIds::new(now);
        let due = |(place, event)| Delivery::new(ids.nth(place), event, Notice::Replayed, now);
        let due: Vec<Delivery> = events.into_iter().enumerate().map(due).collect();
        self.catalog.change_deliveries(webhook.id, &due, &[]).await?;
        state.replay = (!is_done).then_some(replay);
        self.put_state(webhook.id, state).await?;
        Ok(Then::Now)
    }
}

/// Whether `at` is still to come. What is further ahead than `most_ms`, which is the most that anything
/// is put off, was written by a clock that has been set back since, and is not waited for.
fn is_ahead(at: Timestamp, now: Timestamp, most_ms: i64) -> bool {
    (1..=most_ms).contains(&at.millis_since(now))
}

/// 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0u8; 4];
    // Without randomness all wait for as long.
    rand::fill(&mut bytes)
        .map_or(1.0, |()| f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}
