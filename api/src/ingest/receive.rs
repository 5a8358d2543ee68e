//! Runs an upload between its body, its acknowledgements and the archive.

use super::metadata::Metadata;
use super::timeline::Timecodes;
use super::upload::{Output, Phase, Upload, UploadFacts};
use crate::access::{Action, Decision, Principal};
use crate::id::{DeviceId, PlanId, StreamId};
use crate::rights;
use crate::service::Service;
use crate::storage::{Storage, StorageError};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use lookback_wire::Ack;
use std::fmt::Display;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior};

/// How often the right to upload is looked up again while an upload goes on.
const RIGHTS_EVERY: Duration = Duration::from_secs(3);

const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// The longest that any plan keeps footage.
const MAX_DAYS: u32 = 3_650;

/// Whose upload it is, and to where.
#[derive(Clone, Debug)]
pub struct Grant {
    pub principal: Principal,
    pub device: DeviceId,
    pub stream: StreamId,
}

/// Makes an upload ready.
pub async fn begin(
    service: &Service,
    grant: &Grant,
    plan: PlanId,
    timecodes: Timecodes,
) -> Result<Upload, StorageError> {
    let Storage { catalog, archive } = &service.storage;
    let plan = catalog.plans_by_id(&[plan]).await?.pop().flatten();
    let days = plan.map_or(MAX_DAYS, |plan| plan.days);
    let earlier = match service.uploads.producer_session(grant.stream) {
        Some(session) => Some(session),
        // After a restart of the service its producers reconnect, too.
        None => match archive.newest(grant.stream).await? {
            Some(newest) => {
                let metadata = archive.metadata(grant.stream, newest.location).await?;
                Metadata::decode(&metadata).producer
            }
            None => None,
        },
    };
    let facts = UploadFacts {
        stream: grant.stream,
        timecodes,
        kept_ms: i64::from(days).saturating_mul(DAY_MS),
        earlier,
    };
    let (archive, stream) = (archive.clone(), grant.stream);
    let next_number = move |now| archive.next_number(stream, now);
    Ok(Upload::new(facts, next_number, service.clock.now()))
}

/// Receives an upload to its end. Acknowledgements go to `acks` in order; a client that reads them
/// so slowly that they fill it is dropped.
pub async fn receive<E: Display>(
    service: &Service,
    grant: &Grant,
    mut upload: Upload,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    acks: &mpsc::Sender<Ack>,
) -> Phase {
    let archive = &service.storage.archive;
    let now = || service.clock.now();
    let mut appends = FuturesOrdered::new();
    let mut rights_due = time::interval(RIGHTS_EVERY);
    rights_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopping = service.stopping();
    tokio::pin!(stopping);
    let mut is_stopping = false;

    loop {
        upload.tick(now());
        while let Some(output) = upload.next_output() {
            match output {
                Output::Ack(ack) => {
                    if acks.try_send(ack).is_err() {
                        upload.drop_client();
                    }
                }
                Output::Append(fragment) => appends.push_back(async move {
                    let len = fragment.body.len() as u64;
                    (archive.append(*fragment).await, len)
                }),
            }
        }
        match upload.phase() {
            Phase::Open => {}
            ended => return ended,
        }
        let idle_ms = upload.deadline().millis_since(now()).max(1).unsigned_abs();
        tokio::select! {
            // What is durable is acknowledged before more is read, and a client that sends without a
            // pause puts nothing off.
            biased;
            Some((result, len)) = appends.next(), if !appends.is_empty() => {
                match &result {
                    Ok(_) => {
                        service.uploads.note_room();
                        service.metrics.fragments_stored.add(1);
                        service.metrics.bytes_stored.add(len);
                    }
                    Err(error) => {
                        tracing::error!(stream = %grant.stream, %error, "a fragment was not kept");
                        if matches!(error, StorageError::Full(_)) {
                            service.uploads.note_full(now());
                        }
                    }
                }
                upload.stored(&result, now());
                note(service, grant, &upload).await;
            }
            _ = &mut stopping, if !is_stopping => {
                is_stopping = true;
                upload.close();
            }
            _ = rights_due.tick() => {
                if !may_upload(service, grant).await {
                    upload.revoke(now());
                }
            }
            part = body.next(), if upload.wants_bytes() => match part {
                Some(Ok(bytes)) => upload.push(bytes, now()),
                Some(Err(error)) => {
                    tracing::debug!(stream = %grant.stream, %error, "an upload was cut off");
                    upload.close();
                }
                None => upload.end(now()),
            },
            _ = time::sleep(Duration::from_millis(idle_ms)) => {}
        }
    }
}

/// Remembers that the camera was heard of, and its session for when it connects again.
async fn note(service: &Service, grant: &Grant, upload: &Upload) {
    if let Some(session) = upload.producer_session() {
        service.uploads.note_producer_session(grant.stream, session.clone());
    }
    let seen = service.storage.catalog.note_seen(
        grant.device,
        service.clock.now(),
        upload.clock_skew_ms(),
    );
    if let Err(error) = seen.await {
        tracing::warn!(device = %grant.device, %error, "that a device was heard of is not noted");
    }
}

async fn may_upload(service: &Service, grant: &Grant) -> bool {
    let now = service.clock.now();
    if now >= grant.principal.expires_at {
        return false;
    }
    let catalog = service.storage.catalog.as_ref();
    let decided =
        rights::on_device(catalog, &grant.principal, Action::Upload, grant.device, now).await;
    match decided {
        Ok(decision) => decision == Decision::Allow,
        Err(error) => {
            // A store that does not answer revokes nothing.
            tracing::warn!(device = %grant.device, %error, "rights were not looked up");
            true
        }
    }
}
