//! Uploads made by the writer or by hand: what the reader gives, and what it refuses.

use bytes::Bytes;
use lookback_wire::matroska::{Event, Limits, ReadError, Reader, writer};
use lookback_wire::{ErrorId, Payload, SimpleTag, Track, TrackKind, UploadHeader};
use proptest::prelude::*;

/// All that a reader has to say of `bytes`, pushed in parts of the lengths in `cuts`.
pub type Reading = (Vec<Event>, Option<ReadError>);

pub fn read(bytes: &[u8], cuts: &[usize], limits: Limits) -> Reading {
    let mut reader = Reader::new(limits);
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut events = Vec::new();
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        reader.push(rest.split_to(cut.min(rest.len())));
        loop {
            match reader.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next(), Err(error.clone()), "stays in error");
                    return (events, Some(error));
                }
            }
        }
    }
    match reader.finish() {
        Ok(last) => {
            events.extend(last);
            (events, None)
        }
        Err(error) => (events, Some(error)),
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub tracks: usize,
    /// Whole ones.
    pub fragments: usize,
    pub frames: usize,
    pub keys: usize,
    pub tags: usize,
    pub error: Option<(ErrorId, Option<u64>)>,
}

pub fn summary((events, error): &Reading) -> Summary {
    let mut summary = Summary::default();
    for event in events {
        match event {
            Event::Header(header) => summary.tracks = header.tracks.len(),
            Event::FragmentStart { .. } => {}
            Event::Frame(frame) => {
                summary.frames += 1;
                summary.keys += usize::from(frame.key);
            }
            Event::Tag(_) => summary.tags += 1,
            Event::FragmentEnd { .. } => summary.fragments += 1,
        }
    }
    summary.error = error.as_ref().map(|error| (error.id, error.timecode));
    summary
}

fn video() -> Track {
    Track {
        number: 1,
        uid: 0xFEED,
        kind: TrackKind::Video,
        name: Some("main".into()),
        codec_id: "V_MPEG4/ISO/AVC".into(),
        codec_private: Bytes::from_static(&[1, 0x4D, 0x40, 0x1E, 0xFF]),
        default_duration_ns: Some(40_000_000),
        width: 640,
        height: 480,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    }
}

fn audio() -> Track {
    Track {
        number: 2,
        uid: 2,
        kind: TrackKind::Audio,
        name: None,
        codec_id: "A_AAC".into(),
        codec_private: Bytes::from_static(&[0x11, 0x90]),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 48_000.0,
        channels: 2,
        bit_depth: 16,
    }
}

/// An upload under construction; each method appends.
#[derive(Clone)]
struct Upload(Vec<u8>);

impl Upload {
    fn empty() -> Self {
        Self(Vec::new())
    }

    fn of(tracks: &[Track]) -> Self {
        let header = UploadHeader {
            segment_uid: Some([7; 16]),
            timecode_scale_ns: 1_000_000,
            tracks: tracks.to_vec(),
        };
        Self(writer::header(&header).into())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// An element with a size of 8 bytes.
    fn element(self, id: &[u8], body: &[u8]) -> Self {
        let size = (1_u64 << 56 | body.len() as u64).to_be_bytes();
        self.raw(id).raw(&size).raw(body)
    }

    fn cluster(self, timecode: u64) -> Self {
        self.raw(&writer::cluster(timecode))
    }

    fn block(self, track: u64, relative: i16, key: bool, payload: &[u8]) -> Self {
        let payload = Payload::from(payload.to_vec());
        let header = writer::simple_block(track, relative, key, &payload);
        self.raw(&header).raw(&payload.to_bytes())
    }

    fn key(self, relative: i16) -> Self {
        self.block(1, relative, true, b"key")
    }

    fn tag(self, name: &str, value: &str) -> Self {
        let tag = SimpleTag { name: name.into(), value: value.into() };
        self.raw(&writer::tags(&[tag]))
    }

    fn end_of_fragment(self) -> Self {
        self.tag(lookback_wire::fragment::END_OF_FRAGMENT, "")
    }

    fn tags(self, count: usize) -> Self {
        (0..count).fold(self, |upload, index| upload.tag(&format!("tag{index}"), "value"))
    }
}

/// Two fragments of two tracks, tags and both kinds of blocks.
pub fn small_upload() -> Vec<u8> {
    let group = Upload::empty().element(&[0xA1], b"\x81\0\x28\0frame").element(&[0x9B], &[40]);
    let group = group.element(&[0xFB], &[0xD8]).0;
    let upload = Upload::of(&[video(), audio()]).tag("early", "value");
    let upload = upload.cluster(1000).key(0).block(2, 3, true, b"sound").element(&[0xA0], &group);
    let upload = upload.tag("late", "value").cluster(2000).key(0).element(VOID, &[0; 9]);
    upload.block(2, 3, true, b"sound").end_of_fragment().0
}

const CLUSTER: &[u8] = &[0x1F, 0x43, 0xB6, 0x75];
const SEGMENT: &[u8] = &[0x18, 0x53, 0x80, 0x67];
const TRACKS: &[u8] = &[0x16, 0x54, 0xAE, 0x6B];
const VOID: &[u8] = &[0xEC];
const EBML: &[u8] = &[0x1A, 0x45, 0xDF, 0xA3, 0x80];

/// Events as one line: header, (fragment, frames as track@timecode with ! where key, #tags, )next.
fn shorthand(events: &[Event]) -> String {
    let each = events.iter().map(|event| match event {
        Event::Header(header) => format!("{} tracks", header.tracks.len()),
        Event::FragmentStart { timecode } => format!("({timecode}"),
        Event::Frame(frame) => {
            let key = if frame.key { "!" } else { "" };
            let duration = frame.duration.map_or(String::new(), |duration| format!("+{duration}"));
            format!("{}@{}{duration}{key}", frame.track, frame.timecode)
        }
        Event::Tag(tag) => format!("#{}", tag.name),
        Event::FragmentEnd { next_timecode: Some(next) } => format!("){next}"),
        Event::FragmentEnd { next_timecode: None } => ")".into(),
    });
    each.collect::<Vec<_>>().join(" ")
}

fn check(upload: Upload, expected: &str) {
    check_with(Limits::default(), upload, expected, None);
}

fn refuse(upload: Upload, expected: &str, id: ErrorId, timecode: Option<u64>, part: &str) {
    check_with(Limits::default(), upload, expected, Some((id, timecode, part)));
}

fn check_with(
    limits: Limits,
    upload: Upload,
    expected: &str,
    error: Option<(ErrorId, Option<u64>, &str)>,
) {
    for cut in [usize::MAX, 1, 7] {
        let cuts = vec![cut; upload.0.len().div_ceil(cut)];
        let (events, read_error) = read(&upload.0, &cuts, limits.clone());
        assert_eq!(shorthand(&events), expected, "in parts of {cut}: {read_error:?}");
        let found = read_error.as_ref().map(|error| (error.id, error.timecode));
        assert_eq!(found, error.map(|(id, timecode, _)| (id, timecode)), "{read_error:?}");
        if let (Some(found), Some((_, _, part))) = (&read_error, error) {
            assert!(found.message.contains(part), "{found} does not contain {part}");
        }
    }
}

#[test]
fn fragments_end_by_the_next_a_tag_or_the_end() {
    let upload = Upload::of(&[video()]);
    check(upload.clone(), "");
    check(upload.clone().cluster(5).key(0), "1 tracks (5 1@5! )");
    check(
        upload.clone().cluster(5).key(0).block(1, 40, false, b"p").cluster(100).key(0),
        "1 tracks (5 1@5! 1@45 )100 (100 1@100! )",
    );
    check(
        upload.clone().cluster(5).key(0).end_of_fragment().end_of_fragment().cluster(9).key(0),
        "1 tracks (5 1@5! ) (9 1@9! )",
    );
    check(upload.clone().end_of_fragment().cluster(5).key(0), "1 tracks (5 1@5! )");
}

#[test]
fn tags_belong_to_the_fragment_before_them() {
    let upload = Upload::of(&[video()]).tag("early", "");
    check(
        upload.clone().cluster(1).key(0).tag("a", "1").tag("b", "").cluster(2).key(0).tag("c", ""),
        "1 tracks #early (1 1@1! #a #b )2 (2 1@2! #c )",
    );
    check(
        upload.cluster(1).key(0).end_of_fragment().tag("late", "").cluster(2).key(0),
        "1 tracks #early (1 1@1! ) #late (2 1@2! )",
    );
    // AWS's own tags do not count.
    let ten =
        Upload::of(&[video()]).cluster(1).key(0).tags(10).tag("AWS_KINESISVIDEO_NOTIFICATION", "");
    assert_eq!(summary(&read(&ten.0, &[], Limits::default())).tags, 11);
    let twice = ten.cluster(2).key(0).tags(10);
    assert_eq!(summary(&read(&twice.0, &[], Limits::default())).tags, 21);
}

#[test]
fn known_sizes_read_as_unknown_ones_do() {
    let block = Upload::empty().element(&[0xA3], &[0x81, 0, 0, 0x80, b'k']).0;
    let timecode = Upload::empty().element(&[0xE7], &[5]).0;
    let cluster = |extra: &[u8]| {
        let body = [&timecode[..], &block, extra].concat();
        Upload::empty().element(CLUSTER, &body).0
    };
    let header = Upload::of(&[video()]).0;
    let at = header.windows(4).position(|id| id == SEGMENT).unwrap();
    let (ebml, children) = (&header[..at], &header[at + 5..]);
    let void = Upload::empty().element(VOID, &[0; 300]).0;
    let body = [children, &void, &cluster(&void)].concat();
    let known = Upload::empty().raw(ebml).element(SEGMENT, &body);
    check(known.clone(), "1 tracks (5 1@5! )");
    check(known.clone().element(VOID, b""), "1 tracks (5 1@5! )");
    let unknown = [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let long = Upload::empty().raw(ebml).raw(SEGMENT).raw(&unknown).raw(children).raw(CLUSTER);
    check(long.raw(&unknown).raw(&timecode).raw(&block), "1 tracks (5 1@5! )");
    let invalid = ErrorId::InvalidMkvData;
    refuse(known.raw(EBML), "1 tracks (5 1@5!", invalid, Some(5), "EBML out of place");
    let mut short = body;
    short.extend_from_slice(&[0xA3, 0x90]);
    let short = Upload::empty().raw(ebml).element(SEGMENT, &short).raw(&[0; 64]);
    refuse(short, "1 tracks (5 1@5!", invalid, Some(5), "no Cluster is open");
    let beyond = Upload::of(&[video()])
        .element(CLUSTER, &[&timecode[..], &block, &[0xEC, 0x82, 0]].concat());
    refuse(
        beyond.raw(&[0; 9]),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "beyond the end of its Cluster",
    );
}

#[test]
fn block_groups_are_frames() {
    let group =
        |parts: &[&[u8]]| Upload::of(&[video()]).cluster(10).element(&[0xA0], &parts.concat());
    let block = Upload::empty().element(&[0xA1], &[0x81, 0xFF, 0xFE, 0, b'k']).0;
    let duration = Upload::empty().element(&[0x9B], &[0, 40]).0;
    let reference = Upload::empty().element(&[0xFB], &[0xD8]).0;
    let invalid = ErrorId::InvalidMkvData;
    check(group(&[&block, &duration]), "1 tracks (10 1@8+40! )");
    check(group(&[&duration, &block]), "1 tracks (10 1@8+40! )");
    check(
        group(&[&block]).element(&[0xA0], &[&reference[..], &block].concat()),
        "1 tracks (10 1@8! 1@8 )",
    );
    refuse(group(&[&reference, &block]), "1 tracks (10", invalid, Some(10), "no key frame");
    refuse(group(&[&duration]), "1 tracks (10", invalid, Some(10), "without a Block");
    refuse(group(&[&block, &block]), "1 tracks (10", invalid, Some(10), "second Block");
}

#[test]
fn refuses_with_the_error_that_fits() {
    let invalid = ErrorId::InvalidMkvData;
    let upload = Upload::of(&[video()]);
    let open = upload.clone().cluster(5).key(0);
    let twice = Upload::of(&[video(), audio()]);

    refuse(Upload::empty().raw(b"GET / HTTP/1.1"), "", invalid, None, "before the Segment");
    refuse(Upload::empty().raw(&[0; 99]), "", invalid, None, "0x00");
    refuse(Upload::empty().raw(SEGMENT).raw(&[0xFF]), "", invalid, None, "no EBML header");
    refuse(upload.clone().raw(SEGMENT).raw(&[0xFF]), "", invalid, None, "one upload holds one");
    refuse(open.clone().raw(EBML), "1 tracks (5 1@5!", invalid, Some(5), "EBML out of place");
    refuse(
        open.clone().element(TRACKS, b""),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "Tracks out of place",
    );
    refuse(
        open.clone().element(&[0xE7], &[1]),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "second Timestamp",
    );
    refuse(open.clone().raw(&[0xA3, 0xFF]), "1 tracks (5 1@5!", invalid, Some(5), "unknown size");
    refuse(
        open.clone().raw(&[0xA3, 0x83, 0x81, 0, 0]),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "shorter than its header",
    );
    refuse(
        open.clone().block(1, 9, false, b""),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "has an empty frame",
    );
    refuse(
        open.clone().element(&[0xA3], &[0x81, 0, 0, 0x04, 0]),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "laced",
    );
    refuse(
        open.clone().element(VOID, &vec![0; 2 << 20]),
        "1 tracks (5 1@5!",
        invalid,
        Some(5),
        "above the limit",
    );
    refuse(
        open.clone().end_of_fragment().block(1, 1, false, b"p"),
        "1 tracks (5 1@5! )",
        invalid,
        None,
        "no Cluster is open",
    );
    refuse(
        upload.clone().cluster(5).block(1, 0, false, b"p"),
        "1 tracks (5",
        invalid,
        Some(5),
        "no key frame",
    );
    refuse(upload.clone().cluster(u64::MAX / 2), "1 tracks", invalid, None, "2262");
    // What came before a bad Cluster is whole.
    refuse(
        open.clone().raw(CLUSTER).raw(&[0xFF, 0xA3, 0x81]),
        "1 tracks (5 1@5! )",
        invalid,
        None,
        "before its Cluster's Timestamp",
    );
    refuse(
        open.clone().raw(CLUSTER).raw(&[0xFF]).cluster(9),
        "1 tracks (5 1@5! )",
        invalid,
        None,
        "without a Timestamp",
    );

    let earlier = ErrorId::FragmentTimecodeLesserThanPrevious;
    refuse(open.clone().cluster(5).key(0), "1 tracks (5 1@5! )", earlier, Some(5), "not after 5");
    refuse(open.clone().cluster(4).key(0), "1 tracks (5 1@5! )", earlier, Some(4), "not after 5");
    refuse(
        open.clone().block(1, 9, false, b"p").cluster(14).key(0),
        "1 tracks (5 1@5! 1@14 )",
        earlier,
        Some(14),
        "not after 14",
    );
    refuse(
        open.clone().end_of_fragment().cluster(5),
        "1 tracks (5 1@5! )",
        earlier,
        Some(5),
        "not after 5",
    );
    // Sound may overlap.
    check(
        twice
            .clone()
            .cluster(5)
            .key(0)
            .block(2, 30, false, b"a")
            .cluster(25)
            .key(0)
            .block(2, 0, false, b"a"),
        "2 tracks (5 1@5! 2@35 )25 (25 1@25! 2@25 )",
    );

    refuse(
        open.clone().block(3, 0, true, b"p"),
        "1 tracks (5 1@5!",
        ErrorId::TrackNumberMismatch,
        Some(5),
        "track 3",
    );
    refuse(
        twice.clone().cluster(5).key(0).cluster(9),
        "2 tracks (5 1@5!",
        ErrorId::FramesMissingForTrack,
        Some(5),
        "track 2",
    );
    refuse(
        twice.cluster(5).key(0),
        "2 tracks (5 1@5!",
        ErrorId::FramesMissingForTrack,
        Some(5),
        "track 2",
    );
    let numbered = |number| Track { number, ..audio() };
    refuse(
        Upload::of(&[1, 2, 3, 4].map(numbered)),
        "",
        ErrorId::MoreThanAllowedTracksFound,
        None,
        "more than 3",
    );
    refuse(Upload::of(&[audio(), audio()]), "", invalid, None, "number 2");
    refuse(Upload::of(&[]).cluster(1), "", invalid, None, "a Cluster before Tracks");

    let long = ErrorId::MaxFragmentDurationReached;
    refuse(
        open.clone().block(1, 20_001, false, b"p"),
        "1 tracks (5 1@5!",
        long,
        Some(5),
        "20001 ms",
    );
    check(open.clone().block(1, 20_000, false, b"p"), "1 tracks (5 1@5! 1@20005 )");
    let large = ErrorId::MaxFragmentSizeReached;
    refuse(
        open.clone().raw(&[0xA3, 0x13, 0x20, 0, 0]),
        "1 tracks (5 1@5!",
        large,
        Some(5),
        "52428800",
    );
    refuse(
        open.clone().raw(CLUSTER).raw(&[0x14, 0, 0, 0]),
        "1 tracks (5 1@5! )",
        large,
        None,
        "52428800",
    );

    let metadata = ErrorId::FragmentMetadataLimitReached;
    let (name, value) = ("n".repeat(129), "v".repeat(257));
    refuse(open.clone().tag(&name, ""), "1 tracks (5 1@5!", metadata, Some(5), "129");
    refuse(open.clone().tag("n", &value), "1 tracks (5 1@5!", metadata, Some(5), "257");
    let ten = "#tag0 #tag1 #tag2 #tag3 #tag4 #tag5 #tag6 #tag7 #tag8 #tag9";
    refuse(
        open.clone().tags(11),
        &format!("1 tracks (5 1@5! {ten}"),
        metadata,
        Some(5),
        "more than 10",
    );
    refuse(upload.tags(11), "", metadata, None, "more than 10");

    let cut = ErrorId::StreamReadError;
    refuse(
        open.clone().raw(&[0xA3, 0x85, 1]),
        "1 tracks (5 1@5!",
        cut,
        Some(5),
        "within an element",
    );
    refuse(open.clone().raw(&CLUSTER[..3]), "1 tracks (5 1@5!", cut, Some(5), "within an element");
    // Nothing of the fragment that is cut short is known.
    check(open.raw(CLUSTER).raw(&[0xFF, 0xE7]), "1 tracks (5 1@5! )");
}

#[test]
fn recordings_keep_no_upload_rules() {
    let recording = |upload: Upload, expected: &str| {
        check_with(Limits::recording(), upload, expected, None);
    };
    let upload = Upload::of(&[video(), audio()]);
    recording(
        upload
            .clone()
            .cluster(5)
            .block(1, 0, false, b"p")
            .cluster(5)
            .block(2, 0, true, b"a")
            .cluster(1),
        "2 tracks (5 1@5 )5 (5 2@5! )1 (1 )",
    );
    recording(
        upload.clone().element(&[0x1C, 0x53, 0xBB, 0x6B], &vec![0; 2 << 20]).cluster(1),
        "2 tracks (1 )",
    );
    let laced = upload.clone().cluster(9).element(&[0xA3], b"\x82\0\0\x84\x02aabbcc");
    recording(laced, "2 tracks (9 2@9! 2@9! 2@9! )");
    let block =
        Upload::empty().element(&[0xA1], b"\x81\0\0\x02\x01\x02abb").element(&[0x9B], &[9]).0;
    recording(upload.clone().cluster(9).element(&[0xA0], &block), "2 tracks (9 1@9! 1@49! )");
    let cut = upload.clone().cluster(9).key(0).raw(&[0xA3, 0x85, 0x81]);
    recording(cut, "2 tracks (9 1@9! )");
    let numbers = (1..=9).map(|number| Track { number, ..audio() }).collect::<Vec<_>>();
    recording(Upload::of(&numbers).cluster(1), "9 tracks (1 )");
    // Track 2 becomes one of subtitles.
    let mut subtitles = upload.cluster(1).key(0).block(2, 0, true, b"text").0;
    let kind = subtitles.windows(3).rposition(|bytes| bytes == [0x83, 0x81, 2]).unwrap();
    subtitles[kind + 2] = 17;
    recording(Upload(subtitles.clone()), "1 tracks (1 1@1! )");
    refuse(Upload(subtitles), "", ErrorId::InvalidMkvData, None, "neither video nor audio");
}

#[test]
fn large_frames_are_slices_of_what_was_pushed() {
    let upload = Upload::of(&[video()]).cluster(1).block(1, 0, true, &[7; 100_000]);
    let received = Bytes::from(upload.0);
    let mut reader = Reader::new(Limits::default());
    for part in received.chunks(9_000) {
        reader.push(received.slice_ref(part));
    }
    let range = received.as_ptr_range();
    let mut parts = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        if let Event::Frame(frame) = event {
            parts = frame.payload.into_parts();
        }
    }
    assert_eq!(parts.len(), 12);
    assert!(parts.iter().all(|part| range.contains(&part.as_ptr())));
}

fn any_track() -> impl Strategy<Value = Track> {
    let text = "[A-Za-z0-9/ ]{1,20}";
    let common = (text, proptest::option::of(text), proptest::collection::vec(any::<u8>(), 0..50));
    let video = (any::<bool>(), 0..5000_u32, 0..5000_u32, proptest::option::of(1..u64::MAX));
    (common, video, any::<u64>(), 0.0..192_000.0).prop_map(
        |((codec_id, name, private), (is_video, width, height, duration), uid, hz)| Track {
            number: 1,
            uid,
            kind: if is_video { TrackKind::Video } else { TrackKind::Audio },
            name,
            codec_id,
            codec_private: private.into(),
            default_duration_ns: duration,
            width: if is_video { width } else { 0 },
            height: if is_video { height } else { 0 },
            sampling_hz: if is_video { 0.0 } else { hz },
            channels: if is_video { 0 } else { width },
            bit_depth: if is_video { 0 } else { height },
        },
    )
}

fn any_cuts() -> impl Strategy<Value = Vec<usize>> {
    let cut = prop_oneof![1..4_usize, 1..400_usize, 1..20_000_usize];
    proptest::collection::vec(cut, 0..200)
}

proptest! {
    #[test]
    fn reads_what_the_writer_wrote(
        tracks in proptest::collection::vec(any_track(), 1..=3),
        timecode_scale_ns in 1..=1_000_000_u64,
        segment_uid: Option<[u8; 16]>,
        start in 0..1_u64 << 40,
        sizes in proptest::collection::vec((1..3_000_usize, 1..40_i16), 1..40),
        cuts in any_cuts(),
    ) {
        let mut tracks = tracks;
        for (number, track) in (1..).zip(&mut tracks) {
            track.number = number;
        }
        let header = UploadHeader { segment_uid, timecode_scale_ns, tracks };
        let mut bytes = writer::header(&header).to_vec();
        let mut expected = vec![Event::Header(header.clone().into())];
        let mut timecode = start;
        for (index, (size, step)) in sizes.into_iter().enumerate() {
            bytes.extend(writer::cluster(timecode));
            expected.push(Event::FragmentStart { timecode });
            for (relative, track) in (0..).zip(&header.tracks) {
                let payload = Payload::from(vec![index as u8; size]);
                bytes.extend(writer::simple_block(track.number, relative, true, &payload));
                bytes.extend(payload.to_bytes());
                expected.push(Event::Frame(lookback_wire::Frame {
                    track: track.number,
                    timecode: timecode as i64 + i64::from(relative),
                    key: true,
                    duration: None,
                    payload,
                }));
            }
            let tag = SimpleTag { name: format!("tag {index}"), value: "é".repeat(size % 128) };
            bytes.extend(writer::tags(std::slice::from_ref(&tag)));
            expected.push(Event::Tag(tag));
            timecode += 3 + step as u64;
            expected.push(Event::FragmentEnd { next_timecode: Some(timecode) });
        }
        expected.pop();
        expected.push(Event::FragmentEnd { next_timecode: None });
        prop_assert_eq!(read(&bytes, &cuts, Limits::default()), (expected, None));
    }
}
