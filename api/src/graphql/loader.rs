//! Batched, cached reads. A set of loaders lives as long as one request, so that nobody is answered
//! from what another caller was shown.

use super::fault::Fault;
use crate::access::Share;
use crate::account::{RetentionPlan, User};
use crate::device::{Device, Stream};
use crate::event::{Event, EventId, Watcher};
use crate::id::{DeviceId, PlanId, StreamId, UserId};
use crate::keeping::Hold;
use crate::media_stream::MediaSettings;
use crate::playback::describe::{Description, describe};
use crate::playback::footage;
use crate::playback::timeline::{self, Around, Reason};
use crate::segment::TimeRange;
use crate::storage::{EventPage, EventQuery, Result, Storage, StorageError};
use dataloader::BatchFn;
use dataloader::cached::Loader;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

/// A page of 100 devices with 8 streams each comes in one batch.
const MAX_BATCH: usize = 1000;
/// Turns of the executor after which every field that will ask has asked: all items of a list get
/// theirs in the same one. Each further one costs every load of the request another poll.
const TURNS: usize = 1;
/// Streams of one batch that are read at a time, where each has to be read by itself.
const STREAMS_AT_ONCE: usize = 16;

/// What can be asked for by keys; one answer each, in order.
pub trait Question: Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Debug + Send + Sync;
    type Answer: Clone + Send + Sync;

    fn ask(
        storage: &Storage,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>>> + Send;
}

/// Asks one [`Question`] in batches.
pub struct Batches<Q> {
    storage: Storage,
    question: PhantomData<Q>,
}

type Answer<Q> = Result<Option<<Q as Question>::Answer>, Fault>;

impl<Q: Question> BatchFn<Q::Key, Answer<Q>> for Batches<Q> {
    async fn load(&mut self, keys: &[Q::Key]) -> HashMap<Q::Key, Answer<Q>> {
        match Q::ask(&self.storage, keys).await {
            Ok(answers) => keys.iter().copied().zip(answers.into_iter().map(Ok)).collect(),
            Err(error) => {
                let fault = Fault::from(error);
                keys.iter().map(|&key| (key, Err(fault.clone()))).collect()
            }
        }
    }
}

pub struct Load<Q: Question>(Loader<Q::Key, Answer<Q>, Batches<Q>>);

impl<Q: Question> Load<Q> {
    fn new(storage: &Storage) -> Self {
        let batches = Batches { storage: storage.clone(), question: PhantomData };
        Self(Loader::new(batches).with_max_batch_size(MAX_BATCH).with_yield_count(TURNS))
    }

    pub async fn get(&self, key: Q::Key) -> Answer<Q> {
        // A task may take 128 locks and the like in a turn, which a page of events asks for more than:
        // its loads would miss their batch.
        let load = tokio::task::unconstrained(self.0.try_load(key));
        // A key that a batch left out, or whose batch was dropped half-way, is an error here.
        load.await.map_err(Fault::internal)?
    }

    /// Spares the keys a read: their answers came along with something else.
    pub async fn learn(&self, known: impl IntoIterator<Item = (Q::Key, Q::Answer)>) {
        self.0.prime_many(known.into_iter().map(|(key, answer)| (key, Ok(Some(answer))))).await;
    }

    /// Reads the key anew next time: the request itself has changed what it stands for.
    pub async fn forget(&self, key: Q::Key) {
        self.0.clear(key).await;
    }

    /// Reads all keys anew next time.
    pub async fn forget_all(&self) {
        self.0.clear_all().await;
    }
}

/// The loaders of one request.
pub struct Loaders {
    pub devices: Load<Devices>,
    pub streams: Load<Streams>,
    pub streams_of: Load<StreamsOf>,
    pub plans: Load<Plans>,
    pub events_by_id: Load<EventsById>,
    pub events: Load<Events>,
    pub seen: Load<Seen>,
    pub users: Load<Users>,
    pub shares_of: Load<SharesOf>,
    pub extents: Load<Extents>,
    pub descriptions: Load<Descriptions>,
    pub around: Load<FootageAround>,
    pub reasons: Load<Reasons>,
    pub holds: Load<Holds>,
    pub settings: Load<Settings>,
}

impl Loaders {
    pub fn new(storage: &Storage) -> Self {
        Self {
            devices: Load::new(storage),
            streams: Load::new(storage),
            streams_of: Load::new(storage),
            plans: Load::new(storage),
            events_by_id: Load::new(storage),
            events: Load::new(storage),
            seen: Load::new(storage),
            users: Load::new(storage),
            shares_of: Load::new(storage),
            extents: Load::new(storage),
            descriptions: Load::new(storage),
            around: Load::new(storage),
            reasons: Load::new(storage),
            holds: Load::new(storage),
            settings: Load::new(storage),
        }
    }
}

pub struct Devices;

impl Question for Devices {
    type Key = DeviceId;
    type Answer = Device;

    async fn ask(storage: &Storage, keys: &[DeviceId]) -> Result<Vec<Option<Device>>> {
        storage.catalog.devices_by_id(keys).await
    }
}

pub struct Streams;

impl Question for Streams {
    type Key = StreamId;
    type Answer = Stream;

    async fn ask(storage: &Storage, keys: &[StreamId]) -> Result<Vec<Option<Stream>>> {
        storage.catalog.streams_by_id(keys).await
    }
}

/// A device's streams, the main one first.
pub struct StreamsOf;

impl Question for StreamsOf {
    type Key = DeviceId;
    type Answer = Vec<Stream>;

    async fn ask(storage: &Storage, keys: &[DeviceId]) -> Result<Vec<Option<Vec<Stream>>>> {
        Ok(storage.catalog.streams_of(keys).await?.into_iter().map(Some).collect())
    }
}

pub struct Plans;

impl Question for Plans {
    type Key = PlanId;
    type Answer = RetentionPlan;

    async fn ask(storage: &Storage, keys: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>> {
        storage.catalog.plans_by_id(keys).await
    }
}

pub struct EventsById;

impl Question for EventsById {
    type Key = EventId;
    type Answer = Event;

    async fn ask(storage: &Storage, keys: &[EventId]) -> Result<Vec<Option<Event>>> {
        storage.catalog.events_by_id(keys).await
    }
}

/// A page of a device's events; all devices that are asked for the same one in one call, and which
/// of all these events were seen in one more.
pub struct Events;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventsKey {
    pub device: DeviceId,
    pub query: EventQuery,
    /// The caller, where it is asked whether the events were seen.
    pub seen_by: Option<Watcher>,
}

#[derive(Clone, Debug, Default)]
pub struct EventsFound {
    pub page: EventPage,
    /// For each event of the page whether it was seen; empty unless that was asked.
    pub seen: Vec<((Watcher, EventId), bool)>,
}

impl Question for Events {
    type Key = EventsKey;
    type Answer = EventsFound;

    async fn ask(storage: &Storage, keys: &[EventsKey]) -> Result<Vec<Option<EventsFound>>> {
        let mut places: HashMap<EventQuery, Vec<usize>> = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            places.entry(key.query).or_default().push(place);
        }
        let mut found = vec![EventsFound::default(); keys.len()];
        for (query, places) in places {
            let devices: Vec<DeviceId> =
                places.iter().filter_map(|place| keys.get(*place)).map(|key| key.device).collect();
            let pages = storage.catalog.events_of(&devices, &query).await?;
            for (place, page) in places.into_iter().zip(pages) {
                if let Some(found) = found.get_mut(place) {
                    found.page = page;
                }
            }
        }
        let marks: HashSet<_> =
            keys.iter().zip(&found).flat_map(|(key, found)| found.marks(key.seen_by)).collect();
        let marks = Vec::from_iter(marks);
        let seen = match marks.is_empty() {
            true => HashMap::new(),
            false => HashMap::from_iter(marks.iter().zip(Seen::ask(storage, &marks).await?)),
        };
        for (key, found) in keys.iter().zip(&mut found) {
            let marks = found.marks(key.seen_by);
            found.seen = marks.filter_map(|mark| Some((mark, (*seen.get(&mark)?)?))).collect();
        }
        Ok(found.into_iter().map(Some).collect())
    }
}

impl EventsFound {
    /// What is to be asked of whether its events were seen; nothing where nobody asks.
    fn marks(&self, seen_by: Option<Watcher>) -> impl Iterator<Item = (Watcher, EventId)> {
        let events = self.page.events.iter().map(|event| event.id);
        events.filter_map(move |event| Some((seen_by?, event)))
    }
}

/// Whether somebody has seen an event.
pub struct Seen;

impl Question for Seen {
    type Key = (Watcher, EventId);
    type Answer = bool;

    async fn ask(storage: &Storage, keys: &[Self::Key]) -> Result<Vec<Option<bool>>> {
        // A request has one caller.
        let Some((by, _)) = keys.first() else { return Ok(Vec::new()) };
        let events: Vec<EventId> = keys.iter().map(|(_, event)| *event).collect();
        Ok(storage.catalog.seen(*by, &events).await?.into_iter().map(Some).collect())
    }
}

pub struct Users;

impl Question for Users {
    type Key = UserId;
    type Answer = User;

    async fn ask(storage: &Storage, keys: &[UserId]) -> Result<Vec<Option<User>>> {
        storage.catalog.users_by_id(keys).await
    }
}

/// A device's shares, in force or not.
pub struct SharesOf;

impl Question for SharesOf {
    type Key = DeviceId;
    type Answer = Vec<Share>;

    async fn ask(storage: &Storage, keys: &[DeviceId]) -> Result<Vec<Option<Vec<Share>>>> {
        Ok(storage.catalog.shares_of(keys).await?.into_iter().map(Some).collect())
    }
}

/// A stream's oldest start and newest end.
pub struct Extents;

impl Question for Extents {
    type Key = StreamId;
    type Answer = TimeRange;

    async fn ask(storage: &Storage, keys: &[StreamId]) -> Result<Vec<Option<TimeRange>>> {
        footage::extents(storage, keys).await
    }
}

/// What a stream's newest footage is coded in.
pub struct Descriptions;

impl Question for Descriptions {
    type Key = StreamId;
    type Answer = Description;

    async fn ask(storage: &Storage, keys: &[StreamId]) -> Result<Vec<Option<Description>>> {
        let mut answers = Vec::with_capacity(keys.len());
        for &stream in keys {
            answers.push(describe(storage, stream).await?);
        }
        Ok(answers)
    }
}

/// The footage of a stream in a span; spans of a batch that lie close together in one read.
pub struct FootageAround;

impl Question for FootageAround {
    type Key = (StreamId, TimeRange);
    type Answer = Around;

    async fn ask(storage: &Storage, keys: &[Self::Key]) -> Result<Vec<Option<Around>>> {
        let mut spans: HashMap<StreamId, Vec<TimeRange>> = HashMap::new();
        for (stream, span) in keys {
            spans.entry(*stream).or_default().push(*span);
        }
        let of_stream = async |(stream, spans): (StreamId, Vec<TimeRange>)| {
            let around = timeline::around(storage, stream, &spans).await?;
            let keys = spans.into_iter().map(move |span| (stream, span));
            Ok::<_, StorageError>(keys.zip(around).collect::<Vec<_>>())
        };
        let reads = stream::iter(spans).map(of_stream).buffer_unordered(STREAMS_AT_ONCE);
        let found: Vec<Vec<(Self::Key, Around)>> = reads.try_collect().await?;
        let mut found: HashMap<Self::Key, Around> = found.into_iter().flatten().collect();
        Ok(keys.iter().map(|key| found.remove(key)).collect())
    }
}

/// Why the footage of a stream in a span was recorded.
pub struct Reasons;

impl Question for Reasons {
    type Key = (StreamId, TimeRange);
    type Answer = Arc<[Reason]>;

    async fn ask(storage: &Storage, keys: &[Self::Key]) -> Result<Vec<Option<Arc<[Reason]>>>> {
        let of_span = async |&(stream, span): &Self::Key| {
            Ok(Some(timeline::reasons(storage, stream, span).await?.into()))
        };
        stream::iter(keys).map(of_span).buffered(STREAMS_AT_ONCE).try_collect().await
    }
}

/// What was set for a stream itself.
pub struct Settings;

impl Question for Settings {
    type Key = StreamId;
    type Answer = MediaSettings;

    async fn ask(storage: &Storage, keys: &[StreamId]) -> Result<Vec<Option<MediaSettings>>> {
        Ok(storage.catalog.media_settings(keys).await?.into_iter().map(Some).collect())
    }
}

/// All holds of a stream, in force or not.
pub struct Holds;

impl Question for Holds {
    type Key = StreamId;
    type Answer = Arc<[Hold]>;

    async fn ask(storage: &Storage, keys: &[StreamId]) -> Result<Vec<Option<Arc<[Hold]>>>> {
        let of_stream = async |&stream: &StreamId| {
            Ok(Some(storage.catalog.holds(stream, TimeRange::ALL).await?.into()))
        };
        stream::iter(keys).map(of_stream).buffered(STREAMS_AT_ONCE).try_collect().await
    }
}
