//! Prints what the masked lane costs per token for a compiled model, as JSON: (without a file, for made-up
//! weights of MiniLM's shape; with 32 rows in a message unless another number is given)
//! `cargo run --profile local -p nesa-masked --example costs -- models/all-minilm-l6-v2.nesa 32`

use std::time::Instant;

use nesa_masked::{Lane, bench};
use nesa_model::{
    Artifact, ExactModel, ModelLimits,
    toy::{self, ToyConfig},
};
use rand::{SeedableRng, rngs::StdRng};

const MINILM_SHAPE: ToyConfig = ToyConfig {
    d_model: 384,
    d_ff: 1536,
    heads: 12,
    layers: 6,
    max_tokens: 256,
    input_bits: 12,
    seed: 1,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let artifact = match std::env::args().nth(1) {
        Some(file) => Artifact::open(std::fs::read(file)?, &ModelLimits::default())?,
        None => toy::artifact(&MINILM_SHAPE)?,
    };
    let rows = std::env::args().nth(2).map_or(Ok(32), |rows| rows.parse::<u32>())?;
    let model = ExactModel::open(&artifact)?;
    let lane = Lane::of_model(model.served_stages())?;
    let origin = Instant::now();
    let clock = || origin.elapsed().as_secs_f64() * 1e3;
    let mut best: Option<bench::Costs> = None;
    for _ in 0..5 {
        let costs = bench::costs(&lane, &model, rows, &mut StdRng::seed_from_u64(1), clock)?;
        if best.is_none_or(|b| costs.client_ms() < b.client_ms()) {
            best = Some(costs);
        }
    }
    let c = best.ok_or("nothing was measured")?;
    println!(
        "{{\"kernel\":\"{}\",\"bytes_to_a\":{},\"bytes_from_a\":{},\"bytes_from_b\":{},\
         \"plain_product_ms\":{:.4},\"share_product_ms\":{:.4},\"mask_ms\":{:.4},\"pack_ms\":{:.4},\
         \"unpack_ms\":{:.4},\"freivalds_ms\":{:.4},\"digest_ms\":{:.4},\"signature_ms\":{:.4},\"client_ms\":{:.4},\
         \"preparation_ms\":{:.1},\"floor_ms_at_100_mbit\":{:.3}}}",
        nesa_kernels::path_name(),
        c.bytes.to_a,
        c.bytes.from_a,
        c.bytes.from_b,
        c.plain_product_ms,
        c.share_product_ms,
        c.mask_ms,
        c.pack_ms,
        c.unpack_ms,
        c.freivalds_ms,
        c.digest_ms,
        c.signature_ms,
        c.client_ms(),
        c.preparation_ms,
        c.floor_ms(12_500.0),
    );
    Ok(())
}
