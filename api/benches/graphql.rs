//! What the questions and announcements of GraphQL cost, each beside its peers in the same run:
//! `make bench`.
//!
//! The release binary serves, on loopback, a catalog that was filled before. Beside it: a bare
//! actix-web handler that answers the same bytes; and, on moto's DynamoDB, a serverless handler of one
//! `put_item` a segment (`seed_handler.py`) and our own catalog in DynamoDB. Requests a second of one
//! core are requests by CPU seconds of the server alone.
//!
//! `LOOKBACK_BENCH_SEGMENTS` sets how many segments there are (default `1000000,10000000`; at least
//! 1,600), `LOOKBACK_BENCH_DIR` where, `LOOKBACK_BENCH_SECONDS` how long each is measured (default 5),
//! `LOOKBACK_BENCH_BINARY` what serves.

// A bench that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::future::join_all;
use lookback_api::id::{StreamId, Ulid};
use lookback_api::segment::{NewSegment, RecordingTrigger, TimeRange};
use lookback_api::storage::aws::AwsOptions;
use lookback_api::storage::aws::dynamodb::DynamoCatalog;
use lookback_api::storage::{Catalog, InitId, NewFragment, Storage, TrackSpan, embedded};
use lookback_packaging::TrackInit;
use lookback_wire::{Payload, Timestamp, Track, TrackKind};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Devices that announce and are asked about; each caller has one of its own.
const DEVICES: usize = 8;
const SEGMENT_MS: i64 = 20_000;
/// As many as a stream announces in the week that its plan keeps, less an hour.
const SEGMENTS_A_STREAM: usize = 7 * 4_320 - 180;
const DAY_MS: i64 = 86_400_000;
const SEGMENTS_A_DAY: usize = 4_320;
/// Segments of one write while the catalog is filled, and streams that are filled at once.
const SEGMENTS_A_WRITE: usize = 1_000;
const STREAMS_AT_ONCE: usize = 16;
/// Fragments that are kept at once while the archive is filled.
const FRAGMENTS_AT_ONCE: usize = 256;

/// A number that no measured request has: what it announces is new, too.
const UNMEASURED: usize = 10_000_000;

/// What this process is when another one of it has started it.
const ROLE: &str = "LOOKBACK_BENCH_ROLE";

fn main() {
    let seconds: f64 =
        std::env::var("LOOKBACK_BENCH_SECONDS").map_or(5.0, |text| text.parse().unwrap());
    match std::env::var(ROLE).as_deref() {
        Ok("bare") => return answer_bare(),
        Ok("dynamodb") => return announce_to_dynamodb(seconds),
        _ => {}
    }
    if !binary().exists() {
        println!("skipped: there is no {}; cargo build --release makes it", binary().display());
        return;
    }
    println!("{:46} {:>10} {:>10} {:>9} {:>9}", "", "requests/s", "a core", "p50", "p99");
    let counts = std::env::var("LOOKBACK_BENCH_SEGMENTS");
    for count in counts.as_deref().unwrap_or("1000000,10000000").split(',') {
        on_embedded(count.parse().expect("LOOKBACK_BENCH_SEGMENTS is numbers"), seconds);
    }
    on_dynamodb(seconds);
}

/// What a while of requests came to.
struct Measured {
    latencies: Vec<Duration>,
    wall_s: f64,
    /// Of the server.
    cpu_s: f64,
}

impl Measured {
    fn print(mut self, what: &str) {
        self.latencies.sort_unstable();
        let count = self.latencies.len() as f64;
        let at = |share: f64| {
            let place = ((count * share) as usize).min(self.latencies.len() - 1);
            format!("{:.2} ms", self.latencies[place].as_secs_f64() * 1e3)
        };
        let (each_s, a_core) = (count / self.wall_s, count / self.cpu_s.max(0.01));
        println!("{what:46} {each_s:>10.0} {a_core:>10.0} {:>9} {:>9}", at(0.5), at(0.99));
    }
}

/// Asks one request after the other on [`DEVICES`] connections; `request` makes each from its
/// connection's and its own number.
fn measure(
    address: &str,
    pid: u32,
    seconds: f64,
    request: impl Fn(usize, usize) -> Vec<u8> + Sync,
) -> Measured {
    let (began, cpu) = (Instant::now(), cpu_seconds(pid));
    let ask = |caller: usize| {
        let mut socket = BufReader::new(TcpStream::connect(address).unwrap());
        socket.get_ref().set_nodelay(true).unwrap();
        let mut latencies = Vec::new();
        while began.elapsed().as_secs_f64() < seconds {
            let request = request(caller, latencies.len());
            let asked = Instant::now();
            socket.get_mut().write_all(&request).unwrap();
            answer(&mut socket);
            latencies.push(asked.elapsed());
        }
        latencies
    };
    let latencies = thread::scope(|scope| {
        let ask = &ask;
        let callers: Vec<_> = (0..DEVICES).map(|n| scope.spawn(move || ask(n))).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    Measured { latencies, wall_s: began.elapsed().as_secs_f64(), cpu_s: cpu_seconds(pid) - cpu }
}

/// Reads an answer, which has to be a good one, to its end.
fn answer(from: &mut BufReader<TcpStream>) -> Vec<u8> {
    let (mut status, mut line, mut len) = (String::new(), String::new(), 0);
    from.read_line(&mut status).unwrap();
    while from.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body).unwrap();
    assert!(status.contains(" 200 "), "{status}{}", String::from_utf8_lossy(&body));
    let is_faulty = body.windows(10).take(64).any(|part| part == b"\"errors\":[");
    assert!(!is_faulty, "{}", String::from_utf8_lossy(&body));
    body
}

/// The questions and announcements, on a catalog of so many segments, and bare handlers beside them.
fn on_embedded(segments: usize, seconds: f64) {
    let work = match std::env::var_os("LOOKBACK_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let work = work.expect("a folder to work in");
    let data = work.path().join("data");
    std::fs::write(
        work.path().join("lookback.toml"),
        ["user_points", "device_calls", "playback_sessions"]
            .map(|name| format!("rates.{name} = {{ per_second = 1000000, burst = 1000000000 }}\n"))
            .concat(),
    )
    .unwrap();
    let devices = Server::start(work.path()).register();
    let (streams, taken) = block_on(fill(&data, segments, &devices));
    println!("{segments} segments of {streams} streams, stored in {taken:.0?}");

    let server = Server::start(work.path());
    let now = now_ms();
    let viewer = server.token("viewer");
    let day = json!({"start": iso(now - DAY_MS), "end": iso(now)});
    let clips = "query($id: ID!, $range: TimeRangeInput!, $triggers: [RecordingTrigger!]) {
        node(id: $id) { ... on Stream { clips(range: $range, triggers: $triggers) {
          nodes { range { start end } mediaSeconds triggers growing } pageInfo { endCursor } } } } }";
    let session = "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
        ... on PlaybackSession { url range { start end } startOffsetSeconds codecs expiresAt }
        ... on MediaUnavailable { code message } } }";
    let announce = "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
        results { status warnings rejection { code } } advice { batchSize flushSeconds } } }";
    let of_stream = |caller: usize, triggers: Value| json!({"id": devices[caller].stream, "range": day, "triggers": triggers});
    let hour = |caller: usize| {
        let (start, end) = (iso(now - 3_700_000), iso(now - 100_000));
        json!({"input": {"streamId": devices[caller].stream, "start": start, "end": end}})
    };
    let batch = |count: usize, number: usize| {
        // From six days ago on, over and over.
        let step = SEGMENT_MS * count as i64;
        let start = now - 6 * DAY_MS + number as i64 * step % (5 * DAY_MS);
        let segments: Vec<Value> = (0..count as i64)
            .map(|place| {
                let start = start + place * SEGMENT_MS;
                let id = format!("bench-{count}-{number}-{place}");
                json!({"clientSegmentId": id, "start": iso(start), "end": iso(start + SEGMENT_MS)})
            })
            .collect();
        json!({"input": {"sentAt": iso(now_ms()), "segments": segments}})
    };
    let ask = |token: &str, query: &str, variables: Value| {
        graphql(&server.address, token, query, &variables)
    };
    type Ask<'a> = &'a (dyn Fn(usize, usize) -> Vec<u8> + Sync);
    let questions: [(&str, Ask); 5] = [
        ("clips of a day", &|caller, _| ask(&viewer, clips, of_stream(caller, Value::Null))),
        ("clips of a day, by trigger", &|caller, _| {
            ask(&viewer, clips, of_stream(caller, json!(["CONTINUOUS"])))
        }),
        ("playbackSession of an hour", &|caller, _| ask(&viewer, session, hour(caller))),
        ("ingestSegments of 1", &|caller, number| {
            ask(&devices[caller].token, announce, batch(1, number))
        }),
        ("ingestSegments of 15", &|caller, number| {
            ask(&devices[caller].token, announce, batch(15, number))
        }),
    ];
    for (what, request) in questions {
        let mut socket = BufReader::new(TcpStream::connect(&server.address).unwrap());
        socket.get_mut().write_all(&request(0, UNMEASURED)).unwrap();
        let body = answer(&mut socket);
        let text = String::from_utf8_lossy(&body);
        let is_hollow = ["\"nodes\":[]", "MediaUnavailable", "\"code\":", "REJECTED"];
        assert!(!is_hollow.iter().any(|word| text.contains(word)), "{what}: {text}");
        measure(&server.address, server.process.id(), seconds, request).print(what);
        let bare = Bare::start(work.path(), &body);
        let same = format!("  a bare handler of the same {} bytes", body.len());
        measure(&bare.address, bare.process.id(), seconds, request).print(&same);
    }
}

/// Fills the catalog of a server that is down, and the archive with a day of each device. Answers over
/// how many streams, and in which time.
async fn fill(data: &Path, segments: usize, devices: &[Device]) -> (usize, Duration) {
    let began = Instant::now();
    let storage = embedded::open(data).unwrap();
    let count = devices.len().max(segments.div_ceil(SEGMENTS_A_STREAM));
    let a_stream = segments.div_ceil(count);
    let now = now_ms();
    let known = devices.iter().map(|device| device.stream.parse().unwrap());
    let made_up = (1u128..).map(|number| StreamId(Ulid(number << 64 | number)));
    let streams: Vec<StreamId> = known.chain(made_up).take(count).collect();
    for streams in streams.chunks(STREAMS_AT_ONCE) {
        let catalog = &storage.catalog;
        join_all(streams.iter().map(|stream| async move {
            let all: Vec<usize> = (0..a_stream).collect();
            for numbers in all.chunks(SEGMENTS_A_WRITE) {
                let batch: Vec<_> = numbers.iter().map(|n| segment(*n, now)).collect();
                catalog.announce(*stream, &batch, at(now)).await.unwrap();
            }
        }))
        .await;
    }
    for stream in &streams[..devices.len()] {
        film(&storage, *stream, a_stream.min(SEGMENTS_A_DAY), now).await;
    }
    storage.catalog.close().await.unwrap();
    storage.archive().close().await.unwrap();
    (count, began.elapsed())
}

/// The one that ended so many segments ago.
fn segment(number: usize, now: i64) -> NewSegment {
    let end = now - 1_000 - number as i64 * SEGMENT_MS;
    NewSegment {
        client_segment_id: format!("filled-{number}"),
        range: TimeRange { start: at(end - SEGMENT_MS), end: at(end) },
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: Some(2_500_000),
    }
}

/// Keeps fragments of the last day, with a hole of a segment's length every hour.
async fn film(storage: &Storage, stream: StreamId, count: usize, now: i64) {
    let archive = storage.local().unwrap();
    let init = video().encode();
    let fragments: Vec<NewFragment> = (0..count)
        .rev()
        .filter(|number| number % 180 != 90)
        .map(|number| {
            let range = segment(number, now).range;
            let body = Bytes::from(number.to_le_bytes().to_vec());
            let track = TrackSpan {
                init: InitId(1),
                is_video: true,
                key: true,
                decode_time: range.start.as_millis() as u64 * 90,
                duration: SEGMENT_MS as u64 * 90,
                timescale: 90_000,
                offset: 0,
                len: body.len() as u32,
            };
            NewFragment {
                stream,
                number: archive.next_number(stream, range.end),
                start: range.start,
                duration_ms: SEGMENT_MS as u32,
                capture_start: range.start,
                arrived_at: range.end,
                payload_hash: (number as u128).to_be_bytes(),
                tracks: [track].into_iter().collect(),
                inits: vec![(InitId(1), init.clone())],
                chunk_lens: vec![body.len() as u32],
                body: Payload::from(body),
                metadata: Bytes::new(),
            }
        })
        .collect();
    for fragments in fragments.chunks(FRAGMENTS_AT_ONCE) {
        for kept in join_all(fragments.iter().map(|one| archive.append(one.clone()))).await {
            kept.unwrap();
        }
    }
}

/// Baseline H.264 of 320 x 180 pixels, as x264 describes it.
fn video() -> TrackInit {
    const AVCC: &str =
        "0142c00cffe100196742c00cd901419f9f011000000300100000030320f142a48001000568cb83cb20";
    let hex = |n: usize| u8::from_str_radix(&AVCC[2 * n..2 * n + 2], 16).unwrap();
    let track = Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Video,
        name: None,
        codec_id: "V_MPEG4/ISO/AVC".into(),
        codec_private: (0..AVCC.len() / 2).map(hex).collect::<Vec<u8>>().into(),
        default_duration_ns: Some(40_000_000),
        width: 320,
        height: 180,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    TrackInit::new(&track).unwrap()
}

struct Device {
    stream: String,
    token: String,
}

/// The binary that serves what lies in a folder's `data`; killed when it is dropped.
struct Server {
    process: Child,
    address: String,
    data: PathBuf,
}

impl Server {
    fn start(work: &Path) -> Self {
        let data = work.join("data");
        let mut process = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(work.join("lookback.toml"))
            .arg("--data-dir")
            .arg(&data)
            .env("LOOKBACK_LOG_FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it is ready");
        Self { process, address: address.to_owned(), data }
    }

    fn token(&self, role: &str) -> String {
        let mut command = Command::new(binary());
        command.args(["token", "--role", role, "--ttl", "12h", "--data-dir"]).arg(&self.data);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn register(&self) -> Vec<Device> {
        let manager = self.token("manager");
        let query = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
            device { streams { id } } credential { token } } }";
        let one = |number: usize| {
            let name = format!("bench-{number}");
            let input = json!({"externalId": name, "name": name, "timeZone": "UTC"});
            let request = graphql(&self.address, &manager, query, &json!({"input": input}));
            let mut socket = BufReader::new(TcpStream::connect(&self.address).unwrap());
            socket.get_mut().write_all(&request).unwrap();
            let answer: Value = serde_json::from_slice(&answer(&mut socket)).unwrap();
            let made = &answer["data"]["registerDevice"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            Device {
                stream: text(&made["device"]["streams"][0]["id"]),
                token: text(&made["credential"]["token"]),
            }
        };
        (0..DEVICES).map(one).collect()
    }
}

impl Drop for Server {
    /// Asks it to end, so that all that it was told is on disk.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// A request of `POST /graphql`.
fn graphql(address: &str, token: &str, query: &str, variables: &Value) -> Vec<u8> {
    let body = json!({"query": query, "variables": variables}).to_string();
    format!(
        "POST /graphql HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A server whose one handler reads the body and answers the same bytes every time.
struct Bare {
    process: Child,
    address: String,
}

impl Bare {
    fn start(work: &Path, body: &[u8]) -> Self {
        let file = work.join("bare");
        std::fs::write(&file, body).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, "bare")
            .env("LOOKBACK_BENCH_BODY", file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn answer_bare() {
    let file = std::env::var_os("LOOKBACK_BENCH_BODY").unwrap();
    let body = Bytes::from(std::fs::read(file).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{}", listener.local_addr().unwrap());
    let serving = move || {
        let body = body.clone();
        let handler = web::post().to(move |_asked: Bytes| {
            let body = body.clone();
            async move { HttpResponse::Ok().content_type("application/json").body(body) }
        });
        App::new().app_data(web::PayloadConfig::new(1 << 20)).route("/graphql", handler)
    };
    let server = HttpServer::new(serving).listen(listener).unwrap().disable_signals();
    actix_web::rt::System::new().block_on(server.run()).unwrap();
}

/// One call after the other of what stores announcements in DynamoDB, on one server of moto's.
fn on_dynamodb(seconds: f64) {
    let python = target().join("moto/bin/python");
    let Some(moto) = Moto::start() else {
        println!("skipped: moto's DynamoDB does not start; api/tests/moto/run says why");
        return;
    };
    println!("on moto's DynamoDB, one call after the other; CPU is the caller's");
    for count in [1, 15] {
        let seed = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/seed_handler.py"))
            .args([&moto.url, &count.to_string(), &seconds.to_string()])
            .output()
            .unwrap();
        print_called(&seed, &format!("put_item by put_item, {count} segments a call"));
        let ours = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, "dynamodb")
            .env("LOOKBACK_BENCH_ENDPOINT", &moto.url)
            .env("LOOKBACK_BENCH_BATCH", count.to_string())
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .output()
            .unwrap();
        print_called(&ours, &format!("our catalog in DynamoDB, {count} segments a call"));
    }
}

/// Prints what a process said that it measured.
fn print_called(output: &std::process::Output, what: &str) {
    let Ok(said) = serde_json::from_slice::<Value>(&output.stdout) else {
        println!("{what}: skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let latencies = said["latencies_ms"].as_array().unwrap().iter();
    Measured {
        latencies: latencies
            .map(|ms| Duration::from_secs_f64(ms.as_f64().unwrap() / 1e3))
            .collect(),
        wall_s: said["wall_s"].as_f64().unwrap(),
        cpu_s: said["cpu_s"].as_f64().unwrap(),
    }
    .print(what);
}

fn announce_to_dynamodb(seconds: f64) {
    let variable = |name: &str| std::env::var(name).unwrap();
    let count: usize = variable("LOOKBACK_BENCH_BATCH").parse().unwrap();
    let options = AwsOptions {
        region: Some("us-east-1".into()),
        dynamodb_endpoint_url: Some(variable("LOOKBACK_BENCH_ENDPOINT")),
        ..AwsOptions::default()
    };
    let latencies = block_on(async {
        let catalog = DynamoCatalog::new(&options, &format!("bench-{count}-")).await;
        catalog.create_tables().await.unwrap();
        let stream = StreamId(Ulid(1));
        let now = now_ms();
        let mut latencies: Vec<f64> = Vec::new();
        let began = Instant::now();
        while began.elapsed().as_secs_f64() < seconds {
            // The newest has the smallest number.
            let first = SEGMENTS_A_STREAM - latencies.len() * count % SEGMENTS_A_STREAM;
            let batch: Vec<_> = (0..count).rev().map(|place| segment(first + place, now)).collect();
            let asked = Instant::now();
            catalog.announce(stream, &batch, at(now)).await.unwrap();
            latencies.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        latencies
    });
    let wall_s = latencies.iter().sum::<f64>() / 1e3;
    let cpu_s = cpu_seconds(std::process::id());
    println!("{}", json!({"latencies_ms": latencies, "wall_s": wall_s, "cpu_s": cpu_s}));
}

struct Moto {
    process: Child,
    url: String,
}

impl Moto {
    /// None where it does not come up: it installs itself, which needs Python and its packages.
    fn start() -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let process = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moto/run"))
            .args(["127.0.0.1", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut moto = Self { process, url: format!("http://{address}") };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if moto.process.try_wait().unwrap().is_some() || began.elapsed().as_secs() > 300 {
                return None;
            }
            thread::sleep(Duration::from_millis(100));
        }
        Some(moto)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// User and system time of a process so far; Linux counts in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn binary() -> PathBuf {
    std::env::var_os("LOOKBACK_BENCH_BINARY")
        .map_or_else(|| target().join("release/lookback"), PathBuf::from)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn iso(ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
