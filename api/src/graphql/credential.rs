//! `DeviceCredential`, `IssuedCredential` with its secret, and how they are issued and revoked.

use super::asked::Asked;
use super::fault::Fault;
use super::scalar::DateTime;
use super::user_error::{UserError, UserErrorCode};
use crate::access::{Action, DeviceRole, Principal, Subject, share_needed};
use crate::access_key::AccessKeyId;
use crate::account::Role;
use crate::audit::AuditAction;
use crate::device::{self, CredentialKind, DeviceState, MAX_CREDENTIALS_OF_DEVICE};
use crate::id::{AccountId, CredentialId, DeviceId};
use async_graphql::{Enum, ID, InputObject, Object, SimpleObject};
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use std::ops::RangeInclusive;

/// For how long a credential may be valid.
const VALID_DAYS: RangeInclusive<i64> = 1..=3_650;
/// A device's first credential, and any where nothing else is said.
pub const DEFAULT_VALID_DAYS: i64 = 365;
const DAY_MS: i64 = 86_400_000;

#[derive(Clone)]
pub struct DeviceCredential(pub device::DeviceCredential);

/// One of a device's credentials, without its secret.
#[Object]
impl DeviceCredential {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn kind(&self) -> DeviceCredentialKind {
        self.0.kind.into()
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }

    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(DateTime)
    }

    /// To the hour.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }
}

/// How a device proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[graphql(remote = "device::CredentialKind")]
pub enum DeviceCredentialKind {
    /// A bearer token for this API and for media upload.
    #[default]
    Token,
    /// An access key pair, for producers that sign requests with AWS Signature Version 4.
    AccessKey,
}

/// A credential with its secret, shown once.
#[derive(SimpleObject)]
pub struct IssuedCredential {
    pub credential: DeviceCredential,
    /// For `TOKEN`.
    token: Option<String>,
    /// For `ACCESS_KEY`.
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
}

impl IssuedCredential {
    /// With the secret that its record does not have.
    pub fn new(asked: &Asked, credential: device::DeviceCredential) -> Result<Self, Fault> {
        let mut issued = Self {
            credential: DeviceCredential(credential.clone()),
            token: None,
            access_key_id: None,
            secret_access_key: None,
        };
        let service = &asked.service;
        match credential.kind {
            CredentialKind::Token => {
                let now = asked.now();
                let principal = Principal {
                    subject: Subject::Device {
                        device: credential.device,
                        credential: credential.id,
                    },
                    account: credential.account,
                    role: Role::Device,
                    shares: Vec::new(),
                    expires_at: credential.expires_at.unwrap_or(now),
                };
                let token = service.tokens.issue(&principal, now).map_err(Fault::internal)?;
                issued.token = Some(token.expose_secret().to_owned());
            }
            CredentialKind::AccessKey => {
                let id = AccessKeyId::Device(credential.id);
                issued.access_key_id = Some(id.to_string());
                let secret = service.access_keys.secret(id);
                issued.secret_access_key = Some(secret.expose_secret().to_owned());
            }
        }
        Ok(issued)
    }
}

/// A credential that a device is to be given.
pub fn new_credential(
    account: AccountId,
    device: DeviceId,
    kind: CredentialKind,
    valid_days: i64,
    now: Timestamp,
) -> device::DeviceCredential {
    device::DeviceCredential {
        id: CredentialId::new(now),
        account,
        device,
        kind,
        created_at: now,
        expires_at: Some(now.plus_millis(valid_days * DAY_MS)),
        revoked_at: None,
        last_used_at: None,
    }
}

#[derive(Debug, InputObject)]
pub struct IssueDeviceCredentialInput {
    device_id: ID,
    kind: DeviceCredentialKind,
    /// 1 to 3650; a year if left out.
    valid_days: Option<i32>,
}

#[derive(SimpleObject)]
pub struct IssueDeviceCredentialPayload {
    credential: Option<IssuedCredential>,
    user_errors: Vec<UserError>,
}

#[derive(SimpleObject)]
pub struct RevokeDeviceCredentialPayload {
    credential: Option<DeviceCredential>,
    user_errors: Vec<UserError>,
}

/// Gives a device a further credential.
pub async fn issue(
    asked: &Asked,
    input: IssueDeviceCredentialInput,
) -> Result<IssueDeviceCredentialPayload, Fault> {
    let refused =
        |mistake| Ok(IssueDeviceCredentialPayload { credential: None, user_errors: vec![mistake] });
    let device = match asked.managed_device(&input.device_id, "deviceId").await? {
        Ok(device) => device,
        Err(mistake) => return refused(mistake),
    };
    if device.state == DeviceState::Retired {
        let message = "the device is retired";
        return refused(UserError::at(UserErrorCode::WrongState, &["deviceId"], message));
    }
    let days = input.valid_days.map_or(DEFAULT_VALID_DAYS, i64::from);
    if !VALID_DAYS.contains(&days) {
        let (min, max) = (VALID_DAYS.start(), VALID_DAYS.end());
        let message = format!("validDays is {days} and must be {min} to {max}");
        return refused(UserError::at(UserErrorCode::Invalid, &["validDays"], message));
    }
    let credential =
        new_credential(device.account, device.id, input.kind.into(), days, asked.now());
    let own = share_needed(asked.principal()?, DeviceRole::Manager, device.id);
    let own_end = own.and_then(|own| own.expires_at);
    if own_end.is_some_and(|end| credential.expires_at.is_none_or(|at| at > end)) {
        let message = "the credential would outlast the caller's own share";
        return refused(UserError::at(UserErrorCode::Forbidden, &["validDays"], message));
    }
    let catalog = &asked.service.storage.catalog;
    if !catalog.add_credential(credential.clone(), asked.now()).await? {
        let message = format!("the device has {MAX_CREDENTIALS_OF_DEVICE} credentials");
        return refused(UserError::at(UserErrorCode::LimitReached, &["deviceId"], message));
    }
    asked.note(AuditAction::Change, credential.id).await;
    Ok(IssueDeviceCredentialPayload {
        credential: Some(IssuedCredential::new(asked, credential)?),
        user_errors: Vec::new(),
    })
}

/// Stops a credential; one that is stopped stays as it is.
pub async fn revoke(asked: &Asked, id: &ID) -> Result<RevokeDeviceCredentialPayload, Fault> {
    asked.principal()?;
    let catalog = &asked.service.storage.catalog;
    let known = match id.parse::<CredentialId>() {
        Ok(id) => catalog.credential(id).await?,
        Err(_) => None,
    };
    let device = match &known {
        Some(credential) => asked.device(credential.device).await?,
        None => None,
    };
    // Who may not manage a device sees none of its credentials.
    let manages = device.is_some_and(|device| asked.may(Action::Manage, &device));
    let Some(mut credential) = known.filter(|_| manages) else {
        let user_errors = vec![UserError {
            code: UserErrorCode::NotFound,
            message: "there is no such credential".into(),
            path: Some(vec!["id".into()]),
        }];
        return Ok(RevokeDeviceCredentialPayload { credential: None, user_errors });
    };
    if credential.revoked_at.is_none() {
        credential.revoked_at = Some(asked.now());
        catalog.put_credential(credential.clone()).await?;
        asked.note(AuditAction::Revoke, credential.id).await;
    }
    Ok(RevokeDeviceCredentialPayload {
        credential: Some(DeviceCredential(credential)),
        user_errors: Vec::new(),
    })
}
