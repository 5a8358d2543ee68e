//! What cameras send: media by PutMedia, segment announcements, and events.

pub mod announce;
pub mod metadata;
pub mod presence;
pub mod receive;
pub mod reconcile;
pub mod report;
pub mod timeline;
pub mod unkept;
pub mod upload;
pub mod uploads;

pub use presence::Presence;
pub use unkept::Unkept;
pub use upload::Upload;
pub use uploads::Uploads;
