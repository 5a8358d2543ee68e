//! Matroska (RFC 9559) as live producers write it: one Segment of unknown size, Clusters in order.

pub mod element;
pub mod reader;
pub mod writer;
