//! The rules of announcing, one named case each, on a catalog and by a clock of their own: what is told
//! of each segment of each call, and how many are there in the end.

use super::tests::{device, stream};
use super::*;
use crate::storage::{SegmentQuery, TimeOrder, embedded};
use chrono::DateTime;

/// One call: when it comes, from a device in which state, and what is told of each of its segments.
struct Call {
    now: Timestamp,
    state: DeviceState,
    batch: Vec<(Announcement, &'static str)>,
}

/// An instant, RFC 3339.
fn at(text: &str) -> Timestamp {
    let at = DateTime::parse_from_rfc3339(text).unwrap();
    Timestamp::from_millis(at.timestamp_millis())
}

const NOON: &str = "2026-11-22T12:00:00Z";

/// A segment between two instants, in milliseconds after noon.
fn segment(id: &str, start_ms: i64, end_ms: i64) -> Announcement {
    from_to(id, at(NOON).plus_millis(start_ms), at(NOON).plus_millis(end_ms))
}

fn from_to(id: &str, start: Timestamp, end: Timestamp) -> Announcement {
    Announcement {
        client_segment_id: id.into(),
        stream: None,
        start,
        end,
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: None,
    }
}

/// A call of an active device, an hour after noon.
fn call(batch: Vec<(Announcement, &'static str)>) -> Call {
    Call { now: at(NOON).plus_millis(3_600_000), state: DeviceState::Active, batch }
}

/// The verdict and the warnings, in words.
fn told(outcome: &Outcome) -> String {
    let verdict = match &outcome.verdict {
        Verdict::Stored(_) => "stored".to_owned(),
        Verdict::Duplicate(_) => "duplicate".to_owned(),
        Verdict::Rejected(rejection) => format!("{:?}", rejection.code),
    };
    outcome.warnings.iter().fold(verdict, |told, warning| format!("{told} {warning:?}"))
}

/// Makes the calls one after the other, on a plan of 7 days.
async fn check(rule: &str, calls: Vec<Call>, stored: usize) {
    let dir = tempfile::tempdir().unwrap();
    let storage = embedded::open(dir.path()).unwrap();
    let catalog = storage.catalog.as_ref();
    let mut device = device(DeviceState::Active);
    let streams = [stream(&device, 0, "main"), stream(&device, 1, "sub")];
    for (number, Call { now, state, batch }) in calls.into_iter().enumerate() {
        device.state = state;
        let announcer =
            Announcer { device: &device, streams: &streams, kept_days: 7, has_room: true };
        let (batch, expected): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = announce(catalog, announcer, &batch, 0, now).await;
        let ids = |batch: &[Announcement]| -> Vec<String> {
            batch.iter().map(|one| one.client_segment_id.clone()).collect()
        };
        let answered: Vec<_> = outcomes.iter().map(|one| one.client_segment_id.clone()).collect();
        assert_eq!(answered, ids(&batch), "{rule}: call {number}");
        let found: Vec<_> = outcomes.iter().map(told).collect();
        assert_eq!(found, expected, "{rule}: call {number}");
    }
    let query = SegmentQuery {
        range: TimeRange::ALL,
        order: TimeOrder::OldestFirst,
        after: None,
        limit: 1_000,
    };
    let mut count = 0;
    for stream in &streams {
        count += catalog.segments(stream.id, &query).await.unwrap().len();
    }
    assert_eq!(count, stored, "{rule}");
}

#[tokio::test]
async fn the_same_again_is_known() {
    let one = || segment("a", 0, 20_000);
    let calls = vec![
        call(vec![(one(), "stored")]),
        call(vec![(one(), "duplicate")]),
        call(vec![(segment("b", 20_000, 40_000), "stored"), (one(), "duplicate")]),
    ];
    check("the same segment again", calls, 2).await;
}

#[tokio::test]
async fn an_identifier_stands_for_one_span() {
    let calls = vec![
        call(vec![(segment("a", 0, 20_000), "stored")]),
        call(vec![(segment("a", 0, 20_001), "IdempotencyConflict")]),
        call(vec![(segment("a", 1, 20_000), "IdempotencyConflict")]),
        call(vec![(segment("a", 0, 20_000), "duplicate")]),
    ];
    check("the same identifier with other times", calls, 1).await;
}

#[tokio::test]
async fn a_batch_names_each_segment_once() {
    let of_sub = || Announcement { stream: Some("sub".into()), ..segment("a", 0, 20_000) };
    let batch = vec![
        (segment("a", 0, 20_000), "stored"),
        (segment("a", 0, 20_000), "DuplicateInBatch"),
        (segment("a", 20_000, 40_000), "DuplicateInBatch"),
        (of_sub(), "stored"),
    ];
    check("twice in one batch", vec![call(batch)], 2).await;
}

#[tokio::test]
async fn neighbours_may_overlap_by_half_a_second() {
    for (overlap_ms, expected) in
        [(0, "stored"), (1, "stored"), (500, "stored"), (501, "stored Overlap")]
    {
        let calls = vec![
            call(vec![(segment("a", 0, 20_000), "stored")]),
            call(vec![(segment("b", 20_000 - overlap_ms, 40_000), expected)]),
        ];
        check(&format!("{overlap_ms} ms of overlap"), calls, 2).await;
    }
}

#[tokio::test]
async fn what_comes_late_is_stored_and_noticed() {
    let calls = vec![
        call(vec![(segment("b", 20_000, 40_000), "stored")]),
        call(vec![(segment("a", 0, 20_000), "stored OutOfOrder")]),
        call(vec![(segment("c", 40_000, 60_000), "stored")]),
    ];
    check("before the newest", calls, 3).await;
}

#[tokio::test]
async fn what_the_plan_would_not_keep_is_refused() {
    let week = 7 * DAY_MS;
    for (ended_ago_ms, expected, stored) in
        [(week - 1, "stored", 1), (week, "OutsideRetention", 0), (week + 1, "OutsideRetention", 0)]
    {
        let end = at(NOON).plus_millis(-ended_ago_ms);
        let old = from_to("a", end.plus_millis(-20_000), end);
        let calls = vec![Call { now: at(NOON), ..call(vec![(old, expected)]) }];
        check(&format!("ended {ended_ago_ms} ms ago"), calls, stored).await;
    }
}

#[tokio::test]
async fn a_clock_may_be_two_minutes_ahead() {
    for (ahead_ms, expected, stored) in [(120_000, "stored", 1), (120_001, "ClockAhead", 0)] {
        let early = segment("a", ahead_ms - 20_000, ahead_ms);
        let calls = vec![Call { now: at(NOON), ..call(vec![(early, expected)]) }];
        check(&format!("{ahead_ms} ms ahead"), calls, stored).await;
    }
}

#[tokio::test]
async fn three_bad_ones_take_nothing_from_ninety_seven() {
    let mut batch: Vec<_> = (0..100)
        .map(|n| (segment(&format!("s{n}"), n * 20_000, (n + 1) * 20_000), "stored"))
        .collect();
    batch[3] = (segment("s3", 60_000, 60_000), "InvalidRange");
    batch[50] = (segment("not an identifier", 0, 20_000), "InvalidValue");
    batch[99] = (segment("s98", 1_980_000, 2_000_000), "DuplicateInBatch");
    check("97 of 100", vec![call(batch)], 97).await;
}

#[tokio::test]
async fn one_alone_is_a_batch_of_one() {
    for (one, expected, stored) in [
        (segment("a", 0, 20_000), "stored", 1),
        (segment("a", 20_000, 0), "InvalidRange", 0),
        (segment("a", 0, 300_001), "InvalidRange", 0),
    ] {
        check("one alone", vec![call(vec![(one, expected)])], stored).await;
    }
}

#[tokio::test]
async fn days_hours_and_seconds_of_a_clock_do_not_matter() {
    for (rule, joints) in [
        ("midnight", vec!["2026-11-21T23:59:50Z", "2026-11-22T00:00:10Z", "2026-11-22T00:00:30Z"]),
        // Berlin's clocks show two o'clock twice.
        (
            "clocks go back",
            vec![
                "2026-10-25T02:59:50+02:00",
                "2026-10-25T02:00:10+01:00",
                "2026-10-25T02:00:30+01:00",
            ],
        ),
        (
            "clocks go forward",
            vec![
                "2026-03-29T01:59:50+01:00",
                "2026-03-29T03:00:10+02:00",
                "2026-03-29T03:00:30+02:00",
            ],
        ),
        // What GraphQL reads `:60` as.
        (
            "a leap second",
            vec!["2016-12-31T23:59:40Z", "2016-12-31T23:59:59.999Z", "2017-01-01T00:00:20Z"],
        ),
        (
            "a border of five minutes",
            vec!["2026-11-22T11:59:50Z", "2026-11-22T12:00:00Z", "2026-11-22T12:00:20Z"],
        ),
    ] {
        let joints: Vec<_> = joints.into_iter().map(at).collect();
        let segments = || {
            let pairs = joints.iter().zip(joints.iter().skip(1)).enumerate();
            pairs.map(|(n, (start, end))| from_to(&format!("s{n}"), *start, *end))
        };
        let now = joints[2].plus_millis(1_000);
        let calls = ["stored", "duplicate"].map(|expected| {
            let batch = segments().map(|one| (one, expected)).collect();
            Call { now, state: DeviceState::Active, batch }
        });
        check(rule, calls.into(), 2).await;
    }
}

/// An identifier is remembered within the five minutes that its segment begins in.
#[tokio::test]
async fn an_identifier_counts_for_the_five_minutes_it_begins_in() {
    let last = segment("a", -1, 20_000);
    let calls = vec![
        call(vec![(last.clone(), "stored")]),
        call(vec![(segment("a", 0, 20_000), "stored Overlap")]),
        call(vec![(last, "duplicate")]),
        call(vec![(segment("a", 299_999, 310_000), "IdempotencyConflict")]),
        call(vec![(segment("a", 300_000, 310_000), "stored")]),
    ];
    check("a border of five minutes", calls, 3).await;
}

#[tokio::test]
async fn a_device_that_retires_announces_nothing_more() {
    let first = || segment("a", 0, 20_000);
    let second = || segment("b", 20_000, 40_000);
    let retired = |batch| Call { state: DeviceState::Retired, ..call(batch) };
    let calls = vec![
        call(vec![(first(), "stored")]),
        retired(vec![(second(), "DeviceNotActive"), (first(), "DeviceNotActive")]),
        call(vec![(first(), "duplicate"), (second(), "stored")]),
    ];
    check("retired between two batches, then revived", calls, 2).await;
}

#[test]
fn what_the_store_did_not_take_may_be_sent_again() {
    let device = device(DeviceState::Active);
    let stored = |start_ms: i64| Announced::Stored {
        segment: Segment {
            id: crate::segment::SegmentId {
                stream: stream(&device, 0, "main").id,
                window: 0,
                key: 0,
            },
            client_segment_id: "a".into(),
            range: TimeRange {
                start: at(NOON).plus_millis(start_ms),
                end: at(NOON).plus_millis(start_ms + 20_000),
            },
            ingested_at: at(NOON),
            trigger: RecordingTrigger::Continuous,
            codecs: None,
            width: None,
            height: None,
            size_bytes: None,
        },
        overlaps: false,
        out_of_order: false,
    };
    // Of one stream, the store took both; then it was throttled.
    let mut verdicts = vec![None; 4];
    settle(&mut verdicts, &[0, 3], vec![stored(0), stored(20_000)], 0);
    settle(&mut verdicts, &[1, 2], Vec::new(), 0);
    let told: Vec<_> = verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Some((Verdict::Rejected(rejection), _)) => {
                (Some(rejection.code), rejection.code.is_retryable())
            }
            verdict => {
                assert!(matches!(verdict, Some((Verdict::Stored(_), _))), "{verdict:?}");
                (None, false)
            }
        })
        .collect();
    let again = (Some(RejectionCode::TemporarilyUnavailable), true);
    assert_eq!(told, [(None, false), again, again, (None, false)]);
}
