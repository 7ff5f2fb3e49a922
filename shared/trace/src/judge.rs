//! The referee: re-executes one disputed value.
//!
//! Written, like the interpreter of decoders, from `docs/exact-arithmetic.md` alone and in 128-bit
//! integers. Each value is a bounded computation: an element from a few others; a sum of at most
//! [`PRODUCTS`] products; one token's part of an attention; two candidates for a largest value.
//! Rows before the disputed one are agreed, but perhaps by two liars: nothing here panics on them, and what
//! comes out then convicts only somebody whose value does not follow from what he agreed to.

mod claim;

pub use claim::{Claim, Peak};

use nesa_kernels::decoder as ops;
use nesa_kernels::nibbles::{GROUP, packed_bytes};
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{DecoderManifest, STAGES_PER_LAYER, WeightForm};

use crate::facts::{Facts, Missing};
use crate::program::{Geometry, HEAD_STATS, Op};

/// Products of one step of a linear stage.
pub(crate) const PRODUCTS: u32 = 64;

const RESIDUAL: i128 = ops::RESIDUAL_LIMIT as i128;

/// Who claims what is not so: left, right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The left party's claim is false.
    pub left_lies: bool,
    /// The right party's is.
    pub right_lies: bool,
}

/// Decides between two claims about a row of `token`.
///
/// # Errors
/// [`Missing`] when the facts do not suffice.
pub fn judge(
    manifest: &DecoderManifest,
    geometry: &Geometry,
    token: u32,
    op: Op,
    claim: &Claim,
    facts: &dyn Facts,
) -> Result<Truth, Missing> {
    let court = |base| Court { m: manifest, g: geometry, token, facts, base };
    match *claim {
        // Decided by the presence of a row, which is no fact of arithmetic.
        Claim::Absent { .. } => Ok(Truth { left_lies: false, right_lies: false }),
        Claim::Word { index, claims } => {
            let truth = court(None).word(op, index as usize)?;
            let [left, right] = claims.map(|claim| i128::from(claim) != truth);
            Ok(Truth { left_lies: left, right_lies: right })
        }
        Claim::Sum { index, base, from, to, claims } => {
            let base = base_of(op, index).map(|at| (op, at, base));
            let truth = court(base).sum(op, index as usize, from, to)?;
            let [left, right] = claims.map(|claim| i128::from(claim) != truth);
            Ok(Truth { left_lies: left, right_lies: right })
        }
        Claim::Peak { index, base, claims } => {
            let base = base_of(op, index).map(|at| (op, at, base));
            court(base).peak(op, index as usize, claims)
        }
    }
}

/// What the terms `from..to` of a sum add up to.
///
/// # Errors
/// [`Missing`] when the facts do not suffice.
pub fn partial_sum(
    manifest: &DecoderManifest,
    geometry: &Geometry,
    (token, op, index, base): (u32, Op, u32, i32),
    (from, to): (u32, u32),
    facts: &dyn Facts,
) -> Result<i64, Missing> {
    let base = base_of(op, index).map(|at| (op, at, base));
    let court = Court { m: manifest, g: geometry, token, facts, base };
    let sum = court.sum(op, index as usize, from, to)?;
    Ok(i64::try_from(sum).unwrap_or(i64::MAX))
}

/// Where the first word of a word's group of statistics is.
pub(crate) fn base_of(op: Op, index: u32) -> Option<usize> {
    match op {
        Op::NormStats(_) => Some(0),
        Op::AttentionStats(_) => Some(index as usize / HEAD_STATS * HEAD_STATS),
        _ => None,
    }
}

/// Terms of a sum, and how many of them the referee adds up at once.
pub(crate) fn terms(geometry: &Geometry, token: u32, op: Op) -> (u32, u32) {
    match op {
        Op::Product(stage) => (geometry.stage(stage).0 as u32, PRODUCTS),
        Op::NormStats(_) => (geometry.d_model, PRODUCTS),
        _ => (geometry.seen(token).len() as u32, 1),
    }
}

/// `⌊v / 2^s + ½⌋`; shifts that no honest row leads to give something, but do not panic.
fn round_shift(v: i128, s: i128) -> i128 {
    match s {
        ..=0 => v,
        1..=126 => (v + (1 << (s - 1))) >> s,
        _ => 0,
    }
}

fn clamp(v: i128, limit: i128) -> i128 {
    v.max(-limit).min(limit)
}

/// A row's scale: its product is worth `y · mantissa · 2^−exponent`.
#[derive(Clone, Copy)]
struct Scale {
    mantissa: i128,
    exponent: i128,
}

/// What brings a row of largest magnitude `max` to `input_max`.
#[derive(Clone, Copy)]
struct Quantizer {
    scale: Scale,
    r: i128,
}

impl Quantizer {
    fn new(max: i128, input_max: i128) -> Self {
        let mut mantissa = max.max(1);
        let mut exponent = 0;
        while mantissa < 1 << 30 {
            mantissa <<= 1;
            exponent += 1;
        }
        Self { scale: Scale { mantissa, exponent }, r: (input_max << 46) / mantissa }
    }

    fn value(&self, t: i128) -> i128 {
        round_shift(t * self.r, 46 - self.scale.exponent)
    }
}

/// The statistics of a row before a norm.
struct Norm {
    /// Bits of the largest magnitude beyond 24.
    spare: i128,
    squares: i128,
    quantizer: Quantizer,
}

struct Court<'a> {
    m: &'a DecoderManifest,
    g: &'a Geometry,
    token: u32,
    facts: &'a dyn Facts,
    /// A word of the disputed row itself that both agree on, and its place.
    base: Option<(Op, usize, i32)>,
}

type Fact<T = i128> = Result<T, Missing>;

impl Court<'_> {
    fn raw(&self, op: Op, index: usize) -> Fact<i32> {
        match self.base {
            Some((of, at, word)) if (of, at) == (op, index) => Ok(word),
            _ => self.facts.word(self.token, op, index),
        }
    }

    fn get(&self, op: Op, index: usize) -> Fact {
        self.raw(op, index).map(i128::from)
    }

    /// A word that holds 32 bits without a sign.
    fn unsigned(&self, op: Op, index: usize) -> Fact {
        Ok(i128::from(self.raw(op, index)? as u32))
    }

    fn param<const N: usize>(&self, kind: TensorKind, index: usize) -> Fact<[u8; N]> {
        let mut bytes = [0u8; N];
        self.facts.bytes(kind, index.saturating_mul(N), &mut bytes)?;
        Ok(bytes)
    }

    fn u16(&self, kind: TensorKind, index: usize) -> Fact {
        Ok(u16::from_le_bytes(self.param(kind, index)?).into())
    }

    fn u32(&self, kind: TensorKind, index: usize) -> Fact {
        Ok(u32::from_le_bytes(self.param(kind, index)?).into())
    }

    fn i32(&self, kind: TensorKind, index: usize) -> Fact {
        Ok(i32::from_le_bytes(self.param(kind, index)?).into())
    }

    fn input_max(&self, stage: usize) -> i128 {
        let bits = self.m.stages.get(stage).map_or(2, |s| s.input_bits);
        (1i128 << bits.saturating_sub(1).min(31)) - 1
    }

    /// Which norm stands before a stage.
    fn norm_index(&self, stage: usize) -> usize {
        if stage == self.g.head_stage() { 2 * usize::from(self.g.layers) } else { stage / 2 }
    }

    // --- norms -----------------------------------------------------------------------------------

    fn spare(&self, stage: usize) -> Fact {
        let max = self.unsigned(Op::NormStats(stage), 0)?;
        let mut spare = 0;
        while max >> spare >= 1 << ops::NORM_BITS {
            spare += 1;
        }
        Ok(spare)
    }

    fn norm(&self, stage: usize) -> Fact<Norm> {
        let stats = Op::NormStats(stage);
        let (low, high) = (self.unsigned(stats, 2)?, self.unsigned(stats, 3)?);
        let quantizer = Quantizer::new(self.unsigned(stats, 4)?, self.input_max(stage));
        Ok(Norm { spare: self.spare(stage)?, squares: (high << 32) | low, quantizer })
    }

    /// `a` of one channel.
    fn shortened(&self, stage: usize, i: usize, spare: i128) -> Fact {
        Ok(round_shift(self.get(self.g.stream_before(stage), i)?, spare))
    }

    /// `t` of one channel.
    fn gained(&self, stage: usize, i: usize, spare: i128) -> Fact {
        let gain = self.i32(TensorKind::NormGain(self.norm_index(stage)), i)?;
        Ok(round_shift(self.shortened(stage, i, spare)? * gain, ops::GAIN_SHIFT.into()))
    }

    // --- linear stages ---------------------------------------------------------------------------

    fn follows_norm(&self, stage: usize) -> bool {
        stage == self.g.head_stage() || stage.is_multiple_of(2)
    }

    fn scale(&self, stage: usize) -> Fact<Scale> {
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

    fn requantized(&self, stage: usize, j: usize, limit: i32) -> Fact {
        let Scale { mantissa, exponent } = self.scale(stage)?;
        let c = (mantissa * self.u32(TensorKind::Multiplier(stage), j)?) >> 31;
        let bias = self.i32(TensorKind::Bias(stage), j)?;
        let y = self.get(Op::Product(stage), j)?;
        let shift = i128::from(self.m.stages.get(stage).map_or(32, |s| s.shift)) + exponent - 31;
        Ok(clamp(round_shift(y * c, shift) + bias, limit.into()))
    }

    /// A value of a row that follows no norm, smoothed.
    fn smoothed(&self, stage: usize, i: usize) -> Fact {
        let layer = stage / STAGES_PER_LAYER;
        let row = if stage % STAGES_PER_LAYER == 1 { Op::Context(layer) } else { Op::Gated(layer) };
        let value = self.get(row, i)?;
        if !self.m.stages.get(stage).is_some_and(|s| s.smoothed) {
            return Ok(value);
        }
        Ok(clamp(round_shift(value * self.u16(TensorKind::Smooth(stage), i)?, 14), RESIDUAL))
    }

    fn weight(&self, stage: usize, j: usize, i: usize) -> Fact {
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
    fn packed_weight(&self, kind: TensorKind, k: usize, (j, i): (usize, usize)) -> Fact {
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

    // --- attention -------------------------------------------------------------------------------

    fn cosine(&self, phase: u64) -> Fact {
        let step = (phase >> 52) as usize;
        let between = i128::from((phase >> 32) & 0xf_ffff);
        let (from, to) =
            (self.i32(TensorKind::Cosine, step)?, self.i32(TensorKind::Cosine, step + 1)?);
        Ok(from + round_shift((to - from) * between, 20))
    }

    fn qkv(&self, layer: usize, j: usize) -> Fact {
        let stage = layer * STAGES_PER_LAYER;
        let width = usize::from(self.g.head_width).max(2);
        if j >= self.g.query_width() + self.g.kv_width() {
            return self.requantized(stage, j, ops::VALUE_LIMIT);
        }
        let (head, i, pairs) = (j - j % width, j % width, width / 2);
        let pair = i % pairs;
        let limit = ops::query_key_limit(width);
        let a = self.requantized(stage, head + pair, limit)?;
        let b = self.requantized(stage, head + pair + pairs, limit)?;
        let frequency = u64::from_le_bytes(self.param(TensorKind::Frequency, pair)?);
        let phase = u64::from(self.token).wrapping_mul(frequency);
        let (cos, sin) = (self.cosine(phase)?, self.cosine(phase.wrapping_sub(1 << 62))?);
        Ok(round_shift(if i < pairs { a * cos - b * sin } else { b * cos + a * sin }, 30))
    }

    /// `q · k` of a head with an earlier token's key.
    fn score(&self, layer: usize, head: usize, u: u32) -> Fact {
        let width = usize::from(self.g.head_width);
        let (query, group) = (head * width, head / self.g.group());
        let key = self.g.query_width() + group * width;
        let mut sum = 0;
        for i in 0..width {
            let k = self.facts.word(u, Op::Qkv(layer), key + i)?;
            sum += self.get(Op::Qkv(layer), query + i)? * i128::from(k);
        }
        Ok(sum)
    }

    fn exponential(&self, layer: usize, head: usize, u: u32) -> Fact {
        let max = self.get(Op::AttentionStats(layer), HEAD_STATS * head)?;
        let below = (max - self.score(layer, head, u)?).max(0);
        let index = (below * self.u32(TensorKind::Score(layer), head)?) >> 40;
        let last = i128::from(self.m.config.exp_entries).max(1) - 1;
        self.u16(TensorKind::ExpTable, index.min(last) as usize)
    }

    fn context(&self, layer: usize, j: usize) -> Fact {
        let head = j / usize::from(self.g.head_width).max(1);
        let mut total = self.unsigned(Op::AttentionStats(layer), HEAD_STATS * head + 2)?.max(1);
        let low = self.unsigned(Op::Sums(layer), 2 * j)?;
        let sum = (self.get(Op::Sums(layer), 2 * j + 1)? << 32) | low;
        let mut z = 0;
        while total < 1 << 31 {
            total <<= 1;
            z += 1;
        }
        let r = ((1 << 62) - 1) / total;
        Ok(round_shift(round_shift(sum << z, 16) * r, 39))
    }

    // --- what is judged --------------------------------------------------------------------------

    fn word(&self, op: Op, j: usize) -> Fact {
        match op {
            Op::Input => self.get(op, j),
            Op::Start if self.g.takes_tokens() => self.embedded(j),
            Op::Start => self.get(Op::Input, j),
            // The words of statistics that are neither a peak nor a sum.
            Op::NormStats(_) | Op::OfferStats(_) | Op::AttentionStats(_) => Ok(0),
            Op::Normed(stage) => {
                let norm = self.norm(stage)?;
                Ok(norm.quantizer.value(self.gained(stage, j, norm.spare)?))
            }
            Op::Offered(stage) => {
                let max = self.unsigned(Op::OfferStats(stage), 0)?;
                let quantizer = Quantizer::new(max, self.input_max(stage));
                Ok(quantizer.value(self.smoothed(stage, j)?))
            }
            Op::Qkv(layer) => self.qkv(layer, j),
            Op::Context(layer) => self.context(layer, j),
            Op::Added(stage) => {
                let delta = self.requantized(stage, j, ops::RESIDUAL_LIMIT)?;
                Ok(clamp(self.get(self.g.stream_before(stage), j)? + delta, RESIDUAL))
            }
            Op::Gated(layer) => self.gated(layer, j),
            Op::Logits => self.requantized(self.g.head_stage(), j, ops::LOGIT_LIMIT),
            // Judged as sums.
            Op::Product(_) | Op::Sums(_) => {
                let (count, _) = terms(self.g, self.token, op);
                self.sum(op, j, 0, count)
            }
        }
    }

    fn embedded(&self, j: usize) -> Fact {
        let token = self.unsigned(Op::Input, 0)? as usize;
        let d = self.g.d_model as usize;
        let [byte] =
            self.param::<1>(TensorKind::Word, token.saturating_mul(d).saturating_add(j))?;
        let scale = self.u32(TensorKind::WordScale, token)?;
        let value = i128::from(byte as i8) * scale;
        Ok(clamp(round_shift(value, self.m.config.embed_shift.into()), RESIDUAL))
    }

    fn gated(&self, layer: usize, j: usize) -> Fact {
        let stage = layer * STAGES_PER_LAYER + 2;
        let gate = self.requantized(stage, j, ops::GATE_LIMIT)?;
        let up = self.requantized(stage, self.g.d_ff as usize + j, ops::UP_LIMIT)?;
        let bin = (gate.abs() >> ops::SILU_BIN_BITS) as usize;
        let below = if bin < usize::from(self.m.config.silu_entries) {
            self.u16(TensorKind::SiluTable, bin)?
        } else {
            0
        };
        let silu = gate.max(0) - below;
        Ok(clamp(round_shift(silu * up, ops::SILU_FRACTION_BITS.into()), RESIDUAL))
    }

    fn sum(&self, op: Op, index: usize, from: u32, to: u32) -> Fact {
        let spare = match op {
            Op::NormStats(stage) => self.spare(stage)?,
            _ => 0,
        };
        let width = usize::from(self.g.head_width).max(1);
        let start = self.g.seen(self.token).start;
        let mut sum = 0;
        for i in from..to {
            sum += match op {
                Op::Product(stage) => {
                    let input = if self.follows_norm(stage) {
                        Op::Normed(stage)
                    } else {
                        Op::Offered(stage)
                    };
                    self.get(input, i as usize)? * self.weight(stage, index, i as usize)?
                }
                Op::NormStats(stage) => {
                    let a = self.shortened(stage, i as usize, spare)?;
                    a * a
                }
                Op::AttentionStats(layer) => {
                    self.exponential(layer, index / HEAD_STATS, start.saturating_add(i))?
                }
                Op::Sums(layer) => {
                    let (channel, u) = (index / 2, start.saturating_add(i));
                    let (head, at) = (channel / width, channel % width);
                    let values = self.g.query_width() + self.g.kv_width();
                    let value = values + head / self.g.group() * width + at;
                    let v = self.facts.word(u, Op::Qkv(layer), value)?;
                    self.exponential(layer, head, u)? * i128::from(v)
                }
                _ => 0,
            };
        }
        Ok(sum)
    }

    /// Who names a value that is not where he says, or one that another exceeds.
    fn peak(&self, op: Op, index: usize, claims: [Peak; 2]) -> Fact<Truth> {
        let mut false_claim = [false; 2];
        for (claim, is_false) in claims.iter().zip(&mut false_claim) {
            *is_false = match self.candidate(op, index, claim.at)? {
                Some(value) => value != i128::from(claim.value),
                None => true,
            };
        }
        if false_claim == [false, false] && claims[0] != claims[1] {
            let [left, right] = claims;
            // Two true values: the larger one, or the first of two equal ones, is the peak.
            let left_wins =
                left.value > right.value || (left.value == right.value && left.at < right.at);
            false_claim = [!left_wins, left_wins];
        }
        Ok(Truth { left_lies: false_claim[0], right_lies: false_claim[1] })
    }

    /// The value at a place that may be the peak; `None` if there is no such place.
    fn candidate(&self, op: Op, index: usize, at: u32) -> Fact<Option<i128>> {
        let i = at as usize;
        match op {
            Op::NormStats(stage) if i < self.g.d_model as usize => Ok(Some(if index == 0 {
                self.get(self.g.stream_before(stage), i)?.abs()
            } else {
                self.gained(stage, i, self.spare(stage)?)?.abs()
            })),
            Op::OfferStats(stage) if i < self.g.stage(stage).0 => {
                Ok(Some(self.smoothed(stage, i)?.abs()))
            }
            Op::AttentionStats(layer) if self.g.seen(self.token).contains(&at) => {
                Ok(Some(self.score(layer, index / HEAD_STATS, at)?))
            }
            _ => Ok(None),
        }
    }
}
