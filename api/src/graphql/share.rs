//! `DeviceShare`, `shareDevice` and `revokeShare`.

use super::asked::{Asked, asked};
use super::device::{Device, DeviceRole};
use super::fault::Fault;
use super::scalar::DateTime;
use super::user::{self, User, UserRef};
use super::user_error::{UserError, UserErrorCode};
use crate::access::{self, Action, Decision, Target, share_needed};
use crate::audit::AuditAction;
use crate::id::{DeviceId, ShareId};
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

#[derive(Clone)]
pub struct DeviceShare(pub access::Share);

/// A user's access to a device beyond the user's role in the account.
#[Object]
impl DeviceShare {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn device(&self, ctx: &Context<'_>) -> Result<Device, Fault> {
        let lost = || Fault::internal(format!("{} has no device", self.0.id));
        asked(ctx)?.device(self.0.device).await?.map(Device).ok_or_else(lost)
    }

    async fn user(&self, ctx: &Context<'_>) -> Result<User, Fault> {
        let lost = || Fault::internal(format!("{} has no user", self.0.id));
        asked(ctx)?.loaders.users.get(self.0.user).await?.map(User).ok_or_else(lost)
    }

    async fn role(&self) -> DeviceRole {
        self.0.role.into()
    }

    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }
}

/// A share in force; `None` where it does not exist for the caller, who has to manage the device or to
/// be the user.
pub async fn find(asked: &Asked, id: ShareId) -> Result<Option<DeviceShare>, Fault> {
    let found = asked.service.storage.catalog.share(id).await?;
    let Some(share) = found.filter(|share| share.is_in_force(asked.now())) else {
        return Ok(None);
    };
    let Some(device) = asked.device(share.device).await? else { return Ok(None) };
    let holder = Target::User { account: share.account, user: share.user };
    let is_shown = asked.may(Action::Manage, &device)
        || asked.decide(Action::View, &holder) == Decision::Allow;
    Ok(is_shown.then_some(DeviceShare(share)))
}

/// The shares of a device that are in force; `None` for a caller who may not manage it.
pub async fn list(
    asked: &Asked,
    device: &crate::device::Device,
) -> Result<Option<Vec<DeviceShare>>, Fault> {
    if !asked.may(Action::Manage, device) {
        return Ok(None);
    }
    let mut shares = asked.loaders.shares_of.get(device.id).await?.unwrap_or_default();
    shares.retain(|share| share.is_in_force(asked.now()));
    Ok(Some(shares.into_iter().map(DeviceShare).collect()))
}

#[derive(Debug, InputObject)]
pub struct ShareDeviceInput {
    device_id: ID,
    user: UserRef,
    role: DeviceRole,
    expires_at: Option<DateTime>,
}

#[derive(SimpleObject)]
pub struct ShareDevicePayload {
    share: Option<DeviceShare>,
    user_errors: Vec<UserError>,
}

impl ShareDevicePayload {
    fn refused(mistake: UserError) -> Self {
        Self { share: None, user_errors: vec![mistake] }
    }
}

pub async fn share(asked: &Asked, input: ShareDeviceInput) -> Result<ShareDevicePayload, Fault> {
    let device = match asked.managed_device(&input.device_id, "deviceId").await? {
        Ok(device) => device,
        Err(mistake) => return Ok(ShareDevicePayload::refused(mistake)),
    };
    let refused = |code, field: &str, message: &str| {
        Ok(ShareDevicePayload::refused(UserError::at(code, &[field], message)))
    };
    let Some(user) = user::named(asked, input.user).await? else {
        return refused(UserErrorCode::NotFound, "user", "there is no such user");
    };
    let now = asked.now();
    let expires_at = input.expires_at.map(|DateTime(at)| at);
    if expires_at.is_some_and(|at| at <= now) {
        return refused(UserErrorCode::Invalid, "expiresAt", "expiresAt is not in the future");
    }
    let own = share_needed(asked.principal()?, access::DeviceRole::Manager, device.id);
    let own_end = own.and_then(|own| own.expires_at);
    if own_end.is_some_and(|end| expires_at.is_none_or(|at| at > end)) {
        let message = "the share would outlast the caller's own";
        return refused(UserErrorCode::Forbidden, "expiresAt", message);
    }
    let share = access::Share {
        id: ShareId::new(now),
        account: device.account,
        device: device.id,
        user: user.id,
        role: input.role.into(),
        expires_at,
        created_at: now,
    };
    let Some(share) = asked.service.storage.catalog.put_share(share, now).await? else {
        let message = "the device or the user has as many shares as it can have".into();
        let mistake = UserError { code: UserErrorCode::LimitReached, message, path: None };
        return Ok(ShareDevicePayload::refused(mistake));
    };
    changed(asked, device.id).await;
    asked.note(AuditAction::Share, share.id).await;
    Ok(ShareDevicePayload { share: Some(DeviceShare(share)), user_errors: Vec::new() })
}

#[derive(SimpleObject)]
pub struct RevokeSharePayload {
    revoked_share_id: Option<ID>,
    user_errors: Vec<UserError>,
}

pub async fn revoke(asked: &Asked, id: ID) -> Result<RevokeSharePayload, Fault> {
    asked.principal()?;
    let refused = |code, message: &str| {
        let mistake = UserError { code, message: message.into(), path: Some(vec!["id".into()]) };
        Ok(RevokeSharePayload { revoked_share_id: None, user_errors: vec![mistake] })
    };
    let found = match id.parse::<ShareId>() {
        Ok(id) => find(asked, id).await?,
        Err(_) => None,
    };
    let Some(DeviceShare(share)) = found else {
        return refused(UserErrorCode::NotFound, "there is no such share");
    };
    if asked.managed_device(&share.device.to_string().into(), "id").await?.is_err() {
        return refused(UserErrorCode::Forbidden, "the caller may not manage this device");
    }
    asked.service.storage.catalog.delete_share(share.id).await?;
    changed(asked, share.device).await;
    asked.note(AuditAction::Revoke, share.id).await;
    Ok(RevokeSharePayload { revoked_share_id: Some(id), user_errors: Vec::new() })
}

async fn changed(asked: &Asked, device: DeviceId) {
    asked.loaders.shares_of.forget(device).await;
}
