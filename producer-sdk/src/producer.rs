//! The producer as an application holds it: a thread with a runtime of its own, so that callers need
//! not be async, and never wait for the network.

use crate::announce::{Announcer, INGEST_SEGMENTS};
use crate::api::Api;
use crate::backoff::Rng;
use crate::buffer::FragmentInfo;
use crate::config::Config;
use crate::credentials::Discovery;
use crate::error::{FrameError, LinkError, StartError};
use crate::frame::Frame;
use crate::session::{Action, Event, Health, Parts, Session};
use crate::upload::{News, Upload, Url};
use lookback_wire::{SimpleTag, Timestamp};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Kinesis Video Streams takes 3.
const MAX_TRACKS: usize = 3;
/// What Kinesis Video Streams takes at the shortest.
const MIN_FRAGMENT: Duration = Duration::from_secs(1);
/// And what it takes at the longest, less room for a key frame that comes late.
const MAX_FRAGMENT: Duration = Duration::from_secs(15);
/// How long a loop sleeps when nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

/// Sends one stream's footage. Share it by reference or `Arc`; dropping it stops it at once, as
/// [`Producer::stop`] with no time does.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What became of everything, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub health: Health,
    /// Fragments that were neither PERSISTED nor reported as dropped, oldest first.
    pub undelivered: Vec<FragmentInfo>,
    /// Segments that were not announced, though their footage is kept.
    pub unannounced: usize,
}

impl Producer {
    /// Starts the producer's thread. The network need not be there yet.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let invalid = |field, cause: &str| StartError::Config { field, cause: cause.to_owned() };
        if config.tracks.is_empty() || config.tracks.len() > MAX_TRACKS {
            return Err(invalid("tracks", "there must be 1 to 3"));
        }
        for track in &config.tracks {
            track.check().map_err(|error| invalid("tracks", &error.to_string()))?;
        }
        if !(MIN_FRAGMENT..=MAX_FRAGMENT).contains(&config.fragment) {
            return Err(invalid("fragment", "it must last 1 s to 15 s"));
        }
        if let Some(media) = &config.media {
            Url::parse(&media.endpoint).map_err(|e| invalid("media", &e.to_string()))?;
        }
        let api = Api::new(&config.endpoint, config.credentials, &config.roots)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

        let mut rng = Rng::from_system();
        let announcer = Announcer::new(config.stream.clone(), Rng::seeded(rng.next_u64()));
        let session = Session::new(Parts {
            tracks: config.tracks,
            fragment: config.fragment,
            limits: config.buffer,
            timing: config.timing,
            announcer: config.announce.then_some(announcer),
            rng,
        });
        let shared = Arc::new(Shared {
            session: Mutex::new(session),
            room: Condvar::new(),
            upload: Notify::new(),
            announce: Notify::new(),
            events: Notify::new(),
            abort: Notify::new(),
        });
        let worker = Worker {
            shared: shared.clone(),
            api,
            discovery: Discovery::new(config.stream, config.media),
        };
        let on_event = config.on_event;
        let thread = std::thread::Builder::new()
            .name("lookback-producer".to_owned())
            .spawn(move || runtime.block_on(worker.run(on_event)))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes a frame. Never waits: where there is no room the oldest footage gives way, and an
    /// event says so.
    pub fn put_frame(&self, frame: Frame) -> Result<(), FrameError> {
        self.shared.change(|session| session.put_frame(frame, Instant::now()))
    }

    /// Waits until there is room in the buffer, for sources that can wait, such as files. False
    /// where there was none within `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let session = self.shared.session();
        let waited = self.shared.room.wait_timeout_while(session, patience, |s| !s.has_room());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Ends the open fragment, so that it is kept without waiting for more; for cameras that pause.
    /// The next video frame must be a key frame.
    pub fn end_fragment(&self) {
        self.shared.change(Session::end_fragment);
    }

    /// Adds a tag to the open fragment, or else to the next. False where that has 9 already, which
    /// is as many as Kinesis Video Streams takes.
    pub fn put_tag(&self, name: impl Into<String>, value: impl Into<String>) -> bool {
        let tag = SimpleTag { name: name.into(), value: value.into() };
        self.shared.change(|session| session.tag(tag))
    }

    /// Marks the open fragment, and those that begin before `until`, as alarm footage: it is the
    /// last to be dropped when there is no room, and is announced with the trigger `EVENT`.
    pub fn mark_alarm(&self, until: Timestamp) {
        self.shared.change(|session| session.mark_alarm(until));
    }

    pub fn health(&self) -> Health {
        self.shared.session().health()
    }

    /// Sends what there is, for at most `patience`, and ends.
    pub fn stop(mut self, patience: Duration) -> Report {
        self.shared.change(Session::stop);
        let deadline = Instant::now() + patience;
        let mut session = self.shared.session();
        while !session.is_finished() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.room.wait_timeout(session, left);
            session = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(session);
        self.end_thread();
        let session = self.shared.session();
        let health = session.health();
        Report { undelivered: session.undelivered(), unannounced: health.segments_waiting, health }
    }

    fn end_thread(&mut self) {
        self.shared.abort.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic on that thread can only come from the application's own callbacks.
            let _ = thread.join();
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.end_thread();
    }
}

/// What the caller's thread and the producer's own share.
#[derive(Debug)]
struct Shared {
    session: Mutex<Session>,
    /// Told after every change that may have made room or finished the session.
    room: Condvar,
    /// One for each loop of the worker: something changed.
    upload: Notify,
    announce: Notify,
    events: Notify,
    abort: Notify,
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the session, then wakes whoever may care.
    fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let result = change(&mut self.session());
        self.room.notify_all();
        self.upload.notify_one();
        self.announce.notify_one();
        self.events.notify_one();
        result
    }

    /// Changes what only the calling loop cares about.
    fn change_quietly<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        change(&mut self.session())
    }

    /// The callback that is given it must be able to use the producer: the lock is released.
    fn next_event(&self) -> Option<Event> {
        self.session().poll_event()
    }
}

/// What runs on the producer's thread.
struct Worker {
    shared: Arc<Shared>,
    api: Api,
    discovery: Discovery,
}

impl Worker {
    async fn run(self, mut on_event: Box<dyn FnMut(Event) + Send>) {
        let Self { shared, api, discovery } = self;
        let uplink = Uplink { shared: &shared, api: &api };
        tokio::select! {
            () = uplink.upload(discovery) => {}
            () = uplink.announce() => {}
            () = tell_events(&shared, &mut on_event) => {}
            () = shared.abort.notified() => {}
        }
        while let Some(event) = shared.next_event() {
            on_event(event);
        }
    }
}

async fn tell_events(shared: &Shared, on_event: &mut (dyn FnMut(Event) + Send)) {
    loop {
        match shared.next_event() {
            Some(event) => on_event(event),
            None => shared.events.notified().await,
        }
    }
}

/// The two loops that use the network.
struct Uplink<'a> {
    shared: &'a Shared,
    api: &'a Api,
}

impl Uplink<'_> {
    /// Keeps a connection while there is something to send.
    async fn upload(&self, mut discovery: Discovery) {
        loop {
            let now = Instant::now();
            let (action, deadline) =
                self.shared.change_quietly(|s| (s.poll_action(now), s.next_deadline()));
            if action != Some(Action::Connect) {
                wait(&self.shared.upload, deadline).await;
                continue;
            }
            let opened = self.open(&mut discovery).await;
            let now = Instant::now();
            match opened {
                Ok(upload) => {
                    self.shared.change(|session| session.on_connected(now));
                    self.serve(upload).await;
                }
                Err(cause) => self.shared.change(|session| session.on_disconnected(cause, now)),
            }
        }
    }

    async fn open(&self, discovery: &mut Discovery) -> Result<Upload, LinkError> {
        let target = discovery.target(self.api, Instant::now()).await?;
        let bearer = self.api.bearer()?;
        let upload = self.api.client.put_media(&target, &bearer, wall_clock()).await;
        discovery.connected(upload.is_ok());
        upload
    }

    /// Moves bytes and acknowledgements until the connection is over.
    async fn serve(&self, mut upload: Upload) {
        loop {
            let now = Instant::now();
            let (action, writes, deadline) = self.shared.change_quietly(|session| {
                let action = session.poll_action(now);
                (action, session.wants_to_write(now), session.next_deadline())
            });
            match action {
                Some(Action::Abort) => return self.shared.change(|_| ()),
                Some(Action::EndBody) => upload.media = None,
                Some(Action::Connect) | None => {}
            }
            let media = upload.media.as_ref().filter(|_| writes);
            tokio::select! {
                news = upload.news.recv() => {
                    let now = Instant::now();
                    match news.unwrap_or(News::Ended(LinkError::Closed)) {
                        News::Ack(ack) => self.shared.change(|session| session.on_ack(ack, now)),
                        News::Ended(cause) => {
                            return self.shared.change(|session| session.on_disconnected(cause, now));
                        }
                    }
                }
                Some(permit) = reserve(media), if media.is_some() => {
                    let bytes = self.shared.session().poll_transmit(Instant::now());
                    if let Some(bytes) = bytes {
                        permit.send(bytes);
                    }
                }
                () = wait(&self.shared.upload, deadline) => {}
            }
        }
    }

    /// Announces what is due.
    async fn announce(&self) {
        loop {
            let now = Instant::now();
            let (batch, due) = self.shared.change_quietly(|session| {
                let Some(announcer) = session.announcer() else { return (None, None) };
                (announcer.poll_batch(now, wall_clock()), announcer.due_at())
            });
            let Some(batch) = batch else {
                wait(&self.shared.announce, due).await;
                continue;
            };
            let answer = self.api.call("ingestSegments", INGEST_SEGMENTS, batch).await;
            self.shared.change(|session| session.on_announce_answer(answer, Instant::now()));
        }
    }
}

async fn reserve(
    media: Option<&tokio::sync::mpsc::Sender<bytes::Bytes>>,
) -> Option<tokio::sync::mpsc::Permit<'_, bytes::Bytes>> {
    media?.reserve().await.ok()
}

/// Until something changes, or the deadline.
async fn wait(changed: &Notify, deadline: Option<Instant>) {
    let deadline = deadline.unwrap_or_else(|| Instant::now() + NOTHING_DUE);
    tokio::select! {
        () = changed.notified() => {}
        () = tokio::time::sleep_until(deadline.into()) => {}
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
