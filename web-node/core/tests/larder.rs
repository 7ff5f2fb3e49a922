//! Models that a node fetches: nothing is fetched twice, whatever interrupts it; nothing wrong is kept; and no
//! more is kept than allowed.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/shards.rs"]
#[allow(dead_code)] // a part of it is for other tests
mod support;

use bytes::Bytes;
use nesa_light::{
    models::{ModelStore, PieceSource},
    sealed::SealedError,
};
use nesa_model::{
    Artifact,
    decoder::{ShardPlan, toy::ToyDecoder},
};
use nesa_node::{Larder, LarderError, Limits, shard::Shelf};
use nesa_platform::{BoxFuture, storage::Store};
use nesa_primitives::{Address, Hash};
use nesa_sealed::{client::RelayError, message::Refusal};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{World, link};

const NODE: Address = Address([2; 32]);

/// Gives pieces of one model, until it has given as many as it may; from then on it never answers.
struct Peer {
    artifact: Artifact,
    left: AtomicUsize,
    given: Mutex<Vec<usize>>,
}

impl Peer {
    fn new(artifact: &Artifact, may_give: usize) -> Arc<Self> {
        let left = AtomicUsize::new(may_give);
        Arc::new(Self { artifact: artifact.clone(), left, given: Mutex::default() })
    }

    fn given(&self) -> BTreeSet<usize> {
        let given = self.given.lock().unwrap();
        let once: BTreeSet<usize> = given.iter().copied().collect();
        assert_eq!(once.len(), given.len(), "no piece is asked for twice: {given:?}");
        once
    }
}

impl PieceSource for Peer {
    fn name(&self) -> String {
        "peer".to_owned()
    }

    fn piece(&self, model: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            assert_eq!(model, self.artifact.digest());
            let less = |left: usize| left.checked_sub(1);
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
                std::future::pending::<()>().await;
            }
            self.given.lock().unwrap().push(index as usize);
            Ok(self.artifact.piece(index as usize).unwrap())
        })
    }
}

/// Wide enough for every layer to have pieces of its own.
fn toy() -> ToyDecoder {
    ToyDecoder { d_model: 256, d_ff: 1024, layers: 4, ..ToyDecoder::default() }
}

fn artifact() -> Artifact {
    nesa_model::decoder::toy::artifact(&toy()).unwrap()
}

fn larder(store: &Store, peer: &Arc<Peer>, budget: u64) -> Arc<Larder> {
    let headers = vec![peer.artifact.header().clone()];
    Arc::new(Larder::new(headers, store.clone(), vec![peer.clone()], budget))
}

async fn held(store: &Store, model: &Hash) -> BTreeSet<usize> {
    ModelStore::new(store.clone()).held(model).await.unwrap().into_iter().collect()
}

/// Bytes of the pieces that a store has.
async fn stored(store: &Store, artifact: &Artifact) -> u64 {
    let held = held(store, &artifact.digest()).await;
    held.iter().map(|index| artifact.header().piece_len(*index).unwrap() as u64).sum()
}

#[tokio::test]
async fn an_interrupted_fetch_goes_on_with_what_is_missing() {
    let (artifact, store) = (artifact(), Store::memory());
    let (model, all) = (artifact.digest(), 1..artifact.header().piece_count());
    let slow = Peer::new(&artifact, 4);
    let first = larder(&store, &slow, u64::MAX);
    let cut = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            done = first.stock(&NODE) => panic!("the peer is silent: {done:?}"),
            () = async {
                while held(&store, &model).await.len() < 4 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            } => {}
        }
    });
    cut.await.unwrap();
    assert_eq!((first.stocked().fetched, first.stocked().ready), (4, false));
    drop(first);
    let before = held(&store, &model).await;
    assert_eq!(before, slow.given());

    let peer = Peer::new(&artifact, usize::MAX);
    let second = larder(&store, &peer, u64::MAX);
    second.stock(&NODE).await.unwrap();
    let missing: BTreeSet<usize> = all.clone().filter(|index| !before.contains(index)).collect();
    assert!(!missing.is_empty());
    assert_eq!(peer.given(), missing);
    assert!(second.stocked().ready);
    assert_eq!(second.stocked().fetched, missing.len() as u64);

    // One piece that changed on disk is noticed and fetched again, and no other.
    let broken = all.clone().nth(2).unwrap();
    let mut bytes = artifact.piece(broken).unwrap().to_vec();
    bytes[7] ^= 1;
    store.put(&format!("model-{model}"), &broken.to_string(), &bytes).await.unwrap();
    let peer = Peer::new(&artifact, usize::MAX);
    larder(&store, &peer, u64::MAX).stock(&NODE).await.unwrap();
    assert_eq!(peer.given(), BTreeSet::from([broken]));

    // From then on nobody is asked.
    let silent = Peer::new(&artifact, 0);
    let last = larder(&store, &silent, u64::MAX);
    last.stock(&NODE).await.unwrap();
    assert_eq!((last.stocked().fetched, last.stocked().done), (0, last.stocked().total));

    // Of a model that is not fetched any more nothing stays.
    let none = Larder::new(Vec::new(), store.clone(), Vec::new(), u64::MAX);
    none.stock(&NODE).await.unwrap();
    assert!(held(&store, &model).await.is_empty());
}

/// A node with room for one of two shards has one of them beforehand, and serves the other in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_takes_the_place_of_what_was_used_longest_ago() {
    let mut world = World::new(&toy(), &[0, 2, 4], 1);
    let (artifact, plan) = (world.artifact.clone(), world.plan.clone());
    assert_eq!(plan, ShardPlan::even(artifact.header(), 2).unwrap(), "the usual plan");
    let budget = plan.bytes(artifact.header()).unwrap().into_iter().max().unwrap() + (1 << 20);
    let whole = artifact.header().layout().total_bytes as u64;
    assert!(budget < whole);
    for place in 0..2 {
        let mut node = Address([0; 32]);
        node.0[0] = place as u8;
        let (store, peer) = (Store::memory(), Peer::new(&artifact, usize::MAX));
        let before = larder(&store, &peer, budget);
        before.stock(&node).await.unwrap();
        let had = peer.given();
        assert!(stored(&store, &artifact).await <= budget);
        // Which of the two it has, its key says.
        let layers = plan.layers(place).unwrap();
        let mut mine = nesa_model::decoder::Shard::new(artifact.header().clone(), layers).unwrap();
        assert_eq!(had, mine.missing().collect());
        for index in had {
            mine.insert(index, artifact.piece(index).unwrap()).unwrap();
        }
        // It serves both, one after the other.
        let shard = 1 - place as u8;
        world
            .add(link(shard, 0), Shelf::new(Vec::new(), Some(&before)), None, Limits::default())
            .await;
        world
            .add(
                link(place as u8, 0),
                Shelf::new(vec![artifact.clone()], None),
                None,
                Limits::default(),
            )
            .await;
        let (done, _) = world.ask(Arc::new(|_| {})).await.unwrap();
        assert_eq!(done.tokens, world.alone());
        assert!(stored(&store, &artifact).await <= budget, "the other shard made room");
        assert!(before.stocked().kept <= budget);
        world.nodes.clear();
    }
}

/// Who may keep less than before keeps a shard of what was there, and fetches nothing for it.
#[tokio::test]
async fn what_may_be_kept_no_more_goes_when_the_node_starts() {
    let (artifact, store) = (artifact(), Store::memory());
    let peer = Peer::new(&artifact, usize::MAX);
    larder(&store, &peer, u64::MAX).stock(&NODE).await.unwrap();
    let before = stored(&store, &artifact).await;
    let plan = ShardPlan::even(artifact.header(), 2).unwrap();
    let budget = plan.bytes(artifact.header()).unwrap().into_iter().max().unwrap() + (1 << 20);
    assert!(budget < before);
    let silent = Peer::new(&artifact, 0);
    let less = larder(&store, &silent, budget);
    less.stock(&NODE).await.unwrap();
    assert!(less.stocked().ready && less.stocked().fetched == 0);
    let now = stored(&store, &artifact).await;
    assert_eq!(now, less.stocked().kept);
    assert!((1..=budget).contains(&now), "{now} of {before}");
    // And all of it again, for what is missing alone.
    let peer = Peer::new(&artifact, usize::MAX);
    let kept = held(&store, &artifact.digest()).await.len();
    larder(&store, &peer, u64::MAX).stock(&NODE).await.unwrap();
    assert_eq!(peer.given().len(), artifact.header().piece_count() - 1 - kept);
    assert_eq!(stored(&store, &artifact).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_neither_kept_nor_served() {
    let mut world = World::new(&toy(), &[0, 2, 4], 1);
    let (store, peer) = (Store::memory(), Peer::new(&world.artifact, usize::MAX));
    let small = larder(&store, &peer, 1000);
    let full = small.stock(&NODE).await.unwrap_err();
    assert!(matches!(full, LarderError::Full { got, expected: 1000, .. } if got > 1000), "{full}");
    for shard in 0..2 {
        let shelf = Shelf::new(Vec::new(), Some(&small));
        world.add(link(shard, 0), shelf, None, Limits::default()).await;
    }
    let failed = world.ask(Arc::new(|_| {})).await.unwrap_err();
    let SealedError::Relay(RelayError::NoSpare { reason, .. }) = failed else { panic!("{failed}") };
    assert_eq!(reason.to_string(), Refusal::Unavailable.to_string());
    assert!(peer.given().is_empty() && held(&store, &world.artifact.digest()).await.is_empty());
}

/// Nobody has it: the error names the piece and what the last peer said.
#[tokio::test]
async fn pieces_that_nobody_gives_are_an_error_in_words() {
    struct Empty;
    impl PieceSource for Empty {
        fn name(&self) -> String {
            "empty".to_owned()
        }
        fn piece(&self, _: Hash, _: u32) -> BoxFuture<'_, Result<Bytes, String>> {
            Box::pin(async { Err("does not hold it".to_owned()) })
        }
    }
    let artifact = artifact();
    let headers = vec![artifact.header().clone()];
    let larder = Larder::new(headers, Store::memory(), vec![Arc::new(Empty)], u64::MAX);
    let error = larder.stock(&NODE).await.unwrap_err().to_string();
    let expected =
        format!("piece 1 of model {} cannot be had: does not hold it", artifact.digest());
    assert_eq!(error, expected);
}
