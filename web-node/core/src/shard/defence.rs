//! A node's side of a dispute: its run, computed again from what it kept, and the answers it leads to.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use nesa_chain::limits::MAX_REPLICAS;
use nesa_crypto::Signature;
use nesa_model::Header;
use nesa_platform::{storage::StorageError, task};
use nesa_primitives::Hash;
use nesa_sealed::server::{Given, replay};
use nesa_trace::{
    Answer, Dispute, End, Geometry, Keep, Party, PartyError, Receipt, Rows, Side, Slice, Stage,
    Trace, keep_for, token_bits,
};

use super::{
    desk::Desk,
    evidence::Kept,
    shelf::{Shelf, ShelfError},
};
use crate::fault::Fault;

/// Steps at the end that the evidence may have beyond what was committed to: a node that was killed
/// had written them down, and not yet the commitment.
const MAX_LOOSE: usize = 64;
/// Pieces of the model that one answer may need.
const MAX_PIECES: usize = 64;

/// Why a node cannot defend itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefenceError {
    /// The shard cannot be had.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// What was kept cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was kept does not lead to the root committed to.
    #[error("what was kept does not lead to the trace committed to")]
    Root,
    /// There is no answer.
    #[error(transparent)]
    Party(#[from] PartyError),
}

/// A run that can be defended.
pub(crate) struct Defence {
    model: Hash,
    desk: Arc<Desk>,
    header: Arc<Header>,
    salt: Hash,
    given: Arc<Vec<Given>>,
    /// For each token, whether its logits were asked for, and the client's word.
    receipts: BTreeMap<u32, (bool, Signature)>,
    /// The client's word for how many tokens it asked for.
    end: Option<End>,
    trace: Trace,
    /// For each row in dispute: those of its token, and what its attention looked at.
    rows: BTreeMap<(u32, u16), Rows>,
    pieces: BTreeMap<usize, Bytes>,
    fault: Option<Fault>,
}

impl Defence {
    /// Computes a session again. `root` was committed to, for a query of `max_tokens`.
    ///
    /// # Errors
    /// [`DefenceError`].
    pub(crate) async fn prepare(
        shelf: &Shelf,
        model: Hash,
        kept: Kept,
        (root, max_tokens): (Hash, u32),
        fault: Option<Fault>,
    ) -> Result<Self, DefenceError> {
        let layers = usize::from(kept.layers.0)..usize::from(kept.layers.1);
        let desk = shelf.desk(&model, layers).await?;
        let header = shelf.header(&model)?;
        let Kept { salt, mut given, .. } = kept;
        let lie = fault.and_then(Fault::lie);
        let whole = Arc::new(given.clone());
        let (mut trace, _) =
            rerun(&desk, salt, whole, lie, None).await.ok_or(DefenceError::Root)?;
        let bits = token_bits(max_tokens);
        let mut loose = 0;
        while trace.root(bits) != root {
            let last = given.pop().filter(|_| loose < MAX_LOOSE).ok_or(DefenceError::Root)?;
            trace.truncate(last.position as usize);
            loose += 1;
        }
        let mut receipts = BTreeMap::new();
        for step in &given {
            let (count, last) = (step.receipts.len(), desk.model().gives_logits());
            let wanted = |i| last && (step.every || i + 1 == count);
            let tokens = (step.position..).zip(step.receipts.iter().copied().enumerate());
            receipts.extend(tokens.map(|(token, (i, signature))| (token, (wanted(i), signature))));
        }
        let end = kept.end.filter(|end| usize::try_from(end.tokens) == Ok(trace.len()));
        Ok(Self {
            model,
            desk,
            header,
            salt,
            receipts,
            end,
            trace,
            rows: BTreeMap::new(),
            given: Arc::new(given),
            pieces: BTreeMap::new(),
            fault,
        })
    }

    /// What opens a dispute: the model's description.
    ///
    /// # Errors
    /// [`DefenceError::Party`].
    pub(crate) fn manifest(&self) -> Result<Slice, DefenceError> {
        let header = self.header.bytes().clone();
        let pieces = |index| (index == 0).then(|| header.clone());
        Ok(self.party(&pieces, &Rows::new()).manifest_slice()?)
    }

    fn party<'a>(
        &'a self,
        pieces: &'a dyn Fn(usize) -> Option<Bytes>,
        rows: &'a Rows,
    ) -> Party<'a> {
        Party {
            header: &self.header,
            pieces,
            trace: &self.trace,
            rows,
            // Those were answered with before.
            receipt: &|_| None,
            end: None,
        }
    }

    /// This round's answer of `side`.
    ///
    /// # Errors
    /// [`DefenceError`] naming what is not here.
    pub(crate) async fn answer(
        &mut self,
        shelf: &Shelf,
        dispute: &Dispute,
        side: Side,
    ) -> Result<Answer, DefenceError> {
        if matches!(dispute.stage, Stage::Input { .. } | Stage::Asked { .. }) {
            let receipt = |token: u32| {
                let (logits, signature) = *self.receipts.get(&token)?;
                let digest = self.trace.digest(token, 0)?;
                Some(Receipt { digest, logits, signature })
            };
            let rows = Rows::new();
            let party = self.party(&|_| None, &rows);
            return Ok(Party { receipt: &receipt, end: self.end, ..party }.answer(dispute)?);
        }
        let about = row_of(&dispute.stage);
        if let Some(about) = about.filter(|about| !self.rows.contains_key(about)) {
            let (given, lie) = (self.given.clone(), self.fault.and_then(Fault::lie));
            let ran = rerun(&self.desk, self.salt, given, lie, Some(about)).await;
            if self.rows.len() >= MAX_REPLICAS {
                self.rows.clear();
            }
            self.rows.insert(about, ran.ok_or(DefenceError::Root)?.1);
        }
        for _ in 0..MAX_PIECES {
            let missed = Cell::new(None);
            let answered = {
                let pieces = |index: usize| {
                    let piece = match index {
                        0 => Some(self.header.bytes().clone()),
                        _ => self.pieces.get(&index).cloned(),
                    };
                    if piece.is_none() {
                        missed.set(Some(index));
                    }
                    piece
                };
                let none = Rows::new();
                let rows = about.and_then(|about| self.rows.get(&about)).unwrap_or(&none);
                self.party(&pieces, rows).answer(dispute)
            };
            match (answered, missed.take()) {
                (Ok(mut answer), _) => {
                    if let Some(fault) = self.fault {
                        fault.bend(dispute, side, &mut answer);
                    }
                    return Ok(answer);
                }
                (Err(_), Some(index)) => {
                    let piece = shelf.piece(&self.model, index).await?;
                    self.pieces.insert(index, piece);
                }
                (Err(error), None) => return Err(error.into()),
            }
        }
        Err(PartyError::Piece { index: MAX_PIECES }.into())
    }
}

/// The run, keeping the rows that the dispute of one row needs.
async fn rerun(
    desk: &Desk,
    salt: Hash,
    given: Arc<Vec<Given>>,
    lie: Option<usize>,
    about: Option<(u32, u16)>,
) -> Option<(Trace, Rows)> {
    let (model, cores) = (desk.model().clone(), desk.cores().clone());
    task::compute(move || {
        let keep = |geometry: &Geometry| -> Keep {
            match about {
                Some((token, slot)) => keep_for(geometry, token, slot),
                None => Box::new(|_, _| false),
            }
        };
        cores.run(&model, |engine| replay((&model, engine), &salt, &given, &keep, lie))
    })
    .await
}

/// The row that a stage is about.
fn row_of(stage: &Stage) -> Option<(u32, u16)> {
    match *stage {
        Stage::Row { token, slot, .. }
        | Stage::Sum { token, slot, .. }
        | Stage::Opening { token, slot, .. } => Some((token, slot)),
        _ => None,
    }
}
