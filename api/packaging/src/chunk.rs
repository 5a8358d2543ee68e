//! Frames into chunks: at most 540 ms of one track as `moof` + `mdat`, decode times absolute.
//!
//! Matroska says when a frame is shown, and orders frames as they are decoded. MP4 also wants a
//! decode time, rising from sample to sample, and adds a composition offset to it (ISO/IEC 14496-12
//! §8.8.8) to get the presentation time. Ours is the earliest presentation time of the frame and of
//! all that follow it; frames that share one are spread evenly before it. So a fragment's decode
//! times begin with its earliest picture (less a tick for each decoded before it, where it leads the
//! key frame) and need no edit list, and offsets are not negative.
//!
//! The price is that the frame decoded last lasts until the end of the fragment, beyond the one shown
//! last: Chromium, told to seek into the latter and stay there, shows the former. Each way to even
//! durations costs more. Negative offsets (CMAF's `cmf2`): ffmpeg 5.1 shows the track late by the
//! largest. Decode times that begin before the fragment: hls.js takes them for its start, and is late
//! by as much. An edit list that takes this back: hls.js and video.js do not read it.

use crate::TrackInit;
use crate::mp4::{self, Sample};
use bytes::Bytes;
use lookback_wire::codec::{CodecConfig, CodecError};
use lookback_wire::{Payload, UploadHeader};
use std::collections::VecDeque;

const NS_PER_S: u64 = 1_000_000_000;

/// How long a chunk is at most, unless it is one frame: live players are handed chunks while the rest
/// of their fragment is still arriving, and stay three of them behind. A second of 15 or 25 frames
/// makes two.
pub const LONGEST_MS: u32 = 540;

/// A chunk is cut at this many samples even within its time, to bound what a fragment of equal
/// times can make us hold. Video of 240 frames a second and audio packets of 1 ms stay below it.
const MAX_SAMPLES: usize = 2048;

/// Pictures that may be held back for reordering where the SPS does not say: no level of H.264
/// (A.3.1) or H.265 (A.4.2) lets a decoder hold more.
const MAX_REORDER: usize = 16;

/// Audio packets within one unit of the uploaded times of where the one before ended follow it
/// without a seam. Bounds that unit: less than half an AAC packet.
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

/// At most [`LONGEST_MS`] of one track: `moof` and `mdat`.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub track: usize,
    /// `tfdt`: in the track's timescale, since the Unix epoch. Of a fragment's first chunk, when
    /// its earliest frame is shown; of later ones, up to the delay of reordering before that.
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
    /// Errors: as [`TrackInit::new`], for any of the tracks.
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
    /// [`LONGEST_MS`] in ticks.
    longest: u64,
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
            longest: ticks(u64::from(LONGEST_MS) * 1_000_000, timescale),
            length,
            default_duration: believable(init.track.default_duration_ns, timescale),
            reorder: reorder.map_or(MAX_REORDER, |frames| MAX_REORDER.min(frames as usize)),
            jitter: ticks(timecode_scale_ns.min(MAX_ROUNDING_NS), timescale),
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
            // Every audio packet is; the Kinesis producers leave the flag out.
            key: frame.key || !matches!(self.length, FrameLength::UntilNext),
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
        // A later frame is shown before at most `reorder` of those that are here, so not before this.
        let settled = *self.times.get(self.times.len().checked_sub(self.reorder + 1)?)?;
        let first = self.end.or(self.times.first().copied())?;
        let decode_times = if self.times.len() > MAX_SAMPLES {
            self.decode_times(u64::MAX)
        } else if settled.saturating_sub(first) > self.longest {
            self.decode_times(settled)
        } else {
            return None;
        };
        // The next chunk's first decode time is this one's end.
        let full = decode_times.len() > MAX_SAMPLES
            || decode_times.last()?.saturating_sub(first) > self.longest;
        full.then(|| self.chunk(&decode_times))
    }

    fn finish(&mut self, next_start_ns: Option<i64>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut decode_times = self.decode_times(u64::MAX);
        if let Some(last) = decode_times.last() {
            let end = self.fragment_end(next_start_ns).max(last.saturating_add(1));
            decode_times.push(end);
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

    /// Decode times of the frames that no frame shown before `settled` follows.
    fn decode_times(&self, settled: u64) -> Vec<u64> {
        // Of each frame, from the last: the earliest time from it on, and how many share that.
        let mut earliest: Vec<(u64, u64)> = Vec::with_capacity(self.frames.len());
        for frame in self.frames.iter().rev() {
            let next = match earliest.last() {
                Some((time, shared)) if *time <= frame.time => (*time, shared + 1),
                _ => (frame.time, 1),
            };
            earliest.push(next);
        }
        let mut decode_times: Vec<u64> = Vec::with_capacity(self.frames.len() + 1);
        let in_order = earliest.iter().rev().take_while(|(time, _)| *time <= settled);
        for (time, shared) in in_order {
            let decode_time = match decode_times.last() {
                Some(before) => {
                    before.saturating_add((time.saturating_sub(*before) / shared).max(1))
                }
                None => self.end.unwrap_or(time.saturating_sub(shared - 1)),
            };
            decode_times.push(decode_time);
        }
        decode_times
    }

    /// When the frame that is shown last ends.
    fn fragment_end(&mut self, next_start_ns: Option<i64>) -> u64 {
        if let Some(end) = self.grid {
            return end;
        }
        if let [.., before, last] = self.times[..] {
            self.usual = Some(last - before);
        }
        let in_ticks = |ns| ticks(ns, self.timescale);
        let last = self.times.last().copied().unwrap_or(0);
        let stated = self.frames.iter().max_by_key(|f| f.time).and_then(|f| f.duration);
        let usual = stated.or(self.default_duration).or(self.usual);
        let longest = usual.map_or(in_ticks(LONGEST_FIRST_HOLD_NS), |usual| {
            in_ticks(LONGEST_HOLD_NS).max(usual.saturating_mul(2))
        });
        let until_next = next_start_ns
            .and_then(|ns| in_ticks(ns.max(0).unsigned_abs()).checked_sub(last))
            .filter(|duration| (1..=longest).contains(duration));
        let duration = until_next.or(usual).unwrap_or(in_ticks(UNKNOWN_DURATION_NS));
        last.saturating_add(duration)
    }

    /// Cuts the longest chunk that may be, but at least one frame. `decode_times` are those of
    /// the first frames, then the end of the last of these.
    fn chunk(&mut self, decode_times: &[u64]) -> Chunk {
        let start = decode_times.first().copied().unwrap_or(0);
        let within = |end: &&u64| **end - start <= self.longest;
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
        self.times.clear();
        self.times.extend(self.frames.iter().map(|f| f.time));
        self.times.sort_unstable();
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

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::codec::g711::{G711Config, Law};
    use lookback_wire::codec::{aac::AacConfig, h264::AvcConfig};
    use lookback_wire::{Track, TrackKind};
    use mp4_atom::{Decode, Header, Moof};
    use proptest::prelude::*;

    const START_MS: i64 = 1_790_000_000_000;

    fn h264(reorder_frames: Option<u32>) -> CodecConfig {
        CodecConfig::H264(AvcConfig {
            record: Bytes::from_static(&[1, 0x4d, 0x40, 0x1f]),
            profile: 0x4d,
            compatibility: 0x40,
            level: 0x1f,
            nal_length_size: 4,
            width: 640,
            height: 360,
            reorder_frames,
        })
    }

    fn aac(sampling_hz: u32) -> CodecConfig {
        CodecConfig::Aac(AacConfig {
            record: Bytes::from_static(&[0x11, 0x90]),
            object_type: 2,
            sampling_hz,
            channels: 2,
            frame_samples: 1024,
        })
    }

    fn packager(config: CodecConfig, default_duration_ns: Option<u64>) -> Packager {
        let track = Track {
            number: 1,
            uid: 1,
            kind: TrackKind::Video,
            name: None,
            codec_id: "test".into(),
            codec_private: Bytes::new(),
            default_duration_ns,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        };
        let header =
            UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![track] };
        Packager::of(&header, &[config]).unwrap()
    }

    fn frame(ms: i64, key: bool, len: usize) -> TimedFrame {
        TimedFrame {
            track: 0,
            time_ns: (START_MS + ms) * 1_000_000,
            duration_ns: None,
            key,
            payload: vec![ms as u8; len].into(),
        }
    }

    /// A fragment's chunks, and of each what mp4-atom and we ourselves read in its head.
    fn package(
        packager: &mut Packager,
        frames: &[TimedFrame],
        next_ms: Option<i64>,
    ) -> Vec<(Chunk, Vec<Sample>)> {
        let mut chunks = Vec::new();
        for frame in frames {
            chunks.extend(packager.push(frame.clone()));
        }
        chunks.extend(packager.finish(next_ms.map(|ms| (START_MS + ms) * 1_000_000)));
        chunks
            .into_iter()
            .map(|chunk| {
                let samples = read(&chunk);
                (chunk, samples)
            })
            .collect()
    }

    fn read(chunk: &Chunk) -> Vec<Sample> {
        let samples = mp4::read_samples(&chunk.head).unwrap();
        let mut rest = chunk.head.as_ref();
        let moof = Moof::decode(&mut rest).unwrap();
        let [traf] = &moof.traf[..] else { panic!("one traf") };
        let [trun] = &traf.trun[..] else { panic!("one trun") };
        let tfdt = traf.tfdt.as_ref().unwrap();
        assert_eq!(tfdt.base_media_decode_time, chunk.decode_time);
        assert_eq!(trun.data_offset, Some(chunk.head.len() as i32));
        let mdat = Header::decode(&mut rest).unwrap();
        assert!(rest.is_empty(), "the head ends with the header of mdat");
        assert_eq!(mdat.size, Some(chunk.samples.iter().map(Payload::len).sum()));
        assert_eq!(trun.samples.len(), samples.len());
        let mut decode_time = chunk.decode_time;
        for (entry, sample) in trun.samples.iter().zip(&samples) {
            let duration = entry.duration.or(traf.tfhd.default_sample_duration).unwrap();
            let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
            let presentation = decode_time.strict_add_signed(entry.cts.unwrap_or(0));
            let theirs = Sample {
                decode_time,
                presentation_time: presentation,
                duration,
                size: entry.size.unwrap(),
                key: flags == SYNC_FLAGS,
            };
            assert_eq!(theirs, *sample);
            decode_time += u64::from(duration);
        }
        assert_eq!(decode_time, chunk.decode_time + chunk.duration, "durations add up");
        samples
    }

    const SYNC_FLAGS: u32 = 0x0200_0000;

    /// What holds of a fragment's chunks whatever it is made of.
    fn check(packager: &Packager, frames: &[TimedFrame], chunks: &[(Chunk, Vec<Sample>)]) {
        let timescale = u64::from(packager.inits()[0].timescale);
        let sent: Vec<_> = frames.iter().map(|f| &f.payload).collect();
        let got: Vec<_> = chunks.iter().flat_map(|(chunk, _)| &chunk.samples).collect();
        assert_eq!(sent, got, "samples are the frames, in their order");
        let sizes: Vec<_> =
            chunks.iter().flat_map(|(_, samples)| samples).map(|s| s.size).collect();
        assert_eq!(sizes, sent.iter().map(|p| p.len() as u32).collect::<Vec<_>>());
        let keys: Vec<_> = chunks.iter().flat_map(|(_, samples)| samples).map(|s| s.key).collect();
        let audio = packager.inits()[0].kind == TrackKind::Audio;
        assert_eq!(keys, frames.iter().map(|f| f.key || audio).collect::<Vec<_>>());

        for (chunk, samples) in chunks {
            assert_eq!(chunk.key, samples[0].key);
            assert!(
                chunk.duration * 1000 <= timescale * 540 || samples.len() == 1,
                "at most 540 ms"
            );
            assert!(samples.iter().all(|s| s.duration > 0), "decode times rise");
        }
        for pair in chunks.windows(2) {
            let [(before, _), (after, _)] = pair else { continue };
            assert_eq!(before.decode_time + before.duration, after.decode_time, "no seam");
        }
    }

    fn check_exact_times(frames: &[TimedFrame], chunks: &[(Chunk, Vec<Sample>)]) {
        let ms = |f: &TimedFrame| (f.time_ns / 1_000_000) as u64 * 90;
        let got = chunks.iter().flat_map(|(_, samples)| samples).map(|s| s.presentation_time);
        assert_eq!(got.collect::<Vec<_>>(), frames.iter().map(ms).collect::<Vec<_>>());
    }

    /// Decode order of groups of pictures: of each group of 1 + n, the last shown comes first, the
    /// others shuffled. Also the most frames that come before one shown earlier.
    fn decode_order(shown_ms: &[i64], groups: &[(usize, u64)]) -> (Vec<i64>, u32) {
        let mut rest = shown_ms;
        let mut decoded = Vec::new();
        for (between, seed) in groups.iter().cycle() {
            let Some((group, tail)) = rest.split_at_checked((between + 1).min(rest.len().max(1)))
            else {
                break;
            };
            let mut group = group.to_vec();
            group.rotate_right(1);
            if let Some(b_frames) = group.get_mut(1..).filter(|b| !b.is_empty()) {
                let turn = *seed as usize % b_frames.len();
                b_frames.rotate_left(turn);
            }
            decoded.extend(group);
            rest = tail;
        }
        let before = |(i, time): (usize, &i64)| decoded[..i].iter().filter(|t| *t > time).count();
        let reorder = decoded.iter().enumerate().map(before).max().unwrap_or(0);
        (decoded, reorder as u32)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn video_times_come_back_exactly(
            steps in prop::collection::vec(prop_oneof![8 => 1i64..120, 1 => 120i64..2500, 1 => Just(0)], 1..160),
            groups in prop::collection::vec((0usize..5, any::<u64>()), 1..8),
            known in prop::sample::select(vec![0u8, 1, 2]),
            fragment_len in 1usize..80,
        ) {
            let shown: Vec<i64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            // Fragments are cut in display order, then each is reordered.
            let reordered: Vec<_> = shown.chunks(fragment_len).map(|f| decode_order(f, &groups)).collect();
            let reorder = reordered.iter().map(|(_, reorder)| *reorder).max();
            // The SPS says it, leaves it out, or understates it.
            let stated = [reorder, None, Some(0)][usize::from(known)];
            let mut packager = packager(h264(stated), None);
            for (index, (decoded, _)) in reordered.iter().enumerate() {
                let frames: Vec<_> =
                    decoded.iter().enumerate().map(|(i, ms)| frame(*ms, i == 0, 1 + i % 7)).collect();
                let next = shown.get((index + 1) * fragment_len).copied();
                let chunks = package(&mut packager, &frames, next);
                check(&packager, &frames, &chunks);
                check_exact_times(&frames, &chunks);
                if stated != Some(0) {
                    let earliest = *decoded.iter().min().unwrap();
                    let ahead = decoded.iter().rposition(|ms| *ms == earliest).unwrap() as u64;
                    let start = (START_MS + earliest) as u64 * 90;
                    prop_assert_eq!(chunks[0].0.decode_time, start - ahead);
                    let apart = !steps.contains(&0);
                    let mut samples = chunks.iter().flat_map(|(_, samples)| samples);
                    prop_assert!(!apart || samples.all(|s| s.presentation_time >= s.decode_time));
                }
            }
        }

        #[test]
        fn rounded_audio_is_laid_on_a_grid(
            hz in prop::sample::select(vec![8_000u32, 16_000, 44_100, 48_000]),
            packets in 1usize..200,
            fragment_len in 1usize..80,
            gap in prop::option::of((0usize..200, 50i64..5000)),
        ) {
            let mut packager = packager(aac(hz), None);
            let exact_ms = |index: usize| index as f64 * 1_024_000.0 / f64::from(hz);
            let frames: Vec<_> = (0..packets).map(|index| {
                let late = gap.filter(|(at, _)| index >= *at).map_or(0, |(_, ms)| ms);
                frame(1000 + exact_ms(index).round() as i64 + late, false, 100)
            }).collect();
            let mut samples = Vec::new();
            for fragment in frames.chunks(fragment_len) {
                let chunks = package(&mut packager, fragment, None);
                check(&packager, fragment, &chunks);
                samples.extend(chunks.into_iter().flat_map(|(_, samples)| samples));
            }
            let tolerance = u64::from(hz) / 1000 + 1;
            for (frame, sample) in frames.iter().zip(&samples) {
                let stated = ticks(frame.time_ns as u64, hz);
                prop_assert!(sample.presentation_time.abs_diff(stated) <= tolerance);
                prop_assert_eq!(sample.presentation_time, sample.decode_time);
            }
            let seam = gap.map_or(usize::MAX, |(at, _)| at);
            for (index, pair) in samples.windows(2).enumerate() {
                let apart = pair[1].decode_time - pair[0].decode_time;
                prop_assert_eq!(apart == 1024, index + 1 != seam, "after packet {}", index);
            }
        }

        #[test]
        fn no_time_is_absurd_enough_to_panic(
            times in prop::collection::vec(prop_oneof![
                any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0), -5i64..5,
            ], 1..40),
            duration_ns in prop::option::of(any::<u64>()),
            next in prop::option::of(any::<i64>()),
            config in prop::sample::select(vec![h264(None), h264(Some(u32::MAX)), aac(1), aac(u32::MAX)]),
        ) {
            let mut packager = packager(config, duration_ns);
            let mut chunks = Vec::new();
            for time_ns in &times {
                let payload = vec![0; 3].into();
                chunks.extend(packager.push(TimedFrame { track: 0, time_ns: *time_ns, duration_ns, key: true, payload }));
            }
            chunks.extend(packager.finish(next));
            prop_assert_eq!(chunks.iter().map(|c| c.samples.len()).sum::<usize>(), times.len());
        }
    }

    #[test]
    fn chunks_are_cut_while_frames_arrive_where_reordering_is_closed() {
        // Of a fragment of 3 s and 25 frames a second, with so many B frames between two P frames.
        let check_cuts = |between: usize, stated: Option<u32>, lengths: &[usize]| {
            let shown: Vec<i64> = (0..75).map(|i| i * 40).collect();
            let (decoded, _) = decode_order(&shown, &[&[(0, 0)][..], &[(between, 0); 74]].concat());
            let mut packager = packager(h264(stated), None);
            let mut early = 0;
            for ms in &decoded {
                early += packager.push(frame(*ms, *ms == 0, 10)).len();
            }
            assert!(early >= 4, "two seconds are out before the third is whole");
            packager.abandon();
            let frames: Vec<_> = decoded.iter().map(|ms| frame(*ms, *ms == 0, 10)).collect();
            let chunks = package(&mut packager, &frames, Some(3000));
            check(&packager, &frames, &chunks);
            check_exact_times(&frames, &chunks);
            let got: Vec<_> = chunks.iter().map(|(chunk, _)| chunk.samples.len()).collect();
            assert_eq!(got, lengths, "{between} B frames, {stated:?} stated");
            for pair in chunks.windows(2).filter(|_| between < 25) {
                let latest = pair[0].1.iter().map(|s| s.presentation_time).max();
                assert!(latest < pair[1].1.iter().map(|s| s.presentation_time).min(), "closed");
            }
        };
        check_cuts(0, Some(0), &[13, 13, 13, 13, 13, 10]);
        check_cuts(0, None, &[13, 13, 13, 13, 13, 10]);
        check_cuts(2, Some(1), &[13, 12, 12, 12, 12, 12, 2]);
        check_cuts(2, None, &[13, 12, 12, 12, 12, 12, 2]);
        check_cuts(3, Some(1), &[13, 12, 12, 12, 12, 12, 2]);
        // The only closed place would leave a chunk of one picture.
        check_cuts(73, Some(1), &[14, 13, 13, 13, 13, 9]);
    }

    #[test]
    fn the_last_picture_lasts_until_the_next_fragment_or_as_usual() {
        let ms = |ms: u64| Some(ms * 1_000_000);
        let check_last = |times: &[i64], default, block, next: Option<i64>, expected: u64| {
            let mut packager = packager(h264(Some(1)), default);
            let frames: Vec<_> = times
                .iter()
                .map(|t| TimedFrame { duration_ns: block, ..frame(*t, *t == 0, 5) })
                .collect();
            let chunks = package(&mut packager, &frames, next);
            let (last, _) = chunks.last().unwrap();
            let shown = (START_MS + times.iter().max().unwrap()) as u64 * 90;
            let lasts = last.decode_time + last.duration - shown;
            assert_eq!(lasts, expected * 90, "{times:?} {default:?} {block:?} {next:?}");
        };
        check_last(&[0, 33, 67], None, None, Some(100), 33);
        check_last(&[0, 33, 67], None, None, None, 34);
        check_last(&[0, 33, 67], ms(33), None, None, 33);
        check_last(&[0, 33, 67], ms(33), ms(40), None, 40);
        check_last(&[0, 33, 67], ms(33), ms(40), Some(100), 33);
        // With a B frame that is decoded last.
        check_last(&[0, 67, 33], None, None, None, 34);
        check_last(&[0, 67, 33], None, None, Some(100), 33);
        // A gap, and a next fragment that begins too early.
        check_last(&[0, 33, 67], None, None, Some(40_067), 34);
        check_last(&[0, 33, 67], None, None, Some(60), 34);
        // Half a second is held; with slow pictures, twice the usual.
        check_last(&[0, 33, 67], None, None, Some(567), 500);
        check_last(&[0, 33, 67], None, None, Some(568), 34);
        check_last(&[0, 400, 800], None, None, Some(1600), 800);
        // A single picture.
        check_last(&[0], None, None, Some(1000), 1000);
        check_last(&[0], None, None, Some(3000), 40);
        check_last(&[0], None, None, None, 40);
        check_last(&[0], ms(30_000), ms(0), None, 40);
    }

    #[test]
    fn g711_lasts_as_long_as_it_has_bytes() {
        let config = G711Config { law: Law::Mu, sampling_hz: 8000, channels: 1 };
        let mut packager = packager(CodecConfig::G711(config), None);
        // 60 packets of 20 ms, then one of 12.5 ms, stated to the millisecond.
        let mut frames: Vec<_> = (0..60).map(|i| frame(i * 20 + i % 2, true, 160)).collect();
        frames.push(frame(1200, true, 100));
        let chunks = package(&mut packager, &frames, None);
        check(&packager, &frames, &chunks);
        let lengths: Vec<_> = chunks.iter().map(|(c, _)| (c.samples.len(), c.duration)).collect();
        assert_eq!(lengths, [(27, 4320), (27, 4320), (7, 1060)]);
    }

    #[test]
    fn a_fragment_of_equal_times_is_cut_all_the_same() {
        let mut packager = packager(h264(None), None);
        let mut sent = 0;
        let mut chunks = Vec::new();
        while chunks.is_empty() {
            chunks = packager.push(frame(0, sent == 0, 1));
            sent += 1;
            assert!(sent <= MAX_SAMPLES + MAX_REORDER + 1, "no chunk after {sent} frames");
        }
        assert_eq!(packager.finish(None).len(), 1);
    }

    #[test]
    fn an_abandoned_fragment_leaves_nothing_behind() {
        let mut packager = packager(h264(Some(0)), None);
        packager.push(frame(0, true, 5));
        packager.abandon();
        assert!(packager.finish(None).is_empty());
        packager.push(TimedFrame { track: 9, ..frame(0, true, 5) });
        assert!(packager.finish(None).is_empty());
    }
}
