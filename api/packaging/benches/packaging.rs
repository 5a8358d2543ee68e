//! How fast frames become chunks and segments become playlists.

// What a bench finds goes to stdout; what it cannot do ends it.
#![allow(clippy::expect_used, clippy::print_stdout)]

use bytes::Bytes;
use lookback_packaging::hls::{MediaPlaylist, PlaylistKind, Segment};
use lookback_packaging::{Packager, TimedFrame, flac};
use lookback_wire::codec::g711::{self, G711Config, Law};
use lookback_wire::{Timestamp, Track, TrackKind, UploadHeader};
use std::hint::black_box;
use std::time::{Duration, Instant};

const START_MS: i64 = 1_795_348_800_000;

fn main() {
    packaging();
    playlist();
    sound();
}

/// An hour of G.711 at 8 kHz, a tone under noise, as FLAC.
fn sound() {
    const PACKET: usize = 160;
    const PACKETS: usize = 3600 * 8000 / PACKET;
    let record = G711Config { law: Law::A, sampling_hz: 8_000, channels: 1 }.record();
    let track = Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Audio,
        name: None,
        codec_id: g711::CODEC_ID.into(),
        codec_private: record,
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 8_000.0,
        channels: 1,
        bit_depth: 0,
    };
    let header =
        UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![track] };
    let mut packager = Packager::new(&header).expect("the record is valid");
    let mut noise = 1u32;
    let mut chunks = Vec::new();
    for packet in 0..PACKETS {
        let bytes: Vec<u8> = (0..PACKET)
            .map(|index| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (packet * PACKET + index) as f64 / 8_000.0;
                // A-law's magnitudes are logarithmic: some 30 dB between tone and noise.
                let tone = (at * 440.0 * std::f64::consts::TAU).sin();
                let size = (tone.abs() * 90.0) as u8 & 0x7f;
                (size + (noise >> 30) as u8 + if tone > 0.0 { 0x80 } else { 0 }) ^ 0x55
            })
            .collect();
        chunks.extend(packager.push(TimedFrame {
            track: 0,
            time_ns: (START_MS + packet as i64 * 20) * 1_000_000,
            duration_ns: None,
            key: true,
            payload: bytes.into(),
        }));
    }
    chunks.extend(packager.finish(None));
    let kept: Vec<Vec<u8>> = chunks
        .iter()
        .map(|chunk| {
            let samples = chunk.samples.iter().flat_map(|payload| payload.parts().iter().cloned());
            samples.fold(chunk.head.to_vec(), |mut bytes, part| {
                bytes.extend_from_slice(&part);
                bytes
            })
        })
        .collect();
    let encoder = flac::Encoder::new(&packager.inits()[0]).expect("it is G.711");
    let started = Instant::now();
    let made: usize = kept.iter().map(|chunk| encoder.encode(chunk).expect("a chunk").len()).sum();
    let took = started.elapsed();
    let given: usize = kept.iter().map(Vec::len).sum();
    println!(
        "sound: an hour of G.711, {given} bytes, as FLAC, {made} bytes: {:.0} ms",
        took.as_secs_f64() * 1e3
    );
}

/// 1 GB of video at 2 Mbit/s and 25 frames a second, in fragments of 2 s.
fn packaging() {
    const FRAMES: u64 = 100_000;
    const FRAME_LEN: usize = 10_000;
    let avcc = [
        &b"\x01\x4d\x40\x1f\xff\xe1\x00\x0c\x67\x4d\x40\x1f\xec\xa0\x28\x02\xdd\x80\xb5\x01"[..],
        &b"\x01\x00\x04\x68\xef\x3c\x80"[..],
    ]
    .concat();
    let track = Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Video,
        name: None,
        codec_id: "V_MPEG4/ISO/AVC".into(),
        codec_private: avcc.into(),
        default_duration_ns: None,
        width: 1280,
        height: 720,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    let header =
        UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![track] };
    let mut packager = Packager::new(&header).expect("the record is valid");
    let received = Bytes::from(vec![7; FRAME_LEN]);
    let (mut chunks, mut bytes) = (0u64, 0u64);
    let started = Instant::now();
    for index in 0..FRAMES {
        let time_ns = (START_MS + index as i64 * 40) * 1_000_000;
        let key = index % 50 == 0;
        let mut done = if key { packager.finish(Some(time_ns)) } else { Vec::new() };
        let payload = received.clone().into();
        done.extend(packager.push(TimedFrame {
            track: 0,
            time_ns,
            duration_ns: None,
            key,
            payload,
        }));
        chunks += done.len() as u64;
        bytes += done.iter().map(|chunk| chunk.len()).sum::<u64>();
    }
    let took = started.elapsed();
    let megabytes = bytes as f64 / 1e6;
    println!(
        "packaging: {megabytes:.0} MB, {chunks} chunks: {:.0} MB/s, {:.4} s/GB, {:.0} ns a frame",
        megabytes / took.as_secs_f64(),
        took.as_secs_f64() / megabytes * 1e3,
        took.as_nanos() as f64 / FRAMES as f64,
    );
}

/// A day of 2 s segments with an instant every 100, the best of 20.
fn playlist() {
    const SEGMENTS: u64 = 43_200;
    let uris: Vec<String> = (0..SEGMENTS).map(|i| format!("v/{i}.m4s")).collect();
    let segments = uris.iter().enumerate().map(|(index, uri)| Segment {
        uri: uri.as_str().into(),
        duration: 180_000 + index as u64 % 3 * 90,
        timescale: 90_000,
        discontinuity: false,
        map_uri: (index == 0).then(|| "v/init.mp4".into()),
        program_date_time: (index % 100 == 0)
            .then(|| Timestamp::from_millis(START_MS + index as i64 * 2000)),
    });
    let playlist = MediaPlaylist {
        target_duration_s: 2,
        media_sequence: 0,
        discontinuity_sequence: 0,
        kind: PlaylistKind::Vod,
        start_offset_s: None,
        segments: segments.collect(),
        low_latency: None,
    };
    let mut best = Duration::MAX;
    let mut len = 0;
    for _ in 0..20 {
        let started = Instant::now();
        len = black_box(playlist.write()).len();
        best = best.min(started.elapsed());
    }
    println!(
        "playlist: {SEGMENTS} segments, {len} bytes in {:.2} ms, {} ns a segment",
        best.as_secs_f64() * 1e3,
        best.as_nanos() / u128::from(SEGMENTS),
    );
}
