//! A session over a simulated link and server that delay, reorder, refuse, go silent, break off at
//! any byte and are killed, all by a seed. A failing seed is printed; it replays the run.
//! LOOKBACK_SOAK=1 takes ten times as many.

use super::*;
use lookback_wire::matroska::reader::{Event as Read, Limits, Reader};
use std::collections::BTreeMap;

const FRAME_MS: u64 = 40;
const GOP_FRAMES: u64 = 25;
const CAMERA_MS: u64 = 60_000;
const STEP_MS: u64 = 10;
/// Long enough for every wait and the deepest buffer.
const DRAIN_MS: u64 = 240_000;
const EPOCH_MS: i64 = 1_795_329_502_000;
const LIMITS: BufferLimits = BufferLimits { bytes: 150_000, duration: Duration::from_secs(20) };

type Frames = Vec<(i64, Vec<u8>)>;

#[test]
fn every_fragment_is_persisted_or_reported_as_dropped() {
    let soak = std::env::var_os("LOOKBACK_SOAK").is_some_and(|value| value == "1");
    let seeds = if soak { 3_000 } else { 300 };
    let mut seen = BTreeMap::<&str, u64>::new();
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run());
        match run {
            Ok(counts) => {
                counts.into_iter().for_each(|(what, n)| *seen.entry(what).or_default() += n)
            }
            Err(cause) => {
                eprintln!("seed {seed} fails");
                std::panic::resume_unwind(cause);
            }
        }
    }
    eprintln!("{seeds} seeds: {seen:?}");
    for what in ["persisted", "resent", "dropped: full", "dropped: refused", "kills", "cuts"] {
        assert!(seen.get(what).is_some_and(|n| *n > 0), "no run had {what}: {seen:?}");
    }
}

struct Simulation {
    rng: Rng,
    base: Instant,
    now_ms: u64,
    session: Session,
    link: Option<SimulatedLink>,
    connecting_until_ms: Option<u64>,
    server_down_until_ms: u64,
    faults: bool,
    /// What the camera put.
    put: Frames,
    /// What the server keeps, kills notwithstanding, by the start of its fragment.
    kept: BTreeMap<i64, Frames>,
    dropped: Vec<FragmentInfo>,
    counts: BTreeMap<&'static str, u64>,
}

/// One connection and what the server knows of it.
struct SimulatedLink {
    /// Bytes on their way, with when they arrive.
    up: VecDeque<(u64, Bytes)>,
    /// Acknowledgements on their way.
    down: Vec<(u64, Ack<String>)>,
    /// Fragments that are being made durable, with when they are.
    committing: Vec<(u64, i64, Frames)>,
    reader: Reader,
    open: Option<(i64, Frames)>,
    last_timecode: i64,
    body_ended: bool,
    refusing: bool,
    /// Nothing arrives any more, on either side.
    silent: bool,
    closes_at_ms: Option<u64>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let parts = Parts {
            tracks: vec![Track::h264_length_prefixed(Bytes::from_static(&[1; 16]))],
            fragment: Duration::from_secs(1 + rng.below(2)),
            limits: LIMITS,
            timing: Timing { rotate_after: Duration::from_secs(15), ..Timing::default() },
            announcer: None,
            rng: Rng::seeded(seed ^ 0xdead_beef),
        };
        Self {
            rng,
            base: Instant::now(),
            now_ms: 0,
            session: Session::new(parts),
            link: None,
            connecting_until_ms: None,
            server_down_until_ms: 0,
            faults: true,
            put: Vec::new(),
            kept: BTreeMap::new(),
            dropped: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn run(mut self) -> BTreeMap<&'static str, u64> {
        let mut n = 0u64;
        while self.now_ms < CAMERA_MS {
            if self.now_ms.is_multiple_of(FRAME_MS) {
                let at_ms = EPOCH_MS + self.now_ms as i64;
                let key = n.is_multiple_of(GOP_FRAMES);
                let len = 20 + self.rng.below(600) as usize;
                let data: Vec<u8> = (0..len).map(|_| self.rng.next_u64() as u8).collect();
                self.put.push((at_ms, data.clone()));
                let captured_at = Timestamp::from_millis(at_ms);
                let frame = Frame { track: 1, captured_at, key, data: data.into() };
                self.session.put_frame(frame, self.now()).unwrap();
                assert!(!self.session.buffer.is_over());
                n += 1;
            }
            self.step();
        }
        self.faults = false;
        self.session.stop();
        while !self.session.is_finished() {
            assert!(self.now_ms < CAMERA_MS + DRAIN_MS, "it never finishes: {:?}", self.session);
            self.step();
        }
        let mut skipped = 0;
        let kept: BTreeMap<_, _> = self.kept.values().flatten().cloned().collect();
        for (at_ms, data) in &self.put {
            let is_in = |span: &FragmentInfo| {
                (span.start.as_millis()..span.end.as_millis()).contains(at_ms)
            };
            match kept.get(at_ms) {
                Some(kept) => assert_eq!(kept, data, "the frame of {at_ms} is kept otherwise"),
                None if self.dropped.iter().any(is_in) => {}
                None => skipped += 1,
            }
        }
        assert_eq!(skipped, self.session.health().frames_skipped, "frames are lost");
        *self.counts.entry("persisted").or_default() += self.kept.len() as u64;
        self.counts
    }

    fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.now_ms)
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        self.misbehave();
        self.serve();
        self.drive();
        while let Some(event) = self.session.poll_event() {
            self.check_event(event);
        }
    }

    fn drive(&mut self) {
        let now = self.now();
        if self.connecting_until_ms.is_some_and(|at| at <= self.now_ms) {
            self.connecting_until_ms = None;
            if self.now_ms < self.server_down_until_ms || self.faults && self.rng.below(10) == 0 {
                self.session.on_disconnected(LinkError::Closed, now);
            } else {
                self.link = Some(SimulatedLink::new());
                self.session.on_connected(now);
            }
        }
        while let Some(action) = self.session.poll_action(now) {
            match action {
                Action::Connect => {
                    assert!(self.link.is_none());
                    self.connecting_until_ms = Some(self.now_ms + self.rng.below(300));
                }
                Action::EndBody => {
                    if let Some(link) = &mut self.link {
                        link.body_ended = true;
                    }
                }
                Action::Abort => {
                    // What was handed over may still arrive, or some of it.
                    self.cut();
                }
            }
        }
        while self.link.as_ref().is_some_and(|link| link.up.len() < 4) {
            assert_eq!(
                self.session.wants_to_write(now),
                self.session.choose_fragment(now).is_some()
            );
            let Some(bytes) = self.session.poll_transmit(now) else { break };
            let delay_ms = self.rng.below(100);
            if let Some(link) = &mut self.link {
                assert!(!link.body_ended, "bytes after the end of the body");
                let arrives_ms =
                    link.up.back().map_or(0, |(at, _)| *at).max(self.now_ms + delay_ms);
                link.up.push_back((arrives_ms, bytes));
            }
        }
        if self.session.poll_action(now).is_none() && !self.session.wants_to_write(now) {
            let deadline = self.session.next_deadline();
            assert!(deadline.is_none_or(|at| at > now), "it would spin: {:?}", self.session);
        }
    }

    /// What the server does with what has arrived by now.
    fn serve(&mut self) {
        let now_ms = self.now_ms;
        let Some(link) = &mut self.link else { return };
        if !link.silent {
            while link.up.front().is_some_and(|(at, _)| *at <= now_ms) {
                if let Some((_, bytes)) = link.up.pop_front() {
                    link.receive(bytes, now_ms, &mut self.rng, self.faults);
                }
            }
            let mut n = 0;
            while n < link.committing.len() {
                if link.committing[n].0 > now_ms {
                    n += 1;
                    continue;
                }
                let (_, timecode, frames) = link.committing.remove(n);
                let ack = Ack::Persisted { timecode: timecode as u64, number: "1".to_owned() };
                link.down.push((now_ms + self.rng.below(100), ack));
                if self.kept.insert(timecode, frames).is_some() {
                    *self.counts.entry("resent").or_default() += 1;
                }
            }
            let done = link.body_ended && link.up.is_empty() && link.committing.is_empty();
            if done && link.closes_at_ms.is_none() {
                link.closes_at_ms = Some(now_ms + 200);
            }
        }
        let now = self.base + Duration::from_millis(now_ms);
        let mut n = 0;
        while n < link.down.len() {
            if link.down[n].0 > now_ms || link.silent {
                n += 1;
                continue;
            }
            let (_, ack) = link.down.remove(n);
            self.session.on_ack(ack, now);
        }
        if link.closes_at_ms.is_some_and(|at| at <= now_ms) {
            self.link = None;
            self.session.on_disconnected(LinkError::Closed, now);
        }
    }

    fn misbehave(&mut self) {
        if !self.faults {
            if let Some(link) = &mut self.link {
                link.silent = false;
            }
            return;
        }
        let now = self.now();
        match self.rng.below(2_000) {
            0 if self.link.is_some() => {
                *self.counts.entry("cuts").or_default() += 1;
                self.cut();
                self.session.on_disconnected(LinkError::Broken("cut".to_owned()), now);
            }
            1 => {
                *self.counts.entry("kills").or_default() += 1;
                self.server_down_until_ms = self.now_ms + self.rng.below(30_000);
                if self.link.take().is_some() {
                    self.session.on_disconnected(LinkError::Broken("kill".to_owned()), now);
                }
            }
            2 => {
                if let Some(link) = &mut self.link {
                    link.silent = true;
                }
            }
            _ => {}
        }
    }

    /// Breaks the connection off at any byte: the server gets a part of what was on its way, and may
    /// keep what it got whole.
    fn cut(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let on_its_way: usize = link.up.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut arrives = self.rng.below(on_its_way as u64 + 1) as usize;
        for (_, bytes) in std::mem::take(&mut link.up) {
            let part = bytes.slice(..bytes.len().min(arrives));
            arrives -= part.len();
            link.receive(part, self.now_ms, &mut self.rng, false);
        }
        for (_, timecode, frames) in link.committing {
            if self.rng.below(2) == 0 && self.kept.insert(timecode, frames).is_some() {
                *self.counts.entry("resent").or_default() += 1;
            }
        }
    }

    fn check_event(&mut self, event: Event) {
        match event {
            Event::FragmentPersisted { fragment, .. } => {
                let start = fragment.start.as_millis();
                assert!(self.kept.contains_key(&start), "{start} is not kept");
            }
            Event::FragmentDropped { fragment, reason } => {
                let what = match reason {
                    DropReason::BufferFull { .. } => "dropped: full",
                    DropReason::Refused(_) => "dropped: refused",
                };
                *self.counts.entry(what).or_default() += 1;
                self.dropped.push(fragment);
            }
            Event::EventsMissed { count } => panic!("{count} events were missed"),
            _ => {}
        }
    }
}

impl SimulatedLink {
    fn new() -> Self {
        Self {
            up: VecDeque::new(),
            down: Vec::new(),
            committing: Vec::new(),
            reader: Reader::new(Limits::default()),
            open: None,
            last_timecode: -1,
            body_ended: false,
            refusing: false,
            silent: false,
            closes_at_ms: None,
        }
    }

    fn receive(&mut self, bytes: Bytes, now_ms: u64, rng: &mut Rng, faults: bool) {
        self.reader.push(bytes);
        while let Some(event) = self.reader.next().unwrap() {
            if self.refusing {
                continue;
            }
            let mut ack = |ack| self.down.push((now_ms + rng.below(100), ack));
            match event {
                Read::FragmentStart { timecode } => {
                    let start = timecode as i64;
                    assert!(start > self.last_timecode, "{start} after {}", self.last_timecode);
                    self.last_timecode = start;
                    self.open = Some((start, Vec::new()));
                    ack(Ack::Buffering { timecode, number: "1".to_owned() });
                    if faults && rng.below(60) == 0 {
                        let error = [ErrorId::ArchivalError, ErrorId::InvalidMkvData]
                            [rng.below(2) as usize];
                        let named = rng.below(2) == 0;
                        let timecode = named.then_some(timecode);
                        self.down.push((now_ms, Ack::Error { timecode, number: None, error }));
                        self.refusing = true;
                    }
                }
                Read::Frame(frame) => {
                    if let Some((_, frames)) = &mut self.open {
                        frames.push((frame.timecode, frame.payload.to_bytes().to_vec()));
                    }
                }
                Read::FragmentEnd { .. } => {
                    if let Some((start, frames)) = self.open.take() {
                        ack(Ack::Received { timecode: start as u64, number: "1".to_owned() });
                        self.committing.push((now_ms + rng.below(400), start, frames));
                    }
                }
                Read::Header(_) | Read::Tag(_) => {}
            }
        }
    }
}

/// What the session does, driven by a server that keeps all and answers at once: the starts of the
/// fragments that each upload carried.
fn uploads(frames: &[Frame]) -> Vec<Vec<u64>> {
    let mut session = Session::new(Parts {
        tracks: vec![Track::h264()],
        fragment: Duration::from_secs(1),
        limits: BufferLimits::default(),
        timing: Timing::default(),
        announcer: None,
        rng: Rng::seeded(1),
    });
    let now = Instant::now();
    for frame in frames {
        session.put_frame(frame.clone(), now).unwrap();
    }
    session.stop();
    let mut uploads = Vec::new();
    for _ in 0..100 {
        match session.poll_action(now) {
            Some(Action::Connect) => {
                session.on_connected(now);
                uploads.push((Reader::new(Limits::default()), Vec::new()));
            }
            Some(Action::EndBody) => session.on_disconnected(LinkError::Closed, now),
            Some(Action::Abort) => panic!("it gave up: {session:?}"),
            None => {}
        }
        let Some((reader, starts)) = uploads.last_mut() else { continue };
        while let Some(bytes) = session.poll_transmit(now) {
            reader.push(bytes);
        }
        let mut kept = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            match event {
                Read::FragmentStart { timecode } => starts.push(timecode),
                Read::FragmentEnd { .. } => kept.extend(starts.last().copied()),
                _ => {}
            }
        }
        for timecode in kept {
            session.on_ack(Ack::Persisted { timecode, number: "1".to_owned() }, now);
        }
    }
    assert!(session.is_finished(), "{session:?}");
    uploads.into_iter().map(|(_, starts)| starts).collect()
}

#[test]
fn another_upload_begins_where_tracks_change_or_the_clock_goes_back() {
    // Real parameter sets, before a picture that nobody decodes; `level` is the SPS's.
    let key_frame = |at_ms, level| {
        let sps = [0x67, 0x42, 0xc0, level, 0xda, 0x02, 0x80, 0xf6, 0x84, 0, 0, 3, 0, 4, 0, 0, 3];
        let units: [&[u8]; 3] = [
            &[&sps[..], &[0, 0xc8, 0x3c, 0x58, 0xb9, 0x20]].concat(),
            &[0x68, 0xce, 0x3c, 0x80],
            &[0x65, 1, 2],
        ];
        let data: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect();
        let captured_at = Timestamp::from_millis(at_ms);
        Frame { track: 1, captured_at, key: true, data: data.into() }
    };
    let check = |frames: &[(i64, u8)], expected: &[&[u64]]| {
        let frames: Vec<_> = frames.iter().map(|(at, level)| key_frame(*at, *level)).collect();
        assert_eq!(uploads(&frames), expected);
    };
    check(&[(1000, 30), (2000, 30), (3000, 30)], &[&[1000, 2000, 3000]]);
    check(&[(1000, 30), (2000, 31), (3000, 31)], &[&[1000], &[2000, 3000]]);
    check(&[(5000, 30), (1000, 30), (2000, 30)], &[&[5000], &[1000, 2000]]);
    check(&[(5000, 30), (5000, 30), (4999, 31)], &[&[5000], &[5000], &[4999]]);
}
