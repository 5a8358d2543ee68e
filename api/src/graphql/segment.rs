//! `Segment`: what a camera announced.

use super::asked::{Asked, asked};
use super::fault::{Fault, Maybe};
use super::pagination::connection;
use super::scalar::{ByteCount, DateTime};
use super::stream::Stream;
use super::time_range::TimeRange;
use crate::keeping::Keeping;
use crate::segment;
use async_graphql::{Context, Enum, ID, Object};

#[derive(Clone)]
pub struct Segment(pub segment::Segment);

/// A piece of footage that a camera announced, about 20 s long, beginning with a key frame.
#[Object]
impl Segment {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn stream(&self, ctx: &Context<'_>) -> Result<Stream, Fault> {
        self.find_stream(asked(ctx)?).await.map(Stream)
    }

    /// When it was recorded, by the camera's clock.
    async fn range(&self) -> TimeRange {
        self.0.range.into()
    }

    async fn ingested_at(&self) -> DateTime {
        DateTime(self.0.ingested_at)
    }

    async fn trigger(&self) -> RecordingTrigger {
        self.0.trigger.into()
    }

    async fn size(&self) -> Option<ByteCount> {
        self.0.size_bytes.map(ByteCount)
    }

    /// When its retention ends; null while a hold keeps it.
    async fn retain_until(&self, ctx: &Context<'_>) -> Maybe<DateTime> {
        self.find_retain_until(ctx).await.transpose()
    }
}

impl Segment {
    async fn find_stream(&self, asked: &Asked) -> Result<crate::device::Stream, Fault> {
        let lost = || Fault::internal(format!("{} has no stream", self.0.id));
        asked.stream(self.0.id.stream).await?.ok_or_else(lost)
    }

    async fn find_retain_until(&self, ctx: &Context<'_>) -> Result<Option<DateTime>, Fault> {
        let asked = asked(ctx)?;
        let holds = asked.loaders.holds.get(self.0.id.stream).await?.unwrap_or_default();
        let now = asked.now();
        if holds.iter().any(|hold| hold.is_in_force(now) && hold.range.overlaps(&self.0.range)) {
            return Ok(None);
        }
        let stream = self.find_stream(asked).await?;
        let plan = asked.plan_of(&asked.device_of(&stream).await?).await?;
        let settings = asked.loaders.settings.get(stream.id).await?.unwrap_or_default();
        let kept_ms = Keeping::of(&plan, &settings).kept_ms();
        Ok(Some(DateTime(self.0.ingested_at.plus_millis(kept_ms))))
    }
}

/// Why a segment was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "segment::RecordingTrigger")]
pub enum RecordingTrigger {
    Continuous,
    /// Around an event, with pre- and post-roll.
    Event,
    Manual,
}

connection!(SegmentConnection, SegmentEdge, Segment);
