//! Media read back through the Kinesis API: every fragment as it was uploaded, in the order in which
//! it arrived, for as long as somebody reads.

use crate::camera::{self, Registered, Upload};
use crate::server::{Answer, PATIENCE, Server};
use lookback_api::media_stream::MediaSettings;
use lookback_api::storage::embedded;
use lookback_wire::ebml::{Children, Header};
use lookback_wire::matroska::{Event, Limits, Reader, element, writer};
use lookback_wire::{Ack, Frame, SimpleTag, UploadHeader};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const FRAGMENT_MS: u64 = 800;
const EBML_ID: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A document of an answer.
#[derive(Clone, Debug)]
pub struct Document {
    pub header: Option<Arc<UploadHeader>>,
    pub timecode: Option<u64>,
    pub frames: Vec<Frame>,
    /// The service's own, by their names without what all of them begin with.
    pub service: BTreeMap<String, String>,
    /// What came with the upload.
    pub user: Vec<(String, String)>,
}

impl Document {
    fn read(bytes: &[u8]) -> Self {
        let mut document = Self {
            header: None,
            timecode: None,
            frames: Vec::new(),
            service: BTreeMap::new(),
            user: Vec::new(),
        };
        let mut reader = Reader::new(Limits::default());
        reader.push(bytes.to_vec().into());
        let mut events = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            events.push(event);
        }
        events.extend(reader.finish().unwrap());
        for event in events {
            match event {
                Event::Header(header) => document.header = Some(header),
                Event::FragmentStart { timecode } => document.timecode = Some(timecode),
                Event::Frame(frame) => document.frames.push(frame),
                Event::Tag(tag) => document.tag(tag),
                Event::FragmentEnd { .. } => {}
            }
        }
        if document.header.is_none() {
            tags_alone(bytes).into_iter().for_each(|tag| document.tag(tag));
        }
        document
    }

    fn tag(&mut self, tag: SimpleTag) {
        match tag.name.strip_prefix("AWS_KINESISVIDEO_") {
            Some(name) => drop(self.service.insert(name.into(), tag.value)),
            None => self.user.push((tag.name, tag.value)),
        }
    }
}

/// The tags of a document without tracks.
fn tags_alone(bytes: &[u8]) -> Vec<SimpleTag> {
    let ebml = Header::read(bytes).unwrap().unwrap();
    let rest = &bytes[ebml.len + ebml.size.unwrap() as usize..];
    let segment = Header::read(rest).unwrap().unwrap();
    let text = |of: &[u8], wanted| {
        let found = Children::of(of).flatten().find(|(id, _)| *id == wanted);
        String::from_utf8(found.map(|(_, value)| value.to_vec()).unwrap_or_default()).unwrap()
    };
    let mut found = Vec::new();
    for (id, tags) in Children::of(&rest[segment.len..]).flatten() {
        if id != element::TAGS {
            continue;
        }
        for (_, tag) in Children::of(tags).flatten() {
            found.extend(Children::of(tag).flatten().map(|(_, simple)| SimpleTag {
                name: text(simple, element::TAG_NAME),
                value: text(simple, element::TAG_STRING),
            }));
        }
    }
    found
}

/// The documents of an answer that has ended: consumers cut it where an EBML header begins.
pub fn documents(bytes: &[u8]) -> Vec<Document> {
    let starts: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == EBML_ID)
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| Document::read(&bytes[*start..end])).collect()
}

/// Somebody who reads and may not upload.
pub struct Viewer<'a> {
    server: &'a Server,
    token: String,
    media_stream: &'a str,
}

impl<'a> Viewer<'a> {
    pub fn of(server: &'a Server, media_stream: &'a str) -> Self {
        Self { server, token: server.token(&["--role", "viewer"]), media_stream }
    }

    /// Calls an operation on the stream, with further members of its input.
    pub fn call(&self, path: &str, mut input: Value) -> Answer {
        input["StreamName"] = self.media_stream.into();
        let authorization = format!("Bearer {}", self.token);
        self.server.post_json(path, &[("authorization", &authorization)], &input)
    }

    /// All fragments that begin in the span, page by page.
    pub fn list(&self, from_ms: u64, to_ms: u64, page: usize) -> Vec<Value> {
        let range = json!({
            "StartTimestamp": from_ms as f64 / 1e3,
            "EndTimestamp": to_ms as f64 / 1e3,
        });
        let mut input = json!({
            "MaxResults": page,
            "FragmentSelector": {
                "FragmentSelectorType": "PRODUCER_TIMESTAMP",
                "TimestampRange": range,
            },
        });
        let mut fragments = Vec::new();
        loop {
            let answer = self.call("/listFragments", input);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            let found = answer["Fragments"].as_array().unwrap();
            assert!(found.len() <= page);
            fragments.extend(found.iter().cloned());
            match answer["NextToken"].as_str() {
                Some(token) => input = json!({ "MaxResults": page, "NextToken": token }),
                None => return fragments,
            }
        }
    }

    /// Everything that the stream has, document after document.
    pub fn everything(&self) -> Vec<u8> {
        let numbers: Vec<Value> = self
            .list(0, 4_000_000_000_000, 1_000)
            .iter()
            .map(|fragment| fragment["FragmentNumber"].clone())
            .collect();
        let answer = self.call("/getMediaForFragmentList", json!({ "Fragments": numbers }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body
    }

    fn get_media(&self, selector: Value) -> Media {
        let input = json!({ "StreamName": self.media_stream, "StartSelector": selector });
        Media::open(self.server, &self.token, &input)
    }
}

/// An open GetMedia.
struct Media {
    answer: BufReader<TcpStream>,
    status: u16,
    received: Vec<u8>,
    /// Documents in it that are whole.
    whole: usize,
}

impl Media {
    fn open(server: &Server, token: &str, input: &Value) -> Self {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = input.to_string();
        let head = format!(
            "POST /getMedia HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = BufReader::new(socket);
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while line.trim_end() != "" {
            line.clear();
            answer.read_line(&mut line).unwrap();
        }
        Self { answer, status, received: Vec::new(), whole: 0 }
    }

    /// One HTTP chunk more; `false` at the end.
    fn receive(&mut self) -> bool {
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        let len = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; len + 2];
        self.answer.read_exact(&mut chunk).unwrap();
        // The last thing in a document, which no chunk reaches beyond.
        let name = b"AWS_KINESISVIDEO_CONTINUATION_TOKEN";
        let end = &chunk[len.saturating_sub(200)..len];
        self.whole += usize::from(end.windows(name.len()).any(|window| window == name));
        self.received.extend_from_slice(&chunk[..len]);
        len > 0
    }

    fn receive_documents(&mut self, count: usize) {
        while self.whole < count {
            assert!(self.receive(), "the answer ended");
        }
    }

    /// The next documents.
    fn take(&mut self, count: usize) -> Vec<Document> {
        self.receive_documents(count);
        self.whole = 0;
        documents(&std::mem::take(&mut self.received))
    }
}

fn upload(server: &Server, camera: &Registered) -> Upload {
    let mut upload =
        Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload.send(&writer::header(&camera::header())).unwrap();
    upload
}

/// A fragment of 20 frames with a tag, and its end.
fn fragment(at_ms: u64) -> Vec<u8> {
    let tag = SimpleTag { name: "motion".into(), value: at_ms.to_string() };
    let frames = camera::fragment(at_ms, &camera::frames(at_ms, 20, 500));
    [frames, writer::tags(&[tag]).to_vec(), camera::end_of_fragment()].concat()
}

/// Uploads fragments one after the other, so that each arrives at a time of its own.
fn send(upload: &mut Upload, starts_ms: impl IntoIterator<Item = u64>) {
    for at_ms in starts_ms {
        upload.send(&fragment(at_ms)).unwrap();
        upload.persisted(at_ms).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn timecodes(documents: &[Document]) -> Vec<u64> {
    documents.iter().map(|document| document.timecode.unwrap()).collect()
}

fn check_whole(document: &Document) {
    let at_ms = document.timecode.unwrap();
    assert_eq!(document.header.as_deref(), Some(&camera::header()));
    let frames = camera::frames(at_ms, 20, 500);
    assert_eq!(document.frames.len(), frames.len());
    for ((n, sent), got) in (0..).zip(&frames).zip(&document.frames) {
        assert_eq!(got.payload.to_bytes(), *sent);
        assert_eq!((got.timecode, got.key), (at_ms as i64 + n * 40, n == 0));
    }
    assert_eq!(document.user, [("motion".to_owned(), at_ms.to_string())]);
    let seconds = format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000);
    assert_eq!(document.service["PRODUCER_TIMESTAMP"], seconds);
}

#[test]
fn get_media_starts_where_it_is_told_and_follows() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    let mut uploading = upload(&server, &camera);
    send(&mut uploading, (0..5).map(at));

    let listed = viewer.list(start_ms, now_ms(), 1_000);
    assert_eq!(listed.len(), 5, "{listed:?}");
    let number = |n: usize| listed[n]["FragmentNumber"].clone();
    let token = viewer.get_media(json!({ "StartSelectorType": "EARLIEST" })).take(2);
    let token = &token[1].service["CONTINUATION_TOKEN"];
    let by_time =
        |kind, seconds: f64| json!({ "StartSelectorType": kind, "StartTimestamp": seconds });
    let start_s = |n: u64| at(n) as f64 / 1e3;
    let table = [
        (json!({ "StartSelectorType": "EARLIEST" }), 0),
        (json!({ "StartSelectorType": "NOW" }), 4),
        (json!({ "StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": number(1) }), 2),
        (json!({ "StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": "1" }), 0),
        (json!({ "StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": token }), 2),
        (by_time("SERVER_TIMESTAMP", listed[3]["ServerTimestamp"].as_f64().unwrap()), 3),
        (by_time("PRODUCER_TIMESTAMP", start_s(1)), 1),
        (by_time("PRODUCER_TIMESTAMP", start_s(1) + 0.001), 2),
        (by_time("PRODUCER_TIMESTAMP", 0.0), 0),
    ];
    let mut open = Vec::new();
    for (selector, first) in table {
        let mut media = viewer.get_media(selector.clone());
        assert_eq!(media.status, 200, "{selector}");
        let got = media.take(5 - first);
        assert_eq!(timecodes(&got), (first as u64..5).map(at).collect::<Vec<_>>(), "{selector}");
        for (document, n) in got.iter().zip(first..) {
            check_whole(document);
            let service = &document.service;
            assert_eq!(service["FRAGMENT_NUMBER"], number(n).as_str().unwrap());
            assert_eq!(service["CONTINUATION_TOKEN"], service["FRAGMENT_NUMBER"]);
            let server_s: f64 = service["SERVER_TIMESTAMP"].parse().unwrap();
            assert_eq!(Some(server_s), listed[n]["ServerTimestamp"].as_f64());
            let behind_s = listed[4]["ServerTimestamp"].as_f64().unwrap() - server_s;
            let behind_ms: f64 = service["MILLIS_BEHIND_NOW"].parse().unwrap();
            assert!((behind_ms - behind_s * 1e3).abs() < 0.5, "{behind_ms} {behind_s}");
        }
        open.push(media);
    }
    // All of them go on.
    send(&mut uploading, [at(5), at(6)]);
    for media in &mut open {
        let got = media.take(2);
        assert_eq!(timecodes(&got), [at(5), at(6)]);
        got.iter().for_each(check_whole);
    }
}

#[test]
fn get_media_leaves_out_no_fragment_that_was_longer_on_its_way() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;
    // It begins, and has its number; another upload's fragments overtake it.
    let mut slow = upload(&server, &camera);
    let (begin, rest) = {
        let whole = fragment(start_ms);
        (whole[..5_000].to_vec(), whole[5_000..].to_vec())
    };
    slow.send(&begin).unwrap();
    assert!(matches!(slow.ack().unwrap(), Some(Ack::Buffering { .. })));
    let mut fast = upload(&server, &camera);
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    send(&mut fast, [at(1), at(2)]);
    let mut media = viewer.get_media(json!({ "StartSelectorType": "EARLIEST" }));
    assert_eq!(timecodes(&media.take(2)), [at(1), at(2)]);
    slow.send(&rest).unwrap();
    slow.persisted(start_ms).unwrap();
    let late = media.take(1);
    assert_eq!(timecodes(&late), [start_ms]);
    // Who goes on from there does not get the others again.
    assert!(late[0].service["CONTINUATION_TOKEN"] > late[0].service["FRAGMENT_NUMBER"]);
    send(&mut fast, [at(3)]);
    assert_eq!(timecodes(&media.take(1)), [at(3)]);
}

#[test]
fn fragments_are_listed_by_either_time_and_page_by_page() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    send(&mut upload(&server, &camera), (0..7).map(at));
    // One of them came again with other pictures: by their starts the newer one stands for both.
    let other = camera::fragment(at(6), &camera::frames(1, 20, 400));
    let mut again = upload(&server, &camera);
    again.send(&[other, camera::end_of_fragment()].concat()).unwrap();
    again.persisted(at(6)).unwrap();

    let starts = |listed: &[Value]| -> Vec<u64> {
        let ms = |one: &Value| (one["ProducerTimestamp"].as_f64().unwrap() * 1e3).round() as u64;
        listed.iter().map(ms).collect()
    };
    for page in [1, 2, 3, 7, 1_000] {
        assert_eq!(starts(&viewer.list(at(0), at(6), page)), (0..7).map(at).collect::<Vec<_>>());
    }
    assert_eq!(starts(&viewer.list(at(1), at(3), 1)), [at(1), at(2), at(3)]);
    assert_eq!(starts(&viewer.list(at(1) + 1, at(3) - 1, 1)), [at(2)]);
    assert!(viewer.list(at(6) + 1, at(60), 10).is_empty());
    let listed = viewer.list(at(0), at(6), 10);
    for one in &listed {
        assert_eq!(one["FragmentLengthInMilliseconds"], FRAGMENT_MS);
        assert!(one["FragmentSizeInBytes"].as_u64().unwrap() > 20 * 400);
        assert_eq!(one["FragmentNumber"].as_str().unwrap().len(), 20);
    }

    let by_arrival = |from: &Value, to: f64, page: usize| -> Vec<Value> {
        let mut input = json!({ "MaxResults": page, "FragmentSelector": {
            "FragmentSelectorType": "SERVER_TIMESTAMP",
            "TimestampRange": { "StartTimestamp": from, "EndTimestamp": to },
        }});
        let mut found = Vec::new();
        loop {
            let answer = viewer.call("/listFragments", input).json();
            found.extend(answer["Fragments"].as_array().unwrap().iter().cloned());
            match answer["NextToken"].as_str() {
                Some(token) => input = json!({ "MaxResults": page, "NextToken": token }),
                None => return found,
            }
        }
    };
    for page in [1, 3, 8, 1_000] {
        let all = by_arrival(&listed[0]["ServerTimestamp"], now_ms() as f64 / 1e3 + 60.0, page);
        assert_eq!(starts(&all), [&(0..7).map(at).collect::<Vec<_>>()[..], &[at(6)]].concat());
    }
    let third = listed[2]["ServerTimestamp"].as_f64().unwrap();
    assert_eq!(starts(&by_arrival(&json!(third), third, 5)), [at(2)]);

    // Before all that is kept there is nothing, and by the service's clock that is an error.
    let range = json!({ "StartTimestamp": 1_000, "EndTimestamp": 2_000 });
    for (kind, status) in [("SERVER_TIMESTAMP", 400), ("PRODUCER_TIMESTAMP", 200)] {
        let selector = json!({ "FragmentSelectorType": kind, "TimestampRange": range });
        let answer = viewer.call("/listFragments", json!({ "FragmentSelector": selector }));
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[test]
fn fragments_are_answered_by_number_in_the_order_asked_for() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;
    let at = |n: u64| start_ms + n * FRAGMENT_MS;
    send(&mut upload(&server, &camera), (0..3).map(at));
    let listed = viewer.list(at(0), at(2), 10);
    let number = |n: usize| listed[n]["FragmentNumber"].as_str().unwrap();
    let amazons = "91343852333181432511524306419788296366724229586";
    let asked = [number(2), "7", number(0), amazons, number(2)];
    let answer = viewer.call("/getMediaForFragmentList", json!({ "Fragments": asked }));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("video/webm"));
    let got = documents(&answer.body);
    assert_eq!(got.len(), asked.len());
    for (document, asked) in got.iter().zip(asked) {
        assert_eq!(document.service["FRAGMENT_NUMBER"], asked);
    }
    for n in [0, 2, 4] {
        check_whole(&got[n]);
        let service = &got[n].service;
        assert_eq!(service["SERVER_SIDE_TIMESTAMP"], service["SERVER_TIMESTAMP"]);
        assert_eq!(service["PRODUCER_SIDE_TIMESTAMP"], service["PRODUCER_TIMESTAMP"]);
    }
    for n in [1, 3] {
        assert_eq!(got[n].service["EXCEPTION_ERROR_CODE"], "4000");
        assert!(got[n].frames.is_empty() && got[n].header.is_none());
    }
}

#[test]
fn what_is_not_kept_can_be_followed_and_is_promised_to_nobody() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let catalog = embedded::open_catalog(server.data_dir()).unwrap();
        let none =
            MediaSettings { retention_hours: Some(0), changes: 1, ..MediaSettings::default() };
        let stream = camera.stream.parse().unwrap();
        assert!(catalog.put_media_settings(stream, none).await.unwrap());
    });
    let start_ms = now_ms() - 60_000;
    let mut uploading = upload(&server, &camera);
    uploading.send(&[fragment(start_ms), fragment(start_ms + FRAGMENT_MS)].concat()).unwrap();
    let mut media = viewer.get_media(json!({ "StartSelectorType": "EARLIEST" }));
    assert_eq!(timecodes(&media.take(2)), [start_ms, start_ms + FRAGMENT_MS]);
    uploading.finish().unwrap();
    let acks: Vec<Ack<String>> = std::iter::from_fn(|| uploading.ack().unwrap()).collect();
    assert_eq!(acks.len(), 4, "{acks:?}");
    assert!(!acks.iter().any(|ack| matches!(ack, Ack::Persisted { .. })), "{acks:?}");
    assert!(viewer.list(0, now_ms(), 10).is_empty());
}

#[test]
fn bad_questions_are_refused_by_name() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let range = |from: f64, to: f64| {
        json!({ "FragmentSelector": {
            "FragmentSelectorType": "PRODUCER_TIMESTAMP",
            "TimestampRange": { "StartTimestamp": from, "EndTimestamp": to },
        }})
    };
    let with = |mut input: Value, name: &str, value: Value| {
        input[name] = value;
        input
    };
    let start = |selector| json!({ "StartSelector": selector });
    let kind = |kind: &str| json!({ "StartSelectorType": kind });
    let numbers = |fragments: Vec<&str>| json!({ "Fragments": fragments });
    let table = [
        ("/listFragments", json!({})),
        ("/listFragments", json!({ "NextToken": "bm9uZQ==" })),
        ("/listFragments", json!({ "NextToken": "?" })),
        ("/listFragments", with(range(0.0, 1.0), "MaxResults", json!(0))),
        ("/listFragments", with(range(0.0, 1.0), "MaxResults", json!(1_001))),
        ("/listFragments", with(range(0.0, 1.0), "MaxResults", json!("1"))),
        ("/listFragments", range(2.0, 1.0)),
        ("/listFragments", range(-1.0, 1.0)),
        ("/listFragments", range(0.0, 1e300)),
        ("/listFragments", json!({ "FragmentSelector": { "FragmentSelectorType": "NOW" } })),
        ("/getMedia", json!({})),
        ("/getMedia", start(kind("LATER"))),
        ("/getMedia", start(kind("SERVER_TIMESTAMP"))),
        ("/getMedia", start(kind("PRODUCER_TIMESTAMP"))),
        ("/getMedia", start(kind("FRAGMENT_NUMBER"))),
        ("/getMedia", start(kind("CONTINUATION_TOKEN"))),
        ("/getMedia", start(with(kind("FRAGMENT_NUMBER"), "AfterFragmentNumber", json!("x1")))),
        ("/getMedia", start(with(kind("FRAGMENT_NUMBER"), "AfterFragmentNumber", json!("")))),
        (
            "/getMedia",
            start(with(kind("FRAGMENT_NUMBER"), "AfterFragmentNumber", json!("9".repeat(129)))),
        ),
        ("/getMedia", start(with(kind("CONTINUATION_TOKEN"), "ContinuationToken", json!("a.b")))),
        ("/getMediaForFragmentList", json!({})),
        ("/getMediaForFragmentList", numbers(vec![])),
        ("/getMediaForFragmentList", numbers(vec!["1"; 1_001])),
        ("/getMediaForFragmentList", numbers(vec!["1", "-1"])),
    ];
    for (path, input) in table {
        let answer = viewer.call(path, input.clone());
        let told = (answer.status, answer.header("x-amzn-errortype"));
        assert_eq!(told, (400, Some("InvalidArgumentException")), "{path} {input}");
        assert!(answer.json()["Message"].is_string());
    }
    let nobody = Viewer::of(&server, "no-such-stream");
    let ok = [
        ("/listFragments", range(0.0, 1.0)),
        ("/getMedia", start(kind("NOW"))),
        ("/getMediaForFragmentList", numbers(vec!["1"])),
    ];
    for (path, input) in ok {
        let answer = nobody.call(path, input);
        let told = (answer.status, answer.header("x-amzn-errortype"));
        assert_eq!(told, (404, Some("ResourceNotFoundException")), "{path}");
    }
    assert!(viewer.list(0, now_ms(), 10).is_empty());
}

#[test]
fn readers_are_counted_and_forgotten_when_they_leave() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let now = || viewer.get_media(json!({ "StartSelectorType": "NOW" }));
    let open: Vec<Media> = (0..40).map(|_| now()).collect();
    assert_eq!(open.iter().filter(|media| media.status == 200).count(), 32);
    assert!(open.iter().all(|media| matches!(media.status, 200 | 400)));
    drop(open);
    let begun = Instant::now();
    while now().status != 200 {
        assert!(begun.elapsed() < PATIENCE, "readers that left are still counted");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_reader_that_does_not_read_holds_a_fragment_or_two() {
    const FRAGMENTS: u64 = 12;
    const MB: u64 = 1 << 20;
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;
    let mut uploading = upload(&server, &camera);
    for n in 0..FRAGMENTS {
        let at_ms = start_ms + n * FRAGMENT_MS;
        let large = camera::fragment(at_ms, &camera::frames(at_ms, 16, 512 << 10));
        uploading.send(&[large, camera::end_of_fragment()].concat()).unwrap();
        uploading.persisted(at_ms).unwrap();
    }
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    let before = resident();
    let mut readers: Vec<Media> =
        (0..4).map(|_| viewer.get_media(json!({ "StartSelectorType": "EARLIEST" }))).collect();
    assert!(readers[0].receive());
    // As long as it takes a reader that reads to get everything.
    let mut quick = viewer.get_media(json!({ "StartSelectorType": "EARLIEST" }));
    quick.receive_documents(FRAGMENTS as usize);
    let held = resident().saturating_sub(before);
    assert!(held < (4 + 1) * 2 * 8 * MB + 64 * MB, "{} MB are held", held / MB);
    for reader in &mut readers {
        reader.receive_documents(FRAGMENTS as usize);
    }
}

#[test]
fn rates_hold_where_they_are_switched_on() {
    let work = TempDir::new().unwrap();
    let config = work.path().join("lookback.toml");
    std::fs::write(&config, "[kinesis]\nquotas = true\n").unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let server = Server::start_with(&flags, TempDir::new().unwrap());
    let camera = camera::register(&server, "cam");
    let viewer = Viewer::of(&server, &camera.media_stream);
    let start_ms = now_ms() - 60_000;

    let mut uploading = upload(&server, &camera);
    let second = Upload::open(server.address, &camera.token, &camera.media_stream, &[]).unwrap();
    assert_eq!(second.status, 400);
    // Five at once, and then five a second.
    let begun = Instant::now();
    let body: Vec<u8> = (0..10).flat_map(|n| fragment(start_ms + n * FRAGMENT_MS)).collect();
    for part in body.chunks(4_000) {
        uploading.send(part).unwrap();
    }
    uploading.persisted(start_ms + 9 * FRAGMENT_MS).unwrap();
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());

    let range = json!({ "FragmentSelector": {
        "FragmentSelectorType": "PRODUCER_TIMESTAMP",
        "TimestampRange": { "StartTimestamp": 0, "EndTimestamp": 1 },
    }});
    let answers: Vec<Answer> =
        (0..30).map(|_| viewer.call("/listFragments", range.clone())).collect();
    let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
    assert_eq!(refused.header("x-amzn-errortype"), Some("ClientLimitExceededException"));
    let open: Vec<Media> =
        (0..4).map(|_| viewer.get_media(json!({ "StartSelectorType": "NOW" }))).collect();
    assert_eq!(open.iter().filter(|media| media.status == 200).count(), 3);
}
