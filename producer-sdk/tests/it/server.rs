//! A server of just what a producer needs: `/graphql`, `/getDataEndpoint`, and `/putMedia` in full
//! duplex. It can be told to break off uploads.

use lookback_wire::matroska::reader::{Event, Limits, Reader};
use lookback_wire::{Ack, ErrorId, FragmentNumber, UploadHeader};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What to do to an upload, instead of keeping it to its end.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Close the socket when the fragment of this number, from 0, begins.
    CloseAt(usize),
    /// Answer an ERROR at that fragment.
    ErrorAt(usize, ErrorId),
    /// Refuse with this status.
    Refuse(u16),
}

#[derive(Default)]
pub struct Kept {
    /// Frames by the start of their fragment: track, timecode, bytes.
    pub fragments: BTreeMap<u64, Vec<(u64, i64, Vec<u8>)>>,
    /// One for each upload.
    pub headers: Vec<Arc<UploadHeader>>,
    pub tags: Vec<(u64, String, String)>,
    pub segments: Vec<Value>,
    pub calls: Vec<String>,
    pub heads: Vec<String>,
}

#[derive(Clone)]
pub struct Server {
    pub url: String,
    pub kept: Arc<Mutex<Kept>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Server {
    pub fn start(faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            kept: Arc::default(),
            faults: Arc::new(Mutex::new(faults.into_iter().collect())),
        };
        let accepting = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = accepting.clone();
                // A producer that goes away is no failure of the test.
                thread::spawn(move || server.serve(stream).ok());
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        assert!(head.contains("\r\nauthorization: Bearer secret\r\n"), "{head}");
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.kept.lock().unwrap().calls.push(path.clone());
        if path == "/putMedia" {
            self.kept.lock().unwrap().heads.push(head);
            return self.put_media(reader, stream);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body)?;
        let answer = self.answer(&path, &serde_json::from_slice(&body).unwrap()).to_string();
        let length = answer.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}")
    }

    fn answer(&self, path: &str, body: &Value) -> Value {
        if path == "/getDataEndpoint" {
            assert_eq!(body, &json!({ "StreamName": "device-main", "APIName": "PUT_MEDIA" }));
            return json!({ "DataEndpoint": self.url });
        }
        if body["query"].as_str().unwrap().contains("createUploadGrant") {
            let streams = json!([{ "name": "main", "mediaStreamName": "device-main" }]);
            let grant = json!({ "endpoint": self.url, "streams": streams });
            return json!({ "data": { "createUploadGrant": { "grant": grant, "userErrors": [] } } });
        }
        let segments = body["variables"]["input"]["segments"].as_array().unwrap();
        self.kept.lock().unwrap().segments.extend(segments.iter().cloned());
        let result = |segment: &Value| {
            let id = &segment["clientSegmentId"];
            json!({ "clientSegmentId": id, "status": "STORED", "rejection": null })
        };
        json!({ "data": { "ingestSegments": {
            "results": segments.iter().map(result).collect::<Vec<_>>(),
            "advice": { "batchSize": 2, "flushSeconds": 1 },
            "userErrors": [] } } })
    }

    fn put_media(&self, mut body: impl BufRead, mut out: TcpStream) -> std::io::Result<()> {
        let fault = self.faults.lock().unwrap().pop_front();
        if let Some(Fault::Refuse(status)) = fault {
            return write!(out, "HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno");
        }
        write!(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let mut reader = Reader::new(Limits::default());
        let (mut started, mut refused) = (0, false);
        let mut open: Option<(u64, Vec<_>)> = None;
        let mut last = 0;
        while let Some(chunk) = read_chunk(&mut body)? {
            reader.push(chunk.into());
            while let Some(event) = reader.next().unwrap() {
                if refused {
                    continue;
                }
                match event {
                    Event::Header(header) => self.kept.lock().unwrap().headers.push(header),
                    Event::FragmentStart { timecode } => {
                        let number = started;
                        started += 1;
                        match fault {
                            Some(Fault::CloseAt(at)) if at == number => return Ok(()),
                            Some(Fault::ErrorAt(at, error)) if at == number => {
                                let ack =
                                    Ack::Error { timecode: Some(timecode), number: None, error };
                                write_ack(&mut out, &ack)?;
                                refused = true;
                                continue;
                            }
                            _ => {}
                        }
                        assert!(timecode > last, "{timecode} after {last}");
                        last = timecode;
                        write_ack(
                            &mut out,
                            &Ack::Buffering { timecode, number: FragmentNumber(1) },
                        )?;
                        open = Some((timecode, Vec::new()));
                    }
                    Event::Frame(frame) => {
                        let bytes = frame.payload.to_bytes().to_vec();
                        open.as_mut().unwrap().1.push((frame.track, frame.timecode, bytes));
                    }
                    Event::Tag(tag) => {
                        let mut kept = self.kept.lock().unwrap();
                        kept.tags.push((last, tag.name, tag.value));
                    }
                    Event::FragmentEnd { .. } => {
                        let Some((timecode, frames)) = open.take() else { continue };
                        self.kept.lock().unwrap().fragments.insert(timecode, frames);
                        let number = FragmentNumber(timecode);
                        write_ack(&mut out, &Ack::Received { timecode, number })?;
                        write_ack(&mut out, &Ack::Persisted { timecode, number })?;
                    }
                }
            }
        }
        write!(out, "0\r\n\r\n")
    }
}

fn write_ack(out: &mut TcpStream, ack: &Ack) -> std::io::Result<()> {
    let text = ack.write();
    write!(out, "{:x}\r\n{text}\r\n", text.len())
}

/// One chunk of a chunked body (RFC 9112 §7.1); none at its end.
fn read_chunk(body: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut size = String::new();
    body.read_line(&mut size)?;
    let size = usize::from_str_radix(size.trim(), 16)
        .map_err(|_| std::io::Error::other("the body is cut short"))?;
    let mut chunk = vec![0; size];
    body.read_exact(&mut chunk)?;
    body.read_exact(&mut [0; 2])?;
    Ok((size > 0).then_some(chunk))
}
