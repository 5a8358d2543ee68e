//! `ingestEvents`: what a device noticed.

use super::asked::Asked;
use super::event::{Event, EventSeverity, EventType};
use super::fault::Fault;
use super::ingest::{DeviceAdvice, IngestStatus, Rejection, caller};
use super::scalar::{DateTime, JsonObject};
use super::user_error::{UserError, UserErrorCode};
use crate::feed::Change;
use crate::ingest::presence;
use crate::ingest::report::{self, Report, Reporter, Verdict};
use async_graphql::{InputObject, SimpleObject};

/// One event.
#[derive(Debug, InputObject)]
pub struct EventInput {
    /// Never used again in the device; same form as `clientSegmentId`.
    client_event_id: String,
    #[graphql(name = "type")]
    event_type: EventType,
    label: Option<String>,
    #[graphql(default_with = "EventSeverity::Notice")]
    severity: EventSeverity,
    start: DateTime,
    /// Leave out while it lasts; report again with the same identifier and `start` to end or refine it.
    end: Option<DateTime>,
    confidence: Option<f64>,
    attributes: Option<JsonObject>,
    /// A JPEG of at most 64 KiB, base64.
    thumbnail_base64: Option<String>,
}

impl From<EventInput> for Report {
    fn from(input: EventInput) -> Self {
        Self {
            client_event_id: input.client_event_id,
            event_type: input.event_type.into(),
            label: input.label,
            severity: input.severity.into(),
            start: input.start.0,
            end: input.end.map(|DateTime(end)| end),
            confidence: input.confidence,
            attributes: input.attributes.map(|JsonObject(attributes)| attributes),
            thumbnail_base64: input.thumbnail_base64,
        }
    }
}

#[derive(Debug, InputObject)]
pub struct IngestEventsInput {
    sent_at: DateTime,
    /// 1 to 100.
    events: Vec<EventInput>,
}

#[derive(SimpleObject)]
pub struct IngestEventsPayload {
    /// One for each input, in the same order; empty where `userErrors` refuses the whole call.
    results: Vec<EventResult>,
    advice: DeviceAdvice,
    user_errors: Vec<UserError>,
}

/// What became of one event: exactly one of `event` and `rejection` is set.
#[derive(SimpleObject)]
pub struct EventResult {
    client_event_id: String,
    status: IngestStatus,
    event: Option<Event>,
    rejection: Option<Rejection>,
}

impl From<report::Outcome> for EventResult {
    fn from(outcome: report::Outcome) -> Self {
        let (status, event, rejection) = match outcome.verdict {
            Verdict::Stored(event) => (IngestStatus::Stored, Some(event), None),
            Verdict::Updated(event) => (IngestStatus::Updated, Some(event), None),
            Verdict::Duplicate(event) => (IngestStatus::Duplicate, Some(event), None),
            Verdict::Rejected(rejection) => (IngestStatus::Rejected, None, Some(rejection)),
        };
        Self {
            client_event_id: outcome.client_event_id,
            status,
            event: event.map(Event),
            rejection: rejection.map(Into::into),
        }
    }
}

pub async fn ingest_events(
    asked: &Asked,
    input: IngestEventsInput,
) -> Result<IngestEventsPayload, Fault> {
    let device = caller(asked).await?;
    let plan = asked.plan_of(&device).await?;
    let now = asked.now();
    let clock_skew_ms = input.sent_at.0.millis_since(now);
    let refused = match input.events.len() {
        0 => Some((UserErrorCode::Invalid, "events is empty".to_owned())),
        1..=report::MAX_BATCH => None,
        count => {
            let message = format!("{count} events; at most {} at a time", report::MAX_BATCH);
            Some((UserErrorCode::LimitReached, message))
        }
    };
    let mut results = Vec::new();
    if refused.is_none() {
        let reporter = Reporter { device: &device, kept_days: plan.days };
        let batch: Vec<Report> = input.events.into_iter().map(Into::into).collect();
        let catalog = asked.service.storage.catalog.as_ref();
        let outcomes = report::report(catalog, reporter, batch, now).await;
        asked.service.deliveries.wake(device.account);
        for outcome in &outcomes {
            if let Verdict::Stored(event) | Verdict::Updated(event) = &outcome.verdict {
                let change = Change::Event(event.clone());
                asked.service.feed.publish(device.account, device.id, change);
            }
        }
        results.extend(outcomes.into_iter().map(Into::into));
        presence::note_seen(&asked.service, device.account, device.id, Some(clock_skew_ms)).await?;
        asked.loaders.devices.forget(device.id).await;
    }
    Ok(IngestEventsPayload {
        results,
        advice: DeviceAdvice::of(asked, device.id, plan, clock_skew_ms, &[]).await?,
        user_errors: refused
            .into_iter()
            .map(|(code, message)| UserError::at(code, &["events"], message))
            .collect(),
    })
}
