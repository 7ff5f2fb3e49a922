//! Random histories: after every block, all money is accounted for (`World::block` checks that,
//! and that a node with an asynchronous store computes the same changes).

use crate::{traces::*, world::*};
use nesa_chain::{
    Action, SignedTx,
    action::{
        AnswerDispute, Claim, ClaimServed, ClaimShard, CloseDispute, CommitShard, Lane, Named,
        OpenDispute, Pair, PayForQuery, Reveal, Side, Unbond, Verification,
    },
    committee::Admission,
    query::QueryRecord,
    voucher::ShardVoucher,
};
use nesa_primitives::{Amount, Denom, Hash};
use proptest::prelude::*;

const PEOPLE: [u8; 9] = [ALICE, BOB, OWNER, 10, 11, 12, FAUCET, 200, 201];

#[derive(Clone, Debug)]
enum Op {
    Transfer {
        from: usize,
        to: usize,
        usd: bool,
        amount: u64,
    },
    Register {
        operator: usize,
        node: u8,
        bond: u64,
    },
    Unbond {
        operator: usize,
        node: u8,
    },
    Pay {
        payer: usize,
        usd: bool,
        tokens: u32,
        extra: u64,
        deadline: u64,
        named: Option<(bool, u8)>,
    },
    Commit {
        query: usize,
        side: bool,
        attempt: u8,
        served: u32,
    },
    Claim {
        query: usize,
        commit: usize,
        total: u64,
        signer: bool,
    },
    Wait {
        ms: u64,
        blocks: u8,
    },
    PaySealed {
        payer: usize,
        cut: bool,
        replicas: u8,
        disclose: bool,
        extra: u64,
    },
    Sealed {
        query: usize,
        shard: u8,
        replica: u8,
        which: usize,
        what: SealedOp,
    },
}

#[derive(Clone, Copy, Debug)]
enum SealedOp {
    Commit { served: u32 },
    Reveal,
    Claim { total: u64 },
    Open { other: u8 },
    Answer { other: u8 },
    Close { other: u8 },
    Served,
}

fn sealed_op() -> impl Strategy<Value = SealedOp> {
    prop_oneof![
        6 => (0u32..60).prop_map(|served| SealedOp::Commit { served }),
        6 => Just(SealedOp::Reveal),
        6 => (0u64..400).prop_map(|total| SealedOp::Claim { total }),
        2 => (0u8..4).prop_map(|other| SealedOp::Open { other }),
        3 => (0u8..4).prop_map(|other| SealedOp::Answer { other }),
        1 => (0u8..4).prop_map(|other| SealedOp::Close { other }),
        1 => Just(SealedOp::Served),
    ]
}

/// A life of committee queries: commits, then reveals, then claims and disputes, each mostly in its time.
fn sealed_life() -> impl Strategy<Value = Vec<Op>> {
    let pay = (0..2usize, any::<bool>(), 1u8..5, prop::bool::weighted(0.7), 0u64..900).prop_map(
        |(payer, cut, replicas, disclose, extra)| Op::PaySealed {
            payer,
            cut,
            replicas,
            disclose,
            extra,
        },
    );
    let phase = |what: BoxedStrategy<SealedOp>, count: std::ops::Range<usize>| {
        let op =
            (any::<usize>(), 0u8..2, 0u8..5, prop_oneof![4 => Just(0usize), 1 => 1usize..4], what)
                .prop_map(|(query, shard, replica, which, what)| Op::Sealed {
                    query,
                    shard,
                    replica,
                    which,
                    what,
                });
        prop::collection::vec(op, count)
    };
    let commit = (0u32..50).prop_map(|served| SealedOp::Commit { served }).boxed();
    (
        prop::collection::vec(pay, 1..3),
        phase(commit, 4..16),
        phase(Just(SealedOp::Reveal).boxed(), 4..24),
        phase(sealed_op().boxed(), 4..40),
        prop::collection::vec(op(), 0..12),
    )
        .prop_map(|(pay, commits, reveals, rest, others)| {
            let wait = |ms| Op::Wait { ms, blocks: 1 };
            let mut ops = pay;
            ops.extend(commits);
            ops.push(wait(5_000));
            ops.extend(reveals);
            ops.push(wait(1_000));
            let mut others = others.into_iter();
            for op in rest {
                ops.push(op);
                ops.extend(others.next());
            }
            ops
        })
}

fn op() -> impl Strategy<Value = Op> {
    let person = 0..PEOPLE.len();
    prop_oneof![
        2 => (person.clone(), person.clone(), any::<bool>(), 0u64..12_000_000)
            .prop_map(|(from, to, usd, amount)| Op::Transfer { from, to, usd, amount }),
        1 => (person.clone(), 60u8..66, 900_000u64..4_000_000)
            .prop_map(|(operator, node, bond)| Op::Register { operator, node, bond }),
        1 => (person.clone(), prop_oneof![20u8..25, 60u8..66])
            .prop_map(|(operator, node)| Op::Unbond { operator, node }),
        4 => (person, any::<bool>(), 1u32..300, 0u64..5_000, 2_600u64..20_000,
              prop::option::of((any::<bool>(), 20u8..26)))
            .prop_map(|(payer, usd, tokens, extra, deadline, named)|
                Op::Pay { payer, usd, tokens, extra, deadline, named }),
        8 => (any::<usize>(), any::<bool>(), 0u8..4, 0u32..320)
            .prop_map(|(query, side, attempt, served)| Op::Commit { query, side, attempt, served }),
        8 => (any::<usize>(), any::<usize>(), 0u64..2_500, prop::bool::weighted(0.9))
            .prop_map(|(query, commit, total, signer)| Op::Claim { query, commit, total, signer }),
        2 => (1u64..9_000, 1u8..4).prop_map(|(ms, blocks)| Op::Wait { ms, blocks }),
    ]
}

fn number(address: &nesa_primitives::Address) -> u8 {
    (0..=255).find(|n| self::address(*n) == *address).unwrap()
}

impl World {
    fn live(&self, pick: usize) -> Option<QueryRecord> {
        let recent = self.queries.len().min(4);
        let id = *self.queries[self.queries.len() - recent..].get(pick % recent.max(1))?;
        self.state.contains_key(&nesa_chain::keys::query(&id)).then(|| self.query(&id))
    }

    fn make(&mut self, op: &Op) -> Option<SignedTx> {
        match op {
            Op::Transfer { from, to, usd, amount } => {
                let denom = if *usd { USD } else { Denom::NES };
                Some(self.transfer(PEOPLE[*from], PEOPLE[*to], denom, *amount))
            }
            Op::Register { operator, node, bond } => {
                Some(self.register(PEOPLE[*operator], *node, *bond))
            }
            Op::Unbond { operator, node } => {
                let unbond = Unbond { node: address(*node) };
                // Mostly the right operator, so that something happens.
                let operator = if *node < 30 { *node - 10 } else { PEOPLE[*operator] };
                Some(self.tx(operator, Action::Unbond(unbond)))
            }
            Op::Pay { payer, usd, tokens, extra, deadline, named } => {
                let base = self.payment(*tokens, 100);
                let pay = PayForQuery {
                    denom: if *usd { USD } else { Denom::NES },
                    model: if *usd { usd_model() } else { model() },
                    max_fee: Amount(base.max_fee.0 + extra),
                    deadline_ms: self.now + deadline,
                    named: named.map(|(a, node)| Named {
                        side: if a { Side::A } else { Side::B },
                        node: address(node),
                    }),
                    ..base
                };
                let tx = self.tx(PEOPLE[*payer], Action::PayForQuery(pay));
                Some(tx)
            }
            Op::Commit { query, side, attempt, served } => {
                let record = self.live(*query)?;
                let side = if *side { Side::A } else { Side::B };
                if !record.status.is_open() {
                    return None;
                }
                let seat = *self.committee(&record.id).seat(side, *attempt)?;
                let action =
                    Action::Commit(self.commit_action(&record.id, side, *attempt, *served));
                Some(self.tx(number(&seat.operator), action))
            }
            Op::Claim { query, commit, total, signer } => {
                let record = self.live(*query)?;
                let commit = record.commits.get(*commit % record.commits.len().max(1))?;
                let signer = if *signer { 100 } else { 101 };
                let (side, attempt) = (commit.side, commit.attempt);
                let voucher = self.voucher(&record.id, side, attempt, *total, signer);
                let action = Action::Claim(Claim { query: record.id, voucher });
                Some(self.tx(number(&commit.operator), action))
            }
            Op::PaySealed { payer, cut, replicas, disclose, extra } => {
                let cuts: &[u16] = if *cut { &[1] } else { &[] };
                let mut pay = self.sealed_payment(terms(cuts, *replicas, *disclose));
                pay.max_fee = Amount(pay.max_fee.0 + extra);
                // Where its terms allow it, half of the time in the float lane.
                if !cut && !disclose && *replicas > 1 && extra % 2 == 0 {
                    (pay.lane, pay.verification) = (Lane::Float, Verification::Statistical);
                }
                Some(self.tx(PEOPLE[*payer], Action::PayForQuery(pay)))
            }
            Op::Sealed { query, shard, replica, which, what } => {
                self.make_sealed(*query, (*shard, *replica), *which, *what)
            }
            Op::Wait { ms, blocks } => {
                for _ in 0..*blocks {
                    self.block(*ms, &[]);
                }
                None
            }
        }
    }
}

impl World {
    fn make_sealed(
        &mut self,
        query: usize,
        (shard, replica): (u8, u8),
        which: usize,
        what: SealedOp,
    ) -> Option<SignedTx> {
        let record = self.live(query)?;
        let sealed = record.sealed.as_ref().filter(|_| record.status.is_open())?;
        let (id, shard) = (record.id, shard % sealed.terms.shards() as u8);
        let at = replica;
        let seat = *self.replicas(&id).seat(shard, at)?;
        // A spare stands in for one of the replicas.
        let replica =
            if at < sealed.terms.replicas { at } else { which as u8 % sealed.terms.replicas };
        let spare = at != replica;
        let pair = |other: u8| {
            let (left, right) = (other.min(replica), other.max(replica));
            Pair { query: id, shard, left, right }
        };
        // What a replica committed to is mostly what it goes on with.
        let committed = sealed.commit(shard, replica).map(|c| c.blinded_root);
        let roots = &LAB.shard(&sealed.terms, shard).roots;
        let blinded = |root: &Hash| {
            let veil = veil(shard, replica);
            nesa_chain::committee::blind(&self.chain, &id, (shard, replica), root, &veil)
        };
        let place = roots.iter().position(|root| Some(blinded(root)) == committed);
        let which = place.unwrap_or(which);
        let action = match what {
            SealedOp::Commit { served } => {
                let commit = self.commit_shard(&id, (shard, replica), &roots[which], served);
                let admission = Admission { query: id, shard, replica, node: seat.node };
                let admission = spare.then(|| admission.sign(&key(100), &self.chain));
                Action::CommitShard(CommitShard { seat: at, admission, ..commit })
            }
            SealedOp::Reveal => {
                let (root, blind) = (roots[which], veil(shard, replica));
                Action::Reveal(Reveal { query: id, shard, replica, root, blind })
            }
            SealedOp::Claim { total } => {
                let (place, total) = ((shard, replica), Amount(total));
                let voucher =
                    ShardVoucher::sign(&key(100), &self.chain, id, place, seat.node, total);
                Action::ClaimShard(ClaimShard { query: id, voucher })
            }
            SealedOp::Open { other } => {
                let manifest = self.party(&id, shard, 0, |party| party.manifest_slice().unwrap());
                Action::OpenDispute(OpenDispute { pair: pair(other), manifest })
            }
            SealedOp::Answer { other } => {
                let answer = self.answer_of(&pair(other), which)?.ok()?;
                let round = self.dispute(&pair(other))?.round;
                Action::AnswerDispute(AnswerDispute { pair: pair(other), round, answer })
            }
            SealedOp::Close { other } => Action::CloseDispute(CloseDispute { pair: pair(other) }),
            SealedOp::Served => Action::ClaimServed(ClaimServed { query: id, shard, replica }),
        };
        Some(self.tx(number(&seat.operator), action))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_history_makes_or_loses_money(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            if let Some(tx) = world.make(op) {
                world.block(200, &[tx]);
            }
        }
        // Let every deadline pass and every bond return: nothing stays stuck in an escrow.
        for _ in 0..40 {
            world.block(2_500, &[]);
        }
        for id in world.queries.clone() {
            if world.state.contains_key(&nesa_chain::keys::query(&id)) {
                prop_assert!(!world.query(&id).status.is_open());
            }
        }
    }

    #[test]
    fn no_life_of_a_committee_makes_or_loses_money(ops in sealed_life()) {
        let mut world = World::float();
        for op in &ops {
            if let Some(tx) = world.make(op) {
                world.block(15, &[tx]);
            }
        }
        for _ in 0..40 {
            world.block(2_500, &[]);
        }
        for id in world.queries.clone() {
            if world.state.contains_key(&nesa_chain::keys::query(&id)) {
                let query = world.query(&id);
                prop_assert!(!query.status.is_open());
                let disputes = query.sealed.into_iter().flat_map(|sealed| sealed.disputes);
                for dispute in disputes {
                    prop_assert!(dispute.ruling().is_some());
                }
            }
        }
    }

    #[test]
    fn one_seed_one_state(ops in prop::collection::vec(op(), 1..25)) {
        let run = || {
            let mut world = World::new();
            for op in &ops {
                if let Some(tx) = world.make(op) {
                    world.block(200, &[tx]);
                }
            }
            world.state
        };
        prop_assert_eq!(run(), run());
    }
}
