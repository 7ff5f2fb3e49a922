//! A preparer's side of one preparation: a state machine without I/O.
//!
//! It sees a uniform vector and answers with its product with the weights, so it has nothing to
//! keep secret and nothing to be paid for yet. Work is bounded by the model: every row of every
//! stage once, in order, one stage in memory.

use bytes::Bytes;
use commonware_codec::Encode;
use nesa_kernels::RowFold;
use nesa_primitives::{Address, DecodeError, Hash};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    VALUES_PER_FRAME,
    message::{
        ColumnShare, FieldValues, PreparerRequest, PreparerResponse, Refusal, decode_request,
    },
};
use crate::{
    field,
    server::Weights,
    spec::{Lane, Stage},
};

/// Why a client's message was refused. After any of these the session is over.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// Not a message, or not its canonical form.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `Open` did not come first, or came twice.
    #[error("messages out of order")]
    Order,
    /// `Open` names another chain, model or node.
    #[error("the opening is not for this node and model")]
    Open,
    /// Rows of another stage than the one due, out of order, or too many.
    #[error(
        "expected rows of stage {stage} from {row}, at most {left}; got {got} of stage {of} from {from}"
    )]
    Rows {
        /// The stage due.
        stage: u16,
        /// The row due.
        row: u32,
        /// Rows that are missing.
        left: u32,
        /// Rows that came.
        got: usize,
        /// Their stage.
        of: u16,
        /// The first of them.
        from: u32,
    },
    /// Every stage has been answered.
    #[error("the session is over")]
    Closed,
}

impl PrepareError {
    /// What the client is told before the stream closes.
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Open => Refusal::Unknown,
            _ => Refusal::Protocol,
        }
    }
}

/// What a message leads to.
pub enum Received {
    /// Send these bytes.
    Reply(Bytes),
    /// Run the job and send its frames. Answers go out in the order of the stages.
    Work(Job),
    /// Nothing to send.
    Quiet,
}

/// Which model a stream's first message asks for; the node is to look it up.
///
/// # Errors
/// [`PrepareError`] for anything but a well-formed opening.
pub fn opened_model(frame: &[u8]) -> Result<Hash, PrepareError> {
    match decode_request(frame)? {
        PreparerRequest::Open { model, .. } => Ok(model),
        PreparerRequest::Rows(_) => Err(PrepareError::Order),
    }
}

/// The frame that ends a stream.
pub fn refuse(refusal: Refusal) -> Bytes {
    PreparerResponse::Refused(refusal).encode()
}

/// One preparation at one node.
pub struct Session {
    chain: Hash,
    model: Hash,
    node: Address,
    lane: Lane,
    open: bool,
    /// Place in the lane of the stage whose rows are due.
    index: usize,
    rows: Zeroizing<Vec<u64>>,
}

impl Session {
    /// A session of `node` for a model whose stages are `lane`.
    pub fn new(chain: Hash, model: Hash, node: Address, lane: Lane) -> Self {
        Self { chain, model, node, lane, open: false, index: 0, rows: Zeroizing::default() }
    }

    /// Whether every stage has been asked for.
    pub fn is_over(&self) -> bool {
        self.index >= self.lane.stages().len()
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// [`PrepareError`], after which the session is over.
    pub fn receive(&mut self, frame: &[u8]) -> Result<Received, PrepareError> {
        let received = self.take(frame);
        if received.is_err() {
            self.index = usize::MAX;
        }
        received
    }

    fn take(&mut self, frame: &[u8]) -> Result<Received, PrepareError> {
        let Some(stage) = self.lane.stages().get(self.index).copied() else {
            return Err(PrepareError::Closed);
        };
        let rows = match (decode_request(frame)?, self.open) {
            (PreparerRequest::Open { chain, model, node }, false) => {
                if (chain, model, node) != (self.chain, self.model, self.node) {
                    return Err(PrepareError::Open);
                }
                self.open = true;
                return Ok(Received::Reply(PreparerResponse::Accept.encode()));
            }
            (PreparerRequest::Rows(rows), true) => rows,
            _ => return Err(PrepareError::Order),
        };
        let got = rows.values.residues();
        let (due, left) = (self.rows.len(), stage.n as usize - self.rows.len());
        if rows.stage != stage.id || rows.first as usize != due || got.len() > left {
            return Err(PrepareError::Rows {
                stage: stage.id,
                row: due as u32,
                left: left as u32,
                got: got.len(),
                of: rows.stage,
                from: rows.first,
            });
        }
        self.rows.reserve_exact(left);
        self.rows.extend_from_slice(got);
        if self.rows.len() < stage.n as usize {
            return Ok(Received::Quiet);
        }
        self.index += 1;
        Ok(Received::Work(Job { stage, rows: core::mem::take(&mut self.rows) }))
    }
}

/// One stage's product to compute. Prints nothing.
pub struct Job {
    stage: Stage,
    rows: Zeroizing<Vec<u64>>,
}

impl Job {
    /// The share's product with the weights mod p; `None` if the weights have the wrong length.
    pub fn run(self, weights: &impl Weights) -> Option<Done> {
        let (n, k) = (self.stage.n as usize, self.stage.k as usize);
        let w = weights.weights(self.stage.id);
        if !w.holds(n, k) {
            return None;
        }
        let mut fold = RowFold::new(k);
        for (first, rows) in w.pieces(k) {
            let shares = self.rows.get(first..)?.get(..rows.len() / k)?;
            fold.add(shares, &rows);
        }
        Some(Done { stage: self.stage.id, columns: Zeroizing::new(fold.finish()) })
    }
}

/// A stage's share of s, on its way out. Prints nothing.
pub struct Done {
    stage: u16,
    columns: Zeroizing<Vec<u64>>,
}

impl Done {
    /// The frames that carry it, in order.
    pub fn frames(&self) -> Vec<Bytes> {
        let chunks = self.columns.chunks(VALUES_PER_FRAME).enumerate();
        chunks
            .filter_map(|(i, chunk)| {
                let values = FieldValues::new(chunk.to_vec())?;
                let first = (i * VALUES_PER_FRAME) as u32;
                let columns = ColumnShare { stage: self.stage, first, values };
                Some(PreparerResponse::Columns(columns).encode())
            })
            .collect()
    }

    /// The stage.
    pub const fn stage(&self) -> u16 {
        self.stage
    }

    /// Adds to one coordinate of the answer. For the lying nodes of test networks, which must show
    /// that a lie is caught.
    pub fn corrupt(&mut self, column: usize, by: u64) {
        if let Some(value) = self.columns.get_mut(column) {
            *value = field::add(*value, field::reduce(by.into()));
        }
    }
}
