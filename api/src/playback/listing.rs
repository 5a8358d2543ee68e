//! What of a stream's fragments a session lists, in which segments and where it breaks: the same for
//! HLS and DASH.
//!
//! A segment is one fragment's track: its chunks, one range of the fragment's body. Spans of more
//! than 6 h join some, so that a day is a third as many.

use super::live::Window;
use super::segments::{MAX_JOINED, SegmentName, SilenceName};
use super::token::{MediaToken, Span};
use super::{MediaError, Playback, Rendition, live};
use crate::arriving::{Fragment, Snapshot};
use crate::id::StreamId;
use crate::segment::TimeRange;
use crate::storage::{
    FragmentQuery, FragmentRecord, InitId, RUN_TOLERANCE_MS, RangeBy, StorageError, TimeOrder,
    TrackSpan,
};
use lookback_packaging::{TrackInit, flac, silence};
use lookback_wire::{FragmentNumber, Timestamp, TrackKind};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

/// A day of fragments of 1 s, and re-sent ones.
pub const MAX_FRAGMENTS: usize = 100_000;
/// Longer spans join fragments.
pub const JOINED_BEYOND_MS: i64 = 6 * 3_600 * 1_000;
/// Fragments are joined up to this: three of 2 s whose lengths vary by some frames.
pub const JOINED_MS: i64 = 6_400;

/// What a session's playlists list now.
#[derive(Debug)]
pub struct Listing {
    pub fragments: Vec<Listed>,
    pub frame: Frame,
    pub inits: PlayableInits,
    /// The sound that left a live window last.
    pub sound: Option<TrackSpan>,
    /// Live: what is not kept yet.
    pub arriving: Arrivals,
}

/// What a live session is told of before it is kept.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The fragment that follows those that are listed, as far as it is here.
    pub listed: Option<Listed>,
    /// Its parts, and those of the last ones before it.
    pub fragments: Vec<Arc<Fragment>>,
}

/// A fragment as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    pub fragment: FragmentRecord,
    /// Whether it does not continue the one listed before.
    pub discontinuity: bool,
}

/// What a playlist says of itself, around its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    OnDemand {
        start_offset_ms: u32,
        is_joined: bool,
    },
    /// Fragments up to `joined_until` are joined: they were there when the session was minted.
    LiveReplay {
        start_offset_ms: u32,
        target_duration_s: u32,
        joined_until: Option<FragmentNumber>,
    },
    Live {
        target_duration_s: u32,
        video_sequence: u64,
        audio_sequence: u64,
        /// Of them that slid out, those with pictures alone.
        soundless_sequence: u64,
        discontinuity_sequence: u64,
        /// Where the session began.
        origin: Timestamp,
        /// Where footage began that goes on in the first fragment listed.
        period_start: Timestamp,
    },
}

/// A media segment of one rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// After its first fragment.
    pub name: SegmentName,
    /// What is played in the place of a track that the fragment has not.
    pub silence: Option<SilenceName>,
    pub init: InitId,
    /// Of its first sample, in ticks since the Unix epoch.
    pub decode_time: u64,
    /// In ticks.
    pub duration: u64,
    /// Ticks a second.
    pub timescale: u32,
    /// At most.
    pub bytes: u64,
    /// Whether it does not continue the one before.
    pub discontinuity: bool,
}

/// Initialization segments of a listing that players take.
#[derive(Debug, Default)]
pub struct PlayableInits(pub Vec<(InitId, Arc<TrackInit>)>);

impl PlayableInits {
    pub fn get(&self, id: InitId) -> Option<&Arc<TrackInit>> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, init)| init)
    }

    /// How long a track's part of a fragment is at most, in bytes, as players get it.
    fn played_len(&self, track: &TrackSpan) -> u64 {
        let is_flac = self.get(track.init).is_some_and(|init| init.codecs == flac::CODECS);
        u64::from(track.len) * if is_flac { flac::MAX_GROWTH } else { 1 }
    }

    /// The track of a fragment that a rendition plays.
    pub fn track_of<'a>(
        &self,
        fragment: &'a FragmentRecord,
        rendition: Rendition,
    ) -> Option<&'a TrackSpan> {
        let is_video = rendition == Rendition::Video;
        let is_played = |track: &&TrackSpan| {
            track.is_video == is_video && self.0.iter().any(|(id, _)| *id == track.init)
        };
        fragment.tracks.iter().find(is_played)
    }

    pub fn of_kind(&self, kind: TrackKind) -> impl Iterator<Item = &TrackInit> {
        self.0.iter().map(|(_, init)| init.as_ref()).filter(move |init| init.kind == kind)
    }
}

impl Playback {
    /// What a session's playlists list.
    pub(super) async fn listing(&self, token: &MediaToken) -> Result<Listing, StorageError> {
        let archive = self.storage.local()?;
        let (fragments, frame) = match token.span {
            Span::OnDemand { range, start_offset_ms } => {
                let query = FragmentQuery {
                    by: RangeBy::Timeline,
                    range,
                    order: TimeOrder::OldestFirst,
                    limit: MAX_FRAGMENTS,
                };
                let fragments = archive.fragments(token.stream, &query).await?;
                let is_joined = range.millis() > JOINED_BEYOND_MS;
                (arrange(fragments), Frame::OnDemand { start_offset_ms, is_joined })
            }
            Span::LiveReplay { start, start_offset_ms, newest, target_duration_s, is_joined } => {
                let now = self.clock.now();
                let end = now.plus_millis(live::MAX_AHEAD_MS);
                let query = FragmentQuery {
                    by: RangeBy::Timeline,
                    range: TimeRange { start, end: end.max(start) },
                    order: TimeOrder::OldestFirst,
                    limit: MAX_FRAGMENTS,
                };
                let fragments = archive.fragments(token.stream, &query).await?;
                let frame = Frame::LiveReplay {
                    start_offset_ms,
                    target_duration_s,
                    joined_until: is_joined.then_some(newest),
                };
                (live::grown(fragments, newest), frame)
            }
            Span::Live { origin, number, target_duration_s } => {
                let (window, snapshot) = self.window(token, (origin, number)).await?;
                return self.live_listing(token.stream, target_duration_s, &window, snapshot).await;
            }
        };
        let tracks = fragments.iter().flat_map(|listed| &listed.fragment.tracks);
        let inits = self.playable_inits(token.stream, tracks).await?;
        Ok(Listing { fragments, frame, inits, arriving: Arrivals::default(), sound: None })
    }

    /// What a live session's playlists list now.
    pub(super) async fn live_listing(
        &self,
        stream: StreamId,
        target_duration_s: u32,
        window: &Window,
        snapshot: Snapshot,
    ) -> Result<Listing, StorageError> {
        let arriving = Arrivals { listed: window.arriving.clone(), fragments: snapshot.fragments };
        let frame = Frame::Live {
            target_duration_s,
            video_sequence: window.video_sequence,
            audio_sequence: window.audio_sequence,
            soundless_sequence: window.soundless_sequence,
            discontinuity_sequence: window.discontinuity_sequence,
            origin: window.origin(),
            period_start: window.period_start,
        };
        let sound = window.sound;
        let fragments: Vec<Listed> = window.segments.iter().cloned().collect();
        let listed = fragments.iter().chain(&arriving.listed);
        let tracks = listed.flat_map(|listed| &listed.fragment.tracks).chain(&sound);
        let inits = self.playable_inits(stream, tracks).await?;
        Ok(Listing { fragments, frame, inits, arriving, sound })
    }

    /// A live session's window as it is now, and what is arriving behind it.
    async fn window(
        &self,
        token: &MediaToken,
        origin: (Timestamp, FragmentNumber),
    ) -> Result<(OwnedMutexGuard<Window>, Snapshot), StorageError> {
        let window = self.live.of(token.session, origin, self.clock.now());
        let mut window = window.lock_owned().await;
        let snapshot = self.follow_window(token.stream, &mut window).await?;
        Ok((window, snapshot))
    }

    /// Appends to a window what arrived since; answers what is arriving.
    pub(super) async fn follow_window(
        &self,
        stream: StreamId,
        window: &mut Window,
    ) -> Result<Snapshot, StorageError> {
        let snapshot = self.arriving.snapshot(stream);
        let archive = self.storage.local()?.as_ref();
        window.follow(archive, &snapshot, stream, self.clock.now()).await?;
        Ok(snapshot)
    }

    /// What a live session lists behind a fragment; waited for where that is the last one.
    pub(super) async fn listed_after(
        &self,
        token: &MediaToken,
        number: FragmentNumber,
        until: Instant,
    ) -> Result<FragmentRecord, MediaError> {
        let Span::Live { origin, number: first, .. } = token.span else {
            return Err(MediaError::NotFound);
        };
        let mut changes = self.arriving.changes(token.stream);
        loop {
            changes.borrow_and_update();
            {
                let (window, _) = self.window(token, (origin, first)).await?;
                let is_other = |listed: &&Listed| listed.fragment.number != number;
                let mut listed = window.listed().skip_while(is_other);
                listed.next().ok_or(MediaError::NotFound)?;
                if let Some(next) = listed.next() {
                    return Ok(next.fragment.clone());
                }
            }
            match timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(MediaError::NotFound),
            }
        }
    }

    /// The initialization segments of tracks that players take, in the order of their use.
    pub(super) async fn playable_inits(
        &self,
        stream: StreamId,
        tracks: impl IntoIterator<Item = &TrackSpan>,
    ) -> Result<PlayableInits, StorageError> {
        let mut ids = Vec::new();
        for track in tracks {
            if !ids.contains(&track.init) {
                ids.push(track.init);
            }
        }
        let mut playable = Vec::with_capacity(ids.len());
        for id in ids {
            let init = self.played_init(stream, id).await?;
            playable.extend(init.filter(|i| i.playable).map(|init| (id, init)));
        }
        Ok(PlayableInits(playable))
    }
}

impl Listing {
    /// All of it, what is arriving at the end.
    fn listed(&self) -> impl DoubleEndedIterator<Item = &Listed> {
        self.fragments.iter().chain(&self.arriving.listed)
    }

    /// The fragment that is listed last.
    pub fn last(&self) -> Option<FragmentNumber> {
        self.listed().next_back().map(|listed| listed.fragment.number)
    }

    /// The fragment that is listed before another, among the last few.
    pub fn before(&self, number: FragmentNumber) -> Option<FragmentNumber> {
        let mut listed = self.listed().rev().skip_while(|listed| listed.fragment.number != number);
        listed.nth(1).map(|listed| listed.fragment.number)
    }

    /// The segments of a rendition. Where pictures have no sound, and other fragments have, there is
    /// silence in its place: else players would stop there.
    pub fn entries(&self, rendition: Rendition) -> Vec<Entry> {
        let silent = if rendition == Rendition::Audio { self.first_sound() } else { None };
        self.entries_of(&self.fragments, rendition, silent)
    }

    /// The segments of a rendition that are not whole.
    pub fn arriving_entries(&self, rendition: Rendition) -> Vec<Entry> {
        let mut entries = self.entries_of(self.arriving.listed.as_slice(), rendition, None);
        entries.retain(|entry| entry.duration > 0);
        entries
    }

    /// `silent` is the sound in whose place there may be silence.
    fn entries_of<'a>(
        &'a self,
        fragments: &'a [Listed],
        rendition: Rendition,
        mut silent: Option<&'a TrackSpan>,
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(fragments.len());
        let mut discontinuity = false;
        let mut may_join = false;
        for Listed { fragment, discontinuity: breaks } in fragments {
            discontinuity |= breaks;
            let Some(track) = self.inits.track_of(fragment, rendition) else {
                may_join = false;
                let silence = silent.and_then(|track| self.silence_in(fragment, track));
                entries.extend(silence.map(|entry| Entry {
                    discontinuity: std::mem::take(&mut discontinuity),
                    ..entry
                }));
                continue;
            };
            if silent.is_some() {
                silent = Some(track);
            }
            let bytes = self.inits.played_len(track);
            let joins = may_join && !discontinuity && self.joins(fragment);
            may_join = true;
            if joins && entries.last_mut().is_some_and(|entry| entry.join(track, bytes)) {
                continue;
            }
            let name =
                SegmentName { start: fragment.start, number: fragment.number, count: 1, rendition };
            entries.push(Entry {
                name,
                silence: None,
                init: track.init,
                decode_time: track.decode_time,
                duration: track.duration,
                timescale: track.timescale,
                bytes,
                discontinuity: std::mem::take(&mut discontinuity),
            });
        }
        entries
    }

    /// The first sound there is.
    fn first_sound(&self) -> Option<&TrackSpan> {
        let fragments = self.fragments.iter().map(|listed| &listed.fragment);
        let mut sounds = fragments.filter_map(|one| self.inits.track_of(one, Rendition::Audio));
        sounds.next().or(self.sound.as_ref())
    }

    /// Whether pictures without sound get silence.
    pub fn has_silence(&self) -> bool {
        let init = self.first_sound().and_then(|track| self.inits.get(track.init));
        init.is_some_and(|init| silence::exists_for(init))
    }

    /// Silence as long as a fragment's pictures, such as `sound` would have it.
    fn silence_in(&self, fragment: &FragmentRecord, sound: &TrackSpan) -> Option<Entry> {
        let video = self.inits.track_of(fragment, Rendition::Video)?;
        self.inits.get(sound.init).filter(|init| silence::exists_for(init))?;
        let scaled = |ticks: u64| {
            let from = u128::from(video.timescale.max(1));
            u64::try_from(u128::from(ticks) * u128::from(sound.timescale) / from).ok()
        };
        let decode_time = scaled(video.decode_time)?;
        let end = scaled(video.decode_time.checked_add(video.duration)?)?;
        let duration = end.checked_sub(decode_time).filter(|duration| *duration > 0)?;
        let name = SilenceName { init: sound.init, decode_time, duration };
        Some(Entry {
            name: SegmentName {
                start: fragment.start,
                number: fragment.number,
                count: 1,
                rendition: Rendition::Audio,
            },
            silence: Some(name),
            init: sound.init,
            decode_time,
            duration,
            timescale: sound.timescale,
            bytes: 0,
            discontinuity: false,
        })
    }

    /// Whether a fragment may be joined to the one before.
    fn joins(&self, fragment: &FragmentRecord) -> bool {
        match self.frame {
            Frame::OnDemand { is_joined, .. } => is_joined,
            Frame::LiveReplay { joined_until, .. } => {
                joined_until.is_some_and(|newest| fragment.number <= newest)
            }
            Frame::Live { .. } => false,
        }
    }
}

impl Entry {
    /// Appends its name.
    pub fn push_uri(&self, text: &mut String) {
        match self.silence {
            Some(silence) => silence.push_to(text),
            None => self.name.push_to(text),
        }
    }

    /// Takes in the track of the next fragment, if there is room for it.
    fn join(&mut self, track: &TrackSpan, bytes: u64) -> bool {
        let duration = self.duration.saturating_add(track.duration);
        let longest = u128::from(self.timescale) * JOINED_MS.unsigned_abs() as u128 / 1_000;
        let name = &mut self.name;
        let has_room =
            self.silence.is_none() && name.count < MAX_JOINED && u128::from(duration) <= longest;
        let joins = has_room && track.init == self.init && track.timescale == self.timescale;
        if joins {
            name.count += 1;
            self.duration = duration;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        joins
    }

    /// When its first sample is shown, on the timeline.
    pub fn shown_at(&self) -> Timestamp {
        let timescale = u128::from(self.timescale).max(1);
        let millis = (u128::from(self.decode_time) * 1_000 + timescale / 2) / timescale;
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// Whether a token's span opens a fragment.
pub fn opens(span: Span, fragment: &FragmentRecord) -> bool {
    match span {
        Span::OnDemand { range, .. } => fragment.range().overlaps(&range),
        Span::LiveReplay { start, .. } => fragment.range().end > start,
        Span::Live { origin, .. } => fragment.start >= origin,
    }
}

/// Whether a player goes on from one fragment to the next without being told: no hole or overlap
/// that it would notice, and the same tracks.
pub fn continues(before: &FragmentRecord, after: &FragmentRecord) -> bool {
    let hole_ms = after.start.millis_since(before.range().end);
    hole_ms.abs() <= RUN_TOLERANCE_MS
        && before.tracks.len() == after.tracks.len()
        && before.tracks.iter().zip(&after.tracks).all(|(a, b)| a.init == b.init)
}

/// Fragments in the order of their starts into what a finished playlist lists. Where some overlap
/// (a camera sent its footage again, cut elsewhere), those are left out that a gapless way through
/// does not need.
pub fn arrange(by_start: Vec<FragmentRecord>) -> Vec<Listed> {
    // Of each fragment, whether it is listed and then whether it breaks: records move only once.
    let mut breaks: Vec<Option<bool>> = Vec::with_capacity(by_start.len());
    let mut last: Option<&FragmentRecord> = None;
    for (index, fragment) in by_start.iter().enumerate() {
        let discontinuity = match last {
            None => Some(false),
            Some(last) => {
                let end = last.range().end;
                let overlaps = end.millis_since(fragment.start) > RUN_TOLERANCE_MS;
                let is_needless = overlaps && {
                    let covered = fragment.range().end <= end;
                    let next_continues = by_start
                        .get(index + 1)
                        .is_some_and(|next| next.start.millis_since(end).abs() <= RUN_TOLERANCE_MS);
                    covered || next_continues
                };
                (!is_needless).then(|| !continues(last, fragment))
            }
        };
        if discontinuity.is_some() {
            last = Some(fragment);
        }
        breaks.push(discontinuity);
    }
    let mut listed = Vec::with_capacity(by_start.len());
    for (fragment, discontinuity) in by_start.into_iter().zip(breaks) {
        if let Some(discontinuity) = discontinuity {
            listed.push(Listed { fragment, discontinuity });
        }
    }
    listed
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::storage::Location;
    use lookback_wire::Track;

    pub const T0: i64 = 1_795_329_502_534;
    pub const VIDEO: InitId = InitId(0xA1);
    pub const WIDER: InitId = InitId(0xA2);
    pub const AUDIO: InitId = InitId(0xB1);

    /// A fragment `at_ms` after `T0`; `tracks` name its initialization segments.
    pub fn fragment(
        at_ms: i64,
        duration_ms: u32,
        number: u64,
        tracks: &[InitId],
    ) -> FragmentRecord {
        let start = Timestamp::from_millis(T0 + at_ms);
        let track = |&init: &InitId| TrackSpan {
            init,
            is_video: init != AUDIO,
            key: true,
            decode_time: (T0 + at_ms) as u64 * 90,
            duration: u64::from(duration_ms) * 90,
            timescale: 90_000,
            offset: 0,
            len: 125 * duration_ms,
        };
        FragmentRecord {
            number: FragmentNumber(number),
            start,
            duration_ms,
            capture_start: start,
            arrived_at: start,
            tracks: tracks.iter().map(track).collect(),
            location: Location { file: 0, offset: 0, len: 0 },
        }
    }

    #[test]
    fn a_way_through_without_repeating() {
        /// Start and length in s, number.
        type Cut = (i64, u32, u64);
        // What there is, then what is listed, `|` before a discontinuity.
        let table: [(&[Cut], &str); 8] = [
            (&[], ""),
            (&[(0, 2, 1), (2, 2, 2), (4, 2, 3)], "0 2 4"),
            (&[(0, 2, 1), (5, 2, 2)], "0 |5"),
            // Sent again after a reconnect, cut elsewhere.
            (&[(0, 2, 1), (1, 2, 3), (2, 2, 2), (3, 2, 4), (4, 2, 5)], "0 2 4"),
            // Only what was sent again goes on.
            (&[(0, 2, 1), (1, 2, 2), (3, 2, 3)], "0 |1 3"),
            // Covered by what is listed, newer or not.
            (&[(0, 9, 5), (1, 2, 1), (3, 2, 9), (9, 1, 6)], "0 9"),
            (&[(0, 9, 1), (8, 2, 2), (10, 1, 3)], "0 |8 10"),
            (&[(0, 2, 1), (1, 9, 2), (5, 1, 3)], "0 |1"),
        ];
        for (fragments, expected) in table {
            let fragments: Vec<_> = fragments
                .iter()
                .map(|&(at_s, s, number)| fragment(at_s * 1_000, s * 1_000, number, &[VIDEO]))
                .collect();
            let listed: Vec<String> = arrange(fragments)
                .iter()
                .map(|one| {
                    let at_s = (one.fragment.start.as_millis() - T0) / 1_000;
                    format!("{}{at_s}", if one.discontinuity { "|" } else { "" })
                })
                .collect();
            assert_eq!(listed.join(" "), expected);
        }
    }

    #[test]
    fn joints_up_to_a_tenth_of_a_second_are_none() {
        let first = fragment(0, 1_000, 1, &[VIDEO]);
        for (at_ms, continues_at) in [(900, true), (899, false), (1_100, true), (1_101, false)] {
            let second = fragment(at_ms, 1_000, 2, &[VIDEO]);
            assert_eq!(continues(&first, &second), continues_at, "{at_ms} ms");
        }
        assert!(!continues(&first, &fragment(1_000, 1_000, 2, &[WIDER])));
        assert!(!continues(&first, &fragment(1_000, 1_000, 2, &[VIDEO, AUDIO])));
    }

    /// A listing of fragments all of whose tracks can be played.
    pub fn listing(fragments: Vec<FragmentRecord>, frame: Frame) -> Listing {
        let track = |kind| Track {
            number: 1,
            uid: 1,
            kind,
            name: None,
            codec_id: if kind == TrackKind::Audio { "A_AAC".into() } else { String::new() },
            // AAC-LC, 48 kHz, one channel.
            codec_private: bytes::Bytes::from_static(&[0x11, 0x88]),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        };
        let init = |kind| TrackInit {
            kind,
            codecs: String::new(),
            playable: true,
            timescale: 90_000,
            width: 0,
            height: 0,
            sampling_hz: 0,
            channels: 0,
            segment: bytes::Bytes::new(),
            track: track(kind),
        };
        let inits =
            [(VIDEO, TrackKind::Video), (WIDER, TrackKind::Video), (AUDIO, TrackKind::Audio)];
        let inits = inits.map(|(id, kind)| (id, Arc::new(init(kind)))).to_vec();
        Listing {
            fragments: arrange(fragments),
            frame,
            inits: PlayableInits(inits),
            arriving: Arrivals::default(),
            sound: None,
        }
    }

    #[test]
    fn a_span_opens_what_overlaps_it() {
        let at = |ms| Timestamp::from_millis(T0 + ms);
        let on_demand = Span::OnDemand {
            range: TimeRange { start: at(0), end: at(1_000) },
            start_offset_ms: 0,
        };
        let live = Span::Live { origin: at(0), number: FragmentNumber(1), target_duration_s: 1 };
        for (at_ms, by_range, by_origin) in [
            (-1_000, false, false),
            (-999, true, false),
            (0, true, true),
            (999, true, true),
            (1_000, false, true),
        ] {
            let fragment = fragment(at_ms, 1_000, 1, &[VIDEO]);
            assert_eq!(opens(on_demand, &fragment), by_range, "{at_ms}");
            assert_eq!(opens(live, &fragment), by_origin, "{at_ms}");
        }
    }

    fn count(entry: &Entry) -> u16 {
        entry.name.count
    }

    #[test]
    fn longer_spans_join_what_follows_up_to_six_seconds() {
        // Start and length in ms, tracks; what is listed of video: start in ms and count.
        type Cut<'a> = (i64, u32, &'a [InitId]);
        const V: &[InitId] = &[VIDEO];
        let table: [(&[Cut], &str); 6] = [
            (
                &[(0, 2_000, V), (2_000, 2_002, V), (4_002, 1_999, V), (6_001, 2_000, V)],
                "0x3 6001x1",
            ),
            (&[(0, 2_500, V), (2_500, 2_500, V), (5_000, 2_500, V)], "0x2 5000x1"),
            (&[(0, 10_000, V), (10_000, 1_000, V)], "0x1 10000x1"),
            (&[(0, 1_000, V), (60_000, 1_000, V), (61_000, 1_000, V)], "0x1 60000x2"),
            (&[(0, 1_000, V), (1_000, 1_000, &[WIDER])], "0x1 1000x1"),
            (&[], ""),
        ];
        for (fragments, expected) in table {
            let fragments = fragments
                .iter()
                .map(|&(at_ms, ms, tracks)| fragment(at_ms, ms, 1, tracks))
                .collect();
            let listing =
                listing(fragments, Frame::OnDemand { start_offset_ms: 0, is_joined: true });
            let joined: Vec<String> = listing
                .entries(Rendition::Video)
                .iter()
                .map(|e| format!("{}x{}", e.name.start.as_millis() - T0, count(e)))
                .collect();
            assert_eq!(joined.join(" "), expected);
        }
        let tiny = (0..200).map(|n| fragment(n * 10, 10, n as u64, V)).collect();
        let joined = listing(tiny, Frame::OnDemand { start_offset_ms: 0, is_joined: true });
        let counts: Vec<u16> = joined.entries(Rendition::Video).iter().map(count).collect();
        assert_eq!(counts, [64, 64, 64, 8]);
        let frame = Frame::LiveReplay {
            start_offset_ms: 0,
            target_duration_s: 6,
            joined_until: Some(FragmentNumber(3)),
        };
        let growing = (0..6).map(|n| fragment(n * 1_000, 1_000, n as u64, V)).collect();
        let counts: Vec<u16> =
            listing(growing, frame).entries(Rendition::Video).iter().map(count).collect();
        assert_eq!(counts, [4, 1, 1]);
    }
}
