//! The messages the page and its worker exchange: plain serde types, nothing else.
//!
//! # Design
//!
//! ```text
//!   page (Leptos, DOM)                     worker (light client, query client, node)
//!   ───────────────────                    ─────────────────────────────────────────
//!   ToWorker  ── [json, ArrayBuffer?] ──▶  one handler, never blocks
//!   view state ◀─ [json, ArrayBuffer?] ──  FromWorker: whole views, not deltas
//! ```
//!
//! A message travels through `postMessage` as a JavaScript array `[json, bytes]`: the JSON of one
//! enum value, and for the few messages that carry a file ([`ToWorker::VerifyFile`],
//! [`FromWorker::File`]) a transferred `Uint8Array`, otherwise `undefined`.
//!
//! The worker sends *views*: a [`JobView`] or [`WalletView`] replaces the previous one. That makes a
//! reload trivial (the worker sends what it has stored), and a lost message harmless. Only
//! [`FromWorker::Progress`] and [`FromWorker::Blocks`] are increments; [`FromWorker::Written`], which
//! comes for every few tokens, is a view of one part of a job.
//!
//! The page claims nothing by itself: it shows a step as verified only when the worker reported
//! [`StepState::Verified`] for it.
#![deny(missing_docs)]

mod chain;
mod chat;
mod claim;
mod donate;
mod float;
mod from_worker;
mod job;
mod ladder;
mod lane;
mod model;
mod problem;
mod receipt;
mod status;
mod to_worker;
mod units;
mod wallet;

pub use chain::{BlockDetail, BlockRow, Collusion, ConflictView, NetworkView, NodeRow, TxRow};
pub use chat::{
    ChatDraft, ChatMessage, ChatRole, ChatSampling, Conversation, ConversationId, ConversationItem,
    StopReason, WrittenView,
};
pub use claim::{Claim, claim};
pub use donate::{
    AdapterReport, DonateLimits, DonatePhase, DonateView, PoolView, SelfTest, ServingOn,
};
pub use float::{
    FloatDraft, FloatInput, FloatKind, FloatNode, FloatOffer, FloatQuote, FloatRate, FloatRates,
    FloatReplaced, FloatSize, FloatStanding, FloatTensor, FloatValues, FloatView,
};
pub use from_worker::FromWorker;
pub use job::{
    Caught, Cost, Document, Draft, HistoryItem, JobOptions, JobPhase, JobState, JobView, LifeEvent,
    NamedNode, NodeRef, Passage, Progress, Quote, Side, Task, TaskKind, Timings,
};
pub use ladder::{NOT_PROVEN, NOT_PROVEN_FLOAT, NOT_PROVEN_SEALED, Step, StepId, StepState};
pub use lane::{
    Lane, LaneChoice, OddsRow, OddsView, OnlineView, PreparationChoice, SealedDispute, SealedNode,
    SealedQuote, SealedReplaced, SealedView, ShardRow, Standing,
};
pub use model::{ClassView, DigitView, ImageShape, LOGIT_FRACTION_BITS, ModelFamily, ModelOffer};
pub use problem::Problem;
pub use receipt::{ReceiptCheck, ReceiptKind, ReceiptReport};
pub use status::{
    ChainIdentity, ModelInfo, ModelPhase, NetworkPhase, PeerRow, RootSource, Status, Versions,
};
pub use to_worker::{ToWorker, WalletCommand};
pub use units::{JobId, RequestId, Unes};
pub use wallet::{Activity, ActivityKind, Balance, WalletState, WalletView};
