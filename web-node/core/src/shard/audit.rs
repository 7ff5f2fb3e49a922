//! A node's own check of what its device computed for a shard.
//!
//! The device gives the product of every linear stage; the processor follows the run with them and does all
//! the rest itself. So each product meets the input that the run has for it, and two things are looked at, by
//! the check of the masked lane's clients: each value lies within its row's bound, and ⟨r, y⟩ = ⟨s, x⟩ mod
//! 2^61 − 1 for a secret uniform r and s = rᵀW. A wrong row of a product passes with probability 1/p, whatever
//! made it wrong: a weight, a norm, a rotation or a cache on the device only show in the products after them.
//! It costs n + k multiplications of two limbs for a row's n · k.

use std::cell::Cell;

use nesa_masked::{
    Lane, freivalds,
    preparation::{Preparation, PrepareError},
    spec::SpecError,
};
use nesa_model::{Linear, PlainDecoder, StageId, decoder::DecoderModel};
use rand_core::CryptoRng;

/// Why the products of a shard cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// Shapes that the check is not made for.
    #[error(transparent)]
    Shapes(#[from] SpecError),
    /// Weights that break their stage's bound.
    #[error(transparent)]
    Weights(#[from] PrepareError),
}

/// Draws the secrets of a shard's stages: one pass over its weights.
pub(crate) fn secrets(
    model: &DecoderModel,
    rng: &mut impl CryptoRng,
) -> Result<Preparation, AuditError> {
    let here = model.stages().get(model.stages_here()).unwrap_or_default();
    let lane = Lane::of_model(here)?;
    let weights = |stage| model.weights(StageId(stage));
    Ok(Preparation::from_weights(model.digest(), &lane, weights, rng)?)
}

/// Gives a device's products to a run, each once it has passed. From the first that does not on, the processor
/// computes them.
pub(crate) struct Audited<'a> {
    model: &'a DecoderModel,
    secrets: &'a Preparation,
    /// By stage, from the shard's first.
    products: Vec<Vec<i32>>,
    right: Cell<bool>,
}

impl<'a> Audited<'a> {
    pub(crate) fn new(
        model: &'a DecoderModel,
        secrets: &'a Preparation,
        products: Vec<Vec<i32>>,
    ) -> Self {
        let right = Cell::new(products.len() == model.stages_here().len());
        Self { model, secrets, products, right }
    }

    /// Whether all that was asked for passed.
    pub(crate) fn is_right(&self) -> bool {
        self.right.get()
    }

    fn given(&self, stage: StageId, x: &[i32], y: &mut [i32]) -> bool {
        let Some(index) = usize::from(stage.0).checked_sub(self.model.stages_here().start) else {
            return false;
        };
        let (Some(product), Some(secrets)) = (self.products.get(index), self.secrets.stage(index))
        else {
            return false;
        };
        if product.len() != y.len() {
            return false;
        }
        y.copy_from_slice(product);
        freivalds::accepts(secrets, x, y).into()
    }
}

impl Linear for Audited<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        let n = self.model.stages().get(usize::from(stage.0)).map_or(0, |spec| spec.n);
        let mut y = vec![0; tokens * n];
        self.apply_to(stage, x, tokens, &mut y);
        y
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        if self.right.get() && self.given(stage, x, y) {
            return;
        }
        self.right.set(false);
        PlainDecoder(self.model).apply_to(stage, x, tokens, y);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use nesa_model::decoder::{
        DecoderRun, Feed, Input, KvCache, Logits, Output, Shard,
        toy::{self, Noting, TOY_VOCAB, ToyDecoder},
    };
    use proptest::prelude::*;
    use rand_core::SeedableRng as _;

    use super::*;

    fn run(model: &DecoderModel, tokens: &[u32], engine: &impl Linear) -> Output {
        let input = Input::Tokens(tokens.to_vec());
        let feed = Feed { cache: KvCache::new(), input, logits: Logits::Last };
        DecoderRun::start(model, vec![feed]).unwrap().run(engine).unwrap().remove(0).output
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Right products pass; one changed bit of one value anywhere, a product too few, a short one or
        /// none are found, and the output is the processor's each time.
        #[test]
        fn whatever_a_device_gives_the_output_is_the_processors(
            seed in 0u64..1000, tied: bool, whole: bool,
            tokens in prop::collection::vec(0..TOY_VOCAB, 1..7),
            stage: prop::sample::Index, at: prop::sample::Index, bit in 0u32..32, way in 0u8..5,
        ) {
            let shape = ToyDecoder { seed, tied, layers: 2, ..ToyDecoder::default() };
            let artifact = toy::artifact(&shape).unwrap();
            let layers = if whole { 0..2 } else { 0..1 };
            let shard = Shard::of_artifact(&artifact, layers).unwrap();
            let model = DecoderModel::open_shard(&shard).unwrap();
            let noting = Noting::new(&model);
            let expected = run(&model, &tokens, &noting);
            let mut products = noting.into_products();
            let secrets = secrets(&model, &mut rand::rngs::StdRng::seed_from_u64(seed)).unwrap();
            let stage = stage.index(products.len());
            match way {
                0 => {}
                1 => {
                    let product = &mut products[stage];
                    let at = at.index(product.len());
                    product[at] ^= 1 << bit;
                }
                2 => drop(products.pop()),
                3 => drop(products[stage].pop()),
                _ => products.clear(),
            }
            let audited = Audited::new(&model, &secrets, products);
            let got = run(&model, &tokens, &audited);
            prop_assert_eq!(got, expected);
            prop_assert_eq!(audited.is_right(), way == 0);
        }
    }
}
