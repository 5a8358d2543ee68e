//! `lookback token`: a token for scripts and first set-up, made from the keys in the data
//! directory; works beside a running server.

use super::Failure;
use super::backend::Beside;
use crate::access::{Principal, Subject};
use crate::account::Role;
use crate::clock::Clock;
use crate::device::{CredentialKind, DeviceCredential, MAX_CREDENTIALS_OF_DEVICE};
use crate::id::{AccountId, CredentialId};
use crate::sign_in::DEFAULT_ACCOUNT;
use crate::storage::Catalog;
use crate::token::Tokens;
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use std::io::Write;
use std::process::ExitCode;

/// Print a token for scripts and first set-up.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    beside: Beside,
    /// What the token may do
    #[arg(long, env = "LOOKBACK_ROLE", value_enum)]
    role: Role,
    /// The account that it is for, by name; made if absent
    #[arg(long, env = "LOOKBACK_ACCOUNT", value_name = "NAME", default_value = DEFAULT_ACCOUNT)]
    account: String,
    /// The device that it is for, with --role device
    #[arg(
        long,
        env = "LOOKBACK_DEVICE",
        value_name = "EXTERNAL_ID",
        required_if_eq("role", "device")
    )]
    device: Option<String>,
    /// How long it lasts, such as 45s, 30m, 1h or 7d
    #[arg(long, env = "LOOKBACK_TTL", value_name = "TIME", default_value = "1h", value_parser = milliseconds)]
    ttl: i64,
}

/// Longer than any device's credential lasts.
const MAX_TTL_MS: i64 = 3_650 * 24 * 3_600_000;

fn milliseconds(text: &str) -> Result<i64, String> {
    let (count, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return Err("a number and s, m, h or d, such as 1h".into()),
    };
    count
        .parse::<u32>()
        .ok()
        .and_then(|count| i64::from(count).checked_mul(unit_ms))
        .filter(|ms| (1..=MAX_TTL_MS).contains(ms))
        .ok_or_else(|| "between 1s and 3650d".into())
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.device.is_some() && args.role != Role::Device {
        return Err("--device goes with --role device only".into());
    }
    super::block_on(async {
        let now = Clock::System.now();
        let catalog = args.beside.catalog().await?;
        let account = catalog.ensure_account(&args.account, now).await?;
        let expires_at = now.plus_millis(args.ttl);
        let subject = match &args.device {
            Some(external_id) => {
                device_subject(&*catalog, account.id, external_id, now, expires_at).await?
            }
            None => Subject::Service("lookback-token".into()),
        };
        let principal = Principal {
            subject,
            account: account.id,
            role: args.role,
            shares: Vec::new(),
            expires_at,
        };
        let tokens = Tokens::new(&args.beside.keys()?)?;
        let token = tokens.issue(&principal, now)?;
        writeln!(std::io::stdout().lock(), "{}", token.expose_secret())?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A device's token stands for a credential, which is made here and can be revoked like any other.
async fn device_subject(
    catalog: &dyn Catalog,
    account: AccountId,
    external_id: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Subject, Failure> {
    let device = catalog
        .device_by_external_id(account, external_id)
        .await?
        .ok_or_else(|| format!("no device {external_id:?} in this account"))?;
    let credential = DeviceCredential {
        id: CredentialId::new(now),
        account,
        device: device.id,
        kind: CredentialKind::Token,
        created_at: now,
        expires_at: Some(expires_at),
        revoked_at: None,
        last_used_at: None,
    };
    let subject = Subject::Device { device: device.id, credential: credential.id };
    if !catalog.add_credential(credential, now).await? {
        return Err(format!("{external_id:?} has {MAX_CREDENTIALS_OF_DEVICE} credentials").into());
    }
    Ok(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_have_a_unit() {
        let cases = [
            ("45s", Some(45_000)),
            ("30m", Some(1_800_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("3650d", Some(MAX_TTL_MS)),
            ("3651d", None),
            ("0s", None),
            ("", None),
            ("h", None),
            ("10", None),
            ("-1h", None),
            ("1 h", None),
            ("1ü", None),
            ("99999999999d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text).ok(), expected, "{text:?}");
        }
    }
}
