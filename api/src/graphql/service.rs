//! `ServiceInfo`: the deployment, and the limits in force.

use super::asked::Asked;
use super::document::{MAX_COST, MAX_DEPTH};
use super::pagination::{MAX_PAGE, MAX_TIMELINE_PAGE};
use super::playback::PlaybackProtocol;
use super::scalar::DateTime;
use super::time_range::{MAX_QUERY_RANGE_S, seconds};
use crate::ingest::announce;
use crate::playback::session;
use async_graphql::SimpleObject;

/// The deployment.
#[derive(Debug, SimpleObject)]
pub struct ServiceInfo {
    /// SemVer.
    version: &'static str,
    /// The service's clock, for devices to measure theirs by.
    time: DateTime,
    /// What this deployment's media backend can play.
    playback_protocols: Vec<PlaybackProtocol>,
    limits: ServiceLimits,
}

impl ServiceInfo {
    pub fn of(asked: &Asked) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time: DateTime(asked.now()),
            playback_protocols: vec![
                PlaybackProtocol::Hls,
                PlaybackProtocol::HlsTs,
                PlaybackProtocol::Dash,
                PlaybackProtocol::Mp4,
            ],
            limits: ServiceLimits::in_force(),
        }
    }
}

/// Limits in force; a request over one is refused whole.
#[derive(Debug, SimpleObject)]
pub struct ServiceLimits {
    max_page_size: usize,
    max_timeline_page_size: usize,
    max_ingest_batch: usize,
    min_segment_seconds: f64,
    max_segment_seconds: f64,
    /// How far ahead of the service's clock a segment may end.
    max_clock_ahead_seconds: i64,
    /// Longest range of one `clips`, `segments` or `coverage`.
    max_query_range_seconds: i64,
    /// Longest range of one playback session.
    max_playback_range_seconds: i64,
    max_depth: usize,
    max_complexity: usize,
}

impl ServiceLimits {
    fn in_force() -> Self {
        Self {
            max_page_size: MAX_PAGE,
            max_timeline_page_size: MAX_TIMELINE_PAGE,
            max_ingest_batch: announce::MAX_BATCH,
            min_segment_seconds: seconds(announce::MIN_SEGMENT_MS),
            max_segment_seconds: seconds(announce::MAX_SEGMENT_MS),
            max_clock_ahead_seconds: announce::MAX_CLOCK_AHEAD_MS / 1000,
            max_query_range_seconds: MAX_QUERY_RANGE_S,
            max_playback_range_seconds: session::MAX_RANGE_MS / 1000,
            max_depth: MAX_DEPTH,
            max_complexity: MAX_COST,
        }
    }
}
