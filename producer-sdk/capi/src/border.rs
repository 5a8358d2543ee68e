//! What every function does at the border: checks pointers, stops panics, keeps the error's text.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function returns. `lookback_last_error` has the text.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    /// A pointer that must not be NULL is.
    NullPointer = 1,
    /// A value is out of range, or text is not UTF-8.
    InvalidArgument = 2,
    /// The configuration already became a producer.
    ConfigUsed = 3,
    /// The producer cannot start as configured.
    StartFailed = 4,
    /// The frame was not taken; what was taken before it is not touched.
    FrameRefused = 5,
    /// The producer was stopped.
    Stopped = 6,
    /// The fragment has as many tags as it may.
    TagsFull = 7,
    /// Called from within the event callback, where it would wait for itself.
    InCallback = 8,
    /// A defect of the library: free the object and go on without it.
    Panicked = 9,
}

pub type Failure = (Status, String);

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Why the last call that failed on this thread did; never NULL. It stays valid until the next
/// failure on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn lookback_last_error() -> *const c_char {
    // A thread that is ending has no text any more.
    LAST_ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs a function's body; neither a panic nor an error passes the border other than as a status.
pub fn enter(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    // What a panic leaves behind is behind locks, which the producer takes as they are.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
        Err((Status::Panicked, text.unwrap_or_else(|| "panic".to_owned())))
    });
    match result {
        Ok(()) => Status::Ok,
        Err((status, text)) => {
            // Text that holds a NUL is cut there.
            let text =
                CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default();
            let _ = LAST_ERROR.try_with(|last| last.replace(text));
            status
        }
    }
}

pub fn invalid(text: impl Into<String>) -> Failure {
    (Status::InvalidArgument, text.into())
}

fn null(name: &str) -> Failure {
    (Status::NullPointer, format!("{name} is NULL"))
}

/// # Safety
/// `pointer` is NULL, or points to a live `T` that nobody changes meanwhile.
pub unsafe fn shared<'a, T>(name: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// # Safety
/// `pointer` is NULL, or points to a live `T` that nobody else uses meanwhile.
pub unsafe fn exclusive<'a, T>(name: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(name))
}

/// Where a result is written, once there is one.
#[derive(Debug)]
pub struct Output<T>(*mut T);

impl<T> Output<T> {
    /// # Safety
    /// `pointer` is NULL, or a `T` can be written there until the function returns.
    pub unsafe fn at(name: &str, pointer: *mut T) -> Result<Self, Failure> {
        if pointer.is_null() { Err(null(name)) } else { Ok(Self(pointer)) }
    }

    pub fn write(self, value: T) {
        // SAFETY: as whoever made it promised; what was there is not dropped, since it may never
        // have been set.
        unsafe { self.0.write(value) }
    }
}

/// # Safety
/// `pointer` is NULL, or `len` bytes can be read there and do not change meanwhile.
pub unsafe fn bytes<'a>(name: &str, pointer: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if pointer.is_null() {
        return Err(null(name));
    }
    if isize::try_from(len).is_err() {
        return Err(invalid(format!("{name} has an impossible length of {len} bytes")));
    }
    // SAFETY: as the caller promises; the length was checked.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// # Safety
/// `pointer` is NULL, or text that ends with a NUL and does not change meanwhile.
pub unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// Gives an object to C, until it comes back to [`release`].
pub fn hand_out<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// # Safety
/// `pointer` is NULL, or came from [`hand_out`] and is used no more.
pub unsafe fn release<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_become_a_status_and_a_text() {
        let check = |body: fn() -> Result<(), Failure>, status, text: &str| {
            assert_eq!(enter(body), status);
            // SAFETY: the function gives text that lives until the next failure.
            let found = unsafe { CStr::from_ptr(lookback_last_error()) };
            assert_eq!(found.to_str(), Ok(text));
        };
        check(|| Err(invalid("a\0b")), Status::InvalidArgument, "a");
        check(|| Ok(()), Status::Ok, "a");
        check(|| panic!("broken {}", 1), Status::Panicked, "broken 1");
        check(|| panic!("broken"), Status::Panicked, "broken");
    }
}
