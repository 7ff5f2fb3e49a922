//! Images in passes: many small ones in one, or one whose layers have more windows than a pass has rows in
//! several.
//!
//! A stage of more than [`MAX_PASS_TOKENS`] rows is cut into pieces of equal size. The next stage needs all of
//! them, so a pass ends with a piece that is not its stage's last, and the next pass begins at that stage.
//! Between them a pass goes through every stage whose rows it can hold. So a pass stays the increment of payment
//! and what a server holds stays what it is; which stages a pass has, and its rows, follow from the model alone.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use nesa_model::classifier::{ClassifierModel, ClassifierRun, ImageError};
use thiserror::Error;

use crate::{
    client::Pass,
    run::{Run, RunStep},
    spec::MAX_PASS_TOKENS,
};

/// Most windows of one layer: bounds what a client holds of an image, and how many passes it takes.
pub const MAX_WINDOWS: usize = 1 << 14;

/// Images that cannot be sent masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A layer with too many windows.
    #[error("a layer has {got} windows; {MAX_WINDOWS} can be sent masked")]
    Windows {
        /// Its windows.
        got: usize,
    },
    /// A model without stages, or one of no rows.
    #[error("stage {stage} has no rows")]
    Empty {
        /// Which.
        stage: usize,
    },
}

/// A pass of an image: the stages it goes through, the first and last of them perhaps in part, and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    stages: Range<usize>,
    tokens: u32,
}

/// How images become passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// Images that go together.
    batches: Vec<usize>,
    /// The passes of each batch.
    spans: Arc<[Span]>,
    /// Rows that one image is in each stage.
    rows: Arc<[usize]>,
}

/// Rows of a stage that one pass takes: all, or a part of equal parts.
fn piece(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(MAX_PASS_TOKENS as usize).max(1))
}

fn spans(rows: &[usize]) -> Vec<Span> {
    let (mut spans, mut start, mut most) = (Vec::new(), 0, 0);
    for (stage, &rows) in rows.iter().enumerate() {
        let size = piece(rows);
        most = size.max(most);
        for _ in 1..rows.div_ceil(size.max(1)) {
            spans.push(Span { stages: start..stage + 1, tokens: most as u32 });
            (start, most) = (stage, size);
        }
    }
    spans.push(Span { stages: start..rows.len(), tokens: most as u32 });
    spans
}

impl ImagePlan {
    /// Plans `images` images that are each `rows[s]` rows of stage `s`. The plan depends on these numbers
    /// alone.
    ///
    /// # Errors
    /// [`PlanError`] when a stage has no rows or more than [`MAX_WINDOWS`].
    pub fn new(images: usize, rows: &[usize]) -> Result<Self, PlanError> {
        if let Some(stage) = rows.iter().position(|&r| r == 0).or(rows.is_empty().then_some(0)) {
            return Err(PlanError::Empty { stage });
        }
        let widest = rows.iter().copied().max().unwrap_or_default();
        if widest > MAX_WINDOWS {
            return Err(PlanError::Windows { got: widest });
        }
        // Images of more than a pass go one by one.
        let most = (MAX_PASS_TOKENS as usize / widest).max(1);
        let whole = core::iter::repeat_n(most, images / most);
        let batches = whole.chain(Some(images % most).filter(|&rest| rest > 0)).collect();
        Ok(Self { batches, spans: spans(rows).into(), rows: rows.into() })
    }

    /// Padded tokens of every pass.
    pub fn passes(&self) -> Vec<u32> {
        let of = |&images: &usize| self.spans.iter().map(move |s| s.tokens * images as u32);
        self.batches.iter().flat_map(of).collect()
    }

    /// The passes to begin with for these images, as many as were planned. Each later batch of wide images
    /// follows the one before, so that the windows of one are held at a time.
    ///
    /// # Errors
    /// [`ImageError`] naming the first image that does not fit the model.
    pub fn start(
        &self,
        model: &ClassifierModel,
        images: &[Vec<u8>],
    ) -> Result<Vec<Pass<ImageRun>>, ImageError> {
        let (mut batches, mut first) = (Vec::new(), 0);
        for &count in &self.batches {
            let end = (first + count).min(images.len());
            batches.push((first, images[first..end].to_vec()));
            first = end;
        }
        let run = |(first, batch): &(usize, Vec<Vec<u8>>), later| {
            let run = begin(model, batch).map_err(|error| error.after(*first))?;
            let (images, spans, rows) = (batch.len(), self.spans.clone(), self.rows.clone());
            let model = model.clone();
            let state = State { run, at: 0, y: Vec::new(), ends: false };
            let run = ImageRun { model, images, spans, rows, state, later };
            Ok(Pass { tokens: run.tokens(), run })
        };
        if self.spans.len() == 1 {
            return batches.iter().map(|batch| run(batch, VecDeque::new())).collect();
        }
        let mut batches = batches.into_iter();
        let Some(first) = batches.next() else { return Ok(Vec::new()) };
        let later = batches.flat_map(|(_, batch)| batch).collect();
        Ok(vec![run(&first, later)?])
    }
}

fn begin(model: &ClassifierModel, images: &[Vec<u8>]) -> Result<ClassifierRun, ImageError> {
    let images: Vec<&[u8]> = images.iter().map(|image| &image[..]).collect();
    ClassifierRun::start(model, &images)
}

/// Where a batch stands.
struct State {
    run: ClassifierRun,
    /// Its pass.
    at: usize,
    /// What came of the stage at hand.
    y: Vec<i32>,
    /// Whether the pass ended within a stage.
    ends: bool,
}

/// The logits of each image, once its last pass is done; passes before give none.
pub struct ImageRun {
    model: ClassifierModel,
    images: usize,
    spans: Arc<[Span]>,
    rows: Arc<[usize]>,
    state: State,
    /// Images that come one by one after the batch.
    later: VecDeque<Vec<u8>>,
}

impl ImageRun {
    fn tokens(&self) -> u32 {
        self.spans.get(self.state.at).map_or(0, |s| s.tokens * self.images as u32)
    }
}

impl Run for ImageRun {
    type Output = Vec<Vec<i32>>;

    fn step(&mut self) -> RunStep<Self::Output> {
        let State { run, y, ends, .. } = &self.state;
        if *ends {
            return RunStep::Done(Vec::new());
        }
        let Some(pending) = run.pending() else {
            return RunStep::Done(run.output().unwrap_or_default());
        };
        let stage = usize::from(pending.stage.0);
        let (k, n) = (self.model.stages()[stage].k, self.model.stages()[stage].n);
        let first = y.len() / n;
        let size = piece(self.rows.get(stage).copied().unwrap_or_default()) * self.images;
        let x = pending.x.chunks(size.max(1) * k).nth(first / size.max(1));
        RunStep::Linear { stage: pending.stage.0, x: x.unwrap_or_default().to_vec() }
    }

    fn resume(&mut self, y: Vec<i32>) -> bool {
        let State { run, y: all, ends, .. } = &mut self.state;
        let Some(pending) = run.pending() else { return false };
        let wanted = pending.rows * self.model.stages()[usize::from(pending.stage.0)].n;
        all.extend(y);
        if all.len() < wanted {
            *ends = true;
            return true;
        }
        let done = run.resume(all).is_ok();
        all.clear();
        done
    }

    fn follow(mut self) -> Option<Pass<Self>> {
        if self.state.ends {
            self.state.ends = false;
            self.state.at += 1;
        } else {
            let image = self.later.pop_front()?;
            // Every image was looked at before anything was paid.
            let run = begin(&self.model, &[image]).ok()?;
            self.state = State { run, at: 0, y: Vec::new(), ends: false };
        }
        Some(Pass { tokens: self.tokens(), run: self })
    }

    fn stages(&self, all: usize) -> Range<usize> {
        self.spans.get(self.state.at).map_or(0..all, |span| span.stages.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passes(images: usize, rows: &[usize]) -> Vec<u32> {
        ImagePlan::new(images, rows).unwrap().passes()
    }

    #[test]
    fn images_fill_passes() {
        assert_eq!(passes(3, &[64]), [3 * 64]);
        assert_eq!(passes(17, &[30, 64, 1]), [512, 512, 64]);
        assert_eq!(passes(16, &[64]), [512, 512]);
        assert_eq!(passes(2, &[512]), [512, 512]);
        assert_eq!(passes(0, &[512]), [0; 0]);
    }

    #[test]
    fn wide_stages_take_several_passes() {
        assert_eq!(passes(1, &[513]), [257, 257]);
        assert_eq!(passes(2, &[784, 784, 196, 1]), [392; 6]);
        let spans = spans(&[784, 784, 196, 1]);
        let stages: Vec<_> = spans.into_iter().map(|s| s.stages).collect();
        assert_eq!(stages, [0..1, 0..2, 1..4]);
        assert_eq!(ImagePlan::new(1, &[5, 0]), Err(PlanError::Empty { stage: 1 }));
        assert_eq!(ImagePlan::new(1, &[]), Err(PlanError::Empty { stage: 0 }));
        let got = MAX_WINDOWS + 1;
        assert_eq!(ImagePlan::new(1, &[3, got]), Err(PlanError::Windows { got }));
        assert!(ImagePlan::new(1, &[MAX_WINDOWS]).is_ok());
    }

    proptest! {
        /// Every row of every stage is in one pass, in order, and none has more rows than a pass may.
        #[test]
        fn passes_hold_every_row(rows in prop::collection::vec(1usize..=3000, 1..8)) {
            let spans = spans(&rows);
            let mut left: Vec<usize> = rows.clone();
            for (i, span) in spans.iter().enumerate() {
                prop_assert!((1..=MAX_PASS_TOKENS).contains(&span.tokens));
                for stage in span.stages.clone() {
                    // What comes before is done.
                    prop_assert!(left[..stage].iter().all(|&l| l == 0));
                    let taken = piece(rows[stage]).min(left[stage]);
                    prop_assert!(taken > 0 && taken <= span.tokens as usize);
                    left[stage] -= taken;
                    // Only the last stage of a pass may be unfinished, and only the last pass finishes it all.
                    let unfinished = left[stage] > 0;
                    prop_assert_eq!(unfinished, stage + 1 == span.stages.end && i + 1 < spans.len());
                }
            }
            prop_assert!(left.iter().all(|&l| l == 0));
        }
    }
}
