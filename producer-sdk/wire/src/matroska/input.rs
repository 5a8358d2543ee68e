//! Received bytes that are not yet read, in order, as slices of the buffers they arrived in.

use crate::Payload;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Pushes below this many bytes are copied into one buffer: a slice of its own for each would take
/// more memory (32 bytes and its share of a receive buffer) than a sender of single bytes sent.
const OWN_SLICE_BYTES_MIN: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Input {
    parts: VecDeque<Bytes>,
    /// Small pushes, joined; they come after `parts`.
    small: BytesMut,
    len: usize,
}

impl Input {
    pub fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() < OWN_SLICE_BYTES_MIN {
            self.small.extend_from_slice(&bytes);
            return;
        }
        if !self.small.is_empty() {
            self.parts.push_back(self.small.split().freeze());
        }
        self.parts.push_back(bytes);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next bytes, as many as `scratch` is long or all that there are.
    pub fn peek<'a>(&'a self, scratch: &'a mut [u8]) -> &'a [u8] {
        let wanted = scratch.len().min(self.len);
        let front = self.parts.front().map_or(&self.small[..], |part| &part[..]);
        if let Some(bytes) = front.get(..wanted) {
            return bytes;
        }
        let joined = self.parts.iter().flatten().chain(&self.small);
        for (to, from) in scratch.iter_mut().zip(joined) {
            *to = *from;
        }
        scratch.get(..wanted).unwrap_or_default()
    }

    /// Removes the next `len` bytes, or all that there are.
    pub fn take(&mut self, len: usize) -> Payload {
        let mut taken = Payload::new();
        self.advance(len, |part| taken.push(part));
        taken
    }

    /// Drops the next `len` bytes, or all that there are; returns how many.
    pub fn skip(&mut self, len: usize) -> usize {
        self.advance(len, drop)
    }

    fn advance(&mut self, len: usize, mut each: impl FnMut(Bytes)) -> usize {
        let len = len.min(self.len);
        let mut rest = len;
        while rest > 0 {
            let part = match self.parts.front_mut() {
                Some(part) if part.len() > rest => part.split_to(rest),
                Some(_) => self.parts.pop_front().unwrap_or_default(),
                None => self.small.split_to(rest.min(self.small.len())).freeze(),
            };
            rest = rest.saturating_sub(part.len());
            each(part);
        }
        self.len -= len;
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_shares_large_pushes() {
        let large = Bytes::from(vec![7; OWN_SLICE_BYTES_MIN]);
        let mut input = Input::default();
        for part in [&b"ab"[..], b"c"] {
            input.push(Bytes::copy_from_slice(part));
        }
        input.push(large.clone());
        input.push(Bytes::from_static(b"z"));
        assert_eq!(input.len(), large.len() + 4);
        assert_eq!(input.peek(&mut [0; 5]), b"abc\x07\x07");
        assert_eq!(input.skip(3), 3);
        let taken = input.take(large.len());
        assert_eq!(taken.parts()[0].as_ptr(), large.as_ptr());
        assert_eq!(input.peek(&mut [0; 5]), b"z");
        assert_eq!(input.skip(9), 1);
        assert_eq!(input.len(), 0);
    }

    #[test]
    fn single_bytes_become_one_part() {
        let mut input = Input::default();
        for byte in 0..=255 {
            input.push(Bytes::copy_from_slice(&[byte]));
        }
        assert_eq!(input.take(256).parts().len(), 1);
    }
}
