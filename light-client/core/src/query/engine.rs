//! What turns texts into tokens and back, for models that bring their own tokenizer: given from outside.
//!
//! Such tokenizers are much code and come, as templates do, from strangers. Natively the
//! crate `nesa-tokenizer` does it in place (feature `text`); the page's worker gives an engine that runs
//! the same crate in a worker of its own, loaded when it is first needed and stopped when it takes too
//! long, so that a hostile `tokenizer.json` costs an answer and not the page.
//!
//! ```text
//!   tokenizer.json, template ── open ──> TextCodec ── tokens(said) ──> prompt
//!                                            └──────── stream ──> Pieces ── push(token) ──> text
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nesa_model::{Model, decoder::DecoderModel};
use nesa_platform::{BoxFuture, MaybeSend, MaybeSync};
use nesa_primitives::Hash;

use super::prompt::Said;

/// Why a text could not be turned into tokens, or tokens into text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// This program was given no engine.
    #[error("this program has no tokenizers for models that write text")]
    Absent,
    /// The model is a part of one and has no tokenizer.
    #[error("the model brings no tokenizer")]
    NoTokenizer,
    /// The tokenizer or the template refuses, in its words.
    #[error("{0}")]
    Refused(String),
    /// The tokenizer stopped in the middle of its work: the model's files are broken or hostile.
    #[error("the model's tokenizer stopped: {0}")]
    Stopped(String),
    /// The tokenizer took too long and was stopped.
    #[error("the model's tokenizer took longer than {} s", limit.as_secs_f32())]
    Slow {
        /// What it was given.
        limit: Duration,
    },
}

/// A model's files about text.
#[derive(Clone, Debug)]
pub struct TextFiles {
    /// The model, so that an engine may keep what it opened.
    pub model: Hash,
    /// `tokenizer.json`.
    pub tokenizer: Bytes,
    /// The chat template, if there is one.
    pub template: Option<Bytes>,
    /// Tokens of the model.
    pub vocab: u32,
    /// Begins a text.
    pub start: Option<u32>,
    /// Each ends a text; the template's own first.
    pub ends: Vec<u32>,
}

impl TextFiles {
    /// Those of a decoder.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`] of a shard.
    pub fn of(model: &DecoderModel) -> Result<Self, TextError> {
        Ok(Self {
            model: model.header().digest(),
            tokenizer: model.tokenizer().ok_or(TextError::NoTokenizer)?.clone(),
            template: model.template().cloned(),
            vocab: model.config().vocab,
            start: model.special().start,
            ends: model.special().ends.clone(),
        })
    }

    /// That of an encoder. It was compiled without special tokens, so that no text makes one and none is
    /// put around it; should it name any, what it makes is still within the vocabulary.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`] of one that brings none.
    pub fn of_encoder(model: &Model) -> Result<Self, TextError> {
        Ok(Self {
            model: model.digest(),
            tokenizer: model.brought_tokenizer().ok_or(TextError::NoTokenizer)?.clone(),
            template: None,
            vocab: model.config().vocab,
            start: None,
            ends: Vec::new(),
        })
    }
}

/// Opens the tokenizers of models.
pub trait TextEngine: MaybeSend + MaybeSync {
    /// Opens a model's.
    fn open(&self, files: TextFiles) -> BoxFuture<'_, Result<SharedCodec, TextError>>;
}

/// A model's tokenizer and template, opened.
pub type SharedCodec = Arc<dyn TextCodec>;

/// Texts to tokens and back, for one model.
pub trait TextCodec: MaybeSend + MaybeSync {
    /// The prompt: the tokens of a text, or of a chat as the model's template writes it. A model without
    /// a template reads of a chat what the user said last, and a line feed. Nothing that is said in a chat
    /// makes a special token.
    fn tokens<'a>(&'a self, said: &'a Said) -> BoxFuture<'a, Result<Vec<u32>, TextError>>;

    /// A stream of text that begins after the tokens `before`.
    fn stream(&self, before: &[u32]) -> BoxFuture<'_, Result<Box<dyn Pieces>, TextError>>;
}

/// Tokens to text as they come, never half a character.
pub trait Pieces: MaybeSend {
    /// Takes a token; the text that is certain now.
    fn push(&mut self, token: u32) -> BoxFuture<'_, Result<String, TextError>>;

    /// What is still held back, incomplete characters replaced.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<String, TextError>>;
}

/// The engine of this program, if it was built with one.
pub(crate) fn built_in() -> Option<Arc<dyn TextEngine>> {
    #[cfg(feature = "text")]
    return Some(Arc::new(super::native::NativeText));
    #[cfg(not(feature = "text"))]
    None
}
