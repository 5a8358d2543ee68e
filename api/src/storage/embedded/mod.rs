//! The embedded backend: LMDB for records, chunk files for media, in one data directory.
