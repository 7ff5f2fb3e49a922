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

/// Packs `values`, of which only the lowest `bits` bits (1..=32) are taken.
///
/// Widths outside the range are clamped to it; every caller takes the width from a checked
/// [`LaneSpec`](crate::spec::LaneSpec).
pub fn pack(values: &[u32], bits: u32) -> Vec<u8> {
    let bits = bits.clamp(1, 32);
    let mut out = Vec::with_capacity(packed_len(values.len(), bits) + 32);
    let (groups, tail) = values.as_chunks::<8>();
    for group in groups {
        pack_group(group, bits, &mut out);
    }
    let (mut pending, mut filled) = (0u64, 0u32);
    for &value in tail {
        pending |= u64::from(value & mask(bits)) << filled;
        filled += bits;
        while filled >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(pending as u8);
    }
    out
}

/// Eight values to `bits` bytes through two 128-bit words.
#[inline(always)]
fn pack_group(group: &[u32; 8], bits: u32, out: &mut Vec<u8>) {
    let m = mask(bits);
    let pair = |i: usize| u128::from(u64::from(group[i] & m) | (u64::from(group[i + 1] & m) << bits));
    let low = pair(0) | (pair(2) << (2 * bits));
    let high = pair(4) | (pair(6) << (2 * bits));
    let (first, second) = if bits == 32 {
        (low, high)
    } else {
        (low | (high << (4 * bits)), high >> (128 - 4 * bits))
    };
    let mut bytes = [0u8; 32];
    bytes[..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..].copy_from_slice(&second.to_le_bytes());
    out.extend_from_slice(&bytes[..bits as usize]);
}

/// Unpacks exactly `count` values of `bits` bits.
///
/// # Errors
/// When the width is impossible, the length is not that of `count` values, or a padding bit is set.
pub fn unpack(bytes: &[u8], count: usize, bits: u32) -> Result<Vec<u32>, UnpackError> {
    if !(1..=32).contains(&bits) {
        return Err(UnpackError::Width(bits));
    }
    let expected = packed_len(count, bits);
    if bytes.len() != expected {
        return Err(UnpackError::Length { expected, got: bytes.len() });
    }
    let mut values = Vec::with_capacity(count);
    let groups = count / 8;
    // A group is read through eight-byte windows, which may reach past its own bytes.
    let fast = groups.min(bytes.len().saturating_sub(8) / bits as usize);
    for group in 0..fast {
        let start = group * bits as usize;
        let window = &bytes[start..start + bits as usize + 8];
        unpack_group(window, bits, &mut values);
    }
    let mut position = (fast * 8) as u64 * u64::from(bits);
    while values.len() < count {
        values.push(read_bits(bytes, position, bits));
        position += u64::from(bits);
    }
    let used = (position % 8) as u32;
    if used != 0 && bytes.last().is_some_and(|&last| last >> used != 0) {
        return Err(UnpackError::Padding);
    }
    Ok(values)
}

#[inline(always)]
fn unpack_group(window: &[u8], bits: u32, values: &mut Vec<u32>) {
    let mut out = [0u32; 8];
    for (i, value) in out.iter_mut().enumerate() {
        let position = i * bits as usize;
        let mut word = [0u8; 8];
        word.copy_from_slice(&window[position / 8..position / 8 + 8]);
        *value = (u64::from_le_bytes(word) >> (position % 8)) as u32 & mask(bits);
    }
    values.extend_from_slice(&out);
}

/// One value at a bit position, byte by byte; the caller has checked the length.
fn read_bits(bytes: &[u8], position: u64, bits: u32) -> u32 {
    let first = (position / 8) as usize;
    let shift = (position % 8) as u32;
    let mut word = 0u64;
    for (i, &byte) in bytes[first..].iter().take(5).enumerate() {
        word |= u64::from(byte) << (8 * i);
    }
    (word >> shift) as u32 & mask(bits)
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
