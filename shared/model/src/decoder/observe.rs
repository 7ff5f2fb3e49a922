//! Watching a run from outside: every row it makes, as it makes it.
//!
//! A trace of a run is made of its intermediate rows. The run hands them to an observer, if it has
//! one; without one it does nothing more than ask whether it has.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sequence, by its number in the batch.
    pub sequence: usize,
    /// The token's position in its sequence, from 0.
    pub token: usize,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// The residual stream where the run starts: an embedding, or what another shard gave,
    /// `[d_model]`.
    Start {
        /// The token, where the run starts from one.
        token: Option<u32>,
    },
    /// The residual stream before the norm of a stage; the norm's gain.
    Norm {
        /// The stage.
        stage: usize,
        /// `[d_model]`
        gain: &'a [i32],
    },
    /// What a stage without a norm takes, smoothed, before it is quantised, `[k]`.
    Smoothed {
        /// The stage.
        stage: usize,
    },
    /// The quantised input of a stage, `[k]`.
    Input {
        /// The stage.
        stage: usize,
    },
    /// The product of a stage, `[n]`.
    Product {
        /// The stage.
        stage: usize,
    },
    /// Rotated queries and keys, and values, of a layer: `[(heads + 2 · kv_heads) · head_width]`.
    Qkv {
        /// The layer.
        layer: usize,
    },
    /// Contexts of a layer, `[heads · head_width]`.
    Context {
        /// The layer.
        layer: usize,
    },
    /// SwiGLU of a layer, `[d_ff]`.
    Gated {
        /// The layer.
        layer: usize,
    },
    /// The residual stream with the product of a stage added, `[d_model]`.
    Added {
        /// The stage.
        stage: usize,
    },
    /// Logits, `[vocab]`.
    Logits,
}

/// One token's look at the cache, for the queries that share a key-value head.
#[derive(Clone, Debug)]
pub struct Attended<'a> {
    /// The layer.
    pub layer: usize,
    /// The key-value head.
    pub kv_head: usize,
    /// Its queries, `[heads / kv_heads, head_width]`.
    pub queries: &'a [i16],
    /// Its cache's keys, `[tokens, head_width]`, newer tokens than this one perhaps included.
    pub keys: &'a [i16],
    /// Its cache's values, as the keys.
    pub values: &'a [i16],
    /// The tokens it sees.
    pub seen: Range<usize>,
    /// Score multipliers of its queries.
    pub scores: &'a [u32],
    /// The exponential table.
    pub exp: &'a [u16],
}

/// Watches a run. All rows of one token come in the order in which the stages run.
pub trait Observe: Send + Sync {
    /// A row was made.
    fn row(&mut self, place: Place, row: Row<'_>, values: &[i32]);

    /// A token attended.
    fn attended(&mut self, place: Place, attended: &Attended<'_>);
}

/// An observer that its owner keeps a handle on.
impl<T: Observe> Observe for Arc<Mutex<T>> {
    fn row(&mut self, place: Place, row: Row<'_>, values: &[i32]) {
        self.lock().unwrap_or_else(PoisonError::into_inner).row(place, row, values);
    }

    fn attended(&mut self, place: Place, attended: &Attended<'_>) {
        self.lock().unwrap_or_else(PoisonError::into_inner).attended(place, attended);
    }
}
