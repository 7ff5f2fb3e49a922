//! Texts to tokens for encoders: by their own WordPiece, or by a tokenizer that they bring.

use nesa_model::{Frame, Model, TokenIds, Tokenizer};

use super::{
    MAX_TEXTS, QueryError, TextInput,
    engine::{SharedCodec, TextEngine, TextError, TextFiles},
    prompt::Said,
};

/// What reads the texts of a model.
pub(crate) enum Reader<'a> {
    WordPiece(&'a Tokenizer),
    /// The codec makes pieces, without special tokens.
    Brought(SharedCodec, &'a Frame),
}

impl<'a> Reader<'a> {
    /// Opens what `model` needs; `engine` for a tokenizer that it brings.
    pub(crate) async fn open(
        model: &'a Model,
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        if let Some(words) = model.tokenizer() {
            return Ok(Self::WordPiece(words));
        }
        let engine = engine.ok_or(TextError::Absent)?;
        let codec = engine.open(TextFiles::of_encoder(model)?).await?;
        Ok(Self::Brought(codec, model.frame()))
    }

    async fn tokens(&self, input: &TextInput) -> Result<TokenIds, QueryError> {
        let pair = input.pair.as_deref();
        match self {
            Self::WordPiece(words) => match pair {
                None => Ok(words.encode(&input.text)),
                Some(pair) => words.encode_pair(&input.text, pair).ok_or(QueryError::Pair),
            },
            Self::Brought(codec, frame) => {
                if pair.is_some() && !frame.pairs() {
                    return Err(QueryError::Pair);
                }
                let text = codec.tokens(&Said::Text(input.text.clone())).await?;
                // As transformers does, and the WordPiece above.
                let Some(pair) = pair.filter(|pair| !pair.is_empty()) else {
                    return Ok(frame.single(&text));
                };
                let pair = codec.tokens(&Said::Text(pair.to_owned())).await?;
                frame.pair(&text, &pair).ok_or(QueryError::Pair)
            }
        }
    }

    /// Tokens of each of `inputs`.
    pub(crate) async fn read(&self, inputs: &[TextInput]) -> Result<Vec<TokenIds>, QueryError> {
        if inputs.is_empty() || inputs.len() > MAX_TEXTS {
            return Err(QueryError::Texts { got: inputs.len() });
        }
        let mut texts = Vec::with_capacity(inputs.len());
        for input in inputs {
            texts.push(self.tokens(input).await?);
        }
        Ok(texts)
    }
}
