//! Prints, as JSON, how near the products come to what the device at hand can do: `roofline [N K TOKENS]`.

use std::process::ExitCode;

use futures::executor::block_on;
use nesa_gpu::bench::{Rate, Shape, figures};
use nesa_gpu::{Gpu, GpuError, Purpose};

/// The gate and up of a model of 1.1 thousand million parameters; and what software finishes in a minute.
const USUAL: Shape = Shape { n: 11_264, k: 2048, tokens: 256 };
const SOFTWARE: Shape = Shape { n: 1024, k: 1024, tokens: 32 };

fn main() -> ExitCode {
    let numbers: Vec<usize> =
        std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let shape = match numbers[..] {
        [n, k, tokens] => Some(Shape { n, k, tokens }),
        _ => None,
    };
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

async fn measure(shape: Option<Shape>) -> Result<String, GpuError> {
    let gpu = Gpu::open(Purpose::Check).await?;
    let usual = if gpu.info().software { SOFTWARE } else { USUAL };
    let shape = shape.unwrap_or(usual);
    let info = gpu.info().clone();
    let f = figures(&gpu, shape).await?;
    let rate = |name: &str, unit: &str, peer: &str, Rate { product, peer: bound }: Rate| {
        let [product, bound, share] = [product / 1e9, bound / 1e9, product / bound].map(number);
        format!(r#""{name}":{{"{unit}":{product},"{peer}":{bound},"share":{share}}}"#)
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

fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "null".to_owned() }
}
