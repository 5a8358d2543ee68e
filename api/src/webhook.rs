//! Webhooks: where events are posted to, which ones, and what is known of how that goes.

use crate::event::{Event, EventId, EventSeverity, EventType, EventTypes};
use crate::id::{AccountId, DeliveryId, DeviceId, ServerId, Ulid, WebhookId};
use crate::segment::TimeRange;
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// Of one account.
pub const MAX_WEBHOOKS: usize = 20;
/// For so long after an event became due it is tried to deliver it.
pub const TRIED_MS: i64 = 24 * 3_600_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub account: AccountId,
    pub url: String,
    /// None for all.
    pub types: Option<Vec<EventType>>,
    pub min_severity: Option<EventSeverity>,
    pub created_at: Timestamp,
}

impl Webhook {
    pub fn types(&self) -> EventTypes {
        self.types.as_ref().map_or(EventTypes::ALL, |types| types.iter().copied().collect())
    }

    pub fn min_severity(&self) -> EventSeverity {
        self.min_severity.unwrap_or(EventSeverity::Info)
    }

    /// Whether an event, as it is known now, is one that is posted there.
    pub fn wants(&self, event: &Event) -> bool {
        self.types().contains(event.event_type) && event.severity >= self.min_severity()
    }
}

/// What a receiver is told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// It was reported for the first time.
    Began,
    /// A later report ended or refined it.
    Changed,
    /// It was asked for once more.
    Replayed,
}

/// An event on its way to a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same in every try.
    pub id: DeliveryId,
    pub event: EventId,
    pub notice: Notice,
    /// When it became due first.
    pub since: Timestamp,
    /// Before this it is not tried. A webhook's deliveries are in the order of this, then of `id`.
    pub due_at: Timestamp,
}

impl Delivery {
    /// One that is due at once.
    pub fn new(id: DeliveryId, event: EventId, notice: Notice, now: Timestamp) -> Self {
        Self { id, event, notice, since: now, due_at: now }
    }

    /// Whether it is not tried any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.millis_since(self.since) >= TRIED_MS
    }
}

/// Identifiers of deliveries that become due at the same moment, in their order.
#[derive(Debug)]
pub struct DeliveryIds(Ulid);

impl DeliveryIds {
    pub fn new(now: Timestamp) -> Self {
        Self(Ulid::new(now))
    }

    pub fn nth(&self, place: usize) -> DeliveryId {
        DeliveryId(Ulid(self.0.0.saturating_add(place as u128)))
    }
}

/// How a webhook's deliveries go. Whoever changes it makes `changes` one more than it was; of two who
/// change the same one only the first does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    pub changes: u64,
    pub last_delivered_at: Option<Timestamp>,
    /// None while deliveries succeed.
    pub failing_since: Option<Timestamp>,
    /// Posts that failed one after the other.
    pub failures: u32,
    /// Nothing is posted before this.
    pub next_try_at: Option<Timestamp>,
    /// How many events one post has at most, where it was tried with fewer since some failed.
    pub batch_limit: Option<usize>,
    /// Whether the receiver has said that it is gone for good (RFC 9110 §15.5.11).
    pub is_gone: bool,
    pub replay: Option<Replay>,
    pub lease: Option<Lease>,
}

/// Events of a span that are to be delivered once more, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// By the events' starts.
    pub range: TimeRange,
    /// The last device, by name and identifier, all of whose events are on their way.
    pub device: Option<(String, DeviceId)>,
    /// The last event of the device after that one that is on its way.
    pub event: Option<(Timestamp, EventId)>,
}

impl Replay {
    pub fn new(range: TimeRange) -> Self {
        Self { range, device: None, event: None }
    }
}

/// That one server delivers to a webhook, so that several do not do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub holder: ServerId,
    pub until: Timestamp,
}
