//! What C may get wrong: each mistake is a status and a text, and nothing is written.

use lookback_producer_c::*;
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Nobody listens there.
const NOWHERE: &CStr = c"http://127.0.0.1:9";

fn check(found: Status, expected: Status, part: &str) {
    // SAFETY: the function gives text that lives until this thread's next failure.
    let text = unsafe { CStr::from_ptr(lookback_last_error()) }.to_str().unwrap();
    assert_eq!(found, expected, "{text}");
    assert!(text.contains(part), "{text} does not contain {part}");
}

fn config() -> *mut ConfigHandle {
    let mut config = null_mut();
    // SAFETY: the texts end with NUL.
    let status = unsafe { lookback_config_new(NOWHERE.as_ptr(), c"token".as_ptr(), &mut config) };
    assert_eq!(status, Status::Ok);
    config
}

/// # Safety
/// `config` is live.
unsafe fn started(config: *mut ConfigHandle) -> *mut ProducerHandle {
    let mut track = 0;
    let mut producer = null_mut();
    // SAFETY: as the caller promises.
    unsafe {
        assert_eq!(lookback_config_add_h264(config, &mut track), Status::Ok);
        assert_eq!(track, 1);
        assert_eq!(lookback_producer_new(config, &mut producer), Status::Ok);
    }
    producer
}

#[test]
fn pointers_are_checked() {
    let config = config();
    let mut track = 77;
    let null = Status::NullPointer;
    // SAFETY: NULL is what the functions check for; the rest is live.
    unsafe {
        let status = lookback_config_new(null_mut(), c"token".as_ptr(), &mut null_mut());
        check(status, null, "endpoint is NULL");
        let status = lookback_config_new(NOWHERE.as_ptr(), c"token".as_ptr(), null_mut());
        check(status, null, "config is NULL");
        check(lookback_config_stream(null_mut(), c"main".as_ptr()), null, "config is NULL");
        check(lookback_config_stream(config, null_mut()), null, "name is NULL");
        check(lookback_config_add_h264(config, null_mut()), null, "track is NULL");
        check(lookback_config_add_aac(config, null_mut(), 0, &mut track), null, "audio_config");
        check(lookback_config_on_event(config, None, null_mut()), null, "on_event");
        check(lookback_producer_new(null_mut(), &mut null_mut()), null, "config is NULL");
        let data = [0_u8; 4];
        let frame = lookback_producer_put_frame(null_mut(), 1, 0, true, data.as_ptr(), 4);
        check(frame, null, "producer is NULL");
        check(lookback_producer_end_fragment(null_mut()), null, "producer is NULL");
        lookback_producer_free(null_mut());
        lookback_config_free(null_mut());
        lookback_config_free(config);
    }
    assert_eq!(track, 77);
}

#[test]
fn values_are_checked() {
    let config = config();
    let mut track = 77;
    let mut producer = null_mut();
    let invalid = Status::InvalidArgument;
    // SAFETY: all pointers are live, the texts end with NUL.
    unsafe {
        check(lookback_config_stream(config, c"\xff".as_ptr()), invalid, "name is not UTF-8");
        check(lookback_config_add_g711(config, 2, 8_000, 1, &mut track), invalid, "law 2");
        assert_eq!(track, 77);
        assert_eq!(lookback_config_add_g711(config, 1, 8_000, 1, &mut track), Status::Ok);
        assert_eq!(lookback_config_fragment(config, 1), Status::Ok);
        check(lookback_producer_new(config, &mut producer), Status::StartFailed, "fragment");
        assert!(producer.is_null());
        check(lookback_producer_new(config, &mut producer), Status::ConfigUsed, "already");
        check(lookback_config_announce(config, true), Status::ConfigUsed, "already");
        lookback_config_free(config);
    }
}

#[test]
fn a_producer_refuses_frames_and_ends_once() {
    let config = config();
    let mut report = empty_report();
    // SAFETY: all pointers are live, the texts end with NUL, lengths are the arrays'.
    unsafe {
        let producer = started(config);
        lookback_config_free(config);
        let picture = [0, 0, 0, 1, 0x65, 0x88];
        let put = |track, time| {
            let (data, len) = (picture.as_ptr(), picture.len());
            lookback_producer_put_frame(producer, track, time, true, data, len)
        };
        check(put(2, 0), Status::FrameRefused, "track 2");
        check(put(1, -1), Status::FrameRefused, "capture time");
        check(put(1, 0), Status::FrameRefused, "parameter sets");
        let huge = lookback_producer_put_frame(producer, 1, 0, true, picture.as_ptr(), usize::MAX);
        check(huge, Status::InvalidArgument, "impossible length");
        let tag = |name: &CStr| lookback_producer_put_tag(producer, name.as_ptr(), c"".as_ptr());
        check(tag(c""), Status::InvalidArgument, "name has 0 bytes");
        for _ in 0..9 {
            assert_eq!(tag(c"name"), Status::Ok);
        }
        check(tag(c"name"), Status::TagsFull, "9 tags");
        check(lookback_producer_stop(producer, 0, null_mut()), Status::NullPointer, "report");
        assert_eq!(lookback_producer_stop(producer, 0, &mut report), Status::Ok);
        assert_eq!((report.health.frames, report.undelivered), (0, 0));
        check(put(1, 0), Status::Stopped, "was stopped");
        check(lookback_producer_stop(producer, 0, &mut report), Status::Stopped, "was stopped");
        lookback_producer_free(producer);
    }
}

#[test]
fn a_callback_cannot_end_its_producer() {
    static SEEN: AtomicI32 = AtomicI32::new(-1);

    unsafe extern "C" fn on_event(context: *mut c_void, event: *const EventView) {
        let mut report = empty_report();
        // SAFETY: the event is the producer's; a callback is stopped before the pointers are used.
        unsafe {
            assert_eq!((*event).kind, EventKind::Disconnected);
            assert!(!CStr::from_ptr((*event).text).is_empty());
            let status = lookback_producer_stop(context.cast(), 0, &mut report);
            lookback_producer_free(context.cast());
            SEEN.store(status as i32, Ordering::SeqCst);
        }
    }

    let config = config();
    // SAFETY: all pointers are live; the context is never used as what it claims to be.
    unsafe {
        let context = null::<c_void>().cast_mut();
        assert_eq!(lookback_config_on_event(config, Some(on_event), context), Status::Ok);
        assert_eq!(lookback_config_media(config, NOWHERE.as_ptr(), c"s".as_ptr()), Status::Ok);
        assert_eq!(lookback_config_announce(config, false), Status::Ok);
        let producer = started(config);
        lookback_config_free(config);
        let picture = [
            0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00,
            0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48, 0, 0, 0,
            1, 0x68, 0xcb, 0x83, 0xcb, 0x20, 0, 0, 1, 0x65, 0x88, 0x84,
        ];
        let (data, len) = (picture.as_ptr(), picture.len());
        let put = lookback_producer_put_frame(producer, 1, 1_000, true, data, len);
        assert_eq!(put, Status::Ok);
        let begin = Instant::now();
        while SEEN.load(Ordering::SeqCst) < 0 && begin.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        lookback_producer_free(producer);
    }
    assert_eq!(SEEN.load(Ordering::SeqCst), Status::InCallback as i32);
}

/// Zeros, as a C caller would have.
fn empty_report() -> ReportView {
    // SAFETY: numbers and a bool, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}
