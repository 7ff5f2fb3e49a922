//! The vocabulary of an uncased WordPiece tokenizer.

use serde::Deserialize;
use std::path::Path;

use super::config::expect;
use crate::checkpoint::read_json;
use crate::source::SourceError;

#[derive(Deserialize)]
struct TokenizerFile {
    normalizer: Normalizer,
    pre_tokenizer: Typed,
    model: WordPieceFile,
}

#[derive(Deserialize)]
struct Normalizer {
    r#type: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
struct WordPieceFile {
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    unk_token: String,
    vocab: std::collections::BTreeMap<String, usize>,
}

/// Words of more characters become `[UNK]`; the published tokenizer's own limit.
pub(crate) const MAX_WORD_CHARS: u16 = 100;

pub(super) fn vocabulary(path: &Path, size: usize) -> Result<Vec<String>, SourceError> {
    let file: TokenizerFile = read_json(path)?;
    expect("normalizer", &file.normalizer.r#type, "BertNormalizer")?;
    expect("pre-tokenizer", &file.pre_tokenizer.r#type, "BertPreTokenizer")?;
    expect("subword prefix", &file.model.continuing_subword_prefix, "##")?;
    expect("unknown token", &file.model.unk_token, "[UNK]")?;
    let n = &file.normalizer;
    if !(n.clean_text && n.handle_chinese_chars && n.lowercase && n.strip_accents != Some(false))
        || file.model.max_input_chars_per_word != usize::from(MAX_WORD_CHARS)
    {
        return Err(SourceError::Unsupported {
            what: "tokenizer settings",
            got: "others".into(),
            expected: "uncased BERT with words of at most 100 characters",
        });
    }
    let mut vocab = vec![String::new(); size];
    for (token, index) in file.model.vocab {
        match vocab.get_mut(index) {
            Some(slot) if slot.is_empty() && !token.contains('\n') => *slot = token,
            _ => {
                return Err(SourceError::Unsupported {
                    what: "vocabulary entry",
                    got: format!("{token:?} at {index}"),
                    expected: "one token per index, without line breaks",
                });
            }
        }
    }
    Ok(vocab)
}
