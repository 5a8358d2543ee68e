//! What is put arrives, whatever becomes of the connections.

use crate::server::{Fault, Server};
use lookback_producer::{
    Config, Credentials, ErrorId, Event, Frame, G711Config, Law, Producer, Report, Timestamp, Track,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START_MS: i64 = 1_795_329_502_534;
const PATIENCE: Duration = Duration::from_secs(20);

struct Run {
    report: Report,
    events: Vec<Event>,
    server: Server,
}

/// Puts `seconds` of footage, a fragment a second, in audio and video.
fn run(seconds: i64, faults: &[Fault]) -> Run {
    let server = Server::start(faults.iter().copied());
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    let config = Config::new(&server.url, Credentials::token("secret"))
        .track(Track::h264())
        .track(Track::g711(G711Config { law: Law::Mu, sampling_hz: 8000, channels: 1 }))
        .fragment(Duration::from_secs(1))
        .on_event(move |event| told.lock().unwrap().push(event));
    let producer = Producer::start(config).unwrap();
    for n in 0..seconds * 10 {
        let captured_at = Timestamp::from_millis(START_MS + n * 100);
        let key = n % 10 == 0;
        let data = if key { key_frame(n) } else { annex_b(&[&[0x41, n as u8, 9]]) };
        producer.put_frame(Frame { track: 1, captured_at, key, data: data.into() }).unwrap();
        let data = vec![n as u8; 800];
        producer.put_frame(Frame { track: 2, captured_at, key: true, data: data.into() }).unwrap();
        if n == 15 {
            assert!(producer.put_tag("door", "open"));
        }
    }
    let report = producer.stop(PATIENCE);
    let events = std::mem::take(&mut *events.lock().unwrap());
    Run { report, events, server }
}

/// Real parameter sets before a picture that nobody decodes.
fn key_frame(n: i64) -> Vec<u8> {
    let sps = &hex("6742c01eda0280f684000003000400000300c83c58b920");
    annex_b(&[sps, &hex("68ce3c80"), &[0x65, n as u8, 1, 2, 3]])
}

fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// All is kept but the fragments that `lost` names by number, and nothing else is missing.
fn check(seconds: i64, faults: &[Fault], lost: &[i64]) -> Run {
    let run = run(seconds, faults);
    let Run { report, events, server } = &run;
    let kept = server.kept.lock().unwrap();
    let starts: Vec<_> = kept.fragments.keys().map(|start| *start as i64).collect();
    let expected = (0..seconds).filter(|n| !lost.contains(n)).map(|n| START_MS + n * 1000);
    assert_eq!(starts, expected.collect::<Vec<_>>(), "{faults:?}: {events:?}");
    assert_eq!(report.undelivered, [], "{faults:?}");
    assert_eq!(report.unannounced, 0, "{faults:?}");
    assert_eq!(report.health.fragments_persisted, starts.len() as u64);
    assert_eq!(report.health.fragments_dropped, lost.len() as u64, "{faults:?}: {events:?}");
    for (start, frames) in &kept.fragments {
        let tracks = |track| frames.iter().filter(|frame| frame.0 == track).count();
        assert_eq!((tracks(1), tracks(2)), (10, 10), "fragment {start}");
    }
    drop(kept);
    run
}

#[test]
fn footage_arrives_and_is_announced() {
    let Run { server, events, .. } = check(45, &[], &[]);
    let kept = server.kept.lock().unwrap();
    assert_eq!(kept.calls[..3], ["/graphql", "/getDataEndpoint", "/putMedia"]);
    assert_eq!(kept.headers.len(), 1);
    let head = &kept.heads[0];
    for line in [
        "POST /putMedia HTTP/1.1\r\n",
        "\r\nx-amzn-stream-name: device-main\r\n",
        "\r\nx-amzn-fragment-timecode-type: ABSOLUTE\r\n",
        "\r\ntransfer-encoding: chunked\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is not in {head:?}");
    }
    assert_eq!(kept.tags, [(START_MS as u64 + 1000, "door".to_owned(), "open".to_owned())]);
    let spans: Vec<_> =
        kept.segments.iter().map(|s| (s["start"].as_str(), s["end"].as_str())).collect();
    let at = ["06:38:22.534", "06:38:42.534", "06:39:02.534", "06:39:07.534"];
    let at = at.map(|at| format!("2026-11-22T{at}Z"));
    let expected = [(0, 1), (1, 2), (2, 3)].map(|(a, b)| (Some(&*at[a]), Some(&*at[b])));
    assert_eq!(spans, expected);
    assert_eq!(kept.segments[0]["codecs"], "avc1.42c01e,ulaw");
    let announced = events.iter().filter(|e| matches!(e, Event::SegmentAnnounced { .. })).count();
    assert_eq!(announced, 3, "{events:?}");
}

#[test]
fn broken_connections_cost_nothing() {
    check(8, &[Fault::CloseAt(3)], &[]);
    check(8, &[Fault::CloseAt(0), Fault::CloseAt(2), Fault::CloseAt(1)], &[]);
    check(4, &[Fault::Refuse(503), Fault::Refuse(500)], &[]);
    check(8, &[Fault::ErrorAt(2, ErrorId::ArchivalError)], &[]);
}

#[test]
fn what_is_refused_for_good_is_dropped_and_told() {
    let run = check(8, &[Fault::ErrorAt(2, ErrorId::InvalidMkvData)], &[2]);
    let dropped = run.events.iter().filter(|e| matches!(e, Event::FragmentDropped { .. })).count();
    assert_eq!(dropped, 1, "{:?}", run.events);
}

#[test]
fn a_stop_says_what_was_not_delivered() {
    let config = Config::new("http://127.0.0.1:9", Credentials::token("secret"))
        .track(Track::h264())
        .fragment(Duration::from_secs(1));
    let producer = Producer::start(config).unwrap();
    for n in 0..30 {
        let captured_at = Timestamp::from_millis(START_MS + n * 100);
        let key = n % 10 == 0;
        let data = if key { key_frame(n) } else { annex_b(&[&[0x41, n as u8, 9]]) };
        producer.put_frame(Frame { track: 1, captured_at, key, data: data.into() }).unwrap();
    }
    let begun = std::time::Instant::now();
    let report = producer.stop(Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(3));
    let starts: Vec<_> = report.undelivered.iter().map(|f| f.start.as_millis()).collect();
    assert_eq!(starts, [START_MS, START_MS + 1000, START_MS + 2000]);
}
