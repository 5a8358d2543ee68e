//! The embedded backend: LMDB for records, chunk files for media, in one data directory.
//!
//! ```text
//! data_dir/lock         held by the server that runs here
//! data_dir/catalog/     records
//! data_dir/archive/     media
//! data_dir/quarantine/  what `check --repair` took out of the catalog
//! ```

pub mod archive;
pub mod backup;
pub mod catalog;
pub mod check;
mod identity;
pub mod lmdb;
mod pages;
pub mod quarantine;

use super::{Catalog, Media, Result, Storage, StorageError};
use crate::clock::Clock;
use archive::{ArchiveOptions, EmbeddedArchive};
use catalog::EmbeddedCatalog;
use identity::Identities;
use lmdb::io_error;
use pages::require_sound_or_new;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// Opens `data_dir` for a server, made if absent. Refused while another server has it open.
pub fn open(data_dir: &Path) -> Result<Storage> {
    open_with(data_dir, ArchiveOptions::default())
}

/// As [`open`], with the archive set otherwise.
pub fn open_with(data_dir: &Path, options: ArchiveOptions) -> Result<Storage> {
    let lock = lock(data_dir)?;
    let catalog = data_dir.join("catalog");
    require_sound_or_new(&catalog.join("data.mdb")).map_err(|error| match error {
        StorageError::Damaged(what) => {
            StorageError::Damaged(format!("{what}; check --repair saves what can be read"))
        }
        other => other,
    })?;
    let catalog = EmbeddedCatalog::open(&catalog)?;
    let root = data_dir.join("archive");
    let identities = Identities::read(Some(&catalog), &root)?;
    if let Some(mismatch) = identities.mismatch() {
        return Err(StorageError::Unavailable(format!("{}: {mismatch}", root.display())));
    }
    identities.join(&catalog, &root, Clock::System.now())?;
    let archive = EmbeddedArchive::open(&root, options, Some(lock))?;
    Ok(Storage { catalog: Arc::new(catalog), media: Media::Local(Arc::new(archive)) })
}

/// Opens the records of `data_dir` alone; works beside a running server, as LMDB lets several
/// processes in.
pub fn open_catalog(data_dir: &Path) -> Result<Arc<dyn Catalog>> {
    std::fs::create_dir_all(data_dir).map_err(|error| io_error(data_dir, &error))?;
    Ok(Arc::new(EmbeddedCatalog::open(&data_dir.join("catalog"))?))
}

/// Takes the data directory for this process. The lock goes when the file is closed, by a kill too.
fn lock(data_dir: &Path) -> Result<File> {
    std::fs::create_dir_all(data_dir).map_err(|error| io_error(data_dir, &error))?;
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io_error(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StorageError::Unavailable(format!("another server runs in {}", data_dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn the_archive_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).unwrap();
        contract::check_local_archive(storage.local().unwrap()).await;
    }

    #[tokio::test]
    async fn the_catalog_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).unwrap();
        contract::check_catalog(storage.catalog.as_ref()).await;
    }

    #[tokio::test]
    async fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("another server runs in"), "{refused}");
        drop(storage);
        open(dir.path()).unwrap();
    }
}
