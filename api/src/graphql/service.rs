//! `ServiceInfo`: the deployment, and the limits in force.

use super::asked::Asked;
use super::playback::PlaybackProtocol;
use super::scalar::DateTime;
use super::time_range::seconds;
use crate::config::Limits;
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
            limits: ServiceLimits::of(asked.limits()),
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
    fn of(limits: &Limits) -> Self {
        Self {
            max_page_size: limits.page_items,
            max_timeline_page_size: limits.timeline_page_items,
            max_ingest_batch: announce::MAX_BATCH,
            min_segment_seconds: seconds(announce::MIN_SEGMENT_MS),
            max_segment_seconds: seconds(announce::MAX_SEGMENT_MS),
            max_clock_ahead_seconds: announce::MAX_CLOCK_AHEAD_MS / 1000,
            max_query_range_seconds: i64::from(limits.query_range_days) * 86_400,
            max_playback_range_seconds: session::MAX_RANGE_MS / 1000,
            max_depth: limits.depth,
            max_complexity: limits.cost,
        }
    }
}
