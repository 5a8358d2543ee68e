//! What comes before the first Cluster: the EBML header, Info and Tracks, each once it is there whole.

use super::element as el;
use crate::ebml::{self, Children};
use crate::{Track, TrackKind};
use bytes::Bytes;

pub(super) const DEFAULT_TIMECODE_SCALE_NS: u64 = 1_000_000;
/// A second, the coarsest unit that producers may choose.
const TIMECODE_SCALE_NS_MAX: u64 = 1_000_000_000;

/// What is needed of Info (RFC 9559 §5.1.2).
#[derive(Debug)]
pub(super) struct Info {
    pub segment_uid: Option<[u8; 16]>,
    pub timecode_scale_ns: u64,
}

impl Default for Info {
    fn default() -> Self {
        Self { segment_uid: None, timecode_scale_ns: DEFAULT_TIMECODE_SCALE_NS }
    }
}

/// Checks the EBML header (RFC 8794 §11.2): only what a reader must know to read on.
pub(super) fn check_ebml(body: &[u8]) -> Result<(), String> {
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        let most = match id {
            el::EBML_READ_VERSION => 1,
            el::EBML_MAX_ID_LENGTH => 4,
            el::EBML_MAX_SIZE_LENGTH => 8,
            el::DOC_TYPE => {
                let doc_type = ebml::string(value);
                if !matches!(doc_type.as_str(), "matroska" | "webm") {
                    return Err(format!("DocType {doc_type:?} is neither matroska nor webm"));
                }
                continue;
            }
            _ => continue,
        };
        let value = ebml::unsigned(value).map_err(|cause| cause.to_string())?;
        if value > most {
            return Err(format!("{id} is {value}, above {most}"));
        }
    }
    Ok(())
}

pub(super) fn read_info(body: &[u8]) -> Result<Info, String> {
    let mut info = Info::default();
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        match id {
            el::SEGMENT_UID => info.segment_uid = value.try_into().ok(),
            el::TIMECODE_SCALE => {
                let ns = ebml::unsigned(value).map_err(|cause| cause.to_string())?;
                if !(1..=TIMECODE_SCALE_NS_MAX).contains(&ns) {
                    return Err(format!("{id} of {ns} ns is not from 1 ns to 1 s"));
                }
                info.timecode_scale_ns = ns;
            }
            _ => {}
        }
    }
    Ok(info)
}

/// A TrackEntry; `kind` is `None` where it is neither video nor audio.
pub(super) struct Entry {
    pub kind: Option<TrackKind>,
    pub track: Track,
}

pub(super) fn read_track(body: &[u8]) -> Result<Entry, String> {
    let mut kind = None;
    let mut track = Track {
        number: 0,
        uid: 0,
        kind: TrackKind::Video,
        name: None,
        codec_id: String::new(),
        codec_private: Bytes::new(),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        let number = || ebml::unsigned(value).map_err(|cause| format!("{id}: {cause}"));
        match id {
            el::TRACK_NUMBER => track.number = number()?,
            el::TRACK_UID => track.uid = number()?,
            el::TRACK_TYPE => {
                kind = match number()? {
                    1 => Some(TrackKind::Video),
                    2 => Some(TrackKind::Audio),
                    _ => None,
                }
            }
            el::TRACK_NAME => track.name = Some(ebml::string(value)),
            el::CODEC_ID => track.codec_id = ebml::string(value),
            // A copy: it outlives the upload's buffers.
            el::CODEC_PRIVATE => track.codec_private = Bytes::copy_from_slice(value),
            el::DEFAULT_DURATION => {
                track.default_duration_ns = Some(number()?).filter(|ns| *ns > 0);
            }
            el::VIDEO | el::AUDIO => read_track_media(value, &mut track)?,
            el::CONTENT_ENCODINGS => {
                return Err(format!("track {} has ContentEncodings", track.number));
            }
            _ => {}
        }
    }
    if track.number == 0 {
        return Err("TrackNumber is missing or 0".into());
    }
    if track.codec_id.is_empty() {
        return Err(format!("track {} has no CodecID", track.number));
    }
    if let Some(kind) = kind {
        track.kind = kind;
    }
    Ok(Entry { kind, track })
}

fn read_track_media(body: &[u8], track: &mut Track) -> Result<(), String> {
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        let number = || {
            let number = ebml::unsigned(value).map_err(|cause| format!("{id}: {cause}"))?;
            u32::try_from(number).map_err(|_| format!("{id} {number} is above 32 bits"))
        };
        match id {
            el::PIXEL_WIDTH => track.width = number()?,
            el::PIXEL_HEIGHT => track.height = number()?,
            el::CHANNELS => track.channels = number()?,
            el::BIT_DEPTH => track.bit_depth = number()?,
            el::SAMPLING_FREQUENCY => {
                let hz = ebml::float(value).map_err(|cause| format!("{id}: {cause}"))?;
                if !hz.is_finite() || hz < 0.0 {
                    return Err(format!("{id} is {hz}"));
                }
                track.sampling_hz = hz;
            }
            _ => {}
        }
    }
    Ok(())
}
