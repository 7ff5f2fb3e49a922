//! `config.json` of a Llama-type checkpoint.

use serde::Deserialize;

use crate::source::SourceError;

/// What the compiler needs of `config.json`, defaults filled in.
#[derive(Clone, Debug)]
pub struct LlamaConfig {
    /// `llama`, `mistral` or `qwen2`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Positions a token looks back on; `None` for all.
    pub sliding_window: Option<usize>,
    /// Whether the head's weight is the embedding.
    pub tie_word_embeddings: bool,
}

/// Stretching of rotary frequencies for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3's: long waves divided, short ones kept, a blend between.
    Llama3 {
        /// Divisor of long waves.
        factor: f64,
        /// Waves longer than `original / low` are long.
        low: f64,
        /// Waves shorter than `original / high` are short.
        high: f64,
        /// Context before stretching.
        original: f64,
    },
    /// YaRN (Peng et al., 2023).
    Yarn {
        /// Divisor of long waves.
        factor: f64,
        /// Turns over the original context above which a wave is kept.
        beta_fast: f64,
        /// Turns below which it is divided.
        beta_slow: f64,
        /// Context before stretching.
        original: f64,
        /// Multiplies queries and keys.
        attention: f64,
    },
}

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    #[serde(default = "default_act")]
    hidden_act: String,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
}

fn default_positions() -> usize {
    2048
}
fn default_epsilon() -> f64 {
    1e-6
}
fn default_act() -> String {
    "silu".into()
}

fn unsupported(what: &'static str, got: impl ToString, expected: &'static str) -> SourceError {
    SourceError::Unsupported { what, got: got.to_string(), expected }
}

/// Widest head that attention is computed for.
const MAX_HEAD: usize = 256;

/// Model types whose graph is the one compiled here.
const TYPES: [&str; 3] = ["llama", "mistral", "qwen2"];

impl LlamaConfig {
    /// Whether a model type is compiled here.
    pub fn knows(model_type: &str) -> bool {
        TYPES.contains(&model_type)
    }

    /// Reads a parsed `config.json`.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] naming the first property with no exact form.
    pub fn from_json(value: serde_json::Value) -> Result<Self, SourceError> {
        let raw: Raw = serde_json::from_value(value)
            .map_err(|e| SourceError::Parse { path: "config.json".into(), error: e.to_string() })?;
        if !Self::knows(&raw.model_type) {
            let expected = "llama, mistral or qwen2";
            return Err(unsupported("model_type", &raw.model_type, expected));
        }
        if raw.hidden_act != "silu" {
            return Err(unsupported("hidden_act", &raw.hidden_act, "silu"));
        }
        // Before anything of these sizes is made.
        for (what, got, most, allowed) in [
            ("hidden_size", raw.hidden_size, 1 << 14, "1 to 2^14"),
            ("intermediate_size", raw.intermediate_size, 1 << 17, "1 to 2^17"),
            ("num_hidden_layers", raw.num_hidden_layers, 256, "1 to 256"),
            ("vocab_size", raw.vocab_size, 1 << 20, "1 to 2^20"),
            ("num_attention_heads", raw.num_attention_heads, 1 << 10, "1 to 2^10"),
            ("num_key_value_heads", raw.num_key_value_heads.unwrap_or(1), 1 << 10, "1 to 2^10"),
            ("max_position_embeddings", raw.max_position_embeddings, 1 << 31, "1 to 2^31"),
            ("head_dim", raw.head_dim.unwrap_or(1), MAX_HEAD, "1 to 256"),
        ] {
            if !(1..=most).contains(&got) {
                return Err(unsupported(what, got, allowed));
            }
        }
        let heads = raw.num_attention_heads;
        if raw.head_dim.is_none() && !raw.hidden_size.is_multiple_of(heads) {
            return Err(unsupported("num_attention_heads", heads, "a divisor of hidden_size"));
        }
        let head_dim = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        if head_dim > MAX_HEAD {
            return Err(unsupported("hidden_size for each head", head_dim, "1 to 256"));
        }
        let kv_heads = raw.num_key_value_heads.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(unsupported("num_key_value_heads", kv_heads, "a divisor of the heads"));
        }
        // Qwen2 names a window that only applies when it says so.
        let sliding_window = match raw.use_sliding_window {
            Some(false) => None,
            Some(true) if raw.model_type == "qwen2" => {
                return Err(unsupported("use_sliding_window", true, "false for qwen2"));
            }
            _ => raw.sliding_window,
        };
        let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
        let theta = rope.and_then(|r| r.rope_theta).or(raw.rope_theta).unwrap_or(10_000.0);
        // A base of 1 or less turns no pair slower than another.
        for (what, got, range, allowed) in [
            ("rms_norm_eps", Some(raw.rms_norm_eps), 0.0..=1.0, "0 to 1"),
            ("rope_theta", Some(theta), 1.0..=1e12, "1 to 10^12"),
            ("rope factor", rope.and_then(|r| r.factor), 1e-3..=1e6, "0.001 to 10^6"),
            (
                "original_max_position_embeddings",
                rope.and_then(|r| r.original_max_position_embeddings),
                1.0..=f64::from(1u32 << 31),
                "1 to 2^31",
            ),
        ] {
            if let Some(got) = got.filter(|got| !range.contains(got)) {
                return Err(unsupported(what, got, allowed));
            }
        }
        let (rope_scaling, stretched) = match rope {
            None => (RopeScaling::None, true),
            Some(r) => scaling(r, raw.max_position_embeddings as f64)?,
        };
        let mut max_position_embeddings = raw.max_position_embeddings;
        if !stretched {
            // Dynamic scaling changes nothing within the original context, so that is what is kept.
            let original = rope.and_then(|r| r.original_max_position_embeddings);
            max_position_embeddings = original.map_or(max_position_embeddings, |o| o as usize);
        }
        Ok(Self {
            model_type: raw.model_type,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            vocab_size: raw.vocab_size,
            max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta: theta,
            rope_scaling,
            sliding_window,
            tie_word_embeddings: raw.tie_word_embeddings,
        })
    }

    /// Weights of the linear maps, the head's included. At most 256 · 2^14 · 2^20 with the sizes that are
    /// read.
    pub fn parameters(&self) -> usize {
        let (d, q) = (self.hidden_size, self.num_attention_heads * self.head_dim);
        let layer = d * (self.qkv_width() + q + 3 * self.intermediate_size);
        self.num_hidden_layers * layer + self.vocab_size * d
    }

    /// Width of the fused query, key and value.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
    }
}

/// The scaling, and whether it reaches beyond the original context.
fn scaling(r: &RawRope, context: f64) -> Result<(RopeScaling, bool), SourceError> {
    let kind = r.rope_type.as_deref().unwrap_or("default");
    let factor = || r.factor.ok_or_else(|| unsupported("rope factor", "absent", "a number"));
    let original = r.original_max_position_embeddings;
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "llama3" => RopeScaling::Llama3 {
            factor: factor()?,
            low: r.low_freq_factor.unwrap_or(1.0),
            high: r.high_freq_factor.unwrap_or(4.0),
            original: original.unwrap_or(8192.0),
        },
        "yarn" => {
            if r.mscale.is_some() {
                return Err(unsupported("rope mscale", "set", "absent"));
            }
            let factor = factor()?;
            let attention = 0.1 * libm::log(factor.max(1.0)) + 1.0;
            RopeScaling::Yarn {
                factor,
                beta_fast: r.beta_fast.unwrap_or(32.0),
                beta_slow: r.beta_slow.unwrap_or(1.0),
                original: original.unwrap_or(context),
                attention: r.attention_factor.unwrap_or(attention),
            }
        }
        "dynamic" => return Ok((RopeScaling::None, false)),
        other => {
            let expected = "default, linear, dynamic, llama3 or yarn";
            return Err(unsupported("rope_type", other, expected));
        }
    };
    Ok((scaling, true))
}
