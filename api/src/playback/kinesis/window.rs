//! Which fragments a live session lists now. A window lives in memory and is made again from what
//! the token says where memory lost it; its sequence numbers come out the same.

use super::MAX_CODEC_CHANGES;
use super::token::{DiscontinuityMode, KinesisToken, Rules, Span, TimestampType};
use crate::playback::listing::Listed;
use crate::segment::TimeRange;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{FragmentQuery, FragmentRecord, RangeBy, StorageError, TimeOrder, arrival_of};
use lookback_wire::{FragmentNumber, Timestamp};
use std::collections::VecDeque;

/// Fragments asked of the archive at once.
const BATCH: usize = 1_000;
/// Nothing on the timeline is later than the service's clock by more (`ingest` sees to that).
const MAX_AHEAD_MS: i64 = 10 * 60 * 1_000;
/// `ON_DISCONTINUITY` tells of gaps and overlaps of more.
const NOTICED_MS: i64 = 50;

/// A window on what a live session plays.
#[derive(Debug, Default)]
pub struct Window {
    pub listed: VecDeque<Listed>,
    /// Segments that slid out.
    pub sequence: u64,
    /// Discontinuities that slid out.
    pub discontinuity_sequence: u64,
    /// Whether nothing more will come.
    pub finished: bool,
    /// Footage that slid out.
    pub slid_ms: u64,
    /// `LIVE_REPLAY`: footage that was listed from the beginning.
    pub lead_ms: u64,
    /// The newest fragment that was looked at, listed or not.
    seen: Option<(Timestamp, FragmentNumber)>,
    /// `LIVE_REPLAY`: until when the listed fragments last, played from when the session was minted.
    due: Option<Timestamp>,
    /// Looked at, and not due yet.
    waiting: VecDeque<FragmentRecord>,
}

impl Window {
    /// What came since, oldest first: at most one batch, none where nothing came.
    pub async fn next(
        &self,
        archive: &EmbeddedArchive,
        token: &KinesisToken,
        now: Timestamp,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        if !self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        let by = order(token);
        let (start, end) = match token.span {
            Span::Live { origin } => (arrival_of(origin), None),
            Span::LiveReplay { start, end } => (start, end),
            Span::OnDemand { start, end } => (start, Some(end)),
        };
        let last = end.unwrap_or_else(|| now.plus_millis(MAX_AHEAD_MS));
        let from = self.seen.map_or(start, |(at, _)| at);
        let Some(range) = TimeRange::new(from, last.plus_millis(1)) else { return Ok(Vec::new()) };
        let after = match (token.span, self.seen) {
            (_, Some((_, number))) => Some(number),
            (Span::Live { origin }, None) => Some(FragmentNumber(origin.0.saturating_sub(1))),
            _ => None,
        };
        let query = FragmentQuery {
            by: match by {
                TimestampType::Server => RangeBy::Arrival { after },
                TimestampType::Producer => RangeBy::Timeline,
            },
            range,
            order: TimeOrder::OldestFirst,
            limit: BATCH,
        };
        let mut found = archive.fragments(token.stream, &query).await?;
        if by == TimestampType::Producer {
            let seen = self.seen.map(|(at, _)| at);
            found.retain(|f| f.start >= start && seen.is_none_or(|seen| f.start > seen));
        }
        Ok(found)
    }

    /// Notes that fragments up to this one were looked at.
    pub fn note_seen(&mut self, token: &KinesisToken, newest: &FragmentRecord) {
        self.seen = Some((time_of(order(token), newest), newest.number));
    }

    /// Takes in fragments that are new and play.
    pub fn take(&mut self, token: &KinesisToken, fragments: Vec<FragmentRecord>, now: Timestamp) {
        let Span::LiveReplay { end, .. } = token.span else {
            for fragment in fragments {
                let last = self.listed.back().map(|last| last.fragment.start);
                // What comes late leaves its gap.
                if last.is_none_or(|last| fragment.start > last) {
                    self.push(token.rules, fragment);
                }
            }
            return;
        };
        let nothing_came = fragments.is_empty();
        self.waiting.extend(fragments);
        while let Some(next) = self.waiting.front() {
            let is_first = self.sequence == 0
                && self.listed.len() < usize::from(token.rules.max_fragments)
                && self.due.is_none();
            let due = self.due.unwrap_or(token.minted_at);
            let lasts_until = due.plus_millis(next.duration_ms.into());
            if !is_first && lasts_until > now {
                return;
            }
            if is_first {
                self.lead_ms += u64::from(next.duration_ms);
            } else {
                self.due = Some(lasts_until);
            }
            let Some(next) = self.waiting.pop_front() else { return };
            self.push(token.rules, next);
        }
        self.finished = nothing_came && end.is_some_and(|end| end < now);
    }

    fn push(&mut self, rules: Rules, fragment: FragmentRecord) {
        let before = self.listed.back().map(|last| &last.fragment);
        let discontinuity = is_discontinuous(rules.discontinuities, before, &fragment);
        self.listed.push_back(Listed { fragment, discontinuity });
        while self.listed.len() > usize::from(rules.max_fragments) {
            let Some(gone) = self.listed.pop_front() else { return };
            self.sequence += 1;
            self.discontinuity_sequence += u64::from(gone.discontinuity);
            self.slid_ms += u64::from(gone.fragment.duration_ms);
        }
    }
}

/// What a finished session lists, in the order of its fragments.
pub fn list(rules: Rules, fragments: Vec<FragmentRecord>) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::with_capacity(fragments.len());
    let mut changes = 0;
    for fragment in fragments {
        let before = listed.last().map(|last| &last.fragment);
        changes += usize::from(before.is_some_and(|before| !is_coded_alike(before, &fragment)));
        if changes > MAX_CODEC_CHANGES {
            break;
        }
        let discontinuity = is_discontinuous(rules.discontinuities, before, &fragment);
        listed.push(Listed { fragment, discontinuity });
    }
    listed
}

/// A fragment's time by one of the clocks.
pub fn time_of(by: TimestampType, fragment: &FragmentRecord) -> Timestamp {
    match by {
        TimestampType::Server => fragment.arrived_at,
        TimestampType::Producer => fragment.start,
    }
}

/// By which clock fragments are found: what is live is what arrived.
fn order(token: &KinesisToken) -> TimestampType {
    match token.span {
        Span::Live { .. } => TimestampType::Server,
        Span::LiveReplay { .. } | Span::OnDemand { .. } => token.rules.by,
    }
}

fn is_discontinuous(
    mode: DiscontinuityMode,
    before: Option<&FragmentRecord>,
    fragment: &FragmentRecord,
) -> bool {
    match (mode, before) {
        (DiscontinuityMode::Always, _) => true,
        (DiscontinuityMode::Never, _) | (_, None) => false,
        (DiscontinuityMode::OnDiscontinuity, Some(before)) => {
            let gap_ms = fragment.start.millis_since(before.range().end);
            gap_ms.abs() > NOTICED_MS || !is_coded_alike(before, fragment)
        }
    }
}

fn is_coded_alike(before: &FragmentRecord, after: &FragmentRecord) -> bool {
    before.tracks.iter().map(|track| track.init).eq(after.tracks.iter().map(|track| track.init))
}
