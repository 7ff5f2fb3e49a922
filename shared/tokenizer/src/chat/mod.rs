//! Chats to prompts, by the template that comes with a model.
//!
//! # Design
//! A template is Jinja text from a stranger, and what is said in a chat comes from other strangers.
//!
//! ```text
//! template ── vet: what it may use, how long ──┐
//! special tokens ── stand-ins in the template ─┴─ render: fuel, sizes ── text with stand-ins
//!                                                                               │
//!                           tokens of the model ── stand-ins only become special tokens
//! ```
//!
//! The names of special tokens (`<|im_end|>`) are replaced in the *template* by stand-ins which no
//! message may contain. So a message keeps its characters and may be trimmed, split and compared as its
//! template likes, and still a `<|im_end|>` that somebody writes remains eight ordinary characters, even
//! if the template cuts and joins it: only stand-ins become special tokens.

mod encode;
mod environment;
mod plain;
mod stand_in;
mod template;
mod vet;

use thiserror::Error;

use crate::TokenizerError;

pub use encode::ChatTokenizer;
pub use plain::PlainChat;
pub use template::{ChatTemplate, Rendered};

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions that precede a chat.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role that templates spell so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant].into_iter().find(|role| role.name() == name)
    }

    /// As templates spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Bounds on templates and chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Bytes of a template.
    pub max_template_bytes: usize,
    /// Special tokens of a tokenizer.
    pub max_special_tokens: usize,
    /// Turns of a chat.
    pub max_messages: usize,
    /// Bytes of all contents together.
    pub max_content_bytes: usize,
    /// Bytes of a rendered chat.
    pub max_output_bytes: usize,
}

impl Default for ChatLimits {
    /// 64 KiB of template (the longest published ones have 20), 1,024 turns, 512 KiB said.
    fn default() -> Self {
        Self {
            max_template_bytes: 1 << 16,
            max_special_tokens: 4096,
            max_messages: 1024,
            max_content_bytes: 1 << 19,
            max_output_bytes: 1 << 20,
        }
    }
}

/// A template that cannot be used, or a chat that it cannot render.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChatError {
    /// More of something than the limit.
    #[error("{what}: {got}, at most {max} allowed")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not a template.
    #[error("chat template: {0}")]
    Syntax(String),
    /// Jinja that chat templates are not given here.
    #[error("the chat template uses {0}, which is not supported")]
    Unsupported(String),
    /// The template works for too long, or makes too much.
    #[error("the chat template needs more work or memory than a chat may")]
    Exhausted,
    /// The template refuses the chat, in its own words.
    #[error("the chat template refuses: {0}")]
    Refused(String),
    /// Something the template does fails.
    #[error("chat template: {0}")]
    Failed(String),
    /// A name of a special token that the template puts together, so that a message could, too.
    #[error("the chat template composes the special token {0} from pieces")]
    Composed(String),
    /// A character that messages, templates and tokens may not contain.
    #[error("{0} contains the reserved character U+FDD0 or U+FDD1")]
    Reserved(&'static str),
    /// Ordinary text that the tokenizer turns into a special token.
    #[error("the chat contains text that would become the special token {0}")]
    Forged(String),
    /// A chat without a template that does not end with something the user says.
    #[error("the last turn is not the user's, so there is nothing to answer")]
    NoQuestion,
    /// The tokenizer refuses.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
