//! `lookback access-key`: an admin's key pair for the Kinesis API, made from the keys in the data
//! directory; works beside a running server.

use super::Failure;
use crate::access_key::{AccessKeyId, AccessKeys};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::sign_in::DEFAULT_ACCOUNT;
use crate::storage::embedded;
use secrecy::ExposeSecret;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print an admin's access key pair for the Kinesis API, as JSON.
///
/// The pair may do everything in its account. It has no end of its own: to revoke it, stop the
/// service, remove keys/master.key from the data directory and start again, which ends every access
/// key, playback session and sign-in.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory of the service
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR", default_value = "lookback-data")]
    data_dir: PathBuf,
    /// The account that it is for, by name; made if absent
    #[arg(long, env = "LOOKBACK_ACCOUNT", value_name = "NAME", default_value = DEFAULT_ACCOUNT)]
    account: String,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    super::block_on(async {
        let now = Clock::System.now();
        let catalog = embedded::open_catalog(&args.data_dir)?;
        let account = catalog.ensure_account(&args.account, now).await?;
        let id = AccessKeyId::admin(account.id, now);
        let secret = AccessKeys::new(&Keys::open(&args.data_dir)?).secret(id);
        let pair = json!({
            "accessKeyId": id.to_string(),
            "secretAccessKey": secret.expose_secret(),
        });
        writeln!(std::io::stdout().lock(), "{pair}")?;
        Ok(ExitCode::SUCCESS)
    })
}
