//! The seeds of past views, nullified ones included.
//!
//! Every certificate of a view (notarization, nullification, finalization) carries the same seed.
//! Consensus reports certificates as they arrive; headers carry the seeds since their parent's
//! view. Both end here: a bounded cache answers at once and lets a proposer wait for its parent's
//! seed, and a writer task keeps all of them on disk. The last views before a kill may be missing
//! on disk, but those are in the consensus journal, which reports them again at the next start.

use crate::archive;
use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::{
    Reporter, Viewable as _,
    simplex::{scheme::bls12381_threshold::vrf::Certificate, types::Activity},
};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_runtime::{Handle, Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Error as ArchiveError, Identifier, prunable},
    translator::TwoCap,
};
use commonware_utils::sequence::U64;
use futures::{
    SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
};
use nesa_chain::header::{Digest, SEED_BYTES, SeedSignature};
use nesa_verify::Scheme;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::error;

/// Views whose seeds are kept in memory; at four views a second, a little over half an hour.
const RECENT_VIEWS: usize = 8192;
/// Seeds that may wait for the writer before consensus' reports are dropped from disk.
const WRITE_QUEUE: usize = 4096;
/// Reads that may wait for the writer.
const READ_QUEUE: usize = 64;

type Archive<E> = prunable::Archive<TwoCap, E, U64, SeedSignature>;

#[derive(Default)]
struct Inner {
    recent: BTreeMap<u64, SeedSignature>,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<SeedSignature>>>,
}

enum Task {
    Write(u64, SeedSignature),
    Read(u64, oneshot::Sender<Option<SeedSignature>>),
}

/// Shared view of the seeds; cheap to clone.
#[derive(Clone)]
pub(crate) struct Seeds {
    inner: Arc<Mutex<Inner>>,
    writes: mpsc::Sender<Task>,
    reads: mpsc::Sender<Task>,
}

impl Seeds {
    /// Opens the archive and starts its writer.
    pub(crate) async fn start<E: Spawner + StorageContext>(
        context: E,
        prefix: &str,
        page_cache: CacheRef,
    ) -> Result<(Self, Handle<()>), ArchiveError> {
        let archive = Archive::init(
            context.child("archive"),
            archive::config(TwoCap, prefix, "seeds", archive::SMALL_ITEMS, page_cache),
        )
        .await?;
        let mut inner = Inner::default();
        if let Some(last) = archive.last_index() {
            for view in last.saturating_sub(RECENT_VIEWS as u64 / 8)..=last {
                if let Some(seed) = archive.get(Identifier::Index(view)).await? {
                    inner.recent.insert(view, seed);
                }
            }
        }
        let (writes, write_queue) = mpsc::channel(WRITE_QUEUE);
        let (reads, read_queue) = mpsc::channel(READ_QUEUE);
        let handle = context.child("writer").spawn(move |_| async move {
            let tasks = futures::stream::select(write_queue, read_queue);
            if let Err(problem) = write(archive, tasks).await {
                error!(%problem, "the archive of seeds stopped");
            }
        });
        Ok((Self { inner: Arc::new(Mutex::new(inner)), writes, reads }, handle))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a verified seed and wakes whoever waits for it.
    pub(crate) fn insert(&self, view: u64, seed: SeedSignature) {
        let waiting = {
            let mut inner = self.lock();
            if inner.recent.insert(view, seed).is_some() {
                return;
            }
            while inner.recent.len() > RECENT_VIEWS {
                inner.recent.pop_first();
            }
            inner.waiting.remove(&view)
        };
        for waiter in waiting.into_iter().flatten() {
            let _ = waiter.send(seed);
        }
        if self.writes.clone().try_send(Task::Write(view, seed)).is_err() {
            error!(view, "a seed could not be queued for the archive");
        }
    }

    /// The seed of `view`, as soon as it is known. Pending forever if it never will be.
    pub(crate) async fn wait(&self, view: u64) -> Option<SeedSignature> {
        let receiver = {
            let mut inner = self.lock();
            if let Some(seed) = inner.recent.get(&view) {
                return Some(*seed);
            }
            let (sender, receiver) = oneshot::channel();
            let waiting = inner.waiting.entry(view).or_default();
            waiting.retain(|waiter| !waiter.is_canceled());
            waiting.push(sender);
            receiver
        };
        receiver.await.ok()
    }

    /// The recent seeds of the views strictly between two, newest last, at most `max` of them.
    pub(crate) fn between(&self, after: u64, before: u64, max: usize) -> Vec<(u64, SeedSignature)> {
        let inner = self.lock();
        let Some(first) = after.checked_add(1).filter(|first| *first < before) else {
            return Vec::new();
        };
        let mut seeds: Vec<_> =
            inner.recent.range(first..before).rev().take(max).map(|(v, s)| (*v, *s)).collect();
        seeds.reverse();
        seeds
    }

    /// The seed of any past view, from memory or from disk.
    pub(crate) async fn get(&self, view: u64) -> Option<SeedSignature> {
        if let Some(seed) = self.lock().recent.get(&view) {
            return Some(*seed);
        }
        let (sender, receiver) = oneshot::channel();
        self.reads.clone().send(Task::Read(view, sender)).await.ok()?;
        receiver.await.ok().flatten()
    }
}

/// Applies reads and writes in order, syncing once per burst of writes.
async fn write<E: Spawner + StorageContext>(
    mut archive: Archive<E>,
    tasks: impl futures::Stream<Item = Task> + Unpin,
) -> Result<(), ArchiveError> {
    let mut bursts = tasks.ready_chunks(256);
    while let Some(burst) = bursts.next().await {
        let mut wrote = false;
        for task in burst {
            match task {
                Task::Write(view, seed) => {
                    archive = archive.put(view, U64::new(view), &seed).await?;
                    wrote = true;
                }
                Task::Read(view, reply) => {
                    let _ = reply.send(archive.get(Identifier::Index(view)).await?);
                }
            }
        }
        if wrote {
            archive = archive.sync().await?;
        }
    }
    Ok(())
}

/// Takes the seed out of every certificate that consensus reports.
#[derive(Clone)]
pub(crate) struct SeedReporter(pub(crate) Seeds);

impl Reporter for SeedReporter {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let (view, certificate) = match &activity {
            Activity::Notarization(n) | Activity::Certification(n) => (n.view(), &n.certificate),
            Activity::Nullification(n) => (n.view(), &n.certificate),
            Activity::Finalization(f) => (f.view(), &f.certificate),
            _ => return Feedback::Ok,
        };
        // The floor of a new chain is the genesis block, which no one certified.
        if view.get() > 0
            && let Some(seed) = of_certificate(certificate)
        {
            self.0.insert(view.get(), seed);
        }
        Feedback::Ok
    }
}

/// The seed inside a certificate that was verified.
pub(crate) fn of_certificate(certificate: &Certificate<MinSig>) -> Option<SeedSignature> {
    let mut bytes = [0u8; SEED_BYTES];
    bytes.copy_from_slice(&certificate.get()?.seed_signature.encode());
    Some(SeedSignature(bytes))
}
