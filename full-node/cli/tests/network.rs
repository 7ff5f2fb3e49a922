//! One local network, used in order: start, ask, check, attack, kill, restart, stop.
//!
//! The steps share a network because starting one is most of the cost. Each is a function, named in
//! the order it runs; a failure names its step by its line.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::path::Path;

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

fn a_text_is_the_one_this_machine_writes_alone(network: &Network, tiny: &str) {
    let how = ["--prompt", TEXT, "--tokens", "9", "--temperature", "1", "--seed", "5", "--json"];
    let alone = network.json([&["model", "generate", tiny], &how[..]].concat());
    let base = ["query", "generate", "--rpc", network.field("rpc")];
    let base = [&base[..], &["--trust-root", network.field("trust_root")], &how].concat();
    let opened = network.root.join("opened-text.json");
    let asked = network.json([&base[..], &["--open-receipt", path(&opened)]].concat());
    assert_eq!((&asked["text"], &asked["tokens"]), (&alone["text"], &alone["tokens"]));
    assert_eq!(asked["model"], network.ready["models"][1]);
    assert_eq!(asked["rejected"], serde_json::json!([]));
    assert!(asked["receipt"].is_string());
    let root = network.field("trust_root");
    let check = ["receipt", "verify", path(&opened), "--trust-root", root, "--model", tiny];
    let report = network.json([&check[..], &["--json"]].concat());
    assert_eq!(report["summary"]["text"], alone["text"]);
    // Guesses change neither the text nor what stands for it, and cost bytes.
    let drafted = network.json([&base[..], &["--draft", "3"]].concat());
    assert_eq!((&drafted["text"], &drafted["digest"]), (&asked["text"], &asked["digest"]));
    assert!(drafted["bytes"]["up"].as_u64() > asked["bytes"]["up"].as_u64());
    // Nor do those of a model on this machine, which the opened receipt keeps.
    let guess = ["--draft-model", tiny, "--draft", "3", "--open-receipt", path(&opened)];
    let drafted = network.json([&base[..], &guess].concat());
    assert_eq!((&drafted["text"], &drafted["digest"]), (&asked["text"], &asked["digest"]));
    let report = network.json([&check[..], &["--json"]].concat());
    assert_eq!(report["summary"]["text"], alone["text"]);
    let refused = network.nesa([&base[..], &["--draft-model", "Cargo.toml"]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    // Two more nodes prepare; the text stays the same.
    let thin = network.json([&base[..], &["--preparation", "thin"]].concat());
    assert_eq!((&thin["text"], &thin["tokens"]), (&alone["text"], &alone["tokens"]));
    assert_eq!(thin["preparation"]["kind"], "thin");
    // An encoder writes nothing.
    let encoder = network.field("model");
    let refused = network.nesa([&base[..], &["--model", encoder]].concat());
    assert!(show(&refused).contains("the model's family is encoder, expected decoder"));
}

/// A chat goes through the model's template on this device, and its answer is the one that this machine
/// alone would write.
fn a_chat_is_answered_as_this_machine_would(network: &Network, tiny: &str) {
    let how = ["--tokens", "9", "--temperature", "1", "--seed", "5", "--json"];
    let said = ["--chat", "What is a light</s>house?", "--system", "Be brief."];
    let alone = network.json([&["model", "generate", tiny], &said[..], &how].concat());
    let net = ["--rpc", network.field("rpc"), "--trust-root", network.field("trust_root")];
    let base = [&["query", "generate"], &net[..], &how].concat();
    let said = ["--chat", "--prompt", said[1], "--system", said[3]];
    let opened = network.root.join("opened-chat.json");
    let asked = network.json([&base[..], &said, &["--open-receipt", path(&opened)]].concat());
    for field in ["text", "tokens", "prompt_tokens"] {
        assert_eq!(asked[field], alone[field], "{field}");
    }
    assert_eq!(asked["seed"], 5);
    assert!(asked["first_token_ms"].is_number() && asked["tokens_per_second"].is_number());
    let root = network.field("trust_root");
    let check = ["receipt", "verify", path(&opened), "--trust-root", root, "--model", tiny];
    let report = network.json([&check[..], &["--json"]].concat());
    assert_eq!(report["summary"]["text"], alone["text"]);
    assert_eq!(report["summary"]["texts"][0], "Be brief.");

    // The same turns from a file, and more tokens than the context has room for.
    let file = network.root.join("chat.json");
    let turns = serde_json::json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a light</s>house?"},
    ]);
    std::fs::write(&file, turns.to_string()).unwrap();
    let more = ["--messages", path(&file), "--tokens", "290"];
    let all = network.json([&["query", "generate"], &net[..], &how[2..], &more].concat());
    assert_eq!(all["max_tokens"], 224, "300 less a prompt padded to 64, in whole buckets of 16");
    let (start, whole) = (alone["text"].as_str().unwrap(), all["text"].as_str().unwrap());
    let start = start.trim_end_matches(char::REPLACEMENT_CHARACTER);
    assert!(whole.starts_with(start), "{start:?} {whole:?}");
    std::fs::write(&file, r#"[{"role": "robot", "content": "x"}]"#).unwrap();
    let refused = network.nesa([&base[..], &["--messages", path(&file)]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
}

/// Two shards on three nodes each: the same text, the same traces, and all six are paid.
fn shards_write_the_same_text_and_reveal_equal_traces(network: &Network, tiny: &str) {
    let how = ["--prompt", TEXT, "--tokens", "9", "--temperature", "1", "--seed", "5", "--json"];
    let alone = network.json([&["model", "generate", tiny], &how[..]].concat());
    let base = ["query", "generate", "--rpc", network.field("rpc")];
    let base = [&base[..], &["--trust-root", network.field("trust_root")], &how].concat();
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "3", "--deadline", "10"];
    let asked = network.json([&base[..], &sealed].concat());
    assert_eq!((&asked["text"], &asked["tokens"]), (&alone["text"], &alone["tokens"]));
    assert_eq!(asked["agreed"], asked["tokens"]);
    assert_eq!(asked["standing"], "verified", "{asked}");
    assert_eq!(asked["cuts"], serde_json::json!([0, 1, 2]));
    assert_eq!(asked["trace_roots"].as_array().unwrap().len(), 2);
    let nodes = asked["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 6);
    let query = asked["query"].as_str().unwrap();
    let record = support::wait_for("the claims of all replicas", || {
        let record = http::get(network.field("rpc"), &format!("/v1/query/{query}")).json();
        let commits = record["sealed"]["commits"].as_array()?.clone();
        let paid = commits.iter().all(|commit| !commit["claim"].is_null());
        (commits.len() == 6 && paid).then_some(record)
    });
    for commit in record["sealed"]["commits"].as_array().unwrap() {
        let shard = commit["shard"].as_u64().unwrap() as usize;
        assert_eq!(commit["root"], asked["trace_roots"][shard]);
    }
    // Options of one lane are refused in the other.
    let refused = network.nesa([&base[..], &["--shards", "2"]].concat());
    assert!(show(&refused).contains("are for --lane sealed"), "{}", show(&refused));
    let many = network.nesa([&base[..], &["--lane", "sealed", "--shards", "3"]].concat());
    assert!(show(&many).contains("cut into 1 to 2"), "{}", show(&many));
}

/// Nodes behind a line announce its ports and nothing else.
fn nodes_are_reached_over_the_line(network: &Network) {
    let file = std::fs::read(network.dir().join("network.json")).unwrap();
    let described: Value = serde_json::from_slice(&file).unwrap();
    assert!(network.ready["pids"]["link"].is_u64());
    for node in described["nodes"].as_array().unwrap() {
        // Nodes are ready once their validator has their registration; this one may be a block behind.
        let address = support::wait_for("a node's new address", || {
            let nodes = http::get(network.field("rpc"), "/v1/nodes").json();
            let mut registered = nodes["nodes"].as_array().unwrap().iter();
            let registered = registered.find(|n| n["node"] == node["node"]).unwrap();
            let [address] = &registered["addresses"].as_array().unwrap()[..] else { return None };
            let address = address.as_str().unwrap().to_owned();
            (!address.contains(&format!("/tcp/{}/", node["p2p_port"]))).then_some(address)
        });
        assert!(address.starts_with("/ip4/127.0.0.1/tcp/"), "{address}");
    }
}

/// A file of the digit classifier.
fn digits(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits");
    folder.join(name).display().to_string()
}

fn pictures_get_the_class_this_machine_gives_alone(network: &Network, model: &str) {
    let samples = std::fs::read(digits("held_out.npy")).unwrap();
    let picture = |n: usize| {
        let file = network.root.join(format!("{n}.pgm"));
        let values = &samples[128 + 64 * n..][..64];
        std::fs::write(&file, [b"P5 8 8 16\n", values].concat()).unwrap();
        file.display().to_string()
    };
    let (one, two) = (picture(1), picture(2));
    let alone = |image: &str| {
        network.json(["model", "classify", model, "--image", image, "--json"])["logits"].clone()
    };
    let (rpc, root) = (network.field("rpc"), network.field("trust_root"));
    let opened = network.root.join("opened-classes.json");
    let base = ["query", "classify", "--rpc", rpc, "--trust-root", root, "--json", &one, &two];
    let asked = network.json([&base[..], &["--open-receipt", path(&opened)]].concat());
    assert_eq!(asked["logits"], alone(&one));
    assert_eq!(asked["classes"][1]["logits"], alone(&two));
    assert_eq!(asked["class"], std::fs::read(digits("held_out_labels.npy")).unwrap()[129]);
    assert_eq!(asked["model"], network.ready["models"][2]);
    assert_eq!(asked["rejected"], serde_json::json!([]));
    verify(network, Path::new(asked["receipt"].as_str().unwrap())).expect_success();
    let report = verify(network, &opened).expect_success();
    assert_eq!(report["summary"]["classes"], asked["classes"]);
    // Another picture is not what was paid for.
    let text = std::fs::read_to_string(&opened).unwrap();
    let (at, _) = text.match_indices("\"texts\":[\"").next().unwrap();
    let mut changed = text.into_bytes();
    changed[at + 11] ^= 1;
    std::fs::write(&opened, changed).unwrap();
    verify(network, &opened).expect_failure();
    // A decoder names nothing.
    let decoder = network.ready["models"][1].as_str().unwrap();
    let refused = network.nesa([&base[..], &["--model", decoder]].concat());
    assert!(show(&refused).contains("the model's family is decoder, expected classifier"));
}

fn texts_get_the_class_this_machine_gives_alone(network: &Network, model: &str) {
    let texts = [TEXT, "what a fine day"];
    let alone =
        texts.map(|text| network.json(["model", "classify", model, "--text", text, "--json"]));
    let (rpc, root) = (network.field("rpc"), network.field("trust_root"));
    let opened = network.root.join("opened-moods.json");
    let file = network.root.join("fine.txt");
    std::fs::write(&file, texts[1]).unwrap();
    let base = ["query", "classify", "--rpc", rpc, "--trust-root", root, "--json"];
    let texts = ["--text", texts[0], "--file", path(&file)];
    let asked = network.json([&base[..], &texts, &["--open-receipt", path(&opened)]].concat());
    for (got, alone) in asked["classes"].as_array().unwrap().iter().zip(&alone) {
        for field in ["class", "label", "labels", "logits", "probabilities"] {
            assert_eq!(got[field], alone[field], "{field}");
        }
    }
    assert_eq!(asked["classes"].as_array().unwrap().len(), 2);
    assert_eq!(asked["label"], alone[0]["label"]);
    assert_eq!((&asked["model"], &asked["lane"]), (&network.ready["models"][3], &"masked".into()));
    assert_eq!(asked["rejected"], serde_json::json!([]));
    verify(network, Path::new(asked["receipt"].as_str().unwrap())).expect_success();
    // The opened receipt gives the class again, from the weights.
    let verify = |file: &Path| {
        let file = [path(file), "--model", model];
        network.nesa([&["receipt", "verify", "--trust-root", root, "--json"][..], &file].concat())
    };
    let report: Value = serde_json::from_slice(&verify(&opened).stdout).unwrap();
    assert_eq!(report["summary"]["classes"][0]["label"], alone[0]["label"]);
    assert_eq!(report["summary"]["classes"][1]["class"], alone[1]["class"]);
    // So does a pair of texts.
    let pair = ["--text", "a dog runs", "--pair", "an animal moves"];
    let alone = network.json([&["model", "classify", model, "--json"], &pair[..]].concat());
    let of_pair = network.json([&base[..], &pair].concat());
    assert_eq!(of_pair["probabilities"], alone["probabilities"]);
    assert_ne!(of_pair["logits"], asked["classes"][1]["logits"]);
    // Another text is not what was paid for.
    let text = std::fs::read_to_string(&opened).unwrap();
    std::fs::write(&opened, text.replace("merger", "murder")).unwrap();
    let output = verify(&opened);
    assert!(!output.status.success(), "{}", show(&output));
    std::fs::remove_file(&opened).unwrap();
    // An encoder names nothing, and a classifier of texts makes no vectors.
    let refused = |arguments: &[&str], words: &str| {
        let output = network.nesa([arguments, &["--rpc", rpc, "--trust-root", root]].concat());
        assert!(show(&output).contains(words), "{}", show(&output));
    };
    let [encoder, moods] = [0, 3].map(|n| network.ready["models"][n].as_str().unwrap());
    let classify = ["query", "classify", "--text", "a", "--model", encoder];
    refused(&classify, "the model's family is encoder, expected text classifier");
    let embed = ["query", "embed", "--text", "a", "--model", moods];
    refused(&embed, "the model's family is text classifier, expected encoder");
    refused(&["query", "classify", "seven.pgm", "--text", "a"], "cannot be used with");
    let pairs = ["query", "classify", "--text", "a", "--text", "b", "--pair", "c"];
    refused(&pairs, "give one --pair for each text");
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

/// A finished `nesa receipt verify`.
struct Verified(std::process::Output);

impl Verified {
    fn expect_success(self) -> Value {
        assert!(self.0.status.success(), "{}", show(&self.0));
        serde_json::from_slice(&self.0.stdout).expect("JSON")
    }

    fn expect_failure(self) -> Value {
        assert_eq!(self.0.status.code(), Some(1), "{}", show(&self.0));
        let json: Value = serde_json::from_slice(&self.0.stdout).expect("JSON");
        assert_eq!(json["valid"], false);
        for name in ["failed", "got", "expected"] {
            assert!(json[name].is_string(), "{json}");
        }
        json
    }
}

fn verify(network: &Network, file: &Path) -> Verified {
    let root = network.field("trust_root");
    Verified(network.nesa(["receipt", "verify", path(file), "--trust-root", root, "--json"]))
}

fn receipts(network: &Network, answer: &Value) {
    let payment = Path::new(answer["receipt"].as_str().expect("a path"));
    let opened = Path::new(answer["opened_receipt"].as_str().expect("a path"));
    let report = verify(network, payment).expect_success();
    assert!(report["does_not_show"].to_string().contains("the answer was right"));
    verify(network, opened).expect_success();

    let text = std::fs::read_to_string(payment).expect("readable");
    assert!(!text.contains(TEXT), "a payment receipt holds no prompt");
    let changed = network.root.join("changed.json");
    let digits: Vec<usize> = text
        .match_indices(|c: char| c.is_ascii_hexdigit())
        .map(|(at, _)| at)
        .filter(|at| text[..*at].rfind('"').is_some_and(|q| text[q..*at].len() > 40))
        .collect();
    for step in 1..=6 {
        let at = digits[digits.len() * step / 7];
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&changed, bytes).expect("written");
        verify(network, &changed).expect_failure();
    }

    let text = std::fs::read_to_string(opened).expect("readable");
    std::fs::write(&changed, text.replace("ninth of May", "tenth of May")).expect("written");
    let failure = verify(network, &changed).expect_failure();
    assert!(
        failure["failed"].as_str().is_some_and(|what| what.contains("commitment")),
        "{failure}"
    );
}

/// The receipt was written when both nodes had been paid, before the deadline; after it, the rest of
/// the escrow is accounted for.
fn the_rest_returns(network: &Network, answer: &Value) {
    let file = Path::new(answer["receipt"].as_str().expect("a path"));
    let early = verify(network, file).expect_success();
    assert!(early["summary"]["returned"].is_null(), "{early}");
    assert!(early["does_not_show"].to_string().contains("returned"));
    let dir = network.dir();
    let arguments = ["receipt", "complete", path(file), "--dir", path(&dir), "--json"];
    let done = support::wait_for("the deadline", || {
        let output = network.nesa(arguments);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    let late = verify(network, file).expect_success();
    assert_eq!(late["summary"]["returned"], done["settlement"]["returned"]);
    assert_eq!(late["summary"]["held"], "0");
    assert_eq!(late["summary"]["paid"], early["summary"]["paid"]);
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

/// A client that takes its answer and disappears without signing: the increment it owes is burned,
/// so it gains nothing over paying.
fn a_client_that_does_not_pay(network: &Network) {
    let query = support::client::take_and_run(network, TEXT);
    let rpc = network.field("rpc");
    let record = support::wait_for("the settlement", || {
        let record = http::get(rpc, &format!("/v1/query/{query}")).json();
        (record["status"]["state"] != "open").then_some(record)
    });
    let status = &record["status"];
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    let (escrow, returned) = (amount(&record["escrow"]), amount(&status["returned"]));
    let burned = amount(&status["burned"]).expect("an amount");
    assert!(
        burned > 0,
        "what was served and not paid is burned: {record}\n{}",
        logs(&network.dir())
    );
    assert_eq!(returned, escrow.map(|escrow| escrow - burned), "{record}");
    assert!(record["commits"].to_string().contains("\"claim\":null"), "{record}");
    assert_eq!(record["shares_paid"]["owner"], "0", "nobody is paid: {record}");
}

/// A node is killed after it was signed for its first pass. It is replaced; started again, it
/// commits to that pass, claims the voucher, and is paid before the deadline.
fn a_killed_node_claims_what_it_was_signed_for(network: &Network) {
    use nix::{sys::signal, unistd::Pid};
    let description = std::fs::read_to_string(network.dir().join("network.json")).unwrap();
    let description: Value = serde_json::from_str(&description).expect("JSON");
    let pids: std::collections::BTreeMap<_, _> = network.pids().into_iter().collect();
    let pid_of = move |node: &str| {
        let nodes = description["nodes"].as_array().expect("a list");
        let entry = nodes.iter().find(|entry| entry["node"] == node).expect("a local node");
        pids[entry["name"].as_str().expect("a name")]
    };
    // Four texts of 256 tokens are two passes.
    let texts: Vec<String> = (0..4).map(|n| format!("{n} {}", "many words ".repeat(200))).collect();
    let (query, victim) = support::client::kill_in_mid_query(network, &texts, move |node| {
        let pid = Pid::from_raw(pid_of(&node.node.to_string()));
        signal::kill(pid, signal::Signal::SIGKILL).expect("it runs");
    });
    let rpc = network.field("rpc");
    let commit = support::wait_for("the claim of the killed node", || {
        let record = http::get(rpc, &format!("/v1/query/{query}")).json();
        let commits = record["commits"].as_array()?.clone();
        let mine = commits.into_iter().find(|c| c["node"] == victim.node.to_string())?;
        (!mine["claim"].is_null()).then_some((mine, record["status"]["state"].clone()))
    });
    let (commit, state) = commit;
    assert_eq!(state, "open", "paid before the deadline");
    assert_eq!(commit["served_tokens"], 512, "what was paid for, and not what came after");
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(amount(&commit["claim"]["earned"]) > Some(0), "{commit}");
}

fn crashed_children_come_back(network: &Network) {
    use nix::{sys::signal, unistd::Pid};
    let before: std::collections::BTreeMap<_, _> = network.pids().into_iter().collect();
    for name in ["v3", "c1"] {
        signal::kill(Pid::from_raw(before[name]), signal::Signal::SIGKILL).expect("it runs");
    }
    support::wait_for("both children", || {
        let now: std::collections::BTreeMap<_, _> = network.pids().into_iter().collect();
        let back = |name: &str| now.get(name).is_some_and(|pid| *pid != before[name]);
        (back("v3") && back("c1")).then_some(())
    });
    let rpc = network.field("rpc");
    let seen = height(rpc);
    support::wait_for("blocks", || (height(rpc) > seen + 2).then_some(()));
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
