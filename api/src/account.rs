//! Accounts, their users and their retention plans.

use crate::id::{AccountId, PlanId, SignInId, UserId};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// A camera maker or an installation; nothing crosses its border.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub name: String,
    pub created_at: Timestamp,
}

/// What a token may do in its account; see the contract's `Role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    Admin,
    Manager,
    Viewer,
    Member,
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub account: AccountId,
    /// What the user signs in with; unique in the account.
    pub name: String,
    pub display_name: String,
    pub role: Role,
    /// Argon2id in PHC form; none where an issuer elsewhere signs the user in.
    pub password_hash: Option<String>,
    /// Who the user is at an OIDC issuer; unique in the account.
    pub identity: Option<Identity>,
    /// An IANA zone, for showing times.
    pub time_zone: Option<String>,
    pub disabled: bool,
    pub created_at: Timestamp,
}

/// Somebody whom an OIDC issuer knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer's URL, as its tokens say it.
    pub issuer: String,
    /// What the issuer never gives to anybody else.
    pub subject: String,
    /// When the newest token was issued whose claims the user's record follows; none where it
    /// follows no token.
    pub followed_at: Option<Timestamp>,
    /// Whether that token gave no role: until a newer one does, the user may not come in.
    #[serde(default)]
    pub shut_out: bool,
}

impl Identity {
    /// Of somebody whose record follows the token issued then, if any.
    pub fn new(issuer: String, subject: String, followed_at: Option<Timestamp>) -> Self {
        Self { issuer, subject, followed_at, shut_out: false }
    }
}

impl User {
    /// Whether the user may use the service at all.
    pub fn may_come_in(&self) -> bool {
        !self.disabled && !self.identity.as_ref().is_some_and(|identity| identity.shut_out)
    }
}

/// What is changed of a user; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    pub display_name: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    /// When the token was issued that claims all this; nothing of it counts where the record follows
    /// a newer one.
    pub claimed_at: Option<Timestamp>,
    /// Whether that token gives no role.
    pub shut_out: bool,
}

impl UserChange {
    /// Makes the change to a record.
    pub fn apply(self, user: &mut User) {
        let Self { display_name, role, disabled, claimed_at, shut_out } = self;
        if let Some(identity) = &mut user.identity
            && claimed_at.is_some()
        {
            if identity.followed_at > claimed_at {
                return;
            }
            identity.followed_at = claimed_at;
            identity.shut_out = shut_out;
        }
        if let Some(display_name) = display_name {
            user.display_name = display_name;
        }
        user.role = role.unwrap_or(user.role);
        user.disabled = disabled.unwrap_or(user.disabled);
    }
}

/// One sign-in: the refresh token in force and the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    pub id: SignInId,
    pub user: UserId,
    /// SHA-256 of the token in force.
    pub current: [u8; 32],
    pub previous: Option<[u8; 32]>,
    pub rotated_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it ends however much it is used: whoever was signed in by an issuer elsewhere has to be
    /// known there now and then.
    pub ends_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionMode {
    Continuous,
    EventOnly,
}

/// How footage is kept; what a camera maker sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPlan {
    pub id: PlanId,
    pub account: AccountId,
    pub name: String,
    pub mode: RetentionMode,
    /// Rolling, counted from arrival; 1 to 3650.
    pub days: u32,
    pub pre_roll_s: u32,
    pub post_roll_s: u32,
    pub storage_quota_bytes: Option<u64>,
    pub is_default: bool,
}

impl RetentionPlan {
    /// The plan that an account begins with: everything for 7 days.
    pub fn first_of(account: AccountId, now: Timestamp) -> Self {
        Self {
            id: PlanId::new(now),
            account,
            name: "7 days".into(),
            mode: RetentionMode::Continuous,
            days: 7,
            pre_roll_s: 10,
            post_roll_s: 20,
            storage_quota_bytes: None,
            is_default: true,
        }
    }
}
