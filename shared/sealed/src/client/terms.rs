//! What a relay is told, and what it tells.

use bytes::Bytes;
use nesa_crypto::SecretKey;
use nesa_model::decoder::{DecoderModel, ShardPlan};
use nesa_primitives::{Address, Amount, Hash};
use thiserror::Error;

use super::session::Misbehaviour;
use crate::message::Commitment;

/// A stream to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The shard.
    pub shard: u8,
    /// The candidate's number within the shard; spares count on.
    pub seat: u8,
}

/// A node drawn for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: Address,
    /// Its operator.
    pub operator: Address,
}

/// What a relay needs to know.
#[derive(Clone)]
pub struct Config {
    /// The chain.
    pub chain: Hash,
    /// The paid query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// How it is cut.
    pub plan: ShardPlan,
    /// Width of its rows.
    pub d_model: usize,
    /// Its longest sequence.
    pub context: usize,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// Replicas of each shard that must agree.
    pub replicas: usize,
    /// Price of one token through one shard.
    pub price_per_token: Amount,
    /// Signs openings and vouchers.
    pub client_key: SecretKey,
    /// Whether nodes that disagree are asked for their commitments, so that the dispute can be
    /// settled on chain; that publishes a piece of an activation. Otherwise nothing is said, and
    /// nobody is paid for what was not agreed on.
    pub disclose: bool,
}

impl Config {
    /// Takes over the sizes of a model.
    pub fn sized(mut self, model: &DecoderModel) -> Self {
        self.d_model = model.config().d_model as usize;
        self.context = model.config().max_tokens as usize;
        self.ends = model.special().ends.clone();
        self
    }
}

/// What cannot be begun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// Nothing to continue.
    #[error("the prompt is empty")]
    Empty,
    /// Nothing to write, or too much.
    #[error("a prompt of {prompt} tokens and {tokens} to write; the model takes {max} in all")]
    Length {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to write.
        tokens: usize,
        /// The model's longest sequence.
        max: usize,
    },
    /// Not as many candidates for a shard as replicas were asked for.
    #[error("shard {shard} has {got} candidates, {expected} are to agree")]
    Candidates {
        /// The shard.
        shard: usize,
        /// Candidates drawn.
        got: usize,
        /// Replicas asked for.
        expected: usize,
    },
}

/// Why a node was given up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// The link broke, or was silent for too long.
    #[error("the node is gone")]
    Gone,
    /// The node broke the protocol or refused.
    #[error(transparent)]
    Misbehaved(#[from] Misbehaviour),
}

/// Two replicas of a shard that gave different digests for one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// The shard.
    pub shard: u8,
    /// The step of the text.
    pub step: usize,
    /// The row of the step.
    pub row: usize,
    /// The node that answered later.
    pub node: Address,
    /// What it said.
    pub said: Hash,
    /// What was said before.
    pub others: Hash,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RelayError {
    /// No candidate is left for a shard.
    #[error("no node is left for shard {shard}: {reason}")]
    NoSpare {
        /// The shard.
        shard: u8,
        /// What became of the last one.
        reason: Lost,
    },
    /// Replicas disagree.
    #[error("the nodes of shard {} disagree on step {}", .0.shard, .0.step)]
    Disputed(Box<Dispute>),
}

/// A node's part in a query that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its stream.
    pub link: Link,
    /// The replica whose place it took.
    pub replica: u8,
    /// Who.
    pub candidate: Candidate,
    /// Its commitment, if it gave one.
    pub commitment: Option<Commitment>,
    /// What that is blinded with.
    pub blind: Hash,
    /// The total of the vouchers it holds.
    pub paid: Amount,
}

/// What a finished query leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The tokens, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// Whether the model ended the text.
    pub ended: bool,
    /// Tokens that all replicas of all shards agree on, of [`Transcript::tokens`].
    pub agreed: usize,
    /// The nodes at the end.
    pub served: Vec<Served>,
    /// The vouchers of nodes that were given up on the way, together.
    pub parted: Amount,
    /// Set where replicas disagreed.
    pub dispute: Option<Dispute>,
}

/// What the driver is to do, or may like to know.
#[derive(Debug)]
pub enum Action {
    /// Reach the node; frames for it may be sent before it is reached.
    Connect {
        /// The stream.
        link: Link,
        /// Whom.
        candidate: Candidate,
    },
    /// Send a frame.
    Send {
        /// The stream.
        link: Link,
        /// The frame.
        frame: Bytes,
    },
    /// Close a stream after what was sent.
    Close {
        /// The stream.
        link: Link,
    },
    /// A token, from the fastest replicas: not agreed on yet.
    Token(u32),
    /// All replicas of all shards agree on so many tokens of the text.
    Agreed(usize),
    /// A node was given up; the next candidate is asked.
    Replaced {
        /// Its place.
        link: Link,
        /// Who.
        candidate: Candidate,
        /// Why.
        reason: Lost,
    },
    /// It is over.
    Done(Box<Transcript>),
    /// It is over, without an answer.
    Failed(RelayError),
}
