//! Codec configuration records: what a track is, for a player to know before it decodes.

pub mod aac;
pub mod g711;
pub mod h264;
pub mod h265;

use crate::Track;

/// What a track's codec private says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecConfig {
    /// `record` is an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1).
    H264(h264::AvcConfig),
    /// `record` is an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 §8.3.3.1).
    H265(h265::HevcConfig),
    Aac(aac::AacConfig),
    G711(g711::G711Config),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("codec {codec_id} is not supported")]
    Unsupported { codec_id: String },
    #[error("the codec private of {codec_id} is missing")]
    Missing { codec_id: String },
    #[error("the codec private of {codec_id} is invalid: {cause}")]
    Invalid { codec_id: String, cause: String },
}

impl CodecConfig {
    pub fn of(track: &Track) -> Result<Self, CodecError> {
        Err(CodecError::Unsupported { codec_id: track.codec_id.clone() })
    }

    /// RFC 6381, such as `avc1.4d4032`; `ulaw` and `alaw` for G.711.
    pub fn rfc6381(&self) -> String {
        String::new()
    }
}
