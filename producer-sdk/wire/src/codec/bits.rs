//! Bits of a parameter set, most significant first (ITU-T H.264 §7.2, §9.1; H.265 §7.2, §9.2).

/// The bytes ended before the value did, or the value is longer than its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutShort;

impl From<CutShort> for String {
    fn from(_: CutShort) -> Self {
        "it is cut short, or a value is out of range".into()
    }
}

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn flag(&mut self) -> Result<bool, CutShort> {
        let byte = self.bytes.get(self.at / 8).ok_or(CutShort)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// u(n), n up to 32.
    pub fn unsigned(&mut self, bits: u32) -> Result<u32, CutShort> {
        (0..bits).try_fold(0, |value: u32, _| Ok(value << 1 | u32::from(self.flag()?)))
    }

    pub fn skip(&mut self, bits: usize) -> Result<(), CutShort> {
        self.at = self.at.checked_add(bits).ok_or(CutShort)?;
        if self.at > self.bytes.len().saturating_mul(8) { Err(CutShort) } else { Ok(()) }
    }

    /// ue(v).
    pub fn exp_golomb(&mut self) -> Result<u32, CutShort> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(CutShort);
            }
        }
        Ok((1_u32 << zeros) - 1 + self.unsigned(zeros)?)
    }

    /// se(v).
    pub fn signed_exp_golomb(&mut self) -> Result<i32, CutShort> {
        let code = i64::from(self.exp_golomb()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 0 { -magnitude } else { magnitude }).map_err(|_| CutShort)
    }

    /// Bits that are left.
    pub fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exp_golomb() {
        // H.264 Table 9-2: 1, 010, 011, 00100, then the end.
        let mut bits = Bits::of(&[0b1010_0110, 0b0100_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.exp_golomb()).collect();
        assert_eq!(read, [Ok(0), Ok(1), Ok(2), Ok(3), Err(CutShort)]);
        let mut bits = Bits::of(&[0b0100_1100, 0b1000_0101]);
        let read: Vec<_> = (0..4).map(|_| bits.signed_exp_golomb()).collect();
        assert_eq!(read, [Ok(1), Ok(-1), Ok(2), Ok(-2)]);
        assert_eq!(Bits::of(&[0; 9]).exp_golomb(), Err(CutShort));
    }
}
