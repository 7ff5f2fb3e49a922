//! What both ends agree on before a byte flows: the shapes of the linear stages, the widths of
//! their shares, and the limits that follow.

use nesa_model::LinearSpec;
use thiserror::Error;

use crate::pack;

/// Rows (padded tokens) in one message. A stage of more rows is sent as several messages, so that
/// the link, the server's product and the client's check overlap, and no frame is large.
pub const ROWS_PER_PART: u32 = 64;

/// Padded tokens in one pass. Bounds what a server holds and what a client can lose: a pass is the
/// increment of payment.
pub const MAX_PASS_TOKENS: u32 = 512;

/// Linear stages a model may have (24 for MiniLM, 4 per layer).
pub const MAX_STAGES: usize = 1024;

/// Widest side of a weight matrix: `i32` accumulation is exact up to K = 131,071.
pub const MAX_WIDTH: u32 = 1 << 17;

/// One linear stage `y = W·x`: `W` is `[n, k]` of `i8`, `x` has `input_bits` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The model's name for it.
    pub id: u16,
    /// Inputs per row.
    pub k: u32,
    /// Outputs per row.
    pub n: u32,
    /// Bits of an input, sign included: `|x| ≤ 2^(b−1) − 1`.
    pub input_bits: u8,
    /// `|y| < 2^row_bound_bits` for every admissible input, at most 31.
    pub row_bound_bits: u8,
}

/// Why a list of stages cannot be served masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpecError {
    /// No stage, or more than [`MAX_STAGES`].
    #[error("a masked model has 1 to {MAX_STAGES} linear stages, not {0}")]
    Count(usize),
    /// A side of the matrix is zero or above [`MAX_WIDTH`].
    #[error("stage {stage}: a {n} by {k} matrix is outside the limits")]
    Shape {
        /// The stage's id.
        stage: u16,
        /// Outputs per row.
        n: usize,
        /// Inputs per row.
        k: usize,
    },
    /// Inputs wider than 16 bits or accumulators wider than 31.
    #[error("stage {stage}: {input} input bits and {row} accumulator bits are outside the limits")]
    Bits {
        /// The stage's id.
        stage: u16,
        /// Bits of an input.
        input: u8,
        /// Bits of the accumulator bound.
        row: u8,
    },
    /// Two stages share an id.
    #[error("stage {0} appears twice")]
    Repeated(u16),
}

impl Stage {
    /// Bits of a share: one more than the accumulator bound, for the sign.
    pub const fn share_bits(&self) -> u32 {
        self.row_bound_bits as u32 + 1
    }

    /// The largest magnitude of an admissible input.
    pub const fn input_limit(&self) -> i32 {
        (1 << (self.input_bits - 1)) - 1
    }

    /// Bytes of a packed share of `rows` inputs.
    pub const fn share_bytes(&self, rows: u32) -> usize {
        pack::packed_len(self.k as usize * rows as usize, self.share_bits())
    }

    /// Bytes of a packed product of `rows` outputs.
    pub const fn product_bytes(&self, rows: u32) -> usize {
        pack::packed_len(self.n as usize * rows as usize, self.share_bits())
    }

    /// Bytes of the full 64-bit product of `rows` outputs, asked for only to place blame.
    pub const fn full_bytes(&self, rows: u32) -> usize {
        self.n as usize * rows as usize * 8
    }
}

/// The linear stages of one model, in the order a pass visits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    stages: Vec<Stage>,
}

impl Lane {
    /// Checks every stage's shape and widths.
    ///
    /// # Errors
    /// [`SpecError`] names the first stage that is outside the limits.
    pub fn new(stages: Vec<Stage>) -> Result<Self, SpecError> {
        if stages.is_empty() || stages.len() > MAX_STAGES {
            return Err(SpecError::Count(stages.len()));
        }
        for (i, s) in stages.iter().enumerate() {
            if !(1..=MAX_WIDTH).contains(&s.k) || !(1..=MAX_WIDTH).contains(&s.n) {
                return Err(SpecError::Shape { stage: s.id, n: s.n as usize, k: s.k as usize });
            }
            if !(2..=16).contains(&s.input_bits) || !(1..=31).contains(&s.row_bound_bits) {
                return Err(SpecError::Bits {
                    stage: s.id,
                    input: s.input_bits,
                    row: s.row_bound_bits,
                });
            }
            if stages[..i].iter().any(|other| other.id == s.id) {
                return Err(SpecError::Repeated(s.id));
            }
        }
        Ok(Self { stages })
    }

    /// The stages of a compiled model.
    ///
    /// # Errors
    /// [`SpecError`] names the first stage that is outside the limits.
    pub fn of_model(specs: &[LinearSpec]) -> Result<Self, SpecError> {
        let stages = specs.iter().map(|s| {
            let width = |v: usize| u32::try_from(v).ok();
            let (Some(k), Some(n)) = (width(s.k), width(s.n)) else {
                return Err(SpecError::Shape { stage: s.id.0, n: s.n, k: s.k });
            };
            Ok(Stage {
                id: s.id.0,
                k,
                n,
                input_bits: s.input_bits,
                row_bound_bits: s.row_bound_bits,
            })
        });
        Self::new(stages.collect::<Result<_, _>>()?)
    }

    /// The stages in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage named `id`, with its place in the order.
    pub fn find(&self, id: u16) -> Option<(usize, &Stage)> {
        self.stages.iter().enumerate().find(|(_, s)| s.id == id)
    }

    /// The largest message either end may send, in bytes: what frame readers and decoders allow.
    pub fn max_message(&self) -> usize {
        let largest = |s: &Stage| s.full_bytes(ROWS_PER_PART).max(s.share_bytes(ROWS_PER_PART));
        self.stages.iter().map(largest).max().unwrap_or(0) + crate::message::OVERHEAD
    }

    /// Bytes that one padded token costs: to A, from A, and from B. (To B go only seeds.)
    pub fn bytes_per_token(&self) -> BytesPerToken {
        let bits = |values: u64, s: &Stage| values * u64::from(s.share_bits());
        let up: u64 = self.stages.iter().map(|s| bits(u64::from(s.k), s)).sum();
        let down: u64 = self.stages.iter().map(|s| bits(u64::from(s.n), s)).sum();
        BytesPerToken { to_a: up.div_ceil(8), from_a: down.div_ceil(8), from_b: down.div_ceil(8) }
    }
}

/// The cost of one padded token on the links, in bytes (frames and signatures excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesPerToken {
    /// Shares to A.
    pub to_a: u64,
    /// Products from A.
    pub from_a: u64,
    /// Products from B.
    pub from_b: u64,
}

impl BytesPerToken {
    /// Everything together.
    pub const fn total(&self) -> u64 {
        self.to_a + self.from_a + self.from_b
    }
}

/// Messages that a stage of `tokens` rows is cut into.
pub const fn parts(tokens: u32) -> u16 {
    tokens.div_ceil(ROWS_PER_PART) as u16
}

/// Rows of message `part` of a stage of `tokens` rows; 0 beyond the last.
pub const fn rows(tokens: u32, part: u16) -> u32 {
    let start = part as u32 * ROWS_PER_PART;
    if start >= tokens {
        0
    } else if tokens - start < ROWS_PER_PART {
        tokens - start
    } else {
        ROWS_PER_PART
    }
}
