//! Matroska (RFC 9559) as live producers write it: one Segment of unknown size, Clusters in order.

pub mod element;
mod input;
pub mod reader;
pub mod writer;

pub use reader::{Event, Limits, ReadError, Reader};
