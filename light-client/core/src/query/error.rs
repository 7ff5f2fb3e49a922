//! Why a query gave no answer.

use nesa_masked::{
    batch::LengthError,
    client::{SessionError, StartError},
    images::MAX_WINDOWS,
    spec::SpecError,
};
use nesa_model::{
    classifier::ImageError,
    decoder::{DraftError, WriteError},
};
use nesa_platform::storage::StorageError;
use nesa_primitives::{Amount, Hash};

use super::{MAX_IMAGES, MAX_TEXTS, engine::TextError, report::Rejected, thin::ThinError};
use crate::{
    AskError,
    models::{FamilyError, ModelStoreError},
};

/// Why a query gave no answer. What was escrowed and not spent returns at the deadline.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Nothing to compute, or too much for one query.
    #[error("{got} texts; one query takes 1 to {MAX_TEXTS}")]
    Texts {
        /// How many were given.
        got: usize,
    },
    /// The chain does not know the model, or not in this lane.
    #[error("model {model} is not offered on this chain: {reason}")]
    Model {
        /// Its digest.
        model: Hash,
        /// What is missing.
        reason: &'static str,
    },
    /// The price is above what the caller allows.
    #[error("the query needs an escrow of {}, allowed are {}", needed.in_nes(), allowed.in_nes())]
    TooDear {
        /// Escrow needed.
        needed: Amount,
        /// The caller's limit.
        allowed: Amount,
    },
    /// The wallet does not cover it.
    #[error("the wallet holds {}, the query needs {}", balance.in_nes(), needed.in_nes())]
    Funds {
        /// Proven balance in the query's denomination.
        balance: Amount,
        /// Needed, fees included.
        needed: Amount,
    },
    /// The query is too long for one payment.
    #[error("{tokens} padded tokens; one query takes at most {max}")]
    TooLong {
        /// Padded tokens.
        tokens: u64,
        /// The chain's limit.
        max: u32,
    },
    /// The inputs of a float model are too long to be sent.
    #[error("{got} bytes of inputs; at most {max} can be sent")]
    Inputs {
        /// Bytes.
        got: usize,
        /// The most.
        max: usize,
    },
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] AskError),
    /// The record on the chain is not what was paid for.
    #[error("the query's record says {got} for {what}, expected {expected}")]
    Record {
        /// Which field.
        what: &'static str,
        /// What the chain says.
        got: String,
        /// What was signed.
        expected: String,
    },
    /// The model does not do this kind of work.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// The model's tokenizer or chat template refuses the prompt, or its own tokens.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model that is to guess cannot.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A pair of texts for a model of single ones.
    #[error("a pair of texts was given; the model reads single texts")]
    Pair,
    /// No image, or too many for one query.
    #[error("{got} images; one query takes 1 to {MAX_IMAGES}")]
    Images {
        /// How many were given.
        got: usize,
    },
    /// An image does not fit the model.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// One image has more windows in a layer than are sent masked.
    #[error("a layer of the model has {got} windows; {MAX_WINDOWS} can be sent masked")]
    Windows {
        /// The windows of one image.
        got: usize,
    },
    /// The model cannot continue the prompt.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No committee can be drawn.
    #[error("no nodes could be drawn: {0}")]
    Committee(#[from] nesa_chain::committee::CommitteeError),
    /// A text cannot be sent masked.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The model's stages cannot be sent masked.
    #[error(transparent)]
    Lane(#[from] SpecError),
    /// The model cannot run the batch.
    #[error("the batch cannot be run: {0}")]
    Run(#[from] nesa_model::StartError),
    /// The session could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The session ended without an answer.
    #[error("no answer: {error}")]
    Session {
        /// Why.
        error: SessionError,
        /// Nodes that were rejected on the way.
        rejected: Vec<Rejected>,
    },
    /// A new preparation was needed and could not be made.
    #[error(transparent)]
    ModelStore(#[from] ModelStoreError),
    /// No two nodes could be had to prepare.
    #[error("no thin preparation: {0}")]
    Thin(#[from] ThinError),
    /// The journal could not be written, so nothing was paid.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The deadline came first.
    #[error("the deadline passed before the answer was complete")]
    Deadline {
        /// Nodes that were rejected on the way.
        rejected: Vec<Rejected>,
    },
}
