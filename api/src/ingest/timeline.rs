//! Where a fragment lies on its stream's timeline: its capture time by the camera's clock, or its
//! arrival where that clock cannot be right.

use lookback_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// A capture time further ahead of arrival is not believed.
const MAX_AHEAD_MS: i64 = 120_000;
/// How far back of its newest fragment a producer may resume. Producers go back 40 s (kvssink) or
/// half their buffer; timecodes from further back are those of a new session under an old name.
const MAX_RESUME_MS: i64 = 180_000;
const NS_PER_MS: i128 = 1_000_000;

/// What the timecodes of an upload count from; the header `x-amzn-fragment-timecode-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timecodes {
    /// The Unix epoch.
    Absolute,
    Relative {
        producer_start: Timestamp,
    },
}

/// One run of a producer, over all its connections. Amazon's producers send the same SegmentUID
/// again when they reconnect, and count RELATIVE timecodes from the first connection's start, while
/// the header names the newest one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerSession {
    pub segment_uid: [u8; 16],
    /// What its timecodes count from, milliseconds since the Unix epoch.
    pub base_ms: i64,
    /// What was added to come to the timeline.
    pub shift_ms: i64,
    pub newest_timecode_ms: i64,
}

/// Reads `x-amzn-producer-start-timestamp`: decimal seconds.
///
/// Amazon's C and C++ producers print seconds, a point and the milliseconds without padding, so that
/// their `.54` is 54 ms and not 540; `is_unpadded` says that one of them is calling (their user agent
/// does), and then less than three digits behind the point are whole milliseconds. Everybody else's
/// are a decimal fraction. Only RELATIVE timecodes count from it.
pub fn parse_producer_start(text: &str, is_unpadded: bool) -> Option<Timestamp> {
    let (seconds, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let millis: i64 = if is_unpadded && fraction.len() < 3 {
        format!("0{fraction}").parse().ok()?
    } else {
        format!("{fraction:0<3}").get(..3)?.parse().ok()?
    };
    seconds.checked_mul(1_000)?.checked_add(millis).map(Timestamp::from_millis)
}

/// Places the fragments of one upload.
#[derive(Debug)]
pub struct Timeline {
    base_ms: i64,
    is_relative: bool,
    kept_ms: i64,
    shift_ms: i64,
    /// Until the first fragment: the sessions that uploaded before.
    earlier: Vec<ProducerSession>,
    session: Option<ProducerSession>,
}

/// Where a fragment and its frames lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// By the camera's clock.
    pub capture: Timestamp,
    /// What the timecodes count from on the timeline.
    origin_ms: i64,
    shift_ms: i64,
}

impl Timeline {
    /// `kept_ms`: a capture time further back is past what the plan keeps, and not believed.
    pub fn new(timecodes: Timecodes, kept_ms: i64, earlier: Vec<ProducerSession>) -> Self {
        let (base_ms, is_relative) = match timecodes {
            Timecodes::Absolute => (0, false),
            Timecodes::Relative { producer_start } => (producer_start.as_millis(), true),
        };
        Self { base_ms, is_relative, kept_ms, shift_ms: 0, earlier, session: None }
    }

    pub fn session(&self) -> Option<&ProducerSession> {
        self.session.as_ref()
    }

    /// Places the fragment that begins at `timecode` and begins to arrive at `arrived`.
    pub fn place(
        &mut self,
        timecode: u64,
        scale_ns: u64,
        segment_uid: Option<[u8; 16]>,
        arrived: Timestamp,
    ) -> Placed {
        let timecode_ms = clamp(i128::from(timecode) * i128::from(scale_ns) / NS_PER_MS);
        let earlier = std::mem::take(&mut self.earlier);
        if let Some(earlier) = earlier.into_iter().find(|one| Some(one.segment_uid) == segment_uid)
            && timecode_ms.saturating_add(MAX_RESUME_MS) >= earlier.newest_timecode_ms
        {
            self.shift_ms = earlier.shift_ms;
            if self.is_relative {
                self.base_ms = earlier.base_ms;
            }
        }
        let capture_ms = self.base_ms.saturating_add(timecode_ms);
        let arrived_ms = arrived.as_millis();
        let is_believable = |at_ms: i64| {
            let age_ms = arrived_ms.saturating_sub(at_ms);
            at_ms >= 0 && age_ms >= -MAX_AHEAD_MS && age_ms <= self.kept_ms
        };
        // The same shift as before, where it still holds: fragments then follow one another as the
        // camera cut them.
        self.shift_ms = if is_believable(capture_ms) {
            0
        } else if is_believable(capture_ms.saturating_add(self.shift_ms)) {
            self.shift_ms
        } else {
            arrived_ms.saturating_sub(capture_ms)
        };
        self.session = segment_uid.map(|segment_uid| ProducerSession {
            segment_uid,
            base_ms: self.base_ms,
            shift_ms: self.shift_ms,
            newest_timecode_ms: timecode_ms,
        });
        Placed {
            capture: Timestamp::from_millis(capture_ms),
            origin_ms: self.base_ms.saturating_add(self.shift_ms),
            shift_ms: self.shift_ms,
        }
    }
}

impl Placed {
    /// Whether the timeline does not use the capture time.
    pub fn is_moved(&self) -> bool {
        self.shift_ms != 0
    }

    /// A frame's place on the timeline, nanoseconds since the Unix epoch.
    pub fn time_ns(&self, timecode: i64, scale_ns: u64) -> i64 {
        let since_origin = i128::from(timecode) * i128::from(scale_ns);
        clamp(i128::from(self.origin_ms) * NS_PER_MS + since_origin).max(0)
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producer_start_as_producers_write_it() {
        let table = [
            ("1795329502.534", true, Some(1_795_329_502_534)),
            ("1795330630.54", true, Some(1_795_330_630_054)),
            ("1795330630.5", true, Some(1_795_330_630_005)),
            ("1795330630.5", false, Some(1_795_330_630_500)),
            ("1795330630.054321", false, Some(1_795_330_630_054)),
            ("0", false, Some(0)),
            ("1795330630", true, Some(1_795_330_630_000)),
            ("", false, None),
            (".5", false, None),
            ("-1", false, None),
            ("+1", false, None),
            ("1e9", false, None),
            ("99999999999999999999", false, None),
        ];
        for (text, is_unpadded, millis) in table {
            let parsed = parse_producer_start(text, is_unpadded).map(Timestamp::as_millis);
            assert_eq!(parsed, millis, "{text}");
        }
    }

    const NOW: i64 = 1_800_000_000_000;
    const KEPT: i64 = 7 * 86_400_000;
    const UID: Option<[u8; 16]> = Some([7; 16]);

    /// Places timecodes in ms, each with the time of its arrival; answers where they came to lie.
    fn check(
        timecodes: Timecodes,
        earlier: Option<ProducerSession>,
        fragments: &[(u64, i64)],
        expected: &[i64],
    ) -> Option<ProducerSession> {
        let other = ProducerSession {
            segment_uid: [8; 16],
            base_ms: 5,
            shift_ms: 5,
            newest_timecode_ms: 5,
        };
        let earlier = [other].into_iter().chain(earlier).collect();
        let mut timeline = Timeline::new(timecodes, KEPT, earlier);
        let placed: Vec<i64> = fragments
            .iter()
            .map(|&(timecode, arrived)| {
                let at = Timestamp::from_millis(arrived);
                let placed = timeline.place(timecode, 1_000_000, UID, at);
                placed.time_ns(timecode as i64, 1_000_000) / 1_000_000
            })
            .collect();
        assert_eq!(placed, expected);
        timeline.session().cloned()
    }

    #[test]
    fn a_believable_clock_is_believed() {
        let n = NOW as u64;
        check(
            Timecodes::Absolute,
            None,
            &[(n - 500, NOW), (n + 119_000, NOW), (n - KEPT as u64, NOW)],
            &[NOW - 500, NOW + 119_000, NOW - KEPT],
        );
    }

    #[test]
    fn another_clock_is_shifted_to_arrival_once() {
        // An hour ahead; the second arrives late, and still follows the first as it was cut.
        let hour = NOW as u64 + 3_600_000;
        check(
            Timecodes::Absolute,
            None,
            &[(hour, NOW), (hour + 1_000, NOW + 1_400)],
            &[NOW, NOW + 1_000],
        );
        // In 1970, and a week and a second ago.
        check(Timecodes::Absolute, None, &[(5_000, NOW), (6_000, NOW + 900)], &[NOW, NOW + 1_000]);
        check(Timecodes::Absolute, None, &[(NOW as u64 - KEPT as u64 - 1_000, NOW)], &[NOW]);
        // Absurd values neither overflow nor are refused.
        check(Timecodes::Absolute, None, &[(i64::MAX as u64, NOW)], &[NOW]);
    }

    #[test]
    fn relative_times_stay_right_after_a_reconnect() {
        // The recorded run: dropped at 3.6 s, the second connection's header says 3.638 s later.
        let start = |ms| Timecodes::Relative { producer_start: Timestamp::from_millis(NOW + ms) };
        let session = check(start(0), None, &[(0, NOW), (1_800, NOW + 1_800)], &[NOW, NOW + 1_800]);
        check(
            start(3_638),
            session.clone(),
            &[(1_800, NOW + 3_700), (3_600, NOW + 3_800)],
            &[NOW + 1_800, NOW + 3_600],
        );
        // A new run under the same identifier begins anew.
        let late = session.map(|s| ProducerSession { newest_timecode_ms: 600_000, ..s });
        check(start(900_000), late, &[(0, NOW + 900_000)], &[NOW + 900_000]);
    }

    #[test]
    fn a_shift_outlives_the_connection() {
        let session = check(Timecodes::Absolute, None, &[(5_000, NOW)], &[NOW]);
        check(Timecodes::Absolute, session, &[(5_000, NOW + 9_000)], &[NOW]);
    }
}
