//! Takes fragments away: whole chunk files, and single records out of files that hold others.
//!
//! The index comes first: rows go, and with them goes what they name from every read. A file in
//! which nothing is left is then unlinked. In one that stays, the head of what goes is written over
//! as VOID, durably, so that an index that is made again from the files does not have it either, and
//! the blocks are given back. What a crash leaves half done, the next start finishes.

use super::disk::{Disk, DiskFile};
use super::index::{FileState, Index};
use super::record::{Head, encode_void};
use super::recovery::head_before;
use super::writer::{file_path, stream_dir};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::embedded::lmdb::io_error;
use crate::storage::{ChunkFile, FragmentRecord, Location, Removed, Result};
use lookback_wire::{FragmentNumber, Timestamp};
use std::io;
use std::path::Path;

/// Rows of one transaction: the fragments that arrive meanwhile wait for it, some milliseconds, and
/// for each of them the disk is synced.
const ROWS_PER_COMMIT: usize = 1000;

/// The disk and the index, which change together.
pub struct Removal<'a> {
    pub disk: &'a dyn Disk,
    pub root: &'a Path,
    pub index: &'a Index,
    /// Called for each file before it is unlinked.
    pub gone: &'a (dyn Fn(StreamId, u64) + Sync),
}

/// The files of a stream in which everything arrived before `before`, but for those that are open
/// for appending.
pub fn files_before(index: &Index, stream: StreamId, before: Timestamp) -> Result<Vec<ChunkFile>> {
    let longest_ms = i64::from(index.longest_ms(stream)?);
    let files = index.files_of(stream)?.into_iter();
    let due = files.filter(|(_, _, row)| {
        row.state == FileState::Expired
            || row.state != FileState::Open && row.newest_arrival < before
    });
    Ok(due
        .map(|(_, number, row)| ChunkFile {
            number,
            newest_arrival: row.newest_arrival,
            range: TimeRange {
                start: row.first_start,
                end: row.last_start.plus_millis(longest_ms.saturating_add(1)),
            },
        })
        .collect())
}

impl Removal<'_> {
    /// Takes away what a file holds, but for what overlaps one of `spare`. Answers how many
    /// fragments went.
    pub fn expire(&self, stream: StreamId, number: u64, spare: &[TimeRange]) -> Result<u64> {
        let spared = |record: &FragmentRecord| spare.iter().any(|span| record.touches(span));
        Ok(self.remove_from(stream, number, |record| !spared(record))?.len() as u64)
    }

    /// Takes away the fragments up to number `last` that overlap `range` and none of `spare`.
    pub fn delete(
        &self,
        stream: StreamId,
        range: TimeRange,
        last: FragmentNumber,
        spare: &[TimeRange],
    ) -> Result<Removed> {
        let goes = |record: &FragmentRecord| {
            record.number <= last
                && record.touches(&range)
                && !spare.iter().any(|span| record.touches(span))
        };
        let longest_ms = i64::from(self.index.longest_ms(stream)?);
        let first = range.start.plus_millis(-longest_ms);
        let mut removed = Removed::default();
        for (_, number, row) in self.index.files_of(stream)? {
            if row.last_start < first || row.first_start >= range.end {
                continue;
            }
            for record in self.remove_from(stream, number, goes)? {
                removed.note(&record);
            }
        }
        Ok(removed)
    }

    fn remove_from(
        &self,
        stream: StreamId,
        number: u64,
        goes: impl Fn(&FragmentRecord) -> bool,
    ) -> Result<Vec<FragmentRecord>> {
        let Some(row) = self.index.file(stream, number)? else { return Ok(Vec::new()) };
        let all = self.index.fragments_in(stream, number)?;
        let count = all.len();
        let going: Vec<FragmentRecord> = all.into_iter().filter(goes).collect();
        if going.len() == count && row.state != FileState::Open {
            self.unlink(stream, number)?;
        } else if !going.is_empty() {
            for rows in going.chunks(ROWS_PER_COMMIT) {
                self.index.remove_from_file(stream, number, rows, true)?;
            }
            self.make_void(stream, number)?;
        }
        Ok(going)
    }

    /// Takes a file away, with all rows that name it.
    pub fn unlink(&self, stream: StreamId, number: u64) -> Result<()> {
        let all = self.index.fragments_in(stream, number)?;
        let (first, rest) = all.split_at(all.len().min(ROWS_PER_COMMIT));
        self.index.expire(stream, number, first)?;
        for rows in rest.chunks(ROWS_PER_COMMIT) {
            self.index.expire(stream, number, rows)?;
        }
        (self.gone)(stream, number);
        let path = file_path(self.root, stream, number);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path, &error));
            }
            _ => {}
        }
        let dir = stream_dir(self.root, stream);
        match self.disk.sync_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&dir, &error)),
            _ => self.index.forget_file(stream, number),
        }
    }

    /// Makes void all that was begun to be taken away when the service stopped.
    pub fn finish(&self) -> Result<()> {
        for (stream, number) in self.index.files_to_void()? {
            self.make_void(stream, number)?;
        }
        Ok(())
    }

    fn make_void(&self, stream: StreamId, number: u64) -> Result<()> {
        let path = file_path(self.root, stream, number);
        match self.disk.open(&path) {
            Ok(file) => write_voids(file.as_ref(), stream, &self.index.voids_in(stream, number)?)
                .map_err(|error| io_error(&path, &error))?,
            // With the file, all in it is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&path, &error)),
        }
        self.index.forget_voids(stream, number)
    }
}

/// Makes void the records whose bodies lie in a file at these places, which are sorted by offset.
pub fn write_voids(file: &dyn DiskFile, stream: StreamId, bodies: &[Location]) -> io::Result<()> {
    let mut stretches: Vec<(Head, u64)> = Vec::new();
    for location in bodies {
        // A head that cannot be read, nobody else can read either.
        let Some(head) = head_before(file, stream, *location)? else { continue };
        match stretches.last_mut() {
            Some((_, end)) if *end == head.place.offset => *end = head.end(),
            _ => stretches.push((head.clone(), head.end())),
        }
    }
    for (first, end) in &stretches {
        if let Some(void) = encode_void(first, *end) {
            file.write_at(&[void], first.place.offset)?;
        }
    }
    file.sync()?;
    for (first, end) in &stretches {
        file.punch(first.body_offset(), end.saturating_sub(first.body_offset()))?;
    }
    Ok(())
}
