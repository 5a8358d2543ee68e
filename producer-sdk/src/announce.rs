//! Segments: what was PERSISTED, joined to pieces of about 20 s, and announced by the service's
//! mutation `ingestSegments` in batches, until each was answered.
//!
//! No I/O here: batches come out, answers go in. Only footage that the service keeps is announced.

use crate::backoff::{Backoff, Rng};
use crate::buffer::FragmentInfo;
use crate::error::LinkError;
use crate::session::Event;
use lookback_wire::codec::CodecConfig;
use lookback_wire::{Timestamp, TrackKind, UploadHeader};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A segment ends with the fragment that makes it this long.
const SEGMENT_MS: i64 = 20_000;
/// Fragments this far apart are still one segment: capture clocks jitter.
const JOINT_MS: i64 = 200;
/// Announcements that wait for the service: five hours of them. The oldest give way.
const MAX_WAITING: usize = 1000;
/// The contract's cap.
const MAX_BATCH: usize = 100;
/// The longest wait that advice can ask for.
const MAX_FLUSH: Duration = Duration::from_secs(300);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

pub const INGEST_SEGMENTS: &str = "mutation IngestSegments($input: IngestSegmentsInput!) {
  ingestSegments(input: $input) {
    results { clientSegmentId status rejection { code message retryable } }
    advice { batchSize flushSeconds }
    userErrors { code message }
  }
}";

/// Makes segments, and says when to announce which.
#[derive(Debug)]
pub struct Announcer {
    stream: String,
    /// Tells this run's segments from those of earlier ones.
    boot_id: u64,
    open: Option<Segment>,
    waiting: VecDeque<Segment>,
    /// How many of `waiting`, from the front, were handed out and not answered.
    in_flight: usize,
    batch_size: usize,
    flush_after: Duration,
    finishing: bool,
    backoff: Backoff,
    retry_at: Option<Instant>,
    rng: Rng,
}

#[derive(Clone, Debug)]
struct Segment {
    start: Timestamp,
    end: Timestamp,
    bytes: u64,
    alarm: bool,
    header: Arc<UploadHeader>,
    closed_at: Instant,
}

impl Announcer {
    pub fn new(stream: String, mut rng: Rng) -> Self {
        Self {
            stream,
            boot_id: rng.next_u64(),
            open: None,
            waiting: VecDeque::new(),
            in_flight: 0,
            batch_size: 1,
            flush_after: Duration::ZERO,
            finishing: false,
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_CAP),
            retry_at: None,
            rng,
        }
    }

    /// A fragment became PERSISTED. Answers what is told of an announcement that was given up.
    pub fn add(
        &mut self,
        fragment: &FragmentInfo,
        header: &Arc<UploadHeader>,
        now: Instant,
    ) -> Option<Event> {
        let continues = self.open.as_ref().is_none_or(|open| open.continues_with(fragment, header));
        let lost = if continues { None } else { self.close(now) };
        let open = self.open.get_or_insert_with(|| Segment {
            start: fragment.start,
            end: fragment.end,
            bytes: 0,
            alarm: fragment.alarm,
            header: header.clone(),
            closed_at: now,
        });
        open.end = fragment.end;
        open.bytes = open.bytes.saturating_add(fragment.bytes);
        if open.end.millis_since(open.start) >= SEGMENT_MS {
            return lost.or(self.close(now));
        }
        lost
    }

    /// No more footage will come: announces the rest without waiting for a full batch.
    pub fn finish(&mut self) {
        self.finishing = true;
        if let Some(open) = self.open.take() {
            self.waiting.push_back(open);
        }
    }

    /// The variables of the next [`INGEST_SEGMENTS`], if one is due.
    pub fn poll_batch(&mut self, now: Instant, wall: Timestamp) -> Option<Value> {
        if self.in_flight > 0 || self.due_at().is_none_or(|at| at > now) {
            return None;
        }
        self.in_flight = self.waiting.len().min(self.batch_size);
        let segments: Vec<Value> =
            self.waiting.iter().take(self.in_flight).map(|segment| self.input(segment)).collect();
        Some(json!({ "input": { "sentAt": rfc3339(wall), "segments": segments } }))
    }

    /// The answer to the batch that was handed out last: the data of [`INGEST_SEGMENTS`].
    pub fn on_answer(&mut self, answer: Result<Value, LinkError>, now: Instant) -> Vec<Event> {
        let sent = std::mem::take(&mut self.in_flight);
        let payload = answer.and_then(|mut data| {
            let payload = data["ingestSegments"].take();
            match payload["userErrors"].get(0) {
                None => Ok(payload),
                Some(error) => Err(LinkError::Failed {
                    what: "ingestSegments",
                    message: text(&error["message"]),
                }),
            }
        });
        let payload = match payload {
            Ok(payload) => payload,
            Err(cause) => return vec![self.retry_later(cause, now)],
        };
        self.take_advice(&payload["advice"]);
        let batch: Vec<Segment> = self.waiting.drain(..sent.min(self.waiting.len())).collect();
        let mut events = Vec::new();
        let mut again = Vec::new();
        for (n, segment) in batch.into_iter().enumerate() {
            let client_segment_id = self.client_segment_id(&segment);
            let result = &payload["results"][n];
            let rejection = &result["rejection"];
            if result["status"].is_null() || rejection["retryable"] == true {
                again.push(segment);
            } else if rejection.is_null() {
                let Segment { start, end, .. } = segment;
                events.push(Event::SegmentAnnounced { client_segment_id, start, end });
            } else {
                let (code, message) = (text(&rejection["code"]), text(&rejection["message"]));
                events.push(Event::SegmentRejected { client_segment_id, code, message });
            }
        }
        if again.is_empty() {
            self.backoff.reset();
            self.retry_at = None;
        } else {
            let message = format!("{} segments are to be sent again", again.len());
            for segment in again.into_iter().rev() {
                self.waiting.push_front(segment);
            }
            let cause = LinkError::Failed { what: "ingestSegments", message };
            events.push(self.retry_later(cause, now));
        }
        events
    }

    /// When [`Announcer::poll_batch`] has something.
    pub fn due_at(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?;
        let full = self.finishing || self.waiting.len() >= self.batch_size;
        let due = if full { oldest.closed_at } else { oldest.closed_at + self.flush_after };
        Some(self.retry_at.map_or(due, |retry_at| retry_at.max(due)))
    }

    /// Whether everything was answered.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.waiting.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len() + usize::from(self.open.is_some())
    }

    fn close(&mut self, now: Instant) -> Option<Event> {
        let mut segment = self.open.take()?;
        segment.closed_at = now;
        self.waiting.push_back(segment);
        if self.waiting.len() <= MAX_WAITING {
            return None;
        }
        let lost = self.waiting.remove(self.in_flight)?;
        Some(Event::SegmentRejected {
            client_segment_id: self.client_segment_id(&lost),
            code: "NOT_ANNOUNCED".to_owned(),
            message: format!("more than {MAX_WAITING} announcements were waiting"),
        })
    }

    fn retry_later(&mut self, cause: LinkError, now: Instant) -> Event {
        let retry_in = self.backoff.next(&mut self.rng);
        self.retry_at = Some(now + retry_in);
        Event::AnnounceFailed { cause, retry_in }
    }

    fn take_advice(&mut self, advice: &Value) {
        if let Some(size) = advice["batchSize"].as_u64() {
            self.batch_size = usize::try_from(size).unwrap_or(MAX_BATCH).clamp(1, MAX_BATCH);
        }
        if let Some(seconds) = advice["flushSeconds"].as_u64() {
            self.flush_after = Duration::from_secs(seconds).min(MAX_FLUSH);
        }
    }

    fn client_segment_id(&self, segment: &Segment) -> String {
        format!("{:016x}-{}", self.boot_id, segment.start.as_millis())
    }

    fn input(&self, segment: &Segment) -> Value {
        let codecs: Vec<CodecConfig> =
            segment.header.tracks.iter().filter_map(|track| CodecConfig::of(track).ok()).collect();
        let names: Vec<String> = codecs.iter().map(CodecConfig::rfc6381).collect();
        let mut input = json!({
            "clientSegmentId": self.client_segment_id(segment),
            "stream": self.stream,
            "start": rfc3339(segment.start),
            "end": rfc3339(segment.end),
            "trigger": if segment.alarm { "EVENT" } else { "CONTINUOUS" },
            "size": segment.bytes.to_string(),
        });
        if !names.is_empty() {
            input["codecs"] = names.join(",").into();
        }
        let video = segment.header.tracks.iter().find(|track| track.kind == TrackKind::Video);
        if let Some(video) = video.filter(|video| video.width > 0 && video.height > 0) {
            input["width"] = video.width.into();
            input["height"] = video.height.into();
        }
        input
    }
}

impl Segment {
    fn continues_with(&self, fragment: &FragmentInfo, header: &Arc<UploadHeader>) -> bool {
        let hole_ms = fragment.start.millis_since(self.end);
        (-JOINT_MS..=JOINT_MS).contains(&hole_ms)
            && self.alarm == fragment.alarm
            && self.header == *header
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// RFC 3339 with milliseconds, UTC. Days to civil dates as in Howard Hinnant's
/// `civil_from_days`: years begin in March, so that the leap day is their last.
pub fn rfc3339(at: Timestamp) -> String {
    let (days, ms) = (at.as_millis().div_euclid(86_400_000), at.as_millis().rem_euclid(86_400_000));
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_the_contract_wants() {
        let check = |ms, expected: &str| assert_eq!(rfc3339(Timestamp::from_millis(ms)), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_795_329_502_534, "2026-11-22T06:38:22.534Z");
        check(4_102_444_799_001, "2099-12-31T23:59:59.001Z");
        check(-1, "1969-12-31T23:59:59.999Z");
    }

    struct Bench {
        announcer: Announcer,
        now: Instant,
        header: Arc<UploadHeader>,
    }

    impl Bench {
        fn new() -> Self {
            let header =
                UploadHeader { segment_uid: None, timecode_scale_ns: 1_000_000, tracks: vec![] };
            let announcer = Announcer::new("main".to_owned(), Rng::seeded(1));
            Self { announcer, now: Instant::now(), header: Arc::new(header) }
        }

        fn add(&mut self, start_ms: i64, alarm: bool) {
            let start = Timestamp::from_millis(start_ms);
            let end = start.plus_millis(2000);
            let info = FragmentInfo { start, end, bytes: 10, alarm };
            assert_eq!(self.announcer.add(&info, &self.header, self.now), None);
        }

        fn batch(&mut self) -> Option<Vec<(String, String)>> {
            let input = self.announcer.poll_batch(self.now, Timestamp::from_millis(0))?;
            let segments = input["input"]["segments"].as_array().cloned().unwrap_or_default();
            Some(segments.iter().map(|s| (text(&s["start"]), text(&s["end"]))).collect())
        }
    }

    fn at(second: u32) -> String {
        format!("1970-01-01T00:00:{second:02}.000Z")
    }

    #[test]
    fn segments_end_after_20_s_at_holes_and_at_alarms() {
        let mut bench = Bench::new();
        let check = |bench: &mut Bench, expected: Option<Vec<(u32, u32)>>| {
            let expected = expected.map(|all| all.iter().map(|(a, b)| (at(*a), at(*b))).collect());
            assert_eq!(bench.batch(), expected);
        };
        for n in 0..9 {
            bench.add(n * 2000, false);
        }
        check(&mut bench, None);
        bench.add(18_000, false);
        check(&mut bench, Some(vec![(0, 20)]));
        check(&mut bench, None);
        let answer = json!({ "ingestSegments": {
            "results": [{ "status": "STORED", "rejection": null }],
            "advice": { "batchSize": 3, "flushSeconds": 60 }, "userErrors": [] } });
        let events = bench.announcer.on_answer(Ok(answer), bench.now);
        assert!(matches!(events.as_slice(), [Event::SegmentAnnounced { .. }]), "{events:?}");
        bench.add(20_000, false);
        bench.add(30_000, false);
        bench.add(32_000, true);
        check(&mut bench, None);
        bench.now += Duration::from_secs(60);
        check(&mut bench, Some(vec![(20, 22), (30, 32)]));
        let events = bench.announcer.on_answer(Err(LinkError::Closed), bench.now);
        assert!(matches!(events.as_slice(), [Event::AnnounceFailed { .. }]), "{events:?}");
        bench.announcer.finish();
        bench.now += BACKOFF_CAP;
        check(&mut bench, Some(vec![(20, 22), (30, 32), (32, 34)]));
        let refused = |retryable| {
            json!({ "status": "REJECTED",
                "rejection": { "code": "C", "message": "m", "retryable": retryable } })
        };
        let answer = json!({ "ingestSegments": { "userErrors": [], "advice": {},
            "results": [{ "status": "DUPLICATE" }, refused(true), refused(false)] } });
        let events = bench.announcer.on_answer(Ok(answer), bench.now);
        let [stored, refused, failed] = events.as_slice() else { panic!("{events:?}") };
        assert!(matches!(stored, Event::SegmentAnnounced { .. }));
        assert!(matches!(refused, Event::SegmentRejected { code, .. } if code == "C"));
        assert!(matches!(failed, Event::AnnounceFailed { .. }));
        bench.now += BACKOFF_CAP;
        check(&mut bench, Some(vec![(30, 32)]));
    }
}
