//! The Lookback service. `ARCHITECTURE.md` has the map.

pub mod account;
pub mod clock;
pub mod device;
pub mod id;
pub mod segment;
pub mod storage;
