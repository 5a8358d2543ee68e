//! The service's integration tests: the built binary over real sockets, and the rules of the house.

// A test that cannot go on has failed; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod access;
mod archived;
mod auth;
mod both_backends;
mod camera;
mod crash;
mod disk;
mod events;
mod files;
mod footage;
mod front;
mod graphql;
mod house;
mod ipc_video_metadata;
mod issuers;
mod kinesis_video;
mod limits;
mod low_latency;
mod media;
mod on_aws;
mod people;
mod pictures;
mod playback;
mod putmedia;
mod recording;
mod remote_media;
mod retention;
mod sdk;
mod serve;
mod server;
mod signature;
mod subscriptions;
mod timeline;
mod tls;
mod vectors;
mod viewer;
mod webhooks;
