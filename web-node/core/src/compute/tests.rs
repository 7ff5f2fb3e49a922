//! Whatever an accelerator does, the answer is right or comes from the processor.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use nesa_kernels::reference::matmul_mask_u32;
use nesa_masked::Lane;
use nesa_model::toy::{self, ToyConfig};
use nesa_platform::BoxFuture;

use super::*;

/// How a device fails.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Works,
    RefusesWeights,
    FlipsABit,
    GivesTooFew,
    IsLost { after: usize },
    Hangs,
}

/// A weight, its rows and its columns.
type Held = (Vec<i8>, usize, usize);

/// A device that computes by the definition, until it fails.
struct Device {
    way: Way,
    weights: Mutex<HashMap<u32, Held>>,
    batches: Mutex<Vec<usize>>,
    served: AtomicUsize,
}

impl Device {
    fn new(way: Way) -> Arc<Self> {
        Arc::new(Self {
            way,
            weights: Mutex::default(),
            batches: Mutex::default(),
            served: 0.into(),
        })
    }
}

impl Accelerator for Device {
    fn name(&self) -> String {
        "a device of the tests".into()
    }

    fn load<'a>(
        &'a self,
        weight: u32,
        w: &'a [i8],
        n: usize,
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            if self.way == Way::RefusesWeights {
                return Err(Failed("no room".into()));
            }
            self.weights.lock().unwrap().insert(weight, (w.to_vec(), n, k));
            Ok(())
        })
    }

    fn products(&self, batch: Vec<Product>) -> BoxFuture<'_, Result<Vec<Vec<u32>>, Failed>> {
        Box::pin(async move {
            self.batches.lock().unwrap().push(batch.len());
            task::yield_now().await;
            let before = self.served.fetch_add(batch.len(), Ordering::Relaxed);
            if matches!(self.way, Way::IsLost { after } if before >= after) {
                return Err(Failed("the device is lost".into()));
            }
            if self.way == Way::Hangs {
                futures::future::pending::<()>().await;
            }
            let weights = self.weights.lock().unwrap();
            let mut products: Vec<Vec<u32>> = batch
                .iter()
                .map(|product| {
                    let (w, n, k) = &weights[&product.weight];
                    let mut y = vec![0; product.rows * n];
                    matmul_mask_u32(w, &product.share, *n, *k, product.rows, &mut y);
                    y
                })
                .collect();
            match self.way {
                Way::FlipsABit => products[0][0] ^= 1,
                Way::GivesTooFew => drop(products.pop()),
                _ => {}
            }
            Ok(products)
        })
    }
}

fn models() -> (Hash, HashMap<Hash, (ExactModel, Lane)>) {
    let artifact = toy::artifact(&ToyConfig::default()).unwrap();
    let model = ExactModel::open(&artifact).unwrap();
    let lane = Lane::of_model(model.served_stages()).unwrap();
    (artifact.digest(), HashMap::from([(artifact.digest(), (model, lane))]))
}

struct Set {
    digest: Hash,
    models: HashMap<Hash, (ExactModel, Lane)>,
    device: Arc<Device>,
    processors: Processors,
    _guard: Guard,
}

impl Set {
    async fn with(way: Way, memory: u64) -> Self {
        let (digest, models) = models();
        let device = Device::new(way);
        let counters = Arc::new(Counters::default());
        let stock = Stock::Opened(Arc::new(models.clone()));
        let threads = Threads::counted(stock, counters.clone());
        let standing = Watch::of(device.name());
        let beside = (device.clone() as Arc<dyn Accelerator>, memory);
        let (mut processors, guard) = Processors::beside(beside, threads, counters, standing);
        for (digest, (model, lane)) in &models {
            let open = async { Ok::<_, std::convert::Infallible>(model.clone()) };
            processors.place(*digest, lane, open).await.unwrap();
        }
        Self { digest, models, device, processors, _guard: guard }
    }

    /// What the accelerator gives for stage number `index`, and what is right.
    async fn ask(&self, index: usize, rows: usize) -> (Option<Vec<u32>>, Vec<u32>) {
        let (model, lane) = &self.models[&self.digest];
        let stage = lane.stages()[index];
        let (n, k) = (stage.n as usize, stage.k as usize);
        let share: Vec<u32> =
            (0..rows * k).map(|i| (i as u32).wrapping_mul(0x9e37_79b9) ^ 0x8000_0000).collect();
        let mut right = vec![0; rows * n];
        let w = model.weights(nesa_model::StageId(stage.id)).bytes(k);
        matmul_mask_u32(&w, &share, n, k, rows, &mut right);
        (self.processors.accelerated((self.digest, stage.id), &share, rows).await, right)
    }

    fn dropped(&self) -> Option<String> {
        self.processors.standing().dropped.clone()
    }
}

#[tokio::test]
async fn a_device_that_works_answers() {
    let set = Set::with(Way::Works, u64::MAX).await;
    for rows in [1, 5] {
        let (got, right) = set.ask(0, rows).await;
        assert_eq!(got, Some(right));
    }
    let standing = set.processors.standing().clone();
    assert_eq!((standing.placed, standing.dropped), (standing.stages, None));
    let metrics = set.processors.counters.snapshot();
    assert_eq!((metrics.on_accelerator.products, metrics.on_cpu.products), (2, 0));
}

/// While the first is computed the others gather, and go together.
#[tokio::test]
async fn products_that_wait_go_in_one_batch() {
    let set = Set::with(Way::Works, u64::MAX).await;
    let asked = futures::future::join_all((0..6).map(|_| set.ask(1, 2))).await;
    for (got, right) in asked {
        assert_eq!(got, Some(right));
    }
    let batches = set.device.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 6);
    assert!(batches.len() < 6, "{batches:?}");
}

#[tokio::test]
async fn a_device_that_fails_gives_no_wrong_answer_and_is_not_asked_again() {
    for (way, reason) in [
        (Way::FlipsABit, "wrong"),
        (Way::GivesTooFew, "0 products of 1"),
        (Way::IsLost { after: 0 }, "lost"),
        (Way::Hangs, "longer than"),
        (Way::RefusesWeights, "no room"),
    ] {
        let set = Set::with(way, u64::MAX).await;
        assert_eq!(set.ask(0, 3).await.0, None);
        let dropped = set.dropped().unwrap();
        assert!(dropped.contains(reason), "{dropped}");
        let asked = set.device.batches.lock().unwrap().len();
        assert_eq!(set.ask(0, 3).await.0, None);
        assert_eq!(set.device.batches.lock().unwrap().len(), asked);
    }
}

#[tokio::test]
async fn a_device_lost_in_mid_query_leaves_the_rest_to_the_processor() {
    let set = Set::with(Way::IsLost { after: 2 }, u64::MAX).await;
    for index in [0, 1] {
        let (got, right) = set.ask(index, 4).await;
        assert_eq!(got, Some(right));
    }
    assert_eq!(set.ask(0, 4).await.0, None);
    assert_eq!(set.processors.counters.snapshot().on_accelerator.products, 2);
}

#[tokio::test]
async fn weights_beyond_the_memory_stay_with_the_processor() {
    let (digest, models) = models();
    let first = models[&digest].1.stages()[0];
    let device = Device::new(Way::Works);
    let room = device.footprint(first.n as usize, first.k as usize);
    let none = Set::with(Way::Works, room - 1).await;
    assert!(none.ask(0, 1).await.0.is_none());
    let one = Set::with(Way::Works, room).await;
    let standing = one.processors.standing().clone();
    assert!(standing.bytes <= room && standing.placed < standing.stages, "{standing:?}");
    assert!(one.ask(0, 1).await.0.is_some());
    let last = one.models[&one.digest].1.stages().len() - 1;
    assert!(one.ask(last, 1).await.0.is_none() && one.dropped().is_none());
    // A model of which nothing has room is not even opened.
    let mut none = none.processors;
    let open = async { panic!("it is opened") };
    let placed: Result<(), std::convert::Infallible> =
        none.place(digest, &models[&digest].1, open).await;
    assert!(placed.is_ok());
}
