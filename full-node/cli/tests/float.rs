//! The float lane over a real local network: honest replicas are paid, one that runs quantised weights
//! is found out.

#![allow(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{sys::signal, unistd::Pid};
use serde_json::{Value, json};
use support::{Network, slow};

fn model(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/float").join(file);
    path.canonicalize().expect("committed").display().to_string()
}

/// An input of the encoder.
fn tokens(folder: &Path) -> String {
    let input = folder.join("input.json");
    let tokens: Vec<u32> = (0..9u32).map(|i| (3 + i * 7) % 97).collect();
    let text = json!({ "input_ids": [tokens], "attention_mask": [[1, 1, 1, 1, 1, 1, 1, 1, 1]] });
    std::fs::write(&input, text.to_string()).unwrap();
    input.display().to_string()
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
    let (dir, input) = (network.dir(), tokens(folder.path()));
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

/// Node c0, whose bond draws it, stands still: a spare takes its place, answers, and is paid.
#[test]
fn a_spare_takes_the_place_of_a_node_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = model("encoder.onnx");
    let network =
        Network::start(folder.path(), &["--port", "0", "--scenario", "silent", "--model", &file]);
    let (dir, input) = (network.dir(), tokens(folder.path()));
    let dir = dir.to_str().unwrap();
    let pids = network.pids();
    let pid = pids.iter().find(|(name, _)| name == "c0").expect("it runs").1;
    signal::kill(Pid::from_raw(pid), signal::Signal::SIGSTOP).unwrap();

    let ask = ["query", "float", &file, "--input", &input, "--dir", dir, "--json"];
    let answer = network.json([&ask[..], &["--until-settled"]].concat());
    signal::kill(Pid::from_raw(pid), signal::Signal::SIGCONT).unwrap();
    assert_eq!(answer["decision"], "agreed", "{answer}");
    let lost = answer["replaced"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{answer}");
    assert_eq!(lost[0]["operator"], culprit(&network), "{answer}");
    let replicas = answer["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        assert_ne!(replica["node"], lost[0]["node"], "{answer}");
        assert_eq!(replica["agrees"], true, "{answer}");
        assert_eq!(replica["revealed_what_it_told"], true, "{answer}");
        assert_eq!(replica["claimed"], "2000", "{answer}");
    }
    network.stop();
}

/// The processes that run `file` now.
fn engines(file: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            let mut words = line.split(|&byte| byte == 0);
            words.clone().any(|word| word == b"engine") && words.any(|word| word == file.as_bytes())
        })
        .count()
}

/// A graph whose loop runs for hours passes every check before it runs. It costs its nodes the time of
/// one query, and nothing else: its processes are gone, and another model is served as ever.
#[test]
fn a_graph_that_never_ends_does_not_hold_its_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slow.onnx");
    let slow = slow::graph();
    assert!(
        slow == include_bytes!("../../../www/tests/fixtures/slow.onnx"),
        "browsers get the same"
    );
    std::fs::write(&file, slow).unwrap();
    // A copy: the networks of other tests run the original at the same time.
    for name in ["encoder.onnx", "encoder.calibration.json"] {
        std::fs::copy(model(name), folder.path().join(name)).unwrap();
    }
    let other = folder.path().join("encoder.onnx").display().to_string();
    let file = file.display().to_string();
    let network =
        Network::start(folder.path(), &["--port", "0", "--model", &file, "--model", &other]);
    let (dir, input) = (network.dir(), folder.path().join("x.json"));
    let dir = dir.to_str().unwrap();
    std::fs::write(&input, r#"{ "x": [0.5] }"#).unwrap();
    // Nobody can measure this model; the thresholds of another one serve to ask for it.
    let info = network.json(["float", "info", &file, "--json"]);
    let text = std::fs::read_to_string(model("mlp.calibration.json")).unwrap();
    let mut calibration: Value = serde_json::from_str(&text).unwrap();
    for (field, of) in [("model", "digest"), ("plan", "plan")] {
        calibration[field] = info[of].clone();
    }
    let forged = folder.path().join("slow.calibration.json");
    std::fs::write(&forged, calibration.to_string()).unwrap();

    let input = input.display().to_string();
    let ask = ["query", "float", &file, "--input", &input, "--dir", dir, "--json"];
    let asked = Instant::now();
    let told = network.nesa(ask);
    assert_eq!(told.status.code(), Some(1), "{}", support::show(&told));
    let answer: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(answer["decision"].as_str().unwrap().starts_with("undecided"), "{answer}");
    assert_eq!(answer["outputs"], Value::Null);
    let replicas = answer["replicas"].as_array().unwrap();
    assert!(replicas.iter().all(|replica| replica["problem"].is_string()), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(90), "{:?}", asked.elapsed());
    support::wait_for("its processes are ended", || (engines(&file) == 0).then_some(()));

    let input = tokens(folder.path());
    let answer =
        network.json(["query", "float", &other, "--input", &input, "--dir", dir, "--json"]);
    assert_eq!(answer["decision"], "agreed", "{answer}");
    assert!(engines(&other) > 0, "kept for the next run");
    network.stop();
    support::wait_for("they end with their nodes", || (engines(&other) == 0).then_some(()));
}
