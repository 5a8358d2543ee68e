//! Pictures of remote footage. Where there is any is told by what was announced, so that a link costs
//! no call of Kinesis; the picture is asked for when the link is fetched.

use crate::access::Principal;
use crate::device::Stream;
use crate::playback::picture::{MAX_BACK_MS, PictureLink, PictureName};
use crate::playback::token::{MediaToken, Span};
use crate::playback::{MediaError, Playback, SessionError};
use crate::segment::{Segment, TimeRange};
use crate::storage::aws::kinesis_video::KinesisArchive;
use crate::storage::{SegmentQuery, StorageError, TimeOrder};
use bytes::Bytes;
use lookback_wire::Timestamp;

/// Announcements looked at for the thumbnails of one range: a day of 20 s each, and then some.
const MAX_ANNOUNCED: usize = 5_000;

impl Playback {
    /// As [`Playback::snapshot`].
    pub(in crate::playback) async fn remote_snapshot(
        &self,
        caller: &Principal,
        stream: &Stream,
        at: Option<Timestamp>,
        max_width: u32,
    ) -> Result<PictureLink, SessionError> {
        let asked = at.unwrap_or_else(|| self.clock.now());
        let back = TimeRange { start: asked.plus_millis(-MAX_BACK_MS), end: asked.plus_millis(1) };
        let newest = self.announced_in(stream, back, TimeOrder::NewestFirst, 1).await?.pop();
        let Some(segment) = newest else {
            return Err(self.no_picture(stream, asked).await?.into());
        };
        let last = segment.range.end.plus_millis(-1).max(segment.range.start);
        Ok(self.link_to(caller, stream, asked.min(last), max_width))
    }

    /// As [`Playback::thumbnails`].
    pub(in crate::playback) async fn remote_thumbnails(
        &self,
        caller: &Principal,
        stream: &Stream,
        range: TimeRange,
        count: i64,
        max_width: u32,
    ) -> Result<Vec<PictureLink>, StorageError> {
        let found = self.announced_in(stream, range, TimeOrder::OldestFirst, MAX_ANNOUNCED).await?;
        let part =
            |index: i64| range.start.plus_millis(range.millis().saturating_mul(index) / count);
        let mut instants: Vec<Timestamp> = Vec::new();
        for index in 0..count {
            let Some(part) = TimeRange::new(part(index), part(index + 1)) else { continue };
            let first = found.iter().find_map(|segment| segment.range.intersection(&part));
            instants.extend(first.map(|footage| footage.start));
        }
        Ok(instants.into_iter().map(|at| self.link_to(caller, stream, at, max_width)).collect())
    }

    /// As [`Playback::first_picture`].
    pub(in crate::playback) async fn remote_first_picture(
        &self,
        caller: &Principal,
        stream: &Stream,
        range: TimeRange,
        max_width: u32,
    ) -> Result<Option<PictureLink>, StorageError> {
        let first = self.announced_in(stream, range, TimeOrder::OldestFirst, 1).await?.pop();
        let at = first.and_then(|segment| segment.range.intersection(&range));
        Ok(at.map(|footage| self.link_to(caller, stream, footage.start, max_width)))
    }

    /// As [`Playback::picture`].
    pub(in crate::playback) async fn remote_picture(
        &self,
        archive: &KinesisArchive,
        token: &MediaToken,
        name: PictureName,
    ) -> Result<Bytes, MediaError> {
        let Span::OnDemand { range, .. } = token.span else { return Err(MediaError::Refused) };
        if !range.contains(name.at) {
            return Err(MediaError::Refused);
        }
        let stream = self.stream_of(token).await?;
        let jpeg = archive.image(&stream, name.at).await?.ok_or(MediaError::NotFound)?;
        self.scaled(jpeg, name.width).await
    }

    async fn announced_in(
        &self,
        stream: &Stream,
        range: TimeRange,
        order: TimeOrder,
        limit: usize,
    ) -> Result<Vec<Segment>, StorageError> {
        let query = SegmentQuery { range, order, after: None, limit };
        self.storage.catalog.segments(stream.id, &query).await
    }

    /// A link to the picture that is shown at `at`; whether there is one is not looked at.
    pub(in crate::playback) fn link_to(
        &self,
        caller: &Principal,
        stream: &Stream,
        at: Timestamp,
        max_width: u32,
    ) -> PictureLink {
        let span = TimeRange { start: at, end: at.plus_millis(1) };
        self.sign_pictures(caller, stream, span).unsized_link(at, max_width)
    }
}
