//! Who owes what: tokens served, and the latest running total signed by the client.

use nesa_chain::ShardVoucher;
use nesa_primitives::Amount;

use crate::{CREDIT, opening::Terms};

/// The money side of one session.
pub(super) struct Ledger {
    price: Amount,
    budget: Amount,
    max_tokens: u32,
    served: u32,
    voucher: Option<ShardVoucher>,
}

/// A step that may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unpaid;

impl Ledger {
    pub(super) fn new(terms: &Terms) -> Self {
        let &Terms { price_per_token: price, budget, max_tokens, .. } = terms;
        Self { price, budget, max_tokens, served: 0, voucher: None }
    }

    /// Begins a step of `tokens`: no more than [`CREDIT`] may be unpaid, and the escrow must hold it.
    pub(super) fn begin(&mut self, tokens: u32) -> Result<(), Unpaid> {
        let served = self.served.checked_add(tokens).ok_or(Unpaid)?;
        let total = self.price.checked_mul(served.into()).ok_or(Unpaid)?;
        let credit = self.price.checked_mul(CREDIT.into()).ok_or(Unpaid)?;
        let covered = self.paid().checked_add(credit).ok_or(Unpaid)?;
        if served > self.max_tokens || total > self.budget || total > covered {
            return Err(Unpaid);
        }
        self.served = served;
        Ok(())
    }

    /// Takes a voucher whose signature has been checked; only the largest counts.
    pub(super) fn credit(&mut self, voucher: ShardVoucher) {
        if voucher.total > self.paid() {
            self.voucher = Some(voucher);
        }
    }

    pub(super) fn paid(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |v| v.total)
    }

    pub(super) fn served(&self) -> u32 {
        self.served
    }

    pub(super) fn voucher(&self) -> Option<&ShardVoucher> {
        self.voucher.as_ref()
    }
}
