//! The arithmetic of one answer, apart from the session's bookkeeping.

use bytes::Bytes;
use nesa_kernels::Weight;
use nesa_primitives::Hash;
use zeroize::Zeroizing;

use crate::{
    message::{Request, Slot},
    pack,
    share::{self, Share},
    spec::Stage,
};

/// Where a node finds the weights of a stage, `[n, k]`.
pub trait Weights {
    /// The weights; those of another shape are answered as unavailable.
    fn weights(&self, stage: u16) -> Weight<'_>;
}

impl Weights for nesa_model::Model {
    fn weights(&self, stage: u16) -> Weight<'_> {
        nesa_model::Model::weights(self, nesa_model::StageId(stage))
    }
}

impl Weights for nesa_model::ExactModel {
    fn weights(&self, stage: u16) -> Weight<'_> {
        nesa_model::ExactModel::weights(self, nesa_model::StageId(stage))
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The low k bits, signed.
    Product,
    /// The whole 64-bit product, to place blame.
    Full,
}

/// One product to compute: a live share, erased when dropped. Prints nothing.
pub struct Job {
    pub(crate) slot: Slot,
    pub(crate) stage: Stage,
    pub(crate) kind: Kind,
    pub(crate) request: Hash,
    share: Share,
}

/// A computed product, on its way to be packed and signed. Prints nothing.
pub struct Done {
    pub(crate) slot: Slot,
    pub(crate) kind: Kind,
    pub(crate) request: Hash,
    pub(crate) bits: u32,
    pub(crate) values: Values,
}

/// Erased when dropped, like the share they come from.
pub(crate) enum Values {
    Product(Zeroizing<Vec<u32>>),
    Full(Zeroizing<Vec<i64>>),
}

impl Job {
    /// Reads the share out of a request that [`fits`](Request::fits) its stage; `None` if its
    /// padding bits are not zero.
    pub(crate) fn new(request: &Request, stage: Stage, kind: Kind, digest: Hash) -> Option<Self> {
        let slot = request.slot();
        let len = stage.k as usize * slot.rows() as usize;
        let share = match request {
            Request::Share { share, .. } => {
                Share::new(pack::unpack(share, len, stage.share_bits()).ok()?)
            }
            Request::Seed { seed, .. } => share::expand(&seed.seed(), len, stage.share_bits()),
        };
        Some(Self { slot, stage, kind, request: digest, share })
    }

    /// The stage whose weights are needed.
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Rows of the share.
    pub const fn rows(&self) -> u32 {
        self.slot.rows()
    }

    /// The share, `[rows, k]`, for drivers with a kernel of their own.
    pub fn share(&self) -> &[u32] {
        &self.share
    }

    /// Whether the low bits are wanted, which a product mod 2^32 has, and not the whole product.
    pub const fn is_narrow(&self) -> bool {
        matches!(self.kind, Kind::Product)
    }

    /// The answer with a product that the driver computed, `[rows, n]` words of Z_2^32. `None` if it has
    /// another length, or the whole product is wanted.
    pub fn finish(self, product: Vec<u32>) -> Option<Done> {
        let product = Zeroizing::new(product);
        let fits = product.len() == self.rows() as usize * self.stage.n as usize;
        (fits && self.is_narrow()).then(|| self.done(Values::Product(product)))
    }

    /// Computes the product with the crate's kernels. `None` if the weights have the wrong length.
    pub fn run(self, weights: &impl Weights) -> Option<Done> {
        let (n, k) = (self.stage.n as usize, self.stage.k as usize);
        let rows = self.rows() as usize;
        let w = weights.weights(self.stage.id);
        if !w.holds(n, k) {
            return None;
        }
        let values = match self.kind {
            Kind::Product => {
                let mut out = Zeroizing::new(vec![0u32; rows * n]);
                w.matmul_mask_u32(&self.share, n, k, rows, &mut out);
                Values::Product(out)
            }
            Kind::Full => {
                let mut out = Zeroizing::new(vec![0i64; rows * n]);
                w.matmul_full_i64(&self.share, n, k, rows, &mut out);
                Values::Full(out)
            }
        };
        Some(self.done(values))
    }

    fn done(&self, values: Values) -> Done {
        Done {
            slot: self.slot,
            kind: self.kind,
            request: self.request,
            bits: self.stage.share_bits(),
            values,
        }
    }
}

impl Done {
    /// Which answer this is.
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Changes one value of the product by exclusive or with `bits`. For the cheating nodes of test
    /// networks, which must show that a lie is caught.
    pub fn corrupt(&mut self, index: usize, bits: u32) {
        match &mut self.values {
            Values::Product(values) => {
                if let Some(v) = values.get_mut(index) {
                    *v ^= bits;
                }
            }
            Values::Full(values) => {
                if let Some(v) = values.get_mut(index) {
                    *v ^= i64::from(bits);
                }
            }
        }
    }

    pub(crate) fn pack(&self) -> Bytes {
        match &self.values {
            Values::Product(values) => pack::pack(values, self.bits).into(),
            Values::Full(values) => {
                values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(kind: Kind) -> Job {
        let slot = Slot { pass: 0, tokens: 2, stage: 7, part: 0 };
        let stage = Stage { id: 7, k: 3, n: 2, input_bits: 12, row_bound_bits: 24 };
        let share = Share::new(vec![1, 2, 3, u32::MAX, 5, 6]);
        Job { slot, stage, kind, request: Hash::ZERO, share }
    }

    struct Fixed([i8; 6]);

    impl Weights for Fixed {
        fn weights(&self, _: u16) -> Weight<'_> {
            Weight::Bytes(&self.0)
        }
    }

    /// An accelerator's words are packed as the processor's are; another length or kind is no answer.
    #[test]
    fn a_product_of_a_driver_is_packed_alike() {
        let own = job(Kind::Product).run(&Fixed([1, -1, 2, 3, 0, -128])).map(|done| done.pack());
        let minus = |v: u32| v.wrapping_neg();
        let words = vec![5, minus(381), 6, minus(771)];
        let given = job(Kind::Product).finish(words.clone()).map(|done| done.pack());
        assert!(own.is_some());
        assert_eq!(given, own);
        assert!(job(Kind::Product).finish(words[1..].to_vec()).is_none());
        assert!(job(Kind::Full).finish(words).is_none());
        assert!(job(Kind::Product).is_narrow() && !job(Kind::Full).is_narrow());
    }
}
