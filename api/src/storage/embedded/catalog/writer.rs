//! The thread that writes: takes what has gathered, commits it at once, then answers all.

use super::arrivals::Arrivals;
use super::sightings::Sightings;
use super::tables::Tables;
use crate::storage::{Result, StorageError};
use heed::{Env, RwTxn};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Writes of one transaction.
const MAX_GROUP: usize = 256;
/// Writes that may wait. Beyond this, callers wait.
const QUEUE: usize = 1024;
/// How far the records may lag behind what was heard of devices and what arrived.
const FLUSH_EVERY: Duration = Duration::from_secs(120);

/// Answers the caller, once it is known whether the transaction is durable.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;
/// Does the write in a transaction of its own; answers whether it is to be kept.
type Write = Box<dyn FnOnce(&Tables, &mut RwTxn) -> (bool, Finish) + Send>;

enum Command {
    Write(Write),
    Flush(oneshot::Sender<Result<()>>),
}

#[derive(Debug)]
pub struct Writer {
    commands: Option<mpsc::SyncSender<Command>>,
    /// Room in the queue, so that callers wait without holding their thread.
    room: Arc<tokio::sync::Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(
        env: Env,
        tables: Tables,
        sightings: Arc<Sightings>,
        arrivals: Arc<Arrivals>,
    ) -> Result<Self> {
        let (commands, queue) = mpsc::sync_channel(QUEUE + 1);
        let thread = std::thread::Builder::new()
            .name("catalog-write".into())
            .spawn(move || Thread { env, tables, sightings, arrivals }.run(&queue))
            .map_err(|error| StorageError::Unavailable(format!("no thread: {error}")))?;
        Ok(Self {
            commands: Some(commands),
            room: Arc::new(tokio::sync::Semaphore::new(QUEUE)),
            thread: Some(thread),
        })
    }

    /// Runs `write` in a transaction; returns when it is durable. An error undoes all that it did.
    pub async fn write<T, E>(
        &self,
        write: impl FnOnce(&Tables, &mut RwTxn) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let room = self.room.clone().acquire_owned().await.map_err(|_| E::from(closed()))?;
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |tables, txn| {
            let result = write(tables, txn);
            let keep = result.is_ok();
            let finish: Finish = Box::new(move |committed| {
                let result = match (result, committed) {
                    (Ok(_), Err(error)) => Err(E::from(error)),
                    (result, _) => result,
                };
                drop(room);
                // Who asked may be gone; what was written stays.
                let _ = answer.send(result);
            });
            (keep, finish)
        });
        self.send(Command::Write(write))?;
        answered.await.unwrap_or_else(|_| Err(E::from(closed())))
    }

    /// Writes what is only in memory yet.
    pub async fn flush(&self) -> Result<()> {
        let (done, flushed) = oneshot::channel();
        self.send(Command::Flush(done))?;
        flushed.await.unwrap_or_else(|_| Err(closed()))
    }

    fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.as_ref().map(|commands| commands.send(command));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(closed()) }
    }
}

impl Drop for Writer {
    /// Waits for the thread, as the environment cannot be opened again before.
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn closed() -> StorageError {
    StorageError::Unavailable("the catalog is closed".into())
}

struct Thread {
    env: Env,
    tables: Tables,
    sightings: Arc<Sightings>,
    arrivals: Arc<Arrivals>,
}

impl Thread {
    fn run(self, queue: &mpsc::Receiver<Command>) {
        let mut flushed = Instant::now();
        loop {
            match queue.recv_timeout(FLUSH_EVERY.saturating_sub(flushed.elapsed())) {
                Ok(first) => {
                    let rest = queue.try_iter().take(MAX_GROUP - 1);
                    self.serve(std::iter::once(first).chain(rest));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if flushed.elapsed() >= FLUSH_EVERY {
                self.report_flush();
                flushed = Instant::now();
            }
        }
        self.report_flush();
    }

    fn serve(&self, commands: impl Iterator<Item = Command>) {
        let mut writes = Vec::new();
        let mut flushes = Vec::new();
        for command in commands {
            match command {
                Command::Write(write) => writes.push(write),
                Command::Flush(done) => flushes.push(done),
            }
        }
        let mut finishes = Vec::with_capacity(writes.len());
        let committed = self.commit(writes, &mut finishes);
        for finish in finishes {
            finish(committed.clone());
        }
        for done in flushes {
            let _ = done.send(self.flush());
        }
    }

    /// Each write in a transaction inside of the group's, so that one that fails undoes only itself.
    fn commit(&self, writes: Vec<Write>, finishes: &mut Vec<Finish>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut group = self.env.write_txn()?;
        for write in writes {
            let mut txn = self.env.nested_write_txn(&mut group)?;
            let (keep, finish) = write(&self.tables, &mut txn);
            finishes.push(finish);
            if keep {
                txn.commit()?;
            } else {
                txn.abort();
            }
        }
        Ok(group.commit()?)
    }

    fn flush(&self) -> Result<()> {
        if self.sightings.is_empty() && self.arrivals.is_empty() {
            return Ok(());
        }
        let mut txn = self.env.write_txn()?;
        let sightings = self.sightings.write(&self.tables, &mut txn)?;
        let arrivals = self.arrivals.write(&self.tables, &mut txn)?;
        txn.commit()?;
        self.sightings.written(sightings);
        self.arrivals.written(arrivals);
        Ok(())
    }

    fn report_flush(&self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "when devices were last seen, and how much arrived, is not written");
        }
    }
}
