//! What is past keeping, by the clock it is given.
//!
//! Footage and announced segments are kept for the days of their device's plan, counted from
//! arrival. Whole chunk files go, so the first of a file's fragments stay up to half an hour longer
//! than the plan says; nothing goes early.

use crate::clock::Clock;
use crate::id::StreamId;
use crate::storage::{Result, Storage};
use lookback_wire::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// With half an hour of a chunk file, well under the hour that footage may stay too long.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Segments of one transaction, so that announcements do not wait long for it.
const SEGMENTS_PER_STEP: usize = 500;
/// Streams whose records are read at once.
const STREAMS_PER_STEP: usize = 500;

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub fragments: u64,
    pub segments: u64,
}

/// Sweeps until it is dropped.
pub async fn run(storage: Storage, clock: Arc<Clock>) {
    loop {
        match sweep(&storage, clock.now()).await {
            Ok(Swept { fragments: 0, segments: 0 }) => {}
            Ok(Swept { fragments, segments }) => {
                tracing::info!(fragments, segments, "retention ended");
            }
            Err(error) => tracing::warn!(%error, "not all that is due is gone"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

/// Takes away all that is due at `now`. What belongs to no known device or plan stays. One stream's
/// failure leaves the others to be swept; the last one is answered.
pub async fn sweep(storage: &Storage, now: Timestamp) -> Result<Swept> {
    let mut streams: BTreeSet<StreamId> = storage.archive.streams().await?.into_iter().collect();
    streams.extend(storage.catalog.announced_streams().await?);
    let streams: Vec<StreamId> = streams.into_iter().collect();
    let mut swept = Swept::default();
    let mut failure = None;
    for streams in streams.chunks(STREAMS_PER_STEP) {
        for (stream, days) in kept_days(storage, streams).await? {
            let result = sweep_stream(storage, stream, days, now, &mut swept).await;
            failure = result.err().or(failure);
        }
    }
    failure.map_or(Ok(swept), Err)
}

async fn sweep_stream(
    storage: &Storage,
    stream: StreamId,
    days: u32,
    now: Timestamp,
    swept: &mut Swept,
) -> Result<()> {
    let days = storage.catalog.days_in_force(stream, days, now).await?;
    let before = now.plus_millis(-DAY_MS * i64::from(days));
    swept.fragments += storage.archive.expire(stream, before).await?;
    loop {
        let gone = storage.catalog.expire_segments(stream, before, SEGMENTS_PER_STEP).await?;
        swept.segments += gone as u64;
        if gone < SEGMENTS_PER_STEP {
            return Ok(());
        }
    }
}

/// The days of each stream's plan, where there is one.
async fn kept_days(storage: &Storage, streams: &[StreamId]) -> Result<Vec<(StreamId, u32)>> {
    let catalog = &storage.catalog;
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
        .filter_map(|((stream, _), plan)| Some((stream, plan?.days)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{NewSegment, TimeRange};
    use crate::storage::{contract, embedded};

    const START: Timestamp = contract::NOW;

    fn days(count: i64) -> i64 {
        count * DAY_MS
    }

    #[tokio::test]
    async fn footage_and_segments_go_when_the_plan_says() {
        let dir = tempfile::tempdir().unwrap();
        let storage = embedded::open(dir.path()).unwrap();
        let account = storage.catalog.ensure_account("default", START).await.unwrap().id;
        let mut plan = storage.catalog.plans(account).await.unwrap().remove(0);
        let mut registration = contract::registration(account, "SN-1", "Door");
        registration.device.plan = plan.id;
        let made = storage.catalog.register_device(registration, START).await.unwrap();
        let stream = made.streams[0].id;
        let unknown = StreamId::new(START);
        for stream in [stream, unknown] {
            let fragment =
                contract::fragment(storage.archive.as_ref(), stream, START, 1_000, b"media");
            storage.archive.append(fragment).await.unwrap();
        }
        let segment = NewSegment {
            client_segment_id: "a".into(),
            range: TimeRange { start: START, end: START.plus_millis(20_000) },
            trigger: Default::default(),
            codecs: None,
            width: None,
            height: None,
            size_bytes: None,
        };
        // A stream without media has segments that end, too.
        for stream in [stream, made.streams[1].id] {
            let segment = std::slice::from_ref(&segment);
            storage.catalog.announce(stream, segment, START).await.unwrap();
        }

        let at = |ms: i64| START.plus_millis(ms);
        let sweep = async |now: Timestamp| sweep(&storage, now).await.unwrap();
        let nothing = Swept::default();
        // It arrived a second after its start.
        assert_eq!(sweep(at(days(7))).await, nothing);
        // A shorter plan waits for a day after it was first seen; a longer one does not.
        plan.days = 3;
        storage.catalog.put_plan(plan.clone()).await.unwrap();
        assert_eq!(sweep(at(days(5))).await, nothing);
        plan.days = 2;
        storage.catalog.put_plan(plan.clone()).await.unwrap();
        assert_eq!(sweep(at(days(5) + 1)).await, nothing);
        plan.days = 7;
        storage.catalog.put_plan(plan.clone()).await.unwrap();
        assert_eq!(sweep(at(days(6))).await, nothing);
        plan.days = 2;
        storage.catalog.put_plan(plan).await.unwrap();
        assert_eq!(sweep(at(days(6))).await, nothing);
        assert_eq!(sweep(at(days(7) - 1)).await, nothing);
        assert_eq!(sweep(at(days(7))).await, Swept { fragments: 1, segments: 2 });
        assert_eq!(sweep(at(days(7))).await, nothing);
        assert_eq!(storage.archive.streams().await.unwrap(), [unknown]);
    }

    #[tokio::test]
    async fn a_plan_is_over_to_the_millisecond() {
        let dir = tempfile::tempdir().unwrap();
        let storage = embedded::open(dir.path()).unwrap();
        let account = storage.catalog.ensure_account("default", START).await.unwrap().id;
        let plan = storage.catalog.plans(account).await.unwrap().remove(0);
        let mut registration = contract::registration(account, "SN-1", "Door");
        registration.device.plan = plan.id;
        let made = storage.catalog.register_device(registration, START).await.unwrap();
        let archive = storage.archive.as_ref();
        let fragment = contract::fragment(archive, made.streams[0].id, START, 1_000, b"media");
        let arrived_at = fragment.arrived_at;
        archive.append(fragment).await.unwrap();
        let due = arrived_at.plus_millis(days(7));
        assert_eq!(sweep(&storage, due).await.unwrap().fragments, 0);
        assert_eq!(sweep(&storage, due.plus_millis(1)).await.unwrap().fragments, 1);
    }
}
