//! A driver in miniature: what the light client and the compute node do with the two state
//! machines, minus the network. Run over a toy model, and over the compiled MiniLM when it is
//! there; the answers must equal plain execution, bit for bit.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
};

use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_masked::{
    Lane,
    batch::Plan,
    client::{Action, Candidate, Committee, Config, Link, Pass, Session},
    message,
    opened::recheck,
    preparation::Preparation,
    server::{self, Received, Terms},
    transcript::Transcript,
};
use nesa_model::{Artifact, Embedding, EncoderRun, Model, ModelLimits, PlainEngine, TokenIds, toy};
use nesa_primitives::{Amount, Hash};
use rand::{SeedableRng, rngs::StdRng};

const CHAIN: Hash = Hash([1; 32]);
const QUERY: Hash = Hash([2; 32]);

fn node_key(link: Link) -> SecretKey {
    SecretKey::from_seed(&[link.attempt + if link.side == Side::A { 1 } else { 101 }; 32])
}

fn committee() -> Committee {
    let seats = |side| {
        (0..3)
            .map(|attempt| {
                let key = node_key(Link { side, attempt });
                Candidate { node: key.public(), operator: key.public() }
            })
            .collect()
    };
    Committee { a: seats(Side::A), b: seats(Side::B) }
}

/// A compute node: it knows the chain's terms and the model, and answers frames.
struct Node {
    session: server::Session,
    model: Model,
    /// Lies once, in its first answer.
    lies: bool,
}

impl Node {
    fn accept(
        first_frame: &[u8],
        link: Link,
        model: &Model,
        client: &SecretKey,
        lies: bool,
    ) -> Self {
        // A node reads the opening, asks its own light client about the query it names, and takes
        // the terms from the chain, never from the client.
        let open = message::decode_open(first_frame).unwrap();
        assert_eq!((open.query, open.side), (QUERY, link.side));
        let terms = Terms {
            chain: CHAIN,
            query: QUERY,
            model: model.digest(),
            client_key: client.public(),
            side: link.side,
            attempt: link.attempt,
            price_per_token: Amount(3),
            budget: Amount(1_000_000),
            max_tokens: 100_000,
        };
        let lane = Lane::of_model(model.stages()).unwrap();
        let session = server::Session::new(terms, lane, node_key(link));
        Self { session, model: model.clone(), lies }
    }

    fn answer(&mut self, frame: &[u8]) -> Option<bytes::Bytes> {
        match self.session.receive(frame).unwrap() {
            Received::Reply(bytes) => Some(bytes),
            Received::Work(job) => {
                let mut done = job.run(&self.model).unwrap();
                if core::mem::take(&mut self.lies) {
                    done.corrupt(17, 1);
                }
                Some(self.session.complete(done))
            }
            Received::Quiet => None,
            Received::Finished { reply, outcome } => {
                assert!(outcome.voucher.is_some());
                Some(reply)
            }
        }
    }
}

fn query(model: &Model, texts: &[TokenIds], liar: Option<Link>) -> (Vec<Embedding>, Transcript) {
    let mut rng = StdRng::seed_from_u64(7);
    let client_key = SecretKey::from_seed(&[55; 32]);
    let lane = Lane::of_model(model.stages()).unwrap();
    // Here the weights are at hand; a browser folds them in as verified chunks arrive.
    let weights = |stage| model.weights(nesa_model::StageId(stage));
    let preparation = Preparation::from_weights(model.digest(), &lane, weights, &mut rng).unwrap();

    let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
    let plan = Plan::new(&lengths).unwrap();
    let passes = passes(model, texts, &plan);
    let config = Config {
        chain: CHAIN,
        query: QUERY,
        model: model.digest(),
        price_per_token: Amount(3),
        client_key: client_key.clone(),
        ahead: 4,
        open_receipt: true,
    };
    let mut session =
        Session::new(config, lane, committee(), Arc::new(preparation), passes, rng).unwrap();

    let mut nodes: HashMap<Link, Node> = HashMap::new();
    let mut actions: VecDeque<_> = session.start().into();
    let mut embeddings = Vec::new();
    while let Some(action) = actions.pop_front() {
        match action {
            // A driver dials here and queues frames until the stream stands.
            Action::Connect { .. } | Action::Close { .. } | Action::Progress(_) => {}
            Action::Rejected { .. } | Action::Replaced(_) => assert!(liar.is_some()),
            Action::Send { link, message } => {
                assert!(message.len() <= session.max_message());
                let node = nodes.entry(link).or_insert_with(|| {
                    Node::accept(&message, link, model, &client_key, liar == Some(link))
                });
                if let Some(reply) = node.answer(&message) {
                    actions.extend(session.received(link, &reply));
                }
            }
            Action::PassDone { output, .. } => embeddings.extend(output),
            Action::Done(transcript) => return (embeddings, *transcript),
            Action::Prepare => panic!("the preparation is right"),
            Action::Failed(error) => panic!("{error}"),
        }
    }
    panic!("the query never ended")
}

fn passes(model: &Model, texts: &[TokenIds], plan: &Plan) -> Vec<Pass<EncoderRun>> {
    plan.passes
        .iter()
        .map(|pass| {
            let batch: Vec<TokenIds> = pass.members.iter().map(|&m| texts[m].clone()).collect();
            let run = EncoderRun::start_padded(model, &batch, pass.tokens as usize).unwrap();
            Pass { run, tokens: pass.tokens }
        })
        .collect()
}

fn check(model: &Model, texts: &[TokenIds]) {
    let plain = EncoderRun::start(model, texts).unwrap().run(&PlainEngine(model)).unwrap();
    let liars =
        [None, Some(Link { side: Side::A, attempt: 0 }), Some(Link { side: Side::B, attempt: 0 })];
    for liar in liars {
        let (embeddings, transcript) = query(model, texts, liar);
        assert_eq!(embeddings, plain);
        let rejected: Vec<Link> = transcript.rejected.iter().map(|r| r.link).collect();
        assert_eq!(rejected, liar.into_iter().collect::<Vec<_>>());
        assert!(transcript.served.iter().all(|s| s.commit.is_some()));

        // A stranger with the prompt, the transcript and the model checks it all again.
        let lane = Lane::of_model(model.stages()).unwrap();
        let mut rng = StdRng::seed_from_u64(8);
        let weights = |stage| model.weights(nesa_model::StageId(stage));
        let fresh = Preparation::from_weights(model.digest(), &lane, weights, &mut rng).unwrap();
        let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
        let plan = Plan::new(&lengths).unwrap();
        let again = recheck(
            &CHAIN,
            &QUERY,
            &lane,
            &fresh,
            |link| Some(node_key(link).public()),
            passes(model, texts, &plan),
            &transcript.opened,
        );
        assert_eq!(again.unwrap().concat(), plain);
    }
}

#[test]
fn a_toy_encoder_end_to_end() {
    let artifact = toy::artifact(&toy::ToyConfig::default()).unwrap();
    let model = Model::open(&artifact).unwrap();
    let texts: Vec<TokenIds> = ["a b c", "the quick brown fox jumps over it all", "z"]
        .into_iter()
        .map(|text| model.tokenizer().encode(text))
        .collect();
    check(&model, &texts);
}

#[test]
fn the_compiled_minilm_end_to_end_if_present() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let files = entries.filter_map(|e| Some(e.ok()?.path()));
    let Some(file) = files.filter(|p| p.extension().is_some_and(|e| e == "nesa")).min() else {
        return;
    };
    let bytes = std::fs::read(file).unwrap();
    let artifact = Artifact::open(bytes, &ModelLimits::default()).unwrap();
    let model = Model::open(&artifact).unwrap();
    let texts: Vec<TokenIds> =
        ["Where is the meeting?", "The committee meets at noon in the annex."]
            .into_iter()
            .map(|text| model.tokenizer().encode(text))
            .collect();
    check(&model, &texts);
}
