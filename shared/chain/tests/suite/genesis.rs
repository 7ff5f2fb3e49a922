//! What makes no chain, and what the trust root binds.

use crate::world::*;
use nesa_chain::{Genesis, TrustRoot, genesis::GenesisError};
use nesa_primitives::{Amount, Denom, Hash};

#[test]
fn json_and_codec_agree_on_the_digest() {
    let genesis = genesis();
    let json = serde_json::to_string_pretty(&genesis).unwrap();
    let back: Genesis = serde_json::from_str(&json).unwrap();
    assert_eq!(back, genesis);
    assert_eq!(back.digest(), genesis.digest());
    assert!(json.contains("\"min_bond\": \"1000000\""), "amounts are decimal strings");
}

#[test]
fn the_trust_root_binds_key_genesis_and_name() {
    let root = genesis().trust_root();
    assert_eq!(TrustRoot::from_hex(&root.to_hex()).unwrap(), root);
    assert!(TrustRoot::from_hex(&format!("{}00", root.to_hex())).is_err());
    assert!(TrustRoot::from_hex("zz").is_err());
    let mut others = [root.clone(), root.clone(), root.clone()];
    others[0].group_key[0] ^= 1;
    others[1].genesis = Hash::ZERO;
    others[2].chain_id = "test-2".parse().unwrap();
    for other in others {
        assert_ne!(other.digest(), root.digest());
        assert_ne!(other.consensus_namespace(), root.consensus_namespace());
    }
    assert!(root.consensus_namespace().starts_with(b"nesa/1 consensus "));
}

#[test]
fn broken_geneses_are_refused() {
    let refused = |change: fn(&mut Genesis)| {
        let mut broken = genesis();
        change(&mut broken);
        broken.initial_state().unwrap_err()
    };
    let twice =
        |what| move |e: GenesisError| matches!(e, GenesisError::Twice { what: w, .. } if w == what);
    assert!(twice("account")(refused(|g| g.accounts.push(g.accounts[0].clone()))));
    assert!(twice("node")(refused(|g| g.nodes.push(g.nodes[0].clone()))));
    assert!(twice("model")(refused(|g| g.models.push(g.models[0].clone()))));
    assert!(twice("validator")(refused(|g| g.validators.push(g.validators[0]))));
    assert!(twice("denomination")(refused(|g| g.stablecoins[0].denom = Denom::NES)));
    assert!(matches!(refused(|g| g.nodes[0].bond = Amount(1)), GenesisError::OutOfRange { .. }));
    assert!(matches!(refused(|g| g.models[0].lanes = 0), GenesisError::OutOfRange { .. }));
    assert!(matches!(refused(|g| g.nodes[0].models[0] = Hash::ZERO), GenesisError::Unknown { .. }));
    assert!(matches!(refused(|g| g.models[0].denom = Denom(9)), GenesisError::Unknown { .. }));
    assert!(matches!(
        refused(|g| g.accounts[0].balances[0].amount = Amount(u64::MAX)),
        GenesisError::Overflow { denom: Denom::NES }
    ));
    assert!(matches!(refused(|g| g.params.shares.owner += 1), GenesisError::Params(_)));
    assert!(matches!(refused(|g| g.params.snapshot_interval = 0), GenesisError::Params(_)));
    assert!(matches!(refused(|g| g.params.bucket_ms = 0), GenesisError::Params(_)));
    assert!(matches!(refused(|g| g.params.unbonding_ms = 1), GenesisError::Params(_)));
}
