//! Clients that each break one rule, so that the attack tests can show they would notice.

use nesa_crypto::prg::Seed;
use rand_core::CryptoRng;

use super::{session::Session, types::Mutant};
use crate::{message::SeedBytes, run::Run, share};

impl<R: Run, G: CryptoRng> Session<R, G> {
    pub(super) fn mutant_seed(&self, index: usize, part: u16) -> Option<SeedBytes> {
        let from = |a: u64, b: u64| {
            let mut bytes = [7u8; 32];
            bytes[..8].copy_from_slice(&a.to_le_bytes());
            bytes[8..16].copy_from_slice(&b.to_le_bytes());
            Some(SeedBytes(bytes))
        };
        match self.mutant? {
            Mutant::ReusedSeed => Some(SeedBytes([9; 32])),
            // A counter that restarts where the stage restarts.
            Mutant::CounterRollback => {
                let pass = self.pass.as_ref().map_or(0, |p| u64::from(p.number));
                from(self.session_secret(), (pass << 32) + (index as u64) * 64 + u64::from(part))
            }
            Mutant::SeedFromPosition => from(index as u64, u64::from(part)),
            _ => None,
        }
    }

    /// Whether the mutant is at work and part `i` failed by its range.
    pub(super) fn mutant_tells_range_failures(&self, i: usize) -> bool {
        let failed = || {
            let stage = self.pass.as_ref()?.stages.front()?;
            let secrets = self.preparation.stage(stage.index)?;
            let part = &stage.parts[i];
            let (a, b) = (part.from_a.as_ref()?, part.from_b.as_ref()?);
            let count = (part.rows * secrets.stage.n) as usize;
            let bits = secrets.stage.share_bits();
            let y = crate::pack::unpack_sum(&a.values, &b.values, count, bits).ok()?;
            Some(!bool::from(share::within(&y, &secrets.bounds)))
        };
        self.mutant == Some(Mutant::DifferentiatedErrors) && failed().unwrap_or(false)
    }

    pub(super) fn mutant_rows(mutant: Option<Mutant>, mut x: Vec<i32>) -> Vec<i32> {
        if mutant == Some(Mutant::KnownTestRows) {
            x.fill(1);
        }
        x
    }

    /// Differs between sessions, so that only the rollback is wrong with the counter.
    fn session_secret(&self) -> u64 {
        self.preparation.stage(0).map_or(0, |s| s.r.residue(0))
    }

    pub(super) fn mutant_share(&self, x: &[i32], seed: &Seed, bits: u32) -> Option<share::Share> {
        if self.mutant != Some(Mutant::EightBitMask) {
            return None;
        }
        let mut words = share::expand(seed, x.len(), 8);
        let mask = crate::pack::mask(bits);
        for (w, &x) in words.iter_mut().zip(x) {
            *w = (x as u32).wrapping_sub(*w) & mask;
        }
        Some(words)
    }
}
