use super::harness::*;
use crate::{
    client::{Link, Lost, Relay, RelayError, StartError},
    message::Refusal,
};
use nesa_chain::committee::blind;
use nesa_model::decoder::ShardPlan;
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

fn plan(cuts: &[u16]) -> ShardPlan {
    ShardPlan::from_cuts(cuts.to_vec()).unwrap()
}

fn setting(plan: &ShardPlan) -> Setting<'_> {
    Setting { plan, replicas: 2, seats: 4, faults: &[], disclose: false, order: 0 }
}

fn link(shard: u8, seat: u8) -> Link {
    Link { shard, seat }
}

#[test]
fn one_two_and_four_shards_write_the_text_of_one_machine() {
    let artifact = model(4);
    let request = request(13, 20);
    let expected = alone(&artifact, &request);
    for cuts in [&[0, 4][..], &[0, 2, 4], &[0, 1, 4], &[0, 1, 2, 3, 4]] {
        let plan = plan(cuts);
        for (replicas, order) in [(1, 0), (2, 0), (3, 7)] {
            let ran = run(&artifact, &request, Setting { replicas, order, ..setting(&plan) });
            let done = ran.result.unwrap();
            assert_eq!(done.tokens, expected);
            assert_eq!(ran.shown, expected);
            assert_eq!(done.agreed, expected.len(), "all of it is agreed on");
            assert_eq!(done.served.len(), replicas * plan.len());
            // Replicas of a shard commit to the same under blinds of their own, and are paid for
            // every token.
            for served in &done.served {
                let commitment = served.commitment.unwrap();
                let outcome = ran.nodes[&served.link].outcome.clone().unwrap();
                for other in done.served.iter().filter(|other| other.link != served.link) {
                    let root = ran.nodes[&other.link].outcome.as_ref().unwrap().root;
                    assert_eq!(root == outcome.root, other.link.shard == served.link.shard);
                    assert_ne!(other.commitment.unwrap().blinded_root, commitment.blinded_root);
                }
                let place = (served.link.shard, served.replica);
                let blinded = blind(&CHAIN, &QUERY, place, &outcome.root, &served.blind);
                assert_eq!(blinded, commitment.blinded_root, "it opens");
                assert_eq!(Some(served.paid), PRICE.checked_mul(commitment.served_tokens.into()));
                assert_eq!(outcome.voucher.unwrap().total, served.paid);
            }
        }
    }
}

/// From the shortest prompt to one that leaves room for a single token; what is not is named.
#[test]
fn prompts_of_every_length_are_continued_or_named() {
    let artifact = model(2);
    let plan = plan(&[0, 1, 2]);
    let max = config(&artifact, &plan, 2, false).context;
    for (prompt, tokens) in [(1, 3), (5, 1), (6, 2), (max - 4, 4), (max - 1, 1)] {
        let request = request(prompt, tokens);
        let ran = run(&artifact, &request, setting(&plan));
        assert_eq!(ran.result.unwrap().tokens, alone(&artifact, &request), "{prompt} and {tokens}");
    }
    let start = |prompt, tokens| {
        let config = config(&artifact, &plan, 2, false);
        let rng = StdRng::seed_from_u64(5);
        Relay::new(config, &request(prompt, tokens), &seats(&plan, 4), rng).map(|_| ()).unwrap_err()
    };
    assert_eq!(start(0, 4), StartError::Empty);
    let over = [(max - 4, 5), (max, 1), (max + 1, 1), (1, 0), (max, 0), (1, usize::MAX)];
    for (prompt, tokens) in over {
        assert_eq!(start(prompt, tokens), StartError::Length { prompt, tokens, max });
    }
}

#[test]
fn a_node_that_dies_is_replaced_and_the_text_is_the_same() {
    let artifact = model(4);
    let request = long(&artifact, 12, 24);
    let expected = alone(&artifact, &request);
    let plan = plan(&[0, 2, 4]);
    for shard in 0..2 {
        // In the prompt, in the middle, at the end; and two of a shard, one after the other.
        for at in [0, 1, 9, 25] {
            let faults =
                [(link(shard, 0), Fault::Die(at)), (link(shard, 2), Fault::Die(at.min(2)))];
            let ran = run(&artifact, &request, Setting { faults: &faults, ..setting(&plan) });
            let done = ran.result.unwrap();
            assert_eq!(done.tokens, expected, "shard {shard} step {at}");
            assert_eq!(done.agreed, expected.len());
            assert_eq!(ran.replaced.len(), 2);
            assert!(ran.replaced.iter().all(|(_, reason)| *reason == Lost::Gone));
            // The replacement was fed every token once, most of them together.
            let spare = &ran.nodes[&link(shard, 3)];
            assert_eq!(spare.tokens, request.prompt.len() + expected.len() - 1);
            if at == 25 {
                assert!(spare.steps < 10, "{} steps to catch up", spare.steps);
            }
        }
    }
}

/// It is signed for all that it gave and the others agree on, before its stream is closed.
#[test]
fn a_node_that_is_given_up_is_paid_for_what_it_gave() {
    let artifact = model(4);
    let request = long(&artifact, 12, 24);
    let plan = plan(&[0, 2, 4]);
    for shard in 0..2 {
        for at in [0, 1, 3, 9, 22] {
            let faults = [(link(shard, 0), Fault::Stall(at))];
            let ran = run(&artifact, &request, Setting { faults: &faults, ..setting(&plan) });
            let done = ran.result.unwrap();
            let node = &ran.nodes[&link(shard, 0)];
            let paid = node.paid();
            assert_eq!(done.parted, paid, "shard {shard} step {at}");
            // The prompt takes two steps, each further token one. Of those that it answered the others have
            // answered all but the last few.
            let answered = if at > 1 { request.prompt.len() as u64 + u64::from(at) - 2 } else { 0 };
            let gave = PRICE.checked_mul(answered).unwrap();
            assert!(paid <= PRICE.checked_mul(node.tokens as u64).unwrap());
            assert!(paid.0 + 2 * PRICE.0 >= gave.0, "{paid} of {gave} at shard {shard} step {at}");
        }
    }
    let ran = run(&artifact, &request, setting(&plan));
    assert!(ran.result.unwrap().parted.is_zero());
}

#[test]
fn a_node_that_refuses_is_replaced_until_none_is_left() {
    let artifact = model(2);
    let request = request(3, 4);
    let plan = plan(&[0, 1, 2]);
    let faults = [(link(1, 0), Fault::Refuse), (link(1, 1), Fault::Refuse)];
    let ran = run(&artifact, &request, Setting { faults: &faults, ..setting(&plan) });
    assert_eq!(ran.result.unwrap().tokens, alone(&artifact, &request));
    let ran = run(&artifact, &request, Setting { faults: &faults, seats: 3, ..setting(&plan) });
    let reason = Lost::Misbehaved(Refusal::Unavailable.into());
    assert_eq!(ran.result.unwrap_err(), RelayError::NoSpare { shard: 1, reason });
}

#[test]
fn a_lying_replica_ends_the_query_and_nothing_after_the_lie_is_agreed_or_paid() {
    let artifact = model(4);
    let request = long(&artifact, 6, 20);
    let plan = plan(&[0, 2, 4]);
    let honest = alone(&artifact, &request);
    for (liar, order) in [(link(0, 0), 0), (link(0, 1), 3), (link(1, 0), 0), (link(1, 1), 9)] {
        // The prompt takes two steps; the lie comes with the tenth token.
        let faults = [(liar, Fault::Lie(11))];
        let ran = run(&artifact, &request, Setting { faults: &faults, order, ..setting(&plan) });
        let Err(RelayError::Disputed(dispute)) = ran.result else { panic!("{:?}", ran.result) };
        assert_eq!((dispute.shard, dispute.step), (liar.shard, 11));
        assert_ne!(dispute.said, dispute.others);
        // What was agreed on is right, and reaches to the lie at most.
        assert!(ran.agreed <= 10, "{} tokens", ran.agreed);
        assert_eq!(ran.shown[..ran.agreed], honest[..ran.agreed]);
        for node in ran.nodes.values() {
            assert!(node.outcome.is_none(), "nobody was asked to reveal anything");
        }
    }
}

#[test]
fn with_consent_those_who_disagree_commit_each_to_its_own() {
    let artifact = model(4);
    let request = long(&artifact, 6, 20);
    let plan = plan(&[0, 2, 4]);
    let faults = [(link(1, 1), Fault::Lie(11))];
    let ran =
        run(&artifact, &request, Setting { faults: &faults, disclose: true, ..setting(&plan) });
    let done = ran.result.unwrap();
    assert_eq!(done.dispute.unwrap().shard, 1);
    assert!(done.agreed <= 10);
    let root = |seat| ran.nodes[&link(1, seat)].outcome.as_ref().unwrap().root;
    assert_ne!(root(0), root(1));
    assert!(done.served.iter().all(|served| served.commitment.is_some()));
    // All are promised what they served: the chain pays those who did not lie.
    for served in &done.served {
        let worth = PRICE.checked_mul(served.commitment.unwrap().served_tokens.into()).unwrap();
        assert_eq!(served.paid, worth);
    }
}

/// Whoever lies, wherever, and in whatever order answers come: the honest replicas of every shard are
/// brought to the same length and so to the same trace, and each node can compute its own again from
/// what it was given, its lie included.
#[test]
fn a_dispute_finds_the_honest_with_one_trace_that_they_can_compute_again() {
    let artifact = model(4);
    let request = long(&artifact, 6, 20);
    let plan = plan(&[0, 2, 4]);
    for (liar, at, order) in [
        (link(0, 0), 3, 0),
        (link(0, 1), 9, 5),
        (link(0, 2), 17, 11),
        (link(1, 0), 5, 23),
        (link(1, 1), 0, 31),
        (link(1, 2), 24, 0),
    ] {
        let faults = [(liar, Fault::LieAt(at))];
        let how = Setting { faults: &faults, replicas: 3, disclose: true, order, ..setting(&plan) };
        let ran = run(&artifact, &request, how);
        let done = ran.result.unwrap();
        // What the last layer makes of a token without logits nobody sees here; the chain does.
        let seen = liar.shard == 0 || at > 3;
        assert_eq!(done.dispute.as_ref().map(|d| d.shard), seen.then_some(liar.shard));
        for served in &done.served {
            let node = &ran.nodes[&served.link];
            let outcome = node.outcome.as_ref().unwrap();
            let peers = done.served.iter().filter(|other| other.link.shard == served.link.shard);
            for other in peers {
                let theirs = ran.nodes[&other.link].outcome.as_ref().unwrap();
                assert_eq!(theirs.served_tokens, outcome.served_tokens);
                let alike = (served.link == liar) == (other.link == liar);
                assert_eq!(
                    theirs.root == outcome.root,
                    alike,
                    "{:?} {:?}",
                    served.link,
                    other.link
                );
            }
            let lie = (served.link == liar).then_some(at);
            assert_eq!(node.replayed(lie), Some(outcome.root));
            let tokens: usize = node.given.iter().map(|given| given.tokens(32)).sum();
            assert_eq!(tokens, outcome.served_tokens as usize);
            assert!(node.given.iter().all(|given| given.receipts.len() == given.tokens(32)));
        }
        // An honest run of what the liar was given gives what the honest ones have.
        let root = |link: Link| ran.nodes[&link].outcome.as_ref().unwrap().root;
        let other = link(liar.shard, (liar.seat + 1) % 3);
        assert_eq!(ran.nodes[&liar].replayed(None), Some(root(other)));
    }
}

#[test]
fn a_spare_takes_the_place_of_the_one_it_replaces_and_commits_to_the_same() {
    let artifact = model(2);
    let request = long(&artifact, 4, 6);
    let plan = plan(&[0, 2]);
    let faults = [(link(0, 1), Fault::Die(3))];
    let ran = run(&artifact, &request, Setting { faults: &faults, ..setting(&plan) });
    let done = ran.result.unwrap();
    let spare = done.served.iter().find(|served| served.link == link(0, 2)).unwrap();
    assert_eq!(spare.replica, 1);
    let of = |seat| ran.nodes[&link(0, seat)].outcome.clone().unwrap();
    assert_eq!(of(2).root, of(0).root);
    assert!(of(2).admission.is_some() && of(0).admission.is_none());
    assert!(of(2).voucher.unwrap().verify(&client_key().public(), &CHAIN).is_ok());
    let served = spare.commitment.unwrap().served_tokens as usize;
    assert_eq!(served, 4 + done.tokens.len() - 1);
}

#[test]
fn a_text_that_is_stopped_is_agreed_on_as_far_as_it_came() {
    let artifact = model(2);
    let request = long(&artifact, 12, 20);
    let plan = plan(&[0, 1, 2]);
    for after in [0, 1, 5] {
        let ran = run_until(&artifact, &request, setting(&plan), Some(after));
        let done = ran.result.unwrap();
        let expected = alone(&artifact, &request);
        assert_eq!(done.tokens, expected[..done.tokens.len()]);
        assert!(done.tokens.len() >= after && done.tokens.len() <= after + 1);
        assert_eq!(done.agreed, done.tokens.len());
        assert!(done.served.iter().all(|served| served.commitment.is_some()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the cut, the order of events and the deaths: the same text, or none.
    #[test]
    fn any_cut_order_and_loss_gives_the_same_text(
        cut in 1u16..4,
        order in 1u64..1 << 40,
        prompt in 1usize..20,
        tokens in 1usize..20,
        deaths in proptest::collection::vec((0u8..2, 0u8..4, 0u32..20), 0..3),
    ) {
        let artifact = model(4);
        let request = request(prompt, tokens);
        let plan = plan(&[0, cut, 4]);
        let faults: Vec<_> = deaths.iter().map(|(s, r, at)| (link(*s, *r), Fault::Die(*at))).collect();
        let ran = run(&artifact, &request, Setting { faults: &faults, order, ..setting(&plan) });
        let expected = alone(&artifact, &request);
        match ran.result {
            Ok(done) => {
                prop_assert_eq!(&done.tokens, &expected);
                prop_assert_eq!(done.agreed, expected.len());
            }
            Err(RelayError::NoSpare { .. }) => prop_assert!(faults.len() >= 3),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
