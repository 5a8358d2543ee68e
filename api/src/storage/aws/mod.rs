//! The AWS backend: DynamoDB for records. Only what is in here names the SDK.

pub mod dynamodb;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;

/// Where AWS is. What is left out comes from where the SDK looks: the environment, the profile of
/// `~/.aws`, the machine's role. Credentials come from there alone.
#[derive(Clone, Debug, Default)]
pub struct AwsOptions {
    /// Such as `eu-central-1`.
    pub region: Option<String>,
    /// Another server that speaks the same protocol.
    pub endpoint_url: Option<String>,
}

/// Tries of one request, the first one included; between them the SDK waits up to a second, then
/// up to two, then up to four, each by chance.
const TRIES: u32 = 4;
/// A request that DynamoDB answers at all is answered in tens of milliseconds.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
/// What a request may take with all its tries; callers of the API wait for 10 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(9);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What every client of the SDK is made with.
pub async fn sdk_config(options: &AwsOptions) -> SdkConfig {
    let tls = Provider::Rustls(CryptoMode::AwsLc);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(TRY_TIMEOUT)
        .operation_timeout(REQUEST_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https())
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(timeouts);
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &options.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}
