//! Where transactions are: id → (height, place), kept on disk and caught up after a restart.

use crate::archive;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Error as ArchiveError, Identifier, MultiArchive as _, prunable},
    translator::EightCap,
};
use nesa_chain::{
    block::Block,
    header::{Digest, to_digest},
};
use nesa_primitives::{Hash, codec_struct};

/// Heights at which an empty entry is written, so that a restart of an idle chain has little to
/// catch up.
const CHECKPOINT: u64 = 1024;

/// Place of a transaction in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Height of the block.
    pub(crate) height: u64,
    /// Index in the block.
    pub(crate) index: u32,
}

codec_struct!(Place { height, index });

type Archive<E> = prunable::Archive<EightCap, E, Digest, Place>;

/// The index. One task owns it.
pub(crate) struct Index<E: Spawner + StorageContext> {
    archive: Archive<E>,
}

impl<E: Spawner + StorageContext> Index<E> {
    pub(crate) async fn open(
        context: E,
        prefix: &str,
        page_cache: CacheRef,
    ) -> Result<Self, ArchiveError> {
        let archive = Archive::init(
            context,
            archive::config(EightCap, prefix, "index", archive::SMALL_ITEMS, page_cache),
        )
        .await?;
        Ok(Self { archive })
    }

    /// The first height whose block may still have to be indexed.
    ///
    /// The last height in the archive counts as missing, since a kill may have cut it short;
    /// entering it again only repeats entries.
    pub(crate) fn next(&self) -> u64 {
        self.archive.last_index().unwrap_or(1)
    }

    /// Enters a finalized block.
    pub(crate) async fn insert(self, block: &Block) -> Result<Self, ArchiveError> {
        let height = block.header.height();
        let mut archive = self.archive;
        let checkpoint = height.is_multiple_of(CHECKPOINT);
        if block.txs.is_empty() && !checkpoint {
            return Ok(Self { archive });
        }
        if checkpoint {
            let key = to_digest(&Hash::ZERO);
            archive = archive.put_multi(height, key, &Place { height, index: u32::MAX }).await?;
        }
        for (index, tx) in (0u32..).zip(&block.txs) {
            archive =
                archive.put_multi(height, to_digest(&tx.id()), &Place { height, index }).await?;
        }
        Ok(Self { archive: archive.sync().await? })
    }

    /// Where the transaction is, if it is in a finalized block.
    pub(crate) async fn get(&self, id: &Hash) -> Result<Option<Place>, ArchiveError> {
        let place = self.archive.get(Identifier::Key(&to_digest(id))).await?;
        Ok(place.filter(|place| place.index != u32::MAX))
    }
}
