//! How long a WebSocket's frames say that they are (RFC 6455 §5.2), seen as they come in: the library
//! collects a frame whole before it looks at its length, however long it is.

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// Two bytes, eight of a long length, four of the mask.
const MAX_HEAD_BYTES: usize = 14;

/// The same bytes, up to the first frame whose payload is longer than `most`.
pub fn bounded(
    bytes: impl Stream<Item = Result<Bytes, PayloadError>>,
    most: usize,
) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let mut frames = Frames::default();
    bytes.map(move |part| match part {
        Ok(part) if !frames.pass(&part, most as u64) => Err(PayloadError::Overflow),
        part => part,
    })
}

/// Where in a row of frames its bytes have come to.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of a frame's head.
    head: Vec<u8>,
    /// What is still to come of a frame's payload.
    left: u64,
}

impl Frames {
    /// Goes on through bytes that may be cut anywhere; false where a frame is longer than `most`.
    fn pass(&mut self, mut bytes: &[u8], most: u64) -> bool {
        loop {
            let skipped =
                usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= skipped as u64;
            let Some((first, rest)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else {
                return true;
            };
            bytes = rest;
            self.head.push(*first);
            if let Some(length) = length_in(&self.head) {
                if length > most {
                    return false;
                }
                self.left = length;
                self.head.clear();
            }
            debug_assert!(self.head.len() < MAX_HEAD_BYTES);
        }
    }
}

/// The payload's length, once the head is whole.
fn length_in(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask_len = if second & 0x80 == 0 { 0 } else { 4 };
    let extended_len = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let extended = head.get(2..2 + extended_len)?;
    let length = match extended_len {
        0 => u64::from(second & 0x7f),
        _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    (head.len() == 2 + extended_len + mask_len).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame's head, in the form that RFC 6455 asks for.
    fn head(length: u64, is_masked: bool) -> Vec<u8> {
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let mut head = vec![0x81];
        match length {
            0..126 => head.push(mask_bit | length as u8),
            126..0x1_0000 => {
                head.push(mask_bit | 126);
                head.extend((length as u16).to_be_bytes());
            }
            _ => {
                head.push(mask_bit | 127);
                head.extend(length.to_be_bytes());
            }
        }
        if is_masked {
            // Bytes that would be another head.
            head.extend([0x81, 0xff, 0xff, 0xff]);
        }
        head
    }

    #[test]
    fn heads() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, u64::MAX] {
            for is_masked in [true, false] {
                let head = head(length, is_masked);
                assert!(head.len() <= MAX_HEAD_BYTES);
                assert_eq!(length_in(&head), Some(length));
                for part in 0..head.len() {
                    assert_eq!(length_in(&head[..part]), None, "{part} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn only_a_frame_that_is_too_long_is_refused_wherever_bytes_are_cut(
            lengths in prop::collection::vec(0u64..=70_000, 1..6),
            too_long in prop::option::of(70_001u64..),
            cuts in prop::collection::vec(1usize..40_000, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (n, length) in lengths.iter().enumerate() {
                bytes.extend(head(*length, n % 2 == 0));
                bytes.resize(bytes.len() + *length as usize, 0xff);
            }
            if let Some(length) = too_long {
                bytes.extend(head(length, true));
            }
            let mut frames = Frames::default();
            let mut left = &bytes[..];
            let mut passed = true;
            for cut in cuts.iter().cycle() {
                if left.is_empty() || !passed {
                    break;
                }
                let (part, rest) = left.split_at((*cut).min(left.len()));
                passed = frames.pass(part, 70_000);
                left = rest;
            }
            prop_assert_eq!(passed, too_long.is_none());
            prop_assert!(left.is_empty(), "what is refused is the last one");
        }
    }
}
