//! A finished span as one fragmented MP4 file with indexes (`sidx`, ISO/IEC 14496-12 §8.16.3), laid
//! out from the fragments' lengths alone: its first bytes are made here, the rest are samples as they
//! are stored, and heads that take the room of those of their chunks.
//!
//! Each track has an index of its own: ffmpeg 5.1 takes the times of another's for its own when it
//! seeks.
//!
//! Holes between fragments are closed, and the span is cut to the frame by an edit list, as in
//! [`crate::progressive`].

use crate::TrackInit;
use crate::init::{put_no_samples, put_track_extends};
use crate::movie::{Edit, MovieHeader};
use crate::mp4::{self, ChunkHead, Sample, put_box, put_full_box, put_u16, put_u32, put_u64};
use crate::progressive::{
    MOVIE_TIMESCALE, Place, nanoseconds, signed_ticks, span_in_ticks, ticks, wanted,
};
use bytes::Bytes;
use std::ops::Range;

/// `reference_count` has 16 bits.
const MAX_REFERENCES: usize = u16::MAX as usize;
/// `referenced_size` has 31 bits.
const MAX_REFERENCED_BYTES: u64 = (1 << 31) - 1;
/// `starts_with_SAP`, of type 1: decoding may begin with its first sample.
const STARTS_WITH_SAP_1: u32 = 0x9000_0000;
/// No chunk is shorter: its boxes' headers alone are not.
const SHORTEST_CHUNK: u64 = 64;

/// A track's chunks in a fragment's body, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// In the body.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// Of the first sample, in ticks since the Unix epoch.
    pub decode_time: u64,
    /// In ticks.
    pub duration: u64,
    /// Whether it begins with a sync sample.
    pub key: bool,
}

/// Chunks as they stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where in the file they begin.
    pub start: u64,
    /// As [`Layout::push`] was told.
    pub fragment: u32,
    /// In the fragment's body.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    track_id: u32,
    /// Ticks between when it was decoded and when it is in the file.
    earlier_by: i64,
    /// Samples shown from there on are none of the file's, in ticks since the Unix epoch.
    end: u64,
}

/// What a file has at some byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Made bytes, from there on.
    Made(Bytes),
    Stored(Placed),
}

/// A file that is not held: what it is made of, in order.
#[derive(Clone, Debug)]
pub struct File {
    head: Bytes,
    placed: Vec<Placed>,
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
        self.head.len() + self.placed.len() * size_of::<Placed>()
    }

    /// What has the byte at `at`; none beyond the end.
    pub fn piece_at(&self, at: u64) -> Option<Piece> {
        if let Some(head) = usize::try_from(at).ok().filter(|at| *at < self.head.len()) {
            return Some(Piece::Made(self.head.slice(head..)));
        }
        let after = self.placed.partition_point(|placed| placed.start <= at);
        let placed = *self.placed.get(after.checked_sub(1)?)?;
        (at < placed.end()).then_some(Piece::Stored(placed))
    }
}

impl Placed {
    /// Where in the file they end.
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// The head of the one chunk that these, which are all of them, are in the file: players take
    /// what an index leads to for one. As long as theirs together; their samples follow it. It does
    /// not tell of those at the end that are not shown, for not every player heeds an edit list.
    ///
    /// None where they are no chunks of ours.
    pub fn head(&self, chunks: &[ChunkHead]) -> Option<Bytes> {
        let placed = |time: u64| time.saturating_add_signed(self.earlier_by.saturating_neg());
        let samples: Vec<Vec<Sample>> = chunks
            .iter()
            .map(|chunk| {
                let samples = chunk.samples.iter().map(|sample| Sample {
                    decode_time: placed(sample.decode_time),
                    presentation_time: placed(sample.presentation_time),
                    ..*sample
                });
                samples.collect()
            })
            .collect();
        let mut samples: Vec<&[Sample]> = samples.iter().map(Vec::as_slice).collect();
        // Sequence numbers need only rise (§8.8.5.1), and so are told from the place.
        let sequence = u32::try_from(self.start / SHORTEST_CHUNK).unwrap_or(u32::MAX);
        let sum =
            |len: fn(&ChunkHead) -> u32| chunks.iter().map(|c| u64::from(len(c))).sum::<u64>();
        let (head_len, whole_len) = (sum(|c| c.len), sum(|c| c.chunk_len));
        if whole_len != u64::from(self.len) {
            return None;
        }
        let media_len = whole_len.checked_sub(head_len)?;
        let write = |samples: &[&[Sample]]| {
            let len = usize::try_from(head_len).ok()?;
            mp4::write_heads(sequence, self.track_id, samples, len, media_len)
        };
        let all = write(&samples)?;
        let end = placed(self.end);
        if let Some(last) = samples.last_mut() {
            let kept = last.iter().rposition(|sample| sample.presentation_time < end);
            *last = last.get(..kept.map_or(0, |at| at + 1)).unwrap_or(last);
        }
        Some(write(&samples).unwrap_or(all).into())
    }
}

/// When the first of these samples that are shown in `span` is, and until when the last one:
/// nanoseconds since the Unix epoch. `span` is in milliseconds.
pub fn shown(init: &TrackInit, samples: &[Sample], span: &Range<i64>) -> Option<Range<u64>> {
    let span = span_in_ticks(init, span);
    let shown = samples.iter().filter_map(|sample| wanted(init.kind, &span, sample));
    let all = shown.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))?;
    Some(nanoseconds(all.start, init.timescale)..nanoseconds(all.end, init.timescale))
}

/// Lays out a file, fragment by fragment.
#[derive(Debug)]
pub struct Layout<'a> {
    tracks: Vec<Lane<'a>>,
    placed: Vec<Placed>,
    /// Bytes of `placed`.
    len: u64,
}

#[derive(Debug)]
struct Lane<'a> {
    init: &'a TrackInit,
    /// As of [`Placed`].
    end: u64,
    subsegments: Vec<Subsegment>,
}

/// What an entry of an index tells: from a track's chunks of a fragment to those of the next. In
/// ticks of the track.
#[derive(Clone, Copy, Debug)]
struct Subsegment {
    /// Where it begins, in bytes behind the indexes.
    at: u64,
    /// On the recorded timeline, holes before it being closed.
    start: u64,
    duration: u64,
    key: bool,
}

impl<'a> Layout<'a> {
    /// A file of what these tracks show in `span`: milliseconds since the Unix epoch.
    pub fn new(tracks: impl IntoIterator<Item = &'a TrackInit>, span: &Range<i64>) -> Self {
        let lane =
            |init| Lane { init, end: span_in_ticks(init, span).end, subsegments: Vec::new() };
        let tracks = tracks.into_iter().map(lane).collect();
        Self { tracks, placed: Vec::new(), len: 0 }
    }

    /// Adds a track's chunks of a fragment. Chunks of a track come in the order of decoding.
    pub fn push(&mut self, place: Place, chunks: Chunks) {
        let Some((lane, track_id)) = self.tracks.get_mut(place.track).zip(id_of(place.track))
        else {
            return;
        };
        let earlier_by = signed_ticks(place.shift_ns, lane.init.timescale);
        let start = chunks.decode_time.saturating_add_signed(earlier_by.saturating_neg());
        let Chunks { decode_time, key, .. } = chunks;
        let duration = chunks.duration.min(lane.end.saturating_sub(decode_time));
        lane.subsegments.push(Subsegment { at: self.len, start, duration, key });
        self.placed.push(Placed {
            start: self.len,
            fragment: place.fragment,
            offset: chunks.offset,
            len: chunks.len,
            track_id,
            earlier_by,
            end: lane.end,
        });
        self.len += u64::from(chunks.len);
    }

    /// The file, of which `shown` is shown: nanoseconds since the Unix epoch, holes being closed.
    /// `None` where nothing was added.
    pub fn finish(self, shown: Range<u64>) -> Option<File> {
        let Self { tracks, mut placed, len } = self;
        let start_of = |lane: &Lane| Some(lane.ns(lane.subsegments.first()?.start));
        let origin_ns = tracks.iter().filter_map(start_of).min()?;

        let mut head = Vec::new();
        put_box(&mut head, b"ftyp", |out| {
            out.extend_from_slice(b"iso6");
            put_u32(out, 0);
            out.extend_from_slice(b"iso6mp41");
        });
        put_box(&mut head, b"moov", |out| put_movie(out, &tracks, origin_ns, shown));
        let indexed = || (1..).zip(&tracks).filter(|(_, lane)| !lane.subsegments.is_empty());
        let mut behind: u64 = indexed().map(|(_, lane)| lane.index_len()).sum();
        for (id, lane) in indexed() {
            behind -= lane.index_len();
            lane.put_index(&mut head, id, origin_ns, behind, len);
        }

        let head_len = head.len() as u64;
        for placed in &mut placed {
            let lane = tracks.get((placed.track_id as usize).checked_sub(1)?)?;
            let origin = i64::try_from(ticks(origin_ns, lane.init.timescale)).unwrap_or(i64::MAX);
            placed.earlier_by = placed.earlier_by.saturating_add(origin);
            placed.start += head_len;
        }
        Some(File { head: head.into(), placed, len: head_len + len })
    }
}

impl Lane<'_> {
    fn ns(&self, ticks: u64) -> u64 {
        nanoseconds(ticks, self.init.timescale)
    }

    /// Its entries: more subsegments than an index can name are joined.
    fn entries(&self) -> std::slice::Chunks<'_, Subsegment> {
        self.subsegments.chunks(self.subsegments.len().div_ceil(MAX_REFERENCES).max(1))
    }

    /// Bytes of its index.
    fn index_len(&self) -> u64 {
        40 + 12 * self.entries().len() as u64
    }

    /// `sidx`. So many bytes of other indexes are `behind` it; `len` are the subsegments'.
    fn put_index(&self, out: &mut Vec<u8>, id: u32, origin_ns: u64, behind: u64, len: u64) {
        let Some(first) = self.subsegments.first() else { return };
        let timescale = self.init.timescale;
        put_full_box(out, b"sidx", 1, 0, |out| {
            put_u32(out, id);
            put_u32(out, timescale);
            put_u64(out, first.start.saturating_sub(ticks(origin_ns, timescale)));
            put_u64(out, behind.saturating_add(first.at));
            put_u16(out, 0);
            put_u16(out, u16::try_from(self.entries().len()).unwrap_or(u16::MAX));
            let nexts = self.entries().skip(1).map(|next| next.first());
            for (entry, next) in self.entries().zip(nexts.chain([None])) {
                let (Some(first), Some(last)) = (entry.first(), entry.last()) else { continue };
                let bytes = next.map_or(len, |next| next.at).saturating_sub(first.at);
                let end = last.start.saturating_add(last.duration);
                let end = next.map_or(end, |next| next.start);
                put_u32(out, bytes.min(MAX_REFERENCED_BYTES) as u32);
                put_u32(out, u32::try_from(end.saturating_sub(first.start)).unwrap_or(u32::MAX));
                put_u32(out, if first.key { STARTS_WITH_SAP_1 } else { 0 });
            }
        });
    }
}

/// `track_ID` of a track, by its place among them.
fn id_of(track: usize) -> Option<u32> {
    u32::try_from(track).ok()?.checked_add(1)
}

/// The body of `moov`: no samples, and how long what is shown of the fragments lasts.
fn put_movie(out: &mut Vec<u8>, tracks: &[Lane], origin_ns: u64, shown: Range<u64>) {
    let duration = ticks(shown.end.saturating_sub(shown.start), MOVIE_TIMESCALE);
    let next_track_id = id_of(tracks.len()).unwrap_or(u32::MAX);
    MovieHeader { timescale: MOVIE_TIMESCALE, duration: 0, next_track_id }.put(out);
    for (id, Lane { init, .. }) in (1..).zip(tracks) {
        let cut_ns = shown.start.saturating_sub(origin_ns);
        let mut track = init.track_box(id);
        track.edits = vec![Edit { duration, media_time: Some(ticks(cut_ns, init.timescale)) }];
        track.put(out, |out| {
            put_box(out, b"stsd", |out| {
                out.extend_from_slice(init.sample_description().unwrap_or_default());
            });
            put_no_samples(out);
        });
    }
    put_box(out, b"mvex", |out| {
        put_full_box(out, b"mehd", 1, 0, |out| put_u64(out, duration));
        for (id, _) in (1..).zip(tracks) {
            put_track_extends(out, id);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::{find_box, read_samples, split_chunks, write_head};
    use lookback_wire::{Track, TrackKind};
    use proptest::prelude::*;

    const START_S: u64 = 1_795_329_502;
    /// Of files that are not cut.
    const END_MS: i64 = 4_000_000_000_000;

    fn init(kind: TrackKind, timescale: u32) -> TrackInit {
        TrackInit {
            kind,
            codecs: String::new(),
            playable: true,
            timescale,
            width: 16,
            height: 16,
            sampling_hz: 0,
            channels: 0,
            segment: Bytes::new(),
            track: Track {
                number: 1,
                uid: 1,
                kind,
                name: None,
                codec_id: String::new(),
                codec_private: Bytes::new(),
                default_duration_ns: None,
                sampling_hz: 0.0,
                width: 0,
                height: 0,
                channels: 0,
                bit_depth: 0,
            },
        }
    }

    /// Chunks of a sample a second, each of so many bytes.
    fn body(decode_time: u64, timescale: u32, sizes: &[u32]) -> Vec<u8> {
        (0..)
            .zip(sizes)
            .flat_map(|(n, size)| {
                let decode_time = decode_time + n * u64::from(timescale);
                let sample = Sample {
                    decode_time,
                    presentation_time: decode_time,
                    duration: timescale,
                    size: *size,
                    key: true,
                };
                let mut chunk = write_head(7, &[sample]);
                chunk.resize(chunk.len() + *size as usize, n as u8);
                chunk
            })
            .collect()
    }

    /// A file of fragments, each with the sizes of its chunks and how much later than the end of the
    /// one before it was recorded, and their bodies: video, then sound.
    fn file(fragments: &[(Vec<u32>, u64)]) -> (File, Vec<Vec<u8>>) {
        let inits = [init(TrackKind::Video, 90_000), init(TrackKind::Audio, 8_000)];
        let mut layout = Layout::new(&inits, &(0..END_MS));
        let (mut at_s, mut holes_s) = (START_S, 0);
        let mut bodies = Vec::new();
        for (fragment, (sizes, hole_s)) in (0..).zip(fragments) {
            at_s += hole_s;
            holes_s += if fragment > 0 { *hole_s } else { 0 };
            let mut whole = Vec::new();
            for (track, init) in inits.iter().enumerate() {
                let decode_time = at_s * u64::from(init.timescale);
                let bytes = body(decode_time, init.timescale, sizes);
                let shift_ns = holes_s as i64 * 1_000_000_000;
                let chunks = Chunks {
                    offset: whole.len() as u32,
                    len: bytes.len() as u32,
                    decode_time,
                    duration: sizes.len() as u64 * u64::from(init.timescale),
                    key: true,
                };
                layout.push(Place { track, fragment, shift_ns }, chunks);
                whole.extend(bytes);
            }
            bodies.push(whole);
            at_s += sizes.len() as u64;
        }
        (layout.finish(START_S * 1_000_000_000..(at_s - holes_s) * 1_000_000_000).unwrap(), bodies)
    }

    /// The file's bytes from `at` to the end of what stands there.
    fn from(file: &File, bodies: &[Vec<u8>], at: u64) -> Vec<u8> {
        match file.piece_at(at) {
            None => Vec::new(),
            Some(Piece::Made(bytes)) => bytes.to_vec(),
            Some(Piece::Stored(placed)) => {
                let stored = &bodies[placed.fragment as usize][placed.offset as usize..];
                let chunks: Vec<_> = split_chunks(&stored[..placed.len as usize]).collect();
                let heads: Vec<_> = chunks
                    .iter()
                    .map(|c| ChunkHead::read(&[c.head, c.samples].concat()).unwrap())
                    .collect();
                let mut bytes = placed.head(&heads).unwrap().to_vec();
                chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk.samples));
                bytes.split_off((at - placed.start) as usize)
            }
        }
    }

    fn whole(file: &File, bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut whole = Vec::new();
        while (whole.len() as u64) < file.len() {
            whole.extend(from(file, bodies, whole.len() as u64));
        }
        whole
    }

    proptest! {
        #[test]
        fn any_part_of_a_file_is_what_stands_there(
            fragments in prop::collection::vec((prop::collection::vec(0u32..300, 1..5), 0u64..9), 1..6),
            at in any::<prop::sample::Index>(),
        ) {
            let (file, bodies) = file(&fragments);
            let whole = whole(&file, &bodies);
            prop_assert_eq!(whole.len() as u64, file.len());
            let at = at.index(whole.len()) as u64;
            let rest = from(&file, &bodies, at);
            prop_assert!(!rest.is_empty() && whole[at as usize..].starts_with(&rest));
            prop_assert!(file.piece_at(file.len()).is_none());

        }
    }

    #[test]
    fn what_is_not_shown_at_the_end_is_not_told_of() {
        // Of a chunk of 25 samples of 40 ms: until when it is shown, in ms; how many are told of.
        for (kind, end_ms, expected) in [
            (TrackKind::Video, 1_000, 25),
            (TrackKind::Video, 601, 16),
            (TrackKind::Video, 600, 15),
            (TrackKind::Video, 40, 1),
            // Four bytes that are left over are too few for a box.
            (TrackKind::Audio, 960, 25),
            (TrackKind::Audio, 600, 15),
        ] {
            let init = init(kind, 1_000);
            let sample = |n: u64| {
                let time = START_S * 1_000 + n * 40;
                let key = kind == TrackKind::Audio || n == 0;
                Sample { decode_time: time, presentation_time: time, duration: 40, size: 3, key }
            };
            let samples: Vec<Sample> = (0..25).map(sample).collect();
            let mut chunk = write_head(7, &samples);
            let head_len = chunk.len();
            chunk.resize(head_len + 25 * 3, 0);
            let start_ms = START_S as i64 * 1_000;
            let mut layout = Layout::new([&init], &(start_ms..start_ms + end_ms));
            let chunks = Chunks {
                offset: 0,
                len: chunk.len() as u32,
                decode_time: samples[0].decode_time,
                duration: 1_000,
                key: true,
            };
            layout.push(Place { track: 0, fragment: 0, shift_ns: 0 }, chunks);
            let file = layout.finish(0..0).unwrap();
            let head = file.placed[0].head(&[ChunkHead::read(&chunk).unwrap()]).unwrap();
            assert_eq!(head.len(), head_len);
            assert_eq!(read_samples(&head).unwrap().len(), expected, "{kind:?} {end_ms}");
        }
    }

    #[test]
    fn time_begins_with_the_file_and_has_no_holes() {
        let (file, bodies) = file(&[(vec![9, 8], 0), (vec![7], 50), (vec![6, 5], 3_000)]);
        let whole = whole(&file, &bodies);
        let chunks_at = file.placed[0].start as usize;
        let u32_at =
            |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut sequence = 0;
        let told: Vec<_> = file
            .placed
            .iter()
            .map(|placed| &whole[placed.start as usize..])
            .map(|chunk| {
                let moof = find_box(chunk, b"moof").unwrap();
                let number = u32_at(find_box(moof, b"mfhd").unwrap(), 4);
                assert!(number > sequence, "{number} comes after {sequence}");
                sequence = number;
                let id = u32_at(find_box(find_box(moof, b"traf").unwrap(), b"tfhd").unwrap(), 4);
                let samples = read_samples(chunk).unwrap();
                (id, samples[0].decode_time, find_box(chunk, b"mdat").unwrap().len())
            })
            .collect();
        let expected = [
            (1, 0, 17),
            (2, 0, 17),
            (1, 180_000, 7),
            (2, 16_000, 7),
            (1, 270_000, 11),
            (2, 24_000, 11),
        ];
        assert_eq!(told, expected);

        let lens: Vec<_> = bodies.iter().map(|body| body.len() / 2).collect();
        let [one, two, three] = lens[..] else { panic!("{lens:?}") };
        // A subsegment goes on to the next of the track; the last one to the end of the file.
        let expected = [
            (76, [(2 * one, 180_000), (2 * two, 90_000), (2 * three, 180_000)]),
            (one, [(one + two, 16_000), (two + three, 8_000), (three, 16_000)]),
        ];
        let mut rest = &whole[..chunks_at];
        for (id, (first_offset, entries)) in (1..).zip(expected) {
            let at = rest.windows(4).position(|kind| kind == b"sidx").unwrap();
            rest = &rest[at + 4..];
            assert_eq!((u32_at(rest, 4), u32_at(rest, 24)), (id, first_offset as u32));
            let told: Vec<_> = rest[32..][..36]
                .chunks(12)
                .map(|entry| (u32_at(entry, 0) as usize, u32_at(entry, 4), u32_at(entry, 8)))
                .collect();
            assert_eq!(told, entries.map(|(len, ticks)| (len, ticks, STARTS_WITH_SAP_1)), "{id}");
        }
    }

    #[test]
    fn more_fragments_than_an_index_names_are_joined() {
        let one = |n: u64| Subsegment { at: n * 10, start: n * 5, duration: 5, key: true };
        for (count, entries, last_bytes) in
            [(65_535, 65_535, 10), (65_536, 32_768, 20), (65_537, 32_769, 10)]
        {
            let init = init(TrackKind::Video, 5);
            let lane =
                Lane { init: &init, end: u64::MAX, subsegments: (0..count).map(one).collect() };
            let mut out = Vec::new();
            lane.put_index(&mut out, 1, 0, 0, count * 10);
            assert_eq!(
                (out.len() as u64, lane.index_len()),
                (40 + 12 * entries, 40 + 12 * entries),
                "{count}"
            );
            let last = &out[out.len() - 12..];
            assert_eq!(last[..4], u32::to_be_bytes(last_bytes), "{count}");
        }
    }
}
