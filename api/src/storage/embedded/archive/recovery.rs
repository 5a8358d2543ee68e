//! What a start does before the first fragment is taken: compares files with the index, and makes
//! the index again where it is lost.
//!
//! An index row is written after its file is durable, so the only difference that a kill or a power
//! cut leaves is a tail that the index does not know. Complete records in it are kept, though never
//! acknowledged; the rest is cut off. Sealed files are not looked at: of all that is kept, a start
//! reads the index's pages and no more.

use super::disk::{Disk, DiskFile, read_exact_at};
use super::index::{FileRow, FileState, FileUpdate, Index, Row};
use super::record::{Content, FIXED_LEN, Head, MAX_HEAD, Place, TRAILER_LEN};
use super::removal::Removal;
use super::writer::{file_path, stream_dir};
use crate::id::{StreamId, Ulid};
use crate::storage::embedded::lmdb::io_error;
use crate::storage::{Location, Result};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

/// Rows of one index transaction while the index is made again.
const ROWS_PER_COMMIT: usize = 10_000;
/// Of each stream, the files whose bodies are checked while the index is made again: one group commit
/// reaches into no more than two, and all before them were complete. The others' bodies are checked
/// when they are first read.
const LAST_FILES: usize = 2;
/// Bodies are checked in pieces of this size.
const PIECE: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The largest file number in use.
    pub last_file: u64,
    /// The largest fragment number in use.
    pub last_number: u64,
    /// Whether the index was made again.
    pub rebuilt: bool,
    /// Fragments that the index did not know.
    pub added: u64,
    /// Bytes of torn tails.
    pub cut_bytes: u64,
}

/// Puts files and index in step. Where the index was lost no tail is cut off, since what cannot be
/// read may have been acknowledged.
pub fn recover(disk: &dyn Disk, root: &Path, index: &Index) -> Result<Recovered> {
    let rebuilding = !index.is_complete()?;
    let mut recovered = Recovered { rebuilt: rebuilding, ..Recovered::default() };
    let mut known: HashMap<(StreamId, u64), FileRow> = HashMap::new();
    let mut newest_known: HashMap<StreamId, u64> = HashMap::new();
    for (stream, number, row) in index.files()? {
        recovered.last_file = recovered.last_file.max(number);
        recovered.last_number = recovered.last_number.max(row.newest_number.0);
        known.insert((stream, number), row);
        // They come in order.
        newest_known.insert(stream, number);
    }
    let removal = Removal { disk, root, index, gone: &|_, _| {} };
    let mut updates = Vec::new();
    let mut waiting_rows = 0;
    for (stream, numbers) in files_on_disk(disk, root)? {
        let checked_from = numbers.len().saturating_sub(LAST_FILES);
        for (position, number) in numbers.into_iter().enumerate() {
            recovered.last_file = recovered.last_file.max(number);
            let path = file_path(root, stream, number);
            let row = known.remove(&(stream, number));
            let from = match row {
                Some(FileRow { state: FileState::Sealed | FileState::Doubtful, .. }) => continue,
                Some(FileRow { state: FileState::Expired, .. }) => {
                    removal.unlink(stream, number)?;
                    continue;
                }
                Some(row) => row.len,
                // Not what was begun last: it came from elsewhere. `check` names it.
                None if newest_known.get(&stream).is_some_and(|newest| number < *newest) => {
                    continue;
                }
                None => 0,
            };
            let check_bodies = !rebuilding || position >= checked_from;
            let found = take_tail(disk, root, (stream, number), from, check_bodies, rebuilding)
                .map_err(|error| io_error(&path, &error))?;
            recovered.cut_bytes += found.cut_bytes;
            let Some(update) = found.update else { continue };
            recovered.added += update.rows.len() as u64;
            for row in &update.rows {
                recovered.last_number = recovered.last_number.max(row.record.number.0);
            }
            waiting_rows += update.rows.len();
            updates.push(update);
            if waiting_rows >= ROWS_PER_COMMIT {
                index.commit(&updates)?;
                updates.clear();
                waiting_rows = 0;
            }
        }
    }
    index.commit(&updates)?;
    if rebuilding {
        index.mark_complete()?;
    }
    for ((stream, number), row) in known {
        if row.state == FileState::Expired {
            removal.unlink(stream, number)?;
        } else {
            let path = file_path(root, stream, number);
            tracing::error!(file = %path.display(), "a chunk file is missing");
        }
    }
    removal.finish()?;
    Ok(recovered)
}

/// The chunk files, by stream and number.
pub fn files_on_disk(disk: &dyn Disk, root: &Path) -> Result<BTreeMap<StreamId, Vec<u64>>> {
    let mut files = BTreeMap::new();
    for name in disk.list(root).map_err(|error| io_error(root, &error))? {
        let Ok(stream) = name.parse::<Ulid>().map(StreamId) else { continue };
        let dir = stream_dir(root, stream);
        let mut numbers: Vec<u64> = disk
            .list(&dir)
            .map_err(|error| io_error(&dir, &error))?
            .iter()
            .filter_map(|name| u64::from_str_radix(name.strip_suffix(".chunk")?, 16).ok())
            .collect();
        numbers.sort_unstable();
        files.insert(stream, numbers);
    }
    Ok(files)
}

struct Tail {
    update: Option<FileUpdate>,
    cut_bytes: u64,
}

/// Reads what a file holds beyond `from`, and makes it durable.
fn take_tail(
    disk: &dyn Disk,
    root: &Path,
    (stream, number): (StreamId, u64),
    from: u64,
    check_bodies: bool,
    rebuilding: bool,
) -> io::Result<Tail> {
    let path = file_path(root, stream, number);
    let file = disk.open(&path)?;
    let mut update = FileUpdate::of(stream, number, from);
    update.state = FileState::Doubtful;
    let mut records = Records::new(file.as_ref(), stream, number, from)?;
    while let Some(head) = records.next_head()? {
        let is_void = head.content == Content::Void;
        if check_bodies && !is_void && !body_is_whole(file.as_ref(), &head)? {
            records.distrust(&head);
            continue;
        }
        update.len = head.end();
        match head.content {
            Content::Init(id) => {
                let location =
                    Location { file: number, offset: head.body_offset(), len: head.body_len };
                update.inits.push((id, location));
            }
            Content::Void => {}
            Content::Fragment(fragment) => update
                .rows
                .push(Row { record: fragment.record, payload_hash: fragment.payload_hash }),
        }
    }
    let cut_bytes = file.size()?.saturating_sub(update.len);
    let dir = stream_dir(root, stream);
    if update.len == 0 {
        if !rebuilding {
            disk.remove(&path)?;
            disk.sync_dir(&dir)?;
        }
        return Ok(Tail { update: None, cut_bytes });
    }
    if cut_bytes > 0 && !rebuilding {
        file.truncate(update.len)?;
    }
    // What a kill left in the page cache must outlast a power cut before the index names it.
    file.sync()?;
    disk.sync_dir(&dir)?;
    disk.sync_dir(root)?;
    Ok(Tail { update: Some(update), cut_bytes })
}

/// Reads the records of a file in order; where one is damaged, goes on at the next that is whole.
#[derive(Debug)]
pub struct Records<'a> {
    file: &'a dyn DiskFile,
    stream: StreamId,
    number: u64,
    offset: u64,
    len: u64,
}

impl<'a> Records<'a> {
    pub fn new(
        file: &'a dyn DiskFile,
        stream: StreamId,
        number: u64,
        from: u64,
    ) -> io::Result<Self> {
        let len = file.size()?;
        Ok(Self { file, stream, number, offset: from, len })
    }

    /// The next record whose head is whole and whose body is inside of the file.
    pub fn next_head(&mut self) -> io::Result<Option<Head>> {
        while self.offset < self.len {
            if let Some(head) = self.head_at(self.offset)? {
                self.offset = head.end();
                return Ok(Some(head));
            }
            self.offset = self.next_candidate(self.offset + 1)?;
        }
        Ok(None)
    }

    /// Goes back to just after a head whose body is not what it says: the next record may begin
    /// inside of what it claims.
    fn distrust(&mut self, head: &Head) {
        self.offset = head.body_offset();
    }

    fn head_at(&self, offset: u64) -> io::Result<Option<Head>> {
        let Some(fixed) = read_exact_at(self.file, offset, FIXED_LEN)? else { return Ok(None) };
        let place = self.place(offset);
        let Some(len) = Head::announced_len(&fixed, place) else { return Ok(None) };
        let Some(bytes) = read_exact_at(self.file, offset, len)? else { return Ok(None) };
        Ok(Head::decode(&bytes, place).filter(|head| head.end() <= self.len))
    }

    /// Where the next head may begin, at or after `from`; the file's end where none does.
    fn next_candidate(&self, from: u64) -> io::Result<u64> {
        let mut at = from;
        let mut piece = vec![0; MAX_HEAD];
        while at < self.len {
            let read = self.file.read_at(&mut piece, at)?;
            let mut starts = (at..).zip(piece.get(..read).unwrap_or_default().windows(FIXED_LEN));
            let is_head = |fixed, offset| Head::announced_len(fixed, self.place(offset)).is_some();
            match starts.find(|(offset, fixed)| is_head(fixed, *offset)) {
                Some((offset, _)) => return Ok(offset),
                // The last bytes may begin one that the next piece ends.
                None if read >= FIXED_LEN => at += (read - FIXED_LEN + 1) as u64,
                None => break,
            }
        }
        Ok(self.len)
    }

    fn place(&self, offset: u64) -> Place {
        Place { stream: self.stream, file: self.number, offset }
    }
}

/// Whether a record's body has the checksum that its head names.
pub fn body_is_whole(file: &dyn DiskFile, head: &Head) -> io::Result<bool> {
    let mut left = head.body_len as usize;
    let mut offset = head.body_offset();
    let mut crc = 0;
    let mut piece = vec![0; left.min(PIECE)];
    while left > 0 {
        let len = left.min(PIECE);
        let Some(piece) = piece.get_mut(..len) else { return Ok(false) };
        if file.read_at(piece, offset)? != len {
            return Ok(false);
        }
        crc = crc32c::crc32c_append(crc, piece);
        offset += len as u64;
        left -= len;
    }
    Ok(crc == head.body_crc)
}

/// The head of the record whose body lies at `location`; `None` where there is none.
pub fn head_before(
    file: &dyn DiskFile,
    stream: StreamId,
    location: Location,
) -> io::Result<Option<Head>> {
    let Some(trailer) = location.offset.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    let Some(trailer) = read_exact_at(file, trailer, TRAILER_LEN)? else { return Ok(None) };
    let head_len = trailer.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    let Some(offset) = location.offset.checked_sub(u64::from(head_len)) else { return Ok(None) };
    if head_len as usize > MAX_HEAD {
        return Ok(None);
    }
    let Some(head) = read_exact_at(file, offset, head_len as usize)? else { return Ok(None) };
    Ok(Head::decode(&head, Place { stream, file: location.file, offset }))
}
