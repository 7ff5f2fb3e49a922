//! The models that a network offers.

use serde::{Deserialize, Serialize};

use crate::{FloatOffer, ModelPhase, Unes};

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelFamily {
    /// Not known: its header has not been fetched.
    #[default]
    Unknown,
    /// Texts to vectors: search and embedding.
    Encoder,
    /// Texts to classes: moods, topics.
    TextClassifier,
    /// Texts to their continuation: chat.
    Decoder,
    /// Images to classes: digits.
    Classifier,
    /// Tensors to tensors, in floats: several nodes run it, and are compared.
    Float,
}

/// One model of the network. Digest, name, price, bytes, lanes and nodes are proven in state; family,
/// context and the rest come from a header that the digest names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelOffer {
    /// Digest over weights, tables, tokenizer and graph, hex.
    pub digest: String,
    /// Name for people; the digest, not the name, identifies a model.
    pub name: String,
    /// What it does.
    pub family: ModelFamily,
    /// Lanes its owner allows: `masked`, …
    pub lanes: Vec<String>,
    /// Price of one padded token on one side, in `denom`; of a float model, of one run on one node.
    pub price_per_token: Unes,
    /// 0 is NES.
    pub denom: u32,
    /// Bytes of the compiled file.
    pub bytes: u64,
    /// Bytes of it that a thin preparation downloads: everything but the weights that nodes compute with.
    pub thin_bytes: u64,
    /// Layers, of a decoder: a shard has at least one.
    pub layers: u32,
    /// Nodes in the snapshot that serve it.
    pub nodes: u32,
    /// Operators behind them: at least two are needed.
    pub operators: u32,
    /// Whether this device keeps all it needs to ask it: nothing is downloaded then.
    pub prepared: bool,
    /// Where its preparation stands in this worker. `Waiting`: not begun; see
    /// [`crate::ToWorker::PrepareModel`].
    pub phase: ModelPhase,
    /// Longest sequence in tokens, prompt and answer together; 0 for a classifier.
    pub context: u32,
    /// Linear layers that nodes compute in one pass.
    pub stages: u32,
    /// Whether it brings a chat template; see [`crate::ChatMessage`] for what is read without one.
    pub chat_template: bool,
    /// Whether it reads pairs of texts, if it classifies texts.
    pub pairs: bool,
    /// The images it looks at, if it is a classifier.
    pub image: Option<ImageShape>,
    /// What it takes and how it was measured, if it is a float model.
    pub float: Option<FloatOffer>,
}

/// The images of a classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageShape {
    /// Channels; 1 for grey.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Values in a row.
    pub width: u32,
    /// The value that the model sees as 1.
    pub greatest: u8,
    /// Classes it tells apart; 0 until the model is prepared.
    pub classes: u32,
}

/// What a classifier said of an image; every layer was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DigitView {
    /// The class with the greatest logit, the lowest of equals.
    pub class: u32,
    /// One exact integer for each class.
    pub logits: Vec<i32>,
    /// The image, so that it can be shown again.
    pub image: Vec<u8>,
    /// Its shape.
    pub shape: ImageShape,
}

/// What a text classifier said of a text; every layer was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassView {
    /// The class with the greatest logit, the lowest of equals.
    pub class: u32,
    /// The names of the classes, as the model brings them.
    pub labels: Vec<String>,
    /// One exact integer for each class, with [`LOGIT_FRACTION_BITS`] fractional bits.
    pub logits: Vec<i32>,
}

/// Fractional bits of [`ClassView::logits`].
pub const LOGIT_FRACTION_BITS: u32 = 24;
