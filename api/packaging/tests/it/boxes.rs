//! Initialization segments and chunks, box by box.

use crate::check_golden;
use bytes::Bytes;
use lookback_packaging::{Packager, TimedFrame};
use lookback_wire::{Track, TrackKind, UploadHeader};
use std::fmt::Write;

// x264's record of 320x180 pictures; AudioSpecificConfig of ffmpeg's AAC; WAVEFORMATEX of µ-law.
const AVCC: &str = "0164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001\
                    000468ef8fcbfdf8f800";
const AAC_LC_44100_STEREO: &str = "121056e500";
const MU_LAW_8000_MONO: &str = "07000100401f0000401f0000010008000000";

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
        sampling_hz: 8000.0,
        channels: 1,
        bit_depth: 0,
    }
}

/// A line for each box: its type, and the bytes of those that hold no others.
fn dump(bytes: &[u8]) -> String {
    fn boxes(out: &mut String, mut bytes: &[u8], depth: usize) {
        while let Some((head, rest)) = bytes.split_at_checked(8) {
            let kind = String::from_utf8_lossy(&head[4..]);
            let size = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            let len = (size - 8).min(rest.len());
            let indent = "  ".repeat(depth);
            let before_boxes = match &*kind {
                "moov" | "trak" | "mdia" | "minf" | "dinf" | "stbl" | "mvex" | "moof" | "traf" => 0,
                "dref" | "stsd" => 8,
                "avc1" => 78,
                "mp4a" | "ulaw" => 28,
                _ => len,
            };
            let (fields, inner) = rest[..len].split_at(before_boxes);
            let fields: String = fields.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "{}", format!("{indent}{kind} {size} {fields}").trim_end()).unwrap();
            boxes(out, inner, depth + 1);
            bytes = &rest[len..];
        }
    }
    let mut out = String::new();
    boxes(&mut out, bytes, 0);
    out
}

#[test]
fn initialization_segments_and_chunks() {
    let header = UploadHeader {
        segment_uid: None,
        timecode_scale_ns: 1_000_000,
        tracks: vec![
            track(TrackKind::Video, "V_MPEG4/ISO/AVC", AVCC),
            track(TrackKind::Audio, "A_AAC", AAC_LC_44100_STEREO),
            track(TrackKind::Audio, "A_MS/ACM", MU_LAW_8000_MONO),
        ],
    };
    let mut packager = Packager::new(&header).unwrap();
    let names = ["h264", "aac", "g711"];
    for (init, name) in packager.inits().iter().zip(names) {
        check_golden(&format!("init-{name}.txt"), &dump(&init.segment));
    }

    // Decode order I P b b, 30 frames a second, rounded to milliseconds; sound beside it.
    let frames = [(0, 0), (0, 100), (0, 33), (0, 67), (1, 0), (1, 23), (1, 46), (2, 0), (2, 20)];
    let mut chunks = Vec::new();
    for (track, ms) in frames {
        chunks.extend(packager.push(TimedFrame {
            track,
            time_ns: (1_795_348_800_000 + ms) * 1_000_000,
            duration_ns: None,
            key: ms == 0 || track > 0,
            payload: vec![ms as u8; 160].into(),
        }));
    }
    chunks.extend(packager.finish(Some(1_795_348_800_133 * 1_000_000)));
    assert_eq!(chunks.iter().map(|c| c.track).collect::<Vec<_>>(), [0, 1, 2]);
    for (chunk, name) in chunks.iter().zip(names) {
        check_golden(&format!("chunk-{name}.txt"), &dump(&chunk.head));
    }
}
