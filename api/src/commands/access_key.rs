//! `lookback access-key`: an admin's key pair for the Kinesis API, made from the keys in the data
//! directory, and its end; works beside a running server.

use super::Failure;
use super::backend::Beside;
use crate::access_key::{AccessKeyId, AccessKeys};
use crate::account::{Role, User, UserChange};
use crate::clock::Clock;
use crate::id::UserId;
use crate::sign_in::DEFAULT_ACCOUNT;
use crate::storage::Catalog;
use secrecy::ExposeSecret;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Print an admin's access key pair for the Kinesis API, as JSON.
///
/// The pair may do everything in its account, as a user of it who has the key's name and no
/// password. It ends when it is revoked or that user is disabled: playback sessions that were asked
/// for with it end within seconds.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    beside: Beside,
    /// The account that it is for, by name; made if absent
    #[arg(long, env = "LOOKBACK_ACCOUNT", value_name = "NAME", default_value = DEFAULT_ACCOUNT)]
    account: String,
    /// End this access key, by its identifier, instead of making another
    #[arg(long, value_name = "ID")]
    revoke: Option<String>,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    super::block_on(async {
        let catalog = args.beside.catalog().await?;
        match args.revoke {
            Some(id) => revoke(&*catalog, &id).await?,
            None => {
                let id = make(&*catalog, &args.account).await?;
                let secret = AccessKeys::new(&args.beside.keys()?).secret(id);
                let pair = json!({
                    "accessKeyId": id.to_string(),
                    "secretAccessKey": secret.expose_secret(),
                });
                writeln!(std::io::stdout().lock(), "{pair}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a user for a new key to stand for.
async fn make(catalog: &dyn Catalog, account: &str) -> Result<AccessKeyId, Failure> {
    let now = Clock::System.now();
    let account = catalog.ensure_account(account, now).await?;
    let user = UserId::new(now);
    let id = AccessKeyId::User(user);
    let made = catalog.create_user(User {
        id: user,
        account: account.id,
        name: id.to_string(),
        display_name: "Access key".into(),
        role: Role::Admin,
        password_hash: None,
        identity: None,
        time_zone: None,
        disabled: false,
        created_at: now,
    });
    made.await?;
    Ok(id)
}

async fn revoke(catalog: &dyn Catalog, text: &str) -> Result<(), Failure> {
    let ended = match text.parse() {
        Ok(AccessKeyId::User(user)) => {
            let change = UserChange { disabled: Some(true), ..UserChange::default() };
            catalog.change_user(user, change).await?
        }
        // What a device has is revoked by the identifier of its credential.
        Ok(AccessKeyId::Device(_)) | Err(_) => None,
    };
    ended.ok_or_else(|| format!("{text:?} is no admin's access key"))?;
    Ok(())
}
