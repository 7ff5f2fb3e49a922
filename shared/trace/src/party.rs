//! What a party answers: from its trace, the rows it re-ran for, and the model's pieces.

use bytes::Bytes;
use commonware_codec::EncodeSize;
use nesa_model::Header;
use nesa_model::layout::TensorKind;
use nesa_model::manifest::{DecoderManifest, Manifest};
use nesa_primitives::Hash;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use thiserror::Error;

use crate::answer::{Answer, Blob, End, LEVELS, Receipt};
use crate::dispute::{Dispute, Stage};
use crate::facts::{Facts, Missing};
use crate::judge::{Claim, judge, partial_sum};
use crate::opening::{
    CHUNK_PREFIX, CHUNK_TAG, HEADER_PREFIX, MODEL_TAG, Opening, PieceSlice, RowSlice, locate,
    varint_len,
};
use crate::program::{Geometry, Op};
use crate::record::{Forest, PREFIX, ROW_TAG, Rows, Trace, message};
use crate::slice::{self, BLOCK, MAX_SLICE_BLOCKS, Slice, frontier};

/// Why a party has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartyError {
    /// A row was not kept: re-run with a recorder that keeps it.
    #[error("row {slot} of token {token} was not kept")]
    Row {
        /// Its token.
        token: u32,
        /// Its slot.
        slot: u16,
    },
    /// Something of the model or of the rows is not here.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A piece of the model is not here.
    #[error("piece {index} of the model is not here")]
    Piece {
        /// Which piece.
        index: usize,
    },
    /// The client gave no receipt.
    #[error("no receipt for token {token}")]
    Receipt {
        /// The token.
        token: u32,
    },
    /// The client never said how many tokens it asked for.
    #[error("no word of how many tokens were asked for")]
    End,
    /// Not a decoder.
    #[error("the model is no decoder")]
    Family,
    /// The dispute is over, or not about this trace.
    #[error("nothing to answer")]
    Nothing,
}

/// One side of a dispute.
pub struct Party<'a> {
    /// The model.
    pub header: &'a Header,
    /// The model's pieces (0 is the header), as far as they are here.
    pub pieces: &'a dyn Fn(usize) -> Option<Bytes>,
    /// The trace whose root was revealed.
    pub trace: &'a Trace,
    /// Its rows: at least those of the disputed token, and the `Qkv` rows of its layer for all tokens
    /// that it sees.
    pub rows: &'a Rows,
    /// The client's receipt for a token.
    pub receipt: &'a dyn Fn(u32) -> Option<Receipt>,
    /// The client's word for how many tokens it asked for, if it gave one.
    pub end: Option<End>,
}

impl Party<'_> {
    /// The first part of the header, which opens a dispute: its manifest.
    ///
    /// # Errors
    /// [`PartyError::Piece`] without the header.
    pub fn manifest_slice(&self) -> Result<Slice, PartyError> {
        let (_, end) = self.manifest()?;
        let message = self.header_message()?;
        let blocks = 0..end.div_ceil(BLOCK) as u32;
        Slice::of(MODEL_TAG, &message, blocks).ok_or(PartyError::Piece { index: 0 })
    }

    /// This round's answer.
    ///
    /// # Errors
    /// [`PartyError`] naming what is not here.
    pub fn answer(&self, dispute: &Dispute) -> Result<Answer, PartyError> {
        match dispute.stage {
            Stage::Done { .. } => Err(PartyError::Nothing),
            Stage::Tree { height, index, .. } => {
                let levels = LEVELS.min(u32::from(height)) as u8;
                let forest = self.trace.forest();
                let first = index << levels;
                let nodes = (first..first + (1 << levels)).map(|i| forest.node(height - levels, i));
                Ok(Answer::Nodes(nodes.collect()))
            }
            Stage::Asked { token, slot: 0, .. } if self.trace.digest(token, 0).is_none() => {
                self.end.map(Answer::End).ok_or(PartyError::End)
            }
            Stage::Input { token, .. } | Stage::Asked { token, .. } => {
                (self.receipt)(token).map(Answer::Receipt).ok_or(PartyError::Receipt { token })
            }
            Stage::Row { token, slot, from, to, .. } => {
                let message = self.row_message(token, slot)?;
                let cut = |r: &Range<u32>| -> Result<&[u8], PartyError> {
                    let end = (r.end as usize * BLOCK).min(message.len());
                    message.get(r.start as usize * BLOCK..end).ok_or(PartyError::Nothing)
                };
                if to - from == 1 {
                    return Ok(Answer::Block(Blob(cut(&(from..to))?.to_vec())));
                }
                let key = slice::key(ROW_TAG);
                let parts = frontier(from..to, LEVELS);
                let nodes = parts.iter().map(|r| Ok(slice::subtree(&key, r.start, cut(r)?)));
                nodes.collect::<Result<_, PartyError>>().map(Answer::Nodes)
            }
            Stage::Sum { token, slot, index, base, from, to, .. } => {
                let (manifest, _) = self.manifest()?;
                let op = dispute.geometry.op(slot).ok_or(PartyError::Nothing)?;
                let held = Held::new(self, &dispute.geometry);
                let sums = dispute.parts(token, slot, from..to).into_iter().map(|part| {
                    let at = (token, op, index, base);
                    partial_sum(manifest, &dispute.geometry, at, (part.start, part.end), &held)
                });
                Ok(Answer::Sums(sums.collect::<Result<_, _>>()?))
            }
            Stage::Opening { token, slot, claim } => {
                let opening = self.open(dispute, token, slot, &claim)?;
                Ok(Answer::Opening(Box::new(opening)))
            }
        }
    }

    fn manifest(&self) -> Result<(&DecoderManifest, usize), PartyError> {
        let whole = self.header.manifest();
        match whole {
            Manifest::Decoder(manifest) => Ok((manifest, HEADER_PREFIX + whole.encode_size())),
            _ => Err(PartyError::Family),
        }
    }

    fn header_message(&self) -> Result<Vec<u8>, PartyError> {
        let header = (self.pieces)(0).ok_or(PartyError::Piece { index: 0 })?;
        Ok([&[0u8; HEADER_PREFIX][..], &header].concat())
    }

    fn row_message(&self, token: u32, slot: u16) -> Result<Vec<u8>, PartyError> {
        let row = self.rows.get(&(token, slot)).ok_or(PartyError::Row { token, slot })?;
        Ok(message(self.trace.salt(), token, slot, row))
    }

    /// Judges with what is here, and opens all that the judge asked for.
    fn open(
        &self,
        dispute: &Dispute,
        token: u32,
        slot: u16,
        claim: &Claim,
    ) -> Result<Opening, PartyError> {
        let g = &dispute.geometry;
        let forest = self.trace.forest();
        let held = Held::new(self, g);
        let (manifest, manifest_end) = self.manifest()?;
        let op = g.op(slot).ok_or(PartyError::Nothing)?;
        if let Claim::Absent { reference, .. } = *claim {
            let row = self.row(dispute, &forest, (token, reference), Vec::new());
            return Ok(Opening {
                header: vec![self.manifest_slice()?],
                pieces: Vec::new(),
                rows: vec![row],
            });
        }
        judge(manifest, g, token, op, claim, &held)?;
        let asked = held.asked.into_inner();

        let mut rows = Vec::new();
        for (&(token, slot), blocks) in &asked.rows {
            let message = self.row_message(token, slot)?;
            let slices = runs(blocks).filter_map(|run| Slice::of(ROW_TAG, &message, run)).collect();
            rows.push(self.row(dispute, &forest, (token, slot), slices));
        }
        let mut pieces = Vec::new();
        let hashes = manifest_end + varint_len(self.header.layout().chunks.len());
        let mut header: BTreeSet<u32> = (0..manifest_end.div_ceil(BLOCK) as u32).collect();
        for (&chunk, blocks) in &asked.chunks {
            let index = chunk as usize + 1;
            let piece = (self.pieces)(index).ok_or(PartyError::Piece { index })?;
            let message = [&[0u8; HEADER_PREFIX][..], &chunk.to_le_bytes(), &piece].concat();
            let slices = runs(blocks).filter_map(|run| Slice::of(CHUNK_TAG, &message, run));
            pieces.extend(slices.map(|slice| PieceSlice { chunk, slice }));
            let at = hashes + 32 * chunk as usize;
            header.extend([at / BLOCK, (at + 31) / BLOCK].map(|block| block as u32));
        }
        let message = self.header_message()?;
        let header = runs(&header).filter_map(|run| Slice::of(MODEL_TAG, &message, run)).collect();
        Ok(Opening { header, pieces, rows })
    }

    fn row(
        &self,
        dispute: &Dispute,
        forest: &Forest<'_>,
        (token, slot): (u32, u16),
        slices: Vec<Slice>,
    ) -> RowSlice {
        let digest = self.trace.digest(token, slot).unwrap_or(Hash::ZERO);
        RowSlice { token, slot, digest, path: forest.path(dispute.token_bits, token, slot), slices }
    }
}

/// Neighbouring blocks together.
fn runs(blocks: &BTreeSet<u32>) -> impl Iterator<Item = Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for &block in blocks {
        match runs.last_mut() {
            Some(run) if run.end == block && run.len() < MAX_SLICE_BLOCKS => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs.into_iter()
}

/// Blocks that the judge asked for.
#[derive(Default)]
struct Asked {
    rows: BTreeMap<(u32, u16), BTreeSet<u32>>,
    chunks: BTreeMap<u32, BTreeSet<u32>>,
}

/// What a party holds, with a note of what was asked for.
struct Held<'a> {
    party: &'a Party<'a>,
    geometry: &'a Geometry,
    asked: RefCell<Asked>,
    /// Pieces looked at, so that a source that reads from disk is asked once.
    cache: RefCell<BTreeMap<u32, Bytes>>,
}

impl<'a> Held<'a> {
    fn new(party: &'a Party<'a>, geometry: &'a Geometry) -> Self {
        Self { party, geometry, asked: RefCell::default(), cache: RefCell::default() }
    }
}

impl Facts for Held<'_> {
    fn word(&self, token: u32, op: Op, index: usize) -> Result<i32, Missing> {
        let missing = Missing::Word { token, op, index };
        let slot = self.geometry.slot(op);
        let word = slot.and_then(|s| self.party.rows.get(&(token, s))?.get(index).copied());
        let (slot, word) = slot.zip(word).ok_or(missing)?;
        let block = ((PREFIX + 4 * index) / BLOCK) as u32;
        self.asked.borrow_mut().rows.entry((token, slot)).or_default().insert(block);
        Ok(word)
    }

    fn bytes(&self, kind: TensorKind, at: usize, out: &mut [u8]) -> Result<(), Missing> {
        let missing = Missing::Bytes { kind, at };
        let (chunk, at) =
            locate(self.party.header.layout(), kind, at).ok_or_else(|| missing.clone())?;
        let mut cache = self.cache.borrow_mut();
        if let std::collections::btree_map::Entry::Vacant(entry) = cache.entry(chunk) {
            let piece = (self.party.pieces)(chunk as usize + 1).ok_or_else(|| missing.clone())?;
            entry.insert(piece);
        }
        let place = at - CHUNK_PREFIX..at - CHUNK_PREFIX + out.len();
        let bytes = cache.get(&chunk).and_then(|piece| piece.get(place));
        out.copy_from_slice(bytes.ok_or(missing)?);
        let mut asked = self.asked.borrow_mut();
        let blocks = (at / BLOCK) as u32..=((at + out.len() - 1) / BLOCK) as u32;
        asked.chunks.entry(chunk).or_default().extend(blocks);
        Ok(())
    }
}
