//! What replicas are paid, and how a text ends: commitments, and the transcript.

use nesa_chain::ShardVoucher;
use rand_core::CryptoRng;

use super::{Action, Config, Inputs, Link, Phase, Relay, Replica, Served, Transcript};

impl<R: CryptoRng> Relay<R> {
    /// Vouchers for what replicas gave and all agree on, once it is `least` tokens more. In a dispute for
    /// all they gave: the chain pays no liar.
    pub(super) fn pay(&mut self, least: usize, actions: &mut Vec<Action>) {
        for shard in 0..self.shards.len() {
            let one = &self.shards[shard];
            let given = |replica: &Replica| match &self.dispute {
                Some(_) => replica.sent,
                None => replica.answered.min(one.confirmed),
            };
            let given: Vec<usize> = one.replicas.iter().map(given).collect();
            for (at, steps) in given.into_iter().enumerate() {
                self.pay_one((shard, at), steps, least, actions);
            }
        }
    }

    /// A voucher for the first `steps` of a replica, once they are `least` tokens more.
    pub(super) fn pay_one(
        &mut self,
        (shard, at): (usize, usize),
        steps: usize,
        least: usize,
        actions: &mut Vec<Action>,
    ) {
        let Config { chain, query, price_per_token: price, client_key, .. } = &self.config;
        let Some(shard) = self.shards.get_mut(shard) else { return };
        let tokens = shard.tokens(steps);
        let Some(replica) = shard.replicas.get_mut(at) else { return };
        let (Some(total), Some(step)) =
            (price.checked_mul(tokens as u64), price.checked_mul(least as u64))
        else {
            return;
        };
        let owed = total.checked_sub(replica.paid).unwrap_or_default();
        if owed.is_zero() || owed < step {
            return;
        }
        let place = (shard.index, replica.place);
        let node = replica.candidate.node;
        let voucher = ShardVoucher::sign(client_key, chain, *query, place, node, total);
        if let Some(frame) = replica.session.voucher(voucher) {
            replica.paid = total;
            let link = Link { shard: shard.index, seat: replica.index };
            actions.push(Action::Send { link, frame });
        }
    }

    /// Asks for commitments, and ends once all have come.
    pub(super) fn finish(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Writing {
            if self.dispute.is_none() {
                self.pay(1, actions);
            }
            self.phase = Phase::Finishing;
        }
        if self.dispute.is_some() {
            self.pump(actions);
            let replicas = || self.shards.iter().flat_map(|shard| &shard.replicas);
            if replicas().any(|replica| !replica.done && replica.session.is_owed()) {
                return;
            }
            self.pay(1, actions);
        }
        let mut waiting = false;
        let places: Vec<Inputs> = (0..self.shards.len()).map(|shard| self.place(shard)).collect();
        let Config { client_key, disclose, .. } = &self.config;
        for (shard, place) in self.shards.iter_mut().zip(places) {
            // All replicas were brought so far, and no replica was ever asked for more.
            let asked = u32::try_from(shard.tokens(shard.furthest())).unwrap_or(u32::MAX);
            let end = disclose.then(|| place.sign_end(client_key, asked));
            for replica in shard.replicas.iter_mut().filter(|r| !r.done) {
                let link = Link { shard: shard.index, seat: replica.index };
                if replica.session.is_ready() {
                    // In a dispute, steps may still be owed: their answers come first.
                    if let Some(frame) = replica.session.finish(replica.blind, end) {
                        actions.push(Action::Send { link, frame });
                    }
                }
                waiting |= replica.session.is_waiting();
            }
        }
        if waiting {
            return;
        }
        self.close(actions);
        let served = self.shards.iter().flat_map(|shard| {
            shard.replicas.iter().map(|replica| Served {
                link: Link { shard: shard.index, seat: replica.index },
                replica: replica.place,
                candidate: replica.candidate,
                commitment: replica.commitment,
                blind: replica.blind,
                paid: replica.paid,
            })
        });
        actions.push(Action::Done(Box::new(Transcript {
            tokens: self.tokens.clone(),
            ended: self.ended,
            agreed: self.agreed,
            served: served.collect(),
            parted: self.parted,
            dispute: self.dispute.clone(),
        })));
    }
}
