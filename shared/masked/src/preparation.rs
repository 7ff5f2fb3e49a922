//! What a client needs to check a model: per linear stage a secret uniform r, s = rᵀW mod p, and
//! the bound of each row of W.
//!
//! Made once per device by streaming weight rows whose hashes have been checked against the model
//! digest; the weights themselves need not be kept. Or made by two nodes on shares of r
//! ([`thin`](crate::thin)), without the weights ever being here. r and s are born from the generator
//! passed in, live in erased-on-drop memory, and leave it only through [`Preparation::seal`], encrypted and
//! authenticated under a key that the caller keeps out of reach, bound to model and stage.

use core::sync::atomic::{AtomicU8, Ordering};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use commonware_codec::Encode;
use nesa_kernels::{RowFold, Weight};
use nesa_primitives::{Hash, decode_exact};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    client::Candidate,
    origin::{Origin, SealedOrigin, Standing},
    secret::SecretVector,
    spec::{Lane, Stage},
};

/// Why weight rows were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrepareError {
    /// The stage is not one of the lane's.
    #[error("the model has no linear stage {0}")]
    UnknownStage(u16),
    /// Rows out of order, or not a whole number of rows.
    #[error("stage {stage}: expected whole rows from {expected}, got {got} weights at row {row}")]
    Rows {
        /// The stage.
        stage: u16,
        /// The next row due.
        expected: u32,
        /// The row the caller named.
        row: u32,
        /// Weights given.
        got: usize,
    },
    /// Σ|w|·max|x| of a row exceeds what the stage's specification promises, so that shares of its
    /// width could not carry the result.
    #[error("stage {stage}, row {row}: accumulator bound {bound} is not below 2^{bits}")]
    Bound {
        /// The stage.
        stage: u16,
        /// The row.
        row: u32,
        /// Σ|w|·max|x|.
        bound: u64,
        /// The promised bits.
        bits: u8,
    },
    /// Some rows never came.
    #[error("stage {stage}: {got} of {expected} rows")]
    Incomplete {
        /// The stage.
        stage: u16,
        /// Rows seen.
        got: u32,
        /// Rows needed.
        expected: u32,
    },
}

/// Why a sealed preparation was refused. It does not say which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sealed preparation is not one this key made for this model and stage")]
pub struct SealError;

/// The secrets of one stage. Prints nothing, compares nothing, erased on drop.
pub struct StageSecrets {
    pub(crate) stage: Stage,
    /// `[n]`, uniform mod p.
    pub(crate) r: SecretVector,
    /// `[k]`, rᵀW mod p.
    pub(crate) s: SecretVector,
    /// `[n]`, the largest |y| of each row.
    pub(crate) bounds: Vec<u32>,
}

/// The secrets of every linear stage of one model.
pub struct Preparation {
    model: Hash,
    origin: Origin,
    /// A [`Standing`]. It only ever grows, and every session that shares the preparation sees it.
    standing: AtomicU8,
    stages: Vec<StageSecrets>,
}

/// Folds weight rows as they arrive; see [`Preparation::builder`].
pub struct Builder {
    model: Hash,
    stages: Vec<Folding>,
}

struct Folding {
    stage: Stage,
    r: SecretVector,
    fold: RowFold,
    bounds: Vec<u32>,
}

impl Preparation {
    /// Starts a preparation with a fresh uniform r for every stage.
    pub fn builder(model: Hash, lane: &Lane, rng: &mut impl CryptoRng) -> Builder {
        let stages = lane.stages().iter().map(|&stage| Folding {
            stage,
            r: SecretVector::uniform(stage.n as usize, rng),
            fold: RowFold::new(stage.k as usize),
            bounds: Vec::with_capacity(stage.n as usize),
        });
        Builder { model, stages: stages.collect() }
    }

    /// Prepares from whole weight matrices at hand, `weights(stage)` being `[n, k]`.
    ///
    /// # Errors
    /// As [`Builder::rows`] and [`Builder::finish`].
    pub fn from_weights<'a, W: Into<Weight<'a>>>(
        model: Hash,
        lane: &Lane,
        weights: impl Fn(u16) -> W,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, PrepareError> {
        let mut builder = Self::builder(model, lane, rng);
        for stage in lane.stages() {
            for (first, rows) in weights(stage.id).into().pieces(stage.k as usize) {
                builder.rows(stage.id, first as u32, &rows)?;
            }
        }
        builder.finish()
    }

    fn local(model: Hash, stages: Vec<StageSecrets>) -> Self {
        let standing = AtomicU8::new(Standing::Trusted as u8);
        Self { model, origin: Origin::Local, standing, stages }
    }

    /// What two preparers gave; `tested` says that it has agreed with products of random rows.
    pub(crate) fn thin(
        model: Hash,
        preparers: [Candidate; 2],
        stages: Vec<StageSecrets>,
        tested: bool,
    ) -> Self {
        let standing = if tested { Standing::Trusted } else { Standing::Untested };
        let origin = Origin::Thin { preparers };
        Self { model, origin, standing: AtomicU8::new(standing as u8), stages }
    }

    /// The digest of the model it belongs to.
    pub fn model(&self) -> Hash {
        self.model
    }

    /// Who made its s.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether its s may be used, must be tested first, or must not be used any more.
    pub fn standing(&self) -> Standing {
        Standing::from_u8(self.standing.load(Ordering::Acquire))
    }

    /// Notes what a session found. A discarded preparation stays so.
    pub(crate) fn note(&self, standing: Standing) {
        self.standing.fetch_max(standing as u8, Ordering::AcqRel);
    }

    /// Whether it covers exactly the stages of `lane`, in order.
    pub fn covers(&self, lane: &Lane) -> bool {
        self.stages.iter().map(|s| &s.stage).eq(lane.stages())
    }

    /// The secrets of the stage at `index` of the lane: opaque, but able to check a product.
    pub fn stage(&self, index: usize) -> Option<&StageSecrets> {
        self.stages.get(index)
    }

    /// Encrypts and authenticates each stage's secrets under `key`; one blob per stage, in order,
    /// and one more that says who prepared, unless this client did.
    ///
    /// XChaCha20-Poly1305 with a random nonce; the associated data bind the model digest, the
    /// origin, the stage and its shape. The blob is 16 bytes per (k + n) plus 4 n plus 40 bytes, at
    /// most.
    pub fn seal(&self, key: &[u8; 32], rng: &mut impl CryptoRng) -> Vec<Vec<u8>> {
        let cipher = XChaCha20Poly1305::new(key.into());
        let origin = match self.origin {
            Origin::Local => Vec::new(),
            Origin::Thin { preparers } => {
                let tested = self.standing() == Standing::Trusted;
                SealedOrigin { preparers, tested }.encode().to_vec()
            }
        };
        let stages = self.stages.iter();
        let mut blobs: Vec<_> =
            stages.map(|s| s.seal(&self.model, &origin, &cipher, rng)).collect();
        if self.origin.is_thin() {
            blobs.push(seal_bytes(&origin, &origin_context(&self.model), &cipher, rng));
        }
        blobs
    }

    /// Opens what [`seal`](Self::seal) made, one blob per stage of `lane`, in order, and for a thin
    /// preparation the one that says so.
    ///
    /// # Errors
    /// [`SealError`] for another key, model, stage or shape, for one changed bit, or for a blob
    /// missing or left over.
    pub fn unseal(
        model: Hash,
        lane: &Lane,
        key: &[u8; 32],
        blobs: &[Vec<u8>],
    ) -> Result<Self, SealError> {
        let cipher = XChaCha20Poly1305::new(key.into());
        let (blobs, last) = blobs.split_at_checked(lane.stages().len()).ok_or(SealError)?;
        let origin = match last {
            [] => Zeroizing::default(),
            [origin] => open_bytes(origin, &origin_context(&model), &cipher)?,
            _ => return Err(SealError),
        };
        let stages = lane
            .stages()
            .iter()
            .zip(blobs)
            .map(|(&stage, blob)| StageSecrets::unseal(stage, &model, &origin, &cipher, blob))
            .collect::<Result<_, _>>()?;
        if last.is_empty() {
            return Ok(Self::local(model, stages));
        }
        let SealedOrigin { preparers, tested } =
            decode_exact(&origin, &()).map_err(|_| SealError)?;
        Ok(Self::thin(model, preparers, stages, tested))
    }

    /// Adds one to the first coordinate of a stage's s: a wrong preparation, for tests of blame.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self, index: usize) {
        let s = &mut self.stages[index].s;
        let mut residues: Vec<u64> = (0..s.len()).map(|i| s.residue(i)).collect();
        residues[0] = crate::field::add(residues[0], 1);
        *s = SecretVector::from_residues(residues).expect("residues stay in the field");
    }
}

const NONCE: usize = 24;

/// What the seal of a thin origin is bound to, beside the key.
fn origin_context(model: &Hash) -> [u8; 32] {
    *nesa_primitives::domain("masked preparation origin", model).finalize().as_bytes()
}

fn seal_bytes(
    plain: &[u8],
    context: &[u8],
    cipher: &XChaCha20Poly1305,
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let mut nonce = [0u8; NONCE];
    rng.fill_bytes(&mut nonce);
    let payload = Payload { msg: plain, aad: context };
    // Encryption fails only beyond 256 GiB, and a stage's secrets are below 4 MiB; an empty
    // blob would never open.
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default();
    [nonce.as_slice(), &sealed].concat()
}

fn open_bytes(
    blob: &[u8],
    context: &[u8],
    cipher: &XChaCha20Poly1305,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, sealed) = blob.split_at_checked(NONCE).ok_or(SealError)?;
    let payload = Payload { msg: sealed, aad: context };
    cipher.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| SealError)
}

impl StageSecrets {
    /// What the seal is bound to, beside the key. `origin` is empty for a local preparation.
    fn context(stage: &Stage, model: &Hash, origin: &[u8]) -> [u8; 32] {
        let mut hasher = nesa_primitives::domain("masked preparation", &Hash::ZERO);
        hasher.update(model.as_ref());
        hasher.update(&stage.id.to_le_bytes());
        hasher.update(&stage.k.to_le_bytes());
        hasher.update(&stage.n.to_le_bytes());
        hasher.update(&[stage.input_bits, stage.row_bound_bits]);
        hasher.update(origin);
        *hasher.finalize().as_bytes()
    }

    fn seal(
        &self,
        model: &Hash,
        origin: &[u8],
        cipher: &XChaCha20Poly1305,
        rng: &mut impl CryptoRng,
    ) -> Vec<u8> {
        let len = 8 * (self.r.len() + self.s.len()) + 4 * self.bounds.len();
        let mut plain = Zeroizing::new(Vec::with_capacity(len));
        for vector in [&self.r, &self.s] {
            for i in 0..vector.len() {
                plain.extend_from_slice(&vector.residue(i).to_le_bytes());
            }
        }
        for bound in &self.bounds {
            plain.extend_from_slice(&bound.to_le_bytes());
        }
        seal_bytes(&plain, &Self::context(&self.stage, model, origin), cipher, rng)
    }

    fn unseal(
        stage: Stage,
        model: &Hash,
        origin: &[u8],
        cipher: &XChaCha20Poly1305,
        blob: &[u8],
    ) -> Result<Self, SealError> {
        let (k, n) = (stage.k as usize, stage.n as usize);
        let plain = open_bytes(blob, &Self::context(&stage, model, origin), cipher)?;
        if plain.len() != 8 * (n + k) + 4 * n {
            return Err(SealError);
        }
        let (residues, bounds) = plain.split_at(8 * (n + k));
        let words = |bytes: &[u8]| -> Vec<u64> {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().map(|w| u64::from_le_bytes(*w)).collect()
        };
        let r = SecretVector::from_residues(words(&residues[..8 * n])).ok_or(SealError)?;
        let s = SecretVector::from_residues(words(&residues[8 * n..])).ok_or(SealError)?;
        let (bounds, _) = bounds.as_chunks::<4>();
        let bounds = bounds.iter().map(|b| u32::from_le_bytes(*b)).collect();
        Ok(Self { stage, r, s, bounds })
    }
}

impl Builder {
    /// Folds rows `first_row..` of a stage's weights (`[rows, k]` row-major). The caller has
    /// checked them against the model digest; rows come in order.
    ///
    /// # Errors
    /// [`PrepareError`] for an unknown stage, rows out of order, or a row whose accumulator bound
    /// breaks the stage's promise.
    pub fn rows(&mut self, stage: u16, first_row: u32, weights: &[i8]) -> Result<(), PrepareError> {
        let folding = self
            .stages
            .iter_mut()
            .find(|f| f.stage.id == stage)
            .ok_or(PrepareError::UnknownStage(stage))?;
        folding.add(first_row, weights)
    }

    /// Fraction of all rows folded so far, 0 to 1, for a progress display.
    pub fn progress(&self) -> f64 {
        let (mut seen, mut all) = (0u64, 0u64);
        for f in &self.stages {
            seen += f.bounds.len() as u64 * u64::from(f.stage.k);
            all += u64::from(f.stage.n) * u64::from(f.stage.k);
        }
        seen as f64 / all.max(1) as f64
    }

    /// The preparation, once every row has come.
    ///
    /// # Errors
    /// [`PrepareError::Incomplete`] names the first stage with rows missing.
    pub fn finish(self) -> Result<Preparation, PrepareError> {
        let stages = self.stages.into_iter().map(Folding::finish).collect::<Result<_, _>>()?;
        Ok(Preparation::local(self.model, stages))
    }
}

impl Folding {
    fn add(&mut self, first_row: u32, weights: &[i8]) -> Result<(), PrepareError> {
        let stage = self.stage;
        let (k, due) = (stage.k as usize, self.bounds.len());
        let rows = weights.len() / k;
        if !weights.len().is_multiple_of(k)
            || first_row as usize != due
            || rows > stage.n as usize - due
        {
            return Err(PrepareError::Rows {
                stage: stage.id,
                expected: due as u32,
                row: first_row,
                got: weights.len(),
            });
        }
        let limit = 1u64 << stage.row_bound_bits;
        for (j, row) in weights.chunks_exact(k).enumerate() {
            let sum: u64 = row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
            let bound = sum * stage.input_limit() as u64;
            if bound >= limit {
                return Err(PrepareError::Bound {
                    stage: stage.id,
                    row: (due + j) as u32,
                    bound,
                    bits: stage.row_bound_bits,
                });
            }
            self.bounds.push(bound as u32);
        }
        let r: Zeroizing<Vec<u64>> =
            Zeroizing::new((due..due + rows).map(|j| self.r.residue(j)).collect());
        self.fold.add(&r, weights);
        Ok(())
    }

    fn finish(self) -> Result<StageSecrets, PrepareError> {
        let (got, expected) = (self.bounds.len() as u32, self.stage.n);
        let incomplete = PrepareError::Incomplete { stage: self.stage.id, got, expected };
        if got != expected {
            return Err(incomplete);
        }
        let s = SecretVector::from_residues(self.fold.finish()).ok_or(incomplete)?;
        Ok(StageSecrets { stage: self.stage, r: self.r, s, bounds: self.bounds })
    }
}
