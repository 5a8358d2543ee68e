//! Who is at the other end of a connection that changes are sent on, and until when.

use super::asked::Asked;
use super::loader::Loaders;
use crate::access::Principal;
use crate::feed::{Connection, Kind, Subscription};
use crate::rates;
use crate::rights;
use crate::service::Service;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How often the caller's rights are looked up again; what is withdrawn ends within 5 s.
const RIGHTS_EVERY: Duration = Duration::from_secs(3);
/// How long that may take: with the above it is below those 5 s.
const RIGHTS_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A caller with an open connection.
pub struct Subscriber {
    service: Arc<Service>,
    /// As the rights are now; none without a token.
    caller: watch::Sender<Option<Principal>>,
    base_url: String,
    address: IpAddr,
    too_slow: Arc<Notify>,
    _connection: Option<Connection>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The token's time is over.
    Expired,
    /// The user was disabled, or the credential revoked.
    Withdrawn,
    /// Whether the caller still has its rights could not be told in time.
    Unconfirmed,
    /// The role is another one, or a share has ended; what is left can be asked for anew.
    RightsChanged,
    /// Changes came faster than they were taken.
    TooSlow,
    /// The service is on its way down.
    Stopping,
}

impl Subscriber {
    /// `None` where the caller has as many connections as it may.
    pub fn new(
        service: Arc<Service>,
        caller: Option<Principal>,
        base_url: String,
        address: IpAddr,
    ) -> Option<Self> {
        let most = service.config.limits.sockets_per_user;
        let connection = match &caller {
            Some(_) => {
                let counted = rates::Caller::of(caller.as_ref(), address);
                Some(service.feed.connect(counted, most)?)
            }
            None => None,
        };
        let (caller, too_slow) = (watch::Sender::new(caller), Arc::default());
        Some(Self { service, caller, base_url, address, too_slow, _connection: connection })
    }

    /// A request of its own for one change, so that nothing is answered from what was so before.
    pub fn asked(&self) -> Asked {
        Asked {
            service: self.service.clone(),
            principal: self.caller.borrow().clone(),
            base_url: self.base_url.clone(),
            address: self.address,
            loaders: Loaders::new(&self.service.storage),
        }
    }

    /// The caller, whenever its rights change.
    pub fn caller(&self) -> watch::Receiver<Option<Principal>> {
        self.caller.subscribe()
    }

    /// Listens for changes of a kind. Where they are not taken in time, the connection ends.
    pub fn listen(&self, kind: Kind) -> Subscription {
        let queued = self.service.config.limits.socket_queue;
        self.service.feed.subscribe(kind, queued, self.too_slow.clone())
    }

    /// Keeps the caller's rights up to date until the connection has to end; answers why.
    pub async fn end(&self) -> End {
        tokio::select! {
            end = self.follow_rights() => end,
            () = self.too_slow.notified() => End::TooSlow,
            () = self.service.stopping() => End::Stopping,
        }
    }

    async fn follow_rights(&self) -> End {
        loop {
            let Some(known) = self.caller.borrow().clone() else {
                return std::future::pending().await;
            };
            let left_ms = known.expires_at.millis_since(self.service.clock.now()).max(0);
            let left = Duration::from_millis(left_ms.unsigned_abs());
            tokio::time::sleep(left.min(RIGHTS_EVERY)).await;
            let now = self.service.clock.now();
            if now >= known.expires_at {
                return End::Expired;
            }
            let current = rights::current(&*self.service.storage.catalog, &known, now);
            match tokio::time::timeout(RIGHTS_TIMEOUT, current).await {
                Ok(Ok(None)) => return End::Withdrawn,
                Ok(Ok(Some(current))) if has_less(&current, &known) => return End::RightsChanged,
                Ok(Ok(Some(current))) if current == known => {}
                Ok(Ok(Some(current))) => {
                    self.caller.send_replace(Some(current));
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a subscriber's rights were not looked up");
                    return End::Unconfirmed;
                }
                Err(_) => {
                    tracing::warn!("a subscriber's rights were not looked up in time");
                    return End::Unconfirmed;
                }
            }
        }
    }
}

/// Whether anything that was opened to a caller is not any more.
fn has_less(now: &Principal, before: &Principal) -> bool {
    now.role != before.role || !before.shares.iter().all(|share| now.shares.contains(share))
}
