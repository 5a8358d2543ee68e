//! `updateUser`.

use super::asked::Asked;
use super::fault::Fault;
use super::register::MAX_NAME_CHARS;
use super::user::User;
use super::user_error::{UserError, UserErrorCode, text};
use super::viewer::Role;
use crate::access::Subject;
use crate::account::{self, UserChange};
use crate::audit::AuditAction;
use crate::id::UserId;
use async_graphql::{ID, InputObject, SimpleObject};

#[derive(Debug, InputObject)]
pub struct UpdateUserInput {
    id: ID,
    display_name: Option<String>,
    /// Refused where the OIDC issuer's claims decide it.
    role: Option<Role>,
    disabled: Option<bool>,
}

#[derive(SimpleObject)]
pub struct UpdateUserPayload {
    user: Option<User>,
    user_errors: Vec<UserError>,
}

pub async fn update(asked: &Asked, input: UpdateUserInput) -> Result<UpdateUserPayload, Fault> {
    let refused = |code, field: &str, message: String| {
        let user_errors = vec![UserError::at(code, &[field], message)];
        Ok(UpdateUserPayload { user: None, user_errors })
    };
    let caller = asked.administrator()?.ok_or(Fault::Forbidden)?;
    let known = match input.id.parse::<UserId>() {
        Ok(id) => asked.loaders.users.get(id).await?,
        Err(_) => None,
    };
    let Some(user) = known.filter(|user| user.account == caller.account) else {
        return refused(UserErrorCode::NotFound, "id", "there is no such user".into());
    };
    let display_name =
        input.display_name.map(|name| text("displayName", &name, MAX_NAME_CHARS)).transpose();
    let display_name = match display_name {
        Ok(name) => name,
        Err(mistake) => {
            return Ok(UpdateUserPayload { user: None, user_errors: vec![mistake] });
        }
    };
    let role = input.role.map(account::Role::from);
    if role == Some(account::Role::Device) {
        return refused(UserErrorCode::Invalid, "role", "a user cannot be a device".into());
    }
    let is_claimed = |identity| asked.service.issuers.decide_role_of(identity);
    if role.is_some_and(|role| role != user.role) && user.identity.as_ref().is_some_and(is_claimed)
    {
        let message = "the user's issuer decides the role";
        return refused(UserErrorCode::WrongState, "role", message.into());
    }
    // Whoever administers the account can always undo a change, and there is always somebody.
    if caller.subject == Subject::User(user.id) {
        let message = "nobody takes their own rights away; another administrator can";
        if role.is_some_and(|role| role != user.role) {
            return refused(UserErrorCode::WrongState, "role", message.into());
        }
        if input.disabled == Some(true) {
            return refused(UserErrorCode::WrongState, "disabled", message.into());
        }
    }
    let change =
        UserChange { display_name, role, disabled: input.disabled, ..UserChange::default() };
    let changed = asked.service.storage.catalog.change_user(user.id, change).await?;
    asked.loaders.users.forget(user.id).await;
    asked.note(AuditAction::Change, user.id).await;
    Ok(UpdateUserPayload { user: changed.map(User), user_errors: Vec::new() })
}
