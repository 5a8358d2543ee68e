//! `lookback aws`: what the AWS backend needs before it can be used.

use super::Failure;
use crate::config::Config;
use crate::storage::aws::AwsOptions;
use crate::storage::aws::dynamodb::{DEFAULT_PREFIX, DynamoCatalog};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prepare the AWS backend.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    CreateTables(CreateTables),
}

/// Make the DynamoDB tables that are not there, billed on demand, and print their names.
///
/// Credentials come from where AWS's own tools look: the environment, the profile, the machine's
/// role.
#[derive(Debug, clap::Args)]
struct CreateTables {
    /// A TOML file; its section [aws] has region, endpoint_url and table_prefix
    #[arg(long, env = "LOOKBACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Such as eu-central-1 [default: the environment's or the profile's]
    #[arg(long, env = "LOOKBACK_AWS_REGION", value_name = "REGION")]
    region: Option<String>,
    /// Another server that speaks DynamoDB
    #[arg(long, env = "LOOKBACK_AWS_ENDPOINT_URL", value_name = "URL")]
    endpoint_url: Option<String>,
    /// What the tables' names begin with [default: lookback-]
    #[arg(long, env = "LOOKBACK_AWS_TABLE_PREFIX", value_name = "PREFIX")]
    prefix: Option<String>,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::CreateTables(args) => super::block_on(create_tables(args)),
    }
}

async fn create_tables(args: CreateTables) -> Result<ExitCode, Failure> {
    let mut options = match &args.config {
        Some(path) => Config::read(path)?.aws,
        None => AwsOptions::default(),
    };
    options.region = args.region.or(options.region);
    options.endpoint_url = args.endpoint_url.or(options.endpoint_url);
    options.table_prefix = args.prefix.or(options.table_prefix);
    let prefix = options.table_prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    let catalog = DynamoCatalog::new(&options, prefix).await;
    let mut stdout = std::io::stdout().lock();
    for table in catalog.create_tables().await? {
        writeln!(stdout, "{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}
