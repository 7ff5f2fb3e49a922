//! Attacks on header synchronisation, with real certificates: each must get its own verdict.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use nesa_light::sync::{Certified, HeaderSync, HeadersRequest, RECENT};
use nesa_primitives::Verdict;
use rand::{SeedableRng as _, rngs::StdRng};
use support::Quorum;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn ask(from: u64, max: u64) -> HeadersRequest {
    HeadersRequest { from, max }
}

fn invalid<T: std::fmt::Debug>(verdict: Verdict<T>) -> &'static str {
    match verdict {
        Verdict::Invalid { what, .. } => what,
        other => panic!("expected invalid, got {other:?}"),
    }
}

fn synced(quorum: &Quorum, chain: &[Certified]) -> HeaderSync {
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    let verdict = sync.accept(&mut rng(), ask(1, 64), chain.to_vec());
    assert!(verdict.is_valid(), "{verdict:?}");
    sync
}

#[test]
fn follows_a_chain_and_asks_for_what_comes_next() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(5);
    let mut sync = synced(&quorum, &chain[..3]);
    assert_eq!(sync.tip().unwrap().header, chain[2].header);
    assert_eq!(sync.next_request(3), None, "a peer at our height is not behind");
    assert_eq!(sync.next_request(1), None, "a stale peer is not an offence");
    assert_eq!(sync.next_request(5), Some(ask(4, 2)));
    assert!(sync.accept(&mut rng(), ask(4, 2), chain[3..].to_vec()).is_valid());
    assert_eq!(sync.tip().unwrap().header, chain[4].header);
}

#[test]
fn a_header_without_certificate_is_carried_by_its_descendant() {
    let quorum = Quorum::deal(1, "test-a");
    let mut chain = quorum.chain(4);
    chain[1].finalization = None;
    chain[3].finalization = None;
    let sync = synced(&quorum, &chain);
    assert_eq!(sync.tip().unwrap().header, chain[2].header, "nobody vouches for the last one");
}

#[test]
fn an_answer_without_any_certificate_decides_nothing() {
    let quorum = Quorum::deal(1, "test-a");
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    let mut chain = quorum.chain(2);
    assert!(matches!(sync.accept(&mut rng(), ask(1, 64), vec![]), Verdict::Undecided { .. }));
    chain.iter_mut().for_each(|item| item.finalization = None);
    assert!(matches!(sync.accept(&mut rng(), ask(1, 64), chain), Verdict::Undecided { .. }));
    assert!(sync.tip().is_none());
}

#[test]
fn a_forged_header_is_invalid() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(2);
    // Another header of the same place under the honest one's certificate.
    let forged = quorum.header(Some(&chain[0].header), 2, 9);
    let item = Certified { header: forged, finalization: chain[1].finalization.clone() };
    let mut sync = synced(&quorum, &chain[..1]);
    invalid(sync.accept(&mut rng(), ask(2, 1), vec![item]));
    assert_eq!(sync.tip().unwrap().header, chain[0].header);
    assert!(sync.conflict().is_none());
}

#[test]
fn a_certificate_of_another_group_key_is_invalid() {
    let (quorum, other) = (Quorum::deal(1, "test-a"), Quorum::deal(2, "test-a"));
    let chain = quorum.chain(1);
    let item = Certified {
        header: chain[0].header.clone(),
        finalization: Some(other.certify(&chain[0].header)),
    };
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    assert_eq!(invalid(sync.accept(&mut rng(), ask(1, 1), vec![item])), "certificate");
}

#[test]
fn a_chain_under_another_name_is_invalid() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(1);
    let mut sync = HeaderSync::new(&quorum.renamed("test-b")).unwrap();
    assert_eq!(invalid(sync.accept(&mut rng(), ask(1, 1), chain)), "certificate");
}

#[test]
fn a_swapped_seed_is_invalid_even_when_certified() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(2);
    let mut fields = quorum.header(Some(&chain[1].header), 3, 0).fields;
    fields.parent_seed = chain[1].header.fields.parent_seed;
    // The leader signs, a quorum certifies: only the client's own check is left to refuse it.
    let honest = quorum.header(Some(&chain[1].header), 3, 0);
    let header = nesa_chain::header::Header { fields, ..honest };
    let finalization = Some(quorum.certify(&header));
    let mut sync = synced(&quorum, &chain);
    let item = Certified { header, finalization };
    assert_eq!(invalid(sync.accept(&mut rng(), ask(3, 1), vec![item])), "parent seed");
}

#[test]
fn wrong_heights_and_broken_links_are_invalid() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(4);
    let mut sync = synced(&quorum, &chain[..1]);
    invalid(sync.accept(&mut rng(), ask(2, 64), chain[2..].to_vec()));
    invalid(sync.accept(&mut rng(), ask(2, 64), vec![chain[1].clone(), chain[3].clone()]));
    invalid(sync.accept(&mut rng(), ask(2, 1), chain[1..3].to_vec()));
    let stranger = quorum.header(Some(&quorum.header(Some(&chain[0].header), 2, 5)), 3, 0);
    let link = Certified { finalization: Some(quorum.certify(&stranger)), header: stranger };
    invalid(sync.accept(&mut rng(), ask(2, 64), vec![chain[1].clone(), link]));
    assert_eq!(sync.tip().unwrap().header, chain[0].header);
}

#[test]
fn two_finalized_headers_of_one_height_are_kept_and_halt_the_client() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(3);
    let mut sync = synced(&quorum, &chain[..2]);
    let twin = quorum.header(Some(&chain[0].header), 2, 77);
    let item = Certified { finalization: Some(quorum.certify(&twin)), header: twin };
    let verdict = sync.accept_head(&mut rng(), item.clone());
    assert!(matches!(verdict, Verdict::Undecided { .. }), "no single peer is to blame");
    let conflict = sync.conflict().expect("evidence");
    assert_eq!(conflict.ours.header, chain[1].header);
    assert_eq!(conflict.theirs, vec![item]);
    let more = sync.accept(&mut rng(), ask(3, 1), chain[2..].to_vec());
    assert!(matches!(more, Verdict::Undecided { .. }), "nothing is believed after a fork");
}

#[test]
fn a_fork_that_skips_our_height_is_found_through_its_parent() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(2);
    let mut sync = synced(&quorum, &chain);
    let twin = quorum.header(Some(&chain[0].header), 2, 77);
    let child = quorum.header(Some(&twin), 3, 0);
    let item = Certified { finalization: Some(quorum.certify(&child)), header: child };
    let verdict = sync.accept(&mut rng(), ask(3, 1), vec![item]);
    assert!(matches!(verdict, Verdict::Undecided { .. }));
    assert_eq!(sync.conflict().expect("evidence").ours.header, chain[1].header);
}

#[test]
fn a_header_ahead_of_the_walk_leaves_no_gap() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(6);
    let mut sync = synced(&quorum, &chain[..2]);
    assert!(sync.accept_head(&mut rng(), chain[4].clone()).is_valid());
    assert_eq!(sync.tip().unwrap().header.height(), 2);
    assert!(sync.header(5).is_some());
    assert!(sync.accept(&mut rng(), ask(3, 2), chain[2..4].to_vec()).is_valid());
    assert_eq!(sync.tip().unwrap().header.height(), 5, "the walk meets what was known ahead");
    assert!(sync.accept_head(&mut rng(), chain[0].clone()).is_valid());
    assert_eq!(sync.tip().unwrap().header.height(), 5, "heights never move back");
}

#[test]
fn a_checkpoint_is_verified_again() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(3);
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    assert!(sync.restore(&mut rng(), chain[2].clone()).is_valid());
    assert_eq!(sync.tip().unwrap().header.height(), 3);
    let other = Quorum::deal(2, "test-a");
    let mut fresh = HeaderSync::new(&other.trust).unwrap();
    assert!(fresh.restore(&mut rng(), chain[2].clone()).is_invalid());
    assert!(fresh.tip().is_none());
}

#[test]
fn memory_is_bounded() {
    let quorum = Quorum::deal(1, "test-a");
    let mut sync = HeaderSync::new(&quorum.trust).unwrap();
    let (mut parent, mut batch, mut from) = (None, Vec::new(), 1);
    for view in 1..=(RECENT as u64 + 40) {
        let header = quorum.header(parent.as_ref(), view, 0);
        parent = Some(header.clone());
        let last = view % 60 == 0 || view == RECENT as u64 + 40;
        let finalization = last.then(|| quorum.certify(&header));
        batch.push(Certified { header, finalization });
        if last {
            let verdict = sync.accept(&mut rng(), ask(from, 64), std::mem::take(&mut batch));
            assert!(verdict.is_valid(), "{verdict:?}");
            from = view + 1;
        }
    }
    assert_eq!(sync.recent().count(), RECENT);
    assert_eq!(sync.tip().unwrap().header.height(), RECENT as u64 + 40);
}
