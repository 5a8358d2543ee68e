//! A coded key frame as a JPEG (ITU-T T.81) or PNG of another size. Pure computation: some 10 to
//! 20 ms for 720p, so it belongs on a thread of its own.
//!
//! The decoder is C++ and takes bytes that a camera sent. What it is given is bounded first: one
//! frame's slices, the parameter sets that were read before, pictures of a size that we checked; and
//! each frame has a decoder of its own.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use jpeg_encoder::{ColorType, Encoder};
use lookback_wire::codec::h264::{AvcConfig, Colour};
use lookback_wire::codec::nal;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

/// Of the coded picture, either way: 4K in any orientation. A decoder holds up to 17 of them.
const MAX_SIDE: u32 = 4_096;
/// Larger than a key frame of 4K at the best quality.
const MAX_FRAME_BYTES: usize = 8 << 20;
/// NAL unit types of slices (ITU-T H.264 table 7-1): of a picture that is no IDR picture, to of one
/// that is.
const SLICES: std::ops::RangeInclusive<u8> = 1..=5;
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// From this height on a picture that does not say is taken to be coded as high definition is.
const HIGH_DEFINITION_LINES: u32 = 720;
/// Bits behind the point in the colour arithmetic.
const FRACTION_BITS: u32 = 14;

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Quality from 1 to 100.
    Jpeg {
        quality: u8,
    },
    Png,
}

/// Why a frame is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key frame cannot be decoded: {0}")]
pub struct Undecodable(String);

impl Undecodable {
    fn because(cause: impl ToString) -> Self {
        Self(cause.to_string())
    }
}

/// Decodes a key frame of length-prefixed NAL units and writes it in `size`: width and height in
/// pixels, both at least 1.
pub fn render(
    codec: &AvcConfig,
    frame: &[u8],
    size: (u32, u32),
    format: Format,
) -> Result<Vec<u8>, Undecodable> {
    let (width, height) = size;
    if codec.width > MAX_SIDE || codec.height > MAX_SIDE || width > MAX_SIDE || height > MAX_SIDE {
        let message = format!("{} x {} pixels are too many", codec.width, codec.height);
        return Err(Undecodable(message));
    }
    let stream = elementary_stream(codec, frame)?;
    let mut decoder = Decoder::new().map_err(Undecodable::because)?;
    let picture = decoder
        .decode(&stream)
        .map_err(Undecodable::because)?
        .ok_or_else(|| Undecodable("it gives no picture".into()))?;
    let rgb = scaled_rgb(&picture, codec.colour(), size)?;
    match format {
        Format::Jpeg { quality } => {
            let (width, height) = (saturate(width), saturate(height));
            let mut out = Vec::with_capacity(rgb.len() / 8);
            Encoder::new(&mut out, quality)
                .encode(&rgb, width, height, ColorType::Rgb)
                .map_err(Undecodable::because)?;
            Ok(out)
        }
        Format::Png => {
            let mut out = Vec::with_capacity(rgb.len() / 2);
            let mut encoder = png::Encoder::new(&mut out, width, height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_compression(png::Compression::Fast);
            encoder
                .write_header()
                .and_then(|mut writer| writer.write_image_data(&rgb))
                .map_err(Undecodable::because)?;
            Ok(out)
        }
    }
}

/// The frame's slices behind the parameter sets, between start codes (Annex B). Only the first
/// sequence parameter set goes with them: it is the one whose size was read.
fn elementary_stream(codec: &AvcConfig, frame: &[u8]) -> Result<Vec<u8>, Undecodable> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(Undecodable(format!("{} bytes are too many", frame.len())));
    }
    let kind = |unit: &[u8]| unit.first().map_or(0, |first| first & 0x1F);
    let sets = codec.parameter_sets();
    let first = sets.first().map_or(0, |unit| kind(unit));
    let mut out = Vec::with_capacity(frame.len() + 256);
    let mut put = |unit: &[u8]| {
        out.extend_from_slice(&START_CODE);
        out.extend_from_slice(unit);
    };
    for (index, unit) in sets.iter().enumerate() {
        if index == 0 || kind(unit) != first {
            put(unit);
        }
    }
    for unit in nal::length_prefixed_units(frame, codec.nal_length_size) {
        let unit = unit.map_err(Undecodable::because)?;
        if SLICES.contains(&kind(unit)) {
            put(unit);
        }
    }
    Ok(out)
}

/// The picture in `size`, three bytes a pixel.
fn scaled_rgb(
    picture: &impl YUVSource,
    colour: Colour,
    (width, height): (u32, u32),
) -> Result<Vec<u8>, Undecodable> {
    let (luma_width, luma_height) = picture.dimensions();
    let (stride, chroma_stride, _) = picture.strides();
    let chroma = (luma_width.div_ceil(2), luma_height / 2);
    let mut resizer = Resizer::new();
    let mut scale = |plane: &[u8], (plane_width, rows): (usize, usize), stride: usize| {
        let [stride, rows, plane_width] =
            [stride, rows, plane_width].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let source =
            ImageRef::new(stride, rows, plane, PixelType::U8).map_err(Undecodable::because)?;
        let mut scaled = Image::new(width, height, PixelType::U8);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(0.0, 0.0, plane_width.into(), rows.into());
        resizer.resize(&source, &mut scaled, &options).map_err(Undecodable::because)?;
        Ok::<_, Undecodable>(scaled.into_vec())
    };
    let luma = scale(picture.y(), (luma_width, luma_height), stride)?;
    let blue = scale(picture.u(), chroma, chroma_stride)?;
    let red = scale(picture.v(), chroma, chroma_stride)?;
    let matrix = Matrix::of(colour, u32::try_from(luma_height).unwrap_or(u32::MAX));
    let mut rgb = Vec::with_capacity(luma.len() * 3);
    for ((luma, blue), red) in luma.into_iter().zip(blue).zip(red) {
        rgb.extend(matrix.rgb(luma, blue, red));
    }
    Ok(rgb)
}

/// From luma and colour differences to red, green and blue (ITU-T H.264 §E.2.1, formulas of
/// matrix_coefficients), in fixed point.
struct Matrix {
    black: i32,
    luma: i32,
    red_of_red: i32,
    green_of_blue: i32,
    green_of_red: i32,
    blue_of_blue: i32,
}

impl Matrix {
    fn of(colour: Colour, lines: u32) -> Self {
        let (kr, kb) = match colour.matrix {
            1 => (0.2126, 0.0722),
            9 | 10 => (0.2627, 0.0593),
            4..=6 => (0.299, 0.114),
            _ if lines >= HIGH_DEFINITION_LINES => (0.2126, 0.0722),
            _ => (0.299, 0.114),
        };
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma): (i32, f64, f64) =
            if colour.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |factor: f64| (factor * f64::from(1 << FRACTION_BITS)).round() as i32;
        Self {
            black,
            luma: fixed(luma),
            red_of_red: fixed(2.0 * (1.0 - kr) * chroma),
            green_of_blue: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma),
            green_of_red: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma),
            blue_of_blue: fixed(2.0 * (1.0 - kb) * chroma),
        }
    }

    fn rgb(&self, luma: u8, blue: u8, red: u8) -> [u8; 3] {
        let half = 1 << (FRACTION_BITS - 1);
        let luma = (i32::from(luma) - self.black) * self.luma + half;
        let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
        [
            luma + self.red_of_red * red,
            luma + self.green_of_blue * blue + self.green_of_red * red,
            luma + self.blue_of_blue * blue,
        ]
        .map(|value| (value >> FRACTION_BITS).clamp(0, 255) as u8)
    }
}

fn saturate(side: u32) -> u16 {
    u16::try_from(side).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use openh264::encoder::Encoder as H264Encoder;
    use openh264::formats::YUVBuffer;
    use proptest::prelude::*;

    /// A key frame of bars of the given luma and colour differences, and its record.
    fn bars(width: usize, height: usize, bars: &[[u8; 3]]) -> (AvcConfig, Vec<u8>) {
        let bar = |x: usize, width: usize| bars[x * bars.len() / width];
        let plane = |index: usize, width: usize, height: usize| {
            (0..height).flat_map(move |_| (0..width).map(move |x| bar(x, width)[index]))
        };
        let yuv: Vec<u8> = plane(0, width, height)
            .chain(plane(1, width / 2, height / 2))
            .chain(plane(2, width / 2, height / 2))
            .collect();
        let mut encoder = H264Encoder::new().unwrap();
        let coded = encoder.encode(&YUVBuffer::from_vec(yuv, width, height)).unwrap().to_vec();
        let codec = AvcConfig::from_annex_b(&coded).unwrap();
        (codec, nal::to_length_prefixed(coded))
    }

    /// Red, green and blue in the middle of each bar of a PNG.
    fn colours(png: &[u8], bars: usize) -> Vec<[u8; 3]> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let (width, row) = (info.width as usize, info.height as usize / 2);
        (0..bars)
            .map(|bar| {
                let x = (2 * bar + 1) * width / (2 * bars);
                let at = (row * width + x) * 3;
                [pixels[at], pixels[at + 1], pixels[at + 2]]
            })
            .collect()
    }

    #[test]
    fn colours_come_out_as_they_went_in() {
        // As `ITU-R BT.601` codes white, red, green, blue and black, in 16 to 235.
        let coded = [[235, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110], [16, 128, 128]];
        let shown = [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]];
        let (codec, frame) = bars(640, 368, &coded);
        assert_eq!(codec.colour(), Colour { full_range: false, ..codec.colour() });
        for size in [(640, 368), (320, 184), (33, 7), (1_000, 500)] {
            let png = render(&codec, &frame, size, Format::Png).unwrap();
            for (found, expected) in colours(&png, coded.len()).iter().zip(shown) {
                let off = found.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max();
                assert!(off.is_some_and(|off| off <= 12), "{size:?}: {found:?} for {expected:?}");
            }
        }
        let jpeg = render(&codec, &frame, (320, 184), Format::Jpeg { quality: 80 }).unwrap();
        assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
        let worse = render(&codec, &frame, (320, 184), Format::Jpeg { quality: 5 }).unwrap();
        assert!(worse.len() < jpeg.len());
    }

    #[test]
    fn what_is_too_large_is_not_decoded() {
        let (codec, frame) = bars(64, 64, &[[100, 128, 128]]);
        let large = AvcConfig { width: MAX_SIDE + 1, ..codec.clone() };
        let error = render(&large, &frame, (64, 64), Format::Png).unwrap_err();
        assert!(error.to_string().contains("pixels are too many"), "{error}");
        let error = render(&codec, &vec![0; MAX_FRAME_BYTES + 1], (64, 64), Format::Png);
        assert!(error.unwrap_err().to_string().contains("bytes are too many"));
        let error = render(&codec, &[], (64, 64), Format::Png).unwrap_err();
        assert_eq!(error.to_string(), "the key frame cannot be decoded: it gives no picture");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_frames_do_no_harm(
            at in any::<prop::sample::Index>(),
            record_at in any::<prop::sample::Index>(),
            bits: u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let (codec, mut frame) = bars(64, 64, &[[100, 30, 200], [50, 128, 128]]);
            let at = at.index(frame.len());
            frame[at] ^= bits;
            let _ = render(&codec, &frame, (32, 32), Format::Png);
            frame.truncate(cut.index(frame.len()));
            let _ = render(&codec, &frame, (32, 32), Format::Png);
            let mut record = codec.record.to_vec();
            let record_at = record_at.index(record.len());
            record[record_at] ^= bits;
            if let Ok(codec) = AvcConfig::parse(Bytes::from(record)) {
                let _ = render(&codec, &frame, (32, 32), Format::Png);
            }
        }
    }
}
