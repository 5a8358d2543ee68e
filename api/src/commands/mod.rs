//! The commands of the binary, one file each.

mod access_key;
mod aws;
mod backend;
mod backup;
mod camera;
mod check;
mod demo;
mod restore;
mod schema;
pub mod serve;
mod token;
mod user;

use chrono_tz::Tz;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Why a command failed, to be printed for whoever ran it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Camera footage in, any time range played back.
#[derive(Debug, Parser)]
#[command(name = "lookback", version)]
pub struct Lookback {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Camera(camera::Args),
    Token(token::Args),
    AccessKey(access_key::Args),
    Aws(aws::Args),
    Check(check::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    User(user::Args),
    Schema(schema::Args),
}

impl Lookback {
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Camera(args) => camera::run(args),
            Command::Token(args) => token::run(args),
            Command::AccessKey(args) => access_key::run(args),
            Command::Aws(args) => aws::run(args),
            Command::Check(args) => check::run(args),
            Command::Backup(args) => backup::run(args),
            Command::Restore(args) => restore::run(args),
            Command::User(args) => user::run(args),
            Command::Schema(args) => schema::run(args),
        }
    }
}

/// Runs a command's asynchronous work to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// This machine's zone: `TZ`, or what `/etc/localtime` links to; else UTC.
fn local_time_zone() -> Tz {
    let named = std::env::var("TZ").ok();
    let linked = std::fs::read_link("/etc/localtime").ok();
    let linked = linked.and_then(|path| {
        let (_, zone) = path.to_str()?.split_once("zoneinfo/")?;
        Some(zone.to_owned())
    });
    named.into_iter().chain(linked).find_map(|zone| zone.parse().ok()).unwrap_or(Tz::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_clash() {
        Lookback::command().debug_assert();
    }
}
