//! What is past keeping, by the clock it is given; what is held beyond it, and what is deleted
//! before.
//!
//! Footage, announced segments and events are kept for as long as the device's plan says, counted from
//! arrival. Whole chunk files go, so the first of a file's fragments stay up to half an hour longer;
//! nothing goes early. What a hold covers stays until the hold ends. On a plan for events only, what
//! no event has claimed an hour after it arrived goes then.

mod remote;

pub use remote::PrepareError;

use crate::account::{RetentionMode, RetentionPlan};
use crate::clock::Clock;
use crate::device::Stream;
use crate::event::{EventSeverity, EventTypes, MAX_EVENT_MS};
use crate::id::{DeviceId, StreamId};
use crate::keeping::{CLAIM_MS, Deletion, Hold, Keeping};
use crate::segment::{RecordingTrigger, TimeRange};
use crate::storage::{
    ChunkFile, EventQuery, Removed, Result, SegmentQuery, Storage, StorageError, TimeOrder,
    arrival_of, first_number_at,
};
use lookback_wire::{FragmentNumber, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// With half an hour of a chunk file, well under the hour that footage may stay too long.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// Between two chunk files of a sweep, so that ingest hardly notices: 8 of 256 MB a second are four
/// times what 2,000 cameras of 2 Mbit/s bring in.
const FILE_PAUSE: Duration = Duration::from_millis(125);
/// Segments of one transaction, so that announcements do not wait long for it.
const SEGMENTS_PER_STEP: usize = 500;
/// Events of one transaction, likewise.
const EVENTS_PER_STEP: usize = 100;
/// Streams whose records are read at once.
const STREAMS_PER_STEP: usize = 500;
/// Segments, and events, that are looked at for one chunk file: a half hour of footage has some
/// hundred. Where there are more, all of the file stays.
const MAX_CLAIMS: usize = 10_000;
/// Deletions that were not done when the service stopped.
const MAX_OPEN_DELETIONS: usize = 1_000;
/// A fragment that touches a span begins no further from it than this.
const MAX_FRAGMENT_MS: i64 = 10 * 60 * 1000;
const EVER: Timestamp = Timestamp::from_millis(i64::MAX);
/// For so long after a device was retired, what it had under way may still arrive.
const UNDER_WAY_MS: i64 = 20_000;

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub fragments: u64,
    pub segments: u64,
    pub events: u64,
}

/// Why footage is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("{} keeps some of it", .0.id)]
    Held(Hold),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a deletion took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// From the first fragment to the last one, or of the announcements where there was none.
    pub range: Option<TimeRange>,
    pub fragments: u64,
    pub segments: usize,
    pub events: usize,
}

/// Lets footage go, and keeps it from going.
#[derive(Debug)]
pub struct Retention {
    storage: Storage,
    clock: Arc<Clock>,
    /// Held while it is decided what goes and, in a sweep, until it is gone: a hold that was placed
    /// is seen by whatever goes after it.
    turn: tokio::sync::Mutex<()>,
    /// Up to which arrival the files of a stream were left with what events claim, in this process.
    thinned: Mutex<HashMap<StreamId, Timestamp>>,
    /// How many hours of a stream an archive elsewhere was told to keep, by this process.
    prepared: Mutex<HashMap<StreamId, u32>>,
}

impl Retention {
    pub fn new(storage: Storage, clock: Arc<Clock>) -> Self {
        Self {
            storage,
            clock,
            turn: tokio::sync::Mutex::default(),
            thinned: Mutex::default(),
            prepared: Mutex::default(),
        }
    }

    /// Sweeps until it is dropped.
    pub async fn run(&self) {
        loop {
            match self.sweep_with(FILE_PAUSE).await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(Swept { fragments, segments, events }) => {
                    tracing::info!(fragments, segments, events, "retention ended");
                }
                Err(error) => tracing::warn!(%error, "not all that is due is gone"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Takes away all that is due. What belongs to no known device or plan stays. One stream's
    /// failure leaves the others to be swept; the last one is answered.
    pub async fn sweep(&self) -> Result<Swept> {
        self.sweep_with(Duration::ZERO).await
    }

    async fn sweep_with(&self, pause: Duration) -> Result<Swept> {
        let mut failure = self.finish_deletions().await.err();
        let catalog = &self.storage.catalog;
        let mut streams: BTreeSet<StreamId> =
            catalog.announced_streams().await?.into_iter().collect();
        match self.storage.local() {
            Ok(archive) => streams.extend(archive.streams().await?),
            Err(_) => failure = self.prepare_all().await.err().or(failure),
        }
        let streams: Vec<StreamId> = streams.into_iter().collect();
        let mut swept = Swept::default();
        for streams in streams.chunks(STREAMS_PER_STEP) {
            let plans = self.plans_of(streams).await?;
            let streams: Vec<StreamId> = plans.iter().map(|(stream, _)| *stream).collect();
            let settings = catalog.media_settings(&streams).await?;
            for ((stream, plan), settings) in plans.into_iter().zip(settings) {
                let keeping = Keeping::of(&plan, &settings);
                let result = self.sweep_stream(stream, &plan, keeping, pause, &mut swept).await;
                failure = result.err().or(failure);
            }
        }
        for devices in catalog.eventful_devices().await?.chunks(STREAMS_PER_STEP) {
            let streams = catalog.streams_of(devices).await?;
            for (device, streams) in devices.iter().zip(streams) {
                let result = self.sweep_events(*device, &streams, &mut swept).await;
                failure = result.err().or(failure);
            }
        }
        failure.map_or(Ok(swept), Err)
    }

    /// Lets events go as the footage does that arrived when they did: that of the stream which is
    /// kept longest.
    async fn sweep_events(
        &self,
        device: DeviceId,
        streams: &[Stream],
        swept: &mut Swept,
    ) -> Result<()> {
        let catalog = &self.storage.catalog;
        let now = self.clock.now();
        let streams: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        let settings = catalog.media_settings(&streams).await?;
        let mut kept_ms = None;
        for ((stream, plan), settings) in self.plans_of(&streams).await?.into_iter().zip(settings) {
            let keeping = Keeping::of(&plan, &settings);
            let keeping = catalog.keeping_in_force(stream, keeping, now).await?;
            kept_ms = kept_ms.max(Some(keeping.kept_ms()));
        }
        let Some(kept_ms) = kept_ms else { return Ok(()) };
        loop {
            let _turn = self.turn.lock().await;
            let mut spare = Vec::new();
            for stream in &streams {
                spare.extend(self.held(*stream, TimeRange::ALL).await?);
            }
            let due = now.plus_millis(-kept_ms);
            let gone = catalog.expire_events(device, due, &spare, EVENTS_PER_STEP).await?;
            swept.events += gone as u64;
            if gone < EVENTS_PER_STEP {
                return Ok(());
            }
        }
    }

    async fn sweep_stream(
        &self,
        stream: StreamId,
        plan: &RetentionPlan,
        keeping: Keeping,
        pause: Duration,
        swept: &mut Swept,
    ) -> Result<()> {
        let catalog = &self.storage.catalog;
        let now = self.clock.now();
        let keeping = catalog.keeping_in_force(stream, keeping, now).await?;
        let due = now.plus_millis(-keeping.kept_ms());
        self.forget_ended_holds(stream, now).await?;
        if let Ok(archive) = self.storage.local() {
            for file in archive.chunk_files(stream, due).await? {
                let turn = self.turn.lock().await;
                let spare = self.held(stream, file.range).await?;
                let gone = archive.expire(stream, file.number, &spare).await?;
                drop(turn);
                swept.fragments += gone;
                if gone > 0 {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        loop {
            let _turn = self.turn.lock().await;
            let spare = self.held(stream, TimeRange::ALL).await?;
            let gone = catalog.expire_segments(stream, due, &spare, SEGMENTS_PER_STEP).await?;
            swept.segments += gone as u64;
            if gone < SEGMENTS_PER_STEP {
                break;
            }
        }
        catalog.forget_deletions(stream, due).await?;
        catalog.forget_known_gaps(stream, due).await?;
        match keeping.mode {
            RetentionMode::Continuous => {
                self.thinned.lock().remove(&stream);
                Ok(())
            }
            RetentionMode::EventOnly => self.thin_stream(stream, plan, due, pause, swept).await,
        }
    }

    /// Leaves of what arrived more than [`CLAIM_MS`] ago only what events claim. What lies elsewhere
    /// stays.
    async fn thin_stream(
        &self,
        stream: StreamId,
        plan: &RetentionPlan,
        due: Timestamp,
        pause: Duration,
        swept: &mut Swept,
    ) -> Result<()> {
        let Ok(archive) = self.storage.local() else { return Ok(()) };
        let unclaimed = self.clock.now().plus_millis(-CLAIM_MS);
        let done = self.thinned.lock().get(&stream).copied();
        let is_left = |file: &ChunkFile| {
            file.newest_arrival >= due && done.is_none_or(|done| file.newest_arrival >= done)
        };
        let files = archive.chunk_files(stream, unclaimed).await?;
        for file in files.into_iter().filter(is_left) {
            let turn = self.turn.lock().await;
            let Some(claims) = self.claims(stream, plan, file.range).await? else { continue };
            let spare = [claims, self.held(stream, file.range).await?].concat();
            let gone = archive.expire(stream, file.number, &spare).await?;
            swept.fragments += gone;
            swept.segments += self.drop_segments(stream, file.range, EVER, &spare).await? as u64;
            drop(turn);
            if gone > 0 {
                tokio::time::sleep(pause).await;
            }
        }
        self.thinned.lock().insert(stream, unclaimed);
        Ok(())
    }

    /// The footage around events and segments of events that touch `range`; none where they are too
    /// many.
    async fn claims(
        &self,
        stream: StreamId,
        plan: &RetentionPlan,
        range: TimeRange,
    ) -> Result<Option<Vec<TimeRange>>> {
        let (before_ms, after_ms) =
            (i64::from(plan.pre_roll_s) * 1000, i64::from(plan.post_roll_s) * 1000);
        let query = SegmentQuery {
            range: range.widened(before_ms.max(after_ms)),
            order: TimeOrder::OldestFirst,
            after: None,
            limit: MAX_CLAIMS,
        };
        let segments = self.storage.catalog.segments(stream, &query).await?;
        if segments.len() >= MAX_CLAIMS {
            tracing::warn!(%stream, "too many announcements to tell what events claim: all stays");
            return Ok(None);
        }
        let wanted =
            segments.iter().filter(|segment| segment.trigger != RecordingTrigger::Continuous);
        let Some(events) = self.events_about(stream, query.range).await? else {
            tracing::warn!(%stream, "too many events to tell what they claim: all stays");
            return Ok(None);
        };
        let with_rolls = wanted.map(|segment| segment.range).chain(events).map(|range| TimeRange {
            start: range.start.plus_millis(-before_ms),
            end: range.end.plus_millis(after_ms),
        });
        Ok(Some(with_rolls.collect()))
    }

    /// When the events of a stream's device took place that overlap `range`; none where they are too
    /// many.
    async fn events_about(
        &self,
        stream: StreamId,
        range: TimeRange,
    ) -> Result<Option<Vec<TimeRange>>> {
        let catalog = &self.storage.catalog;
        let Some(stream) = catalog.streams_by_id(&[stream]).await?.pop().flatten() else {
            return Ok(Some(Vec::new()));
        };
        let mut query = EventQuery {
            range: TimeRange { start: range.start.plus_millis(-MAX_EVENT_MS), end: range.end },
            types: EventTypes::ALL,
            min_severity: EventSeverity::Info,
            order: TimeOrder::OldestFirst,
            after: None,
            limit: MAX_CLAIMS,
        };
        let mut spans: Vec<TimeRange> = Vec::new();
        let now = self.clock.now();
        loop {
            let page = catalog.events_of(&[stream.device], &query).await?.pop().unwrap_or_default();
            spans.extend(page.events.iter().map(|event| event.span(now)));
            if spans.len() >= MAX_CLAIMS {
                return Ok(None);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        spans.retain(|span| span.overlaps(&range));
        Ok(Some(spans))
    }

    /// Spans that holds in force keep, of those that overlap `range`.
    async fn held(&self, stream: StreamId, range: TimeRange) -> Result<Vec<TimeRange>> {
        let holds = self.holds(stream, range).await?;
        Ok(holds.into_iter().map(|hold| hold.range).collect())
    }

    /// Drops the segments within `range` that were ingested before `before`.
    async fn drop_segments(
        &self,
        stream: StreamId,
        range: TimeRange,
        before: Timestamp,
        spare: &[TimeRange],
    ) -> Result<usize> {
        let limit = SEGMENTS_PER_STEP;
        let catalog = &self.storage.catalog;
        let mut dropped = 0;
        loop {
            let gone = catalog.delete_segments(stream, range, before, spare, limit).await?;
            dropped += gone;
            if gone < limit {
                return Ok(dropped);
            }
        }
    }

    /// The plan of each stream, where there is one.
    async fn plans_of(&self, streams: &[StreamId]) -> Result<Vec<(StreamId, RetentionPlan)>> {
        let catalog = &self.storage.catalog;
        let known = catalog.streams_by_id(streams).await?;
        let known: Vec<_> = known.into_iter().flatten().collect();
        let devices: Vec<_> = known.iter().map(|stream| stream.device).collect();
        let devices = catalog.devices_by_id(&devices).await?;
        let of_device: Vec<_> = known
            .iter()
            .zip(devices)
            .filter_map(|(stream, device)| Some((stream.id, device?.plan)))
            .collect();
        let plans: Vec<_> = of_device.iter().map(|(_, plan)| *plan).collect();
        let plans = catalog.plans_by_id(&plans).await?;
        Ok(of_device
            .into_iter()
            .zip(plans)
            .filter_map(|((stream, _), plan)| Some((stream, plan?)))
            .collect())
    }

    /// How a stream is to be kept whose device is on `plan`.
    pub async fn keeping(&self, stream: StreamId, plan: &RetentionPlan) -> Result<Keeping> {
        let settings = self.storage.catalog.media_settings(&[stream]).await?.pop();
        Ok(Keeping::of(plan, &settings.unwrap_or_default()))
    }

    /// Whether a device may store more; else [`StorageError::OverQuota`]. Nothing unexpired goes to
    /// make room.
    pub async fn check_quota(&self, device: DeviceId) -> Result<()> {
        let catalog = &self.storage.catalog;
        let Some(device) = catalog.devices_by_id(&[device]).await?.pop().flatten() else {
            return Ok(());
        };
        let plan = catalog.plans_by_id(&[device.plan]).await?.pop().flatten();
        let Some(plan) = plan else { return Ok(()) };
        let Some(quota) = plan.storage_quota_bytes else { return Ok(()) };
        let streams = catalog.streams_of(&[device.id]).await?.pop().unwrap_or_default();
        let streams: Vec<StreamId> = streams.iter().map(|stream| stream.id).collect();
        let stored = match self.storage.local() {
            Ok(archive) => archive.stored_bytes(&streams).await?,
            Err(_) => self.arrived_lately(&streams, &plan).await?,
        };
        let stored = stored.into_iter().fold(0, u64::saturating_add);
        if stored >= quota {
            let what = format!("{} stores {stored} bytes of {quota}", device.id);
            return Err(StorageError::OverQuota(what));
        }
        Ok(())
    }

    /// Holds in force that overlap `range`, by start.
    pub async fn holds(&self, stream: StreamId, range: TimeRange) -> Result<Vec<Hold>> {
        let now = self.clock.now();
        let mut holds = self.storage.catalog.holds(stream, range).await?;
        holds.retain(|hold| hold.is_in_force(now));
        Ok(holds)
    }

    async fn forget_ended_holds(&self, stream: StreamId, now: Timestamp) -> Result<()> {
        for hold in self.storage.catalog.holds(stream, TimeRange::ALL).await? {
            if !hold.is_in_force(now) {
                self.release_hold(&hold).await?;
            }
        }
        Ok(())
    }

    /// Places a hold: from now on what it covers stays. Answers whether there was room for it. What
    /// lies elsewhere cannot be kept beyond its stream's retention.
    pub async fn place_hold(&self, hold: Hold) -> Result<bool> {
        if self.storage.local().is_err() {
            self.check_hold(&hold).await?;
        }
        let _turn = self.turn.lock().await;
        self.storage.catalog.put_hold(hold).await
    }

    /// Ends a hold; what is due goes with the next sweep.
    pub async fn release_hold(&self, hold: &Hold) -> Result<()> {
        self.storage.catalog.delete_hold(hold.id).await?;
        self.thinned.lock().remove(&hold.stream);
        Ok(())
    }

    /// Deletes the fragments that overlap `range`, the announcements within and the device's events
    /// that begin in it, for good. Refused whole where a hold keeps any of the range. A fragment that
    /// only reaches into the range goes whole, unless a hold beside the range keeps it. Not supported
    /// of what lies elsewhere.
    pub async fn delete(&self, stream: StreamId, range: TimeRange) -> Result<Deleted, DeleteError> {
        let last = self.storage.local()?.next_number(stream, self.clock.now());
        self.begin(&[stream], range, |_| last).await?;
        Ok(self.finish(Deletion { stream, range, last, is_done: false }).await?)
    }

    /// Decides that all footage of streams goes, for good; [`Retention::carry_out`] is to follow.
    /// Refused whole where a hold keeps any of it. What is on its way now goes with a later sweep.
    pub async fn begin_delete_all(
        &self,
        streams: &[StreamId],
    ) -> Result<Vec<Deletion>, DeleteError> {
        let now = self.clock.now();
        let under_way = first_number_at(now.plus_millis(UNDER_WAY_MS));
        let local = self.storage.local().ok();
        let last = |stream| {
            let next = local.map(|archive| archive.next_number(stream, now));
            next.map_or(under_way, |next| next.max(under_way))
        };
        self.begin(streams, TimeRange::ALL, last).await
    }

    /// Decides that footage goes: from here on a stop of the service only puts it off.
    async fn begin(
        &self,
        streams: &[StreamId],
        range: TimeRange,
        last: impl Fn(StreamId) -> FragmentNumber,
    ) -> Result<Vec<Deletion>, DeleteError> {
        let _turn = self.turn.lock().await;
        for &stream in streams {
            if let Some(hold) = self.holds(stream, range).await?.into_iter().next() {
                return Err(DeleteError::Held(hold));
            }
        }
        let mut begun = Vec::with_capacity(streams.len());
        for &stream in streams {
            let deletion = Deletion { stream, range, last: last(stream), is_done: false };
            self.storage.catalog.put_deletion(deletion.clone()).await?;
            begun.push(deletion);
        }
        Ok(begun)
    }

    /// Ends the deletions of streams whose device is there again: what comes from now on is footage of
    /// its own, also where a deletion was to wait for what was under way.
    pub async fn end_deletions(&self, streams: &[StreamId]) -> Result<()> {
        let before = FragmentNumber(first_number_at(self.clock.now()).0.saturating_sub(1));
        for deletion in self.storage.catalog.open_deletions(MAX_OPEN_DELETIONS).await? {
            if streams.contains(&deletion.stream) {
                self.finish_up_to(before, deletion).await?;
            }
        }
        Ok(())
    }

    async fn finish(&self, deletion: Deletion) -> Result<Deleted> {
        self.finish_up_to(deletion.last, deletion).await
    }

    /// Finishes a deletion, sparing what got a larger number than `last`.
    async fn finish_up_to(&self, last: FragmentNumber, deletion: Deletion) -> Result<Deleted> {
        let last = last.min(deletion.last);
        let deleted = self.carry_out(&Deletion { last, ..deletion.clone() }).await?;
        let range = match deleted.range {
            Some(gone) => TimeRange {
                start: gone.start.min(deletion.range.start),
                end: gone.end.max(deletion.range.end),
            },
            None => deletion.range,
        };
        // What is still to come was not deleted.
        let end = range.end.min(self.clock.now()).max(range.start);
        let range = TimeRange { end, ..range };
        self.storage.catalog.put_deletion(Deletion { range, is_done: true, ..deletion }).await?;
        Ok(deleted)
    }

    /// Takes away what a deletion that was begun says.
    pub async fn carry_out(&self, deletion: &Deletion) -> Result<Deleted> {
        let Deletion { stream, range, last, .. } = *deletion;
        // A hold that overlaps the range itself was placed after it was decided.
        let mut spare = self.held(stream, range.widened(MAX_FRAGMENT_MS)).await?;
        spare.retain(|span| !span.overlaps(&range));
        let Removed { fragments, range: gone } = match self.storage.local() {
            Ok(archive) => archive.delete(stream, range, last, &spare).await?,
            // Only all of a stream is ever decided to go there.
            Err(_) => self.forget(stream).await?,
        };
        let whole = match gone {
            Some(gone) => {
                TimeRange { start: gone.start.min(range.start), end: gone.end.max(range.end) }
            }
            None => range,
        };
        let before = arrival_of(deletion.last).plus_millis(1);
        let segments = self.drop_segments(stream, whole, before, &spare).await?;
        let events = self.drop_events(stream, range, before).await?;
        let range = gone.or((segments > 0 || events > 0).then_some(range));
        Ok(Deleted { range, fragments, segments, events })
    }

    /// Drops the events of a stream's device that begin in `range` and were reported before `before`,
    /// but for those that a hold on another one of its streams keeps. A stream that is gone already
    /// takes none along.
    async fn drop_events(
        &self,
        stream: StreamId,
        range: TimeRange,
        before: Timestamp,
    ) -> Result<usize> {
        let catalog = &self.storage.catalog;
        let Some(stream) = catalog.streams_by_id(&[stream]).await?.pop().flatten() else {
            return Ok(0);
        };
        let mut spare = Vec::new();
        for other in catalog.streams_of(&[stream.device]).await?.into_iter().flatten() {
            if other.id != stream.id {
                spare.extend(self.held(other.id, range).await?);
            }
        }
        let (device, limit) = (stream.device, EVENTS_PER_STEP);
        let mut dropped = 0;
        loop {
            let gone = catalog.delete_events(device, range, before, &spare, limit).await?;
            dropped += gone;
            if gone < limit {
                return Ok(dropped);
            }
        }
    }

    /// Does what was begun and not finished: before a stop, or while a retired device still sent. One
    /// deletion's failure leaves the others; the last one is answered.
    async fn finish_deletions(&self) -> Result<()> {
        let now = first_number_at(self.clock.now());
        let mut failure = None;
        for deletion in self.storage.catalog.open_deletions(MAX_OPEN_DELETIONS).await? {
            let result = if deletion.last <= now {
                self.finish(deletion).await
            } else {
                self.carry_out(&deletion).await
            };
            failure = result.err().or(failure);
        }
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::id::HoldId;
    use crate::media_stream::MediaSettings;
    use crate::segment::NewSegment;
    use crate::storage::{contract, embedded};

    const START: Timestamp = contract::NOW;
    const DAY_MS: i64 = 24 * 3600 * 1000;
    const HOUR_MS: i64 = 3600 * 1000;

    fn days(count: i64) -> i64 {
        count * DAY_MS
    }

    /// A store with one device of two streams on a plan of 7 days, and its clock.
    struct Kept {
        _dir: tempfile::TempDir,
        storage: Storage,
        clock: Arc<Clock>,
        retention: Retention,
        plan: RetentionPlan,
        streams: [StreamId; 2],
    }

    impl Kept {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let storage = embedded::open(dir.path()).unwrap();
            let account = storage.catalog.ensure_account("default", START).await.unwrap().id;
            let plan = storage.catalog.plans(account).await.unwrap().remove(0);
            let mut registration = contract::registration(account, "SN-1", "Door");
            registration.device.plan = plan.id;
            let made = storage.catalog.register_device(registration, START).await.unwrap();
            let clock = Arc::new(Clock::manual(START));
            let retention = Retention::new(storage.clone(), clock.clone());
            let streams = [made.streams[0].id, made.streams[1].id];
            Self { _dir: dir, storage, clock, retention, plan, streams }
        }

        /// A fragment of one second that arrives at its end.
        async fn append(&self, stream: StreamId, start_ms: i64) {
            let archive = self.storage.local().unwrap().as_ref();
            let start = START.plus_millis(start_ms);
            let fill = start_ms.to_le_bytes();
            let fragment = contract::fragment(archive, stream, start, 1_000, &fill);
            archive.append(fragment).await.unwrap();
        }

        async fn announce(&self, stream: StreamId, start_ms: i64, trigger: RecordingTrigger) {
            let segment = NewSegment {
                client_segment_id: format!("{start_ms}"),
                range: span(start_ms, start_ms + 20_000),
                trigger,
                codecs: None,
                width: None,
                height: None,
                size_bytes: None,
            };
            let now = self.clock.now();
            self.storage.catalog.announce(stream, &[segment], now).await.unwrap();
        }

        async fn put_plan(&mut self, change: impl FnOnce(&mut RetentionPlan)) {
            change(&mut self.plan);
            self.storage.catalog.put_plan(self.plan.clone()).await.unwrap();
        }

        async fn sweep_at(&self, ms: i64) -> Swept {
            self.clock.set(START.plus_millis(ms));
            self.retention.sweep().await.unwrap()
        }

        /// Starts of the fragments that are there.
        async fn starts(&self, stream: StreamId) -> Vec<i64> {
            contract::all_starts(self.storage.local().unwrap().as_ref(), stream).await
        }

        async fn report(&self, id: &str, start_ms: i64, end_ms: Option<i64>) {
            let event = NewEvent {
                end: end_ms.map(|ms| START.plus_millis(ms)),
                ..contract::events::new_event(id, start_ms)
            };
            let streams = self.storage.catalog.streams_by_id(&self.streams[..1]).await.unwrap();
            let device = streams[0].as_ref().unwrap().device;
            self.storage.catalog.report_events(device, &[event], self.clock.now()).await.unwrap();
        }

        async fn segments(&self, stream: StreamId) -> usize {
            let query = SegmentQuery {
                range: span(-days(30), days(30)),
                order: TimeOrder::OldestFirst,
                after: None,
                limit: 1_000,
            };
            self.storage.catalog.segments(stream, &query).await.unwrap().len()
        }

        fn hold(&self, start_ms: i64, end_ms: i64) -> Hold {
            Hold {
                id: HoldId::new(START),
                stream: self.streams[0],
                range: span(start_ms, end_ms),
                reason: None,
                until: None,
                created_at: self.clock.now(),
            }
        }
    }

    fn span(start_ms: i64, end_ms: i64) -> TimeRange {
        TimeRange { start: START.plus_millis(start_ms), end: START.plus_millis(end_ms) }
    }

    #[tokio::test]
    async fn footage_and_segments_go_when_the_plan_says() {
        let mut kept = Kept::new().await;
        let [stream, without_media] = kept.streams;
        let unknown = StreamId::new(START);
        for stream in [stream, unknown] {
            kept.append(stream, 0).await;
        }
        for stream in [stream, without_media] {
            kept.announce(stream, 0, RecordingTrigger::Continuous).await;
        }
        let nothing = Swept::default();
        // It arrived a second after its start.
        assert_eq!(kept.sweep_at(days(7)).await, nothing);
        // A shorter plan waits for a day after it was first seen; a longer one does not.
        kept.put_plan(|plan| plan.days = 3).await;
        assert_eq!(kept.sweep_at(days(5)).await, nothing);
        kept.put_plan(|plan| plan.days = 2).await;
        assert_eq!(kept.sweep_at(days(5) + 1).await, nothing);
        kept.put_plan(|plan| plan.days = 7).await;
        assert_eq!(kept.sweep_at(days(6)).await, nothing);
        kept.put_plan(|plan| plan.days = 2).await;
        assert_eq!(kept.sweep_at(days(6)).await, nothing);
        assert_eq!(kept.sweep_at(days(7) - 1).await, nothing);
        assert_eq!(kept.sweep_at(days(7)).await, Swept { fragments: 1, segments: 2, events: 0 });
        assert_eq!(kept.sweep_at(days(7)).await, nothing);
        assert_eq!(kept.storage.local().unwrap().streams().await.unwrap(), [unknown]);
    }

    #[tokio::test]
    async fn a_plan_is_over_to_the_millisecond() {
        let kept = Kept::new().await;
        kept.append(kept.streams[0], 0).await;
        assert_eq!(kept.sweep_at(days(7) + 1_000).await.fragments, 0);
        assert_eq!(kept.sweep_at(days(7) + 1_001).await.fragments, 1);
    }

    #[tokio::test]
    async fn hours_set_for_a_stream_come_before_the_plan() {
        let kept = Kept::new().await;
        let [stream, other] = kept.streams;
        let settings = MediaSettings { retention_hours: Some(0), changes: 1, ..Default::default() };
        assert!(kept.storage.catalog.put_media_settings(stream, settings).await.unwrap());
        for stream in [stream, other] {
            kept.append(stream, 0).await;
        }
        // Who watches live has five minutes.
        assert_eq!(kept.sweep_at(5 * 60_000 + 1_000).await.fragments, 0);
        assert_eq!(kept.sweep_at(5 * 60_000 + 1_001).await.fragments, 1);
        assert_eq!(kept.starts(stream).await, [0i64; 0]);
        assert_eq!(kept.starts(other).await, [0]);
    }

    #[tokio::test]
    async fn a_quota_is_for_all_streams_of_a_device() {
        let mut kept = Kept::new().await;
        let [stream, other] = kept.streams;
        let device = kept.storage.catalog.streams_by_id(&[stream]).await.unwrap();
        let device = device[0].as_ref().unwrap().device;
        kept.put_plan(|plan| plan.storage_quota_bytes = Some(48)).await;
        for (stream, has_room) in [(stream, true), (other, false)] {
            kept.append(stream, 0).await;
            let checked = kept.retention.check_quota(device).await;
            assert_eq!(checked.is_ok(), has_room, "{checked:?}");
        }
        kept.retention.delete(other, span(0, 1_000)).await.unwrap();
        kept.retention.check_quota(device).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_held_stays_until_the_hold_ends() {
        let kept = Kept::new().await;
        let [stream, _] = kept.streams;
        for start in [0, 1_000, 2_000, 3_000] {
            kept.append(stream, start).await;
        }
        for start in [-20_000, 2_000] {
            kept.announce(stream, start, RecordingTrigger::Continuous).await;
        }
        let released = kept.hold(0, 500);
        let ends = Hold { until: Some(START.plus_millis(days(10))), ..kept.hold(2_500, 3_000) };
        for hold in [&released, &ends] {
            assert!(kept.retention.place_hold(hold.clone()).await.unwrap());
        }
        assert_eq!(kept.sweep_at(days(8)).await, Swept { fragments: 2, segments: 1, events: 0 });
        assert_eq!(kept.starts(stream).await, [0, 2_000]);
        kept.retention.release_hold(&released).await.unwrap();
        assert_eq!(kept.sweep_at(days(10) - 1).await.fragments, 1);
        assert_eq!(kept.starts(stream).await, [2_000]);
        assert_eq!(kept.sweep_at(days(10)).await, Swept { fragments: 1, segments: 1, events: 0 });
        assert_eq!(kept.storage.catalog.hold(ends.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn events_go_with_the_footage_of_their_time() {
        let kept = Kept::new().await;
        for (id, start_ms) in [("first", 0), ("held", 2_000)] {
            kept.report(id, start_ms, None).await;
        }
        kept.clock.set(START.plus_millis(1));
        kept.report("second", 1_000, None).await;
        let hold = kept.hold(1_500, 3_000);
        assert!(kept.retention.place_hold(hold.clone()).await.unwrap());
        for (at_ms, gone) in [(days(7), 0), (days(7) + 1, 1), (days(7) + 2, 1), (days(8), 0)] {
            assert_eq!(kept.sweep_at(at_ms).await.events, gone, "{at_ms}");
        }
        kept.retention.release_hold(&hold).await.unwrap();
        assert_eq!(kept.sweep_at(days(8)).await.events, 1);
    }

    #[tokio::test]
    async fn a_deletion_is_refused_whole_where_anything_is_held() {
        let kept = Kept::new().await;
        let [stream, _] = kept.streams;
        for start in [0, 1_000, 2_000] {
            kept.append(stream, start).await;
        }
        kept.clock.set(START.plus_millis(60_000));
        kept.announce(stream, 0, RecordingTrigger::Event).await;
        kept.announce(stream, 25_000, RecordingTrigger::Event).await;
        let hold = kept.hold(2_500, 2_600);
        kept.retention.place_hold(hold.clone()).await.unwrap();
        let refused = kept.retention.delete(stream, span(0, 2_501)).await;
        assert!(matches!(&refused, Err(DeleteError::Held(held)) if *held == hold), "{refused:?}");
        let refused = kept.retention.begin_delete_all(&kept.streams).await;
        assert!(matches!(refused, Err(DeleteError::Held(_))), "{refused:?}");
        assert_eq!(kept.starts(stream).await.len(), 3);
        // Beside the hold, its fragment stays; the announcement tells of what stays, too.
        let deleted = kept.retention.delete(stream, span(500, 2_500)).await.unwrap();
        assert_eq!(
            deleted,
            Deleted { range: Some(span(0, 2_000)), fragments: 2, segments: 0, events: 0 }
        );
        assert_eq!(kept.starts(stream).await, [2_000]);
        kept.retention.release_hold(&hold).await.unwrap();
        let deleted = kept.retention.delete(stream, span(0, 45_000)).await.unwrap();
        assert_eq!(deleted.segments, 2);
        assert_eq!(kept.starts(stream).await, [0i64; 0]);
        // Both are remembered as one.
        let noted = kept.storage.catalog.deletions(stream, TimeRange::ALL).await.unwrap();
        let noted: Vec<_> = noted.iter().map(|one| (one.range, one.is_done)).collect();
        assert_eq!(noted, [(span(0, 45_000), true)]);
        kept.sweep_at(days(8)).await;
        kept.append(stream, 0).await;
        kept.sweep_at(days(8)).await;
        assert_eq!(kept.storage.catalog.deletions(stream, TimeRange::ALL).await.unwrap(), []);
    }

    #[tokio::test]
    async fn events_are_deleted_with_the_span_that_they_begin_in() {
        let kept = Kept::new().await;
        let [stream, other] = kept.streams;
        let device = kept.storage.catalog.streams_by_id(&[stream]).await.unwrap();
        let device = device[0].as_ref().unwrap().device;
        kept.clock.set(START.plus_millis(60_000));
        for (id, start_ms) in [("before", -1), ("first", 0), ("held", 500), ("after", 1_000)] {
            kept.report(id, start_ms, Some(5_000)).await;
        }
        let elsewhere = Hold { stream: other, ..kept.hold(400, 600) };
        assert!(kept.retention.place_hold(elsewhere.clone()).await.unwrap());
        let bounds = [TimeRange::ALL.start, TimeRange::ALL.end];
        let left = async || kept.storage.catalog.event_counts(device, &bounds).await.unwrap()[0];
        let deleted = kept.retention.delete(stream, span(0, 1_000)).await.unwrap();
        assert_eq!((deleted.range, deleted.events), (Some(span(0, 1_000)), 1));
        assert_eq!(left().await, 3);
        kept.retention.release_hold(&elsewhere).await.unwrap();
        assert_eq!(kept.retention.delete(other, span(0, 1_000)).await.unwrap().events, 1);
        // All that a retired device is to lose, and what it reports later.
        for deletion in kept.retention.begin_delete_all(&kept.streams).await.unwrap() {
            kept.retention.carry_out(&deletion).await.unwrap();
        }
        assert_eq!(left().await, 0);
        kept.report("under way", 0, None).await;
        kept.clock.set(START.plus_millis(120_000));
        kept.report("later", 1_000, None).await;
        kept.retention.sweep().await.unwrap();
        assert_eq!(left().await, 1);
    }

    #[tokio::test]
    async fn what_was_under_way_to_a_retired_device_goes_too_and_nothing_later() {
        let kept = Kept::new().await;
        let [stream, _] = kept.streams;
        kept.append(stream, 0).await;
        for deletion in kept.retention.begin_delete_all(&kept.streams).await.unwrap() {
            kept.retention.carry_out(&deletion).await.unwrap();
        }
        kept.append(stream, 1_000).await;
        assert_eq!(kept.starts(stream).await, [1_000]);
        // Another process finishes it.
        let again = Retention::new(kept.storage.clone(), kept.clock.clone());
        kept.clock.set(START.plus_millis(60_000));
        kept.announce(stream, 2_000, RecordingTrigger::Continuous).await;
        again.sweep().await.unwrap();
        assert_eq!(kept.starts(stream).await, [0i64; 0]);
        assert_eq!(kept.segments(stream).await, 1);
        assert_eq!(kept.storage.catalog.open_deletions(9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_a_device_sends_that_is_there_again_stays() {
        let kept = Kept::new().await;
        let [stream, other] = kept.streams;
        kept.append(stream, 0).await;
        kept.clock.set(START.plus_millis(2_000));
        kept.retention.begin_delete_all(&kept.streams).await.unwrap();
        kept.clock.set(START.plus_millis(3_000));
        kept.retention.end_deletions(&[stream]).await.unwrap();
        assert_eq!(kept.starts(stream).await, [0i64; 0]);
        for stream in kept.streams {
            kept.append(stream, 3_000).await;
        }
        kept.clock.set(START.plus_millis(60_000));
        kept.retention.sweep().await.unwrap();
        assert_eq!(kept.starts(stream).await, [3_000]);
        assert_eq!(kept.starts(other).await, [0i64; 0]);
        assert_eq!(kept.storage.catalog.open_deletions(9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_plan_for_events_keeps_what_events_claim() {
        let mut kept = Kept::new().await;
        let [stream, _] = kept.streams;
        kept.put_plan(|plan| {
            plan.mode = RetentionMode::EventOnly;
            (plan.pre_roll_s, plan.post_roll_s) = (2, 3);
        })
        .await;
        for start in (0..30).map(|second| second * 1_000) {
            kept.append(stream, start).await;
        }
        kept.announce(stream, -15_000, RecordingTrigger::Event).await;
        kept.announce(stream, -60_000, RecordingTrigger::Continuous).await;
        kept.announce(stream, 9_000, RecordingTrigger::Continuous).await;
        kept.announce(stream, 21_000, RecordingTrigger::Manual).await;
        kept.report("reported, not announced", 14_000, Some(15_000)).await;
        // The newest arrived at 30 s.
        assert_eq!(kept.sweep_at(HOUR_MS + 30_000).await.fragments, 0);
        assert_eq!(kept.sweep_at(HOUR_MS + 30_001).await.fragments, 5);
        let left = kept.starts(stream).await;
        let expected: Vec<i64> =
            (0..8).chain(12..18).chain(19..30).map(|second| second * 1_000).collect();
        assert_eq!(left, expected);
        // An event that is announced later is told of nothing, and takes nothing.
        assert_eq!(kept.sweep_at(2 * HOUR_MS).await.fragments, 0);
        assert_eq!(kept.sweep_at(days(8)).await.fragments, 25);
    }
}
