//! Events that a camera reports: which are taken, and why the others are not. Each one of a batch is
//! judged by itself; the store then tells what it knew before.

use super::announce::{MAX_CLOCK_AHEAD_MS, Rejection, RejectionCode, check_client_id, unavailable};
use crate::device::{Device, DeviceState};
use crate::event::{Attributes, Event, EventSeverity, EventType, MAX_EVENT_MS, NewEvent, Picture};
use crate::storage::{Catalog, Reported};
use crate::thumbnail::{self, NoPicture};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lookback_wire::Timestamp;
use std::collections::HashSet;

/// Events in one call.
pub const MAX_BATCH: usize = super::announce::MAX_BATCH;
const MAX_LABEL_CHARS: usize = 128;
const DAY_MS: i64 = 24 * 3_600_000;

/// An event as reported, before anything is known to be right about it.
#[derive(Clone, Debug)]
pub struct Report {
    pub client_event_id: String,
    pub event_type: EventType,
    pub label: Option<String>,
    pub severity: EventSeverity,
    pub start: Timestamp,
    pub end: Option<Timestamp>,
    pub confidence: Option<f64>,
    pub attributes: Option<Attributes>,
    /// A JPEG in base64 (RFC 4648 §4).
    pub thumbnail_base64: Option<String>,
}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    pub device: &'a Device,
    /// How long its plan keeps events.
    pub kept_days: u32,
}

/// What became of one report.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub client_event_id: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Stored(Event),
    Updated(Event),
    Duplicate(Event),
    Rejected(Rejection),
}

/// Judges and stores a batch of at most [`MAX_BATCH`]; one outcome each, in order.
pub async fn report(
    catalog: &dyn Catalog,
    reporter: Reporter<'_>,
    batch: Vec<Report>,
    now: Timestamp,
) -> Vec<Outcome> {
    let names: Vec<String> = batch.iter().map(|report| report.client_event_id.clone()).collect();
    let judged = judge(reporter, batch, now);
    // Decoding is work for a thread that nobody else waits for.
    let read = tokio::task::spawn_blocking(|| judged.into_iter().map(with_picture).collect());
    let judged: Vec<Result<NewEvent, Rejection>> = read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reported events were not read");
        names.iter().map(|_| Err(unavailable())).collect()
    });
    let accepted: Vec<NewEvent> =
        judged.iter().filter_map(|judged| judged.as_ref().ok()).cloned().collect();
    let answers = if accepted.is_empty() {
        Vec::new()
    } else {
        let device = reporter.device.id;
        let answers = catalog.report_events(device, &accepted, now).await;
        if let Err(error) = &answers {
            tracing::warn!(%device, %error, "reported events were not stored");
        }
        answers.unwrap_or_default()
    };
    let mut answers = answers.into_iter();
    let verdicts = judged.into_iter().map(|judged| match judged {
        Err(rejection) => Verdict::Rejected(rejection),
        Ok(_) => answers.next().map_or_else(|| Verdict::Rejected(unavailable()), weigh),
    });
    names
        .into_iter()
        .zip(verdicts)
        .map(|(client_event_id, verdict)| Outcome { client_event_id, verdict })
        .collect()
}

/// What the store knew of an accepted event.
fn weigh(known: Reported) -> Verdict {
    match known {
        Reported::Stored(event) => Verdict::Stored(event),
        Reported::Updated(event) => Verdict::Updated(event),
        Reported::Duplicate(event) => Verdict::Duplicate(event),
        Reported::Conflict(_) => Verdict::Rejected(Rejection {
            code: RejectionCode::IdempotencyConflict,
            message: "clientEventId was stored with another start".into(),
        }),
    }
}

/// An accepted report, its picture not read yet.
type Accepted = (NewEvent, Option<String>);

/// What can be judged without the store.
fn judge(
    reporter: Reporter<'_>,
    batch: Vec<Report>,
    now: Timestamp,
) -> Vec<Result<Accepted, Rejection>> {
    let mut seen = HashSet::new();
    batch
        .into_iter()
        .map(|report| {
            let first = seen.insert(report.client_event_id.clone());
            match refusal(reporter, &report, first, now) {
                Some((code, message)) => Err(Rejection { code, message }),
                None => Ok(accept(report)),
            }
        })
        .collect()
}

fn refusal(
    reporter: Reporter<'_>,
    report: &Report,
    first: bool,
    now: Timestamp,
) -> Option<(RejectionCode, String)> {
    use RejectionCode::*;
    if let Err(form) = check_client_id(&report.client_event_id) {
        return Some((InvalidValue, format!("clientEventId must be {form}")));
    }
    if !first {
        return Some((DuplicateInBatch, "clientEventId comes twice in this batch".into()));
    }
    if !matches!(reporter.device.state, DeviceState::Provisioned | DeviceState::Active) {
        return Some((DeviceNotActive, "the device is suspended or retired".into()));
    }
    if let Some(label) = &report.label
        && (!(1..=MAX_LABEL_CHARS).contains(&label.chars().count())
            || label.chars().any(char::is_control))
    {
        let form = format!("1 to {MAX_LABEL_CHARS} characters, none of them control characters");
        return Some((InvalidValue, format!("label must be {form}")));
    }
    if report.confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
        return Some((InvalidValue, "confidence must be 0 to 1".into()));
    }
    let newest = report.end.unwrap_or(report.start);
    if let Some(end) = report.end {
        let length_ms = end.millis_since(report.start);
        if length_ms <= 0 {
            return Some((InvalidRange, "end is not after start".into()));
        }
        if length_ms > MAX_EVENT_MS {
            let hours = MAX_EVENT_MS / 3_600_000;
            return Some((InvalidRange, format!("an event lasts at most {hours} h")));
        }
    }
    let ahead_ms = newest.millis_since(now);
    if ahead_ms > MAX_CLOCK_AHEAD_MS {
        return Some((ClockAhead, format!("it is {ahead_ms} ms ahead of the service's clock")));
    }
    let kept_ms = i64::from(reporter.kept_days).saturating_mul(DAY_MS);
    if now.millis_since(newest) >= kept_ms {
        let message = format!("the plan keeps events for {} days", reporter.kept_days);
        return Some((OutsideRetention, message));
    }
    None
}

fn accept(report: Report) -> Accepted {
    let event = NewEvent {
        client_event_id: report.client_event_id,
        event_type: report.event_type,
        label: report.label,
        severity: report.severity,
        start: report.start,
        end: report.end,
        confidence: report.confidence,
        attributes: report.attributes,
        picture: None,
    };
    (event, report.thumbnail_base64)
}

fn with_picture(judged: Result<Accepted, Rejection>) -> Result<NewEvent, Rejection> {
    let (mut event, base64) = judged?;
    event.picture = base64.as_deref().map(read_picture).transpose().map_err(|error| Rejection {
        code: RejectionCode::InvalidValue,
        message: format!("thumbnailBase64: {error}"),
    })?;
    Ok(event)
}

fn read_picture(base64: &str) -> Result<Picture, NoPicture> {
    // Four characters for three bytes, padding included.
    if base64.len() > thumbnail::MAX_BYTES.div_ceil(3) * 4 {
        return Err(NoPicture::TooLong(base64.len() / 4 * 3));
    }
    let jpeg = STANDARD.decode(base64).map_err(|_| NoPicture::Other)?;
    thumbnail::take_in(&jpeg)
}

#[cfg(test)]
mod tests {
    use super::super::announce::tests::{NOW, device};
    use super::*;

    fn plain() -> Report {
        Report {
            client_event_id: "a.B_9:-".into(),
            event_type: EventType::Motion,
            label: Some("line_crossing:driveway".into()),
            severity: EventSeverity::Notice,
            start: NOW.plus_millis(-60_000),
            end: None,
            confidence: Some(1.0),
            attributes: None,
            thumbnail_base64: None,
        }
    }

    fn codes(state: DeviceState, batch: Vec<Report>) -> Vec<Option<RejectionCode>> {
        let device = device(state);
        let reporter = Reporter { device: &device, kept_days: 7 };
        judge(reporter, batch, NOW)
            .into_iter()
            .map(|judged| with_picture(judged).err().map(|rejection| rejection.code))
            .collect()
    }

    fn check(change: impl FnOnce(&mut Report), expected: Option<RejectionCode>) {
        let mut report = plain();
        change(&mut report);
        let shown = format!("{report:?}");
        assert_eq!(codes(DeviceState::Active, vec![report]), [expected], "{shown}");
    }

    #[test]
    fn values() {
        use RejectionCode::*;
        check(|_| {}, None);
        for (id, expected) in [
            ("x".repeat(64), None),
            ("x".repeat(65), Some(InvalidValue)),
            (String::new(), Some(InvalidValue)),
            ("a b".into(), Some(InvalidValue)),
        ] {
            check(|r| r.client_event_id = id, expected);
        }
        for (label, expected) in [
            ("é".repeat(128), None),
            ("x".repeat(129), Some(InvalidValue)),
            (String::new(), Some(InvalidValue)),
            ("a\nb".into(), Some(InvalidValue)),
        ] {
            check(|r| r.label = Some(label), expected);
        }
        for (confidence, expected) in [
            (0.0, None),
            (1.0, None),
            (1.001, Some(InvalidValue)),
            (-0.001, Some(InvalidValue)),
            (f64::NAN, Some(InvalidValue)),
        ] {
            check(|r| r.confidence = Some(confidence), expected);
        }
        for thumbnail in ["", "AAAA", "not base64", "/9j/", &"A".repeat(90_000)] {
            check(|r| r.thumbnail_base64 = Some(thumbnail.into()), Some(InvalidValue));
        }
    }

    #[test]
    fn times() {
        use RejectionCode::*;
        let week = 7 * DAY_MS;
        for (start_ms, end_ms, expected) in [
            (-20_000, Some(-20_000), Some(InvalidRange)),
            (-20_000, Some(-20_001), Some(InvalidRange)),
            (-20_000, Some(-19_999), None),
            (-MAX_EVENT_MS, Some(0), None),
            (-MAX_EVENT_MS, Some(1), Some(InvalidRange)),
            (0, Some(120_000), None),
            (0, Some(120_001), Some(ClockAhead)),
            (120_000, None, None),
            (120_001, None, Some(ClockAhead)),
            (-week + 1, None, None),
            (-week, None, Some(OutsideRetention)),
            (-week - 5_000, Some(-week + 1), None),
            (-week - 5_000, Some(-week), Some(OutsideRetention)),
        ] {
            check(
                |report| {
                    report.start = NOW.plus_millis(start_ms);
                    report.end = end_ms.map(|ms| NOW.plus_millis(ms));
                },
                expected,
            );
        }
    }

    #[test]
    fn states_and_batches() {
        use DeviceState::*;
        let refused = Some(RejectionCode::DeviceNotActive);
        for (state, expected) in
            [(Provisioned, None), (Active, None), (Suspended, refused), (Retired, refused)]
        {
            assert_eq!(codes(state, vec![plain()]), [expected], "{state:?}");
        }
        let other = Report { client_event_id: "b".into(), ..plain() };
        let bad = Report { confidence: Some(2.0), client_event_id: "c".into(), ..plain() };
        let batch = vec![plain(), other, plain(), bad];
        let twice = Some(RejectionCode::DuplicateInBatch);
        let expected = [None, None, twice, Some(RejectionCode::InvalidValue)];
        assert_eq!(codes(Active, batch), expected);
    }
}
