//! How fast the reader takes an upload, by the size of what a socket gives: GB per second of
//! processor time, so that a busy machine says the same as an idle one.

#![allow(clippy::print_stdout)] // what it is for

use bytes::Bytes;
use lookback_wire::matroska::{Event, Limits, Reader, writer};
use lookback_wire::{Payload, Track, TrackKind, UploadHeader};
use std::time::{Duration, Instant};

const FRAGMENTS: u64 = 200;
const FRAMES: i16 = 50;
const FRAME_BYTES: usize = 23 << 10;
const RUN: Duration = Duration::from_secs(1);

fn main() {
    let upload = upload();
    for part in [1, 1_400, 64 << 10] {
        let (mut bytes, mut frames) = (0, 0);
        let (begin, begin_ns) = (Instant::now(), processor_ns());
        while begin.elapsed() < RUN {
            frames += read(&upload, part);
            bytes += upload.len();
        }
        let seconds = (processor_ns() - begin_ns) as f64 / 1e9;
        let rate = bytes as f64 / seconds / 1e9;
        println!("parts of {part:>6} bytes: {rate:>8.2} GB/s, {frames} frames in {seconds:.2} s");
    }
}

/// What this thread has run for (Linux, `Documentation/scheduler/sched-stats.rst`).
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

fn read(upload: &Bytes, part: usize) -> usize {
    let mut reader = Reader::new(Limits::default());
    let mut frames = 0;
    let mut rest = upload.clone();
    while !rest.is_empty() {
        reader.push(rest.split_to(part.min(rest.len())));
        while let Ok(Some(event)) = reader.next() {
            if let Event::Frame(frame) = event {
                frames += usize::from(!std::hint::black_box(frame.payload).is_empty());
            }
        }
    }
    frames
}

fn upload() -> Bytes {
    let track = Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Video,
        name: None,
        codec_id: "V_MPEG4/ISO/AVC".into(),
        codec_private: Bytes::new(),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    let header =
        UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![track] };
    let payload = Payload::from(vec![7; FRAME_BYTES]);
    let mut out = writer::header(&header).to_vec();
    for fragment in 0..FRAGMENTS {
        out.extend(writer::cluster(fragment * 2_000));
        for frame in 0..FRAMES {
            out.extend(writer::simple_block(1, frame * 40, frame == 0, &payload));
            payload.parts().iter().for_each(|part| out.extend(part));
        }
    }
    out.into()
}
