//! Models that a calibration must tell from the original: the same graph with other weights.

use crate::{check, error::FloatError, inputs::Draw, limits::Limits};
use prost::Message as _;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

/// What is done to every float tensor of weights with at least two dimensions, and 16 elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deviation {
    /// Rounded to 8 bits with one scale per index of the first dimension.
    Int8,
    /// Rounded to 4 bits, likewise.
    Int4,
    /// Rounded to `bfloat16`.
    Bf16,
    /// Rounded to `float16`'s ten bits of mantissa.
    F16,
    /// Other weights of the same mean and spread: a model of the same architecture.
    Swapped,
    /// Every weight moved by a last bit or left alone, by chance: as small as a deviation can be.
    LastBit,
    /// Every weight moved by a normal share of the tensor's spread. What a short fine-tuning does, or an
    /// adversary that wants to stay near.
    Moved {
        /// The share, in millionths.
        ppm: u32,
    },
}

impl Deviation {
    /// All that a calibration tries unless asked otherwise, the coarsest first. The last ones are there to
    /// show what passes.
    pub const USUAL: [Self; 8] = [
        Self::Swapped,
        Self::Int4,
        Self::Int8,
        Self::Bf16,
        Self::F16,
        Self::Moved { ppm: 1000 },
        Self::Moved { ppm: 10 },
        Self::Moved { ppm: 1 },
    ];

    /// The name in calibrations.
    pub fn name(&self) -> String {
        match self {
            Self::Int8 => "int8 weights".to_owned(),
            Self::Int4 => "int4 weights".to_owned(),
            Self::Bf16 => "bf16 weights".to_owned(),
            Self::F16 => "f16 weights".to_owned(),
            Self::Swapped => "swapped model".to_owned(),
            Self::LastBit => "weights moved by a last bit".to_owned(),
            Self::Moved { ppm } => format!("weights moved by {ppm} ppm"),
        }
    }
}

/// The model with deviating weights, as an ONNX file. `seed` draws what is random.
///
/// # Errors
/// [`FloatError`] as [`crate::Graph::open`], and [`FloatError::Malformed`] when no weights were changed.
pub fn deviate(
    bytes: &[u8],
    deviation: Deviation,
    seed: u64,
    limits: &Limits,
) -> Result<Vec<u8>, FloatError> {
    let onnx = tract_onnx::onnx();
    let mut model = check::read(bytes, limits, &onnx)?;
    let mut changed = 0usize;
    if let Some(graph) = &mut model.graph {
        let constants = graph.node.iter_mut().filter(|n| n.op_type == "Constant");
        let constants = constants.flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
        for (place, tensor) in graph.initializer.iter_mut().chain(constants).enumerate() {
            let mut draw =
                Draw::new("deviation", seed.wrapping_mul(1 << 20).wrapping_add(place as u64));
            changed += usize::from(change(tensor, deviation, &mut draw));
        }
    }
    if changed == 0 {
        return Err(FloatError::Malformed("no float weights to change".into()));
    }
    Ok(model.encode_to_vec())
}

/// Changes a tensor of weights; whether any value is another now.
fn change(tensor: &mut TensorProto, deviation: Deviation, draw: &mut Draw) -> bool {
    let volume: i64 = tensor.dims.iter().product();
    if tensor.data_type != DataType::Float as i32 || tensor.dims.len() < 2 || volume < 16 {
        return false;
    }
    let raw = !tensor.raw_data.is_empty();
    let before: Vec<f32> = if raw {
        let words = tensor.raw_data.chunks_exact(4);
        words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    } else {
        tensor.float_data.clone()
    };
    let rows = usize::try_from(tensor.dims[0]).unwrap_or(1).max(1);
    let after = deviating(&before, rows, deviation, draw);
    let other = after != before;
    if raw {
        tensor.raw_data = after.iter().flat_map(|v| v.to_le_bytes()).collect();
    } else {
        tensor.float_data = after;
    }
    other
}

fn deviating(values: &[f32], rows: usize, deviation: Deviation, draw: &mut Draw) -> Vec<f32> {
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let spread = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count).sqrt();
    match deviation {
        Deviation::Int8 => by_row(values, rows, 127.0),
        Deviation::Int4 => by_row(values, rows, 7.0),
        Deviation::Bf16 => values.iter().map(|&v| cut(v, 16)).collect(),
        Deviation::F16 => values.iter().map(|&v| cut(v, 13)).collect(),
        Deviation::Swapped => values.iter().map(|_| mean + spread * draw.normal()).collect(),
        Deviation::LastBit => {
            let moved = |&v: &f32| f32::from_bits(v.to_bits() ^ (draw.word() & 1) as u32);
            values.iter().map(moved).collect()
        }
        Deviation::Moved { ppm } => {
            let share = spread * ppm as f32 / 1e6;
            values.iter().map(|v| v + share * draw.normal()).collect()
        }
    }
}

/// Rounds to `2 · levels + 1` steps, one scale per row.
fn by_row(values: &[f32], rows: usize, levels: f32) -> Vec<f32> {
    let width = (values.len() / rows).max(1);
    let row = |row: &[f32]| {
        let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
        let scale = if largest > 0.0 { largest / levels } else { 1.0 };
        row.iter().map(|v| (v / scale).round() * scale).collect::<Vec<f32>>()
    };
    values.chunks(width).flat_map(row).collect()
}

/// Rounds away the last `bits` of the mantissa, to nearest.
fn cut(value: f32, bits: u32) -> f32 {
    let half = 1u32 << (bits - 1);
    if value.is_finite() {
        f32::from_bits(value.to_bits().saturating_add(half) & !((1u32 << bits) - 1))
    } else {
        value
    }
}
