//! What crosses between a camera and the service: Matroska as `PutMedia` carries it, codec
//! configuration records, and acknowledgements.
//!
//! No I/O, no clock, no async: bytes come in as arguments, values come out.

#![forbid(unsafe_code)]

pub mod ack;
pub mod codec;
pub mod ebml;
pub mod fragment;
pub mod matroska;
pub mod payload;
pub mod time;

pub use ack::{Ack, AckError, AckParser, ErrorId, FragmentNumber};
pub use fragment::{Frame, SimpleTag, Track, TrackKind, UploadHeader};
pub use payload::Payload;
pub use time::Timestamp;
