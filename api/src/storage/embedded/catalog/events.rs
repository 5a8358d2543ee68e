//! Events: what devices reported, the pictures that came along, and who saw them.

use super::tables::{NOTHING, Tables, decode, get, key, put};
use super::users::first_keys;
use super::{devices, webhooks};
use crate::event::{Event, EventId, NewEvent, Watcher};
use crate::id::{DeviceId, Ulid};
use crate::segment::TimeRange;
use crate::storage::embedded::lmdb::{first_from, time_from_key, time_key};
use crate::storage::{EventPage, EventQuery, Reported, Result, StorageError, TimeOrder};
use crate::webhook::{Delivery, DeliveryIds, Webhook};
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use std::ops::Bound;

/// Events that one page looks at: some days of a busy camera.
const MAX_LOOKED_AT: usize = 2_000;
/// Marks of one event that are taken out with it.
const MAX_WATCHERS: usize = 100_000;

pub fn event_key(id: EventId) -> Vec<u8> {
    key(&[&id.device.0.to_be_bytes(), &id.window.to_be_bytes(), &id.key.to_be_bytes()])
}

/// In tables that sort a device's events by an instant.
pub fn event_at_key(at: Timestamp, id: EventId) -> Vec<u8> {
    let (window, key_of_id) = (id.window.to_be_bytes(), id.key.to_be_bytes());
    key(&[&id.device.0.to_be_bytes(), &time_key(at.as_millis()), &window, &key_of_id])
}

/// The identifier that a key of 28 bytes says.
pub fn id_of(event_key: &[u8]) -> Option<EventId> {
    let (device, rest) = event_key.split_first_chunk::<16>()?;
    let (window, rest) = rest.split_first_chunk::<4>()?;
    Some(EventId {
        device: DeviceId(Ulid::from_be_bytes(*device)),
        window: u32::from_be_bytes(*window),
        key: u64::from_be_bytes(rest.try_into().ok()?),
    })
}

/// The instant and identifier of a key that [`event_at_key`] made.
fn decode_at_key(at_key: &[u8]) -> Result<(Timestamp, EventId)> {
    let decode = || {
        let (device, rest) = at_key.split_first_chunk::<16>()?;
        let (at, place) = rest.split_first_chunk::<8>()?;
        let id = id_of(&key(&[device, place]))?;
        Some((Timestamp::from_millis(time_from_key(*at)), id))
    };
    decode().ok_or_else(|| StorageError::Damaged("an event's instant cannot be read".into()))
}

pub fn event(tables: &Tables, txn: &RoTxn, id: EventId) -> Result<Option<Event>> {
    get(txn, tables.events, &event_key(id))
}

pub fn picture(tables: &Tables, txn: &RoTxn, id: EventId) -> Result<Option<Vec<u8>>> {
    Ok(tables.event_pictures.get(txn, &event_key(id))?.map(<[u8]>::to_vec))
}

pub fn report(
    tables: &Tables,
    txn: &mut RwTxn,
    device: DeviceId,
    reports: &[NewEvent],
    now: Timestamp,
) -> Result<Vec<Reported>> {
    let webhooks = match devices::device(tables, txn, device)? {
        Some(device) => webhooks::of_account(tables, txn, device.account)?,
        None => Vec::new(),
    };
    let ids = DeliveryIds::new(now);
    let mut reported = Vec::with_capacity(reports.len());
    for (place, report) in reports.iter().enumerate() {
        let told = report_one(tables, txn, device, report, now)?;
        if let Some((event, notice)) = told.notice() {
            let delivery = Delivery::new(ids.nth(place), event.id, notice, now);
            for Webhook { id, .. } in webhooks.iter().filter(|webhook| webhook.wants(event)) {
                webhooks::put_delivery(tables, txn, *id, &delivery)?;
            }
        }
        reported.push(told);
    }
    Ok(reported)
}

fn report_one(
    tables: &Tables,
    txn: &mut RwTxn,
    device: DeviceId,
    report: &NewEvent,
    now: Timestamp,
) -> Result<Reported> {
    let id = EventId::of(device, report.start, &report.client_event_id);
    let reported = match event(tables, txn, id)? {
        Some(known) if !known.is_meant_by(report) => return Ok(Reported::Conflict(known)),
        Some(known) => {
            let refined = known.refined_by(report);
            if refined == known {
                return Ok(Reported::Duplicate(known));
            }
            put(txn, tables.events, &event_key(id), &refined)?;
            Reported::Updated(refined)
        }
        None => {
            let event = Event::new(device, report, now);
            put(txn, tables.events, &event_key(id), &event)?;
            tables.event_starts.put(txn, &event_at_key(event.start, id), NOTHING)?;
            tables.event_arrivals.put(txn, &event_at_key(now, id), NOTHING)?;
            Reported::Stored(event)
        }
    };
    if let Some(picture) = &report.picture {
        tables.event_pictures.put(txn, &event_key(id), &picture.jpeg)?;
    }
    Ok(reported)
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    device: DeviceId,
    query: &EventQuery,
) -> Result<EventPage> {
    let prefix = device.0.to_be_bytes();
    let from = key(&[&prefix, &time_key(query.range.start.as_millis())]);
    let to = key(&[&prefix, &time_key(query.range.end.as_millis())]);
    let after = query.after.map(|(start, id)| key(&[&prefix, &event_at_key(start, id)[16..]]));
    // Where the position is another device's, all events of one start lie on the same side of it.
    let after = query.after.zip(after).map(|((start, id), same)| match id.device.cmp(&device) {
        std::cmp::Ordering::Less => key(&[&prefix, &time_key(start.as_millis())]),
        std::cmp::Ordering::Equal => same,
        std::cmp::Ordering::Greater => key(&[&prefix, &time_key(start.as_millis()), &[0xff; 13]]),
    });
    let (mut lower, mut upper) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    match (&after, query.order) {
        (Some(after), TimeOrder::OldestFirst) if *after >= from => lower = Bound::Excluded(after),
        (Some(after), TimeOrder::NewestFirst) if *after < to => upper = Bound::Excluded(after),
        _ => {}
    }
    let (Bound::Included(first) | Bound::Excluded(first), Bound::Excluded(last)) = (lower, upper)
    else {
        return Ok(EventPage::default());
    };
    if first >= last {
        return Ok(EventPage::default());
    }
    let mut page = EventPage::default();
    let mut looked_at = 0;
    let mut take = |entry: heed::Result<(&[u8], &[u8])>| -> Result<bool> {
        let (start, id) = decode_at_key(entry?.0)?;
        looked_at += 1;
        let found = tables.events.get(txn, &event_key(id))?.map(decode::<Event>).transpose()?;
        page.events.extend(found.filter(|event| {
            query.types.contains(event.event_type) && event.severity >= query.min_severity
        }));
        let is_full = page.events.len() >= query.limit || looked_at >= MAX_LOOKED_AT;
        page.next = is_full.then_some((start, id));
        Ok(!is_full)
    };
    match query.order {
        TimeOrder::OldestFirst => {
            for entry in tables.event_starts.range(txn, &(lower, upper))? {
                if !take(entry)? {
                    break;
                }
            }
        }
        TimeOrder::NewestFirst => {
            for entry in tables.event_starts.rev_range(txn, &(lower, upper))? {
                if !take(entry)? {
                    break;
                }
            }
        }
    }
    Ok(page)
}

pub fn counts(
    tables: &Tables,
    txn: &RoTxn,
    device: DeviceId,
    bounds: &[Timestamp],
) -> Result<Vec<u64>> {
    let mut counts = vec![0; bounds.len().saturating_sub(1)];
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return Ok(counts) };
    let prefix = device.0.to_be_bytes();
    let from = key(&[&prefix, &time_key(first.as_millis())]);
    let to = key(&[&prefix, &time_key(last.as_millis())]);
    if from >= to {
        return Ok(counts);
    }
    let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    for entry in tables.event_starts.range(txn, &range)? {
        let (start, _) = decode_at_key(entry?.0)?;
        let bucket = bounds.partition_point(|bound| *bound <= start);
        if let Some(count) = bucket.checked_sub(1).and_then(|bucket| counts.get_mut(bucket)) {
            *count += 1;
        }
    }
    Ok(counts)
}

fn seen_key(by: Watcher, id: EventId) -> Vec<u8> {
    key(&[&event_key(id), &by.0])
}

pub fn mark_seen(
    tables: &Tables,
    txn: &mut RwTxn,
    by: Watcher,
    events: &[EventId],
    seen: bool,
) -> Result<()> {
    for id in events {
        if !seen {
            tables.seen.delete(txn, &seen_key(by, *id))?;
        } else if tables.events.get(txn, &event_key(*id))?.is_some() {
            tables.seen.put(txn, &seen_key(by, *id), NOTHING)?;
        }
    }
    Ok(())
}

pub fn is_seen(tables: &Tables, txn: &RoTxn, by: Watcher, id: EventId) -> Result<bool> {
    Ok(tables.seen.get(txn, &seen_key(by, id))?.is_some())
}

pub fn expire(
    tables: &Tables,
    txn: &mut RwTxn,
    device: DeviceId,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    let mut due = Vec::new();
    for entry in tables.event_arrivals.prefix_iter(txn, &device.0.to_be_bytes())? {
        let (at, id) = decode_at_key(entry?.0)?;
        if due.len() >= limit || at >= before {
            break;
        }
        let found = event(tables, txn, id)?;
        due.extend(found.filter(|event| !spare.iter().any(|span| span.contains(event.start))));
    }
    remove(tables, txn, &due)
}

pub fn delete(
    tables: &Tables,
    txn: &mut RwTxn,
    device: DeviceId,
    range: TimeRange,
    before: Timestamp,
    spare: &[TimeRange],
    limit: usize,
) -> Result<usize> {
    let prefix = device.0.to_be_bytes();
    let from = key(&[&prefix, &time_key(range.start.as_millis())]);
    let to = key(&[&prefix, &time_key(range.end.as_millis())]);
    let mut due = Vec::new();
    if from < to {
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        for entry in tables.event_starts.range(txn, &bounds)? {
            let (start, id) = decode_at_key(entry?.0)?;
            if due.len() >= limit {
                break;
            }
            if !spare.iter().any(|span| span.contains(start)) {
                due.extend(event(tables, txn, id)?.filter(|event| event.ingested_at < before));
            }
        }
    }
    remove(tables, txn, &due)
}

/// Takes events out, with all that hangs on them; answers how many.
fn remove(tables: &Tables, txn: &mut RwTxn, due: &[Event]) -> Result<usize> {
    for Event { id, start, ingested_at, .. } in due {
        let key = event_key(*id);
        for mark in first_keys(txn, tables.seen, &key, MAX_WATCHERS)? {
            tables.seen.delete(txn, &mark)?;
        }
        tables.event_pictures.delete(txn, &key)?;
        tables.event_arrivals.delete(txn, &event_at_key(*ingested_at, *id))?;
        tables.event_starts.delete(txn, &event_at_key(*start, *id))?;
        tables.events.delete(txn, &key)?;
    }
    Ok(due.len())
}

/// From the first event of one device straight to that of the next.
pub fn devices(tables: &Tables, txn: &RoTxn) -> Result<Vec<DeviceId>> {
    let mut found = Vec::new();
    let mut from = vec![0; 16];
    while let Some((key, _)) = first_from(tables.event_arrivals, txn, &[], &from)? {
        let Some(device) = key.first_chunk::<16>() else { break };
        found.push(DeviceId(Ulid::from_be_bytes(*device)));
        from = [&device[..], &[0xff; 21]].concat();
    }
    Ok(found)
}
