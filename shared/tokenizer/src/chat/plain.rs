//! Chats of models that bring no template: the last question alone.

use std::collections::BTreeSet;

use tokenizers::Tokenizer;

use super::encode::UNKNOWN;
use super::{ChatError, ChatLimits, Message, Role};
use crate::{TextTokenizer, TokenizerError, encoded, within};

/// A model's tokenizer for chats without a template.
///
/// The prompt is what the user said last, and a line feed: `"What is a lighthouse?\n"`. Nothing else of
/// the chat reaches the model. As with a template, what is said cannot make a special token; those that
/// the tokenizer itself puts around a text stay.
#[derive(Clone, Debug)]
pub struct PlainChat {
    inner: Tokenizer,
    /// Tokens that no text may make.
    reserved: BTreeSet<u32>,
    limits: ChatLimits,
    vocab: u32,
}

impl PlainChat {
    /// Prompts for a model whose texts `start` begins and each of `ends` ends.
    ///
    /// # Errors
    /// [`ChatError`] when the tokenizer has more special tokens than allowed, or refuses.
    pub fn new(
        tokenizer: &TextTokenizer,
        start: Option<u32>,
        ends: &[u32],
        limits: ChatLimits,
    ) -> Result<Self, ChatError> {
        let mut inner = tokenizer.inner.clone();
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id);
        let mut reserved: BTreeSet<u32> =
            special.chain(start).chain(ends.iter().copied()).collect();
        if reserved.len() > limits.max_special_tokens {
            let (what, got) = ("special tokens", reserved.len());
            return Err(ChatError::TooMuch { what, got, max: limits.max_special_tokens });
        }
        inner.set_encode_special_tokens(true);
        let mut chat = Self { inner, reserved: BTreeSet::new(), limits, vocab: tokenizer.vocab };
        for unknown in chat.encode(UNKNOWN, false)? {
            reserved.remove(&unknown);
        }
        chat.reserved = reserved;
        Ok(chat)
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// [`ChatError::NoQuestion`] unless the last turn is the user's; [`ChatError::Forged`] when the
    /// tokenizer would make a special token of what is said; [`ChatError::TooMuch`] over the limits.
    pub fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        let last = messages.last().filter(|last| last.role == Role::User);
        let said = &last.ok_or(ChatError::NoQuestion)?.content;
        let (got, max) = (said.len(), self.limits.max_content_bytes);
        if got > max {
            return Err(ChatError::TooMuch { what: "bytes of a chat", got, max });
        }
        let prompt = format!("{said}\n");
        within("text", prompt.len(), self.limits.max_output_bytes)?;
        if let Some(forged) =
            self.encode(&prompt, false)?.into_iter().find(|token| self.reserved.contains(token))
        {
            return Err(ChatError::Forged(self.inner.id_to_token(forged).unwrap_or_default()));
        }
        let tokens = self.encode(&prompt, true)?;
        match tokens.iter().find(|&&token| token >= self.vocab) {
            Some(&got) => Err(TokenizerError::Vocabulary { got, vocab: self.vocab }.into()),
            None => Ok(tokens),
        }
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ChatError> {
        Ok(encoded(&self.inner, text, special)?.get_ids().to_vec())
    }
}
