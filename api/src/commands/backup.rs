//! `lookback backup`: a copy of the catalog as it is at one moment; works beside a running server.

use super::Failure;
use crate::keys::Keys;
use crate::storage::embedded::backup::backup;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Copy the records, without media, to a new directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the service
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR", default_value = "lookback-data")]
    data_dir: PathBuf,
    /// Copy the keys that tokens are signed with, too: whoever has them may sign in as anybody
    #[arg(long)]
    keys: bool,
    /// A directory that is not there yet
    #[arg(value_name = "TO")]
    to: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    backup(&args.data_dir, &args.to)?;
    if args.keys {
        Keys::copy(&args.data_dir, &args.to)?;
    }
    let keys = if args.keys { "catalog and keys" } else { "catalog" };
    writeln!(std::io::stdout().lock(), "{keys} copied to {}", args.to.display())?;
    Ok(ExitCode::SUCCESS)
}
