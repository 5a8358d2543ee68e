//! Where `check --repair` puts what it takes out: nothing is ever deleted from there but by hand.

use super::lmdb::io_error;
use crate::storage::Result;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory on the same disk as what is put into it, made when it is needed.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    /// Below `root`.
    pub fn below(root: &Path) -> Self {
        Self { dir: root.join("quarantine") }
    }

    /// Moves a file or directory here, under a name that nothing here has yet; answers where.
    pub fn take(&self, path: &Path, name: &str) -> Result<PathBuf> {
        let to = self.free(name)?;
        fs::rename(path, &to).map_err(|error| io_error(path, &error))?;
        for dir in [path.parent(), to.parent()].into_iter().flatten() {
            sync_dir(dir)?;
        }
        Ok(to)
    }

    /// Keeps a copy of bytes, durably.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let to = self.free(name)?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&to)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(|error| io_error(&to, &error))?;
        to.parent().map_or(Ok(()), sync_dir)
    }

    /// A path that is not there yet, in a directory that is.
    fn free(&self, name: &str) -> Result<PathBuf> {
        let mut to = self.dir.join(name);
        for copy in 2.. {
            match to.symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(io_error(&to, &error)),
                Ok(_) => to = self.dir.join(format!("{name}.{copy}")),
            }
        }
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir).map_err(|error| io_error(dir, &error))?;
        }
        Ok(to)
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error(dir, &error))
}
