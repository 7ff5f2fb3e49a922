//! Nodes whose shards are computed by a device: the same text, whatever the device does.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/shards.rs"]
#[allow(dead_code)] // each test binary uses a part
mod support;

use nesa_crypto::SecretKey;
use nesa_light::{
    models::NetworkSource,
    sealed::{SealedEvent, SealedListener},
};
use nesa_model::{
    decoder::{
        DecoderModel, DecoderRun, Feed, KvCache,
        toy::{self, Noting, ToyDecoder},
    },
    manifest::WeightForm,
};
use nesa_node::{
    Failed, Fault, Larder, Limits, chunks,
    shard::{BesideShards, DeviceStep, PlaceError, PlacedShard, ShardAccelerator, Shelf},
};
use nesa_platform::{
    BoxFuture,
    net::{NetConfig, Network},
    storage::Store,
    task,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::{TOKENS, World, link, listening};

/// How a device fails, and after how many steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Works,
    /// One bit of the middle value of one stage's product.
    FlipsABit {
        after: usize,
        stage: usize,
    },
    /// It looks at another token than the one it should: as if a cache were damaged.
    Misremembers {
        after: usize,
    },
    GivesTooFew {
        after: usize,
    },
    IsLost {
        after: usize,
    },
    Hangs {
        after: usize,
    },
    HasNoPlace,
    IsUnfit,
    RefusesShards,
    NeverTakesShards,
}

/// What all nodes of a test see of the device.
struct Device {
    way: Way,
    asked: Arc<AtomicUsize>,
    sequences: Arc<AtomicUsize>,
    most_sequences: Arc<AtomicUsize>,
}

impl Device {
    fn new(way: Way) -> Arc<Self> {
        let (asked, sequences, most_sequences) = Default::default();
        Arc::new(Self { way, asked, sequences, most_sequences })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A shard on it, which computes by the definition, until it fails.
struct Shard {
    way: Way,
    model: DecoderModel,
    caches: Mutex<HashMap<u32, KvCache>>,
    asked: Arc<AtomicUsize>,
    sequences: Arc<AtomicUsize>,
    most_sequences: Arc<AtomicUsize>,
}

impl ShardAccelerator for Device {
    fn name(&self) -> String {
        "a device of the tests".into()
    }

    fn shard_bytes(&self, model: &DecoderModel) -> u64 {
        100 * model.layers().len() as u64
    }

    fn cache_bytes(&self, _: &DecoderModel, tokens: usize) -> u64 {
        tokens as u64
    }

    fn place(
        &self,
        model: DecoderModel,
    ) -> BoxFuture<'_, Result<Arc<dyn PlacedShard>, PlaceError>> {
        let shard = Shard {
            way: self.way,
            model,
            caches: Mutex::default(),
            asked: self.asked.clone(),
            sequences: self.sequences.clone(),
            most_sequences: self.most_sequences.clone(),
        };
        Box::pin(async move {
            match self.way {
                Way::IsUnfit => return Err(PlaceError::Unfit("heads of 7 channels".into())),
                Way::RefusesShards => return Err(Failed("out of memory".into()).into()),
                Way::NeverTakesShards => futures::future::pending().await,
                _ => {}
            }
            let placed: Arc<dyn PlacedShard> = Arc::new(shard);
            Ok(placed)
        })
    }
}

impl PlacedShard for Shard {
    fn open(&self, sequence: u32, _: usize) -> Result<(), Failed> {
        if self.way == Way::HasNoPlace {
            return Err(Failed("no room".into()));
        }
        self.caches.lock().unwrap().insert(sequence, KvCache::new());
        let now = self.sequences.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_sequences.fetch_max(now, Ordering::SeqCst);
        Ok(())
    }

    fn close(&self, sequence: u32) {
        assert!(self.caches.lock().unwrap().remove(&sequence).is_some());
        self.sequences.fetch_sub(1, Ordering::SeqCst);
    }

    fn products(&self, steps: Vec<DeviceStep>) -> BoxFuture<'_, Result<Vec<Vec<i32>>, Failed>> {
        Box::pin(async move {
            let before = self.asked.fetch_add(1, Ordering::SeqCst);
            task::yield_now().await;
            match self.way {
                Way::IsLost { after } if before >= after => {
                    return Err(Failed("the device is lost".into()));
                }
                Way::Hangs { after } if before >= after => futures::future::pending().await,
                _ => {}
            }
            let mut caches = self.caches.lock().unwrap();
            let mut feeds = Vec::new();
            for step in &steps {
                let mut cache = caches.remove(&step.sequence).unwrap();
                cache.truncate(step.before).unwrap();
                if matches!(self.way, Way::Misremembers { after } if before >= after) {
                    cache.truncate(step.before.saturating_sub(1)).unwrap();
                }
                feeds.push(Feed { cache, input: step.input.clone(), logits: step.logits });
            }
            let noting = Noting::new(&self.model);
            let fed = DecoderRun::start(&self.model, feeds).unwrap().run(&noting).unwrap();
            caches.extend(
                steps.iter().map(|step| step.sequence).zip(fed.into_iter().map(|f| f.cache)),
            );
            let mut products = noting.into_products();
            match self.way {
                Way::FlipsABit { after, stage } if before >= after => {
                    let stage = stage.min(products.len() - 1);
                    let middle = products[stage].len() / 2;
                    products[stage][middle] ^= 1;
                }
                Way::GivesTooFew { after } if before >= after => drop(products.pop()),
                _ => {}
            }
            Ok(products)
        })
    }
}

/// A world of four layers whose nodes of these seats share a device of `memory` bytes.
async fn world(cuts: &[u16], device: &Arc<Device>, memory: u64, seats: &[u8]) -> World {
    let toy = ToyDecoder { layers: 4, seed: 3, ..ToyDecoder::default() };
    let mut world = World::new(&toy, cuts, 2);
    let beside = BesideShards { accelerator: device.clone(), memory };
    world.beside = Some((beside, seats.to_vec()));
    world
}

fn quiet() -> Arc<dyn SealedListener> {
    Arc::new(|event| {
        if let SealedEvent::Replaced { link, .. } = event {
            panic!("{link:?} is replaced");
        }
    })
}

/// Replicas on the device beside replicas on the processor: the client compares every row of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_on_a_device_write_the_text_of_the_processor() {
    for cuts in [&[0, 4][..], &[0, 2, 4], &[0, 1, 2, 3, 4]] {
        let device = Device::new(Way::Works);
        let mut world = world(cuts, &device, u64::MAX, &[0]).await;
        world.fill(2, &[]).await;
        let (done, _) = world.ask(quiet()).await.unwrap();
        assert_eq!(done.tokens, world.alone());
        assert_eq!(done.agreed, done.tokens.len());
        // A replica that lags takes several tokens in a step.
        let shards = cuts.len() - 1;
        let asked = device.asked();
        assert!(asked > shards * 3 && asked <= shards * (TOKENS + 2), "{asked}");
        assert_eq!(device.most_sequences.load(Ordering::SeqCst), shards);
        // Sessions give back what they held there.
        for _ in 0..500 {
            if device.sequences.load(Ordering::SeqCst) == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(device.sequences.load(Ordering::SeqCst), 0);
    }
}

/// Shards of four-bit weights that a node has not got yet: it fetches this shard's pieces, each checked, and
/// these go to the device as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_shards_that_are_fetched_reach_the_device() {
    let toy = ToyDecoder { layers: 4, d_model: 256, d_ff: 640, seed: 3, ..ToyDecoder::default() };
    let artifact = toy::artifact_of(&toy, WeightForm::Nibbles).unwrap();
    let device = Device::new(Way::Works);
    let mut world = World::of(artifact, &[0, 2, 4], 2);
    let beside = BesideShards { accelerator: device.clone(), memory: u64::MAX };
    world.beside = Some((beside, vec![0]));
    let holder = listening(&SecretKey::from_seed(&[201; 32])).await;
    let _weights = chunks::serve(&holder, vec![world.artifact.clone()], 16).unwrap();
    let address = holder.listen_addresses().remove(0);
    let mut networks = Vec::new();
    for place in 0..4 {
        let network = Network::start(NetConfig::client([150 + place; 32])).await.unwrap();
        let source = NetworkSource::new(network.clone(), &address);
        let (headers, store) = (vec![world.artifact.header().clone()], Store::memory());
        let larder = Larder::new(headers, store, vec![Arc::new(source)], u64::MAX);
        let shelf = Shelf::new(Vec::new(), Some(&Arc::new(larder)));
        world.add(link(place / 2, place % 2), shelf, None, Limits::default()).await;
        networks.push(network);
    }
    let (done, _) = world.ask(quiet()).await.unwrap();
    assert_eq!(done.tokens, world.alone());
    assert_eq!(done.agreed, done.tokens.len());
    assert_eq!(device.most_sequences.load(Ordering::SeqCst), 2);
    let asked = device.asked();
    assert!(asked > 2 * 3 && asked <= 2 * (TOKENS + 2), "{asked}");
}

/// All replicas on one device each, and it fails in mid-text: nobody is replaced, no byte changes, and the
/// device is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_wrong_lost_or_late_changes_no_byte() {
    let after = 3;
    for way in [
        Way::FlipsABit { after, stage: 0 },
        Way::FlipsABit { after, stage: 6 },
        Way::FlipsABit { after, stage: 16 },
        Way::FlipsABit { after: 0, stage: 3 },
        Way::Misremembers { after },
        Way::GivesTooFew { after },
        Way::IsLost { after },
        Way::Hangs { after },
    ] {
        let device = Device::new(way);
        let mut world = world(&[0, 4], &device, u64::MAX, &[0]).await;
        world.fill(2, &[]).await;
        let (done, _) = world.ask(quiet()).await.unwrap();
        assert_eq!(done.tokens, world.alone(), "{way:?}");
        assert_eq!(done.agreed, done.tokens.len(), "{way:?}");
        let failed = if way == (Way::FlipsABit { after: 0, stage: 3 }) { 1 } else { after + 1 };
        assert_eq!(device.asked(), failed, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_on_the_device_is_the_processors() {
    // Weights of four layers take 400 bytes here; the cache of this query takes one a token.
    for (way, memory) in [
        (Way::Works, 399),
        (Way::Works, 401),
        (Way::HasNoPlace, u64::MAX),
        (Way::IsUnfit, u64::MAX),
        (Way::RefusesShards, u64::MAX),
        (Way::NeverTakesShards, u64::MAX),
    ] {
        let device = Device::new(way);
        let mut world = world(&[0, 4], &device, memory, &[0, 1]).await;
        world.fill(2, &[]).await;
        let (done, _) = world.ask(quiet()).await.unwrap();
        assert_eq!(done.tokens, world.alone());
        assert_eq!(device.asked(), 0, "{way:?} {memory}");
    }
}

/// A step that a scenario computes wrong is the processor's; the device, which lacks it, serves no more of
/// the session, and the lie is noticed as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lies_is_noticed_with_a_device_too() {
    let device = Device::new(Way::Works);
    let mut world = world(&[0, 2, 4], &device, u64::MAX, &[0, 1]).await;
    world.fill(2, &[(link(1, 0), Fault::FlipOneBit { product: 15 })]).await;
    let failed = world.ask(quiet()).await.unwrap_err();
    assert!(failed.to_string().contains("disagree"), "{failed}");
}
