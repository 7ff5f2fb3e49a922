//! What a processor beside the CPU must be able to do.

use std::sync::Arc;

use nesa_platform::{
    BoxFuture,
    task::{MaybeSend, MaybeSync},
};
use zeroize::Zeroizing;

use crate::shard::{BesideShards, ShardAccelerator};

/// Bytes to which a row of weights is padded.
const ROW: usize = 16;

/// A graphics processor, say. It computes products of words of Z_2^32 with weights that it holds.
///
/// Whoever implements it has made sure that it gives the bytes of the reference, and that it is not a
/// processor in disguise; what it computes is checked all the same.
pub trait Accelerator: MaybeSend + MaybeSync {
    /// As its maker calls it, for people.
    fn name(&self) -> String;

    /// Bytes that an `[n, k]` weight takes: rows padded to sixteen, and the sum of each.
    fn footprint(&self, n: usize, k: usize) -> u64 {
        (n as u64).saturating_mul(k.next_multiple_of(ROW) as u64 + 4)
    }

    /// Brings an `[n, k]` weight, row-major, under a number of its own.
    ///
    /// # Errors
    /// [`Failed`] when it has no room or is gone.
    fn load<'a>(
        &'a self,
        weight: u32,
        w: &'a [i8],
        n: usize,
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>>;

    /// Computes products, all in one submit; each is `[rows, n]` words of Z_2^32.
    ///
    /// # Errors
    /// [`Failed`] when the device is gone or refuses the work. It is not asked again.
    fn products(&self, batch: Vec<Product>) -> BoxFuture<'_, Result<Vec<Vec<u32>>, Failed>>;
}

/// One product to compute. The share is erased when dropped.
pub struct Product {
    /// The weight's number.
    pub weight: u32,
    /// `[rows, k]` words of Z_2^32.
    pub share: Zeroizing<Vec<u32>>,
    /// Rows of the share.
    pub rows: usize,
}

/// An accelerator did not do its work; in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// An accelerator and what may be put on it.
#[derive(Clone)]
pub struct Beside {
    /// The accelerator.
    pub accelerator: Arc<dyn Accelerator>,
    /// The same device for shards of decoders, where it runs those.
    pub shards: Option<Arc<dyn ShardAccelerator>>,
    /// Bytes of weights and caches that it may hold. Where it serves shards, half of them is theirs.
    pub memory: u64,
}

impl Beside {
    /// What is for masked products, with its memory, and what is for shards, where `decoders` are served.
    pub(crate) fn split(
        self,
        decoders: bool,
    ) -> ((Arc<dyn Accelerator>, u64), Option<BesideShards>) {
        let Self { accelerator, shards, memory } = self;
        let shards = shards.filter(|_| decoders);
        let memory = if shards.is_some() { memory / 2 } else { memory };
        let shards = shards.map(|accelerator| BesideShards { accelerator, memory });
        ((accelerator, memory), shards)
    }
}
