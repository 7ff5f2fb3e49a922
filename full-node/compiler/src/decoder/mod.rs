//! Llama-type checkpoints: reading, the f32 original, compilation, accuracy.

mod compile;
mod config;
mod eval;
mod forward;
mod rotary;
mod statistics;
mod text;

pub use compile::{DecoderOptions, compile_decoder};
pub use config::{LlamaConfig, RopeScaling};
pub use eval::{DecoderAccuracy, evaluate_decoder, exact_logits};
pub use forward::{Llama, f32_logits};
pub use text::TextFiles;
