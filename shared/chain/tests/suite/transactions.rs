//! Signatures, chains, nonces, fees and transfers.

use crate::world::*;
use nesa_chain::{Action, SignedTx, action::Transfer, rules::TxError};
use nesa_primitives::{Amount, Denom, Hash};

#[test]
fn a_transfer_moves_money_and_the_fee_goes_to_the_leader() {
    let mut world = World::new();
    let tx = world.transfer(ALICE, BOB, Denom::NES, 1_000);
    world.one(tx).unwrap();
    assert_eq!(world.balance(ALICE), 10_000_000 - 1_010);
    assert_eq!(world.balance(BOB), 10_001_000);
    assert_eq!(world.balance(VALIDATORS[1]), 10);
}

#[test]
fn a_transfer_to_oneself_changes_nothing_but_fee_and_nonce() {
    let mut world = World::new();
    let tx = world.transfer(ALICE, ALICE, Denom::NES, 5_000_000);
    world.one(tx).unwrap();
    assert_eq!(world.balance(ALICE), 10_000_000 - 10);
    assert_eq!(world.nonce(ALICE), 1);
}

#[test]
fn a_leader_may_pay_fees_to_itself() {
    let mut world = World::new();
    let fund = world.transfer(ALICE, VALIDATORS[2], Denom::NES, 100);
    world.one(fund).unwrap();
    let tx = world.transfer(VALIDATORS[2], BOB, Denom::NES, 50);
    world.one(tx).unwrap();
    assert_eq!(world.balance(VALIDATORS[2]), 50);
}

#[test]
fn a_replayed_transaction_is_refused() {
    let mut world = World::new();
    let tx = world.transfer(ALICE, BOB, Denom::NES, 1);
    world.one(tx.clone()).unwrap();
    assert_eq!(world.one(tx.clone()), Err(TxError::Nonce { got: 0, expected: 1 }));
    let twice = world.transfer(ALICE, BOB, Denom::NES, 1);
    let results = world.block(500, &[twice.clone(), twice]);
    assert_eq!(results[0], Ok(()));
    assert_eq!(results[1], Err(TxError::Nonce { got: 1, expected: 2 }));
}

#[test]
fn a_nonce_cannot_be_skipped() {
    let mut world = World::new();
    let action = world.transfer(ALICE, BOB, Denom::NES, 1).tx.action;
    let tx = world.tx_nonce(ALICE, 1, action);
    assert_eq!(world.one(tx), Err(TxError::Nonce { got: 1, expected: 0 }));
}

#[test]
fn a_transaction_of_another_chain_is_refused() {
    let mut world = World::new();
    let mut other = genesis();
    other.chain_id = "test-2".parse().unwrap();
    let tx = World::of(other).transfer(ALICE, BOB, Denom::NES, 1);
    assert!(matches!(world.one(tx.clone()), Err(TxError::Chain { .. })));
    // Renaming the chain after signing breaks the signature.
    let mut renamed = tx;
    renamed.tx.chain = world.chain;
    assert!(matches!(world.one(renamed), Err(TxError::Signature(_))));
}

#[test]
fn every_changed_field_breaks_the_signature() {
    let mut world = World::new();
    let good = world.transfer(ALICE, BOB, Denom::NES, 1);
    let changes: [fn(&mut SignedTx); 6] = [
        |s| s.tx.sender = address(BOB),
        |s| s.tx.nonce += 1,
        |s| s.tx.fee = Amount(11),
        |s| s.signature.0[0] ^= 1,
        |s| s.signature = nesa_crypto::Signature([0; 64]),
        |s| {
            let to = address(OWNER);
            s.tx.action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(1) });
        },
    ];
    for change in changes {
        let mut forged = good.clone();
        change(&mut forged);
        assert!(matches!(world.one(forged), Err(TxError::Signature(_))));
    }
    let stolen = good.tx.clone().sign(&key(BOB));
    assert!(matches!(world.one(stolen), Err(TxError::Signature(_))));
}

#[test]
fn money_that_is_not_there_cannot_be_spent() {
    let mut world = World::new();
    let tx = world.transfer(ALICE, BOB, Denom::NES, 10_000_000);
    assert!(matches!(world.one(tx), Err(TxError::Funds { .. })), "the fee is missing");
    let tx = world.transfer(ALICE, BOB, Denom::NES, u64::MAX);
    assert!(matches!(world.one(tx), Err(TxError::Funds { .. })));
    let tx = world.transfer(ALICE, BOB, USD, 5_000_001);
    assert!(matches!(world.one(tx), Err(TxError::Funds { denom: USD, .. })));
    let tx = world.transfer(ALICE, BOB, Denom(7), 0);
    assert_eq!(world.one(tx), Err(TxError::UnknownDenom { got: Denom(7) }));
    let nobody = world.transfer(77, BOB, Denom::NES, 0);
    assert!(matches!(world.one(nobody), Err(TxError::Funds { .. })));
    assert_eq!(world.nonce(ALICE), 0, "a refused transaction uses no nonce");
}

#[test]
fn stablecoins_move_beside_nes() {
    let mut world = World::new();
    let tx = world.transfer(ALICE, 77, USD, 5_000_000);
    world.one(tx).unwrap();
    assert_eq!(world.account(&address(77)).balance(USD), Amount(5_000_000));
    assert_eq!(world.account(&address(77)).balances.len(), 1);
    assert_eq!(world.account(&address(ALICE)).balance(USD), Amount::ZERO);
}

#[test]
fn too_small_a_fee_is_refused() {
    let mut world = World::new();
    let mut tx = world.transfer(ALICE, BOB, Denom::NES, 1).tx;
    tx.fee = Amount(9);
    let result = world.one(tx.sign(&key(ALICE)));
    assert_eq!(result, Err(TxError::Fee { got: Amount(9), expected: Amount(10) }));
}

#[test]
fn the_id_does_not_depend_on_the_signature() {
    let world = World::new();
    let tx = world.transfer(ALICE, BOB, Denom::NES, 1);
    let mut other = tx.clone();
    other.signature.0[40] ^= 1;
    assert_eq!(tx.id(), other.id());
    assert_ne!(tx.id(), Hash::ZERO);
}
