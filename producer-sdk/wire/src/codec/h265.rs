//! H.265 (ITU-T H.265; ISO/IEC 14496-15 §8).

use super::bits::{Bits, CutShort};
use super::nal::{annex_b_units, starts_with_start_code, without_emulation_prevention};
use super::{CodecError, ParameterSets, cropped};
use bytes::Bytes;
use std::fmt::Write;

/// Matroska's codec id.
pub const CODEC_ID: &str = "V_MPEGH/ISO/HEVC";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcConfig {
    pub record: Bytes,
    pub nal_length_size: u8,
    /// From the SPS, cropping applied.
    pub width: u32,
    pub height: u32,
    /// sps_max_num_reorder_pics of the highest temporal layer.
    pub reorder_frames: Option<u32>,
}

const NAL_TYPE_VPS: u8 = 32;
const NAL_TYPE_SPS: u8 = 33;
const NAL_TYPE_PPS: u8 = 34;
/// Where the arrays of parameter sets begin in the record.
const ARRAYS_AT: usize = 22;

impl HevcConfig {
    /// Reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 §8.3.3.1).
    pub fn parse(record: Bytes) -> Result<Self, CodecError> {
        Self::read(&record)
            .map(|config| Self { record, ..config })
            .map_err(|cause| CodecError::invalid(CODEC_ID, cause))
    }

    /// Makes the record from the parameter sets in an Annex B key frame, or in a codec private that
    /// holds nothing else. Its frames' NAL units then have lengths of 4 bytes.
    pub fn from_annex_b(bytes: &[u8]) -> Result<Self, CodecError> {
        let invalid = |cause: String| CodecError::invalid(CODEC_ID, cause);
        let mut sets = ParameterSets::default();
        for unit in annex_b_units(bytes) {
            match nal_type(unit) {
                Some(NAL_TYPE_VPS) => sets.vps.insert(unit),
                Some(NAL_TYPE_SPS) => sets.sps.insert(unit),
                Some(NAL_TYPE_PPS) => sets.pps.insert(unit),
                _ => {}
            }
        }
        let arrays =
            [(NAL_TYPE_VPS, &sets.vps), (NAL_TYPE_SPS, &sets.sps), (NAL_TYPE_PPS, &sets.pps)];
        if arrays.iter().any(|(_, list)| list.first().is_none()) {
            let cause = "no video, sequence and picture parameter sets between start codes";
            return Err(invalid(cause.into()));
        }
        let sps = Sps::parse(sets.sps.first().unwrap_or_default()).map_err(invalid)?;
        let mut record = vec![1];
        record.extend(sps.profile_tier_level);
        // No minimal spatial segmentation and any parallelism are the values for "not known".
        record.extend([0xF0, 0, 0xFC]);
        let [chroma, luma_depth, chroma_depth] = sps.format;
        record.extend([0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0, 0]);
        record.push(sps.layers << 3 | u8::from(sps.nested) << 2 | 3);
        record.push(arrays.len() as u8);
        for (kind, list) in arrays {
            /// All sets of the type are in the array, none in the frames that matter.
            const COMPLETE: u8 = 0x80;
            let (count, units) = list.counted(u8::MAX).map_err(invalid)?;
            record.extend([COMPLETE | kind, 0, count]);
            record.extend(units);
        }
        Self::parse(record.into())
    }

    /// Such as `hvc1.1.6.L93.B0` (ISO/IEC 14496-15 Annex E.3).
    pub fn rfc6381(&self) -> String {
        let Some(&[general, c0, c1, c2, c3, ref constraints @ .., level]) = self.record.get(1..13)
        else {
            return "hvc1".into();
        };
        let space = ["", "A", "B", "C"].get(usize::from(general >> 6)).copied().unwrap_or_default();
        let tier = if general & 0x20 == 0 { 'L' } else { 'H' };
        let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let mut text = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", general & 0x1F);
        let used = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for byte in constraints.iter().take(used) {
            // Writing to a String does not fail.
            let _ = write!(text, ".{byte:X}");
        }
        text
    }

    /// The record's video, sequence and picture parameter sets, as NAL units. Ends early where the
    /// record does.
    pub fn parameter_sets(&self) -> Vec<&[u8]> {
        let mut units = Vec::new();
        let Some(&[arrays, ref rest @ ..]) = self.record.get(ARRAYS_AT..) else { return units };
        let mut rest = rest;
        for _ in 0..arrays {
            let [kind, high, low, sets @ ..] = rest else { return units };
            let is_parameter_set = matches!(kind & 0x3F, NAL_TYPE_VPS..=NAL_TYPE_PPS);
            rest = sets;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let [high, low, sets @ ..] = rest else { return units };
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((unit, after)) = sets.split_at_checked(len) else { return units };
                if is_parameter_set {
                    units.push(unit);
                }
                rest = after;
            }
        }
        units
    }

    fn read(record: &[u8]) -> Result<Self, String> {
        if starts_with_start_code(record) {
            return Err("parameter sets between start codes, not an hvcC record".into());
        }
        let (Some(&version), Some(&lengths), Some(&[arrays, ref rest @ ..])) =
            (record.first(), record.get(ARRAYS_AT - 1), record.get(ARRAYS_AT..))
        else {
            return Err(format!("hvcC of {} bytes is cut short", record.len()));
        };
        // Version 0 was written by muxers before the standard was final, with the same fields.
        if version > 1 {
            return Err(format!("hvcC version {version} is not 1"));
        }
        let nal_length_size = (lengths & 3) + 1;
        if nal_length_size == 3 {
            return Err("NAL unit lengths of 3 bytes".into());
        }
        let sps = Sps::parse(first_sps(arrays, rest)?)?;
        Ok(Self {
            record: Bytes::new(),
            nal_length_size,
            width: sps.width,
            height: sps.height,
            reorder_frames: Some(sps.reorder_frames),
        })
    }
}

fn nal_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|first| first >> 1 & 0x3F)
}

fn first_sps(arrays: u8, mut rest: &[u8]) -> Result<&[u8], String> {
    for _ in 0..arrays {
        let &[_, high, low, ref units @ ..] = rest else {
            return Err("hvcC's arrays are cut short".into());
        };
        rest = units;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let (length, after) = rest.split_at_checked(2).ok_or("a NAL unit is cut short")?;
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let (unit, after) = after.split_at_checked(length).ok_or("a NAL unit is cut short")?;
            if nal_type(unit) == Some(NAL_TYPE_SPS) {
                return Ok(unit);
            }
            rest = after;
        }
    }
    Err("hvcC holds no SPS".into())
}

/// What is needed of a sequence parameter set (H.265 §7.3.2.2.1).
struct Sps {
    width: u32,
    height: u32,
    reorder_frames: u32,
    /// The general part of profile_tier_level, which hvcC has byte for byte.
    profile_tier_level: [u8; 12],
    layers: u8,
    nested: bool,
    /// chroma_format_idc, bit_depth_luma_minus8, bit_depth_chroma_minus8.
    format: [u8; 3],
}

impl Sps {
    fn parse(unit: &[u8]) -> Result<Self, String> {
        if nal_type(unit) != Some(NAL_TYPE_SPS) {
            return Err("no SPS where one is expected".into());
        }
        let bytes = without_emulation_prevention(unit);
        let body = bytes.get(2..).unwrap_or_default();
        Self::read(body).map_err(|error| format!("SPS: {}", String::from(error)))
    }

    fn read(body: &[u8]) -> Result<Self, CutShort> {
        let bits = &mut Bits::of(body);
        bits.skip(4)?;
        let upper_layers = bits.unsigned(3)?;
        let nested = bits.flag()?;
        let profile_tier_level =
            body.get(1..13).and_then(|bytes| bytes.try_into().ok()).ok_or(CutShort)?;
        bits.skip(96)?;
        if upper_layers > 6 {
            return Err(CutShort);
        }
        if upper_layers > 0 {
            let present: Vec<_> = (0..8).map(|_| bits.unsigned(2)).collect::<Result<_, _>>()?;
            for present in present.into_iter().take(upper_layers as usize) {
                bits.skip(if present & 2 == 0 { 0 } else { 88 })?;
                bits.skip(if present & 1 == 0 { 0 } else { 8 })?;
            }
        }
        bits.exp_golomb()?;
        let chroma = bits.exp_golomb()?;
        if chroma > 3 {
            return Err(CutShort);
        }
        let separate_planes = chroma == 3 && bits.flag()?;
        let (coded_width, coded_height) = (bits.exp_golomb()?, bits.exp_golomb()?);
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?;
            }
        }
        let mut depths = [0; 2];
        for depth in &mut depths {
            *depth = bits.exp_golomb()?;
            if *depth > 8 {
                return Err(CutShort);
            }
        }
        bits.exp_golomb()?;
        let layers_listed = if bits.flag()? { upper_layers } else { 0 };
        let mut reorder_frames = 0;
        for _ in 0..=layers_listed {
            bits.exp_golomb()?;
            reorder_frames = bits.exp_golomb()?;
            bits.exp_golomb()?;
        }
        /// §A.4.2: no level allows a larger decoded picture buffer.
        const FRAMES_MAX: u32 = 16;
        if reorder_frames > FRAMES_MAX {
            return Err(CutShort);
        }
        let (crop_x, crop_y) = match chroma {
            _ if separate_planes => (1, 1),
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let [left, right, top, bottom] = crop;
        let width = cropped(coded_width, [left, right], crop_x)?;
        let height = cropped(coded_height, [top, bottom], crop_y)?;
        Ok(Self {
            width,
            height,
            reorder_frames,
            profile_tier_level,
            layers: upper_layers as u8 + 1,
            nested,
            format: [chroma as u8, depths[0] as u8, depths[1] as u8],
        })
    }
}
