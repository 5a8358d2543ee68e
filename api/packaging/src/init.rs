//! What a player needs before a track's first chunk, and what we remember of the track beside it.
//!
//! The boxes are written here rather than by a library, so that the codec's record stands in them
//! byte for byte as it was uploaded.

use crate::movie::{MovieHeader, TrackBox, saturate};
use crate::mp4::{self, put_box, put_full_box, put_u16, put_u32, put_u64};
use bytes::Bytes;
use lookback_wire::codec::{CodecConfig, CodecError, g711::Law};
use lookback_wire::{Track, TrackKind};

/// Ticks a second of video: milliseconds and the usual frame rates are whole numbers of them.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// A track's initialization segment with what playlists say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackInit {
    pub kind: TrackKind,
    /// RFC 6381.
    pub codecs: String,
    /// Whether browsers can play it as it is. G.711 they cannot, see [`crate::flac`].
    pub playable: bool,
    /// Ticks a second.
    pub timescale: u32,
    /// 0 for audio.
    pub width: u32,
    pub height: u32,
    /// 0 for video.
    pub sampling_hz: u32,
    pub channels: u32,
    /// `ftyp` and `moov`.
    pub segment: Bytes,
    /// As uploaded, so that Matroska can be written again.
    pub track: Track,
}

impl TrackInit {
    /// Reads the track's codec private.
    ///
    /// Errors: a codec that we do not package, or a record that is missing or not valid.
    pub fn new(track: &Track) -> Result<Self, CodecError> {
        Self::of(track, &CodecConfig::of(track)?)
    }

    pub(crate) fn of(track: &Track, config: &CodecConfig) -> Result<Self, CodecError> {
        let (kind, playable) = match config {
            CodecConfig::H264(_) | CodecConfig::H265(_) => (TrackKind::Video, true),
            // AAC-LC and HE-AAC; the other object types have no decoders in browsers.
            CodecConfig::Aac(aac) => (TrackKind::Audio, matches!(aac.object_type, 2 | 5 | 29)),
            CodecConfig::G711(_) => (TrackKind::Audio, false),
        };
        let (width, height) = match config {
            CodecConfig::H264(c) => (stated(c.width, track.width), stated(c.height, track.height)),
            CodecConfig::H265(c) => (stated(c.width, track.width), stated(c.height, track.height)),
            CodecConfig::Aac(_) | CodecConfig::G711(_) => (0, 0),
        };
        let (sampling_hz, channels) = match config {
            CodecConfig::H264(_) | CodecConfig::H265(_) => (0, 0),
            CodecConfig::Aac(c) => (c.sampling_hz, stated(c.channels, track.channels)),
            CodecConfig::G711(c) => (c.sampling_hz, stated(c.channels, track.channels)),
        };
        if kind == TrackKind::Audio && sampling_hz == 0 {
            return Err(CodecError::Invalid {
                codec_id: track.codec_id.clone(),
                cause: "the sampling rate is 0".into(),
            });
        }
        let mut init = Self {
            kind,
            codecs: config.rfc6381(),
            playable,
            timescale: if kind == TrackKind::Video { VIDEO_TIMESCALE } else { sampling_hz },
            width,
            height,
            sampling_hz,
            channels,
            segment: Bytes::new(),
            track: track.clone(),
        };
        init.segment = init.write_segment(|out| init.put_sample_entry(out, config)).into();
        Ok(init)
    }

    /// `ftyp` and `moov`: one track, no samples, no durations (RFC 8216 §3.3).
    pub(crate) fn write_segment(&self, put_sample_entry: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(768);
        // Not `cmfc`: that would promise `colr` and `pasp` boxes (ISO/IEC 23000-19 §9).
        put_box(&mut out, b"ftyp", |out| {
            out.extend_from_slice(b"iso6");
            put_u32(out, 0);
            out.extend_from_slice(b"iso6");
        });
        put_box(&mut out, b"moov", |out| {
            let header = MovieHeader {
                timescale: self.timescale,
                duration: 0,
                next_track_id: mp4::TRACK_ID + 1,
            };
            header.put(out);
            self.track_box(mp4::TRACK_ID).put(out, |out| {
                put_full_box(out, b"stsd", 0, 0, |out| {
                    put_u32(out, 1);
                    put_sample_entry(out);
                });
                put_no_samples(out);
            });
            put_box(out, b"mvex", |out| put_track_extends(out, mp4::TRACK_ID));
        });
        out
    }

    /// The track's box, without durations.
    pub(crate) fn track_box(&self, id: u32) -> TrackBox {
        TrackBox {
            id,
            kind: self.kind,
            width: self.width,
            height: self.height,
            timescale: self.timescale,
            media_duration: 0,
            duration: 0,
            edits: Vec::new(),
        }
    }

    /// The body of `stsd`, as it stands in the segment.
    pub(crate) fn sample_description(&self) -> Option<&[u8]> {
        let path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"];
        path.iter().try_fold(&self.segment[..], |boxes, kind| mp4::find_box(boxes, kind))
    }

    fn put_sample_entry(&self, out: &mut Vec<u8>, config: &CodecConfig) {
        match config {
            CodecConfig::H264(c) => put_box(out, b"avc1", |out| {
                self.put_visual(out);
                put_box(out, b"avcC", |out| out.extend_from_slice(&c.record));
            }),
            CodecConfig::H265(c) => put_box(out, b"hvc1", |out| {
                self.put_visual(out);
                put_box(out, b"hvcC", |out| out.extend_from_slice(&c.record));
            }),
            CodecConfig::Aac(c) => put_box(out, b"mp4a", |out| {
                self.put_sound(out);
                put_full_box(out, b"esds", 0, 0, |out| put_es_descriptor(out, &c.record));
            }),
            CodecConfig::G711(c) => {
                let kind = if c.law == Law::Mu { b"ulaw" } else { b"alaw" };
                put_box(out, kind, |out| self.put_sound(out));
            }
        }
    }

    /// What a VisualSampleEntry begins with (ISO/IEC 14496-12 §12.1.3).
    fn put_visual(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 6]);
        put_u16(out, 1);
        out.extend_from_slice(&[0; 16]);
        put_u16(out, saturate(self.width));
        put_u16(out, saturate(self.height));
        // 72 dots an inch, both ways.
        put_u64(out, 0x0048_0000_0048_0000);
        put_u32(out, 0);
        put_u16(out, 1);
        out.extend_from_slice(&[0; 32]);
        put_u16(out, 24);
        put_u16(out, 0xffff);
    }

    /// What an AudioSampleEntry begins with (ISO/IEC 14496-12 §12.2.3).
    pub(crate) fn put_sound(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 6]);
        put_u16(out, 1);
        put_u64(out, 0);
        put_u16(out, saturate(self.channels));
        put_u16(out, 16);
        put_u32(out, 0);
        // 16 bits hold up to 65,535 Hz; 0 leaves it to the codec's record.
        put_u32(out, u32::from(u16::try_from(self.sampling_hz).unwrap_or(0)) << 16);
    }
}

/// What the codec's record says, or else the TrackEntry.
fn stated(by_record: u32, by_track: u32) -> u32 {
    if by_record > 0 { by_record } else { by_track }
}

/// The tables of a track whose samples are in fragments.
pub(crate) fn put_no_samples(out: &mut Vec<u8>) {
    put_full_box(out, b"stts", 0, 0, |out| put_u32(out, 0));
    put_full_box(out, b"stsc", 0, 0, |out| put_u32(out, 0));
    put_full_box(out, b"stsz", 0, 0, |out| put_u64(out, 0));
    put_full_box(out, b"stco", 0, 0, |out| put_u32(out, 0));
}

/// `trex`: fragments of the track say all by themselves.
pub(crate) fn put_track_extends(out: &mut Vec<u8>, id: u32) {
    put_full_box(out, b"trex", 0, 0, |out| {
        put_u32(out, id);
        put_u32(out, 1);
        out.extend_from_slice(&[0; 12]);
    });
}

/// ES_Descriptor (ISO/IEC 14496-1 §7.2.6.5) around an AudioSpecificConfig.
fn put_es_descriptor(out: &mut Vec<u8>, record: &[u8]) {
    let mut decoder = vec![0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    put_descriptor(&mut decoder, 5, record);
    let mut stream = vec![0, 0, 0];
    put_descriptor(&mut stream, 4, &decoder);
    put_descriptor(&mut stream, 6, &[2]);
    put_descriptor(out, 3, &stream);
}

/// Tag, length in four groups of seven bits, body (ISO/IEC 14496-1 §8.3.3).
fn put_descriptor(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    let len = body.len();
    out.extend([21, 14, 7].map(|shift| (len >> shift) as u8 | 0x80));
    out.push(len as u8 & 0x7f);
    out.extend_from_slice(body);
}

/// The stored form's first byte; a change of the form changes it.
const VERSION: u8 = 1;

impl TrackInit {
    /// The form that is stored; [`TrackInit::decode`] reads it back.
    pub fn encode(&self) -> Bytes {
        let track = &self.track;
        let mut out = Vec::with_capacity(128 + self.segment.len() + track.codec_private.len());
        out.push(VERSION);
        put_kind(&mut out, self.kind);
        put_bytes(&mut out, self.codecs.as_bytes());
        out.push(u8::from(self.playable));
        for value in [self.timescale, self.width, self.height, self.sampling_hz, self.channels] {
            put_u32(&mut out, value);
        }
        put_bytes(&mut out, &self.segment);

        put_u64(&mut out, track.number);
        put_u64(&mut out, track.uid);
        put_kind(&mut out, track.kind);
        out.push(u8::from(track.name.is_some()));
        put_bytes(&mut out, track.name.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut out, track.codec_id.as_bytes());
        put_bytes(&mut out, &track.codec_private);
        out.push(u8::from(track.default_duration_ns.is_some()));
        put_u64(&mut out, track.default_duration_ns.unwrap_or_default());
        put_u64(&mut out, track.sampling_hz.to_bits());
        for value in [track.width, track.height, track.channels, track.bit_depth] {
            put_u32(&mut out, value);
        }
        out.into()
    }

    /// None where [`TrackInit::encode`] did not write it: any bytes may be given.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = mp4::Rest(bytes);
        if rest.u8()? != VERSION {
            return None;
        }
        // Fields are read in the order they are written in.
        let init = Self {
            kind: take_kind(&mut rest)?,
            codecs: take_text(&mut rest)?,
            playable: take_bool(&mut rest)?,
            timescale: rest.u32().filter(|t| *t > 0)?,
            width: rest.u32()?,
            height: rest.u32()?,
            sampling_hz: rest.u32()?,
            channels: rest.u32()?,
            segment: take_bytes(&mut rest)?,
            track: take_track(&mut rest)?,
        };
        rest.0.is_empty().then_some(init)
    }
}

fn put_kind(out: &mut Vec<u8>, kind: TrackKind) {
    out.push(u8::from(kind == TrackKind::Audio));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn take_track(rest: &mut mp4::Rest) -> Option<Track> {
    let number = rest.u64()?;
    let uid = rest.u64()?;
    let kind = take_kind(rest)?;
    let named = take_bool(rest)?;
    let name = take_text(rest)?;
    let codec_id = take_text(rest)?;
    let codec_private = take_bytes(rest)?;
    let timed = take_bool(rest)?;
    let default_duration_ns = rest.u64()?;
    Some(Track {
        number,
        uid,
        kind,
        name: named.then_some(name),
        codec_id,
        codec_private,
        default_duration_ns: timed.then_some(default_duration_ns),
        sampling_hz: f64::from_bits(rest.u64()?),
        width: rest.u32()?,
        height: rest.u32()?,
        channels: rest.u32()?,
        bit_depth: rest.u32()?,
    })
}

fn take_kind(rest: &mut mp4::Rest) -> Option<TrackKind> {
    Some(if take_bool(rest)? { TrackKind::Audio } else { TrackKind::Video })
}

fn take_bool(rest: &mut mp4::Rest) -> Option<bool> {
    match rest.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_bytes(rest: &mut mp4::Rest) -> Option<Bytes> {
    let len = rest.u32()? as usize;
    rest.take(len).map(Bytes::copy_from_slice)
}

fn take_text(rest: &mut mp4::Rest) -> Option<String> {
    let len = rest.u32()? as usize;
    rest.take(len).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::codec::g711::G711Config;
    use lookback_wire::codec::{aac::AacConfig, h264::AvcConfig, h265::HevcConfig};
    use mp4_atom::{Codec, Decode, Encode, Ftyp, Moov};
    use proptest::prelude::*;

    // x264's and x265's records of 320x180 pictures.
    const AVCC: &str = "0164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001\
                        000468ef8fcbfdf8f800";
    const HVCC: &str = "0101600000009000000000003cf000fcfdf8f800000f03200001001840010c01ffff01\
                        600000030090000003000003003c959409210001002b42010101600000030090000003\
                        000003003ca00a080c1f3e595952930bc05a0200000300020000030032102200010006\
                        4401c073c189";

    fn hex(text: &str) -> Bytes {
        let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn configs() -> [CodecConfig; 4] {
        [
            CodecConfig::H264(AvcConfig {
                record: hex(AVCC),
                profile: 0x64,
                compatibility: 0,
                level: 0x0c,
                nal_length_size: 4,
                width: 320,
                height: 180,
                reorder_frames: Some(2),
            }),
            CodecConfig::H265(HevcConfig {
                record: hex(HVCC),
                nal_length_size: 4,
                width: 0,
                height: 0,
                reorder_frames: None,
            }),
            CodecConfig::Aac(AacConfig {
                record: hex("121056e500"),
                object_type: 2,
                sampling_hz: 44_100,
                channels: 2,
                frame_samples: 1024,
            }),
            CodecConfig::G711(G711Config { law: Law::A, sampling_hz: 8000, channels: 1 }),
        ]
    }

    fn track() -> Track {
        Track {
            number: 1,
            uid: u64::MAX,
            kind: TrackKind::Video,
            name: Some("front door".into()),
            codec_id: "V_TEST".into(),
            codec_private: Bytes::from_static(b"private"),
            default_duration_ns: Some(40_000_000),
            width: 640,
            height: 360,
            sampling_hz: 44_100.5,
            channels: 2,
            bit_depth: 16,
        }
    }

    #[test]
    fn the_movie_box_reads_as_one_track_without_samples() {
        for config in configs() {
            let init = TrackInit::of(&track(), &config).unwrap();
            let mut rest = init.segment.as_ref();
            let ftyp = Ftyp::decode(&mut rest).unwrap();
            assert_eq!(ftyp.major_brand, b"iso6".into());
            let moov = Moov::decode(&mut rest).unwrap();
            assert!(rest.is_empty(), "nothing after moov");

            let [trak] = &moov.trak[..] else { panic!("one track") };
            assert_eq!(
                (moov.mvhd.duration, trak.tkhd.duration, trak.mdia.mdhd.duration),
                (0, 0, 0)
            );
            assert_eq!(trak.mdia.mdhd.timescale, init.timescale);
            let tables = &trak.mdia.minf.stbl;
            assert!(tables.stts.entries.is_empty() && tables.stsc.entries.is_empty());
            assert_eq!(moov.mvex.unwrap().trex[0].track_id, trak.tkhd.track_id);

            let [entry] = &tables.stsd.codecs[..] else { panic!("one sample entry") };
            let mut record = Vec::new();
            match (entry, &config) {
                (Codec::Avc1(entry), CodecConfig::H264(c)) => {
                    entry.avcc.encode(&mut record).unwrap();
                    assert_eq!(record[8..], c.record);
                    assert_eq!((entry.visual.width, entry.visual.height), (320, 180));
                }
                (Codec::Hvc1(entry), CodecConfig::H265(c)) => {
                    entry.hvcc.encode(&mut record).unwrap();
                    assert_eq!(record[8..], c.record);
                    // The SPS did not say.
                    assert_eq!((entry.visual.width, entry.visual.height), (640, 360));
                }
                (Codec::Mp4a(entry), CodecConfig::Aac(c)) => {
                    let decoder = &entry.esds.es_desc.dec_config;
                    assert_eq!(decoder.object_type_indication, 0x40);
                    assert_eq!(decoder.dec_specific.as_ref().unwrap().raw, c.record);
                    assert_eq!(entry.audio.channel_count, 2);
                }
                (Codec::Unknown(kind, _), CodecConfig::G711(_)) => {
                    assert_eq!(*kind, b"alaw".into())
                }
                (entry, config) => panic!("{config:?} became {entry:?}"),
            }
            assert_eq!(init.playable, !matches!(config, CodecConfig::G711(_)));
        }
    }

    #[test]
    fn the_stored_form_is_read_back() {
        for (index, config) in configs().iter().enumerate() {
            let mut track = track();
            if index > 0 {
                (track.name, track.default_duration_ns) = (None, None);
            }
            let init = TrackInit::of(&track, config).unwrap();
            let stored = init.encode();
            assert_eq!(TrackInit::decode(&stored), Some(init));
            for len in 0..stored.len() {
                assert_eq!(TrackInit::decode(&stored[..len]), None, "cut at {len}");
            }
            assert_eq!(TrackInit::decode(&[&stored[..], &[0]].concat()), None, "a byte too many");
        }
    }

    #[test]
    fn sound_without_a_rate_is_refused() {
        let config = CodecConfig::G711(G711Config { law: Law::Mu, sampling_hz: 0, channels: 1 });
        let error = TrackInit::of(&track(), &config).unwrap_err();
        assert!(error.to_string().contains("sampling rate"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_may_be_decoded(
            at in any::<prop::sample::Index>(), byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let mut stored = TrackInit::of(&track(), &configs()[0]).unwrap().encode().to_vec();
            let at = at.index(stored.len());
            stored[at] = byte;
            TrackInit::decode(&stored);
            TrackInit::decode(&noise);
            TrackInit::decode(&[&[VERSION], &noise[..]].concat());
        }
    }
}
