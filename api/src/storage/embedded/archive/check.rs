//! Holds every body against its checksum, every file against the index and the index against the
//! files.

use super::disk::{Disk, DiskFile, RealDisk, read_exact_at};
use super::index::{FileRow, FileState, FileUpdate, Index, Row};
use super::record::{Content, FragmentHead};
use super::recovery::{Records, body_is_whole, files_on_disk, head_before, recover};
use super::removal::{Removal, write_voids};
use super::writer::{file_path, stream_dir};
use crate::id::{StreamId, Ulid};
use crate::segment::TimeRange;
use crate::storage::embedded::identity;
use crate::storage::embedded::lmdb::{Durability, io_error};
use crate::storage::embedded::pages::{PageFault, survey};
use crate::storage::embedded::quarantine::Quarantine;
use crate::storage::{FragmentRecord, Location, Result, StorageError};
use lookback_wire::FragmentNumber;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Below the archive's directory, beside the streams' own.
const KNOWN_NAMES: [&str; 3] = ["index", "quarantine", identity::FILE];

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    pub fragments: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// What each stream keeps, where the index could be read.
    pub streams: BTreeMap<StreamId, Kept>,
}

/// What is kept of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub fragments: u64,
    pub range: TimeRange,
}

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// The index's database itself is damaged.
    IndexPage(PageFault),
    /// The index cannot be opened, or contradicts itself.
    Index(String),
    /// There are chunk files, and no index.
    NoIndex,
    /// A file that the index names is not there.
    FileMissing { path: PathBuf, stream: StreamId, fragments: u64, range: Option<TimeRange> },
    /// A fragment that the index names is not there whole.
    Fragment { path: PathBuf, stream: StreamId, record: Box<FragmentRecord>, damage: Damage },
    /// An initialization segment that the index names is not there whole.
    Init { path: PathBuf, stream: StreamId, location: Location, damage: Damage },
    /// A file holds a whole fragment that the index does not name.
    FragmentNotIndexed { path: PathBuf, stream: StreamId, number: FragmentNumber, offset: u64 },
    /// A file holds a whole initialization segment that the index does not name.
    InitNotIndexed { path: PathBuf, stream: StreamId, offset: u64 },
    /// Something lies among the media that this service did not put there.
    Stray { path: PathBuf },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends before the record does.
    Short,
    /// Its head is not what was written.
    Head,
    /// It is another one than the index says.
    Other,
    /// Its body is not what was written.
    Body,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the file ends before it does",
            Self::Head => "its head is damaged",
            Self::Other => "the index describes another one",
            Self::Body => "its body is damaged",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexPage(fault) => write!(f, "index: {fault}"),
            Self::Index(what) => write!(f, "index: {what}"),
            Self::NoIndex => f.write_str("index: there is none; the next start makes it again"),
            Self::FileMissing { path, stream, fragments, range } => {
                write!(f, "{} is missing: {fragments} fragments of {stream}", path.display())?;
                range.map_or(Ok(()), |range| write!(f, ", {} to {}", range.start, range.end))
            }
            Self::Fragment { path, stream, record, damage } => {
                let FragmentRecord { number, location: Location { offset, len, .. }, .. } =
                    **record;
                let TimeRange { start, end } = record.range();
                write!(
                    f,
                    "{}: fragment {number} of {stream}, {start} to {end}, {len} bytes at {offset}: \
                     {damage}",
                    path.display()
                )
            }
            Self::Init { path, stream, location: Location { offset, len, .. }, damage } => write!(
                f,
                "{}: initialization segment of {stream}, {len} bytes at {offset}: {damage}",
                path.display()
            ),
            Self::FragmentNotIndexed { path, stream, number, offset } => write!(
                f,
                "{}: fragment {number} of {stream} at {offset} is not in the index",
                path.display()
            ),
            Self::InitNotIndexed { path, stream, offset } => write!(
                f,
                "{}: initialization segment of {stream} at {offset} is not in the index",
                path.display()
            ),
            Self::Stray { path } => write!(f, "{} is no file of the archive", path.display()),
        }
    }
}

/// Checks the archive in `root`, which no server may have open. With `repair`: an index that is
/// damaged or contradicts itself is set aside and made again from the files; damaged fragments are
/// copied aside and taken out of it, as are rows of missing files; whole fragments that it does not
/// name are added; strays are moved aside.
pub fn check(root: &Path, repair: bool) -> Result<Checked> {
    let mut check = Check {
        root,
        quarantine: repair.then(|| Quarantine::below(root)),
        checked: Checked::default(),
    };
    if let Some(index) = check.index()? {
        check.strays(&index)?;
        for (stream, number, row) in index.files()? {
            if row.state != FileState::Expired {
                check.file(&index, stream, number, Some(row))?;
            }
        }
        for stream in index.streams()? {
            let runs = index.runs_with_expected(stream)?.1;
            let Some(range) = index.extent(stream)? else { continue };
            let fragments = runs.iter().map(|run| run.fragments).sum();
            check.checked.streams.insert(stream, Kept { fragments, range });
        }
    }
    Ok(check.checked)
}

struct Check<'a> {
    root: &'a Path,
    /// Where to put what is taken out; none where nothing is to be changed.
    quarantine: Option<Quarantine>,
    checked: Checked,
}

impl Check<'_> {
    fn note(&mut self, finding: Finding) {
        self.checked.findings.push(finding);
    }

    /// An index that can be trusted; none where there is none, or no other than a damaged one.
    fn index(&mut self) -> Result<Option<Index>> {
        let dir = self.root.join("index");
        let data = dir.join("data.mdb");
        if !data.exists() {
            let is_empty = files_on_disk(&RealDisk, self.root)?.values().all(Vec::is_empty);
            if is_empty {
                return Ok(None);
            }
            self.note(Finding::NoIndex);
            return self.index_made_again();
        }
        let faults = survey(&data, &mut |_, _, _| {})?;
        let mut findings: Vec<Finding> = faults.into_iter().map(Finding::IndexPage).collect();
        if findings.is_empty() {
            match Index::open(&dir, Durability::EachCommit) {
                Ok(index) if !index.is_complete()? => {
                    findings.push(Finding::NoIndex);
                }
                Ok(index) => {
                    if self.quarantine.is_some() {
                        // What a kill left half done is done first, as a start would.
                        recover(&RealDisk, self.root, &index)?;
                    }
                    match index.contradictions() {
                        Ok(found) if found.is_empty() => return Ok(Some(index)),
                        Ok(found) => findings.extend(found.into_iter().map(Finding::Index)),
                        Err(StorageError::Damaged(what)) => findings.push(Finding::Index(what)),
                        Err(error) => return Err(error),
                    }
                }
                Err(StorageError::Damaged(what)) => findings.push(Finding::Index(what)),
                Err(error) => return Err(error),
            }
        }
        self.checked.findings.append(&mut findings);
        self.index_made_again()
    }

    fn index_made_again(&self) -> Result<Option<Index>> {
        let Some(quarantine) = &self.quarantine else { return Ok(None) };
        let dir = self.root.join("index");
        if dir.exists() {
            quarantine.take(&dir, "index")?;
        }
        let index = Index::open(&dir, Durability::EachCommit)?;
        recover(&RealDisk, self.root, &index)?;
        Ok(Some(index))
    }

    /// Looks for what is neither a chunk file nor anything else that belongs here, and for chunk
    /// files that the index does not know.
    fn strays(&mut self, index: &Index) -> Result<()> {
        let mut strays = Vec::new();
        let names = |dir: &Path| RealDisk.list(dir).map_err(|error| io_error(dir, &error));
        for name in names(self.root)? {
            let path = self.root.join(&name);
            if KNOWN_NAMES.contains(&name.as_str()) {
                continue;
            }
            let stream = name.parse::<Ulid>().map(StreamId).ok().filter(|_| path.is_dir());
            let Some(stream) = stream else {
                strays.push(path);
                continue;
            };
            let known: BTreeSet<u64> =
                index.files_of(stream)?.into_iter().map(|(_, number, _)| number).collect();
            for name in names(&path)? {
                let path = path.join(&name);
                match name.strip_suffix(".chunk").map(|name| u64::from_str_radix(name, 16)) {
                    Some(Ok(number)) if file_path(self.root, stream, number) == path => {
                        // What was begun last and never acknowledged, the next start settles.
                        let is_settled = known.last().is_some_and(|last| number < *last);
                        if is_settled
                            && !known.contains(&number)
                            && !self.file(index, stream, number, None)?
                        {
                            strays.push(path);
                        }
                    }
                    _ => strays.push(path),
                }
            }
        }
        for path in strays {
            if let Some(quarantine) = &self.quarantine {
                let name = path.strip_prefix(self.root).unwrap_or(&path);
                quarantine.take(&path, &name.display().to_string())?;
            }
            self.note(Finding::Stray { path });
        }
        Ok(())
    }

    /// Checks one chunk file, of which the index says what is in `row`. Answers whether it holds
    /// anything.
    fn file(
        &mut self,
        index: &Index,
        stream: StreamId,
        number: u64,
        row: Option<FileRow>,
    ) -> Result<bool> {
        let path = file_path(self.root, stream, number);
        let failed = |error: io::Error| io_error(&path, &error);
        let rows = index.fragments_in(stream, number)?;
        let file = match RealDisk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let starts = rows.iter().map(|record| record.start).min();
                let ends = rows.iter().map(|record| record.range().end).max();
                let range = starts.zip(ends).map(|(start, end)| TimeRange { start, end });
                let fragments = rows.len() as u64;
                self.note(Finding::FileMissing { path, stream, fragments, range });
                if self.quarantine.is_some() {
                    let (disk, root, gone) = (&RealDisk, self.root, &|_, _| {});
                    Removal { disk, root, index, gone }.unlink(stream, number)?;
                }
                return Ok(true);
            }
            Err(error) => return Err(failed(error)),
        };
        let inits = index.inits_in(stream, number)?;
        // What is taken away and not void yet is nothing that the index forgot.
        let going = index.voids_in(stream, number)?.into_iter().map(|location| location.offset);
        let mut known = Known { bodies: going.collect(), ends: BTreeSet::new() };
        let mut damaged = Vec::new();
        for record in rows {
            self.checked.fragments += 1;
            self.checked.bytes += u64::from(record.location.len);
            known.ends.insert(record.location.offset + u64::from(record.location.len));
            let says = |content: &Content| matches!(content, Content::Fragment(head) if head.record == record);
            match damage(file.as_ref(), stream, record.location, says).map_err(failed)? {
                None => {
                    known.bodies.insert(record.location.offset);
                }
                Some(damage) => {
                    let record = Box::new(record);
                    damaged.push(Finding::Fragment { path: path.clone(), stream, record, damage });
                }
            }
        }
        for (id, location) in inits {
            known.ends.insert(location.offset + u64::from(location.len));
            let says = |content: &Content| *content == Content::Init(id);
            match damage(file.as_ref(), stream, location, says).map_err(failed)? {
                None => {
                    known.bodies.insert(location.offset);
                }
                Some(damage) => {
                    damaged.push(Finding::Init { path: path.clone(), stream, location, damage });
                    if self.quarantine.is_some() {
                        index.remove_init(stream, id, number)?;
                    }
                }
            }
        }
        let indexed_to = row.map_or_else(|| file.size(), |row| Ok(row.len)).map_err(failed)?;
        let state = row.map_or(FileState::Sealed, |row| row.state);
        let mut missing = FileUpdate::of(stream, number, indexed_to);
        missing.state = state;
        not_indexed(index, file.as_ref(), &known, &mut missing).map_err(failed)??;

        if let Some(quarantine) = &self.quarantine {
            let (mut gone, mut void) = (Vec::new(), Vec::new());
            for finding in &damaged {
                let (location, record, damage) = match finding {
                    Finding::Fragment { record, damage, .. } => {
                        (record.location, Some(record), damage)
                    }
                    Finding::Init { location, damage, .. } => (*location, None, damage),
                    _ => continue,
                };
                let bytes = known.region(file.as_ref(), location).map_err(failed)?;
                let dir = stream_dir(Path::new(""), stream);
                let name = dir.join(format!("{number:016x}-{}.record", location.offset));
                quarantine.keep(&name.display().to_string(), &bytes)?;
                gone.extend(record.map(|record| (**record).clone()));
                void.extend((*damage == Damage::Body).then_some(location));
            }
            // An index that is made again would take them in by their heads, which are whole.
            void.sort_by_key(|location| location.offset);
            write_voids(file.as_ref(), stream, &void).map_err(failed)?;
            index.remove_from_file(stream, number, &gone, false)?;
            if !missing.rows.is_empty() || !missing.inits.is_empty() {
                index.commit([&missing])?;
            }
        }
        let holds = !known.ends.is_empty() || !missing.rows.is_empty() || !missing.inits.is_empty();
        self.checked.findings.append(&mut damaged);
        for (_, Location { offset, .. }) in missing.inits {
            self.note(Finding::InitNotIndexed { path: path.clone(), stream, offset });
        }
        for FragmentRecord { number, location, .. } in
            missing.rows.into_iter().map(|row| row.record)
        {
            let (path, offset) = (path.clone(), location.offset);
            self.note(Finding::FragmentNotIndexed { path, stream, number, offset });
        }
        Ok(holds)
    }
}

/// What the index says of a file's bodies.
struct Known {
    /// Where those begin that need not be looked at: they are whole, or being taken away.
    bodies: HashSet<u64>,
    /// Where all of them end, and so where the next record begins.
    ends: BTreeSet<u64>,
}

impl Known {
    /// The bytes from the end of the record before up to the end of a body, as far as there are any.
    fn region(&self, file: &dyn DiskFile, location: Location) -> io::Result<Vec<u8>> {
        let from = self.ends.range(..=location.offset).next_back().copied().unwrap_or(0);
        let to = (location.offset + u64::from(location.len)).min(file.size()?);
        let len = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        Ok(read_exact_at(file, from, len)?.unwrap_or_default())
    }
}

/// What is wrong with the record whose body is to lie at `location`, and whose head is to be what
/// `says` accepts.
fn damage(
    file: &dyn DiskFile,
    stream: StreamId,
    location: Location,
    says: impl Fn(&Content) -> bool,
) -> io::Result<Option<Damage>> {
    if location.offset.saturating_add(u64::from(location.len)) > file.size()? {
        return Ok(Some(Damage::Short));
    }
    let Some(head) = head_before(file, stream, location)? else { return Ok(Some(Damage::Head)) };
    if head.body_len != location.len || !says(&head.content) {
        return Ok(Some(Damage::Other));
    }
    Ok((!body_is_whole(file, &head)?).then_some(Damage::Body))
}

/// Gathers in `missing` what is whole up to its length and has no row, nor one of the same start and
/// payload.
fn not_indexed(
    index: &Index,
    file: &dyn DiskFile,
    known: &Known,
    missing: &mut FileUpdate,
) -> io::Result<Result<()>> {
    let mut records = Records::new(file, missing.stream, missing.file, 0)?;
    while let Some(head) = records.next_head()? {
        if head.end() > missing.len {
            break;
        }
        let is_known = known.bodies.contains(&head.body_offset());
        if is_known || head.content == Content::Void || !body_is_whole(file, &head)? {
            continue;
        }
        let location =
            Location { file: missing.file, offset: head.body_offset(), len: head.body_len };
        match head.content {
            Content::Void => {}
            Content::Init(id) => missing.inits.push((id, location)),
            Content::Fragment(head) => {
                let FragmentHead { record, payload_hash, .. } = *head;
                match index.find_same(missing.stream, record.start, &payload_hash) {
                    Ok(Some(_)) => {}
                    Ok(None) => missing.rows.push(Row { record, payload_hash }),
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
    }
    Ok(Ok(()))
}
