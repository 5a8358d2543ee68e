//! Which media belongs to which catalog. Both carry the same identity, so that another
//! installation's disk is not taken for this one's, nor a disk that is not mounted for an empty one.

use super::archive::disk::RealDisk;
use super::archive::recovery::files_on_disk;
use super::catalog::EmbeddedCatalog;
use super::lmdb::io_error;
use super::quarantine::sync_dir;
use crate::id::Ulid;
use crate::storage::{Result, StorageError};
use lookback_wire::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// In the archive's directory.
pub const FILE: &str = "identity";

/// What the two sides carry.
#[derive(Clone, Copy, Debug)]
pub struct Identities {
    catalog: Option<Ulid>,
    media: Option<Ulid>,
    has_media: bool,
}

/// Why a catalog and media do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the media that the catalog knows is not there: mount its disk, or have check --repair \
         begin with none"
    )]
    MediaMissing,
    #[error(
        "there is media, and the catalog that it belongs to is not there: restore a backup of it, or \
         have check --repair begin another one"
    )]
    CatalogMissing,
    #[error("the media belongs to the catalog of another installation")]
    Foreign,
}

impl Identities {
    /// Of the archive in `root`, and of the catalog where there is one.
    pub fn read(catalog: Option<&EmbeddedCatalog>, root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let media = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|_| {
                StorageError::Damaged(format!("{} is no identity: {text:?}", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(&path, &error)),
        };
        let files = files_on_disk(&RealDisk, root)?;
        let has_media = files.values().any(|files| !files.is_empty());
        let catalog = catalog.map(EmbeddedCatalog::archive).transpose()?.flatten();
        Ok(Self { catalog, media, has_media })
    }

    pub fn mismatch(&self) -> Option<Mismatch> {
        match (self.catalog, self.media) {
            (Some(catalog), Some(media)) => (catalog != media).then_some(Mismatch::Foreign),
            (Some(_), None) => Some(Mismatch::MediaMissing),
            (None, Some(_)) => self.has_media.then_some(Mismatch::CatalogMissing),
            (None, None) => None,
        }
    }

    pub fn has_media(&self) -> bool {
        self.has_media
    }

    /// Gives the side that carries none what the other one carries, or both a new one.
    pub fn join(&self, catalog: &EmbeddedCatalog, root: &Path, now: Timestamp) -> Result<()> {
        let id = self.media.or(self.catalog).unwrap_or_else(|| Ulid::new(now));
        // The media's first: where only this is done, there is no media yet that would be missed.
        if self.media.is_none() {
            fs::create_dir_all(root).map_err(|error| io_error(root, &error))?;
            let (path, draft) = (root.join(FILE), root.join(format!("{FILE}.new")));
            File::create(&draft)
                .and_then(|mut file| writeln!(file, "{id}").and_then(|()| file.sync_all()))
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|error| io_error(&path, &error))?;
            sync_dir(root)?;
        }
        if self.catalog.is_none() { catalog.set_archive(id) } else { Ok(()) }
    }
}
