//! What every resolver of a request works with: the service, who asks, and the request's loaders.

use super::fault::Fault;
use super::loader::Loaders;
use super::user_error::{UserError, UserErrorCode};
use crate::access::{Action, Decision, Principal, Target, decide};
use crate::account::RetentionPlan;
use crate::audit::{self, AuditAction, Deed};
use crate::config::Limits;
use crate::device::{Device, Stream};
use crate::event::{Event, EventId};
use crate::id::{DeviceId, PlanId, StreamId};
use crate::rates::Caller;
use crate::service::Service;
use async_graphql::{Context, ID};
use lookback_wire::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

pub struct Asked {
    pub service: Arc<Service>,
    /// None without a token.
    pub principal: Option<Principal>,
    /// What URLs that are handed out begin with, without a slash at the end.
    pub base_url: String,
    /// Where the request came from.
    pub address: IpAddr,
    pub loaders: Loaders,
}

/// The request that a resolver answers.
pub fn asked<'a>(ctx: &Context<'a>) -> Result<&'a Asked, Fault> {
    ctx.data::<Asked>().map_err(|error| Fault::internal(error.message))
}

impl Asked {
    pub fn now(&self) -> Timestamp {
        self.service.clock.now()
    }

    pub fn limits(&self) -> &Limits {
        &self.service.config.limits
    }

    /// By whom the request is counted.
    pub fn caller(&self) -> Caller {
        Caller::of(self.principal.as_ref(), self.address)
    }

    /// The caller, where the field needs one.
    pub fn principal(&self) -> Result<&Principal, Fault> {
        self.principal.as_ref().ok_or(Fault::Unauthenticated)
    }

    /// The caller, where it administers the account.
    pub fn administrator(&self) -> Result<Option<&Principal>, Fault> {
        let caller = self.principal()?;
        let decision = self.decide(Action::Administer, &Target::Account(caller.account));
        Ok((decision == Decision::Allow).then_some(caller))
    }

    /// Writes down what the caller has done.
    pub async fn note(&self, action: AuditAction, target: impl ToString) {
        let Some(caller) = &self.principal else { return };
        let deed = Deed {
            account: caller.account,
            actor: Some(caller.subject.id()),
            action,
            target: Some(target.to_string()),
            address: self.address,
        };
        audit::note(&*self.service.storage.catalog, deed, self.now()).await;
    }

    /// Writes down that the caller looks at pictures of a stream.
    pub async fn note_look(&self, stream: StreamId) {
        let Some(caller) = &self.principal else { return };
        let (actor, now) = (caller.subject.id(), self.now());
        if self.service.looks.is_first(actor, stream, self.address, now) {
            self.note(AuditAction::View, stream).await;
        }
    }

    pub fn decide(&self, action: Action, target: &Target) -> Decision {
        decide(self.principal.as_ref(), action, target)
    }

    pub fn may(&self, action: Action, device: &Device) -> bool {
        self.decide(action, &target(device)) == Decision::Allow
    }

    /// A device; `None` where it does not exist for the caller.
    pub async fn device(&self, id: DeviceId) -> Result<Option<Device>, Fault> {
        self.principal()?;
        let device = self.loaders.devices.get(id).await?;
        Ok(device.filter(|device| self.may(Action::View, device)))
    }

    /// A stream; `None` where it does not exist for the caller.
    pub async fn stream(&self, id: StreamId) -> Result<Option<Stream>, Fault> {
        self.principal()?;
        let Some(stream) = self.loaders.streams.get(id).await? else { return Ok(None) };
        let device = self.device(stream.device).await?;
        Ok(device.map(|_| stream))
    }

    /// An event; `None` where it does not exist for the caller.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>, Fault> {
        match self.device(id.device).await? {
            Some(_) => self.loaders.events_by_id.get(id).await,
            None => Ok(None),
        }
    }

    /// The device that an identifier in an input's `field` names, where the caller may manage it.
    pub async fn managed_device(
        &self,
        id: &ID,
        field: &str,
    ) -> Result<Result<Device, UserError>, Fault> {
        self.principal()?;
        let device = match id.parse::<DeviceId>() {
            Ok(id) => self.device(id).await?,
            Err(_) => None,
        };
        Ok(match device {
            Some(device) if self.may(Action::Manage, &device) => Ok(device),
            Some(_) => {
                let message = "the caller may not manage this device";
                Err(UserError::at(UserErrorCode::Forbidden, &[field], message))
            }
            None => {
                Err(UserError::at(UserErrorCode::NotFound, &[field], "there is no such device"))
            }
        })
    }

    /// The stream that an identifier in an input's `field` names, where the caller may manage its
    /// device.
    pub async fn managed_stream(
        &self,
        id: &ID,
        field: &str,
    ) -> Result<Result<Stream, UserError>, Fault> {
        self.principal()?;
        let stream = match id.parse::<StreamId>() {
            Ok(id) => self.stream(id).await?,
            Err(_) => None,
        };
        let Some(stream) = stream else {
            let message = "there is no such stream";
            return Ok(Err(UserError::at(UserErrorCode::NotFound, &[field], message)));
        };
        let managed = self.managed_device(&stream.device.to_string().into(), field).await?;
        Ok(managed.map(|_| stream))
    }

    /// The device of a stream that the caller was shown.
    pub async fn device_of(&self, stream: &Stream) -> Result<Device, Fault> {
        self.device(stream.device)
            .await?
            .ok_or_else(|| Fault::internal(format!("{} has no device", stream.id)))
    }

    /// The plan of a device that the caller was shown.
    pub async fn plan_of(&self, device: &Device) -> Result<RetentionPlan, Fault> {
        let lost = || Fault::internal(format!("{} has no plan", device.id));
        self.loaders.plans.get(device.plan).await?.ok_or_else(lost)
    }

    /// A plan of the caller's account.
    pub async fn plan(&self, id: PlanId) -> Result<Option<RetentionPlan>, Fault> {
        let account = self.principal()?.account;
        let plan = self.loaders.plans.get(id).await?;
        Ok(plan.filter(|plan| plan.account == account))
    }

    /// The streams of a device that the caller was shown, the main one first.
    pub async fn streams_of(&self, device: DeviceId) -> Result<Vec<Stream>, Fault> {
        Ok(self.loaders.streams_of.get(device).await?.unwrap_or_default())
    }
}

pub fn target(device: &Device) -> Target {
    Target::Device { account: device.account, device: device.id, state: device.state }
}
