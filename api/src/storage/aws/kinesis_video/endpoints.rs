//! Where a stream's archived media is asked for: GetDataEndpoint names the address for each stream
//! and operation, and may name another one some day.

use super::KinesisArchive;
use super::Refused;
use super::fault::{Throttling, refused};
use crate::clock::Clock;
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia::Client;
use aws_sdk_kinesisvideoarchivedmedia::config::Builder;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is believed: producers do for as long.
const BELIEVED_MS: i64 = 40 * 60 * 1_000;
/// Answers remembered, some 2 KB each with their client.
const MAX_KNOWN: usize = 4_096;
/// Clips and images are made before the first byte of the answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);
const CALL_TIMEOUT: Duration = Duration::from_secs(9);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Endpoints {
    sdk: SdkConfig,
    clock: Arc<Clock>,
    known: Mutex<HashMap<(String, ApiName), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    client: Client,
    asked_at: Timestamp,
}

impl Endpoints {
    pub fn new(sdk: SdkConfig, clock: Arc<Clock>) -> Self {
        Self { sdk, clock, known: Mutex::default() }
    }

    fn get(&self, stream: &str, api: &ApiName) -> Option<Client> {
        let known = self.known.lock().get(&(stream.to_owned(), api.clone())).cloned()?;
        let age_ms = self.clock.now().millis_since(known.asked_at);
        (0..BELIEVED_MS).contains(&age_ms).then_some(known.client)
    }

    fn keep(&self, stream: &str, api: ApiName, url: &str) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(TRY_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let config = Builder::from(&self.sdk)
            .endpoint_url(url)
            .timeout_config(timeouts)
            .retry_classifier(Throttling);
        let client = Client::from_conf(config.build());
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let asked_at = self.clock.now();
        known.insert((stream.to_owned(), api), Known { client: client.clone(), asked_at });
        client
    }

    /// To be called where nothing answered there.
    pub fn forget(&self, stream: &str, api: &ApiName) {
        self.known.lock().remove(&(stream.to_owned(), api.clone()));
    }
}

impl KinesisArchive {
    /// Who answers an operation on a stream.
    pub(super) async fn client_for(&self, stream: &str, api: ApiName) -> Result<Client, Refused> {
        if let Some(client) = self.endpoints.get(stream, &api) {
            return Ok(client);
        }
        self.rates.turn("GetDataEndpoint", stream).await?;
        let asked = self.control.get_data_endpoint().stream_name(stream).api_name(api.clone());
        let answer = asked.send().await;
        let answer = answer.map_err(|error| refused("GetDataEndpoint", stream, &error))?;
        Ok(self.endpoints.keep(stream, api, answer.data_endpoint().unwrap_or_default()))
    }
}
