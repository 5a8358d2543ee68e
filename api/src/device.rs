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
