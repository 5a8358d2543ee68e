//! Records, as chunk files hold them one after the other.
//!
//! A record is a head and a body. All numbers are little-endian; `varint` is LEB128.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | `LBKR` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | kind: 1 INIT, 2 FRAGMENT, 3 VOID |
//! | 6 | 2 | 0 |
//! | 8 | 4 | length of the head |
//! | 12 | 4 | length of the body |
//! | 16 | 4 | CRC-32C of the body |
//! | 20 | 16 | stream |
//! | 36 | 8 | file number |
//! | 44 | 8 | offset of this record in its file |
//! | 52 | .. | INIT: the init's id, 8 bytes. FRAGMENT: see [`FragmentHead`]. VOID: zeros |
//! | -8 | 4 | length of the head, so that it is found from its body |
//! | -4 | 4 | CRC-32C of the head up to here |
//!
//! A VOID record takes the place of records that were taken away: its head is written over the head
//! of the first of them, its body reaches to the end of the last and means nothing.
//!
//! A record names its stream, file and offset, so that no stray block of another file passes for
//! one of this file.

use super::fields::{Fields, put, put_signed};
use crate::id::{StreamId, Ulid};
use crate::storage::{FragmentRecord, InitId, Location, NewFragment, TrackSpan, TrackSpans};
use bytes::Bytes;
use lookback_wire::{FragmentNumber, Payload, Timestamp};

const MAGIC: [u8; 4] = *b"LBKR";
const VERSION: u8 = 1;
const KIND_INIT: u8 = 1;
const KIND_FRAGMENT: u8 = 2;
const KIND_VOID: u8 = 3;
/// Everything before what the kind adds.
pub const FIXED_LEN: usize = 52;
/// What follows what the kind adds.
pub const TRAILER_LEN: usize = 8;
/// A fragment of 20 s with 3 tracks has some 60 chunks; more than this is a fault of the caller.
pub const MAX_CHUNKS: usize = 4096;
pub const MAX_TRACKS: usize = 3;
pub const MAX_METADATA: usize = 8 * 1024;
/// More than `MAX_CHUNKS` lengths and `MAX_METADATA` come to.
pub const MAX_HEAD: usize = 64 * 1024;

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub stream: StreamId,
    pub file: u64,
    pub offset: u64,
}

/// What a record's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub place: Place,
    pub head_len: u32,
    pub body_len: u32,
    pub body_crc: u32,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Init(InitId),
    Fragment(Box<FragmentHead>),
    Void,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentHead {
    pub record: FragmentRecord,
    pub payload_hash: [u8; 16],
    pub chunk_lens: Vec<u32>,
    pub metadata: Bytes,
}

impl Head {
    /// Where the body begins in the file.
    pub fn body_offset(&self) -> u64 {
        self.place.offset + u64::from(self.head_len)
    }

    /// Where the next record begins.
    pub fn end(&self) -> u64 {
        self.body_offset() + u64::from(self.body_len)
    }

    /// The length of the head that begins with these [`FIXED_LEN`] bytes at `place`; `None` where
    /// none does. Bytes that a camera sent do not know where they come to lie, so that a search for
    /// heads is not held up by what looks like one.
    pub fn announced_len(fixed: &[u8], place: Place) -> Option<usize> {
        let mut fields = Fields(fixed);
        if fields.array()? != MAGIC || fields.array()? != [VERSION] {
            return None;
        }
        fields.bytes(3)?;
        let len = u32::from_le_bytes(fields.array()?) as usize;
        fields.bytes(8)?;
        let named = Place {
            stream: StreamId(Ulid::from_be_bytes(fields.array()?)),
            file: u64::from_le_bytes(fields.array()?),
            offset: u64::from_le_bytes(fields.array()?),
        };
        let is_head = named == place && (FIXED_LEN + TRAILER_LEN..=MAX_HEAD).contains(&len);
        is_head.then_some(len)
    }

    /// Reads a whole head; `None` where it is not one, is damaged, or belongs elsewhere.
    pub fn decode(head: &[u8], place: Place) -> Option<Self> {
        if Self::announced_len(head, place)? != head.len() {
            return None;
        }
        let (checked, crc) = head.split_last_chunk::<4>()?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (content, head_len) = checked.split_last_chunk::<4>()?;
        let mut fields = Fields(content);
        fields.bytes(5)?;
        let [kind] = fields.array()?;
        fields.bytes(6)?;
        let body_len = u32::from_le_bytes(fields.array()?);
        let body_crc = u32::from_le_bytes(fields.array()?);
        // Its place was looked at.
        fields.bytes(FIXED_LEN - 20)?;
        let head_len = u32::from_le_bytes(*head_len);
        let content = match kind {
            KIND_INIT => Content::Init(InitId(u64::from_le_bytes(fields.array()?))),
            KIND_FRAGMENT => {
                let offset = place.offset.checked_add(u64::from(head_len))?;
                let location = Location { file: place.file, offset, len: body_len };
                Content::Fragment(Box::new(FragmentHead::decode(&mut fields, location)?))
            }
            KIND_VOID => Content::Void,
            _ => return None,
        };
        Some(Self { place, head_len, body_len, body_crc, content })
    }
}

impl FragmentHead {
    fn decode(fields: &mut Fields, location: Location) -> Option<Self> {
        let number = FragmentNumber(u64::from_le_bytes(fields.array()?));
        let start = Timestamp::from_millis(i64::from_le_bytes(fields.array()?));
        let payload_hash = fields.array()?;
        let record = get_times_and_tracks(fields, number, start, location)?;
        let chunks = fields.varint()? as usize;
        if chunks > MAX_CHUNKS {
            return None;
        }
        let chunk_lens = (0..chunks).map(|_| fields.varint_u32()).collect::<Option<_>>()?;
        let metadata_len = fields.varint()? as usize;
        let metadata = Bytes::copy_from_slice(fields.bytes(metadata_len)?);
        Some(Self { record, payload_hash, chunk_lens, metadata })
    }
}

/// Duration, times and tracks, as both heads and index rows have them.
pub fn put_times_and_tracks(out: &mut Vec<u8>, record: &FragmentRecord) {
    put(out, u64::from(record.duration_ms));
    put_signed(out, record.capture_start.as_millis().wrapping_sub(record.start.as_millis()));
    put_signed(out, record.arrived_at.as_millis().wrapping_sub(record.start.as_millis()));
    put(out, record.tracks.len() as u64);
    for track in &record.tracks {
        out.extend_from_slice(&track.init.0.to_le_bytes());
        out.push(u8::from(track.is_video) | u8::from(track.key) << 1);
        put(out, u64::from(track.timescale));
        // The start in ticks is near enough for the difference to be short.
        put_signed(out, track.decode_time.wrapping_sub(start_ticks(record.start, track)) as i64);
        put(out, track.duration);
        put(out, u64::from(track.offset));
        put(out, u64::from(track.len));
    }
}

#[inline]
pub fn get_times_and_tracks(
    fields: &mut Fields,
    number: FragmentNumber,
    start: Timestamp,
    location: Location,
) -> Option<FragmentRecord> {
    let duration_ms = fields.varint_u32()?;
    let instant = |delta: i64| Timestamp::from_millis(start.as_millis().wrapping_add(delta));
    let capture_start = instant(fields.signed()?);
    let arrived_at = instant(fields.signed()?);
    let count = fields.varint()? as usize;
    if count > MAX_TRACKS {
        return None;
    }
    let mut tracks = TrackSpans::new();
    for _ in 0..count {
        let init = InitId(u64::from_le_bytes(fields.array()?));
        let [flags] = fields.array()?;
        let mut track = TrackSpan {
            init,
            is_video: flags & 1 != 0,
            key: flags & 2 != 0,
            timescale: fields.varint_u32()?,
            decode_time: 0,
            duration: 0,
            offset: 0,
            len: 0,
        };
        track.decode_time = (fields.signed()? as u64).wrapping_add(start_ticks(start, &track));
        track.duration = fields.varint()?;
        track.offset = fields.varint_u32()?;
        track.len = fields.varint_u32()?;
        tracks.push(track);
    }
    Some(FragmentRecord { number, start, duration_ms, capture_start, arrived_at, tracks, location })
}

fn start_ticks(start: Timestamp, track: &TrackSpan) -> u64 {
    // Every real time fits; dividing 128 bits would be a third of reading a row.
    match start.as_millis().checked_mul(i64::from(track.timescale)) {
        Some(product) => (product / 1000) as u64,
        None => (i128::from(start.as_millis()) * i128::from(track.timescale) / 1000) as u64,
    }
}

/// A record ready to be written: its head, then the parts of its body.
#[derive(Debug)]
pub struct Encoded {
    pub head: Bytes,
    pub body_len: u32,
}

impl Encoded {
    pub fn record_len(&self) -> u64 {
        self.head.len() as u64 + u64::from(self.body_len)
    }
}

/// CRC-32C over the parts in order.
pub fn payload_crc(body: &Payload) -> u32 {
    body.parts().iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

pub fn encode_init(place: Place, id: InitId, body: &[u8]) -> Encoded {
    encode(place, KIND_INIT, body.len() as u32, crc32c::crc32c(body), |out| {
        out.extend_from_slice(&id.0.to_le_bytes());
    })
}

/// Frames a fragment; answers it with the record that the index is to hold.
pub fn encode_fragment(place: Place, fragment: &NewFragment) -> (Encoded, FragmentRecord) {
    let body_len = fragment.body.len() as u32;
    let mut record = FragmentRecord {
        number: fragment.number,
        start: fragment.start,
        duration_ms: fragment.duration_ms,
        capture_start: fragment.capture_start,
        arrived_at: fragment.arrived_at,
        tracks: fragment.tracks.clone(),
        location: Location { file: place.file, offset: place.offset, len: body_len },
    };
    let encoded = encode(place, KIND_FRAGMENT, body_len, payload_crc(&fragment.body), |out| {
        out.extend_from_slice(&fragment.number.0.to_le_bytes());
        out.extend_from_slice(&fragment.start.as_millis().to_le_bytes());
        out.extend_from_slice(&fragment.payload_hash);
        put_times_and_tracks(out, &record);
        put(out, fragment.chunk_lens.len() as u64);
        for &len in &fragment.chunk_lens {
            put(out, u64::from(len));
        }
        put(out, fragment.metadata.len() as u64);
        out.extend_from_slice(&fragment.metadata);
    });
    record.location.offset += encoded.head.len() as u64;
    (encoded, record)
}

/// The head that makes void what lies from `head` on up to `end`; as long as `head` itself. `None`
/// where they are further apart than a record is long.
pub fn encode_void(head: &Head, end: u64) -> Option<Bytes> {
    let body_len = u32::try_from(end.checked_sub(head.body_offset())?).ok()?;
    let zeros = (head.head_len as usize).checked_sub(FIXED_LEN + TRAILER_LEN)?;
    let fill = |out: &mut Vec<u8>| out.resize(zeros, 0);
    Some(encode(head.place, KIND_VOID, body_len, 0, fill).head)
}

fn encode(
    place: Place,
    kind: u8,
    body_len: u32,
    body_crc: u32,
    content: impl FnOnce(&mut Vec<u8>),
) -> Encoded {
    let mut fields = Vec::with_capacity(256);
    content(&mut fields);
    let head_len = (FIXED_LEN + fields.len() + TRAILER_LEN) as u32;
    let mut head = Vec::with_capacity(head_len as usize);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[VERSION, kind, 0, 0]);
    head.extend_from_slice(&head_len.to_le_bytes());
    head.extend_from_slice(&body_len.to_le_bytes());
    head.extend_from_slice(&body_crc.to_le_bytes());
    head.extend_from_slice(&place.stream.0.to_be_bytes());
    head.extend_from_slice(&place.file.to_le_bytes());
    head.extend_from_slice(&place.offset.to_le_bytes());
    head.extend_from_slice(&fields);
    head.extend_from_slice(&head_len.to_le_bytes());
    let crc = crc32c::crc32c(&head);
    head.extend_from_slice(&crc.to_le_bytes());
    Encoded { head: head.into(), body_len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_one_where_it_says_it_is() {
        let place = Place { stream: StreamId(Ulid(7)), file: 8, offset: 9 };
        let head = encode_init(place, InitId(1), b"an init").head;
        let fixed = head.get(..FIXED_LEN).unwrap();
        for (found_at, is_one) in [
            (place, true),
            (Place { stream: StreamId(Ulid(6)), ..place }, false),
            (Place { file: 9, ..place }, false),
            (Place { offset: 8, ..place }, false),
        ] {
            let announced = Head::announced_len(fixed, found_at);
            assert_eq!(announced, is_one.then_some(head.len()), "{found_at:?}");
            assert_eq!(Head::decode(&head, found_at).is_some(), is_one, "{found_at:?}");
            assert_eq!(Head::announced_len(&fixed[1..], found_at), None);
        }
    }
}
