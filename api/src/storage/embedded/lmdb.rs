//! Opens LMDB environments: the one place that maps a file into memory.

use crate::storage::{Result, StorageError};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn};
use std::io;
use std::path::Path;

/// A table of bytes by bytes.
pub type Table = Database<'static, Bytes, Bytes>;

/// Address space set aside; the file itself grows only with what is in it. Large enough never to
/// be met (a billion fragments), small beside the 128 TiB that a 64-bit process has.
pub const MAP_BYTES: usize = 256 << 30;

/// Threads that may read at once; each takes 64 bytes of the lock file. The runtime's blocking
/// pool has 512.
const MAX_READERS: u32 = 2048;

/// Who makes the data durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    EachCommit,
    /// Nobody: for tests that cut the power in a model of the disk and for benches.
    None,
}

/// Opens the environment in `dir`, made where it is absent, with its tables.
pub fn open<const N: usize>(
    dir: &Path,
    names: [&'static str; N],
    durability: Durability,
) -> Result<(Env, [Table; N])> {
    let new = !dir.exists();
    std::fs::create_dir_all(dir).map_err(|error| io_error(dir, &error))?;
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(MAX_READERS).max_dbs(N as u32);
    let flags = match durability {
        Durability::EachCommit => EnvFlags::NO_READ_AHEAD,
        Durability::None => EnvFlags::NO_READ_AHEAD | EnvFlags::NO_SYNC,
    };
    // Safe while nobody else changes the file other than through LMDB, which locks it between
    // processes; the data directory belongs to this service alone.
    #[allow(unsafe_code)]
    let env = unsafe { options.flags(flags).open(dir) }?;
    if new {
        // LMDB syncs its file, not the file's name.
        for dir in [Some(dir), dir.parent()].into_iter().flatten() {
            std::fs::File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| io_error(dir, &error))?;
        }
    }
    let info = env.info();
    let page_bytes = env.unnamed_database_stat().page_size as u64;
    let used = (info.last_page_number as u64 + 1) * page_bytes;
    let len = env.real_disk_size()?;
    // The map must not be read beyond the file's end. A new environment has two pages and may not
    // have written them yet.
    if info.last_txn_id > 0 && len < used {
        return Err(StorageError::Damaged(format!(
            "{} has {len} bytes of {used}",
            dir.join("data.mdb").display()
        )));
    }
    env.clear_stale_readers()?;
    let txn = env.write_txn()?;
    let opened = env.create_databases_and_commit(txn, |opener, txn| {
        let mut tables = Vec::with_capacity(N);
        for name in names {
            tables.push(opener.create_database::<Bytes, Bytes>(txn, Some(name))?);
        }
        match <[_; N]>::try_from(tables) {
            Ok(tables) => Ok::<_, heed::Error>(CommitOrAbort::Commit(tables)),
            Err(_) => Ok(CommitOrAbort::Abort(())),
        }
    })?;
    match opened {
        CommitOrAbort::Commit(tables) => Ok((env, tables)),
        CommitOrAbort::Abort(()) => Err(StorageError::Unavailable("no tables".into())),
    }
}

impl From<heed::Error> for StorageError {
    fn from(error: heed::Error) -> Self {
        match &error {
            heed::Error::Io(io) => from_io("database", io),
            heed::Error::Mdb(MdbError::MapFull) => Self::Full(format!("database: {error}")),
            heed::Error::Mdb(MdbError::Other(code)) => {
                from_io("database", &io::Error::from_raw_os_error(*code))
            }
            heed::Error::Mdb(
                MdbError::PageNotFound
                | MdbError::Corrupted
                | MdbError::Invalid
                | MdbError::VersionMismatch,
            ) => Self::Damaged(format!("database: {error}")),
            _ => Self::Unavailable(format!("database: {error}")),
        }
    }
}

/// What an I/O error at `path` means to callers.
pub fn io_error(path: &Path, error: &io::Error) -> StorageError {
    from_io(&path.display().to_string(), error)
}

fn from_io(what: &str, error: &io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StorageError::Full(format!("{what}: {error}"))
        }
        _ => StorageError::Unavailable(format!("{what}: {error}")),
    }
}

/// The last entry at or before `key` that begins with `prefix`.
pub fn last_up_to<'txn>(
    table: Table,
    txn: &'txn RoTxn,
    prefix: &[u8],
    key: &[u8],
) -> Result<Option<(&'txn [u8], &'txn [u8])>> {
    let found = table.get_lower_than_or_equal_to(txn, key)?;
    Ok(found.filter(|(key, _)| key.starts_with(prefix)))
}

/// The first entry at or after `key` that begins with `prefix`.
pub fn first_from<'txn>(
    table: Table,
    txn: &'txn RoTxn,
    prefix: &[u8],
    key: &[u8],
) -> Result<Option<(&'txn [u8], &'txn [u8])>> {
    let found = table.get_greater_than_or_equal_to(txn, key)?;
    Ok(found.filter(|(key, _)| key.starts_with(prefix)))
}

/// An instant as eight bytes that sort as it does.
pub fn time_key(millis: i64) -> [u8; 8] {
    ((millis as u64) ^ (1 << 63)).to_be_bytes()
}

/// What [`time_key`] was made of.
pub fn time_from_key(key: [u8; 8]) -> i64 {
    (u64::from_be_bytes(key) ^ (1 << 63)) as i64
}
