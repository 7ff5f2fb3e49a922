//! Who owes what: padded tokens served, and the latest running total signed by the client.

use nesa_chain::Voucher;
use nesa_primitives::Amount;

/// The money side of one session.
pub(crate) struct Ledger {
    price: Amount,
    /// The most this node may earn from the escrow.
    budget: Amount,
    max_tokens: u32,
    served_tokens: u32,
    voucher: Option<Voucher>,
}

/// A pass that may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpaid;

impl Ledger {
    pub(crate) const fn new(price: Amount, budget: Amount, max_tokens: u32) -> Self {
        Self { price, budget, max_tokens, served_tokens: 0, voucher: None }
    }

    /// Begins a pass of `tokens`: every earlier pass must be paid, and the escrow must hold the
    /// new one.
    pub(crate) fn begin(&mut self, tokens: u32) -> Result<(), Unpaid> {
        let owed = self.price.checked_mul(u64::from(self.served_tokens)).ok_or(Unpaid)?;
        if self.paid() < owed {
            return Err(Unpaid);
        }
        let served = self.served_tokens.checked_add(tokens).ok_or(Unpaid)?;
        let total = self.price.checked_mul(u64::from(served)).ok_or(Unpaid)?;
        if served > self.max_tokens || total > self.budget {
            return Err(Unpaid);
        }
        self.served_tokens = served;
        Ok(())
    }

    /// Takes a voucher whose signature has been checked. Totals are cumulative, so only the
    /// largest counts: keeping both earns nothing.
    pub(crate) fn credit(&mut self, voucher: Voucher) {
        if voucher.total > self.paid() {
            self.voucher = Some(voucher);
        }
    }

    pub(crate) fn paid(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |v| v.total)
    }

    pub(crate) const fn served_tokens(&self) -> u32 {
        self.served_tokens
    }

    pub(crate) fn voucher(&self) -> Option<&Voucher> {
        self.voucher.as_ref()
    }
}
