//! The vocabulary of a WordPiece tokenizer, uncased or cased; or a byte-level BPE tokenizer as it is.

use serde::Deserialize;
use serde_json::Value;
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

/// What makes tokens of texts.
pub enum Vocabulary {
    /// WordPiece.
    WordPiece {
        /// Tokens in index order.
        tokens: Vec<String>,
        /// Whether texts keep case and accents.
        cased: bool,
    },
    /// Byte-level BPE.
    Brought {
        /// `tokenizer.json` without special tokens and without what is put around a text.
        json: Vec<u8>,
        /// What begins a text, what ends it, and what is unknown.
        specials: [u32; 3],
    },
}

/// A `tokenizer.json` of byte-level BPE for a model of `size` tokens.
pub(super) fn brought(path: &Path, size: usize) -> Result<Vocabulary, SourceError> {
    let mut file: Value = read_json(path)?;
    let kind = |value: &Value| value["type"].as_str().unwrap_or("absent").to_owned();
    expect("tokenizer model", &kind(&file["model"]), "BPE")?;
    expect("pre-tokenizer", &kind(&file["pre_tokenizer"]), "ByteLevel")?;
    if !file["normalizer"].is_null() {
        return Err(SourceError::Unsupported {
            what: "normalizer",
            got: kind(&file["normalizer"]),
            expected: "none",
        });
    }
    // Without its special tokens no text can make one: they are put around a text by their index.
    for part in ["truncation", "padding", "post_processor", "decoder"] {
        file[part] = Value::Null;
    }
    file["added_tokens"] = Value::Array(Vec::new());
    let index = |token: &'static str| {
        let index = file["model"]["vocab"][token].as_u64().and_then(|i| u32::try_from(i).ok());
        index.filter(|&i| (i as usize) < size).ok_or(SourceError::Unsupported {
            what: "vocabulary",
            got: format!("without {token}"),
            expected: "<s>, </s> and <unk> in it",
        })
    };
    let specials = [index("<s>")?, index("</s>")?, index("<unk>")?];
    Ok(Vocabulary::Brought { json: file.to_string().into_bytes(), specials })
}

pub(super) fn vocabulary(path: &Path, size: usize) -> Result<Vocabulary, SourceError> {
    let file: TokenizerFile = read_json(path)?;
    expect("normalizer", &file.normalizer.r#type, "BertNormalizer")?;
    expect("pre-tokenizer", &file.pre_tokenizer.r#type, "BertPreTokenizer")?;
    expect("subword prefix", &file.model.continuing_subword_prefix, "##")?;
    expect("unknown token", &file.model.unk_token, "[UNK]")?;
    let n = &file.normalizer;
    let strips_accents = n.strip_accents.unwrap_or(n.lowercase);
    let words = file.model.max_input_chars_per_word;
    if !(n.clean_text && n.handle_chinese_chars && n.lowercase == strips_accents)
        || words != usize::from(MAX_WORD_CHARS)
    {
        return Err(SourceError::Unsupported {
            what: "tokenizer settings",
            got: format!(
                "clean_text {}, handle_chinese_chars {}, lowercase {}, strip_accents {:?}, words of \
                 {words} characters",
                n.clean_text, n.handle_chinese_chars, n.lowercase, n.strip_accents,
            ),
            expected: "a cleaned text with ideographs spaced, uncased without accents or cased with \
                       them, and words of at most 100 characters",
        });
    }
    let mut tokens = vec![String::new(); size];
    for (token, index) in file.model.vocab {
        match tokens.get_mut(index) {
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
    Ok(Vocabulary::WordPiece { tokens, cased: !n.lowercase })
}
