//! `Subscription`: changes as they come. Each one is answered as a request of its own, with the rights
//! that the caller has at that moment.

use super::asked::Asked;
use super::clip::Clip;
use super::device::Device;
use super::event::{Event, EventFilter};
use super::fault::Fault;
use super::query::{Scope, scope};
use super::subscriber::Subscriber;
use crate::access::Principal;
use crate::event::Watcher;
use crate::feed::{self, Change, Kind};
use crate::id::DeviceId;
use crate::playback::timeline;
use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    Context, ContextSelectionSet, Data, ID, OutputType, Positioned, ServerResult, Value,
};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Devices in one subscription.
const MAX_DEVICES: usize = 100;
/// Each sends a piece of footage every few seconds.
const MAX_FOOTAGE_DEVICES: usize = 16;

/// Set as soon as a subscription listens.
pub struct Begun(pub Arc<AtomicBool>);

type Changes<T> = BoxStream<'static, Result<Changed<T>, Fault>>;

pub struct Subscription;

/// Changes as they come, at least once each. A subscription never replays: after a break, fill the hole with a query.
#[async_graphql::Subscription]
impl Subscription {
    /// Footage as it arrives, announced or not, piece by piece; at most 16 devices.
    async fn footage_added(
        &self,
        ctx: &Context<'_>,
        device_ids: Vec<ID>,
    ) -> Result<Changes<Clip>, Fault> {
        let filter = EventFilter::default();
        listen(ctx, Kind::Footage, Some(device_ids), MAX_FOOTAGE_DEVICES, filter)
    }

    /// Events as they begin and as they change, on all of the caller's devices or at most 100.
    async fn event_occurred(
        &self,
        ctx: &Context<'_>,
        device_ids: Option<Vec<ID>>,
        filter: Option<EventFilter>,
    ) -> Result<Changes<Event>, Fault> {
        listen(ctx, Kind::Event, device_ids, MAX_DEVICES, filter.unwrap_or_default())
    }

    /// Devices as they come and go; all of the caller's, or at most 100.
    async fn device_status_changed(
        &self,
        ctx: &Context<'_>,
        device_ids: Option<Vec<ID>>,
    ) -> Result<Changes<Device>, Fault> {
        listen(ctx, Kind::Device, device_ids, MAX_DEVICES, EventFilter::default())
    }
}

/// Begins to listen to the devices, or to all of the caller's.
fn listen<T: Answer>(
    ctx: &Context<'_>,
    kind: Kind,
    devices: Option<Vec<ID>>,
    most: usize,
    filter: EventFilter,
) -> Result<Changes<T>, Fault> {
    let subscriber = ctx.data::<Arc<Subscriber>>().map_err(|e| Fault::internal(e.message))?;
    subscriber.asked().principal()?;
    if devices.as_ref().is_some_and(|devices| devices.len() > most) {
        return Err(Fault::BadInput(format!("deviceIds may name at most {most}")));
    }
    // What is no identifier names a device that nothing will ever happen to.
    let devices = devices.map(|ids| ids.iter().filter_map(|id| id.parse().ok()).collect());
    let mut listening = Listening {
        subscriber: subscriber.clone(),
        caller: subscriber.caller(),
        changes: subscriber.listen(kind),
        devices,
        filter,
    };
    listening.follow();
    if let Ok(Begun(begun)) = ctx.data::<Begun>() {
        begun.store(true, Ordering::Release);
    }
    Ok(unfold(listening, Listening::next).boxed())
}

/// A subscription that is under way.
struct Listening {
    subscriber: Arc<Subscriber>,
    caller: watch::Receiver<Option<Principal>>,
    changes: feed::Subscription,
    /// None for all of the caller's.
    devices: Option<Vec<DeviceId>>,
    filter: EventFilter,
}

impl Listening {
    /// Listens to what was asked for, as far as that depends on the caller's rights.
    fn follow(&mut self) {
        let scopes: HashSet<feed::Scope> = match (&self.devices, &*self.caller.borrow_and_update())
        {
            (Some(devices), _) => devices.iter().copied().map(feed::Scope::Device).collect(),
            (None, None) => HashSet::new(),
            (None, Some(caller)) => match scope(&self.subscriber.asked(), caller) {
                Scope::Account => [feed::Scope::Account(caller.account)].into(),
                Scope::Itself(device) => [feed::Scope::Device(device)].into(),
                Scope::Shared => {
                    caller.shares.iter().map(|share| feed::Scope::Device(share.device)).collect()
                }
            },
        };
        self.changes.follow(scopes);
    }

    /// The next change that exists for the caller.
    async fn next<T: Answer>(mut self) -> Option<(Result<Changed<T>, Fault>, Self)> {
        loop {
            tokio::select! {
                change = self.changes.next() => {
                    let asked = self.subscriber.asked();
                    let answer = T::find(&asked, &change, &self.filter).await.transpose();
                    if let Some(answer) = answer {
                        return Some((answer.map(|answer| Changed::new(answer, asked)), self));
                    }
                }
                Ok(()) = self.caller.changed() => self.follow(),
            }
        }
    }
}

/// What a change is answered with.
trait Answer: OutputType + Send + 'static {
    /// `None` where what has changed does not exist for the caller, or is not what it wants.
    fn find(
        asked: &Asked,
        change: &Change,
        filter: &EventFilter,
    ) -> impl Future<Output = Result<Option<Self>, Fault>> + Send
    where
        Self: Sized;
}

impl Answer for Clip {
    async fn find(asked: &Asked, change: &Change, _: &EventFilter) -> Result<Option<Self>, Fault> {
        let &Change::Footage { stream, range, bytes } = change else { return Ok(None) };
        let clip = timeline::Clip { range, media_ms: range.millis(), bytes, growing: true };
        Ok(asked.stream(stream).await?.map(|stream| Self { stream, clip, list: range }))
    }
}

impl Answer for Event {
    async fn find(
        asked: &Asked,
        change: &Change,
        filter: &EventFilter,
    ) -> Result<Option<Self>, Fault> {
        let Change::Event(event) = change else { return Ok(None) };
        if !filter.takes(event) || asked.device(event.id.device).await?.is_none() {
            return Ok(None);
        }
        if let Some(wanted) = filter.seen() {
            let by = Watcher::of(asked.principal()?);
            if asked.loaders.seen.get((by, event.id)).await?.unwrap_or(false) != wanted {
                return Ok(None);
            }
        }
        Ok(Some(Self(event.clone())))
    }
}

impl Answer for Device {
    async fn find(asked: &Asked, change: &Change, _: &EventFilter) -> Result<Option<Self>, Fault> {
        let &Change::Device(device) = change else { return Ok(None) };
        Ok(asked.device(device).await?.map(Self))
    }
}

/// An answer with the request that its fields are resolved by. The library has one request for the
/// whole of a subscription, whose rights and cached reads would grow old with it.
pub struct Changed<T> {
    answer: T,
    data: Data,
}

impl<T> Changed<T> {
    fn new(answer: T, asked: Asked) -> Self {
        let mut data = Data::default();
        data.insert(asked);
        Self { answer, data }
    }
}

impl<T: OutputType> OutputType for Changed<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let mut ctx = ctx.clone();
        ctx.execute_data = Some(&self.data);
        self.answer.resolve(&ctx, field).await
    }
}
