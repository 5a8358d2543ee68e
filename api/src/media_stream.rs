//! What is set for a media stream beside its footage; the Kinesis API's control plane reads and
//! changes it. Members are named as there.

use crate::id::StreamId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The settings of one media stream. One that none were written for has the default ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSettings {
    /// How often they were changed; what is written must count one more than what is replaced.
    pub changes: u64,
    pub device_name: Option<String>,
    /// Such as `video/h264,audio/aac`; what a producer said of it, not what it sends.
    pub media_type: Option<String>,
    /// Remembered only: nothing is encrypted with it.
    pub kms_key_id: Option<String>,
    /// How long footage is kept, in place of what the device's plan says; 0 keeps nothing.
    pub retention_hours: Option<u32>,
    pub storage_tier: StorageTier,
    /// At most [`MAX_TAGS`].
    pub tags: BTreeMap<String, String>,
    pub image_generation: Option<ImageGeneration>,
    pub notification: Option<Notification>,
    /// No device was registered with the stream yet; the one that it has stands in for it.
    pub unclaimed: bool,
}

pub const MAX_TAGS: usize = 50;

impl MediaSettings {
    /// Whether anything is to be kept. Footage that is not can be followed while it arrives, and is
    /// promised to nobody.
    pub fn is_archived(&self) -> bool {
        self.retention_hours != Some(0)
    }

    /// Another text after every change.
    pub fn version(&self, stream: StreamId) -> String {
        format!("{}{}", stream.0, self.changes)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StorageTier {
    #[default]
    Hot,
    Warm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Enabled,
    Disabled,
}

/// Which pictures are to be taken of a stream and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageGeneration {
    pub status: Status,
    pub image_selector_type: ImageSelector,
    pub destination_config: ImageDestination,
    /// In milliseconds, at least 200.
    pub sampling_interval: u32,
    pub format: ImageFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_config: Option<FormatConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width_pixels: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height_pixels: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ImageSelector {
    ServerTimestamp,
    ProducerTimestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageDestination {
    pub uri: String,
    pub destination_region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ImageFormat {
    Jpeg,
    Png,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatConfig {
    /// 1 to 100, as text.
    #[serde(rename = "JPEGQuality", skip_serializing_if = "Option::is_none")]
    pub jpeg_quality: Option<String>,
}

/// Who is told of what a stream's tags say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Notification {
    pub status: Status,
    pub destination_config: NotificationDestination,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NotificationDestination {
    pub uri: String,
}
