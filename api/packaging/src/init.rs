//! What a player needs before a track's first chunk, and what we remember of the track beside it.

use bytes::Bytes;
use lookback_wire::{Track, TrackKind};

/// A track's initialization segment with what playlists say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackInit {
    pub kind: TrackKind,
    /// RFC 6381.
    pub codecs: String,
    /// Whether browsers can play it as it is (G.711 they cannot).
    pub playable: bool,
    /// Ticks a second.
    pub timescale: u32,
    /// 0 for audio.
    pub width: u32,
    pub height: u32,
    /// 0 for video.
    pub sampling_hz: u32,
    pub channels: u32,
    /// `ftyp` and `moov`.
    pub segment: Bytes,
    /// As uploaded, so that Matroska can be written again.
    pub track: Track,
}

impl TrackInit {
    /// The form that is stored; [`TrackInit::decode`] reads it back.
    pub fn encode(&self) -> Bytes {
        Bytes::new()
    }

    pub fn decode(_bytes: &[u8]) -> Option<Self> {
        None
    }
}
