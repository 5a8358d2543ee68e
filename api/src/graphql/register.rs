//! `registerDevice`.

use super::asked::Asked;
use super::credential::{
    DEFAULT_VALID_DAYS, DeviceCredentialKind, IssuedCredential, new_credential,
};
use super::device::Device;
use super::fault::Fault;
use super::scalar::TimeZone;
use super::user_error::{UserError, UserErrorCode, text};
use crate::access::{Action, Decision, Target};
use crate::audit::AuditAction;
use crate::device::{self, DeviceChange, DeviceState, MAX_STREAMS, Turn};
use crate::feed::Change;
use crate::id::{DeviceId, PlanId, StreamId};
use crate::retention::PrepareError;
use crate::storage::{CreateError, Registered, Registration};
use async_graphql::{ID, InputObject, InputType, SimpleObject};
use aws_lc_rs::digest::{SHA256, digest};
use lookback_wire::Timestamp;
use std::collections::HashSet;

pub const MAX_NAME_CHARS: usize = 128;
const MAX_STREAM_NAME_CHARS: usize = 64;
const MAX_MEDIA_STREAM_NAME_CHARS: usize = 256;

#[derive(Debug, InputObject)]
pub struct RegisterDeviceInput {
    /// 1 to 128 characters, unique in the account; naming a `RETIRED` device revives it under its old identifier with a new credential.
    external_id: String,
    name: String,
    model: Option<String>,
    time_zone: TimeZone,
    /// 1 to 8 names, the main stream first.
    #[graphql(default_with = "vec![String::from(\"main\")]")]
    streams: Vec<String>,
    /// The media stream of each of `streams`, where the maker chooses or already has them; unique in the account, 1 to 256 of `A-Z a-z 0-9 _ . -`.
    media_stream_names: Option<Vec<String>>,
    /// The account's default plan if left out.
    retention_plan_id: Option<ID>,
    #[graphql(default)]
    credential: DeviceCredentialKind,
    /// Makes a retry safe for 24 hours: it returns the same device with a new first credential, and revokes the one that was lost.
    idempotency_key: Option<String>,
}

#[derive(SimpleObject)]
pub struct RegisterDevicePayload {
    device: Option<Device>,
    credential: Option<IssuedCredential>,
    user_errors: Vec<UserError>,
}

impl RegisterDevicePayload {
    fn refused(user_errors: Vec<UserError>) -> Self {
        Self { device: None, credential: None, user_errors }
    }
}

pub async fn register(
    asked: &Asked,
    mut input: RegisterDeviceInput,
) -> Result<RegisterDevicePayload, Fault> {
    let account = asked.principal()?.account;
    if asked.decide(Action::Register, &Target::Account(account)) != Decision::Allow {
        return Err(Fault::Forbidden);
    }
    let mut mistakes = mistakes(&mut input);
    let plan = plan(asked, input.retention_plan_id.as_ref()).await?;
    if plan.is_none() {
        let message = "there is no such plan";
        mistakes.push(UserError::at(UserErrorCode::NotFound, &["retentionPlanId"], message));
    }
    let Some(plan) = plan.filter(|_| mistakes.is_empty()) else {
        return Ok(RegisterDevicePayload::refused(mistakes));
    };
    let now = asked.now();
    let registration = registration(input, account, plan, now);
    match asked.service.storage.catalog.register_device(registration, now).await {
        Ok(Registered { device, streams, credential }) => {
            asked.service.feed.publish(account, device.id, Change::Device(device.id));
            asked.note(AuditAction::Change, device.id).await;
            if let Err(cause) = make_room(asked, &device, &streams).await? {
                return take_back(asked, device, cause).await;
            }
            Ok(RegisterDevicePayload {
                device: Some(Device(device)),
                credential: Some(IssuedCredential::new(asked, credential)?),
                user_errors: Vec::new(),
            })
        }
        Err(CreateError::Taken { field }) => {
            let name = match field {
                "mediaStreamName" => "mediaStreamNames",
                "name" => "streams",
                other => other,
            };
            let message = format!("{name} is in use");
            let mistake = UserError::at(UserErrorCode::Taken, &[name], message);
            Ok(RegisterDevicePayload::refused(vec![mistake]))
        }
        Err(CreateError::IdempotencyConflict) => {
            let message = "the key came with another input before";
            let code = UserErrorCode::IdempotencyConflict;
            let mistake = UserError::at(code, &["idempotencyKey"], message);
            Ok(RegisterDevicePayload::refused(vec![mistake]))
        }
        Err(too_many @ CreateError::TooManyStreams(_)) => {
            let (code, message) = (UserErrorCode::LimitReached, too_many.to_string());
            let mistake = UserError::at(code, &["streams"], message);
            Ok(RegisterDevicePayload::refused(vec![mistake]))
        }
        Err(CreateError::Storage(error)) => Err(error.into()),
    }
}

/// Makes a place for the media of a device that was registered.
async fn make_room(
    asked: &Asked,
    device: &device::Device,
    streams: &[device::Stream],
) -> Result<Result<(), PrepareError>, Fault> {
    let plan = asked.plan_of(device).await?;
    let ids: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
    let retention = &asked.service.retention;
    if let Err(error) = retention.end_deletions(&ids).await {
        return Ok(Err(error.into()));
    }
    Ok(retention.prepare(streams, &plan).await)
}

/// Retires a device again that nobody has used yet, as there is no place for its media: the same
/// call, with its key or without, revives it. One that is in use stays so.
async fn take_back(
    asked: &Asked,
    device: device::Device,
    cause: PrepareError,
) -> Result<RegisterDevicePayload, Fault> {
    if device.state == DeviceState::Provisioned {
        let catalog = &asked.service.storage.catalog;
        // Else it would keep a name that is never to be had.
        if let PrepareError::Taken(stream) = &cause {
            catalog.delete_media_stream(stream.id).await?;
        }
        let change = DeviceChange { turn: Some(Turn::Retire), ..DeviceChange::default() };
        catalog.change_device(device.id, change).await?;
        asked.service.feed.publish(device.account, device.id, Change::Device(device.id));
    }
    match cause {
        PrepareError::Storage(error) => Err(error.into()),
        taken => {
            let path = ["mediaStreamNames"];
            let mistake = UserError::at(UserErrorCode::Taken, &path, taken.to_string());
            Ok(RegisterDevicePayload::refused(vec![mistake]))
        }
    }
}

/// The plan that was asked for, or the account's default one.
async fn plan(asked: &Asked, id: Option<&ID>) -> Result<Option<PlanId>, Fault> {
    let plans = asked.service.storage.catalog.plans(asked.principal()?.account).await?;
    let wanted = plans.iter().find(|plan| match id {
        Some(id) => id.as_str() == plan.id.to_string(),
        None => plan.is_default,
    });
    Ok(wanted.map(|plan| plan.id))
}

fn registration(
    input: RegisterDeviceInput,
    account: crate::id::AccountId,
    plan: PlanId,
    now: Timestamp,
) -> Registration {
    let device = DeviceId::new(now);
    // Everything that was asked for, in its one spelling as GraphQL.
    let input_digest = digest(&SHA256, input.to_value().to_string().as_bytes());
    let media_name = |position: usize, name: &str| {
        let chosen = input.media_stream_names.as_ref().and_then(|names| names.get(position));
        chosen.cloned().unwrap_or_else(|| format!("{device}-{name}"))
    };
    let stream = |(position, name): (usize, &String)| device::Stream {
        id: StreamId::new(now),
        device,
        account,
        name: name.clone(),
        position: u8::try_from(position).unwrap_or(u8::MAX),
        media_stream_name: media_name(position, name),
        created_at: now,
    };
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(input_digest.as_ref());
    Registration {
        streams: input.streams.iter().enumerate().map(stream).collect(),
        credential: new_credential(
            account,
            device,
            input.credential.into(),
            DEFAULT_VALID_DAYS,
            now,
        ),
        idempotency: input.idempotency_key.map(|key| (key, sha256)),
        device: device::Device {
            id: device,
            account,
            external_id: input.external_id,
            name: input.name,
            model: input.model,
            firmware_version: None,
            state: DeviceState::Provisioned,
            time_zone: input.time_zone.0.name().to_owned(),
            plan,
            created_at: now,
            last_seen_at: None,
            clock_skew_ms: None,
        },
    }
}

/// What is wrong with `input`, whose names are put in their normal form.
fn mistakes(input: &mut RegisterDeviceInput) -> Vec<UserError> {
    let mut mistakes = Vec::new();
    let identifiers = [
        ("externalId", Some(&input.external_id)),
        ("idempotencyKey", input.idempotency_key.as_ref()),
    ];
    for (field, given) in identifiers {
        mistakes.extend(given.and_then(|given| text(field, given, MAX_NAME_CHARS).err()));
    }
    for (field, given) in [("name", Some(&mut input.name)), ("model", input.model.as_mut())] {
        let Some(given) = given else { continue };
        match text(field, given, MAX_NAME_CHARS) {
            Ok(text) => *given = text,
            Err(mistake) => mistakes.push(mistake),
        }
    }
    let mut invalid = |path: &[&str], message: String| {
        mistakes.push(UserError::at(UserErrorCode::Invalid, path, message));
    };
    if !(1..=MAX_STREAMS).contains(&input.streams.len()) {
        invalid(&["streams"], format!("streams must have 1 to {MAX_STREAMS} names"));
    }
    check_names(&mut invalid, "streams", &input.streams, MAX_STREAM_NAME_CHARS);
    if let Some(names) = &input.media_stream_names {
        if names.len() != input.streams.len() {
            invalid(&["mediaStreamNames"], "mediaStreamNames must be as many as streams".into());
        }
        check_names(&mut invalid, "mediaStreamNames", names, MAX_MEDIA_STREAM_NAME_CHARS);
    }
    mistakes
}

fn check_names(
    invalid: &mut impl FnMut(&[&str], String),
    field: &str,
    names: &[String],
    max_chars: usize,
) {
    let mut seen = HashSet::new();
    for (place, name) in names.iter().enumerate() {
        let place = place.to_string();
        if !is_name(name, max_chars) {
            let form = format!("1 to {max_chars} characters of A-Z a-z 0-9 _ . -");
            invalid(&[field, &place], format!("each of {field} must be {form}"));
        } else if !seen.insert(name) {
            invalid(&[field, &place], format!("{name} comes twice in {field}"));
        }
    }
}

fn is_name(name: &str, max_chars: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=max_chars).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut RegisterDeviceInput), expected: &[&[&str]]) {
        let mut input = RegisterDeviceInput {
            external_id: "cam-1".into(),
            name: "Hof".into(),
            model: None,
            time_zone: TimeZone(chrono_tz::UTC),
            streams: vec!["main".into()],
            media_stream_names: None,
            retention_plan_id: None,
            credential: DeviceCredentialKind::Token,
            idempotency_key: None,
        };
        change(&mut input);
        let paths: Vec<_> =
            mistakes(&mut input).into_iter().map(|mistake| mistake.path.unwrap()).collect();
        assert_eq!(paths, expected, "{input:?}");
    }

    #[test]
    fn every_field_is_bounded() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        check(|_| {}, &[]);
        check(|input| input.external_id = "é".repeat(128), &[]);
        check(|input| input.external_id = "é".repeat(129), &[&["input", "externalId"]]);
        check(|input| input.external_id.clear(), &[&["input", "externalId"]]);
        check(|input| input.name = "a\nb".into(), &[&["input", "name"]]);
        check(|input| input.model = Some(String::new()), &[&["input", "model"]]);
        check(
            |input| input.idempotency_key = Some("\u{7f}".into()),
            &[&["input", "idempotencyKey"]],
        );
        check(|input| input.streams.clear(), &[&["input", "streams"]]);
        check(|input| input.streams = names(&["a"; 1]), &[]);
        check(
            |input| input.streams = names(&["a", "b", "a", "c d"]),
            &[&["input", "streams", "2"], &["input", "streams", "3"]],
        );
        check(
            |input| input.streams = (0..9).map(|n| n.to_string()).collect(),
            &[&["input", "streams"]],
        );
        check(
            |input| input.media_stream_names = Some(names(&["x/y"])),
            &[&["input", "mediaStreamNames", "0"]],
        );
        check(|input| input.media_stream_names = Some(vec!["x".repeat(256)]), &[]);
        check(
            |input| input.media_stream_names = Some(names(&["x", "y"])),
            &[&["input", "mediaStreamNames"]],
        );
    }
}
