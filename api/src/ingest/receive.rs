//! Runs an upload between its body, its acknowledgements and the archive.

use super::metadata::Metadata;
use super::presence;
use super::timeline::{ProducerSession, Timecodes};
use super::unkept::Room;
use super::upload::{Arrival, Output, Phase, Upload, UploadFacts};
use super::uploads::MAX_SESSIONS_PER_STREAM;
use crate::access::{Action, Decision, Principal};
use crate::config::Kinesis;
use crate::feed::Change;
use crate::id::{DeviceId, PlanId, StreamId};
use crate::rights;
use crate::segment::TimeRange;
use crate::service::Service;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{Appended, FragmentQuery, NewFragment, RangeBy, StorageError, TimeOrder};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use lookback_wire::matroska::Limits;
use lookback_wire::{Ack, ErrorId, Timestamp};
use std::fmt::Display;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{self, Instant, MissedTickBehavior};

/// How often the right to upload is looked up again while an upload goes on.
const RIGHTS_EVERY: Duration = Duration::from_secs(3);

const HOUR_MS: i64 = 3_600 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;
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
    let (catalog, archive) = (&service.storage.catalog, service.storage.local()?);
    let plan = catalog.plans_by_id(&[plan]).await?.pop().flatten();
    let days = plan.map_or(MAX_DAYS, |plan| plan.days);
    let settings = catalog.media_settings(&[grant.stream]).await?.pop().unwrap_or_default();
    let kept_hours = settings.retention_hours.filter(|hours| *hours > 0);
    let kept_ms = kept_hours.map_or(i64::from(days) * DAY_MS, |hours| i64::from(hours) * HOUR_MS);
    let mut earlier = service.uploads.producer_sessions(grant.stream);
    if earlier.is_empty() {
        // After a restart of the service its producers reconnect, too.
        earlier = stored_sessions(archive.as_ref(), grant.stream).await?;
    }
    let Kinesis { max_fragment_bytes, max_fragment_seconds, max_tracks, .. } =
        service.config.kinesis;
    let facts = UploadFacts {
        stream: grant.stream,
        timecodes,
        kept_ms,
        is_archived: settings.is_archived(),
        earlier,
        limits: Limits {
            fragment_bytes: max_fragment_bytes,
            fragment_ms: u64::from(max_fragment_seconds).saturating_mul(1_000),
            tracks: max_tracks,
            ..Limits::default()
        },
        lasts_ms: service.throttle.max_upload_ms(),
    };
    let (archive, stream) = (archive.clone(), grant.stream);
    let next_number = move |now| archive.next_number(stream, now);
    Ok(Upload::new(facts, next_number, service.clock.now()))
}

/// The producer sessions of the fragments that arrived last, the newest first.
async fn stored_sessions(
    archive: &EmbeddedArchive,
    stream: StreamId,
) -> Result<Vec<ProducerSession>, StorageError> {
    let query = FragmentQuery {
        by: RangeBy::Arrival { after: None },
        range: TimeRange {
            start: Timestamp::from_millis(0),
            end: Timestamp::from_millis(i64::MAX),
        },
        order: TimeOrder::NewestFirst,
        limit: MAX_SESSIONS_PER_STREAM,
    };
    let mut sessions: Vec<ProducerSession> = Vec::new();
    for fragment in archive.fragments(stream, &query).await? {
        let metadata = archive.metadata(stream, fragment.location).await?;
        let session = Metadata::decode(&metadata).producer;
        let is_new = |found: &ProducerSession| {
            sessions.iter().all(|known| known.segment_uid != found.segment_uid)
        };
        sessions.extend(session.filter(is_new));
    }
    Ok(sessions)
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
    let now = || service.clock.now();
    let mut appends = FuturesOrdered::new();
    let mut rights_due = time::interval(RIGHTS_EVERY);
    rights_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopping = service.stopping();
    tokio::pin!(stopping);
    let mut is_stopping = false;
    let mut pace = service.throttle.upload();
    // What a client sends before this waits in its socket.
    let mut read_from = Instant::now();
    let mut feed = service.arriving.feed(grant.stream);
    let mut share = service.unkept.share();

    loop {
        let room = share.set(upload.arriving_bytes(), upload.in_flight_bytes());
        upload.let_run_ahead(room == Room::Ahead);
        if room == Room::Over {
            upload.refuse_for_memory(now());
        }
        upload.tick(now());
        for arrival in upload.take_arrivals() {
            match arrival {
                Arrival::Begin { number, at, tracks } => feed.begin(number, at, tracks),
                Arrival::Part { number, part } => feed.add(number, part),
            }
        }
        while let Some(output) = upload.next_output() {
            match output {
                Output::Ack(ack) => {
                    if matches!(ack, Ack::Buffering { .. }) {
                        note_session(service, grant, &upload);
                    }
                    if acks.try_send(ack).is_err() {
                        upload.drop_client();
                    }
                }
                Output::Append(fragment) => {
                    if let Some(pace) = &mut pace {
                        read_from = Instant::now() + pace.spend(0, 1, now());
                    }
                    feed.whole(fragment.number);
                    appends.push_back(async move {
                        let (number, len) = (fragment.number, fragment.body.len() as u64);
                        (keep(service, grant, *fragment).await, number, len)
                    });
                }
            }
        }
        feed.keep_only(upload.arriving());
        match upload.phase() {
            Phase::Open => {}
            ended => return ended,
        }
        let idle_ms = upload.deadline().millis_since(now()).max(1).unsigned_abs();
        tokio::select! {
            // What is durable is acknowledged before more is read, and a client that sends without a
            // pause puts nothing off.
            biased;
            Some((result, number, len)) = appends.next(), if !appends.is_empty() => {
                match &result {
                    Ok(stored) => {
                        match stored {
                            Appended::Stored(_) => {
                                feed.kept(number);
                                note_arrived(service, grant, len).await;
                            }
                            Appended::Duplicate(_) => feed.cut(number),
                        }
                        service.uploads.note_room();
                        service.metrics.fragments_stored.add(1);
                        service.metrics.bytes_stored.add(len);
                    }
                    Err(error) => {
                        feed.cut(number);
                        tracing::error!(stream = %grant.stream, %error, "a fragment was not kept");
                        service.metrics.fragments_refused.add(1);
                        if matches!(error, StorageError::Full(_)) {
                            service.uploads.note_full(now());
                        }
                    }
                }
                upload.stored(&result, now());
                note_seen(service, grant, &upload).await;
            }
            _ = &mut stopping, if !is_stopping => {
                is_stopping = true;
                upload.close();
            }
            _ = rights_due.tick() => {
                if let Some(reason) = revoked(service, grant).await {
                    upload.revoke(reason, now());
                }
            }
            _ = time::sleep_until(read_from), if read_from > Instant::now() => {}
            part = body.next(), if upload.wants_bytes() && read_from <= Instant::now() => match part {
                Some(Ok(bytes)) => {
                    if let Some(pace) = &mut pace {
                        read_from = Instant::now() + pace.spend(bytes.len() as u64, 0, now());
                    }
                    upload.push(bytes, now());
                }
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

/// Keeps a fragment, unless its device has used up what it may store, and tells who listens.
async fn keep(
    service: &Service,
    grant: &Grant,
    fragment: NewFragment,
) -> Result<Appended, StorageError> {
    service.retention.check_quota(grant.device).await?;
    let end = fragment.start.plus_millis(i64::from(fragment.duration_ms));
    let (range, bytes) =
        (TimeRange { start: fragment.start, end }, Some(fragment.body.len() as u64));
    let appended = service.storage.local()?.append(fragment).await?;
    if let Appended::Stored(_) = appended {
        let footage = Change::Footage { stream: grant.stream, range, bytes };
        service.feed.publish(grant.principal.account, grant.device, footage);
    }
    Ok(appended)
}

/// Remembers the producer's session for when it connects again.
fn note_session(service: &Service, grant: &Grant, upload: &Upload) {
    if let Some(session) = upload.producer_session() {
        service.uploads.note_producer_session(grant.stream, session.clone());
    }
}

/// Remembers that the camera was heard of.
async fn note_seen(service: &Service, grant: &Grant, upload: &Upload) {
    let account = grant.principal.account;
    let seen = presence::note_seen(service, account, grant.device, upload.clock_skew_ms());
    if let Err(error) = seen.await {
        tracing::warn!(device = %grant.device, %error, "that a device was heard of is not noted");
    }
}

/// Counts what arrived.
async fn note_arrived(service: &Service, grant: &Grant, bytes: u64) {
    let now = service.clock.now();
    let noted = service.storage.catalog.note_arrived(grant.stream, now, bytes).await;
    if let Err(error) = noted {
        tracing::warn!(stream = %grant.stream, %error, "what arrived is not counted");
    }
}

/// Why the upload has to end, if it has.
async fn revoked(service: &Service, grant: &Grant) -> Option<ErrorId> {
    let now = service.clock.now();
    if now >= grant.principal.expires_at {
        return Some(ErrorId::MaxConnectionDurationReached);
    }
    let catalog = service.storage.catalog.as_ref();
    let stream = catalog.streams_by_id(&[grant.stream]).await;
    let decided =
        rights::on_device(catalog, &grant.principal, Action::Upload, grant.device, now).await;
    match (stream, decided) {
        (Ok(found), _) if found.iter().all(Option::is_none) => Some(ErrorId::StreamNotActive),
        (Ok(_), Ok(Decision::Allow)) => None,
        (Ok(_), Ok(_)) => Some(ErrorId::MaxConnectionDurationReached),
        (Err(error), _) | (_, Err(error)) => {
            // A store that does not answer revokes nothing.
            tracing::warn!(device = %grant.device, %error, "rights were not looked up");
            None
        }
    }
}
