//! Guessing what a model will choose next, so that a pass can check several tokens at once.
//!
//! A guess decides nothing: tokens are chosen from the model's own logits, by seed and position, and a
//! wrong guess is forgotten. So a drafter may be anything, a stranger's model too; it only has to be
//! right often. Drafting by a smaller model after Leviathan et al., [arXiv 2211.17192], with one
//! difference: both models draw *the same* random number at a position, so a draft is right wherever
//! their choices are the same, and no rejection sampling is needed to keep the text what it would be.
//!
//! [arXiv 2211.17192]: https://arxiv.org/abs/2211.17192

use nesa_kernels::sample::Sampling;
use thiserror::Error;

use super::{
    DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output, SAMPLING_SEED_BYTES, choose,
};
use crate::PlainDecoder;

/// Where guesses come from.
pub trait Drafter: Send {
    /// What may follow `seen`: `count` tokens. Fewer are filled up, more are cut off.
    fn draft(&mut self, seen: &[u32], count: usize) -> Vec<u32>;
}

/// Guesses what followed the last few tokens where they occurred before, most lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats;

/// Tokens of context that [`Repeats`] looks for, the longest first.
const CONTEXT: usize = 3;

impl Drafter for Repeats {
    fn draft(&mut self, seen: &[u32], count: usize) -> Vec<u32> {
        let mut all = seen.to_vec();
        for _ in 0..count {
            let next = (1..=CONTEXT.min(all.len())).rev().find_map(|length| {
                let (before, ending) = (&all[..all.len() - 1], &all[all.len() - length..]);
                let at = before.windows(length).rposition(|window| window == ending)?;
                all.get(at + length).copied()
            });
            all.push(next.or(all.last().copied()).unwrap_or_default());
        }
        all.split_off(seen.len())
    }
}

/// A model that cannot draft for another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DraftError {
    /// It is a shard, or its weights are elsewhere.
    #[error("{draft} cannot draft: only a whole model with its weights on this machine can")]
    Partial {
        /// The draft model's name.
        draft: String,
    },
    /// Its tokens mean something else.
    #[error(
        "{draft} cannot draft for {model}: its tokenizer ({got} tokens) is not the same file ({expected} tokens)"
    )]
    Tokenizer {
        /// The draft model's name.
        draft: String,
        /// The model's name.
        model: String,
        /// Tokens of the draft model.
        got: u32,
        /// Tokens of the model.
        expected: u32,
    },
}

/// Most tokens that a draft model reads at once, so that its memory does not grow with the prompt.
const PIECE: usize = 256;

/// A smaller model of the same tokenizer that writes ahead on this machine. Where its context ends,
/// [`Repeats`] goes on.
pub struct DraftModel {
    model: DecoderModel,
    sampling: Sampling,
    seed: [u8; SAMPLING_SEED_BYTES],
    cache: KvCache,
    /// The tokens that the cache has seen.
    known: Vec<u32>,
    /// Tokens read so far, read again or not.
    read: usize,
}

// What it has seen is secret.
impl std::fmt::Debug for DraftModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DraftModel({}, {} tokens read)", self.model.name(), self.read)
    }
}

impl DraftModel {
    /// `draft` guesses for `model`, whose text is sampled by `sampling` and `seed`.
    ///
    /// # Errors
    /// [`DraftError`] when it is no whole model, or has another tokenizer.
    pub fn new(
        draft: &DecoderModel,
        model: &DecoderModel,
        sampling: Sampling,
        seed: [u8; SAMPLING_SEED_BYTES],
    ) -> Result<Self, DraftError> {
        let name = |model: &DecoderModel| model.name().to_owned();
        if !draft.takes_tokens() || !draft.gives_logits() || !draft.has_weights() {
            return Err(DraftError::Partial { draft: name(draft) });
        }
        let (got, expected) = (draft.config().vocab, model.config().vocab);
        if got != expected || draft.tokenizer() != model.tokenizer() {
            let (draft, model) = (name(draft), name(model));
            return Err(DraftError::Tokenizer { draft, model, got, expected });
        }
        let (cache, known) = (KvCache::new(), Vec::new());
        Ok(Self { model: draft.clone(), sampling, seed, cache, known, read: 0 })
    }

    /// Reads `tokens` and chooses what follows them.
    fn feed(&mut self, tokens: &[u32]) -> Option<u32> {
        let mut logits = Vec::new();
        self.read += tokens.len();
        for piece in tokens.chunks(PIECE) {
            let cache = std::mem::take(&mut self.cache);
            let feed = Feed { cache, input: Input::Tokens(piece.to_vec()), logits: Logits::Last };
            let run = DecoderRun::start(&self.model, vec![feed]).ok()?;
            let fed = run.run(&PlainDecoder(&self.model)).ok()?.pop()?;
            self.cache = fed.cache;
            let Output::Logits(last) = fed.output else { return None };
            logits = last;
        }
        choose(&self.model, &logits, &self.sampling, &self.seed, self.cache.len())
    }

    fn write(&mut self, seen: &[u32], count: usize) -> Option<Vec<u32>> {
        let max = self.model.config().max_tokens as usize;
        if seen.is_empty() || count == 0 || seen.len().checked_add(count)? > max + 1 {
            return None;
        }
        let same = self.known.iter().zip(seen).take_while(|(a, b)| a == b).count();
        // A pass added one token, or as many as `count + 1` if its guesses were right. So many are always
        // read, whatever came true: whoever sees when messages come learns nothing from the time between.
        let same = same.min(seen.len().saturating_sub(count + 1));
        let mut all = std::mem::take(&mut self.known);
        if self.cache.truncate(same).is_err() {
            self.cache = KvCache::new();
            return None;
        }
        all.truncate(same);
        let mut next = &seen[same..];
        let (mut guesses, mut last) = (Vec::with_capacity(count), [0]);
        loop {
            let chosen = self.feed(next)?;
            all.extend_from_slice(next);
            guesses.push(chosen);
            if guesses.len() == count {
                self.known = all;
                return Some(guesses);
            }
            last[0] = chosen;
            next = &last[..];
        }
    }
}

impl Drafter for DraftModel {
    fn draft(&mut self, seen: &[u32], count: usize) -> Vec<u32> {
        self.write(seen, count).unwrap_or_else(|| {
            // The cache may have been lost on the way.
            (self.cache, self.known) = (KvCache::new(), Vec::new());
            Repeats.draft(seen, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::toy::{self, TOY_VOCAB, ToyDecoder};
    use proptest::prelude::*;

    proptest! {
        /// What is read for a pass does not depend on which guesses of the last one were right.
        #[test]
        fn right_guesses_are_not_seen_in_the_work(
            prompt in prop::collection::vec(0..TOY_VOCAB, 1..9),
            count in 1usize..5,
            came_true in prop::collection::vec(0usize..5, 1..6),
        ) {
            let toy = ToyDecoder::default();
            let model = DecoderModel::open(&toy::artifact(&toy).unwrap()).unwrap();
            let greedy = Sampling { temperature: 0, top_k: 0, top_p: 1 << 16 };
            let mut drafter = DraftModel::new(&model, &model, greedy, [0; 32]).unwrap();
            let mut seen = prompt;
            let mut guesses = drafter.draft(&seen, count);
            for right in came_true {
                let right = right.min(count);
                seen.extend(&guesses[..right]);
                seen.push(guesses.get(right).map_or(1, |guess| (guess + 1) % TOY_VOCAB));
                let before = drafter.read;
                let again = drafter.draft(&seen, count);
                let all = seen.len().min(count + 1);
                prop_assert_eq!(drafter.read - before, all + count - 1);
                let mut fresh = DraftModel::new(&model, &model, greedy, [0; 32]).unwrap();
                prop_assert_eq!(&fresh.draft(&seen, count), &again, "and the cache is no other");
                guesses = again;
            }
        }
    }
}
