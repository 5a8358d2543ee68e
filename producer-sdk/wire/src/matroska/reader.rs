//! Reads an upload (RFC 9559 as PutMedia narrows it) from bytes as they arrive, cut anywhere,
//! without copying frames.
//!
//! What players need of a frame is left to `codec`. Encoded tracks are refused, since their frames
//! are not samples; so are laced blocks, but for recordings.

use super::block::{BlockHeader, Lacing, split};
use super::element::{self as el, is_segment_child};
use super::header::{DEFAULT_TIMECODE_SCALE_NS, Info, check_ebml, read_info, read_track};
use super::input::Input;
use super::tags::read_tags;
use crate::ebml::{self, Children, EbmlError, HEADER_BYTES_MAX, Header, Id};
use crate::fragment::END_OF_FRAGMENT;
use crate::{ErrorId, Frame, Payload, SimpleTag, Track, TrackKind, UploadHeader};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

pub use super::limits::{Limits, Source};

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
    /// Bytes that must be there before it is worth looking at them again.
    wanted: usize,
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
struct Tracks {
    kept: Vec<Track>,
    /// Numbers of tracks that are neither video nor audio, whose frames are left out.
    left_out: Vec<u64>,
    /// The index in `kept` of the track that fragments are cut at.
    lead: usize,
    lead_is_video: bool,
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

/// Tags of this prefix are the service's own, such as END_OF_FRAGMENT.
const SERVICE_TAG_PREFIX: &str = "AWS";

impl Reader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            offset: 0,
            skip: 0,
            wanted: 0,
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
        if self.input.len() < self.wanted {
            return Ok(false);
        }
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
                check_ebml(&body).map_err(|cause| self.invalid(cause))?;
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
        self.wanted = header.len.saturating_add(size);
        if self.input.len() < self.wanted {
            return None;
        }
        self.wanted = 0;
        self.consume(header.len);
        self.offset = self.offset.saturating_add(size as u64);
        Some(self.input.take(size))
    }

    fn consume(&mut self, bytes: usize) {
        self.input.skip(bytes);
        self.offset = self.offset.saturating_add(bytes as u64);
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
        let video = kept.iter().position(|track| track.kind == TrackKind::Video);
        let (lead, lead_is_video) = (video.unwrap_or(0), video.is_some());
        Ok(Tracks { kept, left_out, lead, lead_is_video })
    }

    fn read_tags(&mut self, body: &[u8]) -> Result<(), ReadError> {
        let tags = read_tags(body, self.limits.depth).map_err(|cause| self.invalid(cause))?;
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
            let Info { segment_uid, timecode_scale_ns } = self.info.take().unwrap_or_default();
            let header = Arc::new(UploadHeader {
                segment_uid,
                timecode_scale_ns,
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
        let header = BlockHeader::read(&block).map_err(|cause| self.invalid(cause))?;
        let (Some(tracks), Some(fragment)) = (&self.tracks, &self.fragment) else {
            return Err(self.invalid("a block outside of a fragment"));
        };
        let number = header.track;
        let Some(index) = tracks.kept.iter().position(|track| track.number == number) else {
            if tracks.left_out.contains(&number) {
                return Ok(());
            }
            let message = format!("block of track {number}, which Tracks has not");
            return Err(self.error(ErrorId::TrackNumberMismatch, message));
        };
        block.advance(header.len);
        let frame = Frame {
            track: number,
            timecode: (fragment.timecode as i64).saturating_add(header.relative_timecode.into()),
            key: group.map_or(header.key, |group| !group.references),
            duration: group.and_then(|group| group.duration),
            payload: block,
        };
        match (header.lacing, self.limits.source) {
            (Lacing::None, _) => self.take_frame(index, frame),
            (_, Source::Upload) => Err(self.invalid(format!("block of track {number} is laced"))),
            (lacing, Source::Recording) => self.take_laced_frames(index, frame, lacing),
        }
    }

    /// `block` is the frames as they lie in it. Only the first has a timecode of its own; the others
    /// follow by the track's DefaultDuration, or by their share of the BlockDuration.
    fn take_laced_frames(
        &mut self,
        index: usize,
        mut block: Frame,
        lacing: Lacing,
    ) -> Result<(), ReadError> {
        let payload = std::mem::take(&mut block.payload);
        let frames = split(payload, lacing).map_err(|cause| self.invalid(cause))?;
        let (count, scale_ns) = (frames.len() as u64, self.scale_ns());
        let track = self.tracks.as_ref().and_then(|tracks| tracks.kept.get(index));
        let block_ns = block.duration.map_or(0, |duration| duration.saturating_mul(scale_ns));
        let frame_ns = track
            .and_then(|track| track.default_duration_ns)
            .or(block_ns.checked_div(count))
            .unwrap_or(0);
        for (payload, place) in frames.into_iter().zip(0_u64..) {
            let later = place.saturating_mul(frame_ns).checked_div(scale_ns).unwrap_or(0);
            let timecode = block.timecode.saturating_add_unsigned(later);
            self.take_frame(index, Frame { timecode, duration: None, payload, ..block })?;
        }
        Ok(())
    }

    /// Holds a frame against the rules of its fragment. `index` is its track's among those kept.
    fn take_frame(&mut self, index: usize, frame: Frame) -> Result<(), ReadError> {
        let number = frame.track;
        if frame.payload.is_empty() {
            return Err(self.invalid(format!("block of track {number} has an empty frame")));
        }
        let Some(&Tracks { lead, lead_is_video, .. }) = self.tracks.as_ref() else {
            return Err(self.invalid("a block before Tracks"));
        };
        let scale_ns = self.scale_ns();
        let Limits { source, fragment_ms, .. } = self.limits;
        let Some(fragment) = &mut self.fragment else {
            return Err(self.invalid("a block outside of a fragment"));
        };
        let begins = index == lead && lead_is_video && fragment.latest_of_lead.is_none();
        if begins && !frame.key && source == Source::Upload {
            let cause = format!("fragment's first frame of track {number} is no key frame");
            return Err(self.invalid(cause));
        }
        fragment.earliest = fragment.earliest.min(frame.timecode);
        fragment.latest = fragment.latest.max(frame.timecode);
        let span = fragment.latest.abs_diff(fragment.earliest);
        let span_ms = u128::from(span) * u128::from(scale_ns) / 1_000_000;
        if span_ms > u128::from(fragment_ms) {
            let message = format!("fragment of {span_ms} ms is above the limit of {fragment_ms}");
            return Err(self.error(ErrorId::MaxFragmentDurationReached, message));
        }
        if index == lead {
            fragment.latest_of_lead = fragment.latest_of_lead.max(Some(frame.timecode));
        }
        if let Some(seen) = fragment.seen.get_mut(index) {
            *seen = true;
        }
        self.events.push_back(Event::Frame(frame));
        Ok(())
    }
}

fn is_top(id: Id) -> bool {
    matches!(id, el::EBML | el::SEGMENT)
}
