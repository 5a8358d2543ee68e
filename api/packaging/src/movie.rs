//! The movie box (ISO/IEC 14496-12 §8.2): what an initialization segment and a whole file say of
//! their tracks alike.

use crate::mp4::{put_box, put_full_box, put_u16, put_u32, put_u64};
use lookback_wire::TrackKind;

/// `mvhd`.
pub(crate) struct MovieHeader {
    pub timescale: u32,
    /// In `timescale`; 0 where fragments say.
    pub duration: u64,
    pub next_track_id: u32,
}

impl MovieHeader {
    pub fn put(&self, out: &mut Vec<u8>) {
        put_timed_box(out, b"mvhd", 0, self.duration, |out, put_duration| {
            put_u32(out, self.timescale);
            put_duration(out);
            put_u32(out, 0x0001_0000);
            put_u16(out, 0x0100);
            out.extend_from_slice(&[0; 10]);
            put_matrix(out);
            out.extend_from_slice(&[0; 24]);
            put_u32(out, self.next_track_id);
        });
    }
}

/// `trak`.
pub(crate) struct TrackBox {
    pub id: u32,
    pub kind: TrackKind,
    /// 0 for audio.
    pub width: u32,
    pub height: u32,
    /// Ticks a second.
    pub timescale: u32,
    /// In `timescale`; 0 where fragments say.
    pub media_duration: u64,
    /// In the movie's timescale; 0 where fragments say.
    pub duration: u64,
    pub edits: Vec<Edit>,
}

/// An entry of `elst` (ISO/IEC 14496-12 §8.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// In the movie's timescale; 0 where fragments say.
    pub duration: u64,
    /// What of the media it begins with, in the track's timescale; none where nothing is shown.
    pub media_time: Option<u64>,
}

impl TrackBox {
    /// `put_tables` writes what is in `stbl`.
    pub fn put(&self, out: &mut Vec<u8>, put_tables: impl FnOnce(&mut Vec<u8>)) {
        put_box(out, b"trak", |out| {
            // Enabled, in the movie, in previews.
            put_timed_box(out, b"tkhd", 7, self.duration, |out, put_duration| {
                put_u32(out, self.id);
                put_u32(out, 0);
                put_duration(out);
                put_u64(out, 0);
                put_u32(out, 0);
                put_u16(out, if self.kind == TrackKind::Audio { 0x0100 } else { 0 });
                put_u16(out, 0);
                put_matrix(out);
                put_u32(out, u32::from(saturate(self.width)) << 16);
                put_u32(out, u32::from(saturate(self.height)) << 16);
            });
            if !self.edits.is_empty() {
                put_box(out, b"edts", |out| put_edits(out, &self.edits));
            }
            put_box(out, b"mdia", |out| self.put_media(out, put_tables));
        });
    }

    fn put_media(&self, out: &mut Vec<u8>, put_tables: impl FnOnce(&mut Vec<u8>)) {
        put_timed_box(out, b"mdhd", 0, self.media_duration, |out, put_duration| {
            put_u32(out, self.timescale);
            put_duration(out);
            // "und", three letters of five bits.
            put_u16(out, 0x55c4);
            put_u16(out, 0);
        });
        put_full_box(out, b"hdlr", 0, 0, |out| {
            put_u32(out, 0);
            out.extend_from_slice(if self.kind == TrackKind::Video { b"vide" } else { b"soun" });
            out.extend_from_slice(&[0; 13]);
        });
        put_box(out, b"minf", |out| {
            match self.kind {
                TrackKind::Video => put_full_box(out, b"vmhd", 0, 1, |out| put_u64(out, 0)),
                TrackKind::Audio => put_full_box(out, b"smhd", 0, 0, |out| put_u32(out, 0)),
            }
            put_box(out, b"dinf", |out| {
                put_full_box(out, b"dref", 0, 0, |out| {
                    put_u32(out, 1);
                    // The media is in the same file.
                    put_full_box(out, b"url ", 0, 1, |_| {});
                });
            });
            put_box(out, b"stbl", put_tables);
        });
    }
}

/// A header that begins with when it was made and changed, which is left out, and has a duration:
/// version 1 where that takes 64 bits.
fn put_timed_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    flags: u32,
    duration: u64,
    put: impl FnOnce(&mut Vec<u8>, &dyn Fn(&mut Vec<u8>)),
) {
    match u32::try_from(duration) {
        Ok(duration) => put_full_box(out, kind, 0, flags, |out| {
            put_u64(out, 0);
            put(out, &|out| put_u32(out, duration));
        }),
        Err(_) => put_full_box(out, kind, 1, flags, |out| {
            out.extend_from_slice(&[0; 16]);
            put(out, &|out| put_u64(out, duration));
        }),
    }
}

fn put_edits(out: &mut Vec<u8>, edits: &[Edit]) {
    put_full_box(out, b"elst", 1, 0, |out| {
        put_u32(out, u32::try_from(edits.len()).unwrap_or(u32::MAX));
        for edit in edits {
            put_u64(out, edit.duration);
            // -1 is for an empty edit.
            put_u64(out, edit.media_time.map_or(u64::MAX, |time| time.min(i64::MAX as u64)));
            put_u32(out, 0x0001_0000);
        }
    });
}

/// The identity transformation.
fn put_matrix(out: &mut Vec<u8>) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        put_u32(out, value);
    }
}

pub(crate) fn saturate(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
