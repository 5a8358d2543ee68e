//! One demo camera: draws, encodes and puts frames at the pace of the wall clock, pauses now and
//! then, or changes its resolution.

use super::encoder::PictureEncoder;
use super::scene::Scene;
use crate::clock::Clock;
use crate::commands::Failure;
use lookback_producer::{Config, Credentials, Event, Frame, Producer, Roots, Timestamp, Track};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const FRAMES_PER_SECOND: i64 = 15;
/// A fragment begins with each.
const FRAMES_PER_GROUP: i64 = FRAMES_PER_SECOND;
const SIZE: (usize, usize) = (640, 360);
const OTHER_SIZE: (usize, usize) = (576, 324);
const SIZE_CHANGES_EVERY_S: i64 = 120;
const FIRST_PAUSE_S: i64 = 60;
const PAUSES_EVERY_S: i64 = 180;
const PAUSE_S: i64 = 40;
/// How long the last second may take to be sent at the end.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What is peculiar about a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Steady,
    /// Sends nothing for 40 s, first after a minute, then every three minutes.
    Pauses,
    /// Changes its resolution every two minutes.
    ChangesSize,
}

/// A camera that is registered.
#[derive(Debug)]
pub struct DemoCamera {
    pub name: String,
    pub index: usize,
    pub habit: Habit,
    pub token: SecretString,
}

impl DemoCamera {
    /// Uploads to the service at `url` until `stop`.
    pub fn run(&self, url: &str, roots: Roots, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
        let (name, stopping) = (self.name.clone(), stop.clone());
        let config = Config::new(url, Credentials::token(self.token.expose_secret()))
            .roots(roots)
            .track(Track::h264())
            .fragment(Duration::from_secs(1))
            // While the demo ends, the service goes away first.
            .on_event(move |event| match stopping.load(Ordering::Relaxed) {
                true => tracing::debug!(camera = name, ?event),
                false => log(&name, &event),
            });
        let producer = Producer::start(config)?;
        let result = self.film(&producer, stop);
        producer.stop(STOP_WITHIN);
        result
    }

    fn film(&self, producer: &Producer, stop: &AtomicBool) -> Result<(), Failure> {
        let start = Clock::System.now();
        let mut size = SIZE;
        let mut scene = Scene::new(&self.name, self.index, size.0, size.1);
        let mut encoder = PictureEncoder::new(FRAMES_PER_SECOND as u32)?;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let since_start_ms = number * 1000 / FRAMES_PER_SECOND;
            let captured_at = start.plus_millis(since_start_ms);
            let lag_ms = wait_until(captured_at);
            let key = number % FRAMES_PER_GROUP == 0;
            if key {
                let second = since_start_ms / 1000;
                if let Some(seconds) = self.pause(second) {
                    producer.end_fragment();
                    number += seconds * FRAMES_PER_SECOND;
                    sleep_unless(stop, Duration::from_secs(seconds.unsigned_abs()));
                    continue;
                }
                // A machine that cannot keep up skips whole groups rather than drifting away.
                if lag_ms >= 2_000 {
                    number += lag_ms / 1000 * FRAMES_PER_SECOND;
                    continue;
                }
                let wanted = self.size(second);
                if wanted != size {
                    size = wanted;
                    scene = Scene::new(&self.name, self.index, size.0, size.1);
                    encoder = PictureEncoder::new(FRAMES_PER_SECOND as u32)?;
                }
            }
            let since_start = Duration::from_millis(since_start_ms.unsigned_abs());
            let data = encoder.encode(scene.at(captured_at), since_start, key)?;
            producer.put_frame(Frame { track: 1, captured_at, key, data: data.into() })?;
            number += 1;
        }
        Ok(())
    }

    /// For how long the camera sends nothing from this second on.
    fn pause(&self, second: i64) -> Option<i64> {
        let begins = second >= FIRST_PAUSE_S && (second - FIRST_PAUSE_S) % PAUSES_EVERY_S == 0;
        (self.habit == Habit::Pauses && begins).then_some(PAUSE_S)
    }

    fn size(&self, second: i64) -> (usize, usize) {
        let odd = second / SIZE_CHANGES_EVERY_S % 2 == 1;
        if self.habit == Habit::ChangesSize && odd { OTHER_SIZE } else { SIZE }
    }
}

/// Sleeps until the instant; answers by how many milliseconds it has passed.
fn wait_until(at: Timestamp) -> i64 {
    let early_ms = at.millis_since(Clock::System.now());
    if let Ok(early_ms) = u64::try_from(early_ms) {
        thread::sleep(Duration::from_millis(early_ms));
    }
    early_ms.saturating_neg().max(0)
}

fn sleep_unless(stop: &AtomicBool, duration: Duration) {
    const STEP: Duration = Duration::from_millis(200);
    let mut left = duration;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        thread::sleep(left.min(STEP));
        left = left.saturating_sub(STEP);
    }
}

fn log(camera: &str, event: &Event) {
    match event {
        Event::FragmentDropped { fragment, reason } => {
            tracing::warn!(camera, start = %fragment.start, ?reason, "a fragment was dropped");
        }
        Event::Disconnected { cause, .. } | Event::AnnounceFailed { cause, .. } => {
            tracing::info!(camera, %cause, "the camera comes back later");
        }
        Event::SegmentRejected { code, message, .. } => {
            tracing::warn!(camera, code, message, "a segment was rejected");
        }
        other => tracing::debug!(camera, event = ?other),
    }
}
