//! What the service counts about itself, as Prometheus reads it (text format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rises only.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answers by the first digit of their status: 1xx first.
    responses: [Counter; 5],
    pub fragments_stored: Counter,
    /// For want of room, over a quota, or by a fault.
    pub fragments_refused: Counter,
    /// Of media, as kept.
    pub bytes_stored: Counter,
    /// Of media, as players fetched it.
    pub bytes_served: Counter,
    /// Events that webhooks' receivers took.
    pub deliveries: Counter,
    /// Events that were given up on.
    pub deliveries_dropped: Counter,
    pub posts_failed: Counter,
}

/// What is so at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    pub uploads_open: u64,
    /// Sockets and event streams.
    pub subscribers_open: u64,
    /// In memory, before it is on the disk.
    pub unkept_bytes: u64,
    /// For media.
    pub room_bytes: u64,
    /// Whether a fragment found the disk full just now.
    pub is_full: bool,
}

impl Metrics {
    /// Counts an answer.
    pub fn responded(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.responses.get(class) {
            counter.add(1);
        }
    }

    /// The page that `/metrics` answers.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(page, "{name}{labels} {value}");
            }
        };
        let [r1, r2, r3, r4, r5] = self.responses.each_ref().map(Counter::get);
        family(
            "lookback_http_responses_total",
            "counter",
            "Answers, by class of status.",
            &[
                ("{class=\"1xx\"}", r1),
                ("{class=\"2xx\"}", r2),
                ("{class=\"3xx\"}", r3),
                ("{class=\"4xx\"}", r4),
                ("{class=\"5xx\"}", r5),
            ],
        );
        family(
            "lookback_uploads_open",
            "gauge",
            "PutMedia connections that are open.",
            &[("", gauges.uploads_open)],
        );
        family(
            "lookback_subscribers_open",
            "gauge",
            "Sockets and streams of events that are open.",
            &[("", gauges.subscribers_open)],
        );
        family(
            "lookback_unkept_bytes",
            "gauge",
            "Bytes of media in memory that are not on the disk yet.",
            &[("", gauges.unkept_bytes)],
        );
        family(
            "lookback_room_bytes",
            "gauge",
            "Bytes of media that there is room for.",
            &[("", gauges.room_bytes)],
        );
        family(
            "lookback_full",
            "gauge",
            "1 while uploads are refused because the disk is full.",
            &[("", u64::from(gauges.is_full || gauges.room_bytes == 0))],
        );
        family(
            "lookback_fragments_refused_total",
            "counter",
            "Fragments that were whole and not kept.",
            &[("", self.fragments_refused.get())],
        );
        family(
            "lookback_fragments_stored_total",
            "counter",
            "Fragments made durable.",
            &[("", self.fragments_stored.get())],
        );
        family(
            "lookback_stored_bytes_total",
            "counter",
            "Bytes of media made durable.",
            &[("", self.bytes_stored.get())],
        );
        family(
            "lookback_served_bytes_total",
            "counter",
            "Bytes of media that players fetched.",
            &[("", self.bytes_served.get())],
        );
        family(
            "lookback_webhook_events_total",
            "counter",
            "Events due to webhooks, by what became of them.",
            &[
                ("{result=\"delivered\"}", self.deliveries.get()),
                ("{result=\"dropped\"}", self.deliveries_dropped.get()),
            ],
        );
        family(
            "lookback_webhook_posts_failed_total",
            "counter",
            "Posts to webhooks that will be tried again.",
            &[("", self.posts_failed.get())],
        );
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_help_type_and_value() {
        let metrics = Metrics::default();
        for status in [100, 200, 204, 404, 503, 0, 999] {
            metrics.responded(status);
        }
        metrics.fragments_stored.add(3);
        let page = metrics.render(&Gauges { uploads_open: 7, ..Gauges::default() });
        for line in [
            "lookback_http_responses_total{class=\"2xx\"} 2",
            "lookback_http_responses_total{class=\"5xx\"} 1",
            "# TYPE lookback_uploads_open gauge",
            "lookback_uploads_open 7",
            "lookback_fragments_stored_total 3",
            "lookback_room_bytes 0",
            "lookback_full 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
    }
}
