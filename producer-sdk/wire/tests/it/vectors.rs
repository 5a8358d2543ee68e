//! Bodies that Amazon's producers sent, whole and in random cuts (folder LOOKBACK_VECTORS).

use crate::random::Random;
use crate::reader::{Summary, read, summary};
use lookback_wire::matroska::{Event, Limits};
use lookback_wire::{ErrorId, Frame};
use std::path::PathBuf;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("LOOKBACK_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: LOOKBACK_VECTORS does not name the folder of recorded uploads");
    }
    folder
}

#[test]
fn accepts_what_producers_send() {
    let Some(folder) = folder() else { return };
    let check = |name: &str, expected: Summary| {
        let body = std::fs::read(folder.join(name)).unwrap();
        let whole = read(&body, &[body.len()], Limits::default());
        assert_eq!(summary(&whole), expected, "{name}");
        for seed in 1..=20_u64 {
            let cuts = random_cuts(seed, body.len());
            assert!(read(&body, &cuts, Limits::default()) == whole, "{name}, seed {seed}");
        }
    };
    let whole = Summary { tracks: 1, ..Summary::default() };
    check(
        "c-video-only/putmedia-00.mkv",
        Summary { fragments: 4, frames: 138, keys: 4, tags: 12, ..whole },
    );
    check(
        "c-audio-video/putmedia-00.mkv",
        Summary { tracks: 2, fragments: 4, frames: 493, keys: 4, ..whole },
    );
    check(
        "kvssink-audio-video/putmedia-00.mkv",
        Summary { tracks: 2, fragments: 5, frames: 716, keys: 5, ..whole },
    );
    check(
        "faults/drop-gst/putmedia-00.mkv",
        Summary { fragments: 3, frames: 51, keys: 3, ..whole },
    );
    check(
        "faults/drop-gst/putmedia-01.mkv",
        Summary { fragments: 13, frames: 325, keys: 13, ..whole },
    );
    check(
        "faults/error-ack-5001-gst/putmedia-00.mkv",
        Summary { fragments: 3, frames: 52, keys: 3, ..whole },
    );
    check(
        "faults/error-ack-5001-gst/putmedia-01.mkv",
        Summary { fragments: 10, frames: 250, keys: 10, ..whole },
    );
    check("faults/error-ack-4002-c/putmedia-01.mkv", Summary { tracks: 0, ..whole });
    check(
        "faults/error-ack-4002-c/putmedia-02.first400k.mkv",
        Summary {
            fragments: 0,
            frames: 17,
            keys: 1,
            error: Some((ErrorId::StreamReadError, Some(1795329822479))),
            ..whole
        },
    );
}

/// Lengths of pushes, from single bytes to what a socket gives.
fn random_cuts(seed: u64, len: usize) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut rest = len;
    let mut cuts = Vec::new();
    while rest > 0 {
        let most = [16, 1_500, 65_536][random.below(3)];
        let cut = (1 + random.below(most)).min(rest);
        cuts.push(cut);
        rest -= cut;
    }
    cuts
}

/// `testdata/recording.mkv` was made by ffmpeg 5.1 (testsrc2 at 10/s, H.264 with B-frames, and a
/// sine in AAC); `live.mkv` is its remux with `-live 1`. Counts and bytes are ffprobe's.
#[test]
fn reads_recordings() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut frames = Vec::new();
    for name in ["recording.mkv", "live.mkv"] {
        let file = std::fs::read(folder.join(name)).unwrap();
        let (events, error) = read(&file, &[file.len()], Limits::recording());
        assert_eq!(error, None, "{name}");
        for seed in 1..=20 {
            let cuts = random_cuts(seed, file.len());
            assert!(read(&file, &cuts, Limits::recording()).0 == events, "{name}, seed {seed}");
        }
        let of_file: Vec<_> = events
            .into_iter()
            .filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None })
            .collect();
        for (track, count, keys, bytes) in [(1, 30, 3, 4507), (2, 48, 48, 6353)] {
            let of_track = || of_file.iter().filter(|frame| frame.track == track);
            assert_eq!(of_track().count(), count, "{name}");
            assert_eq!(of_track().filter(|frame| frame.key).count(), keys, "{name}");
            assert_eq!(of_track().map(|frame| frame.payload.len()).sum::<usize>(), bytes, "{name}");
        }
        frames.push(of_file);
    }
    let essence = |frames: &[Frame]| -> Vec<_> {
        frames.iter().map(|frame| (frame.track, frame.timecode, frame.payload.clone())).collect()
    };
    assert_eq!(essence(&frames[0]), essence(&frames[1]));
}
