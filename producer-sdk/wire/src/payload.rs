//! Bytes of a frame as they lay in what was received, never joined.

use bytes::{Buf, Bytes};
use std::fmt;

/// A frame's bytes, in order, as slices of the buffers they arrived in. Two are equal where their
/// bytes are, however they are cut.
#[derive(Clone, Default)]
pub struct Payload {
    parts: Vec<Bytes>,
    len: usize,
}

impl Payload {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a slice; empty ones are left out.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// Drops the first `len` bytes, or all that there are.
    pub fn advance(&mut self, len: usize) {
        let mut rest = len.min(self.len);
        self.len -= rest;
        self.parts.retain_mut(|part| {
            let from_this = rest.min(part.len());
            part.advance(from_this);
            rest -= from_this;
            !part.is_empty()
        });
    }

    /// Copies the first bytes into `to`, as many as fit or all that there are; returns how many.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        for (to, from) in to.iter_mut().zip(self.parts.iter().flatten()) {
            *to = *from;
        }
        self.len.min(to.len())
    }

    /// One contiguous buffer; copies only where there is more than one part.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.parts.iter().flatten().eq(other.parts.iter().flatten())
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes in {} parts)", self.len, self.parts.len())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let mut payload = Self::new();
        payload.push(bytes);
        payload
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}
