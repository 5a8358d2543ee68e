//! What the archive asks of a disk, and the disk itself. The writer and the recovery name only the
//! traits, so that a test can cut the power between any two calls.

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A directory tree. Names become durable with [`Disk::sync_dir`] of the directory they are in.
pub trait Disk: Debug + Send + Sync {
    /// Makes a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory; answers whether it was not there before.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order; none where it does not exist.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// How many bytes of media there is room for in a directory, where `min_free_bytes` of its disk
    /// are to stay free.
    fn room(&self, path: &Path, min_free_bytes: Option<u64>) -> io::Result<u64>;
}

/// A file that grows at its end. What was written is durable after [`DiskFile::sync`].
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of `parts`, one after the other, from `offset` on.
    fn write_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset` on, or as much of it as there is; answers how much.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`DiskFile::read_at`], but only what is had without waiting.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
    fn size(&self) -> io::Result<u64>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Gives back what `len` bytes at `offset` take up; they read as zeros afterwards, or as before
    /// where the file system cannot do it.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// Reads exactly `len` bytes; `None` where the file ends before.
pub fn read_exact_at(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; len];
    Ok((file.read_at(&mut buffer, offset)? == len).then_some(buffer))
}

/// The machine's own file system.
#[derive(Debug)]
pub struct RealDisk;

/// Unless configured otherwise, left free for the records and for what deleting writes to the index: a disk that media had
/// filled to the last byte could never be made free again. On a small disk a twentieth of it.
const RESERVED_BYTES: u64 = 256 << 20;

/// `pwritev` takes at most 1024 parts (`IOV_MAX` of Linux).
const PARTS_PER_WRITE: usize = 1024;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match std::fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn room(&self, path: &Path, min_free_bytes: Option<u64>) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let reserved = RESERVED_BYTES.min(bytes(disk.f_blocks) / 20);
        let reserved = min_free_bytes.unwrap_or(reserved);
        Ok(bytes(disk.f_bavail).saturating_sub(reserved))
    }
}

impl DiskFile for File {
    fn write_at(&self, parts: &[Bytes], mut offset: u64) -> io::Result<()> {
        for parts in parts.chunks(PARTS_PER_WRITE) {
            let mut slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let written = match rustix::io::pwritev(self, rest, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut buffer = [IoSliceMut::new(buffer)];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        Ok(rustix::io::preadv2(self, &mut buffer, offset, flags)?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self, flags, offset, len) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            done => Ok(done?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
