//! Holds the index against the files, and every body against its checksum.

use super::disk::{Disk, DiskFile, RealDisk};
use super::index::{FileRow, FileState, FileUpdate, Index, Row};
use super::record::Content;
use super::recovery::{Records, body_is_whole, files_on_disk, head_before};
use super::writer::{file_path, stream_dir};
use crate::id::StreamId;
use crate::storage::embedded::lmdb::{Durability, io_error};
use crate::storage::{FragmentRecord, Location, Result};
use lookback_wire::FragmentNumber;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Report {
    pub fragments: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// The index names a fragment that the file does not hold whole.
    Fragment { stream: StreamId, number: FragmentNumber, location: Location },
    /// The index names an initialization segment that the file does not hold whole.
    Init { stream: StreamId, location: Location },
    /// The file holds a whole fragment that the index does not name.
    NotIndexed { stream: StreamId, number: FragmentNumber, location: Location },
    /// The index's runs are not what its fragments come to.
    Runs { stream: StreamId },
    /// There are chunk files, and no index.
    NoIndex,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment { stream, number, location: Location { file, offset, len } } => write!(
                f,
                "{stream}: fragment {number} is damaged: {len} bytes at {offset} of file {file:016x}"
            ),
            Self::Init { stream, location: Location { file, offset, len } } => write!(
                f,
                "{stream}: an initialization segment is damaged: {len} bytes at {offset} of file \
                 {file:016x}"
            ),
            Self::NotIndexed { stream, number, location: Location { file, offset, .. } } => write!(
                f,
                "{stream}: fragment {number} at {offset} of file {file:016x} is not in the index"
            ),
            Self::Runs { stream } => write!(f, "{stream}: the runs do not match the fragments"),
            Self::NoIndex => f.write_str("the archive has no index; the next start makes it again"),
        }
    }
}

/// Checks the archive in `root`, also beside a running server. With `repair`, for which no server
/// may run: rows of damaged fragments are taken out of the index, with their files linked to
/// `quarantine/` so that retention leaves them; whole fragments that were not indexed are, and runs
/// are put right.
pub fn check(root: &Path, repair: bool) -> Result<Report> {
    let mut report = Report::default();
    if !root.join("index").join("data.mdb").exists() {
        let files = files_on_disk(&RealDisk, root)?;
        report.findings.extend((!files.values().all(Vec::is_empty)).then_some(Finding::NoIndex));
        return Ok(report);
    }
    let index = Index::open(&root.join("index"), Durability::EachCommit)?;
    if !index.is_complete()? {
        report.findings.push(Finding::NoIndex);
        return Ok(report);
    }
    for (stream, number, row) in index.files()? {
        if row.state != FileState::Expired {
            File { root, index: &index, stream, number, row }.check(repair, &mut report)?;
        }
    }
    for stream in index.streams()? {
        let (found, expected) = index.runs_with_expected(stream)?;
        if found != expected {
            report.findings.push(Finding::Runs { stream });
            if repair {
                index.put_runs(stream, &expected)?;
            }
        }
    }
    Ok(report)
}

/// One chunk file, as the index knows it.
struct File<'a> {
    root: &'a Path,
    index: &'a Index,
    stream: StreamId,
    number: u64,
    row: FileRow,
}

impl File<'_> {
    fn check(&self, repair: bool, report: &mut Report) -> Result<()> {
        let path = file_path(self.root, self.stream, self.number);
        let failed = |error: io::Error| io_error(&path, &error);
        let indexed = self.index.fragments_in(self.stream, self.number)?;
        let inits = self.index.inits_in(self.stream, self.number)?;
        let file = match RealDisk.open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if file.is_none() && self.index.files_of(self.stream)?.iter().all(|f| f.1 != self.number) {
            // Its retention ended just now.
            return Ok(());
        }
        let mut damaged = Vec::new();
        let mut whole = HashSet::new();
        for record in indexed {
            report.fragments += 1;
            report.bytes += u64::from(record.location.len);
            let found = match &file {
                Some(file) => self.record_at(file.as_ref(), record.location).map_err(failed)?,
                None => None,
            };
            let same = matches!(found, Some(Content::Fragment(head)) if head.record == record);
            if same {
                whole.insert(record.location.offset);
            } else {
                damaged.push(record);
            }
        }
        for (id, location) in inits {
            let found = match &file {
                Some(file) => self.record_at(file.as_ref(), location).map_err(failed)?,
                None => None,
            };
            if found != Some(Content::Init(id)) {
                report.findings.push(Finding::Init { stream: self.stream, location });
                if repair {
                    self.index.remove_init(self.stream, id, self.number)?;
                }
            }
        }
        let missing = match &file {
            Some(file) => self.not_indexed(file.as_ref(), &whole).map_err(failed)??,
            None => Vec::new(),
        };
        if repair {
            self.repair(&damaged, &missing)?;
        }
        let stream = self.stream;
        report.findings.extend(damaged.into_iter().map(|record| {
            let FragmentRecord { number, location, .. } = record;
            Finding::Fragment { stream, number, location }
        }));
        report.findings.extend(missing.into_iter().map(|row| {
            let FragmentRecord { number, location, .. } = row.record;
            Finding::NotIndexed { stream, number, location }
        }));
        Ok(())
    }

    /// What is whole at `location`.
    fn record_at(&self, file: &dyn DiskFile, location: Location) -> io::Result<Option<Content>> {
        let Some(head) = head_before(file, self.stream, location)? else { return Ok(None) };
        let is_whole = head.body_len == location.len && body_is_whole(file, &head)?;
        Ok(is_whole.then_some(head.content))
    }

    /// Whole fragments up to where the file is indexed that have no row, nor one of the same start
    /// and payload.
    fn not_indexed(
        &self,
        file: &dyn DiskFile,
        known: &HashSet<u64>,
    ) -> io::Result<Result<Vec<Row>>> {
        let mut missing = Vec::new();
        let mut records = Records::new(file, self.stream, self.number, 0)?;
        while let Some(head) = records.next_head()? {
            if head.end() > self.row.len {
                break;
            }
            if known.contains(&head.body_offset()) || !body_is_whole(file, &head)? {
                continue;
            }
            let Content::Fragment(fragment) = head.content else { continue };
            let start = fragment.record.start;
            match self.index.find_same(self.stream, start, &fragment.payload_hash) {
                Ok(Some(_)) => {}
                Ok(None) => missing
                    .push(Row { record: fragment.record, payload_hash: fragment.payload_hash }),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(missing))
    }

    fn repair(&self, damaged: &[FragmentRecord], missing: &[Row]) -> Result<()> {
        if !damaged.is_empty() {
            self.set_aside()?;
            self.index.remove_fragments(self.stream, damaged)?;
        }
        if !missing.is_empty() {
            let update = FileUpdate {
                state: self.row.state,
                rows: missing.to_vec(),
                ..FileUpdate::of(self.stream, self.number, self.row.len)
            };
            self.index.commit([&update])?;
        }
        Ok(())
    }

    /// Keeps a second name of the file, for whoever wants to look into it.
    fn set_aside(&self) -> Result<()> {
        let from = file_path(self.root, self.stream, self.number);
        let aside = self.root.join("quarantine");
        let to = file_path(&aside, self.stream, self.number);
        let dir = stream_dir(&aside, self.stream);
        std::fs::create_dir_all(&dir).map_err(|error| io_error(&dir, &error))?;
        match std::fs::hard_link(&from, &to) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                Err(io_error(&to, &error))
            }
            _ => Ok(()),
        }
    }
}
