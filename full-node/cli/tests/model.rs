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
    // What compiling cost, on texts that it was not calibrated with.
    let accuracy = &compiled["accuracy"];
    assert!(accuracy["greedy_agreement"].as_f64().unwrap() > 0.8, "{accuracy}");
    assert!(accuracy["perplexity_loss"].as_f64().unwrap().abs() < 0.02, "{accuracy}");
    assert!(accuracy["tokens"].as_u64().unwrap() > 1000, "{accuracy}");
    assert!(accuracy["measured_on"].as_str().unwrap().contains("corpus"), "{accuracy}");
    let words = run(home.path(), ["model", "compile", &dir, "--out", &file, "--max-tokens", "96"]);
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    for name in ["digest", "bytes", "accuracy", "greedy_agreement", "measured_on"] {
        assert!(words.contains(name), "{name}: {words}");
    }
    let unmeasured = nesa(home.path(), &[&compile[..], &["--no-accuracy"]].concat());
    assert_eq!((unmeasured.get("accuracy"), &unmeasured["digest"]), (None, &compiled["digest"]));
    assert_eq!(info["max_tokens"], 96);

    let write = |more: &[&str]| {
        let base = ["model", "generate", &file, "--json", "--prompt", "Once upon"];
        nesa(home.path(), &[&base, more].concat())
    };
    let greedy = write(&["--tokens", "20"]);
    assert_eq!(greedy["prompt_tokens"], 9);
    assert!(greedy["tokens"].as_u64().unwrap() <= 20);
    let threaded = write(&["--tokens", "20", "--threads", "3"]);
    assert_eq!((&threaded["text"], &threaded["threads"]), (&greedy["text"], &json!(3)));
    let none = ["model", "generate", &file, "--prompt", "a", "--threads", "0"];
    assert!(!run(home.path(), none).status.success());
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

#[test]
fn a_plan_by_speed_spares_the_slow_machine() {
    let home = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/dictionary.nesa");
    let file = file.display().to_string();
    let plan =
        |more: &[&str]| nesa(home.path(), &[&["model", "plan", &file, "--json"], more].concat());
    let cuts = |plan: &Value| -> Vec<u64> { serde_json::from_value(plan["cuts"].clone()).unwrap() };
    let by_bytes = plan(&["--shards", "2"]);
    assert_eq!(by_bytes.get("by_speed"), None);
    let even = cuts(&by_bytes["by_bytes"]);
    // One that is five times as fast takes more layers, and the slowest has less to do than in the even plan.
    let by_speed = plan(&["--speeds", "5,1"]);
    assert_eq!(cuts(&by_speed["by_bytes"]), even);
    assert!(cuts(&by_speed["by_speed"])[1] > even[1], "{by_speed}");
    let slowest = |plan: &Value| plan["slowest"].as_f64().unwrap();
    assert!(slowest(&by_speed["by_speed"]) < slowest(&by_speed["by_bytes"]), "{by_speed}");
    assert_eq!(cuts(&plan(&["--speeds", "9,9"])["by_speed"]), even);
    let bytes = |plan: &Value| -> u64 {
        let shards = plan["shards"].as_array().unwrap().iter();
        shards.map(|shard| shard["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(bytes(&by_speed["by_speed"]), bytes(&by_speed["by_bytes"]));

    let measured = plan(&["--shards", "2", "--measure", "--threads", "2"])["measured"].clone();
    let times: Vec<f64> = serde_json::from_value(measured["ms_per_token"].clone()).unwrap();
    assert!(times.len() == 2 && times.iter().all(|ms| *ms > 0.0), "{measured}");
    assert!(measured["bytes_per_second"].as_u64() > Some(0), "{measured}");

    let refused = |more: &[&str], words: &str| {
        let output = run(home.path(), [&["model", "plan", &file], more].concat());
        assert_eq!(output.status.code(), Some(2), "{}", show(&output));
        assert!(show(&output).contains(words), "{}", show(&output));
    };
    refused(&["--speeds", "3,0"], "the node of shard 1 has speed 0");
    refused(&["--shards", "17"], "17 shards");
    refused(&["--shards", "0"], "0 shards");
    refused(&[], "--shards");
}

#[test]
fn from_onnx_to_a_class() {
    let home = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits");
    let path = |name: &str| digits.join(name).display().to_string();
    let (onnx, calibration) = (path("digits.onnx"), path("calibration.npy"));
    let file = home.path().join("digits.nesa").display().to_string();

    let compile = ["model", "compile", &onnx, "--out", &file, "--max-value", "16", "--json"];
    let refused = run(home.path(), compile);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--samples"), "{}", show(&refused));
    let compiled = nesa(home.path(), &[&compile[..], &["--samples", &calibration]].concat());
    let info = nesa(home.path(), &["model", "info", &file, "--json"]);
    assert_eq!((&info["digest"], &info["family"]), (&compiled["digest"], &json!("classifier")));
    assert_eq!((&info["image"], &info["classes"]), (&json!([1, 8, 8]), &json!(10)));
    let accuracy = &compiled["accuracy"];
    assert!(accuracy["agreement"].as_f64().unwrap() > 0.98, "{accuracy}");
    assert!(accuracy["logit_error"].as_f64().unwrap() < 0.05, "{accuracy}");
    assert!(accuracy["measured_on"].as_str().unwrap().contains("images"), "{accuracy}");
    let committed = nesa(home.path(), &["model", "info", &path("digits.nesa"), "--json"]);
    assert_eq!(committed["digest"], compiled["digest"]);

    let (samples, labels) = (path("held_out.npy"), path("held_out_labels.npy"));
    let eval = ["model", "eval", &file, "--original", &onnx, "--samples", &samples, "--json"];
    let eval = nesa(home.path(), &[&eval[..], &["--labels", &labels]].concat());
    assert!(eval["exact"].as_f64().unwrap() > 0.98, "{eval}");

    // The second held-out digit (the first fools the original, too), as rows of numbers and four times as large in PGM.
    let first = &std::fs::read(&samples).unwrap()[128 + 64..128 + 128];
    let label = std::fs::read(&labels).unwrap()[129];
    let rows: Vec<Vec<String>> =
        first.chunks(8).map(|r| r.iter().map(u8::to_string).collect()).collect();
    let small = home.path().join("digit.txt");
    std::fs::write(&small, rows.iter().map(|r| r.join(" ") + "\n").collect::<String>()).unwrap();
    let large: Vec<u8> = (0..32 * 32).map(|i| first[i / 32 / 4 * 8 + i % 32 / 4]).collect();
    let pgm = home.path().join("digit.pgm");
    std::fs::write(&pgm, [b"P5 32 32 16\n", &large[..]].concat()).unwrap();
    let classify = |image: &Path, more: &[&str]| {
        let image = image.display().to_string();
        let base = ["model", "classify", &file, "--json", "--image", &image];
        nesa(home.path(), &[&base, more].concat())
    };
    assert_eq!(classify(&small, &[])["class"], label);
    assert_eq!(classify(&pgm, &[])["logits"], classify(&small, &[])["logits"]);
    assert_ne!(classify(&pgm, &["--invert"])["logits"], classify(&small, &[])["logits"]);
    let absent = run(home.path(), ["model", "classify", &file, "--image", "absent.pgm"]);
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no picture"), "{}", show(&absent));
}

#[test]
fn from_a_folder_to_the_class_of_a_text() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("moods");
    std::fs::create_dir(&folder).unwrap();
    checkpoint::write_text_classifier(&folder);
    let (dir, file) = (folder.display().to_string(), home.path().join("moods.nesa"));
    let file = file.display().to_string();

    let compiled = nesa(home.path(), &["model", "compile", &dir, "--out", &file, "--json"]);
    let info = nesa(home.path(), &["model", "info", &file, "--json"]);
    assert_eq!(
        (&info["digest"], &info["family"]),
        (&compiled["digest"], &json!("text classifier"))
    );
    assert_eq!(
        (&info["name"], &info["labels"]),
        (&json!("moods"), &json!(["bad", "so so", "good"]))
    );
    let accuracy = &compiled["accuracy"];
    assert!(accuracy["agreement"].as_f64().unwrap() >= 0.95, "{accuracy}");
    assert!(accuracy["logit_error"].as_f64().unwrap() < 0.1, "{accuracy}");
    assert_eq!(accuracy["texts"], 64);

    let classify =
        |text: &str| nesa(home.path(), &["model", "classify", &file, "--text", text, "--json"]);
    let all = classify("a quiet street");
    let class = all["class"].as_u64().unwrap() as usize;
    assert_eq!(all["label"], info["labels"][class]);
    assert_eq!(all["logits"].as_array().unwrap().len(), 3);
    let shares: Vec<f64> = serde_json::from_value(all["probabilities"].clone()).unwrap();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    assert!(shares.iter().all(|share| *share <= shares[class]), "{shares:?}");
    assert_eq!(classify("A quiet  street!")["logits"], classify("a QUIET street !")["logits"]);
    // No text at all, and more than the model reads.
    assert_eq!(classify("")["tokens"], 2);
    let long = classify(&"word ".repeat(500));
    assert_eq!((&long["truncated"], &long["tokens"]), (&json!(true), &json!(32)));

    // A pair is no text of both, and which comes first counts.
    let pair = |a: &str, b: &str| {
        let pair = ["model", "classify", &file, "--text", a, "--pair", b, "--json"];
        nesa(home.path(), &pair)
    };
    assert_eq!(pair("a dog", "an animal")["tokens"], 3 + 4 + 8);
    assert_ne!(pair("a dog", "an animal")["logits"], pair("an animal", "a dog")["logits"]);
    assert_ne!(pair("a dog", "an animal")["logits"], classify("a dog an animal")["logits"]);
    assert_eq!(pair("a dog", "")["logits"], classify("a dog")["logits"]);

    let eval = ["model", "eval", &file, "--original", &dir, "--texts", "40", "--json"];
    let eval = nesa(home.path(), &eval);
    assert_eq!(eval["texts"], 40);
    assert!(eval["agreement"].as_f64().unwrap() >= 0.95, "{eval}");

    let refused = |arguments: &[&str], words: &[&str]| {
        let output = run(home.path(), arguments);
        assert!(!output.status.success(), "{}", show(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.iter().all(|w| said.contains(w)), "{said}");
    };
    refused(&["model", "embed", &file, "--text", "a"], &["classifies texts", "model classify"]);
    refused(&["model", "classify", &file], &["--image"]);

    // Half the weights, and still the original's classes.
    let small = home.path().join("small.nesa").display().to_string();
    let four = ["model", "compile", &dir, "--out", &small, "--weights", "4", "--json"];
    let four = nesa(home.path(), &four);
    let eval = nesa(
        home.path(),
        &["model", "eval", &small, "--original", &dir, "--texts", "40", "--json"],
    );
    assert_eq!((&eval["weight_bits"], &eval["digest"]), (&json!(4), &four["digest"]));
    assert!(eval["agreement"].as_f64().unwrap() >= 0.8, "{eval}");
}

#[test]
fn four_bits_on_request() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("tiny");
    std::fs::create_dir(&folder).unwrap();
    checkpoint::write(&folder);
    let dir = folder.display().to_string();
    let file = |name: &str| home.path().join(name).display().to_string();
    let (eight, four) = (file("eight.nesa"), file("four.nesa"));
    let compile = |out: &str, bits: &str| {
        nesa(home.path(), &["model", "compile", &dir, "--out", out, "--weights", bits, "--json"])
    };
    let (large, small) = (compile(&eight, "8"), compile(&four, "4"));
    assert_ne!(small["digest"], large["digest"]);
    let info = nesa(home.path(), &["model", "info", &four, "--json"]);
    assert_eq!((&info["digest"], &info["weight_bits"]), (&small["digest"], &json!(4)));
    let base = ["model", "generate", &four, "--json", "--prompt", "Once", "--tokens", "5"];
    assert!(nesa(home.path(), &base)["tokens"].as_u64().unwrap() > 0);
    let text = home.path().join("held-out.txt");
    std::fs::write(&text, "A lighthouse stands on the rock.\nShips pass it at night.\n").unwrap();
    let text = text.display().to_string();
    let eval = ["model", "eval", &dir, "--weights", "4", "--text", &text, "--json"];
    let eval = nesa(home.path(), &eval);
    assert_eq!((&eval["weight_bits"], &eval["digest"]), (&json!(4), &small["digest"]));
    assert!(eval["perplexity_loss"].is_f64(), "{eval}");
}

/// A compiled file that is cut, longer, or changed in any part says so.
#[test]
fn damaged_models_are_named() {
    let home = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits/digits.nesa");
    let whole = std::fs::read(digits).unwrap();
    let file = home.path().join("model.nesa");
    let said = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let path = file.display().to_string();
        let output = run(home.path(), ["model", "info", &path]);
        assert!(!output.status.success(), "{}", show(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = |bytes: &[u8], word: &str| {
        let said = said(bytes);
        assert!(said.contains("is not a compiled model") && said.contains(word), "{said}");
    };
    refused(b"", "the first bytes differ");
    refused(b"NESAEXM1\xff\xff\xff\xff", "header of 4294967295 bytes");
    refused(b"NESAEXM1\x10\0\0\0abc", "cut off");
    refused(&whole[..whole.len() - 1], "its header names");
    refused(&[&whole[..], b"x"].concat(), "its header names");
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    refused(&changed(whole.len() - 1), "hashes to");
    refused(&changed(0), "the first bytes differ");
    // A changed header is another model's, whose chunks these are not, or none at all.
    said(&changed(40));
}
