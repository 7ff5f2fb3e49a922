//! One linear stage of an opened receipt: the products both servers must have signed.

use commonware_codec::Encode as _;
use nesa_crypto::sign::Signature;
use nesa_kernels::Weight;
use nesa_masked::{
    message::{Request, SeedBytes, Slot, Statement},
    pack, share, signing,
    spec::{self, Stage},
};
use nesa_primitives::{Hash, decode_exact};
use nesa_verify::receipt::Failure;

use super::{OpenedMessage, servers::Servers};
use crate::query::report::SideName;

/// One stage of one pass, as both servers must have computed it.
pub(super) struct StageCheck<'a> {
    pub(super) chain: &'a Hash,
    pub(super) query: &'a Hash,
    pub(super) servers: &'a Servers,
    pub(super) weights: Weight<'a>,
    pub(super) stage: Stage,
    pub(super) pass: u32,
    pub(super) tokens: u32,
}

impl StageCheck<'_> {
    /// Recomputes both products of every message of the stage, checks the signatures, and gives
    /// their sum, `[tokens, n]`.
    pub(super) fn products<'m>(
        &self,
        x: &[i32],
        messages: &mut impl Iterator<Item = &'m OpenedMessage>,
    ) -> Result<Vec<i32>, Failure> {
        let (k, n, bits) = (self.stage.k as usize, self.stage.n as usize, self.stage.share_bits());
        let mut y = Vec::with_capacity(self.tokens as usize * n);
        for part in 0..spec::parts(self.tokens) {
            let place = format!("message {part} of stage {} of pass {}", self.stage.id, self.pass);
            let message =
                messages.next().ok_or_else(|| Failure::new(place.clone(), "absent", "present"))?;
            let slot = Slot { pass: self.pass, tokens: self.tokens, stage: self.stage.id, part };
            if message.slot.0 != slot.encode() {
                return Err(Failure::new(place, "another slot", format!("{slot:?}")));
            }
            let seed: SeedBytes = decode_exact(&message.seed.0, &())
                .map_err(|error| Failure::new(place.clone(), error, "a seed of 32 bytes"))?;
            let rows = slot.rows() as usize;
            let start = part as usize * spec::ROWS_PER_PART as usize * k;
            let x = &x[start..start + rows * k];
            let a = share::conceal(x, &seed.seed(), bits);
            let b = share::expand(&seed.seed(), x.len(), bits);
            let share = Request::Share { slot, share: pack::pack(&a, bits).into() };
            let seed = Request::Seed { slot, seed };
            let y_a = self.product(SideName::A, &message.a, slot, &share, &a)?;
            let y_b = self.product(SideName::B, &message.b, slot, &seed, &b)?;
            y.extend(share::reconstruct(&y_a, &y_b, bits));
        }
        debug_assert_eq!(y.len(), self.tokens as usize * n);
        Ok(y)
    }

    /// One server's product, which it must have signed and, if it committed, committed to.
    fn product(
        &self,
        side: SideName,
        signed: &(u8, Signature),
        slot: Slot,
        request: &Request,
        words: &[u32],
    ) -> Result<Vec<u32>, Failure> {
        let (k, n, bits) = (self.stage.k as usize, self.stage.n as usize, self.stage.share_bits());
        let rows = slot.rows() as usize;
        let mut y = vec![0u32; rows * n];
        self.weights.matmul_mask_u32(words, n, k, rows, &mut y);
        let mask = pack::mask(bits);
        y.iter_mut().for_each(|value| *value &= mask);
        let (attempt, signature) = signed;
        let what = || format!("{side:?}'s product of stage {} of pass {}", slot.stage, slot.pass);
        let server = self
            .servers
            .get(&(side, *attempt))
            .ok_or_else(|| Failure::new(what(), "by an unknown server", "by one of the servers"))?;
        let statement = Statement {
            query: *self.query,
            side: side.into(),
            attempt: *attempt,
            slot,
            request: request.digest(self.chain),
            product: Statement::product_digest(self.chain, &pack::pack(&y, bits)),
        };
        if !signing::statement_is_signed(&statement, self.chain, &server.node, signature) {
            return Err(Failure::new(
                what(),
                "a signature over something else",
                format!("{}'s signature over the product of its share", server.node),
            ));
        }
        if let Some(committed) = &server.committed
            && !committed.contains(&statement.leaf())
        {
            return Err(Failure::new(what(), "not in the commitment", "one of its leaves"));
        }
        Ok(y)
    }
}
