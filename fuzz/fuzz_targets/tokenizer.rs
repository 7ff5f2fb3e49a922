#![no_main]
//! Any text, and any pair of texts, becomes tokens of the vocabulary, within the limit.

use nesa_model::manifest::{Head, Reading};
use nesa_model::toy::{self, ToyConfig};
use nesa_model::{Model, TokenIds, Tokenizer};
use std::sync::OnceLock;

static TOKENIZERS: OnceLock<Vec<Tokenizer>> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|text: &str| {
    let tokenizers = TOKENIZERS.get_or_init(|| {
        let tokenizer = |cased| {
            let reading = Reading { cased, separators: 1, segments: true, ..Reading::default() };
            let artifact =
                toy::artifact_with(&ToyConfig::default(), Head::default(), reading).ok()?;
            Model::open(&artifact).ok()?.tokenizer().cloned()
        };
        [false, true].into_iter().filter_map(tokenizer).collect()
    });
    let (first, second) = text.split_at(text.floor_char_boundary(text.len() / 2));
    for tokenizer in tokenizers {
        let fits = |tokens: &TokenIds| {
            assert!(tokens.len() >= 2 && tokens.len() <= tokenizer.max_tokens());
            assert!(tokens.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        };
        fits(&tokenizer.encode(text));
        if let Some(pair) = tokenizer.encode_pair(first, second) {
            fits(&pair);
        }
    }
});
