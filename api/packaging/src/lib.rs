//! Fragments into what players fetch: fragmented MP4 (ISO/IEC 14496-12), HLS (RFC 8216) and DASH
//! (ISO/IEC 23009-1).
//!
//! Pure functions: no I/O, no clock. Media bytes are handed on as the slices they came in.

#![forbid(unsafe_code)]

pub mod chunk;
pub mod dash;
pub mod flac;
pub mod fragmented;
pub mod frames;
pub mod hls;
pub mod init;
pub mod kinesis;
mod movie;
pub mod mp4;
pub mod muxed;
pub mod progressive;
pub mod silence;
pub mod ts;

pub use chunk::{Chunk, Packager, TimedFrame};
pub use init::TrackInit;
