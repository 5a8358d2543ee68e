//! Writes an upload: header, clusters of unknown size, blocks whose payloads are handed on, tags.

use crate::{Payload, SimpleTag, UploadHeader};
use bytes::Bytes;

/// EBML header, Segment of unknown size, Info and Tracks.
pub fn header(_header: &UploadHeader) -> Bytes {
    Bytes::new()
}

/// A Cluster of unknown size and its Timecode.
pub fn cluster(_timecode: u64) -> Bytes {
    Bytes::new()
}

/// A SimpleBlock's element header, block header and nothing else: the payload follows as it is.
/// `relative_timecode` counts from the cluster's.
pub fn simple_block(_track: u64, _relative_timecode: i16, _key: bool, _payload: &Payload) -> Bytes {
    Bytes::new()
}

/// One Tags element that holds these.
pub fn tags(_tags: &[SimpleTag]) -> Bytes {
    Bytes::new()
}
