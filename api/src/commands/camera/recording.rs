//! A recording: samples of its first video and first audio track, in the order that they lie in.

use super::matroska_file::MatroskaFile;
use super::mp4_file::Mp4File;
use crate::commands::Failure;
use bytes::Bytes;
use lookback_wire::codec::CodecConfig;
use lookback_wire::{Track, TrackKind};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One coded picture or audio packet of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Index into [`Recording::tracks`].
    pub track: usize,
    /// Presentation time by the recording's own clock.
    pub at_ms: i64,
    pub key: bool,
    pub data: Bytes,
}

/// From the first key frame to the end of the last sample, by the recording's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub start_ms: i64,
    pub end_ms: i64,
}

#[derive(Debug)]
pub enum Recording {
    Matroska(Box<MatroskaFile>),
    Mp4(Mp4File),
}

impl Recording {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let named = |error: Failure| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(|error| named(error.into()))?;
        let mut head = [0; 8];
        file.read_exact_at(&mut head, 0).map_err(|error| named(error.into()))?;
        let opened = if head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            MatroskaFile::open(file).map(Box::new).map(Self::Matroska)
        } else if head.ends_with(b"ftyp") {
            Mp4File::open(file).map(Self::Mp4)
        } else {
            Err("it is neither Matroska nor MP4".into())
        };
        opened.map_err(|error| named(error).into())
    }

    pub fn tracks(&self) -> &[Track] {
        match self {
            Self::Matroska(file) => file.tracks(),
            Self::Mp4(file) => file.tracks(),
        }
    }

    pub fn extent(&self) -> Extent {
        match self {
            Self::Matroska(file) => file.extent(),
            Self::Mp4(file) => file.extent(),
        }
    }

    /// The next sample; none at the end.
    pub fn next(&mut self) -> Result<Option<Sample>, Failure> {
        match self {
            Self::Matroska(file) => file.next(),
            Self::Mp4(file) => file.next(),
        }
    }

    /// Begins anew.
    pub fn rewind(&mut self) -> Result<(), Failure> {
        match self {
            Self::Matroska(file) => file.rewind(),
            Self::Mp4(file) => file.rewind(),
        }
    }
}

/// The tracks to send, video first: of each kind the first whose codec the service can play. Answers
/// their indices in `tracks`; an error says why there is none.
pub fn choose(tracks: &[Track]) -> Result<Vec<usize>, Failure> {
    let first = |kind| {
        let of_kind = |track: &Track| track.kind == kind && CodecConfig::of(track).is_ok();
        tracks.iter().position(of_kind)
    };
    let chosen: Vec<usize> =
        [first(TrackKind::Video), first(TrackKind::Audio)].into_iter().flatten().collect();
    if chosen.is_empty() {
        let reasons = tracks.iter().filter_map(|track| CodecConfig::of(track).err());
        let reasons: Vec<String> = reasons.map(|reason| reason.to_string()).collect();
        return Err(format!("it has no track that can be sent: {}", reasons.join("; ")).into());
    }
    Ok(chosen)
}
