//! The control plane: what stands around a stream's media. For now what a producer calls before
//! PutMedia.

use super::call::{Answer, Call};
use super::error::KinesisError;
use super::select::{Selected, StreamSelector, arn};
use crate::access::Action;
use actix_web::web::Json;
use serde::Deserialize;
use serde_json::json;

const DAY_HOURS: u32 = 24;

/// `POST /describeStream`
pub async fn describe_stream(call: Call) -> Answer {
    let selector: StreamSelector = call.input()?;
    let Selected { device, stream } = call.select(&selector, Action::View).await?;
    let plan = call.service.storage.catalog.plans_by_id(&[device.plan]).await?.pop().flatten();
    let kept_hours = plan.map_or(0, |plan| plan.days.saturating_mul(DAY_HOURS));
    // Producers read at most 100 tokens, no escapes, and whole numbers only where they look.
    Ok(Json(json!({ "StreamInfo": {
        "CreationTime": stream.created_at.as_millis() as f64 / 1_000.0,
        "DataRetentionInHours": kept_hours,
        "DeviceName": device.id.to_string(),
        "MediaType": "video/h264",
        "Status": "ACTIVE",
        "StreamARN": arn(&stream),
        "StreamName": stream.media_stream_name,
        "Version": stream.id.0.to_string(),
    } })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetDataEndpoint {
    #[serde(rename = "APIName")]
    api_name: String,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /getDataEndpoint`
pub async fn get_data_endpoint(call: Call) -> Answer {
    let input: GetDataEndpoint = call.input()?;
    call.select(&input.stream, Action::Upload).await?;
    if input.api_name != "PUT_MEDIA" {
        let message = format!("APIName {:?} is not supported, PUT_MEDIA is", input.api_name);
        return Err(KinesisError::invalid(message));
    }
    Ok(Json(json!({ "DataEndpoint": call.base_url })))
}
