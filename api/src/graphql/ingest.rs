//! `ingestSegments`, and the advice that a device is given with every answer.

use super::asked::Asked;
use super::fault::Fault;
use super::plan::RetentionPlan;
use super::scalar::{ByteCount, DateTime};
use super::segment::{RecordingTrigger, Segment};
use super::time_range::seconds;
use super::user_error::{UserError, UserErrorCode};
use crate::access::Subject;
use crate::account;
use crate::device;
use crate::id::DeviceId;
use crate::ingest::announce::{self, Announcement, Verdict};
use async_graphql::{Enum, InputObject, SimpleObject};

/// One segment.
#[derive(Debug, InputObject)]
pub struct SegmentInput {
    /// Never used again in the stream; 1 to 64 characters of `A-Z a-z 0-9 . _ : -`.
    client_segment_id: String,
    /// The stream, by name; the main one by default.
    stream: Option<String>,
    /// The first frame's capture time.
    start: DateTime,
    /// The last frame's capture time plus its duration.
    end: DateTime,
    #[graphql(default_with = "RecordingTrigger::Continuous")]
    trigger: RecordingTrigger,
    codecs: Option<String>,
    width: Option<i32>,
    height: Option<i32>,
    size: Option<ByteCount>,
}

impl From<SegmentInput> for Announcement {
    fn from(input: SegmentInput) -> Self {
        Self {
            client_segment_id: input.client_segment_id,
            stream: input.stream,
            start: input.start.0,
            end: input.end.0,
            trigger: input.trigger.into(),
            codecs: input.codecs,
            width: input.width.map(i64::from),
            height: input.height.map(i64::from),
            size_bytes: input.size.map(|size| size.0),
        }
    }
}

/// Segments to announce; the device is the one that the token names.
#[derive(Debug, InputObject)]
pub struct IngestSegmentsInput {
    /// The camera's clock when it sent this.
    sent_at: DateTime,
    /// 1 to 100.
    segments: Vec<SegmentInput>,
}

#[derive(SimpleObject)]
pub struct IngestSegmentsPayload {
    /// One for each input, in the same order; empty where `userErrors` refuses the whole call.
    results: Vec<SegmentResult>,
    advice: DeviceAdvice,
    user_errors: Vec<UserError>,
}

/// What became of one segment: exactly one of `segment` and `rejection` is set.
#[derive(SimpleObject)]
pub struct SegmentResult {
    client_segment_id: String,
    status: IngestStatus,
    warnings: Vec<IngestWarning>,
    segment: Option<Segment>,
    rejection: Option<Rejection>,
}

impl From<announce::Outcome> for SegmentResult {
    fn from(outcome: announce::Outcome) -> Self {
        let (status, segment, rejection) = match outcome.verdict {
            Verdict::Stored(segment) => (IngestStatus::Stored, Some(segment), None),
            Verdict::Duplicate(segment) => (IngestStatus::Duplicate, Some(segment), None),
            Verdict::Rejected(rejection) => (IngestStatus::Rejected, None, Some(rejection)),
        };
        Self {
            client_segment_id: outcome.client_segment_id,
            status,
            warnings: outcome.warnings.into_iter().map(Into::into).collect(),
            segment: segment.map(Segment),
            rejection: rejection.map(Into::into),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum IngestStatus {
    Stored,
    /// A known event was ended or refined.
    Updated,
    /// The same announcement had been stored before; nothing changed.
    Duplicate,
    Rejected,
}

/// What was noticed on an accepted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "announce::Warning")]
pub enum IngestWarning {
    /// It starts before the newest known segment.
    OutOfOrder,
    /// It overlaps stored footage by more than 500 ms.
    Overlap,
    /// The device's clock is off by more than 2 s; times were stored as sent.
    ClockSkew,
}

/// Why an item was refused.
#[derive(SimpleObject)]
pub struct Rejection {
    code: RejectionCode,
    message: String,
    /// Whether sending it again unchanged can help.
    retryable: bool,
}

impl From<announce::Rejection> for Rejection {
    fn from(rejection: announce::Rejection) -> Self {
        Self {
            code: rejection.code.into(),
            message: rejection.message,
            retryable: rejection.code.is_retryable(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "announce::RejectionCode")]
pub enum RejectionCode {
    /// The same client identifier was stored with another start or end; seen where both begin in the same five minutes by the clock.
    IdempotencyConflict,
    /// `end` is not after `start`, or the length is out of bounds.
    InvalidRange,
    InvalidValue,
    /// It ends more than the allowed skew in the future.
    ClockAhead,
    /// It arrived later than the plan keeps it.
    OutsideRetention,
    UnknownStream,
    DeviceNotActive,
    QuotaExceeded,
    /// The batch holds the same client identifier twice.
    DuplicateInBatch,
    /// The store did not take it in time.
    TemporarilyUnavailable,
}

/// What the service tells a device with every answer.
#[derive(SimpleObject)]
pub struct DeviceAdvice {
    server_time: DateTime,
    /// `sentAt` minus the service's clock, in seconds; includes the network's delay.
    clock_skew_seconds: Option<f64>,
    /// How many segments to put in a batch; fewer while someone watches live.
    batch_size: usize,
    /// How long to wait at most before sending a batch that is not full.
    flush_seconds: i64,
    /// Send a heartbeat when nothing else was sent for this long.
    heartbeat_seconds: i64,
    /// Somebody wants to watch live: send footage even between events.
    live_wanted: bool,
    /// What to record, and how much around an event.
    retention_plan: RetentionPlan,
}

impl DeviceAdvice {
    /// What a device is told whose clock is `clock_skew_ms` ahead, and which has announced `batch`.
    pub async fn of(
        asked: &Asked,
        device: DeviceId,
        plan: account::RetentionPlan,
        clock_skew_ms: i64,
        batch: &[Announcement],
    ) -> Result<Self, Fault> {
        let streams = asked.streams_of(device).await?;
        let live_wanted =
            streams.iter().any(|stream| asked.service.playback.is_watched_live(stream.id));
        let charges_by_write = asked.service.storage.catalog.charges_by_write();
        let (batch_size, flush_seconds) = announce::pace(live_wanted, charges_by_write, batch);
        Ok(Self {
            server_time: DateTime(asked.now()),
            clock_skew_seconds: Some(seconds(clock_skew_ms)),
            batch_size,
            flush_seconds,
            heartbeat_seconds: announce::HEARTBEAT_S,
            live_wanted,
            retention_plan: RetentionPlan(plan),
        })
    }
}

/// The device that the token names. Whether it may report at this time is for the rules to say,
/// item by item, so that a suspended device learns why.
pub async fn caller(asked: &Asked) -> Result<device::Device, Fault> {
    let Subject::Device { device, .. } = asked.principal()?.subject else {
        return Err(Fault::Forbidden);
    };
    asked.device(device).await?.ok_or(Fault::Forbidden)
}

pub async fn ingest_segments(
    asked: &Asked,
    input: IngestSegmentsInput,
) -> Result<IngestSegmentsPayload, Fault> {
    let device = caller(asked).await?;
    let plan = asked.plan_of(&device).await?;
    let clock_skew_ms = input.sent_at.0.millis_since(asked.now());
    let refused = match input.segments.len() {
        0 => Some((UserErrorCode::Invalid, "segments is empty".to_owned())),
        1..=announce::MAX_BATCH => None,
        count => {
            let message = format!("{count} segments; at most {} at a time", announce::MAX_BATCH);
            Some((UserErrorCode::LimitReached, message))
        }
    };
    let mut results = Vec::new();
    let batch: Vec<Announcement> = input.segments.into_iter().map(Into::into).collect();
    if refused.is_none() {
        let streams = asked.streams_of(device.id).await?;
        let skew = Some(clock_skew_ms);
        let outcomes =
            announce::receive(&asked.service, &device, &streams, plan.days, &batch, skew).await?;
        results.extend(outcomes.into_iter().map(Into::into));
        asked.loaders.devices.forget(device.id).await;
    }
    Ok(IngestSegmentsPayload {
        results,
        advice: DeviceAdvice::of(asked, device.id, plan, clock_skew_ms, &batch).await?,
        user_errors: refused
            .into_iter()
            .map(|(code, message)| UserError::at(code, &["segments"], message))
            .collect(),
    })
}
