//! Pictures that cameras send with events: JPEGs (ITU-T T.81) that are read, scaled and written anew,
//! so that what is handed out holds pixels and nothing else of what came. Pure computation, some
//! milliseconds: it belongs on a thread of its own.

use crate::event::Picture;
use bytes::Bytes;
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use jpeg_encoder::{ColorType, Encoder};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Of what a camera sends; see the contract.
pub const MAX_BYTES: usize = 64 << 10;
/// Pixels along one side of what a camera sends: 64 KiB hold no larger picture that is of use, and a
/// few of them can say to be one of 65,535 by 65,535.
const MAX_SIDE: usize = 1_920;
/// Wider ones are kept at this width: a picture for a list, or for a message on a telephone.
const KEPT_WIDTH: u32 = 640;
const JPEG_QUALITY: u8 = 80;
/// Start of image, and the first byte of the marker that follows (ITU-T T.81 §B.1.1.3).
const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// Why bytes are no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPicture {
    #[error("{0} bytes are more than {MAX_BYTES}")]
    TooLong(usize),
    #[error("it is no JPEG")]
    Other,
    #[error("the JPEG cannot be read: {0}")]
    Unreadable(String),
}

/// What is kept of a JPEG that a camera sent.
pub fn take_in(jpeg: &[u8]) -> Result<Picture, NoPicture> {
    if jpeg.len() > MAX_BYTES {
        return Err(NoPicture::TooLong(jpeg.len()));
    }
    if !jpeg.starts_with(&MAGIC) {
        return Err(NoPicture::Other);
    }
    scaled(jpeg, KEPT_WIDTH)
}

/// A JPEG in proportion at most `max_width` wide, which is at least 1.
pub fn scaled(jpeg: &[u8], max_width: u32) -> Result<Picture, NoPicture> {
    let unreadable = |cause: &dyn std::fmt::Display| NoPicture::Unreadable(cause.to_string());
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    let rgb = decoder.decode().map_err(|error| unreadable(&error))?;
    let info = decoder.info().ok_or_else(|| unreadable(&"it has no size"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let (new_width, new_height) = size_within((width, height), max_width);
    let source = Image::from_vec_u8(width, height, rgb, PixelType::U8x3)
        .map_err(|error| unreadable(&error))?;
    let mut target = Image::new(new_width, new_height, PixelType::U8x3);
    let bilinear = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &bilinear).map_err(|error| unreadable(&error))?;
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    let mut out = Vec::new();
    Encoder::new(&mut out, JPEG_QUALITY)
        .encode(target.buffer(), side(new_width), side(new_height), ColorType::Rgb)
        .map_err(|error| unreadable(&error))?;
    Ok(Picture { jpeg: Bytes::from(out), width: new_width, height: new_height })
}

/// A size at most `max_width` wide in proportion to the given one, never larger, at least 1 x 1.
pub fn size_within((width, height): (u32, u32), max_width: u32) -> (u32, u32) {
    if width <= max_width {
        return (width.max(1), height.max(1));
    }
    let (width, height, max_width) = (u64::from(width), u64::from(height), u64::from(max_width));
    let scaled = (height * max_width + width / 2) / width;
    (max_width.max(1) as u32, u32::try_from(scaled.max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture, blue on the left and red on the right, with a comment in it.
    fn jpeg(width: u16, height: u16, color: ColorType) -> Vec<u8> {
        let pixel = |x: u16| match (color, x < width / 2) {
            (ColorType::Luma, left) => vec![if left { 40 } else { 200 }],
            (_, true) => vec![20, 20, 220],
            (_, false) => vec![220, 20, 20],
        };
        let pixels: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(pixel)).collect();
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 90);
        encoder.add_app_segment(1, b"Exif\0\0 the owner's address".to_vec()).unwrap();
        encoder.encode(&pixels, width, height, color).unwrap();
        out
    }

    #[test]
    fn pictures_are_taken_in_without_what_else_came() {
        for (width, height, color, kept) in [
            (320, 240, ColorType::Rgb, (320, 240)),
            (1_280, 720, ColorType::Rgb, (640, 360)),
            (1, 1, ColorType::Rgb, (1, 1)),
            (641, 3, ColorType::Luma, (640, 3)),
        ] {
            let picture = take_in(&jpeg(width, height, color)).unwrap();
            assert_eq!((picture.width, picture.height), kept);
            let hidden = picture.jpeg.windows(5).any(|bytes| bytes == b"owner");
            assert!(!hidden, "{width} x {height}");
        }
        let picture = take_in(&jpeg(320, 240, ColorType::Rgb)).unwrap();
        let mut decoder = JpegDecoder::new(ZCursor::new(&picture.jpeg[..]));
        let rgb = decoder.decode().unwrap();
        let (left, right) = (&rgb[..3], &rgb[319 * 3..320 * 3]);
        assert!(left[2] > 180 && left[0] < 60, "{left:?}");
        assert!(right[0] > 180 && right[2] < 60, "{right:?}");
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = jpeg(64, 64, ColorType::Rgb);
        let mut huge = good.clone();
        // The frame header's height and width (ITU-T T.81 §B.2.2).
        let at = huge.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
        huge[at + 5..at + 9].copy_from_slice(&[0xff; 4]);
        assert_eq!(take_in(b""), Err(NoPicture::Other));
        assert_eq!(take_in(b"\x89PNG\r\n\x1a\n"), Err(NoPicture::Other));
        assert_eq!(take_in(&[0xff; MAX_BYTES + 1]), Err(NoPicture::TooLong(MAX_BYTES + 1)));
        for bytes in [&huge[..], &good[..20], &MAGIC] {
            assert!(matches!(take_in(bytes), Err(NoPicture::Unreadable(_))));
        }
    }

    #[test]
    fn sizes_keep_their_proportion() {
        for (size, max_width, expected) in [
            ((1_280, 720), 320, (320, 180)),
            ((1_280, 720), 1_280, (1_280, 720)),
            ((640, 360), 1_280, (640, 360)),
            ((2_592, 1_944), 100, (100, 75)),
            ((1_080, 1_920), 333, (333, 592)),
            ((4_096, 2), 16, (16, 1)),
            ((0, 0), 16, (1, 1)),
        ] {
            assert_eq!(size_within(size, max_width), expected, "{size:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn damaged_pictures_do_no_harm(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            len in any::<prop::sample::Index>(),
        ) {
            let mut bytes = jpeg(48, 40, ColorType::Rgb);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(len.index(bytes.len()) + 1);
            if let Ok(picture) = take_in(&bytes) {
                prop_assert!(picture.width <= KEPT_WIDTH);
            }
        }
    }
}
