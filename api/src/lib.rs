//! The Lookback service. `ARCHITECTURE.md` has the map.

pub mod access;
pub mod access_key;
pub mod account;
pub mod arriving;
pub mod clock;
pub mod commands;
pub mod config;
pub mod device;
pub mod graphql;
pub mod http;
pub mod id;
pub mod ingest;
pub mod keeping;
pub mod keys;
pub mod media_stream;
pub mod metrics;
pub mod playback;
pub mod retention;
pub mod rights;
pub mod segment;
pub mod service;
pub mod sign_in;
pub mod signature;
pub mod storage;
pub mod throttle;
pub mod token;
