//! MP4 files of long spans: laid out from what the archive's index says of the fragments, so that
//! only those are read at which the span is cut. Chunks take their place in the file as they are sent.

use super::{FileTrack, READ_BYTES, chunk_heads, damaged, shifts};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{FragmentRecord, Location, StorageError, TrackSpan};
use bytes::Bytes;
use lookback_packaging::fragmented::{Chunks, File, Layout, Placed, shown};
use lookback_packaging::mp4::ChunkHead;
use lookback_packaging::progressive::Place;
use std::ops::Range;

/// What is shown of a fragment.
#[derive(Debug, Default)]
struct Shown {
    /// Of the first of its tracks, nanoseconds since the Unix epoch.
    start_ns: Option<u64>,
    /// Of any of its tracks, likewise.
    end_ns: Option<u64>,
    /// Bytes of each of the tracks' chunks up to the last that is shown.
    lens: Vec<u32>,
}

/// Lays a file out of the fragments that `range` cuts and all between them.
pub(super) async fn read_layout(
    archive: &EmbeddedArchive,
    stream: StreamId,
    fragments: &[FragmentRecord],
    tracks: &[FileTrack],
    range: TimeRange,
) -> Result<Option<File>, StorageError> {
    let mut first = 0;
    let start_ns = loop {
        let Some(fragment) = fragments.get(first) else { return Ok(None) };
        match read_shown(archive, stream, fragment, tracks, range).await?.start_ns {
            Some(start_ns) => break start_ns,
            None => first += 1,
        }
    };
    let mut end = fragments.len();
    let (end_ns, last_lens) = loop {
        let Some((last, _)) = fragments.get(first..end).and_then(<[_]>::split_last) else {
            return Ok(None);
        };
        let shown = read_shown(archive, stream, last, tracks, range).await?;
        match shown.end_ns {
            Some(end_ns) => break (end_ns, shown.lens),
            None => end -= 1,
        }
    };

    let kept = fragments.get(first..end).unwrap_or_default();
    let shifts = shifts(kept);
    let last_shift_ns = shifts.last().copied().unwrap_or_default();
    let span = range.start.as_millis()..range.end.as_millis();
    let mut layout = Layout::new(tracks.iter().map(|track| track.init.as_ref()), &span);
    for (index, (fragment, shift_ns)) in (first..).zip(kept.iter().zip(shifts)) {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        for (track, file_track) in tracks.iter().enumerate() {
            let Some(span) = file_track.span_in(fragment) else { continue };
            let cut = last_lens.get(track).filter(|_| index + 1 == end);
            let chunks = Chunks {
                offset: span.offset,
                len: cut.copied().unwrap_or(span.len),
                decode_time: span.decode_time,
                duration: span.duration,
                key: span.key,
            };
            if chunks.len > 0 {
                layout.push(Place { track, fragment: number, shift_ns }, chunks);
            }
        }
    }
    let end_ns = end_ns.saturating_add_signed(last_shift_ns.saturating_neg());
    Ok(layout.finish(start_ns..end_ns))
}

/// Reads the heads of a fragment's chunks.
async fn read_shown(
    archive: &EmbeddedArchive,
    stream: StreamId,
    fragment: &FragmentRecord,
    tracks: &[FileTrack],
    range: TimeRange,
) -> Result<Shown, StorageError> {
    let wanted = range.start.as_millis()..range.end.as_millis();
    let mut all = Shown::default();
    let mut is_first = true;
    for track in tracks {
        let Some(span) = track.span_in(fragment) else {
            all.lens.push(0);
            continue;
        };
        let mut len = 0;
        let chunks = span.offset..span.offset.saturating_add(span.len);
        for (offset, head) in chunk_heads(archive, stream, fragment.location, chunks).await? {
            let Some(shown) = shown(&track.init, &head.samples, &wanted) else { continue };
            len = offset.saturating_add(head.chunk_len).saturating_sub(span.offset);
            all.end_ns = all.end_ns.max(Some(shown.end));
            if is_first {
                let start_ns = all.start_ns.get_or_insert(shown.start);
                *start_ns = shown.start.min(*start_ns);
            }
        }
        all.lens.push(len);
        is_first = false;
    }
    Ok(all)
}

impl FileTrack {
    fn span_in<'a>(&self, fragment: &'a FragmentRecord) -> Option<&'a TrackSpan> {
        fragment.tracks.iter().find(|span| self.ids.contains(&span.init))
    }
}

/// Chunks that were read last, as they are in a file.
#[derive(Clone, Debug)]
pub(super) struct Head {
    start: u64,
    bytes: Bytes,
    /// Where the samples of each chunk are in the body, and their bytes.
    samples: Vec<(u32, u32)>,
}

/// The first bytes of `range` of a file, which begins in `placed`. `known` is what was read before.
pub(super) async fn read_chunks(
    archive: &EmbeddedArchive,
    stream: StreamId,
    location: Location,
    placed: &Placed,
    range: Range<u64>,
    known: &mut Option<Head>,
) -> Result<Bytes, StorageError> {
    let damaged = || damaged(stream, location, placed.offset);
    let head = match known.take().filter(|head| head.start == placed.start) {
        Some(head) => head,
        None => {
            let span = placed.offset..placed.offset.saturating_add(placed.len);
            let (offsets, heads): (Vec<u32>, Vec<ChunkHead>) =
                chunk_heads(archive, stream, location, span).await?.into_iter().unzip();
            let samples = offsets.iter().zip(&heads).map(|(offset, head)| {
                (offset.saturating_add(head.len), head.chunk_len.saturating_sub(head.len))
            });
            let bytes = placed.head(&heads).ok_or_else(damaged)?;
            Head { start: placed.start, bytes, samples: samples.collect() }
        }
    };
    let Head { bytes, samples, .. } = known.insert(head);
    let in_span = |at: u64| u32::try_from(at.saturating_sub(placed.start)).unwrap_or(u32::MAX);
    let mut at = in_span(range.start);
    let len = in_span(range.end.min(placed.end())).saturating_sub(at).min(READ_BYTES);
    let head_len = bytes.len() as u32;
    if at < head_len {
        return Ok(bytes.slice(at as usize..at.saturating_add(len).min(head_len) as usize));
    }
    at -= head_len;
    for (offset, samples_len) in samples {
        if at < *samples_len {
            let len = len.min(*samples_len - at);
            return archive.read(stream, location, offset.saturating_add(at), len).await;
        }
        at -= *samples_len;
    }
    Err(damaged())
}
