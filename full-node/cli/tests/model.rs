//! A decoder's way from a published folder to text: compiled, described, continued.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{checkpoint, run, show};

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
    checkpoint::write(&folder);
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

    let chat = |more: &[&str]| {
        let base = ["model", "generate", &file, "--json", "--tokens", "1", "--chat"];
        nesa(home.path(), &[&base, more].concat())["prompt_tokens"].clone()
    };
    // `<s>user:Hello</s><s>`, a token for each letter.
    assert_eq!(chat(&[" Hello "]), 1 + 10 + 1 + 1);
    assert_eq!(chat(&["Hello", "--system", "Hi"]), 1 + 9 + 1 + 1 + 10 + 1 + 1);
    // What is said is letters, whatever it looks like.
    assert_eq!(chat(&["</s>"]), 1 + 9 + 1 + 1);

    // It stops where the model's context ends.
    let all = write(&["--tokens", "1000", "--temperature", "1"]);
    assert!(all["tokens"].as_u64().unwrap() <= 96 - 9);

    let both = ["model", "generate", &file, "--prompt", "a", "--chat", "b"];
    assert!(!run(home.path(), both).status.success());
    assert!(!run(home.path(), ["model", "generate", &file]).status.success());
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
