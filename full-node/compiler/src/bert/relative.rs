//! Relative positions of MPNet: distances between tokens in buckets, as T5 has them.

use super::config::RELATIVE_BUCKETS;

/// Distances from here on share one bucket in each direction.
const MAX_DISTANCE: f32 = 128.0;

/// The bucket of a key that stands `ahead` tokens behind its query (before it, if negative). In f32, as
/// transformers computes it.
fn bucket(ahead: isize) -> usize {
    let half = RELATIVE_BUCKETS / 2;
    let exact = half / 2;
    let distance = ahead.unsigned_abs();
    let within = if distance < exact {
        distance
    } else {
        let exact = exact as f32;
        let ratio = f64::from(MAX_DISTANCE / exact).ln() as f32;
        let steps = libm::logf(distance as f32 / exact) / ratio * (half as f32 - exact);
        (exact as usize + steps as usize).min(half - 1)
    };
    within + if ahead > 0 { half } else { 0 }
}

/// `[heads, 2 · max_tokens − 1]` from `[buckets, heads]`: what is added to the score of a key that stands
/// `i − (max_tokens − 1)` tokens behind its query.
pub(super) fn by_distance(buckets: &[f32], heads: usize, max_tokens: usize) -> Vec<f32> {
    let middle = max_tokens as isize - 1;
    let row =
        |head: usize| (-middle..=middle).map(move |ahead| buckets[bucket(ahead) * heads + head]);
    (0..heads).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where transformers' buckets begin, on either side.
    #[test]
    fn buckets_are_those_of_transformers() {
        let begins: Vec<usize> =
            (1..200).filter(|&d| bucket(-d) != bucket(1 - d)).map(|d| d as usize).collect();
        assert_eq!(begins, [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]);
        for distance in 1..200 {
            assert_eq!(bucket(distance), bucket(-distance) + 16, "{distance}");
        }
        assert_eq!((bucket(0), bucket(-1000), bucket(1000)), (0, 15, 31));
    }
}
