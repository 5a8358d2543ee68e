//! HLS of a session: what its playlists say. `lookback-packaging` writes the text.

use super::listing::{Entry, Frame, Listed, Listing};
use super::live::Written;
use super::reload::{Edge, Reload, Wanted};
use super::segments::{PartName, init_name};
use super::token::{MediaToken, Span};
use super::{MediaError, Playback, Rendition, Text};
use crate::arriving::{MAX_PART_MS, Part, State};
use crate::storage::InitId;
use lookback_packaging::TrackInit;
use lookback_packaging::hls::{
    self, LowLatency, MediaPlaylist, MultivariantPlaylist, PlaylistKind,
    Rendition as AudioRendition, RenditionReport, Segment, Variant,
};
use lookback_wire::{Timestamp, TrackKind};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Segments between two EXT-X-PROGRAM-DATE-TIME: what rounding adds up to stays below a frame.
const DATE_TIME_EVERY: usize = 10;
/// CAN-SKIP-UNTIL, in target durations: the least that may be (draft-pantos-hls-rfc8216bis §4.4.3.8).
const SKIP_UNTIL_TARGETS: u32 = 6;
/// Whole segments at the end that are listed by their parts, too. With the one that is arriving they
/// come to three: parts further from the end than three target durations have to go
/// (draft-pantos-hls-rfc8216bis §4.4.4.9).
const LAST_WITH_PARTS: usize = 2;

/// Sound is stated to last as long as the pictures if it is off by no more.
const MAX_STATED_MS: u128 = 500;
/// Breaks of no more than this go without a break of the dates: Shaka (`createSegments_` in its
/// `hls_parser.js`) leaves their holes and overlaps in its timeline, and waits there.
const MAX_DATE_SHIFT_MS: i64 = 1_000;

impl Playback {
    /// The multivariant playlist of a session.
    pub async fn multivariant_playlist(&self, token: &MediaToken) -> Result<String, MediaError> {
        let listing = self.listing(token).await?;
        write_multivariant(&listing).ok_or(MediaError::NotFound)
    }

    /// The media playlist of one rendition of a session; a live one once it lists what `reload` waits
    /// for.
    pub async fn media_playlist(
        &self,
        token: &MediaToken,
        rendition: Rendition,
        reload: Reload,
    ) -> Result<Arc<Text>, MediaError> {
        let Span::Live { origin, number, target_duration_s } = token.span else {
            let listing = self.listing(token).await?;
            let text = write_playlist(&listing, rendition, false);
            return text.map(Text::shared).ok_or(MediaError::NotFound);
        };
        let window = self.live.of(token.session, (origin, number), self.clock.now());
        let mut changes = self.arriving.changes(token.stream);
        let listed = async {
            loop {
                let change = *changes.borrow_and_update();
                let written = {
                    let mut window = window.lock().await;
                    match window.written(rendition, reload.skip, change) {
                        Some(written) => written,
                        None => {
                            let (stream, seconds) = (token.stream, target_duration_s);
                            let snapshot = self.follow_window(stream, &mut window).await?;
                            let listing =
                                self.live_listing(stream, seconds, &window, snapshot).await?;
                            let text = write_playlist(&listing, rendition, reload.skip);
                            let written = Written {
                                rendition,
                                skip: reload.skip,
                                change,
                                edge: listing.edge(rendition),
                                text: text.map(Text::shared),
                            };
                            window.keep_written(written.clone());
                            written
                        }
                    }
                };
                match written.edge.wanted(reload) {
                    Wanted::Listed => return written.text.ok_or(MediaError::NotFound),
                    Wanted::TooFarAhead => {
                        let cause = "_HLS_msn or _HLS_part is too far ahead";
                        return Err(MediaError::Malformed(cause));
                    }
                    Wanted::NotYet => {}
                }
                changes.changed().await.map_err(|_| MediaError::NotYet)?;
            }
        };
        let longest_wait = Duration::from_secs(3 * u64::from(target_duration_s));
        timeout(longest_wait, listed).await.unwrap_or(Err(MediaError::NotYet))
    }
}

/// The text of a multivariant playlist; `None` where nothing can be played.
fn write_multivariant(listing: &Listing) -> Option<String> {
    let inits = &listing.inits;
    let video = inits.of_kind(TrackKind::Video);
    let largest = video.max_by_key(|init| u64::from(init.width) * u64::from(init.height));
    let video = largest.map(|init| {
        let (peak, average) = bit_rates(&listing.entries(Rendition::Video));
        Variant {
            uri: "video.m3u8".into(),
            bandwidth: peak,
            average_bandwidth: Some(average),
            codecs: codecs(listing, init),
            resolution: (init.width > 0).then_some((init.width, init.height)),
            frame_rate: frame_rate(init),
        }
    });
    let audio = inits.of_kind(TrackKind::Audio).next().map(|init| {
        let (peak, average) = bit_rates(&listing.entries(Rendition::Audio));
        AudioRendition {
            uri: "audio.m3u8".into(),
            bandwidth: peak,
            average_bandwidth: Some(average),
            codecs: codecs(listing, init),
            channels: init.channels,
        }
    });
    (video.is_some() || audio.is_some()).then(|| MultivariantPlaylist { video, audio }.write())
}

/// Every format in the rendition that `first` is of (RFC 8216 §4.3.4.2), that one before the others.
pub(super) fn codecs(listing: &Listing, first: &TrackInit) -> String {
    let mut codecs = first.codecs.clone();
    let mut named = vec![first.codecs.as_str()];
    for init in listing.inits.of_kind(first.kind) {
        if !named.contains(&init.codecs.as_str()) {
            named.push(&init.codecs);
            codecs.push(',');
            codecs.push_str(&init.codecs);
        }
    }
    codecs
}

/// Pictures a second, where the upload stated it.
pub(super) fn frame_rate(init: &TrackInit) -> Option<f64> {
    let duration_ns = init.track.default_duration_ns.filter(|ns| *ns > 0)?;
    Some(1e9 / duration_ns as f64)
}

/// Peak and average rate of segments, bits a second.
pub(super) fn bit_rates(entries: &[Entry]) -> (u64, u64) {
    let (mut peak, mut bits, mut seconds) = (0.0f64, 0.0, 0.0);
    for entry in entries {
        let entry_s = entry.duration.max(1) as f64 / f64::from(entry.timescale.max(1));
        let entry_bits = entry.bytes as f64 * 8.0;
        peak = peak.max(entry_bits / entry_s);
        bits += entry_bits;
        seconds += entry_s;
    }
    let average = if seconds > 0.0 { bits / seconds } else { 0.0 };
    (peak.max(1.0).ceil() as u64, average.max(1.0).ceil() as u64)
}

impl Listing {
    /// How far a live rendition's playlist is.
    fn edge(&self, rendition: Rendition) -> Edge {
        let entries = self.entries(rendition);
        let parts = |entry: &Entry| self.parts(entry).map(|(parts, _)| parts.len() as u64);
        let arriving = self.arriving_entries(rendition);
        Edge {
            next_msn: self.media_sequence(rendition) + entries.len() as u64,
            parts_before: entries.last().and_then(parts),
            arriving: arriving
                .iter()
                .filter_map(|entry| self.parts(entry))
                .map(|(parts, state)| (parts.len() as u64, state == State::Arriving))
                .collect(),
        }
    }

    /// The parts of a segment and how its fragment stands, where they are known.
    fn parts(&self, entry: &Entry) -> Option<(Vec<&Part>, State)> {
        let number = entry.name.number;
        let fragment = self.arriving.fragments.iter().find(|f| f.number == number)?;
        let track = fragment.track_with(entry.init)?;
        Some((fragment.parts_of(track).map(Arc::as_ref).collect(), fragment.state))
    }

    fn media_sequence(&self, rendition: Rendition) -> u64 {
        match (self.frame, rendition) {
            (Frame::Live { video_sequence, .. }, Rendition::Video) => video_sequence,
            (Frame::Live { audio_sequence, soundless_sequence, .. }, Rendition::Audio) => {
                audio_sequence + if self.has_silence() { soundless_sequence } else { 0 }
            }
            (Frame::OnDemand { .. } | Frame::LiveReplay { .. }, _) => 0,
        }
    }
}

/// A segment's parts as they are written.
fn written_parts<'a>(listing: &Listing, entry: &Entry, parts: &[&Part]) -> Vec<hls::Part<'a>> {
    (0..)
        .zip(parts)
        .map(|(index, part)| hls::Part {
            uri: part_name(listing, entry, index).to_string().into(),
            duration: part.duration,
            timescale: entry.timescale,
            independent: part.key,
        })
        .collect()
}

/// The first one bears the name that it was hinted at by.
fn part_name(listing: &Listing, entry: &Entry, index: u32) -> PartName {
    let segment = entry.name;
    match listing.before(segment.number).filter(|_| index == 0) {
        Some(number) => PartName::After { number, rendition: segment.rendition },
        None => PartName::Of { segment, index },
    }
}

/// The part that comes next: the first one of another segment where that behind which it comes has
/// all of its own. `None` where the last one is not listed by parts.
fn next_part(listing: &Listing, last: &Entry) -> Option<PartName> {
    let (parts, state) = listing.parts(last)?;
    if state == State::Arriving {
        return Some(part_name(listing, last, u32::try_from(parts.len()).ok()?));
    }
    let number = listing.last()?;
    Some(PartName::After { number, rendition: last.name.rendition })
}

/// How far another rendition is, if the session has it.
fn report(listing: &Listing, rendition: Rendition) -> Option<RenditionReport<'static>> {
    let (other, uri) = match rendition {
        Rendition::Video => (Rendition::Audio, "audio.m3u8"),
        Rendition::Audio => (Rendition::Video, "video.m3u8"),
    };
    listing.entries(other).first()?;
    let (last_msn, last_part) = listing.edge(other).last()?;
    Some(RenditionReport { uri: uri.into(), last_msn, last_part })
}

/// The text of a media playlist; `None` where nothing of the rendition is listed. With `skip`, a
/// live one leaves out what a player has that asked for it lately.
fn write_playlist(listing: &Listing, rendition: Rendition, skip: bool) -> Option<String> {
    let mut entries = listing.entries(rendition);
    if entries.is_empty() {
        return None;
    }
    if rendition == Rendition::Audio {
        last_as_long(&mut entries, &listing.entries(Rendition::Video), listing.frame);
    }
    let whole = entries.len();
    entries.extend(listing.arriving_entries(rendition));
    let mut uris = String::with_capacity(entries.len() * 48);
    let mut ends = Vec::with_capacity(entries.len());
    let mut inits: Vec<(InitId, String)> = Vec::new();
    for entry in &entries {
        entry.push_uri(&mut uris);
        ends.push(uris.len());
        if !inits.iter().any(|(id, _)| *id == entry.init) {
            inits.push((entry.init, init_name(entry.init)));
        }
    }

    let shifts = date_shifts(listing);
    let mut start = 0;
    let mut last_init = None;
    let mut undated = 0;
    let mut segments = Vec::with_capacity(entries.len());
    for (entry, end) in entries.iter().zip(ends) {
        let map = (last_init != Some(entry.init))
            .then(|| inits.iter().find(|(id, _)| *id == entry.init))
            .flatten();
        last_init = Some(entry.init);
        undated = if segments.is_empty() || entry.discontinuity || undated == DATE_TIME_EVERY {
            1
        } else {
            undated + 1
        };
        segments.push(Segment {
            uri: Cow::Borrowed(&uris[start..end]),
            duration: entry.duration,
            timescale: entry.timescale,
            discontinuity: entry.discontinuity,
            map_uri: map.map(|(_, name)| Cow::Borrowed(name.as_str())),
            program_date_time: (undated == 1).then(|| stated_date(entry, &shifts)),
        });
        start = end;
    }
    let arriving_segments = segments.split_off(whole);
    let offset_s = |ms: u32| f64::from(ms) / 1_000.0;
    let playlist = match listing.frame {
        Frame::OnDemand { start_offset_ms, .. } => MediaPlaylist {
            target_duration_s: hls::target_duration_s(&segments),
            media_sequence: 0,
            discontinuity_sequence: 0,
            kind: PlaylistKind::Vod,
            start_offset_s: (start_offset_ms > 0).then(|| offset_s(start_offset_ms)),
            segments,
            low_latency: None,
        },
        Frame::LiveReplay { start_offset_ms, target_duration_s, .. } => MediaPlaylist {
            target_duration_s,
            media_sequence: 0,
            discontinuity_sequence: 0,
            kind: PlaylistKind::Event,
            // Without it, players begin at the live end.
            start_offset_s: Some(offset_s(start_offset_ms)),
            segments,
            low_latency: None,
        },
        Frame::Live { target_duration_s, discontinuity_sequence, .. } => {
            let skip_until_s = target_duration_s.saturating_mul(SKIP_UNTIL_TARGETS);
            let skipped = if skip { skippable(&entries, skip_until_s) } else { 0 };
            let skipped = skipped.min(whole.saturating_sub(1));
            // What comes behind says again what holds from there on.
            segments.drain(..skipped);
            if let (Some(first), Some(entry)) = (segments.first_mut(), entries.get(skipped)) {
                let init = inits.iter().find(|(id, _)| *id == entry.init);
                first.map_uri = init.map(|(_, name)| Cow::Borrowed(name.as_str()));
                first.program_date_time = Some(entry.shown_at());
            }
            let (kept, arriving) = entries.split_at(whole);
            let from = whole.saturating_sub(LAST_WITH_PARTS).max(skipped);
            let recent = kept.iter().enumerate().skip(from);
            let parts = recent.filter_map(|(index, entry)| {
                let (parts, _) = listing.parts(entry)?;
                Some((index - skipped, written_parts(listing, entry, &parts)))
            });
            let next = entries.last().and_then(|last| next_part(listing, last));
            let low_latency = LowLatency {
                part_target_ms: MAX_PART_MS,
                skip_until_s,
                skipped,
                parts: parts.collect(),
                arriving: arriving_segments
                    .into_iter()
                    .zip(arriving)
                    .filter_map(|(segment, entry)| {
                        let (parts, _) = listing.parts(entry)?;
                        Some((segment, written_parts(listing, entry, &parts)))
                    })
                    .collect(),
                preload_hint: next.map(|name| name.to_string().into()),
                reports: report(listing, rendition).into_iter().collect(),
            };
            MediaPlaylist {
                target_duration_s,
                media_sequence: listing.media_sequence(rendition),
                discontinuity_sequence,
                kind: PlaylistKind::Live,
                start_offset_s: None,
                segments,
                low_latency: Some(low_latency),
            }
        }
    };
    Some(playlist.write())
}

/// How many segments at the front end further than `skip_until_s` before the end of the last.
fn skippable(entries: &[Entry], skip_until_s: u32) -> usize {
    let ms =
        |entry: &Entry| u128::from(entry.duration) * 1_000 / u128::from(entry.timescale.max(1));
    let mut left_ms: u128 = entries.iter().map(ms).sum();
    let is_far = |entry: &&Entry| {
        left_ms = left_ms.saturating_sub(ms(entry));
        left_ms > u128::from(skip_until_s) * 1_000
    };
    entries.iter().take_while(is_far).count()
}

/// How far dates are off from a fragment on, in ms, up to the next: behind short breaks they go on
/// where the run before ended. None in a sliding window, which forgets what came before.
fn date_shifts(listing: &Listing) -> Vec<(Timestamp, i64)> {
    let mut shifts = Vec::new();
    if matches!(listing.frame, Frame::Live { .. }) {
        return shifts;
    }
    let mut stated_end: Option<Timestamp> = None;
    let mut shift_ms = 0;
    for Listed { fragment, discontinuity } in &listing.fragments {
        if let Some(end) = stated_end.filter(|_| *discontinuity) {
            let hole_ms = fragment.start.millis_since(end);
            shift_ms = if hole_ms.abs() <= MAX_DATE_SHIFT_MS { -hole_ms } else { 0 };
            shifts.push((fragment.start, shift_ms));
        }
        stated_end = Some(fragment.range().end.plus_millis(shift_ms));
    }
    shifts
}

/// When a playlist says that an entry is shown.
fn stated_date(entry: &Entry, shifts: &[(Timestamp, i64)]) -> Timestamp {
    let next = shifts.partition_point(|(from, _)| *from <= entry.name.start);
    let shift_ms = next.checked_sub(1).and_then(|at| shifts.get(at)).map_or(0, |(_, ms)| *ms);
    entry.shown_at().plus_millis(shift_ms)
}

/// States sound to last as long as the pictures up to each break, and on to where the sound behind
/// it begins: it is cut by whole packets, and there are players that set the next run behind where
/// the one before ended, track by track. What may still grow, or begins before a sliding window,
/// stays as it is.
fn last_as_long(audio: &mut [Entry], video: &[Entry], frame: Frame) {
    let last_run_ends = match frame {
        Frame::OnDemand { .. } => true,
        Frame::LiveReplay { .. } => false,
        Frame::Live { .. } => return,
    };
    let same_run = |_: &Entry, next: &Entry| !next.discontinuity;
    let shown: Vec<&[Entry]> = video.chunk_by(same_run).collect();
    let leads: Vec<i128> = audio
        .chunk_by(same_run)
        .zip(&shown)
        .filter_map(|(audio, video)| lead(audio, video))
        .collect();
    let heard: Vec<&mut [Entry]> = audio.chunk_by_mut(same_run).collect();
    let count = heard.len();
    if shown.len() != count || leads.len() != count {
        return;
    }
    for (index, (audio, video)) in heard.into_iter().zip(shown).enumerate() {
        if index + 1 == count && !last_run_ends {
            continue;
        }
        let ticks =
            |entries: &[Entry]| entries.iter().map(|e| u128::from(e.duration)).sum::<u128>();
        let (heard, seen) = (ticks(audio), ticks(video));
        let (Some(last), Some(picture)) = (audio.last_mut(), video.first()) else { continue };
        let seen = seen * u128::from(last.timescale) / u128::from(picture.timescale.max(1));
        let next_leads =
            leads.get(index + 1).zip(leads.get(index)).map_or(0, |(next, own)| next - own);
        let longer = seen as i128 - heard as i128 - next_leads;
        if longer.unsigned_abs() * 1_000 <= MAX_STATED_MS * u128::from(last.timescale) {
            let stated = i128::from(last.duration) + longer;
            last.duration = u64::try_from(stated).ok().filter(|d| *d > 0).unwrap_or(last.duration);
        }
    }
}

/// By how much a run's sound begins before its pictures, in ticks of the sound.
fn lead(audio: &[Entry], video: &[Entry]) -> Option<i128> {
    let (sound, picture) = (audio.first()?, video.first()?);
    let begins = u128::from(picture.decode_time) * u128::from(sound.timescale)
        / u128::from(picture.timescale.max(1));
    i128::try_from(begins).ok()?.checked_sub(i128::from(sound.decode_time))
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::{AUDIO, T0, VIDEO, WIDER, fragment, listing};
    use super::*;
    use crate::storage::FragmentRecord;
    use chrono::DateTime;

    const SPAN: Frame = Frame::OnDemand { start_offset_ms: 0, is_joined: false };

    fn playlist(fragments: Vec<FragmentRecord>, rendition: Rendition) -> Option<String> {
        write_playlist(&listing(fragments, SPAN), rendition, false)
    }

    #[test]
    fn a_day_with_a_gap_and_another_resolution() {
        let fragments = vec![
            fragment(0, 1_000, 7, &[VIDEO, AUDIO]),
            fragment(1_000, 1_500, 8, &[VIDEO, AUDIO]),
            fragment(60_000, 1_000, 9, &[VIDEO]),
            fragment(61_000, 1_000, 10, &[WIDER, AUDIO]),
        ];
        let video = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-00000000000000a1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1,
1795329502534-7.v.m4s
#EXTINF:1.5,
1795329503534-8.v.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:22.534Z
#EXTINF:1,
1795329562534-9.v.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"init-00000000000000a2.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:23.534Z
#EXTINF:1,
1795329563534-10.v.m4s
#EXT-X-ENDLIST
";
        let audio = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-00000000000000b1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:38:22.534Z
#EXTINF:1,
1795329502534-7.a.m4s
#EXTINF:1.5,
1795329503534-8.a.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:22.534Z
#EXTINF:1,
silence-00000000000000b1-161579660628060-90000.a.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T06:39:23.534Z
#EXTINF:1,
1795329563534-10.a.m4s
#EXT-X-ENDLIST
";
        assert_eq!(playlist(fragments.clone(), Rendition::Video).as_deref(), Some(video));
        assert_eq!(playlist(fragments.clone(), Rendition::Audio).as_deref(), Some(audio));
    }

    #[test]
    fn sound_is_stated_to_last_as_long_as_the_pictures() {
        // Of each run: how much longer its sound is, in ms; what its last segment is stated to last.
        let of = |longer_ms: [i64; 2], frame| {
            let mut fragments = vec![
                fragment(0, 1_000, 1, &[VIDEO, AUDIO]),
                fragment(1_000, 1_000, 2, &[VIDEO, AUDIO]),
                fragment(9_000, 1_000, 3, &[VIDEO, AUDIO]),
            ];
            for (fragment, longer_ms) in fragments[1..].iter_mut().zip(longer_ms) {
                let sound = &mut fragment.tracks[1].duration;
                *sound = sound.checked_add_signed(longer_ms * 90).unwrap();
            }
            let text = write_playlist(&listing(fragments, frame), Rendition::Audio, false).unwrap();
            let lengths = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
            lengths.skip(1).map(|l| l.trim_end_matches(',').to_owned()).collect::<Vec<_>>()
        };
        let growing =
            Frame::LiveReplay { start_offset_ms: 0, target_duration_s: 2, joined_until: None };
        assert_eq!(of([21, -40], SPAN), ["1", "1"]);
        assert_eq!(of([-600, 600], SPAN), ["0.4", "1.6"]);
        assert_eq!(of([21, 21], growing), ["1", "1.021"]);
    }

    #[test]
    fn sound_is_stated_to_last_until_that_behind_a_break() {
        // Of each run: how long before its pictures its sound begins, in ms; what is stated.
        for (leads_ms, expected) in
            [([0, 21], ["0.979", "1"]), ([21, 0], ["1.021", "1"]), ([-9, -9], ["1", "1"])]
        {
            let mut fragments = vec![
                fragment(0, 1_000, 1, &[VIDEO, AUDIO]),
                fragment(1_000, 1_000, 2, &[WIDER, AUDIO]),
            ];
            for (fragment, lead_ms) in fragments.iter_mut().zip(leads_ms) {
                let sound = &mut fragment.tracks[1].decode_time;
                *sound = sound.checked_add_signed(-lead_ms * 90).unwrap();
            }
            let text = playlist(fragments, Rendition::Audio).unwrap();
            let lengths = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
            let lengths: Vec<&str> = lengths.map(|l| l.trim_end_matches(',')).collect();
            assert_eq!(lengths, expected);
        }
    }

    #[test]
    fn dates_go_on_behind_short_breaks() {
        // Starts of fragments of 2 s, and the dates of the runs, in ms from the first.
        for (starts_ms, expected) in [
            (&[0, 2_500, 5_000][..], &[0, 2_000, 4_000][..]),
            (&[0, 1_000, 3_000], &[0, 2_000]),
            (&[0, 3_001, 5_500], &[0, 3_001, 5_001]),
            // What adds up is caught up with.
            (&[0, 2_600, 5_200, 7_800], &[0, 2_000, 5_200, 7_200]),
        ] {
            let fragments: Vec<_> =
                starts_ms.iter().map(|&at_ms| fragment(at_ms, 2_000, 1, &[VIDEO])).collect();
            let text = playlist(fragments, Rendition::Video).unwrap();
            let stated_ms: Vec<i64> = text
                .lines()
                .filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"))
                .map(|date| DateTime::parse_from_rfc3339(date).unwrap().timestamp_millis() - T0)
                .collect();
            assert_eq!(stated_ms, expected, "{starts_ms:?}");
        }
    }

    #[test]
    fn dates_come_back_every_ten_segments() {
        let fragments = (0..25).map(|n| fragment(n * 1_000, 1_000, n as u64, &[VIDEO])).collect();
        let text = playlist(fragments, Rendition::Video).unwrap();
        let dates: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")).collect();
        assert_eq!(
            dates,
            ["2026-11-22T06:38:22.534Z", "2026-11-22T06:38:32.534Z", "2026-11-22T06:38:42.534Z"]
        );
    }
}
