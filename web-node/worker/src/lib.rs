//! The browser worker: light client, query client and volunteer node in one module.
//!
//! # Design
//!
//! ```text
//!  page ── [json, bytes?] ──> Node::receive ──> App (one thread, one state)
//!                                                 ├─ boot: bootstrap, pinned trust root, light client
//!                                                 ├─ feed: headers, status, conflicts
//!                                                 ├─ wallet, jobs, verify, donate, explore
//!                                                 ├─ models, chats, conversations
//!                                                 ├─ text: workers that hold strangers' tokenizers
//!                                                 └─ threads: workers that compute for a volunteer
//!  page <── [json, bytes?] ── Port ───────────────┘
//! ```
//!
//! Nothing secret crosses to the page beyond what it displays: keys, masks and Freivalds secrets
//! stay in this module, sealed in IndexedDB under a key that no script can read out. The module
//! holds no state that a reload would lose except running queries, whose fate the journal keeps.
#![cfg(target_family = "wasm")]

mod adapter;
mod app;
mod boot;
mod catalogue;
mod chat;
mod conversations;
mod digits;
mod donate;
mod engine;
mod explore;
mod feed;
#[cfg(feature = "figures")]
pub mod figures;
mod float;
mod follow;
mod gpu;
mod history;
mod jobs;
mod link;
mod model;
mod port;
mod problem;
mod progress;
mod quote;
mod recheck;
mod sealed;
mod shards;
pub mod text;
pub mod threads;
mod transfer;
mod verify;
mod view;
mod wallet;

use std::{rc::Rc, sync::Arc};

use js_sys::Function;
use wasm_bindgen::prelude::*;

/// The running worker, as its script holds it.
#[wasm_bindgen]
pub struct Node {
    app: Rc<app::App>,
}

/// Starts the worker. `post` takes `(json: string, bytes?: Uint8Array)` for the page; `adapter` promises
/// the adapter's module; `text` makes a worker for a model's own tokenizer, `float` one for a model that runs
/// in floats, `pool` one that computes for a volunteer.
#[wasm_bindgen]
pub fn start(
    post: Function,
    adapter: Function,
    text: Function,
    float: Function,
    pool: Function,
) -> Node {
    console_error_panic_hook::set_once();
    // Shared within this thread; the trait it is for is shared between threads natively.
    #[allow(clippy::arc_with_non_send_sync)]
    let text = Arc::new(text::TextWorkers::new(text, text::Patience::default()));
    Node { app: Rc::new(app::App::new(port::Port::new(post), adapter, text, float, pool)) }
}

#[wasm_bindgen]
impl Node {
    /// Takes one message of the page; answers come through `post`.
    pub fn receive(&self, json: String, bytes: Option<Vec<u8>>) {
        app::App::receive(&self.app, &json, bytes);
    }
}
