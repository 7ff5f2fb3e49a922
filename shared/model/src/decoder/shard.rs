//! A contiguous range of a decoder's layers, collected from checked pieces.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

use crate::artifact::{Artifact, ChunkError, Header, LocalPart, Piece, PieceError, Pieces};
use crate::layout::{Tensor, TensorKind};
use crate::manifest::{DecoderConfig, Manifest, STAGES_PER_LAYER};

/// Why a shard cannot be collected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShardError {
    /// A model of another family.
    #[error("the model is a {got}, expected a decoder")]
    Family {
        /// Its family.
        got: &'static str,
    },
    /// No such layers.
    #[error("layers {from}..{to} of a model of {layers}")]
    Layers {
        /// First layer asked for.
        from: usize,
        /// End of the range asked for.
        to: usize,
        /// Layers there are.
        layers: usize,
    },
    /// A piece is not the one the header names, or not of this shard.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A piece cannot be had from where the model lies.
    #[error(transparent)]
    Piece(#[from] PieceError),
}

/// Collects the pieces of one shard, in any order, each checked before it is kept.
///
/// The first shard holds the token embedding, the last the final norm and the head.
#[derive(Clone, Debug)]
pub struct Shard {
    header: Arc<Header>,
    layers: Range<usize>,
    chunks: BTreeMap<usize, Option<Bytes>>,
    /// The payload that the chunks are slices of, where it is here whole: tensors need no copy then.
    payload: Option<Bytes>,
}

impl Shard {
    /// An empty shard of `layers`.
    ///
    /// # Errors
    /// [`ShardError`] when the model is no decoder or lacks the layers.
    pub fn new(header: Arc<Header>, layers: Range<usize>) -> Result<Self, ShardError> {
        let Manifest::Decoder(manifest) = header.manifest() else {
            return Err(ShardError::Family { got: header.manifest().family() });
        };
        let count = usize::from(manifest.config.layers);
        if layers.is_empty() || layers.end > count {
            let (from, to) = (layers.start, layers.end);
            return Err(ShardError::Layers { from, to, layers: count });
        }
        let mut wanted = BTreeSet::new();
        for tensor in &header.layout().tensors {
            if belongs(tensor.kind, &layers, &manifest.config) && tensor.rows > 0 {
                let chunks = &header.layout().chunks;
                let first = chunks.partition_point(|c| c.range.end <= tensor.range().start);
                let end = chunks.partition_point(|c| c.range.start < tensor.range().end);
                wanted.extend(first..end);
            }
        }
        let chunks = wanted.into_iter().map(|c| (c, None)).collect();
        Ok(Self { header, layers, chunks, payload: None })
    }

    /// The layers.
    pub fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// The model's header.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Bytes of all its pieces.
    pub fn total_bytes(&self) -> usize {
        let chunks = &self.header.layout().chunks;
        self.chunks.keys().filter_map(|&c| chunks.get(c)).map(|c| c.range.len()).sum()
    }

    /// Pieces still missing.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().filter(|(_, b)| b.is_none()).map(|(c, _)| c + 1)
    }

    /// Checks and keeps one piece. A piece given twice is kept once.
    ///
    /// # Errors
    /// [`ShardError::Chunk`] when it is not the piece the header names, or not of this shard.
    pub fn insert(&mut self, piece: usize, bytes: impl Into<Bytes>) -> Result<(), ShardError> {
        let bytes = bytes.into();
        self.header.verify_piece(piece, &bytes)?;
        let slot = piece.checked_sub(1).and_then(|c| self.chunks.get_mut(&c));
        let count = self.header.piece_count();
        *slot.ok_or(ChunkError::Index { index: piece, count })? = Some(bytes);
        Ok(())
    }

    /// Keeps one piece that was checked already, without hashing it again.
    ///
    /// # Errors
    /// [`ShardError::Chunk`] when another model's header checked it, or it is not of this shard.
    pub fn insert_checked(&mut self, piece: Piece) -> Result<(), ShardError> {
        let (index, count) = (piece.index(), self.header.piece_count());
        if piece.model() != self.header.digest() {
            let (got, expected) = (piece.model(), self.header.digest());
            return Err(ChunkError::Hash { index, got, expected }.into());
        }
        let slot = index.checked_sub(1).and_then(|c| self.chunks.get_mut(&c));
        *slot.ok_or(ChunkError::Index { index, count })? = Some(piece.bytes().clone());
        Ok(())
    }

    /// A shard of a file that is here whole; it shares the file's memory.
    ///
    /// # Errors
    /// As [`Shard::new`].
    pub fn of_artifact(artifact: &Artifact, layers: Range<usize>) -> Result<Self, ShardError> {
        let mut shard = Self::new(artifact.header().clone(), layers)?;
        for (&c, slot) in &mut shard.chunks {
            *slot = artifact.piece(c + 1);
        }
        shard.payload = Some(artifact.payload().clone());
        Ok(shard)
    }

    /// A shard of a model whose pieces are read from where they lie: its own and no others. It shares the
    /// memory of one that is held whole.
    ///
    /// # Errors
    /// As [`Shard::new`], and [`ShardError::Piece`] when a piece is not there or not what the header names.
    pub fn of_pieces(pieces: &dyn Pieces, layers: Range<usize>) -> Result<Self, ShardError> {
        if let Some(artifact) = pieces.whole() {
            return Self::of_artifact(artifact, layers);
        }
        let mut shard = Self::new(pieces.header().clone(), layers)?;
        for (&c, slot) in &mut shard.chunks {
            *slot = Some(pieces.piece(c + 1)?.bytes().clone());
        }
        Ok(shard)
    }

    /// The bytes of a tensor, if the shard has all of them.
    fn tensor(&self, tensor: &Tensor) -> Option<Bytes> {
        let range = tensor.range();
        let chunks = &self.header.layout().chunks;
        let first = chunks.partition_point(|c| c.range.end <= range.start);
        let end = chunks.partition_point(|c| c.range.start < range.end);
        if let Some(payload) = &self.payload {
            let here = (first..end).all(|c| self.chunks.contains_key(&c));
            return here.then(|| payload.slice(range));
        }
        let mut joined = Vec::new();
        for (c, chunk) in chunks.iter().enumerate().take(end).skip(first) {
            let bytes = self.chunks.get(&c)?.as_ref()?;
            let at = chunk.range.start;
            let from = range.start.max(at) - at;
            let to = range.end.min(chunk.range.end) - at;
            if end - first == 1 {
                return Some(bytes.slice(from..to));
            }
            joined.extend_from_slice(&bytes[from..to]);
        }
        Some(joined.into())
    }
}

/// Where a model's tensors come from.
pub(super) trait Tensors {
    fn header(&self) -> &Arc<Header>;
    fn get(&self, tensor: &Tensor) -> Option<Bytes>;
}

impl Tensors for Artifact {
    fn header(&self) -> &Arc<Header> {
        Artifact::header(self)
    }
    fn get(&self, tensor: &Tensor) -> Option<Bytes> {
        let range = tensor.range();
        (range.end <= self.payload().len()).then(|| self.payload().slice(range))
    }
}

impl Tensors for LocalPart {
    fn header(&self) -> &Arc<Header> {
        &self.header
    }
    fn get(&self, tensor: &Tensor) -> Option<Bytes> {
        let range = tensor.range();
        (range.end <= self.payload.len()).then(|| self.payload.slice(range))
    }
}

impl Tensors for Shard {
    fn header(&self) -> &Arc<Header> {
        &self.header
    }
    fn get(&self, tensor: &Tensor) -> Option<Bytes> {
        self.tensor(tensor)
    }
}

/// Whether a shard of `layers` needs a tensor.
pub(super) fn belongs(kind: TensorKind, layers: &Range<usize>, config: &DecoderConfig) -> bool {
    let first = layers.start == 0;
    let last = layers.end == usize::from(config.layers);
    let stage = |index: usize| match index / STAGES_PER_LAYER {
        layer if layer < usize::from(config.layers) => layers.contains(&layer),
        _ => last,
    };
    match kind {
        TensorKind::Word => first || last && config.tied,
        TensorKind::WordScale => first,
        TensorKind::NormGain(n) | TensorKind::NormBias(n) => match n / 2 {
            layer if layer < usize::from(config.layers) => layers.contains(&layer),
            _ => last,
        },
        TensorKind::Multiplier(i)
        | TensorKind::Bias(i)
        | TensorKind::Smooth(i)
        | TensorKind::Weight(i) => stage(i),
        TensorKind::Score(layer) => layers.contains(&layer),
        TensorKind::SampleTable => last,
        // The client's; a shard computes on tokens and rows.
        TensorKind::Tokenizer | TensorKind::Template | TensorKind::Vocab => false,
        // An encoder's.
        TensorKind::Position
        | TensorKind::Segment
        | TensorKind::Relative
        | TensorKind::GeluTable => false,
        TensorKind::TanhTable | TensorKind::Labels => false,
        TensorKind::SiluTable
        | TensorKind::ExpTable
        | TensorKind::Frequency
        | TensorKind::Cosine => true,
    }
}
