//! How pieces of texts become a sequence: what begins, separates and ends them, and what is cut.

use crate::TokenIds;
use crate::manifest::{Reading, TokenizerConfig};
use crate::tokenizer::VocabError;

/// What stands around the pieces of a text, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    start: u32,
    end: u32,
    separators: usize,
    max_tokens: usize,
}

impl Frame {
    /// That of a model of `count` tokens.
    ///
    /// # Errors
    /// [`VocabError`] when a special token is none of them, or the limit leaves no room for them.
    pub fn new(
        config: &TokenizerConfig,
        reading: &Reading,
        count: usize,
        max_tokens: usize,
    ) -> Result<Self, VocabError> {
        for special in [config.unknown, config.start, config.end] {
            if special as usize >= count {
                return Err(VocabError::Special { got: special, count });
            }
        }
        let separators = usize::from(reading.separators);
        if max_tokens < 2 + separators {
            return Err(VocabError::Limit { what: "max_tokens", got: max_tokens });
        }
        let (start, end) = (config.start, config.end);
        Ok(Self { start, end, separators, max_tokens })
    }

    /// Longest sequence, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whether the model reads pairs.
    pub fn pairs(&self) -> bool {
        self.separators > 0
    }

    /// `start … end`, cut to the model's limit.
    pub fn single(&self, pieces: &[u32]) -> TokenIds {
        self.within(pieces, self.max_tokens)
    }

    /// `start … end`, cut to `max_tokens` (between 2 and the model's limit).
    pub(crate) fn within(&self, pieces: &[u32], max_tokens: usize) -> TokenIds {
        let room = max_tokens.clamp(2, self.max_tokens) - 2;
        let mut ids = vec![self.start];
        ids.extend(pieces.iter().take(room));
        ids.push(self.end);
        TokenIds { ids, second: None, truncated: pieces.len() > room }
    }

    /// `start … end … end` for a pair of texts, cut to the model's limit: from the end of the longer text,
    /// and if neither fits half of the room, both to the half. `None` of a model that reads no pairs.
    pub fn pair(&self, text: &[u32], pair: &[u32]) -> Option<TokenIds> {
        if !self.pairs() {
            return None;
        }
        let room = self.max_tokens - 2 - self.separators;
        let (first, second) = longest_first(text.len(), pair.len(), room);
        let mut ids = vec![self.start];
        ids.extend(text.iter().take(first));
        ids.extend(std::iter::repeat_n(self.end, self.separators));
        let begins = ids.len();
        ids.extend(pair.iter().take(second));
        ids.push(self.end);
        let truncated = first < text.len() || second < pair.len();
        Some(TokenIds { ids, second: Some(begins), truncated })
    }
}

/// What remains of texts of `first` and `second` pieces in `room`, as transformers cuts "longest first".
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    let (short, long) = (first.min(second), first.max(second));
    let mut kept = (short, if short > room { short } else { long.min(short.max(room - short)) });
    if kept.0.saturating_add(kept.1) > room {
        kept = (room / 2, room / 2 + room % 2);
    }
    if first > second { (kept.1, kept.0) } else { kept }
}
