//! Who somebody is here whom an issuer has named: found by issuer and subject, made where the
//! configuration lets them be made, and kept at what the newest token claims.

use super::token::Claims;
use crate::account::{Account, Identity, Role, User, UserChange};
use crate::audit::{self, AuditAction, Deed};
use crate::config;
use crate::id::UserId;
use crate::storage::{Catalog, CreateError, StorageError};
use lookback_wire::Timestamp;
use serde_json::Value;
use std::net::IpAddr;

/// As many as a subject may have bytes.
const MAX_NAME_CHARS: usize = 255;

/// Why somebody whom an issuer has named is nobody here.
#[derive(Debug, thiserror::Error)]
pub enum NobodyHere {
    #[error("the token's claims give no account here")]
    NoAccount,
    #[error("the token's claims give no role here")]
    NoRole,
    #[error("the token's subject is no user here")]
    NoUser,
    #[error("the name that the token claims is another user's")]
    NameTaken,
    /// The user is known, and may not come in: disabled, or without a role any more.
    #[error("the user may not come in any more")]
    ShutOut(Box<User>),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The user, who may use the service at `now`.
pub async fn known_by(
    catalog: &dyn Catalog,
    issuer: &config::Issuer,
    claims: &Claims,
    from: IpAddr,
    now: Timestamp,
) -> Result<User, NobodyHere> {
    let account = account(catalog, issuer, claims).await?;
    let found = catalog.user_by_identity(account.id, &issuer.url, &claims.subject).await?;
    let role = claimed_role(issuer, claims);
    let (user, is_changed) = match found {
        Some(user) if user.disabled => return Err(NobodyHere::ShutOut(Box::new(user))),
        Some(user) => follow(catalog, issuer, claims, user, role).await?,
        None if issuer.create_users => {
            let role = role.ok_or(NobodyHere::NoRole)?;
            (create(catalog, issuer, claims, &account, role, now).await?, true)
        }
        None => return Err(NobodyHere::NoUser),
    };
    if is_changed {
        let deed = Deed {
            account: account.id,
            actor: Some(user.id.to_string()),
            action: AuditAction::Change,
            target: Some(user.id.to_string()),
            address: from,
        };
        audit::note(catalog, deed, now).await;
    }
    let is_without_role = role.is_none() && issuer.decides_roles();
    if is_without_role || !user.may_come_in() {
        return Err(NobodyHere::ShutOut(Box::new(user)));
    }
    Ok(user)
}

async fn account(
    catalog: &dyn Catalog,
    issuer: &config::Issuer,
    claims: &Claims,
) -> Result<Account, NobodyHere> {
    let name = match &issuer.account_claim {
        Some(claim) => text(claims, claim).ok_or(NobodyHere::NoAccount)?,
        None => &issuer.account,
    };
    catalog.account_by_name(name).await?.ok_or(NobodyHere::NoAccount)
}

/// The user as the record is once it follows the claims, and whether they say something else than
/// those before. That the newest token gives no role is written down: it ends all that the user has
/// open here, and no older token opens anything again.
async fn follow(
    catalog: &dyn Catalog,
    issuer: &config::Issuer,
    claims: &Claims,
    user: User,
    role: Option<Role>,
) -> Result<(User, bool), NobodyHere> {
    let Some(identity) = user.identity.as_ref() else { return Ok((user, false)) };
    if identity.followed_at >= Some(claims.issued_at) {
        return Ok((user, false));
    }
    let decides_role = issuer.decides_roles();
    let shut_out = decides_role && role.is_none();
    // Where roles are given here, the one that a user was made with is not given again.
    let role = role.filter(|_| decides_role);
    let display_name = name(claims, &issuer.display_name_claim);
    let is_same = shut_out == identity.shut_out
        && role.is_none_or(|role| role == user.role)
        && display_name.is_none_or(|name| name == user.display_name);
    // A role that is said again is followed again: a token from before this one is too old then.
    if is_same && !decides_role {
        return Ok((user, false));
    }
    let change = UserChange {
        role,
        display_name: display_name.map(str::to_owned),
        disabled: None,
        claimed_at: Some(claims.issued_at),
        shut_out,
    };
    let changed = catalog.change_user(user.id, change).await?.ok_or(NobodyHere::NoUser)?;
    Ok((changed, !is_same))
}

async fn create(
    catalog: &dyn Catalog,
    issuer: &config::Issuer,
    claims: &Claims,
    account: &Account,
    role: Role,
    now: Timestamp,
) -> Result<User, NobodyHere> {
    let subject = &claims.subject;
    let wanted = name(claims, &issuer.name_claim).unwrap_or(subject);
    let display_name = name(claims, &issuer.display_name_claim).unwrap_or(wanted);
    // Nobody gets a name that is somebody's: what is shared with that name is theirs.
    for name in [wanted.to_owned(), format!("{wanted} ({})", issuer.name)] {
        let user = User {
            id: UserId::new(now),
            account: account.id,
            name,
            display_name: display_name.to_owned(),
            role,
            password_hash: None,
            identity: Some(Identity::new(
                issuer.url.clone(),
                subject.clone(),
                Some(claims.issued_at),
            )),
            time_zone: None,
            disabled: false,
            created_at: now,
        };
        match catalog.create_user(user.clone()).await {
            Ok(()) => return Ok(user),
            Err(CreateError::Taken { field: "identity" }) => {
                // Another request of the same user was faster.
                let found = catalog.user_by_identity(account.id, &issuer.url, subject).await?;
                return found.ok_or(NobodyHere::NoUser);
            }
            Err(CreateError::Storage(e)) => return Err(e.into()),
            Err(_) => {}
        }
    }
    Err(NobodyHere::NameTaken)
}

/// What the claims make of somebody: of all roles that they give, the one that allows most.
fn claimed_role(issuer: &config::Issuer, claims: &Claims) -> Option<Role> {
    let given = issuer.role_claim.as_ref().and_then(|claim| find(claims, claim));
    let values: Vec<&str> = match given {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let roles: Vec<Role> =
        values.iter().filter_map(|value| issuer.roles.get(*value)).copied().collect();
    [Role::Admin, Role::Manager, Role::Viewer, Role::Member]
        .into_iter()
        .find(|role| roles.contains(role))
        .or(issuer.default_role)
}

/// A claim that can be shown as a name.
fn name<'a>(claims: &'a Claims, claim: &str) -> Option<&'a str> {
    text(claims, claim).filter(|name| {
        (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    })
}

fn text<'a>(claims: &'a Claims, claim: &str) -> Option<&'a str> {
    find(claims, claim).and_then(Value::as_str)
}

/// A claim by its name or, where that begins with a slash, by its path (RFC 6901), as in
/// `/realm_access/roles`.
fn find<'a>(claims: &'a Claims, claim: &str) -> Option<&'a Value> {
    if claim.starts_with('/') { claims.all.pointer(claim) } else { claims.all.get(claim) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Principal, Subject};
    use crate::rights;
    use crate::storage::embedded;
    use serde_json::json;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn issuer(more: &str) -> config::Issuer {
        let toml = format!("[[issuers]]\nname = 'corp'\nurl = 'https://id.example'\n{more}");
        let config: config::Config = toml::from_str(&toml).unwrap();
        config.check().unwrap();
        config.issuers.into_iter().next().unwrap()
    }

    fn claims(issued_s: i64, all: Value) -> Claims {
        Claims {
            subject: all["sub"].as_str().unwrap().into(),
            issued_at: NOW.plus_millis(issued_s * 1000),
            expires_at: NOW.plus_millis(issued_s * 1000 + 900_000),
            all,
        }
    }

    async fn catalog(dir: &tempfile::TempDir) -> Arc<dyn Catalog> {
        let catalog = embedded::open_catalog(dir.path()).unwrap();
        catalog.ensure_account("default", NOW).await.unwrap();
        catalog.ensure_account("acme", NOW).await.unwrap();
        catalog
    }

    const ROLES: &str = "role_claim = '/realm/roles'\n\
        roles = { boss = 'ADMIN', guard = 'VIEWER', guest = 'MEMBER' }\n";

    /// What becomes of somebody who comes for the first time.
    #[tokio::test]
    async fn nobody_is_let_in_whom_the_configuration_does_not_name() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir).await;
        let made = "create_users = true\n";
        let roles = |roles: Value| json!({"sub": "x", "realm": {"roles": roles}});
        let table = [
            ("", json!({"sub": "x"}), Err("no user")),
            (made, json!({"sub": "x"}), Err("no role")),
            ("default_role = 'VIEWER'", json!({"sub": "x"}), Err("no user")),
            (&*format!("{made}{ROLES}"), json!({"sub": "x"}), Err("no role")),
            (&*format!("{made}{ROLES}"), roles(json!(["else"])), Err("no role")),
            (&*format!("{made}{ROLES}"), roles(json!({"boss": true})), Err("no role")),
            (&*format!("{made}{ROLES}"), json!({"sub": "x", "roles": ["boss"]}), Err("no role")),
            (&*format!("{made}account_claim = 'org'"), json!({"sub": "x"}), Err("no account")),
            (
                &*format!("{made}default_role = 'VIEWER'\naccount_claim = 'org'"),
                json!({"sub": "x", "org": "nowhere"}),
                Err("no account"),
            ),
            (&*format!("{made}account = 'nowhere'"), json!({"sub": "x"}), Err("no account")),
            (&*format!("{made}default_role = 'MEMBER'"), json!({"sub": "a"}), Ok(Role::Member)),
            (
                &*format!("{made}default_role = 'MEMBER'\naccount_claim = 'org'"),
                json!({"sub": "a", "org": "acme"}),
                Ok(Role::Member),
            ),
            (
                &*format!("{made}{ROLES}"),
                json!({"sub": "b", "realm": {"roles": "guard"}}),
                Ok(Role::Viewer),
            ),
            (
                &*format!("{made}{ROLES}"),
                json!({"sub": "c", "realm": {"roles": ["guest", "boss", 7, "else"]}}),
                Ok(Role::Admin),
            ),
        ];
        for (settings, all, expected) in table {
            let issuer = issuer(settings);
            let found = known_by(&*catalog, &issuer, &claims(0, all.clone()), HERE, NOW).await;
            match (found, expected) {
                (Ok(user), Ok(role)) => assert_eq!(user.role, role, "{settings} {all}"),
                (Err(e), Err(part)) => {
                    assert!(e.to_string().contains(part), "{settings} {all}: {e}");
                }
                (found, _) => panic!("{settings} {all}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_user_follows_the_newest_claims_and_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir).await;
        let issuer = issuer(&format!("create_users = true\n{ROLES}"));
        let ann = |issued_s, role: &str| {
            claims(issued_s, json!({"sub": "1", "name": "Ann", "realm": {"roles": [role]}}))
        };
        let first = known_by(&*catalog, &issuer, &ann(10, "guard"), HERE, NOW).await.unwrap();
        assert_eq!((&*first.name, &*first.display_name), ("1", "Ann"));
        let caller = Principal {
            subject: Subject::User(first.id),
            account: first.account,
            role: first.role,
            shares: Vec::new(),
            expires_at: NOW,
        };
        for (issued_s, role, expected) in [
            (20, "boss", Some(Role::Admin)),
            (10, "guard", Some(Role::Admin)),
            (30, "guard", Some(Role::Viewer)),
            (20, "boss", Some(Role::Viewer)),
            (50, "guard", Some(Role::Viewer)),
            // Never used while it was the newest.
            (40, "boss", Some(Role::Viewer)),
            (60, "else", None),
            (55, "boss", None),
            (50, "guard", None),
            (70, "boss", Some(Role::Admin)),
            // Too old to take anything away, and good for nothing.
            (65, "else", None),
        ] {
            let known = known_by(&*catalog, &issuer, &ann(issued_s, role), HERE, NOW).await;
            match (known, expected) {
                (Ok(user), Some(role)) => {
                    assert_eq!((user.id, user.role), (first.id, role), "{issued_s}");
                }
                (Err(NobodyHere::ShutOut(user)), None) => assert_eq!(user.id, first.id),
                (known, _) => panic!("{issued_s}: {known:?}"),
            }
            // What is open by a token of ours lives by the newest of theirs.
            let stands = rights::current(&*catalog, &caller, NOW).await.unwrap().is_some();
            assert_eq!(stands, expected.is_some() || issued_s == 65, "{issued_s}");
        }
        let disable = UserChange { disabled: Some(true), ..UserChange::default() };
        catalog.change_user(first.id, disable).await.unwrap();
        let disabled = known_by(&*catalog, &issuer, &ann(80, "boss"), HERE, NOW).await;
        assert!(matches!(disabled, Err(NobodyHere::ShutOut(_))), "{disabled:?}");
    }

    #[tokio::test]
    async fn nobody_takes_anothers_name() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir).await;
        let issuer = issuer(
            "create_users = true\ndefault_role = 'MEMBER'\nname_claim = 'preferred_username'",
        );
        let called =
            |sub: &str, name: &str| claims(0, json!({"sub": sub, "preferred_username": name}));
        let line = "a\nb";
        for (sub, name, expected) in [
            ("1", "ann", Some("ann")),
            ("2", "ann", Some("ann (corp)")),
            ("3", "ann", None),
            ("4", line, Some("4")),
            ("5", "", Some("5")),
        ] {
            let user = known_by(&*catalog, &issuer, &called(sub, name), HERE, NOW).await;
            assert_eq!(user.ok().map(|user| user.name).as_deref(), expected, "{sub}");
        }
    }
}
