//! `AuditEntry` and the log that it stands in.

use super::asked::Asked;
use super::fault::Fault;
use super::pagination::{Cursor, Page, connection, page_size};
use super::scalar::DateTime;
use super::time_range::TimeRangeInput;
use crate::audit;
use crate::storage::AuditQuery;
use async_graphql::{Enum, ID, Object};

const DEFAULT_PAGE: usize = 50;

#[derive(Clone)]
pub struct AuditEntry(audit::AuditEntry);

/// One line of the account's log, which nothing changes or removes.
#[Object]
impl AuditEntry {
    async fn at(&self) -> DateTime {
        DateTime(self.0.at)
    }

    /// The user's, device's or service's identifier; null for a sign-in that failed.
    async fn actor_id(&self) -> Option<ID> {
        self.0.actor.as_ref().map(ID::from)
    }

    async fn action(&self) -> AuditAction {
        self.0.action.into()
    }

    /// What it was done to.
    async fn target_id(&self) -> Option<ID> {
        self.0.target.as_ref().map(ID::from)
    }

    /// The client's network address.
    async fn address(&self) -> Option<String> {
        self.0.address.map(|address| address.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "audit::AuditAction")]
pub enum AuditAction {
    SignIn,
    SignInRefused,
    /// A playback session was given out, or pictures of a stream, which are noted once an hour; those beside clips and events are not.
    View,
    /// The same for `MP4`.
    Export,
    Share,
    Revoke,
    Delete,
    /// A device, credential, plan, user, hold or webhook was made or changed.
    Change,
    Other,
}

/// A page of the account's log; `None` for a caller who does not administer it.
pub async fn list(
    asked: &Asked,
    range: TimeRangeInput,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Option<AuditEntryConnection>, Fault> {
    let Some(caller) = asked.administrator()? else { return Ok(None) };
    let refused = || Fault::BadInput("range.end must be after range.start".into());
    let range = range.span().ok_or_else(refused)?;
    let limit = page_size(first, DEFAULT_PAGE, asked.limits().page_items)?;
    let after = Cursor::read(after, |cursor| match cursor {
        Cursor::AuditEntry(id) => Some(id),
        _ => None,
    })?;
    let has_previous = after.is_some();
    let query = AuditQuery { range, after, limit: limit + 1 };
    let mut lines = asked.service.storage.catalog.audit_log(caller.account, &query).await?;
    let has_next = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| has_next).map(|line| Cursor::AuditEntry(line.id));
    let items = lines.into_iter().map(|line| (Cursor::AuditEntry(line.id), AuditEntry(line)));
    Ok(Some(AuditEntryConnection(Page { items: items.collect(), has_previous, next })))
}

connection!(AuditEntryConnection, AuditEntryEdge, AuditEntry);
