//! `lookback schema`: the API's contract.

use super::Failure;
use crate::graphql;
use std::io::Write;
use std::process::ExitCode;

/// Print the GraphQL schema.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Result<ExitCode, Failure> {
    std::io::stdout().lock().write_all(graphql::sdl().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
