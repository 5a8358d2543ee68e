//! G.711 (ITU-T G.711) in a WAVEFORMATEX, as `A_MS/ACM` carries it.

use super::CodecError;
use bytes::Bytes;

/// Matroska's codec id.
pub const CODEC_ID: &str = "A_MS/ACM";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Mu,
    A,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct G711Config {
    pub law: Law,
    pub sampling_hz: u32,
    pub channels: u32,
}

impl Law {
    /// A byte as linear PCM of 16 bits (ITU-T G.711, tables 1 and 2, scaled up).
    pub fn expand(self, byte: u8) -> i16 {
        match self {
            Self::Mu => {
                let bits = !byte;
                let step = i16::from(bits & 0x0f) << 3 | 0x84;
                let size = (step << (bits >> 4 & 7)) - 0x84;
                if bits & 0x80 == 0 { size } else { -size }
            }
            Self::A => {
                let bits = byte ^ 0x55;
                let step = i16::from(bits & 0x0f) << 4 | 8;
                let size = match bits >> 4 & 7 {
                    0 => step,
                    segment => (step + 0x100) << (segment - 1),
                };
                if bits & 0x80 == 0 { -size } else { size }
            }
        }
    }
}

const FORMAT_A_LAW: u16 = 6;
const FORMAT_MU_LAW: u16 = 7;

impl G711Config {
    /// Reads a WAVEFORMATEX, all of whose numbers are little-endian.
    pub fn parse(record: &[u8]) -> Result<Self, CodecError> {
        let &[tag0, tag1, channels0, channels1, hz0, hz1, hz2, hz3, ..] = record else {
            let cause = format!("WAVEFORMATEX of {} bytes is cut short", record.len());
            return Err(CodecError::invalid(CODEC_ID, cause));
        };
        let law = match u16::from_le_bytes([tag0, tag1]) {
            FORMAT_A_LAW => Law::A,
            FORMAT_MU_LAW => Law::Mu,
            tag => {
                let codec_id = format!("{CODEC_ID} of format 0x{tag:04x}");
                return Err(CodecError::Unsupported { codec_id });
            }
        };
        let sampling_hz = u32::from_le_bytes([hz0, hz1, hz2, hz3]);
        let channels = u16::from_le_bytes([channels0, channels1]).into();
        if sampling_hz == 0 || channels == 0 {
            let cause = format!("{channels} channels at {sampling_hz} Hz");
            return Err(CodecError::invalid(CODEC_ID, cause));
        }
        Ok(Self { law, sampling_hz, channels })
    }

    /// The WAVEFORMATEX of 18 bytes that producers send.
    pub fn record(&self) -> Bytes {
        let tag = match self.law {
            Law::A => FORMAT_A_LAW,
            Law::Mu => FORMAT_MU_LAW,
        };
        let channels = u16::try_from(self.channels).unwrap_or(u16::MAX);
        let bytes_per_second = self.sampling_hz.saturating_mul(channels.into());
        let mut out = Vec::with_capacity(18);
        out.extend(tag.to_le_bytes());
        out.extend(channels.to_le_bytes());
        out.extend(self.sampling_hz.to_le_bytes());
        out.extend(bytes_per_second.to_le_bytes());
        out.extend(channels.to_le_bytes());
        out.extend(8_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Law;

    #[test]
    fn bytes_expand_as_the_recommendation_says() {
        // Both ends of the scale, the steps round zero, and one in between.
        for (law, byte, expected) in [
            (Law::Mu, 0x00, -32_124),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x7f, 0),
            (Law::Mu, 0xff, 0),
            (Law::Mu, 0xfe, 8),
            (Law::Mu, 0x7e, -8),
            (Law::Mu, 0xef, 132),
            (Law::A, 0x2a, -32_256),
            (Law::A, 0xaa, 32_256),
            (Law::A, 0xd5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xd4, 24),
            (Law::A, 0xc5, 264),
            (Law::A, 0xf5, 528),
        ] {
            assert_eq!(law.expand(byte), expected, "{law:?} 0x{byte:02x}");
        }
    }
}
