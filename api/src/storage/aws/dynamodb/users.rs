//! Accounts, users, sign-ins and retention plans.

use super::changes::{Changes, Tries};
use super::keys::{self, Places};
use super::store::Store;
use crate::account::{Account, Identity, RetentionPlan, SignIn, User, UserChange};
use crate::id::{AccountId, PlanId, UserId};
use crate::storage::{CreateError, Result, StorageError, UserQuery};
use lookback_wire::Timestamp;

/// See the trait.
const MAX_PLANS: usize = 100;

pub async fn account_by_name(store: &Store, name: &str) -> Result<Option<Account>> {
    match store.record(&keys::account_name(name)).await? {
        Some(id) => store.record(&keys::account(id)).await,
        None => Ok(None),
    }
}

pub async fn ensure_account(store: &Store, name: &str, now: Timestamp) -> Result<Account> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let name_key = keys::account_name(name);
        if let Some(id) = changes.get::<AccountId>(&name_key).await? {
            let found = store.record(&keys::account(id)).await?;
            let missing = || StorageError::Damaged(format!("{id} has a name and is not there"));
            return found.ok_or_else(missing);
        }
        let account = Account { id: AccountId::new(now), name: name.to_owned(), created_at: now };
        changes.put(name_key, &account.id)?;
        changes.put(keys::account(account.id), &account)?;
        put_plan(store, &mut changes, &RetentionPlan::first_of(account.id, now)).await?;
        if changes.commit().await? {
            return Ok(account);
        }
    }
}

pub async fn create_user(store: &Store, user: &User) -> Result<(), CreateError> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let name = keys::user_name(user.account, &user.name);
        if changes.get::<UserId>(&name).await?.is_some() {
            return Err(CreateError::Taken { field: "name" });
        }
        if let Some(Identity { issuer, subject, .. }) = &user.identity {
            let identity = keys::user_identity(user.account, issuer, subject);
            if changes.get::<UserId>(&identity).await?.is_some() {
                return Err(CreateError::Taken { field: "identity" });
            }
            changes.put(identity, &user.id)?;
        }
        changes.put(name, &user.id)?;
        changes.put(keys::user(user.id), user)?;
        if changes.commit().await? {
            return Ok(());
        }
    }
}

pub async fn change_user(store: &Store, id: UserId, change: &UserChange) -> Result<Option<User>> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::user(id);
        let Some(mut user) = changes.get::<User>(&key).await? else { return Ok(None) };
        let before = user.clone();
        change.clone().apply(&mut user);
        // Requests that come at once with an issuer's new token all say the same.
        if user == before {
            return Ok(Some(user));
        }
        changes.put(key, &user)?;
        if changes.commit().await? {
            return Ok(Some(user));
        }
    }
}

pub async fn users_by_id(store: &Store, ids: &[UserId]) -> Result<Vec<Option<User>>> {
    let keys: Vec<_> = ids.iter().map(|id| keys::user(*id)).collect();
    store.records(&keys).await
}

pub async fn page(store: &Store, account: AccountId, query: &UserQuery) -> Result<Vec<User>> {
    let after = query.after.as_ref().map(|name| keys::user_name(account, name).sort);
    let places = Places::new(keys::user_names(account), "", after);
    let ids: Vec<UserId> = store.list_records(&places, query.limit).await?;
    Ok(users_by_id(store, &ids).await?.into_iter().flatten().collect())
}

pub async fn user_by_name(store: &Store, account: AccountId, name: &str) -> Result<Option<User>> {
    match store.record(&keys::user_name(account, name)).await? {
        Some(id) => store.record(&keys::user(id)).await,
        None => Ok(None),
    }
}

pub async fn user_by_identity(
    store: &Store,
    account: AccountId,
    issuer: &str,
    subject: &str,
) -> Result<Option<User>> {
    match store.record(&keys::user_identity(account, issuer, subject)).await? {
        Some(id) => store.record(&keys::user(id)).await,
        None => Ok(None),
    }
}

pub async fn put_sign_in(store: &Store, sign_in: &SignIn) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        changes.put_until(keys::sign_in(sign_in.id), sign_in, sign_in.expires_at)?;
        if changes.commit().await? {
            return Ok(());
        }
    }
}

pub async fn rotate_sign_in(store: &Store, expected: [u8; 32], rotated: &SignIn) -> Result<bool> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        let key = keys::sign_in(rotated.id);
        let in_force: Option<SignIn> = changes.get(&key).await?;
        if in_force.is_none_or(|stored| stored.current != expected) {
            return Ok(false);
        }
        changes.put_until(key, rotated, rotated.expires_at)?;
        if changes.commit().await? {
            return Ok(true);
        }
    }
}

pub async fn plans(store: &Store, account: AccountId) -> Result<Vec<RetentionPlan>> {
    let ids: Vec<PlanId> = store.record(&keys::plans_of(account)).await?.unwrap_or_default();
    let plans = plans_by_id(store, &ids).await?;
    let mut plans: Vec<_> = plans.into_iter().flatten().collect();
    plans.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    Ok(plans)
}

pub async fn plans_by_id(store: &Store, ids: &[PlanId]) -> Result<Vec<Option<RetentionPlan>>> {
    let keys: Vec<_> = ids.iter().map(|id| keys::plan(*id)).collect();
    store.records(&keys).await
}

pub async fn replace_plan(store: &Store, plan: &RetentionPlan) -> Result<()> {
    let mut tries = Tries::new(store);
    loop {
        let mut changes = tries.next().await?;
        put_plan(store, &mut changes, plan).await?;
        if changes.commit().await? {
            return Ok(());
        }
    }
}

async fn put_plan(store: &Store, changes: &mut Changes<'_>, plan: &RetentionPlan) -> Result<()> {
    let stored: Option<RetentionPlan> = changes.get(&keys::plan(plan.id)).await?;
    if stored.as_ref().is_some_and(|stored| stored.account != plan.account) {
        return Err(StorageError::Damaged(format!("{} is of another account", plan.id)));
    }
    let list = keys::plans_of(plan.account);
    let mut ids: Vec<PlanId> = changes.get(&list).await?.unwrap_or_default();
    if !ids.contains(&plan.id) {
        if ids.len() >= MAX_PLANS {
            return Err(StorageError::Full(format!(
                "{} has {MAX_PLANS} plans, which is all that it may have",
                plan.account
            )));
        }
        ids.push(plan.id);
    }
    if plan.is_default {
        for other in plans_by_id(store, &ids).await?.into_iter().flatten() {
            if !other.is_default || other.id == plan.id {
                continue;
            }
            let key = keys::plan(other.id);
            if let Some(mut other) = changes.get::<RetentionPlan>(&key).await? {
                other.is_default = false;
                changes.put(key, &other)?;
            }
        }
    }
    // Written each time: two plans that become the default at once meet here.
    changes.put(list, &ids)?;
    changes.put(keys::plan(plan.id), plan)
}
