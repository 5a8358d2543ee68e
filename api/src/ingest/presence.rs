//! Which devices are heard of, so that those who watch them learn when one comes and when one goes.

use super::announce::HEARTBEAT_S;
use crate::feed::Change;
use crate::id::{AccountId, DeviceId};
use crate::service::Service;
use crate::storage::Result;
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// A device that was heard of within this is online: 60 s, or twice its advised interval.
pub const ONLINE_MS: i64 = if HEARTBEAT_S * 2_000 > 60_000 { HEARTBEAT_S * 2_000 } else { 60_000 };
/// How often it is looked which devices have gone; nobody minds a few seconds after two minutes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The devices that this process has heard of lately.
#[derive(Debug, Default)]
pub struct Presence {
    heard: Mutex<HashMap<DeviceId, Heard>>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    account: AccountId,
    at: Timestamp,
}

impl Presence {
    /// Notes that a device was heard of; whether it has come by this.
    fn hear(&self, account: AccountId, device: DeviceId, at: Timestamp) -> bool {
        self.heard.lock().insert(device, Heard { account, at }).is_none()
    }

    /// Forgets those that are not heard of any more, and answers them.
    fn take_gone(
        &self,
        now: Timestamp,
        is_uploading: impl Fn(DeviceId) -> bool,
    ) -> Vec<(AccountId, DeviceId)> {
        let mut heard = self.heard.lock();
        let gone = heard.extract_if(|device, heard| {
            now.millis_since(heard.at) > ONLINE_MS && !is_uploading(*device)
        });
        gone.map(|(device, heard)| (heard.account, device)).collect()
    }
}

/// Remembers that a device was heard of, and tells who listens if it has come by this.
pub async fn note_seen(
    service: &Service,
    account: AccountId,
    device: DeviceId,
    clock_skew_ms: Option<i64>,
) -> Result<()> {
    let now = service.clock.now();
    service.storage.catalog.note_seen(device, now, clock_skew_ms).await?;
    if service.presence.hear(account, device, now) {
        service.feed.publish(account, device, Change::Device(device));
    }
    Ok(())
}

/// Tells who listens of devices that go, for as long as the service runs.
pub async fn watch(service: &Service) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let is_uploading = |device| service.uploads.is_open(device);
        for (account, device) in service.presence.take_gone(service.clock.now(), is_uploading) {
            service.feed.publish(account, device, Change::Device(device));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_and_go() {
        let at = |ms| Timestamp::from_millis(1_763_803_800_000 + ms);
        let (account, device) = (AccountId::new(at(0)), DeviceId::new(at(0)));
        let presence = Presence::default();
        let gone = |ms, uploads: bool| presence.take_gone(at(ms), |_| uploads).len();
        assert!(presence.hear(account, device, at(0)));
        assert!(!presence.hear(account, device, at(10)));
        assert_eq!(gone(10 + ONLINE_MS, false), 0);
        assert_eq!(gone(11 + ONLINE_MS, true), 0, "an upload is open");
        assert_eq!(gone(11 + ONLINE_MS, false), 1);
        assert_eq!(gone(20 + ONLINE_MS, false), 0, "it goes once");
        assert!(presence.hear(account, device, at(30 + ONLINE_MS)));
    }
}
