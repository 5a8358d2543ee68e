//! H.264 (ITU-T H.264; ISO/IEC 14496-15 §5).

use super::bits::{Bits, CutShort};
use super::nal::{annex_b_units, starts_with_start_code, without_emulation_prevention};
use super::{CodecError, ParameterSets, cropped};
use bytes::Bytes;

/// Matroska's codec id.
pub const CODEC_ID: &str = "V_MPEG4/ISO/AVC";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    pub record: Bytes,
    pub profile: u8,
    pub compatibility: u8,
    pub level: u8,
    pub nal_length_size: u8,
    /// From the SPS, cropping applied.
    pub width: u32,
    pub height: u32,
    /// max_num_reorder_frames where the SPS says so.
    pub reorder_frames: Option<u32>,
}

/// How a picture's samples are colours (§E.2.1), as video_signal_type of the VUI says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Whether luma goes from 0 to 255, rather than from 16 to 235.
    pub full_range: bool,
    /// matrix_coefficients (Table E-5); 2 where it is not said.
    pub matrix: u8,
}

impl Default for Colour {
    fn default() -> Self {
        Self { full_range: false, matrix: 2 }
    }
}

const NAL_TYPE_SPS: u8 = 7;
const NAL_TYPE_PPS: u8 = 8;

impl AvcConfig {
    /// Reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1).
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
            match unit.first().map_or(0, |first| first & 0x1F) {
                NAL_TYPE_SPS => sets.sps.insert(unit),
                NAL_TYPE_PPS => sets.pps.insert(unit),
                _ => {}
            }
        }
        let (Some(sps), Some(_)) = (sets.sps.first(), sets.pps.first()) else {
            return Err(invalid(
                "no sequence and picture parameter sets between start codes".into(),
            ));
        };
        let &[_, profile, compatibility, level, ..] = sps else {
            return Err(invalid("SPS is cut short".into()));
        };
        let parsed = Sps::parse(sps).map_err(invalid)?;
        let (sequences, sequence_units) = sets.sps.counted(31).map_err(invalid)?;
        let (pictures, picture_units) = sets.pps.counted(u8::MAX).map_err(invalid)?;
        let mut record = vec![1, profile, compatibility, level, 0xFF, 0xE0 | sequences];
        record.extend(sequence_units);
        record.push(pictures);
        record.extend(picture_units);
        if !matches!(profile, 66 | 77 | 88) {
            let [chroma, luma_depth, chroma_depth] = parsed.format;
            record.extend([0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0]);
        }
        Self::parse(record.into())
    }

    /// Such as `avc1.4d4032` (RFC 6381 §3.3).
    pub fn rfc6381(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.compatibility, self.level)
    }

    /// The record's sequence parameter sets, then its picture parameter sets, as NAL units. Ends
    /// early where the record does.
    pub fn parameter_sets(&self) -> Vec<&[u8]> {
        let mut units = Vec::new();
        let mut rest = self.record.get(5..).unwrap_or_default();
        for count_bits in [0x1F, 0xFF] {
            let [count, sets @ ..] = rest else { break };
            rest = sets;
            for _ in 0..count & count_bits {
                let [high, low, sets @ ..] = rest else { return units };
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((unit, after)) = sets.split_at_checked(len) else { return units };
                units.push(unit);
                rest = after;
            }
        }
        units
    }

    /// What the first sequence parameter set says of colours.
    pub fn colour(&self) -> Colour {
        let sets = self.parameter_sets();
        sets.first().and_then(|sps| Sps::parse(sps).ok()).unwrap_or_default().colour
    }

    fn read(record: &[u8]) -> Result<Self, String> {
        if starts_with_start_code(record) {
            return Err("parameter sets between start codes, not an avcC record".into());
        }
        let &[version, profile, compatibility, level, lengths, count, ref sets @ ..] = record
        else {
            return Err(format!("avcC of {} bytes is cut short", record.len()));
        };
        if version != 1 {
            return Err(format!("avcC version {version} is not 1"));
        }
        let nal_length_size = (lengths & 3) + 1;
        if nal_length_size == 3 {
            return Err("NAL unit lengths of 3 bytes".into());
        }
        if count & 0x1F == 0 {
            return Err("avcC holds no SPS".into());
        }
        let sps = match sets {
            [high, low, sets @ ..] => sets.get(..usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        };
        let sps = Sps::parse(sps.ok_or("SPS is cut short")?)?;
        Ok(Self {
            record: Bytes::new(),
            profile,
            compatibility,
            level,
            nal_length_size,
            width: sps.width,
            height: sps.height,
            reorder_frames: sps.reorder_frames,
        })
    }
}

/// What is needed of a sequence parameter set (H.264 §7.3.2.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sps {
    width: u32,
    height: u32,
    reorder_frames: Option<u32>,
    /// chroma_format_idc, bit_depth_luma_minus8, bit_depth_chroma_minus8.
    format: [u8; 3],
    colour: Colour,
}

impl Sps {
    fn parse(unit: &[u8]) -> Result<Self, String> {
        if unit.first().is_none_or(|first| first & 0x1F != NAL_TYPE_SPS) {
            return Err("no SPS where one is expected".into());
        }
        let bytes = without_emulation_prevention(unit);
        let bits = &mut Bits::of(bytes.get(1..).unwrap_or_default());
        Self::read(bits).map_err(|error| format!("SPS: {}", String::from(error)))
    }

    fn read(bits: &mut Bits<'_>) -> Result<Self, CutShort> {
        let profile = bits.unsigned(8)?;
        let constraints = bits.unsigned(8)?;
        bits.skip(8)?;
        bits.exp_golomb()?;
        let mut chroma = 1;
        let mut separate_planes = false;
        let mut depths = [0; 2];
        if matches!(
            profile,
            44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
        ) {
            chroma = bits.exp_golomb()?;
            if chroma > 3 {
                return Err(CutShort);
            }
            separate_planes = chroma == 3 && bits.flag()?;
            for depth in &mut depths {
                *depth = bits.exp_golomb()?;
                if *depth > 6 {
                    return Err(CutShort);
                }
            }
            bits.skip(1)?;
            if bits.flag()? {
                let lists = if chroma == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.flag()? {
                        skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.exp_golomb()?;
        let order_type = bits.exp_golomb()?;
        if order_type == 0 {
            bits.exp_golomb()?;
        } else if order_type == 1 {
            bits.skip(1)?;
            bits.signed_exp_golomb()?;
            bits.signed_exp_golomb()?;
            for _ in 0..bits.exp_golomb()?.min(255) {
                bits.signed_exp_golomb()?;
            }
        }
        bits.exp_golomb()?;
        bits.skip(1)?;
        let width_blocks = bits.exp_golomb()?;
        let height_units = bits.exp_golomb()?;
        let frames_only = bits.flag()?;
        let fields = if frames_only { 1 } else { 2 };
        if !frames_only {
            bits.skip(1)?;
        }
        bits.skip(1)?;
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?;
            }
        }
        let has_vui = bits.flag()?;
        let array_type = if separate_planes { 0 } else { chroma };
        let (crop_x, crop_y) = match array_type {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let [left, right, top, bottom] = crop;
        let coded = |blocks: u32, block: u32| blocks.saturating_add(1).saturating_mul(block);
        let width = cropped(coded(width_blocks, 16), [left, right], crop_x)?;
        let height = cropped(coded(height_units, 16 * fields), [top, bottom], crop_y * fields)?;
        // Some cameras' VUI is broken; the rest of the SPS then counts.
        let mut colour = Colour::default();
        let stated = if has_vui { read_vui(bits, &mut colour).unwrap_or(None) } else { None };
        // Inferred as in §E.2.1 for intra-only profiles; type 2 makes output order decode order.
        let intra_only =
            matches!(profile, 44 | 86 | 100 | 110 | 122 | 244) && constraints & 0x10 != 0;
        let inferred = (intra_only || order_type == 2).then_some(0);
        Ok(Self {
            width,
            height,
            reorder_frames: stated.or(inferred),
            format: [chroma as u8, depths[0] as u8, depths[1] as u8],
            colour,
        })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Result<(), CutShort> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            let delta = bits.signed_exp_golomb()?;
            next = last.wrapping_add(delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

/// max_num_reorder_frames of the VUI (§E.1.1), where it has bitstream restrictions; its colours
/// come earlier and go to `colour`.
fn read_vui(bits: &mut Bits<'_>, colour: &mut Colour) -> Result<Option<u32>, CutShort> {
    const EXTENDED_SAR: u32 = 255;
    /// §A.3: no level allows a larger decoded picture buffer.
    const FRAMES_MAX: u32 = 16;
    if bits.flag()? && bits.unsigned(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(3)?;
        colour.full_range = bits.flag()?;
        if bits.flag()? {
            bits.skip(16)?;
            colour.matrix = bits.unsigned(8)? as u8;
        }
    }
    if bits.flag()? {
        bits.exp_golomb()?;
        bits.exp_golomb()?;
    }
    if bits.flag()? {
        bits.skip(65)?;
    }
    let mut has_hrd = false;
    for _ in 0..2 {
        if bits.flag()? {
            has_hrd = true;
            let count = bits.exp_golomb()?;
            if count > 31 {
                return Err(CutShort);
            }
            bits.skip(8)?;
            for _ in 0..=count {
                bits.exp_golomb()?;
                bits.exp_golomb()?;
                bits.skip(1)?;
            }
            bits.skip(20)?;
        }
    }
    if has_hrd {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if !bits.flag()? {
        return Ok(None);
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.exp_golomb()?;
    }
    Ok(Some(bits.exp_golomb()?).filter(|frames| *frames <= FRAMES_MAX))
}
