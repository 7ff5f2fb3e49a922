//! Writing a text: a prompt that fits its model, and the text as it comes.

use nesa_crypto::SecretKey;
use nesa_masked::{
    batch::{PROMPT_PIECE, TEXT_BUCKET, bucket, text_passes},
    client::Pass,
};
use nesa_model::decoder::{DecoderModel, DraftModel, WriteError, WriteRequest, Writing, Written};
use nesa_primitives::Hash;

use super::{
    QueryClient, QueryError, QueryOptions, QueryOutcome,
    drafts::Drafts,
    engine::{Pieces, SharedCodec, TextEngine, TextError, TextFiles},
    prompt::{MAX_DRAFT, Prompt},
    report::{Answer, Content, Listener, Progress, Quote, WrittenText},
    work::{Gather, Work},
};
use crate::models::Prepared;

/// A prompt that fits its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The prompt, its most tokens lowered to what the model's context leaves.
    pub prompt: Prompt,
    /// Tokens of the prompt, as the model reads it.
    pub prompt_tokens: usize,
}

/// Most tokens to write after a prompt of so many, in a context of `max`; see [`room`].
fn fitting(prompt: usize, wanted: usize, max: usize) -> Result<usize, WriteError> {
    if prompt == 0 {
        return Err(WriteError::Empty);
    }
    room(prompt, wanted, max).ok_or(WriteError::Length { prompt, tokens: wanted, max })
}

/// Those asked for if there is room; else what is left beside the *padded* prompt, to a multiple of the bucket of written tokens, so
/// that their number does not tell the prompt's length.
fn room(prompt: usize, wanted: usize, max: usize) -> Option<usize> {
    if prompt.checked_add(wanted).is_some_and(|all| all <= max) {
        return Some(wanted).filter(|wanted| *wanted > 0);
    }
    let (whole, rest) = (prompt / PROMPT_PIECE * PROMPT_PIECE, prompt % PROMPT_PIECE);
    let padded = whole.saturating_add(bucket(rest).unwrap_or_default() as usize);
    let left = max.saturating_sub(padded) / TEXT_BUCKET * TEXT_BUCKET;
    Some(left.min(wanted)).filter(|left| *left > 0)
}

impl Work {
    /// The continuation of `prompt`.
    pub(crate) async fn write(
        model: &DecoderModel,
        prompt: &Prompt,
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        let codec = open(model, engine).await?;
        let request = WriteRequest {
            prompt: codec.tokens(&prompt.said).await?,
            tokens: prompt.tokens,
            sampling: prompt.sampling,
            seed: prompt.seed,
            pad_to: TEXT_BUCKET,
            piece: PROMPT_PIECE,
            draft: prompt.draft.min(MAX_DRAFT),
        };
        // Refused before anything is paid.
        Writing::start(model, request.clone())?;
        Ok(Self::Write { request, codec })
    }
}

async fn open(
    model: &DecoderModel,
    engine: Option<&dyn TextEngine>,
) -> Result<SharedCodec, TextError> {
    engine.ok_or(TextError::Absent)?.open(TextFiles::of(model)?).await
}

impl QueryClient {
    /// Counts the prompt's tokens, and lowers the most that is written to what the context leaves.
    ///
    /// # Errors
    /// [`QueryError`] when the model cannot continue it at all.
    pub async fn fit(&self, prepared: &Prepared, mut prompt: Prompt) -> Result<Fitted, QueryError> {
        let model = prepared.decoder()?;
        let codec = open(model, self.engine()).await?;
        let prompt_tokens = codec.tokens(&prompt.said).await?.len();
        let max = model.config().max_tokens as usize;
        prompt.tokens = fitting(prompt_tokens, prompt.tokens, max)?;
        Ok(Fitted { prompt, prompt_tokens })
    }

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
        let work = Work::write(prepared.decoder()?, prompt, self.engine()).await?;
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
        let model = prepared.decoder()?;
        if let Some(draft) = &options.draft_model {
            DraftModel::new(draft, model, prompt.sampling, prompt.seed)?;
        }
        let work = Box::pin(async { Work::write(model, prompt, self.engine()).await });
        self.ask(prepared, wallet, work, prompt.committed(), options).await
    }
}

/// A text: shown as it comes, every token after its layers were checked.
pub(crate) struct Text<'a> {
    model: &'a DecoderModel,
    request: &'a WriteRequest,
    codec: &'a SharedCodec,
    drafts: Drafts,
    stream: Option<Box<dyn Pieces>>,
    listener: Listener,
    text: String,
    tokens: Vec<u32>,
    /// Tokens whose text has been asked for.
    shown: usize,
    ended: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(
        model: &'a DecoderModel,
        codec: &'a SharedCodec,
        request: &'a WriteRequest,
        drafts: Drafts,
        listener: Listener,
    ) -> Self {
        Self {
            model,
            request,
            codec,
            drafts,
            stream: None,
            listener,
            text: String::new(),
            tokens: Vec::new(),
            shown: 0,
            ended: false,
        }
    }

    fn add(&mut self, piece: String) {
        self.text.push_str(&piece);
        self.listener.say(Progress::Text { piece, tokens: self.shown });
    }
}

impl Gather for Text<'_> {
    type Run = Writing;

    fn passes(&self) -> Result<Vec<Pass<Writing>>, QueryError> {
        let drafter = self.drafts.drafter(self.model, self.request)?;
        let run = Writing::start_drafted(self.model, self.request.clone(), drafter)?;
        let tokens = text_passes(self.request).first().copied().unwrap_or_default();
        Ok(vec![Pass { run, tokens }])
    }

    fn guesses(&self) -> Option<Vec<u32>> {
        self.drafts.kept()
    }

    fn take(&mut self, _: u32, output: Vec<Written>) -> Result<(), QueryError> {
        for written in output {
            match written {
                Written::Token(token) => self.tokens.push(token),
                Written::End(_) => self.ended = true,
                Written::Read | Written::Padding => {}
            }
        }
        Ok(())
    }

    async fn flush(&mut self, last: bool) -> Result<(), QueryError> {
        while let Some(&token) = self.tokens.get(self.shown) {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.codec.stream(&self.request.prompt).await?,
            };
            let piece = stream.push(token).await?;
            self.stream = Some(stream);
            self.shown += 1;
            self.add(piece);
        }
        if last && let Some(stream) = self.stream.take() {
            let rest = stream.finish().await?;
            if !rest.is_empty() {
                self.add(rest);
            }
        }
        Ok(())
    }

    fn answer(self, model: &Hash) -> Result<Answer, QueryError> {
        let (text, tokens, ended) = (self.text, self.tokens, self.ended);
        Ok(Answer::new(model, Content::Text(WrittenText { text, tokens, ended })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What does not fit is lowered, and the number written says no more of the prompt than its padding.
        #[test]
        fn room_is_kept_and_tells_only_the_padding(prompt in 1usize..700, max in 16usize..800, wanted in 1usize..900) {
            match room(prompt, wanted, max) {
                Some(tokens) => {
                    prop_assert!(tokens <= wanted && prompt + tokens <= max);
                    if tokens < wanted {
                        prop_assert_eq!(tokens % TEXT_BUCKET, 0);
                        let padded = prompt / PROMPT_PIECE * PROMPT_PIECE
                            + bucket(prompt % PROMPT_PIECE).unwrap_or_default() as usize;
                        // A prompt that fills its bucket gets the same, if it does not fit either.
                        prop_assert_eq!(room(padded, wanted, max), Some(tokens));
                    }
                }
                None => prop_assert!(prompt + wanted > max),
            }
        }
    }

    #[test]
    fn prompts_of_every_length_fit_or_are_named() {
        let max = 64;
        assert_eq!(fitting(0, 10, max), Err(WriteError::Empty));
        assert_eq!(fitting(1, 10, max), Ok(10));
        // The context exactly full, to the token.
        assert_eq!(fitting(54, 10, max), Ok(10));
        assert_eq!(fitting(63, 1, max), Ok(1));
        // One over: as many as are left beside the padded prompt, which is whole buckets or none.
        assert_eq!(fitting(32, 33, max), Ok(32));
        let none = |prompt, tokens| Err(WriteError::Length { prompt, tokens, max });
        assert_eq!(fitting(63, 2, max), none(63, 2));
        for prompt in [64, 65, 1 << 40, usize::MAX] {
            assert_eq!(fitting(prompt, 1, max), none(prompt, 1), "a prompt that fills the context");
        }
        assert_eq!(fitting(1, 0, max), none(1, 0));
        assert_eq!(fitting(1, usize::MAX, max), Ok(48));
    }
}
