//! A camera as tests play it: PutMedia over a raw socket, so that every byte and every
//! acknowledgement is in the test's hands. Footage is made from a seed and can be made again.

use crate::server::{PATIENCE, Server, lookback};
use bytes::Bytes;
use lookback_wire::ack::AckParser;
use lookback_wire::matroska::writer;
use lookback_wire::{Ack, Payload, SimpleTag, Track, TrackKind, UploadHeader, fragment};
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Baseline H.264 of 320 x 180 pixels, as x264 describes it.
const AVCC: &str =
    "0142c00cffe100196742c00cd901419f9f011000000300100000030320f142a48001000568cb83cb20";

/// A camera of the `default` account, and what it sends with.
#[derive(Clone, Debug)]
pub struct Registered {
    pub device: String,
    pub stream: String,
    pub media_stream: String,
    pub token: String,
}

/// Makes a device known, as a manager's script does.
pub fn register(server: &Server, external_id: &str) -> Registered {
    let manager = server.token(&["--role", "manager"]);
    let answer = server
        .post_json(
            "/graphql",
            &[("authorization", &format!("Bearer {manager}"))],
            &json!({
                "query": "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
                    device { id streams { id mediaStreamName } } credential { token } userErrors { message } } }",
                "variables": {"input": {"externalId": external_id, "name": external_id, "timeZone": "UTC"}},
            }),
        )
        .json();
    let made = &answer["data"]["registerDevice"];
    let text = |value: &serde_json::Value| {
        value.as_str().unwrap_or_else(|| panic!("not registered: {answer}")).to_owned()
    };
    Registered {
        device: text(&made["device"]["id"]),
        stream: text(&made["device"]["streams"][0]["id"]),
        media_stream: text(&made["device"]["streams"][0]["mediaStreamName"]),
        token: text(&made["credential"]["token"]),
    }
}

/// One video track.
pub fn header() -> UploadHeader {
    let hex = |n: usize| u8::from_str_radix(&AVCC[2 * n..2 * n + 2], 16).unwrap();
    UploadHeader {
        segment_uid: Some(*b"sixteen bytes id"),
        timecode_scale_ns: 1_000_000,
        tracks: vec![Track {
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
        }],
    }
}

/// The frames of a fragment, 40 ms each: length-prefixed units with bytes that `seed` decides.
pub fn frames(seed: u64, count: usize, bytes_each: usize) -> Vec<Bytes> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut frame = |first: bool| {
        let mut bytes = Vec::with_capacity(bytes_each + 5);
        bytes.extend_from_slice(&(bytes_each as u32 + 1).to_be_bytes());
        bytes.push(if first { 0x65 } else { 0x41 });
        while bytes.len() < bytes_each + 5 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(bytes_each + 5);
        Bytes::from(bytes)
    };
    (0..count).map(|n| frame(n == 0)).collect()
}

/// A whole fragment as it goes over the wire.
pub fn fragment(timecode_ms: u64, frames: &[Bytes]) -> Vec<u8> {
    let mut bytes = writer::cluster(timecode_ms).to_vec();
    for (n, frame) in frames.iter().enumerate() {
        let payload = Payload::from(frame.clone());
        bytes.extend_from_slice(&writer::simple_block(1, n as i16 * 40, n == 0, &payload));
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// Ends the fragment that is open.
pub fn end_of_fragment() -> Vec<u8> {
    let tag = SimpleTag { name: fragment::END_OF_FRAGMENT.into(), value: String::new() };
    writer::tags(&[tag]).to_vec()
}

/// An upload that is open.
#[derive(Debug)]
pub struct Upload {
    socket: TcpStream,
    answer: BufReader<TcpStream>,
    parser: AckParser,
    pub status: u16,
}

impl Upload {
    /// Sends the request's head and reads the answer's, before any byte of the body.
    pub fn open(
        address: SocketAddr,
        token: &str,
        media_stream: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut head = format!(
            "POST /putMedia HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             x-amzn-stream-name: {media_stream}\r\ntransfer-encoding: chunked\r\n"
        );
        let absolute = [
            ("x-amzn-fragment-timecode-type", "ABSOLUTE"),
            ("x-amzn-producer-start-timestamp", "0"),
        ];
        for (name, value) in if headers.is_empty() { &absolute[..] } else { headers } {
            head += &format!("{name}: {value}\r\n");
        }
        Self::request(address, &format!("{head}\r\n"))
    }

    /// The same with a head of any kind, up to its empty line.
    pub fn request(address: SocketAddr, head: &str) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(head.as_bytes())?;
        let mut answer = BufReader::new(socket.try_clone()?);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
        while line.trim_end() != "" {
            line.clear();
            answer.read_line(&mut line)?;
        }
        Ok(Self { socket, answer, parser: AckParser::new(), status })
    }

    /// Sends bytes of the body as one HTTP chunk.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_cut(bytes, |_| bytes.len().max(1))
    }

    /// Sends bytes of the body cut into HTTP chunks; `size` is asked with each one's place. Many
    /// small ones share a packet.
    pub fn send_cut(&mut self, bytes: &[u8], size: impl Fn(usize) -> usize) -> io::Result<()> {
        let mut packet = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + size(at)).min(bytes.len());
            packet.extend_from_slice(format!("{:x}\r\n", end - at).as_bytes());
            packet.extend_from_slice(&bytes[at..end]);
            packet.extend_from_slice(b"\r\n");
            at = end;
            if packet.len() >= 64 * 1024 || at == bytes.len() {
                self.socket.write_all(&packet)?;
                packet.clear();
            }
        }
        Ok(())
    }

    /// The other half of the same connection, so that one thread writes and one reads.
    pub fn reading(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        let answer = BufReader::new(socket.try_clone()?);
        assert!(self.answer.buffer().is_empty(), "something was read before");
        Ok(Self { socket, answer, parser: AckParser::new(), status: self.status })
    }

    /// Ends the body.
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.write_all(b"0\r\n\r\n")
    }

    /// The acknowledgement of the next HTTP chunk; `None` where the response has ended. Each chunk
    /// holds exactly one.
    pub fn ack(&mut self) -> io::Result<Option<Ack<String>>> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16)
            .map_err(|_| io::Error::other(format!("no chunk size in {line:?}")))?;
        let mut chunk = vec![0; size + 2];
        self.answer.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(None);
        }
        self.parser.push(&chunk[..size]);
        let ack = self.parser.next().map_err(io::Error::other)?;
        let ack = ack.unwrap_or_else(|| panic!("no whole acknowledgement in {chunk:?}"));
        assert_eq!(self.parser.next(), Ok(None), "two acknowledgements in one chunk");
        Ok(Some(ack))
    }

    /// Reads acknowledgements up to the fragment's PERSISTED.
    pub fn persisted(&mut self, timecode_ms: u64) -> io::Result<()> {
        loop {
            match self.ack()? {
                Some(Ack::Persisted { timecode, .. }) if timecode == timecode_ms => return Ok(()),
                Some(Ack::Error { error, .. }) => {
                    return Err(io::Error::other(format!("refused with {error:?}")));
                }
                Some(_) => {}
                None => return Err(io::Error::other("the answer ended")),
            }
        }
    }
}

/// Encodes 20 s of moving test pictures and a tone, with a key frame every two seconds, and streams
/// the file as a device of that name, as a camera would.
pub fn record(server: &Server, file: &Path, device: &str, size: &str, encode: &[&str]) {
    encoded(file, size, encode);
    stream(server, file, device, &[]);
}

/// The same without streaming it.
pub fn encoded(file: &Path, size: &str, encode: &[&str]) {
    let pictures = format!("testsrc2=size={size}:rate=25");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &pictures])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"])
        .args(["-t", "20", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p"])
        .args(encode)
        .arg(file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Streams a file as a device of that name, with further flags of the command.
pub fn stream(server: &Server, file: &Path, device: &str, flags: &[&str]) {
    let sent = lookback()
        .env("LOOKBACK_TOKEN", server.token(&["--role", "manager"]))
        .args(["camera", "--endpoint", &server.url(), "--device", device, "--fast"])
        .args(flags)
        .arg(file)
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
}
