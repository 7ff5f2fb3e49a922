//! Writing a text: a prompt, its payment's commitment, and the text as it comes.
//!
//! Behind the feature `text`, because a model's own tokenizer is half a megabyte of code that a page
//! without such a model has no use for.

use std::sync::Arc;

use nesa_crypto::SecretKey;
use nesa_kernels::sample::Sampling;
use nesa_masked::{
    batch::{PROMPT_PIECE, TEXT_BUCKET, text_passes},
    client::Pass,
};
use nesa_model::decoder::{DecoderModel, SAMPLING_SEED_BYTES, WriteRequest, Writing, Written};
use nesa_primitives::Hash;
use nesa_tokenizer::{Limits, TextStream, TextTokenizer, TokenizerError};
use serde::{Deserialize, Serialize};

use super::{
    QueryClient, QueryError, QueryOptions, QueryOutcome,
    report::{Answer, Content, Listener, Progress, Quote, WrittenText},
    work::{Gather, Work},
};
use crate::models::Prepared;

/// A model's own tokenizer.
pub(crate) type Tokenizer = Arc<TextTokenizer>;

impl From<TokenizerError> for QueryError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer { reason: error.to_string() }
    }
}

/// A prompt to be continued, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// Most tokens to write.
    pub tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The same seed, prompt, sampling and model give the same text on every machine.
    pub seed: [u8; SAMPLING_SEED_BYTES],
    /// Tokens guessed in each pass and checked with it: fewer round trips for more bytes, and the same
    /// text. At most [`MAX_DRAFT`]; 0 for none.
    pub draft: usize,
}

/// Most tokens guessed in a pass.
pub const MAX_DRAFT: usize = 15;

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prompt({} bytes, {} tokens to write)", self.text.len(), self.tokens)
    }
}

/// What is committed to beside a prompt's text, as JSON.
#[derive(Serialize, Deserialize)]
struct Parameters {
    tokens: usize,
    temperature: u32,
    top_k: u32,
    top_p: u32,
    seed: String,
    /// Absent where nothing is guessed.
    #[serde(default, skip_serializing_if = "is_none")]
    draft: usize,
}

fn is_none(draft: &usize) -> bool {
    *draft == 0
}

impl Prompt {
    /// The texts a payment commits to: the prompt, and how it is continued.
    pub(crate) fn committed(&self) -> Vec<String> {
        let parameters = Parameters {
            tokens: self.tokens,
            temperature: self.sampling.temperature,
            top_k: self.sampling.top_k,
            top_p: self.sampling.top_p,
            seed: crate::wallet::hex(&self.seed),
            draft: self.draft,
        };
        let json = serde_json::to_string(&parameters).unwrap_or_default();
        vec![self.text.clone(), json]
    }

    /// The prompt that a payment committed to as `texts`, if they are one.
    pub(crate) fn from_committed(texts: &[String]) -> Option<Self> {
        let [text, json] = texts else { return None };
        let p: Parameters = serde_json::from_str(json).ok()?;
        let seed = crate::wallet::unhex(&p.seed)?;
        let sampling = Sampling { temperature: p.temperature, top_k: p.top_k, top_p: p.top_p };
        Some(Self { text: text.clone(), tokens: p.tokens, sampling, seed, draft: p.draft })
    }
}

impl Work {
    /// The continuation of `prompt`.
    pub(crate) fn write(model: &DecoderModel, prompt: &Prompt) -> Result<Self, QueryError> {
        let json = model.tokenizer().map(|json| &json[..]).unwrap_or_default();
        let tokenizer = TextTokenizer::from_json(json, model.config().vocab, Limits::default())?;
        let request = WriteRequest {
            prompt: tokenizer.encode(&prompt.text, true)?,
            tokens: prompt.tokens,
            sampling: prompt.sampling,
            seed: prompt.seed,
            pad_to: TEXT_BUCKET,
            piece: PROMPT_PIECE,
            draft: prompt.draft.min(MAX_DRAFT),
        };
        // Refused before anything is paid.
        Writing::start(model, request.clone())?;
        Ok(Self::Write { request, tokenizer: Arc::new(tokenizer) })
    }
}

impl QueryClient {
    /// What continuing `prompt` would cost and move at most, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when the model cannot continue it.
    pub async fn write_quote(
        &self,
        prepared: &Prepared,
        prompt: &Prompt,
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::write(prepared.decoder()?, prompt)?;
        Ok(self.plan(prepared, work, prompt.committed(), options).await?.quote)
    }

    /// Continues `prompt`; every token is heard as [`Progress::Text`] once all its layers are checked.
    ///
    /// # Errors
    /// As [`QueryClient::embed`].
    pub async fn write(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        prompt: &Prompt,
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let work = || Work::write(prepared.decoder()?, prompt);
        self.ask(prepared, wallet, work, prompt.committed(), options).await
    }
}

/// A text: shown as it comes, every token after its layers were checked.
pub(crate) struct Text<'a> {
    model: &'a DecoderModel,
    request: &'a WriteRequest,
    stream: TextStream,
    listener: Listener,
    text: String,
    tokens: Vec<u32>,
    ended: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(
        model: &'a DecoderModel,
        tokenizer: &TextTokenizer,
        request: &'a WriteRequest,
        listener: Listener,
    ) -> Self {
        let stream = TextStream::new(tokenizer.clone(), &request.prompt);
        let (text, tokens) = (String::new(), Vec::new());
        Self { model, request, stream, listener, text, tokens, ended: false }
    }
}

impl Gather for Text<'_> {
    type Run = Writing;

    fn passes(&self) -> Result<Vec<Pass<Writing>>, QueryError> {
        let run = Writing::start(self.model, self.request.clone())?;
        let tokens = text_passes(self.request).first().copied().unwrap_or_default();
        Ok(vec![Pass { run, tokens }])
    }

    fn take(&mut self, _: u32, output: Vec<Written>) -> Result<(), QueryError> {
        for written in output {
            match written {
                Written::Token(token) => {
                    self.tokens.push(token);
                    let piece = self.stream.push(token)?;
                    self.text.push_str(&piece);
                    self.listener.say(Progress::Text { piece, tokens: self.tokens.len() });
                }
                Written::End(_) => self.ended = true,
                Written::Read | Written::Padding => {}
            }
        }
        Ok(())
    }

    fn answer(mut self, model: &Hash) -> Result<Answer, QueryError> {
        self.text.push_str(&self.stream.finish()?);
        let (text, tokens, ended) = (self.text, self.tokens, self.ended);
        Ok(Answer::new(model, Content::Text(WrittenText { text, tokens, ended })))
    }
}
