//! The parts about the model, with the settings that are accepted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokenizers::SplitDelimiterBehavior;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::split::SplitPattern;

use super::{PartError, at_most, unexpected};

/// Parts one way, those of sequences counted.
const MAX_PARTS: usize = 32;

/// Times that replacements and prefixes together may lengthen a text: `▁` for each space makes three.
const MAX_GROWTH: usize = 32;

/// Bytes of a pattern or of what replaces it.
const MAX_PATTERN: usize = 1 << 13;

/// Bytes of what is put before each piece of a text.
const MAX_PREFIX: usize = 64;

/// Pieces of a template, and tokens that one of them stands for.
const MAX_PIECES: usize = 64;

/// What the parts of one way, to tokens or to text, may spend together.
pub(super) struct Budget {
    parts: usize,
    growth: usize,
    /// Whether tokens are already put about the text; twice would be read as pairs of texts.
    framed: bool,
    /// Whether a pattern may have put something before the first character, where the crate's table of
    /// what came from where has no place for it.
    loose: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { parts: 0, growth: 1, framed: false, loose: false }
    }
}

impl Budget {
    fn part(&mut self) -> Result<(), PartError> {
        self.parts += 1;
        at_most("parts", self.parts, MAX_PARTS)
    }

    /// A part that makes up to `by` bytes of one.
    fn grow(&mut self, by: usize) -> Result<(), PartError> {
        self.growth = self.growth.saturating_mul(by.max(1));
        at_most("times that a text is lengthened", self.growth, MAX_GROWTH)
    }

    fn replace(&mut self, pattern: &ReplacePattern, content: &str) -> Result<(), PartError> {
        self.part()?;
        let (ReplacePattern::String(text) | ReplacePattern::Regex(text)) = pattern;
        at_most("bytes of a pattern", text.len(), MAX_PATTERN)?;
        at_most("bytes of a replacement", content.len(), MAX_PATTERN)?;
        match pattern {
            // Nothing is between any two characters.
            ReplacePattern::String(text) if text.is_empty() => self.grow(content.len() + 1),
            ReplacePattern::String(text) => self.grow(content.len().div_ceil(text.len())),
            ReplacePattern::Regex(_) if content.len() < 2 => Ok(()),
            ReplacePattern::Regex(_) => self.grow(content.len() + 1),
        }
    }

    /// A part by which the crate writes the whole text anew, along that table.
    fn rewrite(&mut self, part: &'static str) -> Result<(), PartError> {
        if self.loose {
            let expected = "one before any replacement of a regular expression";
            return Err(unexpected("order of parts", part, expected));
        }
        Ok(())
    }

    fn frame(&mut self, part: &'static str) -> Result<(), PartError> {
        if std::mem::replace(&mut self.framed, true) {
            return Err(unexpected(part, "a second one", "one that puts tokens about a text"));
        }
        Ok(())
    }
}

fn yes() -> bool {
    true
}

/// A setting of byte-level tokenizers.
#[derive(Deserialize, Serialize)]
pub(super) struct ByteLevel {
    add_prefix_space: bool,
    trim_offsets: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

/// `▁` for spaces.
#[derive(Deserialize, Serialize)]
pub(super) struct Metaspace {
    replacement: char,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add_prefix_space: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prepend_scheme: Option<PrependScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<bool>,
}

/// What is done to a text first.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type")]
pub(super) enum Normal {
    #[serde(alias = "Bert")]
    BertNormalizer {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    StripAccents,
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Lowercase,
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: ReplacePattern,
        content: String,
    },
    Sequence {
        normalizers: Vec<Self>,
    },
}

impl Normal {
    pub(super) fn check(&self, budget: &mut Budget) -> Result<(), PartError> {
        match self {
            Self::Sequence { normalizers } => {
                budget.part()?;
                normalizers.iter().try_for_each(|part| part.check(budget))
            }
            Self::Prepend { prepend } => {
                if prepend.is_empty() {
                    return Err(unexpected("Prepend", "nothing", "something to put before"));
                }
                at_most("bytes of a prefix", prepend.len(), MAX_PREFIX)?;
                budget.part()
            }
            Self::Replace { pattern, content } => {
                let is_fixed = matches!(pattern, ReplacePattern::String(text) if !text.is_empty());
                budget.loose |= !is_fixed && !content.is_empty();
                budget.replace(pattern, content)
            }
            _ => {
                budget.rewrite("a normalizer of the whole text")?;
                budget.part()
            }
        }
    }
}

/// How a text is cut into words.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizer {
    #[serde(rename = "BertPreTokenizer")]
    Bert,
    Whitespace,
    WhitespaceSplit,
    ByteLevel(ByteLevel),
    Metaspace(Metaspace),
    Digits {
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behavior: Option<SplitDelimiterBehavior>,
    },
    Split {
        pattern: SplitPattern,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Sequence {
        pretokenizers: Vec<Self>,
    },
}

impl PreTokenizer {
    pub(super) fn check(&self, budget: &mut Budget) -> Result<(), PartError> {
        budget.part()?;
        match self {
            Self::Sequence { pretokenizers } => {
                pretokenizers.iter().try_for_each(|part| part.check(budget))
            }
            Self::Metaspace(space) => budget.grow(space.replacement.len_utf8()),
            Self::ByteLevel(_) => {
                budget.rewrite("ByteLevel")?;
                budget.grow(2)
            }
            Self::Split {
                pattern: SplitPattern::String(text) | SplitPattern::Regex(text), ..
            } => at_most("bytes of a pattern", text.len(), MAX_PATTERN),
            _ => Ok(()),
        }
    }
}

/// A text of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Text {
    A,
    B,
}

/// A piece of a template.
#[derive(Deserialize, Serialize)]
pub(super) enum Piece {
    Sequence { id: Text, type_id: u32 },
    SpecialToken { id: String, type_id: u32 },
}

/// The tokens that a piece stands for.
#[derive(Deserialize, Serialize)]
pub(super) struct Special {
    id: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

/// What is put about the tokens of a text.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type")]
pub(super) enum PostProcessor {
    ByteLevel(ByteLevel),
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
        trim_offsets: bool,
        add_prefix_space: bool,
    },
    TemplateProcessing {
        single: Vec<Piece>,
        pair: Vec<Piece>,
        special_tokens: BTreeMap<String, Special>,
    },
    Sequence {
        processors: Vec<Self>,
    },
}

impl PostProcessor {
    pub(super) fn check(&self, budget: &mut Budget) -> Result<(), PartError> {
        budget.part()?;
        match self {
            Self::ByteLevel(_) => Ok(()),
            Self::Sequence { processors } => {
                processors.iter().try_for_each(|part| part.check(budget))
            }
            Self::BertProcessing { .. } => budget.frame("BertProcessing"),
            Self::RobertaProcessing { .. } => budget.frame("RobertaProcessing"),
            Self::TemplateProcessing { single, pair, special_tokens } => {
                budget.frame("TemplateProcessing")?;
                for special in special_tokens.values() {
                    at_most("tokens of a piece", special.ids.len(), MAX_PIECES)?;
                    if special.ids.len() != special.tokens.len() {
                        let got = format!("{}", special.tokens.len());
                        return Err(unexpected("names of a piece's tokens", got, "one each"));
                    }
                }
                template(single, &[Text::A], special_tokens)?;
                template(pair, &[Text::A, Text::B], special_tokens)
            }
        }
    }
}

/// A template uses each of its texts once, and tokens that are there.
fn template(
    pieces: &[Piece],
    texts: &[Text],
    special: &BTreeMap<String, Special>,
) -> Result<(), PartError> {
    at_most("pieces of a template", pieces.len(), MAX_PIECES)?;
    let mut used = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Sequence { id, .. } => used.push(*id),
            Piece::SpecialToken { id, .. } if !special.contains_key(id) => {
                return Err(unexpected(
                    "piece of a template",
                    id.as_str(),
                    "one of special_tokens",
                ));
            }
            Piece::SpecialToken { .. } => {}
        }
    }
    used.sort_unstable_by_key(|text| *text as u8);
    if used != texts {
        return Err(unexpected("texts of a template", format!("{used:?}"), "each once"));
    }
    Ok(())
}

/// How tokens become text again.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type")]
pub(super) enum Decoder {
    ByteLevel(ByteLevel),
    Metaspace(Metaspace),
    ByteFallback,
    Fuse,
    WordPiece { prefix: String, cleanup: bool },
    Strip { content: char, start: usize, stop: usize },
    Replace { pattern: ReplacePattern, content: String },
    Sequence { decoders: Vec<Self> },
}

impl Decoder {
    pub(super) fn check(&self, budget: &mut Budget) -> Result<(), PartError> {
        match self {
            Self::Replace { pattern, content } => budget.replace(pattern, content),
            Self::Sequence { decoders } => {
                budget.part()?;
                decoders.iter().try_for_each(|part| part.check(budget))
            }
            // The crate counts down below nothing in tokens with no other character.
            Self::Strip { stop, .. } if *stop != 0 => {
                Err(unexpected("stop of Strip", stop.to_string(), "0"))
            }
            _ => budget.part(),
        }
    }
}
