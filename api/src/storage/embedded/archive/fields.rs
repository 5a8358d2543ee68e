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

    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        // Rows are read by the thousand: as a rule eight bytes are there, and a number ends in them.
        if let Some(bytes) = self.0.first_chunk()
            && let Some((value, len)) = short_varint(u64::from_le_bytes(*bytes))
        {
            self.bytes(len)?;
            return Some(value);
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            value |= bits << shift;
            if byte < 0x80 {
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

/// The number that these bytes begin with, and how many of them it takes; `None` where it is longer.
#[inline]
fn short_varint(bytes: u64) -> Option<(u64, usize)> {
    const LAST: u64 = 0x8080_8080_8080_8080;
    let ends = !bytes & LAST;
    if ends == 0 {
        return None;
    }
    // The lowest bit that is set ends the number; below it lie its bytes, seven bits of each.
    let mut value = bytes & (ends ^ (ends - 1)) & !LAST;
    value = (value & 0x007f_007f_007f_007f) | (value & 0x7f00_7f00_7f00_7f00) >> 1;
    value = (value & 0x0000_3fff_0000_3fff) | (value & 0x3fff_0000_3fff_0000) >> 2;
    value = (value & 0x0000_0000_0fff_ffff) | (value & 0x0fff_ffff_0000_0000) >> 4;
    Some((value, ends.trailing_zeros() as usize / 8 + 1))
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
