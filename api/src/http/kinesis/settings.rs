//! How a media stream's settings are read and changed: one change after the other, each with a
//! version of its own.

use super::bounds::{is_tag_key, is_tag_value, require};
use super::call::Call;
use super::error::KinesisError;
use crate::device::Stream;
use crate::media_stream::{MAX_TAGS, MediaSettings};
use std::collections::BTreeMap;

/// Where others change the same stream at the same moment.
const MAX_TRIES: usize = 8;

pub async fn read(call: &Call, stream: &Stream) -> Result<MediaSettings, KinesisError> {
    let settings = call.service.storage.catalog.media_settings(&[stream.id]).await?;
    Ok(settings.into_iter().next().unwrap_or_default())
}

/// Changes a stream's settings. Where the caller names the version that it has seen, that one only.
pub async fn change(
    call: &Call,
    stream: &Stream,
    version: Option<&str>,
    change: impl Fn(&mut MediaSettings) -> Result<(), KinesisError>,
) -> Result<(), KinesisError> {
    for _ in 0..MAX_TRIES {
        let mut settings = read(call, stream).await?;
        if let Some(version) = version {
            check_version(version, stream, &settings)?;
        }
        change(&mut settings)?;
        settings.changes += 1;
        if call.service.storage.catalog.put_media_settings(stream.id, settings).await? {
            return Ok(());
        }
    }
    let message = "the stream is being changed by too many at once";
    Err(KinesisError::bad_request("ClientLimitExceededException", message))
}

pub fn check_version(
    version: &str,
    stream: &Stream,
    settings: &MediaSettings,
) -> Result<(), KinesisError> {
    let is_version = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    require("CurrentVersion", version, is_version)?;
    if version == settings.version(stream.id) { Ok(()) } else { Err(version_mismatch()) }
}

pub fn version_mismatch() -> KinesisError {
    let message = "the stream has been changed since; DescribeStream tells its version";
    KinesisError::bad_request("VersionMismatchException", message)
}

/// Whether these may be put on a stream, by themselves.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), KinesisError> {
    if tags.is_empty() {
        return Err(KinesisError::invalid("Tags is empty"));
    }
    check_tag_count(tags.len())?;
    for (key, value) in tags {
        require("a tag's key", key, is_tag_key)?;
        require("a tag's value", value, is_tag_value)?;
    }
    Ok(())
}

pub fn check_tag_count(count: usize) -> Result<(), KinesisError> {
    if count <= MAX_TAGS {
        return Ok(());
    }
    let message = format!("{count} tags are more than the {MAX_TAGS} that a stream may have");
    Err(KinesisError::bad_request("TagsPerResourceExceededLimitException", message))
}
