//! Clients and nodes that break the protocol, one message at a time.

use super::harness::*;
use crate::{
    CREDIT,
    client::{Event, Link, Misbehaviour, Session as Client, purpose_for_tests},
    message::*,
    server::{self, Door, EPOCH_MS, Greeting, Received, ServeError, Session},
};
use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::ShardVoucher;
use nesa_crypto::SecretKey;
use nesa_model::{
    Artifact, PlainDecoder,
    decoder::{DecoderModel, Shard, ShardPlan},
};
use nesa_primitives::{Amount, Hash, decode_exact};
use rand::{SeedableRng as _, rngs::StdRng};

const LINK: Link = Link { shard: 0, seat: 0 };

struct Pair {
    client: Client,
    node: Session,
    model: DecoderModel,
}

fn terms(artifact: &Artifact, link: Link, plan: &ShardPlan) -> crate::Terms {
    crate::Terms {
        chain: CHAIN,
        query: QUERY,
        model: artifact.digest(),
        client_key: client_key().public(),
        role: nesa_crypto::seal::Role { shard: link.shard, seat: link.seat },
        cuts: inner(plan),
        replicas: 2,
        price_per_token: PRICE,
        budget: Amount(1 << 40),
        max_tokens: 1 << 20,
        disclose: false,
    }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(8)
}

/// Opens a session of `link`; `bend` changes the terms that the node has proven.
fn open(
    artifact: &Artifact,
    cuts: &[u16],
    link: Link,
    bend: impl FnOnce(&mut crate::Terms),
) -> Result<Pair, ServeError> {
    let plan = ShardPlan::from_cuts(cuts.to_vec()).unwrap();
    let layers = plan.layers(link.shard.into()).unwrap();
    let shard = Shard::of_artifact(artifact, layers).unwrap();
    let model = DecoderModel::open_shard(&shard).unwrap();
    let key = node_key(link);
    let mut door = Door::new(CHAIN, key.clone());
    door.turn(NOW, &mut rng());
    let (mut client, hello) = Client::start(purpose_for_tests(artifact, &plan, link, key.public()));
    let Ok(Greeting::Reply(prekey)) = door.receive(&hello) else { panic!("no prekey") };
    let Ok(Event::Send(opening)) = client.receive(&prekey, &client_key(), NOW, &mut rng()) else {
        panic!("no opening")
    };
    let Ok(Greeting::Asked(asked)) = door.receive(&opening) else { panic!("not asked") };
    let mut terms = terms(artifact, link, &plan);
    bend(&mut terms);
    let (node, accept) = Session::start(*asked, terms, model.clone(), key)?;
    let event = client.receive(&accept, &client_key(), NOW, &mut rng());
    assert!(matches!(event, Ok(Event::Ready)));
    Ok(Pair { client, node, model })
}

impl Pair {
    /// The node's answer to a step, computed.
    fn step(&mut self, input: Input, tokens: usize, want: Want) -> Result<Bytes, ServeError> {
        let frame = self.client.step(input, tokens, want, Vec::new()).unwrap();
        self.give(&frame)
    }

    fn give(&mut self, frame: &[u8]) -> Result<Bytes, ServeError> {
        match self.node.receive(frame)? {
            Received::Work(job) => {
                let mut done = server::run(vec![job], &self.model, &PlainDecoder(&self.model));
                Ok(self.node.complete(done.remove(0)).unwrap())
            }
            Received::Reply(reply) | Received::Finished { reply, .. } => Ok(reply),
            Received::Quiet => Ok(Bytes::new()),
        }
    }

    fn take(&mut self, frame: &[u8]) -> Result<Event, Misbehaviour> {
        self.client.receive(frame, &client_key(), NOW, &mut rng())
    }
}

fn tokens(n: usize) -> Input {
    Input::Tokens(vec![3; n])
}

#[test]
fn a_session_needs_the_terms_of_the_chain() {
    let artifact = model(2);
    let open =
        |bend: fn(&mut crate::Terms)| super::hostile::open(&artifact, &[0, 1, 2], LINK, bend);
    assert!(open(|_| ()).is_ok());
    let wrong: [fn(&mut crate::Terms); 8] = [
        |t| t.query = Hash([9; 32]),
        |t| t.model = Hash([9; 32]),
        |t| t.client_key = node_key(LINK).public(),
        |t| t.role.seat = 1,
        |t| t.role.shard = 1,
        |t| t.cuts = vec![],
        |t| t.max_tokens = 5,
        |t| t.replicas = 0,
    ];
    for bend in wrong {
        assert!(matches!(open(bend), Err(ServeError::Opening { .. })));
    }
}

#[test]
fn steps_that_the_shard_cannot_take_end_the_session() {
    let artifact = model(2);
    let row = vec![0u8; 32 * 4];
    let loud = i32::MAX.to_le_bytes().repeat(32);
    let first: [(Input, usize, Want); 7] = [
        (tokens(0), 0, Want::Rows),
        (Input::Tokens(vec![50]), 1, Want::Rows),
        (Input::Rows(row.clone().into()), 1, Want::Rows),
        (tokens(1), 1, Want::Last),
        (tokens(1), 1, Want::All),
        // Longer than the opening asked memory for.
        (tokens(41), 41, Want::Rows),
        (Input::Tokens(vec![u32::MAX; 2]), 2, Want::Digests),
    ];
    for (input, n, want) in first {
        let mut pair = open(&artifact, &[0, 1, 2], LINK, |_| ()).unwrap();
        assert!(matches!(pair.step(input, n, want), Err(ServeError::Step { .. })));
        assert!(pair.node.is_over());
        // Nothing is taken after that, not even what would have been right.
        assert_eq!(pair.step(tokens(1), 1, Want::Rows).err(), Some(ServeError::Order));
    }
    let second: [(Input, usize, Want); 6] = [
        (tokens(1), 1, Want::Last),
        (Input::Rows(row.clone().into()), 1, Want::Rows),
        (Input::Rows(Bytes::copy_from_slice(&row[1..])), 1, Want::Last),
        (Input::Rows(Bytes::copy_from_slice(&row[4..])), 1, Want::Last),
        (Input::Rows(loud.into()), 1, Want::Last),
        (Input::Rows(Bytes::new()), 0, Want::All),
    ];
    for (input, n, want) in second {
        let link = Link { shard: 1, seat: 0 };
        let mut pair = open(&artifact, &[0, 1, 2], link, |_| ()).unwrap();
        assert!(matches!(pair.step(input, n, want), Err(ServeError::Step { .. })));
    }
}

#[test]
fn numbers_and_positions_must_follow() {
    let artifact = model(2);
    let mut pair = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    let frame = pair.client.step(tokens(2), 2, Want::Last, Vec::new()).unwrap();
    pair.give(&frame).unwrap();
    // The same frame again does not open: its nonce has passed.
    assert_eq!(pair.give(&frame).err(), Some(ServeError::Sealed));
}

#[test]
fn a_message_while_a_step_is_computed_is_out_of_turn() {
    let artifact = model(2);
    let mut pair = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    let first = pair.client.step(tokens(2), 2, Want::Last, Vec::new()).unwrap();
    let second = pair.client.step(tokens(1), 1, Want::Last, Vec::new()).unwrap();
    assert!(matches!(pair.node.receive(&first), Ok(Received::Work(_))));
    assert_eq!(pair.node.receive(&second).err(), Some(ServeError::Order));
}

#[test]
fn only_so_much_is_served_on_credit() {
    let artifact = model(1);
    // A node that gives credit for all that fits the toy's context serves truncated tokens again.
    let mut pair = open(&artifact, &[0, 1], LINK, |_| ()).unwrap();
    let mut served = 0;
    let refused = loop {
        match pair.step(tokens(40), 40, Want::Last) {
            Ok(reply) => {
                served += 40;
                pair.take(&reply).unwrap();
            }
            Err(error) => break error,
        }
        let frame = pair.client.truncate(0).unwrap();
        let reply = pair.give(&frame).unwrap();
        assert!(matches!(pair.take(&reply), Ok(Event::Truncated)));
    };
    assert!(matches!(refused, ServeError::Unpaid { .. }), "{refused}");
    assert!(served <= CREDIT && served + 40 > CREDIT, "{served}");
}

#[test]
fn vouchers_of_others_are_refused_and_good_ones_extend_the_credit() {
    let artifact = model(1);
    let node = node_key(LINK).public();
    let sign =
        |key: SecretKey, query, to| ShardVoucher::sign(&key, &CHAIN, query, (0, 0), to, Amount(50));
    let bad = [
        sign(node_key(LINK), QUERY, node),
        sign(client_key(), Hash([9; 32]), node),
        sign(client_key(), QUERY, client_key().public()),
        ShardVoucher { replica: 1, ..sign(client_key(), QUERY, node) },
        ShardVoucher::sign(&client_key(), &CHAIN, QUERY, (1, 0), node, Amount(50)),
        ShardVoucher { total: Amount(51), ..sign(client_key(), QUERY, node) },
    ];
    for voucher in bad {
        let mut pair = open(&artifact, &[0, 1], LINK, |_| ()).unwrap();
        let frame = pair.client.voucher(voucher).unwrap();
        assert_eq!(pair.give(&frame).err(), Some(ServeError::Voucher));
    }
    let mut pair = open(&artifact, &[0, 1], LINK, |_| ()).unwrap();
    let good = sign(client_key(), QUERY, node);
    let frame = pair.client.voucher(good.clone()).unwrap();
    pair.give(&frame).unwrap();
    assert_eq!(pair.node.latest_voucher(), Some(&good));
    // A smaller total changes nothing.
    let less = ShardVoucher::sign(&client_key(), &CHAIN, QUERY, (0, 0), node, Amount(5));
    let frame = pair.client.voucher(less).unwrap();
    pair.give(&frame).unwrap();
    assert_eq!(pair.node.latest_voucher(), Some(&good));
}

#[test]
fn the_escrow_is_the_most_that_is_served() {
    let artifact = model(1);
    let mut pair = open(&artifact, &[0, 1], LINK, |t| t.budget = Amount(5 * 7)).unwrap();
    pair.step(tokens(7), 7, Want::Last).unwrap();
    let more = pair.step(tokens(1), 1, Want::Last);
    assert!(matches!(more, Err(ServeError::Unpaid { .. })));
}

#[test]
fn a_cut_back_cache_goes_on_as_if_nothing_had_followed() {
    let artifact = model(2);
    let ask = |pair: &mut Pair, input: Input, n| {
        let reply = pair.step(input, n, Want::Last).unwrap();
        let Ok(Event::Stepped(stepped)) = pair.take(&reply) else { panic!("no answer") };
        stepped
    };
    let mut fresh = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    ask(&mut fresh, Input::Tokens(vec![4, 5]), 2);
    let expected = ask(&mut fresh, Input::Tokens(vec![6]), 1);
    let mut pair = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    ask(&mut pair, Input::Tokens(vec![4, 5, 9, 9, 9]), 5);
    let frame = pair.client.truncate(2).unwrap();
    let reply = pair.give(&frame).unwrap();
    assert!(matches!(pair.take(&reply), Ok(Event::Truncated)));
    let again = ask(&mut pair, Input::Tokens(vec![6]), 1);
    assert_eq!((again.digests, again.tokens), (expected.digests, expected.tokens));
    // One cannot keep more than there is.
    let more = Request::Truncate { tokens: 9 };
    assert!(pair.client.truncate(9).is_none(), "{more:?}");
}

#[test]
fn a_cancelled_step_gives_nothing_and_ends_the_session() {
    let artifact = model(2);
    let mut pair = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    let frame = pair.client.step(tokens(8), 8, Want::Last, Vec::new()).unwrap();
    let Ok(Received::Work(job)) = pair.node.receive(&frame) else { panic!("no work") };
    pair.node.canceller().cancel();
    let mut done = server::run(vec![job], &pair.model, &PlainDecoder(&pair.model));
    let done = done.remove(0);
    assert!(!done.is_complete());
    assert_eq!(pair.node.complete(done), None);
    assert!(pair.node.is_over());
}

#[test]
fn jobs_of_several_sessions_give_together_what_they_give_alone() {
    let artifact = model(2);
    let prompts = [vec![4u32, 5, 6], vec![7], vec![8, 9]];
    let mut alone = Vec::new();
    let mut pairs = Vec::new();
    let mut jobs = Vec::new();
    for prompt in &prompts {
        let mut one = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
        let reply = one.step(Input::Tokens(prompt.clone()), prompt.len(), Want::Last).unwrap();
        alone.push(one.take(&reply).unwrap());
        let mut other = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
        let input = Input::Tokens(prompt.clone());
        let frame = other.client.step(input, prompt.len(), Want::Last, Vec::new()).unwrap();
        let Ok(Received::Work(job)) = other.node.receive(&frame) else { panic!("no work") };
        jobs.push(job);
        pairs.push(other);
    }
    // One of them does not wait any more: the others do not notice.
    pairs[1].node.canceller().cancel();
    let done = server::run(jobs, &pairs[0].model, &PlainDecoder(&pairs[0].model));
    for ((pair, done), alone) in pairs.iter_mut().zip(done).zip(alone) {
        let Some(reply) = pair.node.complete(done) else { continue };
        let (Event::Stepped(alone), Ok(Event::Stepped(together))) = (alone, pair.take(&reply))
        else {
            panic!("no answer")
        };
        assert_eq!(alone, together);
    }
    assert!(pairs[1].node.is_over() && !pairs[0].node.is_over());
}

#[test]
fn rows_that_are_not_what_their_digests_name_are_noticed() {
    let artifact = model(2);
    let mut pair = open(&artifact, &[0, 1, 2], LINK, |_| ()).unwrap();
    let frame = pair.client.step(tokens(3), 3, Want::Rows, Vec::new()).unwrap();
    let Ok(Received::Work(job)) = pair.node.receive(&frame) else { panic!("no work") };
    let mut done = server::run(vec![job], &pair.model, &PlainDecoder(&pair.model));
    let reply = pair.node.forge(done.remove(0), |stepped| {
        let mut rows = stepped.rows.to_vec();
        rows[130] ^= 1;
        stepped.rows = rows.into();
    });
    assert_eq!(pair.take(&reply).err(), Some(Misbehaviour::Digest { seq: 0, row: 1 }));
}

#[test]
fn answers_of_another_size_or_number_are_noticed() {
    let artifact = model(2);
    let bends: [fn(&mut Stepped); 5] = [
        |s| s.seq = 1,
        |s| s.digests.truncate(2),
        |s| s.digests.push(Hash::ZERO),
        |s| s.tokens.push(1),
        |s| s.rows = s.rows.slice(..s.rows.len() - 4),
    ];
    for bend in bends {
        let mut pair = open(&artifact, &[0, 1, 2], LINK, |_| ()).unwrap();
        let frame = pair.client.step(tokens(3), 3, Want::Rows, Vec::new()).unwrap();
        let Ok(Received::Work(job)) = pair.node.receive(&frame) else { panic!("no work") };
        let mut done = server::run(vec![job], &pair.model, &PlainDecoder(&pair.model));
        let reply = pair.node.forge(done.remove(0), bend);
        assert!(matches!(pair.take(&reply), Err(Misbehaviour::Protocol { .. })));
        assert!(!pair.client.is_ready(), "the session is over");
    }
}

#[test]
fn a_door_turns_with_the_hours_and_forgets_old_keys() {
    let key = node_key(LINK);
    let mut door = Door::new(CHAIN, key.clone());
    let ask = |door: &Door| {
        let hello = Frame::Hello { chain: CHAIN, node: key.public() }.encode();
        let Ok(Greeting::Reply(frame)) = door.receive(&hello) else { panic!("no prekey") };
        match decode_exact::<Frame>(&frame, &FrameLimits { sealed: 0 }).unwrap() {
            Frame::Prekey(prekey) => prekey,
            other => panic!("{other:?}"),
        }
    };
    let hello = Frame::Hello { chain: CHAIN, node: key.public() }.encode();
    assert_eq!(door.receive(&hello).err(), Some(Refusal::Unavailable));
    door.turn(NOW, &mut rng());
    let first = ask(&door);
    door.turn(NOW + 1, &mut rng());
    assert_eq!(ask(&door), first, "the same within its hour");
    first.verify(&CHAIN, &key.public(), NOW).unwrap();
    door.turn(NOW + EPOCH_MS, &mut rng());
    let second = ask(&door);
    assert_ne!(second.epoch, first.epoch);
    let envelope = |prekey: &nesa_crypto::seal::Prekey| {
        let binding = nesa_crypto::seal::Binding {
            chain: CHAIN,
            query: QUERY,
            model: Hash::ZERO,
            node: key.public(),
            role: nesa_crypto::seal::Role { shard: 0, seat: 0 },
            epoch: prekey.epoch,
        };
        let sealed = nesa_crypto::seal::Envelope::seal(prekey, &binding, b"no opening", &mut rng());
        Frame::Open { binding, envelope: sealed.unwrap().envelope }.encode()
    };
    // The old key still opens, which shows as a malformed opening; an hour later it is gone.
    assert_eq!(door.receive(&envelope(&first)).err(), Some(Refusal::Protocol));
    door.turn(first.until_ms, &mut rng());
    assert_eq!(door.receive(&envelope(&first)).err(), Some(Refusal::Envelope));
    // Hello to another node or chain, and anything else, is refused.
    let other = Frame::Hello { chain: CHAIN, node: client_key().public() }.encode();
    assert_eq!(door.receive(&other).err(), Some(Refusal::NotDrawn));
    let other = Frame::Hello { chain: QUERY, node: key.public() }.encode();
    assert_eq!(door.receive(&other).err(), Some(Refusal::NotDrawn));
    let sealed = Frame::Sealed(Bytes::new()).encode();
    assert_eq!(door.receive(&sealed).err(), Some(Refusal::Protocol));
    assert_eq!(door.receive(b"").err(), Some(Refusal::Protocol));
}

#[test]
fn a_prekey_of_another_node_or_hour_is_not_sealed_to() {
    let artifact = model(1);
    let plan = ShardPlan::from_cuts(vec![0, 1]).unwrap();
    let honest = node_key(LINK).public();
    let start = || Client::start(purpose_for_tests(&artifact, &plan, LINK, honest)).0;
    let thief = node_key(Link { shard: 3, seat: 3 });
    let mut door = Door::new(CHAIN, thief.clone());
    door.turn(NOW, &mut rng());
    let hello = Frame::Hello { chain: CHAIN, node: thief.public() }.encode();
    let Ok(Greeting::Reply(theirs)) = door.receive(&hello) else { panic!("no prekey") };
    let taken = start().receive(&theirs, &client_key(), NOW, &mut rng());
    assert!(matches!(taken, Err(Misbehaviour::Prekey(_))));
    let mut door = Door::new(CHAIN, node_key(LINK));
    door.turn(NOW, &mut rng());
    let hello = Frame::Hello { chain: CHAIN, node: honest }.encode();
    let Ok(Greeting::Reply(ours)) = door.receive(&hello) else { panic!("no prekey") };
    let late = start().receive(&ours, &client_key(), NOW + 3 * EPOCH_MS, &mut rng());
    assert!(matches!(late, Err(Misbehaviour::Prekey(_))));
    assert!(matches!(start().receive(&ours, &client_key(), NOW, &mut rng()), Ok(Event::Send(_))));
}

fn place(artifact: &Artifact, salt: Hash) -> crate::receipts::Inputs {
    crate::receipts::Inputs {
        chain: CHAIN,
        query: QUERY,
        model: artifact.digest(),
        client_key: client_key().public(),
        shard: 0,
        salt,
    }
}

#[test]
fn where_a_dispute_may_come_no_input_is_taken_without_its_receipt() {
    let artifact = model(2);
    let good = |pair: &Pair, input: &Input, position| {
        place(&artifact, pair.node.salt().unwrap()).sign(
            &client_key(),
            input,
            position,
            32,
            Want::Last,
        )
    };
    let disclosed = || open(&artifact, &[0, 2], LINK, |t| t.disclose = true).unwrap();
    type Bend = fn(&mut Vec<nesa_crypto::Signature>);
    let bends: [Bend; 5] =
        [|r| r.clear(), |r| r.truncate(2), |r| r.push(r[0]), |r| r.swap(0, 1), |r| r[1].0[9] ^= 1];
    for bend in bends {
        let mut pair = disclosed();
        let mut receipts = good(&pair, &tokens(3), 0);
        bend(&mut receipts);
        let frame = pair.client.step(tokens(3), 3, Want::Last, receipts).unwrap();
        assert_eq!(pair.give(&frame).err(), Some(ServeError::Receipt { seq: 0 }));
        assert!(pair.node.take_given().is_empty());
    }
    // Receipts for other places of the text, or for another text.
    for (input, position) in [(tokens(3), 1), (Input::Tokens(vec![3, 3, 4]), 0)] {
        let mut pair = disclosed();
        let receipts = good(&pair, &input, position);
        let frame = pair.client.step(tokens(3), 3, Want::Last, receipts).unwrap();
        assert_eq!(pair.give(&frame).err(), Some(ServeError::Receipt { seq: 0 }));
    }
    // Receipts for the logits of all tokens where those of the last are asked for, and for none.
    for want in [Want::All, Want::Rows] {
        let mut pair = disclosed();
        let place = place(&artifact, pair.node.salt().unwrap());
        let receipts = place.sign(&client_key(), &tokens(3), 0, 32, want);
        let frame = pair.client.step(tokens(3), 3, Want::Last, receipts).unwrap();
        assert_eq!(pair.give(&frame).err(), Some(ServeError::Receipt { seq: 0 }));
    }
    // What was receipted is kept; and a place that has an input keeps it.
    let mut pair = disclosed();
    let receipts = good(&pair, &tokens(3), 0);
    let frame = pair.client.step(tokens(3), 3, Want::Last, receipts.clone()).unwrap();
    let reply = pair.give(&frame).unwrap();
    pair.take(&reply).unwrap();
    let given = pair.node.take_given();
    assert_eq!(given.len(), 1);
    assert_eq!((&given[0].input, &given[0].receipts), (&tokens(3), &receipts));
    assert!(pair.node.take_given().is_empty());
    let edit = pair.client.truncate(1).unwrap();
    assert_eq!(pair.give(&edit).err(), Some(ServeError::Edit { tokens: 1 }));

    // It ends with the client's word for how many tokens there were, and with no other.
    let begun = || {
        let mut pair = disclosed();
        let frame = pair.client.step(tokens(3), 3, Want::Last, good(&pair, &tokens(3), 0)).unwrap();
        let reply = pair.give(&frame).unwrap();
        pair.take(&reply).unwrap();
        pair
    };
    let of = |pair: &Pair| place(&artifact, pair.node.salt().unwrap());
    let stranger = SecretKey::from_seed(&[201; 32]);
    for kind in 0..4 {
        let mut pair = begun();
        let place = of(&pair);
        let end = match kind {
            0 => None,
            1 => Some(place.sign_end(&client_key(), 2)),
            2 => Some(place.sign_end(&stranger, 3)),
            _ => Some(crate::receipts::Inputs { shard: 1, ..place }.sign_end(&client_key(), 3)),
        };
        let frame = pair.client.finish(Hash([5; 32]), end).unwrap();
        assert_eq!(pair.give(&frame).err(), Some(ServeError::End { held: 3 }), "kind {kind}");
        assert!(pair.node.take_end().is_none());
    }
    let mut pair = begun();
    let end = of(&pair).sign_end(&client_key(), 3);
    let frame = pair.client.finish(Hash([5; 32]), Some(end)).unwrap();
    pair.give(&frame).unwrap();
    assert_eq!(pair.node.take_end(), Some(end));

    // Without consent nothing is asked for and nothing is kept.
    let mut pair = open(&artifact, &[0, 2], LINK, |_| ()).unwrap();
    pair.step(tokens(3), 3, Want::Last).unwrap();
    assert!(pair.node.take_given().is_empty() && pair.node.salt().is_none());
}
