//! `reportHeartbeat`: a device says that it is alive, and how it is.

use super::asked::Asked;
use super::coverage::GapReason;
use super::fault::Fault;
use super::ingest::{DeviceAdvice, caller};
use super::scalar::DateTime;
use super::time_range::TimeRangeInput;
use super::user_error::{UserError, UserErrorCode, text};
use crate::access::Action;
use crate::device::{DeviceChange, Stream};
use crate::id::StreamId;
use crate::ingest::announce::MAX_CLOCK_AHEAD_MS;
use crate::ingest::presence;
use crate::keeping::{KnownGap, KnownReason};
use async_graphql::{InputObject, SimpleObject};
use lookback_wire::Timestamp;
use std::collections::BTreeMap;

const MAX_KNOWN_GAPS: usize = 20;
const MAX_FIRMWARE_CHARS: usize = 64;
const MAX_GAP_MS: i64 = 31 * 86_400_000;

#[derive(Debug, InputObject)]
pub struct HeartbeatInput {
    sent_at: DateTime,
    firmware_version: Option<String>,
    /// Gaps that the camera can explain; at most 20.
    known_gaps: Option<Vec<KnownGapInput>>,
}

#[derive(Debug, InputObject)]
pub struct KnownGapInput {
    stream: Option<String>,
    range: TimeRangeInput,
    /// `NOT_SCHEDULED` or `DEVICE_OFFLINE`.
    reason: GapReason,
}

#[derive(SimpleObject)]
pub struct HeartbeatPayload {
    advice: DeviceAdvice,
    user_errors: Vec<UserError>,
}

pub async fn report(asked: &Asked, input: HeartbeatInput) -> Result<HeartbeatPayload, Fault> {
    let device = caller(asked).await?;
    let plan = asked.plan_of(&device).await?;
    let now = asked.now();
    let clock_skew_ms = input.sent_at.0.millis_since(now);
    let streams = asked.streams_of(device.id).await?;
    let checked = if asked.may(Action::Report, &device) {
        check(&input, &streams, now)
    } else {
        let message = "the device is suspended or retired".into();
        Err(UserError { code: UserErrorCode::WrongState, message, path: None })
    };
    let mut user_errors = Vec::new();
    match checked {
        Ok(gaps) => {
            let catalog = &asked.service.storage.catalog;
            for (stream, gaps) in gaps {
                catalog.put_known_gaps(stream, &gaps).await?;
            }
            if let Some(version) = &input.firmware_version
                && device.firmware_version.as_ref() != Some(version)
            {
                let firmware_version = Some(version.clone());
                let change = DeviceChange { firmware_version, ..DeviceChange::default() };
                catalog.change_device(device.id, change).await?;
            }
            presence::note_seen(&asked.service, device.account, device.id, Some(clock_skew_ms))
                .await?;
            asked.loaders.devices.forget(device.id).await;
        }
        Err(mistake) => user_errors.push(mistake),
    }
    let advice = DeviceAdvice::of(asked, device.id, plan, clock_skew_ms, &[]).await?;
    Ok(HeartbeatPayload { advice, user_errors })
}

type GapsByStream = BTreeMap<StreamId, Vec<KnownGap>>;

/// The gaps of each stream, unless something is wrong with the input.
fn check(
    input: &HeartbeatInput,
    streams: &[Stream],
    now: Timestamp,
) -> Result<GapsByStream, UserError> {
    use UserErrorCode::{Invalid, LimitReached, NotFound};
    if let Some(version) = &input.firmware_version {
        text("firmwareVersion", version, MAX_FIRMWARE_CHARS)?;
    }
    let listed = input.known_gaps.as_deref().unwrap_or_default();
    if listed.len() > MAX_KNOWN_GAPS {
        let message = format!("{} gaps; at most {MAX_KNOWN_GAPS} at a time", listed.len());
        return Err(UserError::at(LimitReached, &["knownGaps"], message));
    }
    let mut by_stream = GapsByStream::new();
    for (place, gap) in listed.iter().enumerate() {
        let place = place.to_string();
        let mistake = |code, field: &str, message: &str| {
            Err(UserError::at(code, &["knownGaps", &place, field], message))
        };
        let named = |stream: &&Stream| gap.stream.as_ref().is_none_or(|name| *name == stream.name);
        let Some(stream) = streams.iter().find(named) else {
            return mistake(NotFound, "stream", "the device has no such stream");
        };
        let Some(range) = gap.range.span().filter(|range| range.millis() <= MAX_GAP_MS) else {
            let message = "range.end must be after range.start, by at most 31 days";
            return mistake(Invalid, "range", message);
        };
        if range.end.millis_since(now) > MAX_CLOCK_AHEAD_MS {
            let ahead_s = MAX_CLOCK_AHEAD_MS / 1000;
            let message = format!("range.end is more than {ahead_s} s after the service's clock");
            return mistake(Invalid, "range", &message);
        }
        let reason = match gap.reason {
            GapReason::NotScheduled => KnownReason::NotScheduled,
            GapReason::DeviceOffline => KnownReason::DeviceOffline,
            _ => return mistake(Invalid, "reason", "must be NOT_SCHEDULED or DEVICE_OFFLINE"),
        };
        by_stream.entry(stream.id).or_default().push(KnownGap { range, reason });
    }
    Ok(by_stream)
}
