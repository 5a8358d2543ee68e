//! Cameras, their streams and what they prove themselves with.

use crate::id::{AccountId, CredentialId, DeviceId, PlanId, StreamId};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a device stands in its life; see the contract's `DeviceState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceState {
    Provisioned,
    Active,
    Suspended,
    Retired,
}

/// Of one device, those included that it had before it was retired.
pub const MAX_STREAMS: usize = 8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub account: AccountId,
    /// The maker's own identifier, unique in the account.
    pub external_id: String,
    pub name: String,
    pub model: Option<String>,
    pub firmware_version: Option<String>,
    pub state: DeviceState,
    /// An IANA zone; its civil days are cut by it.
    pub time_zone: String,
    pub plan: PlanId,
    pub created_at: Timestamp,
    /// When a fragment, segment, event or heartbeat last arrived, by the service's clock.
    pub last_seen_at: Option<Timestamp>,
    /// Device clock minus service clock at the last call.
    pub clock_skew_ms: Option<i64>,
}

/// What is changed of a device; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    pub name: Option<String>,
    pub time_zone: Option<String>,
    pub plan: Option<PlanId>,
    pub firmware_version: Option<String>,
    pub turn: Option<Turn>,
}

/// A turn in a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Suspend,
    /// Out of suspension.
    Resume,
    /// Out of service, until it is registered again.
    Retire,
}

impl DeviceChange {
    /// Makes the change to a record, unless its turn is none that the device can take: one that is
    /// retired is neither suspended nor resumed.
    #[must_use]
    pub fn apply(self, device: &mut Device) -> bool {
        let Self { name, time_zone, plan, firmware_version, turn } = self;
        let Some(state) = device.state_after(turn) else { return false };
        device.state = state;
        device.name = name.unwrap_or_else(|| device.name.clone());
        device.time_zone = time_zone.unwrap_or_else(|| device.time_zone.clone());
        device.plan = plan.unwrap_or(device.plan);
        device.firmware_version = firmware_version.or_else(|| device.firmware_version.take());
        true
    }
}

impl Device {
    fn state_after(&self, turn: Option<Turn>) -> Option<DeviceState> {
        Some(match (self.state, turn) {
            (state, None) => state,
            (_, Some(Turn::Retire)) => DeviceState::Retired,
            (DeviceState::Retired, Some(Turn::Suspend | Turn::Resume)) => return None,
            (_, Some(Turn::Suspend)) => DeviceState::Suspended,
            (DeviceState::Suspended, Some(Turn::Resume)) if self.last_seen_at.is_none() => {
                DeviceState::Provisioned
            }
            (DeviceState::Suspended, Some(Turn::Resume)) => DeviceState::Active,
            (state, Some(Turn::Resume)) => state,
        })
    }
}

/// One series of footage of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub id: StreamId,
    pub device: DeviceId,
    pub account: AccountId,
    /// Unique in the device.
    pub name: String,
    /// Its place among the device's streams; the main one is 0.
    pub position: u8,
    /// Unique in the account.
    pub media_stream_name: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CredentialKind {
    Token,
    AccessKey,
}

/// One of a device's credentials, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCredential {
    pub id: CredentialId,
    pub account: AccountId,
    pub device: DeviceId,
    pub kind: CredentialKind,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// To the hour.
    pub last_used_at: Option<Timestamp>,
}

/// Credentials of one device that may be valid at a time: they are listed in one answer, and end with
/// the device. A camera has one, and two while they are changed.
pub const MAX_CREDENTIALS_OF_DEVICE: usize = 50;

const HOUR_MS: i64 = 3_600_000;

impl DeviceCredential {
    /// Whether a use at `at` is in a later hour than the last one that was noted.
    pub fn is_news(&self, at: Timestamp) -> bool {
        self.last_used_at.is_none_or(|last| last < hour_of(at))
    }

    /// The same, used at `at`.
    pub fn used(self, at: Timestamp) -> Self {
        Self { last_used_at: Some(hour_of(at)), ..self }
    }

    /// Whether it opens anything at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(HOUR_MS) * HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns() {
        use DeviceState::{Active, Provisioned, Retired, Suspended};
        use Turn::{Resume, Retire, Suspend};
        let now = Timestamp::from_millis(1_763_803_800_000);
        for (state, seen, turn, expected) in [
            (Provisioned, false, Suspend, Some(Suspended)),
            (Active, true, Suspend, Some(Suspended)),
            (Suspended, true, Suspend, Some(Suspended)),
            (Suspended, true, Resume, Some(Active)),
            (Suspended, false, Resume, Some(Provisioned)),
            (Provisioned, false, Resume, Some(Provisioned)),
            (Active, true, Resume, Some(Active)),
            (Suspended, true, Retire, Some(Retired)),
            (Retired, true, Retire, Some(Retired)),
            (Retired, true, Suspend, None),
            (Retired, true, Resume, None),
        ] {
            let before = Device {
                id: DeviceId::new(now),
                account: AccountId::new(now),
                external_id: "cam".into(),
                name: "Cam".into(),
                model: None,
                firmware_version: Some("1".into()),
                state,
                time_zone: "UTC".into(),
                plan: PlanId::new(now),
                created_at: now,
                last_seen_at: seen.then_some(now),
                clock_skew_ms: None,
            };
            let name = Some("Door".to_owned());
            let change = DeviceChange { name, turn: Some(turn), ..DeviceChange::default() };
            let mut after = before.clone();
            let is_made = change.apply(&mut after);
            let renamed = |state| Device { name: "Door".into(), state, ..before.clone() };
            let expected = expected.map_or(before.clone(), renamed);
            assert_eq!((is_made, &after), (after.name == "Door", &expected), "{state:?} {turn:?}");
        }
    }
}
