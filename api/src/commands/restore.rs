//! `lookback restore`: puts a backup of the catalog back; see `deploy/disks.md`.

use super::Failure;
use crate::clock::Clock;
use crate::keys::Keys;
use crate::storage::embedded::backup::restore;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Put a backup of the records in the place of those that are there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the service, which must not be running
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR", default_value = "lookback-data")]
    data_dir: PathBuf,
    /// What `lookback backup` wrote
    #[arg(value_name = "FROM")]
    from: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let restored = restore(&args.from, &args.data_dir, Clock::System.now())?;
    // Keys that are there stay; without any, the next start makes new ones.
    if args.from.join("keys").is_dir() {
        Keys::copy(&args.from, &args.data_dir)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} holds the catalog of {}", args.data_dir.display(), args.from.display())?;
    if let Some(path) = restored.set_aside {
        writeln!(out, "the one before is in {}", path.display())?;
    }
    if !restored.has_media {
        writeln!(out, "no media is there: what was recorded earlier is a gap")?;
    }
    Ok(ExitCode::SUCCESS)
}
