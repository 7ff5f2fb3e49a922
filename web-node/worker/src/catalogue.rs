//! The models that the network offers, and making one of them ready.
//!
//! What a model is called, costs and is served by is proven in state; what it does comes from its header,
//! which its digest names.

use std::{collections::BTreeSet, rc::Rc};

use nesa_chain::{
    action::Lane,
    keys,
    record::{ModelRecord, NodeSet},
};
use nesa_light::{
    models::{LoadProgress, Prepared},
    query::report::PreparationUsed,
};
use nesa_messages::{
    FloatOffer, FromWorker, ImageShape, ModelFamily, ModelOffer, ModelPhase, PreparationChoice,
    Problem, Unes,
};
use nesa_model::{Header, manifest::Manifest};
use nesa_primitives::{Hash, decode_exact};

use crate::{
    app::{App, Chain},
    digits, float,
    problem::{Shown as _, not_ready},
};

/// Models of a bootstrap that are looked at.
pub(crate) const MAX_OFFERED: usize = 32;

/// The names of lanes, as bits of a record.
fn lanes(bits: u32) -> Vec<String> {
    (0..u32::BITS)
        .map(|at| 1 << at)
        .filter(|bit| bits & bit != 0)
        .map(|bit| match bit {
            bit if bit == Lane::Masked.bit() => "masked".to_owned(),
            bit if bit == Lane::Sealed.bit() => "sealed".to_owned(),
            bit if bit == Lane::Float.bit() => "float".to_owned(),
            bit => format!("lane {bit}"),
        })
        .collect()
}

/// What a header says of a model.
fn describe(offer: &mut ModelOffer, header: &Header) {
    let manifest = header.manifest();
    offer.stages = manifest.stages().len() as u32;
    let local = (0..header.local_pieces()).filter_map(|piece| header.piece_len(piece));
    offer.thin_bytes = local.map(|bytes| bytes as u64).sum();
    match manifest {
        Manifest::Encoder(encoder) => {
            let classifies = !manifest.embeds();
            offer.family =
                if classifies { ModelFamily::TextClassifier } else { ModelFamily::Encoder };
            offer.context = encoder.encoder.max_tokens.into();
            offer.pairs = encoder.reading.pairs();
        }
        Manifest::Decoder(decoder) => {
            offer.family = ModelFamily::Decoder;
            offer.context = decoder.config.max_tokens;
            offer.layers = decoder.config.layers.into();
            offer.chat_template = decoder.config.template_bytes > 0;
        }
        Manifest::Classifier(classifier) => {
            let image = classifier.image;
            offer.family = ModelFamily::Classifier;
            offer.image = Some(ImageShape {
                channels: image.channels.into(),
                height: image.height.into(),
                width: image.width.into(),
                greatest: image.max_value,
                classes: 0,
            });
        }
    }
}

impl App {
    /// Proves the models offered and sends them. Called once connected, and when the page asks.
    pub(crate) async fn look_at_models(self: Rc<Self>) {
        match self.offers().await {
            Ok(models) => {
                self.catalogue.replace(models);
                self.send_models();
            }
            Err(problem) => self.port.fail(None, None, problem),
        }
    }

    pub(crate) fn send_models(&self) {
        let models = self.catalogue.borrow().clone();
        self.port.send(&FromWorker::Models { models });
    }

    async fn offers(&self) -> Result<Vec<ModelOffer>, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let mut wanted: Vec<Hash> = chain.offered.iter().map(keys::model).collect();
        wanted.push(keys::nodes());
        let proven = chain.light.prove(&wanted).await.map_err(|error| error.problem())?;
        let nodes = proven.value(&keys::nodes());
        let nodes = nodes.and_then(|bytes| decode_exact::<NodeSet>(bytes, &()).ok());
        let nodes = nodes.unwrap_or_default();
        let mut offers = Vec::new();
        for digest in &chain.offered {
            let record = proven.value(&keys::model(digest));
            let record = record.and_then(|bytes| decode_exact::<ModelRecord>(bytes, &()).ok());
            // The origin only hints: what the chain does not know is not offered.
            let Some(record) = record else { continue };
            let operators: BTreeSet<_> =
                nodes.serving(digest).map(|node| node.operator.0).collect();
            let mut offer = ModelOffer {
                digest: digest.to_string(),
                name: record.name.as_str().to_owned(),
                lanes: lanes(record.lanes),
                price_per_token: Unes(record.price_per_token.0),
                denom: record.denom.0,
                bytes: record.bytes,
                nodes: nodes.serving(digest).count() as u32,
                operators: operators.len() as u32,
                prepared: chain.queries.models().is_warm(digest).await,
                phase: self.phase_of(digest),
                ..ModelOffer::default()
            };
            if record.lanes == Lane::Float.bit() {
                // It has no header: what is known of it comes with the bootstrap.
                let unknown = || FloatOffer {
                    problem: Some("The origin of this page tells nothing of it.".to_owned()),
                    ..FloatOffer::default()
                };
                let card = chain.cards.get(digest).map(float::offer);
                (offer.family, offer.float) =
                    (ModelFamily::Float, Some(card.unwrap_or_else(unknown)));
                offers.push(offer);
                continue;
            }
            let header = chain.queries.models().header(digest, chain.queries.sources()).await;
            if let Ok(header) = header {
                describe(&mut offer, &header);
            }
            self.count_classes(digest, &mut offer);
            offers.push(offer);
        }
        Ok(offers)
    }

    fn count_classes(&self, digest: &Hash, offer: &mut ModelOffer) {
        let ready = self.ready.borrow();
        let shape = ready.get(digest).and_then(|ready| digits::shape(&ready.model));
        offer.image = shape.or(offer.image);
    }

    /// What a model offered is called.
    pub(crate) fn name_of(&self, digest: &str) -> String {
        let catalogue = self.catalogue.borrow();
        let known = catalogue.iter().find(|offer| offer.digest == digest);
        known.map(|offer| offer.name.clone()).unwrap_or_default()
    }

    /// Where a model's preparation stands in this worker.
    fn phase_of(&self, digest: &Hash) -> ModelPhase {
        if let Some(ready) = self.ready.borrow().get(digest) {
            return ready_phase(ready);
        }
        let digest = digest.to_string();
        let catalogue = self.catalogue.borrow();
        let known = catalogue.iter().find(|offer| offer.digest == digest);
        known.map(|offer| offer.phase.clone()).unwrap_or_default()
    }

    /// Notes that a model is ready.
    pub(crate) fn keep_ready(&self, prepared: &Prepared) {
        let digest = prepared.model.digest();
        self.ready.borrow_mut().insert(digest, prepared.clone());
        self.set_phase(&digest, ready_phase(prepared));
    }

    fn set_phase(&self, digest: &Hash, phase: ModelPhase) {
        let name = digest.to_string();
        let mut changed = false;
        for offer in self.catalogue.borrow_mut().iter_mut().filter(|offer| offer.digest == name) {
            changed |= offer.phase != phase;
            offer.phase = phase.clone();
            if let ModelPhase::Ready { thin, .. } = phase {
                offer.prepared |= !thin;
                self.count_classes(digest, offer);
            }
        }
        if changed {
            self.send_models();
        }
    }

    /// A model that is ready in this worker.
    pub(crate) fn ready_model(&self, digest: &str) -> Result<Option<Prepared>, Problem> {
        Ok(self.ready.borrow().get(&parse(digest)?).cloned())
    }

    pub(crate) async fn prepare_model(
        self: Rc<Self>,
        digest: String,
        preparation: Option<PreparationChoice>,
    ) {
        // What went wrong is in the model's phase, and told besides.
        if let Err(problem) = self.clone().ready_or_prepare(&digest, preparation).await {
            self.port.fail(None, None, problem);
        }
    }

    /// The model of this digest, if the network offers it.
    pub(crate) fn offered(&self, chain: &Chain, digest: &str) -> Result<Hash, Problem> {
        let model = parse(digest)?;
        if chain.offered.contains(&model) {
            return Ok(model);
        }
        Err(Problem::new(
            "unknown-model",
            "This network does not offer that model.",
            "Choose one of the models offered.",
        )
        .with(digest.chars().take(80).collect::<String>(), "a model of the list"))
    }

    /// A model, made ready first if it is not, or not in the way that was chosen.
    pub(crate) async fn ready_or_prepare(
        self: Rc<Self>,
        digest: &str,
        preparation: Option<PreparationChoice>,
    ) -> Result<Prepared, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let model = self.offered(&chain, digest)?;
        // One at a time: two would share the line and the processor.
        let _turn = self.preparing.lock().await;
        if let Some(ready) = self.ready.borrow().get(&model)
            && preparation.is_none_or(|wanted| wanted == preparation_of(ready))
        {
            return Ok(ready.clone());
        }
        let thin = preparation == Some(PreparationChoice::Thin);
        match self.clone().fetch(&chain, model, thin).await {
            Ok(prepared) => {
                self.keep_ready(&prepared);
                Ok(prepared)
            }
            Err(problem) => {
                self.set_phase(&model, ModelPhase::Failed { problem: problem.clone() });
                Err(problem)
            }
        }
    }

    async fn fetch(
        self: Rc<Self>,
        chain: &Chain,
        model: Hash,
        thin: bool,
    ) -> Result<Prepared, Problem> {
        let (record, _) = chain
            .light
            .record::<ModelRecord>(keys::model(&model), "model", 0)
            .await
            .map_err(|error| error.problem())?;
        if record.is_none() {
            return Err(Problem::new(
                "model-not-registered",
                "The chain does not know this model.",
                "Choose another one.",
            ));
        }
        let app = self.clone();
        let last = std::cell::Cell::new(None::<(u8, u64)>);
        let listener = move |progress: LoadProgress| {
            // Hundreds of pieces: tell the page about every hundredth part only.
            let (step, phase) = match progress {
                LoadProgress::Downloading { done, total } => {
                    ((0, done * 100 / total.max(1)), ModelPhase::Downloading { done, total })
                }
                LoadProgress::Preparing { done, total } => {
                    let (done, total) = (done as u32, total as u32);
                    let part = u64::from(done) * 100 / u64::from(total.max(1));
                    ((1, part), ModelPhase::Preparing { done, total })
                }
            };
            if last.replace(Some(step)) != Some(step) {
                app.set_phase(&model, phase);
            }
        };
        let queries = &chain.queries;
        if thin {
            let prepared = queries.prepare_thin(&model, &listener).await;
            return prepared.map_err(|error| error.problem());
        }
        let prepared = queries.models().prepare(&model, queries.sources(), &listener).await;
        prepared.map_err(|error| error.problem())
    }
}

/// Who prepared a model.
fn preparation_of(prepared: &Prepared) -> PreparationChoice {
    match PreparationUsed::of(&prepared.preparation) {
        PreparationUsed::Local => PreparationChoice::Local,
        PreparationUsed::Thin { .. } => PreparationChoice::Thin,
    }
}

fn ready_phase(prepared: &Prepared) -> ModelPhase {
    let thin = preparation_of(prepared) == PreparationChoice::Thin;
    ModelPhase::Ready { cached: prepared.cached, took_ms: prepared.ms, thin }
}

fn parse(digest: &str) -> Result<Hash, Problem> {
    digest.parse().map_err(|_| {
        Problem::new("unknown-model", "This is not the digest of a model.", "Choose a model.")
            .with(digest.chars().take(80).collect::<String>(), "64 hexadecimal digits")
    })
}
