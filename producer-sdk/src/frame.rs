//! What a camera hands over: frames, and what their tracks hold.

use bytes::Bytes;
use lookback_wire::codec::g711::Law;
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
        Self::new(TrackKind::Video, "V_MPEG4/ISO/AVC", Framing::AnnexB)
    }

    /// H.265 in Annex B; the parameter sets come with its key frames, and may change there.
    pub fn h265() -> Self {
        Self::new(TrackKind::Video, "V_MPEGH/ISO/HEVC", Framing::AnnexB)
    }

    /// H.264 with lengths before its NAL units, and its `avcC` (ISO/IEC 14496-15 §5.3.3.1).
    pub fn h264_length_prefixed(record: Bytes) -> Self {
        let track = Self::new(TrackKind::Video, "V_MPEG4/ISO/AVC", Framing::LengthPrefixed);
        track.with_codec_private(record)
    }

    /// H.265 with lengths before its NAL units, and its `hvcC` (ISO/IEC 14496-15 §8.3.3.1).
    pub fn h265_length_prefixed(record: Bytes) -> Self {
        let track = Self::new(TrackKind::Video, "V_MPEGH/ISO/HEVC", Framing::LengthPrefixed);
        track.with_codec_private(record)
    }

    /// AAC without ADTS headers, and its AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
    pub fn aac(config: Bytes, sampling_hz: u32, channels: u32) -> Self {
        let mut track = Self::new(TrackKind::Audio, "A_AAC", Framing::LengthPrefixed);
        track.entry.sampling_hz = f64::from(sampling_hz);
        track.entry.channels = channels;
        track.with_codec_private(config)
    }

    /// G.711, one byte a sample and channel.
    pub fn g711(law: Law, sampling_hz: u32, channels: u16) -> Self {
        let mut track = Self::new(TrackKind::Audio, "A_MS/ACM", Framing::LengthPrefixed);
        track.entry.sampling_hz = f64::from(sampling_hz);
        track.entry.channels = u32::from(channels);
        track.entry.bit_depth = 8;
        track.with_codec_private(wave_format(law, sampling_hz, channels))
    }

    /// As a Matroska file has it; frames are as they lie there.
    pub fn matroska(entry: lookback_wire::Track) -> Self {
        Self { framing: Framing::LengthPrefixed, entry }
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
        self
    }
}

/// A WAVEFORMATEX (Microsoft `mmreg.h`; RFC 2361 for the format tags), as `A_MS/ACM` needs it.
fn wave_format(law: Law, sampling_hz: u32, channels: u16) -> Bytes {
    let format_tag: u16 = match law {
        Law::A => 0x0006,
        Law::Mu => 0x0007,
    };
    let bytes_per_second = sampling_hz.saturating_mul(u32::from(channels));
    let mut out = Vec::with_capacity(18);
    out.extend_from_slice(&format_tag.to_le_bytes());
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&sampling_hz.to_le_bytes());
    out.extend_from_slice(&bytes_per_second.to_le_bytes());
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&8u16.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_says_what_it_is() {
        let record = Track::g711(Law::Mu, 8000, 1).entry.codec_private;
        let expected = [7, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0, 0, 0];
        assert_eq!(record.as_ref(), expected);
    }
}
