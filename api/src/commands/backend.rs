//! Where a service's records and media are, as its configuration says: opened for the service
//! itself, and for commands that work beside it.

use super::Failure;
use crate::clock::Clock;
use crate::config::{Backend, Config};
use crate::keys::Keys;
use crate::storage::aws::dynamodb::{DEFAULT_PREFIX, DynamoCatalog};
use crate::storage::aws::kinesis_video::KinesisArchive;
use crate::storage::embedded::archive::ArchiveOptions;
use crate::storage::{Catalog, Media, Storage, embedded};
use std::path::PathBuf;
use std::sync::Arc;

/// Opens both halves for a server.
pub async fn open(config: &Config, clock: &Arc<Clock>) -> Result<Storage, Failure> {
    match config.backend {
        Backend::Embedded => {
            let min_free_bytes = config.min_free_bytes;
            let options = ArchiveOptions { min_free_bytes, ..ArchiveOptions::default() };
            Ok(embedded::open_with(&config.data_dir, options)?)
        }
        Backend::Aws => {
            let archive = KinesisArchive::new(&config.aws, clock.clone()).await?;
            let catalog = Arc::new(dynamodb(config).await);
            Ok(Storage { catalog, media: Media::Remote(Arc::new(archive)) })
        }
    }
}

async fn dynamodb(config: &Config) -> DynamoCatalog {
    let prefix = config.aws.table_prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    DynamoCatalog::new(&config.aws, prefix).await
}

/// The service that a command works beside.
#[derive(Debug, clap::Args)]
pub struct Beside {
    /// The configuration of the service; needed where its records are not in the data directory
    #[arg(long, env = "LOOKBACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of the service [default: ./lookback-data]
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Beside {
    fn config(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }

    pub async fn catalog(&self) -> Result<Arc<dyn Catalog>, Failure> {
        let config = self.config()?;
        Ok(match config.backend {
            Backend::Embedded => embedded::open_catalog(&config.data_dir)?,
            Backend::Aws => Arc::new(dynamodb(&config).await),
        })
    }

    pub fn keys(&self) -> Result<Keys, Failure> {
        Ok(Keys::open(&self.config()?.data_dir)?)
    }
}
