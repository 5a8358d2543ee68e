//! Who may do what: the one function that decides, from facts handed to it.

use crate::account::Role;
use crate::device::DeviceState;
use crate::id::{AccountId, CredentialId, DeviceId, ShareId, UserId};
use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// Shares of one device: they are listed in one answer. A household with its guests has a dozen.
pub const MAX_SHARES_OF_DEVICE: usize = 100;
/// Shares with one user: all are read with each of the user's requests. Who has to see more devices
/// has a role.
pub const MAX_SHARES_WITH_USER: usize = 500;

/// Who calls, as a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub subject: Subject,
    pub account: AccountId,
    pub role: Role,
    /// Those in force, where the caller is a user whom they can open anything to.
    pub shares: Vec<Share>,
    pub expires_at: Timestamp,
}

/// A user's access to a device beyond the user's role in the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub id: ShareId,
    pub account: AccountId,
    pub device: DeviceId,
    pub user: UserId,
    pub role: DeviceRole,
    /// By the service's clock; none until it is revoked.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl Share {
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// What a caller may do with one device; the later includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeviceRole {
    Viewer,
    Manager,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(UserId),
    Device {
        device: DeviceId,
        credential: CredentialId,
    },
    /// A script, by a token from `lookback token`.
    Service(String),
}

impl Subject {
    /// The user's, device's or service's identifier.
    pub fn id(&self) -> String {
        match self {
            Self::User(user) => user.to_string(),
            Self::Device { device, .. } => device.to_string(),
            Self::Service(name) => name.clone(),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See a device, its footage and events; play it.
    View,
    /// Change, share, retire a device.
    Manage,
    /// Announce segments and events, report heartbeats, ask for an upload grant: the device itself.
    Report,
    /// PutMedia, and where to send it.
    Upload,
    /// Put tags on a media stream.
    Tag,
    /// Read through the Kinesis API what a producer has no use for: footage and settings.
    ReadBack,
    /// Make a device known.
    Register,
    /// Users, plans, webhooks, the audit log.
    Administer,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Account(AccountId),
    Device { account: AccountId, device: DeviceId, state: DeviceState },
    User { account: AccountId, user: UserId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The caller may see the object and not do this to it.
    Forbid,
    /// For this caller the object does not exist.
    Hide,
}

impl Target {
    pub fn account(&self) -> AccountId {
        match *self {
            Self::Account(account) | Self::Device { account, .. } | Self::User { account, .. } => {
                account
            }
        }
    }
}

/// Decides. Deny first: what no rule allows is hidden.
///
/// Nothing crosses the border of an account. Roles cover every device of the account; shares give
/// more on single ones, and a member has nothing else; a device has itself. A suspended or retired device takes nothing in from
/// anybody, and its footage still plays.
pub fn decide(principal: Option<&Principal>, action: Action, target: &Target) -> Decision {
    let Some(principal) = principal.filter(|p| p.account == target.account()) else {
        return Decision::Hide;
    };
    match *target {
        Target::Account(_) => on_account(principal.role, action),
        Target::Device { device, state, .. } => match on_device(principal, device, action) {
            Decision::Allow if is_intake(action) && !takes_in(state) => Decision::Forbid,
            decision => decision,
        },
        Target::User { user, .. } => on_user(principal, user, action),
    }
}

/// The share by which the caller is something to a device that its role does not make it.
pub fn share_needed(principal: &Principal, wanted: DeviceRole, device: DeviceId) -> Option<&Share> {
    let is_needed = device_role(principal.role) < Some(wanted);
    share_of(principal, device).filter(|share| is_needed && share.role >= wanted)
}

/// Everybody knows of the own account, so nothing of it is hidden.
fn on_account(role: Role, action: Action) -> Decision {
    let allowed = match role {
        Role::Admin => true,
        Role::Manager => action != Action::Administer,
        Role::Viewer => action == Action::View,
        Role::Member | Role::Device => false,
    };
    if allowed { Decision::Allow } else { Decision::Forbid }
}

fn on_device(principal: &Principal, device: DeviceId, action: Action) -> Decision {
    let itself = matches!(principal.subject, Subject::Device { device: own, .. } if own == device);
    let shared = share_of(principal, device).map(|share| share.role);
    let allowed = match device_role(principal.role).max(shared) {
        _ if principal.role == Role::Admin => true,
        _ if principal.role == Role::Device && itself => {
            matches!(action, Action::View | Action::Report | Action::Upload | Action::Tag)
        }
        Some(DeviceRole::Manager) => action != Action::Administer,
        Some(DeviceRole::Viewer) => matches!(action, Action::View | Action::ReadBack),
        None => return Decision::Hide,
    };
    if allowed { Decision::Allow } else { Decision::Forbid }
}

/// What a role gives on every device of the account.
fn device_role(role: Role) -> Option<DeviceRole> {
    match role {
        Role::Admin | Role::Manager => Some(DeviceRole::Manager),
        Role::Viewer => Some(DeviceRole::Viewer),
        Role::Member | Role::Device => None,
    }
}

fn share_of(principal: &Principal, device: DeviceId) -> Option<&Share> {
    principal.shares.iter().find(|share| share.device == device)
}

fn on_user(principal: &Principal, user: UserId, action: Action) -> Decision {
    match principal.role {
        Role::Admin => Decision::Allow,
        _ if principal.subject != Subject::User(user) => Decision::Hide,
        _ if action == Action::View => Decision::Allow,
        _ => Decision::Forbid,
    }
}

fn is_intake(action: Action) -> bool {
    matches!(action, Action::Report | Action::Upload)
}

fn takes_in(state: DeviceState) -> bool {
    matches!(state, DeviceState::Provisioned | DeviceState::Active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    const ACTIONS: [Action; 8] =
        [View, Manage, Report, Upload, Tag, ReadBack, Register, Administer];
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// One row: who, on what, and a letter for each of `ACTIONS`: Allow, Forbid, Hide.
    #[test]
    fn the_whole_table() {
        let (ours, theirs) = (AccountId::new(NOW), AccountId::new(NOW));
        let (cam, other) = (DeviceId::new(NOW), DeviceId::new(NOW));
        let device = |device, state| Target::Device { account: ours, device, state };
        let active = device(cam, DeviceState::Active);
        let provisioned = device(cam, DeviceState::Provisioned);
        let suspended = device(cam, DeviceState::Suspended);
        let retired = device(cam, DeviceState::Retired);
        let not_it = device(other, DeviceState::Active);
        let abroad = Target::Device { account: theirs, device: cam, state: DeviceState::Active };
        let (home, foreign) = (Target::Account(ours), Target::Account(theirs));

        let user = |role| {
            let subject = Subject::User(UserId::new(NOW));
            Some(Principal { subject, account: ours, role, shares: Vec::new(), expires_at: NOW })
        };
        let shared = |role, shared| {
            let principal = user(role);
            principal.map(|principal| {
                let Subject::User(user) = principal.subject else { return principal };
                let share = Share {
                    id: ShareId::new(NOW),
                    account: ours,
                    device: cam,
                    user,
                    role: shared,
                    expires_at: None,
                    created_at: NOW,
                };
                Principal { shares: vec![share], ..principal }
            })
        };
        let me = UserId::new(NOW);
        let somebody = Target::User { account: ours, user: UserId::new(NOW) };
        let myself = |role| {
            let subject = Subject::User(me);
            Some(Principal { subject, account: ours, role, shares: Vec::new(), expires_at: NOW })
        };
        let my_record = Target::User { account: ours, user: me };
        let itself = {
            let subject = Subject::Device { device: cam, credential: CredentialId::new(NOW) };
            let (role, shares) = (Role::Device, Vec::new());
            Some(Principal { subject, account: ours, role, shares, expires_at: NOW })
        };
        let script = {
            let subject = Subject::Service("script".into());
            let (role, shares) = (Role::Admin, Vec::new());
            Some(Principal { subject, account: ours, role, shares, expires_at: NOW })
        };
        // A device's role in a token that is no device's covers nothing.
        let pretender = user(Role::Device);

        //                                        V M R U Tag Read Reg Adm
        let table = [
            ("anonymous", None, &active, "HHHHHHHH"),
            ("anonymous", None, &home, "HHHHHHHH"),
            ("admin", user(Role::Admin), &active, "AAAAAAAA"),
            ("admin", user(Role::Admin), &provisioned, "AAAAAAAA"),
            ("admin", user(Role::Admin), &suspended, "AAFFAAAA"),
            ("admin", user(Role::Admin), &retired, "AAFFAAAA"),
            ("admin", user(Role::Admin), &abroad, "HHHHHHHH"),
            ("admin", user(Role::Admin), &home, "AAAAAAAA"),
            ("admin", user(Role::Admin), &foreign, "HHHHHHHH"),
            ("script", script.clone(), &active, "AAAAAAAA"),
            ("script", script, &abroad, "HHHHHHHH"),
            ("manager", user(Role::Manager), &active, "AAAAAAAF"),
            ("manager", user(Role::Manager), &provisioned, "AAAAAAAF"),
            ("manager", user(Role::Manager), &suspended, "AAFFAAAF"),
            ("manager", user(Role::Manager), &retired, "AAFFAAAF"),
            ("manager", user(Role::Manager), &abroad, "HHHHHHHH"),
            ("manager", user(Role::Manager), &home, "AAAAAAAF"),
            ("manager", user(Role::Manager), &foreign, "HHHHHHHH"),
            ("viewer", user(Role::Viewer), &active, "AFFFFAFF"),
            ("viewer", user(Role::Viewer), &suspended, "AFFFFAFF"),
            ("viewer", user(Role::Viewer), &retired, "AFFFFAFF"),
            ("viewer", user(Role::Viewer), &abroad, "HHHHHHHH"),
            ("viewer", user(Role::Viewer), &home, "AFFFFFFF"),
            ("viewer", user(Role::Viewer), &foreign, "HHHHHHHH"),
            ("member", user(Role::Member), &active, "HHHHHHHH"),
            ("member", user(Role::Member), &retired, "HHHHHHHH"),
            ("member", user(Role::Member), &abroad, "HHHHHHHH"),
            ("member", user(Role::Member), &home, "FFFFFFFF"),
            ("member", user(Role::Member), &foreign, "HHHHHHHH"),
            ("device", itself.clone(), &active, "AFAAAFFF"),
            ("device", itself.clone(), &provisioned, "AFAAAFFF"),
            ("device", itself.clone(), &suspended, "AFFFAFFF"),
            ("device", itself.clone(), &retired, "AFFFAFFF"),
            ("device", itself.clone(), &not_it, "HHHHHHHH"),
            ("device", itself.clone(), &abroad, "HHHHHHHH"),
            ("device", itself.clone(), &home, "FFFFFFFF"),
            ("device", itself.clone(), &foreign, "HHHHHHHH"),
            ("pretender", pretender.clone(), &active, "HHHHHHHH"),
            ("pretender", pretender, &home, "FFFFFFFF"),
            ("shown it", shared(Role::Member, DeviceRole::Viewer), &active, "AFFFFAFF"),
            ("shown it", shared(Role::Member, DeviceRole::Viewer), &suspended, "AFFFFAFF"),
            ("shown it", shared(Role::Member, DeviceRole::Viewer), &not_it, "HHHHHHHH"),
            ("shown it", shared(Role::Member, DeviceRole::Viewer), &abroad, "HHHHHHHH"),
            ("shown it", shared(Role::Member, DeviceRole::Viewer), &home, "FFFFFFFF"),
            ("owner", shared(Role::Member, DeviceRole::Manager), &active, "AAAAAAAF"),
            ("owner", shared(Role::Member, DeviceRole::Manager), &retired, "AAFFAAAF"),
            ("owner", shared(Role::Member, DeviceRole::Manager), &not_it, "HHHHHHHH"),
            ("owner", shared(Role::Member, DeviceRole::Manager), &home, "FFFFFFFF"),
            ("more", shared(Role::Viewer, DeviceRole::Manager), &active, "AAAAAAAF"),
            ("more", shared(Role::Viewer, DeviceRole::Manager), &not_it, "AFFFFAFF"),
            ("no less", shared(Role::Manager, DeviceRole::Viewer), &active, "AAAAAAAF"),
            ("admin", myself(Role::Admin), &somebody, "AAAAAAAA"),
            ("manager", myself(Role::Manager), &somebody, "HHHHHHHH"),
            ("manager", myself(Role::Manager), &my_record, "AFFFFFFF"),
            ("member", myself(Role::Member), &my_record, "AFFFFFFF"),
            ("device", itself, &somebody, "HHHHHHHH"),
        ];
        for (who, principal, target, expected) in table {
            let letters: String = ACTIONS
                .iter()
                .map(|&action| match decide(principal.as_ref(), action, target) {
                    Decision::Allow => 'A',
                    Decision::Forbid => 'F',
                    Decision::Hide => 'H',
                })
                .collect();
            assert_eq!(letters, expected, "{who} on {target:?}");
        }
    }
}
