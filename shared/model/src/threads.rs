//! Linear stages on several threads: each computes some tokens or some rows of the weight, so that the
//! integers are the same whatever their number.

use crate::decoder::DecoderModel;
use crate::{Linear, StageId};

/// Products of fewer multiplications cost less than handing them out.
const SMALLEST: usize = 1 << 19;
/// Rows are handed out in multiples of this, which single-row products take together.
const ROWS: usize = 4;

/// Computes every stage of a decoder, or of a shard, with all threads of the current rayon pool: the global
/// one, or the one whose `install` it is called in, which also saves waking it for every stage.
///
/// One thread serves one query by [`crate::PlainDecoder`]; this is for a machine with cores to spare.
pub struct ThreadedDecoder<'a>(pub &'a DecoderModel);

impl Linear for ThreadedDecoder<'_> {
    fn apply(&self, stage: StageId, x: &[i32], tokens: usize) -> Vec<i32> {
        let mut y = vec![0; tokens * self.0.stages()[usize::from(stage.0)].n];
        self.apply_to(stage, x, tokens, &mut y);
        y
    }

    fn apply_to(&self, stage: StageId, x: &[i32], tokens: usize, y: &mut [i32]) {
        let spec = &self.0.stages()[usize::from(stage.0)];
        let (w, n, k) = (self.0.weights(stage), spec.n, spec.k);
        let threads = rayon::current_num_threads();
        if threads == 1 || n * k * tokens < SMALLEST {
            w.matmul_i8(x, n, k, tokens, y);
        } else if tokens == 1 {
            let rows = n.div_ceil(threads).next_multiple_of(ROWS);
            rayon::scope(|scope| {
                for (i, y) in y.chunks_mut(rows).enumerate() {
                    let w = w.rows(i * rows..i * rows + y.len(), k);
                    scope.spawn(move |_| w.matmul_i8(x, y.len(), k, 1, y));
                }
            });
        } else {
            let share = tokens.div_ceil(threads);
            rayon::scope(|scope| {
                for (x, y) in x.chunks(share * k).zip(y.chunks_mut(share * n)) {
                    scope.spawn(move |_| w.matmul_i8(x, n, k, y.len() / n, y));
                }
            });
        }
    }
}
