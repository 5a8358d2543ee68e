//! Webhooks, how their deliveries go, and what is due to each, in its order.

use super::tables::{self, Tables, decode, get, key};
use super::users::first_keys;
use crate::id::{AccountId, Ulid, WebhookId};
use crate::storage::Result;
use crate::storage::embedded::lmdb::{first_from, time_key};
use crate::webhook::{Delivery, MAX_WEBHOOKS, Webhook, WebhookState};
use heed::{RoTxn, RwTxn};

/// Deliveries that go in one transaction with their webhook, so that other writes do not wait long.
const DELIVERIES_PER_STEP: usize = 5_000;

pub fn webhook_key(account: AccountId, id: WebhookId) -> Vec<u8> {
    key(&[&account.0.to_be_bytes(), &id.0.to_be_bytes()])
}

fn delivery_key(webhook: WebhookId, delivery: &Delivery) -> Vec<u8> {
    let due_at = time_key(delivery.due_at.as_millis());
    key(&[&webhook.0.to_be_bytes(), &due_at, &delivery.id.0.to_be_bytes()])
}

pub fn put(tables: &Tables, txn: &mut RwTxn, webhook: &Webhook) -> Result<bool> {
    let of_account =
        first_keys(txn, tables.webhooks, &webhook.account.0.to_be_bytes(), MAX_WEBHOOKS)?;
    if of_account.len() >= MAX_WEBHOOKS {
        return Ok(false);
    }
    let key = webhook_key(webhook.account, webhook.id);
    tables::put(txn, tables.webhooks, &key, webhook)?;
    // While it is there, so is the webhook.
    let state = webhook.id.0.to_be_bytes();
    tables::put(txn, tables.webhook_states, &state, &WebhookState::default())?;
    Ok(true)
}

/// Identifiers rise with time, and so do keys.
pub fn of_account(tables: &Tables, txn: &RoTxn, account: AccountId) -> Result<Vec<Webhook>> {
    let of_account = tables.webhooks.prefix_iter(txn, &account.0.to_be_bytes())?;
    of_account.map(|entry| decode(entry?.1)).collect()
}

/// Answers false while some of what was due is left.
pub fn delete(tables: &Tables, txn: &mut RwTxn, account: AccountId, id: WebhookId) -> Result<bool> {
    tables.webhooks.delete(txn, &webhook_key(account, id))?;
    tables.webhook_states.delete(txn, &id.0.to_be_bytes())?;
    let due = first_keys(txn, tables.deliveries, &id.0.to_be_bytes(), DELIVERIES_PER_STEP)?;
    for key in &due {
        tables.deliveries.delete(txn, key)?;
    }
    Ok(due.len() < DELIVERIES_PER_STEP)
}

/// From the first webhook of one account straight to that of the next.
pub fn accounts(tables: &Tables, txn: &RoTxn) -> Result<Vec<AccountId>> {
    let mut found = Vec::new();
    let mut from = vec![0; 16];
    while let Some((key, _)) = first_from(tables.webhooks, txn, &[], &from)? {
        let Some(account) = key.first_chunk::<16>() else { break };
        found.push(AccountId(Ulid::from_be_bytes(*account)));
        from = [&account[..], &[0xff; 17]].concat();
    }
    Ok(found)
}

pub fn state(tables: &Tables, txn: &RoTxn, id: WebhookId) -> Result<WebhookState> {
    Ok(get(txn, tables.webhook_states, &id.0.to_be_bytes())?.unwrap_or_default())
}

pub fn put_state(
    tables: &Tables,
    txn: &mut RwTxn,
    id: WebhookId,
    new: &WebhookState,
) -> Result<bool> {
    let old: Option<WebhookState> = get(txn, tables.webhook_states, &id.0.to_be_bytes())?;
    if old.and_then(|old| old.changes.checked_add(1)) != Some(new.changes) {
        return Ok(false);
    }
    tables::put(txn, tables.webhook_states, &id.0.to_be_bytes(), new)?;
    Ok(true)
}

pub fn deliveries(
    tables: &Tables,
    txn: &RoTxn,
    webhook: WebhookId,
    limit: usize,
) -> Result<Vec<Delivery>> {
    let due = tables.deliveries.prefix_iter(txn, &webhook.0.to_be_bytes())?.take(limit);
    due.map(|entry| decode(entry?.1)).collect()
}

pub fn put_delivery(
    tables: &Tables,
    txn: &mut RwTxn,
    webhook: WebhookId,
    delivery: &Delivery,
) -> Result<()> {
    tables::put(txn, tables.deliveries, &delivery_key(webhook, delivery), delivery)
}

pub fn change_deliveries(
    tables: &Tables,
    txn: &mut RwTxn,
    webhook: WebhookId,
    added: &[Delivery],
    gone: &[Delivery],
) -> Result<()> {
    if tables.webhook_states.get(txn, &webhook.0.to_be_bytes())?.is_none() {
        return Ok(());
    }
    for delivery in added {
        put_delivery(tables, txn, webhook, delivery)?;
    }
    for delivery in gone {
        tables.deliveries.delete(txn, &delivery_key(webhook, delivery))?;
    }
    Ok(())
}
