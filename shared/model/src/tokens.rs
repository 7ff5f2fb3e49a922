//! Token sequences.

use std::fmt;

/// One tokenised text or pair of texts, `[CLS] … [SEP]` included. Its `Debug` does not show the text.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// Vocabulary indices.
    pub ids: Vec<u32>,
    /// Of a pair, how many tokens come before those of the second text's segment.
    pub second: Option<usize>,
    /// Whether the text was longer than the model's limit and has been cut.
    pub truncated: bool,
}

impl TokenIds {
    /// Number of tokens, special ones included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the sequence holds no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl fmt::Debug for TokenIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenIds({} tokens, truncated: {})", self.ids.len(), self.truncated)
    }
}
