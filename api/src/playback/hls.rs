//! HLS of a session: which fragments a playlist lists, where it breaks, and the bytes behind its
//! URIs. `lookback-packaging` writes the text.
//!
//! Every fragment is one segment of each rendition: its track's chunks, one range of its body.

use super::token::{MediaToken, Span};
use super::{MediaError, Playback, Rendition};
use crate::id::StreamId;
use crate::storage::{
    FragmentQuery, FragmentRecord, InitId, RUN_TOLERANCE_MS, RangeBy, StorageError, TimeOrder,
    TrackSpan,
};
use bytes::Bytes;
use lookback_packaging::TrackInit;
use lookback_packaging::hls::{
    self, MediaPlaylist, MultivariantPlaylist, PlaylistKind, Rendition as AudioRendition, Segment,
    Variant,
};
use lookback_wire::{FragmentNumber, Timestamp, TrackKind};
use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

/// A day of fragments of 1 s, and re-sent ones.
const MAX_FRAGMENTS: usize = 100_000;
/// Fragments that tell the peak rate and the codecs of a session.
const SAMPLE: usize = 300;
/// Segments between two EXT-X-PROGRAM-DATE-TIME: what rounding adds up to stays below a frame.
const DATE_TIME_EVERY: usize = 10;

/// A fragment as a playlist lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub fragment: FragmentRecord,
    /// Whether it does not continue the one listed before.
    pub discontinuity: bool,
}

/// The name of a media segment: `{start_ms}-{number}.v.m4s`, or `.a.m4s` for audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentName {
    pub start: Timestamp,
    pub number: FragmentNumber,
    pub rendition: Rendition,
}

impl SegmentName {
    fn push_to(self, text: &mut String) {
        push_decimal(text, self.start.as_millis().max(0).unsigned_abs());
        text.push('-');
        push_decimal(text, self.number.0);
        text.push_str(match self.rendition {
            Rendition::Video => ".v.m4s",
            Rendition::Audio => ".a.m4s",
        });
    }
}

/// Appends a number: a day's playlist has 170,000, and formatting is most of its cost.
fn push_decimal(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len() - 1;
    loop {
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
        first -= 1;
    }
    text.push_str(std::str::from_utf8(&digits[first..]).unwrap_or_default());
}

/// Text that names no media segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSegmentName;

impl FromStr for SegmentName {
    type Err = NoSegmentName;

    fn from_str(text: &str) -> Result<Self, NoSegmentName> {
        let (stem, rendition) = if let Some(stem) = text.strip_suffix(".v.m4s") {
            (stem, Rendition::Video)
        } else {
            (text.strip_suffix(".a.m4s").ok_or(NoSegmentName)?, Rendition::Audio)
        };
        let (start, number) = stem.split_once('-').ok_or(NoSegmentName)?;
        Ok(Self {
            start: Timestamp::from_millis(decimal(start)?),
            number: FragmentNumber(decimal(number)?),
            rendition,
        })
    }
}

/// Digits only: `parse` alone would also take a sign.
fn decimal<T: FromStr>(text: &str) -> Result<T, NoSegmentName> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoSegmentName);
    }
    text.parse().map_err(|_| NoSegmentName)
}

/// The name of an initialization segment: `init-{id}.mp4`, 16 hexadecimal digits.
pub fn init_name(id: InitId) -> String {
    format!("init-{:016x}.mp4", id.0)
}

/// Reads what [`init_name`] wrote.
pub fn parse_init_name(text: &str) -> Option<InitId> {
    let hex = text.strip_prefix("init-")?.strip_suffix(".mp4")?;
    let is_ours = hex.len() == 16 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u64::from_str_radix(hex, 16).ok().map(InitId))?
}

impl Playback {
    /// The multivariant playlist of a session.
    pub async fn multivariant_playlist(&self, token: &MediaToken) -> Result<String, MediaError> {
        let (listed, _) = self.listed(token, SAMPLE).await?;
        let mut variant: Option<Arc<TrackInit>> = None;
        let mut audio: Option<Arc<TrackInit>> = None;
        let mut seen: Vec<InitId> = Vec::new();
        for track in listed.iter().flat_map(|listed| &listed.fragment.tracks) {
            if seen.contains(&track.init) {
                continue;
            }
            seen.push(track.init);
            let Some(init) = self.track_init(token.stream, track.init).await? else { continue };
            if !init.playable {
                continue;
            }
            let pixels = |init: &TrackInit| u64::from(init.width) * u64::from(init.height);
            match init.kind {
                TrackKind::Video if variant.as_ref().is_none_or(|v| pixels(v) < pixels(&init)) => {
                    variant = Some(init);
                }
                TrackKind::Audio if audio.is_none() => audio = Some(init),
                _ => {}
            }
        }
        if variant.is_none() && audio.is_none() {
            return Err(MediaError::NotFound);
        }
        let (peak, average) = bit_rates(&listed, Rendition::Video);
        let (audio_peak, audio_average) = bit_rates(&listed, Rendition::Audio);
        let playlist = MultivariantPlaylist {
            video: variant.map(|init| Variant {
                uri: "video.m3u8".into(),
                bandwidth: peak,
                average_bandwidth: Some(average),
                codecs: init.codecs.clone(),
                resolution: (init.width > 0).then_some((init.width, init.height)),
                frame_rate: None,
            }),
            audio: audio.map(|init| AudioRendition {
                uri: "audio.m3u8".into(),
                bandwidth: audio_peak,
                average_bandwidth: Some(audio_average),
                codecs: init.codecs.clone(),
                channels: init.channels,
            }),
        };
        Ok(playlist.write())
    }

    /// The media playlist of one rendition of a session.
    pub async fn media_playlist(
        &self,
        token: &MediaToken,
        rendition: Rendition,
    ) -> Result<String, MediaError> {
        let (listed, frame) = self.listed(token, MAX_FRAGMENTS).await?;
        let unplayable = self.unplayable(token.stream, &listed).await?;
        write_playlist(&listed, rendition, &unplayable, &frame).ok_or(MediaError::NotFound)
    }

    /// `ftyp` and `moov` of a track of the session's stream.
    pub async fn init_segment(&self, token: &MediaToken, id: InitId) -> Result<Bytes, MediaError> {
        let init = self.track_init(token.stream, id).await?.ok_or(MediaError::Refused)?;
        Ok(init.segment.clone())
    }

    /// One track of a fragment that overlaps the session's span.
    pub async fn segment(
        &self,
        token: &MediaToken,
        name: SegmentName,
    ) -> Result<Bytes, MediaError> {
        let archive = &self.storage.archive;
        let fragment = archive
            .fragment(token.stream, name.start, name.number)
            .await?
            .filter(|fragment| opens(token.span, fragment))
            .ok_or(MediaError::Refused)?;
        let track = track_of(&fragment, name.rendition, &[]).ok_or(MediaError::NotFound)?;
        Ok(archive.read(token.stream, fragment.location, track.offset, track.len).await?)
    }

    /// What a session's playlists list, at most `limit` of it where it is finished.
    async fn listed(
        &self,
        token: &MediaToken,
        limit: usize,
    ) -> Result<(Vec<Listed>, PlaylistFrame), StorageError> {
        let archive = &self.storage.archive;
        match token.span {
            Span::OnDemand { range, start_offset_ms } => {
                let query = FragmentQuery {
                    by: RangeBy::Timeline,
                    range,
                    order: TimeOrder::OldestFirst,
                    limit,
                };
                let fragments = archive.fragments(token.stream, &query).await?;
                Ok((arrange(fragments), PlaylistFrame::OnDemand { start_offset_ms }))
            }
            Span::Live { origin, number, target_duration_s } => {
                let now = self.clock.now();
                let window = self.live.of(token.session, (origin, number), now);
                let mut window = window.lock().await;
                window.follow(archive.as_ref(), token.stream, now).await?;
                let frame = PlaylistFrame::Live {
                    target_duration_s,
                    video_sequence: window.video_sequence,
                    audio_sequence: window.audio_sequence,
                    discontinuity_sequence: window.discontinuity_sequence,
                };
                Ok((window.segments.iter().cloned().collect(), frame))
            }
        }
    }

    /// Initialization segments of `listed` that no player takes.
    async fn unplayable(
        &self,
        stream: StreamId,
        listed: &[Listed],
    ) -> Result<Vec<InitId>, StorageError> {
        let (mut seen, mut unplayable) = (Vec::new(), Vec::new());
        for track in listed.iter().flat_map(|listed| &listed.fragment.tracks) {
            if !seen.contains(&track.init) {
                seen.push(track.init);
                if self.track_init(stream, track.init).await?.is_none_or(|init| !init.playable) {
                    unplayable.push(track.init);
                }
            }
        }
        Ok(unplayable)
    }
}

/// What a playlist says of itself, around its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaylistFrame {
    OnDemand {
        start_offset_ms: u32,
    },
    Live {
        target_duration_s: u32,
        video_sequence: u64,
        audio_sequence: u64,
        discontinuity_sequence: u64,
    },
}

/// Whether a token's span opens a fragment.
fn opens(span: Span, fragment: &FragmentRecord) -> bool {
    match span {
        Span::OnDemand { range, .. } => fragment.range().overlaps(&range),
        Span::Live { origin, .. } => fragment.start >= origin,
    }
}

/// Whether a player goes on from one fragment to the next without being told: no hole or overlap
/// that it would notice, and the same tracks.
pub fn continues(before: &FragmentRecord, after: &FragmentRecord) -> bool {
    let hole_ms = after.start.millis_since(before.range().end);
    hole_ms.abs() <= RUN_TOLERANCE_MS
        && before.tracks.len() == after.tracks.len()
        && before.tracks.iter().zip(&after.tracks).all(|(a, b)| a.init == b.init)
}

/// Fragments in the order of their starts into what a finished playlist lists. Where some overlap
/// (a camera sent its footage again, cut elsewhere), those are left out that a gapless way through
/// does not need.
pub fn arrange(by_start: Vec<FragmentRecord>) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::with_capacity(by_start.len());
    let mut fragments = by_start.into_iter().peekable();
    while let Some(fragment) = fragments.next() {
        let discontinuity = match listed.last() {
            None => false,
            Some(last) => {
                let end = last.fragment.range().end;
                if end.millis_since(fragment.start) > RUN_TOLERANCE_MS {
                    let covered = fragment.range().end <= end;
                    let next_continues = fragments
                        .peek()
                        .is_some_and(|next| next.start.millis_since(end).abs() <= RUN_TOLERANCE_MS);
                    if covered || next_continues {
                        continue;
                    }
                }
                !continues(&last.fragment, &fragment)
            }
        };
        listed.push(Listed { fragment, discontinuity });
    }
    listed
}

fn track_of<'a>(
    fragment: &'a FragmentRecord,
    rendition: Rendition,
    unplayable: &[InitId],
) -> Option<&'a TrackSpan> {
    let is_video = rendition == Rendition::Video;
    fragment
        .tracks
        .iter()
        .find(|track| track.is_video == is_video && !unplayable.contains(&track.init))
}

/// Peak and average rate of a rendition's segments, bits a second.
fn bit_rates(listed: &[Listed], rendition: Rendition) -> (u64, u64) {
    let (mut peak, mut bits, mut seconds) = (0.0f64, 0.0, 0.0);
    for track in listed.iter().filter_map(|one| track_of(&one.fragment, rendition, &[])) {
        let segment_s = track.duration.max(1) as f64 / f64::from(track.timescale.max(1));
        let segment_bits = f64::from(track.len) * 8.0;
        peak = peak.max(segment_bits / segment_s);
        bits += segment_bits;
        seconds += segment_s;
    }
    let average = if seconds > 0.0 { bits / seconds } else { 0.0 };
    (peak.max(1.0).ceil() as u64, average.max(1.0).ceil() as u64)
}

/// The text of a media playlist; `None` where nothing of the rendition is listed.
fn write_playlist(
    listed: &[Listed],
    rendition: Rendition,
    unplayable: &[InitId],
    frame: &PlaylistFrame,
) -> Option<String> {
    let mut uris = String::with_capacity(listed.len() * 48);
    let mut ends = Vec::with_capacity(listed.len());
    let mut inits: Vec<(InitId, String)> = Vec::new();
    let mut tracks: Vec<(&TrackSpan, bool)> = Vec::with_capacity(listed.len());
    let mut broken = false;
    for Listed { fragment, discontinuity } in listed {
        broken |= discontinuity;
        let Some(track) = track_of(fragment, rendition, unplayable) else { continue };
        SegmentName { start: fragment.start, number: fragment.number, rendition }
            .push_to(&mut uris);
        ends.push(uris.len());
        tracks.push((track, std::mem::take(&mut broken)));
        if !inits.iter().any(|(id, _)| *id == track.init) {
            inits.push((track.init, init_name(track.init)));
        }
    }

    let mut start = 0;
    let mut last_init = None;
    let mut undated = 0;
    let mut segments = Vec::with_capacity(tracks.len());
    for ((track, discontinuity), end) in tracks.into_iter().zip(ends) {
        let map = (last_init != Some(track.init))
            .then(|| inits.iter().find(|(id, _)| *id == track.init))
            .flatten();
        last_init = Some(track.init);
        undated = if segments.is_empty() || discontinuity || undated == DATE_TIME_EVERY {
            1
        } else {
            undated + 1
        };
        segments.push(Segment {
            uri: Cow::Borrowed(&uris[start..end]),
            duration: track.duration,
            timescale: track.timescale,
            discontinuity,
            map_uri: map.map(|(_, name)| Cow::Borrowed(name.as_str())),
            program_date_time: (undated == 1).then(|| first_picture(track)),
        });
        start = end;
    }
    if segments.is_empty() {
        return None;
    }
    let playlist = match *frame {
        PlaylistFrame::OnDemand { start_offset_ms } => MediaPlaylist {
            target_duration_s: hls::target_duration_s(&segments),
            media_sequence: 0,
            discontinuity_sequence: 0,
            kind: PlaylistKind::Vod,
            start_offset_s: (start_offset_ms > 0).then(|| f64::from(start_offset_ms) / 1_000.0),
            segments,
        },
        PlaylistFrame::Live {
            target_duration_s,
            video_sequence,
            audio_sequence,
            discontinuity_sequence,
        } => MediaPlaylist {
            target_duration_s,
            media_sequence: match rendition {
                Rendition::Video => video_sequence,
                Rendition::Audio => audio_sequence,
            },
            discontinuity_sequence,
            kind: PlaylistKind::Live,
            start_offset_s: None,
            segments,
        },
    };
    Some(playlist.write())
}

/// When a track's first sample of a fragment is shown, on the timeline.
fn first_picture(track: &TrackSpan) -> Timestamp {
    let timescale = u128::from(track.timescale).max(1);
    let millis = (u128::from(track.decode_time) * 1_000 + timescale / 2) / timescale;
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::TimeRange;
    use crate::storage::Location;

    const T0: i64 = 1_795_329_502_534;
    const VIDEO: InitId = InitId(0xA1);
    const WIDER: InitId = InitId(0xA2);
    const AUDIO: InitId = InitId(0xB1);
    const SPAN: PlaylistFrame = PlaylistFrame::OnDemand { start_offset_ms: 0 };

    /// A fragment `at_ms` after `T0`; `tracks` name its initialization segments.
    fn fragment(at_ms: i64, duration_ms: u32, number: u64, tracks: &[InitId]) -> FragmentRecord {
        let start = Timestamp::from_millis(T0 + at_ms);
        let track = |&init: &InitId| TrackSpan {
            init,
            is_video: init != AUDIO,
            key: true,
            decode_time: (T0 + at_ms) as u64 * 90,
            duration: u64::from(duration_ms) * 90,
            timescale: 90_000,
            offset: 0,
            len: 125 * duration_ms,
        };
        FragmentRecord {
            number: FragmentNumber(number),
            start,
            duration_ms,
            capture_start: start,
            arrived_at: start,
            tracks: tracks.iter().map(track).collect(),
            location: Location { file: 0, offset: 0, len: 0 },
        }
    }

    #[test]
    fn a_way_through_without_repeating() {
        /// Start and length in s, number.
        type Cut = (i64, u32, u64);
        // What there is, then what is listed, `|` before a discontinuity.
        let table: [(&[Cut], &str); 8] = [
            (&[], ""),
            (&[(0, 2, 1), (2, 2, 2), (4, 2, 3)], "0 2 4"),
            (&[(0, 2, 1), (5, 2, 2)], "0 |5"),
            // Sent again after a reconnect, cut elsewhere.
            (&[(0, 2, 1), (1, 2, 3), (2, 2, 2), (3, 2, 4), (4, 2, 5)], "0 2 4"),
            // Only what was sent again goes on.
            (&[(0, 2, 1), (1, 2, 2), (3, 2, 3)], "0 |1 3"),
            // Covered by what is listed, newer or not.
            (&[(0, 9, 5), (1, 2, 1), (3, 2, 9), (9, 1, 6)], "0 9"),
            (&[(0, 9, 1), (8, 2, 2), (10, 1, 3)], "0 |8 10"),
            (&[(0, 2, 1), (1, 9, 2), (5, 1, 3)], "0 |1"),
        ];
        for (fragments, expected) in table {
            let fragments: Vec<_> = fragments
                .iter()
                .map(|&(at_s, s, number)| fragment(at_s * 1_000, s * 1_000, number, &[VIDEO]))
                .collect();
            let listed: Vec<String> = arrange(fragments)
                .iter()
                .map(|one| {
                    let at_s = (one.fragment.start.as_millis() - T0) / 1_000;
                    format!("{}{at_s}", if one.discontinuity { "|" } else { "" })
                })
                .collect();
            assert_eq!(listed.join(" "), expected);
        }
    }

    #[test]
    fn joints_up_to_a_tenth_of_a_second_are_none() {
        let first = fragment(0, 1_000, 1, &[VIDEO]);
        for (at_ms, continues_at) in [(900, true), (899, false), (1_100, true), (1_101, false)] {
            let second = fragment(at_ms, 1_000, 2, &[VIDEO]);
            assert_eq!(continues(&first, &second), continues_at, "{at_ms} ms");
        }
        assert!(!continues(&first, &fragment(1_000, 1_000, 2, &[WIDER])));
        assert!(!continues(&first, &fragment(1_000, 1_000, 2, &[VIDEO, AUDIO])));
    }

    fn playlist(fragments: Vec<FragmentRecord>, rendition: Rendition) -> Option<String> {
        write_playlist(&arrange(fragments), rendition, &[], &SPAN)
    }

    #[test]
    fn a_day_with_a_gap_and_another_resolution() {
        let fragments = vec![
            fragment(0, 1_000, 7, &[VIDEO, AUDIO]),
            fragment(1_000, 1_500, 8, &[VIDEO, AUDIO]),
            fragment(60_000, 1_000, 9, &[VIDEO]),
            fragment(61_000, 1_000, 10, &[WIDER, AUDIO]),
        ];
        let video = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-00000000000000a1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1,
1795329502534-7.v.m4s
#EXTINF:1.5,
1795329503534-8.v.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:22.534Z
#EXTINF:1,
1795329562534-9.v.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"init-00000000000000a2.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:23.534Z
#EXTINF:1,
1795329563534-10.v.m4s
#EXT-X-ENDLIST
";
        let audio = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-00000000000000b1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1,
1795329502534-7.a.m4s
#EXTINF:1.5,
1795329503534-8.a.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:23.534Z
#EXTINF:1,
1795329563534-10.a.m4s
#EXT-X-ENDLIST
";
        assert_eq!(playlist(fragments.clone(), Rendition::Video).as_deref(), Some(video));
        assert_eq!(playlist(fragments.clone(), Rendition::Audio).as_deref(), Some(audio));
        let listed = arrange(fragments);
        assert_eq!(write_playlist(&listed, Rendition::Audio, &[AUDIO], &SPAN), None);
    }

    #[test]
    fn dates_come_back_every_ten_segments() {
        let fragments = (0..25).map(|n| fragment(n * 1_000, 1_000, n as u64, &[VIDEO])).collect();
        let text = playlist(fragments, Rendition::Video).unwrap();
        let dates: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")).collect();
        assert_eq!(
            dates,
            ["2026-11-22T06:38:22.534Z", "2026-11-22T06:38:32.534Z", "2026-11-22T06:38:42.534Z"]
        );
    }

    #[test]
    fn names_of_segments_and_inits() {
        let name = SegmentName {
            start: Timestamp::from_millis(T0),
            number: FragmentNumber(u64::MAX),
            rendition: Rendition::Audio,
        };
        let mut text = String::new();
        name.push_to(&mut text);
        assert_eq!(text, "1795329502534-18446744073709551615.a.m4s");
        assert_eq!(text.parse(), Ok(name));
        for bad in ["1-2.m4s", "1-2.x.m4s", "-1-2.v.m4s", "1-+2.v.m4s", "1.v.m4s", "-.v.m4s", ""] {
            assert_eq!(bad.parse::<SegmentName>(), Err(NoSegmentName), "{bad}");
        }
        assert_eq!(parse_init_name(&init_name(InitId(0xF))), Some(InitId(0xF)));
        for bad in ["init-000000000000000F.mp4", "init-f.mp4", "init-+00000000000000f.mp4"] {
            assert_eq!(parse_init_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_opens_what_overlaps_it() {
        let at = |ms| Timestamp::from_millis(T0 + ms);
        let on_demand = Span::OnDemand {
            range: TimeRange { start: at(0), end: at(1_000) },
            start_offset_ms: 0,
        };
        let live = Span::Live { origin: at(0), number: FragmentNumber(1), target_duration_s: 1 };
        for (at_ms, by_range, by_origin) in [
            (-1_000, false, false),
            (-999, true, false),
            (0, true, true),
            (999, true, true),
            (1_000, false, true),
        ] {
            let fragment = fragment(at_ms, 1_000, 1, &[VIDEO]);
            assert_eq!(opens(on_demand, &fragment), by_range, "{at_ms}");
            assert_eq!(opens(live, &fragment), by_origin, "{at_ms}");
        }
    }
}
