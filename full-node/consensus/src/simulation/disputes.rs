//! One operator in many disputes at once, on a whole network, while its nonces are stuck.

use super::{
    agent::Agent,
    plan, run,
    world::{AGENTS, World, node_key, operator, time_of, user},
};
use bytes::Bytes;
use commonware_codec::{Decode, Encode};
use commonware_runtime::{Clock as _, deterministic};
use nesa_chain::{
    Action, Lane, Terms, Tx, Verification,
    action::{
        AnswerDispute, CommitShard, OpenDispute, Pair, PayForQuery, Reveal, SeedBytes, Transfer,
    },
    committee::{ShardCommittee, Windows, blind, derive_shards},
    header::to_digest,
    keys,
    query::{DisputeRecord, QueryRecord},
    record::{Account, NodeRecord, Snapshot},
};
use nesa_crypto::SecretKey;
use nesa_model::{
    Artifact, PlainDecoder,
    decoder::{
        DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Shard,
        toy::{ToyDecoder, artifact},
    },
    manifest::Manifest,
};
use nesa_primitives::{Address, Amount, Denom, Hash, decode_exact};
use nesa_trace::{Geometry, Party, Recorder, Rows, Ruling, Side, Trace, row_digest, token_bits};
use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

const TICK: Duration = Duration::from_millis(200);
const MAX_TOKENS: u32 = 16;
const SALT: Hash = Hash([6; 32]);
/// Queries whose disputes run side by side.
const QUERIES: u8 = 3;
/// Which trace the replica after the honest one follows, and the next, and the next: the first is true.
const LIES: [usize; AGENTS as usize] = [0, 1, 2, 1];

/// A toy model, its true trace and two false ones.
struct Lab {
    artifact: Artifact,
    traces: Vec<(Trace, Rows)>,
}

static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let artifact = artifact(&ToyDecoder { layers: 2, ..ToyDecoder::default() }).unwrap();
    let shard = Shard::of_artifact(&artifact, 0..2).unwrap();
    let model = DecoderModel::open_shard(&shard).unwrap();
    let Manifest::Decoder(manifest) = artifact.header().manifest() else { panic!("a decoder") };
    let trace = Trace::new(Geometry::of(&manifest.config, 0..2).unwrap(), SALT);
    let recorder = Recorder::new(vec![trace]).keeping(Box::new(|_, _| true));
    let recorder = Arc::new(Mutex::new(recorder));
    let input = Input::Tokens(vec![3, 1, 4, 1, 5]);
    let feeds = vec![Feed { cache: KvCache::new(), input, logits: Logits::Last }];
    let run = DecoderRun::start_observed(&model, feeds, Box::new(recorder.clone())).unwrap();
    run.run(&PlainDecoder(&model)).unwrap();
    let (trace, rows) = recorder.lock().unwrap().finish().pop().unwrap();
    let lie = |slot: u16| {
        let (mut trace, mut rows) = (trace.clone(), rows.clone());
        let row = rows.get_mut(&(2, slot)).unwrap();
        row[0] = row[0].wrapping_add(5);
        trace.set(2, slot, row_digest(&SALT, 2, slot, row));
        (trace, rows)
    };
    let (one, other) = (lie(9), lie(4));
    Lab { artifact, traces: vec![(trace, rows), one, other] }
});

/// The digest of the model that this scenario asks.
pub(super) fn toy() -> Hash {
    LAB.artifact.digest()
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    /// For each dispute, whether the honest replica is its left party, and the ruling.
    rulings: Vec<(bool, Ruling)>,
    /// The honest operator's bond, before and after.
    bonds: [u64; 2],
    /// The most disputes that waited for the honest operator at one time.
    at_once: usize,
    /// Nonces that it has used since its nonces were stuck.
    nonces_used: u64,
}

/// Plays all operators: the one of node 0 computes honestly, the others lie.
pub(super) struct Scenario(pub(super) Agent);

impl Scenario {
    pub(super) async fn run(self, context: deterministic::Context) {
        while self.record::<nesa_chain::Params>(keys::params()).await.is_none() {
            context.sleep(TICK).await;
        }
        let mut queries = Vec::new();
        for number in 0..QUERIES {
            queries.push(self.open(number).await);
        }
        let first = self.wait(&context, queries[0]).await;
        self.each(&context, &queries, Step::Commit).await;
        let windows = Windows::of(self.query(&queries[0]).await.deadline_ms, true, &first);
        self.until(&context, windows.commit_ms + 1).await;
        self.each(&context, &queries, Step::Reveal).await;
        self.until(&context, windows.reveal_ms + 1).await;

        // A transaction whose predecessor never comes: from here on no nonce of this operator is taken.
        let honest = operator(0);
        let stuck = self.account(&honest.public()).await.nonce;
        let to = user(1).public();
        let action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(1) });
        let chain = self.0.admission.chain;
        let tx = Tx { chain, sender: honest.public(), nonce: stuck + 1, fee: Amount(999), action };
        self.0.hand_over(tx.sign(&honest)).await.unwrap();
        let bond = self.bond().await;

        let pairs = self.pairs(&queries).await;
        for pair in &pairs {
            let manifest = party(0, |party| party.manifest_slice().unwrap());
            let opening = OpenDispute { pair: *pair, manifest };
            self.0.send(&honest, Action::OpenDispute(opening)).await.unwrap();
        }
        let mut ended = Ended::default();
        loop {
            context.sleep(TICK).await;
            let mut owed = 0;
            for pair in &pairs {
                owed += usize::from(self.answer(pair).await);
            }
            ended.at_once = ended.at_once.max(owed);
            let rulings = self.rulings(&queries, &pairs).await;
            if rulings.len() == pairs.len() {
                ended.rulings = rulings;
                ended.bonds = [bond, self.bond().await];
                ended.nonces_used = self.account(&honest.public()).await.nonce - stuck;
                self.0.shared.lock().unwrap().ended = Some(ended);
                break;
            }
        }
        // Its validator lives as long as it does.
        futures::future::pending::<()>().await;
    }

    async fn record<T: Decode<Cfg = ()> + Encode>(&self, key: Hash) -> Option<T> {
        let store = self.0.admission.store.read().await;
        let bytes: Bytes = store.get(&to_digest(&key)).await.ok()??;
        decode_exact(&bytes, &()).ok()
    }

    async fn query(&self, id: &Hash) -> QueryRecord {
        self.record(keys::query(id)).await.unwrap()
    }

    async fn account(&self, address: &Address) -> Account {
        self.record(keys::account(address)).await.unwrap_or_default()
    }

    async fn bond(&self) -> u64 {
        self.record::<NodeRecord>(keys::node(&node_key(0))).await.unwrap().bond.0
    }

    async fn until(&self, context: &deterministic::Context, ms: u64) {
        while time_of(&self.0.view) < ms {
            context.sleep(TICK).await;
        }
    }

    async fn open(&self, number: u8) -> Hash {
        let terms = Terms { cuts: Vec::new(), replicas: AGENTS, disclose: true };
        let action = Action::PayForQuery(PayForQuery {
            model: toy(),
            lane: Lane::Sealed,
            verification: Verification::Committee,
            max_fee: Amount(100_000),
            denom: Denom::NES,
            commitment: Hash([number; 32]),
            client_key: client().public(),
            deadline_ms: time_of(&self.0.view) + 6_000,
            max_tokens: MAX_TOKENS,
            named: None,
            terms: Some(terms),
        });
        let id = self.0.send(&user(0), action).await.unwrap();
        self.0.shared.lock().unwrap().add(id);
        id
    }

    /// Waits for a query's record; the chain's parameters.
    async fn wait(&self, context: &deterministic::Context, id: Hash) -> nesa_chain::Params {
        while self.record::<QueryRecord>(keys::query(&id)).await.is_none() {
            context.sleep(TICK).await;
        }
        self.record(keys::params()).await.unwrap()
    }

    async fn committee(&self, id: &Hash) -> Option<(ShardCommittee, Bytes)> {
        let record: QueryRecord = self.record(keys::query(id)).await?;
        let seed = self.0.seeds.get(record.draw_view).await?;
        let snapshot: Snapshot = self.record(keys::snapshot(record.snapshot_epoch)).await?;
        let terms = record.sealed?.terms;
        let seed = Bytes::copy_from_slice(&seed.0);
        let drawn = derive_shards(&seed, id, &snapshot.set, &toy(), &terms).ok()?;
        Some((drawn, seed))
    }

    /// Which agent sits in each place of a query.
    async fn seats(&self, id: &Hash) -> Option<Vec<u8>> {
        let (drawn, _) = self.committee(id).await?;
        let number = |replica| {
            let node = drawn.seat(0, replica)?.node;
            (0..AGENTS).find(|index| node_key(*index) == node)
        };
        (0..AGENTS).map(number).collect()
    }

    /// Every replica commits or reveals, until all have.
    async fn each(&self, context: &deterministic::Context, queries: &[Hash], step: Step) {
        for id in queries {
            loop {
                let missing = self.step(id, step).await;
                if missing == Some(0) {
                    break;
                }
                context.sleep(TICK).await;
            }
        }
    }

    /// One try for all places; how many were missing.
    async fn step(&self, id: &Hash, step: Step) -> Option<usize> {
        let (seats, (_, seed)) = (self.seats(id).await?, self.committee(id).await?);
        let sealed = self.query(id).await.sealed?;
        let mut missing = 0;
        for (replica, agent) in (0u8..).zip(seats) {
            let root = LAB.traces[LIES[usize::from(agent)]].0.root(token_bits(MAX_TOKENS));
            let veil = Hash([replica + 1; 32]);
            let commit = sealed.commit(0, replica);
            let action = match step {
                Step::Commit if commit.is_none() => Action::CommitShard(CommitShard {
                    query: *id,
                    shard: 0,
                    replica,
                    seat: replica,
                    blinded_root: blind(&self.0.admission.chain, id, (0, replica), &root, &veil),
                    served_tokens: 5,
                    admission: None,
                    seed: SeedBytes(seed.to_vec()),
                }),
                Step::Reveal if commit.is_some_and(|commit| commit.root.is_none()) => {
                    Action::Reveal(Reveal { query: *id, shard: 0, replica, root, blind: veil })
                }
                _ => continue,
            };
            missing += 1;
            self.0.send(&operator(agent), action).await;
        }
        Some(missing)
    }

    /// The honest replica against each of the others, in every query.
    async fn pairs(&self, queries: &[Hash]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for query in queries {
            let seats = self.seats(query).await.unwrap();
            let mine = seats.iter().position(|agent| *agent == 0).unwrap() as u8;
            let others = (0..AGENTS).filter(|replica| *replica != mine);
            pairs.extend(others.map(|other| {
                let (left, right) = (mine.min(other), mine.max(other));
                Pair { query: *query, shard: 0, left, right }
            }));
        }
        pairs
    }

    /// Says what both parties owe in a dispute; whether the honest one owed anything.
    async fn answer(&self, pair: &Pair) -> bool {
        let key = keys::dispute(&pair.query, pair.shard, pair.left, pair.right);
        let Some(DisputeRecord { dispute, round, .. }) = self.record(key).await else {
            return false;
        };
        let seats = self.seats(&pair.query).await.unwrap();
        let mut owed = false;
        for (side, replica) in Side::BOTH.into_iter().zip([pair.left, pair.right]) {
            let agent = seats[usize::from(replica)];
            if !dispute.awaits(side) {
                continue;
            }
            owed |= agent == 0;
            let Some(answer) = party(LIES[usize::from(agent)], |party| party.answer(&dispute).ok())
            else {
                continue;
            };
            let said = AnswerDispute { pair: *pair, round, answer };
            // It may wait already.
            self.0.send(&operator(agent), Action::AnswerDispute(said)).await;
        }
        owed
    }

    async fn rulings(&self, queries: &[Hash], pairs: &[Pair]) -> Vec<(bool, Ruling)> {
        let mut rulings = Vec::new();
        for query in queries {
            let seats = self.seats(query).await.unwrap();
            for entry in self.query(query).await.sealed.unwrap().disputes {
                assert!(
                    pairs.iter().any(|pair| (pair.left, pair.right) == (entry.left, entry.right))
                );
                let honest_left = seats[usize::from(entry.left)] == 0;
                rulings.extend(entry.ruling().map(|ruling| (honest_left, ruling)));
            }
        }
        rulings
    }
}

#[derive(Clone, Copy)]
enum Step {
    Commit,
    Reveal,
}

fn client() -> SecretKey {
    SecretKey::from_seed(&[55; 32])
}

/// The party that follows one of the traces.
fn party<T>(which: usize, f: impl FnOnce(&Party<'_>) -> T) -> T {
    let (trace, rows) = &LAB.traces[which];
    f(&Party {
        header: LAB.artifact.header(),
        pieces: &|index: usize| -> Option<Bytes> { LAB.artifact.piece(index) },
        trace,
        rows,
        receipt: &|_| None,
        end: None,
    })
}

#[test]
fn an_operator_whose_nonces_are_stuck_wins_all_its_disputes_at_once() {
    let world = World::disputes();
    run(plan(&world, 120).timeout(Duration::from_secs(240)).seed(41));
    let ended = world.ended().expect("every dispute has a ruling");
    let count = usize::from(QUERIES) * (usize::from(AGENTS) - 1);
    assert_eq!((ended.rulings.len(), ended.at_once), (count, count), "side by side: {ended:?}");
    for (honest_left, ruling) in &ended.rulings {
        let expected = if *honest_left { Ruling::RightLies } else { Ruling::LeftLies };
        assert_eq!(*ruling, expected, "{ended:?}");
    }
    assert_eq!(ended.bonds[0], ended.bonds[1], "it lost nothing");
    assert_eq!(ended.nonces_used, 0, "its nonces were stuck all the time");
}
