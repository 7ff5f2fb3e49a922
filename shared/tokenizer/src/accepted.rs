//! Which tokenizers are read: a list of parts that do not panic, as far as is known, and lengthen a text within
//! bounds. Their time is not bounded: a pattern can be slow, and in browsers the worker that runs it is ended.
//!
//! The `tokenizers` crate trusts the file that it reads: some of its parts index, subtract and unwrap by what
//! is written there. So the file is first read as what is accepted here, each key once, and the crate
//! is given what was accepted, written anew, and nothing else of the file but vocabulary and merges.
//!
//! Accepted is what Llama, Mistral, Qwen, SmolLM, BERT, RoBERTa and MPNet models bring, and their relatives.
//! Left out are unigram models with their compiled normalizers, and parts that no such model uses.

mod components;
mod model;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokenizers::{AddedToken, ModelWrapper, NormalizedString, Normalizer, Tokenizer};

use crate::TokenizerError;
use components::{Budget, Decoder, Normal, PostProcessor, PreTokenizer};
use model::Described;

/// A part of a tokenizer that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartError {
    /// More of something than is accepted.
    #[error("{what}: {got}, at most {max} accepted")]
    TooMuch {
        /// What.
        what: &'static str,
        /// How much of it.
        got: u64,
        /// How much is accepted.
        max: u64,
    },
    /// A part, or a setting of one, that is not accepted.
    #[error("{part}: got {got}, expected {expected}")]
    Unexpected {
        /// Which.
        part: &'static str,
        /// What it is.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
}

/// `got` if it is at most `max`.
fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), PartError> {
    let (got, max) = (got as u64, max as u64);
    if got > max { Err(PartError::TooMuch { what, got, max }) } else { Ok(()) }
}

fn unexpected(part: &'static str, got: impl Into<String>, expected: &'static str) -> PartError {
    PartError::Unexpected { part, got: got.into(), expected }
}

/// A token beside the model's own.
#[derive(Deserialize)]
struct Added {
    #[serde(rename = "id")]
    _id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// `tokenizer.json` but for vocabulary and merges, which are only measured. What it says of truncation
/// and padding is the caller's to decide.
#[derive(Deserialize)]
struct Document {
    version: Option<String>,
    #[serde(default, rename = "truncation")]
    _truncation: IgnoredAny,
    #[serde(default, rename = "padding")]
    _padding: IgnoredAny,
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Normal>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<PostProcessor>,
    decoder: Option<Decoder>,
    model: Described,
}

/// The same file again, for the crate's own reading of vocabulary and merges.
#[derive(Deserialize)]
struct Words {
    model: ModelWrapper,
}

/// A tokenizer of accepted parts, without padding and truncation.
///
/// # Errors
/// [`TokenizerError`] when it is not understood or not accepted.
pub(crate) fn open(json: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let document: Document = serde_json::from_slice(json).map_err(|e| not_json(&e))?;
    if let Some(version) = document.version.filter(|v| v != "1.0") {
        return Err(unexpected("version", version, "1.0").into());
    }
    let mut budget = Budget::default();
    document.normalizer.iter().try_for_each(|part| part.check(&mut budget))?;
    document.pre_tokenizer.iter().try_for_each(|part| part.check(&mut budget))?;
    document.post_processor.iter().try_for_each(|part| part.check(&mut budget))?;
    let mut budget = Budget::default();
    document.decoder.iter().try_for_each(|part| part.check(&mut budget))?;
    document.model.check()?;

    let words: Words = serde_json::from_slice(json).map_err(|e| not_json(&e))?;
    let mut tokenizer = Tokenizer::new(document.model.is_read_as(words.model)?);
    let refused = |e: tokenizers::Error| TokenizerError::Json(e.to_string());
    tokenizer
        .with_normalizer(anew::<_, tokenizers::NormalizerWrapper>(document.normalizer)?)
        .map_err(refused)?;
    tokenizer
        .with_pre_tokenizer(anew::<_, tokenizers::PreTokenizerWrapper>(document.pre_tokenizer)?);
    tokenizer
        .with_post_processor(anew::<_, tokenizers::PostProcessorWrapper>(document.post_processor)?);
    tokenizer.with_decoder(anew::<_, tokenizers::DecoderWrapper>(document.decoder)?);
    let added = document.added_tokens;
    for token in &added {
        token.check(&tokenizer)?;
    }
    tokenizer.add_tokens(added.into_iter().map(Added::anew)).map_err(refused)?;
    Ok(tokenizer)
}

/// An accepted part as the crate reads it.
fn anew<A: Serialize, B: DeserializeOwned>(part: Option<A>) -> Result<Option<B>, TokenizerError> {
    let Some(part) = part else { return Ok(None) };
    let written = serde_json::to_value(part).map_err(|e| not_json(&e))?;
    serde_json::from_value(written).map(Some).map_err(|e| not_json(&e))
}

fn not_json(error: &serde_json::Error) -> TokenizerError {
    TokenizerError::Json(error.to_string())
}

impl Added {
    /// A token of which the normalizer leaves nothing would be found inside characters; white space that takes
    /// the white space about it along would be cut out twice.
    fn check(&self, tokenizer: &Tokenizer) -> Result<(), TokenizerError> {
        let mut seen = NormalizedString::from(self.content.as_str());
        if let (true, Some(normalizer)) = (self.normalized, tokenizer.get_normalizer()) {
            normalizer.normalize(&mut seen).map_err(|e| TokenizerError::Json(e.to_string()))?;
        }
        let refused = |part, expected| Err(unexpected(part, &*self.content, expected).into());
        // The crate passes over tokens that are empty from the start.
        if seen.get().is_empty() && !self.content.is_empty() {
            return refused(
                "added token of nothing",
                "one of which the normalizer leaves something",
            );
        }
        let strips = self.lstrip || self.rstrip;
        if strips && (self.content.trim().is_empty() || seen.get().trim().is_empty()) {
            return refused("added token that strips", "one that is not white space");
        }
        Ok(())
    }

    /// As the crate has it, which numbers such tokens itself.
    fn anew(self) -> AddedToken {
        AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized)
    }
}
