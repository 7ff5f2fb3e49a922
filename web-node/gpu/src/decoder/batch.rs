//! Steps of several sequences as submits: their rows one under another, cut where a submit has enough.

use std::ops::Range;

use nesa_model::decoder::{Input, Logits};

use super::step::Step;
use super::{DecoderError, GpuDecoder, GpuSequence};
use crate::view::ALIGNED;

/// Most bytes of products in one submit, unless one row has more. It bounds the device's memory beside
/// weights and caches, and how long a submit takes.
pub(super) const MOST_BYTES: usize = 1 << 26;
/// Most rows in one submit.
const MOST_ROWS: usize = 256;

/// What one sequence brings to a batch.
pub struct Part<'a> {
    /// The sequence, by as many tokens longer as are new once the batch is computed.
    pub sequence: &'a mut GpuSequence,
    /// The new tokens.
    pub input: &'a Input,
    /// Which of them the head is computed for, where it is here.
    pub logits: Logits,
}

/// What the linear stages gave, and what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Products {
    /// By stage, from the first that is here: `[rows, n]` with the parts' rows in order; of the head, the
    /// rows that were wanted.
    pub stages: Vec<Vec<i32>>,
    /// Submits, each with one copy and one read.
    pub submits: usize,
    /// Dispatches in all of them.
    pub dispatches: usize,
    /// Bytes that were read back.
    pub bytes: usize,
}

/// Rows of one part in a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Which part.
    pub(super) part: usize,
    /// Which of its rows.
    pub(super) rows: Range<usize>,
    /// The first one's place in the submit.
    pub(super) first: usize,
    /// Places in the submit that the head is computed for.
    pub(super) wanted: Range<usize>,
}

/// What is read back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The products of all stages.
    Products,
    /// What the last layer gives, or the head.
    Output,
}

impl GpuDecoder {
    /// Runs new tokens of several sequences through the layers, and gives the product of every stage. The
    /// sequences are longer only if all succeeds.
    ///
    /// # Errors
    /// [`DecoderError`] when an input does not fit, or the device fails.
    pub async fn products(&self, batch: &mut [Part<'_>]) -> Result<Products, DecoderError> {
        self.run(batch, Keep::Products).await
    }

    /// What one sequence takes from its step.
    pub(super) async fn output(&self, part: Part<'_>) -> Result<Vec<i32>, DecoderError> {
        let ran = self.run(&mut [part], Keep::Output).await?;
        Ok(ran.stages.into_iter().next().unwrap_or_default())
    }

    async fn run(&self, batch: &mut [Part<'_>], keep: Keep) -> Result<Products, DecoderError> {
        let d = self.model.config().d_model as usize;
        let mut rows = Vec::with_capacity(batch.len());
        for part in batch.iter() {
            let of = self.model.rows_of(part.sequence.tokens, part.input)?;
            let (capacity, got) = (part.sequence.capacity, part.sequence.tokens + of.len() / d);
            if got > capacity {
                return Err(DecoderError::Full { capacity, got });
            }
            rows.push(of);
        }
        let lengths: Vec<(usize, Logits)> = rows
            .iter()
            .zip(batch.iter())
            .map(|(rows, part)| (rows.len() / d, part.logits))
            .collect();
        let kept = if keep == Keep::Products { self.stages.len() } else { 1 };
        let mut ran = Products { stages: vec![Vec::new(); kept], ..Products::default() };
        for spans in cut(&lengths, self.most_rows()) {
            let mut step = Step::begin(self, batch, &spans, &rows, keep);
            step.record(batch)?;
            ran.submits += 1;
            ran.dispatches += step.dispatches();
            ran.bytes += step.submit(&mut ran.stages).await?;
        }
        for (part, (tokens, _)) in batch.iter_mut().zip(lengths) {
            part.sequence.tokens += tokens;
        }
        Ok(ran)
    }

    /// Rows that one submit has at most.
    fn most_rows(&self) -> usize {
        let caps = self.gpu().caps;
        let outputs = || self.stages.iter().map(|stage| stage.weights.n());
        let inputs = self.stages.iter().map(|stage| stage.weights.k()).max().unwrap_or(1);
        let (all, widest) = (outputs().sum::<usize>(), outputs().max().unwrap_or(1));
        let bytes = usize::try_from(caps.binding).unwrap_or(usize::MAX).min(MOST_BYTES);
        let threads = (caps.groups as usize).saturating_mul(crate::ops::LANES);
        let most = (bytes / (4 * all)).min(threads / widest).min(bytes / (4 * inputs));
        most.clamp(1, MOST_ROWS)
    }
}

/// Word at which each of the regions of so many words begins, and the words of all.
pub(super) fn regions(words: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut end = 0;
    let from = words
        .map(|words| {
            let from = end;
            end += words.next_multiple_of(ALIGNED);
            from
        })
        .collect();
    (from, end)
}

/// Parts of so many rows, cut into submits of at most `most` rows.
fn cut(parts: &[(usize, Logits)], most: usize) -> Vec<Vec<Span>> {
    let (mut submits, mut spans, mut filled) = (Vec::new(), Vec::new(), 0);
    for (part, &(rows, logits)) in parts.iter().enumerate() {
        let mut from = 0;
        while from < rows {
            if filled == most {
                submits.push(std::mem::take(&mut spans));
                filled = 0;
            }
            let end = rows.min(from + most - filled);
            let (first, after) = (filled, filled + end - from);
            let wanted = match logits {
                Logits::All => first..after,
                Logits::Last if end == rows => after - 1..after,
                Logits::Last => after..after,
            };
            spans.push(Span { part, rows: from..end, first, wanted });
            (from, filled) = (end, after);
        }
    }
    if !spans.is_empty() {
        submits.push(spans);
    }
    submits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cuts_hold_every_row_once_and_in_order(
            parts in prop::collection::vec((1usize..9, any::<bool>()), 0..6), most in 1usize..8,
        ) {
            let logits = |all| if all { Logits::All } else { Logits::Last };
            let parts: Vec<_> = parts.into_iter().map(|(rows, all)| (rows, logits(all))).collect();
            let (mut seen, mut wanted) = (Vec::new(), Vec::new());
            for spans in cut(&parts, most) {
                let mut filled = 0;
                prop_assert!(!spans.is_empty());
                for span in spans {
                    prop_assert_eq!(span.first, filled);
                    filled += span.rows.len();
                    let at = |place: usize| (span.part, span.rows.start + place - span.first);
                    seen.extend((span.first..filled).map(at));
                    wanted.extend(span.wanted.clone().map(at));
                }
                prop_assert!(filled <= most);
            }
            let all = |part: usize, rows: usize| (0..rows).map(move |row| (part, row));
            let every = parts.iter().enumerate();
            let expected: Vec<_> = every.clone().flat_map(|(p, &(rows, _))| all(p, rows)).collect();
            prop_assert_eq!(seen, expected);
            let asked = every.flat_map(|(p, &(rows, logits))| {
                all(p, rows).skip(if logits == Logits::All { 0 } else { rows - 1 })
            });
            prop_assert_eq!(wanted, asked.collect::<Vec<_>>());
        }

        #[test]
        fn regions_do_not_overlap_and_are_aligned(words in prop::collection::vec(0usize..500, 0..9)) {
            let (from, end) = regions(words.iter().copied());
            let ends = from.iter().skip(1).chain([&end]);
            for ((&from, &next), words) in from.iter().zip(ends).zip(&words) {
                prop_assert!(from.is_multiple_of(ALIGNED) && from + words <= next);
            }
        }
    }
}
