//! DASH manifests (ISO/IEC 23009-1), written.
//!
//! Segments are named one by one (`SegmentList`), each with its time and length in a
//! `SegmentTimeline`: they keep the addresses that HLS gives them, so that what a cache holds serves
//! both, and no player has to compute one from a clock. A template with `$Time$` would want second
//! names. Lengths are never repeated by `@r`: players take one `S` for each `SegmentURL`.
//!
//! Within a Period neither gaps nor other codecs are allowed (DASH-IF IOP, Restricted Timing Model),
//! so each run of footage is one.

use crate::hls::put_date_time;
use lookback_wire::{FragmentNumber, Timestamp, TrackKind};
use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use std::borrow::Cow;
use std::fmt::Write;

/// A manifest (§5.3.1).
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    pub kind: ManifestKind,
    /// What addresses are relative to, itself relative to the manifest.
    pub base_url: Option<Cow<'a, str>>,
    /// Of the longest segment.
    pub max_segment_duration_s: u32,
    /// In the order of their starts. A static manifest's leave no holes between them.
    pub periods: Vec<Period<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// Finished.
    Static,
    /// Growing.
    Dynamic {
        /// What Periods' starts count from; never changes.
        availability_start: Timestamp,
        /// When its newest segment came.
        published: Timestamp,
        /// The service's clock now, for `UTCTiming`.
        now: Timestamp,
        /// How often players ask again.
        update_period_s: u32,
        /// How far behind the newest segment players stay.
        delay_s: u32,
        /// How far back segments are listed; none where nothing leaves.
        time_shift_ms: Option<u64>,
    },
}

/// Footage without a break (§5.3.2).
#[derive(Clone, Debug)]
pub struct Period<'a> {
    pub id: String,
    pub start_ns: u64,
    /// None where it still grows.
    pub duration_ns: Option<u64>,
    pub tracks: Vec<Track<'a>>,
}

/// An AdaptationSet of one Representation (§5.3.3, §5.3.5).
#[derive(Clone, Debug)]
pub struct Track<'a> {
    pub kind: TrackKind,
    /// The same in every Period: players tell by it what belongs together.
    pub id: String,
    /// Bits a second of the largest segment.
    pub bandwidth: u64,
    /// RFC 6381.
    pub codecs: Cow<'a, str>,
    /// 0 for audio, and where unknown.
    pub width: u32,
    pub height: u32,
    pub frame_rate: Option<f64>,
    /// 0 for video, and where unknown.
    pub sampling_hz: u32,
    pub channels: u32,
    /// The earlier Period, if any, whose track of this kind has the same initialization segment.
    pub connected_to: Option<String>,
    pub timescale: u32,
    /// The media time at the Period's start.
    pub presentation_time_offset: u64,
    pub init_url: Cow<'a, str>,
    pub segments: Vec<Segment<'a>>,
}

/// One media segment, times in the track's ticks.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub url: Cow<'a, str>,
    pub time: u64,
    pub duration: u64,
    pub note: FragmentNote,
}

/// What Kinesis Video Streams adds of the fragment behind a segment, where it is asked to: `kvs:ts`,
/// in seconds since the Unix epoch, and `kvs:fn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentNote {
    pub time: Option<Timestamp>,
    pub number: Option<FragmentNumber>,
}

const NAMESPACE: &str = "urn:mpeg:dash:schema:mpd:2011";
/// The profile that has segment lists (§8.5).
const PROFILE: &str = "urn:mpeg:dash:profile:isoff-main:2011";
/// Of what Kinesis adds; its own is not published.
const KINESIS_NAMESPACE: &str = "urn:amazon:kinesisvideo:dash:2017";
const CONNECTIVITY: &str = "urn:mpeg:dash:period-connectivity:2015";
const DIRECT_CLOCK: &str = "urn:mpeg:dash:utc:direct:2014";
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
/// What a player holds before it begins, at the stated bandwidths.
const MIN_BUFFER_S: u32 = 2;

type Attributes<'a> = [(&'a str, &'a str)];

impl Manifest<'_> {
    /// The manifest's text.
    pub fn write(&self) -> String {
        let segments = self.periods.iter().flat_map(|p| &p.tracks).map(|t| t.segments.len());
        let mut out =
            Document(Writer::new(Vec::with_capacity(1_024 + 160 * segments.sum::<usize>())));
        out.put(Event::Decl(quick_xml::events::BytesDecl::new("1.0", Some("UTF-8"), None)));
        let max_segment = format!("PT{}S", self.max_segment_duration_s);
        let min_buffer = format!("PT{MIN_BUFFER_S}S");
        let mut attributes = vec![
            ("xmlns", NAMESPACE.to_owned()),
            ("profiles", PROFILE.to_owned()),
            ("minBufferTime", min_buffer),
            ("maxSegmentDuration", max_segment),
        ];
        match &self.kind {
            ManifestKind::Static => {
                attributes.push(("type", "static".into()));
                if let Some(end_ns) = self.end_ns() {
                    attributes.push(("mediaPresentationDuration", duration(end_ns)));
                }
            }
            ManifestKind::Dynamic {
                availability_start,
                published,
                update_period_s,
                delay_s,
                time_shift_ms,
                ..
            } => {
                attributes.extend([
                    ("type", "dynamic".into()),
                    ("availabilityStartTime", date_time(*availability_start)),
                    ("publishTime", date_time(*published)),
                    ("minimumUpdatePeriod", format!("PT{update_period_s}S")),
                    ("suggestedPresentationDelay", format!("PT{delay_s}S")),
                ]);
                if let Some(ms) = time_shift_ms {
                    attributes
                        .push(("timeShiftBufferDepth", duration(ms.saturating_mul(1_000_000))));
                }
            }
        }
        let mut segments = self.periods.iter().flat_map(|p| &p.tracks).flat_map(|t| &t.segments);
        if segments.any(|segment| segment.note != FragmentNote::default()) {
            attributes.push(("xmlns:kvs", KINESIS_NAMESPACE.into()));
        }
        let attributes: Vec<_> = attributes.iter().map(|(n, v)| (*n, v.as_str())).collect();
        out.element("MPD", &attributes, |out| {
            if let Some(url) = &self.base_url {
                out.element("BaseURL", &[], |out| out.put(Event::Text(BytesText::new(url))));
            }
            for period in &self.periods {
                period.write(out);
            }
            if let ManifestKind::Dynamic { now, .. } = self.kind {
                let now = date_time(now);
                out.empty("UTCTiming", &[("schemeIdUri", DIRECT_CLOCK), ("value", &now)]);
            }
        });
        String::from_utf8(out.0.into_inner()).unwrap_or_default()
    }

    fn end_ns(&self) -> Option<u64> {
        let last = self.periods.last()?;
        last.start_ns.checked_add(last.duration_ns?)
    }
}

impl Period<'_> {
    fn write(&self, out: &mut Document) {
        let start = duration(self.start_ns);
        let length = self.duration_ns.map(duration);
        let mut attributes = vec![("id", self.id.as_str()), ("start", &start)];
        attributes.extend(length.as_deref().map(|length| ("duration", length)));
        out.element("Period", &attributes, |out| {
            for track in &self.tracks {
                track.write(out);
            }
        });
    }
}

impl Track<'_> {
    fn write(&self, out: &mut Document) {
        let (set_id, content, mime_type) = match self.kind {
            TrackKind::Video => ("1", "video", "video/mp4"),
            TrackKind::Audio => ("2", "audio", "audio/mp4"),
        };
        let set = [
            ("id", set_id),
            ("contentType", content),
            ("mimeType", mime_type),
            ("segmentAlignment", "true"),
            ("startWithSAP", "1"),
        ];
        out.element("AdaptationSet", &set, |out| {
            if let Some(period) = &self.connected_to {
                let property = [("schemeIdUri", CONNECTIVITY), ("value", period.as_str())];
                out.empty("SupplementalProperty", &property);
            }
            let texts = [
                ("bandwidth", self.bandwidth.to_string()),
                ("width", positive(self.width)),
                ("height", positive(self.height)),
                ("frameRate", self.frame_rate.map(ratio).unwrap_or_default()),
                ("audioSamplingRate", positive(self.sampling_hz)),
            ];
            let mut attributes = vec![("id", self.id.as_str()), ("codecs", &*self.codecs)];
            let stated = texts.iter().filter(|(_, text)| !text.is_empty());
            attributes.extend(stated.map(|(name, text)| (*name, text.as_str())));
            out.element("Representation", &attributes, |out| {
                if self.channels > 0 {
                    let count = self.channels.to_string();
                    let scheme = [("schemeIdUri", CHANNELS), ("value", count.as_str())];
                    out.empty("AudioChannelConfiguration", &scheme);
                }
                self.write_segments(out);
            });
        });
    }

    fn write_segments(&self, out: &mut Document) {
        let timescale = self.timescale.to_string();
        let offset = self.presentation_time_offset.to_string();
        let list = [("timescale", timescale.as_str()), ("presentationTimeOffset", offset.as_str())];
        out.element("SegmentList", &list, |out| {
            out.empty("Initialization", &[("sourceURL", &self.init_url)]);
            out.element("SegmentTimeline", &[], |out| {
                let mut digits = String::new();
                for segment in &self.segments {
                    digits.clear();
                    // A write to a String does not fail.
                    let _ = write!(digits, "{} {}", segment.time, segment.duration);
                    let (time, length) = digits.split_once(' ').unwrap_or_default();
                    let FragmentNote { time: at, number } = segment.note;
                    if at.is_none() && number.is_none() {
                        out.empty("S", &[("t", time), ("d", length)]);
                        continue;
                    }
                    let at = at.map(|at| format!("{:.3}", at.as_millis() as f64 / 1_000.0));
                    let number = number.map(|number| number.to_string());
                    let mut attributes = vec![("t", time), ("d", length)];
                    attributes.extend(at.as_deref().map(|at| ("kvs:ts", at)));
                    attributes.extend(number.as_deref().map(|number| ("kvs:fn", number)));
                    out.empty("S", &attributes);
                }
            });
            for segment in &self.segments {
                out.empty("SegmentURL", &[("media", &segment.url)]);
            }
        });
    }
}

/// Elements, one after the other and in each other.
struct Document(Writer<Vec<u8>>);

impl Document {
    fn put(&mut self, event: Event) {
        // A write to a Vec does not fail.
        let _ = self.0.write_event(event);
    }

    fn empty(&mut self, name: &str, attributes: &Attributes) {
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.put(Event::Empty(start));
    }

    fn element(&mut self, name: &str, attributes: &Attributes, inner: impl FnOnce(&mut Self)) {
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.put(Event::Start(start));
        inner(self);
        self.put(Event::End(BytesEnd::new(name)));
    }
}

const NS_PER_S: u64 = 1_000_000_000;

/// `xs:duration` in seconds, exact to the nanosecond.
fn duration(ns: u64) -> String {
    let text = format!("PT{}.{:09}", ns / NS_PER_S, ns % NS_PER_S);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}S")
}

fn date_time(time: Timestamp) -> String {
    let mut text = String::new();
    put_date_time(&mut text, time);
    text
}

fn positive(number: u32) -> String {
    if number > 0 { number.to_string() } else { String::new() }
}

/// A frame rate as a whole number, or as a fraction of one by 1001 (§5.3.7.2), or else by 1000.
fn ratio(rate: f64) -> String {
    if !rate.is_finite() || rate <= 0.0 {
        return String::new();
    }
    let near = |value: f64| (value - value.round()).abs() < 1e-3;
    if near(rate) {
        format!("{}", rate.round())
    } else if near(rate * 1.001) {
        format!("{}/1001", (rate * 1.001).round() * 1_000.0)
    } else {
        format!("{}/1000", (rate * 1_000.0).round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_told_of_where_it_is_asked() {
        let check = |note, attributes: &str, namespaces: usize| {
            let segment = Segment { url: "a?b=1&c".into(), time: 7, duration: 2, note };
            let track = Track {
                kind: TrackKind::Video,
                id: "1".into(),
                bandwidth: 1,
                codecs: "avc1.64001f".into(),
                width: 0,
                height: 0,
                frame_rate: None,
                sampling_hz: 0,
                channels: 0,
                connected_to: None,
                timescale: 1,
                presentation_time_offset: 0,
                init_url: "init".into(),
                segments: vec![segment],
            };
            let period = Period {
                id: "p".into(),
                start_ns: 0,
                duration_ns: Some(NS_PER_S),
                tracks: vec![track],
            };
            let manifest = Manifest {
                kind: ManifestKind::Static,
                base_url: None,
                max_segment_duration_s: 1,
                periods: vec![period],
            };
            let text = manifest.write();
            assert!(text.contains(&format!("<S t=\"7\" d=\"2\"{attributes}/>")), "{text}");
            assert!(text.contains("media=\"a?b=1&amp;c\""), "{text}");
            assert_eq!(text.matches("xmlns:kvs=").count(), namespaces, "{text}");
        };
        let time = Some(Timestamp::from_millis(1_795_329_502_534));
        let number = Some(FragmentNumber(7));
        check(FragmentNote::default(), "", 0);
        check(FragmentNote { time, number: None }, " kvs:ts=\"1795329502.534\"", 1);
        check(FragmentNote { time: None, number }, " kvs:fn=\"00000000000000000007\"", 1);
    }

    #[test]
    fn durations_and_rates() {
        for (ns, expected) in [
            (0, "PT0S"),
            (10_000_000_000, "PT10S"),
            (1_500_000_000, "PT1.5S"),
            (86_400_000_000_001, "PT86400.000000001S"),
        ] {
            assert_eq!(duration(ns), expected);
        }
        for (rate, expected) in [
            (25.0, "25"),
            (29.970_029_97, "30000/1001"),
            (12.5, "12500/1000"),
            (0.0, ""),
            (f64::NAN, ""),
        ] {
            assert_eq!(ratio(rate), expected);
        }
    }
}
