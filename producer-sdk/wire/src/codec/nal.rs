//! NAL units in a frame: between start codes (Annex B of ITU-T H.264 and H.265), or each after its
//! length (ISO/IEC 14496-15 §4.3), which is what Matroska and MP4 carry.

use std::ops::Range;

/// Of the lengths that are written here.
const LENGTH_BYTES: usize = 4;

/// Why a frame is not one of length-prefixed NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NalError {
    #[error("NAL unit lengths take 1, 2 or 4 bytes, not {size}")]
    LengthSize { size: u8 },
    #[error("NAL unit of {unit} bytes at byte {at} reaches beyond the frame's {frame}")]
    BeyondFrame { at: usize, unit: usize, frame: usize },
    #[error("frame of {frame} bytes ends within a NAL unit's length")]
    LengthCutShort { frame: usize },
}

/// Whether `bytes` begin with a start code. An avcC or hvcC record does not, but a frame of
/// length-prefixed NAL units may, so for those there is [`is_annex_b_frame`].
pub fn starts_with_start_code(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// Whether a frame is of NAL units between start codes: it begins with one, and is not the lengths
/// (of 256 to 511 bytes, at first) and units of its own bytes up to the last.
pub fn is_annex_b_frame(frame: &[u8]) -> bool {
    starts_with_start_code(frame) && length_prefixed_units(frame, 4).any(|unit| unit.is_err())
}

/// The NAL units between the start codes of `bytes`, without zeros that trail them (Annex B.1).
/// What precedes the first start code is left out.
pub fn annex_b_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    annex_b_ranges(bytes).filter_map(|range| bytes.get(range))
}

/// The NAL units of a frame of length-prefixed ones; after an error there are no more.
pub fn length_prefixed_units(
    frame: &[u8],
    length_size: u8,
) -> impl Iterator<Item = Result<&[u8], NalError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= frame.len() {
            return None;
        }
        let unit = unit_at(frame, at, length_size);
        at = unit.map_or(frame.len(), |unit| at + usize::from(length_size) + unit.len());
        Some(unit)
    })
}

/// An Annex B frame with a length of 4 bytes in the place of each start code. In place, where the
/// start codes have 4 bytes too, as encoders mostly write them. A frame that is not Annex B
/// ([`is_annex_b_frame`]) comes back as it is.
pub fn to_length_prefixed(mut frame: Vec<u8>) -> Vec<u8> {
    if !is_annex_b_frame(&frame) {
        return frame;
    }
    let units: Vec<_> = annex_b_ranges(&frame).collect();
    let mut end = 0;
    let in_place = units.iter().all(|unit| {
        let begin = end + LENGTH_BYTES;
        end = unit.end;
        unit.start == begin
    }) && end == frame.len();
    if !in_place {
        return with_lengths(units.into_iter().filter_map(|unit| frame.get(unit)));
    }
    for unit in units {
        if let Some(place) = frame.get_mut(unit.start - LENGTH_BYTES..unit.start) {
            place.copy_from_slice(&length_of(unit.len()));
        }
    }
    frame
}

/// A frame of length-prefixed NAL units with a start code of 4 bytes in the place of each length.
/// In place, where lengths have 4 bytes.
pub fn to_annex_b(mut frame: Vec<u8>, length_size: u8) -> Result<Vec<u8>, NalError> {
    const START_CODE: [u8; LENGTH_BYTES] = [0, 0, 0, 1];
    if usize::from(length_size) != START_CODE.len() {
        let mut out = Vec::with_capacity(frame.len() + 16);
        for unit in length_prefixed_units(&frame, length_size) {
            out.extend(START_CODE);
            out.extend(unit?);
        }
        return Ok(out);
    }
    let mut at = 0;
    while at < frame.len() {
        let unit = unit_at(&frame, at, length_size)?.len();
        if let Some(place) = frame.get_mut(at..at + START_CODE.len()) {
            place.copy_from_slice(&START_CODE);
        }
        at += START_CODE.len() + unit;
    }
    Ok(frame)
}

/// A NAL unit without the bytes that only keep start codes out of it (H.264 §7.4.1.1).
pub(super) fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

fn with_lengths<'a>(units: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for unit in units {
        out.extend(length_of(unit.len()));
        out.extend_from_slice(unit);
    }
    out
}

/// Where the next 00 00 01 begins, at or after `from`.
fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(&[first, second, third]) = bytes.get(at..at + 3) {
        match (first, second, third) {
            (0, 0, 1) => return Some(at),
            // Neither this byte nor the next two can begin a start code.
            (_, _, 2..) => at += 3,
            _ => at += 1,
        }
    }
    None
}

fn length_of(unit: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(unit).unwrap_or(u32::MAX).to_be_bytes()
}

fn annex_b_ranges(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut next = start_code(bytes, 0);
    std::iter::from_fn(move || {
        let begin = next? + 3;
        next = start_code(bytes, begin);
        let unit = bytes.get(begin..next.unwrap_or(bytes.len())).unwrap_or_default();
        let len = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(begin..begin + len)
    })
    .filter(|unit| !unit.is_empty())
}

fn unit_at(frame: &[u8], at: usize, length_size: u8) -> Result<&[u8], NalError> {
    if !matches!(length_size, 1 | 2 | 4) {
        return Err(NalError::LengthSize { size: length_size });
    }
    let begin = at + usize::from(length_size);
    let length = frame.get(at..begin).ok_or(NalError::LengthCutShort { frame: frame.len() })?;
    let unit = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let end = begin.checked_add(unit);
    let beyond = NalError::BeyondFrame { at, unit, frame: frame.len() };
    end.and_then(|end| frame.get(begin..end)).ok_or(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_units_between_start_codes() {
        let check = |bytes: &[u8], expected: &[&[u8]]| {
            assert_eq!(annex_b_units(bytes).collect::<Vec<_>>(), expected, "{bytes:?}");
        };
        check(&[], &[]);
        check(&[1, 2, 3], &[]);
        check(&[0, 0, 1], &[]);
        check(&[0, 0, 1, 9], &[&[9]]);
        check(&[0, 0, 0, 1, 9, 8, 0, 0, 1, 7], &[&[9, 8], &[7]]);
        check(&[7, 0, 0, 1, 9, 0, 0, 0, 0, 1, 0, 0, 1, 8, 0, 0], &[&[9], &[8]]);
    }

    #[test]
    fn keeps_the_buffer_where_start_codes_have_4_bytes() {
        let check = |frame: &[u8], expected: &[u8], same_buffer: bool| {
            let frame = frame.to_vec();
            let before = frame.as_ptr();
            let after = to_length_prefixed(frame);
            assert_eq!(after, expected);
            assert_eq!(after.as_ptr() == before, same_buffer, "{expected:?}");
        };
        check(&[0, 0, 0, 1, 9, 8, 0, 0, 0, 1, 7], &[0, 0, 0, 2, 9, 8, 0, 0, 0, 1, 7], true);
        check(&[0, 0, 0, 1, 9, 8, 0, 0, 1, 7], &[0, 0, 0, 2, 9, 8, 0, 0, 0, 1, 7], false);
        check(&[0, 0, 0, 1, 9, 0, 0, 0, 0, 1, 7, 0], &[0, 0, 0, 1, 9, 0, 0, 0, 1, 7], false);
        check(&[0, 0, 0, 2, 9, 8], &[0, 0, 0, 2, 9, 8], true);
        // A unit of 258 bytes after its length, which looks like a start code and 2.
        let prefixed = [&[0, 0, 1, 2][..], &[9; 258]].concat();
        check(&prefixed, &prefixed, true);
    }

    #[test]
    fn refuses_lengths_that_do_not_fit() {
        let check = |frame: &[u8], size, expected| {
            assert_eq!(to_annex_b(frame.to_vec(), size), Err(expected));
        };
        check(&[0, 0, 0, 9, 1], 4, NalError::BeyondFrame { at: 0, unit: 9, frame: 5 });
        check(&[1, 5, 0xFF, 1], 1, NalError::BeyondFrame { at: 2, unit: 255, frame: 4 });
        check(&[0, 1, 5, 0], 2, NalError::LengthCutShort { frame: 4 });
        check(&[0, 0, 1, 5], 3, NalError::LengthSize { size: 3 });
    }

    proptest! {
        #[test]
        fn there_and_back(
            units in proptest::collection::vec(proptest::collection::vec(4..=255_u8, 2..200), 1..9),
            size in prop_oneof![Just(1_u8), Just(2), Just(4)],
        ) {
            let mut frame = Vec::new();
            for unit in &units {
                frame.extend((unit.len() as u32).to_be_bytes().iter().skip(4 - usize::from(size)));
                frame.extend(unit);
            }
            let annex_b = to_annex_b(frame.clone(), size).unwrap();
            prop_assert_eq!(annex_b_units(&annex_b).collect::<Vec<_>>(), units);
            let back = to_length_prefixed(annex_b);
            if size == 4 {
                prop_assert_eq!(back, frame);
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, size: u8) {
            let _ = to_annex_b(to_length_prefixed(bytes.clone()), 4);
            let _ = to_annex_b(bytes, size);
        }
    }
}
