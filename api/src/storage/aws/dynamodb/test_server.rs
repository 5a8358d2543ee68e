//! A server that speaks DynamoDB, for tests: the one that `LOOKBACK_DYNAMODB_ENDPOINT` names, else
//! one that is started for the test and stopped after it. moto's has transactions; dynalite has none,
//! and tells as DynamoDB does what a request consumes.

use super::store::Store;
use super::tables::{self, Tables};
use super::{Arrivals, DynamoCatalog, Known, Listed, Sightings, Webhooks};
use crate::id::Ulid;
use crate::storage::aws::TRIES;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use lookback_wire::Timestamp;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The first start installs the server.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct TestServer {
    /// Without a slash at the end.
    pub url: String,
    can_expire: bool,
    process: Option<Child>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_by("tests/moto/run", true).await
    }

    /// One that tells what requests consume.
    pub async fn start_counting() -> Self {
        Self::start_by("tests/dynalite/run", false).await
    }

    async fn start_by(script: &str, can_expire: bool) -> Self {
        if let Ok(url) = std::env::var("LOOKBACK_DYNAMODB_ENDPOINT") {
            return Self { url, can_expire: true, process: None };
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut process = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .args(["127.0.0.1", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("api/{script} ended: {status}");
            }
            assert!(began.elapsed() < PATIENCE, "api/{script} does not listen on {address}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { url: format!("http://{address}"), can_expire, process: Some(process) }
    }

    /// A catalog in tables of its own, whose requests go to what stands before the server.
    pub async fn catalog_through(&self, url: &str) -> DynamoCatalog {
        let prefix = format!("lookback-test-{}-", Ulid::new(Timestamp::from_millis(0)));
        let catalog = catalog(url, Tables::new(&prefix));
        if self.can_expire {
            tables::create(&catalog.store).await.unwrap();
        } else {
            tables::make(&catalog.store).await.unwrap();
        }
        catalog
    }
}

/// The catalog in `tables`, as a server sees it that has just begun.
pub fn catalog(url: &str, tables: Tables) -> DynamoCatalog {
    let retry = RetryConfig::standard().with_max_attempts(TRIES);
    let client = client(url, retry.with_initial_backoff(Duration::from_millis(20)));
    DynamoCatalog {
        store: Store::new(client, tables),
        sightings: Sightings::default(),
        arrivals: Arrivals::default(),
        known: Known::default(),
        eventful: Listed::default(),
        webhooks: Webhooks::default(),
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A client that is content with any server.
fn client(url: &str, retry: RetryConfig) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(retry)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}
