//! Events: what a camera noticed, and how a later report changes what is known of one.

use crate::access::{Principal, Subject};
use crate::id::{DeviceId, ParseIdError, Ulid};
use crate::segment::{self, TimeRange};
use aws_lc_rs::digest;
use bytes::Bytes;
use lookback_wire::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The longest that an event may last; a question for a span looks back by this much.
pub const MAX_EVENT_MS: i64 = 24 * 3_600_000;
/// What an event is taken to have lasted whose end was never reported.
const UNENDED_MS: i64 = 3_600_000;

/// An event's identifier says where it is kept: its device, the five-minute window that it begins
/// in, and a hash of the client's own identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub device: DeviceId,
    /// Window number, as a segment's.
    pub window: u32,
    /// The first 8 bytes of SHA-256 over the client's identifier.
    pub key: u64,
}

impl EventId {
    /// Where the event of that start and client identifier is kept.
    pub fn of(device: DeviceId, start: Timestamp, client_event_id: &str) -> Self {
        let (window, key) = segment::window_and_key(start, client_event_id);
        Self { device, window, key }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}{:08x}{:016x}", self.device.0, self.window, self.key)
    }
}

impl FromStr for EventId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let rest = text.strip_prefix("evt_").ok_or(ParseIdError)?;
        let (device, rest) = rest.split_at_checked(26).ok_or(ParseIdError)?;
        let (window, key) = segment::parse_window_and_key(rest)?;
        Ok(Self { device: DeviceId(device.parse::<Ulid>()?), window, key })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// See the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    Other,
}

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventTypes(u16);

impl EventTypes {
    pub const ALL: EventTypes = EventTypes(u16::MAX);

    pub fn contains(self, event_type: EventType) -> bool {
        self.0 & (1 << event_type as u16) != 0
    }
}

impl FromIterator<EventType> for EventTypes {
    fn from_iter<I: IntoIterator<Item = EventType>>(types: I) -> Self {
        Self(types.into_iter().fold(0, |set, event_type| set | 1 << event_type as u16))
    }
}

/// See the contract; a graver one is greater.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum EventSeverity {
    Info,
    #[default]
    Notice,
    Alert,
}

/// The maker's own facts; a JSON object.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

/// A picture that came with an event: a JPEG that we wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub jpeg: Bytes,
    pub width: u32,
    pub height: u32,
}

/// What an event's record says of its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFacts {
    pub width: u32,
    pub height: u32,
    /// The first 8 bytes of SHA-256 over the JPEG.
    pub digest: u64,
}

impl Picture {
    pub fn facts(&self) -> PictureFacts {
        let digest = digest::digest(&digest::SHA256, &self.jpeg);
        let digest = digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        PictureFacts { width: self.width, height: self.height, digest }
    }
}

/// What a camera says of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub client_event_id: String,
    pub event_type: EventType,
    pub label: Option<String>,
    pub severity: EventSeverity,
    pub start: Timestamp,
    /// None while it lasts.
    pub end: Option<Timestamp>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    pub attributes: Option<Attributes>,
    pub picture: Option<Picture>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub client_event_id: String,
    pub event_type: EventType,
    pub label: Option<String>,
    pub severity: EventSeverity,
    /// By the camera's clock.
    pub start: Timestamp,
    pub end: Option<Timestamp>,
    pub confidence: Option<f64>,
    pub attributes: Option<Attributes>,
    pub picture: Option<PictureFacts>,
    /// When it was first reported, by the service's clock.
    pub ingested_at: Timestamp,
}

impl Event {
    /// An event that nothing was known of.
    pub fn new(device: DeviceId, report: &NewEvent, now: Timestamp) -> Self {
        Self {
            id: EventId::of(device, report.start, &report.client_event_id),
            client_event_id: report.client_event_id.clone(),
            event_type: report.event_type,
            label: report.label.clone(),
            severity: report.severity,
            start: report.start,
            end: report.end,
            confidence: report.confidence,
            attributes: report.attributes.clone(),
            picture: report.picture.as_ref().map(Picture::facts),
            ingested_at: now,
        }
    }

    /// Whether a report of this place is about this event.
    pub fn is_meant_by(&self, report: &NewEvent) -> bool {
        self.client_event_id == report.client_event_id && self.start == report.start
    }

    /// What is known with a further report. What it leaves out stays, so that the first report, sent
    /// once more after the last, takes nothing back.
    pub fn refined_by(&self, report: &NewEvent) -> Self {
        Self {
            event_type: report.event_type,
            label: report.label.clone().or_else(|| self.label.clone()),
            severity: report.severity,
            end: report.end.or(self.end),
            confidence: report.confidence.or(self.confidence),
            attributes: report.attributes.clone().or_else(|| self.attributes.clone()),
            picture: report.picture.as_ref().map(Picture::facts).or(self.picture),
            ..self.clone()
        }
    }

    /// When it took place, as far as is known at `now`.
    pub fn span(&self, now: Timestamp) -> TimeRange {
        let longest = self.start.plus_millis(UNENDED_MS);
        let end = self.end.unwrap_or(now.min(longest)).max(self.start.plus_millis(1));
        TimeRange { start: self.start, end }
    }
}

/// Who has seen an event: one for each user, device and script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watcher(pub [u8; 16]);

impl Watcher {
    pub fn of(principal: &Principal) -> Self {
        Self(match &principal.subject {
            Subject::User(user) => user.0.to_be_bytes(),
            Subject::Device { device, .. } => device.0.to_be_bytes(),
            Subject::Service(name) => {
                let digest = digest::digest(&digest::SHA256, name.as_bytes());
                digest.as_ref().first_chunk().copied().unwrap_or_default()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_763_803_800_000);

    fn report() -> NewEvent {
        NewEvent {
            client_event_id: "a".into(),
            event_type: EventType::Motion,
            label: None,
            severity: EventSeverity::Notice,
            start: AT,
            end: None,
            confidence: None,
            attributes: None,
            picture: None,
        }
    }

    #[test]
    fn identifiers_come_back() {
        let id = EventId::of(DeviceId::new(AT), AT, "a");
        assert_eq!(id.to_string().parse(), Ok(id));
        let text = id.to_string();
        for other in [
            String::new(),
            text.replace("evt_", "seg_"),
            text.to_uppercase(),
            format!("{text}0"),
            text[..text.len() - 1].to_owned(),
            text.replace(&text[40..41], "é"),
        ] {
            assert_eq!(other.parse::<EventId>(), Err(ParseIdError), "{other}");
        }
    }

    #[test]
    fn a_report_that_comes_late_takes_nothing_back() {
        let first = report();
        let known = Event::new(DeviceId::new(AT), &first, AT);
        assert_eq!(known.refined_by(&first), known);
        let last = NewEvent {
            end: Some(AT.plus_millis(9_000)),
            label: Some("gate".into()),
            confidence: Some(0.5),
            ..report()
        };
        let ended = known.refined_by(&last);
        assert_eq!((ended.end, ended.label.as_deref()), (last.end, Some("gate")));
        assert_eq!(ended.refined_by(&first), ended);
    }

    #[test]
    fn spans() {
        let known = Event::new(DeviceId::new(AT), &report(), AT);
        let ended = |ms| Event { end: Some(AT.plus_millis(ms)), ..known.clone() };
        for (event, now_ms, len_ms) in [
            (ended(9_000), 0, 9_000),
            (known.clone(), 5_000, 5_000),
            (known.clone(), 10 * UNENDED_MS, UNENDED_MS),
            (known.clone(), -5_000, 1),
        ] {
            assert_eq!(event.span(AT.plus_millis(now_ms)).millis(), len_ms);
        }
    }

    #[test]
    fn sets_of_types() {
        let set: EventTypes = [EventType::Motion, EventType::Other].into_iter().collect();
        assert!(set.contains(EventType::Motion) && set.contains(EventType::Other));
        assert!(!set.contains(EventType::Person) && EventTypes::ALL.contains(EventType::Person));
    }
}
