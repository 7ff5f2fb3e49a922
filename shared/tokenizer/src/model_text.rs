//! All that a model's files say about text, opened together.

use std::sync::OnceLock;

use crate::chat::{ChatError, ChatLimits, ChatTokenizer, Message, PlainChat};
use crate::{Limits, TextStream, TextTokenizer, TokenizerError};

/// A model's tokenizer and, if it brings one, its chat template.
///
/// The template is looked at when a chat is first asked for: a model whose template cannot be used still
/// continues plain texts.
#[derive(Debug)]
pub struct ModelText {
    tokenizer: TextTokenizer,
    template: Option<Vec<u8>>,
    start: Option<u32>,
    ends: Vec<u32>,
    chat: OnceLock<Result<Chat, ChatError>>,
}

/// How chats become prompts.
#[derive(Clone, Debug)]
enum Chat {
    Template(Box<ChatTokenizer>),
    Plain(Box<PlainChat>),
}

impl ModelText {
    /// Reads `tokenizer.json` of a model of `vocab` tokens; `start` begins a text, each of `ends` ends
    /// one.
    ///
    /// # Errors
    /// [`TokenizerError`] when the tokenizer is too long or not understood.
    pub fn open(
        json: &[u8],
        template: Option<&[u8]>,
        vocab: u32,
        start: Option<u32>,
        ends: &[u32],
    ) -> Result<Self, TokenizerError> {
        let tokenizer = TextTokenizer::from_json(json, vocab, Limits::default())?;
        let template = template.map(<[u8]>::to_vec);
        Ok(Self { tokenizer, template, start, ends: ends.to_vec(), chat: OnceLock::new() })
    }

    /// The tokens of a text to be continued, with the special tokens that begin it.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn text(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.tokenizer.encode(text, true)
    }

    /// The tokens of a chat to be answered: as the template writes it, or of what the user said last and a
    /// line feed where there is no template.
    ///
    /// # Errors
    /// As [`ChatTokenizer::tokens`] and [`PlainChat::tokens`]; whatever is wrong with the template.
    pub fn chat(&self, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        match self.chat.get_or_init(|| self.open_chat()) {
            Ok(Chat::Template(chat)) => chat.tokens(messages, true),
            Ok(Chat::Plain(chat)) => chat.tokens(messages),
            Err(error) => Err(error.clone()),
        }
    }

    fn open_chat(&self) -> Result<Chat, ChatError> {
        let limits = ChatLimits::default();
        let Some(template) = &self.template else {
            let plain = PlainChat::new(&self.tokenizer, self.start, &self.ends, limits)?;
            return Ok(Chat::Plain(Box::new(plain)));
        };
        let template =
            std::str::from_utf8(template).map_err(|error| ChatError::Syntax(error.to_string()))?;
        let chat = ChatTokenizer::new(&self.tokenizer, template, self.start, &self.ends, limits)?;
        Ok(Chat::Template(Box::new(chat)))
    }

    /// A stream of text that begins after the tokens `before`.
    pub fn stream(&self, before: &[u32]) -> TextStream {
        TextStream::new(self.tokenizer.clone(), before)
    }
}
