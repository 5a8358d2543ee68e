//! The service's clock, handed to whatever needs to know the time.

use lookback_wire::Timestamp;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What [`Clock::steady`] counts from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the time comes from: the system, or a test.
#[derive(Debug)]
pub enum Clock {
    System,
    /// Stands still until it is set.
    Manual(AtomicI64),
}

impl Clock {
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(AtomicI64::new(now.as_millis()))
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(since.as_millis() as i64)
            }
            Self::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Time that only goes forward, whatever the system's clock is set to; from no point in particular.
    pub fn steady(&self) -> Duration {
        match self {
            Self::System => BEGINNING.elapsed(),
            Self::Manual(_) => {
                Duration::from_millis(u64::try_from(self.now().as_millis()).unwrap_or(0))
            }
        }
    }

    /// Sets a manual clock; the system's is left alone.
    pub fn set(&self, now: Timestamp) {
        if let Self::Manual(millis) = self {
            millis.store(now.as_millis(), Ordering::SeqCst);
        }
    }
}
