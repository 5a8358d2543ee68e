//! A fragment's chunks back into the frames that were uploaded, as Matroska has them.

use crate::mp4;
use bytes::Bytes;
use lookback_wire::Frame;

const MS_PER_S: u128 = 1_000;
const NS_PER_S: u128 = 1_000_000_000;

/// One track of a fragment as it is stored.
#[derive(Clone, Debug)]
pub struct StoredTrack {
    /// [`lookback_wire::Track::number`].
    pub number: u64,
    /// The init's.
    pub timescale: u32,
    /// Its chunks, one after the other.
    pub chunks: Bytes,
}

/// The frames of all tracks, in the order in which they are decoded; payloads are slices of the
/// chunks. Timecodes are milliseconds since the Unix epoch. None where the chunks are not what
/// [`crate::Packager`] writes: any bytes may be given.
pub fn read_frames(tracks: &[StoredTrack]) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    for track in tracks {
        let timescale = u128::from(track.timescale.max(1));
        let mut read = 0;
        for chunk in mp4::split_chunks(&track.chunks) {
            read += chunk.head.len() + chunk.samples.len();
            let mut rest = track.chunks.slice_ref(chunk.samples);
            for sample in mp4::read_samples(chunk.head)? {
                let size = usize::try_from(sample.size).ok().filter(|size| *size <= rest.len())?;
                let decoded_ns = u128::from(sample.decode_time) * NS_PER_S / timescale;
                let shown_ms =
                    (u128::from(sample.presentation_time) * MS_PER_S + timescale / 2) / timescale;
                frames.push((
                    decoded_ns,
                    Frame {
                        track: track.number,
                        timecode: i64::try_from(shown_ms).unwrap_or(i64::MAX),
                        key: sample.key,
                        duration: None,
                        payload: rest.split_to(size).into(),
                    },
                ));
            }
        }
        if read != track.chunks.len() {
            return None;
        }
    }
    // Stable: of what is decoded at once, the first track's comes first.
    frames.sort_by_key(|(decoded_ns, _)| *decoded_ns);
    Some(frames.into_iter().map(|(_, frame)| frame).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packager, TimedFrame};
    use lookback_wire::{Payload, Track, TrackKind, UploadHeader};
    use proptest::prelude::*;

    const START_MS: i64 = 1_790_000_000_000;
    const AVCC: [u8; 41] = [
        0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0,
        0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f,
        0x16, 0x2e, 0x48, 0x01, 0x00, 0x05, 0x68, 0xcb, 0x83, 0xcb, 0x20,
    ];

    fn track(number: u64, kind: TrackKind, codec_id: &str, codec_private: &[u8]) -> Track {
        Track {
            number,
            uid: number,
            kind,
            name: None,
            codec_id: codec_id.into(),
            codec_private: Bytes::copy_from_slice(codec_private),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        }
    }

    proptest! {
        #[test]
        fn what_was_packaged_comes_back(
            // In decode order; each picture is shown up to three places off its place.
            pictures in prop::collection::vec((0i64..4, 1usize..2_000), 1..120),
            packets in prop::collection::vec(1usize..600, 1..200),
        ) {
            let header = UploadHeader {
                segment_uid: None,
                timecode_scale_ns: 1_000_000,
                tracks: vec![
                    track(3, TrackKind::Video, "V_MPEG4/ISO/AVC", &AVCC),
                    track(7, TrackKind::Audio, "A_AAC", &[0x11, 0x90]),
                ],
            };
            let mut packager = Packager::new(&header).unwrap();
            let frame = |track, ms: i64, key, bytes: usize| TimedFrame {
                track,
                time_ns: (START_MS + ms) * 1_000_000,
                duration_ns: None,
                key,
                payload: Payload::from(vec![ms as u8; bytes]),
            };
            let video = pictures.iter().enumerate().map(|(n, (off, bytes))| {
                frame(0, n as i64 * 40 + off * 40, n == 0, *bytes)
            });
            let audio = packets.iter().enumerate().map(|(n, bytes)| {
                frame(1, (n as f64 * 1_024.0 / 48.0).round() as i64, true, *bytes)
            });
            let sent: Vec<TimedFrame> = video.chain(audio).collect();
            let mut chunks = Vec::new();
            for frame in &sent {
                chunks.extend(packager.push(frame.clone()));
            }
            chunks.extend(packager.finish(None));
            let stored: Vec<StoredTrack> = header
                .tracks
                .iter()
                .zip(packager.inits())
                .enumerate()
                .map(|(index, (track, init))| {
                    let mut body = Payload::new();
                    for chunk in chunks.iter().filter(|chunk| chunk.track == index) {
                        body.push(chunk.head.clone());
                        chunk.samples.iter().flat_map(Payload::parts).for_each(|p| body.push(p.clone()));
                    }
                    StoredTrack {
                        number: track.number,
                        timescale: init.timescale,
                        chunks: body.to_bytes(),
                    }
                })
                .collect();
            let read = read_frames(&stored).unwrap();
            prop_assert_eq!(read.len(), sent.len());
            for (index, track) in header.tracks.iter().enumerate() {
                let sent = sent.iter().filter(|frame| frame.track == index);
                for (sent, read) in sent.zip(read.iter().filter(|frame| frame.track == track.number)) {
                    prop_assert_eq!(&sent.payload, &read.payload);
                    prop_assert_eq!(sent.key, read.key);
                    let off_ms = read.timecode - sent.time_ns / 1_000_000;
                    prop_assert!(off_ms.abs() <= i64::from(index == 1), "{} ms off", off_ms);
                }
            }
        }

        #[test]
        fn any_bytes_may_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), timescale: u32) {
            let track = StoredTrack { number: 1, timescale, chunks: bytes.into() };
            read_frames(&[track.clone(), track]);
        }
    }
}
