//! Whatever workers do, the product is the one of the definition.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::sync::atomic::{AtomicUsize, Ordering};

use nesa_kernels::reference;
use nesa_model::toy::{self, ToyConfig};
use proptest::prelude::*;

use super::*;

/// How a worker fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Works,
    RefusesWeights,
    HangsOverWeights,
    FlipsABit,
    GivesTooFew,
    GivesTooMany,
    Dies { after: usize },
    Hangs,
}

const FAILURES: [Way; 7] = [
    Way::RefusesWeights,
    Way::HangsOverWeights,
    Way::FlipsABit,
    Way::GivesTooFew,
    Way::GivesTooMany,
    Way::Dies { after: 1 },
    Way::Hangs,
];

/// A slice of a weight and its columns.
type Held = (Vec<i8>, usize);

/// Workers that compute by the definition, until they fail.
struct Made {
    ways: Vec<Way>,
    held: Mutex<HashMap<(usize, u32), Held>>,
    asked: Vec<AtomicUsize>,
    ended: Mutex<Vec<usize>>,
}

impl Made {
    fn new(ways: &[Way]) -> Arc<Self> {
        Arc::new(Self {
            ways: ways.to_vec(),
            held: Mutex::default(),
            asked: ways.iter().map(|_| AtomicUsize::new(0)).collect(),
            ended: Mutex::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.iter().map(|asked| asked.load(Ordering::Relaxed)).sum()
    }

    fn answer(&self, worker: usize, weight: u32, share: &[u32], rows: usize) -> Option<Answer> {
        let before = self.asked[worker].fetch_add(1, Ordering::Relaxed);
        let (w, k) = locked(&self.held)[&(worker, weight)].clone();
        let n = w.len() / k;
        let mut part = vec![0; rows * n];
        reference::matmul_mask_u32(&w, share, n, k, rows, &mut part);
        match self.ways[worker] {
            Way::Dies { after } if before >= after => return Some(Err(Failed("it died".into()))),
            Way::Hangs => return None,
            Way::FlipsABit => part[rows * n / 2] ^= 1,
            Way::GivesTooFew => drop(part.pop()),
            Way::GivesTooMany => part.push(0),
            _ => {}
        }
        Some(Ok(part))
    }
}

type Answer = Result<Vec<u32>, Failed>;

impl Workers for Made {
    fn count(&self) -> usize {
        self.ways.len()
    }

    fn load<'a>(
        &'a self,
        worker: usize,
        weight: u32,
        w: &'a [i8],
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            match self.ways[worker] {
                Way::RefusesWeights => return Err(Failed("no room".into())),
                Way::HangsOverWeights => futures::future::pending().await,
                _ => {}
            }
            locked(&self.held).insert((worker, weight), (w.to_vec(), k));
            Ok(())
        })
    }

    fn products(&self, workers: &[usize], weight: u32, share: &[u32], rows: usize) -> Slices {
        let begin = |&worker: &usize| {
            let answer = self.answer(worker, weight, share, rows);
            let answer = async move {
                task::yield_now().await;
                match answer {
                    Some(answer) => answer,
                    None => futures::future::pending().await,
                }
            };
            Box::pin(answer) as BoxFuture<'static, Answer>
        };
        workers.iter().map(begin).collect()
    }

    fn end(&self, worker: usize) {
        locked(&self.ended).push(worker);
    }
}

/// A model whose rows make several slices.
const CONFIG: ToyConfig = ToyConfig {
    d_model: 96,
    d_ff: 160,
    heads: 4,
    layers: 1,
    max_tokens: 64,
    input_bits: 12,
    seed: 3,
};

struct Set {
    digest: Hash,
    model: ExactModel,
    lane: Lane,
    made: Arc<Made>,
    counters: Arc<Counters>,
    threads: Threads,
}

impl Set {
    async fn with(ways: &[Way], memory: u64) -> Self {
        let artifact = toy::artifact(&CONFIG).unwrap();
        let digest = artifact.digest();
        let model = ExactModel::open(&artifact).unwrap();
        let lane = Lane::of_model(model.served_stages()).unwrap();
        let models = Arc::new(HashMap::from([(digest, (model.clone(), lane.clone()))]));
        let counters = Arc::new(Counters::default());
        let threads = Threads::counted(Stock::Opened(models), counters.clone());
        let made = Made::new(ways);
        threads.employ(Team { workers: made.clone(), memory }).await;
        Self { digest, model, lane, made, counters, threads }
    }

    /// What the threads give for stage number `index`, and what is right.
    async fn ask(&self, index: usize, rows: usize) -> (Option<Vec<u32>>, Vec<u32>) {
        let stage = self.lane.stages()[index];
        let (n, k) = (stage.n as usize, stage.k as usize);
        let share: Vec<u32> =
            (0..rows * k).map(|i| (i as u32).wrapping_mul(0x9e37_79b9) ^ 0x8000_0000).collect();
        let mut right = vec![0; rows * n];
        let w = self.model.weights(StageId(stage.id));
        reference::matmul_mask_u32(&w.bytes(k), &share, n, k, rows, &mut right);
        (self.threads.product((self.digest, stage.id), &self.model, &share, rows).await, right)
    }

    fn standing(&self) -> PoolStanding {
        self.counters.snapshot().pool.unwrap()
    }
}

#[tokio::test]
async fn workers_that_work_take_part_in_every_stage() {
    for count in 0..=4 {
        let set = Set::with(&vec![Way::Works; count], u64::MAX).await;
        for index in 0..set.lane.stages().len() {
            let (got, right) = set.ask(index, 3).await;
            assert_eq!(got, (count > 0).then_some(right), "{count} workers, stage {index}");
        }
        let standing = set.standing();
        assert_eq!((standing.workers, standing.ended), (count as u32, None));
        assert_eq!(set.made.asked(), count * set.lane.stages().len());
        let metrics = set.counters.snapshot();
        assert_eq!(metrics.on_pool.products > 0, count > 0);
    }
}

#[tokio::test]
async fn a_worker_that_fails_costs_its_slice_and_itself() {
    for way in FAILURES {
        let set = Set::with(&[Way::Works, way, Way::Works], u64::MAX).await;
        for rows in [2, 5, 1] {
            let (got, right) = set.ask(0, rows).await;
            assert_eq!(got, Some(right), "{way:?}");
        }
        let standing = set.standing();
        assert_eq!((standing.given, standing.workers), (3, 2), "{way:?}");
        assert!(standing.ended.is_some(), "{way:?}");
        assert_eq!(*locked(&set.made.ended), [1], "{way:?}");
        // It is not asked again, the others are.
        let before = set.made.asked[1].load(Ordering::Relaxed);
        assert!(set.ask(0, 2).await.0.is_some());
        assert_eq!(set.made.asked[1].load(Ordering::Relaxed), before, "{way:?}");
        assert!(set.made.asked[0].load(Ordering::Relaxed) >= 4);
    }
}

#[tokio::test]
async fn without_workers_left_the_thread_is_alone() {
    let set = Set::with(&[Way::FlipsABit, Way::Hangs], u64::MAX).await;
    let (got, right) = set.ask(1, 2).await;
    assert_eq!(got, Some(right));
    assert_eq!(set.ask(1, 2).await.0, None);
    assert_eq!(set.standing().workers, 0);
}

#[tokio::test]
async fn weights_beyond_the_memory_stay_with_the_thread() {
    let all = Set::with(&[Way::Works], u64::MAX).await.standing();
    assert_eq!(all.placed, all.stages);
    let some = Set::with(&[Way::Works], all.bytes - 1).await.standing();
    assert!(some.bytes < all.bytes && some.placed > 0 && some.placed < some.stages, "{some:?}");
    let none = Set::with(&[Way::Works], 10).await;
    assert_eq!((none.standing().bytes, none.ask(0, 1).await.0), (0, None));
}

#[tokio::test]
async fn a_team_that_is_dismissed_ends_and_another_may_come() {
    let set = Set::with(&[Way::Works, Way::Works], u64::MAX).await;
    set.threads.dismiss();
    assert_eq!((set.ask(0, 2).await.0, set.counters.snapshot().pool), (None, None));
    assert_eq!(*locked(&set.made.ended), [0, 1]);
    let next = Made::new(&[Way::Works]);
    set.threads.employ(Team { workers: next.clone(), memory: u64::MAX }).await;
    let (got, right) = set.ask(0, 2).await;
    assert_eq!((got, next.asked()), (Some(right), 1));
}

/// A share whose length is not its rows' is nobody's work.
#[tokio::test]
async fn a_share_of_another_shape_is_not_handed_over() {
    let set = Set::with(&[Way::Works], u64::MAX).await;
    let key = (set.digest, set.lane.stages()[0].id);
    assert_eq!(set.threads.product(key, &set.model, &[1, 2, 3], 1).await, None);
    assert_eq!(set.threads.product((Hash::ZERO, key.1), &set.model, &[], 0).await, None);
    assert_eq!(set.made.asked(), 0);
}

#[tokio::test]
async fn products_of_several_queries_do_not_mix() {
    let set = Set::with(&[Way::Works, Way::Dies { after: 3 }], u64::MAX).await;
    let asked = (0..8).map(|i| set.ask(i % set.lane.stages().len(), 1 + i));
    for (got, right) in futures::future::join_all(asked).await {
        assert_eq!(got, Some(right));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any mixture of workers, any rows.
    #[test]
    fn any_team_gives_the_product(
        ways in prop::collection::vec(prop_oneof![
            3 => Just(Way::Works), 1 => Just(Way::FlipsABit), 1 => Just(Way::GivesTooFew),
            1 => Just(Way::RefusesWeights), 1 => (0usize..3).prop_map(|after| Way::Dies { after }),
        ], 1..4),
        asks in prop::collection::vec((0usize..4, 1usize..7), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let set = Set::with(&ways, u64::MAX).await;
            for (index, rows) in asks {
                let (got, right) = set.ask(index % set.lane.stages().len(), rows).await;
                // None where nobody is left: then the node's own kernel computes.
                assert!(got.is_none_or(|got| got == right), "{ways:?}");
            }
        });
    }
}
