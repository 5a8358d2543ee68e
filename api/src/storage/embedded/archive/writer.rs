//! Group commits: many fragments into chunk files, one sync a file, one index transaction.
//!
//! A commit has two steps. [`Writer::write`] puts every fragment at the end of its stream's file
//! and makes the files durable; [`Writer::publish`] makes them known to the index, and so to
//! readers. What was not published is cut off again.

use super::disk::{Disk, DiskFile};
use super::index::{FileState, FileUpdate, Index, Row};
use super::pool::Pool;
use super::record::{self, MAX_CHUNKS, MAX_METADATA, MAX_TRACKS, Place};
use crate::id::StreamId;
use crate::storage::embedded::lmdb::io_error;
use crate::storage::{Appended, InitId, Location, NewFragment, Result, StorageError};
use bytes::Bytes;
use lookback_wire::{FragmentNumber, Timestamp};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files kept open for appending: one for each stream that uploads. Beyond this the one that was
/// written longest ago is sealed.
const MAX_OPEN_FILES: usize = 4096;

/// Where the clock was set back by more, a stream goes on in another file: those that it arrived in
/// before would keep what comes now for as long as themselves.
const MAX_STEP_BACK_MS: i64 = 5 * 60 * 1000;

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub max_bytes: u64,
    pub max_age: Duration,
}

impl Default for Rotation {
    /// Few files to unlink (`layout D` of 256 MB: two a second at 2,000 cameras), and expiry at most
    /// half an hour late.
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_age: Duration::from_secs(30 * 60) }
    }
}

#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    root: PathBuf,
    rotation: Rotation,
    pool: Pool,
    open: HashMap<StreamId, OpenFile>,
    /// The directories that are known to be durable.
    dirs: HashSet<StreamId>,
    last_file: u64,
    /// What is to stay free of the disk; by default what the disk itself reserves.
    pub min_free_bytes: Option<u64>,
}

/// The file that a stream's fragments go to.
#[derive(Debug)]
struct OpenFile {
    number: u64,
    file: Arc<dyn DiskFile>,
    /// What is published.
    len: u64,
    inits: HashSet<InitId>,
    first_arrival: Timestamp,
    newest_arrival: Timestamp,
    began: Instant,
    written: Instant,
}

/// What one commit adds to one file.
#[derive(Debug)]
struct Work {
    update: FileUpdate,
    path: PathBuf,
    /// None until it is made.
    file: Option<Arc<dyn DiskFile>>,
    is_new: bool,
    dir_is_durable: bool,
    base: u64,
    /// What is to be written, and gone when it is.
    fragments: Vec<NewFragment>,
    /// Of their bodies.
    bytes: u64,
    inits: HashSet<InitId>,
    first_arrival: Timestamp,
    newest_arrival: Timestamp,
    error: Option<StorageError>,
}

#[derive(Debug)]
enum Outcome {
    Known(Result<Appended>),
    /// Stored if the work of this number is.
    In(usize, FragmentNumber),
    /// The same as an earlier one of this commit.
    SameAs(usize),
}

/// A commit whose files are durable and whose index rows are still to come.
#[derive(Debug)]
pub struct Written {
    works: Vec<Option<Work>>,
    outcomes: Vec<Outcome>,
}

/// Where a stream's files are.
pub fn stream_dir(root: &Path, stream: StreamId) -> PathBuf {
    root.join(stream.0.to_string())
}

pub fn file_path(root: &Path, stream: StreamId, number: u64) -> PathBuf {
    stream_dir(root, stream).join(format!("{number:016x}.chunk"))
}

impl Writer {
    /// `last_file` is the largest file number in use.
    pub fn new(
        disk: Arc<dyn Disk>,
        index: Arc<Index>,
        root: PathBuf,
        rotation: Rotation,
        threads: usize,
        last_file: u64,
    ) -> Self {
        Self {
            pool: Pool::new(threads),
            disk,
            index,
            root,
            rotation,
            open: HashMap::new(),
            dirs: HashSet::new(),
            last_file,
            min_free_bytes: None,
        }
    }

    /// Writes the fragments and syncs their files. The answers come from [`Writer::publish`].
    pub fn write(&mut self, fragments: Vec<NewFragment>) -> Written {
        let mut works: Vec<Work> = Vec::new();
        let mut current: HashMap<StreamId, usize> = HashMap::new();
        let mut seen: HashMap<(StreamId, Timestamp, [u8; 16]), usize> = HashMap::new();
        let mut outcomes = Vec::with_capacity(fragments.len());
        let room = self.disk.room(&self.root, self.min_free_bytes);
        let mut room = room.map_err(|error| io_error(&self.root, &error));
        for (position, fragment) in fragments.into_iter().enumerate() {
            let identity = (fragment.stream, fragment.start, fragment.payload_hash);
            let known = match seen.get(&identity) {
                Some(&earlier) => Some(Outcome::SameAs(earlier)),
                None => self.judge(&fragment, &mut room).transpose().map(Outcome::Known),
            };
            outcomes.push(known.unwrap_or_else(|| {
                seen.insert(identity, position);
                let work = self.work_for(&mut works, &mut current, &fragment);
                let number = fragment.number;
                if let Some(work) = works.get_mut(work) {
                    work.bytes += fragment.body.len() as u64;
                    work.fragments.push(fragment);
                }
                Outcome::In(work, number)
            }));
        }
        let disk = self.disk.clone();
        let root = self.root.clone();
        let works = self.pool.map(works, move |work| work.run(disk.as_ref(), &root));
        Written { works, outcomes }
    }

    /// What is known of a fragment without writing it: a duplicate, or one that cannot be kept. Takes
    /// what it needs from `room`.
    fn judge(&self, fragment: &NewFragment, room: &mut Result<u64>) -> Result<Option<Appended>> {
        let refuse = |what: String| {
            Err(StorageError::Damaged(format!("fragment {} {what}", fragment.number)))
        };
        let body = fragment.body.len();
        if fragment.tracks.len() > MAX_TRACKS {
            return refuse(format!("has {} tracks, at most {MAX_TRACKS}", fragment.tracks.len()));
        }
        if fragment.chunk_lens.len() > MAX_CHUNKS {
            return refuse(format!("has {} chunks", fragment.chunk_lens.len()));
        }
        if fragment.metadata.len() > MAX_METADATA {
            return refuse(format!("has {} bytes of metadata", fragment.metadata.len()));
        }
        if u32::try_from(body).is_err() {
            return refuse(format!("has {body} bytes"));
        }
        let same = self.index.find_same(fragment.stream, fragment.start, &fragment.payload_hash)?;
        if let Some(number) = same {
            return Ok(Some(Appended::Duplicate(number)));
        }
        let left = room.as_ref().map_err(Clone::clone)?.checked_sub(body as u64);
        *room = Ok(left.ok_or_else(|| {
            StorageError::Full(format!("no room for {body} bytes in {}", self.root.display()))
        })?);
        Ok(None)
    }

    /// The work that a fragment belongs to: its stream's file, or a new one.
    fn work_for(
        &mut self,
        works: &mut Vec<Work>,
        current: &mut HashMap<StreamId, usize>,
        fragment: &NewFragment,
    ) -> usize {
        let stream = fragment.stream;
        let arrival = fragment.arrived_at;
        let max_age_ms = self.rotation.max_age.as_millis() as i64;
        let full = |len: u64, first_arrival: Timestamp, began: Option<Instant>| {
            len >= self.rotation.max_bytes
                || !(-MAX_STEP_BACK_MS..max_age_ms).contains(&arrival.millis_since(first_arrival))
                || began.is_some_and(|began| began.elapsed() >= self.rotation.max_age)
        };
        if let Some(&position) = current.get(&stream)
            && let Some(work) = works.get_mut(position)
        {
            if !full(work.base + work.bytes, work.first_arrival, None) {
                return position;
            }
            work.update.state = FileState::Sealed;
        } else if let Some(open) = self.open.get(&stream) {
            let mut work = Work::append(&self.root, stream, open);
            let is_full = full(open.len, open.first_arrival, Some(open.began));
            if is_full {
                work.update.state = FileState::Sealed;
            }
            works.push(work);
            if !is_full {
                current.insert(stream, works.len() - 1);
                return works.len() - 1;
            }
        }
        // Numbers rise over restarts and are never used twice: what a URL named once stays so.
        self.last_file = (self.last_file + 1).max(arrival.as_millis().max(0) as u64);
        let durable = self.dirs.contains(&stream);
        works.push(Work::begin(&self.root, stream, self.last_file, durable, arrival));
        current.insert(stream, works.len() - 1);
        works.len() - 1
    }

    /// Makes known what was written; one answer for each fragment, in order.
    pub fn publish(&mut self, written: Written) -> Vec<Result<Appended>> {
        let Written { mut works, outcomes } = written;
        for work in works.iter_mut().flatten() {
            if work.error.is_some() {
                work.withdraw(self.disk.as_ref());
            }
        }
        let updates = works.iter().flatten().filter(|work| work.error.is_none() || !work.is_new);
        let committed = self.index.commit(updates.map(|work| &work.update));
        if let Err(error) = committed {
            for work in works.iter_mut().flatten().filter(|work| work.error.is_none()) {
                work.withdraw(self.disk.as_ref());
                work.error = Some(error.clone());
            }
        }
        let mut answers: Vec<Result<Appended>> = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let answer = match outcome {
                Outcome::Known(answer) => answer,
                Outcome::In(work, number) => match works.get(work) {
                    Some(Some(Work { error: None, .. })) => Ok(Appended::Stored(number)),
                    Some(Some(Work { error: Some(error), .. })) => Err(error.clone()),
                    _ => Err(StorageError::Unavailable("a writing thread ended".into())),
                },
                Outcome::SameAs(earlier) => match answers.get(earlier) {
                    Some(Ok(Appended::Stored(number))) => Ok(Appended::Duplicate(*number)),
                    Some(answer) => answer.clone(),
                    None => Err(StorageError::Unavailable("no earlier fragment".into())),
                },
            };
            answers.push(answer);
        }
        for work in works.into_iter().flatten() {
            self.settle(work);
        }
        answers
    }

    /// Keeps a file open for the next commit, or lets it go.
    fn settle(&mut self, work: Work) {
        let stream = work.update.stream;
        match (work.error, work.file) {
            (None, Some(file)) if work.update.state == FileState::Open => {
                self.dirs.insert(stream);
                let began = self.open.remove(&stream).map_or_else(Instant::now, |open| open.began);
                let open = OpenFile {
                    number: work.update.file,
                    file,
                    len: work.update.len,
                    inits: work.inits,
                    first_arrival: work.first_arrival,
                    newest_arrival: work.newest_arrival,
                    began: if work.is_new { Instant::now() } else { began },
                    written: Instant::now(),
                };
                self.open.insert(stream, open);
            }
            _ => {
                self.open.remove(&stream);
            }
        }
    }

    /// Seals a stream's open file where all in it arrived before `before`.
    pub fn seal_due(&mut self, stream: StreamId, before: Timestamp) -> Result<()> {
        self.seal(|of, open| of == stream && open.newest_arrival < before)
    }

    /// Seals what is older than a file may grow, and what is too much to keep open.
    pub fn seal_idle(&mut self) -> Result<()> {
        let max_age = self.rotation.max_age;
        let mut written: Vec<Instant> = self.open.values().map(|open| open.written).collect();
        written.sort_unstable();
        let oldest_kept =
            written.len().checked_sub(MAX_OPEN_FILES).and_then(|first| written.get(first)).copied();
        self.seal(|_, open| {
            open.began.elapsed() >= max_age || oldest_kept.is_some_and(|kept| open.written < kept)
        })
    }

    pub fn seal_all(&mut self) -> Result<()> {
        self.seal(|_, _| true)
    }

    fn seal(&mut self, mut which: impl FnMut(StreamId, &OpenFile) -> bool) -> Result<()> {
        let sealed: Vec<(StreamId, u64)> = self
            .open
            .iter()
            .filter(|(stream, open)| which(**stream, open))
            .map(|(stream, open)| (*stream, open.number))
            .collect();
        if sealed.is_empty() {
            return Ok(());
        }
        self.index.set_state(&sealed, FileState::Sealed)?;
        for (stream, _) in &sealed {
            self.open.remove(stream);
        }
        Ok(())
    }
}

impl Work {
    fn append(root: &Path, stream: StreamId, open: &OpenFile) -> Self {
        Self {
            update: FileUpdate::of(stream, open.number, open.len),
            path: file_path(root, stream, open.number),
            file: Some(open.file.clone()),
            is_new: false,
            dir_is_durable: true,
            base: open.len,
            fragments: Vec::new(),
            bytes: 0,
            inits: open.inits.clone(),
            first_arrival: open.first_arrival,
            newest_arrival: open.newest_arrival,
            error: None,
        }
    }

    fn begin(
        root: &Path,
        stream: StreamId,
        number: u64,
        dir_is_durable: bool,
        arrival: Timestamp,
    ) -> Self {
        Self {
            update: FileUpdate::of(stream, number, 0),
            path: file_path(root, stream, number),
            file: None,
            is_new: true,
            dir_is_durable,
            base: 0,
            fragments: Vec::new(),
            bytes: 0,
            inits: HashSet::new(),
            first_arrival: arrival,
            newest_arrival: arrival,
            error: None,
        }
    }

    /// Frames a fragment, with the inits that this file does not have yet before it. Its checksum is
    /// made here, just before it is written: its bytes then come from memory once.
    fn frame(&mut self, fragment: NewFragment) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let place = |update: &FileUpdate| Place {
            stream: update.stream,
            file: update.file,
            offset: update.len,
        };
        for (id, init) in &fragment.inits {
            if !self.inits.insert(*id) {
                continue;
            }
            let encoded = record::encode_init(place(&self.update), *id, init);
            let location = Location {
                file: self.update.file,
                offset: self.update.len + encoded.head.len() as u64,
                len: encoded.body_len,
            };
            self.update.len += encoded.record_len();
            self.update.inits.push((*id, location));
            parts.extend([encoded.head, init.clone()]);
        }
        let (encoded, record) = record::encode_fragment(place(&self.update), &fragment);
        self.update.len += encoded.record_len();
        self.newest_arrival = self.newest_arrival.max(record.arrived_at);
        self.update.rows.push(Row { record, payload_hash: fragment.payload_hash });
        parts.push(encoded.head);
        parts.extend(fragment.body.into_parts());
        parts
    }

    /// Writes and syncs; on a thread of the pool.
    fn run(&mut self, disk: &dyn Disk, root: &Path) {
        if let Err(error) = self.try_run(disk, root) {
            self.error = Some(io_error(&self.path, &error));
        }
        self.fragments = Vec::new();
    }

    fn try_run(&mut self, disk: &dyn Disk, root: &Path) -> io::Result<()> {
        if self.fragments.is_empty() {
            return Ok(());
        }
        let dir = stream_dir(root, self.update.stream);
        let file = match self.file.clone() {
            Some(file) => file,
            None => {
                disk.create_dir(&dir)?;
                if !self.dir_is_durable {
                    disk.sync_dir(root)?;
                }
                disk.create(&self.path)?
            }
        };
        self.file = Some(file.clone());
        let mut offset = self.base;
        for fragment in std::mem::take(&mut self.fragments) {
            let parts = self.frame(fragment);
            file.write_at(&parts, offset)?;
            offset = self.update.len;
        }
        file.sync()?;
        if self.is_new {
            disk.sync_dir(&dir)?;
        }
        Ok(())
    }

    /// Cuts off again what was written. The file takes no more: what a failed sync leaves in the
    /// page cache is not to be trusted. Where even this fails, the next start finds what is left
    /// over, and keeps or cuts it.
    fn withdraw(&mut self, disk: &dyn Disk) {
        let undone = match (&self.file, self.is_new) {
            (Some(_), true) => disk.remove(&self.path),
            (Some(file), false) => file.truncate(self.base),
            (None, _) => Ok(()),
        };
        if let Err(error) = undone {
            tracing::warn!(file = %self.path.display(), %error, "a failed write is not undone");
        }
        self.update.rows.clear();
        self.update.inits.clear();
        self.update.len = self.base;
        self.update.state = FileState::Sealed;
    }
}
