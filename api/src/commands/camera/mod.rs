//! `lookback camera`: streams a recording as a camera would, through the producer library.

mod identity;
mod matroska_file;
mod mp4_file;
mod recording;

use super::{Failure, block_on};
use crate::clock::Clock;
use chrono::DateTime;
use lookback_producer::{
    BufferLimits, Config, Credentials, Event, Frame, Producer, Report, Roots, Timestamp, Track,
};
use recording::{Recording, Sample};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Stream a recording as a camera would.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The service, such as https://cam.example
    #[arg(long, env = "LOOKBACK_ENDPOINT", value_name = "URL")]
    endpoint: String,
    /// Where the token is: @FILE, or - for stdin [default: the token in LOOKBACK_TOKEN]
    #[arg(long, value_name = "@FILE|-")]
    token: Option<String>,
    /// The device, by the maker's identifier; with a manager's token it is registered if absent
    #[arg(long, env = "LOOKBACK_DEVICE", value_name = "EXTERNAL_ID")]
    device: Option<String>,
    /// The device's stream
    #[arg(long, env = "LOOKBACK_STREAM", value_name = "NAME", default_value = "main")]
    stream: String,
    /// The first frame's capture time, RFC 3339 [default: now; with --fast, now less the length]
    #[arg(long, env = "LOOKBACK_START", value_name = "TIME", value_parser = instant)]
    start: Option<Timestamp>,
    /// Begin anew at the end, until stopped
    #[arg(long = "loop", env = "LOOKBACK_LOOP")]
    looped: bool,
    /// As fast as the link allows, instead of at the pace of the recording
    #[arg(long, env = "LOOKBACK_FAST")]
    fast: bool,
    /// Certificates, PEM, that the service's is trusted by [default: Mozilla's]
    #[arg(long, env = "LOOKBACK_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A .mkv or .mp4 file: H.264 or H.265, AAC or G.711
    source: PathBuf,
}

/// A fragment of 20 s at 25 Mbit/s fits, and one more.
const BUFFER: BufferLimits = BufferLimits { bytes: 128 << 20, duration: Duration::from_secs(120) };
/// How long the service may take over the rest once the recording has ended.
const STOP_WITHIN: Duration = Duration::from_secs(120);
/// Refusals in a row before the camera gives up: a token that is not accepted will not become so.
const MAX_REFUSALS: u32 = 3;
const MAX_TOKEN_BYTES: u64 = 16 << 10;

fn instant(text: &str) -> Result<Timestamp, String> {
    let parsed = DateTime::parse_from_rfc3339(text).map_err(|error| error.to_string())?;
    Ok(Timestamp::from_millis(parsed.timestamp_millis()))
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let roots = match &args.ca {
        Some(path) => Roots::Pem(std::fs::read(path)?),
        None => Roots::WebPki,
    };
    let recording = Recording::open(&args.source)?;
    let token = read_token(args.token.as_deref())?;
    let device = args.device.as_deref();
    let token = block_on(identity::token(&args.endpoint, token, device, &args.stream, &roots))?;

    let refusals = Arc::new(AtomicU32::new(0));
    let mut config = Config::new(&args.endpoint, Credentials::token(token))
        .stream(&args.stream)
        .roots(roots)
        .buffer(BUFFER)
        .on_event(tell(refusals.clone()));
    for track in recording.tracks() {
        config = config.track(Track::matroska(track.clone()));
    }
    let producer = Producer::start(config)?;
    let stopped = stop_on_signal()?;
    let given_up = || refusals.load(Ordering::Relaxed) >= MAX_REFUSALS;
    let over = || stopped.load(Ordering::Relaxed) || given_up();
    let result = stream(&args, recording, &producer, &over);
    let patience = if given_up() { Duration::ZERO } else { STOP_WITHIN };
    let report = producer.stop(patience);
    result?;
    print(&report)?;
    let health = &report.health;
    let complete = report.undelivered.is_empty() && health.fragments_dropped == 0;
    let announced = report.unannounced == 0 && health.segments_rejected == 0;
    Ok(if complete && announced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the recording's samples, each at its time or as soon as there is room.
fn stream(
    args: &Args,
    mut recording: Recording,
    producer: &Producer,
    over: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let extent = recording.extent();
    let length_ms = extent.end_ms.saturating_sub(extent.start_ms);
    let now = Clock::System.now();
    let default_start = if args.fast { now.plus_millis(-length_ms) } else { now };
    let mut start = args.start.unwrap_or(default_start);
    let begun = Instant::now();
    let first = start;
    loop {
        while let Some(sample) = recording.next()? {
            let captured_at = start.plus_millis(sample.at_ms.saturating_sub(extent.start_ms));
            if args.fast {
                while !over() && !producer.wait_for_room(Duration::from_secs(1)) {}
            } else {
                wait_until(begun, captured_at.millis_since(first), over);
            }
            if over() {
                return Ok(());
            }
            let Sample { track, key, data, .. } = sample;
            let track = track as u64 + 1;
            producer.put_frame(Frame { track, captured_at, key, data })?;
        }
        if !args.looped {
            return Ok(());
        }
        recording.rewind()?;
        start = start.plus_millis(length_ms);
    }
}

fn wait_until(begun: Instant, after_ms: i64, over: &dyn Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(200);
    let at = begun + Duration::from_millis(u64::try_from(after_ms).unwrap_or(0));
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() || over() {
            return;
        }
        thread::sleep(left.min(STEP));
    }
}

/// Prints what goes wrong, and counts refusals that nothing came between.
fn tell(refusals: Arc<AtomicU32>) -> impl FnMut(Event) + Send {
    move |event| {
        let line = match event {
            Event::Connected => {
                refusals.store(0, Ordering::Relaxed);
                return;
            }
            Event::Disconnected { cause, retry_in } => {
                if cause.is_refusal() {
                    refusals.fetch_add(1, Ordering::Relaxed);
                }
                format!("{cause}; trying again in {retry_in:.1?}")
            }
            Event::AnnounceFailed { cause, retry_in } => {
                format!("{cause}; announcing again in {retry_in:.1?}")
            }
            Event::FragmentDropped { fragment, reason } => {
                format!("the fragment at {} was dropped: {reason:?}", fragment.start)
            }
            Event::FragmentRefused { fragment, error } => {
                format!(
                    "the fragment at {} was refused ({error}) and is sent again",
                    fragment.start
                )
            }
            Event::FramesSkipped { frames, reason } => {
                format!("{frames} frames were left out: {reason:?}")
            }
            Event::SegmentRejected { client_segment_id, code, message } => {
                format!("segment {client_segment_id} was rejected: {code}: {message}")
            }
            _ => return,
        };
        eprintln!("lookback: {line}");
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let health = &report.health;
    let mut out = std::io::stdout().lock();
    writeln!(out, "frames: {} sent, {} left out", health.frames, health.frames_skipped)?;
    writeln!(
        out,
        "fragments: {} persisted ({} bytes), {} dropped, {} not delivered",
        health.fragments_persisted,
        health.bytes_persisted,
        health.fragments_dropped,
        report.undelivered.len(),
    )?;
    writeln!(
        out,
        "segments: {} announced, {} rejected, {} not announced",
        health.segments_announced, health.segments_rejected, report.unannounced,
    )?;
    Ok(())
}

/// Secrets never come as arguments, which every user of the machine can see.
fn read_token(from: Option<&str>) -> Result<String, Failure> {
    let mut token = String::new();
    match from {
        None => {
            token = std::env::var("LOOKBACK_TOKEN")
                .map_err(|_| "there is no token: give --token or LOOKBACK_TOKEN")?;
        }
        Some("-") => {
            std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut token)?;
        }
        Some(from) => {
            let path = from.strip_prefix('@').ok_or("--token takes @FILE, or - for stdin")?;
            let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
            file.take(MAX_TOKEN_BYTES).read_to_string(&mut token)?;
        }
    }
    Ok(token.trim().to_owned())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let told = stopped.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let waited = block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        });
        told.store(waited.is_ok(), Ordering::Relaxed);
    })?;
    Ok(stopped)
}
