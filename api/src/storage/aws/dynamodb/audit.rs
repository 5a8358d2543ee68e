//! The audit log: lines under their account, by identifier and therefore by time. DynamoDB deletes
//! those past keeping, within days; until then they are not read.

use super::keys::{self, Places};
use super::store::{Store, encode, item_of, new_version, record};
use crate::audit::{AuditEntry, KEPT_MS};
use crate::id::{AccountId, Ulid};
use crate::storage::{AuditQuery, Result, TimeOrder};
use lookback_wire::Timestamp;

pub async fn append(store: &Store, entry: &AuditEntry) -> Result<()> {
    let key = keys::audit_line(entry.account, entry.id.0);
    let expires = entry.at.plus_millis(KEPT_MS);
    store.put_item(item_of(&key, encode(entry)?, Some(expires), &new_version()?)).await
}

pub async fn page(
    store: &Store,
    account: AccountId,
    query: &AuditQuery,
) -> Result<Vec<AuditEntry>> {
    let all = Places { order: TimeOrder::NewestFirst, ..Places::all(keys::audit_log(account)) };
    let newest = store.list(&all, 1).await?;
    let Some(newest) = newest.first() else { return Ok(Vec::new()) };
    let kept_from = record::<AuditEntry>(newest)?.at.plus_millis(-KEPT_MS);
    let end = first_id(query.range.end);
    let end = query.after.map_or(end, |after| after.0.0.min(end));
    let Some(last) = end.checked_sub(1) else { return Ok(Vec::new()) };
    let lines = Places {
        first: Ulid(first_id(query.range.start.max(kept_from))).to_string(),
        last: Ulid(last).to_string(),
        ..all
    };
    store.list_records(&lines, query.limit).await
}

/// The smallest identifier made at `at` or later.
fn first_id(at: Timestamp) -> u128 {
    let latest = (1 << 48) - 1;
    u128::from(at.as_millis().clamp(0, latest).cast_unsigned()) << 80
}
