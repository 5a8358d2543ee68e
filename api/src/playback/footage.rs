//! Which footage a stream has. Media in files of this machine says so itself, announced or not; of
//! media elsewhere what was announced does, and what was found there and announced since.

use crate::id::StreamId;
use crate::segment::{Segment, TimeRange, WINDOW_MS};
use crate::storage::{
    FragmentQuery, RUN_TOLERANCE_MS, RangeBy, Result, Run, SegmentQuery, Storage, TimeOrder,
};
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;

/// For this long after something arrived, more of it may: the longest fragment is 20 s, and takes
/// some time to arrive.
const ARRIVING_MS: i64 = 30_000;
/// For this long after something was announced, more of it may be: cameras are advised to announce
/// once in a window.
const ANNOUNCING_MS: i64 = WINDOW_MS + 60_000;
/// Runs read at a time; a day of a camera that reconnects every minute has 1,440.
const RUNS_A_READ: usize = 2_000;
/// Fragments read at a time.
const FRAGMENTS_A_READ: usize = 10_000;
/// Announcements read at a time: a day of 20 s each has 4,320.
const SEGMENTS_A_READ: usize = 20_000;

/// Footage without a hole of more than [`RUN_TOLERANCE_MS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footage {
    pub range: TimeRange,
    /// None where nobody said how much it is.
    pub bytes: Option<u64>,
    /// Until then more may come that lengthens it.
    pub grows_until: Timestamp,
}

impl From<Run> for Footage {
    fn from(run: Run) -> Self {
        let grows_until = run.arrived_at.plus_millis(ARRIVING_MS);
        Self { range: run.range, bytes: Some(run.bytes), grows_until }
    }
}

/// What one read found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Oldest first, whole where it reaches beyond the range that was asked for; what was announced
    /// is whole to its segments.
    pub footage: Vec<Footage>,
    /// Whether there is more behind the last of it.
    pub is_full: bool,
    /// What had to be read for it.
    pub reads: usize,
}

/// The footage that overlaps `range`, or the first of it.
pub async fn read(storage: &Storage, stream: StreamId, range: TimeRange) -> Result<Found> {
    if let Ok(archive) = storage.local() {
        let runs = archive.runs(stream, range, RUNS_A_READ).await?;
        return Ok(Found {
            is_full: runs.len() >= RUNS_A_READ,
            reads: runs.len(),
            footage: runs.into_iter().map(Footage::from).collect(),
        });
    }
    let segments = storage.announced(stream, range, SEGMENTS_A_READ).await?;
    Ok(Found {
        is_full: segments.len() >= SEGMENTS_A_READ,
        reads: segments.len(),
        footage: join(&segments),
    })
}

/// The bytes of what begins in `span`, as far as somebody said how much it is.
pub async fn bytes_beginning_in(
    storage: &Storage,
    stream: StreamId,
    span: TimeRange,
) -> Result<u64> {
    let Ok(archive) = storage.local() else {
        let segments = storage.announced(stream, span, SEGMENTS_A_READ).await?;
        let inside = segments.iter().filter(|segment| span.contains(segment.range.start));
        return Ok(inside.filter_map(|segment| segment.size_bytes).fold(0, u64::saturating_add));
    };
    let mut bytes = 0u64;
    let mut rest = Some(span);
    while let Some(range) = rest {
        let query = FragmentQuery {
            by: RangeBy::Timeline,
            range,
            order: TimeOrder::OldestFirst,
            limit: FRAGMENTS_A_READ,
        };
        let found = archive.fragments(stream, &query).await?;
        let inside = found.iter().filter(|fragment| range.contains(fragment.start));
        bytes =
            inside.fold(bytes, |sum, fragment| sum.saturating_add(fragment.location.len.into()));
        let last = found.last().filter(|_| found.len() >= FRAGMENTS_A_READ);
        rest = last.and_then(|last| TimeRange::new(last.start.plus_millis(1), span.end));
        tokio::task::yield_now().await;
    }
    Ok(bytes)
}

/// Each stream's oldest start and newest end.
pub async fn extents(storage: &Storage, streams: &[StreamId]) -> Result<Vec<Option<TimeRange>>> {
    if let Ok(archive) = storage.local() {
        return archive.extents(streams).await;
    }
    let firsts = streams.iter().map(|stream| first(storage, *stream, TimeOrder::OldestFirst));
    let firsts = try_join_all(firsts).await?;
    let ends = storage.catalog.newest_announced(streams).await?;
    let extent = |(first, end): (Option<Segment>, Option<Timestamp>)| {
        let range = first?.range;
        Some(TimeRange { start: range.start, end: end.unwrap_or(range.end).max(range.end) })
    };
    Ok(firsts.into_iter().zip(ends).map(extent).collect())
}

/// The first segment in an order.
pub async fn first(
    storage: &Storage,
    stream: StreamId,
    order: TimeOrder,
) -> Result<Option<Segment>> {
    let query = SegmentQuery { range: TimeRange::ALL, order, after: None, limit: 1 };
    Ok(storage.catalog.segments(stream, &query).await?.pop())
}

/// Joins segments, which come by start, across the joints between them.
fn join(segments: &[Segment]) -> Vec<Footage> {
    let mut joined: Vec<Footage> = Vec::new();
    for segment in segments {
        let grows_until = segment.ingested_at.plus_millis(ANNOUNCING_MS);
        match joined.last_mut() {
            Some(last) if segment.range.start.millis_since(last.range.end) <= RUN_TOLERANCE_MS => {
                last.range.end = last.range.end.max(segment.range.end);
                last.bytes = last.bytes.zip(segment.size_bytes).map(|(a, b)| a.saturating_add(b));
                last.grows_until = last.grows_until.max(grows_until);
            }
            _ => joined.push(Footage {
                range: segment.range,
                bytes: segment.size_bytes,
                grows_until,
            }),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{RecordingTrigger, SegmentId};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn segment((start, end, size_bytes): (i64, i64, Option<u64>)) -> Segment {
        Segment {
            id: SegmentId::of(StreamId(crate::id::Ulid(1)), at(start), "s"),
            client_segment_id: "s".into(),
            range: TimeRange { start: at(start), end: at(end) },
            ingested_at: at(end + 1_000),
            trigger: RecordingTrigger::Continuous,
            codecs: None,
            width: None,
            height: None,
            size_bytes,
        }
    }

    #[test]
    fn segments_are_joined_across_their_joints() {
        type Segments<'a> = &'a [(i64, i64, Option<u64>)];
        let cases: &[(Segments, Segments)] = &[
            (&[], &[]),
            (&[(0, 20_000, Some(5)), (20_000, 40_000, Some(6))], &[(0, 40_000, Some(11))]),
            (&[(0, 20_000, Some(5)), (20_100, 40_000, None)], &[(0, 40_000, None)]),
            (
                &[(0, 20_000, Some(5)), (20_101, 40_000, Some(6))],
                &[(0, 20_000, Some(5)), (20_101, 40_000, Some(6))],
            ),
            // One inside another, and what lies behind both.
            (
                &[(0, 20_000, Some(5)), (5_000, 8_000, Some(1)), (20_000, 21_000, Some(2))],
                &[(0, 21_000, Some(8))],
            ),
        ];
        for (segments, expected) in cases {
            let segments: Vec<_> = segments.iter().copied().map(segment).collect();
            let found: Vec<_> = join(&segments)
                .into_iter()
                .map(|f| (f.range.start.as_millis(), f.range.end.as_millis(), f.bytes))
                .collect();
            assert_eq!(&found, expected);
        }
        let grows_until = join(&[segment((0, 20_000, None))])[0].grows_until;
        assert_eq!(grows_until, at(21_000 + ANNOUNCING_MS));
    }
}
