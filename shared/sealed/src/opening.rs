//! What the client and the node agree on before the first step.

use commonware_codec::Encode as _;
use nesa_crypto::{
    SecretKey, Signature,
    seal::{Binding, Role},
    sign::{VerifyError, verify_strict},
};
use nesa_kernels::sample::Sampling;
use nesa_model::decoder::{SAMPLING_SEED_BYTES, ShardPlan};
use nesa_primitives::{Address, Amount, Hash, codec_struct};

const TAG: &str = "sealed opening";

/// How the last shard chooses tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// 16 fractional bits; 0 takes the greatest logit.
    pub temperature: u32,
    /// Only this many of the greatest; 0 for all.
    pub top_k: u32,
    /// Only as many of the greatest as together reach this share, 16 fractional bits.
    pub top_p: u32,
    /// The same seed, prompt, sampling and model give the same text on every machine.
    pub seed: [u8; SAMPLING_SEED_BYTES],
}

codec_struct!(Choice { temperature, top_k, top_p, seed });

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Choice(temperature {})", self.temperature)
    }
}

impl Choice {
    /// A choice by `sampling` under `seed`.
    pub fn new(sampling: Sampling, seed: [u8; SAMPLING_SEED_BYTES]) -> Self {
        let Sampling { temperature, top_k, top_p } = sampling;
        Self { temperature, top_k, top_p, seed }
    }

    /// The sampling.
    pub fn sampling(&self) -> Sampling {
        let Self { temperature, top_k, top_p, .. } = *self;
        Sampling { temperature, top_k, top_p }
    }
}

/// The content of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// How the model is cut; the envelope's role says which shard is meant.
    pub plan: ShardPlan,
    /// Most tokens that the sequence may hold: the node keeps memory for so many.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub choice: Choice,
    /// By the query's client key, over the binding and the fields above.
    pub signature: Signature,
}

codec_struct!(Opening { plan, max_tokens, choice, signature });

impl Opening {
    /// Signs an opening for the envelope bound to `binding`.
    pub fn sign(
        key: &SecretKey,
        binding: &Binding,
        plan: ShardPlan,
        max_tokens: u32,
        choice: Choice,
    ) -> Self {
        let message = message(binding, &plan, max_tokens, &choice);
        let signature = key.sign(TAG, &binding.chain, &message);
        Self { plan, max_tokens, choice, signature }
    }

    /// Checks that the query's client signed it for this binding.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, client_key: &Address, binding: &Binding) -> Result<(), VerifyError> {
        let message = message(binding, &self.plan, self.max_tokens, &self.choice);
        verify_strict(client_key, TAG, &binding.chain, &message, &self.signature)
    }
}

fn message(binding: &Binding, plan: &ShardPlan, max_tokens: u32, choice: &Choice) -> Vec<u8> {
    let mut bytes = binding.encode().to_vec();
    bytes.extend_from_slice(&plan.encode());
    bytes.extend_from_slice(&max_tokens.encode());
    bytes.extend_from_slice(&choice.encode());
    bytes
}

/// What the chain says about a node's part in a query; the node proves it with its own light client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The chain.
    pub chain: Hash,
    /// The paid query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// Who signs openings and vouchers.
    pub client_key: Address,
    /// The part this node was drawn for.
    pub role: Role,
    /// Shards that the query was paid for.
    pub shards: u8,
    /// Price of one token through one shard.
    pub price_per_token: Amount,
    /// Most that the node can earn.
    pub budget: Amount,
    /// Most tokens of the query.
    pub max_tokens: u32,
}
