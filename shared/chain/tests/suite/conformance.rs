//! Hashes of canonical encodings, committed beside this file. A difference means that the
//! format, a domain or a rule has changed: every chain in existence would fork. If that is meant,
//! run the test with `NESA_CONFORMANCE=write` and say in the commit why.

use crate::{traces::*, world::*};
use commonware_codec::Encode;
use nesa_chain::{
    Action, Voucher,
    action::{
        AnswerDispute, Claim, Named, Pair, RegisterModel, RegisterNode, Side, Unbond, UpdateNode,
    },
    keys,
};
use nesa_primitives::{Amount, Denom, Hash};
use std::fmt::Write as _;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.txt");

fn lines() -> String {
    let mut out = String::new();
    let mut line = |name: &str, bytes: &[u8]| {
        let hash = Hash::of_bytes("conformance", &Hash::ZERO, bytes);
        writeln!(out, "{name} {} {hash}", bytes.len()).unwrap();
    };
    let mut world = World::new();
    line("genesis", &world.genesis.encode());
    line("genesis-digest", &world.genesis.digest().0);
    line("trust-root", &world.genesis.trust_root().encode());
    line("chain", &world.chain.0);
    line("namespace", &world.genesis.trust_root().consensus_namespace());

    let chain = world.chain;
    let proof = RegisterNode::prove(&key(60), &address(ALICE), &chain);
    let voucher = Voucher::sign(&key(100), &chain, Hash([1; 32]), address(20), Amount(77));
    let actions = [
        world.transfer(ALICE, BOB, Denom::NES, 5).tx.action,
        Action::RegisterModel(RegisterModel {
            digest: Hash([7; 32]),
            name: "name".parse().unwrap(),
            bytes: 1 << 40,
            denom: USD,
            price_per_token: Amount(3),
            lanes: 1,
        }),
        Action::RegisterNode(RegisterNode {
            node: address(60),
            bond: Amount(1_000_000),
            models: vec![model(), usd_model()],
            addresses: vec!["/dns4/example.org/tcp/443/wss".parse().unwrap()],
            proof,
        }),
        Action::UpdateNode(UpdateNode { node: address(60), addresses: vec![] }),
        Action::Unbond(Unbond { node: address(60) }),
        Action::PayForQuery(nesa_chain::action::PayForQuery {
            named: Some(Named { side: Side::B, node: address(20) }),
            ..world.payment(64, 100)
        }),
        Action::Claim(Claim { query: Hash([1; 32]), voucher }),
    ];
    for action in actions {
        let name = action.name();
        let tx = world.tx_nonce(ALICE, 3, action);
        line(&format!("tx-{name}"), &tx.to_bytes());
        line(&format!("tx-id-{name}"), &tx.id().0);
    }

    let id = world.open(50, None);
    line("tx-commit", &world.commit_action(&id, Side::B, 1, 50).encode());
    line("committee", &world.committee(&id).encode());
    for side in [Side::A, Side::B] {
        world.commit(&id, side, 0, 50).unwrap();
    }
    world.claim(&id, Side::A, 0, 140).unwrap();
    line("query-open", &world.query(&id).encode());
    world.wait(12_000);
    line("query-settled", &world.query(&id).encode());
    for (name, key) in [
        ("account", keys::account(&address(ALICE))),
        ("model", keys::model(&model())),
        ("node", keys::node(&address(20))),
        ("nodes", keys::nodes()),
        ("snapshot", keys::snapshot(2)),
        ("params", keys::params()),
        ("supply", keys::supply()),
        ("progress", keys::progress()),
    ] {
        line(&format!("key-{name}"), &key.0);
        line(&format!("record-{name}"), &world.state[&key]);
    }
    line("key-bucket", &keys::bucket(7).0);
    line("key-bucket-page", &keys::bucket_page(7).0);
    let mut sealed = World::sealed();
    line("sealed-genesis-digest", &sealed.genesis.digest().0);
    let payment = sealed.sealed_payment(terms(&[1], 3, true));
    let tx = sealed.tx_nonce(ALICE, 3, Action::PayForQuery(payment));
    line("tx-pay-for-query-sealed", &tx.to_bytes());
    let id = sealed.revealed(terms(&[1], 3, true), &[&[0, 0, 1], &[0, 0, 0]]);
    for which in 0..3 {
        let root = LAB.shard(&terms(&[], 3, true), 0).roots[which];
        line(&format!("trace-root-{which}"), &root.0);
    }
    line("tx-commit-shard", &sealed.commit_shard(&id, (0, 1), &id, 30).encode());
    line("shard-voucher", &sealed.shard_voucher(&id, 0, 1, 60).encode());
    let pair = Pair { query: id, shard: 0, left: 0, right: 2 };
    sealed.open_dispute(pair, 0).unwrap();
    while let Some(record) = sealed.dispute(&pair) {
        line("dispute", &record.encode());
        let answers = [0, 1].map(|which| sealed.answer_of(&pair, which).unwrap().unwrap());
        for (by, answer) in [0, 2].into_iter().zip(answers) {
            line(&format!("answer-{by}"), &answer.encode());
            let action = Action::AnswerDispute(AnswerDispute { pair, round: record.round, answer });
            // Of two openings the first one decides.
            let _ = sealed.by(&id, 0, by, action);
        }
    }
    sealed.claims(&id, 1, 1, 60).unwrap();
    line("query-sealed", &sealed.query(&id).encode());
    line("committee-shards", &sealed.replicas(&id).encode());
    let state: Vec<u8> =
        world.state.iter().flat_map(|(k, v)| [k.0.as_slice(), v].concat()).collect();
    line("whole-state", &state);
    out
}

#[test]
fn encodings_are_what_they_were() {
    let now = lines();
    if std::env::var("NESA_CONFORMANCE").as_deref() == Ok("write") {
        std::fs::write(FILE, &now).unwrap();
    }
    let then = std::fs::read_to_string(FILE).unwrap_or_default();
    for (now, then) in now.lines().zip(then.lines()) {
        assert_eq!(now, then, "an encoding has changed; see the head of conformance.rs");
    }
    assert_eq!(now.lines().count(), then.lines().count());
}
