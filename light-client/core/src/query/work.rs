//! What a query computes: vectors or classes of texts, the continuation of one, or classes of images.

use nesa_masked::{
    Run,
    batch::{Plan, text_passes},
    client::Pass,
    images::ImagePlan,
};
use nesa_model::{Embedding, EncoderRun, Model, TokenIds, decoder::WriteRequest};
use nesa_platform::MaybeSend;
use nesa_primitives::Hash;

use super::{
    QueryError, TextInput,
    engine::{SharedCodec, TextEngine},
    reading::Reader,
    report::{Answer, Classified, Content},
};

/// The computation of a query.
pub(crate) enum Work {
    /// What an encoder makes of each text: a vector, or the logits of its classes.
    Read { texts: Vec<TokenIds>, plan: Plan },
    /// One text.
    Write { request: WriteRequest, codec: SharedCodec },
    /// The class of each image.
    Classify { images: Vec<Vec<u8>>, plan: ImagePlan },
}

impl Work {
    /// Vectors of `texts`.
    pub(crate) async fn embed(
        model: &Model,
        texts: &[String],
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        let inputs: Vec<_> = texts.iter().map(TextInput::single).collect();
        Self::read(model, &inputs, engine).await
    }

    /// What an encoder makes of texts.
    pub(super) async fn read(
        model: &Model,
        inputs: &[TextInput],
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        let texts = Reader::open(model, engine).await?.read(inputs).await?;
        let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
        let plan = Plan::new(&lengths)?;
        Ok(Self::Read { texts, plan })
    }

    /// Padded tokens of each pass, of all that there may be.
    pub(super) fn passes(&self) -> Vec<u32> {
        match self {
            Self::Read { plan, .. } => plan.passes.iter().map(|pass| pass.tokens).collect(),
            Self::Write { request, .. } => text_passes(request),
            Self::Classify { plan, .. } => plan.passes(),
        }
    }

    /// Tokens that come one after another, each through every stage.
    pub(super) fn written(&self) -> u32 {
        match self {
            Self::Read { .. } | Self::Classify { .. } => 0,
            Self::Write { request, .. } => request.tokens as u32,
        }
    }

    /// Texts or images, and the places of those that were cut at the model's limit.
    pub(super) fn texts(&self) -> (usize, Vec<usize>) {
        match self {
            Self::Read { texts, .. } => {
                let cut = (0..texts.len()).filter(|i| texts[*i].truncated).collect();
                (texts.len(), cut)
            }
            Self::Write { .. } => (1, Vec::new()),
            Self::Classify { images, .. } => (images.len(), Vec::new()),
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
    /// Works off what was taken, where that takes time; all of it after the `last` pass.
    fn flush(&mut self, last: bool) -> impl Future<Output = Result<(), QueryError>> + MaybeSend {
        let _ = last;
        std::future::ready(Ok(()))
    }
    /// The guesses that went with the passes, where they do not follow from what was asked.
    fn guesses(&self) -> Option<Vec<u32>> {
        None
    }
    /// The answer, once the last pass is done and flushed.
    fn answer(self, model: &Hash) -> Result<Answer, QueryError>;
}

/// Vectors or logits: outputs come pass by pass, and the plan says which text each belongs to.
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
        let labels = self.model.labels();
        if labels.is_empty() {
            return Ok(Answer::new(model, Content::Vectors(vectors)));
        }
        let classes = vectors.into_iter().map(|text| Classified::new(text.values, labels));
        Ok(Answer::new(model, Content::Classes(classes.collect())))
    }
}
