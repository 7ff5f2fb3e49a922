#![no_main]
//! Any text becomes tokens of the vocabulary, within the limit.

use nesa_model::toy::{self, ToyConfig};
use nesa_model::{Model, Tokenizer};
use std::sync::OnceLock;

static TOKENIZER: OnceLock<Option<Tokenizer>> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|text: &str| {
    let tokenizer = TOKENIZER.get_or_init(|| {
        let artifact = toy::artifact(&ToyConfig::default()).ok()?;
        Some(Model::open(&artifact).ok()?.tokenizer().clone())
    });
    if let Some(tokenizer) = tokenizer {
        let tokens = tokenizer.encode(text);
        assert!(tokens.len() >= 2 && tokens.len() <= tokenizer.max_tokens());
        assert!(tokens.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    }
});
