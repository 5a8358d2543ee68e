//! Reads an upload (RFC 9559 as PutMedia narrows it) from bytes as they arrive, cut anywhere,
//! without copying frames.
//!
//! What players need of a frame is left to `codec`; lacing and encoded tracks are refused, since
//! their blocks are not samples.

use super::element::{self as el, is_segment_child};
use super::input::Input;
use crate::ebml::{self, Children, EbmlError, HEADER_BYTES_MAX, Header, Id, Vint};
use crate::fragment::END_OF_FRAGMENT;
use crate::{ErrorId, Frame, Payload, SimpleTag, Track, TrackKind, UploadHeader};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a reader refuses; each has its reason beside it in [`Limits::default`].
#[derive(Clone, Debug)]
pub struct Limits {
    pub source: Source,
    pub fragment_bytes: u64,
    pub fragment_ms: u64,
    pub tracks: usize,
    pub tags_per_fragment: usize,
    pub tag_name_bytes: usize,
    pub tag_value_bytes: usize,
    /// Any element that is kept whole while it is read: all but Segment, Cluster and blocks.
    pub element_bytes: u64,
    /// Any element that is left out.
    pub skipped_bytes: u64,
    pub codec_private_bytes: u64,
    /// SimpleTags within SimpleTags.
    pub depth: usize,
}

/// What the bytes are, and with that which rules hold beyond Matroska's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A live upload: fragments in order (4004), each begins with a key frame (4006), lasts no
    /// longer than it may (4002) and has a frame of every track (4011).
    Upload,
    /// A file as muxers write it, whose clusters begin anywhere. Tracks that are neither video nor
    /// audio are left out.
    Recording,
}

impl Default for Limits {
    /// For uploads: what Kinesis Video Streams accepts ("Amazon Kinesis Video Streams quotas"), so
    /// that no producer made for it is refused.
    fn default() -> Self {
        Self {
            source: Source::Upload,
            // The quota is 50 MB; the larger reading of it.
            fragment_bytes: 50 << 20,
            // The quota, between a fragment's earliest and latest frame.
            fragment_ms: 20_000,
            // The quota.
            tracks: 3,
            // The quota. AWS's own tags are counted apart, up to as many again.
            tags_per_fragment: 10,
            // The quotas.
            tag_name_bytes: 128,
            tag_value_bytes: 256,
            // Tracks with the largest codec privates fit, and 20 of the largest tags.
            element_bytes: 256 << 10,
            // Live muxers pad with a few KiB of Void; more is not footage.
            skipped_bytes: 1 << 20,
            // Parameter sets take below 1 KiB; 64 KiB leaves room for H.265 with SEI messages.
            codec_private_bytes: 64 << 10,
            // Live producers do not nest them at all.
            depth: 4,
        }
    }
}

impl Limits {
    /// For reading a recording from a file that its owner chose: bounded in memory, otherwise wide.
    pub fn recording() -> Self {
        Self {
            source: Source::Recording,
            // Only a block is held in memory at a time; muxers end clusters at some MB.
            fragment_bytes: 1 << 30,
            // Clusters are not fragments here.
            fragment_ms: u64::MAX,
            // Recordings have further languages and subtitles.
            tracks: 64,
            // Muxers write statistics of each track as tags.
            tags_per_fragment: 4096,
            tag_name_bytes: 1 << 10,
            tag_value_bytes: 1 << 20,
            element_bytes: 16 << 20,
            // Cues and attachments (fonts, covers) are as large as they are; skipping costs nothing.
            skipped_bytes: u64::MAX,
            codec_private_bytes: 1 << 20,
            depth: 8,
        }
    }
}

/// What the bytes hold, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Once an upload, before its first fragment.
    Header(Arc<UploadHeader>),
    /// A Cluster and its Timecode were seen.
    FragmentStart {
        timecode: u64,
    },
    Frame(Frame),
    /// Tags of the fragment that is open or has just ended; before the first fragment, of the
    /// first. [`END_OF_FRAGMENT`] is not among them: it is [`Event::FragmentEnd`].
    Tag(SimpleTag),
    /// The fragment is whole: the next Cluster began (then with its timecode), an
    /// END_OF_FRAGMENT tag came, or the upload ended.
    FragmentEnd {
        next_timecode: Option<u64>,
    },
}

/// Why an upload is refused, and at which fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    pub id: ErrorId,
    /// Of the fragment that it concerns; `None` before a fragment's Timecode was read.
    pub timecode: Option<u64>,
    /// Names the element, the value and the cause.
    pub message: String,
}

/// The reader. After an error it stays in error.
///
/// ```
/// use lookback_wire::matroska::{Event, Limits, Reader};
///
/// let mut reader = Reader::new(Limits::default());
/// reader.push(bytes::Bytes::from_static(&[0x1A, 0x45, 0xDF, 0xA3, 0x80]));
/// while let Some(event) = reader.next()? {
///     if let Event::Frame(frame) = event {
///         println!("{} bytes", frame.payload.len());
///     }
/// }
/// # Ok::<(), lookback_wire::matroska::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    input: Input,
    /// Bytes of the upload that were read, so where the next element begins.
    offset: u64,
    /// Bytes of a left-out element that are still to come.
    skip: u64,
    /// Master elements that are open, outermost first.
    open: Vec<Open>,
    ebml_seen: bool,
    segment_seen: bool,
    info: Option<Info>,
    tracks: Option<Tracks>,
    header: Option<Arc<UploadHeader>>,
    /// Tags that came before the first Cluster.
    early_tags: Vec<SimpleTag>,
    tags: TagCount,
    /// A Cluster began whose Timecode is still to come.
    cluster_unnamed: bool,
    /// Where the newest Cluster began.
    cluster_offset: u64,
    fragment: Option<Fragment>,
    /// The newest fragment that is whole, to judge the next one's timecode by.
    previous: Option<Ended>,
    group: Group,
    events: VecDeque<Event>,
    error: Option<ReadError>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: Id,
    /// Where its body ends, where its size is known.
    end: Option<u64>,
}

#[derive(Debug)]
struct Info {
    segment_uid: Option<[u8; 16]>,
    timecode_scale_ns: u64,
}

#[derive(Debug)]
struct Tracks {
    kept: Vec<Track>,
    /// Numbers of tracks that are neither video nor audio, whose frames are left out.
    left_out: Vec<u64>,
    /// The index in `kept` of the track that fragments are cut at.
    lead: usize,
}

/// The fragment that is being read.
#[derive(Debug)]
struct Fragment {
    timecode: u64,
    earliest: i64,
    latest: i64,
    latest_of_lead: Option<i64>,
    /// For each track, whether it has had a frame.
    seen: Vec<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    timecode: u64,
    latest_of_lead: Option<i64>,
}

/// What a BlockGroup has held so far.
#[derive(Debug, Default)]
struct Group {
    block: Option<Payload>,
    duration: Option<u64>,
    references: bool,
}

#[derive(Debug, Default)]
struct TagCount {
    of_application: usize,
    of_service: usize,
}

/// A block's own header (RFC 9559 §10.1).
struct BlockHeader {
    track: u64,
    relative_timecode: i16,
    flags: u8,
    len: usize,
}

const KEY: u8 = 0x80;
const LACING: u8 = 0x06;
/// A track number of up to 8 bytes, a timecode of 2 and the flags.
const BLOCK_HEADER_BYTES_MAX: usize = 11;
const DEFAULT_TIMECODE_SCALE_NS: u64 = 1_000_000;
/// A second, the coarsest unit that producers may choose.
const TIMECODE_SCALE_NS_MAX: u64 = 1_000_000_000;
/// Tags of this prefix are the service's own, such as END_OF_FRAGMENT.
const SERVICE_TAG_PREFIX: &str = "AWS";

impl Reader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            offset: 0,
            skip: 0,
            open: Vec::new(),
            ebml_seen: false,
            segment_seen: false,
            info: None,
            tracks: None,
            header: None,
            early_tags: Vec::new(),
            tags: TagCount::default(),
            cluster_unnamed: false,
            cluster_offset: 0,
            fragment: None,
            previous: None,
            group: Group::default(),
            events: VecDeque::new(),
            error: None,
        }
    }

    /// Hands over bytes. Then call [`Reader::next`] until it has no more. After an error they are
    /// dropped.
    pub fn push(&mut self, bytes: Bytes) {
        if self.error.is_none() {
            self.input.push(bytes);
        }
    }

    /// The next event, or `None` until more bytes are pushed. Events that precede an error come
    /// before it.
    #[allow(clippy::should_implement_trait)] // an iterator's `None` would mean the end
    pub fn next(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(error) = &self.error {
                return Err(error.clone());
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => self.fail(error),
            }
        }
    }

    /// The upload has ended: the events of its last fragment, if that is whole. Bytes of an
    /// element that was cut short are an error, and their fragment is not ended.
    pub fn finish(&mut self) -> Result<Vec<Event>, ReadError> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        let end = if self.cluster_unnamed {
            // Of the fragment that was cut short nothing is known, and the one before it is whole.
            self.end_fragment(None)
        } else if self.skip > 0 || self.input.len() > 0 {
            Err(self.cut_short("an element"))
        } else {
            match self.open.iter().find(|open| open.id != el::SEGMENT && open.end.is_some()) {
                Some(open) => Err(self.cut_short(open.id)),
                None => self.end_fragment(None),
            }
        };
        match end {
            Ok(()) => {
                events.extend(self.events.drain(..));
                Ok(events)
            }
            Err(error) => {
                self.fail(error.clone());
                Err(error)
            }
        }
    }

    fn cut_short(&self, what: impl std::fmt::Display) -> ReadError {
        let message = format!("the upload ends at byte {} within {what}", self.end_offset());
        self.error(ErrorId::StreamReadError, message)
    }

    fn end_offset(&self) -> u64 {
        self.offset.saturating_add(self.input.len() as u64)
    }

    fn fail(&mut self, mut error: ReadError) {
        if self.cluster_unnamed {
            // The fragment before is whole, whatever the new Cluster holds.
            if let Err(earlier) = self.end_fragment(None) {
                error = earlier;
            }
        }
        self.input.clear();
        self.error = Some(error);
    }

    /// An error of the fragment that is being read.
    fn error(&self, id: ErrorId, message: String) -> ReadError {
        let timecode = self.fragment.as_ref().filter(|_| !self.cluster_unnamed);
        ReadError { id, timecode: timecode.map(|fragment| fragment.timecode), message }
    }

    fn invalid(&self, message: impl std::fmt::Display) -> ReadError {
        let message = format!("{message} (at byte {})", self.offset);
        self.error(ErrorId::InvalidMkvData, message)
    }

    /// Reads one element, or one master element's header. `false` where more bytes are needed.
    fn step(&mut self) -> Result<bool, ReadError> {
        if self.skip > 0 {
            let wanted = usize::try_from(self.skip).unwrap_or(usize::MAX);
            let skipped = self.input.skip(wanted) as u64;
            self.offset = self.offset.saturating_add(skipped);
            self.skip -= skipped;
            return Ok(self.skip == 0);
        }
        if let Some(open) = self.open.last()
            && open.end.is_some_and(|end| self.offset >= end)
        {
            let id = open.id;
            self.open.pop();
            if id == el::BLOCK_GROUP {
                self.end_group()?;
            }
            return Ok(true);
        }
        let mut scratch = [0; HEADER_BYTES_MAX];
        let header = match Header::read(self.input.peek(&mut scratch)) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(false),
            Err(error) => return Err(self.invalid(error)),
        };
        match self.open.last().copied() {
            None => self.at_top(header),
            Some(Open { id: el::SEGMENT, .. }) => self.in_segment(header),
            Some(Open { id: el::CLUSTER, end }) => {
                if end.is_none() && (is_segment_child(header.id) || is_top(header.id)) {
                    self.open.pop();
                    return Ok(true);
                }
                self.in_cluster(header)
            }
            Some(_) => self.in_group(header),
        }
    }

    fn at_top(&mut self, header: Header) -> Result<bool, ReadError> {
        match header.id {
            el::EBML if !self.ebml_seen => {
                let Some(body) = self.whole(header)? else { return Ok(false) };
                self.read_ebml(&body)?;
                self.ebml_seen = true;
                Ok(true)
            }
            el::SEGMENT if self.ebml_seen && !self.segment_seen => {
                self.segment_seen = true;
                self.enter(header)
            }
            el::VOID | el::CRC_32 => self.leave_out(header),
            // Amazon's C producer, after an ERROR acknowledgement, opens a connection for nothing
            // but an END_OF_FRAGMENT tag.
            el::TAGS if !self.ebml_seen => self.leave_out(header),
            el::EBML | el::SEGMENT => Err(self.out_of_place(header.id)),
            id if self.segment_seen => Err(self.invalid(format!("{id} after the Segment"))),
            id => Err(self.invalid(format!("{id} before the Segment"))),
        }
    }

    fn in_segment(&mut self, header: Header) -> Result<bool, ReadError> {
        match header.id {
            el::INFO if self.info.is_none() && self.header.is_none() => {
                let Some(body) = self.whole(header)? else { return Ok(false) };
                self.info = Some(read_info(&body).map_err(|cause| self.invalid(cause))?);
                Ok(true)
            }
            el::TRACKS if self.tracks.is_none() => {
                let Some(body) = self.whole(header)? else { return Ok(false) };
                self.tracks = Some(self.read_tracks(&body)?);
                Ok(true)
            }
            el::TAGS => {
                let Some(body) = self.whole(header)? else { return Ok(false) };
                self.read_tags(&body)?;
                Ok(true)
            }
            el::CLUSTER => self.begin_cluster(header),
            el::EBML
            | el::SEGMENT
            | el::TRACKS
            | el::TIMECODE
            | el::SIMPLE_BLOCK
            | el::BLOCK_GROUP
            | el::BLOCK => Err(self.out_of_place(header.id)),
            _ => self.leave_out(header),
        }
    }

    fn in_cluster(&mut self, header: Header) -> Result<bool, ReadError> {
        let end = self.body_end(header);
        let fragment_bytes = end.saturating_sub(self.cluster_offset);
        if fragment_bytes > self.limits.fragment_bytes {
            return Err(self.fragment_too_large(fragment_bytes));
        }
        match header.id {
            el::TIMECODE => {
                if !self.cluster_unnamed {
                    return Err(self.invalid("a second Timestamp in one Cluster"));
                }
                let Some(body) = self.whole(header)? else { return Ok(false) };
                let timecode = ebml::unsigned(&body).map_err(|cause| self.invalid(cause))?;
                self.begin_fragment(timecode)?;
                Ok(true)
            }
            el::SIMPLE_BLOCK => {
                let Some(block) = self.block(header)? else { return Ok(false) };
                self.read_block(block, None)?;
                Ok(true)
            }
            el::BLOCK_GROUP => {
                self.group = Group::default();
                self.enter(header)
            }
            id if is_segment_child(id) || is_top(id) => Err(self.out_of_place(id)),
            _ => self.leave_out(header),
        }
    }

    fn in_group(&mut self, header: Header) -> Result<bool, ReadError> {
        match header.id {
            el::BLOCK => {
                let Some(block) = self.block(header)? else { return Ok(false) };
                if self.group.block.replace(block).is_some() {
                    return Err(self.invalid("a second Block in one BlockGroup"));
                }
                Ok(true)
            }
            el::BLOCK_DURATION => {
                let Some(body) = self.whole(header)? else { return Ok(false) };
                let duration = ebml::unsigned(&body).map_err(|cause| self.invalid(cause))?;
                self.group.duration = Some(duration);
                Ok(true)
            }
            el::REFERENCE_BLOCK => {
                self.group.references = true;
                self.leave_out(header)
            }
            _ => self.leave_out(header),
        }
    }

    fn end_group(&mut self) -> Result<(), ReadError> {
        let mut group = std::mem::take(&mut self.group);
        match group.block.take() {
            Some(block) => self.read_block(block, Some(&group)),
            None => Err(self.invalid("a BlockGroup without a Block")),
        }
    }

    fn out_of_place(&self, id: Id) -> ReadError {
        let cause = match id {
            el::EBML | el::SEGMENT if self.segment_seen => "one upload holds one of it",
            el::TRACKS if self.tracks.is_some() => "one upload holds one of it",
            el::SEGMENT => "no EBML header came before it",
            el::TIMECODE | el::SIMPLE_BLOCK | el::BLOCK_GROUP | el::BLOCK => "no Cluster is open",
            _ => "the element that it lies in has no place for it",
        };
        self.invalid(format!("{id} out of place: {cause}"))
    }

    fn fragment_too_large(&self, bytes: u64) -> ReadError {
        let limit = self.limits.fragment_bytes;
        let message = format!("fragment of at least {bytes} bytes is above the limit of {limit}");
        self.error(ErrorId::MaxFragmentSizeReached, message)
    }

    /// Where an element's body ends; its beginning, where its size is unknown.
    fn body_end(&self, header: Header) -> u64 {
        self.offset.saturating_add(header.len as u64).saturating_add(header.size.unwrap_or(0))
    }

    /// Checks an element's size against the element that it lies in, and returns it.
    fn known_size(&self, header: Header) -> Result<u64, ReadError> {
        let id = header.id;
        let size = header.size.ok_or_else(|| self.invalid(EbmlError::UnknownSize { id }))?;
        self.check_within_parents(header)?;
        Ok(size)
    }

    fn check_within_parents(&self, header: Header) -> Result<(), ReadError> {
        let end = self.body_end(header);
        match self.open.iter().find(|open| open.end.is_some_and(|open_end| end > open_end)) {
            None => Ok(()),
            Some(parent) => Err(self.invalid(format!(
                "{} of {} bytes reaches beyond the end of its {}",
                header.id,
                header.size.unwrap_or(0),
                parent.id
            ))),
        }
    }

    /// Opens a master element whose children are read one by one.
    fn enter(&mut self, header: Header) -> Result<bool, ReadError> {
        if header.size.is_some() || header.id == el::BLOCK_GROUP {
            self.known_size(header)?;
        } else {
            self.check_within_parents(header)?;
        }
        let end = header.size.map(|_| self.body_end(header));
        self.consume(header.len);
        self.open.push(Open { id: header.id, end });
        Ok(true)
    }

    fn leave_out(&mut self, header: Header) -> Result<bool, ReadError> {
        let size = self.known_size(header)?;
        if size > self.limits.skipped_bytes {
            let limit = self.limits.skipped_bytes;
            let id = header.id;
            return Err(self.invalid(format!("{id} of {size} bytes is above the limit of {limit}")));
        }
        self.consume(header.len);
        self.skip = size;
        Ok(true)
    }

    /// An element's body once it is all there.
    fn whole(&mut self, header: Header) -> Result<Option<Bytes>, ReadError> {
        let size = self.known_size(header)?;
        let limit = self.limits.element_bytes;
        if size > limit {
            let id = header.id;
            return Err(self.invalid(format!("{id} of {size} bytes is above the limit of {limit}")));
        }
        Ok(self.body(header, size).map(|body| body.to_bytes()))
    }

    /// A block's body once it is all there.
    fn block(&mut self, header: Header) -> Result<Option<Payload>, ReadError> {
        if self.cluster_unnamed {
            return Err(self.invalid(format!("{} before its Cluster's Timestamp", header.id)));
        }
        let size = self.known_size(header)?;
        Ok(self.body(header, size))
    }

    fn body(&mut self, header: Header, size: u64) -> Option<Payload> {
        let size = usize::try_from(size).ok()?;
        if self.input.len() < header.len.saturating_add(size) {
            return None;
        }
        self.consume(header.len);
        self.offset = self.offset.saturating_add(size as u64);
        Some(self.input.take(size))
    }

    fn consume(&mut self, bytes: usize) {
        self.input.skip(bytes);
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    fn read_ebml(&self, body: &[u8]) -> Result<(), ReadError> {
        for child in Children::of(body) {
            let (id, value) = child.map_err(|cause| self.invalid(cause))?;
            let most = match id {
                el::EBML_READ_VERSION => 1,
                el::EBML_MAX_ID_LENGTH => 4,
                el::EBML_MAX_SIZE_LENGTH => 8,
                el::DOC_TYPE => {
                    let doc_type = ebml::string(value);
                    if !matches!(doc_type.as_str(), "matroska" | "webm") {
                        let cause = format!("DocType {doc_type:?} is neither matroska nor webm");
                        return Err(self.invalid(cause));
                    }
                    continue;
                }
                _ => continue,
            };
            let value = ebml::unsigned(value).map_err(|cause| self.invalid(cause))?;
            if value > most {
                return Err(self.invalid(format!("{id} is {value}, above {most}")));
            }
        }
        Ok(())
    }

    fn read_tracks(&self, body: &[u8]) -> Result<Tracks, ReadError> {
        let mut kept: Vec<Track> = Vec::new();
        let mut left_out = Vec::new();
        for child in Children::of(body) {
            let (id, entry) = child.map_err(|cause| self.invalid(cause))?;
            if id != el::TRACK_ENTRY {
                continue;
            }
            if kept.len() + left_out.len() == self.limits.tracks {
                let message = format!("more than {} tracks", self.limits.tracks);
                return Err(self.error(ErrorId::MoreThanAllowedTracksFound, message));
            }
            let entry = read_track(entry).map_err(|cause| self.invalid(cause))?;
            let track = entry.track;
            let limit = self.limits.codec_private_bytes;
            if track.codec_private.len() as u64 > limit {
                return Err(self.invalid(format!(
                    "CodecPrivate of {} bytes is above the limit of {limit}",
                    track.codec_private.len()
                )));
            }
            let number = track.number;
            if kept
                .iter()
                .map(|track| track.number)
                .chain(left_out.iter().copied())
                .any(|n| n == number)
            {
                return Err(self.invalid(format!("two tracks have the number {number}")));
            }
            match (entry.kind, self.limits.source) {
                (Some(kind), _) => kept.push(Track { kind, ..track }),
                (None, Source::Recording) => left_out.push(number),
                (None, Source::Upload) => {
                    return Err(self.invalid(format!("track {number} is neither video nor audio")));
                }
            }
        }
        if kept.is_empty() {
            return Err(self.invalid("Tracks holds no video and no audio"));
        }
        let lead = kept.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0);
        Ok(Tracks { kept, left_out, lead })
    }

    fn read_tags(&mut self, body: &[u8]) -> Result<(), ReadError> {
        let mut tags = Vec::new();
        collect_tags(body, el::TAGS, self.limits.depth, &mut tags)
            .map_err(|cause| self.invalid(cause))?;
        let mut fragment_ends = false;
        for tag in tags {
            if tag.name == END_OF_FRAGMENT {
                fragment_ends = true;
                continue;
            }
            self.check_tag(&tag)?;
            if self.header.is_some() {
                self.events.push_back(Event::Tag(tag));
            } else {
                self.early_tags.push(tag);
            }
        }
        if fragment_ends { self.end_fragment(None) } else { Ok(()) }
    }

    fn check_tag(&mut self, tag: &SimpleTag) -> Result<(), ReadError> {
        let limits = &self.limits;
        let refused = if tag.name.len() > limits.tag_name_bytes {
            let (bytes, limit) = (tag.name.len(), limits.tag_name_bytes);
            Some(format!("TagName of {bytes} bytes is above the limit of {limit}"))
        } else if tag.value.len() > limits.tag_value_bytes {
            let (bytes, limit, name) = (tag.value.len(), limits.tag_value_bytes, &tag.name);
            Some(format!("TagString of {name:?} has {bytes} bytes, above the limit of {limit}"))
        } else {
            let count = if tag.name.starts_with(SERVICE_TAG_PREFIX) {
                &mut self.tags.of_service
            } else {
                &mut self.tags.of_application
            };
            *count += 1;
            (*count > limits.tags_per_fragment)
                .then(|| format!("more than {} tags in a fragment", limits.tags_per_fragment))
        };
        match refused {
            Some(message) => Err(self.error(ErrorId::FragmentMetadataLimitReached, message)),
            None => Ok(()),
        }
    }

    fn begin_cluster(&mut self, header: Header) -> Result<bool, ReadError> {
        if self.header.is_none() {
            let Some(tracks) = &self.tracks else {
                return Err(self.invalid("a Cluster before Tracks"));
            };
            let info = self.info.take();
            let header = Arc::new(UploadHeader {
                segment_uid: info.as_ref().and_then(|info| info.segment_uid),
                timecode_scale_ns: info
                    .map_or(DEFAULT_TIMECODE_SCALE_NS, |info| info.timecode_scale_ns),
                tracks: tracks.kept.clone(),
            });
            self.events.push_back(Event::Header(Arc::clone(&header)));
            self.events.extend(self.early_tags.drain(..).map(Event::Tag));
            self.header = Some(header);
        } else if self.cluster_unnamed {
            return Err(self.invalid("a Cluster without a Timestamp"));
        }
        if let Some(size) = header.size.filter(|size| *size > self.limits.fragment_bytes) {
            self.cluster_unnamed = true;
            return Err(self.fragment_too_large(size));
        }
        self.cluster_offset = self.offset;
        self.cluster_unnamed = true;
        self.enter(header)
    }

    fn scale_ns(&self) -> u64 {
        self.header.as_ref().map_or(DEFAULT_TIMECODE_SCALE_NS, |header| header.timecode_scale_ns)
    }

    fn begin_fragment(&mut self, timecode: u64) -> Result<(), ReadError> {
        // Within this range no later sum or product of a timecode overflows.
        let scale_ns = self.scale_ns();
        let in_range = timecode.checked_mul(scale_ns).is_some_and(|ns| ns <= i64::MAX as u64);
        if !in_range {
            let cause =
                format!("Timestamp {timecode} of {scale_ns} ns each is beyond the year 2262");
            return Err(self.invalid(cause));
        }
        let newest = match &self.fragment {
            Some(fragment) => {
                let Fragment { timecode, latest_of_lead, .. } = *fragment;
                Some(Ended { timecode, latest_of_lead })
            }
            None => self.previous,
        };
        // Kinesis compares with the latest frame of any track. Audio of real muxers overlaps by a
        // packet, which harms nobody, so the track that fragments are cut at decides.
        let not_after = newest.and_then(|newest| {
            let latest = newest.latest_of_lead.unwrap_or(newest.timecode as i64);
            let latest = latest.max(newest.timecode as i64);
            (self.limits.source == Source::Upload && timecode as i64 <= latest).then_some(latest)
        });
        self.end_fragment(not_after.is_none().then_some(timecode))?;
        self.cluster_unnamed = false;
        if let Some(latest) = not_after {
            return Err(ReadError {
                id: ErrorId::FragmentTimecodeLesserThanPrevious,
                timecode: Some(timecode),
                message: format!(
                    "fragment timecode {timecode} is not after {latest}, the latest of the \
                     fragment before it"
                ),
            });
        }
        if self.previous.is_some() {
            self.tags = TagCount::default();
        }
        let tracks = self.tracks.as_ref().map_or(0, |tracks| tracks.kept.len());
        self.fragment = Some(Fragment {
            timecode,
            earliest: i64::MAX,
            latest: i64::MIN,
            latest_of_lead: None,
            seen: vec![false; tracks],
        });
        self.events.push_back(Event::FragmentStart { timecode });
        Ok(())
    }

    fn end_fragment(&mut self, next_timecode: Option<u64>) -> Result<(), ReadError> {
        let Some(fragment) = self.fragment.take() else { return Ok(()) };
        let Fragment { timecode, latest_of_lead, .. } = fragment;
        self.previous = Some(Ended { timecode, latest_of_lead });
        if self.limits.source == Source::Upload
            && let Some(missing) = fragment.seen.iter().position(|seen| !seen)
        {
            let number = self.tracks.as_ref().and_then(|tracks| tracks.kept.get(missing));
            let number = number.map_or(0, |track| track.number);
            return Err(ReadError {
                id: ErrorId::FramesMissingForTrack,
                timecode: Some(timecode),
                message: format!("fragment {timecode} has no frame of track {number}"),
            });
        }
        self.events.push_back(Event::FragmentEnd { next_timecode });
        Ok(())
    }

    /// `group` is what else the BlockGroup held; a SimpleBlock has none.
    fn read_block(&mut self, mut block: Payload, group: Option<&Group>) -> Result<(), ReadError> {
        let header = read_block_header(&block).map_err(|cause| self.invalid(cause))?;
        let Some(tracks) = &self.tracks else { return Err(self.invalid("a block before Tracks")) };
        let Some(index) = tracks.kept.iter().position(|track| track.number == header.track) else {
            if tracks.left_out.contains(&header.track) {
                return Ok(());
            }
            let message = format!("block of track {}, which Tracks has not", header.track);
            return Err(self.error(ErrorId::TrackNumberMismatch, message));
        };
        let leads = index == tracks.lead;
        let lead_is_video =
            tracks.kept.get(tracks.lead).is_some_and(|track| track.kind == TrackKind::Video);
        if header.flags & LACING != 0 {
            return Err(self.invalid(format!("block of track {} is laced", header.track)));
        }
        block.advance(header.len);
        if block.is_empty() {
            return Err(self.invalid(format!("block of track {} is empty", header.track)));
        }
        let key = group.map_or(header.flags & KEY != 0, |group| !group.references);
        let scale_ns = self.scale_ns();
        let source = self.limits.source;
        let fragment_ms = self.limits.fragment_ms;
        let Some(fragment) = &mut self.fragment else {
            return Err(self.invalid("a block after the end of its fragment"));
        };
        let timecode = (fragment.timecode as i64).saturating_add(header.relative_timecode.into());
        if source == Source::Upload
            && leads
            && lead_is_video
            && !key
            && fragment.latest_of_lead.is_none()
        {
            let cause = format!("fragment's first frame of track {} is no key frame", header.track);
            return Err(self.invalid(cause));
        }
        fragment.earliest = fragment.earliest.min(timecode);
        fragment.latest = fragment.latest.max(timecode);
        let span = fragment.latest.abs_diff(fragment.earliest);
        let span_ms = u128::from(span) * u128::from(scale_ns) / 1_000_000;
        if span_ms > u128::from(fragment_ms) {
            let message = format!("fragment of {span_ms} ms is above the limit of {fragment_ms}");
            return Err(self.error(ErrorId::MaxFragmentDurationReached, message));
        }
        if leads {
            fragment.latest_of_lead = fragment.latest_of_lead.max(Some(timecode));
        }
        if let Some(seen) = fragment.seen.get_mut(index) {
            *seen = true;
        }
        self.events.push_back(Event::Frame(Frame {
            track: header.track,
            timecode,
            key,
            duration: group.and_then(|group| group.duration),
            payload: block,
        }));
        Ok(())
    }
}

fn is_top(id: Id) -> bool {
    matches!(id, el::EBML | el::SEGMENT)
}

fn read_block_header(block: &Payload) -> Result<BlockHeader, String> {
    let mut bytes = [0; BLOCK_HEADER_BYTES_MAX];
    let copied = block.copy_to(&mut bytes);
    let bytes = bytes.get(..copied).unwrap_or_default();
    let number = Vint::read(bytes).map_err(|cause| format!("block's track number: {cause}"))?;
    let number = number.ok_or("block is cut short within its track number")?;
    match bytes.get(number.len..) {
        Some(&[high, low, flags, ..]) => Ok(BlockHeader {
            track: number.value,
            relative_timecode: i16::from_be_bytes([high, low]),
            flags,
            len: number.len + 3,
        }),
        _ => Err(format!("block of {copied} bytes is shorter than its header")),
    }
}

fn read_info(body: &[u8]) -> Result<Info, String> {
    let mut info = Info { segment_uid: None, timecode_scale_ns: DEFAULT_TIMECODE_SCALE_NS };
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        match id {
            el::SEGMENT_UID => info.segment_uid = value.try_into().ok(),
            el::TIMECODE_SCALE => {
                let ns = ebml::unsigned(value).map_err(|cause| cause.to_string())?;
                if !(1..=TIMECODE_SCALE_NS_MAX).contains(&ns) {
                    return Err(format!("{id} of {ns} ns is not from 1 ns to 1 s"));
                }
                info.timecode_scale_ns = ns;
            }
            _ => {}
        }
    }
    Ok(info)
}

/// A TrackEntry; `kind` is `None` where it is neither video nor audio.
struct Entry {
    kind: Option<TrackKind>,
    track: Track,
}

fn read_track(body: &[u8]) -> Result<Entry, String> {
    let mut kind = None;
    let mut track = Track {
        number: 0,
        uid: 0,
        kind: TrackKind::Video,
        name: None,
        codec_id: String::new(),
        codec_private: Bytes::new(),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    let in_entry = Children::of(body);
    for child in in_entry {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        let number = || ebml::unsigned(value).map_err(|cause| format!("{id}: {cause}"));
        match id {
            el::TRACK_NUMBER => track.number = number()?,
            el::TRACK_UID => track.uid = number()?,
            el::TRACK_TYPE => {
                kind = match number()? {
                    1 => Some(TrackKind::Video),
                    2 => Some(TrackKind::Audio),
                    _ => None,
                }
            }
            el::TRACK_NAME => track.name = Some(ebml::string(value)),
            el::CODEC_ID => track.codec_id = ebml::string(value),
            // A copy: it outlives the upload's buffers.
            el::CODEC_PRIVATE => track.codec_private = Bytes::copy_from_slice(value),
            el::DEFAULT_DURATION => {
                track.default_duration_ns = Some(number()?).filter(|ns| *ns > 0);
            }
            el::VIDEO | el::AUDIO => read_track_media(value, &mut track)?,
            el::CONTENT_ENCODINGS => {
                return Err(format!("track {} has ContentEncodings", track.number));
            }
            _ => {}
        }
    }
    if track.number == 0 {
        return Err("TrackNumber is missing or 0".into());
    }
    if track.codec_id.is_empty() {
        return Err(format!("track {} has no CodecID", track.number));
    }
    if let Some(kind) = kind {
        track.kind = kind;
    }
    Ok(Entry { kind, track })
}

fn read_track_media(body: &[u8], track: &mut Track) -> Result<(), String> {
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        let number = || {
            let number = ebml::unsigned(value).map_err(|cause| format!("{id}: {cause}"))?;
            u32::try_from(number).map_err(|_| format!("{id} {number} is above 32 bits"))
        };
        match id {
            el::PIXEL_WIDTH => track.width = number()?,
            el::PIXEL_HEIGHT => track.height = number()?,
            el::CHANNELS => track.channels = number()?,
            el::BIT_DEPTH => track.bit_depth = number()?,
            el::SAMPLING_FREQUENCY => {
                let hz = ebml::float(value).map_err(|cause| format!("{id}: {cause}"))?;
                if !hz.is_finite() || hz < 0.0 {
                    return Err(format!("{id} is {hz}"));
                }
                track.sampling_hz = hz;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Appends the SimpleTags of a Tags, Tag or SimpleTag element, the outer before the inner.
fn collect_tags(
    body: &[u8],
    parent: Id,
    depth: usize,
    tags: &mut Vec<SimpleTag>,
) -> Result<(), String> {
    if parent == el::SIMPLE_TAG {
        let mut tag = SimpleTag { name: String::new(), value: String::new() };
        for child in Children::of(body) {
            let (id, value) = child.map_err(|cause| cause.to_string())?;
            match id {
                el::TAG_NAME => tag.name = ebml::string(value),
                el::TAG_STRING => tag.value = ebml::string(value),
                _ => {}
            }
        }
        if tag.name.is_empty() {
            return Err("SimpleTag has no TagName".into());
        }
        tags.push(tag);
    }
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        match (parent, id) {
            (el::TAGS, el::TAG) | (el::TAG, el::SIMPLE_TAG) => {
                collect_tags(value, id, depth, tags)?;
            }
            (el::SIMPLE_TAG, el::SIMPLE_TAG) => match depth.checked_sub(1) {
                Some(depth) => collect_tags(value, id, depth, tags)?,
                None => return Err("SimpleTags are nested too deeply".into()),
            },
            _ => {}
        }
    }
    Ok(())
}
