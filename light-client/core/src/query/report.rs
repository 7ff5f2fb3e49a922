//! What a query says about itself: before, during and after.

use std::sync::Arc;

use nesa_masked::{client::Candidate, origin::Origin, preparation::Preparation};
use nesa_model::{Embedding, classifier::best};
use nesa_platform::{MaybeSend, MaybeSync};
use nesa_primitives::{Address, Amount, Hash};
use serde::{Deserialize, Serialize};

use crate::ladder::LadderStep;

/// The two halves of the split, as JSON and the page name them.
pub use nesa_chain::Side;

/// The price and the exposure, before anything leaves the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Texts or images to be computed.
    pub texts: usize,
    /// Indices of texts that are cut at the model's limit.
    pub truncated: Vec<usize>,
    /// Tokens of each pass after padding to its bucket; what the nodes bill and see.
    pub passes: Vec<usize>,
    /// Their sum.
    pub padded_tokens: u64,
    /// Linear stages in a pass.
    pub stages: usize,
    /// Bytes to both nodes.
    pub bytes_up: u64,
    /// Bytes from both nodes.
    pub bytes_down: u64,
    /// What both nodes earn if they serve everything, in unes.
    pub compute: Amount,
    /// What the draws may cost; not returned.
    pub draw_fee: Amount,
    /// Fee of the transaction.
    pub tx_fee: Amount,
    /// What is escrowed; the unspent part returns.
    pub max_fee: Amount,
}

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Splitting and tokenising on this device.
    Tokenizing,
    /// Paying into escrow.
    Escrowing,
    /// Waiting for the view whose seed draws the nodes.
    Drawing,
    /// Opening both links.
    Connecting,
    /// Stage by stage.
    Computing,
    /// Collecting signed commitments.
    Binding,
    /// Answer known; waiting for the chain to pay.
    Settling,
    /// Nothing left to do.
    Finished,
}

/// A node on one side of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// Which half it gets.
    pub side: SideName,
    /// Its key.
    pub node: Address,
    /// Who runs it, by its own word.
    pub operator: Address,
    /// Whether the user named it.
    pub named: bool,
}

/// [`Side`] with names in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SideName {
    /// Gets x − PRG(seed).
    A,
    /// Gets the seed.
    B,
}

impl From<Side> for SideName {
    fn from(side: Side) -> Self {
        match side {
            Side::A => Self::A,
            Side::B => Self::B,
        }
    }
}

impl From<SideName> for Side {
    fn from(side: SideName) -> Self {
        match side {
            SideName::A => Self::A,
            SideName::B => Self::B,
        }
    }
}

/// Who made the s that a query's products were checked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PreparationUsed {
    /// This device, from weights that it checked against the model's digest.
    Local,
    /// Two nodes, each on a uniform share of r.
    Thin {
        /// The two. Neither operator served the query.
        preparers: Vec<PreparerRef>,
    },
}

/// A node that had part in a thin preparation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparerRef {
    /// Its key.
    pub node: Address,
    /// Who runs it.
    pub operator: Address,
}

impl PreparationUsed {
    /// Of this preparation.
    pub fn of(preparation: &Preparation) -> Self {
        match preparation.origin() {
            Origin::Local => Self::Local,
            Origin::Thin { preparers } => {
                let name = |p: &Candidate| PreparerRef { node: p.node, operator: p.operator };
                Self::Thin { preparers: preparers.iter().map(name).collect() }
            }
        }
    }

    /// In words, with what the check then assumes.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Local => "made on this device from hash-checked weights",
            Self::Thin { .. } => {
                "made by two other nodes on shares of r, and tested on random inputs: holds unless \
                 both of them and a computing node collude, or all four serve the same wrong weights"
            }
        }
    }
}

/// A node that was replaced, or not used any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its key.
    pub node: Address,
    /// Who runs it.
    pub operator: Address,
    /// Its side.
    pub side: SideName,
    /// Opaque: `wrong product` or `no answer`, never which check.
    pub reason: String,
}

/// How far the computation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageProgress {
    /// Pass under way, from 0.
    pub pass: usize,
    /// Passes in all.
    pub passes: usize,
    /// Stages checked in this pass.
    pub stage: usize,
    /// Stages in a pass.
    pub stages: usize,
    /// Bytes sent so far, both sides.
    pub bytes_up: u64,
    /// Bytes received so far, both sides.
    pub bytes_down: u64,
}

/// What happens while a query runs.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A new phase.
    Phase(Phase),
    /// The price, before the payment is signed.
    Quote(Quote),
    /// The payment was handed to the network under this id.
    Paid {
        /// The query.
        query: Hash,
        /// What it may cost at most.
        max_fee: Amount,
    },
    /// These nodes serve from now on.
    Nodes {
        /// Attempts so far, from 1.
        attempt: u32,
        /// Both sides.
        nodes: Vec<NodeRef>,
    },
    /// A stage was checked.
    Stage(StageProgress),
    /// A node was replaced.
    Rejected(Rejected),
    /// A rung changed.
    Step(Box<LadderStep>),
    /// More of the text being written. Every layer behind it has been checked.
    Text {
        /// What is new.
        piece: String,
        /// Tokens so far.
        tokens: usize,
    },
    /// The answer, before payment.
    Answer(Arc<Answer>),
    /// Something worth a line in the query's timeline, with the height where the chain had part.
    Note {
        /// In words.
        what: String,
        /// Height.
        height: Option<u64>,
    },
}

/// The checked answer.
#[derive(Clone)]
pub struct Answer {
    /// What was computed.
    pub content: Content,
    /// BLAKE3 over the integers behind it (values of vectors, indices of tokens, logits): what "the displayed
    /// bytes" means.
    pub digest: Hash,
}

/// What was computed.
#[derive(Clone)]
pub enum Content {
    /// One unit vector per text, in the order given.
    Vectors(Vec<Embedding>),
    /// A text.
    Text(WrittenText),
    /// One class per image or text, in the order given.
    Classes(Vec<Classified>),
}

/// What a classifier says of an image or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classified {
    /// The class of the greatest logit, the lowest of equals.
    pub class: usize,
    /// The class's name, of a model that brings names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The logits, `[classes]`; of a text with [`nesa_model::EMBEDDING_FRACTION_BITS`] fractional bits.
    pub logits: Vec<i32>,
}

impl Classified {
    /// What `logits` say of classes of these names, or of classes without names.
    pub(crate) fn new(logits: Vec<i32>, labels: &[String]) -> Self {
        let class = best(&logits).unwrap_or_default();
        Self { class, label: labels.get(class).cloned(), logits }
    }
}

/// A text that continues a prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct WrittenText {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Whether it came to its end, or was cut at the most tokens asked for.
    pub ended: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({})", self.digest)
    }
}

impl Answer {
    pub(crate) fn new(model: &Hash, content: Content) -> Self {
        let digest = match &content {
            Content::Vectors(vectors) => super::answer_digest(model, vectors),
            Content::Text(text) => {
                let mut hasher = nesa_primitives::domain("written text", model);
                for token in &text.tokens {
                    hasher.update(&token.to_le_bytes());
                }
                hasher.update(&[text.ended.into()]);
                hasher.finalize().into()
            }
            Content::Classes(inputs) => {
                let mut hasher = nesa_primitives::domain("logits", model);
                for input in inputs {
                    hasher.update(&(input.logits.len() as u64).to_le_bytes());
                    for logit in &input.logits {
                        hasher.update(&logit.to_le_bytes());
                    }
                }
                hasher.finalize().into()
            }
        };
        Self { content, digest }
    }

    /// The vectors; none if it is something else.
    pub fn vectors(&self) -> &[Embedding] {
        match &self.content {
            Content::Vectors(vectors) => vectors,
            _ => &[],
        }
    }

    /// What was said of each image or text; none if it is something else.
    pub fn classes(&self) -> &[Classified] {
        match &self.content {
            Content::Classes(inputs) => inputs,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&WrittenText> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// In words: what the digest stands for.
    pub(crate) fn summary(&self) -> String {
        match &self.content {
            Content::Vectors(vectors) => format!("{} vectors", vectors.len()),
            Content::Text(text) => format!("a text of {} tokens", text.tokens.len()),
            Content::Classes(inputs) => format!("classes of {} inputs", inputs.len()),
        }
    }
}

/// A listener for progress. Called in order, must not block.
#[derive(Clone)]
pub struct Listener(Arc<dyn Listen>);

/// What a listener does; implemented for closures.
pub trait Listen: MaybeSend + MaybeSync {
    /// Takes one event.
    fn take(&self, progress: Progress);
}

impl<F: Fn(Progress) + MaybeSend + MaybeSync> Listen for F {
    fn take(&self, progress: Progress) {
        self(progress);
    }
}

impl Listener {
    /// A listener that calls `f`.
    pub fn new(f: impl Listen + 'static) -> Self {
        Self(Arc::new(f))
    }

    /// A listener that ignores everything.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Passes an event on.
    pub fn say(&self, progress: Progress) {
        self.0.take(progress);
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::none()
    }
}

/// Where the time went, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Call to answer.
    pub total_ms: f64,
    /// Escrow and draw on the chain.
    pub chain_ms: f64,
    /// Round trips: one for each linear stage of each pass, at the rate measured when the links
    /// were opened.
    pub network_ms: f64,
    /// The rest of the waiting: the nodes' products and the transfer of shares.
    pub nodes_ms: f64,
    /// From the draw until both links stood; a part of the rest of the waiting.
    #[serde(default)]
    pub connect_ms: f64,
    /// Masking, norms, attention on this device.
    pub device_ms: f64,
    /// Checking every product on this device, measured on the same shapes.
    pub check_ms: f64,
    /// Answer to payment, once paid.
    pub settle_ms: Option<f64>,
}

/// Bytes moved, frames included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesMoved {
    /// Sent to A.
    pub a_up: u64,
    /// Received from A.
    pub a_down: u64,
    /// Sent to B.
    pub b_up: u64,
    /// Received from B.
    pub b_down: u64,
}

impl BytesMoved {
    /// Sent to both.
    pub fn up(&self) -> u64 {
        self.a_up + self.b_up
    }

    /// Received from both.
    pub fn down(&self) -> u64 {
        self.a_down + self.b_down
    }
}

/// Where the money went, in unes. Proven in state once paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Escrowed.
    pub escrowed: Amount,
    /// Paid to the nodes, the model's owner, the validators and the treasury.
    pub paid: Amount,
    /// Not spent and still in escrow; nothing once settled.
    pub held: Amount,
    /// When it returns, less what is claimed or burned until then: the deadline, in ms since 1970.
    pub returns_ms: Option<u64>,
    /// Burned because it was disputed; nothing before the deadline.
    pub burned: Amount,
    /// Draw and transaction fees.
    pub fees: Amount,
    /// Returned to the payer; `None` until settled.
    pub returned: Option<Amount>,
}
