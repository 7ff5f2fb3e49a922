//! Who guesses the tokens of a text, and how a receipt keeps the guesses.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nesa_model::decoder::{DecoderModel, DraftError, DraftModel, Drafter, Repeats, WriteRequest};

/// Guesses in the order made, all passes one after another: what a receipt keeps, and is replayed from.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Reel>>);

#[derive(Default)]
struct Reel {
    guesses: VecDeque<u32>,
    /// More were wanted than there were.
    short: bool,
}

impl Tape {
    pub(crate) fn of(guesses: &[u32]) -> Self {
        let guesses = guesses.iter().copied().collect();
        Self(Arc::new(Mutex::new(Reel { guesses, short: false })))
    }

    /// Whether a replay took all of it, and no more.
    pub(crate) fn is_used_up(&self) -> bool {
        let reel = self.reel();
        reel.guesses.is_empty() && !reel.short
    }

    fn reel(&self) -> MutexGuard<'_, Reel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who guesses.
pub(crate) enum Drafts {
    /// What was written before.
    Repeats,
    /// A model on this device; its guesses are kept.
    Model(DecoderModel, Tape),
    /// Guesses that were kept.
    Replay(Tape),
}

impl Drafts {
    /// Those of a query: of a model, if one is named.
    pub(crate) fn of(model: Option<&DecoderModel>) -> Self {
        model.map_or(Self::Repeats, |model| Self::Model(model.clone(), Tape::default()))
    }

    pub(super) fn drafter(
        &self,
        model: &DecoderModel,
        request: &WriteRequest,
    ) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(match self {
            Self::Repeats => Box::new(Repeats),
            Self::Model(draft, tape) => {
                let from = DraftModel::new(draft, model, request.sampling, request.seed)?;
                Box::new(Recorder { from, tape: tape.clone() })
            }
            Self::Replay(tape) => Box::new(Player(tape.clone())),
        })
    }

    /// The guesses made so far, where they do not follow from what was asked.
    pub(super) fn kept(&self) -> Option<Vec<u32>> {
        let Self::Model(_, tape) = self else { return None };
        Some(tape.reel().guesses.iter().copied().collect())
    }
}

struct Recorder {
    from: DraftModel,
    tape: Tape,
}

impl Drafter for Recorder {
    fn draft(&mut self, seen: &[u32], count: usize) -> Vec<u32> {
        let guesses = self.from.draft(seen, count);
        self.tape.reel().guesses.extend(&guesses);
        guesses
    }
}

struct Player(Tape);

impl Drafter for Player {
    fn draft(&mut self, _: &[u32], count: usize) -> Vec<u32> {
        let mut reel = self.0.reel();
        let there = count.min(reel.guesses.len());
        reel.short |= there < count;
        reel.guesses.drain(..there).collect()
    }
}
