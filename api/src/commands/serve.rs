//! `lookback serve`: the service. `lookback demo` starts the same one in its own process.

use super::{Failure, backend};
use crate::access_key::AccessKeys;
use crate::arriving::Arriving;
use crate::audit::Looks;
use crate::clock::Clock;
use crate::config::{self, Backend, Config, LogFormat, Network, Tls};
use crate::delivery::Deliveries;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::http::{self, Certificates};
use crate::ingest::reconcile::Reconciler;
use crate::ingest::{Presence, Unkept, Uploads, presence};
use crate::issuer::Issuers;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::playback::Playback;
use crate::playback::picture::Pictures;
use crate::rates::Rates;
use crate::retention::Retention;
use crate::service::Service;
use crate::sign_in::{self, DEFAULT_ACCOUNT, SignIns};
use crate::storage::Storage;
use crate::throttle::Throttle;
use crate::token::Tokens;
use rustix::process::{Resource, getrlimit, setrlimit};
use secrecy::{ExposeSecret, SecretString};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tracing_subscriber::EnvFilter;

/// Run the service.
///
/// Flags come before the environment, that before the configuration file, that before the defaults.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// A TOML file; its keys are the flags' names with _ for -
    #[arg(long, env = "LOOKBACK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, env = "LOOKBACK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where everything is kept [default: ./lookback-data]
    #[arg(long, env = "LOOKBACK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where records and media are kept [default: embedded, which is in the data directory]
    #[arg(long, env = "LOOKBACK_BACKEND", value_enum)]
    pub backend: Option<Backend>,
    /// What URLs begin with that are handed out, such as https://cam.example
    #[arg(long, env = "LOOKBACK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Networks whose X-Forwarded-* headers are believed
    #[arg(long, env = "LOOKBACK_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<Network>>,
    /// Listen beyond loopback without TLS
    #[arg(long, env = "LOOKBACK_PLAIN_HTTP", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub plain_http: Option<bool>,
    /// Other origins whose pages may call /graphql and /auth
    #[arg(long, env = "LOOKBACK_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origins: Option<Vec<String>>,
    /// Threads that answer requests [default: one for each core]
    #[arg(long, env = "LOOKBACK_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
    /// What media leaves free of the disk [default: 256 MiB, or a twentieth of a small disk]
    #[arg(long, env = "LOOKBACK_MIN_FREE_BYTES", value_name = "BYTES")]
    pub min_free_bytes: Option<u64>,
    /// The certificate, PEM; in the file, tls.cert
    #[arg(long, env = "LOOKBACK_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM; in the file, tls.key
    #[arg(long, env = "LOOKBACK_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How lines are logged to stderr; in the file, log.format
    #[arg(long, env = "LOOKBACK_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Which lines are logged, such as info,lookback_api::ingest=debug; in the file, log.filter
    #[arg(long, env = "LOOKBACK_LOG_FILTER", value_name = "FILTER")]
    pub log_filter: Option<String>,
}

impl Args {
    /// The configuration that the file and these flags come to.
    pub fn config(self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut config.listen, self.listen);
        set(&mut config.data_dir, self.data_dir);
        set(&mut config.backend, self.backend);
        set(&mut config.public_url, self.public_url.map(Some));
        set(&mut config.trusted_proxies, self.trusted_proxies);
        set(&mut config.plain_http, self.plain_http);
        set(&mut config.allowed_origins, self.allowed_origins);
        set(&mut config.workers, self.workers.map(Some));
        set(&mut config.min_free_bytes, self.min_free_bytes.map(Some));
        set(
            &mut config.tls,
            self.tls_cert.zip(self.tls_key).map(|(cert, key)| Some(Tls { cert, key })),
        );
        set(&mut config.log.format, self.log_format);
        set(&mut config.log.filter, self.log_filter);
        config.check()?;
        Ok(config)
    }
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = args.config()?;
    log_to_stderr(&config)?;
    super::block_on(async {
        let signals = Signals::new()?;
        let server = start(config, Options::default()).await?;
        // Whoever started this process waits for exactly this line.
        writeln!(std::io::stdout().lock(), "listening on {}", server.url)?;
        server.run_until(signals).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Connections that are dropped on purpose, as under a refused upload, are errors to the HTTP
/// server; anybody could fill the log with them.
const QUIET: &str = "actix_http::h1::dispatcher=off";

/// Sends what is logged to stderr.
pub fn log_to_stderr(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log.filter))
        .map_err(|e| format!("log.filter is {:?}: {e}", config.log.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    }
}

/// What a start has beyond its configuration.
#[derive(Debug)]
pub struct Options {
    pub clock: Arc<Clock>,
    /// Makes a code that signs in an administrator from loopback, for the demo only.
    pub with_sign_in_code: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(Clock::System), with_sign_in_code: false }
    }
}

/// A server that takes connections.
#[derive(Debug)]
pub struct RunningServer {
    pub service: Arc<Service>,
    pub address: SocketAddr,
    /// `http://ADDRESS`, or `https://ADDRESS` under TLS.
    pub url: String,
    /// What `/auth/login` takes as `code`, where it was asked for.
    pub sign_in_code: Option<SecretString>,
    certificates: Option<Arc<Certificates>>,
    handle: http::ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
    background: Vec<AbortHandle>,
}

/// Opens the store, takes connections, and begins the work in the background.
pub async fn start(config: Config, options: Options) -> Result<RunningServer, Failure> {
    config.check()?;
    allow_many_files();
    let Options { clock, with_sign_in_code } = options;
    let certificates = config.tls.clone().map(Certificates::read).transpose()?.map(Arc::new);
    let storage = backend::open(&config, &clock).await?;
    let listener = TcpListener::bind(config.listen)
        .map_err(|e| format!("cannot listen on {}: {e}", config.listen))?;
    let address = listener.local_addr()?;
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let sign_in_code = if with_sign_in_code { Some(sign_in::random_secret()?) } else { None };
    let service = Arc::new(service_on(storage, config, clock, sign_in_code.clone()).await?);
    let server = http::serve(service.clone(), listener, certificates.clone())?;
    let handle = server.handle();
    let server = tokio::spawn(server);
    let retention = service.retention.clone();
    let sweep = async move { retention.run().await };
    let mut background = vec![tokio::spawn(sweep).abort_handle()];
    background.push(tokio::spawn(service.deliveries.clone().run()).abort_handle());
    let pictured = service.clone();
    let sweep = async move { pictured.playback.sweep_pictures().await };
    background.push(tokio::spawn(sweep).abort_handle());
    let asking = service.clone();
    let follow = async move { asking.issuers.run().await };
    background.push(tokio::spawn(follow).abort_handle());
    if service.storage.local().is_err() && service.config.aws.reconcile_requests_per_minute() > 0 {
        let (storage, clock) = (service.storage.clone(), service.clock.clone());
        let reconciler = Reconciler::new(storage, clock, service.feed.clone());
        let requests_per_minute = service.config.aws.reconcile_requests_per_minute();
        let reconcile = async move { reconciler.run(requests_per_minute).await };
        background.push(tokio::spawn(reconcile).abort_handle());
    }
    let watched = service.clone();
    let watch = async move { presence::watch(&watched).await };
    background.push(tokio::spawn(watch).abort_handle());
    if let Some(certificates) = certificates.clone() {
        let follow = async move { certificates.follow().await };
        background.push(tokio::spawn(follow).abort_handle());
    }
    Ok(RunningServer {
        service,
        address,
        url: format!("{scheme}://{address}"),
        sign_in_code,
        certificates,
        handle,
        server,
        background,
    })
}

/// The parts of a service on what `storage` keeps; nothing of it runs yet.
async fn service_on(
    storage: Storage,
    config: Config,
    clock: Arc<Clock>,
    sign_in_code: Option<SecretString>,
) -> Result<Service, Failure> {
    storage.catalog.ensure_account(DEFAULT_ACCOUNT, clock.now()).await?;
    let keys = Keys::open(&config.data_dir)?;
    let tokens = Arc::new(Tokens::new(&keys)?);
    let sign_ins = {
        let config = &config.sign_in;
        SignIns::new(storage.catalog.clone(), tokens.clone(), &keys, config, sign_in_code)?
    };
    let issuers = Issuers::new(&config.issuers, &keys, storage.catalog.clone(), clock.clone())?;
    let pictures = config.data_dir.join("pictures");
    let config::Playback { picture_cache_bytes, picture_seconds, .. } = config.playback;
    let pictures = Pictures::open(&pictures, picture_cache_bytes, picture_seconds)
        .map_err(|e| format!("{}: {e}", pictures.display()))?;
    let arriving = Arc::new(Arriving::default());
    let playback = Playback::new(
        storage.clone(),
        arriving.clone(),
        clock.clone(),
        keys.derive("playback sessions").expose_secret(),
        config.playback.max_session_seconds,
        pictures,
    );
    let throttle = Throttle::new(config.kinesis.quotas);
    let rates = Rates::new(&config.rates, &clock);
    let documents = Documents::open(&config.documents)?;
    let access_keys = AccessKeys::new(&keys);
    let retention = Arc::new(Retention::new(storage.clone(), clock.clone()));
    let metrics = Arc::new(Metrics::default());
    let deliveries = Arc::new(Deliveries::new(
        storage.catalog.clone(),
        clock.clone(),
        metrics.clone(),
        &keys,
        &config.webhooks,
    )?);
    let unkept = Unkept::new(config.kinesis.max_unkept_bytes);
    Ok(Service {
        config,
        clock,
        storage,
        keys,
        tokens,
        access_keys,
        sign_ins,
        issuers,
        uploads: Uploads::default(),
        presence: Presence::default(),
        feed: Arc::new(Feed::default()),
        unkept,
        arriving,
        throttle,
        rates,
        looks: Looks::default(),
        documents,
        playback,
        retention,
        deliveries,
        metrics,
        stopping: watch::Sender::new(false),
    })
}

/// Takes as many open files as the system grants: each upload needs a socket and a chunk file, and
/// 1,024, as many systems have it, is enough for about 400 cameras.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// What a process is told from outside. Made before anybody is told that it is ready: a signal that
/// comes earlier would end it on the spot.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

impl RunningServer {
    /// Runs until SIGTERM or SIGINT, then stops. SIGHUP reads the certificate again.
    pub async fn run_until(mut self, mut signals: Signals) -> Result<(), Failure> {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hang_up.recv() => {
                    if let Some(certificates) = &self.certificates {
                        certificates.reload();
                    }
                }
                ended = &mut self.server => {
                    ended??;
                    return Err("the server ended by itself".into());
                }
            }
        }
        self.stop().await
    }

    /// Takes no more connections, lets what is under way finish, and closes the store; within 10 s.
    pub async fn stop(self) -> Result<(), Failure> {
        tracing::info!("stopping");
        self.service.stopping.send_replace(true);
        for task in &self.background {
            task.abort();
        }
        self.handle.stop(true).await;
        self.server.await??;
        self.service.storage.archive().close().await?;
        self.service.storage.catalog.close().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Principal, Subject};
    use crate::account::Role;
    use crate::event::{NewEvent, Picture};
    use crate::graphql::loader::Loaders;
    use crate::graphql::{Asked, Outcome, Request, execute, prepare};
    use crate::id::HoldId;
    use crate::keeping::Hold;
    use crate::segment::{NewSegment, RecordingTrigger, TimeRange};
    use crate::storage::aws::AwsOptions;
    use crate::storage::aws::kinesis_video::KinesisArchive;
    use crate::storage::contract::events::new_event;
    use crate::storage::contract::{NOW, fragment, registration};
    use crate::storage::counted::Counted;
    use crate::storage::{Media, embedded};
    use bytes::Bytes;
    use lookback_packaging::TrackInit;
    use lookback_wire::{Track, TrackKind};
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    const PAGE: &str = "{ devices(first: 100) { nodes { id name
        stream { clips(range: RANGE, order: NEWEST_FIRST, first: 1) {
          nodes { range { start end } mediaSeconds growing thumbnail { url } } } }
        events(first: 3) { nodes { id type seen thumbnail { url } } } } } }";
    const CLIPS: &str = "{ devices(first: 1) { nodes {
        stream { clips(range: RANGE, first: 100) { nodes { range { start } triggers held } }
          segments(range: RANGE, first: 100) { nodes { retainUntil stream { name } } } }
        events(first: 100) { nodes { start clip { range { start } triggers held } } } } } }";

    /// Asks more often than a task may without giving way.
    const DEVICES_OF_EVENTS: &str =
        "{ devices(first: 100) { nodes { events(first: 3) { nodes { device { id } } } } } }";

    /// `avcC` of a 640x360 stream.
    const AVCC: &[u8] = &[
        0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0,
        0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f,
        0x16, 0x2e, 0x48, 0x01, 0x00, 0x05, 0x68, 0xcb, 0x83, 0xcb, 0x20,
    ];

    /// What footage begins with that thumbnails can be made of.
    fn video() -> Bytes {
        let track = Track {
            number: 1,
            uid: 1,
            kind: TrackKind::Video,
            name: None,
            codec_id: "V_MPEG4/ISO/AVC".into(),
            codec_private: Bytes::from_static(AVCC),
            default_duration_ns: None,
            width: 640,
            height: 360,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        };
        TrackInit::new(&track).unwrap().encode()
    }

    /// A storage of so many cameras, each with footage, three events and a picture of each.
    async fn storage(data_dir: &Path, cameras: u32) -> Storage {
        let storage = embedded::open(data_dir).unwrap();
        let account = storage.catalog.ensure_account(DEFAULT_ACCOUNT, NOW).await.unwrap().id;
        for n in 0..cameras {
            let name = format!("camera {n}");
            let made = registration(account, &name, &name);
            let made = storage.catalog.register_device(made, NOW).await.unwrap();
            let picture = Picture { jpeg: Bytes::from_static(b"jpeg"), width: 4, height: 3 };
            let event = |n: i64| NewEvent {
                picture: Some(picture.clone()),
                ..new_event(&n.to_string(), n * 1_000)
            };
            let events: Vec<_> = (0..3).map(event).collect();
            storage.catalog.report_events(made.device.id, &events, NOW).await.unwrap();
            let archive = storage.local().unwrap();
            let mut media = fragment(archive, made.streams[0].id, NOW, 2_000, name.as_bytes());
            media.inits[0].1 = video();
            archive.append(media).await.unwrap();
            let range = TimeRange { start: NOW, end: NOW.plus_millis(2_000) };
            let segment = announcement(&name, range);
            storage.catalog.announce(made.streams[0].id, &[segment], NOW).await.unwrap();
        }
        storage
    }

    /// The same storage, whose media is said to lie elsewhere: footage is what the catalog knows.
    async fn elsewhere(mut storage: Storage) -> Storage {
        let options = AwsOptions { region: Some("us-east-1".into()), ..AwsOptions::default() };
        let archive = KinesisArchive::new(&options, Arc::new(Clock::manual(NOW))).await;
        storage.media = Media::Remote(Arc::new(archive.unwrap()));
        storage
    }

    fn announcement(id: &str, range: TimeRange) -> NewSegment {
        NewSegment {
            client_segment_id: id.into(),
            range,
            trigger: RecordingTrigger::Event,
            codecs: None,
            width: None,
            height: None,
            size_bytes: None,
        }
    }

    /// A storage of a camera that has recorded, announced and told so many moments, ten minutes
    /// apart. The oldest one is held.
    async fn storage_of_moments(data_dir: &Path, moments: i64) -> Storage {
        let storage = embedded::open(data_dir).unwrap();
        let (catalog, archive) = (&storage.catalog, storage.local().unwrap());
        let account = catalog.ensure_account(DEFAULT_ACCOUNT, NOW).await.unwrap().id;
        let mut door = registration(account, "SN-1", "Door");
        door.device.plan = catalog.plans(account).await.unwrap()[0].id;
        let made = catalog.register_device(door, NOW).await;
        let (device, stream) = made.map(|made| (made.device.id, made.streams[0].id)).unwrap();
        for back in (1..=moments).rev() {
            let start = NOW.plus_millis(back * -600_000);
            let range = TimeRange { start, end: start.plus_millis(2_000) };
            let event = NewEvent { end: Some(range.end), ..new_event(&back.to_string(), 0) };
            let event = NewEvent { start, ..event };
            catalog.report_events(device, &[event], NOW).await.unwrap();
            archive.append(fragment(archive, stream, start, 2_000, b"moment")).await.unwrap();
            let segment = announcement(&back.to_string(), range);
            catalog.announce(stream, &[segment], NOW).await.unwrap();
            if back == moments {
                let id = HoldId::new(NOW);
                let hold = Hold { id, stream, range, reason: None, until: None, created_at: NOW };
                assert!(catalog.put_hold(hold).await.unwrap());
            }
        }
        storage
    }

    /// What a service on `storage` answers, and the calls of the catalog that it took.
    async fn ask(
        mut storage: Storage,
        data_dir: &Path,
        query: &str,
    ) -> (serde_json::Value, Vec<&'static str>) {
        let counted = Arc::new(Counted::new(storage.catalog));
        storage.catalog = counted.clone();
        let config = Config { data_dir: data_dir.into(), ..Config::default() };
        let clock = Arc::new(Clock::manual(NOW.plus_millis(60_000)));
        let service = Arc::new(service_on(storage, config, clock, None).await.unwrap());
        let account = service.storage.catalog.ensure_account(DEFAULT_ACCOUNT, NOW).await;
        let principal = Principal {
            subject: Subject::Service("test".into()),
            account: account.unwrap().id,
            role: Role::Admin,
            shares: Vec::new(),
            expires_at: NOW.plus_millis(3_600_000),
        };
        let asked = Asked {
            service: service.clone(),
            principal: Some(principal),
            base_url: "http://localhost".into(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            loaders: Loaders::new(&service.storage),
        };
        counted.take();
        let range = "{start: \"2023-11-14T00:00:00Z\", end: \"2023-11-15T00:00:00Z\"}";
        let request = Request { query: query.replace("RANGE", range), ..Request::default() };
        let prepared = prepare(request, &asked).unwrap();
        let Outcome::Ran(answer) = execute(prepared, asked).await else { panic!("refused") };
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        (answer.data.into_json().unwrap(), counted.take())
    }

    #[tokio::test]
    async fn a_page_of_devices_takes_as_many_calls_as_one() {
        for cameras in [1, 50] {
            let dir = tempfile::tempdir().unwrap();
            let storage = storage(dir.path(), cameras).await;
            let (answer, calls) = ask(storage.clone(), dir.path(), PAGE).await;
            assert_eq!(calls, ["devices", "streams_of", "events_of", "seen"]);
            let nodes = answer["devices"]["nodes"].as_array().unwrap();
            assert_eq!(nodes.len(), cameras as usize);
            for node in nodes {
                for (of, count) in [(&node["stream"]["clips"], 1), (&node["events"], 3)] {
                    let items = of["nodes"].as_array().unwrap();
                    let pictured = items.iter().filter(|item| item["thumbnail"]["url"].is_string());
                    assert_eq!((items.len(), pictured.count()), (count, count), "{node}");
                }
            }
            let (_, calls) = ask(storage.clone(), dir.path(), DEVICES_OF_EVENTS).await;
            assert_eq!(calls, ["devices", "events_of", "devices_by_id"]);

            // Of each device's announcements the catalog is asked by itself.
            let (remote, mut calls) = ask(elsewhere(storage).await, dir.path(), PAGE).await;
            let mut expected = vec!["devices", "events_of", "seen", "streams_of"];
            expected.extend(vec!["segments"; cameras as usize]);
            calls.sort_unstable();
            expected.sort_unstable();
            assert_eq!(calls, expected);
            for node in remote["devices"]["nodes"].as_array().unwrap() {
                let clips = node["stream"]["clips"]["nodes"].as_array().unwrap();
                assert!(clips.len() == 1 && clips[0]["thumbnail"]["url"].is_string(), "{node}");
            }
        }
    }

    #[tokio::test]
    async fn a_page_of_clips_takes_hardly_more_calls_than_one() {
        for (moments, is_remote) in [(1, false), (80, false), (1, true), (80, true)] {
            let dir = tempfile::tempdir().unwrap();
            let mut storage = storage_of_moments(dir.path(), moments).await;
            if is_remote {
                storage = elsewhere(storage).await;
            }
            let (answer, calls) = ask(storage, dir.path(), CLIPS).await;
            let device = &answer["devices"]["nodes"][0];
            let clips = device["stream"]["clips"]["nodes"].as_array().unwrap();
            let mut of_events: Vec<_> =
                device["events"]["nodes"].as_array().unwrap().iter().collect();
            of_events.sort_by_key(|event| event["start"].to_string());
            assert_eq!((clips.len(), of_events.len()), (moments as usize, moments as usize));
            for (place, (clip, event)) in clips.iter().zip(of_events).enumerate() {
                assert_eq!(clip, &event["clip"], "{event}");
                assert_eq!(clip["range"]["start"], event["start"]);
                assert_eq!(clip["triggers"], serde_json::json!(["EVENT"]));
                assert_eq!(clip["held"], place == 0, "{clip}");
            }
            let count = |name: &str| calls.iter().filter(|call| **call == name).count();
            // The announcements themselves, the reasons of both lists, and where there are no files
            // the footage of both; a list that is long enough to be worked through in turns may ask
            // twice.
            let expected = if is_remote { 5..=7 } else { 3..=4 };
            let segments = count("segments") + count("segment_spans");
            assert!(expected.contains(&segments), "{calls:?}");
            assert!((1..=2).contains(&count("holds")), "{calls:?}");
            // None where the only one is held.
            assert!(count("media_settings") <= 2, "{calls:?}");
            assert!(calls.len() <= segments + 12, "{calls:?}");
            let announced = device["stream"]["segments"]["nodes"].as_array().unwrap();
            assert_eq!(announced.len(), moments as usize);
            for (place, segment) in announced.iter().enumerate() {
                assert_eq!(segment["retainUntil"].is_null(), place == 0, "{segment}");
            }
        }
    }
}
