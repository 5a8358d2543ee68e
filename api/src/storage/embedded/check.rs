//! Checks a data directory that no server has open, and repairs it: see the parts' own `check`.

use super::catalog::EmbeddedCatalog;
use super::identity::{Identities, Mismatch};
use super::quarantine::Quarantine;
use super::{archive, catalog};
use crate::clock::Clock;
use crate::id::StreamId;
use crate::storage::Result;
use archive::check::Kept;
use std::fmt;
use std::path::Path;

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Report {
    pub records: u64,
    pub fragments: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// Footage of streams that the catalog does not know: whole, and kept.
    pub unknown: Vec<(StreamId, Kept)>,
}

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// Catalog and media do not belong together.
    Mismatch(Mismatch),
    Catalog(catalog::check::Finding),
    Archive(archive::check::Finding),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch(mismatch) => mismatch.fmt(f),
            Self::Catalog(finding) => finding.fmt(f),
            Self::Archive(finding) => finding.fmt(f),
        }
    }
}

/// Checks all that `data_dir` holds; with `repair`, puts right what can be. Media of another
/// installation is left alone.
pub fn check(data_dir: &Path, repair: bool) -> Result<Report> {
    let _lock = super::lock(data_dir)?;
    let mut report = Report::default();
    let (dir, root) = (data_dir.join("catalog"), data_dir.join("archive"));
    let is_there = dir.join("data.mdb").exists();
    let mut known = None;
    if is_there {
        let checked = catalog::check::check(&dir, repair, &Quarantine::below(data_dir))?;
        report.records = checked.records;
        report.findings.extend(checked.findings.into_iter().map(Finding::Catalog));
        known = checked.streams;
    }
    let is_readable = known.is_some() || repair;
    let catalog = is_readable.then(|| EmbeddedCatalog::open(&dir)).transpose()?;
    if is_readable || !is_there {
        let identities = Identities::read(catalog.as_ref(), &root)?;
        if let Some(mismatch) = identities.mismatch() {
            report.findings.push(Finding::Mismatch(mismatch));
            if mismatch == Mismatch::Foreign {
                return Ok(report);
            }
            if let Some(catalog) = catalog.as_ref().filter(|_| repair) {
                identities.join(catalog, &root, Clock::System.now())?;
            }
        }
    }
    let checked = archive::check::check(&root, repair)?;
    report.fragments = checked.fragments;
    report.bytes = checked.bytes;
    report.findings.extend(checked.findings.into_iter().map(Finding::Archive));
    if is_readable || !is_there {
        let known = known.unwrap_or_default();
        report.unknown.extend(checked.streams.into_iter().filter(|(id, _)| !known.contains(id)));
    }
    Ok(report)
}
