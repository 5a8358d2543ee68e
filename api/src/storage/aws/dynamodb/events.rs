//! Events: what devices reported, the pictures that came along, and who saw them. A device's events
//! lie in one partition of `core`, by the five-minute window in which they begin.

use super::changes::{Changes, Tries};
use super::keys::{self, Places};
use super::listed::{self, Listed};
use super::store::{Item, Store, fault, record};
use super::tables::SORT;
use super::webhooks::{self, Webhooks};
use super::window::number_at;
use crate::event::{Event, EventId, NewEvent, Watcher};
use crate::id::DeviceId;
use crate::segment::{TimeRange, WINDOW_MS};
use crate::storage::{EventPage, EventQuery, Reported, Result, StorageError, TimeOrder};
use crate::webhook::{Delivery, DeliveryIds, Webhook};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;
use std::collections::BTreeMap;

/// Events that one page looks at: some days of a busy camera.
const MAX_LOOKED_AT: usize = 2_000;
/// Beyond what is asked for, so that the window in which a page ends is read to its end.
const READ_AHEAD: usize = 20;
/// A picture with its key has to fit into the 400 KB of an item.
const MAX_PICTURE_BYTES: usize = 390 << 10;
/// The attribute that holds a picture.
const PICTURE: &str = "b";

pub async fn report(
    store: &Store,
    eventful: &Listed<DeviceId>,
    webhooks: &Webhooks,
    device: DeviceId,
    reports: &[NewEvent],
    now: Timestamp,
) -> Result<Vec<Reported>> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    for report in reports {
        let bytes = report.picture.as_ref().map_or(0, |picture| picture.jpeg.len());
        if bytes > MAX_PICTURE_BYTES {
            return Err(StorageError::Full(format!(
                "the picture of event {} has {bytes} bytes; there is room for {MAX_PICTURE_BYTES}",
                report.client_event_id
            )));
        }
    }
    eventful.add(store, &keys::eventful(device), device).await?;
    let told = Told {
        webhooks: &webhooks.of_device(store, device).await?,
        ids: DeliveryIds::new(now),
        now,
    };
    let told = &told;
    let mut of_event: BTreeMap<EventId, Vec<usize>> = BTreeMap::new();
    for (place, report) in reports.iter().enumerate() {
        let id = EventId::of(device, report.start, &report.client_event_id);
        of_event.entry(id).or_default().push(place);
    }
    let answers = of_event.into_iter().map(|(id, places)| async move {
        let of_this = places.iter().filter_map(|at| Some((*at, reports.get(*at)?))).collect();
        let answers = report_one(store, device, id, of_this, told).await?;
        Ok::<_, StorageError>(places.into_iter().zip(answers))
    });
    let mut answers: Vec<_> = try_join_all(answers).await?.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Who is told of the events of one call, and as what.
struct Told<'a> {
    webhooks: &'a [Webhook],
    ids: DeliveryIds,
    now: Timestamp,
}

impl Told<'_> {
    /// Makes what became of the report at `place` due to those webhooks that want it.
    fn note(&self, answer: &Reported, place: usize, changes: &mut Changes<'_>) -> Result<()> {
        let Some((event, notice)) = answer.notice() else { return Ok(()) };
        let delivery = Delivery::new(self.ids.nth(place), event.id, notice, self.now);
        for webhook in self.webhooks.iter().filter(|webhook| webhook.wants(event)) {
            webhooks::make_due(changes, webhook.id, &delivery)?;
        }
        Ok(())
    }
}

/// What is told of one event, in order. Its picture is written before the event says that it has one.
async fn report_one(
    store: &Store,
    device: DeviceId,
    id: EventId,
    reports: Vec<(usize, &NewEvent)>,
    told: &Told<'_>,
) -> Result<Vec<Reported>> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let stored: Option<Event> = changes.get(&keys::event(id)).await?;
        let mut known = stored.clone();
        let mut picture = None;
        let mut answers = Vec::with_capacity(reports.len());
        for (place, report) in &reports {
            let (answer, event) = match known {
                Some(event) if !event.is_meant_by(report) => {
                    (Reported::Conflict(event.clone()), event)
                }
                Some(event) => {
                    let refined = event.refined_by(report);
                    if refined == event {
                        (Reported::Duplicate(event.clone()), event)
                    } else {
                        picture = report.picture.as_ref().or(picture);
                        (Reported::Updated(refined.clone()), refined)
                    }
                }
                None => {
                    let event = Event::new(device, report, told.now);
                    picture = report.picture.as_ref();
                    (Reported::Stored(event.clone()), event)
                }
            };
            told.note(&answer, *place, &mut changes)?;
            answers.push(answer);
            known = Some(event);
        }
        let Some(event) = known.filter(|known| stored.as_ref() != Some(known)) else {
            return Ok(answers);
        };
        if let Some(picture) = picture {
            let mut item = keys::event_picture(id).attributes();
            let jpeg = AttributeValue::B(Blob::new(picture.jpeg.to_vec()));
            item.insert(PICTURE.into(), jpeg);
            store.put_item(item).await?;
        }
        changes.put(keys::event(id), &event)?;
        if changes.commit().await? {
            return Ok(answers);
        }
    }
}

pub async fn events_by_id(store: &Store, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
    let keys: Vec<_> = ids.iter().map(|id| keys::event(*id)).collect();
    store.records(&keys).await
}

pub async fn picture(store: &Store, id: EventId) -> Result<Option<Bytes>> {
    let item = store.item(&keys::event_picture(id)).await?;
    let jpeg = item.and_then(|mut item| match item.remove(PICTURE) {
        Some(AttributeValue::B(jpeg)) => Some(Bytes::from(jpeg.into_inner())),
        _ => None,
    });
    Ok(jpeg)
}

pub async fn pages(
    store: &Store,
    devices: &[DeviceId],
    query: &EventQuery,
) -> Result<Vec<EventPage>> {
    try_join_all(devices.iter().map(|device| page(store, *device, query))).await
}

async fn page(store: &Store, device: DeviceId, query: &EventQuery) -> Result<EventPage> {
    let (mut first, mut last) = (number_at(query.range.start), number_at(query.range.end));
    match (query.after, query.order) {
        (Some((at, _)), TimeOrder::OldestFirst) => first = first.max(number_at(at)),
        (Some((at, _)), TimeOrder::NewestFirst) => last = last.min(number_at(at)),
        (None, _) => {}
    }
    let is_after = |event: &Event| {
        let place = (event.start, event.id);
        query.after.is_none_or(|after| match query.order {
            TimeOrder::OldestFirst => place > after,
            TimeOrder::NewestFirst => place < after,
        })
    };
    let mut windows = Windows::new(store, keys::events_between(device, first, last, query.order));
    let mut page = EventPage::default();
    let mut looked_at = 0;
    while let Some(mut events) = windows.next(query.limit.saturating_add(READ_AHEAD)).await? {
        events.sort_unstable_by_key(|event| (event.start, event.id));
        if query.order == TimeOrder::NewestFirst {
            events.reverse();
        }
        for event in events {
            if !query.range.contains(event.start) || !is_after(&event) {
                continue;
            }
            looked_at += 1;
            let place = (event.start, event.id);
            if query.types.contains(event.event_type) && event.severity >= query.min_severity {
                page.events.push(event);
            }
            if page.events.len() >= query.limit || looked_at >= MAX_LOOKED_AT {
                page.next = Some(place);
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// A device's events window by window: in one, they are sorted by their identifiers, not by time.
struct Windows<'a> {
    store: &'a Store,
    places: Places,
    start: Option<Item>,
    is_at_end: bool,
    read: Vec<Item>,
}

impl<'a> Windows<'a> {
    fn new(store: &'a Store, places: Places) -> Self {
        let is_at_end = places.first > places.last;
        Self { store, places, start: None, is_at_end, read: Vec::new() }
    }

    /// The events of one window or several, whole; reads pages of `limit`.
    async fn next(&mut self, limit: usize) -> Result<Option<Vec<Event>>> {
        let whole = loop {
            if self.is_at_end {
                break self.read.len();
            }
            // The window of the last one that was read may go on.
            let newest = self.read.last().and_then(window_of);
            let whole = self.read.iter().take_while(|item| window_of(item) != newest).count();
            if whole > 0 {
                break whole;
            }
            let (items, start) = self.store.page(&self.places, limit, self.start.take()).await?;
            self.read.extend(items);
            self.is_at_end = start.is_none();
            self.start = start;
        };
        if whole == 0 {
            return Ok(None);
        }
        self.read.drain(..whole).map(|item| record(&item)).collect::<Result<_>>().map(Some)
    }
}

/// The window of an event, as its key says it.
fn window_of(item: &Item) -> Option<&str> {
    item.get(SORT)?.as_s().ok()?.get(..8)
}

pub async fn counts(store: &Store, device: DeviceId, bounds: &[Timestamp]) -> Result<Vec<u64>> {
    let mut counts = vec![0; bounds.len().saturating_sub(1)];
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return Ok(counts) };
    let (first, last) = (number_at(*first), number_at(*last));
    let places = keys::events_between(device, first, last, TimeOrder::OldestFirst);
    for event in store.list_records::<Event>(&places, usize::MAX).await? {
        let bucket = bounds.partition_point(|bound| *bound <= event.start);
        if let Some(count) = bucket.checked_sub(1).and_then(|bucket| counts.get_mut(bucket)) {
            *count += 1;
        }
    }
    Ok(counts)
}

pub async fn mark_seen(store: &Store, by: Watcher, events: &[EventId], seen: bool) -> Result<()> {
    let known = events_by_id(store, events).await?;
    let marks = events.iter().zip(known).map(|(id, known)| async move {
        let key = keys::seen(*id, by);
        match (seen, known) {
            (true, Some(_)) => store.put(&key, &()).await,
            (true, None) => Ok(()),
            (false, _) => store.delete(&key).await,
        }
    });
    try_join_all(marks).await.map(|_| ())
}

pub async fn seen(store: &Store, by: Watcher, events: &[EventId]) -> Result<Vec<bool>> {
    let keys: Vec<_> = events.iter().map(|id| keys::seen(*id, by)).collect();
    Ok(store.items(&keys).await?.iter().map(Option::is_some).collect())
}

pub async fn expire(
    store: &Store,
    device: DeviceId,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    // As with segments: an event begins at most two minutes after it is reported.
    let range = TimeRange { start: TimeRange::ALL.start, end: before.plus_millis(WINDOW_MS) };
    delete(store, device, range, before, spare, limit).await
}

pub async fn delete(
    store: &Store,
    device: DeviceId,
    range: TimeRange,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    let (first, last) = (number_at(range.start), number_at(range.end));
    let places = keys::events_between(device, first, last, TimeOrder::OldestFirst);
    let mut start = None;
    let mut gone = 0;
    loop {
        let (items, next) = store.page(&places, limit.saturating_add(READ_AHEAD), start).await?;
        for item in items {
            let event: Event = record(&item)?;
            let is_spared = spare.iter().any(|span| span.contains(event.start));
            if !range.contains(event.start) || event.ingested_at >= before || is_spared {
                continue;
            }
            if gone >= limit {
                return Ok(gone);
            }
            remove(store, event.id).await?;
            gone += 1;
        }
        start = next;
        if start.is_none() || gone >= limit {
            return Ok(gone);
        }
    }
}

/// The event last: while it is there, what is left of it is found again.
async fn remove(store: &Store, id: EventId) -> Result<()> {
    let table = &store.tables.core;
    for mark in store.list(&Places::all(keys::watchers_of(id)), usize::MAX).await? {
        let key =
            mark.into_iter().filter(|(name, _)| name == SORT || name == super::tables::PARTITION);
        let _request = store.request().await?;
        let request = store.client.delete_item().table_name(table).set_key(Some(key.collect()));
        request.send().await.map_err(|error| fault("DeleteItem", table, &error))?;
    }
    store.delete(&keys::event_picture(id)).await?;
    store.delete(&keys::event(id)).await
}

/// Devices on the list that have events.
pub async fn devices(store: &Store) -> Result<Vec<DeviceId>> {
    let listed: Vec<DeviceId> = listed::all(store, keys::eventful_devices).await?;
    let looks = listed.into_iter().map(|device| async move {
        let found = store.list(&Places::all(keys::events_of(device)), 1).await?;
        Ok::<_, StorageError>((!found.is_empty()).then_some(device))
    });
    Ok(try_join_all(looks).await?.into_iter().flatten().collect())
}
