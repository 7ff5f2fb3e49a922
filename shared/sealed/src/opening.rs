//! What the client and the node agree on before the first step.

use commonware_codec::Encode as _;
use nesa_chain::committee::Admission;
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
    /// The replica whose place the node takes: for a spare another number than its seat.
    pub replica: u8,
    /// For a spare: the word that it was asked to, which its commitment on chain needs.
    pub admission: Option<Signature>,
    /// Secret, the same for all nodes of a query: without it a revealed root would tell anybody who
    /// guesses the text that he is right.
    pub salt: Hash,
    /// How the model is cut; the envelope's role says which shard is meant.
    pub plan: ShardPlan,
    /// Most tokens that the sequence may hold: the node keeps memory for so many.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub choice: Choice,
    /// By the query's client key, over the binding and the fields above.
    pub signature: Signature,
}

codec_struct!(Opening { replica, admission, salt, plan, max_tokens, choice, signature });

impl Opening {
    /// Signs an opening for the envelope bound to `binding`, whose node takes the place of `replica`.
    pub fn sign(
        key: &SecretKey,
        binding: &Binding,
        (replica, salt): (u8, Hash),
        plan: ShardPlan,
        max_tokens: u32,
        choice: Choice,
    ) -> Self {
        let Binding { chain, role, .. } = binding;
        let spare = role.seat != replica;
        let admission = spare.then(|| admission(binding, replica).sign(key, chain));
        let mut opening = Self {
            replica,
            admission,
            salt,
            plan,
            max_tokens,
            choice,
            signature: Signature([0; 64]),
        };
        opening.signature = key.sign(TAG, chain, &opening.message(binding));
        opening
    }

    /// Checks that the query's client signed it for this binding, and admits the spare if it is one.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, client_key: &Address, binding: &Binding) -> Result<(), VerifyError> {
        let message = self.message(binding);
        verify_strict(client_key, TAG, &binding.chain, &message, &self.signature)?;
        match &self.admission {
            Some(word) => admission(binding, self.replica).verify(client_key, &binding.chain, word),
            None if binding.role.seat == self.replica => Ok(()),
            None => Err(VerifyError::Mismatch { signer: *client_key }),
        }
    }

    /// The binding and all fields but the signature.
    fn message(&self, binding: &Binding) -> Vec<u8> {
        let mut bytes = binding.encode().to_vec();
        bytes.extend_from_slice(&self.replica.encode());
        bytes.extend_from_slice(&self.admission.encode());
        bytes.extend_from_slice(&self.salt.encode());
        bytes.extend_from_slice(&self.plan.encode());
        bytes.extend_from_slice(&self.max_tokens.encode());
        bytes.extend_from_slice(&self.choice.encode());
        bytes
    }
}

/// The word that the node of an envelope takes the place of `replica`.
pub(crate) fn admission(binding: &Binding, replica: u8) -> Admission {
    let Binding { query, role, node, .. } = *binding;
    Admission { query, shard: role.shard, replica, node }
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
    /// Layers at which the model is cut, without 0 and the number of layers.
    pub cuts: Vec<u16>,
    /// Replicas of each shard; seats from this number on are spares.
    pub replicas: u8,
    /// Price of one token through one shard.
    pub price_per_token: Amount,
    /// Most that the node can earn.
    pub budget: Amount,
    /// Most tokens of the query.
    pub max_tokens: u32,
    /// Whether the user agreed that a dispute publishes a piece of an activation. Then every input
    /// comes with the client's receipt, and nothing is edited.
    pub disclose: bool,
}
