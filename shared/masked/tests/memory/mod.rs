//! A driver in miniature: what the light client and the compute node do with the two state machines, minus the
//! network.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_masked::{
    Lane, Run,
    client::{Action, Candidate, Committee, Config, Link, Pass, Session},
    message,
    preparation::Preparation,
    server::{self, Received, Terms},
    transcript::Transcript,
};
use nesa_model::ExactModel;
use nesa_primitives::{Amount, Hash};
use rand::rngs::StdRng;

pub(crate) const CHAIN: Hash = Hash([1; 32]);
pub(crate) const QUERY: Hash = Hash([2; 32]);

pub(crate) fn node_key(link: Link) -> SecretKey {
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
    model: ExactModel,
    /// Lies once, in its first answer.
    lies: bool,
}

impl Node {
    fn accept(
        first_frame: &[u8],
        link: Link,
        model: &ExactModel,
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
        let lane = Lane::of_model(model.served_stages()).unwrap();
        let session = server::Session::new(terms, lane, node_key(link));
        Self { session, model: model.clone(), lies }
    }

    fn answer(&mut self, frame: &[u8]) -> Option<Bytes> {
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

/// Asks for `passes`; `liar` lies once.
///
/// What each pass gave, the transcript, and every frame that a node was sent.
pub(crate) fn observed<R: Run>(
    model: &ExactModel,
    passes: Vec<Pass<R>>,
    liar: Option<Link>,
    mut rng: StdRng,
) -> (Vec<R::Output>, Transcript, Vec<(Link, Bytes)>) {
    let client_key = SecretKey::from_seed(&[55; 32]);
    let lane = Lane::of_model(model.served_stages()).unwrap();
    // Here the weights are at hand; a browser folds them in as verified chunks arrive.
    let weights = |stage| model.weights(nesa_model::StageId(stage));
    let preparation = Preparation::from_weights(model.digest(), &lane, weights, &mut rng).unwrap();

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
    let (mut outputs, mut seen) = (Vec::new(), Vec::new());
    while let Some(action) = actions.pop_front() {
        match action {
            // A driver dials here and queues frames until the stream stands.
            Action::Connect { .. } | Action::Close { .. } | Action::Progress(_) => {}
            Action::Rejected { .. } | Action::Replaced(_) => assert!(liar.is_some()),
            Action::Send { link, message } => {
                assert!(message.len() <= session.max_message());
                seen.push((link, message.clone()));
                let node = nodes.entry(link).or_insert_with(|| {
                    Node::accept(&message, link, model, &client_key, liar == Some(link))
                });
                if let Some(reply) = node.answer(&message) {
                    actions.extend(session.received(link, &reply));
                }
            }
            Action::PassDone { output, .. } => outputs.push(output),
            Action::Done(transcript) => return (outputs, *transcript, seen),
            Action::Prepare => panic!("the preparation is right"),
            Action::Failed(error) => panic!("{error}"),
        }
    }
    panic!("the query never ended")
}
