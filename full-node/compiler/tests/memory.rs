//! Compiling holds no more than 1.3 times the largest shard.
//!
//! The largest shard is the least that a node serving the widest part of a model must hold: the token
//! embedding and one layer, in the 32-bit floats that the compiler computes with. What a process needs
//! before it has any model is measured by compiling a tiny one, and taken off.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::decoder::{DecoderOptions, Llama, TextFiles, compile_decoder_file};
use nesa_model::manifest::WeightForm;
use serde_json::json;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

/// Tells the child what to compile.
const CHILD: &str = "NESA_TEST_COMPILE";

#[derive(Clone, Copy)]
struct Size {
    vocab: usize,
    d: usize,
    ff: usize,
    layers: usize,
    tied: bool,
}

impl Size {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { vocab, d, ff, layers, tied } = *self;
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, d])];
        for i in 0..layers {
            let mut add =
                |part: &str, shape| all.push((format!("model.layers.{i}.{part}.weight"), shape));
            for part in
                ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
            {
                add(part, vec![d, d]);
            }
            add("mlp.gate_proj", vec![ff, d]);
            add("mlp.up_proj", vec![ff, d]);
            add("mlp.down_proj", vec![d, ff]);
            add("input_layernorm", vec![d]);
            add("post_attention_layernorm", vec![d]);
        }
        all.push(("model.norm.weight".to_owned(), vec![d]));
        if !tied {
            all.push(("lm_head.weight".to_owned(), vec![vocab, d]));
        }
        all
    }

    fn bytes(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| 4 * shape.iter().product::<usize>()).sum()
    }

    /// The token embedding and one layer, as floats.
    fn largest_shard(&self) -> usize {
        4 * (self.vocab * self.d + 4 * self.d * self.d + 3 * self.d * self.ff + 2 * self.d)
    }

    /// Writes a checkpoint without holding it.
    fn write(&self, dir: &Path) {
        let config = json!({
            "model_type": "llama", "hidden_size": self.d, "intermediate_size": self.ff,
            "num_hidden_layers": self.layers, "num_attention_heads": self.d / 64,
            "num_key_value_heads": self.d / 64, "vocab_size": self.vocab, "rope_theta": 10000.0,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": self.tied,
        });
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let (mut header, mut at) = (serde_json::Map::new(), 0);
        for (name, shape) in self.tensors() {
            let end = at + 4 * shape.iter().product::<usize>();
            header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}));
            at = end;
        }
        let header = serde_json::to_string(&header).unwrap();
        let mut file =
            BufWriter::new(std::fs::File::create(dir.join("model.safetensors")).unwrap());
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        let mut state = 1u32;
        for (name, shape) in self.tensors() {
            for _ in 0..shape.iter().product() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let unit = f64::from(state >> 8) / f64::from(1 << 24);
                let value = if name.contains("norm") { 0.5 + unit } else { (unit - 0.5) / 8.0 };
                file.write_all(&(value as f32).to_le_bytes()).unwrap();
            }
        }
        file.flush().unwrap();
    }
}

fn kilobytes(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What the other tests start as a process of its own; by itself it does nothing.
#[test]
fn child() {
    let Ok(asked) = std::env::var(CHILD) else { return };
    let (form, dir) = asked.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let llama = Llama::open(dir).unwrap();
    let text = TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() };
    let vocab = llama.config.vocab_size as u32;
    let calibration: Vec<Vec<u32>> =
        (0..3).map(|s| (0..128).map(|i| (s * 7919 + i * 104_729) % vocab).collect()).collect();
    let weights = if form == "4" { WeightForm::Nibbles } else { WeightForm::Bytes };
    let options = DecoderOptions { weights, ..DecoderOptions::default() };
    let out = dir.join("out.nesa");
    let made =
        compile_decoder_file(&llama, &text, &calibration, &options, &out, &mut |_| ()).unwrap();
    assert_eq!(std::fs::metadata(&out).unwrap().len(), made.bytes as u64);
    println!("peak {}", kilobytes("VmHWM:"));
}

/// Most memory that compiling takes, in bytes.
fn peak(form: &str, dir: &Path) -> usize {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(CHILD, format!("{form} {}", dir.display()))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = printed.split("peak ").nth(1).unwrap_or_else(|| panic!("{output:?}"));
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn compiling_holds_little_more_than_the_largest_shard() {
    let tiny = Size { vocab: 64, d: 64, ff: 64, layers: 1, tied: true };
    let tied = Size { vocab: 40_000, d: 384, ff: 1024, layers: 4, tied: true };
    let untied = Size { tied: false, ..tied };
    let dir = tempfile::tempdir().unwrap();
    tiny.write(dir.path());
    let before = peak("8", dir.path());
    for (form, size) in [("8", tied), ("8", untied), ("4", tied)] {
        let dir = tempfile::tempdir().unwrap();
        size.write(dir.path());
        let taken = peak(form, dir.path()).saturating_sub(before);
        let shard = size.largest_shard();
        println!(
            "{form} bits: a checkpoint of {} MB, largest shard {} MB, held {} MB beside {} MB",
            size.bytes() / 1_000_000,
            shard / 1_000_000,
            taken / 1_000_000,
            before / 1_000_000
        );
        assert!(taken * 10 <= shard * 13, "{taken} bytes, 1.3 times {shard} allowed");
    }
}

/// A process that ends in the middle leaves no file of the model's name, and one that was there stays.
#[test]
fn a_killed_compiler_leaves_no_half_file() {
    let size = Size { vocab: 20_000, d: 128, ff: 512, layers: 6, tied: true };
    let dir = tempfile::tempdir().unwrap();
    size.write(dir.path());
    let out = dir.path().join("out.nesa");
    std::fs::write(&out, b"the one before").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("8 {}", dir.path().display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Until some of it is on disk.
    let part = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        let mut parts = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".part"));
        parts.any(|e| e.metadata().is_ok_and(|m| m.len() > 0))
    };
    while !part(dir.path()) {
        assert!(child.try_wait().unwrap().is_none(), "the compiler ended before it wrote");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), b"the one before");

    // The next one replaces it.
    peak("8", dir.path());
    assert!(std::fs::read(&out).unwrap().starts_with(b"NESAEXM1"));
}
