//! What a demo camera sees: a coloured yard, things that move through it, and the wall clock, drawn
//! twice.
//!
//! For people: the camera's name and the time in UTC, in the upper left corner.
//!
//! For tests: one row of [`CLOCK_BITS`] square blocks along the bottom edge, from the left edge on.
//! White is 1, black is 0. The first 44 are the milliseconds since the Unix epoch, the most
//! significant bit first; the last one makes the number of white blocks even. A block's side is
//! `2 * floor(width / 90)` pixels, with `width` that of the coded picture; what is left of the row is
//! black. So a test that has drawn the picture to a canvas of its own size samples, for bit `i`, the
//! pixel at
//!
//! ```text
//! side = 2 * Math.floor(width / 90)
//! x = i * side + side / 2
//! y = height - side / 2
//! ```
//!
//! and takes more than half brightness for 1. The number is the frame's capture time, exactly.

use super::font;
use chrono::DateTime;
use lookback_wire::Timestamp;
use openh264::formats::YUVSource;
use std::ops::Range;

/// 44 bits of time, which last until the year 2527, and a parity bit.
pub const CLOCK_BITS: usize = 45;

/// Limited range, as video has it (ITU-R BT.601).
const BLACK: u8 = 16;
const WHITE: u8 = 235;
const GREY: u8 = 128;

/// A picture in planar 4:2:0; width and height are even.
#[derive(Clone, Debug)]
pub struct Picture {
    width: usize,
    height: usize,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

/// Brightness and the two differences of colour.
type Colour = (u8, u8, u8);

/// The wall of each yard, by camera.
const WALLS: [Colour; 4] = [(90, 140, 110), (105, 105, 122), (80, 118, 146), (112, 132, 136)];
const GROUND: Colour = (70, 122, 132);
const DOOR: Colour = (50, 110, 150);
const BALL: Colour = (170, 90, 160);
const WALKER: Colour = (40, 150, 100);
const CART: Colour = (140, 170, 90);

/// One camera's view, at one size.
#[derive(Debug)]
pub struct Scene {
    name: String,
    index: usize,
    background: Picture,
    picture: Picture,
}

impl Scene {
    /// `index` tells the cameras apart.
    pub fn new(name: &str, index: usize, width: usize, height: usize) -> Self {
        let mut background = Picture::new(width, height);
        let wall = WALLS[index % WALLS.len()];
        background.fill(0..width, 0..height, wall);
        background.fill(0..width, height * 3 / 5..height, GROUND);
        let door = width * (1 + index % 3) / 4;
        background.fill(door..door + width / 9, height / 4..height * 3 / 5, DOOR);
        let picture = background.clone();
        Self { name: name.to_owned(), index, background, picture }
    }

    /// The view at an instant.
    pub fn at(&mut self, at: Timestamp) -> &Picture {
        let Self { name, index, background, picture } = self;
        picture.copy_from(background);
        let (width, height) = (picture.width, picture.height);
        let phase = at.as_millis().saturating_add(*index as i64 * 1_700);

        let size = height / 9;
        let left = sweep(phase, 11_000, width - size);
        let top = height * 3 / 5 + sweep(phase, 3_000, height / 5 - size);
        picture.disc(left, top, size, BALL);
        let left = sweep(phase, 7_300, width - width / 20);
        picture.fill(left..left + width / 20, height * 2 / 5..height * 3 / 5, WALKER);
        let left = sweep(phase + 5_000, 17_900, width - width / 8);
        picture.fill(left..left + width / 8, height * 3 / 5..height * 2 / 3, CART);

        let dot = height / 120;
        picture.text(name, 3 * dot, 3 * dot, dot);
        let time = DateTime::from_timestamp_millis(at.as_millis()).unwrap_or_default();
        let time = time.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
        picture.text(&time, 3 * dot, (font::HEIGHT + 6) * dot, dot);
        picture.clock(at);
        picture
    }
}

/// Where something is that goes from 0 to `end` and back in `period_ms`.
fn sweep(at_ms: i64, period_ms: i64, end: usize) -> usize {
    let half = period_ms / 2;
    let within = at_ms.rem_euclid(period_ms);
    let way = if within < half { within } else { period_ms - within };
    (way.unsigned_abs() as usize * end) / half.unsigned_abs() as usize
}

/// The blocks of the clock, from the left.
fn clock_bits(at: Timestamp) -> [bool; CLOCK_BITS] {
    let millis = at.as_millis();
    let mut bits = std::array::from_fn(|n| n < 44 && millis >> (43 - n) & 1 == 1);
    bits[CLOCK_BITS - 1] = millis.count_ones() % 2 == 1;
    bits
}

impl Picture {
    fn new(width: usize, height: usize) -> Self {
        let colours = (width / 2) * (height / 2);
        Self {
            width,
            height,
            y: vec![BLACK; width * height],
            u: vec![GREY; colours],
            v: vec![GREY; colours],
        }
    }

    fn copy_from(&mut self, other: &Self) {
        self.y.copy_from_slice(&other.y);
        self.u.copy_from_slice(&other.u);
        self.v.copy_from_slice(&other.v);
    }

    fn fill(&mut self, columns: Range<usize>, rows: Range<usize>, (y, u, v): Colour) {
        fill_plane(&mut self.y, self.width, columns.clone(), rows.clone(), y);
        let (columns, rows) = (columns.start / 2..columns.end / 2, rows.start / 2..rows.end / 2);
        fill_plane(&mut self.u, self.width / 2, columns.clone(), rows.clone(), u);
        fill_plane(&mut self.v, self.width / 2, columns, rows, v);
    }

    fn disc(&mut self, left: usize, top: usize, size: usize, colour: Colour) {
        let radius = size as f32 / 2.0;
        for row in 0..size {
            let off = (row as f32 + 0.5 - radius) / radius;
            let half = ((1.0 - off * off).max(0.0).sqrt() * radius) as usize;
            let middle = left + size / 2;
            self.fill(middle - half..middle + half, top + row..top + row + 1, colour);
        }
    }

    /// White letters on black; `dot` is the side of one of their dots.
    fn text(&mut self, text: &str, left: usize, top: usize, dot: usize) {
        let advance = (font::WIDTH + 1) * dot;
        let right = left + text.chars().count() * advance;
        self.fill(
            left - dot..right,
            top - dot..top + (font::HEIGHT + 1) * dot,
            (BLACK, GREY, GREY),
        );
        for (n, letter) in text.chars().enumerate() {
            for (row, dots) in font::glyph(letter).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| dots >> (4 - column) & 1 == 1) {
                    let (x, y) = (left + n * advance + column * dot, top + row * dot);
                    self.fill(x..x + dot, y..y + dot, (WHITE, GREY, GREY));
                }
            }
        }
    }

    fn clock(&mut self, at: Timestamp) {
        let side = 2 * (self.width / 90);
        let rows = self.height - side..self.height;
        self.fill(0..self.width, rows.clone(), (BLACK, GREY, GREY));
        for (n, _) in clock_bits(at).into_iter().enumerate().filter(|(_, bit)| *bit) {
            self.fill(n * side..(n + 1) * side, rows.clone(), (WHITE, GREY, GREY));
        }
    }
}

/// What lies outside the plane is left out.
fn fill_plane(
    plane: &mut [u8],
    width: usize,
    columns: Range<usize>,
    rows: Range<usize>,
    value: u8,
) {
    for row in plane.chunks_mut(width).take(rows.end).skip(rows.start) {
        if let Some(cells) = row.get_mut(columns.start..columns.end.min(width)) {
            cells.fill(value);
        }
    }
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.y
    }

    fn u(&self) -> &[u8] {
        &self.u
    }

    fn v(&self) -> &[u8] {
        &self.v
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Reads the clock as the module's comment says; none where the parity is wrong.
    pub fn read_clock(width: usize, height: usize, y: impl Fn(usize, usize) -> u8) -> Option<i64> {
        let side = 2 * (width / 90);
        let bit = |n: usize| i64::from(y(n * side + side / 2, height - side / 2) > 125);
        let millis = (0..44).fold(0, |millis, n| millis << 1 | bit(n));
        (i64::from(millis.count_ones() % 2) == bit(44)).then_some(millis)
    }

    #[test]
    fn the_clock_reads_as_it_was_drawn() {
        for (width, height) in [(640, 360), (576, 324), (1280, 720)] {
            let mut scene = Scene::new("Front door", 0, width, height);
            for at in [0, 1, 1_795_329_502_534, (1 << 44) - 1] {
                let picture = scene.at(Timestamp::from_millis(at));
                let read = read_clock(width, height, |x, y| picture.y()[y * width + x]);
                assert_eq!(read, Some(at), "{width}x{height}");
            }
        }
    }
}
