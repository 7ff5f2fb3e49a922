//! Paying and blaming: nobody is paid twice, nobody serves far for nothing, nobody is framed.

use nesa_chain::Side;
use nesa_primitives::{Amount, Hash};

use super::harness::{CHAIN, Fault, PRICE, QUERY, Scene, client_key, key, link};
use crate::{
    commitment::blinded_root,
    message::{
        ClientMessage, Limits, Product, Request, ServerMessage, Statement, decode_client,
        decode_server,
    },
    server::{Received, ServeError, Session, own_blind},
    signing,
};

const PROMPT: &[i32] = &[1, 2, 3];

/// The frames an honest client sent to one link, in order.
fn frames(prompts: &[&[i32]], side: Side) -> Vec<Vec<u8>> {
    let scene = Scene::new();
    let mut session = scene.session(prompts);
    let mut server = server(&scene, side);
    let mut other = server_of(&scene, side.other());
    let mut sent = Vec::new();
    let mut actions: std::collections::VecDeque<_> = session.start().into();
    while let Some(action) = actions.pop_front() {
        if let crate::client::Action::Send { link, message } = action {
            if link.side == side {
                sent.push(message.to_vec());
            }
            let node = if link.side == side { &mut server } else { &mut other };
            let reply = match node.receive(&message).unwrap() {
                Received::Reply(bytes) => bytes,
                Received::Work(job) => node.complete(job.run(&scene.toy).unwrap()),
                Received::Finished { reply, .. } => reply,
                Received::Quiet => continue,
            };
            actions.extend(session.received(link, &reply));
        }
    }
    sent
}

fn server_of(scene: &Scene, side: Side) -> Session {
    Session::new(scene.terms(link(side, 0)), scene.toy.lane.clone(), key(side, 0))
}

fn server(scene: &Scene, side: Side) -> Session {
    server_of(scene, side)
}

fn feed(session: &mut Session, scene: &Scene, frame: &[u8]) -> Result<(), ServeError> {
    if let Received::Work(job) = session.receive(frame)? {
        let done = job.run(&scene.toy).unwrap();
        session.complete(done);
    }
    Ok(())
}

fn is_voucher(frame: &[u8]) -> bool {
    frame[0] == 2
}

#[test]
fn a_pass_begins_only_when_the_last_is_paid() {
    let scene = Scene::new();
    let frames = frames(&[PROMPT, PROMPT], Side::A);
    let mut session = server(&scene, Side::A);
    for frame in frames.iter().take_while(|f| !is_voucher(f)) {
        feed(&mut session, &scene, frame).unwrap();
    }
    assert_eq!(session.account(), (16, Amount::ZERO));
    // The client keeps its voucher back and asks for the next pass.
    let next = frames.iter().skip_while(|f| !is_voucher(f)).nth(1).unwrap();
    assert!(matches!(feed(&mut session, &scene, next), Err(ServeError::Unpaid(1))));
    // Nothing more, and what was served is still on its account.
    assert!(matches!(feed(&mut session, &scene, next), Err(ServeError::Closed)));
    let outcome = session.abandon().unwrap();
    assert_eq!(outcome.served_tokens, 16);
    assert!(outcome.voucher.is_none());
}

#[test]
fn vouchers_are_totals_not_tips() {
    let scene = Scene::new();
    let frames = frames(&[PROMPT, PROMPT], Side::A);
    let mut session = server(&scene, Side::A);
    for frame in &frames {
        feed(&mut session, &scene, frame).unwrap();
        if is_voucher(frame) {
            let (_, paid) = session.account();
            // The same voucher again earns nothing.
            feed(&mut session, &scene, frame).unwrap();
            assert_eq!(session.account().1, paid);
        }
    }
    let first = frames.iter().find(|f| is_voucher(f)).unwrap();
    assert_eq!(session.account(), (32, Amount(32 * PRICE.0)));
    // A finished session takes nothing more, and an older voucher would not have lowered it.
    assert!(matches!(feed(&mut session, &scene, first), Err(ServeError::Closed)));
    assert_eq!(session.account(), (32, Amount(32 * PRICE.0)));
}

#[test]
fn a_server_is_paid_once_per_pass_and_a_liar_not_for_its_lie() {
    let fault = Fault::Xor { stage: 7, part: 0, index: 0, bits: 1 };
    // The lie comes in the first pass that A serves; its replacement is paid for both.
    let story = Scene::new().fault(Side::A, 0, fault).play(&[PROMPT, PROMPT]);
    let of = |l| story.outcomes.iter().find(|(link, _)| *link == l).map(|(_, o)| o.clone());
    let liar = of(link(Side::A, 0)).unwrap();
    assert!(liar.voucher.is_none());
    assert_eq!(liar.served_tokens, 16, "served and unpaid: the increment in dispute");
    for honest in [link(Side::A, 1), link(Side::B, 0)] {
        let outcome = of(honest).unwrap();
        assert_eq!(outcome.served_tokens, 32);
        assert_eq!(outcome.voucher.unwrap().total, Amount(32 * PRICE.0));
    }
}

#[test]
fn the_escrow_bounds_what_is_served() {
    let scene = Scene::new();
    let frames = frames(&[PROMPT], Side::B);
    for (budget, max_tokens) in [(16 * PRICE.0 - 1, 1000), (10_000, 15)] {
        let terms = crate::server::Terms {
            budget: Amount(budget),
            max_tokens,
            ..scene.terms(link(Side::B, 0))
        };
        let mut session = Session::new(terms, scene.toy.lane.clone(), key(Side::B, 0));
        feed(&mut session, &scene, &frames[0]).unwrap();
        assert!(matches!(feed(&mut session, &scene, &frames[1]), Err(ServeError::Unpaid(0))));
        assert!(session.abandon().is_none(), "nothing was served");
    }
}

/// What a node writes down with a voucher, and commits to if it is killed right after, opens to the
/// answers that the voucher pays, and to nothing else.
#[test]
fn a_checkpoint_opens_to_the_answers_that_were_paid() {
    let scene = Scene::new();
    let mut session = server(&scene, Side::A);
    let mut leaves = Vec::new();
    let mut checkpoints = Vec::new();
    for frame in frames(&[PROMPT, PROMPT], Side::A) {
        match session.receive(&frame).unwrap() {
            Received::Work(job) => {
                let answer = session.complete(job.run(&scene.toy).unwrap());
                let limits = Limits { payload: answer.len() };
                let Ok(ServerMessage::Product(product)) = decode_server(&answer, &limits) else {
                    panic!("a product was asked for")
                };
                leaves.push((frame, product));
            }
            Received::Quiet => checkpoints.push((session.checkpoint().unwrap(), leaves.len())),
            _ => {}
        }
    }
    let blind = own_blind(&key(Side::A, 0), &CHAIN, &QUERY);
    assert_eq!(checkpoints.len(), 2);
    for (number, (outcome, answered)) in (1u32..).zip(&checkpoints) {
        assert_eq!(outcome.served_tokens, 16 * number);
        assert_eq!(
            outcome.voucher.as_ref().unwrap().total,
            Amount(16 * PRICE.0 * u64::from(number))
        );
        let digests: Vec<Hash> = leaves[..*answered].iter().map(leaf).collect();
        assert_eq!(blinded_root(&CHAIN, &blind, &digests), outcome.blinded_root);
        let fewer = blinded_root(&CHAIN, &blind, &digests[1..]);
        assert_ne!(fewer, outcome.blinded_root);
    }
    // Nobody without the node key can derive the blind.
    assert_ne!(blind, own_blind(&key(Side::B, 0), &CHAIN, &QUERY));
}

/// The leaf of an answer, as the client has it.
fn leaf((frame, product): &(Vec<u8>, Product)) -> Hash {
    let limits = Limits { payload: frame.len() };
    let Ok(ClientMessage::Work(request)) = decode_client(frame, &limits) else {
        panic!("answers follow requests")
    };
    Statement {
        query: QUERY,
        side: Side::A,
        attempt: 0,
        slot: product.slot,
        request: request.digest(&CHAIN),
        product: Statement::product_digest(&CHAIN, &product.values),
    }
    .leaf()
}

/// Rule 6: a client cannot make an honest node appear to have answered something else.
#[test]
fn an_honest_node_cannot_be_framed() {
    let scene = Scene { open_receipt: true, ..Scene::new() };
    let story = scene.play(&[PROMPT]);
    let opened = story.transcript.unwrap().opened;
    assert_eq!(opened.len(), 3);
    for part in &opened {
        for (side, product) in [(Side::A, &part.a), (Side::B, &part.b)] {
            let node = key(side, 0);
            let honest = Statement {
                query: QUERY,
                side,
                attempt: 0,
                slot: part.slot,
                request: product.request,
                product: Statement::product_digest(&CHAIN, &product.values),
            };
            let holds = |s: &Statement| {
                signing::statement_is_signed(s, &CHAIN, &node.public(), &product.signature)
            };
            assert!(holds(&honest));
            let mut values = product.values.to_vec();
            values[0] ^= 1;
            let mut slots = [part.slot; 4];
            slots[0].pass += 1;
            slots[1].stage ^= 1;
            slots[2].part += 1;
            slots[3].tokens *= 2;
            // Another share for the same answer is the framing that matters: the honest product of
            // one request is a wrong product of any other.
            let other = Request::Seed { slot: part.slot, seed: part.seed.clone() };
            let mut framed = vec![
                Statement { query: Hash([9; 32]), ..honest },
                Statement { side: side.other(), ..honest },
                Statement { attempt: 1, ..honest },
                Statement { product: Statement::product_digest(&CHAIN, &values), ..honest },
                Statement { request: Hash([9; 32]), ..honest },
            ];
            if side == Side::A {
                framed.push(Statement { request: other.digest(&CHAIN), ..honest });
            }
            framed.extend(slots.map(|slot| Statement { slot, ..honest }));
            assert!(framed.iter().all(|s| !holds(s)));
            assert!(!signing::statement_is_signed(
                &honest,
                &Hash([8; 32]),
                &node.public(),
                &product.signature
            ));
        }
    }
}

#[test]
fn a_commitment_names_one_node_query_and_chain() {
    let story = Scene::new().play(&[PROMPT]);
    for served in story.transcript.unwrap().served {
        let commit = served.commit.unwrap();
        let node = served.candidate.node;
        assert!(signing::commit_is_signed(&commit, &node));
        let mut others = [commit; 6];
        others[0].chain = Hash::ZERO;
        others[1].query = Hash::ZERO;
        others[2].side = commit.side.other();
        others[3].attempt += 1;
        others[4].blinded_root = Hash::ZERO;
        others[5].served_tokens += 1;
        assert!(others.iter().all(|c| !signing::commit_is_signed(c, &node)));
        assert!(!signing::commit_is_signed(&commit, &client_key().public()));
    }
}

#[test]
fn openings_are_for_one_node_and_by_the_client() {
    let scene = Scene::new();
    let good = frames(&[PROMPT], Side::A).remove(0);
    let open = crate::message::decode_open(&good).unwrap();
    let refused = |open: crate::message::Open| {
        use commonware_codec::Encode;
        let frame = crate::message::ClientMessage::Open(open).encode();
        let mut session = server(&scene, Side::A);
        matches!(session.receive(&frame), Err(ServeError::Open))
    };
    assert!(!refused(open));
    for other in [
        crate::message::Open { query: Hash::ZERO, ..open },
        crate::message::Open { chain: Hash::ZERO, ..open },
        crate::message::Open { model: Hash::ZERO, ..open },
        crate::message::Open { node: key(Side::B, 0).public(), ..open },
        crate::message::Open { side: Side::B, ..open },
        crate::message::Open { attempt: 1, ..open },
    ] {
        assert!(refused(other));
    }
    let stranger =
        signing::sign_open(CHAIN, QUERY, open.model, open.node, Side::A, 0, &key(Side::B, 2));
    assert!(refused(stranger));
}
