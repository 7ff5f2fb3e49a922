//! A drawn digit on its way to the model: strokes, a bitmap of 32 × 32, an image of 8 × 8.
//!
//! scikit-learn's digits are bitmaps of 32 × 32 cut into blocks of 4 × 4, whose ink pixels are counted
//! (values 0 to 16, row by row), after each digit was brought to the same height and to the middle.
//! A drawing is kept as strokes, so that it can be brought to that size and still be drawn with a pen
//! of one width.

/// Side of the bitmap, in pixels; strokes are in the same unit.
pub const SIDE: usize = 32;
/// Side of the image that the model sees.
pub const CELLS: usize = 8;
/// Pixels on a side of one cell.
const BLOCK: usize = SIDE / CELLS;
/// Radius of the pen in pixels: with it a digit has the data's ink, 300 of 1,024 pixels on average.
const PEN: f32 = 2.8;
/// Widest a digit becomes, in pixels: the data's are about six cells wide.
const WIDEST: f32 = 23.0;
/// Most points kept; a drawing that needs more is no digit.
pub const MAX_POINTS: usize = 4_000;

/// A place in the drawing, `0..=32` to the right and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Point {
    /// A place, moved into the drawing if it lies outside.
    pub fn new(x: f32, y: f32) -> Self {
        // `clamp` keeps a NaN, `max` does not.
        let within = |v: f32| v.max(0.0).min(SIDE as f32);
        Self { x: within(x), y: within(y) }
    }
}

/// What was drawn, stroke by stroke.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    strokes: Vec<Vec<Point>>,
}

impl Drawing {
    /// A drawing of these strokes.
    pub fn of(strokes: &[&[(f32, f32)]]) -> Self {
        let stroke = |s: &&[(f32, f32)]| s.iter().map(|(x, y)| Point::new(*x, *y)).collect();
        Self { strokes: strokes.iter().map(stroke).collect() }
    }

    /// Whether nothing is drawn.
    pub fn is_empty(&self) -> bool {
        self.strokes.is_empty()
    }

    /// Puts the pen down.
    pub fn begin(&mut self, at: Point) {
        if self.points() < MAX_POINTS {
            self.strokes.push(vec![at]);
        }
    }

    /// Moves the pen that is down. A move of less than a quarter of a pixel adds nothing.
    pub fn extend(&mut self, to: Point) {
        if self.points() >= MAX_POINTS {
            return;
        }
        if let Some(stroke) = self.strokes.last_mut()
            && stroke.last().is_none_or(|p| (p.x - to.x).hypot(p.y - to.y) >= 0.25)
        {
            stroke.push(to);
        }
    }

    /// Takes the last stroke back.
    pub fn undo(&mut self) {
        self.strokes.pop();
    }

    /// Takes everything back.
    pub fn clear(&mut self) {
        self.strokes.clear();
    }

    /// Each stroke as the `d` of an SVG path; a dot is a line of no length.
    pub fn paths(&self) -> Vec<String> {
        let path = |stroke: &Vec<Point>| {
            let mut d = String::new();
            for (i, p) in stroke.iter().enumerate() {
                d.push_str(&format!("{}{:.2} {:.2}", if i == 0 { "M" } else { "L" }, p.x, p.y));
            }
            if let [p] = stroke.as_slice() {
                d.push_str(&format!("L{:.2} {:.2}", p.x, p.y));
            }
            d
        };
        self.strokes.iter().map(path).collect()
    }

    /// What the model sees: the digit brought to full height and to the middle, `[8, 8]` counts of ink
    /// pixels, `0..=16`, row by row.
    pub fn image(&self) -> [u8; CELLS * CELLS] {
        bin(&self.fitted().bitmap())
    }

    /// The bitmap, `[32, 32]`, row by row: pixels whose middle the pen covers.
    pub fn bitmap(&self) -> Vec<bool> {
        let mut ink = vec![false; SIDE * SIDE];
        for stroke in &self.strokes {
            let ends = stroke.iter().zip(stroke.iter().skip(1).chain(stroke.last()));
            for (from, to) in ends {
                for (i, pixel) in ink.iter_mut().enumerate() {
                    let middle = Point { x: (i % SIDE) as f32 + 0.5, y: (i / SIDE) as f32 + 0.5 };
                    *pixel |= distance(middle, *from, *to) <= PEN;
                }
            }
        }
        ink
    }

    /// The same strokes at the data's size and place.
    fn fitted(&self) -> Self {
        let all = || self.strokes.iter().flatten();
        let low = |f: fn(&Point) -> f32| all().map(f).fold(f32::INFINITY, f32::min);
        let high = |f: fn(&Point) -> f32| all().map(f).fold(f32::NEG_INFINITY, f32::max);
        let (left, right) = (low(|p| p.x), high(|p| p.x));
        let (top, bottom) = (low(|p| p.y), high(|p| p.y));
        let (width, height) = (right - left, bottom - top);
        if self.is_empty() || width.max(height) <= 0.0 {
            // A dot has no size to bring anywhere.
            return self.clone();
        }
        let room = SIDE as f32 - 2.0 * PEN;
        let scale =
            (room / height.max(f32::EPSILON)).min((WIDEST - 2.0 * PEN) / width.max(f32::EPSILON));
        let middle = SIDE as f32 / 2.0;
        let place = |p: &Point| {
            Point::new(
                middle + (p.x - (left + right) / 2.0) * scale,
                middle + (p.y - (top + bottom) / 2.0) * scale,
            )
        };
        let strokes = self.strokes.iter().map(|s| s.iter().map(place).collect()).collect();
        Self { strokes }
    }

    fn points(&self) -> usize {
        self.strokes.iter().map(Vec::len).sum()
    }
}

/// Counts the ink of each block of 4 × 4 pixels.
fn bin(bitmap: &[bool]) -> [u8; CELLS * CELLS] {
    let mut image = [0; CELLS * CELLS];
    for (i, _) in bitmap.iter().enumerate().filter(|(_, ink)| **ink) {
        let (row, column) = (i / SIDE / BLOCK, i % SIDE / BLOCK);
        if let Some(cell) = image.get_mut(row * CELLS + column) {
            *cell += 1;
        }
    }
    image
}

/// Distance from a point to a line between two others.
fn distance(p: Point, a: Point, b: Point) -> f32 {
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((p.x - a.x) * dx + (p.y - a.y) * dy) / length } else { 0.0 };
    let t = along.clamp(0.0, 1.0);
    (p.x - a.x - t * dx).hypot(p.y - a.y - t * dy)
}

/// One drawing of each digit, for whoever cannot or would rather not draw.
pub fn example(digit: u8) -> Drawing {
    let strokes: &[&[(f32, f32)]] = match digit {
        0 => &[&[
            (16.0, 4.0),
            (12.0, 6.0),
            (9.5, 11.0),
            (9.0, 16.0),
            (10.0, 22.0),
            (13.0, 27.0),
            (17.0, 28.0),
            (21.0, 25.0),
            (23.0, 19.0),
            (23.0, 12.0),
            (20.0, 6.0),
            (16.0, 4.0),
        ]],
        1 => &[&[(12.0, 9.0), (17.0, 4.0), (17.0, 28.0)], &[(11.0, 28.0), (22.0, 28.0)]],
        2 => &[&[
            (9.0, 8.0),
            (12.0, 5.0),
            (16.0, 4.0),
            (20.0, 6.0),
            (21.0, 10.0),
            (19.0, 15.0),
            (14.0, 21.0),
            (9.0, 27.0),
            (16.0, 28.0),
            (23.0, 27.0),
        ]],
        3 => &[&[
            (9.0, 6.0),
            (14.0, 4.0),
            (19.0, 6.0),
            (20.0, 10.0),
            (17.0, 14.0),
            (13.0, 15.0),
            (18.0, 17.0),
            (21.0, 21.0),
            (19.0, 26.0),
            (14.0, 28.0),
            (9.0, 26.0),
        ]],
        4 => &[
            &[(16.0, 4.0), (12.0, 11.0), (8.0, 19.0), (24.0, 19.0)],
            &[(19.0, 12.0), (18.0, 28.0)],
        ],
        5 => &[&[
            (22.0, 4.0),
            (11.0, 4.0),
            (10.0, 14.0),
            (15.0, 12.0),
            (20.0, 15.0),
            (21.0, 21.0),
            (18.0, 26.0),
            (13.0, 28.0),
            (9.0, 26.0),
        ]],
        6 => &[&[
            (19.0, 4.0),
            (14.0, 9.0),
            (11.0, 16.0),
            (10.0, 22.0),
            (13.0, 27.0),
            (17.0, 28.0),
            (21.0, 25.0),
            (21.0, 20.0),
            (17.0, 17.0),
            (13.0, 19.0),
            (11.0, 23.0),
        ]],
        7 => {
            &[&[(9.0, 5.0), (22.0, 4.0), (18.0, 14.0), (14.0, 28.0)], &[(11.0, 16.0), (22.0, 15.0)]]
        }
        8 => &[&[
            (20.0, 7.0),
            (16.0, 4.0),
            (11.0, 7.0),
            (12.0, 12.0),
            (18.0, 17.0),
            (21.0, 22.0),
            (18.0, 27.0),
            (14.0, 28.0),
            (10.0, 25.0),
            (11.0, 20.0),
            (17.0, 14.0),
            (20.0, 10.0),
            (20.0, 7.0),
        ]],
        _ => &[&[
            (21.0, 8.0),
            (17.0, 4.0),
            (12.0, 6.0),
            (10.0, 11.0),
            (13.0, 15.0),
            (18.0, 14.0),
            (21.0, 8.0),
            (21.0, 16.0),
            (20.0, 23.0),
            (16.0, 28.0),
            (11.0, 26.0),
        ]],
    };
    Drawing::of(strokes)
}
