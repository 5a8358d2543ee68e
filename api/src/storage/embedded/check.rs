//! Checks a data directory that no server has open, and repairs it: see the parts' own `check`.

use super::quarantine::Quarantine;
use super::{archive, catalog};
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
    /// There is media, and no catalog.
    NoCatalog,
    Catalog(catalog::check::Finding),
    Archive(archive::check::Finding),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCatalog => f.write_str("catalog: there is none; restore a backup of it"),
            Self::Catalog(finding) => finding.fmt(f),
            Self::Archive(finding) => finding.fmt(f),
        }
    }
}

/// Checks all that `data_dir` holds; with `repair`, puts right what can be.
pub fn check(data_dir: &Path, repair: bool) -> Result<Report> {
    let _lock = super::lock(data_dir)?;
    let mut report = Report::default();
    let dir = data_dir.join("catalog");
    let mut known = None;
    if dir.join("data.mdb").exists() {
        let checked = catalog::check::check(&dir, repair, &Quarantine::below(data_dir))?;
        report.records = checked.records;
        report.findings.extend(checked.findings.into_iter().map(Finding::Catalog));
        known = checked.streams;
    }
    let checked = archive::check::check(&data_dir.join("archive"), repair)?;
    report.fragments = checked.fragments;
    report.bytes = checked.bytes;
    report.findings.extend(checked.findings.into_iter().map(Finding::Archive));
    match known {
        Some(known) => {
            let unknown = checked.streams.into_iter().filter(|(id, _)| !known.contains(id));
            report.unknown.extend(unknown);
        }
        None if dir.join("data.mdb").exists() || checked.streams.is_empty() => {}
        None => report.findings.push(Finding::NoCatalog),
    }
    Ok(report)
}
