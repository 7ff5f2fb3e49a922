//! What is in the input as a task, and whether it can go out.

use leptos::prelude::*;
use nesa_messages::{
    FloatTensor, Lane, LaneChoice, ModelFamily, ModelOffer, ModelPhase, NetworkPhase,
    PreparationChoice, Task, TaskKind, ToWorker, WalletState,
};
use nesa_page::{float, sealed};

use super::{App, QuoteState};
use crate::bridge;

/// Whether a query can go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Now.
    Open,
    /// By itself, once this is over; pressing the button already counts.
    Waiting(&'static str),
    /// Not before the user does something.
    Shut(&'static str),
}

/// A model up to this size is prepared as soon as its page opens, in bytes: the size of a few
/// photographs. A larger one waits until somebody types.
const SMALL_MODEL: u64 = 16_000_000;

impl App {
    /// The task in the input, if there is enough of one to be priced.
    pub(crate) fn task(self) -> Option<Task> {
        match self.mode.get() {
            TaskKind::Chat => self.chat_task(),
            TaskKind::Digit => {
                let model = self.model()?.digest;
                let image = self.drawing.with(|d| (!d.is_empty()).then(|| d.image().to_vec()))?;
                Some(Task::Digit { model, image })
            }
            TaskKind::Float => {
                let model = self.model()?.digest;
                let inputs = self.float_inputs()?.ok()?;
                Some(Task::Float { model, inputs, replicas: self.lane().replicas })
            }
            TaskKind::Classify => {
                let ModelOffer { digest: model, pairs, .. } = self.model()?;
                let given = |text: &str| Some(text.trim().to_owned()).filter(|t| !t.is_empty());
                let (text, pair) = self.draft.with(|d| (given(&d.text), given(&d.pair)));
                Some(Task::Classify { model, text: text?, pair: pair.filter(|_| pairs) })
            }
            TaskKind::Search | TaskKind::Embed => self.draft.with(|d| {
                (!d.documents.is_empty()).then(|| Task::Search {
                    documents: d.documents.clone(),
                    question: d.question.trim().to_owned(),
                })
            }),
        }
    }

    /// What a model of this page must do; `None` for a search, which has the worker's own.
    pub(crate) fn family(self) -> Option<ModelFamily> {
        match self.mode.get() {
            TaskKind::Chat => Some(ModelFamily::Decoder),
            TaskKind::Digit => Some(ModelFamily::Classifier),
            TaskKind::Float => Some(ModelFamily::Float),
            TaskKind::Classify => Some(ModelFamily::TextClassifier),
            TaskKind::Search | TaskKind::Embed => None,
        }
    }

    /// What is typed as inputs of the float model chosen, or in words what is wrong with it.
    pub(crate) fn float_inputs(self) -> Option<Result<Vec<FloatTensor>, String>> {
        let offer = self.model()?.float?;
        Some(self.draft.with(|d| float::parse(&d.float.text, &offer.inputs)))
    }

    /// The lane of this page with its parameters: chosen in a chat, masked everywhere else but for float
    /// models.
    pub(crate) fn lane(self) -> LaneChoice {
        match self.mode.get() {
            TaskKind::Chat => self.draft.with(|d| d.chat.lane),
            TaskKind::Float => {
                let replicas = self.draft.with(|d| d.float.replicas.clamp(2, 7));
                LaneChoice { lane: Lane::Float, replicas, ..LaneChoice::default() }
            }
            _ => LaneChoice::default(),
        }
    }

    /// Whether nodes will read what is sent from this page.
    pub(crate) fn sealed(self) -> bool {
        self.lane().lane != Lane::Masked
    }

    /// Changes the lane of the chat in the input.
    pub(crate) fn set_lane(self, change: impl FnOnce(&mut LaneChoice)) {
        self.armed.set(false);
        self.draft.update(|d| change(&mut d.chat.lane));
    }

    /// Who prepares a model on this page: whom the user chose, or else who saves a large download.
    pub(crate) fn preparation(self, model: &ModelOffer) -> PreparationChoice {
        let (chosen, sizes) = (self.lane().preparation, (model.bytes, SMALL_MODEL));
        match self.mode.get() {
            TaskKind::Chat => sealed::preparation(chosen, sizes, model.prepared, model.operators),
            _ => PreparationChoice::Local,
        }
    }

    /// The models that can do what this page is for, in the lane it uses.
    pub(crate) fn offers(self) -> Vec<ModelOffer> {
        let (family, lane) = (self.family(), self.lane().lane.name());
        let fits = |m: &&ModelOffer| Some(m.family) == family && m.lanes.iter().any(|l| l == lane);
        self.models.with(|all| all.iter().flatten().filter(fits).cloned().collect())
    }

    /// The model chosen for this page, the first of its kind if none was.
    pub(crate) fn model(self) -> Option<ModelOffer> {
        let chosen = match self.mode.get() {
            TaskKind::Chat => self.draft.with(|d| d.chat.model.clone()),
            TaskKind::Float => self.draft.with(|d| d.float.model.clone()),
            _ => self.reader.get(),
        };
        let offers = self.offers();
        let position = offers.iter().position(|m| Some(&m.digest) == chosen.as_ref());
        offers.into_iter().nth(position.unwrap_or(0))
    }

    /// How far the model of this page is.
    pub(crate) fn model_phase(self) -> ModelPhase {
        match self.family() {
            // A committee needs nothing of the model here but what the worker fetches by the way.
            Some(_) if self.sealed() => match self.model() {
                Some(_) => ModelPhase::Ready { cached: true, took_ms: 0.0, thin: false },
                None => ModelPhase::Waiting,
            },
            Some(_) => match self.model() {
                Some(model) => self.phase_of(&model),
                None => ModelPhase::Waiting,
            },
            None => self.status.with(|s| s.model_phase.clone()),
        }
    }

    /// How far a model is in the preparation that this page wants.
    pub(crate) fn phase_of(self, model: &ModelOffer) -> ModelPhase {
        let thin = self.preparation(model) == PreparationChoice::Thin;
        match &model.phase {
            ModelPhase::Ready { thin: other, .. } if *other != thin => ModelPhase::Waiting,
            phase => phase.clone(),
        }
    }

    /// Has the chosen model prepared, once: a small or kept one at once, a large one when there is
    /// something to ask it.
    pub(crate) fn prepare_when_due(self) {
        if self.sealed() {
            return;
        }
        let Some(model) = self.model() else { return };
        let due = model.prepared || model.bytes <= SMALL_MODEL || self.task().is_some();
        let live = self.status.with(|s| s.network == NetworkPhase::Live);
        if due && live && self.phase_of(&model) == ModelPhase::Waiting {
            let preparation = self.preparation(&model);
            self.prepare(model.digest, preparation);
        }
    }

    /// Has a model prepared unless that was the last thing this visit asked of it.
    fn prepare(self, model: String, preparation: PreparationChoice) {
        if self.wanted.with_untracked(|w| w.get(&model) == Some(&preparation)) {
            return;
        }
        self.wanted.update(|w| {
            w.insert(model.clone(), preparation);
        });
        bridge::send(&ToWorker::PrepareModel { model, preparation: Some(preparation) });
    }

    /// Has a model that could not be checked prepared again.
    pub(crate) fn prepare_again(self, model: &ModelOffer) {
        self.wanted.update(|w| {
            w.remove(&model.digest);
        });
        let preparation = untrack(|| self.preparation(model));
        self.prepare(model.digest.clone(), preparation);
    }

    /// Whether the query can go out now, and if not, why.
    pub(crate) fn gate(self) -> Gate {
        if let Some(why) = self.missing() {
            return Gate::Shut(why);
        }
        match (self.status.with(|s| s.network.clone()), self.model_phase()) {
            (NetworkPhase::Offline { .. }, _) => {
                return Gate::Waiting("Offline: it goes out when the network is back.");
            }
            (NetworkPhase::Refused { .. }, _) => return Gate::Shut("This network was refused."),
            (NetworkPhase::Live, ModelPhase::Ready { .. }) => {}
            (NetworkPhase::Live, ModelPhase::Failed { .. }) => {
                return Gate::Shut("The model could not be checked.");
            }
            (NetworkPhase::Live, _) => return Gate::Waiting("Getting ready to check answers…"),
            _ => return Gate::Waiting("Still connecting…"),
        }
        let faucet = self.status.with(|s| s.identity.as_ref().is_some_and(|i| i.faucet));
        match self.wallet.with(|w| w.state) {
            WalletState::Ready => {}
            WalletState::Unknown => return Gate::Waiting("Looking for your wallet…"),
            WalletState::Locked => return Gate::Shut("Unlock your wallet first."),
            WalletState::Absent if faucet => {
                return Gate::Waiting(
                    "Sending makes a wallet on this device and takes test NES from the faucet.",
                );
            }
            WalletState::Absent => return Gate::Shut("A wallet is needed to pay the nodes."),
        }
        match self.quote.get() {
            QuoteState::Failed(_) => Gate::Shut("This cannot be priced."),
            _ if !self.priced.get() => Gate::Waiting("Working out the price…"),
            QuoteState::Ready(quote) if quote.affordable => Gate::Open,
            QuoteState::Ready(_) if faucet => {
                Gate::Waiting("Sending takes test NES from the faucet first.")
            }
            QuoteState::Ready(_) => Gate::Shut("Not enough NES for this."),
            QuoteState::Asking | QuoteState::Nothing => Gate::Waiting("Working out the price…"),
        }
    }

    /// What the user has yet to give.
    fn missing(self) -> Option<&'static str> {
        let none = || self.models.with(Option::is_some) && self.model().is_none();
        match self.mode.get() {
            TaskKind::Chat if self.running().is_some() => {
                Some("The answer is being written. Esc stops it.")
            }
            TaskKind::Chat if none() => Some("No model here writes text."),
            TaskKind::Chat if !self.has_message() => Some("Write a message."),
            TaskKind::Digit if none() => Some("No model here reads digits."),
            TaskKind::Digit if self.drawing.with(|d| d.is_empty()) => Some("Draw a digit first."),
            TaskKind::Float if none() => Some("No model here runs in floats."),
            TaskKind::Float => match self.float_inputs() {
                Some(Err(_)) => Some("The inputs do not fit the model."),
                _ => self
                    .model()
                    .and_then(|m| m.float?.problem)
                    .map(|_| "This model cannot be compared."),
            },
            TaskKind::Classify if none() => Some("No model here classifies texts."),
            TaskKind::Classify if self.draft.with(|d| d.text.trim().is_empty()) => {
                Some("Write or paste a text.")
            }
            TaskKind::Chat | TaskKind::Digit | TaskKind::Classify => None,
            _ if self.draft.with(|d| d.documents.is_empty()) => Some("Add a document first."),
            _ if self.draft.with(|d| d.question.trim().is_empty()) => Some("Ask a question."),
            _ => None,
        }
    }
}
