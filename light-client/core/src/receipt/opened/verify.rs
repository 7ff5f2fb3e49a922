//! Checking an opened receipt: every layer again, under a fresh r.

use nesa_chain::{action::Action, tx::SignedTx};
use nesa_masked::{batch::Plan, freivalds, preparation::Preparation, spec::Lane};
use nesa_model::{EncoderRun, Model, Step};
use nesa_platform::{random, task};
use nesa_primitives::Hash;
use nesa_verify::receipt::{Check, Failure, Report};

use super::{OpenedReceipt, OpenedSummary, stage::StageCheck};
use crate::query::{answer_digest, commitment};

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
        model: &Model,
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
        let lane = Lane::of_model(model.stages())
            .map_err(|error| Failure::new("model", error, "a model of the masked lane"))?;
        let preparation = Preparation::from_weights(
            pay.model,
            &lane,
            |stage| model.weights(nesa_model::StageId(stage)),
            &mut random::rng(),
        )
        .map_err(|error| Failure::new("weights", error, "those of the model's digest"))?;
        note("the model's weights match its digest and bounds".into());

        let tokens: Vec<_> = self.texts.iter().map(|t| model.tokenizer().encode(t)).collect();
        let lengths: Vec<usize> = tokens.iter().map(|t| t.len()).collect();
        let plan = Plan::new(&lengths)
            .map_err(|error| Failure::new("texts", error, "texts that can be sent"))?;
        let mut messages = self.messages.iter();
        let mut vectors = vec![None; self.texts.len()];
        let mut products = 0;
        for (number, pass) in plan.passes.iter().enumerate() {
            let batch: Vec<_> = pass.members.iter().map(|m| tokens[*m].clone()).collect();
            let real: usize = batch.iter().map(|t| t.len()).sum();
            let mut run = EncoderRun::start(model, &batch)
                .map_err(|error| Failure::new("texts", error, "texts the model takes"))?;
            let output = loop {
                match run.step() {
                    Step::Done(output) => break output,
                    Step::Linear { stage, mut x, .. } => {
                        let place = lane.find(stage.0);
                        let secrets = place.and_then(|(index, _)| preparation.stage(index));
                        let (Some((_, spec)), Some(secrets)) = (place, secrets) else {
                            return Err(Failure::new("stage", stage, "a stage of the model"));
                        };
                        // Padding rows are zero before masking, and were checked like any other.
                        x.resize(pass.tokens as usize * spec.k as usize, 0);
                        let context = StageCheck {
                            chain,
                            query: &query,
                            servers: &servers,
                            weights: model.weights(stage),
                            stage: *spec,
                            pass: number as u32,
                            tokens: pass.tokens,
                        };
                        let mut y = context.products(&x, &mut messages, &mut products)?;
                        if !bool::from(freivalds::accepts(secrets, &x, &y)) {
                            return Err(Failure::new(
                                format!("range and Freivalds check of stage {stage}"),
                                "refused",
                                "accepted under this verifier's own r",
                            ));
                        }
                        y.truncate(real * spec.n as usize);
                        run.resume(y)
                            .map_err(|error| Failure::new("stage", error, "the next product"))?;
                    }
                }
                task::yield_now().await;
            };
            for (member, vector) in pass.members.iter().zip(output) {
                vectors[*member] = Some(vector);
            }
        }
        if messages.next().is_some() {
            return Err(Failure::new("messages", "more than the texts need", "exactly those"));
        }
        note(format!("{products} products were recomputed; each is what its node signed"));
        note("every layer passed the range and Freivalds checks under a fresh r".into());
        let vectors: Vec<_> = vectors.into_iter().flatten().collect();
        same("answer", answer_digest(&pay.model, &vectors), self.answer)?;
        note("the answer is what these layers give".into());
        let summary = OpenedSummary {
            query,
            model: pay.model,
            texts: self.texts.clone(),
            vectors: vectors.iter().map(nesa_model::Embedding::to_f32).collect(),
            products,
            nodes: servers.values().map(|server| server.node).collect(),
        };
        Ok(Report { checks, summary, does_not_show: DOES_NOT_SHOW.to_vec() })
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
