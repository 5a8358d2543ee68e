//! MPEG transport streams (ISO/IEC 13818-1) for players that know nothing newer: one segment of
//! H.264 and AAC out of stored chunks.
//!
//! A segment is a function of its chunks alone, so any process can make any one of them at any
//! time. Continuity counters therefore begin anew in each, which the first packet of each PID says
//! by its `discontinuity_indicator` (§2.4.3.5): padding every PID to a multiple of 16 packets
//! instead makes segments of 2 s and 2 Mbit/s half a percent larger.

use crate::TrackInit;
use crate::mp4::{self, Rest, Sample};
use lookback_wire::codec::CodecConfig;

const PACKET_LEN: usize = 188;
const BODY_LEN: usize = PACKET_LEN - 4;
/// Ticks a second of PTS, DTS and PCR (§2.4.2.1).
const CLOCK_HZ: u64 = 90_000;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
/// Two clock references are at most 100 ms apart (§2.7.2).
const MAX_PCR_DISTANCE: u64 = CLOCK_HZ / 10;
/// What is decoded arrives this much before.
const PCR_LEAD: u64 = CLOCK_HZ / 10;
/// The clock is not filled in over more than the longest fragment: nothing real is so far apart.
const MAX_PCR_FILL: u64 = 20 * CLOCK_HZ;
/// Sound beside pictures goes in pieces of this: fewer are smaller, more are smoother.
const SOUND_PIECE: u64 = CLOCK_HZ;
/// Sound alone carries the clock.
const SOUND_PIECE_ALONE: u64 = CLOCK_HZ / 12;
/// Bytes of a PES packet that its length can say, less those of its header.
const MAX_SOUND_PIECE_BYTES: usize = 60_000;
const ADTS_LEN: usize = 7;
/// What every frame of AAC that ADTS describes lasts, whenever the next one begins.
const FRAME_SAMPLES: u64 = 1_024;
/// `aac_frame_length` is 13 bits (ISO/IEC 13818-7 §6.2).
const MAX_ADTS_FRAME: usize = (1 << 13) - 1;
/// access_unit_delimiter_rbsp: any slice type (ITU-T H.264 §7.3.2.4).
const ACCESS_UNIT_DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];
const AUD_TYPE: u8 = 9;

/// A codec that is not carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    /// RFC 6381.
    pub codecs: String,
}

/// Makes segments of the same tracks.
#[derive(Debug)]
pub struct Muxer {
    video: Option<Avc>,
    audio: Option<Aac>,
    /// PAT and PMT, the first two packets of every segment.
    tables: Vec<u8>,
}

#[derive(Debug)]
struct Avc {
    nal_length_size: usize,
    /// Before each key frame, with start codes.
    parameter_sets: Vec<u8>,
}

#[derive(Debug)]
struct Aac {
    timescale: u32,
    /// Of every frame, but for its length.
    header: [u8; ADTS_LEN],
}

impl Muxer {
    /// Errors: neither H.264 nor an AAC that ADTS can describe.
    pub fn new(video: Option<&TrackInit>, audio: Option<&TrackInit>) -> Result<Self, NotCarried> {
        fn read<T>(
            init: Option<&TrackInit>,
            read: impl Fn(&TrackInit) -> Option<T>,
        ) -> Result<Option<T>, NotCarried> {
            init.map(|init| read(init).ok_or_else(|| NotCarried { codecs: init.codecs.clone() }))
                .transpose()
        }
        let video = read(video, Avc::of)?;
        let audio = read(audio, Aac::of)?;
        let tables = put_tables(video.is_some(), audio.is_some());
        Ok(Self { video, audio, tables })
    }

    /// A segment of these chunks, as [`crate::Packager`] made them, of each track one after the
    /// other. `None` where they are damaged.
    pub fn segment(&self, video: &[u8], audio: &[u8]) -> Option<Vec<u8>> {
        let bytes = video.len() + audio.len();
        let mut writer = Writer::new(bytes + bytes / 16 + 16 * PACKET_LEN, self.video.is_some());
        writer.out.extend_from_slice(&self.tables);
        let mut sound = self.audio.as_ref().map(|aac| Sound::new(aac, audio, self.video.is_some()));
        if let Some(avc) = &self.video {
            let mut unit = Vec::new();
            for picture in Samples::new(video) {
                let (sample, bytes) = picture?;
                if let Some(sound) = &mut sound {
                    sound.put_until(sample.decode_time, &mut writer)?;
                }
                unit.clear();
                avc.put_access_unit(&sample, bytes, &mut unit)?;
                writer.put_picture(&sample, &unit);
            }
        }
        if let Some(sound) = &mut sound {
            sound.put_until(u64::MAX, &mut writer)?;
        }
        writer.finish_clock();
        Some(writer.out)
    }
}

impl Avc {
    fn of(init: &TrackInit) -> Option<Self> {
        let Ok(CodecConfig::H264(config)) = CodecConfig::of(&init.track) else { return None };
        // AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1).
        let mut rest = Rest(&config.record);
        rest.take(5)?;
        let mut parameter_sets = Vec::new();
        for count_mask in [0x1f, 0xff] {
            for _ in 0..rest.u8()? & count_mask {
                let len = u16::from_be_bytes([rest.u8()?, rest.u8()?]);
                parameter_sets.extend_from_slice(&[0, 0, 0, 1]);
                parameter_sets.extend_from_slice(rest.take(len.into())?);
            }
        }
        Some(Self { nal_length_size: usize::from(config.nal_length_size), parameter_sets })
    }

    /// The sample as a byte stream (ITU-T H.264 Annex B).
    fn put_access_unit(&self, sample: &Sample, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&ACCESS_UNIT_DELIMITER);
        if sample.key {
            out.extend_from_slice(&self.parameter_sets);
        }
        let mut rest = Rest(bytes);
        while !rest.0.is_empty() {
            let len = rest.take(self.nal_length_size)?;
            let len = len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
            let unit = rest.take(len)?;
            if unit.first().is_some_and(|first| first & 0x1f != AUD_TYPE) {
                out.extend_from_slice(&[0, 0, 1]);
                out.extend_from_slice(unit);
            }
        }
        Some(())
    }
}

impl Aac {
    /// ADTS (ISO/IEC 13818-7 §6.2) says less than an AudioSpecificConfig: the core of HE-AAC goes as
    /// AAC-LC, and decoders find its extension.
    fn of(init: &TrackInit) -> Option<Self> {
        let Ok(CodecConfig::Aac(config)) = CodecConfig::of(&init.track) else { return None };
        let (first, second) = (*config.record.first()?, *config.record.get(1)?);
        let frequency = (first & 7) << 1 | second >> 7;
        let channels = second >> 3 & 0xf;
        let profile = match first >> 3 {
            2 | 5 | 29 => 1,
            _ => return None,
        };
        // An explicit rate, or channels that the stream itself lists, ADTS cannot say.
        if frequency > 12
            || !(1..=7).contains(&channels)
            || u64::from(config.frame_samples) != FRAME_SAMPLES
        {
            return None;
        }
        let header = [
            0xff,
            // MPEG-4, without a checksum.
            0xf1,
            profile << 6 | frequency << 2 | channels >> 2,
            (channels & 3) << 6,
            0,
            0x1f,
            0xfc,
        ];
        Some(Self { timescale: init.timescale, header })
    }

    /// Ticks of the track on the stream's clock.
    fn time(&self, ticks: u64) -> u64 {
        let hz = u128::from(self.timescale.max(1));
        let time = (u128::from(ticks) * u128::from(CLOCK_HZ) + hz / 2) / hz;
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    fn put_frame(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let len = bytes.len() + ADTS_LEN;
        if len > MAX_ADTS_FRAME {
            return None;
        }
        let mut header = self.header;
        header[3] |= (len >> 11) as u8;
        header[4] = (len >> 3) as u8;
        header[5] |= (len << 5) as u8;
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        Some(())
    }
}

/// Samples of chunks with their bytes; `None` where the chunks are damaged.
struct Samples<'a> {
    chunks: Box<dyn Iterator<Item = mp4::ChunkBytes<'a>> + 'a>,
    samples: std::vec::IntoIter<Sample>,
    bytes: &'a [u8],
    /// Bytes that no chunk was made of yet.
    left: usize,
}

impl<'a> Samples<'a> {
    fn new(chunks: &'a [u8]) -> Self {
        Self {
            left: chunks.len(),
            chunks: Box::new(mp4::split_chunks(chunks)),
            samples: Vec::new().into_iter(),
            bytes: &[],
        }
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = Option<(Sample, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(sample) = self.samples.next() {
                let split = self.bytes.split_at_checked(sample.size as usize);
                return Some(split.map(|(bytes, rest)| {
                    self.bytes = rest;
                    (sample, bytes)
                }));
            }
            let Some(chunk) = self.chunks.next() else {
                let damaged = std::mem::take(&mut self.left) > 0;
                return damaged.then_some(None);
            };
            self.left = self.left.saturating_sub(chunk.head.len() + chunk.samples.len());
            self.bytes = chunk.samples;
            match mp4::read_samples(chunk.head) {
                Some(samples) => self.samples = samples.into_iter(),
                None => return Some(None),
            }
        }
    }
}

/// The sound of a segment, piece by piece.
struct Sound<'a> {
    aac: &'a Aac,
    frames: std::iter::Peekable<Samples<'a>>,
    piece: u64,
    bytes: Vec<u8>,
}

impl<'a> Sound<'a> {
    fn new(aac: &'a Aac, chunks: &'a [u8], with_video: bool) -> Self {
        let piece = if with_video { SOUND_PIECE } else { SOUND_PIECE_ALONE };
        Self { aac, frames: Samples::new(chunks).peekable(), piece, bytes: Vec::new() }
    }

    /// Writes the pieces that begin at or before `until`. None where the chunks are damaged.
    fn put_until(&mut self, until: u64, writer: &mut Writer) -> Option<()> {
        while let Some(next) = self.frames.peek() {
            let start = self.aac.time(next.as_ref()?.0.presentation_time);
            if start > until {
                break;
            }
            self.bytes.clear();
            let mut end = start;
            while let Some(next) = self.frames.peek() {
                let (sample, bytes) = next.as_ref()?;
                let time = self.aac.time(sample.presentation_time);
                let follows = time.abs_diff(end) <= 1;
                let fits = self.bytes.len() + bytes.len() <= MAX_SOUND_PIECE_BYTES;
                let goes_on = follows && fits && time - start < self.piece;
                if !goes_on && !self.bytes.is_empty() {
                    break;
                }
                self.aac.put_frame(bytes, &mut self.bytes)?;
                end = self.aac.time(sample.presentation_time.saturating_add(FRAME_SAMPLES));
                self.frames.next();
            }
            writer.put_sound(start, end, &self.bytes);
        }
        Some(())
    }
}

/// A program's packets.
struct Writer {
    out: Vec<u8>,
    video: Pid,
    audio: Pid,
    /// Whether the pictures carry the clock.
    video_has_clock: bool,
    pes: Vec<u8>,
    /// The newest clock reference, and what it has to reach.
    clock: Option<(u64, u64)>,
}

struct Pid {
    number: u16,
    /// Of the next packet with a body; none before the first.
    counter: Option<u8>,
}

/// What the adaptation field of a first packet says.
#[derive(Default)]
struct Field {
    random_access: bool,
    pcr: Option<u64>,
}

impl Writer {
    fn new(capacity: usize, video_has_clock: bool) -> Self {
        Self {
            out: Vec::with_capacity(capacity),
            video: Pid { number: VIDEO_PID, counter: None },
            audio: Pid { number: AUDIO_PID, counter: None },
            video_has_clock,
            pes: Vec::new(),
            clock: None,
        }
    }

    fn put_picture(&mut self, sample: &Sample, unit: &[u8]) {
        let end = sample.decode_time.saturating_add(u64::from(sample.duration));
        let pcr = self.tick(sample.decode_time, end);
        self.pes.clear();
        put_pes_header(
            &mut self.pes,
            0xe0,
            sample.presentation_time,
            Some(sample.decode_time),
            unit.len(),
        );
        self.pes.extend_from_slice(unit);
        let field = Field { random_access: sample.key, pcr };
        put_packets(&mut self.out, &mut self.video, &field, &self.pes);
    }

    fn put_sound(&mut self, start: u64, end: u64, frames: &[u8]) {
        let pcr = if self.video_has_clock { None } else { self.tick(start, end) };
        self.pes.clear();
        put_pes_header(&mut self.pes, 0xc0, start, None, frames.len());
        self.pes.extend_from_slice(frames);
        let field = Field { random_access: !self.video_has_clock, pcr };
        put_packets(&mut self.out, &mut self.audio, &field, &self.pes);
    }

    /// The clock reference to go with what is decoded from `time` to `end`, where one is due; fills
    /// in those that were due before.
    fn tick(&mut self, time: u64, end: u64) -> Option<u64> {
        self.fill_clock(time);
        let is_due = self.clock.is_none_or(|(last, _)| end.saturating_sub(last) > MAX_PCR_DISTANCE);
        self.clock = match self.clock {
            Some((last, _)) if !is_due => Some((last, end)),
            _ => Some((time, end)),
        };
        is_due.then_some(time)
    }

    /// Packets of nothing but the clock, so that no two references are too far apart.
    fn fill_clock(&mut self, until: u64) {
        let Some((mut last, end)) = self.clock else { return };
        if until.saturating_sub(last) > MAX_PCR_FILL {
            return;
        }
        while until.saturating_sub(last) > MAX_PCR_DISTANCE {
            last += MAX_PCR_DISTANCE;
            let pid = if self.video_has_clock { &self.video } else { &self.audio };
            put_clock_packet(&mut self.out, pid, last);
        }
        self.clock = Some((last, end));
    }

    /// Up to where the next segment begins.
    fn finish_clock(&mut self) {
        if let Some((_, end)) = self.clock {
            self.fill_clock(end);
        }
    }
}

/// PES header (§2.4.3.6) of a body of so many bytes.
fn put_pes_header(out: &mut Vec<u8>, stream: u8, pts: u64, dts: Option<u64>, len: usize) {
    let dts = dts.filter(|dts| *dts != pts);
    let (flags, times_len) = if dts.is_some() { (0xc0, 10) } else { (0x80, 5) };
    // 0 where 16 bits do not hold it, which pictures may do.
    let len = u16::try_from(len + 3 + usize::from(times_len)).unwrap_or(0).to_be_bytes();
    // The body begins with an access unit.
    out.extend_from_slice(&[0, 0, 1, stream, len[0], len[1], 0x84, flags, times_len]);
    put_time(out, if dts.is_some() { 0x31 } else { 0x21 }, pts);
    if let Some(dts) = dts {
        put_time(out, 0x11, dts);
    }
}

/// 33 bits among markers.
fn put_time(out: &mut Vec<u8>, prefix: u8, time: u64) {
    out.extend_from_slice(&[
        prefix | (time >> 29) as u8 & 0x0e,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ]);
}

/// A PES packet in transport packets (§2.4.3.2), the last of them filled up.
fn put_packets(out: &mut Vec<u8>, pid: &mut Pid, field: &Field, pes: &[u8]) {
    let [high, low] = pid.number.to_be_bytes();
    let mut rest = pes;
    let mut begins = true;
    while !rest.is_empty() || begins {
        let counter = pid.counter.unwrap_or(0);
        let flags = u8::from(pid.counter.is_none()) << 7
            | u8::from(begins && field.random_access) << 6
            | u8::from(begins && field.pcr.is_some()) << 4;
        let needed = match (flags, field.pcr) {
            (0, _) => 0,
            (_, Some(_)) if begins => 8,
            _ => 2,
        };
        let body_len = rest.len().min(BODY_LEN - needed);
        let field_len = BODY_LEN - body_len;
        pid.counter = Some((counter + 1) & 0xf);
        let control = if field_len > 0 { 0x30 } else { 0x10 };
        out.extend_from_slice(&[0x47, u8::from(begins) << 6 | high, low, control | counter]);
        put_field(out, field_len, flags, field.pcr.filter(|_| begins));
        let (body, after) = rest.split_at(body_len);
        out.extend_from_slice(body);
        rest = after;
        begins = false;
    }
}

/// An adaptation field (§2.4.3.4) of exactly `len` bytes.
fn put_field(out: &mut Vec<u8>, len: usize, flags: u8, pcr: Option<u64>) {
    if len == 0 {
        return;
    }
    let end = out.len() + len;
    out.push((len - 1) as u8);
    if len > 1 {
        out.push(flags);
        if let Some(time) = pcr {
            let base = time.wrapping_sub(PCR_LEAD);
            out.extend_from_slice(&[
                (base >> 25) as u8,
                (base >> 17) as u8,
                (base >> 9) as u8,
                (base >> 1) as u8,
                (base << 7) as u8 | 0x7e,
                0,
            ]);
        }
    }
    out.resize(end, 0xff);
}

/// A packet without a body does not count.
fn put_clock_packet(out: &mut Vec<u8>, pid: &Pid, time: u64) {
    let [high, low] = pid.number.to_be_bytes();
    let counter = pid.counter.unwrap_or(0).wrapping_sub(1) & 0xf;
    out.extend_from_slice(&[0x47, high, low, 0x20 | counter]);
    put_field(out, BODY_LEN, 0x10, Some(time));
}

/// PAT and PMT (§2.4.4), a packet each.
fn put_tables(video: bool, audio: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * PACKET_LEN);
    let [high, low] = PMT_PID.to_be_bytes();
    put_table(&mut out, 0, 0, &[0, 1, 0xe0 | high, low]);
    let clock = if video { VIDEO_PID } else { AUDIO_PID };
    let [high, low] = clock.to_be_bytes();
    let mut streams = vec![0xe0 | high, low, 0xf0, 0];
    for (kind, pid) in [(0x1b, VIDEO_PID), (0x0f, AUDIO_PID)] {
        if (pid == VIDEO_PID && video) || (pid == AUDIO_PID && audio) {
            let [high, low] = pid.to_be_bytes();
            streams.extend_from_slice(&[kind, 0xe0 | high, low, 0xf0, 0]);
        }
    }
    put_table(&mut out, PMT_PID, 2, &streams);
    out
}

fn put_table(out: &mut Vec<u8>, pid: u16, table: u8, body: &[u8]) {
    // Number 1, current, section 0 of 0; its length counts from here to the checksum's end.
    let len = body.len() + 9;
    let mut section = vec![table, 0xb0, len as u8, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32(&section).to_be_bytes());
    let [high, low] = pid.to_be_bytes();
    let end = out.len() + PACKET_LEN;
    // A discontinuity of the counter, and the section from the body's first byte on.
    out.extend_from_slice(&[0x47, 0x40 | high, low, 0x30, 1, 0x80, 0]);
    out.extend_from_slice(&section);
    out.resize(end, 0xff);
}

/// CRC-32 as of Annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packager, TimedFrame};
    use bytes::Bytes;
    use lookback_wire::{Track, TrackKind, UploadHeader};
    use proptest::prelude::*;
    use std::collections::HashMap;

    const START_MS: i64 = 1_795_348_800_000;
    // x264's record of 320x180 pictures; AAC-LC at 48 kHz, mono.
    const AVCC: &str = "0164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001\
                        000468ef8fcbfdf8f800";
    const AAC: &str = "1188";

    fn hex(text: &str) -> Bytes {
        let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn track(kind: TrackKind, codec_id: &str, codec_private: &str) -> Track {
        Track {
            number: 1,
            uid: 1,
            kind,
            name: None,
            codec_id: codec_id.into(),
            codec_private: hex(codec_private),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 48_000.0,
            channels: 1,
            bit_depth: 0,
        }
    }

    /// A picture of one slice of `len` bytes.
    fn picture(ms: i64, key: bool, len: usize) -> TimedFrame {
        let mut payload = (len as u32).to_be_bytes().to_vec();
        payload.push(if key { 0x65 } else { 0x41 });
        payload.resize(len + 4, ms as u8 | 0x80);
        TimedFrame {
            track: 0,
            time_ns: (START_MS + ms) * 1_000_000,
            duration_ns: None,
            key,
            payload: payload.into(),
        }
    }

    /// A packet of sound; after 50 of them there is a hole of 5 ms.
    fn sound(index: i64, len: usize) -> TimedFrame {
        TimedFrame {
            track: 1,
            time_ns: START_MS * 1_000_000 + index * 1_024_000_000 / 48 + index / 50 * 5_000_000,
            duration_ns: None,
            key: true,
            payload: vec![index as u8 | 0x80; len].into(),
        }
    }

    /// The chunks of each track, and what makes segments of them.
    fn package(frames: Vec<TimedFrame>, end_ms: i64) -> (Muxer, [Vec<u8>; 2]) {
        let tracks = vec![
            track(TrackKind::Video, "V_MPEG4/ISO/AVC", AVCC),
            track(TrackKind::Audio, "A_AAC", AAC),
        ];
        let header = UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks };
        let mut packager = Packager::new(&header).unwrap();
        let with = |track| frames.iter().any(|frame| frame.track == track);
        let inits = packager.inits();
        let muxer = Muxer::new(with(0).then_some(&inits[0]), with(1).then_some(&inits[1])).unwrap();
        let mut chunks: Vec<_> =
            frames.into_iter().flat_map(|frame| packager.push(frame)).collect();
        chunks.extend(packager.finish(Some((START_MS + end_ms) * 1_000_000)));
        let mut bytes = [Vec::new(), Vec::new()];
        for chunk in chunks {
            bytes[chunk.track].extend_from_slice(&chunk.head);
            for part in chunk.samples.iter().flat_map(|sample| sample.clone().into_parts()) {
                bytes[chunk.track].extend_from_slice(&part);
            }
        }
        (muxer, bytes)
    }

    /// What a segment carries on one PID: PTS, DTS and body of each PES packet.
    type Pes = (u64, u64, Vec<u8>);

    /// Reads a segment as a demultiplexer does, holding it to the rules of its layer.
    fn demux(segment: &[u8]) -> HashMap<u16, Vec<Pes>> {
        let mut counters: HashMap<u16, u8> = HashMap::new();
        let mut bodies: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
        let mut clock: Option<u64> = None;
        for (index, packet) in segment.chunks(PACKET_LEN).enumerate() {
            assert_eq!((packet.len(), packet[0]), (PACKET_LEN, 0x47));
            let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
            assert!(index > 1 || pid == [0, PMT_PID][index], "PAT and PMT come first");
            let (has_field, has_body) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
            let mut body = &packet[4..];
            let mut flags = 0;
            if has_field {
                let (field, rest) = body[1..].split_at(usize::from(body[0]));
                (body, flags) = (rest, field.first().copied().unwrap_or(0));
                if flags & 0x10 != 0 {
                    let base =
                        field[1..5].iter().fold(0, |base, byte| base << 8 | u64::from(*byte));
                    let pcr = base << 1 | u64::from(field[5] >> 7);
                    if let Some(last) = clock.replace(pcr) {
                        assert!((1..=MAX_PCR_DISTANCE).contains(&(pcr - last)), "{pcr} {last}");
                    }
                }
            }
            let counter = packet[3] & 0xf;
            match counters.get(&pid) {
                None => assert_eq!((flags >> 7, has_body), (1, true), "PID {pid} begins anew"),
                Some(last) => assert_eq!(counter, (last + u8::from(has_body)) & 0xf, "PID {pid}"),
            }
            counters.insert(pid, counter);
            if !has_body {
                assert!(body.is_empty());
                continue;
            }
            let bodies = bodies.entry(pid).or_default();
            if packet[1] & 0x40 != 0 {
                bodies.push(Vec::new());
            }
            bodies.last_mut().unwrap().extend_from_slice(body);
        }
        for table in [0, PMT_PID] {
            let section = &bodies.remove(&table).unwrap()[0][1..];
            let len = usize::from(section[2]) + 3;
            assert_eq!(crc32(&section[..len]), 0, "the checksum over itself");
        }
        let time = |bytes: &[u8]| {
            let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at| u64::from(bytes[at]));
            (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
        };
        let read = |pes: Vec<u8>| {
            assert_eq!(pes[..3], [0, 0, 1]);
            let stated = usize::from(u16::from_be_bytes([pes[4], pes[5]]));
            assert!(stated == 0 || stated == pes.len() - 6);
            let pts = time(&pes[9..]);
            let dts = if pes[7] & 0x40 != 0 { time(&pes[14..]) } else { pts };
            (pts, dts, pes[9 + usize::from(pes[8])..].to_vec())
        };
        bodies.into_iter().map(|(pid, pes)| (pid, pes.into_iter().map(read).collect())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_demultiplexed_is_what_was_sent(
            pictures in prop::collection::vec((1usize..2_000, 1i64..400), 0..40),
            sounds in prop::collection::vec(1usize..800, 0..100),
            reordered: bool,
        ) {
            prop_assume!(!pictures.is_empty() || !sounds.is_empty());
            let mut shown: Vec<_> = pictures.iter().scan(0, |at, (_, step)| { *at += step; Some(*at) }).collect();
            let end_ms = shown.last().map_or(0, |last| last + 40);
            if reordered {
                shown.get_mut(1..).unwrap_or_default().chunks_exact_mut(3).for_each(|b| b.rotate_right(1));
            }
            let mut frames: Vec<_> = shown.iter().zip(&pictures).enumerate()
                .map(|(index, (ms, (len, _)))| picture(*ms, index % 10 == 0, *len)).collect();
            frames.extend(sounds.iter().enumerate().map(|(index, len)| sound(index as i64, *len)));
            let (muxer, chunks) = package(frames.clone(), end_ms);
            let segment = muxer.segment(&chunks[0], &chunks[1]).unwrap();
            let demuxed = demux(&segment);

            let wrap = |time: u64| time & ((1 << 33) - 1);
            let expected: Vec<Pes> = frames.iter().filter(|f| f.track == 0).map(|frame| {
                let sets = if frame.key { &muxer.video.as_ref().unwrap().parameter_sets[..] } else { &[] };
                let frame_bytes: Vec<u8> = frame.payload.clone().into_parts().concat();
                let unit = [&ACCESS_UNIT_DELIMITER, sets, &[0, 0, 1], &frame_bytes[4..]].concat();
                (wrap((frame.time_ns / 1_000_000) as u64 * 90), 0, unit)
            }).collect();
            let got = demuxed.get(&VIDEO_PID).cloned().unwrap_or_default();
            prop_assert!(got.windows(2).all(|pair| pair[0].1 < pair[1].1), "decode times rise");
            prop_assert!(got.iter().all(|(pts, dts, _)| dts <= pts));
            let got: Vec<Pes> = got.into_iter().map(|(pts, _, unit)| (pts, 0, unit)).collect();
            prop_assert_eq!(got, expected);

            let mut got: Vec<(i64, Vec<u8>)> = Vec::new();
            for (pts, _, mut rest) in demuxed.get(&AUDIO_PID).cloned().unwrap_or_default() {
                let mut time = pts as i64;
                while !rest.is_empty() {
                    prop_assert_eq!(&rest[..3], &[0xff, 0xf1, 1 << 6 | 3 << 2]);
                    let len = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
                    got.push((time, rest[ADTS_LEN..len].to_vec()));
                    rest.drain(..len);
                    time += 1_920;
                }
            }
            let sent: Vec<_> = frames.iter().filter(|f| f.track == 1).collect();
            prop_assert_eq!(got.len(), sent.len());
            for ((time, bytes), frame) in got.iter().zip(sent) {
                prop_assert_eq!(bytes, &frame.payload.clone().into_parts().concat());
                let stated = wrap(frame.time_ns as u64 / 1_000 * 9 / 100) as i64;
                prop_assert!((time - stated).abs() <= 90, "{} is not {}", time, stated);
            }
        }

        #[test]
        fn any_bytes_may_be_given(
            at in any::<prop::sample::Index>(), byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let frames = vec![picture(0, true, 100), picture(40, false, 90), sound(0, 50), sound(1, 50)];
            let (muxer, mut chunks) = package(frames, 80);
            prop_assert_eq!(muxer.segment(&noise, &[]).is_some(), noise.is_empty());
            let at = at.index(chunks[0].len());
            chunks[0][at] = byte;
            muxer.segment(&chunks[0], &chunks[1]);
            muxer.segment(&chunks[1], &chunks[0]);
        }
    }

    #[test]
    fn little_is_added_to_what_is_carried() {
        // 2 s at 2 Mbit/s and 25 pictures a second, 64 kbit/s of sound.
        let size = |n: i64| if n == 0 { 40_000 } else { 8_388 + (n * 7_919 % 2_001) as usize };
        let mut frames: Vec<_> = (0..50).map(|n| picture(n * 40, n == 0, size(n))).collect();
        frames.extend((0..94).map(|n| sound(n, 170)));
        let (muxer, chunks) = package(frames, 2_000);
        let segment = muxer.segment(&chunks[0], &chunks[1]).unwrap();
        let (fragmented, transport) = (chunks.concat().len(), segment.len());
        let more = transport as f64 / fragmented as f64 - 1.0;
        assert!(more <= 0.034, "{:.2} % more", more * 100.0);
    }

    #[test]
    fn what_cannot_be_carried_is_named() {
        let init = |kind, codec_id: &str, codec_private: &str| {
            TrackInit::new(&track(kind, codec_id, codec_private)).unwrap()
        };
        let mu_law = init(TrackKind::Audio, "A_MS/ACM", "07000100401f0000401f0000010008000000");
        let error = Muxer::new(None, Some(&mu_law)).unwrap_err();
        assert_eq!(error.codecs, mu_law.codecs);
        let aac = init(TrackKind::Audio, "A_AAC", AAC);
        assert!(Muxer::new(None, Some(&aac)).is_ok());
        assert!(Muxer::new(Some(&aac), None).is_err());
    }
}
