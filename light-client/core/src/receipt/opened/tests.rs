//! An opened receipt made over two servers in memory, and every way to bend it.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::{collections::BTreeMap, sync::Arc};

use futures::executor::block_on;
use nesa_chain::{
    action::{Lane as ChainLane, PayForQuery, Side, Verification},
    tx::Tx,
};
use nesa_crypto::SecretKey;
use nesa_masked::{
    client::{self, Candidate, Committee, Config},
    preparation::Preparation,
    server,
    spec::Lane,
};
use nesa_model::{
    ExactModel, Model,
    toy::{self, ToyConfig},
};
use nesa_primitives::{Amount, Denom};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::query::{
    commitment,
    work::{Gather, Vectors, Work},
};
use nesa_verify::receipt::Failure;

struct Fixture {
    chain: Hash,
    model: ExactModel,
    receipt: OpenedReceipt,
}

fn texts() -> Vec<String> {
    vec!["a b c".into(), "the quick brown fox jumps over it".into()]
}

/// Two texts embedded.
fn fixture() -> Fixture {
    let model = Model::open(&toy::artifact(&ToyConfig::default()).unwrap()).unwrap();
    let work = block_on(Work::embed(&model, &texts(), None)).unwrap();
    let Work::Read { texts: tokens, plan } = &work else { panic!("vectors") };
    let gather = Vectors::new(&model, tokens, plan);
    run(ExactModel::Encoder(model.clone()), texts(), gather)
}

/// Runs one query through the lane in memory; nothing is skipped but the chain and the links.
fn run<G: Gather>(model: ExactModel, texts: Vec<String>, mut gather: G) -> Fixture {
    let mut rng = StdRng::seed_from_u64(5);
    let chain = Hash([9; 32]);
    let (payer, client_key) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let nodes: Vec<SecretKey> = (0..2).map(|_| SecretKey::generate(&mut rng)).collect();
    let (salt, digest) = (Hash([4; 32]), model.digest());
    let signed = Tx {
        chain,
        sender: payer.public(),
        nonce: 0,
        fee: Amount(10),
        action: Action::PayForQuery(PayForQuery {
            model: digest,
            lane: ChainLane::Masked,
            verification: Verification::Freivalds,
            max_fee: Amount(100_000),
            denom: Denom::NES,
            commitment: commitment(&chain, &salt, &digest, &texts),
            client_key: client_key.public(),
            deadline_ms: 1,
            max_tokens: 2000,
            named: None,
            terms: None,
        }),
    }
    .sign(&payer);
    let query = signed.id();
    let lane = Lane::of_model(model.served_stages()).unwrap();
    let preparation = Preparation::from_weights(
        digest,
        &lane,
        |stage| model.weights(nesa_model::StageId(stage)),
        &mut rng,
    )
    .unwrap();
    let seat = |key: &SecretKey| vec![Candidate { node: key.public(), operator: key.public() }];
    let mut session = client::Session::new(
        Config {
            chain,
            query,
            model: digest,
            price_per_token: Amount(1),
            client_key: client_key.clone(),
            ahead: 2,
            open_receipt: true,
        },
        lane.clone(),
        Committee { a: seat(&nodes[0]), b: seat(&nodes[1]) },
        Arc::new(preparation),
        gather.passes().unwrap(),
        StdRng::seed_from_u64(6),
    )
    .unwrap();
    let mut servers: BTreeMap<Side, server::Session> = [(Side::A, &nodes[0]), (Side::B, &nodes[1])]
        .into_iter()
        .map(|(side, key)| {
            let terms = server::Terms {
                chain,
                query,
                model: digest,
                client_key: client_key.public(),
                side,
                attempt: 0,
                price_per_token: Amount(1),
                budget: Amount(50_000),
                max_tokens: 2000,
            };
            (side, server::Session::new(terms, lane.clone(), key.clone()))
        })
        .collect();

    let mut actions: std::collections::VecDeque<_> = session.start().into();
    let mut transcript = None;
    while let Some(action) = actions.pop_front() {
        match action {
            client::Action::Send { link, message } => {
                let server = servers.get_mut(&link.side).unwrap();
                let reply = match server.receive(&message).unwrap() {
                    server::Received::Reply(bytes) => Some(bytes),
                    server::Received::Work(job) => {
                        let done = job.run(&model).unwrap();
                        Some(server.complete(done))
                    }
                    server::Received::Quiet => None,
                    server::Received::Finished { reply, .. } => Some(reply),
                };
                if let Some(reply) = reply {
                    actions.extend(session.received(link, &reply));
                }
            }
            client::Action::PassDone { pass, output } => gather.take(pass, output).unwrap(),
            client::Action::Done(done) => transcript = Some(done),
            client::Action::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    let guesses = gather.guesses();
    let answer = gather.answer(&digest).unwrap().digest;
    let receipt =
        OpenedReceipt::new(chain, signed, salt, texts, guesses, &transcript.unwrap(), answer);
    Fixture { chain, model, receipt }
}

async fn verdict(fixture: &Fixture, receipt: &OpenedReceipt) -> Result<(), Failure> {
    receipt.verify(&fixture.chain, &fixture.model).await.map(|_| ())
}

#[tokio::test]
async fn an_honest_opening_verifies_and_survives_its_file() {
    let fixture = fixture();
    let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
    assert_eq!(report.summary.vectors.len(), 2);
    assert!(report.summary.products > 0);
    let file = fixture.receipt.to_json().unwrap();
    let again = OpenedReceipt::from_json(&file).unwrap();
    assert!(again == fixture.receipt);
    assert_eq!(again.model(), Some(fixture.model.digest()));
}

#[tokio::test]
async fn neither_r_nor_s_nor_the_prompt_prints() {
    let fixture = fixture();
    let shown = format!("{:?}", fixture.receipt);
    assert!(!shown.contains("quick"), "{shown}");
    let file = fixture.receipt.to_json().unwrap();
    let fields: serde_json::Value = serde_json::from_str(&file).unwrap();
    let mut names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    names.sort();
    let expected = ["answer", "chain", "format", "messages", "payment", "salt", "servers", "texts"];
    assert_eq!(names, expected, "a new field needs a thought about secrets");
}

#[tokio::test]
async fn whatever_is_changed_is_noticed() {
    type Change = fn(&mut OpenedReceipt);
    let changes: [(&str, Change); 16] = [
        ("chain", |r| r.chain.0[0] ^= 1),
        ("payment", |r| r.payment.0[40] ^= 1),
        ("payment's signature", |r| {
            let last = r.payment.0.len() - 1;
            r.payment.0[last] ^= 1;
        }),
        ("salt", |r| r.salt.0[31] ^= 1),
        ("a word", |r| r.texts[0] = "a b d".into()),
        ("a space", |r| r.texts[0].push(' ')),
        ("order of texts", |r| r.texts.swap(0, 1)),
        ("answer", |r| r.answer.0[5] ^= 1),
        ("a node", |r| r.servers[0].node.0[0] ^= 1),
        ("a blind", |r| r.servers[1].blind.0[0] ^= 1),
        ("a leaf", |r| r.servers[0].leaves[0].0[0] ^= 1),
        ("a missing leaf", |r| {
            r.servers[1].leaves.pop();
        }),
        ("a seed", |r| r.messages[0].seed.0[0] ^= 1),
        ("a slot", |r| r.messages[0].slot.0[3] ^= 1),
        ("A's signature", |r| r.messages[1].a.1.0[0] ^= 1),
        ("B's attempt", |r| r.messages[1].b.0 = 1),
    ];
    let fixture = fixture();
    for (name, change) in changes {
        let mut changed = fixture.receipt.clone();
        change(&mut changed);
        assert!(verdict(&fixture, &changed).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn messages_cannot_be_dropped_doubled_or_exchanged() {
    let fixture = fixture();
    let mut fewer = fixture.receipt.clone();
    fewer.messages.pop();
    assert!(verdict(&fixture, &fewer).await.is_err());
    let mut more = fixture.receipt.clone();
    more.messages.push(more.messages[0].clone());
    assert!(verdict(&fixture, &more).await.is_err());
    let mut exchanged = fixture.receipt.clone();
    exchanged.messages.swap(0, 1);
    assert!(verdict(&fixture, &exchanged).await.is_err());
    let mut crossed = fixture.receipt.clone();
    let (a, b) = (crossed.messages[0].a, crossed.messages[0].b);
    (crossed.messages[0].a, crossed.messages[0].b) = (b, a);
    assert!(verdict(&fixture, &crossed).await.is_err());
    let mut twice = fixture.receipt.clone();
    twice.servers.push(twice.servers[0].clone());
    assert!(verdict(&fixture, &twice).await.is_err());
}

#[tokio::test]
async fn another_model_does_not_fit() {
    let fixture = fixture();
    let other = toy::artifact(&ToyConfig { seed: 2, ..ToyConfig::default() }).unwrap();
    let other = ExactModel::open(&other).unwrap();
    let failure = fixture.receipt.verify(&fixture.chain, &other).await.unwrap_err();
    assert_eq!(failure.what, "model");
}

#[test]
fn files_are_bounded_and_have_no_room() {
    let file = fixture().receipt.to_json().unwrap();
    let more = file.replacen('{', "{\"note\":\"trust me\",", 1);
    assert!(matches!(OpenedReceipt::from_json(&more), Err(OpenedError::Json(_))));
    let other = file.replace(OPENED_FORMAT, "nesa-opened-receipt/2");
    assert!(matches!(OpenedReceipt::from_json(&other), Err(OpenedError::Format { .. })));
    assert!(OpenedReceipt::from_json("").is_err());
}

mod images;

mod classified_texts;

#[cfg(feature = "text")]
mod written_texts;
