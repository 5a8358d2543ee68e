//! Items of `timeline`: the segments of one stream that begin in the same five minutes.
//!
//! | attribute | what |
//! | --- | --- |
//! | `p`, `w` | the stream's ULID; the window's number |
//! | `g` | how often the item was changed |
//! | 8 characters of base64url | a segment: the first 48 bits of its key are its name |
//! | 6 characters | a profile: codecs and picture size, which most segments of a window share |
//!
//! Each segment is an attribute of its own, so that announcing it is one commutative, idempotent
//! update. A segment is laid out as
//!
//! ```text
//! flags   1 byte   bits 0-1 trigger, 2 the identifier is a UUID, 3 has a profile, 4 has a size
//! start   zigzag varint, milliseconds from the window's beginning
//! length  varint, milliseconds
//! arrived zigzag varint, milliseconds from its end to its ingestion
//! profile 4 bytes, big-endian: the number whose base64url is the profile's name; if it has one
//! size    varint, bytes; if it has one
//! id      the client's identifier: 16 bytes of a UUID in lower case, else UTF-8
//! ```
//!
//! which makes 33 bytes with a UUID, 15 segments of 20 s fit into the kilobyte that one write unit
//! pays for, and a day of them into 25 read units.

use super::store::Item;
use super::tables::{PARTITION, WINDOW};
use crate::id::StreamId;
use crate::segment::{
    NewSegment, RecordingTrigger, Segment, SegmentId, TimeRange, WINDOW_MS, window_and_key,
};
use crate::storage::{Result, StorageError};
use aws_lc_rs::digest;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lookback_wire::Timestamp;
use std::collections::HashMap;

/// Counts the item's changes.
pub const CHANGES: &str = "g";
const SEGMENT_NAME_CHARS: usize = 8;

const TRIGGERS: [RecordingTrigger; 3] =
    [RecordingTrigger::Continuous, RecordingTrigger::Event, RecordingTrigger::Manual];
const TRIGGER_BITS: u8 = 0b11;
const ID_IS_UUID: u8 = 1 << 2;
const HAS_PROFILE: u8 = 1 << 3;
const HAS_SIZE: u8 = 1 << 4;

/// An attribute of a window's item.
pub type Attribute = (String, AttributeValue);

/// Codecs, width and height: written once for a window.
type Profile = (Option<String>, Option<u32>, Option<u32>);

/// A window as it was read.
#[derive(Debug)]
pub struct Window {
    pub number: u32,
    pub changes: AttributeValue,
    /// By start, then identifier; each with its attribute.
    pub segments: Vec<(Segment, Attribute)>,
}

/// The key of a stream's window.
pub fn key(stream: StreamId, number: u32) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (PARTITION.to_owned(), partition(stream)),
        (WINDOW.to_owned(), AttributeValue::N(number.to_string())),
    ])
}

pub fn partition(stream: StreamId) -> AttributeValue {
    AttributeValue::B(Blob::new(stream.0.to_be_bytes()))
}

/// The number of the window that has `at`.
pub fn number_at(at: Timestamp) -> u32 {
    window_and_key(at, "").0
}

fn beginning(number: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(number) * WINDOW_MS)
}

/// The name of a segment's attribute.
pub fn segment_name(id: SegmentId) -> String {
    URL_SAFE_NO_PAD.encode(id.key.to_be_bytes().first_chunk::<6>().unwrap_or(&[0; 6]))
}

fn profile_name(number: u32) -> String {
    URL_SAFE_NO_PAD.encode(number.to_be_bytes())
}

/// The attributes of a segment: its own, and its profile's if it has one.
pub fn encode(
    id: SegmentId,
    new: &NewSegment,
    now: Timestamp,
) -> Result<(Attribute, Option<Attribute>)> {
    let profile: Profile = (new.codecs.clone(), new.width, new.height);
    let profile = if profile == (None, None, None) {
        None
    } else {
        let text = super::store::encode(&profile)?;
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let number = digest.as_ref().first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
        Some((number, text))
    };
    let uuid = uuid_bytes(&new.client_segment_id);
    let trigger = TRIGGERS.iter().position(|one| *one == new.trigger).unwrap_or(0) as u8;
    let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    let mut bytes = vec![
        trigger
            | flag(uuid.is_some(), ID_IS_UUID)
            | flag(profile.is_some(), HAS_PROFILE)
            | flag(new.size_bytes.is_some(), HAS_SIZE),
    ];
    push_varint(&mut bytes, zigzag(new.range.start.millis_since(beginning(id.window))));
    push_varint(&mut bytes, new.range.millis().max(0).cast_unsigned());
    push_varint(&mut bytes, zigzag(now.millis_since(new.range.end)));
    if let Some((number, _)) = &profile {
        bytes.extend(number.to_be_bytes());
    }
    if let Some(size_bytes) = new.size_bytes {
        push_varint(&mut bytes, size_bytes);
    }
    match uuid {
        Some(uuid) => bytes.extend(uuid),
        None => bytes.extend(new.client_segment_id.as_bytes()),
    }
    let segment = (segment_name(id), AttributeValue::B(Blob::new(bytes)));
    let profile = profile.map(|(number, text)| (profile_name(number), AttributeValue::S(text)));
    Ok((segment, profile))
}

impl Window {
    pub fn read(stream: StreamId, item: &Item) -> Result<Self> {
        let number = item.get(WINDOW).and_then(|value| value.as_n().ok()?.parse().ok());
        let number = number.ok_or_else(|| damaged(stream, "a window has no number"))?;
        let mut segments = Vec::new();
        for (name, value) in item.iter().filter(|(name, _)| name.len() == SEGMENT_NAME_CHARS) {
            let segment = decode(stream, number, value, item).ok_or_else(|| {
                damaged(stream, &format!("segment {name} of window {number} cannot be read"))
            })?;
            segments.push((segment, (name.clone(), value.clone())));
        }
        segments.sort_unstable_by_key(|(segment, _)| (segment.range.start, segment.id));
        let changes = item.get(CHANGES).cloned();
        let changes = changes.unwrap_or_else(|| AttributeValue::N("0".into()));
        Ok(Self { number, changes, segments })
    }
}

/// The segment of an attribute; its profile is looked up in the window's other `attributes`.
pub fn decode(
    stream: StreamId,
    window: u32,
    value: &AttributeValue,
    attributes: &Item,
) -> Option<Segment> {
    let (flags, mut rest) = value.as_b().ok()?.as_ref().split_first()?;
    let start = beginning(window).plus_millis(unzigzag(take_varint(&mut rest)?));
    let end = start.plus_millis(i64::try_from(take_varint(&mut rest)?).ok()?);
    let ingested_at = end.plus_millis(unzigzag(take_varint(&mut rest)?));
    let (codecs, width, height) = if flags & HAS_PROFILE == 0 {
        (None, None, None)
    } else {
        let (number, after) = rest.split_first_chunk()?;
        rest = after;
        let text = attributes.get(&profile_name(u32::from_be_bytes(*number)))?.as_s().ok()?;
        super::store::decode::<Profile>(text).ok()?
    };
    let size_bytes = if flags & HAS_SIZE == 0 { None } else { Some(take_varint(&mut rest)?) };
    let client_segment_id = if flags & ID_IS_UUID == 0 {
        std::str::from_utf8(rest).ok()?.to_owned()
    } else {
        uuid_text(rest.try_into().ok()?)
    };
    Some(Segment {
        id: SegmentId { window, ..SegmentId::of(stream, start, &client_segment_id) },
        client_segment_id,
        range: TimeRange { start, end },
        ingested_at,
        trigger: *TRIGGERS.get(usize::from(flags & TRIGGER_BITS))?,
        codecs,
        width,
        height,
        size_bytes,
    })
}

pub fn damaged(stream: StreamId, what: &str) -> StorageError {
    StorageError::Damaged(format!("{what}, of {stream}"))
}

const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The bytes of a UUID, where `text` is one exactly as [`uuid_text`] writes it.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.bytes().all(is_lower_hex) {
        return None;
    }
    let bytes = u128::from_str_radix(&digits, 16).ok()?.to_be_bytes();
    (uuid_text(bytes) == text).then_some(bytes)
}

/// As RFC 9562 §4 prints it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(bytes));
    for place in UUID_HYPHENS {
        text.insert(place, '-');
    }
    text
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::capacity::size;
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);
    const UUID: &str = "0193f6a2-7b1c-7d3e-8f40-5a6b7c8d9e0f";

    fn new_segment(id: &str, start: Timestamp) -> NewSegment {
        NewSegment {
            client_segment_id: id.into(),
            range: TimeRange { start, end: start.plus_millis(20_000) },
            trigger: RecordingTrigger::Manual,
            codecs: Some("avc1.4d4032,mp4a.40.2".into()),
            width: Some(1920),
            height: Some(1080),
            size_bytes: Some(5_000_000),
        }
    }

    /// What comes back of a window with this one segment.
    fn stored(new: &NewSegment, now: Timestamp) -> Segment {
        let stream = StreamId(crate::id::Ulid(7));
        let id = SegmentId::of(stream, new.range.start, &new.client_segment_id);
        let (segment, profile) = encode(id, new, now).unwrap();
        let mut item = key(stream, id.window);
        item.extend([segment].into_iter().chain(profile));
        let window = Window::read(stream, &item).unwrap();
        assert_eq!(window.segments.len(), 1);
        window.segments.into_iter().next().unwrap().0
    }

    #[test]
    fn segments_come_back_as_they_were() {
        for id in
            [UUID, "a", "0193F6A2-7B1C-7D3E-8F40-5A6B7C8D9E0F", "0193f6a27b1c7d3e8f405a6b7c8d9e0f"]
        {
            let mut new = new_segment(id, NOW);
            for bare in [false, true] {
                if bare {
                    (new.codecs, new.width, new.height, new.size_bytes) = (None, None, None, None);
                }
                let segment = stored(&new, NOW.plus_millis(-7));
                assert_eq!(segment.client_segment_id, id);
                assert_eq!((segment.range, segment.trigger), (new.range, new.trigger));
                assert_eq!(segment.ingested_at, NOW.plus_millis(-7));
                assert_eq!((&segment.codecs, segment.width), (&new.codecs, new.width));
                assert_eq!((segment.height, segment.size_bytes), (new.height, new.size_bytes));
            }
        }
    }

    #[test]
    fn windows_cost_what_they_may() {
        const WINDOWS_OF_A_DAY: usize = 288;
        for name in ["0193f6a2-7b1c-7d3e-8f40-5a6b7c8d9e", "1763803800000-"] {
            let stream = StreamId::new(NOW);
            let mut item = key(stream, number_at(NOW));
            item.insert(CHANGES.into(), AttributeValue::N("15".into()));
            for number in 0..15i64 {
                let start = beginning(number_at(NOW)).plus_millis(number * 20_000);
                let new = new_segment(&format!("{name}{number:02x}"), start);
                let id = SegmentId::of(stream, start, &new.client_segment_id);
                let (segment, profile) = encode(id, &new, start.plus_millis(300_000)).unwrap();
                item.extend([segment].into_iter().chain(profile));
            }
            let bytes = size(&item);
            assert!(bytes <= 1024, "one write unit: {bytes} bytes");
            // With the window before, in which a segment may begin that goes on.
            let read_units = ((WINDOWS_OF_A_DAY + 1) * bytes).div_ceil(8 * 1024);
            assert!(read_units <= 25, "{read_units} read units, {bytes} bytes a window");
        }
    }

    proptest! {
        #[test]
        fn any_instant_and_size_come_back(
            start in -1_000_000_000_000i64..100_000_000_000_000,
            length in 0i64..1_000_000,
            late in -200_000i64..100_000_000_000,
            size: u64,
        ) {
            let start = Timestamp::from_millis(start);
            let mut new = new_segment(UUID, start);
            new.range.end = start.plus_millis(length);
            new.size_bytes = Some(size);
            let segment = stored(&new, start.plus_millis(late));
            prop_assert_eq!(segment.range, new.range);
            prop_assert_eq!(segment.ingested_at, start.plus_millis(late));
            prop_assert_eq!(segment.size_bytes, Some(size));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let stream = StreamId(crate::id::Ulid(7));
            decode(stream, 1, &AttributeValue::B(Blob::new(bytes)), &Item::new());
        }
    }
}
