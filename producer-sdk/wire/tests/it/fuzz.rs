//! The fuzz targets of `producer-sdk/fuzz` with mutations of valid input, from seeds that repeat.
//! LOOKBACK_SOAK=1 takes ten times as many.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use crate::random::Random;
use lookback_wire::{Ack, ErrorId, FragmentNumber};
use std::path::PathBuf;

fn cases() -> u64 {
    let soak = std::env::var_os("LOOKBACK_SOAK").is_some_and(|value| value == "1");
    if soak { 200_000 } else { 20_000 }
}

/// Names the case, so that it can be run again.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("case {}", self.0);
        }
    }
}

fn check(seeds: &[Vec<u8>], target: fn(&[u8])) {
    for seed in seeds {
        target(seed);
    }
    for case in 1..=cases() {
        let named = Case(case);
        let mut random = Random::new(case);
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut data, seeds, &mut random);
        }
        target(&data);
        drop(named);
    }
}

fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    // Half of the mutations fall where headers are.
    let reach = if random.below(2) == 0 { data.len().min(700) } else { data.len() };
    let at = random.below(reach + 1);
    match random.below(6) {
        0 => data.truncate(at),
        1 => data.splice(at..at, random.bytes(9)).for_each(drop),
        2 => {
            let end = (at + random.below(20)).min(data.len());
            data.splice(at..end, []).for_each(drop);
        }
        3 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(200)).min(other.len());
            data.splice(at..at, other[from..to].iter().copied()).for_each(drop);
        }
        4 => {
            for (byte, new) in data[at..].iter_mut().zip(random.bytes(8)) {
                *byte = new;
            }
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn with_choice(choices: std::ops::Range<u8>, data: &[u8]) -> Vec<Vec<u8>> {
    choices.map(|choice| [&[choice], data].concat()).collect()
}

/// A file of `testdata`, in many cuts.
fn recording(name: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let file = std::fs::read(&path).unwrap_or_default();
    assert!(!file.is_empty(), "{} is missing", path.display());
    with_choice(0..16, &file)
}

#[test]
fn reader() {
    let seeds = [
        recording("live.mkv"),
        recording("recording.mkv"),
        with_choice(0..16, &crate::reader::small_upload()),
    ];
    check(&seeds.concat(), targets::reader);
}

#[test]
fn ack() {
    let number = FragmentNumber(7);
    let acks = [
        Ack::Buffering { timecode: 1_663_277_247_152, number },
        Ack::Persisted { timecode: 0, number },
        Ack::Error { timecode: Some(9), number: None, error: ErrorId::InvalidMkvData },
        Ack::Idle,
    ];
    let response: String = acks.iter().map(Ack::write).collect();
    let other = r#"{"New":{"a":["}",{}]},"EventType":"IDLE","Text":"\"}{"}"#;
    let responses = [with_choice(0..9, response.as_bytes()), with_choice(0..9, other.as_bytes())];
    check(&responses.concat(), targets::ack);
}

/// Records as encoders write them, H.264, H.265, AAC and G.711, each after the choice of its codec.
const RECORDS: [&[u8]; 4] = [
    b"\0\x01\x64\0\x28\xff\xe1\0\x1b\x67\x64\0\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\0\0\x03\0\x04\
      \0\0\x03\0\xc8\x3c\x60\xc6\x58\x01\0\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\0",
    b"\x01\x01\x21\x60\0\0\0\x90\0\0\0\0\0\x99\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\x03\x20\0\x01\0\x18\x40\
      \x01\x0c\x01\xff\xff\x21\x60\0\0\x03\0\x90\0\0\x03\0\0\x03\0\x99\x95\x98\x09\x21\0\x01\0\x2b\
      \x42\x01\x01\x21\x60\0\0\x03\0\x90\0\0\x03\0\0\x03\0\x99\xa0\x02\x80\x80\x2d\x16\x59\x59\xa4\
      \x93\x2b\xc0\x5a\x02\0\0\x03\0\x02\0\0\x03\0\x32\x10\x22\0\x01\0\x07\x44\x01\xc1\x72\xb4\x62\
      \x40",
    b"\x02\x11\x88\x56\xe5\0",
    b"\x03\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0",
];

const ANNEX_B: &[u8] =
    b"\x04\0\0\0\x01\x09\x10\0\0\0\x01\x67\x42\xc0\x1e\xd9\0\xa0\x2f\xf9\x70\x11\0\
    \0\x03\0\x01\0\0\x03\0\x32\x0f\x16\x2e\x48\0\0\0\x01\x68\xcb\x83\xcb\x20\0\0\x01\x65\x88\x84";

#[test]
fn codec() {
    let mut seeds: Vec<_> = RECORDS.iter().map(|record| record.to_vec()).collect();
    seeds.push(ANNEX_B.to_vec());
    check(&seeds, targets::codec);
}

#[test]
fn nal() {
    let prefixed = b"\x04\0\0\0\x02\x09\x10\0\0\0\x03\x65\x88\x84\0\0\0\x02\x01\x02".to_vec();
    check(&[ANNEX_B.to_vec(), prefixed], targets::nal);
}
