//! Texts to tokens, for whatever encoder: what a client does, on this machine.

use nesa_model::manifest::{Reading, TokenizerConfig};
use nesa_model::{Frame, Model, TokenIds, Tokenizer};
use nesa_tokenizer::{Limits, TextTokenizer, TokenizerError};

use crate::compile::CompileError;

/// A tokenizer, its own or brought, and what stands around its pieces.
pub struct Reader(Kind);

enum Kind {
    WordPiece(Tokenizer),
    Brought(Box<TextTokenizer>, Frame),
}

impl Reader {
    /// That of a compiled model.
    ///
    /// # Errors
    /// [`TokenizerError`] when a tokenizer that it brings is not understood.
    pub fn of(model: &Model) -> Result<Self, TokenizerError> {
        Ok(Self(match (model.tokenizer(), model.brought_tokenizer()) {
            (Some(words), _) => Kind::WordPiece(words.clone()),
            (None, json) => {
                let json = json.map(|json| &json[..]).unwrap_or_default();
                brought(json, model.config().vocab, *model.frame())?
            }
        }))
    }

    /// That of a model being made, of `count` tokens.
    pub(crate) fn new(
        config: &TokenizerConfig,
        reading: &Reading,
        vocab: &[u8],
        count: usize,
        max_tokens: usize,
    ) -> Result<Self, CompileError> {
        if !reading.brought {
            let words = Tokenizer::new(config, reading, vocab, count, max_tokens)?;
            return Ok(Self(Kind::WordPiece(words)));
        }
        let frame = Frame::new(config, reading, count, max_tokens)?;
        Ok(Self(brought(vocab, count as u32, frame)?))
    }

    /// Tokens of a text.
    ///
    /// # Errors
    /// [`TokenizerError`] when a tokenizer that the model brings refuses it.
    pub fn encode(&self, text: &str) -> Result<TokenIds, TokenizerError> {
        match &self.0 {
            Kind::WordPiece(words) => Ok(words.encode(text)),
            Kind::Brought(tokenizer, frame) => Ok(frame.single(&tokenizer.encode(text, true)?)),
        }
    }

    /// Tokens of a pair of texts; `None` of a model that reads no pairs.
    ///
    /// # Errors
    /// As [`Reader::encode`].
    pub fn encode_pair(&self, text: &str, pair: &str) -> Result<Option<TokenIds>, TokenizerError> {
        match &self.0 {
            Kind::WordPiece(words) => Ok(words.encode_pair(text, pair)),
            Kind::Brought(_, frame) if pair.is_empty() && frame.pairs() => {
                self.encode(text).map(Some)
            }
            Kind::Brought(tokenizer, frame) => {
                let (text, pair) = (tokenizer.encode(text, true)?, tokenizer.encode(pair, true)?);
                Ok(frame.pair(&text, &pair))
            }
        }
    }
}

fn brought(json: &[u8], vocab: u32, frame: Frame) -> Result<Kind, TokenizerError> {
    let tokenizer = TextTokenizer::from_json(json, vocab, Limits::default())?;
    Ok(Kind::Brought(Box::new(tokenizer), frame))
}
