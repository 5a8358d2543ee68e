//! The figures of a whole service, each beside its peer in the same run: `make bench`.
//!
//! Starts the release binary on loopback, so the machine's other work is in every figure: compare
//! only what one run printed. CPU seconds are the steadier half. Needs ffmpeg, nginx and wrk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use bytes::Bytes;
use lookback_wire::matroska::reader::{Event, Limits, Reader};
use lookback_wire::matroska::writer;
use lookback_wire::{Ack, Frame, SimpleTag, UploadHeader, ack::AckParser, fragment};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What each camera sends: about 2 Mbit/s, fragments of 2 s.
const SOURCE_SECONDS: u64 = 60;
/// Fragments a camera may have under way before it waits for PERSISTED, as a producer's buffer.
const UNDER_WAY: usize = 8;
/// The source over and over: a little more than an hour.
const HOUR_REPEATS: usize = 64;
const HOUR_MS: u64 = 3_600_000;
/// Different pictures that are asked for.
const PICTURES: usize = 400;

fn main() {
    let work = tempfile::tempdir().expect("a folder to work in");
    let source = Source::make(work.path());
    let megabytes = source.bytes as f64 / 1e6;
    println!("source: {SOURCE_SECONDS} s, {megabytes:.1} MB, {} fragments", source.fragments.len());
    println!("binary: {:.1} MB", fs::metadata(binary()).unwrap().len() as f64 / 1e6);

    ingest(work.path(), &source);
    serving(work.path(), &source);
    live(work.path(), &source);
}

/// Readers that each wait for the next part of one live playlist.
const LIVE_READERS: usize = 1_000;
/// How long they do.
const LIVE_FOR: Duration = Duration::from_secs(20);

/// How long after the frame that completes a part those are told of it who wait.
fn live(work: &Path, source: &Source) {
    let server = Server::start(&work.join("live"));
    let device = server.register(1).remove(0);
    let until = Instant::now() + LIVE_FOR + Duration::from_secs(15);
    let told: Mutex<Vec<Instant>> = Mutex::default();
    let (sent, cpu) = thread::scope(|scope| {
        let camera = scope.spawn(|| film(&server, &device, source, until));
        thread::sleep(Duration::from_secs(8));
        let playlist = server.live_session(&device).replace("main.m3u8", "video.m3u8");
        let (playlist, told) = (Arc::new(playlist), &told);
        let address = &server.address;
        let stop = Instant::now() + LIVE_FOR;
        let cpu = server.cpu_seconds();
        let readers: Vec<_> = (0..LIVE_READERS)
            .map(|_| {
                let playlist = playlist.clone();
                scope.spawn(move || follow(address, &playlist, stop, told))
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
        let cpu = server.cpu_seconds() - cpu;
        (camera.join().expect("the camera"), cpu)
    });
    let mut waits: Vec<Duration> = told
        .into_inner()
        .expect("no reader died")
        .into_iter()
        .filter_map(|at| {
            sent.get(sent.partition_point(|s| *s <= at).checked_sub(1)?).map(|s| at - *s)
        })
        .collect();
    waits.sort_unstable();
    println!(
        "\nlive: {LIVE_READERS} readers, told {} times: {:.2} cores, after the frame p50 {} p99 {}",
        waits.len(),
        cpu / LIVE_FOR.as_secs_f64(),
        at(&waits, 0.50),
        at(&waits, 0.99)
    );
}

/// Sends the source frame by frame, as a camera would; when each frame was sent.
fn film(server: &Server, device: &Device, source: &Source, until: Instant) -> Vec<Instant> {
    let mut socket = server.put_media(device, now_ms());
    let mut acks = socket.try_clone().unwrap();
    thread::spawn(move || std::io::copy(&mut acks, &mut std::io::sink()));
    chunk(&mut socket, &[writer::header(&source.header)]);
    let (began, start_ms) = (Instant::now(), now_ms());
    let mut sent = Vec::new();
    for fragment in &source.fragments {
        let mut parts = vec![writer::cluster(start_ms + fragment.timecode)];
        for frame in &fragment.frames {
            let relative = (frame.timecode - fragment.timecode as i64) as i16;
            parts.push(writer::simple_block(frame.track, relative, frame.key, &frame.payload));
            parts.extend(frame.payload.parts().iter().cloned());
            let due = Duration::from_millis(frame.timecode.unsigned_abs());
            thread::sleep(due.saturating_sub(began.elapsed()));
            chunk(&mut socket, &std::mem::take(&mut parts));
            sent.push(Instant::now());
            if Instant::now() > until {
                return sent;
            }
        }
    }
    sent
}

/// Asks for the next part, again and again, and notes when it was told.
fn follow(address: &str, playlist: &str, stop: Instant, told: &Mutex<Vec<Instant>>) {
    let mut socket = BufReader::new(TcpStream::connect(address).unwrap());
    let mut query = String::new();
    while Instant::now() < stop {
        write!(socket.get_mut(), "GET /{playlist}{query} HTTP/1.1\r\nHost: {address}\r\n\r\n")
            .unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while socket.read_line(&mut line).unwrap() > 2 {
            let lower = line.to_ascii_lowercase();
            length = lower
                .strip_prefix("content-length: ")
                .map_or(length, |n| n.trim().parse().unwrap());
            line.clear();
        }
        let mut text = vec![0; length];
        socket.read_exact(&mut text).unwrap();
        if !query.is_empty() {
            told.lock().expect("no reader died").push(Instant::now());
        }
        let (mut msn, mut part) = (0u64, 0u64);
        for line in String::from_utf8_lossy(&text).lines() {
            match line.split_once(':') {
                Some(("#EXT-X-MEDIA-SEQUENCE", number)) => msn = number.parse().unwrap(),
                Some(("#EXT-X-SKIP", skip)) => {
                    let (_, count) = skip.split_once('=').unwrap();
                    msn += count.parse::<u64>().unwrap();
                }
                Some(("#EXT-X-PART", _)) => part += 1,
                Some(("#EXTINF", _)) => (msn, part) = (msn + 1, 0),
                _ => {}
            }
        }
        query = format!("?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES");
    }
}

fn ingest(work: &Path, source: &Source) {
    println!("\ningest, as fast as it is taken (durable before each PERSISTED)");
    for (cameras, repeats) in [(1, 16), (8, 4), (200, 1)] {
        let server = Server::start(&work.join(format!("ingest-{cameras}")));
        let devices = server.register(cameras);
        let cpu = server.cpu_seconds();
        let began = Instant::now();
        let latencies = upload_all(&server, &devices, source, repeats, None);
        let seconds = began.elapsed().as_secs_f64();
        let bytes = (source.bytes * cameras * repeats) as f64;
        println!(
            "  {cameras:>3} cameras: {:>6.1} MB/s, {:.2} CPU s/GB, PERSISTED p50 {} p99 {}, RSS {:.0} MB",
            bytes / 1e6 / seconds,
            (server.cpu_seconds() - cpu) / (bytes / 1e9),
            at(&latencies, 0.50),
            at(&latencies, 0.99),
            server.rss_megabytes(),
        );
    }
    println!("ingest, at the pace of the footage");
    for cameras in [8, 200] {
        let server = Server::start(&work.join(format!("paced-{cameras}")));
        let devices = server.register(cameras);
        let cpu = server.cpu_seconds();
        let pace = Duration::from_secs(20);
        let began = Instant::now();
        let latencies = upload_all(&server, &devices, source, 1, Some(pace));
        println!(
            "  {cameras:>3} cameras: {:.1} MB/s, {:.2} cores, PERSISTED p50 {} p99 {}, RSS {:.0} MB",
            latencies.len() as f64 * source.bytes as f64
                / source.fragments.len() as f64
                / 1e6
                / began.elapsed().as_secs_f64(),
            (server.cpu_seconds() - cpu) / began.elapsed().as_secs_f64(),
            at(&latencies, 0.50),
            at(&latencies, 0.99),
            server.rss_megabytes(),
        );
    }

    println!("peers");
    let loops = 16;
    let out = work.join("peer");
    fs::create_dir_all(&out).unwrap();
    let (seconds, cpu) = timed(|| {
        run(Command::new("ffmpeg")
            .current_dir(&out)
            .args(["-v", "error", "-stream_loop", &(loops - 1).to_string(), "-i"])
            .arg(&source.file)
            .args(["-c", "copy", "-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "2"])
            .args(["-hls_list_size", "0", "out.m3u8"]));
    });
    let bytes = (source.bytes * loops) as f64;
    println!(
        "  ffmpeg -c copy to HLS fMP4: {:.1} MB/s, {:.2} CPU s/GB (not durable)",
        bytes / 1e6 / seconds,
        cpu / (bytes / 1e9)
    );
    for writers in [1, 8] {
        let (rate, latencies) = disk(work, source, writers);
        println!(
            "  this disk, {writers} files appended to and fdatasynced per fragment: {rate:.1} MB/s, p50 {} p99 {}",
            at(&latencies, 0.50),
            at(&latencies, 0.99)
        );
    }
}

/// The same sizes written and synced with nothing else done.
fn disk(work: &Path, source: &Source, writers: usize) -> (f64, Vec<Duration>) {
    let began = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|n| {
            let mut file = fs::File::create(work.join(format!("disk-{writers}-{n}"))).unwrap();
            let sizes: Vec<usize> = source.fragments.iter().map(|f| f.bytes).collect();
            thread::spawn(move || {
                let block = vec![7u8; *sizes.iter().max().unwrap()];
                let write = |size: &usize| {
                    let began = Instant::now();
                    file.write_all(&block[..*size]).unwrap();
                    file.sync_data().unwrap();
                    began.elapsed()
                };
                sizes.iter().cycle().take(sizes.len() * 4).map(write).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut latencies: Vec<Duration> =
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    latencies.sort_unstable();
    let seconds = began.elapsed().as_secs_f64();
    ((source.bytes * 4 * writers) as f64 / 1e6 / seconds, latencies)
}

fn serving(work: &Path, source: &Source) {
    let server = Server::start(&work.join("serving"));
    let devices = server.register(1);
    let start_ms = now_ms() - 12 * 3_600_000;
    upload(&server, &devices[0], source, start_ms, HOUR_REPEATS, None);
    let session = server.session(&devices[0], start_ms, start_ms + 600_000, "HLS");
    let playlist =
        String::from_utf8(server.get(&session.replace("main.m3u8", "video.m3u8"))).unwrap();
    let base = session.rsplit_once('/').unwrap().0.to_owned();
    let names: Vec<&str> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(names.len() >= 64, "only {} segments", names.len());

    let files = work.join("nginx");
    fs::create_dir_all(&files).unwrap();
    let mut bytes = 0;
    for (n, name) in names.iter().enumerate() {
        let body = server.get(&format!("{base}/{name}"));
        bytes += body.len();
        fs::write(files.join(format!("{n}.m4s")), body).unwrap();
    }
    println!(
        "\nserving {} segments of {} KB, 16 connections",
        names.len(),
        bytes / names.len() / 1000
    );
    let paths: Vec<String> =
        names.iter().map(|name| format!("/{}/{name}", base.trim_start_matches('/'))).collect();
    let report = |who: &str, done: Load| {
        let gigabytes = done.bytes / 1e9;
        println!(
            "  {who}: {:.2} GB/s, {:.2} GB/s per core, {:.2} CPU s/GB, {:.0} requests/s",
            gigabytes / done.seconds,
            gigabytes / done.cpu,
            done.cpu / gigabytes,
            done.requests / done.seconds
        );
    };
    report("lookback, token checked", load(&server.address, &paths, work, None, server.pids()));
    let nginx = Nginx::start(work, &files);
    let own: Vec<String> = (0..names.len()).map(|n| format!("/{n}.m4s")).collect();
    report("nginx sendfile", load(&nginx.address, &own, work, None, nginx.pids()));

    let fragmented = session_bytes(&server, &session, &["video.m3u8", "audio.m3u8"]);
    transport_stream(work, source, &server, &devices[0], start_ms, fragmented);
    clip(work, source, &server, &devices[0], start_ms);
    pictures(work, source, &server, &devices[0], start_ms);

    println!("playlists and questions, 16 connections");
    let rate = |what: &str, done: Load| {
        println!(
            "  {what}: {:.0} requests/s, {:.0} us CPU each, p50 {}, p99 {}",
            done.requests / done.seconds,
            done.cpu / done.requests * 1e6,
            done.p50,
            done.p99
        );
    };
    let media = vec![format!("/{}/video.m3u8", base.trim_start_matches('/'))];
    rate(
        &format!("{}-segment playlist", names.len()),
        load(&server.address, &media, work, None, server.pids()),
    );
    let query = json!({
        "query": "query($id:ID!,$range:TimeRangeInput!){node(id:$id){...on Stream{clips(range:$range,first:50){nodes{range{start end} mediaSeconds}}}}}",
        "variables": {"id": devices[0].stream, "range": {"start": iso(start_ms), "end": iso(start_ms + 86_400_000)}},
    });
    let ask = Some((query.to_string(), server.manager.clone()));
    rate("clips over a day", load(&server.address, &["/graphql".into()], work, ask, server.pids()));
}

/// Bytes of all segments that these playlists of a session name.
fn session_bytes(server: &Server, session: &str, playlists: &[&str]) -> usize {
    let base = session.rsplit_once('/').unwrap().0;
    let mut bytes = 0;
    for playlist in playlists {
        let text = String::from_utf8(server.get(&format!("{base}/{playlist}"))).unwrap();
        for name in text.lines().filter(|line| !line.starts_with('#')) {
            bytes += server.get(&format!("{base}/{name}")).len();
        }
    }
    bytes
}

fn transport_stream(
    work: &Path,
    source: &Source,
    server: &Server,
    device: &Device,
    start_ms: u64,
    fragmented: usize,
) {
    println!("MPEG-TS segments, 16 connections");
    let session = server.session(device, start_ms, start_ms + 600_000, "HLS_TS");
    let base = session.rsplit_once('/').unwrap().0.to_owned();
    let multivariant = String::from_utf8(server.get(&session)).unwrap();
    // Either the playlist itself, or one that names it.
    let playlist = multivariant
        .lines()
        .find(|line| !line.starts_with('#') && line.ends_with(".m3u8"))
        .map_or(session.rsplit_once('/').unwrap().1, |name| name)
        .to_owned();
    let text = String::from_utf8(server.get(&format!("{base}/{playlist}"))).unwrap();
    let paths: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|name| format!("/{base}/{name}"))
        .collect();
    assert!(paths.len() >= 64, "only {} segments", paths.len());
    let bytes = session_bytes(server, &session, &[playlist.as_str()]);
    let done = load(&server.address, &paths, work, None, server.pids());
    let gigabytes = done.bytes / 1e9;
    println!(
        "  lookback: {:.2} GB/s, {:.2} GB/s per core, {:.2} CPU s/GB, {:.2} % larger than fMP4",
        gigabytes / done.seconds,
        gigabytes / done.cpu,
        done.cpu / gigabytes,
        (bytes as f64 / fragmented as f64 - 1.0) * 100.0
    );
    let out = work.join("peer-ts");
    fs::create_dir_all(&out).unwrap();
    let loops = 16;
    let (seconds, cpu) = timed(|| {
        run(Command::new("ffmpeg")
            .current_dir(&out)
            .args(["-v", "error", "-stream_loop", &(loops - 1).to_string(), "-i"])
            .arg(&source.file)
            .args(["-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "o.m3u8"]));
    });
    let gigabytes = (source.bytes * loops) as f64 / 1e9;
    println!(
        "  ffmpeg -c copy to TS: {:.2} GB/s, {:.2} CPU s/GB",
        gigabytes / seconds,
        cpu / gigabytes
    );
}

/// One hour as one MP4 file.
fn clip(work: &Path, source: &Source, server: &Server, device: &Device, start_ms: u64) {
    println!("MP4 of one hour");
    let path = server.session(device, start_ms, start_ms + HOUR_MS, "MP4");
    for turn in ["first", "again", "again"] {
        let cpu = server.cpu_seconds();
        let began = Instant::now();
        let mut socket = TcpStream::connect(&server.address).unwrap();
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            server.address
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut piece = vec![0; 1 << 20];
        let first = socket.read(&mut piece).unwrap();
        assert!(piece.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&piece[..first]));
        let first_byte = began.elapsed();
        let mut bytes = first;
        loop {
            match socket.read(&mut piece).unwrap() {
                0 => break,
                read => bytes += read,
            }
        }
        let gigabytes = bytes as f64 / 1e9;
        println!(
            "  lookback, {turn}: first byte {:.1} ms, {gigabytes:.2} GB at {:.2} GB/s, {:.2} CPU s/GB, RSS {:.0} MB",
            first_byte.as_secs_f64() * 1e3,
            gigabytes / began.elapsed().as_secs_f64(),
            (server.cpu_seconds() - cpu) / gigabytes,
            server.rss_megabytes(),
        );
    }
    let (seconds, cpu) = timed(|| {
        run(Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-stream_loop", &(HOUR_REPEATS - 2).to_string(), "-i"])
            .arg(&source.file)
            .args(["-c", "copy", "-movflags", "+faststart"])
            .arg(work.join("peer.mp4")));
    });
    let gigabytes = fs::metadata(work.join("peer.mp4")).unwrap().len() as f64 / 1e9;
    println!(
        "  ffmpeg -c copy -movflags +faststart: first byte after {seconds:.1} s, {:.2} GB/s, {:.2} CPU s/GB",
        gigabytes / seconds,
        cpu / gigabytes
    );
}

/// Pictures that nobody asked for before.
fn pictures(work: &Path, source: &Source, server: &Server, device: &Device, start_ms: u64) {
    println!("thumbnails, 720p to 320 px");
    let mut paths = Vec::new();
    let step_ms = HOUR_MS * 100 / PICTURES as u64;
    for part in 0..PICTURES as u64 / 100 {
        let from = start_ms + part * step_ms;
        let answer = server.graphql(
            "query($id:ID!,$range:TimeRangeInput!){node(id:$id){...on Stream{thumbnails(range:$range,count:100,maxWidth:320){url}}}}",
            json!({"id": device.stream, "range": {"start": iso(from), "end": iso(from + step_ms)}}),
        );
        let images =
            answer["data"]["node"]["thumbnails"].as_array().unwrap_or_else(|| panic!("{answer}"));
        paths.extend(
            images.iter().map(|image| {
                image["url"].as_str().unwrap().splitn(4, '/').nth(3).unwrap().to_owned()
            }),
        );
    }
    paths.sort();
    paths.dedup();
    let cpu = server.cpu_seconds();
    let began = Instant::now();
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let readers: Vec<_> = paths
            .chunks(paths.len().div_ceil(4))
            .map(|paths| {
                scope.spawn(|| {
                    let fetch = |path: &String| {
                        let began = Instant::now();
                        assert!(server.get(path).starts_with(&[0xff, 0xd8]), "no JPEG");
                        began.elapsed()
                    };
                    paths.iter().map(fetch).collect::<Vec<_>>()
                })
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    took.sort_unstable();
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds() - cpu);
    println!(
        "  lookback: {} pictures, {:.0}/s, {:.0}/s per core, p50 {}, p99 {} (4 at once)",
        paths.len(),
        paths.len() as f64 / seconds,
        paths.len() as f64 / cpu,
        at(&took, 0.50),
        at(&took, 0.99)
    );
    let out = work.join("peer-pictures");
    fs::create_dir_all(&out).unwrap();
    let (_, cpu) = timed(|| {
        run(Command::new("ffmpeg")
            .args(["-v", "error", "-threads", "1", "-skip_frame", "nokey", "-i"])
            .arg(&source.file)
            .args(["-vf", "scale=320:-2", "-vsync", "0"])
            .arg(out.join("%d.jpg")));
    });
    let made = fs::read_dir(&out).unwrap().count();
    println!("  ffmpeg, one process over all key frames: {:.0}/s per core", made as f64 / cpu);
}

/// What wrk saw and what the server spent meanwhile.
struct Load {
    seconds: f64,
    requests: f64,
    bytes: f64,
    cpu: f64,
    p50: String,
    p99: String,
}

fn load(
    address: &str,
    paths: &[String],
    work: &Path,
    body: Option<(String, String)>,
    pids: Vec<u32>,
) -> Load {
    let mut script = String::from("local paths = {\n");
    for path in paths {
        script += &format!("  {path:?},\n");
    }
    script += "}\nlocal n = 0\n";
    if let Some((body, token)) = body {
        script += &format!(
            "wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Authorization'] = 'Bearer {token}'\n"
        );
    }
    script += "request = function() n = n + 1; return wrk.format(nil, paths[n % #paths + 1]) end\n";
    script += "done = function(s, l) io.write(string.format('FIGURES %d %d %d %d %d %d %d\\n', s.duration, s.requests, s.bytes, l:percentile(50), l:percentile(99), s.errors.status, s.errors.read)) end\n";
    let file = work.join("wrk.lua");
    fs::write(&file, script).unwrap();
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let before = cpu();
    let out = Command::new("wrk")
        .args(["-t1", "-c16", "-d5s", "-s"])
        .arg(&file)
        .arg(format!("http://{address}"))
        .output()
        .expect("wrk runs");
    let spent = cpu() - before;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("FIGURES "))
        .unwrap_or_else(|| panic!("wrk: {text}"));
    let figures: Vec<f64> = line.split(' ').map(|f| f.parse().unwrap()).collect();
    assert!(figures[5] == 0.0 && figures[6] == 0.0, "failed requests: {text}");
    Load {
        seconds: figures[0] / 1e6,
        requests: figures[1],
        bytes: figures[2],
        cpu: spent,
        p50: format!("{:.2} ms", figures[3] / 1e3),
        p99: format!("{:.2} ms", figures[4] / 1e3),
    }
}

struct Nginx {
    process: Child,
    address: String,
}

impl Nginx {
    fn start(work: &Path, files: &Path) -> Self {
        let port = free_port();
        let (at, root) = (work.display(), files.display());
        let config = work.join("nginx.conf");
        fs::write(
            &config,
            format!(
                "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log;
                 events {{ worker_connections 256; }}
                 http {{ sendfile on; tcp_nopush on; access_log off; keepalive_requests 1000000; client_body_temp_path {at};
                 proxy_temp_path {at}; fastcgi_temp_path {at}; uwsgi_temp_path {at}; scgi_temp_path {at};
                 server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
            ),
        )
        .unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx runs");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..100 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Self { process, address }
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.process.id()]
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A recording, taken apart into fragments.
struct Source {
    file: PathBuf,
    header: Arc<UploadHeader>,
    fragments: Vec<Fragment>,
    bytes: usize,
}

#[derive(Clone)]
struct Fragment {
    timecode: u64,
    frames: Vec<Frame>,
    bytes: usize,
}

impl Source {
    fn make(work: &Path) -> Self {
        let file = work.join("source.mkv");
        run(Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
            .args([
                "testsrc2=size=1280x720:rate=25,noise=alls=20:allf=t",
                "-f",
                "lavfi",
                "-i",
                "sine=440:sample_rate=48000",
                "-t",
            ])
            .arg(SOURCE_SECONDS.to_string())
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-b:v",
                "2M",
                "-minrate",
                "2M",
                "-maxrate",
                "2M",
                "-bufsize",
                "1M",
                "-g",
                "50",
                "-keyint_min",
                "50",
                "-sc_threshold",
                "0",
                "-pix_fmt",
                "yuv420p",
                "-c:a",
                "aac",
                "-b:a",
                "64k",
                "-cluster_time_limit",
                "2000",
            ])
            .arg(&file));
        let mut reader = Reader::new(Limits::recording());
        reader.push(Bytes::from(fs::read(&file).unwrap()));
        let mut header = None;
        let mut frames = Vec::new();
        loop {
            match reader.next().expect("ffmpeg's recording is read") {
                Some(Event::Header(found)) => header = Some(found),
                Some(Event::Frame(frame)) => frames.push(frame),
                Some(_) => {}
                None => break,
            }
        }
        let header = header.expect("a header");
        let video = header
            .tracks
            .iter()
            .find(|t| t.kind == lookback_wire::TrackKind::Video)
            .unwrap()
            .number;
        let mut fragments: Vec<Fragment> = Vec::new();
        for frame in frames {
            if frame.track == video && frame.key {
                fragments.push(Fragment {
                    timecode: frame.timecode as u64,
                    frames: Vec::new(),
                    bytes: 0,
                });
            }
            let Some(fragment) = fragments.last_mut() else { continue };
            fragment.bytes += frame.payload.len();
            fragment.frames.push(frame);
        }
        for fragment in &mut fragments {
            let from = fragment.timecode as i64;
            fragment.frames.retain(|frame| frame.timecode >= from);
        }
        // The last one may lack its audio.
        fragments.pop();
        let bytes = fragments.iter().map(|f| f.bytes).sum();
        Self { file, header, fragments, bytes }
    }
}

#[derive(Clone)]
struct Device {
    token: String,
    stream: String,
    media_stream: String,
}

fn upload_all(
    server: &Server,
    devices: &[Device],
    source: &Source,
    repeats: usize,
    pace: Option<Duration>,
) -> Vec<Duration> {
    let start_ms = now_ms() - 3 * 3_600_000;
    let ready = Barrier::new(devices.len());
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = devices
            .iter()
            .map(|device| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    upload(server, device, source, start_ms, repeats, pace)
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    latencies.sort_unstable();
    latencies
}

/// Sends the source `repeats` times on one connection; how long each fragment took from its last
/// byte to PERSISTED. With a `pace`, only so much of it, as a camera would.
fn upload(
    server: &Server,
    device: &Device,
    source: &Source,
    start_ms: u64,
    repeats: usize,
    pace: Option<Duration>,
) -> Vec<Duration> {
    let mut socket = server.put_media(device, start_ms);
    let mut acks = BufReader::new(socket.try_clone().unwrap());
    chunk(&mut socket, &[writer::header(&source.header)]);
    let status = head(&mut acks);
    assert!(status.starts_with("HTTP/1.1 200"), "PutMedia: {status}");

    let mut parser = AckParser::new();
    let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut latencies = Vec::new();
    let began = Instant::now();
    'sending: for repeat in 0..repeats as u64 {
        let base = start_ms + repeat * SOURCE_SECONDS * 1000;
        for fragment in &source.fragments {
            if let Some(pace) = pace {
                let due = Duration::from_millis(fragment.timecode);
                if due > pace {
                    break 'sending;
                }
                // Cameras are not in step with each other.
                let offset = Duration::from_millis(fxhash(&device.token) % 2000);
                thread::sleep((due + offset).saturating_sub(began.elapsed()));
            }
            let timecode = base + fragment.timecode;
            let mut parts = vec![writer::cluster(timecode)];
            for frame in &fragment.frames {
                let relative = (frame.timecode - fragment.timecode as i64) as i16;
                parts.push(writer::simple_block(frame.track, relative, frame.key, &frame.payload));
                parts.extend(frame.payload.parts().iter().cloned());
            }
            let end = SimpleTag { name: fragment::END_OF_FRAGMENT.into(), value: String::new() };
            parts.push(writer::tags(&[end]));
            chunk(&mut socket, &parts);
            waiting.push_back((timecode, Instant::now()));
            while waiting.len() >= UNDER_WAY || (pace.is_some() && !waiting.is_empty()) {
                persisted(&mut acks, &mut parser, &mut waiting, &mut latencies);
            }
        }
    }
    while !waiting.is_empty() {
        persisted(&mut acks, &mut parser, &mut waiting, &mut latencies);
    }
    socket.write_all(b"0\r\n\r\n").unwrap();
    latencies
}

fn persisted(
    acks: &mut BufReader<TcpStream>,
    parser: &mut AckParser,
    waiting: &mut VecDeque<(u64, Instant)>,
    latencies: &mut Vec<Duration>,
) {
    parser.push(&http_chunk(acks));
    while let Some(ack) = parser.next().expect("acknowledgements parse") {
        match ack {
            Ack::Persisted { timecode, .. } => {
                let place = waiting.iter().position(|(t, _)| *t == timecode).expect("sent before");
                latencies.push(waiting.remove(place).unwrap().1.elapsed());
            }
            Ack::Error { error, .. } => panic!("refused: {error:?}"),
            _ => {}
        }
    }
}

fn chunk(socket: &mut TcpStream, parts: &[Bytes]) {
    let mut body = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| body.extend_from_slice(part));
    for piece in body.chunks(64 * 1024) {
        write!(socket, "{:x}\r\n", piece.len()).unwrap();
        socket.write_all(piece).unwrap();
        socket.write_all(b"\r\n").unwrap();
    }
}

fn http_chunk(from: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let size = usize::from_str_radix(line.trim(), 16)
        .unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
    assert!(size > 0, "the response ended early");
    let mut body = vec![0; size + 2];
    from.read_exact(&mut body).unwrap();
    body.truncate(size);
    body
}

/// Reads a response's head; answers its status line.
fn head(from: &mut BufReader<TcpStream>) -> String {
    let mut status = String::new();
    from.read_line(&mut status).unwrap();
    let mut line = String::new();
    while from.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    status
}

struct Server {
    process: Child,
    address: String,
    manager: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        // One caller asks here for what thousands would.
        let config = data.with_extension("toml");
        std::fs::write(&config, "[rates]\nenabled = false\n").unwrap();
        let mut process = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("build the release binary first: make bench");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").expect("the ready line").to_owned();
        let token = Command::new(binary())
            .args(["token", "--role", "manager", "--ttl", "12h", "--data-dir"])
            .arg(data)
            .output()
            .unwrap();
        let manager = String::from_utf8(token.stdout).unwrap().trim().to_owned();
        Self { process, address, manager }
    }

    fn register(&self, cameras: usize) -> Vec<Device> {
        let one = |n: usize| {
            let answer = self.graphql(
                "mutation($i:RegisterDeviceInput!){registerDevice(input:$i){device{streams{id mediaStreamName}} credential{token} userErrors{message}}}",
                json!({"i": {"externalId": format!("bench-{n}"), "name": format!("Bench {n}"), "timeZone": "UTC"}}),
            );
            let made = &answer["data"]["registerDevice"];
            let text =
                |value: &Value| value.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
            Device {
                token: text(&made["credential"]["token"]),
                stream: text(&made["device"]["streams"][0]["id"]),
                media_stream: text(&made["device"]["streams"][0]["mediaStreamName"]),
            }
        };
        (0..cameras).map(one).collect()
    }

    /// A connection whose head says that an upload follows.
    fn put_media(&self, device: &Device, start_ms: u64) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        write!(
            socket,
            "POST /putMedia HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nx-amzn-stream-name: {}\r\nx-amzn-fragment-timecode-type: ABSOLUTE\r\nx-amzn-producer-start-timestamp: {}.000\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.address,
            device.token,
            device.media_stream,
            start_ms / 1000
        )
        .unwrap();
        socket
    }

    /// The path of a playback session's file.
    fn session(&self, device: &Device, start_ms: u64, end_ms: u64, protocol: &str) -> String {
        let (start, end) = (iso(start_ms), iso(end_ms));
        self.session_of(
            json!({"streamId": device.stream, "start": start, "end": end, "protocol": protocol}),
        )
    }

    fn live_session(&self, device: &Device) -> String {
        self.session_of(json!({"streamId": device.stream, "mode": "LIVE"}))
    }

    fn session_of(&self, input: Value) -> String {
        let answer = self.graphql(
            "query($i:PlaybackSessionInput!){playbackSession(input:$i){...on PlaybackSession{url} ...on MediaUnavailable{message}}}",
            json!({"i": input}),
        );
        let url =
            answer["data"]["playbackSession"]["url"].as_str().unwrap_or_else(|| panic!("{answer}"));
        url.splitn(4, '/').nth(3).unwrap().to_owned()
    }

    fn graphql(&self, query: &str, variables: Value) -> Value {
        let body = json!({"query": query, "variables": variables}).to_string();
        let answer = self.request(&format!(
            "POST /graphql HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.manager,
            body.len()
        ));
        serde_json::from_slice(&answer)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer)))
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let path = path.trim_start_matches('/');
        self.request(&format!(
            "GET /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    fn request(&self, request: &str) -> Vec<u8> {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut from = BufReader::new(socket);
        let mut status = String::new();
        from.read_line(&mut status).unwrap();
        assert!(
            status.contains(" 200 "),
            "{status} for {}",
            request.lines().next().unwrap_or_default()
        );
        let (mut length, mut chunked, mut line) = (None, false, String::new());
        while from.read_line(&mut line).unwrap() > 2 {
            let lower = line.to_ascii_lowercase();
            chunked |= lower.starts_with("transfer-encoding: chunked");
            length = lower
                .strip_prefix("content-length: ")
                .map(|n| n.trim().parse().unwrap())
                .or(length);
            line.clear();
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let mut size = String::new();
                from.read_line(&mut size).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut piece = vec![0; size + 2];
                from.read_exact(&mut piece).unwrap();
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&piece[..size]);
            }
        } else {
            from.take(length.expect("a length")).read_to_end(&mut body).unwrap();
        }
        body
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.process.id()]
    }

    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.process.id())
    }

    fn rss_megabytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// User and system time of a process so far; Linux counts in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Wall seconds, and CPU seconds of child processes that ended meanwhile.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let children = || {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0
    };
    let (before, began) = (children(), Instant::now());
    work();
    (began.elapsed().as_secs_f64(), children() - before)
}

fn at(sorted: &[Duration], share: f64) -> String {
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len() - 1);
    format!("{:.1} ms", sorted[place].as_secs_f64() * 1e3)
}

fn binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/lookback")
}

fn run(command: &mut Command) {
    assert!(command.status().expect("it starts").success(), "{command:?} failed");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn iso(ms: u64) -> String {
    let secs = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    secs.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Spreads tokens over small numbers.
fn fxhash(text: &str) -> u64 {
    text.bytes().fold(0u64, |hash, byte| {
        hash.rotate_left(5).wrapping_add(u64::from(byte)).wrapping_mul(0x9E37_79B9)
    })
}
