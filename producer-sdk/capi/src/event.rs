//! `lookback_event`: what a producer tells, flat.

use lookback_producer::{DropReason, Event, FragmentInfo, SkipReason};
use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Connected = 1,
    Disconnected = 2,
    FragmentPersisted = 3,
    FragmentRefused = 4,
    FragmentDropped = 5,
    FramesSkipped = 6,
    SegmentAnnounced = 7,
    SegmentRejected = 8,
    AnnounceFailed = 9,
    EventsMissed = 10,
    /// One that this version of the header does not know.
    Other = 11,
}

/// What the callback is shown; what a kind does not use is 0, or empty.
#[repr(C)]
#[derive(Debug)]
pub struct EventView {
    pub kind: EventKind,
    pub error_id: u32,
    pub start_ms: i64,
    pub end_ms: i64,
    pub count: u64,
    pub retry_in_ms: u64,
    pub text: *const c_char,
}

pub type OnEvent = Option<unsafe extern "C" fn(context: *mut c_void, event: *const EventView)>;

/// The callback, with what it is to be given.
#[derive(Debug)]
pub struct Context {
    on_event: unsafe extern "C" fn(*mut c_void, *const EventView),
    context: *mut c_void,
}

// SAFETY: `lookback_config_on_event` asks that the context may be used on another thread.
unsafe impl Send for Context {}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within the callback.
pub fn in_callback() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

impl Context {
    pub fn new(
        on_event: unsafe extern "C" fn(*mut c_void, *const EventView),
        context: *mut c_void,
    ) -> Self {
        Self { on_event, context }
    }

    pub fn tell(&self, event: &Event) {
        let (mut view, text) = flatten(event);
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        view.text = text.as_ptr();
        let _ = IN_CALLBACK.try_with(|flag| flag.set(true));
        // SAFETY: as whoever configured it promised; the view and its text live until it returns.
        unsafe { (self.on_event)(self.context, &raw const view) }
        let _ = IN_CALLBACK.try_with(|flag| flag.set(false));
    }
}

fn flatten(event: &Event) -> (EventView, String) {
    let of = |kind| EventView {
        kind,
        error_id: 0,
        start_ms: 0,
        end_ms: 0,
        count: 0,
        retry_in_ms: 0,
        text: std::ptr::null(),
    };
    let of_fragment = |kind, fragment: &FragmentInfo| EventView {
        start_ms: fragment.start.as_millis(),
        end_ms: fragment.end.as_millis(),
        count: fragment.bytes,
        ..of(kind)
    };
    let ms = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match event {
        Event::Connected => (of(EventKind::Connected), String::new()),
        Event::Disconnected { cause, retry_in } => {
            let view = EventView { retry_in_ms: ms(retry_in), ..of(EventKind::Disconnected) };
            (view, cause.to_string())
        }
        Event::FragmentPersisted { fragment, number } => {
            (of_fragment(EventKind::FragmentPersisted, fragment), number.clone())
        }
        Event::FragmentRefused { fragment, error } => {
            let view = of_fragment(EventKind::FragmentRefused, fragment);
            (EventView { error_id: error.number(), ..view }, error.code().to_owned())
        }
        Event::FragmentDropped { fragment, reason } => {
            let view = of_fragment(EventKind::FragmentDropped, fragment);
            match reason {
                DropReason::BufferFull { sent } => {
                    let sent = if *sent { ", though it was sent" } else { "" };
                    (view, format!("no room for newer footage{sent}"))
                }
                DropReason::Refused(error) => {
                    (EventView { error_id: error.number(), ..view }, error.code().to_owned())
                }
            }
        }
        Event::FramesSkipped { frames, reason } => {
            let cause = match reason {
                SkipReason::NoKeyFrame => "no key frame came before them",
                SkipReason::FragmentTooLong => "no key frame came in 20 s or 50 MB",
                SkipReason::ClockJumped => "the capture time jumped",
                SkipReason::FragmentDropped => "their fragment was dropped",
            };
            (EventView { count: *frames, ..of(EventKind::FramesSkipped) }, cause.to_owned())
        }
        Event::SegmentAnnounced { client_segment_id, start, end } => {
            let view = EventView {
                start_ms: start.as_millis(),
                end_ms: end.as_millis(),
                ..of(EventKind::SegmentAnnounced)
            };
            (view, client_segment_id.clone())
        }
        Event::SegmentRejected { client_segment_id, code, message } => {
            let text = format!("{client_segment_id}: {code}: {message}");
            (of(EventKind::SegmentRejected), text)
        }
        Event::AnnounceFailed { cause, retry_in } => {
            let view = EventView { retry_in_ms: ms(retry_in), ..of(EventKind::AnnounceFailed) };
            (view, cause.to_string())
        }
        Event::EventsMissed { count } => {
            (EventView { count: *count, ..of(EventKind::EventsMissed) }, String::new())
        }
        // The producer may learn to tell more.
        other => (of(EventKind::Other), format!("{other:?}")),
    }
}
