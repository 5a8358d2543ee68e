//! A Matroska recording, read once through to learn its length, then sample by sample.

use super::recording::{Extent, Sample, choose};
use crate::commands::Failure;
use bytes::BytesMut;
use lookback_wire::matroska::{Event, Limits, Reader};
use lookback_wire::{Track, TrackKind, UploadHeader};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Read at once: large enough that system calls cost nothing.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub struct MatroskaFile {
    file: File,
    offset: u64,
    reader: Reader,
    /// Events of the end, once it was reached.
    last: Option<VecDeque<Event>>,
    timecode_scale_ns: u64,
    /// Numbers of the tracks that are sent, in the order of `tracks`.
    numbers: Vec<u64>,
    tracks: Vec<Track>,
    extent: Extent,
}

impl MatroskaFile {
    pub fn open(file: File) -> Result<Self, Failure> {
        let mut this = Self {
            file,
            offset: 0,
            reader: Reader::new(Limits::recording()),
            last: None,
            timecode_scale_ns: 1_000_000,
            numbers: Vec::new(),
            tracks: Vec::new(),
            extent: Extent { start_ms: 0, end_ms: 0 },
        };
        let header = loop {
            match this.next_event()? {
                Some(Event::Header(header)) => break header,
                Some(_) => {}
                None => return Err("it ends before its tracks".into()),
            }
        };
        this.take(&header)?;
        this.extent = this.measure()?;
        this.rewind()?;
        Ok(this)
    }

    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub fn next(&mut self) -> Result<Option<Sample>, Failure> {
        while let Some(event) = self.next_event()? {
            let Event::Frame(frame) = event else { continue };
            let Some(track) = self.numbers.iter().position(|number| *number == frame.track) else {
                continue;
            };
            let at_ns = i128::from(frame.timecode) * i128::from(self.timecode_scale_ns);
            return Ok(Some(Sample {
                track,
                at_ms: i64::try_from(at_ns.div_euclid(1_000_000))?,
                key: frame.key,
                data: frame.payload.to_bytes(),
            }));
        }
        Ok(None)
    }

    pub fn rewind(&mut self) -> Result<(), Failure> {
        self.offset = 0;
        self.reader = Reader::new(Limits::recording());
        self.last = None;
        Ok(())
    }

    fn take(&mut self, header: &UploadHeader) -> Result<(), Failure> {
        self.timecode_scale_ns = header.timecode_scale_ns;
        let chosen = choose(&header.tracks)?;
        self.tracks =
            chosen.iter().filter_map(|index| header.tracks.get(*index)).cloned().collect();
        self.numbers = self.tracks.iter().map(|track| track.number).collect();
        Ok(())
    }

    /// Reads all of it.
    fn measure(&mut self) -> Result<Extent, Failure> {
        let mut start_ms = None;
        let mut samples = 0i64;
        let (mut first_ms, mut last_ms) = (i64::MAX, i64::MIN);
        while let Some(sample) = self.next()? {
            if sample.track != 0 {
                continue;
            }
            let begins = sample.key || self.tracks.iter().all(|t| t.kind == TrackKind::Audio);
            if begins && start_ms.is_none() {
                start_ms = Some(sample.at_ms);
            }
            samples += 1;
            first_ms = first_ms.min(sample.at_ms);
            last_ms = last_ms.max(sample.at_ms);
        }
        let start_ms = start_ms.ok_or("it has no key frame")?;
        let interval_ms = last_ms.saturating_sub(first_ms).checked_div(samples - 1).unwrap_or(40);
        Ok(Extent { start_ms, end_ms: last_ms.saturating_add(interval_ms) })
    }

    fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(last) = &mut self.last {
                return Ok(last.pop_front());
            }
            if let Some(event) = self.reader.next()? {
                return Ok(Some(event));
            }
            let mut bytes = BytesMut::zeroed(READ_BYTES);
            let read = self.file.read_at(&mut bytes, self.offset)?;
            if read == 0 {
                self.last = Some(self.reader.finish()?.into());
                continue;
            }
            bytes.truncate(read);
            self.offset += read as u64;
            self.reader.push(bytes.freeze());
        }
    }
}
