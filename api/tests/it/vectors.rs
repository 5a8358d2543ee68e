//! What Amazon's own producers sent, replayed in the HTTP chunks in which they sent it, faults
//! included (folder LOOKBACK_VECTORS): each gets the acknowledgements that it needs, and the footage
//! is there once.

use crate::camera::{self, Registered, Upload};
use crate::media::{Viewer, documents};
use crate::server::Server;
use bytes::Bytes;
use lookback_wire::matroska::{Event, Limits, Reader};
use lookback_wire::{Ack, AckParser};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("LOOKBACK_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var_os("CI").is_none(), "LOOKBACK_VECTORS is not set");
        println!("left out: LOOKBACK_VECTORS names no recorded uploads");
    }
    folder
}

/// One recorded connection.
struct Recorded {
    head: String,
    body: Vec<u8>,
    chunks: Vec<usize>,
    acks: String,
}

impl Recorded {
    fn read(folder: &Path, connection: usize) -> Self {
        let name = |rest: &str| folder.join(format!("putmedia-{connection:02}.{rest}"));
        let text = |rest| std::fs::read_to_string(name(rest)).unwrap_or_default();
        let body = std::fs::read(name("mkv")).or_else(|_| std::fs::read(name("first400k.mkv")));
        let size = |line: &str| line.split_whitespace().nth(1)?.parse().ok();
        Self {
            head: text("head.txt"),
            body: body.unwrap(),
            chunks: text("chunks.txt").lines().filter_map(size).collect(),
            acks: text("acks.txt"),
        }
    }

    fn open(&self, server: &Server, camera: &Registered) -> Upload {
        let header = |name: &str| {
            let of = |line: &str| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            self.head.lines().find_map(of).unwrap_or_else(|| panic!("no {name} in {}", self.head))
        };
        let names = ["x-amzn-fragment-timecode-type", "x-amzn-producer-start-timestamp"];
        let values = names.map(header);
        let headers = [(names[0], values[0].as_str()), (names[1], values[1].as_str())];
        let (token, stream) = (&camera.token, &camera.media_stream);
        let upload = Upload::open(server.address, token, stream, &headers).unwrap();
        assert_eq!(upload.status, 200);
        upload
    }

    /// Sends the body as it was sent, and ends it or leaves; answers the acknowledgements.
    fn replay(&self, server: &Server, camera: &Registered, ends: bool) -> Vec<Ack<String>> {
        let mut upload = self.open(server, camera);
        let mut at = 0;
        for size in &self.chunks {
            upload.send(&self.body[at..at + size]).unwrap();
            at += size;
        }
        upload.send(&self.body[at..]).unwrap();
        if ends {
            upload.finish().unwrap();
            return std::iter::from_fn(|| upload.ack().unwrap()).collect();
        }
        let whole = self.fragments().iter().filter(|fragment| fragment.is_whole).count();
        let mut acks = Vec::new();
        let is_persisted = |ack: &Ack<String>| matches!(ack, Ack::Persisted { .. });
        while acks.iter().filter(|ack| is_persisted(ack)).count() < whole {
            acks.push(upload.ack().unwrap().expect("the answer goes on"));
        }
        acks
    }

    fn fragments(&self) -> Vec<Fragment> {
        let mut reader = Reader::new(Limits::default());
        reader.push(Bytes::copy_from_slice(&self.body));
        let mut fragments: Vec<Fragment> = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            match (event, fragments.last_mut()) {
                (Event::FragmentStart { timecode }, _) => {
                    fragments.push(Fragment { timecode, is_whole: false, payloads: Vec::new() });
                }
                (Event::Frame(frame), Some(open)) => {
                    open.payloads.push((frame.track, frame.payload.to_bytes()));
                }
                (Event::FragmentEnd { .. }, Some(open)) => open.is_whole = true,
                _ => {}
            }
        }
        fragments
    }
}

#[derive(Clone, Debug)]
struct Fragment {
    timecode: u64,
    /// Whether its end was sent, too.
    is_whole: bool,
    /// With their tracks.
    payloads: Vec<(u64, Bytes)>,
}

/// Which acknowledgements each fragment got, by its timecode.
fn told<N>(acks: &[Ack<N>]) -> BTreeMap<Option<u64>, Vec<&'static str>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ack in acks {
        let (timecode, kind) = match ack {
            Ack::Buffering { timecode, .. } => (Some(*timecode), "BUFFERING"),
            Ack::Received { timecode, .. } => (Some(*timecode), "RECEIVED"),
            Ack::Persisted { timecode, .. } => (Some(*timecode), "PERSISTED"),
            Ack::Error { timecode, .. } => (*timecode, "ERROR"),
            Ack::Idle => (None, "IDLE"),
        };
        told.entry(timecode).or_default().push(kind);
    }
    told
}

fn recorded_acks(text: &str) -> Vec<Ack<String>> {
    let mut parser = AckParser::new();
    text.lines().filter_map(|line| line.find('{').map(|at| &line[at..])).for_each(|line| {
        parser.push(line.as_bytes());
    });
    std::iter::from_fn(|| parser.next().unwrap()).collect()
}

/// What is read back is these fragments' frames, track by track.
fn check_footage(server: &Server, camera: &Registered, expected: &[Fragment]) {
    let by_track = |payloads: &mut dyn Iterator<Item = (u64, Bytes)>| {
        let mut tracks: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        payloads.for_each(|(track, bytes)| tracks.entry(track).or_default().push(bytes));
        tracks
    };
    let everything = Viewer::of(server, &camera.media_stream).everything();
    let documents = documents(&everything);
    assert_eq!(documents.len(), expected.len());
    let got = documents.iter().flat_map(|document| &document.frames);
    let got = by_track(&mut got.map(|frame| (frame.track, frame.payload.to_bytes())));
    let sent = by_track(&mut expected.iter().flat_map(|fragment| fragment.payloads.clone()));
    assert!(got == sent, "frames differ");
}

#[test]
fn whole_uploads_get_the_acknowledgements_that_were_recorded() {
    let Some(folder) = folder() else { return };
    let server = Server::start();
    for name in ["c-video-only", "c-audio-video", "kvssink-audio-video"] {
        let camera = camera::register(&server, name);
        let recorded = Recorded::read(&folder.join(name), 0);
        let acks = recorded.replay(&server, &camera, true);
        assert_eq!(told(&acks), told(&recorded_acks(&recorded.acks)), "{name}");
        check_footage(&server, &camera, &recorded.fragments());
    }
}

#[test]
fn a_connection_that_was_dropped_is_made_up_for_by_the_next() {
    let Some(folder) = folder() else { return };
    let server = Server::start();
    // Whether the client ended the body of the first connection.
    for (name, ends) in [("drop-gst", false), ("error-ack-5001-gst", true)] {
        let camera = camera::register(&server, name);
        let folder = folder.join("faults").join(name);
        let [first, second] = [0, 1].map(|connection| Recorded::read(&folder, connection));
        first.replay(&server, &camera, ends);
        let acks = second.replay(&server, &camera, true);
        let fragments = second.fragments();
        let told = told(&acks);
        for Fragment { timecode, .. } in &fragments {
            assert_eq!(told[&Some(*timecode)], ["BUFFERING", "RECEIVED", "PERSISTED"], "{name}");
        }
        assert_eq!(told.len(), fragments.len(), "{name}: {told:?}");
        // What the first one left unfinished came again.
        let resumed = fragments[0].timecode;
        let before = first.fragments().into_iter().filter(|kept| kept.timecode < resumed);
        let all: Vec<Fragment> = before.chain(fragments).collect();
        assert!(all.windows(2).all(|pair| pair[0].timecode < pair[1].timecode), "{name}");
        check_footage(&server, &camera, &all);
    }
}

#[test]
fn an_upload_of_nothing_but_a_tag_is_let_through() {
    let Some(folder) = folder() else { return };
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let folder = folder.join("faults/error-ack-4002-c");
    assert_eq!(Recorded::read(&folder, 1).replay(&server, &camera, true), []);
    // The connection after it, recorded into its first fragment.
    let next = Recorded::read(&folder, 2);
    let first = next.fragments().first().expect("a fragment begins").timecode;
    let mut upload = next.open(&server, &camera);
    upload.send(&next.body).unwrap();
    let ack = upload.ack().unwrap();
    assert!(matches!(ack, Some(Ack::Buffering { timecode, .. }) if timecode == first), "{ack:?}");
}
