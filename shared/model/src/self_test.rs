//! Golden vectors: a few texts and the very integers the committed MiniLM makes of them.
//!
//! They were written by the plain interpreter. Native tests, browser tests and a running node
//! compare with the same bytes, so a kernel that is wrong on some machine is noticed there.

use thiserror::Error;

use crate::{EncoderRun, Model, PlainEngine};

/// Digest of the model the vectors belong to: `models/all-minilm-l6-v2.nesa`.
pub const SELF_TEST_MODEL: &str =
    "94106e3dcaa490c9740a872b8a5537b71072c41f954ed129ca686aa25a3748aa";

/// The texts, short so that a self-test costs little.
pub const SELF_TEST_TEXTS: [&str; 6] = [
    "",
    "A man is eating a piece of bread.",
    "Une tasse de café, s'il vous plaît! 東京",
    "private semantic search over confidential documents",
    "3.14159 \u{1f600} [SEP] https://example.org/?q=1&r=%20",
    "The law of the jungle is as old and as true as the sky; and the wolf that shall keep it may \
     prosper, but the wolf that shall break it must die.",
];

static VALUES: &[u8] = include_bytes!("../data/self_test.bin");

/// One text and its embedding, 24 fractional bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestVector {
    /// The text.
    pub text: &'static str,
    /// `[d_model]`, as [`crate::Embedding::values`].
    pub values: Vec<i32>,
}

/// A model or machine that does not reproduce the golden vectors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelfTestError {
    /// The vectors are of another model.
    #[error("the vectors are of model {expected}, not {got}")]
    OtherModel {
        /// Digest of the model given.
        got: String,
        /// Digest the vectors belong to.
        expected: &'static str,
    },
    /// A coordinate differs.
    #[error("{text:?}: coordinate {at} is {got}, expected {expected}")]
    Differs {
        /// The text.
        text: &'static str,
        /// The coordinate.
        at: usize,
        /// The value computed here.
        got: i32,
        /// The golden value.
        expected: i32,
    },
    /// A run did not produce an embedding.
    #[error("{text:?} gave no embedding")]
    NoEmbedding {
        /// The text.
        text: &'static str,
    },
}

/// The golden vectors.
pub fn self_test_vectors() -> Vec<SelfTestVector> {
    let width = VALUES.len() / SELF_TEST_TEXTS.len();
    SELF_TEST_TEXTS
        .iter()
        .zip(VALUES.chunks_exact(width.max(1)))
        .map(|(&text, bytes)| SelfTestVector {
            text,
            values: bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b)).collect(),
        })
        .collect()
}

/// Embeds every self-test text on this machine, each alone, and compares to the last bit.
///
/// # Errors
/// [`SelfTestError`] naming the first difference.
pub fn self_test(model: &Model) -> Result<(), SelfTestError> {
    let got = model.digest().to_string();
    if got != SELF_TEST_MODEL {
        return Err(SelfTestError::OtherModel { got, expected: SELF_TEST_MODEL });
    }
    for SelfTestVector { text, values } in self_test_vectors() {
        let absent = SelfTestError::NoEmbedding { text };
        let words = model.tokenizer().ok_or(absent.clone())?;
        let batch = [words.encode(text)];
        let run = EncoderRun::start(model, &batch).map_err(|_| absent.clone())?;
        let mut embeddings = run.run(&PlainEngine(model)).map_err(|_| absent.clone())?;
        let embedding = embeddings.pop().ok_or(absent)?;
        for (at, (&got, &expected)) in embedding.values.iter().zip(&values).enumerate() {
            if got != expected {
                return Err(SelfTestError::Differs { text, at, got, expected });
            }
        }
    }
    Ok(())
}
