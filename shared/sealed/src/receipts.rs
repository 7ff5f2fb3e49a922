//! What the client signs about what it asks of the replicas of a shard.
//!
//! One signature per token, over chain, query, shard, token, the digest of the input as the trace holds
//! it, which is salted, and whether the token's logits are wanted: a receipt tells nobody anything about
//! the text. The same signature goes to every replica of the shard, so that one replica can show that it
//! did what it was asked, and two receipts for one place show that the client asked for different things.
//! When it asks for no more, it signs how many tokens there were, once for all replicas as well.

use nesa_crypto::{SecretKey, Signature};
use nesa_primitives::{Address, Hash};
use nesa_trace::{Context, End, Receipt, row_digest};

use crate::{
    activation::from_bytes,
    message::{Input, Want},
};

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

    /// A receipt for every token of `input`, of which `want` is asked; none if it is not made of whole rows.
    pub fn sign(
        &self,
        key: &SecretKey,
        input: &Input,
        position: u32,
        d_model: usize,
        want: Want,
    ) -> Vec<Signature> {
        let digests = self.digests(input, position, d_model).unwrap_or_default();
        let (context, count) = (self.context(), digests.len());
        let tokens = digests.into_iter().enumerate();
        tokens
            .map(|(i, (token, digest))| {
                context.sign_receipt(key, token, digest, want.logits(i, count)).signature
            })
            .collect()
    }

    /// Whether `receipts` are the client's for every token of `input`, of which `want` is asked.
    pub fn verify(
        &self,
        receipts: &[Signature],
        input: &Input,
        position: u32,
        d_model: usize,
        want: Want,
    ) -> bool {
        let Some(digests) = self.digests(input, position, d_model) else { return false };
        let (context, count) = (self.context(), digests.len());
        let mut pairs = digests.into_iter().zip(receipts).enumerate();
        count == receipts.len()
            && pairs.all(|(i, ((token, digest), signature))| {
                let logits = want.logits(i, count);
                let receipt = Receipt { digest, logits, signature: *signature };
                context.verify_receipt(token, &receipt)
            })
    }

    /// The client's word that it asks `tokens` tokens of this shard and no more.
    pub fn sign_end(&self, key: &SecretKey, tokens: u32) -> End {
        self.context().sign_end(key, tokens)
    }

    /// Whether `end` is that word, for so many tokens.
    pub fn verify_end(&self, end: &End, tokens: usize) -> bool {
        usize::try_from(end.tokens) == Ok(tokens) && self.context().verify_end(end)
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
            let receipts = place.sign(&key, &one, at, 8, Want::Last);
            prop_assert!(place.verify(&receipts, &one, at, 8, Want::Last));
            // Asking for the logits of one token and of all are different things, unless it is one token.
            let same = receipts.len() == 1;
            prop_assert_eq!(place.verify(&receipts, &one, at, 8, Want::All), same);
            prop_assert!(!place.verify(&receipts, &one, at, 8, Want::Rows));
            prop_assert_eq!(place.verify(&receipts, &other, at, 8, Want::Last), one == other);
            prop_assert!(!place.verify(&receipts, &one, at + 1, 8, Want::Last));
            prop_assert!(!place.verify(&receipts[1..], &one, at, 8, Want::Last));
            let stranger = SecretKey::from_seed(&[8; 32]);
            let forged = place.sign(&stranger, &one, at, 8, Want::Last);
            prop_assert!(!place.verify(&forged, &one, at, 8, Want::Last));
            let end = place.sign_end(&key, at);
            prop_assert!(place.verify_end(&end, at as usize));
            prop_assert!(!place.verify_end(&end, at as usize + 1));
            prop_assert!(!place.verify_end(&place.sign_end(&stranger, at), at as usize));
            for bent in [
                Inputs { chain: Hash([9; 32]), ..place },
                Inputs { query: Hash([9; 32]), ..place },
                Inputs { shard: 2, ..place },
                Inputs { salt: Hash([9; 32]), ..place },
            ] {
                prop_assert!(!bent.verify(&receipts, &one, at, 8, Want::Last));
                // An end has no salt: it tells nothing that one could guess.
                let bound = bent.salt == place.salt;
                prop_assert_eq!(bent.verify_end(&end, at as usize), !bound);
            }
        }
    }

    #[test]
    fn halves_of_rows_and_positions_beyond_the_end_have_no_receipts() {
        let key = SecretKey::from_seed(&[9; 32]);
        let place = inputs(&key);
        let signed = |input: &Input, at| place.sign(&key, input, at, 8, Want::Rows).is_empty();
        let half = Input::Rows(vec![0; 30].into());
        assert!(signed(&half, 0) && !place.verify(&[], &half, 0, 8, Want::Rows));
        let odd = Input::Rows(vec![0; 36].into());
        assert!(signed(&odd, 0) && !place.verify(&[], &odd, 0, 8, Want::Rows));
        assert!(!place.verify(&[], &Input::Rows(vec![0; 32].into()), 0, 0, Want::Rows));
        let two = Input::Tokens(vec![1, 2]);
        assert!(signed(&two, u32::MAX));
        assert!(!place.verify(&[], &two, u32::MAX, 8, Want::Last));
    }
}
