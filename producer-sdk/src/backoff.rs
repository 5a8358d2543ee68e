//! How long to wait before the next attempt: exponential, capped, with full jitter, so that the
//! cameras of a whole town do not come back in the same second.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// SplitMix64: enough for jitter and names, never for secrets. A test hands in its seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by the operating system, through the keys that `HashMap` is given.
    pub fn from_system() -> Self {
        Self(RandomState::new().hash_one(0u64))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 up to `limit`, which is left out; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }
}

/// Waits that double from `first` up to `cap`, each drawn from zero up to that.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(doubled).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let longest_us = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(rng.below(longest_us.saturating_add(1)))
    }

    /// Something worked: the next failure waits briefly again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_differ() {
        let (first, cap) = (Duration::from_millis(500), Duration::from_secs(10));
        for seed in 0..100 {
            let mut rng = Rng::seeded(seed);
            let mut backoff = Backoff::new(first, cap);
            let waits: Vec<_> = (0..40).map(|_| backoff.next(&mut rng)).collect();
            for (n, wait) in waits.iter().enumerate() {
                let longest = first.saturating_mul(1 << n.min(20)).min(cap);
                assert!(*wait <= longest, "seed {seed}, wait {n}: {wait:?} over {longest:?}");
            }
            assert!(waits.iter().any(|wait| *wait > cap / 2), "seed {seed}: {waits:?}");
            assert!(waits.iter().skip(6).any(|wait| *wait < cap / 2), "seed {seed}: {waits:?}");
            backoff.reset();
            assert!(backoff.next(&mut rng) <= first);
        }
    }
}
