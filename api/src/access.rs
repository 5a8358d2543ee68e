//! Who may do what: the one function that decides, from facts handed to it.

use crate::account::Role;
use crate::device::DeviceState;
use crate::id::{AccountId, CredentialId, DeviceId, UserId};
use lookback_wire::Timestamp;

/// Who calls, as a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub subject: Subject,
    pub account: AccountId,
    pub role: Role,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(UserId),
    Device {
        device: DeviceId,
        credential: CredentialId,
    },
    /// A script, by a token from `lookback token`.
    Service(String),
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See a device, its footage and events; play it.
    View,
    /// Change, share, retire a device.
    Manage,
    /// Announce segments and events, report heartbeats, ask for an upload grant: the device itself.
    Report,
    /// PutMedia, and the Kinesis calls that a producer makes before it.
    Upload,
    /// Make a device known.
    Register,
    /// Users, plans, webhooks, the audit log.
    Administer,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Account(AccountId),
    Device { account: AccountId, device: DeviceId, state: DeviceState },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The caller may see the object and not do this to it.
    Forbid,
    /// For this caller the object does not exist.
    Hide,
}

/// Decides. Deny first: what no rule allows is hidden.
pub fn decide(_principal: Option<&Principal>, _action: Action, _target: &Target) -> Decision {
    Decision::Hide
}
