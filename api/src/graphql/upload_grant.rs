//! `createUploadGrant`.

use super::asked::Asked;
use super::fault::Fault;
use super::ingest::caller;
use super::scalar::{DateTime, Url};
use super::stream::Stream;
use super::user_error::{UserError, UserErrorCode};
use crate::access::Action;
use async_graphql::{InputObject, SimpleObject};

const DURATION_S: std::ops::RangeInclusive<i32> = 900..=43_200;
const DEFAULT_DURATION_S: i32 = 3600;
/// Signers need a name for where they are; the embedded backend is one place.
const REGION: &str = "us-east-1";

#[derive(Debug, InputObject)]
pub struct CreateUploadGrantInput {
    /// 900 to 43200 s; the service may give less.
    #[graphql(default_with = "DEFAULT_DURATION_S")]
    duration_seconds: i32,
}

#[derive(SimpleObject)]
pub struct CreateUploadGrantPayload {
    grant: Option<UploadGrant>,
    user_errors: Vec<UserError>,
}

/// What a device needs to send media: where, and with what.
#[derive(SimpleObject)]
pub struct UploadGrant {
    /// The control-plane endpoint; its `GetDataEndpoint` names the media endpoint.
    endpoint: Url,
    region: &'static str,
    /// All of the device's, each with its `mediaStreamName`.
    streams: Vec<Stream>,
    /// Temporary AWS credentials limited to the device's own streams; null where the device's own credential serves.
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expires_at: DateTime,
}

pub async fn create(
    asked: &Asked,
    input: CreateUploadGrantInput,
) -> Result<CreateUploadGrantPayload, Fault> {
    let device = caller(asked).await?;
    let refused = |mistake| CreateUploadGrantPayload { grant: None, user_errors: vec![mistake] };
    if !asked.may(Action::Report, &device) {
        let message = "the device is suspended or retired";
        let mistake =
            UserError { code: UserErrorCode::WrongState, message: message.into(), path: None };
        return Ok(refused(mistake));
    }
    if !DURATION_S.contains(&input.duration_seconds) {
        let (min, max) = (DURATION_S.start(), DURATION_S.end());
        let message = format!("durationSeconds must be {min} to {max}");
        return Ok(refused(UserError::at(UserErrorCode::Invalid, &["durationSeconds"], message)));
    }
    // The device's own token is what it uploads with, so that the grant ends no later.
    let asked_for = asked.now().plus_millis(i64::from(input.duration_seconds) * 1000);
    let expires_at = asked_for.min(asked.principal()?.expires_at);
    Ok(CreateUploadGrantPayload {
        grant: Some(UploadGrant {
            endpoint: Url(asked.base_url.clone()),
            region: REGION,
            streams: asked.streams_of(device.id).await?.into_iter().map(Stream).collect(),
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            expires_at: DateTime(expires_at),
        }),
        user_errors: Vec::new(),
    })
}
