//! AAC's AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use super::CodecError;
use super::bits::{Bits, CutShort};
use bytes::Bytes;

/// Matroska's codec id.
pub const CODEC_ID: &str = "A_AAC";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// AudioSpecificConfig.
    pub record: Bytes,
    /// As signalled: 2 is AAC-LC, 5 HE-AAC (SBR), 29 HE-AAC v2 (PS).
    pub object_type: u8,
    /// Of the core coder, so that a frame lasts [`AacConfig::frame_samples`] of it; SBR plays at
    /// twice the rate.
    pub sampling_hz: u32,
    /// 0 where a program config element says it.
    pub channels: u32,
    /// 1024, or 960 (low delay: 512 or 480).
    pub frame_samples: u32,
}

const OBJECT_SBR: u32 = 5;
const OBJECT_PS: u32 = 29;
const OBJECT_LOW_DELAY: u32 = 23;
/// ISO/IEC 14496-3 Table 1.18.
const SAMPLING_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

impl AacConfig {
    /// Reads an AudioSpecificConfig.
    pub fn parse(record: Bytes) -> Result<Self, CodecError> {
        Self::read(&mut Bits::of(&record))
            .map(|config| Self { record, ..config })
            .map_err(|cause| CodecError::invalid(CODEC_ID, cause))
    }

    /// AAC-LC's, for encoders that give none.
    ///
    /// Errors: `sampling_hz` is above 24 bits, or `channels` is not one of 1 to 6 and 8.
    pub fn low_complexity(sampling_hz: u32, channels: u32) -> Result<Self, CodecError> {
        let invalid = |cause: String| CodecError::invalid(CODEC_ID, cause);
        let channel_configuration = match channels {
            1..=6 => channels,
            8 => 7,
            _ => return Err(invalid(format!("{channels} channels"))),
        };
        let index = SAMPLING_HZ.iter().position(|hz| *hz == sampling_hz);
        let record = match index {
            Some(index) => {
                let bits = 2 << 11 | (index as u32) << 7 | channel_configuration << 3;
                Bytes::copy_from_slice(&(bits as u16).to_be_bytes())
            }
            None if sampling_hz < 1 << 24 => {
                let bits = 2_u64 << 35 | 15 << 31 | u64::from(sampling_hz) << 7;
                let bits = bits | u64::from(channel_configuration) << 3;
                Bytes::copy_from_slice(&bits.to_be_bytes()).split_off(3)
            }
            None => return Err(invalid(format!("sampling rate {sampling_hz} Hz"))),
        };
        Self::parse(record)
    }

    /// Such as `mp4a.40.2` (RFC 6381 §3.3).
    pub fn rfc6381(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    fn read(bits: &mut Bits<'_>) -> Result<Self, String> {
        let signalled = read_object_type(bits)?;
        let sampling_hz = read_sampling_hz(bits)?;
        let configuration = bits.unsigned(4)?;
        let mut object_type = signalled;
        if matches!(signalled, OBJECT_SBR | OBJECT_PS) {
            read_sampling_hz(bits)?;
            object_type = read_object_type(bits)?;
        }
        let (frame, short_frame) = match object_type {
            1..=4 | 17 => (1024, 960),
            OBJECT_LOW_DELAY => (512, 480),
            other => return Err(format!("audio object type {other} is not supported")),
        };
        let short = bits.flag()?;
        if sampling_hz == 0 {
            return Err("sampling rate is 0 or reserved".into());
        }
        let channels = match configuration {
            0..=6 => configuration,
            7 => 8,
            other => return Err(format!("channel configuration {other} is reserved")),
        };
        let extension = read_extension(bits, configuration).unwrap_or(None);
        let shown = extension.filter(|_| signalled == object_type).unwrap_or(signalled);
        Ok(Self {
            record: Bytes::new(),
            object_type: shown as u8,
            sampling_hz,
            // Parametric stereo makes two channels of one.
            channels: if shown == OBJECT_PS { 2 } else { channels },
            frame_samples: if short { short_frame } else { frame },
        })
    }
}

fn read_object_type(bits: &mut Bits<'_>) -> Result<u32, CutShort> {
    match bits.unsigned(5)? {
        31 => Ok(32 + bits.unsigned(6)?),
        object_type => Ok(object_type),
    }
}

/// 0 where the rate is reserved.
fn read_sampling_hz(bits: &mut Bits<'_>) -> Result<u32, CutShort> {
    match bits.unsigned(4)? {
        15 => bits.unsigned(24),
        index => Ok(SAMPLING_HZ.get(index as usize).copied().unwrap_or(0)),
    }
}

/// The backward-compatible signalling of SBR and PS after the core's configuration.
fn read_extension(bits: &mut Bits<'_>, configuration: u32) -> Result<Option<u32>, CutShort> {
    const SYNC_SBR: u32 = 0x2B7;
    const SYNC_PS: u32 = 0x548;
    if bits.flag()? {
        bits.skip(14)?;
    }
    bits.skip(1)?;
    // A program config element of unknown length stands between.
    if configuration == 0 || bits.left() < 16 || bits.unsigned(11)? != SYNC_SBR {
        return Ok(None);
    }
    if read_object_type(bits)? != OBJECT_SBR || !bits.flag()? {
        return Ok(None);
    }
    read_sampling_hz(bits)?;
    let ps = bits.left() >= 12 && bits.unsigned(11)? == SYNC_PS && bits.flag()?;
    Ok(Some(if ps { OBJECT_PS } else { OBJECT_SBR }))
}
