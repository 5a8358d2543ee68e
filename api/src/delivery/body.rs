//! What a receiver is sent: JSON, as `design/webhooks.md` describes it. Members are added over time,
//! never taken away or given another meaning without another [`VERSION`].

use super::sign::hex;
use crate::event::{Attributes, Event, EventSeverity, EventType};
use crate::id::{AccountId, DeliveryId, DeviceId, WebhookId};
use crate::webhook::{Delivery, Notice, Webhook};
use aws_lc_rs::digest;
use chrono::{DateTime, SecondsFormat, Utc};
use lookback_wire::Timestamp;
use serde::{Serialize, Serializer};

/// Of the body's form.
pub const VERSION: &str = "1";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    webhook_id: WebhookId,
    account_id: AccountId,
    events: Vec<Posted<'a>>,
}

/// One event with what it is posted for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    delivery_id: DeliveryId,
    #[serde(serialize_with = "upper_case")]
    notice: Notice,
    id: String,
    client_event_id: &'a str,
    device: PostedDevice<'a>,
    #[serde(rename = "type", serialize_with = "upper_case")]
    event_type: EventType,
    label: Option<&'a str>,
    #[serde(serialize_with = "upper_case")]
    severity: EventSeverity,
    start: String,
    end: Option<String>,
    confidence: Option<f64>,
    attributes: Option<&'a Attributes>,
    reported_at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedDevice<'a> {
    id: DeviceId,
    external_id: &'a str,
}

/// An event on its way: the delivery, what is known of the event now, and its device's external
/// identifier.
pub type Item = (Delivery, Event, String);

/// The body that brings `items`.
pub fn body(webhook: &Webhook, items: &[Item]) -> Result<Vec<u8>, serde_json::Error> {
    let events = items.iter().map(|(delivery, event, external_id)| Posted {
        delivery_id: delivery.id,
        notice: delivery.notice,
        id: event.id.to_string(),
        client_event_id: &event.client_event_id,
        device: PostedDevice { id: event.id.device, external_id },
        event_type: event.event_type,
        label: event.label.as_deref(),
        severity: event.severity,
        start: rfc3339(event.start),
        end: event.end.map(rfc3339),
        confidence: event.confidence,
        attributes: event.attributes.as_ref(),
        reported_at: rfc3339(event.ingested_at),
    });
    let (webhook_id, account_id) = (webhook.id, webhook.account);
    serde_json::to_vec(&Body { webhook_id, account_id, events: events.collect() })
}

/// Names a post by the deliveries in it: the same ones in the same order are the same post.
pub fn post_id(items: &[Item]) -> String {
    let mut digest = digest::Context::new(&digest::SHA256);
    for (delivery, ..) in items {
        digest.update(&delivery.id.0.to_be_bytes());
    }
    hex(digest.finish().as_ref().get(..16).unwrap_or_default())
}

/// The name of an enum's value as the GraphQL contract has it; all of them are one word.
fn upper_case<T: std::fmt::Debug, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{value:?}").to_ascii_uppercase())
}

/// As the API's `DateTime`.
fn rfc3339(at: Timestamp) -> String {
    let at = DateTime::<Utc>::from_timestamp_millis(at.as_millis()).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use crate::id::Ulid;
    use serde_json::{Value, json};

    const AT: Timestamp = Timestamp::from_millis(1_763_803_800_250);

    fn item(place: u128) -> Item {
        let device = DeviceId(Ulid(7));
        let event = Event {
            id: EventId::of(device, AT, "front-1"),
            client_event_id: "front-1".into(),
            event_type: EventType::Doorbell,
            label: None,
            severity: EventSeverity::Alert,
            start: AT,
            end: Some(AT.plus_millis(9_000)),
            confidence: Some(0.5),
            attributes: json!({"button": {"n": 2}}).as_object().cloned(),
            picture: None,
            ingested_at: AT.plus_millis(1_000),
        };
        let id = DeliveryId(Ulid(place));
        (Delivery::new(id, event.id, Notice::Began, AT), event, "SN-1".into())
    }

    #[test]
    fn the_body() {
        let webhook = Webhook {
            id: WebhookId(Ulid(1)),
            account: AccountId(Ulid(2)),
            url: "https://receiver.example/".into(),
            types: None,
            min_severity: None,
            created_at: AT,
        };
        let sent: Value = serde_json::from_slice(&body(&webhook, &[item(3)]).unwrap()).unwrap();
        let expected = json!({
            "webhookId": "whk_00000000000000000000000001",
            "accountId": "acc_00000000000000000000000002",
            "events": [{
                "deliveryId": "dlv_00000000000000000000000003",
                "notice": "BEGAN",
                "id": item(3).1.id.to_string(),
                "clientEventId": "front-1",
                "device": {"id": "dev_00000000000000000000000007", "externalId": "SN-1"},
                "type": "DOORBELL",
                "label": null,
                "severity": "ALERT",
                "start": "2025-11-22T09:30:00.250Z",
                "end": "2025-11-22T09:30:09.250Z",
                "confidence": 0.5,
                "attributes": {"button": {"n": 2}},
                "reportedAt": "2025-11-22T09:30:01.250Z",
            }],
        });
        assert_eq!(sent, expected);
    }

    #[test]
    fn posts_are_named_by_what_is_in_them() {
        let of =
            |places: &[u128]| post_id(&places.iter().map(|place| item(*place)).collect::<Vec<_>>());
        assert_eq!(of(&[1, 2]), of(&[1, 2]));
        assert_eq!(of(&[1]).len(), 32);
        for other in [&[1][..], &[2, 1], &[1, 2, 3], &[]] {
            assert_ne!(of(other), of(&[1, 2]), "{other:?}");
        }
    }
}
