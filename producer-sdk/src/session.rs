//! The upload as a state machine without I/O: frames, acknowledgements, the fate of connections and
//! the time go in; bytes to write, what to do with the connection, and events come out.
//!
//! Its promise: every fragment is sent until it is acknowledged PERSISTED, or reported as dropped;
//! in one connection timecodes only rise; what waits is bounded.

#[cfg(test)]
mod simulation;

use crate::announce::Announcer;
use crate::backoff::{Backoff, Rng};
use crate::buffer::{Buffer, FragmentInfo, InFlight};
use crate::config::{BufferLimits, Timing};
use crate::error::{FrameError, LinkError};
use crate::fragmenter::{Fragmenter, SkipReason};
use crate::frame::{Frame, Track};
use bytes::{Bytes, BytesMut};
use lookback_wire::matroska::writer;
use lookback_wire::{Ack, ErrorId, SimpleTag, Timestamp, UploadHeader};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces are joined up to this, so that a frame and its block header travel as one HTTP chunk.
const WRITE_BYTES: usize = 16 << 10;
/// Events that wait to be told; later ones are counted and lost.
const MAX_EVENTS: usize = 1024;
/// After an ERROR the server may send no more; what is left of the connection is given up then.
const ERROR_DRAIN: Duration = Duration::from_secs(2);
/// All is acknowledged and the body ended: the server has only to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What happens to an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Media can be sent.
    Connected,
    /// A connection ended or was not made; the next attempt comes after `retry_in`.
    Disconnected { cause: LinkError, retry_in: Duration },
    /// The service keeps the fragment durably.
    FragmentPersisted { fragment: FragmentInfo, number: String },
    /// The service refused the fragment for now; it is sent again.
    FragmentRefused { fragment: FragmentInfo, error: ErrorId },
    /// The fragment will not be sent any more.
    FragmentDropped { fragment: FragmentInfo, reason: DropReason },
    /// Frames were left out before they became part of a fragment.
    FramesSkipped { frames: u64, reason: SkipReason },
    /// The service stored the announcement of a segment, now or before.
    SegmentAnnounced { client_segment_id: String, start: Timestamp, end: Timestamp },
    /// The service will not take the announcement; the footage is kept all the same.
    SegmentRejected { client_segment_id: String, code: String, message: String },
    /// Announcements did not get through; they are sent again after `retry_in`.
    AnnounceFailed { cause: LinkError, retry_in: Duration },
    /// This many events were lost, since nothing took them in time.
    EventsMissed { count: u64 },
}

/// Why a fragment was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// There was no room for newer footage. Where `sent` says so the fragment was sent whole, and
    /// may yet have been kept.
    BufferFull { sent: bool },
    /// The service refused it for good.
    Refused(ErrorId),
}

/// Counters since the start, and how things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    pub connected: bool,
    pub connects: u64,
    /// Connections that ended otherwise than by plan, and attempts that failed.
    pub failures: u64,
    pub frames: u64,
    pub frames_skipped: u64,
    pub fragments_persisted: u64,
    pub bytes_persisted: u64,
    pub fragments_dropped: u64,
    pub bytes_written: u64,
    pub fragments_waiting: usize,
    pub bytes_waiting: usize,
    /// Of footage.
    pub waiting: Duration,
    pub segments_announced: u64,
    pub segments_rejected: u64,
    pub segments_waiting: usize,
}

/// What is to be done with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open one; then [`Session::on_connected`] or [`Session::on_disconnected`].
    Connect,
    /// End the request body; acknowledgements may still come.
    EndBody,
    /// Give it up at once; the session counts it as ended.
    Abort,
}

#[derive(Debug)]
enum Link {
    Down { retry_at: Option<Instant> },
    Connecting,
    Up(Connection),
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    /// What it began with; none until the first fragment is chosen.
    header: Option<Arc<UploadHeader>>,
    /// Fragments that it began to send and that are not PERSISTED, oldest first.
    started: VecDeque<Started>,
    /// The fragment that is being sent, and how many of its pieces were.
    current: Option<(u64, usize)>,
    /// The oldest fragment that it may still begin.
    next_id: u64,
    last_timecode: Option<Timestamp>,
    /// When it last gave a sign of life, or there began to be something to wait for.
    alive_at: Instant,
    /// When a fragment last became PERSISTED, or began to wait for it.
    persisted_at: Instant,
    idle_since: Instant,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Started {
    id: u64,
    timecode: u64,
    whole: bool,
}

/// A connection that sends no more fragments.
#[derive(Debug)]
struct Ending {
    body_ended: bool,
    /// When it is given up.
    at: Instant,
    /// An ERROR ended it: the next attempt waits.
    failed: bool,
    /// A fragment was dropped while it was being sent: nothing more can be written.
    broken: bool,
}

#[derive(Debug)]
pub struct Session {
    timing: Timing,
    rng: Rng,
    fragmenter: Fragmenter,
    buffer: Buffer,
    link: Link,
    backoff: Backoff,
    announcer: Option<Announcer>,
    stopping: bool,
    events: VecDeque<Event>,
    events_missed: u64,
    health: Health,
}

/// What a session is made with.
#[derive(Debug)]
pub struct Parts {
    pub tracks: Vec<Track>,
    pub fragment: Duration,
    pub limits: BufferLimits,
    pub timing: Timing,
    pub announcer: Option<Announcer>,
    pub rng: Rng,
}

impl Session {
    pub fn new(mut parts: Parts) -> Self {
        let mut segment_uid = [0; 16];
        for half in segment_uid.chunks_mut(8) {
            half.copy_from_slice(&parts.rng.next_u64().to_le_bytes());
        }
        Self {
            backoff: Backoff::new(parts.timing.backoff_first, parts.timing.backoff_cap),
            timing: parts.timing,
            rng: parts.rng,
            fragmenter: Fragmenter::new(parts.tracks, parts.fragment, segment_uid),
            buffer: Buffer::new(parts.limits),
            link: Link::Down { retry_at: None },
            announcer: parts.announcer,
            stopping: false,
            events: VecDeque::new(),
            events_missed: 0,
            health: Health::default(),
        }
    }

    pub fn put_frame(&mut self, frame: Frame, now: Instant) -> Result<(), FrameError> {
        if self.stopping {
            return Err(FrameError::Stopped);
        }
        let wrote_all = !self.wants_to_write(now);
        self.fragmenter.put(frame, now, &mut self.buffer)?;
        self.health.frames = self.health.frames.saturating_add(1);
        self.report_skips();
        self.make_room();
        if wrote_all && let Link::Up(up) = &mut self.link {
            up.alive_at = now;
        }
        Ok(())
    }

    /// Ends the open fragment; the next frame must be a key frame.
    pub fn end_fragment(&mut self) {
        self.fragmenter.flush(&mut self.buffer);
        self.make_room();
    }

    /// Adds a tag to the open fragment, or else to the next; false where that has 9.
    pub fn tag(&mut self, tag: SimpleTag) -> bool {
        self.fragmenter.tag(tag)
    }

    pub fn mark_alarm(&mut self, until: Timestamp) {
        self.fragmenter.mark_alarm(until, &mut self.buffer);
    }

    /// No more frames: what there is is sent, then the connection ends.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.end_fragment();
    }

    /// Whether a stopped session has nothing left to do.
    pub fn is_finished(&self) -> bool {
        let announced = self.announcer.as_ref().is_none_or(Announcer::is_empty);
        self.stopping
            && self.buffer.is_empty()
            && announced
            && matches!(self.link, Link::Down { .. })
    }

    pub fn on_connected(&mut self, now: Instant) {
        self.health.connected = true;
        self.health.connects = self.health.connects.saturating_add(1);
        self.link = Link::Up(Connection {
            since: now,
            header: None,
            started: VecDeque::new(),
            current: None,
            next_id: 0,
            last_timecode: None,
            alive_at: now,
            persisted_at: now,
            idle_since: now,
            ending: None,
        });
        self.tell(Event::Connected);
    }

    /// The connection ended, or was not made. What was not PERSISTED is sent again on the next one.
    pub fn on_disconnected(&mut self, cause: LinkError, now: Instant) {
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: None });
        self.health.connected = false;
        if let Link::Up(up) = &link
            && up.ending.as_ref().is_some_and(|ending| !ending.failed)
        {
            return;
        }
        let retry_in = self.backoff.next(&mut self.rng);
        self.link = Link::Down { retry_at: Some(now + retry_in) };
        self.health.failures = self.health.failures.saturating_add(1);
        self.tell(Event::Disconnected { cause, retry_in });
    }

    pub fn on_ack(&mut self, ack: Ack<String>, now: Instant) {
        let Link::Up(up) = &mut self.link else { return };
        up.alive_at = now;
        match ack {
            Ack::Buffering { .. } | Ack::Received { .. } | Ack::Idle => {}
            Ack::Persisted { timecode, number } => self.on_persisted(timecode, number, now),
            Ack::Error { timecode, error, .. } => self.on_error(timecode, error, now),
        }
    }

    /// What the passing of time alone brings about.
    pub fn on_time(&mut self, now: Instant) {
        if self.fragmenter.flush_at(self.timing.end_fragment_after).is_some_and(|at| at <= now) {
            self.end_fragment();
        }
        if self.stopping
            && self.buffer.is_empty()
            && let Some(announcer) = &mut self.announcer
        {
            announcer.finish();
        }
        let busy = self.is_busy();
        let Link::Up(up) = &mut self.link else { return };
        if busy {
            up.idle_since = now;
        }
        let over = !busy && (self.stopping || now >= up.idle_since + self.timing.idle_after);
        if over && up.ending.is_none() {
            up.end(now + self.timing.drain_within);
        }
    }

    /// What to do next with the connection, if anything.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.on_time(now);
        match &mut self.link {
            Link::Down { retry_at } => {
                let due = retry_at.is_none_or(|at| at <= now);
                if !due || !self.wants_connection() {
                    return None;
                }
                self.link = Link::Connecting;
                Some(Action::Connect)
            }
            Link::Connecting => None,
            Link::Up(_) => self.poll_connection(now),
        }
    }

    /// Whether [`Session::poll_transmit`] would have bytes.
    pub fn wants_to_write(&mut self, now: Instant) -> bool {
        self.choose_fragment(now).is_some()
    }

    /// The next bytes of the upload.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let (id, from) = self.choose_fragment(now)?;
        let fragment = self.buffer.get(id)?;
        let Link::Up(up) = &mut self.link else { return None };
        let mut out = Vec::new();
        let mut len = 0usize;
        if up.header.is_none() {
            let header = writer::header(&fragment.header);
            up.header = Some(fragment.header.clone());
            len = header.len();
            out.push(header);
        }
        let timecode = fragment.info.start;
        if from == 0 {
            // Not negative: frames before 1970 are refused.
            let timecode_ms = u64::try_from(timecode.as_millis()).unwrap_or(0);
            up.started.push_back(Started { id, timecode: timecode_ms, whole: false });
            up.last_timecode = Some(timecode);
        }
        let mut next = from;
        for piece in fragment.pieces.iter().skip(from) {
            if len > 0 && len.saturating_add(piece.len()) > WRITE_BYTES {
                break;
            }
            len = len.saturating_add(piece.len());
            out.push(piece.clone());
            next = next.saturating_add(1);
        }
        up.alive_at = now;
        up.current = Some((id, next));
        if fragment.ended && next == fragment.pieces.len() {
            if !up.started.iter().any(|started| started.whole) {
                up.persisted_at = now;
            }
            up.current = None;
            up.next_id = id.saturating_add(1);
            if let Some(started) = up.started.back_mut() {
                started.whole = true;
            }
        }
        self.health.bytes_written = self.health.bytes_written.saturating_add(len as u64);
        Some(join(out, len))
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events_missed > 0 {
            let count = std::mem::take(&mut self.events_missed);
            return Some(Event::EventsMissed { count });
        }
        event
    }

    /// When [`Session::poll_action`] is to be called again at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let flush = self.fragmenter.flush_at(self.timing.end_fragment_after);
        let link = match &self.link {
            Link::Down { retry_at } => retry_at.filter(|_| self.wants_connection()),
            Link::Connecting => None,
            Link::Up(up) => match (&up.ending, self.lost_at(up)) {
                (Some(ending), _) => Some(ending.at),
                (None, Some((at, _))) => Some(at),
                (None, None) if self.is_busy() => None,
                (None, None) => Some(up.idle_since + self.timing.idle_after),
            },
        };
        flush.into_iter().chain(link).min()
    }

    pub fn announcer(&mut self) -> Option<&mut Announcer> {
        self.announcer.as_mut()
    }

    /// The answer to the announcer's last batch.
    pub fn on_announce_answer(&mut self, answer: Result<Value, LinkError>, now: Instant) {
        let Some(announcer) = &mut self.announcer else { return };
        for event in announcer.on_answer(answer, now) {
            self.on_announced(event);
        }
    }

    fn on_announced(&mut self, event: Event) {
        match &event {
            Event::SegmentAnnounced { .. } => {
                self.health.segments_announced = self.health.segments_announced.saturating_add(1);
            }
            Event::SegmentRejected { .. } => {
                self.health.segments_rejected = self.health.segments_rejected.saturating_add(1);
            }
            _ => {}
        }
        self.tell(event);
    }

    pub fn has_room(&self) -> bool {
        self.buffer.has_room()
    }

    pub fn health(&self) -> Health {
        Health {
            fragments_waiting: self.buffer.len(),
            bytes_waiting: self.buffer.bytes(),
            waiting: Duration::from_millis(self.buffer.duration_ms()),
            frames_skipped: self
                .health
                .frames_skipped
                .saturating_add(self.fragmenter.pending_skips()),
            segments_waiting: self.announcer.as_ref().map_or(0, Announcer::waiting),
            ..self.health.clone()
        }
    }

    /// What was not PERSISTED, oldest first.
    pub fn undelivered(&self) -> Vec<FragmentInfo> {
        self.buffer.iter().map(|fragment| fragment.info.clone()).collect()
    }

    fn on_persisted(&mut self, timecode: u64, number: String, now: Instant) {
        let Link::Up(up) = &mut self.link else { return };
        // Only what was sent whole on this connection can have been kept whole by it.
        let position = up.started.iter().position(|s| s.timecode == timecode && s.whole);
        let Some(started) = position.and_then(|position| up.started.remove(position)) else {
            return;
        };
        up.persisted_at = now;
        self.backoff.reset();
        let Some(fragment) = self.buffer.remove(started.id) else { return };
        self.health.fragments_persisted = self.health.fragments_persisted.saturating_add(1);
        self.health.bytes_persisted =
            self.health.bytes_persisted.saturating_add(fragment.info.bytes);
        let announcer = self.announcer.as_mut();
        let lost = announcer.and_then(|a| a.add(&fragment.info, &fragment.header, now));
        self.tell(Event::FragmentPersisted { fragment: fragment.info, number });
        if let Some(lost) = lost {
            self.on_announced(lost);
        }
    }

    /// An ERROR ends the connection. It concerns the fragment that it names, or else the oldest that
    /// is on its way.
    fn on_error(&mut self, timecode: Option<u64>, error: ErrorId, now: Instant) {
        let Link::Up(up) = &mut self.link else { return };
        let named = up.started.iter().find(|started| Some(started.timecode) == timecode);
        let id = named.or(up.started.front()).map(|started| started.id);
        up.ending = Some(Ending {
            body_ended: up.ending.as_ref().is_some_and(|ending| ending.body_ended),
            at: now + ERROR_DRAIN.min(self.timing.drain_within),
            failed: true,
            broken: false,
        });
        let Some(id) = id else { return };
        if concerns_fragment(error) {
            self.drop_fragment(id, DropReason::Refused(error));
        } else if let Some(fragment) = self.buffer.get(id) {
            let fragment = fragment.info.clone();
            self.tell(Event::FragmentRefused { fragment, error });
        }
    }

    /// Drops fragments until the rest fits.
    fn make_room(&mut self) {
        while self.buffer.is_over() {
            let in_flight = match &self.link {
                Link::Up(up) => up.in_flight(),
                _ => InFlight::None,
            };
            let Some(id) = self.buffer.victim(in_flight) else { return };
            let sent = match &self.link {
                Link::Up(up) => up.started.iter().any(|started| started.id == id && started.whole),
                _ => false,
            };
            self.drop_fragment(id, DropReason::BufferFull { sent });
        }
    }

    fn drop_fragment(&mut self, id: u64, reason: DropReason) {
        let Some(fragment) = self.buffer.remove(id) else { return };
        if !fragment.ended {
            self.fragmenter.abandon();
        }
        if let Link::Up(up) = &mut self.link {
            up.started.retain(|started| started.id != id);
            if up.current.is_some_and(|(current, _)| current == id) {
                up.current = None;
                let failed = up.ending.as_ref().is_some_and(|ending| ending.failed);
                up.ending = Some(Ending { body_ended: true, at: up.since, failed, broken: true });
            }
        }
        self.health.fragments_dropped = self.health.fragments_dropped.saturating_add(1);
        self.tell(Event::FragmentDropped { fragment: fragment.info, reason });
    }

    /// The fragment to write from, and which of its pieces; ends the connection where the next
    /// fragment needs another one.
    fn choose_fragment(&mut self, now: Instant) -> Option<(u64, usize)> {
        let Link::Up(up) = &mut self.link else { return None };
        if up.ending.is_some() {
            return None;
        }
        if let Some((id, from)) = up.current {
            let fragment = self.buffer.get(id)?;
            // A fragment may end without further pieces only by its tag, which is one.
            return (from < fragment.pieces.len()).then_some((id, from));
        }
        let fragment = self.buffer.at_or_after(up.next_id)?;
        if !fragment.sendable {
            return None;
        }
        let other_header = up.header.as_ref().is_some_and(|header| *header != fragment.header);
        let clock_went_back = up.last_timecode.is_some_and(|last| fragment.info.start <= last);
        let old = now >= up.since + self.timing.rotate_after;
        if other_header || clock_went_back || old {
            up.end(now + self.timing.drain_within);
            return None;
        }
        Some((fragment.id, 0))
    }

    fn wants_connection(&self) -> bool {
        self.buffer.iter().any(|fragment| fragment.sendable)
    }

    fn poll_connection(&mut self, now: Instant) -> Option<Action> {
        let Link::Up(up) = &self.link else { return None };
        if let Some((at, patience)) = self.lost_at(up)
            && at <= now
        {
            let cause = LinkError::Stalled { seconds: patience.as_secs() };
            self.on_disconnected(cause, now);
            return Some(Action::Abort);
        }
        let Link::Up(up) = &mut self.link else { return None };
        let ending = up.ending.as_mut()?;
        if ending.broken || now >= ending.at {
            self.on_disconnected(LinkError::Closed, now);
            return Some(Action::Abort);
        }
        if up.started.is_empty() {
            ending.at = ending.at.min(now + CLOSE_WITHIN);
        }
        let ended_before = std::mem::replace(&mut ending.body_ended, true);
        (!ended_before).then_some(Action::EndBody)
    }

    /// When a connection is lost unless something comes, and how long was waited for it then. While
    /// the camera owes the next bytes, the service owes nothing.
    fn lost_at(&self, up: &Connection) -> Option<(Instant, Duration)> {
        if up.ending.is_some() {
            return None;
        }
        let whole = up.started.iter().any(|started| started.whole);
        let stalled = (up.alive_at + self.timing.stalled_after, self.timing.stalled_after);
        let unkept = (up.persisted_at + self.timing.persist_within, self.timing.persist_within);
        match (whole, self.is_writing(up)) {
            (true, _) => Some(stalled.min(unkept)),
            (false, true) => Some(stalled),
            (false, false) => None,
        }
    }

    /// Whether there are bytes that the connection was not able to take yet.
    fn is_writing(&self, up: &Connection) -> bool {
        match up.current {
            Some((id, from)) => self.buffer.get(id).is_some_and(|f| from < f.pieces.len()),
            None => self.buffer.at_or_after(up.next_id).is_some_and(|f| f.sendable),
        }
    }

    /// Whether a connection has something to send or to wait for.
    fn is_busy(&self) -> bool {
        let Link::Up(up) = &self.link else { return false };
        !up.started.is_empty() || self.buffer.at_or_after(up.next_id).is_some()
    }

    fn report_skips(&mut self) {
        let skips: Vec<_> = self.fragmenter.take_skips().collect();
        for (reason, frames) in skips {
            self.health.frames_skipped = self.health.frames_skipped.saturating_add(frames);
            self.tell(Event::FramesSkipped { frames, reason });
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.events_missed = self.events_missed.saturating_add(1);
        }
    }
}

impl Connection {
    fn end(&mut self, at: Instant) {
        self.ending = Some(Ending { body_ended: false, at, failed: false, broken: false });
    }

    fn in_flight(&self) -> InFlight {
        match (self.started.front(), self.started.back()) {
            (Some(first), Some(last)) => InFlight::Range {
                first: first.id,
                current: if last.whole { last.id.saturating_add(1) } else { last.id },
            },
            _ => InFlight::None,
        }
    }
}

/// Whether an error is the fragment's own fault, so that sending it again cannot help. Errors of the
/// stream and its keys (4008, 4500 to 4507) are final to Amazon's producers, which then throw footage
/// away; here it waits, since a suspended device is taken up again.
fn concerns_fragment(error: ErrorId) -> bool {
    let concerns_stream = matches!(error.number(), 4008 | 4500..=4599);
    !error.is_transient() && !concerns_stream
}

fn join(mut pieces: Vec<Bytes>, len: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(len);
    for piece in pieces {
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}
