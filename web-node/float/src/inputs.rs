//! Inputs to try a model on, made from a seed.

use crate::{error::FloatError, graph::Graph};
use nesa_fingerprint::{Data, Dimension, InputInfo, Kind, Tensor, volume};
use nesa_primitives::{Hash, domain};
use std::collections::BTreeMap;

/// How inputs are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Sizes of open dimensions by name. Those named `batch…`, and an unnamed first one, are 1 unless
    /// given.
    pub dimensions: BTreeMap<String, u32>,
    /// Integers are drawn below this: the size of a vocabulary.
    pub below: u32,
}

impl Recipe {
    /// In words, for a calibration.
    pub fn words(&self) -> String {
        let sizes: Vec<String> = self.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let words = format!(
            "floats standard normal, integers uniform below {}, masks of ones; {}",
            self.below,
            sizes.join(", ")
        );
        words.chars().filter(char::is_ascii).take(200).collect()
    }
}

/// The inputs of number `seed`: floats from a standard normal distribution, integers uniform below
/// `recipe.below`, ones where a name has `mask` in it, zeros for `token_type` ones.
///
/// # Errors
/// [`FloatError::Open`] for a dimension without a size; [`FloatError::Tensor`] for inputs that are too
/// large.
pub fn make(graph: &Graph, recipe: &Recipe, seed: u64) -> Result<Vec<Tensor>, FloatError> {
    graph.inputs().iter().map(|input| one(input, recipe, seed)).collect()
}

fn one(input: &InputInfo, recipe: &Recipe, seed: u64) -> Result<Tensor, FloatError> {
    let size = |(place, dim): (usize, &Dimension)| match dim {
        Dimension::Fixed(size) => Ok(*size),
        Dimension::Open(name) => match recipe.dimensions.get(name) {
            Some(&size) => Ok(size),
            None if name.starts_with("batch") || (place == 0 && name.ends_with(".0")) => Ok(1),
            None => Err(FloatError::Open { input: input.name.clone(), dimension: name.clone() }),
        },
    };
    let shape: Vec<u32> = input.shape.iter().enumerate().map(size).collect::<Result<_, _>>()?;
    const MAX: usize = 1 << 26;
    let count = volume(&shape).filter(|&count| count <= MAX);
    let count = count.ok_or_else(|| FloatError::Tensor {
        name: input.name.clone(),
        shape: shape.iter().map(|&v| v.into()).collect(),
        max: MAX,
    })?;
    let mut draw = Draw::new(&input.name, seed);
    let mask = input.name.contains("mask");
    let data = match input.kind {
        Kind::F32 if mask => Data::F32(vec![1.0; count]),
        Kind::F32 => Data::F32((0..count).map(|_| draw.normal()).collect()),
        Kind::Bool => Data::Bool(vec![true; count]),
        Kind::I64 if mask => Data::I64(vec![1; count]),
        Kind::I64 if input.name.contains("token_type") => Data::I64(vec![0; count]),
        Kind::I64 => {
            let below = u64::from(recipe.below.max(1));
            Data::I64((0..count).map(|_| (draw.word() % below) as i64).collect())
        }
    };
    Ok(Tensor::new(&input.name, &shape, data)?)
}

/// Reproducible numbers: BLAKE3's output stream.
pub(crate) struct Draw(blake3::OutputReader);

impl Draw {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let mut hasher = domain("float trial", &Hash::ZERO);
        hasher.update(&seed.to_be_bytes());
        hasher.update(name.as_bytes());
        Self(hasher.finalize_xof())
    }

    pub(crate) fn word(&mut self) -> u64 {
        let mut bytes = [0u8; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Nearly standard normal: a sum of twelve uniform numbers, so that every machine draws the same
    /// bits (additions are exact to the last bit, logarithms are not).
    pub(crate) fn normal(&mut self) -> f32 {
        let mut sum = 0i64;
        for _ in 0..6 {
            let word = self.word();
            sum += (word & 0xff_ffff) as i64 + (word >> 32 & 0xff_ffff) as i64;
        }
        (sum - 12 * (1 << 23)) as f32 / (1 << 24) as f32
    }
}
