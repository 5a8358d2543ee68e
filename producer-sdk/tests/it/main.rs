//! The producer over real sockets, against a small server that keeps what it is sent.

// A test that cannot go on has failed; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;
mod upload;
