//! Decoders as they are published: the settings of SmolLM, Qwen2.5, Mistral and Llama 3.2 in folders that
//! transformers itself wrote (`config.json`, bfloat16 weights in several files with their index), read as a
//! user's folder is, against the logits that transformers computes from them.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::decoder::{
    DecoderOptions, Llama, LlamaConfig, RopeScaling, TextFiles, compile_decoder_file, exact_logits,
    f32_logits,
};
use nesa_model::Artifact;
use nesa_model::decoder::DecoderModel;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Beside each folder's weights, written by `tools/conformance/llama_published.py`.
#[derive(Deserialize)]
struct Expected {
    /// `config.json` of the whole model, as on Hugging Face.
    published: Value,
    tokens: Vec<u32>,
    logits: BTreeMap<usize, Vec<f32>>,
}

const NAMES: [&str; 4] = ["SmolLM-135M", "Qwen2.5-0.5B", "Mistral-7B-v0.1", "Llama-3.2-1B"];

fn folder(name: &str) -> (PathBuf, Expected) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/published").join(name);
    let expected = std::fs::read(dir.join("logits.json")).unwrap();
    (dir, serde_json::from_slice(&expected).unwrap())
}

/// The greatest difference between logits and those expected in some rows, and the greatest expected.
fn furthest(logits: &[f32], vocab: usize, expected: &Expected) -> (f32, f32) {
    let mut most = (0f32, 0f32);
    for (row, expected) in &expected.logits {
        for (got, expected) in logits[row * vocab..(row + 1) * vocab].iter().zip(expected) {
            most = (most.0.max((got - expected).abs()), most.1.max(expected.abs()));
        }
    }
    most
}

#[test]
fn folders_that_transformers_wrote_give_its_logits() {
    for name in NAMES {
        let (dir, expected) = folder(name);
        let files = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name());
        let weights = files.filter(|f| f.to_string_lossy().ends_with(".safetensors")).count();
        assert!(weights > 1, "{name}: the weights are in several files");
        let llama = Llama::open(&dir).unwrap();
        let logits = f32_logits(&llama, std::slice::from_ref(&expected.tokens)).unwrap().remove(0);
        let (error, size) = furthest(&logits, llama.config.vocab_size, &expected);
        println!("{name}: logits up to {size}, errors up to {error}");
        assert!(error < 1e-4 * size.max(1.0), "{name}: {error} of {size}");
    }
}

/// The logits are far enough along the text to tell settings apart that differ little at its beginning.
#[test]
fn other_settings_give_other_logits() {
    for (name, property, value) in [
        ("Llama-3.2-1B", "/rope_parameters/rope_type", json!("default")),
        ("SmolLM-135M", "/rope_parameters/rope_theta", json!(100_000.0)),
        ("Qwen2.5-0.5B", "/rope_parameters/rope_theta", json!(10_000.0)),
        ("Mistral-7B-v0.1", "/sliding_window", json!(64)),
    ] {
        let (dir, expected) = folder(name);
        let other = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(&dir).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), other.path().join(file.file_name())).unwrap();
        }
        let config = std::fs::read(dir.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        *config.pointer_mut(property).unwrap() = value;
        std::fs::write(other.path().join("config.json"), config.to_string()).unwrap();
        let llama = Llama::open(other.path()).unwrap();
        let logits = f32_logits(&llama, std::slice::from_ref(&expected.tokens)).unwrap().remove(0);
        let (error, size) = furthest(&logits, llama.config.vocab_size, &expected);
        assert!(error > 1e-3 * size, "{name}: {error} of {size}");
    }
}

#[test]
fn their_exact_form_stays_close() {
    for name in NAMES {
        let (dir, expected) = folder(name);
        let llama = Llama::open(&dir).unwrap();
        let vocab = llama.config.vocab_size as u32;
        let calibration: Vec<Vec<u32>> = (1..5)
            .map(|s| (0..128).map(|i| (i * 37 + s * s * 11 + i * i) % vocab).collect())
            .collect();
        let text = TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() };
        let options = DecoderOptions { max_tokens: Some(256), ..DecoderOptions::default() };
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("model.nesa");
        let made = compile_decoder_file(&llama, &text, &calibration, &options, &file, &mut |_| ());
        let limits = nesa_model::ModelLimits::default();
        let artifact = Artifact::open(std::fs::read(&file).unwrap(), &limits).unwrap();
        assert_eq!(artifact.digest(), made.unwrap().digest, "{name}");
        let model = DecoderModel::open(&artifact).unwrap();
        let logits = exact_logits(&model, &expected.tokens);
        let (error, size) = furthest(&logits, vocab as usize, &expected);
        println!("{name}: logits up to {size}, errors of the exact form up to {error}");
        // Random weights are the hardest, since nothing in them is small.
        assert!(error < 0.1 * size, "{name}: {error} of {size}");
    }
}

/// What is on Hugging Face, keys of older versions included, says the same of positions, heads and norms as
/// what transformers writes today.
#[test]
fn published_configurations_are_read_as_transformers_writes_them() {
    for name in NAMES {
        let (dir, expected) = folder(name);
        let whole = LlamaConfig::from_json(expected.published).unwrap();
        let cut = Llama::open(&dir).unwrap().config;
        assert_eq!(whole.model_type, cut.model_type, "{name}");
        assert_eq!(whole.rope_scaling, cut.rope_scaling, "{name}");
        assert_eq!(whole.sliding_window, cut.sliding_window, "{name}");
        assert_eq!(whole.tie_word_embeddings, cut.tie_word_embeddings, "{name}");
        assert_eq!(whole.head_dim, cut.head_dim, "{name}");
        assert_eq!(whole.max_position_embeddings, cut.max_position_embeddings, "{name}");
        let ratio = |c: &LlamaConfig| c.num_attention_heads / c.num_key_value_heads;
        assert_eq!(ratio(&whole), ratio(&cut), "{name}");
        let floats = |c: &LlamaConfig| (c.rope_theta.to_bits(), c.rms_norm_eps.to_bits());
        assert_eq!(floats(&whole), floats(&cut), "{name}");
    }
    let whole = |name: &str| LlamaConfig::from_json(folder(name).1.published).unwrap();
    // Weights of matrices alone, by the models' own cards 134.5 M, 0.49 B, 7.24 B and 1.24 B.
    let millions: Vec<usize> = NAMES.iter().map(|n| whole(n).parameters() / 1_000_000).collect();
    assert_eq!(millions, [134, 493, 7110, 1235]);
    assert_eq!(whole("Mistral-7B-v0.1").sliding_window, Some(4096));
    assert_eq!(whole("Qwen2.5-0.5B").sliding_window, None, "it says that it does not use it");
    let (factor, low, high, original) = (32.0, 1.0, 4.0, 8192.0);
    let stretched = RopeScaling::Llama3 { factor, low, high, original };
    assert_eq!(whole("Llama-3.2-1B").rope_scaling, stretched);
}
