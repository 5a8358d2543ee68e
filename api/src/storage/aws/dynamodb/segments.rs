//! Announced segments, in items of `timeline`: see `window` for their form.
//!
//! A segment is at most as long as a window, so what overlaps a span begins in its windows or in the
//! one before.

use super::keys;
use super::listed::{self, Listed};
use super::store::{Item, MAX_ROUNDS, Store, fault, pause};
use super::tables::{PARTITION, WINDOW};
use super::window::{self, Attribute, CHANGES, Window};
use crate::id::StreamId;
use crate::segment::{NewSegment, Segment, SegmentId, TimeRange};
use crate::storage::{Announced, Result, SegmentQuery, StorageError, TimeOrder};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures_util::StreamExt;
use futures_util::stream;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// See the contract's `OVERLAP`.
const OVERLAP_MS: i64 = 500;
/// Segments of one update: an expression has at most 4 KB.
const MAX_UPDATE: usize = 40;
/// Windows that are read at first where only some segments are asked for: 10 segments in each.
const SEGMENTS_A_WINDOW: usize = 10;
/// A read that DynamoDB answers from any of its copies costs half and is up to a second old, rarely
/// more. What this server wrote within this time it reads from the first copy.
const RECENT: Duration = Duration::from_secs(10);
/// Streams that are asked at once for their newest segment.
const MAX_AT_ONCE: usize = 16;

/// What this server need not ask DynamoDB for.
#[derive(Debug, Default)]
pub struct Known {
    /// The first window of each stream that was lately written to, and when last.
    written: Mutex<HashMap<StreamId, (u32, Instant)>>,
    /// On the list of streams with segments.
    listed: Listed<StreamId>,
}

impl Known {
    fn note_written(&self, stream: StreamId, window: u32) {
        let now = Instant::now();
        let mut written = self.written.lock();
        written.retain(|_, (_, at)| now.duration_since(*at) < RECENT);
        let (first, at) = written.entry(stream).or_insert((window, now));
        (*first, *at) = (window.min(*first), now);
    }

    /// Windows from here on may have been written to by this server a moment ago.
    fn first_written(&self, stream: StreamId) -> Option<u32> {
        let written = self.written.lock();
        let recent = written.get(&stream).filter(|(_, at)| at.elapsed() < RECENT);
        recent.map(|(first, _)| *first)
    }
}

/// Windows of a stream, both included, none where the first is after the last.
#[derive(Clone, Copy, Debug)]
struct Windows {
    stream: StreamId,
    first: u32,
    last: u32,
}

impl Windows {
    /// Those in which a segment begins that overlaps `range`.
    fn around(stream: StreamId, range: TimeRange) -> Self {
        let first = window::number_at(range.start).saturating_sub(1);
        Self { stream, first, last: window::number_at(range.end) }
    }

    fn query(&self, store: &Store, order: TimeOrder, is_consistent: bool) -> QueryFluentBuilder {
        let number = |window: u32| AttributeValue::N(window.to_string());
        store
            .client
            .query()
            .table_name(&store.tables.timeline)
            .consistent_read(is_consistent)
            .scan_index_forward(order == TimeOrder::OldestFirst)
            .key_condition_expression(format!("{PARTITION} = :p AND {WINDOW} BETWEEN :a AND :b"))
            .expression_attribute_values(":p", window::partition(self.stream))
            .expression_attribute_values(":a", number(self.first))
            .expression_attribute_values(":b", number(self.last))
    }
}

/// Pages of windows in their order.
struct Pages<'a> {
    store: &'a Store,
    stream: StreamId,
    /// The next page of the parts that are not read to their end; none where there is no more.
    queries: Vec<QueryFluentBuilder>,
    limit: Option<usize>,
    start: Option<Item>,
}

impl<'a> Pages<'a> {
    /// All windows as the last write left them.
    fn consistent(store: &'a Store, windows: Windows, order: TimeOrder) -> Self {
        let is_empty = windows.first > windows.last;
        let queries = if is_empty { vec![] } else { vec![windows.query(store, order, true)] };
        Self { store, stream: windows.stream, queries, limit: None, start: None }
    }

    /// As cheap as may be: only windows from `recent` on as the last write left them.
    fn cheap(store: &'a Store, windows: Windows, order: TimeOrder, recent: Option<u32>) -> Self {
        let Windows { stream, first, last } = windows;
        let older = match recent {
            Some(recent) => {
                recent.checked_sub(1).map(|end| Windows { last: end.min(last), ..windows })
            }
            None => Some(windows),
        };
        let newer = recent.map(|recent| Windows { first: recent.max(first), ..windows });
        let mut queries: Vec<_> = [(older, false), (newer, true)]
            .into_iter()
            .filter_map(|(part, is_consistent)| Some((part?, is_consistent)))
            .filter(|(part, _)| part.first <= part.last)
            .map(|(part, is_consistent)| part.query(store, order, is_consistent))
            .collect();
        // Taken from the end.
        if order == TimeOrder::OldestFirst {
            queries.reverse();
        }
        Self { store, stream, queries, limit: None, start: None }
    }

    /// At most `windows` in a page.
    fn limit(self, windows: usize) -> Self {
        Self { limit: Some(windows), ..self }
    }

    async fn next(&mut self) -> Result<Option<Vec<Window>>> {
        let Some(query) = self.queries.last() else { return Ok(None) };
        let limit = self.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = {
            let _request = self.store.request().await?;
            let start = self.start.take();
            query.clone().set_limit(limit).set_exclusive_start_key(start).send().await
        };
        let answer = answer.map_err(|error| fault("Query", &self.store.tables.timeline, &error))?;
        self.start = answer.last_evaluated_key;
        if self.start.is_none() {
            self.queries.pop();
        }
        let items = answer.items.unwrap_or_default();
        let windows = items.iter().map(|item| Window::read(self.stream, item));
        windows.collect::<Result<_>>().map(Some)
    }
}

async fn read_window(store: &Store, stream: StreamId, number: u32) -> Result<Option<Window>> {
    let table = &store.tables.timeline;
    let _request = store.request().await?;
    let request = store.client.get_item().table_name(table).consistent_read(true);
    let found = request.set_key(Some(window::key(stream, number))).send().await;
    let found = found.map_err(|error| fault("GetItem", table, &error))?;
    found.item.map(|item| Window::read(stream, &item)).transpose()
}

/// What was announced before, as far as it says how what comes is to be judged.
struct Before {
    spans: Vec<TimeRange>,
    newest_start: Option<Timestamp>,
    known: HashMap<SegmentId, Segment>,
}

impl Before {
    async fn read(store: &Store, stream: StreamId, segments: &[NewSegment]) -> Result<Self> {
        let starts = segments.iter().map(|new| window::number_at(new.range.start));
        let ends = segments.iter().map(|new| window::number_at(new.range.end));
        let around = Windows {
            stream,
            first: starts.min().unwrap_or(0).saturating_sub(1),
            last: ends.max().unwrap_or(0),
        };
        let all = Windows { first: 0, last: u32::MAX, ..around };
        // A camera announces what is newest: one page from the end on has all.
        let mut newest = Pages::consistent(store, all, TimeOrder::NewestFirst).limit(3);
        let mut windows = newest.next().await?.unwrap_or_default();
        let reaches = newest.queries.is_empty()
            || windows.last().is_some_and(|oldest| oldest.number <= around.first);
        let mut newest_start = newest_start_of(&windows);
        while newest_start.is_none()
            && let Some(more) = newest.next().await?
        {
            newest_start = newest_start_of(&more);
        }
        if !reaches {
            windows.clear();
            let mut pages = Pages::consistent(store, around, TimeOrder::OldestFirst);
            while let Some(page) = pages.next().await? {
                windows.extend(page);
            }
        }
        let segments = windows.into_iter().flat_map(|window| window.segments);
        let known: HashMap<_, _> = segments.map(|(segment, _)| (segment.id, segment)).collect();
        Ok(Self {
            spans: known.values().map(|segment| segment.range).collect(),
            newest_start,
            known,
        })
    }

    /// Judges a segment, and counts it among those before.
    fn judge(&mut self, range: TimeRange) -> (bool, bool) {
        let is_overlap = |stored: &TimeRange| {
            stored.intersection(&range).is_some_and(|both| both.millis() > OVERLAP_MS)
        };
        let overlaps = self.spans.iter().any(is_overlap);
        let out_of_order = self.newest_start.is_some_and(|newest| range.start < newest);
        self.spans.push(range);
        self.newest_start = self.newest_start.max(Some(range.start));
        (overlaps, out_of_order)
    }
}

fn newest_start_of(windows: &[Window]) -> Option<Timestamp> {
    let segments = windows.iter().flat_map(|window| &window.segments);
    segments.map(|(segment, _)| segment.range.start).max()
}

/// A segment that is stored already, or not.
fn answer_known(known: &Segment, new: &NewSegment) -> Announced {
    let same = known.client_segment_id == new.client_segment_id && known.range == new.range;
    if same { Announced::Duplicate(known.clone()) } else { Announced::Conflict(known.clone()) }
}

/// A segment to be stored, with its place in the batch.
struct Storing<'a> {
    place: usize,
    id: SegmentId,
    new: &'a NewSegment,
}

pub async fn announce(
    store: &Store,
    known: &Known,
    stream: StreamId,
    segments: &[NewSegment],
    now: Timestamp,
) -> Result<Vec<Announced>> {
    if segments.is_empty() {
        return Ok(Vec::new());
    }
    let mut before = Before::read(store, stream, segments).await?;
    let mut answers: Vec<Option<Announced>> = vec![None; segments.len()];
    let mut windows: BTreeMap<u32, Vec<Storing>> = BTreeMap::new();
    let mut first_of: HashMap<SegmentId, usize> = HashMap::new();
    let mut repeated = Vec::new();
    for (place, new) in segments.iter().enumerate() {
        let id = SegmentId::of(stream, new.range.start, &new.client_segment_id);
        if let Some(stored) = before.known.get(&id) {
            answers[place] = Some(answer_known(stored, new));
        } else if let Some(first) = first_of.get(&id) {
            repeated.push((place, *first));
        } else {
            first_of.insert(id, place);
            windows.entry(id.window).or_default().push(Storing { place, id, new });
        }
    }
    if !windows.is_empty() {
        known.listed.add(store, &keys::announced(stream), stream).await?;
    }
    // The oldest first: where one fails, what was stored has no hole before it.
    for (number, storing) in &windows {
        for storing in storing.chunks(MAX_UPDATE) {
            known.note_written(stream, *number);
            let raced = update(store, stream, *number, storing, now).await?;
            for (storing, raced) in storing.iter().zip(raced) {
                answers[storing.place] = Some(match raced {
                    Some(stored) => answer_known(&stored, storing.new),
                    None => {
                        let (overlaps, out_of_order) = before.judge(storing.new.range);
                        let segment = segment_of(storing.id, storing.new, now);
                        Announced::Stored { segment, overlaps, out_of_order }
                    }
                });
            }
        }
    }
    for (place, first) in repeated {
        let stored = match &answers[first] {
            Some(Announced::Stored { segment, .. }) => Some(segment),
            Some(Announced::Duplicate(stored) | Announced::Conflict(stored)) => Some(stored),
            None => None,
        };
        answers[place] = stored.map(|stored| answer_known(stored, &segments[place]));
    }
    let unanswered = || window::damaged(stream, "an announcement has no answer");
    answers.into_iter().map(|answer| answer.ok_or_else(unanswered)).collect()
}

fn segment_of(id: SegmentId, new: &NewSegment, now: Timestamp) -> Segment {
    Segment {
        id,
        client_segment_id: new.client_segment_id.clone(),
        range: new.range,
        ingested_at: now,
        trigger: new.trigger,
        codecs: new.codecs.clone(),
        width: new.width,
        height: new.height,
        size_bytes: new.size_bytes,
    }
}

/// Adds to a window what it does not have; answers for each what another call had stored before.
async fn update(
    store: &Store,
    stream: StreamId,
    number: u32,
    storing: &[Storing<'_>],
    now: Timestamp,
) -> Result<Vec<Option<Segment>>> {
    let mut attributes: BTreeMap<String, AttributeValue> = BTreeMap::new();
    let mut names = Vec::with_capacity(storing.len());
    for Storing { id, new, .. } in storing {
        let ((name, value), profile) = window::encode(*id, new, now)?;
        names.push(name.clone());
        attributes.insert(name, value);
        attributes.extend(profile);
    }
    let table = &store.tables.timeline;
    let mut request = store
        .client
        .update_item()
        .table_name(table)
        .set_key(Some(window::key(stream, number)))
        .return_values(ReturnValue::AllOld)
        .expression_attribute_values(":one", AttributeValue::N("1".into()));
    let mut sets = Vec::with_capacity(attributes.len());
    for (place, (name, value)) in attributes.into_iter().enumerate() {
        sets.push(format!("#{place} = if_not_exists(#{place}, :{place})"));
        request = request
            .expression_attribute_names(format!("#{place}"), name)
            .expression_attribute_values(format!(":{place}"), value);
    }
    let expression = format!("SET {} ADD {CHANGES} :one", sets.join(", "));
    let answer = {
        let _request = store.request().await?;
        request.update_expression(expression).send().await
    };
    let answer = answer.map_err(|error| fault("UpdateItem", table, &error))?;
    let old = answer.attributes.unwrap_or_default();
    names
        .iter()
        .map(|name| match old.get(name) {
            None => Ok(None),
            Some(value) => window::decode(stream, number, value, &old).map(Some).ok_or_else(|| {
                window::damaged(
                    stream,
                    &format!("segment {name} of window {number} cannot be read"),
                )
            }),
        })
        .collect()
}

pub async fn segment(store: &Store, id: SegmentId) -> Result<Option<Segment>> {
    let found = read_window(store, id.stream, id.window).await?;
    let segments = found.into_iter().flat_map(|window| window.segments);
    Ok(segments.map(|(segment, _)| segment).find(|segment| segment.id == id))
}

pub async fn page(
    store: &Store,
    known: &Known,
    stream: StreamId,
    query: &SegmentQuery,
) -> Result<Vec<Segment>> {
    let mut windows = Windows::around(stream, query.range);
    match (query.after, query.order) {
        (Some((_, after)), TimeOrder::OldestFirst) => {
            windows.first = windows.first.max(after.window)
        }
        (Some((_, after)), TimeOrder::NewestFirst) => windows.last = windows.last.min(after.window),
        (None, _) => {}
    }
    let is_after = |segment: &Segment| {
        let place = (segment.range.start, segment.id);
        match (query.after, query.order) {
            (Some((start, id)), TimeOrder::OldestFirst) => {
                place > (start, SegmentId { stream, ..id })
            }
            (Some((start, id)), TimeOrder::NewestFirst) => {
                place < (start, SegmentId { stream, ..id })
            }
            (None, _) => true,
        }
    };
    let recent = known.first_written(stream);
    let mut pages = Pages::cheap(store, windows, query.order, recent)
        .limit(query.limit.div_ceil(SEGMENTS_A_WINDOW).saturating_add(1));
    let mut found = Vec::new();
    while found.len() < query.limit
        && let Some(page) = pages.next().await?
    {
        for window in page {
            let mut segments: Vec<_> = window.segments.into_iter().map(|(one, _)| one).collect();
            segments.retain(|one| one.range.overlaps(&query.range) && is_after(one));
            if query.order == TimeOrder::NewestFirst {
                segments.reverse();
            }
            found.extend(segments);
        }
    }
    found.truncate(query.limit);
    Ok(found)
}

pub async fn newest_ends(store: &Store, streams: &[StreamId]) -> Result<Vec<Option<Timestamp>>> {
    let newest = streams.iter().copied().map(|stream| newest_end(store, stream));
    let newest: Vec<_> = stream::iter(newest).buffered(MAX_AT_ONCE).collect().await;
    newest.into_iter().collect()
}

/// What begins in the window before the newest may end after all that begins in that.
async fn newest_end(store: &Store, stream: StreamId) -> Result<Option<Timestamp>> {
    let all = Windows { stream, first: 0, last: u32::MAX };
    let mut pages = Pages::consistent(store, all, TimeOrder::NewestFirst).limit(2);
    let mut newest: Option<(u32, Timestamp)> = None;
    while let Some(page) = pages.next().await? {
        for window in page {
            let ends = window.segments.iter().map(|(segment, _)| segment.range.end);
            let Some(end) = ends.max() else { continue };
            match newest {
                Some((number, _)) if window.number.saturating_add(1) < number => {
                    return Ok(newest.map(|(_, end)| end));
                }
                Some((_, known)) => return Ok(Some(known.max(end))),
                None => newest = Some((window.number, end)),
            }
        }
    }
    Ok(newest.map(|(_, end)| end))
}

/// Streams on the list that have segments.
pub async fn streams(store: &Store) -> Result<Vec<StreamId>> {
    let listed: Vec<StreamId> = listed::all(store, keys::announced_streams).await?;
    let newest = newest_ends(store, &listed).await?;
    let with_segments = listed.into_iter().zip(newest).filter(|(_, newest)| newest.is_some());
    Ok(with_segments.map(|(stream, _)| stream).collect())
}

/// What is to go.
#[derive(Clone, Copy, Debug)]
pub struct Going<'a> {
    pub stream: StreamId,
    /// Lies in it whole; any where there is none.
    pub inside: Option<TimeRange>,
    pub ingested_before: Timestamp,
    /// Overlaps none of them.
    pub spare: &'a [TimeRange],
    pub limit: usize,
}

impl Going<'_> {
    fn takes(&self, segment: &Segment) -> bool {
        let range = &segment.range;
        let is_inside = |inside: TimeRange| inside.start <= range.start && range.end <= inside.end;
        segment.ingested_at < self.ingested_before
            && self.inside.is_none_or(is_inside)
            && !self.spare.iter().any(|spare| spare.overlaps(range))
    }

    fn windows(&self) -> Windows {
        match self.inside {
            Some(range) => Windows::around(self.stream, range),
            // A camera's clock may be ahead by two minutes, no more: what was ingested by then
            // began in the window after it at the latest.
            None => Windows {
                stream: self.stream,
                first: 0,
                last: window::number_at(self.ingested_before).saturating_add(1),
            },
        }
    }
}

/// Removes segments, window after window; answers how many.
pub async fn remove(store: &Store, known: &Known, going: Going<'_>) -> Result<usize> {
    let mut pages = Pages::consistent(store, going.windows(), TimeOrder::OldestFirst);
    let mut gone = 0;
    while gone < going.limit
        && let Some(page) = pages.next().await?
    {
        for window in page {
            gone += remove_from(store, known, &going, window, going.limit - gone).await?;
            if gone >= going.limit {
                break;
            }
        }
    }
    Ok(gone)
}

/// Removes from one window; where somebody changed it meanwhile, from what it is then.
async fn remove_from(
    store: &Store,
    known: &Known,
    going: &Going<'_>,
    mut window: Window,
    limit: usize,
) -> Result<usize> {
    for round in 0..MAX_ROUNDS {
        let due = window.segments.iter().filter(|(segment, _)| going.takes(segment));
        let due: Vec<&Attribute> = due.map(|(_, attribute)| attribute).take(limit).collect();
        if due.is_empty() {
            return Ok(0);
        }
        known.note_written(going.stream, window.number);
        let is_all = due.len() == window.segments.len();
        if take_out(store, going.stream, &window, &due, is_all).await? {
            return Ok(due.len());
        }
        pause(round).await;
        match read_window(store, going.stream, window.number).await? {
            Some(now) => window = now,
            None => return Ok(0),
        }
    }
    Err(StorageError::Unavailable(format!(
        "window {} of {} was changed by others {MAX_ROUNDS} times while segments were removed",
        window.number, going.stream
    )))
}

/// Takes attributes out of a window, or all of it away, unless it is not what was read.
async fn take_out(
    store: &Store,
    stream: StreamId,
    window: &Window,
    due: &[&Attribute],
    is_all: bool,
) -> Result<bool> {
    let table = &store.tables.timeline;
    // A window that went and came again may count as many changes, but has not the same segment.
    let Some((first, value)) = due.first() else { return Ok(true) };
    let condition = format!("{CHANGES} = :seen AND #0 = :first");
    let key = Some(window::key(stream, window.number));
    let _request = store.request().await?;
    if is_all {
        let answer = store
            .client
            .delete_item()
            .table_name(table)
            .set_key(key)
            .condition_expression(condition)
            .expression_attribute_names("#0", first)
            .expression_attribute_values(":first", value.clone())
            .expression_attribute_values(":seen", window.changes.clone())
            .send()
            .await;
        return match answer {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(fault("DeleteItem", table, &error)),
        };
    }
    let due = due.get(..MAX_UPDATE).unwrap_or(due);
    let places: Vec<_> = (0..due.len()).map(|place| format!("#{place}")).collect();
    let mut request = store
        .client
        .update_item()
        .table_name(table)
        .set_key(key)
        .update_expression(format!("REMOVE {} ADD {CHANGES} :one", places.join(", ")))
        .condition_expression(condition)
        .expression_attribute_values(":one", AttributeValue::N("1".into()))
        .expression_attribute_values(":first", value.clone())
        .expression_attribute_values(":seen", window.changes.clone());
    for (place, (name, _)) in places.into_iter().zip(due) {
        request = request.expression_attribute_names(place, name);
    }
    match request.send().await {
        Ok(_) => Ok(true),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
        {
            Ok(false)
        }
        Err(error) => Err(fault("UpdateItem", table, &error)),
    }
}
