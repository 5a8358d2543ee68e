//! Frames into chunks: at most 1 s of one track as `moof` + `mdat`, decode times absolute.
//!
//! Matroska says when a frame is shown, and orders frames as they are decoded. MP4 also wants a
//! decode time, rising from sample to sample: the n-th frame of a fragment gets the n-th smallest
//! of its presentation times, so that a fragment starts with its earliest picture and needs no
//! edit list; a signed composition offset (ISO/IEC 14496-12 §8.8.8) leads back to the exact
//! presentation time.

use crate::TrackInit;
use crate::mp4::{self, Sample};
use bytes::Bytes;
use lookback_wire::codec::{CodecConfig, CodecError};
use lookback_wire::{Payload, UploadHeader};
use std::collections::VecDeque;

const NS_PER_S: u64 = 1_000_000_000;

/// A chunk is cut at this many samples even within its second, to bound what a fragment of equal
/// times can make us hold. Video of 240 frames a second and audio packets of 1 ms stay below it.
const MAX_SAMPLES: usize = 2048;

/// Pictures that may be held back for reordering where the SPS does not say: no level of H.264
/// (A.3.1) or H.265 (A.4.2) lets a decoder hold more.
const MAX_REORDER: usize = 16;

/// Audio packets this near to where the one before ended follow it without a seam. Added to it is
/// what the uploaded times were rounded to.
const AUDIO_JITTER_NS: u64 = 3_000_000;

/// Bounds the rounding that [`AUDIO_JITTER_NS`] is widened by: less than half an AAC packet.
const MAX_ROUNDING_NS: u64 = 10_000_000;

/// A picture that the next fragment's start would hold for longer than this, and than twice the
/// usual, was followed by a gap.
const LONGEST_HOLD_NS: u64 = 500_000_000;

/// The same, where the usual is not known yet: room for one picture a second.
const LONGEST_FIRST_HOLD_NS: u64 = 2 * NS_PER_S;

/// Durations beyond this, as stated by the upload, are not believed: no fragment is longer.
const LONGEST_STATED_NS: u64 = 20 * NS_PER_S;

/// How long a picture is shown of which nothing at all is known.
const UNKNOWN_DURATION_NS: u64 = 40_000_000;

/// A frame on the stream's timeline.
#[derive(Clone, Debug)]
pub struct TimedFrame {
    /// Index into [`Packager::inits`].
    pub track: usize,
    /// Presentation time, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub duration_ns: Option<u64>,
    pub key: bool,
    pub payload: Payload,
}

/// At most 1 s of one track: `moof` and `mdat`.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub track: usize,
    /// `tfdt`: in the track's timescale, since the Unix epoch.
    pub decode_time: u64,
    /// The sum of its samples' durations, in the track's timescale.
    pub duration: u64,
    /// Whether its first sample is a sync sample.
    pub key: bool,
    /// `moof` and the header of `mdat`; [`mp4::read_samples`] reads it back.
    pub head: Bytes,
    /// The samples, as they came.
    pub samples: Vec<Payload>,
}

impl Chunk {
    /// Bytes of head and samples.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.samples.iter().map(|s| s.len() as u64).sum::<u64>()
    }
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Packages one upload. Feed it the frames of a fragment in decode order, then end the fragment.
#[derive(Debug)]
pub struct Packager {
    inits: Vec<TrackInit>,
    queues: Vec<Queue>,
}

impl Packager {
    pub fn new(header: &UploadHeader) -> Result<Self, CodecError> {
        let configs = header.tracks.iter().map(CodecConfig::of).collect::<Result<Vec<_>, _>>()?;
        Self::of(header, &configs)
    }

    fn of(header: &UploadHeader, configs: &[CodecConfig]) -> Result<Self, CodecError> {
        let mut inits = Vec::with_capacity(configs.len());
        let mut queues = Vec::with_capacity(configs.len());
        for (index, (track, config)) in header.tracks.iter().zip(configs).enumerate() {
            let init = TrackInit::of(track, config)?;
            queues.push(Queue::new(index, &init, config, header.timecode_scale_ns));
            inits.push(init);
        }
        Ok(Self { inits, queues })
    }

    /// One per track of the header, in its order.
    pub fn inits(&self) -> &[TrackInit] {
        &self.inits
    }

    /// Adds a frame; answers the chunks that it completes. A frame of no known track is left out.
    pub fn push(&mut self, frame: TimedFrame) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        if let Some(queue) = self.queues.get_mut(frame.track) {
            queue.push(frame);
            chunks.extend(std::iter::from_fn(|| queue.cut()));
        }
        chunks
    }

    /// Ends the fragment: the remaining chunks. `next_start_ns` is the next fragment's start where
    /// it is known, and bounds the last frames' durations.
    pub fn finish(&mut self, next_start_ns: Option<i64>) -> Vec<Chunk> {
        self.queues.iter_mut().flat_map(|queue| queue.finish(next_start_ns)).collect()
    }

    /// Forgets an unfinished fragment.
    pub fn abandon(&mut self) {
        self.queues.iter_mut().for_each(Queue::clear);
    }
}

/// How long a track's frames last.
#[derive(Debug)]
enum FrameLength {
    /// Until the next one is shown.
    UntilNext,
    /// AAC: as many ticks, always.
    Ticks(u64),
    /// G.711: a tick for so many bytes.
    BytesPerTick(u64),
}

/// A track's frames that are not in a chunk yet.
#[derive(Debug)]
struct Queue {
    track: usize,
    timescale: u32,
    length: FrameLength,
    /// TrackEntry's DefaultDuration, in ticks.
    default_duration: Option<u64>,
    /// How many frames may come before one that is shown earlier.
    reorder: usize,
    /// How far audio may be off its grid, in ticks.
    jitter: u64,
    /// Audio: where the packet before ended. Kept from fragment to fragment.
    grid: Option<u64>,
    /// Video: how long a picture was shown, lately. Kept likewise.
    usual: Option<u64>,
    /// In decode order.
    frames: VecDeque<Queued>,
    /// The frames' presentation times, sorted.
    times: Vec<u64>,
    /// Where the fragment's chunk before ended, and so where the next must begin.
    end: Option<u64>,
}

#[derive(Debug)]
struct Queued {
    time: u64,
    /// BlockDuration, in ticks.
    duration: Option<u64>,
    key: bool,
    payload: Payload,
}

impl Queue {
    fn new(track: usize, init: &TrackInit, config: &CodecConfig, timecode_scale_ns: u64) -> Self {
        let timescale = init.timescale;
        let (length, reorder) = match config {
            CodecConfig::H264(c) => (FrameLength::UntilNext, c.reorder_frames),
            CodecConfig::H265(c) => (FrameLength::UntilNext, c.reorder_frames),
            CodecConfig::Aac(c) => (FrameLength::Ticks(u64::from(c.frame_samples)), Some(0)),
            CodecConfig::G711(_) => {
                (FrameLength::BytesPerTick(u64::from(init.channels).max(1)), Some(0))
            }
        };
        Self {
            track,
            timescale,
            length,
            default_duration: believable(init.track.default_duration_ns, timescale),
            reorder: reorder.map_or(MAX_REORDER, |frames| MAX_REORDER.min(frames as usize)),
            jitter: ticks(AUDIO_JITTER_NS + timecode_scale_ns.min(MAX_ROUNDING_NS), timescale),
            grid: None,
            usual: None,
            frames: VecDeque::new(),
            times: Vec::new(),
            end: None,
        }
    }

    fn push(&mut self, frame: TimedFrame) {
        let time = self.place(&frame);
        let position = self.times.partition_point(|t| *t <= time);
        self.times.insert(position, time);
        self.frames.push_back(Queued {
            time,
            duration: believable(frame.duration_ns, self.timescale),
            key: frame.key,
            payload: frame.payload,
        });
    }

    /// The frame's presentation time in ticks. The absolute time is converted, not the distance
    /// from the frame before, so that rounding never adds up; audio then goes on where the packet
    /// before ended, if that is what the rounded time can mean.
    fn place(&mut self, frame: &TimedFrame) -> u64 {
        let stated = ticks(frame.time_ns.max(0).unsigned_abs(), self.timescale);
        let length = match self.length {
            FrameLength::UntilNext => return stated,
            FrameLength::Ticks(length) => length,
            FrameLength::BytesPerTick(bytes) => frame.payload.len() as u64 / bytes,
        };
        let time = self.grid.filter(|next| next.abs_diff(stated) <= self.jitter).unwrap_or(stated);
        self.grid = Some(time.saturating_add(length));
        time
    }

    /// A chunk, if the frames to come can no longer change it.
    fn cut(&mut self) -> Option<Chunk> {
        // A later frame is shown before at most `reorder` of those that are here.
        let settled = self.times.len().saturating_sub(self.reorder);
        let last = self.times.get(settled.checked_sub(1)?)?;
        let first = self.end.or(self.times.first().copied())?;
        let full = last.saturating_sub(first) > u64::from(self.timescale) || settled > MAX_SAMPLES;
        // The next chunk's first decode time is this one's end.
        if !full || settled < 2 {
            return None;
        }
        let decode_times = self.decode_times(settled);
        Some(self.chunk(&decode_times))
    }

    fn finish(&mut self, next_start_ns: Option<i64>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut decode_times = self.decode_times(self.times.len());
        if let Some(last) = decode_times.last().copied() {
            if let [.., before, last] = decode_times[..] {
                self.usual = Some(last - before);
            }
            let duration = self.last_duration(last, next_start_ns);
            decode_times.push(last.saturating_add(duration));
            let mut rest = decode_times.as_slice();
            while !self.frames.is_empty() {
                let chunk = self.chunk(rest);
                rest = &rest[chunk.samples.len()..];
                chunks.push(chunk);
            }
        }
        self.clear();
        chunks
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.times.clear();
        self.end = None;
    }

    /// Decode times of the first `count` frames: presentation times in their order, moved on where
    /// they would not rise, or where a late frame falls before what is already cut.
    fn decode_times(&self, count: usize) -> Vec<u64> {
        let mut earliest = self.end.unwrap_or(0);
        let rising = |time: &u64| {
            let decode_time = earliest.max(*time);
            earliest = decode_time.saturating_add(1);
            decode_time
        };
        self.times.iter().take(count).map(rising).collect()
    }

    /// Ticks from `last`, the fragment's last decode time, to its end.
    fn last_duration(&self, last: u64, next_start_ns: Option<i64>) -> u64 {
        if let Some(end) = self.grid {
            return end.saturating_sub(last).max(1);
        }
        let in_ticks = |ns| ticks(ns, self.timescale);
        let stated = self.frames.iter().max_by_key(|f| f.time).and_then(|f| f.duration);
        let usual = stated.or(self.default_duration).or(self.usual);
        let longest = usual.map_or(in_ticks(LONGEST_FIRST_HOLD_NS), |usual| {
            in_ticks(LONGEST_HOLD_NS).max(usual.saturating_mul(2))
        });
        let until_next = next_start_ns
            .and_then(|ns| in_ticks(ns.max(0).unsigned_abs()).checked_sub(last))
            .filter(|duration| (1..=longest).contains(duration));
        until_next.or(usual).unwrap_or(in_ticks(UNKNOWN_DURATION_NS))
    }

    /// Cuts the longest chunk of at most 1 s, but at least one frame. `decode_times` are those of
    /// the first frames, then the end of the last of these.
    fn chunk(&mut self, decode_times: &[u64]) -> Chunk {
        let start = decode_times.first().copied().unwrap_or(0);
        let within = |end: &&u64| **end - start <= u64::from(self.timescale);
        let longest = decode_times.iter().skip(1).take_while(within).count().clamp(1, MAX_SAMPLES);
        let count = self.closed_before(longest);

        let mut samples = Vec::with_capacity(count);
        let mut payloads = Vec::with_capacity(count);
        for (frame, times) in self.frames.drain(..count).zip(decode_times.windows(2)) {
            let [decode_time, end] = [times[0], times[1]];
            samples.push(Sample {
                decode_time,
                presentation_time: frame.time,
                duration: u32::try_from(end - decode_time).unwrap_or(u32::MAX),
                size: u32::try_from(frame.payload.len()).unwrap_or(u32::MAX),
                key: frame.key,
            });
            payloads.push(frame.payload);
        }
        self.times.drain(..count);
        self.usual = samples.last().map(|s| u64::from(s.duration));
        self.end = decode_times.get(count).copied();
        // Rises with time, whoever packages, until it wraps after 49 days.
        let sequence = u128::from(start) * 1000 / u128::from(self.timescale);
        Chunk {
            track: self.track,
            decode_time: start,
            duration: samples.iter().map(|s| u64::from(s.duration)).sum(),
            key: samples.first().is_some_and(|s| s.key),
            head: mp4::write_head(sequence as u32, &samples).into(),
            samples: payloads,
        }
    }

    /// The last place among the first `count` frames, but in their second half, that no picture is
    /// moved across by reordering; `count` if there is none.
    fn closed_before(&self, count: usize) -> usize {
        let mut latest = 0;
        let mut closed = count;
        for (index, (frame, sorted)) in self.frames.iter().zip(&self.times).take(count).enumerate()
        {
            latest = frame.time.max(latest);
            if latest <= *sorted && index >= count / 2 {
                closed = index + 1;
            }
        }
        closed
    }
}

/// Nanoseconds in ticks, to the nearest.
fn ticks(ns: u64, timescale: u32) -> u64 {
    let ns_per_s = u128::from(NS_PER_S);
    let ticks = (u128::from(ns) * u128::from(timescale) + ns_per_s / 2) / ns_per_s;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// A duration as stated, in ticks, unless it is none.
fn believable(ns: Option<u64>, timescale: u32) -> Option<u64> {
    let ns = ns.filter(|ns| (1..=LONGEST_STATED_NS).contains(ns))?;
    Some(ticks(ns, timescale)).filter(|ticks| *ticks > 0)
}
