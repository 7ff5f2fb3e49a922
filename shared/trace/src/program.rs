//! Which rows a token leaves behind in a shard, in which order.
//!
//! ```text
//! slot 0   Input                     the token, or the row another shard gave
//!      1   Start                     the residual stream it makes
//! then for every layer, 19 each:
//!      NormStats Normed Product Qkv AttentionStats Sums Context
//!      OfferStats Offered Product Added
//!      NormStats Normed Product Gated
//!      OfferStats Offered Product Added
//! and after the last layer of the model, where logits were wanted:
//!      NormStats Normed Product Logits
//! ```
//!
//! A row depends only on rows before it: of the same token, and `Qkv` of earlier ones. Rows of
//! *statistics* hold what an element needs to know of a whole row: its largest magnitude and where
//! that first stands, a sum of squares, the sum of a softmax. They make every element a bounded
//! computation.

use bytes::BufMut;
use commonware_codec::{Buf, Error, FixedSize, Read, ReadExt, Write};
use nesa_model::manifest::{DecoderConfig, MAX_DECODER_LAYERS, STAGES_PER_LAYER};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use thiserror::Error;

/// Bits of a slot's number.
pub const SLOT_BITS: u8 = 13;

const FIRST_SLOTS: usize = 2;
const LAYER_SLOTS: usize = 19;
const HEAD_SLOTS: usize = 4;

/// Words of a norm's statistics: `max|h|`, where, `Σa²` (low, high), `max|t|`, where, 0, 0.
pub(crate) const NORM_STATS: usize = 8;
/// Words of an unnormed row's: `max|v|`, where, 0, 0.
pub(crate) const OFFER_STATS: usize = 4;
/// Words per head: the largest score, where, `Σe`, 0.
pub(crate) const HEAD_STATS: usize = 4;

/// An operation whose result is one row of a token. Stages and layers are numbered as in the whole
/// model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// What the shard was given: `[1]` a token, or `[d_model]`.
    Input,
    /// The residual stream it starts with, `[d_model]`.
    Start,
    /// Statistics of the norm before a stage.
    NormStats(usize),
    /// The quantised input of a stage that follows a norm.
    Normed(usize),
    /// A linear stage, `[n]`.
    Product(usize),
    /// Rotated queries and keys, and values, of a layer.
    Qkv(usize),
    /// Largest score and sum of exponentials of each head.
    AttentionStats(usize),
    /// Weighted sums of values, two words each.
    Sums(usize),
    /// Contexts, `[heads · head_width]`.
    Context(usize),
    /// Statistics of the smoothed input of a stage that follows no norm.
    OfferStats(usize),
    /// That input, quantised.
    Offered(usize),
    /// The residual stream after a stage.
    Added(usize),
    /// SwiGLU of a layer, `[d_ff]`.
    Gated(usize),
    /// Logits, `[vocab]`.
    Logits,
}

/// Writes fields in order and reads them unchecked.
macro_rules! fixed_fields {
    ($name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        impl Write for $name {
            fn write(&self, buf: &mut impl BufMut) {
                $( self.$field.write(buf); )*
            }
        }
        impl FixedSize for $name {
            const SIZE: usize = 0 $( + <$ty as FixedSize>::SIZE )*;
        }
        impl $name {
            fn fields(buf: &mut impl Buf) -> Result<Self, Error> {
                Ok(Self { $( $field: <$ty>::read(buf)? ),* })
            }
        }
    };
}

/// Shape of one shard's run: all that a dispute needs to know of the model until its opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// First layer.
    pub first_layer: u16,
    /// End of the layers.
    pub end_layer: u16,
    /// Layers of the model.
    pub layers: u16,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Width of the feed-forward layer.
    pub d_ff: u32,
    /// Query heads.
    pub heads: u16,
    /// Key-value heads; they divide `heads`.
    pub kv_heads: u16,
    /// Width of a head.
    pub head_width: u16,
    /// Positions a token sees, 0 for all.
    pub window: u32,
}

fixed_fields!(Geometry {
    first_layer: u16,
    end_layer: u16,
    layers: u16,
    vocab: u32,
    d_model: u32,
    d_ff: u32,
    heads: u16,
    kv_heads: u16,
    head_width: u16,
    window: u32,
});

impl Read for Geometry {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let g = Self::fields(buf)?;
        // The bounds of a decoder's layout.
        let width = u32::from(g.heads.max(g.kv_heads)) * u32::from(g.head_width);
        let sizes = (1..=1 << 20).contains(&g.vocab)
            && (1..=1 << 14).contains(&g.d_model)
            && (1..=1 << 17).contains(&g.d_ff)
            && (1..=1 << 14).contains(&width);
        let layers = g.first_layer < g.end_layer
            && g.end_layer <= g.layers
            && g.layers <= MAX_DECODER_LAYERS;
        if !sizes || !layers || g.kv_heads == 0 || !g.heads.is_multiple_of(g.kv_heads) {
            return Err(Error::Invalid("Geometry", "sizes out of range"));
        }
        Ok(g)
    }
}

/// Layers that the model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("layers {from}..{to} of a model of {layers}")]
pub struct GeometryError {
    /// First layer asked for.
    pub from: u16,
    /// End of those asked for.
    pub to: u16,
    /// Layers there are.
    pub layers: u16,
}

impl Geometry {
    /// The shape of a shard of a model whose sizes have been checked by its layout.
    ///
    /// # Errors
    /// [`GeometryError`] when the model lacks the layers.
    pub fn of(c: &DecoderConfig, layers: Range<u16>) -> Result<Self, GeometryError> {
        if layers.is_empty() || layers.end > c.layers {
            let (from, to) = (layers.start, layers.end);
            return Err(GeometryError { from, to, layers: c.layers });
        }
        Ok(Self {
            first_layer: layers.start,
            end_layer: layers.end,
            layers: c.layers,
            vocab: c.vocab,
            d_model: c.d_model,
            d_ff: c.d_ff,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_width: c.head_width,
            window: c.window,
        })
    }

    /// Whether the shard takes tokens.
    pub fn takes_tokens(&self) -> bool {
        self.first_layer == 0
    }

    /// Whether the shard gives logits.
    pub fn gives_logits(&self) -> bool {
        self.end_layer == self.layers
    }

    /// Index of the head's stage.
    pub(crate) fn head_stage(&self) -> usize {
        usize::from(self.layers) * STAGES_PER_LAYER
    }

    pub(crate) fn query_width(&self) -> usize {
        usize::from(self.heads) * usize::from(self.head_width)
    }

    pub(crate) fn kv_width(&self) -> usize {
        usize::from(self.kv_heads) * usize::from(self.head_width)
    }

    /// Query heads per key-value head.
    pub(crate) fn group(&self) -> usize {
        (usize::from(self.heads) / usize::from(self.kv_heads).max(1)).max(1)
    }

    /// `(k, n)` of a stage.
    pub(crate) fn stage(&self, stage: usize) -> (usize, usize) {
        let (d, ff) = (self.d_model as usize, self.d_ff as usize);
        if stage == self.head_stage() {
            return (d, self.vocab as usize);
        }
        match stage % STAGES_PER_LAYER {
            0 => (d, self.query_width() + 2 * self.kv_width()),
            1 => (self.query_width(), d),
            2 => (d, 2 * ff),
            _ => (ff, d),
        }
    }

    /// The residual stream that the norm before `stage`, or the addition after it, starts from.
    pub(crate) fn stream_before(&self, stage: usize) -> Op {
        let first = usize::from(self.first_layer) * STAGES_PER_LAYER;
        // A norm's stage and the addition after the next read the same stream.
        let norm = if stage == self.head_stage() { stage } else { stage & !1 };
        if norm <= first { Op::Start } else { Op::Added(norm - 1) }
    }

    /// Tokens that a token sees: `start..=token`.
    pub(crate) fn seen(&self, token: u32) -> Range<u32> {
        let end = token.saturating_add(1);
        let start = if self.window == 0 { 0 } else { end.saturating_sub(self.window) };
        start..end
    }

    /// Rows of one token, the head's included.
    pub fn slots(&self) -> u16 {
        let layers = usize::from(self.end_layer.saturating_sub(self.first_layer));
        let head = if self.gives_logits() { HEAD_SLOTS } else { 0 };
        (FIRST_SLOTS + layers * LAYER_SLOTS + head) as u16
    }

    /// The first slot of the head.
    pub fn head_slot(&self) -> u16 {
        let layers = usize::from(self.end_layer.saturating_sub(self.first_layer));
        (FIRST_SLOTS + layers * LAYER_SLOTS) as u16
    }

    /// The layer that a slot belongs to; `None` for the first two and the head's.
    pub(crate) fn layer_of(&self, slot: u16) -> Option<usize> {
        let layer = usize::from(slot).checked_sub(FIRST_SLOTS)? / LAYER_SLOTS;
        let layer = usize::from(self.first_layer) + layer;
        (layer < usize::from(self.end_layer)).then_some(layer)
    }

    /// The operation of a slot; `None` beyond the last.
    pub fn op(&self, slot: u16) -> Option<Op> {
        let slot = usize::from(slot);
        let Some(rest) = slot.checked_sub(FIRST_SLOTS) else {
            return Some(if slot == 0 { Op::Input } else { Op::Start });
        };
        let layers = usize::from(self.end_layer.saturating_sub(self.first_layer));
        let (layer, part) = (rest / LAYER_SLOTS, rest % LAYER_SLOTS);
        if layer < layers {
            let layer = usize::from(self.first_layer) + layer;
            let stage = layer * STAGES_PER_LAYER;
            return Some(match part {
                0 => Op::NormStats(stage),
                1 => Op::Normed(stage),
                2 => Op::Product(stage),
                3 => Op::Qkv(layer),
                4 => Op::AttentionStats(layer),
                5 => Op::Sums(layer),
                6 => Op::Context(layer),
                7 => Op::OfferStats(stage + 1),
                8 => Op::Offered(stage + 1),
                9 => Op::Product(stage + 1),
                10 => Op::Added(stage + 1),
                11 => Op::NormStats(stage + 2),
                12 => Op::Normed(stage + 2),
                13 => Op::Product(stage + 2),
                14 => Op::Gated(layer),
                15 => Op::OfferStats(stage + 3),
                16 => Op::Offered(stage + 3),
                17 => Op::Product(stage + 3),
                _ => Op::Added(stage + 3),
            });
        }
        let head = self.head_stage();
        match rest - layers * LAYER_SLOTS {
            _ if !self.gives_logits() => None,
            0 => Some(Op::NormStats(head)),
            1 => Some(Op::Normed(head)),
            2 => Some(Op::Product(head)),
            3 => Some(Op::Logits),
            _ => None,
        }
    }

    /// The slot of an operation; `None` if the shard has it not.
    pub fn slot(&self, op: Op) -> Option<u16> {
        let of_layer = |layer: usize, part: usize| {
            let layer = layer.checked_sub(self.first_layer.into())?;
            Some(FIRST_SLOTS + layer * LAYER_SLOTS + part)
        };
        let of_stage = |stage: usize, parts: [usize; 4], head: Option<usize>| {
            if stage == self.head_stage() {
                return Some(usize::from(self.head_slot()) + head?);
            }
            of_layer(stage / STAGES_PER_LAYER, parts[stage % STAGES_PER_LAYER])
        };
        let slot = match op {
            Op::Input => 0,
            Op::Start => 1,
            Op::NormStats(stage) => of_stage(stage, [0, 7, 11, 15], Some(0))?,
            Op::Normed(stage) => of_stage(stage, [1, 8, 12, 16], Some(1))?,
            Op::OfferStats(stage) => of_stage(stage, [0, 7, 11, 15], None)?,
            Op::Offered(stage) => of_stage(stage, [1, 8, 12, 16], None)?,
            Op::Product(stage) => of_stage(stage, [2, 9, 13, 17], Some(2))?,
            Op::Added(stage) => of_stage(stage, [2, 10, 13, 18], None)?,
            Op::Qkv(layer) => of_layer(layer, 3)?,
            Op::AttentionStats(layer) => of_layer(layer, 4)?,
            Op::Sums(layer) => of_layer(layer, 5)?,
            Op::Context(layer) => of_layer(layer, 6)?,
            Op::Gated(layer) => of_layer(layer, 14)?,
            Op::Logits => usize::from(self.head_slot()) + 3,
        };
        let slot = u16::try_from(slot).ok()?;
        (self.op(slot) == Some(op)).then_some(slot)
    }

    /// Words of an operation's row.
    pub fn words(&self, op: Op) -> usize {
        let d = self.d_model as usize;
        match op {
            Op::Input if self.takes_tokens() => 1,
            Op::Input | Op::Start | Op::Added(_) => d,
            Op::NormStats(_) => NORM_STATS,
            Op::OfferStats(_) => OFFER_STATS,
            Op::Normed(stage) | Op::Offered(stage) => self.stage(stage).0,
            Op::Product(stage) => self.stage(stage).1,
            Op::Qkv(_) => self.query_width() + 2 * self.kv_width(),
            Op::AttentionStats(_) => HEAD_STATS * usize::from(self.heads),
            Op::Sums(_) => 2 * self.query_width(),
            Op::Context(_) => self.query_width(),
            Op::Gated(_) => self.d_ff as usize,
            Op::Logits => self.vocab as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_operations_are_one_to_one() {
        for (first, end) in [(0, 3), (0, 1), (1, 2), (2, 3)] {
            let g = Geometry {
                first_layer: first,
                end_layer: end,
                layers: 3,
                vocab: 50,
                d_model: 32,
                d_ff: 48,
                heads: 4,
                kv_heads: 2,
                head_width: 8,
                window: 0,
            };
            for slot in 0..g.slots() {
                let op = g.op(slot).unwrap();
                assert_eq!(g.slot(op), Some(slot), "{op:?}");
                assert!(g.words(op) > 0);
            }
            assert_eq!(g.op(g.slots()), None);
            assert_eq!(g.slot(Op::Logits).is_some(), end == 3);
            assert_eq!(g.slot(Op::Qkv(usize::from(end))), None);
        }
    }
}
