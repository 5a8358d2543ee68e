//! Media in chunk files: one directory a stream, one file per half hour, an index in LMDB beside.
//!
//! ```text
//! archive/index/                       LMDB
//! archive/<stream>/<file number>.chunk records, one after the other
//! ```
//!
//! Fragments wait in a bounded queue; one thread takes what has gathered, writes and syncs the
//! files they go to beside each other, commits their index rows at once, and answers. While it
//! does so the next group gathers, so the busier the disk, the larger the groups.

mod buffers;
pub mod check;
pub mod disk;
mod fields;
pub mod index;
mod list;
mod pool;
pub mod record;
pub mod recovery;
mod removal;
pub mod writer;

#[cfg(test)]
mod model;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod simulated_disk;

use super::lmdb::{Durability, io_error};
use super::pages::require_sound_or_new;
use crate::device::Stream;
use crate::id::{DeviceId, StreamId};
use crate::segment::TimeRange;
use crate::storage::{
    Appended, Archive, ChunkFile, CreateError, FragmentPage, FragmentQuery, FragmentRecord, InitId,
    ListQuery, Location, NewFragment, Removed, Result, Run, StorageError, UploadGrant,
    first_number_at,
};
use async_trait::async_trait;
use buffers::Buffers;
use bytes::Bytes;
use disk::{Disk, DiskFile, RealDisk};
use index::{FileState, Index};
use lookback_wire::{FragmentNumber, Timestamp};
use parking_lot::Mutex;
use record::{Content, Head};
use removal::Removal;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use writer::{Rotation, Writer, file_path};

/// Bodies that may wait to be written: at 500 MB/s a quarter of a second. Beyond this, senders wait.
const QUEUE_BYTES: usize = 128 << 20;
/// Room in the queue is counted in units of this, one of them for a fragment's own bookkeeping.
const QUEUE_UNIT: usize = 1024;
/// How long a group gathers while fragments come faster than they are committed. A lone fragment
/// is committed at once.
const GATHER: Duration = Duration::from_millis(5);
/// Fragments of one group; bounds the index transaction.
const MAX_GROUP: usize = 1024;
/// Writes and syncs beside each other; see [`pool`].
const SYNC_THREADS: usize = 8;
/// How often files that nobody writes to any more are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// Files kept open for reading.
const MAX_READ_HANDLES: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
pub struct ArchiveOptions {
    pub rotation: Rotation,
    /// What media leaves free of the disk; by default 256 MiB, or a twentieth of a small one.
    pub min_free_bytes: Option<u64>,
}

/// The archive in `data_dir/archive`.
///
/// # Contract
/// - When `append` returns, the fragment is durable: neither a kill nor a power cut loses it.
/// - A fragment is seen by every read that starts after its `append` returned, whole or not at all.
/// - Same stream, start and payload hash: one copy. Same start, other payload: both are kept, and
///   reads answer the one with the larger number.
/// - Reads answer by timeline start, never two fragments with the same start, unless they ask for
///   fragments by number or arrival.
/// - Bodies are checked against their checksum before the first byte of them is served after an
///   unclean stop, and by `check`.
#[derive(Debug)]
pub struct EmbeddedArchive {
    shared: Arc<Shared>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held by whatever takes fragments away: what two of them took at once would be counted twice.
    removing: Arc<tokio::sync::Mutex<()>>,
    /// Keeps other servers out for as long as this one has the files open.
    _lock: Option<File>,
}

/// What readers, the committing thread and expiry share.
#[derive(Debug)]
struct Shared {
    min_free_bytes: Option<u64>,
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    root: PathBuf,
    last_number: AtomicU64,
    watchers: Mutex<HashMap<StreamId, watch::Sender<FragmentNumber>>>,
    handles: Mutex<Handles>,
    buffers: Arc<Buffers>,
    /// Files that were open at an unclean stop, with the offsets of bodies that were found whole.
    doubtful: Mutex<HashMap<(StreamId, u64), HashSet<u64>>>,
}

enum Command {
    Append(Box<Append>),
    SealDue { stream: StreamId, before: Timestamp, done: oneshot::Sender<Result<()>> },
    Close { done: oneshot::Sender<Result<()>> },
}

struct Append {
    fragment: NewFragment,
    answer: oneshot::Sender<Result<Appended>>,
    _room: OwnedSemaphorePermit,
}

impl EmbeddedArchive {
    /// Opens the archive, puts files and index in step, and starts to take fragments. `lock` is
    /// held until the archive is dropped.
    pub fn open(root: &Path, options: ArchiveOptions, lock: Option<File>) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(|error| io_error(root, &error))?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let index = Arc::new(open_index(root)?);
        let recovered = recovery::recover(disk.as_ref(), root, &index)?;
        if recovered.added > 0 || recovered.cut_bytes > 0 {
            tracing::info!(
                fragments = recovered.added,
                cut_bytes = recovered.cut_bytes,
                rebuilt = recovered.rebuilt,
                "the archive was not closed; its index is in step again"
            );
        }
        let doubtful = index
            .files()?
            .into_iter()
            .filter(|(_, _, row)| row.state == FileState::Doubtful)
            .map(|(stream, number, _)| ((stream, number), HashSet::new()))
            .collect();
        let mut writer = Writer::new(
            disk.clone(),
            index.clone(),
            root.to_owned(),
            options.rotation,
            SYNC_THREADS,
            recovered.last_file,
        );
        writer.min_free_bytes = options.min_free_bytes;
        let shared = Arc::new(Shared {
            min_free_bytes: options.min_free_bytes,
            disk,
            index,
            root: root.to_owned(),
            last_number: AtomicU64::new(recovered.last_number),
            watchers: Mutex::default(),
            handles: Mutex::default(),
            buffers: Arc::default(),
            doubtful: Mutex::new(doubtful),
        });
        let (commands, queue) = mpsc::channel();
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("archive-commit".into())
            .spawn(move || commit_groups(writer, &queue, &for_thread))
            .map_err(|error| StorageError::Unavailable(format!("no thread: {error}")))?;
        Ok(Self {
            shared,
            commands: Mutex::new(Some(commands)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES / QUEUE_UNIT)),
            thread: Mutex::new(Some(thread)),
            removing: Arc::default(),
            _lock: lock,
        })
    }

    /// Ends the stream's open file where all in it arrived before `before`.
    async fn seal_before(&self, stream: StreamId, before: Timestamp) -> Result<()> {
        let (done, sealed) = oneshot::channel();
        self.send(Command::SealDue { stream, before, done })?;
        sealed
            .await
            .unwrap_or_else(|_| Err(StorageError::Unavailable("the archive is closed".into())))
    }

    /// Runs what takes fragments away, one after the other, on a thread that may wait for the disk.
    /// It goes on to its end where nobody waits for it any more.
    async fn remove<T: Send + 'static>(
        &self,
        remove: impl FnOnce(&Removal) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        let turn = self.removing.clone().lock_owned().await;
        off_thread(move || {
            let _turn = turn;
            remove(&Removal {
                disk: shared.disk.as_ref(),
                root: &shared.root,
                index: &shared.index,
                gone: &|stream, file| shared.forget(stream, file),
            })
        })
        .await
    }

    fn send(&self, command: Command) -> Result<()> {
        let commands = self.commands.lock();
        match commands.as_ref().map(|commands| commands.send(command)) {
            Some(Ok(())) => Ok(()),
            _ => Err(StorageError::Unavailable("the archive is closed".into())),
        }
    }
}

impl Drop for EmbeddedArchive {
    /// Waits for the group under way, as the index cannot be opened again before.
    fn drop(&mut self) {
        self.commands.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// The index, or a new one where it is absent, damaged or of another version.
fn open_index(root: &Path) -> Result<Index> {
    let dir = root.join("index");
    let opened = require_sound_or_new(&dir.join("data.mdb"))
        .and_then(|()| Index::open(&dir, Durability::EachCommit));
    match opened {
        Err(StorageError::Damaged(what)) => {
            tracing::warn!(what, "the archive's index is made again from its files");
            std::fs::remove_dir_all(&dir).map_err(|error| io_error(&dir, &error))?;
            Index::open(&dir, Durability::EachCommit)
        }
        opened => opened,
    }
}

/// The committing thread: groups until the archive is dropped or closed.
fn commit_groups(mut writer: Writer, queue: &mpsc::Receiver<Command>, shared: &Shared) {
    let mut busy = false;
    let mut idle_checked = Instant::now();
    let mut late: Option<Command> = None;
    loop {
        let first = match late.take() {
            Some(command) => command,
            None => match queue.recv_timeout(IDLE_CHECK) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => {
                    seal_idle(&mut writer, &mut idle_checked);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        let mut group = Vec::new();
        match first {
            Command::Append(append) => group.push(*append),
            Command::SealDue { stream, before, done } => {
                let _ = done.send(writer.seal_due(stream, before));
                continue;
            }
            Command::Close { done } => {
                let _ = done.send(writer.seal_all());
                return;
            }
        }
        let deadline = Instant::now() + if busy { GATHER } else { Duration::ZERO };
        while group.len() < MAX_GROUP {
            let left = deadline.saturating_duration_since(Instant::now());
            match queue.recv_timeout(left) {
                Ok(Command::Append(append)) => group.push(*append),
                Ok(other) => {
                    late = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        busy = group.len() > 1;
        commit(&mut writer, group, shared);
        if idle_checked.elapsed() >= IDLE_CHECK {
            seal_idle(&mut writer, &mut idle_checked);
        }
    }
}

fn seal_idle(writer: &mut Writer, checked: &mut Instant) {
    *checked = Instant::now();
    if let Err(error) = writer.seal_idle() {
        tracing::warn!(%error, "idle chunk files are not sealed");
    }
}

fn commit(writer: &mut Writer, group: Vec<Append>, shared: &Shared) {
    let mut fragments = Vec::with_capacity(group.len());
    let mut waiting = Vec::with_capacity(group.len());
    for append in group {
        waiting.push((append.fragment.stream, append.answer, append._room));
        fragments.push(append.fragment);
    }
    let written = writer.write(fragments);
    let answers = writer.publish(written);
    for ((stream, waits, _room), answer) in waiting.into_iter().zip(answers) {
        if let Ok(Appended::Stored(number)) = answer {
            shared.wake(stream, number);
        }
        // The uploader may be gone; the fragment is kept all the same.
        let _ = waits.send(answer);
    }
}

impl Shared {
    fn wake(&self, stream: StreamId, number: FragmentNumber) {
        let mut watchers = self.watchers.lock();
        if let Some(watcher) = watchers.get(&stream)
            && watcher.send(number).is_err()
        {
            watchers.remove(&stream);
        }
    }

    /// Forgets a file that is to be unlinked.
    fn forget(&self, stream: StreamId, number: u64) {
        self.handles.lock().forget(stream, number);
        self.doubtful.lock().remove(&(stream, number));
    }

    fn handle(&self, stream: StreamId, number: u64) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.handles.lock().get(stream, number) {
            return Ok(file);
        }
        let path = file_path(&self.root, stream, number);
        let file = self.disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                StorageError::Damaged(format!("{} is missing", path.display()))
            }
            _ => io_error(&path, &error),
        })?;
        self.handles.lock().insert(stream, number, file.clone());
        Ok(file)
    }

    /// Reads what the page cache has, without waiting for the disk; `None` where that is not all.
    fn read_cached(
        &self,
        stream: StreamId,
        location: Location,
        offset: u32,
        len: u32,
    ) -> Option<Bytes> {
        let file = self.handles.lock().get(stream, location.file)?;
        if !self.is_trusted(stream, location) {
            return None;
        }
        let mut buffer = self.buffers.take(len as usize);
        let at = location.offset.checked_add(u64::from(offset))?;
        let read = file.read_cached(buffer.as_mut(), at).ok()?;
        (read == len as usize).then(|| buffer.into_bytes())
    }

    fn read(&self, stream: StreamId, location: Location, offset: u32, len: u32) -> Result<Bytes> {
        let file = self.handle(stream, location.file)?;
        self.check_if_doubtful(stream, location, file.as_ref())?;
        let mut buffer = self.buffers.take(len as usize);
        let path = file_path(&self.root, stream, location.file);
        let at = location.offset.saturating_add(u64::from(offset));
        let read = file.read_at(buffer.as_mut(), at).map_err(|error| io_error(&path, &error))?;
        if read != len as usize {
            return Err(self.damaged(stream, location));
        }
        Ok(buffer.into_bytes())
    }

    /// Whether a body may be served without a look at its checksum.
    fn is_trusted(&self, stream: StreamId, location: Location) -> bool {
        let doubtful = self.doubtful.lock();
        doubtful.get(&(stream, location.file)).is_none_or(|whole| whole.contains(&location.offset))
    }

    /// Bodies of files that were open at an unclean stop are checked once before they are served.
    fn check_if_doubtful(
        &self,
        stream: StreamId,
        location: Location,
        file: &dyn DiskFile,
    ) -> Result<()> {
        if self.is_trusted(stream, location) {
            return Ok(());
        }
        let head = self.head_before(stream, location, file)?;
        let whole = recovery::body_is_whole(file, &head)
            .map_err(|error| io_error(&file_path(&self.root, stream, location.file), &error))?;
        if !whole {
            return Err(self.damaged(stream, location));
        }
        if let Some(whole) = self.doubtful.lock().get_mut(&(stream, location.file)) {
            whole.insert(location.offset);
        }
        Ok(())
    }

    /// The head of the record whose body lies at `location`.
    fn head_before(
        &self,
        stream: StreamId,
        location: Location,
        file: &dyn DiskFile,
    ) -> Result<Head> {
        let path = file_path(&self.root, stream, location.file);
        recovery::head_before(file, stream, location)
            .map_err(|error| io_error(&path, &error))?
            .ok_or_else(|| self.damaged(stream, location))
    }

    fn damaged(&self, stream: StreamId, location: Location) -> StorageError {
        let path = file_path(&self.root, stream, location.file);
        StorageError::Damaged(format!("{} at {}", path.display(), location.offset))
    }
}

/// Open files, the least recently used of which goes when there are too many.
#[derive(Debug, Default)]
struct Handles {
    files: HashMap<(StreamId, u64), (Arc<dyn DiskFile>, u64)>,
    uses: u64,
}

impl Handles {
    fn get(&mut self, stream: StreamId, number: u64) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&(stream, number))?;
        *used = self.uses;
        Some(file.clone())
    }

    fn insert(&mut self, stream: StreamId, number: u64, file: Arc<dyn DiskFile>) {
        if self.files.len() >= MAX_READ_HANDLES {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| self.files.remove(&key));
        }
        self.files.insert((stream, number), (file, self.uses));
    }

    fn forget(&mut self, stream: StreamId, number: u64) {
        self.files.remove(&(stream, number));
    }
}

/// Runs what may wait for the disk on the runtime's blocking threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StorageError::Unavailable(error.to_string())))
}

impl EmbeddedArchive {
    /// Rises with every call, and over restarts; never smaller than [`first_number_at`] `now`.
    pub fn next_number(&self, _stream: StreamId, now: Timestamp) -> FragmentNumber {
        // Of all streams together, which rises within each of them.
        let by_clock = first_number_at(now).0;
        let last = &self.shared.last_number;
        let next = |last: u64| Some(by_clock.max(last.saturating_add(1)));
        let before = last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        FragmentNumber(by_clock.max(before.unwrap_or_else(|last| last).saturating_add(1)))
    }

    pub async fn append(&self, fragment: NewFragment) -> Result<Appended> {
        let units = 1 + fragment.body.len() / QUEUE_UNIT;
        let units = units.min(QUEUE_BYTES / QUEUE_UNIT) as u32;
        let closed = |_| StorageError::Unavailable("the archive is closed".into());
        let room = self.room.clone().acquire_many_owned(units).await.map_err(closed)?;
        let (answer, answered) = oneshot::channel();
        self.send(Command::Append(Box::new(Append { fragment, answer, _room: room })))?;
        answered
            .await
            .unwrap_or_else(|_| Err(StorageError::Unavailable("the archive is closed".into())))
    }

    pub async fn fragments(
        &self,
        stream: StreamId,
        query: &FragmentQuery,
    ) -> Result<Vec<FragmentRecord>> {
        self.shared.index.fragments(stream, query)
    }

    pub async fn fragment(
        &self,
        stream: StreamId,
        start: Timestamp,
        number: FragmentNumber,
    ) -> Result<Option<FragmentRecord>> {
        Ok(self.shared.index.fragment(stream, start, number)?.map(|row| row.record))
    }

    /// One answer for each number, in order, superseded fragments too.
    pub async fn fragments_by_number(
        &self,
        stream: StreamId,
        numbers: &[FragmentNumber],
    ) -> Result<Vec<Option<FragmentRecord>>> {
        self.shared.index.fragments_by_number(stream, numbers)
    }

    /// The newest by timeline, that arrived last where two begin alike.
    pub async fn newest(&self, stream: StreamId) -> Result<Option<FragmentRecord>> {
        self.shared.index.newest(stream)
    }

    /// Each stream's oldest start and newest end.
    pub async fn extents(&self, streams: &[StreamId]) -> Result<Vec<Option<TimeRange>>> {
        streams.iter().map(|stream| self.shared.index.extent(*stream)).collect()
    }

    /// Runs that overlap `range`, whole, oldest first; at most `limit`, beginning with those at or
    /// after `range.start`.
    pub async fn runs(&self, stream: StreamId, range: TimeRange, limit: usize) -> Result<Vec<Run>> {
        self.shared.index.runs(stream, range, limit)
    }

    pub async fn init(&self, stream: StreamId, id: InitId) -> Result<Option<Bytes>> {
        let Some(location) = self.shared.index.init(stream, id)? else { return Ok(None) };
        self.read(stream, location, 0, location.len).await.map(Some)
    }

    /// `len` bytes of a fragment's body from `offset` on.
    pub async fn read(
        &self,
        stream: StreamId,
        location: Location,
        offset: u32,
        len: u32,
    ) -> Result<Bytes> {
        if offset.checked_add(len).is_none_or(|end| end > location.len) {
            return Err(StorageError::Damaged(format!(
                "{len} bytes at {offset} of a body of {}",
                location.len
            )));
        }
        if let Some(bytes) = self.shared.read_cached(stream, location, offset, len) {
            return Ok(bytes);
        }
        let shared = self.shared.clone();
        off_thread(move || shared.read(stream, location, offset, len)).await
    }

    pub async fn metadata(&self, stream: StreamId, location: Location) -> Result<Bytes> {
        let shared = self.shared.clone();
        off_thread(move || {
            let file = shared.handle(stream, location.file)?;
            match shared.head_before(stream, location, file.as_ref())?.content {
                Content::Fragment(fragment) => Ok(fragment.metadata),
                Content::Init(_) | Content::Void => Err(shared.damaged(stream, location)),
            }
        })
        .await
    }

    /// Wakes whoever follows a stream, after each `append` to it.
    pub fn watch(&self, stream: StreamId) -> watch::Receiver<FragmentNumber> {
        let mut watchers = self.shared.watchers.lock();
        watchers.entry(stream).or_insert_with(|| watch::Sender::new(FragmentNumber(0))).subscribe()
    }

    /// The stream's chunk files in which everything arrived before `before`.
    pub async fn chunk_files(&self, stream: StreamId, before: Timestamp) -> Result<Vec<ChunkFile>> {
        self.seal_before(stream, before).await?;
        let shared = self.shared.clone();
        off_thread(move || removal::files_before(&shared.index, stream, before)).await
    }

    /// Takes away what a chunk file of [`EmbeddedArchive::chunk_files`] holds, but for fragments that
    /// overlap one of `spare`; answers how many went.
    pub async fn expire(&self, stream: StreamId, file: u64, spare: &[TimeRange]) -> Result<u64> {
        let spare = spare.to_vec();
        self.remove(move |removal| removal.expire(stream, file, &spare)).await
    }

    /// Takes away the fragments with numbers up to `last` that overlap `range` and none of `spare`.
    /// When it returns, neither a kill nor a power cut brings them back, nor an index that is made
    /// again.
    pub async fn delete(
        &self,
        stream: StreamId,
        range: TimeRange,
        last: FragmentNumber,
        spare: &[TimeRange],
    ) -> Result<Removed> {
        // What is appended from now on goes to another file, so that this one can go whole.
        self.seal_before(stream, Timestamp::from_millis(i64::MAX)).await?;
        let spare = spare.to_vec();
        self.remove(move |removal| removal.delete(stream, range, last, &spare)).await
    }

    /// What each stream's fragments come to.
    pub async fn stored_bytes(&self, streams: &[StreamId]) -> Result<Vec<u64>> {
        streams.iter().map(|stream| self.shared.index.stored_bytes(*stream)).collect()
    }

    /// Streams that have media.
    pub async fn streams(&self) -> Result<Vec<StreamId>> {
        self.shared.index.streams()
    }
}

#[async_trait]
impl Archive for EmbeddedArchive {
    /// A stream's place is made with its first fragment, and the sweep asks the plan itself.
    async fn prepare(&self, _stream: &Stream, _keep_hours: u32) -> Result<(), CreateError> {
        Ok(())
    }

    async fn list(&self, stream: &Stream, query: &ListQuery) -> Result<FragmentPage> {
        list::page(&self.shared.index, stream.id, query)
    }

    async fn forget(&self, stream: &Stream) -> Result<()> {
        self.delete(stream.id, TimeRange::ALL, FragmentNumber(u64::MAX), &[]).await.map(drop)
    }

    async fn grant_upload(
        &self,
        _device: DeviceId,
        _streams: &[Stream],
        _life_s: u32,
        _now: Timestamp,
    ) -> Result<Option<UploadGrant>> {
        Ok(None)
    }

    async fn room(&self) -> Result<u64> {
        let Shared { disk, root, min_free_bytes, .. } = self.shared.as_ref();
        disk.room(root, *min_free_bytes).map_err(|error| io_error(root, &error))
    }

    async fn close(&self) -> Result<()> {
        let (done, closed) = oneshot::channel();
        if self.send(Command::Close { done }).is_err() {
            return Ok(());
        }
        self.commands.lock().take();
        closed
            .await
            .unwrap_or_else(|_| Err(StorageError::Unavailable("the archive is closed".into())))
    }
}
