//! Pieces of a shard from strangers: an interrupted fetch asks for what is missing alone, and what changed on disk is
//! noticed and fetched again.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nesa_light::models::{ModelStore, PieceSource};
use nesa_model::{
    Artifact,
    decoder::{
        Shard,
        toy::{self, ToyDecoder},
    },
};
use nesa_platform::{BoxFuture, storage::Store};
use nesa_primitives::Hash;

/// Gives pieces until it has given as many as it may, then never answers again.
struct Peer {
    name: &'static str,
    artifact: Artifact,
    left: AtomicUsize,
    given: Mutex<Vec<usize>>,
}

impl Peer {
    fn new(name: &'static str, artifact: &Artifact, left: usize) -> Arc<Self> {
        let (artifact, left) = (artifact.clone(), AtomicUsize::new(left));
        Arc::new(Self { name, artifact, left, given: Mutex::default() })
    }

    fn given(&self) -> Vec<usize> {
        let mut given = self.given.lock().unwrap().clone();
        given.sort_unstable();
        given
    }
}

impl PieceSource for Peer {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn piece(&self, _: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let less = |left: usize| left.checked_sub(1);
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
                std::future::pending::<()>().await;
            }
            self.given.lock().unwrap().push(index as usize);
            Ok(self.artifact.piece(index as usize).unwrap())
        })
    }
}

/// A store on disk, in a folder that goes with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("nesa-pieces-{}", std::process::id())))
    }

    async fn store(&self) -> ModelStore {
        ModelStore::new(Store::open(self.0.to_str().unwrap()).await.unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_shard_goes_on_and_a_damaged_piece_comes_again() {
    let wide = ToyDecoder { d_model: 256, d_ff: 1024, layers: 4, ..ToyDecoder::default() };
    let artifact = toy::artifact(&wide).unwrap();
    let (model, layers) = (artifact.digest(), 1..4);
    let shard = Shard::new(artifact.header().clone(), layers.clone()).unwrap();
    let wanted: BTreeSet<usize> = shard.missing().collect();
    let folder = Folder::new();
    let quiet = |_| {};

    // Two peers that fall silent, after six answers in all, the header's among them.
    let silent = [Peer::new("one", &artifact, 3), Peer::new("two", &artifact, 3)];
    let sources = silent.clone().map(|peer| peer as Arc<dyn PieceSource>);
    let store = folder.store().await;
    let waits = async {
        while store.held(&model).await.unwrap().len() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            done = store.shard(&model, layers.clone(), &sources, &quiet) => {
                panic!("the peers are silent: {:?}", done.map(|shard| shard.layers()));
            }
            () = waits => {}
        }
    })
    .await
    .unwrap();
    let kept: BTreeSet<usize> = store.held(&model).await.unwrap().into_iter().collect();
    let given = silent.iter().flat_map(|peer| peer.given()).filter(|index| *index > 0);
    assert_eq!(kept, given.collect());
    assert!(kept.is_subset(&wanted) && kept.len() < wanted.len());
    assert!(silent.iter().all(|peer| !peer.given().is_empty()), "both were asked");

    // Opened anew, as after a kill: what is missing, once, and not the header.
    let peer = Peer::new("three", &artifact, usize::MAX);
    let sources = [peer.clone() as Arc<dyn PieceSource>];
    let store = folder.store().await;
    let got = store.shard(&model, layers.clone(), &sources, &quiet).await.unwrap();
    assert_eq!(got.layers(), layers);
    let missing: Vec<usize> = wanted.difference(&kept).copied().collect();
    assert_eq!(peer.given(), missing);
    assert_eq!(store.fetched(), missing.len() as u64);

    // On disk one piece changes, one is cut and one is gone: these three, and nothing else.
    let space = folder.0.join(format!("model-{model}"));
    let mut broken: Vec<usize> = wanted.iter().copied().step_by(3).take(3).collect();
    let path = |index: usize| {
        let key: String = index.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        space.join(key)
    };
    let mut bytes = std::fs::read(path(broken[0])).unwrap();
    *bytes.last_mut().unwrap() ^= 0x80;
    std::fs::write(path(broken[0]), bytes).unwrap();
    std::fs::write(path(broken[1]), b"").unwrap();
    std::fs::remove_file(path(broken[2])).unwrap();
    let peer = Peer::new("four", &artifact, usize::MAX);
    let sources = [peer.clone() as Arc<dyn PieceSource>];
    let store = folder.store().await;
    store.shard(&model, layers.clone(), &sources, &quiet).await.unwrap();
    broken.sort_unstable();
    assert_eq!(peer.given(), broken);
    // From then on nobody is needed.
    let nobody: [Arc<dyn PieceSource>; 0] = [];
    folder.store().await.shard(&model, layers, &nobody, &quiet).await.unwrap();
}
