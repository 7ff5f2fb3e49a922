//! Writing a text: a prompt read in pieces, then a token at a time.
//!
//! ```text
//! prompt ─▶ pass (a piece of it) ─▶ … ─▶ pass (the last piece) ─▶ token ─▶ pass (that token) ─▶ token ─▶ …
//! ```
//!
//! Each pass goes through every linear stage once; whoever drives it computes the stages. A tied head,
//! whose weight is the token embedding that is here anyway, is computed here.
//!
//! With a draft, a pass takes guesses besides the last token and always as many: where the model chooses
//! what was guessed, the next row's choice counts too. Choices depend on seed and position alone, so the
//! text is the same with any draft. Rows after a wrong guess are forgotten.

use nesa_kernels::sample::Sampling;
use std::fmt;
use thiserror::Error;

use super::{
    DecoderModel, DecoderRun, Drafter, Feed, Input, KvCache, Logits, Output, Pending, Repeats,
    RunError, SAMPLING_SEED_BYTES, choose,
};
use crate::linear::product;
use crate::{Linear, ResumeError};

/// What to write, and how. Its `Debug` shows no token.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// The tokens to continue.
    pub prompt: Vec<u32>,
    /// Most tokens to write.
    pub tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The same seed, prompt, sampling and model give the same text on every machine.
    pub seed: [u8; SAMPLING_SEED_BYTES],
    /// After its end the text is continued, unseen, to a multiple of so many tokens, or to the most:
    /// whoever counts passes learns no more of its length. 1 for none.
    pub pad_to: usize,
    /// Most tokens of the prompt in a pass.
    pub piece: usize,
    /// Guesses in each pass that writes; 0 for none. Their places count towards the model's context.
    pub draft: usize,
}

impl fmt::Debug for WriteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteRequest({} tokens, {} to write)", self.prompt.len(), self.tokens)
    }
}

/// A request the model cannot take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// Nothing to continue.
    #[error("the prompt is empty")]
    Empty,
    /// Nothing to write, or too much.
    #[error("a prompt of {prompt} tokens and {tokens} to write; the model takes {max} in all")]
    Length {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to write, guesses of a pass included.
        tokens: usize,
        /// The model's longest sequence.
        max: usize,
    },
    /// The model is a shard, without embedding or head.
    #[error("only a whole model writes text")]
    Shard,
    /// A run could not start.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What a pass gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// A piece of the prompt was read.
    Read,
    /// The text's next token.
    Token(u32),
    /// The text ended: the model chose this end token.
    End(u32),
    /// The text had ended before.
    Padding,
}

/// A text being written; see the [module](self).
pub struct Writing {
    model: DecoderModel,
    request: WriteRequest,
    /// Tokens of the prompt already handed to a run.
    read: usize,
    /// Passes that gave tokens, padding included.
    given: usize,
    /// Tokens of the text so far, its end included.
    chosen: usize,
    ended: bool,
    run: Option<DecoderRun>,
    cache: KvCache,
    /// Prompt and text, where guesses come from; the last token is not in the cache yet.
    seen: Vec<u32>,
    drafter: Box<dyn Drafter>,
    guessed: Vec<u32>,
    last: Option<Vec<Written>>,
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writing({:?}, {} written)", self.request, self.chosen)
    }
}

impl Writing {
    /// Begins the first pass. Guesses, if any are asked for, are of [`Repeats`].
    ///
    /// # Errors
    /// [`WriteError`] when the model cannot take the request.
    pub fn start(model: &DecoderModel, request: WriteRequest) -> Result<Self, WriteError> {
        Self::start_drafted(model, request, Box::new(Repeats))
    }

    /// The same with the guesses of `drafter`.
    ///
    /// # Errors
    /// As [`Writing::start`].
    pub fn start_drafted(
        model: &DecoderModel,
        request: WriteRequest,
        drafter: Box<dyn Drafter>,
    ) -> Result<Self, WriteError> {
        let (prompt, tokens) = (request.prompt.len(), request.tokens);
        let max = model.config().max_tokens as usize;
        if !model.takes_tokens() || !model.gives_logits() {
            return Err(WriteError::Shard);
        }
        if prompt == 0 {
            return Err(WriteError::Empty);
        }
        let needed = tokens.saturating_add(request.draft);
        if tokens == 0 || prompt.checked_add(needed).is_none_or(|all| all > max) {
            return Err(WriteError::Length { prompt, tokens: needed, max });
        }
        let mut writing = Self {
            model: model.clone(),
            request,
            read: 0,
            given: 0,
            chosen: 0,
            ended: false,
            run: None,
            cache: KvCache::new(),
            seen: Vec::new(),
            drafter,
            guessed: Vec::new(),
            last: None,
        };
        writing.begin()?;
        Ok(writing)
    }

    /// Tokens of each pass of the longest text that a request may lead to.
    pub fn passes(request: &WriteRequest) -> impl Iterator<Item = usize> {
        let (prompt, piece) = (request.prompt.len(), request.piece.max(1));
        let pieces = (0..prompt).step_by(piece).map(move |at| piece.min(prompt - at));
        // The last piece of the prompt gives the first token.
        let rows = request.draft.saturating_add(1);
        pieces.chain(std::iter::repeat_n(rows, request.tokens.saturating_sub(1)))
    }

    /// The stage the pass at hand waits for; `None` when it is over.
    pub fn pending(&self) -> Option<Pending<'_>> {
        self.run.as_ref()?.pending()
    }

    /// Takes the product `[rows, n]` of the stage [`Writing::pending`] names.
    ///
    /// # Errors
    /// [`ResumeError`] when the length is wrong or the pass is over; nothing has changed then.
    pub fn resume(&mut self, y: &[i32]) -> Result<(), ResumeError> {
        let run = self.run.as_mut().ok_or(ResumeError::Finished)?;
        run.resume(y)?;
        if let (Some(head), Some(pending)) = (self.model.tied_head(), run.pending())
            && usize::from(pending.stage.0) + 1 == self.model.config().stages()
        {
            let spec = &self.model.stages()[usize::from(pending.stage.0)];
            let y = product(spec, head, pending.x, pending.rows);
            run.resume(&y)?;
        }
        if run.pending().is_none() {
            self.take();
        }
        Ok(())
    }

    /// What the pass gave, in order, at least one thing; `None` while it goes on.
    pub fn written(&self) -> Option<&[Written]> {
        self.last.as_deref()
    }

    /// Whether another pass follows the one that is over.
    pub fn goes_on(&self) -> bool {
        let whole = self.given.is_multiple_of(self.request.pad_to.max(1));
        self.reads() || self.given < self.request.tokens && !(self.is_over() && whole)
    }

    /// Whether the next pass reads a piece of the prompt.
    pub fn reads(&self) -> bool {
        self.read < self.request.prompt.len()
    }

    /// Tokens of the next pass.
    pub fn next_tokens(&self) -> usize {
        let unread = self.request.prompt.len() - self.read;
        if unread == 0 { self.request.draft + 1 } else { unread.min(self.request.piece.max(1)) }
    }

    /// Begins the next pass. Nothing happens while one goes on, or after the last.
    ///
    /// # Errors
    /// [`WriteError::Run`], which a request that could be started never leads to.
    pub fn advance(&mut self) -> Result<(), WriteError> {
        if self.last.is_some() && self.goes_on() { self.begin() } else { Ok(()) }
    }

    /// Runs the pass at hand to its end with one engine; what it gave.
    ///
    /// # Errors
    /// [`ResumeError`] when the engine gives a product of the wrong length.
    pub fn run(&mut self, engine: &impl Linear) -> Result<Option<&[Written]>, ResumeError> {
        while let Some(Pending { stage, rows, x }) = self.pending() {
            let y = engine.apply(stage, x, rows);
            self.resume(&y)?;
        }
        Ok(self.written())
    }

    /// Whether the text is whole: passes that follow are padding.
    fn is_over(&self) -> bool {
        self.ended || self.chosen >= self.request.tokens
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        let count = self.next_tokens();
        let (tokens, logits) = match self.request.prompt.get(self.read..) {
            Some(unread) if !unread.is_empty() => (unread[..count].to_vec(), Logits::Last),
            _ => {
                let last = *self.seen.last().ok_or(WriteError::Empty)?;
                self.guessed = self.guess();
                let guessed = self.guessed.iter().copied();
                (std::iter::once(last).chain(guessed).collect(), Logits::All)
            }
        };
        if self.reads() {
            self.read += tokens.len();
            self.seen.extend(&tokens);
        }
        let cache = std::mem::take(&mut self.cache);
        let feed = Feed { cache, input: Input::Tokens(tokens), logits };
        self.run = Some(DecoderRun::start(&self.model, vec![feed])?);
        self.last = None;
        Ok(())
    }

    /// As many guesses as asked for, all of them tokens of the model.
    fn guess(&mut self) -> Vec<u32> {
        let (count, vocab) = (self.request.draft, self.model.config().vocab);
        let mut guessed =
            if count == 0 { Vec::new() } else { self.drafter.draft(&self.seen, count) };
        guessed.resize(count, 0);
        guessed.iter_mut().filter(|token| **token >= vocab).for_each(|token| *token = 0);
        guessed
    }

    /// Takes the finished run's cache and chooses the tokens that follow, as far as the guesses were right.
    fn take(&mut self) {
        let fed = self.run.take().and_then(DecoderRun::into_output).and_then(|mut f| f.pop());
        let Some(fed) = fed else { return };
        self.cache = fed.cache;
        if self.reads() {
            self.last = Some(vec![Written::Read]);
            return;
        }
        let Output::Logits(logits) = fed.output else { return };
        self.given += 1;
        let guessed = std::mem::take(&mut self.guessed);
        // The last row's choice comes after everything that was fed.
        let first = self.cache.len() - guessed.len();
        let vocab = self.model.config().vocab as usize;
        let mut written = Vec::new();
        for (row, logits) in logits.chunks_exact(vocab).enumerate() {
            if self.is_over() {
                break;
            }
            let WriteRequest { sampling, seed, .. } = &self.request;
            let token = choose(&self.model, logits, sampling, seed, first + row).unwrap_or(0);
            self.ended = self.model.special().ends.contains(&token);
            self.chosen += 1;
            self.seen.push(token);
            written.push(if self.ended { Written::End(token) } else { Written::Token(token) });
            if guessed.get(row) != Some(&token) {
                break;
            }
        }
        if written.is_empty() {
            written.push(Written::Padding);
        }
        // Everything but the last token is known; a pass of padding leaves nothing behind.
        let known = self.seen.len() - 1;
        let _ = self.cache.truncate(known.min(self.cache.len()));
        self.last = Some(written);
    }
}
