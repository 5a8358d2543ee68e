//! `createUploadGrant`.

use super::asked::Asked;
use super::fault::Fault;
use super::ingest::caller;
use super::scalar::{DateTime, Url};
use super::stream::Stream;
use super::user_error::{UserError, UserErrorCode};
use crate::access::Action;
use crate::retention::PrepareError;
use async_graphql::{InputObject, SimpleObject};
use secrecy::ExposeSecret;

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
    region: String,
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
    let life_s = u32::try_from(input.duration_seconds).unwrap_or_default();
    let streams = asked.streams_of(device.id).await?;
    let service = &asked.service;
    match service.retention.prepare(&streams, &asked.plan_of(&device).await?).await {
        Ok(()) => {}
        Err(PrepareError::Storage(error)) => return Err(error.into()),
        Err(taken) => {
            let code = UserErrorCode::WrongState;
            return Ok(refused(UserError { code, message: taken.to_string(), path: None }));
        }
    }
    let archive = service.storage.archive();
    let granted = archive.grant_upload(device.id, &streams, life_s, asked.now()).await?;
    let asked_for = asked.now().plus_millis(i64::from(life_s) * 1000);
    let (endpoint, region, credentials) = match granted {
        Some(granted) => (granted.endpoint, granted.region, granted.credentials),
        None => (asked.base_url.clone(), REGION.to_owned(), None),
    };
    let streams = streams.into_iter().map(Stream).collect();
    let grant = match credentials {
        Some(credentials) => UploadGrant {
            endpoint: Url(endpoint),
            region,
            streams,
            access_key_id: Some(credentials.access_key_id),
            secret_access_key: Some(credentials.secret_access_key.expose_secret().into()),
            session_token: Some(credentials.session_token.expose_secret().into()),
            expires_at: DateTime(credentials.expires_at),
        },
        // What the device has already is what it uploads with: this service takes its token, so
        // that the grant ends no later.
        None => UploadGrant {
            endpoint: Url(endpoint),
            region,
            streams,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            expires_at: DateTime(asked_for.min(asked.principal()?.expires_at)),
        },
    };
    Ok(CreateUploadGrantPayload { grant: Some(grant), user_errors: Vec::new() })
}
