//! What a camera hands over: frames, and what their tracks hold.

use bytes::Bytes;
use lookback_wire::codec::aac::{self, AacConfig};
use lookback_wire::codec::g711::{self, G711Config};
use lookback_wire::codec::h264::{self, AvcConfig};
use lookback_wire::codec::h265::{self, HevcConfig};
use lookback_wire::codec::{CodecConfig, CodecError};
use lookback_wire::{Timestamp, TrackKind};

/// One coded picture or audio packet, in decode order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The number of its track: 1 for the first that was configured.
    pub track: u64,
    /// When it was captured, by the camera's clock: the presentation time, which for B-frames does
    /// not rise from frame to frame.
    pub captured_at: Timestamp,
    /// Whether decoding can begin here; audio frames may all say so.
    pub key: bool,
    /// As the track's [`Framing`] says.
    pub data: Bytes,
}

/// How H.264 and H.265 frames mark off their NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Start codes, as encoders and RTP depacketizers give them (ITU-T H.264 Annex B).
    AnnexB,
    /// Lengths before each unit, as MP4 and Matroska files hold them.
    LengthPrefixed,
}

/// What a track holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub(crate) framing: Framing,
    /// Its `number` is given by its place; its codec private may come with the first key frame.
    pub(crate) entry: lookback_wire::Track,
}

impl Track {
    /// H.264 in Annex B; the parameter sets come with its key frames, and may change there.
    pub fn h264() -> Self {
        Self::new(TrackKind::Video, h264::CODEC_ID, Framing::AnnexB)
    }

    /// H.265 in Annex B; the parameter sets come with its key frames, and may change there.
    pub fn h265() -> Self {
        Self::new(TrackKind::Video, h265::CODEC_ID, Framing::AnnexB)
    }

    /// H.264 with lengths before its NAL units, and its `avcC` (ISO/IEC 14496-15 §5.3.3.1).
    pub fn h264_length_prefixed(record: Bytes) -> Self {
        let track = Self::new(TrackKind::Video, h264::CODEC_ID, Framing::LengthPrefixed);
        track.with_codec_private(record)
    }

    /// H.265 with lengths before its NAL units, and its `hvcC` (ISO/IEC 14496-15 §8.3.3.1).
    pub fn h265_length_prefixed(record: Bytes) -> Self {
        let track = Self::new(TrackKind::Video, h265::CODEC_ID, Framing::LengthPrefixed);
        track.with_codec_private(record)
    }

    /// AAC without ADTS headers, and its AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
    pub fn aac(config: Bytes) -> Self {
        let track = Self::new(TrackKind::Audio, aac::CODEC_ID, Framing::LengthPrefixed);
        track.with_codec_private(config)
    }

    /// G.711, one byte a sample and channel.
    pub fn g711(config: G711Config) -> Self {
        let mut track = Self::new(TrackKind::Audio, g711::CODEC_ID, Framing::LengthPrefixed);
        track.entry.bit_depth = 8;
        track.with_codec_private(config.record())
    }

    /// As a Matroska file has it; frames are as they lie there.
    pub fn matroska(entry: lookback_wire::Track) -> Self {
        Self { framing: Framing::LengthPrefixed, entry }
    }

    /// Whether its codec private, if it is known yet, is one that the service can play.
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        if self.framing == Framing::AnnexB && self.entry.codec_private.is_empty() {
            return Ok(());
        }
        CodecConfig::of(&self.entry).map(|_| ())
    }

    fn new(kind: TrackKind, codec_id: &str, framing: Framing) -> Self {
        let entry = lookback_wire::Track {
            number: 0,
            uid: 0,
            kind,
            name: None,
            codec_id: codec_id.to_owned(),
            codec_private: Bytes::new(),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        };
        Self { framing, entry }
    }

    fn with_codec_private(mut self, codec_private: Bytes) -> Self {
        self.entry.codec_private = codec_private;
        match CodecConfig::of(&self.entry) {
            Ok(CodecConfig::H264(AvcConfig { width, height, .. }))
            | Ok(CodecConfig::H265(HevcConfig { width, height, .. })) => {
                (self.entry.width, self.entry.height) = (width, height);
            }
            Ok(CodecConfig::Aac(AacConfig { sampling_hz, channels, .. }))
            | Ok(CodecConfig::G711(G711Config { sampling_hz, channels, .. })) => {
                self.entry.sampling_hz = f64::from(sampling_hz);
                self.entry.channels = channels;
            }
            // Refused when the producer starts.
            Err(_) => {}
        }
        self
    }
}
