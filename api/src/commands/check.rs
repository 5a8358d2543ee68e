//! `lookback check`: holds everything stored against its checksum, the index against the files and
//! the catalog's records against each other.

use super::Failure;
use crate::storage::embedded::check::check;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Verify what is stored; exits 0 where nothing is wrong, 1 where something is, 2 where that cannot
/// be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the service, which must not be running
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR", default_value = "lookback-data")]
    data_dir: PathBuf,
    /// Move what is damaged into quarantine/, so that the rest plays
    #[arg(long)]
    repair: bool,
}

/// It cannot be told whether anything is wrong.
const NOT_CHECKED: u8 = 2;

/// Names what is wrong, one thing a line.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if !args.data_dir.is_dir() {
        return Err(format!("there is no directory {}", args.data_dir.display()).into());
    }
    let report = match check(&args.data_dir, args.repair) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("lookback: {error}");
            return Ok(ExitCode::from(NOT_CHECKED));
        }
    };
    let mut out = std::io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    for (stream, kept) in &report.unknown {
        let (count, range) = (kept.fragments, kept.range);
        writeln!(
            out,
            "kept: {count} fragments of {stream}, {} to {}, of which the catalog has no record",
            range.start, range.end
        )?;
    }
    let wrong = report.findings.len();
    let repaired = if args.repair && wrong > 0 { ", repaired" } else { "" };
    writeln!(
        out,
        "{} records and {} fragments of {} bytes checked, {wrong} faults{repaired}",
        report.records, report.fragments, report.bytes
    )?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
