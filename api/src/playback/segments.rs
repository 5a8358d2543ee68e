//! Media segments of a session: their names in playlists, and the bytes behind them.

use super::listing::{JOINED_MS, arrange, opens};
use super::token::MediaToken;
use super::{MediaError, Playback, Rendition, sound};
use crate::arriving::{Fragment, Part, State};
use crate::segment::TimeRange;
use crate::storage::{FragmentQuery, FragmentRecord, InitId, RangeBy, TimeOrder};
use bytes::{Bytes, BytesMut};
use lookback_packaging::{TrackInit, mp4, silence};
use lookback_wire::{FragmentNumber, Timestamp};
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Fragments that one segment may join.
pub const MAX_JOINED: u16 = 64;
/// What is read to find the fragments behind the first of a joined segment: at least as much as
/// they may span.
const JOINED_WITHIN_MS: i64 = 2 * JOINED_MS;
/// How long a part that is next is waited for: it comes within half a second, or the camera's
/// connection is in trouble.
const MAX_PART_WAIT: Duration = Duration::from_secs(5);
/// Fragments read for them, with those that were sent again and are passed over.
const MAX_JOINED_READ: usize = 4 * MAX_JOINED as usize;

/// The name of a media segment: `{start_ms}-{number}.v.m4s`, or `.a.m4s` for audio, after the first
/// fragment in it; `{start_ms}-{number}-{count}.v.m4s` where it joins several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentName {
    pub start: Timestamp,
    pub number: FragmentNumber,
    /// 1 to [`MAX_JOINED`].
    pub count: u16,
    pub rendition: Rendition,
}

impl SegmentName {
    pub fn push_to(self, text: &mut String) {
        self.push_stem(text);
        text.push_str(self.rendition.suffix());
    }

    /// The name without what it ends in.
    pub(super) fn push_stem(self, text: &mut String) {
        push_decimal(text, self.start.as_millis().max(0).unsigned_abs());
        text.push('-');
        push_decimal(text, self.number.0);
        if self.count > 1 {
            text.push('-');
            push_decimal(text, self.count.into());
        }
    }

    fn parse_stem(stem: &str, rendition: Rendition) -> Result<Self, NoSegmentName> {
        let (start, rest) = stem.split_once('-').ok_or(NoSegmentName)?;
        let (number, count) = match rest.split_once('-') {
            Some((number, count)) => (number, decimal(count)?),
            None => (rest, 1),
        };
        if !(1..=MAX_JOINED).contains(&count) {
            return Err(NoSegmentName);
        }
        Ok(Self {
            start: Timestamp::from_millis(decimal(start)?),
            number: FragmentNumber(decimal(number)?),
            count,
            rendition,
        })
    }
}

/// The name of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartName {
    /// Of the segment of one fragment, its `index`th chunk from 0: `{start_ms}-{number}.{index}.v.m4s`,
    /// or `.a.m4s`.
    Of { segment: SegmentName, index: u32 },
    /// The first one of what a live session lists behind a fragment: `after-{number}.v.m4s`, or
    /// `.a.m4s`. It can be named before anything of it is here.
    After { number: FragmentNumber, rendition: Rendition },
}

const AFTER: &str = "after-";

impl std::fmt::Display for PartName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of { segment, index } => {
                let mut stem = String::new();
                segment.push_stem(&mut stem);
                write!(f, "{stem}.{index}{}", segment.rendition.suffix())
            }
            Self::After { number, rendition } => {
                write!(f, "{AFTER}{}{}", number.0, rendition.suffix())
            }
        }
    }
}

impl FromStr for PartName {
    type Err = NoSegmentName;

    fn from_str(text: &str) -> Result<Self, NoSegmentName> {
        let (stem, rendition) = split_suffix(text)?;
        if let Some(number) = stem.strip_prefix(AFTER) {
            return Ok(Self::After { number: FragmentNumber(decimal(number)?), rendition });
        }
        let (stem, index) = stem.split_once('.').ok_or(NoSegmentName)?;
        let segment = SegmentName::parse_stem(stem, rendition)?;
        if segment.count > 1 {
            return Err(NoSegmentName);
        }
        Ok(Self::Of { segment, index: decimal(index)? })
    }
}

impl Rendition {
    fn suffix(self) -> &'static str {
        match self {
            Self::Video => ".v.m4s",
            Self::Audio => ".a.m4s",
        }
    }
}

/// A name without what it ends in, and the rendition that this says.
fn split_suffix(text: &str) -> Result<(&str, Rendition), NoSegmentName> {
    [Rendition::Video, Rendition::Audio]
        .into_iter()
        .find_map(|rendition| Some((text.strip_suffix(rendition.suffix())?, rendition)))
        .ok_or(NoSegmentName)
}

/// Appends a number: a day's playlist has 170,000, and formatting is most of its cost.
fn push_decimal(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

/// The name of a segment of silence: `silence-{init}-{decode_time}-{duration}.a.m4s`, ticks of the
/// track whose initialization segment that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceName {
    pub init: InitId,
    pub decode_time: u64,
    pub duration: u64,
}

impl SilenceName {
    pub fn push_to(self, text: &mut String) {
        let Self { init, decode_time, duration } = self;
        // A write to a String does not fail.
        let _ = write!(text, "silence-{:016x}-{decode_time}-{duration}.a.m4s", init.0);
    }
}

impl FromStr for SilenceName {
    type Err = NoSegmentName;

    fn from_str(text: &str) -> Result<Self, NoSegmentName> {
        let stem = text.strip_prefix("silence-").and_then(|text| text.strip_suffix(".a.m4s"));
        let mut parts = stem.ok_or(NoSegmentName)?.split('-');
        let mut next = || parts.next().ok_or(NoSegmentName);
        let name = Self {
            init: parse_hex(next()?).ok_or(NoSegmentName)?,
            decode_time: decimal(next()?)?,
            duration: decimal(next()?)?,
        };
        if parts.next().is_some() { Err(NoSegmentName) } else { Ok(name) }
    }
}

/// Text that names no media segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSegmentName;

impl FromStr for SegmentName {
    type Err = NoSegmentName;

    fn from_str(text: &str) -> Result<Self, NoSegmentName> {
        let (stem, rendition) = split_suffix(text)?;
        Self::parse_stem(stem, rendition)
    }
}

/// Digits only: `parse` alone would also take a sign.
fn decimal<T: FromStr>(text: &str) -> Result<T, NoSegmentName> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoSegmentName);
    }
    text.parse().map_err(|_| NoSegmentName)
}

/// The name of an initialization segment: `init-{id}.mp4`, 16 hexadecimal digits.
pub fn init_name(id: InitId) -> String {
    format!("init-{:016x}.mp4", id.0)
}

/// Reads what [`init_name`] wrote.
pub fn parse_init_name(text: &str) -> Option<InitId> {
    parse_hex(text.strip_prefix("init-")?.strip_suffix(".mp4")?)
}

fn parse_hex(hex: &str) -> Option<InitId> {
    let is_ours = hex.len() == 16 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u64::from_str_radix(hex, 16).ok().map(InitId))?
}

impl Playback {
    /// `ftyp` and `moov` of a track of the session's stream.
    pub async fn init_segment(&self, token: &MediaToken, id: InitId) -> Result<Bytes, MediaError> {
        let init = self.played_init(token.stream, id).await?.ok_or(MediaError::Refused)?;
        Ok(init.segment.clone())
    }

    /// One track of a fragment that overlaps the session's span, or of several that follow one
    /// another.
    pub async fn segment(
        &self,
        token: &MediaToken,
        name: SegmentName,
    ) -> Result<Bytes, MediaError> {
        if name.count > 1 {
            return self.joined(token, name).await;
        }
        match self.kept(token, name).await? {
            Some(fragment) => self.track_of(token, &fragment, name.rendition).await,
            None => self.cut_short(token, name).await,
        }
    }

    /// A part of a fragment that is arriving, or that was not long ago. One that is next is waited
    /// for.
    pub async fn part(&self, token: &MediaToken, name: PartName) -> Result<Bytes, MediaError> {
        let until = Instant::now() + MAX_PART_WAIT;
        match name {
            PartName::Of { segment, index } => self.part_of(token, segment, index, until).await,
            PartName::After { number, rendition } => {
                let next = self.listed_after(token, number, until).await?;
                let segment =
                    SegmentName { start: next.start, number: next.number, count: 1, rendition };
                self.part_of(token, segment, 0, until).await
            }
        }
    }

    async fn part_of(
        &self,
        token: &MediaToken,
        segment: SegmentName,
        index: u32,
        until: Instant,
    ) -> Result<Bytes, MediaError> {
        let mut changes = self.arriving.changes(token.stream);
        loop {
            changes.borrow_and_update();
            match self.arriving.fragment(token.stream, segment.number) {
                Some(fragment) if fragment.state != State::Kept => {
                    let (init, parts) = self.parts_of(token, &fragment, segment).await?;
                    if let Some(part) = parts.get(index as usize) {
                        let bytes = part.joined().ok_or(MediaError::NotFound)?;
                        return self.played_chunks(&init, bytes).await;
                    }
                    if fragment.state != State::Arriving || index as usize > parts.len() {
                        return Err(MediaError::NotFound);
                    }
                }
                _ => return self.kept_part(token, segment, index).await,
            }
            match timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(MediaError::NotFound),
            }
        }
    }

    /// The fragment that a segment is made of, if it is kept.
    pub(super) async fn kept(
        &self,
        token: &MediaToken,
        name: SegmentName,
    ) -> Result<Option<FragmentRecord>, MediaError> {
        let found = self.storage.local()?.fragment(token.stream, name.start, name.number).await?;
        match found {
            Some(fragment) if !opens(token.span, &fragment) => Err(MediaError::Refused),
            found => Ok(found),
        }
    }

    async fn kept_part(
        &self,
        token: &MediaToken,
        segment: SegmentName,
        wanted: u32,
    ) -> Result<Bytes, MediaError> {
        let fragment = self.kept(token, segment).await?.ok_or(MediaError::Refused)?;
        let (init, chunks) = self.kept_track(token, &fragment, segment.rendition).await?;
        let mut start = 0;
        for (index, chunk) in (0..).zip(mp4::split_chunks(&chunks)) {
            let len = chunk.head.len() + chunk.samples.len();
            if index == wanted {
                return self.played_chunks(&init, chunks.slice(start..start + len)).await;
            }
            start += len;
        }
        Err(MediaError::NotFound)
    }

    /// What there is of a fragment that players were told of, and that a lost connection cut short.
    async fn cut_short(&self, token: &MediaToken, name: SegmentName) -> Result<Bytes, MediaError> {
        let fragment =
            self.arriving.fragment(token.stream, name.number).ok_or(MediaError::Refused)?;
        let (init, parts) = self.parts_of(token, &fragment, name).await?;
        let mut bytes = BytesMut::new();
        parts.iter().filter_map(|part| part.joined()).for_each(|part| bytes.extend(part));
        if bytes.is_empty() {
            return Err(MediaError::NotFound);
        }
        self.played_chunks(&init, bytes.freeze()).await
    }

    /// The parts of one rendition of a fragment that is not kept, and their track.
    async fn parts_of(
        &self,
        token: &MediaToken,
        fragment: &Fragment,
        name: SegmentName,
    ) -> Result<(Arc<TrackInit>, Vec<Arc<Part>>), MediaError> {
        let record = fragment
            .record()
            .filter(|record| record.start == name.start && opens(token.span, record))
            .ok_or(MediaError::Refused)?;
        let inits = self.playable_inits(token.stream, &record.tracks).await?;
        let track = inits.track_of(&record, name.rendition).ok_or(MediaError::NotFound)?;
        let init = inits.get(track.init).ok_or(MediaError::NotFound)?;
        let index = fragment.track_with(track.init).ok_or(MediaError::NotFound)?;
        Ok((init.clone(), fragment.parts_of(index).cloned().collect()))
    }

    /// Silence in the place of a track.
    pub async fn silence(
        &self,
        token: &MediaToken,
        name: SilenceName,
    ) -> Result<Bytes, MediaError> {
        let kept = self.track_init(token.stream, name.init).await?.ok_or(MediaError::Refused)?;
        let chunk = silence::chunk(&kept, name.decode_time, name.duration);
        let played = sound::played(kept);
        self.played_chunks(&played, chunk.ok_or(MediaError::NotFound)?.into()).await
    }

    async fn joined(&self, token: &MediaToken, name: SegmentName) -> Result<Bytes, MediaError> {
        let mut bytes = BytesMut::new();
        for fragment in self.joined_fragments(token, name).await? {
            bytes.extend_from_slice(&self.track_of(token, &fragment, name.rendition).await?);
        }
        Ok(bytes.freeze())
    }

    /// The fragments that a segment joins.
    pub(super) async fn joined_fragments(
        &self,
        token: &MediaToken,
        name: SegmentName,
    ) -> Result<Vec<FragmentRecord>, MediaError> {
        let end = name.start.plus_millis(JOINED_WITHIN_MS);
        let range = TimeRange::new(name.start, end).ok_or(MediaError::NotFound)?;
        let query = FragmentQuery {
            by: RangeBy::Timeline,
            range,
            order: TimeOrder::OldestFirst,
            limit: MAX_JOINED_READ,
        };
        let mut found = self.storage.local()?.fragments(token.stream, &query).await?;
        found.retain(|fragment| fragment.start >= name.start);
        let count = usize::from(name.count);
        let mut joined = arrange(found);
        if joined.len() < count {
            return Err(MediaError::NotFound);
        }
        joined.truncate(count);
        if joined.first().is_none_or(|first| first.fragment.number != name.number)
            || joined.iter().skip(1).any(|one| one.discontinuity)
        {
            return Err(MediaError::NotFound);
        }
        if !joined.iter().all(|one| opens(token.span, &one.fragment)) {
            return Err(MediaError::Refused);
        }
        Ok(joined.into_iter().map(|one| one.fragment).collect())
    }

    /// The chunks of one track of a fragment.
    async fn track_of(
        &self,
        token: &MediaToken,
        fragment: &FragmentRecord,
        rendition: Rendition,
    ) -> Result<Bytes, MediaError> {
        let (init, chunks) = self.kept_track(token, fragment, rendition).await?;
        self.played_chunks(&init, chunks).await
    }

    /// The same as they are kept, and the track as players get it.
    async fn kept_track(
        &self,
        token: &MediaToken,
        fragment: &FragmentRecord,
        rendition: Rendition,
    ) -> Result<(Arc<TrackInit>, Bytes), MediaError> {
        let inits = self.playable_inits(token.stream, &fragment.tracks).await?;
        let track = inits.track_of(fragment, rendition).ok_or(MediaError::NotFound)?;
        let init = inits.get(track.init).ok_or(MediaError::NotFound)?;
        let archive = self.storage.local()?;
        let chunks = archive.read(token.stream, fragment.location, track.offset, track.len).await?;
        Ok((init.clone(), chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = SegmentName {
            start: Timestamp::from_millis(1_795_329_502_534),
            number: FragmentNumber(u64::MAX),
            count: 1,
            rendition: Rendition::Audio,
        };
        for (name, expected) in [
            (name, "1795329502534-18446744073709551615.a.m4s"),
            (
                SegmentName { count: MAX_JOINED, rendition: Rendition::Video, ..name },
                "1795329502534-18446744073709551615-64.v.m4s",
            ),
        ] {
            let mut text = String::new();
            name.push_to(&mut text);
            assert_eq!(text, expected);
            assert_eq!(text.parse(), Ok(name));
        }
        let after = PartName::After { number: name.number, rendition: Rendition::Video };
        for (part, expected) in [
            (
                PartName::Of { segment: name, index: 12 },
                "1795329502534-18446744073709551615.12.a.m4s",
            ),
            (after, "after-18446744073709551615.v.m4s"),
        ] {
            assert_eq!(part.to_string(), expected);
            assert_eq!(expected.parse(), Ok(part));
            assert_eq!(expected.parse::<SegmentName>(), Err(NoSegmentName));
        }
        for bad in [
            "1-2.v.m4s",
            "1-2..v.m4s",
            "1-2.+1.v.m4s",
            "1-2-3.1.v.m4s",
            "1-2.1.m4s",
            "after-.v.m4s",
            "after--1.v.m4s",
            "after-1.0.v.m4s",
            "after-1.m4s",
        ] {
            assert_eq!(bad.parse::<PartName>(), Err(NoSegmentName), "{bad}");
        }
        for bad in [
            "1-2.m4s",
            "1-2.x.m4s",
            "-1-2.v.m4s",
            "1-+2.v.m4s",
            "1.v.m4s",
            "-.v.m4s",
            "",
            "1-2-0.v.m4s",
            "1-2-65.v.m4s",
            "1-2-3-4.v.m4s",
            "1-2-.v.m4s",
        ] {
            assert_eq!(bad.parse::<SegmentName>(), Err(NoSegmentName), "{bad}");
        }
        let name = SilenceName { init: InitId(0xF), decode_time: u64::MAX, duration: 96_000 };
        let mut text = String::new();
        name.push_to(&mut text);
        assert_eq!(text, "silence-000000000000000f-18446744073709551615-96000.a.m4s");
        assert_eq!(text.parse(), Ok(name));
        for bad in ["silence-f-1-2.a.m4s", "silence-000000000000000f-1-2-3.a.m4s", "silence-.a.m4s"]
        {
            assert_eq!(bad.parse::<SilenceName>(), Err(NoSegmentName), "{bad}");
        }
        assert_eq!(parse_init_name(&init_name(InitId(0xF))), Some(InitId(0xF)));
        for bad in ["init-000000000000000F.mp4", "init-f.mp4", "init-+00000000000000f.mp4"] {
            assert_eq!(parse_init_name(bad), None, "{bad}");
        }
    }
}
