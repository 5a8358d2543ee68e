//! Matroska (RFC 9559) as live producers write it: one Segment of unknown size, Clusters in order.

mod block;
pub mod element;
mod header;
mod input;
mod limits;
pub mod reader;
mod tags;
pub mod writer;

pub use limits::{Limits, Source};
pub use reader::{Event, ReadError, Reader};
