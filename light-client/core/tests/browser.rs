//! The light client against lying peers inside a dedicated worker: the bodies of `client.rs`.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use support::liars;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
async fn an_honest_peer_is_enough_beside_liars() {
    liars::an_honest_peer_is_enough_beside_liars().await;
}

#[wasm_bindgen_test]
async fn a_forger_alone_shows_nothing() {
    liars::a_forger_alone_shows_nothing().await;
}

#[wasm_bindgen_test]
async fn a_withholding_peer_is_passed_over_but_not_dropped() {
    liars::a_withholding_peer_is_passed_over_but_not_dropped().await;
}

#[wasm_bindgen_test]
async fn a_false_state_proof_and_a_false_seed_drop_their_peer() {
    liars::a_false_state_proof_and_a_false_seed_drop_their_peer().await;
}

#[wasm_bindgen_test]
async fn a_header_is_found_later_and_the_checkpoint_survives() {
    liars::a_header_is_found_later_and_the_checkpoint_survives().await;
}

#[wasm_bindgen_test]
async fn babble_and_confusion_drop_a_peer_and_a_refusal_does_not() {
    liars::babble_and_confusion_drop_a_peer_and_a_refusal_does_not().await;
}

#[wasm_bindgen_test]
async fn a_false_inclusion_proof_drops_its_peer_and_another_is_asked() {
    liars::a_false_inclusion_proof_drops_its_peer_and_another_is_asked().await;
}

#[wasm_bindgen_test]
async fn a_wrong_piece_of_a_model_drops_its_source() {
    liars::a_wrong_piece_of_a_model_drops_its_source().await;
}
