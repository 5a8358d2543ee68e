//! Fragments as Matroska, as GetMedia and GetMediaForFragmentList answer them (KVS API, "Payload"):
//! each a document of its own, which begins with an EBML header, holds one Cluster with the frames
//! as they were uploaded, and says in tags which fragment it is.

use super::Playback;
use crate::id::StreamId;
use crate::ingest::metadata::Metadata;
use crate::storage::{FragmentRecord, StorageError};
use bytes::Bytes;
use lookback_packaging::frames::{StoredTrack, read_frames};
use lookback_wire::matroska::writer;
use lookback_wire::{FragmentNumber, Payload, SimpleTag, Timestamp, UploadHeader};

/// What Cluster and Block times count in.
const TIMECODE_SCALE_NS: u64 = 1_000_000;

/// "Requested fragment is not found", by the numbers that GetMedia documents.
const FRAGMENT_NOT_FOUND: u32 = 4000;
const INTERNAL_ERROR: u32 = 5000;

/// What a document says besides what its fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// GetMedia: how far behind the stream's newest fragment this one is, and after which one a
    /// later call goes on.
    InTurn { behind_ms: i64, continue_after: FragmentNumber },
    /// GetMediaForFragmentList. Its documentation has other names for the times than GetMedia's;
    /// Amazon's parser library reads GetMedia's. Both are there.
    ByNumber,
}

impl Playback {
    /// A fragment as a document; `None` where it is not kept any more. Holds all of its media.
    pub async fn matroska(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        asked: Asked,
    ) -> Result<Option<Payload>, StorageError> {
        match self.write_matroska(stream, fragment, asked).await {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                let numbers = [fragment.number];
                let found = self.storage.local()?.fragments_by_number(stream, &numbers).await?;
                if found.iter().all(Option::is_none) { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn write_matroska(
        &self,
        stream: StreamId,
        fragment: &FragmentRecord,
        asked: Asked,
    ) -> Result<Payload, StorageError> {
        let archive = self.storage.local()?;
        let damaged = |what: &str| {
            StorageError::Damaged(format!("fragment {} of {stream}: {what}", fragment.number))
        };
        let mut tracks = Vec::with_capacity(fragment.tracks.len());
        let mut stored = Vec::with_capacity(fragment.tracks.len());
        for span in &fragment.tracks {
            let init = self.track_init(stream, span.init).await?;
            let init = init.ok_or_else(|| damaged("its initialization segment is missing"))?;
            let chunks = archive.read(stream, fragment.location, span.offset, span.len).await?;
            let (number, timescale) = (init.track.number, init.timescale);
            stored.push(StoredTrack { number, timescale, chunks });
            tracks.push(init.track.clone());
        }
        let metadata = Metadata::decode(&archive.metadata(stream, fragment.location).await?);
        let segment_uid = metadata.producer.map(|session| session.segment_uid);
        let header = UploadHeader { segment_uid, timecode_scale_ns: TIMECODE_SCALE_NS, tracks };
        let frames = read_frames(&stored).ok_or_else(|| damaged("its chunks cannot be read"))?;

        let start_ms = fragment.start.as_millis();
        let mut document = Payload::new();
        document.push(writer::header(&header));
        document.push(writer::tags(&names(fragment, asked)));
        document.push(writer::cluster(start_ms.max(0).unsigned_abs()));
        for frame in frames {
            // Within 30 s, as every fragment's are.
            let relative_ms = frame.timecode.saturating_sub(start_ms);
            let relative_ms = relative_ms.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            document.push(writer::simple_block(
                frame.track,
                relative_ms,
                frame.key,
                &frame.payload,
            ));
            frame.payload.into_parts().into_iter().for_each(|part| document.push(part));
        }
        for tag in metadata.tags {
            document.push(writer::tags(&[tag]));
        }
        if let Asked::InTurn { behind_ms, continue_after } = asked {
            document.push(writer::tags(&[
                tag("MILLIS_BEHIND_NOW", behind_ms),
                tag("CONTINUATION_TOKEN", continue_after),
            ]));
        }
        Ok(document)
    }
}

/// What stands before the Cluster: which fragment it is.
fn names(fragment: &FragmentRecord, asked: Asked) -> Vec<SimpleTag> {
    let (arrived, start) = (seconds(fragment.arrived_at), seconds(fragment.start));
    let mut tags = vec![
        tag("FRAGMENT_NUMBER", fragment.number),
        tag("SERVER_TIMESTAMP", &arrived),
        tag("PRODUCER_TIMESTAMP", &start),
    ];
    if asked == Asked::ByNumber {
        tags.push(tag("SERVER_SIDE_TIMESTAMP", arrived));
        tags.push(tag("PRODUCER_SIDE_TIMESTAMP", start));
    }
    tags
}

/// In place of a fragment of GetMediaForFragmentList that is not there, or cannot be read.
pub fn exception(number: &str, is_kept: bool) -> Bytes {
    let (code, message) = if is_kept {
        (INTERNAL_ERROR, "The fragment could not be read.")
    } else {
        (FRAGMENT_NOT_FOUND, "The requested fragment is not found.")
    };
    of_tags(&[
        tag("FRAGMENT_NUMBER", number),
        tag("EXCEPTION_ERROR_CODE", code),
        tag("EXCEPTION_MESSAGE", message),
    ])
}

/// In place of a fragment of GetMedia that cannot be read, and what it ends with where it cannot go
/// on.
pub fn failure() -> Bytes {
    of_tags(&[tag("ERROR_CODE", "INTERNAL_ERROR"), tag("ERROR_ID", INTERNAL_ERROR)])
}

/// A document that has no media.
fn of_tags(tags: &[SimpleTag]) -> Bytes {
    let header = UploadHeader {
        segment_uid: None,
        timecode_scale_ns: TIMECODE_SCALE_NS,
        tracks: Vec::new(),
    };
    [writer::header(&header), writer::tags(tags)].concat().into()
}

fn tag(name: &str, value: impl ToString) -> SimpleTag {
    SimpleTag { name: format!("AWS_KINESISVIDEO_{name}"), value: value.to_string() }
}

/// Decimal seconds since the Unix epoch, with three digits behind the point.
fn seconds(at: Timestamp) -> String {
    let ms = at.as_millis();
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}
