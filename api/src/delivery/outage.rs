//! What is promised while receivers fail, clocks are set and devices change: deliveries on a clock that
//! tests set, to a receiver that they are.

use super::{Deliveries, LEASE_MS, Then};
use crate::clock::Clock;
use crate::config;
use crate::device::{Device, DeviceChange};
use crate::id::{AccountId, ServerId, WebhookId};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::segment::TimeRange;
use crate::storage::contract::events::new_event;
use crate::storage::contract::{self, NOW};
use crate::storage::{Catalog, embedded};
use crate::webhook::{Lease, TRIED_MS, Webhook, WebhookState};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use tempfile::TempDir;

const MINUTE_MS: i64 = 60_000;

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    HangsUp,
    Answers(u16),
}

/// A receiver, and the bodies that came with how it answered each.
#[derive(Clone)]
struct Receiver {
    mood: Arc<Mutex<Mood>>,
    posts: Arc<Mutex<Vec<(Mood, serde_json::Value)>>>,
}

impl Receiver {
    /// Answers its URL, too.
    fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let receiver =
            Self { mood: Arc::new(Mutex::new(Mood::Answers(200))), posts: Arc::default() };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        (receiver, url)
    }

    /// Answers on a connection until either side ends it.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut len = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body).ok()?;
            let mood = *self.mood.lock();
            self.posts.lock().push((mood, serde_json::from_slice(&body).unwrap()));
            let Mood::Answers(status) = mood else { return None };
            let head = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
            stream.get_mut().write_all(head.as_bytes()).ok()?;
        }
    }

    /// How often each event was taken, by the name it was reported with.
    fn taken(&self) -> HashMap<String, usize> {
        let mut taken = HashMap::new();
        for (mood, body) in self.posts.lock().iter() {
            for event in body["events"].as_array().unwrap() {
                if matches!(mood, Mood::Answers(200..300)) {
                    let name = event["clientEventId"].as_str().unwrap().to_owned();
                    *taken.entry(name).or_default() += 1;
                }
            }
        }
        taken
    }
}

/// One account with one webhook, and what delivers to it.
struct Outage {
    _dir: TempDir,
    catalog: Arc<dyn Catalog>,
    clock: Arc<Clock>,
    deliveries: Deliveries,
    receiver: Receiver,
    webhook: Webhook,
}

impl Outage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = embedded::open(dir.path()).unwrap().catalog;
        let account = catalog.ensure_account("default", NOW).await.unwrap().id;
        let (receiver, url) = Receiver::start();
        let webhook = Webhook {
            id: WebhookId::new(NOW),
            account,
            url,
            types: None,
            min_severity: None,
            created_at: NOW,
        };
        assert!(catalog.put_webhook(webhook.clone()).await.unwrap());
        let clock = Arc::new(Clock::manual(NOW));
        let keys = Keys::open(dir.path()).unwrap();
        let config =
            config::Webhooks { plain_http: true, allow_private: true, ..Default::default() };
        let metrics = Arc::new(Metrics::default());
        let deliveries =
            Deliveries::new(catalog.clone(), clock.clone(), metrics, &keys, &config).unwrap();
        Self { _dir: dir, catalog, clock, deliveries, receiver, webhook }
    }

    async fn device(&self, name: &str) -> Device {
        let account: AccountId = self.webhook.account;
        let mut registration = contract::registration(account, name, name);
        registration.device.plan = self.catalog.plans(account).await.unwrap().remove(0).id;
        self.catalog.register_device(registration, NOW).await.unwrap().device
    }

    /// Events that are reported now, by their names and starts.
    async fn report(&self, device: &Device, events: impl Iterator<Item = (String, i64)>) {
        let events: Vec<_> = events.map(|(name, start_ms)| new_event(&name, start_ms)).collect();
        self.catalog.report_events(device.id, &events, self.clock.now()).await.unwrap();
    }

    async fn step(&self) -> Then {
        self.deliveries.step(self.webhook.account, self.webhook.id).await.unwrap()
    }

    /// Steps until nothing can be done at this moment.
    async fn settle(&self) -> Then {
        loop {
            match self.step().await {
                Then::Now => {}
                then => return then,
            }
        }
    }

    async fn state(&self) -> WebhookState {
        self.catalog.webhook_state(self.webhook.id).await.unwrap()
    }

    async fn change_state(&self, change: impl FnOnce(&mut WebhookState)) {
        let mut state = self.state().await;
        change(&mut state);
        state.changes += 1;
        assert!(self.catalog.put_webhook_state(self.webhook.id, state).await.unwrap());
    }
}

/// 10,000 events come while the receiver hangs up, then has no time, then fails, 20 minutes each.
#[tokio::test]
async fn nothing_is_lost_with_the_receiver_down_for_an_hour() {
    const BATCHES: i64 = 100;
    let outage = Outage::new().await;
    let device = outage.device("Door").await;
    let at = |minute: i64| NOW.plus_millis(minute * MINUTE_MS);
    let mut reported = 0;
    loop {
        let now = outage.clock.now();
        *outage.receiver.mood.lock() = match now.millis_since(NOW) / MINUTE_MS {
            ..20 => Mood::HangsUp,
            20..40 => Mood::Answers(503),
            40..60 => Mood::Answers(500),
            _ => Mood::Answers(204),
        };
        let next_report = NOW.plus_millis(reported * 60 * MINUTE_MS / BATCHES);
        if reported < BATCHES && next_report <= now {
            let events = (0..100).map(|n| reported * 100 + n);
            outage.report(&device, events.map(|n| (format!("event-{n:05}"), n))).await;
            reported += 1;
            continue;
        }
        let then = match outage.step().await {
            Then::Now => continue,
            Then::At(at) => at,
            Then::Idle if reported == BATCHES => break,
            Then::Idle => next_report,
        };
        let next = if reported < BATCHES { then.min(next_report) } else { then };
        assert!(next < at(120), "what waits is not delivered two hours later");
        outage.clock.set(next);
    }
    let taken = outage.receiver.taken();
    assert_eq!(taken.len(), 10_000);
    let twice: Vec<_> = taken.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let posts = outage.receiver.posts.lock().clone();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for event in posts.iter().flat_map(|(_, body)| body["events"].as_array().unwrap()) {
        let [name, id] = ["clientEventId", "deliveryId"].map(|key| event[key].as_str().unwrap());
        assert_eq!(*names.entry(id).or_insert(name), name, "an identifier is of one event");
    }
    assert_eq!(names.len(), 10_000, "and the same in every try");
    let failed = posts.iter().filter(|(mood, _)| *mood != Mood::Answers(204)).count();
    assert!((8..80).contains(&failed), "{failed} tries in an hour");
    let state = outage.state().await;
    assert_eq!((state.failing_since, state.failures), (None, 0));
    assert!(outage.catalog.deliveries(outage.webhook.id, 1).await.unwrap().is_empty());
}

/// What a clock that ran a month ahead has written down is not waited for once it is set right.
#[tokio::test]
async fn a_clock_that_is_set_back_stops_nothing() {
    let month = 30 * 24 * 60 * MINUTE_MS;
    for is_restarted in [false, true] {
        let outage = Outage::new().await;
        let device = outage.device("Door").await;
        outage.clock.set(NOW.plus_millis(month));
        *outage.receiver.mood.lock() = Mood::Answers(503);
        outage.report(&device, [("a".to_owned(), 0)].into_iter()).await;
        assert!(matches!(outage.settle().await, Then::At(_)));
        if is_restarted {
            let lease =
                Lease { holder: ServerId::new(NOW), until: NOW.plus_millis(month + LEASE_MS) };
            outage.change_state(|state| state.lease = Some(lease)).await;
        }
        *outage.receiver.mood.lock() = Mood::Answers(200);
        outage.clock.set(NOW);
        outage.report(&device, [("b".to_owned(), 1)].into_iter()).await;
        assert_eq!(outage.settle().await, Then::Idle, "restarted: {is_restarted}");
        let expected = [("a".to_owned(), 1), ("b".to_owned(), 1)];
        assert_eq!(outage.receiver.taken(), expected.into(), "restarted: {is_restarted}");
    }
}

#[tokio::test]
async fn who_delivers_is_left_to_it() {
    let outage = Outage::new().await;
    let device = outage.device("Door").await;
    outage.report(&device, [("a".to_owned(), 0)].into_iter()).await;
    let lease = Lease { holder: ServerId::new(NOW), until: NOW.plus_millis(LEASE_MS + 5_000) };
    outage.change_state(|state| state.lease = Some(lease)).await;
    assert!(matches!(outage.settle().await, Then::At(_)));
    assert_eq!(outage.receiver.taken(), HashMap::new());
    outage.clock.set(NOW.plus_millis(LEASE_MS + 5_000));
    assert_eq!(outage.settle().await, Then::Idle);
    assert_eq!(outage.receiver.taken().len(), 1);
}

/// After a day, what was tried is given up on; what was not, since this service was down, is tried.
#[tokio::test]
async fn a_day_of_tries_is_enough() {
    for (mood, was_tried) in [(Mood::Answers(503), true), (Mood::Answers(200), false)] {
        let outage = Outage::new().await;
        let device = outage.device("Door").await;
        *outage.receiver.mood.lock() = mood;
        outage.report(&device, [("old".to_owned(), 0)].into_iter()).await;
        if was_tried {
            assert!(matches!(outage.settle().await, Then::At(_)));
        }
        *outage.receiver.mood.lock() = Mood::Answers(200);
        outage.clock.set(NOW.plus_millis(TRIED_MS));
        outage.report(&device, [("new".to_owned(), 1)].into_iter()).await;
        assert_eq!(outage.settle().await, Then::Idle);
        let taken = outage.receiver.taken();
        assert_eq!((taken.contains_key("old"), taken["new"]), (!was_tried, 1), "{mood:?}");
    }
}

#[tokio::test]
async fn nothing_new_waits_for_a_replay() {
    let outage = Outage::new().await;
    for n in 0..101 {
        outage.device(&format!("quiet {n}")).await;
    }
    let device = outage.device("a").await;
    assert!(outage.deliveries.replay(&outage.webhook, TimeRange::ALL).await.unwrap());
    outage.report(&device, [("new".to_owned(), 0)].into_iter()).await;
    outage.step().await;
    assert_eq!(outage.receiver.taken(), [("new".to_owned(), 1)].into());
    assert_eq!(outage.settle().await, Then::Idle);
    assert_eq!(outage.receiver.taken(), [("new".to_owned(), 2)].into());
}

/// A device that takes another place in the list, half replayed, hides none of the next one's events.
#[tokio::test]
async fn a_replay_goes_on_where_devices_are_renamed() {
    let outage = Outage::new().await;
    let [first, second] = [outage.device("a").await, outage.device("b").await];
    outage.report(&first, (0..150).map(|n| (format!("a-{n}"), 1_000 + n))).await;
    outage.report(&second, (0..50).map(|n| (format!("b-{n}"), n))).await;
    assert_eq!(outage.settle().await, Then::Idle);
    assert!(outage.deliveries.replay(&outage.webhook, TimeRange::ALL).await.unwrap());
    outage.step().await;
    let replay = outage.state().await.replay.unwrap();
    assert!(replay.event.is_some_and(|(_, event)| event.device == first.id));
    let renamed = DeviceChange { name: Some("z".into()), ..DeviceChange::default() };
    assert!(outage.catalog.change_device(first.id, renamed).await.unwrap().is_some());
    assert_eq!(outage.settle().await, Then::Idle);
    let taken = outage.receiver.taken();
    assert_eq!(taken.len(), 200);
    let missing: Vec<_> = taken.iter().filter(|(_, count)| **count < 2).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
