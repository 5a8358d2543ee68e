//! What a caller may do now: the facts that [`decide`](crate::access::decide) needs, as the catalog
//! has them at this moment. For what outlives the request that it was decided for: an open upload, a
//! playback session.

use crate::access::{Action, Decision, Principal, Subject, Target, decide};
use crate::account::Role;
use crate::id::DeviceId;
use crate::storage::{Catalog, Result};
use lookback_wire::Timestamp;

/// The caller as the catalog has it now, with the role and the shares that it has now; `None` where
/// the user was disabled, shut out or is gone, or the credential has ended or was revoked.
pub async fn current(
    catalog: &dyn Catalog,
    principal: &Principal,
    now: Timestamp,
) -> Result<Option<Principal>> {
    let mut principal = principal.clone();
    let stands = match principal.subject {
        Subject::User(id) => match catalog.user(id).await? {
            Some(user) if user.may_come_in() && user.account == principal.account => {
                principal.role = user.role;
                principal.shares = match user.role {
                    Role::Viewer | Role::Member => catalog.shares_with(id).await?,
                    // They have all that a share could give.
                    Role::Admin | Role::Manager | Role::Device => Vec::new(),
                };
                principal.shares.retain(|share| share.is_in_force(now));
                true
            }
            _ => false,
        },
        Subject::Device { device, credential } => {
            let account = principal.account;
            catalog
                .credential(credential)
                .await?
                .is_some_and(|c| c.device == device && c.account == account && c.is_valid(now))
        }
        Subject::Service(_) => true,
    };
    Ok(stands.then_some(principal))
}

/// Decides anew. A caller who does not stand any more, a device that is gone: hidden.
pub async fn on_device(
    catalog: &dyn Catalog,
    principal: &Principal,
    action: Action,
    device: DeviceId,
    now: Timestamp,
) -> Result<Decision> {
    let Some(principal) = current(catalog, principal, now).await? else {
        return Ok(Decision::Hide);
    };
    let Some(device) = catalog.devices_by_id(&[device]).await?.pop().flatten() else {
        return Ok(Decision::Hide);
    };
    let target = Target::Device { account: device.account, device: device.id, state: device.state };
    Ok(decide(Some(&principal), action, &target))
}
