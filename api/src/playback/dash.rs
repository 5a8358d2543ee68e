//! DASH of a session: its manifest. Segments are those of HLS, at the same addresses.
//!
//! A Period is a run of footage without a break, and its time 0 the start of its first fragment. A
//! finished manifest sets one Period behind the other; a growing one leaves the hole between them,
//! so that its timeline stays the clock's.

use super::hls::{bit_rates, frame_rate};
use super::listing::{Entry, Frame, Listing};
use super::segments::init_name;
use super::token::MediaToken;
use super::{MediaError, Playback, Rendition};
use lookback_packaging::dash::{FragmentNote, Manifest, ManifestKind, Period, Segment, Track};
use lookback_wire::{Timestamp, TrackKind};
use std::borrow::Cow;

/// Segments that a player stays behind the newest one.
pub(super) const DELAY_SEGMENTS: u32 = 3;

impl Playback {
    /// The manifest of a session, which finds its media at `base_url`.
    pub async fn manifest(&self, token: &MediaToken, base_url: &str) -> Result<String, MediaError> {
        let listing = self.listing(token).await?;
        let manifest = manifest(&listing, base_url, self.clock.now());
        Ok(manifest.ok_or(MediaError::NotFound)?.write())
    }
}

/// A Period's segments.
struct Run<'a> {
    /// What its media times count from.
    origin: Timestamp,
    video: &'a [Entry],
    audio: &'a [Entry],
}

impl Run<'_> {
    fn main(&self) -> &[Entry] {
        if self.video.is_empty() { self.audio } else { self.video }
    }

    /// From its origin to the end of its last picture, and on to the next whole millisecond:
    /// players leave out a frame that passes the end by what rounding makes of its time.
    fn duration_ns(&self) -> u64 {
        let Some(last) = self.main().last() else { return 0 };
        let end = last.decode_time.saturating_add(last.duration);
        let ticks = end.saturating_sub(at_ticks(self.origin, last.timescale));
        let ms = u128::from(ticks) * 1_000 / u128::from(last.timescale.max(1)) + 1;
        u64::try_from(ms * 1_000_000).unwrap_or(u64::MAX)
    }
}

pub(super) fn at_ticks(time: Timestamp, timescale: u32) -> u64 {
    let ms = u128::from(time.as_millis().max(0).unsigned_abs());
    u64::try_from((ms * u128::from(timescale) + 500) / 1_000).unwrap_or(u64::MAX)
}

/// `None` where nothing can be played.
fn manifest<'a>(listing: &'a Listing, base_url: &'a str, now: Timestamp) -> Option<Manifest<'a>> {
    let video = listing.entries(Rendition::Video);
    let audio = listing.entries(Rendition::Audio);
    let runs = runs(listing, &video, &audio);
    let longest =
        video.iter().chain(&audio).map(|e| e.duration.div_ceil(e.timescale.max(1).into()));
    let longest_s = u32::try_from(longest.max()?).unwrap_or(u32::MAX);
    let newest = listing.fragments.iter().map(|listed| listed.fragment.arrived_at).max()?;
    let growing =
        |target_duration_s: u32, availability_start, time_shift_ms| ManifestKind::Dynamic {
            availability_start,
            published: newest,
            now,
            update_period_s: target_duration_s,
            delay_s: DELAY_SEGMENTS.saturating_mul(target_duration_s),
            time_shift_ms,
        };
    let first = listing.fragments.first()?.fragment.start;
    let (kind, max_segment_duration_s) = match listing.frame {
        Frame::OnDemand { .. } => (ManifestKind::Static, longest_s),
        Frame::LiveReplay { target_duration_s, .. } => {
            (growing(target_duration_s, first, None), target_duration_s)
        }
        Frame::Live { target_duration_s, origin, .. } => {
            let window_ms = now.millis_since(first).max(0).unsigned_abs();
            (growing(target_duration_s, origin, Some(window_ms)), target_duration_s)
        }
    };
    let mut periods: Vec<Period> = Vec::with_capacity(runs.len());
    let mut start_ns = 0;
    for (index, run) in runs.iter().enumerate() {
        let is_last = index + 1 == runs.len();
        let is_growing = match &kind {
            ManifestKind::Static => false,
            ManifestKind::Dynamic { availability_start, .. } => {
                let since = run.origin.millis_since(*availability_start).max(0).unsigned_abs();
                start_ns = since.saturating_mul(1_000_000);
                true
            }
        };
        let duration_ns = run.duration_ns();
        let tracks = [run.video, run.audio];
        let tracks = tracks
            .into_iter()
            .filter_map(|entries| track(listing, entries, run.origin, &periods))
            .collect();
        periods.push(Period {
            id: format!("p{}", run.origin.as_millis()),
            start_ns,
            duration_ns: (!is_growing || !is_last).then_some(duration_ns),
            tracks,
        });
        start_ns = start_ns.saturating_add(duration_ns);
    }
    Some(Manifest {
        kind,
        base_url: Some(Cow::Borrowed(base_url)),
        max_segment_duration_s,
        periods,
    })
}

/// Cuts the listing where it breaks.
fn runs<'a>(listing: &Listing, video: &'a [Entry], audio: &'a [Entry]) -> Vec<Run<'a>> {
    let mut origins: Vec<Timestamp> = listing
        .fragments
        .iter()
        .enumerate()
        .filter(|(index, listed)| *index == 0 || listed.discontinuity)
        .map(|(_, listed)| listed.fragment.start)
        .collect();
    let starts = origins.clone();
    if let (Frame::Live { period_start, .. }, Some(first)) = (listing.frame, origins.first_mut()) {
        *first = period_start;
    }
    let cut = |entries: &mut &'a [Entry], until: Option<&Timestamp>| {
        let count = until.map_or(entries.len(), |until| {
            entries.iter().take_while(|entry| entry.name.start < *until).count()
        });
        let (run, rest) = entries.split_at(count);
        *entries = rest;
        run
    };
    let (mut video, mut audio) = (video, audio);
    let mut runs = Vec::with_capacity(origins.len());
    for (index, origin) in origins.into_iter().enumerate() {
        let until = starts.get(index + 1);
        let run = Run { origin, video: cut(&mut video, until), audio: cut(&mut audio, until) };
        if !run.main().is_empty() {
            runs.push(run);
        }
    }
    runs
}

/// A track of a Period; `None` where it has no segments.
fn track<'a>(
    listing: &'a Listing,
    entries: &[Entry],
    origin: Timestamp,
    earlier: &[Period],
) -> Option<Track<'a>> {
    let first = entries.first()?;
    let init = listing.inits.get(first.init)?;
    let init_url = init_name(first.init);
    let connected_to = earlier
        .iter()
        .find(|period| period.tracks.iter().any(|track| track.init_url == init_url))
        .map(|period| period.id.clone());
    let segment = |entry: &Entry| {
        let mut url = String::with_capacity(48);
        entry.push_uri(&mut url);
        Segment {
            url: url.into(),
            time: entry.decode_time,
            duration: entry.duration,
            note: FragmentNote::default(),
        }
    };
    let (bandwidth, _) = bit_rates(entries);
    Some(Track {
        kind: init.kind,
        id: if init.kind == TrackKind::Video { "video" } else { "audio" }.into(),
        bandwidth,
        codecs: Cow::Borrowed(&init.codecs),
        width: init.width,
        height: init.height,
        frame_rate: frame_rate(init),
        sampling_hz: init.sampling_hz,
        channels: init.channels,
        connected_to,
        timescale: first.timescale,
        presentation_time_offset: at_ticks(origin, first.timescale),
        init_url: init_url.into(),
        segments: entries.iter().map(segment).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::{AUDIO, T0, VIDEO, WIDER, fragment, listing};
    use super::*;

    /// Of each Period: start and length in ms, and of its tracks how many segments there are, `+` in
    /// front where it goes on with an earlier one.
    fn outline(manifest: &Manifest) -> Vec<String> {
        let ms = |ns: u64| ns / 1_000_000;
        let tracks = |period: &Period| {
            let of = |track: &Track| {
                let letter = if track.kind == TrackKind::Video { 'v' } else { 'a' };
                let connected = if track.connected_to.is_some() { "+" } else { "" };
                format!("{connected}{letter}{}", track.segments.len())
            };
            period.tracks.iter().map(of).collect::<Vec<_>>().join(" ")
        };
        let period = |p: &Period| {
            let length = p.duration_ns.map_or("on".into(), |ns| ms(ns).to_string());
            format!("{} {length} {}", ms(p.start_ns), tracks(p))
        };
        manifest.periods.iter().map(period).collect()
    }

    #[test]
    fn each_run_of_footage_is_a_period() {
        let fragments = vec![
            fragment(0, 1_000, 1, &[VIDEO, AUDIO]),
            fragment(1_000, 1_500, 2, &[VIDEO, AUDIO]),
            // After a hole, without sound, with other pictures, and as before.
            fragment(60_000, 1_000, 3, &[VIDEO]),
            fragment(61_000, 1_000, 4, &[WIDER, AUDIO]),
            fragment(62_000, 1_000, 5, &[VIDEO, AUDIO]),
        ];
        let at = |ms| Timestamp::from_millis(T0 + ms);
        let on_demand = Frame::OnDemand { start_offset_ms: 0, is_joined: false };
        let replay =
            Frame::LiveReplay { start_offset_ms: 0, target_duration_s: 2, joined_until: None };
        let live = Frame::Live {
            target_duration_s: 2,
            video_sequence: 7,
            audio_sequence: 7,
            soundless_sequence: 0,
            discontinuity_sequence: 1,
            origin: at(-100_000),
            period_start: at(-9_000),
        };
        for (frame, expected) in [
            (
                on_demand,
                ["0 2501 v2 a2", "2501 1001 +v1 +a1", "3502 1001 v1 +a1", "4503 1001 +v1 +a1"],
            ),
            (
                replay,
                ["0 2501 v2 a2", "60000 1001 +v1 +a1", "61000 1001 v1 +a1", "62000 on +v1 +a1"],
            ),
            (
                live,
                [
                    "91000 11501 v2 a2",
                    "160000 1001 +v1 +a1",
                    "161000 1001 v1 +a1",
                    "162000 on +v1 +a1",
                ],
            ),
        ] {
            let listing = listing(fragments.clone(), frame);
            let manifest = manifest(&listing, "", at(63_000)).unwrap();
            assert_eq!(outline(&manifest), expected);
            for track in manifest.periods.iter().flat_map(|period| &period.tracks) {
                assert!(track.presentation_time_offset <= track.segments[0].time);
            }
        }
        assert!(manifest(&listing(Vec::new(), on_demand), "", at(0)).is_none());
    }
}
