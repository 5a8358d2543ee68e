//! What is arriving: the chunks of fragments that are not kept yet, handed on to those who watch live
//! while the rest of their fragment is still under way.
//!
//! `ingest` feeds it and `playback` reads it. The bytes are those that the upload holds anyway, and go
//! when the fragment is kept; only of a fragment that a lost connection cut short they stay, since
//! players were told of them.

use crate::id::StreamId;
use crate::storage::{FragmentRecord, InitId, Location, TrackSpan, TrackSpans};
use bytes::Bytes;
use lookback_wire::{FragmentNumber, Payload, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// How long parts are at most, but for single frames that last longer.
pub use lookback_packaging::chunk::LONGEST_MS as MAX_PART_MS;

/// Fragments remembered of a stream after they were kept, or cut short: playlists still name their
/// parts.
const MAX_PAST: usize = 6;
/// Bytes of fragments cut short, of all streams. Beyond it they are forgotten at once, and a player
/// that asks for them goes on behind them.
const MAX_CUT_BYTES: u64 = 64 << 20;

/// A track, as an upload's header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub init: InitId,
    pub is_video: bool,
    pub timescale: u32,
}

/// A chunk of a fragment.
#[derive(Debug)]
pub struct Part {
    /// Of the fragment's tracks.
    pub track: usize,
    /// In the track's timescale.
    pub decode_time: u64,
    /// In the track's timescale.
    pub duration: u64,
    /// Whether it begins with a key frame.
    pub key: bool,
    /// Empty once the fragment is kept.
    pub bytes: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Arriving,
    /// All of it is here, and on its way to the archive.
    Whole,
    Kept,
    /// It will not be kept.
    Cut,
}

/// A fragment, as far as it is here.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub number: FragmentNumber,
    pub state: State,
    pub arrived_at: Timestamp,
    /// In the header's order.
    pub tracks: Arc<[Track]>,
    /// Of all tracks.
    pub parts: Vec<Arc<Part>>,
}

/// What is known of a stream at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of their numbers.
    pub fragments: Vec<Arc<Fragment>>,
    /// Another number whenever the archive has got more.
    pub kept: u64,
}

/// The fragments of all streams that are arriving.
#[derive(Debug, Default)]
pub struct Arriving {
    streams: Mutex<HashMap<StreamId, Stream>>,
    cut_bytes: AtomicU64,
    /// What became of any stream, counted.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Stream {
    fragments: VecDeque<Arc<Fragment>>,
    kept: u64,
    /// The last fragment that anybody was told of.
    told: FragmentNumber,
    uploads: usize,
    changed: watch::Sender<u64>,
}

impl Arriving {
    /// Takes in what one upload brings.
    pub fn feed(self: &Arc<Self>, stream: StreamId) -> Feed {
        let mut streams = self.streams.lock();
        // Not each time: thousands of cameras may connect at once.
        if streams.len() == streams.capacity()
            || self.cut_bytes.load(Ordering::Relaxed) > MAX_CUT_BYTES / 2
        {
            let unused = streams.extract_if(|_, stream| !stream.is_used());
            let cut_bytes: u64 = unused.map(|(_, stream)| stream.cut_bytes()).sum();
            self.cut_bytes.fetch_sub(cut_bytes, Ordering::Relaxed);
        }
        streams.entry(stream).or_insert_with(|| self.unknown()).uploads += 1;
        Feed { arriving: self.clone(), stream, open: Vec::new(), arriving_now: None }
    }

    /// What there is now. The archive is to be asked after this, so that nothing is in neither.
    pub fn snapshot(&self, stream: StreamId) -> Snapshot {
        let mut streams = self.streams.lock();
        let Some(known) = streams.get_mut(&stream) else { return Snapshot::default() };
        known.told = known.fragments.back().map_or(known.told, |f| f.number.max(known.told));
        Snapshot { fragments: known.fragments.iter().cloned().collect(), kept: known.kept }
    }

    pub fn fragment(&self, stream: StreamId, number: FragmentNumber) -> Option<Arc<Fragment>> {
        let streams = self.streams.lock();
        streams.get(&stream)?.fragments.iter().find(|f| f.number == number).cloned()
    }

    /// Tells whenever something becomes of the stream, each time by a larger number.
    pub fn changes(&self, stream: StreamId) -> watch::Receiver<u64> {
        let mut streams = self.streams.lock();
        streams.entry(stream).or_insert_with(|| self.unknown()).changed.subscribe()
    }

    /// A stream of which the archive may have got anything.
    fn unknown(&self) -> Stream {
        let now = self.next_change();
        Stream {
            fragments: VecDeque::new(),
            kept: now,
            told: FragmentNumber(0),
            uploads: 0,
            changed: watch::Sender::new(now),
        }
    }

    fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn change(&self, stream: StreamId, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.lock().get_mut(&stream) {
            change(stream);
            stream.changed.send_replace(self.next_change());
        }
    }

    fn settle(&self, stream: StreamId, number: FragmentNumber, state: State) {
        self.change(stream, |stream| {
            let is_told = number <= stream.told;
            if state == State::Kept {
                stream.kept = self.next_change();
            }
            let mut is_worth_keeping = state == State::Kept;
            if let Some(fragment) = stream.fragments.iter_mut().find(|f| f.number == number) {
                let fragment = Arc::make_mut(fragment);
                fragment.state = state;
                let len = fragment.len();
                let room = MAX_CUT_BYTES.saturating_sub(self.cut_bytes.load(Ordering::Relaxed));
                if state == State::Cut && is_told && len <= room {
                    self.cut_bytes.fetch_add(len, Ordering::Relaxed);
                    is_worth_keeping = true;
                } else {
                    fragment.forget_bytes();
                }
            }
            if !is_worth_keeping {
                stream.fragments.retain(|f| f.number != number);
            }
            while stream.fragments.iter().filter(|f| f.is_settled()).count() > MAX_PAST {
                let Some(at) = stream.fragments.iter().position(|f| f.is_settled()) else { break };
                let gone = stream.fragments.remove(at);
                let len = gone.filter(|f| f.state == State::Cut).map_or(0, |f| f.len());
                self.cut_bytes.fetch_sub(len, Ordering::Relaxed);
            }
        });
    }
}

impl Stream {
    fn is_used(&self) -> bool {
        self.uploads > 0 || self.changed.receiver_count() > 0
    }

    fn cut_bytes(&self) -> u64 {
        self.fragments.iter().filter(|f| f.state == State::Cut).map(|f| f.len()).sum()
    }
}

/// One upload's way in. What it has not settled when it goes is cut.
#[derive(Debug)]
pub struct Feed {
    arriving: Arc<Arriving>,
    stream: StreamId,
    /// Fragments that are not settled.
    open: Vec<FragmentNumber>,
    /// The one of them that is not whole.
    arriving_now: Option<FragmentNumber>,
}

impl Feed {
    /// A fragment begins.
    pub fn begin(&mut self, number: FragmentNumber, arrived_at: Timestamp, tracks: Arc<[Track]>) {
        self.keep_only(None);
        self.open.push(number);
        self.arriving_now = Some(number);
        let fragment =
            Fragment { number, state: State::Arriving, arrived_at, tracks, parts: Vec::new() };
        self.arriving.change(self.stream, |stream| {
            // Another upload's fragments may be among them.
            let at = stream.fragments.partition_point(|f| f.number < number);
            stream.fragments.insert(at, Arc::new(fragment));
        });
    }

    /// A chunk of it is complete.
    pub fn add(&self, number: FragmentNumber, part: Part) {
        self.with(number, |fragment| fragment.parts.push(Arc::new(part)));
    }

    /// All of it is here.
    pub fn whole(&mut self, number: FragmentNumber) {
        self.arriving_now = self.arriving_now.filter(|now| *now != number);
        self.with(number, |fragment| fragment.state = State::Whole);
    }

    /// It is in the archive.
    pub fn kept(&mut self, number: FragmentNumber) {
        self.settle(number, State::Kept);
    }

    /// It will not be in the archive.
    pub fn cut(&mut self, number: FragmentNumber) {
        self.settle(number, State::Cut);
    }

    /// The upload goes on with `arriving`; another that was not whole is cut.
    pub fn keep_only(&mut self, arriving: Option<FragmentNumber>) {
        if let Some(gone) = self.arriving_now.take_if(|now| Some(*now) != arriving) {
            self.cut(gone);
        }
    }

    fn with(&self, number: FragmentNumber, change: impl FnOnce(&mut Fragment)) {
        self.arriving.change(self.stream, |stream| {
            if let Some(fragment) = stream.fragments.iter_mut().find(|f| f.number == number) {
                change(Arc::make_mut(fragment));
            }
        });
    }

    fn settle(&mut self, number: FragmentNumber, state: State) {
        self.open.retain(|open| *open != number);
        self.arriving.settle(self.stream, number, state);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        for number in std::mem::take(&mut self.open) {
            self.cut(number);
        }
        self.arriving.change(self.stream, |stream| {
            stream.uploads = stream.uploads.saturating_sub(1);
        });
    }
}

impl Fragment {
    /// The parts of one track.
    pub fn parts_of(&self, track: usize) -> impl Iterator<Item = &Arc<Part>> {
        self.parts.iter().filter(move |part| part.track == track)
    }

    /// Which of its tracks has this initialization segment.
    pub fn track_with(&self, init: InitId) -> Option<usize> {
        self.tracks.iter().position(|track| track.init == init)
    }

    /// As the archive would describe what is here; `None` until it is known where it begins.
    pub fn record(&self) -> Option<FragmentRecord> {
        let lead = self.tracks.iter().position(|track| track.is_video).unwrap_or(0);
        let spans: TrackSpans = (0..)
            .zip(self.tracks.iter())
            .map(|(index, track)| {
                let first = self.parts_of(index).next();
                TrackSpan {
                    init: track.init,
                    is_video: track.is_video,
                    key: first.is_some_and(|part| part.key),
                    decode_time: first.map_or(0, |part| part.decode_time),
                    duration: self.parts_of(index).map(|part| part.duration).sum(),
                    timescale: track.timescale,
                    offset: 0,
                    len: 0,
                }
            })
            .collect();
        let lead = spans.get(lead).filter(|span| span.duration > 0)?;
        let (start, end) = (lead.start(), lead.end());
        Some(FragmentRecord {
            number: self.number,
            start,
            duration_ms: u32::try_from(end.millis_since(start)).unwrap_or(u32::MAX).max(1),
            capture_start: start,
            arrived_at: self.arrived_at,
            tracks: spans,
            location: Location { file: 0, offset: 0, len: 0 },
        })
    }

    /// Whether its parts are as short as playlists say that all are. A camera of a picture a second
    /// has longer ones, and is played fragment by fragment.
    pub fn has_short_parts(&self) -> bool {
        let is_short = |part: &Arc<Part>| {
            let timescale = self.tracks.get(part.track).map_or(1, |track| track.timescale);
            part.duration * 1_000 <= u64::from(MAX_PART_MS) * u64::from(timescale)
        };
        // Later ones are listed whatever they are: players wait for them.
        (0..self.tracks.len()).all(|track| self.parts_of(track).next().is_none_or(is_short))
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, State::Kept | State::Cut)
    }

    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    fn forget_bytes(&mut self) {
        for part in &mut self.parts {
            let Part { track, decode_time, duration, key, .. } = **part;
            *part = Arc::new(Part { track, decode_time, duration, key, bytes: Payload::new() });
        }
    }
}

impl Part {
    /// As one piece; `None` once the fragment is kept.
    pub fn joined(&self) -> Option<Bytes> {
        (!self.bytes.is_empty()).then(|| self.bytes.to_bytes())
    }
}
