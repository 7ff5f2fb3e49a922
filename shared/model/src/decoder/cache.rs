//! Keys and values of the tokens a sequence has seen.

use thiserror::Error;

/// A cache that does not fit what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CacheError {
    /// More tokens than it holds.
    #[error("the cache holds {got} tokens, cannot go back to {wanted}")]
    Beyond {
        /// Tokens held.
        got: usize,
        /// Tokens wanted.
        wanted: usize,
    },
}

/// Rotated keys and values of one sequence, per layer and key-value head, `[tokens, head_width]` each.
///
/// They determine the text: the cache never leaves the device that made it, and its `Debug` shows
/// its size only.
#[derive(Clone, Default)]
pub struct KvCache {
    pub(super) heads: Vec<HeadCache>,
    pub(super) tokens: usize,
}

#[derive(Clone, Default)]
pub(super) struct HeadCache {
    pub(super) keys: Vec<i16>,
    pub(super) values: Vec<i16>,
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache({} tokens, {} bytes)", self.tokens, self.bytes())
    }
}

impl KvCache {
    /// An empty cache, of any model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens seen.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether no token has been seen.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Memory its rows take, bytes.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|h| 2 * (h.keys.len() + h.values.len())).sum()
    }

    /// Forgets all but the first `tokens`: the user edits, or a draft was wrong.
    ///
    /// # Errors
    /// [`CacheError`] when it holds fewer.
    pub fn truncate(&mut self, tokens: usize) -> Result<(), CacheError> {
        if tokens > self.tokens {
            return Err(CacheError::Beyond { got: self.tokens, wanted: tokens });
        }
        for head in &mut self.heads {
            let width = head.keys.len() / self.tokens.max(1);
            head.keys.truncate(tokens * width);
            head.values.truncate(tokens * width);
        }
        self.tokens = tokens;
        Ok(())
    }

    /// Undoes a run that stopped midway: rows beyond the tokens seen go.
    pub(super) fn settle(&mut self, width: usize) {
        for head in &mut self.heads {
            head.keys.truncate(self.tokens * width);
            head.values.truncate(self.tokens * width);
        }
    }
}
