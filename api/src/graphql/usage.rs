//! `Usage`.

use super::asked::Asked;
use super::fault::Fault;
use super::scalar::{ByteCount, LocalDate};
use super::time_range::{TimeRange, seconds};
use crate::id::DeviceId;
use crate::playback::timeline;
use crate::segment;
use crate::storage::{start_of_utc_day, utc_day};
use async_graphql::SimpleObject;
use chrono::{NaiveDate, NaiveTime};
use lookback_wire::Timestamp;

const MAX_DAYS: i64 = 31;

/// What was used on some days.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct Usage {
    range: TimeRange,
    /// Of what was recorded in `range`, how much is still kept.
    stored_bytes: ByteCount,
    stored_hours: f64,
    /// What arrived in `range`, whenever it was recorded.
    ingested_bytes: ByteCount,
}

impl Usage {
    /// What a device that the caller was shown used from one UTC day to another, both included.
    pub async fn of(
        asked: &Asked,
        device: DeviceId,
        LocalDate(from): LocalDate,
        LocalDate(to): LocalDate,
    ) -> Result<Self, Fault> {
        let (first, last) = (day_number(from), day_number(to));
        if last < first {
            return Err(Fault::BadInput("to is before from".into()));
        }
        if last - first >= MAX_DAYS {
            let days = last - first + 1;
            let message = format!("from and to span {days} days; at most {MAX_DAYS} at a time");
            return Err(Fault::BadInput(message));
        }
        let range =
            segment::TimeRange { start: start_of_utc_day(first), end: start_of_utc_day(last + 1) };
        let storage = &asked.service.storage;
        let streams: Vec<_> =
            asked.streams_of(device).await?.into_iter().map(|stream| stream.id).collect();
        let arrived = storage.catalog.arrived_bytes(&streams, first, last).await?;
        let mut kept = timeline::Kept::default();
        for stream in streams {
            let of_stream = timeline::kept(storage, stream, range).await?;
            kept.bytes = kept.bytes.saturating_add(of_stream.bytes);
            kept.media_ms = kept.media_ms.saturating_add(of_stream.media_ms);
        }
        Ok(Self {
            range: range.into(),
            stored_bytes: ByteCount(kept.bytes),
            stored_hours: seconds(kept.media_ms) / 3_600.0,
            ingested_bytes: ByteCount(arrived.into_iter().fold(0, u64::saturating_add)),
        })
    }
}

fn day_number(date: NaiveDate) -> i64 {
    let midnight = date.and_time(NaiveTime::MIN).and_utc();
    utc_day(Timestamp::from_millis(midnight.timestamp_millis()))
}
