//! What sequences bring to a run and take from it.

use nesa_kernels::decoder as ops;
use std::fmt;
use thiserror::Error;

use super::{DecoderModel, KvCache};

/// What one sequence brings to a run. Its `Debug` shows shapes only.
#[derive(Clone)]
pub struct Feed {
    /// What the sequence has seen so far.
    pub cache: KvCache,
    /// What it sees now.
    pub input: Input,
    /// Which logits are wanted of it, where the head is.
    pub logits: Logits,
}

/// New tokens of a sequence.
#[derive(Clone)]
pub enum Input {
    /// Their indices, for a model with the embedding.
    Tokens(Vec<u32>),
    /// Their rows as the shard before gave them, `[tokens, d_model]`, each `|h| < 2^30`.
    Hidden(Vec<i32>),
}

/// Which rows the head is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// The last new token's.
    Last,
    /// Every new token's.
    All,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({:?}, {:?}, {:?})", self.cache, self.input, self.logits)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(t) => write!(f, "{} tokens", t.len()),
            Self::Hidden(h) => write!(f, "{} values", h.len()),
        }
    }
}

/// What a sequence takes from a run.
#[derive(Clone)]
pub struct Fed {
    /// The cache, longer by the new tokens.
    pub cache: KvCache,
    /// What the model made of them.
    pub output: Output,
}

/// The result for one sequence.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// `[tokens, d_model]` for the next shard.
    Hidden(Vec<i32>),
    /// `[rows, vocab]` with 16 fractional bits; one row or one per new token, as asked.
    Logits(Vec<i32>),
}

impl fmt::Debug for Fed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fed({:?}, {:?})", self.cache, self.output)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden(h) => write!(f, "{} hidden values", h.len()),
            Self::Logits(l) => write!(f, "{} logits", l.len()),
        }
    }
}

/// A batch that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// A sequence brings no new token.
    #[error("sequence {index} brings no new token")]
    Empty {
        /// Which sequence.
        index: usize,
    },
    /// A sequence would grow past the model's context.
    #[error("sequence {index} would have {got} tokens, the model takes {max}")]
    Length {
        /// Which sequence.
        index: usize,
        /// Its tokens, old and new.
        got: usize,
        /// The model's limit.
        max: usize,
    },
    /// A token is not in the vocabulary.
    #[error("sequence {index} names token {got}, the vocabulary has {vocab}")]
    Token {
        /// Which sequence.
        index: usize,
        /// The token.
        got: u32,
        /// Size of the vocabulary.
        vocab: u32,
    },
    /// Tokens where this shard takes rows, or rows where it takes tokens, or rows of another width
    /// or out of range.
    #[error("sequence {index}: {got}, this shard takes {expected}")]
    Input {
        /// Which sequence.
        index: usize,
        /// What it brings.
        got: &'static str,
        /// What is taken.
        expected: &'static str,
    },
    /// A cache of another model or another shard.
    #[error("sequence {index} brings a cache of {got} heads, this shard has {expected}")]
    Cache {
        /// Which sequence.
        index: usize,
        /// Heads in its cache.
        got: usize,
        /// Heads expected.
        expected: usize,
    },
    /// Fewer padded rows than tokens.
    #[error("{tokens} tokens do not fit {padded} rows")]
    Padding {
        /// Tokens in the batch.
        tokens: usize,
        /// Rows asked for.
        padded: usize,
    },
}

/// Appends a sequence's input rows to `hidden`; returns how many.
pub(super) fn embed(
    model: &DecoderModel,
    index: usize,
    input: &Input,
    hidden: &mut Vec<i32>,
) -> Result<usize, RunError> {
    let c = model.config();
    let d = c.d_model as usize;
    match input {
        Input::Tokens(tokens) => {
            for &token in tokens {
                if token >= c.vocab {
                    return Err(RunError::Token { index, got: token, vocab: c.vocab });
                }
                let Some((row, scale)) = model.word(token as usize) else {
                    let (got, expected) = ("tokens", "hidden rows");
                    return Err(RunError::Input { index, got, expected });
                };
                let at = hidden.len();
                hidden.resize(at + d, 0);
                ops::embed_row(row, scale, c.embed_shift.into(), &mut hidden[at..]);
            }
            Ok(tokens.len())
        }
        Input::Hidden(_) if model.takes_tokens() => {
            Err(RunError::Input { index, got: "hidden rows", expected: "tokens" })
        }
        Input::Hidden(rows) => {
            if !rows.len().is_multiple_of(d) {
                let (got, expected) = ("rows of another width", "rows of d_model");
                return Err(RunError::Input { index, got, expected });
            }
            if rows.iter().any(|h| h.unsigned_abs() > ops::RESIDUAL_LIMIT as u32) {
                let (got, expected) = ("a value out of range", "values below 2^30");
                return Err(RunError::Input { index, got, expected });
            }
            hidden.extend_from_slice(rows);
            Ok(rows.len() / d)
        }
    }
}
