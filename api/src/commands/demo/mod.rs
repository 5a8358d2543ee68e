//! `lookback demo`: the service, and cameras that upload to it through the producer library over
//! real HTTP. Prints a URL that opens the viewer signed in.

mod camera;
mod encoder;
mod font;
mod scene;

use super::serve::{self, Options, RunningServer, Signals};
use super::{Failure, block_on, local_time_zone};
use crate::access::{Principal, Subject};
use crate::account::{RetentionMode, RetentionPlan, Role};
use crate::device::{CredentialKind, Device, DeviceCredential, DeviceState, Stream};
use crate::id::{AccountId, CredentialId, DeviceId, PlanId, StreamId};
use crate::service::Service;
use crate::sign_in::DEFAULT_ACCOUNT;
use crate::storage::Registration;
use camera::{DemoCamera, Habit};
use lookback_producer::Roots;
use lookback_wire::Timestamp;
use secrecy::ExposeSecret;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::signal::unix::{SignalKind, signal};

/// Run the service with cameras that film a made-up yard.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    serve: serve::Args,
    /// How many cameras there are
    #[arg(long, env = "LOOKBACK_CAMERAS", value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=32))]
    cameras: u8,
}

const NAMES: [&str; 4] = ["Front door", "Garden", "Garage", "Driveway"];
const PLAN: &str = "Demo";
const PLAN_DAYS: u32 = 1;
/// A token for one run of the demo.
const TOKEN_MS: i64 = 30 * 24 * 3_600_000;

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = args.serve.config()?;
    serve::log_to_stderr(&config)?;
    let roots = match &config.tls {
        Some(tls) => Roots::Pem(std::fs::read(&tls.cert)?),
        None => Roots::WebPki,
    };
    block_on(async {
        let options = Options { with_sign_in_code: true, ..Options::default() };
        let signals = Signals::new()?;
        let server = serve::start(config, options).await?;
        let cameras = register(&server.service, args.cameras).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = start(cameras, &server, &roots, &stop)?;
        stop_cameras_on_signal(stop.clone())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening on {}", server.url)?;
        let code = server.sign_in_code.as_ref().map_or("", |code| code.expose_secret());
        writeln!(out, "open {}/#code={code}", server.url)?;
        drop(out);
        let ended = server.run_until(signals).await;
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            // One that failed has said so.
            let _ = thread.join();
        }
        ended.map(|()| ExitCode::SUCCESS)
    })
}

/// So that the cameras do not come back while the server stops.
fn stop_cameras_on_signal(stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn start(
    cameras: Vec<DemoCamera>,
    server: &RunningServer,
    roots: &Roots,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let start = |camera: DemoCamera| {
        let (url, roots, stop) = (server.url.clone(), roots.clone(), stop.clone());
        thread::Builder::new().name(camera.name.clone()).spawn(move || {
            if let Err(error) = camera.run(&url, roots, &stop) {
                tracing::error!(camera = camera.name, %error, "the camera gave up");
            }
        })
    };
    Ok(cameras.into_iter().map(start).collect::<Result<_, _>>()?)
}

/// Makes the cameras known, or finds those of an earlier run, and gives each a token.
async fn register(service: &Service, count: u8) -> Result<Vec<DemoCamera>, Failure> {
    let now = service.clock.now();
    let account = service.storage.catalog.ensure_account(DEFAULT_ACCOUNT, now).await?.id;
    let plan = plan(service, account, now).await?;
    let zone = local_time_zone();
    let mut cameras = Vec::new();
    for index in 0..usize::from(count) {
        let name = match NAMES.get(index) {
            Some(name) => (*name).to_owned(),
            None => format!("Camera {}", index + 1),
        };
        let device = Device {
            id: DeviceId::new(now),
            account,
            external_id: format!("demo-{}", index + 1),
            name: name.clone(),
            model: Some("Demo camera".to_owned()),
            firmware_version: None,
            state: DeviceState::Provisioned,
            time_zone: zone.name().to_owned(),
            plan,
            created_at: now,
            last_seen_at: None,
            clock_skew_ms: None,
        };
        let principal = credential(service, device, now).await?;
        let habit = match index {
            1 => Habit::Pauses,
            2 => Habit::ChangesSize,
            _ => Habit::Steady,
        };
        let token = service.tokens.issue(&principal, now)?;
        cameras.push(DemoCamera { name, index, habit, token });
    }
    Ok(cameras)
}

/// Whom the camera's token speaks for.
async fn credential(
    service: &Service,
    device: Device,
    now: Timestamp,
) -> Result<Principal, Failure> {
    let catalog = &service.storage.catalog;
    let account = device.account;
    let known = catalog.device_by_external_id(account, &device.external_id).await?;
    let known = known.filter(|known| known.state != DeviceState::Retired);
    let expires_at = now.plus_millis(TOKEN_MS);
    let credential = DeviceCredential {
        id: CredentialId::new(now),
        account,
        device: known.as_ref().map_or(device.id, |known| known.id),
        kind: CredentialKind::Token,
        created_at: now,
        expires_at: Some(expires_at),
        revoked_at: None,
        last_used_at: None,
    };
    let subject = Subject::Device { device: credential.device, credential: credential.id };
    let (role, shares) = (Role::Device, Vec::new());
    let mut principal = Principal { subject, account, role, shares, expires_at };
    if known.is_some() {
        catalog.put_credential(credential).await?;
        return Ok(principal);
    }
    let stream = Stream {
        id: StreamId::new(now),
        device: device.id,
        account,
        name: "main".to_owned(),
        position: 0,
        media_stream_name: format!("{}-main", device.id),
        created_at: now,
    };
    let registration =
        Registration { device, streams: vec![stream], credential, idempotency: None };
    let registered = catalog.register_device(registration, now).await?;
    principal.subject =
        Subject::Device { device: registered.device.id, credential: registered.credential.id };
    Ok(principal)
}

/// A plan of one day, so that the demo's footage does not pile up.
async fn plan(service: &Service, account: AccountId, now: Timestamp) -> Result<PlanId, Failure> {
    let plans = service.storage.catalog.plans(account).await?;
    if let Some(plan) = plans.iter().find(|plan| plan.name == PLAN) {
        return Ok(plan.id);
    }
    let plan = RetentionPlan {
        id: PlanId::new(now),
        account,
        name: PLAN.to_owned(),
        mode: RetentionMode::Continuous,
        days: PLAN_DAYS,
        pre_roll_s: 10,
        post_roll_s: 20,
        storage_quota_bytes: None,
        is_default: false,
    };
    let id = plan.id;
    service.storage.catalog.put_plan(plan).await?;
    Ok(id)
}
