//! AAC's AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// AudioSpecificConfig.
    pub record: Bytes,
    pub object_type: u8,
    pub sampling_hz: u32,
    pub channels: u32,
    /// 1024, or 960.
    pub frame_samples: u32,
}
