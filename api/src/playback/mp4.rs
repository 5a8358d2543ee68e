//! MP4 files of a stream's footage: which fragments go in, and the bytes of any part of the file, as
//! they are asked for. `lookback-packaging` lays the file out; nothing holds it.
//!
//! Up to an hour its movie box tells of every sample, as editors like it; longer ones are fragmented.

mod fragmented;

use super::listing::{Listed, arrange};
use super::token::{MediaToken, Span};
use super::{MediaError, Playback};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{
    FragmentQuery, FragmentRecord, InitId, Location, RUN_TOLERANCE_MS, RangeBy, StorageError,
    TimeOrder, TrackSpan,
};
use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use lookback_packaging::mp4::ChunkHead;
use lookback_packaging::progressive::{self, Layout, Place};
use lookback_packaging::{TrackInit, fragmented as fragmented_file};
use lookback_wire::{Timestamp, TrackKind};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Beyond this a file is fragmented: sample tables are held while it is sent, some 2 MB an hour.
const LONGEST_PROGRESSIVE_MS: i64 = 3_600 * 1_000;
/// A day of fragments of 1 s, and re-sent ones.
const MAX_FRAGMENTS: usize = 100_000;
/// Read at a time, and so what one download holds of the media.
const READ_BYTES: u32 = 1 << 20;
/// Read of a chunk to find its head: that of a second at 60 frames fits.
const HEAD_BYTES: u32 = 1_536;
/// A track's chunks are read at once up to this for their heads: sound takes a quarter of the reads
/// so.
const SMALL_TRACK_BYTES: u32 = 32 << 10;
/// Fragments whose heads are read beside each other where the disk must be waited for.
const HEAD_READS: usize = 16;
/// Layouts remembered, in bytes: a player asks for a file in many parts.
const MAX_LAYOUT_BYTES: usize = 16 << 20;
/// What a clip holds at most, as of GetClip.
pub const MAX_CLIP_FRAGMENTS: usize = 200;
pub const MAX_CLIP_BYTES: u64 = 100_000_000;
/// Changes with the way in which files are laid out, so that no cache mixes two.
const LAYOUT_VERSION: u8 = 2;

/// A file to be sent, in whole or in part.
#[derive(Clone, Debug)]
pub struct Mp4 {
    archive: Arc<EmbeddedArchive>,
    stream: StreamId,
    /// Of the fragments' bodies, as the layout counts them.
    locations: Arc<[Location]>,
    laid_out: Arc<LaidOut>,
}

#[derive(Debug)]
struct LaidOut {
    digest: [u8; 16],
    file: File,
}

/// Where a file tells of its samples.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// In its movie box, all of them.
    Progressive,
    /// Before each chunk of them.
    Fragmented,
}

#[derive(Debug)]
enum File {
    Progressive(progressive::File),
    Fragmented(fragmented_file::File),
}

impl File {
    fn len(&self) -> u64 {
        match self {
            Self::Progressive(file) => file.len(),
            Self::Fragmented(file) => file.len(),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Progressive(file) => file.weight(),
            Self::Fragmented(file) => file.weight(),
        }
    }
}

/// A track of a file.
#[derive(Clone, Debug)]
pub struct FileTrack {
    pub init: Arc<TrackInit>,
    /// What its fragments call it.
    ids: Vec<InitId>,
}

/// Why there is no file.
#[derive(Clone, Debug)]
pub enum Mp4Error {
    /// Nothing of the footage is shown, or nothing of it can be in the file.
    Empty,
    /// Codec or resolution change.
    MixedCodecs,
    Storage(StorageError),
}

impl From<StorageError> for Mp4Error {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Mp4Error> for MediaError {
    fn from(error: Mp4Error) -> Self {
        match error {
            // Sessions are not given out for these, so that the footage has changed since.
            Mp4Error::Empty | Mp4Error::MixedCodecs => Self::NotFound,
            Mp4Error::Storage(error) => error.into(),
        }
    }
}

impl Mp4 {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.laid_out.file.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names the exact bytes: other footage, another value.
    pub fn digest(&self) -> String {
        self.laid_out.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of `range`, read as they are asked for.
    pub fn read(
        &self,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, StorageError>> + use<> {
        let state = (self.clone(), range, None);
        stream::try_unfold(state, |(mp4, range, mut known)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let bytes = mp4.next(range.clone(), &mut known).await?;
            let rest = range.start.saturating_add(bytes.len() as u64)..range.end;
            Ok((!bytes.is_empty()).then_some((bytes, (mp4, rest, known))))
        })
    }

    /// The first bytes of `range`. `known` is as of [`fragmented::read_chunks`].
    async fn next(
        &self,
        range: Range<u64>,
        known: &mut Option<fragmented::Head>,
    ) -> Result<Bytes, StorageError> {
        let (archive, stream) = (self.archive.as_ref(), self.stream);
        match &self.laid_out.file {
            File::Progressive(file) => match file.pieces(range).next() {
                None => Ok(Bytes::new()),
                Some(progressive::Piece::Made(bytes)) => Ok(bytes),
                Some(progressive::Piece::Stored(stored)) => {
                    let location = self.location(stored.fragment)?;
                    let len = stored.len.min(READ_BYTES);
                    archive.read(stream, location, stored.offset, len).await
                }
            },
            File::Fragmented(file) => match file.piece_at(range.start) {
                None => Ok(Bytes::new()),
                Some(fragmented_file::Piece::Made(bytes)) => {
                    let len = usize::try_from(range.end.saturating_sub(range.start));
                    Ok(bytes.slice(..len.unwrap_or(bytes.len()).min(bytes.len())))
                }
                Some(fragmented_file::Piece::Stored(placed)) => {
                    let location = self.location(placed.fragment)?;
                    fragmented::read_chunks(archive, stream, location, &placed, range, known).await
                }
            },
        }
    }

    fn location(&self, fragment: u32) -> Result<Location, StorageError> {
        let known = self.locations.get(fragment as usize).copied();
        known.ok_or_else(|| StorageError::Damaged(format!("no fragment {fragment} in a file")))
    }
}

/// Layouts of files that were asked for lately, the newest last.
#[derive(Debug, Default)]
pub struct Layouts(Mutex<VecDeque<Arc<LaidOut>>>);

impl Layouts {
    fn get(&self, digest: [u8; 16]) -> Option<Arc<LaidOut>> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|layout| layout.digest == digest)?;
        let found = kept.remove(at)?;
        kept.push_back(found.clone());
        Some(found)
    }

    fn keep(&self, layout: Arc<LaidOut>) {
        let mut kept = self.0.lock();
        kept.retain(|other| other.digest != layout.digest);
        kept.push_back(layout);
        let mut weight: usize = kept.iter().map(|layout| layout.file.weight()).sum();
        while weight > MAX_LAYOUT_BYTES {
            let Some(oldest) = kept.pop_front() else { break };
            weight -= oldest.file.weight();
        }
    }
}

impl Playback {
    /// The session's span as one file, cut to the frame.
    pub async fn mp4(&self, token: &MediaToken) -> Result<Mp4, MediaError> {
        let Span::OnDemand { range, .. } = token.span else { return Err(MediaError::NotFound) };
        let listed = self.fragments_in(token.stream, range).await?;
        let form = match range.millis() {
            ..=LONGEST_PROGRESSIVE_MS => Form::Progressive,
            _ => Form::Fragmented,
        };
        Ok(self.lay_out(token.stream, listed, range, form).await?)
    }

    /// The first of these fragments as one file, as much as GetClip gives. They come in the order of
    /// their starts.
    pub async fn clip(
        &self,
        stream: StreamId,
        fragments: Vec<FragmentRecord>,
    ) -> Result<Mp4, Mp4Error> {
        let mut bytes = 0u64;
        let first: Vec<FragmentRecord> = fragments
            .into_iter()
            .take(MAX_CLIP_FRAGMENTS)
            .take_while(|fragment| {
                bytes = bytes.saturating_add(u64::from(fragment.location.len));
                bytes <= MAX_CLIP_BYTES
            })
            .collect();
        let ends = |f: &FragmentRecord| f.tracks.iter().map(end_ns).max().unwrap_or_default();
        let starts = |f: &FragmentRecord| f.tracks.iter().map(start_ns).min().unwrap_or_default();
        let ms = |ns: u64| i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
        let (start, end) = (first.iter().map(starts).min(), first.iter().map(ends).max());
        let (start, end) = start.zip(end).ok_or(Mp4Error::Empty)?;
        let range = TimeRange {
            start: Timestamp::from_millis(ms(start)),
            end: Timestamp::from_millis(ms(end).saturating_add(1)),
        };
        self.lay_out(stream, arrange(first), range, Form::Progressive).await
    }

    /// A stream's fragments in a range, as they are played one after the other.
    pub(super) async fn fragments_in(
        &self,
        stream: StreamId,
        range: TimeRange,
    ) -> Result<Vec<Listed>, StorageError> {
        let query = FragmentQuery {
            by: RangeBy::Timeline,
            range,
            order: TimeOrder::OldestFirst,
            limit: MAX_FRAGMENTS,
        };
        Ok(arrange(self.storage.local()?.fragments(stream, &query).await?))
    }

    /// The tracks that one file of this footage has, video first, and how many of the fragments it
    /// can hold before a codec or resolution changes.
    pub(super) async fn file_tracks(
        &self,
        stream: StreamId,
        listed: &[Listed],
    ) -> Result<(Vec<FileTrack>, usize), StorageError> {
        let mut tracks: Vec<FileTrack> = Vec::with_capacity(2);
        let mut known = Vec::new();
        for (index, Listed { fragment, .. }) in listed.iter().enumerate() {
            for span in &fragment.tracks {
                if known.contains(&span.init) {
                    continue;
                }
                known.push(span.init);
                // Sound as it was uploaded, also G.711: what FLAC takes is only known once it is made.
                let Some(init) = self.track_init(stream, span.init).await? else { continue };
                match tracks.iter_mut().find(|track| track.init.kind == init.kind) {
                    None => tracks.push(FileTrack { init, ids: vec![span.init] }),
                    // Of another upload, and the same to a decoder.
                    Some(track) if track.init.segment == init.segment => track.ids.push(span.init),
                    Some(_) => return Ok((tracks, index)),
                }
            }
        }
        tracks.sort_by_key(|track| track.init.kind != TrackKind::Video);
        Ok((tracks, listed.len()))
    }

    async fn lay_out(
        &self,
        stream: StreamId,
        listed: Vec<Listed>,
        range: TimeRange,
        form: Form,
    ) -> Result<Mp4, Mp4Error> {
        let (tracks, same) = self.file_tracks(stream, &listed).await?;
        if same < listed.len() {
            return Err(Mp4Error::MixedCodecs);
        }
        let digest = digest(stream, range, &listed);
        let fragments: Vec<FragmentRecord> =
            listed.into_iter().map(|listed| listed.fragment).collect();
        let archive = self.storage.local()?.clone();
        let laid_out = match self.layouts.get(digest) {
            Some(known) => known,
            None => {
                let (archive, kept) = (archive.as_ref(), &fragments);
                let file = match form {
                    Form::Progressive => read_layout(archive, stream, kept, &tracks, range)
                        .await?
                        .map(File::Progressive),
                    Form::Fragmented => {
                        fragmented::read_layout(archive, stream, kept, &tracks, range)
                            .await?
                            .map(File::Fragmented)
                    }
                };
                let made = Arc::new(LaidOut { digest, file: file.ok_or(Mp4Error::Empty)? });
                self.layouts.keep(made.clone());
                made
            }
        };
        let locations = fragments.iter().map(|fragment| fragment.location).collect();
        Ok(Mp4 { archive, stream, locations, laid_out })
    }
}

/// Lays a file out from the heads of the fragments' chunks.
async fn read_layout(
    archive: &EmbeddedArchive,
    stream: StreamId,
    fragments: &[FragmentRecord],
    tracks: &[FileTrack],
    range: TimeRange,
) -> Result<Option<progressive::File>, StorageError> {
    let span = range.start.as_millis()..range.end.as_millis();
    let mut layout = Layout::new(tracks.iter().map(|track| track.init.as_ref()), span);
    let shifts = shifts(fragments);
    let wanted =
        fragments.iter().zip(shifts).zip(0u32..).flat_map(|((fragment, shift_ns), index)| {
            tracks.iter().enumerate().filter_map(move |(track, FileTrack { ids, .. })| {
                let span = fragment.tracks.iter().find(|span| ids.contains(&span.init))?;
                Some((Place { track, fragment: index, shift_ns }, fragment, *span))
            })
        });
    let mut heads = stream::iter(wanted)
        .map(|(place, fragment, span)| async move {
            let chunks = span.offset..span.offset.saturating_add(span.len);
            let heads = chunk_heads(archive, stream, fragment.location, chunks).await?;
            Ok::<_, StorageError>((place, heads))
        })
        .buffered(HEAD_READS);
    while let Some((place, heads)) = heads.try_next().await? {
        for (offset, head) in heads {
            layout.push(place, offset, &head);
        }
    }
    Ok(layout.finish())
}

/// The heads of a track's chunks, and where in the fragment's body each begins.
async fn chunk_heads(
    archive: &EmbeddedArchive,
    stream: StreamId,
    location: Location,
    chunks: Range<u32>,
) -> Result<Vec<(u32, ChunkHead)>, StorageError> {
    let mut heads = Vec::new();
    let Range { start, end } = chunks;
    let len = end.saturating_sub(start);
    let whole = match len {
        ..=SMALL_TRACK_BYTES => archive.read(stream, location, start, len).await?,
        _ => Bytes::new(),
    };
    let mut at = start;
    while at < end {
        let head = match whole.get((at - start) as usize..).filter(|chunk| !chunk.is_empty()) {
            Some(chunk) => ChunkHead::read(chunk).ok_or_else(|| damaged(stream, location, at))?,
            None => chunk_head(archive, stream, location, at, end).await?,
        };
        let next = at.checked_add(head.chunk_len).filter(|next| *next <= end);
        let next = next.ok_or_else(|| damaged(stream, location, at))?;
        heads.push((at, head));
        at = next;
    }
    Ok(heads)
}

/// The head of the chunk at `at` of a fragment's body; the track's chunks end at `end`.
async fn chunk_head(
    archive: &EmbeddedArchive,
    stream: StreamId,
    location: Location,
    at: u32,
    end: u32,
) -> Result<ChunkHead, StorageError> {
    let damaged = || damaged(stream, location, at);
    let rest = end.saturating_sub(at);
    let len = HEAD_BYTES.min(rest);
    let mut bytes = archive.read(stream, location, at, len).await?;
    let needed = ChunkHead::needed(&bytes).ok_or_else(damaged)?;
    if needed > len {
        bytes = archive.read(stream, location, at, needed.min(rest)).await?;
    }
    ChunkHead::read(&bytes).ok_or_else(damaged)
}

fn damaged(stream: StreamId, location: Location, at: u32) -> StorageError {
    let Location { file, offset, .. } = location;
    StorageError::Damaged(format!(
        "no chunk at {at} of the fragment at {offset} of file {file} of {stream}"
    ))
}

/// How much earlier than recorded each fragment is shown, the holes between them being closed.
fn shifts(fragments: &[FragmentRecord]) -> Vec<i64> {
    let mut shift_ns = 0i64;
    let mut before: Option<&FragmentRecord> = None;
    fragments
        .iter()
        .map(|fragment| {
            if let Some(before) = before.replace(fragment) {
                let hole_ms = fragment.start.millis_since(before.range().end);
                if hole_ms.abs() > RUN_TOLERANCE_MS {
                    let end = before.tracks.iter().map(end_ns).max().unwrap_or_default();
                    let start = fragment.tracks.iter().map(start_ns).min().unwrap_or_default();
                    let hole_ns = i128::from(start) - i128::from(end);
                    shift_ns = shift_ns.saturating_add(i64::try_from(hole_ns).unwrap_or_default());
                }
            }
            shift_ns
        })
        .collect()
}

fn start_ns(track: &TrackSpan) -> u64 {
    nanoseconds(track.decode_time, track.timescale)
}

fn end_ns(track: &TrackSpan) -> u64 {
    nanoseconds(track.decode_time.saturating_add(track.duration), track.timescale)
}

fn nanoseconds(ticks: u64, timescale: u32) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(timescale.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Names what a file is made of.
fn digest(stream: StreamId, range: TimeRange, listed: &[Listed]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[LAYOUT_VERSION]);
    context.update(&stream.0.to_be_bytes());
    context.update(&range.start.as_millis().to_be_bytes());
    context.update(&range.end.as_millis().to_be_bytes());
    for Listed { fragment, .. } in listed {
        context.update(&fragment.number.0.to_be_bytes());
        context.update(&fragment.start.as_millis().to_be_bytes());
    }
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{InitId, Location};
    use lookback_wire::FragmentNumber;

    /// A fragment of video, and of sound that is longer by so much at either end.
    fn fragment((at_ms, duration_ms, more_ms): (u64, u64, u64)) -> FragmentRecord {
        let track = |is_video, start_ms: u64, duration_ms: u64| TrackSpan {
            init: InitId(u64::from(is_video)),
            is_video,
            key: true,
            decode_time: start_ms,
            duration: duration_ms,
            timescale: 1_000,
            offset: 0,
            len: 0,
        };
        let start = Timestamp::from_millis(at_ms as i64);
        FragmentRecord {
            number: FragmentNumber(at_ms),
            start,
            duration_ms: duration_ms as u32,
            capture_start: start,
            arrived_at: start,
            tracks: [
                track(true, at_ms, duration_ms),
                track(false, at_ms - more_ms, duration_ms + 2 * more_ms),
            ]
            .into(),
            location: Location { file: 0, offset: 0, len: 0 },
        }
    }

    #[test]
    fn holes_are_closed_for_all_tracks_alike() {
        // Start, length, and how much longer the sound is; by how much each is shown earlier.
        type Cut = (u64, u64, u64);
        let table: [(&[Cut], &[i64]); 5] = [
            (&[], &[]),
            (&[(1_000, 500, 0), (1_500, 500, 0), (2_100, 500, 0)], &[0, 0, 0]),
            (&[(1_000, 500, 0), (2_500, 500, 0), (4_000, 500, 0)], &[0, 1_000, 2_000]),
            // Neither end of the sound is cut off.
            (&[(1_000, 500, 20), (2_500, 500, 20)], &[0, 960]),
            // Footage that was sent twice is shown twice.
            (&[(1_000, 500, 0), (1_300, 500, 0)], &[0, -200]),
        ];
        for (cuts, expected) in table {
            let fragments: Vec<_> = cuts.iter().copied().map(fragment).collect();
            let shifts: Vec<_> = shifts(&fragments).iter().map(|ns| ns / 1_000_000).collect();
            assert_eq!(shifts, expected, "{cuts:?}");
        }
    }
}
