//! H.265 (ITU-T H.265; ISO/IEC 14496-15 §8).
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcConfig {
    pub record: Bytes,
    pub nal_length_size: u8,
    pub width: u32,
    pub height: u32,
    pub reorder_frames: Option<u32>,
}
