//! What a relay on both links of a masked query can see.
//!
//! A query runs through one relay to both of its servers: the worst place for an observer, since
//! A's share and B's seed together are the input. The relay may see who talks to whom, when, and
//! how much; not a byte of what, and nothing that depends on the prompt.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/relay.rs"]
mod relay;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use nesa_chain::Side;
use nesa_crypto::SecretKey;
use nesa_masked::{
    Lane, batch,
    client::{self, Action, Candidate, Committee, Config, Link, Pass},
    preparation::Preparation,
    server::{self, Received, Terms},
};
use nesa_model::{
    Embedding, EncoderRun, Model, StageId, TokenIds,
    toy::{self, ToyConfig},
};
use nesa_platform::{
    net::{NetConfig, Network, StreamLimits},
    random,
};
use nesa_primitives::{Amount, Hash};
use nesa_wire::Protocol;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

/// Every frame, and what each side's observer saw.
type Notes = (Vec<Bytes>, BTreeMap<Side, Vec<Seen>>);

const CHAIN: Hash = Hash([1; 32]);
const QUERY: Hash = Hash([2; 32]);
const PRICE: Amount = Amount(5);

fn key(side: Side) -> SecretKey {
    SecretKey::from_seed(&[if side == Side::A { 10 } else { 20 }; 32])
}

fn client_key() -> SecretKey {
    SecretKey::from_seed(&[77; 32])
}

/// Serves one side behind the relay, and returns the relayed address.
async fn serve(side: Side, relay: &str, model: Model, lane: Lane) -> (Network, String) {
    let key = key(side);
    let network = Network::start(NetConfig::client(*key.seed())).await.unwrap();
    let mut incoming = network.accept(Protocol::Masked, StreamLimits::default()).unwrap();
    let address = network.listen_relay(relay).await.unwrap();
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.next().await {
            let terms = Terms {
                chain: CHAIN,
                query: QUERY,
                model: model.digest(),
                client_key: client_key().public(),
                side,
                attempt: 0,
                price_per_token: PRICE,
                budget: Amount(1_000_000),
                max_tokens: 10_000,
            };
            let mut session = server::Session::new(terms, lane.clone(), key.clone());
            while let Ok(Some(frame)) = stream.recv().await {
                let answer = match session.receive(&frame).unwrap() {
                    Received::Reply(answer) | Received::Finished { reply: answer, .. } => answer,
                    Received::Quiet => continue,
                    Received::Work(job) => session.complete(job.run(&model).unwrap()),
                };
                stream.send(&answer).await.unwrap();
            }
        }
    });
    (network, address)
}

/// A frame as an observer would see it: which link, which direction, how long.
type Seen = (Side, &'static str, usize);

/// Runs one query and returns its answer, its frames, and their order and size on each link.
async fn query(
    network: &Network,
    addresses: &BTreeMap<Side, String>,
    model: &Model,
    lane: &Lane,
    tokens: TokenIds,
) -> (Vec<Embedding>, Vec<Bytes>, BTreeMap<Side, Vec<Seen>>) {
    let weights = |stage| model.weights(StageId(stage));
    let mut rng = random::rng();
    let preparation = Preparation::from_weights(model.digest(), lane, weights, &mut rng).unwrap();
    let padded = batch::bucket(tokens.len()).unwrap();
    let run = EncoderRun::start_padded(model, &[tokens], padded as usize).unwrap();
    let seat = |side| vec![Candidate { node: key(side).public(), operator: key(side).public() }];
    let config = Config {
        chain: CHAIN,
        query: QUERY,
        model: model.digest(),
        price_per_token: PRICE,
        client_key: client_key(),
        ahead: 4,
        open_receipt: false,
    };
    let committee = Committee { a: seat(Side::A), b: seat(Side::B) };
    let passes = vec![Pass { run, tokens: padded }];
    let mut session =
        client::Session::new(config, lane.clone(), committee, Arc::new(preparation), passes, rng)
            .unwrap();

    let frames = Arc::new(Mutex::new((Vec::new(), BTreeMap::<Side, Vec<Seen>>::new())));
    let note = |frames: &Mutex<Notes>, side, way, frame: &Bytes| {
        let mut frames = frames.lock().unwrap();
        frames.0.push(frame.clone());
        frames.1.entry(side).or_default().push((side, way, frame.len()));
    };
    let (inbox, mut arrived) = mpsc::channel::<(Link, Bytes)>(8);
    let mut outboxes: BTreeMap<Link, mpsc::UnboundedSender<Bytes>> = BTreeMap::new();
    let mut answer = None;
    let mut actions: std::collections::VecDeque<_> = session.start().into();
    loop {
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Connect { link, candidate } => {
                    network.dial(&addresses[&link.side]).await.unwrap();
                    let stream = network.open(candidate.node, Protocol::Masked).await.unwrap();
                    let (mut reader, mut writer) = stream.split();
                    let (outbox, mut orders) = mpsc::unbounded::<Bytes>();
                    outboxes.insert(link, outbox);
                    tokio::spawn(async move {
                        while let Some(frame) = orders.next().await {
                            writer.send(&frame).await.unwrap();
                        }
                        let _ = writer.close().await;
                    });
                    let mut inbox = inbox.clone();
                    tokio::spawn(async move {
                        while let Ok(Some(frame)) = reader.recv().await {
                            if inbox.send((link, frame)).await.is_err() {
                                return;
                            }
                        }
                    });
                }
                Action::Send { link, message } => {
                    note(&frames, link.side, "up", &message);
                    outboxes[&link].unbounded_send(message).unwrap();
                }
                Action::Close { link } => drop(outboxes.remove(&link)),
                Action::PassDone { output, .. } => answer = Some(output),
                Action::Done(_) => {
                    let (frames, seen) = frames.lock().unwrap().clone();
                    return (answer.unwrap(), frames, seen);
                }
                Action::Progress(_) => {}
                Action::Rejected { .. } | Action::Replaced(_) | Action::Prepare => {
                    panic!("honest servers are not rejected")
                }
                Action::Failed(error) => panic!("{error}"),
            }
        }
        let (link, frame) = arrived.next().await.unwrap();
        note(&frames, link.side, "down", &frame);
        actions.extend(session.received(link, &frame));
    }
}

#[tokio::test]
async fn a_relay_on_both_links_sees_no_byte_and_nothing_of_the_prompt() {
    let artifact = toy::artifact(&ToyConfig::default()).unwrap();
    let model = Model::open(&artifact).unwrap();
    let lane = Lane::of_model(model.stages()).unwrap();
    let (relay, record) = relay::start().await;
    let (_a, address_a) = serve(Side::A, &relay, model.clone(), lane.clone()).await;
    let (_b, address_b) = serve(Side::B, &relay, model.clone(), lane.clone()).await;
    let addresses = BTreeMap::from([(Side::A, address_a), (Side::B, address_b)]);
    let network = Network::start(NetConfig::client([99; 32])).await.unwrap();

    // Two prompts of one bucket: other words, and another length.
    let bucket = batch::BUCKETS[0] as usize;
    let vocab = model.config().vocab as u32;
    let prompt = |step: u32, length: usize| TokenIds {
        ids: (0..length as u32).map(|i| (1 + i * step) % vocab).collect(),
        second: None,
        truncated: false,
    };
    let prompts = [prompt(1, bucket), prompt(3, bucket / 2)];
    let mut seen = Vec::new();
    for tokens in prompts {
        let before = record.len();
        let expected = {
            let mut run = EncoderRun::start(&model, std::slice::from_ref(&tokens)).unwrap();
            plain(&model, &mut run)
        };
        let (answer, frames, sizes) = query(&network, &addresses, &model, &lane, tokens).await;
        assert_eq!(answer, expected, "the answer through the relay is the model's");

        // The relay carried the query, twice: once in, once out.
        let carried: usize = frames.iter().map(Bytes::len).sum();
        assert!(record.len() - before >= 2 * carried, "the relay was on the way");
        // It saw its own protocol in clear, which shows that the recorder works …
        assert!(record.holds(b"/libp2p/circuit/relay/0.2.0/hop"));
        // … and no piece of any frame, but for the name of the node that it connects to.
        let names = [key(Side::A).public(), key(Side::B).public()];
        let public = |piece: &[u8]| names.iter().any(|n| n.0.windows(16).any(|w| w == piece));
        let pieces: HashSet<&[u8]> = frames
            .iter()
            .flat_map(|frame| frame.chunks_exact(16))
            .filter(|piece| !public(piece))
            .collect();
        assert!(pieces.len() > 100);
        for tape in record.tapes() {
            assert!(tape.windows(16).all(|window| !pieces.contains(window)));
        }
        seen.push(sizes);
    }
    // Order and size of all frames on each link are the same for both prompts.
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0][&Side::A].len() > 4 && seen[0][&Side::B].len() > 4);
}

/// The model's own answer, computed here.
fn plain(model: &Model, run: &mut EncoderRun) -> Vec<Embedding> {
    use nesa_model::Step;
    loop {
        match run.step() {
            Step::Done(output) => return output.clone(),
            Step::Linear { stage, tokens, x } => {
                let spec = model.stage(stage);
                let mut y = vec![0; tokens * spec.n];
                model.weights(stage).matmul_i8(&x, spec.n, spec.k, tokens, &mut y);
                run.resume(y).unwrap();
            }
        }
    }
}
