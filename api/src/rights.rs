//! What a caller may do now: the facts that [`decide`](crate::access::decide) needs, as the catalog
//! has them at this moment. For what outlives the request that it was decided for: an open upload, a
//! playback session.

use crate::access::{Action, Decision, Principal, Subject, Target, decide};
use crate::id::DeviceId;
use crate::storage::{Catalog, Result};
use lookback_wire::Timestamp;

/// Decides anew. A user who was disabled, a credential that ended, a device that is gone: hidden.
pub async fn on_device(
    catalog: &dyn Catalog,
    principal: &Principal,
    action: Action,
    device: DeviceId,
    now: Timestamp,
) -> Result<Decision> {
    let mut principal = principal.clone();
    match principal.subject {
        Subject::User(id) => match catalog.user(id).await? {
            Some(user) if !user.disabled && user.account == principal.account => {
                principal.role = user.role;
            }
            _ => return Ok(Decision::Hide),
        },
        Subject::Device { device, credential } => {
            let credential = catalog.credential(credential).await?;
            if !credential.is_some_and(|c| c.device == device && c.is_valid(now)) {
                return Ok(Decision::Hide);
            }
        }
        Subject::Service(_) => {}
    }
    let Some(device) = catalog.devices_by_id(&[device]).await?.pop().flatten() else {
        return Ok(Decision::Hide);
    };
    let target = Target::Device { account: device.account, device: device.id, state: device.state };
    Ok(decide(Some(&principal), action, &target))
}
