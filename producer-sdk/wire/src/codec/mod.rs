//! Codec configuration records: what a track is, for a player to know before it decodes.

pub mod aac;
mod bits;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod nal;

use crate::Track;
use bits::CutShort;

/// What a track's codec private says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecConfig {
    /// `record` is an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1).
    H264(h264::AvcConfig),
    /// `record` is an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 §8.3.3.1).
    H265(h265::HevcConfig),
    Aac(aac::AacConfig),
    G711(g711::G711Config),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("codec {codec_id} is not supported")]
    Unsupported { codec_id: String },
    #[error("the codec private of {codec_id} is missing")]
    Missing { codec_id: String },
    #[error("the codec private of {codec_id} is invalid: {cause}")]
    Invalid { codec_id: String, cause: String },
}

impl CodecConfig {
    pub fn of(track: &Track) -> Result<Self, CodecError> {
        let codec_id = track.codec_id.as_str();
        let private = || match track.codec_private.is_empty() {
            true => Err(CodecError::Missing { codec_id: codec_id.into() }),
            false => Ok(track.codec_private.clone()),
        };
        match codec_id {
            h264::CODEC_ID => h264::AvcConfig::parse(private()?).map(Self::H264),
            h265::CODEC_ID => h265::HevcConfig::parse(private()?).map(Self::H265),
            // Older muxers append the profile: `A_AAC/MPEG4/LC`.
            id if id.split('/').next() == Some(aac::CODEC_ID) => {
                aac::AacConfig::parse(private()?).map(Self::Aac)
            }
            g711::CODEC_ID => g711::G711Config::parse(&private()?).map(Self::G711),
            _ => Err(CodecError::Unsupported { codec_id: codec_id.into() }),
        }
    }

    /// RFC 6381, such as `avc1.4d4032`; `ulaw` and `alaw` for G.711.
    pub fn rfc6381(&self) -> String {
        match self {
            Self::H264(config) => config.rfc6381(),
            Self::H265(config) => config.rfc6381(),
            Self::Aac(config) => config.rfc6381(),
            Self::G711(config) => match config.law {
                g711::Law::Mu => "ulaw".into(),
                g711::Law::A => "alaw".into(),
            },
        }
    }
}

impl CodecError {
    fn invalid(codec_id: &str, cause: String) -> Self {
        Self::Invalid { codec_id: codec_id.into(), cause }
    }
}

/// Parameter sets that were found in a key frame, each once.
#[derive(Default)]
struct ParameterSets<'a> {
    vps: Units<'a>,
    sps: Units<'a>,
    pps: Units<'a>,
}

#[derive(Default)]
struct Units<'a>(Vec<&'a [u8]>);

impl<'a> Units<'a> {
    fn insert(&mut self, unit: &'a [u8]) {
        if !self.0.contains(&unit) {
            self.0.push(unit);
        }
    }

    fn first(&self) -> Option<&'a [u8]> {
        self.0.first().copied()
    }

    /// How many there are, and each after its length of 2 bytes.
    fn counted(&self, most: u8) -> Result<(u8, Vec<u8>), String> {
        let count = u8::try_from(self.0.len()).ok().filter(|count| *count <= most);
        let count = count.ok_or_else(|| format!("{} parameter sets of a kind", self.0.len()))?;
        let mut out = Vec::new();
        for unit in &self.0 {
            let length = u16::try_from(unit.len())
                .map_err(|_| format!("parameter set of {} bytes", unit.len()))?;
            out.extend(length.to_be_bytes());
            out.extend_from_slice(unit);
        }
        Ok((count, out))
    }
}

/// A picture's side in samples: as coded, less `crop` units at its two ends.
fn cropped(coded: u32, crop: [u32; 2], unit: u32) -> Result<u32, CutShort> {
    let [before, after] = crop;
    let cut = before.saturating_add(after).saturating_mul(unit);
    let side = coded.saturating_sub(cut);
    // MP4 has 16 bits for it.
    if (1..=u32::from(u16::MAX)).contains(&side) { Ok(side) } else { Err(CutShort) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrackKind;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn track(codec_id: &str, private: &[u8]) -> Track {
        Track {
            number: 1,
            uid: 1,
            kind: TrackKind::Video,
            name: None,
            codec_id: codec_id.into(),
            codec_private: Bytes::copy_from_slice(private),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        }
    }

    /// Records that encoders wrote, with what ffprobe says of them.
    const AVC: [(&str, &str, u32, u32, Option<u32>); 10] = [
        (
            "01640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c65801000668ebe3cb22c0\
             fdf8f800",
            "avc1.640028",
            1920,
            1080,
            Some(2),
        ),
        (
            "0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20",
            "avc1.42c01e",
            640,
            360,
            Some(0),
        ),
        (
            "014d401fffe10019674d401feca02802dd80880000030008000003019078c18cb001000568ebe3cb20",
            "avc1.4d401f",
            1280,
            720,
            Some(2),
        ),
        // Coded as fields.
        (
            "01640028ffe1001a67640028acd94078044fde0220000003002000000643e2c5b2c001000668fba3cb22c0\
             fdf8f800",
            "avc1.640028",
            1920,
            1080,
            Some(2),
        ),
        // 4:4:4, with a size that is cropped by odd numbers.
        (
            "01f4001effe1001a67f4001e919b281485fc7cf808800000030080000019078b16cb01000668ebe3c44844\
             fff8f800",
            "avc1.f4001e",
            642,
            362,
            Some(2),
        ),
        (
            "016e000dffe10019676e000da6cd94141fb011000003000100000300320f14299601000668ebe3cb22c0\
             fdfafa00",
            "avc1.6e000d",
            320,
            240,
            Some(2),
        ),
        // With scaling lists and hypothetical reference decoder parameters.
        (
            "0164001effe100236764001eacd940b0126c0440000003004000000c9808007a10001e84e4c30078b16cb0\
             01000668ebecb3002cfdf8f800",
            "avc1.64001e",
            704,
            576,
            Some(2),
        ),
        // What Amazon's samples send, without the fields that High profiles should have.
        (
            "0164001effe1001d6764001eacb201407b602d4180415000000300100000030328f162e48001000568ebcc\
             b22c",
            "avc1.64001e",
            640,
            480,
            Some(0),
        ),
        (
            "0164001effe1001d6764001eacb40501ed80b5060606a5000003000100000300328f162ea001000468ef3c\
             b0",
            "avc1.64001e",
            640,
            480,
            Some(0),
        ),
        (
            "014d401effe10018674d401ed900a03db011000003000100000300320f162e4801000468ebccb2",
            "avc1.4d401e",
            640,
            480,
            Some(0),
        ),
    ];

    const HEVC: [(&str, &str, u32, u32, u32); 3] = [
        (
            "01016000000090000000000078f000fcfdf8f800000f03200001001840010c01ffff016000000300900000\
             030000030078959809210001002a420101016000000300900000030000030078a003c08010e596566924ca\
             f0168080000003008000000c8422000100074401c172b46240",
            "hvc1.1.6.L120.90",
            1920,
            1080,
            2,
        ),
        (
            "0102200000009000000000003ff000fcfdfafa00000f03200001001840010c01ffff022000000300900000\
             03000003003f928090210001002c42010102200000030090000003000003003fa005120171c9236592a493\
             2bc05a02000003000200000300321022000100074401c172b46240",
            "hvc1.2.4.L63.90",
            642,
            362,
            0,
        ),
        (
            "01216000000090000000000099f000fcfdf8f800000f03200001001840010c01ffff216000000300900000\
             030000030099959809210001002b420101216000000300900000030000030099a00280802d165959a4932b\
             c05a02000003000200000300321022000100074401c172b46240",
            "hvc1.1.6.H153.90",
            1280,
            720,
            2,
        ),
    ];

    const AAC: [(&str, &str, u32, u32, u32); 13] = [
        ("1190", "mp4a.40.2", 48_000, 2, 1024),
        ("1210", "mp4a.40.2", 44_100, 2, 1024),
        // With the extension that says there is no SBR, as ffmpeg and kvssink write it.
        ("118856e500", "mp4a.40.2", 48_000, 1, 1024),
        ("140856e500", "mp4a.40.2", 16_000, 1, 1024),
        ("123056e500", "mp4a.40.2", 44_100, 6, 1024),
        ("160856e500", "mp4a.40.2", 7_350, 1, 1024),
        ("1194", "mp4a.40.2", 48_000, 2, 960),
        // A rate of 24 bits: 12,345 Hz.
        ("1780181c88", "mp4a.40.2", 12_345, 1, 1024),
        // SBR and parametric stereo, each said before the core's configuration and after it.
        ("2b118800", "mp4a.40.5", 24_000, 2, 1024),
        ("eb098800", "mp4a.40.29", 24_000, 2, 1024),
        ("139056e5a5", "mp4a.40.5", 22_050, 2, 1024),
        ("138856e5a54880", "mp4a.40.29", 22_050, 2, 1024),
        ("1180", "mp4a.40.2", 48_000, 0, 1024),
    ];

    #[test]
    fn reads_avcc() {
        for (hex, rfc6381, width, height, reorder) in AVC {
            let config = CodecConfig::of(&track("V_MPEG4/ISO/AVC", &bytes(hex))).unwrap();
            assert_eq!(config.rfc6381(), rfc6381);
            let CodecConfig::H264(avc) = config else { panic!("{config:?}") };
            assert_eq!((avc.width, avc.height), (width, height), "{hex}");
            assert_eq!(avc.reorder_frames, reorder, "{hex}");
            assert_eq!((avc.nal_length_size, &avc.record[..]), (4, &bytes(hex)[..]));
            let kinds: Vec<_> = avc.parameter_sets().iter().map(|unit| unit[0] & 0x1F).collect();
            assert_eq!(kinds, [7, 8], "{hex}");
        }
    }

    #[test]
    fn reads_what_h264_says_of_colours() {
        let full = "0142c01effe1001b6742c01eda0280bfe5c05b810100a0000003002000000641e2c5d401\
                    000468ce0fc8";
        for (hex, full_range, matrix) in [(full, true, 1), (AVC[1].0, false, 2)] {
            let avc = h264::AvcConfig::parse(bytes(hex).into()).unwrap();
            assert_eq!(avc.colour(), h264::Colour { full_range, matrix }, "{hex}");
        }
    }

    #[test]
    fn reads_hvcc() {
        for (hex, rfc6381, width, height, reorder) in HEVC {
            let config = CodecConfig::of(&track("V_MPEGH/ISO/HEVC", &bytes(hex))).unwrap();
            assert_eq!(config.rfc6381(), rfc6381);
            let CodecConfig::H265(hevc) = config else { panic!("{config:?}") };
            assert_eq!((hevc.width, hevc.height), (width, height), "{hex}");
            assert_eq!(hevc.reorder_frames, Some(reorder), "{hex}");
            assert_eq!((hevc.nal_length_size, &hevc.record[..]), (4, &bytes(hex)[..]));
            let kinds: Vec<_> = hevc.parameter_sets().iter().map(|unit| unit[0] >> 1).collect();
            assert_eq!(kinds, [32, 33, 34]);
        }
    }

    #[test]
    fn reads_audio_specific_configs() {
        for (hex, rfc6381, hz, channels, samples) in AAC {
            for codec_id in ["A_AAC", "A_AAC/MPEG4/LC"] {
                let config = CodecConfig::of(&track(codec_id, &bytes(hex))).unwrap();
                assert_eq!(config.rfc6381(), rfc6381, "{hex}");
                let CodecConfig::Aac(aac) = config else { panic!("{config:?}") };
                let read = (aac.sampling_hz, aac.channels, aac.frame_samples);
                assert_eq!(read, (hz, channels, samples), "{hex}");
            }
        }
        let check = |hz, channels, hex: &str| {
            let config = aac::AacConfig::low_complexity(hz, channels).unwrap();
            assert_eq!((&config.record[..], config.sampling_hz), (&bytes(hex)[..], hz));
            assert_eq!((config.channels, config.object_type), (channels, 2));
        };
        check(48_000, 2, "1190");
        check(8_000, 1, "1588");
        check(12_345, 1, "1780181c88");
        check(44_100, 8, "1238");
    }

    #[test]
    fn reads_and_writes_wave_formats() {
        let check = |hex: &str, rfc6381: &str, sampling_hz| {
            let config = CodecConfig::of(&track("A_MS/ACM", &bytes(hex))).unwrap();
            assert_eq!(config.rfc6381(), rfc6381);
            let CodecConfig::G711(g711) = config else { panic!("{config:?}") };
            assert_eq!((g711.sampling_hz, g711.channels), (sampling_hz, 1));
            assert_eq!(g711.record(), bytes(hex));
        };
        check("07000100401f0000401f0000010008000000", "ulaw", 8_000);
        check("06000100803e0000803e0000010008000000", "alaw", 16_000);
    }

    #[test]
    fn refuses_what_is_no_record() {
        let check = |codec_id: &str, hex: &str, part: &str| {
            let error = CodecConfig::of(&track(codec_id, &bytes(hex))).unwrap_err();
            assert!(error.to_string().contains(part), "{error} does not contain {part}");
        };
        check("V_VP9", "", "V_VP9 is not supported");
        check("V_MPEG4/ISO/AVC", "", "is missing");
        check("V_MPEG4/ISO/AVC", "000000016742c01ed9", "between start codes");
        check("V_MPEG4/ISO/AVC", "0242c01effe10000", "version 2");
        check("V_MPEG4/ISO/AVC", "0142c01effe0", "no SPS");
        check("V_MPEG4/ISO/AVC", "0142c01effe100196742c01e", "SPS is cut short");
        check("V_MPEG4/ISO/AVC", "0142c01effe100046742c01e", "SPS: it is cut short");
        check("V_MPEGH/ISO/HEVC", "00000142010101", "between start codes");
        check("V_MPEGH/ISO/HEVC", &HEVC[0].0[..100], "cut short");
        check("A_AAC", "11", "cut short");
        check("A_AAC", "1690", "sampling rate");
        check("A_AAC", "3a10", "object type 7 is");
        check("A_MS/ACM", "01000200803e0000", "format 0x0001");
        check("A_MS/ACM", "0700", "cut short");
    }

    /// The parameter sets of a record whose units have lengths of 2 bytes, between start codes.
    fn annex_b(record: &[u8], sps: &[u8]) -> Vec<u8> {
        let starts = [sps, &[0x68], &[0x40, 1], &[0x44, 1]];
        let mut out = vec![0, 0, 0, 1, 9, 0x10];
        let mut at = 0;
        while let Some(&[high, low, ref rest @ ..]) = record.get(at..) {
            let unit = rest.get(..usize::from(u16::from_be_bytes([high, low])));
            match unit.filter(|unit| starts.iter().any(|start| unit.starts_with(start))) {
                Some(unit) => {
                    out.extend([0, 0, 0, 1]);
                    out.extend(unit);
                    at += 2 + unit.len();
                }
                None => at += 1,
            }
        }
        [&out[..], &out, &[0, 0, 1, 0x65, 0x88, 0x84]].concat()
    }

    #[test]
    fn makes_records_of_what_encoders_give() {
        for (hex, ..) in &AVC[..7] {
            let made = h264::AvcConfig::from_annex_b(&annex_b(&bytes(hex), &[0x67])).unwrap();
            assert_eq!(made.record, bytes(hex), "{hex}");
        }
        for (hex, ..) in HEVC {
            let made = h265::HevcConfig::from_annex_b(&annex_b(&bytes(hex), &[0x42, 1])).unwrap();
            let mut expected = bytes(hex);
            // That the arrays are complete, which ffmpeg does not say in Matroska.
            for kind in [0x20, 0x21, 0x22] {
                let at = expected.windows(3).position(|part| part == [kind, 0, 1]).unwrap();
                expected[at] |= 0x80;
            }
            assert_eq!(made.record, expected, "{hex}");
        }
        let error = h264::AvcConfig::from_annex_b(&[0, 0, 1, 0x65, 1]).unwrap_err();
        assert!(error.to_string().contains("no sequence and picture parameter sets"), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics(private: Vec<u8>, record in 0..26_usize, at in 0..120_usize, bits: u8) {
            let records = AVC.iter().map(|row| row.0).chain(HEVC.iter().map(|row| row.0));
            let mut mutated = bytes(records.chain(AAC.iter().map(|row| row.0)).nth(record).unwrap());
            let at = at % mutated.len();
            mutated[at] ^= bits;
            for codec_id in ["V_MPEG4/ISO/AVC", "V_MPEGH/ISO/HEVC", "A_AAC", "A_MS/ACM"] {
                for private in [&private, &mutated] {
                    if let Ok(config) = CodecConfig::of(&track(codec_id, private)) {
                        prop_assert!(!config.rfc6381().is_empty());
                    }
                }
            }
        }
    }
}
