//! Keeping footage that lies elsewhere: the archive there lets it go by itself, after as long as it
//! was told to keep all of a stream. It keeps no span longer and deletes none by itself.

use super::{Retention, STREAMS_PER_STEP};
use crate::account::RetentionPlan;
use crate::device::{DeviceState, Stream};
use crate::id::StreamId;
use crate::keeping::{Hold, Keeping};
use crate::storage::{CreateError, Removed, Result, StorageError, utc_day};

/// Why there is no place for a stream's media.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// There is one of its name, which is somebody else's.
    #[error("media stream {} is somebody else's", .0.media_stream_name)]
    Taken(Stream),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Streams whose archive is known to have been told; 40 bytes each.
const MAX_PREPARED: usize = 1_000_000;

impl Retention {
    /// Makes a place for each stream's media elsewhere, kept as `plan` says; nothing where media is
    /// on this machine. May be called again and again.
    pub async fn prepare(
        &self,
        streams: &[Stream],
        plan: &RetentionPlan,
    ) -> Result<(), PrepareError> {
        if self.storage.local().is_ok() {
            return Ok(());
        }
        let ids: Vec<_> = streams.iter().map(|stream| stream.id).collect();
        let settings = self.storage.catalog.media_settings(&ids).await?;
        for (stream, settings) in streams.iter().zip(settings) {
            self.prepare_stream(stream, Keeping::of(plan, &settings)).await?;
        }
        Ok(())
    }

    /// What makes a stream be kept for longer takes effect at once, what makes it less after a day.
    async fn prepare_stream(&self, stream: &Stream, keeping: Keeping) -> Result<(), PrepareError> {
        let now = self.clock.now();
        let catalog = &self.storage.catalog;
        let hours = catalog.keeping_in_force(stream.id, keeping, now).await?.hours;
        if self.prepared.lock().get(&stream.id) == Some(&hours) {
            return Ok(());
        }
        self.storage.archive().prepare(stream, hours).await.map_err(|error| match error {
            CreateError::Storage(error) => error.into(),
            _ => PrepareError::Taken(stream.clone()),
        })?;
        let mut prepared = self.prepared.lock();
        if prepared.len() >= MAX_PREPARED {
            prepared.clear();
        }
        prepared.insert(stream.id, hours);
        Ok(())
    }

    /// Prepares the streams of all devices that are in service, which is how a plan that changed
    /// reaches them. One stream's failure
    /// leaves the others; the last one is answered.
    pub(super) async fn prepare_all(&self) -> Result<()> {
        let catalog = &self.storage.catalog;
        let mut failure = None;
        let mut after = None;
        loop {
            let ids = catalog.all_streams(after, STREAMS_PER_STEP).await?;
            let settings = catalog.media_settings(&ids).await?;
            let streams = catalog.streams_by_id(&ids).await?;
            let (streams, settings): (Vec<Stream>, Vec<_>) = streams
                .into_iter()
                .zip(settings)
                .filter_map(|(stream, settings)| Some((stream?, settings)))
                .unzip();
            let devices: Vec<_> = streams.iter().map(|stream| stream.device).collect();
            let devices = catalog.devices_by_id(&devices).await?;
            let plans: Vec<_> = devices.iter().flatten().map(|device| device.plan).collect();
            let plans = catalog.plans_by_id(&plans).await?;
            for ((stream, settings), device) in streams.iter().zip(&settings).zip(devices) {
                let Some(device) = device.filter(|device| device.state != DeviceState::Retired)
                else {
                    continue;
                };
                let plan = plans.iter().flatten().find(|plan| plan.id == device.plan);
                let Some(plan) = plan else { continue };
                let result = self.prepare_stream(stream, Keeping::of(plan, settings)).await;
                if let Err(error) = result {
                    tracing::warn!(stream = %stream.id, %error, "a media stream was not prepared");
                    if let PrepareError::Storage(error) = error {
                        failure = Some(error);
                    }
                }
            }
            after = ids.last().copied();
            if ids.len() < STREAMS_PER_STEP {
                return failure.map_or(Ok(()), Err);
            }
        }
    }

    /// What each stream's media comes to, to the day: what was announced while it is kept.
    pub(super) async fn arrived_lately(
        &self,
        streams: &[StreamId],
        plan: &RetentionPlan,
    ) -> Result<Vec<u64>> {
        let today = utc_day(self.clock.now());
        let first = today.saturating_sub(i64::from(plan.days));
        self.storage.catalog.arrived_bytes(streams, first, today).await
    }

    /// Deletes a stream's media, all of it; what went is not told.
    pub(super) async fn forget(&self, stream: StreamId) -> Result<Removed> {
        if let Some(stream) = self.storage.catalog.streams_by_id(&[stream]).await?.pop().flatten() {
            self.storage.archive().forget(&stream).await?;
        }
        self.prepared.lock().remove(&stream);
        Ok(Removed::default())
    }

    /// Refuses a hold that is to outlast what the archive keeps by itself.
    pub(super) async fn check_hold(&self, hold: &Hold) -> Result<()> {
        let catalog = &self.storage.catalog;
        let settings = catalog.media_settings(&[hold.stream]).await?;
        let plans = self.plans_of(&[hold.stream]).await?;
        let mut kept_ms = 0;
        for ((stream, plan), settings) in plans.into_iter().zip(settings) {
            let keeping = Keeping::of(&plan, &settings);
            let keeping = catalog.keeping_in_force(stream, keeping, self.clock.now()).await?;
            kept_ms = keeping.kept_ms();
        }
        // Footage arrives after it was recorded.
        let kept_until = hold.range.start.plus_millis(kept_ms);
        if hold.until.is_some_and(|until| until <= kept_until) {
            return Ok(());
        }
        Err(StorageError::NotSupported("footage cannot be kept beyond its stream's retention"))
    }
}
