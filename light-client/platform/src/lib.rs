//! One facade each for spawn, time, storage, randomness and network, native and in the browser.
//!
//! Everything above this crate is written once. The two worlds differ in three ways only, and all
//! three stop here: what a task may hold (see [`MaybeSend`]), where bytes are kept, and which
//! transports exist.
//!
//! | facade | native | browser worker |
//! |---|---|---|
//! | [`task`] | tokio | the event loop |
//! | [`time`] | the system clock, tokio timers | `Date.now`, `setTimeout` |
//! | [`random`] | the operating system | `crypto.getRandomValues` |
//! | [`storage`] | a directory, written by rename | IndexedDB |
//! | [`http`] | a small HTTP/1.1 client for `http:` addresses | `fetch` |
//! | [`net`] | libp2p over WebSocket and webrtc-direct, relay server | libp2p over WebSocket, relayed |
#![deny(missing_docs)]

pub mod http;
pub mod net;
pub mod random;
pub mod storage;
pub mod task;
pub mod time;

pub use task::{BoxFuture, MaybeSend, MaybeSync};
