//! Chats to tokens.

use std::collections::{BTreeMap, BTreeSet};

use tokenizers::{AddedToken, Tokenizer};

use super::stand_in::StandIns;
use super::{ChatError, ChatLimits, ChatTemplate, Message, Rendered};
use crate::{TextTokenizer, TokenizerError, encoded, unbroken};

/// A character that no vocabulary has: what it becomes is what stands for the unknown.
pub(super) const UNKNOWN: &str = "\u{FDEF}";

/// A model's tokenizer with its chat template.
#[derive(Clone, Debug)]
pub struct ChatTokenizer {
    template: ChatTemplate,
    inner: Tokenizer,
    /// Special tokens by the token of their stand-in.
    special: BTreeMap<u32, u32>,
    /// Tokens that only the template may make.
    reserved: BTreeSet<u32>,
    vocab: u32,
}

impl ChatTokenizer {
    /// Joins a tokenizer and a template; `start` begins a text, each of `ends` ends one, the template's
    /// own first.
    ///
    /// # Errors
    /// [`ChatError`] when the template cannot be used with this tokenizer.
    pub fn new(
        tokenizer: &TextTokenizer,
        template: &str,
        start: Option<u32>,
        ends: &[u32],
        limits: ChatLimits,
    ) -> Result<Self, ChatError> {
        let mut inner = tokenizer.inner.clone();
        let added: BTreeMap<u32, AddedToken> =
            inner.get_added_tokens_decoder().into_iter().collect();
        let mut special: BTreeMap<u32, AddedToken> =
            added.iter().filter(|(_, t)| t.special).map(|(&id, t)| (id, t.clone())).collect();
        for &id in start.iter().chain(ends) {
            if let Some(token) = added.get(&id) {
                special.insert(id, token.clone());
            } else if let Some(name) = inner.id_to_token(id) {
                special.insert(id, AddedToken::from(name, true));
            }
        }
        if special.len() > limits.max_special_tokens {
            let (what, got) = ("special tokens", special.len());
            return Err(ChatError::TooMuch { what, got, max: limits.max_special_tokens });
        }
        let names: Vec<&str> = special.values().map(|t| t.content.as_str()).collect();
        let name = |id: Option<&u32>| id.and_then(|id| special.get(id)).map(|t| t.content.as_str());
        let (bos, eos) = (name(start.as_ref()), name(ends.first()));
        let template = ChatTemplate::parse(template, &names, bos, eos, limits)?;

        // The stand-ins are found in a text as the tokens themselves would be, with their white space;
        // the tokens themselves no longer are.
        let by_name: BTreeMap<&str, (u32, &AddedToken)> =
            special.iter().map(|(&id, t)| (t.content.as_str(), (id, t))).collect();
        let mut stand_ins = Vec::new();
        for (index, name) in template.special().iter().enumerate() {
            let Some(&(id, token)) = by_name.get(name.as_str()) else { continue };
            let stand_in = AddedToken::from(StandIns::of_index(index), false)
                .normalized(false)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip);
            stand_ins.push((id, stand_in));
        }
        let refused = |e: tokenizers::Error| TokenizerError::Json(e.to_string());
        unbroken("chat's special tokens", || {
            inner.add_tokens(stand_ins.iter().map(|(_, t)| t.clone())).map_err(refused)
        })?;
        inner.set_encode_special_tokens(true);
        let ids =
            stand_ins.iter().filter_map(|(id, t)| Some((inner.token_to_id(&t.content)?, *id)));
        let ids: BTreeMap<u32, u32> = ids.collect();

        let mut chat = Self {
            template,
            inner,
            special: ids,
            reserved: BTreeSet::new(),
            vocab: tokenizer.vocab,
        };
        let unknown = chat.encode(UNKNOWN)?;
        chat.reserved = special.into_keys().filter(|id| !unknown.contains(id)).collect();
        Ok(chat)
    }

    /// The chat as the model wants it, to look at.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Rendered, ChatError> {
        self.template.render(messages, add_generation_prompt)
    }

    /// The tokens of a chat. Special tokens come from the template alone, whatever is said.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; [`ChatError::Forged`] when the tokenizer would make a special token of
    /// something said; [`ChatError::Tokenizer`] for tokens that the model does not have.
    pub fn tokens(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatError> {
        let rendered = self.template.render(messages, add_generation_prompt)?;
        let tokens = self.encode(&rendered.0)?;
        let named = |token| match self.special.get(&token) {
            Some(&special) => Ok(special),
            None if self.reserved.contains(&token) => {
                Err(ChatError::Forged(self.inner.id_to_token(token).unwrap_or_default()))
            }
            None => Ok(token),
        };
        let tokens: Vec<u32> = tokens.into_iter().map(named).collect::<Result<_, _>>()?;
        match tokens.iter().find(|&&t| t >= self.vocab) {
            Some(&got) => Err(TokenizerError::Vocabulary { got, vocab: self.vocab }.into()),
            None => Ok(tokens),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, ChatError> {
        Ok(encoded(&self.inner, text, false)?.get_ids().to_vec())
    }
}
