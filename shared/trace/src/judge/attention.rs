//! One token's part of an attention: rotated queries and keys, scores, exponentials, contexts.

use nesa_kernels::decoder as ops;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::STAGES_PER_LAYER;

use super::{Court, Fact, round_shift};
use crate::program::{HEAD_STATS, Op};

impl Court<'_> {
    pub(super) fn cosine(&self, phase: u64) -> Fact {
        let step = (phase >> 52) as usize;
        let between = i128::from((phase >> 32) & 0xf_ffff);
        let (from, to) =
            (self.i32(TensorKind::Cosine, step)?, self.i32(TensorKind::Cosine, step + 1)?);
        Ok(from + round_shift((to - from) * between, 20))
    }

    pub(super) fn qkv(&self, layer: usize, j: usize) -> Fact {
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
    pub(super) fn score(&self, layer: usize, head: usize, u: u32) -> Fact {
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

    pub(super) fn exponential(&self, layer: usize, head: usize, u: u32) -> Fact {
        let max = self.get(Op::AttentionStats(layer), HEAD_STATS * head)?;
        let below = (max - self.score(layer, head, u)?).max(0);
        let index = (below * self.u32(TensorKind::Score(layer), head)?) >> 40;
        let last = i128::from(self.m.config.exp_entries).max(1) - 1;
        self.u16(TensorKind::ExpTable, index.min(last) as usize)
    }

    pub(super) fn context(&self, layer: usize, j: usize) -> Fact {
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
}
