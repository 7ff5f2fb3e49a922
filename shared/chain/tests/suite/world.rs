//! A chain in memory: one genesis, blocks made and checked as a proposer and a validator would.

use bytes::Bytes;
use nesa_chain::{
    Action, Genesis, Key, Params, QueryRecord, SignedTx, Tx, Voucher,
    action::{
        Claim, Commit, Lane, Named, PayForQuery, RegisterNode, SeedBytes, Side, Transfer,
        Verification,
    },
    committee::{self, Committee},
    genesis::{GenesisAccount, GenesisNode, Stablecoin},
    keys,
    params::Shares,
    record::{Account, Coin, ModelRecord, NodeRecord, Snapshot, Supply},
    rules::{self, BlockEnv, DueOutcome, SeedVerifier, TxError},
    state::{Missing, Overlay, Reader},
};
use nesa_crypto::SecretKey;
use nesa_primitives::{Address, Amount, ChainId, Denom, Hash, Text, decode_exact};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

pub(crate) const ALICE: u8 = 1;
pub(crate) const BOB: u8 = 2;
pub(crate) const OWNER: u8 = 9;
pub(crate) const FAUCET: u8 = 250;
/// Operators 10 to 14; operator `o` runs node `o + 10`, operator 10 also node 30.
pub(crate) const OPERATORS: [u8; 5] = [10, 11, 12, 13, 14];
pub(crate) const VALIDATORS: [u8; 4] = [200, 201, 202, 203];
pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const USD: Denom = Denom(1);

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn address(n: u8) -> Address {
    key(n).public()
}

pub(crate) fn model() -> Hash {
    Hash([0xAA; 32])
}

pub(crate) fn usd_model() -> Hash {
    Hash([0xBB; 32])
}

pub(crate) fn params() -> Params {
    Params {
        min_tx_fee: Amount(10),
        draw_fee: Amount(1_000),
        model_fee: Amount(5_000),
        min_bond: Amount(1_000_000),
        unbonding_ms: 60_000,
        snapshot_interval: 3,
        lapse_epochs: 1_000_000,
        bucket_ms: 1_000,
        min_deadline_ms: 2_000,
        max_deadline_ms: 30_000,
        increment_tokens: 100,
        max_query_tokens: 1_000,
        reveal_ms: 1_000,
        step_ms: 500,
        claim_ms: 2_000,
        shares: Shares { compute: 8_333, owner: 700, validators: 667, treasury: 300 },
        query_retention_ms: 90_000,
        ..Params::local(Some(address(FAUCET)))
    }
}

fn record(digest: Hash, denom: Denom) -> ModelRecord {
    ModelRecord {
        digest,
        owner: address(OWNER),
        name: "test-model".parse().unwrap(),
        bytes: 1_000,
        denom,
        price_per_token: Amount(7),
        lanes: 1,
    }
}

fn node(operator: u8, node: u8, bond: u64) -> GenesisNode {
    GenesisNode {
        operator: address(operator),
        node: address(node),
        bond: Amount(bond),
        faucet_bond: false,
        models: vec![model(), usd_model()],
        addresses: vec!["/ip4/127.0.0.1/tcp/1/ws".parse().unwrap()],
    }
}

pub(crate) fn genesis() -> Genesis {
    let nes = |amount| Coin { denom: Denom::NES, amount: Amount(amount) };
    let usd = |amount| Coin { denom: USD, amount: Amount(amount) };
    let mut accounts: Vec<GenesisAccount> = [ALICE, BOB, OWNER]
        .into_iter()
        .chain(OPERATORS)
        .map(|n| GenesisAccount {
            address: address(n),
            balances: vec![nes(10_000_000), usd(5_000_000)],
        })
        .collect();
    accounts.push(GenesisAccount { address: address(FAUCET), balances: vec![nes(1_000_000_000)] });
    let mut nodes: Vec<GenesisNode> =
        OPERATORS.into_iter().map(|o| node(o, o + 10, 1_000_000 * u64::from(o - 9))).collect();
    nodes.push(node(10, 30, 2_000_000));
    Genesis {
        chain_id: ChainId::new("test-1").unwrap(),
        group_key: [3; 96],
        validators: VALIDATORS.map(address).to_vec(),
        params: params(),
        accounts,
        models: vec![record(model(), Denom::NES), record(usd_model(), USD)],
        nodes,
        stablecoins: vec![Stablecoin { denom: USD, name: Text::new("USD").unwrap() }],
        timestamp_ms: START_MS,
    }
}

/// Accepts as seed of a view exactly its number, hashed.
pub(crate) struct Seeds;

pub(crate) fn seed(view: u64) -> SeedBytes {
    SeedBytes(Hash::of_bytes("test seed", &Hash::ZERO, &view.to_be_bytes()).0.to_vec())
}

impl SeedVerifier for Seeds {
    fn verify_seed(&self, view: u64, bytes: &[u8]) -> bool {
        seed(view).0 == bytes
    }
}

/// Answers only what was asked for before, like a node that prefetches.
struct Lazy<'a> {
    state: &'a BTreeMap<Key, Bytes>,
    fetched: RefCell<BTreeSet<Key>>,
}

impl Reader for Lazy<'_> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, Missing> {
        if self.fetched.borrow().contains(key) {
            Ok(self.state.get(key).cloned())
        } else {
            Err(Missing(vec![*key]))
        }
    }
}

/// One escrow is all accounted for, and neither side took more than its half.
fn check_query(query: &QueryRecord) {
    let paid = query.shares_paid;
    let shards = || query.sealed.iter().flat_map(|sealed| &sealed.commits);
    let earned: u64 = query.commits.iter().map(|c| c.earned().0).sum::<u64>()
        + shards().map(|c| c.earned().0).sum::<u64>();
    let out = earned + paid.owner.0 + paid.validators.0 + paid.treasury.0;
    let ended = query.status.settlement().copied().unwrap_or_default();
    assert_eq!(out + query.held.0 + ended.burned.0 + ended.returned.0, query.escrow.0);
    assert!(query.held_faucet <= query.held && query.escrow_faucet <= query.escrow);
    let claimed = query.claimed().unwrap().0;
    if query.status.is_open() {
        assert!(claimed - out < VALIDATORS.len() as u64, "only what does not divide is held back");
    } else {
        assert_eq!((claimed, query.held), (out, Amount(0)), "every claim is paid in full");
    }
    for commit in shards() {
        let terms = &query.sealed.as_ref().unwrap().terms;
        let parts = (u64::from(terms.replicas) + 2) * terms.shards() as u64;
        assert!(
            commit.claimed().0 <= query.escrow.0 / parts,
            "a replica claimed more than its part"
        );
        // Who was put out revealed nothing, and is nobody's liar.
        assert!(!(commit.put_out && (commit.root.is_some() || commit.liar)));
        let payable = commit.put_out || (commit.root.is_some() && !commit.liar);
        assert!(commit.claimed().is_zero() || payable);
        let holders = shards()
            .filter(|c| (c.shard, c.replica, c.put_out) == (commit.shard, commit.replica, false));
        let holders: Vec<_> = holders.map(|c| c.seat).collect();
        assert!(matches!(holders[..], [seat] if seat > commit.seat || !commit.put_out));
    }
    for side in [Side::A, Side::B] {
        let of_side = query.commits.iter().filter(|c| c.side == side);
        let claimed: u64 = of_side.map(|c| c.claimed().0).sum();
        assert!(claimed <= query.escrow.0 / 2, "a side has claimed more than its half");
    }
}

pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) chain: Hash,
    pub(crate) state: BTreeMap<Key, Bytes>,
    pub(crate) height: u64,
    pub(crate) now: u64,
    /// Every address that may own anything.
    pub(crate) known: BTreeSet<Address>,
    /// Every node ever registered.
    pub(crate) nodes: BTreeSet<Address>,
    /// Every query ever opened.
    pub(crate) queries: Vec<Hash>,
    /// What the last block did by itself.
    pub(crate) due: DueOutcome,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(genesis())
    }

    pub(crate) fn of(genesis: Genesis) -> Self {
        let mut known: BTreeSet<Address> = genesis.accounts.iter().map(|a| a.address).collect();
        known.extend(genesis.validators.iter().copied());
        known.extend(genesis.nodes.iter().map(|n| n.operator));
        Self {
            chain: genesis.trust_root().digest(),
            state: genesis.initial_state().unwrap(),
            height: 0,
            now: START_MS,
            known,
            nodes: genesis.nodes.iter().map(|n| n.node).collect(),
            queries: Vec::new(),
            due: DueOutcome::default(),
            genesis,
        }
    }

    pub(crate) fn env(&self) -> BlockEnv {
        BlockEnv {
            chain: self.chain,
            height: self.height,
            view: self.height * 2,
            timestamp_ms: self.now,
            leader: self.genesis.validators[(self.height % 4) as usize],
            validators: self.genesis.validators.clone(),
        }
    }

    /// One block `after_ms` later: applies what applies, refuses the rest, then checks the block
    /// as a validator that fetches lazily, that nothing happens twice, and that no money was made or lost.
    pub(crate) fn block(&mut self, after_ms: u64, txs: &[SignedTx]) -> Vec<Result<(), TxError>> {
        self.height += 1;
        self.now += after_ms;
        let env = self.env();
        let mut overlay = Overlay::new(&self.state);
        self.due = rules::begin_block(&mut overlay, &env).unwrap();
        let mut results = Vec::new();
        let mut included = Vec::new();
        for tx in txs {
            let before = overlay.changes().clone();
            let result = rules::apply(&mut overlay, &env, tx, &Seeds);
            if result.is_err() {
                assert_eq!(overlay.changes(), &before, "a refused transaction wrote something");
            } else {
                included.push(tx.clone());
            }
            results.push(result.map(|_| ()));
        }
        for tx in &included {
            let before = overlay.changes().clone();
            assert!(rules::apply(&mut overlay, &env, tx, &Seeds).is_err(), "happened twice");
            assert_eq!(overlay.changes(), &before);
        }
        rules::end_block(&mut overlay, &env).unwrap();
        let changes = overlay.into_changes();
        assert_eq!(self.replay(&env, &included), changes, "a lazy replay differs");
        for (key, value) in changes {
            match value {
                Some(bytes) => self.state.insert(key, bytes),
                None => self.state.remove(&key),
            };
        }
        for tx in &included {
            self.remember(tx);
        }
        self.check_money();
        results
    }

    /// Notes where a transaction may put money, for `check_money`.
    fn remember(&mut self, signed: &SignedTx) {
        self.known.insert(signed.tx.sender);
        match &signed.tx.action {
            Action::Transfer(transfer) => {
                self.known.insert(transfer.to);
            }
            Action::RegisterNode(node) => {
                self.nodes.insert(node.node);
            }
            Action::PayForQuery(_) => self.queries.push(signed.id()),
            _ => {}
        }
    }

    /// Applies a block the way a node with an asynchronous store does.
    fn replay(&self, env: &BlockEnv, txs: &[SignedTx]) -> BTreeMap<Key, Option<Bytes>> {
        let lazy = Lazy { state: &self.state, fetched: RefCell::default() };
        let mut overlay = Overlay::new(&lazy);
        let fetch = |error: TxError| {
            let missing = error.missing().expect("only missing keys").clone();
            assert!(!missing.0.is_empty());
            lazy.fetched.borrow_mut().extend(missing.0);
        };
        while let Err(error) = rules::begin_block(&mut overlay, env) {
            fetch(error);
        }
        for tx in txs {
            while let Err(error) = rules::apply(&mut overlay, env, tx, &Seeds) {
                fetch(error);
            }
        }
        while let Err(error) = rules::end_block(&mut overlay, env) {
            fetch(error);
        }
        overlay.into_changes()
    }

    pub(crate) fn one(&mut self, tx: SignedTx) -> Result<(), TxError> {
        self.block(500, &[tx]).pop().unwrap()
    }

    /// Blocks without transactions until `ms` have passed.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.block(1_000.min(until - self.now), &[]);
        }
    }

    pub(crate) fn nonce(&self, n: u8) -> u64 {
        self.account(&address(n)).nonce
    }

    pub(crate) fn tx(&self, sender: u8, action: Action) -> SignedTx {
        let nonce = if action.place().is_some() { 0 } else { self.nonce(sender) };
        self.tx_nonce(sender, nonce, action)
    }

    pub(crate) fn tx_nonce(&self, sender: u8, nonce: u64, action: Action) -> SignedTx {
        Tx { chain: self.chain, sender: address(sender), nonce, fee: Amount(10), action }
            .sign(&key(sender))
    }

    pub(crate) fn transfer(&self, from: u8, to: u8, denom: Denom, amount: u64) -> SignedTx {
        let action = Transfer { to: address(to), denom, amount: Amount(amount) };
        self.tx(from, Action::Transfer(action))
    }

    pub(crate) fn register(&self, operator: u8, node: u8, bond: u64) -> SignedTx {
        let proof = RegisterNode::prove(&key(node), &address(operator), &self.chain);
        let action = RegisterNode {
            node: address(node),
            bond: Amount(bond),
            models: vec![model()],
            addresses: vec![],
            proof,
        };
        self.tx(operator, Action::RegisterNode(action))
    }

    pub(crate) fn payment(&self, tokens: u32, client: u8) -> PayForQuery {
        PayForQuery {
            model: model(),
            lane: Lane::Masked,
            verification: Verification::Freivalds,
            max_fee: Amount(7 * 2 * (u64::from(tokens) + u64::from(tokens.min(100)))),
            denom: Denom::NES,
            commitment: Hash([9; 32]),
            client_key: address(client),
            deadline_ms: self.now + 10_000,
            max_tokens: tokens,
            named: None,
            terms: None,
        }
    }

    /// Opens a query of `tokens` tokens paid by Alice with client key 100; returns its id.
    pub(crate) fn open(&mut self, tokens: u32, named: Option<Named>) -> Hash {
        let pay = PayForQuery { named, ..self.payment(tokens, 100) };
        let tx = self.tx(ALICE, Action::PayForQuery(pay));
        let id = tx.id();
        self.one(tx).unwrap();
        id
    }

    pub(crate) fn query(&self, id: &Hash) -> QueryRecord {
        decode_exact(&self.state[&keys::query(id)], &()).unwrap()
    }

    pub(crate) fn committee(&self, id: &Hash) -> Committee {
        let record = self.query(id);
        if let Some(drawn) = record.committee {
            return drawn;
        }
        let snapshot: Snapshot =
            decode_exact(&self.state[&keys::snapshot(record.snapshot_epoch)], &()).unwrap();
        let seed = seed(record.draw_view);
        committee::derive(&seed.0, id, &snapshot.set, &record.model, record.named.as_ref()).unwrap()
    }

    pub(crate) fn commit_action(&self, id: &Hash, side: Side, attempt: u8, served: u32) -> Commit {
        Commit {
            query: *id,
            side,
            attempt,
            blinded_root: Hash([1; 32]),
            served_tokens: served,
            seed: seed(self.query(id).draw_view),
        }
    }

    /// The number of the operator of a seat.
    pub(crate) fn operator(&self, id: &Hash, side: Side, attempt: u8) -> u8 {
        let seat = *self.committee(id).seat(side, attempt).unwrap();
        (0..=255).find(|n| address(*n) == seat.operator).unwrap()
    }

    pub(crate) fn commit(
        &mut self,
        id: &Hash,
        side: Side,
        attempt: u8,
        served: u32,
    ) -> Result<(), TxError> {
        let operator = self.operator(id, side, attempt);
        let action = Action::Commit(self.commit_action(id, side, attempt, served));
        self.one(self.tx(operator, action))
    }

    pub(crate) fn voucher(
        &self,
        id: &Hash,
        side: Side,
        attempt: u8,
        total: u64,
        signer: u8,
    ) -> Voucher {
        let node = self.committee(id).seat(side, attempt).unwrap().node;
        Voucher::sign(&key(signer), &self.chain, *id, node, Amount(total))
    }

    pub(crate) fn claim(
        &mut self,
        id: &Hash,
        side: Side,
        attempt: u8,
        total: u64,
    ) -> Result<(), TxError> {
        let voucher = self.voucher(id, side, attempt, total, 100);
        let operator = self.operator(id, side, attempt);
        self.one(self.tx(operator, Action::Claim(Claim { query: *id, voucher })))
    }

    pub(crate) fn account(&self, address: &Address) -> Account {
        self.state
            .get(&keys::account(address))
            .map(|bytes| decode_exact(bytes, &()).unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn balance(&self, n: u8) -> u64 {
        self.account(&address(n)).balance(Denom::NES).0
    }

    pub(crate) fn node(&self, n: u8) -> Option<NodeRecord> {
        self.state.get(&keys::node(&address(n))).map(|b| decode_exact(b, &()).unwrap())
    }

    pub(crate) fn supply(&self) -> Supply {
        decode_exact(&self.state[&keys::supply()], &()).unwrap()
    }

    /// Balances, escrows, bonds, treasury and burned make up what was issued, per denomination,
    /// and no more faucet coins are about than the faucet was given.
    pub(crate) fn check_money(&self) {
        for entry in &self.supply().denoms {
            let (mut sum, mut marked) = (0u128, 0u128);
            for address in &self.known {
                let account = self.account(address);
                sum += u128::from(account.balance(entry.denom).0);
                marked += u128::from(account.faucet.0);
            }
            for id in &self.queries {
                let Some(bytes) = self.state.get(&keys::query(id)) else { continue };
                let query: QueryRecord = decode_exact(bytes, &()).unwrap();
                check_query(&query);
                if query.denom == entry.denom {
                    sum += u128::from(query.held.0);
                    marked += u128::from(query.held_faucet.0);
                }
            }
            if entry.denom == Denom::NES {
                for node in &self.nodes {
                    let Some(bytes) = self.state.get(&keys::node(node)) else { continue };
                    let node: NodeRecord = decode_exact(bytes, &()).unwrap();
                    sum += u128::from(node.bond.0);
                    marked += u128::from(node.faucet.0);
                }
            }
            sum += u128::from(entry.treasury.0) + u128::from(entry.burned.0);
            assert_eq!(sum, u128::from(entry.issued.0), "money of denomination {}", entry.denom);
            assert!(marked <= 1_000_000_000, "more faucet coins than the faucet had");
        }
    }
}
