//! Small Llama-type checkpoints: the f32 original equals transformers, the exact form stays close to
//! it, and what cannot be compiled is named.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::decoder::{
    DecoderOptions, Llama, LlamaConfig, TextFiles, compile_decoder, compile_decoder_file,
    f32_logits,
};
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output};
use nesa_model::layout::{Tensor, TensorKind};
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, PlainDecoder};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Made by `tools/conformance/llama_logits.py`.
const CASES: &str = include_str!("data/llama_logits.json");

#[derive(Deserialize)]
struct Case {
    label: String,
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    tokens: Vec<u32>,
    logits: BTreeMap<usize, Vec<f32>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(CASES).unwrap()
}

fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As `weights` in the script.
fn weights(name: &str, count: usize) -> Vec<f32> {
    let fold = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, fold);
    let unit = |i: usize| (splitmix(seed.wrapping_add(i as u64)) >> 40) as f64 / f64::from(1 << 24);
    let value = |u: f64| if name.contains("norm") { 0.5 + u } else { (u - 0.5) / 2.0 };
    (0..count).map(|i| value(unit(i)) as f32).collect()
}

/// Writes a case as a Hugging Face folder.
fn write(case: &Case, dir: &Path, change: impl Fn(&str, &mut Vec<f32>)) {
    std::fs::write(dir.join("config.json"), case.config.to_string()).unwrap();
    let data: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = case
        .tensors
        .iter()
        .map(|(name, shape)| {
            let mut values = weights(name, shape.iter().product());
            change(name, &mut values);
            (name, (shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        })
        .collect();
    let views: BTreeMap<&String, TensorView<'_>> = data
        .iter()
        .map(|(name, (shape, bytes))| {
            (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

fn compile(llama: &Llama, tokens: &[Vec<u32>]) -> Artifact {
    let options = DecoderOptions::default();
    let text = TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() };
    compile_decoder(llama, &text, tokens, &options, &mut |_| ()).unwrap()
}

/// Token sequences other than the ones that are judged.
fn calibration(vocab: u32) -> Vec<Vec<u32>> {
    let token = |s: u64, i: u64| (splitmix(s * 1000 + i) % u64::from(vocab)) as u32;
    (1..9).map(|s| (0..64).map(|i| token(s, i)).collect()).collect()
}

fn exact_logits(model: &DecoderModel, tokens: &[u32]) -> Vec<i32> {
    let input = Input::Tokens(tokens.to_vec());
    let feed = Feed { cache: KvCache::new(), input, logits: Logits::All };
    let run = DecoderRun::start(model, vec![feed]).unwrap();
    match run.run(&PlainDecoder(model)).unwrap().remove(0).output {
        Output::Logits(l) => l,
        Output::Hidden(_) => panic!("a whole model gives logits"),
    }
}

#[test]
fn the_original_equals_transformers() {
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        write(&case, dir.path(), |_, _| ());
        let llama = Llama::open(dir.path()).unwrap();
        let got = f32_logits(&llama, std::slice::from_ref(&case.tokens)).unwrap().remove(0);
        let vocab = llama.config.vocab_size;
        for (row, expected) in &case.logits {
            for (got, expected) in got[row * vocab..].iter().zip(expected) {
                let error = (got - expected).abs();
                assert!(error < 2e-4, "{}, row {row}: {got}, expected {expected}", case.label);
            }
        }
    }
}

#[test]
fn the_exact_form_stays_close() {
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        write(&case, dir.path(), |_, _| ());
        let llama = Llama::open(dir.path()).unwrap();
        let vocab = llama.config.vocab_size;
        let artifact = compile(&llama, &calibration(vocab as u32));
        let model = DecoderModel::open(&artifact).unwrap();
        let original = f32_logits(&llama, std::slice::from_ref(&case.tokens)).unwrap().remove(0);
        let exact = exact_logits(&model, &case.tokens);
        let (mut error, mut size) = (0.0, 0.0);
        for (o, e) in original.iter().zip(&exact) {
            let e = f64::from(*e) / 65536.0;
            error += (f64::from(*o) - e).powi(2);
            size += f64::from(*o).powi(2);
        }
        let relative = (error / size).sqrt();
        println!("{}: relative error of the logits {relative:.5}", case.label);
        assert!(relative < 0.02, "{}: {relative}", case.label);
    }
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let case = cases().remove(0);
    let dir = tempfile::tempdir().unwrap();
    write(&case, dir.path(), |_, _| ());
    let llama = Llama::open(dir.path()).unwrap();
    let tokens = calibration(llama.config.vocab_size as u32);
    assert_eq!(compile(&llama, &tokens).to_file(), compile(&llama, &tokens).to_file());
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let case = cases().remove(0);
    let fails = |change: &dyn Fn(&mut Value)| {
        let mut config = case.config.clone();
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let case = Case {
            config,
            label: String::new(),
            tokens: vec![],
            logits: [].into(),
            tensors: case.tensors.clone(),
        };
        write(&case, dir.path(), |_, _| ());
        let llama = match Llama::open(dir.path()) {
            Err(error) => return error.to_string(),
            Ok(llama) => llama,
        };
        f32_logits(&llama, &[vec![1]]).unwrap_err().to_string()
    };
    let contains = |error: String, words: &[&str]| {
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    };
    contains(fails(&|c| c["model_type"] = "gpt2".into()), &["model_type", "gpt2", "llama"]);
    contains(fails(&|c| c["hidden_act"] = "gelu".into()), &["hidden_act", "gelu", "silu"]);
    contains(
        fails(&|c| c["rope_scaling"] = serde_json::json!({"rope_type": "longrope", "factor": 2.0})),
        &["rope_type", "longrope"],
    );
    contains(fails(&|c| c["num_key_value_heads"] = 3.into()), &["num_key_value_heads", "3"]);
    contains(
        fails(&|c| c["intermediate_size"] = 81.into()),
        &["model.layers.0.mlp.gate_proj.weight", "[80, 48]", "[81, 48]"],
    );
    let dir = tempfile::tempdir().unwrap();
    write(&case, dir.path(), |name, values| {
        if name == "model.layers.1.mlp.down_proj.weight" {
            values[5] = f32::NAN;
        }
    });
    let llama = Llama::open(dir.path()).unwrap();
    let error = f32_logits(&llama, &[vec![1]]).unwrap_err().to_string();
    contains(error, &["model.layers.1.mlp.down_proj.weight", "NaN"]);

    // A file cut short.
    let file = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = Llama::open(dir.path()).err().unwrap().to_string();
    contains(error, &["model.safetensors"]);
}

/// Weights of four bits: fewer bytes for the layers, and still the same function.
#[test]
fn four_bits_lose_little() {
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        write(&case, dir.path(), |_, _| ());
        let llama = Llama::open(dir.path()).unwrap();
        let vocab = llama.config.vocab_size;
        let text = TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() };
        let tokens = calibration(vocab as u32);
        let options = DecoderOptions { weights: WeightForm::Nibbles, ..DecoderOptions::default() };
        let compiled = compile_decoder(&llama, &text, &tokens, &options, &mut |_| ()).unwrap();
        let bytes = compile(&llama, &tokens);
        let layers = |a: &Artifact| {
            let tensors = &a.header().layout().tensors;
            let of_layers = |t: &&Tensor| matches!(t.kind, TensorKind::Weight(i) if i < 8);
            tensors.iter().filter(of_layers).map(|t| t.range().len()).sum::<usize>() as f64
        };
        assert!(layers(&compiled) < 0.75 * layers(&bytes), "rows of 48 fill groups of 32 badly");
        let model = DecoderModel::open(&compiled).unwrap();
        let original = f32_logits(&llama, std::slice::from_ref(&case.tokens)).unwrap().remove(0);
        let (mut error, mut size) = (0.0, 0.0);
        for (o, e) in original.iter().zip(&exact_logits(&model, &case.tokens)) {
            let e = f64::from(*e) / 65536.0;
            error += (f64::from(*o) - e).powi(2);
            size += f64::from(*o).powi(2);
        }
        let relative = (error / size).sqrt();
        println!("{}: relative error of the logits {relative:.5}", case.label);
        // Uniform random weights are the hardest, since nothing in them is small: steps sixteen times as
        // coarse as a byte's make errors about sixteen times as large. Wrong weights make them over 1.
        assert!(relative < 0.5, "{}: {relative}", case.label);
    }
}

#[test]
fn files_equal_artifacts() {
    for (case, weights) in cases().into_iter().zip([WeightForm::Bytes, WeightForm::Nibbles]) {
        let dir = tempfile::tempdir().unwrap();
        write(&case, dir.path(), |_, _| ());
        let llama = Llama::open(dir.path()).unwrap();
        let tokens = calibration(llama.config.vocab_size as u32);
        let text = TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() };
        let options = DecoderOptions { weights, ..DecoderOptions::default() };
        let artifact = compile_decoder(&llama, &text, &tokens, &options, &mut |_| ()).unwrap();
        let out = dir.path().join("model.nesa");
        let made = compile_decoder_file(&llama, &text, &tokens, &options, &out, &mut |_| ());
        assert_eq!(made.unwrap().digest, artifact.digest());
        assert_eq!(std::fs::read(&out).unwrap(), artifact.to_file());
    }
}

/// Sizes that the format cannot carry are named before anything of these sizes is read or made.
#[test]
fn sizes_beyond_the_format_are_named() {
    let case = cases().remove(0);
    for (property, value, words) in [
        ("vocab_size", 1u64 << 21, "vocab_size is 2097152, expected 1 to 2^20"),
        ("hidden_size", 1 << 40, "hidden_size is 1099511627776, expected 1 to 2^14"),
        ("intermediate_size", 1 << 20, "intermediate_size is 1048576, expected 1 to 2^17"),
        ("num_hidden_layers", 0, "num_hidden_layers is 0, expected 1 to 256"),
        ("head_dim", u64::MAX, "head_dim is 18446744073709551615, expected 1 to 256"),
        ("num_attention_heads", 1 << 60, "num_attention_heads is 1152921504606846976, expected"),
        ("num_attention_heads", 0, "num_attention_heads is 0, expected 1 to 2^10"),
        ("num_key_value_heads", 1 << 60, "num_key_value_heads is 1152921504606846976, expected"),
        ("num_key_value_heads", 0, "num_key_value_heads is 0, expected 1 to 2^10"),
        ("max_position_embeddings", 0, "max_position_embeddings is 0, expected 1 to 2^31"),
        ("rope_theta", 0, "rope_theta is 0, expected 1 to 10^12"),
        ("rms_norm_eps", 2, "rms_norm_eps is 2, expected 0 to 1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(&case, dir.path(), |_, _| ());
        let mut config = case.config.clone();
        config[property] = value.into();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let error = Llama::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Whatever numbers a configuration has, it is read or refused; what is read has sizes that can be counted.
#[test]
fn hostile_configurations_are_refused_or_counted() {
    let case = cases().remove(0);
    let properties = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "sliding_window",
    ];
    let numbers = [1, 2, 256, 1 << 10, 1 << 14, 1 << 20, 1 << 40, 1 << 60, (1 << 60) + 1, u64::MAX];
    let mut read = 0;
    for first in properties {
        for second in properties {
            for (a, b) in numbers.iter().flat_map(|a| numbers.iter().map(move |b| (*a, *b))) {
                let mut config = case.config.clone();
                config[first] = a.into();
                config[second] = b.into();
                if let Ok(config) = LlamaConfig::from_json(config) {
                    assert!(config.parameters() > 0);
                    read += 1;
                }
            }
        }
    }
    assert!(read > 100, "{read}");
}
