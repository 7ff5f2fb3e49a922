//! The model as published: a folder with `config.json`, `model.safetensors` and `tokenizer.json`.

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A folder that does not hold a model this compiler understands.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file could not be parsed.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        error: String,
    },
    /// The model is of a kind that has no exact form here.
    #[error("unsupported model: {what} is {got}, expected {expected}")]
    Unsupported {
        /// Which property.
        what: &'static str,
        /// Its value.
        got: String,
        /// What is supported.
        expected: &'static str,
    },
    /// A tensor is absent or of another shape.
    #[error("tensor {name}: {error}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        error: String,
    },
}

/// Sizes from `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Must be `bert`.
    pub model_type: String,
    /// Must be `gelu`.
    pub hidden_act: String,
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
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
}

/// A linear map `y = w·x + b`, `w` row-major `[n, k]`.
#[derive(Clone, Debug)]
pub struct Dense {
    /// `[n, k]`.
    pub weight: Vec<f32>,
    /// `[n]`.
    pub bias: Vec<f32>,
    /// Output width.
    pub n: usize,
    /// Input width.
    pub k: usize,
}

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

/// A BERT sentence encoder in floating point.
#[derive(Clone, Debug)]
pub struct Bert {
    /// Name of the folder's model, for the manifest.
    pub name: String,
    /// Sizes.
    pub config: Config,
    /// Longest sequence the sentence encoder takes, special tokens included.
    pub max_tokens: usize,
    /// `[vocab, hidden]`.
    pub word: Vec<f32>,
    /// `[max_tokens, hidden]`: position embedding plus the embedding of segment 0.
    pub position: Vec<f32>,
    /// After the embedding sum.
    pub embed_norm: Norm,
    /// The layers.
    pub layers: Vec<Layer>,
    /// Tokens in index order.
    pub vocab: Vec<String>,
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, SourceError> {
    let text = std::fs::read(path).map_err(|error| SourceError::Io { path: path.into(), error })?;
    serde_json::from_slice(&text)
        .map_err(|e| SourceError::Parse { path: path.into(), error: e.to_string() })
}

fn expect(what: &'static str, got: &str, expected: &'static str) -> Result<(), SourceError> {
    if got == expected {
        Ok(())
    } else {
        Err(SourceError::Unsupported { what, got: got.to_owned(), expected })
    }
}

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: usize,
}

struct Reader<'a>(SafeTensors<'a>);

impl Reader<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SourceError> {
        let fail = |error: String| SourceError::Tensor { name: name.to_owned(), error };
        let view = self.0.tensor(name).map_err(|e| fail(e.to_string()))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(fail(format!(
                "{:?} {:?}, expected F32 {shape:?}",
                view.dtype(),
                view.shape()
            )));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fail("holds a value that is not finite".into()));
        }
        Ok(values)
    }

    fn dense(&self, prefix: &str, n: usize, k: usize) -> Result<Dense, SourceError> {
        Ok(Dense {
            weight: self.get(&format!("{prefix}.weight"), &[n, k])?,
            bias: self.get(&format!("{prefix}.bias"), &[n])?,
            n,
            k,
        })
    }

    fn norm(&self, prefix: &str, d: usize) -> Result<Norm, SourceError> {
        Ok(Norm {
            gain: self.get(&format!("{prefix}.weight"), &[d])?,
            bias: self.get(&format!("{prefix}.bias"), &[d])?,
        })
    }
}

impl Bert {
    /// Reads a folder as the sentence-transformers project publishes it.
    ///
    /// # Errors
    /// [`SourceError`] naming the file, property or tensor at fault.
    pub fn load(dir: &Path) -> Result<Self, SourceError> {
        let config: Config = read_json(&dir.join("config.json"))?;
        expect("model_type", &config.model_type, "bert")?;
        expect("hidden_act", &config.hidden_act, "gelu")?;
        let sentence: SentenceConfig = read_json(&dir.join("sentence_bert_config.json"))?;
        let max_tokens = sentence.max_seq_length.min(config.max_position_embeddings);
        let vocab = vocabulary(&dir.join("tokenizer.json"), config.vocab_size)?;

        let path = dir.join("model.safetensors");
        let file =
            File::open(&path).map_err(|error| SourceError::Io { path: path.clone(), error })?;
        // SAFETY: the map is private and read only; if another process shortens the file meanwhile
        // the compiler is killed by SIGBUS, which harms nobody.
        let map = unsafe { memmap2::Mmap::map(&file) }
            .map_err(|error| SourceError::Io { path: path.clone(), error })?;
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|e| SourceError::Parse { path, error: e.to_string() })?;
        let r = Reader(tensors);

        let (d, ff) = (config.hidden_size, config.intermediate_size);
        let mut position =
            r.get("embeddings.position_embeddings.weight", &[config.max_position_embeddings, d])?;
        position.truncate(max_tokens * d);
        let segment = r.get("embeddings.token_type_embeddings.weight", &[2, d])?;
        for row in position.chunks_exact_mut(d) {
            for (p, s) in row.iter_mut().zip(&segment[..d]) {
                *p += s;
            }
        }
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            let p = format!("encoder.layer.{i}");
            let mut qkv = r.dense(&format!("{p}.attention.self.query"), d, d)?;
            for part in ["key", "value"] {
                let more = r.dense(&format!("{p}.attention.self.{part}"), d, d)?;
                qkv.weight.extend(more.weight);
                qkv.bias.extend(more.bias);
                qkv.n += d;
            }
            layers.push(Layer {
                qkv,
                attn_out: r.dense(&format!("{p}.attention.output.dense"), d, d)?,
                attn_norm: r.norm(&format!("{p}.attention.output.LayerNorm"), d)?,
                ffn_in: r.dense(&format!("{p}.intermediate.dense"), ff, d)?,
                ffn_out: r.dense(&format!("{p}.output.dense"), d, ff)?,
                ffn_norm: r.norm(&format!("{p}.output.LayerNorm"), d)?,
            });
        }
        Ok(Self {
            name: "all-MiniLM-L6-v2".into(),
            word: r.get("embeddings.word_embeddings.weight", &[config.vocab_size, d])?,
            position,
            embed_norm: r.norm("embeddings.LayerNorm", d)?,
            layers,
            vocab,
            max_tokens,
            config,
        })
    }
}

#[derive(Deserialize)]
struct TokenizerFile {
    normalizer: Normalizer,
    pre_tokenizer: Typed,
    model: WordPieceFile,
}

#[derive(Deserialize)]
struct Normalizer {
    r#type: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
struct WordPieceFile {
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    unk_token: String,
    vocab: std::collections::BTreeMap<String, usize>,
}

/// Words of more characters become `[UNK]`; the published tokenizer's own limit.
pub(crate) const MAX_WORD_CHARS: u16 = 100;

fn vocabulary(path: &Path, size: usize) -> Result<Vec<String>, SourceError> {
    let file: TokenizerFile = read_json(path)?;
    expect("normalizer", &file.normalizer.r#type, "BertNormalizer")?;
    expect("pre-tokenizer", &file.pre_tokenizer.r#type, "BertPreTokenizer")?;
    expect("subword prefix", &file.model.continuing_subword_prefix, "##")?;
    expect("unknown token", &file.model.unk_token, "[UNK]")?;
    let n = &file.normalizer;
    if !(n.clean_text && n.handle_chinese_chars && n.lowercase && n.strip_accents != Some(false))
        || file.model.max_input_chars_per_word != usize::from(MAX_WORD_CHARS)
    {
        return Err(SourceError::Unsupported {
            what: "tokenizer settings",
            got: "others".into(),
            expected: "uncased BERT with words of at most 100 characters",
        });
    }
    let mut vocab = vec![String::new(); size];
    for (token, index) in file.model.vocab {
        match vocab.get_mut(index) {
            Some(slot) if slot.is_empty() && !token.contains('\n') => *slot = token,
            _ => {
                return Err(SourceError::Unsupported {
                    what: "vocabulary entry",
                    got: format!("{token:?} at {index}"),
                    expected: "one token per index, without line breaks",
                });
            }
        }
    }
    Ok(vocab)
}
