//! HLS playlists in the form in which Kinesis Video Streams writes them, attribute for attribute as
//! they were captured: programs exist that take them apart by hand.

use crate::hls::{put_date_time, put_text};
use lookback_wire::Timestamp;
use std::borrow::Cow;
use std::fmt::Write;

/// A media playlist.
#[derive(Clone, Debug)]
pub struct MediaPlaylist<'a> {
    /// Whether it is a recording, listed whole; else a window that moves on.
    pub on_demand: bool,
    /// Whether no more segments follow.
    pub finished: bool,
    pub media_sequence: u64,
    /// Discontinuities that have left the window.
    pub discontinuity_sequence: u64,
    pub segments: Vec<Segment<'a>>,
    /// Whether a discontinuity follows the last segment.
    pub discontinuous_end: bool,
}

/// One media segment and the tags before it.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub uri: Cow<'a, str>,
    pub duration_ms: u64,
    pub discontinuity: bool,
    /// EXT-X-MAP, where it differs from the segment's before.
    pub map_uri: Option<Cow<'a, str>>,
    pub program_date_time: Option<Timestamp>,
}

/// A multivariant playlist: one variant, and the sound as its rendition where it has a track of its
/// own.
#[derive(Clone, Debug)]
pub struct MultivariantPlaylist<'a> {
    pub uri: &'a str,
    pub audio_uri: Option<&'a str>,
    /// RFC 6381, of all tracks.
    pub codecs: &'a str,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
    /// Bits a second.
    pub bandwidth: u64,
}

/// Of playlists with EXT-X-MAP; of those without it, RFC 8216 §7 asks for 3.
const VERSION_WITH_MAP: u32 = 7;
const VERSION_WITHOUT_MAP: u32 = 3;

impl MediaPlaylist<'_> {
    pub fn write(&self) -> String {
        let uris: usize = self.segments.iter().map(|s| s.uri.len()).sum();
        let mut out = String::with_capacity(512 + 160 * self.segments.len() + uris);
        let mapped = self.segments.iter().any(|segment| segment.map_uri.is_some());
        let version = if mapped { VERSION_WITH_MAP } else { VERSION_WITHOUT_MAP };
        put(&mut out, format_args!("#EXTM3U\n#EXT-X-VERSION:{version}\n"));
        if self.on_demand {
            out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n");
        }
        let rounded_s = |segment: &Segment| segment.duration_ms.saturating_add(500) / 1_000;
        let longest_s = self.segments.iter().map(rounded_s).max().unwrap_or(0).max(1);
        put(&mut out, format_args!("#EXT-X-TARGETDURATION:{longest_s}\n"));
        put(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{}\n", self.media_sequence));
        if self.discontinuity_sequence > 0 {
            let sequence = self.discontinuity_sequence;
            put(&mut out, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{sequence}\n"));
        }
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        for segment in &self.segments {
            put_segment(&mut out, segment);
        }
        if self.discontinuous_end {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.finished {
            out.push_str("#EXT-X-ENDLIST\n");
        }
        out
    }
}

impl MultivariantPlaylist<'_> {
    pub fn write(&self) -> String {
        let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:1\n");
        if let Some(uri) = self.audio_uri {
            // Kinesis also writes FORCED=NO, which only subtitles may have (RFC 8216 §4.3.4.1):
            // Chromium refuses the playlist for it.
            out.push_str("#EXT-X-MEDIA:AUTOSELECT=YES,TYPE=AUDIO,URI=\"");
            put_text(&mut out, uri);
            out.push_str("\",GROUP-ID=\"audio\",DEFAULT=NO,NAME=\"audio\"\n");
        }
        out.push_str("#EXT-X-STREAM-INF:CODECS=\"");
        put_text(&mut out, self.codecs);
        out.push('"');
        if let Some((width, height)) = self.resolution {
            put(&mut out, format_args!(",RESOLUTION={width}x{height}"));
        }
        if let Some(rate) = self.frame_rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
            put(&mut out, format_args!(",FRAME-RATE={}", (rate * 100.0).round() / 100.0));
        }
        put(&mut out, format_args!(",BANDWIDTH={}", self.bandwidth));
        if self.audio_uri.is_some() {
            out.push_str(",AUDIO=\"audio\"");
        }
        out.push('\n');
        put_text(&mut out, self.uri);
        out.push('\n');
        out
    }
}

fn put_segment(out: &mut String, segment: &Segment) {
    if segment.discontinuity {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if let Some(uri) = &segment.map_uri {
        out.push_str("#EXT-X-MAP:URI=\"");
        put_text(out, uri);
        out.push_str("\"\n");
    }
    if let Some(time) = segment.program_date_time {
        out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
        put_date_time(out, time);
        out.push('\n');
    }
    // To the millisecond, without the zeros at the end.
    let fraction = format!("{:03}", segment.duration_ms % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    put(out, format_args!("#EXTINF:{}{point}{fraction},\n", segment.duration_ms / 1_000));
    put_text(out, &segment.uri);
    out.push('\n');
}

/// Writing into a `String` cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_as_it_was_captured() {
        let segment =
            |uri: &'static str, at_ms, duration_ms: u64, map: Option<&'static str>| Segment {
                uri: uri.into(),
                duration_ms,
                discontinuity: true,
                map_uri: map.map(Into::into),
                program_date_time: Some(Timestamp::from_millis(at_ms)),
            };
        let map = "getMP4InitFragment.mp4?SessionToken=T~&TrackNumber=1&SequenceNumber=0";
        let mut playlist = MediaPlaylist {
            on_demand: true,
            finished: true,
            media_sequence: 0,
            discontinuity_sequence: 0,
            segments: vec![
                segment(
                    "getMP4MediaFragment.mp4?FragmentNumber=9134385&SessionToken=T~&TrackNumber=1",
                    1_684_331_315_994,
                    2_663,
                    Some(map),
                ),
                segment(
                    "getMP4MediaFragment.mp4?FragmentNumber=913438518&SessionToken=T~&TrackNumber=1",
                    1_684_331_318_656,
                    2_680,
                    None,
                ),
            ],
            discontinuous_end: true,
        };
        let captured = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:3\n\
            #EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-DISCONTINUITY\n\
            #EXT-X-MAP:URI=\"getMP4InitFragment.mp4?SessionToken=T~&TrackNumber=1&SequenceNumber=0\"\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:35.994Z\n#EXTINF:2.663,\n\
            getMP4MediaFragment.mp4?FragmentNumber=9134385&SessionToken=T~&TrackNumber=1\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:38.656Z\n#EXTINF:2.68,\n\
            getMP4MediaFragment.mp4?FragmentNumber=913438518&SessionToken=T~&TrackNumber=1\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-ENDLIST\n";
        assert_eq!(playlist.write(), captured);

        playlist.on_demand = false;
        playlist.finished = false;
        playlist.media_sequence = 12;
        playlist.discontinuity_sequence = 3;
        let live = playlist.write();
        assert!(!live.contains("VOD") && !live.contains("ENDLIST"));
        assert!(live.contains("#EXT-X-MEDIA-SEQUENCE:12\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n"));
    }

    #[test]
    fn a_master_as_it_was_captured() {
        let mut playlist = MultivariantPlaylist {
            uri: "getHLSMediaPlaylist.m3u8?SessionToken=T~&TrackNumber=1",
            audio_uri: Some("getHLSMediaPlaylist.m3u8?SessionToken=T~&TrackNumber=2"),
            codecs: "avc1.42c032,mp4a.40.2",
            resolution: Some((2_592, 1_944)),
            frame_rate: Some(15.012),
            bandwidth: 2_583_047,
        };
        assert_eq!(
            playlist.write(),
            "#EXTM3U\n#EXT-X-VERSION:1\n#EXT-X-MEDIA:AUTOSELECT=YES,TYPE=AUDIO,\
             URI=\"getHLSMediaPlaylist.m3u8?SessionToken=T~&TrackNumber=2\",GROUP-ID=\"audio\",\
             DEFAULT=NO,NAME=\"audio\"\n#EXT-X-STREAM-INF:CODECS=\"avc1.42c032,mp4a.40.2\",\
             RESOLUTION=2592x1944,FRAME-RATE=15.01,BANDWIDTH=2583047,AUDIO=\"audio\"\n\
             getHLSMediaPlaylist.m3u8?SessionToken=T~&TrackNumber=1\n"
        );
        playlist.audio_uri = None;
        assert!(!playlist.write().contains("AUDIO"));
    }
}
