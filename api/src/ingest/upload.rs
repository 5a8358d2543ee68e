//! One PutMedia call without its socket (KVS API, PutMedia): bytes, time and what the archive
//! answered go in; acknowledgements and fragments to keep come out.
//!
//! Acknowledgements of one fragment come in their order, BUFFERING, RECEIVED, PERSISTED, and
//! PERSISTED in the order of the fragments. After an ERROR the upload reads on, and keeps nothing,
//! until the client ends: closing at once would cost it the acknowledgements that it has not read.

use super::metadata::Metadata;
use super::timeline::{Placed, ProducerSession, Timecodes, Timeline};
use crate::arriving;
use crate::id::StreamId;
use crate::storage::{Appended, InitId, NewFragment, StorageError, TrackSpan, TrackSpans};
use aws_lc_rs::digest;
use bytes::Bytes;
use lookback_packaging::{Chunk, Packager, TimedFrame};
use lookback_wire::matroska::{Event, Limits, ReadError, Reader};
use lookback_wire::{
    Ack, ErrorId, FragmentNumber, Frame, Payload, SimpleTag, Timestamp, TrackKind,
};
use std::collections::VecDeque;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// Fragments of one upload on their way to the disk; one where all uploads are
/// [behind](super::unkept::Room::Behind).
pub const MAX_IN_FLIGHT: usize = 4;
/// Frames of one fragment: 20 s of 240 pictures and 1,000 packets of audio a second are below it.
const MAX_FRAMES: usize = 32_768;
/// What keeping track of a frame takes beside its bytes, which may be as few as one.
const FRAME_OVERHEAD_BYTES: u64 = 256;
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
    /// Whether PERSISTED may be said: not where nothing is to be kept.
    pub is_archived: bool,
    /// The producer sessions that uploaded to this stream before.
    pub earlier: Vec<ProducerSession>,
    pub limits: Limits,
    /// How long the upload may last, where that is bounded.
    pub lasts_ms: Option<i64>,
}

/// What the caller is to do.
#[derive(Debug)]
pub enum Output {
    /// Send it.
    Ack(Ack),
    /// Keep it, then call [`Upload::stored`]; answers come in the order of these.
    Append(Box<NewFragment>),
}

/// What of a fragment arrived, before the fragment is whole.
#[derive(Debug)]
pub enum Arrival {
    Begin { number: FragmentNumber, at: Timestamp, tracks: Arc<[arriving::Track]> },
    Part { number: FragmentNumber, part: arriving::Part },
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
    /// The fragments that the archive has not answered.
    in_flight: VecDeque<InFlight>,
    /// Held in memory of what arrived since the last fragment ended.
    arriving_bytes: u64,
    /// Whether more may be read while fragments are on their way.
    may_run_ahead: bool,
    outputs: VecDeque<Output>,
    arrivals: Vec<Arrival>,
    input: Input,
    /// Whether an ERROR was or will be sent: nothing is kept any more.
    has_failed: bool,
    /// Whether the archive failed to keep a fragment.
    has_lost: bool,
    /// Sent when all fragments before it are answered.
    error: Option<Ack>,
    /// Why the upload may only finish its fragment, and since when.
    revoked: Option<(ErrorId, Timestamp)>,
    begun_at: Timestamp,
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
    /// The client is to be dropped.
    Broken,
}

/// What the upload's header says, made ready.
#[derive(Debug)]
struct Tracks {
    packager: Packager,
    /// Track numbers, in the order of `inits`.
    numbers: Vec<u64>,
    inits: Vec<(InitId, Bytes)>,
    arriving: Arc<[arriving::Track]>,
    timecode_scale_ns: u64,
    segment_uid: Option<[u8; 16]>,
}

#[derive(Debug)]
struct InFlight {
    timecode: u64,
    number: FragmentNumber,
    bytes: u64,
}

struct OpenFragment {
    timecode: u64,
    number: FragmentNumber,
    arrived_at: Timestamp,
    placed: Placed,
    /// By track, in the order of the header.
    chunks: Vec<Vec<Chunk>>,
    frames: usize,
    /// Tells a re-sent fragment from another of the same start. Who could find a collision can only
    /// have fragments of his own taken for each other, so it is chosen for its speed.
    hash: XxHash3_128,
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
            next_number: Box::new(next_number),
            reader: Reader::new(facts.limits.clone()),
            facts,
            tracks: None,
            timeline,
            fragment: None,
            tags: Vec::new(),
            in_flight: VecDeque::new(),
            arriving_bytes: 0,
            may_run_ahead: true,
            outputs: VecDeque::new(),
            arrivals: Vec::new(),
            input: Input::Read,
            has_failed: false,
            has_lost: false,
            error: None,
            revoked: None,
            begun_at: now,
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
                self.arriving_bytes = self.arriving_bytes.saturating_add(bytes.len() as u64);
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

    /// The client is gone, or the service is on its way down: the unfinished fragment is dropped,
    /// and what is whole is still kept.
    pub fn close(&mut self) {
        self.forget();
        self.over();
    }

    /// The client does not behave: its connection is to be dropped.
    pub fn drop_client(&mut self) {
        self.forget();
        self.input = Input::Broken;
    }

    /// The right to upload ended, for this reason: so does the upload, after the fragment that is
    /// arriving.
    pub fn revoke(&mut self, reason: ErrorId, now: Timestamp) {
        if self.input == Input::Read && self.revoked.is_none() {
            self.revoked = Some((reason, now));
            if self.fragment.is_none() {
                self.fail(reason, None, now);
            }
        }
    }

    /// There is no memory for the fragment that is arriving: the client is to send it again.
    pub fn refuse_for_memory(&mut self, now: Timestamp) {
        if self.input == Input::Read {
            tracing::warn!(stream = %self.facts.stream, "an upload is refused for want of memory");
            let begun = self.fragment.as_ref().map(|begun| (begun.timecode, begun.number));
            self.fail(ErrorId::ArchivalError, begun, now);
        }
    }

    /// Says whether more may be read while fragments are on their way to the disk.
    pub fn let_run_ahead(&mut self, may: bool) {
        self.may_run_ahead = may;
    }

    /// What became of the oldest fragment that is on its way.
    pub fn stored(&mut self, result: &Result<Appended, StorageError>, now: Timestamp) {
        let Some(InFlight { timecode, number, .. }) = self.in_flight.pop_front() else { return };
        match result {
            Ok(Appended::Stored(number) | Appended::Duplicate(number)) => {
                // Once a fragment is lost, an acknowledgement of a later one would let the producer
                // forget the lost one.
                if !self.has_lost && self.facts.is_archived {
                    let number = *number;
                    self.outputs.push_back(Output::Ack(Ack::Persisted { timecode, number }));
                }
            }
            Err(error) => {
                self.has_lost = true;
                let id = match error {
                    StorageError::Full(_)
                    | StorageError::OverQuota(_)
                    | StorageError::Unavailable(_) => ErrorId::ArchivalError,
                    StorageError::Damaged(_) | StorageError::NotSupported(_) => {
                        ErrorId::InternalError
                    }
                };
                self.fail(id, Some((timecode, number)), now);
            }
        }
        self.settle();
        self.read(now);
    }

    /// Lets time pass. To be called at [`Upload::deadline`], sooner does no harm.
    pub fn tick(&mut self, now: Timestamp) {
        if self.is_held_off() {
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
                let lasted_ms = now.millis_since(self.begun_at);
                if silent_ms >= IDLE_END_MS {
                    self.close();
                } else if let Some((reason, since)) = self.revoked
                    && now.millis_since(since) >= MAX_DISCARD_MS
                {
                    self.fail(reason, None, now);
                } else if let Some(slow) = arriving
                    && now.millis_since(slow.arrived_at) >= MAX_FRAGMENT_ARRIVAL_MS
                {
                    let slow = (slow.timecode, slow.number);
                    self.fail(ErrorId::StreamReadError, Some(slow), now);
                } else if self.facts.lasts_ms.is_some_and(|lasts_ms| lasted_ms >= lasts_ms) {
                    self.revoke(ErrorId::MaxConnectionDurationReached, now);
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

    /// What arrived since this was asked last; to be taken before the outputs.
    pub fn take_arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// The fragment that is arriving.
    pub fn arriving(&self) -> Option<FragmentNumber> {
        self.fragment.as_ref().map(|fragment| fragment.number)
    }

    /// Bytes in memory of the fragment that is arriving, the reader's included.
    pub fn arriving_bytes(&self) -> u64 {
        self.arriving_bytes
    }

    /// Bytes in memory of the fragments that are on their way to the disk.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.iter().map(|fragment| fragment.bytes).sum()
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
        !self.is_held_off() && matches!(self.input, Input::Read | Input::Discard { .. })
    }

    /// Whether fragments have to be kept before more is read.
    fn is_held_off(&self) -> bool {
        let most = if self.may_run_ahead { MAX_IN_FLIGHT } else { 1 };
        self.in_flight.len() >= most
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

    /// Reads on in what was pushed. Fragments as small as a frame of a byte are no more at once than
    /// others: the rest waits in the reader.
    fn read(&mut self, now: Timestamp) {
        while self.input == Input::Read && !self.is_held_off() {
            match self.reader.next() {
                Ok(Some(event)) => self.take(event, now),
                Ok(None) => return,
                Err(error) => self.refuse(error, now),
            }
        }
    }

    fn refuse(&mut self, error: ReadError, now: Timestamp) {
        tracing::info!(stream = %self.facts.stream, %error, "upload refused");
        let begun = self.fragment.as_ref().map(|begun| (begun.timecode, begun.number));
        match error.timecode {
            // A fragment that is refused for its timecode has no number yet.
            Some(timecode) if begun.is_none_or(|(begun, _)| begun != timecode) => {
                let number = (self.next_number)(now);
                self.fail(error.id, Some((timecode, number)), now);
            }
            Some(_) => self.fail(error.id, begun, now),
            None => self.fail(error.id, None, now),
        }
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
                    let inits: Vec<(InitId, Bytes)> = inits.collect();
                    let arriving = packager.inits().iter().zip(&inits).map(|(init, (id, _))| {
                        arriving::Track {
                            init: *id,
                            is_video: init.kind == TrackKind::Video,
                            timescale: init.timescale,
                        }
                    });
                    self.tracks = Some(Tracks {
                        arriving: arriving.collect(),
                        numbers: header.tracks.iter().map(|track| track.number).collect(),
                        inits,
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
            Event::Frame(frame) => self.add(frame, now),
            // Its size is bounded by the reader, which counts tags for each fragment.
            Event::Tag(tag) => self.tags.push(tag),
            Event::FragmentEnd { next_timecode } => {
                self.end_fragment(next_timecode, now);
                if let Some((reason, _)) = self.revoked {
                    self.fail(reason, None, now);
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
        self.arrivals.push(Arrival::Begin { number, at: now, tracks: tracks.arriving.clone() });
        self.fragment = Some(OpenFragment {
            timecode,
            number,
            arrived_at: now,
            placed,
            chunks: vec![Vec::new(); tracks.inits.len()],
            frames: 0,
            hash: XxHash3_128::new(),
        });
    }

    fn add(&mut self, frame: Frame, now: Timestamp) {
        let (Some(tracks), Some(fragment)) = (&mut self.tracks, &mut self.fragment) else { return };
        if fragment.frames >= MAX_FRAMES {
            let begun = (fragment.timecode, fragment.number);
            self.fail(ErrorId::MaxFragmentSizeReached, Some(begun), now);
            return;
        }
        fragment.frames += 1;
        self.arriving_bytes = self.arriving_bytes.saturating_add(FRAME_OVERHEAD_BYTES);
        let Some(track) = tracks.numbers.iter().position(|&number| number == frame.track) else {
            return;
        };
        frame.payload.parts().iter().for_each(|part| fragment.hash.write(part));
        let scale_ns = tracks.timecode_scale_ns;
        let chunks = tracks.packager.push(TimedFrame {
            track,
            time_ns: fragment.placed.time_ns(frame.timecode, scale_ns),
            duration_ns: frame.duration.map(|units| units.saturating_mul(scale_ns)),
            key: frame.key,
            payload: frame.payload,
        });
        self.arrivals.extend(fragment.keep(chunks));
    }

    fn end_fragment(&mut self, next_timecode: Option<u64>, now: Timestamp) {
        let (Some(tracks), Some(mut fragment)) = (&mut self.tracks, self.fragment.take()) else {
            return;
        };
        let next_start_ns = next_timecode.map(|timecode| {
            let timecode = i64::try_from(timecode).unwrap_or(i64::MAX);
            fragment.placed.time_ns(timecode, tracks.timecode_scale_ns)
        });
        self.arrivals.extend(fragment.keep(tracks.packager.finish(next_start_ns)));
        let (timecode, number) = (fragment.timecode, fragment.number);
        let metadata = Metadata {
            tags: std::mem::take(&mut self.tags),
            producer: self.timeline.session().cloned(),
        };
        match fragment.close(self.facts.stream, tracks, &metadata) {
            Some(whole) => {
                self.outputs.push_back(Output::Ack(Ack::Received { timecode, number }));
                self.outputs.push_back(Output::Append(Box::new(whole)));
                // What is left of the piece that it ended in, at most a receive buffer, is not told
                // apart from it.
                let bytes = std::mem::take(&mut self.arriving_bytes);
                self.in_flight.push_back(InFlight { timecode, number, bytes });
            }
            None => self.fail(ErrorId::InvalidMkvData, Some((timecode, number)), now),
        }
    }

    /// `fragment`: the timecode and the number of the one that it concerns. Producers take an ERROR
    /// without them for one of what they send just now.
    fn fail(&mut self, error: ErrorId, fragment: Option<(u64, FragmentNumber)>, now: Timestamp) {
        self.forget();
        self.tracks = None;
        if !self.has_failed {
            self.has_failed = true;
            let (timecode, number) = fragment.unzip();
            self.error = Some(Ack::Error { timecode, number, error });
        }
        if self.input == Input::Read {
            self.input = Input::Discard { since: now, bytes: 0 };
        }
        self.settle();
    }

    /// Drops what is half read.
    fn forget(&mut self) {
        self.fragment = None;
        self.arriving_bytes = 0;
        self.reader = Reader::new(self.facts.limits.clone());
    }

    /// Sends the ERROR when nothing before it is unanswered.
    fn settle(&mut self) {
        if self.in_flight.is_empty() {
            self.outputs.extend(self.error.take().map(Output::Ack));
        }
    }
}

impl OpenFragment {
    /// Adds chunks; answers them as the parts that they are to those who watch.
    fn keep(&mut self, chunks: Vec<Chunk>) -> Vec<Arrival> {
        let mut parts = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let mut bytes = Payload::from(chunk.head.clone());
            let samples = chunk.samples.iter().flat_map(Payload::parts);
            samples.for_each(|sample| bytes.push(sample.clone()));
            let part = arriving::Part {
                track: chunk.track,
                decode_time: chunk.decode_time,
                duration: chunk.duration,
                key: chunk.key,
                bytes,
            };
            parts.push(Arrival::Part { number: self.number, part });
            if let Some(track) = self.chunks.get_mut(chunk.track) {
                track.push(chunk);
            }
        }
        parts
    }

    /// The fragment as it is kept; `None` where no track has anything in it.
    fn close(self, stream: StreamId, tracks: &Tracks, metadata: &Metadata) -> Option<NewFragment> {
        let mut body = Payload::new();
        let mut chunk_lens = Vec::new();
        let mut spans = TrackSpans::new();
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
        let (start, end) = (lead.start(), lead.end());
        Some(NewFragment {
            stream,
            number: self.number,
            start,
            duration_ms: u32::try_from(end.millis_since(start)).unwrap_or(u32::MAX).max(1),
            capture_start: self.placed.capture,
            arrived_at: self.arrived_at,
            payload_hash: self.hash.finish_128().to_be_bytes(),
            tracks: spans,
            inits,
            body,
            chunk_lens,
            metadata: metadata.encode(),
        })
    }
}

fn init_id(stored: &[u8]) -> InitId {
    let hash = digest::digest(&digest::SHA256, stored);
    let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
    InitId(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::unkept::{MAX_AHEAD_BYTES, Room, Unkept};
    use lookback_wire::matroska::writer;
    use lookback_wire::{Track, UploadHeader};

    const NOW: i64 = 1_800_000_000_000;
    /// `avcC` of a 640x360 stream without B-frames.
    const AVCC: &str = "0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb\
                        83cb20";
    const ASC: &[u8] = &[0x11, 0x90];

    fn hex(text: &str) -> Bytes {
        let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn track(number: u64, kind: TrackKind) -> Track {
        let is_video = kind == TrackKind::Video;
        Track {
            number,
            uid: number,
            kind,
            name: None,
            codec_id: if is_video { "V_MPEG4/ISO/AVC" } else { "A_AAC" }.into(),
            codec_private: if is_video { hex(AVCC) } else { Bytes::from_static(ASC) },
            default_duration_ns: None,
            width: 640 * u32::from(is_video),
            height: 360 * u32::from(is_video),
            sampling_hz: 48_000.0 * f64::from(u8::from(!is_video)),
            channels: 2 * u32::from(!is_video),
            bit_depth: 0,
        }
    }

    fn header(tracks: &[Track]) -> Vec<u8> {
        writer::header(&UploadHeader {
            segment_uid: Some([5; 16]),
            timecode_scale_ns: 1_000_000,
            tracks: tracks.to_vec(),
        })
        .to_vec()
    }

    fn video() -> Vec<u8> {
        header(&[track(1, TrackKind::Video)])
    }

    /// A fragment of `seconds` of 10 frames, of pictures that differ by `seed`.
    fn fragment_of(timecode: u64, seconds: i16, seed: u8) -> Vec<u8> {
        let mut out = writer::cluster(timecode).to_vec();
        for i in 0..seconds * 10 {
            let payload = Payload::from(vec![0, 0, 0, 4, 0x65, seed, i as u8, 1]);
            out.extend(writer::simple_block(1, i * 100, i == 0, &payload));
            out.extend(payload.to_bytes());
        }
        out
    }

    fn fragment(timecode: u64) -> Vec<u8> {
        fragment_of(timecode, 1, 0)
    }

    fn tag(name: &str) -> Vec<u8> {
        let tag = SimpleTag { name: name.into(), value: String::new() };
        writer::tags(&[tag]).to_vec()
    }

    fn end_of_fragment() -> Vec<u8> {
        tag("AWS_KINESISVIDEO_END_OF_FRAGMENT")
    }

    enum Step {
        Push(Vec<u8>),
        /// The archive answers.
        Stored,
        Duplicate(u64),
        Full,
        Damaged,
        WaitMs(i64),
        End,
        Lost,
        Revoke(ErrorId),
        LackMemory,
    }
    use Step::*;

    fn upload(timecodes: Timecodes) -> Upload {
        let facts = UploadFacts {
            stream: StreamId::new(Timestamp::from_millis(NOW)),
            timecodes,
            kept_ms: 7 * 86_400_000,
            is_archived: true,
            earlier: Vec::new(),
            limits: Limits::default(),
            lasts_ms: Some(60_000),
        };
        let mut numbers = 0;
        let next_number = move |_| {
            numbers += 1;
            FragmentNumber(numbers)
        };
        Upload::new(facts, next_number, Timestamp::from_millis(NOW))
    }

    fn line(output: &Output) -> String {
        match output {
            Output::Ack(Ack::Buffering { timecode, number }) => {
                format!("buffering {timecode} {}", number.0)
            }
            Output::Ack(Ack::Received { timecode, number }) => {
                format!("received {timecode} {}", number.0)
            }
            Output::Ack(Ack::Persisted { timecode, number }) => {
                format!("persisted {timecode} {}", number.0)
            }
            Output::Ack(Ack::Error { timecode, number, error }) => {
                match timecode.zip(number.as_ref()) {
                    Some((timecode, n)) => {
                        format!("error {} at {timecode} {}", error.number(), n.0)
                    }
                    None => format!("error {}", error.number()),
                }
            }
            Output::Ack(Ack::Idle) => "idle".into(),
            Output::Append(f) => format!(
                "append {} +{} ms, {} chunks",
                f.start.as_millis(),
                f.duration_ms,
                f.chunk_lens.len()
            ),
        }
    }

    /// Runs an upload of RELATIVE timecodes that count from `NOW`; answers what came out, each
    /// step's behind a line of its own, and last how the upload stands.
    fn check(steps: Vec<Step>, expected: &[&str]) {
        let start = Timecodes::Relative { producer_start: Timestamp::from_millis(NOW) };
        let mut upload = upload(start);
        let mut now = Timestamp::from_millis(NOW);
        let mut lines = Vec::new();
        for step in steps {
            match step {
                Push(bytes) => upload.push(bytes.into(), now),
                Stored => upload.stored(&Ok(Appended::Stored(FragmentNumber(70))), now),
                Duplicate(n) => upload.stored(&Ok(Appended::Duplicate(FragmentNumber(n))), now),
                Damaged => upload.stored(&Err(StorageError::Damaged("torn".into())), now),
                Full => upload.stored(&Err(StorageError::Full("no space".into())), now),
                WaitMs(ms) => {
                    now = now.plus_millis(ms);
                    upload.tick(now);
                }
                End => upload.end(now),
                Lost => upload.close(),
                Revoke(reason) => upload.revoke(reason, now),
                LackMemory => upload.refuse_for_memory(now),
            }
            while let Some(output) = upload.next_output() {
                lines.push(line(&output).replace(&NOW.to_string()[..7], "NOW"));
            }
        }
        lines.push(format!("{:?}", upload.phase()).to_lowercase());
        assert_eq!(lines, expected);
    }

    #[test]
    fn acknowledges_each_fragment_in_order() {
        check(
            vec![
                Push(video()),
                Push(fragment(0)),
                Push(fragment(1_000)),
                Stored,
                Push(end_of_fragment()),
                Duplicate(33),
                End,
            ],
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "buffering 1000 2",
                "persisted 0 70",
                "received 1000 2",
                "append NOW001000 +1000 ms, 2 chunks",
                "persisted 1000 33",
                "ended",
            ],
        );
    }

    #[test]
    fn the_end_of_the_body_ends_the_last_fragment() {
        check(
            vec![Push(video()), Push(fragment(0)), End],
            &["buffering 0 1", "received 0 1", "append NOW000000 +1000 ms, 2 chunks", "open"],
        );
        // A body that is nothing, or nothing but tags, as Amazon's producers send after an ERROR.
        check(vec![End], &["ended"]);
        check(vec![Push(end_of_fragment()), End], &["ended"]);
    }

    #[test]
    fn a_fragment_that_was_cut_off_is_dropped() {
        let mut cut = fragment(1_000);
        cut.truncate(cut.len() - 3);
        let whole = |last: Step| {
            let body = [video(), fragment(0), cut.clone()].concat();
            vec![Push(body), Stored, last]
        };
        let expected = [
            "buffering 0 1",
            "received 0 1",
            "append NOW000000 +1000 ms, 2 chunks",
            "buffering 1000 2",
            "persisted 0 70",
        ];
        check(whole(Lost), &[&expected[..], &["ended"]].concat());
        check(whole(End), &[&expected[..], &["error 4000 at 1000 2", "ended"]].concat());
    }

    #[test]
    fn an_error_waits_for_the_fragments_before_it_and_ends_them_all() {
        let bad = [video(), fragment(2_000), fragment(2_000), fragment(9_000)].concat();
        let before = ["buffering 2000 1", "received 2000 1", "append NOW002000 +1000 ms, 2 chunks"];
        let told = ["persisted 2000 70", "error 4004 at 2000 2"];
        check(
            vec![Push(bad.clone()), Stored, Push(vec![0; 1_000]), End],
            &[&before[..], &told, &["ended"]].concat(),
        );
        // Who does not end after it is dropped, after a while or a lot.
        check(
            vec![Push(bad.clone()), Stored, WaitMs(9_999), Push(vec![1]), WaitMs(1)],
            &[&before[..], &told, &["broken"]].concat(),
        );
        let much = vec![0; MAX_DISCARD_BYTES as usize + 1];
        check(vec![Push(bad), Stored, Push(much)], &[&before[..], &told, &["broken"]].concat());
    }

    #[test]
    fn each_bad_upload_gets_its_error() {
        let mut missing_key = writer::cluster(0).to_vec();
        let payload = Payload::from(vec![0, 0, 0, 1, 0x41]);
        missing_key.extend(writer::simple_block(1, 0, false, &payload));
        missing_key.extend(payload.to_bytes());
        let block = |track, bytes: usize| {
            let payload = Payload::from(vec![0; bytes]);
            let header = writer::simple_block(track, 0, true, &payload);
            [&header[..], &payload.to_bytes()].concat()
        };
        let large = [&writer::cluster(0)[..], &block(1, 51 << 20)].concat();
        let unknown_track = [&writer::cluster(0)[..], &block(9, 8)].concat();
        let tags = |count: usize, name: usize, value: usize| {
            let tag = SimpleTag { name: "n".repeat(name), value: "v".repeat(value) };
            writer::tags(&vec![tag; count]).to_vec()
        };
        let unusable =
            Track { codec_private: Bytes::from_static(b"?"), ..track(1, TrackKind::Video) };
        let audio_missing = header(&[track(1, TrackKind::Video), track(2, TrackKind::Audio)]);
        let four: Vec<Track> = (1..=4).map(|n| track(n, TrackKind::Audio)).collect();
        let table: Vec<(Vec<u8>, &[&str])> = vec![
            (vec![0xFF; 100], &["error 4006"]),
            (header(&four), &["error 4012"]),
            ([header(&[unusable]), fragment(0)].concat(), &["error 4006"]),
            ([video(), missing_key].concat(), &["buffering 0 1", "error 4006 at 0 1"]),
            (
                [audio_missing, fragment(0), fragment(1_000)].concat(),
                &["buffering 0 1", "error 4011 at 0 1"],
            ),
            ([video(), fragment_of(0, 22, 0)].concat(), &["buffering 0 1", "error 4002 at 0 1"]),
            ([video(), large].concat(), &["buffering 0 1", "error 4001 at 0 1"]),
            ([video(), unknown_track].concat(), &["buffering 0 1", "error 4010 at 0 1"]),
            (
                [video(), fragment(0), tags(11, 1, 1)].concat(),
                &["buffering 0 1", "error 4009 at 0 1"],
            ),
            (
                [video(), fragment(0), tags(1, 129, 1)].concat(),
                &["buffering 0 1", "error 4009 at 0 1"],
            ),
            (
                [video(), fragment(0), tags(1, 1, 257)].concat(),
                &["buffering 0 1", "error 4009 at 0 1"],
            ),
            ([video(), tags(11, 1, 1)].concat(), &["error 4009"]),
            // A second Segment, and Tracks among the fragments.
            ([video(), fragment(0), video()].concat(), &["buffering 0 1", "error 4006 at 0 1"]),
        ];
        for (body, expected) in table {
            check(vec![Push(body), End], &[expected, &["ended"]].concat());
        }
    }

    #[test]
    fn a_full_disk_is_an_error_at_the_fragment_that_found_it() {
        let body = [video(), fragment(0), fragment(1_000), fragment(2_000)].concat();
        check(
            vec![Push(body), Full, Stored, End],
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "buffering 1000 2",
                "received 1000 2",
                "append NOW001000 +1000 ms, 2 chunks",
                "buffering 2000 3",
                // The second was kept, and is not said to be: the producer sends from the first on.
                "error 5001 at 0 1",
                "ended",
            ],
        );
    }

    #[test]
    fn what_there_is_no_memory_for_is_sent_again() {
        let [before, arriving] = [fragment(0), fragment(1_000)];
        check(
            vec![Push([video(), before, arriving].concat()), LackMemory, Stored, End],
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "buffering 1000 2",
                "persisted 0 70",
                "error 5001 at 1000 2",
                "ended",
            ],
        );
        let mut upload = upload(Timecodes::Absolute);
        let now = Timestamp::from_millis(NOW);
        upload.push([video(), fragment(0)].concat().into(), now);
        assert!(upload.arriving_bytes() > 0);
        upload.refuse_for_memory(now);
        assert_eq!((upload.arriving_bytes(), upload.in_flight_bytes()), (0, 0));
    }

    #[test]
    fn small_fragments_are_no_more_at_once_than_others() {
        let mut upload = upload(Timecodes::Absolute);
        let now = Timestamp::from_millis(NOW);
        let fragments: Vec<u8> = (0..100).flat_map(|n| fragment(n * 1_000)).collect();
        upload.push([video(), fragments, end_of_fragment()].concat().into(), now);
        let mut kept = 0;
        loop {
            let outputs = std::iter::from_fn(|| upload.next_output());
            let appends = outputs.filter(|output| matches!(output, Output::Append(_))).count();
            assert!(upload.in_flight.len() <= MAX_IN_FLIGHT && appends <= MAX_IN_FLIGHT);
            if upload.in_flight.is_empty() {
                break;
            }
            upload.stored(&Ok(Appended::Stored(FragmentNumber(kept))), now);
            kept += 1;
        }
        assert_eq!(kept, 100);
    }

    #[test]
    fn frames_of_a_byte_are_bounded() {
        let mut body = [video(), fragment(0)].concat();
        let payload = Payload::from(vec![1]);
        let frame = [&writer::simple_block(1, 1_000, false, &payload)[..], &[1]].concat();
        body.extend(frame.repeat(MAX_FRAMES - 10));
        check(vec![Push(body.clone()), Lost], &["buffering 0 1", "ended"]);
        body.extend(frame);
        check(vec![Push(body), Lost], &["buffering 0 1", "error 4001 at 0 1", "ended"]);
    }

    /// Many uploads that send all they may, to a disk that keeps one fragment in a while.
    #[test]
    fn what_is_in_memory_is_bounded_and_all_is_kept() {
        const UPLOADS: usize = 20;
        const FRAGMENTS: u64 = 4;
        let now = Timestamp::from_millis(NOW);
        let mut body = video();
        for timecode in 0..FRAGMENTS {
            body.extend(writer::cluster(timecode * 100));
            let payload = Payload::from(vec![7; 1 << 20]);
            body.extend(writer::simple_block(1, 0, true, &payload));
            body.extend(payload.to_bytes());
        }
        body.extend(end_of_fragment());
        let body = Bytes::from(body);
        let unkept = Unkept::new(1 << 30);
        let mut uploads: Vec<_> = (0..UPLOADS)
            .map(|_| (upload(Timecodes::Absolute), body.clone(), unkept.share()))
            .collect();
        let mut disk: VecDeque<(usize, NewFragment)> = VecDeque::new();
        let (mut kept, mut most) = (0, 0);
        while kept < UPLOADS as u64 * FRAGMENTS {
            for (index, (upload, rest, share)) in uploads.iter_mut().enumerate() {
                let room = share.set(upload.arriving_bytes(), upload.in_flight_bytes());
                upload.let_run_ahead(room == Room::Ahead);
                if upload.wants_bytes() {
                    let piece = rest.split_to(rest.len().min(64 << 10));
                    upload.push(Bytes::copy_from_slice(&piece), now);
                }
                let appends = std::iter::from_fn(|| upload.next_output());
                disk.extend(appends.filter_map(|output| match output {
                    Output::Append(fragment) => Some((index, *fragment)),
                    Output::Ack(_) => None,
                }));
            }
            most = disk.iter().map(|(_, f)| f.body.len()).sum::<usize>().max(most);
            if let Some((index, fragment)) = disk.pop_front() {
                uploads[index].0.stored(&Ok(Appended::Stored(fragment.number)), now);
                kept += 1;
            }
        }
        // All that was under way when the bound was reached goes on to the end of its fragment.
        let bound = MAX_AHEAD_BYTES as usize + (UPLOADS << 20);
        assert!((32 << 20..bound).contains(&most), "{most} bytes");
    }

    #[test]
    fn silence_is_answered_and_then_ended() {
        check(
            vec![Push(video()), Push(fragment(0)), WaitMs(9_999), WaitMs(1), WaitMs(10_000)],
            &["buffering 0 1", "idle", "idle", "open"],
        );
        check(
            vec![Push(video()), Push(fragment(0)), WaitMs(30_000)],
            &["buffering 0 1", "idle", "idle", "idle", "ended"],
        );
        // Where it is we who do not listen, nobody is idle.
        let body = [video(), fragment(0), fragment(1_000), fragment(2_000), fragment(3_000)];
        let mut upload = upload(Timecodes::Absolute);
        let now = Timestamp::from_millis(NOW);
        upload.push([&body.concat()[..], &fragment(4_000)].concat().into(), now);
        assert!(!upload.wants_bytes());
        upload.tick(now.plus_millis(40_000));
        assert_eq!(upload.phase(), Phase::Open);
        assert!(
            !std::iter::from_fn(|| upload.next_output())
                .any(|output| matches!(output, Output::Ack(Ack::Idle)))
        );
    }

    #[test]
    fn a_revoked_upload_ends_with_its_fragment() {
        let whole = [
            "buffering 0 1",
            "received 0 1",
            "append NOW000000 +1000 ms, 2 chunks",
            "persisted 0 70",
        ];
        check(
            vec![
                Push(video()),
                Push(fragment(0)),
                Revoke(ErrorId::MaxConnectionDurationReached),
                Push(end_of_fragment()),
                Stored,
                Push(fragment(1_000)),
                End,
            ],
            &[&whole[..], &["error 4003", "ended"]].concat(),
        );
        check(vec![Push(video()), Revoke(ErrorId::StreamNotActive), End], &["error 4008", "ended"]);
        check(
            vec![
                Push(video()),
                Push(fragment(0)),
                Revoke(ErrorId::StreamNotActive),
                WaitMs(10_000),
                End,
            ],
            &["buffering 0 1", "idle", "error 4008", "ended"],
        );
    }

    #[test]
    fn an_upload_that_may_only_last_so_long_ends_after_a_fragment() {
        let steps = [Push(video()), Push(fragment(0))];
        let waits = (1..=7).flat_map(|_| [WaitMs(9_000), Push(Vec::new())]);
        let last = [Push(end_of_fragment()), Stored, Push(fragment(1_000)), End];
        check(
            steps.into_iter().chain(waits).chain(last).collect(),
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "persisted 0 70",
                "error 4003",
                "ended",
            ],
        );
    }

    /// As an intermittent producer does it: its connection stays open.
    #[test]
    fn a_pause_after_a_fragment_is_no_end() {
        check(
            vec![
                Push([video(), fragment(0), end_of_fragment()].concat()),
                Stored,
                WaitMs(20_000),
                Push([tag("motion"), fragment(30_000), end_of_fragment()].concat()),
                Stored,
                End,
            ],
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "persisted 0 70",
                "idle",
                "idle",
                "buffering 30000 2",
                "received 30000 2",
                "append NOW030000 +1000 ms, 2 chunks",
                "persisted 30000 70",
                "ended",
            ],
        );
    }

    #[test]
    fn damage_is_not_the_disk_s_fault() {
        check(
            vec![Push(video()), Push(fragment(0)), Push(end_of_fragment()), Damaged, End],
            &[
                "buffering 0 1",
                "received 0 1",
                "append NOW000000 +1000 ms, 2 chunks",
                "error 5000 at 0 1",
                "ended",
            ],
        );
    }

    /// The fragments of a body, pushed in pieces of these lengths, over and over.
    fn fragments(body: &[u8], lengths: &[usize], timecodes: Timecodes) -> Vec<NewFragment> {
        let now = Timestamp::from_millis(NOW);
        let mut upload = upload(timecodes);
        let (mut rest, mut found) = (body, Vec::new());
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let (part, more) = rest.split_at((*lengths.next().unwrap()).clamp(1, rest.len()));
            upload.push(Bytes::copy_from_slice(part), now);
            rest = more;
        }
        upload.end(now);
        while let Some(output) = upload.next_output() {
            match output {
                Output::Append(fragment) => found.push(*fragment),
                Output::Ack(Ack::Error { error, .. }) => panic!("{error}"),
                Output::Ack(_) => {}
            }
        }
        found
    }

    #[test]
    fn tells_fragments_apart_by_their_payloads_alone() {
        let hash = |seed, tags: &[u8]| {
            let body = [&video()[..], &fragment_of(0, 1, seed), tags].concat();
            fragments(&body, &[64], Timecodes::Absolute)[0].payload_hash
        };
        assert_eq!(hash(1, &[]), hash(1, &tag("motion")));
        assert_ne!(hash(1, &[]), hash(2, &[]));
    }

    #[test]
    fn tags_go_with_the_fragment_before_them() {
        let body = [
            video(),
            tag("a"),
            fragment(0),
            tag("b"),
            fragment(1_000),
            end_of_fragment(),
            tag("c"),
            fragment(2_000),
        ];
        let names: Vec<String> = fragments(&body.concat(), &[1_000], Timecodes::Absolute)
            .iter()
            .map(|f| Metadata::decode(&f.metadata).tags.into_iter().map(|t| t.name).collect())
            .collect();
        assert_eq!(names, ["ab", "", "c"]);
    }

    /// What Amazon's producers sent comes out the same however it is cut.
    #[test]
    fn recorded_uploads_in_any_cut() {
        let Some(folder) = std::env::var_os("LOOKBACK_VECTORS").map(std::path::PathBuf::from)
        else {
            eprintln!("left out: LOOKBACK_VECTORS does not name the folder of recorded uploads");
            return;
        };
        let relative = Timecodes::Relative { producer_start: Timestamp::from_millis(NOW) };
        for (name, timecodes, count) in [
            ("c-video-only", Timecodes::Absolute, 4),
            ("c-audio-video", relative, 4),
            ("kvssink-audio-video", Timecodes::Absolute, 5),
        ] {
            let body = std::fs::read(folder.join(name).join("putmedia-00.mkv")).unwrap();
            let whole = fragments(&body, &[body.len()], timecodes);
            assert_eq!(whole.len(), count, "{name}");
            for pair in whole.windows(2) {
                let end = pair[0].start.plus_millis(pair[0].duration_ms.into());
                let hole_ms = pair[1].start.millis_since(end);
                assert!(hole_ms.abs() <= 2, "{name}: a hole of {hole_ms} ms");
            }
            for lengths in [&[1][..], &[7, 1_400, 3], &[65_524, 20_011, 1, 2]] {
                let cut = fragments(&body, lengths, timecodes);
                for (cut, whole) in cut.iter().zip(&whole) {
                    assert_eq!(cut.start, whole.start);
                    assert_eq!(cut.tracks, whole.tracks);
                    assert_eq!(cut.payload_hash, whole.payload_hash);
                    assert!(cut.body.to_bytes() == whole.body.to_bytes(), "{name} {lengths:?}");
                    assert_eq!(cut.chunk_lens.iter().sum::<u32>() as usize, cut.body.len());
                }
                assert_eq!(cut.len(), whole.len());
            }
        }
    }
}
