//! Media in Kinesis Video Streams: a video stream for each of a device's streams, made when the
//! device is registered. Cameras upload to it themselves; players are sent to it, and what it does
//! not make is made of the fragments that it hands out.

mod archived;
mod control;
mod endpoints;
mod fault;
mod rates;

pub use archived::{Clip, Container, MAX_IN_SESSION, MediaBytes, Playing};
pub use fault::Refused;

use super::upload::Uploads;
use super::{AwsOptions, sdk_config};
use crate::clock::Clock;
use crate::device::Stream;
use crate::id::DeviceId;
use crate::storage::{Archive, CreateError, FragmentPage, ListQuery, Result, UploadGrant};
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_kinesisvideo::Client;
use endpoints::Endpoints;
use lookback_wire::Timestamp;
use rates::Rates;
use std::sync::Arc;

/// The archive in one AWS account and region.
#[derive(Debug)]
pub struct KinesisArchive {
    control: Client,
    endpoints: Endpoints,
    rates: Rates,
    uploads: Uploads,
}

impl KinesisArchive {
    /// Asks for nothing yet.
    pub async fn new(options: &AwsOptions, clock: Arc<Clock>) -> Result<Self> {
        Self::with(sdk_config(options).await, options, clock).await
    }

    /// The same with an SDK that was set up otherwise.
    pub async fn with(sdk: SdkConfig, options: &AwsOptions, clock: Arc<Clock>) -> Result<Self> {
        let sdk = match &options.kinesis_endpoint_url {
            Some(url) => sdk.into_builder().endpoint_url(url).build(),
            None => sdk,
        };
        let config = aws_sdk_kinesisvideo::config::Builder::from(&sdk)
            .retry_classifier(fault::Throttling)
            .build();
        Ok(Self {
            control: Client::from_conf(config),
            endpoints: Endpoints::new(sdk, clock.clone()),
            rates: Rates::new(clock),
            uploads: Uploads::new(options).await?,
        })
    }
}

#[async_trait]
impl Archive for KinesisArchive {
    async fn prepare(&self, stream: &Stream, keep_hours: u32) -> Result<(), CreateError> {
        self.prepare_stream(stream, keep_hours).await
    }

    async fn list(&self, stream: &Stream, query: &ListQuery) -> Result<FragmentPage> {
        match self.list_fragments(stream, query).await {
            Err(Refused::NoMedia) => Ok(FragmentPage::default()),
            listed => listed.map_err(Refused::into_storage_error),
        }
    }

    async fn forget(&self, stream: &Stream) -> Result<()> {
        self.delete_stream(stream).await
    }

    async fn grant_upload(
        &self,
        device: DeviceId,
        streams: &[Stream],
        life_s: u32,
        now: Timestamp,
    ) -> Result<Option<UploadGrant>> {
        self.uploads.grant(device, streams, life_s, now).await.map(Some)
    }

    /// Kinesis Video Streams has no end.
    async fn room(&self) -> Result<u64> {
        Ok(u64::MAX)
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
