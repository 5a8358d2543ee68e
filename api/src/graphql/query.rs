//! `Query`: the reads.

use super::asked::{Asked, asked};
use super::audit::{self, AuditEntryConnection};
use super::device::{Device, DeviceConnection, DeviceFilter, DeviceRef, DeviceState};
use super::event::{self, EventConnection, EventFilter, EventsAsked};
use super::fault::{Fault, Maybe};
use super::node::{self, Node};
use super::pagination::{Cursor, Page, page_size};
use super::playback::{self, PlaybackSessionInput, PlaybackSessionResult};
use super::service::ServiceInfo;
use super::time_range::TimeRangeInput;
use super::user::{self, UserConnection};
use super::viewer::Viewer;
use super::webhook::{self, Webhook};
use crate::access::{Action, Decision, Principal, Subject, Target};
use crate::device;
use crate::id::DeviceId;
use crate::storage::{DeviceQuery, TimeOrder};
use async_graphql::{Context, ID, Object};
use std::collections::BTreeSet;

const DEFAULT_PAGE: usize = 20;
/// Identifiers in one `nodes`.
const MAX_IDS: usize = 100;
/// Devices that one page may look at for a filter that the catalog does not know.
const MAX_LOOKED_AT: usize = 1_000;
/// Of those in one read, once the first one did not fill the page.
const LOOKED_AT_TOGETHER: usize = 250;
const MAX_SEARCH_CHARS: usize = 128;

pub struct Query;

/// Reads. None changes anything that a caller could notice, so all may be retried. Everywhere in this API:
/// - Every time range is half-open: `start` is included, `end` is not.
/// - Every `DateTime` is an instant; a civil day always comes with an explicit `TimeZone`.
/// - Every list that can grow is a Relay connection, paged forward; `first` above the cap is an error, never a silent clamp. A page may come short, even empty, while `hasNextPage` is true: what a page may read is bounded.
/// - What a caller may not see does not exist for it: it resolves to `null`, with no error that would confirm it.
/// - A mistake in a mutation's input comes back as data in `userErrors`; `errors` is for broken requests, missing rights and faults of the service. A field that is null beside an entry in `errors` failed; without one it has no value.
/// - Null for an argument or input field that has a default means the default.
/// - Enums are open: clients treat a value they do not know as `OTHER` or `INVALID`.
#[Object]
impl Query {
    /// The caller; null without a token.
    async fn viewer(&self, ctx: &Context<'_>) -> Maybe<Viewer> {
        asked(ctx).map(|asked| asked.principal.clone().map(Viewer)).transpose()
    }

    /// Any object by its identifier.
    async fn node(&self, ctx: &Context<'_>, id: ID) -> Maybe<Node> {
        match asked(ctx) {
            Ok(asked) => node::find(asked, &id).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Up to 100 objects, in the order asked for.
    async fn nodes(&self, ctx: &Context<'_>, ids: Vec<ID>) -> Maybe<Vec<Maybe<Node>>> {
        Some(match asked(ctx) {
            Ok(asked) => find_nodes(asked, &ids).await,
            Err(fault) => Err(fault),
        })
    }

    /// One device, by its identifier or by the maker's own.
    async fn device(&self, ctx: &Context<'_>, r#ref: DeviceRef) -> Maybe<Device> {
        match asked(ctx) {
            Ok(asked) => find_device(asked, r#ref).await.map(|found| found.map(Device)).transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// The devices that the caller's role or a share opens to it, by name.
    async fn devices(
        &self,
        ctx: &Context<'_>,
        filter: Option<DeviceFilter>,
        #[graphql(default = 20)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<DeviceConnection> {
        let filter = filter.unwrap_or_default();
        Some(match asked(ctx) {
            Ok(asked) => find_devices(asked, filter, first, after).await,
            Err(fault) => Err(fault),
        })
    }

    /// Events on several devices, newest first.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "At most 100; all of the caller's where it has no more than that, otherwise required."
        )]
        device_ids: Option<Vec<ID>>,
        #[graphql(desc = "By `start`.")] range: Option<TimeRangeInput>,
        filter: Option<EventFilter>,
        #[graphql(default = 20)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<EventConnection> {
        let page = EventsAsked { range, filter, order: TimeOrder::NewestFirst, first, after };
        Some(find_events(ctx, device_ids, page).await)
    }

    /// A signed way to play a stream: HLS, DASH or one MP4 file. At most 4 in one operation; null where the stream does not exist for the caller.
    async fn playback_session(
        &self,
        ctx: &Context<'_>,
        input: PlaybackSessionInput,
    ) -> Maybe<PlaybackSessionResult> {
        match asked(ctx) {
            Ok(asked) => playback::session(asked, input).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// The deployment; needs no token.
    async fn service(&self, ctx: &Context<'_>) -> Result<ServiceInfo, Fault> {
        asked(ctx).map(ServiceInfo::of)
    }

    /// The account's users, by name; null for a caller who is not `ADMIN`.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 20)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<UserConnection> {
        match asked(ctx) {
            Ok(asked) => user::list(asked, first, after).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// At most 20; null for a caller who is not `ADMIN`.
    async fn webhooks(&self, ctx: &Context<'_>) -> Maybe<Vec<Webhook>> {
        match asked(ctx) {
            Ok(asked) => webhook::list(asked).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Who did what, newest first; null for a caller who is not `ADMIN`.
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        range: TimeRangeInput,
        #[graphql(default = 50)] first: Option<i32>,
        after: Option<String>,
    ) -> Maybe<AuditEntryConnection> {
        match asked(ctx) {
            Ok(asked) => audit::list(asked, range, first, after).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }
}

async fn find_nodes(asked: &Asked, ids: &[ID]) -> Result<Vec<Maybe<Node>>, Fault> {
    asked.principal()?;
    if ids.len() > MAX_IDS {
        return Err(Fault::BadInput(format!("{} ids; at most {MAX_IDS} at a time", ids.len())));
    }
    let found = ids.iter().map(|id| node::find(asked, id));
    let found = futures_util::future::join_all(found).await;
    Ok(found.into_iter().map(Result::transpose).collect())
}

async fn find_device(asked: &Asked, by: DeviceRef) -> Result<Option<device::Device>, Fault> {
    let account = asked.principal()?.account;
    match by {
        DeviceRef::Id(id) => match id.parse() {
            Ok(id) => asked.device(id).await,
            Err(_) => Ok(None),
        },
        DeviceRef::ExternalId(external_id) => {
            let catalog = &asked.service.storage.catalog;
            let found = catalog.device_by_external_id(account, &external_id).await?;
            Ok(found.filter(|device| asked.may(Action::View, device)))
        }
    }
}

async fn find_devices(
    asked: &Asked,
    filter: DeviceFilter,
    first: Option<i32>,
    after: Option<String>,
) -> Result<DeviceConnection, Fault> {
    let caller = asked.principal()?;
    let limit = page_size(first, DEFAULT_PAGE, asked.limits().page_items)?;
    let after = Cursor::read(after, |cursor| match cursor {
        Cursor::Device(name, id) => Some((name, id)),
        _ => None,
    })?;
    if filter.search.as_ref().is_some_and(|search| search.chars().count() > MAX_SEARCH_CHARS) {
        let message = format!("search is longer than {MAX_SEARCH_CHARS} characters");
        return Err(Fault::BadInput(message));
    }
    let has_previous = after.is_some();
    let (devices, next) = match scope(asked, caller) {
        Scope::Account => list(asked, caller, &filter, after, limit).await?,
        Scope::Itself(id) if !has_previous => {
            let own = asked.device(id).await?.filter(|device| filter.takes(asked, device));
            (own.into_iter().collect(), None)
        }
        Scope::Itself(_) => (Vec::new(), None),
        Scope::Shared => shared(asked, caller, &filter, after, limit).await?,
    };
    let items = devices.into_iter().map(|device| (cursor(&device), Device(device))).collect();
    Ok(DeviceConnection(Page { items, has_previous, next }))
}

async fn find_events(
    ctx: &Context<'_>,
    device_ids: Option<Vec<ID>>,
    page: EventsAsked,
) -> Result<EventConnection, Fault> {
    let asked = asked(ctx)?;
    let caller = asked.principal()?;
    let devices = match device_ids {
        Some(ids) if ids.len() > MAX_IDS => {
            let message = format!("{} deviceIds; at most {MAX_IDS} at a time", ids.len());
            return Err(Fault::BadInput(message));
        }
        Some(ids) => {
            let ids: BTreeSet<DeviceId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let found = ids.into_iter().map(|id| asked.device(id));
            futures_util::future::try_join_all(found).await?.into_iter().flatten().collect()
        }
        None => {
            // Retired ones have events, too.
            let filter =
                DeviceFilter { states: Some(DeviceState::ALL.to_vec()), ..Default::default() };
            let (devices, next) = match scope(asked, caller) {
                Scope::Account => list(asked, caller, &filter, None, MAX_IDS).await?,
                Scope::Itself(id) => (asked.device(id).await?.into_iter().collect(), None),
                Scope::Shared => shared(asked, caller, &filter, None, MAX_IDS).await?,
            };
            if next.is_some() {
                let message = format!("deviceIds is required: there are more than {MAX_IDS}");
                return Err(Fault::BadInput(message));
            }
            devices
        }
    };
    let devices: Vec<DeviceId> = devices.iter().map(|device| device.id).collect();
    event::list(ctx, &devices, page).await
}

fn cursor(device: &device::Device) -> Cursor {
    Cursor::Device(device.name.clone(), device.id)
}

/// Which devices a caller may list.
pub enum Scope {
    Account,
    Itself(DeviceId),
    /// What shares give.
    Shared,
}

pub fn scope(asked: &Asked, caller: &Principal) -> Scope {
    match (asked.decide(Action::View, &Target::Account(caller.account)), &caller.subject) {
        (Decision::Allow, _) => Scope::Account,
        (_, Subject::Device { device, .. }) => Scope::Itself(*device),
        _ => Scope::Shared,
    }
}

/// A page of the devices that are shared with the caller, and where to go on.
async fn shared(
    asked: &Asked,
    caller: &Principal,
    filter: &DeviceFilter,
    after: Option<(String, DeviceId)>,
    limit: usize,
) -> Result<(Vec<device::Device>, Option<Cursor>), Fault> {
    let ids: Vec<DeviceId> = caller.shares.iter().map(|share| share.device).collect();
    let found = asked.service.storage.catalog.devices_by_id(&ids).await?;
    let place = |device: &device::Device| (device.name.to_lowercase(), device.id);
    let after = after.map(|(name, id)| (name.to_lowercase(), id));
    let prefix = filter.search.as_deref().unwrap_or_default().to_lowercase();
    let mut page: Vec<device::Device> = found
        .into_iter()
        .flatten()
        .filter(|device| asked.may(Action::View, device) && filter.takes(asked, device))
        .filter(|device| device.name.to_lowercase().starts_with(&prefix))
        .filter(|device| after.as_ref().is_none_or(|after| place(device) > *after))
        .collect();
    page.sort_by_key(place);
    let has_next = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| has_next).map(cursor);
    Ok((page, next))
}

/// A page of the account's devices, and where to go on.
async fn list(
    asked: &Asked,
    caller: &Principal,
    filter: &DeviceFilter,
    after: Option<(String, DeviceId)>,
    limit: usize,
) -> Result<(Vec<device::Device>, Option<Cursor>), Fault> {
    let mut query = DeviceQuery {
        name_prefix: filter.search.as_ref().map(|search| search.to_lowercase()),
        after,
        limit: limit + 1,
    };
    let mut page: Vec<device::Device> = Vec::new();
    let mut looked_at = 0;
    loop {
        let batch = asked.service.storage.catalog.devices(caller.account, &query).await?;
        let is_last = batch.len() < query.limit;
        looked_at += batch.len();
        for device in batch {
            query.after = Some((device.name.clone(), device.id));
            if asked.may(Action::View, &device) && filter.takes(asked, &device) {
                if page.len() == limit {
                    let next = page.last().map(cursor);
                    return Ok((page, next));
                }
                page.push(device);
            }
        }
        if is_last {
            return Ok((page, None));
        }
        if looked_at >= MAX_LOOKED_AT {
            return Ok((page, query.after.map(|(name, id)| Cursor::Device(name, id))));
        }
        // Few are as the filter wants them.
        query.limit = query.limit.max(LOOKED_AT_TOGETHER);
    }
}
