//! The dispute of two roots, as a state machine.
//!
//! ```text
//! Tree ──▶ Row ──▶ Block ─┬──────────────────▶ Opening ──▶ Done
//!   │                     └──▶ Sum ──▶ … ──▶ ───┘
//!   ├──▶ Input ──▶ Done            (inputs differ: who has the client's receipt?)
//!   ├──▶ Asked ──▶ Done            (one party lacks a token, or its logits: what did the client ask?)
//!   └──▶ Opening                   (one party lacks a row)
//! ```
//!
//! In each round both parties answer; what they say must fit what they said before, down from the
//! root each committed to. An answer that does not fit is refused and counts as none. Who does not answer
//! in time, where the other does, lies. The last step either party may take: its opening decides by itself.

mod advance;
mod codec;
mod ruling;
mod terms;

pub use ruling::{Decision, Grounds, Ruling, Side};
pub use terms::{AnswerError, Context, OpenError};

use nesa_primitives::Hash;
use serde::{Deserialize, Serialize};
use std::ops::Range;

use crate::answer::{Answer, LEVELS, MAX_SUMS};
use crate::judge::{Claim, judge, terms};
use crate::opening::{self, Opened, OpeningError, Place};
use crate::program::{Geometry, SLOT_BITS};
use crate::record::{PREFIX, ROW_TAG};
use crate::slice::{self, BLOCK, Slice, blocks, join_frontier};
use crate::tree::{MAX_TOKEN_BITS, Nodes};

/// Most rounds of a dispute: 8 down the tree, 4 into the longest row and 1 for its block, 5 into the
/// longest sum, 1 opening.
pub const MAX_DISPUTE_ROUNDS: u32 = 19;

/// What a dispute waits for. Pairs are left, right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Stage {
    /// Nodes below a subtree of the trace whose digests differ.
    Tree {
        /// Its height above the rows.
        height: u8,
        /// Its number at that height.
        index: u64,
        /// Its digests.
        digests: [Hash; 2],
    },
    /// The client's receipts for an input that differs: who has none made it up.
    Input {
        /// The token.
        token: u32,
        /// The input's digests.
        digests: [Hash; 2],
    },
    /// What the client asked for, where one party has a token, or a token's logits, and the other has not.
    Asked {
        /// The token.
        token: u32,
        /// Slot of its input, or the first of its logits' rows.
        slot: u16,
        /// The row's digests; zeros where there is none.
        digests: [Hash; 2],
    },
    /// Nodes below a subtree of a row, or its block when it is only one.
    Row {
        /// The token.
        token: u32,
        /// The row's slot.
        slot: u16,
        /// First block.
        from: u32,
        /// End of the blocks.
        to: u32,
        /// Digests of the subtree.
        digests: [Hash; 2],
    },
    /// Partial sums of a disputed sum.
    Sum {
        /// The token.
        token: u32,
        /// The row's slot.
        slot: u16,
        /// Word of the sum.
        index: u32,
        /// The first word of its group of statistics, which both agree on.
        base: i32,
        /// First term.
        from: u32,
        /// End of the terms.
        to: u32,
        /// What the terms add up to.
        claims: [i64; 2],
    },
    /// An opening, from either.
    Opening {
        /// The token.
        token: u32,
        /// The row's slot.
        slot: u16,
        /// What is claimed.
        claim: Claim,
    },
    /// Nothing: it is over.
    Done {
        /// How it ended, and on what grounds.
        decision: Decision,
    },
}

/// Two parties on their way to the first thing they disagree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The shard's shape.
    pub geometry: Geometry,
    /// Levels of the tree above a token's rows.
    pub token_bits: u8,
    /// What is waited for.
    pub stage: Stage,
    /// Answers of this round.
    pub answers: [Option<Answer>; 2],
}

impl Dispute {
    /// Begins a dispute. `header` holds the model's manifest; `layers` says which of so many layers the
    /// shard has.
    ///
    /// # Errors
    /// [`OpenError`] when there is nothing to dispute, or the model is not shown.
    pub fn open(
        context: &Context,
        header: &Slice,
        layers: impl FnOnce(u16) -> Option<Range<u16>>,
        token_bits: u8,
    ) -> Result<Self, OpenError> {
        if context.roots[0] == context.roots[1] {
            return Err(OpenError::Equal);
        }
        let (manifest, _) = opening::manifest(&context.model, header)?;
        let all = manifest.config.layers;
        let layers = layers(all).ok_or(OpenError::Shard { shard: context.shard, layers: all })?;
        let geometry = Geometry::of(&manifest.config, layers)?;
        let token_bits = token_bits.min(MAX_TOKEN_BITS);
        let height = SLOT_BITS + token_bits;
        let stage = Stage::Tree { height, index: 0, digests: context.roots };
        Ok(Self { geometry, token_bits, stage, answers: [None, None] })
    }

    /// How it ended, once it has.
    pub const fn ruling(&self) -> Option<Ruling> {
        match self.decision() {
            Some(decision) => Some(decision.ruling),
            None => None,
        }
    }

    /// How it ended and on what grounds, once it has.
    pub const fn decision(&self) -> Option<Decision> {
        match self.stage {
            Stage::Done { decision } => Some(decision),
            _ => None,
        }
    }

    /// Whether a party still owes this round's answer. The opening is owed by neither alone.
    pub fn awaits(&self, side: Side) -> bool {
        self.ruling().is_none() && self.answers[side.index()].is_none()
    }

    /// Takes an answer; with the second one the dispute advances, and so it does with one opening.
    ///
    /// # Errors
    /// [`AnswerError`]; the dispute is unchanged.
    pub fn answer(
        &mut self,
        context: &Context,
        side: Side,
        answer: Answer,
    ) -> Result<(), AnswerError> {
        if !matches!(self.stage, Stage::Done { .. }) && !self.awaits(side) {
            return Err(AnswerError::Twice);
        }
        if let Stage::Opening { token, slot, claim } = self.stage {
            let Answer::Opening(opening) = &answer else { return Err(self.unexpected(&answer)) };
            let place = Place {
                model: &context.model,
                geometry: &self.geometry,
                root: &context.roots[side.index()],
                token_bits: self.token_bits,
                token,
                slot,
            };
            let ruling = decide(&Opened::check(opening, &place)?, &place, &claim)?;
            self.stage = Decision::stage(ruling, Grounds::Opening);
            return Ok(());
        }
        self.check(context, side, &answer)?;
        self.answers[side.index()] = Some(answer);
        if let [Some(left), Some(right)] = &self.answers {
            let next = self.advance(left, right);
            self.stage = next;
            self.answers = [None, None];
        }
        Ok(())
    }

    /// The time for this round's answers is over: who has not answered, where the other has, lies. But who
    /// lacks a token need not show that the client asked for no more: a client may leave without a word.
    pub fn time_out(&mut self) {
        if self.ruling().is_some() {
            return;
        }
        let silent = [self.answers[0].is_none(), self.answers[1].is_none()];
        let ruling = match (&self.stage, silent) {
            // The way down leads to the first row that differs: here to the end of one that is shorter.
            (Stage::Asked { slot: 0, digests, .. }, _)
                if silent.iter().zip(digests).any(|(&silent, d)| silent && *d == Hash::ZERO) =>
            {
                Ruling::Lengths
            }
            // Neither answered: neither is shown to be right.
            (_, [true, true]) => Ruling::Undecided,
            _ => Ruling::of(silent),
        };
        self.stage = Decision::stage(ruling, Grounds::Silence);
        self.answers = [None, None];
    }

    fn unexpected(&self, answer: &Answer) -> AnswerError {
        let expected = match &self.stage {
            Stage::Tree { .. } => "nodes",
            Stage::Input { .. } => "receipt",
            Stage::Asked { slot: 0, .. } => "receipt, or end where there is no token",
            Stage::Asked { .. } => "receipt",
            Stage::Row { from, to, .. } if to - from == 1 => "block",
            Stage::Row { .. } => "nodes",
            Stage::Sum { .. } => "sums",
            Stage::Opening { .. } => "opening",
            Stage::Done { .. } => "nothing",
        };
        AnswerError::Kind { got: answer.name(), expected }
    }

    /// Whether an answer fits what its party said before.
    fn check(&self, context: &Context, side: Side, answer: &Answer) -> Result<(), AnswerError> {
        let fits = |fits: bool, what| if fits { Ok(()) } else { Err(AnswerError::Unfit { what }) };
        let at = side.index();
        match (&self.stage, answer) {
            (Stage::Tree { height, digests, .. }, Answer::Nodes(nodes)) => {
                let joined = Nodes::new().join(nodes, LEVELS.min(u32::from(*height)));
                fits(joined == Some(digests[at]), "nodes")
            }
            (Stage::Input { token, digests }, Answer::Receipt(receipt)) => {
                let own = receipt.digest == digests[at];
                fits(own && context.verify_receipt(*token, receipt), "receipt")
            }
            (Stage::Asked { token, slot, digests }, Answer::Receipt(receipt)) => {
                let there = digests[at] != Hash::ZERO;
                // A token's input is the row in dispute; its logits were asked for, or not.
                let own = match slot {
                    0 if !there => return Err(self.unexpected(answer)),
                    0 => receipt.digest == digests[at],
                    _ => receipt.logits == there,
                };
                fits(own && context.verify_receipt(*token, receipt), "receipt")
            }
            (Stage::Asked { token, slot: 0, digests }, Answer::End(end))
                if digests[at] == Hash::ZERO =>
            {
                fits(end.tokens <= *token && context.verify_end(end), "end")
            }
            (Stage::Row { slot, from, to, digests, .. }, Answer::Nodes(nodes)) if to - from > 1 => {
                let whole = 0..blocks(self.row_bytes(*slot));
                let (range, mut nodes) = (*from..*to, nodes.iter());
                let key = slice::key(ROW_TAG);
                let joined = join_frontier(&key, range.clone(), LEVELS, &mut nodes, range == whole);
                fits(nodes.next().is_none() && joined == Some(digests[at]), "nodes")
            }
            (Stage::Row { slot, from, to, digests, .. }, Answer::Block(block))
                if to - from == 1 =>
            {
                let len = self.row_bytes(*slot);
                let start = from.saturating_mul(BLOCK as u32);
                let expected = (len.saturating_sub(start) as usize).min(BLOCK);
                let key = slice::key(ROW_TAG);
                let digest = if block.0.len() != expected || expected == 0 {
                    Hash::ZERO
                } else if blocks(len) == 1 {
                    slice::root(&key, &block.0)
                } else {
                    slice::subtree(&key, *from, &block.0)
                };
                fits(digest == digests[at], "bytes of the block")
            }
            (Stage::Sum { token, slot, from, to, claims, .. }, Answer::Sums(sums)) => {
                let parts = self.parts(*token, *slot, *from..*to);
                let sum: i128 = sums.iter().map(|s| i128::from(*s)).sum();
                let fit = sums.len() == parts.len() && sum == i128::from(claims[at]);
                fits(fit, "partial sums")
            }
            _ => Err(self.unexpected(answer)),
        }
    }

    /// Bytes of a row as it is hashed.
    pub(crate) fn row_bytes(&self, slot: u16) -> u32 {
        let words = self.geometry.op(slot).map_or(0, |op| self.geometry.words(op));
        // Sizes are bounded by the model's layout: below 2^23.
        (PREFIX + 4 * words) as u32
    }

    /// The parts that an answer divides a sum into.
    pub(crate) fn parts(&self, token: u32, slot: u16, range: Range<u32>) -> Vec<Range<u32>> {
        let granule = self.geometry.op(slot).map_or(1, |op| terms(&self.geometry, token, op).1);
        let units = range.len().div_ceil(granule as usize).max(1);
        let step = units.div_ceil(MAX_SUMS) as u32 * granule;
        let starts = range.clone().step_by(step as usize);
        starts.map(|start| start..start.saturating_add(step).min(range.end)).collect()
    }
}

/// What a checked opening says about a claim.
fn decide(opened: &Opened, place: &Place<'_>, claim: &Claim) -> Result<Ruling, OpeningError> {
    let (token, slot) = (place.token, place.slot);
    if let Claim::Absent { reference, left } = *claim {
        let digest = opened.digest(token, reference);
        let there = digest.ok_or(OpeningError::Row { token, slot: reference })? != Hash::ZERO;
        // The row should be where its group has begun.
        return Ok(if there == left { Ruling::LeftLies } else { Ruling::RightLies });
    }
    let op = place.geometry.op(slot).ok_or(OpeningError::Row { token, slot })?;
    let truth = judge(&opened.manifest, place.geometry, token, op, claim, opened)?;
    Ok(Ruling::of([truth.left_lies, truth.right_lies]))
}
