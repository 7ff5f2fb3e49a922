//! Tokens to text as they come.

use crate::{TextTokenizer, TokenizerError};

/// Tokens of the prompt looked at for context.
const CONTEXT: usize = 8;

/// Tokens held back at most: a stranger's model may never complete a character.
const HELD: usize = 8;

/// Of them, those that may still be the beginning of a character, which has at most four bytes: so
/// that a character ends behind one of the last four tokens.
const PARTIAL: usize = 3;

/// Turns tokens into text one at a time, never half a character.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: TextTokenizer,
    /// Tokens whose text is out, as context of the next one's (spaces and byte pieces depend on their
    /// neighbours), then those whose text is held back. The context begins between two characters.
    tokens: Vec<u32>,
    /// How many of them are context.
    out: usize,
}

impl TextStream {
    /// A stream that begins after `before`, whose text is not repeated.
    pub fn new(tokenizer: TextTokenizer, before: &[u32]) -> Self {
        let first = before.len().saturating_sub(CONTEXT);
        let last = (first + PARTIAL).min(before.len());
        // A cut inside a character shows as replacements that a cut beside it does not have.
        let broken = |at: &usize| {
            let text = tokenizer.decode(&before[*at..]);
            text.map_or(usize::MAX, |text| text.matches(char::REPLACEMENT_CHARACTER).count())
        };
        let at = (first..=last).min_by_key(broken).unwrap_or(last);
        let tokens = before[at..].to_vec();
        Self { out: tokens.len(), tokenizer, tokens }
    }

    /// Takes a token; returns the text that is certain now, empty while a character is incomplete.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the tokenizer refuses it; it is then forgotten.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.tokens.push(token);
        let text = self.certain();
        if text.is_err() {
            self.tokens.pop();
        }
        text
    }

    fn certain(&mut self) -> Result<String, TokenizerError> {
        let before = self.tokenizer.decode(&self.tokens[..self.out])?;
        let all = self.tokenizer.decode(&self.tokens)?;
        // A replacement character at the end may be the beginning of a real one.
        let (new, out) = if !all.ends_with(char::REPLACEMENT_CHARACTER) && all.starts_with(&before)
        {
            (after(&before, &all).to_owned(), self.tokens.len())
        } else if self.tokens.len() - self.out < HELD {
            return Ok(String::new());
        } else {
            let (out, some) = self.most_whole()?;
            (after(&before, &some).to_owned(), out)
        };
        if new.is_empty() && out <= CONTEXT {
            // A text's first space may show only in the next token's.
            self.out = out;
        } else if new.is_empty() {
            // Special tokens, say: no context for anything.
            self.tokens.drain(self.out..out);
        } else {
            self.tokens.drain(..self.out);
            self.out = out - self.out;
        }
        Ok(new)
    }

    /// Where to cut what can be held no longer, beside a character and not inside one, and the text
    /// up to there; of equals, the last.
    fn most_whole(&self) -> Result<(usize, String), TokenizerError> {
        let (mut out, mut best) = (0, (usize::MAX, String::new()));
        for end in self.tokens.len() - PARTIAL..=self.tokens.len() {
            let text = self.tokenizer.decode(&self.tokens[..end])?;
            let broken = text.matches(char::REPLACEMENT_CHARACTER).count();
            if broken <= best.0 {
                (out, best) = (end, (broken, text));
            }
        }
        Ok((out, best.1))
    }

    /// What is still held back, incomplete characters replaced.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the tokenizer refuses it.
    pub fn finish(self) -> Result<String, TokenizerError> {
        let before = self.tokenizer.decode(&self.tokens[..self.out])?;
        let all = self.tokenizer.decode(&self.tokens)?;
        Ok(after(&before, &all).to_owned())
    }
}

/// What `all` has beyond the beginning it shares with `before`.
fn after<'a>(before: &str, all: &'a str) -> &'a str {
    let shared = before.chars().zip(all.chars()).take_while(|(a, b)| a == b);
    &all[shared.map(|(c, _)| c.len_utf8()).sum()..]
}
