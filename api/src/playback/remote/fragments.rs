//! One fragment, as it was uploaded, into chunks.

use crate::device::Stream;
use crate::playback::{MediaError, SessionError, Unavailable, UnavailableCode};
use crate::storage::StorageError;
use crate::storage::aws::kinesis_video::{KinesisArchive, MediaBytes, Refused};
use bytes::{Bytes, BytesMut};
use futures_util::stream::TryStreamExt;
use lookback_packaging::{Chunk, Packager, TimedFrame, TrackInit, muxed};
use lookback_wire::matroska::{Event, Limits, Reader, Source};
use lookback_wire::{Payload, Timestamp, TrackKind, UploadHeader};
use std::sync::Arc;

/// Fragments of a stream that one reader asks for beside each other. Kinesis lets five connections
/// read a stream.
pub const AT_ONCE: usize = 3;
/// What a document of one fragment may be: the quota of a fragment, and what stands around it.
const MAX_DOCUMENT_BYTES: usize = 52 << 20;
/// Events of one fragment, nearly all of them frames: 20 s of 240 pictures and 1,000 packets of audio a
/// second are below it. A frame may have a single byte, and takes a hundred times that to hold.
const MAX_EVENTS: usize = 32_768;
/// By the names that GetMedia and GetMediaForFragmentList have for the same time.
const START_TAGS: [&str; 2] =
    ["AWS_KINESISVIDEO_PRODUCER_TIMESTAMP", "AWS_KINESISVIDEO_PRODUCER_SIDE_TIMESTAMP"];
const NS_PER_MS: i64 = 1_000_000;

/// A fragment's tracks, and what they show.
pub struct Packaged {
    pub start: Timestamp,
    /// Video first.
    pub tracks: Vec<TrackInit>,
    /// Each with its track's place in `tracks`.
    pub chunks: Vec<(usize, Chunk)>,
}

/// Why a fragment is not handed out.
#[derive(Clone, Debug)]
pub enum Unread {
    Refused(Refused),
    /// It is there, and of a form or codec that cannot be packaged: which fragment, and why.
    Unplayable(String),
}

impl From<Refused> for Unread {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<StorageError> for Unread {
    fn from(error: StorageError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Unread> for MediaError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Refused(refused) => refused.into(),
            Unread::Unplayable(message) => Self::Storage(message),
        }
    }
}

impl From<Unread> for SessionError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Refused(refused) => refused.into(),
            Unread::Unplayable(message) => {
                let code = UnavailableCode::CodecNotSupported;
                Unavailable { code, message, nearest: None }.into()
            }
        }
    }
}

impl Packaged {
    /// Its part of a file or playlist whose header has room for its tracks.
    pub fn fragment(
        self,
        file: &muxed::Tracks,
        earlier_ns: i64,
        sequence: u32,
    ) -> Result<Payload, MediaError> {
        let Self { start, tracks, chunks } = self;
        file.fragment(&tracks, chunks, earlier_ns, sequence).ok_or_else(|| {
            MediaError::Storage(format!("the chunks of the fragment at {start} cannot be read"))
        })
    }

    /// Without the tracks that players do not take in segments.
    pub fn playable(mut self) -> Self {
        let kept: Vec<usize> =
            (0..).zip(&self.tracks).filter(|(_, init)| init.playable).map(|(at, _)| at).collect();
        self.chunks = std::mem::take(&mut self.chunks)
            .into_iter()
            .filter_map(|(place, chunk)| Some((kept.iter().position(|at| *at == place)?, chunk)))
            .collect();
        self.tracks.retain(|init| init.playable);
        self
    }
}

/// Whether a decoder that was set up for the one takes the other.
pub fn are_same(a: &[TrackInit], b: &[TrackInit]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.segment == b.segment)
}

/// What was stored was judged when it was uploaded.
fn reader() -> Reader {
    Reader::new(Limits { source: Source::Recording, ..Limits::default() })
}

/// The document of one fragment; none where it is not kept any more.
async fn open(
    archive: &KinesisArchive,
    stream: &Stream,
    id: &str,
) -> Result<Option<MediaBytes>, Refused> {
    match archive.read(stream, &[id.to_owned()]).await {
        Err(Refused::NoMedia) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Reads a fragment; none where it is not kept any more, or has no media. All of it is held.
pub async fn read(
    archive: &KinesisArchive,
    stream: &Stream,
    id: &str,
) -> Result<Option<Packaged>, Unread> {
    let Some(mut bytes) = open(archive, stream, id).await? else { return Ok(None) };
    let mut document = BytesMut::new();
    while let Some(part) = bytes.try_next().await? {
        if document.len().saturating_add(part.len()) > MAX_DOCUMENT_BYTES {
            return Err(unplayable(stream, id, "it is too long"));
        }
        document.extend_from_slice(&part);
    }
    let document = document.freeze();
    let packaged = tokio::task::spawn_blocking(move || package(document))
        .await
        .map_err(|_| StorageError::Unavailable("packaging broke off".into()))?;
    packaged.map_err(|cause| unplayable(stream, id, &cause))
}

/// A fragment's tracks, video first; none where it is not kept any more, or has none. No more of it is
/// read than what tells of them.
pub async fn tracks(
    archive: &KinesisArchive,
    stream: &Stream,
    id: &str,
) -> Result<Option<Vec<TrackInit>>, Unread> {
    let Some(mut bytes) = open(archive, stream, id).await? else { return Ok(None) };
    let failed = |cause: &dyn std::fmt::Display| unplayable(stream, id, &cause.to_string());
    let mut reader = reader();
    let mut read = 0usize;
    while let Some(part) = bytes.try_next().await? {
        read = read.saturating_add(part.len());
        if read > MAX_DOCUMENT_BYTES {
            return Err(failed(&"it is too long"));
        }
        reader.push(part);
        while let Some(event) = reader.next().map_err(|error| failed(&error))? {
            let Event::Header(header) = event else { continue };
            let mut tracks = header
                .tracks
                .iter()
                .map(TrackInit::new)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| failed(&error))?;
            tracks.sort_by_key(|init| init.kind != TrackKind::Video);
            return Ok(Some(tracks).filter(|tracks| !tracks.is_empty()));
        }
    }
    Ok(None)
}

fn unplayable(stream: &Stream, id: &str, cause: &str) -> Unread {
    Unread::Unplayable(format!("fragment {id} of {} cannot be played: {cause}", stream.id))
}

/// None where the document has no media.
fn package(document: Bytes) -> Result<Option<Packaged>, String> {
    let mut reader = reader();
    reader.push(document);
    let mut events = Vec::new();
    while let Some(event) = reader.next().map_err(|error| error.to_string())? {
        if events.len() >= MAX_EVENTS {
            return Err(format!("it has more than {MAX_EVENTS} frames"));
        }
        events.push(event);
    }
    events.extend(reader.finish().map_err(|error| error.to_string())?);
    let header = events.iter().find_map(|event| match event {
        Event::Header(header) => Some(header.clone()),
        _ => None,
    });
    let start = events.iter().find_map(|event| match event {
        Event::Tag(tag) if START_TAGS.contains(&tag.name.as_str()) => milliseconds(&tag.value),
        _ => None,
    });
    let header = header.filter(|header| !header.tracks.is_empty());
    let Some((header, start)) = header.zip(start) else { return Ok(None) };
    pack(&header, start, events).map(Some)
}

fn pack(
    header: &Arc<UploadHeader>,
    start: Timestamp,
    events: Vec<Event>,
) -> Result<Packaged, String> {
    let mut packager = Packager::new(header).map_err(|error| error.to_string())?;
    let scale_ns = i64::try_from(header.timecode_scale_ns).unwrap_or(NS_PER_MS);
    let mut origin = None;
    let mut chunks = Vec::new();
    for event in events {
        match event {
            // Timecodes count from wherever the producer's do; the tag says what that is.
            Event::FragmentStart { timecode } => {
                origin = origin.or(i64::try_from(timecode).ok());
            }
            Event::Frame(frame) => {
                let (Some(origin), Some(track)) =
                    (origin, header.tracks.iter().position(|track| track.number == frame.track))
                else {
                    continue;
                };
                let since_ns = frame.timecode.saturating_sub(origin).saturating_mul(scale_ns);
                let start_ns = start.as_millis().saturating_mul(NS_PER_MS);
                chunks.extend(packager.push(TimedFrame {
                    track,
                    time_ns: start_ns.saturating_add(since_ns),
                    duration_ns:
                        frame.duration.map(|units| units.saturating_mul(header.timecode_scale_ns)),
                    key: frame.key,
                    payload: frame.payload,
                }));
            }
            Event::Header(_) | Event::Tag(_) | Event::FragmentEnd { .. } => {}
        }
    }
    chunks.extend(packager.finish(None));
    let mut order: Vec<usize> = (0..packager.inits().len()).collect();
    let kind = |at: &usize| packager.inits().get(*at).map(|init| init.kind);
    order.sort_by_key(|at| kind(at) != Some(TrackKind::Video));
    let tracks = order.iter().filter_map(|at| packager.inits().get(*at).cloned()).collect();
    let place = |track: usize| order.iter().position(|at| *at == track);
    let chunks =
        chunks.into_iter().filter_map(|chunk| Some((place(chunk.track)?, chunk))).collect();
    Ok(Packaged { start, tracks, chunks })
}

/// Decimal seconds.
fn milliseconds(text: &str) -> Option<Timestamp> {
    let seconds: f64 = text.parse().ok()?;
    let ms = seconds * 1_000.0;
    (ms.abs() < i64::MAX as f64).then(|| Timestamp::from_millis(ms.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::matroska::writer;
    use lookback_wire::{SimpleTag, Track};

    const AAC: Track = Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Audio,
        name: None,
        codec_id: String::new(),
        codec_private: Bytes::from_static(&[0x11, 0x90]),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 48_000.0,
        channels: 2,
        bit_depth: 0,
    };

    /// A fragment of so many packets of a byte, with its start in `seconds`.
    fn document(packets: usize, seconds: &str) -> Bytes {
        let header = UploadHeader {
            segment_uid: Some([5; 16]),
            timecode_scale_ns: 1_000_000,
            tracks: vec![Track { codec_id: "A_AAC".into(), ..AAC }],
        };
        let start = SimpleTag { name: START_TAGS[1].into(), value: seconds.into() };
        let payload = Payload::from(vec![1]);
        let packet = [&writer::simple_block(1, 0, true, &payload)[..], &[1]].concat();
        let mut out = writer::header(&header).to_vec();
        out.extend(writer::tags(&[start]));
        out.extend(writer::cluster(7));
        out.extend(packet.repeat(packets));
        out.into()
    }

    #[test]
    fn fragments_are_read_or_refused() {
        let start = Timestamp::from_millis(1_795_329_502_534);
        for (packets, seconds, expected) in [
            (2, "1795329502.534", Ok(Some(start))),
            (2, "", Ok(None)),
            (2, "NaN", Ok(None)),
            (2, "inf", Ok(None)),
            (2, "1e300", Ok(None)),
            (MAX_EVENTS - 10, "1795329502.534", Ok(Some(start))),
            (MAX_EVENTS + 1, "1795329502.534", Err(())),
        ] {
            let packaged = package(document(packets, seconds));
            let found = packaged.map(|found| found.map(|found| found.start)).map_err(|_| ());
            assert_eq!(found, expected, "{packets} {seconds:?}");
        }
        // What says when it begins comes from elsewhere, and may say anything.
        for seconds in ["-9e15", "9e15", "0", "-1"] {
            assert!(package(document(2, seconds)).is_ok(), "{seconds}");
        }
    }
}
