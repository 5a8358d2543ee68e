//! Manifests as players get them.

use crate::check_golden;
use lookback_packaging::dash::*;
use lookback_wire::{Timestamp, TrackKind};

const NOON: Timestamp = Timestamp::from_millis(1_795_348_800_000);
const SOUND_HZ: u32 = 44_100;

/// Segments of 2 s from `start_s` after noon on.
fn track(kind: TrackKind, start_s: u64, count: u64) -> Track<'static> {
    let is_video = kind == TrackKind::Video;
    let (timescale, letter) = if is_video { (90_000, 'v') } else { (SOUND_HZ, 'a') };
    let ticks = |s: u64| (1_795_348_800 + s) * u64::from(timescale);
    let segment = |n: u64| Segment {
        url: format!("{}-{n}.{letter}.m4s", 1_795_348_800_000 + 1_000 * (start_s + 2 * n)).into(),
        time: ticks(start_s + 2 * n),
        duration: 2 * u64::from(timescale),
        note: FragmentNote::default(),
    };
    Track {
        kind,
        id: if is_video { "video" } else { "audio" }.into(),
        bandwidth: 1_000_000,
        codecs: if is_video { "avc1.64001f" } else { "mp4a.40.2" }.into(),
        width: if is_video { 1280 } else { 0 },
        height: if is_video { 720 } else { 0 },
        frame_rate: is_video.then_some(29.97),
        sampling_hz: if is_video { 0 } else { SOUND_HZ },
        channels: if is_video { 0 } else { 1 },
        connected_to: (start_s > 0).then(|| "p0".into()),
        timescale,
        presentation_time_offset: ticks(start_s),
        init_url: format!("init-{letter}.mp4").into(),
        segments: (0..count).map(segment).collect(),
    }
}

/// Two runs of footage, 300 s apart.
fn periods(second_start_s: u64, second_duration_s: Option<u64>) -> Vec<Period<'static>> {
    let both = |start_s, count| {
        vec![track(TrackKind::Video, start_s, count), track(TrackKind::Audio, start_s, count)]
    };
    let period = |id: &str, start_s: u64, duration_s: Option<u64>, tracks| Period {
        id: id.into(),
        start_ns: start_s * 1_000_000_000,
        duration_ns: duration_s.map(|s| s * 1_000_000_000),
        tracks,
    };
    vec![
        period("p0", 0, Some(4), both(0, 2)),
        period("p304", second_start_s, second_duration_s, both(304, 1)),
    ]
}

#[test]
fn manifests() {
    let finished = Manifest {
        kind: ManifestKind::Static,
        base_url: Some("../&/hls/".into()),
        max_segment_duration_s: 2,
        periods: periods(4, Some(2)),
    };
    check_golden("static.mpd", &lines(&finished.write()));
    let growing = Manifest {
        kind: ManifestKind::Dynamic {
            availability_start: NOON,
            published: NOON.plus_millis(306_100),
            now: NOON.plus_millis(306_789),
            update_period_s: 2,
            delay_s: 6,
            time_shift_ms: Some(30_500),
        },
        base_url: None,
        periods: periods(304, None),
        ..finished
    };
    check_golden("dynamic.mpd", &lines(&growing.write()));
}

/// An element a line, to be read.
fn lines(text: &str) -> String {
    text.replace("><", ">\n<") + "\n"
}
