//! The audit log: who did what to what in an account, and from where. Lines are added, and go by age.

use crate::id::{AccountId, AuditId, StreamId};
use crate::storage::Catalog;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;

/// How long a line is kept: a year, and a month in which whoever audits the year finds all of it.
pub const KEPT_MS: i64 = 400 * 86_400_000;

/// How often it is written down that somebody looks at pictures of a stream: a page shows dozens, and
/// shows them again every few seconds.
const LOOK_MS: i64 = 3_600_000;
/// Looks remembered, about 150 bytes each. Where there are more, some are written down again.
const MAX_LOOKS: usize = 10_000;

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

/// Who has lately looked at pictures of which streams, and from where.
#[derive(Debug, Default)]
pub struct Looks {
    noted: Mutex<HashMap<(String, StreamId, IpAddr), Timestamp>>,
}

impl Looks {
    /// Whether this look is to be written down: none was within the hour.
    pub fn is_first(&self, actor: String, stream: StreamId, from: IpAddr, now: Timestamp) -> bool {
        let is_recent = |at: Timestamp| now.millis_since(at).abs() < LOOK_MS;
        let mut noted = self.noted.lock();
        let key = (actor, stream, from);
        if noted.get(&key).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if noted.len() >= MAX_LOOKS {
            noted.retain(|_, at| is_recent(*at));
        }
        if noted.len() >= MAX_LOOKS {
            noted.clear();
        }
        noted.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    #[test]
    fn a_look_is_written_down_once_an_hour() {
        let looks = Looks::default();
        let streams = [StreamId::new(NOW), StreamId::new(NOW)];
        let [here, there] = [Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST].map(IpAddr::V4);
        for (actor, stream, from, after_ms, expected) in [
            ("ann", 0, here, 0, true),
            ("ann", 0, here, 0, false),
            ("ann", 0, here, LOOK_MS - 1, false),
            ("ann", 1, here, 1, true),
            ("bob", 0, here, 1, true),
            ("ann", 0, there, 1, true),
            ("ann", 0, here, LOOK_MS, true),
            ("ann", 0, here, LOOK_MS + 1, false),
        ] {
            let now = NOW.plus_millis(after_ms);
            let is_first = looks.is_first(actor.into(), streams[stream], from, now);
            assert_eq!(is_first, expected, "{actor} {stream} {from} {after_ms}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let looks = Looks::default();
        let stream = StreamId::new(NOW);
        for n in 0..3 * MAX_LOOKS as u32 {
            let from = IpAddr::V4(n.into());
            assert!(looks.is_first("ann".into(), stream, from, NOW));
            assert!(looks.noted.lock().len() <= MAX_LOOKS);
        }
    }
}
