//! Packing of k-bit shares: values lie one after the other, lowest bit first, padded to a whole
//! byte only at the very end of a message.
//!
//! Bytes on the link are the masked lane's cost, and a share mod 2^k needs only k bits (about 25
//! for MiniLM's attention layers, where whole words would take 32). Eight values of k bits fill
//! exactly k bytes, which the fast path handles without a branch per value.

use thiserror::Error;

/// Why packed bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnpackError {
    /// A width outside 1..=32.
    #[error("a share has 1 to 32 bits, not {0}")]
    Width(u32),
    /// Another number of bytes than the values need.
    #[error("{expected} bytes expected, {got} got")]
    Length {
        /// Bytes that the value count needs.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// The unused bits of the last byte are not zero, so that a second encoding would exist.
    #[error("the padding bits are not zero")]
    Padding,
}

/// Bytes that `count` values of `bits` bits take.
pub const fn packed_len(count: usize, bits: u32) -> usize {
    (count as u64 * bits as u64).div_ceil(8) as usize
}

/// The lowest `bits` bits set; `bits` in 1..=32.
pub const fn mask(bits: u32) -> u32 {
    if bits >= 32 { u32::MAX } else { (1 << bits) - 1 }
}

/// Runs `$work::<BITS>(…)` for a width known only at run time, so that every shift in the inner
/// loop is a constant.
macro_rules! with_width {
    ($bits:expr, $work:ident($($arg:expr),*)) => {
        with_width!(@arms $bits, $work, ($($arg),*),
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
            17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@arms $bits:expr, $work:ident, $args:tt, $($width:literal)*) => {
        match $bits {
            $($width => with_width!(@call $work, $width, $args),)*
            _ => with_width!(@call $work, 32, $args),
        }
    };
    (@call $work:ident, $width:literal, ($($arg:expr),*)) => { $work::<$width>($($arg),*) };
}

/// Packs `values`, of which only the lowest `bits` bits (1..=32) are taken.
///
/// Widths outside the range are clamped to it; every caller takes the width from a checked
/// [`Lane`](crate::Lane).
pub fn pack(values: &[u32], bits: u32) -> Vec<u8> {
    let bits = bits.clamp(1, 32);
    let mut out = vec![0u8; packed_len(values.len(), bits)];
    with_width!(bits, pack_width(values, &mut out));
    out
}

fn pack_width<const BITS: usize>(values: &[u32], out: &mut [u8]) {
    let (groups, tail) = values.as_chunks::<8>();
    let mut rest = out;
    for group in groups {
        let Some((bytes, later)) = rest.split_first_chunk_mut::<BITS>() else { return };
        *bytes = pack_group::<BITS>(group);
        rest = later;
    }
    let mut last = [0u32; 8];
    last[..tail.len()].copy_from_slice(tail);
    let bytes: [u8; BITS] = pack_group(&last);
    let len = rest.len().min(BITS);
    rest[..len].copy_from_slice(&bytes[..len]);
}

/// Eight values to `BITS` bytes through two 128-bit words.
#[inline(always)]
fn pack_group<const BITS: usize>(group: &[u32; 8]) -> [u8; BITS] {
    let m = mask(BITS as u32);
    let pair =
        |i: usize| u128::from(u64::from(group[i] & m) | (u64::from(group[i + 1] & m) << BITS));
    let low = pair(0) | (pair(2) << (2 * BITS));
    let high = pair(4) | (pair(6) << (2 * BITS));
    let (first, second) = if BITS == 32 {
        (low, high)
    } else {
        (low | (high << ((4 * BITS) & 127)), high >> ((128 - 4 * BITS) & 127))
    };
    let mut bytes = [0u8; 32];
    bytes[..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..].copy_from_slice(&second.to_le_bytes());
    let mut out = [0u8; BITS];
    out.copy_from_slice(&bytes[..BITS]);
    out
}

/// Unpacks exactly `count` values of `bits` bits.
///
/// # Errors
/// When the width is impossible, the length is not that of `count` values, or a padding bit is set.
pub fn unpack(bytes: &[u8], count: usize, bits: u32) -> Result<Vec<u32>, UnpackError> {
    check(bytes, count, bits)?;
    let mut values = vec![0u32; count];
    with_width!(bits, unpack_width(bytes, &mut values));
    Ok(values)
}

/// Unpacks two products and adds them: `a + b mod 2^bits`, sign-extended. The same as
/// [`unpack`] twice and [`reconstruct`](crate::share::reconstruct), in one pass.
///
/// # Errors
/// As [`unpack`], for either.
pub fn unpack_sum(a: &[u8], b: &[u8], count: usize, bits: u32) -> Result<Vec<i32>, UnpackError> {
    check(a, count, bits)?;
    check(b, count, bits)?;
    let mut values = vec![0i32; count];
    with_width!(bits, sum_width(a, b, &mut values));
    Ok(values)
}

/// Whether the bytes are the one packing of `count` values, whatever the values.
///
/// # Errors
/// As [`unpack`].
pub fn check(bytes: &[u8], count: usize, bits: u32) -> Result<(), UnpackError> {
    if !(1..=32).contains(&bits) {
        return Err(UnpackError::Width(bits));
    }
    let expected = packed_len(count, bits);
    if bytes.len() != expected {
        return Err(UnpackError::Length { expected, got: bytes.len() });
    }
    let used = ((count as u64 * u64::from(bits)) % 8) as u32;
    if used != 0 && bytes.last().is_some_and(|&last| last >> used != 0) {
        return Err(UnpackError::Padding);
    }
    Ok(())
}

/// Bytes that a group's eight-byte reads may touch: its own, at most 32, and seven beyond.
const WINDOW: usize = 40;

/// The eight values from byte `start`; zeros beyond the end.
#[inline(always)]
fn group_at<const BITS: usize>(bytes: &[u8], start: usize) -> [u32; 8] {
    let own = bytes.get(start..).unwrap_or_default();
    match own.first_chunk::<WINDOW>() {
        Some(window) => unpack_group::<BITS>(window),
        None => {
            let mut window = [0u8; WINDOW];
            window[..own.len()].copy_from_slice(own);
            unpack_group::<BITS>(&window)
        }
    }
}

fn unpack_width<const BITS: usize>(bytes: &[u8], values: &mut [u32]) {
    let (groups, tail) = values.as_chunks_mut::<8>();
    let mut start = 0;
    for group in groups {
        *group = group_at::<BITS>(bytes, start);
        start += BITS;
    }
    let last = group_at::<BITS>(bytes, start);
    tail.copy_from_slice(&last[..tail.len()]);
}

fn sum_width<const BITS: usize>(a: &[u8], b: &[u8], values: &mut [i32]) {
    let sum = |start| {
        let (a, b) = (group_at::<BITS>(a, start), group_at::<BITS>(b, start));
        let mut out = [0i32; 8];
        for (out, (a, b)) in out.iter_mut().zip(a.into_iter().zip(b)) {
            *out = ((a.wrapping_add(b) << (32 - BITS)) as i32) >> (32 - BITS);
        }
        out
    };
    let (groups, tail) = values.as_chunks_mut::<8>();
    let mut start = 0;
    for group in groups {
        *group = sum(start);
        start += BITS;
    }
    let last = sum(start);
    tail.copy_from_slice(&last[..tail.len()]);
}

#[inline(always)]
fn unpack_group<const BITS: usize>(window: &[u8; WINDOW]) -> [u32; 8] {
    let mut out = [0u32; 8];
    for (i, value) in out.iter_mut().enumerate() {
        let (byte, shift) = (i * BITS / 8, i * BITS % 8);
        let mut word = [0u8; 8];
        word.copy_from_slice(&window[byte..byte + 8]);
        *value = (u64::from_le_bytes(word) >> shift) as u32 & mask(BITS as u32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: one bit at a time.
    fn reference(values: &[u32], bits: u32) -> Vec<u8> {
        let mut out = vec![0u8; packed_len(values.len(), bits)];
        for (i, value) in values.iter().enumerate() {
            for bit in 0..bits {
                let position = i * bits as usize + bit as usize;
                out[position / 8] |= (((value >> bit) & 1) as u8) << (position % 8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn packing_is_the_definition_and_inverts(
            bits in 1u32..=32,
            values in proptest::collection::vec(any::<u32>(), 0..70),
        ) {
            let packed = pack(&values, bits);
            prop_assert_eq!(&packed, &reference(&values, bits));
            let wanted: Vec<u32> = values.iter().map(|v| v & mask(bits)).collect();
            prop_assert_eq!(unpack(&packed, values.len(), bits), Ok(wanted));
        }

        #[test]
        fn the_sum_is_both_unpacked_and_added(
            bits in 1u32..=32,
            pairs in proptest::collection::vec(any::<(u32, u32)>(), 0..70),
        ) {
            let (a, b): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let sum = unpack_sum(&pack(&a, bits), &pack(&b, bits), a.len(), bits);
            prop_assert_eq!(sum.unwrap(), crate::share::reconstruct(&a, &b, bits));
        }

        #[test]
        fn any_bytes_unpack_canonically_or_not_at_all(
            bits in 0u32..=40,
            count in 0usize..40,
            bytes in proptest::collection::vec(any::<u8>(), 0..170),
        ) {
            if let Ok(values) = unpack(&bytes, count, bits) {
                prop_assert_eq!(pack(&values, bits), bytes);
            }
        }
    }

    #[test]
    fn padding_must_be_zero() {
        let mut packed = pack(&[1, 2, 3], 3);
        assert_eq!(packed.len(), 2);
        packed[1] |= 0x80;
        assert_eq!(unpack(&packed, 3, 3), Err(UnpackError::Padding));
    }
}
