//! `config.json` of a BERT-type checkpoint.

use nesa_model::manifest::{Activation, Pooling};
use serde_json::Value;
use std::path::Path;

use crate::checkpoint::read_json;
use crate::source::SourceError;

/// What the compiler needs of the configuration of a BERT, DistilBERT, RoBERTa or MPNet.
#[derive(Clone, Debug)]
pub struct BertConfig {
    /// Whose names the tensors have.
    pub(crate) kind: Kind,
    /// Activation of the feed-forward.
    pub(crate) activation: FeedForward,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Row of the position embedding that the first token has.
    pub(crate) first_position: usize,
    /// Rows of the segment embedding; 0 for none.
    pub(crate) type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
    /// How the rows of a text become one.
    pub pooling: Pooling,
    /// Names of the classes of a text classifier; `None` for an embedding.
    pub(crate) labels: Option<Vec<String>>,
}

/// Buckets of distances between tokens, for both directions.
pub(crate) const RELATIVE_BUCKETS: usize = 32;

/// Whose names the tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bert,
    DistilBert,
    MpNet,
    Roberta,
}

/// The activations of feed-forwards; each is `max(x, 0)` less something even and small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedForward {
    /// `x·Φ(x)`.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    Relu,
}

pub(super) fn expect(
    what: &'static str,
    got: &str,
    expected: &'static str,
) -> Result<(), SourceError> {
    if got == expected {
        Ok(())
    } else {
        Err(SourceError::Unsupported { what, got: got.to_owned(), expected })
    }
}

fn unsupported<T>(
    what: &'static str,
    got: &Value,
    expected: &'static str,
) -> Result<T, SourceError> {
    Err(SourceError::Unsupported { what, got: got.to_string(), expected })
}

impl Kind {
    /// What follows a classifier's hidden layer.
    pub(crate) fn classifier_activation(self) -> Activation {
        match self {
            Self::Bert | Self::MpNet | Self::Roberta => Activation::Tanh,
            Self::DistilBert => Activation::Relu,
        }
    }

    /// Tokens that stand between the texts of a pair.
    pub(crate) fn separators(self) -> u8 {
        match self {
            Self::Bert | Self::DistilBert => 1,
            Self::MpNet | Self::Roberta => 2,
        }
    }

    /// What begins and what ends a text.
    pub(crate) fn specials(self) -> [&'static str; 2] {
        match self {
            Self::Bert | Self::DistilBert => ["[CLS]", "[SEP]"],
            Self::MpNet | Self::Roberta => ["<s>", "</s>"],
        }
    }
}

impl BertConfig {
    /// Whether a `model_type` is read here.
    pub fn knows(model_type: &str) -> bool {
        matches!(model_type, "bert" | "distilbert" | "roberta" | "mpnet")
    }

    /// Reads the configuration of a folder.
    ///
    /// # Errors
    /// [`SourceError`] naming the property and what is supported.
    pub(crate) fn read(dir: &Path) -> Result<Self, SourceError> {
        let json: Value = read_json(&dir.join("config.json"))?;
        let kind = match json["model_type"].as_str() {
            Some("bert") => Kind::Bert,
            Some("distilbert") => Kind::DistilBert,
            Some("roberta") => Kind::Roberta,
            Some("mpnet") => Kind::MpNet,
            _ => {
                return unsupported(
                    "model_type",
                    &json["model_type"],
                    "bert, distilbert, roberta, mpnet, llama, mistral or qwen2",
                );
            }
        };
        let size = |bert: &'static str, distil: &'static str| -> Result<usize, SourceError> {
            let what = if kind == Kind::DistilBert { distil } else { bert };
            let got = &json[what];
            let value = got.as_u64().and_then(|v| usize::try_from(v).ok());
            match value.filter(|v| (1..=1 << 20).contains(v)) {
                Some(value) => Ok(value),
                None => unsupported(what, got, "1 to 2^20"),
            }
        };
        let name = if kind == Kind::DistilBert { "activation" } else { "hidden_act" };
        let activation = match json[name].as_str() {
            Some("gelu") => FeedForward::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => FeedForward::GeluTanh,
            Some("relu") => FeedForward::Relu,
            _ => return unsupported(name, &json[name], "gelu, gelu_new or relu"),
        };
        let positions = &json["position_embedding_type"];
        if !matches!(positions.as_str(), None | Some("absolute")) {
            return unsupported("position_embedding_type", positions, "absolute");
        }
        let buckets = &json["relative_attention_num_buckets"];
        // transformers reads so many whatever the configuration says.
        if kind == Kind::MpNet && buckets.as_u64().is_some_and(|n| n != RELATIVE_BUCKETS as u64) {
            return unsupported("relative_attention_num_buckets", buckets, "32");
        }
        let first_position = match kind {
            Kind::Bert | Kind::DistilBert => 0,
            // Positions are counted from behind the one of padding.
            Kind::MpNet | Kind::Roberta => {
                json["pad_token_id"].as_u64().unwrap_or(1).min(1 << 20) as usize + 1
            }
        };
        let (labels, pooling) = purpose(dir, &json)?;
        let config = Self {
            kind,
            activation,
            hidden_size: size("hidden_size", "dim")?,
            intermediate_size: size("intermediate_size", "hidden_dim")?,
            num_attention_heads: size("num_attention_heads", "n_heads")?,
            num_hidden_layers: size("num_hidden_layers", "n_layers")?,
            vocab_size: size("vocab_size", "vocab_size")?,
            max_position_embeddings: size("max_position_embeddings", "max_position_embeddings")?,
            type_vocab_size: match kind {
                Kind::Bert | Kind::Roberta => {
                    json["type_vocab_size"].as_u64().unwrap_or(2).min(1 << 20) as usize
                }
                Kind::DistilBert | Kind::MpNet => 0,
            },
            first_position,
            layer_norm_eps: json["layer_norm_eps"].as_f64().unwrap_or(1e-12),
            pooling,
            labels,
        };
        if config.first_position >= config.max_position_embeddings {
            let what = "max_position_embeddings";
            return unsupported(what, &json[what], "more than the index of padding");
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let got = format!("{} of {}", config.num_attention_heads, config.hidden_size);
            return unsupported("heads and hidden size", &got.into(), "a divisor");
        }
        Ok(config)
    }
}

/// Whether a checkpoint classifies texts, with the names of the classes, or embeds them, and how.
fn purpose(dir: &Path, json: &Value) -> Result<(Option<Vec<String>>, Pooling), SourceError> {
    let architecture = json["architectures"][0].as_str().unwrap_or("BertModel");
    if architecture.ends_with("ForSequenceClassification") {
        return Ok((Some(labels(json)?), Pooling::First));
    }
    let described = dir.join("1_Pooling/config.json");
    let is_sentence_encoder =
        described.is_file() || dir.join("sentence_bert_config.json").is_file();
    if !architecture.ends_with("Model") && !is_sentence_encoder {
        return unsupported(
            "architecture",
            &architecture.into(),
            "BertModel, DistilBertModel, RobertaModel, MPNetModel, or one of their ForSequenceClassification",
        );
    }
    if !described.is_file() {
        return Ok((None, Pooling::Mean));
    }
    let pooling: Value = read_json(&described)?;
    let modes: Vec<&str> = pooling
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, on)| name.starts_with("pooling_mode_") && **on == true)
        .map(|(name, _)| name.as_str())
        .collect();
    let pooling = match modes[..] {
        ["pooling_mode_mean_tokens"] => Pooling::Mean,
        ["pooling_mode_cls_token"] => Pooling::First,
        ["pooling_mode_max_tokens"] => Pooling::Greatest,
        _ => {
            return unsupported(
                "pooling",
                &modes.into(),
                "one of pooling_mode_mean_tokens, pooling_mode_cls_token and pooling_mode_max_tokens",
            );
        }
    };
    Ok((None, pooling))
}

fn labels(json: &Value) -> Result<Vec<String>, SourceError> {
    let kind = &json["problem_type"];
    // The greatest of several answers at once is none of them.
    if !matches!(kind.as_str(), None | Some("single_label_classification")) {
        return unsupported("problem_type", kind, "single_label_classification");
    }
    let given = json["id2label"].as_object();
    let count = given.map_or(json["num_labels"].as_u64().unwrap_or(2), |g| g.len() as u64);
    let count = u16::try_from(count).unwrap_or(0);
    let label = |i: u16| match given {
        None => Some(format!("LABEL_{i}")),
        Some(given) => given.get(&i.to_string())?.as_str().map(str::to_owned),
    };
    let labels: Option<Vec<String>> = (0..count).map(label).collect();
    match labels.filter(|l| !l.is_empty() && !l.iter().any(|l| l.contains('\n'))) {
        Some(labels) => Ok(labels),
        None => unsupported("id2label", &json["id2label"], "a name for each of 1 to 65535 classes"),
    }
}
