//! Reads an upload from bytes as they arrive, cut anywhere, without copying frames.

use crate::{ErrorId, Frame, SimpleTag, UploadHeader};
use bytes::Bytes;
use std::sync::Arc;

/// What a reader refuses; each has its reason beside it in [`Limits::default`].
#[derive(Clone, Debug)]
pub struct Limits {
    pub fragment_bytes: u64,
    pub fragment_ms: u64,
    pub tracks: usize,
    pub tags_per_fragment: usize,
    pub tag_name_bytes: usize,
    pub tag_value_bytes: usize,
    /// Any element but a Segment, Cluster, block or codec private.
    pub element_bytes: u64,
    pub codec_private_bytes: u64,
    pub depth: usize,
}

/// What the bytes hold, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Once an upload, before its first fragment.
    Header(Arc<UploadHeader>),
    /// A Cluster and its Timecode were seen.
    FragmentStart {
        timecode: u64,
    },
    Frame(Frame),
    /// Tags of the fragment that is open or has just ended; before the first fragment, of the first.
    Tag(SimpleTag),
    /// The fragment is whole: the next Cluster began (then with its timecode), an
    /// END_OF_FRAGMENT tag came, or the upload ended.
    FragmentEnd {
        next_timecode: Option<u64>,
    },
}

/// Why an upload is refused, and at which fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    pub id: ErrorId,
    /// Of the fragment that it concerns.
    pub timecode: Option<u64>,
    /// Names the element, the value and the cause.
    pub message: String,
}

/// The reader. After an error it stays in error.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    pub fn new(_limits: Limits) -> Self {
        Self
    }

    /// Hands over bytes. Then call [`Reader::next`] until it has no more.
    pub fn push(&mut self, _bytes: Bytes) {}

    /// The next event, or `None` until more bytes are pushed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event>, ReadError> {
        Ok(None)
    }

    /// The upload has ended: the events of its last fragment, if that is whole. Bytes of an
    /// element that was cut short are an error, and their fragment is not ended.
    pub fn finish(&mut self) -> Result<Vec<Event>, ReadError> {
        Ok(Vec::new())
    }
}
