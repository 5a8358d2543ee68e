//! Media segments as MPEG transport streams, pictures and sound in one, made when they are asked
//! for.

use super::listing::{Frame, Listing};
use super::segments::{NoSegmentName, SegmentName};
use super::token::MediaToken;
use super::{MediaError, Playback, Rendition};
use crate::storage::{FragmentRecord, StorageError};
use bytes::{Bytes, BytesMut};
use lookback_packaging::TrackInit;
use lookback_packaging::hls::{MediaPlaylist, PlaylistKind, Segment, target_duration_s};
use lookback_packaging::ts::Muxer;
use lookback_wire::TrackKind;
use std::str::FromStr;
use std::sync::Arc;

/// Segments between two EXT-X-PROGRAM-DATE-TIME.
const DATE_TIME_EVERY: usize = 10;

/// The name of a segment: `{start_ms}-{number}.ts` after the first fragment in it,
/// `{start_ms}-{number}-{count}.ts` where it joins several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportName(SegmentName);

impl FromStr for TransportName {
    type Err = NoSegmentName;

    fn from_str(text: &str) -> Result<Self, NoSegmentName> {
        let stem = text.strip_suffix(".ts").ok_or(NoSegmentName)?;
        format!("{stem}.v.m4s").parse().map(Self)
    }
}

impl Playback {
    /// A codec of what a session lists that a transport stream does not carry, if there is one.
    pub(super) async fn not_carried(
        &self,
        token: &MediaToken,
    ) -> Result<Option<String>, StorageError> {
        let mut ids = Vec::new();
        for listed in &self.listing(token).await?.fragments {
            for track in &listed.fragment.tracks {
                if !ids.contains(&track.init) {
                    ids.push(track.init);
                }
            }
        }
        for id in ids {
            let Some(init) = self.track_init(token.stream, id).await? else { continue };
            let (video, audio) = match init.kind {
                TrackKind::Video => (Some(init.as_ref()), None),
                TrackKind::Audio => (None, Some(init.as_ref())),
            };
            if let Err(not_carried) = Muxer::new(video, audio) {
                return Ok(Some(not_carried.codecs));
            }
        }
        Ok(None)
    }

    /// The playlist of a session whose segments are transport streams; such players know no parts.
    pub async fn transport_playlist(&self, token: &MediaToken) -> Result<String, MediaError> {
        let listing = self.listing(token).await?;
        write_playlist(&listing).ok_or(MediaError::NotFound)
    }

    /// A segment with all tracks of its fragments.
    pub async fn transport_segment(
        &self,
        token: &MediaToken,
        TransportName(name): TransportName,
    ) -> Result<Bytes, MediaError> {
        let fragments = if name.count > 1 {
            self.joined_fragments(token, name).await?
        } else {
            vec![self.kept(token, name).await?.ok_or(MediaError::Refused)?]
        };
        let (video, video_chunks) = self.chunks_of(token, &fragments, TrackKind::Video).await?;
        let (audio, audio_chunks) = self.chunks_of(token, &fragments, TrackKind::Audio).await?;
        // Sessions are not given out for what is not carried, so that the footage has changed since.
        let muxer =
            Muxer::new(video.as_deref(), audio.as_deref()).map_err(|_| MediaError::NotFound)?;
        let segment =
            tokio::task::spawn_blocking(move || muxer.segment(&video_chunks, &audio_chunks))
                .await
                .map_err(|_| MediaError::Storage("the multiplexer broke off".into()))?;
        let damaged = || MediaError::Storage(format!("damaged chunks of {}", token.stream));
        segment.map(Bytes::from).ok_or_else(damaged)
    }

    /// The first track of a kind, and all of its chunks.
    async fn chunks_of(
        &self,
        token: &MediaToken,
        fragments: &[FragmentRecord],
        kind: TrackKind,
    ) -> Result<(Option<Arc<TrackInit>>, Bytes), MediaError> {
        let is_video = kind == TrackKind::Video;
        let mut init = None;
        let mut chunks = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            let track = fragment.tracks.iter().find(|track| track.is_video == is_video);
            let Some(track) = track else { continue };
            if init.is_none() {
                init = self.track_init(token.stream, track.init).await?;
            }
            let archive = self.storage.local()?;
            let read = archive.read(token.stream, fragment.location, track.offset, track.len);
            chunks.push(read.await?);
        }
        let bytes = match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(several) => several
                .into_iter()
                .fold(BytesMut::new(), |mut all, bytes| {
                    all.extend_from_slice(&bytes);
                    all
                })
                .freeze(),
        };
        Ok((init, bytes))
    }
}

/// `None` where nothing is listed.
fn write_playlist(listing: &Listing) -> Option<String> {
    let (rendition, entries) = [Rendition::Video, Rendition::Audio]
        .map(|rendition| (rendition, listing.entries(rendition)))
        .into_iter()
        .find(|(_, entries)| !entries.is_empty())?;
    let mut undated = 0;
    let segments: Vec<Segment> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let is_dated = index == 0 || entry.discontinuity || undated == DATE_TIME_EVERY;
            undated = if is_dated { 1 } else { undated + 1 };
            let mut uri = String::with_capacity(48);
            entry.name.push_stem(&mut uri);
            uri.push_str(".ts");
            Segment {
                uri: uri.into(),
                duration: entry.duration,
                timescale: entry.timescale,
                discontinuity: entry.discontinuity,
                // A transport stream says by itself what is in it.
                map_uri: None,
                program_date_time: is_dated.then(|| entry.shown_at()),
            }
        })
        .collect();
    let start_offset_s = |ms: u32| f64::from(ms) / 1_000.0;
    let (kind, target_duration_s, media_sequence, discontinuity_sequence, start_offset_s) =
        match listing.frame {
            Frame::OnDemand { start_offset_ms: ms, .. } => {
                let offset_s = (ms > 0).then(|| start_offset_s(ms));
                (PlaylistKind::Vod, target_duration_s(&segments), 0, 0, offset_s)
            }
            Frame::LiveReplay { start_offset_ms: ms, target_duration_s, .. } => {
                (PlaylistKind::Event, target_duration_s, 0, 0, Some(start_offset_s(ms)))
            }
            Frame::Live {
                target_duration_s,
                video_sequence,
                audio_sequence,
                discontinuity_sequence,
                ..
            } => {
                let is_video = rendition == Rendition::Video;
                let sequence = if is_video { video_sequence } else { audio_sequence };
                (PlaylistKind::Live, target_duration_s, sequence, discontinuity_sequence, None)
            }
        };
    let playlist = MediaPlaylist {
        target_duration_s,
        media_sequence,
        discontinuity_sequence,
        kind,
        start_offset_s,
        segments,
        low_latency: None,
    };
    Some(playlist.write())
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::{AUDIO, VIDEO, WIDER, fragment, listing};
    use super::*;

    #[test]
    fn a_playlist_of_transport_streams() {
        let fragments = vec![
            fragment(0, 1_000, 7, &[VIDEO, AUDIO]),
            fragment(1_000, 1_500, 8, &[VIDEO, AUDIO]),
            fragment(60_000, 1_000, 9, &[WIDER]),
        ];
        let frame = Frame::OnDemand { start_offset_ms: 250, is_joined: false };
        let expected = "#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-START:TIME-OFFSET=0.250,PRECISE=YES
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1,
1795329502534-7.ts
#EXTINF:1.5,
1795329503534-8.ts
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:22.534Z
#EXTINF:1,
1795329562534-9.ts
#EXT-X-ENDLIST
";
        assert_eq!(write_playlist(&listing(fragments, frame)).as_deref(), Some(expected));
        for (name, count) in
            [("1-2.ts", Some(1)), ("1-2-3.ts", Some(3)), ("1.ts", None), ("1-2.v.m4s", None)]
        {
            let parsed: Option<TransportName> = name.parse().ok();
            assert_eq!(parsed.map(|TransportName(name)| name.count), count, "{name}");
        }
    }
}
