//! What a catalog promises of webhooks and of what is due to them.

use super::events::new_event;
use super::{NOW, at, new_account, range, register, registration};
use crate::event::{EventId, EventSeverity, EventType, NewEvent};
use crate::id::{AccountId, DeliveryId, DeviceId, ServerId, WebhookId};
use crate::storage::Catalog;
use crate::webhook::{Delivery, Lease, MAX_WEBHOOKS, Notice, Replay, Webhook, WebhookState};

pub async fn check(catalog: &dyn Catalog) {
    webhooks_are_kept(catalog).await;
    events_become_due_to_those_who_want_them(catalog).await;
    deliveries_are_in_order(catalog).await;
    states_change_one_by_one(catalog).await;
    what_is_due_goes_with_its_webhook(catalog).await;
}

fn webhook(account: AccountId) -> Webhook {
    Webhook {
        id: WebhookId::new(NOW),
        account,
        url: "https://receiver.example/events?key=1".into(),
        types: None,
        min_severity: None,
        created_at: NOW,
    }
}

async fn put(catalog: &dyn Catalog, webhook: &Webhook) {
    assert!(catalog.put_webhook(webhook.clone()).await.expect("put_webhook"));
}

async fn due(catalog: &dyn Catalog, webhook: WebhookId) -> Vec<Delivery> {
    catalog.deliveries(webhook, 1_000).await.expect("deliveries")
}

async fn webhooks_are_kept(catalog: &dyn Catalog) {
    let [account, other] = [new_account(catalog).await.id, new_account(catalog).await.id];
    let of = async |account| catalog.webhooks(account).await.expect("webhooks");
    assert_eq!(of(account).await, []);
    let mut expected = Vec::new();
    for n in 0..MAX_WEBHOOKS {
        let added = Webhook {
            id: WebhookId::new(at(n as i64)),
            types: (n % 2 == 0).then(|| vec![EventType::Person, EventType::Doorbell]),
            min_severity: (n % 3 == 0).then_some(EventSeverity::Alert),
            ..webhook(account)
        };
        put(catalog, &added).await;
        expected.push(added);
    }
    let one_more = Webhook { id: WebhookId::new(at(100)), ..webhook(account) };
    assert!(!catalog.put_webhook(one_more.clone()).await.expect("put_webhook"));
    assert_eq!(of(account).await, expected);
    assert_eq!(of(other).await, []);
    let gone = expected.remove(3);
    // That of another account is not this one's to delete.
    catalog.delete_webhook(other, gone.id).await.expect("delete_webhook");
    assert_eq!(of(account).await.len(), MAX_WEBHOOKS);
    catalog.delete_webhook(account, gone.id).await.expect("delete_webhook");
    assert_eq!(of(account).await, expected);
    assert!(catalog.put_webhook(one_more).await.expect("put_webhook"));
    let accounts = catalog.accounts_with_webhooks().await.expect("accounts_with_webhooks");
    assert!(accounts.contains(&account) && !accounts.contains(&other));
}

async fn events_become_due_to_those_who_want_them(catalog: &dyn Catalog) {
    let [account, other] = [new_account(catalog).await.id, new_account(catalog).await.id];
    let device = register(catalog, registration(account, "SN-1", "Door")).await.device.id;
    let (all, elsewhere) = (webhook(account), webhook(other));
    let people = Webhook { types: Some(vec![EventType::Person]), ..webhook(account) };
    let alerts = Webhook { min_severity: Some(EventSeverity::Alert), ..webhook(account) };
    for webhook in [&all, &people, &alerts, &elsewhere] {
        put(catalog, webhook).await;
    }
    let report = async |events: &[NewEvent], ms| {
        catalog.report_events(device, events, at(ms)).await.expect("report_events");
    };
    let person = NewEvent { event_type: EventType::Person, ..new_event("b", 1_000) };
    report(&[new_event("a", 0), person, new_event("c", 2_000)], 10).await;
    // Nothing new, and something else under the same name: nobody is told.
    report(&[new_event("a", 0), new_event("c", 2_001)], 20).await;
    let graver = NewEvent { severity: EventSeverity::Alert, ..new_event("a", 0) };
    report(&[graver], 30).await;
    // A device that nobody knows has no account.
    let nobodys = DeviceId::new(NOW);
    catalog.report_events(nobodys, &[new_event("z", 0)], NOW).await.expect("report_events");
    let told = async |webhook: &Webhook| {
        let due = due(catalog, webhook.id).await;
        let told = due.into_iter().map(|delivery| {
            assert_eq!(delivery.due_at, delivery.since);
            (delivery.event, delivery.notice, delivery.since.millis_since(NOW))
        });
        told.collect::<Vec<_>>()
    };
    let id = |start_ms, name: &str| EventId::of(device, at(start_ms), name);
    use Notice::{Began, Changed};
    let changed = (id(0, "a"), Changed, 30);
    let (a, b) = ((id(0, "a"), Began, 10), (id(1_000, "b"), Began, 10));
    assert_eq!(told(&all).await, [a, b, (id(2_000, "c"), Began, 10), changed]);
    assert_eq!(told(&people).await, [b]);
    assert_eq!(told(&alerts).await, [changed]);
    assert_eq!(told(&elsewhere).await, []);
}

async fn deliveries_are_in_order(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let [to, other] = [webhook(account), webhook(account)];
    put(catalog, &to).await;
    put(catalog, &other).await;
    let event = EventId::of(DeviceId::new(NOW), NOW, "a");
    let new = |ms| Delivery::new(DeliveryId::new(at(ms)), event, Notice::Replayed, at(ms));
    let [a, b, c] = [new(10), new(20), new(-5)];
    let change = async |added: &[Delivery], gone: &[Delivery]| {
        catalog.change_deliveries(to.id, added, gone).await.expect("change_deliveries");
    };
    change(&[a.clone(), b.clone(), c.clone()], &[]).await;
    assert_eq!(due(catalog, to.id).await, [c.clone(), a.clone(), b.clone()]);
    let first = catalog.deliveries(to.id, 1).await.expect("deliveries");
    assert_eq!(first, std::slice::from_ref(&c));
    // Put off, it is behind the others.
    let later = Delivery { due_at: at(1_000), ..c.clone() };
    change(std::slice::from_ref(&later), std::slice::from_ref(&c)).await;
    assert_eq!(due(catalog, to.id).await, [a.clone(), b.clone(), later.clone()]);
    // What is gone may be taken away again.
    change(&[], &[a.clone(), c]).await;
    change(&[], &[a]).await;
    assert_eq!(due(catalog, to.id).await, [b, later]);
    assert_eq!(due(catalog, other.id).await, []);
}

async fn states_change_one_by_one(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let webhook = webhook(account);
    let state = async || catalog.webhook_state(webhook.id).await.expect("webhook_state");
    let change = async |to: &WebhookState| {
        let put = catalog.put_webhook_state(webhook.id, to.clone()).await;
        put.expect("put_webhook_state")
    };
    let first = WebhookState { changes: 1, failing_since: Some(at(5)), ..Default::default() };
    assert!(!change(&first).await, "there is no such webhook");
    put(catalog, &webhook).await;
    assert_eq!(state().await, WebhookState::default());
    assert!(change(&first).await);
    assert!(!change(&first).await);
    let second = WebhookState {
        changes: 2,
        last_delivered_at: Some(at(7)),
        failures: 3,
        next_try_at: Some(at(9)),
        batch_limit: Some(50),
        is_gone: true,
        replay: Some(Replay {
            device: Some(("Door".into(), DeviceId::new(NOW))),
            event: Some((at(1), EventId::of(DeviceId::new(NOW), NOW, "a"))),
            ..Replay::new(range(0, 10))
        }),
        lease: Some(Lease { holder: ServerId::new(NOW), until: at(20) }),
        ..first.clone()
    };
    assert!(change(&second).await);
    assert!(!change(&first).await);
    assert_eq!(state().await, second);
    catalog.delete_webhook(account, webhook.id).await.expect("delete_webhook");
    assert!(!change(&WebhookState { changes: 3, ..second }).await);
    assert_eq!(state().await, WebhookState::default());
}

async fn what_is_due_goes_with_its_webhook(catalog: &dyn Catalog) {
    let account = new_account(catalog).await.id;
    let device = register(catalog, registration(account, "SN-1", "Door")).await.device.id;
    let [gone, stays] = [webhook(account), webhook(account)];
    put(catalog, &gone).await;
    put(catalog, &stays).await;
    let report = async |id: &str| {
        let report = catalog.report_events(device, &[new_event(id, 0)], NOW).await;
        report.expect("report_events");
    };
    report("a").await;
    catalog.delete_webhook(account, gone.id).await.expect("delete_webhook");
    report("b").await;
    let event = EventId::of(device, NOW, "a");
    let late = Delivery::new(DeliveryId::new(NOW), event, Notice::Replayed, NOW);
    let added = catalog.change_deliveries(gone.id, &[late], &[]).await;
    added.expect("change_deliveries");
    assert_eq!(due(catalog, gone.id).await, []);
    assert_eq!(due(catalog, stays.id).await.len(), 2);
}
