//! What the catalog does when DynamoDB throttles, fails, answers in part or not at all.

use super::front::{Fault, Front};
use super::test_server::{self, TestServer};
use crate::event::{EventSeverity, EventTypes, Watcher};
use crate::id::{DeviceId, StreamId, UserId};
use crate::segment::{NewSegment, RecordingTrigger, TimeRange, WINDOW_MS};
use crate::storage::contract::events::new_event;
use crate::storage::contract::{new_user, registration};
use crate::storage::{
    Announced, Catalog, CreateError, DeviceQuery, EventQuery, SegmentQuery, StorageError, TimeOrder,
};
use lookback_wire::Timestamp;
use std::collections::HashMap;

const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

fn segment(id: &str, start_ms: i64) -> NewSegment {
    let start =
        Timestamp::from_millis(NOW.as_millis().div_euclid(WINDOW_MS) * WINDOW_MS + start_ms);
    NewSegment {
        client_segment_id: id.into(),
        range: TimeRange { start, end: start.plus_millis(20_000) },
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: None,
    }
}

fn stored(answers: &[Announced]) -> Vec<bool> {
    answers.iter().map(|answer| matches!(answer, Announced::Stored { .. })).collect()
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StorageError>, cause: &str) {
    let Err(StorageError::Unavailable(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains(cause), "{text:?} does not say {cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_leave_nothing_half_written() {
    let server = TestServer::start().await;
    let front = Front::start(&server).await;
    let catalog = server.catalog_through(&front.url).await;
    let operations = [
        "GetItem",
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "Query",
        "BatchGetItem",
        "TransactWriteItems",
    ];

    // What passes by itself is not seen by the caller.
    for fault in [Fault::Throttled, Fault::ServerError, Fault::NoAnswer] {
        let always = || front.plan(operations.map(|operation| (operation, (1, fault))));
        always();
        let account = catalog.ensure_account(&format!("{fault:?}"), NOW).await.unwrap().id;
        always();
        let user = new_user(account, "ann");
        catalog.create_user(user.clone()).await.unwrap();
        let taken = catalog.create_user(new_user(account, "ann")).await;
        assert!(matches!(taken, Err(CreateError::Taken { .. })), "{fault:?}: {taken:?}");
        always();
        let made = catalog.register_device(registration(account, "SN", "Door"), NOW).await.unwrap();
        let stream = made.streams[0].id;
        assert_eq!(
            catalog.streams_by_id(&[stream]).await.unwrap(),
            [made.streams.first().cloned()]
        );
        always();
        catalog.announce(stream, &[segment("a", 0), segment("b", WINDOW_MS)], NOW).await.unwrap();
        assert!(front.count("UpdateItem") >= 3, "one of the two was tried again");
        let again =
            catalog.announce(stream, &[segment("a", 0), segment("b", WINDOW_MS)], NOW).await;
        assert_eq!(stored(&again.unwrap()), [false, false]);
        always();
        let before = NOW.plus_millis(1);
        let gone = catalog.expire_segments(stream, before, &[], 9).await.unwrap();
        let left = catalog.expire_segments(stream, before, &[], 9).await.unwrap();
        // Where an answer is lost, what went is not counted; it went all the same.
        assert!((gone + left == 2) || fault == Fault::NoAnswer, "{fault:?}: {gone}, {left}");
        assert_eq!(catalog.newest_announced(&[stream]).await.unwrap(), [None]);
    }

    // What does not pass is told, with nothing of it there.
    front.plan([]);
    let account = catalog.ensure_account("an account", NOW).await.unwrap().id;
    let throttled = "ProvisionedThroughputExceededException";
    front.plan([("TransactWriteItems", (u32::MAX, Fault::Throttled))]);
    let user = new_user(account, "ann");
    let refused = catalog.create_user(user.clone()).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.to_string().contains(throttled)),
        "{refused:?}"
    );
    let asked = registration(account, "SN", "Door");
    let refused = catalog.register_device(asked.clone(), NOW).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.to_string().contains(throttled)),
        "{refused:?}"
    );
    front.plan([]);
    assert_eq!(catalog.user(user.id).await.unwrap(), None);
    assert_eq!(catalog.user_by_name(account, "ann").await.unwrap(), None);
    assert_eq!(catalog.device_by_external_id(account, "SN").await.unwrap(), None);
    assert_eq!(catalog.streams_by_id(&[asked.streams[0].id]).await.unwrap(), [None]);
    catalog.create_user(user).await.unwrap();

    front.plan([("Query", (u32::MAX, Fault::ServerError))]);
    let stream = StreamId::new(NOW);
    unavailable(catalog.announce(stream, &[segment("a", 0)], NOW).await, "InternalServerError");

    // Windows are stored one after the other; the same call again stores the rest.
    let batch = [segment("a", 0), segment("b", WINDOW_MS), segment("c", 2 * WINDOW_MS)];
    front.plan([("UpdateItem", (u32::MAX, Fault::Throttled))]);
    unavailable(catalog.announce(stream, &batch, NOW).await, throttled);
    front.plan([]);
    assert_eq!(stored(&catalog.announce(stream, &batch[..1], NOW).await.unwrap()), [true]);
    assert_eq!(stored(&catalog.announce(stream, &batch, NOW).await.unwrap()), [false, true, true]);

    // What a batch leaves out is asked for again, for as long as there is hope.
    let mut devices = Vec::new();
    for number in 0..3 {
        let asked = registration(account, &format!("SN-{number}"), "Door");
        devices.push(catalog.register_device(asked, NOW).await.unwrap().device.id);
    }
    devices.push(DeviceId::new(NOW));
    front.plan([("BatchGetItem", (2, Fault::Only(1)))]);
    let found = catalog.devices_by_id(&devices).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(front.count("BatchGetItem"), 3);
    front.plan([("BatchGetItem", (u32::MAX, Fault::Only(0)))]);
    unavailable(catalog.devices_by_id(&devices).await, "left 4 of 4 items out");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_few_requests() {
    let server = TestServer::start().await;
    let front = Front::start(&server).await;
    let catalog = server.catalog_through(&front.url).await;
    let counts = |expected: &[(&str, u32)]| {
        let seen = front.requests.lock().seen.clone();
        let expected: HashMap<_, _> =
            expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(seen, expected);
    };
    let stream = StreamId::new(NOW);
    let batch: Vec<_> = (0..15).map(|n| segment(&format!("s{n}"), n * 20_000)).collect();
    front.plan([]);
    catalog.announce(stream, &batch, NOW).await.unwrap();
    counts(&[("Query", 1), ("PutItem", 1), ("UpdateItem", 1)]);
    let next: Vec<_> = (15..30).map(|n| segment(&format!("s{n}"), n * 20_000)).collect();
    front.plan([]);
    catalog.announce(stream, &next, NOW).await.unwrap();
    counts(&[("Query", 1), ("UpdateItem", 1)]);

    let account = catalog.ensure_account("an account", NOW).await.unwrap().id;
    let mut devices = Vec::new();
    for number in 0..5 {
        let asked = registration(account, &format!("SN-{number}"), "Door");
        devices.push(catalog.register_device(asked, NOW).await.unwrap().device.id);
    }
    front.plan([]);
    catalog.devices_by_id(&devices).await.unwrap();
    catalog.streams_of(&devices).await.unwrap();
    counts(&[("BatchGetItem", 3)]);
    front.plan([]);
    catalog.user(UserId::new(NOW)).await.unwrap();
    counts(&[("GetItem", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_devices_is_two_requests_a_device() {
    const DEVICES: usize = 50;
    let server = TestServer::start().await;
    let front = Front::start(&server).await;
    let here = server.catalog_through(&front.url).await;
    let account = here.ensure_account("an account", NOW).await.unwrap().id;
    for number in 0..DEVICES {
        let asked = registration(account, &format!("SN-{number}"), "Door");
        let made = here.register_device(asked, NOW).await.unwrap();
        let events: Vec<_> = (0..3).map(|n| new_event(&n.to_string(), n * 1_000)).collect();
        here.report_events(made.device.id, &events, NOW).await.unwrap();
        here.announce(made.streams[0].id, &[segment("a", 0)], NOW).await.unwrap();
    }
    // What a server that has just begun asks for devices with their last clip and events, which were
    // seen or not; pictures are addresses.
    let catalog = test_server::catalog(&front.url, here.store.tables.clone());
    front.plan([]);
    let query = DeviceQuery { limit: DEVICES, ..DeviceQuery::default() };
    let devices = catalog.devices(account, &query).await.unwrap();
    let devices: Vec<_> = devices.iter().map(|device| device.id).collect();
    let streams = catalog.streams_of(&devices).await.unwrap();
    let (day_ms, order) = (24 * 3_600_000, TimeOrder::OldestFirst);
    let range = TimeRange { start: NOW.plus_millis(-day_ms), end: NOW.plus_millis(day_ms) };
    for stream in streams.iter().flat_map(|streams| streams.first()) {
        let query = SegmentQuery { range, order, after: None, limit: 20_000 };
        assert_eq!(catalog.segments(stream.id, &query).await.unwrap().len(), 1);
    }
    let query = EventQuery {
        range: TimeRange::ALL,
        types: EventTypes::ALL,
        min_severity: EventSeverity::Info,
        order: TimeOrder::NewestFirst,
        after: None,
        limit: 3,
    };
    let events = catalog.events_of(&devices, &query).await.unwrap();
    let events: Vec<_> = events.iter().flat_map(|page| &page.events).map(|one| one.id).collect();
    assert_eq!(events.len(), 3 * DEVICES);
    catalog.seen(Watcher([1; 16]), &events).await.unwrap();
    let seen = front.requests.lock().seen.clone();
    // Two for each device, and besides one for their order and five for records.
    let expected = [("Query", 1 + 2 * DEVICES as u32), ("BatchGetItem", 5)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(seen, HashMap::from(expected));
}
