//! The audit log: lines under their account, by identifier and therefore by time.

use super::tables::{Tables, decode, key, put};
use super::users::first_keys;
use crate::audit::{AuditEntry, KEPT_MS};
use crate::id::AccountId;
use crate::storage::{AuditQuery, Result};
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use std::ops::Bound;

/// Lines past keeping that go with each line that comes: more than one, so that none are left.
const PURGED_LINES: usize = 8;

pub fn append(tables: &Tables, txn: &mut RwTxn, entry: &AuditEntry) -> Result<()> {
    let account = entry.account.0.to_be_bytes();
    let kept_from = line_key(entry.account, first_id(entry.at.plus_millis(-KEPT_MS)));
    for key in first_keys(txn, tables.audit, &account, PURGED_LINES)? {
        if key >= kept_from {
            break;
        }
        tables.audit.delete(txn, &key)?;
    }
    put(txn, tables.audit, &line_key(entry.account, entry.id.0.0), entry)
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    query: &AuditQuery,
) -> Result<Vec<AuditEntry>> {
    let end = first_id(query.range.end);
    let start = line_key(account, first_id(query.range.start));
    let end = line_key(account, query.after.map_or(end, |after| after.0.0.min(end)));
    if start >= end {
        return Ok(Vec::new());
    }
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let newest = tables.audit.rev_range(txn, &range)?.take(query.limit);
    newest.map(|line| decode(line?.1)).collect()
}

fn line_key(account: AccountId, id: u128) -> Vec<u8> {
    key(&[&account.0.to_be_bytes(), &id.to_be_bytes()])
}

/// The smallest identifier made at `at` or later.
fn first_id(at: Timestamp) -> u128 {
    let latest = (1 << 48) - 1;
    u128::from(at.as_millis().clamp(0, latest) as u64) << 80
}
