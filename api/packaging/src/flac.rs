//! G.711, which no browser plays, as FLAC (RFC 9639) in MP4 ("Encapsulation of FLAC in ISO Base Media
//! File Format", version 0.0.4): made when it is played, never kept, and without loss, so that what
//! is decoded are the samples that G.711 stands for.
//!
//! A chunk becomes a chunk of the same decode time and duration. So sound stays as exactly in time
//! as it is kept, however long it plays, and every chunk can be made by itself.

use crate::TrackInit;
use crate::mp4::{self, Sample, put_box, put_full_box};
use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, Frame, FrameOffset, StreamInfo};
use flacenc::config;
use flacenc::error::{Verified, Verify};
use flacenc::source::{Fill, FrameBuf};
use lookback_wire::codec::CodecConfig;
use lookback_wire::codec::g711::{G711Config, Law};

/// RFC 6381, as Chromium and Firefox name it.
pub const CODECS: &str = "flac";

/// How much longer than G.711 it can be: 16 bits a sample instead of 8, where noise cannot be
/// compressed.
pub const MAX_GROWTH: u64 = 2;

/// What G.711 expands to.
const BITS_PER_SAMPLE: usize = 16;
/// Samples of each channel in one FLAC frame: the most that the streamable subset has at rates of up
/// to 48 kHz (RFC 9639 §7).
const MAX_BLOCK: usize = 4608;
/// The least that a frame but a stream's last may have, as the stream's description states it.
const MIN_BLOCK: u16 = 16;
const MAX_CHANNELS: usize = 8;
/// The encoder's buffer cannot be smaller; it may be filled less.
const MIN_BUFFER: usize = 32;
/// A frame's number has 36 bits (RFC 9639 §9.1.5); decode times have more, and wrap.
const FRAME_NUMBER: u64 = (1 << 36) - 1;

/// Makes FLAC of one G.711 track.
pub struct Encoder {
    law: Law,
    channels: usize,
    description: StreamInfo,
    config: Verified<config::Encoder>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("law", &self.law).finish_non_exhaustive()
    }
}

impl Encoder {
    /// None where the track is not G.711, or has more channels or a higher rate than FLAC.
    pub fn new(init: &TrackInit) -> Option<Self> {
        let Ok(CodecConfig::G711(G711Config { law, .. })) = CodecConfig::of(&init.track) else {
            return None;
        };
        let channels = init.channels as usize;
        // The crate takes the count for 8 bits wide without looking.
        if channels > MAX_CHANNELS {
            return None;
        }
        let description =
            StreamInfo::new(init.sampling_hz as usize, channels, BITS_PER_SAMPLE).ok()?;
        let mut config = config::Encoder::default();
        // Polynomials predict telephone sound well enough, and need no analysis of each block.
        config.subframe_coding.use_lpc = false;
        Some(Self { law, channels, description, config: config.into_verified().ok()? })
    }

    /// The track as players get it; `track` still says what was uploaded.
    pub fn init(&self, stored: &TrackInit) -> TrackInit {
        let mut init = TrackInit { codecs: CODECS.into(), playable: true, ..stored.clone() };
        init.segment = init
            .write_segment(|out| {
                put_box(out, b"fLaC", |out| {
                    init.put_sound(out);
                    put_full_box(out, b"dfLa", 0, 0, |out| self.put_description(out));
                });
            })
            .into();
        init
    }

    /// STREAMINFO as the only metadata block (RFC 9639 §8.1, §8.2). What differs from chunk to chunk
    /// is left unknown.
    fn put_description(&self, out: &mut Vec<u8>) {
        const LAST_STREAMINFO: u8 = 0x80;
        const STREAMINFO_LEN: u8 = 34;
        let (hz, channels) = (self.description.sample_rate() as u64, self.channels as u64);
        out.extend_from_slice(&[LAST_STREAMINFO, 0, 0, STREAMINFO_LEN]);
        out.extend_from_slice(&MIN_BLOCK.to_be_bytes());
        out.extend_from_slice(&(MAX_BLOCK as u16).to_be_bytes());
        // Frame sizes.
        out.extend_from_slice(&[0; 6]);
        let bits = BITS_PER_SAMPLE as u64 - 1;
        let packed = hz << 44 | (channels.saturating_sub(1) & 7) << 41 | bits << 36;
        out.extend_from_slice(&packed.to_be_bytes());
        // The checksum of all samples.
        out.extend_from_slice(&[0; 16]);
    }

    /// Chunks of the track, one after the other, as FLAC. None where they are no chunks of ours.
    pub fn encode(&self, chunks: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(chunks.len() * 2);
        let mut read = 0;
        for chunk in mp4::split_chunks(chunks) {
            read += chunk.head.len() + chunk.samples.len();
            self.encode_chunk(&mp4::read_samples(chunk.head)?, chunk.samples, &mut out)?;
        }
        (read == chunks.len()).then_some(out)
    }

    fn encode_chunk(&self, packets: &[Sample], bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (mut samples, mut frames) = (Vec::new(), Vec::new());
        let mut packets = packets.iter().peekable();
        let mut rest = bytes;
        let start = packets.peek()?.decode_time;
        while let Some(first) = packets.peek() {
            // Packets up to one that does not last as long as it has samples.
            let mut run = Run { start: first.decode_time, ticks: 0, pcm: Vec::new() };
            for packet in packets.by_ref() {
                let (packet_bytes, after) = rest.split_at_checked(packet.size as usize)?;
                rest = after;
                run.ticks += u64::from(packet.duration);
                run.pcm.extend(packet_bytes.iter().map(|b| i32::from(self.law.expand(*b))));
                if u64::from(packet.duration) != u64::from(packet.size) / self.channels as u64 {
                    break;
                }
            }
            self.encode_run(&run, &mut samples, &mut frames)?;
        }
        if samples.is_empty() {
            return Some(());
        }
        let timescale = self.description.sample_rate().max(1) as u128;
        let sequence = u128::from(start) * 1000 / timescale;
        out.extend(mp4::write_head(sequence as u32, &samples));
        out.extend(frames);
        Some(())
    }

    /// Blocks of about equal length; the last one lasts until the next run.
    fn encode_run(&self, run: &Run, samples: &mut Vec<Sample>, out: &mut Vec<u8>) -> Option<()> {
        let len = run.pcm.len() / self.channels;
        let count = len.div_ceil(MAX_BLOCK).max(1);
        let mut decode_time = run.start;
        let mut ticks_left = run.ticks;
        let blocks = run.pcm.chunks(len.div_ceil(count).max(1) * self.channels);
        let count = blocks.len() as u64;
        for (index, pcm) in (1..).zip(blocks) {
            let block_len = (pcm.len() / self.channels) as u64;
            let to_come = count - index;
            // A packet may have come before the one ahead of it was over: decode times rise still.
            let ticks = match to_come {
                0 => ticks_left,
                to_come => block_len.min(ticks_left.saturating_sub(to_come)),
            }
            .max(1);
            let before = out.len();
            self.encode_block(decode_time, pcm, out)?;
            samples.push(Sample {
                decode_time,
                presentation_time: decode_time,
                duration: u32::try_from(ticks).ok()?,
                size: u32::try_from(out.len() - before).ok()?,
                key: true,
            });
            decode_time += ticks;
            ticks_left = ticks_left.saturating_sub(ticks);
        }
        Some(())
    }

    /// One FLAC frame.
    fn encode_block(&self, decode_time: u64, pcm: &[i32], out: &mut Vec<u8>) -> Option<()> {
        let len = pcm.len() / self.channels;
        let mut buffer = FrameBuf::with_size(self.channels, len.max(MIN_BUFFER)).ok()?;
        buffer.fill_interleaved(pcm).ok()?;
        let frame =
            flacenc::encode_fixed_size_frame(&self.config, &buffer, 0, &self.description).ok()?;
        let (mut header, subframes) = frame.into_parts();
        // Blocks differ in length, so frames are numbered by their first sample.
        header.set_frame_offset(FrameOffset::StartSample(decode_time & FRAME_NUMBER));
        let mut sink = ByteSink::new();
        Frame::new(header, subframes.into_iter()).ok()?.write(&mut sink).ok()?;
        out.extend_from_slice(sink.as_slice());
        Some(())
    }
}

/// Packets that follow each other without a seam.
struct Run {
    /// Decode time of the first, and how long they last.
    start: u64,
    ticks: u64,
    /// Interleaved.
    pcm: Vec<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packager, TimedFrame};
    use bytes::Bytes;
    use lookback_wire::codec::g711;
    use lookback_wire::{Track, TrackKind, UploadHeader};
    use proptest::prelude::*;

    fn stored(law: Law, sampling_hz: u32, channels: u32) -> TrackInit {
        let record = G711Config { law, sampling_hz, channels }.record();
        TrackInit::new(&Track {
            number: 2,
            uid: 2,
            kind: TrackKind::Audio,
            name: None,
            codec_id: g711::CODEC_ID.into(),
            codec_private: record,
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: sampling_hz.into(),
            channels,
            bit_depth: 0,
        })
        .unwrap()
    }

    /// A chunk of packets: each its bytes, and how long it lasts.
    fn chunk(decode_time: u64, packets: &[(Vec<u8>, u32)]) -> Vec<u8> {
        let mut at = decode_time;
        let samples: Vec<_> = packets
            .iter()
            .map(|(bytes, duration)| {
                let size = bytes.len() as u32;
                let (decode_time, presentation_time) = (at, at);
                at += u64::from(*duration);
                Sample { decode_time, presentation_time, duration: *duration, size, key: true }
            })
            .collect();
        let bytes = packets.iter().flat_map(|(bytes, _)| bytes.iter().copied());
        mp4::write_head(0, &samples).into_iter().chain(bytes).collect()
    }

    /// What is in the header of a FLAC frame of one channel: block size and number of the first
    /// sample (RFC 9639 §9.1).
    fn header(frame: &[u8]) -> (usize, u64) {
        assert_eq!(frame[..2], [0xff, 0xf9], "sync code, blocks of any size");
        let ones = frame[4].leading_ones() as usize;
        let len = ones.max(1);
        let first = u64::from(frame[4]) & (0x7f >> ones);
        let number = frame[5..4 + len].iter().fold(first, |n, b| n << 6 | u64::from(b & 0x3f));
        let size = match frame[2] >> 4 {
            6 => usize::from(frame[4 + len]) + 1,
            7 => usize::from(u16::from_be_bytes([frame[4 + len], frame[5 + len]])) + 1,
            n @ 2..6 => 576 << (n - 2),
            n @ 8.. => 256 << (n - 8),
            n => panic!("block size {n}"),
        };
        (size, number)
    }

    #[test]
    fn only_what_flac_can_hold_becomes_flac() {
        for (channels, hz, held) in [
            (1, 8_000, true),
            (8, 16_000, true),
            (9, 8_000, false),
            (257, 8_000, false),
            (1, 1 << 20, false),
        ] {
            assert_eq!(Encoder::new(&stored(Law::Mu, hz, channels)).is_some(), held, "{channels}");
        }
        let stored = stored(Law::A, 8_000, 1);
        let init = Encoder::new(&stored).unwrap().init(&stored);
        assert_eq!((init.codecs.as_str(), init.playable), ("flac", true));
        assert_eq!((init.timescale, &init.track), (8_000, &stored.track));
        let at = init.segment.windows(4).position(|w| w == b"dfLa").unwrap();
        let expected = "00000000 80000022 0010 1200 000000 000000 01f400f0 00000000";
        let expected: String = expected.split(' ').collect();
        let found: String =
            init.segment[at + 4..][..26].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn frames_are_in_time_and_leave_nothing_out(
            start in 0u64..1 << 50,
            // Bytes of each packet, and how much longer or shorter than that it lasts.
            packets in prop::collection::vec(
                (1usize..6000, prop_oneof![8 => Just(0i64), 1 => -300i64..0, 1 => 1i64..9000]), 1..12,
            ),
            channels in 1u32..3,
        ) {
            let encoder = Encoder::new(&stored(Law::Mu, 8_000, channels)).unwrap();
            let packets: Vec<_> = packets.iter().map(|(len, off)| {
                let bytes: Vec<u8> = (0..len * channels as usize).map(|i| (i * 37 % 251) as u8).collect();
                (bytes, u32::try_from(*len as i64 + off).unwrap_or(0).max(1))
            }).collect();
            let length: u64 = packets.iter().map(|(_, ticks)| u64::from(*ticks)).sum();
            let sent: usize = packets.iter().map(|(bytes, _)| bytes.len()).sum();
            let g711 = chunk(start, &packets);
            let flac = encoder.encode(&[&g711[..], &g711].concat()).unwrap();

            let chunks: Vec<_> = mp4::split_chunks(&flac).collect();
            prop_assert_eq!(chunks.len(), 2);
            let samples = mp4::read_samples(chunks[0].head).unwrap();
            prop_assert_eq!(samples[0].decode_time, start);
            let exact = packets.iter().all(|(b, t)| *t as usize * channels as usize >= b.len());
            let ticks: u64 = samples.iter().map(|s| u64::from(s.duration)).sum();
            prop_assert!(ticks == length || !exact);
            let mut rest = chunks[0].samples;
            let mut held = 0;
            for sample in &samples {
                let (frame, after) = rest.split_at(sample.size as usize);
                rest = after;
                let (len, number) = header(frame);
                prop_assert_eq!(number, sample.decode_time & FRAME_NUMBER);
                prop_assert!(len <= MAX_BLOCK && (!exact || sample.duration as usize >= len));
                held += len * channels as usize;
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(held, sent);
        }

        #[test]
        fn any_bytes_may_be_given(
            at in any::<prop::sample::Index>(), byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let encoder = Encoder::new(&stored(Law::A, 8_000, 1)).unwrap();
            let mut chunk = chunk(77, &[(vec![1; 160], 160), (vec![2; 160], 160)]);
            let at = at.index(chunk.len());
            chunk[at] = byte;
            encoder.encode(&chunk);
            encoder.encode(&noise);
        }
    }

    /// An hour of packets of 20 ms, in fragments of 2 s, from cameras whose sampling clock is too slow
    /// or too fast: a sample of each minute is played when it was recorded.
    #[test]
    fn an_hour_stays_in_time() {
        const PACKET: u64 = 160;
        const PACKETS: u64 = 3_600 * 50;
        const MAX_OFF_NS: u64 = 40_000_000;
        for off_ppm in [0, 200, -200] {
            let stored = stored(Law::Mu, 8_000, 1);
            let encoder = Encoder::new(&stored).unwrap();
            let track = stored.track.clone();
            let header = UploadHeader {
                segment_uid: None,
                timecode_scale_ns: 1_000_000,
                tracks: vec![track],
            };
            let mut packager = Packager::new(&header).unwrap();
            let start_ns = 1_795_348_800_000_000_000;
            let recorded_ns = |packet: u64| {
                let ns = packet as i64 * (20_000_000 + 20 * off_ppm);
                // Matroska's times are milliseconds.
                (start_ns + ns) / 1_000_000 * 1_000_000
            };
            let mut chunks = Vec::new();
            let mut checked = 0;
            let mut before = 0;
            for packet in 0..PACKETS {
                let frame = TimedFrame {
                    track: 0,
                    time_ns: recorded_ns(packet),
                    duration_ns: None,
                    key: true,
                    payload: vec![0xff; PACKET as usize].into(),
                };
                chunks.extend(packager.push(frame));
                if packet % 100 == 99 {
                    chunks.extend(packager.finish(Some(recorded_ns(packet + 1))));
                }
                for chunk in chunks.drain(..) {
                    let packets = mp4::read_samples(&chunk.head).unwrap().len() as u64;
                    let minute = (before + packets) / 3_000;
                    if before / 3_000 < minute {
                        let middle = minute * 3_000 - before - 1;
                        let bytes: Vec<u8> = chunk
                            .samples
                            .iter()
                            .flat_map(|p| p.parts().iter().flatten())
                            .copied()
                            .collect();
                        let flac = encoder.encode(&[&chunk.head[..], &bytes].concat()).unwrap();
                        let played = played_at(&flac, middle * PACKET);
                        let played_ns = u128::from(played) * 1_000_000_000 / 8_000;
                        let off_ns = recorded_ns(before + middle).abs_diff(played_ns as i64);
                        assert!(
                            off_ns <= MAX_OFF_NS,
                            "{off_ppm} ppm, minute {minute}: {off_ns} ns"
                        );
                        checked += 1;
                    }
                    before += packets;
                }
            }
            assert_eq!((checked, before), (60, PACKETS));
        }
    }

    /// The decode time of the `index`th sample of a chunk.
    fn played_at(chunk: &[u8], index: u64) -> u64 {
        let chunk = mp4::split_chunks(chunk).next().unwrap();
        let mut rest = chunk.samples;
        let mut first = 0;
        for sample in mp4::read_samples(chunk.head).unwrap() {
            let (frame, after) = rest.split_at(sample.size as usize);
            rest = after;
            let (len, _) = header(frame);
            if index < first + len as u64 {
                return sample.decode_time + index - first;
            }
            first += len as u64;
        }
        panic!("there are {first} samples");
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let encoder = Encoder::new(&stored(Law::A, 8_000, 1)).unwrap();
        let whole = Bytes::from(chunk(5, &[(vec![9; 160], 160)]));
        for len in 1..whole.len() {
            assert_eq!(encoder.encode(&whole[..len]), None, "cut at {len}");
        }
        assert_eq!(encoder.encode(&[]), Some(Vec::new()));
    }
}
