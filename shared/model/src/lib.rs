//! The exact integer model: its file format, its tokenizer, and the interpreter that defines it.
//!
//! A model in exact form maps the same text to the same integers on every machine. This crate
//! holds what a client must be able to check for itself, as pure functions: the artifact and its
//! chunked digest ([`Artifact`]), the accumulator bounds ([`bounds`]), the tokenizer
//! ([`Tokenizer`]), the plain reference interpreter ([`interpreter`]), and the encoder as a state machine that hands each linear stage out to whoever
//! computes it ([`EncoderRun`]).
//!
//! ```text
//! text ─Tokenizer─▶ TokenIds ─EncoderRun─▶ Step::Linear{stage, x} ─▶ y = x·Wᵀ ─resume─▶ … ─▶ Embedding
//! ```

#![deny(missing_docs)]
#![deny(clippy::float_arithmetic)]

pub mod artifact;
pub mod bounds;
pub mod classifier;
pub mod decoder;
mod embedding;
mod encoder;
mod exact;
mod frame;
pub mod interpreter;
pub mod layout;
mod linear;
pub mod manifest;
mod model;
mod parameters;
mod self_test;
mod stage;
#[cfg(not(target_family = "wasm"))]
mod threads;
mod tokenizer;
mod tokens;
pub mod toy;
mod unicode;
mod unicode_tables;

pub use artifact::{Artifact, Assembler, Header, LocalPart};
pub use embedding::{EMBEDDING_FRACTION_BITS, Embedding, probabilities};
pub use encoder::{EncoderRun, ResumeError, StartError, Step, TANH_BIN_BITS};
pub use exact::ExactModel;
pub use frame::Frame;
pub use layout::ModelLimits;
pub use linear::{Linear, PlainClassifier, PlainDecoder, PlainEngine};
pub use model::{Model, ModelError};
pub use self_test::{
    SELF_TEST_MODEL, SELF_TEST_TEXTS, SelfTestError, SelfTestVector, self_test, self_test_vectors,
};
pub use stage::{LinearSpec, StageId};
#[cfg(not(target_family = "wasm"))]
pub use threads::ThreadedDecoder;
pub use tokenizer::{Tokenizer, VocabError};
pub use tokens::TokenIds;
