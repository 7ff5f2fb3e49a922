//! Thin preparation: s = rᵀW without the weights, from two nodes of which neither sees r.
//!
//! ```text
//!              u uniform mod p
//!            ┌───────────────▶ preparer 0 ──▶ uᵀW
//!  r = u + v ┤                                  ├─ add mod p ─▶ s = rᵀW
//!            └───────────────▶ preparer 1 ──▶ vᵀW
//!              v = r − u
//! ```
//!
//! [`Preparing`] is the client, [`server::Session`] the node; both are sans-I/O. u is uniform and
//! so is v, whatever r is, so neither preparer learns anything of r. r is drawn for one
//! [`Preparing`] and dies with it: when a preparer fails, the other's share is spent as well, and
//! the next attempt draws a new r.
//!
//! What comes out is two strangers' word. A wrong s helps no forger who does not know r, but it
//! would make a rejection depend on the input: with s + δ an honest product of x is refused unless
//! ⟨δ, x⟩ = 0. A [`client::Session`](crate::client::Session) therefore begins with a pass of
//! [`TEST_ROWS`] random rows, whose messages look like those of any other pass, before it sends
//! anything of its own; and a preparation that condemns both servers is never used again.

mod client;
mod message;
pub mod server;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use client::Mutant;
pub use client::{Preparing, ThinError};
pub use message::{
    ColumnShare, FieldValues, PreparerRequest, PreparerResponse, Refusal, RowShare, decode_request,
    decode_response,
};

use rand_core::CryptoRng;

use crate::{batch::BUCKETS, spec::Stage};

/// Values of one share that travel in one frame: 128 KiB.
pub const VALUES_PER_FRAME: usize = 1 << 14;

/// The longest frame of a preparation, in bytes, either way.
pub const MAX_FRAME: usize = 8 * VALUES_PER_FRAME + 64;

/// Random rows that test an s: the smallest bucket, so that the test looks like a short text.
pub const TEST_ROWS: u32 = BUCKETS[0];

/// Values of the random rows are at most this large: those of int8, the sign's extra value left out.
const TEST_LIMIT: i32 = 127;

/// Fewest bits of a stage's input for which [`TEST_ROWS`] rows find a wrong s: a δ ≠ 0 is
/// orthogonal to a uniform row with probability at most 1/(2^b − 1), to sixteen below 2^−62.
pub const MIN_INPUT_BITS: u8 = 4;

/// `[TEST_ROWS, k]` uniform values that the stage admits as inputs.
pub(crate) fn test_rows(stage: &Stage, rng: &mut impl CryptoRng) -> Vec<i32> {
    let limit = stage.input_limit().min(TEST_LIMIT);
    let values = 2 * limit as u32 + 1;
    // The largest multiple of `values` that 32 bits hold: below it, every remainder is as likely.
    let fair = u32::MAX - u32::MAX % values;
    let mut draw = || loop {
        let word = rng.next_u32();
        if word < fair {
            return (word % values) as i32 - limit;
        }
    };
    (0..TEST_ROWS as usize * stage.k as usize).map(|_| draw()).collect()
}
