//! Bodies that Amazon's producers sent, whole and in random cuts (folder LOOKBACK_VECTORS).

use crate::reader::{Summary, read, summary};
use lookback_wire::ErrorId;
use lookback_wire::matroska::Limits;
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
    let mut state = seed;
    let mut rest = len;
    let mut cuts = Vec::new();
    while rest > 0 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let bits = (state >> 33) as usize;
        let cut = [1 + bits % 16, 1 + bits % 1_500, 1 + bits % 65_536][(bits >> 20) % 3].min(rest);
        cuts.push(cut);
        rest -= cut;
    }
    cuts
}
