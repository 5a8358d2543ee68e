//! The sliding windows of live sessions. A window only ever appends: footage that arrives late and
//! lies before its last fragment is left to ON_DEMAND.
//!
//! A window lives in memory and is made again from the session's first fragment, which the token
//! names, where memory lost it; its sequence numbers come out the same.
//!
//! Behind what is kept lies what is still arriving, which players are told of part by part. What one
//! was told of keeps its place, also where a lost connection cut it short.

use super::listing::{self, Listed, arrange};
use super::reload::Edge;
use super::{Rendition, Text};
use crate::arriving::{Fragment, Snapshot, State};
use crate::id::{SessionId, StreamId};
use crate::segment::TimeRange;
use crate::storage::embedded::archive::EmbeddedArchive;
use crate::storage::{
    FragmentQuery, FragmentRecord, RUN_TOLERANCE_MS, RangeBy, StorageError, TimeOrder, TrackSpan,
};
use lookback_wire::{FragmentNumber, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A window keeps at least this many segments (Apple HLS authoring specification, 8.11).
const MIN_SEGMENTS: usize = 6;
/// And at least this much footage, so that a player may stay a while behind.
const MIN_WINDOW_MS: i64 = 30_000;
/// A session does not begin before a hole longer than this.
const MAX_HOLE_MS: i64 = 10_000;
/// Windows kept in memory, some 10 KB each; the one asked for least recently goes first.
const MAX_WINDOWS: usize = 10_000;
/// A window that no player asked for in this time is forgotten: they ask every few seconds.
const UNASKED_MS: i64 = 60_000;
/// Fragments asked of the archive at once.
const BATCH: usize = 1_000;
/// Nothing on the timeline is later than arrival by more (`ingest` sees to that).
pub const MAX_AHEAD_MS: i64 = 10 * 60 * 1_000;

/// The windows of this process, by session.
#[derive(Debug, Default)]
pub struct Windows {
    by_session: Mutex<HashMap<SessionId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    window: Arc<tokio::sync::Mutex<Window>>,
    asked_at: Timestamp,
}

impl Windows {
    /// The session's window, or an empty one that begins at `origin`.
    pub fn of(
        &self,
        session: SessionId,
        origin: (Timestamp, FragmentNumber),
        now: Timestamp,
    ) -> Arc<tokio::sync::Mutex<Window>> {
        let mut kept = self.by_session.lock();
        if !kept.contains_key(&session) {
            kept.retain(|_, kept| now.millis_since(kept.asked_at) < UNASKED_MS);
        }
        if kept.len() >= MAX_WINDOWS && !kept.contains_key(&session) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.asked_at).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                kept.remove(&oldest);
            }
        }
        let entry = kept.entry(session).or_insert_with(|| Kept {
            window: Arc::new(tokio::sync::Mutex::new(Window::new(origin))),
            asked_at: now,
        });
        entry.asked_at = now;
        entry.window.clone()
    }
}

/// What a live playlist lists now.
#[derive(Debug)]
pub struct Window {
    origin: (Timestamp, FragmentNumber),
    pub segments: VecDeque<Listed>,
    /// What comes behind them and is not kept yet, as far as it is here.
    pub arriving: Option<Listed>,
    /// [`Snapshot::kept`] when the archive was last asked.
    asked_at: Option<u64>,
    /// Video segments that slid out.
    pub video_sequence: u64,
    /// Audio segments that slid out.
    pub audio_sequence: u64,
    /// Segments that slid out and had pictures but no sound.
    pub soundless_sequence: u64,
    /// The last sound that slid out.
    pub sound: Option<TrackSpan>,
    /// Discontinuities that slid out.
    pub discontinuity_sequence: u64,
    /// Where footage began that goes on in the first segment.
    pub period_start: Timestamp,
    /// Its playlists as they were written last.
    written: Vec<Written>,
}

/// A media playlist of a window.
#[derive(Clone, Debug)]
pub struct Written {
    pub rendition: Rendition,
    /// Whether it leaves out what a player has.
    pub skip: bool,
    /// What its stream had come to, as of [`Arriving::changes`](crate::arriving::Arriving::changes).
    pub change: u64,
    pub edge: Edge,
    /// None where nothing of the rendition is listed.
    pub text: Option<Arc<Text>>,
}

impl Window {
    fn new(origin: (Timestamp, FragmentNumber)) -> Self {
        Self {
            origin,
            segments: VecDeque::new(),
            arriving: None,
            asked_at: None,
            video_sequence: 0,
            audio_sequence: 0,
            soundless_sequence: 0,
            sound: None,
            discontinuity_sequence: 0,
            period_start: origin.0,
            written: Vec::new(),
        }
    }

    /// What is listed, whole or not, in its order.
    pub fn listed(&self) -> impl Iterator<Item = &Listed> {
        self.segments.iter().chain(&self.arriving)
    }

    /// Where the session began.
    pub fn origin(&self) -> Timestamp {
        self.origin.0
    }

    /// A playlist that was written since this became of the stream.
    pub fn written(&self, rendition: Rendition, skip: bool, change: u64) -> Option<Written> {
        let is_same = |w: &&Written| (w.rendition, w.skip) == (rendition, skip);
        self.written.iter().find(is_same).filter(|written| written.change >= change).cloned()
    }

    pub fn keep_written(&mut self, written: Written) {
        self.written.retain(|w| (w.rendition, w.skip) != (written.rendition, written.skip));
        self.written.push(written);
    }

    /// Appends what arrived since. `snapshot` is older than the archive's answers.
    pub async fn follow(
        &mut self,
        archive: &EmbeddedArchive,
        snapshot: &Snapshot,
        stream: StreamId,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let found = if self.asked_at == Some(snapshot.kept) {
            Vec::new()
        } else {
            self.find(archive, stream, now).await?
        };
        self.asked_at = Some(snapshot.kept);
        self.advance(found, &snapshot.fragments);
        Ok(())
    }

    /// What the archive has beyond the last fragment.
    async fn find(
        &self,
        archive: &EmbeddedArchive,
        stream: StreamId,
        now: Timestamp,
    ) -> Result<Vec<FragmentRecord>, StorageError> {
        let end = now.plus_millis(MAX_AHEAD_MS);
        let is_new = self.segments.is_empty();
        let mut from = match self.segments.back() {
            Some(last) => last.fragment.range().end.plus_millis(-RUN_TOLERANCE_MS),
            None => self.origin.0,
        };
        let mut found = Vec::new();
        while let Some(range) = TimeRange::new(from, end) {
            let query = FragmentQuery {
                by: RangeBy::Timeline,
                range,
                order: TimeOrder::OldestFirst,
                limit: BATCH,
            };
            let batch = archive.fragments(stream, &query).await?;
            let (count, newest) = (batch.len(), batch.last().map(|f| f.start));
            found.extend(batch.into_iter().filter(|f| f.start >= from));
            match newest {
                // Starts are unique, so that the next batch begins after the last one of this.
                Some(start) if count == BATCH && start >= from => from = start.plus_millis(1),
                _ => break,
            }
        }
        if is_new {
            found.retain(|f| f.start >= self.origin.0);
            drop_late(&mut found, self.origin.1);
        }
        Ok(found)
    }

    fn advance(&mut self, mut found: Vec<FragmentRecord>, known: &[Arc<Fragment>]) {
        if let Some(announced) = self.arriving.take() {
            let number = announced.fragment.number;
            let now = known.iter().find(|f| f.number == number);
            let is_overtaken = found.iter().any(|f| f.number > number);
            let is_waiting = match now.map(|f| f.state) {
                Some(State::Whole) => true,
                // Its connection is lost, and the camera goes on over another.
                Some(State::Arriving) => !is_overtaken,
                Some(State::Kept | State::Cut) | None => false,
            };
            if let Some(at) = found.iter().position(|f| f.number == number) {
                let kept = found.remove(at);
                self.append(kept);
            } else if is_waiting {
                // The archive is asked again when this one is in it.
                found.clear();
            } else {
                self.append(now.and_then(|f| f.record()).unwrap_or(announced.fragment));
            }
        }
        found.into_iter().for_each(|fragment| self.append(fragment));
        self.arriving = self.next_arriving(known);
    }

    /// What follows the last fragment and is not kept yet. No more than one: parts are those of the
    /// next segment that is listed whole (draft-pantos-hls-rfc8216bis §4.4.4.9), and those of another
    /// cannot stand before that.
    fn next_arriving(&self, known: &[Arc<Fragment>]) -> Option<Listed> {
        let last = self.segments.back()?;
        let is_kept = |number| self.segments.iter().any(|s| s.fragment.number == number);
        known
            .iter()
            .filter(|f| matches!(f.state, State::Arriving | State::Whole) && !is_kept(f.number))
            .filter(|f| f.has_short_parts())
            .find_map(|f| appended(Some(last), f.record()?))
    }

    fn append(&mut self, fragment: FragmentRecord) {
        let Some(mut listed) = appended(self.segments.back(), fragment) else { return };
        // Of a fragment that was cut short, a track may not have come at all.
        listed.fragment.tracks.retain(|track| track.duration > 0);
        self.segments.push_back(listed);
        while self.segments.len() > MIN_SEGMENTS && self.without_first_ms() >= MIN_WINDOW_MS {
            let Some(gone) = self.segments.pop_front() else { break };
            let has_video = gone.fragment.tracks.iter().any(|track| track.is_video);
            let sound = gone.fragment.tracks.iter().find(|track| !track.is_video);
            self.video_sequence += u64::from(has_video);
            self.audio_sequence += u64::from(sound.is_some());
            self.soundless_sequence += u64::from(has_video && sound.is_none());
            self.sound = sound.copied().or(self.sound);
            self.discontinuity_sequence += u64::from(gone.discontinuity);
            if let Some(first) = self.segments.front().filter(|first| first.discontinuity) {
                self.period_start = first.fragment.start;
            }
        }
    }

    /// Footage in the window but for its first segment.
    fn without_first_ms(&self) -> i64 {
        match (self.segments.get(1), self.segments.back()) {
            (Some(second), Some(last)) => {
                last.fragment.range().end.millis_since(second.fragment.start)
            }
            _ => 0,
        }
    }
}

/// A fragment as it is listed behind `last`; `None` where it lies before the end of that.
fn appended(last: Option<&Listed>, fragment: FragmentRecord) -> Option<Listed> {
    let discontinuity = match last {
        Some(last) => {
            let overlap_ms = last.fragment.range().end.millis_since(fragment.start);
            if fragment.start <= last.fragment.start || overlap_ms > RUN_TOLERANCE_MS {
                return None;
            }
            !listing::continues(&last.fragment, &fragment)
        }
        None => false,
    };
    Some(Listed { fragment, discontinuity })
}

/// What a list that may only grow holds by now: what had arrived up to `newest`, arranged, and then
/// what arrived since and lies behind it.
pub fn grown(by_start: Vec<FragmentRecord>, newest: FragmentNumber) -> Vec<Listed> {
    let (before, mut since): (Vec<_>, Vec<_>) =
        by_start.into_iter().partition(|fragment| fragment.number <= newest);
    let mut listed = arrange(before);
    drop_late(&mut since, newest);
    for fragment in since {
        let next = appended(listed.last(), fragment);
        listed.extend(next);
    }
    listed
}

/// Drops fragments that arrived after one that lies later on the timeline: a window that had been
/// there all the time would not have appended them.
fn drop_late(by_start: &mut Vec<FragmentRecord>, origin: FragmentNumber) {
    let mut lowest = FragmentNumber(u64::MAX);
    let mut kept: Vec<bool> = by_start
        .iter()
        .rev()
        .map(|fragment| {
            let in_time = fragment.number < lowest || fragment.number == origin;
            lowest = lowest.min(fragment.number);
            in_time
        })
        .collect();
    kept.reverse();
    let mut kept = kept.into_iter();
    by_start.retain(|_| kept.next().unwrap_or(true));
}

/// Where a session that begins now starts: the oldest fragment that a window over `newest_first`
/// would hold.
pub fn origin(newest_first: &[FragmentRecord]) -> Option<&FragmentRecord> {
    let mut fragments = newest_first.iter();
    let newest = fragments.next()?;
    let mut origin = newest;
    for (count, fragment) in (1..).zip(fragments) {
        let length_ms = newest.range().end.millis_since(origin.start);
        let hole_ms = origin.start.millis_since(fragment.range().end);
        if (count >= MIN_SEGMENTS && length_ms >= MIN_WINDOW_MS) || hole_ms > MAX_HOLE_MS {
            break;
        }
        origin = fragment;
    }
    Some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arriving::{Arriving, Feed, Part, Track};
    use crate::storage::{InitId, Location};

    /// A fragment of video and sound, its start and length in seconds.
    fn fragment((at_s, length_s, number): (i64, u32, u64)) -> FragmentRecord {
        let start = Timestamp::from_millis(at_s * 1_000);
        let track = |is_video| TrackSpan {
            init: InitId(u64::from(is_video)),
            is_video,
            key: true,
            decode_time: 0,
            duration: 1,
            timescale: 1,
            offset: 0,
            len: 0,
        };
        FragmentRecord {
            number: FragmentNumber(number),
            start,
            duration_ms: length_s * 1_000,
            capture_start: start,
            arrived_at: start,
            tracks: [track(true), track(false)].into(),
            location: Location { file: 0, offset: 0, len: 0 },
        }
    }

    fn window(fragments: &[(i64, u32, u64)]) -> Window {
        let mut window = Window::new((Timestamp::from_millis(0), FragmentNumber(0)));
        fragments.iter().copied().map(fragment).for_each(|f| window.append(f));
        window
    }

    /// Starts in seconds, `|` before a discontinuity.
    fn listed(window: &Window) -> String {
        starts(&window.segments)
    }

    fn starts<'a>(listed: impl IntoIterator<Item = &'a Listed>) -> String {
        let starts = listed.into_iter().map(|one| {
            let at_s = one.fragment.start.as_millis() / 1_000;
            format!("{}{at_s}", if one.discontinuity { "|" } else { "" })
        });
        starts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn playlists_are_shared_until_something_becomes_of_the_stream() {
        let mut window = window(&[(0, 2, 1)]);
        let written = |skip, change| Written {
            rendition: Rendition::Video,
            skip,
            change,
            edge: Edge::default(),
            text: Some(Text::shared(format!("{skip} {change}"))),
        };
        window.keep_written(written(false, 7));
        window.keep_written(written(true, 7));
        window.keep_written(written(true, 9));
        for (rendition, skip, change, expected) in [
            (Rendition::Video, false, 7, Some("false 7")),
            (Rendition::Video, false, 8, None),
            // Whoever saw less has missed nothing.
            (Rendition::Video, true, 8, Some("true 9")),
            (Rendition::Video, true, 10, None),
            (Rendition::Audio, true, 7, None),
        ] {
            let found = window.written(rendition, skip, change).and_then(|written| written.text);
            let found = found.as_ref().map(|text| text.plain.as_ref());
            assert_eq!(found, expected.map(str::as_bytes), "{rendition:?} {skip} {change}");
        }
    }

    #[test]
    fn only_appends() {
        // What lies before the last fragment's end came late, or twice.
        let window = window(&[(0, 2, 1), (2, 2, 2), (9, 2, 3), (4, 2, 4), (9, 2, 5), (10, 2, 6)]);
        assert_eq!(listed(&window), "0 2 |9");
    }

    #[test]
    fn slides_by_footage_and_by_count_and_counts_what_left() {
        let seconds: Vec<_> = (0..50).map(|n| (n, 1, n as u64)).collect();
        let of_seconds = window(&seconds);
        assert_eq!((of_seconds.segments.len(), of_seconds.video_sequence), (30, 20));
        assert_eq!(of_seconds.audio_sequence, 20);

        let long: Vec<_> = (0..10).map(|n| (n * 20, 20, n as u64)).collect();
        let of_long = window(&long);
        assert_eq!((of_long.segments.len(), of_long.video_sequence), (MIN_SEGMENTS, 4));

        // A discontinuity counts when the segment behind it leaves.
        let holes: Vec<_> = (0..10).map(|n| (n * 21, 20, n as u64)).collect();
        let with_holes = window(&holes);
        assert_eq!(listed(&with_holes), "|84 |105 |126 |147 |168 |189");
        assert_eq!(with_holes.period_start.as_millis(), 84_000);
        assert_eq!(of_seconds.period_start.as_millis(), 0);
        assert_eq!(with_holes.discontinuity_sequence, 3);
    }

    #[test]
    fn a_window_made_again_is_the_same() {
        let arrived = [(0, 2, 10), (2, 2, 11), (8, 2, 12), (4, 2, 13), (10, 2, 14), (6, 2, 15)];
        let kept = window(&arrived);
        let mut found: Vec<_> = arrived.iter().copied().map(fragment).collect();
        found.sort_by_key(|f| f.start);
        drop_late(&mut found, FragmentNumber(10));
        let mut again = Window::new((Timestamp::from_millis(0), FragmentNumber(10)));
        found.into_iter().for_each(|f| again.append(f));
        assert_eq!(listed(&again), listed(&kept));
        assert_eq!(listed(&kept), "0 2 |8 10");
    }

    #[test]
    fn a_growing_list_keeps_what_it_listed() {
        let arrived: Vec<_> = [
            // There before: sent again and cut elsewhere, and a hole.
            (0, 2, 1),
            (1, 2, 4),
            (2, 2, 2),
            (10, 2, 3),
            // Since: into the hole, behind the end, before that, and going on.
            (4, 2, 5),
            (12, 2, 6),
            (18, 2, 7),
            (14, 2, 8),
            (20, 2, 9),
        ]
        .into_iter()
        .map(fragment)
        .collect();
        let mut last = String::new();
        for count in 4..=arrived.len() {
            let mut by_start = arrived[..count].to_vec();
            by_start.sort_by_key(|f| f.start);
            let listed = starts(&grown(by_start, FragmentNumber(4)));
            assert!(listed.starts_with(&last), "{listed} after {last}");
            last = listed;
        }
        assert_eq!(last, "0 2 |10 12 |18 20");
    }

    /// One camera that uploads, and one who watches it.
    struct Live {
        arriving: Arc<Arriving>,
        stream: StreamId,
        window: Window,
        _watcher: tokio::sync::watch::Receiver<u64>,
    }

    impl Live {
        fn new() -> Self {
            let arriving = Arc::new(Arriving::default());
            let stream = StreamId::new(Timestamp::from_millis(0));
            let _watcher = arriving.changes(stream);
            Self { arriving, stream, window: window(&[(0, 2, 1), (2, 2, 2)]), _watcher }
        }

        /// Half a second of a fragment's video comes.
        fn part(&self, feed: &mut Feed, number: u64, at_ms: u64) {
            let number = FragmentNumber(number);
            if self.arriving.fragment(self.stream, number).is_none() {
                let track = |is_video| Track {
                    init: InitId(u64::from(is_video)),
                    is_video,
                    timescale: 1_000,
                };
                let tracks = [track(true), track(false)].into();
                feed.begin(number, Timestamp::from_millis(0), tracks);
            }
            let bytes = vec![0; 9].into();
            feed.add(
                number,
                Part { track: 0, decode_time: at_ms, duration: 500, key: true, bytes },
            );
        }

        /// What is listed after the archive got more: kept, then arriving with milliseconds.
        fn look(&mut self, found: &[(i64, u32, u64)]) -> String {
            let snapshot = self.arriving.snapshot(self.stream);
            let found = found.iter().copied().map(fragment).collect();
            self.window.advance(found, &snapshot.fragments);
            let arriving: Vec<String> = self
                .window
                .arriving
                .iter()
                .map(|one| format!("{}+{}", starts([one]), one.fragment.duration_ms))
                .collect();
            format!("{} / {}", listed(&self.window), arriving.join(" ")).trim_end().to_owned()
        }
    }

    #[test]
    fn what_arrives_is_listed_behind_what_is_kept() {
        let mut live = Live::new();
        let mut feed = live.arriving.feed(live.stream);
        assert_eq!(live.look(&[]), "0 2 /");
        live.part(&mut feed, 3, 4_000);
        assert_eq!(live.look(&[]), "0 2 / 4+500");
        live.part(&mut feed, 3, 4_500);
        feed.whole(FragmentNumber(3));
        live.part(&mut feed, 4, 5_000);
        assert_eq!(live.look(&[]), "0 2 / 4+1000", "its parts would be taken for those of 4");
        // The archive has a later one first: it waits for its turn.
        assert_eq!(live.look(&[(5, 1, 4)]), "0 2 / 4+1000");
        feed.kept(FragmentNumber(3));
        assert_eq!(live.look(&[(4, 1, 3)]), "0 2 4 / 5+500");
        // Behind a hole.
        feed.whole(FragmentNumber(4));
        feed.kept(FragmentNumber(4));
        live.part(&mut feed, 5, 9_000);
        assert_eq!(live.look(&[(5, 1, 4)]), "0 2 4 5 / |9+500");
        // Backlog is for ON_DEMAND.
        let mut other = live.arriving.feed(live.stream);
        live.part(&mut other, 6, 1_000);
        assert_eq!(live.look(&[]), "0 2 4 5 / |9+500");
    }

    #[test]
    fn what_was_listed_keeps_its_place_when_the_connection_is_lost() {
        let mut live = Live::new();
        let mut feed = live.arriving.feed(live.stream);
        live.part(&mut feed, 3, 4_000);
        live.look(&[]);
        drop(feed);
        assert_eq!(live.look(&[]), "0 2 4 /");
        let cut = live.arriving.fragment(live.stream, FragmentNumber(3)).unwrap();
        assert_eq!(cut.parts_of(0).filter_map(|part| part.joined()).count(), 1, "it still plays");
        // What is sent again overlaps it; the next fragment goes on.
        let mut again = live.arriving.feed(live.stream);
        live.part(&mut again, 4, 4_000);
        assert_eq!(live.look(&[]), "0 2 4 /");
        assert_eq!(live.look(&[(4, 2, 4), (6, 2, 5)]), "0 2 4 |6 /");

        // A connection whose end nobody noticed is overtaken.
        live.part(&mut again, 6, 8_000);
        assert_eq!(live.look(&[]), "0 2 4 |6 / 8+500");
        assert_eq!(live.look(&[(8, 2, 7), (10, 2, 8)]), "0 2 4 |6 8 |10 /");
        // Of what nobody was told nothing stays.
        let mut unseen = live.arriving.feed(live.stream);
        live.part(&mut unseen, 9, 12_000);
        drop(unseen);
        assert_eq!(live.look(&[(12, 2, 10)]), "0 2 4 |6 8 |10 12 /");
    }

    #[test]
    fn slow_pictures_are_listed_when_they_are_whole() {
        let mut live = Live::new();
        let mut feed = live.arriving.feed(live.stream);
        let track = Track { init: InitId(1), is_video: true, timescale: 1_000 };
        feed.begin(FragmentNumber(3), Timestamp::from_millis(0), [track].into());
        let bytes = vec![0; 9].into();
        let part = Part { track: 0, decode_time: 4_000, duration: 1_000, key: true, bytes };
        feed.add(FragmentNumber(3), part);
        assert_eq!(live.look(&[]), "0 2 /");
        feed.whole(FragmentNumber(3));
        feed.kept(FragmentNumber(3));
        assert_eq!(live.look(&[(4, 1, 3)]), "0 2 4 /");
    }

    #[test]
    fn forgets_windows_that_nobody_asks_for() {
        let windows = Windows::default();
        let at = Timestamp::from_millis;
        let origin = (at(0), FragmentNumber(0));
        let (watched, left) = (SessionId::new(at(0)), SessionId::new(at(0)));
        let first = windows.of(watched, origin, at(0));
        windows.of(left, origin, at(0));
        windows.of(watched, origin, at(UNASKED_MS - 1));
        windows.of(SessionId::new(at(0)), origin, at(UNASKED_MS));
        assert!(!windows.by_session.lock().contains_key(&left));
        assert!(Arc::ptr_eq(&first, &windows.of(watched, origin, at(UNASKED_MS))));
    }

    #[test]
    fn begins_half_a_minute_back_but_not_before_a_hole() {
        let newest_first = |fragments: &[(i64, u32, u64)]| -> Vec<_> {
            fragments.iter().rev().copied().map(fragment).collect()
        };
        let seconds: Vec<_> = (0..90).map(|n| (n, 1, n as u64)).collect();
        let long: Vec<_> = (0..90).map(|n| (n * 10, 10, n as u64)).collect();
        for (fragments, origin_s) in [
            (&seconds[..], Some(60)),
            (&long[..], Some(840)),
            (&[(0, 2, 1), (13, 2, 2), (15, 2, 3)][..], Some(13)),
            (&[(0, 2, 1), (12, 2, 2), (14, 2, 3)][..], Some(0)),
            (&[(5, 2, 1)][..], Some(5)),
            (&[][..], None),
        ] {
            let fragments = newest_first(fragments);
            let found = origin(&fragments).map(|f| f.start.as_millis() / 1_000);
            assert_eq!(found, origin_s);
        }
    }
}
