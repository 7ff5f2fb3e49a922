//! Text to tokens and back for models that bring their own `tokenizer.json`.
//!
//! A tokenizer comes with a model from a stranger: it is read within limits, and what it makes of a
//! text is checked before anything uses it. The algorithms are those of the `tokenizers` crate, so
//! that a model sees the tokens it was trained on.

#![deny(missing_docs)]

mod accepted;
pub mod chat;
mod model_text;
mod stream;

use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;
use tokenizers::{Encoding, Tokenizer};

pub use accepted::PartError;
pub use model_text::ModelText;
pub use stream::TextStream;

/// Bounds on what a tokenizer may be and be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of `tokenizer.json`.
    pub max_json_bytes: usize,
    /// Bytes of a text.
    pub max_text_bytes: usize,
}

impl Default for Limits {
    /// 64 MiB of vocabulary and merges, 1 MiB of text.
    fn default() -> Self {
        Self { max_json_bytes: 1 << 26, max_text_bytes: 1 << 20 }
    }
}

/// A tokenizer, or a text, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenizerError {
    /// More bytes than the limit.
    #[error("{what} of {got} bytes, at most {max} allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not a tokenizer description that is understood.
    #[error("tokenizer.json: {0}")]
    Json(String),
    /// A part of the description that is not accepted.
    #[error("tokenizer.json: {0}")]
    Part(#[from] PartError),
    /// The tokenizer broke down.
    #[error("the tokenizer broke down over the {0}")]
    Broken(&'static str),
    /// The text could not be turned into tokens.
    #[error("the tokenizer refuses the text: {0}")]
    Encode(String),
    /// The tokens could not be turned into text.
    #[error("the tokenizer refuses the tokens: {0}")]
    Decode(String),
    /// A token outside the model's vocabulary.
    #[error("the tokenizer gives token {got}, the model has {vocab}")]
    Vocabulary {
        /// The token.
        got: u32,
        /// The model's vocabulary.
        vocab: u32,
    },
}

/// A model's tokenizer.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    limits: Limits,
    vocab: u32,
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextTokenizer({} tokens)", self.inner.get_vocab_size(true))
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json` for a model of `vocab` tokens.
    ///
    /// # Errors
    /// [`TokenizerError`] when it is too long or not understood.
    pub fn from_json(json: &[u8], vocab: u32, limits: Limits) -> Result<Self, TokenizerError> {
        within("tokenizer.json", json.len(), limits.max_json_bytes)?;
        let inner = unbroken("tokenizer.json", || accepted::open(json))?;
        Ok(Self { inner, limits, vocab })
    }

    /// The tokens of a text, with the special tokens that start and end it if `special`.
    ///
    /// # Errors
    /// [`TokenizerError`] for a text over the limit, or tokens the model does not have.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        within("text", text.len(), self.limits.max_text_bytes)?;
        let encoding = encoded(&self.inner, text, special)?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id >= self.vocab) {
            Some(&got) => Err(TokenizerError::Vocabulary { got, vocab: self.vocab }),
            None => Ok(ids.to_vec()),
        }
    }

    /// The text of tokens, special tokens left out.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the tokenizer refuses them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let refused = |e: tokenizers::Error| TokenizerError::Decode(e.to_string());
        unbroken("tokens", || self.inner.decode(tokens, true).map_err(refused))
    }

    /// How a token is written in the vocabulary, such as `</s>`.
    pub fn name(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }
}

/// What a tokenizer makes of a text.
fn encoded(inner: &Tokenizer, text: &str, special: bool) -> Result<Encoding, TokenizerError> {
    let refused = |e: tokenizers::Error| TokenizerError::Encode(e.to_string());
    unbroken("text", || inner.encode_fast(text, special).map_err(refused))
}

/// The last line of defence: what is accepted should not panic, and if it does, the text or tokenizer of a
/// stranger is refused. In a browser a panic ends the worker that tokenizers have to themselves.
///
/// Nothing is left half changed: the tokenizer is only looked at, or not given out.
fn unbroken<T>(
    over: &'static str,
    work: impl FnOnce() -> Result<T, TokenizerError>,
) -> Result<T, TokenizerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(TokenizerError::Broken(over)))
}

fn within(what: &'static str, got: usize, max: usize) -> Result<(), TokenizerError> {
    if got > max { Err(TokenizerError::TooLong { what, got, max }) } else { Ok(()) }
}
