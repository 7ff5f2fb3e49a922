//! Traces of exact decoder runs, and the dispute of two of them.
//!
//! Replicas of a shard compute the same integers, so their *traces* (Merkle trees over the digest of
//! every intermediate row) have the same root. Where two roots differ, a [`Dispute`] walks down to the
//! first row that differs, in it to one value, in that to at most 64 products or one token's attention,
//! and the [`judge`] re-executes this from an opening that is proven under the model's digest and under
//! the rows that both agree on.
//!
//! ```text
//! DecoderRun ─observer─▶ Recorder ─▶ Trace ─root─▶ (blinded on the chain)
//!                                      │
//! two roots differ ─▶ Dispute: tree ─▶ row ─▶ block ─▶ partial sums ─▶ opening ─▶ judge ─▶ Ruling
//! ```
//!
//! All is pure: no I/O, no clock, no randomness. `docs/committee-lane.md` says what it promises.

#![deny(missing_docs)]
#![deny(clippy::float_arithmetic)]

mod answer;
mod dispute;
mod facts;
mod judge;
mod opening;
mod party;
mod program;
mod record;
mod slice;
mod stats;
mod tree;

pub use answer::{Answer, Blob, End, MAX_NODES, MAX_SUMS, Receipt};
pub use dispute::{
    AnswerError, Context, Decision, Dispute, Grounds, MAX_DISPUTE_ROUNDS, OpenError, Ruling, Side,
    Stage,
};
pub use facts::{Facts, Missing};
pub use judge::{Claim, Peak, Truth, judge, partial_sum};
pub use opening::{Opening, OpeningError, PieceSlice, RowSlice};
pub use party::{Party, PartyError};
pub use program::{Geometry, GeometryError, Op, SLOT_BITS};
pub use record::{Keep, Recorder, RowProof, Rows, Trace, keep_for, row_digest, verify_row};
pub use slice::{BLOCK, Slice, SliceError};
pub use tree::token_bits;
