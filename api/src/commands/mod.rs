//! The commands of the binary, one file each.

mod schema;
pub mod serve;
mod token;
mod user;

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
    Schema(schema::Args),
    Serve(serve::Args),
    Token(token::Args),
    User(user::Args),
}

impl Lookback {
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Schema(args) => schema::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Token(args) => token::run(args),
            Command::User(args) => user::run(args),
        }
    }
}

/// Runs a command's asynchronous work to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
