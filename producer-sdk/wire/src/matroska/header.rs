//! What comes before the first Cluster: the EBML header, Info and Tracks, each once it is there whole.

use super::element as el;
use super::limits::{Limits, Source};
use crate::ebml::{self, Children};
use crate::{ErrorId, Track, TrackKind};
use bytes::Bytes;
use std::collections::HashSet;

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

/// Tracks (RFC 9559 §5.1.4).
#[derive(Debug)]
pub(super) struct Tracks {
    pub kept: Vec<Track>,
    /// Numbers of tracks that are neither video nor audio, whose frames are left out.
    pub left_out: Vec<u64>,
    /// The index in `kept` of the track that fragments are cut at.
    pub lead: usize,
    pub lead_is_video: bool,
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

/// Reads Tracks; the error is what the upload is refused with.
pub(super) fn read_tracks(body: &[u8], limits: &Limits) -> Result<Tracks, (ErrorId, String)> {
    let invalid = |cause: String| (ErrorId::InvalidMkvData, cause);
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    let mut numbers = HashSet::new();
    for child in Children::of(body) {
        let (id, entry) = child.map_err(|cause| invalid(cause.to_string()))?;
        if id != el::TRACK_ENTRY {
            continue;
        }
        if numbers.len() == limits.tracks {
            let cause = format!("more than {} tracks", limits.tracks);
            return Err((ErrorId::MoreThanAllowedTracksFound, cause));
        }
        let Entry { kind, track } = read_track(entry).map_err(invalid)?;
        let Track { number, ref codec_private, .. } = track;
        let (bytes, limit) = (codec_private.len() as u64, limits.codec_private_bytes);
        if bytes > limit {
            let id = el::CODEC_PRIVATE;
            return Err(invalid(format!("{id} of {bytes} bytes is above the limit of {limit}")));
        }
        if !numbers.insert(number) {
            return Err(invalid(format!("two tracks have the number {number}")));
        }
        match (kind, limits.source) {
            (Some(kind), _) => kept.push(Track { kind, ..track }),
            (None, Source::Recording) => left_out.push(number),
            (None, Source::Upload) => {
                return Err(invalid(format!("track {number} is neither video nor audio")));
            }
        }
    }
    if kept.is_empty() {
        return Err(invalid("Tracks holds no video and no audio".into()));
    }
    let video = kept.iter().position(|track| track.kind == TrackKind::Video);
    let (lead, lead_is_video) = (video.unwrap_or(0), video.is_some());
    Ok(Tracks { kept, left_out, lead, lead_is_video })
}

/// A TrackEntry; `kind` is `None` where it is neither video nor audio.
struct Entry {
    kind: Option<TrackKind>,
    track: Track,
}

fn read_track(body: &[u8]) -> Result<Entry, String> {
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
