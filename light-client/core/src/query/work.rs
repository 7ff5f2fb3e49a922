//! What a query computes: vectors of texts, or the continuation of one.

use nesa_kernels::sample::Sampling;
use nesa_masked::{
    Run,
    batch::{PROMPT_PIECE, Plan, TEXT_BUCKET, text_passes},
    client::Pass,
};
use nesa_model::{
    Embedding, EncoderRun, Model, TokenIds,
    decoder::{DecoderModel, SAMPLING_SEED_BYTES, WriteRequest, Writing, Written},
};
use nesa_primitives::Hash;
use nesa_tokenizer::{TextStream, TextTokenizer};
use serde::{Deserialize, Serialize};

use super::{
    MAX_TEXTS, QueryError,
    report::{Answer, Content, Listener, Progress, WrittenText},
};

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
}

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
        Some(Self { text: text.clone(), tokens: p.tokens, sampling, seed })
    }
}

/// The computation of a query.
pub(crate) enum Work {
    /// One vector per text.
    Embed { texts: Vec<TokenIds>, plan: Plan },
    /// One text.
    Write { request: WriteRequest },
}

impl Work {
    /// Vectors of `texts`.
    pub(crate) fn embed(model: &Model, texts: &[String]) -> Result<Self, QueryError> {
        if texts.is_empty() || texts.len() > MAX_TEXTS {
            return Err(QueryError::Texts { got: texts.len() });
        }
        let texts: Vec<_> = texts.iter().map(|text| model.tokenizer().encode(text)).collect();
        let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
        let plan = Plan::new(&lengths)?;
        Ok(Self::Embed { texts, plan })
    }

    /// The continuation of `prompt`.
    pub(crate) fn write(
        model: &DecoderModel,
        tokenizer: &TextTokenizer,
        prompt: &Prompt,
    ) -> Result<Self, QueryError> {
        let request = WriteRequest {
            prompt: tokenizer.encode(&prompt.text, true)?,
            tokens: prompt.tokens,
            sampling: prompt.sampling,
            seed: prompt.seed,
            pad_to: TEXT_BUCKET,
            piece: PROMPT_PIECE,
        };
        // Refused before anything is paid.
        Writing::start(model, request.clone())?;
        Ok(Self::Write { request })
    }

    /// Padded tokens of each pass, of all that there may be.
    pub(super) fn passes(&self) -> Vec<u32> {
        match self {
            Self::Embed { plan, .. } => plan.passes.iter().map(|pass| pass.tokens).collect(),
            Self::Write { request } => text_passes(request),
        }
    }

    /// Tokens that come one after another, each through every stage.
    pub(super) fn written(&self) -> u32 {
        match self {
            Self::Embed { .. } => 0,
            Self::Write { request } => request.tokens as u32,
        }
    }

    /// Texts, and the places of those that were cut at the model's limit.
    pub(super) fn texts(&self) -> (usize, Vec<usize>) {
        match self {
            Self::Embed { texts, .. } => {
                let cut = (0..texts.len()).filter(|i| texts[*i].truncated).collect();
                (texts.len(), cut)
            }
            Self::Write { .. } => (1, Vec::new()),
        }
    }
}

/// Takes what passes give, and makes the answer of it.
pub(crate) trait Gather {
    /// What computes a pass.
    type Run: Run;
    /// The passes to begin with.
    fn passes(&self) -> Result<Vec<Pass<Self::Run>>, QueryError>;
    /// Takes what a pass gave.
    fn take(&mut self, pass: u32, output: <Self::Run as Run>::Output) -> Result<(), QueryError>;
    /// The answer, once the last pass is done.
    fn answer(self, model: &Hash) -> Result<Answer, QueryError>;
}

/// Vectors: outputs come pass by pass, and the plan says which text each belongs to.
pub(crate) struct Vectors<'a> {
    model: &'a Model,
    texts: &'a [TokenIds],
    plan: &'a Plan,
    vectors: Vec<Option<Embedding>>,
}

impl<'a> Vectors<'a> {
    pub(crate) fn new(model: &'a Model, texts: &'a [TokenIds], plan: &'a Plan) -> Self {
        Self { model, texts, plan, vectors: vec![None; texts.len()] }
    }
}

impl Gather for Vectors<'_> {
    type Run = EncoderRun;

    fn passes(&self) -> Result<Vec<Pass<EncoderRun>>, QueryError> {
        let pass = |pass: &nesa_masked::batch::PassPlan| {
            let batch: Vec<_> = pass.members.iter().map(|m| self.texts[*m].clone()).collect();
            Ok(Pass { run: EncoderRun::start(self.model, &batch)?, tokens: pass.tokens })
        };
        self.plan.passes.iter().map(pass).collect()
    }

    fn take(&mut self, pass: u32, output: Vec<Embedding>) -> Result<(), QueryError> {
        let members = self.plan.passes.get(pass as usize).map(|pass| &pass.members);
        for (member, vector) in members.into_iter().flatten().zip(output) {
            if let Some(slot) = self.vectors.get_mut(*member) {
                *slot = Some(vector);
            }
        }
        Ok(())
    }

    fn answer(self, model: &Hash) -> Result<Answer, QueryError> {
        let vectors: Vec<Embedding> = self.vectors.into_iter().flatten().collect();
        if vectors.len() != self.texts.len() {
            return Err(QueryError::Texts { got: vectors.len() });
        }
        Ok(Answer::new(model, Content::Vectors(vectors)))
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

    fn take(&mut self, _: u32, output: Option<Written>) -> Result<(), QueryError> {
        match output {
            Some(Written::Token(token)) => {
                self.tokens.push(token);
                let piece = self.stream.push(token)?;
                self.text.push_str(&piece);
                self.listener.say(Progress::Text { piece, tokens: self.tokens.len() });
            }
            Some(Written::End(_)) => self.ended = true,
            Some(Written::Read | Written::Padding) | None => {}
        }
        Ok(())
    }

    fn answer(mut self, model: &Hash) -> Result<Answer, QueryError> {
        self.text.push_str(&self.stream.finish()?);
        let (text, tokens, ended) = (self.text, self.tokens, self.ended);
        Ok(Answer::new(model, Content::Text(WrittenText { text, tokens, ended })))
    }
}
