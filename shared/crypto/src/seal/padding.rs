//! Lengths in buckets.
//!
//! Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", PoPETs 2019): a length keeps only its `⌈log₂ log₂ n⌉` leading bits, so `n` bytes leak
//! `O(log log n)` bits and grow by 12 % at most.

/// The smallest bucket, in bytes: short messages all look the same.
const SMALLEST: usize = 256;
/// Bytes of the length in front of the content.
pub(super) const PREFIX: usize = 4;

/// The bucket of a message: its length after padding. Zero-cost to compute, the same everywhere.
pub fn padded(length: usize) -> usize {
    if length <= SMALLEST {
        return SMALLEST;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - kept)) - 1;
    // Within a bit of the top nothing larger exists to round to.
    length.checked_add(mask).map_or(length, |sum| sum & !mask)
}

/// Bytes of content that a padded message of `length` bytes can carry at most.
pub fn unpad_len(length: usize) -> usize {
    length.saturating_sub(PREFIX)
}

/// Length, content, zeros to the bucket's end.
pub(super) fn pad(content: &[u8]) -> Option<Vec<u8>> {
    let prefix = u32::try_from(content.len()).ok()?.to_le_bytes();
    let total = padded(content.len().checked_add(PREFIX)?);
    let mut out = Vec::with_capacity(total + super::session::TAG);
    out.extend_from_slice(&prefix);
    out.extend_from_slice(content);
    out.resize(total, 0);
    Some(out)
}

/// The content of a padded message; `None` unless it is the one padding of its content.
pub(super) fn unpad(mut message: Vec<u8>) -> Option<Vec<u8>> {
    let prefix = *message.first_chunk::<PREFIX>()?;
    let length = u32::from_le_bytes(prefix) as usize;
    let end = length.checked_add(PREFIX)?;
    let zeros = message.get(end..)?;
    if padded(end) != message.len() || zeros.iter().any(|b| *b != 0) {
        return None;
    }
    message.truncate(end);
    message.drain(..PREFIX);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_few_and_small() {
        assert_eq!(padded(0), SMALLEST);
        assert_eq!(padded(SMALLEST), SMALLEST);
        let buckets: std::collections::BTreeSet<_> = (0..1usize << 16).map(padded).collect();
        assert!(buckets.len() < 140, "{} buckets below 64 KiB", buckets.len());
    }

    proptest! {
        #[test]
        fn padding_is_at_most_an_eighth(n in 257usize..1 << 40) {
            let bucket = padded(n);
            prop_assert!(bucket >= n && (bucket - n) * 8 <= n);
            prop_assert_eq!(padded(bucket), bucket, "a bucket is its own");
        }

        #[test]
        fn content_survives(content in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(unpad(pad(&content).unwrap()).unwrap(), content);
        }

        #[test]
        fn only_one_padding_is_taken(content in proptest::collection::vec(any::<u8>(), 0..300), more in 1usize..300) {
            let mut longer = pad(&content).unwrap();
            longer.extend(std::iter::repeat_n(0, more));
            prop_assert_eq!(unpad(longer), None);
            let mut dirty = pad(&content).unwrap();
            if dirty.len() > content.len() + PREFIX {
                *dirty.last_mut().unwrap() = 1;
                prop_assert_eq!(unpad(dirty), None);
            }
        }

        #[test]
        fn any_bytes_unpad_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(content) = unpad(bytes.clone()) {
                prop_assert_eq!(pad(&content).unwrap(), bytes);
            }
        }
    }
}
