//! HLS of a session: what its playlists say. `lookback-packaging` writes the text.

use super::listing::{Entry, Frame, Listing};
use super::segments::init_name;
use super::token::MediaToken;
use super::{MediaError, Playback, Rendition};
use crate::storage::InitId;
use lookback_packaging::TrackInit;
use lookback_packaging::hls::{
    self, MediaPlaylist, MultivariantPlaylist, PlaylistKind, Rendition as AudioRendition, Segment,
    Variant,
};
use lookback_wire::TrackKind;
use std::borrow::Cow;

/// Segments between two EXT-X-PROGRAM-DATE-TIME: what rounding adds up to stays below a frame.
const DATE_TIME_EVERY: usize = 10;

impl Playback {
    /// The multivariant playlist of a session.
    pub async fn multivariant_playlist(&self, token: &MediaToken) -> Result<String, MediaError> {
        let listing = self.listing(token).await?;
        write_multivariant(&listing).ok_or(MediaError::NotFound)
    }

    /// The media playlist of one rendition of a session.
    pub async fn media_playlist(
        &self,
        token: &MediaToken,
        rendition: Rendition,
    ) -> Result<String, MediaError> {
        let listing = self.listing(token).await?;
        write_playlist(&listing, rendition).ok_or(MediaError::NotFound)
    }
}

/// The text of a multivariant playlist; `None` where nothing can be played.
fn write_multivariant(listing: &Listing) -> Option<String> {
    let inits = &listing.inits;
    let video = inits.of_kind(TrackKind::Video);
    let largest = video.max_by_key(|init| u64::from(init.width) * u64::from(init.height));
    let video = largest.map(|init| {
        let (peak, average) = bit_rates(&listing.entries(Rendition::Video));
        Variant {
            uri: "video.m3u8".into(),
            bandwidth: peak,
            average_bandwidth: Some(average),
            codecs: codecs(listing, init),
            resolution: (init.width > 0).then_some((init.width, init.height)),
            frame_rate: frame_rate(init),
        }
    });
    let audio = inits.of_kind(TrackKind::Audio).next().map(|init| {
        let (peak, average) = bit_rates(&listing.entries(Rendition::Audio));
        AudioRendition {
            uri: "audio.m3u8".into(),
            bandwidth: peak,
            average_bandwidth: Some(average),
            codecs: codecs(listing, init),
            channels: init.channels,
        }
    });
    (video.is_some() || audio.is_some()).then(|| MultivariantPlaylist { video, audio }.write())
}

/// Every format in the rendition that `first` is of (RFC 8216 §4.3.4.2), that one before the others.
pub(super) fn codecs(listing: &Listing, first: &TrackInit) -> String {
    let mut codecs = first.codecs.clone();
    let mut named = vec![first.codecs.as_str()];
    for init in listing.inits.of_kind(first.kind) {
        if !named.contains(&init.codecs.as_str()) {
            named.push(&init.codecs);
            codecs.push(',');
            codecs.push_str(&init.codecs);
        }
    }
    codecs
}

/// Pictures a second, where the upload stated it.
pub(super) fn frame_rate(init: &TrackInit) -> Option<f64> {
    let duration_ns = init.track.default_duration_ns.filter(|ns| *ns > 0)?;
    Some(1e9 / duration_ns as f64)
}

/// Peak and average rate of segments, bits a second.
pub(super) fn bit_rates(entries: &[Entry]) -> (u64, u64) {
    let (mut peak, mut bits, mut seconds) = (0.0f64, 0.0, 0.0);
    for entry in entries {
        let entry_s = entry.duration.max(1) as f64 / f64::from(entry.timescale.max(1));
        let entry_bits = entry.bytes as f64 * 8.0;
        peak = peak.max(entry_bits / entry_s);
        bits += entry_bits;
        seconds += entry_s;
    }
    let average = if seconds > 0.0 { bits / seconds } else { 0.0 };
    (peak.max(1.0).ceil() as u64, average.max(1.0).ceil() as u64)
}

/// The text of a media playlist; `None` where nothing of the rendition is listed.
fn write_playlist(listing: &Listing, rendition: Rendition) -> Option<String> {
    let entries = listing.entries(rendition);
    if entries.is_empty() {
        return None;
    }
    let mut uris = String::with_capacity(entries.len() * 48);
    let mut ends = Vec::with_capacity(entries.len());
    let mut inits: Vec<(InitId, String)> = Vec::new();
    for entry in &entries {
        entry.name.push_to(&mut uris);
        ends.push(uris.len());
        if !inits.iter().any(|(id, _)| *id == entry.init) {
            inits.push((entry.init, init_name(entry.init)));
        }
    }

    let mut start = 0;
    let mut last_init = None;
    let mut undated = 0;
    let mut segments = Vec::with_capacity(entries.len());
    for (entry, end) in entries.iter().zip(ends) {
        let map = (last_init != Some(entry.init))
            .then(|| inits.iter().find(|(id, _)| *id == entry.init))
            .flatten();
        last_init = Some(entry.init);
        undated = if segments.is_empty() || entry.discontinuity || undated == DATE_TIME_EVERY {
            1
        } else {
            undated + 1
        };
        segments.push(Segment {
            uri: Cow::Borrowed(&uris[start..end]),
            duration: entry.duration,
            timescale: entry.timescale,
            discontinuity: entry.discontinuity,
            map_uri: map.map(|(_, name)| Cow::Borrowed(name.as_str())),
            program_date_time: (undated == 1).then(|| entry.shown_at()),
        });
        start = end;
    }
    let offset_s = |ms: u32| f64::from(ms) / 1_000.0;
    let playlist = match listing.frame {
        Frame::OnDemand { start_offset_ms, .. } => MediaPlaylist {
            target_duration_s: hls::target_duration_s(&segments),
            media_sequence: 0,
            discontinuity_sequence: 0,
            kind: PlaylistKind::Vod,
            start_offset_s: (start_offset_ms > 0).then(|| offset_s(start_offset_ms)),
            segments,
        },
        Frame::LiveReplay { start_offset_ms, target_duration_s, .. } => MediaPlaylist {
            target_duration_s,
            media_sequence: 0,
            discontinuity_sequence: 0,
            kind: PlaylistKind::Event,
            // Without it, players begin at the live end.
            start_offset_s: Some(offset_s(start_offset_ms)),
            segments,
        },
        Frame::Live {
            target_duration_s,
            video_sequence,
            audio_sequence,
            discontinuity_sequence,
            ..
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

#[cfg(test)]
mod tests {
    use super::super::listing::tests::{AUDIO, VIDEO, WIDER, fragment, listing};
    use super::*;
    use crate::storage::FragmentRecord;

    const SPAN: Frame = Frame::OnDemand { start_offset_ms: 0, is_joined: false };

    fn playlist(fragments: Vec<FragmentRecord>, rendition: Rendition) -> Option<String> {
        write_playlist(&listing(fragments, SPAN), rendition)
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
}
