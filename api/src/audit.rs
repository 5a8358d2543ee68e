//! The audit log: who did what to what in an account, and from where. Lines are added, and go by age.

use crate::id::{AccountId, AuditId};
use crate::storage::Catalog;
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
    Other,
}

/// What somebody did.
#[derive(Clone, Debug)]
pub struct Deed {
    pub account: AccountId,
    pub actor: Option<String>,
    pub action: AuditAction,
    pub target: Option<String>,
    pub address: IpAddr,
}

/// Writes a line, durably. One that cannot be written is logged and stops nobody: a full disk takes
/// no lines, and what is on it still plays.
pub async fn note(catalog: &dyn Catalog, deed: Deed, now: Timestamp) {
    let Deed { account, actor, action, target, address } = deed;
    let entry = AuditEntry {
        id: AuditId::new(now),
        account,
        at: now,
        actor,
        action,
        target,
        address: Some(address),
    };
    if let Err(error) = catalog.append_audit(entry.clone()).await {
        tracing::error!(%error, ?entry, "the audit log lacks a line");
    }
}
