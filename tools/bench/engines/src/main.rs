//! Times the exact engine and tract on the same tokens, by turns, one thread.
//!
//!     nesa-bench-engines MODEL.nesa FOLDER_WITH_ONNX   → one JSON object
//!
//! `*_ms` are medians of wall-clock times, `*_cpu_ms` the least time of this thread on a processor
//! (Linux), which other programs disturb less.

use cpu_time::ThreadTime;
use nesa_bench_engines::{embed_ids, ids, model};
use std::time::Instant;
use tract_onnx::prelude::*;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Rounds of one run each; both engines see the same disturbances.
const ROUNDS: usize = 40;

#[derive(Default)]
struct Times {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Times {
    fn run(&mut self, mut f: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
        let (cpu, wall) = (ThreadTime::try_now(), Instant::now());
        f()?;
        self.wall.push(wall.elapsed().as_secs_f64() * 1e3);
        if let Ok(before) = cpu {
            self.cpu.push(before.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn into(mut self, name: &str, out: &mut serde_json::Map<String, serde_json::Value>) {
        self.wall.sort_by(f64::total_cmp);
        out.insert(format!("{name}_ms"), self.wall[self.wall.len() / 2].into());
        let least = self.cpu.into_iter().min_by(f64::total_cmp);
        out.insert(format!("{name}_cpu_ms"), least.into());
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(onnx)) = (arguments.next(), arguments.next()) else {
        return Err("usage: nesa-bench-engines MODEL.nesa FOLDER_WITH_ONNX".into());
    };
    let exact = model(std::fs::read(file)?)?;
    let mut out = serde_json::Map::new();
    out.insert("threads".into(), 1.into());
    out.insert("kernel".into(), nesa_kernels::path_name().into());
    for tokens in [32usize, 256] {
        let shape = [1, tokens];
        let tract = tract_onnx::onnx()
            .model_for_path(format!("{onnx}/minilm-f32.onnx"))?
            .with_input_fact(0, i64::fact(shape).into())?
            .with_input_fact(1, i64::fact(shape).into())?
            .into_optimized()?
            .into_runnable()?;
        let values: Vec<i64> = ids(tokens).into_iter().map(i64::from).collect();
        let input = Tensor::from_shape(&shape, &values)?;
        let mask = Tensor::from_shape(&shape, &vec![1i64; tokens])?;
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        let mut cosine = 0.0;
        for round in 0..=ROUNDS {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let first = &mut Times::default();
            // The first round warms up.
            let (ours, theirs) = if round == 0 { (first, &mut Times::default()) } else { (&mut ours, &mut theirs) };
            ours.run(|| Ok(a = embed_ids(&exact, tokens)?))?;
            theirs.run(|| {
                let result = tract.run(tvec!(input.clone().into(), mask.clone().into()))?;
                b = result[0].to_plain_array_view::<f32>()?.iter().copied().collect();
                Ok(())
            })?;
            cosine = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) / f64::from(1 << 24) * f64::from(b)).sum();
        }
        ours.into(&format!("exact_{tokens}"), &mut out);
        theirs.into(&format!("tract_f32_{tokens}"), &mut out);
        // The engines must have computed the same thing for their times to compare.
        out.insert(format!("cosine_{tokens}"), cosine.into());
    }
    println!("{}", serde_json::Value::Object(out));
    Ok(())
}
