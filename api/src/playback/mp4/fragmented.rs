//! MP4 files of long spans: laid out from what the archive's index says of the fragments, so that
//! only those are read at which the span is cut. Chunks take their place in the file as they are sent.

use super::{FileTrack, READ_BYTES, chunk_head, chunk_heads, damaged, shifts};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::{Archive, FragmentRecord, Location, StorageError, TrackSpan};
use bytes::Bytes;
use lookback_packaging::fragmented::{Chunks, File, Layout, Placed, shown};
use lookback_packaging::mp4::MAX_HEAD_LEN;
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
    archive: &dyn Archive,
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
    let mut layout = Layout::new(tracks.iter().map(|track| track.init.as_ref()));
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
    archive: &dyn Archive,
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
        for (offset, head) in chunk_heads(archive, stream, fragment, *span).await? {
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

/// The first bytes of `range` of a file, which begins in `placed`. `chunk` is where a chunk begins
/// in the file, as far as that is known from the bytes before; it becomes that of a later one.
pub(super) async fn read_chunks(
    archive: &dyn Archive,
    stream: StreamId,
    location: Location,
    placed: &Placed,
    range: Range<u64>,
    chunk: &mut u64,
) -> Result<Bytes, StorageError> {
    let in_body = |at: u64| {
        let offset = at.saturating_sub(placed.start);
        placed.offset.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX))
    };
    let (body_end, damaged) = (in_body(placed.end()), || damaged(stream, location, placed.offset));

    // The bytes are read from where a head or none is cut: from its chunk's beginning or later.
    let mut next = if (placed.start..=range.start).contains(chunk) { *chunk } else { placed.start };
    let mut from = range.start;
    while next < range.start {
        let head = chunk_head(archive, stream, location, in_body(next), body_end).await?;
        if range.start < next.saturating_add(u64::from(head.len)) {
            from = next;
            break;
        }
        next = next.saturating_add(u64::from(head.chunk_len));
    }

    let end = range.end.min(placed.end());
    let wanted = u32::try_from(end.saturating_sub(from)).unwrap_or(u32::MAX).min(READ_BYTES);
    let len = wanted.saturating_add(MAX_HEAD_LEN).min(body_end.saturating_sub(in_body(from)));
    let mut bytes = Vec::from(archive.read(stream, location, in_body(from), len).await?);
    let (right, after) = placed.rewrite(&mut bytes, from, next).ok_or_else(damaged)?;
    *chunk = after;
    let cut = |at: u64| usize::try_from(at.saturating_sub(from)).unwrap_or(right).min(right);
    let bytes = Bytes::from(bytes).slice(cut(range.start)..cut(end));
    if bytes.is_empty() { Err(damaged()) } else { Ok(bytes) }
}
