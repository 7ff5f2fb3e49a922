//! A drawing becomes an image of the data's form, and the committed model reads it.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::classifier::{ClassifierModel, ClassifierRun, best};
use nesa_model::{Artifact, ModelLimits, PlainClassifier};
use nesa_page::digit::{CELLS, Drawing, MAX_POINTS, Point, SIDE, example};
use proptest::prelude::*;

fn model() -> ClassifierModel {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/digits/digits.nesa");
    let artifact = Artifact::open(std::fs::read(path).unwrap(), &ModelLimits::default()).unwrap();
    ClassifierModel::open(&artifact).unwrap()
}

fn read(model: &ClassifierModel, drawing: &Drawing) -> usize {
    let image = drawing.image();
    let run = ClassifierRun::start(model, &[&image[..]]).unwrap();
    best(&run.run(&PlainClassifier(model)).unwrap()[0]).unwrap()
}

/// The example drawn smaller and elsewhere.
fn moved(digit: u8, scale: f32, right: f32, down: f32) -> Drawing {
    let mut out = Drawing::default();
    for path in example(digit).paths() {
        for (i, pair) in path.trim_start_matches('M').split('L').enumerate() {
            let (x, y) = pair.split_once(' ').unwrap();
            let (x, y): (f32, f32) = (x.parse().unwrap(), y.parse().unwrap());
            let at = Point::new(x * scale + right, y * scale + down);
            if i == 0 { out.begin(at) } else { out.extend(at) }
        }
    }
    out
}

#[test]
fn each_example_is_read_wherever_and_however_large_it_is_drawn() {
    let model = model();
    for digit in 0..10u8 {
        for (scale, right, down) in [(1.0, 0.0, 0.0), (0.4, 1.0, 15.0), (0.7, 9.0, 1.0)] {
            let drawing = moved(digit, scale, right, down);
            assert_eq!(read(&model, &drawing), usize::from(digit), "{digit} × {scale}");
        }
    }
}

#[test]
fn plain_forms_are_read_too() {
    let model = model();
    let forms: [(usize, Drawing); 4] = [
        (7, Drawing::of(&[&[(9.6, 4.8), (22.4, 4.2), (18.6, 14.4), (14.4, 28.2)]])),
        (1, Drawing::of(&[&[(16.0, 4.0), (16.0, 28.0)]])),
        (1, Drawing::of(&[&[(12.0, 9.0), (17.0, 4.0), (17.0, 28.0)]])),
        (4, Drawing::of(&[&[(20.0, 28.0), (20.0, 4.0), (9.0, 20.0), (24.0, 20.0)]])),
    ];
    for (digit, drawing) in forms {
        assert_eq!(read(&model, &drawing), digit);
    }
}

#[test]
fn a_cell_counts_the_ink_of_its_block() {
    let mut drawing = Drawing::default();
    drawing.begin(Point::new(16.0, 16.0));
    // A dot has no size to be brought to: the four blocks around the middle share its ink.
    let image = drawing.image();
    let dot: u8 = [27, 28, 35, 36].map(|i| image[i]).iter().sum();
    assert_eq!(image.iter().sum::<u8>(), dot);
    assert_eq!(usize::from(dot), drawing.bitmap().iter().filter(|ink| **ink).count());
    // Scribbled all over: no cell counts past its sixteen pixels.
    for row in 0..=SIDE {
        drawing.begin(Point::new(0.0, row as f32));
        drawing.extend(Point::new(SIDE as f32, row as f32));
    }
    assert!(drawing.bitmap().iter().all(|ink| *ink));
    assert!(drawing.image().iter().all(|value| *value <= 16));
    assert_eq!(drawing.image()[3 * CELLS + 3], 16);
}

#[test]
fn strokes_are_taken_back_one_by_one() {
    let mut drawing = example(4);
    assert_eq!(drawing.paths().len(), 2);
    drawing.undo();
    assert_eq!(drawing.paths().len(), 1);
    drawing.clear();
    drawing.undo();
    assert!(drawing.is_empty() && drawing.image() == [0; 64]);
}

proptest! {
    #[test]
    fn any_drawing_gives_an_image_of_the_datas_range(
        points in prop::collection::vec((any::<bool>(), prop::num::f32::ANY, prop::num::f32::ANY), 0..60),
    ) {
        let mut drawing = Drawing::default();
        for (down, x, y) in points {
            if down { drawing.begin(Point::new(x, y)) } else { drawing.extend(Point::new(x, y)) }
        }
        prop_assert!(drawing.image().iter().all(|value| *value <= 16));
        prop_assert!(!drawing.paths().iter().any(|d| d.contains("NaN") || d.contains("inf")));
    }
}

#[test]
fn a_drawing_is_bounded() {
    let mut drawing = Drawing::default();
    drawing.begin(Point::new(0.0, 0.0));
    for i in 0..3 * MAX_POINTS {
        drawing.extend(Point::new((i % 32) as f32, (i / 32 % 32) as f32));
    }
    assert!(drawing.paths()[0].matches('L').count() < MAX_POINTS);
}
