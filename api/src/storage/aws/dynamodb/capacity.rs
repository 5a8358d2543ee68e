//! What the catalog consumes, as the server tells it, held to what `design/dynamodb.md` says, and what
//! that comes to in money.

use super::front::Front;
use super::store::Item;
use super::test_server::{TestServer, catalog};
use super::{DynamoCatalog, keys};
use crate::device::Device;
use crate::event::{EventSeverity, EventType, NewEvent};
use crate::id::{AccountId, DeviceId, StreamId};
use crate::segment::{NewSegment, RecordingTrigger, TimeRange, count_to_window_end};
use crate::storage::contract::registration;
use crate::storage::{Announced, Catalog, SegmentQuery, TimeOrder};
use aws_sdk_dynamodb::types::AttributeValue;
use lookback_wire::Timestamp;
use std::path::Path;

/// The beginning of a UTC day.
const MIDNIGHT: Timestamp = Timestamp::from_millis(1_763_769_600_000);
const DAY_MS: i64 = 86_400_000;
const SEGMENT_MS: i64 = 20_000;
const SEGMENTS_A_DAY: usize = (DAY_MS / SEGMENT_MS) as usize;
/// Of a camera that notices something now and then.
const EVENTS_A_DAY: usize = 30;

/// What DynamoDB counts: names and values; a number has a byte for two digits, and one more.
pub fn size(item: &Item) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        other => panic!("{other:?} is in no item of ours"),
    };
    item.iter().map(|(name, one)| name.len() + value(one)).sum()
}

/// Capacity units.
#[derive(Clone, Copy, Debug, Default)]
struct Units {
    read: f64,
    write: f64,
}

/// What was consumed since it was last asked.
fn taken(front: &Front) -> Units {
    let mut units = Units::default();
    for (operation, consumed) in std::mem::take(&mut *front.requests.lock()).units {
        match operation.as_str() {
            "Query" | "GetItem" | "BatchGetItem" => units.read += consumed,
            _ => units.write += consumed,
        }
    }
    units
}

/// A segment as cameras announce them, with a UUID or a short identifier.
fn segment(place: usize, offset_ms: i64, is_uuid: bool) -> NewSegment {
    let start = MIDNIGHT.plus_millis(offset_ms + place as i64 * SEGMENT_MS);
    let client_segment_id = if is_uuid {
        format!("0193f6a2-7b1c-7d3e-8f40-{place:012x}")
    } else {
        start.as_millis().to_string()
    };
    NewSegment {
        client_segment_id,
        range: TimeRange { start, end: start.plus_millis(SEGMENT_MS) },
        trigger: RecordingTrigger::Continuous,
        codecs: Some("avc1.4d4032,mp4a.40.2".into()),
        width: Some(1920),
        height: Some(1080),
        size_bytes: Some(2_500_000),
    }
}

/// A day of a camera whose segments begin some seconds past the beginning of windows, and which
/// batches them as it is advised; what it consumed, and how many batches it sent.
async fn announce_a_day(
    catalog: &DynamoCatalog,
    front: &Front,
    stream: StreamId,
    is_uuid: bool,
) -> (Units, usize) {
    let all: Vec<_> = (0..SEGMENTS_A_DAY).map(|place| segment(place, 7_000, is_uuid)).collect();
    taken(front);
    let mut rest = &all[..];
    let mut count = 15;
    let mut batches = 0;
    while !rest.is_empty() {
        let sent;
        (sent, rest) = rest.split_at(rest.len().min(count));
        let newest = sent[sent.len() - 1].range;
        count = count_to_window_end(newest) as usize;
        let now = newest.end.plus_millis(700);
        let answers = catalog.announce(stream, sent, now).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Announced::Stored { .. })));
        batches += 1;
    }
    (taken(front), batches)
}

/// What a camera's day consumes.
struct Measured {
    announcing: Units,
    /// Every write of when it was last heard of, and of how much arrived.
    noting: Units,
    /// Those of [`EVENTS_A_DAY`].
    events: Units,
    expiring: Units,
    /// One look at a day's clips by a server that does not know the camera.
    clips: Units,
    /// Of the day's windows, with what DynamoDB adds to each.
    stored_bytes: usize,
}

async fn measure(server: &TestServer, front: &Front, is_uuid: bool) -> Measured {
    let catalog_here = server.catalog_through(&front.url).await;
    let (stream, device) = (StreamId::new(MIDNIGHT), DeviceId::new(MIDNIGHT));

    let together: Vec<_> = (0..15).map(|place| segment(place, -DAY_MS, is_uuid)).collect();
    taken(front);
    catalog_here.announce(StreamId::new(MIDNIGHT), &together, MIDNIGHT).await.unwrap();
    let first = taken(front);
    assert!(first.write <= 2.0, "15 segments of a new stream: {first:?}");
    let apart: Vec<_> = (0..15).map(|place| segment(place, -DAY_MS + 7_000, is_uuid)).collect();
    let other = StreamId::new(MIDNIGHT);
    catalog_here.announce(other, &apart[..1], MIDNIGHT).await.unwrap();
    taken(front);
    catalog_here.announce(other, &apart, MIDNIGHT).await.unwrap();
    let across = taken(front);
    assert!(across.write <= 2.0, "15 segments across two windows: {across:?}");

    let (announcing, batches) = announce_a_day(&catalog_here, front, stream, is_uuid).await;
    assert!(batches <= 290, "{batches} batches");
    assert!(announcing.write <= 290.0, "a day of announcements: {announcing:?}");

    let elsewhere = catalog(&front.url, catalog_here.store.tables.clone());
    let day = TimeRange { start: MIDNIGHT, end: MIDNIGHT.plus_millis(DAY_MS) };
    let query =
        SegmentQuery { range: day, order: TimeOrder::OldestFirst, after: None, limit: 20_000 };
    assert_eq!(elsewhere.segments(stream, &query).await.unwrap().len(), SEGMENTS_A_DAY);
    let clips = taken(front);
    assert!(clips.read <= 25.0, "a day of clips: {clips:?}");

    let account = AccountId::new(MIDNIGHT);
    let record = Device { id: device, ..registration(account, "0193f6a2-7b1c", "Door").device };
    catalog_here.store.put(&keys::device(device), &record).await.unwrap();
    taken(front);
    for minute in 0..24 * 60 {
        let at = MIDNIGHT.plus_millis(minute * 60_000);
        catalog_here.note_seen(device, at, Some(120)).await.unwrap();
        catalog_here.note_arrived(stream, at, 7_500_000).await.unwrap();
    }
    let noting = taken(front);

    // In one call: webhooks are looked up once a call, and again after some seconds.
    let reports = (0..EVENTS_A_DAY).map(|number| {
        let start = MIDNIGHT.plus_millis(number as i64 * DAY_MS / EVENTS_A_DAY as i64);
        NewEvent {
            client_event_id: format!("0193f6a2-7b1c-7d3e-8f40-{number:012x}"),
            event_type: EventType::Person,
            label: Some("front door".into()),
            severity: EventSeverity::Notice,
            confidence: Some(0.9),
            start,
            end: Some(start.plus_millis(12_000)),
            attributes: None,
            picture: None,
        }
    });
    let reports: Vec<_> = reports.collect();
    let now = MIDNIGHT.plus_millis(DAY_MS);
    catalog_here.report_events(device, &reports, now).await.unwrap();
    let events = taken(front);

    let mut stored_bytes = 0;
    let mut start = None;
    loop {
        let page = catalog_here
            .store
            .client
            .query()
            .table_name(&catalog_here.store.tables.timeline)
            .key_condition_expression("p = :p AND w > :w")
            .expression_attribute_values(":p", super::window::partition(stream))
            .expression_attribute_values(":w", AttributeValue::N("0".into()))
            .set_exclusive_start_key(start)
            .send()
            .await
            .unwrap();
        stored_bytes += page.items().iter().map(|item| size(item) + 100).sum::<usize>();
        start = page.last_evaluated_key;
        if start.is_none() {
            break;
        }
    }
    taken(front);

    let after = MIDNIGHT.plus_millis(9 * DAY_MS);
    let gone = catalog_here.expire_segments(stream, after, &[], usize::MAX).await.unwrap();
    assert_eq!(gone, SEGMENTS_A_DAY);
    let expiring = taken(front);
    Measured { announcing, noting, events, expiring, clips, stored_bytes }
}

/// Dollars, on demand in us-east-1 since November 2024.
const PER_WRITE: f64 = 0.625e-6;
const PER_READ: f64 = 0.125e-6;
const PER_GB_MONTH: f64 = 0.25;
const DAYS_A_MONTH: f64 = 30.4;
const DAYS_KEPT: f64 = 7.0;

/// A number with a comma after each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The rows of the document's tables.
fn rows(measured: &Measured) -> Vec<String> {
    let Measured { announcing, noting, events, expiring, clips, stored_bytes } = measured;
    let units =
        |what: &str, units: &Units| format!("| {what} | {:.0} | {:.1} |", units.write, units.read);
    let all = [announcing, noting, events, expiring];
    let write: f64 = all.iter().map(|units| units.write).sum();
    let read: f64 = all.iter().map(|units| units.read).sum();
    let mut rows = vec![
        units("announcing 4,320 segments", announcing),
        units("when it was last heard of, what arrived", noting),
        units("30 events, told together", events),
        units("removing the day when it is past keeping", expiring),
        units("**a camera's day**", &Units { read, write }),
        units("one look at a day of clips", clips),
    ];
    let stored_gb = *stored_bytes as f64 * DAYS_KEPT / 1e9;
    let ours = DAYS_A_MONTH * (write * PER_WRITE + read * PER_READ) + stored_gb * PER_GB_MONTH;
    // One item for each segment, of 200 bytes and what DynamoDB adds, and never removed: the first
    // month's storage.
    let seeds_gb = SEGMENTS_A_DAY as f64 * 300.0 * DAYS_A_MONTH / 2.0 / 1e9;
    let seeds = DAYS_A_MONTH * SEGMENTS_A_DAY as f64 * PER_WRITE + seeds_gb * PER_GB_MONTH;
    for (whose, write, monthly) in
        [("the seed", SEGMENTS_A_DAY as f64, seeds), ("this catalog", write, ours)]
    {
        let totals = [1e4, 1e6, 1e7].map(|cameras| format!("${}", grouped(monthly * cameras)));
        rows.push(format!("| {whose} | {} | {} |", grouped(write), totals.join(" | ")));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_s_day_consumes_what_the_design_says() {
    let server = TestServer::start_counting().await;
    let front = Front::start(&server).await;
    measure(&server, &front, false).await;
    let measured = measure(&server, &front, true).await;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("design/dynamodb.md");
    let document = std::fs::read_to_string(document).unwrap();
    let missing: Vec<_> =
        rows(&measured).into_iter().filter(|row| !document.contains(row.as_str())).collect();
    assert!(
        missing.is_empty(),
        "design/dynamodb.md says otherwise; measured:\n{}",
        missing.join("\n")
    );
}
