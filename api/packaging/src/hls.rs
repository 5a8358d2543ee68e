//! HLS playlists (RFC 8216; draft-pantos-hls-rfc8216bis), written.

use lookback_wire::Timestamp;
use std::borrow::Cow;
use std::fmt::Write;

/// A media playlist (RFC 8216 §4.3.3).
#[derive(Clone, Debug)]
pub struct MediaPlaylist<'a> {
    /// Seconds; every segment's duration, rounded, is at most this. For a finished playlist,
    /// [`target_duration_s`] of its segments.
    pub target_duration_s: u32,
    pub media_sequence: u64,
    /// How many discontinuities have left a sliding window.
    pub discontinuity_sequence: u64,
    pub kind: PlaylistKind,
    /// EXT-X-START with PRECISE=YES, seconds from the first picture.
    pub start_offset_s: Option<f64>,
    pub segments: Vec<Segment<'a>>,
    /// What a player needs that wants to be close to the live end.
    pub low_latency: Option<LowLatency<'a>>,
}

/// The tags of Low-Latency HLS (draft-pantos-hls-rfc8216bis §4.4.3.7, §4.4.3.8, §4.4.4.9, §4.4.5).
#[derive(Clone, Debug, Default)]
pub struct LowLatency<'a> {
    /// No part is longer.
    pub part_target_ms: u32,
    /// How far before its end a playlist may be cut short for a player that has the rest. At least 6
    /// times the target duration.
    pub skip_until_s: u32,
    /// Segments before `segments` that this playlist leaves out, since the player has them.
    pub skipped: usize,
    /// The parts of segments: how many of `segments` are before it, and they.
    pub parts: Vec<(usize, Vec<Part<'a>>)>,
    /// Segments that are not whole, by their parts. Their URIs and durations are not written.
    pub arriving: Vec<(Segment<'a>, Vec<Part<'a>>)>,
    /// The part that comes next.
    pub preload_hint: Option<Cow<'a, str>>,
    pub reports: Vec<RenditionReport<'a>>,
}

/// A part of a segment.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    pub uri: Cow<'a, str>,
    /// In ticks of `timescale`.
    pub duration: u64,
    pub timescale: u32,
    /// Whether it begins with a key frame.
    pub independent: bool,
}

/// How far another rendition of the same multivariant playlist is.
#[derive(Clone, Debug)]
pub struct RenditionReport<'a> {
    pub uri: Cow<'a, str>,
    pub last_msn: u64,
    /// The last part of that segment, from 0.
    pub last_part: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Finished; EXT-X-ENDLIST.
    Vod,
    /// Only ever appended to.
    Event,
    /// A sliding window.
    Live,
}

/// One media segment and the tags before it.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub uri: Cow<'a, str>,
    /// In ticks of `timescale`: what its `trun`s add up to.
    pub duration: u64,
    pub timescale: u32,
    pub discontinuity: bool,
    /// EXT-X-MAP, where it differs from the segment's before.
    pub map_uri: Option<Cow<'a, str>>,
    pub program_date_time: Option<Timestamp>,
}

/// A multivariant playlist (RFC 8216 §4.3.4). Sound alone is a variant of its own.
#[derive(Clone, Debug)]
pub struct MultivariantPlaylist<'a> {
    pub video: Option<Variant<'a>>,
    pub audio: Option<Rendition<'a>>,
}

/// The pictures, without the sound.
#[derive(Clone, Debug)]
pub struct Variant<'a> {
    pub uri: Cow<'a, str>,
    /// Bits a second of the largest segment.
    pub bandwidth: u64,
    pub average_bandwidth: Option<u64>,
    pub codecs: String,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
}

/// The sound.
#[derive(Clone, Debug)]
pub struct Rendition<'a> {
    pub uri: Cow<'a, str>,
    /// Bits a second of the largest segment.
    pub bandwidth: u64,
    pub average_bandwidth: Option<u64>,
    pub codecs: String,
    /// 0 where unknown.
    pub channels: u32,
}

/// EXT-X-MAP in a playlist of whole segments needs 6, fractions in EXTINF need 3 (RFC 8216 §7).
const VERSION_WITH_MAP: u32 = 6;
const VERSION_WITHOUT_MAP: u32 = 3;
/// EXT-X-SKIP needs 9 (draft-pantos-hls-rfc8216bis §8).
const VERSION_WITH_SKIP: u32 = 9;

/// How many part targets players stay behind the end: at least 3 (Apple HLS authoring specification,
/// 14.3). video.js takes a segment that is arriving for a whole one and begins that much nearer to the
/// end: with 3 it runs dry in its first seconds.
const PARTS_HELD_BACK: u32 = 4;

/// What a segment's lines usually take, to reserve for them at once.
const SEGMENT_LEN: usize = 48;

/// The smallest EXT-X-TARGETDURATION that holds for these segments, seconds; at least 1.
pub fn target_duration_s(segments: &[Segment]) -> u32 {
    let rounded = |segment: &Segment| {
        let timescale = u64::from(segment.timescale.max(1));
        segment.duration.saturating_add(timescale / 2) / timescale
    };
    let longest = segments.iter().map(rounded).max().unwrap_or(0).max(1);
    u32::try_from(longest).unwrap_or(u32::MAX)
}

impl MediaPlaylist<'_> {
    /// The playlist's text. Whatever is in a URI stays in its line.
    pub fn write(&self) -> String {
        let mapped = self.segments.iter().any(|s| s.map_uri.is_some());
        let version = match &self.low_latency {
            Some(_) => VERSION_WITH_SKIP,
            None if mapped => VERSION_WITH_MAP,
            None => VERSION_WITHOUT_MAP,
        };
        let uris: usize = self.segments.iter().map(|s| s.uri.len()).sum();
        let mut out = String::with_capacity(256 + SEGMENT_LEN * self.segments.len() + uris);

        out.push_str("#EXTM3U\n");
        put_tag(&mut out, "VERSION", version.into());
        put_tag(&mut out, "TARGETDURATION", self.target_duration_s.into());
        if let Some(low_latency) = &self.low_latency {
            low_latency.write_header(&mut out);
        }
        put_tag(&mut out, "MEDIA-SEQUENCE", self.media_sequence);
        if self.kind == PlaylistKind::Live {
            put_tag(&mut out, "DISCONTINUITY-SEQUENCE", self.discontinuity_sequence);
        }
        match self.kind {
            PlaylistKind::Vod => out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
            PlaylistKind::Event => out.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n"),
            PlaylistKind::Live => {}
        }
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        if let Some(offset) = self.start_offset_s.filter(|o| o.is_finite()) {
            put(&mut out, format_args!("#EXT-X-START:TIME-OFFSET={offset:.3},PRECISE=YES\n"));
        }
        let low_latency = self.low_latency.as_ref();
        if let Some(skipped) = low_latency.map(|l| l.skipped).filter(|skipped| *skipped > 0) {
            put(&mut out, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"));
        }
        let mut parts = low_latency.map_or(&[][..], |l| &l.parts[..]).iter().peekable();
        for (index, segment) in self.segments.iter().enumerate() {
            segment.write_tags(&mut out);
            while let Some((_, parts)) = parts.next_if(|(at, _)| *at <= index) {
                parts.iter().for_each(|part| part.write(&mut out));
            }
            segment.write(&mut out);
        }
        if let Some(low_latency) = low_latency {
            low_latency.write_end(&mut out);
        }
        if self.kind == PlaylistKind::Vod {
            out.push_str("#EXT-X-ENDLIST\n");
        }
        out
    }
}

impl LowLatency<'_> {
    fn write_header(&self, out: &mut String) {
        let ms = u64::from(self.part_target_ms);
        out.push_str("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=");
        put_seconds(out, ms * u64::from(PARTS_HELD_BACK), 1_000);
        put(
            out,
            format_args!(",CAN-SKIP-UNTIL={}\n#EXT-X-PART-INF:PART-TARGET=", self.skip_until_s),
        );
        put_seconds(out, ms, 1_000);
        out.push('\n');
    }

    fn write_end(&self, out: &mut String) {
        for (segment, parts) in &self.arriving {
            segment.write_tags(out);
            parts.iter().for_each(|part| part.write(out));
        }
        if let Some(uri) = &self.preload_hint {
            out.push_str("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"");
            put_text(out, uri);
            out.push_str("\"\n");
        }
        for report in &self.reports {
            out.push_str("#EXT-X-RENDITION-REPORT:URI=\"");
            put_text(out, &report.uri);
            put(out, format_args!("\",LAST-MSN={}", report.last_msn));
            if let Some(part) = report.last_part {
                put(out, format_args!(",LAST-PART={part}"));
            }
            out.push('\n');
        }
        let ends_with_segment =
            self.arriving.is_empty() && self.preload_hint.is_none() && self.reports.is_empty();
        if ends_with_segment {
            // hls.js up to 1.7 takes what a playlist with parts ends in for the segment that comes
            // next, also where that is a whole one, and then plays that at another time.
            out.push_str("# between two segments\n");
        }
    }
}

impl Part<'_> {
    fn write(&self, out: &mut String) {
        out.push_str("#EXT-X-PART:DURATION=");
        put_seconds(out, self.duration, self.timescale);
        out.push_str(",URI=\"");
        put_text(out, &self.uri);
        out.push_str(if self.independent { "\",INDEPENDENT=YES\n" } else { "\"\n" });
    }
}

impl Segment<'_> {
    /// What stands before the segment and its parts.
    fn write_tags(&self, out: &mut String) {
        if self.discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(uri) = &self.map_uri {
            out.push_str("#EXT-X-MAP:URI=\"");
            put_text(out, uri);
            out.push_str("\"\n");
        }
        if let Some(time) = self.program_date_time {
            out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            put_date_time(out, time);
            out.push('\n');
        }
    }

    fn write(&self, out: &mut String) {
        out.push_str("#EXTINF:");
        put_seconds(out, self.duration, self.timescale);
        out.push_str(",\n");
        put_text(out, &self.uri);
        out.push('\n');
    }
}

impl MultivariantPlaylist<'_> {
    /// The playlist's text: one variant, and the sound as its rendition.
    pub fn write(&self) -> String {
        let mut out =
            format!("#EXTM3U\n#EXT-X-VERSION:{VERSION_WITH_MAP}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
        match (&self.video, &self.audio) {
            (Some(video), Some(audio)) => {
                audio.write_media(&mut out);
                // What is played together is counted together (RFC 8216 §4.3.4.2).
                let average = video.average_bandwidth.zip(audio.average_bandwidth);
                let together = Variant {
                    bandwidth: video.bandwidth.saturating_add(audio.bandwidth),
                    average_bandwidth: average.map(|(video, audio)| video.saturating_add(audio)),
                    codecs: format!("{},{}", video.codecs, audio.codecs),
                    ..video.clone()
                };
                together.write(&mut out, Some(AUDIO_GROUP));
            }
            (Some(video), None) => video.write(&mut out, None),
            (None, Some(audio)) => {
                let alone = Variant {
                    uri: audio.uri.clone(),
                    bandwidth: audio.bandwidth,
                    average_bandwidth: audio.average_bandwidth,
                    codecs: audio.codecs.clone(),
                    resolution: None,
                    frame_rate: None,
                };
                alone.write(&mut out, None);
            }
            (None, None) => {}
        }
        out
    }
}

/// GROUP-ID and NAME of the only audio rendition.
const AUDIO_GROUP: &str = "audio";

impl Rendition<'_> {
    fn write_media(&self, out: &mut String) {
        put(
            out,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{AUDIO_GROUP}\""
            ),
        );
        out.push_str(",DEFAULT=YES,AUTOSELECT=YES");
        if self.channels > 0 {
            put(out, format_args!(",CHANNELS=\"{}\"", self.channels));
        }
        out.push_str(",URI=\"");
        put_text(out, &self.uri);
        out.push_str("\"\n");
    }
}

impl Variant<'_> {
    fn write(&self, out: &mut String, audio_group: Option<&str>) {
        put(out, format_args!("#EXT-X-STREAM-INF:BANDWIDTH={}", self.bandwidth));
        if let Some(average) = self.average_bandwidth {
            put(out, format_args!(",AVERAGE-BANDWIDTH={average}"));
        }
        out.push_str(",CODECS=\"");
        put_text(out, &self.codecs);
        out.push('"');
        if let Some((width, height)) = self.resolution {
            put(out, format_args!(",RESOLUTION={width}x{height}"));
        }
        if let Some(rate) = self.frame_rate.filter(|r| r.is_finite() && *r > 0.0) {
            put(out, format_args!(",FRAME-RATE={rate:.3}"));
        }
        if let Some(group) = audio_group {
            put(out, format_args!(",AUDIO=\"{group}\""));
        }
        out.push('\n');
        put_text(out, &self.uri);
        out.push('\n');
    }
}

/// Writing into a `String` cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}

fn put_tag(out: &mut String, name: &str, value: u64) {
    put(out, format_args!("#EXT-X-{name}:{value}\n"));
}

/// Text of a line or between quotation marks: what would end either early is percent-encoded
/// (RFC 8216 §4.1, §4.2).
pub(crate) fn put_text(out: &mut String, text: &str) {
    let ends_early = |c: char| c == '"' || c.is_ascii_control();
    // Hardly any text has such a character, and this look at all of it is a few instructions.
    let is_clean = |byte: u8| byte != b'"' && !byte.is_ascii_control();
    if text.bytes().fold(true, |clean, byte| clean & is_clean(byte)) {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.find(ends_early) {
        let (clean, tail) = rest.split_at(at);
        let mut tail = tail.chars();
        let found = tail.next().unwrap_or_default();
        out.push_str(clean);
        put(out, format_args!("%{:02X}", found as u32));
        rest = tail.as_str();
    }
    out.push_str(rest);
}

/// Seconds to the nanosecond, without the zeros at the end: a day of 1 s segments adds up to
/// within 0.1 ms, and the same segment is always written the same.
fn put_seconds(out: &mut String, duration: u64, timescale: u32) {
    let timescale = u64::from(timescale.max(1));
    let ns = match duration.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(timescale / 2))
    {
        Some(ns) => ns / timescale,
        None => {
            let timescale = u128::from(timescale);
            let ns = (u128::from(duration) * 1_000_000_000 + timescale / 2) / timescale;
            u64::try_from(ns).unwrap_or(u64::MAX)
        }
    };
    put_digits(out, ns / 1_000_000_000, 1);
    let mut fraction = ns % 1_000_000_000;
    if fraction > 0 {
        let mut digits = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        out.push('.');
        put_digits(out, fraction, digits);
    }
}

/// Such as `2026-11-22T08:00:00.123Z`. Years beyond 0 to 9999, which ISO 8601 does not write so,
/// become the nearest instant that it does.
pub(crate) fn put_date_time(out: &mut String, time: Timestamp) {
    const EARLIEST_MS: i64 = -62_167_219_200_000;
    const LATEST_MS: i64 = 253_402_300_799_999;
    const DAY_MS: i64 = 86_400_000;
    let ms = time.as_millis().clamp(EARLIEST_MS, LATEST_MS);

    // Days into years that begin in March, so that the leap day ends them; 146,097 days are 400 years.
    let days = ms.div_euclid(DAY_MS) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);

    let in_day = ms.rem_euclid(DAY_MS);
    for (value, digits, end) in [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (in_day / 3_600_000, 2, ':'),
        (in_day / 60_000 % 60, 2, ':'),
        (in_day / 1_000 % 60, 2, '.'),
        (in_day % 1_000, 3, 'Z'),
    ] {
        put_digits(out, value.unsigned_abs(), digits);
        out.push(end);
    }
}

/// At least `digits` of them, zeros in front.
fn put_digits(out: &mut String, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    (text.len()..digits).for_each(|_| out.push('0'));
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, put: impl FnOnce(&mut String)) {
        let mut out = String::new();
        put(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn instants_are_written_in_utc() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_684_327_715_994, "2023-05-17T12:48:35.994Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            check(expected, |out| put_date_time(out, Timestamp::from_millis(ms)));
        }
    }

    #[test]
    fn seconds_have_the_digits_they_need() {
        for (duration, timescale, expected) in [
            (180_000, 90_000, "2"),
            (239_670, 90_000, "2.663"),
            (90_000 * 10, 90_000, "10"),
            (47_104, 48_000, "0.981333333"),
            (1, 90_000, "0.000011111"),
            (0, 90_000, "0"),
            (5, 0, "5"),
            (u64::MAX, 1, "18446744073.709551615"),
        ] {
            check(expected, |out| put_seconds(out, duration, timescale));
        }
    }

    #[test]
    fn text_cannot_end_its_line_or_quotation() {
        for (text, expected) in [
            ("v/1.m4s", "v/1.m4s"),
            ("a\"b\r\nc", "a%22b%0D%0Ac"),
            ("\n", "%0A"),
            ("é#?=&", "é#?=&"),
            ("", ""),
        ] {
            check(expected, |out| put_text(out, text));
        }
    }

    #[test]
    fn a_day_of_segments_adds_up() {
        // Of each: ticks of a segment of about 1 s, and a frame's length.
        for (duration, timescale, frame_s) in
            [(47_104, 48_000, 0.021), (90_090, 90_000, 0.033), (90_001, 90_000, 0.016)]
        {
            let mut text = String::new();
            put_seconds(&mut text, duration, timescale);
            let written: f64 = text.parse().unwrap();
            let exact = duration as f64 / f64::from(timescale);
            assert!((written - exact).abs() * 86_400.0 < frame_s / 100.0, "{text}");
        }
    }

    #[test]
    fn target_durations_are_rounded_half_up() {
        let segment = |duration| Segment {
            uri: "s".into(),
            duration,
            timescale: 1000,
            discontinuity: false,
            map_uri: None,
            program_date_time: None,
        };
        for (durations, expected) in [
            (&[][..], 1),
            (&[200], 1),
            (&[2499], 2),
            (&[2500, 1000], 3),
            (&[1000, 10_400, 9600], 10),
            (&[u64::MAX], u32::MAX),
        ] {
            let segments: Vec<_> = durations.iter().map(|d| segment(*d)).collect();
            assert_eq!(target_duration_s(&segments), expected, "{durations:?}");
        }
    }
}
