//! Silence for spans that have pictures but no sound: players stop where one of two tracks has a hole.

use crate::TrackInit;
use crate::mp4::{self, Sample};
use bytes::Bytes;
use lookback_wire::codec::CodecConfig;
use lookback_wire::codec::g711::Law;

/// An AAC-LC `raw_data_block` of one channel without spectral data (ISO/IEC 14496-3 Table 4.3): a
/// single_channel_element whose `max_sfb` is 0, then ID_END.
const AAC_MONO: &[u8] = &[0, 0, 0, 0b111];
/// Of two: a channel_pair_element without a common window, then ID_END.
const AAC_STEREO: &[u8] = &[0b0010_0000, 0, 0, 0, 0, 0, 0b1110];
/// Bytes of 0 V (ITU-T G.711).
const MU_LAW: u8 = 0xFF;
const A_LAW: u8 = 0xD5;
/// Samples of each channel in a packet of G.711.
const G711_PACKET: u64 = 1024;
/// Longer than any fragment.
const MAX_S: u64 = 60;

/// How a track says nothing: one packet, and how many ticks it lasts.
fn packet(init: &TrackInit) -> Option<(Bytes, u64)> {
    match CodecConfig::of(&init.track).ok()? {
        CodecConfig::Aac(aac) => {
            let block = match aac.channels {
                1 => AAC_MONO,
                2 => AAC_STEREO,
                _ => return None,
            };
            Some((Bytes::from_static(block), u64::from(aac.frame_samples).max(1)))
        }
        CodecConfig::G711(g711) => {
            let byte = match g711.law {
                Law::Mu => MU_LAW,
                Law::A => A_LAW,
            };
            let len = usize::try_from(G711_PACKET * u64::from(init.channels.clamp(1, 8))).ok()?;
            Some((vec![byte; len].into(), G711_PACKET))
        }
        CodecConfig::H264(_) | CodecConfig::H265(_) => None,
    }
}

/// Whether silence can be made for a track, as it was uploaded.
pub fn exists_for(init: &TrackInit) -> bool {
    packet(init).is_some()
}

/// A chunk of silence, times in the track's ticks. `None` where there is none for the codec, or the
/// span is empty or longer than a minute. The last packet is said to be as long as is left.
pub fn chunk(init: &TrackInit, decode_time: u64, duration: u64) -> Option<Vec<u8>> {
    let end = decode_time.checked_add(duration)?;
    if duration == 0 || duration > MAX_S * u64::from(init.timescale) {
        return None;
    }
    let (packet, ticks) = packet(init)?;
    let mut samples = Vec::new();
    let mut at = decode_time;
    while at < end {
        let length = ticks.min(end - at);
        samples.push(Sample {
            decode_time: at,
            presentation_time: at,
            duration: u32::try_from(length).ok()?,
            size: sample_size(&packet, length, ticks)?,
            key: true,
        });
        at += length;
    }
    let sequence = u128::from(decode_time) * 1_000 / u128::from(init.timescale.max(1));
    let mut chunk = mp4::write_head(sequence as u32, &samples);
    for sample in &samples {
        chunk.extend_from_slice(packet.get(..usize::try_from(sample.size).ok()?)?);
    }
    Some(chunk)
}

/// G.711's packets are as long as they sound; one of AAC is always whole.
fn sample_size(packet: &Bytes, length: u64, ticks: u64) -> Option<u32> {
    let whole = packet.len() as u64;
    let size = if whole >= ticks { whole / ticks * length } else { whole };
    u32::try_from(size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_wire::{Track, TrackKind};

    fn init(codec_id: &str, record: &'static [u8]) -> TrackInit {
        let track = Track {
            number: 1,
            uid: 1,
            kind: TrackKind::Audio,
            name: None,
            codec_id: codec_id.into(),
            codec_private: Bytes::from_static(record),
            default_duration_ns: None,
            width: 0,
            height: 0,
            sampling_hz: 0.0,
            channels: 0,
            bit_depth: 0,
        };
        TrackInit::new(&track).unwrap()
    }

    #[test]
    fn lasts_exactly_as_asked() {
        // AAC-LC of 48 kHz; µ-law of 8 kHz, as WAVEFORMATEX.
        let mono = init("A_AAC", &[0x11, 0x88]);
        let stereo = init("A_AAC", &[0x11, 0x90]);
        let surround = init("A_AAC", &[0x11, 0xB0]);
        let mu_law =
            init("A_MS/ACM", &[7, 0, 1, 0, 0x40, 0x1F, 0, 0, 0x40, 0x1F, 0, 0, 1, 0, 8, 0, 0, 0]);
        let start = 1_795_348_800 * 48_000;
        for (init, duration, count, bytes) in [
            (&mono, 96_000, 94, 94 * 4),
            (&stereo, 1_024, 1, 7),
            (&mu_law, 2_500, 3, 2_500),
            (&mono, 1, 1, 4),
        ] {
            assert!(exists_for(init));
            let chunk = chunk(init, start, duration).unwrap();
            let samples = mp4::read_samples(&chunk).unwrap();
            assert_eq!(samples.len(), count);
            assert_eq!(samples.iter().map(|s| u64::from(s.duration)).sum::<u64>(), duration);
            assert_eq!(samples.iter().map(|s| s.size).sum::<u32>(), bytes);
            assert_eq!(samples[0].decode_time, start);
        }
        assert!(!exists_for(&surround));
        for (init, at, duration) in
            [(&surround, 0, 1), (&mono, 0, 0), (&mono, u64::MAX, 1), (&mono, 0, 61 * 48_000)]
        {
            assert!(chunk(init, at, duration).is_none());
        }
    }
}
