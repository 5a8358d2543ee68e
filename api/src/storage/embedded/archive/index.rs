//! The index of the chunk files, in LMDB: everything in it can be made again from the files.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `version` | u32; absent until the index is complete |
//! | `streams` | stream | [`StreamRow`] |
//! | `fragments` | stream, start, number | [`Row`] |
//! | `numbers` | stream, number | start, time of arrival |
//! | `runs` | stream, start | [`Run`] |
//! | `files` | stream, file number | [`FileRow`] |
//! | `inits` | stream, init, file number | where the INIT record's body lies |
//! | `voids` | stream, file number, offset of the body | the body's length; of fragments whose rows are gone and whose records are not void yet |
//!
//! Streams are 16 bytes, other numbers in keys 8 bytes big-endian, instants with their sign bit
//! turned, so that keys sort as times do.

use super::fields::{Fields, put, put_signed};
use super::record::{get_times_and_tracks, put_times_and_tracks};
use crate::id::{StreamId, Ulid};
use crate::segment::TimeRange;
use crate::storage::embedded::lmdb::{
    self, Durability, Table, first_from, last_up_to, time_from_key, time_key,
};
use crate::storage::{
    FragmentQuery, FragmentRecord, InitId, Location, RUN_TOLERANCE_MS, RangeBy, Result, Run,
    StorageError, TimeOrder, first_number_at,
};
use heed::{Env, RoTxn, RwTxn};
use lookback_wire::{FragmentNumber, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Bound;
use std::path::Path;

/// Of the tables above. An index of another version is made again from the files.
const VERSION: u32 = 3;

/// Records that room is made for before they are read: a day of 1 s, 14 MB. More than that grows.
const MAX_RESERVED: usize = 86_400;

/// One is enough to make the index again; more of them tell what happened to it.
const MAX_CONTRADICTIONS: usize = 100;

#[derive(Debug)]
pub struct Index {
    env: Env,
    meta: Table,
    streams: Table,
    fragments: Table,
    numbers: Table,
    runs: Table,
    files: Table,
    inits: Table,
    voids: Table,
}

/// A fragment as the index keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub record: FragmentRecord,
    pub payload_hash: [u8; 16],
}

/// Where a chunk file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// May still grow: the server that began it runs, or it stopped without saying so.
    Open = 0,
    Sealed = 1,
    /// Was open when the server stopped uncleanly: what is in it is checked before it is served.
    Doubtful = 2,
    /// Is being taken away, with all rows that name it.
    Expired = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRow {
    pub state: FileState,
    /// Up to here it is indexed.
    pub len: u64,
    pub fragments: u64,
    pub newest_arrival: Timestamp,
    /// The span of its fragments' starts.
    pub first_start: Timestamp,
    pub last_start: Timestamp,
    pub newest_number: FragmentNumber,
}

/// What a group commit adds to one file.
#[derive(Debug)]
pub struct FileUpdate {
    pub stream: StreamId,
    pub file: u64,
    pub state: FileState,
    /// The file's length with what is added.
    pub len: u64,
    pub rows: Vec<Row>,
    pub inits: Vec<(InitId, Location)>,
}

impl FileUpdate {
    /// Nothing yet, to a file that is `len` long.
    pub fn of(stream: StreamId, file: u64, len: u64) -> Self {
        let state = FileState::Open;
        Self { stream, file, state, len, rows: Vec::new(), inits: Vec::new() }
    }
}

impl Index {
    /// Opens the index, or makes an empty one. `Damaged` where it must be made again.
    pub fn open(dir: &Path, durability: Durability) -> Result<Self> {
        let names = ["meta", "streams", "fragments", "numbers", "runs", "files", "inits", "voids"];
        let (env, [meta, streams, fragments, numbers, runs, files, inits, voids]) =
            lmdb::open(dir, names, durability)?;
        let index = Self { env, meta, streams, fragments, numbers, runs, files, inits, voids };
        match index.version()? {
            Some(version) if version != VERSION.to_le_bytes() => Err(StorageError::Damaged(
                format!("the index is of version {version:?}, not {VERSION}"),
            )),
            _ => Ok(index),
        }
    }

    fn version(&self) -> Result<Option<Vec<u8>>> {
        let txn = self.env.read_txn()?;
        Ok(self.meta.get(&txn, b"version")?.map(<[u8]>::to_vec))
    }

    /// Whether everything that the files held when it was made is in it: until then it says nothing
    /// about what is missing.
    pub fn is_complete(&self) -> Result<bool> {
        Ok(self.version()?.is_some())
    }

    pub fn mark_complete(&self) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.meta.put(&mut txn, b"version", &VERSION.to_le_bytes())?;
        Ok(txn.commit()?)
    }

    /// Adds what a group commit wrote, durably. Rows whose start and payload are there are left out.
    pub fn commit<'a>(&self, updates: impl IntoIterator<Item = &'a FileUpdate>) -> Result<()> {
        let mut updates = updates.into_iter().peekable();
        if updates.peek().is_none() {
            return Ok(());
        }
        let mut txn = self.env.write_txn()?;
        for update in updates {
            self.add(&mut txn, update)?;
        }
        Ok(txn.commit()?)
    }

    fn add(&self, txn: &mut RwTxn, update: &FileUpdate) -> Result<()> {
        let stream = update.stream.0.to_be_bytes();
        let key = pair_key(update.stream, update.file);
        let mut file = match self.files.get(txn, &key)? {
            Some(value) => FileRow::decode(value).ok_or_else(|| damaged("a file's row"))?,
            None => FileRow::empty(),
        };
        file.state = update.state;
        file.len = update.len;
        let of_stream_before = self.stream_row(txn, update.stream)?;
        let mut of_stream = of_stream_before;
        for row in &update.rows {
            let record = &row.record;
            if self.same(txn, update.stream, record.start, &row.payload_hash)?.is_some() {
                continue;
            }
            let key = fragment_key(update.stream, record.start, record.number);
            self.fragments.put(txn, &key, &row.encode())?;
            let number = pair_key(update.stream, record.number.0);
            self.numbers.put(txn, &number, &number_value(record))?;
            self.add_to_runs(txn, update.stream, record)?;
            file.note(record);
            of_stream.get_or_insert_default().note(record);
        }
        if let Some(row) = of_stream.filter(|_| of_stream != of_stream_before) {
            self.streams.put(txn, &stream, &row.encode())?;
        }
        for (init, location) in &update.inits {
            let mut value = Vec::new();
            put(&mut value, location.offset);
            put(&mut value, u64::from(location.len));
            self.inits.put(txn, &init_key(update.stream, *init, update.file), &value)?;
        }
        Ok(self.files.put(txn, &key, &file.encode())?)
    }

    /// Sets a file's state, durably. A file that is not known is left alone.
    pub fn set_state(&self, files: &[(StreamId, u64)], state: FileState) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for &(stream, number) in files {
            let key = pair_key(stream, number);
            let Some(row) = self.files.get(&txn, &key)?.and_then(FileRow::decode) else { continue };
            self.files.put(&mut txn, &key, &FileRow { state, ..row }.encode())?;
        }
        Ok(txn.commit()?)
    }

    /// Begins to take a file away, or goes on with it, durably: `rows`, which are sorted by start, go
    /// now, its inits too, and the next start would finish the rest.
    pub fn expire(&self, stream: StreamId, number: u64, rows: &[FragmentRecord]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.take_rows(&mut txn, stream, number, rows, Some(FileState::Expired))?;
        for (id, location) in self.inits_of(&txn, stream)? {
            if location.file == number {
                self.inits.delete(&mut txn, &init_key(stream, id, number))?;
            }
        }
        Ok(txn.commit()?)
    }

    /// Forgets a file that is no longer there.
    pub fn forget_file(&self, stream: StreamId, number: u64) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        let key = pair_key(stream, number);
        self.files.delete(&mut txn, &key)?;
        self.delete_voids(&mut txn, &key)?;
        Ok(txn.commit()?)
    }

    /// Takes fragments out of a file that stays, durably; `rows` sorted by start. With `to_void`,
    /// notes that their records are to be made void.
    pub fn remove_from_file(
        &self,
        stream: StreamId,
        number: u64,
        rows: &[FragmentRecord],
        to_void: bool,
    ) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.take_rows(&mut txn, stream, number, rows, None)?;
        for Location { offset, len, .. } in rows.iter().filter(|_| to_void).map(|row| row.location)
        {
            let key = [&pair_key(stream, number)[..], &offset.to_be_bytes()].concat();
            self.voids.put(&mut txn, &key, &len.to_le_bytes())?;
        }
        Ok(txn.commit()?)
    }

    fn take_rows(
        &self,
        txn: &mut RwTxn,
        stream: StreamId,
        number: u64,
        rows: &[FragmentRecord],
        state: Option<FileState>,
    ) -> Result<()> {
        self.remove_rows(txn, stream, rows)?;
        let key = pair_key(stream, number);
        if let Some(mut file) = self.files.get(txn, &key)?.and_then(FileRow::decode) {
            file.fragments = file.fragments.saturating_sub(rows.len() as u64);
            file.state = state.unwrap_or(file.state);
            self.files.put(txn, &key, &file.encode())?;
        }
        Ok(())
    }

    /// Files with records that are to be made void.
    pub fn files_to_void(&self) -> Result<Vec<(StreamId, u64)>> {
        let txn = self.env.read_txn()?;
        let mut files = Vec::new();
        for entry in self.voids.iter(&txn)? {
            let (stream, Location { file, .. }) = decode_void(entry?)?;
            if files.last() != Some(&(stream, file)) {
                files.push((stream, file));
            }
        }
        Ok(files)
    }

    /// Bodies of one file whose records are to be made void, by offset.
    pub fn voids_in(&self, stream: StreamId, number: u64) -> Result<Vec<Location>> {
        let txn = self.env.read_txn()?;
        let mut voids = Vec::new();
        for entry in self.voids.prefix_iter(&txn, &pair_key(stream, number))? {
            voids.push(decode_void(entry?)?.1);
        }
        Ok(voids)
    }

    /// Notes that the records of a file that were to be made void are.
    pub fn forget_voids(&self, stream: StreamId, number: u64) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.delete_voids(&mut txn, &pair_key(stream, number))?;
        Ok(txn.commit()?)
    }

    fn delete_voids(&self, txn: &mut RwTxn, file: &[u8; 24]) -> Result<()> {
        let first = [&file[..], &[0; 8]].concat();
        let last = [&file[..], &[0xff; 8]].concat();
        self.voids.delete_range(txn, &inclusive(&first, &last))?;
        Ok(())
    }

    /// No fragment of the stream is longer.
    pub fn longest_ms(&self, stream: StreamId) -> Result<u32> {
        let txn = self.env.read_txn()?;
        Ok(self.stream_row(&txn, stream)?.map_or(0, |row| row.longest_ms))
    }

    pub fn file(&self, stream: StreamId, number: u64) -> Result<Option<FileRow>> {
        let txn = self.env.read_txn()?;
        Ok(self.files.get(&txn, &pair_key(stream, number))?.and_then(FileRow::decode))
    }

    /// The bodies of all of a stream's fragments, in bytes.
    pub fn stored_bytes(&self, stream: StreamId) -> Result<u64> {
        let txn = self.env.read_txn()?;
        Ok(self.stream_row(&txn, stream)?.map_or(0, |row| row.bytes))
    }

    /// `rows` sorted by start.
    fn remove_rows(
        &self,
        txn: &mut RwTxn,
        stream: StreamId,
        rows: &[FragmentRecord],
    ) -> Result<()> {
        for row in rows {
            self.fragments.delete(txn, &fragment_key(stream, row.start, row.number))?;
            self.numbers.delete(txn, &pair_key(stream, row.number.0))?;
        }
        self.remove_from_runs(txn, stream, rows)?;
        let prefix = stream.0.to_be_bytes();
        if first_from(self.fragments, txn, &prefix, &prefix)?.is_none() {
            self.streams.delete(txn, &prefix)?;
        } else if let Some(mut row) = self.stream_row(txn, stream)? {
            let removed = rows.iter().map(|row| u64::from(row.location.len)).sum();
            row.bytes = row.bytes.saturating_sub(removed);
            self.streams.put(txn, &prefix, &row.encode())?;
        }
        Ok(())
    }

    fn rows_of_file(
        &self,
        txn: &RoTxn,
        stream: StreamId,
        number: u64,
        file: &FileRow,
    ) -> Result<Vec<FragmentRecord>> {
        let from = fragment_key(stream, file.first_start, FragmentNumber(0));
        let to = fragment_key(stream, file.last_start, FragmentNumber(u64::MAX));
        let mut rows = Vec::new();
        for entry in self.fragments.range(txn, &inclusive(&from, &to))? {
            let row = decode_row(entry?)?;
            if row.record.location.file == number {
                rows.push(row.record);
            }
        }
        Ok(rows)
    }

    /// The number of the fragment of that start and payload.
    pub fn find_same(
        &self,
        stream: StreamId,
        start: Timestamp,
        payload_hash: &[u8; 16],
    ) -> Result<Option<FragmentNumber>> {
        let txn = self.env.read_txn()?;
        self.same(&txn, stream, start, payload_hash)
    }

    fn same(
        &self,
        txn: &RoTxn,
        stream: StreamId,
        start: Timestamp,
        payload_hash: &[u8; 16],
    ) -> Result<Option<FragmentNumber>> {
        let key = fragment_key(stream, start, FragmentNumber(0));
        for entry in self.fragments.prefix_iter(txn, &key[..24])? {
            let row = decode_row(entry?)?;
            if row.payload_hash == *payload_hash {
                return Ok(Some(row.record.number));
            }
        }
        Ok(None)
    }

    fn stream_row(&self, txn: &RoTxn, stream: StreamId) -> Result<Option<StreamRow>> {
        let value = self.streams.get(txn, &stream.0.to_be_bytes())?;
        value
            .map(|value| StreamRow::decode(value).ok_or_else(|| damaged("a stream's row")))
            .transpose()
    }

    pub fn fragments(
        &self,
        stream: StreamId,
        query: &FragmentQuery,
    ) -> Result<Vec<FragmentRecord>> {
        let txn = self.env.read_txn()?;
        let Some(of_stream) = self.stream_row(&txn, stream)? else { return Ok(Vec::new()) };
        if let RangeBy::Arrival { after } = query.by {
            return self.arrived(&txn, stream, query, after, of_stream.most_ahead_ms);
        }
        let first = query.range.start.plus_millis(-i64::from(of_stream.longest_ms));
        let from = fragment_key(stream, first, FragmentNumber(0));
        let to = fragment_key(stream, query.range.end, FragmentNumber(0));
        if from >= to {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut found = Newest::new(query, of_stream.longest_ms);
        match query.order {
            TimeOrder::OldestFirst => {
                for entry in self.fragments.range(&txn, &bounds)? {
                    if !found.take(entry?)? {
                        break;
                    }
                }
            }
            TimeOrder::NewestFirst => {
                for entry in self.fragments.rev_range(&txn, &bounds)? {
                    if !found.take(entry?)? {
                        break;
                    }
                }
            }
        }
        Ok(found.found)
    }

    /// Numbers follow the clock, but go on rising where it is set back: until it has caught up, those
    /// that are given out are ahead of it, by `most_ahead_ms` at most.
    fn arrived(
        &self,
        txn: &RoTxn,
        stream: StreamId,
        query: &FragmentQuery,
        after: Option<FragmentNumber>,
        most_ahead_ms: i64,
    ) -> Result<Vec<FragmentRecord>> {
        let mut from = first_number_at(query.range.start).0;
        let mut to = first_number_at(query.range.end.plus_millis(most_ahead_ms)).0;
        match (after, query.order) {
            (Some(after), TimeOrder::OldestFirst) => from = from.max(after.0.saturating_add(1)),
            (Some(after), TimeOrder::NewestFirst) => to = to.min(after.0),
            (None, _) => {}
        }
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        let (from, to) = (pair_key(stream, from), pair_key(stream, to));
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        // Answers whether more are wanted.
        let mut take = |entry: (&[u8], &[u8])| -> Result<bool> {
            if found.len() >= query.limit {
                return Ok(false);
            }
            let (number, start, arrived_at) = decode_number(entry)?;
            if query.range.start <= arrived_at && arrived_at < query.range.end {
                found.extend(self.row(txn, stream, start, number)?.map(|row| row.record));
            }
            Ok(true)
        };
        match query.order {
            TimeOrder::OldestFirst => {
                for entry in self.numbers.range(txn, &bounds)? {
                    if !take(entry?)? {
                        break;
                    }
                }
            }
            TimeOrder::NewestFirst => {
                for entry in self.numbers.rev_range(txn, &bounds)? {
                    if !take(entry?)? {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    pub fn fragments_by_number(
        &self,
        stream: StreamId,
        numbers: &[FragmentNumber],
    ) -> Result<Vec<Option<FragmentRecord>>> {
        let txn = self.env.read_txn()?;
        let find = |number: &FragmentNumber| {
            let key = pair_key(stream, number.0);
            let Some(times) = self.numbers.get(&txn, &key)? else { return Ok(None) };
            let (number, start, _) = decode_number((&key, times))?;
            Ok(self.row(&txn, stream, start, number)?.map(|row| row.record))
        };
        numbers.iter().map(find).collect()
    }

    pub fn fragment(
        &self,
        stream: StreamId,
        start: Timestamp,
        number: FragmentNumber,
    ) -> Result<Option<Row>> {
        self.row(&*self.env.read_txn()?, stream, start, number)
    }

    fn row(
        &self,
        txn: &RoTxn,
        stream: StreamId,
        start: Timestamp,
        number: FragmentNumber,
    ) -> Result<Option<Row>> {
        let key = fragment_key(stream, start, number);
        self.fragments.get(txn, &key)?.map(|value| decode_row((&key, value))).transpose()
    }

    pub fn newest(&self, stream: StreamId) -> Result<Option<FragmentRecord>> {
        let txn = self.env.read_txn()?;
        let last = fragment_key(stream, Timestamp::from_millis(i64::MAX), FragmentNumber(u64::MAX));
        let found = last_up_to(self.fragments, &txn, &last[..16], &last)?;
        Ok(found.map(decode_row).transpose()?.map(|row| row.record))
    }

    pub fn extent(&self, stream: StreamId) -> Result<Option<TimeRange>> {
        let txn = self.env.read_txn()?;
        let prefix = stream.0.to_be_bytes();
        let Some(first) = first_from(self.runs, &txn, &prefix, &prefix)? else { return Ok(None) };
        let last = run_key(stream, Timestamp::from_millis(i64::MAX));
        let Some(last) = last_up_to(self.runs, &txn, &prefix, &last)? else { return Ok(None) };
        let (first, last) = (decode_run(first)?, decode_run(last)?);
        Ok(Some(TimeRange { start: first.range.start, end: last.range.end }))
    }

    pub fn runs(&self, stream: StreamId, range: TimeRange, limit: usize) -> Result<Vec<Run>> {
        let txn = self.env.read_txn()?;
        let prefix = stream.0.to_be_bytes();
        let key = run_key(stream, range.start);
        let mut runs = Vec::new();
        if let Some(entry) = last_up_to(self.runs, &txn, &prefix, &key)? {
            runs.push(decode_run(entry)?);
        }
        let bounds = (Bound::Excluded(&key[..]), Bound::Unbounded);
        for entry in self.runs.range(&txn, &bounds)? {
            let (key, value) = entry?;
            if runs.len() > limit || !key.starts_with(&prefix) {
                break;
            }
            let run = decode_run((key, value))?;
            if run.range.start >= range.end {
                break;
            }
            runs.push(run);
        }
        runs.retain(|run| run.range.overlaps(&range));
        runs.truncate(limit);
        Ok(runs)
    }

    /// Where an init lies; the newest copy.
    pub fn init(&self, stream: StreamId, id: InitId) -> Result<Option<Location>> {
        let txn = self.env.read_txn()?;
        let last = init_key(stream, id, u64::MAX);
        let found = last_up_to(self.inits, &txn, &last[..24], &last)?;
        Ok(found.map(decode_init).transpose()?.map(|(_, location)| location))
    }

    pub fn streams(&self) -> Result<Vec<StreamId>> {
        let txn = self.env.read_txn()?;
        let mut streams = Vec::new();
        for entry in self.streams.iter(&txn)? {
            let (key, _) = entry?;
            streams.extend(key.try_into().ok().map(|id| StreamId(Ulid::from_be_bytes(id))));
        }
        Ok(streams)
    }

    /// Every file that is known, by stream and number.
    pub fn files(&self) -> Result<Vec<(StreamId, u64, FileRow)>> {
        self.files_from(&[])
    }

    pub fn files_of(&self, stream: StreamId) -> Result<Vec<(StreamId, u64, FileRow)>> {
        self.files_from(&stream.0.to_be_bytes())
    }

    fn files_from(&self, prefix: &[u8]) -> Result<Vec<(StreamId, u64, FileRow)>> {
        let txn = self.env.read_txn()?;
        let mut files = Vec::new();
        let mut note = |(key, value): (&[u8], &[u8])| {
            let mut fields = Fields(key);
            let stream = StreamId(Ulid::from_be_bytes(fields.array()?));
            let number = u64::from_be_bytes(fields.array()?);
            files.push((stream, number, FileRow::decode(value)?));
            Some(())
        };
        // LMDB refuses the empty prefix.
        let from =
            (Bound::Included(if prefix.is_empty() { &[0][..] } else { prefix }), Bound::Unbounded);
        for entry in self.files.range(&txn, &from)? {
            let entry = entry?;
            if !entry.0.starts_with(prefix) {
                break;
            }
            note(entry).ok_or_else(|| damaged("a file's row"))?;
        }
        Ok(files)
    }

    /// The rows of one file, by start.
    pub fn fragments_in(&self, stream: StreamId, number: u64) -> Result<Vec<FragmentRecord>> {
        let txn = self.env.read_txn()?;
        let key = pair_key(stream, number);
        let Some(row) = self.files.get(&txn, &key)?.and_then(FileRow::decode) else {
            return Ok(Vec::new());
        };
        self.rows_of_file(&txn, stream, number, &row)
    }

    /// Where the inits lie that a file holds.
    pub fn inits_in(&self, stream: StreamId, number: u64) -> Result<Vec<(InitId, Location)>> {
        let txn = self.env.read_txn()?;
        let mut inits = self.inits_of(&txn, stream)?;
        inits.retain(|(_, location)| location.file == number);
        Ok(inits)
    }

    fn inits_of(&self, txn: &RoTxn, stream: StreamId) -> Result<Vec<(InitId, Location)>> {
        let inits = self.inits.prefix_iter(txn, &stream.0.to_be_bytes())?;
        inits.map(|entry| decode_init(entry?)).collect()
    }

    pub fn remove_init(&self, stream: StreamId, id: InitId, file: u64) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.inits.delete(&mut txn, &init_key(stream, id, file))?;
        Ok(txn.commit()?)
    }

    /// A stream's runs, and what they should be by its fragments.
    pub fn runs_with_expected(&self, stream: StreamId) -> Result<(Vec<Run>, Vec<Run>)> {
        let txn = self.env.read_txn()?;
        let prefix = stream.0.to_be_bytes();
        let mut found = Vec::new();
        for entry in self.runs.prefix_iter(&txn, &prefix)? {
            found.push(decode_run(entry?)?);
        }
        let mut expected: Vec<Run> = Vec::new();
        for entry in self.fragments.prefix_iter(&txn, &prefix)? {
            let next = Run::of(&decode_row(entry?)?.record);
            match expected.last_mut() {
                Some(last) if last.touches(&next) => last.absorb(&next),
                _ => expected.push(next),
            }
        }
        Ok((found, expected))
    }

    /// Where the tables do not say what the others do, in words; the first of them.
    pub fn contradictions(&self) -> Result<Vec<String>> {
        let files: HashMap<_, _> =
            self.files()?.into_iter().map(|(stream, file, row)| ((stream, file), row)).collect();
        let txn = self.env.read_txn()?;
        let mut found = Vec::new();
        let mut streams: HashMap<StreamId, (StreamRow, u64)> = HashMap::new();
        for entry in self.fragments.iter(&txn)? {
            if found.len() >= MAX_CONTRADICTIONS {
                return Ok(found);
            }
            let (key, value) = entry?;
            let stream = stream_of(key)?;
            let record = decode_row((key, value))?.record;
            let FragmentRecord { number, start, location, .. } = record;
            let fragment = || format!("fragment {number} of {stream}, {start}, ");
            match files.get(&(stream, location.file)) {
                Some(file) if !file.covers(&record) => {
                    found.push(fragment() + "lies outside of what is said of its file");
                }
                None => found.push(fragment() + &format!("has no file {:016x}", location.file)),
                Some(_) => {}
            }
            let times = self.numbers.get(&txn, &pair_key(stream, number.0))?;
            if times != Some(&number_value(&record)) {
                found.push(fragment() + "is not found by its number");
            }
            let (known, bytes) = match streams.entry(stream) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert((self.stream_row(&txn, stream)?.unwrap_or_default(), 0))
                }
            };
            *bytes = bytes.saturating_add(u64::from(location.len));
            if !known.covers(&record) {
                found.push(fragment() + "lies outside of what is said of its stream");
            }
        }
        for (stream, (known, bytes)) in streams {
            if known.bytes != bytes {
                found.push(format!("{stream} has {bytes} bytes and not {}", known.bytes));
            }
        }
        let (fragments, numbers) = (self.fragments.len(&txn)?, self.numbers.len(&txn)?);
        if fragments != numbers {
            found.push(format!("{fragments} fragments have {numbers} numbers"));
        }
        for entry in self.inits.iter(&txn)? {
            let (key, value) = entry?;
            let (stream, file) = (stream_of(key)?, decode_init((key, value))?.1.file);
            if !files.contains_key(&(stream, file)) {
                found
                    .push(format!("an initialization segment of {stream} has no file {file:016x}"));
            }
        }
        drop(txn);
        for stream in self.streams()? {
            let (runs, expected) = self.runs_with_expected(stream)?;
            if runs != expected {
                found.push(format!("the runs of {stream} are not what its fragments come to"));
            }
        }
        Ok(found)
    }

    fn add_to_runs(
        &self,
        txn: &mut RwTxn,
        stream: StreamId,
        record: &FragmentRecord,
    ) -> Result<()> {
        let prefix = stream.0.to_be_bytes();
        let mut run = Run::of(record);
        let before = last_up_to(self.runs, txn, &prefix, &run_key(stream, run.range.start))?;
        if let Some(before) = before.map(decode_run).transpose()?
            && before.touches(&run)
        {
            self.runs.delete(txn, &run_key(stream, before.range.start))?;
            run.absorb(&before);
        }
        loop {
            let key = run_key(stream, run.range.start);
            let Some(after) = first_from(self.runs, txn, &prefix, &key)? else { break };
            let after = decode_run(after)?;
            if !run.touches(&after) {
                break;
            }
            self.runs.delete(txn, &run_key(stream, after.range.start))?;
            run.absorb(&after);
        }
        self.put_run(txn, stream, &run)
    }

    fn put_run(&self, txn: &mut RwTxn, stream: StreamId, run: &Run) -> Result<()> {
        let mut value = Vec::new();
        put(&mut value, run.range.millis() as u64);
        put(&mut value, run.bytes);
        put(&mut value, run.fragments);
        put_signed(&mut value, run.arrived_at.as_millis());
        Ok(self.runs.put(txn, &run_key(stream, run.range.start), &value)?)
    }

    /// Shrinks or splits the runs that `removed` was part of; its rows are gone already. Looks only
    /// at what lies between a run's start and the last removed fragment: when the oldest file goes,
    /// that is next to nothing.
    fn remove_from_runs(
        &self,
        txn: &mut RwTxn,
        stream: StreamId,
        mut removed: &[FragmentRecord],
    ) -> Result<()> {
        let prefix = stream.0.to_be_bytes();
        while let Some(first) = removed.first() {
            let found = last_up_to(self.runs, txn, &prefix, &run_key(stream, first.start))?;
            let Some(run) = found.map(decode_run).transpose()? else {
                return Err(damaged("a fragment outside of any run"));
            };
            let count = removed.partition_point(|row| row.start <= run.range.end).max(1);
            let (from_run, rest) = removed.split_at(count);
            removed = rest;
            self.runs.delete(txn, &run_key(stream, run.range.start))?;
            for part in self.without(txn, stream, &run, from_run)? {
                self.put_run(txn, stream, &part)?;
            }
        }
        Ok(())
    }

    /// What is left of `run` without `removed`.
    fn without(
        &self,
        txn: &RoTxn,
        stream: StreamId,
        run: &Run,
        removed: &[FragmentRecord],
    ) -> Result<Vec<Run>> {
        let bytes = |row: &FragmentRecord| u64::from(row.location.len);
        let mut left_fragments = run.fragments.saturating_sub(removed.len() as u64);
        let mut left_bytes = run.bytes.saturating_sub(removed.iter().map(bytes).sum());
        let removed_end = removed.iter().map(|row| row.range().end).max();
        // Beyond this nothing changes, unless the newest arrival is not there but before it or gone:
        // then only a look at all of them tells which is the newest.
        let changed_up_to = removed_end
            .filter(|_| removed.iter().all(|row| row.arrived_at < run.arrived_at))
            .unwrap_or(Timestamp::from_millis(i64::MAX));
        let mut parts: Vec<Run> = Vec::new();
        if left_fragments == 0 {
            return Ok(parts);
        }
        let from = fragment_key(stream, run.range.start, FragmentNumber(0));
        let to = fragment_key(stream, run.range.end, FragmentNumber(u64::MAX));
        for entry in self.fragments.range(txn, &inclusive(&from, &to))? {
            let record = decode_row(entry?)?.record;
            let mut next = Run::of(&record);
            let unchanged = record.start >= changed_up_to
                && parts.iter().all(|part| part.arrived_at < run.arrived_at);
            if unchanged {
                next = Run {
                    range: TimeRange { start: record.start, end: run.range.end },
                    bytes: left_bytes,
                    fragments: left_fragments,
                    arrived_at: run.arrived_at,
                };
            }
            left_fragments = left_fragments.saturating_sub(1);
            left_bytes = left_bytes.saturating_sub(bytes(&record));
            match parts.last_mut() {
                Some(last) if last.touches(&next) => last.absorb(&next),
                _ => parts.push(next),
            }
            if unchanged {
                break;
            }
        }
        Ok(parts)
    }
}

impl Run {
    fn of(record: &FragmentRecord) -> Self {
        Self {
            range: record.range(),
            bytes: u64::from(record.location.len),
            fragments: 1,
            arrived_at: record.arrived_at,
        }
    }

    /// Whether no hole of more than the tolerance is between the two.
    fn touches(&self, other: &Run) -> bool {
        other.range.start <= self.range.end.plus_millis(RUN_TOLERANCE_MS)
            && self.range.start <= other.range.end.plus_millis(RUN_TOLERANCE_MS)
    }

    fn absorb(&mut self, other: &Run) {
        self.range.start = self.range.start.min(other.range.start);
        self.range.end = self.range.end.max(other.range.end);
        self.bytes += other.bytes;
        self.fragments += other.fragments;
        self.arrived_at = self.arrived_at.max(other.arrived_at);
    }
}

/// Gathers what overlaps a range; of those that begin alike, the one with the larger number.
struct Newest {
    range: TimeRange,
    limit: usize,
    /// The row taken last, of those that begin alike the newest.
    last: Option<(Timestamp, FragmentNumber)>,
    /// Whether that one overlaps the range.
    last_is_found: bool,
    found: Vec<FragmentRecord>,
}

impl Newest {
    fn new(query: &FragmentQuery, longest_ms: u32) -> Self {
        // As many as there are where all are as long as the longest: for most cameras they are.
        let expected = (query.range.millis() / i64::from(longest_ms.max(1))).saturating_add(2);
        let capacity = usize::try_from(expected).unwrap_or(usize::MAX).min(query.limit);
        Self {
            range: query.range,
            limit: query.limit,
            last: None,
            last_is_found: false,
            found: Vec::with_capacity(capacity.min(MAX_RESERVED)),
        }
    }

    /// Rows come with starts that rise or fall; answers whether more are wanted.
    fn take(&mut self, (key, value): (&[u8], &[u8])) -> Result<bool> {
        let (start, number) =
            decode_fragment_key(key).ok_or_else(|| damaged("a fragment's key"))?;
        match self.last {
            Some((same, newest)) if same == start => {
                if number < newest {
                    return Ok(true);
                }
                if self.last_is_found {
                    self.found.pop();
                }
            }
            _ if self.found.len() >= self.limit => return Ok(false),
            _ => {}
        }
        let record =
            decode_record(start, number, value).ok_or_else(|| damaged("a fragment's row"))?;
        self.last = Some((start, number));
        self.last_is_found = record.range().overlaps(&self.range);
        if self.last_is_found {
            self.found.push(record);
        }
        Ok(true)
    }
}

/// What is known of all of a stream's fragments. How far to look beyond a range for what belongs to
/// it never gets less while the stream has media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StreamRow {
    /// Of a fragment.
    longest_ms: u32,
    /// From a fragment's arrival to the instant that its number names.
    most_ahead_ms: i64,
    /// Of all bodies.
    bytes: u64,
}

impl StreamRow {
    fn note(&mut self, record: &FragmentRecord) {
        self.longest_ms = self.longest_ms.max(record.duration_ms);
        self.most_ahead_ms = self.most_ahead_ms.max(ahead_ms(record));
        self.bytes = self.bytes.saturating_add(u64::from(record.location.len));
    }

    /// Whether what is said of the stream is true of this fragment of it.
    fn covers(&self, record: &FragmentRecord) -> bool {
        record.duration_ms <= self.longest_ms && ahead_ms(record) <= self.most_ahead_ms
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, u64::from(self.longest_ms));
        put_signed(&mut out, self.most_ahead_ms);
        put(&mut out, self.bytes);
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        Some(Self {
            longest_ms: fields.varint_u32()?,
            most_ahead_ms: fields.signed()?,
            bytes: fields.varint()?,
        })
    }
}

/// How far a fragment's number runs ahead of its arrival.
fn ahead_ms(record: &FragmentRecord) -> i64 {
    ((record.number.0 >> 12) as i64).saturating_sub(record.arrived_at.as_millis())
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&self.payload_hash);
        put(&mut out, self.record.location.file);
        put(&mut out, self.record.location.offset);
        put(&mut out, u64::from(self.record.location.len));
        put_times_and_tracks(&mut out, &self.record);
        out
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (start, number) = decode_fragment_key(key)?;
        let payload_hash = *value.first_chunk()?;
        Some(Self { record: decode_record(start, number, value)?, payload_hash })
    }
}

impl FileRow {
    fn empty() -> Self {
        Self {
            state: FileState::Open,
            len: 0,
            fragments: 0,
            newest_arrival: Timestamp::from_millis(i64::MIN),
            first_start: Timestamp::from_millis(i64::MAX),
            last_start: Timestamp::from_millis(i64::MIN),
            newest_number: FragmentNumber(0),
        }
    }

    fn note(&mut self, record: &FragmentRecord) {
        self.fragments += 1;
        self.newest_arrival = self.newest_arrival.max(record.arrived_at);
        self.first_start = self.first_start.min(record.start);
        self.last_start = self.last_start.max(record.start);
        self.newest_number = self.newest_number.max(record.number);
    }

    /// Whether what is said of the file is true of this fragment of it.
    fn covers(&self, record: &FragmentRecord) -> bool {
        let location = record.location;
        self.state == FileState::Expired
            || record.arrived_at <= self.newest_arrival
                && (self.first_start..=self.last_start).contains(&record.start)
                && record.number <= self.newest_number
                && location.offset.saturating_add(u64::from(location.len)) <= self.len
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.state as u8];
        put(&mut out, self.len);
        put(&mut out, self.fragments);
        for time in [self.newest_arrival, self.first_start, self.last_start] {
            put_signed(&mut out, time.as_millis());
        }
        put(&mut out, self.newest_number.0);
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let state = match fields.array()? {
            [0] => FileState::Open,
            [1] => FileState::Sealed,
            [2] => FileState::Doubtful,
            [3] => FileState::Expired,
            _ => return None,
        };
        Some(Self {
            state,
            len: fields.varint()?,
            fragments: fields.varint()?,
            newest_arrival: Timestamp::from_millis(fields.signed()?),
            first_start: Timestamp::from_millis(fields.signed()?),
            last_start: Timestamp::from_millis(fields.signed()?),
            newest_number: FragmentNumber(fields.varint()?),
        })
    }
}

#[inline]
fn decode_fragment_key(key: &[u8]) -> Option<(Timestamp, FragmentNumber)> {
    let mut key = Fields(key.get(16..)?);
    let start = Timestamp::from_millis(time_from_key(key.array()?));
    Some((start, FragmentNumber(u64::from_be_bytes(key.array()?))))
}

/// What a fragment's row says but for its payload's hash.
#[inline]
fn decode_record(start: Timestamp, number: FragmentNumber, value: &[u8]) -> Option<FragmentRecord> {
    let mut fields = Fields(value);
    fields.bytes(size_of::<[u8; 16]>())?;
    let location =
        Location { file: fields.varint()?, offset: fields.varint()?, len: fields.varint_u32()? };
    get_times_and_tracks(&mut fields, number, start, location)
}

fn decode_row((key, value): (&[u8], &[u8])) -> Result<Row> {
    Row::decode(key, value).ok_or_else(|| damaged("a fragment's row"))
}

fn number_value(record: &FragmentRecord) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&time_key(record.start.as_millis()));
    value[8..].copy_from_slice(&time_key(record.arrived_at.as_millis()));
    value
}

/// The stream that a key begins with.
fn stream_of(key: &[u8]) -> Result<StreamId> {
    let id = key.first_chunk().ok_or_else(|| damaged("a key"))?;
    Ok(StreamId(Ulid::from_be_bytes(*id)))
}

/// Number, start and time of arrival.
fn decode_number((key, value): (&[u8], &[u8])) -> Result<(FragmentNumber, Timestamp, Timestamp)> {
    let decode = || {
        let number = FragmentNumber(u64::from_be_bytes(*key.last_chunk()?));
        let mut fields = Fields(value);
        let mut time = || Some(Timestamp::from_millis(time_from_key(fields.array()?)));
        Some((number, time()?, time()?))
    };
    decode().ok_or_else(|| damaged("a number's row"))
}

fn decode_run((key, value): (&[u8], &[u8])) -> Result<Run> {
    let decode = || {
        let start = Timestamp::from_millis(time_from_key(*key.last_chunk()?));
        let mut fields = Fields(value);
        let end = start.plus_millis(i64::try_from(fields.varint()?).ok()?);
        Some(Run {
            range: TimeRange { start, end },
            bytes: fields.varint()?,
            fragments: fields.varint()?,
            arrived_at: Timestamp::from_millis(fields.signed()?),
        })
    };
    decode().ok_or_else(|| damaged("a run's row"))
}

fn decode_init((key, value): (&[u8], &[u8])) -> Result<(InitId, Location)> {
    let decode = || {
        let mut key = Fields(key.get(16..)?);
        let id = InitId(u64::from_be_bytes(key.array()?));
        let file = u64::from_be_bytes(key.array()?);
        let mut fields = Fields(value);
        Some((id, Location { file, offset: fields.varint()?, len: fields.varint_u32()? }))
    };
    decode().ok_or_else(|| damaged("an init's row"))
}

/// A body whose record is to be made void.
fn decode_void((key, value): (&[u8], &[u8])) -> Result<(StreamId, Location)> {
    let decode = || {
        let mut key = Fields(key);
        let stream = StreamId(Ulid::from_be_bytes(key.array()?));
        let file = u64::from_be_bytes(key.array()?);
        let offset = u64::from_be_bytes(key.array()?);
        Some((stream, Location { file, offset, len: u32::from_le_bytes(value.try_into().ok()?) }))
    };
    decode().ok_or_else(|| damaged("a void record's row"))
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged(format!("index: {what} cannot be read"))
}

fn inclusive<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    // A range that ends before it begins is empty, which LMDB would not say.
    let to = if to < from { Bound::Excluded(from) } else { Bound::Included(to) };
    (Bound::Included(from), to)
}

fn fragment_key(stream: StreamId, start: Timestamp, number: FragmentNumber) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&stream.0.to_be_bytes());
    key[16..24].copy_from_slice(&time_key(start.as_millis()));
    key[24..].copy_from_slice(&number.0.to_be_bytes());
    key
}

fn run_key(stream: StreamId, start: Timestamp) -> [u8; 24] {
    pair_bytes(stream, time_key(start.as_millis()))
}

fn pair_key(stream: StreamId, number: u64) -> [u8; 24] {
    pair_bytes(stream, number.to_be_bytes())
}

fn pair_bytes(stream: StreamId, second: [u8; 8]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&stream.0.to_be_bytes());
    key[16..].copy_from_slice(&second);
    key
}

fn init_key(stream: StreamId, init: InitId, file: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&stream.0.to_be_bytes());
    key[16..24].copy_from_slice(&init.0.to_be_bytes());
    key[24..].copy_from_slice(&file.to_be_bytes());
    key
}
