//! What a fragment holds, and the rules that Kinesis Video Streams has for it beyond Matroska's
//! (KVS API, PutMedia, "Errors").

use super::{Event, Group, Limits, ReadError, Reader, Source};
use crate::fragment::END_OF_FRAGMENT;
use crate::matroska::block::{BlockHeader, Lacing, split};
use crate::matroska::header::{DEFAULT_TIMECODE_SCALE_NS, Tracks};
use crate::matroska::tags::read_tags;
use crate::{ErrorId, Frame, Payload, SimpleTag};

/// The fragment that is being read.
#[derive(Debug)]
pub(super) struct Fragment {
    /// Checked to fit into an `i64`.
    pub timecode: u64,
    earliest: i64,
    latest: i64,
    latest_of_lead: Option<i64>,
    /// For each track, whether it has had a frame.
    seen: Vec<bool>,
}

impl Fragment {
    /// What the next fragment's timecode must be after. Kinesis takes the latest frame of any track;
    /// audio of real muxers overlaps by a packet, which harms nobody, so here it is the latest of
    /// the track that fragments are cut at.
    fn latest_timecode(&self) -> i64 {
        let begin = self.timecode as i64;
        self.latest_of_lead.map_or(begin, |latest| latest.max(begin))
    }
}

/// Of one fragment.
#[derive(Debug, Default)]
pub(super) struct TagCount {
    of_application: usize,
    of_service: usize,
}

/// Tags of this prefix are the service's own, such as END_OF_FRAGMENT.
const SERVICE_TAG_PREFIX: &str = "AWS";

impl Reader {
    fn scale_ns(&self) -> u64 {
        self.header.as_ref().map_or(DEFAULT_TIMECODE_SCALE_NS, |header| header.timecode_scale_ns)
    }

    /// A Cluster's Timecode was read: the fragment before is whole, whatever becomes of this one.
    pub(super) fn begin_fragment(&mut self, timecode: u64) -> Result<(), ReadError> {
        // Within this range no later sum or product of a timecode overflows.
        let scale_ns = self.scale_ns();
        let in_range = timecode.checked_mul(scale_ns).is_some_and(|ns| ns <= i64::MAX as u64);
        if !in_range {
            let cause =
                format!("Timestamp {timecode} of {scale_ns} ns each is beyond the year 2262");
            return Err(self.invalid(cause));
        }
        let latest = self.fragment.as_ref().map(Fragment::latest_timecode).or(self.previous_latest);
        let not_after = latest
            .filter(|latest| self.limits.source == Source::Upload && timecode as i64 <= *latest);
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
        // Tags before the first fragment are of the first.
        if self.previous_latest.is_some() {
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

    /// Ends the fragment that is open, if one is.
    pub(super) fn end_fragment(&mut self, next_timecode: Option<u64>) -> Result<(), ReadError> {
        let Some(fragment) = self.fragment.take() else { return Ok(()) };
        let timecode = fragment.timecode;
        self.previous_latest = Some(fragment.latest_timecode());
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
    pub(super) fn read_block(
        &mut self,
        mut block: Payload,
        group: Option<&Group>,
    ) -> Result<(), ReadError> {
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

    pub(super) fn read_tags(&mut self, body: &[u8]) -> Result<(), ReadError> {
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
}
