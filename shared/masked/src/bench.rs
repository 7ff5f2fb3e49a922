//! What the lane costs, measured apart from any link: library functions for benchmarks, natively
//! and in the browser. The clock is passed in.

use nesa_chain::Side;
use nesa_crypto::{prg::Seed, sign::SecretKey};
use rand_core::CryptoRng;

use crate::{
    Lane, freivalds,
    message::{Request, SeedBytes, Slot, Statement},
    pack,
    preparation::{Preparation, PrepareError},
    server::Weights,
    share, signing,
    spec::{self, BytesPerToken},
};
use nesa_kernels::Weight;
use nesa_primitives::Hash;

/// Milliseconds for one padded token through every linear stage, by kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Bytes on the links.
    pub bytes: BytesPerToken,
    /// The product itself, plainly: W·x in `i32`.
    pub plain_product_ms: f64,
    /// One server's product of a share mod 2^32.
    pub share_product_ms: f64,
    /// Client: x − PRG(seed).
    pub mask_ms: f64,
    /// Client: packing A's shares.
    pub pack_ms: f64,
    /// Client: unpacking both products and adding them.
    pub unpack_ms: f64,
    /// Client: range check and ⟨r, y⟩ = ⟨s, x⟩.
    pub freivalds_ms: f64,
    /// Client: digests of requests and products, as signatures cover them.
    pub digest_ms: f64,
    /// Client: the servers' signatures, two for each message of so many rows.
    pub signature_ms: f64,
    /// Once per device: s = rᵀW over every stage (the whole model, not per token).
    pub preparation_ms: f64,
}

impl Costs {
    /// The client's own arithmetic per token, everything but the model's nonlinear parts.
    pub fn client_ms(&self) -> f64 {
        self.mask_ms
            + self.pack_ms
            + self.unpack_ms
            + self.freivalds_ms
            + self.digest_ms
            + self.signature_ms
    }

    /// The least time per token over a link of `bytes_per_ms`, with both servers in parallel: the
    /// floor that a masked query is compared with.
    pub fn floor_ms(&self, bytes_per_ms: f64) -> f64 {
        self.bytes.total() as f64 / bytes_per_ms + self.share_product_ms
    }
}

/// Measures every kind of work on `rows` padded tokens per stage.
///
/// `clock` gives milliseconds from any origin; `rng` makes inputs and secrets.
///
/// # Errors
/// [`PrepareError`] if the weights do not fit the lane.
pub fn costs<'a>(
    lane: &Lane,
    weights: &'a impl Weights,
    rows: u32,
    rng: &mut impl CryptoRng,
    clock: impl Fn() -> f64,
) -> Result<Costs, PrepareError> {
    let start = clock();
    let of = |stage| -> Weight<'a> { weights.weights(stage) };
    let preparation = Preparation::from_weights(Hash::ZERO, lane, of, rng)?;
    let mut costs = Costs {
        bytes: lane.bytes_per_token(),
        plain_product_ms: 0.0,
        share_product_ms: 0.0,
        mask_ms: 0.0,
        pack_ms: 0.0,
        unpack_ms: 0.0,
        freivalds_ms: 0.0,
        digest_ms: 0.0,
        signature_ms: 0.0,
        preparation_ms: clock() - start,
    };
    let rows = rows.clamp(1, spec::ROWS_PER_PART);
    let node = SecretKey::generate(rng);
    let statement = |slot| Statement {
        query: Hash::ZERO,
        side: Side::A,
        attempt: 0,
        slot,
        request: Hash::ZERO,
        product: Hash::ZERO,
    };
    for (index, stage) in lane.stages().iter().enumerate() {
        let (k, n) = (stage.k as usize, stage.n as usize);
        let (w, count) = (weights.weights(stage.id), rows as usize);
        let limit = stage.input_limit();
        let x: Vec<i32> = (0..count * k)
            .map(|_| (rng.next_u32() % (2 * limit as u32 + 1)) as i32 - limit)
            .collect();
        let seed = Seed::generate(rng);
        let bits = stage.share_bits();
        let timed = |total: &mut f64, work: &mut dyn FnMut()| {
            let start = clock();
            work();
            *total += (clock() - start) / f64::from(rows);
        };
        let mut y = vec![0; count * n];
        timed(&mut costs.plain_product_ms, &mut || {
            w.matmul_i8(&x, n, k, count, &mut y);
        });
        let mut words = share::Share::default();
        timed(&mut costs.mask_ms, &mut || words = share::conceal(&x, &seed, bits));
        let mut to_a = Vec::new();
        timed(&mut costs.pack_ms, &mut || to_a = pack::pack(&words, bits));
        let mut from_a = vec![0; count * n];
        timed(&mut costs.share_product_ms, &mut || {
            w.matmul_mask_u32(&words, n, k, count, &mut from_a);
        });
        let of_b = share::expand(&seed, count * k, bits);
        let mut from_b = vec![0; count * n];
        w.matmul_mask_u32(&of_b, n, k, count, &mut from_b);
        let (a, b) = (pack::pack(&from_a, bits), pack::pack(&from_b, bits));
        let mut sum = Vec::new();
        timed(&mut costs.unpack_ms, &mut || {
            sum = pack::unpack_sum(&a, &b, count * n, bits).unwrap_or_default();
        });
        let slot = Slot { pass: 0, tokens: rows, stage: stage.id, part: 0 };
        timed(&mut costs.digest_ms, &mut || {
            let share = Request::Share { slot, share: to_a.clone().into() };
            let seed = Request::Seed { slot, seed: SeedBytes(*seed.expose()) };
            let digests = (share.digest(&Hash::ZERO), seed.digest(&Hash::ZERO));
            let product = Statement::product_digest;
            std::hint::black_box((digests, product(&Hash::ZERO, &a), product(&Hash::ZERO, &b)));
        });
        let statement = statement(slot);
        let signature = signing::sign_statement(&statement, &Hash::ZERO, &node);
        timed(&mut costs.signature_ms, &mut || {
            for _ in 0..2 {
                let signed = signing::statement_is_signed(
                    std::hint::black_box(&statement),
                    &Hash::ZERO,
                    &node.public(),
                    &signature,
                );
                std::hint::black_box(signed);
            }
        });
        if let Some(secrets) = preparation.stage(index) {
            timed(&mut costs.freivalds_ms, &mut || {
                std::hint::black_box(freivalds::accepts(secrets, &x, &sum));
            });
        }
        debug_assert_eq!(sum, y);
    }
    Ok(costs)
}
