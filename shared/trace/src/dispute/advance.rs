//! What two answers that fit lead to: the first thing below, in which the parties differ.

use nesa_primitives::Hash;
use std::ops::Range;

use super::{Decision, Dispute, Grounds, Ruling, Stage};
use crate::answer::{Answer, LEVELS};
use crate::judge::{Claim, Peak, base_of, terms};
use crate::program::{Op, SLOT_BITS};
use crate::record::{PREFIX, prefix};
use crate::slice::{BLOCK, blocks, frontier};

impl Dispute {
    /// What follows two answers that fit.
    pub(super) fn advance(&self, left: &Answer, right: &Answer) -> Stage {
        match (&self.stage, left, right) {
            (Stage::Tree { height, index, .. }, Answer::Nodes(left), Answer::Nodes(right)) => {
                let levels = LEVELS.min(u32::from(*height));
                let Some(i) = first_difference(left, right) else { return undecided() };
                let digests = [left[i], right[i]];
                let height = height - levels as u8;
                let index = (index << levels) | i as u64;
                if height > 0 {
                    Stage::Tree { height, index, digests }
                } else {
                    self.leaf(index, digests)
                }
            }
            // Both have one: the client signed two inputs, or two askings, for one place.
            (Stage::Input { .. } | Stage::Asked { .. }, ..) => {
                Decision::stage(Ruling::ClientLies, Grounds::Receipts)
            }
            (
                Stage::Row { token, slot, from, to, .. },
                Answer::Nodes(left),
                Answer::Nodes(right),
            ) => {
                let ranges = frontier(*from..*to, LEVELS);
                let Some(i) = first_difference(left, right) else { return undecided() };
                let Some(range) = ranges.get(i) else { return undecided() };
                let (token, slot, digests) = (*token, *slot, [left[i], right[i]]);
                Stage::Row { token, slot, from: range.start, to: range.end, digests }
            }
            (Stage::Row { token, slot, from, .. }, Answer::Block(left), Answer::Block(right)) => {
                self.block(*token, *slot, *from, [&left.0, &right.0])
            }
            (
                Stage::Sum { token, slot, index, base, from, to, .. },
                Answer::Sums(l),
                Answer::Sums(r),
            ) => {
                let parts = self.parts(*token, *slot, *from..*to);
                let Some(i) = first_difference(l, r) else { return undecided() };
                let Some(part) = parts.get(i) else { return undecided() };
                self.sum((*token, *slot, *index, *base), part.clone(), [l[i], r[i]])
            }
            _ => undecided(),
        }
    }

    /// The first row that differs.
    fn leaf(&self, index: u64, digests: [Hash; 2]) -> Stage {
        let token = (index >> SLOT_BITS) as u32;
        let slot = (index & ((1 << SLOT_BITS) - 1)) as u16;
        let absent = digests.map(|digest| digest == Hash::ZERO);
        let Some(op) = self.geometry.op(slot) else {
            // No such row: who has it lies.
            return Decision::stage(Ruling::of(absent.map(|absent| !absent)), Grounds::Form);
        };
        if absent != [false, false] {
            let head = self.geometry.head_slot();
            if slot == 0 || slot == head {
                return Stage::Asked { token, slot, digests };
            }
            let reference = if slot > head { head } else { 0 };
            let claim = Claim::Absent { reference, left: absent[0] };
            return Stage::Opening { token, slot, claim };
        }
        if op == Op::Input {
            return Stage::Input { token, digests };
        }
        Stage::Row { token, slot, from: 0, to: blocks(self.row_bytes(slot)), digests }
    }

    /// The first word that differs in a block.
    fn block(&self, token: u32, slot: u16, block: u32, data: [&[u8]; 2]) -> Stage {
        let start = block as usize * BLOCK;
        let Some(op) = self.geometry.op(slot) else { return undecided() };
        let Some(at) = first_difference(data[0], data[1]) else { return undecided() };
        if start + at < PREFIX {
            // What stands before the values is fixed for all rows but inputs.
            let right = prefix(&Hash::ZERO, token, slot, self.geometry.words(op));
            let wrong = |bytes: &[u8]| bytes.get(..PREFIX) != Some(&right[..]);
            return Decision::stage(Ruling::of(data.map(wrong)), Grounds::Form);
        }
        let index = (start + at - PREFIX) / 4;
        let word = |side: usize, index: usize| -> i32 {
            let at = PREFIX + 4 * index - start;
            let bytes = data[side].get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, i32::from_le_bytes)
        };
        let both = |index: usize| [word(0, index), word(1, index)];
        let long = |index: usize| -> [i64; 2] {
            [0, 1].map(|s| (i64::from(word(s, index + 1)) << 32) | i64::from(word(s, index) as u32))
        };
        // Words before the first that differs are the same in both.
        let base = |index: usize| base_of(op, index as u32).map_or(0, |at| word(0, at));
        let peak = |index: usize| {
            let claims =
                [0, 1].map(|s| Peak { value: word(s, index), at: word(s, index + 1) as u32 });
            let base = base(index);
            Stage::Opening { token, slot, claim: Claim::Peak { index: index as u32, base, claims } }
        };
        let whole = 0..terms(&self.geometry, token, op).0;
        let sum = |index: usize, claims| {
            self.sum((token, slot, index as u32, base(index)), whole.clone(), claims)
        };
        // Words of one group lie in one block: groups are aligned to their size.
        match (op, index % 8, index % 4) {
            (Op::NormStats(_), 0 | 1, _) => peak(0),
            (Op::NormStats(_), 2 | 3, _) => sum(2, long(2)),
            (Op::NormStats(_), 4 | 5, _) => peak(4),
            (Op::OfferStats(_), _, 0 | 1) => peak(0),
            (Op::AttentionStats(_), _, part @ (0 | 1)) => peak(index - part),
            (Op::AttentionStats(_), _, 2) => {
                sum(index, both(index).map(|word| i64::from(word as u32)))
            }
            (Op::Sums(_), ..) => sum(index & !1, long(index & !1)),
            (Op::Product(_), ..) => sum(index, both(index).map(i64::from)),
            _ => {
                let claim = Claim::Word { index: index as u32, claims: both(index) };
                Stage::Opening { token, slot, claim }
            }
        }
    }

    /// A sum that differs, or the last part of one.
    fn sum(
        &self,
        (token, slot, index, base): (u32, u16, u32, i32),
        range: Range<u32>,
        claims: [i64; 2],
    ) -> Stage {
        let (from, to) = (range.start, range.end);
        if self.parts(token, slot, range).len() > 1 {
            return Stage::Sum { token, slot, index, base, from, to, claims };
        }
        let claim = Claim::Sum { index, base, from, to, claims };
        Stage::Opening { token, slot, claim }
    }
}

const fn undecided() -> Stage {
    Decision::stage(Ruling::Undecided, Grounds::Form)
}

fn first_difference<T: PartialEq>(left: &[T], right: &[T]) -> Option<usize> {
    left.iter().zip(right).position(|(left, right)| left != right)
}
