//! How texts become passes: lengths are padded to buckets, and buckets fill passes in order.
//!
//! The plan is a function of the bucketed lengths alone, so that two prompts of one bucket send
//! the same messages. Padding rows are zero before masking, uniform on the link like any other,
//! and checked like any other.

use nesa_model::decoder::{WriteRequest, Writing};
use thiserror::Error;

use crate::spec::{Lane, MAX_PASS_TOKENS};

/// Token counts that a sequence is padded to.
pub const BUCKETS: [u32; 5] = [16, 32, 64, 128, 256];

/// A sequence that fits no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("sequence {index} has {tokens} tokens; 1 to 256 can be sent masked")]
pub struct LengthError {
    /// Its place in the batch.
    pub index: usize,
    /// Its tokens.
    pub tokens: usize,
}

/// One pass: which sequences it carries, and its padded tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassPlan {
    /// Places in the batch, in order.
    pub members: Vec<usize>,
    /// Sum of the members' buckets: the rows that servers see.
    pub tokens: u32,
}

/// The passes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub passes: Vec<PassPlan>,
}

/// The smallest bucket that holds `tokens`.
pub fn bucket(tokens: usize) -> Option<u32> {
    let tokens = u32::try_from(tokens).ok().filter(|&t| t > 0)?;
    BUCKETS.into_iter().find(|&b| b >= tokens)
}

impl Plan {
    /// Plans sequences of these lengths (tokens, special ones included).
    ///
    /// # Errors
    /// [`LengthError`] names the first sequence that is empty or too long.
    pub fn new(lengths: &[usize]) -> Result<Self, LengthError> {
        let mut passes: Vec<PassPlan> = Vec::new();
        for (index, &tokens) in lengths.iter().enumerate() {
            let size = bucket(tokens).ok_or(LengthError { index, tokens })?;
            match passes.last_mut() {
                Some(pass) if pass.tokens + size <= MAX_PASS_TOKENS => {
                    pass.members.push(index);
                    pass.tokens += size;
                }
                _ => passes.push(PassPlan { members: vec![index], tokens: size }),
            }
        }
        Ok(Self { passes })
    }

    /// Padded tokens in all: what is paid for.
    pub fn tokens(&self) -> u64 {
        self.passes.iter().map(|p| u64::from(p.tokens)).sum()
    }

    /// Bytes that the batch will move over both links, to show before sending.
    pub fn bytes(&self, lane: &Lane) -> u64 {
        self.tokens() * lane.bytes_per_token().total()
    }
}

/// Tokens of a prompt that a pass reads at most.
pub const PROMPT_PIECE: usize = 256;

/// Written tokens are padded to a multiple of so many, so that passes tell only that much of a
/// text's length.
pub const TEXT_BUCKET: usize = 16;

/// The padded tokens of every pass that writing a text may take, the longest case.
pub fn text_passes(request: &WriteRequest) -> Vec<u32> {
    let (prompt, piece) = (request.prompt.len(), request.piece.max(1));
    let pieces = prompt.div_ceil(piece);
    let padded = |(i, tokens): (usize, usize)| {
        if i < pieces { bucket(tokens).unwrap_or(MAX_PASS_TOKENS) } else { tokens as u32 }
    };
    Writing::passes(request).enumerate().map(padded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The chain burns what a client can leave unpaid: a pass, no more and no less.
    #[test]
    fn the_chains_increment_is_the_largest_pass() {
        assert_eq!(nesa_chain::Params::local(None).increment_tokens, MAX_PASS_TOKENS);
        let lengths = [256; 9];
        let plan = Plan::new(&lengths).unwrap();
        assert_eq!(plan.passes.iter().map(|p| p.tokens).max(), Some(MAX_PASS_TOKENS));
    }

    #[test]
    fn lengths_are_bucketed() {
        assert_eq!(bucket(0), None);
        assert_eq!(bucket(1), Some(16));
        assert_eq!(bucket(16), Some(16));
        assert_eq!(bucket(17), Some(32));
        assert_eq!(bucket(256), Some(256));
        assert_eq!(bucket(257), None);
        assert_eq!(Plan::new(&[3, 0]), Err(LengthError { index: 1, tokens: 0 }));
    }

    proptest! {
        #[test]
        fn the_plan_depends_on_buckets_alone(
            lengths in proptest::collection::vec(1usize..=256, 0..40),
        ) {
            let plan = Plan::new(&lengths).unwrap();
            let bucketed: Vec<usize> =
                lengths.iter().map(|&l| bucket(l).unwrap() as usize).collect();
            prop_assert_eq!(&Plan::new(&bucketed).unwrap(), &plan);
            let members: Vec<usize> = plan.passes.iter().flat_map(|p| p.members.clone()).collect();
            prop_assert_eq!(members, (0..lengths.len()).collect::<Vec<_>>());
            for pass in &plan.passes {
                prop_assert!(pass.tokens <= MAX_PASS_TOKENS);
                let sum: u64 = pass.members.iter().map(|&m| bucketed[m] as u64).sum();
                prop_assert_eq!(u64::from(pass.tokens), sum);
            }
        }
    }
}
