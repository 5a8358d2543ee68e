//! Streams as the control plane makes, shows, changes and deletes them.

use super::bounds::{is_device_name, is_kms_key_id, is_media_type, is_stream_name, require};
use super::call::{Answer, Call, admit};
use super::error::KinesisError;
use super::select::{Selected, StreamSelector, arn};
use super::settings::{self, check_tags, check_version};
use crate::access::{Action, Decision, Target, decide};
use crate::account::RetentionPlan;
use crate::audit::AuditAction;
use crate::device::{Device, DeviceState, Stream};
use crate::id::{DeviceId, PlanId, StreamId};
use crate::media_stream::{MediaSettings, StorageTier};
use crate::storage::{CreateError, MediaStreamQuery};
use actix_web::web::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lookback_wire::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

const DAY_HOURS: u32 = 24;
const HOUR_MS: i64 = 3_600_000;
/// Ten years.
const MAX_RETENTION_HOURS: i64 = 87_600;
const MAX_RESULTS: i64 = 10_000;
/// Records that are read at once for a list.
const LIST_STEP: usize = 500;
/// What a device's name and external identifier may have.
const MAX_DEVICE_NAME_CHARS: usize = 128;
/// The one series of footage of a device that stands in.
const STREAM_NAME: &str = "main";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateStream {
    stream_name: String,
    device_name: Option<String>,
    media_type: Option<String>,
    kms_key_id: Option<String>,
    #[serde(default)]
    data_retention_in_hours: i64,
    tags: Option<BTreeMap<String, String>>,
    stream_storage_configuration: Option<StreamStorage>,
}

/// `StreamStorageConfiguration`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamStorage {
    pub default_storage_tier: StorageTier,
}

/// `POST /createStream`: a media stream with a device that stands in until one is registered with it.
/// A device that asks for a stream of its own is answered as if it had made it.
pub async fn create_stream(call: Call) -> Answer {
    let input: CreateStream = call.input()?;
    let name = input.stream_name.clone();
    require("StreamName", &name, is_stream_name)?;
    let account = call.principal.account;
    if decide(Some(&call.principal), Action::Register, &Target::Account(account)) != Decision::Allow
    {
        let own = StreamSelector::new(Some(name), None);
        let Selected { stream, .. } = call
            .select(&own, Action::Tag)
            .await
            .map_err(|_| KinesisError::access_denied("the caller may not make streams"))?;
        return Ok(Json(json!({ "StreamARN": arn(&stream) })));
    }
    let settings = input.settings()?;
    let now = call.service.clock.now();
    let plans = call.service.storage.catalog.plans(account).await?;
    let plan = plans.iter().find(|plan| plan.is_default).or(plans.first());
    let plan = plan.ok_or_else(|| KinesisError::unavailable("the account has no plan"))?;
    let id = DeviceId::new(now);
    let short = name.len() <= MAX_DEVICE_NAME_CHARS;
    let device = Device {
        id,
        account,
        external_id: if short { name.clone() } else { id.to_string() },
        name: name.chars().take(MAX_DEVICE_NAME_CHARS).collect(),
        model: None,
        firmware_version: None,
        state: DeviceState::Provisioned,
        time_zone: "UTC".into(),
        plan: plan.id,
        created_at: now,
        last_seen_at: None,
        clock_skew_ms: None,
    };
    let stream = Stream {
        id: StreamId::new(now),
        device: id,
        account,
        name: STREAM_NAME.into(),
        position: 0,
        media_stream_name: name,
        created_at: now,
    };
    let arn = arn(&stream);
    match call.service.storage.catalog.create_media_stream(device, stream, settings).await {
        Ok(()) => Ok(Json(json!({ "StreamARN": arn }))),
        Err(CreateError::Storage(error)) => Err(error.into()),
        Err(taken) => Err(KinesisError::bad_request(
            "ResourceInUseException",
            format!("the stream's {taken}"),
        )),
    }
}

impl CreateStream {
    fn settings(self) -> Result<MediaSettings, KinesisError> {
        if let Some(name) = &self.device_name {
            require("DeviceName", name, is_device_name)?;
        }
        if let Some(media_type) = &self.media_type {
            require("MediaType", media_type, is_media_type)?;
        }
        if let Some(id) = &self.kms_key_id {
            require("KmsKeyId", id, is_kms_key_id)?;
        }
        if let Some(tags) = &self.tags {
            check_tags(tags)?;
        }
        let tier = self.stream_storage_configuration.map(|storage| storage.default_storage_tier);
        Ok(MediaSettings {
            device_name: self.device_name,
            media_type: self.media_type,
            kms_key_id: self.kms_key_id,
            retention_hours: Some(retention_hours(self.data_retention_in_hours)?),
            storage_tier: tier.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            unclaimed: true,
            ..MediaSettings::default()
        })
    }
}

fn retention_hours(hours: i64) -> Result<u32, KinesisError> {
    let allowed = Some(hours).filter(|hours| (0..=MAX_RETENTION_HOURS).contains(hours));
    allowed.and_then(|hours| u32::try_from(hours).ok()).ok_or_else(|| {
        KinesisError::invalid(format!(
            "the stream's data retention would be {hours} hours; 0 to {MAX_RETENTION_HOURS} are possible"
        ))
    })
}

/// `POST /describeStream`
pub async fn describe_stream(call: Call) -> Answer {
    let selector: StreamSelector = call.input()?;
    let Selected { stream, .. } = call.select(&selector, Action::View).await?;
    admit(&call.service, &stream, "DescribeStream")?;
    let infos = stream_infos(&call, &[stream]).await?;
    Ok(Json(json!({ "StreamInfo": infos.first() })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreams {
    max_results: Option<i64>,
    next_token: Option<String>,
    stream_name_condition: Option<StreamNameCondition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamNameCondition {
    comparison_operator: Option<ComparisonOperator>,
    comparison_value: Option<String>,
}

#[derive(Debug, Deserialize)]
enum ComparisonOperator {
    #[serde(rename = "BEGINS_WITH")]
    BeginsWith,
}

/// `POST /listStreams`: by name.
pub async fn list_streams(call: Call) -> Answer {
    let input: ListStreams = call.input()?;
    let account = call.principal.account;
    if decide(Some(&call.principal), Action::View, &Target::Account(account)) != Decision::Allow {
        return Err(KinesisError::access_denied("the caller may not list streams"));
    }
    let limit = input.max_results.unwrap_or(MAX_RESULTS);
    let limit =
        usize::try_from(limit).ok().filter(|_| (1..=MAX_RESULTS).contains(&limit)).ok_or_else(
            || KinesisError::invalid(format!("MaxResults {limit} is not 1 to {MAX_RESULTS}")),
        )?;
    let name_prefix = match input.stream_name_condition {
        Some(StreamNameCondition {
            comparison_operator: None | Some(ComparisonOperator::BeginsWith),
            comparison_value,
        }) => comparison_value,
        None => None,
    };
    if let Some(prefix) = &name_prefix {
        require("ComparisonValue", prefix, is_stream_name)?;
    }
    let after = input.next_token.filter(|token| !token.is_empty()).map(|token| name_after(&token));
    let query = MediaStreamQuery { name_prefix, after: after.transpose()?, limit: limit + 1 };
    let mut streams = call.service.storage.catalog.media_streams(account, &query).await?;
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().filter(|_| more).map(|last| BASE64.encode(&last.media_stream_name));
    let infos = stream_infos(&call, &streams).await?;
    Ok(Json(match next {
        Some(token) => json!({ "StreamInfoList": infos, "NextToken": token }),
        None => json!({ "StreamInfoList": infos }),
    }))
}

/// The name that a page ended with.
fn name_after(token: &str) -> Result<String, KinesisError> {
    let name = BASE64.decode(token).ok().and_then(|name| String::from_utf8(name).ok());
    name.filter(|name| is_stream_name(name))
        .ok_or_else(|| KinesisError::invalid(format!("NextToken {token:?} is none of ours")))
}

/// The `StreamInfo` of each. Producers read at most 100 tokens of one, no escapes, and whole numbers
/// only where they look.
async fn stream_infos(call: &Call, streams: &[Stream]) -> Result<Vec<Value>, KinesisError> {
    let catalog = &call.service.storage.catalog;
    let plans = catalog.plans(call.principal.account).await?;
    let plans: HashMap<PlanId, RetentionPlan> =
        plans.into_iter().map(|plan| (plan.id, plan)).collect();
    let mut infos = Vec::with_capacity(streams.len());
    for streams in streams.chunks(LIST_STEP) {
        let ids: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        let devices: Vec<DeviceId> = streams.iter().map(|stream| stream.device).collect();
        let settings = catalog.media_settings(&ids).await?;
        let devices = catalog.devices_by_id(&devices).await?;
        for ((stream, settings), device) in streams.iter().zip(settings).zip(devices) {
            let plan = device.and_then(|device| plans.get(&device.plan));
            infos.push(stream_info(stream, &settings, plan));
        }
    }
    Ok(infos)
}

fn stream_info(stream: &Stream, settings: &MediaSettings, plan: Option<&RetentionPlan>) -> Value {
    let mut info = json!({
        "CreationTime": stream.created_at.as_millis() as f64 / 1_000.0,
        "DataRetentionInHours": kept_hours(settings, plan),
        "DeviceName": settings.device_name.clone().unwrap_or_else(|| stream.device.to_string()),
        "Status": "ACTIVE",
        "StreamARN": arn(stream),
        "StreamName": stream.media_stream_name,
        "Version": settings.version(stream.id),
    });
    for (name, value) in [("MediaType", &settings.media_type), ("KmsKeyId", &settings.kms_key_id)] {
        if let Some(value) = value {
            info[name] = json!(value);
        }
    }
    info
}

/// For how long the stream's footage is kept.
fn kept_hours(settings: &MediaSettings, plan: Option<&RetentionPlan>) -> u32 {
    let planned = || plan.map_or(0, |plan| plan.days.saturating_mul(DAY_HOURS));
    settings.retention_hours.unwrap_or_else(planned)
}

/// The same for a stream whose plan is not at hand.
pub async fn kept_hours_of(
    call: &Call,
    device: &Device,
    settings: &MediaSettings,
) -> Result<u32, KinesisError> {
    let plans = call.service.storage.catalog.plans_by_id(&[device.plan]).await?;
    Ok(kept_hours(settings, plans.into_iter().flatten().next().as_ref()))
}

/// Whether what arrived at `end` may be kept still: where nothing is found up to there, this is why.
pub async fn check_kept_at(
    call: &Call,
    selected: &Selected,
    end: Timestamp,
) -> Result<(), KinesisError> {
    let settings = settings::read(call, &selected.stream).await?;
    let hours = kept_hours_of(call, &selected.device, &settings).await?;
    let oldest = call.service.clock.now().plus_millis(-i64::from(hours).saturating_mul(HOUR_MS));
    if end >= oldest {
        return Ok(());
    }
    let message =
        format!("End timestamp {} is outside of the stream retention period.", end.as_millis());
    Err(KinesisError::invalid(message))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteStream {
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_version: Option<String>,
}

/// `POST /deleteStream`: the stream is gone at once, and its footage with it.
pub async fn delete_stream(call: Call) -> Answer {
    let input: DeleteStream = call.input()?;
    let selector = StreamSelector::new(None, Some(input.stream_arn));
    let Selected { stream, .. } = call.select(&selector, Action::Manage).await?;
    if let Some(version) = &input.current_version {
        check_version(version, &stream, &settings::read(&call, &stream).await?)?;
    }
    let retention = &call.service.retention;
    let deletions = retention.begin_delete_all(&[stream.id]).await?;
    call.service.storage.catalog.delete_media_stream(stream.id).await?;
    call.note(AuditAction::Delete, stream.id).await;
    for deletion in &deletions {
        retention.carry_out(deletion).await?;
    }
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStream {
    current_version: String,
    device_name: Option<String>,
    media_type: Option<String>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /updateStream`
pub async fn update_stream(call: Call) -> Answer {
    let input: UpdateStream = call.input()?;
    if let Some(name) = &input.device_name {
        require("DeviceName", name, is_device_name)?;
    }
    if let Some(media_type) = &input.media_type {
        require("MediaType", media_type, is_media_type)?;
    }
    let Selected { stream, .. } = call.select(&input.stream, Action::Manage).await?;
    settings::change(&call, &stream, Some(&input.current_version), |settings| {
        if let Some(name) = &input.device_name {
            settings.device_name = Some(name.clone());
        }
        if let Some(media_type) = &input.media_type {
            settings.media_type = Some(media_type.clone());
        }
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateDataRetention {
    current_version: String,
    operation: RetentionOperation,
    data_retention_change_in_hours: i64,
    #[serde(flatten)]
    stream: StreamSelector,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RetentionOperation {
    IncreaseDataRetention,
    DecreaseDataRetention,
}

/// `POST /updateDataRetention`
pub async fn update_data_retention(call: Call) -> Answer {
    let input: UpdateDataRetention = call.input()?;
    let hours = input.data_retention_change_in_hours;
    if !(1..=MAX_RETENTION_HOURS).contains(&hours) {
        return Err(KinesisError::invalid(format!(
            "DataRetentionChangeInHours {hours} is not 1 to {MAX_RETENTION_HOURS}"
        )));
    }
    let Selected { stream, device } = call.select(&input.stream, Action::Manage).await?;
    let plan = kept_hours_of(&call, &device, &MediaSettings::default()).await?;
    settings::change(&call, &stream, Some(&input.current_version), |settings| {
        let kept = i64::from(settings.retention_hours.unwrap_or(plan));
        let hours = match input.operation {
            RetentionOperation::IncreaseDataRetention => kept + hours,
            RetentionOperation::DecreaseDataRetention => kept - hours,
        };
        settings.retention_hours = Some(retention_hours(hours)?);
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetDataEndpoint {
    #[serde(rename = "APIName")]
    api_name: ApiName,
    #[serde(flatten)]
    stream: StreamSelector,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApiName {
    PutMedia,
    GetMedia,
    ListFragments,
    GetMediaForFragmentList,
    GetHlsStreamingSessionUrl,
    GetDashStreamingSessionUrl,
    GetClip,
    GetImages,
}

/// `POST /getDataEndpoint`: all of them are where this one is.
pub async fn get_data_endpoint(call: Call) -> Answer {
    let input: GetDataEndpoint = call.input()?;
    let action = match input.api_name {
        ApiName::PutMedia => Action::Upload,
        ApiName::GetMedia
        | ApiName::ListFragments
        | ApiName::GetMediaForFragmentList
        | ApiName::GetHlsStreamingSessionUrl
        | ApiName::GetDashStreamingSessionUrl
        | ApiName::GetClip
        | ApiName::GetImages => Action::ReadBack,
    };
    let Selected { stream, .. } = call.select(&input.stream, action).await?;
    admit(&call.service, &stream, "GetDataEndpoint")?;
    Ok(Json(json!({ "DataEndpoint": call.base_url })))
}
