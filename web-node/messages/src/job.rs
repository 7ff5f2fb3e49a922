//! A query from draft to history.

use serde::{Deserialize, Serialize};

use crate::{
    ChatDraft, ChatMessage, ChatSampling, ClassView, Collusion, ConversationId, DigitView,
    FloatDraft, FloatQuote, FloatTensor, FloatView, JobId, LaneChoice, Problem, RequestId,
    SealedQuote, SealedView, Step, Unes, WrittenView,
};

/// A document as the user added it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Document {
    /// Unique within the draft.
    pub id: String,
    /// File name or first words.
    pub title: String,
    /// The whole text; the worker splits it into passages.
    pub text: String,
}

/// What is to be computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Task {
    /// Rank the passages of documents by closeness to a question.
    Search {
        /// The documents.
        documents: Vec<Document>,
        /// The question.
        question: String,
    },
    /// Vectors for texts, nothing ranked.
    Embed {
        /// One vector each.
        texts: Vec<String>,
    },
    /// The next answer of a conversation, written token by token.
    Chat {
        /// Digest of a decoder the network offers, hex.
        model: String,
        /// The conversation up to the answer: an optional system message, then turns of which the
        /// last is the user's. See [`ChatMessage`] for what the model reads of them.
        messages: Vec<ChatMessage>,
        /// How the answer is written.
        sampling: ChatSampling,
        /// Where it is kept; `None` keeps the job alone.
        #[serde(default)]
        conversation: Option<ConversationId>,
        /// How it reaches the nodes.
        #[serde(default)]
        lane: LaneChoice,
    },
    /// The class of an image.
    Digit {
        /// Digest of a classifier the network offers, hex.
        model: String,
        /// Values `[channels, height, width]` of 0 to the model's greatest, in the shape that
        /// [`crate::ModelOffer::image`] names.
        image: Vec<u8>,
    },
    /// What a float model gives for some inputs.
    Float {
        /// Digest of a float model the network offers, hex.
        model: String,
        /// One tensor for each of its inputs.
        inputs: Vec<FloatTensor>,
        /// Nodes that run it.
        replicas: u8,
    },
    /// The class of a text.
    Classify {
        /// Digest of a text classifier the network offers, hex.
        model: String,
        /// The text.
        text: String,
        /// The other text of a pair, for a model that reads pairs.
        #[serde(default)]
        pair: Option<String>,
    },
}

impl Task {
    /// Which kind it is.
    pub const fn kind(&self) -> TaskKind {
        match self {
            Self::Search { .. } => TaskKind::Search,
            Self::Embed { .. } => TaskKind::Embed,
            Self::Chat { .. } => TaskKind::Chat,
            Self::Digit { .. } => TaskKind::Digit,
            Self::Float { .. } => TaskKind::Float,
            Self::Classify { .. } => TaskKind::Classify,
        }
    }
}

/// The kinds of [`Task`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskKind {
    /// Ranked passages.
    #[default]
    Search,
    /// Vectors.
    Embed,
    /// A written answer.
    Chat,
    /// The class of an image.
    Digit,
    /// Outputs of a float model.
    Float,
    /// The class of a text.
    Classify,
}

/// Choices the user may make before sending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobOptions {
    /// Name one node oneself: the strongest answer to colluding pairs.
    pub named: Option<NamedNode>,
    /// Keep what an opened receipt needs (inputs, masks, responses) until it is exported or the
    /// entry deleted. Off by default.
    pub keep_opening: bool,
    /// Refuse to pay more than this; `None` takes the quote's own limit.
    pub max_fee: Option<Unes>,
}

/// One side given to a node by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedNode {
    /// Which half it gets.
    pub side: Side,
    /// Its node key, hex.
    pub node: String,
}

/// The two halves of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Gets x − PRG(seed).
    A,
    /// Gets the seed.
    B,
}

/// The price and the exposure, before anything leaves the device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quote {
    /// The request it answers.
    pub request: RequestId,
    /// Passages found in the documents.
    pub passages: u32,
    /// Passages whose vectors this device already has: nothing is sent for them.
    pub cached: u32,
    /// Tokens after padding to the length bucket; what the nodes bill and see. Of a chat, with the
    /// most tokens that may be written.
    pub padded_tokens: u32,
    /// Tokens of a chat's prompt, as the model reads it.
    pub prompt_tokens: u32,
    /// Most tokens of a chat's answer, lowered to what the model's context leaves.
    pub max_tokens: u32,
    /// Texts cut at the model's limit.
    pub truncated: Vec<String>,
    /// Bytes to the nodes.
    pub bytes_up: u64,
    /// Bytes from the nodes.
    pub bytes_down: u64,
    /// Round trips (stages × passes).
    pub round_trips: u32,
    /// Expected price of computing.
    pub compute: Unes,
    /// Draw fee, never returned.
    pub draw_fee: Unes,
    /// Transaction fee.
    pub tx_fee: Unes,
    /// What is escrowed; what is not spent comes back.
    pub max_fee: Unes,
    /// Whether the wallet covers `max_fee`.
    pub affordable: bool,
    /// Nodes that could be drawn.
    pub candidates: u32,
    /// Odds of a colluding pair.
    pub collusion: Option<Collusion>,
    /// The committee, in the sealed lane. Bytes, round trips and padding are not told there.
    pub sealed: Option<SealedQuote>,
    /// The nodes, in the float lane. As above.
    pub float: Option<FloatQuote>,
}

/// Where a running query stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobPhase {
    /// Splitting and tokenising on this device.
    #[default]
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
    /// Answer shown; waiting for the chain to settle.
    Settling,
    /// Nothing left to do.
    Finished,
}

/// How a query ended, or that it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// Under way.
    #[default]
    Running,
    /// Answered; settlement may still be pending, see the ladder.
    Answered,
    /// Given up; `problem` says why.
    Failed,
    /// Stopped by the user.
    Cancelled,
    /// The page went away in the middle; the escrow comes back at the deadline.
    Interrupted,
}

/// Real progress, sent several times a second at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Phase.
    pub phase: JobPhase,
    /// Passes (batches) completed.
    pub pass: u32,
    /// Passes in all.
    pub passes: u32,
    /// Stages checked in this pass.
    pub stage: u32,
    /// Stages in a pass.
    pub stages: u32,
    /// Encoder layer of the current stage, from 1.
    pub layer: u32,
    /// Layers in all.
    pub layers: u32,
    /// Sent so far.
    pub bytes_up: u64,
    /// Received so far.
    pub bytes_down: u64,
    /// Since the button.
    pub elapsed_ms: f64,
}

impl Progress {
    /// Share of all stages checked, 0 to 1000.
    pub fn permille(&self) -> u64 {
        let stages = u64::from(self.stages.max(1));
        let all = u64::from(self.passes.max(1)) * stages;
        let done = u64::from(self.pass) * stages + u64::from(self.stage.min(self.stages));
        done.min(all) * 1000 / all
    }
}

/// A query, whole. Replaces the page's previous view of the same id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobView {
    /// The id.
    pub id: JobId,
    /// Milliseconds since the epoch.
    pub started_ms: f64,
    /// What was asked.
    pub kind: TaskKind,
    /// The question, the first text, or the last message of a chat.
    pub question: String,
    /// Titles of the documents searched.
    pub documents: Vec<String>,
    /// State.
    pub state: JobState,
    /// Phase and progress.
    pub progress: Progress,
    /// Lane: `masked`, `sealed` or `float`.
    pub lane: String,
    /// Verification: `freivalds`, `committee` or `statistical`.
    pub verification: String,
    /// Model digest.
    pub model: String,
    /// Query id on the chain, once included.
    pub query: Option<String>,
    /// The nodes of the current attempt.
    pub nodes: Vec<NodeRef>,
    /// Attempts used, from 1.
    pub attempts: u32,
    /// Nodes caught or missing, in order.
    pub caught: Vec<Caught>,
    /// The ladder.
    pub ladder: Vec<Step>,
    /// Ranked passages (search) or nothing yet.
    pub passages: Vec<Passage>,
    /// Vectors computed (embed).
    pub vectors: Vec<Vec<f32>>,
    /// The conversation it belongs to (chat).
    pub conversation: Option<ConversationId>,
    /// The messages sent (chat).
    pub messages: Vec<ChatMessage>,
    /// The sampling used, its seed and most tokens filled in (chat).
    pub sampling: Option<ChatSampling>,
    /// The answer as far as it is written (chat).
    pub written: Option<WrittenView>,
    /// What became of it in the sealed lane (chat).
    pub sealed: Option<SealedView>,
    /// The class found (digit).
    pub digit: Option<DigitView>,
    /// What became of it in the float lane.
    pub float: Option<FloatView>,
    /// The class found (classify).
    pub classified: Option<ClassView>,
    /// Texts cut at the model's limit.
    pub truncated: Vec<String>,
    /// Where the time went.
    pub timings: Option<Timings>,
    /// Where the money went.
    pub cost: Option<Cost>,
    /// Events in the life of the query, for the timeline.
    pub life: Vec<LifeEvent>,
    /// Whether it came from a file: no money of this device was in it, and what its ladder says was
    /// found out here from the receipts in the file.
    pub imported: bool,
    /// Whether a payment receipt can be exported.
    pub has_payment_receipt: bool,
    /// Whether an opened receipt can be exported (needs `keep_opening`).
    pub has_opening: bool,
    /// Why it failed.
    pub problem: Option<Problem>,
}

/// A node on one side of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRef {
    /// Side.
    pub side: Side,
    /// Node key, hex.
    pub node: String,
    /// Operator, hex.
    pub operator: String,
    /// Operator's name, where known.
    #[serde(default)]
    pub operator_name: Option<String>,
    /// True when the user named it.
    #[serde(default)]
    pub named: bool,
}

/// A node that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caught {
    /// The node.
    pub node: NodeRef,
    /// `wrong product`, `no answer`: opaque, never which check.
    pub what: String,
    /// What happened to the money.
    pub money: String,
    /// What was done next.
    pub next: String,
}

/// A ranked passage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Passage {
    /// Rank from 1.
    pub rank: u32,
    /// Document id.
    pub document: String,
    /// Document title.
    pub title: String,
    /// The passage.
    pub text: String,
    /// Cosine similarity of two exact vectors, −1 to 1.
    pub score: f64,
    /// True when the passage vector came from this device's cache of checked vectors.
    pub cached: bool,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// Button to answer.
    pub total_ms: f64,
    /// Escrow and draw on the chain.
    pub chain_ms: f64,
    /// On the wire and waiting, without the nodes' own time.
    pub network_ms: f64,
    /// Reported by the nodes for their products.
    pub nodes_ms: f64,
    /// Masking, norms, attention and ranking on this device.
    pub device_ms: f64,
    /// Checking every product on this device.
    pub check_ms: f64,
    /// Answer to payment, once paid.
    pub settle_ms: Option<f64>,
}

/// Where the money went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cost {
    /// Escrowed.
    pub escrowed: Unes,
    /// Paid to the nodes and the shares of the chain.
    pub paid: Unes,
    /// Not spent and still in escrow.
    pub held: Unes,
    /// When it returns, in milliseconds since the epoch.
    pub returns_ms: Option<f64>,
    /// Burned because it was disputed; known once settled.
    pub burned: Unes,
    /// Draw and transaction fees.
    pub fees: Unes,
    /// Returned; `None` until settled.
    pub returned: Option<Unes>,
}

/// One moment in a query's life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifeEvent {
    /// Milliseconds since the button.
    pub at_ms: f64,
    /// What happened.
    pub what: String,
    /// Height, where the chain was involved.
    pub height: Option<u64>,
}

/// One line of the history rail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryItem {
    /// The job.
    pub id: JobId,
    /// What was asked.
    pub kind: TaskKind,
    /// The conversation it belongs to (chat).
    pub conversation: Option<ConversationId>,
    /// Milliseconds since the epoch.
    pub started_ms: f64,
    /// The question.
    pub question: String,
    /// Documents searched.
    pub documents: u32,
    /// How it ended.
    pub state: JobState,
    /// True when every rung but the page's own is verified.
    pub all_verified: bool,
}

/// What is in the input right now, kept on the device so that a reload loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Draft {
    /// Documents added.
    pub documents: Vec<Document>,
    /// Question typed.
    pub question: String,
    /// Options chosen.
    pub options: JobOptions,
    /// The chat's input.
    pub chat: ChatDraft,
    /// The float page's input.
    pub float: FloatDraft,
    /// Text to be classified.
    pub text: String,
    /// The other text of a pair.
    pub pair: String,
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn progress_runs_from_nothing_to_all_and_never_past_it() {
        let at = |pass, stage| {
            Progress { pass, passes: 2, stage, stages: 24, ..Progress::default() }.permille()
        };
        assert_eq!(at(0, 0), 0);
        assert_eq!(at(1, 0), 500);
        assert_eq!(at(1, 24), 1000);
        assert_eq!(at(9, 99), 1000);
        assert_eq!(Progress::default().permille(), 0);
    }
}
