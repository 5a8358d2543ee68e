//! `Event`, and how events are asked for, of one device and of many.

use super::asked::{Asked, asked};
use super::clip::Clip;
use super::device::Device;
use super::fault::{Fault, Maybe};
use super::image::{self, Image};
use super::loader::EventsKey;
use super::pagination::{Cursor, Page, connection, page_size};
use super::scalar::{DateTime, JsonObject};
use super::time_range::TimeRangeInput;
use crate::event::{self, EventId, EventTypes, Watcher};
use crate::id::DeviceId;
use crate::playback::timeline;
use crate::segment::TimeRange;
use crate::storage::{EventQuery, TimeOrder};
use async_graphql::{Context, Enum, ID, InputObject, Object};
use futures_util::future::try_join_all;
use lookback_wire::Timestamp;
use std::cmp::Ordering;

const DEFAULT_PAGE: usize = 20;
const DEFAULT_ROLL_S: f64 = 5.0;
/// Longer than any plan's.
const MAX_ROLL_S: f64 = 600.0;
/// Reads of all devices for one page, where few events are as the filter wants them.
const MAX_ROUNDS: usize = 5;

#[derive(Clone)]
pub struct Event(pub event::Event);

/// Something that a camera or a service noticed.
#[Object]
impl Event {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    async fn device(&self, ctx: &Context<'_>) -> Result<Device, Fault> {
        let lost = || Fault::internal(format!("{} has no device", self.0.id));
        asked(ctx)?.device(self.0.id.device).await?.map(Device).ok_or_else(lost)
    }

    #[graphql(name = "type")]
    async fn event_type(&self) -> EventType {
        self.0.event_type.into()
    }

    /// A finer or the maker's own name, such as `line_crossing:driveway`.
    async fn label(&self) -> Option<&str> {
        self.0.label.as_deref()
    }

    async fn severity(&self) -> EventSeverity {
        self.0.severity.into()
    }

    async fn start(&self) -> DateTime {
        DateTime(self.0.start)
    }

    /// Null while it lasts.
    async fn end(&self) -> Option<DateTime> {
        self.0.end.map(DateTime)
    }

    /// 0 to 1.
    async fn confidence(&self) -> Option<f64> {
        self.0.confidence
    }

    async fn attributes(&self) -> Option<JsonObject> {
        self.0.attributes.clone().map(JsonObject)
    }

    /// The picture that the camera sent, or one cut from the footage.
    async fn thumbnail(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 320)] max_width: Option<i32>,
    ) -> Maybe<Image> {
        image::of_event(ctx, &self.0, max_width).await.transpose()
    }

    /// The footage around it; null where nothing was recorded.
    async fn clip(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 5.0)] pre_roll_seconds: Option<f64>,
        #[graphql(default = 5.0)] post_roll_seconds: Option<f64>,
    ) -> Maybe<Clip> {
        self.find_clip(ctx, pre_roll_seconds, post_roll_seconds).await.transpose()
    }

    /// Whether the caller marked it as seen.
    async fn seen(&self, ctx: &Context<'_>) -> Result<bool, Fault> {
        let asked = asked(ctx)?;
        let by = Watcher::of(asked.principal()?);
        Ok(asked.loaders.seen.get((by, self.0.id)).await?.unwrap_or(false))
    }
}

impl Event {
    async fn find_clip(
        &self,
        ctx: &Context<'_>,
        pre_roll_seconds: Option<f64>,
        post_roll_seconds: Option<f64>,
    ) -> Result<Option<Clip>, Fault> {
        let asked = asked(ctx)?;
        let before_ms = roll_ms("preRollSeconds", pre_roll_seconds)?;
        let after_ms = roll_ms("postRollSeconds", post_roll_seconds)?;
        let now = asked.now();
        let span = self.0.span(now);
        let range = TimeRange {
            start: span.start.plus_millis(-before_ms),
            end: span.end.plus_millis(after_ms),
        };
        // The full picture, or else what there is.
        for stream in asked.streams_of(self.0.id.device).await? {
            let Some(around) = asked.loaders.around.get((stream.id, range)).await? else {
                continue;
            };
            if let Some(clip) = timeline::Clip::of_all(&around.footage, range, now) {
                return Ok(Some(Clip { stream, clip, list: around.read }));
            }
        }
        Ok(None)
    }
}

fn roll_ms(name: &str, roll_s: Option<f64>) -> Result<i64, Fault> {
    let roll_s = roll_s.unwrap_or(DEFAULT_ROLL_S);
    if !(0.0..=MAX_ROLL_S).contains(&roll_s) {
        return Err(Fault::bounds(name, roll_s, 0, MAX_ROLL_S));
    }
    Ok((roll_s * 1000.0).round() as i64)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "event::EventType")]
pub enum EventType {
    Motion,
    Person,
    Vehicle,
    Animal,
    Package,
    Face,
    Sound,
    Doorbell,
    Intrusion,
    Tamper,
    Alarm,
    /// See `Event.label`.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "event::EventSeverity")]
pub enum EventSeverity {
    /// Kept for search.
    Info,
    /// Worth a look.
    Notice,
    /// Needs attention at once.
    Alert,
}

/// Which events; everything given must hold.
#[derive(Debug, Default, InputObject)]
pub struct EventFilter {
    types: Option<Vec<EventType>>,
    min_severity: Option<EventSeverity>,
    seen: Option<bool>,
}

impl EventFilter {
    /// Whether it takes an event, as far as that can be told from the event alone.
    pub fn takes(&self, event: &event::Event) -> bool {
        let types = self.types.as_ref();
        types.is_none_or(|types| types.contains(&event.event_type.into()))
            && self.min_severity.is_none_or(|least| event.severity >= least.into())
    }

    /// Whether it takes only events that the caller has marked as seen, or only the others.
    pub fn seen(&self) -> Option<bool> {
        self.seen
    }
}

/// Which page of events.
#[derive(Debug)]
pub struct EventsAsked {
    pub range: Option<TimeRangeInput>,
    pub filter: Option<EventFilter>,
    pub order: TimeOrder,
    pub first: Option<i32>,
    pub after: Option<String>,
}

/// A page of the events of devices that the caller was shown, for the connection that `ctx` answers.
pub async fn list(
    ctx: &Context<'_>,
    devices: &[DeviceId],
    page: EventsAsked,
) -> Result<EventConnection, Fault> {
    let asked = asked(ctx)?;
    let limit = page_size(page.first, DEFAULT_PAGE, asked.limits().page_items)?;
    let after = Cursor::read(page.after, |cursor| match cursor {
        Cursor::Event(start, id) => Some((start, id)),
        _ => None,
    })?;
    let range = match page.range {
        Some(range) => range
            .span()
            .ok_or_else(|| Fault::BadInput("range.end must be after range.start".into()))?,
        None => TimeRange::ALL,
    };
    let filter = page.filter.unwrap_or_default();
    let types = |types: Vec<EventType>| types.into_iter().map(event::EventType::from).collect();
    let query = EventQuery {
        range,
        types: filter.types.map_or(EventTypes::ALL, types),
        min_severity: filter.min_severity.map_or(event::EventSeverity::Info, Into::into),
        order: page.order,
        after,
        // One more than the page has tells whether there is another one.
        limit: limit + 1,
    };
    let has_previous = after.is_some();
    let connection = ctx.look_ahead();
    // Of many devices most events that are read are not on the page.
    let with_seen = devices.len() == 1
        && (filter.seen.is_some()
            || connection.field("nodes").field("seen").exists()
            || connection.field("edges").field("node").field("seen").exists());
    let (events, next) = merge(asked, devices, query, with_seen, filter.seen, limit).await?;
    let cursor = |(start, id)| Cursor::Event(start, id);
    let items = events.into_iter().map(|event| (cursor(position(&event)), Event(event))).collect();
    Ok(EventConnection(Page { items, has_previous, next: next.map(cursor) }))
}

type Position = (Timestamp, EventId);

fn position(event: &event::Event) -> Position {
    (event.start, event.id)
}

/// Up to `limit` events of all devices in order, and where to go on.
async fn merge(
    asked: &Asked,
    devices: &[DeviceId],
    mut query: EventQuery,
    with_seen: bool,
    seen: Option<bool>,
    limit: usize,
) -> Result<(Vec<event::Event>, Option<Position>), Fault> {
    let by = Watcher::of(asked.principal()?);
    let compare = |a: &Position, b: &Position| match query.order {
        TimeOrder::OldestFirst => a.cmp(b),
        TimeOrder::NewestFirst => b.cmp(a),
    };
    let mut page: Vec<event::Event> = Vec::new();
    let mut read_to = None;
    for _ in 0..MAX_ROUNDS {
        let seen_by = with_seen.then_some(by);
        let key = |&device| EventsKey { device, query, seen_by };
        let found = try_join_all(devices.iter().map(key).map(|key| asked.loaders.events.get(key)));
        let (mut events, mut stops) = (Vec::new(), Vec::new());
        for found in found.await?.into_iter().flatten() {
            asked.loaders.seen.learn(found.seen).await;
            events.push(found.page.events);
            stops.push(found.page.next);
        }
        // Behind the first stop, a device that was read less far may have events that come before.
        read_to = stops.into_iter().flatten().min_by(compare);
        let mut events = events.concat();
        let is_read = |event: &event::Event| {
            read_to.is_none_or(|stop| compare(&position(event), &stop) != Ordering::Greater)
        };
        events.retain(is_read);
        events.sort_by(|a, b| compare(&position(a), &position(b)));
        if let Some(wanted) = seen {
            let marks = events.iter().map(|event| asked.loaders.seen.get((by, event.id)));
            let mut marks = try_join_all(marks).await?.into_iter();
            events.retain(|_| marks.next().flatten() == Some(wanted));
        }
        for event in events {
            if page.len() >= limit {
                let next = page.last().map(position);
                return Ok((page, next));
            }
            page.push(event);
        }
        match read_to {
            Some(stop) => query.after = Some(stop),
            None => break,
        }
    }
    Ok((page, read_to))
}

connection!(EventConnection, EventEdge, Event);
