//! One PutMedia call without its socket (KVS API, PutMedia): bytes, time and what the archive
//! answered go in; acknowledgements and fragments to keep come out.
//!
//! Acknowledgements of one fragment come in their order, BUFFERING, RECEIVED, PERSISTED, and
//! PERSISTED in the order of the fragments. After an ERROR the upload reads on, and keeps nothing,
//! until the client ends: closing at once would cost it the acknowledgements that it has not read.

use super::metadata::Metadata;
use super::timeline::{Placed, ProducerSession, Timecodes, Timeline};
use crate::id::StreamId;
use crate::storage::{Appended, InitId, NewFragment, StorageError, TrackSpan};
use aws_lc_rs::digest;
use bytes::Bytes;
use lookback_packaging::{Chunk, Packager, TimedFrame};
use lookback_wire::matroska::{Event, Limits, ReadError, Reader};
use lookback_wire::{
    Ack, ErrorId, FragmentNumber, Frame, Payload, SimpleTag, Timestamp, TrackKind,
};
use std::collections::VecDeque;

/// Fragments on their way to the disk. One of 50 MB each: what a connection holds in memory is
/// bounded by this and the fragment that is arriving.
pub const MAX_IN_FLIGHT: usize = 4;
/// Silence after which IDLE is sent, again and again.
const IDLE_EVERY_MS: i64 = 10_000;
/// Silence after which the upload is ended, as the service does that producers were made for.
const IDLE_END_MS: i64 = 30_000;
/// A fragment that takes longer to arrive is given up: 50 MB at 1.4 Mbit/s.
const MAX_FRAGMENT_ARRIVAL_MS: i64 = 5 * 60 * 1_000;
/// How long a client may go on after an ERROR, and how much it may send: producers end within
/// 100 ms, and what they had in their socket buffers still arrives.
const MAX_DISCARD_MS: i64 = 10_000;
const MAX_DISCARD_BYTES: u64 = 64 << 20;

/// What the request's head says, and what is known beforehand.
#[derive(Debug)]
pub struct UploadFacts {
    pub stream: StreamId,
    pub timecodes: Timecodes,
    /// Footage older than this by its capture time is past what the plan keeps.
    pub kept_ms: i64,
    /// The producer session that uploaded to this stream before.
    pub earlier: Option<ProducerSession>,
}

/// What the caller is to do.
#[derive(Debug)]
pub enum Output {
    /// Send it.
    Ack(Ack),
    /// Keep it, then call [`Upload::stored`]; answers come in the order of these.
    Append(Box<NewFragment>),
}

/// How an upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// More bytes are welcome, unless [`MAX_IN_FLIGHT`] is reached.
    Open,
    /// All is said; the response ends.
    Ended,
    /// The connection is to be dropped.
    Broken,
}

/// One upload, from its first byte to its last acknowledgement.
pub struct Upload {
    facts: UploadFacts,
    next_number: Box<dyn FnMut(Timestamp) -> FragmentNumber + Send>,
    reader: Reader,
    tracks: Option<Tracks>,
    timeline: Timeline,
    fragment: Option<OpenFragment>,
    /// Of the fragment that is open, or of the next one.
    tags: Vec<SimpleTag>,
    /// Timecodes of the fragments that the archive has not answered.
    in_flight: VecDeque<u64>,
    outputs: VecDeque<Output>,
    input: Input,
    /// Whether anything went wrong: nothing is kept any more.
    has_failed: bool,
    /// Sent when all fragments before it are answered.
    error: Option<Ack>,
    /// Since when the upload may only finish its fragment.
    revoked_at: Option<Timestamp>,
    heard_at: Timestamp,
    idle_acks: i64,
    /// Capture minus arrival, of the newest fragment whose capture time was not believed.
    clock_skew_ms: Option<i64>,
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Read,
    /// An ERROR was or will be sent.
    Discard {
        since: Timestamp,
        bytes: u64,
    },
    /// There will be no more.
    Over,
    /// The client is gone or must be.
    Broken,
}

/// What the upload's header says, made ready.
#[derive(Debug)]
struct Tracks {
    packager: Packager,
    /// Track numbers, in the order of `inits`.
    numbers: Vec<u64>,
    inits: Vec<(InitId, Bytes)>,
    timecode_scale_ns: u64,
    segment_uid: Option<[u8; 16]>,
}

struct OpenFragment {
    timecode: u64,
    number: FragmentNumber,
    arrived_at: Timestamp,
    placed: Placed,
    /// By track, in the order of the header.
    chunks: Vec<Vec<Chunk>>,
    hash: digest::Context,
}

impl Upload {
    /// `next_number` answers the fragments' numbers, which rise.
    pub fn new(
        facts: UploadFacts,
        next_number: impl FnMut(Timestamp) -> FragmentNumber + Send + 'static,
        now: Timestamp,
    ) -> Self {
        let timeline = Timeline::new(facts.timecodes, facts.kept_ms, facts.earlier.clone());
        Self {
            facts,
            next_number: Box::new(next_number),
            reader: Reader::new(Limits::default()),
            tracks: None,
            timeline,
            fragment: None,
            tags: Vec::new(),
            in_flight: VecDeque::new(),
            outputs: VecDeque::new(),
            input: Input::Read,
            has_failed: false,
            error: None,
            revoked_at: None,
            heard_at: now,
            idle_acks: 0,
            clock_skew_ms: None,
        }
    }

    /// Takes bytes of the body, cut anywhere.
    pub fn push(&mut self, bytes: Bytes, now: Timestamp) {
        self.heard_at = now;
        self.idle_acks = 0;
        match &mut self.input {
            Input::Read => {
                self.reader.push(bytes);
                self.read(now);
            }
            Input::Discard { bytes: discarded, .. } => {
                *discarded = discarded.saturating_add(bytes.len() as u64);
                if *discarded > MAX_DISCARD_BYTES {
                    self.input = Input::Broken;
                }
            }
            Input::Over | Input::Broken => {}
        }
    }

    /// The body ended as it should.
    pub fn end(&mut self, now: Timestamp) {
        if self.input == Input::Read {
            match self.reader.finish() {
                Ok(events) => events.into_iter().for_each(|event| self.take(event, now)),
                Err(error) => self.refuse(error, now),
            }
        }
        self.over();
    }

    /// The client is gone: its unfinished fragment with it. What is whole is still kept.
    pub fn lost(&mut self) {
        self.fragment = None;
        self.input = Input::Broken;
    }

    /// The service ends the upload, without its unfinished fragment.
    pub fn close(&mut self) {
        self.fragment = None;
        self.over();
    }

    /// The right to upload ended: so does the upload, after the fragment that is arriving.
    pub fn revoke(&mut self, now: Timestamp) {
        if self.input == Input::Read && self.revoked_at.is_none() {
            self.revoked_at = Some(now);
            if self.fragment.is_none() {
                self.fail(ErrorId::MaxConnectionDurationReached, None, now);
            }
        }
    }

    /// What became of the oldest fragment that is on its way.
    pub fn stored(&mut self, result: &Result<Appended, StorageError>, now: Timestamp) {
        let Some(timecode) = self.in_flight.pop_front() else { return };
        match result {
            Ok(Appended::Stored(number) | Appended::Duplicate(number)) => {
                // Once a fragment failed, an acknowledgement of a later one would let the producer
                // forget the one that failed.
                if !self.has_failed {
                    let number = *number;
                    self.outputs.push_back(Output::Ack(Ack::Persisted { timecode, number }));
                }
            }
            Err(_) => self.fail(ErrorId::ArchivalError, Some(timecode), now),
        }
        self.settle();
    }

    /// Lets time pass. To be called at [`Upload::deadline`], sooner does no harm.
    pub fn tick(&mut self, now: Timestamp) {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            // The client is silent because it is not listened to.
            self.heard_at = now;
        }
        match self.input {
            Input::Read => {
                let silent_ms = now.millis_since(self.heard_at);
                while self.idle_acks < 3 && silent_ms >= (self.idle_acks + 1) * IDLE_EVERY_MS {
                    self.idle_acks += 1;
                    self.outputs.push_back(Output::Ack(Ack::Idle));
                }
                let arriving = self.fragment.as_ref();
                if silent_ms >= IDLE_END_MS {
                    self.close();
                } else if self.revoked_at.is_some_and(|at| now.millis_since(at) >= MAX_DISCARD_MS) {
                    self.fail(ErrorId::MaxConnectionDurationReached, None, now);
                } else if let Some(slow) = arriving
                    && now.millis_since(slow.arrived_at) >= MAX_FRAGMENT_ARRIVAL_MS
                {
                    let timecode = slow.timecode;
                    self.fail(ErrorId::StreamReadError, Some(timecode), now);
                }
            }
            Input::Discard { since, .. } if now.millis_since(since) >= MAX_DISCARD_MS => {
                self.input = Input::Broken;
            }
            Input::Discard { .. } | Input::Over | Input::Broken => {}
        }
    }

    /// When to call [`Upload::tick`] at the latest.
    pub fn deadline(&self) -> Timestamp {
        match self.input {
            Input::Discard { since, .. } => since.plus_millis(MAX_DISCARD_MS),
            _ => self.heard_at.plus_millis((self.idle_acks + 1) * IDLE_EVERY_MS),
        }
    }

    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn phase(&self) -> Phase {
        match self.input {
            Input::Over if self.in_flight.is_empty() && self.outputs.is_empty() => Phase::Ended,
            Input::Broken if self.in_flight.is_empty() && self.outputs.is_empty() => Phase::Broken,
            _ => Phase::Open,
        }
    }

    /// Whether bytes are to be read now; else the client is let wait.
    pub fn wants_bytes(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT
            && matches!(self.input, Input::Read | Input::Discard { .. })
    }

    /// What to know when this producer connects again.
    pub fn producer_session(&self) -> Option<&ProducerSession> {
        self.timeline.session()
    }

    /// How far the camera's clock is off, where that was noticed.
    pub fn clock_skew_ms(&self) -> Option<i64> {
        self.clock_skew_ms
    }

    fn over(&mut self) {
        if self.input != Input::Broken {
            self.input = Input::Over;
        }
        self.settle();
    }

    fn read(&mut self, now: Timestamp) {
        while self.input == Input::Read {
            match self.reader.next() {
                Ok(Some(event)) => self.take(event, now),
                Ok(None) => return,
                Err(error) => self.refuse(error, now),
            }
        }
    }

    fn refuse(&mut self, error: ReadError, now: Timestamp) {
        tracing::info!(stream = %self.facts.stream, %error, "upload refused");
        self.fail(error.id, error.timecode, now);
    }

    fn take(&mut self, event: Event, now: Timestamp) {
        if self.input != Input::Read {
            return;
        }
        match event {
            Event::Header(header) => match Packager::new(&header) {
                Ok(packager) => {
                    let inits = packager.inits().iter().map(|init| {
                        let stored = init.encode();
                        (init_id(&stored), stored)
                    });
                    self.tracks = Some(Tracks {
                        numbers: header.tracks.iter().map(|track| track.number).collect(),
                        inits: inits.collect(),
                        timecode_scale_ns: header.timecode_scale_ns,
                        segment_uid: header.segment_uid,
                        packager,
                    });
                }
                Err(error) => {
                    tracing::info!(stream = %self.facts.stream, %error, "upload refused");
                    self.fail(ErrorId::InvalidMkvData, None, now);
                }
            },
            Event::FragmentStart { timecode } => self.start_fragment(timecode, now),
            Event::Frame(frame) => self.add(frame),
            // Its size is bounded by the reader, which counts tags for each fragment.
            Event::Tag(tag) => self.tags.push(tag),
            Event::FragmentEnd { next_timecode } => {
                self.end_fragment(next_timecode, now);
                if self.revoked_at.is_some() {
                    self.fail(ErrorId::MaxConnectionDurationReached, None, now);
                }
            }
        }
    }

    fn start_fragment(&mut self, timecode: u64, now: Timestamp) {
        let Some(tracks) = &mut self.tracks else { return };
        tracks.packager.abandon();
        let placed =
            self.timeline.place(timecode, tracks.timecode_scale_ns, tracks.segment_uid, now);
        if placed.is_moved() {
            self.clock_skew_ms = Some(placed.capture.millis_since(now));
        }
        let number = (self.next_number)(now);
        self.outputs.push_back(Output::Ack(Ack::Buffering { timecode, number }));
        self.fragment = Some(OpenFragment {
            timecode,
            number,
            arrived_at: now,
            placed,
            chunks: vec![Vec::new(); tracks.inits.len()],
            hash: digest::Context::new(&digest::SHA256),
        });
    }

    fn add(&mut self, frame: Frame) {
        let (Some(tracks), Some(fragment)) = (&mut self.tracks, &mut self.fragment) else { return };
        let Some(track) = tracks.numbers.iter().position(|&number| number == frame.track) else {
            return;
        };
        frame.payload.parts().iter().for_each(|part| fragment.hash.update(part));
        let scale_ns = tracks.timecode_scale_ns;
        let chunks = tracks.packager.push(TimedFrame {
            track,
            time_ns: fragment.placed.time_ns(frame.timecode, scale_ns),
            duration_ns: frame.duration.map(|units| units.saturating_mul(scale_ns)),
            key: frame.key,
            payload: frame.payload,
        });
        fragment.keep(chunks);
    }

    fn end_fragment(&mut self, next_timecode: Option<u64>, now: Timestamp) {
        let (Some(tracks), Some(mut fragment)) = (&mut self.tracks, self.fragment.take()) else {
            return;
        };
        let next_start_ns = next_timecode.map(|timecode| {
            let timecode = i64::try_from(timecode).unwrap_or(i64::MAX);
            fragment.placed.time_ns(timecode, tracks.timecode_scale_ns)
        });
        fragment.keep(tracks.packager.finish(next_start_ns));
        let (timecode, number) = (fragment.timecode, fragment.number);
        let metadata = Metadata {
            tags: std::mem::take(&mut self.tags),
            producer: self.timeline.session().cloned(),
        };
        match fragment.close(self.facts.stream, tracks, &metadata) {
            Some(whole) => {
                self.outputs.push_back(Output::Ack(Ack::Received { timecode, number }));
                self.outputs.push_back(Output::Append(Box::new(whole)));
                self.in_flight.push_back(timecode);
            }
            None => self.fail(ErrorId::InvalidMkvData, Some(timecode), now),
        }
    }

    fn fail(&mut self, error: ErrorId, timecode: Option<u64>, now: Timestamp) {
        self.fragment = None;
        if !self.has_failed {
            self.has_failed = true;
            self.error = Some(Ack::Error { timecode, number: None, error });
        }
        if self.input == Input::Read {
            self.input = Input::Discard { since: now, bytes: 0 };
        }
        self.settle();
    }

    /// Sends the ERROR when nothing before it is unanswered.
    fn settle(&mut self) {
        if self.in_flight.is_empty() {
            self.outputs.extend(self.error.take().map(Output::Ack));
        }
    }
}

impl OpenFragment {
    fn keep(&mut self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            if let Some(track) = self.chunks.get_mut(chunk.track) {
                track.push(chunk);
            }
        }
    }

    /// The fragment as it is kept; `None` where no track has anything in it.
    fn close(self, stream: StreamId, tracks: &Tracks, metadata: &Metadata) -> Option<NewFragment> {
        let mut body = Payload::new();
        let mut chunk_lens = Vec::new();
        let mut spans = Vec::with_capacity(self.chunks.len());
        let mut inits = Vec::with_capacity(self.chunks.len());
        let described = tracks.packager.inits().iter().zip(&tracks.inits);
        for (chunks, (init, stored)) in self.chunks.into_iter().zip(described) {
            let Some(first) = chunks.first() else { continue };
            // The reader lets no fragment through that is near 4 GiB.
            let offset = u32::try_from(body.len()).ok()?;
            let mut span = TrackSpan {
                init: stored.0,
                is_video: init.kind == TrackKind::Video,
                key: first.key,
                decode_time: first.decode_time,
                duration: 0,
                timescale: init.timescale,
                offset,
                len: 0,
            };
            for chunk in chunks {
                span.duration = span.duration.saturating_add(chunk.duration);
                let len = u32::try_from(chunk.len()).ok()?;
                span.len = span.len.checked_add(len)?;
                chunk_lens.push(len);
                body.push(chunk.head);
                for part in chunk.samples.into_iter().flat_map(Payload::into_parts) {
                    body.push(part);
                }
            }
            spans.push(span);
            inits.push(stored.clone());
        }
        // What is seen decides where the fragment lies; sound alone, where there is no picture.
        let lead = spans.iter().find(|span| span.is_video).or(spans.first())?;
        let start_ms = millis(lead.decode_time, lead.timescale);
        let end_ms = millis(lead.decode_time.saturating_add(lead.duration), lead.timescale);
        let mut payload_hash = [0; 16];
        payload_hash.copy_from_slice(self.hash.finish().as_ref().get(..16)?);
        Some(NewFragment {
            stream,
            number: self.number,
            start: Timestamp::from_millis(start_ms),
            duration_ms: u32::try_from(end_ms.saturating_sub(start_ms)).unwrap_or(u32::MAX).max(1),
            capture_start: self.placed.capture,
            arrived_at: self.arrived_at,
            payload_hash,
            tracks: spans,
            inits,
            body,
            chunk_lens,
            metadata: metadata.encode(),
        })
    }
}

/// Ticks to the nearest millisecond.
fn millis(ticks: u64, timescale: u32) -> i64 {
    let timescale = u128::from(timescale.max(1));
    let millis = (u128::from(ticks) * 1_000 + timescale / 2) / timescale;
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn init_id(stored: &[u8]) -> InitId {
    let hash = digest::digest(&digest::SHA256, stored);
    let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
    InitId(u64::from_be_bytes(first))
}
