//! The crate `nesa-tokenizer` as an engine, in place.

use std::{future::ready, sync::Arc};

use nesa_platform::{BoxFuture, task};
use nesa_tokenizer::{
    ModelText, TextStream, TokenizerError,
    chat::{self, ChatError},
};

use super::{
    engine::{Pieces, SharedCodec, TextCodec, TextEngine, TextError, TextFiles},
    prompt::{Message, Role, Said},
};

/// Tokenizers in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeText;

impl TextEngine for NativeText {
    fn open(&self, files: TextFiles) -> BoxFuture<'_, Result<SharedCodec, TextError>> {
        Box::pin(async move {
            let open = move || {
                let template = files.template.as_deref();
                ModelText::open(&files.tokenizer, template, files.vocab, files.start, &files.ends)
            };
            let model = task::compute(open).await?;
            Ok(Arc::new(Native(Arc::new(model))) as SharedCodec)
        })
    }
}

struct Native(Arc<ModelText>);

impl TextCodec for Native {
    fn tokens<'a>(&'a self, said: &'a Said) -> BoxFuture<'a, Result<Vec<u32>, TextError>> {
        let (model, said) = (self.0.clone(), said.clone());
        Box::pin(task::compute(move || match said {
            Said::Text(text) => Ok(model.text(&text)?),
            Said::Chat(turns) => {
                let turns: Vec<_> = turns.into_iter().map(chat::Message::from).collect();
                Ok(model.chat(&turns)?)
            }
        }))
    }

    fn stream(&self, before: &[u32]) -> BoxFuture<'_, Result<Box<dyn Pieces>, TextError>> {
        let stream = NativePieces(self.0.stream(before));
        Box::pin(ready(Ok(Box::new(stream) as Box<dyn Pieces>)))
    }
}

struct NativePieces(TextStream);

impl Pieces for NativePieces {
    fn push(&mut self, token: u32) -> BoxFuture<'_, Result<String, TextError>> {
        Box::pin(ready(self.0.push(token).map_err(TextError::from)))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<String, TextError>> {
        Box::pin(ready(self.0.finish().map_err(TextError::from)))
    }
}

impl From<Message> for chat::Message {
    fn from(message: Message) -> Self {
        let role = match message.role {
            Role::System => chat::Role::System,
            Role::User => chat::Role::User,
            Role::Assistant => chat::Role::Assistant,
        };
        Self::new(role, message.content)
    }
}

impl From<TokenizerError> for TextError {
    fn from(error: TokenizerError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<ChatError> for TextError {
    fn from(error: ChatError) -> Self {
        Self::Refused(error.to_string())
    }
}
