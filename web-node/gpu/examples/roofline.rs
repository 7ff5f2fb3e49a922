//! Prints, as JSON, how near the products come to what the device at hand can do: `roofline [N K TOKENS]`.

use std::process::ExitCode;

use futures::executor::block_on;
use nesa_gpu::bench::{Rate, Shape, figures};
use nesa_gpu::{Gpu, GpuError, Purpose};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse().ok());
    let mut next = |usual| numbers.next().unwrap_or(usual);
    let shape = Shape { n: next(2048), k: next(2048), tokens: next(256) };
    match block_on(measure(shape)) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("not measured: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(shape: Shape) -> Result<String, GpuError> {
    let gpu = Gpu::open(Purpose::Check).await?;
    let info = gpu.info().clone();
    let f = figures(&gpu, shape).await?;
    let rate = |name: &str, unit: &str, peer: &str, Rate { product, peer: bound }: Rate| {
        let share = product / bound;
        format!(
            r#""{name}":{{"{unit}":{:.3},"{peer}":{:.3},"share":{share:.3}}}"#,
            product / 1e9,
            bound / 1e9
        )
    };
    let rates = [
        rate("decode, exact row", "gigabytes_per_second", "copy_kernel", f.exact_row),
        rate("decode, masked row", "gigabytes_per_second", "copy_kernel", f.mask_row),
        rate("prefill, exact tile", "giga_multiply_adds_per_second", "dot4_kernel", f.exact_tile),
        rate("prefill, masked tile", "giga_multiply_adds_per_second", "word_kernel", f.mask_tile),
    ];
    let (name, backend) = (info.name.replace(['"', '\\'], " "), info.backend);
    let Shape { n, k, tokens } = shape;
    Ok(format!(
        r#"{{"adapter":"{name}","backend":"{backend}","software":{},"n":{n},"k":{k},"tokens":{tokens},{}}}"#,
        info.software,
        rates.join(",")
    ))
}
