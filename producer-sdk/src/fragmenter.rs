//! Cuts frames into fragments at key frames, and writes them as clusters with absolute timecodes.
//!
//! What every fragment keeps to, so that no server refuses one: it begins with a key frame of the
//! leading track, holds a frame of each track that its header names (Kinesis' error 4011 otherwise),
//! lasts no more than 20 s and 50 MB, and says its end by a tag, so that it is acknowledged at once.

use crate::buffer::Buffer;
use crate::error::FrameError;
use crate::frame::{Frame, Framing, Track};
use bytes::Bytes;
use lookback_wire::codec::h264::AvcConfig;
use lookback_wire::codec::h265::{self, HevcConfig};
use lookback_wire::codec::{CodecError, nal};
use lookback_wire::fragment::END_OF_FRAGMENT;
use lookback_wire::matroska::writer;
use lookback_wire::{Payload, SimpleTag, Timestamp, TrackKind, UploadHeader};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Kinesis Video Streams refuses fragments over 20 s; the last frame's duration counts too.
const MAX_FRAGMENT_MS: i64 = 19_800;
/// It refuses those over 50 MB; block headers and tags need some of it.
const MAX_FRAGMENT_BYTES: usize = 49_000_000;
/// How far a frame may lie before its fragment's start: leading pictures and late audio do, by
/// fractions of a second. More means that the camera's clock went back.
const MAX_LEAD_MS: i64 = 5_000;
/// Fragments of audio alone, where nothing else says where to cut.
const AUDIO_FRAGMENT_MS: i64 = 2_000;
/// 9999-12-31T23:59:59.999Z.
const MAX_TIMESTAMP_MS: i64 = 253_402_300_799_999;
/// Audio that comes before its key frame waits for it this long, and no more of it.
const MAX_HELD_MS: i64 = 1_000;
const MAX_HELD_FRAMES: usize = 256;
/// Kinesis Video Streams takes 10 tags a fragment, and END_OF_FRAGMENT is one.
const MAX_TAGS: usize = 9;

/// The NAL unit types of sequence parameter sets (ITU-T H.264 Table 7-1, H.265 Table 7-1).
const H264_SPS: u8 = 7;
const H265_SPS: u8 = 33;

/// Why frames were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// No fragment was open, and only a key frame opens one.
    NoKeyFrame,
    /// A fragment reached 20 s or 50 MB without a key frame.
    FragmentTooLong,
    /// The capture time jumped inside a fragment; the next key frame goes on.
    ClockJumped,
    /// The fragment that they belong to was dropped.
    FragmentDropped,
}

/// Turns frames into fragments in a [`Buffer`].
#[derive(Debug)]
pub struct Fragmenter {
    segment_uid: [u8; 16],
    tracks: Vec<Track>,
    /// Index of the track whose key frames cut.
    leading: usize,
    audio_only: bool,
    target_ms: i64,
    open: Option<Open>,
    /// Frames of other tracks that came while no fragment was open.
    held: VecDeque<Held>,
    /// The leading track's frame duration, as last measured.
    interval_ms: i64,
    alarm_until: Option<Timestamp>,
    tags: Vec<SimpleTag>,
    header: Arc<UploadHeader>,
    /// Whether a codec private changed since `header` was made.
    header_is_stale: bool,
    /// Headers of fragments in which a track had no frame; kept so that neighbours share one.
    partial_header: Option<Arc<UploadHeader>>,
    skipping: SkipReason,
    skipped: u64,
    reports: VecDeque<(SkipReason, u64)>,
}

#[derive(Debug)]
struct Held {
    index: usize,
    time_ms: i64,
    key: bool,
    payload: Payload,
}

/// What is known of the fragment that is open.
#[derive(Debug)]
struct Open {
    start_ms: i64,
    bytes: usize,
    /// By track index.
    seen: Vec<bool>,
    earliest_ms: i64,
    latest_ms: i64,
    leading_frames: i64,
    leading_last_ms: i64,
    last_put: Instant,
}

impl Fragmenter {
    pub fn new(tracks: Vec<Track>, target: Duration, segment_uid: [u8; 16]) -> Self {
        let leading =
            tracks.iter().position(|track| track.entry.kind == TrackKind::Video).unwrap_or(0);
        let tracks: Vec<Track> = tracks
            .into_iter()
            .zip(1u64..)
            .map(|(mut track, number)| {
                track.entry.number = number;
                track.entry.uid = number;
                track
            })
            .collect();
        let interval_ms = tracks
            .get(leading)
            .and_then(|track| track.entry.default_duration_ns)
            .and_then(|ns| i64::try_from(ns / 1_000_000).ok())
            .unwrap_or(40);
        Self {
            segment_uid,
            header: Arc::new(UploadHeader {
                segment_uid: Some(segment_uid),
                timecode_scale_ns: 1_000_000,
                tracks: Vec::new(),
            }),
            audio_only: tracks.iter().all(|track| track.entry.kind == TrackKind::Audio),
            header_is_stale: true,
            tracks,
            leading,
            target_ms: i64::try_from(target.as_millis()).unwrap_or(MAX_FRAGMENT_MS),
            open: None,
            held: VecDeque::new(),
            interval_ms,
            alarm_until: None,
            tags: Vec::new(),
            partial_header: None,
            skipping: SkipReason::NoKeyFrame,
            skipped: 0,
            reports: VecDeque::new(),
        }
    }

    /// Takes a frame into the open fragment, or into a new one.
    pub fn put(
        &mut self,
        frame: Frame,
        now: Instant,
        buffer: &mut Buffer,
    ) -> Result<(), FrameError> {
        let index = self.check(&frame)?;
        let time_ms = frame.captured_at.as_millis();
        let key = frame.key;
        let Some(payload) = self.adapt(index, key, frame.data)? else {
            self.skipped = self.skipped.saturating_add(1);
            return Ok(());
        };
        let leads = index == self.leading;
        let cuts = leads && (key || self.audio_only);
        if cuts && (self.header_is_stale || self.is_due(time_ms)) {
            self.end(Some(time_ms), buffer);
            self.begin(time_ms, now, buffer);
        }
        let frame = Held { index, time_ms, key, payload };
        if self.open.is_none() {
            self.hold(frame);
            return Ok(());
        }
        self.append(frame, now, buffer);
        if leads {
            for held in std::mem::take(&mut self.held) {
                if held.time_ms >= time_ms.saturating_sub(MAX_HELD_MS) {
                    self.append(held, now, buffer);
                } else {
                    self.skipped = self.skipped.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Ends the open fragment, if any; the next frame of the leading track must be a key frame.
    pub fn flush(&mut self, buffer: &mut Buffer) {
        if self.open.is_some() {
            self.end(None, buffer);
            self.skipping = SkipReason::NoKeyFrame;
        }
    }

    /// When the open fragment is to be flushed if no frame comes: `idle` after the last one.
    pub fn flush_at(&self, idle: Duration) -> Option<Instant> {
        self.open.as_ref().map(|open| open.last_put + idle)
    }

    /// The buffer dropped the open fragment: the rest of it is left out.
    pub fn abandon(&mut self) {
        if self.open.take().is_some() {
            self.tags.clear();
            self.skipping = SkipReason::FragmentDropped;
        }
    }

    /// Adds a tag to the open fragment, or else to the next.
    pub fn tag(&mut self, tag: SimpleTag) -> bool {
        let room = self.tags.len() < MAX_TAGS;
        if room {
            self.tags.push(tag);
        }
        room
    }

    /// Marks the open fragment, and those that begin before `until`, as alarm footage.
    pub fn mark_alarm(&mut self, until: Timestamp, buffer: &mut Buffer) {
        self.alarm_until = self.alarm_until.max(Some(until));
        if let Some(fragment) = buffer.open_fragment() {
            fragment.info.alarm = true;
        }
    }

    /// Frames that were left out since the last call, by reason.
    pub fn take_skips(&mut self) -> impl Iterator<Item = (SkipReason, u64)> {
        std::mem::take(&mut self.reports).into_iter()
    }

    /// Frames left out that no fragment has begun after; they are reported at the next one.
    pub fn pending_skips(&self) -> u64 {
        self.skipped.saturating_add(self.held.len() as u64)
    }

    fn check(&self, frame: &Frame) -> Result<usize, FrameError> {
        let index = frame.track.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let index = index.filter(|index| *index < self.tracks.len());
        let index = index.ok_or(FrameError::UnknownTrack(frame.track))?;
        if frame.data.is_empty() {
            return Err(FrameError::Empty(frame.track));
        }
        if frame.data.len() > MAX_FRAGMENT_BYTES {
            let (track, bytes) = (frame.track, frame.data.len());
            return Err(FrameError::TooLarge { track, bytes, limit: MAX_FRAGMENT_BYTES });
        }
        if !(0..=MAX_TIMESTAMP_MS).contains(&frame.captured_at.as_millis()) {
            return Err(FrameError::Time(frame.captured_at));
        }
        Ok(index)
    }

    /// The frame's bytes as Matroska holds them; none while its track's parameter sets are unknown.
    fn adapt(
        &mut self,
        index: usize,
        key: bool,
        data: Bytes,
    ) -> Result<Option<Payload>, FrameError> {
        let Some(track) = self.tracks.get_mut(index) else { return Ok(None) };
        if track.framing == Framing::LengthPrefixed {
            return Ok(Some(Payload::from(data)));
        }
        let number = track.entry.number;
        let malformed = |cause: String| FrameError::Malformed { track: number, cause };
        if !nal::starts_with_start_code(&data) {
            return Err(malformed("it begins with no start code".to_owned()));
        }
        if key {
            let sets = ParameterSets::find(&track.entry.codec_id, &data);
            match sets.map_err(|error| malformed(error.to_string()))? {
                Some(sets) if sets.record != track.entry.codec_private => {
                    track.entry.codec_private = sets.record;
                    (track.entry.width, track.entry.height) = (sets.width, sets.height);
                    self.header_is_stale = true;
                }
                None if track.entry.codec_private.is_empty() => {
                    return Err(malformed("the first key frame has no parameter sets".to_owned()));
                }
                _ => {}
            }
        }
        let known = !track.entry.codec_private.is_empty();
        Ok(known.then(|| Payload::from(nal::to_length_prefixed(data.into()))))
    }

    /// Whether a fragment is to begin at `time_ms`: none is open, the open one is long enough, or
    /// the clock went back, so that its times no longer rise.
    fn is_due(&self, time_ms: i64) -> bool {
        let Some(open) = &self.open else { return true };
        let target_ms = if self.audio_only { AUDIO_FRAGMENT_MS } else { self.target_ms };
        time_ms - open.start_ms >= target_ms || time_ms <= open.start_ms
    }

    /// Keeps a frame for the fragment that its key frame will open. The leading track's have none.
    fn hold(&mut self, frame: Held) {
        if frame.index == self.leading {
            self.skipped = self.skipped.saturating_add(1);
            return;
        }
        let oldest_ms = frame.time_ms.saturating_sub(MAX_HELD_MS);
        self.held.push_back(frame);
        while self.held.len() > MAX_HELD_FRAMES
            || self.held.front().is_some_and(|held| held.time_ms < oldest_ms)
        {
            self.held.pop_front();
            self.skipped = self.skipped.saturating_add(1);
        }
    }

    /// Adds a frame to the open fragment, or ends that where the frame cannot belong to it.
    fn append(&mut self, frame: Held, now: Instant, buffer: &mut Buffer) {
        let Held { index, time_ms, key, payload } = frame;
        let Some(open) = &mut self.open else {
            self.skipped = self.skipped.saturating_add(1);
            return;
        };
        let leads = index == self.leading;
        let offset_ms = time_ms.saturating_sub(open.start_ms);
        let earliest_ms = open.earliest_ms.min(time_ms);
        let latest_ms = open.latest_ms.max(time_ms);
        let is_long = latest_ms - earliest_ms > MAX_FRAGMENT_MS;
        let is_large = open.bytes.saturating_add(payload.len()) > MAX_FRAGMENT_BYTES;
        let jumped = offset_ms < -MAX_LEAD_MS || time_ms - open.latest_ms > MAX_FRAGMENT_MS;
        if jumped || is_long || is_large {
            self.end(None, buffer);
            self.skipping =
                if jumped { SkipReason::ClockJumped } else { SkipReason::FragmentTooLong };
            self.skipped = self.skipped.saturating_add(1);
            return;
        }
        if leads {
            open.leading_frames = open.leading_frames.saturating_add(1);
            open.leading_last_ms = open.leading_last_ms.max(time_ms);
        }
        (open.earliest_ms, open.latest_ms) = (earliest_ms, latest_ms);
        open.last_put = now;
        open.bytes = open.bytes.saturating_add(payload.len());
        if let Some(seen) = open.seen.get_mut(index) {
            *seen = true;
        }
        let complete = !open.seen.contains(&false);
        let number = self.tracks.get(index).map_or(0, |track| track.entry.number);
        // In the range of an i16: checked against the limits above.
        let block = writer::simple_block(number, offset_ms as i16, key, &payload);
        let lasts_ms = if leads { self.interval_ms } else { 0 };
        let end = Timestamp::from_millis(time_ms.saturating_add(lasts_ms));
        buffer.append(std::iter::once(block).chain(payload.into_parts()), end);
        if complete && let Some(fragment) = buffer.open_fragment().filter(|open| !open.sendable) {
            fragment.header = self.current_header();
            fragment.sendable = true;
        }
    }

    fn begin(&mut self, start_ms: i64, now: Instant, buffer: &mut Buffer) {
        if self.skipped > 0 {
            self.reports.push_back((self.skipping, std::mem::take(&mut self.skipped)));
        }
        let start = Timestamp::from_millis(start_ms);
        let alarm = self.alarm_until.is_some_and(|until| start < until);
        buffer.open(self.current_header(), start, alarm);
        // Checked to be 0 or more when the frame came in.
        buffer.append([writer::cluster(start_ms as u64)], start);
        self.open = Some(Open {
            start_ms,
            bytes: 0,
            seen: self.tracks.iter().map(|_| false).collect(),
            earliest_ms: start_ms,
            latest_ms: start_ms,
            leading_frames: 0,
            leading_last_ms: start_ms,
            last_put: now,
        });
    }

    /// Ends the open fragment; `next_ms` is where the next one begins.
    fn end(&mut self, next_ms: Option<i64>, buffer: &mut Buffer) {
        let Some(open) = self.open.take() else { return };
        if open.leading_frames > 1 {
            let span_ms = open.leading_last_ms - open.start_ms;
            self.interval_ms = (span_ms / (open.leading_frames - 1)).clamp(1, 10_000);
        }
        // Of a lone picture nothing says how long it lasts but the next one.
        let longest_ms = match open.leading_frames {
            1 => self.target_ms.saturating_mul(2),
            _ => self.interval_ms.saturating_mul(3),
        };
        let follows = next_ms.filter(|next_ms| {
            (1..=longest_ms).contains(&next_ms.saturating_sub(open.leading_last_ms))
        });
        if let (1, Some(next_ms)) = (open.leading_frames, follows) {
            self.interval_ms = next_ms - open.leading_last_ms;
        }
        let end_ms = follows.unwrap_or(open.leading_last_ms.saturating_add(self.interval_ms));
        let tags = std::mem::take(&mut self.tags);
        let tags = if tags.is_empty() { Bytes::new() } else { writer::tags(&tags) };
        let end_tag = SimpleTag { name: END_OF_FRAGMENT.to_owned(), value: String::new() };
        buffer.append([tags, writer::tags(&[end_tag])], Timestamp::from_millis(open.start_ms));
        if let Some(fragment) = buffer.open_fragment() {
            fragment.info.end = Timestamp::from_millis(end_ms);
            if open.seen.contains(&false) {
                fragment.header = self.only_seen(&fragment.header, &open.seen);
            }
            fragment.sendable = true;
            fragment.ended = true;
        }
    }

    fn current_header(&mut self) -> Arc<UploadHeader> {
        if std::mem::take(&mut self.header_is_stale) {
            self.header = Arc::new(UploadHeader {
                segment_uid: Some(self.segment_uid),
                timecode_scale_ns: 1_000_000,
                tracks: self.tracks.iter().map(|track| track.entry.clone()).collect(),
            });
        }
        self.header.clone()
    }

    /// `header` without the tracks that had no frame.
    fn only_seen(&mut self, header: &UploadHeader, seen: &[bool]) -> Arc<UploadHeader> {
        let mut header = header.clone();
        let mut seen = seen.iter();
        header.tracks.retain(|_| seen.next().copied().unwrap_or(false));
        match &self.partial_header {
            Some(known) if **known == header => known.clone(),
            _ => self.partial_header.insert(Arc::new(header)).clone(),
        }
    }
}

/// What the parameter sets of an Annex B key frame say; none where it has none.
struct ParameterSets {
    record: Bytes,
    width: u32,
    height: u32,
}

impl ParameterSets {
    fn find(codec_id: &str, frame: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut headers = nal::annex_b_units(frame).filter_map(|unit| unit.first());
        if codec_id == h265::CODEC_ID {
            if !headers.any(|header| (header >> 1) & 0x3f == H265_SPS) {
                return Ok(None);
            }
            let HevcConfig { record, width, height, .. } = HevcConfig::from_annex_b(frame)?;
            return Ok(Some(Self { record, width, height }));
        }
        if !headers.any(|header| header & 0x1f == H264_SPS) {
            return Ok(None);
        }
        let AvcConfig { record, width, height, .. } = AvcConfig::from_annex_b(frame)?;
        Ok(Some(Self { record, width, height }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BufferLimits;
    use lookback_wire::codec::g711::{G711Config, Law};
    use lookback_wire::matroska::{Event, Limits, Reader};

    /// Real parameter sets.
    const SMALL: &str = "000000016742c01eda0280f684000003000400000300c83c58b920000000000168ce3c80";

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    fn video(at_ms: i64, key: bool) -> Frame {
        let mut data = if key { hex(SMALL) } else { Vec::new() };
        data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 1, 2]);
        Frame { track: 1, captured_at: Timestamp::from_millis(at_ms), key, data: data.into() }
    }

    fn audio(track: u64, at_ms: i64) -> Frame {
        let captured_at = Timestamp::from_millis(at_ms);
        Frame { track, captured_at, key: true, data: Bytes::from_static(&[0x55; 80]) }
    }

    fn g711() -> Track {
        Track::g711(G711Config { law: Law::A, sampling_hz: 8000, channels: 1 })
    }

    /// Puts frames, flushes, and tells each fragment as `start-end: track@time …`, its tracks in
    /// brackets where the header does not name all of them.
    fn fragments(tracks: Vec<Track>, frames: &[Frame]) -> (Vec<String>, u64) {
        let count = tracks.len();
        let mut buffer = Buffer::new(BufferLimits::default());
        let mut fragmenter = Fragmenter::new(tracks, Duration::from_secs(1), [7; 16]);
        for frame in frames {
            fragmenter.put(frame.clone(), Instant::now(), &mut buffer).unwrap();
        }
        fragmenter.flush(&mut buffer);
        let tell = |fragment: &crate::buffer::Fragment| {
            assert!(fragment.sendable && fragment.ended);
            let mut reader = Reader::new(Limits::default());
            reader.push(writer::header(&fragment.header));
            for piece in &fragment.pieces {
                reader.push(piece.clone());
            }
            let (start, end) = (fragment.info.start.as_millis(), fragment.info.end.as_millis());
            let mut text = format!("{start}-{end}:");
            if fragment.header.tracks.len() != count {
                let numbers = fragment.header.tracks.iter().map(|track| track.number.to_string());
                text += &format!(" [{}]", numbers.collect::<Vec<_>>().join(","));
            }
            while let Some(event) = reader.next().unwrap() {
                if let Event::Frame(frame) = event {
                    text += &format!(" {}@{}", frame.track, frame.timecode);
                }
            }
            text
        };
        (buffer.iter().map(tell).collect(), fragmenter.pending_skips())
    }

    #[test]
    fn fragments_are_cut_where_every_server_takes_them() {
        let check = |tracks: &[Track], frames: &[Frame], expected: &[&str], skipped: u64| {
            assert_eq!(fragments(tracks.to_vec(), frames).0, expected);
            assert_eq!(fragments(tracks.to_vec(), frames).1, skipped);
        };
        let (k, p) = (|at| video(at, true), |at| video(at, false));
        let both = [Track::h264(), g711()];
        // At the first key frame at or after a second; what comes before a key frame is left out.
        let frames = [k(1000), p(1500), k(1900), p(2400), k(2600)];
        check(
            &[Track::h264()],
            &frames,
            &["1000-2600: 1@1000 1@1500 1@1900 1@2400", "2600-3066: 1@2600"],
            0,
        );
        // B-frames: what is shown last says where the fragment ends.
        let frames = [k(1000), p(1120), p(1040), p(1080), p(1160), k(3000)];
        check(
            &[Track::h264()],
            &frames,
            &["1000-1200: 1@1000 1@1120 1@1040 1@1080 1@1160", "3000-3040: 1@3000"],
            0,
        );
        // Audio waits for its key frame, and one that lies before it stays with it.
        let frames = [audio(2, 980), k(1000), audio(2, 1020), k(2000), audio(2, 1990)];
        check(&both, &frames, &["1000-2000: 1@1000 2@980 2@1020", "2000-3000: 1@2000 2@1990"], 0);
        // Without audio the header does not name it.
        let frames = [k(1000), audio(2, 1010), k(2000), k(3000), k(4000), audio(2, 4010)];
        check(
            &both,
            &frames,
            &[
                "1000-2000: 1@1000 2@1010",
                "2000-3000: [1] 1@2000",
                "3000-4000: [1] 1@3000",
                "4000-5000: 1@4000 2@4010",
            ],
            0,
        );
        // Audio alone is cut every two seconds.
        let frames: Vec<_> = (0..7).map(|n| audio(1, n * 500)).collect();
        check(
            &[g711()],
            &frames,
            &["0-2000: 1@0 1@500 1@1000 1@1500", "2000-3500: 1@2000 1@2500 1@3000"],
            0,
        );
        // The clock goes back: at a key frame a fragment begins, otherwise one is waited for.
        let frames = [k(9000), p(9100), k(5000), p(5100)];
        check(
            &[Track::h264()],
            &frames,
            &["9000-9200: 1@9000 1@9100", "5000-5200: 1@5000 1@5100"],
            0,
        );
        let frames = [k(90_000), p(90_100), p(50_000), p(50_100), k(50_200)];
        check(
            &[Track::h264()],
            &frames,
            &["90000-90200: 1@90000 1@90100", "50200-50300: 1@50200"],
            0,
        );
        // No key frame for 20 s.
        let frames = [k(0), p(10_000), p(19_000), p(19_900), p(25_000)];
        check(&[Track::h264()], &frames, &["0-28500: 1@0 1@10000 1@19000"], 2);
    }

    #[test]
    fn a_change_of_parameter_sets_begins_a_fragment_with_another_header() {
        let mut other = video(1200, true);
        let mut data = other.data.to_vec();
        // Another level in the SPS.
        data[7] = 0x1f;
        other.data = data.into();
        let mut buffer = Buffer::new(BufferLimits::default());
        let mut fragmenter = Fragmenter::new(vec![Track::h264()], Duration::from_secs(1), [7; 16]);
        for frame in [video(1000, true), video(1100, false), other, video(1300, false)] {
            fragmenter.put(frame, Instant::now(), &mut buffer).unwrap();
        }
        let headers: Vec<_> = buffer.iter().map(|fragment| &fragment.header.tracks[0]).collect();
        assert_eq!(headers.len(), 2);
        assert_eq!([headers[0].codec_private[3], headers[1].codec_private[3]], [0x1e, 0x1f]);
        assert!(headers[0].width > 0);
    }

    #[test]
    fn frames_that_cannot_be_sent_are_refused() {
        let mut buffer = Buffer::new(BufferLimits::default());
        let mut fragmenter = Fragmenter::new(vec![Track::h264()], Duration::from_secs(1), [7; 16]);
        let mut check = |frame: Frame, expected: &str| {
            let error = fragmenter.put(frame, Instant::now(), &mut buffer).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        let frame = video(1000, true);
        check(Frame { track: 2, ..frame.clone() }, "track 2 was not configured");
        check(Frame { track: 0, ..frame.clone() }, "track 0 was not configured");
        check(Frame { data: Bytes::new(), ..frame.clone() }, "is empty");
        check(Frame { captured_at: Timestamp::from_millis(-1), ..frame.clone() }, "before 1970");
        check(Frame { data: vec![1, 2, 3].into(), ..frame.clone() }, "no start code");
        let data = Bytes::from_static(&[0, 0, 0, 1, 0x65, 1]);
        check(Frame { data, ..frame }, "no parameter sets");
    }
}
