//! The Kinesis Video Streams API at its own paths (KVS API, 2017-09-30).

mod archived;
mod bounds;
mod call;
mod configurations;
mod error;
mod media;
mod select;
mod settings;
mod streams;
mod tags;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, http::StatusCode};
use call::{Answer, Call};
use serde_json::json;

pub use archived::{
    get_clip, get_dash_streaming_session_url, get_hls_streaming_session_url, get_images,
};
pub use call::principal;
pub use configurations::{
    describe_image_generation, describe_notification, describe_stream_storage,
    update_image_generation, update_notification, update_stream_storage,
};
pub use error::KinesisError;
pub use media::{get_media, get_media_for_fragment_list, list_fragments};
pub use select::{Selected, StreamSelector};
pub use streams::{
    create_stream, delete_stream, describe_stream, get_data_endpoint, list_streams,
    update_data_retention, update_stream,
};
pub use tags::{
    list_tags_for_resource, list_tags_for_stream, tag_resource, tag_stream, untag_resource,
    untag_stream,
};

/// Operations around signalling channels, edge agents and mapped resources: there are none here.
pub const UNSUPPORTED: [&str; 13] = [
    "/createSignalingChannel",
    "/deleteSignalingChannel",
    "/describeSignalingChannel",
    "/getSignalingChannelEndpoint",
    "/listSignalingChannels",
    "/updateSignalingChannel",
    "/describeMediaStorageConfiguration",
    "/updateMediaStorageConfiguration",
    "/describeEdgeConfiguration",
    "/deleteEdgeConfiguration",
    "/listEdgeAgentConfigurations",
    "/startEdgeConfigurationUpdate",
    "/describeMappedResourceConfiguration",
];

/// One of [`UNSUPPORTED`].
pub async fn unsupported_operation(_: Call) -> Answer {
    let message = "signalling, edge and mapped-resource operations are not supported";
    Err(KinesisError::bad_request("UnsupportedOperationException", message))
}

/// Clients print it where a call fails.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Gives every answer an identifier of its own, by which clients and logs name a call.
pub async fn identify<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// Random, in the form of a UUID (RFC 9562 §5.4).
fn request_id() -> String {
    let mut chance = [0; 16];
    // An identifier that comes twice does no harm.
    let _ = aws_lc_rs::rand::fill(&mut chance);
    let id = u128::from_be_bytes(chance) & !(0xf << 76 | 3 << 62) | 4 << 76 | 2 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        id >> 80 & 0xffff,
        id >> 64 & 0xffff,
        id >> 48 & 0xffff,
        id & 0xffff_ffff_ffff
    )
}

/// What is posted to a path that is no operation's.
pub async fn unknown_operation() -> HttpResponse {
    HttpResponse::build(StatusCode::NOT_FOUND)
        .insert_header(("x-amzn-ErrorType", "UnknownOperationException"))
        .json(json!({
            "Output": { "__type": "com.amazon.coral.service#UnknownOperationException" },
            "Version": "1.0",
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_their_own() {
        let ids = [request_id(), request_id()];
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('4'), "{id}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
    }
}
