//! One local network, used in order: start, ask, check, attack, kill, restart, stop.
//!
//! The steps share a network because starting one is most of the cost. Each is a function, named in
//! the order it runs; a failure names its step by its line.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod answers;
mod failures;
mod records;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use answers::*;
use failures::*;
use records::*;
use serde_json::Value;
use support::{
    Network, files_containing, http, logs, run, show, tiny_decoder, tiny_text_classifier,
};

/// Text that appears nowhere by chance.
const TEXT: &str = "zebra-quartz confidential: the merger closes on the ninth of May";
/// Seconds from payment to settlement: enough on a busy machine, short for a test.
const DEADLINE: &str = "15";

#[test]
fn one_network_from_start_to_stop() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let tiny = tiny_decoder(folder.path());
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-minilm-l6-v2.nesa");
    let encoder = encoder.display().to_string();
    let digits = digits("digits.nesa");
    let moods = tiny_text_classifier(folder.path());
    let models = [&encoder, &tiny, &digits, &moods].map(|model| ["--model", model]).concat();
    let models = [&["--port", "0"], &models[..]].concat();
    let network = Network::start(folder.path(), &models);
    ready_line_and_lock(&network);
    http_interface(&network);
    status(&network);
    let first = embed(&network);
    receipts(&network, &first);
    a_text_is_the_one_this_machine_writes_alone(&network, &tiny);
    a_chat_is_answered_as_this_machine_would(&network, &tiny);
    shards_write_the_same_text_and_reveal_equal_traces(&network, &tiny);
    pictures_get_the_class_this_machine_gives_alone(&network, &digits);
    texts_get_the_class_this_machine_gives_alone(&network, &moods);
    foreign_trust_root(&network);
    the_rest_returns(&network, &first);
    search(&network);
    a_model_is_fetched_as_it_was_compiled(&network, &tiny);
    a_client_that_does_not_pay(&network);
    a_killed_node_claims_what_it_was_signed_for(&network);
    crashed_children_come_back(&network);
    nothing_secret_is_written(&network);

    let (trust_root, rpc) =
        (network.field("trust_root").to_owned(), network.field("rpc").to_owned());
    let before = height(&rpc);
    network.kill_everything();
    let network = Network::start(folder.path(), &["--link-delay-ms", "2", "--link-mbit", "500"]);
    assert_eq!(network.field("trust_root"), trust_root, "the chain is the same");
    assert_eq!(network.field("rpc"), rpc, "the ports are the same");
    assert!(height(&rpc) >= before, "nothing final is forgotten");
    nodes_are_reached_over_the_line(&network);
    let again = ask(&network, &[]);
    assert_eq!(again["vector"], first["vector"], "exact arithmetic gives the same answer");
    verify(&network, Path::new(first["receipt"].as_str().expect("a path"))).expect_success();
    network.stop();
}

fn ready_line_and_lock(network: &Network) {
    for name in ["playground", "rpc", "trust_root", "chain_id"] {
        assert!(!network.field(name).is_empty());
    }
    let second = network.nesa(["up", "--dir", path(&network.dir()), "--port", "0"]);
    assert_eq!(second.status.code(), Some(4), "{}", show(&second));
    for (name, file) in [("v0", "validator.key"), ("v0", "faucet.key"), ("c0", "node.key")] {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(network.dir().join(name).join(file)).expect("exists");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}/{file}");
    }
}

fn http_interface(network: &Network) {
    let rpc = network.field("rpc");
    let answer = http::get(rpc, "/v1/status");
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-security-policy", "default-src 'none'"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert!(answer.header(name).is_some_and(|got| got.starts_with(value)), "{name}");
    }
    let status = answer.json();
    assert_eq!(status["chain_id"], network.ready["chain_id"]);
    let height = status["head"]["height"].as_u64().expect("a height");
    let block = http::get(rpc, &format!("/v1/block/{height}")).json();
    assert_eq!(block["height"], height);
    assert!(block["transactions"].is_array());

    let bootstrap = http::get(rpc, "/v1/bootstrap").json();
    assert_eq!(bootstrap["trust_root"], network.ready["trust_root"]);
    assert_eq!(bootstrap["peers"].as_array().map(Vec::len), Some(4));
    assert_eq!(bootstrap["models"][0]["digest"], network.ready["model"]);
    assert!(http::get(rpc, "/v1/models").json()["models"][0]["price_per_token"].is_string());

    for (path, status) in [
        ("/v1/block/x", 400),
        ("/v1/block/99999999", 404),
        ("/v1/account/12", 400),
        ("/v1/query/00", 400),
        ("/v1/nowhere", 404),
    ] {
        let answer = http::get(rpc, path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
    }
    let refused = http::post(rpc, "/v1/tx", r#"{"tx":"00ff"}"#);
    assert_eq!(refused.status, 400);
    assert!(refused.json()["expected"].is_string());
    assert_eq!(http::post(rpc, "/v1/tx", &"0".repeat(200_000)).status, 413);
    assert!(http::first_event(rpc, "/v1/blocks").contains("event: block"));
    assert!(http::get(rpc, "/v1/metrics").body.contains("nesa_height "));
}

fn status(network: &Network) {
    let status = network.json(["status", "--dir", path(&network.dir()), "--json"]);
    let nodes = status["nodes"].as_array().expect("nodes");
    assert!(nodes.len() >= 4);
    let mut operators: Vec<&str> =
        nodes.iter().map(|node| node["operator"].as_str().expect("an operator")).collect();
    operators.sort_unstable();
    operators.dedup();
    assert!(operators.len() >= 3);
    let nowhere = run(&network.root.join("elsewhere"), ["status"]);
    assert_eq!(nowhere.status.code(), Some(3), "{}", show(&nowhere));
}

/// Asks the network about [`TEXT`].
fn ask(network: &Network, more: &[&str]) -> Value {
    let dir = network.dir();
    let mut arguments = vec!["query", "embed", "--dir", path(&dir), "--text", TEXT, "--json"];
    arguments.extend(["--deadline", DEADLINE]);
    arguments.extend(more);
    network.json(arguments)
}

fn embed(network: &Network) -> Value {
    let opened = network.root.join("opened.json");
    let answer = ask(
        network,
        &[
            "--rpc",
            network.field("rpc"),
            "--trust-root",
            network.field("trust_root"),
            "--open-receipt",
            path(&opened),
        ],
    );
    let vector: Vec<f64> =
        serde_json::from_value(answer["vector"].clone()).expect("a list of numbers");
    let norm: f64 = vector.iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-3, "a unit vector, got {norm}");
    assert_eq!(answer["model"], network.ready["model"]);
    assert_eq!(answer["lane"], "masked");
    assert_eq!(answer["verification"], "freivalds");
    assert_eq!(answer["attempts"], 1);
    assert_eq!(answer["rejected"], serde_json::json!([]));
    assert!(answer["timings"].is_object() && answer["bytes"].is_object());
    for step in answer["ladder"].as_array().expect("a ladder") {
        let expected = if step["id"] == "page-code" { "not-checked" } else { "verified" };
        assert_eq!(step["state"], expected, "{step}");
    }
    let operators: Vec<&Value> =
        answer["nodes"].as_array().expect("nodes").iter().map(|node| &node["operator"]).collect();
    assert_eq!(operators.len(), 2);
    assert_ne!(operators[0], operators[1], "A and B are of different operators");
    answer
}

fn foreign_trust_root(network: &Network) {
    let root = network.field("trust_root");
    let at = root.len() - 1;
    let other = format!("{}{}", &root[..at], if root.ends_with('4') { '5' } else { '4' });
    let rpc = network.field("rpc");
    let refused =
        network.nesa(["query", "embed", "--rpc", rpc, "--trust-root", &other, "--text", "x"]);
    assert_eq!(refused.status.code(), Some(1), "{}", show(&refused));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("got") && message.contains("expected"), "{message}");
    let broken =
        network.nesa(["query", "embed", "--rpc", rpc, "--trust-root", "zz", "--text", "x"]);
    assert_eq!(broken.status.code(), Some(2), "{}", show(&broken));
}

fn search(network: &Network) {
    let docs = network.root.join("docs");
    std::fs::create_dir_all(&docs).expect("made");
    for (name, text) in [
        ("bread.md", "Knead the dough for ten minutes and let it rise overnight."),
        ("lease.txt", "The tenant pays the rent on the first day of every month."),
        ("stars.txt", "The telescope showed two moons beside the bright planet."),
    ] {
        std::fs::write(docs.join(name), text).expect("written");
    }
    let question = "When is the rent due?";
    let dir = network.dir();
    let arguments = [
        "query",
        "search",
        "--dir",
        path(&dir),
        "--docs",
        path(&docs),
        "--question",
        question,
        "--deadline",
        DEADLINE,
        "--json",
    ];
    let found = network.json(arguments);
    assert_eq!(found["results"][0]["title"], "lease.txt", "{}", found["results"]);
    assert_eq!(found["results"].as_array().map(Vec::len), Some(3));
    assert!(found["results"][0]["score"].as_f64() > found["results"][1]["score"].as_f64());
}

/// No prompt and no key in any log, data directory, block or cache. Receipts that the user asked to
/// open, and the key files themselves, are the places where they belong.
fn nothing_secret_is_written(network: &Network) {
    let mut needles = vec![("the prompt", TEXT.as_bytes().to_vec())];
    needles.push(("part of the prompt", b"zebra-quartz".to_vec()));
    for file in ["v0/p2p.key", "v0/faucet.key", "c0/operator.key", "c0/node.key"] {
        let text = std::fs::read_to_string(network.dir().join(file)).expect("readable");
        let key: Value = serde_json::from_str(&text).expect("a key file");
        let seed = key["seed"].as_str().expect("a seed").to_owned();
        needles.push(("a seed", support::unhex(&seed)));
        needles.push(("a seed in hexadecimal", seed.into_bytes()));
    }
    let wallet = network.root.join("home/keys/default.json");
    let wallet: Value =
        serde_json::from_str(&std::fs::read_to_string(wallet).expect("readable")).expect("a key");
    let seed = wallet["seed"].as_str().expect("a seed").to_owned();
    needles.push(("the wallet's seed", support::unhex(&seed)));
    needles.push(("the wallet's seed in hexadecimal", seed.into_bytes()));

    let keys = |found: &String| !found.ends_with(".key") && !found.ends_with("keys/default.json");
    let mut found = files_containing(&network.dir(), &needles);
    found.extend(files_containing(&network.root.join("home"), &needles));
    found.retain(keys);
    assert!(found.is_empty(), "{found:#?}");

    let rpc = network.field("rpc");
    for at in 1..=height(rpc) {
        let block = http::get(rpc, &format!("/v1/block/{at}")).body;
        for (name, needle) in &needles {
            let hex: String = needle.iter().map(|b| format!("{b:02x}")).collect();
            assert!(!block.contains(&hex), "{name} in block {at}");
        }
    }
}

fn height(rpc: &str) -> u64 {
    http::get(rpc, "/v1/status").json()["head"]["height"].as_u64().expect("a height")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a test's path is UTF-8")
}
