//! Prints, as JSON, how near the products come to what the device at hand can do, and what whole steps of a
//! decoder take there: `roofline [N K TOKENS]`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use futures::executor::block_on;
use nesa_gpu::bench::steps::{Load, steps};
use nesa_gpu::bench::{Rate, Shape, figures};
use nesa_gpu::{Gpu, Purpose};
use nesa_model::decoder::DecoderModel;
use nesa_model::decoder::toy::{self, ToyDecoder};

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

/// A decoder with made-up weights: some layers of a model of 1.1 thousand million parameters, and what
/// software finishes in a minute.
fn decoder(software: bool) -> ToyDecoder {
    let usual = ToyDecoder {
        d_model: 2048,
        d_ff: 5632,
        heads: 32,
        kv_heads: 4,
        head_width: 64,
        layers: 8,
        seed: 3,
        ..ToyDecoder::default()
    };
    let small = ToyDecoder { d_model: 256, d_ff: 768, heads: 4, kv_heads: 2, layers: 4, ..usual };
    if software { small } else { usual }
}

/// One sequence that is written, eight at once, and a prompt.
const LOADS: [Load; 3] = [
    Load { sequences: 1, tokens: 1 },
    Load { sequences: 8, tokens: 1 },
    Load { sequences: 1, tokens: 60 },
];

async fn measure(shape: Option<Shape>) -> Result<String, Box<dyn Error>> {
    let gpu = Arc::new(Gpu::open(Purpose::Check).await?);
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
    let model = DecoderModel::open(&toy::artifact(&decoder(info.software))?)?;
    let steps = steps(gpu, &model, &LOADS).await?.into_iter().map(|step| {
        let Load { sequences, tokens } = step.load;
        let (ms, rate) = (step.seconds * 1e3, step.weights as f64 / step.seconds / 1e9);
        let [ms, rate, share] = [ms, rate, rate * 1e9 / f.exact_row.peer].map(number);
        let (submits, dispatches, bytes) = (step.submits, step.dispatches, step.bytes);
        format!(
            r#"{{"sequences":{sequences},"tokens":{tokens},"ms":{ms},"weight_gigabytes_per_second":{rate},"share_of_copy":{share},"submits":{submits},"dispatches":{dispatches},"bytes_read_back":{bytes}}}"#
        )
    });
    let steps = steps.collect::<Vec<_>>().join(",");
    let c = *model.config();
    let layers = format!(r#""layers":{},"d_model":{},"d_ff":{}"#, c.layers, c.d_model, c.d_ff);
    let (name, backend) = (info.name.replace(['"', '\\'], " "), info.backend);
    let Shape { n, k, tokens } = shape;
    Ok(format!(
        r#"{{"adapter":"{name}","backend":"{backend}","software":{},"n":{n},"k":{k},"tokens":{tokens},{},"decoder":{{{layers}}},"steps":[{steps}]}}"#,
        info.software,
        rates.join(",")
    ))
}

fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "null".to_owned() }
}
