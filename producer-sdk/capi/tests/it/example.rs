//! `examples/upload.c`, compiled, linked to the static library and run against a service that keeps
//! nothing but acknowledges.

use bytes::Bytes;
use lookback_wire::matroska::{Event, Limits, Reader};
use lookback_wire::{Ack, FragmentNumber};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this test's own files go, beside the library that was built for it.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the system's C or C++ compiler, by the standard that is asked for.
pub fn compiler(standard: &str, sources: &[&Path], output: &Path, further: &[&str]) {
    let program = if standard.contains("++") { "c++" } else { "cc" };
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiled = Command::new(program)
        .args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(include)
        .args(sources)
        .arg("-o")
        .arg(output)
        .args(further)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

#[test]
fn the_example_uploads() {
    let library = std::env::current_exe().unwrap().with_file_name("liblookback_producer_c.a");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/upload.c");
    let program = folder().join("upload");
    let system = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];
    compiler("-std=c11", &[&source, &library], &program, &system);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let file = folder().join("camera.h264");
    std::fs::write(&file, h264(100)).unwrap();
    let run = Command::new(program)
        .args(["--media", &endpoint, "my-stream"])
        .arg(file)
        .env("LOOKBACK_TOKEN", "secret")
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stdout}{stderr}");
    assert!(stdout.ends_with("100 frames, 2 fragments persisted, 0 undelivered\n"), "{stdout}");

    let (head, frames) = service.join().unwrap();
    assert!(head.contains("authorization: Bearer secret"), "{head}");
    assert!(head.contains("x-amzn-stream-name: my-stream"), "{head}");
    assert_eq!(frames, 100);
}

/// Frames with delimiters, each key frame (every second, at 25) after its parameter sets.
fn h264(frames: usize) -> Vec<u8> {
    const START: [u8; 4] = [0, 0, 0, 1];
    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
    let mut out = Vec::new();
    for frame in 0..frames {
        let units: &[&[u8]] = match frame % 25 {
            0 => &[&[9, 0x10], SPS, PPS, &[0x65, 0x88, 0x84, 0x21]],
            _ => &[&[9, 0x30], &[0x41, 0x9a, 0x21, 0x6c]],
        };
        for unit in units {
            out.extend(START);
            out.extend_from_slice(unit);
        }
    }
    out
}

/// Answers one PutMedia: every fragment is PERSISTED. Returns the request's head and its frames.
fn serve(mut stream: TcpStream) -> (String, usize) {
    let mut request = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(request.read_line(&mut head).unwrap() > 0, "{head}");
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut reader = Reader::new(Limits::default());
    let (mut fragment, mut frames) = (0, 0);
    loop {
        let mut size = String::new();
        request.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        request.read_exact(&mut chunk).unwrap();
        if size == 0 {
            stream.write_all(b"0\r\n\r\n").unwrap();
            return (head, frames);
        }
        reader.push(Bytes::from(chunk).slice(..size));
        while let Some(event) = reader.next().unwrap() {
            match event {
                Event::FragmentStart { timecode } => fragment = timecode,
                Event::Frame(_) => frames += 1,
                Event::FragmentEnd { .. } => {
                    let number = FragmentNumber(fragment);
                    let ack = Ack::Persisted { timecode: fragment, number }.write();
                    write!(stream, "{:x}\r\n{ack}\r\n", ack.len()).unwrap();
                }
                Event::Header(_) | Event::Tag(_) => {}
            }
        }
    }
}
