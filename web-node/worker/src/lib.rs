//! The browser worker: light client, query client and volunteer node in one module.
//!
//! # Design
//!
//! ```text
//!  page ── [json, bytes?] ──> Node::receive ──> App (one thread, one state)
//!                                                 ├─ boot: bootstrap, pinned trust root, light client
//!                                                 ├─ feed: headers, status, conflicts
//!                                                 ├─ wallet, jobs, verify, donate, explore
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
mod donate;
mod explore;
mod feed;
mod history;
mod jobs;
mod model;
mod port;
mod problem;
mod progress;
mod quote;
mod recheck;
mod verify;
mod view;
mod wallet;

use std::rc::Rc;

use js_sys::Function;
use wasm_bindgen::prelude::*;

/// The running worker, as its script holds it.
#[wasm_bindgen]
pub struct Node {
    app: Rc<app::App>,
}

/// Starts the worker. `post` takes `(json: string, bytes?: Uint8Array)` for the page; `probe` loads
/// the adapter's module and computes with it.
#[wasm_bindgen]
pub fn start(post: Function, probe: Function) -> Node {
    console_error_panic_hook::set_once();
    Node { app: Rc::new(app::App::new(port::Port::new(post), probe)) }
}

#[wasm_bindgen]
impl Node {
    /// Takes one message of the page; answers come through `post`.
    pub fn receive(&self, json: String, bytes: Option<Vec<u8>>) {
        app::App::receive(&self.app, &json, bytes);
    }
}
