//! The pass at hand: its run, the stage being computed, and the stages B is ahead by.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use crate::message::{Request, SeedBytes};
use crate::opened::SignedProduct;

/// One message's worth of rows.
pub(crate) struct Part {
    pub(crate) number: u16,
    pub(crate) rows: u32,
    /// Unique in the session; tells answers under an old mask from those under the current one.
    pub(crate) mask: u64,
    pub(crate) seed: SeedBytes,
    /// What A was sent: kept until verified, because blame asks for the very same share.
    pub(crate) share: Option<Request>,
    pub(crate) from_a: Option<SignedProduct>,
    pub(crate) from_b: Option<SignedProduct>,
    pub(crate) verified: bool,
}

/// One linear stage of the pass.
pub(crate) struct StageRun {
    /// Place in the lane.
    pub(crate) index: usize,
    pub(crate) parts: Vec<Part>,
}

/// What a pass computes.
pub(crate) enum Computation<R> {
    /// Random rows through every stage, one after another, to test an s that strangers made.
    Test,
    /// The caller's.
    Run(R),
}

pub(crate) struct PassRun<R> {
    pub(crate) number: u32,
    pub(crate) tokens: u32,
    pub(crate) run: Computation<R>,
    /// Rows of real tokens; the rest is padding.
    pub(crate) real_rows: usize,
    /// Input of the current stage, `[tokens, k]`, padding rows zero.
    pub(crate) x: Zeroizing<Vec<i32>>,
    /// Output of the current stage, `[tokens, n]`, filled part by part.
    pub(crate) y: Vec<i32>,
    /// The current stage first, then those that B has been asked for ahead.
    pub(crate) stages: VecDeque<StageRun>,
    /// Place in the lane of the next stage to ask B for.
    pub(crate) next: usize,
    /// Place in the lane behind the last stage of the pass.
    pub(crate) end: usize,
}
