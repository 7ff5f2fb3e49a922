//! A chain whose third model is a real one, with traces of its shards, true and false.

use crate::world::*;
use bytes::Bytes;
use nesa_chain::{
    Action, Genesis, SignedTx, Terms,
    action::{
        AnswerDispute, ClaimServed, ClaimShard, CloseDispute, CommitShard, Lane, OpenDispute, Pair,
        PayForQuery, Reveal, Verification,
    },
    committee::{ShardCommittee, Windows, blind, derive_shards},
    keys,
    query::{DisputeRecord, Sealed},
    record::{ModelRecord, Snapshot},
    rules::TxError,
    voucher::ShardVoucher,
};
use nesa_model::{
    Artifact, PlainDecoder,
    decoder::{
        DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Shard,
        toy::{ToyDecoder, artifact},
    },
    manifest::Manifest,
};
use nesa_primitives::{Amount, Denom, Hash, decode_exact};
use nesa_trace::{
    Context, Geometry, Party, PartyError, Recorder, Rows, Trace, row_digest, token_bits,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
};

pub(crate) const MAX_TOKENS: u32 = 40;
const SALT: Hash = Hash([6; 32]);

/// Traces of one shard: the true one, two false ones, and the true ones of [`OTHER`] inputs, of
/// [`FEWER`] tokens, and with [`MORE_LOGITS`].
pub(crate) struct ShardTraces {
    pub(crate) traces: Vec<(Trace, Rows)>,
    pub(crate) roots: Vec<Hash>,
}

/// A toy model of two layers and the traces of its shards: whole, first layer, second layer.
pub(crate) struct Lab {
    pub(crate) artifact: Artifact,
    whole: ShardTraces,
    halves: [ShardTraces; 2],
}

pub(crate) static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let toy = ToyDecoder { layers: 2, d_ff: 80, ..ToyDecoder::default() };
    let artifact = artifact(&toy).unwrap();
    let tokens = |third| Input::Tokens(vec![3, 1, third, 1, 5]);
    let hidden = |by| Input::Hidden((0..5 * 32).map(|i| (i * by) % 100_000).collect());
    let whole = trace(&artifact, 0..2, tokens(4), tokens(7));
    let halves = [
        trace(&artifact, 0..1, tokens(4), tokens(7)),
        trace(&artifact, 1..2, hidden(7919), hidden(7920)),
    ];
    Lab { artifact, whole, halves }
});

/// The trace of a replica that was given other inputs, and signed receipts for them.
pub(crate) const OTHER: usize = 3;
/// The trace of a replica that was given two tokens fewer, and the client's word that this is all.
pub(crate) const FEWER: usize = 4;
/// The trace of a replica that was asked for every token's logits; the others were for the last one's.
pub(crate) const MORE_LOGITS: usize = 5;

fn trace(
    artifact: &Artifact,
    layers: std::ops::Range<usize>,
    input: Input,
    other: Input,
) -> ShardTraces {
    let fewer = match &input {
        Input::Tokens(tokens) => Input::Tokens(tokens[..3].to_vec()),
        Input::Hidden(rows) => Input::Hidden(rows[..3 * 32].to_vec()),
    };
    let fewer = run(artifact, layers.clone(), fewer, Logits::Last);
    let more = run(artifact, layers.clone(), input.clone(), Logits::All);
    let (trace, rows) = run(artifact, layers.clone(), input, Logits::Last);
    let mut traces = vec![(trace.clone(), rows.clone())];
    for (n, slot) in [(0, 9), (1, 4)] {
        let mut lies = rows.clone();
        let row = lies.get_mut(&(2, slot)).unwrap();
        row[n] = row[n].wrapping_add(5);
        let mut lie = trace.clone();
        lie.set(2, slot, row_digest(&SALT, 2, slot, row));
        traces.push((lie, lies));
    }
    traces.push(run(artifact, layers, other, Logits::Last));
    traces.extend([fewer, more]);
    let roots = traces.iter().map(|(trace, _)| trace.root(token_bits(MAX_TOKENS))).collect();
    ShardTraces { traces, roots }
}

fn run(
    artifact: &Artifact,
    layers: std::ops::Range<usize>,
    input: Input,
    logits: Logits,
) -> (Trace, Rows) {
    let shard = Shard::of_artifact(artifact, layers.clone()).unwrap();
    let model = DecoderModel::open_shard(&shard).unwrap();
    let Manifest::Decoder(manifest) = artifact.header().manifest() else { panic!("a decoder") };
    let layers = layers.start as u16..layers.end as u16;
    let trace = Trace::new(Geometry::of(&manifest.config, layers).unwrap(), SALT);
    let recorder = Recorder::new(vec![trace]).keeping(Box::new(|_, _| true));
    let recorder = Arc::new(Mutex::new(recorder));
    let feeds = vec![Feed { cache: KvCache::new(), input, logits }];
    let run = DecoderRun::start_observed(&model, feeds, Box::new(recorder.clone())).unwrap();
    run.run(&PlainDecoder(&model)).unwrap();
    recorder.lock().unwrap().finish().pop().unwrap()
}

impl Lab {
    pub(crate) fn shard(&self, terms: &Terms, shard: u8) -> &ShardTraces {
        if terms.cuts.is_empty() { &self.whole } else { &self.halves[usize::from(shard)] }
    }
}

pub(crate) fn toy_model() -> Hash {
    LAB.artifact.digest()
}

/// The usual genesis with the toy model, which every node serves.
pub(crate) fn sealed_genesis() -> Genesis {
    let mut genesis = genesis();
    genesis.models.push(ModelRecord {
        digest: toy_model(),
        name: "toy".parse().unwrap(),
        lanes: Lane::Sealed.bit(),
        ..genesis.models[0].clone()
    });
    for node in &mut genesis.nodes {
        node.models.push(toy_model());
    }
    genesis
}

pub(crate) fn terms(cuts: &[u16], replicas: u8, disclose: bool) -> Terms {
    Terms { cuts: cuts.to_vec(), replicas, disclose }
}

/// The blind of a replica.
pub(crate) fn veil(shard: u8, replica: u8) -> Hash {
    Hash([shard * 16 + replica + 1; 32])
}

impl World {
    pub(crate) fn sealed() -> Self {
        Self::of(sealed_genesis())
    }

    /// The same, whose third model is also offered in the float lane.
    pub(crate) fn float() -> Self {
        let mut genesis = sealed_genesis();
        for model in genesis.models.iter_mut().filter(|model| model.digest == toy_model()) {
            model.lanes |= Lane::Float.bit();
        }
        Self::of(genesis)
    }

    pub(crate) fn sealed_payment(&self, terms: Terms) -> PayForQuery {
        let each = 7u64.div_ceil(terms.shards() as u64);
        PayForQuery {
            model: toy_model(),
            lane: Lane::Sealed,
            verification: Verification::Committee,
            max_fee: Amount(each * 2 * u64::from(MAX_TOKENS) * terms.parts() as u64),
            denom: Denom::NES,
            max_tokens: MAX_TOKENS,
            deadline_ms: self.now + 5_000,
            terms: Some(terms),
            ..self.payment(1, 100)
        }
    }

    pub(crate) fn open_sealed(&mut self, terms: Terms) -> Hash {
        let tx = self.tx(ALICE, Action::PayForQuery(self.sealed_payment(terms)));
        let id = tx.id();
        self.one(tx).unwrap();
        id
    }

    pub(crate) fn sealed_of(&self, id: &Hash) -> Sealed {
        self.query(id).sealed.unwrap()
    }

    pub(crate) fn windows(&self, id: &Hash) -> Windows {
        let query = self.query(id);
        let disclose = query.sealed.unwrap().terms.disclose;
        Windows::of(query.deadline_ms, disclose, &self.genesis.params)
    }

    pub(crate) fn replicas(&self, id: &Hash) -> ShardCommittee {
        let record = self.query(id);
        let sealed = record.sealed.unwrap();
        if let Some(drawn) = sealed.committee {
            return drawn;
        }
        let snapshot: Snapshot =
            decode_exact(&self.state[&keys::snapshot(record.snapshot_epoch)], &()).unwrap();
        let seed = seed(record.draw_view).0;
        derive_shards(&seed, id, &snapshot.set, &record.model, &sealed.terms).unwrap()
    }

    /// The number of the operator of a seat.
    pub(crate) fn sealed_operator(&self, id: &Hash, shard: u8, seat: u8) -> u8 {
        let seat = *self.replicas(id).seat(shard, seat).unwrap();
        (0..=255).find(|n| address(*n) == seat.operator).unwrap()
    }

    pub(crate) fn commit_shard(
        &self,
        id: &Hash,
        (shard, replica): (u8, u8),
        root: &Hash,
        served: u32,
    ) -> CommitShard {
        CommitShard {
            query: *id,
            shard,
            replica,
            seat: replica,
            blinded_root: blind(&self.chain, id, (shard, replica), root, &veil(shard, replica)),
            served_tokens: served,
            admission: None,
            seed: seed(self.query(id).draw_view),
        }
    }

    /// A transaction of the operator of a replica.
    pub(crate) fn by(
        &mut self,
        id: &Hash,
        shard: u8,
        seat: u8,
        action: Action,
    ) -> Result<(), TxError> {
        let operator = self.sealed_operator(id, shard, seat);
        self.soon(self.tx(operator, action))
    }

    /// A block very soon.
    pub(crate) fn soon(&mut self, tx: SignedTx) -> Result<(), TxError> {
        self.block(5, &[tx]).pop().unwrap()
    }

    pub(crate) fn until(&mut self, ms: u64) {
        let wait = ms.saturating_sub(self.now);
        if wait > 0 {
            self.block(wait, &[]);
        }
    }

    /// Commits to the trace number `which` of the shard.
    pub(crate) fn commits(&mut self, id: &Hash, shard: u8, replica: u8, which: usize) {
        let terms = self.sealed_of(id).terms;
        let root = LAB.shard(&terms, shard).roots[which];
        let commit = self.commit_shard(id, (shard, replica), &root, 30);
        self.by(id, shard, replica, Action::CommitShard(commit)).unwrap();
    }

    pub(crate) fn reveals(
        &mut self,
        id: &Hash,
        shard: u8,
        replica: u8,
        which: usize,
    ) -> Result<(), TxError> {
        let root = LAB.shard(&self.sealed_of(id).terms, shard).roots[which];
        let blind = veil(shard, replica);
        let reveal = Reveal { query: *id, shard, replica, root, blind };
        self.by(id, shard, replica, Action::Reveal(reveal))
    }

    pub(crate) fn shard_voucher(
        &self,
        id: &Hash,
        shard: u8,
        replica: u8,
        total: u64,
    ) -> ShardVoucher {
        let node = match self.sealed_of(id).commit(shard, replica) {
            Some(commit) => commit.node,
            None => self.replicas(id).seat(shard, replica).unwrap().node,
        };
        let place = (shard, replica);
        ShardVoucher::sign(&key(100), &self.chain, *id, place, node, Amount(total))
    }

    pub(crate) fn claims(
        &mut self,
        id: &Hash,
        shard: u8,
        replica: u8,
        total: u64,
    ) -> Result<(), TxError> {
        let voucher = self.shard_voucher(id, shard, replica, total);
        self.by(id, shard, replica, Action::ClaimShard(ClaimShard { query: *id, voucher }))
    }

    pub(crate) fn claims_served(
        &mut self,
        id: &Hash,
        shard: u8,
        replica: u8,
    ) -> Result<(), TxError> {
        let claim = ClaimServed { query: *id, shard, replica };
        self.by(id, shard, replica, Action::ClaimServed(claim))
    }

    /// Opens a query, commits and reveals the traces with these numbers, `[shard][replica]`, and waits
    /// for the reveals to end.
    pub(crate) fn revealed(&mut self, terms: Terms, which: &[&[usize]]) -> Hash {
        let id = self.open_sealed(terms);
        let each = || {
            let shards = (0u8..).zip(which);
            shards.flat_map(|(s, list)| (0u8..).zip(*list).map(move |(r, &w)| (s, r, w)))
        };
        for (shard, replica, which) in each() {
            self.commits(&id, shard, replica, which);
        }
        self.until(self.windows(&id).commit_ms + 1);
        for (shard, replica, which) in each() {
            self.reveals(&id, shard, replica, which).unwrap();
        }
        self.until(self.windows(&id).reveal_ms + 1);
        id
    }

    /// The party of a replica that follows the trace number `which`.
    pub(crate) fn party<T>(
        &self,
        id: &Hash,
        shard: u8,
        which: usize,
        f: impl FnOnce(&Party<'_>) -> T,
    ) -> T {
        let record = self.query(id);
        let traces = LAB.shard(&record.sealed.as_ref().unwrap().terms, shard);
        let (trace, rows) = &traces.traces[which];
        let context = Context {
            chain: self.chain,
            query: *id,
            shard,
            client_key: record.client_key,
            model: record.model,
            roots: [Hash::ZERO; 2],
        };
        let head = trace.geometry().head_slot();
        let receipt = |token| {
            let logits = trace.digest(token, head).is_some();
            Some(context.sign_receipt(&key(100), token, trace.digest(token, 0)?, logits))
        };
        let end = Some(context.sign_end(&key(100), trace.len() as u32));
        f(&Party {
            header: LAB.artifact.header(),
            pieces: &|index: usize| -> Option<Bytes> { LAB.artifact.piece(index) },
            trace,
            rows,
            receipt: &receipt,
            end,
        })
    }

    pub(crate) fn open_dispute(&mut self, pair: Pair, by: u8) -> Result<(), TxError> {
        let manifest =
            self.party(&pair.query, pair.shard, 0, |party| party.manifest_slice().unwrap());
        let action = Action::OpenDispute(OpenDispute { pair, manifest });
        self.by(&pair.query, pair.shard, by, action)
    }

    pub(crate) fn dispute(&self, pair: &Pair) -> Option<DisputeRecord> {
        let key = keys::dispute(&pair.query, pair.shard, pair.left, pair.right);
        self.state.get(&key).map(|bytes| decode_exact(bytes, &()).unwrap())
    }

    /// What a replica that follows the trace number `which` answers now.
    pub(crate) fn answer_of(
        &self,
        pair: &Pair,
        which: usize,
    ) -> Option<Result<nesa_trace::Answer, PartyError>> {
        let record = self.dispute(pair)?;
        Some(self.party(&pair.query, pair.shard, which, |party| party.answer(&record.dispute)))
    }

    pub(crate) fn answers(&mut self, pair: Pair, by: u8, which: usize) -> Result<(), TxError> {
        let answer = self.answer_of(&pair, which).unwrap().unwrap();
        let round = self.dispute(&pair).unwrap().round;
        let action = Action::AnswerDispute(AnswerDispute { pair, round, answer });
        self.by(&pair.query, pair.shard, by, action)
    }

    pub(crate) fn closes(&mut self, pair: Pair) -> Result<(), TxError> {
        let tx = self.tx(BOB, Action::CloseDispute(CloseDispute { pair }));
        self.soon(tx)
    }

    /// Both answer until it is decided.
    pub(crate) fn fight(&mut self, pair: Pair, which: [usize; 2]) {
        for _ in 0..nesa_trace::MAX_DISPUTE_ROUNDS {
            for (by, which) in [pair.left, pair.right].into_iter().zip(which) {
                if self.dispute(&pair).is_some() {
                    // Of an opening only the first is taken.
                    let _ = self.answers(pair, by, which);
                }
            }
        }
        assert!(self.dispute(&pair).is_none(), "not decided");
    }

    pub(crate) fn bonds(&self) -> BTreeMap<u8, u64> {
        let nodes = [20u8, 21, 22, 23, 24, 30];
        nodes.into_iter().filter_map(|n| Some((n, self.node(n)?.bond.0))).collect()
    }
}
