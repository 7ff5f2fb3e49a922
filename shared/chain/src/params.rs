//! The numbers a chain is started with.

use crate::limits::MAX_ROUNDS;
use nesa_primitives::{Address, Amount, UNES_PER_NES, codec_struct};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One hundred per cent, in basis points.
pub const FULL: u32 = 10_000;

/// How what a client pays for work is split, in basis points that sum to [`FULL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// To the operator of the node that computed.
    pub compute: u32,
    /// To the model's owner.
    pub owner: u32,
    /// To the validators of the settling block, in equal parts.
    pub validators: u32,
    /// To the treasury.
    pub treasury: u32,
}

codec_struct!(Shares { compute, owner, validators, treasury });

/// Chain parameters, fixed at genesis. Times are milliseconds of block time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Least fee of any transaction, in unes; goes to the block's leader.
    pub min_tx_fee: Amount,
    /// Price of drawing one committee, in unes; goes to the treasury and is never returned.
    pub draw_fee: Amount,
    /// Price of registering a model, in unes; goes to the treasury.
    pub model_fee: Amount,
    /// Least bond of a node, in unes.
    pub min_bond: Amount,
    /// Time between `Unbond` and the bond's return.
    pub unbonding_ms: u64,
    /// Blocks between two snapshots of the node set.
    pub snapshot_interval: u64,
    /// Epochs (snapshots) after which a node that was not renewed lapses. Counted in snapshots and
    /// not in time, so that no node lapses while the chain stands still.
    pub lapse_epochs: u64,
    /// Width of a deadline bucket.
    pub bucket_ms: u64,
    /// Least time from inclusion to a query's deadline.
    pub min_deadline_ms: u64,
    /// Most time from inclusion to a query's deadline.
    pub max_deadline_ms: u64,
    /// Most padded tokens of one verified batch, which is what a client pays by: what a server may
    /// serve unpaid, and the most that is burned when a client disputes. More would let a server
    /// that lies about what it served burn more than a client can owe; less would let a client have
    /// the difference for nothing.
    pub increment_tokens: u32,
    /// Most padded tokens of one query.
    pub max_query_tokens: u32,
    /// Time after a committee query's deadline in which commitments are opened.
    pub reveal_ms: u64,
    /// Time for one answer in a dispute, and for opening one after the reveals.
    pub step_ms: u64,
    /// Time for a committee's claims, after its reveals or its last possible dispute.
    pub claim_ms: u64,
    /// Part of a liar's bond that is taken, in basis points.
    pub slash: u32,
    /// Part of what is taken that goes to the operator who won the dispute, in basis points; the
    /// rest is burned. Less than half, so that nobody gains by losing to himself.
    pub reward: u32,
    /// How payments are split.
    pub shares: Shares,
    /// How long a settled query stays in the state.
    pub query_retention_ms: u64,
    /// Time between blocks while transactions wait.
    pub block_interval_ms: u64,
    /// Time between blocks when idle.
    pub idle_interval_ms: u64,
    /// Account that gives away coins on a test network; its genesis balance is marked as such
    /// and the mark travels with the coins.
    pub faucet: Option<Address>,
}

codec_struct!(Params {
    min_tx_fee,
    draw_fee,
    model_fee,
    min_bond,
    unbonding_ms,
    snapshot_interval,
    lapse_epochs,
    bucket_ms,
    min_deadline_ms,
    max_deadline_ms,
    increment_tokens,
    max_query_tokens,
    reveal_ms,
    step_ms,
    claim_ms,
    slash,
    reward,
    shares,
    query_retention_ms,
    block_interval_ms,
    idle_interval_ms,
    faucet,
});

/// A parameter that would break a promise of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("parameter {name} is {got}, expected {expected}")]
pub struct ParamsError {
    /// Which one.
    pub name: &'static str,
    /// Its value.
    pub got: u64,
    /// What it must be.
    pub expected: &'static str,
}

impl Params {
    /// Values for a local network: everything cheap and quick.
    pub fn local(faucet: Option<Address>) -> Self {
        Self {
            min_tx_fee: Amount(10),
            draw_fee: Amount(1_000),
            model_fee: Amount(UNES_PER_NES),
            min_bond: Amount(UNES_PER_NES),
            unbonding_ms: 24 * 3_600_000,
            snapshot_interval: 8,
            lapse_epochs: 128,
            bucket_ms: 1_000,
            min_deadline_ms: 3_000,
            max_deadline_ms: 600_000,
            increment_tokens: 512,
            max_query_tokens: 65_536,
            reveal_ms: 5_000,
            step_ms: 10_000,
            claim_ms: 10_000,
            slash: FULL,
            reward: 4_000,
            shares: Shares { compute: 8_500, owner: 500, validators: 700, treasury: 300 },
            query_retention_ms: 7 * 24 * 3_600_000,
            block_interval_ms: 250,
            idle_interval_ms: 1_000,
            faucet,
        }
    }

    /// Longest time from a query's inclusion to its settlement, disputes included.
    pub const fn longest_query_ms(&self) -> u64 {
        let disputes = self.step_ms.saturating_mul(1 + MAX_ROUNDS);
        self.max_deadline_ms
            .saturating_add(self.reveal_ms)
            .saturating_add(disputes)
            .saturating_add(self.claim_ms)
    }

    /// Checks that the parameters fit together.
    ///
    /// # Errors
    /// The first [`ParamsError`].
    pub fn check(&self) -> Result<(), ParamsError> {
        let Shares { compute, owner, validators, treasury } = self.shares;
        let sum = [compute, owner, validators, treasury].iter().map(|s| u64::from(*s)).sum::<u64>();
        let rules = [
            ("shares", sum, sum == u64::from(FULL), "a sum of 10000 basis points"),
            ("snapshot_interval", self.snapshot_interval, self.snapshot_interval > 0, "at least 1"),
            (
                "lapse_epochs",
                self.lapse_epochs,
                self.lapse_epochs >= 4,
                "at least 4, so that a renewal has time to reach a block",
            ),
            ("bucket_ms", self.bucket_ms, (1..=3_600_000).contains(&self.bucket_ms), "1 ms to 1 h"),
            ("min_deadline_ms", self.min_deadline_ms, self.min_deadline_ms > 0, "at least 1 ms"),
            (
                "max_deadline_ms",
                self.max_deadline_ms,
                self.max_deadline_ms >= self.min_deadline_ms && self.max_deadline_ms <= DAY_MS,
                "min_deadline_ms to one day",
            ),
            (
                "unbonding_ms",
                self.unbonding_ms,
                self.unbonding_ms >= self.longest_query_ms() && self.unbonding_ms <= 365 * DAY_MS,
                "the longest query with its disputes to one year, so that a bond outlives the \
                 queries it was drawn for",
            ),
            (
                "query_retention_ms",
                self.query_retention_ms,
                (1..=365 * DAY_MS).contains(&self.query_retention_ms),
                "1 ms to one year",
            ),
            (
                "reveal_ms",
                self.reveal_ms,
                (1..=DAY_MS).contains(&self.reveal_ms),
                "1 ms to one day",
            ),
            ("step_ms", self.step_ms, (1..=DAY_MS).contains(&self.step_ms), "1 ms to one day"),
            ("claim_ms", self.claim_ms, (1..=DAY_MS).contains(&self.claim_ms), "1 ms to one day"),
            ("slash", self.slash.into(), self.slash <= FULL, "at most 10000 basis points"),
            ("reward", self.reward.into(), self.reward < FULL / 2, "below 5000 basis points"),
            ("min_bond", self.min_bond.0, self.min_bond.0 > 0, "more than nothing"),
            (
                "increment_tokens",
                self.increment_tokens.into(),
                self.increment_tokens > 0,
                "at least 1",
            ),
            (
                "max_query_tokens",
                self.max_query_tokens.into(),
                self.max_query_tokens > 0,
                "at least 1",
            ),
        ];
        for (name, got, holds, expected) in rules {
            if !holds {
                return Err(ParamsError { name, got, expected });
            }
        }
        Ok(())
    }
}

const DAY_MS: u64 = 24 * 3_600_000;
