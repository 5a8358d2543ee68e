//! An MP4 recording (ISO/IEC 14496-12): its sample tables are read, its samples are fetched one by
//! one. Fragmented files are not read.

use super::recording::{Extent, Sample, choose};
use crate::commands::Failure;
use bytes::BytesMut;
use lookback_wire::codec::g711::{self, G711Config, Law};
use lookback_wire::codec::{aac, h264, h265};
use lookback_wire::{Track, TrackKind};
use mp4_atom::{Audio, Codec, Decode, Encode, FourCC, Moov, Stbl, StszSamples, Trak};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A day of footage has a `moov` of some MB; a larger one is not read into memory.
const MAX_MOOV_BYTES: u64 = 256 << 20;
/// Five days of video at 30 pictures a second and audio.
const MAX_SAMPLES: u64 = 32_000_000;
/// No sample is larger than a fragment may be.
const MAX_SAMPLE_BYTES: u32 = 50_000_000;
/// What cameras send: 40 ms in each.
const G711_PACKETS_PER_SECOND: u32 = 25;
/// Top-level boxes before the `moov`: files from recorders have a handful.
const MAX_BOXES: usize = 100_000;

#[derive(Debug)]
pub struct Mp4File {
    file: File,
    tracks: Vec<Track>,
    /// Of each track, in decode order.
    samples: Vec<Vec<Located>>,
    /// The next sample of each track.
    next: Vec<usize>,
    extent: Extent,
}

/// A sample in the file.
#[derive(Clone, Copy, Debug)]
struct Located {
    offset: u64,
    bytes: u32,
    decode_ms: i64,
    at_ms: i64,
    key: bool,
}

impl Mp4File {
    pub fn open(file: File) -> Result<Self, Failure> {
        let moov = read_moov(&file)?;
        if moov.mvex.is_some() {
            return Err("it is a fragmented MP4, which is not read".into());
        }
        let readable: Vec<(Track, &Trak)> =
            moov.trak.iter().filter_map(|trak| Some((track(trak)?, trak))).collect();
        let tracks: Vec<Track> = readable.iter().map(|(track, _)| track.clone()).collect();
        let mut this = Self {
            file,
            tracks: Vec::new(),
            samples: Vec::new(),
            next: Vec::new(),
            extent: Extent { start_ms: 0, end_ms: 0 },
        };
        for index in choose(&tracks)? {
            let Some((track, trak)) = readable.get(index) else { continue };
            let samples = locate(trak, moov.mvhd.timescale)?;
            this.tracks.push(track.clone());
            this.samples.push(match track.codec_id == g711::CODEC_ID {
                true => packets(&samples, track),
                false => samples,
            });
            this.next.push(0);
        }
        this.extent = this.measure()?;
        Ok(this)
    }

    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub fn next(&mut self) -> Result<Option<Sample>, Failure> {
        let heads = self.samples.iter().zip(&self.next).enumerate();
        let heads =
            heads.filter_map(|(track, (samples, next))| Some((track, *samples.get(*next)?)));
        let Some((track, located)) = heads.min_by_key(|(track, head)| (head.decode_ms, *track))
        else {
            return Ok(None);
        };
        if let Some(next) = self.next.get_mut(track) {
            *next += 1;
        }
        let mut data = BytesMut::zeroed(located.bytes as usize);
        self.file.read_exact_at(&mut data, located.offset).map_err(|error| {
            format!("the sample of {} bytes at {}: {error}", located.bytes, located.offset)
        })?;
        let Located { at_ms, key, .. } = located;
        Ok(Some(Sample { track, at_ms, key, data: data.freeze() }))
    }

    pub fn rewind(&mut self) -> Result<(), Failure> {
        self.next.fill(0);
        Ok(())
    }

    fn measure(&self) -> Result<Extent, Failure> {
        let leading = self.samples.first().map(Vec::as_slice).unwrap_or_default();
        let start = leading.iter().find(|sample| sample.key).ok_or("it has no key frame")?;
        let first_ms = leading.iter().map(|sample| sample.at_ms).min().unwrap_or(0);
        let last_ms = leading.iter().map(|sample| sample.at_ms).max().unwrap_or(0);
        let interval_ms = (last_ms - first_ms).checked_div(leading.len() as i64 - 1).unwrap_or(40);
        Ok(Extent { start_ms: start.at_ms, end_ms: last_ms.saturating_add(interval_ms) })
    }
}

/// Finds the `moov` among the top-level boxes (§4.2) and reads it.
fn read_moov(file: &File) -> Result<Moov, Failure> {
    let end = file.metadata()?.len();
    let mut offset = 0u64;
    for _ in 0..MAX_BOXES {
        if offset.saturating_add(8) > end {
            break;
        }
        let mut head = [0; 8];
        file.read_exact_at(&mut head, offset)?;
        let [a, b, c, d, kind @ ..] = head;
        let (header, size) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, end - offset),
            1 => {
                let mut large = [0; 8];
                file.read_exact_at(&mut large, offset + 8)?;
                (16, u64::from_be_bytes(large))
            }
            size => (8, u64::from(size)),
        };
        if size < header || size > end - offset {
            let kind = String::from_utf8_lossy(&kind).into_owned();
            return Err(format!("box {kind} at {offset} has {size} bytes").into());
        }
        if kind == *b"moov" {
            if size > MAX_MOOV_BYTES {
                return Err(format!("its moov of {size} bytes is too large").into());
            }
            let mut bytes = vec![0; usize::try_from(size)?];
            file.read_exact_at(&mut bytes, offset)?;
            return Ok(Moov::decode(&mut bytes.as_slice())?);
        }
        offset += size;
    }
    Err("it has no moov".into())
}

/// The track as Matroska would have it; none for what cannot be sent.
fn track(trak: &Trak) -> Option<Track> {
    let mut track = Track {
        number: u64::from(trak.tkhd.track_id),
        uid: u64::from(trak.tkhd.track_id),
        kind: TrackKind::Video,
        name: None,
        codec_id: String::new(),
        codec_private: bytes::Bytes::new(),
        default_duration_ns: None,
        width: 0,
        height: 0,
        sampling_hz: 0.0,
        channels: 0,
        bit_depth: 0,
    };
    let codec = trak.mdia.minf.stbl.stsd.codecs.first()?;
    if let Some(visual) = codec.visual() {
        (track.width, track.height) = (visual.width.into(), visual.height.into());
    }
    let (codec_id, record) = match codec {
        Codec::Avc1(entry) => (h264::CODEC_ID, body(&entry.avcc)?),
        Codec::Avc3(entry) => (h264::CODEC_ID, body(&entry.avcc)?),
        Codec::Hvc1(entry) => (h265::CODEC_ID, body(&entry.hvcc)?),
        Codec::Hev1(entry) => (h265::CODEC_ID, body(&entry.hvcc)?),
        Codec::Mp4a(entry) => {
            take_audio(&mut track, &entry.audio);
            (aac::CODEC_ID, entry.esds.es_desc.dec_config.dec_specific.as_ref()?.raw.clone())
        }
        Codec::Unknown(kind, entry) => {
            let law = match *kind {
                kind if kind == FourCC::new(b"ulaw") => Law::Mu,
                kind if kind == FourCC::new(b"alaw") => Law::A,
                _ => return None,
            };
            take_audio(&mut track, &Audio::decode(&mut entry.as_slice()).ok()?);
            track.bit_depth = 8;
            let (sampling_hz, channels) = (track.sampling_hz as u32, track.channels);
            let config = G711Config { law, sampling_hz, channels };
            (g711::CODEC_ID, config.record().to_vec())
        }
        _ => return None,
    };
    track.codec_id = codec_id.to_owned();
    track.codec_private = record.into();
    Some(track)
}

fn take_audio(track: &mut Track, audio: &Audio) {
    track.kind = TrackKind::Audio;
    track.sampling_hz = f64::from(audio.sample_rate.integer());
    track.channels = audio.channel_count.into();
}

/// What a box holds, without its header of 8 bytes.
fn body(atom: &impl Encode) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes).ok()?;
    Some(bytes.get(8..)?.to_vec())
}

/// Every sample of a track, by its tables (§8.6.1, §8.7).
fn locate(trak: &Trak, movie_timescale: u32) -> Result<Vec<Located>, Failure> {
    let stbl = &trak.mdia.minf.stbl;
    let timescale = trak.mdia.mdhd.timescale;
    if timescale == 0 || movie_timescale == 0 {
        return Err("a timescale is 0".into());
    }
    let shift = edit_shift(trak, movie_timescale);
    let to_ms = |ticks: i64| {
        let ms = (i128::from(ticks) * 1000).div_euclid(i128::from(timescale));
        i64::try_from(ms).map_err(|_| "a sample's time is out of bounds")
    };
    let sizes: Box<dyn Iterator<Item = u32>> = match &stbl.stsz.samples {
        StszSamples::Identical { count, size } => {
            Box::new(std::iter::repeat_n(*size, *count as usize))
        }
        StszSamples::Different { sizes } => Box::new(sizes.iter().copied()),
    };
    let deltas = stbl.stts.entries.iter();
    let deltas = deltas.flat_map(|e| std::iter::repeat_n(e.sample_delta, e.sample_count as usize));
    let mut offsets =
        stbl.ctts.iter().flat_map(|ctts| &ctts.entries).flat_map(|entry| {
            std::iter::repeat_n(entry.sample_offset, entry.sample_count as usize)
        });
    let mut keys = stbl.stss.as_ref().map(|stss| stss.entries.iter().copied().peekable());
    let places = places(stbl)?;

    let mut samples = Vec::new();
    let mut decode = 0i64;
    for ((place, bytes), (delta, number)) in
        places.zip(sizes).scan((0, 0), in_chunk).zip(deltas.zip(1u32..))
    {
        if samples.len() as u64 >= MAX_SAMPLES {
            return Err(format!("it has more than {MAX_SAMPLES} samples").into());
        }
        if bytes > MAX_SAMPLE_BYTES {
            return Err(format!("sample {number} has {bytes} bytes").into());
        }
        let key = match &mut keys {
            None => true,
            Some(keys) => keys.next_if(|key| *key <= number) == Some(number),
        };
        let at = decode.saturating_add(offsets.next().unwrap_or(0)).saturating_add(shift);
        samples.push(Located {
            offset: place,
            bytes,
            decode_ms: to_ms(decode.saturating_add(shift))?,
            at_ms: to_ms(at)?,
            key,
        });
        decode = decode.saturating_add(i64::from(delta));
    }
    Ok(samples)
}

/// Joins neighbours: each value of G.711 is a sample of MP4's, and a packet has many.
fn packets(samples: &[Located], track: &Track) -> Vec<Located> {
    let per_second = track.sampling_hz as u32 * track.channels;
    let packet_bytes = per_second / G711_PACKETS_PER_SECOND;
    let mut packets: Vec<Located> = Vec::new();
    for sample in samples {
        match packets.last_mut() {
            Some(packet)
                if packet.offset + u64::from(packet.bytes) == sample.offset
                    && packet.bytes.saturating_add(sample.bytes) <= packet_bytes =>
            {
                packet.bytes += sample.bytes;
            }
            _ => packets.push(*sample),
        }
    }
    packets
}

/// Where each sample's chunk begins, a chunk's offset as often as it has samples (§8.7.4, §8.7.5).
fn places(stbl: &Stbl) -> Result<impl Iterator<Item = u64>, Failure> {
    let chunks: Vec<u64> = match (&stbl.stco, &stbl.co64) {
        (Some(stco), _) => stco.entries.iter().copied().map(u64::from).collect(),
        (None, Some(co64)) => co64.entries.clone(),
        (None, None) => return Err("a track has no chunk offsets".into()),
    };
    let mut runs = stbl.stsc.entries.clone().into_iter().peekable();
    let mut in_each = 0;
    Ok(chunks.into_iter().zip(1u32..).flat_map(move |(offset, number)| {
        while let Some(run) = runs.next_if(|run| run.first_chunk <= number) {
            in_each = run.samples_per_chunk;
        }
        std::iter::repeat_n(offset, in_each as usize)
    }))
}

/// Turns (chunk offset, size) into (sample offset, size): samples of a chunk lie one after another.
fn in_chunk((chunk, end): &mut (u64, u64), (place, bytes): (u64, u32)) -> Option<(u64, u32)> {
    let offset = if *chunk == place && *end > place { *end } else { place };
    *chunk = place;
    *end = offset.saturating_add(u64::from(bytes));
    Some((offset, bytes))
}

/// What is added to composition times to get presentation times, in the track's timescale: empty
/// edits put the track later, the first real one says where in it the presentation begins (§8.6.6).
fn edit_shift(trak: &Trak, movie_timescale: u32) -> i64 {
    let edits = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let mut shift = 0i64;
    for edit in edits.into_iter().flat_map(|elst| &elst.entries) {
        match edit.media_time {
            Some(begin) => return shift.saturating_sub(i64::try_from(begin).unwrap_or(i64::MAX)),
            None => {
                let ticks = u128::from(edit.segment_duration)
                    * u128::from(trak.mdia.mdhd.timescale)
                    / u128::from(movie_timescale);
                shift = shift.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX));
            }
        }
    }
    shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{
        Avc1, Avcc, Co64, Ctts, CttsEntry, Edts, Elst, ElstEntry, Mdhd, Mdia, Minf, Mvhd, Stco,
        Stsc, StscEntry, Stsd, Stss, Stsz, Stts, SttsEntry, Tkhd, Visual,
    };
    use std::io::Write;

    const SPS: &str = "6742c01eda0280f684000003000400000300c83c58b920";

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// Video of five samples in three chunks, 25 pictures a second, with a picture that is shown out
    /// of order, an edit that begins 40 ms in, and offsets that count from `base`.
    fn video(base: u64, large: bool) -> Trak {
        let avcc = Avcc {
            configuration_version: 1,
            avc_profile_indication: 0x42,
            profile_compatibility: 0xc0,
            avc_level_indication: 0x1e,
            length_size: 4,
            sequence_parameter_sets: vec![hex(SPS)],
            picture_parameter_sets: vec![hex("68ce3c80")],
            ext: None,
        };
        let visual = Visual { width: 320, height: 240, ..Default::default() };
        let entry = Avc1 {
            visual,
            avcc,
            btrt: None,
            colr: None,
            pasp: None,
            taic: None,
            fiel: None,
            spatial: None,
        };
        let chunks = [base, base + 100, base + 50];
        let run = |first_chunk, samples_per_chunk| StscEntry {
            first_chunk,
            samples_per_chunk,
            sample_description_index: 1,
        };
        let shown = |sample_count, sample_offset| CttsEntry { sample_count, sample_offset };
        let stbl = Stbl {
            stsd: Stsd { codecs: vec![Codec::Avc1(entry)] },
            stts: Stts { entries: vec![SttsEntry { sample_count: 5, sample_delta: 512 }] },
            ctts: Some(Ctts {
                entries: vec![shown(1, 512), shown(1, 1024), shown(1, 0), shown(2, 512)],
            }),
            stss: Some(Stss { entries: vec![1, 4] }),
            stsc: Stsc { entries: vec![run(1, 2), run(3, 1)] },
            stsz: Stsz { samples: StszSamples::Different { sizes: vec![3, 4, 5, 6, 7] } },
            stco: (!large).then(|| Stco { entries: chunks.map(|chunk| chunk as u32).to_vec() }),
            co64: large.then(|| Co64 { entries: chunks.to_vec() }),
            ..Default::default()
        };
        let edit = ElstEntry { segment_duration: 200, media_time: Some(512), media_rate: 1.into() };
        Trak {
            tkhd: Tkhd { track_id: 1, ..Default::default() },
            edts: Some(Edts { elst: Some(Elst { entries: vec![edit] }) }),
            mdia: Mdia {
                mdhd: Mdhd { timescale: 12_800, ..Default::default() },
                minf: Minf { stbl, ..Default::default() },
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn file(trak: impl Fn(u64) -> Trak) -> File {
        let media: Vec<u8> = (0..200).collect();
        let mut bytes = Vec::new();
        bytes.extend([0, 0, 0, 16]);
        bytes.extend(b"ftypisom");
        bytes.extend([0; 4]);
        bytes.extend((8 + media.len() as u32).to_be_bytes());
        bytes.extend(b"mdat");
        let base = bytes.len() as u64;
        bytes.extend(media);
        let mvhd = Mvhd { timescale: 1000, ..Default::default() };
        Moov { mvhd, trak: vec![trak(base)], ..Default::default() }.encode(&mut bytes).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn samples_come_as_the_tables_say() {
        for large in [false, true] {
            let mut mp4 = Mp4File::open(file(|base| video(base, large))).unwrap();
            assert_eq!(mp4.extent(), Extent { start_ms: 0, end_ms: 200 });
            let track = &mp4.tracks()[0];
            assert_eq!((track.codec_id.as_str(), track.width), (h264::CODEC_ID, 320));
            for _ in 0..2 {
                let mut samples = Vec::new();
                while let Some(sample) = mp4.next().unwrap() {
                    samples.push((sample.at_ms, sample.key, sample.data[0], sample.data.len()));
                }
                let expected = [
                    (0, true, 0, 3),
                    (80, false, 3, 4),
                    (40, false, 100, 5),
                    (120, true, 105, 6),
                    (160, false, 50, 7),
                ];
                assert_eq!(samples, expected);
                mp4.rewind().unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let check = |mp4: File, expected: &str| {
            let error = Mp4File::open(mp4).map(|mut mp4| {
                while mp4.next()?.is_some() {}
                Err::<(), Failure>("it was read".into())
            });
            let error = match error {
                Ok(read) => read.unwrap_err(),
                Err(error) => error,
            };
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(tempfile::tempfile().unwrap(), "it has no moov");
        check(file(|base| video(base + 1_000_000, false)), "the sample of 3 bytes");
        let without_offsets = |base| {
            let mut trak = video(base, false);
            trak.mdia.minf.stbl.stco = None;
            trak
        };
        check(file(without_offsets), "no chunk offsets");
    }
}
