//! Cutting a decoder into shards: contiguous ranges of layers, by bytes and by the speed of the nodes.
//!
//! Decoding reads every weight once per token, so the time a shard takes is its bytes over its node's
//! speed, and a chain of shards is as fast as its slowest link when sequences follow each other. The
//! plan makes that link as fast as any cut can.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, Write};
use nesa_primitives::Hash;
use std::ops::Range;
use thiserror::Error as ThisError;

use super::shard::belongs;
use crate::artifact::Header;
use crate::manifest::{MAX_DECODER_LAYERS, Manifest};

/// Most shards a model is cut into.
pub const MAX_SHARDS: usize = 16;

/// Why a model cannot be cut so.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum PlanError {
    /// A model of another family.
    #[error("the model is a {got}, expected a decoder")]
    Family {
        /// Its family.
        got: &'static str,
    },
    /// Too many shards, or none.
    #[error("{got} shards; a model of {layers} layers is cut into 1 to {max}")]
    Shards {
        /// Shards asked for.
        got: usize,
        /// Layers there are.
        layers: usize,
        /// Most shards.
        max: usize,
    },
    /// A node without speed computes nothing.
    #[error("the node of shard {shard} has speed 0")]
    Speed {
        /// Which shard.
        shard: usize,
    },
}

/// Where a model is cut: shard `i` has the layers from cut `i` to cut `i + 1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardPlan {
    /// From 0 to the number of layers, rising.
    cuts: Vec<u16>,
}

impl ShardPlan {
    /// The plan of given cuts: 0, then rising, the last the number of layers.
    ///
    /// `None` for anything else, or for more than [`MAX_SHARDS`].
    pub fn from_cuts(cuts: Vec<u16>) -> Option<Self> {
        let rises = cuts.windows(2).all(|w| w[0] < w[1]);
        let starts = cuts.first() == Some(&0);
        let few = (2..=MAX_SHARDS + 1).contains(&cuts.len());
        let ends = cuts.last().is_some_and(|last| *last <= MAX_DECODER_LAYERS);
        (rises && starts && few && ends).then_some(Self { cuts })
    }

    /// Cuts the model of `header` into as many shards as there are `speeds`, one per shard in order,
    /// in any common unit (bytes per second).
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn by_speed(header: &Header, speeds: &[u64]) -> Result<Self, PlanError> {
        let items = layer_bytes(header)?;
        cut(&items, speeds)
    }

    /// Cuts the model into `shards` of about equal bytes.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn even(header: &Header, shards: usize) -> Result<Self, PlanError> {
        let items = layer_bytes(header)?;
        let max = MAX_SHARDS.min(items.len());
        if shards > max {
            return Err(PlanError::Shards { got: shards, layers: items.len(), max });
        }
        cut(&items, &vec![1; shards])
    }

    /// Shards.
    pub fn len(&self) -> usize {
        self.cuts.len().saturating_sub(1)
    }

    /// Never: a plan has a shard.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layers of a shard.
    pub fn layers(&self, shard: usize) -> Option<Range<usize>> {
        let cuts = self.cuts.get(shard..=shard + 1)?;
        Some(usize::from(cuts[0])..usize::from(cuts[1]))
    }

    /// The cuts, from 0 to the number of layers.
    pub fn cuts(&self) -> &[u16] {
        &self.cuts
    }

    /// Layers covered.
    pub fn end(&self) -> usize {
        self.cuts.last().copied().unwrap_or_default().into()
    }

    /// Bytes of each shard's tensors.
    ///
    /// # Errors
    /// [`PlanError`] when the plan is not of this model.
    pub fn bytes(&self, header: &Header) -> Result<Vec<u64>, PlanError> {
        let items = layer_bytes(header)?;
        let (got, layers) = (self.len(), items.len());
        if self.end() != layers {
            return Err(PlanError::Shards { got, layers, max: MAX_SHARDS });
        }
        let ranges = (0..self.len()).filter_map(|i| self.layers(i));
        Ok(ranges.map(|r| items[r].iter().sum()).collect())
    }

    /// A name for the plan in hashes.
    pub fn digest(&self, model: &Hash) -> Hash {
        Hash::of("shard plan", model, self)
    }
}

/// Bytes that each layer brings to its shard: its own tensors; for the first the embedding too, for the
/// last the head.
fn layer_bytes(header: &Header) -> Result<Vec<u64>, PlanError> {
    let Manifest::Decoder(manifest) = header.manifest() else {
        return Err(PlanError::Family { got: header.manifest().family() });
    };
    let layers = usize::from(manifest.config.layers);
    // What every shard holds, whatever its layers, changes no cut.
    let common = |kind| {
        let config = &manifest.config;
        layers > 2 && (1..layers - 1).all(|l| belongs(kind, &(l..l + 1), config))
    };
    let mut items = vec![0u64; layers];
    for (layer, item) in items.iter_mut().enumerate() {
        for tensor in &header.layout().tensors {
            if belongs(tensor.kind, &(layer..layer + 1), &manifest.config) && !common(tensor.kind) {
                *item = item.saturating_add(tensor.range().len() as u64);
            }
        }
    }
    Ok(items)
}

/// `bytes / speed`, compared exactly.
#[derive(Clone, Copy)]
struct Time {
    bytes: u64,
    speed: u64,
}

impl Time {
    fn slower(self, other: Self) -> bool {
        u128::from(self.bytes) * u128::from(other.speed)
            > u128::from(other.bytes) * u128::from(self.speed)
    }
}

/// The contiguous partition whose slowest part is fastest; of several, the one that cuts earliest.
fn cut(items: &[u64], speeds: &[u64]) -> Result<ShardPlan, PlanError> {
    let (layers, shards) = (items.len(), speeds.len());
    let max = MAX_SHARDS.min(layers);
    if shards == 0 || shards > max {
        return Err(PlanError::Shards { got: shards, layers, max });
    }
    if let Some(shard) = speeds.iter().position(|s| *s == 0) {
        return Err(PlanError::Speed { shard });
    }
    let mut sums = vec![0u64];
    for item in items {
        sums.push(sums.last().copied().unwrap_or(0).saturating_add(*item));
    }
    // best[s][end]: the slowest of the first s + 1 shards when they cover the layers before `end`, and
    // where the last of them begins.
    let mut best: Vec<Vec<Option<(Time, usize)>>> = Vec::with_capacity(shards);
    for (s, &speed) in speeds.iter().enumerate() {
        let mut row = vec![None; layers + 1];
        for (end, slot) in row.iter_mut().enumerate().skip(s + 1) {
            for start in s..end {
                let own = Time { bytes: sums[end] - sums[start], speed };
                let time = match s.checked_sub(1) {
                    None if start == 0 => own,
                    None => continue,
                    Some(before) => match best[before][start] {
                        Some((time, _)) if time.slower(own) => time,
                        Some(_) => own,
                        None => continue,
                    },
                };
                if slot.is_none_or(|(known, _)| Time::slower(known, time)) {
                    *slot = Some((time, start));
                }
            }
        }
        best.push(row);
    }
    let mut cuts = vec![layers as u16];
    let mut end = layers;
    for row in best.iter().rev() {
        let Some((_, start)) = row[end] else {
            return Err(PlanError::Shards { got: shards, layers, max });
        };
        cuts.push(start as u16);
        end = start;
    }
    cuts.reverse();
    Ok(ShardPlan { cuts })
}

impl Write for ShardPlan {
    fn write(&self, buf: &mut impl BufMut) {
        self.cuts.write(buf);
    }
}

impl EncodeSize for ShardPlan {
    fn encode_size(&self) -> usize {
        self.cuts.encode_size()
    }
}

impl Read for ShardPlan {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let cuts = Vec::read_cfg(buf, &(RangeCfg::new(2..=MAX_SHARDS + 1), ()))?;
        Self::from_cuts(cuts).ok_or(Error::Invalid("shard plan", "cuts that do not rise from 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::toy::{self, ToyDecoder};
    use commonware_codec::Encode as _;
    use nesa_primitives::decode_exact;
    use proptest::prelude::*;

    fn case() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
        proptest::collection::vec(1u64..1000, 1..12).prop_flat_map(|items| {
            let most = items.len().min(4);
            (Just(items), proptest::collection::vec(1u64..50, 1..=most))
        })
    }

    /// Every way to cut `layers` into `shards`.
    fn all(layers: usize, shards: usize) -> Vec<Vec<usize>> {
        if shards == 1 {
            return vec![vec![layers]];
        }
        let rest = |end: usize| all(end, shards - 1).into_iter();
        (shards - 1..layers)
            .flat_map(|end| {
                rest(end).map(move |mut cut| {
                    cut.push(layers);
                    cut
                })
            })
            .collect()
    }

    fn slowest(items: &[u64], cuts: &[usize], speeds: &[u64]) -> Time {
        let mut start = 0;
        let mut worst = Time { bytes: 0, speed: 1 };
        for (&end, &speed) in cuts.iter().zip(speeds) {
            let own = Time { bytes: items[start..end].iter().sum(), speed };
            if own.slower(worst) {
                worst = own;
            }
            start = end;
        }
        worst
    }

    proptest! {
        #[test]
        fn every_layer_is_in_one_shard_and_no_cut_is_faster((items, speeds) in case()) {
            let plan = cut(&items, &speeds).unwrap();
            prop_assert_eq!(&plan, &cut(&items, &speeds).unwrap(), "deterministic");
            prop_assert_eq!(plan.len(), speeds.len());
            let covered: Vec<usize> = (0..plan.len()).flat_map(|i| plan.layers(i).unwrap()).collect();
            prop_assert_eq!(covered, (0..items.len()).collect::<Vec<_>>());
            let ends: Vec<usize> = plan.cuts()[1..].iter().map(|c| usize::from(*c)).collect();
            let mine = slowest(&items, &ends, &speeds);
            for other in all(items.len(), speeds.len()) {
                prop_assert!(!mine.slower(slowest(&items, &other, &speeds)));
            }
        }

        #[test]
        fn equal_nodes_are_balanced_within_a_layer(items in proptest::collection::vec(1u64..1000, 1..60), shards in 1usize..9) {
            let shards = shards.min(items.len());
            let plan = cut(&items, &vec![7; shards]).unwrap();
            let (total, largest) = (items.iter().sum::<u64>(), *items.iter().max().unwrap());
            for shard in 0..shards {
                let bytes: u64 = items[plan.layers(shard).unwrap()].iter().sum();
                prop_assert!(bytes <= total / shards as u64 + largest);
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(plan) = decode_exact::<ShardPlan>(&bytes, &()) {
                prop_assert_eq!(&plan.encode()[..], &bytes[..]);
                prop_assert!(ShardPlan::from_cuts(plan.cuts().to_vec()).is_some());
            }
        }

        #[test]
        fn plans_survive((items, speeds) in case()) {
            let plan = cut(&items, &speeds).unwrap();
            prop_assert_eq!(decode_exact::<ShardPlan>(&plan.encode(), &()).unwrap(), plan);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Of a model, with what the embedding and the head add to the shards at the ends.
        #[test]
        fn no_cut_of_a_model_is_faster_than_the_one_by_speed(
            layers in 1u16..7,
            d_ff in 8u32..200,
            speeds in proptest::collection::vec(1u64..50, 1..5),
        ) {
            let toy = ToyDecoder { layers, d_ff, ..ToyDecoder::default() };
            let artifact = toy::artifact(&toy).unwrap();
            let (header, shards) = (artifact.header(), speeds.len());
            let planned = ShardPlan::by_speed(header, &speeds);
            if shards > usize::from(layers) {
                let refused = matches!(planned, Err(PlanError::Shards { got, .. }) if got == shards);
                prop_assert!(refused, "{:?}", planned);
                return Ok(());
            }
            let plan = planned.unwrap();
            let covered: Vec<usize> = (0..shards).flat_map(|i| plan.layers(i).unwrap()).collect();
            prop_assert_eq!(covered, (0..usize::from(layers)).collect::<Vec<_>>());
            let slowest = |plan: &ShardPlan| {
                let bytes = plan.bytes(header).unwrap();
                let times = bytes.iter().zip(&speeds).map(|(&bytes, &speed)| Time { bytes, speed });
                times.reduce(|worst, time| if time.slower(worst) { time } else { worst }).unwrap()
            };
            let mine = slowest(&plan);
            for ends in all(layers.into(), shards) {
                let cuts = std::iter::once(0).chain(ends.into_iter().map(|end| end as u16));
                let other = ShardPlan::from_cuts(cuts.collect()).unwrap();
                prop_assert!(!mine.slower(slowest(&other)), "{:?} {:?}", plan, other);
            }
            // Equal speeds are a plan by bytes, whatever their unit.
            let even = ShardPlan::even(header, shards).unwrap();
            prop_assert_eq!(ShardPlan::by_speed(header, &vec![speeds[0]; shards]).unwrap(), even);
        }
    }

    #[test]
    fn impossible_cuts_are_refused() {
        assert!(matches!(cut(&[1, 1], &[1, 1, 1]), Err(PlanError::Shards { got: 3, .. })));
        assert!(matches!(cut(&[1, 1], &[]), Err(PlanError::Shards { got: 0, .. })));
        assert_eq!(cut(&[1, 1], &[1, 0]), Err(PlanError::Speed { shard: 1 }));
        for cuts in [vec![], vec![0], vec![1, 2], vec![0, 2, 2], vec![0, 3, 2], vec![0, 300]] {
            assert_eq!(ShardPlan::from_cuts(cuts), None);
        }
        // A node three times as fast takes three times the bytes.
        assert_eq!(cut(&[10; 8], &[3, 1]).unwrap().cuts(), [0, 6, 8]);
    }
}
