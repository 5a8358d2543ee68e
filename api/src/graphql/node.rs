//! `Node`: any object by its identifier.

use super::asked::Asked;
use super::credential::DeviceCredential;
use super::device::Device;
use super::event::Event;
use super::fault::Fault;
use super::hold::{self, Hold};
use super::plan::RetentionPlan;
use super::segment::Segment;
use super::share::{self, DeviceShare};
use super::stream::Stream;
use super::user::{self, User};
use super::webhook::{self, Webhook};
use crate::access::Action;
use crate::event::EventId;
use crate::id::{CredentialId, DeviceId, HoldId, PlanId, ShareId, StreamId, UserId, WebhookId};
use crate::segment::SegmentId;
use async_graphql::{ID, Interface};

/// An object with a global, opaque, never-reused identifier.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "At most 128 characters."))]
pub enum Node {
    Device(Device),
    Stream(Stream),
    Segment(Segment),
    Event(Event),
    RetentionPlan(RetentionPlan),
    DeviceCredential(DeviceCredential),
    Hold(Hold),
    User(User),
    DeviceShare(DeviceShare),
    Webhook(Webhook),
}

/// The object of that identifier; `None` where it does not exist for the caller.
pub async fn find(asked: &Asked, id: &str) -> Result<Option<Node>, Fault> {
    asked.principal()?;
    if let Ok(id) = id.parse::<DeviceId>() {
        return Ok(asked.device(id).await?.map(|device| Node::Device(Device(device))));
    }
    if let Ok(id) = id.parse::<StreamId>() {
        return Ok(asked.stream(id).await?.map(|stream| Node::Stream(Stream(stream))));
    }
    if let Ok(id) = id.parse::<SegmentId>() {
        return Ok(segment(asked, id).await?.map(Node::Segment));
    }
    if let Ok(id) = id.parse::<EventId>() {
        return Ok(asked.event(id).await?.map(|event| Node::Event(Event(event))));
    }
    if let Ok(id) = id.parse::<PlanId>() {
        return Ok(asked.plan(id).await?.map(|plan| Node::RetentionPlan(RetentionPlan(plan))));
    }
    if let Ok(id) = id.parse::<CredentialId>() {
        return Ok(credential(asked, id).await?.map(Node::DeviceCredential));
    }
    if let Ok(id) = id.parse::<HoldId>() {
        return Ok(hold::find(asked, id).await?.map(Node::Hold));
    }
    if let Ok(id) = id.parse::<UserId>() {
        return Ok(user::find(asked, id).await?.map(Node::User));
    }
    if let Ok(id) = id.parse::<ShareId>() {
        return Ok(share::find(asked, id).await?.map(Node::DeviceShare));
    }
    if let Ok(id) = id.parse::<WebhookId>() {
        return Ok(webhook::find(asked, id).await?.map(Node::Webhook));
    }
    Ok(None)
}

async fn segment(asked: &Asked, id: SegmentId) -> Result<Option<Segment>, Fault> {
    if asked.stream(id.stream).await?.is_none() {
        return Ok(None);
    }
    Ok(asked.service.storage.catalog.segment(id).await?.map(Segment))
}

async fn credential(asked: &Asked, id: CredentialId) -> Result<Option<DeviceCredential>, Fault> {
    let Some(credential) = asked.service.storage.catalog.credential(id).await? else {
        return Ok(None);
    };
    let device = asked.loaders.devices.get(credential.device).await?;
    let manages = device.is_some_and(|device| asked.may(Action::Manage, &device));
    Ok(manages.then_some(DeviceCredential(credential)))
}
