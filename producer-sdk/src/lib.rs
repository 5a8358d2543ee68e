//! The library that a camera links to: frames in, footage kept by Lookback or Kinesis Video Streams.
//!
//! A [`Producer`] runs on a thread of its own. It cuts frames into fragments, sends them by PutMedia,
//! holds them in a bounded buffer until the service says PERSISTED, comes back after every kind of
//! failure, and announces the footage. What becomes of each fragment is told by [`Event`]s; nothing
//! is lost in silence.
//!
//! ```no_run
//! use lookback_producer::{Config, Credentials, Frame, Producer, Timestamp, Track};
//! use std::time::Duration;
//!
//! # fn encoder() -> impl Iterator<Item = (i64, bool, Vec<u8>)> { std::iter::empty() }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials::token(std::env::var("LOOKBACK_TOKEN")?);
//! let config = Config::new("https://lookback.example", credentials)
//!     .track(Track::h264())
//!     .on_event(|event| eprintln!("{event:?}"));
//! let producer = Producer::start(config)?;
//! for (captured_ms, key, annex_b) in encoder() {
//!     let captured_at = Timestamp::from_millis(captured_ms);
//!     producer.put_frame(Frame { track: 1, captured_at, key, data: annex_b.into() })?;
//! }
//! let report = producer.stop(Duration::from_secs(10));
//! println!("{} fragments were not delivered", report.undelivered.len());
//! # Ok(())
//! # }
//! ```

mod announce;
mod api;
mod backoff;
mod buffer;
mod config;
mod credentials;
mod error;
mod fragmenter;
mod frame;
mod producer;
mod session;
mod upload;

pub use api::Api;
pub use buffer::FragmentInfo;
pub use config::{BufferLimits, Config, MediaTarget, Roots, Timing};
pub use credentials::Credentials;
pub use error::{FrameError, LinkError, StartError};
pub use fragmenter::SkipReason;
pub use frame::{Frame, Framing, Track};
pub use lookback_wire::codec::g711::{G711Config, Law};
pub use lookback_wire::{ErrorId, Timestamp};
pub use producer::{Producer, Report};
pub use session::{DropReason, Event, Health};
