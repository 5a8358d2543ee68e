//! Pictures to H.264, cheaply enough for several cameras beside a browser.

use super::scene::Picture;
use crate::commands::Failure;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, RateControlMode, SpsPpsStrategy,
};
use openh264::{OpenH264API, Timestamp};
use std::time::Duration;

const BITS_PER_SECOND: u32 = 400_000;

/// An encoder for pictures of one size.
pub struct PictureEncoder(Encoder);

impl PictureEncoder {
    pub fn new(frames_per_second: u32) -> Result<Self, Failure> {
        let config = EncoderConfig::new()
            .bitrate(BitRate::from_bps(BITS_PER_SECOND))
            .max_frame_rate(FrameRate::from_hz(frames_per_second as f32))
            .rate_control_mode(RateControlMode::Bufferbased)
            // The same parameter sets at each key frame: another set would begin another upload.
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            .complexity(Complexity::Low)
            .skip_frames(false)
            .scene_change_detect(false)
            .num_threads(1);
        Ok(Self(Encoder::with_api_config(OpenH264API::from_source(), config)?))
    }

    /// One access unit in Annex B, with parameter sets where it is a key frame. `since_start` only
    /// has to rise.
    pub fn encode(
        &mut self,
        picture: &Picture,
        since_start: Duration,
        key: bool,
    ) -> Result<Vec<u8>, Failure> {
        if key {
            self.0.force_intra_frame();
        }
        let millis = u64::try_from(since_start.as_millis())?;
        Ok(self.0.encode_at(picture, Timestamp::from_millis(millis))?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::scene::Scene;
    use crate::commands::demo::scene::tests::read_clock;
    use lookback_wire::codec::h264::AvcConfig;
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    #[test]
    fn the_clock_survives_compression() {
        for (width, height) in [(640, 360), (576, 324)] {
            let mut scene = Scene::new("Front door", 1, width, height);
            let mut encoder = PictureEncoder::new(15).unwrap();
            let mut decoder = Decoder::new().unwrap();
            let mut bytes = 0;
            let mut record = None;
            for n in 0..90i64 {
                let at = 1_795_329_502_534 + n * 1000 / 15;
                let since = Duration::from_millis(n.unsigned_abs() * 1000 / 15);
                let picture = scene.at(lookback_wire::Timestamp::from_millis(at));
                let data = encoder.encode(picture, since, n % 15 == 0).unwrap();
                bytes += data.len();
                if n % 15 == 0 {
                    let config = AvcConfig::from_annex_b(&data).unwrap();
                    assert_eq!((config.width as usize, config.height as usize), (width, height));
                    let first = record.get_or_insert(config.record.clone());
                    assert_eq!(*first, config.record, "parameter sets change");
                }
                let decoded = decoder.decode(&data).unwrap().unwrap();
                let stride = decoded.strides().0;
                let read = read_clock(width, height, |x, y| decoded.y()[y * stride + x]);
                assert_eq!(read, Some(at), "{width}x{height}, frame {n}");
            }
            let bits_per_second = bytes * 8 / 6;
            assert!((100_000..600_000).contains(&bits_per_second), "{bits_per_second} bit/s");
        }
    }
}
