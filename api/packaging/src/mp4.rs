//! ISO base media boxes (ISO/IEC 14496-12): how they are written, and `moof` both ways.

/// Every file holds one track, and calls it this.
pub(crate) const TRACK_ID: u32 = 1;

/// `default-base-is-moof` (ISO/IEC 14496-12 §8.8.7.1): offsets count from the `moof`'s first byte.
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
const DESCRIPTION_INDEX: u32 = 0x00_0002;
const DEFAULT_DURATION: u32 = 0x00_0008;
const DEFAULT_FLAGS: u32 = 0x00_0020;

/// `trun` flags (ISO/IEC 14496-12 §8.8.8.1).
const DATA_OFFSET: u32 = 0x00_0001;
const SAMPLE_DURATION: u32 = 0x00_0100;
const SAMPLE_SIZE: u32 = 0x00_0200;
const SAMPLE_FLAGS: u32 = 0x00_0400;
const SAMPLE_COMPOSITION: u32 = 0x00_0800;

/// Sample flags (ISO/IEC 14496-12 §8.8.3.1): depends on no other.
const SYNC: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;
const IS_NON_SYNC: u32 = 0x0001_0000;

/// What a `moof` says of one sample. Times are in the track's timescale, since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub decode_time: u64,
    pub presentation_time: u64,
    pub duration: u32,
    /// Bytes.
    pub size: u32,
    /// Whether it is a sync sample.
    pub key: bool,
}

impl Sample {
    fn flags(&self) -> u32 {
        if self.key { SYNC } else { NON_SYNC }
    }

    /// Presentation less decode time. Saturates beyond what `trun` can hold.
    fn composition(&self) -> i32 {
        let offset = i128::from(self.presentation_time) - i128::from(self.decode_time);
        offset.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as i32
    }
}

/// Which track samples are of, and which entry of its `stsd` describes them; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub track_id: u32,
    /// 1 is what `trex` says, and stands nowhere else.
    pub description: u32,
}

/// A box: its type, and a body whose size is filled in when it is written.
pub(crate) fn put_box(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    body(out);
    let size = saturate(out.len() - start);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// A box whose body begins with a version and 24 flags.
pub(crate) fn put_full_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    put_box(out, kind, |out| {
        put_u32(out, u32::from(version) << 24 | flags);
        body(out);
    });
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// `moof` and the header of the `mdat` that is to hold `samples`, one after the other.
///
/// One `traf` with one `trun` (ISO/IEC 23000-19 §7.5); what all samples share stands once, in
/// `tfhd`. `sequence` need only rise.
pub(crate) fn write_head(sequence: u32, samples: &[Sample]) -> Vec<u8> {
    write_head_of(sequence, Described { track_id: TRACK_ID, description: 1 }, samples)
}

/// The same for a track of another number, or another of its descriptions.
pub(crate) fn write_head_of(sequence: u32, of: Described, samples: &[Sample]) -> Vec<u8> {
    let (mut out, offsets) = movie_fragment(sequence, of, &[samples]);
    put_media_header(&mut out, sizes(samples), &offsets);
    out
}

/// The same for the samples of several chunks of a track, which follow one another, so that the chunks
/// become one: `len` bytes, before media of `media_len` bytes. None where that leaves no room for a
/// box that fills it.
pub(crate) fn write_heads(
    sequence: u32,
    track_id: u32,
    chunks: &[&[Sample]],
    len: usize,
    media_len: u64,
) -> Option<Vec<u8>> {
    let of = Described { track_id, description: 1 };
    let (mut out, offsets) = movie_fragment(sequence, of, chunks);
    match len.checked_sub(out.len() + media_header_len(media_len))? {
        0 => {}
        spare @ 8.. => put_box(&mut out, b"free", |out| out.resize(out.len() + spare - 8, 0)),
        _ => return None,
    }
    put_media_header(&mut out, media_len, &offsets);
    Some(out)
}

/// Bytes of samples.
fn sizes(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| u64::from(sample.size)).sum()
}

/// Where a data offset stands, and how far its samples are into the media.
type Offsets = Vec<(usize, u64)>;

/// `moof`, of which the data offsets are to be written.
fn movie_fragment(sequence: u32, of: Described, chunks: &[&[Sample]]) -> (Vec<u8>, Offsets) {
    let mut out = Vec::with_capacity(128 + 16 * chunks.iter().map(|c| c.len()).sum::<usize>());
    let mut offsets = Vec::with_capacity(chunks.len());
    let mut bytes = 0u64;
    put_box(&mut out, b"moof", |out| {
        put_full_box(out, b"mfhd", 0, 0, |out| put_u32(out, sequence));
        for samples in chunks {
            offsets.push((put_track_fragment(out, of, samples), bytes));
            bytes += sizes(samples);
        }
    });
    (out, offsets)
}

fn media_header_len(media_len: u64) -> usize {
    if media_len + 8 > u64::from(u32::MAX) { 16 } else { 8 }
}

/// The header of `mdat`, and the data offsets to what is behind it.
fn put_media_header(out: &mut Vec<u8>, media_len: u64, offsets: &Offsets) {
    match u32::try_from(media_len + 8) {
        Ok(size) => {
            put_u32(out, size);
            out.extend_from_slice(b"mdat");
        }
        Err(_) => {
            put_u32(out, 1);
            out.extend_from_slice(b"mdat");
            put_u64(out, media_len + 16);
        }
    }
    let head_len = out.len();
    for (at, before) in offsets {
        let offset = saturate(head_len.saturating_add(*before as usize));
        out[*at..*at + 4].copy_from_slice(&offset.to_be_bytes());
    }
}

/// `traf`; answers where its data offset stands.
fn put_track_fragment(out: &mut Vec<u8>, of: Described, samples: &[Sample]) -> usize {
    let first = samples.first();
    let decode_time = first.map_or(0, |s| s.decode_time);
    let duration = first.map(|s| s.duration).filter(|d| samples.iter().all(|s| s.duration == *d));
    let flags = first.map(Sample::flags).filter(|f| samples.iter().all(|s| s.flags() == *f));
    let reordered = samples.iter().any(|s| s.composition() != 0);

    let description = Some(of.description).filter(|description| *description != 1);
    let tfhd_flags = DEFAULT_BASE_IS_MOOF
        | if description.is_some() { DESCRIPTION_INDEX } else { 0 }
        | if duration.is_some() { DEFAULT_DURATION } else { 0 }
        | if flags.is_some() { DEFAULT_FLAGS } else { 0 };
    let trun_flags = DATA_OFFSET
        | SAMPLE_SIZE
        | if duration.is_none() { SAMPLE_DURATION } else { 0 }
        | if flags.is_none() { SAMPLE_FLAGS } else { 0 }
        | if reordered { SAMPLE_COMPOSITION } else { 0 };

    let mut data_offset_at = 0;
    put_box(out, b"traf", |out| {
        put_full_box(out, b"tfhd", 0, tfhd_flags, |out| {
            put_u32(out, of.track_id);
            description.into_iter().for_each(|index| put_u32(out, index));
            duration.into_iter().for_each(|d| put_u32(out, d));
            flags.into_iter().for_each(|f| put_u32(out, f));
        });
        put_full_box(out, b"tfdt", 1, 0, |out| put_u64(out, decode_time));
        // Version 1: composition offsets are signed.
        put_full_box(out, b"trun", 1, trun_flags, |out| {
            put_u32(out, saturate(samples.len()));
            data_offset_at = out.len();
            put_u32(out, 0);
            for sample in samples {
                if duration.is_none() {
                    put_u32(out, sample.duration);
                }
                put_u32(out, sample.size);
                if flags.is_none() {
                    put_u32(out, sample.flags());
                }
                if reordered {
                    put_u32(out, sample.composition() as u32);
                }
            }
        });
    });
    data_offset_at
}

/// The samples of a chunk, from its head as [`crate::Packager`] wrote it. None where it did not:
/// any bytes may be given.
pub fn read_samples(head: &[u8]) -> Option<Vec<Sample>> {
    let traf = find_box(find_box(head, b"moof")?, b"traf")?;

    let mut tfhd = Rest(find_box(traf, b"tfhd")?);
    let tfhd_flags = tfhd.u32()?;
    if tfhd_flags & !(DEFAULT_DURATION | DEFAULT_FLAGS) != DEFAULT_BASE_IS_MOOF {
        return None;
    }
    tfhd.u32()?;
    let duration = if tfhd_flags & DEFAULT_DURATION != 0 { Some(tfhd.u32()?) } else { None };
    let flags = if tfhd_flags & DEFAULT_FLAGS != 0 { Some(tfhd.u32()?) } else { None };

    let mut tfdt = Rest(find_box(traf, b"tfdt")?);
    if tfdt.u32()? != 1 << 24 {
        return None;
    }
    let mut decode_time = tfdt.u64()?;

    let mut trun = Rest(find_box(traf, b"trun")?);
    let trun_flags = trun.u32()?;
    // A size for each sample: so the count cannot exceed the bytes that are there.
    if trun_flags >> 24 != 1
        || trun_flags & (DATA_OFFSET | SAMPLE_SIZE) != DATA_OFFSET | SAMPLE_SIZE
    {
        return None;
    }
    let count = trun.u32()? as usize;
    trun.u32()?;
    if count > trun.0.len() / 4 {
        return None;
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let duration = if trun_flags & SAMPLE_DURATION != 0 { trun.u32()? } else { duration? };
        let size = trun.u32()?;
        let flags = if trun_flags & SAMPLE_FLAGS != 0 { trun.u32()? } else { flags? };
        let composition = if trun_flags & SAMPLE_COMPOSITION != 0 { trun.u32()? as i32 } else { 0 };
        samples.push(Sample {
            decode_time,
            presentation_time: decode_time.saturating_add_signed(i64::from(composition)),
            duration,
            size,
            key: flags & IS_NON_SYNC == 0,
        });
        decode_time = decode_time.checked_add(u64::from(duration))?;
    }
    Some(samples)
}

/// One chunk of those in a track's part of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkBytes<'a> {
    /// `moof` and the header of `mdat`: what [`read_samples`] reads.
    pub head: &'a [u8],
    /// The samples, one after the other.
    pub samples: &'a [u8],
}

/// The chunks that [`crate::Packager`] wrote one after the other. Ends where something else begins:
/// any bytes may be given.
pub fn split_chunks(chunks: &[u8]) -> impl Iterator<Item = ChunkBytes<'_>> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let moof_len = box_len(rest, b"moof")?.0;
        let (mdat_len, header_len) = box_len(rest.get(moof_len..)?, b"mdat")?;
        let (chunk, after) = rest.split_at_checked(moof_len.checked_add(mdat_len)?)?;
        rest = after;
        let (head, samples) = chunk.split_at_checked(moof_len + header_len)?;
        Some(ChunkBytes { head, samples })
    })
}

/// Length of the box that `bytes` begin with, and of its header.
fn box_len(bytes: &[u8], kind: &[u8; 4]) -> Option<(usize, usize)> {
    let mut rest = Rest(bytes);
    let len = rest.u32()?;
    if rest.take(4)? != kind {
        return None;
    }
    let (len, header_len) = if len == 1 { (rest.u64()?, 16) } else { (u64::from(len), 8) };
    Some((usize::try_from(len).ok().filter(|len| *len >= header_len)?, header_len))
}

/// A chunk as its first bytes tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// Bytes before the first sample.
    pub len: u32,
    /// Bytes of head and samples.
    pub chunk_len: u32,
    pub samples: Vec<Sample>,
}

/// The longest head that [`crate::Packager`] writes: 2,048 samples of 16 bytes, and boxes around.
pub const MAX_HEAD_LEN: u32 = 64 * 1024;

impl ChunkHead {
    /// How many of a chunk's bytes [`ChunkHead::read`] needs, from its first four; at most
    /// [`MAX_HEAD_LEN`], None where it is more.
    pub fn needed(start: &[u8]) -> Option<u32> {
        // The header of an `mdat` of less than 4 GiB: no fragment is larger.
        Rest(start).u32()?.checked_add(8).filter(|len| *len <= MAX_HEAD_LEN)
    }

    /// Reads the head at the front of `bytes`. None where [`crate::Packager`] did not write it.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let samples = read_samples(bytes)?;
        let moof_len = box_len(bytes, b"moof")?.0;
        let (mdat_len, header_len) = box_len(bytes.get(moof_len..)?, b"mdat")?;
        let size = samples.iter().map(|sample| sample.size as usize).sum::<usize>();
        (mdat_len == header_len.checked_add(size)?).then_some(Self {
            len: u32::try_from(moof_len.checked_add(header_len)?).ok()?,
            chunk_len: u32::try_from(moof_len.checked_add(mdat_len)?).ok()?,
            samples,
        })
    }
}

/// The body of the first box of this type among `boxes`.
pub(crate) fn find_box<'a>(boxes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = Rest(boxes);
    loop {
        let size = rest.u32()? as usize;
        let found = rest.take(4)?;
        let body = rest.take(size.checked_sub(8)?)?;
        if found == kind {
            return Some(body);
        }
    }
}

/// Big-endian numbers off the front of a slice; None once it is too short.
pub(crate) struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> impl Strategy<Value = (u32, u32, i32, bool)> {
        let composition = prop_oneof![Just(0), any::<i32>()];
        (prop_oneof![Just(3000), any::<u32>()], 0u32..1 << 20, composition, any::<bool>())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            start in (1u64 << 32)..1 << 60,
            given in prop::collection::vec(sample(), 1..50),
        ) {
            let mut decode_time = start;
            let samples: Vec<_> = given.into_iter().map(|(duration, size, composition, key)| {
                let sample = Sample {
                    decode_time,
                    presentation_time: decode_time.strict_add_signed(composition.into()),
                    duration,
                    size,
                    key,
                };
                decode_time += u64::from(duration);
                sample
            }).collect();
            let head = write_head(7, &samples);
            prop_assert_eq!(read_samples(&head), Some(samples.clone()));
            let size: u32 = samples.iter().map(|s| s.size).sum();
            let len = head.len() as u32;
            let chunk_len = len + size;
            prop_assert_eq!(ChunkHead::needed(&head), Some(len));
            prop_assert_eq!(ChunkHead::read(&head), Some(ChunkHead { len, chunk_len, samples }));
            for len in 0..head.len() - 8 {
                prop_assert_eq!(read_samples(&head[..len]), None, "cut at {}", len);
            }
        }

        #[test]
        fn any_bytes_may_be_read(
            at in any::<prop::sample::Index>(), byte: u8, noise in prop::collection::vec(any::<u8>(), 0..80)
        ) {
            let same = Sample { decode_time: 1 << 40, presentation_time: 1 << 40, duration: 1, size: 1, key: true };
            let mut head = write_head(7, &[same; 5]);
            let at = at.index(head.len());
            head[at] = byte;
            ChunkHead::read(&head);
            ChunkHead::read(&noise);
            split_chunks(&head).count();
            split_chunks(&noise).count();
        }
    }

    #[test]
    fn chunks_come_apart_where_they_were_joined() {
        let one =
            |size| Sample { decode_time: 0, presentation_time: 0, duration: 1, size, key: true };
        let chunk = |len: u32| [write_head(0, &[one(len)]), vec![7; len as usize]].concat();
        let lens: Vec<_> = split_chunks(&[chunk(3), chunk(0), chunk(9)].concat())
            .map(|chunk| (read_samples(chunk.head).map(|s| s.len()), chunk.samples.len()))
            .collect();
        assert_eq!(lens, [(Some(1), 3), (Some(1), 0), (Some(1), 9)]);
        for cut in 0..chunk(3).len() {
            assert_eq!(split_chunks(&chunk(3)[..cut]).count(), 0, "cut at {cut}");
        }
    }

    #[test]
    fn beyond_4_gib_mdat_has_the_long_header() {
        let one =
            Sample { decode_time: 0, presentation_time: 0, duration: 1, size: u32::MAX, key: true };
        let head = write_head(0, &[one, one]);
        let (_, mdat) = head.split_at(head.len() - 16);
        let size = (2 * u64::from(u32::MAX) + 16).to_be_bytes();
        assert_eq!(mdat, [&[0, 0, 0, 1][..], b"mdat", &size].concat());
        assert_eq!(read_samples(&head).map(|samples| samples.len()), Some(2));
    }
}
