//! What was recorded when: clips, coverage and its gaps, civil days. Computed for each question from
//! the stream's footage; announcements add triggers and explain gaps.

use super::footage::{self, Footage};
use crate::device::Stream;
use crate::id::StreamId;
use crate::keeping::{KnownGap, KnownReason};
use crate::segment::{RecordingTrigger, Segment, SegmentSpan, TimeRange};
use crate::storage::{Result, SegmentQuery, Storage, StorageError, TimeOrder};
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use lookback_wire::Timestamp;
use std::collections::BTreeSet;

/// Announcements that are looked at for the reasons of one gap.
const SEGMENTS_A_GAP: usize = 1_000;
/// Gaps whose announcements are asked for together.
const GAPS_AT_ONCE: usize = 16;
/// Runs and announcements that one page of clips may cost; beyond, it comes short.
const READS_A_PAGE: usize = 20_000;
/// Spans that are no further apart are read in one go: what was announced in between costs less
/// than another request.
const BRIDGED_MS: i64 = 6 * 3_600_000;
/// Announcements tile footage to within this; a smaller rest belongs to no trigger of its own.
const TILING_MS: i64 = 500;
/// Announced footage that did not arrive within this will not.
const PENDING_MS: i64 = 24 * 3_600_000;
/// More gaps than this are not listed.
pub const MAX_GAPS: usize = 1_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// Which clips.
#[derive(Clone, Debug)]
pub struct ClipQuery {
    pub range: TimeRange,
    /// Holes up to this are bridged.
    pub max_gap_ms: i64,
    /// Only footage recorded for one of these.
    pub triggers: Option<Vec<RecordingTrigger>>,
    pub order: TimeOrder,
    /// Only what lies behind it, in `order`.
    pub after: Option<Timestamp>,
    pub limit: usize,
}

/// Continuous footage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Cut to the asked range.
    pub range: TimeRange,
    /// Footage really in it.
    pub media_ms: i64,
    /// None where only part of what is stored together belongs to it.
    pub bytes: Option<u64>,
    /// Whether newer footage may still lengthen it.
    pub growing: bool,
}

impl Clip {
    /// Where the list goes on behind this clip.
    pub fn far_end(&self, order: TimeOrder) -> Timestamp {
        match order {
            TimeOrder::OldestFirst => self.range.end,
            TimeOrder::NewestFirst => self.range.start,
        }
    }

    /// All of `footage`, which comes oldest first, in `range`; none where that has none.
    pub fn of_all(footage: &[Footage], range: TimeRange, now: Timestamp) -> Option<Clip> {
        let pieces = footage.iter().flat_map(|found| pieces(found, &range, &[], None, now));
        pieces.reduce(|mut clip, piece| {
            clip.join(&piece);
            clip
        })
    }

    /// What lies between the two, in milliseconds; negative where they overlap.
    fn hole_to(&self, other: &Clip) -> i64 {
        let (first, second) =
            if self.range.start <= other.range.start { (self, other) } else { (other, self) };
        second.range.start.millis_since(first.range.end)
    }

    fn join(&mut self, other: &Clip) {
        let newer = if self.range.end >= other.range.end { *self } else { *other };
        self.range =
            TimeRange { start: self.range.start.min(other.range.start), end: newer.range.end };
        self.media_ms = self.media_ms.saturating_add(other.media_ms);
        self.bytes = self.bytes.zip(other.bytes).map(|(a, b)| a.saturating_add(b));
        self.growing = newer.growing;
    }
}

/// A page of clips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipPage {
    pub clips: Vec<Clip>,
    /// Where the next page begins; none at the end of the range.
    pub next: Option<Timestamp>,
}

/// Answers a page of a stream's clips.
pub async fn clips(
    storage: &Storage,
    stream: StreamId,
    query: &ClipQuery,
    now: Timestamp,
) -> Result<ClipPage> {
    let Some(asked) = rest_of(query) else {
        return Ok(ClipPage { clips: Vec::new(), next: None });
    };
    // Announcements are many, so that what a page or a filter reads of them is bounded by the day.
    let reads_announcements = query.triggers.is_some() || storage.local().is_err();
    let step_ms = if reads_announcements { DAY_MS } else { asked.millis() };
    let mut reader = Reader::new(storage, stream, asked, query.order, step_ms);
    let mut merging = Merging::new(query);
    let mut reads = 0;
    while let Some((window, found)) = reader.next().await? {
        reads += found.reads + 1;
        let reasons = match (&query.triggers, found.footage.is_empty()) {
            (Some(_), false) => {
                let (reasons, read) = read_reasons(storage, stream, window).await?;
                reads += read;
                reasons
            }
            _ => Vec::new(),
        };
        for footage in &found.footage {
            let pieces = pieces(footage, &asked, &reasons, query.triggers.as_deref(), now);
            let in_order: Box<dyn Iterator<Item = Clip>> = match query.order {
                TimeOrder::OldestFirst => Box::new(pieces.into_iter()),
                TimeOrder::NewestFirst => Box::new(pieces.into_iter().rev()),
            };
            for piece in in_order {
                if let Some(page) = merging.add(piece) {
                    return Ok(page);
                }
            }
        }
        if reads >= READS_A_PAGE {
            break;
        }
    }
    Ok(merging.finish(reader.position()))
}

/// What of the range lies behind `after`.
fn rest_of(query: &ClipQuery) -> Option<TimeRange> {
    let TimeRange { start, end } = query.range;
    match (query.after, query.order) {
        (None, _) => Some(query.range),
        (Some(after), TimeOrder::OldestFirst) => TimeRange::new(start.max(after), end),
        (Some(after), TimeOrder::NewestFirst) => TimeRange::new(start, end.min(after)),
    }
}

/// Joins pieces of footage into clips, as they come in order.
struct Merging<'a> {
    query: &'a ClipQuery,
    clips: Vec<Clip>,
    open: Option<Clip>,
}

impl<'a> Merging<'a> {
    fn new(query: &'a ClipQuery) -> Self {
        Self { query, clips: Vec::new(), open: None }
    }

    /// Takes the next piece; answers the page once another clip than its last has begun.
    fn add(&mut self, piece: Clip) -> Option<ClipPage> {
        match &mut self.open {
            Some(open) if open.hole_to(&piece) <= self.query.max_gap_ms => {
                open.join(&piece);
                return None;
            }
            _ => {}
        }
        self.clips.extend(self.open.replace(piece));
        (self.clips.len() >= self.query.limit).then(|| ClipPage {
            next: self.clips.last().map(|clip| clip.far_end(self.query.order)),
            clips: std::mem::take(&mut self.clips),
        })
    }

    fn finish(mut self, next: Option<Timestamp>) -> ClipPage {
        self.clips.extend(self.open);
        ClipPage { clips: self.clips, next }
    }
}

/// What of a piece of footage belongs to the question, oldest first.
fn pieces(
    found: &Footage,
    asked: &TimeRange,
    reasons: &[Reason],
    triggers: Option<&[RecordingTrigger]>,
    now: Timestamp,
) -> Vec<Clip> {
    let Some(footage) = found.range.intersection(asked) else { return Vec::new() };
    let clip = |range: TimeRange| Clip {
        range,
        media_ms: range.millis(),
        bytes: found.bytes.filter(|_| range == found.range),
        growing: now < found.grows_until && range.end == found.range.end,
    };
    let Some(triggers) = triggers else { return vec![clip(footage)] };
    wanted(footage, reasons, triggers).into_iter().map(clip).collect()
}

/// The parts of `footage` that were recorded for one of `triggers`. What nobody announced counts as
/// continuous.
fn wanted(footage: TimeRange, reasons: &[Reason], triggers: &[RecordingTrigger]) -> Vec<TimeRange> {
    let inside = |reason: &&Reason| reason.range.overlaps(&footage);
    let mut spans: Vec<TimeRange> = reasons
        .iter()
        .filter(inside)
        .filter(|reason| triggers.contains(&reason.trigger))
        .filter_map(|reason| reason.range.intersection(&footage))
        .collect();
    if triggers.contains(&RecordingTrigger::Continuous) {
        let announced = reasons.iter().filter(inside).map(|reason| reason.range).collect();
        let rests = holes(footage, &union(announced));
        let whole = rests.first() == Some(&footage);
        spans.extend(rests.into_iter().filter(|rest| whole || rest.millis() > TILING_MS));
    }
    union(spans)
}

/// The same instants as disjoint spans, oldest first.
fn union(spans: Vec<TimeRange>) -> Vec<TimeRange> {
    bridge(spans, 0)
}

/// The same instants and the holes between them of up to `hole_ms`, oldest first.
fn bridge(mut spans: Vec<TimeRange>, hole_ms: i64) -> Vec<TimeRange> {
    spans.sort_by_key(|span| span.start);
    let mut disjoint: Vec<TimeRange> = Vec::new();
    for span in spans {
        match disjoint.last_mut() {
            Some(last) if span.start.millis_since(last.end) <= hole_ms => {
                last.end = last.end.max(span.end);
            }
            _ => disjoint.push(span),
        }
    }
    disjoint
}

/// What of `whole` none of the disjoint `spans` covers.
fn holes(whole: TimeRange, spans: &[TimeRange]) -> Vec<TimeRange> {
    let mut at = whole.start;
    let mut holes = Vec::new();
    for span in spans.iter().filter(|span| span.overlaps(&whole)) {
        holes.extend(TimeRange::new(at, span.start));
        at = at.max(span.end);
    }
    holes.extend(TimeRange::new(at, whole.end));
    holes
}

/// Reads a stream's footage, window by window, in either order.
struct Reader<'a> {
    storage: &'a Storage,
    stream: StreamId,
    /// What is still to be read.
    rest: Option<TimeRange>,
    order: TimeOrder,
    step_ms: i64,
}

impl<'a> Reader<'a> {
    fn new(
        storage: &'a Storage,
        stream: StreamId,
        range: TimeRange,
        order: TimeOrder,
        step_ms: i64,
    ) -> Self {
        Self { storage, stream, rest: Some(range), order, step_ms: step_ms.max(1) }
    }

    /// How far it has read; none when it is through.
    fn position(&self) -> Option<Timestamp> {
        self.rest.map(|rest| match self.order {
            TimeOrder::OldestFirst => rest.start,
            TimeOrder::NewestFirst => rest.end,
        })
    }

    /// The next footage in order, and the span that it answers for; none at the end.
    async fn next(&mut self) -> Result<Option<(TimeRange, footage::Found)>> {
        loop {
            let Some(rest) = self.rest else { return Ok(None) };
            let window = match self.order {
                TimeOrder::OldestFirst => {
                    let end = rest.end.min(rest.start.plus_millis(self.step_ms));
                    TimeRange { start: rest.start, end }
                }
                TimeOrder::NewestFirst => {
                    let start = rest.start.max(rest.end.plus_millis(-self.step_ms));
                    TimeRange { start, end: rest.end }
                }
            };
            let mut found = footage::read(self.storage, self.stream, window).await?;
            let (first, last) = match (found.footage.first(), found.footage.last()) {
                (Some(first), Some(last)) => (first.range, last.range),
                _ => (window, window),
            };
            let full = found.is_full;
            match self.order {
                TimeOrder::OldestFirst => {
                    let read_to = if full { last.end } else { window.end.max(last.end) };
                    self.rest = TimeRange::new(read_to, rest.end);
                    return Ok(Some((TimeRange { start: window.start, end: read_to }, found)));
                }
                // What is found are the oldest ones of the window, so that a smaller one is needed
                // to be sure of the newest.
                TimeOrder::NewestFirst if full && window.millis() > 1 => {
                    self.step_ms = (window.millis() / 2).max(1);
                }
                TimeOrder::NewestFirst => {
                    let read_to = window.start.min(first.start);
                    self.rest = TimeRange::new(rest.start, read_to);
                    let window = TimeRange { start: read_to, end: window.end };
                    found.footage.reverse();
                    return Ok(Some((window, found)));
                }
            }
        }
    }
}

/// The footage of a span, and what was read to find it.
#[derive(Clone, Debug)]
pub struct Around {
    /// Takes in the span, and what of the others was read with it.
    pub read: TimeRange,
    /// What overlaps the span, oldest first.
    pub footage: Vec<Footage>,
}

/// The footage of each span; those that are close to one another are read together.
pub async fn around(
    storage: &Storage,
    stream: StreamId,
    spans: &[TimeRange],
) -> Result<Vec<Around>> {
    let mut answers: Vec<Around> =
        spans.iter().map(|span| Around { read: *span, footage: Vec::new() }).collect();
    for read in bridge(spans.to_vec(), BRIDGED_MS) {
        let mut inside: Vec<(&TimeRange, &mut Around)> =
            spans.iter().zip(&mut answers).filter(|(span, _)| read.overlaps(span)).collect();
        for (_, answer) in &mut inside {
            answer.read = read;
        }
        let mut reader = Reader::new(storage, stream, read, TimeOrder::OldestFirst, read.millis());
        while let Some((_, found)) = reader.next().await? {
            for (span, answer) in &mut inside {
                let overlapping = found.footage.iter().filter(|one| one.range.overlaps(span));
                answer.footage.extend(overlapping);
            }
        }
    }
    Ok(answers)
}

/// Why a span was recorded, as it was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    pub range: TimeRange,
    pub trigger: RecordingTrigger,
}

/// Why what overlaps `range` was recorded, oldest first; segments that follow on one another for the
/// same reason are one.
pub async fn reasons(storage: &Storage, stream: StreamId, range: TimeRange) -> Result<Vec<Reason>> {
    Ok(read_reasons(storage, stream, range).await?.0)
}

/// As [`reasons`], and how many segments were read.
async fn read_reasons(
    storage: &Storage,
    stream: StreamId,
    range: TimeRange,
) -> Result<(Vec<Reason>, usize)> {
    let (order, limit) = (TimeOrder::OldestFirst, READS_A_PAGE);
    let mut query = SegmentQuery { range, order, after: None, limit };
    let (mut reasons, mut read) = (Vec::new(), 0);
    loop {
        let spans = storage.catalog.segment_spans(stream, &query).await?;
        spans.iter().for_each(|span| add_reason(&mut reasons, span));
        read += spans.len();
        match spans.last() {
            Some(last) if spans.len() >= limit => query.after = Some((last.range.start, last.id)),
            _ => return Ok((reasons, read)),
        }
    }
}

fn add_reason(reasons: &mut Vec<Reason>, SegmentSpan { range, trigger, .. }: &SegmentSpan) {
    match reasons.last_mut() {
        Some(last) if last.trigger == *trigger && range.start <= last.range.end => {
            last.range.end = last.range.end.max(range.end);
        }
        _ => reasons.push(Reason { range: *range, trigger: *trigger }),
    }
}

/// Why the footage of a span was recorded, in the order of [`RecordingTrigger`]; continuous where
/// nobody said.
pub fn triggers(reasons: &[Reason], range: TimeRange) -> Vec<RecordingTrigger> {
    use RecordingTrigger::{Continuous, Event, Manual};
    let inside = || reasons.iter().filter(|reason| reason.range.overlaps(&range));
    let found: Vec<_> = [Continuous, Event, Manual]
        .into_iter()
        .filter(|trigger| inside().any(|reason| reason.trigger == *trigger))
        .collect();
    if found.is_empty() { vec![Continuous] } else { found }
}

/// How well a span is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub range: TimeRange,
    pub bucket_ms: i64,
    /// Of each bucket, in order.
    pub covered_ms: Vec<i64>,
    /// Holes longer than asked for, in order; none where there are more than [`MAX_GAPS`].
    pub gaps: Option<Vec<TimeRange>>,
}

/// Answers how well `range` is covered, in buckets of `bucket_ms` from its start on.
pub async fn coverage(
    storage: &Storage,
    stream: StreamId,
    range: TimeRange,
    bucket_ms: i64,
    max_gap_ms: i64,
) -> Result<Coverage> {
    let mut filling = Filling::new(range, bucket_ms, max_gap_ms);
    let mut reader = Reader::new(storage, stream, range, TimeOrder::OldestFirst, range.millis());
    while let Some((_, found)) = reader.next().await? {
        found.footage.iter().for_each(|footage| filling.add(&footage.range));
    }
    Ok(filling.finish())
}

/// Fills buckets from footage that comes oldest first.
struct Filling {
    coverage: Coverage,
    max_gap_ms: i64,
    /// The end of what was added.
    at: Timestamp,
}

impl Filling {
    fn new(range: TimeRange, bucket_ms: i64, max_gap_ms: i64) -> Self {
        let bucket_ms = bucket_ms.max(1);
        let buckets = range.millis().saturating_add(bucket_ms - 1) / bucket_ms;
        let covered_ms = vec![0; usize::try_from(buckets).unwrap_or_default()];
        let gaps = Some(Vec::new());
        Self {
            coverage: Coverage { range, bucket_ms, covered_ms, gaps },
            max_gap_ms,
            at: range.start,
        }
    }

    fn add(&mut self, footage: &TimeRange) {
        let Some(mut footage) = footage.intersection(&self.coverage.range) else { return };
        footage.start = footage.start.max(self.at);
        if footage.end <= footage.start {
            return;
        }
        self.gap_to(footage.start);
        self.at = footage.end;
        let Coverage { range, bucket_ms, covered_ms, .. } = &mut self.coverage;
        let first = footage.start.millis_since(range.start) / *bucket_ms;
        let skipped = usize::try_from(first).unwrap_or_default();
        for (bucket, covered) in (first..).zip(covered_ms.iter_mut().skip(skipped)) {
            let start = range.start.plus_millis(bucket * *bucket_ms);
            let bucket = TimeRange { start, end: start.plus_millis(*bucket_ms) };
            let Some(part) = bucket.intersection(&footage) else { break };
            *covered += part.millis();
        }
    }

    fn gap_to(&mut self, end: Timestamp) {
        let gap = TimeRange { start: self.at, end };
        if gap.millis() > self.max_gap_ms
            && let Some(gaps) = &mut self.coverage.gaps
        {
            gaps.push(gap);
            if gaps.len() > MAX_GAPS {
                self.coverage.gaps = None;
            }
        }
    }

    fn finish(mut self) -> Coverage {
        self.gap_to(self.coverage.range.end);
        self.coverage
    }
}

/// What is kept of what was recorded in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of the fragments that begin in it.
    pub bytes: u64,
    /// Footage in it, in milliseconds.
    pub media_ms: i64,
}

/// What is kept of what was recorded in `range`.
pub async fn kept(storage: &Storage, stream: StreamId, range: TimeRange) -> Result<Kept> {
    let mut kept = Kept::default();
    let mut reader = Reader::new(storage, stream, range, TimeOrder::OldestFirst, range.millis());
    while let Some((_, found)) = reader.next().await? {
        for footage in found.footage {
            let Some(inside) = footage.range.intersection(&range) else { continue };
            let bytes = match footage.bytes.filter(|_| inside == footage.range) {
                Some(bytes) => bytes,
                None => footage::bytes_beginning_in(storage, stream, inside).await?,
            };
            kept.bytes = kept.bytes.saturating_add(bytes);
            kept.media_ms = kept.media_ms.saturating_add(inside.millis());
        }
    }
    Ok(kept)
}

/// Why there is no footage; see the contract's `GapReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    DeviceOffline,
    NotScheduled,
    Expired,
    Deleted,
    Pending,
    Unknown,
}

/// What is known of a stream that may explain its gaps.
#[derive(Clone, Debug)]
pub struct GapFacts {
    pub now: Timestamp,
    /// Before this there was no stream.
    pub made_at: Timestamp,
    /// What is older has been let go by the plan.
    pub kept_since: Timestamp,
    /// What is older has been let go where no event claimed it; none where all is kept.
    pub claimed_before: Option<Timestamp>,
    /// Since when nothing is heard of the device; none while it is online or where it never was.
    pub unheard_since: Option<Timestamp>,
    /// Shorter parts of a gap get no reason of their own.
    pub max_gap_ms: i64,
}

/// Explains gaps; one that has several reasons is cut where the reason changes.
pub async fn explain_gaps(
    storage: &Storage,
    of: StreamId,
    gaps: &[TimeRange],
    facts: &GapFacts,
) -> Result<Vec<(TimeRange, GapReason)>> {
    let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else { return Ok(Vec::new()) };
    let whole = TimeRange { start: first.start, end: last.end };
    let known = storage.catalog.known_gaps(of, whole).await?;
    let deletions = storage.catalog.deletions(of, whole).await?;
    let (known, deletions) = (&known, &deletions);
    let explained = stream::iter(gaps.iter().copied()).map(async |gap| {
        let segments = storage.announced(of, gap, SEGMENTS_A_GAP).await?;
        let deleted = deletions.iter().filter_map(|deletion| deletion.range.intersection(&gap));
        Ok::<_, StorageError>(explain(&gap, &segments, &deleted.collect::<Vec<_>>(), known, facts))
    });
    Ok(explained.buffered(GAPS_AT_ONCE).try_collect::<Vec<_>>().await?.concat())
}

fn explain(
    gap: &TimeRange,
    segments: &[Segment],
    deleted: &[TimeRange],
    known: &[KnownGap],
    facts: &GapFacts,
) -> Vec<(TimeRange, GapReason)> {
    let pending: Vec<TimeRange> = segments
        .iter()
        .filter(|segment| facts.now.millis_since(segment.ingested_at) < PENDING_MS)
        .filter_map(|segment| segment.range.intersection(gap))
        .filter(|part| part.millis() > facts.max_gap_ms)
        .collect();
    let mut cuts = BTreeSet::from([gap.start, gap.end]);
    let known_spans = known.iter().map(|known| &known.range);
    let spans = pending.iter().chain(deleted).chain(known_spans);
    let edges = spans.flat_map(|span| [span.start, span.end]);
    cuts.extend(
        [facts.now, facts.made_at, facts.kept_since]
            .into_iter()
            .chain(facts.unheard_since)
            .chain(facts.claimed_before)
            .chain(edges)
            .filter(|at| gap.contains(*at)),
    );
    let reason = |at: Timestamp| {
        if at < facts.now && deleted.iter().any(|span| span.contains(at)) {
            GapReason::Deleted
        } else if at >= facts.now || pending.iter().any(|span| span.contains(at)) {
            GapReason::Pending
        } else if at >= facts.made_at && at < facts.kept_since {
            GapReason::Expired
        } else if let Some(known) = known.iter().find(|known| known.range.contains(at)) {
            match known.reason {
                KnownReason::NotScheduled => GapReason::NotScheduled,
                KnownReason::DeviceOffline => GapReason::DeviceOffline,
            }
        } else if facts.unheard_since.is_some_and(|since| at >= since) {
            GapReason::DeviceOffline
        } else if facts.claimed_before.is_some_and(|before| at < before) {
            GapReason::NotScheduled
        } else {
            GapReason::Unknown
        }
    };
    let mut explained: Vec<(TimeRange, GapReason)> = Vec::new();
    for (&start, &end) in cuts.iter().zip(cuts.iter().skip(1)) {
        let reason = reason(start);
        match explained.last_mut() {
            Some((span, last)) if *last == reason => span.end = end,
            _ => explained.push((TimeRange { start, end }, reason)),
        }
    }
    explained
}

/// A civil day in some zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    pub date: NaiveDate,
    /// 24 hours, or 23 to 25 where clocks change.
    pub range: TimeRange,
    pub covered_ms: i64,
    /// Of the stream's device, that begin in it.
    pub events: u64,
}

/// The days with footage or events from `from` to `to`, both included.
pub async fn calendar(
    storage: &Storage,
    stream: &Stream,
    from: NaiveDate,
    to: NaiveDate,
    zone: Tz,
) -> Result<Vec<Day>> {
    let mut days = civil_days(from, to, zone);
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(days) };
    let whole = TimeRange { start: first.range.start, end: last.range.end };
    let mut bounds: Vec<Timestamp> = days.iter().map(|day| day.range.start).collect();
    bounds.push(whole.end);
    let events = storage.catalog.event_counts(stream.device, &bounds).await?;
    for (day, events) in days.iter_mut().zip(events) {
        day.events = events;
    }
    let mut reader = Reader::new(storage, stream.id, whole, TimeOrder::OldestFirst, whole.millis());
    while let Some((_, found)) = reader.next().await? {
        found.footage.iter().for_each(|footage| fill_days(&mut days, &footage.range));
    }
    days.retain(|day| day.covered_ms > 0 || day.events > 0);
    Ok(days)
}

fn fill_days(days: &mut [Day], footage: &TimeRange) {
    let first = days.partition_point(|day| day.range.end <= footage.start);
    for day in days.iter_mut().skip(first) {
        let Some(part) = day.range.intersection(footage) else { break };
        day.covered_ms += part.millis();
    }
}

/// Civil days, empty yet. A day that the zone skips is left out.
fn civil_days(from: NaiveDate, to: NaiveDate, zone: Tz) -> Vec<Day> {
    let Some(after_last) = to.checked_add_days(Days::new(1)) else { return Vec::new() };
    let starts: Vec<(NaiveDate, Timestamp)> = from
        .iter_days()
        .take_while(|date| *date <= after_last)
        .map(|date| (date, start_of_day(date, zone)))
        .collect();
    starts
        .iter()
        .zip(starts.iter().skip(1))
        // A skipped day ends where it begins.
        .filter_map(|((date, start), (_, end))| {
            let range = TimeRange::new(*start, *end)?;
            Some(Day { date: *date, range, covered_ms: 0, events: 0 })
        })
        .collect()
}

/// The first instant that a zone's clocks show `date`, or would: where they skip midnight, the
/// instant of the jump.
fn start_of_day(date: NaiveDate, zone: Tz) -> Timestamp {
    let midnight = date.and_time(NaiveTime::MIN);
    let start = match zone.from_local_datetime(&midnight).earliest() {
        Some(start) => start.with_timezone(&Utc),
        None => jump_over(midnight.and_utc(), zone),
    };
    Timestamp::from_millis(start.timestamp_millis())
}

/// The instant at which a zone's clocks jump over a local time, given here as if it were UTC. No
/// zone is further from UTC than 15 h, nor has ever jumped by more than a day.
fn jump_over(local: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let reaches = |at: i64| {
        let offset = DateTime::from_timestamp(at, 0)
            .map_or(0, |at| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc());
        at + i64::from(offset) >= local.timestamp()
    };
    let (mut before, mut after) = (local.timestamp() - 40 * 3600, local.timestamp() + 40 * 3600);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if reaches(middle) { after = middle } else { before = middle }
    }
    DateTime::from_timestamp(after, 0).unwrap_or(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::segment::SegmentId;
    use crate::storage::{contract, embedded};
    use RecordingTrigger::{Continuous, Event, Manual};

    /// Seconds on the tests' own clock.
    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millis((seconds * 1000.0).round() as i64)
    }

    fn span((start, end): (f64, f64)) -> TimeRange {
        TimeRange { start: at(start), end: at(end) }
    }

    fn seconds(range: TimeRange) -> (f64, f64) {
        (range.start.as_millis() as f64 / 1000.0, range.end.as_millis() as f64 / 1000.0)
    }

    fn run(start: f64, end: f64) -> Footage {
        Footage {
            range: span((start, end)),
            bytes: Some(((end - start) * 1000.0) as u64),
            grows_until: at(end + 31.0),
        }
    }

    fn segment(start: f64, end: f64, trigger: RecordingTrigger) -> Segment {
        let stream = StreamId(crate::id::Ulid(1));
        Segment {
            id: SegmentId { stream, window: 0, key: start.to_bits() },
            client_segment_id: format!("{start}"),
            range: span((start, end)),
            ingested_at: at(end + 1.0),
            trigger,
            codecs: None,
            width: None,
            height: None,
            size_bytes: None,
        }
    }

    struct Case<'a> {
        runs: &'a [(f64, f64)],
        segments: &'a [(f64, f64, RecordingTrigger)],
        range: (f64, f64),
        gap_s: f64,
        triggers: Option<&'a [RecordingTrigger]>,
        limit: usize,
        now: f64,
    }

    const CASE: Case = Case {
        runs: &[],
        segments: &[],
        range: (0.0, 1000.0),
        gap_s: 2.0,
        triggers: None,
        limit: 50,
        now: 10_000.0,
    };

    fn page(case: &Case, order: TimeOrder) -> ClipPage {
        let query = ClipQuery {
            range: span(case.range),
            max_gap_ms: (case.gap_s * 1000.0) as i64,
            triggers: case.triggers.map(<[_]>::to_vec),
            order,
            after: None,
            limit: case.limit,
        };
        let reason = |&(start, end, trigger)| Reason { range: span((start, end)), trigger };
        let reasons: Vec<_> = case.segments.iter().map(reason).collect();
        let mut merging = Merging::new(&query);
        let mut runs: Vec<_> = case.runs.iter().map(|&(start, end)| run(start, end)).collect();
        if order == TimeOrder::NewestFirst {
            runs.reverse();
        }
        for run in runs {
            let mut pieces = pieces(&run, &query.range, &reasons, case.triggers, at(case.now));
            if order == TimeOrder::NewestFirst {
                pieces.reverse();
            }
            for piece in pieces {
                if let Some(page) = merging.add(piece) {
                    return page;
                }
            }
        }
        merging.finish(None)
    }

    fn check_clips(case: Case, expected: &[(f64, f64)]) {
        for order in [TimeOrder::OldestFirst, TimeOrder::NewestFirst] {
            let mut clips: Vec<_> =
                page(&case, order).clips.iter().map(|clip| seconds(clip.range)).collect();
            if order == TimeOrder::NewestFirst {
                clips.reverse();
            }
            assert_eq!(clips, expected, "{order:?}");
        }
    }

    #[test]
    fn clips_bridge_short_holes_and_are_cut_to_the_range() {
        let runs: &[_] = &[(10.0, 20.0), (22.0, 30.0), (32.001, 40.0), (100.0, 110.0)];
        for (gap_s, range, expected) in [
            (2.0, (0.0, 1000.0), &[(10.0, 30.0), (32.001, 40.0), (100.0, 110.0)][..]),
            (0.0, (0.0, 1000.0), runs),
            (60.0, (0.0, 1000.0), &[(10.0, 110.0)]),
            (59.9, (0.0, 1000.0), &[(10.0, 40.0), (100.0, 110.0)]),
            (2.0, (15.0, 25.0), &[(15.0, 25.0)]),
            (2.0, (20.0, 22.0), &[]),
            (2.0, (105.0, 105.001), &[(105.0, 105.001)]),
            (2.0, (110.0, 120.0), &[]),
        ] {
            check_clips(Case { runs, gap_s, range, ..CASE }, expected);
        }
    }

    #[test]
    fn a_clip_knows_its_media_and_its_size_where_it_is_whole() {
        let runs: &[_] = &[(10.0, 20.0), (22.0, 30.0)];
        for (range, media_ms, bytes) in [
            ((0.0, 1000.0), 18_000, Some(18_000)),
            ((10.0, 30.0), 18_000, Some(18_000)),
            ((11.0, 30.0), 17_000, None),
            ((10.0, 25.0), 13_000, None),
        ] {
            let clip = page(&Case { runs, range, ..CASE }, TimeOrder::OldestFirst).clips[0];
            assert_eq!((clip.media_ms, clip.bytes), (media_ms, bytes), "{range:?}");
        }
    }

    #[test]
    fn only_fresh_footage_that_the_range_does_not_cut_grows() {
        let runs: &[_] = &[(10.0, 20.0), (21.0, 30.0)];
        for (now, range, growing) in [
            (32.0, (0.0, 1000.0), true),
            (32.0, (0.0, 30.0), true),
            (32.0, (0.0, 29.0), false),
            (60.9, (0.0, 1000.0), true),
            (61.0, (0.0, 1000.0), false),
        ] {
            for order in [TimeOrder::OldestFirst, TimeOrder::NewestFirst] {
                let clip = page(&Case { runs, range, now, ..CASE }, order).clips[0];
                assert_eq!(clip.growing, growing, "{now} {range:?} {order:?}");
            }
        }
    }

    #[test]
    fn triggers_pick_footage() {
        let runs: &[_] = &[(0.0, 100.0), (200.0, 300.0)];
        let segments: &[_] = &[
            (20.0, 40.0, Event),
            (40.0, 60.0, Event),
            (60.2, 80.0, Manual),
            (250.0, 350.0, Continuous),
        ];
        for (triggers, expected) in [
            (&[Event][..], &[(20.0, 60.0)][..]),
            (&[Manual], &[(60.2, 80.0)]),
            (&[Event, Manual], &[(20.0, 80.0)]),
            (&[Continuous], &[(0.0, 20.0), (80.0, 100.0), (200.0, 300.0)]),
            (&[Continuous, Event, Manual], &[(0.0, 100.0), (200.0, 300.0)]),
            (&[], &[]),
        ] {
            let case = Case { runs, segments, triggers: Some(triggers), ..CASE };
            check_clips(case, expected);
        }
    }

    #[test]
    fn spans_are_read_together_where_they_are_close() {
        const FAR: f64 = 6.0 * 3_600.0;
        for (spans, expected) in [
            (&[][..], &[][..]),
            (&[(20.0, 30.0), (0.0, 10.0)], &[(0.0, 30.0)]),
            (&[(0.0, 100.0), (10.0, 20.0), (100.0 + FAR, 110.0 + FAR)], &[(0.0, 110.0 + FAR)]),
            (
                &[(0.0, 10.0), (10.001 + FAR, 20.0 + FAR)],
                &[(0.0, 10.0), (10.001 + FAR, 20.0 + FAR)],
            ),
        ] {
            let spans = spans.iter().copied().map(span).collect();
            let read: Vec<_> = bridge(spans, BRIDGED_MS).into_iter().map(seconds).collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn segments_of_one_reason_that_follow_on_one_another_are_one() {
        let mut reasons = Vec::new();
        for (start, end, trigger) in [
            (0.0, 20.0, Continuous),
            (20.0, 40.0, Continuous),
            (30.0, 35.0, Continuous),
            (40.0, 60.0, Event),
            (60.0, 80.0, Continuous),
            (80.001, 90.0, Continuous),
        ] {
            add_reason(&mut reasons, &(&segment(start, end, trigger)).into());
        }
        let found: Vec<_> = reasons.iter().map(|one| (seconds(one.range), one.trigger)).collect();
        let expected = [
            ((0.0, 40.0), Continuous),
            ((40.0, 60.0), Event),
            ((60.0, 80.0), Continuous),
            ((80.001, 90.0), Continuous),
        ];
        assert_eq!(found, expected);
        for (range, expected) in [
            ((10.0, 40.0), &[Continuous][..]),
            ((10.0, 40.001), &[Continuous, Event]),
            ((45.0, 50.0), &[Event]),
            ((80.0, 80.001), &[Continuous]),
        ] {
            assert_eq!(triggers(&reasons, span(range)), expected, "{range:?}");
        }
    }

    #[test]
    fn pages_end_where_the_next_one_begins() {
        let runs: &[_] = &[(10.0, 20.0), (30.0, 40.0), (50.0, 60.0)];
        for (order, limit, next) in [
            (TimeOrder::OldestFirst, 1, Some(20.0)),
            (TimeOrder::OldestFirst, 2, Some(40.0)),
            (TimeOrder::OldestFirst, 3, None),
            (TimeOrder::NewestFirst, 1, Some(50.0)),
            (TimeOrder::NewestFirst, 2, Some(30.0)),
            (TimeOrder::NewestFirst, 3, None),
        ] {
            let page = page(&Case { runs, limit, ..CASE }, order);
            assert_eq!(page.next, next.map(at), "{order:?} {limit}");
            assert_eq!(page.clips.len(), limit);
        }
    }

    fn check_coverage(
        runs: &[(f64, f64)],
        range: (f64, f64),
        bucket_s: f64,
        covered_s: &[f64],
        gaps: &[(f64, f64)],
    ) {
        let mut filling = Filling::new(span(range), (bucket_s * 1000.0) as i64, 2000);
        runs.iter().for_each(|&run| filling.add(&span(run)));
        let coverage = filling.finish();
        let covered: Vec<_> = coverage.covered_ms.iter().map(|&ms| ms as f64 / 1000.0).collect();
        assert_eq!(covered, covered_s, "{runs:?}");
        let found: Vec<_> = coverage.gaps.unwrap().into_iter().map(seconds).collect();
        assert_eq!(found, gaps, "{runs:?}");
    }

    #[test]
    fn buckets_and_gaps() {
        check_coverage(&[], (0.0, 25.0), 10.0, &[0.0, 0.0, 0.0], &[(0.0, 25.0)]);
        check_coverage(&[(0.0, 25.0)], (0.0, 25.0), 10.0, &[10.0, 10.0, 5.0], &[]);
        check_coverage(&[(-5.0, 50.0)], (0.0, 25.0), 10.0, &[10.0, 10.0, 5.0], &[]);
        check_coverage(&[(5.0, 12.5)], (0.0, 20.0), 10.0, &[5.0, 2.5], &[(0.0, 5.0), (12.5, 20.0)]);
        check_coverage(&[(2.0, 8.0), (10.0, 20.0)], (0.0, 20.0), 10.0, &[6.0, 10.0], &[]);
        check_coverage(&[(0.0, 8.0), (6.0, 10.0)], (0.0, 10.0), 10.0, &[10.0], &[]);
        check_coverage(&[(2.001, 10.0)], (0.0, 10.0), 10.0, &[7.999], &[(0.0, 2.001)]);
    }

    #[test]
    fn too_many_gaps_are_not_listed() {
        for (gaps, listed) in [(MAX_GAPS, true), (MAX_GAPS + 1, false)] {
            let end = (gaps * 10) as f64;
            let mut filling = Filling::new(span((0.0, end)), 1_000_000, 2000);
            for n in 0..gaps {
                let start = (n * 10) as f64;
                filling.add(&span((start + 5.0, start + 10.0)));
            }
            assert_eq!(filling.finish().gaps.is_some(), listed, "{gaps}");
        }
    }

    #[test]
    fn gaps_have_reasons() {
        use GapReason::{Deleted, DeviceOffline, Expired, NotScheduled, Pending, Unknown};
        let facts = GapFacts {
            now: at(100_000.0),
            made_at: at(0.0),
            kept_since: at(10_000.0),
            claimed_before: None,
            unheard_since: None,
            max_gap_ms: 2000,
        };
        let offline = GapFacts { unheard_since: Some(at(90_000.0)), ..facts.clone() };
        let new = GapFacts { made_at: at(5_000.0), ..facts.clone() };
        let events_only = GapFacts { claimed_before: Some(at(96_400.0)), ..facts.clone() };
        type Spans<'a> = &'a [(f64, f64)];
        type Reasons<'a> = &'a [(f64, f64, GapReason)];
        let cases: &[(&GapFacts, (f64, f64), Spans, Reasons)] = &[
            (&facts, (20_000.0, 20_050.0), &[], &[(20_000.0, 20_050.0, Unknown)]),
            (
                &facts,
                (9_000.0, 11_000.0),
                &[],
                &[(9_000.0, 10_000.0, Expired), (10_000.0, 11_000.0, Unknown)],
            ),
            (
                &new,
                (1_000.0, 11_000.0),
                &[],
                &[
                    (1_000.0, 5_000.0, Unknown),
                    (5_000.0, 10_000.0, Expired),
                    (10_000.0, 11_000.0, Unknown),
                ],
            ),
            (
                &facts,
                (99_000.0, 101_000.0),
                &[],
                &[(99_000.0, 100_000.0, Unknown), (100_000.0, 101_000.0, Pending)],
            ),
            (
                &facts,
                (50_000.0, 50_100.0),
                &[(49_990.0, 50_001.5), (50_020.0, 50_040.0), (50_040.0, 50_060.0)],
                &[
                    (50_000.0, 50_020.0, Unknown),
                    (50_020.0, 50_060.0, Pending),
                    (50_060.0, 50_100.0, Unknown),
                ],
            ),
            (
                &events_only,
                (9_000.0, 99_000.0),
                &[],
                &[
                    (9_000.0, 10_000.0, Expired),
                    (10_000.0, 60_000.0, NotScheduled),
                    (60_000.0, 60_050.0, Deleted),
                    (60_050.0, 96_400.0, NotScheduled),
                    (96_400.0, 99_000.0, Unknown),
                ],
            ),
            // Deleted, and announced again.
            (
                &facts,
                (60_040.0, 60_060.0),
                &[(60_020.0, 60_045.0)],
                &[(60_040.0, 60_050.0, Deleted), (60_050.0, 60_060.0, Unknown)],
            ),
            // Announced more than a day ago.
            (
                &facts,
                (11_000.0, 11_020.0),
                &[(11_000.0, 11_020.0)],
                &[(11_000.0, 11_020.0, Unknown)],
            ),
            (
                &facts,
                (69_990.0, 70_200.0),
                &[],
                &[
                    (69_990.0, 70_000.0, Unknown),
                    (70_000.0, 70_100.0, NotScheduled),
                    (70_100.0, 70_200.0, Unknown),
                ],
            ),
            (&facts, (50.0, 60.0), &[], &[(50.0, 60.0, Expired)]),
            (
                &offline,
                (89_000.0, 100_500.0),
                &[],
                &[
                    (89_000.0, 90_000.0, Unknown),
                    (90_000.0, 100_000.0, DeviceOffline),
                    (100_000.0, 100_500.0, Pending),
                ],
            ),
        ];
        // What the camera says of what was let go, and is still to come, is not asked.
        let known = [
            (70_000.0, 70_100.0, KnownReason::NotScheduled),
            (0.0, 100.0, KnownReason::DeviceOffline),
        ]
        .map(|(from, to, reason)| KnownGap { range: span((from, to)), reason });
        for (facts, gap, announced, expected) in cases {
            let segments: Vec<_> =
                announced.iter().map(|&(start, end)| segment(start, end, Continuous)).collect();
            let found: Vec<_> =
                explain(&span(*gap), &segments, &[span((60_000.0, 60_050.0))], &known, facts)
                    .into_iter()
                    .map(|(range, reason)| (seconds(range).0, seconds(range).1, reason))
                    .collect();
            assert_eq!(&found, expected, "{gap:?}");
        }
    }

    #[test]
    fn civil_days_follow_the_zone() {
        for (zone, from, to, expected) in [
            ("UTC", "2026-11-22", "2026-11-22", vec![("2026-11-22", "2026-11-22T00:00Z", 24.0)]),
            // Clocks go forward, then back.
            (
                "Europe/Berlin",
                "2026-03-29",
                "2026-03-29",
                vec![("2026-03-29", "2026-03-28T23:00Z", 23.0)],
            ),
            (
                "Europe/Berlin",
                "2026-10-25",
                "2026-10-25",
                vec![("2026-10-25", "2026-10-24T22:00Z", 25.0)],
            ),
            // By half an hour.
            (
                "Australia/Lord_Howe",
                "2026-10-04",
                "2026-10-04",
                vec![("2026-10-04", "2026-10-03T13:30Z", 23.5)],
            ),
            (
                "Asia/Kolkata",
                "2026-11-22",
                "2026-11-22",
                vec![("2026-11-22", "2026-11-21T18:30Z", 24.0)],
            ),
            (
                "Asia/Kathmandu",
                "2026-11-22",
                "2026-11-22",
                vec![("2026-11-22", "2026-11-21T18:15Z", 24.0)],
            ),
            // Midnight itself is skipped, or comes twice.
            (
                "America/Sao_Paulo",
                "2018-11-04",
                "2018-11-04",
                vec![("2018-11-04", "2018-11-04T03:00Z", 23.0)],
            ),
            (
                "America/Sao_Paulo",
                "2018-02-17",
                "2018-02-17",
                vec![("2018-02-17", "2018-02-17T02:00Z", 25.0)],
            ),
            (
                "America/Havana",
                "2026-11-01",
                "2026-11-01",
                vec![("2026-11-01", "2026-11-01T04:00Z", 25.0)],
            ),
            // Samoa crossed the date line.
            (
                "Pacific/Apia",
                "2011-12-29",
                "2011-12-31",
                vec![
                    ("2011-12-29", "2011-12-29T10:00Z", 24.0),
                    ("2011-12-31", "2011-12-30T10:00Z", 24.0),
                ],
            ),
            ("Pacific/Apia", "2011-12-30", "2011-12-30", vec![]),
            // By half an hour, back.
            (
                "Australia/Lord_Howe",
                "2026-04-05",
                "2026-04-05",
                vec![("2026-04-05", "2026-04-04T13:00Z", 24.5)],
            ),
            // The day ends an hour later, and the next one has no midnight.
            (
                "Africa/Cairo",
                "2026-04-23",
                "2026-04-25",
                vec![
                    ("2026-04-23", "2026-04-22T22:00Z", 24.0),
                    ("2026-04-24", "2026-04-23T22:00Z", 23.0),
                    ("2026-04-25", "2026-04-24T21:00Z", 24.0),
                ],
            ),
            (
                "Africa/Cairo",
                "2026-10-29",
                "2026-10-30",
                vec![
                    ("2026-10-29", "2026-10-28T21:00Z", 25.0),
                    ("2026-10-30", "2026-10-29T22:00Z", 24.0),
                ],
            ),
            (
                "America/St_Johns",
                "2026-03-08",
                "2026-03-08",
                vec![("2026-03-08", "2026-03-08T03:30Z", 23.0)],
            ),
            (
                "Pacific/Chatham",
                "2026-04-05",
                "2026-04-05",
                vec![("2026-04-05", "2026-04-04T10:15Z", 25.0)],
            ),
            ("UTC", "2026-11-23", "2026-11-22", vec![]),
        ] {
            let days =
                civil_days(from.parse().unwrap(), to.parse().unwrap(), zone.parse().unwrap());
            let found: Vec<_> = days
                .iter()
                .map(|day| {
                    let start =
                        DateTime::from_timestamp_millis(day.range.start.as_millis()).unwrap();
                    let start = start.format("%Y-%m-%dT%H:%MZ").to_string();
                    (day.date.to_string(), start, day.range.millis() as f64 / 3_600_000.0)
                })
                .collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(date, start, hours)| (date.to_string(), start.to_string(), hours))
                .collect();
            assert_eq!(found, expected, "{zone} {from}");
        }
    }

    /// Footage of a second around each instant and an event at it, to be found on civil days: date,
    /// covered milliseconds, events.
    async fn check_calendar(
        zone: &str,
        days: (&str, &str),
        at: &[&str],
        expected: &[(&str, i64, u64)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let storage = embedded::open(dir.path()).unwrap();
        let (catalog, archive) = (&storage.catalog, storage.local().unwrap());
        let account = catalog.ensure_account("default", contract::NOW).await.unwrap().id;
        let registration = contract::registration(account, "SN-1", "Door");
        let made = catalog.register_device(registration, contract::NOW).await.unwrap();
        let stream = &made.streams[0];
        for (number, text) in at.iter().enumerate() {
            let (text, has_footage) =
                text.strip_suffix(" event only").map_or((*text, true), |text| (text, false));
            let at = DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
            let event = NewEvent {
                start: Timestamp::from_millis(at),
                ..contract::events::new_event(&number.to_string(), 0)
            };
            catalog.report_events(made.device.id, &[event], contract::NOW).await.unwrap();
            if has_footage {
                let start = Timestamp::from_millis(at - 400);
                let fragment =
                    contract::fragment(archive, stream.id, start, 1_000, text.as_bytes());
                archive.append(fragment).await.unwrap();
            }
        }
        let (from, to) = (days.0.parse().unwrap(), days.1.parse().unwrap());
        let found = calendar(&storage, stream, from, to, zone.parse().unwrap()).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|day| (day.date.to_string(), day.covered_ms, day.events)).collect();
        let expected: Vec<_> =
            expected.iter().map(|&(date, ms, events)| (date.to_owned(), ms, events)).collect();
        assert_eq!(found, expected, "{zone}");
    }

    #[tokio::test]
    async fn footage_and_events_lie_on_the_days_of_the_zone() {
        // Midnight is at a quarter past, at half past, or is none.
        let kathmandu = ["2026-11-21T18:14:59.999Z event only", "2026-11-21T18:15:00Z"];
        let days = ("2026-11-20", "2026-11-23");
        let found = [("2026-11-21", 400, 1), ("2026-11-22", 600, 1)];
        check_calendar("Asia/Kathmandu", days, &kathmandu, &found).await;
        let kolkata = ["2026-11-21T18:30:00Z"];
        let found = [("2026-11-21", 400, 0), ("2026-11-22", 600, 1)];
        check_calendar("Asia/Kolkata", days, &kolkata, &found).await;
        let cairo = ["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z event only"];
        let found = [("2026-04-23", 400, 0), ("2026-04-24", 600, 1), ("2026-04-25", 0, 1)];
        check_calendar("Africa/Cairo", ("2026-04-22", "2026-04-26"), &cairo, &found).await;
        // Clocks show two o'clock twice, on one day.
        let berlin = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
        let found = [("2026-10-25", 2_000, 2)];
        check_calendar("Europe/Berlin", ("2026-10-24", "2026-10-26"), &berlin, &found).await;
        let lord_howe = ["2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"];
        let found = [("2026-10-03", 400, 0), ("2026-10-04", 1_000, 1), ("2026-10-05", 600, 1)];
        check_calendar("Australia/Lord_Howe", ("2026-10-03", "2026-10-06"), &lord_howe, &found)
            .await;
        // The day between them never was.
        let apia = ["2011-12-30T10:00:00Z"];
        let found = [("2011-12-29", 400, 0), ("2011-12-31", 600, 1)];
        check_calendar("Pacific/Apia", ("2011-12-28", "2012-01-01"), &apia, &found).await;
        check_calendar("Pacific/Apia", ("2011-12-30", "2011-12-30"), &apia, &[]).await;
        let only_events = ["2026-11-22T12:00:00Z event only", "2026-11-22T12:00:00Z event only"];
        check_calendar("UTC", days, &only_events, &[("2026-11-22", 0, 2)]).await;
    }

    #[test]
    fn days_are_filled_across_midnights() {
        let mut days = civil_days(
            "1970-01-01".parse().unwrap(),
            "1970-01-03".parse().unwrap(),
            "UTC".parse().unwrap(),
        );
        let day = 86_400.0;
        for footage in [(-10.0, 10.0), (day - 5.0, day + 7.0), (day * 3.0 - 1.0, day * 3.0 + 1.0)] {
            fill_days(&mut days, &span(footage));
        }
        let covered: Vec<_> = days.iter().map(|day| day.covered_ms).collect();
        assert_eq!(covered, [15_000, 7_000, 1_000]);
    }
}
