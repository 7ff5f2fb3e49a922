//! What the judge may know: words of rows that both parties agree on, and bytes of the model.

use nesa_model::layout::TensorKind;
use thiserror::Error;

use crate::program::Op;

/// Something the judge needs is not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Missing {
    /// A word of a row.
    #[error("word {index} of {op:?} of token {token} is not opened")]
    Word {
        /// The token.
        token: u32,
        /// The row.
        op: Op,
        /// The word.
        index: usize,
    },
    /// Bytes of a tensor.
    #[error("byte {at} of {kind:?} is not opened")]
    Bytes {
        /// The tensor.
        kind: TensorKind,
        /// First byte.
        at: usize,
    },
}

/// Where the judge looks things up.
pub trait Facts {
    /// A word of a row.
    ///
    /// # Errors
    /// [`Missing`] if it is not known.
    fn word(&self, token: u32, op: Op, index: usize) -> Result<i32, Missing>;

    /// Bytes of a tensor of the model, from byte `at` on.
    ///
    /// # Errors
    /// [`Missing`] if they are not known.
    fn bytes(&self, kind: TensorKind, at: usize, out: &mut [u8]) -> Result<(), Missing>;
}
