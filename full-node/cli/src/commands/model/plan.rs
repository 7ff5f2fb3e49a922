//! `nesa model plan`: where a decoder is cut into shards, by bytes and by the speed of the machines that take them.

use std::{
    fmt::Display,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use nesa_model::{
    Header, PlainDecoder, ThreadedDecoder,
    artifact::Pieces as _,
    decoder::{
        DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, MAX_SHARDS, Shard, ShardPlan,
    },
};
use serde_json::{Value, json};

use crate::{
    failure::{Code, Failure},
    node::model::ModelFile,
};

/// Tokens that a shard computes to be timed, one after another.
const TOKENS: usize = 16;

/// How to cut, and what to measure
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The compiled decoder.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Shards of about equal bytes, as the network cuts: its nodes are drawn after the cuts are paid for.
    #[arg(long, value_name = "N", required_unless_present = "speeds")]
    shards: Option<usize>,
    /// Speeds of the machines that take the shards, in order and in any common unit, such as the bytes per second
    /// that --measure says on each: the slowest is then as fast as any cut makes it.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', conflicts_with = "shards")]
    speeds: Option<Vec<u64>>,
    /// Time every shard on this machine, one token after another.
    #[arg(long)]
    measure: bool,
    /// Threads that compute what is timed.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, requires = "measure")]
    threads: NonZeroUsize,
}

impl Plan {
    pub(super) fn run(&self) -> Result<Value> {
        let file = ModelFile::open(&self.file)?;
        let header = file.header();
        let shards = self.speeds.as_ref().map_or(self.shards.unwrap_or(1), Vec::len);
        let even = ShardPlan::even(header, shards).map_err(unusable)?;
        let mut object = json!({
            "file": self.file,
            "digest": header.digest(),
            "by_bytes": describe(header, &even, self.speeds.as_deref())?,
        });
        let mut plan = even;
        if let Some(speeds) = &self.speeds {
            plan = ShardPlan::by_speed(header, speeds).map_err(unusable)?;
            object["by_speed"] = describe(header, &plan, Some(speeds))?;
        }
        if self.measure {
            object["measured"] = self.measured(&file, &plan)?;
        }
        Ok(object)
    }

    /// What each shard takes for a token here, and the speed that follows.
    fn measured(&self, file: &ModelFile, plan: &ShardPlan) -> Result<Value> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.get()).build()?;
        let bytes = plan.bytes(file.header())?;
        let (mut shards, mut all) = (Vec::new(), Duration::ZERO);
        for layers in (0..plan.len()).filter_map(|shard| plan.layers(shard)) {
            let shard = DecoderModel::open_shard(&Shard::of_pieces(file, layers)?)?;
            let took = if self.threads == NonZeroUsize::MIN {
                token_time(&shard, &PlainDecoder(&shard))?
            } else {
                pool.install(|| token_time(&shard, &ThreadedDecoder(&shard)))?
            };
            all += took;
            shards.push(json!(took.as_secs_f64() * 1000.0));
        }
        let total = bytes.iter().sum::<u64>() as f64;
        Ok(json!({
            "threads": self.threads,
            "ms_per_token": shards,
            "bytes_per_second": (total / all.as_secs_f64().max(1e-9)).round() as u64,
        }))
    }
}

/// The layers and bytes of each shard; with speeds, how long the slowest takes.
fn describe(header: &Header, plan: &ShardPlan, speeds: Option<&[u64]>) -> Result<Value> {
    let bytes = plan.bytes(header)?;
    let shards: Vec<Value> = (0..plan.len())
        .zip(&bytes)
        .filter_map(|(shard, bytes)| {
            let layers = plan.layers(shard)?;
            Some(json!({ "layers": [layers.start, layers.end], "bytes": bytes }))
        })
        .collect();
    let mut object = json!({ "cuts": plan.cuts(), "shards": shards });
    if let Some(speeds) = speeds {
        let times = bytes.iter().zip(speeds).map(|(bytes, speed)| *bytes as f64 / *speed as f64);
        object["slowest"] = json!(times.fold(0.0, f64::max));
    }
    Ok(object)
}

/// The median time of a token, after a first that is not counted.
fn token_time(shard: &DecoderModel, engine: &impl nesa_model::Linear) -> Result<Duration> {
    let d_model = shard.config().d_model as usize;
    let (mut cache, mut times) = (KvCache::new(), Vec::with_capacity(TOKENS));
    for _ in 0..=TOKENS.min(shard.config().max_tokens.saturating_sub(1) as usize) {
        let input = if shard.takes_tokens() {
            Input::Tokens(vec![0])
        } else {
            // Small and not all alike, as no product may depend on.
            Input::Hidden((0..d_model as i32).map(|i| i % 97 - 48).collect())
        };
        let began = Instant::now();
        let run = DecoderRun::start(shard, vec![Feed { cache, input, logits: Logits::Last }])?;
        let fed = run.run(engine)?.pop();
        times.push(began.elapsed());
        cache = fed.map(|fed| fed.cache).unwrap_or_default();
    }
    let counted = times.get_mut(1..).filter(|counted| !counted.is_empty());
    let Some(counted) = counted else { return Ok(times.first().copied().unwrap_or_default()) };
    counted.sort_unstable();
    Ok(counted[counted.len() / 2])
}

fn unusable(error: impl Display) -> anyhow::Error {
    let next = format!("give 1 to {MAX_SHARDS} shards, no more than the model has layers");
    Failure::new(Code::Usage, error.to_string(), next).into()
}
