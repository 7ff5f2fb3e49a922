//! What nodes answer against what this machine computes alone: texts, chats, shards, pictures, classes.

use super::*;

pub(crate) fn a_text_is_the_one_this_machine_writes_alone(network: &Network, tiny: &str) {
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
pub(crate) fn a_chat_is_answered_as_this_machine_would(network: &Network, tiny: &str) {
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
pub(crate) fn shards_write_the_same_text_and_reveal_equal_traces(network: &Network, tiny: &str) {
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
pub(crate) fn nodes_are_reached_over_the_line(network: &Network) {
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
pub(crate) fn digits(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits");
    folder.join(name).display().to_string()
}

pub(crate) fn pictures_get_the_class_this_machine_gives_alone(network: &Network, model: &str) {
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

pub(crate) fn texts_get_the_class_this_machine_gives_alone(network: &Network, model: &str) {
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

/// By name and by digest, over a file that is the model already and never over another.
pub(crate) fn a_model_is_fetched_as_it_was_compiled(network: &Network, tiny: &str) {
    let (dir, out) = (network.dir(), network.root.join("fetched.nesa"));
    let fetch = |what: &str, out: &Path| {
        let place = ["model", "fetch", what, "--out", path(out), "--dir", path(&dir), "--json"];
        network.nesa(place)
    };
    let name = Path::new(tiny).file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let first = fetch(name, &out);
    let report: Value =
        serde_json::from_slice(&first.stdout).unwrap_or_else(|_| panic!("{}", show(&first)));
    assert_eq!(report["name"], name);
    let compiled = std::fs::read(tiny).unwrap();
    assert!(std::fs::read(&out).unwrap() == compiled, "the same bytes");
    assert!(!network.root.join("fetched.nesa.parts").exists(), "nothing else stays");
    let digest = report["digest"].as_str().expect("a digest").to_owned();
    let again = fetch(&digest, &out);
    assert!(again.status.success(), "{}", show(&again));
    let refused = |what: &str, out: &Path, words: &str| {
        let output = fetch(what, out);
        assert_eq!(output.status.code(), Some(2), "{}", show(&output));
        assert!(show(&output).contains(words), "{}", show(&output));
    };
    std::fs::write(&out, b"notes of somebody").unwrap();
    refused(&digest, &out, "is there");
    assert_eq!(std::fs::read(&out).unwrap(), b"notes of somebody");
    let nowhere = network.root.join("none.nesa");
    refused("no-such-model", &nowhere, "no model");
    refused(&"0".repeat(64), &nowhere, "no model");
    assert!(!nowhere.exists());
}
