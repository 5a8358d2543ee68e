//! The parts of a running service, as handlers are handed them.

use crate::access_key::AccessKeys;
use crate::arriving::Arriving;
use crate::audit::Looks;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::Deliveries;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::ingest::{Presence, Unkept, Uploads};
use crate::issuer::Issuers;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::playback::Playback;
use crate::rates::Rates;
use crate::retention::Retention;
use crate::sign_in::SignIns;
use crate::storage::Storage;
use crate::throttle::Throttle;
use crate::token::Tokens;
use std::sync::Arc;
use tokio::sync::watch;

/// One running service. Cheap to share: handlers hold an `Arc` of it.
#[derive(Debug)]
pub struct Service {
    pub config: Config,
    pub clock: Arc<Clock>,
    pub storage: Storage,
    pub keys: Keys,
    pub tokens: Arc<Tokens>,
    pub access_keys: AccessKeys,
    pub sign_ins: SignIns,
    pub issuers: Issuers,
    pub uploads: Uploads,
    pub presence: Presence,
    pub feed: Arc<Feed>,
    pub unkept: Unkept,
    pub arriving: Arc<Arriving>,
    pub throttle: Throttle,
    pub rates: Rates,
    pub looks: Looks,
    pub documents: Documents,
    pub playback: Playback,
    pub retention: Arc<Retention>,
    pub deliveries: Arc<Deliveries>,
    pub metrics: Arc<Metrics>,
    /// Whether the service is on its way down.
    pub stopping: watch::Sender<bool>,
}

impl Service {
    /// Returns when the service is asked to stop. What would hold a connection open without end,
    /// such as an upload, waits for this too.
    pub async fn stopping(&self) {
        // The sender lives as long as the service does, so waiting cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}
