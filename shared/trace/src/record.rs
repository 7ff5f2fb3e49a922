//! Recording a trace beside a run.

use blake3::hazmat::ContextKey;
use commonware_codec::RangeCfg;
use nesa_model::decoder::{Attended, Observe, Place, Row};
use nesa_primitives::{Hash, codec_struct, domain};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::program::{Geometry, Op, SLOT_BITS};
use crate::slice;
use crate::stats;
use crate::tree::{MAX_TOKEN_BITS, Nodes};

/// Domain of a row's digest.
pub(crate) const ROW_TAG: &str = "trace row";
/// Bytes before a row's values.
pub(crate) const PREFIX: usize = 64;

/// Intermediate rows, by token and slot. They are a replica's to keep: they tell the text.
pub type Rows = BTreeMap<(u32, u16), Vec<i32>>;

/// Which rows a recorder keeps beside their digests, by token and slot.
pub type Keep = Box<dyn Fn(u32, u16) -> bool + Send + Sync>;

/// What a party must keep, running again, to dispute the row of a token: the token's rows, and queries,
/// keys and values of the row's layer for the tokens before it.
pub fn keep_for(geometry: &Geometry, token: u32, slot: u16) -> Keep {
    let qkv = geometry.layer_of(slot).and_then(|layer| geometry.slot(Op::Qkv(layer)));
    Box::new(move |of, row| of == token || (of < token && Some(row) == qkv))
}

/// What stands before a row's values: 32 bytes of salt for an input, zeros for any other row; token,
/// slot and number of words, little endian; zeros.
pub(crate) fn prefix(salt: &Hash, token: u32, slot: u16, words: usize) -> [u8; PREFIX] {
    let mut prefix = [0u8; PREFIX];
    if slot == 0 {
        // One secret salt for all replicas of a query: without it a root would let anybody who guesses
        // the prompt see that he is right.
        let mut hasher = domain("trace salt", salt);
        hasher.update(&token.to_le_bytes());
        prefix[..32].copy_from_slice(hasher.finalize().as_bytes());
    }
    prefix[32..36].copy_from_slice(&token.to_le_bytes());
    prefix[36..40].copy_from_slice(&u32::from(slot).to_le_bytes());
    prefix[40..44].copy_from_slice(&(words as u32).to_le_bytes());
    prefix
}

/// A row as it is hashed.
pub(crate) fn message(salt: &Hash, token: u32, slot: u16, values: &[i32]) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX + 4 * values.len());
    message.extend(prefix(salt, token, slot, values.len()));
    message.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    message
}

/// The digest of a row. `salt` matters for inputs alone.
pub fn row_digest(salt: &Hash, token: u32, slot: u16, values: &[i32]) -> Hash {
    slice::root(&slice::key(ROW_TAG), &message(salt, token, slot, values))
}

/// The row digests of one sequence in one shard. Its `Debug` shows its size only.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    geometry: Geometry,
    salt: Hash,
    /// By token, then slot; zeros where no row was made.
    tokens: Vec<Vec<Hash>>,
}

/// That a row stands in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProof {
    /// Siblings from the leaf up.
    pub path: Vec<Hash>,
}

codec_struct!(RowProof { path: (RangeCfg::new(0..=(SLOT_BITS + MAX_TOKEN_BITS) as usize), ()) });

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} tokens)", self.tokens.len())
    }
}

impl Trace {
    /// An empty trace of a shard. `salt` is the client's, secret, the same for all replicas of a query.
    pub fn new(geometry: Geometry, salt: Hash) -> Self {
        Self { geometry, salt, tokens: Vec::new() }
    }

    /// The shard's shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What inputs are salted with.
    pub fn salt(&self) -> &Hash {
        &self.salt
    }

    /// Tokens recorded.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Forgets all but the first `tokens`, as the cache does after an edit or a wrong draft.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
    }

    /// The digest of a row; `None` if it was not made.
    pub fn digest(&self, token: u32, slot: u16) -> Option<Hash> {
        let digest = *self.tokens.get(token as usize)?.get(usize::from(slot))?;
        (digest != Hash::ZERO).then_some(digest)
    }

    /// Writes a row's digest. Recorders do; so does a test that lies.
    pub fn set(&mut self, token: u32, slot: u16, digest: Hash) {
        if u32::from(slot) >= 1 << SLOT_BITS || token >= 1 << MAX_TOKEN_BITS {
            return;
        }
        let (token, slot) = (token as usize, usize::from(slot));
        if self.tokens.len() <= token {
            self.tokens.resize(token + 1, Vec::new());
        }
        let rows = &mut self.tokens[token];
        if rows.len() <= slot {
            rows.resize(slot + 1, Hash::ZERO);
        }
        rows[slot] = digest;
    }

    /// The root, for a query of [`token_bits`](crate::token_bits).
    pub fn root(&self, token_bits: u8) -> Hash {
        let nodes = Nodes::new();
        nodes.subtree(&self.token_roots(&nodes), SLOT_BITS, token_bits, 0)
    }

    /// Proves a row; `None` if it lies outside a tree of `token_bits`.
    pub fn prove(&self, token_bits: u8, token: u32, slot: u16) -> Option<RowProof> {
        let forest = self.forest();
        (u64::from(token) < 1 << token_bits && u32::from(slot) < 1 << SLOT_BITS)
            .then(|| RowProof { path: forest.path(token_bits, token, slot) })
    }

    fn token_roots(&self, nodes: &Nodes) -> Vec<Hash> {
        self.tokens.iter().map(|rows| nodes.subtree(rows, 0, SLOT_BITS, 0)).collect()
    }

    pub(crate) fn forest(&self) -> Forest<'_> {
        let nodes = Nodes::new();
        Forest { roots: self.token_roots(&nodes), tokens: &self.tokens, nodes }
    }
}

/// A trace with the root of every token's rows.
pub(crate) struct Forest<'a> {
    tokens: &'a [Vec<Hash>],
    roots: Vec<Hash>,
    nodes: Nodes,
}

impl Forest<'_> {
    /// The subtree number `index` of `2^height` leaves.
    pub(crate) fn node(&self, height: u8, index: u64) -> Hash {
        if let Some(above) = height.checked_sub(SLOT_BITS) {
            return self.nodes.subtree(&self.roots, SLOT_BITS, above, index);
        }
        let token = (index >> (SLOT_BITS - height)) as usize;
        let within = index & ((1 << (SLOT_BITS - height)) - 1);
        let rows = self.tokens.get(token).map_or(&[][..], |rows| rows);
        self.nodes.subtree(rows, 0, height, within)
    }

    pub(crate) fn path(&self, token_bits: u8, token: u32, slot: u16) -> Vec<Hash> {
        let leaf = (u64::from(token) << SLOT_BITS) | u64::from(slot);
        (0..SLOT_BITS + token_bits).map(|height| self.node(height, (leaf >> height) ^ 1)).collect()
    }
}

/// Whether `values` are the row of `token` and `op` in the trace under `root`: what a client asks about
/// the outputs it was given. Not for inputs, which are salted.
pub fn verify_row(
    root: &Hash,
    token_bits: u8,
    geometry: &Geometry,
    (token, op): (u32, Op),
    values: &[i32],
    proof: &RowProof,
) -> bool {
    let Some(slot) = geometry.slot(op) else { return false };
    if values.len() != geometry.words(op) || u64::from(token) >= 1 << token_bits {
        return false;
    }
    let digest = row_digest(&Hash::ZERO, token, slot, values);
    leads_to(root, token_bits, (token, slot), &digest, &proof.path)
}

/// Whether a leaf and its path lead to a root.
pub(crate) fn leads_to(
    root: &Hash,
    token_bits: u8,
    (token, slot): (u32, u16),
    digest: &Hash,
    path: &[Hash],
) -> bool {
    let leaf = (u64::from(token) << SLOT_BITS) | u64::from(slot);
    path.len() == usize::from(SLOT_BITS + token_bits)
        && leaf >> path.len() == 0
        && Nodes::new().climb(digest, leaf, path) == *root
}

/// Statistics and sums of a token's attention, as its heads come in.
type Attention = (Vec<i32>, Vec<i32>);

/// Records the traces of the sequences of one run after another.
///
/// Give it to the run behind a handle (`Arc<Mutex<Recorder>>`), and take the traces when it is
/// finished. A run that stopped midway leaves rows of its tokens behind: truncate the trace with the
/// cache.
pub struct Recorder {
    key: ContextKey,
    traces: Vec<Trace>,
    rows: Vec<Rows>,
    keep: Option<Keep>,
    attention: BTreeMap<(usize, usize), Attention>,
    message: Vec<u8>,
}

impl Recorder {
    /// Continues one trace per sequence, in the order of the batch.
    pub fn new(traces: Vec<Trace>) -> Self {
        Self {
            key: slice::key(ROW_TAG),
            rows: vec![Rows::new(); traces.len()],
            traces,
            keep: None,
            attention: BTreeMap::new(),
            message: Vec::new(),
        }
    }

    /// Keeps the rows that `keep` picks: what a party of a dispute re-runs for.
    #[must_use]
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self
    }

    /// The traces, and the rows kept, by sequence.
    pub fn finish(&mut self) -> Vec<(Trace, Rows)> {
        self.attention.clear();
        std::mem::take(&mut self.traces).into_iter().zip(std::mem::take(&mut self.rows)).collect()
    }

    fn put(&mut self, place: Place, op: Op, values: &[i32]) {
        let Some(trace) = self.traces.get_mut(place.sequence) else { return };
        let Some(slot) = trace.geometry.slot(op) else { return };
        let token = place.token as u32;
        self.message.clear();
        self.message.extend(prefix(&trace.salt, token, slot, values.len()));
        self.message.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        trace.set(token, slot, slice::root(&self.key, &self.message));
        if self.keep.as_ref().is_some_and(|keep| keep(token, slot)) {
            self.rows[place.sequence].insert((token, slot), values.to_vec());
        }
    }
}

impl Observe for Recorder {
    fn row(&mut self, place: Place, row: Row<'_>, values: &[i32]) {
        match row {
            Row::Start { token } => {
                match token {
                    Some(token) => self.put(place, Op::Input, &[token as i32]),
                    None => self.put(place, Op::Input, values),
                }
                self.put(place, Op::Start, values);
            }
            Row::Norm { stage, gain } => {
                self.put(place, Op::NormStats(stage), &stats::norm(values, gain));
            }
            Row::Smoothed { stage } => {
                self.put(place, Op::OfferStats(stage), &stats::offer(values));
            }
            Row::Input { stage } => {
                let head = self
                    .traces
                    .get(place.sequence)
                    .is_some_and(|t| t.geometry.head_stage() == stage);
                let after_norm = head || stage.is_multiple_of(2);
                self.put(
                    place,
                    if after_norm { Op::Normed(stage) } else { Op::Offered(stage) },
                    values,
                );
            }
            Row::Product { stage } => self.put(place, Op::Product(stage), values),
            Row::Qkv { layer } => self.put(place, Op::Qkv(layer), values),
            Row::Context { layer } => {
                let key = (place.sequence, place.token);
                if let Some((stats, sums)) = self.attention.remove(&key) {
                    self.put(place, Op::AttentionStats(layer), &stats);
                    self.put(place, Op::Sums(layer), &sums);
                }
                self.put(place, Op::Context(layer), values);
            }
            Row::Gated { layer } => self.put(place, Op::Gated(layer), values),
            Row::Added { stage } => self.put(place, Op::Added(stage), values),
            Row::Logits => self.put(place, Op::Logits, values),
        }
    }

    fn attended(&mut self, place: Place, attended: &Attended<'_>) {
        let key = (place.sequence, place.token);
        let (stats, sums) = self.attention.entry(key).or_default();
        stats::attention(attended, stats, sums);
    }
}
