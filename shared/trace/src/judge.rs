//! The referee: re-executes one disputed value.
//!
//! Written, like the interpreter of decoders, from `docs/exact-arithmetic.md` alone and in 128-bit
//! integers. Each value is a bounded computation: an element from a few others; a sum of at most
//! [`PRODUCTS`] products; one token's part of an attention; two candidates for a largest value.
//! Rows before the disputed one are agreed, but perhaps by two liars: nothing here panics on them, and what
//! comes out then convicts only somebody whose value does not follow from what he agreed to.

mod attention;
mod claim;
mod stages;

pub use claim::{Claim, Peak};

use stages::Quantizer;

use nesa_kernels::decoder as ops;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{DecoderManifest, STAGES_PER_LAYER};

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
