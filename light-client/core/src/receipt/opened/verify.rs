//! Checking an opened receipt: every layer again, under a fresh r.

use nesa_chain::{action::Action, tx::SignedTx};
use nesa_masked::{
    Run as _, RunStep, freivalds,
    message::Slot,
    preparation::Preparation,
    spec::{self, Lane},
};
use nesa_model::{ExactModel, StageId};
use nesa_platform::{random, task};
use nesa_primitives::{Hash, decode_exact};
use nesa_verify::receipt::{Check, Failure, Report};
use std::collections::VecDeque;

use super::{OpenedMessage, OpenedReceipt, OpenedSummary, servers::Servers, stage::StageCheck};
use crate::query::{
    Prompt, QueryError,
    classify::{Classes, from_committed},
    classify_text, commitment,
    drafts::{Drafts, Tape},
    engine::{self, TextEngine},
    report::{Answer, Listener},
    text::Text,
    work::{Gather, Vectors, Work},
};

/// What an opened receipt does not show, whatever its checks say.
const DOES_NOT_SHOW: [&str; 3] = [
    "that the payment was settled: the payment receipt shows that",
    "that the operators of the two nodes are different people, or did not pool their halves",
    "when the texts were written, or by whom: only that the payer committed to them",
];

impl OpenedReceipt {
    /// Checks everything again with `model` (weights included) and a fresh r, against the chain
    /// whose trust root has the digest `chain`.
    ///
    /// # Errors
    /// [`Failure`] names the first thing that does not hold.
    pub async fn verify(
        &self,
        chain: &Hash,
        model: &ExactModel,
    ) -> Result<Report<OpenedSummary>, Failure> {
        self.verify_with(chain, model, engine::built_in().as_deref()).await
    }

    /// As [`OpenedReceipt::verify`], with an engine for the tokenizers that models bring.
    ///
    /// # Errors
    /// As [`OpenedReceipt::verify`].
    pub async fn verify_with(
        &self,
        chain: &Hash,
        model: &ExactModel,
        text: Option<&dyn TextEngine>,
    ) -> Result<Report<OpenedSummary>, Failure> {
        let mut checks = Vec::new();
        let mut note = |what: String| checks.push(Check { what });
        same("chain", self.chain, *chain)?;
        let signed = SignedTx::from_bytes(&self.payment.0)
            .map_err(|error| Failure::new("payment", error, "a signed transaction"))?;
        same("chain of the payment", signed.tx.chain, *chain)?;
        signed
            .verify()
            .map_err(|error| Failure::new("payment's signature", error, "the payer's"))?;
        let query = signed.id();
        let Action::PayForQuery(pay) = &signed.tx.action else {
            return Err(Failure::new("payment", signed.tx.action.name(), "pay-for-query"));
        };
        same("model", model.digest(), pay.model)?;
        note(format!("{} paid for query {query}", signed.tx.sender));
        same("commitment", commitment(chain, &self.salt, &pay.model, &self.texts), pay.commitment)?;
        note(format!("the payment commits to exactly these {} texts", self.texts.len()));

        let servers = self.check_servers(chain, &query)?;
        let lane = Lane::of_model(model.served_stages())
            .map_err(|error| Failure::new("model", error, "a model of the masked lane"))?;
        let preparation = Preparation::from_weights(
            pay.model,
            &lane,
            |stage| model.weights(StageId(stage)),
            &mut random::rng(),
        )
        .map_err(|error| Failure::new("weights", error, "those of the model's digest"))?;
        note("the model's weights match its digest and bounds".into());

        let replay = Replay {
            chain,
            query: &query,
            servers: &servers,
            lane: &lane,
            preparation: &preparation,
            model,
        };
        let unfit = |error: QueryError| Failure::new("texts", error, "texts the model takes");
        let messages = &self.messages;
        self.check_guesses(model)?;
        let (answer, products) = match model {
            ExactModel::Encoder(encoder) => {
                let work = if encoder.labels().is_empty() {
                    Work::embed(encoder, &self.texts, text).await
                } else {
                    let texts = classify_text::from_committed(&self.texts);
                    let texts = texts.ok_or_else(not_committed)?;
                    Work::classify_texts(encoder, &texts, text).await
                };
                let work = work.map_err(unfit)?;
                let Work::Read { texts, plan } = &work else { return Err(not_committed()) };
                replay.run(Vectors::new(encoder, texts, plan), messages).await?
            }
            ExactModel::Decoder(decoder) => {
                let prompt = Prompt::from_committed(&self.texts).ok_or_else(not_committed)?;
                let work = Work::write(decoder, &prompt, text).await.map_err(unfit)?;
                let Work::Write { request, codec } = &work else { return Err(not_committed()) };
                let tape = self.guesses.as_deref().map(Tape::of);
                let drafts = tape.clone().map_or(Drafts::Repeats, Drafts::Replay);
                let text = Text::new(decoder, codec, request, drafts, Listener::none());
                let replayed = replay.run(text, messages).await?;
                if tape.is_some_and(|tape| !tape.is_used_up()) {
                    let expected = "as many as the passes took";
                    return Err(Failure::new("guesses", "another number", expected));
                }
                replayed
            }
            ExactModel::Classifier(classifier) => {
                let images = from_committed(&self.texts).ok_or_else(not_committed)?;
                let work = Work::classify(classifier, &images).map_err(unfit)?;
                let Work::Classify { images, plan } = &work else {
                    return Err(not_committed());
                };
                replay.run(Classes::new(classifier, images, plan), messages).await?
            }
        };
        note(format!("{products} products were recomputed; each is what its node signed"));
        note("every layer passed the range and Freivalds checks under a fresh r".into());
        same("answer", answer.digest, self.answer)?;
        note("the answer is what these layers give".into());
        let summary = OpenedSummary {
            query,
            model: pay.model,
            texts: self.texts.clone(),
            vectors: answer.vectors().iter().map(nesa_model::Embedding::to_f32).collect(),
            text: answer.text().map(|text| text.text.clone()),
            classes: answer.classes().to_vec(),
            products,
            nodes: servers.values().map(|server| server.node).collect(),
        };
        Ok(Report { checks, summary, does_not_show: DOES_NOT_SHOW.to_vec() })
    }
}

impl OpenedReceipt {
    /// Whether kept guesses are tokens, of a text that was to be guessed.
    fn check_guesses(&self, model: &ExactModel) -> Result<(), Failure> {
        let Some(guesses) = &self.guesses else { return Ok(()) };
        let draft = Prompt::from_committed(&self.texts).map_or(0, |prompt| prompt.draft);
        let ExactModel::Decoder(decoder) = model else {
            return Err(Failure::new("guesses", "some", "none: the model writes no text"));
        };
        if draft == 0 {
            return Err(Failure::new("guesses", "some", "none: the payment commits to no draft"));
        }
        let vocab = decoder.config().vocab;
        match guesses.iter().find(|guess| **guess >= vocab) {
            Some(guess) => Err(Failure::new("guesses", guess, format!("tokens below {vocab}"))),
            None => Ok(()),
        }
    }
}

fn not_committed() -> Failure {
    Failure::new("texts", "something else", "what the model's family commits to")
}

/// What every stage of a query is checked against.
struct Replay<'a> {
    chain: &'a Hash,
    query: &'a Hash,
    servers: &'a Servers,
    lane: &'a Lane,
    preparation: &'a Preparation,
    model: &'a ExactModel,
}

impl Replay<'_> {
    /// Runs all passes again; the answer, and how many products were recomputed.
    async fn run<G: Gather>(
        &self,
        mut gather: G,
        messages: &[OpenedMessage],
    ) -> Result<(Answer, usize), Failure> {
        let unfit = |error: QueryError| Failure::new("texts", error, "texts the model takes");
        let mut messages = messages.iter();
        let mut products = 0;
        let mut waiting = VecDeque::from(gather.passes().map_err(unfit)?);
        // A query that had to test a thin preparation first began with a pass of random rows, of
        // which nothing is recorded: the text's own passes are numbered behind it.
        let slot = messages.as_slice().first().map(|message| &message.slot.0);
        let slot = slot.and_then(|slot| decode_exact::<Slot>(slot, &()).ok());
        let first = slot.map_or(0, |slot| slot.pass.min(1));
        for number in first.. {
            let Some(mut pass) = waiting.pop_front() else { break };
            let output = loop {
                match pass.run.step() {
                    RunStep::Done(output) => break output,
                    RunStep::Linear { stage, x } => {
                        let y = self.stage(number, pass.tokens, stage, x, &mut messages)?;
                        products += 2 * usize::from(spec::parts(pass.tokens));
                        if !pass.run.resume(y) {
                            return Err(Failure::new("stage", stage, "the next product"));
                        }
                    }
                }
                task::yield_now().await;
            };
            gather.take(number - first, output).map_err(unfit)?;
            gather.flush(false).await.map_err(unfit)?;
            waiting.extend(pass.run.follow());
        }
        gather.flush(true).await.map_err(unfit)?;
        if messages.next().is_some() {
            return Err(Failure::new("messages", "more than the texts need", "exactly those"));
        }
        Ok((gather.answer(&self.model.digest()).map_err(unfit)?, products))
    }

    /// One stage: what both servers signed, recomputed, and their sum under this verifier's own r.
    fn stage<'m>(
        &self,
        pass: u32,
        tokens: u32,
        stage: u16,
        mut x: Vec<i32>,
        messages: &mut impl Iterator<Item = &'m OpenedMessage>,
    ) -> Result<Vec<i32>, Failure> {
        let place = self.lane.find(stage);
        let secrets = place.and_then(|(index, _)| self.preparation.stage(index));
        let (Some((_, spec)), Some(secrets)) = (place, secrets) else {
            return Err(Failure::new("stage", stage, "a stage of the model"));
        };
        let real = x.len() / spec.k as usize;
        // Padding rows are zero before masking, and were checked like any other.
        x.resize(tokens as usize * spec.k as usize, 0);
        let context = StageCheck {
            chain: self.chain,
            query: self.query,
            servers: self.servers,
            weights: self.model.weights(StageId(stage)),
            stage: *spec,
            pass,
            tokens,
        };
        let mut y = context.products(&x, messages)?;
        if !bool::from(freivalds::accepts(secrets, &x, &y)) {
            return Err(Failure::new(
                format!("range and Freivalds check of stage {stage}"),
                "refused",
                "accepted under this verifier's own r",
            ));
        }
        y.truncate(real * spec.n as usize);
        Ok(y)
    }
}

/// `got` must be `expected`; the failure says what was compared.
pub(super) fn same<T: PartialEq + std::fmt::Display>(
    what: &str,
    got: T,
    expected: T,
) -> Result<(), Failure> {
    if got == expected { Ok(()) } else { Err(Failure::new(what, got, expected)) }
}
