//! Writes an upload: header, clusters of unknown size, blocks whose payloads are handed on, tags.
//!
//! What comes out is what [`super::Reader`] reads and Kinesis Video Streams accepts.

use super::element as el;
use crate::ebml::{Id, Vint, write_element, write_header};
use crate::{Payload, SimpleTag, Track, TrackKind, UploadHeader};
use bytes::Bytes;

/// What the Info element names as the muxer (RFC 9559 §5.1.2.13, required).
const MUXING_APP: &str = concat!("Lookback ", env!("CARGO_PKG_VERSION"));

/// EBML header, Segment of unknown size, Info and Tracks. What is 0, absent or none is left out.
pub fn header(header: &UploadHeader) -> Bytes {
    let mut out = Vec::new();
    master(&mut out, el::EBML, |ebml| {
        unsigned(ebml, el::EBML_VERSION, 1);
        unsigned(ebml, el::EBML_READ_VERSION, 1);
        unsigned(ebml, el::EBML_MAX_ID_LENGTH, 4);
        unsigned(ebml, el::EBML_MAX_SIZE_LENGTH, 8);
        write_element(ebml, el::DOC_TYPE, b"matroska");
        unsigned(ebml, el::DOC_TYPE_VERSION, 2);
        unsigned(ebml, el::DOC_TYPE_READ_VERSION, 2);
    });
    write_header(&mut out, el::SEGMENT, None);
    master(&mut out, el::INFO, |info| {
        if let Some(uid) = &header.segment_uid {
            write_element(info, el::SEGMENT_UID, uid);
        }
        unsigned(info, el::TIMECODE_SCALE, header.timecode_scale_ns);
        write_element(info, el::MUXING_APP, MUXING_APP.as_bytes());
        write_element(info, el::WRITING_APP, MUXING_APP.as_bytes());
    });
    // Tracks holds at least one (RFC 9559 §5.1.4.1).
    if !header.tracks.is_empty() {
        master(&mut out, el::TRACKS, |tracks| {
            for entry in &header.tracks {
                master(tracks, el::TRACK_ENTRY, |out| track(out, entry));
            }
        });
    }
    out.into()
}

/// A Cluster of unknown size and its Timecode.
pub fn cluster(timecode: u64) -> Bytes {
    let mut out = Vec::with_capacity(15);
    write_header(&mut out, el::CLUSTER, None);
    // Always 8 bytes, as Amazon's producers write it.
    write_element(&mut out, el::TIMECODE, &timecode.to_be_bytes());
    out.into()
}

/// A SimpleBlock's element header, block header and nothing else: the payload follows as it is.
/// `relative_timecode` counts from the cluster's.
pub fn simple_block(track: u64, relative_timecode: i16, key: bool, payload: &Payload) -> Bytes {
    let mut block = Vec::with_capacity(11);
    Vint::write(&mut block, track);
    block.extend(relative_timecode.to_be_bytes());
    block.push(if key { 0x80 } else { 0 });
    let mut out = Vec::with_capacity(16);
    write_header(&mut out, el::SIMPLE_BLOCK, Some((block.len() + payload.len()) as u64));
    out.extend(block);
    out.into()
}

/// One Tags element that holds these.
pub fn tags(tags: &[SimpleTag]) -> Bytes {
    let mut out = Vec::new();
    master(&mut out, el::TAGS, |out| {
        master(out, el::TAG, |out| {
            for tag in tags {
                master(out, el::SIMPLE_TAG, |out| {
                    write_element(out, el::TAG_NAME, tag.name.as_bytes());
                    write_element(out, el::TAG_STRING, tag.value.as_bytes());
                });
            }
        });
    });
    out.into()
}

fn track(out: &mut Vec<u8>, track: &Track) {
    unsigned(out, el::TRACK_NUMBER, track.number);
    unsigned(out, el::TRACK_UID, track.uid);
    let kind = match track.kind {
        TrackKind::Video => 1,
        TrackKind::Audio => 2,
    };
    unsigned(out, el::TRACK_TYPE, kind);
    if let Some(name) = &track.name {
        write_element(out, el::TRACK_NAME, name.as_bytes());
    }
    write_element(out, el::CODEC_ID, track.codec_id.as_bytes());
    if !track.codec_private.is_empty() {
        write_element(out, el::CODEC_PRIVATE, &track.codec_private);
    }
    if let Some(ns) = track.default_duration_ns {
        unsigned(out, el::DEFAULT_DURATION, ns);
    }
    match track.kind {
        TrackKind::Video => master(out, el::VIDEO, |out| {
            unsigned_unless_zero(out, el::PIXEL_WIDTH, track.width);
            unsigned_unless_zero(out, el::PIXEL_HEIGHT, track.height);
        }),
        TrackKind::Audio => master(out, el::AUDIO, |out| {
            if track.sampling_hz > 0.0 {
                write_element(out, el::SAMPLING_FREQUENCY, &track.sampling_hz.to_be_bytes());
            }
            unsigned_unless_zero(out, el::CHANNELS, track.channels);
            unsigned_unless_zero(out, el::BIT_DEPTH, track.bit_depth);
        }),
    }
}

fn master(out: &mut Vec<u8>, id: Id, children: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    children(&mut body);
    write_element(out, id, &body);
}

fn unsigned(out: &mut Vec<u8>, id: Id, value: u64) {
    let leading = (value.leading_zeros() as usize / 8).min(7);
    write_element(out, id, value.to_be_bytes().get(leading..).unwrap_or_default());
}

fn unsigned_unless_zero(out: &mut Vec<u8>, id: Id, value: u32) {
    if value != 0 {
        unsigned(out, id, value.into());
    }
}
