//! The parts of a running service, as handlers are handed them.

use crate::clock::Clock;
use crate::config::Config;
use crate::storage::Storage;
use std::sync::Arc;

/// One running service. Cheap to share: handlers hold an `Arc` of it.
#[derive(Debug)]
pub struct Service {
    pub config: Config,
    pub clock: Arc<Clock>,
    pub storage: Storage,
}
