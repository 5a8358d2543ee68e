//! The binary `lookback`: its commands are in `commands/`, its parts in the library.

use clap::Parser;
use lookback_api::commands::Lookback;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Lookback::parse().run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lookback: {e}");
            ExitCode::FAILURE
        }
    }
}
