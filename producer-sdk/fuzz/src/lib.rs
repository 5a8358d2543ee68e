//! What must hold for any bytes. libFuzzer calls these, and so does a test of lookback-wire with
//! mutations of valid input.

use bytes::Bytes;
use lookback_wire::ack::ACK_BYTES_MAX;
use lookback_wire::codec::nal::{
    annex_b_units, is_annex_b_frame, length_prefixed_units, to_annex_b, to_length_prefixed,
};
use lookback_wire::codec::{CodecConfig, h264, h265};
use lookback_wire::matroska::{Event, Limits, ReadError, Reader};
use lookback_wire::{Ack, AckError, AckParser, Track, TrackKind};

/// Cut anywhere, an upload reads as it does whole; frames hold no more than was sent; every
/// fragment that ends had begun.
pub fn reader(data: &[u8]) {
    let Some((&choice, upload)) = data.split_first() else { return };
    let limits = if choice & 1 == 0 { Limits::default() } else { Limits::recording() };
    let (events, error) = read(upload, upload.len(), &limits);
    let (cut_events, cut_error) = read(upload, 1 + usize::from(choice), &limits);
    assert_eq!(events, cut_events);
    assert_eq!(error, cut_error);
    let mut payload_bytes = 0;
    let mut open = false;
    for event in &events {
        match event {
            Event::Header(header) => {
                assert!((1..=limits.tracks).contains(&header.tracks.len()));
                assert!(header.tracks.iter().all(|track| track.number > 0));
            }
            Event::FragmentStart { .. } => assert!(!std::mem::replace(&mut open, true)),
            Event::Frame(frame) => {
                assert!(open);
                payload_bytes += frame.payload.len();
            }
            Event::Tag(tag) => assert!(!tag.name.is_empty()),
            Event::FragmentEnd { .. } => assert!(std::mem::replace(&mut open, false)),
        }
    }
    assert!(payload_bytes <= upload.len());
}

fn read(upload: &[u8], part: usize, limits: &Limits) -> (Vec<Event>, Option<ReadError>) {
    let mut reader = Reader::new(limits.clone());
    let mut events = Vec::new();
    for part in upload.chunks(part.max(1)) {
        reader.push(Bytes::copy_from_slice(part));
        loop {
            match reader.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    match reader.finish() {
        Ok(last) => {
            events.extend(last);
            (events, None)
        }
        Err(error) => (events, Some(error)),
    }
}

/// Cut anywhere, a response reads as it does whole; what was read is written and reads the
/// same again.
pub fn ack(data: &[u8]) {
    let Some((&cut, response)) = data.split_first() else { return };
    let acks = read_acks(response, response.len());
    assert_eq!(acks, read_acks(response, 1 + usize::from(cut)));
    for ack in acks.into_iter().flatten() {
        let written = ack.write();
        assert!(written.len() < ACK_BYTES_MAX);
        assert_eq!(read_acks(written.as_bytes(), written.len()), [Ok(ack)]);
    }
}

fn read_acks(response: &[u8], part: usize) -> Vec<Result<Ack<String>, AckError>> {
    let mut parser = AckParser::new();
    let mut acks = Vec::new();
    for part in response.chunks(part.max(1)) {
        parser.push(part);
        while let Some(ack) = parser.next().transpose() {
            acks.push(ack);
        }
    }
    acks
}

/// A configuration that is accepted has a picture size or a sampling rate, and a profile string; one
/// that is made of Annex B reads.
pub fn codec(data: &[u8]) {
    const CODEC_IDS: [&str; 4] = ["V_MPEG4/ISO/AVC", "V_MPEGH/ISO/HEVC", "A_AAC", "A_MS/ACM"];
    let Some((&choice, private)) = data.split_first() else { return };
    let codec_id = CODEC_IDS[usize::from(choice) % CODEC_IDS.len()];
    if let Ok(config) = CodecConfig::of(&track(codec_id, private)) {
        check(&config);
    }
    if let Ok(config) = h264::AvcConfig::from_annex_b(private) {
        check(&CodecConfig::H264(config));
    }
    if let Ok(config) = h265::HevcConfig::from_annex_b(private) {
        check(&CodecConfig::H265(config));
    }
}

fn check(config: &CodecConfig) {
    assert!(config.rfc6381().len() >= 4);
    let sides = 1..=65_535;
    match config {
        CodecConfig::H264(avc) => {
            assert!(sides.contains(&avc.width) && sides.contains(&avc.height));
            assert!(matches!(avc.nal_length_size, 1 | 2 | 4));
        }
        CodecConfig::H265(hevc) => {
            assert!(sides.contains(&hevc.width) && sides.contains(&hevc.height));
            assert!(matches!(hevc.nal_length_size, 1 | 2 | 4));
        }
        CodecConfig::Aac(aac) => assert!(aac.sampling_hz > 0 && aac.frame_samples > 0),
        CodecConfig::G711(g711) => assert!(g711.sampling_hz > 0 && g711.channels > 0),
    }
}

fn track(codec_id: &str, private: &[u8]) -> Track {
    Track {
        number: 1,
        uid: 1,
        kind: TrackKind::Video,
        name: None,
        codec_id: codec_id.into(),
        codec_private: Bytes::copy_from_slice(private),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    }
}

/// Both forms of a frame hold the same NAL units.
pub fn nal(data: &[u8]) {
    let Some((&length_size, frame)) = data.split_first() else { return };
    if is_annex_b_frame(frame) {
        let prefixed = to_length_prefixed(frame.to_vec());
        let units: Result<Vec<_>, _> = length_prefixed_units(&prefixed, 4).collect();
        assert_eq!(units, Ok(annex_b_units(frame).collect()));
    }
    let units: Result<Vec<_>, _> = length_prefixed_units(frame, length_size).collect();
    let annex_b = to_annex_b(frame.to_vec(), length_size);
    assert_eq!(units.is_ok(), annex_b.is_ok());
    assert!(annex_b.is_err() || annex_b.is_ok_and(|annex_b| annex_b.len() <= 4 * frame.len()));
}
