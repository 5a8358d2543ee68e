//! Takes away chunk files whose time is over.

use super::disk::Disk;
use super::index::{FileState, Index};
use super::writer::{file_path, stream_dir};
use crate::id::StreamId;
use crate::storage::Result;
use crate::storage::embedded::lmdb::io_error;
use lookback_wire::Timestamp;
use std::io;
use std::path::Path;

/// Takes away the files of a stream in which everything arrived before `before`; none of them may
/// be open for appending. Calls `gone` for each before it is unlinked; answers how many fragments
/// they held.
///
/// Index first, then the file: a crash between the two leaves a file that is known to be due, never
/// a row without its media.
pub fn expire(
    disk: &dyn Disk,
    root: &Path,
    index: &Index,
    stream: StreamId,
    before: Timestamp,
    gone: impl Fn(u64),
) -> Result<u64> {
    let mut fragments = 0;
    for (_, number, row) in index.files_of(stream)? {
        if row.newest_arrival >= before && row.state != FileState::Expired {
            continue;
        }
        fragments += index.expire_file(stream, number)?;
        gone(number);
        let path = file_path(root, stream, number);
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path, &error));
            }
            _ => {}
        }
        let dir = stream_dir(root, stream);
        disk.sync_dir(&dir).map_err(|error| io_error(&dir, &error))?;
        index.forget_file(stream, number)?;
    }
    Ok(fragments)
}
