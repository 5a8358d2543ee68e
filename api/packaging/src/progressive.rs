//! A finished span as one MP4 file whose movie box comes first (ISO/IEC 14496-12), laid out without
//! being held: its first bytes are made here, the rest are samples where they are stored.
//!
//! Holes between fragments are closed, all tracks by the same time, so that sound stays with its
//! picture. The span is cut to the frame by an edit list (§8.6.6): what a decoder needs before the
//! first picture is in the file, and not shown.

use crate::TrackInit;
use crate::movie::{Edit, MovieHeader};
use crate::mp4::{ChunkHead, Sample, put_box, put_full_box, put_u32, put_u64};
use bytes::Bytes;
use lookback_wire::TrackKind;
use std::ops::Range;

const NS_PER_S: u128 = 1_000_000_000;
/// Ticks a second of the movie: those of video, so that a picture's times are exact.
pub(crate) const MOVIE_TIMESCALE: u32 = crate::init::VIDEO_TIMESCALE;
/// Sound that begins longer before the first picture than this is played from its own beginning.
const LONGEST_LEAD_NS: u64 = 1_000_000_000;

/// Bytes of a stored fragment's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// As [`Layout::push`] was told.
    pub fragment: u32,
    pub offset: u32,
    pub len: u32,
}

/// Part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Made(Bytes),
    Stored(Stored),
}

/// A file that is not held: what it is made of, in order.
#[derive(Clone, Debug)]
pub struct File {
    head: Bytes,
    stored: Vec<Stored>,
    /// Where each of `stored` begins, in the file.
    starts: Vec<u64>,
    len: u64,
}

impl File {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the layout itself takes in memory.
    pub fn weight(&self) -> usize {
        let piece = size_of::<Stored>() + size_of::<u64>();
        self.head.len() + self.stored.len() * piece
    }

    /// What the bytes of `range` are made of, in order; what lies beyond the end is left out.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<'_> {
        let head_len = self.head.len() as u64;
        let cut = |value: u64| usize::try_from(value.min(head_len)).unwrap_or(self.head.len());
        let made = self.head.slice(cut(range.start)..cut(range.end.max(range.start)));
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let stored = self.stored.iter().zip(&self.starts).skip(first);
        let parts = stored.take_while(move |(_, start)| **start < range.end).filter_map(
            move |(stored, start)| {
                let end = start + u64::from(stored.len);
                let (from, to) = (range.start.max(*start), range.end.min(end));
                (from < to).then(|| Stored {
                    fragment: stored.fragment,
                    offset: stored.offset + (from - start) as u32,
                    len: (to - from) as u32,
                })
            },
        );
        let made = Some(made).filter(|made| !made.is_empty());
        made.into_iter().map(Piece::Made).chain(parts.map(Piece::Stored))
    }
}

/// Lays out a file, fragment by fragment.
#[derive(Debug)]
pub struct Layout<'a> {
    tracks: Vec<Table<'a>>,
    stored: Vec<Stored>,
    /// Bytes of `stored`.
    len: u64,
}

/// Where one track of a fragment goes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Index into the tracks that [`Layout::new`] was given.
    pub track: usize,
    /// For [`Stored::fragment`].
    pub fragment: u32,
    /// How much earlier than it was recorded it is shown, holes before it being closed; negative
    /// where footage was sent twice.
    pub shift_ns: i64,
}

impl<'a> Layout<'a> {
    /// A file of what of these tracks is shown in `span`, milliseconds since the Unix epoch.
    pub fn new(tracks: impl IntoIterator<Item = &'a TrackInit>, span: Range<i64>) -> Self {
        let tracks = tracks.into_iter().map(|init| Table::new(init, &span)).collect();
        Self { tracks, stored: Vec::new(), len: 0 }
    }

    /// Adds a chunk whose head lies at `offset` of a fragment's body. Chunks of a track come in the
    /// order of decoding.
    pub fn push(&mut self, place: Place, offset: u32, head: &ChunkHead) {
        let Some(table) = self.tracks.get_mut(place.track) else { return };
        let shift = signed_ticks(place.shift_ns, table.init.timescale);
        let mut at = offset.saturating_add(head.len);
        for sample in &head.samples {
            let stored = Stored { fragment: place.fragment, offset: at, len: sample.size };
            at = at.saturating_add(sample.size);
            let place = |time: u64| time.saturating_add_signed(shift.saturating_neg());
            let shown = Sample {
                decode_time: place(sample.decode_time),
                presentation_time: place(sample.presentation_time),
                ..*sample
            };
            let wanted = wanted(table.init.kind, &table.span, sample)
                .map(|wanted| place(wanted.start)..place(wanted.end));
            table.push(Queued { sample: shown, stored, wanted }, &mut self.stored, &mut self.len);
        }
    }

    /// The file; `None` where nothing is shown in the span.
    pub fn finish(self) -> Option<File> {
        let Self { tracks, stored, len } = self;
        let tracks: Vec<_> = tracks.into_iter().filter(|table| table.shown.is_some()).collect();
        let video = tracks.iter().find(|t| t.init.kind == TrackKind::Video);
        let start_of = |table: &Table| table.shown.as_ref().map(|s| table.ns(s.start));
        let earliest = tracks.iter().filter_map(start_of).min()?;
        let start_ns = video
            .and_then(start_of)
            .filter(|start| start.saturating_sub(earliest) <= LONGEST_LEAD_NS)
            .unwrap_or(earliest);
        let end_of = |table: &Table| table.shown.as_ref().map(|s| table.ns(s.end));
        let end_ns = tracks.iter().filter_map(end_of).max()?;

        // Where the samples begin depends on the movie's size, and that on whether 32 bits hold
        // where they begin; a size of nothing is replaced by the true one.
        let movie = |samples_at: u64, wide: bool| -> Vec<u8> {
            let mut out = Vec::new();
            put_box(&mut out, b"ftyp", |out| {
                out.extend_from_slice(b"isom");
                put_u32(out, 0x200);
                out.extend_from_slice(b"isomiso2mp41");
            });
            put_box(&mut out, b"moov", |out| {
                let duration = ticks(end_ns.saturating_sub(start_ns), MOVIE_TIMESCALE);
                let next_track_id = u32::try_from(tracks.len() + 1).unwrap_or(u32::MAX);
                MovieHeader { timescale: MOVIE_TIMESCALE, duration, next_track_id }.put(out);
                for (id, table) in (1..).zip(&tracks) {
                    table.put(out, id, start_ns..end_ns, samples_at, wide);
                }
            });
            put_mdat_header(&mut out, len);
            out
        };
        let narrow = movie(0, false);
        let wide = narrow.len() as u64 + len > u64::from(u32::MAX);
        let head_len = if wide { movie(0, true).len() } else { narrow.len() };
        let head = movie(head_len as u64, wide);
        let mut at = head_len as u64;
        let starts = stored
            .iter()
            .map(|stored| {
                let start = at;
                at += u64::from(stored.len);
                start
            })
            .collect();
        Some(File { head: head.into(), stored, starts, len: at })
    }
}

fn put_mdat_header(out: &mut Vec<u8>, len: u64) {
    match u32::try_from(len + 8) {
        Ok(size) => {
            put_u32(out, size);
            out.extend_from_slice(b"mdat");
        }
        Err(_) => {
            put_u32(out, 1);
            out.extend_from_slice(b"mdat");
            put_u64(out, len + 16);
        }
    }
}

/// A sample that is not known to be in the file yet.
#[derive(Clone, Debug)]
struct Queued {
    /// With times of the file.
    sample: Sample,
    stored: Stored,
    /// When it is shown, if it is.
    wanted: Option<Range<u64>>,
}

/// A track's sample tables (ISO/IEC 14496-12 §8.6.1, §8.7).
#[derive(Debug)]
struct Table<'a> {
    init: &'a TrackInit,
    /// The span, in ticks.
    span: Range<u64>,
    /// What decoding needs before the first sample that is shown, if it comes.
    lead: Vec<Queued>,
    /// What decoding needs before the next sample that is shown, if one comes.
    tail: Vec<Queued>,
    /// In ticks.
    shown: Option<Range<u64>>,
    /// Of the first sample.
    first_decode_time: u64,
    first_shown_time: u64,
    last: Option<Sample>,
    sizes: Vec<u8>,
    count: u32,
    durations: Runs,
    compositions: Runs,
    /// Numbers of sync samples, where not all are.
    keys: Vec<u32>,
    /// Where runs of samples begin among the stored bytes, and the number of the first sample.
    chunks: Vec<(u64, u32)>,
    /// Where the last one ends.
    chunk_end: Option<u64>,
}

impl<'a> Table<'a> {
    fn new(init: &'a TrackInit, span: &Range<i64>) -> Self {
        Self {
            init,
            span: span_in_ticks(init, span),
            lead: Vec::new(),
            tail: Vec::new(),
            shown: None,
            first_decode_time: 0,
            first_shown_time: u64::MAX,
            last: None,
            sizes: Vec::new(),
            count: 0,
            durations: Runs::default(),
            compositions: Runs::default(),
            keys: Vec::new(),
            chunks: Vec::new(),
            chunk_end: None,
        }
    }

    fn push(&mut self, queued: Queued, stored: &mut Vec<Stored>, len: &mut u64) {
        let waiting = if self.shown.is_none() { &mut self.lead } else { &mut self.tail };
        // Decoding begins at a key frame; sound has one packet of its own before, to fade in from.
        if self.shown.is_none() && queued.sample.key {
            let kept = match self.init.kind {
                TrackKind::Video => 0,
                TrackKind::Audio => 1,
            };
            let gone = waiting.len().saturating_sub(kept);
            waiting.drain(..gone);
        }
        let wanted = queued.wanted.clone();
        waiting.push(queued);
        if let Some(wanted) = wanted {
            let shown = self.shown.get_or_insert(wanted.clone());
            shown.start = shown.start.min(wanted.start);
            shown.end = shown.end.max(wanted.end);
            for queued in std::mem::take(waiting) {
                self.add(queued, stored, len);
            }
        }
    }

    fn add(&mut self, queued: Queued, stored: &mut Vec<Stored>, len: &mut u64) {
        let Queued { sample, stored: bytes, .. } = queued;
        let decode_time = match self.last {
            None => {
                self.first_decode_time = sample.decode_time;
                sample.decode_time
            }
            Some(last) => {
                // Where footage overlaps, decode times rise all the same.
                let decode_time = sample.decode_time.max(last.decode_time.saturating_add(1));
                self.durations.push(saturate(decode_time - last.decode_time));
                decode_time
            }
        };
        let composition = sample.presentation_time.saturating_sub(decode_time);
        self.first_shown_time = self.first_shown_time.min(decode_time + composition);
        self.compositions.push(saturate(composition));
        self.last = Some(Sample { decode_time, ..sample });
        put_u32(&mut self.sizes, sample.size);
        self.count = self.count.saturating_add(1);
        if sample.key {
            self.keys.push(self.count);
        }
        if self.chunk_end != Some(*len) {
            self.chunks.push((*len, self.count));
        }
        *len += u64::from(bytes.len);
        self.chunk_end = Some(*len);
        match stored.last_mut() {
            Some(last)
                if last.fragment == bytes.fragment
                    && last.offset.checked_add(last.len) == Some(bytes.offset) =>
            {
                last.len = last.len.saturating_add(bytes.len);
            }
            _ => stored.push(bytes),
        }
    }

    fn ns(&self, ticks: u64) -> u64 {
        nanoseconds(ticks, self.init.timescale)
    }

    /// `trak`. `movie` is what the whole file shows, nanoseconds on its own timeline.
    fn put(&self, out: &mut Vec<u8>, id: u32, movie: Range<u64>, samples_at: u64, wide: bool) {
        let Some((shown, last)) = self.shown.clone().zip(self.last) else { return };
        let timescale = self.init.timescale;
        let start = ticks(movie.start, timescale).max(self.first_shown_time);
        let end = ticks(movie.end, timescale).min(shown.end).max(start);
        let in_movie = |from: u64, to: u64| {
            let ns = self.ns(to).saturating_sub(self.ns(from));
            ticks(ns, MOVIE_TIMESCALE)
        };
        let wait = ticks(self.ns(start).saturating_sub(movie.start), MOVIE_TIMESCALE);
        let mut edits = Vec::new();
        if wait > 0 {
            edits.push(Edit { duration: wait, media_time: None });
        }
        let media_time = Some(start.saturating_sub(self.first_decode_time));
        let length = in_movie(start, end);
        edits.push(Edit { duration: length, media_time });

        let mut track = self.init.track_box(id);
        track.duration = wait.saturating_add(length);
        track.media_duration =
            last.decode_time.saturating_add(u64::from(last.duration)) - self.first_decode_time;
        track.edits = edits;
        track.put(out, |out| self.put_tables(out, last.duration, samples_at, wide));
    }

    fn put_tables(&self, out: &mut Vec<u8>, last_duration: u32, samples_at: u64, wide: bool) {
        put_box(out, b"stsd", |out| {
            out.extend_from_slice(self.init.sample_description().unwrap_or_default());
        });
        let mut durations = self.durations.clone();
        durations.push(last_duration);
        put_full_box(out, b"stts", 0, 0, |out| durations.put(out));
        if !self.compositions.is_all_zero() {
            put_full_box(out, b"ctts", 0, 0, |out| self.compositions.put(out));
        }
        if self.keys.len() < self.count as usize {
            put_full_box(out, b"stss", 0, 0, |out| {
                put_count(out, self.keys.len());
                self.keys.iter().for_each(|number| put_u32(out, *number));
            });
        }
        put_full_box(out, b"stsc", 0, 0, |out| {
            let nexts = self.chunks.iter().skip(1).map(|(_, first)| *first);
            let ends = nexts.chain([self.count.saturating_add(1)]);
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for (number, ((_, first), end)) in (1..).zip(self.chunks.iter().zip(ends)) {
                let samples = end.saturating_sub(*first);
                if runs.last().is_none_or(|(_, before)| *before != samples) {
                    runs.push((number, samples));
                }
            }
            put_count(out, runs.len());
            for (number, samples) in runs {
                put_u32(out, number);
                put_u32(out, samples);
                put_u32(out, 1);
            }
        });
        put_full_box(out, b"stsz", 0, 0, |out| {
            put_u32(out, 0);
            put_u32(out, self.count);
            out.extend_from_slice(&self.sizes);
        });
        let offsets = self.chunks.iter().map(|(at, _)| samples_at.saturating_add(*at));
        if wide {
            put_full_box(out, b"co64", 0, 0, |out| {
                put_count(out, self.chunks.len());
                offsets.for_each(|offset| put_u64(out, offset));
            });
        } else {
            put_full_box(out, b"stco", 0, 0, |out| {
                put_count(out, self.chunks.len());
                offsets.for_each(|offset| put_u32(out, saturate(offset)));
            });
        }
    }
}

/// A table's values, equal ones counted.
#[derive(Clone, Debug, Default)]
struct Runs(Vec<(u32, u32)>);

impl Runs {
    fn push(&mut self, value: u32) {
        match self.0.last_mut() {
            Some((count, last)) if *last == value => *count = count.saturating_add(1),
            _ => self.0.push((1, value)),
        }
    }

    fn is_all_zero(&self) -> bool {
        self.0.iter().all(|(_, value)| *value == 0)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_count(out, self.0.len());
        for (count, value) in &self.0 {
            put_u32(out, *count);
            put_u32(out, *value);
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u32(out, u32::try_from(count).unwrap_or(u32::MAX));
}

fn saturate(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Milliseconds in ticks of a track.
pub(crate) fn span_in_ticks(init: &TrackInit, span: &Range<i64>) -> Range<u64> {
    let from_ms = |ms: i64| {
        let ticks = u128::from(ms.max(0).unsigned_abs()) * u128::from(init.timescale);
        u64::try_from(ticks.div_ceil(1_000)).unwrap_or(u64::MAX)
    };
    from_ms(span.start)..from_ms(span.end)
}

/// When a sample is to be shown: pictures that begin in the span; sound of which any is in it. All
/// in ticks.
pub(crate) fn wanted(kind: TrackKind, span: &Range<u64>, recorded: &Sample) -> Option<Range<u64>> {
    let time = recorded.presentation_time;
    let end = time.saturating_add(u64::from(recorded.duration)).min(span.end);
    let start = match kind {
        TrackKind::Video => time,
        TrackKind::Audio => time.max(span.start),
    };
    (start >= span.start && start < end).then_some(start..end)
}

/// Ticks in nanoseconds, rounded up.
pub(crate) fn nanoseconds(ticks: u64, timescale: u32) -> u64 {
    let ns = (u128::from(ticks) * NS_PER_S).div_ceil(u128::from(timescale.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Nanoseconds in ticks, to the nearest.
pub(crate) fn ticks(ns: u64, timescale: u32) -> u64 {
    let ticks = (u128::from(ns) * u128::from(timescale) + NS_PER_S / 2) / NS_PER_S;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The same, before or after.
pub(crate) fn signed_ticks(ns: i64, timescale: u32) -> i64 {
    let ticks = i64::try_from(ticks(ns.unsigned_abs(), timescale)).unwrap_or(i64::MAX);
    if ns < 0 { -ticks } else { ticks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_part_of_a_file_is_what_stands_there(
            head in prop::collection::vec(any::<u8>(), 0..20),
            lens in prop::collection::vec(1u32..9, 0..20),
            (from, to) in (0u64..200, 0u64..200),
        ) {
            // Of each fragment the bytes from 5 on; every byte is told by where it is from.
            let stored: Vec<_> =
                (0..).zip(&lens).map(|(fragment, len)| Stored { fragment, offset: 5, len: *len }).collect();
            let of = |stored: Stored| (stored.offset..stored.offset + stored.len).map(move |at| (stored.fragment, at));
            let mut whole: Vec<(u32, u32)> = head.iter().map(|byte| (u32::MAX, (*byte).into())).collect();
            let mut starts = Vec::new();
            for stored in &stored {
                starts.push(whole.len() as u64);
                whole.extend(of(*stored));
            }
            let file = File { head: head.into(), stored, starts, len: whole.len() as u64 };
            let part: Vec<(u32, u32)> = file.pieces(from..to).flat_map(|piece| match piece {
                Piece::Made(bytes) => bytes.iter().map(|byte| (u32::MAX, (*byte).into())).collect::<Vec<_>>(),
                Piece::Stored(stored) => of(stored).collect(),
            }).collect();
            let end = whole.len().min(to as usize);
            prop_assert_eq!(&part[..], whole.get(from as usize..end).unwrap_or_default());
        }
    }
}
