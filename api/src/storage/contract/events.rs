//! What a catalog promises of events and of the gaps that cameras explain.

use super::{NOW, at, range};
use crate::event::{
    Event, EventId, EventSeverity, EventType, EventTypes, NewEvent, Picture, Watcher,
};
use crate::id::{DeviceId, StreamId};
use crate::keeping::{KnownGap, KnownReason, MAX_KNOWN_GAPS};
use crate::segment::TimeRange;
use crate::storage::{Catalog, EventQuery, Reported, TimeOrder};
use bytes::Bytes;
use lookback_wire::Timestamp;

pub async fn check(catalog: &dyn Catalog) {
    events_are_stored_once_and_refined(catalog).await;
    events_are_paged(catalog).await;
    pages_of_several_devices_meet(catalog).await;
    events_are_counted(catalog).await;
    events_are_seen_by_each_for_itself(catalog).await;
    events_expire(catalog).await;
    events_of_a_span_are_deleted(catalog).await;
    known_gaps_are_kept(catalog).await;
}

pub fn new_event(id: &str, start_ms: i64) -> NewEvent {
    NewEvent {
        client_event_id: id.into(),
        event_type: EventType::Motion,
        label: Some("line_crossing:driveway".into()),
        severity: EventSeverity::Notice,
        start: at(start_ms),
        end: None,
        confidence: Some(0.25),
        attributes: serde_json::json!({"zone": [1, 2.5, null]}).as_object().cloned(),
        picture: None,
    }
}

const ALL: EventQuery = EventQuery {
    range: TimeRange::ALL,
    types: EventTypes::ALL,
    min_severity: EventSeverity::Info,
    order: TimeOrder::OldestFirst,
    after: None,
    limit: 100,
};

async fn report(catalog: &dyn Catalog, device: DeviceId, events: &[NewEvent]) -> Vec<Reported> {
    catalog.report_events(device, events, NOW).await.expect("report_events")
}

/// The client's identifiers of a device's events.
async fn names(catalog: &dyn Catalog, device: DeviceId, query: &EventQuery) -> Vec<String> {
    let page = catalog.events_of(&[device], query).await.expect("events_of").remove(0);
    page.events.into_iter().map(|event| event.client_event_id).collect()
}

async fn events_are_stored_once_and_refined(catalog: &dyn Catalog) {
    let device = DeviceId::new(NOW);
    let first = new_event("a", 0);
    let copies = (0..20).map(|_| report(catalog, device, std::slice::from_ref(&first)));
    let answers = futures_util::future::join_all(copies).await.concat();
    let known = Event::new(device, &first, NOW);
    let stored = answers.iter().filter(|answer| matches!(answer, Reported::Stored(_))).count();
    assert_eq!(stored, 1, "{answers:?}");
    for answer in answers {
        let (Reported::Stored(event) | Reported::Duplicate(event)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(event, known);
    }
    // One answer each, in order; a later report sees what an earlier one of the call wrote.
    let ended = NewEvent { end: Some(at(9_000)), ..first.clone() };
    let picture = Picture { jpeg: Bytes::from_static(b"a JPEG"), width: 2, height: 1 };
    let pictured = NewEvent { picture: Some(picture.clone()), label: None, ..first.clone() };
    let moved = NewEvent { start: at(1), ..first.clone() };
    // NOW is no window's border, and this is in another one.
    let elsewhere = NewEvent { start: at(3_600_000), ..first.clone() };
    let reports = [ended.clone(), first.clone(), pictured, ended.clone(), moved, elsewhere];
    let answers = report(catalog, device, &reports).await;
    let with_end = Event { end: ended.end, ..known.clone() };
    let whole = Event { picture: Some(picture.facts()), ..with_end.clone() };
    let expected = [
        Reported::Updated(with_end.clone()),
        Reported::Duplicate(with_end),
        Reported::Updated(whole.clone()),
        Reported::Duplicate(whole.clone()),
        Reported::Conflict(whole.clone()),
        Reported::Stored(Event::new(device, &reports[5], NOW)),
    ];
    assert_eq!(answers, expected);
    // The same identifier of another device is another event.
    let other = DeviceId::new(NOW);
    assert!(matches!(report(catalog, other, &[first]).await[..], [Reported::Stored(_)]));

    let missing = EventId { key: known.id.key ^ 1, ..known.id };
    let found = catalog.events_by_id(&[missing, known.id]).await.expect("events_by_id");
    assert_eq!(found, [None, Some(whole)]);
    let found = catalog.event_picture(known.id).await.expect("event_picture");
    assert_eq!(found, Some(picture.jpeg));
    assert_eq!(catalog.event_picture(missing).await.expect("event_picture"), None);
}

async fn events_are_paged(catalog: &dyn Catalog) {
    let device = DeviceId::new(NOW);
    let alert = |id, start| NewEvent { severity: EventSeverity::Alert, ..new_event(id, start) };
    let person = |id, start| NewEvent { event_type: EventType::Person, ..new_event(id, start) };
    // Two windows and more, out of order, two that begin alike.
    let events = [
        new_event("c", 20_000),
        alert("a", 0),
        person("b", 10_000),
        person("d", 400_000),
        new_event("e", 900_000),
        alert("E", 900_000),
    ];
    report(catalog, device, &events).await;
    let alike = EventId::of(device, at(900_000), "e") < EventId::of(device, at(900_000), "E");
    let (e, f) = if alike { ("e", "E") } else { ("E", "e") };
    let types = [EventType::Person].into_iter().collect();
    for (query, expected) in [
        (ALL, vec!["a", "b", "c", "d", e, f]),
        (EventQuery { order: TimeOrder::NewestFirst, ..ALL }, vec![f, e, "d", "c", "b", "a"]),
        (EventQuery { range: range(10_000, 400_000), ..ALL }, vec!["b", "c"]),
        (EventQuery { range: range(9_999, 10_000), ..ALL }, vec![]),
        (EventQuery { types, ..ALL }, vec!["b", "d"]),
        (EventQuery { min_severity: EventSeverity::Alert, types, ..ALL }, vec![]),
    ] {
        assert_eq!(names(catalog, device, &query).await, expected, "{query:?}");
        // Page by page they are the same, once each.
        for limit in [1, 2] {
            let mut query = EventQuery { limit, ..query };
            let mut paged = Vec::new();
            loop {
                let page = catalog.events_of(&[device], &query).await.expect("events_of").remove(0);
                assert!(page.events.len() <= limit);
                paged.extend(page.events.into_iter().map(|event| event.client_event_id));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            assert_eq!(paged, expected, "{query:?}");
        }
    }
    assert_eq!(names(catalog, DeviceId::new(NOW), &ALL).await, [""; 0]);
}

async fn pages_of_several_devices_meet(catalog: &dyn Catalog) {
    let mut devices = [DeviceId::new(NOW), DeviceId::new(NOW), DeviceId::new(NOW)];
    devices.sort();
    for device in devices {
        report(catalog, device, &[new_event("x", 0), new_event("y", 1_000)]).await;
    }
    // After the middle one's event, only the devices on one side of it have one that begins alike.
    let after = Some((at(0), EventId::of(devices[1], at(0), "x")));
    for (order, expected) in [
        (TimeOrder::OldestFirst, [vec!["y"], vec!["y"], vec!["x", "y"]]),
        (TimeOrder::NewestFirst, [vec!["x"], vec![], vec![]]),
    ] {
        let query = EventQuery { order, after, ..ALL };
        let pages = catalog.events_of(&devices, &query).await.expect("events_of");
        let pages: Vec<Vec<_>> = pages
            .iter()
            .map(|page| page.events.iter().map(|event| event.client_event_id.as_str()).collect())
            .collect();
        assert_eq!(pages, expected, "{order:?}");
    }
}

async fn events_are_counted(catalog: &dyn Catalog) {
    let device = DeviceId::new(NOW);
    let starts = [0, 999, 1_000, 5_000, 3_600_000];
    let events = starts.map(|start| new_event(&start.to_string(), start));
    report(catalog, device, &events).await;
    for (bounds, expected) in [
        (&[0, 1_000, 2_000, 6_000][..], &[2, 1, 1][..]),
        (&[1, 999, 3_600_000, 3_600_001], &[0, 3, 1]),
        (&[0], &[]),
        (&[], &[]),
    ] {
        let instants: Vec<Timestamp> = bounds.iter().map(|&ms| at(ms)).collect();
        let counts = catalog.event_counts(device, &instants).await.expect("event_counts");
        assert_eq!(counts, expected, "{bounds:?}");
    }
}

async fn events_are_seen_by_each_for_itself(catalog: &dyn Catalog) {
    let device = DeviceId::new(NOW);
    let [a, b] = ["a", "b"].map(|name| EventId::of(device, at(0), name));
    report(catalog, device, &[new_event("a", 0), new_event("b", 0)]).await;
    let (ann, bob) = (Watcher([1; 16]), Watcher([2; 16]));
    let nothing = EventId { device: DeviceId::new(NOW), ..a };
    let mark = async |by, ids: &[EventId], seen| {
        catalog.mark_seen(by, ids, seen).await.expect("mark_seen");
    };
    let seen = async |by| catalog.seen(by, &[b, nothing, a]).await.expect("seen");
    mark(ann, &[a, nothing], true).await;
    mark(ann, &[a], true).await;
    mark(bob, &[a, b], true).await;
    mark(bob, &[a], false).await;
    assert_eq!(seen(ann).await, [false, false, true]);
    assert_eq!(seen(bob).await, [true, false, false]);
}

async fn events_expire(catalog: &dyn Catalog) {
    let device = DeviceId::new(NOW);
    for (arrived, name) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        let event = new_event(name, 10_000 - arrived * 1_000);
        catalog.report_events(device, &[event], at(arrived)).await.expect("report_events");
    }
    // What is told of an event later does not make it younger.
    let picture = Picture { jpeg: Bytes::from_static(b"a JPEG"), width: 2, height: 1 };
    let again = NewEvent { picture: Some(picture), ..new_event("a", 10_000) };
    catalog.report_events(device, &[again], at(9)).await.expect("report_events");
    let a = EventId::of(device, at(10_000), "a");
    catalog.mark_seen(Watcher([1; 16]), &[a], true).await.expect("mark_seen");
    let expire = async |before, spare: &[TimeRange], limit| {
        catalog.expire_events(device, at(before), spare, limit).await.expect("expire_events")
    };
    assert!(catalog.eventful_devices().await.expect("eventful_devices").contains(&device));
    assert_eq!(expire(0, &[], 10).await, 0);
    assert_eq!(expire(3, &[range(9_000, 9_001)], 1).await, 1);
    assert_eq!(expire(3, &[range(9_000, 9_001)], 10).await, 1);
    assert_eq!(names(catalog, device, &ALL).await, ["d", "b"]);
    assert_eq!(catalog.event_picture(a).await.expect("event_picture"), None);
    assert_eq!(catalog.seen(Watcher([1; 16]), &[a]).await.expect("seen"), [false]);
    assert_eq!(catalog.events_by_id(&[a]).await.expect("events_by_id"), [None]);
    assert_eq!(expire(4, &[], 10).await, 2);
    assert!(!catalog.eventful_devices().await.expect("eventful_devices").contains(&device));
}

async fn events_of_a_span_are_deleted(catalog: &dyn Catalog) {
    let (device, other) = (DeviceId::new(NOW), DeviceId::new(NOW));
    // One lasts into the span, and the last begins in another five minutes.
    let lasts = NewEvent { end: Some(at(5_000)), ..new_event("before", -1) };
    let picture = Picture { jpeg: Bytes::from_static(b"a JPEG"), width: 2, height: 1 };
    let pictured = NewEvent { picture: Some(picture), ..new_event("first", 0) };
    let events = [
        lasts,
        pictured,
        new_event("held", 4_000),
        new_event("last", 599_999),
        new_event("after", 600_000),
    ];
    report(catalog, device, &events).await;
    report(catalog, other, &events).await;
    catalog.report_events(device, &[new_event("newer", 1_000)], at(9)).await.expect("report");
    let first = EventId::of(device, at(0), "first");
    catalog.mark_seen(Watcher([1; 16]), &[first], true).await.expect("mark_seen");
    let delete = async |span, spare: &[TimeRange], limit| {
        catalog.delete_events(device, span, at(9), spare, limit).await.expect("delete_events")
    };
    let span = range(0, 600_000);
    assert_eq!(delete(range(600_001, 700_000), &[], 10).await, 0);
    assert_eq!(delete(span, &[range(4_000, 4_001)], 1).await, 1);
    assert_eq!(delete(span, &[range(4_000, 4_001)], 10).await, 1);
    assert_eq!(names(catalog, device, &ALL).await, ["before", "newer", "held", "after"]);
    assert_eq!(catalog.event_picture(first).await.expect("event_picture"), None);
    assert_eq!(catalog.seen(Watcher([1; 16]), &[first]).await.expect("seen"), [false]);
    assert_eq!(names(catalog, other, &ALL).await.len(), 5);
    assert_eq!(delete(TimeRange::ALL, &[], 10).await, 3);
    assert_eq!(names(catalog, device, &ALL).await, ["newer"]);
    // What is reported once more is an event of its own.
    let again = report(catalog, device, &[new_event("first", 0)]).await;
    assert!(matches!(again[..], [Reported::Stored(_)]), "{again:?}");
}

async fn known_gaps_are_kept(catalog: &dyn Catalog) {
    let (stream, other) = (StreamId::new(NOW), StreamId::new(NOW));
    let gap = |from, to| KnownGap { range: range(from, to), reason: KnownReason::DeviceOffline };
    let put = async |gaps: &[KnownGap]| {
        catalog.put_known_gaps(stream, gaps).await.expect("put_known_gaps");
    };
    let found =
        async |from, to| catalog.known_gaps(stream, range(from, to)).await.expect("known_gaps");
    let asleep = KnownGap { reason: KnownReason::NotScheduled, ..gap(0, 10) };
    put(&[gap(20, 30), gap(0, 5)]).await;
    put(&[asleep]).await;
    assert_eq!(found(-100, 100).await, [asleep, gap(20, 30)]);
    assert_eq!(found(9, 20).await, [asleep]);
    assert_eq!(found(10, 20).await, []);
    assert_eq!(catalog.known_gaps(other, range(0, 100)).await.expect("known_gaps"), []);
    catalog.forget_known_gaps(stream, at(10)).await.expect("forget_known_gaps");
    assert_eq!(found(-100, 100).await.len(), 2);
    catalog.forget_known_gaps(stream, at(11)).await.expect("forget_known_gaps");
    assert_eq!(found(-100, 100).await, [gap(20, 30)]);
    let many: Vec<_> = (100..).take(MAX_KNOWN_GAPS).map(|from| gap(from, from + 1)).collect();
    put(&many).await;
    assert_eq!(found(0, 100_000).await, many);
}
