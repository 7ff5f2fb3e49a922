//! What happens after a block is final: the view, the index, the seeds and the pool catch up.
//!
//! The application reports every block it has applied; this task does the rest outside of the
//! consensus path, in order. After a restart it first catches up with what was finalized before.

use crate::{
    engine::{Marshal, Runtime},
    index::{Index, Place},
    mempool::Mempool,
    seeds::{Seeds, of_certificate},
    view::{Head, View},
};
use commonware_consensus::types::Height;
use commonware_storage::archive::Error as ArchiveError;
use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
};
use nesa_chain::block::Block;
use nesa_primitives::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::error;

/// What the follower is told or asked.
pub(crate) enum Event {
    /// The block's changes are in the finalized store.
    Applied(Arc<Block>),
    /// Where is this transaction?
    Locate(Hash, oneshot::Sender<Option<Place>>),
}

/// Headers read back into the view after a restart.
const WARM_HEADERS: u64 = 256;

/// Everything the follower keeps up to date.
pub(crate) struct Follower {
    pub(crate) marshal: Marshal,
    pub(crate) view: View,
    pub(crate) seeds: Seeds,
    pub(crate) pool: Arc<Mutex<Mempool>>,
}

impl Follower {
    /// Runs until the application is gone or the disk fails.
    pub(crate) async fn run<E: Runtime>(
        self,
        index: Index<E>,
        events: mpsc::UnboundedReceiver<Event>,
        caught_up: oneshot::Sender<()>,
    ) {
        if let Err(problem) = self.follow(index, events, caught_up).await {
            error!(%problem, "the index of transactions stopped");
        }
    }

    async fn follow<E: Runtime>(
        &self,
        mut index: Index<E>,
        mut events: mpsc::UnboundedReceiver<Event>,
        caught_up: oneshot::Sender<()>,
    ) -> Result<(), ArchiveError> {
        let processed = self.marshal.get_processed().await.map_or(0, |p| p.height().get());
        let mut next = index.next().min(processed.saturating_sub(WARM_HEADERS)).max(1);
        while next <= processed {
            if let Some(block) = self.marshal.get_block(Height::new(next)).await {
                index = self.enter(index, block.inner()).await?;
            }
            next += 1;
        }
        let _ = caught_up.send(());
        while let Some(event) = events.next().await {
            match event {
                Event::Locate(id, reply) => {
                    let _ = reply.send(index.get(&id).await?);
                }
                Event::Applied(block) => {
                    let height = block.header.height();
                    // Blocks that were applied before a restart are not reported again.
                    for missing in next..height {
                        if let Some(block) = self.marshal.get_block(Height::new(missing)).await {
                            index = self.enter(index, block.inner()).await?;
                        }
                    }
                    if height >= next {
                        index = self.enter(index, &block).await?;
                        next = height + 1;
                    }
                }
            }
        }
        Ok(())
    }

    async fn enter<E: Runtime>(
        &self,
        index: Index<E>,
        block: &Block,
    ) -> Result<Index<E>, ArchiveError> {
        let header = &block.header;
        for (view, seed) in header.seeds() {
            self.seeds.insert(view, *seed);
        }
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .finalized(&block.txs, header.timestamp_ms());
        let index = index.insert(block).await?;
        let finalization = self.marshal.get_finalization(Height::new(header.height())).await;
        if let Some(seed) = finalization.as_ref().and_then(|f| of_certificate(&f.certificate)) {
            self.seeds.insert(header.view(), seed);
        }
        self.view.push(Head {
            header: Arc::new(header.clone()),
            finalization,
            transactions: block.txs.len(),
        });
        Ok(index)
    }
}
