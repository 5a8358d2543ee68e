//! Accounts, users, sign-ins and retention plans.

use super::tables::{NOTHING, Tables, decode, get, key, put, text};
use crate::account::{Account, Identity, RetentionPlan, SignIn, User, UserChange};
use crate::id::{AccountId, PlanId, SignInId, UserId};
use crate::storage::embedded::lmdb::{Table, time_key};
use crate::storage::{CreateError, Result, StorageError, UserQuery};
use heed::{RoTxn, RwTxn};
use lookback_wire::Timestamp;
use std::ops::Bound;

/// Sign-ins whose time is over are taken out a few at a time, whenever one is written.
const PURGED_SIGN_INS: usize = 16;
/// See the trait.
const MAX_PLANS: usize = 100;

pub fn account(tables: &Tables, txn: &RoTxn, id: AccountId) -> Result<Option<Account>> {
    get(txn, tables.accounts, &id.0.to_be_bytes())
}

pub fn account_by_name(tables: &Tables, txn: &RoTxn, name: &str) -> Result<Option<Account>> {
    match get(txn, tables.account_names, &text(name))? {
        Some(id) => account(tables, txn, id),
        None => Ok(None),
    }
}

pub fn ensure_account(
    tables: &Tables,
    txn: &mut RwTxn,
    name: &str,
    now: Timestamp,
) -> Result<Account> {
    if let Some(account) = account_by_name(tables, txn, name)? {
        return Ok(account);
    }
    let account = Account { id: AccountId::new(now), name: name.to_owned(), created_at: now };
    put(txn, tables.accounts, &account.id.0.to_be_bytes(), &account)?;
    put(txn, tables.account_names, &text(name), &account.id)?;
    put_plan(tables, txn, &RetentionPlan::first_of(account.id, now))?;
    Ok(account)
}

pub fn user_name_key(account: AccountId, name: &str) -> Vec<u8> {
    key(&[&account.0.to_be_bytes(), &text(name)])
}

/// No issuer's URL has a space in it.
pub fn user_identity_key(account: AccountId, issuer: &str, subject: &str) -> Vec<u8> {
    key(&[&account.0.to_be_bytes(), &text(&format!("{issuer} {subject}"))])
}

pub fn create_user(tables: &Tables, txn: &mut RwTxn, user: &User) -> Result<(), CreateError> {
    let name = user_name_key(user.account, &user.name);
    if get::<UserId>(txn, tables.user_names, &name)?.is_some() {
        return Err(CreateError::Taken { field: "name" });
    }
    if let Some(Identity { issuer, subject, .. }) = &user.identity {
        let identity = user_identity_key(user.account, issuer, subject);
        if get::<UserId>(txn, tables.user_identities, &identity)?.is_some() {
            return Err(CreateError::Taken { field: "identity" });
        }
        put(txn, tables.user_identities, &identity, &user.id)?;
    }
    put(txn, tables.user_names, &name, &user.id)?;
    Ok(put(txn, tables.users, &user.id.0.to_be_bytes(), user)?)
}

pub fn change_user(
    tables: &Tables,
    txn: &mut RwTxn,
    id: UserId,
    change: UserChange,
) -> Result<Option<User>> {
    let Some(mut user) = user(tables, txn, id)? else { return Ok(None) };
    change.apply(&mut user);
    put(txn, tables.users, &id.0.to_be_bytes(), &user)?;
    Ok(Some(user))
}

pub fn user(tables: &Tables, txn: &RoTxn, id: UserId) -> Result<Option<User>> {
    get(txn, tables.users, &id.0.to_be_bytes())
}

pub fn user_by_name(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    name: &str,
) -> Result<Option<User>> {
    match get(txn, tables.user_names, &user_name_key(account, name))? {
        Some(id) => user(tables, txn, id),
        None => Ok(None),
    }
}

pub fn user_by_identity(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    issuer: &str,
    subject: &str,
) -> Result<Option<User>> {
    match get(txn, tables.user_identities, &user_identity_key(account, issuer, subject))? {
        Some(id) => user(tables, txn, id),
        None => Ok(None),
    }
}

pub fn page(
    tables: &Tables,
    txn: &RoTxn,
    account: AccountId,
    query: &UserQuery,
) -> Result<Vec<User>> {
    let prefix = account.0.to_be_bytes();
    let after = query.after.as_ref().map(|name| user_name_key(account, name));
    let from = match &after {
        Some(after) => Bound::Excluded(&after[..]),
        None => Bound::Included(&prefix[..]),
    };
    let mut found = Vec::new();
    for entry in tables.user_names.range(txn, &(from, Bound::Unbounded))? {
        let (name, id) = entry?;
        if found.len() >= query.limit || !name.starts_with(&prefix) {
            break;
        }
        found.extend(user(tables, txn, decode(id)?)?);
    }
    Ok(found)
}

pub fn sign_in_end_key(sign_in: &SignIn) -> Vec<u8> {
    key(&[&time_key(sign_in.expires_at.as_millis()), &sign_in.id.0.to_be_bytes()])
}

pub fn sign_in(tables: &Tables, txn: &RoTxn, id: SignInId) -> Result<Option<SignIn>> {
    get(txn, tables.sign_ins, &id.0.to_be_bytes())
}

pub fn put_sign_in(tables: &Tables, txn: &mut RwTxn, sign_in: &SignIn) -> Result<()> {
    delete_sign_in(tables, txn, sign_in.id)?;
    put(txn, tables.sign_ins, &sign_in.id.0.to_be_bytes(), sign_in)?;
    tables.sign_in_ends.put(txn, &sign_in_end_key(sign_in), NOTHING)?;
    let ended = first_keys(txn, tables.sign_in_ends, &[], PURGED_SIGN_INS)?;
    for key in ended {
        let Some((end, id)) = key.split_first_chunk::<8>() else { continue };
        if *end >= time_key(sign_in.rotated_at.as_millis()) {
            break;
        }
        tables.sign_ins.delete(txn, id)?;
        tables.sign_in_ends.delete(txn, &key)?;
    }
    Ok(())
}

pub fn rotate_sign_in(
    tables: &Tables,
    txn: &mut RwTxn,
    expected: [u8; 32],
    rotated: &SignIn,
) -> Result<bool> {
    let in_force = sign_in(tables, txn, rotated.id)?;
    if in_force.is_none_or(|stored| stored.current != expected) {
        return Ok(false);
    }
    put_sign_in(tables, txn, rotated)?;
    Ok(true)
}

pub fn delete_sign_in(tables: &Tables, txn: &mut RwTxn, id: SignInId) -> Result<()> {
    if let Some(stored) = sign_in(tables, txn, id)? {
        tables.sign_in_ends.delete(txn, &sign_in_end_key(&stored))?;
        tables.sign_ins.delete(txn, &id.0.to_be_bytes())?;
    }
    Ok(())
}

pub fn plan(tables: &Tables, txn: &RoTxn, id: PlanId) -> Result<Option<RetentionPlan>> {
    get(txn, tables.plans, &id.0.to_be_bytes())
}

pub fn plans(tables: &Tables, txn: &RoTxn, account: AccountId) -> Result<Vec<RetentionPlan>> {
    let mut plans = Vec::new();
    for key in first_keys(txn, tables.account_plans, &account.0.to_be_bytes(), MAX_PLANS)? {
        if let Some(id) = key.last_chunk::<16>() {
            plans.extend(get::<RetentionPlan>(txn, tables.plans, id)?);
        }
    }
    plans.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    Ok(plans)
}

pub fn put_plan(tables: &Tables, txn: &mut RwTxn, plan: &RetentionPlan) -> Result<()> {
    let id = plan.id.0.to_be_bytes();
    if get::<RetentionPlan>(txn, tables.plans, &id)?
        .is_some_and(|stored| stored.account != plan.account)
    {
        return Err(StorageError::Damaged(format!("{} is of another account", plan.id)));
    }
    if plan.is_default {
        for mut other in plans(tables, txn, plan.account)? {
            if other.is_default && other.id != plan.id {
                other.is_default = false;
                put(txn, tables.plans, &other.id.0.to_be_bytes(), &other)?;
            }
        }
    }
    tables.account_plans.put(txn, &key(&[&plan.account.0.to_be_bytes(), &id]), NOTHING)?;
    put(txn, tables.plans, &id, plan)
}

/// Up to `limit` keys that begin with `prefix`, in order.
pub fn first_keys(txn: &RoTxn, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let mut note = |entry: heed::Result<(&[u8], &[u8])>| -> Result<()> {
        keys.push(entry?.0.to_vec());
        Ok(())
    };
    if prefix.is_empty() {
        table.iter(txn)?.take(limit).try_for_each(&mut note)?;
    } else {
        table.prefix_iter(txn, prefix)?.take(limit).try_for_each(&mut note)?;
    }
    Ok(keys)
}
