//! What a processor beside the CPU must be able to do to serve shards.

use std::sync::Arc;

use nesa_model::decoder::{DecoderModel, Input, Logits};
use nesa_platform::{
    BoxFuture,
    task::{MaybeSend, MaybeSync},
};

use crate::compute::Failed;

/// A graphics processor, say, that runs the layers of decoders by itself.
///
/// Whoever implements it has made sure that it gives the bytes of the reference, and that it is not a
/// processor in disguise; each product that it gives is checked all the same.
pub trait ShardAccelerator: MaybeSend + MaybeSync {
    /// As its maker calls it, for people.
    fn name(&self) -> String;

    /// Bytes that a shard takes on it, caches apart.
    fn shard_bytes(&self, model: &DecoderModel) -> u64;

    /// Bytes that the cache of a sequence of at most `tokens` tokens takes.
    fn cache_bytes(&self, model: &DecoderModel, tokens: usize) -> u64;

    /// Brings a shard to the device; it leaves when what is returned is dropped.
    ///
    /// # Errors
    /// [`PlaceError`].
    fn place(&self, model: DecoderModel)
    -> BoxFuture<'_, Result<Arc<dyn PlacedShard>, PlaceError>>;
}

/// A shard on a device.
pub trait PlacedShard: MaybeSend + MaybeSync {
    /// Makes room for a sequence of at most `tokens` tokens, under a number of its own.
    ///
    /// # Errors
    /// [`Failed`] when the device has no room or is gone.
    fn open(&self, sequence: u32, tokens: usize) -> Result<(), Failed>;

    /// Forgets a sequence.
    fn close(&self, sequence: u32);

    /// Runs new tokens of several sequences through the layers, and gives the product of every linear stage:
    /// by stage, from the shard's first, `[rows, n]` with the steps' rows in order; of the head, the rows
    /// whose logits are wanted.
    ///
    /// # Errors
    /// [`Failed`] when the device is gone or refuses the work. It is not asked again.
    fn products(&self, steps: Vec<DeviceStep>) -> BoxFuture<'_, Result<Vec<Vec<i32>>, Failed>>;
}

/// New tokens of one sequence.
pub struct DeviceStep {
    /// The sequence's number.
    pub sequence: u32,
    /// How many of the tokens it has seen count: those beyond are forgotten.
    pub before: usize,
    /// The new ones.
    pub input: Input,
    /// Which of them the head is computed for, where it is in the shard.
    pub logits: Logits,
}

/// A shard was not brought to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The device is well, but not made for this shard; in words for people.
    #[error("{0}")]
    Unfit(String),
    /// The device did not do its work.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// A device for shards and what may be put on it.
#[derive(Clone)]
pub struct BesideShards {
    /// The device.
    pub accelerator: Arc<dyn ShardAccelerator>,
    /// Bytes of weights and caches that it may hold.
    pub memory: u64,
}
