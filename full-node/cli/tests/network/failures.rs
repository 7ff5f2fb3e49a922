//! Who does not pay, and who is killed.

use super::*;

/// A client that takes its answer and disappears without signing: the increment it owes is burned,
/// so it gains nothing over paying.
pub(crate) fn a_client_that_does_not_pay(network: &Network) {
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
pub(crate) fn a_killed_node_claims_what_it_was_signed_for(network: &Network) {
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

pub(crate) fn crashed_children_come_back(network: &Network) {
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
