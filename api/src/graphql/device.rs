//! `Device` and how it is asked for.

use super::asked::{Asked, asked};
use super::credential::DeviceCredential;
use super::event::{self, EventConnection, EventFilter, EventsAsked};
use super::fault::{Fault, Maybe};
use super::pagination::connection;
use super::plan::RetentionPlan;
use super::scalar::{DateTime, LocalDate, TimeZone};
use super::share::{self, DeviceShare};
use super::stream::Stream;
use super::time_range::{TimeOrder, TimeRangeInput, seconds};
use super::usage::Usage;
use crate::access::{self, Action, Subject};
use crate::device;
use crate::ingest::presence::ONLINE_MS;
use async_graphql::{Context, Enum, ID, InputObject, Object, OneofObject};
use lookback_wire::Timestamp;

/// Credentials that ended longer ago are not shown.
const ENDED_CREDENTIALS_MS: i64 = 30 * 86_400_000;

#[derive(Clone)]
pub struct Device(pub device::Device);

/// A camera.
#[Object]
impl Device {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The maker's own identifier, unique in the account; what the camera calls its device id.
    async fn external_id(&self) -> &str {
        &self.0.external_id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    async fn firmware_version(&self) -> Option<&str> {
        self.0.firmware_version.as_deref()
    }

    async fn state(&self) -> DeviceState {
        self.0.state.into()
    }

    async fn connectivity(&self, ctx: &Context<'_>) -> Result<Connectivity, Fault> {
        Ok(connectivity(asked(ctx)?, &self.0))
    }

    /// When a fragment, segment, event or heartbeat last arrived.
    async fn last_seen_at(&self) -> Option<DateTime> {
        self.0.last_seen_at.map(DateTime)
    }

    /// Device clock minus service clock at the last call, in seconds; positive is ahead.
    async fn clock_skew_seconds(&self) -> Option<f64> {
        self.0.clock_skew_ms.map(seconds)
    }

    /// The zone that its civil days are cut by.
    async fn time_zone(&self) -> TimeZone {
        TimeZone(time_zone(&self.0))
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Null for a device's own token.
    async fn viewer_role(&self, ctx: &Context<'_>) -> Maybe<DeviceRole> {
        let role = |asked: &Asked| match asked.principal()?.subject {
            Subject::Device { .. } => Ok(None),
            _ if asked.may(Action::Manage, &self.0) => Ok(Some(DeviceRole::Manager)),
            _ => Ok(Some(DeviceRole::Viewer)),
        };
        asked(ctx).and_then(role).transpose()
    }

    /// Its streams, the main one first; at most 8.
    async fn streams(&self, ctx: &Context<'_>) -> Result<Vec<Stream>, Fault> {
        Ok(asked(ctx)?.streams_of(self.0.id).await?.into_iter().map(Stream).collect())
    }

    /// One stream by name, or the main one.
    async fn stream(&self, ctx: &Context<'_>, name: Option<String>) -> Maybe<Stream> {
        let streams = match asked(ctx) {
            Ok(asked) => asked.streams_of(self.0.id).await,
            Err(fault) => Err(fault),
        };
        let named = |stream: &device::Stream| name.as_ref().is_none_or(|name| *name == stream.name);
        streams.map(|streams| streams.into_iter().find(named).map(Stream)).transpose()
    }

    async fn retention_plan(&self, ctx: &Context<'_>) -> Result<RetentionPlan, Fault> {
        asked(ctx)?.plan_of(&self.0).await.map(RetentionPlan)
    }

    /// What it used on UTC days, both included; at most 31.
    async fn usage(&self, ctx: &Context<'_>, from: LocalDate, to: LocalDate) -> Maybe<Usage> {
        Some(match asked(ctx) {
            Ok(asked) => Usage::of(asked, self.0.id, from, to).await,
            Err(fault) => Err(fault),
        })
    }

    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "By `start`.")] range: Option<TimeRangeInput>,
        filter: Option<EventFilter>,
        #[graphql(default_with = "Some(TimeOrder::NewestFirst)")] order: Option<TimeOrder>,
        #[graphql(default = 20)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<EventConnection> {
        let order = order.unwrap_or(TimeOrder::NewestFirst).into();
        let page = EventsAsked { range, filter, order, first, after };
        Some(event::list(ctx, &[self.0.id], page).await)
    }

    /// Those in force and those ended in the last 30 days, without secrets; null for a caller who may not manage the device.
    async fn credentials(&self, ctx: &Context<'_>) -> Maybe<Vec<DeviceCredential>> {
        self.list_credentials(ctx).await.transpose()
    }

    /// Null for a caller who may not manage the device.
    async fn shares(&self, ctx: &Context<'_>) -> Maybe<Vec<DeviceShare>> {
        match asked(ctx) {
            Ok(asked) => share::list(asked, &self.0).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }
}

impl Device {
    async fn list_credentials(
        &self,
        ctx: &Context<'_>,
    ) -> Result<Option<Vec<DeviceCredential>>, Fault> {
        let asked = asked(ctx)?;
        if !asked.may(Action::Manage, &self.0) {
            return Ok(None);
        }
        let shown_since = asked.now().plus_millis(-ENDED_CREDENTIALS_MS);
        let mut credentials = asked.service.storage.catalog.credentials_of(self.0.id).await?;
        credentials.retain(|credential| {
            let ended_at = credential.revoked_at.into_iter().chain(credential.expires_at).min();
            ended_at.is_none_or(|at| at > shown_since)
        });
        Ok(Some(credentials.into_iter().map(DeviceCredential).collect()))
    }
}

/// Registration took only zones that exist; UTC stands in for one that has been taken out since.
pub fn time_zone(device: &device::Device) -> chrono_tz::Tz {
    device.time_zone.parse().unwrap_or(chrono_tz::UTC)
}

pub fn connectivity(asked: &Asked, device: &device::Device) -> Connectivity {
    match device.last_seen_at {
        _ if asked.service.uploads.is_open(device.id) => Connectivity::Online,
        Some(at) if asked.now().millis_since(at) <= ONLINE_MS => Connectivity::Online,
        Some(_) => Connectivity::Offline,
        None => Connectivity::Unknown,
    }
}

/// Since when nothing is heard of a device; none while it is online or where it never was.
pub fn unheard_since(asked: &Asked, device: &device::Device) -> Option<Timestamp> {
    match connectivity(asked, device) {
        Connectivity::Offline => device.last_seen_at,
        Connectivity::Online | Connectivity::Unknown => None,
    }
}

/// Where a device stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "device::DeviceState")]
pub enum DeviceState {
    /// Registered; nothing has arrived yet.
    Provisioned,
    Active,
    /// Ingest is refused; playback still works.
    Suspended,
    /// Ingest is refused and credentials are revoked; footage stays until its retention ends.
    Retired,
}

impl DeviceState {
    pub const ALL: [DeviceState; 4] =
        [Self::Provisioned, Self::Active, Self::Suspended, Self::Retired];
}

/// Whether the service hears from a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Connectivity {
    /// An upload is open, or it was heard of within 60 s or twice its advised interval.
    Online,
    Offline,
    /// It never reported.
    Unknown,
}

/// What a caller may do with one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "access::DeviceRole")]
pub enum DeviceRole {
    /// Watch live and recorded footage and events, and export clips.
    Viewer,
    /// Change, share and retire it too; protect and delete its footage.
    Manager,
}

/// One device, named one way.
#[derive(Debug, OneofObject)]
pub enum DeviceRef {
    Id(ID),
    /// The maker's own identifier; unique in the account.
    ExternalId(String),
}

/// Which devices; everything given must hold.
#[derive(Debug, Default, InputObject)]
pub struct DeviceFilter {
    /// By default all but `RETIRED`.
    pub states: Option<Vec<DeviceState>>,
    pub connectivity: Option<Connectivity>,
    /// The name begins with this, case ignored.
    pub search: Option<String>,
}

impl DeviceFilter {
    pub fn takes(&self, asked: &Asked, device: &device::Device) -> bool {
        let state = DeviceState::from(device.state);
        let in_state = match &self.states {
            Some(states) => states.contains(&state),
            None => state != DeviceState::Retired,
        };
        in_state && self.connectivity.is_none_or(|wanted| wanted == connectivity(asked, device))
    }
}

connection!(DeviceConnection, DeviceEdge, Device);
