//! When a webhook is tried again, and with how much: a pure function of how the last post went.

use super::post::Outcome;
use crate::webhook::WebhookState;
use lookback_wire::Timestamp;

/// Events of one post: 10,000 that have gathered take 100.
pub const MAX_BATCH: usize = 100;
/// The wait after the first failure; it doubles to [`MAX_WAIT_MS`].
const FIRST_WAIT_MS: i64 = 5_000;
/// A receiver that is back waits no longer than this.
pub const MAX_WAIT_MS: i64 = 10 * 60_000;
/// Failures of a batch that its receiver answers, before it is tried with fewer events: one of them
/// may be what it does not take.
const WHOLE_TRIES: u32 = 3;
/// For so long an event that is refused alone is behind all others.
pub const PUT_OFF_MS: i64 = 30 * 60_000;

/// What follows from a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    pub state: WebhookState,
    pub batch: Batch,
}

/// What becomes of the events of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    Delivered,
    /// It is tried again as it is, or in parts.
    Stays,
    /// The one event of it goes behind those that wait.
    PutOff,
}

/// The state after a post of `events` events. `chance` is 0 to 1: receivers that failed together
/// are not tried together.
pub fn after(
    state: &WebhookState,
    outcome: Outcome,
    events: usize,
    now: Timestamp,
    chance: f64,
) -> Next {
    let mut next = state.clone();
    if outcome == Outcome::Delivered {
        next.last_delivered_at = Some(now);
        next.failing_since = None;
        next.failures = 0;
        next.next_try_at = None;
        next.batch_limit = state
            .batch_limit
            .filter(|limit| *limit < MAX_BATCH)
            .map(|limit| (limit * 2).min(MAX_BATCH));
        return Next { state: next, batch: Batch::Delivered };
    }
    next.failing_since.get_or_insert(now);
    next.failures = next.failures.saturating_add(1);
    if outcome == Outcome::Gone {
        next.is_gone = true;
        next.replay = None;
    }
    next.next_try_at = Some(now.plus_millis(wait_ms(next.failures, chance)));
    // The same events once more, although others have become due meanwhile.
    next.batch_limit = Some(events.max(1));
    let mut batch = Batch::Stays;
    // What was taken in parts just now need not be tried as a whole for long.
    if outcome == Outcome::Refused && state.failures == 0 && state.batch_limit.is_some() {
        next.failures = WHOLE_TRIES;
    }
    if outcome == Outcome::Refused && next.failures >= WHOLE_TRIES {
        match events {
            0 | 1 => batch = Batch::PutOff,
            _ => {
                next.batch_limit = Some(events / 2);
                next.failures = WHOLE_TRIES;
                // Another post than the one that failed.
                next.next_try_at = Some(now.plus_millis(wait_ms(1, chance)));
            }
        }
    }
    Next { state: next, batch }
}

/// From half of what the failures come to up to all of it.
fn wait_ms(failures: u32, chance: f64) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (FIRST_WAIT_MS << doublings).min(MAX_WAIT_MS);
    longest / 2 + (longest as f64 / 2.0 * chance.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    #[test]
    fn waits_double_to_ten_minutes() {
        let mut state = WebhookState::default();
        let mut now = NOW;
        let mut waits_s = Vec::new();
        for _ in 0..10 {
            state = after(&state, Outcome::Unreachable, 100, now, 1.0).state;
            let next_try_at = state.next_try_at.unwrap();
            waits_s.push(next_try_at.millis_since(now) / 1000);
            now = next_try_at;
        }
        assert_eq!(waits_s, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!((state.failing_since, state.batch_limit), (Some(NOW), Some(100)));
        for (chance, expected_ms) in [(0.0, 2_500), (0.5, 3_750), (1.0, 5_000), (-1.0, 2_500)] {
            assert_eq!(wait_ms(1, chance), expected_ms, "{chance}");
        }
        assert_eq!(wait_ms(u32::MAX, 1.0), MAX_WAIT_MS);
    }

    #[test]
    fn a_receiver_that_is_back_is_tried_at_once() {
        let failed = after(&WebhookState::default(), Outcome::Unreachable, 7, NOW, 0.5).state;
        let later = NOW.plus_millis(9_000);
        let back = after(&failed, Outcome::Delivered, 7, later, 0.5);
        let expected = WebhookState {
            last_delivered_at: Some(later),
            batch_limit: Some(14),
            ..WebhookState::default()
        };
        assert_eq!(back, Next { state: expected, batch: Batch::Delivered });
    }

    #[test]
    fn one_event_that_is_refused_holds_no_other_up() {
        // A receiver that refuses whatever holds event 37; the others wait behind it in their order.
        let mut waiting: Vec<usize> = (0..250).collect();
        let mut state = WebhookState::default();
        let mut now = NOW;
        let mut delivered = Vec::new();
        while waiting != [37] {
            let limit = state.batch_limit.unwrap_or(MAX_BATCH).min(waiting.len());
            let posted: Vec<usize> = waiting[..limit].to_vec();
            let outcome = if posted.contains(&37) { Outcome::Refused } else { Outcome::Delivered };
            let next = after(&state, outcome, posted.len(), now, 1.0);
            state = next.state;
            now = state.next_try_at.unwrap_or(now);
            match next.batch {
                Batch::Stays => {}
                Batch::Delivered => delivered.extend(waiting.drain(..limit)),
                Batch::PutOff => {
                    let put_off = waiting.remove(0);
                    waiting.push(put_off);
                }
            }
            assert!(now.millis_since(NOW) < 180_000, "{} wait", waiting.len());
        }
        let expected: Vec<usize> = (0..250).filter(|event| *event != 37).collect();
        assert_eq!(delivered, expected);
    }

    #[test]
    fn who_does_not_answer_is_not_asked_for_less() {
        for (outcome, expected) in [
            (Outcome::Unreachable, Some(64)),
            (Outcome::Refused, Some(4)),
            (Outcome::Gone, Some(64)),
        ] {
            let mut state = WebhookState::default();
            for _ in 0..6 {
                let events = state.batch_limit.unwrap_or(64);
                state = after(&state, outcome, events, NOW, 0.0).state;
            }
            assert_eq!(state.batch_limit, expected, "{outcome:?}");
            assert_eq!(state.is_gone, outcome == Outcome::Gone);
        }
    }
}
