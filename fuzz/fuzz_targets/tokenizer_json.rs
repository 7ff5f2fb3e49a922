#![no_main]
//! Arbitrary tokenizers of models over arbitrary texts: refused, or tokens and text again; nothing breaks down.

use nesa_tokenizer::{Limits, TextStream, TextTokenizer, TokenizerError};

const VOCAB: u32 = 1 << 16;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let (json, rest) = data.split_at(cut);
    let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
    let limits = Limits { max_json_bytes: 1 << 16, max_text_bytes: 1 << 12 };
    let unbroken =
        |error: TokenizerError| assert!(!matches!(error, TokenizerError::Broken(_)), "{error}");
    let tokenizer = match TextTokenizer::from_json(json, VOCAB, limits) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return unbroken(error),
    };
    let tokens = match tokenizer.encode(&text, true) {
        Ok(tokens) => tokens,
        Err(error) => return unbroken(error),
    };
    assert!(tokens.iter().all(|&token| token < VOCAB));
    if let Err(error) = tokenizer.decode(&tokens) {
        unbroken(error);
    }
    // What a model answers may be any tokens.
    let mut stream = TextStream::new(tokenizer, &tokens);
    for token in rest.iter().take(64) {
        if let Err(error) = stream.push(u32::from(*token)) {
            unbroken(error);
        }
    }
});
