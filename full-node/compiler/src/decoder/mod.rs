//! Llama-type checkpoints: reading, the f32 original, compilation, accuracy.

mod compile;
mod config;
mod eval;
mod forward;
mod rotary;
mod statistics;
mod text;

pub use compile::{DecoderOptions, compile_decoder, compile_decoder_file};
pub use config::{LlamaConfig, RopeScaling};
pub use eval::{DecoderAccuracy, evaluate_decoder, exact_logits};
pub use forward::{Llama, f32_logits};
pub use text::TextFiles;
