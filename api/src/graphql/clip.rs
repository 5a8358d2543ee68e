//! `Clip`: continuous footage, as it was asked for.

use super::asked::asked;
use super::fault::{Fault, Maybe};
use super::image::{self, Image};
use super::pagination::connection;
use super::scalar::ByteCount;
use super::segment::RecordingTrigger;
use super::stream::Stream;
use super::time_range::{TimeRange, seconds};
use crate::device;
use crate::playback::timeline;
use crate::segment;
use async_graphql::{Context, Object};

#[derive(Clone)]
pub struct Clip {
    pub stream: device::Stream,
    pub clip: timeline::Clip,
    /// The span of the list it is in, whose announcements are read once for all of its clips.
    pub list: segment::TimeRange,
}

/// Continuous footage. It is made when asked for, so its bounds depend on the question; it has no identifier.
#[Object]
impl Clip {
    async fn stream(&self) -> Stream {
        Stream(self.stream.clone())
    }

    /// The span it covers, cut to the asked range.
    async fn range(&self) -> TimeRange {
        self.clip.range.into()
    }

    /// Footage really in it, in seconds: `range` less the bridged holes.
    async fn media_seconds(&self) -> f64 {
        seconds(self.clip.media_ms)
    }

    async fn size(&self) -> Option<ByteCount> {
        self.clip.bytes.map(ByteCount)
    }

    /// Whether newer segments may still lengthen it.
    async fn growing(&self) -> bool {
        self.clip.growing
    }

    async fn triggers(&self, ctx: &Context<'_>) -> Result<Vec<RecordingTrigger>, Fault> {
        let reasons = asked(ctx)?.loaders.reasons.get((self.stream.id, self.list)).await?;
        let found = timeline::triggers(&reasons.unwrap_or_default(), self.clip.range);
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn thumbnail(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 320)] max_width: Option<i32>,
    ) -> Maybe<Image> {
        image::of_clip(ctx, &self.stream, self.clip.range, max_width).await.transpose()
    }

    /// Whether a hold keeps any of it.
    async fn held(&self, ctx: &Context<'_>) -> Result<bool, Fault> {
        let asked = asked(ctx)?;
        let now = asked.now();
        let holds = asked.loaders.holds.get(self.stream.id).await?.unwrap_or_default();
        let range = &self.clip.range;
        Ok(holds.iter().any(|hold| hold.is_in_force(now) && hold.range.overlaps(range)))
    }
}

connection!(
    ClipConnection,
    /// Its cursor names an instant, so it stays valid when segments arrive late.
    ClipEdge,
    Clip
);
