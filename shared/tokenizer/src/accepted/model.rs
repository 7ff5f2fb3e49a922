//! Vocabulary and merges: measured, not kept.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use tokenizers::ModelWrapper;

use super::{PartError, at_most, unexpected};

/// Bytes of a prefix or suffix of words.
const MAX_AFFIX: usize = 64;

/// Characters of a word that WordPiece takes apart: its time grows with their cube. Models say 100.
const MAX_WORD: usize = 256;

/// Greatest token of a vocabulary; the crate counts on from the greatest.
const MAX_ID: u64 = (1 << 31) - 1;

/// A model of a tokenizer: BPE, WordPiece or single words.
#[derive(Deserialize)]
pub(super) struct Described {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    max_input_chars_per_word: Option<usize>,
    vocab: Vocab,
    #[serde(default)]
    merges: Option<Merges>,
}

/// How a model takes words apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bpe,
    WordPiece,
    WordLevel,
}

impl Described {
    /// Old files do not name the kind; only one kind has merges.
    fn kind(&self) -> Result<Kind, PartError> {
        match self.kind.as_deref() {
            Some("BPE") => Ok(Kind::Bpe),
            Some("WordPiece") => Ok(Kind::WordPiece),
            Some("WordLevel") => Ok(Kind::WordLevel),
            Some(kind) => Err(unexpected("model", kind, "BPE, WordPiece or WordLevel")),
            None if self.merges.is_some() => Ok(Kind::Bpe),
            None => Ok(Kind::WordPiece),
        }
    }

    pub(super) fn check(&self) -> Result<(), PartError> {
        let kind = self.kind()?;
        let (prefix, suffix) = (&self.continuing_subword_prefix, &self.end_of_word_suffix);
        for affix in [prefix, suffix].into_iter().flatten() {
            at_most("bytes of a prefix or suffix", affix.len(), MAX_AFFIX)?;
        }
        if self.vocab.greatest > MAX_ID {
            let (what, got) = ("greatest token of the vocabulary", self.vocab.greatest);
            return Err(PartError::TooMuch { what, got, max: MAX_ID });
        }
        if kind != Kind::Bpe {
            return at_most(
                "characters of a word",
                self.max_input_chars_per_word.unwrap_or_default(),
                MAX_WORD,
            );
        }
        // Texts would have other tokens each time.
        if let Some(dropout) = self.dropout.filter(|&p| p != 0.0) {
            return Err(unexpected("dropout", dropout.to_string(), "none"));
        }
        // The crate cuts it off the second part of each merge without looking whether it is there.
        if let Some(prefix) = prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            return Err(unexpected("continuing_subword_prefix of a BPE", prefix.as_str(), "none"));
        }
        let has_suffix = suffix.as_ref().is_some_and(|suffix| !suffix.is_empty());
        if has_suffix && self.byte_fallback == Some(true) {
            return Err(unexpected("byte_fallback", "true", "false with end_of_word_suffix"));
        }
        // The crate joins the parts of a merge in a buffer of the longest token's length.
        let longest = self.merges.as_ref().map_or(0, |merges| merges.longest);
        at_most("bytes of a merge, of those of the longest token", longest, self.vocab.longest)
    }

    /// The model that the crate read, if it is of the kind that was checked.
    pub(super) fn is_read_as(&self, model: ModelWrapper) -> Result<ModelWrapper, PartError> {
        match (&model, self.kind()?) {
            (ModelWrapper::BPE(_), Kind::Bpe)
            | (ModelWrapper::WordPiece(_), Kind::WordPiece)
            | (ModelWrapper::WordLevel(_), Kind::WordLevel) => Ok(model),
            _ => Err(unexpected("model", format!("{model:?}"), "what it says it is")),
        }
    }
}

/// Of a vocabulary, the length of the longest token in bytes and the greatest number.
struct Vocab {
    longest: usize,
    greatest: u64,
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to their numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut vocab = Vocab { longest: 0, greatest: 0 };
                while let Some((token, id)) = map.next_entry::<Text<'de>, u64>()? {
                    vocab.longest = vocab.longest.max(token.0.len());
                    vocab.greatest = vocab.greatest.max(id);
                }
                Ok(vocab)
            }
        }
        deserializer.deserialize_map(Measure)
    }
}

/// Of the merges, the bytes of the longest, both parts joined.
struct Merges {
    longest: usize,
}

/// `["a", "b"]`, or `"a b"` in older files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] Text<'a>, #[serde(borrow)] Text<'a>),
    Line(#[serde(borrow)] Text<'a>),
}

/// Borrowed where nothing is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pairs of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merges, A::Error> {
                let mut longest = 0;
                while let Some(merge) = list.next_element::<Merge<'de>>()? {
                    longest = longest.max(match merge {
                        Merge::Pair(a, b) => a.0.len() + b.0.len(),
                        // Heads of old files, which are passed over.
                        Merge::Line(line) if line.0.starts_with("#version") => 0,
                        Merge::Line(line) => line.0.len().saturating_sub(1),
                    });
                }
                Ok(Merges { longest })
            }
        }
        deserializer.deserialize_seq(Measure)
    }
}
