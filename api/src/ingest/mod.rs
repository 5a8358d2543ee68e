//! What cameras send: media by PutMedia, and segment announcements.
