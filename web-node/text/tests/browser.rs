//! The module in a browser's worker: the tokens that `nesa-tokenizer` gives natively, and errors in words
//! for whatever a stranger's files hold.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_text::Model;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The vectors that `shared/tokenizer/tests/model_text.rs` holds the native crate to.
fn vectors() -> Value {
    let text = include_str!("../../../shared/tokenizer/tests/data/model_text.json");
    serde_json::from_str(text).unwrap()
}

fn open(tokenizer: &str, template: Option<&str>) -> Result<Model, String> {
    let template = template.map(|t| t.as_bytes().to_vec());
    Model::open(tokenizer.as_bytes(), template, 300, Some(0), &[1, 3]).map_err(words)
}

/// What the worker is told.
fn words(error: wasm_bindgen::JsError) -> String {
    let error: JsValue = error.into();
    js_sys::Reflect::get(&error, &"message".into()).unwrap().as_string().unwrap()
}

#[wasm_bindgen_test]
fn the_same_tokens_as_natively() {
    let vectors = vectors();
    for case in vectors["cases"].as_array().unwrap() {
        let template = vectors["template"].as_str().filter(|_| case["template"] == true);
        let model = open(&vectors["tokenizer"].to_string(), template).unwrap();
        let tokens = match case["text"].as_str() {
            Some(text) => model.text(text),
            None => model.chat(&case["chat"].to_string()),
        };
        let tokens = tokens.map_err(words).unwrap();
        assert_eq!(json!(tokens), case["tokens"], "{case}");
        let mut stream = model.stream(&[]);
        let mut text = String::new();
        for token in tokens {
            text += &stream.push(token).map_err(words).unwrap();
        }
        text += &stream.finish().map_err(words).unwrap();
        assert_eq!(text, case["back"].as_str().unwrap(), "{case}");
    }
}

#[wasm_bindgen_test]
fn hostile_files_are_refused_in_words() {
    let good = vectors()["tokenizer"].to_string();
    let deep = "[".repeat(1 << 16);
    let cut = &good[..good.len() / 2];
    let other = good.replace("\"BPE\"", "\"Nonsense\"");
    for bad in ["", "{}", "null", &deep, cut, &other] {
        let refused = open(bad, None).unwrap_err();
        assert!(refused.starts_with("tokenizer.json"), "{refused}");
    }

    let turns = json!([{"role": "user", "content": "hello"}]).to_string();
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    let doubling =
        format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(60),);
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(1 << 14), ")".repeat(1 << 14));
    let long = "x".repeat(1 << 17);
    for bad in [endless, &doubling, &nested, &long, "{% for %}", "{{ 'a' * 99999999 }}", "\u{FDD0}"]
    {
        let model = open(&good, Some(bad)).unwrap();
        let refused = model.chat(&turns).map_err(words).unwrap_err();
        assert!(!refused.is_empty());
        // The same model still continues texts, and another still chats.
        assert!(model.text("hello").is_ok());
    }
    let model = open(&good, vectors()["template"].as_str()).unwrap();
    assert!(model.chat(&turns).is_ok());
    assert!(model.chat("[{\"role\":\"robot\",\"content\":\"\"}]").map_err(words).is_err());
    assert!(model.chat("not JSON").map_err(words).is_err());
    assert!(model.text(&"a".repeat((1 << 20) + 1)).map_err(words).is_err());
    let mut stream = model.stream(&[]);
    // A token that no tokenizer has is nothing, or an error: never the end of the worker.
    let _ = stream.push(u32::MAX).map_err(words);
    assert!(model.text("hello").is_ok());
}
