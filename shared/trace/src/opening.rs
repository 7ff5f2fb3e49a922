//! What a disputed value depends on, proven.

use commonware_codec::{Copying, EncodeSize, RangeCfg, Read};
use nesa_model::ModelLimits;
use nesa_model::layout::{Layout, TensorKind};
use nesa_model::manifest::{DecoderManifest, Manifest};
use nesa_primitives::{Hash, codec_struct};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

use crate::facts::{Facts, Missing};
use crate::program::{Geometry, Op, SLOT_BITS};
use crate::record::{PREFIX, ROW_TAG, leads_to};
use crate::slice::{BLOCK, Slice, SliceError};
use crate::tree::MAX_TOKEN_BITS;

/// Domain of a model's digest.
pub(crate) const MODEL_TAG: &str = "model";
/// Domain of a chunk's hash.
pub(crate) const CHUNK_TAG: &str = "model chunk";
/// Bytes before a header's in its hashed message.
pub(crate) const HEADER_PREFIX: usize = 32;
/// Bytes before a chunk's: 32 zeros and its number.
pub(crate) const CHUNK_PREFIX: usize = 36;

const MAX_HEADER_SLICES: usize = 24;
const MAX_PIECES: usize = 32;
const MAX_ROWS: usize = 12;
const MAX_ROW_SLICES: usize = 8;
const MAX_PATH: usize = (SLOT_BITS + MAX_TOKEN_BITS) as usize;

/// Blocks of one of the model's chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceSlice {
    /// Number of the chunk, from 0.
    pub chunk: u32,
    /// The blocks, under the hash that the header names.
    pub slice: Slice,
}

codec_struct!(PieceSlice { chunk, slice });

/// Blocks of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSlice {
    /// The token.
    pub token: u32,
    /// The row's slot.
    pub slot: u16,
    /// The row's digest; zeros for a row that was not made.
    pub digest: Hash,
    /// Siblings from the row's leaf up to the root.
    pub path: Vec<Hash>,
    /// The blocks.
    pub slices: Vec<Slice>,
}

codec_struct!(RowSlice {
    token,
    slot,
    digest,
    path: (RangeCfg::new(0..=MAX_PATH), ()),
    slices: (RangeCfg::new(0..=MAX_ROW_SLICES), ()),
});

/// Parts of the model's header and chunks, and of rows that both parties agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Parts of the header: first its manifest from block 0 on, then the chunk hashes needed.
    pub header: Vec<Slice>,
    /// Parts of chunks.
    pub pieces: Vec<PieceSlice>,
    /// Parts of rows.
    pub rows: Vec<RowSlice>,
}

codec_struct!(Opening {
    header: (RangeCfg::new(0..=MAX_HEADER_SLICES), ()),
    pieces: (RangeCfg::new(0..=MAX_PIECES), ()),
    rows: (RangeCfg::new(0..=MAX_ROWS), ()),
});

/// An opening that shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// A slice of something else.
    #[error("{what}: {error}")]
    Slice {
        /// Of what.
        what: &'static str,
        /// Why.
        error: SliceError,
    },
    /// The header's first part does not hold a decoder's manifest.
    #[error("no decoder's manifest: {0}")]
    Manifest(&'static str),
    /// The model does not fit the dispute.
    #[error("the model does not have the shard in dispute")]
    Geometry,
    /// A chunk that the model does not have.
    #[error("chunk {got}, the model has {count}")]
    Chunk {
        /// Chunk given.
        got: u32,
        /// Chunks there are.
        count: usize,
    },
    /// A row that does not come before the disputed one.
    #[error("row {slot} of token {token} is not agreed")]
    Row {
        /// Its token.
        token: u32,
        /// Its slot.
        slot: u16,
    },
    /// A row that is not in the tree.
    #[error("row {slot} of token {token} is not under the root")]
    Path {
        /// Its token.
        token: u32,
        /// Its slot.
        slot: u16,
    },
    /// Too little was opened.
    #[error(transparent)]
    Missing(#[from] Missing),
}

/// Some blocks of a message.
#[derive(Clone, Debug, Default)]
struct Sparse {
    blocks: BTreeMap<usize, Vec<u8>>,
}

impl Sparse {
    fn insert(&mut self, at: usize, data: &[u8]) {
        for (i, block) in data.chunks(BLOCK).enumerate() {
            self.blocks.insert(at / BLOCK + i, block.to_vec());
        }
    }

    fn read(&self, at: usize, out: &mut [u8]) -> Option<()> {
        for (at, byte) in (at..).zip(out) {
            *byte = *self.blocks.get(&(at / BLOCK))?.get(at % BLOCK)?;
        }
        Some(())
    }
}

/// A checked manifest, from the first part of a header.
pub(crate) fn manifest(
    model: &Hash,
    slice: &Slice,
) -> Result<(DecoderManifest, usize), OpeningError> {
    if slice.first != 0 {
        return Err(OpeningError::Manifest("not the first block"));
    }
    let what = "model header";
    slice.verify(MODEL_TAG, model).map_err(|error| OpeningError::Slice { what, error })?;
    let bytes = slice.data.0.get(HEADER_PREFIX..).ok_or(OpeningError::Manifest("too short"))?;
    let manifest = Manifest::read_cfg(&mut Copying(bytes), &())
        .map_err(|_| OpeningError::Manifest("not decodable"))?;
    let len = manifest.encode_size();
    match manifest {
        Manifest::Decoder(manifest) => Ok((manifest, len)),
        _ => Err(OpeningError::Manifest("of another family")),
    }
}

/// Bytes of a length's varint.
pub(crate) fn varint_len(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).max(1).div_ceil(7) as usize
}

/// Where an opening's rows must be, and whose they are.
pub(crate) struct Place<'a> {
    pub(crate) model: &'a Hash,
    pub(crate) geometry: &'a Geometry,
    /// Root of the party that opens.
    pub(crate) root: &'a Hash,
    pub(crate) token_bits: u8,
    /// The disputed row: only rows before it are agreed.
    pub(crate) token: u32,
    pub(crate) slot: u16,
}

/// A checked opening.
pub(crate) struct Opened {
    pub(crate) manifest: DecoderManifest,
    geometry: Geometry,
    layout: Layout,
    chunks: BTreeMap<u32, Sparse>,
    rows: BTreeMap<(u32, u16), Sparse>,
    digests: BTreeMap<(u32, u16), Hash>,
}

impl Opened {
    pub(crate) fn check(opening: &Opening, place: &Place<'_>) -> Result<Self, OpeningError> {
        let first = opening.header.first().ok_or(OpeningError::Manifest("no header"))?;
        let (manifest, manifest_len) = manifest(place.model, first)?;
        let g = place.geometry;
        let same = Geometry::of(&manifest.config, g.first_layer..g.end_layer);
        if same.as_ref() != Ok(g) {
            return Err(OpeningError::Geometry);
        }
        // Bounded like any model that a node may load.
        let layout = Layout::of(&Manifest::Decoder(manifest.clone()), &ModelLimits::default())
            .map_err(|_| OpeningError::Manifest("sizes out of range"))?;
        let mut header = Sparse::default();
        for slice in &opening.header {
            let what = "model header";
            let at = slice
                .verify(MODEL_TAG, place.model)
                .map_err(|error| OpeningError::Slice { what, error })?;
            header.insert(at, &slice.data.0);
        }
        let count = layout.chunks.len();
        let hashes = HEADER_PREFIX + manifest_len + varint_len(count);
        let mut chunks: BTreeMap<u32, Sparse> = BTreeMap::new();
        for PieceSlice { chunk, slice } in &opening.pieces {
            let got = *chunk;
            if got as usize >= count {
                return Err(OpeningError::Chunk { got, count });
            }
            let mut hash = Hash::ZERO;
            header
                .read(hashes + 32 * got as usize, &mut hash.0)
                .ok_or(OpeningError::Chunk { got, count })?;
            let what = "model chunk";
            let at = slice
                .verify(CHUNK_TAG, &hash)
                .map_err(|error| OpeningError::Slice { what, error })?;
            chunks.entry(got).or_default().insert(at, &slice.data.0);
        }
        let mut rows: BTreeMap<(u32, u16), Sparse> = BTreeMap::new();
        let mut digests = BTreeMap::new();
        for row in &opening.rows {
            let (token, slot) = (row.token, row.slot);
            if (token, slot) >= (place.token, place.slot) {
                return Err(OpeningError::Row { token, slot });
            }
            if !leads_to(place.root, place.token_bits, (token, slot), &row.digest, &row.path) {
                return Err(OpeningError::Path { token, slot });
            }
            digests.insert((token, slot), row.digest);
            for slice in &row.slices {
                let what = "row";
                let at = slice
                    .verify(ROW_TAG, &row.digest)
                    .map_err(|error| OpeningError::Slice { what, error })?;
                rows.entry((token, slot)).or_default().insert(at, &slice.data.0);
            }
        }
        Ok(Self { manifest, geometry: *g, layout, chunks, rows, digests })
    }

    /// The digest of a row, if it was opened.
    pub(crate) fn digest(&self, token: u32, slot: u16) -> Option<Hash> {
        self.digests.get(&(token, slot)).copied()
    }
}

/// Where bytes of a tensor lie: chunk, and place in its hashed message. Whole rows lie in one chunk, so what
/// the judge asks for at once does.
pub(crate) fn locate(layout: &Layout, kind: TensorKind, at: usize) -> Option<(u32, usize)> {
    let tensor = layout.tensor(kind)?;
    let at = tensor.offset.checked_add(at).filter(|at| tensor.range().contains(at))?;
    let chunk = layout.chunks.partition_point(|c| c.range.end <= at);
    let start = layout.chunks.get(chunk)?.range.start;
    Some((chunk as u32, at.checked_sub(start)? + CHUNK_PREFIX))
}

impl Facts for Opened {
    fn word(&self, token: u32, op: Op, index: usize) -> Result<i32, Missing> {
        let missing = Missing::Word { token, op, index };
        let mut bytes = [0u8; 4];
        let at = index.checked_mul(4).and_then(|at| at.checked_add(PREFIX));
        let slot = self.geometry.slot(op).filter(|_| index < self.geometry.words(op));
        slot.zip(at)
            .and_then(|(slot, at)| self.rows.get(&(token, slot))?.read(at, &mut bytes))
            .ok_or(missing)?;
        Ok(i32::from_le_bytes(bytes))
    }

    fn bytes(&self, kind: TensorKind, at: usize, out: &mut [u8]) -> Result<(), Missing> {
        locate(&self.layout, kind, at)
            .and_then(|(chunk, at)| self.chunks.get(&chunk)?.read(at, out))
            .ok_or(Missing::Bytes { kind, at })
    }
}
