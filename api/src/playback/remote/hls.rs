//! HLS of remote footage that Kinesis makes no playlist of: ours, after its list of fragments.
//! A segment is one fragment with all of its tracks, made when it is asked for. Where the tracks change,
//! what follows has an initialization segment of its own.

use super::fragments::{self, Packaged};
use super::listings::gaps;
use super::stretches::{Stretch, Stretches};
use crate::playback::token::{MediaToken, Span};
use crate::playback::{MediaError, Playback};
use crate::storage::{ListedFragment, Media, is_fragment_id};
use bytes::{Bytes, BytesMut};
use lookback_packaging::hls::{
    MediaPlaylist, MultivariantPlaylist, PlaylistKind, Segment, Variant, target_duration_s,
};
use lookback_packaging::ts::Muxer;
use lookback_packaging::{TrackInit, muxed};
use lookback_wire::TrackKind;
use std::str::FromStr;

/// Durations in playlists.
const TIMESCALE: u32 = 1_000;
/// Segments between two EXT-X-PROGRAM-DATE-TIME.
const DATE_TIME_EVERY: usize = 10;

/// A file of such a session.
pub enum File {
    Playlist(String),
    Init(Bytes),
    Segment(Bytes),
    TransportStream(Bytes),
}

/// The name of a file that is made of one fragment: its number, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    fragment: String,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Init,
    Segment,
    TransportStream,
}

const SUFFIXES: [(&str, Form); 3] =
    [(".init.mp4", Form::Init), (".m4s", Form::Segment), (".ts", Form::TransportStream)];

impl FromStr for Name {
    type Err = MediaError;

    fn from_str(text: &str) -> Result<Self, MediaError> {
        let parsed = SUFFIXES.iter().find_map(|(suffix, form)| {
            let fragment = text.strip_suffix(suffix)?;
            is_fragment_id(fragment).then(|| Self { fragment: fragment.to_owned(), form: *form })
        });
        parsed.ok_or(MediaError::NotFound)
    }
}

impl Playback {
    /// A file of a session whose footage lies in Kinesis Video Streams; none where it lies here.
    pub async fn remote_hls(
        &self,
        token: &MediaToken,
        name: &str,
    ) -> Result<Option<File>, MediaError> {
        let Media::Remote(archive) = &self.storage.media else { return Ok(None) };
        let Span::OnDemand { range, start_offset_ms } = token.span else {
            return Err(MediaError::NotFound);
        };
        Ok(Some(match name {
            "main.m3u8" => {
                let (stream, way) = self.remote_way(token).await?;
                let stretches = way.stretches(archive, &stream).await?;
                File::Playlist(multivariant(stretches, &way.fragments))
            }
            "video.m3u8" | "ts.m3u8" => {
                let (stream, way) = self.remote_way(token).await?;
                let stretches = way.stretches(archive, &stream).await?;
                let form = if name == "ts.m3u8" { Form::TransportStream } else { Form::Segment };
                let listed = &way.fragments;
                File::Playlist(media_playlist(listed, &stretches.all, start_offset_ms, form))
            }
            name => {
                let name: Name = name.parse()?;
                let stream = self.stream_of(token).await?;
                let found = fragments::read(archive, &stream, &name.fragment).await?;
                let found = found.ok_or(MediaError::NotFound)?;
                if !range.contains(found.start) {
                    return Err(MediaError::Refused);
                }
                made_of(found.playable(), name.form)?
            }
        }))
    }
}

fn made_of(fragment: Packaged, form: Form) -> Result<File, MediaError> {
    let file = || {
        let mut file = muxed::Tracks::default();
        let is_made = !fragment.tracks.is_empty() && file.add(&fragment.tracks);
        if is_made { Ok(file) } else { Err(MediaError::NotFound) }
    };
    match form {
        Form::Init => Ok(File::Init(file()?.header())),
        // One sequence number for all: players are told by the playlist what follows what.
        Form::Segment => {
            let file = file()?;
            Ok(File::Segment(fragment.fragment(&file, 0, 1)?.to_bytes()))
        }
        Form::TransportStream => {
            let bytes_of = |kind| -> (Option<&TrackInit>, BytesMut) {
                let place = fragment.tracks.iter().position(|init| init.kind == kind);
                let mut bytes = BytesMut::new();
                for (_, chunk) in fragment.chunks.iter().filter(|(at, _)| Some(*at) == place) {
                    bytes.extend_from_slice(&chunk.head);
                    let parts = chunk.samples.iter().flat_map(|sample| sample.parts());
                    parts.for_each(|part| bytes.extend_from_slice(part));
                }
                (place.and_then(|place| fragment.tracks.get(place)), bytes)
            };
            let (video, pictures) = bytes_of(TrackKind::Video);
            let (audio, sound) = bytes_of(TrackKind::Audio);
            let muxer = Muxer::new(video, audio).map_err(|_| MediaError::NotFound)?;
            let segment = muxer.segment(&pictures, &sound).ok_or(MediaError::NotFound)?;
            Ok(File::TransportStream(segment.into()))
        }
    }
}

fn multivariant(stretches: &Stretches, listed: &[ListedFragment]) -> String {
    let bits_a_second = |bytes: u64, ms: u64| bytes.saturating_mul(8_000) / ms.max(1);
    let largest =
        listed.iter().map(|one| bits_a_second(one.bytes, u64::from(one.duration_ms))).max();
    let (bytes, ms) = listed.iter().fold((0u64, 0u64), |(bytes, ms), one| {
        (bytes.saturating_add(one.bytes), ms.saturating_add(u64::from(one.duration_ms)))
    });
    let sizes = stretches.tracks().map(|init| (init.width, init.height));
    let variant = Variant {
        uri: "video.m3u8".into(),
        bandwidth: largest.unwrap_or(0),
        average_bandwidth: Some(bits_a_second(bytes, ms)),
        codecs: stretches.codecs(|init| init.playable),
        resolution: sizes
            .filter(|(width, _)| *width > 0)
            .max_by_key(|(width, height)| u64::from(*width) * u64::from(*height)),
        frame_rate: None,
    };
    MultivariantPlaylist { video: Some(variant), audio: None }.write()
}

fn media_playlist(
    listed: &[ListedFragment],
    stretches: &[Stretch],
    start_offset_ms: u32,
    form: Form,
) -> String {
    let holes = gaps(listed);
    let follows_hole =
        |one: &ListedFragment| holes.binary_search_by_key(&one.start, |hole| hole.end).is_ok();
    let suffix = if form == Form::TransportStream { ".ts" } else { ".m4s" };
    let mut undated = 0;
    let segments: Vec<Segment> = listed
        .iter()
        .enumerate()
        .map(|(index, one)| {
            let begins_stretch =
                stretches.binary_search_by_key(&index, |stretch| stretch.first).is_ok();
            let discontinuity = index > 0 && (begins_stretch || follows_hole(one));
            let is_dated = index == 0 || discontinuity || undated == DATE_TIME_EVERY;
            undated = if is_dated { 1 } else { undated + 1 };
            let is_mapped = (index == 0 || begins_stretch) && form == Form::Segment;
            Segment {
                uri: format!("{}{suffix}", one.id).into(),
                duration: u64::from(one.duration_ms),
                timescale: TIMESCALE,
                discontinuity,
                map_uri: is_mapped.then(|| format!("{}.init.mp4", one.id).into()),
                program_date_time: is_dated.then_some(one.start),
            }
        })
        .collect();
    let playlist = MediaPlaylist {
        target_duration_s: target_duration_s(&segments),
        media_sequence: 0,
        discontinuity_sequence: 0,
        kind: PlaylistKind::Vod,
        start_offset_s: (start_offset_ms > 0).then(|| f64::from(start_offset_ms) / 1_000.0),
        segments,
        low_latency: None,
    };
    playlist.write()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MAX_FRAGMENT_ID;
    use lookback_wire::Timestamp;

    #[test]
    fn names_are_numbers_of_fragments() {
        let long = "9".repeat(MAX_FRAGMENT_ID);
        for (text, form) in [
            ("91343852.m4s", Some(Form::Segment)),
            ("0.ts", Some(Form::TransportStream)),
            ("7.init.mp4", Some(Form::Init)),
            (format!("{long}.m4s").as_str(), Some(Form::Segment)),
            (format!("{long}9.m4s").as_str(), None),
            (".m4s", None),
            ("-1.m4s", None),
            ("7.mp4", None),
            ("../7.m4s", None),
        ] {
            assert_eq!(text.parse::<Name>().ok().map(|name| name.form), form, "{text}");
        }
    }

    #[test]
    fn a_playlist_lists_fragments_by_number() {
        let fragment = |at_ms: i64, id: &str| ListedFragment {
            id: id.into(),
            start: Timestamp::from_millis(1_795_329_502_534 + at_ms),
            arrived_at: Timestamp::from_millis(0),
            duration_ms: 1_500,
            bytes: 1_000,
        };
        let listed = [
            fragment(0, "91"),
            fragment(1_500, "92"),
            fragment(3_000, "93"),
            fragment(60_000, "94"),
        ];
        let stretches = [0, 2].map(|first| Stretch { first, tracks: Vec::new() });
        let expected = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-START:TIME-OFFSET=0.250,PRECISE=YES
#EXT-X-MAP:URI=\"91.init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1.5,
91.m4s
#EXTINF:1.5,
92.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"93.init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:25.534Z
#EXTINF:1.5,
93.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:22.534Z
#EXTINF:1.5,
94.m4s
#EXT-X-ENDLIST
";
        assert_eq!(media_playlist(&listed, &stretches, 250, Form::Segment), expected);
        let ts = media_playlist(&listed, &stretches, 0, Form::TransportStream);
        let broken = ts.matches("#EXT-X-DISCONTINUITY\n").count();
        assert!(ts.contains("\n91.ts\n") && !ts.contains("EXT-X-MAP") && broken == 2, "{ts}");
    }
}
