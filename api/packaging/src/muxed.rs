//! Several tracks in one fragmented MP4 that is written while its fragments are still being read:
//! nothing in it tells of what follows (ISO/IEC 14496-12 §8.8). What begins with [`header`] and goes
//! on with [`fragment`]s is a file; each fragment by itself is a media segment (RFC 8216 §3.3) of the
//! initialization segment that `header` is.

use crate::TrackInit;
use crate::chunk::Chunk;
use crate::init::{put_no_samples, put_track_extends};
use crate::movie::MovieHeader;
use crate::mp4::{self, Sample, put_box, put_u32, read_samples};
use crate::progressive::{MOVIE_TIMESCALE, nanoseconds, signed_ticks};
use bytes::Bytes;
use lookback_wire::Payload;

/// `ftyp` and `moov` of these tracks: no samples, no durations.
pub fn header(tracks: &[&TrackInit]) -> Bytes {
    let mut out = Vec::with_capacity(1_024);
    put_box(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso6");
        put_u32(out, 0);
        out.extend_from_slice(b"iso6mp41");
    });
    let count = u32::try_from(tracks.len()).unwrap_or(u32::MAX);
    put_box(&mut out, b"moov", |out| {
        let next_track_id = count.saturating_add(1);
        MovieHeader { timescale: MOVIE_TIMESCALE, duration: 0, next_track_id }.put(out);
        for (id, init) in (1..).zip(tracks) {
            init.track_box(id).put(out, |out| {
                put_box(out, b"stsd", |out| {
                    out.extend_from_slice(init.sample_description().unwrap_or_default());
                });
                put_no_samples(out);
            });
        }
        put_box(out, b"mvex", |out| {
            (1..=count).for_each(|id| put_track_extends(out, id));
        });
    });
    out.into()
}

/// A fragment's chunks in the order of decoding, and of each the place of its track in the
/// [`header`], whose times are `earlier_ns` before those that were recorded. `sequence` need only
/// rise. `None` where the chunks are not [`crate::Packager`]'s.
pub fn fragment(
    chunks: Vec<(usize, &TrackInit, Chunk)>,
    earlier_ns: i64,
    sequence: u32,
) -> Option<Payload> {
    let mut chunks = chunks;
    chunks.sort_by_key(|(_, init, chunk)| nanoseconds(chunk.decode_time, init.timescale));
    let mut out = Payload::new();
    for (place, init, chunk) in chunks {
        let track_id = u32::try_from(place).ok()?.checked_add(1)?;
        let earlier_by = signed_ticks(earlier_ns, init.timescale).saturating_neg();
        let samples: Vec<Sample> = read_samples(&chunk.head)?
            .into_iter()
            .map(|sample| Sample {
                decode_time: sample.decode_time.saturating_add_signed(earlier_by),
                presentation_time: sample.presentation_time.saturating_add_signed(earlier_by),
                ..sample
            })
            .collect();
        out.push(mp4::write_head_of(sequence, track_id, &samples).into());
        for sample in chunk.samples {
            sample.into_parts().into_iter().for_each(|part| out.push(part));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::{find_box, split_chunks};
    use crate::{Packager, TimedFrame};
    use lookback_wire::{Track, TrackKind, UploadHeader};

    /// AAC-LC, 48 kHz, one channel.
    const AUDIO_CONFIG: &[u8] = &[0x11, 0x88];
    const START_NS: i64 = 1_795_329_502_534_000_000;

    fn sound(number: u64) -> Track {
        Track {
            number,
            uid: number,
            kind: TrackKind::Audio,
            name: None,
            codec_id: "A_AAC".into(),
            codec_private: Bytes::from_static(AUDIO_CONFIG),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 48_000.0,
            channels: 1,
            bit_depth: 0,
        }
    }

    #[test]
    fn tracks_stand_beside_each_other_and_begin_at_nothing() {
        let header = UploadHeader {
            segment_uid: None,
            timecode_scale_ns: 1_000_000,
            tracks: vec![sound(1), sound(2)],
        };
        let mut packager = Packager::new(&header).unwrap();
        let mut chunks = Vec::new();
        for index in 0..40 {
            for track in [0, 1] {
                chunks.extend(packager.push(TimedFrame {
                    track,
                    time_ns: START_NS + index * 1_024_000_000_000 / 48_000,
                    duration_ns: None,
                    key: true,
                    payload: Bytes::from(vec![index as u8; 10]).into(),
                }));
            }
        }
        chunks.extend(packager.finish(None));
        let inits: Vec<TrackInit> = packager.inits().to_vec();
        let head = super::header(&inits.iter().collect::<Vec<_>>());
        let movie = find_box(&head, b"moov").unwrap();
        assert!(find_box(movie, b"mvex").is_some());
        let count = chunks.len();
        let placed = chunks.into_iter().map(|chunk| (chunk.track, &inits[chunk.track], chunk));
        let file = fragment(placed.collect(), START_NS, 1).unwrap().to_bytes();
        let mut ids = Vec::new();
        let mut first_time = u64::MAX;
        let mut samples = 0;
        for chunk in split_chunks(&file) {
            let traf = find_box(find_box(chunk.head, b"moof").unwrap(), b"traf").unwrap();
            let tfhd = find_box(traf, b"tfhd").unwrap();
            ids.push(u32::from_be_bytes(tfhd[4..8].try_into().unwrap()));
            let told = read_samples(chunk.head).unwrap();
            first_time = first_time.min(told[0].decode_time);
            samples += told.len();
            let size: u32 = told.iter().map(|sample| sample.size).sum();
            assert_eq!(size as usize, chunk.samples.len());
        }
        assert_eq!((ids.len(), samples), (count, 80));
        assert!(ids.contains(&1) && ids.contains(&2), "{ids:?}");
        assert!(first_time < 48, "{first_time} ticks");
    }
}
