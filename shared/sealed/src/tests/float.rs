//! Sessions of the float lane, honest and hostile.

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::{ShardVoucher, committee};
use nesa_crypto::{
    SecretKey,
    seal::{Binding, Role},
};
use nesa_primitives::{Address, Amount, Hash, decode_exact};
use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng as _, rngs::StdRng};

use super::harness::{CHAIN, NOW, PRICE, QUERY, client_key};
use crate::{
    Terms,
    client::Misbehaviour,
    float::{
        Ask, Client, Door, Event, FloatOpening, Greeting, MAX_CONTENT, Purpose, Received, Session,
        Told, root,
    },
    message::Refusal,
};

const MODEL: Hash = Hash([5; 32]);
const SALT: Hash = Hash([6; 32]);

fn node_key() -> SecretKey {
    SecretKey::from_seed(&[60; 32])
}

fn node() -> Address {
    node_key().public()
}

/// What the node at `seat` is asked: to be replica 1.
fn purpose(seat: u8) -> Purpose {
    let (node, replica) = (node(), 1);
    Purpose { chain: CHAIN, query: QUERY, model: MODEL, node, seat, replica, salt: SALT }
}

fn terms(seat: u8) -> Terms {
    Terms {
        chain: CHAIN,
        query: QUERY,
        model: MODEL,
        client_key: client_key().public(),
        role: Role { shard: 0, seat },
        cuts: Vec::new(),
        replicas: 3,
        price_per_token: PRICE,
        budget: PRICE,
        max_tokens: 1,
        disclose: false,
    }
}

fn voucher(total: Amount) -> ShardVoucher {
    ShardVoucher::sign(&client_key(), &CHAIN, QUERY, (0, 1), node(), total)
}

fn door() -> Door {
    let mut door = Door::new(CHAIN, node_key());
    door.turn(NOW, &mut StdRng::seed_from_u64(1));
    door
}

/// Up to the acceptance; the terms may be others than those the client means.
fn begin(signer: &SecretKey, terms: Terms) -> Result<(Client, Session), Refusal> {
    let mut rng = StdRng::seed_from_u64(2);
    let (mut client, hello) = Client::start(purpose(terms.role.seat));
    let door = door();
    let Ok(Greeting::Reply(prekey)) = door.receive(&hello) else { panic!("no prekey") };
    let opened = client.receive(&prekey, signer, NOW, &mut rng).unwrap();
    let Event::Send(open) = opened else { panic!("no envelope") };
    let Ok(Greeting::Asked(asked)) = door.receive(&open) else { panic!("not opened") };
    let (session, accept) = Session::start(*asked, terms)?;
    assert!(matches!(client.receive(&accept, signer, NOW, &mut rng), Ok(Event::Ready)));
    Ok((client, session))
}

fn told(client: &mut Client, frame: &[u8]) -> Result<Event, Misbehaviour> {
    client.receive(frame, &client_key(), NOW, &mut StdRng::seed_from_u64(3))
}

#[test]
fn a_run_is_answered_committed_to_and_paid() {
    let (mut client, mut session) = begin(&client_key(), terms(1)).unwrap();
    let inputs = Bytes::from_static(b"inputs");
    let frame = client.say(&Ask::Run(inputs.clone())).unwrap();
    assert!(!frame.windows(6).any(|w| w == b"inputs"), "sealed");
    let Ok(Received::Run(got)) = session.receive(&frame) else { panic!("no run") };
    assert_eq!(got, inputs);
    assert!(session.outcome(SALT).is_none(), "nothing to commit to before the answer");
    let answer = Bytes::from_static(b"answer");
    let frame = session.complete(answer.clone()).unwrap();
    let Ok(Event::Ran(got)) = told(&mut client, &frame) else { panic!("no answer") };
    assert_eq!(got, answer);
    let pay = client.say(&Ask::Voucher(voucher(PRICE))).unwrap();
    assert!(matches!(session.receive(&pay), Ok(Received::Paid)));
    let blind = Hash([8; 32]);
    let outcome = session.outcome(blind).unwrap();
    assert_eq!(outcome.root, root(&SALT, &answer));
    assert_ne!(outcome.root, root(&Hash::ZERO, &answer), "a guess without the salt");
    let expected = committee::blind(&CHAIN, &QUERY, (0, 1), &outcome.root, &blind);
    assert_eq!((outcome.blinded_root, outcome.served_tokens), (expected, 1));
    assert_eq!(outcome.voucher.map(|v| v.total), Some(PRICE));
}

#[test]
fn a_session_is_for_its_query_client_and_place() {
    let key = client_key();
    let refused = |terms| begin(&key, terms).err().unwrap();
    for other in [
        Terms { query: Hash::ZERO, ..terms(1) },
        Terms { model: Hash::ZERO, ..terms(1) },
        Terms { chain: Hash::ZERO, ..terms(1) },
        // Another replica's own seat, and a replica that there is not.
        terms(0),
        Terms { replicas: 1, ..terms(1) },
    ] {
        assert_eq!(refused(other), Refusal::NotDrawn);
    }
    assert_eq!(refused(Terms { budget: Amount(4), ..terms(1) }), Refusal::Unpaid);
    assert_eq!(refused(Terms { max_tokens: 0, ..terms(1) }), Refusal::Unpaid);
    let stranger = SecretKey::from_seed(&[78; 32]);
    assert_eq!(begin(&stranger, terms(1)).err(), Some(Refusal::NotDrawn));
}

#[test]
fn a_spare_serves_with_the_clients_word_and_not_without_it() {
    let (mut client, mut session) = begin(&client_key(), terms(4)).unwrap();
    let frame = client.say(&Ask::Run(Bytes::new())).unwrap();
    session.receive(&frame).unwrap();
    session.complete(Bytes::from_static(b"answer")).unwrap();
    let pay = client.say(&Ask::Voucher(voucher(PRICE))).unwrap();
    assert!(matches!(session.receive(&pay), Ok(Received::Paid)), "paid as replica 1");
    let blind = Hash([8; 32]);
    let outcome = session.outcome(blind).unwrap();
    assert_eq!(outcome.replica, 1);
    let expected = committee::blind(&CHAIN, &QUERY, (0, 1), &outcome.root, &blind);
    assert_eq!(outcome.blinded_root, expected);
    let word = committee::Admission { query: QUERY, shard: 0, replica: 1, node: node() };
    let admission = outcome.admission.expect("the chain asks for it");
    assert!(word.verify(&client_key().public(), &CHAIN, &admission).is_ok());

    let role = Role { shard: 0, seat: 4 };
    let (chain, query, model, node, epoch) = (CHAIN, QUERY, MODEL, node(), 7);
    let binding = Binding { chain, query, model, node, role, epoch };
    let (key, client) = (client_key(), client_key().public());
    let good = FloatOpening::sign(&key, &binding, 1, SALT);
    assert!(good.verify(&client, &binding).is_ok());
    let stranger = FloatOpening::sign(&SecretKey::from_seed(&[78; 32]), &binding, 1, SALT);
    for bad in [
        FloatOpening { admission: None, ..good.clone() },
        FloatOpening { replica: 0, ..good.clone() },
        FloatOpening { admission: Some(good.signature), ..good.clone() },
        FloatOpening { salt: Hash::ZERO, ..good.clone() },
        stranger,
    ] {
        assert!(bad.verify(&client, &binding).is_err());
    }
    // A replica's own node needs no word, and another's gets none.
    let own = Binding { role: Role { shard: 0, seat: 1 }, ..binding };
    assert_eq!(FloatOpening::sign(&key, &own, 1, SALT).admission, None);
    assert!(good.verify(&client, &own).is_err());
}

#[test]
fn frames_out_of_turn_and_bad_vouchers_end_a_session() {
    let run = || {
        let (mut client, mut session) = begin(&client_key(), terms(1)).unwrap();
        let frame = client.say(&Ask::Run(Bytes::new())).unwrap();
        session.receive(&frame).unwrap();
        (client, session)
    };
    let (mut client, mut session) = run();
    let again = client.say(&Ask::Run(Bytes::new())).unwrap();
    assert_eq!(session.receive(&again).err(), Some(Refusal::Protocol));
    // Before the answer there is nothing to pay for.
    let (mut client, mut session) = run();
    let early = client.say(&Ask::Voucher(voucher(PRICE))).unwrap();
    assert_eq!(session.receive(&early).err(), Some(Refusal::Protocol));
    let stranger = SecretKey::from_seed(&[78; 32]);
    let other = |place| ShardVoucher::sign(&client_key(), &CHAIN, QUERY, place, node(), PRICE);
    for bad in [
        voucher(Amount(4)),
        voucher(Amount(6)),
        ShardVoucher::sign(&stranger, &CHAIN, QUERY, (0, 1), node(), PRICE),
        ShardVoucher::sign(&client_key(), &CHAIN, Hash::ZERO, (0, 1), node(), PRICE),
        other((0, 2)),
        other((1, 1)),
    ] {
        let (mut client, mut session) = run();
        session.complete(Bytes::new()).unwrap();
        let frame = client.say(&Ask::Voucher(bad)).unwrap();
        assert_eq!(session.receive(&frame).err(), Some(Refusal::Protocol));
        assert!(session.outcome(SALT).unwrap().voucher.is_none());
    }
    let (mut client, mut session) = run();
    let frame = session.complete(Bytes::from_static(b"a")).unwrap();
    // A frame of the node's that is replayed, or changed, does not open.
    let mut changed = frame.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert!(told(&mut client, &changed).is_err());
    assert!(told(&mut client, &frame).is_err(), "over after an error");
    let (mut client, mut session) = run();
    let frame = session.complete(Bytes::new()).unwrap();
    told(&mut client, &frame).unwrap();
    assert!(told(&mut client, &frame).is_err());
    let (mut client, mut session) = begin(&client_key(), terms(1)).unwrap();
    let frame = session.refuse(Refusal::Unavailable).unwrap();
    let refused = told(&mut client, &frame).err();
    assert_eq!(refused, Some(Misbehaviour::Refused(Refusal::Unavailable)));
    assert!(client.say(&Ask::Run(Bytes::new())).is_none());
    let (mut client, mut session) = begin(&client_key(), terms(1)).unwrap();
    let long = Bytes::from(vec![0; MAX_CONTENT + 1]);
    assert!(client.say(&Ask::Run(long.clone())).is_none());
    assert!(session.complete(long).is_none());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = door().receive(&bytes);
        if let Ok(ask) = decode_exact::<Ask>(&bytes, &()) {
            prop_assert_eq!(&ask.encode()[..], &bytes[..]);
        }
        if let Ok(told) = decode_exact::<Told>(&bytes, &()) {
            prop_assert_eq!(&told.encode()[..], &bytes[..]);
        }
    }
}
