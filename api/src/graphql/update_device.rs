//! `updateDevice` and `retireDevice`.

use super::asked::Asked;
use super::device::Device;
use super::fault::Fault;
use super::register::MAX_NAME_CHARS;
use super::scalar::TimeZone;
use super::user_error::{UserError, UserErrorCode, text};
use crate::audit::AuditAction;
use crate::device::{self, DeviceChange, DeviceState, Turn};
use crate::feed::Change;
use crate::id::{PlanId, StreamId};
use crate::retention::{DeleteError, PrepareError};
use async_graphql::{ID, InputObject, SimpleObject};

#[derive(Debug, InputObject)]
pub struct UpdateDeviceInput {
    id: ID,
    name: Option<String>,
    time_zone: Option<TimeZone>,
    suspended: Option<bool>,
    retention_plan_id: Option<ID>,
}

#[derive(Debug, InputObject)]
pub struct RetireDeviceInput {
    id: ID,
    /// Refused with `WRONG_STATE` where a hold keeps any of it.
    #[graphql(default)]
    delete_footage: bool,
}

#[derive(SimpleObject)]
pub struct DevicePayload {
    device: Option<Device>,
    user_errors: Vec<UserError>,
}

impl DevicePayload {
    fn refused(mistake: UserError) -> Self {
        Self { device: None, user_errors: vec![mistake] }
    }
}

pub async fn update(asked: &Asked, input: UpdateDeviceInput) -> Result<DevicePayload, Fault> {
    let device = match asked.managed_device(&input.id, "id").await? {
        Ok(device) => device,
        Err(mistake) => return Ok(DevicePayload::refused(mistake)),
    };
    let refused = |code, field: &str, message: String| {
        Ok(DevicePayload::refused(UserError::at(code, &[field], message)))
    };
    let name = input.name.map(|name| text("name", &name, MAX_NAME_CHARS)).transpose();
    let name = match name {
        Ok(name) => name,
        Err(mistake) => return Ok(DevicePayload::refused(mistake)),
    };
    let plan = match &input.retention_plan_id {
        Some(id) => {
            let plan = match id.parse::<PlanId>() {
                Ok(id) => asked.plan(id).await?,
                Err(_) => None,
            };
            let Some(plan) = plan else {
                let message = "there is no such plan".into();
                return refused(UserErrorCode::NotFound, "retentionPlanId", message);
            };
            Some(plan)
        }
        None => None,
    };
    let change = DeviceChange {
        name,
        time_zone: input.time_zone.map(|TimeZone(zone)| zone.name().to_owned()),
        plan: plan.as_ref().map(|plan| plan.id),
        firmware_version: None,
        turn: input.suspended.map(|on| if on { Turn::Suspend } else { Turn::Resume }),
    };
    let changed = asked.service.storage.catalog.change_device(device.id, change).await?;
    let Some(device) = changed else {
        return refused(UserErrorCode::WrongState, "suspended", "the device is retired".into());
    };
    if input.suspended.is_some() {
        publish(asked, &device);
    }
    asked.note(AuditAction::Change, device.id).await;
    // A retired one may have no place for media any more, and needs none.
    if let Some(plan) = plan.filter(|_| device.state != DeviceState::Retired) {
        let streams = asked.streams_of(device.id).await?;
        match asked.service.retention.prepare(&streams, &plan).await {
            Ok(()) => {}
            // The plan holds all the same; a later sweep tells the archive.
            Err(PrepareError::Storage(error)) => return Err(error.into()),
            Err(taken) => {
                let (code, path) = (UserErrorCode::WrongState, ["retentionPlanId"]);
                return Ok(DevicePayload::refused(UserError::at(code, &path, taken.to_string())));
            }
        }
    }
    answer(asked, device).await
}

pub async fn retire(asked: &Asked, input: RetireDeviceInput) -> Result<DevicePayload, Fault> {
    let device = match asked.managed_device(&input.id, "id").await? {
        Ok(device) => device,
        Err(mistake) => return Ok(DevicePayload::refused(mistake)),
    };
    let retention = &asked.service.retention;
    let mut deletions = Vec::new();
    if input.delete_footage {
        let streams = asked.streams_of(device.id).await?;
        let streams: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        deletions = match retention.begin_delete_all(&streams).await {
            Ok(deletions) => deletions,
            Err(held @ DeleteError::Held(_)) => {
                let code = UserErrorCode::WrongState;
                let mistake = UserError::at(code, &["deleteFootage"], held.to_string());
                return Ok(DevicePayload::refused(mistake));
            }
            Err(DeleteError::Storage(error)) => return Err(error.into()),
        };
    }
    let catalog = &asked.service.storage.catalog;
    let change = DeviceChange { turn: Some(Turn::Retire), ..DeviceChange::default() };
    let device = catalog.change_device(device.id, change).await?.unwrap_or(device);
    publish(asked, &device);
    for mut credential in catalog.credentials_of(device.id).await? {
        if credential.revoked_at.is_none() {
            credential.revoked_at = Some(asked.now());
            catalog.put_credential(credential).await?;
        }
    }
    let action = if input.delete_footage { AuditAction::Delete } else { AuditAction::Change };
    asked.note(action, device.id).await;
    for deletion in &deletions {
        retention.carry_out(deletion).await?;
    }
    answer(asked, device).await
}

/// Tells who listens that the device's state is another one.
fn publish(asked: &Asked, device: &device::Device) {
    asked.service.feed.publish(device.account, device.id, Change::Device(device.id));
}

/// The device as it stands now, for this request too.
async fn answer(asked: &Asked, device: device::Device) -> Result<DevicePayload, Fault> {
    asked.loaders.devices.forget(device.id).await;
    Ok(DevicePayload { device: Some(Device(device)), user_errors: Vec::new() })
}
