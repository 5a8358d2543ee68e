//! Which fragments a stream has, page by page: what ListFragments answers (KVS API).

use super::Playback;
use crate::id::StreamId;
use crate::media_stream::MediaSettings;
use crate::segment::TimeRange;
use crate::storage::{FragmentQuery, FragmentRecord, RangeBy, StorageError, TimeOrder};
use lookback_wire::{FragmentNumber, Timestamp};
use serde::{Deserialize, Serialize};

/// Fragments that may overlap one instant: a few uploads' worth.
pub(super) const MAX_OVERLAPPING: usize = 64;

/// By which of a fragment's times it is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SelectorType {
    /// Its start on the timeline.
    ProducerTimestamp,
    /// Its arrival.
    ServerTimestamp,
}

/// Fragments whose time lies from `from_ms` to `to_ms`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    pub by: SelectorType,
    /// Milliseconds since the Unix epoch.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Where the page before ended: by arrival only those after this number, and by start only those
    /// from `from_ms` on.
    pub after: Option<u64>,
}

/// One page of what was selected, by the selected time.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub fragments: Vec<FragmentRecord>,
    /// What selects the rest, where there is some.
    pub rest: Option<Selection>,
}

impl Playback {
    /// Whether the stream's footage is kept. What is not can be followed for a while, and is listed
    /// nowhere.
    pub(super) async fn is_archived(&self, stream: StreamId) -> Result<bool, StorageError> {
        let settings = self.storage.catalog.media_settings(&[stream]).await?;
        Ok(settings.iter().all(MediaSettings::is_archived))
    }

    pub async fn fragment_by_number(
        &self,
        stream: StreamId,
        number: FragmentNumber,
    ) -> Result<Option<FragmentRecord>, StorageError> {
        if !self.is_archived(stream).await? {
            return Ok(None);
        }
        let found = self.storage.local()?.fragments_by_number(stream, &[number]).await?;
        Ok(found.into_iter().flatten().next())
    }

    /// At most `limit` fragments.
    pub async fn list_fragments(
        &self,
        stream: StreamId,
        selection: Selection,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let at = Timestamp::from_millis;
        let Some(range) =
            TimeRange::new(at(selection.from_ms), at(selection.to_ms.saturating_add(1)))
        else {
            return Ok(Page::default());
        };
        if !self.is_archived(stream).await? {
            return Ok(Page::default());
        }
        let mut fragments = match selection.by {
            SelectorType::ServerTimestamp => {
                let by = RangeBy::Arrival { after: selection.after.map(FragmentNumber) };
                let order = TimeOrder::OldestFirst;
                let query = FragmentQuery { by, range, order, limit: limit.saturating_add(1) };
                self.storage.local()?.fragments(stream, &query).await?
            }
            SelectorType::ProducerTimestamp => self.starting_in(stream, range, limit).await?,
        };
        let has_more = fragments.len() > limit;
        fragments.truncate(limit);
        let rest = fragments.last().filter(|_| has_more).map(|last| match selection.by {
            SelectorType::ServerTimestamp => Selection { after: Some(last.number.0), ..selection },
            SelectorType::ProducerTimestamp => {
                Selection { from_ms: last.start.as_millis().saturating_add(1), ..selection }
            }
        });
        Ok(Page { fragments, rest })
    }

    /// Those that begin in the range; one more than `limit` where there are more.
    async fn starting_in(
        &self,
        stream: StreamId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let mut fragments: Vec<FragmentRecord> = Vec::new();
        let mut from = range.start;
        // The archive also answers those that began earlier and reach into the range.
        while let Some(range) = TimeRange::new(from, range.end) {
            let (by, order) = (RangeBy::Timeline, TimeOrder::OldestFirst);
            let missing = limit.saturating_add(1).saturating_sub(fragments.len());
            let asked = missing.saturating_add(MAX_OVERLAPPING);
            let query = FragmentQuery { by, range, order, limit: asked };
            let found = self.storage.local()?.fragments(stream, &query).await?;
            let is_all = found.len() < asked;
            fragments.extend(found.into_iter().filter(|fragment| fragment.start >= from));
            match fragments.last() {
                Some(last) if !is_all && fragments.len() <= limit => {
                    from = last.start.plus_millis(1);
                }
                _ => break,
            }
        }
        Ok(fragments)
    }
}
