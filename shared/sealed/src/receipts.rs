//! What the client signs about the inputs it hands to the replicas of a shard.
//!
//! One signature per token, over chain, query, shard, token and the digest of the input as the trace
//! holds it, which is salted: a receipt tells nobody anything about the text. The same signature goes to
//! every replica of the shard, so that one replica can show that it computed on what it was given, and two
//! receipts for one place show that the client gave different inputs.

use nesa_crypto::{SecretKey, Signature};
use nesa_primitives::{Address, Hash};
use nesa_trace::{Context, row_digest};

use crate::{activation::from_bytes, message::Input};

/// The place of a shard's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The chain.
    pub chain: Hash,
    /// The query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// Who signs.
    pub client_key: Address,
    /// The shard.
    pub shard: u8,
    /// What inputs of the query are salted with.
    pub salt: Hash,
}

impl Inputs {
    /// The terms of a dispute about these inputs, without its roots.
    pub fn context(&self) -> Context {
        let &Self { chain, query, model, client_key, shard, .. } = self;
        Context { chain, query, shard, client_key, model, roots: [Hash::ZERO; 2] }
    }

    /// The digests that stand in a trace for `input`, whose first token is number `position`; rows are
    /// `d_model` wide. `None` unless the input is made of whole rows.
    fn digests(&self, input: &Input, position: u32, d_model: usize) -> Option<Vec<(u32, Hash)>> {
        let digest = |i: usize, values: &[i32]| {
            let token = position.checked_add(u32::try_from(i).ok()?)?;
            Some((token, row_digest(&self.salt, token, 0, values)))
        };
        match input {
            Input::Tokens(tokens) => {
                let tokens = tokens.iter().enumerate();
                tokens.map(|(i, token)| digest(i, &[token.cast_signed()])).collect()
            }
            Input::Rows(rows) => {
                let rows = from_bytes(rows)?;
                let whole = d_model > 0 && rows.len().is_multiple_of(d_model);
                let rows = rows.chunks_exact(d_model.max(1)).enumerate();
                let digests: Option<_> = rows.map(|(i, row)| digest(i, row)).collect();
                digests.filter(|_| whole)
            }
        }
    }

    /// A receipt for every token of `input`; none if it is not made of whole rows.
    pub fn sign(
        &self,
        key: &SecretKey,
        input: &Input,
        position: u32,
        d_model: usize,
    ) -> Vec<Signature> {
        let digests = self.digests(input, position, d_model).unwrap_or_default();
        let context = self.context();
        digests.iter().map(|(token, digest)| context.sign_receipt(key, *token, digest)).collect()
    }

    /// Whether `receipts` are the client's for every token of `input`.
    pub fn verify(
        &self,
        receipts: &[Signature],
        input: &Input,
        position: u32,
        d_model: usize,
    ) -> bool {
        let Some(digests) = self.digests(input, position, d_model) else { return false };
        let context = self.context();
        digests.len() == receipts.len()
            && digests
                .iter()
                .zip(receipts)
                .all(|((token, digest), receipt)| context.verify_receipt(*token, digest, receipt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::to_bytes;
    use proptest::prelude::*;

    fn inputs(key: &SecretKey) -> Inputs {
        Inputs {
            chain: Hash([1; 32]),
            query: Hash([2; 32]),
            model: Hash([3; 32]),
            client_key: key.public(),
            shard: 1,
            salt: Hash([4; 32]),
        }
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            proptest::collection::vec(any::<u32>(), 1..6).prop_map(Input::Tokens),
            (1..4usize).prop_flat_map(|n| {
                proptest::collection::vec(any::<i32>(), 8 * n)
                    .prop_map(|rows| Input::Rows(to_bytes(&rows)))
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// A receipt is for one input of one token of one shard of one query, by one key.
        #[test]
        fn a_receipt_is_for_what_was_signed(one in input(), other in input(), at in 0u32..90) {
            let key = SecretKey::from_seed(&[9; 32]);
            let place = inputs(&key);
            let receipts = place.sign(&key, &one, at, 8);
            prop_assert!(place.verify(&receipts, &one, at, 8));
            prop_assert_eq!(place.verify(&receipts, &other, at, 8), one == other);
            prop_assert!(!place.verify(&receipts, &one, at + 1, 8));
            prop_assert!(!place.verify(&receipts[1..], &one, at, 8));
            let stranger = SecretKey::from_seed(&[8; 32]);
            prop_assert!(!place.verify(&place.sign(&stranger, &one, at, 8), &one, at, 8));
            for bent in [
                Inputs { chain: Hash([9; 32]), ..place },
                Inputs { query: Hash([9; 32]), ..place },
                Inputs { shard: 2, ..place },
                Inputs { salt: Hash([9; 32]), ..place },
            ] {
                prop_assert!(!bent.verify(&receipts, &one, at, 8));
            }
        }
    }

    #[test]
    fn halves_of_rows_and_positions_beyond_the_end_have_no_receipts() {
        let key = SecretKey::from_seed(&[9; 32]);
        let place = inputs(&key);
        let half = Input::Rows(vec![0; 30].into());
        assert!(place.sign(&key, &half, 0, 8).is_empty() && !place.verify(&[], &half, 0, 8));
        let odd = Input::Rows(vec![0; 36].into());
        assert!(place.sign(&key, &odd, 0, 8).is_empty() && !place.verify(&[], &odd, 0, 8));
        assert!(!place.verify(&[], &Input::Rows(vec![0; 32].into()), 0, 0));
        let two = Input::Tokens(vec![1, 2]);
        assert!(place.sign(&key, &two, u32::MAX, 8).is_empty());
        assert!(!place.verify(&[], &two, u32::MAX, 8));
    }
}
