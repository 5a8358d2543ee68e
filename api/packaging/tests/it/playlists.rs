//! Playlists as players get them.

use crate::check_golden;
use lookback_packaging::hls::*;
use lookback_wire::Timestamp;

const NOON: Timestamp = Timestamp::from_millis(1_795_348_800_000);

fn segment(number: usize, duration: u64) -> Segment<'static> {
    Segment {
        uri: format!("v/{number}.m4s").into(),
        duration,
        timescale: 90_000,
        discontinuity: false,
        map_uri: None,
        program_date_time: None,
    }
}

/// Two runs with a gap and another picture size between them.
fn segments() -> Vec<Segment<'static>> {
    let mut segments: Vec<_> = (0..5).map(|i| segment(i, 180_000 + i as u64)).collect();
    segments[0].map_uri = Some("v/init-0.mp4".into());
    segments[0].program_date_time = Some(NOON);
    segments[3].discontinuity = true;
    segments[3].map_uri = Some("v/init-1.mp4".into());
    segments[3].program_date_time = Some(NOON.plus_millis(46_040));
    segments
}

fn playlist(kind: PlaylistKind) -> MediaPlaylist<'static> {
    MediaPlaylist {
        target_duration_s: 2,
        media_sequence: 0,
        discontinuity_sequence: 0,
        kind,
        start_offset_s: None,
        segments: segments(),
        low_latency: None,
    }
}

#[test]
fn media_playlists() {
    let vod = MediaPlaylist { start_offset_s: Some(1.28), ..playlist(PlaylistKind::Vod) };
    check_golden("vod.m3u8", &vod.write());
    check_golden("event.m3u8", &playlist(PlaylistKind::Event).write());
    let mut segments = segments().split_off(2);
    segments[0].map_uri = Some("v/init-0.mp4".into());
    let live = MediaPlaylist {
        media_sequence: 4021,
        discontinuity_sequence: 7,
        segments,
        ..playlist(PlaylistKind::Live)
    };
    check_golden("live.m3u8", &live.write());
    let part = |uri: &'static str, independent| Part {
        uri: uri.into(),
        duration: 45_000,
        timescale: 90_000,
        independent,
    };
    let low_latency = LowLatency {
        part_target_ms: 500,
        skip_until_s: 12,
        skipped: 5,
        parts: vec![(2, vec![part("v/4.0.m4s", true), part("v/4.1.m4s", false)])],
        arriving: vec![(segment(5, 0), vec![part("v/5.0.m4s", true)])],
        preload_hint: Some("v/5.1.m4s".into()),
        reports: vec![RenditionReport {
            uri: "audio.m3u8".into(),
            last_msn: 4029,
            last_part: Some(0),
        }],
    };
    let between = LowLatency {
        arriving: Vec::new(),
        preload_hint: None,
        reports: Vec::new(),
        ..low_latency.clone()
    };
    let low_latency = MediaPlaylist { low_latency: Some(low_latency), ..live };
    check_golden("low-latency.m3u8", &low_latency.write());
    let between = MediaPlaylist { low_latency: Some(between), ..low_latency };
    check_golden("low-latency-between.m3u8", &between.write());
    let unmapped = MediaPlaylist { segments: vec![segment(0, 1)], ..playlist(PlaylistKind::Vod) };
    assert!(unmapped.write().contains("#EXT-X-VERSION:3\n"), "{}", unmapped.write());
}

#[test]
fn multivariant_playlists() {
    let video = Variant {
        uri: "v.m3u8".into(),
        bandwidth: 2_100_000,
        average_bandwidth: Some(1_900_000),
        codecs: "avc1.64001f".into(),
        resolution: Some((1280, 720)),
        frame_rate: Some(29.97),
    };
    let audio = Rendition {
        uri: "a.m3u8".into(),
        bandwidth: 66_000,
        average_bandwidth: Some(64_000),
        codecs: "mp4a.40.2".into(),
        channels: 1,
    };
    for (name, video, audio) in [
        ("multivariant.m3u8", Some(video.clone()), Some(audio.clone())),
        ("multivariant-video.m3u8", Some(video), None),
        ("multivariant-audio.m3u8", None, Some(audio)),
    ] {
        check_golden(name, &MultivariantPlaylist { video, audio }.write());
    }
}
