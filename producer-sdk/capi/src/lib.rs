//! The C ABI of lookback-producer: conversions, and nothing else.
//!
//! `include/lookback_producer.h` is what C sees, and says the conventions; a test holds it against
//! the functions and types here.

#![allow(unsafe_code)] // C hands over pointers

mod border;
mod config;
mod event;
mod producer;

pub use border::{Status, lookback_last_error};
pub use config::{
    ConfigHandle, lookback_config_add_aac, lookback_config_add_g711, lookback_config_add_h264,
    lookback_config_add_h264_length_prefixed, lookback_config_add_h265,
    lookback_config_add_h265_length_prefixed, lookback_config_announce, lookback_config_buffer,
    lookback_config_fragment, lookback_config_free, lookback_config_media, lookback_config_new,
    lookback_config_on_event, lookback_config_roots, lookback_config_stream,
};
pub use event::{EventKind, EventView, OnEvent};
pub use producer::{
    HealthView, ProducerHandle, ReportView, lookback_producer_end_fragment, lookback_producer_free,
    lookback_producer_health, lookback_producer_mark_alarm, lookback_producer_new,
    lookback_producer_put_frame, lookback_producer_put_tag, lookback_producer_stop,
    lookback_producer_wait_for_room,
};
