//! H.264 (ITU-T H.264; ISO/IEC 14496-15 §5).
use bytes::Bytes;

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
