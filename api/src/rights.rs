//! What a caller may do now: the facts that [`decide`](crate::access::decide) needs, as the catalog
//! has them at this moment. For what outlives the request that it was decided for: an open upload, a
//! playback session.

use crate::access::{Action, Decision, Principal, Subject, Target, decide};
use crate::id::DeviceId;
use crate::storage::{Catalog, Result};
use lookback_wire::Timestamp;

/// The caller as the catalog has it now, with the role that it has now; `None` where the user was
/// disabled or is gone, or the credential has ended or was revoked.
pub async fn current(
    catalog: &dyn Catalog,
    principal: &Principal,
    now: Timestamp,
) -> Result<Option<Principal>> {
    let mut principal = principal.clone();
    let stands = match principal.subject {
        Subject::User(id) => catalog.user(id).await?.is_some_and(|user| {
            principal.role = user.role;
            !user.disabled && user.account == principal.account
        }),
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
