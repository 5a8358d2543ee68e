//! The C ABI of lookback-producer.
