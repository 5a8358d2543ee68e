//! `DeviceCredential`, and `IssuedCredential` with its secret.

use super::scalar::DateTime;
use crate::device;
use async_graphql::{Enum, ID, Object, SimpleObject};

#[derive(Clone)]
pub struct DeviceCredential(pub device::DeviceCredential);

/// One of a device's credentials, without its secret.
#[Object]
impl DeviceCredential {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn kind(&self) -> DeviceCredentialKind {
        DeviceCredentialKind::Token
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
}

/// How a device proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
pub enum DeviceCredentialKind {
    /// A bearer token for this API and for media upload.
    #[default]
    Token,
}

/// A credential with its secret, shown once.
#[derive(SimpleObject)]
pub struct IssuedCredential {
    pub credential: DeviceCredential,
    /// For `TOKEN`.
    pub token: Option<String>,
}
