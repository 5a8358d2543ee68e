//! What cameras send: media by PutMedia, and segment announcements.

pub mod uploads;

pub use uploads::Uploads;
