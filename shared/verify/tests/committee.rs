//! Attacks on payment receipts of committee queries that real networks wrote: whatever is changed must be
//! noticed.
//!
//! `data/committee-agreed.json` was written by a local network (`nesa up`, `nesa query generate --lane sealed
//! --shards 2 --replicas 3 --disclose --receipt FILE`), `data/committee-disputed.json` by one of the scenario
//! `liar`, with the same query, `data/committee-given-up.json` by one of the scenario `crash`, with a prompt
//! of fifty tokens and without `--disclose`; `*.trust-root.hex` are these networks' trust roots. When a format
//! changes on purpose, all are made again in the same way.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_chain::trust::TrustRoot;
use nesa_verify::receipt::{PaymentReceipt, PaymentSummary, Report, verify};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;

const AGREED: [&str; 2] = [
    include_str!("data/committee-agreed.json"),
    include_str!("data/committee-agreed.trust-root.hex"),
];
const DISPUTED: [&str; 2] = [
    include_str!("data/committee-disputed.json"),
    include_str!("data/committee-disputed.trust-root.hex"),
];
const GIVEN_UP: [&str; 2] = [
    include_str!("data/committee-given-up.json"),
    include_str!("data/committee-given-up.trust-root.hex"),
];

fn check(text: &str, trust: &str) -> Result<Report<PaymentSummary>, String> {
    let trust = TrustRoot::from_hex(trust.trim()).unwrap();
    let receipt = PaymentReceipt::from_json(text).map_err(|error| error.to_string())?;
    verify(&receipt, &trust, &mut StdRng::seed_from_u64(3)).map_err(|failure| failure.to_string())
}

#[test]
fn an_honest_committees_receipt_says_what_was_shown_and_what_was_not() {
    let report = check(AGREED[0], AGREED[1]).unwrap();
    let summary = &report.summary;
    assert!(summary.seats.is_empty());
    assert_eq!(summary.shards.len(), 2);
    for shard in &summary.shards {
        assert_eq!((shard.standing, shard.replicas.len()), ("agreed", 3));
        assert!(shard.root.is_some());
        for replica in &shard.replicas {
            assert_eq!((replica.root, replica.liar), (shard.root, false));
            assert!(replica.claimed.0 > 0);
        }
    }
    assert_eq!(summary.paid.0 + summary.held.0, summary.escrow.0);
    let says = |what: &str| report.checks.iter().any(|check| check.what.contains(what));
    assert!(says("3 of 3 replicas of shard 1 revealed the same trace"));
    for line in ["right", "different people", "the nodes did", "which text", "forged"] {
        assert!(report.does_not_show.iter().any(|said| said.contains(line)), "{line}");
    }
}

#[test]
fn a_disputed_querys_receipt_names_the_liar_and_pays_the_others() {
    let report = check(DISPUTED[0], DISPUTED[1]).unwrap();
    let replicas: Vec<_> = report.summary.shards.iter().flat_map(|s| &s.replicas).collect();
    let liars: Vec<_> = replicas.iter().filter(|replica| replica.liar).collect();
    assert!(!liars.is_empty() && liars.iter().all(|liar| liar.node == liars[0].node));
    assert!(replicas.iter().all(|replica| replica.liar == (replica.claimed.0 == 0)));
    assert!(report.summary.shards.iter().all(|shard| shard.standing == "agreed"));
    assert!(report.checks.iter().any(|check| {
        check.what.contains("the validators computed the disputed value again from an opening")
    }));
}

#[test]
fn a_node_that_was_given_up_is_named_and_its_part_accounted_for() {
    let report = check(GIVEN_UP[0], GIVEN_UP[1]).unwrap();
    let shards = &report.summary.shards;
    assert!(shards.iter().all(|shard| shard.standing == "agreed"));
    let replicas = || shards.iter().flat_map(|shard| &shard.replicas);
    let parts: Vec<_> = replicas().filter(|replica| replica.put_out).collect();
    assert!(!parts.is_empty() && parts.iter().all(|part| part.node == parts[0].node));
    for part in &parts {
        assert!(part.root.is_none() && !part.liar);
        let place = |r: &&nesa_verify::receipt::ReplicaSummary| {
            r.replica == part.replica && r.root.is_some() && r.seat >= 3
        };
        assert!(replicas().any(|replica| place(&replica)), "a spare has its place");
    }
    assert!(parts.iter().any(|part| !part.claimed.is_zero()), "paid for what was signed for");
    assert!(report.checks.iter().any(|check| check.what.contains("was given up as replica")));
}

/// JSON pointers of every string in the receipt.
fn strings(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(path),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strings(item, format!("{path}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                strings(item, format!("{path}/{key}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn one_changed_digit_in_any_field_is_noticed() {
    for [text, trust] in [AGREED, DISPUTED, GIVEN_UP] {
        let base: Value = serde_json::from_str(text).unwrap();
        let mut pointers = Vec::new();
        strings(&base, String::new(), &mut pointers);
        assert!(pointers.len() > 20);
        for pointer in pointers {
            let value = base.pointer(&pointer).and_then(Value::as_str).unwrap();
            for at in [0, value.len() / 2, value.len() - 1] {
                let mut bytes = value.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
                let mut changed = base.clone();
                *changed.pointer_mut(&pointer).unwrap() = String::from_utf8(bytes).unwrap().into();
                assert!(check(&changed.to_string(), trust).is_err(), "{pointer} at {at}");
            }
        }
    }
}

#[test]
fn parts_cannot_be_dropped_doubled_or_taken_from_another_query() {
    let base: Value = serde_json::from_str(AGREED[0]).unwrap();
    let other: Value = serde_json::from_str(DISPUTED[0]).unwrap();
    for (pointer, at) in [("/inclusion", 0), ("/nodes/entries", 0), ("/paid/entries", 2)] {
        for doubled in [false, true] {
            let mut changed = base.clone();
            let list = changed.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
            if doubled {
                list.push(list[at].clone());
            } else {
                list.remove(at);
            }
            assert!(check(&changed.to_string(), AGREED[1]).is_err(), "{pointer} {doubled}");
        }
    }
    for part in ["payment", "inclusion", "opened", "seed", "snapshot", "nodes", "paid"] {
        let mut changed = base.clone();
        changed[part] = other[part].clone();
        assert!(check(&changed.to_string(), AGREED[1]).is_err(), "{part} of another network");
    }
    let mut open = base.clone();
    open["paid"]["entries"][0] = base["opened"]["entries"][0].clone();
    open["paid"]["at"] = base["opened"]["at"].clone();
    assert!(check(&open.to_string(), AGREED[1]).is_err(), "nobody was paid yet");
    assert!(check(AGREED[0], DISPUTED[1]).is_err(), "another trust root");
}
