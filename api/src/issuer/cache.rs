//! When an issuer is asked for its keys, and how long what it answered is good for; without I/O, by
//! the time that it is told.

use super::metadata::Published;
use lookback_wire::Timestamp;
use std::sync::Arc;

/// How old keys get while the issuer answers: that long one that it took back still works.
const FRESH_MS: i64 = 5 * 60_000;
/// How long keys are good for while it does not answer.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Anybody can make up the name of a key; the issuer is asked this often on account of them.
const UNKNOWN_KEY_MS: i64 = 60_000;
/// Until an issuer is asked again that did not answer.
const RETRY_MS: i64 = 60_000;
/// The same where it has not answered at all yet, as when both are starting.
const FIRST_RETRY_MS: i64 = 5_000;

/// What is known of an issuer.
#[derive(Debug, Default)]
pub struct Cache {
    known: Option<(Arc<Published>, Timestamp)>,
    /// Whether the issuer is being asked.
    is_asking: bool,
    /// When it was last to be asked on account of a key that is not known.
    unknown_key_at: Option<Timestamp>,
}

/// What somebody is to do who needs a key that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Have the issuer asked, and wait.
    Ask,
    /// Wait: it is being asked.
    Wait,
    /// Go without: it was asked a moment ago.
    GiveUp,
}

impl Cache {
    /// What the issuer published, unless it is too old to go by.
    pub fn published(&self, now: Timestamp) -> Option<&Arc<Published>> {
        let (published, at) = self.known.as_ref()?;
        (now.millis_since(*at) < KEPT_MS).then_some(published)
    }

    pub fn missing(&mut self, now: Timestamp) -> Missing {
        let asked_lately =
            self.unknown_key_at.is_some_and(|at| now.millis_since(at) < UNKNOWN_KEY_MS);
        if self.is_asking {
            return Missing::Wait;
        }
        if asked_lately {
            return Missing::GiveUp;
        }
        self.unknown_key_at = Some(now);
        self.is_asking = true;
        Missing::Ask
    }

    pub fn asking(&mut self) {
        self.is_asking = true;
    }

    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Takes what the issuer answered; `None` where it did not. Answers after how many milliseconds
    /// it is to be asked again.
    pub fn answered(&mut self, published: Option<Published>, now: Timestamp) -> i64 {
        self.is_asking = false;
        match (published, &self.known) {
            (Some(published), _) => {
                self.known = Some((Arc::new(published), now));
                FRESH_MS
            }
            (None, Some(_)) => RETRY_MS,
            (None, None) => FIRST_RETRY_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    fn at(seconds: i64) -> Timestamp {
        NOW.plus_millis(seconds * 1000)
    }

    #[test]
    fn keys_are_asked_for_again_and_outlive_the_issuers_absence() {
        let mut cache = Cache::default();
        assert_eq!(cache.answered(None, at(0)), FIRST_RETRY_MS);
        assert!(cache.published(at(0)).is_none());
        assert_eq!(cache.answered(Some(Published::default()), at(5)), FRESH_MS);
        assert_eq!(cache.answered(None, at(305)), RETRY_MS);
        assert!(cache.published(at(4 + 86_400)).is_some());
        assert!(cache.published(at(5 + 86_400)).is_none());
        assert_eq!(cache.answered(Some(Published::default()), at(90_000)), FRESH_MS);
        assert!(cache.published(at(90_000)).is_some());
    }

    #[test]
    fn made_up_keys_ask_once_a_minute() {
        let mut cache = Cache::default();
        cache.answered(Some(Published::default()), at(0));
        assert_eq!(cache.missing(at(1)), Missing::Ask, "a rotation is seen at once");
        assert_eq!(cache.missing(at(1)), Missing::Wait);
        cache.answered(Some(Published::default()), at(2));
        assert_eq!(cache.missing(at(3)), Missing::GiveUp);
        assert_eq!(cache.missing(at(60)), Missing::GiveUp);
        assert_eq!(cache.missing(at(61)), Missing::Ask);
        cache.answered(None, at(66));
        cache.asking();
        assert_eq!(cache.missing(at(67)), Missing::Wait, "the regular one is under way");
    }
}
