//! Who may do what: the one function that decides, from facts handed to it.

use crate::account::Role;
use crate::device::DeviceState;
use crate::id::{AccountId, CredentialId, DeviceId, UserId};
use lookback_wire::Timestamp;

/// Who calls, as a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub subject: Subject,
    pub account: AccountId,
    pub role: Role,
    pub expires_at: Timestamp,
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
            Self::Account(account) | Self::Device { account, .. } => account,
        }
    }
}

/// Decides. Deny first: what no rule allows is hidden.
///
/// Nothing crosses the border of an account. Roles cover every device of the account; a member has
/// only what shares give; a device has itself. A suspended or retired device takes nothing in from
/// anybody, and its footage still plays.
pub fn decide(principal: Option<&Principal>, action: Action, target: &Target) -> Decision {
    let Some(principal) = principal.filter(|p| p.account == target.account()) else {
        return Decision::Hide;
    };
    match *target {
        Target::Account(_) => on_account(principal.role, action),
        Target::Device { device, state, .. } => {
            let itself =
                matches!(principal.subject, Subject::Device { device: own, .. } if own == device);
            match on_device(principal.role, itself, action) {
                Decision::Allow if is_intake(action) && !takes_in(state) => Decision::Forbid,
                decision => decision,
            }
        }
    }
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

fn on_device(role: Role, itself: bool, action: Action) -> Decision {
    let allowed = match role {
        Role::Admin => true,
        Role::Manager => action != Action::Administer,
        Role::Viewer => matches!(action, Action::View | Action::ReadBack),
        Role::Device if itself => {
            matches!(action, Action::View | Action::Report | Action::Upload | Action::Tag)
        }
        Role::Member | Role::Device => return Decision::Hide,
    };
    if allowed { Decision::Allow } else { Decision::Forbid }
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
            Some(Principal { subject, account: ours, role, expires_at: NOW })
        };
        let itself = {
            let subject = Subject::Device { device: cam, credential: CredentialId::new(NOW) };
            Some(Principal { subject, account: ours, role: Role::Device, expires_at: NOW })
        };
        let script = {
            let subject = Subject::Service("script".into());
            Some(Principal { subject, account: ours, role: Role::Admin, expires_at: NOW })
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
            ("device", itself, &foreign, "HHHHHHHH"),
            ("pretender", pretender.clone(), &active, "HHHHHHHH"),
            ("pretender", pretender, &home, "FFFFFFFF"),
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
