//! Nodes that serve shards of a made-up decoder on loopback, and a client.

use bytes::Bytes;
use nesa_crypto::{
    SecretKey,
    seal::{Binding, Role},
};
use nesa_kernels::sample::Sampling;
use nesa_light::sealed::{SealedError, SealedListener, SealedTimings, drive};
use nesa_model::{
    Artifact, PlainDecoder,
    decoder::{
        DecoderModel, ShardPlan, WriteRequest, Writing, Written,
        toy::{self, ToyDecoder},
    },
};
use nesa_node::{
    Cores, Fault, Limits,
    shard::{BesideShards, ProvenShard, ShardChain, ShardNode, Shelf, serve},
};
use nesa_platform::{
    BoxFuture,
    net::{NetConfig, Network},
    random,
    task::Guard,
    time,
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::{
    Opening, Terms,
    client::{Candidate, Config, Link, Relay, Transcript},
    message::Refusal,
    server::Outcome,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) const CHAIN: Hash = Hash([1; 32]);
pub(crate) const QUERY: Hash = Hash([2; 32]);

pub(crate) fn client_key() -> SecretKey {
    SecretKey::from_seed(&[77; 32])
}

pub(crate) fn node_key(link: Link) -> SecretKey {
    SecretKey::from_seed(&[100 + link.shard * 10 + link.seat; 32])
}

pub(crate) fn link(shard: u8, seat: u8) -> Link {
    Link { shard, seat }
}

/// What nodes brought to settlement.
type Settled = Arc<Mutex<Vec<(Role, Option<Outcome>)>>>;

/// Terms on paper, in the place of a chain: the query drew every node for what it is asked for.
struct Paper {
    cuts: Vec<u16>,
    replicas: u8,
    model: Hash,
    settled: Settled,
    disclose: bool,
    /// Steps after which no more can be computed again in time.
    steps: Option<AtomicUsize>,
}

impl ShardChain for Paper {
    fn prove<'a>(
        &'a self,
        binding: &'a Binding,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<ProvenShard, Refusal>> {
        Box::pin(async move {
            if binding.query != QUERY {
                return Err(Refusal::NotDrawn);
            }
            let terms = Terms {
                chain: CHAIN,
                query: QUERY,
                model: self.model,
                client_key: client_key().public(),
                role: binding.role,
                cuts: self.cuts.clone(),
                replicas: self.replicas,
                price_per_token: Amount(5),
                budget: Amount(1 << 40),
                max_tokens: 64,
                disclose: self.disclose,
            };
            let deadline_ms = time::now_ms() + 60_000;
            let replica = opening.replica;
            let round_ms = 10_000;
            Ok(ProvenShard { terms, replica, seed: Bytes::new(), deadline_ms, round_ms })
        })
    }

    fn spend(&self, _: &ProvenShard, _: Duration) -> bool {
        let Some(steps) = &self.steps else { return true };
        let left = steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.is_ok()
    }

    fn checkpoint<'a>(&'a self, _: &'a ProvenShard, _: Outcome) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn settle<'a>(&'a self, p: &'a ProvenShard, outcome: Option<Outcome>) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.settled.lock().unwrap().push((p.terms.role, outcome)) })
    }
}

/// A node of the test; it dies with its network.
pub(crate) struct Node {
    pub(crate) network: Network,
    address: String,
    _guard: Guard,
}

pub(crate) struct World {
    pub(crate) artifact: Artifact,
    pub(crate) replicas: u8,
    pub(crate) plan: ShardPlan,
    pub(crate) nodes: BTreeMap<Link, Node>,
    pub(crate) settled: Settled,
    pub(crate) seed: u8,
    /// A device that the nodes of these seats share.
    pub(crate) beside: Option<(BesideShards, Vec<u8>)>,
    /// Threads that the nodes of these seats share.
    pub(crate) cores: Option<(Cores, Vec<u8>)>,
    /// Whether a dispute may disclose a piece.
    pub(crate) disclose: bool,
    /// A node that can compute so many steps again in time, and no more.
    pub(crate) slow: Option<(Link, usize)>,
}

/// Tokens that are written.
pub(crate) const TOKENS: usize = 24;

pub(crate) async fn listening(key: &SecretKey) -> Network {
    let mut config = NetConfig::client(*key.seed());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0/ws".to_owned()];
    Network::start(config).await.unwrap()
}

impl World {
    pub(crate) fn new(toy: &ToyDecoder, cuts: &[u16], replicas: u8) -> Self {
        Self::of(toy::artifact(toy).unwrap(), cuts, replicas)
    }

    pub(crate) fn of(artifact: Artifact, cuts: &[u16], replicas: u8) -> Self {
        let mut world = Self {
            artifact,
            replicas,
            plan: ShardPlan::from_cuts(cuts.to_vec()).unwrap(),
            nodes: BTreeMap::new(),
            settled: Arc::default(),
            seed: 0,
            beside: None,
            cores: None,
            disclose: false,
            slow: None,
        };
        // A text that does not end before it is as long as may be.
        while world.alone().len() < TOKENS {
            world.seed += 1;
        }
        world
    }

    /// Nodes for `seats` candidates of every shard, each with the whole model.
    pub(crate) async fn fill(&mut self, seats: u8, faults: &[(Link, Fault)]) {
        for shard in 0..self.plan.len() as u8 {
            for seat in 0..seats {
                let link = link(shard, seat);
                let fault = faults.iter().find(|(l, _)| *l == link).map(|(_, f)| *f);
                let whole = vec![self.artifact.clone()];
                let shelf = Shelf::new(whole, None);
                self.add(link, shelf, fault, Limits::default()).await;
            }
        }
    }

    pub(crate) async fn add(
        &mut self,
        link: Link,
        shelf: Shelf,
        fault: Option<Fault>,
        limits: Limits,
    ) {
        let key = node_key(link);
        let network = listening(&key).await;
        let address = network.listen_addresses().remove(0);
        let ledger = Arc::new(Paper {
            cuts: self.plan.cuts()[1..self.plan.len()].to_vec(),
            replicas: self.replicas,
            model: self.artifact.digest(),
            settled: self.settled.clone(),
            disclose: self.disclose,
            steps: self.slow.filter(|(slow, _)| *slow == link).map(|(_, steps)| steps.into()),
        });
        let shelf = Arc::new(shelf);
        let beside = self.beside.as_ref().filter(|(_, seats)| seats.contains(&link.seat));
        let beside = beside.map(|(beside, _)| beside.clone());
        let shares = self.cores.as_ref().filter(|(_, seats)| seats.contains(&link.seat));
        let cores = shares.map(|(cores, _)| cores.clone()).unwrap_or_default();
        let node = ShardNode { chain: CHAIN, key, shelf, ledger, limits, beside, cores, fault };
        let guard = serve(&network, node).unwrap();
        self.nodes.insert(link, Node { network, address, _guard: guard });
    }

    pub(crate) fn request(&self) -> WriteRequest {
        WriteRequest {
            prompt: vec![2, 9, 16, 23, 30, 37, 4],
            tokens: TOKENS,
            sampling: Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 },
            seed: [self.seed; 32],
            pad_to: 1,
            piece: 5,
            draft: 0,
        }
    }

    pub(crate) fn alone(&self) -> Vec<u32> {
        let model = DecoderModel::open(&self.artifact).unwrap();
        let mut writing = Writing::start(&model, self.request()).unwrap();
        let mut tokens = Vec::new();
        loop {
            if let Some([Written::Token(token)]) = writing.run(&PlainDecoder(&model)).unwrap() {
                tokens.push(*token);
            }
            if !writing.goes_on() {
                return tokens;
            }
            writing.advance().unwrap();
        }
    }

    pub(crate) async fn ask(
        &self,
        listener: Arc<dyn SealedListener>,
    ) -> Result<(Transcript, SealedTimings), SealedError> {
        let network = Network::start(NetConfig::client([99; 32])).await.unwrap();
        let config = Config {
            chain: CHAIN,
            query: QUERY,
            model: self.artifact.digest(),
            plan: self.plan.clone(),
            d_model: 0,
            context: 0,
            ends: Vec::new(),
            replicas: self.replicas.into(),
            price_per_token: Amount(5),
            client_key: client_key(),
            disclose: self.disclose,
        }
        .sized(&DecoderModel::open(&self.artifact).unwrap());
        let mut seats = vec![Vec::new(); self.plan.len()];
        let mut addresses = BTreeMap::new();
        for (link, one) in &self.nodes {
            let node = node_key(*link).public();
            let operator = Address([link.seat; 32]);
            seats[usize::from(link.shard)].push(Candidate { node, operator });
            addresses.insert(node, vec![one.address.clone()]);
        }
        let relay = Relay::new(config, &self.request(), &seats, random::rng()).unwrap();
        let deadline = time::now_ms() + 50_000;
        let ran = drive(&network, relay, &addresses, deadline, &listener).await;
        network.shutdown().await;
        ran
    }
}
