//! The Model Playground: a Leptos page over the worker.
//!
//! # Design
//!
//! The page holds no protocol and no key. It turns what a person does into
//! [`nesa_messages::ToWorker`], and shows the views that come back. State lives in one `Copy` struct
//! of signals ([`state::App`]); every page is a function of it. Nothing is stored here but the chosen
//! colour theme: drafts, history and keys are the worker's.
//!
//! ```text
//!   pages ──▶ state::App (signals) ──▶ bridge ──▶ worker
//!     ▲            ▲                                 │
//!     └── parts    └────────── receive ◀─────────────┘
//! ```

// Leptos derives `pub` property structs for components that are themselves crate-private.
#![allow(unreachable_pub)]

mod bridge;
mod format;
mod pages;
mod parts;
mod shell;
mod state;

pub(crate) use nesa_page::{route, sample};

fn main() {
    console_error_panic_hook::set_once();
    if let Some(boot) = leptos::prelude::document().get_element_by_id("boot") {
        boot.remove();
    }
    leptos::mount::mount_to_body(shell::Shell);
}
