//! The audit log: who did what to what in an account, and from where. Lines are added, and go by age.

use crate::id::{AccountId, AuditId};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How long a line is kept: a year, and a month in which whoever audits the year finds all of it.
pub const KEPT_MS: i64 = 400 * 86_400_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: AuditId,
    pub account: AccountId,
    pub at: Timestamp,
    /// The user's, device's or service's identifier; none for a sign-in that failed.
    pub actor: Option<String>,
    pub action: AuditAction,
    /// The identifier of what it was done to.
    pub target: Option<String>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

/// See the contract's `AuditAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAction {
    SignIn,
    SignInRefused,
    View,
    Export,
    Share,
    Revoke,
    Delete,
    Change,
}
