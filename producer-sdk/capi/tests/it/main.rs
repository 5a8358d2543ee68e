//! The header against the functions, the C example against a service of a few lines, and mistakes.

#![allow(unsafe_code)] // as C calls it
#![allow(clippy::unwrap_used)] // fails the test that it is in

mod example;
mod header;
mod misuse;
