//! Proofs about the chain's store: that a key has a value, or that it has none.
//!
//! The store is QMDB `current::ordered` with 32-byte keys, values of up to 64 KiB and BLAKE3.
//! Every active key names the next active key, so absence is proved by the neighbour whose span
//! covers the missing key. A proof ends in `header.fields.state.root`.

use bytes::Bytes;
use commonware_codec::{Copying, Decode as _, Encode as _, RangeCfg};
use commonware_storage::{
    mmr,
    qmdb::{
        any::value::VariableEncoding,
        current::ordered::proof::constant::{ExclusionProof, KeyValueProof},
    },
};
use nesa_chain::{
    header::{Digest, Hasher, to_digest, to_hash},
    limits::MAX_VALUE_BYTES,
};
use nesa_primitives::{Hash, Verdict};

/// Bytes of one chunk of the store's activity bitmap. Part of the root, so never changed.
pub const BITMAP_CHUNK: usize = 32;
/// Most digests in a proof: far above the depth of any tree that fits on a disk.
pub const MAX_PROOF_DIGESTS: usize = 256;
/// Longest proof accepted, in bytes: an absence proof holds the neighbour's whole value.
pub const MAX_PROOF_BYTES: usize = MAX_VALUE_BYTES + 16 * 1024;

/// Proof that a key has a value.
pub type Inclusion = KeyValueProof<mmr::Family, Digest, Digest, BITMAP_CHUNK>;
/// Proof that a key has none.
pub type Exclusion =
    ExclusionProof<mmr::Family, Digest, VariableEncoding<Bytes>, Digest, BITMAP_CHUNK>;

/// Decoding limits of values in the store.
pub fn value_range() -> RangeCfg<usize> {
    RangeCfg::from(0..=MAX_VALUE_BYTES)
}

fn malformed<T>(what: &'static str) -> Verdict<T> {
    Verdict::Invalid { got: "malformed bytes".into(), expected: "a state proof".into(), what }
}

/// Checks that the store with this root holds exactly `value` under `key`.
pub fn verify_value(root: &Digest, key: &Hash, value: &[u8], proof: &[u8]) -> Verdict<()> {
    let what = "inclusion proof";
    if value.len() > MAX_VALUE_BYTES || proof.len() > MAX_PROOF_BYTES {
        return malformed(what);
    }
    let Ok(decoded) = Inclusion::decode_cfg(Copying(proof), &(MAX_PROOF_DIGESTS, ())) else {
        return malformed(what);
    };
    if decoded.encode() != proof {
        return malformed(what);
    }
    let value = Bytes::copy_from_slice(value);
    if decoded.verify::<Hasher, VariableEncoding<Bytes>>(to_digest(key), value, root) {
        Verdict::Valid(())
    } else {
        Verdict::Invalid {
            got: format!("a proof that does not lead key {key} and its value to the root"),
            expected: to_hash(root).to_string(),
            what,
        }
    }
}

/// Checks that the store with this root holds nothing under `key`.
pub fn verify_absent(root: &Digest, key: &Hash, proof: &[u8]) -> Verdict<()> {
    let what = "exclusion proof";
    if proof.len() > MAX_PROOF_BYTES {
        return malformed(what);
    }
    let limits = (MAX_PROOF_DIGESTS, ((), value_range()), value_range());
    let Ok(decoded) = Exclusion::decode_cfg(Copying(proof), &limits) else {
        return malformed(what);
    };
    if decoded.encode() != proof {
        return malformed(what);
    }
    if decoded.verify::<Hasher>(&to_digest(key), root) {
        Verdict::Valid(())
    } else {
        Verdict::Invalid {
            got: format!("a proof that does not show key {key} to be absent"),
            expected: to_hash(root).to_string(),
            what,
        }
    }
}

/// Checks a served entry: [`verify_value`] where there is a value, [`verify_absent`] otherwise.
pub fn verify(root: &Digest, key: &Hash, value: Option<&[u8]>, proof: &[u8]) -> Verdict<()> {
    match value {
        Some(value) => verify_value(root, key, value, proof),
        None => verify_absent(root, key, proof),
    }
}
