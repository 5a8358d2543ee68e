//! Reads an upload (RFC 9559 as PutMedia narrows it) from bytes as they arrive, cut anywhere,
//! without copying frames.
//!
//! What players need of a frame is left to `codec`. Encoded tracks are refused, since their frames
//! are not samples; so are laced blocks, but for recordings.

mod fragments;

use super::element::{self as el, is_segment_child};
use super::header::{Info, Tracks, check_ebml, read_info, read_tracks};
use super::input::Input;
use crate::ebml::{self, EbmlError, HEADER_BYTES_MAX, Header, Id};
use crate::{ErrorId, Frame, Payload, SimpleTag, UploadHeader};
use bytes::Bytes;
use fragments::{Fragment, TagCount};
use std::collections::VecDeque;
use std::fmt::Display;
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
    /// first. [`END_OF_FRAGMENT`](crate::fragment::END_OF_FRAGMENT) is not among them: it is [`Event::FragmentEnd`].
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
    /// Bytes of the upload that were read.
    offset: u64,
    /// Where the element begins that is being read.
    element_offset: u64,
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
    /// What the next fragment's timecode must be after, once a fragment has ended.
    previous_latest: Option<i64>,
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

/// What a BlockGroup has held so far.
#[derive(Debug, Default)]
struct Group {
    block: Option<Payload>,
    duration: Option<u64>,
    references: bool,
}

impl Reader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            offset: 0,
            element_offset: 0,
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
            previous_latest: None,
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
    /// element that was cut short are an error, and their fragment is not ended; in a recording
    /// they are left out. To be called when [`Reader::next`] has no more, since an error here would
    /// hide events that it still has.
    pub fn finish(&mut self) -> Result<Vec<Event>, ReadError> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        let end = if self.cluster_unnamed || self.limits.source == Source::Recording {
            // Of an upload's fragment that was cut short nothing is known, and the one before it is
            // whole. A recorder that lost power leaves its last element cut short.
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

    fn cut_short(&self, what: impl Display) -> ReadError {
        self.error(ErrorId::StreamReadError, format!("the upload ends within {what}"))
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

    /// An error of the fragment that is being read, at the element that is.
    fn error(&self, id: ErrorId, cause: impl Display) -> ReadError {
        let fragment = self.fragment.as_ref().filter(|_| !self.cluster_unnamed);
        ReadError {
            id,
            timecode: fragment.map(|fragment| fragment.timecode),
            message: format!("{cause} (element at byte {})", self.element_offset),
        }
    }

    fn invalid(&self, cause: impl Display) -> ReadError {
        self.error(ErrorId::InvalidMkvData, cause)
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
        self.element_offset = self.offset;
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
                let tracks = read_tracks(&body, &self.limits);
                self.tracks = Some(tracks.map_err(|(id, cause)| self.error(id, cause))?);
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
}

fn is_top(id: Id) -> bool {
    matches!(id, el::EBML | el::SEGMENT)
}
