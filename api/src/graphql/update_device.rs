//! `updateDevice` and `retireDevice`.

use super::asked::Asked;
use super::device::Device;
use super::fault::Fault;
use super::register::MAX_NAME_CHARS;
use super::scalar::TimeZone;
use super::user_error::{UserError, UserErrorCode, is_text};
use crate::audit::AuditAction;
use crate::device::{self, DeviceState};
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
    let mut device = match asked.managed_device(&input.id, "id").await? {
        Ok(device) => device,
        Err(mistake) => return Ok(DevicePayload::refused(mistake)),
    };
    if let Some(name) = input.name {
        if !is_text(&name, MAX_NAME_CHARS) {
            let form = format!("1 to {MAX_NAME_CHARS} characters, none of them control characters");
            let message = format!("name must be {form}");
            return Ok(DevicePayload::refused(UserError::at(
                UserErrorCode::Invalid,
                &["name"],
                message,
            )));
        }
        device.name = name;
    }
    if let Some(TimeZone(zone)) = input.time_zone {
        device.time_zone = zone.name().to_owned();
    }
    let mut new_plan = None;
    if let Some(id) = input.retention_plan_id {
        let plan = match id.parse::<PlanId>() {
            Ok(id) => asked.plan(id).await?,
            Err(_) => None,
        };
        let Some(plan) = plan else {
            let message = "there is no such plan";
            return Ok(DevicePayload::refused(UserError::at(
                UserErrorCode::NotFound,
                &["retentionPlanId"],
                message,
            )));
        };
        device.plan = plan.id;
        new_plan = Some(plan);
    }
    if let Some(suspended) = input.suspended {
        let Some(state) = suspend(&device, suspended) else {
            let message = "the device is retired";
            return Ok(DevicePayload::refused(UserError::at(
                UserErrorCode::WrongState,
                &["suspended"],
                message,
            )));
        };
        device.state = state;
    }
    asked.service.storage.catalog.update_device(device.clone()).await?;
    if input.suspended.is_some() {
        publish(asked, &device);
    }
    asked.note(AuditAction::Change, device.id).await;
    // A retired one may have no place for media any more, and needs none.
    if let Some(plan) = new_plan.filter(|_| device.state != DeviceState::Retired) {
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

/// The state that a device comes into; none for one that is retired.
fn suspend(device: &device::Device, suspended: bool) -> Option<DeviceState> {
    match (device.state, suspended) {
        (DeviceState::Retired, _) => None,
        (_, true) => Some(DeviceState::Suspended),
        (DeviceState::Suspended, false) if device.last_seen_at.is_none() => {
            Some(DeviceState::Provisioned)
        }
        (DeviceState::Suspended, false) => Some(DeviceState::Active),
        (state, false) => Some(state),
    }
}

pub async fn retire(asked: &Asked, input: RetireDeviceInput) -> Result<DevicePayload, Fault> {
    let mut device = match asked.managed_device(&input.id, "id").await? {
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
    device.state = DeviceState::Retired;
    catalog.update_device(device.clone()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, DeviceId};
    use lookback_wire::Timestamp;

    #[test]
    fn states_after_suspending() {
        use DeviceState::{Active, Provisioned, Retired, Suspended};
        let now = Timestamp::from_millis(1_763_803_800_000);
        for (state, seen, suspended, expected) in [
            (Provisioned, false, true, Some(Suspended)),
            (Active, true, true, Some(Suspended)),
            (Suspended, true, true, Some(Suspended)),
            (Suspended, true, false, Some(Active)),
            (Suspended, false, false, Some(Provisioned)),
            (Provisioned, false, false, Some(Provisioned)),
            (Active, true, false, Some(Active)),
            (Retired, true, true, None),
            (Retired, true, false, None),
        ] {
            let device = device::Device {
                id: DeviceId::new(now),
                account: AccountId::new(now),
                external_id: "cam".into(),
                name: "Cam".into(),
                model: None,
                firmware_version: None,
                state,
                time_zone: "UTC".into(),
                plan: PlanId::new(now),
                created_at: now,
                last_seen_at: seen.then_some(now),
                clock_skew_ms: None,
            };
            assert_eq!(suspend(&device, suspended), expected, "{state:?} {suspended}");
        }
    }
}
