//! DASH of a session that the Kinesis API minted: its manifest. Media has the addresses that it has
//! in HLS.
//!
//! Gaps are hidden, as Kinesis hides them: one Period is set behind the other. Only what is live
//! keeps them, so that its timeline stays the clock's.

use super::token::{Rules, Span};
use super::window::time_of;
use super::{Opened, track};
use crate::playback::dash::{DELAY_SEGMENTS, at_ticks};
use crate::playback::listing::{Listed, continues};
use crate::playback::{MediaError, Playback};
use crate::storage::{InitId, arrival_of};
use lookback_packaging::TrackInit;
use lookback_packaging::dash::{FragmentNote, Manifest, ManifestKind, Period, Segment, Track};
use lookback_wire::{Timestamp, TrackKind};
use std::collections::HashMap;
use std::sync::Arc;

type Inits = HashMap<InitId, Arc<TrackInit>>;

impl Playback {
    /// `getDASHManifest.mpd`
    pub async fn kinesis_manifest(&self, session: &Opened) -> Result<String, MediaError> {
        let token = &session.token;
        let listing = self.kinesis_listing(token).await?;
        let listed = &listing.fragments;
        let first = &listed.first().ok_or(MediaError::NotFound)?.fragment;
        let mut inits = Inits::new();
        for track in listed.iter().flat_map(|listed| &listed.fragment.tracks) {
            if !inits.contains_key(&track.init)
                && let Some(init) = self.track_init(token.stream, track.init).await?
            {
                inits.insert(track.init, init);
            }
        }
        // Where the timeline begins, on the footage's own, and when that was or is by the clock.
        let (origin, availability_start) = match token.span {
            Span::OnDemand { .. } => (first.start, token.minted_at),
            Span::Live { origin } => {
                let archive = self.storage.local()?;
                let first = archive.fragments_by_number(token.stream, &[origin]).await?.pop();
                let start = first.flatten().map_or(arrival_of(origin), |first| first.start);
                (start, start)
            }
            Span::LiveReplay { .. } => {
                let lead_ms = i64::try_from(listing.lead_ms).unwrap_or(i64::MAX);
                (first.start, token.minted_at.plus_millis(lead_ms.saturating_neg()))
            }
        };
        let keeps_gaps = matches!(token.span, Span::Live { .. });
        let mut start_ms = listing.slid_ms;
        let mut periods: Vec<Period> = Vec::new();
        let runs: Vec<&[Listed]> =
            listed.chunk_by(|a, b| continues(&a.fragment, &b.fragment)).collect();
        for (index, run) in runs.iter().enumerate() {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let run_origin = first.fragment.start;
            if keeps_gaps {
                start_ms = run_origin.millis_since(origin).max(0).unsigned_abs();
            }
            let length_ms =
                last.fragment.range().end.millis_since(run_origin).max(0).unsigned_abs();
            let is_last = index + 1 == runs.len();
            let tracks = (1..=2)
                .filter_map(|number| period_track(session, run, number, run_origin, &inits))
                .collect();
            periods.push(Period {
                id: format!("p{}", run_origin.as_millis()),
                start_ns: start_ms.saturating_mul(1_000_000),
                duration_ns: (!is_last || listing.finished)
                    .then_some(length_ms.saturating_mul(1_000_000)),
                tracks,
            });
            start_ms = start_ms.saturating_add(length_ms);
        }
        let fragments = listed.iter().map(|listed| &listed.fragment);
        let longest_ms = fragments.clone().map(|f| f.duration_ms).max().unwrap_or(0);
        let longest_s = longest_ms.div_ceil(1_000).max(1);
        let kind = if listing.finished {
            ManifestKind::Static
        } else {
            let newest = fragments.clone().map(|f| f.arrived_at).max();
            let window_ms: u64 = fragments.map(|f| u64::from(f.duration_ms)).sum();
            ManifestKind::Dynamic {
                availability_start,
                published: newest.unwrap_or(token.minted_at),
                now: self.clock.now(),
                update_period_s: longest_s,
                delay_s: DELAY_SEGMENTS.saturating_mul(longest_s),
                time_shift_ms: Some(window_ms),
            }
        };
        let manifest =
            Manifest { kind, base_url: None, max_segment_duration_s: longest_s, periods };
        Ok(manifest.write())
    }
}

/// One track of a run of footage; `None` where it has none of that number.
fn period_track<'a>(
    session: &Opened,
    run: &[Listed],
    number: u8,
    origin: Timestamp,
    inits: &'a Inits,
) -> Option<Track<'a>> {
    let (shape, text) = (session.token.shape, &session.text);
    let rules = session.token.rules;
    let first = track(shape, &run.first()?.fragment, number)?;
    let init = inits.get(&first.init)?;
    let mut bandwidth = 0;
    let mut segments = Vec::with_capacity(run.len());
    for Listed { fragment, .. } in run {
        let span = track(shape, fragment, number)?;
        let bits = u64::from(span.len).saturating_mul(8_000);
        bandwidth = bits.checked_div(fragment.duration_ms.into()).unwrap_or(0).max(bandwidth);
        segments.push(Segment {
            url: super::fragment_uri(text, fragment.number, number).into(),
            time: span.decode_time,
            duration: span.duration,
            note: note(rules, fragment),
        });
    }
    Some(Track {
        kind: if first.is_video { TrackKind::Video } else { TrackKind::Audio },
        id: number.to_string(),
        bandwidth,
        codecs: init.codecs.as_str().into(),
        width: init.width,
        height: init.height,
        frame_rate: None,
        sampling_hz: init.sampling_hz,
        channels: init.channels,
        connected_to: None,
        timescale: first.timescale,
        presentation_time_offset: at_ticks(origin, first.timescale),
        init_url: super::init_uri(text, first.init, number).into(),
        segments,
    })
}

fn note(rules: Rules, fragment: &crate::storage::FragmentRecord) -> FragmentNote {
    FragmentNote {
        time: rules.shows_timestamps.then(|| time_of(rules.by, fragment)),
        number: rules.shows_numbers.then_some(fragment.number),
    }
}
