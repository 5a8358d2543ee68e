//! `lookback_config`: what becomes a producer.

use crate::border::{
    Failure, Output, Status, bytes, enter, exclusive, hand_out, invalid, release, text,
};
use crate::event::{Context, OnEvent};
use lookback_producer::{
    BufferLimits, Config, Credentials, G711Config, Law, MediaTarget, Roots, Track,
};
use std::ffi::{c_char, c_void};
use std::time::Duration;

/// The configuration, until a producer is made of it.
#[derive(Debug)]
pub struct ConfigHandle {
    config: Option<Config>,
    tracks: u64,
}

impl ConfigHandle {
    pub fn take(&mut self) -> Result<Config, Failure> {
        self.config.take().ok_or_else(used)
    }

    fn change(&mut self, change: impl FnOnce(Config) -> Config) -> Result<(), Failure> {
        self.config = Some(change(self.take()?));
        Ok(())
    }

    fn add(&mut self, track: Track, number: Output<u64>) -> Result<(), Failure> {
        self.change(|config| config.track(track))?;
        self.tracks += 1;
        number.write(self.tracks);
        Ok(())
    }
}

fn used() -> Failure {
    (Status::ConfigUsed, "the configuration already became a producer".to_owned())
}

/// # Safety
/// See the header: the texts end with NUL, `config` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_new(
    endpoint: *const c_char,
    token: *const c_char,
    config: *mut *mut ConfigHandle,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let config = Output::at("config", config)?;
        let credentials = Credentials::token(text("token", token)?);
        let made = Config::new(text("endpoint", endpoint)?, credentials);
        config.write(hand_out(ConfigHandle { config: Some(made), tracks: 0 }));
        Ok(())
    })
}

/// # Safety
/// See the header: `config` is NULL or live, and used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_free(config: *mut ConfigHandle) {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        release(config);
        Ok(())
    });
}

/// # Safety
/// See the header: `config` is live, `name` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_stream(
    config: *mut ConfigHandle,
    name: *const c_char,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let name = text("name", name)?;
        exclusive("config", config)?.change(|config| config.stream(name))
    })
}

/// # Safety
/// See the header: `config` is live, the texts end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_media(
    config: *mut ConfigHandle,
    endpoint: *const c_char,
    media_stream_name: *const c_char,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let target = MediaTarget {
            endpoint: text("endpoint", endpoint)?.to_owned(),
            media_stream_name: text("media_stream_name", media_stream_name)?.to_owned(),
        };
        exclusive("config", config)?.change(|config| config.media(target))
    })
}

/// # Safety
/// See the header: `config` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_announce(
    config: *mut ConfigHandle,
    announce: bool,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe { exclusive("config", config)?.change(|config| config.announce(announce)) })
}

/// # Safety
/// See the header: `config` is live, `pem` has `pem_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_roots(
    config: *mut ConfigHandle,
    pem: *const u8,
    pem_len: usize,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let roots = Roots::Pem(bytes("pem", pem, pem_len)?.to_vec());
        exclusive("config", config)?.change(|config| config.roots(roots))
    })
}

/// # Safety
/// See the header: `config` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_fragment(
    config: *mut ConfigHandle,
    duration_ms: u32,
) -> Status {
    let duration = Duration::from_millis(duration_ms.into());
    // SAFETY: as the caller promises.
    enter(|| unsafe { exclusive("config", config)?.change(|config| config.fragment(duration)) })
}

/// # Safety
/// See the header: `config` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_buffer(
    config: *mut ConfigHandle,
    bytes: usize,
    duration_ms: u32,
) -> Status {
    let limits = BufferLimits { bytes, duration: Duration::from_millis(duration_ms.into()) };
    // SAFETY: as the caller promises.
    enter(|| unsafe { exclusive("config", config)?.change(|config| config.buffer(limits)) })
}

/// # Safety
/// See the header: `config` is live; `context` may be used on another thread until the producer is
/// freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_on_event(
    config: *mut ConfigHandle,
    on_event: OnEvent,
    context: *mut c_void,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let on_event =
            on_event.ok_or_else(|| (Status::NullPointer, "on_event is NULL".to_owned()))?;
        let context = Context::new(on_event, context);
        exclusive("config", config)?
            .change(|config| config.on_event(move |event| context.tell(&event)))
    })
}

/// # Safety
/// See the header: `config` is live, `track` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_h264(
    config: *mut ConfigHandle,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let track = Output::at("track", track)?;
        exclusive("config", config)?.add(Track::h264(), track)
    })
}

/// # Safety
/// See the header: `config` is live, `track` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_h265(
    config: *mut ConfigHandle,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let track = Output::at("track", track)?;
        exclusive("config", config)?.add(Track::h265(), track)
    })
}

/// # Safety
/// See the header: `config` is live, `record` has `record_len` bytes, `track` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_h264_length_prefixed(
    config: *mut ConfigHandle,
    record: *const u8,
    record_len: usize,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let track = Output::at("track", track)?;
        let record = bytes("record", record, record_len)?.to_vec().into();
        exclusive("config", config)?.add(Track::h264_length_prefixed(record), track)
    })
}

/// # Safety
/// See the header: `config` is live, `record` has `record_len` bytes, `track` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_h265_length_prefixed(
    config: *mut ConfigHandle,
    record: *const u8,
    record_len: usize,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let track = Output::at("track", track)?;
        let record = bytes("record", record, record_len)?.to_vec().into();
        exclusive("config", config)?.add(Track::h265_length_prefixed(record), track)
    })
}

/// # Safety
/// See the header: `config` is live, `audio_config` has `audio_config_len` bytes, `track` can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_aac(
    config: *mut ConfigHandle,
    audio_config: *const u8,
    audio_config_len: usize,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let track = Output::at("track", track)?;
        let audio_config = bytes("audio_config", audio_config, audio_config_len)?.to_vec().into();
        exclusive("config", config)?.add(Track::aac(audio_config), track)
    })
}

/// # Safety
/// See the header: `config` is live, `track` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lookback_config_add_g711(
    config: *mut ConfigHandle,
    law: u32,
    sampling_hz: u32,
    channels: u32,
    track: *mut u64,
) -> Status {
    // SAFETY: as the caller promises.
    enter(|| unsafe {
        let law = match law {
            0 => Law::Mu,
            1 => Law::A,
            other => return Err(invalid(format!("law {other} is neither of the two"))),
        };
        let track = Output::at("track", track)?;
        let config_of_track = G711Config { law, sampling_hz, channels };
        exclusive("config", config)?.add(Track::g711(config_of_track), track)
    })
}
