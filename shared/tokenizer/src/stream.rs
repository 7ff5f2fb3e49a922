//! Tokens to text as they come.

use crate::{TextTokenizer, TokenizerError};

/// Tokens kept as context of the next one's text: spaces and byte pieces depend on their neighbours.
const CONTEXT: usize = 8;

/// Turns tokens into text one at a time, never half a character.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: TextTokenizer,
    /// Tokens whose text is out, as context, then those whose text is held back.
    tokens: Vec<u32>,
    /// How many of them are context.
    out: usize,
}

impl TextStream {
    /// A stream that begins after `before`, whose text is not repeated.
    pub fn new(tokenizer: TextTokenizer, before: &[u32]) -> Self {
        let tokens = before[before.len().saturating_sub(CONTEXT)..].to_vec();
        Self { out: tokens.len(), tokenizer, tokens }
    }

    /// Takes a token; returns the text that is certain now, empty while a character is incomplete.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the tokenizer refuses it; it is then forgotten.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.tokens.push(token);
        let texts = self
            .tokenizer
            .decode(&self.tokens[..self.out])
            .and_then(|before| Ok((before, self.tokenizer.decode(&self.tokens)?)));
        let (before, all) = match texts {
            Ok(texts) => texts,
            Err(error) => {
                self.tokens.pop();
                return Err(error);
            }
        };
        // A replacement character at the end may be the beginning of a real one.
        if all.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let Some(new) = all.strip_prefix(&before) else { return Ok(String::new()) };
        let new = new.to_owned();
        let keep = self.tokens.len().saturating_sub(CONTEXT);
        self.tokens.drain(..keep);
        self.out = self.tokens.len();
        Ok(new)
    }

    /// What is still held back, incomplete characters replaced.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] when the tokenizer refuses it.
    pub fn finish(self) -> Result<String, TokenizerError> {
        let before = self.tokenizer.decode(&self.tokens[..self.out])?;
        let all = self.tokenizer.decode(&self.tokens)?;
        Ok(all.strip_prefix(&before).unwrap_or_default().to_owned())
    }
}
