//! Tokenizers and chat templates that models bring, as a module for a browser worker of their own.
//!
//! ```text
//!   nesa-worker ── [id, call, …] ──> text-worker.js ── this module (nesa-tokenizer)
//!        ▲                                 │
//!        └── [id, ok, tokens or words] ────┘   silent for too long: terminated
//! ```
//!
//! A module of its own, because only a page that chats needs half a megabyte of tokenizers; in a worker
//! of its own, because a model's `tokenizer.json` and template come from strangers. What they can spoil
//! is this worker: the one that holds wallet, chain and links waits for an answer, for a limited time.
#![cfg(target_family = "wasm")]

use nesa_tokenizer::{
    ModelText, TextStream,
    chat::{Message, Role},
};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// A turn as the worker sends it.
#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

fn refused(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

/// A model's text files, opened.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model(ModelText);

#[wasm_bindgen]
impl Model {
    /// Reads `tokenizer.json` of a model of `vocab` tokens, and keeps its template for the first chat.
    ///
    /// # Errors
    /// In words, when the tokenizer is not understood.
    pub fn open(
        tokenizer: &[u8],
        template: Option<Vec<u8>>,
        vocab: u32,
        start: Option<u32>,
        ends: &[u32],
    ) -> Result<Model, JsError> {
        let opened = ModelText::open(tokenizer, template.as_deref(), vocab, start, ends);
        opened.map(Self).map_err(refused)
    }

    /// The tokens of a text to be continued.
    ///
    /// # Errors
    /// In words.
    pub fn text(&self, text: &str) -> Result<Vec<u32>, JsError> {
        self.0.text(text).map_err(refused)
    }

    /// The tokens of a chat to be answered; `turns` is JSON, a list of role and content.
    ///
    /// # Errors
    /// In words, also what is wrong with the template.
    pub fn chat(&self, turns: &str) -> Result<Vec<u32>, JsError> {
        let turns: Vec<Turn> = serde_json::from_str(turns).map_err(refused)?;
        let message = |turn: Turn| -> Result<Message, JsError> {
            let role = Role::from_name(&turn.role)
                .ok_or_else(|| refused(format!("nobody has the role {:?}", turn.role)))?;
            Ok(Message::new(role, turn.content))
        };
        let messages: Vec<Message> = turns.into_iter().map(message).collect::<Result<_, _>>()?;
        self.0.chat(&messages).map_err(refused)
    }

    /// A stream of text that begins after the tokens `before`.
    pub fn stream(&self, before: &[u32]) -> Stream {
        Stream(self.0.stream(before))
    }
}

/// Tokens to text as they come.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Stream(TextStream);

#[wasm_bindgen]
impl Stream {
    /// Takes a token; the text that is certain now.
    ///
    /// # Errors
    /// In words, when the tokenizer refuses the token.
    pub fn push(&mut self, token: u32) -> Result<String, JsError> {
        self.0.push(token).map_err(refused)
    }

    /// What is still held back.
    ///
    /// # Errors
    /// In words, when the tokenizer refuses it.
    pub fn finish(self) -> Result<String, JsError> {
        self.0.finish().map_err(refused)
    }
}
