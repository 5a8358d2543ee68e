//! Numbers as the archive writes them in record heads and index rows: LEB128, signed ones zigzag.

/// Appends to `out`.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Bytes of the largest number.
const MAX_VARINT: usize = 10;

/// Takes fields off the front of a slice; `None` where it ends too early or a number does not fit.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    // Written so that a processor foresees where a number ends: rows of one stream are all alike.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, &byte) in self.0.iter().take(MAX_VARINT).enumerate() {
            let (bits, shift) = (u64::from(byte & 0x7f), 7 * index);
            value |= bits << shift;
            if byte < 0x80 {
                self.0 = self.0.get(index + 1..)?;
                return (bits << shift >> shift == bits).then_some(value);
            }
        }
        None
    }

    #[inline]
    pub fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, bits in 0u32..64, signed: i64, rest: Vec<u8>) {
            let value = value >> bits;
            let mut out = Vec::new();
            put(&mut out, value);
            put_signed(&mut out, signed);
            out.extend_from_slice(&rest);
            let mut fields = Fields(&out);
            prop_assert_eq!(fields.varint(), Some(value));
            prop_assert_eq!(fields.signed(), Some(signed));
            prop_assert_eq!(fields.0, &rest);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut fields = Fields(&bytes);
            while fields.signed().is_some() {}
        }
    }
}
