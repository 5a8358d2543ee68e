//! Segments that a camera announces: which are taken, and why the others are not. Each one of a
//! batch is judged by itself; the store then tells what it knew before.

use super::presence;
use crate::device::{Device, DeviceState, Stream};
use crate::feed::Change;
use crate::id::StreamId;
use crate::segment::{
    NewSegment, RecordingTrigger, Segment, TimeRange, WINDOW_MS, count_to_window_end,
};
use crate::service::Service;
use crate::storage::{Announced, Catalog, StorageError};
use lookback_wire::Timestamp;
use std::collections::{HashMap, HashSet};

/// Announcements in one call.
pub const MAX_BATCH: usize = 100;
/// Shorter than any frame that a camera sends at 10 a second.
pub const MIN_SEGMENT_MS: i64 = 100;
/// The window that segments are kept in: a question for a span looks back by this much.
pub const MAX_SEGMENT_MS: i64 = WINDOW_MS;
/// How far ahead of the service's clock a segment may end.
pub const MAX_CLOCK_AHEAD_MS: i64 = 120_000;
/// How long a device is to stay silent at most, in seconds.
pub const HEARTBEAT_S: i64 = 60;
/// A device's clock that is off by more gets a warning.
const CLOCK_SKEW_MS: i64 = 2_000;
/// As long as segments are where nothing is known of them yet.
const USUAL_SEGMENT_MS: i64 = 20_000;
/// How much later than foreseen the last segment of a batch may end before the others are sent.
const PATIENCE_MS: i64 = 10_000;
const MAX_CLIENT_ID_CHARS: usize = 64;
const MAX_CODECS_CHARS: usize = 128;
/// Pixels along one side; the largest level of H.265 ends at 16,888.
const MAX_PIXELS: i64 = 16_888;
const DAY_MS: i64 = 24 * 3_600_000;

/// A segment as announced, before anything is known to be right about it.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub client_segment_id: String,
    /// By name; the main one if left out.
    pub stream: Option<String>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub trigger: RecordingTrigger,
    pub codecs: Option<String>,
    pub width: Option<i64>,
    pub height: Option<i64>,
    pub size_bytes: Option<u64>,
}

/// Who announces.
#[derive(Clone, Copy, Debug)]
pub struct Announcer<'a> {
    pub device: &'a Device,
    /// The main one first.
    pub streams: &'a [Stream],
    /// How long its plan keeps footage.
    pub kept_days: u32,
    /// Whether it may store more.
    pub has_room: bool,
}

/// What became of one announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub client_segment_id: String,
    pub verdict: Verdict,
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stored(Segment),
    Duplicate(Segment),
    Rejected(Rejection),
}

/// See the contract's `IngestWarning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    OutOfOrder,
    Overlap,
    ClockSkew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: RejectionCode,
    pub message: String,
}

/// See the contract's `RejectionCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionCode {
    IdempotencyConflict,
    InvalidRange,
    InvalidValue,
    ClockAhead,
    OutsideRetention,
    UnknownStream,
    DeviceNotActive,
    QuotaExceeded,
    DuplicateInBatch,
    TemporarilyUnavailable,
}

impl RejectionCode {
    /// Whether sending it again unchanged can help. A clock that is ahead is no such case: it would
    /// have to be waited for, perhaps for years.
    pub fn is_retryable(self) -> bool {
        self == Self::TemporarilyUnavailable
    }
}

/// How many announcements a device is advised to send together, and for how many seconds it is to
/// wait at most for so many, after `batch`: one by one while somebody watches live, else a minute of
/// them. Where the catalog charges for writes, so many that the last of them is the last to begin in
/// its window: each window is then written once.
pub fn pace(live_wanted: bool, charges_by_write: bool, batch: &[Announcement]) -> (usize, i64) {
    if live_wanted {
        return (1, 20);
    }
    if !charges_by_write {
        return (3, 60);
    }
    let newest = batch.iter().max_by_key(|one| one.end);
    let (end, length_ms) = newest.map_or((Timestamp::from_millis(0), USUAL_SEGMENT_MS), |one| {
        (one.end, one.end.millis_since(one.start).clamp(MIN_SEGMENT_MS, MAX_SEGMENT_MS))
    });
    let of_each = count_to_window_end(TimeRange { start: end.plus_millis(-length_ms), end });
    let streams: HashSet<_> = batch.iter().map(|one| &one.stream).collect();
    let count = usize::try_from(of_each).unwrap_or(1).saturating_mul(streams.len().max(1));
    // A device waits from the end of the first one on.
    let wait_ms = (of_each - 1) * length_ms + PATIENCE_MS;
    (count.clamp(1, MAX_BATCH), (wait_ms / 1_000).min(WINDOW_MS / 1_000))
}

/// Takes a batch of at most [`MAX_BATCH`] from a device, which was heard of then; one outcome each, in
/// order. `streams` are the device's, the main one first, and `kept_days` is its plan's;
/// `clock_skew_ms` is what its clock is ahead, where it says its time.
pub async fn receive(
    service: &Service,
    device: &Device,
    streams: &[Stream],
    kept_days: u32,
    batch: &[Announcement],
    clock_skew_ms: Option<i64>,
) -> Result<Vec<Outcome>, StorageError> {
    let has_room = match service.retention.check_quota(device.id).await {
        Ok(()) => true,
        Err(StorageError::OverQuota(_)) => false,
        Err(error) => return Err(error),
    };
    let now = service.clock.now();
    let catalog = service.storage.catalog.as_ref();
    let announcer = Announcer { device, streams, kept_days, has_room };
    let outcomes = announce(catalog, announcer, batch, clock_skew_ms.unwrap_or(0), now).await;
    presence::note_seen(service, device.account, device.id, clock_skew_ms).await?;
    // Where media goes past this service, what is announced is all that is heard of it.
    if service.storage.local().is_err() {
        note_arrived(catalog, &outcomes, now).await;
        publish(service, device, &outcomes);
    }
    Ok(outcomes)
}

/// Counts the media that was announced for the first time; a count that fails refuses no segment.
async fn note_arrived(catalog: &dyn Catalog, outcomes: &[Outcome], now: Timestamp) {
    let mut arrived: HashMap<StreamId, u64> = HashMap::new();
    for outcome in outcomes {
        if let Verdict::Stored(segment) = &outcome.verdict {
            let bytes = arrived.entry(segment.id.stream).or_default();
            *bytes = bytes.saturating_add(segment.size_bytes.unwrap_or(0));
        }
    }
    for (stream, bytes) in arrived {
        if let Err(error) = catalog.note_arrived(stream, now, bytes).await {
            tracing::warn!(%stream, %error, "what arrived is not counted");
        }
    }
}

/// Tells who listens of footage that was not known.
fn publish(service: &Service, device: &Device, outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Verdict::Stored(Segment { id, range, size_bytes, .. }) = &outcome.verdict {
            let change = Change::Footage { stream: id.stream, range: *range, bytes: *size_bytes };
            service.feed.publish(device.account, device.id, change);
        }
    }
}

/// Judges and stores a batch of at most [`MAX_BATCH`]; one outcome each, in order. `clock_skew_ms`
/// is what the device's clock is ahead.
async fn announce(
    catalog: &dyn Catalog,
    announcer: Announcer<'_>,
    batch: &[Announcement],
    clock_skew_ms: i64,
    now: Timestamp,
) -> Vec<Outcome> {
    let judged = judge(announcer, batch, now);
    let mut by_stream: HashMap<usize, Vec<(usize, NewSegment)>> = HashMap::new();
    for (place, accepted) in judged.iter().enumerate() {
        if let Ok((stream, segment)) = accepted {
            by_stream.entry(*stream).or_default().push((place, segment.clone()));
        }
    }
    let mut verdicts: Vec<Option<(Verdict, Vec<Warning>)>> = judged
        .into_iter()
        .map(|judged| judged.err().map(|rejection| (Verdict::Rejected(rejection), Vec::new())))
        .collect();
    for (stream, items) in by_stream {
        let Some(stream) = announcer.streams.get(stream) else { continue };
        let (places, segments): (Vec<usize>, Vec<NewSegment>) = items.into_iter().unzip();
        let answers = catalog.announce(stream.id, &segments, now).await;
        if let Err(error) = &answers {
            tracing::warn!(stream = %stream.id, %error, "announced segments were not stored");
        }
        settle(&mut verdicts, &places, answers.unwrap_or_default(), clock_skew_ms);
    }
    batch
        .iter()
        .zip(verdicts)
        .map(|(announcement, verdict)| {
            let (verdict, warnings) = verdict.unwrap_or_else(not_stored);
            let client_segment_id = announcement.client_segment_id.clone();
            Outcome { client_segment_id, verdict, warnings }
        })
        .collect()
}

/// Puts what the store answered of one stream's segments in their places. Where it did not answer,
/// some may be stored all the same: sent again, they are known.
fn settle(
    verdicts: &mut [Option<(Verdict, Vec<Warning>)>],
    places: &[usize],
    answers: Vec<Announced>,
    clock_skew_ms: i64,
) {
    let mut answers = answers.into_iter();
    for place in places {
        let known = answers.next();
        let verdict = known.map_or_else(not_stored, |known| weigh(known, clock_skew_ms));
        if let Some(slot) = verdicts.get_mut(*place) {
            *slot = Some(verdict);
        }
    }
}

pub(super) fn unavailable() -> Rejection {
    let code = RejectionCode::TemporarilyUnavailable;
    Rejection { code, message: "the store did not take it; send it again".into() }
}

fn not_stored() -> (Verdict, Vec<Warning>) {
    (Verdict::Rejected(unavailable()), Vec::new())
}

/// What the store knew of an accepted segment.
fn weigh(known: Announced, clock_skew_ms: i64) -> (Verdict, Vec<Warning>) {
    let skewed = (clock_skew_ms.saturating_abs() > CLOCK_SKEW_MS).then_some(Warning::ClockSkew);
    match known {
        Announced::Stored { segment, overlaps, out_of_order } => {
            let warnings = [
                out_of_order.then_some(Warning::OutOfOrder),
                overlaps.then_some(Warning::Overlap),
                skewed,
            ];
            (Verdict::Stored(segment), warnings.into_iter().flatten().collect())
        }
        Announced::Duplicate(segment) => {
            (Verdict::Duplicate(segment), skewed.into_iter().collect())
        }
        Announced::Conflict(_) => {
            let code = RejectionCode::IdempotencyConflict;
            let message = "clientSegmentId was stored with another start or end".into();
            (Verdict::Rejected(Rejection { code, message }), Vec::new())
        }
    }
}

type Judged = Result<(usize, NewSegment), Rejection>;

/// What can be judged without the store: the stream's place among the device's, and the segment.
fn judge(announcer: Announcer<'_>, batch: &[Announcement], now: Timestamp) -> Vec<Judged> {
    let mut seen = HashSet::new();
    batch
        .iter()
        .map(|announcement| {
            let stream = announcement.stream.as_deref().map_or(Some(0), |name| {
                announcer.streams.iter().position(|stream| stream.name == name)
            });
            let first = seen.insert((stream, announcement.client_segment_id.as_str()));
            judge_one(announcer, announcement, stream, first, now)
        })
        .collect()
}

fn judge_one(
    announcer: Announcer<'_>,
    announcement: &Announcement,
    stream: Option<usize>,
    first: bool,
    now: Timestamp,
) -> Judged {
    use RejectionCode::*;
    let reject = |code, message: String| Err(Rejection { code, message });
    let Announcement { client_segment_id: id, start, end, .. } = announcement;
    if let Err(form) = check_client_id(id) {
        return reject(InvalidValue, format!("clientSegmentId must be {form}"));
    }
    let Some(stream) = stream else {
        let name: String =
            announcement.stream.iter().flat_map(|name| name.chars()).take(64).collect();
        return reject(UnknownStream, format!("the device has no stream {name:?}"));
    };
    if !first {
        return reject(DuplicateInBatch, "clientSegmentId comes twice in this batch".into());
    }
    if !matches!(announcer.device.state, DeviceState::Provisioned | DeviceState::Active) {
        return reject(DeviceNotActive, "the device is suspended or retired".into());
    }
    if let Some(message) = invalid_value(announcement) {
        return reject(InvalidValue, message);
    }
    let length_ms = end.millis_since(*start);
    let Some(range) = TimeRange::new(*start, *end) else {
        return reject(InvalidRange, "end is not after start".into());
    };
    if !(MIN_SEGMENT_MS..=MAX_SEGMENT_MS).contains(&length_ms) {
        let (min, max) = (MIN_SEGMENT_MS as f64 / 1000.0, MAX_SEGMENT_MS / 1000);
        let message = format!("a segment of {length_ms} ms is not {min} to {max} s long");
        return reject(InvalidRange, message);
    }
    let ahead_ms = end.millis_since(now);
    if ahead_ms > MAX_CLOCK_AHEAD_MS {
        return reject(ClockAhead, format!("it ends {ahead_ms} ms after the service's clock"));
    }
    let kept_ms = i64::from(announcer.kept_days).saturating_mul(DAY_MS);
    if now.millis_since(*end) >= kept_ms {
        let message = format!("the plan keeps footage for {} days", announcer.kept_days);
        return reject(OutsideRetention, message);
    }
    if !announcer.has_room {
        return reject(QuotaExceeded, "the device stores all that its plan allows".into());
    }
    let pixels = |side: Option<i64>| side.and_then(|side| u32::try_from(side).ok());
    let segment = NewSegment {
        client_segment_id: id.clone(),
        range,
        trigger: announcement.trigger,
        codecs: announcement.codecs.clone(),
        width: pixels(announcement.width),
        height: pixels(announcement.height),
        size_bytes: announcement.size_bytes,
    };
    Ok((stream, segment))
}

/// Refuses a client's own identifier that has not the form that it answers.
pub(super) fn check_client_id(id: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=MAX_CLIENT_ID_CHARS).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("1 to {MAX_CLIENT_ID_CHARS} characters of A-Z a-z 0-9 . _ : -"))
}

fn invalid_value(announcement: &Announcement) -> Option<String> {
    if let Some(codecs) = &announcement.codecs
        && (codecs.is_empty()
            || codecs.len() > MAX_CODECS_CHARS
            || !codecs.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let form = format!("1 to {MAX_CODECS_CHARS} visible ASCII characters");
        return Some(format!("codecs must be {form}"));
    }
    for (name, side) in [("width", announcement.width), ("height", announcement.height)] {
        if side.is_some_and(|side| !(1..=MAX_PIXELS).contains(&side)) {
            return Some(format!("{name} must be 1 to {MAX_PIXELS}"));
        }
    }
    None
}

#[cfg(test)]
mod rules;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::id::{AccountId, DeviceId, PlanId};
    use crate::segment::SegmentId;

    pub const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

    pub fn device(state: DeviceState) -> Device {
        Device {
            id: DeviceId::new(NOW),
            account: AccountId::new(NOW),
            external_id: "cam".into(),
            name: "Cam".into(),
            model: None,
            firmware_version: None,
            state,
            time_zone: "UTC".into(),
            plan: PlanId::new(NOW),
            created_at: NOW,
            last_seen_at: None,
            clock_skew_ms: None,
        }
    }

    pub fn stream(device: &Device, position: u8, name: &str) -> Stream {
        Stream {
            id: StreamId::new(NOW),
            device: device.id,
            account: device.account,
            name: name.into(),
            position,
            media_stream_name: name.into(),
            created_at: NOW,
        }
    }

    /// 20 s long, ended a minute ago.
    fn plain() -> Announcement {
        Announcement {
            client_segment_id: "a.B_9:-".into(),
            stream: None,
            start: NOW.plus_millis(-80_000),
            end: NOW.plus_millis(-60_000),
            trigger: RecordingTrigger::Continuous,
            codecs: Some("avc1.4d4032,mp4a.40.2".into()),
            width: Some(1920),
            height: Some(1080),
            size_bytes: Some(2_500_000),
        }
    }

    #[test]
    fn batches_end_where_windows_do() {
        const WINDOW_START: i64 = 1_763_803_800_000;
        let ending = |stream: &str, length_ms: i64, end_ms: i64| {
            let end = Timestamp::from_millis(WINDOW_START + end_ms);
            let start = end.plus_millis(-length_ms);
            Announcement { stream: Some(stream.into()), start, end, ..plain() }
        };
        let one = |length_ms, end_ms| vec![ending("main", length_ms, end_ms)];
        for (batch, expected) in [
            (vec![], (15, 290)),
            (one(20_000, 0), (15, 290)),
            // The 15th begins at 287 s.
            (one(20_000, 7_000), (15, 290)),
            (one(20_000, 20_000), (14, 270)),
            (one(20_000, 287_000), (1, 10)),
            (one(20_000, 299_999), (1, 10)),
            (one(1_000, 0), (100, 300)),
            (one(300_000, 100), (1, 10)),
            (vec![ending("main", 20_000, 60_000), ending("sub", 20_000, 58_000)], (24, 230)),
        ] {
            assert_eq!(pace(false, true, &batch), expected, "{batch:?}");
            assert_eq!(pace(true, true, &batch), (1, 20));
            assert_eq!(pace(false, false, &batch), (3, 60));
        }
    }

    fn codes(state: DeviceState, batch: &[Announcement]) -> Vec<Option<RejectionCode>> {
        let device = device(state);
        let streams = [stream(&device, 0, "main"), stream(&device, 1, "sub")];
        let announcer =
            Announcer { device: &device, streams: &streams, kept_days: 7, has_room: true };
        judge(announcer, batch, NOW)
            .into_iter()
            .map(|judged| judged.err().map(|rejection| rejection.code))
            .collect()
    }

    fn check(change: impl FnOnce(&mut Announcement), expected: Option<RejectionCode>) {
        let mut announcement = plain();
        change(&mut announcement);
        let shown = format!("{announcement:?}");
        assert_eq!(codes(DeviceState::Active, &[announcement]), [expected], "{shown}");
    }

    fn check_times(start_ms: i64, end_ms: i64, expected: Option<RejectionCode>) {
        check(
            |announcement| {
                announcement.start = NOW.plus_millis(start_ms);
                announcement.end = NOW.plus_millis(end_ms);
            },
            expected,
        );
    }

    #[test]
    fn values() {
        use RejectionCode::*;
        check(|_| {}, None);
        for (id, expected) in [
            ("x".repeat(64), None),
            ("x".repeat(65), Some(InvalidValue)),
            (String::new(), Some(InvalidValue)),
            ("a b".into(), Some(InvalidValue)),
            ("a/b".into(), Some(InvalidValue)),
            ("é".into(), Some(InvalidValue)),
        ] {
            check(|a| a.client_segment_id = id, expected);
        }
        for (name, expected) in [
            ("main", None),
            ("sub", None),
            ("Main", Some(UnknownStream)),
            ("", Some(UnknownStream)),
        ] {
            check(|a| a.stream = Some(name.into()), expected);
        }
        for (codecs, expected) in [
            ("avc1.42e01e".into(), None),
            (String::new(), Some(InvalidValue)),
            ("x".repeat(129), Some(InvalidValue)),
        ] {
            check(|a| a.codecs = Some(codecs), expected);
        }
        for (side, expected) in [
            (1, None),
            (16_888, None),
            (0, Some(InvalidValue)),
            (-1, Some(InvalidValue)),
            (16_889, Some(InvalidValue)),
        ] {
            check(|a| a.width = Some(side), expected);
            check(|a| a.height = Some(side), expected);
        }
    }

    #[test]
    fn times() {
        use RejectionCode::*;
        let week = 7 * DAY_MS;
        for (start_ms, end_ms, expected) in [
            (-20_000, -20_000, Some(InvalidRange)),
            (-20_000, -30_000, Some(InvalidRange)),
            (-20_000, -19_900, None),
            (-20_000, -19_901, Some(InvalidRange)),
            (-300_000, 0, None),
            (-300_001, 0, Some(InvalidRange)),
            (100_000, 120_000, None),
            (100_000, 120_001, Some(ClockAhead)),
            (-week - 10_000, -week + 1, None),
            (-week - 10_000, -week, Some(OutsideRetention)),
            (i64::MIN, i64::MAX, Some(InvalidRange)),
        ] {
            check_times(start_ms, end_ms, expected);
        }
    }

    #[test]
    fn devices_out_of_service_announce_nothing() {
        for (state, expected) in [
            (DeviceState::Provisioned, None),
            (DeviceState::Active, None),
            (DeviceState::Suspended, Some(RejectionCode::DeviceNotActive)),
            (DeviceState::Retired, Some(RejectionCode::DeviceNotActive)),
        ] {
            assert_eq!(codes(state, &[plain()]), [expected], "{state:?}");
        }
    }

    #[test]
    fn the_same_identifier_twice_in_a_stream() {
        let named = |stream: &str| Announcement { stream: Some(stream.into()), ..plain() };
        let batch = [plain(), named("sub"), plain(), named("main"), named("nowhere")];
        use RejectionCode::{DuplicateInBatch, UnknownStream};
        assert_eq!(
            codes(DeviceState::Active, &batch),
            [None, None, Some(DuplicateInBatch), Some(DuplicateInBatch), Some(UnknownStream)]
        );
    }

    #[test]
    fn warnings() {
        let segment = Segment {
            id: SegmentId { stream: StreamId::new(NOW), window: 0, key: 0 },
            client_segment_id: "a".into(),
            range: TimeRange { start: NOW, end: NOW.plus_millis(20_000) },
            ingested_at: NOW,
            trigger: RecordingTrigger::Continuous,
            codecs: None,
            width: None,
            height: None,
            size_bytes: None,
        };
        let stored = |overlaps, out_of_order| Announced::Stored {
            segment: segment.clone(),
            overlaps,
            out_of_order,
        };
        use Warning::*;
        for (known, skew_ms, expected) in [
            (stored(false, false), 2_000, vec![]),
            (stored(false, false), 2_001, vec![ClockSkew]),
            (stored(true, true), -2_001, vec![OutOfOrder, Overlap, ClockSkew]),
            (stored(true, false), i64::MIN, vec![Overlap, ClockSkew]),
            (Announced::Duplicate(segment.clone()), 0, vec![]),
            (Announced::Conflict(segment.clone()), 5_000, vec![]),
        ] {
            assert_eq!(weigh(known, skew_ms).1, expected, "{skew_ms}");
        }
    }
}
