//! What a device needs to run a decoder's layers by itself, instead of [`super::DecoderRun`].

use nesa_kernels::rotary::{Turn, turn};
use std::ops::Range;

use super::DecoderModel;
use super::feed::{Input, RunError, embed};
use crate::StageId;
use crate::manifest::STAGES_PER_LAYER;

/// How a stage's input is smoothed and its product brought back to fixed point.
#[derive(Clone, Copy, Debug)]
pub struct Scaling<'a> {
    /// Factor of each input channel, 14 fractional bits; empty where nothing is smoothed.
    pub smooth: &'a [u16],
    /// Scale of each output channel, below 2^31.
    pub multiplier: &'a [u32],
    /// Fractional bits of multiplier and row scale together.
    pub shift: u32,
    /// Added to each output channel.
    pub bias: &'a [i32],
}

/// The norm before a stage.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Gain of each channel.
    pub gain: &'a [i32],
    /// Added to the sum of squares.
    pub epsilon: u64,
}

impl DecoderModel {
    /// Where the stages that are here begin and end.
    pub fn stages_here(&self) -> Range<usize> {
        let end = self.layers().end * STAGES_PER_LAYER + usize::from(self.gives_logits());
        self.first_stage()..end
    }

    /// Scaling of a stage that is here.
    pub fn scaling(&self, stage: StageId) -> Option<Scaling<'_>> {
        let index = usize::from(stage.0);
        self.stages_here().contains(&index).then(|| {
            let p = self.stage(index);
            Scaling { smooth: &p.smooth, multiplier: &p.multiplier, shift: p.shift, bias: &p.bias }
        })
    }

    /// The norm before a stage that is here; `None` before those that follow none.
    pub fn norm(&self, stage: StageId) -> Option<Norm<'_>> {
        let index = usize::from(stage.0);
        let layer = index / STAGES_PER_LAYER;
        if layer == usize::from(self.config().layers) {
            let head = self.head()?;
            return Some(Norm { gain: &head.gain, epsilon: head.epsilon });
        }
        if !self.layers().contains(&layer) {
            return None;
        }
        let p = self.layer(layer);
        match index % STAGES_PER_LAYER {
            0 => Some(Norm { gain: &p.attention_gain, epsilon: p.attention_epsilon }),
            2 => Some(Norm { gain: &p.ffn_gain, epsilon: p.ffn_epsilon }),
            _ => None,
        }
    }

    /// Scale of each query head's scores in a layer that is here, `[heads]`; empty elsewhere.
    pub fn score_scales(&self, layer: usize) -> &[u32] {
        if self.layers().contains(&layer) { &self.layer(layer).scores } else { &[] }
    }

    /// The table of SwiGLU, by [`nesa_kernels::decoder::swiglu_row`].
    pub fn silu_table(&self) -> &[u16] {
        self.silu()
    }

    /// The table of exponentials, by [`nesa_kernels::attention::attend`].
    pub fn exp_table(&self) -> &[u16] {
        self.exp()
    }

    /// Turns of these positions, `[positions, head_width / 2]`.
    pub fn turns(&self, positions: Range<usize>) -> Vec<Turn> {
        let of = |position| {
            let frequencies = self.frequency().iter();
            frequencies.map(move |&f| turn(position as u32, f, self.cosine()))
        };
        positions.flat_map(of).collect()
    }

    /// The rows that a sequence of `before` tokens begins with when it sees `input`, `[tokens, d_model]`.
    ///
    /// # Errors
    /// [`RunError`] when the input is not one for this model, or too long.
    pub fn rows_of(&self, before: usize, input: &Input) -> Result<Vec<i32>, RunError> {
        let mut rows = Vec::new();
        let tokens = embed(self, 0, input, &mut rows)?;
        let (got, max) = (before + tokens, self.config().max_tokens as usize);
        if tokens == 0 {
            return Err(RunError::Empty { index: 0 });
        }
        if got > max {
            return Err(RunError::Length { index: 0, got, max });
        }
        Ok(rows)
    }
}
