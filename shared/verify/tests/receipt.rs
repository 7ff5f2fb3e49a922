//! Attacks on a payment receipt that a real network wrote: whatever is changed must be noticed.
//!
//! `data/payment-receipt.json` was written by a local network of this repository (`nesa up`,
//! `nesa query embed`) when both nodes had been paid; `data/payment-receipt-settled.json` is the same
//! after the deadline (`nesa receipt complete`), `data/trust-root.hex` that network's trust root.
//! When a format changes on purpose, all are made again in the same way.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_chain::trust::TrustRoot;
use nesa_verify::receipt::{Failure, PaymentReceipt, ReceiptError, verify};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;

const RECEIPT: &str = include_str!("data/payment-receipt.json");
const SETTLED: &str = include_str!("data/payment-receipt-settled.json");
const TRUST: &str = include_str!("data/trust-root.hex");

fn trust() -> TrustRoot {
    TrustRoot::from_hex(TRUST.trim()).unwrap()
}

/// Whether the text is a receipt that verifies.
fn holds(text: &str) -> Result<(), String> {
    let receipt = PaymentReceipt::from_json(text).map_err(|error| error.to_string())?;
    verify(&receipt, &trust(), &mut StdRng::seed_from_u64(3))
        .map(|_| ())
        .map_err(|failure| failure.to_string())
}

fn json() -> Value {
    serde_json::from_str(RECEIPT).unwrap()
}

fn settled_json() -> Value {
    serde_json::from_str(SETTLED).unwrap()
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

fn flip_digit(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_honest_receipt_verifies_and_says_what_it_does_not_show() {
    let receipt = PaymentReceipt::from_json(RECEIPT).unwrap();
    let report = verify(&receipt, &trust(), &mut StdRng::seed_from_u64(3)).unwrap();
    assert!(report.checks.len() >= 8);
    assert!(report.does_not_show.iter().any(|line| line.contains("right")));
    let summary = &report.summary;
    // Written before the deadline: what is not paid is still held, and the report says so.
    assert!(summary.paid.0 > 0 && summary.returned.is_none() && summary.burned.is_none());
    assert_eq!(summary.paid.0 + summary.held.0, summary.escrow.0);
    assert!(report.does_not_show.iter().any(|line| line.contains("returned")));
    let again = receipt.to_json().unwrap();
    assert_eq!(PaymentReceipt::from_json(&again).unwrap(), receipt);
}

#[test]
fn after_the_deadline_the_whole_escrow_is_accounted_for() {
    let receipt = PaymentReceipt::from_json(SETTLED).unwrap();
    let report = verify(&receipt, &trust(), &mut StdRng::seed_from_u64(3)).unwrap();
    assert!(!report.does_not_show.iter().any(|line| line.contains("returned")));
    let summary = &report.summary;
    let sum = summary.paid.0 + summary.burned.unwrap().0 + summary.returned.unwrap().0;
    assert_eq!((sum, summary.held.0), (summary.escrow.0, 0));
    // One query, two moments: what was paid did not change.
    let early = PaymentReceipt::from_json(RECEIPT).unwrap();
    let early = verify(&early, &trust(), &mut StdRng::seed_from_u64(3)).unwrap().summary;
    assert_eq!((early.query, early.paid), (summary.query, summary.paid));
}

#[test]
fn one_changed_digit_in_any_field_is_noticed() {
    digits_count(&json());
}

#[test]
fn one_changed_digit_in_the_settlement_is_noticed() {
    // The other fields are those of the earlier receipt.
    let settled = settled_json();
    let mut base = json();
    base["paid"] = settled["paid"].clone();
    assert_eq!(base, settled);
    digits_count(&settled);
}

fn digits_count(base: &Value) {
    let mut pointers = Vec::new();
    strings(base, String::new(), &mut pointers);
    assert!(pointers.len() > 20);
    for pointer in pointers {
        let length = base.pointer(&pointer).and_then(Value::as_str).unwrap().len();
        for at in [0, length / 2, length - 1] {
            let mut changed = base.clone();
            let slot = changed.pointer_mut(&pointer).unwrap();
            *slot = flip_digit(slot.as_str().unwrap(), at).into();
            assert!(holds(&changed.to_string()).is_err(), "{pointer} at {at}");
        }
    }
}

#[test]
fn another_trust_root_is_refused_with_both_shown() {
    let receipt = PaymentReceipt::from_json(RECEIPT).unwrap();
    let mut other = trust();
    other.genesis.0[0] ^= 1;
    let failure: Failure = verify(&receipt, &other, &mut StdRng::seed_from_u64(3)).unwrap_err();
    assert_eq!(failure.what, "trust root");
    assert_ne!(failure.got, failure.expected);
    // A receipt that was rewritten to name that trust root fails at the first signature.
    let mut forged = receipt;
    forged.trust_root = nesa_verify::receipt::Hex::from(hex::decode(other.to_hex()).unwrap());
    assert!(verify(&forged, &other, &mut StdRng::seed_from_u64(3)).is_err());
}

#[test]
fn parts_cannot_be_dropped_doubled_or_swapped() {
    let base = json();
    for (pointer, value) in [("/inclusion", 0), ("/nodes/entries", 0), ("/paid/entries", 2)] {
        let mut dropped = base.clone();
        dropped.pointer_mut(pointer).unwrap().as_array_mut().unwrap().remove(value);
        assert!(holds(&dropped.to_string()).is_err(), "{pointer} without one");
        let mut doubled = base.clone();
        let list = doubled.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
        list.push(list[value].clone());
        assert!(holds(&doubled.to_string()).is_err(), "{pointer} with one twice");
    }
    let mut swapped = base.clone();
    let (opened, settled) = (base["opened"].clone(), settled_json()["paid"].clone());
    swapped["opened"]["entries"][0] = settled["entries"][0].clone();
    swapped["opened"]["at"] = settled["at"].clone();
    assert!(holds(&swapped.to_string()).is_err(), "a settled record is no opening");
    let mut open = base.clone();
    open["paid"]["entries"][0] = opened["entries"][0].clone();
    open["paid"]["at"] = opened["at"].clone();
    assert!(holds(&open.to_string()).is_err(), "an open query that paid nobody is not paid");
    let mut uncertified = base.clone();
    uncertified["snapshot"]["at"]["finalization"] = Value::Null;
    assert!(holds(&uncertified.to_string()).is_err());
    let mut absent = base;
    absent["nodes"]["entries"][0]["value"] = Value::Null;
    assert!(holds(&absent.to_string()).is_err());
}

#[test]
fn bytes_have_one_spelling_and_files_no_room() {
    let upper = RECEIPT.replacen("a", "A", 400);
    assert!(matches!(PaymentReceipt::from_json(&upper), Err(ReceiptError::Json(_))));
    let mut more = json();
    more["note"] = "trust me".into();
    assert!(matches!(PaymentReceipt::from_json(&more.to_string()), Err(ReceiptError::Json(_))));
    let mut format = json();
    format["format"] = "nesa-payment-receipt/2".into();
    assert!(PaymentReceipt::from_json(&format.to_string()).is_err());
    let long = " ".repeat(nesa_verify::receipt::MAX_RECEIPT_BYTES + 1);
    assert!(matches!(PaymentReceipt::from_json(&long), Err(ReceiptError::TooLong { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_anywhere_is_noticed_or_means_nothing(at in 0..RECEIPT.len(), byte: u8) {
        let mut bytes = RECEIPT.as_bytes().to_vec();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        // White space between tokens carries no meaning; everything else must fail.
        let same = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            == Some(json());
        let verdict = std::str::from_utf8(&bytes).map_err(|e| e.to_string()).and_then(holds);
        prop_assert_eq!(verdict.is_ok(), same, "byte {} set to {}", at, byte);
    }

    #[test]
    fn random_text_never_panics(text in ".{0,400}") {
        prop_assert!(holds(&text).is_err());
    }
}
