//! What a SimpleBlock and a Block hold (RFC 9559 §10): a header and a frame, or laced frames.

use crate::Payload;
use crate::ebml::Vint;
use bytes::Bytes;

/// A track number of up to 8 bytes, a timecode of 2 and the flags.
const HEADER_BYTES_MAX: usize = 11;
const KEY: u8 = 0x80;

/// A block's own header (RFC 9559 §10.1).
#[derive(Debug)]
pub(super) struct BlockHeader {
    pub track: u64,
    pub relative_timecode: i16,
    pub key: bool,
    pub lacing: Lacing,
    /// Bytes that it takes.
    pub len: usize,
}

/// How a block says where its frames end (§10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacing {
    /// It holds one.
    None,
    Xiph,
    FixedSize,
    Ebml,
}

impl BlockHeader {
    pub fn read(block: &Payload) -> Result<Self, String> {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let copied = block.copy_to(&mut bytes);
        let bytes = bytes.get(..copied).unwrap_or_default();
        let number = Vint::read(bytes).map_err(|cause| format!("block's track number: {cause}"))?;
        let number = number.ok_or("block is cut short within its track number")?;
        let Some(&[high, low, flags, ..]) = bytes.get(number.len..) else {
            return Err(format!("block of {copied} bytes is shorter than its header"));
        };
        Ok(Self {
            track: number.value,
            relative_timecode: i16::from_be_bytes([high, low]),
            key: flags & KEY != 0,
            lacing: match flags >> 1 & 3 {
                0 => Lacing::None,
                1 => Lacing::Xiph,
                2 => Lacing::FixedSize,
                _ => Lacing::Ebml,
            },
            len: number.len + 3,
        })
    }
}

/// The frames of a block whose header was taken off.
pub(super) fn split(block: Payload, lacing: Lacing) -> Result<Vec<Payload>, String> {
    if lacing == Lacing::None {
        return Ok(vec![block]);
    }
    unlace(&mut block.to_bytes(), lacing)
        .ok_or_else(|| "the sizes of laced frames do not add up to their block's".into())
}

fn unlace(rest: &mut Bytes, lacing: Lacing) -> Option<Vec<Payload>> {
    // The first byte is the number of frames less one, so of all but the last.
    let others = usize::from(take(rest, 1)?[0]);
    let mut sizes = Vec::with_capacity(others);
    for _ in 0..others {
        let size = match lacing {
            Lacing::None => return None,
            Lacing::Xiph => xiph_size(rest)?,
            Lacing::FixedSize => rest.len() / (others + 1),
            Lacing::Ebml => ebml_size(rest, sizes.last().copied())?,
        };
        sizes.push(size);
    }
    if lacing == Lacing::FixedSize && !rest.len().is_multiple_of(others + 1) {
        return None;
    }
    let mut frames = Vec::with_capacity(others + 1);
    for size in sizes {
        frames.push(take(rest, size)?.into());
    }
    frames.push(std::mem::take(rest).into());
    Some(frames)
}

/// Bytes of 255, then one below it, all added.
fn xiph_size(rest: &mut Bytes) -> Option<usize> {
    let mut size = 0;
    loop {
        let byte = take(rest, 1)?[0];
        size += usize::from(byte);
        if byte < u8::MAX {
            return Some(size);
        }
    }
}

/// The first as it is, then differences, which are counted from the middle of what their bytes hold.
fn ebml_size(rest: &mut Bytes, previous: Option<usize>) -> Option<usize> {
    let vint = Vint::read(rest).ok()??;
    take(rest, vint.len)?;
    let value = i64::try_from(vint.value).ok()?;
    let size = match previous {
        None => value,
        Some(previous) => {
            let middle = (1_i64 << (7 * vint.len - 1)) - 1;
            i64::try_from(previous).ok()?.checked_add(value - middle)?
        }
    };
    usize::try_from(size).ok()
}

fn take(rest: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= rest.len()).then(|| rest.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlaces() {
        let check = |lacing, block: &[u8], expected: Option<&[&[u8]]>| {
            let frames = split(Payload::from(block.to_vec()), lacing).ok();
            let expected: Option<Vec<Payload>> =
                expected.map(|frames| frames.iter().map(|frame| frame.to_vec().into()).collect());
            assert_eq!(frames, expected, "{block:?}");
        };
        check(Lacing::None, b"abc", Some(&[b"abc"]));
        check(Lacing::FixedSize, b"\x02aabbcc", Some(&[b"aa", b"bb", b"cc"]));
        check(Lacing::FixedSize, b"\x02aabbc", None);
        check(Lacing::Xiph, b"\x02\x01\x02abbccc", Some(&[b"a", b"bb", b"ccc"]));
        let long = [&b"\x01\xff\x01"[..], &[7; 256], b"z"].concat();
        check(Lacing::Xiph, &long, Some(&[&[7; 256], b"z"]));
        check(Lacing::Xiph, b"\x01\x05abc", None);
        // 3, then 3 - 1, then what is left; a difference of 0 is 63 in one byte.
        check(Lacing::Ebml, b"\x02\x83\xbeaaabbc", Some(&[b"aaa", b"bb", b"c"]));
        check(Lacing::Ebml, b"\x02\x81\x80abc", None);
        check(Lacing::Ebml, b"", None);
    }
}
