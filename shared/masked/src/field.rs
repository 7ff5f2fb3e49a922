//! Arithmetic modulo the Mersenne prime p = 2^61 − 1, the field of the Freivalds checks.
//!
//! A 31-bit prime would be unsafe here: two different `i32` results may differ by a multiple of it,
//! and such a forgery passes for every choice of `r`. Two values below 2^60 in magnitude are equal
//! mod p only if they are equal.

use rand_core::CryptoRng;

/// The prime 2^61 − 1.
pub const P: u64 = (1 << 61) - 1;

/// Reduces any 128-bit value to `0..P`.
pub fn reduce(v: u128) -> u64 {
    // 2^61 = 1 (mod p): fold the high bits down twice, then subtract p at most once.
    let folded = (v & u128::from(P)) + (v >> 61);
    let low = (folded & u128::from(P)) as u64;
    let high = (folded >> 61) as u64;
    let sum = low.wrapping_add(high);
    let again = (sum & P).wrapping_add(sum >> 61);
    if again >= P { again - P } else { again }
}

/// Reduces a signed 128-bit value to `0..P`.
pub fn reduce_signed(v: i128) -> u64 {
    let magnitude = reduce(v.unsigned_abs());
    if v < 0 { negate(magnitude) } else { magnitude }
}

/// `a + b mod p`, for residues in `0..P`.
pub fn add(a: u64, b: u64) -> u64 {
    let sum = a.wrapping_add(b);
    if sum >= P { sum - P } else { sum }
}

/// `−a mod p`, for a residue in `0..P`.
pub fn negate(a: u64) -> u64 {
    if a == 0 { 0 } else { P - a }
}

/// `a · b mod p`, for residues in `0..P`.
pub fn multiply(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b))
}

/// A uniform residue in `0..P`, by rejection (one try in 2^61 is thrown away).
pub fn uniform(rng: &mut impl CryptoRng) -> u64 {
    loop {
        let candidate = rng.next_u64() & P;
        if candidate < P {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_reduce_into_the_field() {
        for v in [0u128, 1, u128::from(P) - 1, u128::from(P), u128::from(P) + 1, u128::MAX] {
            assert_eq!(u128::from(reduce(v)), v % u128::from(P));
        }
        for v in [i128::MIN, i128::MIN + 1, -1, 0, 1, i128::MAX] {
            assert_eq!(i128::from(reduce_signed(v)), v.rem_euclid(i128::from(P)));
        }
    }

    proptest! {
        #[test]
        fn reductions_agree_with_division(v: u128, w: i128) {
            prop_assert_eq!(u128::from(reduce(v)), v % u128::from(P));
            prop_assert_eq!(i128::from(reduce_signed(w)), w.rem_euclid(i128::from(P)));
        }

        #[test]
        fn the_field_laws_hold(a in 0..P, b in 0..P, c in 0..P) {
            prop_assert_eq!(multiply(a, add(b, c)), add(multiply(a, b), multiply(a, c)));
            prop_assert_eq!(add(a, negate(a)), 0);
            prop_assert_eq!(multiply(multiply(a, b), c), multiply(a, multiply(b, c)));
        }
    }
}
