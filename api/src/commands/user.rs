//! `lookback user add`: people who sign in to the viewer, by a password or through an OIDC issuer;
//! works beside a running server.

use super::Failure;
use super::backend::Beside;
use crate::account::{Identity, Role, User};
use crate::clock::Clock;
use crate::id::UserId;
use crate::sign_in::{DEFAULT_ACCOUNT, hash_password};
use crate::storage::CreateError;
use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

/// Manage the people who sign in to the viewer.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, clap::Subcommand)]
enum UserCommand {
    Add(Add),
}

/// Add a user; the password is asked for, or read from stdin. Whom an issuer signs in has none
#[derive(Debug, clap::Args)]
struct Add {
    /// What the user signs in with
    name: String,
    /// What the user may do in the account
    #[arg(long, env = "LOOKBACK_ROLE", value_enum)]
    role: Role,
    /// The account, by name; made if absent
    #[arg(long, env = "LOOKBACK_ACCOUNT", value_name = "NAME", default_value = DEFAULT_ACCOUNT)]
    account: String,
    /// The zone that times are shown in, such as Europe/Paris
    #[arg(long, env = "LOOKBACK_TIME_ZONE", value_name = "ZONE")]
    time_zone: Option<Tz>,
    /// The OIDC issuer that signs the user in, by the URL that the configuration names it by
    #[arg(long, env = "LOOKBACK_ISSUER", value_name = "URL", requires = "subject")]
    issuer: Option<String>,
    /// Who the user is there: the claim sub
    #[arg(long, env = "LOOKBACK_SUBJECT", value_name = "SUB", requires = "issuer")]
    subject: Option<String>,
    #[command(flatten)]
    beside: Beside,
}

/// Shorter ones are guessed.
const MIN_PASSWORD_CHARS: usize = 8;
/// More is no line that somebody typed.
const MAX_LINE_BYTES: u64 = 4096;

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        UserCommand::Add(add) => run_add(add),
    }
}

fn run_add(args: Add) -> Result<ExitCode, Failure> {
    if args.role == Role::Device {
        return Err("a user cannot have the role of a device".into());
    }
    if !(1..=128).contains(&args.name.chars().count()) || args.name.chars().any(char::is_control) {
        return Err("a name has 1 to 128 characters, none of them control characters".into());
    }
    let identity = args.issuer.zip(args.subject);
    let identity = identity.map(|(issuer, subject)| Identity::new(issuer, subject, None));
    let password_hash = if identity.is_some() { None } else { Some(new_password_hash()?) };
    super::block_on(async {
        let now = Clock::System.now();
        let catalog = args.beside.catalog().await?;
        let account = catalog.ensure_account(&args.account, now).await?;
        let user = User {
            id: UserId::new(now),
            account: account.id,
            name: args.name.clone(),
            display_name: args.name.clone(),
            role: args.role,
            password_hash,
            identity,
            time_zone: args.time_zone.map(|zone| zone.name().into()),
            disabled: false,
            created_at: now,
        };
        let id = user.id;
        match catalog.create_user(user).await {
            Ok(()) => {}
            Err(CreateError::Taken { field: "identity" }) => {
                return Err("somebody is a user of this account by this issuer and subject".into());
            }
            Err(CreateError::Taken { .. }) => {
                return Err(format!("{:?} is a user of this account already", args.name).into());
            }
            Err(e) => return Err(e.into()),
        }
        writeln!(io::stdout().lock(), "{id}")?;
        Ok(ExitCode::SUCCESS)
    })
}

fn new_password_hash() -> Result<String, Failure> {
    let password = read_password()?;
    if password.expose_secret().chars().count() < MIN_PASSWORD_CHARS {
        return Err(format!("a password has at least {MIN_PASSWORD_CHARS} characters").into());
    }
    Ok(hash_password(&password)?)
}

fn read_password() -> Result<SecretString, Failure> {
    if io::stdin().is_terminal() {
        let password = SecretString::from(rpassword::prompt_password("Password: ")?);
        let again = SecretString::from(rpassword::prompt_password("Again: ")?);
        if password.expose_secret() != again.expose_secret() {
            return Err("the two passwords differ".into());
        }
        return Ok(password);
    }
    let mut line = String::new();
    io::stdin().lock().take(MAX_LINE_BYTES).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned().into())
}
