//! The authenticated store: QMDB `current::ordered` with 32-byte keys and values up to 64 KiB.

use crate::{engine::IO_BUFFER, execute::ExecuteError};
use bytes::Bytes;
use commonware_codec::RangeCfg;
use commonware_glue::stateful::db::{AttachableResolver, DatabaseSet, Shared};
use commonware_parallel::Sequential;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    journal::contiguous::variable::Config as LogConfig,
    mmr::{self, full::Config as MmrConfig},
    qmdb::{
        any::ordered::variable::Operation,
        current::{VariableConfig, ordered::variable},
        sync::{Request, Source, source},
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use nesa_chain::{
    header::{Digest, Hasher, StateCommitment, to_digest},
    keys::Key,
};
use nesa_verify::state::{BITMAP_CHUNK, value_range};
use std::collections::BTreeMap;

/// One validator's store. Ordered, so that the absence of a key can be proved.
pub(crate) type Store<E> =
    variable::Db<mmr::Family, E, Digest, Bytes, Hasher, EightCap, BITMAP_CHUNK, Sequential>;
/// The store as the stateful application sees it.
pub(crate) type Databases<E> = Shared<Store<E>>;
/// Changes being written on top of a parent block.
pub(crate) type Batch<E> = <Databases<E> as DatabaseSet<E>>::Unmerkleized;
/// Changes with their roots.
pub(crate) type Sealed<E> = <Databases<E> as DatabaseSet<E>>::Merkleized;
/// Read access to the finalized store.
pub(crate) type Readers<E> = <Databases<E> as DatabaseSet<E>>::Readers;
/// Configuration of the store.
pub(crate) type StoreConfig = VariableConfig<EightCap, ((), RangeCfg<usize>), Sequential>;

/// Copies no store from peers: a validator that was away fetches and executes the blocks it missed,
/// which every validator keeps. (The engine's own resolver takes only values of one fixed size.)
#[derive(Clone, Debug)]
pub(crate) struct NoSync;

/// The answer of [`NoSync`].
#[derive(Debug, thiserror::Error)]
#[error("stores are not copied between validators")]
pub(crate) struct NotServed;

impl Source for NoSync {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation<mmr::Family, Digest, Bytes>;
    type Error = NotServed;

    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        Err(NotServed)
    }
}

impl<DB: Send + Sync + 'static> AttachableResolver<DB> for NoSync {
    async fn attach_database(&self, _: Shared<DB>) {}
}

/// Where the store lies and how much it buffers. Blob sizes are part of the format.
pub(crate) fn config(prefix: &str, page_cache: CacheRef) -> StoreConfig {
    VariableConfig {
        merkle_config: MmrConfig {
            journal_partition: format!("{prefix}-state-mmr-journal"),
            metadata_partition: format!("{prefix}-state-mmr-metadata"),
            items_per_blob: NZU64!(4096),
            write_buffer: IO_BUFFER,
            replay_buffer: IO_BUFFER,
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: NZU64!(4096),
            compression: None,
            codec_config: ((), value_range()),
            page_cache,
            write_buffer: IO_BUFFER,
            replay_buffer: IO_BUFFER,
        },
        grafted_metadata_partition: format!("{prefix}-state-grafted"),
        translator: EightCap,
        init_cache: Some(NZUsize!(4096)),
        init_buffer: NZUsize!(1 << 20),
        init_concurrency: (),
    }
}

/// Writes the changes of a block and computes the roots.
pub(crate) async fn seal<E: Spawner + StorageContext>(
    mut batch: Batch<E>,
    changes: BTreeMap<Key, Option<Bytes>>,
) -> Result<Sealed<E>, ExecuteError> {
    use commonware_glue::stateful::db::Unmerkleized as _;
    for (key, value) in changes {
        batch = batch.write(to_digest(&key), value);
    }
    batch.merkleize().await.map_err(|error| ExecuteError::Store(error.to_string()))
}

/// What a header says about the store after its block.
pub(crate) fn commitment<E: Spawner + StorageContext>(sealed: &Sealed<E>) -> StateCommitment {
    use commonware_glue::stateful::db::Merkleized as _;
    StateCommitment {
        root: sealed.root(),
        ops_root: sealed.ops_root(),
        ops_start: *sealed.sync_boundary(),
        ops_end: *sealed.bounds().tip.size,
    }
}
