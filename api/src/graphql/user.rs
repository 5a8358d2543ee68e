//! `User` and how users are found and listed.

use super::asked::{Asked, asked};
use super::fault::{Fault, Maybe};
use super::pagination::{Cursor, Page, connection, page_size};
use super::viewer::Role;
use crate::access::{Action, Decision, Target};
use crate::account;
use crate::id::UserId;
use crate::storage::UserQuery;
use async_graphql::{Context, ID, Object, OneofObject};

const DEFAULT_PAGE: usize = 20;

#[derive(Clone)]
pub struct User(pub account::User);

/// A user of the account.
#[Object]
impl User {
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What the user signs in with, or is known by at the OIDC issuer; unique in the account.
    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn display_name(&self) -> &str {
        &self.0.display_name
    }

    /// Null for a caller who is not `ADMIN`.
    async fn role(&self, ctx: &Context<'_>) -> Maybe<Role> {
        let role = |asked: &Asked| Ok(asked.administrator()?.map(|_| self.0.role.into()));
        asked(ctx).and_then(role).transpose()
    }

    /// Whether signing in is refused.
    async fn disabled(&self) -> bool {
        self.0.disabled
    }
}

/// One user, named one way.
#[derive(Debug, OneofObject)]
pub enum UserRef {
    Id(ID),
    Name(String),
}

/// The user of an account who is named; whoever asks has to have a reason to know.
pub async fn named(asked: &Asked, by: UserRef) -> Result<Option<account::User>, Fault> {
    let account = asked.principal()?.account;
    let found = match by {
        UserRef::Id(id) => match id.parse() {
            Ok(id) => asked.loaders.users.get(id).await?,
            Err(_) => None,
        },
        UserRef::Name(name) => asked.service.storage.catalog.user_by_name(account, &name).await?,
    };
    Ok(found.filter(|user| user.account == account))
}

/// A user; `None` where it does not exist for the caller. Who manages a device sees with whom it is
/// shared.
pub async fn find(asked: &Asked, id: UserId) -> Result<Option<User>, Fault> {
    asked.principal()?;
    let Some(user) = asked.loaders.users.get(id).await? else { return Ok(None) };
    let target = Target::User { account: user.account, user: id };
    if asked.decide(Action::View, &target) == Decision::Allow {
        return Ok(Some(User(user)));
    }
    for share in asked.service.storage.catalog.shares_with(id).await? {
        let device = asked.loaders.devices.get(share.device).await?;
        let manages = device.is_some_and(|device| asked.may(Action::Manage, &device));
        if manages && share.is_in_force(asked.now()) {
            return Ok(Some(User(user)));
        }
    }
    Ok(None)
}

/// A page of the account's users; `None` for a caller who does not administer it.
pub async fn list(
    asked: &Asked,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Option<UserConnection>, Fault> {
    let Some(caller) = asked.administrator()? else { return Ok(None) };
    let limit = page_size(first, DEFAULT_PAGE, asked.limits().page_items)?;
    let after = Cursor::read(after, |cursor| match cursor {
        Cursor::User(name) => Some(name),
        _ => None,
    })?;
    let has_previous = after.is_some();
    let query = UserQuery { after, limit: limit + 1 };
    let mut users = asked.service.storage.catalog.users(caller.account, &query).await?;
    let has_next = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| has_next).map(|user| Cursor::User(user.name.clone()));
    let items = users.into_iter().map(|user| (Cursor::User(user.name.clone()), User(user)));
    Ok(Some(UserConnection(Page { items: items.collect(), has_previous, next })))
}

connection!(UserConnection, UserEdge, User);
