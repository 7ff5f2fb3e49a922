//! The simulated network: four validators, their genesis, and what must hold at the end.

use super::{
    agent::{self, Shared},
    disputes::{Ended, Scenario, toy},
};
use crate::{
    app::Application,
    dealer::{self, ValidatorKeys},
    engine::{self, CHANNELS},
    mempool,
    node::{self, Identity, Node, Options},
    view::View,
};
use commonware_actor::Feedback;
use commonware_consensus::{Reporter, marshal::Update};
use commonware_glue::{
    simulate::{
        engine::{EngineDefinition, InitContext},
        processed::ProcessedHeight,
        property::Property,
        reporter::MonitorReporter,
        tracker::ProgressTracker,
    },
    stateful::Mailbox as StatefulMailbox,
};
use commonware_p2p::{
    Recipients, max_message_size,
    simulated::{SplitOrigin, SplitTarget},
};
use commonware_runtime::{Handle, Quota, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{Acknowledgement as _, NZU32};
use nesa_chain::{
    Genesis, MAX_TX_BYTES, Params,
    action::ALL_LANES,
    block::Block,
    genesis::{GenesisAccount, GenesisNode},
    header::{ValidatorKey, to_digest},
    keys,
    query::QueryRecord,
    record::{Account, Coin, ModelRecord, NodeRecord, Supply},
};
use nesa_crypto::SecretKey;
use nesa_primitives::{Address, Amount, ChainId, Denom, Hash, Text, decode_exact};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Mutex},
};

/// Users, and operators with one node each: agent `i` acts for user `i` and operator `i`.
pub(super) const AGENTS: u8 = 4;
pub(super) const MODEL: Hash = Hash([77; 32]);

pub(super) fn user(index: u8) -> SecretKey {
    SecretKey::from_seed(&[index + 1; 32])
}

pub(super) fn operator(index: u8) -> SecretKey {
    SecretKey::from_seed(&[index + 101; 32])
}

pub(super) fn node_key(index: u8) -> Address {
    SecretKey::from_seed(&[index + 201; 32]).public()
}

fn owner() -> Address {
    SecretKey::from_seed(&[99; 32]).public()
}

/// What the agents got into blocks, and what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) transfers: usize,
    pub(super) queries: usize,
    pub(super) commits: usize,
    pub(super) claims: usize,
    pub(super) settled: usize,
}

/// A network of four validators.
#[derive(Clone)]
pub(super) struct World {
    genesis: Genesis,
    keys: Arc<Vec<ValidatorKeys>>,
    /// Run validator 0 twice with the same keys, each half seeing another part of the network.
    twin: bool,
    /// Validator 0 plays the disputes of a committee's queries.
    disputes: bool,
    shared: Arc<Mutex<Shared>>,
    tally: Arc<Mutex<Tally>>,
}

/// What the properties look at.
///
/// It outlives a crashed validator, so it holds mailboxes rather than the store with its files.
pub(super) struct State {
    marshal: engine::Marshal,
    stateful: StatefulMailbox<deterministic::Context, Application>,
}

impl From<&Node<deterministic::Context>> for State {
    fn from(node: &Node<deterministic::Context>) -> Self {
        Self { marshal: node.engine.marshal.clone(), stateful: node.engine.stateful.clone() }
    }
}

impl ProcessedHeight for State {
    async fn processed_height(&self) -> u64 {
        self.marshal.get_processed().await.map_or(0, |processed| processed.height().get())
    }
}

/// Acknowledges whatever it hears.
#[derive(Clone)]
pub(super) struct Listener;

impl Reporter for Listener {
    type Activity = Update<Block>;
    fn report(&mut self, update: Self::Activity) -> Feedback {
        if let Update::Block(_, acknowledgement) = update {
            acknowledgement.acknowledge();
        }
        Feedback::Ok
    }
}

impl World {
    pub(super) fn new(twin: bool) -> Self {
        let dealt = dealer::deal(4, StdRng::seed_from_u64(5)).unwrap();
        let account = |address| GenesisAccount {
            address,
            balances: vec![Coin { denom: Denom::NES, amount: Amount(1_000_000_000) }],
        };
        let mut params = Params::local(None);
        params.snapshot_interval = 4;
        params.min_deadline_ms = 1_000;
        let genesis = Genesis {
            chain_id: ChainId::new("simulation").unwrap(),
            group_key: dealt.group_key,
            validators: dealt.validators.iter().map(|keys| keys.address()).collect(),
            params,
            accounts: (0..AGENTS)
                .flat_map(|i| [account(user(i).public()), account(operator(i).public())])
                .collect(),
            models: vec![ModelRecord {
                digest: MODEL,
                owner: owner(),
                name: Text::new("model").unwrap(),
                bytes: 1,
                denom: Denom::NES,
                price_per_token: Amount(3),
                lanes: ALL_LANES,
            }],
            nodes: (0..AGENTS)
                .map(|i| GenesisNode {
                    operator: operator(i).public(),
                    node: node_key(i),
                    bond: Amount(2_000_000 + u64::from(i)),
                    faucet_bond: false,
                    models: vec![MODEL],
                    addresses: Vec::new(),
                })
                .collect(),
            stablecoins: Vec::new(),
            timestamp_ms: 0,
        };
        Self {
            genesis,
            keys: Arc::new(dealt.validators),
            twin,
            disputes: false,
            shared: Arc::default(),
            tally: Arc::default(),
        }
    }

    /// One in which all operators serve a committee's queries and all but one lie.
    pub(super) fn disputes() -> Self {
        let mut world = Self { disputes: true, ..Self::new(false) };
        let genesis = &mut world.genesis;
        genesis.params.reveal_ms = 4_000;
        genesis.models.push(ModelRecord { digest: toy(), ..genesis.models[0].clone() });
        for node in &mut genesis.nodes {
            node.models.push(toy());
        }
        world
    }

    /// How the disputes ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.shared.lock().unwrap().ended.clone()
    }

    pub(super) fn validators(&self) -> Vec<ValidatorKey> {
        self.keys.iter().map(ValidatorKeys::public).collect()
    }

    /// Sums over all runs of this world.
    pub(super) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap()
    }

    async fn start_node<S, V>(
        &self,
        ctx: &InitContext<'_, ValidatorKey>,
        context: deterministic::Context,
        partition: String,
        mut channels: Vec<(S, V)>,
    ) -> Node<deterministic::Context>
    where
        S: commonware_p2p::Sender<PublicKey = ValidatorKey>,
        V: commonware_p2p::Receiver<PublicKey = ValidatorKey>,
    {
        let me = ctx.public_key.clone();
        let identity = Identity::new(self.genesis.clone(), self.keys[ctx.index].clone()).unwrap();
        let gossip = channels.pop().unwrap();
        let channels = channels.try_into().ok().unwrap();
        node::start(
            context,
            identity,
            Options { partition, mempool: mempool::Limits::default() },
            ctx.oracle.control(me.clone()),
            ctx.oracle.manager(),
            Some(MonitorReporter::new(me, ctx.monitor.clone(), Listener)),
            channels,
            gossip,
        )
        .await
        .unwrap()
    }
}

/// The simulator stops a validator by aborting this handle, and with it every task whose context
/// descends from `context`.
fn root(
    context: deterministic::Context,
    nodes: Vec<Node<deterministic::Context>>,
    agents: Vec<Handle<()>>,
) -> Handle<()> {
    context.spawn(move |_| async move {
        let mut handles = agents;
        // An actor ends when nobody can reach it any more.
        let mut outboxes = Vec::new();
        for node in nodes {
            outboxes.push(node.outbox);
            handles.extend(node.tasks);
            handles.extend(node.engine.children);
            handles.push(node.engine.root);
        }
        let _ = Handle::select(handles).await;
        drop(outboxes);
    })
}

impl EngineDefinition for World {
    type PublicKey = ValidatorKey;
    type Engine = Handle<()>;
    type State = State;

    fn participants(&self) -> Vec<ValidatorKey> {
        self.validators()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        (0..=CHANNELS).map(|channel| (channel, Quota::per_second(NZU32!(512)))).collect()
    }

    fn max_message_size(&self) -> u32 {
        max_message_size(&[engine::max_payload(4), MAX_TX_BYTES])
    }

    async fn init(&self, mut ctx: InitContext<'_, ValidatorKey>) -> (Handle<()>, State) {
        let channels = std::mem::take(&mut ctx.channels);
        let index = ctx.index;
        if !(self.twin && index == 0) {
            let context = ctx.context.child("node");
            let node = self.start_node(&ctx, context, format!("validator-{index}"), channels).await;
            let state = State::from(&node);
            let agent = agent::Agent {
                index: index as u8,
                admission: node.admission.clone(),
                outbox: node.outbox.clone(),
                seeds: node.seeds.clone(),
                view: node.view.clone(),
                shared: self.shared.clone(),
                quiet: self.disputes,
                refused: BTreeSet::new(),
            };
            let plays = self.disputes && index == 0;
            let agent = ctx.context.child("agent").spawn(move |context| async move {
                match plays {
                    true => Scenario(agent).run(context).await,
                    false => agent.run(context).await,
                }
            });
            return (root(ctx.context, vec![node], vec![agent]), state);
        }

        // The twin's first half talks to validator 1, the second to 2 and 3.
        let friend = ctx.participants[1].clone();
        let others: Vec<ValidatorKey> = ctx.participants[2..].to_vec();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (index, (sender, receiver)) in channels.into_iter().enumerate() {
            let (one, some) = (friend.clone(), others.clone());
            let (a, b) = sender.split_with(move |origin, _: &Recipients<ValidatorKey>, _: &_| {
                Some(match origin {
                    SplitOrigin::Primary => Recipients::One(one.clone()),
                    SplitOrigin::Secondary => Recipients::Some(some.clone()),
                })
            });
            let one = friend.clone();
            let (x, y) = receiver.split_with(
                ctx.context.child("split").with_attribute("channel", index),
                move |(from, _): &(ValidatorKey, _)| {
                    if *from == one { SplitTarget::Primary } else { SplitTarget::Secondary }
                },
            );
            first.push((a, x));
            second.push((b, y));
        }
        let a = self.start_node(&ctx, ctx.context.child("a"), "twin-a".into(), first).await;
        let b = self.start_node(&ctx, ctx.context.child("b"), "twin-b".into(), second).await;
        let state = State::from(&b);
        // Different transactions wait in the two halves, so they propose different blocks.
        let agent = agent::Agent {
            index: 0,
            admission: a.admission.clone(),
            outbox: a.outbox.clone(),
            seeds: a.seeds.clone(),
            view: a.view.clone(),
            shared: self.shared.clone(),
            quiet: false,
            refused: BTreeSet::new(),
        };
        let agent = ctx.context.child("agent").spawn(move |context| agent.run(context));
        (root(ctx.context, vec![a, b], vec![agent]), state)
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

/// At the end of a run, in every validator's store, all money is where it can be.
#[derive(Clone)]
pub(super) struct MoneyConserved(pub(super) World);

impl MoneyConserved {
    async fn total(&self, state: &State) -> Result<(), String> {
        let store = state.stateful.subscribe_databases().await;
        let store = store.read().await;
        let read = async |key: Hash| -> Result<Option<bytes::Bytes>, String> {
            store.get(&to_digest(&key)).await.map_err(|error| error.to_string())
        };
        let world = &self.0;
        let supply = read(keys::supply()).await?.ok_or("no supply")?;
        let supply: Supply = decode_exact(&supply, &()).map_err(|error| error.to_string())?;
        let nes = supply.get(Denom::NES).ok_or("no NES")?;
        let mut sum = nes.treasury.0 + nes.burned.0;
        let mut addresses = vec![owner()];
        addresses.extend((0..AGENTS).flat_map(|i| [user(i).public(), operator(i).public()]));
        addresses.extend(world.genesis.validators.iter().copied());
        for address in addresses {
            if let Some(bytes) = read(keys::account(&address)).await? {
                let account: Account =
                    decode_exact(&bytes, &()).map_err(|error| error.to_string())?;
                sum += account.balance(Denom::NES).0;
            }
        }
        for index in 0..AGENTS {
            if let Some(bytes) = read(keys::node(&node_key(index))).await? {
                let node: NodeRecord =
                    decode_exact(&bytes, &()).map_err(|error| error.to_string())?;
                sum += node.bond.0;
            }
        }
        let (queries, mut tally) = {
            let shared = world.shared.lock().unwrap();
            (shared.queries(), shared.tally)
        };
        for id in queries {
            let Some(bytes) = read(keys::query(&id)).await? else { continue };
            let query: QueryRecord =
                decode_exact(&bytes, &()).map_err(|error| error.to_string())?;
            tally.queries += 1;
            tally.commits += query.commits.len();
            tally.claims += query.commits.iter().filter(|c| c.claim.is_some()).count();
            sum += query.held.0;
            tally.settled += usize::from(!query.status.is_open());
        }
        *world.tally.lock().unwrap() = tally;
        if sum == nes.issued.0 {
            Ok(())
        } else {
            Err(format!("{sum} unes are somewhere, {} were issued", nes.issued.0))
        }
    }
}

impl Property<ValidatorKey, State> for MoneyConserved {
    fn name(&self) -> &str {
        "money is conserved"
    }

    fn check<'a>(
        &'a self,
        _tracker: &'a ProgressTracker<ValidatorKey>,
        states: &'a [&'a State],
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            for state in states {
                self.total(state).await?;
            }
            Ok(())
        })
    }
}

/// Kept so that the agents can tell how far the chain is.
pub(super) fn time_of(view: &View) -> u64 {
    view.head().header.timestamp_ms()
}
