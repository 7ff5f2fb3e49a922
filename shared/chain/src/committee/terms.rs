//! What a committee's query asks for, and when its parts are due.
//!
//! ```text
//! inclusion ──commits──▶ deadline ──reveals──▶ ──disputes opened──▶ ──answers──▶ ──claims──▶ close
//!                                 reveal_ms        step_ms      MAX_ROUNDS·step_ms  claim_ms
//! ```
//!
//! Without consent to disclosure there are no disputes, and `close` follows the reveals by
//! `claim_ms`. Claims may come from the end of the reveals on, for shards whose replicas agree.

use crate::{
    limits::{MAX_REPLICAS, MAX_ROUNDS, MAX_SHARDS, MAX_SPARES, up_to},
    params::Params,
};
use nesa_crypto::{
    SecretKey, Signature,
    sign::{VerifyError, verify_strict},
};
use nesa_primitives::{Address, Hash, codec_struct, domain};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use thiserror::Error;

/// Shards and replicas of a query, and whether a dispute may disclose a piece of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Layers at which the model is cut, ascending, none 0: `n` cuts make `n + 1` shards.
    pub cuts: Vec<u16>,
    /// Replicas of each shard, 1 to [`MAX_REPLICAS`].
    pub replicas: u8,
    /// Whether the user agrees that a dispute publishes a piece of an activation. Without it a
    /// mismatch withholds pay and reveals nothing.
    #[serde(default)]
    pub disclose: bool,
}

codec_struct!(Terms { cuts: up_to(MAX_SHARDS - 1), replicas, disclose });

/// Terms that make no committee.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TermsError {
    /// Too many cuts.
    #[error("{got} shards, at most {MAX_SHARDS}")]
    Shards {
        /// Shards asked for.
        got: usize,
    },
    /// Cuts that do not ascend from 1.
    #[error("cut {got} after {before}, cuts ascend and are no 0")]
    Cuts {
        /// The cut.
        got: u16,
        /// The one before it, or 0.
        before: u16,
    },
    /// No replica, or too many.
    #[error("{got} replicas, 1 to {MAX_REPLICAS} allowed")]
    Replicas {
        /// Replicas asked for.
        got: u8,
    },
}

impl Terms {
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.cuts.len().saturating_add(1)
    }

    /// Replicas of all shards together.
    pub fn seats(&self) -> usize {
        self.shards().saturating_mul(self.replicas.into())
    }

    /// Equal parts of the escrow: one for each replica, and one for each spare that may take a replica's
    /// place, so that what a replica did before it was given up is paid from a part of its own.
    pub fn parts(&self) -> usize {
        self.shards().saturating_mul(usize::from(self.replicas).saturating_add(MAX_SPARES))
    }

    /// Layers of a shard in a model of `layers`; `None` if there is no such shard, or the cuts do
    /// not fit the model.
    pub fn layers(&self, shard: u8, layers: u16) -> Option<Range<u16>> {
        let shard = usize::from(shard);
        let start = match shard.checked_sub(1) {
            None => 0,
            Some(before) => *self.cuts.get(before)?,
        };
        let end = match self.cuts.get(shard) {
            Some(&cut) => cut,
            None => layers,
        };
        (start < end && end <= layers).then_some(start..end)
    }

    /// How many replicas must have revealed for a shard to be paid: a strict majority.
    pub const fn majority(&self) -> usize {
        self.replicas as usize / 2 + 1
    }

    /// Most replicas of a shard whose bond may hold faucet coins: less than half.
    pub const fn max_faucet(&self) -> usize {
        (self.replicas as usize).saturating_sub(1) / 2
    }

    /// Checks that they make a committee. Whether the cuts fit the model is the client's to know:
    /// the chain holds its digest only.
    ///
    /// # Errors
    /// The first [`TermsError`].
    pub fn check(&self) -> Result<(), TermsError> {
        if self.shards() > MAX_SHARDS {
            return Err(TermsError::Shards { got: self.shards() });
        }
        let mut before = 0;
        for &got in &self.cuts {
            if got <= before {
                return Err(TermsError::Cuts { got, before });
            }
            before = got;
        }
        if self.replicas == 0 || usize::from(self.replicas) > MAX_REPLICAS {
            return Err(TermsError::Replicas { got: self.replicas });
        }
        Ok(())
    }
}

/// Block times at which the parts of a committee's query end, ms since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Last commit: the query's deadline.
    pub commit_ms: u64,
    /// Last reveal; reveals begin after the last commit, claims and disputes after this.
    pub reveal_ms: u64,
    /// Last opening of a dispute; `None` without consent.
    pub dispute_ms: Option<u64>,
    /// Last claim; then the query is settled.
    pub close_ms: u64,
}

impl Windows {
    /// The windows of a query with this deadline.
    pub fn of(deadline_ms: u64, disclose: bool, params: &Params) -> Self {
        let reveal_ms = deadline_ms.saturating_add(params.reveal_ms);
        let dispute_ms = disclose.then(|| reveal_ms.saturating_add(params.step_ms));
        let answers = params.step_ms.saturating_mul(MAX_ROUNDS);
        let last = dispute_ms.map_or(reveal_ms, |open| open.saturating_add(answers));
        let close_ms = last.saturating_add(params.claim_ms);
        Self { commit_ms: deadline_ms, reveal_ms, dispute_ms, close_ms }
    }
}

/// What a replica commits to: its trace's root under a random 32-byte blind, which the client gives
/// to each replica alone, so that nobody can copy a commitment or see that two are equal.
pub fn blind(
    chain: &Hash,
    query: &Hash,
    (shard, replica): (u8, u8),
    root: &Hash,
    blind: &Hash,
) -> Hash {
    let mut hasher = domain("trace commitment", chain);
    hasher.update(&query.0);
    hasher.update(&[shard, replica]);
    hasher.update(&root.0);
    hasher.update(&blind.0);
    hasher.finalize().into()
}

/// The client's word that a spare takes a replica's place. Without it a spare nobody asked could
/// commit to anything and so withhold the others' pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The query.
    pub query: Hash,
    /// The shard.
    pub shard: u8,
    /// The replica whose place is taken.
    pub replica: u8,
    /// The spare node.
    pub node: Address,
}

const ADMISSION_TAG: &str = "spare admission";

impl Admission {
    fn message(&self) -> [u8; 66] {
        let mut bytes = [0u8; 66];
        bytes[..32].copy_from_slice(&self.query.0);
        bytes[32..34].copy_from_slice(&[self.shard, self.replica]);
        bytes[34..].copy_from_slice(&self.node.0);
        bytes
    }

    /// Signs with the query's ephemeral key.
    pub fn sign(&self, key: &SecretKey, chain: &Hash) -> Signature {
        key.sign(ADMISSION_TAG, chain, &self.message())
    }

    /// Checks the signature against the query's `client_key`.
    ///
    /// # Errors
    /// [`VerifyError`] if it was made by another key or for another place.
    pub fn verify(
        &self,
        client_key: &Address,
        chain: &Hash,
        signature: &Signature,
    ) -> Result<(), VerifyError> {
        verify_strict(client_key, ADMISSION_TAG, chain, &self.message(), signature)
    }
}
