//! `Coverage` and `Gap`.

use super::asked::{Asked, asked};
use super::device::unheard_since;
use super::fault::{Fault, Maybe};
use super::time_range::{TimeRange, seconds};
use crate::account::RetentionMode;
use crate::device;
use crate::keeping::CLAIM_MS;
use crate::playback::timeline::{self, GapFacts};
use crate::segment;
use async_graphql::{Context, Enum, Object, SimpleObject};
use lookback_wire::Timestamp;

pub struct Coverage {
    pub stream: device::Stream,
    pub coverage: timeline::Coverage,
    pub max_gap_ms: i64,
}

/// How well a span is covered.
#[Object]
impl Coverage {
    async fn range(&self) -> TimeRange {
        self.coverage.range.into()
    }

    async fn bucket_seconds(&self) -> i32 {
        i32::try_from(self.coverage.bucket_ms / 1000).unwrap_or(i32::MAX)
    }

    /// Covered seconds of each bucket, in order; the last bucket may be short.
    async fn covered_seconds(&self) -> Vec<f64> {
        self.coverage.covered_ms.iter().copied().map(seconds).collect()
    }

    /// Events that begin in each bucket.
    async fn event_counts(&self, ctx: &Context<'_>) -> Result<Vec<i32>, Fault> {
        let timeline::Coverage { range, bucket_ms, covered_ms, .. } = &self.coverage;
        let starts = (0..).zip(covered_ms).map(|(n, _)| range.start.plus_millis(n * bucket_ms));
        let bounds: Vec<Timestamp> = starts.chain([range.end]).collect();
        let catalog = &asked(ctx)?.service.storage.catalog;
        let counts = catalog.event_counts(self.stream.device, &bounds).await?;
        Ok(counts.into_iter().map(|count| i32::try_from(count).unwrap_or(i32::MAX)).collect())
    }

    async fn total_covered_seconds(&self) -> f64 {
        seconds(self.coverage.covered_ms.iter().sum())
    }

    /// Holes longer than `maxGapSeconds`, in order; null where there are more than 1,000.
    async fn gaps(&self, ctx: &Context<'_>) -> Maybe<Vec<Gap>> {
        let gaps = self.coverage.gaps.as_deref()?;
        Some(match asked(ctx) {
            Ok(asked) => explain(asked, &self.stream, gaps, self.max_gap_ms).await,
            Err(fault) => Err(fault),
        })
    }
}

/// A hole in the footage.
#[derive(Clone, Debug, SimpleObject)]
pub struct Gap {
    range: TimeRange,
    reason: GapReason,
}

/// Why there is no footage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "timeline::GapReason")]
pub enum GapReason {
    DeviceOffline,
    /// The plan records events only, or the camera was set not to record.
    NotScheduled,
    /// Its retention ended.
    Expired,
    /// It was deleted on request.
    Deleted,
    /// It may still arrive.
    Pending,
    Unknown,
}

/// The gaps of a stream that the caller was shown, with their reasons.
pub async fn explain(
    asked: &Asked,
    stream: &device::Stream,
    gaps: &[segment::TimeRange],
    max_gap_ms: i64,
) -> Result<Vec<Gap>, Fault> {
    let device = asked.device_of(stream).await?;
    let plan = asked.plan_of(&device).await?;
    let now = asked.now();
    let keeping = asked.service.retention.keeping(stream.id, &plan).await?;
    let events_only = keeping.mode == RetentionMode::EventOnly;
    let facts = GapFacts {
        now,
        made_at: stream.created_at,
        kept_since: now.plus_millis(-keeping.kept_ms()),
        claimed_before: events_only.then(|| now.plus_millis(-CLAIM_MS)),
        unheard_since: unheard_since(asked, &device),
        max_gap_ms,
    };
    let storage = &asked.service.storage;
    let explained = timeline::explain_gaps(storage, stream.id, gaps, &facts).await?;
    let gap = |(range, reason): (segment::TimeRange, timeline::GapReason)| Gap {
        range: range.into(),
        reason: reason.into(),
    };
    Ok(explained.into_iter().map(gap).collect())
}
