//! A drawing as PNG, for places that take no SVG: painted here, on light paper, at twice the size.
//!
//! Lines are smoothed, text is a plain font of 5 by 7 dots (`font`) that has ASCII and µ. The file is true colour,
//! compressed with the fixed codes of deflate and two distances alone (one pixel back, one row up), which for ruled
//! paper is nearly all there is to find.

mod deflate;
mod font;

use super::super::number::{count, float, whole};
use super::svg::colour;
use super::{Anchor, Drawing, Ink, Shape};

/// Pixels for one unit of the drawing.
const SCALE: f64 = 2.0;
const PAPER: [u8; 3] = [0xff; 3];
const TEXT: [u8; 3] = [0x1f, 0x23, 0x28];
const GRID: [u8; 3] = [0xd8, 0xde, 0xe4];
/// Of a dashed line, so much is drawn and so much is not.
const DASH: (f64, f64) = (6.0, 4.0);

/// The drawing as a PNG file.
#[must_use]
pub fn write(drawing: &Drawing) -> Vec<u8> {
    let mut canvas = Canvas::new(pixels(drawing.width), pixels(drawing.height));
    for shape in &drawing.shapes {
        match shape {
            Shape::Line {
                points,
                ink,
                width,
                dashed,
            } => canvas.line(points, rgb(*ink), *width, *dashed),
            Shape::Text {
                at,
                text,
                anchor,
                size,
                ink,
            } => canvas.text(*at, text, *anchor, *size, rgb(*ink)),
        }
    }
    canvas.file()
}

fn pixels(length: f64) -> usize {
    usize::try_from(whole(length * SCALE))
        .unwrap_or(1)
        .clamp(1, 10_000)
}

fn rgb(ink: Ink) -> [u8; 3] {
    match ink {
        Ink::Text => TEXT,
        Ink::Grid => GRID,
        Ink::Series(number) => {
            let digits = colour(number).trim_start_matches('#');
            let part = |at: usize| {
                let digits = digits.get(at..at + 2).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or_default()
            };
            [part(0), part(2), part(4)]
        }
    }
}

/// Rows of pixels.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![PAPER; width * height],
        }
    }

    /// Puts so much of a colour on a pixel, if there is one.
    fn blend(&mut self, x: usize, y: usize, colour: [u8; 3], share: f64) {
        if x >= self.width {
            return;
        }
        if let Some(pixel) = self.pixels.get_mut(y * self.width + x) {
            for (old, new) in pixel.iter_mut().zip(colour) {
                let mixed = f64::from(*old) * (1.0 - share) + f64::from(new) * share;
                *old = u8::try_from(whole(mixed)).unwrap_or(u8::MAX);
            }
        }
    }

    /// A line through points. Where its pieces meet it is no darker than elsewhere: a pixel gets the most that any
    /// piece covers of it.
    fn line(&mut self, points: &[(f64, f64)], colour: [u8; 3], width: f64, dashed: bool) {
        let mut covered = std::collections::HashMap::new();
        let scaled: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x * SCALE, y * SCALE)).collect();
        let mut before = 0.0;
        for pair in scaled.windows(2) {
            let [from, to] = pair else { continue };
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            for (begin, end) in dashes(before, length, dashed) {
                let at = |way: f64| {
                    let share = if length > 0.0 { way / length } else { 0.0 };
                    (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share)
                };
                self.cover(at(begin), at(end), width * SCALE / 2.0, &mut covered);
            }
            before += length;
        }
        for (place, share) in covered {
            self.blend(place % self.width, place / self.width, colour, share);
        }
    }

    /// How much of each pixel a piece of a line covers.
    fn cover(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        half: f64,
        covered: &mut std::collections::HashMap<usize, f64>,
    ) {
        let reach = half + 1.0;
        let range = |a: f64, b: f64, most: usize| {
            let least = usize::try_from(whole((a.min(b) - reach).max(0.0))).unwrap_or(0);
            let end = usize::try_from(whole((a.max(b) + reach).max(0.0))).unwrap_or(0);
            least..end.saturating_add(1).min(most)
        };
        for y in range(from.1, to.1, self.height) {
            for x in range(from.0, to.0, self.width) {
                let centre = (float(count(x)) + 0.5, float(count(y)) + 0.5);
                let share = (half + 0.5 - distance(centre, from, to)).clamp(0.0, 1.0);
                if share > 0.0 {
                    let most = covered.entry(y * self.width + x).or_insert(0.0);
                    *most = most.max(share);
                }
            }
        }
    }

    fn text(&mut self, at: (f64, f64), text: &str, anchor: Anchor, size: f64, colour: [u8; 3]) {
        // A letter is 7 dots high and stands for a font whose capitals are 0.72 of its size.
        let dot = usize::try_from(whole((size * SCALE * 0.72 / 7.0).max(1.0))).unwrap_or(1);
        let advance = font::ADVANCE * dot;
        let length = float(count(text.chars().count() * advance));
        let shift = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => length / 2.0,
            Anchor::End => length,
        };
        let mut left = usize::try_from(whole((at.0 * SCALE - shift).max(0.0))).unwrap_or(0);
        let base = usize::try_from(whole((at.1 * SCALE).max(0.0))).unwrap_or(0);
        let top = base.saturating_sub(font::HEIGHT * dot);
        for c in text.chars() {
            for (column, bits) in font::glyph(c).into_iter().enumerate() {
                for row in (0..font::HEIGHT).filter(|row| bits >> row & 1 == 1) {
                    for (x, y) in (0..dot).flat_map(|x| (0..dot).map(move |y| (x, y))) {
                        self.blend(left + column * dot + x, top + row * dot + y, colour, 1.0);
                    }
                }
            }
            left += advance;
        }
    }

    fn file(&self) -> Vec<u8> {
        let stride = 1 + 3 * self.width;
        let mut rows = Vec::with_capacity(stride * self.height);
        for row in self.pixels.chunks(self.width) {
            // No filter.
            rows.push(0);
            rows.extend(row.as_flattened());
        }
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let mut header = [size(self.width), size(self.height)].concat();
        // 8 bits, true colour, deflate, the usual filters, not interlaced.
        header.extend([8, 2, 0, 0, 0]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [
            (b"IHDR", header),
            (b"IDAT", deflate::zlib(&rows, &[3, stride])),
            (b"IEND", Vec::new()),
        ] {
            file.extend(size(data.len()));
            let start = file.len();
            file.extend(kind);
            file.extend(data);
            let sum = deflate::crc32(file.get(start..).unwrap_or_default());
            file.extend(sum.to_be_bytes());
        }
        file
    }
}

/// The pieces of a segment that are drawn, where `before` of the line lies before it.
fn dashes(before: f64, length: f64, dashed: bool) -> Vec<(f64, f64)> {
    if !dashed {
        return vec![(0.0, length)];
    }
    let (on, period) = (DASH.0 * SCALE, (DASH.0 + DASH.1) * SCALE);
    let mut begin = -(before % period);
    let mut pieces = Vec::new();
    while begin < length {
        let (from, to) = (begin.max(0.0), (begin + on).min(length));
        if to > from {
            pieces.push((from, to));
        }
        begin += period;
    }
    pieces
}

/// From a point to a piece of a line.
fn distance(point: (f64, f64), from: (f64, f64), to: (f64, f64)) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let square = dx * dx + dy * dy;
    let along = if square > 0.0 {
        (((point.0 - from.0) * dx + (point.1 - from.1) * dy) / square).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (point.0 - from.0 - along * dx).hypot(point.1 - from.1 - along * dy)
}
