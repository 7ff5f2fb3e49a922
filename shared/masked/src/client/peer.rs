//! One server as the client sees it: what it owes, what it has said, what it is paid.

use std::collections::VecDeque;

use nesa_primitives::Hash;

use super::types::{Candidate, Link};
use crate::message::{SignedCommit, Slot};

/// An answer owed. Servers answer in order.
pub(crate) enum Expected {
    Accept,
    Product {
        slot: Slot,
        /// Digest of the request, which the answer's signature must cover.
        request: Hash,
        /// The mask it was sent under; an answer under a mask since discarded is only recorded.
        mask: u64,
    },
    Full {
        slot: Slot,
    },
    Commit,
}

pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) candidate: Candidate,
    pub(crate) owed: VecDeque<Expected>,
    /// Leaves of its commitment, in the order it answered.
    pub(crate) leaves: Vec<Hash>,
    /// The last pass it was asked to work on.
    pub(crate) pass: Option<u32>,
    /// Padded tokens of all passes it took part in.
    pub(crate) served_tokens: u32,
    /// Padded tokens covered by its running total.
    pub(crate) paid_tokens: u32,
    pub(crate) blind: Option<Hash>,
    pub(crate) commit: Option<SignedCommit>,
    /// Gone for good: nothing more is sent, and what still comes is ignored.
    pub(crate) lost: bool,
}

impl Peer {
    pub(crate) fn new(link: Link, candidate: Candidate) -> Self {
        Self {
            link,
            candidate,
            owed: VecDeque::from([Expected::Accept]),
            leaves: Vec::new(),
            pass: None,
            served_tokens: 0,
            paid_tokens: 0,
            blind: None,
            commit: None,
            lost: false,
        }
    }

    /// Notes that it works on this pass.
    pub(crate) fn enter(&mut self, pass: u32, tokens: u32) {
        if self.pass != Some(pass) {
            self.pass = Some(pass);
            self.served_tokens = self.served_tokens.saturating_add(tokens);
        }
    }
}
