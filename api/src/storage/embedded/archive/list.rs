//! Pages of a stream's fragments, as [`Archive::list`](crate::storage::Archive::list) promises them.

use super::index::Index;
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::{
    FragmentPage, FragmentQuery, FragmentRecord, ListBy, ListQuery, ListedFragment, MAX_LISTED,
    RangeBy, Result, TimeOrder,
};
use lookback_wire::{FragmentNumber, Timestamp};

/// Fragments that may have begun before a range and reach into it: what a camera sent again, cut
/// elsewhere.
const MAX_OVERLAPPING: usize = 64;

pub fn page(index: &Index, stream: StreamId, query: &ListQuery) -> Result<FragmentPage> {
    let limit = query.limit.min(MAX_LISTED);
    let after = query.after.as_deref().and_then(|text| text.parse::<u64>().ok());
    let (by, range, spare) = match query.by {
        ListBy::Arrival => (RangeBy::Arrival { after: after.map(FragmentNumber) }, query.range, 0),
        ListBy::Start => {
            let start = after.and_then(|ms| i64::try_from(ms).ok()).map(Timestamp::from_millis);
            let start = start.map_or(query.range.start, |start| start.plus_millis(1));
            let rest = TimeRange::new(start, query.range.end);
            let Some(rest) = rest else { return Ok(FragmentPage::default()) };
            (RangeBy::Timeline, rest, MAX_OVERLAPPING)
        }
    };
    let wanted =
        FragmentQuery { by, range, order: TimeOrder::OldestFirst, limit: limit + 1 + spare };
    let mut found = index.fragments(stream, &wanted)?;
    if query.by == ListBy::Start {
        found.retain(|fragment| fragment.start >= range.start);
    }
    let is_full = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| is_full);
    let next = last.map(|last| match query.by {
        ListBy::Arrival => last.number.0.to_string(),
        ListBy::Start => last.start.as_millis().to_string(),
    });
    Ok(FragmentPage { fragments: found.iter().map(listed).collect(), next })
}

fn listed(fragment: &FragmentRecord) -> ListedFragment {
    ListedFragment {
        id: fragment.number.to_string(),
        start: fragment.start,
        arrived_at: fragment.arrived_at,
        duration_ms: fragment.duration_ms,
        bytes: u64::from(fragment.location.len),
    }
}
