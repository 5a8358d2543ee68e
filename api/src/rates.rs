//! How often one caller may ask: a bucket for each, by `governor`'s cell rate algorithm, on the
//! service's clock and in bounded memory.

use crate::access::{Principal, Subject};
use crate::clock::Clock;
use crate::config;
use crate::id::{AccountId, DeviceId, UserId};
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Callers that one rate knows, about 100 bytes each. Where more call at once, those that owe least
/// are forgotten first: a flood of addresses does not set free whoever is held back already.
const MAX_CALLERS: usize = 100_000;

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    User(UserId),
    Device(DeviceId),
    Service(AccountId, String),
    /// Nobody that is known: the address, or the /64 of IPv6 that one household has.
    Anonymous(IpAddr),
}

impl Caller {
    pub fn of(principal: Option<&Principal>, address: IpAddr) -> Self {
        match principal.map(|principal| (&principal.subject, principal.account)) {
            Some((Subject::User(user), _)) => Self::User(*user),
            Some((Subject::Device { device, .. }, _)) => Self::Device(*device),
            Some((Subject::Service(name), account)) => Self::Service(account, name.clone()),
            None => Self::Anonymous(household(address)),
        }
    }
}

/// All addresses that one household has: an IPv4 address, or a /64 of IPv6.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// A caller is over its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// When the same would be answered; at least 1.
    pub retry_after_s: u64,
}

/// The rates in force.
#[derive(Debug)]
pub struct Rates {
    enabled: bool,
    user_points: Bucket,
    device_calls: Bucket,
    anonymous_calls: Bucket,
    playback_sessions: Bucket,
    pictures: Bucket,
}

impl Rates {
    pub fn new(rates: &config::Rates, clock: &Arc<Clock>) -> Self {
        let bucket = |rate| Bucket::new(rate, clock);
        Self {
            enabled: rates.enabled,
            user_points: bucket(rates.user_points),
            device_calls: bucket(rates.device_calls),
            anonymous_calls: bucket(rates.anonymous_calls),
            playback_sessions: bucket(rates.playback_sessions),
            pictures: bucket(rates.pictures),
        }
    }

    /// Counts a call: a device's and a stranger's as one, anybody else's by the points it costs.
    pub fn call(&self, caller: &Caller, points: usize) -> Result<(), TooOften> {
        match caller {
            Caller::User(_) | Caller::Service(..) => self.take(&self.user_points, caller, points),
            Caller::Device(_) => self.take(&self.device_calls, caller, 1),
            Caller::Anonymous(_) => self.take(&self.anonymous_calls, caller, 1),
        }
    }

    pub fn playback_session(&self, caller: &Caller) -> Result<(), TooOften> {
        self.take(&self.playback_sessions, caller, 1)
    }

    /// Counts one snapshot or one row of thumbnails.
    pub fn picture(&self, caller: &Caller) -> Result<(), TooOften> {
        self.take(&self.pictures, caller, 1)
    }

    fn take(&self, bucket: &Bucket, caller: &Caller, count: usize) -> Result<(), TooOften> {
        if self.enabled { bucket.take(caller, count) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<Caller, Known, SteadyClock, NoOpMiddleware<Duration>>,
    burst: NonZeroU32,
}

impl Bucket {
    fn new(rate: config::Rate, clock: &Arc<Clock>) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = SteadyClock(clock.clone());
        Self { limiter: RateLimiter::new(quota, Known::default(), clock), burst: rate.burst }
    }

    /// What is larger than the bucket takes all of it.
    fn take(&self, caller: &Caller, count: usize) -> Result<(), TooOften> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN).min(self.burst);
        match self.limiter.check_key_n(caller, count) {
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let retry_after_s = wait.as_millis().div_ceil(1_000).max(1);
                Err(TooOften { retry_after_s: u64::try_from(retry_after_s).unwrap_or(u64::MAX) })
            }
            // No count is larger than the bucket.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
struct SteadyClock(Arc<Clock>);

impl GovernorClock for SteadyClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.steady()
    }
}

/// By caller, when what it has taken will have been earned.
#[derive(Debug, Default)]
struct Known(Mutex<HashMap<Caller, Nanos>>);

impl StateStore for Known {
    type Key = Caller;

    fn measure_and_replace<T, F, E>(&self, key: &Caller, change: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.0.lock();
        let earned = known.get(key).copied();
        let (answer, earned) = change(earned)?;
        if known.len() >= MAX_CALLERS && !known.contains_key(key) {
            let mut all: Vec<Nanos> = known.values().copied().collect();
            let middle = all.len() / 2;
            let (_, &mut median, _) = all.select_nth_unstable(middle);
            known.retain(|_, earned| *earned > median);
        }
        known.insert(key.clone(), earned);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::Timestamp;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    fn rates(clock: &Arc<Clock>) -> Rates {
        Rates::new(&config::Rates::default(), clock)
    }

    fn address(n: u32) -> Caller {
        Caller::of(None, IpAddr::V4((0x0a00_0000 + n).into()))
    }

    /// How many calls of one point pass, and how long the next one is to wait.
    fn passed(mut call: impl FnMut() -> Result<(), TooOften>) -> (usize, u64) {
        for count in 0.. {
            if let Err(TooOften { retry_after_s }) = call() {
                return (count, retry_after_s);
            }
        }
        unreachable!()
    }

    #[test]
    fn each_kind_of_caller_has_its_rate() {
        let clock = Arc::new(Clock::manual(at(0)));
        let rates = rates(&clock);
        let user = Caller::User(UserId::new(at(0)));
        let service = Caller::Service(AccountId::new(at(0)), "a".into());
        let device = Caller::Device(DeviceId::new(at(0)));
        let stranger = address(1);
        for (ms, of_users, of_devices, of_strangers) in
            [(0, 2_000, 20, 20), (999, 99, 1, 0), (1_000, 1, 1, 1), (60_000, 2_000, 20, 20)]
        {
            clock.set(at(ms));
            for (caller, expected) in [
                (&user, of_users),
                (&service, of_users),
                (&device, of_devices),
                (&stranger, of_strangers),
            ] {
                let (count, retry_after_s) = passed(|| rates.call(caller, 1));
                assert_eq!((count, retry_after_s), (expected, 1), "{caller:?} at {ms} ms");
            }
        }
        assert_eq!(passed(|| rates.playback_session(&user)), (40, 1));
        assert_eq!(passed(|| rates.picture(&user)), (200, 1));
    }

    #[test]
    fn cost_is_waited_for_and_never_more_than_the_bucket_holds() {
        let clock = Arc::new(Clock::manual(at(0)));
        let rates = rates(&clock);
        let user = Caller::User(UserId::new(at(0)));
        for (ms, points, expected) in [
            (0, 5_000, Ok(())),
            (0, 0, Err(1)),
            (0, 500, Err(5)),
            (4_990, 500, Err(1)),
            (5_000, 500, Ok(())),
            (5_000, usize::MAX, Err(20)),
            (25_000, usize::MAX, Ok(())),
            (0, 1, Err(26)),
        ] {
            clock.set(at(ms));
            let answer = rates.call(&user, points).map_err(|too_often| too_often.retry_after_s);
            assert_eq!(answer, expected, "{points} points at {ms} ms");
        }
        let other = Caller::User(UserId::new(at(0)));
        assert!(rates.call(&other, 1).is_ok());
        let off = config::Rates { enabled: false, ..config::Rates::default() };
        let off = Rates::new(&off, &clock);
        assert!((0..10).all(|_| off.call(&user, 5_000).is_ok()));
    }

    #[test]
    fn a_household_is_one_stranger() {
        for (one, other, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let of = |text: &str| Caller::of(None, text.parse().unwrap());
            assert_eq!(of(one) == of(other), same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let clock = Arc::new(Clock::manual(at(0)));
        let rates = rates(&clock);
        let greedy = address(0);
        passed(|| rates.call(&greedy, 1));
        for n in 1..=2 * MAX_CALLERS as u32 {
            assert!(rates.call(&address(n), 1).is_ok());
        }
        let known = rates.anonymous_calls.limiter.into_state_store().0;
        let known = known.into_inner();
        assert!(known.len() <= MAX_CALLERS && known.contains_key(&greedy), "{}", known.len());
    }
}
