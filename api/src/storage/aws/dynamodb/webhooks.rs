//! Webhooks and what is due to them. An account's webhooks are one record, so that there are never
//! more than there is room for; what is due to one lies in a partition of its own, in its order.

use super::changes::{Changes, Tries};
use super::keys::{self, Key, Places};
use super::listed::Listed;
use super::store::{Store, encode, item_of, new_version};
use crate::device::Device;
use crate::id::{AccountId, DeviceId, WebhookId};
use crate::storage::Result;
use crate::webhook::{Delivery, MAX_WEBHOOKS, TRIED_MS, Webhook, WebhookState};
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How late it may become known here what another server did to webhooks.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// What this server remembers of accounts, and of devices, before it forgets all.
const MAX_KNOWN: usize = 100_000;
/// For so much longer than it is tried a delivery may be there. DynamoDB deletes it then, unless its
/// webhook's server has before.
const LEFT_MS: i64 = 3_600_000;
/// Of the deliveries that go with their webhook.
const DELETED_AT_ONCE: usize = 500;

/// What this server knows of who has webhooks: every report of events asks.
#[derive(Debug, Default)]
pub struct Webhooks {
    of_account: Mutex<HashMap<AccountId, (Instant, Vec<Webhook>)>>,
    /// A device's account never changes.
    account_of: Mutex<HashMap<DeviceId, AccountId>>,
    with_webhooks: Listed<AccountId>,
}

impl Webhooks {
    pub async fn of_account(&self, store: &Store, account: AccountId) -> Result<Vec<Webhook>> {
        let known = self.of_account.lock().get(&account).cloned();
        if let Some((read_at, webhooks)) = known
            && read_at.elapsed() < KNOWN_FOR
        {
            return Ok(webhooks);
        }
        let read_at = Instant::now();
        let webhooks: Option<Vec<Webhook>> = store.record(&keys::webhooks_of(account)).await?;
        let webhooks = webhooks.unwrap_or_default();
        remember(&self.of_account, account, (read_at, webhooks.clone()));
        Ok(webhooks)
    }

    /// Those of a device's account.
    pub async fn of_device(&self, store: &Store, device: DeviceId) -> Result<Vec<Webhook>> {
        let known = self.account_of.lock().get(&device).copied();
        let account = match known {
            Some(account) => account,
            None => {
                let found: Option<Device> = store.record(&keys::device(device)).await?;
                let Some(Device { account, .. }) = found else { return Ok(Vec::new()) };
                remember(&self.account_of, device, account);
                account
            }
        };
        self.of_account(store, account).await
    }

    /// To be called after a change, and before it is answered.
    fn forget(&self, account: AccountId) {
        self.of_account.lock().remove(&account);
    }
}

fn remember<K: Eq + Hash, V>(known: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = known.lock();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(key, value);
}

pub async fn put(store: &Store, known: &Webhooks, new: &Webhook) -> Result<bool> {
    let account = new.account;
    known.with_webhooks.add(store, &keys::account_with_webhooks(account), account).await?;
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::webhooks_of(account);
        let mut webhooks: Vec<Webhook> = changes.get(&key).await?.unwrap_or_default();
        if webhooks.len() >= MAX_WEBHOOKS {
            return Ok(false);
        }
        webhooks.push(new.clone());
        changes.put(key, &webhooks)?;
        // While it is there, so is the webhook.
        changes.put(keys::webhook_state(new.id), &WebhookState::default())?;
        if changes.commit().await? {
            known.forget(account);
            return Ok(true);
        }
    }
}

/// What is due goes last: to a webhook that is not there nothing is delivered.
pub async fn delete(
    store: &Store,
    known: &Webhooks,
    account: AccountId,
    id: WebhookId,
) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::webhooks_of(account);
        let mut webhooks: Vec<Webhook> = changes.get(&key).await?.unwrap_or_default();
        webhooks.retain(|webhook| webhook.id != id);
        changes.put(key, &webhooks)?;
        changes.delete(keys::webhook_state(id));
        if changes.commit().await? {
            break;
        }
    }
    known.forget(account);
    loop {
        let due = deliveries(store, id, DELETED_AT_ONCE).await?;
        change_deliveries(store, id, &[], &due).await?;
        if due.len() < DELETED_AT_ONCE {
            return Ok(());
        }
    }
}

pub async fn put_state(store: &Store, id: WebhookId, new: &WebhookState) -> Result<bool> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::webhook_state(id);
        let old: Option<WebhookState> = changes.get(&key).await?;
        if old.and_then(|old| old.changes.checked_add(1)) != Some(new.changes) {
            return Ok(false);
        }
        changes.put(key, new)?;
        if changes.commit().await? {
            return Ok(true);
        }
    }
}

pub async fn deliveries(store: &Store, webhook: WebhookId, limit: usize) -> Result<Vec<Delivery>> {
    store.list_records(&Places::all(keys::deliveries_to(webhook)), limit).await
}

/// Makes a delivery due in the same step as the other changes.
pub fn make_due(changes: &mut Changes<'_>, webhook: WebhookId, delivery: &Delivery) -> Result<()> {
    changes.put_until(keys::delivery(webhook, delivery), delivery, expiry(delivery))
}

fn expiry(delivery: &Delivery) -> Timestamp {
    delivery.since.plus_millis(TRIED_MS + LEFT_MS)
}

pub async fn change_deliveries(
    store: &Store,
    webhook: WebhookId,
    added: &[Delivery],
    gone: &[Delivery],
) -> Result<()> {
    if !added.is_empty() {
        let state: Option<WebhookState> = store.record(&keys::webhook_state(webhook)).await?;
        if state.is_none() {
            return Ok(());
        }
    }
    let version = new_version()?;
    let puts = added.iter().map(|delivery| {
        let key: Key = keys::delivery(webhook, delivery);
        let version = &version;
        async move {
            let record = encode(delivery)?;
            store.put_item(item_of(&key, record, Some(expiry(delivery)), version)).await
        }
    });
    try_join_all(puts).await?;
    let deletes = gone
        .iter()
        .map(|delivery| async move { store.delete(&keys::delivery(webhook, delivery)).await });
    try_join_all(deletes).await.map(|_| ())
}
