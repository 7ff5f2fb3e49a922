//! The opened receipt: texts, masks and signed answers, for whoever the user chooses to show them.
//!
//! The lane is exact, so a verifier who has the model needs no tensor: from the texts it recomputes
//! the input of every linear stage, from the recorded seeds both shares, from the weights both
//! products; their digests are what the nodes signed. The file therefore holds 32 bytes of seed and
//! two signatures for each message, instead of a quarter of a megabyte per token.
//!
//! ```text
//! texts ─tokenise─> x ─ seed ─> shares ─ W ─> products ─ digest ─> statement ── signed by A, B
//!                   ▲                            │                    └─ leaf of the commitment
//!                   └────────── y = A + B ───────┴─ ⟨r,y⟩ = ⟨s,x⟩ under the verifier's fresh r
//! ```

mod servers;
mod stage;
mod verify;

use commonware_codec::Encode as _;
use nesa_chain::{action::Action, tx::SignedTx};
use nesa_crypto::sign::Signature;
use nesa_masked::transcript::Transcript;
use nesa_primitives::{Address, Hash};
use nesa_verify::receipt::Hex;
use serde::{Deserialize, Serialize};

use crate::query::report::{Classified, SideName};

/// First field of every opened receipt.
pub const OPENED_FORMAT: &str = "nesa-opened-receipt/1";
/// Longest file accepted, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Why a file is no opened receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenedError {
    /// Too long.
    #[error("the file has {got} bytes, an opened receipt at most {MAX_BYTES}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not JSON of this shape.
    #[error("not an opened receipt: {0}")]
    Json(String),
    /// Another format.
    #[error("format {got:?}, expected {OPENED_FORMAT:?}")]
    Format {
        /// What the file says.
        got: String,
    },
}

/// One server as the opened receipt names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedServer {
    /// Its side.
    pub side: SideName,
    /// Which candidate of the side.
    pub attempt: u8,
    /// Its key.
    pub node: Address,
    /// Its signed commitment, encoded, if it stayed to the end.
    pub commit: Option<Hex>,
    /// The blind of that commitment.
    pub blind: Hash,
    /// Digests of its statements, the leaves of the commitment, in the order answered.
    pub leaves: Vec<Hash>,
}

/// One verified message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedMessage {
    /// Encoded place: pass, tokens, stage, part.
    pub slot: Hex,
    /// The mask's seed, 32 bytes.
    pub seed: Hex,
    /// A's attempt and signature.
    pub a: (u8, Signature),
    /// B's attempt and signature.
    pub b: (u8, Signature),
}

/// A private record of one query.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedReceipt {
    /// [`OPENED_FORMAT`].
    pub format: String,
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The signed `PayForQuery` transaction.
    pub payment: Hex,
    /// Opens the commitment in it.
    pub salt: Hash,
    /// The prompt: texts, or a prompt and how it is continued, or images in hexadecimal, or texts to
    /// classify as JSON.
    pub texts: Vec<String>,
    /// Tokens guessed in each pass, one pass after another, if a model on the payer's device guessed them:
    /// they decide nothing, but were sent masked with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guesses: Option<Vec<u32>>,
    /// Digest of the answer.
    pub answer: Hash,
    /// The servers.
    pub servers: Vec<OpenedServer>,
    /// Every verified message, in order of pass, stage and part.
    pub messages: Vec<OpenedMessage>,
}

// It contains the prompt: a stray debug print must not.
impl std::fmt::Debug for OpenedReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedReceipt")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// What an opened receipt says, once it has been checked.
#[derive(Clone, PartialEq, Serialize)]
pub struct OpenedSummary {
    /// The query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// The prompt.
    pub texts: Vec<String>,
    /// The vectors, recomputed.
    pub vectors: Vec<Vec<f32>>,
    /// The text that was written, if it was one.
    pub text: Option<String>,
    /// What was said of each image or text, if they were classified.
    pub classes: Vec<Classified>,
    /// Products recomputed and compared with what was signed.
    pub products: usize,
    /// Who signed them.
    pub nodes: Vec<Address>,
}

impl std::fmt::Debug for OpenedSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedSummary").field("query", &self.query).finish_non_exhaustive()
    }
}

impl OpenedReceipt {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        chain: Hash,
        signed: SignedTx,
        salt: Hash,
        texts: Vec<String>,
        guesses: Option<Vec<u32>>,
        transcript: &Transcript,
        answer: Hash,
    ) -> Self {
        let servers = transcript
            .served
            .iter()
            .map(|served| OpenedServer {
                side: served.link.side.into(),
                attempt: served.link.attempt,
                node: served.candidate.node,
                commit: served.commit.as_ref().map(|commit| Hex::from(commit.encode())),
                // Without a commitment nothing would bind these, so they are left out.
                blind: served.commit.map_or(Hash::ZERO, |_| served.blind),
                leaves: served.commit.map_or_else(Vec::new, |_| served.leaves.clone()),
            })
            .chain(transcript.rejected.iter().map(|rejection| OpenedServer {
                side: rejection.link.side.into(),
                attempt: rejection.link.attempt,
                node: rejection.node,
                commit: None,
                blind: Hash::ZERO,
                leaves: Vec::new(),
            }))
            .filter(|server| server.commit.is_some() || signed_one(transcript, server))
            .collect();
        let mut messages: Vec<_> = transcript.opened.iter().collect();
        messages.sort_by_key(|part| (part.slot.pass, part.slot.stage, part.slot.part));
        let messages = messages
            .into_iter()
            .map(|part| OpenedMessage {
                slot: Hex::from(part.slot.encode()),
                seed: Hex::from(part.seed.encode()),
                a: (part.a.link.attempt, part.a.signature),
                b: (part.b.link.attempt, part.b.signature),
            })
            .collect();
        Self {
            format: OPENED_FORMAT.to_owned(),
            chain,
            payment: Hex::from(signed.to_bytes()),
            salt,
            texts,
            guesses,
            answer,
            servers,
            messages,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`OpenedError`] for anything but the JSON of an opened receipt.
    pub fn from_json(text: &str) -> Result<Self, OpenedError> {
        if text.len() > MAX_BYTES {
            return Err(OpenedError::TooLong { got: text.len() });
        }
        let receipt: Self =
            serde_json::from_str(text).map_err(|error| OpenedError::Json(error.to_string()))?;
        if receipt.format != OPENED_FORMAT {
            return Err(OpenedError::Format { got: receipt.format.chars().take(64).collect() });
        }
        Ok(receipt)
    }

    /// The file's text. It contains the prompt.
    ///
    /// # Errors
    /// [`OpenedError::Json`], which a well-formed receipt never gives.
    pub fn to_json(&self) -> Result<String, OpenedError> {
        serde_json::to_string(self).map_err(|error| OpenedError::Json(error.to_string()))
    }

    /// The model that checking this receipt needs, as its payment names it.
    pub fn model(&self) -> Option<Hash> {
        match SignedTx::from_bytes(&self.payment.0).ok()?.tx.action {
            Action::PayForQuery(pay) => Some(pay.model),
            _ => None,
        }
    }
}

/// Whether a server answered one of the verified messages.
fn signed_one(transcript: &Transcript, server: &OpenedServer) -> bool {
    transcript.opened.iter().any(|part| {
        let link = match server.side {
            SideName::A => part.a.link,
            SideName::B => part.b.link,
        };
        link.attempt == server.attempt
    })
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
