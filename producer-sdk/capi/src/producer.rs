//! `lookback_producer`: frames in.

use crate::border::{
    Failure, Output, Status, bytes, enter, exclusive, hand_out, invalid, release, shared, text,
};
use crate::config::ConfigHandle;
use crate::event::in_callback;
use lookback_producer::{Frame, FrameError, Health, Producer, Timestamp};
use std::ffi::c_char;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// A producer until it is stopped; the lock lets calls on other threads end before it is.
#[derive(Debug)]
pub struct ProducerHandle(RwLock<Option<Producer>>);

impl ProducerHandle {
    fn with<T>(&self, call: impl FnOnce(&Producer) -> T) -> Result<T, Failure> {
        let producer = self.0.read().unwrap_or_else(PoisonError::into_inner);
        producer.as_ref().map(call).ok_or_else(stopped)
    }

    /// Takes the producer out, so that the lock is free while it ends and tells its last events.
    fn take(&self) -> Option<Producer> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn stopped() -> Failure {
    (Status::Stopped, "the producer was stopped".to_owned())
}

fn refuse_in_callback() -> Result<(), Failure> {
    if in_callback() {
        let text = "a producer cannot be ended from within its event callback";
        return Err((Status::InCallback, text.to_owned()));
    }
    Ok(())
}

/// The producer's state and totals.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HealthView {
    pub connected: bool,
    pub connects: u64,
    pub failures: u64,
    pub frames: u64,
    pub frames_skipped: u64,
    pub fragments_persisted: u64,
    pub bytes_persisted: u64,
    pub fragments_dropped: u64,
    pub bytes_written: u64,
    pub fragments_waiting: u64,
    pub bytes_waiting: u64,
    pub waiting_ms: u64,
    pub segments_announced: u64,
    pub segments_rejected: u64,
    pub segments_waiting: u64,
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        Self {
            connected: health.connected,
            connects: health.connects,
            failures: health.failures,
            frames: health.frames,
            frames_skipped: health.frames_skipped,
            fragments_persisted: health.fragments_persisted,
            bytes_persisted: health.bytes_persisted,
            fragments_dropped: health.fragments_dropped,
            bytes_written: health.bytes_written,
            fragments_waiting: health.fragments_waiting as u64,
            bytes_waiting: health.bytes_waiting as u64,
            waiting_ms: u64::try_from(health.waiting.as_millis()).unwrap_or(u64::MAX),
            segments_announced: health.segments_announced,
            segments_rejected: health.segments_rejected,
            segments_waiting: health.segments_waiting as u64,
        }
    }
}

/// What became of everything, at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ReportView {
    pub health: HealthView,
    pub undelivered: u64,
    pub unannounced: u64,
}

/// # Safety
/// See the header: `config` is live, `producer` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_new(
    config: *mut ConfigHandle,
    producer: *mut *mut ProducerHandle,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let producer = Output::at("producer", producer)?;
        let started = Producer::start(exclusive("config", config)?.take()?)
            .map_err(|error| (Status::StartFailed, error.to_string()))?;
        producer.write(hand_out(ProducerHandle(RwLock::new(Some(started)))));
        Ok(())
    })
}

/// # Safety
/// See the header: `producer` is NULL or live, and used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_free(producer: *mut ProducerHandle) {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        refuse_in_callback()?;
        release(producer);
        Ok(())
    });
}

/// # Safety
/// See the header: `producer` is live, `data` has `data_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_put_frame(
    producer: *const ProducerHandle,
    track: u64,
    captured_at_ms: i64,
    key: bool,
    data: *const u8,
    data_len: usize,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let data = bytes("data", data, data_len)?.to_vec().into();
        let captured_at = Timestamp::from_millis(captured_at_ms);
        let frame = Frame { track, captured_at, key, data };
        shared("producer", producer)?.with(|producer| producer.put_frame(frame))?.map_err(|error| {
            let status = match error {
                FrameError::Stopped => Status::Stopped,
                _ => Status::FrameRefused,
            };
            (status, error.to_string())
        })
    })
}

/// # Safety
/// See the header: `producer` is live, `room` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_wait_for_room(
    producer: *const ProducerHandle,
    patience_ms: u32,
    room: *mut bool,
) -> Status {
    let patience = Duration::from_millis(patience_ms.into());
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let room = Output::at("room", room)?;
        room.write(
            shared("producer", producer)?.with(|producer| producer.wait_for_room(patience))?,
        );
        Ok(())
    })
}

/// # Safety
/// See the header: `producer` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_end_fragment(producer: *const ProducerHandle) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe { shared("producer", producer)?.with(Producer::end_fragment) })
}

/// # Safety
/// See the header: `producer` is live, the texts end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_put_tag(
    producer: *const ProducerHandle,
    name: *const c_char,
    value: *const c_char,
) -> Status {
    /// Of Kinesis Video Streams, which refuses the whole fragment otherwise.
    const NAME_BYTES_MAX: usize = 128;
    const VALUE_BYTES_MAX: usize = 256;
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let (name, value) = (text("name", name)?, text("value", value)?);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Err(invalid(format!("name has {} bytes, not 1 to 128", name.len())));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(invalid(format!("value has {} bytes, more than 256", value.len())));
        }
        let room = shared("producer", producer)?.with(|producer| producer.put_tag(name, value))?;
        let full = || (Status::TagsFull, "the fragment has 9 tags already".to_owned());
        if room { Ok(()) } else { Err(full()) }
    })
}

/// # Safety
/// See the header: `producer` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_mark_alarm(
    producer: *const ProducerHandle,
    until_ms: i64,
) -> Status {
    let until = Timestamp::from_millis(until_ms);
    // SAFETY: as the caller promises.
    enter(|| unsafe { shared("producer", producer)?.with(|producer| producer.mark_alarm(until)) })
}

/// # Safety
/// See the header: `producer` is live, `health` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_health(
    producer: *const ProducerHandle,
    health: *mut HealthView,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let health = Output::at("health", health)?;
        health.write(shared("producer", producer)?.with(Producer::health)?.into());
        Ok(())
    })
}

/// # Safety
/// See the header: `producer` is live, `report` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_producer_stop(
    producer: *const ProducerHandle,
    patience_ms: u32,
    report: *mut ReportView,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let report = Output::at("report", report)?;
        refuse_in_callback()?;
        let producer = shared("producer", producer)?.take().ok_or_else(stopped)?;
        let ended = producer.stop(Duration::from_millis(patience_ms.into()));
        report.write(ReportView {
            health: ended.health.into(),
            undelivered: ended.undelivered.len() as u64,
            unannounced: ended.unannounced as u64,
        });
        Ok(())
    })
}
