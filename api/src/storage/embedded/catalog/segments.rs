//! Announced segments.

use super::tables::{NOTHING, Tables, decode, get, key, put};
use super::users::first_keys;
use crate::id::{StreamId, Ulid};
use crate::segment::{NewSegment, RecordingTrigger, Segment, SegmentId, SegmentSpan, TimeRange};
use crate::storage::embedded::lmdb::{last_up_to, time_from_key, time_key};
use crate::storage::{Announced, Result, SegmentQuery, StorageError, TimeOrder};
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// See the contract's `OVERLAP`.
const OVERLAP_MS: i64 = 500;
/// Segments looked at to find an overlap: far more than can lie about one, unless somebody
/// announces the same span over and over.
const MAX_COMPARED: usize = 1000;
/// Segments that an older catalog's migration holds in memory at once.
const SEGMENTS_A_STEP: usize = 10_000;

/// What is known of all of a stream's segments.
#[derive(Serialize, Deserialize)]
pub struct OfStream {
    /// No segment was longer: how far before a span one that overlaps it may begin.
    pub longest_ms: i64,
    newest_end: Timestamp,
}

impl OfStream {
    /// Of a stream whose only segment is over `range`.
    pub fn of(range: TimeRange) -> Self {
        Self { longest_ms: range.millis(), newest_end: range.end }
    }

    pub fn note(&mut self, range: TimeRange) {
        self.longest_ms = self.longest_ms.max(range.millis());
        self.newest_end = self.newest_end.max(range.end);
    }
}

fn segment_key(id: SegmentId) -> Vec<u8> {
    key(&[&id.stream.0.to_be_bytes(), &id.window.to_be_bytes(), &id.key.to_be_bytes()])
}

/// In tables that sort a stream's segments by an instant.
pub fn at_key(at: Timestamp, id: SegmentId) -> Vec<u8> {
    let (window, key_of_id) = (id.window.to_be_bytes(), id.key.to_be_bytes());
    key(&[&id.stream.0.to_be_bytes(), &time_key(at.as_millis()), &window, &key_of_id])
}

pub fn segment(tables: &Tables, txn: &RoTxn, id: SegmentId) -> Result<Option<Segment>> {
    get(txn, tables.segments, &segment_key(id))
}

pub fn announce(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    segments: Vec<NewSegment>,
    now: Timestamp,
) -> Result<Vec<Announced>> {
    segments.into_iter().map(|new| announce_one(tables, txn, stream, new, now)).collect()
}

fn announce_one(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    new: NewSegment,
    now: Timestamp,
) -> Result<Announced> {
    let id = SegmentId::of(stream, new.range.start, &new.client_segment_id);
    if let Some(known) = segment(tables, txn, id)? {
        let same = known.client_segment_id == new.client_segment_id && known.range == new.range;
        return Ok(if same { Announced::Duplicate(known) } else { Announced::Conflict(known) });
    }
    let segment = Segment {
        id,
        client_segment_id: new.client_segment_id,
        range: new.range,
        ingested_at: now,
        trigger: new.trigger,
        codecs: new.codecs,
        width: new.width,
        height: new.height,
        size_bytes: new.size_bytes,
    };
    let mut of_stream = of_stream(tables, txn, stream)?;
    let overlaps = overlaps(tables, txn, stream, segment.range, of_stream.as_ref())?;
    let newest = newest_start(tables, txn, stream)?;
    let out_of_order = newest.is_some_and(|newest| segment.range.start < newest);

    put(txn, tables.segments, &segment_key(id), &segment)?;
    put_start(tables, txn, &segment)?;
    tables.segment_arrivals.put(txn, &at_key(now, id), NOTHING)?;
    of_stream.get_or_insert(OfStream::of(segment.range)).note(segment.range);
    put(txn, tables.announced, &stream.0.to_be_bytes(), &of_stream)?;
    Ok(Announced::Stored { segment, overlaps, out_of_order })
}

/// What `segment_starts` holds of a segment.
pub fn start_entry(segment: &Segment) -> (Vec<u8>, Vec<u8>) {
    let trigger = match segment.trigger {
        RecordingTrigger::Continuous => 0,
        RecordingTrigger::Event => 1,
        RecordingTrigger::Manual => 2,
    };
    let end = segment.range.end.as_millis().to_be_bytes();
    (at_key(segment.range.start, segment.id), key(&[&end, &[trigger]]))
}

fn put_start(tables: &Tables, txn: &mut RwTxn, segment: &Segment) -> Result<()> {
    let (key, value) = start_entry(segment);
    Ok(tables.segment_starts.put(txn, &key, &value)?)
}

/// Catalogs of before say in `segment_starts` where segments end, and not why they were recorded.
pub fn note_triggers(tables: &Tables, txn: &mut RwTxn) -> Result<()> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let some = tables.segments.range(txn, &(from, Bound::Unbounded))?.take(SEGMENTS_A_STEP);
        let some = some.map(|entry| {
            let (key, value) = entry?;
            Ok((key.to_vec(), decode::<Segment>(value)?))
        });
        let some: Vec<_> = some.collect::<Result<_>>()?;
        for (_, segment) in &some {
            put_start(tables, txn, segment)?;
        }
        let Some((key, _)) = some.into_iter().next_back() else { return Ok(()) };
        last = Some(key);
    }
}

pub fn of_stream(tables: &Tables, txn: &RoTxn, stream: StreamId) -> Result<Option<OfStream>> {
    get(txn, tables.announced, &stream.0.to_be_bytes())
}

fn overlaps(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    range: TimeRange,
    of_stream: Option<&OfStream>,
) -> Result<bool> {
    let Some(of_stream) = of_stream else { return Ok(false) };
    let (from, to) = around(stream, range, of_stream);
    let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    for entry in tables.segment_starts.range(txn, &bounds)?.take(MAX_COMPARED) {
        let stored = decode_span(entry?)?.range;
        if stored.intersection(&range).is_some_and(|both| both.millis() > OVERLAP_MS) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keys between which every segment begins that may overlap `range`.
fn around(stream: StreamId, range: TimeRange, of_stream: &OfStream) -> (Vec<u8>, Vec<u8>) {
    let prefix = stream.0.to_be_bytes();
    let first = range.start.plus_millis(-of_stream.longest_ms);
    let from = key(&[&prefix, &time_key(first.as_millis())]);
    let to = key(&[&prefix, &time_key(range.end.as_millis())]);
    let to = to.max(from.clone());
    (from, to)
}

/// An entry of `segment_starts`.
fn decode_span((key, value): (&[u8], &[u8])) -> Result<SegmentSpan> {
    let decode = || {
        let (stream, rest) = key.split_first_chunk::<16>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (window, rest) = rest.split_first_chunk::<4>()?;
        let (end, trigger) = value.split_first_chunk::<8>()?;
        let range = TimeRange {
            start: Timestamp::from_millis(time_from_key(*start)),
            end: Timestamp::from_millis(i64::from_be_bytes(*end)),
        };
        let id = SegmentId {
            stream: StreamId(Ulid::from_be_bytes(*stream)),
            window: u32::from_be_bytes(*window),
            key: u64::from_be_bytes(rest.try_into().ok()?),
        };
        let trigger = match trigger {
            [0] => RecordingTrigger::Continuous,
            [1] => RecordingTrigger::Event,
            [2] => RecordingTrigger::Manual,
            _ => return None,
        };
        Some(SegmentSpan { id, range, trigger })
    };
    decode().ok_or_else(|| StorageError::Damaged("a segment's start cannot be read".into()))
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    query: &SegmentQuery,
) -> Result<Vec<Segment>> {
    let read = |span: SegmentSpan| segment(tables, txn, span.id);
    let spans = spans(tables, txn, stream, query)?.into_iter();
    spans.filter_map(|span| read(span).transpose()).collect()
}

pub fn spans(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    query: &SegmentQuery,
) -> Result<Vec<SegmentSpan>> {
    let Some(of_stream) = of_stream(tables, txn, stream)? else { return Ok(Vec::new()) };
    let (from, to) = around(stream, query.range, &of_stream);
    let after = query.after.map(|(start, id)| at_key(start, SegmentId { stream, ..id }));
    let (mut lower, mut upper) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    match (&after, query.order) {
        (Some(after), TimeOrder::OldestFirst) if *after >= from => lower = Bound::Excluded(after),
        (Some(after), TimeOrder::NewestFirst) if *after < to => upper = Bound::Excluded(after),
        _ => {}
    }
    let is_empty = match (lower, upper) {
        (Bound::Included(lower), Bound::Excluded(upper)) => lower >= upper,
        (Bound::Excluded(lower), Bound::Excluded(upper)) => lower >= upper,
        _ => false,
    };
    if is_empty {
        return Ok(Vec::new());
    }
    let bounds = (lower, upper);
    match query.order {
        TimeOrder::OldestFirst => overlapping(tables.segment_starts.range(txn, &bounds)?, query),
        TimeOrder::NewestFirst => {
            overlapping(tables.segment_starts.rev_range(txn, &bounds)?, query)
        }
    }
}

fn overlapping<'txn>(
    entries: impl Iterator<Item = heed::Result<(&'txn [u8], &'txn [u8])>>,
    query: &SegmentQuery,
) -> Result<Vec<SegmentSpan>> {
    let spans = entries.map(|entry| decode_span(entry?));
    let is_asked = |span: &Result<SegmentSpan>| {
        span.as_ref().map_or(true, |span| span.range.overlaps(&query.range))
    };
    spans.filter(is_asked).take(query.limit).collect()
}

fn newest_start(tables: &Tables, txn: &RoTxn, stream: StreamId) -> Result<Option<Timestamp>> {
    let prefix = stream.0.to_be_bytes();
    let last = key(&[&prefix, &[0xff; 20]]);
    let found = last_up_to(tables.segment_starts, txn, &prefix, &last)?;
    Ok(found.map(decode_span).transpose()?.map(|span| span.range.start))
}

pub fn newest_end(tables: &Tables, txn: &RoTxn, stream: StreamId) -> Result<Option<Timestamp>> {
    Ok(of_stream(tables, txn, stream)?.map(|of_stream| of_stream.newest_end))
}

pub fn streams(tables: &Tables, txn: &RoTxn) -> Result<Vec<StreamId>> {
    let keys = first_keys(txn, tables.announced, &[], usize::MAX)?;
    let id = |key: Vec<u8>| key.first_chunk().map(|id| StreamId(Ulid::from_be_bytes(*id)));
    Ok(keys.into_iter().filter_map(id).collect())
}

pub fn expire(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    let prefix = stream.0.to_be_bytes();
    let mut due = Vec::new();
    for entry in tables.segment_arrivals.prefix_iter(txn, &prefix)? {
        let (arrival, _) = entry?;
        let Some((at, name)) = arrival.get(16..).and_then(|rest| rest.split_first_chunk::<8>())
        else {
            continue;
        };
        if due.len() >= limit || *at >= time_key(before.as_millis()) {
            break;
        }
        let segment: Option<Segment> = get(txn, tables.segments, &key(&[&prefix, name]))?;
        due.extend(segment.filter(|segment| !overlaps_any(&segment.range, spare)));
    }
    remove(tables, txn, stream, &due)
}

pub fn delete(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    range: TimeRange,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    let Some(of_stream) = of_stream(tables, txn, stream)? else { return Ok(0) };
    let (from, to) = around(stream, range, &of_stream);
    let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    let mut inside = Vec::new();
    for entry in tables.segment_starts.range(txn, &bounds)? {
        let SegmentSpan { id, range: span, .. } = decode_span(entry?)?;
        let lies_in_range = range.start <= span.start && span.end <= range.end;
        if lies_in_range && !overlaps_any(&span, spare) {
            let found = segment(tables, txn, id)?;
            inside.extend(found.filter(|segment| segment.ingested_at < before));
        }
        if inside.len() >= limit {
            break;
        }
    }
    remove(tables, txn, stream, &inside)
}

fn overlaps_any(range: &TimeRange, spans: &[TimeRange]) -> bool {
    spans.iter().any(|span| span.overlaps(range))
}

fn remove(
    tables: &Tables,
    txn: &mut RwTxn,
    stream: StreamId,
    segments: &[Segment],
) -> Result<usize> {
    for segment in segments {
        tables.segments.delete(txn, &segment_key(segment.id))?;
        tables.segment_starts.delete(txn, &at_key(segment.range.start, segment.id))?;
        tables.segment_arrivals.delete(txn, &at_key(segment.ingested_at, segment.id))?;
    }
    if let Some(mut of_stream) = of_stream(tables, txn, stream)?.filter(|_| !segments.is_empty()) {
        let prefix = stream.0.to_be_bytes();
        match newest_end_of_rest(tables, txn, stream, of_stream.longest_ms)? {
            Some(newest_end) => {
                of_stream.newest_end = newest_end;
                put(txn, tables.announced, &prefix, &of_stream)?;
            }
            None => {
                tables.announced.delete(txn, &prefix)?;
            }
        }
    }
    Ok(segments.len())
}

fn newest_end_of_rest(
    tables: &Tables,
    txn: &RoTxn,
    stream: StreamId,
    longest_ms: i64,
) -> Result<Option<Timestamp>> {
    let prefix = stream.0.to_be_bytes();
    let mut newest = None;
    for entry in tables.segment_starts.rev_prefix_iter(txn, &prefix)? {
        let SegmentSpan { range, .. } = decode_span(entry?)?;
        if newest.is_some_and(|newest| range.start.plus_millis(longest_ms) <= newest) {
            break;
        }
        newest = newest.max(Some(range.end));
    }
    Ok(newest)
}
