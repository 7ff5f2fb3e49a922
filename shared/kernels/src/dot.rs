//! Dot products of words, for checks that cost far less than the products they check.

/// `Σ a·b mod 2^32` over as many words as the shorter slice has.
pub fn dot_u32(a: &[u32], b: &[u32]) -> u32 {
    let terms = a.iter().zip(b).map(|(a, b)| a.wrapping_mul(*b));
    terms.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_sum_of_the_products(pairs: Vec<(u32, u32)>) {
            let (a, b): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            let whole: u128 = pairs.iter().map(|(a, b)| u128::from(*a) * u128::from(*b)).sum();
            prop_assert_eq!(dot_u32(&a, &b), whole as u32);
        }
    }
}
