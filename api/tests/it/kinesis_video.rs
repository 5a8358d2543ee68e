//! The archive in Kinesis Video Streams, and playback through it: our own server in Amazon's place,
//! and the real SDK between the two.

use crate::camera::{self, Registered, Upload};
use crate::footage::{an_hour_ago, connection, persist, rfc3339};
use crate::front::{Front, Refusal};
use crate::media::documents;
use crate::recording::packets;
use crate::sdk::{admin_keys, control_client};
use crate::server::Server;
use aws_config::SdkConfig;
use aws_sdk_kinesisvideo::config::retry::RetryConfig;
use aws_sdk_kinesisvideo::config::{
    BehaviorVersion, Credentials, Region, SharedCredentialsProvider,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::TryStreamExt;
use lookback_api::access::{Principal, Subject};
use lookback_api::account::Role;
use lookback_api::arriving::Arriving;
use lookback_api::clock::Clock;
use lookback_api::device::{CredentialKind, Device, DeviceCredential, DeviceState, Stream};
use lookback_api::feed::{Change, Feed, Kind, Scope};
use lookback_api::id::{CredentialId, DeviceId, StreamId};
use lookback_api::ingest::reconcile::{Reconciled, Reconciler};
use lookback_api::playback::picture::Pictures;
use lookback_api::playback::{
    Address, Mode, Playback, Protocol, Session, SessionError, SessionRequest, UnavailableCode,
    remote,
};
use lookback_api::segment::{NewSegment, RecordingTrigger, TimeRange};
use lookback_api::storage::aws::AwsOptions;
use lookback_api::storage::aws::kinesis_video::{KinesisArchive, Refused};
use lookback_api::storage::{
    Archive, CreateError, ListBy, ListQuery, ListedFragment, Media, Registration, Storage,
    StorageError, embedded,
};
use lookback_wire::Timestamp;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms as i64)
}

/// The SDK as it would be set up on a machine in Amazon's place.
fn sdk(url: &str, (id, secret): &(String, String)) -> SdkConfig {
    let credentials = Credentials::new(id, secret, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(20)))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

/// The archive of a server that is reached at `url`.
async fn archive_at(url: &str, server: &Server) -> KinesisArchive {
    let options = AwsOptions { region: Some("eu-central-1".into()), ..AwsOptions::default() };
    let sdk = sdk(url, &admin_keys(server));
    KinesisArchive::with(sdk, &options, Arc::new(Clock::System)).await.unwrap()
}

/// A stream as this service knows it, whose media stream has that name over there.
fn stream_named(media_stream_name: &str) -> Stream {
    let now = Clock::System.now();
    Stream {
        id: StreamId::new(now),
        device: DeviceId::new(now),
        account: lookback_api::id::AccountId::new(now),
        name: "main".into(),
        position: 0,
        media_stream_name: media_stream_name.into(),
        created_at: now,
    }
}

#[tokio::test]
async fn video_streams_are_prepared_again_and_again() {
    let server = Server::start();
    let archive = archive_at(&server.url(), &server).await;
    let control = control_client(&server, &admin_keys(&server));
    let hours = async |name: &str| {
        let described = control.describe_stream().stream_name(name).send().await.unwrap();
        described.stream_info().unwrap().data_retention_in_hours().unwrap()
    };
    let stream = stream_named("front-main");
    for keep_hours in [24, 24, 48, 12] {
        archive.prepare(&stream, keep_hours).await.unwrap();
        assert_eq!(hours("front-main").await, keep_hours as i32);
    }
    let tags = control.list_tags_for_stream().stream_name("front-main").send().await.unwrap();
    let tags = tags.tags().unwrap().clone();
    assert_eq!(tags["lookback:stream"], stream.id.to_string());
    assert_eq!(tags["lookback:device"], stream.device.to_string());
    assert_eq!(tags["lookback:account"], stream.account.to_string());

    // A maker's own is adopted, and another stream's is left alone.
    control.create_stream().stream_name("own").send().await.unwrap();
    archive.prepare(&stream_named("own"), 24).await.unwrap();
    assert_eq!(hours("own").await, 24);
    let taken = archive.prepare(&stream_named("front-main"), 24).await;
    assert!(matches!(taken, Err(CreateError::Taken { field: "mediaStreamName" })), "{taken:?}");
    assert_eq!(hours("front-main").await, 12);
}

/// All that an archive lists, page by page.
async fn all(
    archive: &dyn Archive,
    stream: &Stream,
    by: ListBy,
    range: TimeRange,
    limit: usize,
) -> Vec<ListedFragment> {
    let mut all = Vec::new();
    let mut query = ListQuery { by, range, after: None, limit };
    loop {
        let page = archive.list(stream, &query).await.unwrap();
        assert!(page.fragments.len() <= limit);
        all.extend(page.fragments);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    all.sort_by_key(|fragment| (fragment.start, fragment.id.clone()));
    all
}

/// What every archive promises of a stream that has fragments of 800 ms from `start_ms` on.
async fn check_lists(archive: &dyn Archive, stream: &Stream, start_ms: u64, count: u64) {
    let range = |from_ms: u64, to_ms: u64| TimeRange { start: at(from_ms), end: at(to_ms) };
    let ever = range(start_ms - 60_000, start_ms + 24 * 3_600_000);
    let whole = all(archive, stream, ListBy::Start, ever, 1_000).await;
    let starts: Vec<_> = whole.iter().map(|fragment| fragment.start).collect();
    let expected: Vec<_> = (0..count).map(|n| at(start_ms + n * 800)).collect();
    assert_eq!(starts, expected);
    assert!(whole.iter().all(|fragment| fragment.duration_ms == 800 && fragment.bytes > 40_000));
    for limit in [1, 3] {
        for by in [ListBy::Start, ListBy::Arrival] {
            assert_eq!(all(archive, stream, by, ever, limit).await, whole, "{by:?} by {limit}");
        }
    }
    // By when they begin: neither what reaches into a range, nor what begins as it ends.
    let part = range(start_ms + 1, start_ms + 2_400);
    assert_eq!(all(archive, stream, ListBy::Start, part, 10).await, whole[1..3]);
    let instant = range(start_ms + 800, start_ms + 801);
    assert_eq!(all(archive, stream, ListBy::Start, instant, 10).await, whole[1..2]);
    let unknown = stream_named("no-such-stream");
    assert_eq!(all(archive, &unknown, ListBy::Start, ever, 10).await, []);
}

#[tokio::test]
async fn both_archives_list_alike_and_hand_out_what_was_sent() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = an_hour_ago();
    connection(server.address, &camera, |upload| {
        (0..7).try_for_each(|n| persist(upload, start_ms + n * 800, n))
    })
    .unwrap();
    let archive = archive_at(&server.url(), &server).await;
    let mut stream = stream_named(&camera.media_stream);
    check_lists(&archive, &stream, start_ms, 7).await;

    let ever = TimeRange { start: at(start_ms), end: at(start_ms + 60_000) };
    let listed = all(&archive, &stream, ListBy::Start, ever, 10).await;
    for (seed, fragment) in (0..).zip(&listed) {
        let read = archive.read(&stream, std::slice::from_ref(&fragment.id)).await.unwrap();
        let read = read.try_collect::<Vec<Bytes>>().await.unwrap().concat();
        let frames = documents(&read).into_iter().flat_map(|document| document.frames);
        let frames: Vec<Bytes> = frames.map(|frame| frame.payload.to_bytes()).collect();
        assert_eq!(frames, camera::frames(seed, 20, 2_000));
    }

    // The same fragments, as the embedded archive tells of them.
    stream.id = camera.stream.parse().unwrap();
    let data_dir = server.kill();
    let storage = embedded::open(data_dir.path()).unwrap();
    check_lists(storage.archive(), &stream, start_ms, 7).await;
    assert_eq!(all(storage.archive(), &stream, ListBy::Start, ever, 10).await, listed);
    let prepared = storage.archive().prepare(&stream, 24).await;
    assert!(prepared.is_ok(), "{prepared:?}");
}

/// A service whose media lies in Kinesis Video Streams.
struct Service {
    playback: Playback,
    storage: Storage,
    stream: Stream,
    caller: Principal,
    _dir: TempDir,
}

impl Service {
    /// That knows one camera of the server over there.
    async fn of(server: &Server, camera: &Registered, max_session_s: u32) -> Self {
        Self::reaching(&server.url(), server, camera, max_session_s).await
    }

    /// The same that reaches the server at `url`.
    async fn reaching(url: &str, server: &Server, camera: &Registered, max_session_s: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let catalog = embedded::open(dir.path()).unwrap().catalog;
        let now = Clock::System.now();
        let account = catalog.ensure_account("default", now).await.unwrap();
        let plan = catalog.plans(account.id).await.unwrap().remove(0);
        let mut stream = stream_named(&camera.media_stream);
        stream.account = account.id;
        let device = Device {
            id: stream.device,
            account: account.id,
            external_id: "cam".into(),
            name: "Door".into(),
            model: None,
            firmware_version: None,
            state: DeviceState::Active,
            time_zone: "UTC".into(),
            plan: plan.id,
            created_at: now,
            last_seen_at: None,
            clock_skew_ms: None,
        };
        let credential = DeviceCredential {
            id: CredentialId::new(now),
            account: account.id,
            device: device.id,
            kind: CredentialKind::Token,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        let registration =
            Registration { device, streams: vec![stream.clone()], credential, idempotency: None };
        catalog.register_device(registration, now).await.unwrap();
        let storage =
            Storage { catalog, media: Media::Remote(Arc::new(archive_at(url, server).await)) };
        let pictures = Pictures::open(&dir.path().join("pictures"), 1 << 20, 600).unwrap();
        let playback = Playback::new(
            storage.clone(),
            Arc::new(Arriving::default()),
            Arc::new(Clock::System),
            &[7; 32],
            max_session_s,
            pictures,
        );
        let caller = Principal {
            subject: Subject::Service("test".into()),
            account: account.id,
            role: Role::Admin,
            shares: Vec::new(),
            expires_at: now.plus_millis(3_600_000),
        };
        Self { playback, storage, stream, caller, _dir: dir }
    }

    async fn session(&self, protocol: Protocol, mode: Mode) -> Result<Session, SessionError> {
        let request =
            SessionRequest { mode, protocol, expires_in_s: 3_600, file_name: Some("a".into()) };
        self.playback.session(&self.caller, &self.stream, request).await
    }

    /// A file of one of our own sessions.
    async fn file(&self, token: &str, name: &str) -> Bytes {
        let token = self.playback.open(token).await.unwrap();
        match self.playback.remote_hls(&token, name).await.unwrap().unwrap() {
            remote::File::Playlist(text) => text.into(),
            remote::File::Init(bytes)
            | remote::File::Segment(bytes)
            | remote::File::TransportStream(bytes) => bytes,
        }
    }

    /// Announces recordings one after the other, by their codecs and width; the second is said to begin
    /// a little late.
    async fn announce(&self, start_ms: u64, recordings: [(&str, u32); 2]) {
        let segment = |(n, (codecs, width)): (u64, (&str, u32))| NewSegment {
            client_segment_id: n.to_string(),
            range: TimeRange {
                start: at(start_ms + n * (RECORDING_MS + 5)),
                end: at(start_ms + (n + 1) * RECORDING_MS + 5),
            },
            trigger: RecordingTrigger::Continuous,
            codecs: Some(codecs.into()),
            width: Some(width),
            height: Some(width / 16 * 9),
            size_bytes: None,
        };
        let told: Vec<NewSegment> = (0..).zip(recordings).map(segment).collect();
        let catalog = &self.storage.catalog;
        catalog.announce(self.stream.id, &told, Clock::System.now()).await.unwrap();
    }

    async fn text(&self, token: &str, name: &str) -> String {
        String::from_utf8(self.file(token, name).await.to_vec()).unwrap()
    }

    /// What a playlist lists, joined up to each of its breaks.
    async fn parts(&self, token: &str, playlist: &str) -> Vec<Vec<u8>> {
        let mut parts = vec![Vec::new()];
        for line in playlist.lines() {
            let map = line.strip_prefix("#EXT-X-MAP:URI=\"");
            let name = map.map(|uri| uri.trim_end_matches('"'));
            if line == "#EXT-X-DISCONTINUITY" {
                parts.push(Vec::new());
            }
            if let Some(name) = name.or(Some(line).filter(|line| !line.starts_with('#'))) {
                parts.last_mut().unwrap().extend(self.file(token, name).await);
            }
        }
        parts
    }

    async fn download(&self, session: &Session) -> Bytes {
        let token = self.playback.open(&token_of(session)).await.unwrap();
        let download = self.playback.download(&token).await.unwrap().unwrap();
        let bytes: Vec<Bytes> = download.bytes.try_collect().await.unwrap();
        let bytes = bytes.concat();
        assert!(download.len.is_none_or(|len| len == bytes.len() as u64));
        bytes.into()
    }
}

/// The token of a session of ours.
fn token_of(session: &Session) -> String {
    let Address::Here(path) = &session.address else { panic!("{session:?} is elsewhere") };
    path.split('/').nth(3).unwrap().to_owned()
}

fn range(from_ms: u64, to_ms: u64) -> Mode {
    Mode::OnDemand(TimeRange { start: at(from_ms), end: at(to_ms) })
}

/// Why there is no session, and what could be asked for instead.
fn why(refused: Result<Session, SessionError>) -> (UnavailableCode, Option<TimeRange>) {
    match refused {
        Err(SessionError::Unavailable(unavailable)) => (unavailable.code, unavailable.nearest),
        other => panic!("{other:?}"),
    }
}

/// Long enough for ten fragments.
const RECORDING_MS: u64 = 20_000;
const H264: &[&str] = &["-c:v", "libx264", "-bf", "2", "-c:a", "aac"];
const H265: &[&str] = &["-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "aac"];

/// Recordings of 20 s of pictures and sound, one right after the other and up to now, over there under
/// a camera's name; their files, and when the first begins.
fn recorded(
    server: &Server,
    folder: &TempDir,
    recordings: &[(&str, &[&str])],
) -> (Registered, Vec<String>, u64) {
    let mut files = Vec::new();
    let begin_ms = an_hour_ago() + 3_600_000 - recordings.len() as u64 * RECORDING_MS;
    for ((size, codecs), n) in recordings.iter().zip(0..) {
        let file = folder.path().join(format!("{n}.mp4"));
        camera::encoded(&file, size, codecs);
        let start = rfc3339(begin_ms + n * RECORDING_MS);
        camera::stream(server, &file, "cam", &["--start", &start]);
        files.push(file.display().to_string());
    }
    let viewer = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let query = serde_json::json!({
        "query": "{ device(ref: {externalId: \"cam\"}) { id stream { id mediaStreamName earliest } } }",
    });
    let found = server.post_json("/graphql", &[("authorization", &viewer)], &query).json();
    let device = &found["data"]["device"];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let earliest = chrono::DateTime::parse_from_rfc3339(&text(&device["stream"]["earliest"]));
    let camera = Registered {
        device: text(&device["id"]),
        stream: text(&device["stream"]["id"]),
        media_stream: text(&device["stream"]["mediaStreamName"]),
        token: String::new(),
    };
    let start_ms = earliest.unwrap().timestamp_millis() as u64;
    (camera, files, start_ms)
}

/// How many packets of each kind there are.
fn counts(input: &str) -> Vec<(String, usize)> {
    packets(input).into_iter().map(|(kind, packets)| (kind, packets.len())).collect()
}

/// Sizes of pictures as they follow one another, and how many there are of each: as ffmpeg decodes
/// them, which it does without complaint.
fn decoded(file: &Path) -> Vec<(String, usize)> {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-of", "csv=p=0:s=x"])
        .args(["-show_entries", "frame=width,height"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&probed.stderr), "");
    let mut runs: Vec<(String, usize)> = Vec::new();
    // What else is told of the first picture leaves separators behind.
    let told = String::from_utf8(probed.stdout).unwrap();
    for size in told.lines().map(|line| line.trim_matches('x')).filter(|size| !size.is_empty()) {
        match runs.last_mut() {
            Some((last, count)) if last == size => *count += 1,
            _ => runs.push((size.to_owned(), 1)),
        }
    }
    runs
}

#[tokio::test]
async fn footage_whose_size_changes_plays_as_one() {
    let server = Server::start();
    let work = TempDir::new().unwrap();
    let recordings = [("640x360", H264), ("320x180", H264)];
    let (camera, files, start_ms) = recorded(&server, &work, &recordings);
    let whole = range(start_ms, start_ms + 2 * RECORDING_MS);
    let both = [("640x360".to_owned(), 500), ("320x180".to_owned(), 500)];

    // Kinesis's playlists follow such a change; no manifest or file of its does.
    let service = Service::of(&server, &camera, 43_200).await;
    service
        .announce(start_ms, [("avc1.64001e,mp4a.40.2", 640), ("avc1.64000d,mp4a.40.2", 320)])
        .await;
    let change = at(start_ms + RECORDING_MS);
    let refused = service.session(Protocol::Dash, whole).await;
    let until_change = Some(TimeRange { start: at(start_ms), end: change });
    assert_eq!(why(refused), (UnavailableCode::MixedCodecs, until_change));
    // A moment of the one that was announced before it is none of its pictures.
    let second = range(start_ms + RECORDING_MS, start_ms + 2 * RECORDING_MS);
    let session = service.session(Protocol::Dash, second).await.unwrap();
    assert!(matches!(session.address, Address::Elsewhere(_)), "{session:?}");
    let session = service.session(Protocol::Hls, whole).await.unwrap();
    assert!(matches!(session.address, Address::Elsewhere(_)), "{session:?}");
    let session = service.session(Protocol::Mp4, whole).await.unwrap();
    let codecs = session.codecs.clone().unwrap();
    assert_eq!((codecs.matches("avc1").count(), codecs.matches("mp4a").count()), (2, 1));
    let file = work.path().join("both.mp4");
    std::fs::write(&file, service.download(&session).await).unwrap();
    assert_eq!(decoded(&file), both);
    let sound = |file: &str| packets(file).remove("a").unwrap().len();
    let sent: usize = files.iter().map(|file| sound(file)).sum();
    assert_eq!(sound(&file.display().to_string()), sent);

    let service = Service::of(&server, &camera, 200).await;
    for (protocol, playlist, ending) in
        [(Protocol::Hls, "video.m3u8", "mp4"), (Protocol::HlsTs, "ts.m3u8", "ts")]
    {
        let session = service.session(protocol, whole).await.unwrap();
        assert_eq!(session.codecs.as_ref(), Some(&codecs));
        let token = token_of(&session);
        let main = service.text(&token, "main.m3u8").await;
        assert!(main.contains("RESOLUTION=640x360") && main.contains(&codecs), "{main}");
        let listed = service.text(&token, playlist).await;
        let parts = service.parts(&token, &listed).await;
        assert_eq!(parts.len(), 2, "{listed}");
        for (part, pictures) in parts.iter().zip(&both) {
            let file = work.path().join(format!("part.{ending}"));
            std::fs::write(&file, part).unwrap();
            assert_eq!(decoded(&file), std::slice::from_ref(pictures), "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn footage_whose_codec_changes_plays_by_our_playlist() {
    let server = Server::start();
    let work = TempDir::new().unwrap();
    let (camera, _, start_ms) = recorded(&server, &work, &[("640x360", H264), ("640x360", H265)]);
    let change_ms = start_ms + RECORDING_MS;
    let whole = range(start_ms, change_ms + RECORDING_MS);
    let service = Service::of(&server, &camera, 43_200).await;
    let refused = async |protocol| why(service.session(protocol, whole).await);
    let until_change = Some(TimeRange { start: at(start_ms), end: at(change_ms) });
    assert_eq!(refused(Protocol::Mp4).await, (UnavailableCode::MixedCodecs, until_change));
    let first = service.session(Protocol::Mp4, range(start_ms, change_ms)).await.unwrap();
    let file = work.path().join("first.mp4");
    std::fs::write(&file, service.download(&first).await).unwrap();
    assert_eq!(decoded(&file), [("640x360".to_owned(), 500)]);

    // That Kinesis would lose the second half is known by what was announced.
    let told = [("avc1.64001f,mp4a.40.2", 640), ("hvc1.1.6.L63.90,mp4a.40.2", 640)];
    service.announce(start_ms, told).await;
    let session = service.session(Protocol::Hls, whole).await.unwrap();
    let codecs = session.codecs.clone().unwrap();
    assert!(codecs.contains("avc1.") && codecs.contains("hvc1."), "{codecs}");
    let token = token_of(&session);
    assert!(service.text(&token, "main.m3u8").await.contains(&codecs));
    let listed = service.text(&token, "video.m3u8").await;
    let parts = service.parts(&token, &listed).await;
    assert_eq!(parts.len(), 2, "{listed}");
    for part in &parts {
        std::fs::write(&file, part).unwrap();
        assert_eq!(decoded(&file), [("640x360".to_owned(), 500)]);
    }
    assert_eq!(refused(Protocol::Dash).await, (UnavailableCode::MixedCodecs, until_change));
    let not_carried = (UnavailableCode::CodecNotSupported, until_change);
    assert_eq!(refused(Protocol::HlsTs).await, not_carried);
    let first = service.session(Protocol::Hls, range(start_ms, change_ms)).await.unwrap();
    assert!(matches!(first.address, Address::Elsewhere(_)), "{first:?}");
}

#[tokio::test]
async fn more_fragments_than_a_playlist_of_kinesis_has_are_in_ours() {
    const FRAGMENTS: u64 = 5_001;
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = an_hour_ago();
    connection(server.address, &camera, |upload: &mut Upload| {
        for n in 0..FRAGMENTS {
            upload.send(&camera::fragment(start_ms + n * 80, &camera::frames(n, 2, 10)))?;
        }
        upload.send(&camera::end_of_fragment())?;
        upload.persisted(start_ms + (FRAGMENTS - 1) * 80)
    })
    .unwrap();
    let service = Service::of(&server, &camera, 43_200).await;
    let until_ms = start_ms + FRAGMENTS * 80;
    let most = service.session(Protocol::Hls, range(start_ms, until_ms - 80)).await.unwrap();
    assert!(matches!(most.address, Address::Elsewhere(_)), "{most:?}");
    let session = service.session(Protocol::Hls, range(start_ms, until_ms)).await.unwrap();
    let token = token_of(&session);
    let listed = service.text(&token, "video.m3u8").await;
    let names: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(names.len(), FRAGMENTS as usize);
    let last = service.file(&token, names[names.len() - 1]).await;
    let frame = &camera::frames(FRAGMENTS - 1, 2, 10)[0];
    assert!(last.windows(frame.len()).any(|window| window == &frame[..]));
    let refused = service.session(Protocol::Dash, range(start_ms, until_ms)).await;
    let nearest = TimeRange { start: at(start_ms), end: at(until_ms - 80) };
    assert_eq!(why(refused), (UnavailableCode::RangeTooLong, Some(nearest)));
}

#[tokio::test]
async fn footage_plays_there_and_here() {
    let server = Server::start();
    let work = TempDir::new().unwrap();
    let (camera, files, start_ms) = recorded(&server, &work, &[("640x360", H264)]);
    let sent = counts(&files[0]);
    let service = Service::of(&server, &camera, 43_200).await;
    let ten_s = range(start_ms + 5_000, start_ms + 9_000);

    // There: widened to whole fragments of 2 s, and said so.
    for (protocol, path) in [
        (Protocol::Hls, "/hls/v1/getHLSMasterPlaylist.m3u8"),
        (Protocol::HlsTs, "/hls/v1/getHLSMasterPlaylist.m3u8"),
        (Protocol::Dash, "/dash/v1/getDASHManifest.mpd"),
    ] {
        let session = service.session(protocol, ten_s).await.unwrap();
        let url = session.url("http://never");
        let place = url.strip_prefix(&server.url()).unwrap_or_else(|| panic!("{url}"));
        assert!(place.starts_with(path), "{url}");
        let manifest = server.get(place, &[]);
        assert_eq!(manifest.status, 200, "{manifest:?}");
        let played = session.range.unwrap();
        assert_eq!(played, TimeRange { start: at(start_ms + 4_000), end: at(start_ms + 10_000) });
        assert_eq!(session.start_offset_s, 1.0);
        assert_eq!(session.gaps, []);
        if protocol == Protocol::Hls {
            let pictures = packets(&url).remove("v").unwrap();
            assert_eq!(pictures.len(), 150, "3 fragments of 50 pictures");
        }
    }

    // A short file is made there, and cut nowhere.
    let session = service.session(Protocol::Mp4, range(start_ms, start_ms + 20_000)).await.unwrap();
    let clip = work.path().join("clip.mp4");
    std::fs::write(&clip, service.download(&session).await).unwrap();
    assert_eq!(counts(&clip.display().to_string()), sent);

    for (mode, expected) in [
        (range(start_ms - 7_200_000, start_ms - 3_600_000), UnavailableCode::NoMedia),
        (range(start_ms, start_ms + 25 * 3_600_000), UnavailableCode::RangeTooLong),
    ] {
        assert_eq!(why(service.session(Protocol::Hls, mode).await).0, expected, "{mode:?}");
    }
    // It has just arrived.
    let live = service.session(Protocol::Hls, Mode::Live).await.unwrap();
    assert!(matches!(live.address, Address::Elsewhere(_)) && live.range.is_none());
    let replay = service.session(Protocol::Hls, Mode::LiveReplay(at(start_ms + 1_000))).await;
    let replay = replay.unwrap();
    assert_eq!(replay.range.unwrap().start, at(start_ms));
    assert!(matches!(replay.address, Address::Elsewhere(_)));

    // Here: sessions shorter than any that Kinesis gives out, made of its fragments.
    let service = Service::of(&server, &camera, 200).await;
    for (protocol, playlist, ending) in
        [(Protocol::Hls, "video.m3u8", "mp4"), (Protocol::HlsTs, "ts.m3u8", "ts")]
    {
        let session = service.session(protocol, range(start_ms, start_ms + 20_000)).await.unwrap();
        assert_eq!(session.codecs.as_deref().map(|codecs| codecs.contains("mp4a")), Some(true));
        let token = token_of(&session);
        let listed = service.text(&token, playlist).await;
        let joined = work.path().join(format!("joined.{ending}"));
        let parts = service.parts(&token, &listed).await;
        assert_eq!(parts.len(), 1, "{listed}");
        std::fs::write(&joined, &parts[0]).unwrap();
        assert_eq!(counts(&joined.display().to_string()), sent, "{protocol:?}");
        assert_eq!(decoded(&joined), [("640x360".to_owned(), 500)]);
        let main = service.text(&token, "main.m3u8").await;
        assert!(main.contains("RESOLUTION=640x360") && main.contains("video.m3u8"), "{main}");
        // A token opens what begins in its span, and nothing else.
        let other = service.session(protocol, range(start_ms + 10_000, start_ms + 12_000)).await;
        let other = service.playback.open(&token_of(&other.unwrap())).await.unwrap();
        let first = listed.lines().find(|line| !line.starts_with('#')).unwrap();
        assert!(service.playback.remote_hls(&other, first).await.is_err());
    }

    // A picture, where footage was announced.
    let told = NewSegment {
        client_segment_id: "1".into(),
        range: TimeRange { start: at(start_ms), end: at(start_ms + 20_000) },
        trigger: RecordingTrigger::Continuous,
        codecs: None,
        width: None,
        height: None,
        size_bytes: None,
    };
    let Storage { catalog, .. } = &service.storage;
    catalog.announce(service.stream.id, &[told], Clock::System.now()).await.unwrap();
    let (caller, stream) = (&service.caller, &service.stream);
    let link = service.playback.snapshot(caller, stream, Some(at(start_ms + 30_000)), 320).await;
    let link = link.unwrap();
    assert_eq!((link.at, link.size), (at(start_ms + 19_999), None));
    let span = TimeRange { start: at(start_ms), end: at(start_ms + 20_000) };
    let links = service.playback.thumbnails(caller, stream, span, 4, 160).await.unwrap();
    let instants: Vec<_> = links.iter().map(|link| link.at).collect();
    assert_eq!(instants, [0, 5_000, 10_000, 15_000].map(|ms| at(start_ms + ms)));
    let mut path = links[1].path.split('/').skip(3);
    let token = service.playback.open(path.next().unwrap()).await.unwrap();
    let name = path.next().unwrap().parse().unwrap();
    let jpeg = service.playback.picture(&token, name).await.unwrap();
    assert!(jpeg.starts_with(&[0xFF, 0xD8, 0xFF]), "{} bytes", jpeg.len());
}

#[tokio::test]
async fn a_file_of_many_fragments_is_written_while_they_are_read() {
    const FRAGMENTS: u64 = 230;
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = an_hour_ago();
    connection(server.address, &camera, |upload: &mut Upload| {
        for n in 0..FRAGMENTS {
            // A minute's hole in the middle.
            let hole_ms = if n < FRAGMENTS / 2 { 0 } else { 60_000 };
            let at_ms = start_ms + n * 80 + hole_ms;
            upload.send(&camera::fragment(at_ms, &camera::frames(n, 2, 100)))?;
        }
        upload.send(&camera::end_of_fragment())?;
        upload.persisted(start_ms + (FRAGMENTS - 1) * 80 + 60_000).map(drop)
    })
    .unwrap();
    let service = Service::of(&server, &camera, 43_200).await;
    let whole = range(start_ms, start_ms + 3_600_000);
    let session = service.session(Protocol::Mp4, whole).await.unwrap();
    assert_eq!(session.gaps.len(), 1, "{:?}", session.gaps);
    assert!(session.codecs.is_some());
    let bytes = service.download(&session).await;
    let mut rest = &bytes[..];
    for n in 0..FRAGMENTS {
        for frame in camera::frames(n, 2, 100) {
            let place = rest.windows(frame.len()).position(|window| window == &frame[..]);
            rest = &rest[place.unwrap_or_else(|| panic!("fragment {n} is missing"))..];
        }
    }
    let file = TempDir::new().unwrap();
    let path = file.path().join("long.mp4");
    std::fs::write(&path, &bytes).unwrap();
    // No picture of it can be decoded.
    let told = Command::new("ffprobe")
        .args(["-v", "quiet", "-show_entries", "packet=dts_time", "-of", "csv=p=0"])
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let times: Vec<f64> = told.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert_eq!(times.len(), 2 * FRAGMENTS as usize);
    // The hole is closed, and the file begins with its first picture.
    let length_s = FRAGMENTS as f64 * 0.08 - 0.04;
    assert!(times[0].abs() < 0.005, "{}", times[0]);
    assert!((times[times.len() - 1] - length_s).abs() < 0.005, "{}", times[times.len() - 1]);
}

#[tokio::test]
async fn throttling_is_waited_out_and_then_said() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = an_hour_ago();
    connection(server.address, &camera, |upload| persist(upload, start_ms, 1)).unwrap();
    let stream = stream_named(&camera.media_stream);
    let query = ListQuery {
        by: ListBy::Start,
        range: TimeRange { start: at(start_ms), end: at(start_ms + 1) },
        after: None,
        limit: 10,
    };
    for (refusals, is_listed) in [(2, true), (99, false)] {
        // The media endpoint is the front, too: it is named after where it was asked for.
        let front = Front::start(&server).await;
        front.refuse("listFragments", 0..refusals, Refusal::Throttled);
        let archive = archive_at(&front.url, &server).await;
        let listed = archive.list(&stream, &query).await;
        match listed {
            Ok(page) => assert!(is_listed && page.fragments.len() == 1),
            Err(error) => {
                assert!(!is_listed, "{error}");
                assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
                assert!(error.to_string().contains("ListFragments"), "{error}");
            }
        }
        assert_eq!(front.seen("listFragments"), 3, "tries");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_not_empty() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let archive = archive_at(&server.url(), &server).await;
    let stream = stream_named(&camera.media_stream);
    let query = ListQuery {
        by: ListBy::Start,
        range: TimeRange { start: at(1), end: at(2) },
        after: None,
        limit: 10,
    };
    assert!(archive.list(&stream, &query).await.unwrap().fragments.is_empty());
    drop(server);
    let gone = archive.list(&stream, &query).await;
    assert!(matches!(gone, Err(StorageError::Unavailable(_))), "{gone:?}");
    let gone = archive.prepare(&stream, 24).await;
    assert!(matches!(gone, Err(CreateError::Storage(StorageError::Unavailable(_)))), "{gone:?}");
    let gone = archive.clip(&stream, query.range).await;
    assert!(matches!(gone, Err(Refused::Storage(StorageError::Unavailable(_)))));
}

#[tokio::test]
async fn what_nobody_announced_is_found_and_told_once() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let front = Front::start(&server).await;
    let service = Service::reaching(&front.url, &server, &camera, 43_200).await;
    // From the beginning of a slot of 20 s, and a fragment into the next one.
    let start_ms = an_hour_ago() / 20_000 * 20_000;
    connection(server.address, &camera, |upload| {
        (0..26).try_for_each(|n| persist(upload, start_ms + n * 800, n))
    })
    .unwrap();
    let feed = Arc::new(Feed::default());
    let mut told = feed.subscribe(Kind::Footage, 16, Arc::default());
    told.follow([Scope::Account(service.stream.account)].into());
    let clock = Arc::new(Clock::manual(Clock::System.now().plus_millis(11 * 60_000)));
    let reconciler = || Reconciler::new(service.storage.clone(), clock.clone(), feed.clone());
    let everything = TimeRange { start: at(start_ms - 60_000), end: at(start_ms + 60_000) };
    let announced = async || {
        let all = service.storage.announced(service.stream.id, everything, 100).await.unwrap();
        all.into_iter().map(|segment| segment.range).collect::<Vec<_>>()
    };

    let begun = reconciler();
    front.refuse("listFragments", 0..99, Refusal::NotAuthorized);
    let refused = begun.reconcile(&service.stream).await;
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    assert_eq!(announced().await, []);
    front.allow();
    let found = begun.reconcile(&service.stream).await.unwrap();
    assert_eq!(found, Reconciled { requests: 1, announced: 2 });
    // After a restart, or on another server.
    let again = reconciler().reconcile(&service.stream).await.unwrap();
    assert_eq!(again, Reconciled { requests: 1, announced: 0 });
    assert_eq!(front.seen("listFragments"), 2);
    let expected = [(0, 20_000), (20_000, 20_800)];
    let expected =
        expected.map(|(from, to)| TimeRange { start: at(start_ms + from), end: at(start_ms + to) });
    assert_eq!(announced().await, expected);
    let told = std::iter::from_fn(|| told.next().now_or_never());
    let told = told.map(|change| match &*change {
        Change::Footage { range, bytes, .. } => {
            assert!(bytes.is_some_and(|bytes| bytes > 40_000), "{bytes:?}");
            *range
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
