//! PutMedia over raw sockets: acknowledgements beside the body, refusals that end it, and uploads
//! as they must not be.

use crate::camera::{self, Registered, Upload};
use crate::server::{PATIENCE, Server};
use lookback_api::device::{DeviceChange, Turn};
use lookback_api::storage::{Catalog, embedded};
use lookback_wire::matroska::writer;
use lookback_wire::{Ack, Payload, Track, UploadHeader};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const FRAGMENT_MS: u64 = 800;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn header() -> Vec<u8> {
    writer::header(&camera::header()).to_vec()
}

/// A fragment of 20 frames; `at_ms` decides what they are, too.
fn fragment(at_ms: u64) -> Vec<u8> {
    camera::fragment(at_ms, &camera::frames(at_ms, 20, 500))
}

fn open(server: &Server, camera: &Registered) -> Upload {
    let upload = Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload
}

/// The rest of the answer.
fn acks(upload: &mut Upload) -> Vec<Ack<String>> {
    std::iter::from_fn(|| upload.ack().unwrap()).collect()
}

/// The catalog, beside the running server.
fn catalog(server: &Server) -> Arc<dyn Catalog> {
    embedded::open_catalog(server.data_dir()).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn suspend(server: &Server, camera: &Registered) {
    block_on(async {
        let catalog = catalog(server);
        let id = camera.device.parse().unwrap();
        let change = DeviceChange { turn: Some(Turn::Suspend), ..DeviceChange::default() };
        assert!(catalog.change_device(id, change).await.unwrap().is_some());
    });
}

#[test]
fn acknowledges_while_the_body_goes_on() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 10_000;
    let mut upload = open(&server, &camera);
    upload.send(&header()).unwrap();
    for n in 0..3 {
        let at_ms = start_ms + n * FRAGMENT_MS;
        upload.send(&fragment(at_ms)).unwrap();
        assert!(matches!(
            upload.ack().unwrap(),
            Some(Ack::Buffering { timecode, .. }) if timecode == at_ms
        ));
        // Its end is told; the next fragment is not waited for, nor the end of the body.
        upload.send(&camera::end_of_fragment()).unwrap();
        let received = upload.ack().unwrap();
        let persisted = upload.ack().unwrap();
        let (Some(Ack::Received { number: a, .. }), Some(Ack::Persisted { timecode, number: b })) =
            (received, persisted)
        else {
            panic!("not acknowledged in order");
        };
        assert_eq!((timecode, a), (at_ms, b));
    }
    upload.finish().unwrap();
    assert_eq!(upload.ack().unwrap(), None);
}

#[test]
fn continues_at_once_where_it_is_asked() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // As libcurl sends it: the host without its port.
    let head = format!(
        "POST /putMedia HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\nx-amzn-fragment-timecode-type: ABSOLUTE\r\n\
         x-amzn-stream-name: {}\r\nExpect: 100-continue\r\n\r\n",
        camera.token, camera.media_stream
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = BufReader::new(socket);
    let mut lines = (0..3).map(|_| {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        line
    });
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 100 Continue\r\n"));
    assert_eq!(lines.next().as_deref(), Some("\r\n"));
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_refusal_ends_an_endless_body() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let other = camera::register(&server, "other");
    let suspended = camera::register(&server, "suspended");
    suspend(&server, &suspended);
    let not_found = "ResourceNotFoundException";
    let absolute = "x-amzn-fragment-timecode-type: ABSOLUTE";
    let table = [
        (&camera.token, other.media_stream.as_str(), absolute, 404, not_found),
        (&camera.token, "nothing", absolute, 404, not_found),
        (&suspended.token, &suspended.media_stream, absolute, 401, "NotAuthorizedException"),
        (
            &String::from("made.up.token"),
            &camera.media_stream,
            absolute,
            401,
            "NotAuthorizedException",
        ),
        (&camera.token, &camera.media_stream, "x: y", 400, "InvalidArgumentException"),
        (&camera.token, "no/name", absolute, 400, "InvalidArgumentException"),
        (
            &camera.token,
            &camera.media_stream,
            "x-amzn-fragment-timecode-type: RELATIVE",
            400,
            "InvalidArgumentException",
        ),
    ];
    for (token, stream, header, status, kind) in table {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /putMedia HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             transfer-encoding: chunked\r\nx-amzn-stream-name: {stream}\r\n{header}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut reading = BufReader::new(socket.try_clone().unwrap());
        let sending = std::thread::spawn(move || {
            let chunk = [&b"10000\r\n"[..], &[0; 0x10000], b"\r\n"].concat();
            let begun = Instant::now();
            while socket.write_all(&chunk).is_ok() {
                assert!(begun.elapsed() < PATIENCE, "the server reads without end");
            }
        });
        let answer = crate::server::Answer::read(&mut reading, false);
        assert_eq!(answer.status, status, "{stream} {header}");
        assert_eq!(answer.header("x-amzn-errortype"), Some(kind));
        assert!(answer.json()["Message"].is_string());
        sending.join().unwrap();
    }
}

#[test]
fn sent_again_is_kept_once() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 10_000;
    let body = [header(), fragment(start_ms)].concat();
    // Two connections at once, and a third afterwards.
    let mut told = Vec::new();
    let mut uploads = vec![open(&server, &camera), open(&server, &camera)];
    for upload in &mut uploads {
        upload.send(&body).unwrap();
    }
    for upload in &mut uploads {
        upload.finish().unwrap();
        told.extend(acks(upload));
    }
    let mut third = open(&server, &camera);
    third.send(&body).unwrap();
    third.finish().unwrap();
    told.extend(acks(&mut third));
    let persisted: Vec<_> = told
        .into_iter()
        .filter_map(|ack| match ack {
            Ack::Persisted { number, .. } => Some(number),
            _ => None,
        })
        .collect();
    assert_eq!(persisted.len(), 3);
    assert!(persisted.iter().all(|number| *number == persisted[0]), "{persisted:?}");
}

#[test]
fn a_stream_takes_a_few_uploads_at_once() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let statuses: Vec<_> = (0..6)
        .map(|_| Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap())
        .collect();
    let refused = statuses.iter().filter(|upload| upload.status == 400).count();
    assert_eq!(refused, 2);
    drop(statuses);
    // Those that are gone are noticed.
    let begun = Instant::now();
    while Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap().status
        != 200
    {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bad_uploads_keep_what_came_before_and_name_what_is_wrong() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 3_600_000;
    let block = |track, key, len: usize| {
        let payload = Payload::from(vec![0; len]);
        [writer::simple_block(track, 0, key, &payload).to_vec(), payload.to_bytes().to_vec()]
            .concat()
    };
    let random: Vec<u8> =
        (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let half = |at_ms| {
        let whole = fragment(at_ms);
        whole[..whole.len() - 100].to_vec()
    };
    let huge =
        |at_ms| [writer::cluster(at_ms).to_vec(), block(1, true, 1 << 20).repeat(60)].concat();
    // What follows a good fragment, given where that ends, and the error's number.
    type Bad<'a> = &'a dyn Fn(u64) -> Vec<u8>;
    let cases: [(&str, Bad, u32); 7] = [
        ("truncated", &half, 4000),
        ("random bytes", &|_| random.clone(), 4006),
        ("60 MB", &huge, 4001),
        ("going back", &|at| fragment(at - 2 * FRAGMENT_MS), 4004),
        (
            "no key frame first",
            &|at| [writer::cluster(at).to_vec(), block(1, false, 50)].concat(),
            4006,
        ),
        ("unknown track", &|at| [writer::cluster(at).to_vec(), block(7, true, 50)].concat(), 4010),
        (
            "too long",
            &|at| {
                let frame = |ms: i16| {
                    let payload = Payload::from(vec![0; 50]);
                    [writer::simple_block(1, ms, ms == 0, &payload).to_vec(), vec![0; 50]].concat()
                };
                [writer::cluster(at).to_vec(), frame(0), frame(21_000)].concat()
            },
            4002,
        ),
    ];
    for (n, (name, bad, id)) in cases.into_iter().enumerate() {
        let at_ms = start_ms + n as u64 * 60_000;
        let mut upload = open(&server, &camera);
        let mut reading = upload.reading().unwrap();
        let good = [header(), fragment(at_ms), camera::end_of_fragment()].concat();
        let body = [good, bad(at_ms + FRAGMENT_MS)].concat();
        let sending = std::thread::spawn(move || {
            upload.send_cut(&body, |n| 1_000 + n * 7 % 60_000).unwrap();
            upload.finish().unwrap();
        });
        let acks = acks(&mut reading);
        sending.join().unwrap();
        assert!(
            acks.iter().any(|a| matches!(a, Ack::Persisted { timecode, .. } if *timecode == at_ms)),
            "{name}: {acks:?}"
        );
        let Some(Ack::Error { error, .. }) = acks.last() else { panic!("{name}: {acks:?}") };
        assert_eq!(error.number(), id, "{name}");
    }
    // Too many tracks are refused before there is anything to keep.
    let tracks =
        (1..=4).map(|number| Track { number, uid: number, ..camera::header().tracks[0].clone() });
    let mut upload = open(&server, &camera);
    let four = UploadHeader { tracks: tracks.collect(), ..camera::header() };
    upload.send(&writer::header(&four)).unwrap();
    let Some(Ack::Error { error, .. }) = upload.ack().unwrap() else { panic!("not refused") };
    assert_eq!(error.number(), 4012);
    upload.finish().unwrap();

    assert_eq!(server.get("/livez", &[]).status, 200);
    assert_eq!(crate::playback::starts(&server, &camera, start_ms, now_ms()).len(), 7);
}

#[test]
fn a_fragment_cut_short_by_a_disconnect_is_dropped() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 10_000;
    let mut upload = open(&server, &camera);
    let second = fragment(start_ms + FRAGMENT_MS);
    let body = [header(), fragment(start_ms), second[..second.len() / 2].to_vec()].concat();
    upload.send(&body).unwrap();
    upload.persisted(start_ms).unwrap();
    drop(upload);
    let mut again = open(&server, &camera);
    again.send(&[header(), second].concat()).unwrap();
    again.finish().unwrap();
    again.persisted(start_ms + FRAGMENT_MS).unwrap();
    let starts = crate::playback::starts(&server, &camera, start_ms, now_ms());
    assert_eq!(starts, [start_ms, start_ms + FRAGMENT_MS]);
}

#[test]
fn silence_is_answered_with_idle_and_a_clean_end() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let mut upload = open(&server, &camera);
    upload.send(&header()).unwrap();
    let begun = Instant::now();
    let acks = acks(&mut upload);
    assert!(!acks.is_empty() && acks.iter().all(|ack| *ack == Ack::Idle), "{acks:?}");
    assert!(begun.elapsed() > Duration::from_secs(29), "{:?}", begun.elapsed());
}

#[test]
fn a_suspended_device_ends_after_its_fragment() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let mut at_ms = now_ms() - 3_600_000;
    let mut upload = open(&server, &camera);
    upload.send(&header()).unwrap();
    upload.send(&fragment(at_ms)).unwrap();
    upload.send(&camera::end_of_fragment()).unwrap();
    upload.persisted(at_ms).unwrap();
    suspend(&server, &camera);
    let begun = Instant::now();
    let error = loop {
        at_ms += FRAGMENT_MS;
        // Once the ERROR is told, the body is read on and kept no more.
        upload.send(&[fragment(at_ms), camera::end_of_fragment()].concat()).unwrap();
        if let Err(error) = upload.persisted(at_ms) {
            break error;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "still uploading");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(error.to_string().contains("MaxConnectionDurationReached"), "{error}");
    upload.finish().unwrap();
    assert_eq!(upload.ack().unwrap(), None);
    let refused = Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(refused.status, 401);
}

#[test]
fn relative_times_outlive_a_reconnect_and_a_restart() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 60_000;
    // The header names the newest connection's start, the timecodes count from the first one's.
    let upload = |server: &Server, connected_ms: u64, timecodes: &[u64]| {
        let seconds = format!("{}.{:03}", connected_ms / 1_000, connected_ms % 1_000);
        let headers = [
            ("x-amzn-fragment-timecode-type", "RELATIVE"),
            ("x-amzn-producer-start-timestamp", seconds.as_str()),
        ];
        let (token, stream) = (&camera.token, &camera.media_stream);
        let mut upload = Upload::open(server.address, token, stream, &headers).unwrap();
        upload.send(&header()).unwrap();
        for &timecode in timecodes {
            upload.send(&[fragment(timecode), camera::end_of_fragment()].concat()).unwrap();
            upload.persisted(timecode).unwrap();
        }
        upload.finish().unwrap();
    };
    upload(&server, start_ms, &[0, 800]);
    upload(&server, start_ms + 3_638, &[800, 1_600]);
    let address = server.address;
    let server = Server::start_at(address, &[], server.kill());
    upload(&server, start_ms + 9_000, &[1_600, 2_400]);
    let starts = crate::playback::starts(&server, &camera, start_ms, now_ms());
    assert_eq!(starts, [0, 800, 1_600, 2_400].map(|timecode| start_ms + timecode));
}

#[test]
fn relative_times_stay_right_where_nothing_was_kept_of_the_first_connection() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 60_000;
    let open = |connected_ms: u64| {
        let seconds = format!("{}.{:03}", connected_ms / 1_000, connected_ms % 1_000);
        let headers = [
            ("x-amzn-fragment-timecode-type", "RELATIVE"),
            ("x-amzn-producer-start-timestamp", seconds.as_str()),
        ];
        let (token, stream) = (&camera.token, &camera.media_stream);
        Upload::open(server.address, token, stream, &headers).unwrap()
    };
    let mut first = open(start_ms);
    first.send(&[header(), fragment(0)].concat()).unwrap();
    assert!(matches!(first.ack().unwrap(), Some(Ack::Buffering { .. })));
    drop(first);
    // It comes again from its first frame, counted from the first connection's start.
    let mut second = open(start_ms + 1_500);
    second.send(&[header(), fragment(0), camera::end_of_fragment()].concat()).unwrap();
    second.persisted(0).unwrap();
    assert_eq!(crate::playback::starts(&server, &camera, start_ms - 1, now_ms()), [start_ms]);
}

/// A small disk of its own, for as long as it lives. Mounting takes root.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let disk = Self(TempDir::new().unwrap());
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(disk.0.path())
            .status();
        assert!(mounted.unwrap().success(), "a small disk has to be mounted: run as root");
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_uploads_and_loses_nothing() {
    let disk = SmallDisk::new(32);
    let server = Server::start_with(&[], TempDir::new_in(disk.0.path()).unwrap());
    let camera = camera::register(&server, "cam");
    let start_ms = now_ms() - 3_600_000;
    let mut upload = open(&server, &camera);
    upload.send(&header()).unwrap();
    let mut persisted = Vec::new();
    let error = loop {
        let at_ms = start_ms + persisted.len() as u64 * FRAGMENT_MS;
        let large = camera::fragment(at_ms, &camera::frames(at_ms, 20, 50_000));
        upload.send(&[large, camera::end_of_fragment()].concat()).unwrap();
        match upload.persisted(at_ms) {
            Ok(()) => persisted.push(at_ms),
            Err(error) => break error,
        }
        assert!(persisted.len() < 100, "the disk does not fill");
    };
    assert!(error.to_string().contains("ArchivalError"), "{error}");
    upload.finish().unwrap();
    assert_eq!(upload.ack().unwrap(), None);

    let refused = Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(server.get("/livez", &[]).status, 200);
    assert!(persisted.len() > 10, "{persisted:?}");
    assert_eq!(crate::playback::starts(&server, &camera, start_ms, now_ms()), persisted);
    drop(server);
}
