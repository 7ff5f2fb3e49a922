//! Randomness from the operating system or the browser.
//!
//! Code in `shared/` never draws its own randomness; it is handed a generator made here.

use rand::{SeedableRng as _, TryRng as _, rngs::StdRng, rngs::SysRng};

/// A fresh cryptographic generator, seeded with 256 bits from the system.
///
/// # Panics
///
/// If the system has no source of randomness. Nothing here can be done safely without one.
#[allow(clippy::expect_used)]
pub fn rng() -> StdRng {
    StdRng::try_from_rng(&mut SysRng).expect("the system has a source of randomness")
}

/// `N` random bytes straight from the system.
///
/// # Panics
///
/// As [`rng`].
#[allow(clippy::expect_used)]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SysRng.try_fill_bytes(&mut out).expect("the system has a source of randomness");
    out
}
