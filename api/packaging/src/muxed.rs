//! Several tracks in one fragmented MP4 that is written while its fragments are still being read:
//! nothing in it tells of what follows (ISO/IEC 14496-12 §8.8) but what its tracks are coded as, for
//! which [`Tracks`] are asked for beforehand. What begins with their header and goes on with fragments
//! is a file; each fragment by itself is a media segment (RFC 8216 §3.3) of the initialization segment
//! that the header is.
//!
//! Pictures whose size or parameter sets change are described by several entries of `stsd` (§8.5.2),
//! of which each fragment names its own (§8.8.7). Players that pass over that, as ffmpeg does, find
//! the parameter sets of such a track before each key frame, too.

use crate::TrackInit;
use crate::chunk::Chunk;
use crate::init::{put_no_samples, put_track_extends};
use crate::movie::MovieHeader;
use crate::mp4::{self, Described, Sample, put_box, put_full_box, put_u32, read_samples};
use crate::progressive::{MOVIE_TIMESCALE, nanoseconds, signed_ticks};
use bytes::Bytes;
use lookback_wire::codec::CodecConfig;
use lookback_wire::{Payload, TrackKind};

/// What stands in the body of `stsd` before its entries: version, flags and their count.
const ENTRIES_AT: usize = 8;

/// The tracks of a file, as far as they are known when it begins.
#[derive(Debug, Default)]
pub struct Tracks(Vec<Track>);

#[derive(Debug)]
struct Track {
    /// The first of them is what the others have to be like; never empty.
    descriptions: Vec<Description>,
}

#[derive(Debug)]
struct Description {
    init: TrackInit,
    /// NAL units with their lengths, as samples have them.
    parameter_sets: Bytes,
}

/// The place of a track of a fragment in [`Tracks`], and of its description.
#[derive(Clone, Copy)]
struct Place {
    track: usize,
    description: usize,
}

impl Tracks {
    /// Makes room for fragments of these tracks, which are told apart by kind and order. False where
    /// one file cannot hold them beside those that it has room for: another codec, or sound that is
    /// coded otherwise, of which no decoder would be told.
    #[must_use]
    pub fn add(&mut self, inits: &[TrackInit]) -> bool {
        for (index, init) in inits.iter().enumerate() {
            let Some(track) = self.at(inits, index).and_then(|at| self.0.get_mut(at)) else {
                self.0.push(Track { descriptions: vec![Description::new(init)] });
                continue;
            };
            if track.description_of(init).is_none() {
                if !track.is_like(init) {
                    return false;
                }
                track.descriptions.push(Description::new(init));
            }
        }
        true
    }

    /// Whether there is room for a fragment of these tracks.
    pub fn have_room_for(&self, inits: &[TrackInit]) -> bool {
        self.places(inits).is_some()
    }

    /// `ftyp` and `moov`: no samples, no durations.
    pub fn header(&self) -> Bytes {
        let mut out = Vec::with_capacity(1_024);
        put_box(&mut out, b"ftyp", |out| {
            out.extend_from_slice(b"iso6");
            put_u32(out, 0);
            out.extend_from_slice(b"iso6mp41");
        });
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        put_box(&mut out, b"moov", |out| {
            let next_track_id = count.saturating_add(1);
            MovieHeader { timescale: MOVIE_TIMESCALE, duration: 0, next_track_id }.put(out);
            (1..).zip(&self.0).for_each(|(id, track)| track.put(out, id));
            put_box(out, b"mvex", |out| {
                (1..=count).for_each(|id| put_track_extends(out, id));
            });
        });
        out.into()
    }

    /// A fragment of tracks that there is room for: its chunks, each with its track's place in
    /// `inits`, in the order of decoding, and `earlier_ns` before they were recorded. `sequence` need
    /// only rise. `None` where there is no room, or where the chunks are not [`crate::Packager`]'s.
    pub fn fragment(
        &self,
        inits: &[TrackInit],
        chunks: Vec<(usize, Chunk)>,
        earlier_ns: i64,
        sequence: u32,
    ) -> Option<Payload> {
        let places = self.places(inits)?;
        let mut chunks = chunks
            .into_iter()
            .map(|(index, chunk)| Some((*places.get(index)?, inits.get(index)?, chunk)))
            .collect::<Option<Vec<_>>>()?;
        chunks.sort_by_key(|(_, init, chunk)| nanoseconds(chunk.decode_time, init.timescale));
        let mut out = Payload::new();
        for (place, init, chunk) in chunks {
            let restated = self.0.get(place.track)?.restated(place.description);
            let earlier_by = signed_ticks(earlier_ns, init.timescale).saturating_neg();
            let samples: Vec<Sample> = read_samples(&chunk.head)?
                .into_iter()
                .map(|sample| {
                    let more = if sample.key { restated.len() } else { 0 };
                    Some(Sample {
                        decode_time: sample.decode_time.saturating_add_signed(earlier_by),
                        presentation_time: sample
                            .presentation_time
                            .saturating_add_signed(earlier_by),
                        size: sample.size.checked_add(u32::try_from(more).ok()?)?,
                        ..sample
                    })
                })
                .collect::<Option<_>>()?;
            if samples.len() != chunk.samples.len() {
                return None;
            }
            let of = Described {
                track_id: u32::try_from(place.track).ok()?.checked_add(1)?,
                description: u32::try_from(place.description).ok()?.checked_add(1)?,
            };
            out.push(mp4::write_head_of(sequence, of, &samples).into());
            for (sample, bytes) in samples.iter().zip(chunk.samples) {
                if sample.key && !restated.is_empty() {
                    out.push(restated.clone());
                }
                bytes.into_parts().into_iter().for_each(|part| out.push(part));
            }
        }
        Some(out)
    }

    fn places(&self, inits: &[TrackInit]) -> Option<Vec<Place>> {
        let place = |(index, init)| {
            let track = self.at(inits, index)?;
            let description = self.0.get(track)?.description_of(init)?;
            Some(Place { track, description })
        };
        inits.iter().enumerate().map(place).collect()
    }

    /// Where the track stands that one of a fragment's belongs to: the first video to the first video,
    /// and so on.
    fn at(&self, inits: &[TrackInit], index: usize) -> Option<usize> {
        let kind = inits.get(index)?.kind;
        let before = inits.iter().take(index).filter(|init| init.kind == kind).count();
        let of_kind = (0..).zip(&self.0).filter(|(_, track)| track.kind() == Some(kind));
        of_kind.map(|(at, _)| at).nth(before)
    }
}

impl Track {
    fn kind(&self) -> Option<TrackKind> {
        self.descriptions.first().map(|first| first.init.kind)
    }

    fn description_of(&self, init: &TrackInit) -> Option<usize> {
        let entry = init.sample_description();
        self.descriptions.iter().position(|one| one.init.sample_description() == entry)
    }

    /// Whether a decoder goes on from these to that one.
    fn is_like(&self, init: &TrackInit) -> bool {
        let format = |init: &TrackInit| match CodecConfig::of(&init.track) {
            Ok(CodecConfig::H264(config)) => Some((b"avc1", config.nal_length_size)),
            Ok(CodecConfig::H265(config)) => Some((b"hvc1", config.nal_length_size)),
            _ => None,
        };
        let first = self.descriptions.first().map(|first| &first.init);
        let first = first.filter(|first| first.timescale == init.timescale);
        first.and_then(format).is_some_and(|first| format(init) == Some(first))
    }

    /// What goes before each key frame of a description: nothing where it is the only one.
    fn restated(&self, description: usize) -> Bytes {
        let is_one_of_several = self.descriptions.len() > 1;
        let of_several = self.descriptions.get(description).filter(|_| is_one_of_several);
        of_several.map(|one| one.parameter_sets.clone()).unwrap_or_default()
    }

    fn put(&self, out: &mut Vec<u8>, id: u32) {
        let inits = || self.descriptions.iter().map(|one| &one.init);
        let size = |init: &&TrackInit| u64::from(init.width) * u64::from(init.height);
        let Some(largest) = inits().max_by_key(size) else { return };
        largest.track_box(id).put(out, |out| {
            put_full_box(out, b"stsd", 0, 0, |out| {
                put_u32(out, u32::try_from(self.descriptions.len()).unwrap_or(u32::MAX));
                for init in inits() {
                    let entries = init.sample_description().and_then(|all| all.get(ENTRIES_AT..));
                    out.extend_from_slice(entries.unwrap_or_default());
                }
            });
            put_no_samples(out);
        });
    }
}

impl Description {
    fn new(init: &TrackInit) -> Self {
        let parameter_sets = match CodecConfig::of(&init.track) {
            Ok(CodecConfig::H264(config)) => {
                with_lengths(&config.parameter_sets(), config.nal_length_size)
            }
            Ok(CodecConfig::H265(config)) => {
                with_lengths(&config.parameter_sets(), config.nal_length_size)
            }
            _ => Vec::new(),
        };
        Self { init: init.clone(), parameter_sets: parameter_sets.into() }
    }
}

/// NAL units as they stand in samples, but for those that are too long for a length of so many bytes.
fn with_lengths(units: &[&[u8]], length_size: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for unit in units {
        let length = (unit.len() as u64).to_be_bytes();
        let (zeroes, length) = length.split_at(length.len() - usize::from(length_size.min(8)));
        if zeroes.iter().all(|byte| *byte == 0) {
            out.extend_from_slice(length);
            out.extend_from_slice(unit);
        }
    }
    out
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
        let mut file = Tracks::default();
        assert!(file.add(&inits));
        let head = file.header();
        let movie = find_box(&head, b"moov").unwrap();
        assert!(find_box(movie, b"mvex").is_some());
        let count = chunks.len();
        let placed = chunks.into_iter().map(|chunk| (chunk.track, chunk)).collect();
        let media = file.fragment(&inits, placed, START_NS, 1).unwrap().to_bytes();
        let mut ids = Vec::new();
        let mut first_time = u64::MAX;
        let mut samples = 0;
        for chunk in split_chunks(&media) {
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

    /// 320 x 180 pixels, as x264 describes it; another level is another description.
    fn pictures(level: u8) -> Track {
        let hex =
            "0142c00cffe100196742c00cd901419f9f011000000300100000030320f142a48001000568cb83cb20";
        let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
        let mut record: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
        record[3] = level;
        let codec_id = "V_MPEG4/ISO/AVC".into();
        let kind = TrackKind::Video;
        Track { kind, codec_id, codec_private: record.into(), ..sound(1) }
    }

    fn inits(tracks: &[Track]) -> Vec<TrackInit> {
        tracks.iter().map(|track| TrackInit::new(track).unwrap()).collect()
    }

    #[test]
    fn a_file_has_room_for_what_a_decoder_can_be_told() {
        let stereo = Track { codec_private: Bytes::from_static(&[0x11, 0x90]), ..sound(2) };
        let ulaw = Track {
            codec_id: "A_MS/ACM".into(),
            codec_private: Bytes::from_static(&[
                7, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0, 0, 0,
            ]),
            sampling_hz: 8_000.0,
            ..sound(2)
        };
        let plain = [pictures(12), sound(2)];
        let table: [(&[Track], bool, usize); 7] = [
            (&plain, true, 1),
            (&[pictures(13), sound(2)], true, 2),
            (&[pictures(13)], true, 2),
            (&[sound(2)], true, 1),
            (&[pictures(12), sound(2), sound(3)], true, 1),
            (&[pictures(12), stereo], false, 1),
            (&[pictures(12), ulaw], false, 1),
        ];
        for (tracks, has_room, descriptions) in table {
            let mut file = Tracks::default();
            assert!(file.add(&inits(&plain)));
            assert_eq!(file.add(&inits(tracks)), has_room, "{tracks:?}");
            assert_eq!(file.have_room_for(&inits(tracks)), has_room, "{tracks:?}");
            assert_eq!(file.0[0].descriptions.len(), descriptions, "{tracks:?}");
        }
    }

    #[test]
    fn fragments_name_their_description_and_repeat_its_parameter_sets() {
        let setups = [12, 13].map(|level| inits(&[pictures(level)]));
        let mut several = Tracks::default();
        assert!(setups.iter().all(|inits| several.add(inits)));
        let mut one = Tracks::default();
        assert!(one.add(&setups[1]));
        let parameter_sets = several.0[0].descriptions[1].parameter_sets.len();
        assert_eq!(parameter_sets, 4 + 0x19 + 4 + 5);
        for (file, index, more) in [(&several, Some(2u32), parameter_sets), (&one, None, 0)] {
            let header = UploadHeader {
                segment_uid: None,
                timecode_scale_ns: 1_000_000,
                tracks: vec![pictures(13)],
            };
            let mut packager = Packager::new(&header).unwrap();
            for n in 0..10 {
                let chunks = packager.push(TimedFrame {
                    track: 0,
                    time_ns: START_NS + n * 40_000_000,
                    duration_ns: None,
                    key: n == 0,
                    payload: Bytes::from(vec![n as u8; 100]).into(),
                });
                assert!(chunks.is_empty());
            }
            let chunks = packager.finish(None).into_iter().map(|chunk| (0, chunk)).collect();
            let media = file.fragment(&setups[1], chunks, START_NS, 1).unwrap().to_bytes();
            let chunk = split_chunks(&media).next().unwrap();
            assert_eq!(chunk.samples.len(), 10 * 100 + more);
            let traf = find_box(find_box(chunk.head, b"moof").unwrap(), b"traf").unwrap();
            let tfhd = find_box(traf, b"tfhd").unwrap();
            let word = |at: usize| u32::from_be_bytes(tfhd[at..at + 4].try_into().unwrap());
            assert_eq!((word(0) & 2 != 0).then(|| word(8)), index);
        }
    }
}
