//! `Stream`, and what is asked of its footage.

use super::asked::asked;
use super::calendar::CalendarDay;
use super::clip::{Clip, ClipConnection};
use super::coverage::Coverage;
use super::device::{Device, time_zone};
use super::fault::{Fault, Maybe};
use super::hold::Hold;
use super::image::{self, Image, ImageResult};
use super::pagination::{Cursor, Page, page_size};
use super::scalar::{DateTime, LocalDate, TimeZone};
use super::segment::{RecordingTrigger, Segment, SegmentConnection};
use super::time_range::{TimeOrder, TimeRangeInput};
use crate::device;
use crate::playback::timeline::{self, ClipQuery};
use crate::segment::TimeRange;
use crate::storage::SegmentQuery;
use async_graphql::{Context, ID, Object, SimpleObject};

const MAX_GAP_S: f64 = 60.0;
const MAX_BUCKETS: i64 = 1_500;
const MAX_CALENDAR_DAYS: i64 = 366;
const DEFAULT_TIMELINE_PAGE: usize = 50;
const DEFAULT_GAP_S: f64 = 2.0;
const DEFAULT_BUCKET_S: i32 = 300;

#[derive(Clone)]
pub struct Stream(pub device::Stream);

/// One series of footage from a camera, such as the full picture or the preview.
#[Object]
impl Stream {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Unique in the device.
    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn device(&self, ctx: &Context<'_>) -> Result<Device, Fault> {
        asked(ctx)?.device_of(&self.0).await.map(Device)
    }

    /// The Kinesis video stream that carries its media, or the embedded stand-in for one.
    async fn media_stream_name(&self) -> &str {
        &self.0.media_stream_name
    }

    /// RFC 6381 codecs of the newest segment, such as `avc1.4d4032,mp4a.40.2`.
    async fn codecs(&self, ctx: &Context<'_>) -> Maybe<String> {
        let description = self.describe(ctx).await.transpose()?;
        Some(description.map(|description| description.codecs))
    }

    async fn resolution(&self, ctx: &Context<'_>) -> Maybe<Resolution> {
        let described = self.describe(ctx).await;
        let resolution = |(width, height)| Resolution { width, height };
        described.map(|found| found.and_then(|found| found.resolution).map(resolution)).transpose()
    }

    /// The start of the oldest footage still kept.
    async fn earliest(&self, ctx: &Context<'_>) -> Maybe<DateTime> {
        self.extent(ctx).await.map(|extent| extent.map(|extent| DateTime(extent.start))).transpose()
    }

    /// The end of the newest footage.
    async fn latest(&self, ctx: &Context<'_>) -> Maybe<DateTime> {
        self.extent(ctx).await.map(|extent| extent.map(|extent| DateTime(extent.end))).transpose()
    }

    /// Continuous footage: neighbouring segments merged across holes of at most `maxGapSeconds`, cut to `range`.
    #[allow(clippy::too_many_arguments)] // As many as the contract has.
    async fn clips(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        #[graphql(desc = "0 to 60.", default = 2.0)] max_gap_seconds: Option<f64>,
        triggers: Option<Vec<RecordingTrigger>>,
        #[graphql(default_with = "Some(TimeOrder::OldestFirst)")] order: Option<TimeOrder>,
        #[graphql(default = 50)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<ClipConnection> {
        let order = order.unwrap_or(TimeOrder::OldestFirst);
        Some(self.find_clips(ctx, range, max_gap_seconds, triggers, order, first, after).await)
    }

    /// The announced segments themselves, for tools; players want `clips`, which also has footage that was never announced.
    async fn segments(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        #[graphql(default_with = "Some(TimeOrder::OldestFirst)")] order: Option<TimeOrder>,
        #[graphql(default = 50)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<SegmentConnection> {
        let order = order.unwrap_or(TimeOrder::OldestFirst);
        Some(self.find_segments(ctx, range, order, first, after).await)
    }

    /// How much of `range` is covered, bucket by bucket, and the gaps with their reasons; for drawing a timeline. At most 1,500 buckets.
    async fn coverage(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        #[graphql(default = 300)] bucket_seconds: Option<i32>,
        #[graphql(default = 2.0)] max_gap_seconds: Option<f64>,
    ) -> Maybe<Coverage> {
        Some(self.find_coverage(ctx, range, bucket_seconds, max_gap_seconds).await)
    }

    /// Days with footage or events from `from` to `to`, both included, in the given zone or the device's; at most 366.
    async fn calendar(
        &self,
        ctx: &Context<'_>,
        from: LocalDate,
        to: LocalDate,
        time_zone: Option<TimeZone>,
    ) -> Maybe<Vec<CalendarDay>> {
        Some(self.find_calendar(ctx, from, to, time_zone).await)
    }

    /// The picture at or just before `at`, or the newest one.
    async fn snapshot(
        &self,
        ctx: &Context<'_>,
        at: Option<DateTime>,
        #[graphql(default = 1280)] max_width: Option<i32>,
    ) -> Maybe<ImageResult> {
        Some(image::snapshot(ctx, &self.0, at, max_width).await)
    }

    /// Small pictures at even distances, for scrubbing, fewer where footage is missing; at most 100.
    async fn thumbnails(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        #[graphql(default = 12)] count: Option<i32>,
        #[graphql(default = 320)] max_width: Option<i32>,
    ) -> Maybe<Vec<Image>> {
        Some(match asked(ctx).and_then(|asked| range.check(asked.limits())) {
            Ok(range) => image::scrubbing(ctx, &self.0, range, count, max_width).await,
            Err(fault) => Err(fault),
        })
    }

    /// Spans kept beyond their retention.
    async fn holds(&self, ctx: &Context<'_>, range: TimeRangeInput) -> Maybe<Vec<Hold>> {
        Some(self.find_holds(ctx, range).await)
    }
}

impl Stream {
    async fn find_holds(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
    ) -> Result<Vec<Hold>, Fault> {
        let asked = asked(ctx)?;
        let range = range.check(asked.limits())?;
        let holds = asked.service.retention.holds(self.0.id, range).await?;
        Ok(holds.into_iter().map(Hold).collect())
    }

    async fn describe(
        &self,
        ctx: &Context<'_>,
    ) -> Result<Option<crate::playback::describe::Description>, Fault> {
        asked(ctx)?.loaders.descriptions.get(self.0.id).await
    }

    async fn extent(&self, ctx: &Context<'_>) -> Result<Option<TimeRange>, Fault> {
        asked(ctx)?.loaders.extents.get(self.0.id).await
    }

    #[allow(clippy::too_many_arguments)] // As many as the contract has.
    async fn find_clips(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        max_gap_seconds: Option<f64>,
        triggers: Option<Vec<RecordingTrigger>>,
        order: TimeOrder,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<ClipConnection, Fault> {
        let asked = asked(ctx)?;
        let after = Cursor::read(after, |cursor| match cursor {
            Cursor::Instant(at) => Some(at),
            _ => None,
        })?;
        let query = ClipQuery {
            range: range.check(asked.limits())?,
            max_gap_ms: gap_ms(max_gap_seconds)?,
            triggers: triggers.map(|all| all.into_iter().map(Into::into).collect()),
            order: order.into(),
            after,
            limit: page_size(first, DEFAULT_TIMELINE_PAGE, asked.limits().timeline_page_items)?,
        };
        let storage = &asked.service.storage;
        let found = timeline::clips(storage, self.0.id, &query, asked.now()).await?;
        let ranges = || found.clips.iter().map(|clip| clip.range);
        let list = TimeRange {
            start: ranges().map(|range| range.start).min().unwrap_or(query.range.start),
            end: ranges().map(|range| range.end).max().unwrap_or(query.range.end),
        };
        let item = |clip: &timeline::Clip| {
            let (stream, clip) = (self.0.clone(), *clip);
            (Cursor::Instant(clip.far_end(query.order)), Clip { stream, clip, list })
        };
        Ok(ClipConnection(Page {
            items: found.clips.iter().map(item).collect(),
            has_previous: query.after.is_some(),
            next: found.next.map(Cursor::Instant),
        }))
    }

    async fn find_segments(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        order: TimeOrder,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<SegmentConnection, Fault> {
        let asked = asked(ctx)?;
        let after = Cursor::read(after, |cursor| match cursor {
            Cursor::Segment(start, id) if id.stream == self.0.id => Some((start, id)),
            _ => None,
        })?;
        let has_previous = after.is_some();
        let limit = page_size(first, DEFAULT_TIMELINE_PAGE, asked.limits().timeline_page_items)?;
        // One more, to know whether there is a next page.
        let query = SegmentQuery {
            range: range.check(asked.limits())?,
            order: order.into(),
            after,
            limit: limit + 1,
        };
        let mut found = asked.service.storage.catalog.segments(self.0.id, &query).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let items: Vec<_> = found
            .into_iter()
            .map(|segment| (Cursor::Segment(segment.range.start, segment.id), Segment(segment)))
            .collect();
        let last = items.last().map(|(cursor, _)| cursor.clone());
        Ok(SegmentConnection(Page { next: last.filter(|_| more), items, has_previous }))
    }

    async fn find_coverage(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        bucket_seconds: Option<i32>,
        max_gap_seconds: Option<f64>,
    ) -> Result<Coverage, Fault> {
        let asked = asked(ctx)?;
        let range = range.check(asked.limits())?;
        let max_gap_ms = gap_ms(max_gap_seconds)?;
        let bucket_ms = i64::from(bucket_seconds.unwrap_or(DEFAULT_BUCKET_S)) * 1000;
        if bucket_ms < 1 {
            return Err(Fault::BadInput("bucketSeconds must be at least 1".into()));
        }
        if range.millis() > bucket_ms.saturating_mul(MAX_BUCKETS) {
            let buckets = (range.millis() - 1) / bucket_ms + 1;
            let message = format!("range has {buckets} buckets; at most {MAX_BUCKETS} at a time");
            return Err(Fault::BadInput(message));
        }
        let storage = &asked.service.storage;
        let coverage = timeline::coverage(storage, self.0.id, range, bucket_ms, max_gap_ms).await?;
        Ok(Coverage { stream: self.0.clone(), coverage, max_gap_ms })
    }

    async fn find_calendar(
        &self,
        ctx: &Context<'_>,
        LocalDate(from): LocalDate,
        LocalDate(to): LocalDate,
        zone: Option<TimeZone>,
    ) -> Result<Vec<CalendarDay>, Fault> {
        let asked = asked(ctx)?;
        let days = to.signed_duration_since(from).num_days() + 1;
        if days < 1 {
            return Err(Fault::BadInput("to is before from".into()));
        }
        if days > MAX_CALENDAR_DAYS {
            let message =
                format!("from and to span {days} days; at most {MAX_CALENDAR_DAYS} at a time");
            return Err(Fault::BadInput(message));
        }
        let zone = match zone {
            Some(TimeZone(zone)) => zone,
            None => time_zone(&asked.device_of(&self.0).await?),
        };
        let storage = &asked.service.storage;
        let found = timeline::calendar(storage, &self.0, from, to, zone).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }
}

fn gap_ms(max_gap_seconds: Option<f64>) -> Result<i64, Fault> {
    let max_gap_s = max_gap_seconds.unwrap_or(DEFAULT_GAP_S);
    if !(0.0..=MAX_GAP_S).contains(&max_gap_s) {
        return Err(Fault::bounds("maxGapSeconds", max_gap_s, 0, MAX_GAP_S));
    }
    Ok((max_gap_s * 1000.0).round() as i64)
}

/// In pixels.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct Resolution {
    width: u32,
    height: u32,
}
