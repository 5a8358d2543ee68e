//! Video streams as devices need them: made with their first registration, and kept in step with the
//! plan (KVS API, CreateStream, UpdateDataRetention).

use super::KinesisArchive;
use super::fault::{refused, unavailable};
use super::rates::CREATE_STREAM;
use crate::device::Stream;
use crate::storage::{CreateError, Result, StorageError};
use aws_sdk_kinesisvideo::types::{Status, StreamInfo, UpdateDataRetentionOperation};
use std::collections::HashMap;
use std::time::Duration;

/// The tag that says whose media a video stream holds. One without it is adopted: makers have video
/// streams of their own.
const STREAM_TAG: &str = "lookback:stream";
const DEVICE_TAG: &str = "lookback:device";
const ACCOUNT_TAG: &str = "lookback:account";
/// The longest retention that there is.
const MAX_HOURS: u32 = 87_600;
/// Another server may prepare the same stream, and a new one takes a moment to become active.
const ROUNDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);

impl KinesisArchive {
    pub(super) async fn prepare_stream(
        &self,
        stream: &Stream,
        keep_hours: u32,
    ) -> Result<(), CreateError> {
        let keep_hours = i32::try_from(keep_hours.clamp(1, MAX_HOURS)).unwrap_or(i32::MAX);
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let is_done = match self.describe(&stream.media_stream_name).await? {
                // It takes its time, and the name is free again afterwards.
                Some(info) if is_going(&info) => false,
                Some(info) => {
                    self.claim(stream).await?;
                    self.retain(&stream.media_stream_name, &info, keep_hours).await?
                }
                None => self.create(stream, keep_hours).await?,
            };
            if is_done {
                return Ok(());
            }
        }
        let name = &stream.media_stream_name;
        let busy = format!("video stream {name} is being deleted, or changed by somebody else");
        Err(StorageError::Unavailable(busy).into())
    }

    /// Deletes a video stream of ours with all that it has; one that is not there, or is another's,
    /// is left alone.
    pub(super) async fn delete_stream(&self, stream: &Stream) -> Result<()> {
        let name = &stream.media_stream_name;
        let info = self.describe(name).await?;
        let Some(info) = info.filter(|info| !is_going(info)) else { return Ok(()) };
        match self.claim(stream).await {
            Ok(()) => {}
            Err(CreateError::Storage(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
        self.rates.turn("DeleteStream", name).await?;
        let arn = info.stream_arn().unwrap_or_default();
        match self.control.delete_stream().stream_arn(arn).send().await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, "ResourceNotFoundException") => Ok(()),
            Err(error) => Err(unavailable("DeleteStream", name, &error)),
        }
    }

    async fn describe(&self, name: &str) -> Result<Option<StreamInfo>> {
        self.rates.turn("DescribeStream", name).await?;
        match self.control.describe_stream().stream_name(name).send().await {
            Ok(described) => Ok(described.stream_info),
            Err(error) if is(&error, "ResourceNotFoundException") => Ok(None),
            Err(error) => Err(unavailable("DescribeStream", name, &error)),
        }
    }

    /// Answers whether it was made: not where it was there by then.
    async fn create(&self, stream: &Stream, keep_hours: i32) -> Result<bool> {
        let name = &stream.media_stream_name;
        self.rates.turn(CREATE_STREAM, name).await?;
        let created = self
            .control
            .create_stream()
            .stream_name(name)
            .data_retention_in_hours(keep_hours)
            .set_tags(Some(tags(stream)))
            .send()
            .await;
        match created {
            Ok(_) => Ok(true),
            Err(error) if is(&error, "ResourceInUseException") => Ok(false),
            Err(error) => Err(unavailable(CREATE_STREAM, name, &error)),
        }
    }

    /// Tags a video stream that has no owner; refused where it has another one.
    async fn claim(&self, stream: &Stream) -> Result<(), CreateError> {
        let name = &stream.media_stream_name;
        self.rates.turn("ListTagsForStream", name).await?;
        let listed = self.control.list_tags_for_stream().stream_name(name).send().await;
        let listed = listed
            .map_err(|error| refused("ListTagsForStream", name, &error).into_storage_error())?;
        match listed.tags().and_then(|tags| tags.get(STREAM_TAG)) {
            Some(owner) if *owner == stream.id.to_string() => Ok(()),
            Some(_) => Err(CreateError::Taken { field: "mediaStreamName" }),
            None => {
                self.rates.turn("TagStream", name).await?;
                let tagged = self.control.tag_stream().stream_name(name);
                let tagged = tagged.set_tags(Some(tags(stream))).send().await;
                tagged.map_err(|error| unavailable("TagStream", name, &error))?;
                Ok(())
            }
        }
    }

    /// Answers whether the stream keeps its media for so long now: not where somebody else changed
    /// it at the same time.
    async fn retain(&self, name: &str, info: &StreamInfo, keep_hours: i32) -> Result<bool> {
        let kept_hours = info.data_retention_in_hours().unwrap_or(0);
        let (operation, by_hours) = match keep_hours.saturating_sub(kept_hours) {
            0 => return Ok(true),
            more @ 1.. => (UpdateDataRetentionOperation::IncreaseDataRetention, more),
            less => (UpdateDataRetentionOperation::DecreaseDataRetention, less.saturating_neg()),
        };
        self.rates.turn("UpdateDataRetention", name).await?;
        let updated = self
            .control
            .update_data_retention()
            .stream_name(name)
            .current_version(info.version().unwrap_or_default())
            .operation(operation)
            .data_retention_change_in_hours(by_hours)
            .send()
            .await;
        match updated {
            Ok(_) => Ok(true),
            Err(error)
                if is(&error, "VersionMismatchException")
                    || is(&error, "ResourceInUseException") =>
            {
                Ok(false)
            }
            Err(error) => Err(unavailable("UpdateDataRetention", name, &error)),
        }
    }
}

/// Whether it was deleted and is still there.
fn is_going(info: &StreamInfo) -> bool {
    info.status() == Some(&Status::Deleting)
}

fn tags(stream: &Stream) -> HashMap<String, String> {
    let tags = [
        (STREAM_TAG, stream.id.to_string()),
        (DEVICE_TAG, stream.device.to_string()),
        (ACCOUNT_TAG, stream.account.to_string()),
    ];
    tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn is<E, R>(error: &aws_sdk_kinesisvideo::error::SdkError<E, R>, code: &str) -> bool
where
    E: aws_sdk_kinesisvideo::error::ProvideErrorMetadata,
{
    error.as_service_error().and_then(|error| error.code()) == Some(code)
}
