//! What a stream is configured to have done with its footage. Image generation and notifications
//! are kept and told, for clients that set them up; nothing is delivered by them.

use super::bounds::require;
use super::call::{Answer, Call};
use super::error::KinesisError;
use super::select::{Selected, StreamSelector, arn};
use super::settings;
use super::streams::{StreamStorage, kept_hours_of};
use crate::access::Action;
use crate::media_stream::{ImageFormat, ImageGeneration, Notification, Status};
use actix_web::web::Json;
use serde::Deserialize;
use serde_json::json;

const MIN_SAMPLING_INTERVAL_MS: u32 = 200;
const MAX_WIDTH_PIXELS: u32 = 3_840;
const MAX_HEIGHT_PIXELS: u32 = 2_160;
const MAX_URI_CHARS: usize = 255;

/// `POST /describeImageGenerationConfiguration`
pub async fn describe_image_generation(call: Call) -> Answer {
    let selector: StreamSelector = call.input()?;
    let Selected { stream, .. } = select(&call, &selector, Action::ReadBack).await?;
    let settings = settings::read(&call, &stream).await?;
    Ok(Json(match settings.image_generation {
        Some(configuration) => json!({ "ImageGenerationConfiguration": configuration }),
        None => json!({}),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateImageGeneration {
    image_generation_configuration: Option<ImageGeneration>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /updateImageGenerationConfiguration`: without a configuration, the one there is goes.
pub async fn update_image_generation(call: Call) -> Answer {
    let input: UpdateImageGeneration = call.input()?;
    let new = input.image_generation_configuration;
    if let Some(new) = &new {
        check_image_generation(new)?;
    }
    let selected = select(&call, &input.stream, Action::Manage).await?;
    check_retention(&call, &selected, new.as_ref().map(|new| new.status)).await?;
    settings::change(&call, &selected.stream, None, |settings| {
        settings.image_generation = new.clone();
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

fn check_image_generation(new: &ImageGeneration) -> Result<(), KinesisError> {
    require("Uri", &new.destination_config.uri, is_destination)?;
    require("DestinationRegion", &new.destination_config.destination_region, is_region)?;
    let bounds = [
        ("SamplingInterval", Some(new.sampling_interval), MIN_SAMPLING_INTERVAL_MS, u32::MAX),
        ("WidthPixels", new.width_pixels, 1, MAX_WIDTH_PIXELS),
        ("HeightPixels", new.height_pixels, 1, MAX_HEIGHT_PIXELS),
    ];
    for (name, value, min, max) in bounds {
        if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
            return Err(KinesisError::invalid(format!("{name} {value} is not {min} to {max}")));
        }
    }
    let Some(config) = &new.format_config else { return Ok(()) };
    let quality = config.jpeg_quality.as_deref();
    match quality.and_then(|quality| quality.parse::<u8>().ok()) {
        Some(1..=100) if new.format == ImageFormat::Jpeg => Ok(()),
        _ => Err(KinesisError::invalid(
            "FormatConfig has to be a JPEGQuality of 1 to 100, for the Format JPEG",
        )),
    }
}

/// `POST /describeNotificationConfiguration`
pub async fn describe_notification(call: Call) -> Answer {
    let selector: StreamSelector = call.input()?;
    let Selected { stream, .. } = select(&call, &selector, Action::ReadBack).await?;
    let settings = settings::read(&call, &stream).await?;
    Ok(Json(match settings.notification {
        Some(configuration) => json!({ "NotificationConfiguration": configuration }),
        None => json!({}),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateNotification {
    notification_configuration: Option<Notification>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /updateNotificationConfiguration`: without a configuration, the one there is goes.
pub async fn update_notification(call: Call) -> Answer {
    let input: UpdateNotification = call.input()?;
    let new = input.notification_configuration;
    if let Some(new) = &new {
        require("Uri", &new.destination_config.uri, is_destination)?;
    }
    let selected = select(&call, &input.stream, Action::Manage).await?;
    check_retention(&call, &selected, new.as_ref().map(|new| new.status)).await?;
    settings::change(&call, &selected.stream, None, |settings| {
        settings.notification = new.clone();
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

/// `POST /describeStreamStorageConfiguration`
pub async fn describe_stream_storage(call: Call) -> Answer {
    let selector: StreamSelector = call.input()?;
    let Selected { stream, .. } = select(&call, &selector, Action::ReadBack).await?;
    let settings = settings::read(&call, &stream).await?;
    Ok(Json(json!({
        "StreamARN": arn(&stream),
        "StreamName": stream.media_stream_name,
        "StreamStorageConfiguration": { "DefaultStorageTier": settings.storage_tier },
    })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStreamStorage {
    current_version: String,
    stream_storage_configuration: StreamStorage,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /updateStreamStorageConfiguration`
pub async fn update_stream_storage(call: Call) -> Answer {
    let input: UpdateStreamStorage = call.input()?;
    let Selected { stream, .. } = select(&call, &input.stream, Action::Manage).await?;
    settings::change(&call, &stream, Some(&input.current_version), |settings| {
        settings.storage_tier = input.stream_storage_configuration.default_storage_tier;
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

async fn select(
    call: &Call,
    stream: &StreamSelector,
    action: Action,
) -> Result<Selected, KinesisError> {
    call.select(stream, action).await.map_err(KinesisError::or_access_denied)
}

/// Where nothing is kept, there is nothing to be told of.
async fn check_retention(
    call: &Call,
    selected: &Selected,
    status: Option<Status>,
) -> Result<(), KinesisError> {
    let settings = settings::read(call, &selected.stream).await?;
    if status == Some(Status::Enabled)
        && kept_hours_of(call, &selected.device, &settings).await? == 0
    {
        let message = "the stream's data retention is 0 hours";
        return Err(KinesisError::bad_request("NoDataRetentionException", message));
    }
    Ok(())
}

/// `^[a-zA-Z_0-9]+:(//)?([^/]+)/?([^*]*)$`
fn is_destination(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    uri.chars().count() <= MAX_URI_CHARS
        && !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !host.is_empty()
        && !path.contains('*')
}

/// `^[a-z]+(-[a-z]+)?-[a-z]+-[0-9]$`, 9 to 14 characters.
fn is_region(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    (9..=14).contains(&region.len())
        && matches!(words.len(), 2 | 3)
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_and_regions_have_their_form() {
        let uris = [
            ("s3://bucket/prefix", true),
            ("s3://bucket", true),
            ("arn:aws:sns:us-west-2:1:topic", true),
            ("s3://bucket/a*", false),
            ("s3:///prefix", false),
            ("://bucket", false),
            ("s-3://bucket", false),
            ("bucket", false),
            ("", false),
        ];
        for (uri, expected) in uris {
            assert_eq!(is_destination(uri), expected, "{uri}");
        }
        let regions = [
            ("us-west-2", true),
            ("us-gov-west-1", true),
            ("ap-southeast-1", true),
            ("us-west", false),
            ("us-west-22", false),
            ("US-west-2", false),
            ("a-b-c-1", false),
            ("", false),
        ];
        for (region, expected) in regions {
            assert_eq!(is_region(region), expected, "{region}");
        }
    }
}
