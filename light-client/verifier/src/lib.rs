//! The smallest browser verifier: header certificates, seeds, state proofs and receipts.
//!
//! ```js
//! import init, { Verifier } from "./nesa_verifier.js";
//! await init();
//! const verifier = new Verifier(trustRootHex);
//! const header = verifier.header(headerBytes, certificateBytes);   // throws what is wrong
//! header.value(key, valueBytes, proofBytes);                       // throws unless proved
//! ```
//!
//! A thin shell around `nesa_verify`: bytes in, a verdict out. What cannot be decided yet throws
//! too, with `undecided` at the start of the message, so that a caller never takes silence for a
//! yes. Nothing here talks to a network; the full light client is `nesa-light`.

#![deny(missing_docs)]

use nesa_chain::{header::Header, trust::TrustRoot, tx::SignedTx};
use nesa_primitives::{Hash, Verdict};
use nesa_verify::{
    Finalization, VerifiedHeader,
    certificate::{MAX_FINALIZATION_BYTES, decode_finalization, decode_header},
    state, transaction,
};
use rand::{SeedableRng as _, TryRng as _, rngs::StdRng};
use wasm_bindgen::prelude::*;

/// Most headers in one call of [`Verifier::batch`].
pub const MAX_BATCH: usize = 1024;

fn error(problem: impl std::fmt::Display) -> JsError {
    JsError::new(&problem.to_string())
}

fn decided<T>(verdict: Verdict<T>) -> Result<T, JsError> {
    match verdict {
        Verdict::Valid(value) => Ok(value),
        Verdict::Undecided { missing } => Err(error(format!("undecided: {missing} is missing"))),
        invalid @ Verdict::Invalid { .. } => Err(error(invalid.map(drop))),
    }
}

fn hash(bytes: &[u8]) -> Result<Hash, JsError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| error("a hash has 32 bytes"))?;
    Ok(Hash(bytes))
}

/// Checks what nodes of one chain say.
#[wasm_bindgen]
pub struct Verifier {
    inner: nesa_verify::Verifier,
    /// Weighs batched signature checks; a generator that a liar could predict would let two wrong
    /// signatures cancel.
    rng: StdRng,
}

#[wasm_bindgen]
impl Verifier {
    /// A verifier that trusts the given trust root (hexadecimal) and nothing else.
    #[wasm_bindgen(constructor)]
    pub fn new(trust_root: &str) -> Result<Verifier, JsError> {
        let trust = TrustRoot::from_hex(trust_root).map_err(error)?;
        let inner = nesa_verify::Verifier::new(&trust).map_err(error)?;
        let mut seed = [0u8; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(error)?;
        Ok(Self { inner, rng: StdRng::from_seed(seed) })
    }

    /// Checks that a quorum finalized exactly this header.
    pub fn header(&mut self, header: &[u8], certificate: &[u8]) -> Result<CheckedHeader, JsError> {
        let header = decode_header(header).map_err(error)?;
        let certificate = decode_finalization(certificate).map_err(error)?;
        decided(self.inner.verify_header(&mut self.rng, &header, &certificate)).map(CheckedHeader)
    }

    /// Checks many headers at once. `bytes` holds, for each, the length of the header and of the
    /// certificate (u32, little endian; 0 for "no certificate") and then both. Returns one line
    /// per header: empty when it is valid, otherwise what is wrong with it.
    pub fn batch(&mut self, bytes: &[u8]) -> Result<Vec<String>, JsError> {
        let items = read_batch(bytes)?;
        let verdicts = self.inner.verify_batch(&mut self.rng, &items);
        Ok(verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Valid(_) => String::new(),
                other => other.to_string(),
            })
            .collect())
    }

    /// Checks that `child` is the block after `parent`.
    pub fn link(&self, parent: &[u8], child: &[u8]) -> Result<(), JsError> {
        let parent = decode_header(parent).map_err(error)?;
        let child = decode_header(child).map_err(error)?;
        decided(self.inner.verify_link(&parent, &child))
    }

    /// Checks the seed (48 bytes) of a view.
    pub fn seed(&self, view: u64, seed: &[u8]) -> Result<(), JsError> {
        decided(self.inner.verify_seed(view, seed)).map(drop)
    }
}

fn read_batch(mut bytes: &[u8]) -> Result<Vec<(Header, Option<Finalization>)>, JsError> {
    let mut items = Vec::new();
    let short = || error("the batch ends within an item");
    while !bytes.is_empty() {
        if items.len() == MAX_BATCH {
            return Err(error(format!("more than {MAX_BATCH} headers")));
        }
        let mut lengths = [0usize; 2];
        for length in &mut lengths {
            let (word, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
            *length = u32::from_le_bytes(*word) as usize;
            bytes = rest;
        }
        let [header, certificate] = lengths;
        if certificate > MAX_FINALIZATION_BYTES {
            return Err(error("a certificate is too long"));
        }
        let (head, rest) = bytes.split_at_checked(header).ok_or_else(short)?;
        let (tail, rest) = rest.split_at_checked(certificate).ok_or_else(short)?;
        bytes = rest;
        let certificate = match tail {
            [] => None,
            tail => Some(decode_finalization(tail).map_err(error)?),
        };
        items.push((decode_header(head).map_err(error)?, certificate));
    }
    Ok(items)
}

/// A header that a quorum finalized: only [`Verifier::header`] makes one.
#[wasm_bindgen]
pub struct CheckedHeader(VerifiedHeader);

#[wasm_bindgen]
impl CheckedHeader {
    /// Distance from the genesis block.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> u64 {
        self.0.header().height()
    }

    /// View in which it was proposed.
    #[wasm_bindgen(getter)]
    pub fn view(&self) -> u64 {
        self.0.header().view()
    }

    /// Milliseconds since the Unix epoch.
    #[wasm_bindgen(getter, js_name = timestampMs)]
    pub fn timestamp_ms(&self) -> u64 {
        self.0.header().timestamp_ms()
    }

    /// Its digest, hexadecimal.
    #[wasm_bindgen(getter)]
    pub fn digest(&self) -> String {
        self.0.header().hash().to_string()
    }

    /// The seed of a view, if this header or its certificate shows it.
    #[wasm_bindgen(js_name = seedOf)]
    pub fn seed_of(&self, view: u64) -> Option<Vec<u8>> {
        self.0.seed_of(view).map(|seed| seed.0.to_vec())
    }

    /// Checks that the store holds `value` under `key` (32 bytes) after this block.
    pub fn value(&self, key: &[u8], value: &[u8], proof: &[u8]) -> Result<(), JsError> {
        let root = self.0.header().state_root();
        decided(state::verify_value(root, &hash(key)?, value, proof))
    }

    /// Checks that the store holds nothing under `key` (32 bytes) after this block.
    pub fn absent(&self, key: &[u8], proof: &[u8]) -> Result<(), JsError> {
        let root = self.0.header().state_root();
        decided(state::verify_absent(root, &hash(key)?, proof))
    }

    /// Checks that a signed transaction is in this block; returns its place.
    pub fn transaction(&self, transaction: &[u8], proof: &[u8]) -> Result<u64, JsError> {
        let tx = SignedTx::from_bytes(transaction).map_err(error)?;
        decided(transaction::verify_inclusion(self.0.header(), &tx, proof))
    }
}
