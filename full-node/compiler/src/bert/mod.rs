//! BERT-type checkpoints: sentence encoders and text classifiers, read a layer at a time.

mod config;
mod relative;
mod vocabulary;

use nesa_model::manifest::{Activation, Pooling, Reading};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

use crate::checkpoint::{Checkpoint, read_json};
use crate::source::{Dense, SourceError};

pub use config::BertConfig;
pub(crate) use config::FeedForward;
use config::{Kind, RELATIVE_BUCKETS};
pub(crate) use vocabulary::MAX_WORD_CHARS;
pub use vocabulary::Vocabulary;

/// Longest sequence of an encoder in exact form.
const MAX_TOKENS: usize = 1024;

/// Gain and bias of a layer normalisation, each `[hidden]`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Multiplies the normalised value.
    pub gain: Vec<f32>,
    /// Added after.
    pub bias: Vec<f32>,
}

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Query, key and value, fused in that order.
    pub qkv: Dense,
    /// Attention output.
    pub attn_out: Dense,
    /// After the attention's residual sum.
    pub attn_norm: Norm,
    /// Feed-forward, up.
    pub ffn_in: Dense,
    /// Feed-forward, down.
    pub ffn_out: Dense,
    /// After the feed-forward's residual sum.
    pub ffn_norm: Norm,
}

/// The head of a text classifier.
#[derive(Clone, Debug)]
pub struct Classes {
    /// Names, in order.
    pub labels: Vec<String>,
    /// A dense layer on the first token's row, and what follows it.
    pub hidden: (Dense, Activation),
    /// The classifier itself.
    pub classes: Dense,
}

/// A BERT-type checkpoint in floating point; its layers are read when they are needed.
pub struct Bert {
    /// Its name, from the folder.
    pub name: String,
    /// Sizes.
    pub config: BertConfig,
    /// Longest sequence, special tokens included.
    pub max_tokens: usize,
    /// `[max_tokens, hidden]`: position embedding plus the embedding of segment 0.
    pub position: Vec<f32>,
    /// `[heads, 2 · max_tokens − 1]`: what is added to a score by the distance of its tokens, or nothing.
    pub relative: Vec<f32>,
    /// After the embedding sum.
    pub embed_norm: Norm,
    /// The head of a text classifier; without one, texts become unit vectors.
    pub classes: Option<Classes>,
    /// What makes tokens of texts.
    pub vocab: Vocabulary,
    /// What is read besides uncased single texts.
    pub reading: Reading,
    /// `[hidden]`: what the embedding of segment 1 has beyond that of segment 0; empty unless pairs have
    /// segments.
    pub segment: Vec<f32>,
    checkpoint: Checkpoint,
    /// What stands before the encoder's tensors' names.
    prefix: &'static str,
}

/// Names of a layer's tensors, without the layer's own.
struct Names {
    layer: &'static str,
    qkv: [&'static str; 3],
    attn_out: &'static str,
    attn_norm: &'static str,
    ffn_in: &'static str,
    ffn_out: &'static str,
    ffn_norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attn_out: "attention.output.dense",
    attn_norm: "attention.output.LayerNorm",
    ffn_in: "intermediate.dense",
    ffn_out: "output.dense",
    ffn_norm: "output.LayerNorm",
};

const MPNET: Names = Names {
    layer: "encoder.layer",
    qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attn_out: "attention.attn.o",
    attn_norm: "attention.LayerNorm",
    ffn_in: "intermediate.dense",
    ffn_out: "output.dense",
    ffn_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attn_out: "attention.out_lin",
    attn_norm: "sa_layer_norm",
    ffn_in: "ffn.lin1",
    ffn_out: "ffn.lin2",
    ffn_norm: "output_layer_norm",
};

fn dense(checkpoint: &Checkpoint, prefix: &str, n: usize, k: usize) -> Result<Dense, SourceError> {
    let weight = checkpoint.get(&format!("{prefix}.weight"), &[n, k])?;
    Ok(Dense { weight, bias: checkpoint.get(&format!("{prefix}.bias"), &[n])?, n, k })
}

fn norm(checkpoint: &Checkpoint, prefix: &str, d: usize) -> Result<Norm, SourceError> {
    // Checkpoints that were converted from TensorFlow have these names.
    let (gain, bias) = match checkpoint.has(&format!("{prefix}.gamma")) {
        true => ("gamma", "beta"),
        false => ("weight", "bias"),
    };
    Ok(Norm {
        gain: checkpoint.get(&format!("{prefix}.{gain}"), &[d])?,
        bias: checkpoint.get(&format!("{prefix}.{bias}"), &[d])?,
    })
}

/// The longest sequence that a folder's settings allow.
fn max_tokens(dir: &Path, positions: usize) -> Result<usize, SourceError> {
    let most = positions.min(MAX_TOKENS);
    for (file, name) in [
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ] {
        let path = dir.join(file);
        if path.is_file() {
            let settings: Value = read_json(&path)?;
            // Without a limit, some files hold a number that is larger than any integer.
            return Ok(settings[name].as_u64().map_or(most, |v| most.min(v.max(2) as usize)));
        }
    }
    Ok(most)
}

impl Bert {
    /// Opens a folder as Hugging Face or sentence-transformers publish it.
    ///
    /// # Errors
    /// [`SourceError`] naming the file, property or tensor at fault and what is supported.
    pub fn load(dir: &Path) -> Result<Self, SourceError> {
        let config = BertConfig::read(dir)?;
        let positions = config.max_position_embeddings - config.first_position;
        let max_tokens = max_tokens(dir, positions)?;
        let (tokenizer, count) = (dir.join("tokenizer.json"), config.vocab_size);
        let vocab = match config.kind {
            Kind::Roberta => vocabulary::brought(&tokenizer, count)?,
            _ => vocabulary::vocabulary(&tokenizer, count)?,
        };
        let checkpoint = Checkpoint::open(dir)?;
        // Checkpoints with a head of any kind name their encoder.
        let prefix = match config.kind {
            Kind::Bert => "bert.",
            Kind::DistilBert => "distilbert.",
            Kind::MpNet => "mpnet.",
            Kind::Roberta => "roberta.",
        };
        let word = "embeddings.word_embeddings.weight";
        let prefix = if checkpoint.has(&format!("{prefix}{word}")) { prefix } else { "" };
        let d = config.hidden_size;
        let mut position = checkpoint.rows(
            &format!("{prefix}embeddings.position_embeddings.weight"),
            &[config.max_position_embeddings, d],
            config.first_position..config.first_position + max_tokens,
        )?;
        // Embeddings are of single texts; classifiers read pairs too.
        let separators = if config.labels.is_some() { config.kind.separators() } else { 0 };
        let segments = separators > 0 && config.type_vocab_size > 1;
        let mut segment = Vec::new();
        if config.type_vocab_size > 0 {
            let name = format!("{prefix}embeddings.token_type_embeddings.weight");
            let shape = [config.type_vocab_size, d];
            let first = checkpoint.rows(&name, &shape, 0..1)?;
            for row in position.chunks_exact_mut(d) {
                for (p, s) in row.iter_mut().zip(&first) {
                    *p += s;
                }
            }
            if segments {
                segment = checkpoint.rows(&name, &shape, 1..2)?;
                for (s, f) in segment.iter_mut().zip(&first) {
                    *s -= f;
                }
            }
        }
        let relative = match config.kind {
            Kind::Bert | Kind::DistilBert | Kind::Roberta => Vec::new(),
            Kind::MpNet => {
                let name = format!("{prefix}encoder.relative_attention_bias.weight");
                let heads = config.num_attention_heads;
                let buckets = checkpoint.get(&name, &[RELATIVE_BUCKETS, heads])?;
                relative::by_distance(&buckets, heads, max_tokens)
            }
        };
        let is_relative = !relative.is_empty();
        let (cased, brought) = match &vocab {
            Vocabulary::WordPiece { cased, .. } => (*cased, false),
            Vocabulary::Brought { .. } => (false, true),
        };
        let reading = Reading { cased, separators, segments, relative: is_relative, brought };
        let (hidden, last) = match config.kind {
            Kind::Bert => ("bert.pooler.dense", "classifier"),
            Kind::DistilBert => ("pre_classifier", "classifier"),
            Kind::MpNet | Kind::Roberta => ("classifier.dense", "classifier.out_proj"),
        };
        let classes = config.labels.clone().map(|labels| -> Result<Classes, SourceError> {
            let activation = config.kind.classifier_activation();
            Ok(Classes {
                hidden: (dense(&checkpoint, hidden, d, d)?, activation),
                classes: dense(&checkpoint, last, labels.len(), d)?,
                labels,
            })
        });
        let name = dir.file_name().map_or_else(|| "encoder".into(), |n| n.to_string_lossy());
        Ok(Self {
            name: name.into_owned(),
            position,
            embed_norm: norm(&checkpoint, &format!("{prefix}embeddings.LayerNorm"), d)?,
            classes: classes.transpose()?,
            vocab,
            reading,
            segment,
            relative,
            max_tokens,
            config,
            checkpoint,
            prefix,
        })
    }

    /// How the rows of a text become one.
    pub fn pooling(&self) -> Pooling {
        self.config.pooling
    }

    /// Some rows of the word embedding, `[rows, hidden]`.
    pub(crate) fn words(&self, rows: Range<usize>) -> Result<Vec<f32>, SourceError> {
        let name = format!("{}embeddings.word_embeddings.weight", self.prefix);
        self.checkpoint.rows(&name, &[self.config.vocab_size, self.config.hidden_size], rows)
    }

    /// One layer.
    ///
    /// # Errors
    /// [`SourceError`] naming the tensor at fault.
    pub fn layer(&self, i: usize) -> Result<Layer, SourceError> {
        let c = &self.config;
        let (d, ff) = (c.hidden_size, c.intermediate_size);
        let names = match c.kind {
            Kind::Bert | Kind::Roberta => &BERT,
            Kind::DistilBert => &DISTILBERT,
            Kind::MpNet => &MPNET,
        };
        let name = |part: &str| format!("{}{}.{i}.{part}", self.prefix, names.layer);
        let dense = |part, n, k| dense(&self.checkpoint, &name(part), n, k);
        let norm = |part| norm(&self.checkpoint, &name(part), d);
        let [query, key, value] = names.qkv;
        let mut qkv = dense(query, d, d)?;
        for part in [key, value] {
            let more = dense(part, d, d)?;
            qkv.weight.extend(more.weight);
            qkv.bias.extend(more.bias);
            qkv.n += d;
        }
        Ok(Layer {
            qkv,
            attn_out: dense(names.attn_out, d, d)?,
            attn_norm: norm(names.attn_norm)?,
            ffn_in: dense(names.ffn_in, ff, d)?,
            ffn_out: dense(names.ffn_out, d, ff)?,
            ffn_norm: norm(names.ffn_norm)?,
        })
    }
}
