//! The AWS backend: DynamoDB for records, Kinesis Video Streams for media. Only what is in here names the SDK.

pub mod dynamodb;
pub mod kinesis_video;
pub mod upload;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use serde::Deserialize;
use std::time::Duration;
use upload::RoleArn;

/// Where AWS is, and what of it is used. What is left out comes from where the SDK looks: the
/// environment, the profile of `~/.aws`, the machine's role. Credentials come from there alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsOptions {
    /// Such as `eu-central-1`. With it come the partition, as `cn-north-1` is in `aws-cn`, and the
    /// endpoints.
    pub region: Option<String>,
    /// Another server that speaks the same protocols, for every service that has none of its own.
    pub endpoint_url: Option<String>,
    pub dynamodb_endpoint_url: Option<String>,
    pub kinesis_endpoint_url: Option<String>,
    pub sts_endpoint_url: Option<String>,
    /// What the names of the tables begin with; else `lookback-`.
    pub table_prefix: Option<String>,
    /// The role that devices upload as, each narrowed down to its own streams; none where devices have
    /// AWS credentials of their own.
    pub upload_role_arn: Option<String>,
    /// ListFragments that looking for footage without an announcement may cost; else 30, and none
    /// with 0. Of several servers one does it for all.
    pub reconcile_requests_per_minute: Option<u32>,
}

/// Some 43,000 a day, a page of 1,000 fragments each.
const RECONCILE_REQUESTS_PER_MINUTE: u32 = 30;

impl AwsOptions {
    pub fn reconcile_requests_per_minute(&self) -> u32 {
        self.reconcile_requests_per_minute.unwrap_or(RECONCILE_REQUESTS_PER_MINUTE)
    }

    /// Whether each value has its form; else the key, the value and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        if let Some(arn) = &self.upload_role_arn
            && RoleArn::parse(arn).is_none()
        {
            let cause = "not arn:PARTITION:iam::ACCOUNT:role/NAME";
            return Err(("aws.upload_role_arn", arn.clone(), cause));
        }
        let urls = [
            ("aws.endpoint_url", &self.endpoint_url),
            ("aws.dynamodb_endpoint_url", &self.dynamodb_endpoint_url),
            ("aws.kinesis_endpoint_url", &self.kinesis_endpoint_url),
            ("aws.sts_endpoint_url", &self.sts_endpoint_url),
        ];
        for (key, url) in urls {
            let is_http = |url: &String| url.starts_with("https://") || url.starts_with("http://");
            if let Some(url) = url.as_ref().filter(|url| !is_http(url)) {
                let cause = "it does not begin with https:// or http://";
                return Err((key, url.clone(), cause));
            }
        }
        Ok(())
    }
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
