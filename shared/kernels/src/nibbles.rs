//! Four-bit weights: groups of [`GROUP`] values that share an integer multiplier.
//!
//! A row of `k` weights is packed as `G = ⌈k / 32⌉` groups of 16 bytes, then `⌈G / 2⌉` bytes of
//! multipliers. Byte `b` of a group holds channel `b` of the group in its low four bits and channel
//! `b + 16` in its high ones, each a two's complement number from −8 to 7; multiplier `g` is the low
//! (even `g`) or high (odd `g`) half of byte `⌊g / 2⌋`, from 0 to 15. The weight is their product, from
//! −120 to 105: an integer of eight bits, so that everything behind is the arithmetic of byte weights.
//! Channels past `k` are ignored.

use crate::dispatch::vectorised;
use crate::vector::Vector;

/// Weights that share a multiplier.
pub const GROUP: usize = 32;

/// Greatest multiplier.
pub const MAX_MULTIPLIER: u8 = 15;

/// Bytes of a packed row of `k` weights.
pub const fn packed_bytes(k: usize) -> usize {
    let groups = k.div_ceil(GROUP);
    groups * (GROUP / 2) + groups.div_ceil(2)
}

vectorised! {
    /// Unpacks rows of `k` weights: `packed` is `[rows, packed_bytes(k)]`, `out` becomes `[rows, k]`. What
    /// does not fill a row is left as it is. See [`plain`] for the definition.
    pub fn unpack(packed: &[u8], k: usize, out: &mut [i8]) {
        fast: fast,
        plain: plain,
    }
}

/// The definition of [`unpack`], a weight at a time.
pub fn plain(packed: &[u8], k: usize, out: &mut [i8]) {
    if k == 0 {
        return;
    }
    let groups = k.div_ceil(GROUP);
    for (packed, out) in packed.chunks_exact(packed_bytes(k)).zip(out.chunks_exact_mut(k)) {
        for (i, out) in out.iter_mut().enumerate() {
            let (group, at) = (i / GROUP, i % GROUP);
            let byte = i32::from(packed[group * (GROUP / 2) + at % (GROUP / 2)]);
            let bits = if at < GROUP / 2 { byte & 15 } else { byte >> 4 };
            let value = if bits < 8 { bits } else { bits - 16 };
            let byte = i32::from(packed[groups * (GROUP / 2) + group / 2]);
            let multiplier = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            *out = (value * multiplier) as i8;
        }
    }
}

/// Sixteen weights at a time, in a shape that the compiler turns into vector instructions.
///
/// # Safety
/// The CPU has `V`'s features.
#[inline(always)]
unsafe fn fast<V: Vector>(packed: &[u8], k: usize, out: &mut [i8]) {
    let _ = V::LANES;
    if k == 0 {
        return;
    }
    let whole = k / GROUP;
    for (row, out) in packed.chunks_exact(packed_bytes(k)).zip(out.chunks_exact_mut(k)) {
        let (nibbles, multipliers) = row.split_at(k.div_ceil(GROUP) * (GROUP / 2));
        let groups = nibbles.as_chunks::<{ GROUP / 2 }>().0;
        let (full, tail) = out.as_chunks_mut::<GROUP>();
        for (g, (bytes, out)) in groups.iter().zip(full).enumerate() {
            weights(bytes, multiplier(multipliers, g), out);
        }
        if let Some(bytes) = groups.get(whole) {
            let mut last = [0i8; GROUP];
            weights(bytes, multiplier(multipliers, whole), &mut last);
            tail.copy_from_slice(&last[..tail.len()]);
        }
    }
}

/// Unpacks whole groups of a row of `k` weights, from group `first` on, as many as fill `out`. Weights past
/// `k` are what their bits happen to say.
///
/// # Panics
/// When the row does not have those groups.
#[inline(always)]
pub(crate) fn unpack_groups(row: &[u8], k: usize, first: usize, out: &mut [i8]) {
    let (groups, multipliers) = split(row, k);
    for (g, (out, bytes)) in
        out.as_chunks_mut::<GROUP>().0.iter_mut().zip(&groups[first..]).enumerate()
    {
        weights(bytes, multiplier(multipliers, first + g), out);
    }
}

/// The groups of a packed row of `k` weights, and its multipliers.
///
/// # Panics
/// When the row is shorter.
#[inline(always)]
pub(crate) fn split(row: &[u8], k: usize) -> (&[[u8; GROUP / 2]], &[u8]) {
    let (groups, multipliers) = row.split_at(k.div_ceil(GROUP) * (GROUP / 2));
    (groups.as_chunks().0, multipliers)
}

#[inline(always)]
fn multiplier(multipliers: &[u8], group: usize) -> i16 {
    i16::from((multipliers[group / 2] >> (4 * (group % 2))) & 15)
}

/// One group. Products are at most 120, so sixteen bits hold them and eight are enough.
#[inline(always)]
fn weights(bytes: &[u8; GROUP / 2], multiplier: i16, out: &mut [i8; GROUP]) {
    let (low, high) = out.split_at_mut(GROUP / 2);
    for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
        let signed = byte as i8;
        *low = i16::from(signed.wrapping_shl(4) >> 4).wrapping_mul(multiplier) as i8;
        *high = i16::from(signed >> 4).wrapping_mul(multiplier) as i8;
    }
}

/// Packs one row: `values` (−8 to 7) and the multipliers of its groups (0 to 15). Higher bits are dropped.
pub fn pack(values: &[i8], multipliers: &[u8]) -> Vec<u8> {
    let groups = values.len().div_ceil(GROUP);
    let mut packed = vec![0u8; packed_bytes(values.len())];
    for (i, &value) in values.iter().enumerate() {
        let (group, at) = (i / GROUP, i % GROUP);
        let bits = value as u8 & 15;
        let byte = &mut packed[group * (GROUP / 2) + at % (GROUP / 2)];
        *byte |= if at < GROUP / 2 { bits } else { bits << 4 };
    }
    for (group, &multiplier) in multipliers.iter().enumerate().take(groups) {
        packed[groups * (GROUP / 2) + group / 2] |= (multiplier & 15) << (4 * (group % 2));
    }
    packed
}
