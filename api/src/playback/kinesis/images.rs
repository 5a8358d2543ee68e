//! Pictures at even distances, as `GetImages` gives them: of each instant the key frame at or just
//! before it, in the fragment that is there.

use super::token::TimestampType;
use super::window::time_of;
use crate::id::StreamId;
use crate::playback::picture::{Format, NoKeyFrame};
use crate::playback::{MediaError, Playback};
use crate::segment::TimeRange;
use crate::storage::{FragmentQuery, FragmentRecord, RangeBy, StorageError, TimeOrder};
use bytes::Bytes;
use lookback_wire::Timestamp;

/// Longer fragments are not looked for where the service's clock orders them.
const LONGEST_FRAGMENT_MS: i64 = 20_000;
/// Fragments that may have arrived within that time before an instant.
const MAX_ARRIVED: usize = 100;
/// Fragments that may hold an instant of the timeline.
const MAX_OVERLAPPING: usize = 4;

/// How large a picture is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// In pixels. Where only one is given the other follows in proportion; where none is, the
    /// picture stays as it is.
    pub width: Option<u32>,
    pub height: Option<u32>,
}

impl Size {
    /// Width and height, both at least 1, of a picture that has `own`.
    fn of(self, own: (u32, u32)) -> (u32, u32) {
        let in_proportion = |side: u32, to: u32, from: u32| {
            let scaled = (u64::from(side) * u64::from(to)).div_ceil(u64::from(from.max(1)));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        let (width, height) = match (self.width, self.height) {
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => (width, in_proportion(own.1, width, own.0)),
            (None, Some(height)) => (in_proportion(own.0, height, own.1), height),
            (None, None) => own,
        };
        (width.max(1), height.max(1))
    }
}

/// Why there is no picture of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoImage {
    /// No footage, or none with pictures.
    NoMedia,
    /// The footage cannot be decoded.
    MediaError,
}

/// Why images cannot be had at all, now.
#[derive(Clone, Debug)]
pub enum ImagesError {
    Busy,
    Storage(StorageError),
}

impl From<StorageError> for ImagesError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Playback {
    /// The picture of one instant by one of the clocks. The caller's right to view the stream has
    /// been decided.
    pub async fn image(
        &self,
        stream: StreamId,
        by: TimestampType,
        at: Timestamp,
        size: Size,
        format: Format,
    ) -> Result<Result<Bytes, NoImage>, ImagesError> {
        let Some(fragment) = self.fragment_at(stream, by, at).await? else {
            return Ok(Err(NoImage::NoMedia));
        };
        let on_timeline = fragment.start.plus_millis(at.millis_since(time_of(by, &fragment)));
        let size_of = |own| size.of(own);
        match self.render(stream, &fragment, on_timeline, size_of, format).await {
            Ok(Ok(image)) => Ok(Ok(image)),
            Ok(Err(NoKeyFrame::Absent)) => Ok(Err(NoImage::NoMedia)),
            Ok(Err(NoKeyFrame::Codec(_))) => Ok(Err(NoImage::MediaError)),
            Err(MediaError::Busy) => Err(ImagesError::Busy),
            Err(MediaError::Storage(cause)) => {
                Err(ImagesError::Storage(StorageError::Unavailable(cause)))
            }
            Err(_) => Ok(Err(NoImage::MediaError)),
        }
    }

    /// The newest fragment that lasts at an instant.
    async fn fragment_at(
        &self,
        stream: StreamId,
        by: TimestampType,
        at: Timestamp,
    ) -> Result<Option<FragmentRecord>, StorageError> {
        let (from, by_range, limit) = match by {
            TimestampType::Producer => (at, RangeBy::Timeline, MAX_OVERLAPPING),
            TimestampType::Server => (
                at.plus_millis(-LONGEST_FRAGMENT_MS),
                RangeBy::Arrival { after: None },
                MAX_ARRIVED,
            ),
        };
        let query = FragmentQuery {
            by: by_range,
            range: TimeRange { start: from, end: at.plus_millis(1) },
            order: TimeOrder::NewestFirst,
            limit,
        };
        let found = self.storage.local()?.fragments(stream, &query).await?;
        let lasts = |fragment: &FragmentRecord| {
            let start = time_of(by, fragment);
            start <= at && at < start.plus_millis(fragment.duration_ms.into())
        };
        Ok(found.into_iter().find(lasts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |width, height| Size { width, height };
        for (asked, own, expected) in [
            (size(None, None), (1_280, 720), (1_280, 720)),
            (size(Some(640), None), (1_280, 720), (640, 360)),
            (size(None, Some(360)), (1_280, 720), (640, 360)),
            (size(Some(100), Some(200)), (1_280, 720), (100, 200)),
            (size(Some(3_840), None), (1_280, 720), (3_840, 2_160)),
            (size(Some(1), None), (4_000, 2), (1, 1)),
            (size(None, None), (0, 0), (1, 1)),
        ] {
            assert_eq!(asked.of(own), expected, "{asked:?}");
        }
    }
}
