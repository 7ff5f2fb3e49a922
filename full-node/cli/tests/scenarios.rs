//! Networks in which a node misbehaves: it is found, only it is replaced, the answer is the same.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::{
    process::Output,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Network, http, show, tiny_decoder};

/// One network at a time: the machine is small.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `scenario`, asks one question, and returns the answer with the network.
fn rehearse(scenario: &str, root: &std::path::Path) -> (Network, Value) {
    let network = Network::start(root, &["--port", "0", "--scenario", scenario]);
    let dir = network.dir();
    let dir = dir.to_str().expect("a test's path is UTF-8");
    let text = "The quick brown fox jumps over the lazy dog.";
    // What was disputed is burned at the deadline.
    let more = if scenario == "liar" { vec!["--until-settled"] } else { vec![] };
    let asked = ["query", "embed", "--dir", dir, "--text", text, "--json"];
    let answer = network.json(asked.into_iter().chain(more));
    (network, answer)
}

/// The key of node c0, which misbehaves.
fn culprit(network: &Network) -> Value {
    let text = std::fs::read_to_string(network.dir().join("network.json")).expect("readable");
    let description: Value = serde_json::from_str(&text).expect("JSON");
    description["nodes"][0]["node"].clone()
}

/// Only the culprit was replaced, once, and the reason tells nothing but that.
fn only_the_culprit(network: &Network, answer: &Value, reason: &str) {
    assert_eq!(answer["attempts"], 2, "{answer}");
    let rejected = answer["rejected"].as_array().expect("a list");
    assert_eq!(rejected.len(), 1, "{}", answer["rejected"]);
    assert_eq!(rejected[0]["node"], culprit(network));
    assert_eq!(rejected[0]["reason"], reason);
    let nodes = answer["nodes"].as_array().expect("a list");
    assert!(nodes.iter().all(|node| node["node"] != culprit(network)));
}

#[test]
fn a_node_that_flips_one_bit_is_caught_and_burns() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (network, answer) = rehearse("liar", folder.path());
    only_the_culprit(&network, &answer, "wrong product");
    let burned = answer["cost"]["burned"].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(burned.is_some_and(|unes| unes > 0), "{}", answer["cost"]);
    let query = answer["query"].as_str().expect("an id");
    let record = http::get(network.field("rpc"), &format!("/v1/query/{query}")).json();
    let culprit_operator = &answer["rejected"][0]["operator"];
    let commits = record["commits"].as_array().expect("a list");
    let of_the_liar = commits.iter().filter(|c| c["operator"] == *culprit_operator);
    assert!(of_the_liar.into_iter().all(|c| c["claim"].is_null()), "not paid: {record}");
    network.stop();
}

/// The key of node c0's operator.
fn culprit_operator(network: &Network) -> Value {
    let text = std::fs::read_to_string(network.dir().join("network.json")).expect("readable");
    let description: Value = serde_json::from_str(&text).expect("JSON");
    description["nodes"][0]["operator"].clone()
}

/// Bytes of the files under `dir`.
fn size(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.metadata().expect("metadata") {
            meta if meta.is_dir() => size(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

/// Two nodes prepare s, one of them with a lie that would make refusals depend on the text. It is
/// found on random rows; the next query is prepared by others, and its answer is the local one.
#[test]
fn a_bent_preparation_is_discarded_and_another_serves() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let network = Network::start(folder.path(), &["--port", "0", "--scenario", "preparer"]);
    let dir = network.dir();
    let dir = dir.to_str().expect("a test's path is UTF-8");
    let base = ["query", "embed", "--dir", dir, "--text", "A quiet street.", "--json"];
    let thin = [&base[..], &["--preparation", "thin"]].concat();
    let refused = network.nesa(thin.clone());
    assert!(!refused.status.success());
    assert!(support::show(&refused).contains("the thin preparation was discarded"));

    let culprit = culprit_operator(&network);
    let opened = folder.path().join("opened.json");
    let opened = opened.to_str().expect("a test's path is UTF-8");
    let first = network.json([&thin[..], &["--open-receipt", opened]].concat());
    let second = network.json(thin);
    for answer in [&first, &second] {
        assert_eq!(answer["preparation"]["kind"], "thin");
        let operators = |list: &Value| -> Vec<Value> {
            let list = list.as_array().expect("a list");
            list.iter().map(|node| node["operator"].clone()).collect()
        };
        let (preparers, servers) =
            (operators(&answer["preparation"]["preparers"]), operators(&answer["nodes"]));
        assert_eq!((preparers.len(), servers.len()), (2, 2));
        assert_ne!(preparers[0], preparers[1]);
        assert!(!preparers.contains(&culprit), "it is avoided");
        assert!(servers.iter().all(|server| !preparers.contains(server)), "{answer}");
    }
    // Tested once: under the same preparation the second query moved a bucket less. A draw that leaves
    // a side to the preparers alone has another pair prepare, which is tested again.
    let moved = |answer: &Value| answer["bytes"]["up"].as_u64().expect("bytes");
    let preparers = |answer: &Value| answer["preparation"]["preparers"].clone();
    let kept = preparers(&first) == preparers(&second);
    assert!(!kept || moved(&second) < moved(&first), "{first} {second}");
    // No weight came here for it, and the answer is that of a local preparation.
    let before = size(&folder.path().join("home"));
    let local = network.json(base);
    assert!(size(&folder.path().join("home")) > before + 10_000_000);
    assert_eq!(local["preparation"]["kind"], "local");
    assert_eq!((&first["vector"], &second["vector"]), (&local["vector"], &local["vector"]));
    let root = network.field("trust_root");
    let check = ["receipt", "verify", opened, "--trust-root", root, "--json"];
    network.json(check);
    network.stop();
}

#[test]
fn a_node_that_never_answers_costs_time_only() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (network, answer) = rehearse("silent", folder.path());
    only_the_culprit(&network, &answer, "no answer");
    assert_eq!(answer["cost"]["burned"], "0");
    network.stop();
}

#[test]
fn a_node_that_dies_in_mid_query_is_replaced_and_restarted() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (network, answer) = rehearse("crash", folder.path());
    only_the_culprit(&network, &answer, "no answer");
    let first = network.ready["pids"]["c0"].as_i64().expect("a process id");
    support::wait_for("the restart", || {
        let now = network.pids().into_iter().find(|(name, _)| name == "c0");
        now.filter(|(_, pid)| i64::from(*pid) != first)
    });
    network.stop();
}

/// Runs `scenario` with a decoder, and has a text written by two shards on three nodes each; the
/// network, what came of it, and the text of this machine alone.
fn rehearse_sealed(scenario: &str, root: &std::path::Path) -> (Network, Output, Value) {
    rehearse_sealed_with(scenario, root, "a lighthouse", &[])
}

fn rehearse_sealed_with(
    scenario: &str,
    root: &std::path::Path,
    prompt: &str,
    more: &[&str],
) -> (Network, Output, Value) {
    let tiny = tiny_decoder(root);
    let network = Network::start(root, &["--port", "0", "--scenario", scenario, "--model", &tiny]);
    let dir = network.dir();
    let dir = dir.to_str().expect("a test's path is UTF-8");
    let how = ["--prompt", prompt, "--tokens", "12", "--temperature", "1", "--json"];
    let alone = network.json([&["model", "generate", &tiny], &how[..]].concat());
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "3", "--deadline", "12"];
    let asked = [&["query", "generate", "--dir", dir], &how[..], &sealed, more].concat();
    let output = network.nesa(asked);
    (network, output, alone)
}

#[test]
fn a_node_that_dies_in_mid_text_is_replaced_and_its_shard_writes_the_same() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    // Long enough that the first voucher comes before it dies.
    let prompt = "a lighthouse ".repeat(8);
    let (network, output, alone) = rehearse_sealed_with("crash", folder.path(), prompt.trim(), &[]);
    let answer = serde_json::from_slice(&output.stdout);
    let answer: Value = answer.unwrap_or_else(|_| panic!("{}", show(&output)));
    assert_eq!(answer["text"], alone["text"]);
    assert_eq!(answer["standing"], "verified", "{answer}");
    let replaced = answer["rejected"].as_array().expect("a list");
    assert!(!replaced.is_empty() && replaced.len() <= 2, "{answer}");
    assert!(replaced.iter().all(|node| node["node"] == culprit(&network)));
    let nodes = answer["nodes"].as_array().expect("a list");
    assert!(nodes.iter().all(|node| node["node"] != culprit(&network)));
    // It commits to the part it served, which the spare's commitment puts out: what the client signed for is
    // paid, the rest of it burned.
    let query = answer["query"].as_str().expect("an id");
    let path = format!("/v1/query/{query}");
    let until = Instant::now() + Duration::from_secs(40);
    let record = loop {
        let record = http::get(network.field("rpc"), &path).json();
        if record["status"]["state"] == "settled" {
            break record;
        }
        assert!(Instant::now() < until, "{record}");
        std::thread::sleep(Duration::from_millis(300));
    };
    let commits = record["sealed"]["commits"].as_array().expect("a list");
    let amount = |value: &Value| value.as_str().and_then(|n| n.parse::<u64>().ok());
    let price = amount(&record["price_per_token"]).expect("an amount");
    let mut unpaid = 0;
    for commit in commits {
        let part = commit["node"] == culprit(&network);
        assert_eq!((&commit["put_out"], commit["root"].is_null()), (&Value::Bool(part), part));
        let claimed = amount(&commit["claim"]["voucher"]["total"]).unwrap_or_default();
        unpaid += commit["served_tokens"].as_u64().expect("a count") * price - claimed;
    }
    assert!(commits.iter().any(|commit| commit["put_out"] == true), "{record}");
    assert_eq!(amount(&record["status"]["burned"]), Some(unpaid), "{record}");
    network.stop();
}

#[test]
fn a_node_that_lies_in_a_shard_is_noticed_and_its_text_is_not_accepted() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (network, output, _) = rehearse_sealed("liar", folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(show(&output).contains("disagree on step"), "{}", show(&output));
    network.stop();
}

/// Whether a node can still be drawn: whoever is slashed leaves the set that `nesa status` shows.
fn is_listed(network: &Network, node: &Value) -> bool {
    let dir = network.dir();
    let status = network.json(["status", "--dir", dir.to_str().expect("UTF-8"), "--json"]);
    status["nodes"].as_array().expect("a list").iter().any(|entry| entry["node"] == *node)
}

/// How often a word stands in the logs of the compute nodes.
fn said(network: &Network, word: &str) -> usize {
    let logs = (0..5).map(|n| network.dir().join(format!("c{n}")).join("log"));
    logs.map(|log| std::fs::read_to_string(log).unwrap_or_default().matches(word).count()).sum()
}

/// Every dispute convicts the culprit, and the others of its shard are paid.
fn convicted(network: &Network, output: &Output) {
    assert_eq!(output.status.code(), Some(1), "{}", show(output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(answer["standing"], "disputed", "{answer}");
    let liar = culprit(network);
    let commits = answer["commits"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let mine = |commit: &&Value| commit["node"] == liar;
    assert!(commits.iter().any(|commit| mine(&commit)), "{answer}");
    for commit in commits {
        let number = |field: &str| commit[field].as_str().and_then(|n| n.parse::<u64>().ok());
        let claimed = number("claimed").expect("an amount");
        if mine(&commit) {
            assert_eq!((&commit["liar"], claimed), (&Value::Bool(true), 0), "{commit}");
        } else {
            assert_eq!(commit["liar"], false, "{commit}");
            assert!(claimed > 0, "the honest are paid: {answer}");
        }
    }
    let disputes = answer["disputes"].as_array().expect("a list");
    assert!(!disputes.is_empty());
    for dispute in disputes {
        let of = |field: &str| {
            let same =
                |c: &&Value| c["shard"] == dispute["shard"] && c["replica"] == dispute[field];
            commits.iter().find(same).is_some_and(|commit| commit["node"] == liar)
        };
        let ruling = match (of("left"), of("right")) {
            (true, false) => "left-lies",
            (false, true) => "right-lies",
            other => panic!("an honest pair in dispute: {other:?} {dispute}"),
        };
        assert_eq!(dispute["decision"]["ruling"], ruling, "{answer}");
    }
    assert!(!is_listed(network, &liar), "slashed");
}

/// What each ruling of a report rests on.
fn grounds(output: &Output) -> Vec<String> {
    let answer: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let disputes = answer["disputes"].as_array().expect("a list");
    let named = |dispute: &Value| dispute["decision"]["grounds"].as_str().map(str::to_owned);
    disputes.iter().filter_map(named).collect()
}

/// A replica computes one product wrong and all else from it, commits to that, and fits what it says in
/// the dispute to it. The validators compute one chunk of the product from its opening.
#[test]
fn a_liar_in_a_shard_is_found_by_the_validators_and_slashed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let receipt = folder.path().join("receipt.json");
    let receipt = receipt.to_str().expect("UTF-8");
    let more = ["--disclose", "--receipt", receipt];
    let (network, output, _) = rehearse_sealed_with("liar", folder.path(), "a lighthouse", &more);
    convicted(&network, &output);
    // An opening in a block has been computed by every validator, and the record says so. A liar that is
    // late in another dispute loses that one by its deadline.
    assert!(said(&network, "name=\"opening\"") > 0, "judged");
    assert!(grounds(&output).iter().any(|grounds| grounds == "opening"), "{:?}", grounds(&output));
    // The receipt says it too, to whoever has the trust root alone.
    let root = network.field("trust_root");
    let checked = network.json(["receipt", "verify", receipt, "--trust-root", root, "--json"]);
    let shards = checked["summary"]["shards"].as_array().expect("a list");
    let replicas = || shards.iter().flat_map(|shard| shard["replicas"].as_array().expect("a list"));
    assert!(replicas().any(|replica| replica["liar"] == true));
    assert!(replicas().all(|replica| (replica["node"] == culprit(&network)) == replica["liar"]));
    network.stop();
}

/// One that lies and then says nothing loses by the deadline of its round.
#[test]
fn a_liar_that_falls_silent_loses_by_deadline() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (network, output, _) =
        rehearse_sealed_with("hush", folder.path(), "a lighthouse", &["--disclose"]);
    convicted(&network, &output);
    assert!(grounds(&output).iter().all(|grounds| grounds == "silence"), "{:?}", grounds(&output));
    assert!(said(&network, "name=\"close-dispute\"") > 0, "closed by those who waited");
    assert_eq!(said(&network, "name=\"opening\""), 0, "there was nothing to open");
    network.stop();
}

/// An honest node that is killed when the disputes have begun goes on when it is started again: from what
/// it kept, it answers in time, and is paid.
#[test]
fn an_honest_node_that_is_killed_in_a_dispute_goes_on_with_it() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("temporary folder");
    let root = folder.path();
    let tiny = tiny_decoder(root);
    let network = Network::start(root, &["--port", "0", "--scenario", "liar", "--model", &tiny]);
    let dir = network.dir();
    let dir = dir.to_str().expect("UTF-8");
    let output = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let what = ["query", "generate", "--dir", dir, "--prompt", "a lighthouse", "--json"];
            let how = ["--tokens", "12", "--lane", "sealed", "--shards", "2", "--replicas", "3"];
            network.nesa([&what[..], &how, &["--deadline", "12", "--disclose"]].concat())
        });
        support::wait_for("a dispute", || {
            (said(&network, "name=\"open-dispute\"") > 0).then_some(())
        });
        // Two shards on five nodes, one of them the liar in both: this one serves.
        let pid = network.pids().into_iter().find(|(name, _)| name == "c1").expect("c1").1;
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        asking.join().expect("the query ends")
    });
    convicted(&network, &output);
    network.stop();
}
