//! Tags of streams: by the stream's name or ARN, and by the ARN of a resource.

use super::bounds::{is_tag_key, require};
use super::call::{Answer, Call};
use super::error::KinesisError;
use super::select::{Selected, StreamSelector};
use super::settings::{self, check_tag_count, check_tags};
use crate::access::Action;
use crate::device::Stream;
use crate::media_stream::MAX_TAGS;
use actix_web::web::Json;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagStream {
    tags: BTreeMap<String, String>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /tagStream`
pub async fn tag_stream(call: Call) -> Answer {
    let input: TagStream = call.input()?;
    let Selected { stream, .. } = call.select(&input.stream, Action::Tag).await?;
    tag(&call, &stream, &input.tags).await
}

#[derive(Debug, Deserialize)]
struct TagResource {
    #[serde(rename = "ResourceARN")]
    resource_arn: String,
    #[serde(rename = "Tags")]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

/// `POST /TagResource`
pub async fn tag_resource(call: Call) -> Answer {
    let input: TagResource = call.input()?;
    let stream = resource(&call, input.resource_arn, Action::Manage).await?;
    check_tag_count(input.tags.len())?;
    let tags = input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    tag(&call, &stream, &tags).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UntagStream {
    tag_key_list: Vec<String>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /untagStream`
pub async fn untag_stream(call: Call) -> Answer {
    let input: UntagStream = call.input()?;
    let Selected { stream, .. } = call.select(&input.stream, Action::Manage).await?;
    untag(&call, &stream, &input.tag_key_list).await
}

#[derive(Debug, Deserialize)]
struct UntagResource {
    #[serde(rename = "ResourceARN")]
    resource_arn: String,
    #[serde(rename = "TagKeyList")]
    tag_key_list: Vec<String>,
}

/// `POST /UntagResource`
pub async fn untag_resource(call: Call) -> Answer {
    let input: UntagResource = call.input()?;
    let stream = resource(&call, input.resource_arn, Action::Manage).await?;
    untag(&call, &stream, &input.tag_key_list).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListTagsForStream {
    next_token: Option<String>,
    #[serde(flatten)]
    stream: StreamSelector,
}

/// `POST /listTagsForStream`
pub async fn list_tags_for_stream(call: Call) -> Answer {
    let input: ListTagsForStream = call.input()?;
    let Selected { stream, .. } = call.select(&input.stream, Action::ReadBack).await?;
    list(&call, &stream, input.next_token.as_deref()).await
}

#[derive(Debug, Deserialize)]
struct ListTagsForResource {
    #[serde(rename = "ResourceARN")]
    resource_arn: String,
    #[serde(rename = "NextToken")]
    next_token: Option<String>,
}

/// `POST /ListTagsForResource`
pub async fn list_tags_for_resource(call: Call) -> Answer {
    let input: ListTagsForResource = call.input()?;
    let stream = resource(&call, input.resource_arn, Action::ReadBack).await?;
    list(&call, &stream, input.next_token.as_deref()).await
}

/// The stream that a resource is.
async fn resource(call: &Call, arn: String, action: Action) -> Result<Stream, KinesisError> {
    let selector = StreamSelector::new(None, Some(arn));
    let selected = call.select(&selector, action).await;
    selected.map(|selected| selected.stream).map_err(KinesisError::or_access_denied)
}

async fn tag(call: &Call, stream: &Stream, tags: &BTreeMap<String, String>) -> Answer {
    check_tags(tags)?;
    settings::change(call, stream, None, |settings| {
        settings.tags.extend(tags.clone());
        check_tag_count(settings.tags.len())
    })
    .await?;
    Ok(Json(json!({})))
}

async fn untag(call: &Call, stream: &Stream, keys: &[String]) -> Answer {
    if !(1..=MAX_TAGS).contains(&keys.len()) {
        let message = format!("TagKeyList has {} keys, not 1 to {MAX_TAGS}", keys.len());
        return Err(KinesisError::invalid(message));
    }
    for key in keys {
        require("a tag's key", key, is_tag_key)?;
    }
    settings::change(call, stream, None, |settings| {
        settings.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

/// All of them at once, so no token leads on.
async fn list(call: &Call, stream: &Stream, token: Option<&str>) -> Answer {
    if token.is_some_and(|token| !token.is_empty()) {
        return Err(KinesisError::invalid("NextToken is none of ours"));
    }
    let settings = settings::read(call, stream).await?;
    Ok(Json(json!({ "Tags": settings.tags })))
}
