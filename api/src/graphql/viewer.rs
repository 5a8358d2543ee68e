//! `Viewer`: the caller.

use super::asked::asked;
use super::fault::Fault;
use super::plan::RetentionPlan;
use super::scalar::DateTime;
use crate::access::{Principal, Subject};
use crate::account;
use async_graphql::{Context, Enum, ID, Object};

pub struct Viewer(pub Principal);

/// The caller.
#[Object]
impl Viewer {
    /// The user's, device's or service's identifier.
    async fn id(&self) -> ID {
        self.0.subject.id().into()
    }

    async fn display_name(&self, ctx: &Context<'_>) -> Result<String, Fault> {
        let asked = asked(ctx)?;
        let name = match &self.0.subject {
            Subject::User(user) => {
                asked.loaders.users.get(*user).await?.map(|user| user.display_name)
            }
            Subject::Device { device, .. } => {
                asked.loaders.devices.get(*device).await?.map(|device| device.name)
            }
            Subject::Service(name) => Some(name.clone()),
        };
        name.ok_or_else(|| Fault::internal("the caller has no record"))
    }

    /// The account that the caller acts in; nothing crosses its border.
    async fn account_id(&self) -> ID {
        self.0.account.to_string().into()
    }

    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// When the token in use expires.
    async fn token_expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }

    /// The plans that a device of the account can be put on; at most 100.
    async fn retention_plans(&self, ctx: &Context<'_>) -> Result<Vec<RetentionPlan>, Fault> {
        let plans = asked(ctx)?.service.storage.catalog.plans(self.0.account).await?;
        Ok(plans.into_iter().map(RetentionPlan).collect())
    }
}

/// What a token may do in its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "account::Role")]
pub enum Role {
    /// Everything, plans and users included.
    Admin,
    /// On every device of the account what `DeviceRole.MANAGER` may, and register devices.
    Manager,
    /// On every device of the account what `DeviceRole.VIEWER` may.
    Viewer,
    /// Only what shares give.
    Member,
    /// Announce segments and events of one device; only ever given to a device.
    Device,
}
