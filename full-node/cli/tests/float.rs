//! The float lane over a real local network: honest replicas are paid, one that runs quantised weights
//! is found out.

#![allow(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::Network;

fn model(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/float").join(file);
    path.canonicalize().expect("committed").display().to_string()
}

/// The key of node c0's operator.
fn culprit(network: &Network) -> Value {
    let text = std::fs::read_to_string(network.dir().join("network.json")).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    description["nodes"][0]["operator"].clone()
}

#[test]
fn a_replica_with_quantised_weights_is_told_apart_and_not_paid() {
    let folder = tempfile::tempdir().unwrap();
    let file = model("encoder.onnx");
    let arguments = ["--port", "0", "--scenario", "quantised", "--model", &file];
    let network = Network::start(folder.path(), &arguments);
    let input = folder.path().join("input.json");
    let tokens: Vec<u32> = (0..9u32).map(|i| (3 + i * 7) % 97).collect();
    let text = json!({ "input_ids": [tokens], "attention_mask": [[1, 1, 1, 1, 1, 1, 1, 1, 1]] });
    std::fs::write(&input, text.to_string()).unwrap();
    let (dir, input) = (network.dir(), input.display().to_string());
    let dir = dir.to_str().unwrap();

    let ask = ["query", "float", &file, "--input", &input, "--dir", dir, "--json"];
    let answer = network.json([&ask[..], &["--until-settled"]].concat());
    assert_eq!(answer["label"], "statistical evidence");
    assert_eq!(
        (&answer["lane"], &answer["verification"]),
        (&json!("float"), &json!("statistical"))
    );
    assert_eq!(answer["decision"], "agreed", "{answer}");
    let alone = network.json(["float", "run", &file, "--input", &input, "--json"]);
    assert_eq!(answer["outputs"], alone["outputs"], "the honest outputs are shown");
    let culprit = culprit(&network);
    let replicas = answer["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        let lies = replica["operator"] == culprit;
        assert_eq!(replica["agrees"], !lies, "{answer}");
        assert_eq!(replica["revealed_what_it_told"], true, "{answer}");
        let claimed = if lies { "0" } else { "2000" };
        assert_eq!(replica["claimed"], claimed, "{answer}");
    }
    assert!(replicas.iter().any(|replica| replica["operator"] == culprit), "its bond draws it");
    assert!(answer["rates"]["int8 weights pass"].is_string(), "{answer}");

    // One honest node against the culprit: no majority, no answer to rely on, and nobody paid.
    let two = network.nesa([&ask[..], &["--replicas", "2"]].concat());
    assert_eq!(two.status.code(), Some(1), "{}", support::show(&two));
    let told: Value = serde_json::from_slice(&two.stdout).unwrap();
    assert!(told["decision"].as_str().unwrap().starts_with("disagreed"), "{told}");
    assert_eq!(told["outputs"], Value::Null);
    assert!(told["replicas"].as_array().unwrap().iter().all(|r| r["agrees"] == false));

    // A calibration that does not decide what is asked stops it before anything is paid.
    let strict = network.nesa([&ask[..], &["--error-rate", "0.1"]].concat());
    assert_eq!(strict.status.code(), Some(2), "{}", support::show(&strict));
    let mlp = model("mlp.calibration.json");
    let other = network.nesa([&ask[..], &["--calibration", &mlp]].concat());
    assert_eq!(other.status.code(), Some(2), "{}", support::show(&other));
    assert!(support::show(&other).contains("another model"));
    network.stop();
}
