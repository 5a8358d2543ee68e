//! `lookback check`: holds every stored fragment against its checksum, and the index against the
//! files; works beside a running server.

use super::Failure;
use crate::storage::embedded;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Verify what is stored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the service
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR", default_value = "lookback-data")]
    data_dir: PathBuf,
    /// Take what is damaged out of the index and keep its files aside; no server may run meanwhile
    #[arg(long)]
    repair: bool,
}

/// Names what is wrong, one thing a line; exits 1 where there is something.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if !args.data_dir.is_dir() {
        return Err(format!("there is no directory {}", args.data_dir.display()).into());
    }
    let report = embedded::check(&args.data_dir, args.repair)?;
    let mut out = std::io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    let wrong = report.findings.len();
    let repaired = if args.repair && wrong > 0 { ", repaired" } else { "" };
    writeln!(
        out,
        "{} fragments of {} bytes checked, {wrong} faults{repaired}",
        report.fragments, report.bytes
    )?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
