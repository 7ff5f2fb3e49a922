//! A decoder's way from a published folder to text: compiled, described, continued.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use support::{run, show};

const VOCAB: usize = 260;
const WIDTH: usize = 16;

/// A folder as Hugging Face publishes them: one layer, a token for each byte, made-up weights.
fn checkpoint(dir: &Path) {
    let config = json!({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCAB,
        "max_position_embeddings": 300, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 1,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut vocab = serde_json::Map::new();
    for byte in 0..=255u32 {
        // GPT-2's printable stand-ins for bytes: themselves, or code points from 256 on.
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let stand_in = if printable { byte } else { 0x100 + vocab_rank(byte) };
        vocab.insert(char::from_u32(stand_in).unwrap().to_string(), json!(byte + 2));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();

    let shapes: [(&str, Vec<usize>); 11] = [
        ("model.embed_tokens.weight", vec![VOCAB, WIDTH]),
        ("model.norm.weight", vec![WIDTH]),
        ("model.layers.0.input_layernorm.weight", vec![WIDTH]),
        ("model.layers.0.post_attention_layernorm.weight", vec![WIDTH]),
        ("model.layers.0.self_attn.q_proj.weight", vec![16, WIDTH]),
        ("model.layers.0.self_attn.k_proj.weight", vec![8, WIDTH]),
        ("model.layers.0.self_attn.v_proj.weight", vec![8, WIDTH]),
        ("model.layers.0.self_attn.o_proj.weight", vec![WIDTH, 16]),
        ("model.layers.0.mlp.gate_proj.weight", vec![24, WIDTH]),
        ("model.layers.0.mlp.up_proj.weight", vec![24, WIDTH]),
        ("model.layers.0.mlp.down_proj.weight", vec![WIDTH, 24]),
    ];
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let data: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).flat_map(|_| next().to_le_bytes()).collect();
            (name, (shape, values))
        })
        .collect();
    let views = data.iter().map(|(name, (shape, bytes))| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// How many bytes below `byte` have no printable form of their own.
fn vocab_rank(byte: u32) -> u32 {
    (0..byte).filter(|b| !matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)).count() as u32
}

fn nesa(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, arguments);
    assert!(output.status.success(), "{}", show(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn from_a_folder_to_text() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("tiny");
    std::fs::create_dir(&folder).unwrap();
    checkpoint(&folder);
    let (dir, file) = (folder.display().to_string(), home.path().join("tiny.nesa"));
    let file = file.display().to_string();

    let compile = ["model", "compile", &dir, "--out", &file, "--max-tokens", "96", "--json"];
    let compiled = nesa(home.path(), &compile);
    let info = nesa(home.path(), &["model", "info", &file, "--json"]);
    assert_eq!(info["digest"], compiled["digest"]);
    assert_eq!((&info["name"], &info["family"]), (&json!("tiny"), &json!("decoder")));
    assert_eq!(info["max_tokens"], 96);

    let write = |more: &[&str]| {
        let base = ["model", "generate", &file, "--json", "--prompt", "Once upon"];
        nesa(home.path(), &[&base, more].concat())
    };
    let greedy = write(&["--tokens", "20"]);
    assert_eq!(greedy["prompt_tokens"], 9);
    assert!(greedy["tokens"].as_u64().unwrap() <= 20);
    let warm =
        |seed| write(&["--tokens", "40", "--temperature", "1.5", "--seed", seed])["text"].clone();
    assert_eq!(warm("1"), warm("1"));
    assert_ne!(warm("1"), warm("2"));
    // It stops where the model's context ends.
    let all = write(&["--tokens", "1000", "--temperature", "1"]);
    assert!(all["tokens"].as_u64().unwrap() <= 96 - 9);

    let refused = run(home.path(), ["model", "generate", &file, "--prompt", &"x".repeat(96)]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("96 tokens, allowed 1 to 95"));
    let text = home.path().join("held-out.txt");
    std::fs::write(&text, "A lighthouse stands on the rock.\nShips pass it at night.\n").unwrap();
    let text = text.display().to_string();
    let eval = ["model", "eval", &file, "--original", &dir, "--text", &text, "--json"];
    let eval = nesa(home.path(), &eval);
    assert!(eval["perplexity_loss"].as_f64().unwrap().abs() < 0.02, "{eval}");
}
