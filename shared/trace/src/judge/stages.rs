//! Norms and linear stages: scales, inputs and outputs of one channel.

use nesa_kernels::decoder as ops;
use nesa_kernels::nibbles::{GROUP, packed_bytes};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{STAGES_PER_LAYER, WeightForm};

use super::{Court, Fact, RESIDUAL, clamp, round_shift};
use crate::program::Op;

/// A row's scale: its product is worth `y · mantissa · 2^−exponent`.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    mantissa: i128,
    exponent: i128,
}

/// What brings a row of largest magnitude `max` to `input_max`.
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    scale: Scale,
    r: i128,
}

impl Quantizer {
    pub(super) fn new(max: i128, input_max: i128) -> Self {
        let mut mantissa = max.max(1);
        let mut exponent = 0;
        while mantissa < 1 << 30 {
            mantissa <<= 1;
            exponent += 1;
        }
        Self { scale: Scale { mantissa, exponent }, r: (input_max << 46) / mantissa }
    }

    pub(super) fn value(&self, t: i128) -> i128 {
        round_shift(t * self.r, 46 - self.scale.exponent)
    }
}

/// The statistics of a row before a norm.
pub(super) struct Norm {
    /// Bits of the largest magnitude beyond 24.
    pub(super) spare: i128,
    squares: i128,
    pub(super) quantizer: Quantizer,
}

impl Court<'_> {
    pub(super) fn spare(&self, stage: usize) -> Fact {
        let max = self.unsigned(Op::NormStats(stage), 0)?;
        let mut spare = 0;
        while max >> spare >= 1 << ops::NORM_BITS {
            spare += 1;
        }
        Ok(spare)
    }

    pub(super) fn norm(&self, stage: usize) -> Fact<Norm> {
        let stats = Op::NormStats(stage);
        let (low, high) = (self.unsigned(stats, 2)?, self.unsigned(stats, 3)?);
        let quantizer = Quantizer::new(self.unsigned(stats, 4)?, self.input_max(stage));
        Ok(Norm { spare: self.spare(stage)?, squares: (high << 32) | low, quantizer })
    }

    /// `a` of one channel.
    pub(super) fn shortened(&self, stage: usize, i: usize, spare: i128) -> Fact {
        Ok(round_shift(self.get(self.g.stream_before(stage), i)?, spare))
    }

    /// `t` of one channel.
    pub(super) fn gained(&self, stage: usize, i: usize, spare: i128) -> Fact {
        let gain = self.i32(TensorKind::NormGain(self.norm_index(stage)), i)?;
        Ok(round_shift(self.shortened(stage, i, spare)? * gain, ops::GAIN_SHIFT.into()))
    }

    pub(super) fn follows_norm(&self, stage: usize) -> bool {
        stage == self.g.head_stage() || stage.is_multiple_of(2)
    }

    pub(super) fn scale(&self, stage: usize) -> Fact<Scale> {
        if !self.follows_norm(stage) {
            let max = self.unsigned(Op::OfferStats(stage), 0)?;
            return Ok(Quantizer::new(max, self.input_max(stage)).scale);
        }
        let norm = self.norm(stage)?;
        let epsilon = self.m.norms.get(self.norm_index(stage)).map_or(0, |n| n.epsilon);
        let mut v = (norm.squares + (i128::from(epsilon) >> (2 * norm.spare))).max(1);
        let mut half = 0;
        while v < 1 << 62 {
            v <<= 2;
            half += 1;
        }
        let inverse = ((1i128 << 62) - 1) / ((v as u128).isqrt() as i128).max(1);
        let Scale { mantissa, exponent } = norm.quantizer.scale;
        let product = mantissa * inverse;
        Ok(if product >= 1 << 61 {
            Scale { mantissa: product >> 31, exponent: exponent + 31 - half }
        } else {
            Scale { mantissa: product >> 30, exponent: exponent + 32 - half }
        })
    }

    pub(super) fn requantized(&self, stage: usize, j: usize, limit: i32) -> Fact {
        let Scale { mantissa, exponent } = self.scale(stage)?;
        let c = (mantissa * self.u32(TensorKind::Multiplier(stage), j)?) >> 31;
        let bias = self.i32(TensorKind::Bias(stage), j)?;
        let y = self.get(Op::Product(stage), j)?;
        let shift = i128::from(self.m.stages.get(stage).map_or(32, |s| s.shift)) + exponent - 31;
        Ok(clamp(round_shift(y * c, shift) + bias, limit.into()))
    }

    /// A value of a row that follows no norm, smoothed.
    pub(super) fn smoothed(&self, stage: usize, i: usize) -> Fact {
        let layer = stage / STAGES_PER_LAYER;
        let row = if stage % STAGES_PER_LAYER == 1 { Op::Context(layer) } else { Op::Gated(layer) };
        let value = self.get(row, i)?;
        if !self.m.stages.get(stage).is_some_and(|s| s.smoothed) {
            return Ok(value);
        }
        Ok(clamp(round_shift(value * self.u16(TensorKind::Smooth(stage), i)?, 14), RESIDUAL))
    }

    pub(super) fn weight(&self, stage: usize, j: usize, i: usize) -> Fact {
        let tied = self.m.config.tied && stage == self.g.head_stage();
        let kind = if tied { TensorKind::Word } else { TensorKind::Weight(stage) };
        let k = self.g.stage(stage).0;
        if self.m.weights == WeightForm::Nibbles && stage != self.g.head_stage() {
            return self.packed_weight(kind, k, (j, i));
        }
        let [byte] = self.param::<1>(kind, j.saturating_mul(k).saturating_add(i))?;
        Ok(i128::from(byte as i8))
    }

    /// A weight of four bits times its group's multiplier.
    pub(super) fn packed_weight(&self, kind: TensorKind, k: usize, (j, i): (usize, usize)) -> Fact {
        let row = j.saturating_mul(packed_bytes(k));
        let byte =
            |at: usize| -> Fact<u8> { Ok(self.param::<1>(kind, row.saturating_add(at))?[0]) };
        let (group, at) = (i / GROUP, i % GROUP);
        let pair = byte(group * (GROUP / 2) + at % (GROUP / 2))?;
        let value = if at < GROUP / 2 { pair << 4 } else { pair & 0xf0 };
        let multipliers = byte(k.div_ceil(GROUP) * (GROUP / 2) + group / 2)?;
        let multiplier = (multipliers >> (4 * (group % 2))) & 15;
        Ok(i128::from(value as i8 >> 4) * i128::from(multiplier))
    }
}
