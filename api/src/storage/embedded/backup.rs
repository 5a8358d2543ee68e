//! Copies of the catalog: taken beside a running server, put back where none runs.
//!
//! A backup is a directory with `catalog/data.mdb` in it. It holds no media, and no index of it,
//! which is made again from the media.

use super::catalog::EmbeddedCatalog;
use super::identity::{Identities, Mismatch};
use super::lmdb::io_error;
use super::pages::require_sound;
use super::quarantine::{Quarantine, sync_dir};
use crate::storage::{Result, StorageError};
use lookback_wire::Timestamp;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies the catalog of `data_dir` as it is at one moment to the directory `to`, which must not be
/// there yet and is whole once it is. Users' password hashes are in it: only its owner may read it.
pub fn backup(data_dir: &Path, to: &Path) -> Result<()> {
    let catalog = data_dir.join("catalog");
    if !catalog.join("data.mdb").exists() {
        return Err(StorageError::Unavailable(format!("there is no {}", catalog.display())));
    }
    if to.symlink_metadata().is_ok() {
        return Err(StorageError::Unavailable(format!("{} is there already", to.display())));
    }
    let mut draft = to.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(draft);
    let copied = copy_catalog(&catalog, &draft).and_then(|()| {
        fs::rename(&draft, to).map_err(|error| io_error(to, &error))?;
        sync_dir(&parent(to))
    });
    if copied.is_err() {
        // What made the copy fail is worth more to know than that it could not be cleared away.
        let _ = fs::remove_dir_all(&draft);
    }
    copied
}

fn copy_catalog(catalog: &Path, draft: &Path) -> Result<()> {
    let dir = draft.join("catalog");
    make_private_dir(&dir)?;
    let path = dir.join("data.mdb");
    let failed = |error: io::Error| io_error(&path, &error);
    let mut file = create_private(&path).map_err(failed)?;
    EmbeddedCatalog::open(catalog)?.copy_to(&mut file)?;
    file.sync_all().map_err(failed)?;
    require_sound(&path)?;
    sync_dir(&dir)?;
    sync_dir(draft)
}

/// What was put back.
#[derive(Debug)]
pub struct Restored {
    /// Where the catalog is that was there before.
    pub set_aside: Option<PathBuf>,
    pub has_media: bool,
}

/// Puts the backup `from` in the place of the catalog of `data_dir`, which no server may have open.
/// Media that is there must be the catalog's own; where none is, the catalog begins with none.
pub fn restore(from: &Path, data_dir: &Path, now: Timestamp) -> Result<Restored> {
    let _lock = super::lock(data_dir)?;
    let source = from.join("catalog").join("data.mdb");
    require_sound(&source)?;
    let (dir, draft) = (data_dir.join("catalog"), data_dir.join("catalog.new"));
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&draft, &error));
        }
        _ => {}
    }
    make_private_dir(&draft)?;
    let path = draft.join("data.mdb");
    create_private(&path)
        .and_then(|mut file| {
            io::copy(&mut File::open(&source)?, &mut file)?;
            file.sync_all()
        })
        .map_err(|error| io_error(&path, &error))?;

    let archive = data_dir.join("archive");
    let catalog = EmbeddedCatalog::open(&draft)?;
    let identities = Identities::read(Some(&catalog), &archive)?;
    if identities.mismatch() == Some(Mismatch::Foreign) {
        return Err(StorageError::Unavailable(format!(
            "{}: {}",
            archive.display(),
            Mismatch::Foreign
        )));
    }
    identities.join(&catalog, &archive, now)?;
    drop(catalog);

    let was_there = dir.exists();
    let set_aside =
        was_there.then(|| Quarantine::below(data_dir).take(&dir, "catalog")).transpose()?;
    fs::rename(&draft, &dir).map_err(|error| io_error(&dir, &error))?;
    sync_dir(data_dir)?;
    Ok(Restored { set_aside, has_media: identities.has_media() })
}

fn make_private_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| io_error(dir, &error))
}

fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
